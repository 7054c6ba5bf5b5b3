"""The compiled core, as the rest of the package sees it.

`Outbound` checks and frames commands: it turns the C library's error codes into exceptions and decides
nothing else. `Inbound`, which receives, parses and calls callbacks, is C altogether.

A framing call returns one int: 0 in most cases, bits that ask for an action (`FIRST`, `HIGH`, `SLOW`),
or a negative code, which `Outbound.fail` turns into an exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import errors
from ..compiled import Client as Client
from ..compiled import ExpiryBase as ExpiryBase
from ..compiled import Inbound as Inbound
from ..compiled import OutboundBase, ffi, lib
from ..compiled import SubscriptionBase as SubscriptionBase
from ..compiled import Waiting as Waiting
from ..compiled import fast_method as fast_method

MSG, RUN, INFO, ERR, PING, PONG, OK, ANSWER, REPLY_RUN, ANSWER_RUN = range(10)

# Bits of a framing call's result: these are the first unsent bytes; the unsent bytes have passed the
# high-water mark; they have risen above the slow consumer's threshold.
FIRST: int = lib.NATS_WBUF_FIRST
HIGH: int = lib.NATS_WBUF_HIGH
SLOW: int = lib.NATS_WBUF_SLOW

# What `Inbound.read` returns, apart from a negative errno: all has been delivered; the slice of time was
# over before; there was nothing to read; the stream has ended.
DRAINED, GAVE_WAY, NOTHING, END = range(4)

HIGH_WATER = 1024 * 1024
_NULL = ffi.NULL


def check_sub(subject: bytes, queue: bytes, sid: int, max_control_line: int) -> int:
    """Return the negative code that `Outbound.sub` would return for a SUB, or 0. Frames nothing.

    Args:
        subject, queue, sid: of the SUB.
        max_control_line: the longest line; 0: no limit.
    """
    return lib.nats_wbuf_check_sub(subject, len(subject), queue, len(queue), sid, max_control_line)


class Outbound(OutboundBase):
    """The bounded write buffer: one C call checks and frames a command.

    A framing method returns the C code: bits (`FIRST`, `HIGH`, `SLOW`), or, where its docstring says
    so, a negative code, for `fail`. A call that is refused changes nothing. `c` is the C object;
    `limits` are its limits, to be read and set.
    """

    __slots__ = ("c", "limits")

    def __init__(self) -> None:
        raw = lib.nats_wbuf_new()
        if not raw:
            raise MemoryError("no memory for a write buffer")
        self.c = ffi.gc(raw, lib.nats_wbuf_free)
        self._attach(int(ffi.cast("uintptr_t", self.c)), self.c)
        self.limits = lib.nats_wbuf_get_limits(self.c)
        self.limits.high_water = HIGH_WATER

    def publish(
        self,
        subject: bytes,
        reply: bytes,
        headers: bytes | None,
        payload: bytes,
        tag: int = 0,
    ) -> int:
        """Frame a PUB, or an HPUB if there are headers.

        Args:
            subject: checked here.
            reply: checked here; empty for none.
            headers: the raw block, or None.
            payload: copied.
            tag: a number for a request, larger than those before; `remove` takes it. 0: no request.

        Returns:
            The C code, errors included: the caller has the arguments that an error text needs.
        """
        return lib.nats_wbuf_publish(
            self.c,
            subject,
            len(subject),
            reply,
            len(reply),
            headers or _NULL,
            len(headers) if headers else 0,
            payload,
            len(payload),
            tag,
        )

    def set_inbox(self, prefix: bytes) -> None:
        """Set what `request` puts before a tag to make the reply subject; empty: nothing is set."""
        self._checked(lib.nats_wbuf_set_inbox(self.c, prefix, len(prefix)))

    def sub(self, subject: bytes, queue: bytes, sid: int) -> int:
        """Frame a SUB. Return the C code, errors included."""
        return lib.nats_wbuf_sub(self.c, subject, len(subject), queue, len(queue), sid)

    def unsub(self, sid: int, max_msgs: int = 0) -> int:
        """Frame an UNSUB: at once, or, if max_msgs is not 0, after so many messages in all."""
        return self._checked(lib.nats_wbuf_unsub(self.c, sid, max_msgs))

    def ping(self) -> int:
        """Frame a PING."""
        return self._checked(lib.nats_wbuf_ping(self.c))

    def pong(self) -> int:
        """Frame a PONG."""
        return self._checked(lib.nats_wbuf_pong(self.c))

    def connect(self, json: bytes) -> int:
        """Frame a CONNECT."""
        return self._checked(lib.nats_wbuf_connect(self.c, json, len(json)))

    def peek(self) -> Any:
        """Return the unsent bytes as a buffer, valid until the next call that changes this object."""
        return ffi.buffer(lib.nats_wbuf_data(self.c), lib.nats_wbuf_len(self.c))

    def sent(self, n: int) -> None:
        """Remove the first n unsent bytes, which the kernel has. The high-water mark counts from here."""
        lib.nats_wbuf_sent(self.c, n)

    def pin(self, n: int) -> None:
        """Keep the first n unsent bytes unchanged and in their place: they are in TLS records already."""
        lib.nats_wbuf_pin(self.c, n)

    def take_back(self) -> None:
        """Prepare for the next connection: restore frames of which a part was sent to their whole length.

        Requests and control frames are discarded: the former have failed, the latter belong to the
        connection.
        """
        lib.nats_wbuf_take_back(self.c)

    def remove(self, tags: Sequence[int]) -> int:
        """Remove the unsent messages with these tags (ascending). Return how many there were."""
        if not tags:
            return 0
        return lib.nats_wbuf_remove(self.c, ffi.new("uint64_t[]", tags), len(tags))

    def trim(self) -> None:
        """Give back the memory that a burst needed, if nothing is buffered."""
        lib.nats_wbuf_trim(self.c)

    def drop_messages(self) -> int:
        """Discard all messages of which no byte has been sent. Return how many there were."""
        return lib.nats_wbuf_drop_messages(self.c)

    def recheck(self, headers: bool, tagged: int) -> tuple[int, list[int]]:
        """Discard messages that a new server would not take.

        Args:
            headers: whether the server supports headers; max_payload is that of `limits`.
            tagged: an upper bound of the requests in the buffer.

        Returns:
            How many messages were discarded, and the tags of the requests among them.
        """
        tags, n = ffi.new("uint64_t[]", max(1, tagged)), ffi.new("size_t *")
        discarded: int = lib.nats_wbuf_recheck(self.c, headers, tags, tagged, n)
        return discarded, ffi.unpack(tags, n[0]) if n[0] else []

    def last_command(self) -> str:
        """Return the verb, subject and size of the command that was sent last; "" if unknown."""
        line = ffi.new("char[]", 128)
        size = lib.nats_wbuf_last_line(self.c, line, 128)
        raw = ffi.unpack(line, size) if size else b""
        verb, *args = raw.decode("utf-8", "replace").split(" ")
        if verb not in ("PUB", "HPUB"):
            return verb if verb in ("PING", "PONG", "CONNECT") else " ".join([verb, *args[:2]])
        if size == 128 or len(args) < 2:  # the size is not in sight
            return f"{verb} {_shorten(args[0])}"
        return f"{verb} {_shorten(args[0])}, {args[-1]} B"

    def accounting(self) -> Any:
        """Return the C counters, up to date: msgs_out, bytes_out, accepted, written, waiting, discarded."""
        return lib.nats_wbuf_get_counts(self.c)

    def _checked(self, code: int) -> int:
        if code < 0:
            self.fail(code)
        return code

    def fail(
        self,
        code: int,
        subject: str = "",
        reply: str = "",
        queue: str = "",
        what: str = "payload",
        size: int = 0,
    ) -> None:
        """Raise the exception for a negative C code.

        Args:
            code: what a framing call returned.
            subject, reply, queue: the arguments of that call, for the error's text.
            what: the name of what may exceed max_payload.
            size: of that, in bytes.
        """
        limits = self.limits
        if code == lib.NATS_WBUF_CLOSED:
            raise errors.NotConnectedError
        if code == lib.NATS_WBUF_PAYLOAD_TOO_LONG:
            raise errors.MaxPayloadError(
                f"{what} exceeds max_payload ({limits.max_payload})",
                limit=limits.max_payload,
                size=size,
                subject=subject,
            )
        if code == lib.NATS_WBUF_FULL:
            # The C limit is 1 where the option is 0 (queue nothing), because 0 means unlimited there.
            most = limits.max_pending if limits.max_pending > 1 else 0
            raise errors.OutboundBufferLimitError(
                f"outbound buffer is full ({most} bytes)", limit=most
            )
        if code == lib.NATS_WBUF_LOCKED:
            raise RuntimeError(
                "the client was called in another thread while its loop's thread was writing: "
                "let call_threadsafe make the call"
            )
        if code == lib.NATS_WBUF_NO_MEMORY:
            raise MemoryError("no memory for the write buffer")
        if code == lib.NATS_WBUF_BAD_SUBJECT:
            raise errors.BadSubjectError(f"invalid subject {subject!r}", subject=subject)
        if code == lib.NATS_WBUF_BAD_REPLY:
            raise errors.BadSubjectError(f"invalid reply subject {reply!r}", subject=reply)
        if code == lib.NATS_WBUF_BAD_QUEUE:
            raise errors.BadSubjectError(f"invalid queue group {queue!r}", subject=queue)
        if code == lib.NATS_WBUF_BAD_HEADERS:
            raise errors.BadHeadersError(
                "invalid headers: a raw block begins with NATS/1.0 and ends with an empty line"
            )
        if code == lib.NATS_WBUF_LINE_TOO_LONG:
            raise errors.BadSubjectError(
                f"control line exceeds max_control_line ({limits.max_control_line}): "
                f"subject {_shorten(subject or queue)}",
                subject=subject,
            )
        raise errors.NatsError(ffi.string(lib.nats_wbuf_strerror(code)).decode())


def _shorten(text: str, limit: int = 40) -> str:
    return repr(text if len(text) <= limit else text[:limit] + "…")
