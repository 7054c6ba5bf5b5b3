"""Continuous pulling: `Puller` keeps pull requests with the server so that messages never stop coming.

Theory of operation (ADR-37)
----------------------------

A pull consumer sends nothing by itself. A request asks for `batch` messages, with an inbox as the reply
subject, and ends when they have come, when it expires, or with an error, which comes as a message without a
body and with a status line. One request after the other would leave the connection idle for a round trip
after each batch. So the next request must be with the server before the present one is used up.

**Counting.** Nothing in a message says which request it belongs to, and requests overlap; so the puller
counts since its beginning. `_asked` is the number of messages requested, `_received` the number that has
come. The invariant is

    _asked - _received  =  messages that the present round may still bring  <=  max_messages

`_ask` requests what is missing to max_messages. When a request ends early, the status says in
``Nats-Pending-Messages`` how many of its messages will not come, and they are taken off `_asked`.

**The two marks.** Testing the threshold per message would take a subtraction and two attribute look-ups.
`_mark` is therefore kept ready: ``_asked - threshold_messages``, the count of received messages at which to
ask again. The path of a message has one comparison, ``received >= _mark``, and below the mark it is in C
(`_take`, ``csrc/py_taker.c``). Stopping needs no test of its own: `_stop_asking` sets the mark to `_NEVER`.
With max_bytes there is a second mark, of bytes: the size of each message comes off `_pending_bytes`, and the
puller asks again at ``threshold_bytes``; only then do messages take the path `_on_sized_message`.

**Rounds.** After a lost connection the server has forgotten all requests, and after missed heartbeats it may
have. The puller then begins a new round: ``_asked = _received``, and one full request. What requests of
earlier rounds still report must not be taken off. So the reply subject of a request ends with its round, and
a status counts only if it comes on the present round's subject. Messages count always.

**Heartbeats.** While a request waits, the server sends a status 100 every `heartbeat`. A timer that starts
again with each message would be work per message. Instead one timer ticks at the heartbeat's interval and
looks whether anything has come since its last tick (`_seen`, `_looked_at`). Two ticks in a row without
anything are two missed heartbeats: a new round, and `NoHeartbeatError`. Until something has come for the
first time (`heard`), the heartbeats are short, a third of the timeout for an answer: who has no JetStream,
or a peer that swallows the requests, must not learn that after half a minute.

**Trouble.** An error that does not end the consumer leads to a new round after a pause, which doubles from
250 ms to 5 s as long as no message comes. A request that ends in the ordinary way (expired, complete) is
replaced at once.

**Pauses.** `_wanted` is the number of messages, counted as `_received` is, after which the puller pauses;
`_NEVER`, as most of the time, for none. No request asks for more than is wanted. The mark is never beyond
`_wanted`, so a message that reaches the mark leads to `_refill`, and that pauses the subscription. The client
keeps what comes during a pause, in order, and gives it to the puller as if it came when the pause ends: so it
counts only then, and a puller that is closed has never received it. What must not wait are statuses that are
no errors (`_passes`): heartbeats, and the ends of requests. While no request is open no heartbeat is expected
(`_is_idle`).

**Drain.** A drain of the client ends the subscription, so from then on the puller requests nothing more; it
delivers what comes until the client's end. But a puller may belong to an operation that has an end, such as
the listing of a bucket (`awaited`). Then the drain leaves the subscription alone, and the puller goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from ..arguments import ResultCallback
from ..compiled import Taker
from ..errors import NatsError, PermissionsViolationError
from ..headers import Headers, appended
from ..status import Status
from ..times import MILLISECOND
from .answers import whole
from .api import Api, Timer, encode
from .errors import MaxBytesExceededError, NoHeartbeatError, PinIdMismatchError, status_error
from .message import JsMsg
from .pull_options import PullOptions

MsgCallback = ResultCallback[JsMsg]

# The shortest and the longest pause after an error, in ms.
_FIRST_BACK_OFF, _LAST_BACK_OFF = 250.0, 5000.0
# The shortest heartbeat of a first request, in ns.
_SHORTEST_BEATS = 100 * MILLISECOND
# A mark that no count of messages reaches.
_NEVER = 1 << 62
# The statuses of a client that drains.
DRAINING = (Status.DRAINING_SUBS, Status.DRAINING_PUBS)


def is_status(payload: bytes, reply: str | None, headers: bytes) -> bool:
    """Return whether a delivery is a status.

    A stored message that looks like a status is told apart by its reply subject, the one for its ack.
    """
    return (
        headers[:9] == b"NATS/1.0 "
        and not payload
        and (reply is None or not reply.startswith("$JS.ACK."))
    )


def _is_ordinary_end(status: Headers) -> bool:
    """Return whether a status is the end of a request that has come to its end without an error."""
    return status.status in (404, 408) or (status.description or "").startswith("Batch Completed")


def size_of(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> int:
    """Return what a message counts towards max_bytes: the size of all its parts, as the server counts."""
    return len(subject) + len(payload) + len(reply or "") + len(headers or b"")


class StopAfter:
    """A message callback that stops its consumer just before it passes on the last of `left` messages."""

    __slots__ = ("_cb", "_stop", "left")

    def __init__(self, left: int, cb: MsgCallback, stop: Callable[[], object]) -> None:
        self.left = left
        self._cb = cb
        self._stop = stop

    def deliver(self, msg: JsMsg | None, error: NatsError | None) -> None:
        """Pass a message, or an error, on."""
        if msg is not None:
            self.left -= 1
            if not self.left:
                self._stop()
        self._cb(msg, error)


class Puller(Taker):
    """The engine of continuous pulling: it requests messages until `close` (see the head of this file).

    A subclass has `deliver`, `failed` and `ended`.
    """

    def __init__(self, api: Api, stream: str, consumer: str, options: PullOptions) -> None:
        self.api = api
        self.options = options
        self.closed = False
        self.awaited = False  # it goes on in a drain, which waits for it
        self._answered = False  # a status has come, of a server that knows the consumer
        self._next = f"{api.prefix}.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        first_beats = options.heartbeat
        if api.timeout:
            first_beats = min(first_beats, max(int(api.timeout * MILLISECOND / 3), _SHORTEST_BEATS))
        fixed = {"expires": options.expires, "idle_heartbeat": first_beats, **options.priority}
        # What all requests have in common until something has come, and afterwards.
        self._first_request = encode(fixed)[:-1]
        self._request = encode({**fixed, "idle_heartbeat": options.heartbeat})[:-1]
        self._first_beats = first_beats / MILLISECOND
        self._inbox = ""
        self._sid = 0
        self._round = 0
        # Messages since the beginning: those that have come, those that were requested, and how many must
        # have come before the next request.
        self._received = 0
        self._asked = 0
        self._mark = 0
        self._pending_bytes = 0
        self._asked_for_all = False  # the last request was for all of max_bytes
        self._wanted = _NEVER  # the count of received messages at which to pause
        self._error_kept = False  # during a pause: an error has ended the request
        self._looked_at = 0  # `_received` at the last tick or request
        self._pinned = bool(options.priority.get("group"))
        self._pin_id = ""
        self._connected = False  # when the status was last looked at
        self._seen = False  # since the last tick a status has come or a request was sent
        self._silent = 0  # ticks in a row without anything
        self._ticks: Timer = api.timer(self._tick, self._client_ended)
        self._pause: Timer = api.timer(self._resume, self._client_ended)
        self._back_off = 0.0

    # For the subclass.

    def deliver(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        """Take a message."""
        raise NotImplementedError

    def failed(self, error: NatsError) -> None:
        """Take the error that a request has ended with, or `NoHeartbeatError`. May close the puller.

        If it does not, the puller goes on, after a pause that grows as long as no message comes.
        """
        raise NotImplementedError

    def ended(self, error: NatsError) -> None:
        """Take the final error: the client has ended, or lacks a right. The puller is closed."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin to request, as soon as the client is connected. Raises `NotConnectedError`."""
        nats = self.api.nats
        self.api.refuse()
        self._inbox = nats.new_inbox()
        arrived = self._on_sized_message if self.options.max_bytes else self._take
        self._sid = nats.subscribe(f"{self._inbox}.*", arrived)
        if self.awaited:
            nats.await_in_drain(self._sid)
        self._connected = nats.is_connected()
        nats.add_status_listener(self._on_status)
        nats.add_error_listener(self._on_server_error)
        self._next_tick()
        self.begin()
        self._seen = False

    def begin(self) -> None:
        """Send the first request, if there is a connection."""
        if not self._round and self._mark != _NEVER:
            self._resume()

    def end_with_drain(self) -> None:
        """Let a drain end the puller from now on, although it was `awaited`."""
        self.awaited = False
        self.api.nats.await_in_drain(self._sid, False)

    def close(self) -> None:
        """Request nothing more, and deliver nothing more."""
        if not self.closed:
            self._leave()
            self.api.nats.unsubscribe(self._sid)

    def close_after(self, cb: Callable[[NatsError | None], object]) -> None:
        """Request nothing more, deliver what the server has sent already, then call ``cb(err)``."""
        self._stop_asking()
        self.api.nats.drain_subscription(self._sid, lambda error: self._drained(cb, error))

    def _drained(self, cb: Callable[[NatsError | None], object], error: NatsError | None) -> None:
        if not self.closed:
            self._leave()
        cb(error)

    @property
    def heard(self) -> bool:
        """Whether anything has come from a server that knows the consumer."""
        return self._answered or self._received > 0

    def _leave(self) -> None:
        self.closed = True
        self._stop_asking()

    def _stop_asking(self) -> None:
        self._mark = _NEVER
        self._ticks.cancel()
        self._pause.cancel()
        self.api.nats.remove_status_listener(self._on_status)
        self.api.nats.remove_error_listener(self._on_server_error)

    # Requests.

    def _begin_round(self) -> None:
        """Discard the count of what was requested before, and send a full request."""
        self._round += 1
        self._asked = self._received
        self._pending_bytes = 0
        self._silent = 0
        self._pin_id = ""
        self._ask()

    def _ask(self) -> None:
        """Send a request for what is missing to the maximum."""
        options = self.options
        # Messages of an earlier round's requests may have come as well.
        self._asked = max(self._asked, self._received)
        batch = options.max_messages - (self._asked - self._received)
        end = min(options.stop_after or _NEVER, self._wanted)
        batch = min(batch, end - self._asked)
        if batch <= 0:
            self._count_asked(0)
            return
        common = self._request if self.heard else self._first_request
        body = b'%b,"batch":%d' % (common, batch)
        if options.max_bytes:
            size = options.max_bytes - max(0, self._pending_bytes)
            self._asked_for_all = size == options.max_bytes
            body += b',"max_bytes":%d' % size
        if self._pin_id:
            body += b',"id":%b' % json.dumps(self._pin_id).encode()
        try:
            self.api.nats.publish(self._next, body + b"}", f"{self._inbox}.{self._round}")
        except NatsError as exc:
            self._trouble(exc)
            return
        self._seen = True
        self._error_kept = False
        self._looked_at = self._received
        self._count_asked(batch)
        if options.max_bytes:
            self._pending_bytes = max(0, self._pending_bytes) + size

    def _count_asked(self, more: int) -> None:
        """Count `more` messages as requested; a negative number: they will not come."""
        self._asked += more
        if self._mark != _NEVER:
            self._mark = min(self._asked - self.options.threshold_messages, self._wanted)

    def _ask_for_all(self) -> None:
        """Send a request for all of max_bytes: the next message does not fit in what was left of them.

        A request for the rest only would end in the same way, again and again.
        """
        if not self._pause.running and self._may_ask() and self._mark != _NEVER:
            self._count_asked(self._received - self._asked)
            self._round += 1
            self._pending_bytes = 0
            self._ask()

    def _refill(self) -> None:
        if self._received >= self._wanted and not self._draining():
            self._hold()
        elif not self._pause.running and self._may_ask():
            self._ask()

    def _resume(self) -> None:
        if self._may_ask():
            self._begin_round()

    def _may_ask(self) -> bool:
        """Return whether a request makes sense now. While the client drains the status is not CONNECTED."""
        nats = self.api.nats
        return nats.is_connected() and (self.awaited or nats.status() is Status.CONNECTED)

    # Pauses.

    def pause(self) -> None:
        """Deliver nothing, and request nothing, until `resume` or `want`."""
        self._want(self._received)
        self._hold()

    def resume(self) -> None:
        """Deliver what was kept, then what comes, without a limit."""
        self._want(_NEVER)
        self._release()

    def ask(self, msgs: int) -> None:
        """Deliver so many messages more, then pause."""
        if self.closed or self._draining():
            self.resume()
            return
        self._want(self._received + (self.left or 0) + msgs)
        if self.left:
            self._release()
        else:
            self._hold()

    @property
    def left(self) -> int | None:
        """How many messages are to be delivered before the next pause; None: any number."""
        return None if self._wanted == _NEVER else max(0, self._wanted - self._received)

    def _want(self, wanted: int) -> None:
        self._wanted = wanted
        self._count_asked(0)

    def _draining(self) -> bool:
        """Return whether the client drains. Then all messages are wanted, so that the drain ends."""
        draining = self.api.nats.status() in DRAINING
        if draining:
            self._want(_NEVER)
        return draining

    def _hold(self) -> None:
        self.api.nats.set_pending_limits(self._sid, -1, -1)  # what was requested is bounded already
        self.api.nats.pause(self._sid, self._passes)

    def _release(self) -> None:
        self.api.nats.resume(self._sid)
        if self._sid and not self.closed and self._mark != _NEVER and self._below():
            self._refill()

    def _passes(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> bool:
        """Handle a status that need not wait for the end of a pause, and return whether it was one."""
        self._seen = True
        if headers is None or not is_status(payload, reply, headers):
            return False
        status = Headers.parse(headers)
        if status.status != 100 and not _is_ordinary_end(status):
            self._error_kept = True
            return False
        self._on_status_message(subject, status)
        return True

    def _is_idle(self) -> bool:
        """Return whether no request is open, as there may be none during a pause."""
        if self._wanted == _NEVER:
            return False
        info = self.api.nats.subscription_info(self._sid)
        kept = info["pending_msgs"] if info is not None else 0
        return self._error_kept or self._asked - self._received <= kept

    def _trouble(self, error: NatsError) -> None:
        """Report an error, and begin a new round after a pause, which grows as long as no message comes."""
        if self._received != self._looked_at:
            self._back_off = 0.0
            self._looked_at = self._received
        if not self._pause.running and self._mark != _NEVER:
            self._back_off = min(max(self._back_off * 2, _FIRST_BACK_OFF), _LAST_BACK_OFF)
            self._pause.start(self._back_off)
        self.failed(error)

    def _next_tick(self) -> None:
        beats = self.options.heartbeat / MILLISECOND if self.heard else self._first_beats
        self._ticks.start(beats)

    def _tick(self) -> None:
        """Look, once per heartbeat interval, whether anything has come since the last time."""
        self._next_tick()
        come = self._seen or self._received != self._looked_at
        if come or self._pause.running or not self._may_ask() or self._is_idle():
            self._seen = False
            self._looked_at = self._received
            self._silent = 0
            return
        self._silent += 1
        if self._silent >= 2:
            self._begin_round()
            self._seen = False  # what has been sent says nothing
            self.failed(NoHeartbeatError())

    def _on_status(self, status: Status) -> None:
        # In a drain the status of a new connection is another one than CONNECTED.
        before, self._connected = self._connected, self.api.nats.is_connected()
        if self._connected and not before:
            self._pause.cancel()
            self._resume()
        elif status is Status.RECONNECTING:
            self.connection_lost()
        elif status is Status.DRAINING_SUBS and self._wanted != _NEVER:
            self.resume()

    def _on_server_error(self, error: NatsError) -> None:
        """End the puller if its user may not send its requests, or not receive in its inbox."""
        if not self.closed and isinstance(error, PermissionsViolationError):
            ours = self._next if error.kind == "publish" else f"{self._inbox}.*"
            if error.subject == ours:
                self._client_ended(error)

    def connection_lost(self) -> None:
        """Do nothing: the next connection begins a new round. A subclass may do more."""

    def _client_ended(self, error: NatsError) -> None:
        if not self.closed:
            self.close()
            self.ended(error)

    # Receiving.

    def _on_message(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        """Take a message that `_take` leaves to Python."""
        if headers is not None and self._take_status(subject, payload, reply, headers):
            return
        self._received = received = self._received + 1
        if received >= self._mark:
            self._refill()
        self.deliver(subject, payload, reply, headers)

    def _on_sized_message(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        """Take a message when there is a max_bytes."""
        if headers is not None and self._take_status(subject, payload, reply, headers):
            return
        self._received += 1
        self._pending_bytes -= size_of(subject, payload, reply, headers)
        if self._below():
            self._refill()
        self.deliver(subject, payload, reply, headers)

    def _take_status(self, subject: str, payload: bytes, reply: str | None, headers: bytes) -> bool:
        """Handle a message with headers if it is a status, and return whether it is one."""
        if is_status(payload, reply, headers):
            self._seen = True
            self._on_status_message(subject, Headers.parse(headers))
            return True
        if self._pinned:
            self._pin_id = appended(headers).get("Nats-Pin-Id", self._pin_id)
        return False

    def _on_status_message(self, subject: str, status: Headers) -> None:
        code = status.status or 0
        self._answered = self._answered or code != 503
        if code == 100:
            return
        current = subject == f"{self._inbox}.{self._round}"
        if not current and code in (404, 408, 503):
            return  # the end of a request of an earlier round
        if current:
            self._count_asked(-(whole(status.get("Nats-Pending-Messages")) or 0))
            self._pending_bytes -= whole(status.get("Nats-Pending-Bytes")) or 0
        if _is_ordinary_end(status):
            if self._below():
                self._refill()
        else:
            error = status_error(code, status.description, self._next)
            if isinstance(error, MaxBytesExceededError) and not current:
                pass  # what followed that request has asked for all of max_bytes
            elif isinstance(error, MaxBytesExceededError) and not self._too_large():
                self._ask_for_all()
            elif isinstance(error, PinIdMismatchError):
                self._pin_id = ""
                if self._below():
                    self._refill()
                self.failed(error)
            else:
                self._trouble(error)

    def _too_large(self) -> bool:
        """Return whether the next message is too large for any request, not just for the rest of this one."""
        return self._asked_for_all and self._received == self._looked_at

    def _below(self) -> bool:
        """Return whether so little is still to come that it is time for the next request."""
        if self._mark != _NEVER and self.options.max_bytes:
            few = self._pending_bytes <= self.options.threshold_bytes
            return few or self._received >= self._wanted
        return self._received >= self._mark
