"""The page on which a person answers a question: made for a phone, and for a link from a chat.

There is no script, and the style stands in the page: it is all that a link without a token of the
app's may load. What is asked is anybody's text, and is escaped wherever it stands.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from .body import parse_json
from .problems import Problem

Schema: TypeAlias = Mapping[str, Any]

MAX_CHOICES = 20
"""Choices that are buttons; more are a list."""
STYLE = """
:root { color-scheme: light dark; font: 1.0625rem/1.5 system-ui, sans-serif;
  --line: #8886; --quiet: #6b6b6b; --go: #1d4ed8; --bad: #b91c1c; --page: #f4f4f5; --card: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --quiet: #a1a1aa; --go: #2563eb; --bad: #fca5a5; --page: #18181b; --card: #27272a; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 1rem; min-height: 100vh; display: grid; place-items: center;
  background: var(--page); }
main { width: 100%; max-width: 34rem; padding: 1.5rem; border-radius: .75rem;
  background: var(--card); border: 1px solid var(--line); }
h1 { margin: 0 0 1rem; font-size: 1rem; font-weight: 600; color: var(--quiet); }
.prompt { margin: 0 0 1.25rem; font-size: 1.25rem; white-space: pre-wrap; overflow-wrap: anywhere; }
form { display: grid; gap: .75rem; margin: 0; }
input, textarea, select, button { font: inherit; width: 100%; min-height: 3rem;
  padding: .6rem .9rem; border: 1px solid var(--line); border-radius: .5rem; }
input, textarea, select { background: transparent; color: inherit; }
option { background: var(--card); }
textarea { min-height: 7rem; resize: vertical; }
.code, pre { font-family: ui-monospace, monospace; font-size: .9375rem; }
button { cursor: pointer; background: var(--go); border-color: transparent; color: #fff;
  font-weight: 600; overflow-wrap: anywhere; }
button.quiet { background: transparent; border-color: var(--line); color: inherit; }
:focus-visible { outline: 3px solid var(--go); outline-offset: 2px; }
.bad { margin: 0 0 1rem; color: var(--bad); overflow-wrap: anywhere; }
.note, summary { margin: 1rem 0 0; font-size: .875rem; color: var(--quiet); }
pre { overflow: auto; max-height: 16rem; margin: .5rem 0 0; }
"""
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "same-origin",  # with no-referrer a browser calls its form's origin null
    "X-Robots-Tag": "noindex",
}
_KINDS = {"date": "date", "time": "time", "date-time": "datetime-local", "email": "email",
          "uri": "url", "password": "password"}  # fmt: skip
_ZONED = "2026-11-22T10:00:00Z, or 2026-11-22T10:00:00+01:00"
_BLANKS = {"string": "", "integer": 0, "number": 0, "boolean": False, "array": [], "object": {}}


def page(title: str, *parts: str) -> str:
    """Return a page; `parts` are markup, the title is text."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{html.escape(title)}</h1>\n" + "\n".join(parts) + "\n</main>\n"
        "</body>\n</html>\n"
    )


def notice(title: str, text: str) -> str:
    """Return a page that says something, and asks nothing."""
    return page(title, f'<p class="prompt">{html.escape(text)}</p>')


def question_page(
    prompt: str,
    schema: Schema,
    expires_at: datetime | None,
    *,
    fault: str | None = None,
    given: str = "",
) -> str:
    """Return the page that asks.

    Args:
        prompt: What is asked.
        schema: JSON schema of the answers that fit.
        expires_at: When nobody waits for an answer any more; None for never.
        fault: Why the answer before this one was refused.
        given: What was typed then.
    """
    parts = [f'<p class="prompt" id="prompt">{html.escape(prompt)}</p>']
    if fault is not None:
        parts.append(f'<p class="bad" role="alert" id="fault">{html.escape(fault)}</p>')
    fields = _fields(schema, given, again=fault is not None)
    parts += ['<form method="post" autocomplete="off">', *fields, "</form>"]
    if expires_at is not None:
        until = f"{expires_at:%Y-%m-%d %H:%M} UTC"
        parts.append(f'<p class="note">It can be answered until {until}.</p>')
    return page("A job asks", *parts)


def _fields(schema: Schema, given: str, *, again: bool) -> Iterator[str]:
    """Yield what an answer is given with: buttons for what can be chosen, or else a field."""
    own, optional = _without_null(schema)
    choices = _choices(own)
    if choices is None:
        yield from _field(own, schema, given, again=again)
        yield "<button>Send the answer</button>"
    elif len(choices) <= MAX_CHOICES:
        yield from (_button(text, value) for text, value in choices)
    else:
        options = "".join(
            f'<option value="{_attribute(value)}">{html.escape(text)}</option>'
            for text, value in choices
        )
        yield f'<select name="json" aria-labelledby="prompt">{options}</select>'
        yield "<button>Send the answer</button>"
    if optional:
        yield _button("No answer", None, quiet=True)


def _button(text: str, value: Any, *, quiet: bool = False) -> str:
    """Return a button that is an answer; it needs nothing of what stands in a field."""
    kind = ' class="quiet"' if quiet else ""
    return (
        f'<button name="json" value="{_attribute(value)}" formnovalidate{kind}>'
        f"{html.escape(text) or '&nbsp;'}</button>"
    )


def _field(own: Schema, whole: Schema, given: str, *, again: bool) -> Iterator[str]:
    """Yield the field for a text, a number, or JSON; its name says how it is read.

    A schema doesn't tell a time that needs its zone, and a browser's field for times has none: who
    was refused types it.
    """
    kind, shown = own.get("type"), html.escape(given)
    labelled = 'aria-labelledby="prompt" aria-describedby="fault" autofocus'
    if kind in ("integer", "number"):
        step = "1" if kind == "integer" else "any"
        yield f'<input name="number" type="number" step="{step}" value="{shown}" {labelled}>'
    elif kind == "string" and own.get("format") == "date-time" and again:
        yield f'<input name="text" value="{shown}" {labelled}>'
        yield f'<p class="note">With its zone a time is written {_ZONED}.</p>'
    elif kind == "string" and (own.get("writeOnly") or own.get("format") in _KINDS):
        plain = "password" if own.get("writeOnly") else _KINDS[own["format"]]
        value = "" if plain == "password" else f' value="{shown}"'
        yield f'<input name="text" type="{plain}"{value} {labelled}>'
    elif kind == "string":
        yield f'<textarea name="text" {labelled}>{_CRLF}{shown}</textarea>'
    else:
        blank = given or json.dumps(_blank(own), indent=2, ensure_ascii=False)
        attributes = f'name="json" class="code" spellcheck="false" {labelled}'
        yield f"<textarea {attributes}>{_CRLF}{html.escape(blank)}</textarea>"
        wanted = html.escape(json.dumps(whole, indent=2, ensure_ascii=False))
        yield f"<details><summary>JSON, of this schema</summary><pre>{wanted}</pre></details>"


_CRLF = "\n"
"""A browser leaves a line end away that stands first, which may be one of the text's own."""


def _without_null(schema: Schema) -> tuple[Schema, bool]:
    """Return what is left of `X | None`, and whether null was part of it."""
    members = schema.get("anyOf")
    if not isinstance(members, list):
        return _resolved(schema, schema), False
    rest = [each for each in members if each != {"type": "null"}]
    if len(rest) != 1:
        return schema, len(rest) < len(members)
    return _resolved(rest[0], schema), len(rest) < len(members)


def _resolved(schema: Any, whole: Schema) -> Schema:
    """Return the schema that a reference leads to; one that leads on isn't followed."""
    if isinstance(schema, dict) and isinstance(name := schema.get("$ref"), str):
        schema = whole.get("$defs", {}).get(name.rpartition("/")[2], {})
    return schema if isinstance(schema, dict) else {}


def _choices(schema: Schema) -> list[tuple[str, Any]] | None:
    """Return what can be chosen, with a text for each; None if it can't be listed."""
    if schema.get("type") == "boolean":
        return [("Yes", True), ("No", False)]
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(values, list) or not values:
        return None
    return [(each if isinstance(each, str) else json.dumps(each), each) for each in values]


def _blank(schema: Schema) -> Any:
    """Return an object with all members to be filled in, or left; or else what says nothing."""
    if schema.get("type") != "object":
        return _BLANKS.get(str(schema.get("type")))
    members = schema.get("properties", {})
    blank = {name: _BLANKS.get(str(each.get("type"))) for name, each in members.items()}
    return {name: members[name].get("default", value) for name, value in blank.items()}


def _attribute(value: Any) -> str:
    return html.escape(json.dumps(value, ensure_ascii=False))


# What was answered


def read_form(raw: bytes) -> tuple[str, str]:
    """Return the field of a form that is the answer: its name and its text.

    The last one counts: a button comes after the field that it makes needless.

    Raises:
        Problem: There is none, or the form can't be read.
    """
    try:
        fields = parse_qsl(raw.decode("utf-8"), keep_blank_values=True, max_num_fields=10,
                           encoding="utf-8", errors="strict")  # fmt: skip
    except ValueError as error:
        raise Problem(400, "invalid-form", f"the form can't be read: {error}") from None
    known = [field for field in fields if field[0] in ("text", "number", "json")]
    if not known:
        raise Problem(
            400, "invalid-form", "the form has no answer: send `text`, `number` or `json`"
        )
    return known[-1]


def value_of(name: str, text: str) -> Any:
    """Return what a field says: `text` as it is, `number` as people write one, `json` as JSON.

    Raises:
        Problem: It can't be read like that.
    """
    if name == "text":
        return text.replace("\r\n", "\n")  # as it was typed: forms send line ends like this
    read = _number(text) if name == "number" else text
    return parse_json(read.encode(), what="the answer")


def _number(text: str) -> str:
    """Return a number as JSON has it, of what a browser takes for one: `+1`, `.5`, `007`."""
    bare = re.sub(r"^\+|\.$", "", text.strip())
    return re.sub(r"^(-?)0*(?=\d)", r"\1", re.sub(r"^(-?)\.", r"\g<1>0.", bare))
