"""`Nats`: the client as its user sees it.

The verbs (connect, publish, subscribe, request, flush, drain) are here. `Accessors` has the methods that
only read or set something, `Extension` those for layers on top. A method checks its arguments and the
state of the client, and calls one of the parts that `core` names.

Three methods are called hundreds of thousands of times per second: `publish`, `hpublish` and `request`.
Each is a `fast_method`: C serves a call with common arguments (``csrc/py_outbound.c``), and the function here
is called for all others, and for each call that is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from .. import errors, subjects
from ..arguments import (
    TAKES_ANSWER,
    TAKES_ERR,
    Milliseconds,
    Payload,
    ResultCallback,
    Unpack,
    callable_or_none,
    check_callback,
    count,
    explained,
    explained_in_c,
    integer,
    milliseconds,
    payload_bytes,
)
from ..auth import nkey_generate_user_seed, nkey_public_from_seed
from ..connection import Completion
from ..contexts import Origins
from ..headers import HeadersLike, encode_headers, with_more
from ..inquiries import Inquiries
from ..instrumentation import new_observers, observe
from ..nuid import next_nuid
from ..options import NatsOptions, Options
from ..protocol import Client, MessageCallback, Passes, fast_method
from ..redact import without_traceback
from .accessors import Accessors, Counts
from .core import Core
from .extension import Extension
from .request_many import RequestCallback, Sentinel

T = TypeVar("T")

# What users of other clients write, and the words here.
_REPLY_TO = "the subject for answers is reply_to"
_TIMEOUT_MS = "the time-out is timeout_ms, in ms or a timedelta"
_CB = "messages come to cb(subject, payload, reply, headers)"
_LATER = "answers come to cb(response, err, headers), later and on the loop: nothing is awaited"


class Nats(Client, Origins, Inquiries, Accessors, Extension):
    """A NATS client on a libev loop.

    With ``host``, ``path`` or ``servers`` the client starts connecting at once; otherwise `connect`
    does it. `from_context` and `from_env` take the options from a file of settings or the environment.

    All callbacks run on the loop, none inside the call that took it. An exception that a callback
    raises goes to ``sys.excepthook``; KeyboardInterrupt and SystemExit come out of the loop's
    ``start()``. Everything happens in the thread that runs the loop: other threads, and signal handlers,
    use `call_threadsafe`. While the loop runs, most calls from another thread raise RuntimeError (not
    every publish is checked). In the child of a fork a client refuses to work; make a new one there.

    For programs and layers on top: `call`, `call_soon`, `call_later`, `call_threadsafe`, `report`, `unref`,
    and the listeners (`add_status_listener`, `add_error_listener`) act in time with the client; see `Extension`.

    Options, all by keyword; in parentheses the default. Times are ms or a timedelta, sizes are bytes.

    * Servers: host, port (4222), path (of a Unix socket), servers (URLs: ``nats://``, ``tls://``, ``unix://``,
      host:port; or ``ws://``, ``wss://``), randomize_servers (True), ignore_discovered_servers (False).
    * The connection: loop (that of `nats_ev.pyev.default_loop`), name, connect_timeout (2000; 0: none),
      keepalive (seconds of idleness before TCP probes; 0: off), priority (of its watchers, -2 to 2; 0),
      tcp_user_timeout (Linux; 0: the system's), local_address (an address, or (address, port)),
      ip_resolution_order (4, 6, 46, 64; 0: the system's), proxy (``http://`` or ``socks5://``; None:
      ALL_PROXY and NO_PROXY decide; "": none), ``dial(host, port, done)``, which connects itself and
      calls ``done(socket)`` or ``done(None, err)``.
    * WebSocket: ws_headers, a mapping of HTTP headers for the request; ``ws_headers_cb()``, called at each
      attempt, returns more of them; ws_compression (False), ws_proxy_path (in place of the URLs' paths).
    * Credentials: user, password, token, creds_file, user_credential_bytes (its content), jwt, nkey_seed,
      nkey_seed_file, or nkey, the public key, with a signature_cb. Several creds in a list are tried in
      turn. Called at every connect: ``user_cb()`` for (user, password), ``token_cb()``, ``jwt_cb()``,
      ``creds_cb()`` for the content of a creds file, ``signature_cb(nonce)`` for bytes.
    * TLS, required by any of these: tls (True), tls_ca_file, tls_cert_file, tls_key_file, or their
      content in tls_ca, tls_cert, tls_key; tls_hostname, tls_skip_verify (False), tls_handshake_first
      (False), tls_context (an `ssl.SSLContext` in place of the files). Called at every handshake for
      PEM: ``root_cas_cb()``, and ``tls_cert_cb()`` for (certificate, key) or both in one. Without any
      the server decides, with ``tls=False`` too.
    * The protocol: echo (True: receive what this client publishes itself), no_responders (False; True:
      requests fail at once when nobody listens), inbox_prefix ("_INBOX"), strict_subjects (False; True:
      publish and request refuse wildcards and empty tokens), verbose and pedantic (False), ping_interval (120,000; 0:
      none), max_pings_outstanding (2; 0: any number).
    * Reconnecting: reconnect (False), reconnect_delay (2000), max_reconnect_delay (30,000),
      max_reconnect_attempts (60 failures in a row; 0: unlimited), retry_on_failed_connect (as
      reconnect), ignore_auth_error_abort (False; True: also try a server again that has refused
      the client twice). ``reconnect_delay_cb(attempt)`` returns the ms before each further round over the
      servers. ``reconnect_to_cb(servers, info)`` (ADR-40) returns the next server, or ``(server, ms)``.
    * Limits: reconnect_buffer_size (of what waits for a connection; 8 MiB; 0: nothing, -1: unlimited),
      max_pending_bytes (unsent; 256 MiB; 0: unlimited), write_timeout (60,000 ms without a byte taken),
      max_payload (besides the server's), max_message_size (inbound; 64 MiB, or twice the server's
      max_payload), max_control_line (4096), slow_consumer_bytes (0: off), drain_timeout (30,000 ms).
    * Observers, for metrics and spans: instrumentation, an `Instrumentation` or a list of them.
    * Callbacks: ``on_connect()``, ``on_disconnect()``, ``on_reconnect()``, ``on_error(err)``,
      ``on_lame_duck()``, ``on_slow_consumer(pending_bytes)``, ``on_discovered_servers(urls)``,
      ``on_auth_expiring(seconds)``; each is also a method, which explains it. auth_expiring_before
      (60,000 ms): how long before the expiry of its credentials the last one is called.

    Raises TypeError for an unknown option or a wrong type, `BadOptionsError` (ValueError) for a bad value.
    """

    @without_traceback
    @explained(other="options are given by keyword, as in Nats(host='127.0.0.1')")
    def __init__(self, **options: Unpack[NatsOptions]) -> None:
        if TYPE_CHECKING:
            Options(**options)
        self._options = Options.from_kwargs(options)
        if self._options.loop is None:
            from .. import pyev

            self._options.loop = pyev.default_loop()
        watched = self._options.instrumentation
        self._observers = new_observers(self, watched, with_more, check_callback)
        self._core = core = Core(self._options, self, self._observers)
        self._connection = core.connection
        self._requests = core.requests
        self._out = core.out
        self._encode = subjects.encode
        if self._options.strict_subjects:
            self._encode = subjects.encode_strictly
        else:  # C checks no tokens: a client that does has no fast path
            self._attach(core.out)
        self._zero = Counts()
        if self._options.on_auth_expiring is not None:
            self._watch_expiry()
        if self._observers is not None and self._observers.per_message:
            observe(self, Nats)
        if self._options.connects_at_once:
            core.open()

    def __repr__(self) -> str:
        if not hasattr(self, "_connection"):  # __init__ has raised; a debugger may still call this
            return f"<{type(self).__name__}>"
        server = self._connection.pool.current
        where = f" {server.url}" if server is not None else ""
        return f"<{type(self).__name__}{where} {self.status().value}>"

    # Connecting.

    @without_traceback
    def connect(self, host: str | None = None, port: int = 4222) -> None:
        """Start connecting to a server, or without arguments to those of the options.

        Returns at once; `on_connect` is called when the handshake is complete. Replaces a reconnect
        that waits for its time, and resets the count of failures.

        Args:
            host: a name or an address; it replaces the servers known so far.
            port: only used with host.

        Raises:
            AlreadyConnectedError: the client is connected or connecting, in an attempt to reconnect too.
            ConnectionDrainingError: a drain waits for the next connection.
            BadOptionsError: no host, and no server was given before.
        """
        self._refuse_if_connected()
        if host is not None:
            self._connection.pool.set_tcp(*Options.checked_address(host, port))
        elif not self._connection.pool.configured:
            raise errors.BadOptionsError("connect needs a host: no server was given before")
        self._core.open()

    def connect_unix(self, path: str | os.PathLike[str]) -> None:
        """Start connecting to a Unix-domain socket; else like `connect`."""
        self._refuse_if_connected()
        self._connection.pool.set_path(Options.checked_path(path))
        self._core.open()

    def disconnect(self) -> None:
        """Close the connection, or stop trying to make one, and discard the queued messages.

        No message is delivered after this returns. On the next loop turn pending completions get
        ``disconnected``, then `on_disconnect` is called if there was a connection. Does nothing if
        there is nothing to close. To end without losing anything, use `drain`.
        """
        self._connection.guard.check_thread()
        self._connection.disconnect()
        self._out.drop_messages()
        self._core.subscriptions.forget_pending()

    def force_reconnect(self) -> None:
        """Drop the connection and make a new one at once, whether `reconnect` is on or not.

        While the client waits before an attempt, it makes the attempt at once. Queued messages are
        kept; requests in flight fail as with any loss. Called in the callback of a message, it acts
        after the messages that were received together with that one have been delivered. Raises
        `NotConnectedError`.
        """
        self._refuse_if_closed()
        self._connection.force_reconnect()

    @without_traceback
    def set_server_pool(self, servers: list[str]) -> None:
        """Replace the known servers, discovered ones included.

        The current connection stays, also if its server is not among the new ones. If the client waits
        before the next attempt, that attempt is planned again.

        Args:
            servers: URLs as in the option of that name.

        Raises:
            BadOptionsError: a URL is bad. Nothing has changed then.
        """
        self._connection.set_servers(Options.checked_servers(servers))

    # Publishing.

    @fast_method
    @explained_in_c(reply=_REPLY_TO)
    def publish(
        self,
        subject: str,
        payload: Payload = b"",
        reply_to: str | None = None,
        *,
        headers: HeadersLike | None = None,
    ) -> None:
        """Publish a message.

        Args:
            subject: not empty, without blanks and control characters.
            payload: any bytes-like object, copied before the call returns, or str, sent as UTF-8;
                None is empty.
            reply_to: a subject for answers; None and "" mean no answer is wanted.
            headers: as for `hpublish`, which this calls then.

        Raises:
            BadSubjectError, MaxPayloadError, OutboundBufferLimitError: and then nothing has been queued.
            NotConnectedError: no connection, and none is coming.
        """
        if headers is not None:
            self.hpublish(subject, headers, payload, reply_to)
            return
        data = payload_bytes(payload)
        reply = _reply(reply_to) if reply_to else b""
        code = self._out.publish(self._encode(subject), reply, None, data)
        if code:
            self._queued(code, subject, reply_to or "", size=len(data))

    pub = publish

    @fast_method
    @explained_in_c(reply=_REPLY_TO)
    def hpublish(
        self,
        subject: str,
        headers: HeadersLike,
        payload: Payload = b"",
        reply_to: str | None = None,
    ) -> None:
        """Publish a message with headers.

        Args:
            subject, payload, reply_to: as for `publish`.
            headers: `Headers`, a mapping, or a raw block, which begins with ``NATS/1.0`` and ends with
                an empty line. Headers count towards max_payload.

        Raises:
            BadHeadersError: headers are malformed, or the server does not support headers.
            Others: as `publish`.
        """
        self._refuse_headers()
        data, block = payload_bytes(payload), encode_headers(headers)
        reply = _reply(reply_to) if reply_to else b""
        code = self._out.publish(self._encode(subject), reply, block, data)
        if code:
            self._queued(code, subject, reply_to or "", "message", len(block) + len(data))

    hpub = hpublish

    def _refuse_headers(self) -> None:
        """Raise `BadHeadersError` if the server would close the connection for headers."""
        info = self._connection.info
        if info is not None and not info.headers and self._connection.connected:
            raise errors.BadHeadersError("the server does not support headers")

    def batch(self, coderef: Callable[[], T]) -> T:
        """Call coderef, which publishes, and return its result. No write is scheduled before it ends.

        What exceeds 1 MiB is still written early. Calls may be nested.
        """
        out = self._out
        out.batches += 1
        try:
            return coderef()
        finally:
            out.batches -= 1
            if not out.batches and len(out):
                self._connection.need_flush()

    def _queued(
        self, code: int, subject: str, reply: str = "", what: str = "payload", size: int = 0
    ) -> None:
        """Do what the code of a framing call asks for, or raise its error.

        Args:
            code: not 0; negative for an error.
            subject, reply: of the call, for the error's text.
            what: the name of what may exceed max_payload.
            size: of that, in bytes.
        """
        if code < 0:
            if self._out.limits.closed:
                self._connection.guard.check()
                self._core.refuse_if_draining()
            self._out.fail(code, subject=subject, reply=reply, what=what, size=size)
        self._connection.queued(code)

    # Subscribing.

    @explained(queue="the parameter is queue_group", callback=_CB, cb=_CB)
    def subscribe(self, subject: str, cb: MessageCallback, queue_group: str | None = None) -> int:
        """Subscribe to a subject. The subscription survives reconnects.

        May be called without a connection.

        Args:
            subject: may have wildcards.
            cb: called as ``cb(subject, payload, reply, headers)``: payload is bytes; reply and
                headers (the raw block) may be None.
            queue_group: each message goes to one member of the group.

        Returns:
            The subscription's sid, counted from 1 per client and never used again.

        Raises:
            BadSubjectError: subject or queue_group is malformed.
            ConnectionDrainingError: after `drain`.
        """
        self._connection.guard.check()
        self._core.refuse_if_draining()
        return self._core.subscriptions.add(subject, cb, queue_group).sid

    sub = subscribe

    def subscribe_max(
        self, subject: str, cb: MessageCallback, max_msgs: int, queue_group: str | None = None
    ) -> int:
        """Subscribe, and end after a number of messages. Returns and raises what `subscribe` does.

        Args:
            subject, cb, queue_group: as for `subscribe`.
            max_msgs: how many messages; 0: no end.
        """
        limit = count(max_msgs, "max_msgs")
        sid = self.subscribe(subject, cb, queue_group)
        if limit:
            self.unsubscribe(sid, max_msgs)
        return sid

    def unsubscribe(self, sid: int, max_msgs: int | None = None) -> None:
        """End a subscription, at once or after a number of messages.

        After an immediate end no message is delivered, not even one that has been received already.

        Args:
            sid: an unknown one is ignored.
            max_msgs: messages in all since subscribe. If as many have come already, the subscription
                ends at once (the server's rule). None and 0: at once.
        """
        self._connection.guard.check_thread()
        self._core.subscriptions.end(sid, max_msgs)

    unsub = unsubscribe

    def drain_subscription(self, sid: int, cb: Completion | None = None) -> None:
        """End a subscription gracefully: what the server has sent for it is still delivered.

        A reconnect does not restore the subscription.

        Args:
            sid: for an unknown one, cb is called on the next turn.
            cb: called as ``cb(err)`` after the last message; err is ``disconnected`` if the
                connection was lost before.
        """
        self._core.subscriptions.drain(sid, callable_or_none(cb, "cb", TAKES_ERR))

    # Back-pressure.

    def pause(self, sid: int, passes: Passes | None = None) -> None:
        """Keep a subscription's messages instead of delivering them, until `resume` or `ask`.

        Beyond the limits of `set_pending_limits` new messages are discarded. `on_error` gets one
        `SlowConsumerError` each time that begins. What was left of an `ask` is forgotten.

        Args:
            sid: an unknown one is ignored.
            passes: for layers on top: called as ``passes(subject, payload, reply, headers)`` for each
                message that comes meanwhile. If it returns true the message is not kept: it was dealt with.
                It must not raise.
        """
        callable_or_none(passes, "passes")
        self._core.subscriptions.pause(sid, passes)

    def resume(self, sid: int) -> None:
        """Deliver a subscription's kept messages, in order and on the loop, then what comes.

        Ends what `pause` and `ask` have begun. An unknown sid is ignored.
        """
        self._core.subscriptions.resume(sid)

    def ask(self, sid: int, msgs: int) -> None:
        """Deliver a number of a subscription's messages, then pause the subscription.

        Several calls add up. A program that takes messages at its own pace subscribes, calls ``ask(sid, n)``
        before the loop goes on, and asks for more in the callback or later. `pause` and `resume` end that.
        In a drain all messages are delivered.

        Args:
            sid: an unknown one is ignored.
            msgs: how many more; 0: none, so that a subscription begins paused.

        Raises:
            BadOptionsError: msgs is negative.
        """
        self._core.subscriptions.ask(sid, msgs)

    def pause_reading(self) -> None:
        """Read nothing from the socket until `resume_reading`, so that the server has to wait.

        What has been read already is still delivered. Reading stays paused over a reconnect. While it
        is paused, the client does not notice the end of the connection, and the server closes the
        connection after some time: by default after 10 s with a full socket, with 64 MiB waiting, or
        after some unanswered PINGs.
        """
        self._connection.pause_reading(True)

    def resume_reading(self) -> None:
        """Read from the socket again, after `pause_reading`."""
        self._connection.pause_reading(False)

    # Requests.

    @fast_method
    @explained_in_c(timeout=_TIMEOUT_MS, cb=_LATER)
    def request(
        self,
        subject: str,
        payload: Payload,
        cb: RequestCallback,
        timeout_ms: Milliseconds = 5000,
        *,
        headers: HeadersLike | None = None,
        no_responders: bool | None = None,
    ) -> int:
        """Publish a request and call ``cb(response, err, headers)`` exactly once.

        Args:
            subject, payload: as for `publish`.
            cb: response is the answer's payload, or None with err: `RequestTimeoutError`,
                `NoRespondersError`, `PermissionsViolationError`, or ``disconnected``
                (`ConnectionLostError`, `ConnectionClosedError`) if the connection ends meanwhile.
            timeout_ms: in ms or a timedelta, counted from the end of this turn of the loop, just
                before its write; 0: no limit.
            headers: as for `hpublish`.
            no_responders: whether the request fails at once when nobody listens; None: as the
                client's option.

        Returns:
            The request's number, for `cancel_request`.

        Raises:
            ConnectionDrainingError: after `drain`.
            Others: as `publish`.
        """
        check_callback(cb)
        requests = self._requests
        if no_responders is not None:
            cb = requests.override_no_responders(cb, no_responders)
        block = None
        if headers is not None:
            self._refuse_headers()
            block = encode_headers(headers)
        encoded, data = self._encode(subject), payload_bytes(payload)
        # The time-out comes last: converting the others may run code that sends a request.
        last = self._out.timeout
        if timeout_ms is not last and (timeout_ms != last or type(timeout_ms) is not type(last)):
            requests.use_timeout(timeout_ms)
        order, code = requests.send(encoded, data, cb, block, timeout_ms)
        if code:
            self._queued(code, subject, size=len(data))
        return order

    req = request

    @explained(timeout=_TIMEOUT_MS, cb=_LATER)
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
    ) -> int:
        """Publish one request that many may answer (ADR-47).

        Args:
            subject, payload, headers: as for `request`.
            cb: called as ``cb(response, None, headers)`` for each answer, then as
                ``cb(None, err, None)`` once. err is None, `RequestTimeoutError` if nobody has answered,
                `NoRespondersError` if nobody listens, or ``disconnected`` if the connection was lost.
            timeout_ms: ends the request after this time in all; 0: no such end, here and below.
            stall_ms: ends it after this time without another answer.
            max_msgs: ends it after so many answers.
            sentinel: ``sentinel(payload, headers)`` is true for the answer that ends it, which is not
                passed on; True: an answer with an empty payload.

        Returns and raises what `request` does.
        """
        self._core.refuse_if_draining()
        check_callback(cb, "cb", TAKES_ANSWER)
        count(max_msgs, "max_msgs")
        if headers is not None:
            self._refuse_headers()
        if sentinel is True:
            sentinel = _is_empty
        elif sentinel and not callable(sentinel):
            raise TypeError("sentinel must be a bool or callable")
        order, code = self._requests.send_many(
            self._encode(subject),
            data := payload_bytes(payload),
            cb,
            milliseconds(timeout_ms, "timeout_ms") / 1000,
            encode_headers(headers) if headers is not None else None,
            milliseconds(stall_ms, "stall_ms") / 1000,
            max_msgs,
            sentinel or None,
        )
        if code:
            self._queued(code, subject, size=len(data))
        return order

    def cancel_request(self, number: int) -> None:
        """Give up a request, by its number: no callback comes any more, and an unsent frame is removed.

        The number of a request that has ended, or an unknown one, is ignored.
        """
        self._connection.guard.check_thread()
        self._requests.cancel(integer(number, "number"))

    def new_inbox(self) -> str:
        """Return a new subject for answers, unguessable, that nobody else uses."""
        return f"{self._options.inbox_prefix}.{next_nuid()}"

    # Fences.

    def ping(self) -> None:
        """Send a PING. Does nothing while connecting. Raises `NotConnectedError`."""
        self._refuse_if_closed()
        if self._connection.connected:
            self._connection.ping()

    def flush(self, cb: Completion | None = None) -> None:
        """Send a PING after all that was published, and call ``cb(err)`` when its PONG comes.

        err None means that the server has processed everything before; ``disconnected``, that the
        connection was lost first. While connecting, the PING follows the queued messages. Raises
        `NotConnectedError`.
        """
        self._refuse_if_closed()
        self._connection.ping(callable_or_none(cb, "cb", TAKES_ERR))

    def rtt(self, cb: ResultCallback[float]) -> None:
        """Measure the round trip of a PING, and call ``cb(ms, err)``, one of them None.

        Raises `NotConnectedError`.
        """
        self._refuse_if_closed()
        check_callback(cb, "cb", ("ms, err", 2))
        start = self._connection.deadlines.clock()

        def done(error: errors.NatsError | None) -> None:
            ms = (self._connection.deadlines.clock() - start) * 1000
            cb(None if error is not None else ms, error)

        self._connection.ping(done)

    def drain(self, cb: Completion | None = None) -> None:
        """End the client gracefully: unsubscribe, let what has begun come to its end, flush, disconnect.

        What the server has sent is still delivered, kept messages included. Requests in flight, and
        operations of `JetStream`, `KV` and `ObjectStore` that take several of them, come to their own
        ends, answered or timed out; so does the initial data of a watch. Then ``cb(err)`` is called when
        the server has confirmed, then `on_disconnect`. After the option drain_timeout what is left fails
        with ``disconnected``, and err is `DrainTimeoutError`. Without a connection err is ``disconnected``.

        From now on subscribe and request raise `ConnectionDrainingError`. publish raises it once the
        final PING has been written, except while a callback of a message runs, which may still answer.
        `force_reconnect` does nothing while connected. While connecting, the drain follows the queued
        messages. A second call joins the first. Raises `NotConnectedError`.
        """
        self._refuse_if_closed()
        self._core.start_drain(callable_or_none(cb, "cb", TAKES_ERR))

    def _refuse_if_connected(self) -> None:
        connection = self._connection
        if connection.active and not connection.waiting:
            raise errors.AlreadyConnectedError
        if connection.active and connection.closing:
            raise errors.ConnectionDrainingError

    def _refuse_if_closed(self) -> None:
        self._connection.guard.check()
        if not self._connection.active:
            raise errors.NotConnectedError

    nkey_generate_user_seed = staticmethod(nkey_generate_user_seed)
    nkey_public_from_seed = staticmethod(without_traceback(nkey_public_from_seed))


def _reply(reply_to: str) -> bytes:
    """Return the bytes of a subject for answers."""
    if not isinstance(reply_to, str):
        hint = ": headers are the argument headers" if isinstance(reply_to, Mapping) else ""
        raise TypeError(f"reply_to must be str, not {type(reply_to).__name__}{hint}")
    return subjects.encode(reply_to)


def _is_empty(payload: bytes, headers: bytes | None) -> bool:
    return not payload
