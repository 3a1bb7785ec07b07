"""Programs that take code as an argument or from their input, and where it stands.

What is not here takes arguments for what they are, as far as this package knows.
"""

import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..commands import refuse_code
from ..errors import InvalidOption
from .interpreters import names_input, taken
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
    commands: tuple[str, ...] = ()
    """Words before the operands that name what it does with them."""
    takes: str = ""
    """Letters of options that take a value, which is none."""
    pairs: tuple[str, ...] = ()
    """Long options that take a name and a value."""
    long: str = "--"
    """How long options begin."""
    more: tuple[str, ...] = ()
    """Options whose value is code, after which it reads more."""
    files: tuple[str, ...] = ()
    """Options that name a file of code, which is read instead of the input."""
    reads: int | None = None
    """It reads code from its input when it has no more operands than this."""


_SQLITE = (
    "--header", "--noheader", "--csv", "--json", "--jsonlines", "--line", "--list", "--column",
    "--html", "--box", "--table", "--markdown", "--quote", "--ascii", "--batch", "--bail", "--echo",
    "--readonly", "--safe", "--stats", "--interactive", "--no-stdin", "--unsigned",
)  # fmt: skip
_LANGUAGES = [
    Language(r"[gmn]?awk", ("-e", "--source"), 0, takes="FvfiEl", flags=("--posix",),
             files=("-f", "--file", "-E", "--exec")),
    Language(r"g?sed", ("-e", "--expression"), 0, takes="fl", files=("-f", "--file"),
             flags=("--quiet", "--silent", "--in-place", "--regexp-extended", "--null-data")),
    Language(r"jq|gojq|jaq|yq", (), 0, takes="Lf", files=("-f", "--from-file"),
             pairs=("--arg", "--argjson", "--slurpfile", "--rawfile"),
             commands=("e", "eval", "ea", "eval-all"),
             flags=("--raw-output", "--compact-output", "--slurp", "--null-input", "--raw-input",
                    "--exit-status", "--sort-keys", "--join-output", "--tab", "--args")),
    Language(r"ssh|autossh", (), 1, rest=True, joins=True, takes="bcDEeFIiJLlmOopQRSWw",
             more=("-o",), reads=1),
    Language(r"watch", (), 0, rest=True, joins=True, takes="n"),
    Language(r"parallel|entr|rlwrap|at|batch|crontab", (), 0, rest=True, joins=True, reads=9),
    Language(r"su", ("-c", "--command"), reads=9),
    Language(r"runuser|script", ("-c", "--command")),
    Language(r"psql", ("-c", "--command"), takes="dfFhHLopPRTUv", files=("-f", "--file"), reads=9),
    Language(r"mysql|mariadb", ("-e", "--execute"), takes="DhPSu", more=("--init-command",),
             reads=9),
    Language(r"sqlite3", (), 1, rest=True, long="-", more=("-cmd",), reads=1, flags=_SQLITE,
             pairs=("--lookaside", "--pagecache", "-lookaside", "-pagecache")),
    Language(r"duckdb", ("-c", "-s"), 1, rest=True, long="-", more=("-cmd",), reads=1,
             files=("-f", "-file"), flags=_SQLITE),
    Language(r"R", ("-e",), files=("-f", "--file", "CMD"), reads=9),
    Language(r"ed|ex|vi|vim|nvim", (), more=("-e", "-c"), reads=9),
    Language(r"dc|gdb|gnuplot", ("-e", "-ex", "-batch", "--batch"), 
             files=("-f", "-x", "--command"), reads=1),
    Language(r"rsync", ("-e", "--rsh", "--rsync-path")),
    Language(r"g?tar", ("-I", "-F", "--to-command", "--checkpoint-action", "--info-script",
                        "--use-compress-program")),
    Language(r"git", ("--upload-pack", "--receive-pack", "--exec-path", "--exec")),
]  # fmt: skip


_READS_ON = re.compile(r"(\\i|\.read|\bsource|(?<!\S)\.)\s+['\"]?(-|/dev/(stdin|fd)|/proc/)")
"""In code: go on with what stands in a file, which is the input."""


def code_of(program: str, arguments: Sequence[Word]) -> Iterator[Word]:
    """Yield the arguments that are code, or may be."""
    yield from _interpreted(program, arguments)
    if (found := taken(program, arguments)) is not None:
        yield from found.code
    for language in _named(program):
        yield from _code(language, arguments)


def scripts_of(program: str, arguments: Sequence[Word]) -> Iterator[Word]:
    """Yield the arguments that name a file of code, or may."""
    if program not in WRAPPERS and (found := taken(program, arguments)) is not None:
        yield from found.scripts
    for language in _named(program):
        yield from _values(language, arguments, language.files)


def joins_code(program: str) -> bool:
    """Return whether one argument can't be the whole code."""
    return program == "eval" or any(language.joins for language in _named(program))


def takes_code(program: str) -> bool:
    """Return whether the program is an interpreter."""
    return taken(program, ()) is not None or any(
        language.reads is not None for language in _named(program)
    )


def lacks_code(program: str, arguments: Sequence[Word]) -> bool:
    """Return whether more arguments would be code."""
    return reads_code(program, arguments) or any(
        language.operand is not None and not any(True for _ in _code(language, arguments))
        for language in _named(program)
    )


def reads_code(program: str, arguments: Sequence[Word]) -> bool:
    """Return whether the program's input is code."""
    if program in (".", "source"):
        return any(names_input(word.text) for word in arguments[:1])
    found = taken(program, arguments)
    return (
        (found is not None and found.reads)
        or any(_reads(language, arguments) for language in _named(program))
        or any(_READS_ON.search(word.text) for word in code_of(program, arguments))
    )


def _named(program: str) -> Iterator[Language]:
    return (each for each in _LANGUAGES if re.fullmatch(each.programs, program))


def _reads(language: Language, arguments: Sequence[Word]) -> bool:
    files = list(_values(language, arguments, language.files))
    if any(names_input(re.sub(r"\A(--[\w-]+=|-\w)", "", word.text)) for word in files):
        return True
    announced = any(True for _ in _values(language, arguments, language.options))
    if language.reads is None or announced or files:
        return False
    operands = [word for word in _operands(language, arguments) if word.text != "-"]
    if len(operands) <= language.reads + _unknown(language, arguments):
        return True
    return language.joins and _joined_reads(operands)


def _joined_reads(operands: Sequence[Word]) -> bool:
    """Return whether a program in a line for another shell reads code: `ssh host bash -s`."""
    texts = " ".join(word.text for word in operands).replace("'", " ").replace('"', " ").split()
    words = [Word([text]) for text in texts]
    return any(
        takes_code(name) and reads_code(name, words[place + 1 :])
        for place, name in enumerate(map(os.path.basename, texts))
        if place
    )


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


def _values(
    language: Language, arguments: Sequence[Word], options: Sequence[str]
) -> Iterator[Word]:
    """Yield the values of options."""
    for place, word in enumerate(arguments):
        for option in options:
            if word.text == option or (language.long == "--" and _ends_with(word.text, option)):
                yield from arguments[place + 1 : place + 2]
            elif language.long == "--" and word.text.startswith(
                f"{option}=" if option.startswith("--") else option
            ):
                yield word


def _ends_with(text: str, option: str) -> bool:
    """Return whether letters in one, as in `-Atc`, end with the option."""
    return len(option) == 2 and re.fullmatch(rf"-[A-Za-z0-9]*{option[1]}", text) is not None


def _code(language: Language, arguments: Sequence[Word]) -> Iterator[Word]:
    announced = list(_values(language, arguments, (*language.options, *language.more)))
    yield from announced
    if language.operand is None or (announced and not language.rest):
        return
    operands = list(_operands(language, arguments))[language.operand :]
    yield from operands if language.rest else operands[: 1 + _unknown(language, arguments)]


def _unknown(language: Language, arguments: Sequence[Word]) -> int:
    """Count long options whose value may look like an operand."""
    known = {*language.flags, *language.pairs}
    texts = [word.text for word in arguments if word.text.startswith(language.long)]
    return sum(
        "=" not in text and f"--{name}" not in known for text in texts if (name := text.lstrip("-"))
    )


def _operands(language: Language, arguments: Sequence[Word]) -> Iterator[Word]:
    skip, ended, commands = 0, False, language.commands
    for word in arguments:
        text = word.text
        if skip:
            skip -= 1
        elif text == "--":
            ended = True
        elif text in language.pairs:
            skip = 2
        elif ended or not text.startswith("-") or text == "-":
            if text and text not in commands:  # nothing is a value of `-i` of another system
                yield word
            commands = ()
        elif len(text) == 2 and text[1] in language.takes:
            skip = 1
