"""One connection's socket: opening, reading, writing.

Non-blocking, without a loop: the owner of a stream watches its descriptor, and calls `recv` or `send`
when the descriptor is readable or writable.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from .native import new_socket, socket_of

# From libev's ev.h: what the owner watches a descriptor for.
EV_READ = 0x01
EV_WRITE = 0x02
# Measured: at 256 KiB the copy of the unfinished frame at the end costs 50 ns per message more.
READ_SIZE = 64 * 1024
# A host program may have set SIGPIPE to kill the process. 0 where the flag does not exist.
NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
# The kernel is out of buffers. No event says when it has some again.
NO_BUFFERS = frozenset({errno.ENOBUFS, errno.ENOMEM})


class Stream:
    """A connected non-blocking socket.

    The class attributes are those of `tls.TlsStream`, with the values of a stream that does not encrypt.
    """

    __slots__ = ("_recv", "_send", "sock")
    secure = False
    framed = False  # WebSocket
    direct = True  # C may read and write the descriptor
    version: str | None = None  # of TLS
    cipher: str | None = None
    handshaking = False
    unsent = False
    backlog = 0  # bytes of ciphertext that the kernel has not taken
    held = 0

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._recv = sock.recv
        self._send = sock.send

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self.sock.fileno()

    @property
    def peer(self) -> str:
        """The server's numeric address and port, or the path of its Unix socket; "" if it is gone."""
        return shown_address(self.sock.getpeername)

    @property
    def local(self) -> str:
        """Our own address, in the same way."""
        return shown_address(self.sock.getsockname)

    def recv(self) -> bytes | None:
        """Read once. Return the bytes, b"" at the end of the stream, None if there is nothing to read.

        Raises OSError.
        """
        try:
            return self._recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return None

    def send(self, data: Any) -> int:
        """Give data to the kernel in one call. Return how many bytes it took. Raises OSError."""
        try:
            return self._send(data, NO_SIGNAL)
        except (BlockingIOError, InterruptedError):
            return 0

    def close(self) -> None:
        """Close the socket. Its watchers must be stopped before."""
        self.sock.close()


def open_socket(family: int, keepalive: int) -> socket.socket:
    """Return a new non-blocking stream socket.

    Args:
        family: AF_INET, AF_INET6 or AF_UNIX.
        keepalive: seconds of idleness before the kernel's first TCP probe; 0: no probes.
    """
    sock = new_socket(family)
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
    """Let the kernel probe a connection that has been idle for so many seconds; 0: leave it."""
    if seconds <= 0:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)
    if idle is not None:
        sock.setsockopt(socket.IPPROTO_TCP, idle, seconds)


def set_user_timeout(sock: socket.socket, ms: int) -> None:
    """Let the kernel give up a connection whose sent bytes are not acknowledged for so many ms.

    0 leaves the kernel's own time. Raises OSError where the system has no TCP_USER_TIMEOUT.
    """
    if ms > 0:
        option = getattr(socket, "TCP_USER_TIMEOUT", None)
        if option is None:
            raise OSError("this system has no TCP_USER_TIMEOUT")
        sock.setsockopt(socket.IPPROTO_TCP, option, ms)


def adopt(sock: Any, keepalive: int, user_timeout: int) -> socket.socket:
    """Return a connected socket of somebody else's as the client uses one; the given object is closed.

    Args:
        sock: a stream socket of Python's, or of gevent's.
        keepalive, user_timeout: as for `open_socket` and `set_user_timeout`; for TCP only.

    Raises:
        TypeError: it is something else.
        OSError: it is not connected. It has been closed.
    """
    if not callable(getattr(sock, "detach", None)) or not hasattr(sock, "getpeername"):
        raise TypeError(f"a connected socket is wanted, not {type(sock).__name__}")
    if hasattr(sock, "getpeercert"):
        raise TypeError("a plain socket is wanted, not one with TLS: the client encrypts it itself")
    fd = sock.detach()
    if fd < 0:
        raise OSError("the socket is closed")
    try:
        own = socket_of(fd)
    except BaseException:
        os.close(fd)
        raise
    try:
        if own.type != socket.SOCK_STREAM:
            raise TypeError(f"a stream socket is wanted, not {own.type!r}")
        own.setblocking(False)
        own.getpeername()
        if own.family in (socket.AF_INET, socket.AF_INET6):
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            set_keepalive(own, keepalive)
            set_user_timeout(own, user_timeout)
    except BaseException:
        own.close()
        raise
    return own


def os_error(number: int) -> OSError:
    """Return the exception for an errno; its class is that of Python's own, such as ConnectionResetError."""
    return OSError(number, os.strerror(number))


def shown_address(ask: Callable[[], Any]) -> str:
    """Return an address of a socket as text.

    Args:
        ask: getpeername or getsockname of the socket.
    """
    try:
        address = ask()
    except OSError:  # the peer is gone
        return ""
    if isinstance(address, tuple):
        if not isinstance(address[0], str):  # VSOCK: two numbers, of a virtual machine and its port
            return ":".join(str(part) for part in address)
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        return f"{host}:{address[1]}"
    return os.fsdecode(address)
