"""Interpreters: what they take for code, for the name of a file of code, and when they read it.

Code is looked for in too many places rather than in too few.
"""

import posixpath
import re
from collections.abc import Sequence
from typing import NamedTuple

from .shell_words import Word

_NEVER = r"(?!)"
_SHELL = "abefhiklmnpruvxBCEHP"
_PYTHON = "bBdEhIOPqRsSuvVx?"
_INPUT = r"-|/dev/(std\w+|tty|fd/.*)|/proc/[^/]+/(task/[^/]+/)?fd/.*"


class Interpreter(NamedTuple):
    """Which of a program's words are code; patterns are matched against whole words."""

    programs: str
    code: str
    """Options whose value is code, or a module's name; a group holds a value in the same word."""
    plain: str
    """Options that take no other word; of any that isn't here the next word may be the value."""
    reads: str = _NEVER
    """Words with which it takes its input for code; a group says that no operand names a file."""
    repeats: bool = False
    """Whether options may follow that code."""


INTERPRETERS = [
    Interpreter(
        r"r?(ba|da|z|k|mk|a|c|tc)?sh[\d.]*", rf"[-+](?!norc|rcfile)[{_SHELL}]*c[{_SHELL}]*",
        rf"[-+][{_SHELL}]+|--(login|noprofile|norc|posix|verbose)", r"(-\w*s\w*)",
    ),
    Interpreter(r"fish", r"-[ilnNP]*c(.+)?|--command(?:=(.*))?", r"-[ilnNP]+|--(login|private)"),
    Interpreter(
        r"(python|pypy)[\d.]*", rf"-[{_PYTHON}]*[cm](.+)?", rf"-[{_PYTHON}]+|-[{_PYTHON}]*[WX].+",
        rf"-[{_PYTHON}]*i\w*|(-m)?(code|pdb|asyncio|IPython)",
    ),
    Interpreter(
        r"perl[\d.]*", r"-[acfnpstTuUwWXlS0-9]*[eE](.+)?",
        r"-[acfnpstTuUwWXlS0-9]+|-[acfnpstTuUwWXlS0-9]*[iFmMxCD].*|-[acfnpsw]*I.+", r"-d.*",
        repeats=True,
    ),
    Interpreter(
        r"ruby[\d.]*", r"-[aclnpsSvwyU0-9]*e(.+)?",
        r"-[aclnpsSvwyU0-9]+|-[aclnpsSvwyU0-9]*[iFxWTK].*|-[EIrC].+|--(yjit|jit|verbose)",
        repeats=True,
    ),
    Interpreter(
        r"node(js)?", r"-(?:p|e|pe)|--(?:eval|print)(?:=(.*))?",
        r"-c|--(check|expose-gc|harmony|inspect|inspect-brk|test|watch|preserve-symlinks|no-[\w-]+"
        r"|enable-source-maps|(throw|trace)-[a-z]+|use-\w+-ca"
        r"|experimental-(strip-types|transform-types|vm-modules|modules|fetch|sqlite))",
        r"-i|--interactive", repeats=True,
    ),
    Interpreter(
        r"deno", r"eval|-p|--(?:eval|print)(?:=(.*))?",
        r"run|serve|test|bench|check|-[AqrNRWES]+|--((allow|deny|no)-[\w-]+|unstable[\w-]*|quiet"
        r"|reload|cached-only|watch)", r"repl",
    ),
    Interpreter(
        r"bun", r"exec|-(?:p|e)(.+)?|--(?:eval|print)(?:=(.*))?",
        r"run|-b|--(bun|watch|hot|smol|silent|no-[\w-]+)", r"repl",
    ),
    Interpreter(r"php[\d.]*", r"-[rBRE](.+)?|--(?:run|process-\w+)", r"-[CqnfF]+|-[dcz].+",
                r"-a|(--)|--interactive", repeats=True),
    Interpreter(r"lua(jit)?[\d.]*", r"-e(.+)?", r"-[vEWb]+|-[ljO].+", r"-i", repeats=True),
    Interpreter(r"Rscript", r"-e|--expression(?:=(.*))?",
                r"--(vanilla|verbose|no-[\w-]+|slave|quiet)", repeats=True),
    Interpreter(r"osascript", r"-e(.+)?", r"-i", r"-i", repeats=True),
    Interpreter(r"uv", _NEVER, r"run|-[qvnms]+|--(no-[\w-]+|quiet|frozen|locked|isolated|script)"),
    Interpreter(r"sudo|doas", _NEVER, r"-[nEHSkbKAPsiv]+|--(login|shell|non-interactive)"),
]  # fmt: skip


class Taken:
    """What an interpreter makes of its arguments."""

    def __init__(self, interpreter: Interpreter, arguments: Sequence[Word]) -> None:
        self.code: list[Word] = []
        self.scripts: list[Word] = []
        """Words that name a file of code, or may."""
        self.reads = False
        """Whether it takes its input for code."""
        self._interpreter = interpreter
        self._has_script = True
        self._is_code = False
        self._pending = 0
        self._options = True
        self._is_given = False
        self._is_over = False
        for word in arguments:
            if not self._is_over:
                self._word(word)
        found = self._is_given or self._is_over
        self.reads |= not found or any(names_input(word.text) for word in self.scripts)

    def _word(self, word: Word) -> None:
        is_option = self._options and self._option(word)
        if not is_option and not _may_vanish(word):
            self._operand(word)

    def _option(self, word: Word) -> bool:
        each, text = self._interpreter, word.text
        if (reads := re.fullmatch(each.reads, text)) is not None:
            self.reads, self._has_script = True, reads.lastindex is None
        if (code := re.fullmatch(each.code, text, re.DOTALL)) is not None:
            self.code.append(word)
            self._is_code = code.lastindex is None
            self._given(not self._is_code)
        elif text == "--":
            self._options = self._pending > 0  # or it is a value itself
        elif not _matches(rf"{each.plain}|--[\w-]+=.*", text):
            if not re.match(r"[-+].", text):
                return False
            self._pending += 1
        return True

    def _operand(self, word: Word) -> None:
        """Take a word for code, for a file of it, or for the value of an option before it."""
        if self._is_given and not self._is_code:
            self._is_over = True
            return
        if self._is_code:
            self.code.append(word)
        elif self._has_script:
            self.scripts.append(word)
        if self._pending:
            self._pending -= 1
        elif self._is_code:
            self._is_code = False
            self._given(True)
        else:
            self._is_over = True

    def _given(self, is_given: bool) -> None:
        self._is_given |= is_given
        self._is_over |= is_given and not self._interpreter.repeats


def taken(program: str, arguments: Sequence[Word]) -> Taken | None:
    """Return what a program makes of its arguments, if it is an interpreter."""
    for each in INTERPRETERS:
        if re.fullmatch(each.programs, program):
            return Taken(each, arguments)
    return None


def names_input(path: str) -> bool:
    """Return whether a path is that of what a program has to read."""
    return _matches(_INPUT, posixpath.normpath(path).replace("//", "/"))


def _matches(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text, re.DOTALL) is not None


def _may_vanish(word: Word) -> bool:
    """Return whether a shell may make no word of it, or several: `$FLAGS`."""
    return not (word.slots or word.nested or word.text.strip("\0")) and (
        not word.is_quoted or bool(word.names & {"@", "*"})
    )
