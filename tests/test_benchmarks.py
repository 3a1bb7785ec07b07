"""The benchmarks measure what they say: each way of each part is run once, in small."""

import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from .benchmarks import picture, profile, readme, tables
from .benchmarks.peers import AIOJOBS, BARE, TASK, TASKIQ
from .benchmarks.registry import PARTS
from .benchmarks.results import Results, Run, load
from .benchmarks.rounds import ROOT, Taken, in_fresh_process, measure
from .benchmarks.shape import OURS, Figures, Goal, Part, Way

SMALL = {
    "jobs": 20, "burst": 20, "times": 20, "turns": 2, "few": 20, "many": 40, "batch": 5,
    "settle": 10, "kept": 20, "more": 5, "milliseconds": 50, "streams": 3, "events": 3,
    "interpreters": 1, "megabytes": 1,
}  # fmt: skip
WAYS = [
    pytest.param(part, way, id=f"{part.name}: {way.name}")
    for part in PARTS.values()
    for way in part.ways
]
MACHINE = {"cpu": "a\\1", "cores": "2", "memory": "b", "system": "c", "date": "d", "load": "0.1"}


def run_of(rounds: dict[str, list[Figures | None]], python: str = "3.11.7") -> Run:
    """Return a run with figures of throughput."""
    left_out = {TASKIQ: "taskiq is not installed"}
    return Run(python, {}, {"throughput": Taken({"jobs": 10}, rounds, left_out)})


def rates(*values: float | None) -> list[Figures | None]:
    return [None if value is None else {"rate": value} for value in values]


@pytest.mark.parametrize("part, way", WAYS)
@pytest.mark.slow  # each is a process of its own, and some start a server
def test_a_way_gives_its_figures(part: Part, way: Way) -> None:
    """A benchmark that doesn't run, or measures nothing, is found here and not in the README."""
    if way.missing:
        pytest.skip(f"{', '.join(way.missing)} is not installed; it comes with the extra `bench`")
    figures = in_fresh_process(part, way, {name: SMALL[name] for name in part.sizes})
    assert set(figures) == {figure.key for figure in part.figures}
    assert all(math.isfinite(value) for value in figures.values())


@pytest.mark.slow  # measures in processes of their own
def test_one_command_measures_and_keeps_the_figures(tmp_path: Path) -> None:
    """What is measured can be told again without measuring it again."""
    kept = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.benchmarks", "watchdog", "--rounds", "2",
               "--size", "jobs=20", "--size", "turns=2", "--size", "streams=3",
               "--json", str(kept)]  # fmt: skip
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "| jobs per second with the watchdog, of those without | at least 0.98 |" in said
    taken = load(kept).runs[0].parts["watchdog"]
    assert (taken.sizes, len(taken.rounds[OURS])) == ({"jobs": 20, "turns": 2}, 2)
    command = [sys.executable, "-m", "tests.benchmarks", "--from", str(kept)]
    again = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert again == said


@pytest.mark.slow  # starts an interpreter
def test_an_unknown_part_is_named() -> None:
    """Who mistypes a part learns which there are."""
    command = [sys.executable, "-m", "tests.benchmarks", "thruput"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "no part 'thruput'; there are: throughput, latency" in done.stderr


@pytest.mark.slow  # starts interpreters
def test_what_fails_or_is_not_installed_stops_nobody_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One peer that is broken must not cost an hour of the others' figures."""
    part = PARTS["watchdog"]
    absent = Way("absent", part.ways[0].measure, ["no_module_of_this_name"])
    part = replace(part, ways=[absent, *part.ways])
    taken = measure(part, rounds=2, sizes={"jobs": 5, "turns": 0}, python=sys.executable)
    assert taken.left_out == {"absent": "no_module_of_this_name is not installed"}
    assert taken.rounds == {OURS: [None, None]}
    assert "StatisticsError" in capsys.readouterr().err


def test_a_ratio_is_one_of_the_same_round() -> None:
    """The machine is slow in one round and fast in the next; within a round it is the same."""
    run = run_of({BARE: rates(100, 1_000, 300), OURS: rates(50, 400, 240)})
    assert run.ratios("throughput", OURS, "rate", BARE) == [0.5, 0.4, 0.8]
    assert run.reached(PARTS["throughput"], Goal("rate", of=BARE)) == 0.5
    assert run.reached(PARTS["throughput"], Goal("rate")) == 240


def test_a_round_that_failed_is_left_out_of_ratios_only_with_its_own_pair() -> None:
    """Otherwise a failure would pair the figures of different rounds from there on."""
    run = run_of({BARE: rates(100, 200, 300), OURS: rates(None, 100, 300)})
    assert run.ratios("throughput", OURS, "rate", BARE) == [0.5, 1.0]


def test_goals_are_met_at_their_bound_and_missed_beyond() -> None:
    """The mark in the table is what people believe."""
    assert Goal("x", least=2.0).met(2.0) and not Goal("x", least=2.0).met(1.99)
    assert Goal("x", most=2.0).met(2.0) and not Goal("x", most=2.0).met(2.01)
    old = {BARE: rates(100), OURS: rates(50), TASK: rates(60), AIOJOBS: rates(40)}
    said = tables.goals(Results(MACHINE, [run_of(old)]))
    assert re.findall(r"\| (at least \S+ of [^|]+?) \| ([^|]+?) \| (.*?) \|", said) == [
        ("at least 0.45 of bare loop", "0.50", "met"),
        ("at least 0.9 of task per job", "0.83", "missed"),
        ("at least 1.1 of aiojobs", "1.25", "met"),
        ("at least 4 of taskiq InMemoryBroker", "not measured", ""),
        ("at least 100 of docket memory://, tuned", "not measured", ""),
    ]
    new = tables.goals(Results(MACHINE, [run_of(old, "3.13.0")]))
    assert "| 3.13 |" in new and "at least 0.7 of bare loop | 0.50 | missed" in new
    assert "0.45" not in new


def test_the_tables_say_what_failed_and_what_was_left_out() -> None:
    """A line that is simply not there would look as if nobody had wanted to measure it."""
    run = run_of({BARE: rates(100, 300), OURS: rates(50, 60), AIOJOBS: rates(None)})
    said = tables.everything(Results(MACHINE, [run]))
    assert "| bare loop | 200 (100 to 300) |" in said
    assert "| jobrunner | **55.0 (50.0 to 60.0) x0.35** |" in said
    assert "| aiojobs | failed |" in said
    assert "Left out: taskiq InMemoryBroker, taskiq is not installed." in said


@pytest.mark.parametrize(
    "value, text",
    [(0, "0"), (1234567.8, "1,234,568"), (12.34, "12.3"), (1.234, "1.23"), (0.0123, "0.0123"),
     (-3.456, "-3.46")],
)  # fmt: skip
def test_numbers_have_the_digits_that_say_something(value: float, text: str) -> None:
    """More digits would pretend to know more than was measured."""
    assert tables.number(value) == text


def test_only_what_is_between_the_marks_is_written(tmp_path: Path) -> None:
    """The rest of the README is people's."""
    mark, end = readme.BEGIN.format(readme.COMMAND), readme.END
    text, figures, drawn = (tmp_path / name for name in ("README.md", "figures.md", "speed.svg"))
    for path in (text, figures):
        path.write_text(f"before\n{mark}\nold\n{end}\nother's\n{end}\nafter\n", "utf-8")
    results = Results(MACHINE, [run_of({BARE: rates(100), OURS: rates(50)})])
    readme.write(results, readme=text, picture_to=drawn, figures=figures)
    first = text.read_text("utf-8")
    readme.write(results, readme=text, picture_to=drawn, figures=figures)
    assert text.read_text("utf-8") == first
    assert first.startswith(f"before\n{mark}\n\n") and first.endswith(
        f"\n\n{end}\nother's\n{end}\nafter\n"
    )
    assert "old" not in first
    assert "| **jobrunner** | **50.0** | **0.50** |" in first
    assert "| bare loop | 100 |" in figures.read_text("utf-8")
    text.write_text("no marks", "utf-8")
    with pytest.raises(ValueError, match="has no line"):
        readme.write(results, readme=text, picture_to=drawn, figures=figures)


def test_the_files_have_the_marks() -> None:
    """The command would fail at its end, after all the measuring."""
    for path, command in ((readme.README, readme.COMMAND), (readme.FIGURES, readme.COMMAND),
                          (readme.FIGURES, profile.COMMAND)):  # fmt: skip
        assert readme.BEGIN.format(command) in path.read_text("utf-8")


def test_the_picture_shows_each_way_in_its_order_and_to_scale() -> None:
    """Bars that lie are worse than none."""
    run = run_of({BARE: rates(100, 100), OURS: rates(50, 70), TASK: rates(80), AIOJOBS: rates(1e6)})
    drawn = ElementTree.fromstring(picture.draw(run, "<a & b>"))
    space = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in drawn.iter(f"{space}text")]
    assert texts[1:] == ["<a & b>", "Jobs per second", "aiojobs", "1,000,000", BARE, "100",
                         TASK, "80.0", OURS, "60.0"]  # fmt: skip
    bars = [bar for bar in drawn.iter(f"{space}rect") if "bar" in bar.attrib["class"]]
    widths = [float(bar.attrib["width"]) for bar in bars]
    assert widths[1] / widths[2] == pytest.approx(100 / 80, rel=0.01)
    assert widths[0] <= picture.COLUMN  # cut off
    assert [bar.attrib["class"] for bar in bars] == ["bar", "bar", "bar", "bar ours"]


def test_each_function_is_in_one_step_and_what_nobody_knows_in_the_last() -> None:
    """A file that is new must not fall out of the table."""
    profile_ = profile.Profile(jobs=10, cpu=100e-6)
    seen = {("packing", "pack"): 5, ("queue", "put"): 3, ("new", "f"): 1, ("", profile.LOOP): 1}
    profile_.samples.update(seen)
    least = dict.fromkeys((need for step in profile.STEPS for need in step.needs), 1.0)
    said = profile.steps_table(profile_, least, bare=4.5)
    rows = dict(re.findall(r"^\| ([^|]+?) \| (.*?) \|$", said, re.MULTILINE))
    assert rows["the final job packed"] == "1.00 | 5.00"
    assert rows["the queue, gates, timers"] == "2.00 | 3.00"
    assert rows[profile.LOOP] == "0 | 2.00"
    assert rows["**together**"].endswith("| 10.0")
    assert rows["the bare loop, and all that a job may cost at 0.45 of it"] == "10.0 | 4.50"


@pytest.mark.slow  # runs some thousand jobs
def test_the_profile_shares_out_all_the_time() -> None:
    """What isn't in the table would be looked for nowhere."""
    command = [sys.executable, "-m", "tests.benchmarks.profile", "--jobs", "3000", "--top", "5"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    steps = re.findall(r"^\| ([^|]+?) \| ([\d.]+) \| ([\d.]+) \|$", done.stdout, re.MULTILINE)
    names = [name for name, _, _ in steps]
    assert names[: len(profile.STEPS)] == [step.title for step in profile.STEPS]
    together = float(steps[names.index("**together**")][2])
    parts = sum(float(now) for _, _, now in steps[: len(profile.STEPS)])
    assert parts == pytest.approx(together, rel=0.05)


@pytest.mark.slow  # an interpreter, and some hundred jobs
def test_jobs_that_wait_for_people_are_measured() -> None:
    """The README says what each of them holds, and names this command."""
    command = [sys.executable, "-m", "tests.benchmarks.waiting", "--jobs", "100"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert re.match(r"[\d,]+ bytes for each of 100 jobs that wait for an answer\n", done.stdout)
