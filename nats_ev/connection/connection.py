"""The life of a client's connections: attempts, handshake, loss, back-off, keep-alive, flushing.

One `Connection` per client; per TCP connection it makes a new `Session` and `Stream`. Owns all
watchers of the client. Decides when what happens to the wire, and tells the client through
`Client`; knows nothing of requests or of what subscriptions are for.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from threading import get_ident
from typing import Any, Protocol

from .. import errors
from ..net import Deadline, Deadlines, Stream, Turn, watch_forks
from ..options import Options
from ..protocol import (
    FIRST,
    HIGH,
    SLOW,
    LastReply,
    Outbound,
    ServerInfo,
    Session,
    State,
    Subscription,
)
from ..redact import hide_frames
from ..status import Status
from . import limits
from .attempts import Attempts
from .connect import capabilities, identity
from .link import Link
from .pings import Completion, Pings
from .pool import ServerPool
from .tls_context import TlsContext

# Unsent bytes above which a flood of PINGs is answered by one PONG per read instead of one each.
_PONG_FLOOD = 64 * 1024


class Client(Protocol):
    """What a connection needs of its client."""

    def report(self, error: errors.NatsError) -> None:
        """An error for on_error."""

    def server_error(self, error: errors.ServerError) -> None:
        """An -ERR that leaves the connection open."""

    def live_subscriptions(self) -> Iterator[Subscription]:
        """What a new connection must restore."""

    def waiting_requests(self) -> int:
        """How many requests wait for an answer."""

    def discarded(self, tags: list[int]) -> None:
        """The requests with these tags will not be sent: the server would not take them."""

    def completions(self) -> Iterable[tuple[int, Completion]]:
        """Callbacks of requests and the like that can no longer succeed: (order of call, how to fail)."""

    def status_changed(self) -> None:
        """`Connection.status` has a new value."""

    def before_write(self) -> None:
        """The last moment to change what is about to be written."""

    def ended(self) -> None:
        """No connection and none coming; all completions have been put off before this."""


class Connection:
    """See the module's docstring. The methods before "Attempts" are the client's."""

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
        self.turn = Turn(loop)
        self.deadlines = Deadlines(loop)
        self.pool = ServerPool(options)
        self.closing = False  # a drain: the end of this connection is the end of all
        self.refusing = False  # a drain: its last PING is on the way, no message is taken any more
        self.batches = 0  # nested calls of batch(): nothing is scheduled
        self._loop = loop
        self._options = options
        self._subs = subs
        self._client = client
        self._attempts = Attempts(loop, options, self.deadlines, self.pool, self)
        self.link: Link | None = None
        self._tls = TlsContext(options)
        self._greeting: ServerInfo | None = None  # the INFO that came before TLS
        self._reading_paused = False
        self.pings = Pings(options, self.deadlines, self.turn, self)
        self.last_order = 0
        self.last_reply = LastReply()
        self._leaving: Deadline | None = None  # force_reconnect() waits for what has been received
        self._forced = False  # a reconnect that the user asked for, whatever the options say
        self._was_connected = False  # since the last explicit connect
        self._up_since = 0.0
        self._lame_duck_told = False
        self._reconnects = 0
        self._counted = [0, 0]  # messages and bytes received by former sessions
        self._forked = False
        self.set_limits()
        watch_forks(self)

    @property
    def status(self) -> Status:
        """What the connection is doing."""
        return self._status

    @status.setter
    def status(self, status: Status) -> None:
        if status is not self._status:
            self._status = status
            self._client.status_changed()

    # Commands of the client.

    @property
    def connected(self) -> bool:
        """The handshake is complete and nothing has ended the connection."""
        return self._status is Status.CONNECTED

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
        return self._status not in (Status.DISCONNECTED, Status.CLOSED)

    @property
    def _session(self) -> Session | None:
        return self.link.session if self.link is not None else None

    def refuse_strangers(self) -> None:
        """Raise a clear error in the child of a fork, and in a thread while another one runs the loop."""
        if self._forked:
            raise errors.NotConnectedError(
                "not connected: this client is the parent process's; make a new one after a fork"
            )
        self.refuse_other_threads()

    def refuse_other_threads(self) -> None:
        """Raise a clear error in a thread while another one runs the loop, which it would not wake."""
        # Only our own binding can tell.
        if getattr(self._loop, "thread", None) not in (None, get_ident()):
            raise RuntimeError(
                "the client was called in another thread than the one that runs its loop: "
                "let an Async watcher of the loop make the call"
            )

    def forked(self) -> None:
        """See `fork.Forked`. The loop and its watchers may be shared: they are left alone."""
        self._forked = True
        self._status = Status.CLOSED
        self.set_limits()
        link, self.link = self.link, None
        if link is not None:
            link.forked()
        self._attempts.forked()

    def next_order(self) -> int:
        """A number for a completion: they fail in the order of the calls that they belong to."""
        self.last_order += 1
        return self.last_order

    def open(self) -> None:
        """Start connecting to the pool's servers; the first attempt is made by the loop."""
        self.refuse_strangers()
        self._abandon_attempt()
        self.closing = self.refusing = self._forced = False
        self._was_connected = False
        self.status = Status.CONNECTING
        self.pool.restart()
        self.set_limits()
        self._plan_attempt()

    def close(self) -> None:
        """disconnect(): at once and for good. Completions and on_disconnect follow on the loop."""
        if self.active:
            was_up = self.connected
            self._leave()
            self._end(errors.ConnectionClosedError("disconnected"), was_up)
        self.out.drop_messages()

    def abandon(self) -> None:
        """The process ends: close the socket and call nobody any more."""
        self._leave()
        self._status = Status.CLOSED
        self.set_limits()
        self.deadlines.stop()

    def force_reconnect(self) -> None:
        """Drop the connection and make a new one at once; or stop waiting before the next attempt."""
        if self.connected:
            assert self.link is not None
            self._forced = True
            if self.link.undelivered:
                # Asked for in a callback: the messages behind must not be lost.
                self.link.pause()
                self.deadlines.end(self._leaving)
                self._leaving = self.deadlines.after(0.0, self._leave_by_wish)
            else:
                self.lost(None)
        elif self._attempts.waiting:
            self._abandon_attempt()
            self.pool.hurry()
            self._plan_attempt()

    def _leave_by_wish(self) -> None:
        if not self.closing:  # a drain called meanwhile is to come to its end
            self.force_reconnect()

    def set_servers(self, urls: list[str]) -> None:
        """Replace the pool. Raises `BadOptionsError`, and then nothing has changed."""
        self.pool.set_servers(urls)
        if self._attempts.waiting:  # it would go to one of the old ones
            self._abandon_attempt()
            self._plan_attempt()

    def need_flush(self) -> None:
        """See to it that what is buffered leaves at the end of this turn."""
        self.turn.schedule()

    def queued(self, code: int) -> None:
        """What a framing call's bits ask for."""
        if code & FIRST and not self.batches:
            self.turn.schedule()
            # Once per turn this costs nothing.
            if getattr(self._loop, "thread", None) not in (None, get_ident()):
                self.refuse_other_threads()
        if code & SLOW and self._options.on_slow_consumer is not None:
            self.turn.soon(self._slow_consumer, len(self.out))
        if code & HIGH and self.link is not None:
            self.link.write_early()

    def ping(self, done: Completion | None = None) -> int:
        """PING behind all that is buffered; done is called with None at its PONG, or with the error."""
        order = self.next_order()
        code = self.out.ping()
        self.pings.add(order, done)
        self.queued(code)
        return order

    def flush(self) -> None:
        """Write what is buffered, in one call to the kernel."""
        if self.link is not None:
            self.link.flush()

    def pause_reading(self, pause: bool) -> None:
        """Stop reading from the socket, or go on; what has been read already is still delivered."""
        self._reading_paused = self.pings.held = pause
        if self.link is not None and self.connected:
            (self.link.pause if pause else self.link.resume)()

    def received(self) -> tuple[int, int]:
        """Messages received by all connections, and their header and payload bytes."""
        msgs, size = self._counted
        if self.link is not None:
            more_msgs, more_size = self.link.session.counts
            return msgs + more_msgs, size + more_size
        return msgs, size

    @property
    def reconnects(self) -> int:
        """How often a lost connection has been made anew."""
        return self._reconnects

    def leave_fast_path(self, sub: Subscription) -> None:
        """See `Session.leave_fast_path`."""
        if self.link is not None:
            self.link.session.leave_fast_path(sub)

    def enter_fast_path(self, sub: Subscription) -> None:
        """See `Session.enter_fast_path`."""
        if self.link is not None:
            self.link.session.enter_fast_path(sub)

    def finish(self) -> None:
        """The end of a drain: as close(), but what was wanted has been done."""
        was_up = self.connected
        self._leave()
        self._end(errors.ConnectionClosedError("disconnected"), was_up)

    def option_changed(self, name: str) -> None:
        """An option was set at run time: let it count from now on where it can."""
        if name == "ping_interval" and self.connected:
            self.pings.start()
        elif name in limits.OF_THE_BUFFER:
            self.set_limits()
        elif name == "max_payload":
            self._set_max_payload()
        elif name == "tls":
            self.pool.forget_tls()
        elif name == "reconnect":
            waits = self._attempts.waiting and self._status is Status.RECONNECTING
            if waits and not self._may_retry():  # switched off: no connection is coming
                self._abandon_attempt()
                self._end(errors.ConnectionClosedError("disconnected"), was_up=False)

    # Attempts.

    def _plan_attempt(self) -> None:
        """Ask the pool for the next server, and for how long to wait for it."""
        turn = self.pool.next()
        if turn is None:
            self._give_up()
            return
        _, delay = turn
        if delay:
            self.status = Status.RECONNECTING
        self._attempts.plan(delay)

    def dialed(self, sock: socket.socket) -> None:
        """See `attempts.Owner`."""
        self.link = Link(
            self._loop,
            Stream(sock),
            Session(
                self._subs, self, limits.max_message(self._options, self.info), self.last_reply
            ),
            self.out,
            self,
            self._client.before_write,
            self.turn,
            self.deadlines,
            self._options.priority,
        )
        if self.pool.secure and self._options.tls_handshake_first:
            self._start_tls()

    def attempt_failed(self, error: errors.NatsError, final: bool = False) -> None:
        """See `attempts.Owner`; the handshake has failed, too. final: there is no other attempt."""
        self._abandon_attempt()
        self._client.report(error)
        self.pool.failed(error)
        if final or not self._may_retry():
            self._end(errors.ConnectionClosedError("disconnected"), was_up=False)
        else:
            self._plan_attempt()

    def _may_retry(self) -> bool:
        options = self._options
        if self._was_connected:
            return options.reconnect or self._forced
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
        self._attempts.abandon()
        self.deadlines.end(self._leaving)
        link, self.link = self.link, None
        self._greeting = None
        if link is not None:
            assert self.pool.current is not None
            link.remember(self._tls, self.pool.current)
            msgs, size = link.session.counts
            self._counted[0] += msgs
            self._counted[1] += size
            link.close()

    # The handshake, and what the session tells.

    def info_received(self, info: ServerInfo, first: bool) -> None:
        """See `session.Events`."""
        assert self.link is not None
        # A later INFO may ask for it, too: the server's configuration, or ours, is another one now.
        if first and not self.link.secure and (self.pool.secure or info.tls_required):
            self._upgrade(info)
            return
        self.info = info
        self._set_max_payload()
        self.link.session.set_max_message(limits.max_message(self._options, self.info))
        if info.connect_urls is not None and not self._options.ignore_discovered_servers:
            found = self.pool.update_discovered(info.connect_urls)
            callback = self._options.on_discovered_servers
            if found and self._was_connected and callback is not None:
                self.turn.soon(callback, found)
        if first:
            self._send_connect(info)
        elif self.connected:
            self._watch_lame_duck(info)

    def _watch_lame_duck(self, info: ServerInfo) -> None:
        if info.ldm and not self._lame_duck_told:
            self._lame_duck_told = True
            if self._options.on_lame_duck is not None:
                self.turn.soon(self._options.on_lame_duck)

    def info_refused(self, error: errors.ProtocolError) -> None:
        """See `session.Events`."""
        self._client.report(error)

    def _upgrade(self, info: ServerInfo) -> None:
        """The first INFO came in clear and TLS is to follow. Anybody may have written it, or more."""
        assert self._session is not None
        if not (info.tls_required or info.tls_available):
            self.attempt_failed(
                errors.SecureConnectionRequiredError("secure connection not available")
            )
        elif not self._session.greeted_alone:
            self.attempt_failed(
                errors.ProtocolError("protocol error: bytes between INFO and the TLS handshake")
            )
        else:
            self._greeting = info.without_topology()
            self._start_tls()

    def _start_tls(self) -> None:
        assert self.link is not None
        assert self.pool.current is not None
        try:
            self.link.start_tls(self._tls, self.pool.current)
        except errors.TlsError as exc:
            self.attempt_failed(exc)

    def secured(self) -> None:
        """See `link.Owner`."""
        self.pool.secured()
        greeting, self._greeting = self._greeting, None
        if greeting is not None:
            self.info_received(greeting, first=True)

    def _send_connect(self, info: ServerInfo) -> None:
        options, link, server = self._options, self.link, self.pool.current
        assert server is not None
        assert link is not None
        fields = capabilities(options, info, link.secure)
        try:
            fields.update(identity(options, info.nonce, server))
        except BaseException as exc:
            hide_frames(exc)
            # Not an AuthorizationError: the server has refused nothing, and next time may do.
            error = errors.ConnectError(f"no credentials: {str(exc) or type(exc).__name__}")
            error.__cause__ = exc
            if self.link is link:  # else it has disconnected before
                self.attempt_failed(error)
            if not isinstance(exc, Exception):
                raise exc
            return
        if self.link is not link:
            return  # a callback has disconnected
        link.session.connect(fields, self._client.live_subscriptions())
        self.turn.schedule()

    def progress(self) -> None:
        """See `link.Owner`."""
        self._attempts.progress()

    def ready(self) -> None:
        """See `session.Events`: connected."""
        assert self.info is not None
        self._attempts.reached()
        again = self._was_connected
        self._was_connected = True
        self._forced = False
        self._reconnects += again
        self._up_since = self.deadlines.clock()
        self.status = Status.CONNECTED
        self._lame_duck_told = False
        self.pool.succeeded()
        self._recheck(self.info)
        self.set_limits()
        self.pings.start()
        if self._reading_paused and self.link is not None:
            self.link.pause()
        self.turn.schedule()  # what has waited goes out
        if self._options.on_connect is not None:
            self.turn.soon(self._options.on_connect)
        if again and self._options.on_reconnect is not None:
            self.turn.soon(self._options.on_reconnect)
        self._watch_lame_duck(self.info)
        # Here and not at the turn's end: what follows the PONG comes after on_connect.
        self.turn.run_soon()

    def _recheck(self, info: ServerInfo) -> None:
        """Discard queued messages for which this server would close the connection, and say so."""
        if not len(self.out):
            return
        discarded, tags = self.out.recheck(info.headers, self._client.waiting_requests())
        if not discarded:
            return
        self._client.discarded(tags)
        limit = self.out.limits.max_payload
        self._client.report(
            errors.MaxPayloadError(
                f"queued messages that this server does not take were discarded: {discarded} "
                f"(max_payload {limit}, headers {'yes' if info.headers else 'no'})",
                limit=limit,
                discarded=discarded,
            )
        )

    def ping_received(self, count: int) -> None:
        """See `session.Events`."""
        session = self._session
        if session is None or session.state is State.GREETING:
            return
        sink = self.out if session.state is State.READY else session.handshake
        for _ in range(count if len(sink) < _PONG_FLOOD else 1):
            self.queued(sink.pong())

    def pong_received(self) -> None:
        """See `session.Events`."""
        self.pings.answered()

    def server_error(self, text: str) -> None:
        """See `session.Events`; `errors.Action` says what the server does after each error."""
        error = errors.server_error(text)
        in_clear = self.link is not None and not self.link.secure
        if in_clear and self.pool.secure and not self.connected:
            # Anybody may have written it: it counts for nothing but this attempt.
            self.attempt_failed(errors.ConnectError(str(error)))
        elif error.action is errors.Action.KEEP:
            self._client.server_error(error)
        else:
            self.lost(error, final=error.action is errors.Action.FATAL)

    def protocol_failed(self, error: errors.ProtocolError) -> None:
        """See `session.Events`."""
        self.lost(error)

    def callback_failed(self, error: BaseException) -> None:
        """See `session.Events`."""
        self.turn.failed(error)

    # Loss and end.

    def lost(self, error: errors.NatsError | None, final: bool = False) -> None:
        """The connection broke; error None means a plain end of file."""
        if not self.connected:
            self.attempt_failed(error or self._closed_by_server(), final)
            return
        lived = self.deadlines.clock() - self._up_since
        again = (self._options.reconnect or self._forced) and not final and not self.closing
        self._leave()
        self.status = Status.RECONNECTING if again else Status.CLOSED
        if error is not None:
            self._client.report(error)
        self.pool.lost(error, lived)
        if self._forced:
            self.pool.new_round()
            self.pool.hurry()
        if not again:
            self._end(errors.ConnectionLostError("disconnected"), was_up=True)
            return
        self.out.take_back()
        self.set_limits()
        self._fail_completions(errors.ConnectionLostError("disconnected"))
        self._tell_disconnected()
        self._plan_attempt()

    def _closed_by_server(self) -> errors.ConnectError:
        session = self._session
        when = ""
        if session is not None:
            when = " before INFO" if session.state is State.GREETING else " after CONNECT"
        return errors.ConnectError(f"connection closed by the server{when}")

    def _leave(self) -> None:
        """Close what is open."""
        self._abandon_attempt()
        self.pings.stop()

    def _end(self, error: errors.NatsError, was_up: bool) -> None:
        """No connection and none coming. Messages wait for the next one; all else is dropped."""
        self.status = Status.CLOSED
        self.out.take_back()
        self.set_limits()
        self._fail_completions(error)
        if was_up:
            self._tell_disconnected()
        self._client.ended()

    def _fail_completions(self, error: errors.NatsError) -> None:
        waiting: list[tuple[int, Completion]] = list(self._client.completions())
        waiting.extend(self.pings.completions())
        waiting.sort(key=lambda item: item[0])
        for _, done in waiting:
            self.turn.soon(done, error)

    def _tell_disconnected(self) -> None:
        if self._options.on_disconnect is not None:
            self.turn.soon(self._options.on_disconnect)

    # Limits.

    def set_limits(self) -> None:
        """Let the buffer's limits be those of the options and of the status."""
        limits.set_buffer(
            self.out.limits,
            self._options,
            connected=self.connected,
            active=self.active,
            refusing=self.refusing,
        )

    def _set_max_payload(self) -> None:
        self.out.limits.max_payload = limits.max_payload(self._options, self.info)

    def _slow_consumer(self, pending: int) -> None:
        callback = self._options.on_slow_consumer
        if callback is not None:
            callback(pending)
