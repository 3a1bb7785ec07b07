"""What no quoting makes safe in a shell's text: values as code, or as the name of a program."""

import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from .interpreters import names_input
from .languages import (
    WRAPPERS,
    code_of,
    joins_code,
    lacks_code,
    reads_code,
    scripts_of,
    takes_code,
)
from .shell_text import IDENTIFIER, Reader
from .shell_words import Command, Slot, Word

POWERFUL = re.compile(
    r"PATH|IFS|ENV|PS[0-4]|PROMPT_COMMAND|SHELL(OPTS)?|BASHOPTS|HOME|CDPATH|EDITOR|VISUAL|PAGER"
    r"|BROWSER|SECONDS|S?RANDOM|LINENO|OPTIND|HISTCMD|EPOCH\w+|CLASSPATH|MAKEFLAGS|MANPAGER"
    r"|GIT_(SSH|EDITOR|PAGER|EXTERNAL|ASKPASS|PROXY|CONFIG|EXEC|TEMPLATE|DIR|WORK|SEQUENCE)\w*"
    r"|(LD|DYLD|BASH|SSH|GANTZ|JOBRUNNER|XDG|NPM_CONFIG)_\w+|PERL5\w+|RUBY(OPT|LIB)|LESS(OPEN|CLOSE)?"
    r"|PYTHON[A-Z]+|NODE_(OPTIONS|PATH)|\w*(TOOL_OPTIONS|JAVA_OPTIONS|_WRAPPER)|LOCPATH"
)
"""Variables that choose what is run, or that a shell computes with."""
_RESERVED = {"if", "then", "else", "elif", "while", "until", "do", "done", "fi", "esac", "!", "{",
             "}", "coproc"}  # fmt: skip
_BUILTINS = {"eval", ".", "source", "trap", "alias", "declare", "typeset", "let", "unset", "read",
             "mapfile", "readarray", "getopts", "hash", "bind", "complete", "compgen", "enable",
             "function", "shopt"}  # fmt: skip
"""Builtins that take code, or names that may hold code."""
_EXECUTES = {"-exec", "-execdir", "-ok", "-okdir"}
"""Options of `find`."""
_NUMERIC = re.compile(r"-(eq|ne|lt|le|gt|ge)\Z")
_TESTS = {"=", "==", "!=", "-n", "-z", "-f", "-e", "-d", "-r", "-w", "-x", "-s", "-h", "-L"}
Tell: TypeAlias = Callable[[Slot | int, str], None]
_PLAIN = {"integer", "number", "boolean"}


def check_script(
    reader: Reader,
    types: Mapping[str, str],
    tell: Tell,
    *,
    confirmed: bool,
    fed: Slot | None = None,
) -> None:
    """Tell of each place that can't be made safe, and mark slots that could be options.

    Args:
        reader: The text, read.
        types: The params' types by name.
        tell: Called with a slot or an offset in the text, and what is wrong there.
        confirmed: Whether a person sees the values first; then a param may be a whole program.
        fed: A slot in what the text gets to read.
    """
    rules = _Rules(reader.commands, types, confirmed=confirmed, fed=fed or _first(reader.slots))
    for slot in reader.slots:
        rules.computed(slot)
    rules.computed_names(reader.computed)
    for command in reader.commands:
        rules.check(command)
    for at, what in reader.problems:
        tell(at, what)
    for slot, what in rules.problems:
        tell(slot, what)


def check_arguments(
    words: Sequence[Word],
    types: Mapping[str, str],
    tell: Tell,
    *,
    confirmed: bool,
    fed: Slot | None = None,
) -> None:
    """Do the same for a program and its arguments, which no shell reads."""
    command = Command([*words])
    rules = _Rules([command], types, confirmed=confirmed, fed=fed)
    rules.check(command)
    for slot, what in rules.problems:
        tell(slot, what)


def _first(slots: Sequence[Slot]) -> Slot | None:
    return slots[0] if slots else None


class _Rules:
    def __init__(
        self,
        commands: Sequence[Command],
        types: Mapping[str, str],
        *,
        confirmed: bool,
        fed: Slot | None,
    ) -> None:
        self.problems: list[tuple[Slot, str]] = []
        self._types = types
        self._confirmed = confirmed
        self._fed = fed
        self._has_integers = any(map(_declares_integers, commands))
        self._tainted = {"@", "*", *"123456789"} | _tainted(commands, lambda slot: True)
        texts = _tainted(commands, lambda slot: not self._is_plain(slot))
        self._texts = texts | ({"@", "*", *"123456789"} if _calls_itself(commands) else set())
        """Variables that may have other values than numbers."""

    def computed(self, slot: Slot) -> None:
        if slot.arithmetic and not self._is_plain(slot):
            self._refuse(slot, "is computed with; say `type: integer`")

    def computed_names(self, names: set[str]) -> None:
        if self._fed is not None and (found := names & self._texts):
            self._refuse(self._fed, f"gets into ${min(found)}, which is computed with")

    def _is_plain(self, slot: Slot) -> bool:
        return self._types[slot.name] in _PLAIN

    def _refuse(self, slot: Slot, why: str) -> None:
        self.problems.append((slot, f"{{{{{slot.name}}}}} {why}"))

    def _values(self, word: Word) -> bool:
        """Return whether any value gets into the word, by whichever way."""
        return bool(word.slots or word.nested or word.names & self._tainted)

    def _refuse_word(self, word: Word, why: str) -> None:
        slots = [*word.slots, *word.nested]
        if slots:
            self._refuse(slots[0], why)
        elif self._fed is not None and (names := word.names & self._tainted):
            self.problems.append((self._fed, f"${min(names)}, which has a value, {why}"))

    # One command

    def check(self, command: Command) -> None:
        words = _without_reserved(command.words)
        for operator, target in command.targets:
            if operator.endswith("&"):
                self._refuse_word(target, "chooses a descriptor")
        while words and (name := words[0].assigns) is not None:
            self._assignment(name, words[0])
            words = words[1:]
        if not words or words[0].text in ("for", "select", "case"):
            if words[1:] and words[0].text != "case":
                self._refuse_word(words[1], "would name a variable")
            return
        if words[0].text in ("[", "[[", "test"):
            self._test(words)
        elif words[0].text in ("export", "readonly", "local"):
            self._export(words)
        else:
            self._program(words, command)

    def _assignment(self, name: str, word: Word) -> None:
        if POWERFUL.fullmatch(name):
            self._refuse_word(word, f"would set {name}, which can choose what is run")
        elif self._has_integers and not all(map(self._is_plain, word.slots)):
            self._refuse_word(word, "may be computed with, as `declare -i` makes it; say its type")

    def _export(self, words: Sequence[Word]) -> None:
        is_integer = any(re.match(r"-\w*[in]", word.text) for word in words)
        for word in words[1:]:
            if word.assigns is None or is_integer:
                self._refuse_word(word, f"stands where {words[0].text} takes names")
            else:
                self._assignment(word.assigns, word)

    def _test(self, words: Sequence[Word]) -> None:
        texts = {word.text for word in words}
        computes = any(_NUMERIC.match(text) for text in texts) or bool(texts & {"-v", "-R"})
        for word in words[1:]:
            if computes and not all(map(self._is_plain, [*word.slots, *word.nested])):
                self._refuse_word(word, "is compared as a number; say `type: integer`")
            if computes:
                self.computed_names(word.names | {*IDENTIFIER.findall(word.text)})
        if not texts & _TESTS and words[0].text != "[[":
            self._options(words)

    def _program(self, words: Sequence[Word], command: Command) -> None:
        for place in _programs(words):
            program, arguments = words[place], words[place + 1 :]
            if self._values(program):
                self._refuse_word(program, "chooses the program that is run, which no caller may; "
                                  "as the whole script it may with `confirm: true`")  # fmt: skip
                return
            name = _name(program)
            if name in _BUILTINS or (name == "printf" and arguments[:1] and
                                     arguments[0].text == "-v"):  # fmt: skip
                for word in arguments:
                    self._code(word, name)
            for word in code_of(name, arguments):
                self._code(word, name)
            for word in scripts_of(name, arguments):
                self._script(word, name)
            if name == "let":
                self.computed_names({n for w in arguments for n in IDENTIFIER.findall(w.text)})
            if reads_code(name, arguments):
                self._input(name, command)
            if place:
                self._added(words, name, arguments, command)
        self._options(words)

    def _code(self, word: Word, program: str) -> None:
        is_whole = _is_whole(word)
        if self._values(word) and not (self._confirmed and is_whole and not joins_code(program)):
            self._refuse_word(word, code_refused(program, is_whole=is_whole))

    def _script(self, word: Word, program: str) -> None:
        if self._values(word) and not (self._confirmed and _is_whole(word)):
            why = f"chooses the code that {program} runs, which no caller may; "
            self._refuse_word(word, f"{why}as the whole word it may with `confirm: true`")

    def _input(self, name: str, command: Command) -> None:
        """Refuse a program that reads code, when values may be in what it reads."""
        given = [
            word
            for operator, word in command.targets
            if operator in ("<", "<<", "<<-", "<<<") and not names_input(word.text)
        ]
        if self._fed is not None and (not given or any(map(self._values, given))):
            self._refuse(self._fed, f"may get into the code that {name} reads from its input")

    def _added(
        self, words: Sequence[Word], name: str, arguments: Sequence[Word], command: Command
    ) -> None:
        """Refuse code to which `xargs` or `find` adds what they read."""
        is_xargs, mark = "xargs" in map(_name, words), _mark(words)
        if is_xargs and lacks_code(name, arguments):
            self._input(name, command)
        if self._fed is not None and mark is not None:
            code = [*code_of(name, arguments), *scripts_of(name, arguments)]
            if (is_xargs and takes_code(name)) or any(mark in word.text for word in code):
                by = "xargs" if is_xargs else "find"
                self._refuse(self._fed, f"may get into code for {name}, where {by} puts it")

    def _options(self, words: Sequence[Word]) -> None:
        """Mark slots at the start of a word, but for those behind `--`, and echo's."""
        if words[0].text == "echo":
            return
        for word in words[1:]:
            if word.text == "--":
                return
            dashes, slot = _beginning(word)
            if slot is not None and not dashes:
                slot.is_option = True
            elif slot is not None and not self._is_plain(slot):
                self._refuse(slot, "would choose an option; say `type: integer`")


def _is_whole(word: Word) -> bool:
    return word.text in ("\0", "") and not word.nested


def _beginning(word: Word) -> tuple[str, Slot | None]:
    """Return the dashes at the start of a word, and the slot that follows them."""
    dashes = ""
    for part in word.parts:
        if not isinstance(part, str):
            return dashes, part
        if part.strip("-"):
            break
        dashes += part
    return dashes, None


def code_refused(program: str, *, is_whole: bool) -> str:
    """Return why a value is refused in code, and the way out."""
    out = ", or say `confirm: true` to let a person see it first" if is_whole else ""
    return (
        f"stands in code for {program}, where no quoting is safe; let the code read it from the "
        f"environment, as GANTZ_ARG_...{out}"
    )


def _name(word: Word) -> str:
    """Return the name of a program; that of `$PYTHON` and the like says what it is."""
    if word.text == "\0" and word.names:
        return min(word.names).lower().split("_")[0].replace("shell", "sh")
    return os.path.basename(word.text)


def _mark(words: Sequence[Word]) -> str | None:
    """Return what `xargs` or `find` replaces in arguments by what it reads, if anything."""
    if "xargs" in map(_name, words):
        for word, following in itertools.pairwise([*words, Word()]):
            if (found := re.fullmatch(r"(-\w*?[IiJ]|--replace=?)(.*)", word.text)) is not None:
                return found[2] or (following.text if found[1][-1] in "IJ" else "{}")
    return "{}" if any(word.text in _EXECUTES for word in words) else None


def _without_reserved(words: Sequence[Word]) -> Sequence[Word]:
    start = 0
    while start < len(words) and not words[start].is_quoted and words[start].text in _RESERVED:
        start += 1
    return words[start:]


def _declares_integers(command: Command) -> bool:
    texts = [word.text for word in command.words]
    names = {"declare", "typeset", "local", "readonly", "export"}
    return bool(names & {*texts}) and any(re.match(r"[-+]\w*i", text) for text in texts)


def _calls_itself(commands: Sequence[Command]) -> bool:
    """Return whether there may be positional parameters: of functions, or by `set`."""
    first = [command.words[0].text for command in commands if command.words]
    return "set" in first or len(first) > len({*first})


def _tainted(commands: Sequence[Command], counts: Callable[[Slot], bool]) -> set[str]:
    """Return the variables that values get into: by assignments, loops and `read`."""
    tainted: set[str] = set()
    before = -1
    while before < len(tainted):
        before = len(tainted)
        for command in commands:
            tainted.update(_sets(_without_reserved(command.words), tainted, counts))
    return tainted


def _sets(
    words: Sequence[Word], tainted: set[str], counts: Callable[[Slot], bool]
) -> Iterator[str]:
    texts = [word.text for word in words]
    if {"read", "mapfile", "readarray"} & {*texts}:
        yield from texts
    loop = texts[:1] in (["for"], ["select"])
    for word in words:
        if any(map(counts, [*word.slots, *word.nested])) or word.names & tainted:
            if loop and len(texts) > 1:
                yield texts[1]
            if word.assigns is not None:
                yield word.assigns


def _programs(words: Sequence[Word]) -> Iterator[int]:
    """Yield the place of each word that names a program, or may: behind `sudo` and the like too.

    An option of theirs may take the word behind it for its value, so one word more counts then.
    """
    yield 0
    name, start = os.path.basename(words[0].text), 1
    while name in WRAPPERS:
        places = list(_behind(words, start, *WRAPPERS[name]))
        yield from places
        wrapped = [at for at in places if os.path.basename(words[at].text) in WRAPPERS]
        if not wrapped:
            break
        name, start = os.path.basename(words[wrapped[0]].text), wrapped[0] + 1
    texts = [word.text for word in words]
    for at, text in enumerate(texts[:-1]):
        if text in _EXECUTES:
            yield at + 1
    if {"exec", "run"} & {*texts[1:]}:  # of docker, kubectl, uv and others
        yield from (at for at, word in enumerate(words) if at and takes_code(_name(word)))


def _behind(words: Sequence[Word], start: int, operands: int, flags: str) -> Iterator[int]:
    """Yield the places behind a wrapper at which its program may stand."""
    candidates = 1
    for at in range(start, len(words)):
        text = words[at].text
        if text.startswith("-"):
            takes = not re.fullmatch(
                rf"-[{flags}]+|-\w\d+|--|--[\w-]+=.*|--[\w-]+ly|--fore\w+", text
            )
            candidates += takes
        elif words[at].assigns is None:
            if operands:
                operands -= 1
                continue
            yield at
            candidates -= 1
            if not candidates:
                return
