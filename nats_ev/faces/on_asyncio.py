"""How tasks of asyncio wait."""

from __future__ import annotations

import asyncio
from typing import Any

from .callbacks import is_asynchronous
from .context import Context


class OnAsyncio(Context):
    """A client on an asyncio loop."""

    def __init__(self, nats: Any) -> None:
        super().__init__(nats)
        self._loop = loop = asyncio.get_running_loop()
        self.waiter = loop.create_future  # type: ignore[method-assign]
        self._kept: set[asyncio.Task[Any]] = set()

    async def give_way(self) -> None:
        """See `Context`."""
        await asyncio.sleep(0)

    def current(self) -> Any:
        """See `Context`."""
        return asyncio.current_task()

    def is_other(self, task: Any) -> bool:
        """See `Context`."""
        return not task.done() and task is not asyncio.current_task()

    def runs_as_task(self, callback: Any) -> bool:
        """See `Context`."""
        return is_asynchronous(callback)

    def spawn(self, function: Any, *args: Any) -> None:
        """See `Context`."""
        task = self._loop.create_task(function(*args))
        self._kept.add(task)  # asyncio does not keep it
        task.add_done_callback(self._kept.discard)
