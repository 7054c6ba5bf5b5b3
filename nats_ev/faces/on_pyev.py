"""How a program without tasks waits: it runs the client's loop meanwhile, or a thread does (`InThread`)."""

from __future__ import annotations

import atexit
import inspect
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from .. import pyev
from ..arguments import Payload
from ..errors import ConnectionClosedError
from ..headers import HeadersLike
from ..status import Status
from .context import Context, Waiter


class OnPyev(Context):
    """A client on a loop that runs while a call waits."""

    def __init__(self, nats: Any, loop: Any) -> None:
        super().__init__(nats)
        self._loop = loop
        self._waiting: list[Waiter] = []  # the waiters of nested calls

    def waiter(self) -> Waiter:
        """See `Context`."""
        return Waiter(self._loop.stop)

    def run(self, steps: Coroutine[Any, Any, Any]) -> Any:
        """See `Context`."""
        try:
            waiter = steps.send(None)
            while True:
                try:
                    self._run_until(waiter)
                except BaseException as exc:
                    waiter = steps.throw(exc)
                else:
                    waiter = steps.send(None)
        except StopIteration as stop:
            return stop.value

    def _run_until(self, waiter: Waiter) -> None:
        waiting = self._waiting
        waiting.append(waiter)
        try:
            while not waiter.done():
                if not self._loop.start() and not waiter.done():
                    raise ConnectionClosedError(
                        "disconnected: nothing keeps the client's loop alive"
                    )
        finally:
            waiting.pop()
            if waiting and waiting[-1].done():  # a call in whose callback this one was made
                self._loop.stop()

    async def give_way(self) -> None:
        """See `Context`: receive, and answer the server."""
        self._loop.start(pyev.EVRUN_NOWAIT)


class _Call:
    """A call from another thread, which waits for its end."""

    __slots__ = ("_done", "_error", "_result", "caller")

    def __init__(self) -> None:
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._result: Any = None
        self.caller = threading.current_thread()

    def finish(self, result: Any, error: BaseException | None) -> None:
        """Let the caller go on."""
        self._result, self._error = result, error
        self._done.set()

    def wait(self) -> None:
        """Wait for the end; Ctrl-C interrupts the main thread in this."""
        self._done.wait()

    def result(self) -> Any:
        """Return the result, or raise the error."""
        if self._error is not None:
            raise self._error
        return self._result


class InThread(OnPyev):
    """A client whose loop runs in a thread of its own, until the client ends.

    What other threads call is done by the loop's thread: it takes the calls from `_mail`. After the client's
    end there is no such thread, and calls are made as without one.
    """

    def __init__(self, nats: Any, loop: pyev.Loop) -> None:
        super().__init__(nats, loop)
        self.direct = False
        self._mail: deque[Callable[[], object]] = deque()
        self._lock = threading.Lock()  # held to add to the mail, and to end the thread
        self._wake = getattr(loop, "async")(self._deliver)
        self._ending = False
        self._current: threading.Thread | None = None  # whose call is being made
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._wake.start()
        nats = self.nats
        nats.add_status_listener(self._changed)
        self._thread = threading.Thread(target=self._main, name=f"nats_ev {nats!r}", daemon=True)
        self._thread.start()
        atexit.register(self._exit)

    def _main(self) -> None:
        while True:
            try:
                self._loop.start()
            except BaseException as exc:  # KeyboardInterrupt and SystemExit are for the main thread
                sys.excepthook(type(exc), exc, exc.__traceback__)
            with self._lock:
                if self._ending and not self._mail:
                    self._thread = None
                    break
            self._take_mail()
        atexit.unregister(self._exit)

    def _changed(self, status: Status) -> None:
        if status is Status.CLOSED:
            self.nats.call_soon(self._end)

    def _end(self) -> None:
        """End the thread after what the client still has to call."""
        if self.nats.status() is not Status.CLOSED:  # connected again by a callback
            return
        self._ending = True
        self._wake.stop()

    def _exit(self) -> None:
        """End the thread at the end of the program, before the client's sockets are closed."""
        thread = self._thread
        if thread is not None:
            self._post(self.nats.disconnect)
            thread.join(1.0)

    def _post(self, call: Callable[[], object]) -> bool:
        """Let the loop's thread make a call; return whether there is one."""
        with self._lock:
            if self._thread is None:
                return False
            self._mail.append(call)
        self._wake.send()
        return True

    def _deliver(self, watcher: Any, revents: int) -> None:
        self._take_mail()

    def _take_mail(self) -> None:
        for _ in range(len(self._mail)):
            self._mail.popleft()()

    def _elsewhere(self) -> bool:
        """Return whether the caller's thread is another one than the loop's."""
        thread = self._thread
        return thread is not None and thread is not threading.current_thread()

    def on_loop(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """See `Context`."""
        if not self._elsewhere():
            return function(*args, **options)
        call = _Call()

        def make() -> None:
            try:
                result = function(*args, **options)
            except BaseException as exc:
                call.finish(None, exc)
            else:
                call.finish(result, None)

        if not self._post(make):
            return function(*args, **options)
        call.wait()
        return call.result()

    def run(self, steps: Coroutine[Any, Any, Any]) -> Any:
        """See `Context`."""
        if not self._elsewhere():
            return super().run(steps)
        call = _Call()

        def go_on(error: BaseException | None = None) -> None:
            self._current = call.caller
            try:
                waiter = steps.send(None) if error is None else steps.throw(error)
            except StopIteration as stop:
                call.finish(stop.value, None)
            except BaseException as exc:
                call.finish(None, exc)
            else:
                waiter.wake = lambda: self._post(go_on)
            finally:
                self._current = None

        if not self._post(go_on):
            return super().run(steps)
        try:
            call.wait()
        except BaseException as exc:  # KeyboardInterrupt
            self._post(partial(_interrupt, steps, go_on, exc))
            raise
        return call.result()

    async def give_way(self) -> None:
        """See `Context`: the loop runs meanwhile."""

    def current(self) -> Any:
        """See `Context`."""
        return self._current or threading.current_thread()

    def is_other(self, task: Any) -> bool:
        """See `Context`."""
        return task is not self.current() and task.is_alive()

    def publish_answer(self, subject: str, payload: Payload, headers: HeadersLike | None) -> None:
        """See `Context`."""
        self.on_loop(super().publish_answer, subject, payload, headers)


def _interrupt(
    steps: Coroutine[Any, Any, Any], go_on: Callable[[BaseException], None], error: BaseException
) -> None:
    """Raise an exception where a coroutine waits, unless it has ended."""
    if inspect.getcoroutinestate(steps) == inspect.CORO_SUSPENDED:
        go_on(error)
