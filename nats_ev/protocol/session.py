"""One connection's protocol without any I/O: bytes in → calls, commands → bytes.

A `Session` lives from the server's first INFO to the end of one connection; the next connection gets
a new one. Inputs: `receive` (bytes) or `read` (a socket), `deliver`, `connect`, `fill`, `close`. Outputs:
the callbacks of the subscriptions and the methods of its `Events`, all called from `deliver` and `read`,
and `handshake`, the buffer of what must be written before anything else. No loop.

Messages never pass through this file: its base class `Inbound` parses them and calls the callbacks, in C
(``csrc/py_inbound.c`` has the theory of operation). What comes here is rare: INFO, -ERR, PING and PONG,
answers that no request waits for, and exceptions.

*Exceptions.* `Events.callback_failed` swallows what a callback raises, unless it must stop the loop
(KeyboardInterrupt, SystemExit, any exception under ``loop.debug``). Such an exception comes out of
`deliver` with frames undelivered; the next `deliver`, of an enclosing or a later call, goes on after the
message whose callback raised.

*Ctrl-C* is such an exception. Python handles signals only while it runs Python code, so it never strikes
between two instructions of the delivery.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, Protocol

from .. import errors
from ..redact import drop_frames
from .info import ServerInfo
from .subscription import MOST_IN_UNSUB, Inbox, Subscription
from .wire import ERR, INFO, PING, Inbound, Outbound, Waiting

# The handshake's SUB lines are framed in portions of about this size, so that a client with hundreds
# of thousands of subscriptions neither stalls the loop nor holds them all in memory twice.
_PORTION = 64 * 1024
# Bytes of a first line that is no INFO, for the error; as many as the parser keeps.
_MOST_OF_A_SNIPPET = 64


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
    """What a session reports to its connection, always from inside `Session.deliver`."""

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


class Session(Inbound):
    """The protocol of one connection; see the module's docstring.

    Call `receive` and then `deliver` for what the socket gave, or `read` for both. Call `connect` once, when
    `Events.info_received` has reported the first INFO, and `fill` whenever `handshake` is empty. Call
    `close` at the end of the connection.
    """

    __slots__ = (
        "_events",
        "_greeting",
        "_inbox",
        "_ping_framed",
        "_resubscribe",
        "handshake",
        "restored",
        "state",
    )

    def __init__(
        self,
        subs: dict[int, Subscription],
        events: Events,
        max_message: int,
        waiting: Waiting | None = None,
        schedule: Callable[[], object] | None = None,
    ) -> None:
        """Make a session that waits for INFO.

        Args:
            subs: the client's subscriptions by sid, which may change at any time.
            events: who gets all that is not a message of a subscription.
            max_message: bound of headers + payload of an inbound message, in bytes.
            waiting: the callbacks of requests by number, which may change at any time.
            schedule: called before callbacks are. A callback may run the loop, which must then call
                `deliver`.
        """
        self._attach(subs, Waiting() if waiting is None else waiting, schedule)
        self.set_max_message(max_message)
        self.state = State.GREETING
        self.handshake = Outbound()
        self._events = events
        self._resubscribe: Iterator[Subscription] | None = None
        self._greeting: list[bytes] = []  # all bytes up to the first INFO, for `greeted_alone`
        self._ping_framed = False
        self.restored = 0  # subscriptions whose SUB is part of the handshake
        self._inbox: Inbox | None = None  # takes the answers that have a number

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
            self.restored += 1
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
        super().close()

    @property
    def greeted_alone(self) -> bool:
        """Whether no byte has followed the first INFO. Valid inside `Events.info_received` for that INFO."""
        greeting = b"".join(self._greeting)
        return greeting.find(b"\n") == len(greeting) - 1

    def receive(self, data: bytes) -> None:
        """Take bytes from the socket, for `deliver`. A closed session discards them."""
        if self.state is State.GREETING:
            self._greeting.append(data)
        super().receive(data)

    # What `Inbound` calls.

    def _raised(self, error: BaseException, callback: object) -> None:
        """Deal with what a callback raised."""
        errors.show_misfit(error, callback)
        self._events.callback_failed(error)

    def _to_inbox(
        self, sub: Subscription, subject: str, payload: bytes, headers: bytes | None
    ) -> None:
        """Take a message for the inbox of requests whose number the parser has not read.

        From the next chunk on the parser reads the numbers itself. What comes here: the first answers,
        answers that have a reply subject, and subjects whose last token is not a number below 10^9.
        """
        assert sub.inbox is not None
        self._inbox = sub.inbox
        self.set_inbox(sub.sid, sub.prefix_len)
        raw = subject.encode("utf-8", "surrogateescape")
        sub.inbox.answer(_number(raw[sub.prefix_len :]), payload, headers)

    def _answer(self, number: int, payload: bytes, headers: bytes | None) -> None:
        """Take an answer that no single request waits for, or one that may say that nobody listens."""
        if self._inbox is not None:
            self._inbox.answer(number, payload, headers)

    def _protocol_failed(self) -> None:
        text, offset, snippet = self.parse_error()
        self.close()
        self._events.protocol_failed(
            errors.ProtocolError(
                f"protocol error: {text} (at byte {offset})", offset=offset, snippet=snippet
            )
        )

    def _no_info(self) -> None:
        snippet = b"".join(self._greeting)[:_MOST_OF_A_SNIPPET]
        self.close()
        self._events.protocol_failed(
            errors.ProtocolError(
                "protocol error: the server's first line is not INFO", snippet=snippet
            )
        )

    def _control(self, kind: int, text: bytes, count: int) -> None:
        events = self._events
        if kind == PING:
            events.ping_received(count)
        elif kind == INFO:
            self._info(text.decode("utf-8", "replace"))
        elif kind == ERR:
            events.server_error(text.decode("utf-8", "surrogateescape"))

    def _pong(self) -> None:
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
            self.awaits_info = False
        self._events.info_received(info, first)
        self._greeting.clear()


def _number(token: bytes) -> int:
    """Return the number that token is, or 0 for a token that is no number of a request."""
    return int(token) if token.isdigit() and len(token) < 20 else 0
