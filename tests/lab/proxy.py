"""A TCP proxy for tests that can split, delay, stall, cut, reset and record what passes.

Runs in a thread of its own; every control may be used while connections are open.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

UP, DOWN = "up", "down"  # to the server, to the client


@dataclass(eq=False)
class Link:
    """One direction of one connection."""

    direction: str
    source: socket.socket
    target: socket.socket
    waiting: bytearray = field(default_factory=bytearray)
    due: float = 0.0
    passed: int = 0
    ended: bool = False


class Proxy:
    """Listens on a free port and forwards to (host, port)."""

    host = "127.0.0.1"

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._target = (host, port)
        self._listener = socket.create_server((self.host, 0))
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])
        self.connections = 0
        self.recorded: dict[str, bytearray] = {UP: bytearray(), DOWN: bytearray()}
        self.chunk = 65536  # bytes per write
        self.delay = 0.0  # seconds before each write
        self.slow = {UP, DOWN}  # what these two are for
        self.stalled: set[str] = set()
        self.cut_after: dict[str, int] = {}  # bytes per connection and direction, then the cut
        self.recording = True
        self.cuts_left = -1  # how often that happens; -1: always
        self.cut_by_reset = False
        self.refuse = False  # new connections are closed at once
        self._links: list[Link] = []
        self._lock = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Return where clients connect to."""
        return f"nats://{self.host}:{self.port}"

    @property
    def open_connections(self) -> int:
        """How many pass now."""
        return len(self._links) // 2

    def retarget(self, port: int) -> None:
        """Let new connections go elsewhere."""
        self._target = (self._target[0], port)

    def stall(self, *directions: str) -> None:
        """Forward nothing any more, and keep everything open."""
        self.stalled.update(directions or (UP, DOWN))

    def resume(self) -> None:
        """Undo `stall`."""
        self.stalled.clear()

    def cut(self, reset: bool = False) -> None:
        """End all connections, with FIN or RST."""
        with self._lock:
            for link in list(self._links):
                self._close(link, reset)

    def close(self) -> None:
        """End everything."""
        self._closing = True
        self._thread.join(5)
        self.cut()
        self._listener.close()

    def _run(self) -> None:
        while not self._closing:
            with self._lock:
                busy = self._accept()
                for link in list(self._links):
                    if link in self._links:
                        busy |= self._forward(link)
            if not busy:
                self._wait()

    def _wait(self) -> None:
        with selectors.DefaultSelector() as selector, contextlib.suppress(OSError, ValueError):
            selector.register(self._listener, selectors.EVENT_READ)
            for link in self._links:
                if not link.ended and not link.waiting and link.direction not in self.stalled:
                    selector.register(link.source, selectors.EVENT_READ)
            selector.select(0.002)

    def _accept(self) -> bool:
        try:
            client, _ = self._listener.accept()
        except BlockingIOError:
            return False
        self.connections += 1
        if self.refuse:
            client.close()
            return True
        try:
            server = socket.create_connection(self._target, 5)
        except OSError:
            client.close()
            return True
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._links += [Link(UP, client, server), Link(DOWN, server, client)]
        return True

    def _forward(self, link: Link) -> bool:
        if link.direction in self.stalled:
            return False
        slow = link.direction in self.slow
        chunk, delay = (self.chunk, self.delay) if slow else (65536, 0.0)
        try:
            if not link.waiting and not link.ended:
                data = link.source.recv(65536)
                if not data:
                    self._close(link, False)
                    return True
                if self.recording:
                    self.recorded[link.direction] += data
                link.waiting += data
                link.due = time.monotonic() + delay
            if not link.waiting or time.monotonic() < link.due:
                return False
            limit = self.cut_after.get(link.direction) if self.cuts_left else None
            room = chunk if limit is None else min(chunk, limit - link.passed)
            sent = link.target.send(link.waiting[:room]) if room > 0 else 0
            link.passed += sent
            link.due = time.monotonic() + delay
            del link.waiting[:sent]
            if limit is not None and link.passed >= limit:
                self.cuts_left -= self.cuts_left > 0
                self._close(link, self.cut_by_reset)
            return True
        except BlockingIOError:
            return False
        except OSError:
            self._close(link, False)
            return True

    def _close(self, link: Link, reset: bool) -> None:
        pair = {link.source, link.target}
        self._links = [other for other in self._links if other.source not in pair]
        for sock in pair:
            if reset:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
