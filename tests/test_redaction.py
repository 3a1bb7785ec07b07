"""Secrets: the handler gets them, and nobody else sees them."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, JsonValue, SecretStr
from pydantic_core import from_json, to_json

from jobrunner import JobContext, JobNotRetryable, JobRunner
from jobrunner.redaction import MASK, Redaction, redact, redaction_for
from jobrunner.signatures import make_handler
from jobrunner.testing import unix_now, virtual_time
from tests.serving import in_process
from tests.tabled import each_of

SECRET = [
    "password", "PASSWORD", "db_password", "userPassword", "passwd", "secret", "client_secret",
    "clientSecret", "secrets", "token", "github_token", "accessToken", "X-Auth-Token", "token2",
    "authorization", "Proxy-Authorization", "api_key", "apikey", "apiKey", "X-Api-Key", "API_KEY",
    "api_keys", "access_key", "aws_secret_access_key", "private_key", "privateKey", "secret_key",
    "cookie", "Set-Cookie", "cookies", "credential", "credentials", "api.key", "api key",
]  # fmt: skip
PLAIN = [
    "max_tokens", "tokens", "tokenizer", "token_count", "key", "keys", "public_key", "keyword",
    "secretary", "password_length", "passwords_checked", "tokenType", "author", "authorizations_of",
    "cookie_banner", "apikey_id", "monkey", "access", "private", "user", "", "passwort",
]  # fmt: skip


@each_of(SECRET)
def test_what_has_the_name_of_a_secret_is_masked(name: str) -> None:
    """The last part of a name says what it is, however it is written."""
    assert redact({"a": [{name: "s3cret", "b": 1}]}) == {"a": [{name: MASK, "b": 1}]}


@each_of(PLAIN)
def test_what_only_sounds_like_one_is_not(name: str) -> None:
    """A job that counts tokens shows how many, and a dict of data has keys."""
    value = {"a": [{name: "text"}]}
    assert redact(value) is value


@pytest.mark.parametrize("value", [None, "", True, False, MASK])
def test_that_there_is_no_secret_is_none(value: Any) -> None:
    """Whether a token was given at all is worth seeing, and can be given again."""
    given = {"token": value}
    assert redact(given) is given


@pytest.mark.parametrize("value", ["text", 1, 0, 1.5, ["a"], {"a": "b"}, [], {}])
def test_a_secret_is_masked_whole(value: Any) -> None:
    """What is within credentials is secret, too, by whatever names."""
    assert redact({"credentials": value}) == {"credentials": MASK}


def test_what_is_given_is_left_as_it_is() -> None:
    """A handler reads the same metadata as before somebody looked at them."""
    given = {"a": {"token": "t"}, "list": [{"token": "t"}]}
    assert redact(given) == {"a": {"token": MASK}, "list": [{"token": MASK}]}
    assert given == {"a": {"token": "t"}, "list": [{"token": "t"}]}


def test_a_very_long_name_costs_no_memory_and_is_known_by_its_end() -> None:
    """Names of keys come from anybody, and what is remembered of them is short."""
    assert redact({"x" * 100_000 + "_token": "t"}) == {"x" * 100_000 + "_token": MASK}


@each_of(SECRET)
def test_json_is_masked_by_the_same_names(name: str) -> None:
    """It is only read where a word is in it that every secret's name has."""
    raw = to_json({"a": {name: "s3cret"}})
    assert from_json(redact.in_json(raw)) == {"a": {name: MASK}}


@pytest.mark.parametrize("raw", [b'{"a":"b"}', b'{"key":"a token"}'])
def test_json_without_secrets_is_the_same(raw: bytes) -> None:
    """Most is not even read."""
    assert redact.in_json(raw) is raw


def test_json_with_a_name_that_is_said_to_be_secret_is_masked() -> None:
    """Such a name may be any."""
    masked = Redaction(frozenset({"pin"}), frozenset()).in_json(b'{"pin":"1"}')
    assert from_json(masked) == {"pin": MASK}


class Login(BaseModel):
    user: str
    password: str = ""


class Closed(BaseModel):
    name: str
    tags: list[str] = []
    size: Literal[1, 2] = 1
    pair: tuple[int, str] = (1, "a")


async def plain(path: str, n: int | None = None, closed: Closed | None = None) -> None: ...


async def nothing() -> None: ...


async def named(token: str) -> None: ...


async def nested(logins: list[Login]) -> None: ...


async def anything(value: Any) -> None: ...


async def json_value(value: JsonValue) -> None: ...


async def data(value: dict[str, int]) -> None: ...


async def bare(value: list) -> None: ...  # type: ignore[type-arg]  # a list of anything, as people write it


async def typed_secret(pin: SecretStr) -> None: ...


async def said_secret(
    pin: Annotated[str, Field(json_schema_extra={"writeOnly": True})],
) -> None: ...


class Renamed(BaseModel):
    password: str = Field(validation_alias="word")
    said: str = Field(serialization_alias="token")


async def renamed(logins: list[Renamed]) -> None: ...


NEVER = [plain, nothing]
SECRET_TYPES = [named, nested, typed_secret, said_secret]
LOOKED_AT = [named, nested, anything, json_value, data, bare, typed_secret, said_secret,
             renamed]  # fmt: skip


@pytest.mark.parametrize("function", [*NEVER, *LOOKED_AT], ids=lambda function: function.__name__)
def test_params_are_looked_through_only_where_their_schema_leaves_room_for_secrets(
    function: Any,
) -> None:
    """Most types can't hold one, and their jobs pay nothing for those that can."""
    handler = make_handler(function)
    assert (handler.redaction is not None) == (function in LOOKED_AT)
    assert ("writeOnly" in str(handler.params_schema())) == (function in SECRET_TYPES)


def test_a_name_that_only_what_is_kept_has_is_looked_at_too() -> None:
    """A field may be read by one name and written by another."""
    _, raw = make_handler(renamed).validate({"logins": [{"word": "p4ss", "said": "t0k"}]})
    assert from_json(raw) == {"logins": [{"password": MASK, "token": MASK}]}


@pytest.mark.parametrize(
    ("schema", "looked_at"),
    [
        ({}, True),
        ({"type": "object"}, True),
        ({"type": "object", "additionalProperties": False}, False),
        ({"type": "object", "patternProperties": {"a": {"type": "string"}}}, True),
        ({"type": "object", "properties": {}, "additionalProperties": True}, True),
        ({"type": "array"}, True),
        ({"type": "array", "prefixItems": [{"type": "string"}]}, False),
        ({"type": "array", "prefixItems": [{}]}, True),
        ({"anyOf": [{"type": "string"}, {"type": "object"}]}, True),
        ({"enum": ["a"]}, False),
    ],
)
def test_a_schema_says_whether_values_can_have_parts_that_it_doesn_t_name(
    schema: dict[str, Any], looked_at: bool
) -> None:
    """Where it says nothing, everything may come."""
    assert (redaction_for(schema) is not None) == looked_at


def new_runner(seen: list[Any]) -> JobRunner:
    runner = JobRunner(now=unix_now, watchdog=None)

    @runner.job
    async def deploy(
        ctx: JobContext,
        token: str = "",
        login: Login | None = None,
        pin: Annotated[str, Field(json_schema_extra={"writeOnly": True})] = "",
        next_token: Annotated[str, Field(json_schema_extra={"writeOnly": False})] = "",
    ) -> dict[str, str]:
        ctx.log("deploying", token=token, api=SecretStr(token), of={"password": "p"}, n=1)
        seen.append((token, login, pin, next_token, dict(ctx.metadata)))
        return {"token": token}

    return runner


PARAMS = {
    "token": "t0k", "login": {"user": "ada", "password": "p4ss"}, "pin": "1234", "next_token": "n",
}  # fmt: skip
SHOWN = {
    "token": MASK, "login": {"user": "ada", "password": MASK}, "pin": MASK, "next_token": "n",
}  # fmt: skip


@virtual_time
async def test_a_handler_gets_its_secrets_and_nobody_else_sees_them() -> None:
    """In the params, the metadata and the log; the result is what the handler makes public."""
    seen: list[Any] = []
    async with new_runner(seen) as runner:
        job = await runner.submit("deploy", PARAMS, metadata={"cookie": "c", "user": "ada"})
        live, view = job.view(), await job.wait()
        lines = [event.data["fields"] async for event in job.events() if event.type == "log"]
        final = await runner.get(job.id)
    assert seen == [
        ("t0k", Login(user="ada", password="p4ss"), "1234", "n", {"cookie": "c", "user": "ada"})
    ]
    for shown in (live, view, final):
        assert (shown.params, shown.metadata) == (SHOWN, {"cookie": MASK, "user": "ada"})
    assert lines == [{"token": MASK, "api": MASK, "of": {"password": MASK}, "n": 1}]
    assert final.result == {"token": "t0k"}


@virtual_time
async def test_a_job_whose_secrets_are_not_kept_can_t_be_run_again() -> None:
    """As with SecretStr: it has to be submitted anew; where none was given it can."""
    seen: list[Any] = []
    async with new_runner(seen) as runner:
        job, without = await runner.submit("deploy", PARAMS), await runner.submit("deploy")
        await runner.drain()
        with pytest.raises(JobNotRetryable, match="secrets"):
            await runner.retry(job.id)
        again = await runner.retry(without.id)
        assert (await again.wait()).status == "completed"


@pytest.mark.parametrize("where", ["", "/stream", "/logs"])
async def test_no_secret_is_in_what_goes_over_the_wire(where: str) -> None:
    """Lists, jobs, streams and logs are made of what is masked already."""
    async with in_process() as served:

        @served.runner.job
        async def login(ctx: JobContext, password: str) -> int:
            ctx.log("with", password=password)
            return len(password)

        job_id = await served.finished("login", password="s3cret")
        answer = await served.client.get(f"/jobs/{job_id}{where}")
        listed = await served.client.get("/jobs")
    assert "s3cret" not in answer.text + listed.text
    assert MASK in listed.text


def test_a_schema_says_what_is_never_shown_and_hides_its_default() -> None:
    """Who makes a form of it takes a password field, and the server's own key stays its own."""

    async def ask(
        api_key: Annotated[str, Field(examples=["sk-example"])] = "sk-default",
        token: str | None = None,
        login: Login | None = None,
        page_token: Annotated[str, Field(json_schema_extra={"writeOnly": False})] = "first",
    ) -> None: ...

    schema = make_handler(ask).params_schema()
    fields = schema["properties"]
    assert (fields["api_key"]["writeOnly"], fields["api_key"]["default"]) == (True, MASK)
    assert "examples" not in fields["api_key"]
    assert (fields["token"]["writeOnly"], fields["token"]["default"]) == (True, None)
    assert (fields["page_token"]["writeOnly"], fields["page_token"]["default"]) == (False, "first")
    assert schema["$defs"]["Login"]["properties"]["password"]["writeOnly"] is True
    assert "writeOnly" not in schema["$defs"]["Login"]["properties"]["user"]
