"""A shell's text with placeholders, read as a shell reads it: what stands in which quotes, where.

Each placeholder becomes a reference to an environment variable, quoted for its place. A shell
doesn't parse what a variable holds, so a value can't become syntax; what a value could still do, as
part of a command's name, of code or of an arithmetic expression, is for `shell_rules` to refuse.
"""

import re
from collections.abc import Container

from .shell_words import Command, Quote, Slot, Word
from .substitution import PLACEHOLDER

_REDIRECTION = re.compile(r"\d*(?:<<<|<<-?|<>|<&|>&|>>|>\||&>>|&>|<|>)")
_NAME = re.compile(r"[A-Za-z_]\w*|[0-9@*#?$!-]", re.ASCII)
IDENTIFIER = re.compile(r"[A-Za-z_]\w*|(?<=\$)[1-9@*]", re.ASCII)
_BLANKS = re.compile(r"(?:[ \t]|\\\n)+")


class Reader:
    """Reads a text once, from its start.

    Args:
        text: The text.
        names: The params that may stand in it; other braces are text.
    """

    def __init__(self, text: str, names: Container[str]) -> None:
        self.text = text
        self.names = names
        self.out: list[str | Slot] = []
        self.commands: list[Command] = []
        self.problems: list[tuple[int, str]] = []
        self.computed: set[str] = set()
        """Variables that the shell computes with, whose values it may take for code."""
        self._at = 0
        self._documents: list[tuple[Command, Word, str, slice]] = []
        self._arithmetic = 0
        self._inside = 0

    def read(self) -> None:
        self._list(None)
        if self._documents:
            self._problem("a here-document has no end")

    @property
    def slots(self) -> list[Slot]:
        return [piece for piece in self.out if isinstance(piece, Slot)]

    def written(self) -> str:
        """Return the text with each slot as a reference."""
        return "".join(piece if isinstance(piece, str) else piece.written() for piece in self.out)

    # Small steps

    def _problem(self, what: str, at: int | None = None) -> None:
        self.problems.append((self._at if at is None else at, what))

    def _is(self, start: str) -> bool:
        return self.text.startswith(start, self._at)

    def _copy(self, count: int = 1) -> str:
        piece = self.text[self._at : self._at + count]
        self.out.append(piece)
        self._at += count
        return piece

    def _placeholder(self) -> "re.Match[str] | None":
        found = PLACEHOLDER.match(self.text, self._at)
        return found if found is not None and found[1] in self.names else None

    def _slot(self, quote: Quote) -> Slot | None:
        found = self._placeholder()
        if found is None:
            return None
        slot = Slot(found[1], self._at, quote, arithmetic=self._arithmetic > 0)
        self.out.append(slot)
        self._at = found.end()
        return slot

    def _refuse_slot(self, where: str) -> None:
        found = self._placeholder()
        if found is not None:
            self._refused(found[1], where, self._at)

    def _refused(self, name: str, where: str, at: int) -> None:
        self._problem(f"{{{{{name}}}}} stands {where}, where no quoting is safe", at)

    def _escaped(self) -> str:
        """Copy a backslash and what it escapes."""
        self._copy()
        self._refuse_slot("behind a backslash")
        return self._copy()

    # Lists of commands

    def _list(self, end: str | None) -> list[Slot]:
        """Read commands up to `end`, and return their slots."""
        before, command = len(self.out), Command()
        while self._at < len(self.text):
            if end is not None and self._is(end):
                self._copy()
                break
            command = self._step(command)
        else:
            if end is not None:
                self._problem("a parenthesis isn't closed")
        self._end(command)
        return [piece for piece in self.out[before:] if isinstance(piece, Slot)]

    def _step(self, command: Command) -> Command:
        """Read one token, and return the command that goes on after it."""
        blank = _BLANKS.match(self.text, self._at)
        if blank is not None:
            self._copy(len(blank[0]))
        elif self._is("#"):
            stop = self.text.find("\n", self._at)
            self._copy((len(self.text) if stop < 0 else stop) - self._at)
        elif _in_test(command):
            start = self._at
            command.words.append(self._word())
            if self._at == start:
                self._copy()  # an operator of the test
        elif not self._is("<(") and not self._is(">(") and self._redirection(command):
            pass
        elif self._is("(("):
            self._end(command)
            self._copy(2)
            self._compute(Word())
            return Command()
        elif self.text[self._at] in ";&|()\n":
            return self._operator(command)
        else:
            command.words.append(self._word())
        return command

    def _operator(self, command: Command) -> Command:
        self._end(command)
        operator = self._copy()
        if operator == "(":
            self._inside += 1
            self._list(")")
            self._inside -= 1
        elif operator == "\n":
            self._here_documents()
        return Command()

    def _end(self, command: Command) -> None:
        if command.words or command.targets:
            self.commands.append(command)
        if self._inside and command.words and command.words[0].text == "case":
            self._problem("a `case` inside of parentheses can't be followed")

    def _redirection(self, command: Command) -> bool:
        found = _REDIRECTION.match(self.text, self._at)
        if found is None:
            return False
        self._copy(len(found[0]))
        operator = found[0].removeprefix("0")
        blank = _BLANKS.match(self.text, self._at)
        self._copy(0 if blank is None else len(blank[0]))
        start = len(self.out)
        word = self._word()
        if operator.lstrip("0123456789") in ("<<", "<<-"):
            place = slice(start, len(self.out))
            self._documents.append((command, word, operator, place))
        else:
            command.targets.append((operator, word))
        return True

    # Words

    def _word(self) -> Word:
        word = Word()
        while self._at < len(self.text):
            char = self.text[self._at]
            if self._is("<(") or self._is(">("):
                self._substitution(word)
            elif char in " \t\n;&|()<>":
                break
            else:
                self._part(word, char)
        word.encode()
        return word

    def _part(self, word: Word, char: str) -> None:
        if char == "\\":
            word.is_quoted = True
            word.parts.append(self._escaped().replace("\n", ""))
        elif char in "'\"":
            word.is_quoted = True
            self._copy()
            self._quoted(word, char)
        else:
            self._plain(word, char, "none")

    def _quoted(self, word: Word, quote: str) -> None:
        word.parts.append("")
        while self._at < len(self.text):
            char = self.text[self._at]
            if char == quote:
                self._copy()
                return
            if quote == "'":
                word.parts.append(self._slot("single") or self._copy())
            elif char == "\\":
                pair = self._escaped()
                word.parts.append(pair if pair in '$`"\\' else f"\\{pair}".replace("\\\n", ""))
            else:
                self._plain(word, char, "double")
        self._problem(f"a {quote} has no end")

    def _plain(self, word: Word, char: str, quote: Quote) -> None:
        if char == "$":
            self._dollar(word, quote)
        elif char == "`":
            self._backticks(word)
        else:
            word.parts.append(self._slot(quote) or self._copy())

    def _backticks(self, word: Word) -> None:
        self._copy()
        word.parts.append(None)
        while self._at < len(self.text) and not self._is("`"):
            self._refuse_slot("inside of backticks")
            self._copy(2 if self._is("\\") else 1)
        self._copy()

    def _substitution(self, word: Word) -> None:
        self._copy(2)
        word.parts.append(None)
        self._inside += 1
        word.nested += self._list(")")
        self._inside -= 1

    def _dollar(self, word: Word, quote: Quote) -> None:
        found = PLACEHOLDER.match(self.text, self._at + 1)
        if found is not None and found[1] in self.names:
            word.parts.append(self._copy())
            self._refuse_slot("behind a $")
        elif self._is("$(("):
            self._copy(3)
            word.parts.append(None)
            self._compute(word)
        elif self._is("$("):
            self._substitution(word)
        elif self._is("${"):
            self._braces(word, quote)
        elif self._is("$'") and quote == "none":
            self._ansi(word)
        elif self._is("$["):
            self._problem("$[...] is computed with, in some shells; write $((...))")
            self._copy(2)
        else:
            word.parts.append(self._copy())
            if (found := _NAME.match(self.text, self._at)) is not None:
                word.names.add(found[0])
                word.parts[-1] = None
                self._copy(len(found[0]))

    def _ansi(self, word: Word) -> None:
        self._copy(2)
        word.parts.append(None)
        word.is_quoted = True
        while self._at < len(self.text) and not self._is("'"):
            self._refuse_slot("inside of $'...'")
            self._copy(2 if self._is("\\") else 1)
        self._copy()

    def _braces(self, word: Word, quote: Quote) -> None:
        """Read `${...}`: no value has a place in there."""
        self._copy(2)
        inner, start = Word(), self._at
        if (found := re.compile(r"[#!]?(\w+)").match(self.text, self._at)) is not None:
            word.names.add(found[1])
        while self._at < len(self.text) and not self._is("}"):
            char = self.text[self._at]
            if char == "'" and quote != "none":
                self._copy()
            else:
                self._part(inner, char)
        computed = re.search(r"[\[:].*", self.text[start : self._at], re.DOTALL)
        self.computed.update(IDENTIFIER.findall(computed[0]) if computed else ())
        for slot in [*inner.slots, *inner.nested]:
            self._refused(slot.name, "inside of ${...}", slot.at)
        word.parts.append(None)
        word.names |= inner.names
        self._copy()

    def _compute(self, word: Word) -> None:
        """Read arithmetic, behind its two parentheses, to its end."""
        depth, inner, start = 0, Word(), self._at
        self._arithmetic += 1
        while self._at < len(self.text) and not (depth == 0 and self._is("))")):
            char = self.text[self._at]
            depth += {"(": 1, ")": -1}.get(char, 0)
            if char in "+-" and self.text[self._at + 1 : self._at + 2] == "{":
                self._copy()
                self.out.append(" ")  # or `1-{{n}}` would be `1--2`
            elif char in "\"'":
                self._part(inner, char)
            else:
                self._plain(inner, char, "raw")
        self._arithmetic -= 1
        self.computed.update(IDENTIFIER.findall(self.text, start, self._at))
        word.names |= inner.names
        word.nested += [*inner.slots, *inner.nested]
        self._copy(2)

    # Here-documents

    def _here_documents(self) -> None:
        documents, self._documents = self._documents, []
        for command, end, operator, place in documents:
            body = Word()
            command.targets.append((operator, body))
            self._here_document(body, end, operator.endswith("-"))
            if body.slots and end.is_quoted:
                self.out[place] = [end.text, *[""] * (place.stop - place.start - 1)]

    def _here_document(self, body: Word, end: Word, tabs: bool) -> None:
        first = self._at
        while self._at < len(self.text):
            stop = self.text.find("\n", self._at)
            stop = len(self.text) if stop < 0 else stop
            line = self.text[self._at : stop]
            if (line.lstrip("\t") if tabs else line) == end.text:
                break
            self._at = min(stop + 1, len(self.text))
        else:
            self._problem("a here-document has no end", first)
        last, self._at = self._at, first
        self._body(body, last, is_literal=end.is_quoted)
        if body.slots and not re.fullmatch(r"\w+", end.text):
            self._problem("the end of a here-document isn't a plain word", first)
        if self._at < len(self.text):
            self._copy(self.text.find(end.text, self._at) + len(end.text) - self._at)

    def _body(self, body: Word, last: int, *, is_literal: bool) -> None:
        raw = self.text[self._at : last]
        has_slots = any(found[1] in self.names for found in PLACEHOLDER.finditer(raw))
        while self._at < last:
            char = self.text[self._at]
            if has_slots and is_literal and char in "\\$`":
                self.out.append("\\")  # it is read as text with references now
                body.parts.append(self._copy())
            elif has_slots and not is_literal and char == "\\":
                body.parts.append(self._escaped())
            elif is_literal or not has_slots:
                body.parts.append(self._slot("raw") or self._copy())
            else:
                self._plain(body, char, "raw")
        body.encode()


def _in_test(command: Command) -> bool:
    """Return whether `[[` is open: its operators are words."""
    opened = [word for word in command.words if word.text in ("[[", "]]") and not word.is_quoted]
    return bool(opened) and opened[-1].text == "[["
