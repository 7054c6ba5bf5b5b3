"""WebSocket frames (RFC 6455, RFC 7692): bytes in, payload out, and the reverse. No socket, no loop.

`Decoder` takes what a server has sent, in pieces of any size, and returns the payload as it comes: it never
waits for the end of a frame. `Encoder` appends frames of a client to a buffer. Both are for binary messages
that hold one stream of bytes: where a message ends means nothing.

Masking is C (``csrc/nats_ws.c``): Python's integers take 3 ns and more per byte for it, C less than 0.1.
"""

from __future__ import annotations

import os
import zlib
from collections import deque
from typing import Any

from ... import errors
from ...compiled import ffi, lib
from .errors import Fault, WebSocketClosedError

BINARY, CLOSE, PING, PONG = 0x2, 0x8, 0x9, 0xA
CONTINUATION, TEXT = 0x0, 0x1
_FIN, _RSV1, _RSV = 0x80, 0x40, 0x70
NORMAL, GOING_AWAY, NO_STATUS = 1000, 1001, 1005
_PROTOCOL, _UNSUPPORTED, _INVALID, _TOO_BIG = 1002, 1003, 1007, 1009
# What a close frame without a fault says: for the client a plain end of the stream.
PLAIN_ENDS = frozenset({NORMAL, GOING_AWAY, NO_STATUS})
# Codes that RFC 6455 and IANA's registry allow in a close frame, below 3000.
_CODES = frozenset((*range(1000, 1004), *range(1007, 1015)))
# Bytes of payload in one frame. A NATS server sends what waits for a client, 64 MiB by default, in one.
MOST_FRAME = 2**31 - 1
_MOST_CONTROL = 125
# A deflated block that ends with this, which the sender leaves out, ends at a byte.
_TAIL = b"\x00\x00\xff\xff"
# Less is not worth deflating: as the server.
_LEAST_DEFLATED = 64
# Bytes that one deflated message holds. A server refuses a message that inflates to more than its
# max_payload, and `Encoder.piece` can be less.
MOST_DEFLATED = 64 * 1024
# Keys that are made in one call to the kernel.
_KEYS = 256


def fault(text: str, code: int = _PROTOCOL) -> Fault:
    """Return what to raise for a server that breaks the rules; code: of our close frame."""
    return Fault(errors.ProtocolError(f"WebSocket: {text}"), code)


class Decoder:
    """The frames of a server. After `feed` has raised, or `closed` is set, it takes no more bytes.

    Attributes:
        replies: control frames that are to be sent: pairs of opcode and payload.
        most: bytes that a deflated message may inflate to.
        closed: the error of a close frame that has come, or None; its code may be one of `PLAIN_ENDS`.
    """

    def __init__(self, deflate: bool, most: int) -> None:
        """Start at the beginning of a frame.

        Args:
            deflate: permessage-deflate, without context takeover, is agreed on.
            most: bytes that a deflated message may inflate to.
        """
        self._deflate = deflate
        self.most = most
        self._head = b""  # the beginning of a frame's header
        self._left = 0  # bytes of payload of the frame
        self._control: bytearray | None = None  # the payload of a control frame
        self._opcode = 0
        self._final = True
        self._in_message = False
        self._inflater: Any = None  # of a deflated message
        self._inflated = 0
        self.replies: deque[tuple[int, bytes]] = deque()
        self.closed: WebSocketClosedError | None = None

    def feed(self, data: bytes, payload: list[bytes]) -> None:
        """Append the payload in these bytes to a list. Raises `Fault`, after what came before it."""
        at, end = 0, len(data)
        if self._head:
            data, end = self._head + data, end + len(self._head)
            self._head = b""
        while at < end and self.closed is None:
            if not self._left:
                size = self._begin(data, at, end)
                if not size:
                    self._head = data[at:]
                    return
                at += size
            part = data[at : at + self._left]
            at += len(part)
            self._left -= len(part)
            if self._control is not None:
                self._control += part
                if not self._left:
                    self._end_control(bytes(self._control))
            elif self._inflater is not None:
                self._inflate(part, payload)
            elif part:
                payload.append(part)

    def _begin(self, data: bytes, at: int, end: int) -> int:
        """Read a frame's header; return its size, 0 if it is not complete. Raises `Fault`."""
        if end - at < 2:
            return 0
        first, second = data[at], data[at + 1]
        size, length = 2, second & 0x7F
        if second & 0x80:
            raise fault("the server masks its frames")
        if length >= 126:
            size = 4 if length == 126 else 10
            if first & 0x8:
                raise fault("a control frame is longer than 125 bytes")
            if end - at < size:
                return 0
            length = int.from_bytes(data[at + 2 : at + size], "big")
            if length < 126 or (size == 10 and length < 0x10000):
                raise fault("a frame's length is not written in the shortest way")
            if length > MOST_FRAME:
                raise fault(f"a frame of {length} bytes is too big", _TOO_BIG)
        self._check(first)
        self._left = length
        return size

    def _check(self, first: int) -> None:
        opcode, final, rsv = first & 0xF, bool(first & _FIN), first & _RSV
        if rsv & ~_RSV1 or (rsv and not (self._deflate and opcode == BINARY)):
            raise fault("a reserved bit is set")
        if opcode in (CLOSE, PING, PONG):
            if not final:
                raise fault("a control frame is fragmented")
            self._control = bytearray()
            self._opcode = opcode
            return
        if opcode == TEXT:
            raise fault("the server sends text", _UNSUPPORTED)
        if opcode not in (BINARY, CONTINUATION):
            raise fault(f"unknown opcode {opcode}")
        if (opcode == CONTINUATION) != self._in_message:
            expected = "a new message in" if self._in_message else "a continuation without"
            raise fault(f"{expected} a fragmented one")
        self._control = None
        self._final, self._in_message = final, not final
        if opcode == BINARY:
            self._inflater = zlib.decompressobj(-zlib.MAX_WBITS) if rsv else None
            self._inflated = 0

    def _inflate(self, part: bytes, payload: list[bytes]) -> None:
        last = self._final and not self._left
        if last:
            part += _TAIL
        while part:
            try:
                plain = self._inflater.decompress(part, self.most - self._inflated + 1)
            except zlib.error:
                raise fault("a message can't be inflated", _INVALID) from None
            self._inflated += len(plain)
            if self._inflated > self.most:
                text = f"a message inflates to more than max_message_size, {self.most} bytes"
                raise fault(text, _TOO_BIG)
            if plain:
                payload.append(plain)
            part = self._inflater.unconsumed_tail
            if (
                self._inflater.eof
            ):  # a block that is marked as the last one: another stream may follow
                part = self._inflater.unused_data
                part = b"" if last and part in (_TAIL, b"\x00" + _TAIL) else part
                self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        if last:
            self._inflater = None

    def _end_control(self, payload: bytes) -> None:
        self._control = None
        if self._opcode == PING:
            self.replies.append((PONG, payload))
        elif self._opcode == CLOSE:
            self._close(payload)

    def _close(self, payload: bytes) -> None:
        code, reason = NO_STATUS, ""
        if payload:
            code = int.from_bytes(payload[:2], "big")
            if len(payload) == 1 or not (code in _CODES or 3000 <= code <= 4999):
                raise fault("a close frame has no valid code")
            try:
                reason = payload[2:].decode()
            except UnicodeDecodeError:
                raise fault("the text of a close frame is not UTF-8", _INVALID) from None
        self.replies.append((CLOSE, payload[:2]))
        text = f"WebSocket closed by the server with code {code}"
        text += f": {reason!r}" if reason else ""
        self.closed = WebSocketClosedError(text, code=code, reason=reason)


class Encoder:
    """Frames of a client.

    Attributes:
        piece: the most bytes of payload in a deflated message.
    """

    def __init__(self, deflate: bool, masked: bool) -> None:
        """Make frames.

        Args:
            deflate: permessage-deflate, without context takeover, is agreed on.
            masked: False: the server takes frames without a mask.
        """
        self._deflater = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS) if deflate else None
        self._masked = masked
        self._keys = b""
        self._key = 0  # how much of them has been used
        self.piece = MOST_DEFLATED

    def message(self, wire: bytearray, data: memoryview) -> list[tuple[int, int, int]]:
        """Append bytes to a buffer, as one message or as several deflated ones.

        Returns:
            for each frame: its size, the bytes of data in it, and how many of the frame's bytes come before
            the first one of them. A server can use a deflated frame only as a whole: all come before it.
        """
        size = len(data)
        if self._deflater is None or size < _LEAST_DEFLATED:
            return [self._frame(wire, _FIN | BINARY, data, size)]
        frames = []
        for start in range(0, size, self.piece):
            piece = data[start : start + self.piece]
            if len(piece) < _LEAST_DEFLATED:
                frames.append(self._frame(wire, _FIN | BINARY, piece, len(piece)))
                continue
            # After a full flush the deflater refers to nothing before it: no context is taken over.
            packed = self._deflater.compress(piece) + self._deflater.flush(zlib.Z_FULL_FLUSH)
            body = memoryview(packed)[: -len(_TAIL)]
            whole, _, _ = self._frame(wire, _FIN | _RSV1 | BINARY, body, len(body))
            frames.append((whole, len(piece), whole))
        return frames

    def control(self, wire: bytearray, opcode: int, payload: bytes) -> tuple[int, int, int]:
        """Append a control frame to a buffer; return what `message` says of it."""
        whole, _, _ = self._frame(wire, _FIN | opcode, payload, len(payload))
        return whole, 0, whole

    def _frame(self, wire: bytearray, first: int, data: Any, size: int) -> tuple[int, int, int]:
        mask = 0x80 if self._masked else 0
        before = len(wire)
        if size < 126:
            wire += bytes((first, mask | size))
        elif size < 0x10000:
            wire += bytes((first, mask | 126)) + size.to_bytes(2, "big")
        else:
            wire += bytes((first, mask | 127)) + size.to_bytes(8, "big")
        if mask:
            key = self._next_key()
            wire += key
        head = len(wire) - before
        wire += data
        if mask and size:
            with ffi.from_buffer("char[]", wire) as start:
                lib.nats_ws_mask(start + (before + head), size, key)
        return head + size, size, head

    def _next_key(self) -> bytes:
        """Return 4 bytes that nobody can foresee."""
        if self._key == len(self._keys):
            self._keys, self._key = os.urandom(4 * _KEYS), 0
        key = self._keys[self._key : self._key + 4]
        self._key += 4
        return key
