"""TLS over one connection's socket. Non-blocking, without a loop; nothing of NATS here.

Theory of operation
-------------------
`ssl.SSLSocket` makes one call to the kernel per record of 16 KiB, and after a partial write it must
be called again with the same bytes. The client promises one `send` per loop turn, and its write
buffer may change between two calls. So `TlsStream` has the interface of `transport.Stream`, but
OpenSSL sees only memory:

    plaintext → SSLObject.write → MemoryBIO `_outgoing` → `_cipher` → one send → kernel
    kernel → one recv → MemoryBIO `_incoming` → SSLObject.read → plaintext

*Out.* `send` encrypts what is new of the caller's buffer, at most 1 MiB of ciphertext ahead of the
kernel, and offers all ciphertext in one call. `_records` keeps the sizes of the records that are not
wholly sent, ciphertext and plaintext, because the accounting needs to know which *plaintext* bytes
are gone: those in records that the kernel has taken to the last byte. If the connection breaks, the
server cannot have decrypted the others.

The invariant: the first `held` bytes of the caller's buffer are encrypted but not counted as sent.
The next `send` must begin with the same bytes, so the caller pins them (`Outbound.pin`). They count
as unsent, and are sent again over the next connection.

TLS itself may write, too: handshake, alerts, answers to a change of keys. Such bytes have a record
with no plaintext (`_note_own`), so that the order is right.

*In.* One `recv` per call, and then every record that is complete. Nothing stays decrypted in OpenSSL,
because no event of the loop would tell of it. A truncated stream (end of TCP without close_notify) is
an error, `TruncatedError`: an attacker could cut the connection. Data before the end or before an
error are returned first; the next call reports the end or the error. SHUT_RD makes the socket
readable, so that the owner makes that call.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections import deque
from typing import Any

from ..redact import drop_frames
from .tls_errors import TruncatedError
from .transport import NO_BUFFERS, NO_SIGNAL, READ_SIZE, shown_address

# The most plaintext in one record. OpenSSL makes one record of each write up to this size.
RECORD_SIZE = 16 * 1024
# The most ciphertext that is encrypted ahead of the kernel: the size of the write buffer's
# high-water mark.
_MOST_AHEAD = 1024 * 1024


class TlsStream:
    """A connected non-blocking socket under TLS.

    Call `handshake` until it returns True, before anything else. `handshaking` is true until then.
    `held` is how many bytes at the front of the caller's buffer are encrypted and not yet sent: they
    must stay unchanged.
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
    framed = False
    direct = False

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        hostname: str | None,
    ) -> None:
        """Wrap a connected socket; nothing is sent before `handshake`.

        Args:
            sock: connected and non-blocking. `close` closes it.
            context: decides whom to trust.
            hostname: what the certificate must be for. A name, not an IP address, is also sent (SNI).
        """
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        # Without the session of an earlier connection. CPython leaks 5.6 kB each time a session is read
        # (measured with 3.10 to 3.13). And a resumed session does not verify again: it would survive a
        # change of what to trust, or of our certificate.
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        self._cipher = b""  # ciphertext that the kernel has not taken yet
        # (size of the ciphertext, size of the plaintext) of each record that is not wholly sent.
        self._records: deque[tuple[int, int]] = deque()
        self._begun = 0  # how many bytes of the first record the kernel has taken
        self._closed_by_peer = False
        self._error: OSError | None = None
        self._pid = os.getpid()
        self.handshaking = True
        self.held = 0

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._sock.fileno()

    @property
    def sock(self) -> socket.socket:
        """The connected socket."""
        return self._sock

    @property
    def peer(self) -> str:
        """As that of `transport.Stream`."""
        return shown_address(self._sock.getpeername)

    @property
    def local(self) -> str:
        """As that of `transport.Stream`."""
        return shown_address(self._sock.getsockname)

    @property
    def cipher(self) -> str | None:
        """The name of the cipher suite; None before the handshake."""
        suite = self._tls.cipher()
        return suite[0] if suite else None

    @property
    def unsent(self) -> bool:
        """Whether ciphertext waits for the socket to be writable."""
        return bool(self._cipher)

    @property
    def backlog(self) -> int:
        """How many bytes of ciphertext the kernel has not taken."""
        return len(self._cipher)

    @property
    def context(self) -> ssl.SSLContext:
        """The context that the stream was made with."""
        return self._tls.context

    @property
    def hostname(self) -> str | None:
        """The name that the server's certificate must be for."""
        return self._tls.server_hostname

    @property
    def resumed(self) -> bool:
        """Whether the handshake has resumed an earlier session; no connection of ours does."""
        return bool(self._tls.session_reused)

    @property
    def version(self) -> str | None:
        """The version of the protocol, such as "TLSv1.3"; None before the handshake."""
        return self._tls.version()

    def handshake(self) -> bool:
        """Go on with the handshake as far as possible without waiting. Return whether it is complete.

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
                self._push_own()  # the alert that tells the server the reason
            raise
        self.handshaking = False
        self._push_own()
        return True

    def recv(self) -> bytes | None:
        """Read once. Return the decrypted bytes, b"" at the end of the stream, None if there is
        nothing to read.

        Raises OSError: what the socket raises, `ssl.SSLError`, or `TruncatedError`.
        """
        if self._error is not None:
            raise self._error
        open_ = self._pull()
        chunks = []
        try:
            # Each call takes all of one record, so nothing stays decrypted in OpenSSL.
            while self._incoming.pending:
                chunk = self._tls.read(RECORD_SIZE)
                if not chunk:
                    self._closed_by_peer = True
                    break
                chunks.append(chunk)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as exc:
            drop_frames(exc)  # they hold this object
            self._error = exc
        if self._outgoing.pending:  # TLS itself answers: a change of keys, an alert
            with contextlib.suppress(OSError):
                self._push_own()
        if chunks:
            if self._closed_by_peer or self._error is not None:
                # The owner must call again for the end or the error, although no more bytes may come.
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
        """Encrypt what is new of data, up to the bound, and give ciphertext to the kernel in one call.

        Args:
            data: all unsent bytes. The first `held` ones must be the same as in the last call.

        Returns:
            How many bytes of data are sent: those in records that the kernel has taken to the last byte.

        Raises:
            OSError: the socket's error.
        """
        self._note_own()
        room = _MOST_AHEAD - len(self._cipher)
        if room > 0 and len(data) > self.held:
            self._encrypt(memoryview(data)[self.held : self.held + room])
        return self._push()

    def close(self) -> None:
        """Send close_notify if the socket takes it, and close the socket. Stop its watchers before."""
        # Not in a forked child: the connection is the parent's.
        if not self.handshaking and not self._cipher and self._pid == os.getpid():
            with contextlib.suppress(OSError):
                self._tls.unwrap()
            with contextlib.suppress(OSError):
                self._push_own()
        self._error = None  # its frames may hold this object
        self._sock.close()

    def _pull(self) -> bool:
        """Read ciphertext once, for OpenSSL. Return False at the end of the TCP connection."""
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
        """Offer what TLS itself has written to the kernel. What the kernel does not take is `unsent`.

        While bytes of the caller wait, TLS's own join them: only `send` can say that the caller's are gone.
        """
        self._note_own()
        if self.held:
            self._cipher += self._outgoing.read()
            return
        try:
            self._push()
        except OSError as exc:
            if exc.errno not in NO_BUFFERS:
                raise

    def _note_own(self) -> None:
        """Record what TLS itself has written as ciphertext without plaintext."""
        if self._outgoing.pending:
            self._records.append((self._outgoing.pending, 0))

    def _push(self) -> int:
        """Offer the ciphertext to the kernel in one call. Return how many plaintext bytes are sent."""
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
        """Return how many plaintext bytes are sent, after the kernel took a part of the ciphertext."""
        records, gone = self._records, 0
        taken += self._begun
        while records[0][0] <= taken:
            size, plain = records.popleft()
            taken -= size
            gone += plain
        self._begun = taken
        self.held -= gone
        return gone
