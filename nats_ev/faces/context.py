"""`Context`: one client with a face, and all that the faces of its objects share.

What differs between the faces is how a task waits: `Context.waiter` returns what a task awaits until a
callback has set it. `nats_ev.aio` has asyncio's futures; the faces that block have a `Waiter`, and run
coroutines by `Context.run`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary, ref

from ..arguments import Payload
from ..client import Nats
from ..errors import ConnectionClosedError, NatsError, PermissionsViolationError
from ..headers import HeadersLike
from ..instrumentation import ERROR, complain
from ..status import Status
from .callbacks import Handler, JobHandler, Spawned, is_asynchronous

if TYPE_CHECKING:
    from .flow import Buffer

# The default of the option drain_timeout, in ms.
_DRAIN_TIMEOUT = 30_000.0
# How often a drain looks whether other tasks have taken all messages, in ms.
_LOOK_EVERY = 5.0
# How long it waits for a task that has called `next` and may be at work with the last message, in ms.
_IDLE = 1000.0

# What makes a task of each call of a parameter's callback, where that is special.
_SPAWNED: dict[str, type[Spawned]] = {"handler": Handler, "job_handler": JobHandler}


class Awaited(Protocol):
    """What `Context.waiter` returns: asyncio's Future is one."""

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the result."""

    def done(self) -> bool:
        """Return whether there is a result or an error, or the waiting was cancelled."""

    def cancelled(self) -> bool:
        """Return whether the waiting was cancelled."""

    def set_result(self, result: Any) -> None:
        """Set the result, and let the task go on."""

    def set_exception(self, error: BaseException) -> None:
        """Set the error, and let the task go on."""


class Waiter:
    """An `Awaited` for faces that block: to await one gives the waiter to `Context.run`."""

    __slots__ = ("_done", "_error", "_result", "wake")

    def __init__(self, wake: Callable[[], object]) -> None:
        self._done = False
        self._result: Any = None
        self._error: BaseException | None = None
        self.wake = wake

    def __await__(self) -> Generator[Any, None, Any]:
        while not self._done:
            yield self
        if self._error is not None:
            raise self._error.with_traceback(None)
        return self._result

    def done(self) -> bool:
        """See `Awaited`."""
        return self._done

    def cancelled(self) -> bool:
        """See `Awaited`."""
        return False

    def set_result(self, result: Any) -> None:
        """See `Awaited`."""
        self._done = True
        self._result = result
        self.wake()

    def set_exception(self, error: BaseException) -> None:
        """See `Awaited`."""
        self._done = True
        self._error = error
        self.wake()


def settle(waiter: Awaited, result: Any, error: BaseException | None) -> None:
    """Give an answer to who waits for it, unless the waiting was cancelled."""
    if waiter.done():
        return
    if error is not None:
        waiter.set_exception(error)
    else:
        waiter.set_result(result)


class Context:
    """See the module's docstring. A face has a subclass."""

    def __init__(self, nats: Nats, drain_timeout: float = _DRAIN_TIMEOUT) -> None:
        self.nats = nats
        self.face: Any = None  # the `build.Face`
        self.direct = True  # calls of the callback API need no other thread
        self.drained = False  # the client is being drained, or was
        self.buffers: set[Buffer] = set()
        self.by_sid: dict[int, Buffer] = {}
        self.message: Callable[[Any], Any] = lambda msg: msg  # gives a JsMsg its face
        self.last_error: NatsError | None = None
        self.logs = False  # errors that no callback takes
        self._drain_timeout = drain_timeout
        self._tasks = 0  # calls of callbacks that run as tasks
        self._idle: list[Awaited] = []  # who waits for the end of these
        nats.add_status_listener(self._on_status)
        nats.add_error_listener(self._on_error)
        _contexts[nats] = ref(self)  # which the client's listeners keep alive

    # What a face defines.

    def waiter(self) -> Awaited:
        """Return what a task awaits."""
        raise NotImplementedError

    def run(self, steps: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end, while this task waits, and return its result."""
        raise NotImplementedError

    async def give_way(self) -> None:
        """Let other tasks and the loop run."""

    def current(self) -> Any:
        """Return the current task."""
        return self

    def is_other(self, task: Any) -> bool:
        """Return whether a task is alive and not the current one."""
        return False

    def on_loop(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a function of the callback API in the thread of the loop."""
        return function(*args, **options)

    def spawn(self, function: Callable[..., Any], *args: Any) -> None:
        """Call a function, which may be a coroutine function, in a task of its own."""
        raise NotImplementedError

    def runs_as_task(self, callback: Any) -> bool:
        """Return whether each call of a callback is to be a task of its own. Raises TypeError."""
        if is_asynchronous(callback):
            raise TypeError(
                "a callback must not be a coroutine function: only nats_ev.aio runs these"
            )
        return False

    # Waiting.

    async def answer(self, method: Callable[..., object], *args: Any) -> Any:
        """Call ``method(*args, cb)``, and wait for ``cb(err)`` or ``cb(result, err)``."""
        waiter = self.waiter()

        def answered(*answer: Any) -> None:
            settle(waiter, answer[0] if len(answer) > 1 else None, answer[-1])

        method(*args, answered)
        return await waiter

    def expire(self, timeout: float, waiter: Awaited, error: NatsError) -> Any:
        """Give an error to a waiter after some ms. The result's ``cancel()`` prevents it."""
        return self.nats.call_later(timeout, settle, waiter, None, error)

    async def sleep(self, ms: float) -> None:
        """Wait for some ms, or until the client ends."""
        waiter = self.waiter()
        due = self.nats.call_later(
            ms, settle, waiter, None, None, ended=lambda: settle(waiter, None, None)
        )
        try:
            await waiter
        finally:
            due.cancel()

    # Callbacks of the user.

    def task(self, name: str, callback: Any) -> Any:
        """Return the callback to pass on for a user's: one whose calls are tasks, if they are to be."""
        if callback is None or not callable(callback) or not self.runs_as_task(callback):
            return callback
        return _SPAWNED.get(name, Spawned)(self, callback)

    def plain(self, name: str, callback: Any) -> Any:
        """Return a callback whose result counts at once. Raises TypeError for a coroutine function."""
        if is_asynchronous(callback):
            raise TypeError(
                f"{name} must not be a coroutine function: its result is needed at once"
            )
        return callback

    def task_begins(self) -> None:
        """Count a call that is a task."""
        self._tasks += 1

    def task_ends(self) -> None:
        """Count the end of such a call."""
        self._tasks -= 1
        if not self._tasks:
            idle, self._idle = self._idle, []
            for waiter in idle:
                settle(waiter, None, None)

    async def until_idle(self) -> None:
        """Wait until no call that is a task is under way."""
        while self._tasks:
            self._idle.append(self.waiter())
            await self._idle[-1]

    # Life.

    async def until_connected(self) -> None:
        """Wait for the first connection. Raises the error with which the client gives up."""
        if self.nats.status() is Status.CONNECTED:
            return
        waiter = self.waiter()

        def changed(status: Status) -> None:
            if status is Status.CONNECTED:
                settle(waiter, None, None)
            elif status is Status.CLOSED:
                # The error that ends the client is reported after the change of status.
                self.nats.call_soon(give_up)

        def give_up() -> None:
            settle(waiter, None, self.last_error or ConnectionClosedError("disconnected"))

        self.nats.add_status_listener(changed)
        if self.nats.status() is Status.CLOSED:  # a loop in another thread was faster
            changed(Status.CLOSED)
        try:
            await waiter
        except BaseException:
            self.nats.disconnect()
            raise
        finally:
            self.nats.remove_status_listener(changed)
            self.logs = True

    async def drain(self) -> None:
        """Drain the client, after other tasks have taken what their iterators have."""
        if any(buffer.busy for buffer in self.buffers):
            await self._let_consumers_end()
        await self.answer(self.nats.drain)

    async def _let_consumers_end(self) -> None:
        busy = {buffer for buffer in self.buffers if buffer.busy}
        for buffer in busy:
            buffer.drain()
        left = self._drain_timeout or float("inf")
        idle = 0.0
        while left > 0 and idle < _IDLE:
            busy = {buffer for buffer in busy if buffer.busy or not buffer.ended}
            if not busy:
                break
            idle = idle + _LOOK_EVERY if all(buffer.idle for buffer in busy) else 0.0
            await self.sleep(_LOOK_EVERY)
            left -= _LOOK_EVERY

    async def leave(self, error: BaseException | None) -> None:
        """End the client at the end of a block: drained, or at once if the block is being interrupted.

        Also at once if an error leaves the block and there is no connection: it may be why.
        """
        status = self.nats.status()
        if status in (Status.CLOSED, Status.DISCONNECTED):
            return
        connected = status not in (Status.CONNECTING, Status.RECONNECTING)
        if error is None or (isinstance(error, Exception) and connected):
            await self.drain()
        else:
            self.nats.disconnect()

    def _on_status(self, status: Status) -> None:
        if status in (Status.DRAINING_SUBS, Status.DRAINING_PUBS):
            self.drained = True
        elif status is Status.CONNECTING:
            self.drained = False
        elif status is Status.CLOSED:
            self.nats.call_soon(self._closed)

    def _closed(self) -> None:
        error = None if self.drained else ConnectionClosedError("disconnected")
        for buffer in list(self.by_sid.values()):
            buffer.finish(error)

    def _on_error(self, error: NatsError) -> None:
        if error.__cause__ is None and self.last_error is not error and not self.logs:
            error.__cause__ = self.last_error  # of a first connect: why each attempt has failed
        self.last_error = error
        if isinstance(error, PermissionsViolationError) and error.sid is not None:
            buffer = self.by_sid.get(error.sid)
            if buffer is not None:
                buffer.finish(error)

    def log(self, error: NatsError) -> None:
        """Log an error that no on_error takes: an asynchronous one, which no call raises."""
        if self.logs:
            complain(ERROR, "%s: %s", type(error).__name__, error)

    # Of `message.Publisher`.

    def publish_answer(self, subject: str, payload: Payload, headers: HeadersLike | None) -> None:
        """Publish the answer to a `Msg`."""
        if headers is None:
            self.nats.publish(subject, payload)
        else:
            self.nats.hpublish(subject, headers, payload)

    # Subscriptions.

    def unsubscribe(self, sid: int, max_msgs: int | None = None) -> None:
        """Unsubscribe, and let the iterator of the subscription know."""
        self.nats.unsubscribe(sid, max_msgs)
        buffer = self.by_sid.get(sid)
        if buffer is None:
            return
        info = self.nats.subscription_info(sid)
        if not max_msgs:
            buffer.close()
        elif info is None:
            buffer.finish(None)
        elif info["max_msgs"]:
            buffer.left = info["max_msgs"] - info["delivered"]
            if buffer.left <= 0:
                buffer.finish(None)

    def finished(self, buffer: Buffer) -> None:
        """Forget a flow that has ended."""
        self.buffers.discard(buffer)
        if buffer.sid:
            self.by_sid.pop(buffer.sid, None)

    def abandon(self, buffer: Buffer) -> None:
        """End a flow that nobody holds any more, on the loop.

        Python may notice that in any thread and in the middle of anything, also of the client's own work.
        """
        with contextlib.suppress(
            NatsError, RuntimeError
        ):  # the client has ended, or its loop is closed
            self.nats.call_threadsafe(buffer.close)


_contexts: WeakKeyDictionary[Nats, ref[Context]] = WeakKeyDictionary()


def context_of(nats: Nats) -> Context | None:
    """Return the context of a client that has a face, else None."""
    found = _contexts.get(nats)
    return found() if found is not None else None
