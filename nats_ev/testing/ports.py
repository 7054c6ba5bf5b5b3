"""Ports of this machine for servers that start later, or never."""

from __future__ import annotations

import socket
import sys

_held: list[socket.socket] = []


def free_port(held: bool = True) -> int:
    """Return a port of 127.0.0.1 on which nobody listens.

    On Linux a bound socket holds the port until this process ends. Connections to it are refused, and the
    kernel gives it to no other program by chance. A server that names the port can still listen there,
    because both sockets set SO_REUSEADDR.

    Args:
        held: False for a socket of the test's own that is to be bound there without SO_REUSEADDR.
    """
    sock = socket.socket()
    if held and sys.platform == "linux":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _held.append(sock)
    sock.bind(("127.0.0.1", 0))
    port = int(sock.getsockname()[1])
    if sock not in _held:
        sock.close()
    return port


def hold_port(host: str, port: int) -> socket.socket | None:
    """Return a socket that keeps a port for a server that starts there soon, None where that can't be done.

    Its owner closes it when the server listens.
    """
    if sys.platform != "linux":
        return None
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        return None
    return sock
