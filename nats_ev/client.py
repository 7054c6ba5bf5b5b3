"""`Nats`: the client as its user sees it.

Every method of the manual, under its name. Argument checks, the table of subscriptions, requests
and draining live here; what happens on the wire is `_connection`'s matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

from . import auth, errors, subjects
from ._accessors import Accessors, Counts
from ._connection import Completion, Connection, Status
from ._deadlines import Deadline
from ._requests import RequestCallback, Requests
from ._wire import FIRST, Outbound, pub
from .headers import HeadersLike, encode_headers
from .nuid import next_nuid
from .options import Options, milliseconds
from .subscription import MessageCallback, Subscription

Payload = bytes | bytearray | memoryview | str | None
Milliseconds = float | timedelta
T = TypeVar("T")

# Subjects published to more than once are remembered in C, so many at a time.
_INTERNED_MAX = 4096

# Refuses what the wire would refuse, for subscriptions that no connection needs yet.
_probe = Outbound()

# A client that is connected, or on the way there, lives on when its user has dropped it.
_live: set[Nats] = set()


class Nats(Accessors):
    """A NATS client on a libev loop.

    With ``host``, ``path`` or ``servers`` it starts connecting at once; else `connect` does. All
    callbacks run on the loop, none inside the call that took it. An exception that a callback
    raises goes to ``sys.excepthook``; KeyboardInterrupt and SystemExit come out of the loop's
    ``start()``.

    Options are those of the manual and of `nats_ev.options.Options`, which documents each with unit
    and default. Raises TypeError for an unknown option or a wrong type, ValueError for a bad value.
    """

    def __init__(self, **options: Any) -> None:
        self._options = Options.from_kwargs(options)
        if self._options.loop is None:
            from . import pyev

            self._options.loop = pyev.default_loop()
        self._subs: dict[int, Subscription] = {}
        self._listeners: list[Callable[[Status], object]] = []
        self._last_sid = 0
        self._out = Outbound()
        self._wbuf = self._out.c
        # Subject → index of its interned prefix, and subjects used once, which were framed directly:
        # a flood of ever new ones (acknowledgements) never displaces those that are used again.
        self._interned: dict[str, int] = {}
        self._used_once: set[str] = set()
        self._batches = 0
        self._draining: list[Callable[[errors.NatsError | None], object]] | None = None
        self._drain_ping_due = False
        self._published_at_fence = 0
        self._connection = Connection(
            self._options.loop, self._options, self._out, self._subs, self
        )
        self._requests = Requests(self)
        self._zero = Counts()
        if self._options.connects_at_once:
            self._open()

    def __repr__(self) -> str:
        server = self._connection.server
        where = f" {server.url}" if server is not None else ""
        return f"<{type(self).__name__}{where} {self.status().value}>"

    # Connecting.

    def connect(self, host: str | None = None, port: int = 4222) -> None:
        """Start connecting to a server, or without arguments to those of the options.

        Returns at once; `on_connect` tells when the handshake is complete. Replaces a reconnect that
        waits. Raises `AlreadyConnectedError` when connected or connecting.
        """
        self._refuse_if_connected()
        if host is not None:
            self._connection.pool.set_tcp(host, port)
        self._open()

    def connect_unix(self, path: str) -> None:
        """`connect` to a Unix-domain socket."""
        self._refuse_if_connected()
        self._connection.pool.set_path(path)
        self._open()

    def disconnect(self) -> None:
        """Close the connection, or stop trying to make one, and drop the queued messages.

        No message is delivered after it returns. Pending completions get ``disconnected``, then
        `on_disconnect` follows if there was a connection, all on the next loop turn. Does nothing
        when there is nothing to close. `drain` is the way to end without losing anything.
        """
        self._connection.close()

    def is_connected(self) -> bool:
        """True from the end of the handshake to the end of the connection."""
        return self._connection.connected

    def status(self) -> Status:
        """What the client is doing."""
        if self._draining is not None:
            return Status.DRAINING_SUBS
        return self._connection.status

    # Publishing.

    def publish(self, subject: str, payload: Payload = b"", reply_to: str | None = None) -> None:
        """Publish a message.

        Args:
            subject: no empty string, no blank, no control character.
            payload: any bytes-like object, copied before the call returns, or str, sent as UTF-8.
            reply_to: a subject for answers; None and "" mean none.

        Raises `BadSubjectError`, `MaxPayloadError`, `OutboundBufferLimitError` or `NotConnectedError`
        (no connection and none coming), and then nothing has been queued.
        """
        index = self._interned.get(subject) if not reply_to else None
        if index is not None:
            try:
                code = pub(self._wbuf, index, payload, len(payload))  # type: ignore[arg-type]
            except TypeError:  # a payload that is not bytes
                code = self._publish(subject, payload, reply_to)
        else:
            code = self._publish(subject, payload, reply_to)
        if code:
            self._queued(code, subject, reply_to or "")

    pub = publish

    def hpublish(
        self,
        subject: str,
        headers: HeadersLike,
        payload: Payload = b"",
        reply_to: str | None = None,
    ) -> None:
        """Publish a message with headers: `Headers`, a mapping, or a raw block.

        A raw block begins with ``NATS/1.0`` and ends with an empty line. Raises what `publish`
        raises, and `BadHeadersError`; headers count towards max_payload.
        """
        code = self._out.publish(
            subjects.encode(subject),
            subjects.encode(reply_to) if reply_to else b"",
            encode_headers(headers),
            _payload(payload),
        )
        if code:
            self._queued(code, subject, reply_to or "", "message")

    hpub = hpublish

    def batch(self, coderef: Callable[[], T]) -> T:
        """Call coderef, which publishes; nothing is scheduled before it returns or raises.

        More than 1 MiB is still written early. May be nested. Returns what coderef returns.
        """
        self._batches += 1
        try:
            return coderef()
        finally:
            self._batches -= 1
            if not self._batches and len(self._out):
                self._connection.need_flush()

    def _publish(self, subject: str, payload: Payload, reply_to: str | None) -> int:
        """The way of a first use, of a reply subject, and of what is not bytes."""
        data = _payload(payload)
        if reply_to:
            return self._out.publish(
                subjects.encode(subject), subjects.encode(reply_to), None, data
            )
        index = self._interned.get(subject)
        if index is None:
            used_once = self._used_once
            if subject not in used_once:
                code = self._out.publish(subjects.encode(subject), b"", None, data)
                if code >= 0:
                    if len(used_once) >= _INTERNED_MAX:
                        used_once.clear()
                    used_once.add(subject)
                return code
            if len(self._interned) >= _INTERNED_MAX:
                self._interned.clear()
                self._out.forget()
            index = self._interned[subject] = self._out.intern(subject)
            used_once.discard(subject)
        return self._out.pub_interned(index, data)

    def _queued(self, code: int, subject: str, reply: str = "", what: str = "payload") -> None:
        """What a framing call's code asks for; raises what it refuses."""
        if code < 0:
            if self._draining is not None and self._out.limits.closed:
                raise errors.ConnectionDrainingError("connection is draining")
            self._out.fail(code, subject=subject, reply=reply, what=what)
        if self._batches:
            code &= ~FIRST
        self._connection.queued(code)

    # Subscribing.

    def subscribe(self, subject: str, cb: MessageCallback, queue_group: str | None = None) -> int:
        """Subscribe; returns the subscription's sid, counted from 1 and never used again.

        ``cb(subject, payload, reply, headers)``: payload is bytes, reply and headers (the raw block)
        may be None. With queue_group, each message goes to one member of the group. Survives
        reconnects. May be called without a connection. Raises `BadSubjectError`.
        """
        return self._new_subscription(subject, cb, queue_group).sid

    sub = subscribe

    def subscribe_max(
        self, subject: str, cb: MessageCallback, max_msgs: int, queue_group: str | None = None
    ) -> int:
        """`subscribe`, and end after max_msgs messages."""
        sid = self.subscribe(subject, cb, queue_group)
        if max_msgs > 0:
            self.unsubscribe(sid, max_msgs)
        return sid

    def unsubscribe(self, sid: int, max_msgs: int | None = None) -> None:
        """End a subscription: now, or when max_msgs messages in all have come since subscribe.

        When as many have come already it ends at once (the server's rule). An unknown sid is
        ignored. After an immediate end no message is delivered, also of those already received.
        """
        sub = self._subs.get(sid)
        if sub is None:
            return
        sub.plain = False
        self._connection.interrupt(sub)
        if max_msgs and max_msgs > sub.received:
            sub.max_msgs = max_msgs
            self._unsub(sid, max_msgs - sub.received_before)
        else:
            self._drop(sub)
            self._unsub(sid)

    unsub = unsubscribe

    def drain_subscription(
        self, sid: int, cb: Callable[[errors.NatsError | None], object] | None = None
    ) -> None:
        """End a subscription gracefully: what the server has sent for it is still delivered.

        ``cb(err)`` follows the last message; err is ``disconnected`` when the connection was lost
        before. An unknown sid has nothing to wait for. It does not come back with a reconnect.
        """
        sub = self._subs.get(sid)
        if sub is None or not self._connection.connected:
            self.unsubscribe(sid)
            if cb is not None:
                self.call_soon(cb, None)
            return
        sub.draining = True
        self._unsub(sid)

        def done(error: errors.NatsError | None) -> None:
            self._drop(sub)
            if cb is not None:
                cb(error)

        self._connection.ping(done)

    def subscription_count(self) -> int:
        """How many subscriptions there are, with the one that all requests share."""
        return len(self._subs)

    def _new_subscription(
        self, subject: str, cb: MessageCallback, queue_group: str | None
    ) -> Subscription:
        if self._draining is not None:
            raise errors.ConnectionDrainingError("connection is draining")
        subjects.check_subscribe(subject)
        if not callable(cb):
            raise TypeError(f"cb must be callable, not {type(cb).__name__}")
        queue = subjects.encode(queue_group) if queue_group else b""
        sid = self._last_sid + 1
        sub = Subscription(self, sid, subjects.encode(subject), queue, cb)
        wire = self._connection.wire
        code = (_probe if wire is None else wire).sub(sub.raw_subject, sub.raw_queue, sid)
        if code < 0:
            self._out.fail(code, subject=subject, queue=queue_group or "")
        self._last_sid = sid
        self._subs[sid] = sub
        if wire is not None:
            self._connection.queued(code)
        else:  # the next handshake brings it
            _probe.sent(len(_probe))
        return sub

    def _unsub(self, sid: int, max_msgs: int = 0) -> None:
        wire = self._connection.wire
        if wire is not None:
            self._connection.queued(wire.unsub(sid, max_msgs))

    def _drop(self, sub: Subscription) -> None:
        sub.closed = True
        self._subs.pop(sub.sid, None)
        if sub.on_reply is not None:
            self._requests.inbox_closed()

    # Requests.

    def request(
        self,
        subject: str,
        payload: Payload,
        cb: RequestCallback,
        timeout_ms: Milliseconds = 5000,
        *,
        headers: HeadersLike | None = None,
        no_responders: bool | None = None,
    ) -> None:
        """Publish a request and call ``cb(response, err, headers)`` exactly once.

        response is the answer's payload, or None with err: `RequestTimeoutError` after timeout_ms
        (0: never), `NoRespondersError` at once when nobody listens and no_responders is set (None:
        as the client's option), ``disconnected`` when the connection is lost meanwhile. Raises what
        `publish` raises.
        """
        if self._draining is not None:
            raise errors.ConnectionDrainingError("connection is draining")
        if not callable(cb):
            raise TypeError(f"cb must be callable, not {type(cb).__name__}")
        code = self._requests.send(
            subjects.encode(subject),
            payload if type(payload) is bytes else _payload(payload),
            cb,
            (5.0 if timeout_ms == 5000 else milliseconds(timeout_ms, "timeout_ms") / 1000),
            encode_headers(headers) if headers is not None else None,
            no_responders,
        )
        if code:
            self._queued(code, subject)

    req = request

    def new_inbox(self) -> str:
        """A fresh subject for answers, unguessable, that nobody else uses."""
        return f"{self._options.inbox_prefix}.{next_nuid()}"

    # Fences.

    def ping(self) -> None:
        """Send a PING. Does nothing while connecting. Raises `NotConnectedError`."""
        self._refuse_if_closed()
        if self._connection.connected:
            self._connection.ping()

    def flush(self, cb: Callable[[errors.NatsError | None], object] | None = None) -> None:
        """Send a PING behind all that was published; call ``cb(err)`` when its PONG comes.

        err is None: the server has processed everything before. Otherwise the connection was lost
        first (``disconnected``). While connecting it follows the queue. Raises `NotConnectedError`.
        """
        self._refuse_if_closed()
        self._connection.ping(cb)

    def rtt(self, cb: Callable[[float | None, errors.NatsError | None], object]) -> None:
        """Measure a PING's round trip; ``cb(ms, err)``. Raises `NotConnectedError`."""
        self._refuse_if_closed()
        start = self._connection.deadlines.clock()

        def done(error: errors.NatsError | None) -> None:
            ms = (self._connection.deadlines.clock() - start) * 1000
            cb(None if error is not None else ms, error)

        self._connection.ping(done)

    def drain(self, cb: Callable[[errors.NatsError | None], object] | None = None) -> None:
        """End gracefully: unsubscribe, deliver what is in flight, flush, disconnect.

        ``cb(err)`` when the server has confirmed, then `on_disconnect`; err is ``disconnected`` when
        the connection was lost before. From now on subscribe and request raise
        `ConnectionDrainingError`, publish once the final PING has been written; callbacks of messages
        in flight may still publish their answers. A second call joins the first. Raises
        `NotConnectedError`.
        """
        self._refuse_if_closed()
        if self._draining is not None:
            if cb is not None:
                self._draining.append(cb)
            return
        self._draining = [cb] if cb is not None else []
        self._connection.closing = True
        self._drain_ping_due = True
        self._connection.need_flush()

    def before_write(self) -> None:
        """See `_connection.Client`."""
        self._requests.purge()
        if self._drain_ping_due:
            self._drain_ping_due = False
            for sid, sub in self._subs.items():
                if sub.on_reply is None:
                    self._out.unsub(sid)
            self._drain_fence()

    def _drain_fence(self) -> None:
        self._published_at_fence = self._out.accounting().accepted
        self._connection.ping(self._drain_confirmed)
        self._out.limits.closed = 1

    def _drain_confirmed(self, error: errors.NatsError | None) -> None:
        if error is None and self._out.accounting().accepted != self._published_at_fence:
            # Callbacks of messages in flight have published: that must be confirmed, too.
            self._drain_fence()
            return
        callbacks, self._draining = self._draining or [], None
        for callback in callbacks:
            self._connection.turn.soon(callback, error)
        if error is None:
            for sub in list(self._subs.values()):
                self._drop(sub)
            self._connection.finish()

    # For programs and layers on top that must act in time with the client.

    def call_soon(self, cb: Callable[..., object], *args: object) -> None:
        """Call ``cb(*args)`` on the loop, behind all callbacks that are due already.

        What it raises is treated like an exception of any callback.
        """
        self._connection.turn.soon(cb, *args)

    def call_later(
        self, delay_ms: Milliseconds, cb: Callable[..., object], *args: object
    ) -> Deadline:
        """Call ``cb(*args)`` on the loop in delay_ms, unless ``cancel()`` of the result is called.

        Costs far less than a loop timer of its own. Forgotten when the client ends (`disconnect`,
        the end of `drain`, giving up): a listener of the status CLOSED learns of that.
        """
        seconds = milliseconds(delay_ms, "delay_ms") / 1000
        return self._connection.deadlines.after(
            seconds, lambda: self._connection.turn.call(cb, *args)
        )

    def add_status_listener(self, cb: Callable[[Status], object]) -> None:
        """Call ``cb(status)`` on the loop for each change of `status`, before the on_* callbacks."""
        self._listeners.append(cb)

    def remove_status_listener(self, cb: Callable[[Status], object]) -> None:
        """Undo `add_status_listener`; harmless when it is not there."""
        if cb in self._listeners:
            self._listeners.remove(cb)

    # What the connection and the subscriptions tell (see `_connection.Client`, `subscription.Owner`).

    def report(self, error: errors.NatsError) -> None:
        """An error for on_error; without one it comes out of the loop callback."""
        if self._options.on_error is not None:
            self._connection.turn.soon(self._options.on_error, error)
        else:
            self._connection.turn.throw(error)

    def handle_server_error(self, error: errors.ServerError) -> None:
        """An -ERR that leaves the connection open."""
        self.report(error)

    def live_subscriptions(self) -> Iterator[Subscription]:
        """What a new connection must restore."""
        if self._draining is not None:
            return iter([s for s in self._subs.values() if s.on_reply is not None])
        return iter([s for s in self._subs.values() if not s.draining])

    def completions(self) -> Iterator[tuple[int, Completion]]:
        """The requests that can no longer be answered."""
        return self._requests.take_all()

    def status_changed(self, status: Status) -> None:
        """See `_connection.Client`."""
        for listener in self._listeners:
            self._connection.turn.soon(listener, status)

    def ended(self) -> None:
        """No connection and none coming."""
        self._connection.turn.soon(self._release)

    def call(self, callback: Callable[..., object], *args: object) -> None:
        """Call a user's callback; deals with what it raises."""
        self._connection.turn.call(callback, *args)

    def exhausted(self, sub: Subscription) -> None:
        """The server has sent all that was asked for, and dropped it."""
        self._drop(sub)

    def _open(self) -> None:
        _live.add(self)
        self._connection.open()

    def _release(self) -> None:
        if not self._connection.active:
            self._connection.deadlines.stop()
            _live.discard(self)

    def _refuse_if_connected(self) -> None:
        if self._connection.active and self._connection.status is not Status.RECONNECTING:
            raise errors.AlreadyConnectedError

    def _refuse_if_closed(self) -> None:
        if not self._connection.active:
            raise errors.NotConnectedError

    nkey_generate_user_seed = staticmethod(auth.nkey_generate_user_seed)
    nkey_public_from_seed = staticmethod(auth.nkey_public_from_seed)


def _payload(payload: Payload) -> bytes:
    """What is sent for a payload."""
    if type(payload) is bytes:
        return payload
    if payload is None:
        return b""
    if isinstance(payload, str):
        try:
            return payload.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise ValueError("payload has a lone surrogate, which UTF-8 can't express") from None
    try:
        return bytes(memoryview(payload))
    except TypeError:
        raise TypeError(
            f"payload must be bytes-like, str or None, not {type(payload).__name__}"
        ) from None
