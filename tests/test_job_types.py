"""The decorator that makes job types, and commands as job types."""

from typing import Any

import pytest

from jobrunner import (
    CommandResult,
    DuplicateJobType,
    InvalidHandler,
    InvalidOption,
    InvalidParams,
    JobRunner,
    RetryPolicy,
)
from jobrunner.handlers import Handler
from jobrunner.job_types import JobTypes
from tests import string_annotations

STRING = {"type": "string"}


def only(types: JobTypes) -> Handler:
    """Return the one type that is registered."""
    (handler,) = types.job_types
    return handler


def test_a_bare_decorator_registers_a_function_under_its_name() -> None:
    """A handler needs one line (row 2); the function stays what it is."""
    types = JobTypes()

    def build(path: str) -> str:
        """Build it."""
        return path

    assert types.job(build) is build
    handler = only(types)
    assert (handler.name, handler.function, handler.description) == ("build", build, "Build it.")
    assert (handler.options.timeout, handler.options.retry) == (..., None)


def test_a_decorator_with_options_passes_them_on() -> None:
    """Name, limit, policy and description of a type stand where it is written."""
    types, policy = JobTypes(), RetryPolicy(max_attempts=5)

    @types.job("deploy it", timeout=5, retry=policy, description="Ship.")
    def deploy() -> None: ...

    handler = only(types)
    assert (handler.name, handler.description) == ("deploy it", "Ship.")
    assert (handler.options.timeout, handler.options.retry, handler.function) == (
        5.0,
        policy,
        deploy,
    )


@pytest.mark.parametrize("timeout", [None, ...])
def test_a_type_may_have_no_limit_or_the_runners(timeout: Any) -> None:
    """None means none; not given means the runner's."""
    types = JobTypes()
    types.job(timeout=timeout)(lambda: None)
    assert only(types).options.timeout is timeout


def test_types_come_in_the_order_of_registration() -> None:
    """A list of tools reads as its author wrote it."""
    types = JobTypes()
    for name in ("c", "a", "b"):
        types.job(name)(lambda: None)
    assert [handler.name for handler in types.job_types] == ["c", "a", "b"]


def test_one_function_may_be_several_types() -> None:
    """With other limits, for example; the function itself then means the last of them."""
    types = JobTypes()

    def build() -> None: ...

    types.job("quick", timeout=1)(build)
    types.job("slow", timeout=100)(build)
    assert [(h.name, h.options.timeout) for h in types.job_types] == [
        ("quick", 1.0),
        ("slow", 100.0),
    ]


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), "5"])
def test_refuses_a_limit_that_is_none(timeout: Any) -> None:
    """Found where it is written, and nothing is registered."""
    types = JobTypes()
    with pytest.raises(InvalidOption, match="timeout is"):
        types.job("x", timeout=timeout)(lambda: None)
    assert types.job_types == []


def test_refuses_what_is_no_function_and_a_name_that_is_taken() -> None:
    """Nothing is registered by halves, and the message says how to go on."""
    types = JobTypes()
    with pytest.raises(InvalidHandler, match="5 is not a function"):
        types.job(5)  # type: ignore[call-overload]  # refused, as is tested
    types.job("x")(lambda: None)
    with pytest.raises(DuplicateJobType, match=r'as in @runner\.job\("another"\)'):
        types.job("x")(lambda: None)
    assert only(types).name == "x"


def test_resolves_string_annotations_where_the_decorator_stands() -> None:
    """Postponed annotations and types defined in a function go together."""
    runner = JobRunner()
    string_annotations.register_local(runner)
    pack, pack_all = runner.job_types
    assert pack.validate({"parcel": {"weight": "5"}})[1] == b'{"parcel":{"weight":5},"spare":null}'
    assert pack_all.validate({"parcels": [{"weight": 1}]})[1] == b'{"parcels":[{"weight":1}]}'


def test_a_function_from_elsewhere_keeps_its_types() -> None:
    """A type of the same name beside the decorator must not become the param's."""

    class Order:
        pass

    runner = JobRunner()
    runner.job(string_annotations.ship)
    (handler,) = runner.job_types
    assert handler.validate({"order": {"number": 1}})[0]["order"] == string_annotations.Order(
        number=1
    )
    assert Order.__module__ == __name__


def test_a_command_becomes_a_type_with_a_param_for_each_placeholder() -> None:
    """A command needs no function: its template is the signature (row 23)."""
    types = JobTypes()
    types.command_job("grep", "grep {{pattern}} {{ path }} {{pattern}}", timeout=9)
    handler = only(types)
    assert (handler.name, handler.options.timeout, handler.context_name) == (
        "grep",
        9.0,
        "_context",
    )
    assert handler.description == "Run grep {{pattern}} {{ path }} {{pattern}}"
    assert handler.params_schema() == {
        "type": "object", "title": "grep", "additionalProperties": False,
        "properties": {"pattern": STRING | {"title": "Pattern"},
                       "path": STRING | {"title": "Path"}},
        "required": ["pattern", "path"],
    }  # fmt: skip
    result = CommandResult(exit_code=0, stdout="", stderr="", duration=0.1, truncated=False)
    raw = b'{"exit_code":0,"stdout":"","stderr":"","duration":0.1,"truncated":false}'
    assert handler.load_result(raw) == result


def test_a_command_without_placeholders_takes_no_params() -> None:
    """Given as arguments or for a shell; a description of one's own goes before the command."""
    types = JobTypes()
    types.command_job("a", ["make", "all"])
    types.command_job("b", "make | tee log", shell=True, cwd="/tmp", env={"A": "1"}, check=True)
    types.command_job("c", "make", description="Make everything.", retry=RetryPolicy())
    shown = [(h.description, h.params, h.options.retry) for h in types.job_types]
    assert shown == [
        ("Run make all", None, None),
        ("Run make | tee log", None, None),
        ("Make everything.", None, RetryPolicy()),
    ]
    with pytest.raises(InvalidParams, match="x: this param is unknown"):
        types.job_types[0].validate({"x": 1})


@pytest.mark.parametrize(("command", "options", "said"), [
    ("", {}, "the command is empty"),
    ("echo 'open", {}, "can't be split"),
    ("echo {{x}}", {"shell": True}, "stands in shell text"),
    (["sh", "-c", "echo {{x}}"], {}, "stands in code for sh"),
    ("echo {{from}}", {}, "has 'from', which no param can be called"),
    ("echo {{_context}}", {}, "has '_context', which no param can be called"),
    ("echo", {"cwdd": "/tmp"}, "there is no option 'cwdd'; did you mean 'cwd'"),
])  # fmt: skip
def test_refuses_a_command_that_could_not_run(
    command: Any, options: dict[str, Any], said: str
) -> None:
    """Found at the start of the server, and not by the first who submits it."""
    types = JobTypes()
    with pytest.raises(InvalidOption, match=said):
        types.command_job("x", command, **options)
    assert types.job_types == []


async def test_a_command_job_runs_its_command() -> None:
    """Output and exit code come back as the result (row 4)."""
    runner = JobRunner()
    runner.command_job("say", "printf {{text}}")
    async with runner:
        job = await runner.submit("say", {"text": "two words"})
        result = await job.result(timeout=10.0)
    assert (result.exit_code, result.stdout) == (0, "two words")


async def test_the_text_of_a_shell_finds_its_params_in_the_environment() -> None:
    """P7: a shell's text can't be filled in safely, and has to have its values all the same."""
    runner = JobRunner()
    runner.command_job("greet", 'printf "%s" "hello $name"', shell=True, params=["name"])
    async with runner:
        job = await runner.submit("greet", {"name": "$(id); `id`"})
        assert (await job.result()).stdout == "hello $(id); `id`"


@pytest.mark.parametrize("param", ["PATH", "LD_PRELOAD", "_"])
def test_a_param_in_capitals_can_not_be_in_the_environment(param: str) -> None:
    """A value that a client chose must not choose what is executed."""
    with pytest.raises(InvalidOption, match="names in capitals belong to the system"):
        JobRunner().command_job("run", "true", shell=True, params=[param])


@pytest.mark.parametrize("param", ["a b", "1", "", "from", "_context"])
def test_a_command_s_param_has_a_name_that_a_param_can_have(param: str) -> None:
    """The params of a command are those of a function, so that its schema is one."""
    with pytest.raises(InvalidOption, match="which no param can be called"):
        JobRunner().command_job("run", "true", shell=True, params=[param])


def test_a_name_may_be_given_by_its_name() -> None:
    """Half of all frameworks have it so, and a TypeError of Python's explains nothing."""
    types = JobTypes()

    @types.job(name="other")
    async def handle() -> None: ...

    assert [handler.name for handler in types.job_types] == ["other"]
