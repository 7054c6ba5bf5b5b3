"""One live connection's bytes: when they are read, delivered and written.

Owns the socket's two watchers and the order of what goes out: first the handshake, then the client's
buffer. What the bytes mean is the session's matter, what a loss means the connection's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from .. import errors
from ..net import (
    BROKEN_PIPE,
    NO_BUFFERS,
    Deadline,
    Deadlines,
    Stream,
    TlsStream,
    Turn,
    handshake_error,
    make_dead_end,
    read_error,
)
from ..protocol import Outbound, Session, State
from .tls_context import TlsContext

if TYPE_CHECKING:
    from .server import Server


EV_READ = 0x01
EV_WRITE = 0x02
# Seconds of callbacks in a row after which other watchers have their turn.
_SLICE = 0.01
# What is delivered between two looks at the clock, in the parser's ints: a thousand plain messages, or
# as many as a slower callback has lately needed this time for.
_MOST_PORTION, _LEAST_PORTION = 2048, 64
_PORTION_TIME = 0.002
# When the kernel is out of buffers.
_NO_BUFFERS_RETRY = 0.01
# An end of file so soon after bytes of ours, without a word in between, is most likely about them.
_RIGHT_AFTER = 1.0


class Owner(Protocol):
    """What a link needs of its connection."""

    def lost(self, error: errors.NatsError | None) -> None:
        """The link is broken; None means an end of file without an apparent reason."""

    @property
    def connected(self) -> bool:
        """Whether the link is up, or was when it broke."""

    def secured(self) -> None:
        """The TLS handshake is complete."""

    def progress(self) -> None:
        """Another portion of the handshake has gone out."""

    def set_limits(self) -> None:
        """The buffer's limits were changed for a while: put them right."""


class Link:
    """See the module's docstring."""

    def __init__(
        self,
        loop: Any,
        stream: Stream,
        session: Session,
        out: Outbound,
        owner: Owner,
        before_write: Callable[[], None],
        turn: Turn,
        deadlines: Deadlines,
        priority: int,
    ) -> None:
        """before_write: the last moment to change what is about to be written."""
        self.session = session
        self._stream: Stream | TlsStream = stream
        self._out = out
        self._owner = owner
        self._before_write = before_write
        self._turn = turn
        self._deadlines = deadlines
        self._clock = deadlines.clock
        self._sink = session.handshake  # what is written now: the handshake, then `out`
        fd = stream.fileno()
        self._reader = loop.io(fd, EV_READ, self.read, None, priority)
        self._writer = loop.io(fd, EV_WRITE, self._on_writable, None, priority)
        self._writing = False
        self._broken = False  # the write side; the reader finds what the server said last
        self._held = False  # `pause`
        self._closed = False
        self._undelivered = False
        self._continuing: Deadline | None = None
        self._retrying: Deadline | None = None
        self._portion = 256
        self._spoke_at = 0.0  # when we wrote; 0: the server has said something since
        turn.attach(self.go_on, self.flush)
        self._reader.start()

    @property
    def secure(self) -> bool:
        """Whether what is read and written is encrypted."""
        return self._stream.secure

    def start_tls(self, tls: TlsContext, server: Server) -> None:
        """Begin the handshake. Raises `TlsError` when it can't be begun."""
        assert isinstance(self._stream, Stream)
        self._stream = tls.wrap(self._stream, server)
        self._shake_hands()

    def _shake_hands(self) -> None:
        stream = self._stream
        assert isinstance(stream, TlsStream)
        try:
            done = stream.handshake()
        except OSError as exc:
            self._owner.lost(handshake_error(exc))
            return
        self._watch_writable(stream.unsent)
        if done:
            self._owner.secured()

    def remember(self, tls: TlsContext, server: Server) -> None:
        """Keep what the next connection to this server may resume."""
        if isinstance(self._stream, TlsStream):
            tls.remember(self._stream, server)

    def close(self) -> None:
        """Nothing more is read, delivered or written."""
        self._closed = True
        self._turn.detach()
        self._deadlines.end(self._continuing)
        self._deadlines.end(self._retrying)
        self._reader.stop()
        self._writer.stop()
        self.session.close()
        self._stream.close()

    def forked(self) -> None:
        """In the child of a fork: neither read nor write, and leave the loop, which may be shared."""
        make_dead_end(self._stream.fileno())
        self._closed = True
        self._turn.detach()
        self.session.close()

    # In.

    def pause(self) -> None:
        """Read nothing more; what has been read is still delivered."""
        self._held = True
        self._watch()

    def resume(self) -> None:
        """Undo `pause`."""
        self._held = False
        self._watch()

    def _watch(self) -> None:
        if self._closed or self._held or self._continuing is not None:
            self._reader.stop()
        else:
            self._reader.start()

    def read(self, watcher: Any = None, revents: int = EV_READ) -> bool:
        """Read once and deliver; returns whether there was anything to be read."""
        if self._closed:
            self._reader.stop()  # in the child of a fork
            return False
        stream = self._stream
        if stream.handshaking:
            self._shake_hands()
            if self._closed or stream.handshaking:
                return False
            # The server's first words may have come with the last ones of its handshake.
        try:
            data = stream.recv()
        except OSError as exc:
            self._owner.lost(read_error(exc, self._owner.connected))
            return False
        if stream.unsent:
            self._watch_writable(True)
        if data is None:
            return False
        if not data:
            self._owner.lost(self._end_of_file())
            return False
        self._spoke_at = 0.0
        self.session.receive(data)
        self.deliver()
        return True

    def deliver(self) -> None:
        """Deliver what has been received; after a while other watchers come first."""
        session = self.session
        dispatch = session.dispatch
        clock = self._clock
        # A drained client takes no messages any more, but answers to what is delivered now.
        limits = self._out.limits
        refused = limits.closed
        if refused:
            limits.closed = 0
        try:
            start = last = clock()
            while not session.drained:
                if not self._undelivered:
                    # Callbacks may run: should one nest the loop, `go_on` delivers the rest in it.
                    self._undelivered = True
                    self._turn.schedule()
                size = dispatch(self._portion)
                now = clock()
                if now - last > _PORTION_TIME or size * 2 > self._portion:
                    self._adapt(size, now - last)
                last = now
                if now - start > _SLICE:
                    self._give_way()
                    return
        finally:
            if refused:
                self._owner.set_limits()
        self._undelivered = False

    def _adapt(self, size: int, spent: float) -> None:
        """Choose the next portion by what this one has taken."""
        if spent > _PORTION_TIME:
            self._portion = max(_LEAST_PORTION, int(size * _PORTION_TIME / spent))
        else:
            self._portion = min(_MOST_PORTION, self._portion * 2)

    @property
    def undelivered(self) -> bool:
        """A callback runs, or has left something to be delivered: there may be more to come."""
        return self._undelivered or self.behind

    @property
    def behind(self) -> bool:
        """Something that has been read is yet to be delivered."""
        return self._continuing is not None

    def _give_way(self) -> None:
        """Go on in the loop's next iteration, and read nothing before that."""
        self._undelivered = False
        if self._continuing is None and not self._closed:
            self._continuing = self._deadlines.after(0.0, self._continue)
            self._watch()

    def _continue(self) -> None:
        self._continuing = None
        try:
            self.deliver()
        finally:  # also when a callback stops the loop: the rest is for its next run
            self._watch()

    def go_on(self) -> None:
        """Deliver what a callback that nests the loop, or that raised, has left."""
        if self._undelivered:
            self._turn.schedule()  # for a loop nested in one of the callbacks to come
            self.deliver()

    def _end_of_file(self) -> errors.NatsError | None:
        if not self._spoke_at or self._clock() - self._spoke_at > _RIGHT_AFTER:
            return None
        command = self._out.last_command() if self._sink is self._out else ""
        if not command:
            return None
        return errors.UnexpectedEOFError(f"unexpected EOF after {command}", command=command)

    # Out.

    def flush(self) -> None:
        """Write what is buffered, in one call to the kernel."""
        if not self._writing and not self._broken:
            self._write()

    def write_early(self) -> None:
        """Let the server begin on what one turn queues in masses. What fails is the turn's matter."""
        if self._sink is not self._out or self._writing or self._broken:
            return  # the write watcher, or the end of the turn, sees to it
        self._before_write()
        try:
            self._send(self._out, self._out.peek())
        except OSError:
            return

    def _on_writable(self, watcher: Any, revents: int) -> None:
        if self._closed:
            watcher.stop()
        else:
            self._write()

    def _write(self) -> None:
        stream = self._stream
        sink = self._sink
        if sink is self._out:
            self._before_write()
        else:
            sink = self._next_sink()
        unsent = sink.peek()
        left = len(unsent)
        if left or stream.unsent:
            try:
                left -= self._send(sink, unsent)
            except OSError as exc:
                self._write_failed(exc)
                return
            self._spoke_at = self._clock()
            if sink is not self._out:
                left = len(self._next_sink())
        wanted = left > 0 or stream.unsent
        if wanted != self._writing:
            self._watch_writable(wanted)

    def _send(self, sink: Outbound, unsent: Any) -> int:
        """One call to the kernel; returns how much it took. Raises OSError."""
        stream = self._stream
        try:
            taken = stream.send(unsent)
            sink.sent(taken)
        finally:
            if stream.held:
                sink.pin(stream.held)
        return taken

    def _watch_writable(self, wanted: bool) -> None:
        """Something waits for the socket to take it, or nothing."""
        if wanted != self._writing:
            self._writing = wanted
            if wanted:
                self._writer.start()
            else:
                self._writer.stop()

    def _next_sink(self) -> Outbound:
        """What is to be written now: all of the handshake, and once it is complete the client's buffer."""
        session = self.session
        if self._sink is not self._out:
            if not len(session.handshake) and session.fill():
                self._owner.progress()
            if len(session.handshake) or session.state is not State.READY:
                return session.handshake
            self._sink = self._out
        self._before_write()
        return self._out

    def _write_failed(self, exc: OSError) -> None:
        if exc.errno in NO_BUFFERS:
            self._writer.stop()
            self._writing = True  # until then nobody tries
            self._retrying = self._deadlines.after(_NO_BUFFERS_RETRY, self._retry)
        elif exc.errno in BROKEN_PIPE and not self._held:
            # The reader finds the end, and before it what the server said last.
            self._writer.stop()
            self._broken = True
        else:
            self._owner.lost(read_error(exc, self._owner.connected))

    def _retry(self) -> None:
        self._writing = False
        self._write()
