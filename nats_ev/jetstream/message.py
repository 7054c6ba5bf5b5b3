"""Messages of streams: `JsMsg`, which a consumer has delivered, and `StoredMsg`, which was read by itself.

A consumer's message carries its metadata in the reply subject (`parse_ack_reply`); its answers (`ack`,
`nak`, …) are publishes to that subject.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from ..arguments import Milliseconds, ResultCallback, check_result_cb, milliseconds
from ..client import Nats
from ..errors import BadOptionsError, NatsError
from ..headers import received
from ..times import MILLISECOND
from .api import ask
from .errors import MsgAlreadyAckedError, MsgNotAckableError
from .levels import version_of

# The first server that takes a reason after "+TERM".
_TERM_REASONS = (2, 10, 4)
# What a server's numbers are: 64 bits; a time beyond them would be none that Python knows.
_MOST_NUMBER = 2**63 - 1
# In ms. A server adds its delays to times that are ints of 64 bits, in ns: about 292 years.
_LONGEST_DELAY = 100 * 365 * 24 * 3600 * 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Metadata(NamedTuple):
    """The metadata of a consumer's message, from its reply subject.

    num_delivered is 1 at the first delivery. timestamp_ns, in ns since 1970, is when the server stored the
    message. num_pending is the number of messages that the consumer still had after this one when it
    delivered it. domain and account_hash are "" if the reply subject does not contain them.
    """

    stream: str
    consumer: str
    num_delivered: int
    stream_sequence: int
    consumer_sequence: int
    timestamp_ns: int
    num_pending: int
    domain: str = ""
    account_hash: str = ""

    @property
    def timestamp(self) -> datetime:
        """When the server stored the message, in UTC (microseconds)."""
        return _EPOCH + timedelta(microseconds=self.timestamp_ns // 1000)


def parse_ack_reply(reply: str | None) -> Metadata | None:
    """Return the metadata in a reply subject of either version, or None if it has none.

    v1: ``$JS.ACK.<stream>.<consumer>.<delivered>.<sseq>.<cseq>.<ts>.<pending>``; v2 has
    ``<domain or _>.<account hash>`` before the stream, and may have more tokens at its end.
    """
    if reply is None or not reply.startswith("$JS.ACK."):
        return None
    tokens = reply.split(".")
    count = len(tokens)
    if count == 9:
        domain = account = ""
        first = 2
    elif count >= 11:
        domain, account = tokens[2], tokens[3]
        if domain == "_":
            domain = ""
        first = 4
    else:
        return None
    try:
        numbers = [int(token) for token in tokens[first + 2 : first + 7]]
    except ValueError:
        return None
    if min(numbers) < 0 or max(numbers) > _MOST_NUMBER:
        return None
    delivered, stream_seq, consumer_seq, timestamp, pending = numbers
    return Metadata(
        tokens[first],
        tokens[first + 1],
        delivered,
        stream_seq,
        consumer_seq,
        timestamp,
        pending,
        domain,
        account,
    )


class _Content:
    """The parts that both kinds of messages have."""

    __slots__ = ("data", "headers", "subject")

    data: bytes
    headers: bytes | None
    subject: str

    @property
    def payload(self) -> bytes:
        """The same as `data`."""
        return self.data

    def header(self, name: str, default: str | None = None) -> str | None:
        """Return the first value of a header, or default if the message does not have it."""
        return received(self.headers).get(name, default)


class JsMsg(_Content):
    """A message from a consumer.

    `subject`; `data`, bytes (`payload` is the same); `headers`, the raw block or None; `reply`, the subject
    that its answers go to. A message gets one final answer: `ack`, `ack_sync`, `nak` or `term`; a second one
    raises `MsgAlreadyAckedError`. Answers raise what `Nats.publish` raises.
    """

    __slots__ = ("_acked", "_nats", "reply")

    def __init__(
        self,
        nats: Nats | None,
        subject: str,
        data: bytes,
        reply: str | None,
        headers: bytes | None,
    ) -> None:
        """nats None: the message can't be answered."""
        self._nats = nats
        self._acked = False
        self.subject = subject
        self.data = data
        self.reply = reply
        self.headers = headers

    def __repr__(self) -> str:
        meta = parse_ack_reply(self.reply)
        where = f" {meta.stream} {meta.stream_sequence}" if meta is not None else ""
        return f"<JsMsg {self.subject!r}{where} {len(self.data)} bytes>"

    @property
    def metadata(self) -> Metadata:
        """The server's data about this delivery. Raises `MsgNotAckableError` if the message has none."""
        meta = parse_ack_reply(self.reply)
        if meta is None:
            raise MsgNotAckableError(f"no metadata in reply subject {self.reply!r}")
        return meta

    @property
    def seq(self) -> int:
        """The message's sequence in its stream."""
        return self.metadata.stream_sequence

    @property
    def acked(self) -> bool:
        """Whether the message has had its final answer."""
        return self._acked

    def ack(self) -> None:
        """Acknowledge the message: the server need not deliver it again."""
        if self._acked or self._nats is None or self.reply is None:
            self._refuse()
        self._nats.publish(self.reply, b"+ACK")  # type: ignore[union-attr, arg-type]
        self._acked = True

    def ack_sync(self, cb: ResultCallback[bool], timeout: Milliseconds = 5000) -> None:
        """Acknowledge the message; ``cb(True, None)`` when the server has taken the acknowledgement.

        After ``cb(None, err)`` the server may or may not have it; the message can be answered again.

        Args:
            cb: called once.
            timeout: for the server's answer, in ms or a timedelta.
        """
        check_result_cb(cb)
        nats = self._answerable()

        def answered(payload: bytes | None, error: NatsError | None, headers: object) -> None:
            if error is not None:
                self._acked = False
                cb(None, error)
            else:
                cb(True, None)

        ask(nats, self.reply or "", b"+ACK", answered, timeout)
        self._acked = True

    double_ack = ack_sync

    def nak(self, delay: Milliseconds | None = None) -> None:
        """Have the server deliver the message again, at once or after a delay.

        Args:
            delay: in ms or a timedelta, at most 100 years.
        """
        body = b"-NAK"
        if delay is not None and (ms := milliseconds(delay, "delay")):
            if ms > _LONGEST_DELAY:  # a server would deliver the message at once
                raise BadOptionsError(f"delay must be at most 100 years, not {ms:g} ms")
            body += b' {"delay": %d}' % round(ms * MILLISECOND)
        self._answer_finally(body)

    def term(self, reason: str | None = None) -> None:
        """Have the server never deliver the message again.

        The reason goes into the server's advisory (2.10.4 and later).
        """
        body = b"+TERM"
        if reason:
            if not isinstance(reason, str):
                raise TypeError(f"reason must be str, not {type(reason).__name__}")
            # An older server would not recognise "+TERM" with text after it.
            if version_of(self._answerable().server_info())[0] >= _TERM_REASONS:
                body += b" " + reason.encode()
        self._answer_finally(body)

    def in_progress(self) -> None:
        """Start the server's ack_wait for this message again. May be called any number of times."""
        self._answerable().publish(self.reply or "", b"+WPI")

    def _answer_finally(self, body: bytes) -> None:
        self._answerable().publish(self.reply or "", body)
        self._acked = True

    def _answerable(self) -> Nats:
        if self._acked or self._nats is None or self.reply is None:
            self._refuse()
        assert self._nats is not None
        return self._nats

    def _refuse(self) -> None:
        if self._acked:
            raise MsgAlreadyAckedError
        raise MsgNotAckableError


class OrderedJsMsg(JsMsg):
    """A `JsMsg` that can't be answered, for the ordered consumer: created in half the time.

    The constructor is `object`'s, and the caller sets the four attributes that differ from message to
    message. Users see a `JsMsg`: the class shows that name.
    """

    __slots__ = ()
    __module__ = "nats_ev"
    __qualname__ = "JsMsg"
    _nats = None
    _acked = False
    __init__ = object.__init__


OrderedJsMsg.__name__ = "JsMsg"


class StoredMsg(_Content):
    """A message that was read from a stream by itself, without a consumer.

    `stream`, `subject`, `seq`, `time` (RFC 3339), `data` (bytes), `headers` (the raw block or None; that of
    a direct get has ``Nats-…`` headers besides the message's own). `num_pending`: in a batch, the number of
    messages after this one.
    """

    __slots__ = ("num_pending", "seq", "stream", "time")

    def __init__(
        self,
        stream: str,
        subject: str,
        seq: int,
        time: str,
        data: bytes,
        headers: bytes | None,
        num_pending: int = 0,
    ) -> None:
        self.stream = stream
        self.subject = subject
        self.seq = seq
        self.time = time
        self.data = data
        self.headers = headers
        self.num_pending = num_pending

    def __repr__(self) -> str:
        return f"<StoredMsg {self.stream} {self.seq} {self.subject!r} {len(self.data)} bytes>"
