"""Programs that take code as an argument or from their input, and where it stands.

What is not here takes arguments for what they are, as far as this package knows.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..commands import refuse_code
from ..errors import InvalidOption
from .shell_words import Word

WRAPPERS = {
    "exec": (0, "cl"), "command": (0, "pvV"), "builtin": (0, "p"), "env": (0, "iv0"),
    "nohup": (0, "p"), "sudo": (0, "nEHSkbKAiPs"), "doas": (0, "nsL"), "time": (0, "pvaV"),
    "nice": (0, "0"), "ionice": (0, "t"), "setsid": (0, "cfw"), "stdbuf": (0, "0"),
    "xargs": (0, "0rtpxo"), "timeout": (1, "v"), "chroot": (1, "0"), "strace": (0, "fqvVtTrxy"),
    "flock": (1, "nsxeuo"), "unbuffer": (0, "p"), "caffeinate": (0, "disum"), "busybox": (0, "p"),
}  # fmt: skip
"""Programs that run another: how many operands stand before its name, and flags without value."""


class Language(NamedTuple):
    """How a program takes its code."""

    programs: str
    options: tuple[str, ...] = ()
    """Options whose value is code."""
    operand: int | None = None
    """The first operand that is code, from 0, when no such option is given."""
    rest: bool = False
    """Whether all operands from there are code."""
    joins: bool = False
    """Whether its operands are one code together."""
    flags: tuple[str, ...] = ()
    """Long options that take no value; any other might."""
    takes: str = ""
    """Letters of options that take a value, which is none."""
    pairs: tuple[str, ...] = ()
    """Long options that take a name and a value."""
    files: tuple[str, ...] = ()
    """Options that name a file of code, which is read instead of the input."""
    reads: int | None = None
    """It reads code from its input when it has no more operands than this."""


_LANGUAGES = [
    Language(r"[gmn]?awk", ("-e", "--source"), 0, takes="FvfiEl", flags=("--posix",)),
    Language(r"g?sed", ("-e", "--expression"), 0, takes="fl",
             flags=("--quiet", "--silent", "--in-place", "--regexp-extended", "--null-data")),
    Language(r"jq|gojq|jaq|yq", (), 0, takes="Lf",
             pairs=("--arg", "--argjson", "--slurpfile", "--rawfile"),
             flags=("--raw-output", "--compact-output", "--slurp", "--null-input", "--raw-input",
                    "--exit-status", "--sort-keys", "--join-output", "--tab", "--args")),
    Language(r"ssh|autossh", ("-o",), 1, rest=True, joins=True, takes="bcDEeFIiJLlmOpQRSWw"),
    Language(r"watch", (), 0, rest=True, joins=True, takes="n"),
    Language(r"parallel|entr|rlwrap|at|batch|crontab", (), 0, rest=True, joins=True, reads=9),
    Language(r"su|runuser|script", ("-c", "--command")),
    Language(r"psql", ("-c", "--command"), takes="dfFhHLopPRTUv", files=("-f", "--file"), reads=2),
    Language(r"mysql|mariadb", ("-e", "--execute"), takes="DhPSu", reads=1),
    Language(r"sqlite3|duckdb", ("-cmd",), 1, rest=True, reads=1),
    Language(r"(ba|da|z|k|fi|c|tc|a)?sh|python[\d.]*|perl|ruby|node|deno|bun|php|lua|Rscript|R",
             ("--eval", "--print", "--command"), reads=0),
    Language(r"ed|ex|vi|vim|nvim|dc|gdb|gnuplot|osascript", ("-e", "-c", "-ex"), reads=1),
    Language(r"rsync", ("-e", "--rsh", "--rsync-path")),
    Language(r"g?tar", ("-I", "-F", "--to-command", "--checkpoint-action", "--info-script",
                        "--use-compress-program")),
    Language(r"git", ("--upload-pack", "--receive-pack", "--exec-path", "--exec")),
]  # fmt: skip


def code_of(program: str, arguments: Sequence[Word]) -> Iterator[Word]:
    """Yield the arguments that are code, or may be."""
    yield from _interpreted(program, arguments)
    for language in _LANGUAGES:
        if re.fullmatch(language.programs, program):
            yield from _code(language, arguments)


def joins_code(program: str) -> bool:
    """Return whether one argument can't be the whole code."""
    return program == "eval" or any(
        language.joins and re.fullmatch(language.programs, program) for language in _LANGUAGES
    )


def takes_code(program: str) -> bool:
    """Return whether the program is an interpreter."""
    return any(
        each.reads is not None and re.fullmatch(each.programs, program) for each in _LANGUAGES
    )


def reads_code(program: str, arguments: Sequence[Word]) -> bool:
    """Return whether the program's input is code."""
    for language in _LANGUAGES:
        if language.reads is not None and re.fullmatch(language.programs, program):
            if any(True for _ in _announced(language, arguments)):
                return False
            texts = [word.text for word in arguments]
            if any(text.startswith(language.files) for text in texts):
                return False
            if any(re.match(r"-\w*[ceEpr]\Z|-m", text) for text in texts) and language.reads == 0:
                return "-s" in texts
            operands = [word for word in _operands(language, arguments) if word.text != "-"]
            return len(operands) <= language.reads
    return False


def _interpreted(program: str, arguments: Sequence[Word]) -> Iterator[Word]:
    """Yield what the interpreters that every command knows of take for code."""
    for place, word in enumerate(arguments):
        marked = "{{x}}" if word.slots or word.nested or word.names else ""
        texts = [program, *(each.text.replace("\0", "0") for each in arguments)]
        texts[place + 1] += marked
        try:
            refuse_code(texts)
        except InvalidOption:
            yield word


def _announced(language: Language, arguments: Sequence[Word]) -> Iterator[Word]:
    """Yield the values of options that take code."""
    for place, word in enumerate(arguments):
        for option in language.options:
            if word.text == option or _ends_with(word.text, option):
                yield from arguments[place + 1 : place + 2]
            elif word.text.startswith(f"{option}=" if option.startswith("--") else option):
                yield word


def _ends_with(text: str, option: str) -> bool:
    """Return whether letters in one, as in `-Atc`, end with the option."""
    return len(option) == 2 and re.fullmatch(rf"-[A-Za-z0-9]*{option[1]}", text) is not None


def _code(language: Language, arguments: Sequence[Word]) -> Iterator[Word]:
    announced = list(_announced(language, arguments))
    yield from announced
    if language.operand is None or (announced and not language.rest):
        return
    operands = list(_operands(language, arguments))[language.operand :]
    yield from operands if language.rest else operands[: 1 + _unknown(language, arguments)]


def _unknown(language: Language, arguments: Sequence[Word]) -> int:
    """Count long options whose value may look like an operand."""
    known = {*language.flags, *language.pairs, "--"}
    texts = [word.text for word in arguments]
    return sum(t.startswith("--") and "=" not in t and t not in known for t in texts)


def _operands(language: Language, arguments: Sequence[Word]) -> Iterator[Word]:
    skip, ended = 0, False
    for word in arguments:
        text = word.text
        if skip:
            skip -= 1
        elif text == "--":
            ended = True
        elif text in language.pairs:
            skip = 2
        elif ended or not text.startswith("-") or text == "-":
            if text:  # an empty word is the value of a `-i` of another system
                yield word
        elif len(text) == 2 and text[1] in language.takes:
            skip = 1
