"""One scenario for all faces: a coroutine function that awaits `got` of what a face's method returns.

In a face that blocks nothing is ever awaited, so that the coroutine runs to its end in one step.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

LIMIT = 20.0  # seconds for one scenario

Scenario = Callable[["Face"], Coroutine[Any, Any, Any]]


async def got(result: Any) -> Any:
    """Return what a face's method returns, awaited where it is to be awaited."""
    return await result if inspect.isawaitable(result) else result


async def each(iterator: Any) -> AsyncIterator[Any]:
    """Iterate over an iterator of any face."""
    if hasattr(iterator, "__aiter__"):
        async for item in iterator:
            yield item
    else:
        for item in iterator:
            yield item


class block:
    """``async with block(thing)`` for a context manager of any face."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    async def __aenter__(self) -> Any:
        if hasattr(self._manager, "__aenter__"):
            return await self._manager.__aenter__()
        return self._manager.__enter__()

    async def __aexit__(self, *exc_info: Any) -> Any:
        if hasattr(self._manager, "__aexit__"):
            return await self._manager.__aexit__(*exc_info)
        return self._manager.__exit__(*exc_info)


class Face:
    """A face's module, and how a scenario runs, spawns tasks and sleeps in it."""

    def __init__(self, name: str, server: Any) -> None:
        self.name = name
        self.server = server
        self.module = importlib.import_module(f"nats_ev.{name.partition('-')[0]}")

    def connect(self, **options: Any) -> Any:
        """Return what the face's connect returns, for the server of the tests."""
        options.setdefault("servers", self.server.url)
        return self.module.connect(**options)

    def run(self, scenario: Scenario) -> Any:
        """Run a scenario to its end."""
        steps = scenario(self)
        if self.name.startswith("aio"):
            return self._run_on_asyncio(steps)
        if self.name == "green":
            import gevent

            return gevent.spawn(_finish, steps).get(timeout=LIMIT)
        signal.signal(signal.SIGALRM, _too_long)
        signal.setitimer(signal.ITIMER_REAL, LIMIT)
        try:
            return _finish(steps)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _run_on_asyncio(self, steps: Coroutine[Any, Any, Any]) -> Any:
        async def limited() -> Any:
            return await asyncio.wait_for(steps, LIMIT)

        if self.name == "aio-uvloop":
            import uvloop

            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(limited())
        return asyncio.run(limited(), debug=self.name == "aio-debug")

    def spawn(self, steps: Coroutine[Any, Any, Any]) -> Any:
        """Run steps of a scenario in a task of its own; not in a face without tasks."""
        if self.name.startswith("aio"):
            return asyncio.get_running_loop().create_task(steps)
        import gevent

        task = gevent.spawn(_finish, steps)
        task.steps = steps
        return task

    async def sleep(self, seconds: float) -> None:
        """Let other tasks run."""
        if self.name.startswith("aio"):
            await asyncio.sleep(seconds)
        elif self.name == "green":
            import gevent

            gevent.sleep(seconds)

    async def until(self, condition: Callable[[], Any], nc: Any = None) -> None:
        """Wait until condition() is true; the loop of a face that blocks runs in nc's calls."""
        deadline = time.monotonic() + LIMIT / 2
        while not condition():
            assert time.monotonic() < deadline, "the condition has not come"
            if nc is not None and nc.is_connected():
                await got(nc.flush())
            await self.sleep(0.002)

    @property
    def has_tasks(self) -> bool:
        """Whether the face has tasks that run beside each other."""
        return self.name != "blocking"


def _too_long(number: int, frame: object) -> None:
    raise AssertionError("the scenario takes too long")


def _finish(steps: Coroutine[Any, Any, Any]) -> Any:
    try:
        steps.send(None)
    except StopIteration as stop:
        return stop.value
    steps.close()
    raise AssertionError("a face that blocks has waited by await")
