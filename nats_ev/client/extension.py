"""The methods of `Nats` for programs and layers on top that must act in time with the client.

`JetStream`, `KV`, `ObjectStore` and `Service` use these and the other public methods of `Nats`,
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..arguments import Milliseconds, callable_or_none, check_callback, milliseconds
from ..connection import Connection
from ..errors import NatsError
from ..net import Deadline
from ..status import Status
from ..steps import later_step
from .core import Core


class Extension:
    """The extension API of `Nats`: calls on the client's loop, and listeners.

    A callback that one of these methods takes is treated like any other one: an exception goes to
    ``sys.excepthook``; KeyboardInterrupt and SystemExit come out of the loop's ``start()``.
    """

    _connection: Connection
    _core: Core

    def call(self, cb: Callable[..., object], *args: object) -> None:
        """Call ``cb(*args)`` now, with the exception handling of a callback.

        Args:
            cb: what it raises is treated like an exception of any callback.
            args: passed to cb.
        """
        self._connection.turn.call(cb, *args)

    def call_soon(self, cb: Callable[..., object], *args: object) -> None:
        """Call ``cb(*args)`` on the loop, after all callbacks that are due already.

        In a callback that the client makes at the end of a turn, such as a completion or one of `call_soon`
        itself, the call waits for the loop's next iteration.

        Args:
            cb: what it raises is treated like an exception of any callback.
            args: passed to cb.

        Raises:
            RuntimeError: another thread runs the loop.
        """
        check_callback(cb)
        self._connection.guard.check_thread()
        self._connection.turn.soon_after(cb, *args)

    def call_threadsafe(self, cb: Callable[..., object], *args: object) -> None:
        """Call ``cb(*args)`` on the loop. Any thread may call this, and any signal handler.

        The calls are made in their order, and wake a loop that waits. A client that is connected, connecting
        or waiting to reconnect takes them, also before its loop runs for the first time. What was taken
        before the client's end is called, after `on_disconnect`.

        Args:
            cb: what it raises is treated like an exception of any callback.
            args: passed to cb.

        Raises:
            NotConnectedError: the client has no connection, and none is coming; its loop has been closed; or
                this is the child of a fork.
        """
        check_callback(cb)
        guard = self._connection.guard
        if guard.forked or guard.closed:
            guard.check()
        self._connection.mailbox.call(cb, args)

    def unref(self) -> None:
        """Let the client no longer keep its loop running: the loop ends when nothing else keeps it.

        The client works on while the loop runs, and waits for the loop's next run when it has ended. What
        is unsent then stays unsent. Holds for all connections from now on, until `ref`. Does nothing on a
        loop that never ends by itself, such as asyncio's.

        Raises:
            RuntimeError: another thread runs the loop.
        """
        self._connection.guard.check_thread()
        self._connection.deadlines.keep_loop(False)

    def ref(self) -> None:
        """Let the client keep its loop running again, as it does from the beginning; see `unref`."""
        self._connection.guard.check_thread()
        self._connection.deadlines.keep_loop(True)

    def call_later(
        self,
        delay_ms: Milliseconds,
        cb: Callable[..., object],
        *args: object,
        ended: Callable[[], object] | None = None,
        step: bool = False,
    ) -> Deadline:
        """Call ``cb(*args)`` on the loop in delay_ms.

        Costs far less than a timer watcher of the loop.

        Args:
            delay_ms: in ms, or a `datetime.timedelta`.
            cb: what it raises is treated like an exception of any callback.
            args: passed to cb.
            ended: called instead of cb, on the loop, if the client ends before (`disconnect`, the end
                of `drain`, giving up) or has ended already. Without it, cb is then never called.
            step: cb is a later step of an operation, such as another attempt: `drain` waits for it, and
                accepts its requests. Needs ended.

        Returns:
            The `Deadline`, whose ``cancel()`` prevents the call.

        Raises:
            RuntimeError: another thread runs the loop.
        """
        check_callback(cb)
        self._connection.guard.check_thread()
        seconds = milliseconds(delay_ms, "delay_ms") / 1000
        if step:
            cb, args = later_step, (cb, *args)
        due = partial(self._connection.turn.call, cb, *args)
        callable_or_none(ended, "ended")
        if ended is None:
            return self._connection.deadlines.after(seconds, due)
        return self._core.waits.add(seconds, due, ended, step)

    def refuse_if_draining(self) -> None:
        """Raise `ConnectionDrainingError` after `Nats.drain`, except in a later step of an operation."""
        self._core.refuse_if_draining()

    def hold_drain(self, ended: Callable[[], object]) -> Deadline:
        """Let `drain` wait for an operation, until the returned object's ``cancel()`` is called.

        Without it a drain waits for requests, for `call_later` with step, and for the subscriptions of
        `await_in_drain`. An operation that has none of these at times needs more.

        Args:
            ended: called on the loop if the client ends before, or has ended already.
        """
        check_callback(ended, "ended")
        return self._core.waits.hold(ended)

    def await_in_drain(self, sid: int, wait: bool = True) -> None:
        """Let `drain` wait for the end of a subscription that takes the answers of one operation.

        Otherwise the drain ends the subscription, and the operation loses what the server sends later.

        Args:
            sid: the subscription; an unknown one is ignored.
            wait: False: do not wait any longer. During a drain the subscription then ends like any other:
                what the server has sent for it is delivered.
        """
        self._core.subscriptions.await_in_drain(sid, wait)
        if not wait and self._core.drain is not None:
            self._core.drain.end_subscription(sid)

    def report(self, error: NatsError) -> None:
        """Give an error to the error listeners and to `on_error`, like one of the client's own."""
        self._connection.guard.check_thread()
        self._core.report(error)

    def add_status_listener(self, cb: Callable[[Status], object]) -> None:
        """Call ``cb(status)`` on the loop for each change of `status`, before the on_* callbacks."""
        check_callback(cb)
        self._core.status_listeners.append(cb)

    def remove_status_listener(self, cb: Callable[[Status], object]) -> None:
        """Remove a listener of `add_status_listener`. Does nothing if it is not there."""
        if cb in self._core.status_listeners:
            self._core.status_listeners.remove(cb)

    def add_error_listener(self, cb: Callable[[NatsError], object]) -> None:
        """Call ``cb(err)`` on the loop for each error, before `on_error`, which it does not replace."""
        check_callback(cb)
        self._core.error_listeners.append(cb)

    def remove_error_listener(self, cb: Callable[[NatsError], object]) -> None:
        """Remove a listener of `add_error_listener`. Does nothing if it is not there."""
        if cb in self._core.error_listeners:
            self._core.error_listeners.remove(cb)
