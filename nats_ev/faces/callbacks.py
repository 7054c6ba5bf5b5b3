"""Callbacks that run as tasks: those for events, and the handlers of services."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any, Protocol

from ..arguments import takes_several
from ..client import Nats
from ..errors import NatsError


def is_asynchronous(callback: Any) -> bool:
    """Return whether a call of callback gives a coroutine; it may be a function or an object."""
    return inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(
        getattr(callback, "__call__", None)  # noqa: B004  the method itself is asked for
    )


class Spawner(Protocol):
    """What a `Spawned` needs of its client's context."""

    nats: Nats

    def spawn(self, function: Callable[..., Any], *args: Any) -> None:
        """Call a function, which may be a coroutine function, in a task of its own."""

    def task_begins(self) -> None:
        """Count a call that is a task."""

    def task_ends(self) -> None:
        """Count the end of such a call."""


def _ignore() -> None:
    """Do nothing: the client ends while a task runs."""


def _raise(error: BaseException) -> None:
    raise error


class Spawned:
    """A callback each call of which is a task of its own. A drain of the client waits for them."""

    def __init__(self, context: Spawner, callback: Callable[..., Any]) -> None:
        self._context = context
        self._callback = callback
        self._steps = self._await if is_asynchronous(callback) else self._run

    def __call__(self, *args: Any) -> None:
        hold = self._context.nats.hold_drain(_ignore)
        self._context.task_begins()
        try:
            self._context.spawn(self._steps, hold, args)
        except BaseException:
            self._ended(hold)
            raise

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spawned) and other._callback == self._callback

    def __hash__(self) -> int:
        return hash(self._callback)

    async def _await(self, hold: Any, args: tuple[Any, ...]) -> None:
        try:
            await self._callback(*args)
        except Exception as error:
            self._failed(args, error)
        finally:
            self._ended(hold)

    def _run(self, hold: Any, args: tuple[Any, ...]) -> None:
        try:
            self._callback(*args)
        except Exception as error:
            self._failed(args, error)
        finally:
            self._ended(hold)

    def _ended(self, hold: Any) -> None:
        hold.cancel()
        self._context.task_ends()

    def _failed(self, args: tuple[Any, ...], error: Exception) -> None:
        """Report what the callback has raised as that of any other callback."""
        self._context.nats.call(_raise, error)


class JobHandler(Spawned):
    """A handler of a work queue: its end is that of the job, unless it takes ``done`` and calls that."""

    def __init__(self, context: Spawner, callback: Callable[..., Any]) -> None:
        super().__init__(context, callback)
        self._takes_done = takes_several(callback)

    async def _await(self, hold: Any, args: tuple[Any, ...]) -> None:
        job, done = args
        try:
            await (self._callback(job, done) if self._takes_done else self._callback(job))
        except BaseException as error:  # a task that is cancelled has failed, too
            done(error)
            if not isinstance(error, Exception):
                raise
        else:
            self._done(done)
        finally:
            self._ended(hold)

    def _run(self, hold: Any, args: tuple[Any, ...]) -> None:
        job, done = args
        try:
            self._callback(job, done) if self._takes_done else self._callback(job)
        except BaseException as error:
            done(error)
            if not isinstance(error, Exception):
                raise
        else:
            self._done(done)
        finally:
            self._ended(hold)

    def _done(self, done: Callable[..., object]) -> None:
        if not self._takes_done:
            done(None)


class Handler(Spawned):
    """A handler of a service. What it raises is the answer, as that of a handler of the callback API."""

    def _failed(self, args: tuple[Any, ...], error: Exception) -> None:
        from ..service import ServiceError

        request = args[0]
        if (failed := getattr(request, "handler_failed", None)) is not None:
            failed(error)  # of an auth callout
            return
        if isinstance(error, ServiceError):
            code, text = error.code, error.description
        else:
            code, text = "500", str(error)
            super()._failed(args, error)
        text = " ".join(text.split()) or type(error).__name__
        for description in (
            text,
            type(error).__name__,
        ):  # a text that can't be a header is replaced
            with contextlib.suppress(NatsError):
                request.respond_error(code or "500", description)
                return
