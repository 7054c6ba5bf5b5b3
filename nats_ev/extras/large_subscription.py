"""`LargeSubscription`: messages of any size, in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ..arguments import Callback, ResultCallback
from ..errors import ConnectionClosedError, NatsError, PermissionsViolationError
from ..status import Status
from .large_core import Core
from .large_message import LargeMsg
from .large_wire import is_ours


class _Slot:
    """The place of a message in the order of its subscription."""

    __slots__ = ("msg", "ready")

    def __init__(self, msg: LargeMsg | None = None) -> None:
        self.msg = msg
        self.ready = msg is not None


class LargeSubscription:
    """A subscription of `LargeMessages.subscribe`.

    Attributes:
        subject: as given.
        sid: the subscription's number in its client.
    """

    def __init__(
        self,
        core: Core,
        subject: str,
        cb: Callback,
        queue_group: str | None,
        on_error: Callable[[NatsError], object] | None,
    ) -> None:
        self._core, self.subject, self._cb = core, subject, cb
        self._on_error = on_error
        self._nats = nats = core.nats
        self._slots: deque[_Slot] = deque()
        self._coming: dict[_Slot, Any] = {}  # what is being received
        self._full = False
        self._drained: Callback | None = None
        self.paused = False
        self.closed = False
        self.sid = nats.subscribe(subject, self._arrived, queue_group)
        nats.add_status_listener(self._on_status)
        nats.add_error_listener(self._on_client_error)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "paused" if self.paused else "running"
        return f"<{type(self).__name__} {self.subject!r} {state}>"

    def pause(self) -> None:
        """Deliver no message until `resume`; see `Nats.pause`."""
        self.paused = True
        self._hold()

    def resume(self) -> None:
        """Deliver messages again, those first that were kept."""
        self.paused = False
        self._flush()

    def stop(self) -> None:
        """End the subscription at once: no callback follows. Messages on their way are given up."""
        if not self.closed:
            self._leave()
            self._nats.unsubscribe(self.sid)

    def drain(self, cb: ResultCallback[bool] | None = None) -> None:
        """End the subscription after the messages that are on their way; then ``cb(True, err)``."""
        done: Callback = cb if cb is not None else lambda result, error: None
        if self.closed:
            self._nats.call_soon(done, True, None)
            return
        self.paused = False

        def ended(error: NatsError | None) -> None:
            if error is not None:
                self._leave()
                done(None, error)
            else:
                self._drained = done
                self._flush()

        self._flush()
        self._nats.drain_subscription(self.sid, ended)

    def _leave(self) -> None:
        self.closed = True
        self._slots.clear()
        coming, self._coming = self._coming, {}
        for each in coming.values():
            each.cancel()
        self._nats.remove_status_listener(self._on_status)
        self._nats.remove_error_listener(self._on_client_error)

    def _end(self, error: NatsError) -> None:
        if not self.closed:
            self._leave()
            self._nats.call(self._cb, None, error)

    def _on_status(self, status: Status) -> None:
        if status is Status.CLOSED:
            self._nats.call_soon(self._end, ConnectionClosedError("disconnected"))

    def _on_client_error(self, error: NatsError) -> None:
        if isinstance(error, PermissionsViolationError) and error.sid == self.sid:
            self._end(error)

    def _report(self, error: NatsError) -> None:
        if self._on_error is not None:
            self._nats.call(self._on_error, error)
        else:
            self._nats.report(error)

    def _hold(self) -> None:
        if not self.closed:
            self._nats.pause(self.sid)

    def _arrived(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        if not is_ours(headers) or not self._core.is_large(headers):
            msg = LargeMsg(self._core, subject, payload, reply, headers, False)
            if self._slots or self.paused:
                self._keep(_Slot(msg))
            else:
                self._cb(msg, None)
            return
        slot = _Slot()

        def taken(msg: LargeMsg | None, error: NatsError | None) -> None:
            self._coming.pop(slot, None)
            slot.msg, slot.ready = msg, True
            if self.closed:
                return
            if error is not None:
                self._report(error)
            if self._core.ordered:
                self._flush()
            else:
                self._deliver_alone(slot)

        def began(transfer: Any) -> None:
            if not slot.ready:
                self._coming[slot] = transfer

        if self._core.ordered:
            self._keep(slot)
        self._core.take(subject, payload, reply, headers, taken, began)

    def _deliver_alone(self, slot: _Slot) -> None:
        if self.paused:
            self._slots.append(slot)
        elif slot.msg is not None:
            self._nats.call(self._cb, slot.msg, None)
        self._look_drained()

    def _keep(self, slot: _Slot) -> None:
        self._slots.append(slot)
        if len(self._slots) >= self._core.settings.max_waiting and not self._full:
            self._full = True
            self._hold()

    def _flush(self) -> None:
        """Deliver what is ready, in order."""
        slots = self._slots
        while slots and slots[0].ready and not self.paused and not self.closed:
            msg = slots.popleft().msg
            if msg is not None:
                self._nats.call(self._cb, msg, None)
        self._full = self._full and len(slots) * 2 > self._core.settings.max_waiting
        if not self._full and not self.paused and not self.closed:
            self._nats.resume(self.sid)
        self._look_drained()

    def _look_drained(self) -> None:
        if self._drained is not None and not self._slots and not self._coming and not self.closed:
            done, self._drained = self._drained, None
            self._leave()
            self._nats.call_soon(done, True, None)
