"""The C parser's rows as lists of ints, for tests of the parser alone: `Inbound` delivers them in C."""

from __future__ import annotations

from typing import Any

from nats_ev import errors
from nats_ev._parser import ffi, lib

ROW_WIDTH: int = lib.NATS_ROW_WIDTH
MSG, RUN, INFO, ERR, PING, PONG, OK, ANSWER, REPLY_RUN, ANSWER_RUN = range(10)
# The ints of each item of a run, by the run's kind.
ITEM_WIDTH = {RUN: 2, REPLY_RUN: 4, ANSWER_RUN: 3}
ROWS_CAP = 8192


class Parser:
    """The incremental parser of one connection: bytes in, flat lists of ints out.

    A row has `ROW_WIDTH` ints; the items of a run follow its row. After each `feed`: `pos` is where
    in the chunk to go on, the chunk's length when all of it has been taken. `frame` is None while the
    rows' offsets refer to the chunk; for a frame that was assembled from several chunks it is the
    buffer that they refer to, whose slices are bytes, valid until the next `feed`. `failed` becomes
    true, for ever, when the stream after these rows breaks the protocol; see `error`.
    """

    __slots__ = ("_c", "_ints", "_rows", "failed", "frame", "pos")

    def __init__(self, max_message: int) -> None:
        self._c = ffi.gc(ffi.new("nats_parser *"), lib.nats_parser_destroy)
        lib.nats_parser_init(self._c, max_message)
        self._rows = ffi.new("int32_t[]", ROWS_CAP)
        # Measured: memoryview.tolist takes 60 % of the time of ffi.unpack.
        self._ints = memoryview(ffi.buffer(self._rows)).cast("i")
        self.pos = 0
        self.frame: Any = None
        self.failed = False

    def feed(self, chunk: bytes, pos: int, most: int = ROWS_CAP) -> list[int]:
        """Return the rows of what is complete in chunk, from pos on, and set `pos`, `frame` and `failed`.

        Args:
            chunk: what was received. The parser keeps a copy of an unfinished frame at its end.
            pos: where to begin.
            most: the largest number of ints to return, 64 to `ROWS_CAP`.
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
        """Return the numbered answers of this subscription as `ANSWER` rows and runs from now on.

        Args:
            sid: the subscription to ``prefix*`` that all requests share.
            prefix_len: the length of prefix.
        """
        self._c.inbox_sid, self._c.inbox_len = sid, prefix_len

    def error(self) -> errors.ProtocolError:
        """Return what was wrong with the stream that has `failed`."""
        text = ffi.string(lib.nats_parser_strerror(self._c.error)).decode()
        offset = self._c.error_offset
        return errors.ProtocolError(
            f"protocol error: {text} (at byte {offset})",
            offset=offset,
            snippet=ffi.buffer(self._c.snippet, self._c.snippet_len)[:],
        )

    @property
    def msgs(self) -> int:
        """How many messages were parsed on this connection."""
        return self._c.msgs

    @property
    def bytes(self) -> int:
        """The header and payload bytes of the messages that were parsed."""
        return self._c.bytes

    def set_max_message(self, size: int) -> None:
        """Set the bound of headers + payload of one message, in bytes, from the next frame on."""
        self._c.max_message = size
