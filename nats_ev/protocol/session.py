"""One connection's protocol without any I/O: bytes in → calls, commands → bytes.

A `Session` lives from the server's first INFO to the end of one connection; the next connection gets
a new one. Inputs: `receive` (bytes), `dispatch`, `connect`, `interrupt`, `settle`, `close`. Outputs: the
callbacks of the subscriptions and the methods of its `Events`, all called from `dispatch`, and
`handshake`, the buffer of what must be written before anything else.

No socket, no loop, no clock.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from enum import Enum
from itertools import islice
from typing import Any, Protocol

from .. import errors
from .info import ServerInfo
from .subscription import Inbox, Subscription
from .wire import (
    ANSWER,
    ANSWER_RUN,
    ERR,
    INFO,
    ITEM_WIDTH,
    MSG,
    PING,
    PONG,
    ROW_WIDTH,
    ROWS_CAP,
    RUN,
    Outbound,
    Parser,
)

# The handshake's SUB lines are framed in portions of about this size, so that a client with hundreds
# of thousands of subscriptions neither stalls the loop nor holds them all in memory twice.
_PORTION = 64 * 1024


class State(Enum):
    """How far a session has come."""

    GREETING = "waiting for the server's INFO"
    INFORMED = "INFO received, CONNECT not yet framed"
    HANDSHAKE = "CONNECT framed, waiting for its PONG"
    READY = "handshake complete"
    CLOSED = "closed"


class Events(Protocol):
    """What a session tells its connection, always from inside `Session.dispatch`."""

    def info_received(self, info: ServerInfo, first: bool) -> None:
        """An INFO; the first one asks for `Session.connect`."""

    def info_refused(self, error: errors.ProtocolError) -> None:
        """A later INFO that makes no sense was ignored."""

    def ready(self) -> None:
        """The handshake's PONG has come."""

    def ping_received(self, count: int) -> None:
        """So many PINGs in a row want a PONG each."""

    def pong_received(self) -> None:
        """A PONG behind the handshake's own."""

    def server_error(self, text: str) -> None:
        """-ERR, with its quotes."""

    def protocol_failed(self, error: errors.ProtocolError) -> None:
        """The server broke the protocol; nothing that it sends later is looked at."""

    def callback_failed(self, error: BaseException) -> None:
        """A subscription's callback raised. Re-raises what must stop the loop."""


class Session:
    """See the module's docstring."""

    __slots__ = (
        "_chunk",
        "_chunks",
        "_data",
        "_delivering",
        "_end",
        "_events",
        "_greeting",
        "_ints",
        "_parser",
        "_ping_framed",
        "_pongs",
        "_pos",
        "_resubscribe",
        "_rows",
        "_run",
        "_run_counted",
        "_run_kind",
        "_run_sub",
        "_run_subject",
        "_subs",
        "answering",
        "drained",
        "handshake",
        "state",
    )

    def __init__(
        self,
        subs: Mapping[int, Subscription],
        events: Events,
        max_message: int,
        answering: list[Any],
    ) -> None:
        """answering: keeps the reply subject of the last message, and its bytes."""
        self.state = State.GREETING
        self.handshake = Outbound()
        self.answering = answering
        self._subs = subs
        self._events = events
        self._parser = Parser(max_message)
        self._resubscribe: Iterator[Subscription] | None = None
        self._greeting: list[bytes] = []  # all that came before the first INFO was understood
        self._ping_framed = False
        self.drained = True  # nothing that was received waits for `dispatch`
        self._chunks: deque[bytes] = deque()
        self._chunk = b""
        self._data: Any = b""  # the chunk, or the frame assembled from several
        self._pos = self._end = 0
        # The iterators are shared by enclosing and nested calls of dispatch: whatever one of them
        # takes, no other will, and a call that ends early leaves the rest to the next.
        self._walk([])
        self._delivering = False  # there are rows: a call delivers them, or has been stopped at it
        self._run: Iterator[tuple[int, ...]] | None = None
        self._run_kind = RUN
        self._run_sub: Subscription | None = None
        self._run_subject = b""
        self._run_counted = False  # all of it is in the subscription's `received` already
        self._pongs = 0  # of a PONG row, not yet told

    # Commands.

    def connect(self, fields: Mapping[str, Any], subs: Iterator[Subscription]) -> None:
        """Frame CONNECT, what restores the subscriptions, and the PING that ends the handshake.

        Fills `handshake` with the first portion; `fill` brings the next ones.
        """
        self.state = State.HANDSHAKE
        self.handshake.connect(json.dumps(fields, separators=(",", ":")).encode())
        self._resubscribe = subs
        self.fill()

    def fill(self) -> bool:
        """Frame the next portion of the handshake; False when there is none."""
        out = self.handshake
        if self._resubscribe is None:
            return False
        for sub in self._resubscribe:
            if sub.closed or sub.finished:
                continue
            out.sub(sub.raw_subject, sub.raw_queue, sub.sid)
            sub.received_before = sub.received
            if sub.max_msgs:
                out.unsub(sub.sid, sub.max_msgs - sub.received)
            if len(out) >= _PORTION:
                return True
        self._resubscribe = None
        self._ping_framed = True
        out.ping()
        return True

    def close(self) -> None:
        """The connection is over: nothing more is delivered, whatever has been received."""
        self.state = State.CLOSED
        self._chunks.clear()
        self._chunk = self._data = b""  # a closed session may stay until Python collects cycles
        self._pos = self._end
        self._pongs = 0
        if self._run is not None:
            self._uncount_run()
            deque(self._run, maxlen=0)
            self._run = None
        deque(self._ints, maxlen=0)

    def interrupt(self, sub: Subscription) -> None:
        """The subscription has ceased to be `plain`: what is left of its run needs looking at each."""
        if self._run is not None and self._run_sub is sub:
            self._uncount_run()

    def settle(self, sub: Subscription) -> None:
        """The subscription is `plain` again: what is left of its run is not looked at any more."""
        if self._run is not None and self._run_sub is sub and not self._run_counted:
            rest = list(self._run)
            sub.received += len(rest)
            self._run = iter(rest)
            self._run_counted = True

    def _uncount_run(self) -> None:
        """What is left of the run has not been received yet."""
        assert self._run is not None
        assert self._run_sub is not None
        if self._run_counted:
            self._run_counted = False
            rest = list(self._run)
            self._run_sub.received -= len(rest)
            self._run = iter(rest)

    def set_max_message(self, size: int) -> None:
        """Bound of one inbound message, from the next frame on."""
        self._parser.set_max_message(size)

    @property
    def counts(self) -> tuple[int, int]:
        """Messages received, and their header and payload bytes."""
        return self._parser.msgs, self._parser.bytes

    @property
    def greeted_alone(self) -> bool:
        """While the first INFO is being told of: nothing has come behind it."""
        greeting = b"".join(self._greeting)
        return greeting.find(b"\n") == len(greeting) - 1

    # Data in.

    def receive(self, data: bytes) -> None:
        """Take what the socket gave; `dispatch` delivers it."""
        if self.state is not State.CLOSED:
            self._chunks.append(data)
            self.drained = False
            if self.state is State.GREETING:
                self._greeting.append(data)

    def dispatch(self, most: int = ROWS_CAP) -> int:
        """Deliver from where the last call stopped; a portion of at most so many ints of the parser's.

        Returns how many there were: 0 when nothing is left to be delivered. Callbacks may call it, too.
        """
        try:
            if self._delivering:
                self._deliver()
            size = self._parse(most)
            if size:
                self._deliver()
                self.drained = self._pos >= self._end and not (self._chunks or self._parser.failed)
            return size
        except BaseException:
            # Enclosing calls find their iterators empty and go on with these.
            self._delivering = True
            if self._run is not None:
                self._run = iter(list(self._run))
            self._walk(list(self._ints))
            raise

    def _deliver(self) -> None:
        while True:
            if self._run is not None:
                self._deliver_run()
            if self._pongs:
                self._deliver_pongs()
            rows = self._rows
            self._deliver_rows(rows)
            # A nested call that was stopped by an exception has left its rest in new rows.
            if self._rows is rows:
                self._delivering = False
                return

    def _deliver_rows(self, rows: Iterator[tuple[int, ...]]) -> None:
        get = self._subs.get
        events = self._events
        data = self._data
        answering = self.answering
        seen = -1  # offset of the subject decoded last: frames with the same one share it
        subject = ""
        for kind, sid, s0, s1, r0, r1, h0, p0, p1 in rows:
            if kind == MSG:
                sub = get(sid)
                if sub is None:
                    continue
                if s0 != seen:
                    subject = data[s0:s1].decode("utf-8", "surrogateescape")
                    seen = s0
                headers = data[h0:p0] if h0 < p0 else None
                reply = None
                if r0 < r1:
                    answering[1] = raw = data[r0:r1]
                    answering[0] = reply = raw.decode("utf-8", "surrogateescape")
                if sub.plain:
                    sub.received += 1
                    try:
                        sub.callback(subject, data[p0:p1], reply, headers)
                    except BaseException as exc:
                        events.callback_failed(exc)
                elif sub.inbox is None:
                    sub.arrived(subject, data[p0:p1], reply, headers)
                else:
                    self._parser.set_inbox(sid, sub.prefix_len)
                    number = _number(data[s0 + sub.prefix_len : s1])
                    sub.inbox.answer(number, data[p0:p1], headers)
            elif kind in ITEM_WIDTH:
                self._start_run(kind, sid, data[s0:s1], p1)
                self._deliver_run()
            elif kind == ANSWER:
                sub = get(sid)
                if sub is not None and sub.inbox is not None:
                    sub.inbox.answer(r0, data[p0:p1], data[h0:p0] if h0 < p0 else None)
            else:
                self._control(kind, data[s0:s1], p1)

    def _start_run(self, kind: int, sid: int, subject: bytes, count: int) -> None:
        run = islice(zip(*[self._ints] * ITEM_WIDTH[kind], strict=False), count)
        sub = self._subs.get(sid)
        if sub is None:
            deque(run, maxlen=0)
            return
        self._run_kind = kind
        self._run_sub = sub
        self._run_subject = subject
        self._run = run
        self._run_counted = sub.plain
        if sub.plain:
            sub.received += count

    def _deliver_run(self) -> None:
        while (run := self._run) is not None:
            sub = self._run_sub
            assert sub is not None
            if sub.inbox is not None:
                self._deliver_answers(run, sub, sub.inbox)
            elif self._run_kind == RUN:
                self._deliver_pairs(run, sub)
            else:
                self._deliver_replies(run, sub)
            if self._run is run:  # else a callback has interrupted it, and the rest waits there
                self._run = None

    def _deliver_pairs(self, run: Iterator[Any], sub: Subscription) -> None:
        events = self._events
        subject = self._run_subject.decode("utf-8", "surrogateescape")
        data = self._data
        callback = sub.callback if sub.plain else sub.arrived
        for start, end in run:
            try:
                callback(subject, data[start:end], None, None)
            except BaseException as exc:
                events.callback_failed(exc)

    def _deliver_replies(self, run: Iterator[Any], sub: Subscription) -> None:
        events = self._events
        subject = self._run_subject.decode("utf-8", "surrogateescape")
        data = self._data
        answering = self.answering
        callback = sub.callback if sub.plain else sub.arrived
        for r0, r1, start, end in run:
            answering[1] = raw = data[r0:r1]
            try:
                reply = raw.decode()  # half as long as with the arguments below
            except UnicodeDecodeError:
                reply = raw.decode("utf-8", "surrogateescape")
            answering[0] = reply
            try:
                callback(subject, data[start:end], reply, None)
            except BaseException as exc:
                events.callback_failed(exc)

    def _deliver_answers(self, run: Iterator[Any], sub: Subscription, inbox: Inbox) -> None:
        data = self._data
        if self._run_kind == ANSWER_RUN:
            inbox.answers(run, data)
            return
        number = _number(self._run_subject[sub.prefix_len :])  # several answers to one request
        for *_, start, end in run:
            inbox.answer(number, data[start:end], None)

    def _parse(self, most: int) -> int:
        """Fill the rows anew, with so many ints; 0 when all that was received has been dispatched."""
        while self.state is not State.CLOSED:
            parser = self._parser
            if self._pos >= self._end:
                if parser.failed:
                    self.close()
                    self._events.protocol_failed(parser.error())
                    return 0
                if not self._chunks:
                    break
                self._chunk = chunk = self._chunks.popleft()
                self._pos, self._end = 0, len(chunk)
            ints = parser.feed(self._chunk, self._pos, most)
            self._pos = parser.pos
            if ints:
                self._data = self._chunk if parser.frame is None else parser.frame
                self._delivering = True
                self._walk(ints)
                if self.state is State.GREETING and ints[0] not in (INFO, ERR):
                    self.close()
                    self._events.protocol_failed(
                        errors.ProtocolError("protocol error: the server's first line is not INFO")
                    )
                    return 0
                return len(ints)
        self.drained = True
        return 0

    def _walk(self, ints: list[int]) -> None:
        self._ints = it = iter(ints)
        self._rows = zip(*[it] * ROW_WIDTH, strict=False)

    def _control(self, kind: int, text: bytes, count: int) -> None:
        events = self._events
        if kind == PING:
            events.ping_received(count)
        elif kind == PONG:
            self._pongs = count
            self._deliver_pongs()
        elif kind == INFO:
            self._info(text.decode("utf-8", "replace"))
        elif kind == ERR:
            events.server_error(text.decode("utf-8", "surrogateescape"))

    def _deliver_pongs(self) -> None:
        # Counted down before each is told: what a callback interrupts, another dispatch goes on with.
        while self._pongs:
            self._pongs -= 1
            if self.state is State.READY:
                self._events.pong_received()
            elif self._ping_framed:  # a PONG before our PING is nobody's
                self.state = State.READY
                self._events.ready()

    def _info(self, raw: str) -> None:
        first = self.state is State.GREETING
        try:
            info = ServerInfo.parse(raw)
        except errors.ProtocolError as exc:
            if first:
                self.close()
                self._events.protocol_failed(exc)
            else:
                self._events.info_refused(exc)
            return
        if first:
            self.state = State.INFORMED
        self._events.info_received(info, first)
        self._greeting.clear()


def _number(token: bytes) -> int:
    """The number of a request's inbox; 0 for what is none."""
    return int(token) if token.isdigit() and len(token) < 20 else 0
