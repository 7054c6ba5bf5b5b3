"""The server's side of WebSocket, written in another way than the client: for scripted servers."""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from typing import Any

from lab.fakeserver import Peer

DEFLATE = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
BINARY, CLOSE, PING, PONG = 2, 8, 9, 10


def frame(
    opcode: int, payload: bytes = b"", fin: bool = True, rsv: int = 0, mask: bytes = b""
) -> bytes:
    """One frame; rsv: 4 is the first reserved bit."""
    head = bytes([fin << 7 | rsv << 4 | opcode])
    size = len(payload)
    masked = 0x80 if mask else 0
    if size < 126:
        head += bytes([masked | size])
    elif size < 1 << 16:
        head += bytes([masked | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([masked | 127]) + size.to_bytes(8, "big")
    return head + mask + xor(payload, mask)


def xor(payload: bytes, mask: bytes) -> bytes:
    """A masked payload without its mask, or the reverse."""
    return bytes(b ^ mask[i % 4] for i, b in enumerate(payload)) if mask else payload


def deflated(payload: bytes) -> bytes:
    """The payload of a frame that has the first reserved bit."""
    deflater = zlib.compressobj(wbits=-15)
    return (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflated(payload: bytes) -> bytes:
    """The reverse."""
    return zlib.decompressobj(wbits=-15).decompress(payload + b"\x00\x00\xff\xff")


class Frames:
    """Reads frames from bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, size: int) -> bytes:
        if len(self.data) < size:
            raise EOFError
        part, self.data = self.data[:size], self.data[size:]
        return part

    def next(self) -> tuple[int, int, bytes, bytes]:
        """The first byte's upper half, the opcode, the mask, the payload without it."""
        first, second = self.take(2)
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(self.take(2 if size == 126 else 8), "big")
        mask = self.take(4) if second & 0x80 else b""
        return first >> 4, first & 15, mask, xor(self.take(size), mask)


def all_frames(data: bytes) -> list[tuple[int, int, bytes, bytes]]:
    """Every frame of some bytes, which end with a whole one."""
    reader, found = Frames(data), []
    while reader.data:
        found.append(reader.next())
    return found


def accept_key(key: str) -> str:
    """What the answer says of a key."""
    digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return base64.b64encode(digest).decode()


def read_request(peer: Peer) -> tuple[str, dict[str, str]]:
    """The request's first line, and its headers by lower-case names."""
    first, headers = peer.line(), {}
    while line := peer.line():
        name, _, value = line.partition(": ")
        headers[name.lower()] = value
    return first, headers


def answer(headers: dict[str, str], **changes: str | None) -> bytes:
    """The answer to a request, with other header lines, or without some."""
    fields = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": accept_key(headers["sec-websocket-key"]),
        "Nats-No-Masking": "true",
    }
    fields |= {name.replace("_", "-"): value for name, value in changes.items()}  # type: ignore[misc]
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join(["HTTP/1.1 101 Switching Protocols", *lines, "", ""]).encode()


class WsPeer(Peer):
    """A scripted server's side of a WebSocket connection: what `Peer` sends and reads is in frames."""

    def __init__(self, peer: Peer, **changes: str | None) -> None:
        self.__dict__.update(peer.__dict__)
        self.request, self.headers = read_request(peer)
        self.raw = _Raw(peer)
        peer.send(answer(self.headers, **changes))
        self.sock = _FramedSocket(self.raw)  # type: ignore[assignment]
        self.buffer = b""

    def close_code(self) -> int:
        """Wait for the client's close frame."""
        while True:
            _, opcode, _, payload = self.raw.frame()
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big")


class _Raw:
    def __init__(self, peer: Peer) -> None:
        self.sock, self.buffer = peer.sock, peer.buffer

    def frame(self) -> tuple[int, int, bytes, bytes]:
        while True:
            reader = Frames(self.buffer)
            try:
                found = reader.next()
            except (EOFError, ValueError):
                data = self.sock.recv(65536)
                if not data:
                    raise EOFError("the client closed") from None
                self.buffer += data
                continue
            self.buffer = reader.data
            return found


class _FramedSocket:
    """As much of a socket as `Peer` needs."""

    def __init__(self, raw: _Raw) -> None:
        self._raw = raw

    def sendall(self, data: bytes) -> None:
        self._raw.sock.sendall(frame(BINARY, data))

    def recv(self, size: int) -> bytes:
        while True:
            try:
                bits, opcode, _, payload = self._raw.frame()
            except EOFError:
                return b""
            if opcode == CLOSE:
                return b""
            if opcode == BINARY:
                return inflated(payload) if bits & 4 else payload

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw.sock, name)


def shown(request: str) -> str:
    """The target of a request."""
    found = re.fullmatch(r"GET (\S+) HTTP/1\.1", request)
    assert found, request
    return found[1]
