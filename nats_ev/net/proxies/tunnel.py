"""The handshake with a proxy on a connected socket, before the socket is the connection's.

The bytes after the proxy's last word are the server's, who may speak first. So a `Tunnel` looks at what has
arrived (MSG_PEEK), asks its handshake how much of that is the proxy's, and reads no more. What is left stays
with the kernel, and the socket's next owner sees it in the ordinary way.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from ...loops import Io, Loop
from ...redact import drop_frames
from ..fork import make_dead_end
from ..refs import Refs
from ..transport import EV_READ, EV_WRITE, NO_SIGNAL
from .handshake import Handshake, Proxy
from .http import HttpConnect
from .socks import Socks5

# An answer is a few hundred bytes; what is longer is looked at in several portions.
_PORTION = 4096


def handshake_of(proxy: Proxy, host: str, port: int) -> Handshake:
    """Return the handshake that asks a proxy for a tunnel to a server. Raises `ProxyError`."""
    return (HttpConnect if proxy.scheme == "http" else Socks5)(proxy, host, port)


class Tunnel:
    """One handshake on one socket. Ends with exactly one call of done; with none after `cancel`."""

    def __init__(
        self,
        loop: Loop,
        refs: Refs,
        sock: socket.socket,
        handshake: Handshake,
        done: Callable[[socket.socket | Exception], None],
        priority: int = 0,
    ) -> None:
        """Make a tunnel; `begin` starts it.

        Args:
            loop: makes the watchers of the socket.
            refs: the client's.
            sock: connected and non-blocking. It is closed after an error and by `cancel`.
            handshake: with the proxy.
            done: called with the socket, or with the error: the handshake's, or an OSError.
            priority: of the watchers.
        """
        self._refs = refs
        self._sock: socket.socket | None = sock
        self._handshake = handshake
        self._done = done
        self._unsent = b""
        self._forked = False
        fd = sock.fileno()
        self._reader: Io = loop.io(fd, EV_READ, self._on_readable, None, priority)
        self._writer: Io = loop.io(fd, EV_WRITE, self._on_writable, None, priority)

    def begin(self) -> None:
        """Say the first word. done may be called before this returns."""
        self._refs.start(self._reader)
        self._do(self._greet)

    def cancel(self) -> None:
        """Stop the handshake, and close the socket. done is not called."""
        sock = self._release()
        if sock is not None:
            sock.close()

    def forked(self) -> None:
        """Replace the socket by a dead end in the child of a fork; see `fork`."""
        self._forked = True
        if self._sock is not None:
            make_dead_end(self._sock.fileno())

    def _release(self) -> socket.socket | None:
        """Stop the watchers, and let go of the socket."""
        sock, self._sock = self._sock, None
        self._refs.stop(self._reader)
        self._refs.stop(self._writer)
        return sock

    def _do(self, step: Callable[[], None]) -> None:
        """Make a step, and tell the owner if it was the last one."""
        if self._forked:
            self.cancel()
            return
        try:
            step()
        except Exception as exc:  # of the socket, or of the handshake
            drop_frames(exc)  # they hold this object, and what was said
            self.cancel()
            self._done(exc)
            return
        if self._handshake.done:
            sock = self._release()
            assert sock is not None
            self._done(sock)

    def _on_writable(self, watcher: Any, revents: int) -> None:
        self._do(self._send)

    def _on_readable(self, watcher: Any, revents: int) -> None:
        self._do(self._receive)

    def _greet(self) -> None:
        self._unsent = self._handshake.begin()
        self._send()

    def _send(self) -> None:
        assert self._sock is not None
        while self._unsent:
            try:
                sent = self._sock.send(self._unsent, NO_SIGNAL)
            except (BlockingIOError, InterruptedError):
                self._refs.start(self._writer)
                return
            self._unsent = self._unsent[sent:]
        self._refs.stop(self._writer)

    def _receive(self) -> None:
        """Take one portion of what has arrived."""
        assert self._sock is not None
        try:
            data = self._sock.recv(_PORTION, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        if not data:
            raise self._handshake.ended()
        taken, words = self._handshake.receive(data)
        self._sock.recv(taken)
        if words:
            self._unsent += words
            self._send()
