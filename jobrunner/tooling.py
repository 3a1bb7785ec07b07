"""The part of a runner that serves models: its jobs as tools.

What it takes is loaded when somebody asks for tools, so that nobody else pays for it.
"""

from typing import TYPE_CHECKING, Any

from .batching import Batching

if TYPE_CHECKING:
    from .toolbox import Toolbox
    from .toolbox_formats import ToolFormat
    from .toolbox_names import Types


class Tooling(Batching):
    """Gives models tools to start jobs and to follow them."""

    def toolbox(
        self,
        *,
        owner: str | None = None,
        session_id: str | None = None,
        types: "Types | None" = None,
        suffix: str | None = None,
        max_chars: int | None = None,
    ) -> "Toolbox":
        """Return the job types as tools of a model, with the calls that they take.

        Args:
            owner: Whose jobs the model starts and sees; None for everybody's.
            session_id: The session in which it starts jobs, and whose jobs alone it sees.
            types: The job types that there are tools for, or a mapping from them to names of
                tools; None for all of them.
            suffix: What a type's tool is called beside its type, `_background` if not given.
            max_chars: Characters of a job's result in one answer, about; 8,000 if not given.

        Raises:
            UnknownJobType: One of the types isn't registered.
            InvalidOption: A name can't be a tool's, or is another one's.
        """
        from .toolbox import ROOM, Toolbox  # not for everybody to load
        from .toolbox_names import SUFFIX
        from .toolbox_scope import Scope

        scope = Scope(self, self._now, owner=owner, session_id=session_id)  # type: ignore[arg-type]  # `submit` is the runner's
        return Toolbox(
            scope,
            types=types,
            suffix=SUFFIX if suffix is None else suffix,
            max_chars=ROOM if max_chars is None else max_chars,
        )

    def tools(self, format: "ToolFormat" = "openai-chat") -> list[dict[str, Any]]:
        """Return all job types as tools, and the tools to follow their jobs.

        Args:
            format: `openai-chat`, `openai-responses`, `anthropic` or `mcp`: for whose API.

        Raises:
            InvalidOption: There is no such format.
        """
        return self.toolbox().tools(format)

    async def execute_tool(
        self,
        name: str,
        arguments: object = None,
        *,
        owner: str | None = None,
        session_id: str | None = None,
    ) -> str:
        """Carry out a model's call of one of `tools`, and return what the model is to read.

        It never raises for what the model has sent: a wrong name, wrong arguments and an unknown
        id are answered with text that it can act on, and so is a job that failed. A call that
        waits does so for 45 s at most.

        Args:
            name: Name of the tool.
            arguments: Its arguments, as an object or as the JSON text that the model wrote.
            owner: Whose jobs the model starts and sees; None for everybody's.
            session_id: The session in which it starts jobs, and whose jobs alone it sees.
        """
        return await self.toolbox(owner=owner, session_id=session_id).execute(name, arguments)
