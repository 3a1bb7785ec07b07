"""The demo's test suite: 49 tests, of which two fail because the library is wrong."""

import unittest

from vault import derive, roman, seconds

PASSWORDS = [f"correct horse {n}" for n in range(36)]
NUMERALS = {1: "I", 3: "III", 4: "IV", 5: "V", 6: "VI", 8: "VIII", 9: "IX", 10: "X"}
DURATIONS = {"45s": 45, "2m": 120, "1h": 3_600, "1h30m": 5_400, "1d": 86_400}


class TestDerive(unittest.TestCase):
    """Keys are deterministic, and differ by salt."""


class TestRoman(unittest.TestCase):
    """Numerals up to ten."""


class TestSeconds(unittest.TestCase):
    """Durations in words."""


def _check_derive(test: unittest.TestCase, password: str) -> None:
    key = derive(password, "salt")
    test.assertEqual(key, derive(password, "salt"))
    test.assertNotEqual(key, derive(password, "pepper"))


for _n, _password in enumerate(PASSWORDS):
    setattr(TestDerive, f"test_password_{_n:02}", lambda self, p=_password: _check_derive(self, p))
for _number, _numeral in NUMERALS.items():
    setattr(
        TestRoman,
        f"test_{_number:02}_is_{_numeral}",
        lambda self, n=_number, expected=_numeral: self.assertEqual(roman(n), expected),
    )
for _text, _seconds in DURATIONS.items():
    setattr(
        TestSeconds,
        f"test_{_text}_is_{_seconds}",
        lambda self, t=_text, expected=_seconds: self.assertEqual(seconds(t), expected),
    )

if __name__ == "__main__":
    unittest.main(verbosity=2)
