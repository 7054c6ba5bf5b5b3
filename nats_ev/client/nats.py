"""`Nats`: the client as its user sees it.

Every method of the manual, under its name, and the hot path of publishing. What the methods set in
motion is in `core` and the modules that it names.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from .. import errors, subjects
from ..arguments import (
    Milliseconds,
    Payload,
    callable_or_none,
    check_callback,
    count,
    milliseconds,
    payload_bytes,
)
from ..auth import nkey_generate_user_seed, nkey_public_from_seed
from ..headers import HeadersLike, encode_headers
from ..net import Deadline
from ..nuid import next_nuid
from ..options import Options
from ..protocol import (
    NO_INBOX,
    PENDING_BYTES_LIMIT,
    PENDING_MSGS_LIMIT,
    MessageCallback,
    pub,
    pub_to,
    request,
)
from ..redact import discreet
from ..status import Status
from .accessors import Accessors, Counts
from .core import Core
from .request_many import RequestCallback, Sentinel

Done = Callable[[errors.NatsError | None], object]
T = TypeVar("T")

# Subjects published to more than once are remembered in C, so many at a time.
_INTERNED_MAX = 4096


class Nats(Accessors):
    """A NATS client on a libev loop.

    With ``host``, ``path`` or ``servers`` it starts connecting at once; else `connect` does. All
    callbacks run on the loop, none inside the call that took it. An exception that a callback
    raises goes to ``sys.excepthook``; KeyboardInterrupt and SystemExit come out of the loop's
    ``start()``. Everything happens in the thread that runs the loop: other threads reach it by an
    `Async` watcher. Most calls of theirs while the loop runs are a RuntimeError (not each publish is
    looked at). In the child of a fork a client refuses work; make a new one there.

    Options, all by keyword; in parentheses the default. Times are ms or a timedelta, sizes bytes.

    * Where to: host, port (4222), path (of a Unix socket), servers (URLs: ``nats://``, ``tls://``,
      ``unix://``, or host:port), randomize_servers (True), ignore_discovered_servers (False).
    * The connection: loop (that of `nats_ev.pyev.default_loop`), name, connect_timeout (2000; 0: none),
      keepalive (seconds of idleness before TCP probes; 0: off), priority (of its watchers, -2 to 2; 0).
    * Who we are: user, password, token, creds_file, jwt, nkey_seed, or nkey, the public key, with a
      signature_cb. Asked at every connect: ``user_cb()`` for (user, password), ``token_cb()``,
      ``jwt_cb()``, ``signature_cb(nonce)`` for bytes.
    * TLS, asked for by any of these: tls (True), tls_ca_file, tls_cert_file, tls_key_file,
      tls_hostname, tls_skip_verify (False), tls_handshake_first (False), tls_context (an
      `ssl.SSLContext` in place of the files). Without any the server decides, with ``tls=False`` too.
    * The protocol: echo (True: receive what this client publishes itself), no_responders (False; True:
      requests fail at once when nobody listens), inbox_prefix ("_INBOX"), verbose and pedantic (False),
      ping_interval (120,000; 0: none), max_pings_outstanding (2; 0: any number).
    * Reconnecting: reconnect (False), reconnect_delay (2000), max_reconnect_delay (30,000),
      max_reconnect_attempts (60 failures in a row; 0: unlimited), retry_on_failed_connect (as
      reconnect), ignore_auth_error_abort (False; True: ask a server again that has refused us twice).
    * Limits: reconnect_buffer_size (of what waits for a connection; 8 MiB; 0: nothing, -1:
      unlimited), max_pending_bytes (unsent while connected; 256 MiB; 0: unlimited), max_payload (an
      own one besides the server's; 0: none), max_message_size (inbound; 0: 64 MiB, or twice the
      server's max_payload), max_control_line (4096), slow_consumer_bytes (0: off), drain_timeout
      (30,000 ms; 0: any time).
    * Callbacks: ``on_connect()``, ``on_disconnect()``, ``on_reconnect()``, ``on_error(err)``,
      ``on_lame_duck()``, ``on_slow_consumer(pending_bytes)``, ``on_discovered_servers(urls)``; each
      is also a method, which explains it.

    Raises TypeError for an unknown option or a wrong type, `BadOptionsError` (a ValueError) for a bad
    value.
    """

    @discreet
    def __init__(self, **options: Any) -> None:
        self._options = Options.from_kwargs(options)
        if self._options.loop is None:
            from .. import pyev

            self._options.loop = pyev.default_loop()
        self._core = core = Core(self._options, self)
        self._connection = core.connection
        self._requests = core.requests
        self._out = core.out
        self._wbuf = core.out.c
        self._last_reply = core.connection.last_reply
        # Subject → index of its interned prefix, and subjects used once, which were framed directly:
        # a flood of ever new ones (acknowledgements) never displaces those that are used again.
        self._interned: dict[str, int] = {}
        self._used_once: set[str] = set()
        self._zero = Counts()
        if self._options.connects_at_once:
            core.open()

    def __repr__(self) -> str:
        if not hasattr(self, "_connection"):  # a bad option, and somebody looks at the wreck
            return f"<{type(self).__name__}>"
        server = self._connection.pool.current
        where = f" {server.url}" if server is not None else ""
        return f"<{type(self).__name__}{where} {self.status().value}>"

    # Connecting.

    @discreet
    def connect(self, host: str | None = None, port: int = 4222) -> None:
        """Start connecting to a server, or without arguments to those of the options.

        Returns at once; `on_connect` tells when the handshake is complete. Replaces a reconnect that
        waits, and starts counting failures anew. Raises `AlreadyConnectedError` when connected or
        connecting, `BadOptionsError` when there is no server to connect to.
        """
        self._refuse_if_connected()
        if host is not None:
            self._connection.pool.set_tcp(*Options.checked_address(host, port))
        elif not self._connection.pool.configured:
            raise errors.BadOptionsError("connect needs a host: no server was given before")
        self._core.open()

    def connect_unix(self, path: str) -> None:
        """`connect` to a Unix-domain socket."""
        self._refuse_if_connected()
        self._connection.pool.set_path(Options.checked_path(path))
        self._core.open()

    def disconnect(self) -> None:
        """Close the connection, or stop trying to make one, and drop the queued messages.

        No message is delivered after it returns. Pending completions get ``disconnected``, then
        `on_disconnect` follows if there was a connection, all on the next loop turn. Does nothing
        when there is nothing to close. `drain` is the way to end without losing anything.
        """
        self._connection.refuse_other_threads()
        self._connection.close()
        self._core.subscriptions.forget_pending()

    def is_connected(self) -> bool:
        """True from the end of the handshake to the end of the connection."""
        return self._connection.connected

    def status(self) -> Status:
        """What the client is doing.

        DISCONNECTED (never connected), CONNECTING, CONNECTED, RECONNECTING (also while it waits),
        DRAINING_SUBS, DRAINING_PUBS, or CLOSED (ended; `connect` begins anew).
        """
        return self._core.status

    def force_reconnect(self) -> None:
        """Drop the connection and make a new one at once, whether `reconnect` is on or not.

        While waiting before an attempt: attempt at once. What is queued is kept; requests in flight
        fail as with any loss. In a message's callback: once what has been received with it is
        delivered, too. Raises `NotConnectedError`.
        """
        self._refuse_if_closed()
        self._connection.force_reconnect()

    @discreet
    def set_server_pool(self, servers: list[str]) -> None:
        """Replace the servers, discovered ones included; a wait before the next attempt begins anew.

        A connection stays, also to a server that is not among them. servers are URLs as in the option
        of that name. Raises `BadOptionsError`, and then nothing has changed.
        """
        self._connection.set_servers(Options.checked_servers(servers))

    # Publishing.

    def publish(self, subject: str, payload: Payload = b"", reply_to: str | None = None) -> None:
        """Publish a message.

        Args:
            subject: no empty string, no blank, no control character.
            payload: any bytes-like object, copied before the call returns, or str, sent as UTF-8;
                None is empty.
            reply_to: a subject for answers; None and "" mean none.

        Raises `BadSubjectError`, `MaxPayloadError`, `OutboundBufferLimitError` or `NotConnectedError`
        (no connection and none coming), and then nothing has been queued.
        """
        if subject is self._last_reply.text and type(payload) is bytes and not reply_to:
            raw = self._last_reply.raw
            code = pub_to(self._wbuf, raw, len(raw), payload, len(payload))
        elif (index := self._interned.get(subject)) is None or reply_to:
            code = self._publish(subject, payload, reply_to)
        else:
            try:
                code = pub(self._wbuf, index, payload, len(payload))  # type: ignore[arg-type]
            except TypeError:  # a payload that is not bytes
                code = self._publish(subject, payload, reply_to)
        if code:
            if code > 0:
                self._connection.queued(code)
            else:
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
        info = self._connection.info
        if info is not None and not info.headers and self._connection.connected:
            raise errors.BadHeadersError("the server does not support headers")
        code = self._out.publish(
            subjects.encode(subject),
            subjects.encode(reply_to) if reply_to else b"",
            encode_headers(headers),
            payload_bytes(payload),
        )
        if code:
            self._queued(code, subject, reply_to or "", "message")

    hpub = hpublish

    def batch(self, coderef: Callable[[], T]) -> T:
        """Call coderef, which publishes; nothing is scheduled before it returns or raises.

        More than 1 MiB is still written early. May be nested. Returns what coderef returns.
        """
        connection = self._connection
        connection.batches += 1
        try:
            return coderef()
        finally:
            connection.batches -= 1
            if not connection.batches and len(self._out):
                connection.need_flush()

    def _publish(self, subject: str, payload: Payload, reply_to: str | None) -> int:
        """The way of a first use, of a reply subject, and of what is not bytes."""
        data = payload_bytes(payload)
        if reply_to:
            return self._out.publish(
                subjects.encode(subject), subjects.encode(reply_to), None, data
            )
        index = self._interned.get(subject)
        if index is None:
            index = self._remember(subject)
        if index is None:
            raw = subjects.encode(subject)
            return pub_to(self._wbuf, raw, len(raw), data, len(data))  # type: ignore[no-any-return]
        return self._out.pub_interned(index, data)

    def _remember(self, subject: str) -> int | None:
        """The index of a subject that is not interned yet; None at its first use."""
        used_once = self._used_once
        if subject not in used_once:
            if len(used_once) >= _INTERNED_MAX:
                used_once.clear()
            used_once.add(subject)
            return None
        if len(self._interned) >= _INTERNED_MAX:
            self._interned.clear()
            self._out.forget()
        index = self._interned[subject] = self._out.intern(subject)
        used_once.discard(subject)
        return index

    def _queued(self, code: int, subject: str, reply: str = "", what: str = "payload") -> None:
        """What a framing call's code asks for; raises what it refuses."""
        if code < 0:
            if self._out.limits.closed:
                self._connection.refuse_strangers()
                self._core.refuse_if_draining()
            self._out.fail(code, subject=subject, reply=reply, what=what)
        self._connection.queued(code)

    # Subscribing.

    def subscribe(self, subject: str, cb: MessageCallback, queue_group: str | None = None) -> int:
        """Subscribe; returns the subscription's sid, counted from 1 and never used again.

        ``cb(subject, payload, reply, headers)``: payload is bytes, reply and headers (the raw block)
        may be None. With queue_group, each message goes to one member of the group. Survives
        reconnects. May be called without a connection. Raises `BadSubjectError`, and after `drain`
        `ConnectionDrainingError`.
        """
        self._connection.refuse_strangers()
        self._core.refuse_if_draining()
        return self._core.subscriptions.add(subject, cb, queue_group).sid

    sub = subscribe

    def subscribe_max(
        self, subject: str, cb: MessageCallback, max_msgs: int, queue_group: str | None = None
    ) -> int:
        """`subscribe`, and end after max_msgs messages; 0: without end."""
        limit = count(max_msgs, "max_msgs")
        sid = self.subscribe(subject, cb, queue_group)
        if limit:
            self.unsubscribe(sid, max_msgs)
        return sid

    def unsubscribe(self, sid: int, max_msgs: int | None = None) -> None:
        """End a subscription: now, or when max_msgs messages in all have come since subscribe.

        When as many have come already it ends at once (the server's rule). An unknown sid is
        ignored. After an immediate end no message is delivered, also of those already received.
        """
        self._connection.refuse_other_threads()
        self._core.subscriptions.end(sid, max_msgs)

    unsub = unsubscribe

    def drain_subscription(self, sid: int, cb: Done | None = None) -> None:
        """End a subscription gracefully: what the server has sent for it is still delivered.

        ``cb(err)`` follows the last message; err is ``disconnected`` when the connection was lost
        before. An unknown sid has nothing to wait for. It does not come back with a reconnect.
        """
        self._core.subscriptions.drain(sid, callable_or_none(cb, "cb"))

    def subscription_count(self) -> int:
        """How many subscriptions there are, with the one that all requests share."""
        return len(self._core.subscriptions.by_sid)

    def subscription_info(self, sid: int) -> dict[str, Any] | None:
        """What is known of a subscription; None for an unknown sid.

        sid, subject, queue_group, max_msgs (0: no end), received (from the server), delivered (to the
        callback), dropped, pending_msgs, pending_bytes, their limits, paused, draining.
        """
        return self._core.subscriptions.info(sid)

    # Back-pressure.

    def pause(self, sid: int) -> None:
        """Keep a subscription's messages instead of delivering them, until `resume`.

        Beyond its limits (see `set_pending_limits`) new ones are dropped; `on_error` gets one
        `SlowConsumerError` each time that begins. An unknown sid is ignored, here and by `resume`.
        """
        self._core.subscriptions.pause(sid)

    def resume(self, sid: int) -> None:
        """Deliver what is pending, in order and on the loop, then what comes."""
        self._core.subscriptions.resume(sid)

    def set_pending_limits(
        self, sid: int, msgs: int = PENDING_MSGS_LIMIT, size: int = PENDING_BYTES_LIMIT
    ) -> None:
        """How many messages, and bytes of headers and payload, a paused subscription keeps.

        500,000 messages and 64 MiB unless set. Negative: any number. For what arrives from now on.
        """
        self._core.subscriptions.set_limits(sid, msgs, size)

    def pause_reading(self) -> None:
        """Read nothing from the socket until `resume_reading`, so that the server has to wait.

        What has been read already is still delivered. Meanwhile the end of the connection is not
        noticed, and a server that has waited for too long, or has too much that waits, closes it (10
        s of a full socket, 64 MiB, or some unanswered PINGs, unless configured otherwise). Survives a
        reconnect.
        """
        self._connection.pause_reading(True)

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        self._connection.pause_reading(False)

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

        response is the answer's payload, or None with err: `RequestTimeoutError` when timeout_ms (0: any
        time) have passed since this turn of the loop was over, all but the write, `NoRespondersError`
        at once when nobody listens and no_responders is set (None: as the client's option),
        ``disconnected`` (`ConnectionLostError`, `ConnectionClosedError`) when the connection is lost or
        closed meanwhile. Raises what `publish` raises, and after `drain` `ConnectionDrainingError`.
        """
        if not callable(cb):  # here a call costs too much
            check_callback(cb)
        requests = self._requests
        if timeout_ms != requests.timeout:
            requests.use_timeout(timeout_ms)
        if no_responders is not None:
            cb = requests.override_no_responders(cb, no_responders)
        connection = self._connection
        index: int | None
        try:
            index = self._interned[subject]
        except KeyError:
            index = self._remember(subject)
        if index is None or headers is not None or type(payload) is not bytes:
            code = requests.send(
                subjects.encode(subject),
                payload_bytes(payload),
                cb,
                encode_headers(headers) if headers is not None else None,
            )
        else:
            connection.last_order = order = connection.last_order + 1
            code = request(self._wbuf, index, payload, len(payload), order)
            if code == NO_INBOX:
                requests.open_inbox()
                code = request(self._wbuf, index, payload, len(payload), order)
            if code >= 0:
                requests.waiting[order] = cb
                if not requests.run_start:
                    requests.begin_run(order)
        if code:
            if code > 0:
                connection.queued(code)
            else:
                self._queued(code, subject)

    req = request

    def request_many(
        self,
        subject: str,
        payload: Payload,
        cb: RequestCallback,
        timeout_ms: Milliseconds = 5000,
        *,
        headers: HeadersLike | None = None,
        stall_ms: Milliseconds = 0,
        max_msgs: int = 0,
        sentinel: Sentinel | bool = False,
    ) -> None:
        """Publish one request that many may answer (ADR-47).

        ``cb(response, None, headers)`` for each answer, then ``cb(None, err, None)`` once. It ends
        after max_msgs answers, after stall_ms without another one, at an answer for which
        ``sentinel(payload, headers)`` is true (True: an empty payload), and after timeout_ms in all;
        0 means without that end. err is None then, but `RequestTimeoutError` when nobody has answered,
        `NoRespondersError` when nobody listens, and ``disconnected`` when the connection was lost.
        Raises what `publish` raises.
        """
        self._core.refuse_if_draining()
        check_callback(cb)
        count(max_msgs, "max_msgs")
        if sentinel is True:
            sentinel = _is_empty
        elif sentinel and not callable(sentinel):
            raise TypeError("sentinel must be a bool or callable")
        code = self._requests.send_many(
            subjects.encode(subject),
            payload_bytes(payload),
            cb,
            milliseconds(timeout_ms, "timeout_ms") / 1000,
            encode_headers(headers) if headers is not None else None,
            milliseconds(stall_ms, "stall_ms") / 1000,
            max_msgs,
            sentinel or None,
        )
        if code:
            self._queued(code, subject)

    def new_inbox(self) -> str:
        """A fresh subject for answers, unguessable, that nobody else uses."""
        return f"{self._options.inbox_prefix}.{next_nuid()}"

    # Fences.

    def ping(self) -> None:
        """Send a PING. Does nothing while connecting. Raises `NotConnectedError`."""
        self._refuse_if_closed()
        if self._connection.connected:
            self._connection.ping()

    def flush(self, cb: Done | None = None) -> None:
        """Send a PING behind all that was published; call ``cb(err)`` when its PONG comes.

        err is None: the server has processed everything before. Otherwise the connection was lost
        first (``disconnected``). While connecting it follows the queue. Raises `NotConnectedError`.
        """
        self._refuse_if_closed()
        self._connection.ping(callable_or_none(cb, "cb"))

    def rtt(self, cb: Callable[[float | None, errors.NatsError | None], object]) -> None:
        """Measure a PING's round trip; ``cb(ms, err)``, one of them None. Raises `NotConnectedError`."""
        self._refuse_if_closed()
        check_callback(cb)
        start = self._connection.deadlines.clock()

        def done(error: errors.NatsError | None) -> None:
            ms = (self._connection.deadlines.clock() - start) * 1000
            cb(None if error is not None else ms, error)

        self._connection.ping(done)

    def drain(self, cb: Done | None = None) -> None:
        """End gracefully: unsubscribe, deliver what is in flight, flush, disconnect.

        ``cb(err)`` when the server has confirmed, then `on_disconnect`; err is ``disconnected`` when
        the connection was lost before, `DrainTimeoutError` after the option drain_timeout. From now on
        subscribe and request raise `ConnectionDrainingError`; publish does once the final PING has been
        written, except in callbacks of messages that were in flight, which may still answer. While
        connecting it follows the queue. A second call joins the first. Raises `NotConnectedError`.
        """
        self._refuse_if_closed()
        self._core.start_drain(callable_or_none(cb, "cb"))

    # For programs and layers on top that must act in time with the client.

    def call_soon(self, cb: Callable[..., object], *args: object) -> None:
        """Call ``cb(*args)`` on the loop, behind all callbacks that are due already.

        What it raises is treated like an exception of any callback.
        """
        check_callback(cb)
        self._connection.turn.soon(cb, *args)

    def call(self, cb: Callable[..., object], *args: object) -> None:
        """Call ``cb(*args)`` now; what it raises is treated like an exception of any callback."""
        self._connection.turn.call(cb, *args)

    def call_later(
        self,
        delay_ms: Milliseconds,
        cb: Callable[..., object],
        *args: object,
        ended: Callable[[], object] | None = None,
    ) -> Deadline:
        """Call ``cb(*args)`` on the loop in delay_ms, unless the result's ``cancel()`` is called before.

        Costs far less than a loop timer of its own.

        Args:
            delay_ms: in ms, or a `datetime.timedelta`.
            cb: what it raises is treated like an exception of any callback.
            ended: called instead of cb, on the loop, when the client ends before (`disconnect`, the
                end of `drain`, giving up) or has ended already. Without it, cb is then never called.
        """
        check_callback(cb)
        seconds = milliseconds(delay_ms, "delay_ms") / 1000
        due = partial(self._connection.turn.call, cb, *args)
        callable_or_none(ended, "ended")
        if ended is None:
            return self._connection.deadlines.after(seconds, due)
        return self._core.waits.add(seconds, due, ended)

    def add_status_listener(self, cb: Callable[[Status], object]) -> None:
        """Call ``cb(status)`` on the loop for each change of `status`, before the on_* callbacks."""
        check_callback(cb)
        self._core.status_listeners.append(cb)

    def remove_status_listener(self, cb: Callable[[Status], object]) -> None:
        """Undo `add_status_listener`; harmless when it is not there."""
        if cb in self._core.status_listeners:
            self._core.status_listeners.remove(cb)

    def add_error_listener(self, cb: Callable[[errors.NatsError], object]) -> None:
        """Call ``cb(err)`` on the loop for each error, before on_error, which it does not replace."""
        self._core.error_listeners.append(cb)

    def remove_error_listener(self, cb: Callable[[errors.NatsError], object]) -> None:
        """Undo `add_error_listener`; harmless when it is not there."""
        if cb in self._core.error_listeners:
            self._core.error_listeners.remove(cb)

    def report(self, error: errors.NatsError) -> None:
        """Give an error to on_error, as one of the client's own."""
        self._core.report(error)

    def _refuse_if_connected(self) -> None:
        if self._connection.active and self._connection.status is not Status.RECONNECTING:
            raise errors.AlreadyConnectedError

    def _refuse_if_closed(self) -> None:
        self._connection.refuse_strangers()
        if not self._connection.active:
            raise errors.NotConnectedError

    nkey_generate_user_seed = staticmethod(nkey_generate_user_seed)
    nkey_public_from_seed = staticmethod(discreet(nkey_public_from_seed))


def _is_empty(payload: bytes, headers: bytes | None) -> bool:
    return not payload
