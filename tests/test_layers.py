"""Imports point one way."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import jobrunner
from tests.tabled import table

ROOT = Path(jobrunner.__file__).parent
FILES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")
SAMPLES = {"demo_suite"}
"""What jobs work on; no part of the package."""
LINES = """
    errors wording docstrings signing addresses
    limits redaction schemas revealing results event joining events timers http_errors retry batches
    questions jobs partial views stats_views
    options output
    gates queue submit_options handles subjobs parents askers
    process_table processes commands signals inbox said context current capture
    fingerprints handlers signatures
    pages packing feed
    witnesses tally groups listing store heritage endings threads stuck failures
    deliveries direct posting hosts couriers webhooks engines sight watchdog single attempt aside
    asking outcomes worker control pool submission job_types lookup answering steering
    batch_views batch_intake batch_handles batching nesting lifetime
    toolbox_text toolbox_output toolbox_scope
    toolbox_formats toolbox_status toolbox_advice toolbox_answers toolbox_errors toolbox_arguments
    toolbox_actions toolbox_names toolbox tooling runner public
    metrics tracing telemetry
    client_address client_errors client_http client_events client_progress client_waiting
    client_jobs client_batches client_watching client_batching client_async client_bridge
    client_sync_batches client_sync client|tools web whereabouts crowd server demo cli __main__
    testing pytest_plugin
""".strip().splitlines()
ORDER = [names.split("|") for line in LINES for names in line.split()]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}


def layer(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Yield the layers that a file imports, wherever in it the import stands."""
    package = ["jobrunner", *path.relative_to(ROOT).parts[:-1]]
    for node in statements(path):
        names = [alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)]
        if isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = [*start, *(node.module or "").split(".")] if node.module else start
            names = [".".join([*module, name]) for name in names]
        parts = [name.split(".") for name in names]
        yield from (p[1] for p in parts if p[0] == "jobrunner" and p[1:] and p[1] != "__version__")


def statements(path: Path) -> Iterator[ast.AST]:
    """Yield the statements of a file, one in another too; no import is anywhere else."""
    left: list[ast.AST] = [ast.parse(path.read_text())]
    while left:
        yield (node := left.pop())
        for inside in ("body", "orelse", "handlers", "finalbody", "cases"):
            found = getattr(node, inside, None)
            left += found if isinstance(found, list) else []  # an expression has a body too


def test_every_file_has_its_place() -> None:
    """What stands nowhere in the order is held to none."""
    assert {layer(path) for path in FILES} <= RANK.keys() | SAMPLES


@pytest.mark.parametrize("line", [line.strip() for line in LINES])
def test_imports_only_what_stands_before_it(line: str) -> None:
    """One order, so that every module can be read, and tested, without those after it."""
    here = {name for names in line.split() for name in names.split("|")}
    with table() as case:
        for path in FILES:
            if (own := layer(path)) in here:
                with case(str(path.relative_to(ROOT))):
                    later = [n for n in imports(path) if n != own and RANK[n] >= RANK[own]]
                    assert later == []


def test_the_client_imports_only_what_goes_over_the_wire() -> None:
    """Who talks to a server shouldn't load one."""
    files = {layer(p): p for p in FILES if layer(p).startswith("client")}
    known = {"errors", "limits", "events", "jobs", "views", "batch_views", "deliveries",
             "stats_views", "redaction", "revealing", *files}  # fmt: skip
    assert [name for path in files.values() for name in imports(path) if name not in known] == []
