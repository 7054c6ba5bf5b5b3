"""A stream of bytes in WebSocket frames, over a plain socket or TLS. Non-blocking, without a loop.

Theory of operation
-------------------
`WsStream` has the interface of `transport.Stream`, and writes to and reads from the stream below it:

    bytes → Encoder → `_wire` → one send of the stream below
    stream below → one recv → Decoder → bytes

*Out.* `send` puts what is new of the caller's buffer into one frame, at most 1 MiB ahead of the stream below,
and offers all frames in one call. `_frames` keeps the sizes of the frames that are not wholly gone. A server
uses the bytes of a frame as they come, so each byte counts as sent when the stream below has taken it, as
without WebSocket; a deflated frame counts as a whole.

The invariant is that of `tls.TlsStream`: the first `held` bytes of the caller's buffer are framed but not
counted as sent. They may be masked, or deflated, so they must not change.

*In.* One `recv` of the stream below per call. Pings are answered at once, if the frames before can leave.
After a close frame, or a fault of the server, our own close frame follows, and nothing after it is read.
Data before it are returned first; the next call reports the end. SHUT_RD makes the socket readable, so that
the owner makes that call.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

from ...redact import drop_frames
from ..transport import NO_BUFFERS, Stream
from .errors import Fault
from .frames import CLOSE, MOST_DEFLATED, NORMAL, PLAIN_ENDS, PONG, Decoder, Encoder
from .upgrade import Upgrade as Upgrade

if TYPE_CHECKING:
    from ..tls import TlsStream

# The most bytes that are framed ahead of the stream below: the size of the write buffer's high-water mark.
_MOST_AHEAD = 1024 * 1024
# More are framed when no more than these wait: each refill copies what is left.
_REFILL = 128 * 1024
# Unsent bytes above which only the last ping of a read is answered, which RFC 6455 permits (5.5.3): a peer
# that sends pings and reads nothing would fill the memory with our pongs.
_PONG_FLOOD = 64 * 1024


class WsStream:
    """A stream in which a WebSocket connection is asked for, and then used.

    Call `begin` once, then `handshake` when the socket is readable, until it returns True.
    """

    __slots__ = (
        "_begun",
        "_below",
        "_counted",
        "_decoder",
        "_early",
        "_encoder",
        "_ended",
        "_fault",
        "_frames",
        "_most",
        "_pid",
        "_sock",
        "_upgrade",
        "_wire",
        "handshaking",
        "held",
    )
    direct = False
    framed = True

    def __init__(self, below: Stream | TlsStream, upgrade: Upgrade, most: int) -> None:
        """Use a connected stream, under TLS or not, whose own handshake is complete.

        Args:
            below: `close` closes it.
            upgrade: the request.
            most: bytes that a deflated message may inflate to.
        """
        self._below = below
        self._upgrade = upgrade
        self._most = most
        self._wire = bytearray()  # what the stream below has not taken, or has not counted as sent
        # (size, bytes of the caller's buffer, bytes before these) of each frame that is not wholly sent.
        self._frames: deque[tuple[int, int, int]] = deque()
        self._begun = 0  # how many bytes of the first frame are sent
        self._counted = 0  # how many of the caller's bytes in it are
        self._early = b""  # what has come together with the answer
        self._decoder: Decoder | None = None
        self._encoder: Encoder | None = None
        self._fault: Fault | None = None
        self._ended = False  # by a close frame, of the server or ours
        self._pid = os.getpid()
        self.handshaking = True
        self.held = 0

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._below.fileno()

    @property
    def sock(self) -> socket.socket:
        """The connected socket."""
        return self._below.sock

    @property
    def secure(self) -> bool:
        """Whether TLS is below."""
        return self._below.secure

    @property
    def peer(self) -> str:
        """As that of `transport.Stream`."""
        return self._below.peer

    @property
    def local(self) -> str:
        """As that of `transport.Stream`."""
        return self._below.local

    @property
    def version(self) -> str | None:
        """As that of `tls.TlsStream`."""
        return self._below.version

    @property
    def cipher(self) -> str | None:
        """As that of `tls.TlsStream`."""
        return self._below.cipher

    @property
    def masked(self) -> bool:
        """Whether the frames of this client are masked."""
        return self._upgrade.masked

    @property
    def compressed(self) -> bool:
        """Whether both sides may deflate."""
        return self._upgrade.deflate

    @property
    def unsent(self) -> bool:
        """Whether bytes wait for the socket to be writable."""
        return bool(self._wire) or self._below.unsent

    @property
    def backlog(self) -> int:
        """How many bytes wait for that."""
        return len(self._wire) + self._below.backlog

    def begin(self) -> None:
        """Ask for the connection. Raises OSError."""
        self._append_own(self._upgrade.request)
        self._push_own()

    def handshake(self) -> bool:
        """Read a part of the answer. Return whether it is complete. Raises OSError, `Fault` for a refusal."""
        data = self._below.recv()
        if data is None:
            return False
        if not data:
            raise self._upgrade.ended()
        early = self._upgrade.feed(data)
        if early is None:
            return False
        self._early = early
        self._encoder = Encoder(self._upgrade.deflate, self._upgrade.masked)
        self._decoder = Decoder(self._upgrade.deflate, self._most)
        self.handshaking = False
        return True

    def limit(self, theirs: int, ours: int) -> None:
        """Set to how many bytes the server, and this client, may inflate a message."""
        if self._encoder is not None and self._decoder is not None:
            self._encoder.piece = min(MOST_DEFLATED, theirs)
            self._decoder.most = ours

    def recv(self) -> bytes | None:
        """Read once. Return the payload, b"" at the end of the stream, None if there is nothing to read.

        Raises OSError: what the stream below raises, or `Fault`.
        """
        if self._ended:
            return self._end()
        data: bytes | None = self._early
        if data:
            self._early = b""
        else:
            data = self._below.recv()
            if not data:
                return data
        decoder = self._decoder
        assert decoder is not None
        payload: list[bytes] = []
        try:
            decoder.feed(data, payload)
        except Fault as exc:
            drop_frames(exc)  # they hold this object
            self._fault = exc
            if not self._ended:
                self._close_with(exc.code)
        if decoder.replies or decoder.closed is not None:
            self._answer(decoder)
        if payload:
            if self._ended:
                # The owner must call again for the end, although no more bytes may come.
                with contextlib.suppress(OSError):
                    self.sock.shutdown(socket.SHUT_RD)
            return payload[0] if len(payload) == 1 else b"".join(payload)
        return self._end() if self._ended else None

    def _end(self) -> bytes:
        if self._fault is not None:
            raise self._fault
        return b""

    def send(self, data: Any) -> int:
        """Frame what is new of data, up to the bound, and offer all frames to the stream below in one call.

        Args:
            data: all unsent bytes. The first `held` ones must be the same as in the last call.

        Returns:
            How many bytes of data are sent.

        Raises:
            OSError: of the stream below.
        """
        ready = self._encoder is not None and not self._ended
        if ready and len(data) > self.held and len(self._wire) <= _REFILL:
            assert self._encoder is not None
            fresh = memoryview(data)[self.held : self.held + _MOST_AHEAD]
            self._frames += self._encoder.message(self._wire, fresh)
            self.held += len(fresh)
        return self._push()

    def close(self) -> None:
        """Send a close frame if the socket takes it, and close the stream below. Stop its watchers before."""
        # Not in a forked child: the connection is the parent's.
        if (
            not self.handshaking
            and not self.unsent
            and not self._ended
            and self._pid == os.getpid()
        ):
            self._close_with(NORMAL)
        self._fault = None  # its frames may hold this object
        self._below.close()

    def _answer(self, decoder: Decoder) -> None:
        """Send the control frames that the server's ask for."""
        empty = not self._wire
        while decoder.replies:
            opcode, payload = decoder.replies.popleft()
            flooded = opcode == PONG and decoder.replies and len(self._wire) > _PONG_FLOOD
            if not self._ended and not flooded:
                self._append_control(opcode, payload)
        if decoder.closed is not None:
            self._ended = True
            if decoder.closed.code not in PLAIN_ENDS:
                self._fault = Fault(decoder.closed)
        if empty:
            with contextlib.suppress(OSError):
                self._push()

    def _close_with(self, code: int) -> None:
        empty = not self._wire
        self._append_control(CLOSE, code.to_bytes(2, "big"))
        self._ended = True
        if empty:
            with contextlib.suppress(OSError):
                self._push()

    def _append_control(self, opcode: int, payload: bytes) -> None:
        assert self._encoder is not None
        self._frames.append(self._encoder.control(self._wire, opcode, payload))

    def _append_own(self, data: bytes) -> None:
        """Append bytes that are none of the caller's."""
        self._wire += data
        self._frames.append((len(data), 0, len(data)))

    def _push_own(self) -> None:
        """Offer what is not the caller's. What the kernel does not take is `unsent`."""
        try:
            self._push()
        except OSError as exc:
            if exc.errno not in NO_BUFFERS:
                raise

    def _push(self) -> int:
        """Offer all frames to the stream below in one call. Return how many bytes of the caller are sent."""
        wire = self._wire
        if not wire and not self._below.unsent:
            return 0
        taken = self._below.send(wire)
        if not taken:
            return 0
        if taken == len(wire):
            wire.clear()
            self._frames.clear()
            self._begun = self._counted = 0
            gone, self.held = self.held, 0
            return gone
        del wire[:taken]
        return self._count(taken)

    def _count(self, taken: int) -> int:
        """Return how many of the caller's bytes are sent, after the stream below took a part."""
        frames, gone = self._frames, 0
        taken += self._begun
        while frames[0][0] <= taken:
            size, plain, _ = frames.popleft()
            taken -= size
            gone += plain - self._counted
            self._counted = 0
        self._begun = taken
        size, plain, before = frames[0]
        part = max(0, taken - before) - self._counted
        self._counted += part
        gone += part
        self.held -= gone
        return gone
