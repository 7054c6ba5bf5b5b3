"""One connection's bytes: when they are read, delivered and written.

Theory of operation
-------------------
In. The socket is readable, so `read` takes up to 128 KiB in one call, gives them to the session, and
delivers all that is in them before it reads again: nothing piles up here, and a slow program makes the
server wait by TCP. But one read may hold thousands of messages, and their callbacks must not keep other
watchers from their turn. So the session delivers for at most 10 ms, then the link gives way: the reader is
stopped and the rest follows in the loop's next iteration.

`read` and `flush` are C (``csrc/py_turn.c``). After the handshake, and without TLS and WebSocket, they read
and deliver, and write, without a call of Python. For all else they call the methods here.

A callback may nest `loop.start()`, raise what stops the loop, or never return. What was received after
its message is then delivered by whoever comes first: the nested loop or the loop's next run. The session
asks for a turn before it calls anybody, and `go_on`, at the start of the turn's end, delivers what is left.

Out. What is written is first the session's handshake (CONNECT, subscriptions, PING; in portions, for
there may be hundreds of thousands), then the client's buffer, never both. `flush` at the turn's end
writes all that the turn has framed in one call to the kernel; only above the buffer's high-water mark
does `write_early` let the server begin before that. While the socket takes no more (`_writing`) the write
watcher goes on. When the write side is broken (`_broken`) nothing is reported yet: the server's last
words, an -ERR that explains it, may still be in the receive buffer, and the reader finds them before it
finds the end. A reader that finds nothing for a second will find nothing later: then the connection is
lost (`_look_for_end`).

What the bytes mean is the session's business, what a loss means the connection's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from .. import errors
from ..compiled import LinkBase
from ..instrumentation import Journal, Observers
from ..loops import Io, Loop
from ..net import (
    CALLBACKS_SLICE,
    EV_READ,
    EV_WRITE,
    NO_BUFFERS,
    Deadline,
    Deadlines,
    Refs,
    Stream,
    Turn,
    handshake_error,
    is_tls_error,
    make_dead_end,
    os_error,
    read_error,
)
from ..options import Options
from ..protocol import END, GAVE_WAY, NOTHING, Outbound, Session, State
from ..redact import drop_frames
from .limits import largest_message
from .tls_context import TlsContext

if TYPE_CHECKING:
    from ..net import TlsStream, Upgrade, WsStream
    from .server import Server


# Seconds until the next try when the kernel is out of buffers.
_NO_BUFFERS_RETRY = 0.01
# Seconds: if the server hangs up so soon after bytes of ours, without a word, it is most likely
# because of them.
_RIGHT_AFTER = 1.0
# Seconds that a reader has, after the write side broke, to find the end or something else to read.
_LAST_WORDS = 1.0
# How often a reader that has found something gets that time again: what the server said before the break has
# been read by then, even if it goes on talking. Callbacks that still work on it get more.
_MOST_LOOKS, _MOST_LOOKS_BEHIND = 5, 10


class Owner(Protocol):
    """What a link needs of its connection, which is a `ConnectionBase`, too."""

    # How many deliveries are on the stack, and whether a drain refuses messages.
    delivering: int
    refusing: bool

    def failed(self, error: errors.NatsError | None) -> None:
        """End a broken link; None means an end of file without an apparent reason."""

    @property
    def connected(self) -> bool:
        """Whether the handshake was complete."""

    def secured(self) -> None:
        """Go on after the TLS handshake."""

    def progress(self) -> None:
        """Give the server more time: another portion of the handshake has gone out."""

    def delivery_changed(self) -> None:
        """Adapt a drain that refuses messages to the number of deliveries."""


class _Released:
    """Takes the place of the watchers of a closed link, which nobody may start again."""

    active = False

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""


_RELEASED = _Released()


class Link(LinkBase):
    """A connected socket, its two watchers, and the session that its bytes are for."""

    def __init__(
        self,
        loop: Loop,
        stream: Stream,
        session: Session,
        out: Outbound,
        owner: Owner,
        before_write: Callable[[], None],
        turn: Turn,
        deadlines: Deadlines,
        options: Options,
        refs: Refs,
        journal: Journal,
    ) -> None:
        """Start reading. before_write may change the buffer, which is about to be written."""
        self.session: Session = session
        self._options = options
        self._refs = refs
        self._journal = journal
        self._bare: Stream | TlsStream | WsStream = stream  # not traced
        self._stream: Stream | TlsStream | WsStream = journal.traced(stream)
        self._out: Outbound = out
        self._owner: Owner = owner
        self._before_write = before_write
        self._slice = CALLBACKS_SLICE
        self._turn = turn
        self._deadlines = deadlines
        self._clock = deadlines.clock
        self._sink = session.handshake  # what is written now: the handshake, then `out`
        self._fd = fd = stream.fileno()
        # Whether C reads and writes the socket: after the handshake, without TLS and without a trace.
        self._direct = False
        self._reader: Io = loop.io(fd, EV_READ, self.read, None, options.priority)
        self._writer: Io = loop.io(fd, EV_WRITE, self._on_writable, None, options.priority)
        self._writing = False
        self._broken = False  # the write side
        self._looks = 0  # of `_look_for_end`
        self._held = False  # by `pause`
        self._closed = False
        self._continuing: Deadline | None = None
        self._retrying: Deadline | None = None
        self._stuck: Deadline | None = None  # while the socket takes no more
        self._progress_at = 0.0  # when it last did
        self._spoke_at = (
            0.0  # when we last wrote or failed to; 0: the server has said something since
        )
        self._wrote_at = 0.0  # the same when the write side broke, without the failure
        turn.attach(self.go_on, self.flush, session)
        refs.start(self._reader)

    @property
    def closed(self) -> bool:
        """Whether the connection has let go of this link."""
        return self._closed

    @property
    def secure(self) -> bool:
        """Whether what is read and written is encrypted."""
        return self._stream.secure

    @property
    def peer(self) -> str:
        """The numeric address of the server, or the path of its Unix socket; "" if the kernel forgot it."""
        return self._stream.peer

    @property
    def local(self) -> str:
        """Our own address, in the same way."""
        return self._stream.local

    @property
    def tls(self) -> tuple[str | None, str | None]:
        """The version of TLS and the name of the cipher suite; (None, None) without TLS."""
        return self._stream.version, self._stream.cipher

    def start_tls(self, tls: TlsContext, server: Server) -> None:
        """Begin the TLS handshake. Raises `TlsError` if it can't begin."""
        assert isinstance(self._bare, Stream)
        stream = tls.wrap(self._bare, server)
        if not self._closed:  # else a callback for certificates has disconnected
            self._bare = stream
            self._stream = self._journal.traced(stream)
            self._shake_hands()

    def start_websocket(self, upgrade: Upgrade) -> None:
        """Ask for a WebSocket connection, on the plain socket or on its TLS."""
        from ..net import WsStream

        assert not isinstance(self._bare, WsStream)
        self._bare = stream = WsStream(self._bare, upgrade, largest_message(self._options))
        self._stream = self._journal.traced(stream)
        try:
            stream.begin()
        except OSError as exc:
            self._fail(read_error(exc, False))
            return
        self._watch_writable(stream.unsent)

    def limit_messages(self, theirs: int, ours: int) -> None:
        """Follow an INFO: theirs is the server's max_payload, ours the most bytes of an inbound message."""
        self.session.set_max_message(ours)
        if self.websocket:
            self._stream.limit(theirs, ours)  # type: ignore[union-attr]

    @property
    def websocket(self) -> bool:
        """Whether NATS is spoken in WebSocket frames, or will be after the handshake of that."""
        return self._stream.framed

    def _shake_hands(self) -> None:
        stream = self._stream
        assert not isinstance(stream, Stream)
        try:
            done = stream.handshake()
        except OSError as exc:
            self._fail(read_error(exc, False) if stream.framed else handshake_error(exc))
            return
        self._watch_writable(stream.unsent)
        if done:
            self._owner.secured()

    def _fail(self, error: errors.NatsError | None) -> None:
        """Report a broken link. The client keeps the error, whose frames would keep this object."""
        if error is not None:
            drop_frames(error)
        self._owner.failed(error)

    def close(self) -> None:
        """Close the socket; nothing more is read, delivered or written."""
        self._closed = True
        self._turn.detach()
        self._deadlines.end(self._continuing)
        self._deadlines.end(self._retrying)
        self._deadlines.end(self._stuck)
        self._refs.stop(self._reader)
        self._refs.stop(self._writer)
        # These hold methods of this object. Without such cycles the link, its buffers and its TLS (90 kB)
        # are freed at once, and not when Python's collector comes, which may be never.
        self._reader = self._writer = _RELEASED
        self._continuing = self._retrying = self._stuck = None
        self.session.close()
        self._stream.close()

    def forked(self) -> None:
        """Cut this copy off from the parent's socket, in the child of a fork.

        The watchers stay as they are: the loop may be shared with the parent. They stop when they fire.
        """
        self._closed = True
        self._turn.detach()
        self.session.close()
        make_dead_end(self._stream.fileno())
        if not self._reader.active and not self._writer.active:
            self._stream.close()

    def _bury(self) -> None:
        """Stop the watchers of the dead end: only in the child of a fork are they still active."""
        self._refs.stop(self._reader)
        self._refs.stop(self._writer)
        self._stream.close()

    # In.

    def pause(self) -> None:
        """Stop reading; what has been read is still delivered."""
        self._held = True
        self._watch()

    def resume(self) -> None:
        """Undo `pause`."""
        self._held = False
        self._watch()

    def _watch(self) -> None:
        if self._closed or self._held or self._continuing is not None:
            self._refs.stop(self._reader)
        else:
            self._refs.start(self._reader)

    def _read_otherwise(self) -> bool:
        """Read once by Python: what `read` does on a link that is closed or not `_direct`."""
        if self._closed:
            self._bury()
            return False
        stream = self._stream
        if stream.handshaking:
            self._shake_hands()
            stream = self._stream  # another one if WebSocket follows TLS
            if self._closed or stream.handshaking:
                return False
            # The server's first INFO may have come together with the end of the handshake.
        return self._read_stream(stream)

    def _not_drained(self, code: int, spoke_at: float) -> bool:
        """Go on after a read that left something, or brought nothing. Return whether it brought any bytes."""
        if code == GAVE_WAY:
            self._give_way()
            return True
        self._spoke_at = spoke_at  # nothing has come
        if code == END:
            self._fail(self._end_of_file())
        elif code != NOTHING:
            self._fail(read_error(os_error(-code), self._owner.connected))
        return False

    def _read_stream(self, stream: Stream | TlsStream | WsStream) -> bool:
        """Read once by Python, and deliver: before the handshake is complete, from TLS and from WebSocket."""
        try:
            data = stream.recv()
        except OSError as exc:
            self._fail(read_error(exc, self._owner.connected))
            return False
        if stream.unsent and not self._broken:  # else what is unsent stays so
            self._watch_writable(True)
        if data is None:
            return False
        if not data:
            self._fail(self._end_of_file())
            return False
        self._spoke_at = 0.0
        self.session.receive(data)
        self.deliver()
        return True

    def deliver(self) -> None:
        """Deliver what has been received, or as much of it as fits in a slice of 10 ms."""
        owner = self._owner
        owner.delivering += 1
        if owner.refusing:
            owner.delivery_changed()
        try:
            done = self.session.deliver(CALLBACKS_SLICE)
        finally:
            owner.delivering -= 1
            if owner.refusing:
                owner.delivery_changed()
        if not done:
            self._give_way()

    @property
    def undelivered(self) -> bool:
        """Whether a callback is running, or something that was read is yet to be delivered."""
        return self.session.depth > 0 or not self.session.drained

    @property
    def behind(self) -> bool:
        """Whether the rest of what was read waits for the loop's next iteration."""
        return self._continuing is not None

    def _give_way(self) -> None:
        """Deliver the rest in the loop's next iteration, and read nothing before that."""
        if self._continuing is None and not self._closed:
            self._continuing = self._deadlines.after(0.0, self._continue)
            self._watch()

    def _continue(self) -> None:
        self._continuing = None
        try:
            self.deliver()
        finally:  # also if a callback stops the loop: then the rest is delivered by its next run
            self._watch()

    def go_on(self) -> None:
        """Deliver what is left by a callback that nests the loop, or that raised out of it."""
        if self._continuing is None and not self.session.drained:
            self.deliver()

    def _end_of_file(self) -> errors.NatsError | None:
        spoke_at = self._wrote_at if self._broken and self._spoke_at else self._spoke_at
        if not spoke_at or self._clock() - spoke_at > _RIGHT_AFTER:
            return None
        command = self._out.last_command() if self._sink is self._out else ""
        if not command:
            return None
        return errors.UnexpectedEOFError(f"unexpected EOF after {command}", command=command)

    # Out.

    def _flush_otherwise(self) -> None:
        """Write by `_send`, in one call to the kernel: as `flush` does on a link that is not `_direct`."""
        stream = self._stream
        sink = self._sink
        if sink is self._out:
            self._before_write()
        else:
            sink = self._next_sink()
        left = len(sink)
        if left or stream.unsent:
            try:
                left -= self._send(sink)
            except OSError as exc:
                self._write_failed(exc)
                return
            self._spoke_at = self._clock()
            if sink is not self._out:
                left = len(self._next_sink())
        wanted = left > 0 or stream.unsent
        if wanted != self._writing:
            self._watch_writable(wanted)

    def _send_failed(self, number: int) -> None:
        self._write_failed(os_error(number))

    def write_early(self) -> None:
        """Write before the turn's end, so that the server can begin. The turn's write reports errors."""
        if self._sink is not self._out or self._writing or self._broken:
            return  # the write watcher or the end of the turn writes
        self._before_write()
        try:
            self._send(self._out)
        except OSError:
            return

    def _on_writable(self, watcher: Any, revents: int) -> None:
        if self._closed:
            self._bury()
        else:
            self._progress_at = self._clock()
            self.flush(True)

    def _send(self, sink: Outbound) -> int:
        """Make one call to the kernel; return how many bytes it took. Raises OSError."""
        if self._direct:
            taken = sink.send(self._fd)
            if taken < 0:
                raise os_error(-taken)
            return taken
        stream = self._stream
        try:
            taken = stream.send(sink.peek())
            sink.sent(taken)
        finally:
            if stream.held:
                sink.pin(stream.held)
        return taken

    def _watch_writable(self, wanted: bool) -> None:
        """Wait until the socket takes more, or stop waiting."""
        if wanted != self._writing:
            self._writing = wanted
            if wanted:
                self._refs.start(self._writer)
                self._await_progress()
            else:
                self._refs.stop(self._writer)
                self._deadlines.end(self._stuck)

    def _await_progress(self) -> None:
        """End the link if the kernel takes no byte for write_timeout."""
        self._progress_at = self._clock()
        self._plan_look(0.0)

    def _plan_look(self, since: float) -> None:
        """Look for progress when write_timeout is over; since: seconds of it that are."""
        self._deadlines.end(self._stuck)
        limit = self._options.write_timeout / 1000
        if limit:
            wait = max(0.0, limit - since)
            self._stuck = self._deadlines.after(wait, lambda: self._look_for_progress(limit))

    def _look_for_progress(self, limit: float) -> None:
        since = self._clock() - self._progress_at
        if since >= limit and not self._takes_more():
            if self._owner.connected and not self._closed:
                self._fail(self._stuck_error(since))
            return
        if self._writing and not self._closed:
            self._plan_look(self._clock() - self._progress_at)

    def _takes_more(self) -> bool:
        """Try to write, and return whether that helps: the loop may have been too busy to do it."""
        before = len(self._sink), self._stream.backlog
        self.flush(True)
        if self._closed or not self._writing:
            return True
        if not self._owner.connected or self._retrying is not None:  # other limits count
            self._progress_at = self._clock()
            return True
        moved = len(self._sink) < before[0] or self._stream.backlog < before[1]
        if moved:
            self._progress_at = self._clock()
        return moved

    def _stuck_error(self, since: float) -> errors.WriteTimeoutError:
        pending = len(self._sink)
        return errors.WriteTimeoutError(
            f"write timeout: the server has taken no byte for {since * 1000:.0f} ms, "
            f"{pending} bytes are unsent",
            pending=pending,
        )

    def _next_sink(self) -> Outbound:
        """Return what to write now: the handshake until all of it is out, then the client's buffer."""
        session = self.session
        if self._sink is not self._out:
            if not len(session.handshake) and session.fill():
                self._owner.progress()
            if len(session.handshake) or session.state is not State.READY:
                return session.handshake
            self._sink = self._out
            self._direct = self._stream.direct
        self._before_write()
        return self._out

    def _write_failed(self, exc: OSError) -> None:
        if exc.errno in NO_BUFFERS:
            self._refs.stop(self._writer)
            self._writing = True  # so that nobody else tries before
            self._retrying = self._deadlines.after(_NO_BUFFERS_RETRY, self._retry)
        elif self.undelivered or not (self._held or is_tls_error(exc)):
            # Whatever the error is: the reader finds the server's last words, then the end.
            self._refs.stop(self._writer)
            self._broken = True
            self._wrote_at = self._spoke_at
            self._await_end(exc)
        else:
            self._fail(read_error(exc, self._owner.connected))

    def _await_end(self, exc: OSError) -> None:
        """Give the reader time to find the end by itself."""
        self._spoke_at = self._clock()
        self._retrying = self._deadlines.after(_LAST_WORDS, lambda: self._look_for_end(exc))

    def _look_for_end(self, exc: OSError) -> None:
        """End a link whose write side is broken, unless there was something to read even now."""
        self._looks += 1
        heard = not self._spoke_at or self.undelivered
        if heard:
            self._wrote_at = 0.0
        patient = self._looks < (_MOST_LOOKS_BEHIND if self.undelivered else _MOST_LOOKS)
        if patient and (self.undelivered or (not self._held and (heard or self.read()))):
            if not self._closed:
                self._await_end(exc)
        elif not self._closed:
            self._fail(read_error(exc, self._owner.connected))

    def _retry(self) -> None:
        self._retrying = None
        self._writing = False
        self.flush()


class _ObservedLink(Link):
    """A link whose reads and writes are told to observers that ask for turns."""

    _unreported = 0  # bytes that the kernel has taken
    _reported = (0, 0)  # messages that have come, and their bytes

    def _report(self, call: Callable[..., object]) -> None:
        """Report what no report has had: a callback may run the loop, which reads, too, or raise.

        Args:
            call: ``call(callback, *args)`` calls the observers.
        """
        observers: Observers | None = self._journal.observers
        assert observers is not None
        sent, self._unreported = self._unreported, 0
        (msgs, size), now = self._reported, self.session.counts
        self._reported = now
        if sent:
            call(observers.event, "wrote", sent)
        if now[0] > msgs:
            call(observers.event, "received", now[0] - msgs, now[1] - size)

    def _send(self, sink: Outbound) -> int:
        taken = super()._send(sink)
        self._unreported += taken
        return taken

    def flush(self, again: bool = False) -> None:
        """Write as `Link.flush` does, by `_send`; then report how many bytes that has taken by now."""
        if (again or not self._writing) and not self._broken:
            self._flush_otherwise()
        self._report(self._turn.call)

    def read(self, watcher: Any = None, revents: int = EV_READ) -> bool:
        """Do what `Link.read` does, then report how many messages have come."""
        found = super().read(watcher, revents)
        self._report(self._turn.call)
        return found

    def deliver(self) -> None:
        """Do what `Link.deliver` does, then report how many more messages the session has found."""
        super().deliver()
        self._report(self._turn.call)

    def close(self) -> None:
        """Do what `Link.close` does; the last report comes at the end of the loop's turn."""
        super().close()
        self._report(self._turn.soon)


def link_type(observers: Observers | None) -> type[Link]:
    """Return the class of links of a client with these observers."""
    return _ObservedLink if observers is not None and observers.per_turn else Link
