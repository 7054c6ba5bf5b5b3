"""How greenlets wait."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any

import gevent  # type: ignore[import-untyped]
from gevent.event import AsyncResult  # type: ignore[import-untyped]

from .context import Context


class _Waiter(AsyncResult):  # type: ignore[misc]  # gevent has no types
    """See `context.Awaited`: gevent's own result, to be awaited in `OnGevent.run`."""

    def __await__(self) -> Generator[Any, None, Any]:
        while not self.ready():
            yield self
        error = self.exception
        if error is not None:
            raise error.with_traceback(None)
        return self.value

    done = AsyncResult.ready
    set_result = AsyncResult.set

    def cancelled(self) -> bool:
        """See `context.Awaited`."""
        return False


class OnGevent(Context):
    """A client on the loop of a hub."""

    def waiter(self) -> Any:
        """See `Context`."""
        return _Waiter()

    def run(self, steps: Coroutine[Any, Any, Any]) -> Any:
        """See `Context`."""
        try:
            waiter = steps.send(None)
            while True:
                try:
                    waiter.wait()
                except BaseException as exc:  # a Timeout or a kill
                    waiter = steps.throw(exc)
                else:
                    waiter = steps.send(None)
        except StopIteration as stop:
            return stop.value

    async def give_way(self) -> None:
        """See `Context`."""
        gevent.sleep(0)

    def current(self) -> Any:
        """See `Context`."""
        return gevent.getcurrent()

    def is_other(self, task: Any) -> bool:
        """See `Context`."""
        return task is not gevent.getcurrent() and not task.dead

    def runs_as_task(self, callback: Any) -> bool:
        """See `Context`."""
        super().runs_as_task(callback)
        return True

    def spawn(self, function: Any, *args: Any) -> None:
        """See `Context`."""
        gevent.spawn(function, *args)
