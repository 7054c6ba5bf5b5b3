"""`JsMsg`: a message that a consumer has delivered, what it knows of itself, and its answers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from ..arguments import Milliseconds, check_callback, milliseconds
from ..errors import NatsError
from ..headers import Headers
from .api import version_of
from .errors import MsgAlreadyAckedError, MsgNotAckableError

if TYPE_CHECKING:
    from ..client import Nats


_REASONS = (2, 10, 4)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Metadata(NamedTuple):
    """What the reply subject of a consumer's message says about it.

    num_delivered is 1 at the first delivery; timestamp_ns, in ns since 1970, is when it was stored;
    num_pending counts what the consumer had behind it when it was delivered; domain and account_hash
    are "" when the server does not tell them.
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
        """When it was stored, in UTC (microseconds)."""
        return _EPOCH + timedelta(microseconds=self.timestamp_ns // 1000)


def parse_ack_reply(reply: str | None) -> Metadata | None:
    """The metadata in a reply subject, of either version; None when it is none.

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


class JsMsg:
    """A message from a consumer.

    `subject`; `data`, bytes (`payload` is the same); `headers`, the raw block or None; `reply`, where
    its answers go. A message is answered for good once, by `ack`, `ack_sync`, `nak` or `term`; a second
    one raises `MsgAlreadyAckedError`. Answers raise what `Nats.publish` raises.
    """

    __slots__ = ("_acked", "_nats", "data", "headers", "reply", "subject")

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
    def payload(self) -> bytes:
        """The same as `data`."""
        return self.data

    @property
    def metadata(self) -> Metadata:
        """What the server says about this delivery. Raises `MsgNotAckableError` if it says nothing."""
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
        """Whether it has been answered for good."""
        return self._acked

    def header(self, name: str, default: str | None = None) -> str | None:
        """The first value of a header."""
        return Headers.parse(self.headers).get(name, default)

    def ack(self) -> None:
        """Done: it need not be delivered again."""
        if self._acked or self._nats is None or self.reply is None:
            self._refuse()
        self._nats.publish(self.reply, b"+ACK")  # type: ignore[union-attr, arg-type]
        self._acked = True

    def ack_sync(
        self, cb: Callable[[Any, NatsError | None], object], timeout: Milliseconds = 5000
    ) -> None:
        """`ack`, and ``cb(True, None)`` when the server has taken it.

        After ``cb(None, err)`` the server may or may not have it; the message can be answered again.
        """
        check_callback(cb)
        nats = self._answerable()

        def answered(payload: bytes | None, error: NatsError | None, headers: object) -> None:
            if error is not None:
                self._acked = False
                cb(None, error)
            else:
                cb(True, None)

        nats.request(self.reply or "", b"+ACK", answered, timeout, no_responders=True)
        self._acked = True

    double_ack = ack_sync

    def nak(self, delay: Milliseconds | None = None) -> None:
        """Not done: deliver it again, at once or after a delay (ms or a timedelta)."""
        body = b"-NAK"
        if delay is not None and (ms := milliseconds(delay, "delay")):
            body += b' {"delay": %d}' % round(ms * 1_000_000)
        self._terminal(body)

    def term(self, reason: str | None = None) -> None:
        """Never deliver it again; the reason goes into the server's advisory (2.10.4 and later)."""
        body = b"+TERM"
        if reason:
            if not isinstance(reason, str):
                raise TypeError(f"reason must be str, not {type(reason).__name__}")
            # An older server does not understand the answer at all when there is more to it.
            if version_of(self._answerable().server_info())[0] >= _REASONS:
                body += b" " + reason.encode()
        self._terminal(body)

    def in_progress(self) -> None:
        """Still working on it: the server's ack_wait starts anew. May be called many times."""
        self._answerable().publish(self.reply or "", b"+WPI")

    def _terminal(self, body: bytes) -> None:
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


class StoredMsg:
    """A message read from a stream by itself, without a consumer.

    `stream`, `subject`, `seq`, `time` (RFC 3339), `data` (bytes), `headers` (the raw block or None; a
    direct get's has ``Nats-…`` headers besides the message's own). `num_pending`: of a batch, how many
    follow.
    """

    __slots__ = ("data", "headers", "num_pending", "seq", "stream", "subject", "time")

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

    @property
    def payload(self) -> bytes:
        """The same as `data`."""
        return self.data

    def header(self, name: str, default: str | None = None) -> str | None:
        """The first value of a header."""
        return Headers.parse(self.headers).get(name, default)
