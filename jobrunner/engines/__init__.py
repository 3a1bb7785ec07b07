"""Where a handler runs. An engine decides that and nothing else: state, events and limits are not
its business."""

from collections.abc import Mapping
from typing import Any, Protocol

from ..context import JobContext
from ..handlers import Handler


class Engine(Protocol):
    """Runs a handler somewhere."""

    async def run(self, handler: Handler, context: JobContext, arguments: Mapping[str, Any]) -> Any:
        """Run the handler to its end and return its value, or raise what it raised.

        When cancelled, it stops the handler as well as it can and doesn't return before the
        handler has ended.
        """
        ...
