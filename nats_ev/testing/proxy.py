"""A proxy that cuts, refuses, stalls, delays, splits and records what passes between client and server."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

from .waiting import seconds

Self = TypeVar("Self", bound="CuttingProxy")

UP, DOWN = "up", "down"  # to the server, to the client
_CHUNK = 65536


@dataclass(eq=False)
class _Way:
    """One direction of one connection."""

    direction: str
    source: socket.socket
    target: socket.socket
    waiting: bytearray = field(default_factory=bytearray)
    due: float = 0.0
    passed: int = 0
    ended: bool = False


@dataclass
class _Limit:
    """After how many bytes of a connection in one direction the connection is cut."""

    size: int
    times: int | None
    reset: bool


class CuttingProxy:
    """A TCP proxy on a free port of 127.0.0.1, in a thread of its own. Use it as a context manager.

    All methods may be called while connections are open, by any thread. Directions are `UP`, to the server,
    and `DOWN`, to the client; where none is given, both are meant.

    Attributes:
        host: 127.0.0.1.
        port: of the clients.
        connections: how many have been accepted so far.
        recorded: what has come from the client (`UP`) and from the server (`DOWN`), all connections together.
        recording: whether it is kept. A test of much traffic says False.

    Args:
        server: a `Server`, or anything that has `host` and `port`; a URL; or a port.
        host: of the server, if server is a port.
    """

    host = "127.0.0.1"

    def __init__(self, server: int | str | Any, host: str = "127.0.0.1") -> None:
        self._scheme = "nats"
        self._options = dict(getattr(server, "options", {}))
        if isinstance(server, str):
            parts = urlsplit(server if "//" in server else f"nats://{server}")
            self._scheme = parts.scheme
            self._target = (parts.hostname or host, parts.port or 4222)
        elif isinstance(server, int):
            self._target = (host, server)
        else:
            self._scheme = str(getattr(server, "url", "nats:")).partition(":")[0]
            self._target = (server.host, server.port)
        self._listener = socket.create_server((self.host, 0))
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])
        self.connections = 0
        self.recorded: dict[str, bytearray] = {UP: bytearray(), DOWN: bytearray()}
        self.recording = True
        self._chunks = {UP: _CHUNK, DOWN: _CHUNK}
        self._delays = {UP: 0.0, DOWN: 0.0}
        self._limits: dict[str, _Limit] = {}
        self._stalled: set[str] = set()
        self._refusing = False
        self._ways: list[_Way] = []
        self._lock = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="cutting proxy", daemon=True)
        self._thread.start()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        host, port = self._target
        return f"<{type(self).__name__} {self.url} to {host}:{port}, {self.open_connections} open>"

    @property
    def url(self) -> str:
        """Return where clients connect to."""
        return f"{self._scheme}://{self.host}:{self.port}"

    @property
    def options(self) -> dict[str, Any]:
        """Return what a client needs to connect: ``Nats(**proxy.options)``."""
        return self._options | {"servers": [self.url]}

    @property
    def open_connections(self) -> int:
        """Return how many connections pass now."""
        return len(self._ways) // 2

    def retarget(self, port: int) -> None:
        """Let new connections go to another port."""
        self._target = (self._target[0], port)

    def cut(self, reset: bool = False) -> None:
        """End all connections that are open; new ones are accepted.

        Args:
            reset: True: with RST, as when a machine fails; False: with FIN, as when a program ends.
        """
        with self._lock:
            for way in list(self._ways):
                self._close(way, reset)

    def refuse(self) -> None:
        """Close new connections at once, until `accept` or `resume`. Open ones stay."""
        self._refusing = True

    def accept(self) -> None:
        """Accept connections again after `refuse`."""
        self._refusing = False

    def stall(self, *directions: str) -> None:
        """Forward nothing any more, and keep everything open, until `resume`. New connections stall, too."""
        self._stalled.update(_checked(directions))

    def delay(self, ms: float | timedelta, *directions: str) -> None:
        """Wait so long before each write; 0: write at once again.

        Args:
            ms: milliseconds, or a timedelta.
            directions: default: both.
        """
        self._delays.update(dict.fromkeys(_checked(directions), seconds(ms)))

    def split(self, size: int, *directions: str) -> None:
        """Forward at most so many bytes in one write.

        Args:
            size: bytes; 1 is the hardest test of a parser.
            directions: default: both.
        """
        if size < 1:
            raise ValueError(f"size must be 1 or more, not {size}")
        self._chunks.update(dict.fromkeys(_checked(directions), size))

    def limit(
        self, size: int | None, *directions: str, times: int | None = None, reset: bool = False
    ) -> None:
        """Cut each connection when so many of its bytes have passed.

        Args:
            size: bytes of a connection, counted from its beginning; None: no limit any more.
            directions: default: both, each counted by itself.
            times: how often a connection is cut; None: always.
            reset: as for `cut`.
        """
        with self._lock:
            for direction in _checked(directions):
                if size is None:
                    self._limits.pop(direction, None)
                else:
                    self._limits[direction] = _Limit(size, times, reset)

    def resume(self) -> None:
        """Undo `refuse`, `stall`, `delay`, `split` and `limit`."""
        self.accept()
        self._stalled.clear()
        self.delay(0)
        self.split(_CHUNK)
        self.limit(None)

    def close(self) -> None:
        """End all connections and the proxy."""
        self._closing = True
        self._thread.join(5)
        self.cut()
        self._listener.close()

    def _run(self) -> None:
        while not self._closing:
            with self._lock:
                busy = self._accept()
                for way in list(self._ways):
                    if way in self._ways:
                        busy |= self._forward(way)
            if not busy:
                self._wait()

    def _wait(self) -> None:
        with selectors.DefaultSelector() as selector, contextlib.suppress(OSError, ValueError):
            selector.register(self._listener, selectors.EVENT_READ)
            for way in self._ways:
                if not way.ended and not way.waiting and way.direction not in self._stalled:
                    selector.register(way.source, selectors.EVENT_READ)
            selector.select(0.002)

    def _accept(self) -> bool:
        try:
            client, _ = self._listener.accept()
        except OSError:  # none is there, it has gone again, or there is no descriptor left
            return False
        self.connections += 1
        if self._refusing:
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
        self._ways += [_Way(UP, client, server), _Way(DOWN, server, client)]
        return True

    def _forward(self, way: _Way) -> bool:
        if way.direction in self._stalled:
            return False
        delay = self._delays[way.direction]
        try:
            if not way.waiting and not way.ended:
                data = way.source.recv(65536)
                if not data:
                    self._close(way, False)
                    return True
                if self.recording:
                    self.recorded[way.direction] += data
                way.waiting += data
                way.due = time.monotonic() + delay
            if not way.waiting or time.monotonic() < way.due:
                return False
            limit = self._limits.get(way.direction)
            chunk = self._chunks[way.direction]
            room = chunk if limit is None else min(chunk, limit.size - way.passed)
            sent = way.target.send(way.waiting[:room]) if room > 0 else 0
            way.passed += sent
            way.due = time.monotonic() + delay
            del way.waiting[:sent]
            if limit is not None and way.passed >= limit.size:
                self._cut_by_limit(way, limit)
            return True
        except BlockingIOError:
            return False
        except OSError:
            self._close(way, False)
            return True

    def _cut_by_limit(self, way: _Way, limit: _Limit) -> None:
        if limit.times is not None:
            limit.times -= 1
            if limit.times <= 0:
                del self._limits[way.direction]
        self._close(way, limit.reset)

    def _close(self, way: _Way, reset: bool) -> None:
        pair = {way.source, way.target}
        self._ways = [other for other in self._ways if other.source not in pair]
        for sock in pair:
            if reset:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()


def _checked(directions: tuple[str, ...]) -> tuple[str, ...]:
    """Return these directions, both if there are none. Raises ValueError for a word that is none."""
    for direction in directions:
        if direction not in (UP, DOWN):
            raise ValueError(f"a direction is 'up' or 'down', not {direction!r}")
    return directions or (UP, DOWN)
