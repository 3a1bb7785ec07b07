"""Signatures of webhooks: what is sent verifies, and nothing else does."""

import base64
import json
import time
from collections.abc import Mapping

import pytest

from jobrunner import InvalidOption, WebhookRejected
from jobrunner.signing import keys_of, new_secret, sign, verify

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
BODY = b'{"type":"job.completed","timestamp":"2026-11-22T03:00:00Z","data":{"id":"job_1"}}'
AT = 1_700_000_000
SIGNATURE = "v1,BRm4za4cumiODftiZCNmsY59+PgO70g9V1x8mUFb1IQ="
HEADERS = {"Webhook-Id": "msg_1", "Webhook-Timestamp": str(AT), "Webhook-Signature": SIGNATURE}


def refusal(headers: Mapping[str, str], body: bytes | str = BODY, *, at: float = AT) -> str:
    """Return why a message is rejected."""
    with pytest.raises(WebhookRejected) as caught:
        verify(body, headers, SECRET, now=lambda: at)
    return str(caught.value)


def test_the_vector_of_the_wire_format_holds() -> None:
    """Bytes that were agreed on before any of this was written are the only real check."""
    assert sign(keys_of(SECRET), "msg_1", AT, BODY) == SIGNATURE
    assert verify(BODY, HEADERS, SECRET, now=lambda: AT) == json.loads(BODY)


def test_a_body_may_come_as_text() -> None:
    """Some frameworks decode it before anybody can ask for the bytes."""
    assert verify(BODY.decode(), HEADERS, SECRET, now=lambda: AT) == json.loads(BODY)


def test_the_package_of_the_standard_verifies_what_we_sign() -> None:
    """Receivers use it, or its likes in other languages, and not ours."""
    standard = pytest.importorskip(
        "standardwebhooks.webhooks", reason="it comes with the extra `test`"
    )
    secret, other, at = new_secret(), new_secret(), int(time.time())
    headers = {
        "webhook-id": "msg_2",
        "webhook-timestamp": str(at),
        "webhook-signature": sign(keys_of([other, secret]), "msg_2", at, BODY),
    }
    assert standard.Webhook(secret).verify(BODY, headers) == json.loads(BODY)
    assert standard.Webhook(other).verify(BODY, headers) == json.loads(BODY)
    with pytest.raises(standard.WebhookVerificationError):
        standard.Webhook(new_secret()).verify(BODY, headers)


def test_what_the_package_of_the_standard_signs_is_verified() -> None:
    """`verify` serves for the webhooks of others too."""
    standard = pytest.importorskip(
        "standardwebhooks.webhooks", reason="it comes with the extra `test`"
    )
    from datetime import UTC, datetime

    secret = new_secret()
    signed = standard.Webhook(secret).sign("m", datetime.fromtimestamp(AT, UTC), BODY.decode())
    headers = {"webhook-id": "m", "webhook-timestamp": str(AT), "webhook-signature": signed}
    assert verify(BODY, headers, secret, now=lambda: AT) == json.loads(BODY)


def test_while_a_secret_rotates_either_side_may_be_ahead() -> None:
    """No message is lost on the way from one secret to the next."""
    old, new = new_secret(), new_secret()
    for sent, known in ([old, new], old), ([old, new], new), (old, [new, old]), (new, [new, old]):
        signature = sign(keys_of(sent), "msg_1", AT, BODY)
        headers = {**HEADERS, "Webhook-Signature": signature}
        assert verify(BODY, headers, known, now=lambda: AT) == json.loads(BODY)


def test_new_secrets_differ_and_have_256_bits() -> None:
    """A secret that can be guessed signs for everybody."""
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert {len(keys_of(secret)[0]) for secret in secrets} == {32}


def test_signatures_of_other_versions_are_passed_over() -> None:
    """A sender may add `v1a` for those who can read it."""
    headers = {**HEADERS, "Webhook-Signature": f"v1a,AAAA v2,BBBB v1 {SIGNATURE}"}
    assert verify(BODY, headers, SECRET, now=lambda: AT) == json.loads(BODY)


@pytest.mark.parametrize(
    "signature",
    ["", "v1", "v1,", SIGNATURE[3:], f"v2{SIGNATURE[2:]}", SIGNATURE[:-1], SIGNATURE + "=", "v1,é",
     SIGNATURE.replace("B", "C", 1), SIGNATURE.upper(), SIGNATURE.replace(",", ", ")],
)  # fmt: skip
def test_a_signature_that_differs_is_rejected(signature: str) -> None:
    """The signature is all that tells the sender from anybody."""
    assert "no signature fits" in refusal({**HEADERS, "Webhook-Signature": signature})


def test_each_part_that_is_signed_counts() -> None:
    """A message with another id could be replayed, with another time kept for later."""
    assert "no signature fits" in refusal(HEADERS, BODY.replace(b"job_1", b"job_2"))
    assert "no signature fits" in refusal({**HEADERS, "Webhook-Id": "msg_2"})
    later = {**HEADERS, "Webhook-Timestamp": str(AT + 1)}
    assert "no signature fits" in refusal(later)


@pytest.mark.parametrize(("at", "fits"), [(-301, False), (-300, True), (300, True), (301, False)])
def test_a_message_of_another_time_is_rejected(at: int, fits: bool) -> None:
    """Whoever has caught one must not send it again next week, or next week's today."""
    if fits:
        assert verify(BODY, HEADERS, SECRET, now=lambda: AT + at) == json.loads(BODY)
    else:
        assert "over 300 s from now" in refusal(HEADERS, at=AT + at)


def test_the_tolerance_can_be_chosen() -> None:
    """Who keeps messages in a queue reads them late."""
    said = verify(BODY, HEADERS, SECRET, tolerance=4_000.0, now=lambda: AT + 3_600)
    assert said == json.loads(BODY)


@pytest.mark.parametrize("name", ["Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"])
def test_a_missing_header_is_named(name: str) -> None:
    """A proxy that drops headers is found by what is missing."""
    headers = {key: value for key, value in HEADERS.items() if key != name}
    assert refusal(headers) == f"the header {name.lower()} is missing"


@pytest.mark.parametrize("stamp", ["", "soon", "1e9", "-1", " 1700000000", "١٢", "9" * 13, "1.5"])
def test_a_broken_timestamp_is_rejected(stamp: str) -> None:
    """It comes from anybody, before anything is known of the sender."""
    assert "must be unix seconds" in refusal({**HEADERS, "Webhook-Timestamp": stamp})


@pytest.mark.parametrize("name", ["Webhook-Id", "Webhook-Signature"])
def test_a_header_that_is_no_text_is_rejected(name: str) -> None:
    """Frameworks that decode what isn't UTF-8 leave lone surrogates; a stranger sends what fits."""
    assert "no signature fits" in refusal({**HEADERS, name: "\udcff"})


def test_a_body_that_is_no_text_is_rejected() -> None:
    """The caller has one kind of error to expect, whatever a framework made of the bytes."""
    assert "no signature fits" in refusal(HEADERS, "\udcff")


def test_a_signed_body_that_is_not_json_is_rejected() -> None:
    """The caller is promised JSON values or one kind of error."""
    signature = sign(keys_of(SECRET), "msg_1", AT, b"\xff")
    headers = {**HEADERS, "Webhook-Signature": signature}
    assert refusal(headers, b"\xff") == "the body is signed and isn't JSON"


def test_more_signatures_than_a_rotation_needs_are_not_looked_at() -> None:
    """A header of 16 kB shouldn't buy a comparison for each four characters of it."""
    headers = {**HEADERS, "Webhook-Signature": "v1,x " * 20 + SIGNATURE}
    assert "no signature fits" in refusal(headers)


@pytest.mark.parametrize(
    "secret",
    ["", "hunter2", "whsec_", "whsec_!!!!", "whsec_é", SECRET[6:], 7, None, [],
     "whsec_" + base64.b64encode(bytes(23)).decode(),
     "whsec_" + base64.b64encode(bytes(65)).decode()],
)  # fmt: skip
def test_what_is_no_secret_is_refused_and_not_shown(secret: object) -> None:
    """Errors go to logs, and secrets must not; how to make one does."""
    with pytest.raises(InvalidOption, match=r"new_secret\(\)") as caught:
        keys_of(secret)
    assert not secret or str(secret) == "whsec_" or str(secret) not in str(caught.value)


def test_a_secret_without_padding_is_one() -> None:
    """Some dashboards cut the `=` off."""
    assert keys_of(SECRET.rstrip("=")) == keys_of(SECRET)
