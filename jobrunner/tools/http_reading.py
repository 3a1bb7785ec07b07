"""What a tools file says of a request: where a value may stand in it, and in which form."""

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..addresses import Target, parse_url
from ..errors import InvalidOption
from .http_tools import Request
from .parameters import REQUIRED, Parameter
from .substitution import Filled, Template, json_encodings, template_of
from .yaml_nodes import Source, Text, encodable, line_of

if TYPE_CHECKING:
    import yaml

KEYS = ("method", "url", "headers", "body", "timeout", "extract_json")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
_PRINTABLE = "".join(map(chr, range(33, 127)))
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = {"content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect",
         "accept-encoding", "keep-alive", "proxy-connection"}  # fmt: skip
_STEP = re.compile(r"([^.\[\]]*)((?:\[\d{1,9}\])*)")
_GRAPHQL = re.compile(r"\s*(\{|query\b|mutation\b|subscription\b|fragment\b)")
_AUTHORITY = re.compile(r"[a-z]+://[^/?#]*", re.IGNORECASE)


class RequestReader:
    """Makes a `Request` of what stands in the file; what is wrong is told to the source."""

    def __init__(self, source: Source, tool: str, params: Mapping[str, Parameter]) -> None:
        self._source = source
        self._tool = tool
        self._params = params

    def read(self, entries: "Mapping[str, yaml.Node]", line: int) -> Request | None:
        source = self._source
        method = source.text(entries.get("method"), "method") or Text("GET", line)
        if method.value.upper() not in METHODS:
            source.problem(
                method.line, f"method is {method.value!r}; there are: {', '.join(METHODS)}"
            )
        headers = self._headers(entries.get("headers"))
        body = source.text(entries.get("body"), "body")
        url = source.text(entries.get("url"), "url")
        kind = "".join(self._kind(headers))
        filled = None if body is None else self._body(body, kind)
        if body is not None and not kind:
            headers["Content-Type"] = Template(("application/json",))
        steps = self._steps(source.text(entries.get("extract_json"), "extract_json"))
        if url is None:
            source.problem(line, f"{self._tool!r} needs http.url")
            return None
        found = self._url(url)
        if found is None:
            return None
        return Request(
            tool=self._tool,
            shown=f"{method.value.upper()} {url.value}",
            method=method.value.upper(),
            target=found[0],
            path=found[1],
            headers=headers,
            body=filled,
            is_form=kind == "application/x-www-form-urlencoded",
            steps=steps,
        )

    def _pieces(self, text: Text) -> list[str | Filled]:
        """Return a text cut at its placeholders; what the server fills in must be sent as UTF-8."""
        pieces = self._source.pieces(text, self._params)
        sent = [encodable(each) if isinstance(each, str) else each for each in pieces]
        if sent != pieces:
            self._source.problem(text.line, "a variable of the server's environment isn't UTF-8")
        return sent

    # URL

    def _url(self, text: Text) -> tuple[Target, Template] | None:
        source = self._source
        source.placeholders(text, self._params)
        pieces = self._pieces(Text(text.value.strip(), text.line, text.is_block))
        whole = "".join(
            quote(piece, safe=_PRINTABLE) if isinstance(piece, str) else "\0" for piece in pieces
        )
        whole, _, fragment = whole.partition("#")
        authority = _AUTHORITY.match(whole)
        if authority is None or "\0" in authority[0]:
            names = [piece.name for piece in pieces if isinstance(piece, Filled)]
            what = (
                f"{{{{{names[0]}}}}} may stand in its path and query only, and n" if names else "N"
            )
            source.problem(text.line, f"url is {text.value!r:.80}; {what}obody but the file says "
                                      "where it goes: http:// or https:// and a host")  # fmt: skip
            return None
        if "\0" in fragment:
            source.problem(text.line, "what stands behind the # of a URL is never sent")
        return self._target(text, whole, authority.end(), pieces)

    def _target(
        self, text: Text, whole: str, start: int, pieces: list[str | Filled]
    ) -> tuple[Target, Template] | None:
        try:
            target = parse_url(whole.replace("\0", "x"), option="url")
        except InvalidOption as error:
            self._source.problem(text.line, str(error))
            return None
        names = iter([piece for piece in pieces if isinstance(piece, Filled)])
        rest = whole[start:]
        parts = re.split("(\0)", rest if rest.startswith("/") else f"/{rest}")
        template = Template(tuple(next(names) if part == "\0" else part for part in parts))
        self._segments(template)
        return target, template

    def _segments(self, template: Template) -> None:
        """Demand a value where a segment is nothing but it: `/users/` is another place."""
        whole, at = "", list[tuple[int, str]]()
        for part in template.parts:
            if isinstance(part, Filled):
                at.append((len(whole), part.name))
            whole += "\0" if isinstance(part, Filled) else part
        path = whole.partition("?")[0]
        for place, name in at:
            if (
                place < len(path)
                and path[place - 1] == "/"
                and path[place + 1 : place + 2] in ("", "/")
            ):
                param = self._params[name]
                param.demands.not_empty = True
                param.default = REQUIRED if param.default is None else param.default

    # Headers

    def _headers(self, node: "yaml.Node | None") -> dict[str, Template]:
        found: dict[str, Template] = {}
        for name, each in self._source.mapping(node, None, "headers").items():
            text = self._source.text(each, f"the header {name!r}")
            if not _HEADER.fullmatch(name):
                self._source.problem(line_of(each), f"{name!r} can't name a header")
            elif name.lower() in _OURS:
                self._source.problem(line_of(each), f"{name!r} can't be set; it is said anyway")
            elif text is not None:
                found[name] = self._header(name.lower(), text)
        return found

    def _header(self, name: str, text: Text) -> Template:
        source = self._source
        source.placeholders(text, self._params)
        if name in ("host", "content-type"):
            source.no_placeholders(text, self._params, f"the header {name}")
        pieces = self._pieces(text)
        if any(
            isinstance(p, str) and re.search(r"[\x00-\x08\x0a-\x1f\x7f]", p.rstrip())
            for p in pieces
        ):
            source.problem(text.line, f"the header {name} has a line break in it")
        for piece in pieces:
            if isinstance(piece, Filled):
                demands = self._params[piece.name].demands
                demands.no_control = True
                demands.no_separator |= name == "cookie"
        return Template(tuple(pieces))

    def _kind(self, headers: Mapping[str, Template]) -> list[str]:
        return ["".join(map(str, each.parts)).partition(";")[0].strip().lower()
                for name, each in headers.items() if name.lower() == "content-type"]  # fmt: skip

    # Body

    def _body(self, text: Text, kind: str) -> Template:
        source = self._source
        source.placeholders(text, self._params)
        pieces = self._pieces(text)
        if kind in ("", "application/json") or kind.endswith("+json"):
            return self._json(text, pieces)
        if kind != "application/x-www-form-urlencoded" and not kind.startswith("text/plain"):
            source.no_placeholders(text, self._params, f"a body of {kind}")
        return Template(tuple(pieces))

    def _json(self, text: Text, pieces: list[str | Filled]) -> Template:
        names = [piece for piece in pieces if isinstance(piece, Filled)]
        if len(names) == 1 and not "".join(p for p in pieces if isinstance(p, str)).strip():
            return Template((Filled(names[0].name, "value"),))
        if names and json_encodings(pieces) is None:
            self._source.problem(
                text.line, "the body is no JSON object with values in its places; write one, or "
                "name another Content-Type"
            )  # fmt: skip
        template = template_of(pieces)
        self._graphql(text, template)
        return template

    def _graphql(self, text: Text, template: Template) -> None:
        """Refuse values in a GraphQL text: that is another language, and has variables."""
        marked = "".join(
            part if isinstance(part, str) else "0" if part.encoding == "value" else "\ue000"
            for part in template.parts
        )
        try:
            query = json.loads(marked, strict=False).get("query", "")
        except (ValueError, AttributeError, RecursionError):
            return
        if isinstance(query, str) and "\ue000" in query and _GRAPHQL.match(query):
            self._source.problem(text.line, "a value stands in GraphQL, where no quoting is safe; "
                                            "give it as one of its variables")  # fmt: skip

    # The answer

    def _steps(self, text: Text | None) -> tuple[str | int, ...]:
        if text is None:
            return ()
        self._source.no_placeholders(text, self._params, "extract_json")
        steps: list[str | int] = []
        for part in text.value.strip().removeprefix("$").removeprefix(".").split("."):
            found = _STEP.fullmatch(part)
            if found is None or not part:
                self._source.problem(text.line, f"extract_json is {text.value!r}; write it as in "
                                                "data.items[0].name")  # fmt: skip
                return ()
            steps += [found[1]] if found[1] else []
            steps += map(int, re.findall(r"\d+", found[2]))
        return tuple(steps)
