"""TLS over one connection's socket, and the context that its options describe.

`TlsStream` has the interface of `transport.Stream`: it encrypts into memory and makes one call to the
kernel per `send`, however many records that are. Non-blocking, no loop, nothing of NATS.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque
from typing import Any

from .. import errors
from .transport import NO_BUFFERS, NO_SIGNAL, READ_SIZE

try:
    import ssl

    HAS_TLS = True
except ImportError:  # pragma: no cover - a Python built without OpenSSL: all else still works
    HAS_TLS = False

# What one record holds at most; OpenSSL makes one record of each write up to this size.
RECORD_SIZE = 16 * 1024
# Ciphertext that one send may offer to the kernel: as much plaintext as the write buffer's mark.
_MOST = 1024 * 1024


class TruncatedError(OSError):
    """The TCP connection ended without TLS's own end: somebody may have cut it."""

    def __init__(self) -> None:
        super().__init__("TLS connection was cut off (no close_notify)")


class TlsStream:
    """A connected non-blocking socket under TLS. Call `handshake` until it is True, first of all.

    What `send` has encrypted can't be unsaid: `held` bytes at the front of the caller's buffer are in
    records of which the kernel has not yet taken every byte. They must stay where they are, and count
    as unsent: should the connection break, the server can't have read them.
    """

    __slots__ = (
        "_begun",
        "_cipher",
        "_closed_by_peer",
        "_error",
        "_incoming",
        "_outgoing",
        "_pid",
        "_records",
        "_sock",
        "_tls",
        "handshaking",
        "held",
    )
    secure = True

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        hostname: str | None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """hostname is what the certificate must be for; it is sent (SNI) when it is no IP address."""
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=hostname, session=session
        )
        self._cipher = b""  # what the kernel has not taken yet
        self._records: deque[tuple[int, int]] = deque()  # their sizes: ciphertext, plaintext
        self._begun = 0  # bytes that the kernel has of the first of them
        self._closed_by_peer = False
        self._error: OSError | None = None
        self._pid = os.getpid()
        self.handshaking = True
        self.held = 0

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._sock.fileno()

    @property
    def unsent(self) -> bool:
        """Whether ciphertext waits for the socket to be writable."""
        return bool(self._cipher)

    @property
    def context(self) -> ssl.SSLContext:
        """What it was made with."""
        return self._tls.context

    @property
    def hostname(self) -> str | None:
        """What the server's certificate is for."""
        return self._tls.server_hostname

    @property
    def session(self) -> ssl.SSLSession | None:
        """What the next connection to this server may resume."""
        return None if self.handshaking else self._tls.session

    @property
    def resumed(self) -> bool:
        """Whether the handshake has resumed an earlier session."""
        return bool(self._tls.session_reused)

    @property
    def version(self) -> str | None:
        """Such as "TLSv1.3"."""
        return self._tls.version()

    def handshake(self) -> bool:
        """Go on with the handshake as far as possible without waiting; True when it is complete.

        Raises OSError (`ssl.SSLError` is one).
        """
        open_ = self._pull()
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._push_own()
            if not open_:
                raise TruncatedError from None
            return False
        except ssl.SSLError:
            with contextlib.suppress(OSError):
                self._push_own()  # the alert that tells the server why
            raise
        self.handshaking = False
        self._push_own()
        return True

    def recv(self) -> bytes | None:
        """What one read gives, decrypted: None when nothing is there, empty at the end.

        Raises OSError: what the socket raises, `ssl.SSLError`, or `TruncatedError`.
        """
        if self._error is not None:
            raise self._error
        open_ = self._pull()
        chunks = []
        try:
            # Each call takes all of one record, so nothing is ever left decrypted in the engine.
            while self._incoming.pending:
                chunk = self._tls.read(RECORD_SIZE)
                if not chunk:
                    self._closed_by_peer = True
                    break
                chunks.append(chunk)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as exc:
            self._error = exc
        if self._outgoing.pending:  # an answer of TLS itself, to a change of keys or as an alert
            with contextlib.suppress(OSError):
                self._push_own()
        if chunks:
            if self._closed_by_peer or self._error is not None:
                # The end, or the error, comes after the data, although no more bytes may come.
                with contextlib.suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RD)
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if self._error is not None:
            raise self._error
        if self._closed_by_peer:
            return b""
        if not open_:
            raise TruncatedError
        return None

    def send(self, data: Any) -> int:
        """Encrypt what is new of data, as far as it seems sensible; hand ciphertext to the kernel, once.

        The first `held` bytes of data must be those of the last call. Returns how many bytes are gone:
        those in records that the kernel has taken whole. Raises OSError.
        """
        self._note_own()
        room = _MOST - len(self._cipher)
        if room > 0 and len(data) > self.held:
            self._encrypt(memoryview(data)[self.held : self.held + room])
        return self._push()

    def close(self) -> None:
        """Stop the watchers first. Says good-bye (close_notify) if the socket takes it."""
        # Not in a forked child: the connection is the parent's.
        if not self.handshaking and not self._cipher and self._pid == os.getpid():
            with contextlib.suppress(OSError):
                self._tls.unwrap()
            with contextlib.suppress(OSError):
                self._push_own()
        self._sock.close()

    def _pull(self) -> bool:
        """Move what one read gives into the engine; False at the end of the TCP connection."""
        try:
            cipher = self._sock.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return True
        if cipher:
            self._incoming.write(cipher)
        return bool(cipher)

    def _encrypt(self, data: memoryview) -> None:
        write, outgoing, records = self._tls.write, self._outgoing, self._records
        before = outgoing.pending
        for start in range(0, len(data), RECORD_SIZE):
            plain = write(data[start : start + RECORD_SIZE])
            after = outgoing.pending
            records.append((after - before, plain))
            before = after
            self.held += plain

    def _push_own(self) -> None:
        """Offer to the kernel what TLS itself has to say; what it has no room for is `unsent`."""
        self._note_own()
        try:
            self._push()
        except OSError as exc:
            if exc.errno not in NO_BUFFERS:
                raise

    def _note_own(self) -> None:
        """What waits in the engine carries nothing of the caller's."""
        if self._outgoing.pending:
            self._records.append((self._outgoing.pending, 0))

    def _push(self) -> int:
        """Offer the ciphertext to the kernel, in one call; returns the plaintext bytes that are gone."""
        if self._outgoing.pending:
            fresh = self._outgoing.read()
            self._cipher = self._cipher + fresh if self._cipher else fresh
        if not self._cipher:
            return 0
        try:
            taken = self._sock.send(self._cipher, NO_SIGNAL)
        except (BlockingIOError, InterruptedError):
            return 0
        if taken == len(self._cipher):
            self._cipher = b""
            self._records.clear()
            self._begun = 0
            gone, self.held = self.held, 0
            return gone
        self._cipher = self._cipher[taken:]
        return self._count(taken)

    def _count(self, taken: int) -> int:
        """The kernel took so many bytes, not all: find the records that are whole among them."""
        records, gone = self._records, 0
        taken += self._begun
        while records[0][0] <= taken:
            size, plain = records.popleft()
            taken -= size
            gone += plain
        self._begun = taken
        self.held -= gone
        return gone


def describe(exc: BaseException) -> str:
    """What went wrong, in words, without OpenSSL's source lines."""
    if HAS_TLS and isinstance(exc, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {exc.verify_message}"
    if HAS_TLS and isinstance(exc, ssl.SSLError) and exc.reason:
        return exc.reason.replace("_", " ").lower()
    return getattr(exc, "strerror", None) or str(exc)


def handshake_error(exc: OSError) -> errors.TlsError:
    """For what `TlsStream.handshake` raised."""
    text = "connection closed by the server" if isinstance(exc, TruncatedError) else describe(exc)
    error = errors.TlsError(f"SSL handshake failed: {text}")
    error.__cause__ = exc
    return error


def read_error(exc: OSError, connected: bool) -> errors.NatsError:
    """For what a stream's `recv` or `send` raised.

    Before the connection is up it may be the server's verdict on our certificate, which TLS 1.3 tells
    only then.
    """
    if HAS_TLS and isinstance(exc, ssl.SSLError) and not connected:
        return handshake_error(exc)
    error: errors.NatsError
    if isinstance(exc, TruncatedError):
        error = errors.UnexpectedEOFError(str(exc))
    else:
        error = errors.ConnectionLostError(describe(exc))
    error.__cause__ = exc
    return error
