"""The life of a client's connections: attempt, handshake, connection, loss, next attempt, end.

Theory of operation
-------------------
One `Connection` per client, for as long as the client lives. What belongs to one TCP connection (`Link`,
`Session`, `Handshake`) is made for it and thrown away with it: a new session is a new object, not a reset
one, so nothing of a lost connection can leak into the next. What outlives a connection is here or below
the client: the write buffer, the table of subscriptions, the pool of servers, PINGs that wait for PONGs.

Time flows in one circle. `_plan_attempt` asks the pool for a server and a delay; `Attempts` waits, dials
and bounds the time; `dialed` makes a link and its handshake; `ready` ends both. Whatever goes wrong on
the way, and whatever breaks the connection later, comes to `failed`, which plans the next attempt or ends
it all. The status changes by events of `states.TRANSITIONS` and in no other way.

There are few ways to stop, and they differ in what they tell whom:

    failed(error)         an attempt or the connection broke: on_error, completions fail, then retry or end
    disconnect()          the user's wish, or the end of a drain: completions fail, on_disconnect, no retry
    force_reconnect()     the user's wish: as a loss without an error, then at once the next attempt
    abandon()             the process exits: sockets are closed, nobody is called
    forked()              in the child of a fork: sockets are the parent's, they are not even closed

All of them go through `_drop_link`, after which nothing of the old connection calls us any more, and the
first two through `_end` when no connection is coming. Callbacks of the user never run inside these steps:
they are put off to the end of the loop's turn (`Turn.soon`), when the state is settled. So a callback may
connect, disconnect or drain, and the order that the contract promises is the order of the `soon` calls
below: errors, completions in the order of the calls that they belong to, on_disconnect, and then the
first attempt.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial

from .. import errors
from ..compiled import ConnectionBase
from ..instrumentation import Journal, Observers
from ..loops import Loop
from ..net import Deadline, Deadlines, Guard, Mailbox, Refs, Stream, Turn, watch_forks
from ..options import Options
from ..protocol import (
    FIRST,
    HIGH,
    SLOW,
    Outbound,
    ServerInfo,
    Session,
    State,
    Subscription,
)
from ..status import Status
from .attempts import Attempts
from .handshake import Handshake
from .limits import OF_THE_BUFFER, Limits, Unsent, unacceptable
from .link import Link, link_type
from .pings import Completion, InOrder, Pings
from .pool import ServerPool
from .server import Server, closed_by, closed_by_server, gave_up, locate, no_nats, timed_out
from .states import Client, Event, next_status
from .tls_context import TlsContext

# Unsent bytes above which a flood of PINGs is answered by one PONG per read instead of one each.
_PONG_FLOOD = 64 * 1024


class Connection(ConnectionBase):
    """See the module's docstring. Its methods before "Attempts" are the client's."""

    def __init__(
        self,
        loop: Loop,
        options: Options,
        out: Outbound,
        subs: dict[int, Subscription],
        client: Client,
        observers: Observers | None,
    ) -> None:
        self._status = Status.DISCONNECTED
        self._loop = loop
        self._options = options
        self._subs = subs
        self._client = client
        # What outlives a connection.
        self.out = out
        self.guard = Guard(loop)
        self.turn = Turn(loop)
        self._refs = refs = Refs(loop)
        self.deadlines = Deadlines(loop, refs=refs)
        self.mailbox = Mailbox(loop, self.turn, refs)
        self.journal = Journal(observers, self.turn.soon, self.deadlines.clock)
        self.pool = ServerPool(options)
        self.pings = Pings(options, self.deadlines, self.turn, self)
        self._attempts = Attempts(loop, options, self.deadlines, self.turn, self.pool, self, refs)
        self._tls = TlsContext(options)
        self._limits = Limits(out.limits, options)
        self._unsent = Unsent(options, self.deadlines, self.journal)
        self.info: ServerInfo | None = None  # of the last server
        # The connection, or what an attempt has of it so far.
        self.link: Link | None = None
        self._handshake: Handshake | None = None
        self._up_since = 0.0
        # What the user has asked for.
        self.closing = False  # a drain: the end of this connection is the end of all
        # A drain: its last PING is framed, and no message is accepted any more, except while
        # callbacks of received messages are on the stack (`delivering` counts the deliveries).
        self.refusing = False
        self.delivering = 0
        self._reading_paused = False
        self._forced = False  # a reconnect, whatever the options say
        self._forcing: Deadline | None = None  # one that waits for what has been received
        # What has been since the last explicit connect, and since ever.
        self._was_connected = False
        self._received = [0, 0]  # messages and bytes of former sessions
        out.queued = self.queued
        out.loop = loop
        out.schedule = self.turn.schedule
        self.set_limits()
        watch_forks(self)

    @property
    def status(self) -> Status:
        """What the connection is doing."""
        return self._status

    def _happens(self, event: Event) -> None:
        """Change the status as the table says, and tell the client."""
        status = next_status(self._status, event)
        if status is not self._status:
            self._status = status
            if event is not Event.ABANDON:
                self._client.status_changed()

    # Commands of the client.

    @property
    def connected(self) -> bool:
        """Whether the handshake is complete and nothing has ended the connection."""
        return self._status is Status.CONNECTED

    @property
    def active(self) -> bool:
        """Whether a connection is up, or on the way."""
        return self._status not in (Status.DISCONNECTED, Status.CLOSED)

    @property
    def waiting(self) -> bool:
        """Whether the client waits before the next attempt to reconnect."""
        return self._status is Status.RECONNECTING and self._attempts.waiting

    @property
    def wire(self) -> Outbound | None:
        """Where SUB and UNSUB go now; None while the next handshake will bring them anyway."""
        session = self._session
        if session is None or session.state in (State.GREETING, State.INFORMED, State.CLOSED):
            return None
        return self.out if session.state is State.READY else session.handshake

    @property
    def url(self) -> str:
        """The URL of the server in use, or tried last, without credentials."""
        return self.pool.current.url if self.pool.current is not None else ""

    @property
    def _session(self) -> Session | None:
        return self.link.session if self.link is not None else None

    @property
    def ever_tried(self) -> bool:
        """Whether an attempt to connect has ever begun, which takes a loop that runs."""
        return self._attempts.began

    def next_order(self) -> int:
        """Return a number for a completion: completions fail in the order of the calls that made them."""
        order = self.out.last_order = self.out.last_order + 1
        return order

    def open(self) -> None:
        """Start connecting to the pool's servers; the loop makes the first attempt."""
        self.guard.check()
        self._drop_link()
        self.closing = self.refusing = self._forced = False
        self._was_connected = False
        self._happens(Event.OPEN)
        self.pool.restart()
        if self.pool.secure:
            self._tls.load()
        self.set_limits()
        self.mailbox.open()
        self._plan_attempt(asked_for=True)

    def disconnect(self) -> None:
        """Close the connection, or give up the attempt, for good. What is queued stays queued.

        Completions and on_disconnect follow on the loop. Does nothing if there is nothing to close.
        """
        if self.active:
            was_up = self.connected
            self._drop_link()
            closed = errors.ConnectionClosedError("disconnected")
            if was_up:
                self.journal.left(self.url, closed, drained=self.closing)
            self._end(closed, was_up)

    def abandon(self) -> None:
        """Close the socket and call nobody any more: the process exits."""
        self._drop_link()
        self._happens(Event.ABANDON)
        self.set_limits()
        self.deadlines.stop()
        self.mailbox.forget()

    def loop_closed(self) -> None:
        """Close the socket and refuse calls from now on: the loop has been closed and calls nobody."""
        self.guard.closed = True
        self.abandon()
        self.turn.forget()

    def forked(self) -> None:
        """Let go of the parent's connection, in the child of a fork; see `fork.Forked`.

        The loop and its watchers may be shared: they are left alone.
        """
        self.guard.forked = True
        self._happens(Event.ABANDON)
        self.set_limits()
        link, self.link = self.link, None
        if link is not None:
            link.forked()
        self._attempts.forked()
        self.turn.forget()
        self.deadlines.forget()
        self.mailbox.forget()

    def force_reconnect(self) -> None:
        """Drop the connection and make a new one at once; or stop waiting before the next attempt."""
        if self.connected:
            assert self.link is not None
            if self.closing:  # a drain comes to its own end
                return
            self._forced = True
            if self.link.undelivered:
                # Called in a callback: the messages that were received after its own must not be
                # lost.
                self.link.pause()
                self.deadlines.end(self._forcing)
                self._forcing = self.deadlines.after(0.0, self._force_now)
            else:
                self.failed(None)
        elif self._attempts.waiting:
            self.pool.skip_wait()
            self._plan_again()

    def _force_now(self) -> None:
        if not self.closing:  # a drain that was called meanwhile comes to its own end
            self.force_reconnect()

    def set_servers(self, urls: list[str]) -> None:
        """Replace the pool. Raises `BadOptionsError`, and then nothing has changed."""
        self.guard.check_thread()
        self.pool.set_servers(urls, in_use=self.active and not self._attempts.waiting)
        if self._attempts.waiting:  # for one of the old servers
            self._plan_again()

    def need_flush(self) -> None:
        """Write what is buffered at the end of this turn."""
        self.turn.schedule()

    def queued(self, code: int) -> None:
        """Do what the bits of a framing call's code ask for."""
        if code & FIRST and not self.out.batches:
            self.turn.schedule()
            self.guard.check_thread()  # once per turn
        if code & SLOW:
            self.turn.soon(self._call_hook, "on_slow_consumer", len(self.out))
            self._unsent.too_many(self.out)
        if code & HIGH and self.link is not None:
            self.link.write_early()

    def ping(self, done: Completion | None = None) -> int:
        """Frame a PING after all that is buffered; done gets None at its PONG, else the error."""
        order = self.next_order()
        code = self.out.ping()
        self.pings.add(order, done)
        self.queued(code)
        return order

    def trim(self) -> None:
        """Give back memory that is not in use."""
        self.out.trim()

    def flush(self) -> None:
        """Write what is buffered, in one call to the kernel."""
        if self.link is not None:
            self.link.flush()

    def pause_reading(self, pause: bool) -> None:
        """Stop reading from the socket, or go on; what has been read already is still delivered."""
        self.guard.check_thread()
        self._reading_paused = pause
        self.pings.hold(pause)
        if self.link is not None and self.connected:
            (self.link.pause if pause else self.link.resume)()

    def received(self) -> tuple[int, int]:
        """Return how many messages all connections have received, and their header and payload bytes."""
        msgs, size = self._received
        if self.link is not None:
            more_msgs, more_size = self.link.session.counts
            return msgs + more_msgs, size + more_size
        return msgs, size

    def option_changed(self, name: str) -> None:
        """Let an option that was set at run time count from now on, where it can."""
        if name == "ping_interval" and self.connected:
            self.pings.start()
        elif name in OF_THE_BUFFER:
            self.set_limits()
        elif name == "max_payload":
            self._limits.set_max_payload()
        elif name == "tls":
            self.pool.forget_tls()
        elif name == "reconnect":
            if not self._options.reconnect:
                self._forced = False  # the later wish counts
            if self.waiting and not self._may_retry():  # switched off: no connection is coming
                self.disconnect()

    # Attempts.

    def _plan_attempt(self, asked_for: bool = False, last: errors.NatsError | None = None) -> None:
        """Let `Attempts` try the next server, perhaps of the user's choice, or end if there is none.

        Args:
            asked_for: by the user, who may ask again and again: a floor bounds how often.
            last: the error of the attempt before.
        """
        plan = partial(self._plan, asked_for, last)
        if self.pool.asks(self._was_connected):
            self._attempts.ask(self.info, self._client.report, plan)
        else:
            plan()

    def _plan_again(self) -> None:
        """Let the user's wish replace the attempt that is planned; not if its callbacks are being asked."""
        if self._attempts.asking:  # else they would be asked again, and do the same, for ever
            self._attempts.hurried = True
        else:
            self._drop_link()
            self._plan_attempt(asked_for=True)

    def _plan(
        self,
        asked_for: bool,
        last: errors.NatsError | None,
        choice: Server | None = None,
        own_delay: float | None = None,
    ) -> None:
        before = self.url
        asked_for = asked_for or self._attempts.hurried
        if asked_for and (choice is not None or own_delay is not None):
            own_delay = 0.0
        turn = self.pool.next(choice, own_delay)
        if turn is None:
            why = gave_up(self.pool.exhausted, self.pool.known, last)
            self.journal.gave_up(before, last, why)
            self._client.report(why, ends=True)
            self._end(closed_by(why), was_up=False)
            return
        server, delay = turn
        self.journal.planned(before, last, server.url, delay)
        if delay:
            self._happens(Event.WAIT)
        bounded = (asked_for or own_delay is not None) and self._attempts.began
        self._attempts.plan(delay, self.pool.least_delay() if bounded else 0.0)

    def dialed(self, sock: socket.socket) -> None:
        """Begin the handshake on a connected socket; see `attempts.Owner`."""
        assert self.pool.current is not None
        session = Session(
            self._subs, self, self._limits.max_message, self.out.waiting, self.turn.schedule
        )
        self.link = link_type(self.journal.observers)(
            self._loop, Stream(sock), session, self.out, self, self._client.before_write,
            self.turn, self.deadlines, self._options, self._refs, self.journal,
        )  # fmt: skip
        self._handshake = Handshake(
            self.link, self.pool.current, self._options, self.pool, self._tls, self
        )
        self._handshake.begin()

    def _may_retry(self) -> bool:
        return self.pool.may_retry(self._was_connected, self._forced)

    # What the link, the handshake and the session report.

    def info_received(self, info: ServerInfo, first: bool) -> None:
        """See `session.Events`."""
        if first:
            assert self._handshake is not None
            self._handshake.greeted(info)
            return
        self.server_described(info)
        if self.connected:
            self._report_lame_duck(info)

    def server_described(self, info: ServerInfo) -> None:
        """Take note of what the server says about itself and its cluster; see `handshake.Owner`."""
        assert self.link is not None
        self.info = info
        self._limits.set_server(info)
        self.out.no_headers = self.connected and not info.headers
        self.link.limit_messages(info.max_payload, self._limits.max_message)
        if info.connect_urls is not None and not self._options.ignore_discovered_servers:
            found = self.pool.update_discovered(info.connect_urls)
            if found:
                self.journal.discovered(found)
            if found and self._was_connected:
                self.turn.soon(self._call_hook, "on_discovered_servers", found)

    def live_subscriptions(self) -> Iterator[Subscription]:
        """See `handshake.Owner`."""
        return self._client.live_subscriptions()

    def info_refused(self, error: errors.ProtocolError) -> None:
        """See `session.Events`."""
        self._client.report(error)

    def secured(self) -> None:
        """See `link.Owner`."""
        assert self._handshake is not None
        self._handshake.secured()

    def progress(self) -> None:
        """See `link.Owner`."""
        self._attempts.progress()

    def ready(self) -> None:
        """Connected: the handshake's PONG has come; see `session.Events`."""
        assert self.info is not None
        self._attempts.reached()
        self._handshake = None
        again = self._was_connected
        self._was_connected = True
        self._forced = False
        self._up_since = self.deadlines.clock()
        self._happens(Event.READY)
        assert self.link is not None
        self.journal.connected(
            self.url, self.link.peer, self.info, self.link.session.restored, again
        )
        self.pool.succeeded()
        self.mailbox.open()
        self._discard_unacceptable(self.info)
        self.set_limits()
        self.pings.start()
        if self._reading_paused:
            self.link.pause()
        self.turn.schedule()  # what has waited goes out
        self.turn.soon(self._call_hook, "on_connect")
        if again:
            self.turn.soon(self._call_hook, "on_reconnect")
        self._report_lame_duck(self.info)
        # Here and not at the turn's end: what follows the PONG comes after on_connect.
        self.turn.run_soon()

    def _report_lame_duck(self, info: ServerInfo) -> None:
        server = self.pool.current
        if info.ldm and server is not None and not server.lame_duck:
            server.lame_duck = True
            self.journal.lame_duck(self.url)
            self.turn.soon(self._call_hook, "on_lame_duck")

    def _discard_unacceptable(self, info: ServerInfo) -> None:
        """Discard queued messages for which this server would close the connection, and report that."""
        if not len(self.out):
            return
        discarded, tags = self.out.recheck(info.headers, self._client.waiting_requests())
        if not discarded:
            return
        self._client.discarded(tags)
        limit = self.out.limits.max_payload
        self._client.report(unacceptable(discarded, limit, info.headers))

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
            # TLS is still to come, so anybody may have written this: it ends this attempt, and no
            # more.
            self.failed(errors.ConnectError(str(error)))
        elif error.action is errors.Action.KEEP:
            locate(error, self.pool.current)
            self.journal.server_error(self.url, error)
            self._client.server_error(error)
        else:
            self.failed(error, final=error.action is errors.Action.FATAL)

    def protocol_failed(self, error: errors.ProtocolError) -> None:
        """See `session.Events`."""
        if self._handshake is not None and not self._handshake.heard_info:
            no_nats(error)
        self.failed(error)

    def timed_out(self) -> None:
        """See `attempts.Owner`."""
        session = self._session
        mute = session is not None and session.state is State.GREETING
        self.failed(timed_out(mute, self.link is not None and self.link.websocket))

    def callback_failed(self, error: BaseException) -> None:
        """See `session.Events`."""
        self.turn.failed(error)

    # Failure and end.

    def failed(self, error: errors.NatsError | None, final: bool = False) -> None:
        """Leave a broken connection or a failed attempt, then make the next attempt or end.

        Args:
            error: for on_error; None for the plain end of a connection.
            final: make no other attempt, whatever the options say.
        """
        if self.connected:
            self._connection_lost(error, final)
        else:
            state = self._session.state if self._session is not None else None
            self._attempt_failed(error or closed_by_server(state), final)

    def _attempt_failed(self, error: errors.NatsError, final: bool) -> None:
        locate(error, self.pool.current, self._attempts.tried)
        self._drop_link()
        self.pool.failed(error)
        ends = final or not self._may_retry()
        self._client.report(error, ends)
        if ends:
            self.journal.attempt_failed(self.url, error)
            self._end(closed_by(error), was_up=False)
        else:
            self._plan_attempt(last=error)

    def _connection_lost(self, error: errors.NatsError | None, final: bool) -> None:
        if error is not None:
            locate(error, self.pool.current)
        lived = self.deadlines.clock() - self._up_since
        again = (self._options.reconnect or self._forced) and not final and not self.closing
        self._drop_link()
        self.journal.lost(self.url, error, again, forced=self._forced)
        self._happens(Event.LOST if again else Event.END)
        if error is not None:
            self._client.report(error, ends=not again)
        self.pool.lost(error, lived)
        if self._forced:
            self.pool.new_round()
            self.pool.skip_wait()
        lost = errors.ConnectionLostError("disconnected")
        lost.__cause__ = error
        if not again:
            self._end(lost, was_up=True)
            return
        self._settle(lost, was_up=True)
        self._plan_attempt(asked_for=self._forced)

    def _drop_link(self) -> None:
        """Close the connection, or whatever an attempt has of it. Nothing of it calls us after this."""
        self._attempts.abandon()
        self.pings.stop()
        self.deadlines.end(self._forcing)
        self._handshake = None
        self._unsent.end()
        link, self.link = self.link, None
        if link is not None:
            msgs, size = link.session.counts
            self._received[0] += msgs
            self._received[1] += size
            link.close()

    def _end(self, error: errors.NatsError, was_up: bool) -> None:
        """End: no connection and none coming. Messages wait for the next connect(), all else fails."""
        if self.active:
            self._happens(Event.END)
        self._settle(error, was_up)
        self.journal.ended(error)
        self._client.ended()

    def _settle(self, error: errors.NatsError, was_up: bool) -> None:
        """Take back what was not sent, fail what can't succeed any more, then call on_disconnect."""
        self.out.take_back()
        self.set_limits()
        sources = [*self._client.completions(), self.pings.completions()]
        self.turn.soon_each(InOrder(sources), error)
        if was_up:
            self.turn.soon(self._call_hook, "on_disconnect")

    def _call_hook(self, name: str, *args: object) -> None:
        """Call a callback of the options, if one is set now: it may have been cleared since the event."""
        callback = getattr(self._options, name)
        if callback is not None:
            callback(*args)

    def delivery_begins(self) -> None:
        """Accept messages while received ones are delivered: their callbacks may answer in a drain, too."""
        self.delivering += 1
        if self.refusing:
            self.delivery_changed()

    def delivery_ends(self) -> None:
        """Undo `delivery_begins`."""
        self.delivering -= 1
        if self.refusing:
            self.delivery_changed()

    def delivery_changed(self) -> None:
        """Adapt a drain that refuses messages to the number of deliveries."""
        if self.delivering <= 1:
            self.set_limits()
        if not self.delivering:
            self.turn.schedule()  # the drain may have waited for this

    def set_limits(self) -> None:
        """Set the write buffer's limits by the options and the status."""
        refusing = self.refusing and not self.delivering
        self._limits.set_buffer(connected=self.connected, active=self.active, refusing=refusing)
        self.out.no_headers = self.connected and self.info is not None and not self.info.headers
