"""The life of a client's connections: attempts, handshake, loss, back-off, keep-alive, flushing.

One `Connection` per client; per TCP connection it makes a new `Session` and `Stream`. Owns all
watchers of the client. Decides when what happens to the wire, and tells the client through
`Client`; knows nothing of requests or of what subscriptions are for.
"""

from __future__ import annotations

import platform
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any, Protocol

from . import auth, errors
from ._deadlines import Deadline, Deadlines
from ._dial import Dialer, Resolver
from ._servers import Server, ServerPool
from ._tls import Tls, TlsStream, handshake_error, read_error
from ._transport import BROKEN_PIPE, Stream
from ._turn import Turn
from ._version import __version__
from ._wire import FIRST, HIGH, SLOW, Outbound
from .options import Options
from .protocol import ServerInfo, Session, State
from .subscription import Subscription

EV_READ = 0x01
EV_WRITE = 0x02
# Unsent bytes above which a flood of PINGs is answered by one PONG per read instead of one each.
_PONG_FLOOD = 64 * 1024
# What a socket can hold back, in reads: so many may come before the PONG that has arrived.
_MOST_READS = 128


class Status(str, Enum):
    """What a client is doing; the words are nats.go's."""

    DISCONNECTED = "DISCONNECTED"
    CONNECTING = "CONNECTING"
    CONNECTED = "CONNECTED"
    RECONNECTING = "RECONNECTING"
    DRAINING_SUBS = "DRAINING_SUBS"
    DRAINING_PUBS = "DRAINING_PUBS"
    CLOSED = "CLOSED"


Completion = Callable[[errors.NatsError | None], object]


class Client(Protocol):
    """What a connection needs of its client."""

    def report(self, error: errors.NatsError) -> None:
        """An error for on_error."""

    def handle_server_error(self, error: errors.ServerError) -> None:
        """An -ERR that leaves the connection open."""

    def live_subscriptions(self) -> Iterator[Subscription]:
        """What a new connection must restore."""

    def completions(self) -> Iterable[tuple[int, Completion]]:
        """Callbacks of requests that can no longer be answered: (order of call, how to fail it)."""

    def status_changed(self, status: Status) -> None:
        """`Connection.status` has a new value."""

    def before_write(self) -> None:
        """The last moment to change what is about to be written."""

    def ended(self) -> None:
        """No connection and none coming; all completions have been put off before this."""


class Connection:
    """See the module's docstring. The methods before the first underscore are the client's."""

    def __init__(
        self,
        loop: Any,
        options: Options,
        out: Outbound,
        subs: dict[int, Subscription],
        client: Client,
    ) -> None:
        self._status = Status.DISCONNECTED
        self.out = out
        self.info: ServerInfo | None = None
        self.server: Server | None = None
        self.turn = Turn(loop, self._resume, self.flush)
        self.deadlines = Deadlines(loop)
        self.pool = ServerPool(options)
        self.closing = False  # a drain: the end of this connection is the end of all
        self._loop = loop
        self._options = options
        self._subs = subs
        self._client = client
        self._resolver = Resolver(loop)
        self._dialer: Dialer | None = None
        self._session: Session | None = None
        self._stream: Stream | TlsStream | None = None
        self._tls = Tls(options)
        self._greeting: ServerInfo | None = None  # the INFO that came before TLS
        self._sink: Outbound | None = None  # what is written now: the handshake, then `out`
        self._reader: Any = None
        self._writer: Any = None
        self._writing = False
        self._undelivered = False
        self._pongs: deque[tuple[int, Completion | None]] = deque()
        self._pings_out = 0
        self._order = 0
        self._attempt_due: Deadline | None = None
        self._attempt_limit: Deadline | None = None
        self._ping_due: Deadline | None = None
        self._was_connected = False  # since the last explicit connect
        self._lame_duck_told = False
        self._counted = [0, 0]  # messages and bytes received by former sessions
        self._set_limits()

    @property
    def status(self) -> Status:
        """What the connection is doing."""
        return self._status

    @status.setter
    def status(self, status: Status) -> None:
        if status is not self._status:
            self._status = status
            self._client.status_changed(status)

    # Commands of the client.

    @property
    def connected(self) -> bool:
        """The handshake is complete and nothing has ended the connection."""
        return self.status is Status.CONNECTED

    @property
    def wire(self) -> Outbound | None:
        """Where SUB and UNSUB go now; None while the next handshake will bring them anyway."""
        session = self._session
        if session is None or session.state in (State.GREETING, State.INFORMED, State.CLOSED):
            return None
        return self.out if session.state is State.READY else session.handshake

    @property
    def active(self) -> bool:
        """Connected, or on the way there."""
        return self.status not in (Status.DISCONNECTED, Status.CLOSED)

    def next_order(self) -> int:
        """A number for a completion: they fail in the order of the calls that they belong to."""
        self._order += 1
        return self._order

    def open(self) -> None:
        """Start connecting to the pool's servers; the first attempt is made by the loop."""
        if self.status is not Status.RECONNECTING and self.active:
            raise errors.AlreadyConnectedError
        self._abandon_attempt()
        self.closing = False
        self._was_connected = False
        self.status = Status.CONNECTING
        self.pool.restart()
        self._set_limits()
        self._plan_attempt()

    def close(self) -> None:
        """disconnect(): at once and for good. Completions and on_disconnect follow on the loop."""
        if not self.active:
            return
        was_up = self.connected
        self._leave()
        self.out.take_back()
        self.out.drop_messages()
        self._end(errors.ConnectionClosedError("disconnected"), was_up)

    def force_reconnect(self) -> None:
        """Drop the connection, if there is one, and make a new one at once."""
        if self.connected:
            self._lost(None)

    def need_flush(self) -> None:
        """See to it that what is buffered leaves at the end of this turn."""
        self.turn.need()

    def queued(self, code: int) -> None:
        """What a framing call's bits ask for."""
        if code & FIRST:
            self.turn.need()
        if code & HIGH:
            self.write_early()
        if code & SLOW and self._options.on_slow_consumer is not None:
            self.turn.soon(self._slow_consumer)

    def ping(self, done: Completion | None = None) -> int:
        """PING behind all that is buffered; done is called with None at its PONG, or with the error."""
        order = self.next_order()
        code = self.out.ping()
        self._pongs.append((order, done))
        self.queued(code)
        return order

    def flush(self) -> None:
        """Write what is buffered, in one call to the kernel."""
        if self._sink is not None and not self._writing:
            self._write()

    def write_early(self) -> None:
        """Let the server begin on what one turn queues in masses. What fails is the turn's matter."""
        if self._sink is not self.out or self._writing or self._stream is None:
            return  # the write watcher, or the end of the turn, sees to it
        self._client.before_write()
        try:
            self._send(self.out)
        except OSError:
            return

    def received(self) -> tuple[int, int]:
        """Messages received by all connections, and their header and payload bytes."""
        msgs, size = self._counted
        if self._session is not None:
            more_msgs, more_size = self._session.counts
            return msgs + more_msgs, size + more_size
        return msgs, size

    def interrupt(self, sub: Subscription) -> None:
        """The subscription has ceased to be plain."""
        if self._session is not None:
            self._session.interrupt(sub)

    def finish(self) -> None:
        """The end of a drain: everything has been confirmed by the server."""
        self._leave()
        self._end(errors.ConnectionClosedError("disconnected"), was_up=True)

    def option_changed(self, name: str) -> None:
        """An option was set at run time: let it count from now on where it can."""
        if name == "ping_interval" and self.connected:
            self.deadlines.end(self._ping_due)
            self._start_pinging()
        elif name in ("max_pending_bytes", "reconnect_buffer_size", "slow_consumer_bytes"):
            self._set_limits()
        elif name == "max_payload":
            self._set_max_payload()
        elif name == "tls":
            self.pool.forget_tls()

    # Attempts.

    def _plan_attempt(self) -> None:
        """Ask the pool for the next server, and for how long to wait for it."""
        turn = self.pool.next()
        if turn is None:
            self._give_up()
            return
        self.server, delay = turn
        self._attempt_due = self.deadlines.after(delay / 1000, self._attempt)

    def _attempt(self) -> None:
        server = self.server
        assert server is not None
        timeout = self._options.connect_timeout / 1000
        if timeout:
            self._attempt_limit = self.deadlines.after(timeout, self._attempt_too_slow)
        self._dialer = dialer = Dialer(
            self._loop,
            self._resolver,
            self.deadlines,
            self._dialed,
            keepalive=self._options.keepalive,
            priority=self._options.priority,
            timeout=timeout,
        )
        if server.path is not None:
            dialer.unix(server.path)
        else:
            dialer.tcp(server.host, server.port)

    def _dialed(self, result: socket.socket | OSError) -> None:
        self._dialer = None
        if isinstance(result, OSError):
            error = errors.ConnectError(result.strerror or str(result))
            error.__cause__ = result
            self._attempt_failed(error)
            return
        self._stream = stream = Stream(result)
        priority = self._options.priority
        self._session = Session(self._subs, self, self._max_message())
        self._sink = self._session.handshake
        self._reader = self._loop.io(stream.fileno(), EV_READ, self._on_readable, None, priority)
        self._writer = self._loop.io(stream.fileno(), EV_WRITE, self._on_writable, None, priority)
        self._reader.start()
        if self.pool.secure and self._options.tls_handshake_first:
            self._start_tls()

    def _attempt_too_slow(self) -> None:
        self._attempt_failed(errors.ConnectTimeoutError("connect timeout"))

    def _attempt_failed(self, error: errors.NatsError, final: bool = False) -> None:
        self._abandon_attempt()
        self._client.report(error)
        assert self.server is not None
        self.pool.failed(self.server, error)
        if final or not self._may_retry():
            self._end(errors.ConnectionClosedError("disconnected"), was_up=False)
        else:
            self._plan_attempt()

    def _may_retry(self) -> bool:
        options = self._options
        if self._was_connected:
            return options.reconnect
        retry = options.retry_on_failed_connect
        if retry is None:
            retry = options.reconnect
        return retry or not self.pool.round_complete

    def _give_up(self) -> None:
        if self.pool.exhausted:
            self._client.report(errors.NoServersError("max reconnect attempts reached"))
        else:
            self._client.report(errors.NoServersError("no servers available for connection"))
        self._end(errors.ConnectionClosedError("disconnected"), was_up=False)

    def _abandon_attempt(self) -> None:
        """Stop whatever is on the way to a connection, and any connection that is not up yet."""
        for deadline in (self._attempt_due, self._attempt_limit):
            self.deadlines.end(deadline)
        self._attempt_due = self._attempt_limit = None
        if self._dialer is not None:
            self._dialer.cancel()
            self._dialer = None
        self._close_stream()

    # The handshake, and what the session tells.

    def info_received(self, info: ServerInfo, first: bool) -> None:
        """See `protocol.Events`."""
        assert self._stream is not None
        if not self._stream.secure and (self.pool.secure or info.tls_required):
            self._upgrade(info)
            return
        self.info = info
        self._set_max_payload()
        if self._session is not None:
            self._session.set_max_message(self._max_message())
        if info.connect_urls is not None and not self._options.ignore_discovered_servers:
            found = self.pool.update_discovered(list(info.connect_urls))
            callback = self._options.on_discovered_servers
            if found and self._was_connected and callback is not None:
                self.turn.soon(callback, found)
        if first:
            self._send_connect(info)
        elif info.ldm and not self._lame_duck_told:
            self._lame_duck_told = True
            if self._options.on_lame_duck is not None:
                self.turn.soon(self._options.on_lame_duck)

    def info_refused(self, error: errors.ProtocolError) -> None:
        """See `protocol.Events`."""
        self._client.report(error)

    def _upgrade(self, info: ServerInfo) -> None:
        """The first INFO came in clear and TLS is to follow. Anybody may have written it, or more."""
        assert self._session is not None
        if not (info.tls_required or info.tls_available):
            self._attempt_failed(
                errors.SecureConnectionRequiredError("secure connection not available")
            )
        elif not self._session.greeted_alone:
            self._attempt_failed(
                errors.ProtocolError("protocol error: bytes between INFO and the TLS handshake")
            )
        else:
            self._greeting = info.without_topology()
            self._start_tls()

    def _start_tls(self) -> None:
        assert self.server is not None
        assert isinstance(self._stream, Stream)
        try:
            self._stream = self._tls.wrap(self._stream, self.server)
        except errors.TlsError as exc:
            self._attempt_failed(exc)
            return
        self._shake_hands()

    def _shake_hands(self) -> None:
        stream = self._stream
        assert isinstance(stream, TlsStream)
        try:
            done = stream.handshake()
        except OSError as exc:
            self._attempt_failed(handshake_error(exc))
            return
        self._watch_writable(stream.unsent)
        if done:
            self.pool.secured()
            greeting, self._greeting = self._greeting, None
            if greeting is not None:
                self.info_received(greeting, first=True)

    def _send_connect(self, info: ServerInfo) -> None:
        options, session = self._options, self._session
        assert self.server is not None
        assert session is not None
        assert self._stream is not None
        fields: dict[str, Any] = {
            "verbose": options.verbose,
            "pedantic": options.pedantic,
            "echo": options.echo,
            "tls_required": self._stream.secure,
            "lang": f"python-{platform.python_implementation().lower()}-ev",
            "version": __version__,
            "protocol": 1,
            "headers": True,
            "no_responders": info.headers,
        }
        if options.name:
            fields["name"] = options.name
        try:
            fields.update(auth.connect_fields(options, info.nonce, self.server))
        except Exception as exc:
            # Not an AuthorizationError: the server has refused nothing, and next time may do.
            error = errors.ConnectError(f"no credentials: {exc}")
            error.__cause__ = exc
            self._attempt_failed(error)
            return
        if self._session is not session:
            return  # a callback has disconnected
        session.connect(fields, self._client.live_subscriptions())
        self.turn.need()

    def ready(self) -> None:
        """See `protocol.Events`: connected."""
        assert self.server is not None
        self.deadlines.end(self._attempt_limit)
        self._attempt_limit = None
        again = self._was_connected
        self._was_connected = True
        self.status = Status.CONNECTED
        self._pings_out = 0
        self._lame_duck_told = False
        self.pool.succeeded(self.server)
        self._set_limits()
        self._start_pinging()
        self.turn.need()  # what has waited goes out
        if self._options.on_connect is not None:
            self.turn.soon(self._options.on_connect)
        if again and self._options.on_reconnect is not None:
            self.turn.soon(self._options.on_reconnect)
        # Here and not at the turn's end: what follows the PONG comes after on_connect.
        self.turn.run_soon()

    def ping_received(self, count: int) -> None:
        """See `protocol.Events`."""
        sink = self._sink
        if sink is None:
            return
        for _ in range(count if len(sink) < _PONG_FLOOD else 1):
            self.queued(sink.pong())

    def pong_received(self) -> None:
        """See `protocol.Events`."""
        self._pings_out = 0
        if self._pongs:
            _, done = self._pongs.popleft()
            if done is not None:
                self.turn.soon(done, None)
                self.turn.run_soon()

    def server_error(self, text: str) -> None:
        """See `protocol.Events`; `errors.Action` says what the server does after each error."""
        error = errors.server_error(text)
        if self.pool.secure and self._stream is not None and not self._stream.secure:
            # Anybody may have written it: it counts for nothing but this attempt.
            self._attempt_failed(errors.ConnectError(str(error)))
        elif error.action is errors.Action.KEEP:
            self._client.handle_server_error(error)
        else:
            self._lost(error, final=error.action is errors.Action.FATAL)

    def protocol_failed(self, error: errors.ProtocolError) -> None:
        """See `protocol.Events`."""
        self._lost(error)

    def callback_failed(self, error: BaseException) -> None:
        """See `protocol.Events`."""
        self.turn.failed(error)

    def delivering(self) -> None:
        """See `protocol.Events`: should a callback nest the loop, `_resume` goes on in it."""
        if not self._undelivered:
            self._undelivered = True
            self.turn.need()

    def _resume(self) -> None:
        if self._undelivered and self._session is not None:
            self.turn.need()  # for a loop nested in one of the callbacks to come
            self._session.dispatch()
            self._undelivered = False

    # Loss and end.

    def _lost(self, error: errors.NatsError | None, final: bool = False) -> None:
        """The connection broke; error None means a plain end of file."""
        if not self.connected:
            self._attempt_failed(
                error or errors.ConnectError("connection closed by the server"), final
            )
            return
        self._leave()
        self.out.take_back()
        again = self._options.reconnect and not final and not self.closing
        self.status = Status.RECONNECTING if again else Status.CLOSED
        self._set_limits()
        assert self.server is not None
        self.pool.lost(self.server, error)
        if error is not None:
            self._client.report(error)
        if not again:
            self._end(errors.ConnectionLostError("disconnected"), was_up=True)
            return
        self._fail_completions(errors.ConnectionLostError("disconnected"))
        self._tell_disconnected()
        self._plan_attempt()

    def _leave(self) -> None:
        """Close what is open."""
        self._abandon_attempt()
        self.deadlines.end(self._ping_due)
        self._ping_due = None

    def _end(self, error: errors.NatsError, was_up: bool) -> None:
        """No connection and none coming. Messages wait for the next one; all else is dropped."""
        self.status = Status.CLOSED
        self.out.take_back()
        self._set_limits()
        self._fail_completions(error)
        if was_up:
            self._tell_disconnected()
        self._client.ended()

    def _fail_completions(self, error: errors.NatsError) -> None:
        waiting: list[tuple[int, Completion]] = list(self._client.completions())
        waiting.extend((order, done) for order, done in self._pongs if done is not None)
        self._pongs.clear()
        waiting.sort(key=lambda item: item[0])
        for _, done in waiting:
            self.turn.soon(done, error)

    def _tell_disconnected(self) -> None:
        if self._options.on_disconnect is not None:
            self.turn.soon(self._options.on_disconnect)

    def _close_stream(self) -> None:
        if self._stream is None:
            return
        assert self._session is not None
        for watcher in (self._reader, self._writer):
            watcher.stop()
        self._reader = self._writer = None
        self._writing = False
        msgs, size = self._session.counts
        self._counted[0] += msgs
        self._counted[1] += size
        self._session.close()
        if isinstance(self._stream, TlsStream) and self.server is not None:
            self._tls.remember(self._stream, self.server)
        self._stream.close()
        self._session = self._stream = self._sink = self._greeting = None
        self._undelivered = False

    # Keep-alive.

    def _start_pinging(self) -> None:
        interval = self._options.ping_interval
        if interval > 0:
            self._ping_due = self.deadlines.after(interval / 1000, self._keep_alive)

    def _keep_alive(self) -> None:
        self._start_pinging()
        if self._overdue():
            self._read_ahead()
            if not self.connected:
                return
            if self._overdue():
                self._lost(errors.StaleConnectionError("stale connection"))
                return
        self._pings_out += 1
        self.ping()

    def _overdue(self) -> bool:
        return 0 < self._options.max_pings_outstanding <= self._pings_out

    def _read_ahead(self) -> None:
        """After a callback that took long, the PONG may lie in the socket while the timer is first."""
        session = self._session
        for _ in range(_MOST_READS):
            if session is not self._session or not self._overdue() or not self._read():
                return

    # Limits.

    def _set_limits(self) -> None:
        limits = self.out.limits
        options = self._options
        limits.held = not self.connected
        limits.closed = not self.active
        limits.slow_mark = options.slow_consumer_bytes
        if self.connected or not self.active:
            limits.max_pending = options.max_pending_bytes
        else:
            size = options.reconnect_buffer_size
            # C's 0 is "unlimited", the option's 0 is "nothing": no frame fits in one byte.
            limits.max_pending = 0 if size < 0 else max(1, size)

    def _set_max_payload(self) -> None:
        cap = self._options.max_payload
        server = self.info.max_payload if self.info is not None else None
        known = [n for n in (cap, server) if n]
        self.out.limits.max_payload = min(known, default=0)

    def _max_message(self) -> int:
        if self._options.max_message_size:
            return self._options.max_message_size
        theirs = self.info.max_payload if self.info is not None else 0
        return max(64 * 1024 * 1024, 2 * theirs)

    def _slow_consumer(self) -> None:
        callback = self._options.on_slow_consumer
        if callback is not None:
            callback(len(self.out))

    # Watchers.

    def _on_readable(self, watcher: Any, revents: int) -> None:
        self._read()

    def _read(self) -> bool:
        """Deliver what one read gives; False when it gave nothing."""
        stream = self._stream
        assert stream is not None
        assert self._session is not None
        if stream.handshaking:
            self._shake_hands()
            if self._stream is not stream or stream.handshaking:
                return False
            # The server's first words may have come with the last ones of its handshake.
        try:
            data = stream.recv()
        except OSError as exc:
            self._lost(read_error(exc, self.connected))
            return False
        if stream.unsent:
            self._watch_writable(True)
        if data is None:
            return False
        if not data:
            self._lost(None)
            return False
        session = self._session
        session.receive(data)
        session.dispatch()
        if session is self._session:  # else a loop nested in a callback has made a new one
            self._undelivered = False
        return True

    def _on_writable(self, watcher: Any, revents: int) -> None:
        self._write()

    def _write(self) -> None:
        assert self._stream is not None
        sink = self._next_sink()
        if len(sink) or self._stream.unsent:
            try:
                self._send(sink)
            except OSError as exc:
                self._write_failed(exc)
                return
            sink.turn()
            if sink is not self.out:
                sink = self._next_sink()
        self._watch_writable(len(sink) > 0 or self._stream.unsent)

    def _send(self, sink: Outbound) -> None:
        """One call to the kernel. Raises OSError."""
        stream = self._stream
        assert stream is not None
        try:
            sink.sent(stream.send(sink.peek()))
        finally:
            if stream.held:
                sink.pin(stream.held)

    def _watch_writable(self, wanted: bool) -> None:
        """Something waits for the socket to take it, or nothing."""
        if wanted != self._writing:
            self._writing = wanted
            if wanted:
                self._writer.start()
            else:
                self._writer.stop()

    def _next_sink(self) -> Outbound:
        """What is to be written now: all of the handshake, and once it is complete `out`."""
        session = self._session
        assert session is not None
        if self._sink is not self.out:
            if not len(session.handshake):
                session.fill()
            if len(session.handshake) or session.state is not State.READY:
                return session.handshake
            self._sink = self.out
        self._client.before_write()
        return self.out

    def _write_failed(self, exc: OSError) -> None:
        if exc.errno in BROKEN_PIPE:
            # The reader finds the end, and before it what the server said last.
            if self._writing:
                self._writer.stop()
            self._writing = True  # nothing more is tried on this connection
            return
        self._lost(read_error(exc, self.connected))
