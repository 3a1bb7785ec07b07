"""Tools that make requests: a real server writes down what came."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

import pytest

from jobrunner import InvalidParams, RetryPolicy
from tests.accepting import accepting
from tests.tools_files import PAYLOADS, load, refused_tool, result_of, serving, tool, view_of

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"


class Got(NamedTuple):
    """A request as it came over the wire."""

    line: str
    headers: list[tuple[str, str]]
    body: str

    @property
    def path(self) -> str:
        return self.line.split(" ")[1]

    def header(self, name: str) -> str:
        (value,) = [value for key, value in self.headers if key.lower() == name.lower()]
        return value


class Server:
    """Answers with what it is told, one after the other; the last for ever."""

    def __init__(self, *answers: bytes) -> None:
        self.got: list[Got] = []
        self.url = ""
        self._answers = list(answers) or [ANSWER]

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("utf-8")
        line, *lines = head[:-4].split("\r\n")
        length = re.search(r"(?i)\r\ncontent-length: (\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        pairs = [tuple(each.split(": ", 1)) for each in lines]
        self.got.append(Got(line, pairs, body.decode("utf-8")))  # type: ignore[arg-type]  # pairs
        writer.write(self._answers.pop(0) if self._answers[1:] else self._answers[0])
        await writer.drain()
        writer.close()


@asynccontextmanager
async def server(*answers: bytes) -> AsyncIterator[Server]:
    """Serve on a free port while the block runs."""
    found = Server(*answers)
    async with accepting(found.take) as port:
        found.url = f"http://127.0.0.1:{port}"
        yield found


def http(url: str, **given: Any) -> dict[str, Any]:
    """A tool that makes a request."""
    params = given.pop("parameters", [{"name": "x", "required": True}])
    return tool(parameters=params, http={"url": url, **given})


def answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    head = "".join(f"{each}\r\n" for each in headers)
    return f"HTTP/1.1 {status}\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def test_p7_no_value_gets_out_of_a_url(tmp_path: Path) -> None:
    """P7: it is a part of one segment or of one field, and the rest is the file's."""
    async with server() as there:
        url = f"{there.url}/a/<{{{{x}}}}>/b?k={{{{x}}}}&fixed=1&{{{{x}}}}=2"
        async with serving(load(tmp_path, http(url))) as runner:
            jobs = [await runner.submit("t", {"x": payload}) for payload in PAYLOADS]
            for job in jobs:
                assert await job.result() == "ok"
    paths = []
    for got in there.got:
        path, _, query = got.path.partition("?")
        assert re.fullmatch(r"GET /a/%3C[\w.~%-]+%3E/b\?[\w.~%&=-]+ HTTP/1.1", got.line)
        x = unquote(path.removeprefix("/a/%3C").removesuffix("%3E/b"))
        assert parse_qsl(query) == [("k", x), ("fixed", "1"), (x, "2")]
        paths.append(x)
    assert sorted(paths) == sorted(PAYLOADS)


async def test_p7_no_value_gets_out_of_a_body_of_json(tmp_path: Path) -> None:
    """P7: a value is a string's part, or one JSON value."""
    body = '{"text": "<{{x}}>", "value": {{x}}, "{{x}}": 1, "n": {{n}}}'
    params = [{"name": "x", "required": True}, {"name": "n", "type": "integer"}]
    async with server() as there:
        given = http(f"{there.url}/", method="post", body=body, parameters=params)
        async with serving(load(tmp_path, given)) as runner:
            for payload in PAYLOADS:
                await (await runner.submit("t", {"x": payload, "n": 3})).result()
    got = [json.loads(each.body, object_pairs_hook=list) for each in there.got]
    assert got == [
        [("text", f"<{x}>"), ("value", x), (x, 1), ("n", 3)] for x in PAYLOADS
    ]  # fmt: skip
    assert {each.line for each in there.got} == {"POST / HTTP/1.1"}
    assert {each.header("content-type") for each in there.got} == {"application/json"}


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain; charset=utf-8"])
async def test_p7_no_value_gets_out_of_another_body(kind: str, tmp_path: Path) -> None:
    """P7: a form has fields; a plain text is all the value's."""
    async with server() as there:
        given = http(f"{there.url}/", method="PUT", headers={"content-type": kind},
                     body="a={{x}}&b=1")  # fmt: skip
        async with serving(load(tmp_path, given)) as runner:
            for payload in PAYLOADS:
                await (await runner.submit("t", {"x": payload})).result()
    bodies = [each.body for each in there.got]
    if kind.startswith("text"):
        assert bodies == [f"a={x}&b=1" for x in PAYLOADS]
    else:
        assert [parse_qsl(body) for body in bodies] == [[("a", x), ("b", "1")] for x in PAYLOADS]


async def test_p7_no_value_gets_out_of_a_header(tmp_path: Path) -> None:
    """P7: a line break is refused at submit; anything else stays in its line."""
    async with server() as there:
        given = http(f"{there.url}/", headers={"X-A": "<{{x}}>", "Authorization": "Bearer ${KEY}"})
        async with serving(load(tmp_path, given, environ={"KEY": "k1"})) as runner:
            for payload in PAYLOADS:
                if "\n" in payload:
                    with pytest.raises(InvalidParams, match="line breaks"):
                        await runner.submit("t", {"x": payload})
                else:
                    await (await runner.submit("t", {"x": payload})).result()
            for broken in ("a\r\nX-B: 1", "a\rb", "a\0b", "\x7f"):
                with pytest.raises(InvalidParams, match="control"):
                    await runner.submit("t", {"x": broken})
    plain = [x for x in PAYLOADS if "\n" not in x]
    assert [got.header("x-a") for got in there.got] == [f"<{x}>" for x in plain]
    assert {got.header("authorization") for got in there.got} == {"Bearer k1"}
    assert {len(got.headers) for got in there.got} == {5}


async def test_p7_a_cookie_s_value_is_one_cookie_s(tmp_path: Path) -> None:
    """P7: `a; admin=1` would be two."""
    async with server() as there:
        given = http(f"{there.url}/", headers={"Cookie": "s={{x}}"})
        async with serving(load(tmp_path, given)) as runner:
            with pytest.raises(InvalidParams, match="none of"):
                await runner.submit("t", {"x": "a; admin=1"})
            await (await runner.submit("t", {"x": "a-1"})).result()
    assert [got.header("cookie") for got in there.got] == ["s=a-1"]


@pytest.mark.parametrize("value", ["..", ".", "../admin", "a/../../b", "..\\x", "a/..;p/b"])
async def test_no_value_climbs_in_a_path(value: str, tmp_path: Path) -> None:
    """Many a server takes %2F for a slash, and goes up where it is told to."""
    async with server() as there:
        ended = await view_of(load(tmp_path, http(f"{there.url}/users/{{{{x}}}}/a")), {"x": value})
    assert ended.error is not None
    assert "would climb in the path" in ended.error.detail
    assert there.got == []


async def test_a_path_that_is_refused_tells_no_secret(tmp_path: Path) -> None:
    """A bot's token stands in the path; whoever calls the tool reads its error."""
    given = http("https://api.example/bot${TOKEN}/{{x}}")
    ended = await view_of(load(tmp_path, given, environ={"TOKEN": "s3cr3t"}), {"x": ".."})
    assert ended.error is not None
    assert "bot${TOKEN}/{{x}}" in ended.error.detail
    assert "s3cr3t" not in ended.error.detail


async def test_an_empty_value_is_no_segment(tmp_path: Path) -> None:
    """`DELETE /users/` is another request than was meant."""
    async with server() as there, serving(load(tmp_path, http(there.url + "/u/{{x}}?a=1"))) as r:
        with pytest.raises(InvalidParams, match="must not be empty"):
            await r.submit("t", {"x": ""})


@pytest.mark.parametrize("params", [{}, {"x": None}])
async def test_a_whole_segment_has_to_be_given(params: dict[str, Any], tmp_path: Path) -> None:
    """Without one it would be that other request; the file need not say that it is required."""
    given = http("https://api.example/u/{{x}}", parameters=[{"name": "x"}])
    async with serving(load(tmp_path, given)) as r:
        with pytest.raises(InvalidParams, match=r"x: "):
            await r.submit("t", params)


async def test_a_segment_may_have_a_default(tmp_path: Path) -> None:
    """That is a segment, too."""
    async with server() as there:
        given = http(there.url + "/u/{{x}}", parameters=[{"name": "x", "default": "me"}])
        await result_of(load(tmp_path, given), {})
    assert there.got[0].path == "/u/me"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "host": ({"url": "https://{{x}}/a"}, "path and query only"),
    "part of a host": ({"url": "https://{{x}}.example.com/"}, "path and query only"),
    "port": ({"url": "https://a.example:{{x}}/"}, "path and query only"),
    "user": ({"url": "https://{{x}}@a.example/"}, "path and query only"),
    "scheme": ({"url": "{{x}}://a.example/"}, "path and query only"),
    "all of it": ({"url": "{{x}}"}, "path and query only"),
    "behind a backslash": ({"url": "https://a.example\\{{x}}/"}, "path and query only"),
    "fragment": ({"url": "https://a.example/#{{x}}"}, "is never sent"),
    "credentials": ({"url": "https://u:p@a.example/"}, "a user or a password"),
    "file": ({"url": "file:///etc/passwd"}, "must be http://"),
    "no url": ({"method": "GET"}, "needs http.url"),
    "method": ({"url": "http://a.example/", "method": "{{x}}"}, "method is '{{x}}'"),
    "header's name": ({"url": "http://a.example/", "headers": {"{{x}}": "a"}}, "name a header"),
    "Host": ({"url": "http://a.example/", "headers": {"Host": "{{x}}"}}, "no caller may choose"),
    "length": ({"url": "http://a.example/", "headers": {"Content-Length": "3"}}, "said anyway"),
    "lines": ({"url": "http://a.example/", "headers": {"A": "b\nC: d"}}, "a line break"),
    "no JSON": ({"url": "http://a.example/", "body": "a={{x}}"}, "name another Content-Type"),
    "escaped": ({"url": "http://a.example/", "body": '{"a": "\\{{x}}"}'}, "another Content-Type"),
    "XML": (
        {"url": "http://a.example/", "headers": {"Content-Type": "text/xml"}, "body": "<a>{{x}}"},
        "a body of text/xml",
    ),
    "GraphQL": (
        {"url": "http://a.example/", "body": '{"query": "{ user(id: \\"{{x}}\\") { name } }"}'},
        "stands in GraphQL",
    ),
    "steps": ({"url": "http://a.example/", "extract_json": "a[x]"}, "data.items[0].name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_p7_what_can_t_be_made_safe_is_refused_when_the_file_is_read(
    case: str, tmp_path: Path
) -> None:
    """P7: above all, no caller chooses where a request goes."""
    given, why = REFUSED[case]
    params = [{"name": "x", "required": True}]
    problems = refused_tool(tmp_path, tool(parameters=params, http=given))
    assert any(why in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("data.items[0].name", "a"), ("data.items[1]", {"name": "b"}), ("data.n", 2),
        ("$.data.none", None), ("data", {"items": [{"name": "a"}, {"name": "b"}], "n": 2,
                                         "none": None}),
    ],
)  # fmt: skip
async def test_the_result_is_what_of_the_json_is_wanted(
    path: str, found: object, tmp_path: Path
) -> None:
    """A model shouldn't have to read the rest."""
    body = b'{"data": {"items": [{"name": "a"}, {"name": "b"}], "n": 2, "none": null}}'
    async with server(answer(body)) as there:
        given = http(there.url, extract_json=path, parameters=[])
        assert await result_of(load(tmp_path, given), {}) == found


@pytest.mark.parametrize("path", ["data.items[2].name", "data[0]", "other", "data.items.name"])
async def test_json_without_what_is_wanted_fails_the_job(path: str, tmp_path: Path) -> None:
    """It says how the answer begins, since that is often an error's text."""
    async with server(answer(b'{"data": {"items": []}, "why": "x"}')) as there:
        given = http(there.url, extract_json=path, parameters=[])
        ended = await view_of(load(tmp_path, given), {})
    assert ended.error is not None
    assert f'the answer has no {path}; it begins: {{"data"' in ended.error.detail


async def test_a_status_fails_the_job_and_a_policy_reads_it(tmp_path: Path) -> None:
    """429 says when to come again, 404 never passes."""
    busy = answer(b"slow down", "429 Too Many Requests", "Retry-After: 0")
    policy = RetryPolicy(max_attempts=3, base=0.0)
    async with server(busy, ANSWER) as there:
        file = load(tmp_path, http(there.url + "/a?key=${KEY}", parameters=[]),
                    environ={"KEY": "k1"})  # fmt: skip
        async with serving(file, retry=policy) as runner:
            job = await runner.submit("t")
            assert (await job.result(), (job.view()).attempt) == ("ok", 2)
    async with server(answer(b"no such thing", "404 Not Found")) as there:
        file = load(tmp_path, http(there.url + "/a?key=${KEY}", parameters=[]),
                    environ={"KEY": "k1"})  # fmt: skip
        async with serving(file, retry=policy) as runner:
            ended = await (await runner.submit("t")).wait()
    assert (ended.attempt, len(there.got)) == (1, 1)
    assert ended.error is not None
    assert ended.error.type == "HTTPStatusError"
    assert ended.error.detail == f"GET {there.url}/a?key=${{KEY}}: HTTP 404\nno such thing"


async def test_a_host_that_is_not_there_fails_the_job(tmp_path: Path) -> None:
    """Over TLS too; the message has no secret of the file."""
    async with server() as there:
        pass
    file = load(tmp_path, http(there.url.replace("http", "https") + "/${KEY}", parameters=[]),
                environ={"KEY": "k1"})  # fmt: skip
    ended = await view_of(file, {})
    assert ended.error is not None
    assert (ended.error.type, "k1" in ended.error.detail) == ("ConnectError", False)


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    """The file says where a request goes, and not whoever answers."""
    moved = answer(b"", "302 Found", "Location: http://169.254.169.254/")
    async with server(moved) as there:
        ended = await view_of(load(tmp_path, http(there.url, parameters=[])), {})
    assert ended.error is not None
    assert ended.error.detail.endswith("HTTP 302; redirects are not followed")
    assert len(there.got) == 1


async def test_p10_an_answer_is_bounded(tmp_path: Path) -> None:
    """In bytes, in what it may unpack to, and in time."""
    cases = {
        answer(b"x" * 5_000_001): "over 5,000,000 bytes",
        answer(b"x" * 200_001): "say what of it is wanted with extract_json",
        answer(b"x", "200 OK", "Content-Encoding: gzip"): "compressed",
    }
    for said, why in cases.items():
        async with server(said) as there:
            ended = await view_of(load(tmp_path, http(there.url, parameters=[])), {})
        assert ended.error is not None
        assert why in ended.error.detail
    async with server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx") as there:
        pass
    given = http(there.url, parameters=[], timeout="2s")
    ended = await view_of(load(tmp_path, given), {})
    assert ended.error is not None
    assert ended.error.type == "ConnectError"


async def test_a_request_takes_no_longer_than_the_file_says(tmp_path: Path) -> None:
    """Thirty seconds if it says nothing."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with accepting(silent) as port:
        url = f"http://127.0.0.1:{port}"
        file = load(tmp_path, http(url, parameters=[], timeout="50ms"))
        ended = await view_of(file, {})
    assert load(tmp_path, http(url)).tools[0].timeout == 30.0
    assert ended.error is not None
    assert (ended.error.reason, ended.error.detail) == ("timeout", "timed out after 0.05 s")


async def test_what_the_environment_says_of_proxies_is_not_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request with a key goes to its host, and to nobody between."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with server(answer("ü".encode("latin-1"), "200 OK",
                             "Content-Type: text/plain; charset=latin-1")) as there:  # fmt: skip
        file = load(tmp_path, http(there.url + "/é x?a=%20{{x}}#part"))
        assert await result_of(file, {"x": "1"}) == "ü"
    assert there.got[0].path == "/%C3%A9%20x?a=%201"


@pytest.mark.parametrize("charset", ["odd", "zlib", "undefined"])
async def test_an_answer_in_no_charset_is_read_as_utf_8(tmp_path: Path, charset: str) -> None:
    """Also where Python knows something by that name, which is no encoding of text."""
    head = f"Content-Type: text/plain; charset={charset}"
    async with server(answer("ü".encode(), "200 OK", head)) as there:
        assert await result_of(load(tmp_path, http(there.url, parameters=[])), {}) == "ü"


async def test_the_mark_of_its_encoding_is_no_part_of_an_answer(tmp_path: Path) -> None:
    """JSON after it would be none."""
    async with server(answer(b'\xef\xbb\xbf{"a": 1}')) as there:
        given = http(there.url, parameters=[], extract_json="a")
        assert await result_of(load(tmp_path, given), {}) == 1


async def test_a_body_without_values_is_sent_as_it_stands(tmp_path: Path) -> None:
    """JSON or not; an unknown charset is read as UTF-8."""
    async with server(answer(b"ok", "200 OK", "Content-Type: a/b; charset=odd")) as there:
        given = http(there.url, method="POST", body="no json", parameters=[])
        assert await result_of(load(tmp_path, given), {}) == "ok"
        whole = http(there.url, method="POST", body="{{x}}",
                     parameters=[{"name": "x", "type": "object"}])  # fmt: skip
        assert await result_of(load(tmp_path, whole), {"x": {"a": [1]}}) == "ok"
    assert [got.body for got in there.got] == ["no json", '{"a":[1]}']
