"""A small library with two bugs in it, for the demo's test suite to find."""

import hashlib

NUMERALS = [(10, "X"), (9, "IX"), (5, "V"), (1, "I")]
UNITS = {"s": 1, "m": 60, "h": 3_600}


def derive(password: str, salt: str, rounds: int = 100_000) -> str:
    """Return a key derived from a password; slow on purpose."""
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), rounds).hex()


def roman(number: int) -> str:
    """Return a number as a Roman numeral; 4 is wrong."""
    text = ""
    for value, numeral in NUMERALS:
        while number >= value:
            text, number = text + numeral, number - value
    return text


def seconds(duration: str) -> int:
    """Return `1h30m` or `45s` in seconds; days are forgotten."""
    total, digits = 0, ""
    for letter in duration:
        if letter.isdigit():
            digits += letter
        else:
            total += int(digits) * UNITS.get(letter, 0)
            digits = ""
    return total
