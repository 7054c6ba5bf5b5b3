"""The compiled parser and write buffer as the rest of the package sees them.

The only importer of ``nats_ev._parser``. Turns C codes into exceptions; decides nothing else.
`csrc/nats_parser.h` says what a row is, `csrc/nats_wbuf.h` what the write buffer promises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import errors, subjects
from ._parser import ffi, lib

ROW_WIDTH: int = lib.NATS_ROW_WIDTH
MSG, RUN, INFO, ERR, PING, PONG, OK, ANSWER, REPLY_RUN, ANSWER_RUN = range(10)
# Ints of an item, by kind of the run.
ITEM_WIDTH = {RUN: 2, REPLY_RUN: 4, ANSWER_RUN: 3}

FIRST: int = lib.NATS_WBUF_FIRST
HIGH: int = lib.NATS_WBUF_HIGH
SLOW: int = lib.NATS_WBUF_SLOW
# What `request` says when there is no inbox for its answer.
NO_INBOX: int = lib.NATS_WBUF_BAD_REPLY

HIGH_WATER = 1024 * 1024
# 32 KiB of row ints: stays in the first-level cache and holds some 900 plain messages.
ROWS_CAP = 8192
_NULL = ffi.NULL

# The hot path of `Nats.publish` calls this without a wrapper: (wbuf, index, payload, len) -> code.
pub = lib.nats_wbuf_pub
# So does that of its first uses (wbuf, subject, len, payload, len), and `Nats.request`
# (wbuf, index, payload, len, tag).
pub_to = lib.nats_wbuf_pub_to
request = lib.nats_wbuf_request


class Parser:
    """Bytes of one connection → flat lists of ints, `ROW_WIDTH` per row (plus the items of runs)."""

    __slots__ = ("_c", "_ints", "_rows", "failed", "frame", "pos")

    def __init__(self, max_message: int) -> None:
        self._c = ffi.gc(ffi.new("nats_parser *"), lib.nats_parser_destroy)
        lib.nats_parser_init(self._c, max_message)
        self._rows = ffi.new("int32_t[]", ROWS_CAP)
        # Measured: a memoryview makes a list in 60 % of the time that ffi.unpack takes.
        self._ints = memoryview(ffi.buffer(self._rows)).cast("i")
        # Of the last feed: where in the chunk to go on, its length when all of it is taken;
        self.pos = 0
        # the assembled frame that the rows' offsets refer to, a buffer whose slices are bytes, valid until
        # the next feed, or None: they refer to the chunk;
        self.frame: Any = None
        # and whether the stream is broken behind these rows, and for ever: see `error`.
        self.failed = False

    def feed(self, chunk: bytes, pos: int, most: int = ROWS_CAP) -> list[int]:
        """Parse chunk from pos on into at most so many ints (64 to `ROWS_CAP`).

        Empty when nothing is complete. Then `pos` tells how far it came.
        """
        c = self._c
        n = lib.nats_parser_feed(c, chunk, pos, len(chunk), self._rows, most)
        self.pos = c.pos
        frame = c.frame
        self.frame = ffi.buffer(frame, c.frame_len) if frame else None
        if c.error:
            self.failed = True
        return self._ints[:n].tolist() if n else []

    def set_inbox(self, sid: int, prefix_len: int) -> None:
        """Let the numbered answers of this subscription come as `ANSWER` rows and runs."""
        self._c.inbox_sid, self._c.inbox_len = sid, prefix_len

    def error(self) -> errors.ProtocolError:
        """What was wrong with the stream, when it has `failed`."""
        text = ffi.string(lib.nats_parser_strerror(self._c.error)).decode()
        offset = self._c.error_offset
        return errors.ProtocolError(
            f"protocol error: {text} (at byte {offset})",
            offset=offset,
            snippet=ffi.buffer(self._c.snippet, self._c.snippet_len)[:],
        )

    @property
    def msgs(self) -> int:
        """Messages parsed on this connection."""
        return self._c.msgs

    @property
    def bytes(self) -> int:
        """Header and payload bytes of these messages."""
        return self._c.bytes

    def set_max_message(self, size: int) -> None:
        """Bound of headers + payload of one message, from the next frame on."""
        self._c.max_message = size


class Outbound:
    """The bounded write buffer: every command is validated and framed by one C call.

    The methods return the C code's bits (`FIRST`, `HIGH`, `SLOW`) and raise what the caller got
    wrong; a call that raises has changed nothing.
    """

    __slots__ = ("c", "counts", "limits")

    def __init__(self) -> None:
        raw = lib.nats_wbuf_new()
        if not raw:
            raise MemoryError("no memory for a write buffer")
        self.c = ffi.gc(raw, lib.nats_wbuf_free)
        self.limits = lib.nats_wbuf_get_limits(self.c)
        self.limits.high_water = HIGH_WATER

    def __len__(self) -> int:
        return lib.nats_wbuf_len(self.c)

    def intern(self, subject: str) -> int:
        """Index of a remembered subject for `pub`, valid until `forget`."""
        raw = subjects.encode(subject)
        index: int = lib.nats_wbuf_intern(self.c, raw, len(raw))
        if index < 0:
            self.fail(index, subject=subject)
        return index

    def forget(self) -> None:
        """Drop all interned subjects."""
        lib.nats_wbuf_forget(self.c)

    def pub_interned(self, index: int, payload: bytes) -> int:
        """PUB to an interned subject; returns the C code, errors included."""
        return pub(self.c, index, payload, len(payload))

    def publish(
        self,
        subject: bytes,
        reply: bytes,
        headers: bytes | None,
        payload: bytes,
        tag: int = 0,
    ) -> int:
        """PUB or HPUB. Returns the C code, errors included: the caller knows what it was about."""
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
        """What `request` puts before a tag."""
        self._checked(lib.nats_wbuf_set_inbox(self.c, prefix, len(prefix)))

    def sub(self, subject: bytes, queue: bytes, sid: int) -> int:
        """SUB; returns the C code, errors included."""
        return lib.nats_wbuf_sub(self.c, subject, len(subject), queue, len(queue), sid)

    def unsub(self, sid: int, max_msgs: int = 0) -> int:
        """UNSUB, after max_msgs messages in all when that is not 0."""
        return self._checked(lib.nats_wbuf_unsub(self.c, sid, max_msgs))

    def ping(self) -> int:
        """PING."""
        return self._checked(lib.nats_wbuf_ping(self.c))

    def pong(self) -> int:
        """PONG."""
        return self._checked(lib.nats_wbuf_pong(self.c))

    def connect(self, json: bytes) -> int:
        """CONNECT."""
        return self._checked(lib.nats_wbuf_connect(self.c, json, len(json)))

    def peek(self) -> Any:
        """The unsent bytes as a buffer, valid until the next call that changes this object."""
        return ffi.buffer(lib.nats_wbuf_data(self.c), lib.nats_wbuf_len(self.c))

    def sent(self, n: int) -> None:
        """The kernel took the first n unsent bytes; the high-water mark counts anew."""
        lib.nats_wbuf_sent(self.c, n)

    def pin(self, n: int) -> None:
        """The first n unsent bytes are in TLS records: they can't be changed or removed any more."""
        lib.nats_wbuf_pin(self.c, n)

    def take_back(self) -> None:
        """The connection is gone: keep whole what was not wholly sent, drop requests and control frames."""
        lib.nats_wbuf_take_back(self.c)

    def remove(self, tags: Sequence[int]) -> int:
        """Remove the unsent messages with these tags (ascending); returns how many."""
        if not tags:
            return 0
        return lib.nats_wbuf_remove(self.c, ffi.new("uint64_t[]", tags), len(tags))

    def drop_messages(self) -> int:
        """Drop all messages that have not begun to go out; returns how many."""
        return lib.nats_wbuf_drop_messages(self.c)

    def recheck(self, headers: bool, tagged: int) -> tuple[int, list[int]]:
        """Discard what a new server would not take: messages above max_payload, or with headers.

        tagged is the most requests that there may be. Returns how many messages were discarded, and
        the tags of the requests among them.
        """
        tags, n = ffi.new("uint64_t[]", max(1, tagged)), ffi.new("size_t *")
        discarded: int = lib.nats_wbuf_recheck(self.c, headers, tags, tagged, n)
        return discarded, ffi.unpack(tags, n[0]) if n[0] else []

    def last_command(self) -> str:
        """The verb, subject and size of what was sent last; "" when it was nothing."""
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
        """The C counters (msgs_out, bytes_out, accepted, written, waiting, discarded), up to date."""
        return lib.nats_wbuf_get_counts(self.c)

    def _checked(self, code: int) -> int:
        if code < 0:
            self.fail(code)
        return code

    def fail(
        self, code: int, subject: str = "", reply: str = "", queue: str = "", what: str = "payload"
    ) -> None:
        """Raise the exception that belongs to a negative C code."""
        limits = self.limits
        if code == lib.NATS_WBUF_CLOSED:
            raise errors.NotConnectedError
        if code == lib.NATS_WBUF_PAYLOAD_TOO_LONG:
            raise errors.MaxPayloadError(
                f"{what} exceeds max_payload ({limits.max_payload})", limit=limits.max_payload
            )
        if code == lib.NATS_WBUF_FULL:
            most = limits.max_pending if limits.max_pending > 1 else 0  # 1 stands for nothing
            raise errors.OutboundBufferLimitError(
                f"outbound buffer is full ({most} bytes)", limit=most
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
