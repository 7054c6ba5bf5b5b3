"""One connection's protocol without any I/O: bytes in → calls, commands → bytes.

A `Session` lives from the server's first INFO to the end of one connection; the next connection gets
a new one. Inputs: `receive` (bytes), `dispatch`, `connect`, `fill`, `leave_fast_path`,
`enter_fast_path`, `close`. Outputs: the callbacks of the subscriptions and the methods of its
`Events`, all called from `dispatch`, and `handshake`, the buffer of what must be written before
anything else. No socket, no loop, no clock.

Theory of operation
-------------------
The C parser does not call Python: such a call cost 490 ns per frame when it was measured. `Parser.feed`
returns one flat list of ints for many frames instead, and Python walks over the list.

*Rows and runs.* A frame is a row of `ROW_WIDTH` ints: its kind, the sid, and where in the chunk each
field begins and ends (`csrc/nats_parser.h` defines them). Consecutive messages of one subscription
without headers that differ only in the payload, the reply subject or the number of the request come
as a *run*: one row with their count, then two to four ints per message (`ITEM_WIDTH`). A message of a
run takes about 130 ns, callback included; one with a row of its own takes 170 ns or more.

*One cursor.* `_ints` is one iterator over the list. `_rows` takes nine ints at a time from `_ints`, and
`_run` takes the items of one run from the same `_ints`. So the rows go on after the items without any
index, provided that nobody asks `_rows` for a row while `_run` has items left.

*Nested dispatch.* A callback may run the loop, and so call `dispatch` again. The inner call delivers
what is left of the run and of the rows, then what has been received since. The outer call shares the
iterators: when the inner call returns, the outer one finds them empty. No frame is lost, delivered
twice or delivered out of order, at any depth.

*Exceptions.* `Events.callback_failed` swallows what a callback raises, unless it must stop the loop
(KeyboardInterrupt, SystemExit, any exception under ``loop.debug``). Such an exception leaves
`dispatch` with frames undelivered. An enclosing `dispatch`, whose callback may have caught the
exception, must not go on with its own `for` loop then: it would read a row from the middle of the run
that the inner call has left. So the call that fails moves what is left into new iterators. Enclosing
calls find theirs empty and see in `_deliver` that `_rows` has been replaced. `_delivering` makes the
next call begin with the rest.

*Ctrl-C* is such an exception. The handler of `nats_ev.pyev` raises KeyboardInterrupt in the user's
code, or between two events of the loop, never inside this module, unless the user insists with a second
Ctrl-C. Then, and on a loop of another binding, it may strike between two instructions here: what this
module holds in local variables at that moment is lost.

*The fast path.* While `Subscription.fast` is true, the session calls the callback itself and adds a
whole run to `received` at once (`_run_counted`). When the client ends the fast path in the middle of
a run, `leave_fast_path` takes the messages that are still to come out of the count; `arrived` then
counts each.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from enum import Enum
from itertools import islice
from operator import length_hint
from typing import Any, Protocol

from .. import errors
from ..redact import drop_frames
from .info import ServerInfo
from .subscription import MOST_IN_UNSUB, Inbox, Subscription
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
# The PONGs that one call of `dispatch` reports: one row may stand for thousands, each with a callback.
_MOST_PONGS = 4
_ListIterator: type[object] = type(iter([0]))


class State(Enum):
    """How far a session has come.

    GREETING --first INFO--> INFORMED --connect()--> HANDSHAKE --PONG--> READY
    any of them --close(), or a server that breaks the protocol--> CLOSED
    """

    GREETING = "waiting for the server's INFO"
    INFORMED = "INFO received, CONNECT not yet framed"
    HANDSHAKE = "CONNECT framed, waiting for its PONG"
    READY = "handshake complete"
    CLOSED = "closed"


class Events(Protocol):
    """What a session reports to its connection, always from inside `Session.dispatch`."""

    def info_received(self, info: ServerInfo, first: bool) -> None:
        """Take an INFO. After the first one the session waits for `Session.connect`."""

    def info_refused(self, error: errors.ProtocolError) -> None:
        """Report a later INFO that was not valid and has been ignored."""

    def ready(self) -> None:
        """Note that the PONG of the handshake has come."""

    def ping_received(self, count: int) -> None:
        """Answer count consecutive PINGs."""

    def pong_received(self) -> None:
        """Take a PONG, other than the one that ends the handshake."""

    def server_error(self, text: str) -> None:
        """Take the text of an -ERR, with its quotes."""

    def protocol_failed(self, error: errors.ProtocolError) -> None:
        """Note that the server broke the protocol. The session discards all that the server sends later."""

    def callback_failed(self, error: BaseException) -> None:
        """Deal with what a subscription's callback raised. Re-raise what must stop the loop."""


class LastReply:
    """The reply subject that the session decoded last, as str and as bytes.

    Most reply subjects are published to at once, in the callback that gets them. `Nats.publish`
    recognises the very object `text` and sends `raw`: the subject is neither looked up nor encoded. `text`
    is set before `raw`: a signal handler that publishes in between has no new text yet, and finds that the
    last one is not current any more.
    """

    __slots__ = ("raw", "text")

    def __init__(self) -> None:
        self.text = ""  # publishing to it is an error in any case
        self.raw = b""


class Session:
    """The protocol of one connection; see the module's docstring.

    Call `receive` and then `dispatch` for what the socket gave. Call `connect` once, when
    `Events.info_received` has reported the first INFO, and `fill` whenever `handshake` is empty. Call
    `close` at the end of the connection.
    """

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
        "drained",
        "handshake",
        "last_reply",
        "state",
    )

    def __init__(
        self,
        subs: Mapping[int, Subscription],
        events: Events,
        max_message: int,
        last_reply: LastReply,
    ) -> None:
        """Make a session that waits for INFO.

        Args:
            subs: the client's subscriptions by sid, which may change at any time.
            events: who gets all that is not a message of a subscription.
            max_message: bound of headers + payload of an inbound message, in bytes.
            last_reply: where to put the reply subject of each message.
        """
        self.state = State.GREETING
        self.handshake = Outbound()
        self.last_reply = last_reply
        self._subs = subs
        self._events = events
        self._parser = Parser(max_message)
        self._resubscribe: Iterator[Subscription] | None = None
        self._greeting: list[bytes] = []  # all bytes up to the first INFO, for `greeted_alone`
        self._ping_framed = False
        self.drained = True  # all that was received has been dispatched
        # Input: the chunk being parsed, how far the parser has come in it, and the chunks after it.
        self._chunks: deque[bytes] = deque()
        self._chunk = b""
        self._pos = self._end = 0
        # What the offsets of the current rows refer to: the chunk, or a frame assembled from
        # several chunks.
        self._data: Any = b""
        # The cursor, shared by enclosing and nested calls of `dispatch`: see "One cursor" above.
        self._set_rows([])
        self._delivering = False  # a call is delivering the rows, or was stopped by an exception
        # The run that is being delivered, and what its items have in common.
        self._run: Iterator[tuple[int, ...]] | None = None
        self._run_kind = RUN
        self._run_sub: Subscription | None = None
        self._run_subject = b""
        self._run_counted = False  # the subscription's `received` includes the whole run
        self._pongs = 0  # PONGs of the current row that have not been reported

    # Commands.

    def connect(self, fields: Mapping[str, Any], subs: Iterator[Subscription]) -> None:
        """Frame CONNECT, the SUBs of all subscriptions, and the PING that ends the handshake.

        `handshake` then has the first portion. `fill` frames the next ones.

        Args:
            fields: the JSON object of CONNECT.
            subs: the subscriptions to restore.
        """
        self.state = State.HANDSHAKE
        self.handshake.connect(json.dumps(fields, separators=(",", ":")).encode())
        self._resubscribe = subs
        self.fill()

    def fill(self) -> bool:
        """Frame the next portion of the handshake. Return False when all of it has been framed."""
        out = self.handshake
        if self._resubscribe is None:
            return False
        out.limits.max_control_line = 0  # each SUB was checked when it was made
        for sub in self._resubscribe:
            if sub.closed or sub.finished:
                continue
            out.sub(sub.raw_subject, sub.raw_queue, sub.sid)
            sub.received_before = sub.received
            if sub.max_msgs:
                left = sub.max_msgs - sub.received
                sub.counted_by_server = left <= MOST_IN_UNSUB
                if sub.counted_by_server:
                    out.unsub(sub.sid, left)
            if len(out) >= _PORTION:
                return True
        self._resubscribe = None
        self._ping_framed = True
        out.ping()
        return True

    def close(self) -> None:
        """End the session: discard what has been received and not yet delivered."""
        self.state = State.CLOSED
        self._chunks.clear()
        # Free the memory now: the object may stay until Python collects reference cycles.
        self._chunk = self._data = b""
        self._pos = self._end
        self._pongs = 0
        if self._run is not None:
            self._uncount_run()
            deque(self._run, maxlen=0)
            self._run = None
        deque(self._ints, maxlen=0)  # exhausts the iterators, also those that a running call holds

    def leave_fast_path(self, sub: Subscription) -> None:
        """Deliver the rest of the subscription's run one by one. Call before `fast` becomes false."""
        if self._run is not None and self._run_sub is sub:
            self._uncount_run()

    def enter_fast_path(self, sub: Subscription) -> None:
        """Count the rest of the subscription's run at once. Call after `fast` has become true."""
        if self._run is not None and self._run_sub is sub and not self._run_counted:
            rest = list(self._run)
            sub.received += len(rest)
            self._run = iter(rest)
            self._run_counted = True

    def counted_ahead(self, sub: Subscription) -> int:
        """Return how many messages the subscription's `received` includes that are still to be delivered.

        They are the rest of its run. Its items become a list, whose iterator knows how many are left, so that
        a look per message costs no walk each.
        """
        if self._run is None or self._run_sub is not sub or not self._run_counted:
            return 0
        if type(self._run) is not _ListIterator:
            self._run = iter(list(self._run))
        return length_hint(self._run)

    def _uncount_run(self) -> None:
        """Take the rest of the run out of the subscription's count of received messages."""
        assert self._run is not None
        assert self._run_sub is not None
        if self._run_counted:
            self._run_counted = False
            rest = list(self._run)
            self._run_sub.received -= len(rest)
            self._run = iter(rest)

    def set_max_message(self, size: int) -> None:
        """Set the bound of headers + payload of an inbound message, from the next frame on."""
        self._parser.set_max_message(size)

    @property
    def counts(self) -> tuple[int, int]:
        """Return how many messages were received, and their header and payload bytes."""
        return self._parser.msgs, self._parser.bytes

    @property
    def greeted_alone(self) -> bool:
        """Whether no byte has followed the first INFO. Valid inside `Events.info_received` for that INFO."""
        greeting = b"".join(self._greeting)
        return greeting.find(b"\n") == len(greeting) - 1

    # Data in.

    def receive(self, data: bytes) -> None:
        """Take bytes from the socket, for `dispatch`. A closed session discards them."""
        if self.state is not State.CLOSED:
            self._chunks.append(data)
            self.drained = False
            if self.state is State.GREETING:
                self._greeting.append(data)

    def dispatch(self, most: int = ROWS_CAP) -> int:
        """Deliver the rest of the last portion, then parse and deliver one more. Callbacks may call this.

        Args:
            most: the largest portion, in ints of the parser (64 to `ROWS_CAP`).

        Returns:
            The ints of the portion: 0 when all that was received has been delivered.

        Raises:
            BaseException: what `Events.callback_failed` raises. The next call delivers the rest.
        """
        try:
            if self._delivering and not self._deliver():
                return 1
            size = self._parse(most)
            if size and self._deliver():
                self.drained = self._pos >= self._end and not (self._chunks or self._parser.failed)
            return size
        except BaseException:
            # See "Exceptions" above. First the run: it takes its items from the same ints.
            self._delivering = True
            if self._run is not None:
                self._run = iter(list(self._run))
            self._set_rows(list(self._ints))
            raise

    def _deliver(self) -> bool:
        """Deliver the rows. Return False if PONGs are left, and perhaps rows after them."""
        while True:
            if self._run is not None:
                self._deliver_run()
            if self._pongs:
                self._deliver_pongs()
            rows = self._rows
            if not self._pongs:
                self._deliver_rows(rows)
            if self._pongs:
                return False
            # A nested call that failed has replaced the rows: see "Exceptions" above.
            if self._rows is rows:
                self._delivering = False
                return True

    def _deliver_rows(self, rows: Iterator[tuple[int, ...]]) -> None:
        """Deliver row by row.

        The offsets of a row: [s0, s1) subject, [r0, r1) reply, [h0, p0) headers, [p0, p1) payload. A
        field that is missing is empty. Attributes are copied to local names, because this loop is the
        hottest of the package.
        """
        get = self._subs.get
        events = self._events
        data = self._data
        last_reply = self.last_reply
        subject = ""
        # Where the last subject began: the parser repeats the offset for an equal subject, so that a
        # subject is decoded once for consecutive messages that share it.
        seen = -1
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
                    raw = data[r0:r1]
                    last_reply.text = reply = raw.decode("utf-8", "surrogateescape")
                    last_reply.raw = raw
                if sub.fast:
                    sub.received += 1
                    try:
                        sub.callback(subject, data[p0:p1], reply, headers)
                    except BaseException as exc:
                        events.callback_failed(exc)
                elif sub.inbox is None:
                    sub.arrived(subject, data[p0:p1], reply, headers)
                else:
                    number = self._request_number(sub, data[s0:s1])
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
                if self._pongs:
                    return

    def _request_number(self, inbox_sub: Subscription, subject: bytes) -> int:
        """Return the number of the request that an answer with this subject is for.

        From the next chunk on the parser reads the numbers itself and the answers come as `ANSWER`
        rows. What comes here: the first answers, answers that have a reply subject, and subjects
        whose last token is not a number below 10^9.
        """
        self._parser.set_inbox(inbox_sub.sid, inbox_sub.prefix_len)
        return _number(subject[inbox_sub.prefix_len :])

    def _start_run(self, kind: int, sid: int, subject: bytes, count: int) -> None:
        """Set the cursor to a run's count items, which come next among the ints."""
        run = islice(zip(*[self._ints] * ITEM_WIDTH[kind], strict=False), count)
        sub = self._subs.get(sid)
        if sub is None:
            deque(run, maxlen=0)  # skip the items
            return
        self._run_kind = kind
        self._run_sub = sub
        self._run_subject = subject
        self._run = run
        self._run_counted = sub.fast
        if sub.fast:
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
            # Else `leave_fast_path`, `enter_fast_path` or a failed nested call has put the rest
            # into another iterator, which is to be delivered by another callback or with another
            # count.
            if self._run is run:
                self._run = None

    def _deliver_pairs(self, run: Iterator[Any], sub: Subscription) -> None:
        events = self._events
        subject = self._run_subject.decode("utf-8", "surrogateescape")
        data = self._data
        callback = sub.callback if sub.fast else sub.arrived
        for start, end in run:
            try:
                callback(subject, data[start:end], None, None)
            except BaseException as exc:
                events.callback_failed(exc)

    def _deliver_replies(self, run: Iterator[Any], sub: Subscription) -> None:
        events = self._events
        subject = self._run_subject.decode("utf-8", "surrogateescape")
        data = self._data
        last_reply = self.last_reply
        callback = sub.callback if sub.fast else sub.arrived
        for r0, r1, start, end in run:
            raw = data[r0:r1]
            try:
                reply = raw.decode()  # takes half as long as with the arguments below
            except UnicodeDecodeError:
                reply = raw.decode("utf-8", "surrogateescape")
            last_reply.text = reply
            last_reply.raw = raw
            try:
                callback(subject, data[start:end], reply, None)
            except BaseException as exc:
                events.callback_failed(exc)

    def _deliver_answers(self, run: Iterator[Any], sub: Subscription, inbox: Inbox) -> None:
        data = self._data
        if self._run_kind == ANSWER_RUN:
            inbox.answers(run, data)
            return
        # Messages of one subject that the parser did not number: several answers to one request.
        number = _number(self._run_subject[sub.prefix_len :])
        for *_, start, end in run:
            inbox.answer(number, data[start:end], None)

    def _parse(self, most: int) -> int:
        """Parse the next portion, of at most so many ints, into the cursor.

        Return how many ints there are: 0 when all that was received has been dispatched.
        """
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
                self._set_rows(ints)
                if self.state is State.GREETING and ints[0] not in (INFO, ERR):
                    self.close()
                    self._events.protocol_failed(
                        errors.ProtocolError("protocol error: the server's first line is not INFO")
                    )
                    return 0
                return len(ints)
        self.drained = True
        return 0

    def _set_rows(self, ints: list[int]) -> None:
        """Set the cursor to the beginning of ints."""
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
        # Counted down before each call: if the call raises, the next dispatch reports the other PONGs.
        left = _MOST_PONGS
        while self._pongs and left:
            left -= 1
            self._pongs -= 1
            if self.state is State.READY:
                self._events.pong_received()
            elif self._ping_framed:  # a PONG that comes before our PING answers nothing
                self.state = State.READY
                self._events.ready()

    def _info(self, raw: str) -> None:
        first = self.state is State.GREETING
        try:
            info = ServerInfo.parse(raw)
        except errors.ProtocolError as exc:
            drop_frames(exc)  # they hold this object
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
    """Return the number that token is, or 0 for a token that is no number of a request."""
    return int(token) if token.isdigit() and len(token) < 20 else 0
