"""The socket of one connection: opening, reading, writing.

Non-blocking, no loop: whoever owns a stream watches its descriptor.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

# Measured: larger reads cost more in copied tails than they save in calls.
READ_SIZE = 64 * 1024
# A host program may not have Python's SIGPIPE setting; 0 where the flag does not exist.
NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
# Means that the peer has gone while the other direction may still hold its last words.
BROKEN_PIPE = frozenset({errno.EPIPE, errno.ECONNRESET})
# The kernel is out of buffers and will not say when it has some again.
NO_BUFFERS = frozenset({errno.ENOBUFS, errno.ENOMEM})


class Stream:
    """A connected non-blocking socket. What `secure` and the like mean is in `tls.TlsStream`."""

    __slots__ = ("_recv", "_send", "sock")
    secure = False
    handshaking = False
    unsent = False
    held = 0

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._recv = sock.recv
        self._send = sock.send

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self.sock.fileno()

    def recv(self) -> bytes | None:
        """What one read gives: None when nothing is there, empty at the end. Raises OSError."""
        try:
            return self._recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return None

    def send(self, data: Any) -> int:
        """Hand as much to the kernel as it takes, in one call; returns how much. Raises OSError."""
        try:
            return self._send(data, NO_SIGNAL)
        except (BlockingIOError, InterruptedError):
            return 0

    def close(self) -> None:
        """Stop the watchers first."""
        self.sock.close()


def open_socket(family: int, keepalive: int) -> socket.socket:
    """A non-blocking stream socket; keepalive is in seconds of idleness, 0 for none."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            set_keepalive(sock, keepalive)
    except BaseException:
        sock.close()
        raise
    return sock


def set_keepalive(sock: socket.socket, seconds: int) -> None:
    """Ask the kernel to probe a connection that has been idle for so long."""
    if seconds <= 0:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)
    if idle is not None:
        sock.setsockopt(socket.IPPROTO_TCP, idle, seconds)
