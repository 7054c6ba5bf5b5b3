"""From a server's name to a connected socket, without ever blocking the loop.

Numeric addresses are used at once; names are looked up in a worker thread. All addresses are
tried, IPv6 and IPv4 in turn. Nothing of NATS here.
"""

from __future__ import annotations

import errno
import os
import random
import socket
import threading
from collections import deque
from collections.abc import Callable
from itertools import chain, zip_longest
from typing import Any

from .deadlines import Deadline, Deadlines
from .fork import make_dead_end
from .transport import open_socket

EV_WRITE = 0x02
# A Unix socket whose backlog is full says EAGAIN and gives no sign when there is room again.
_BACKLOG_RETRY = 0.02
# When there are several addresses, a silent one must not use up the time of the others.
_LEAST_TRY = 0.25

Address = tuple[int, Any]  # (family, sockaddr)
Lookup = Callable[[str, int], list[Address]]


def numeric_addresses(host: str, port: int) -> list[Address]:
    """The address when host is numeric, else nothing. Never blocks."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        return []
    return [(family, address) for family, _, _, _, address in found]


def look_up(host: str, port: int) -> list[Address]:
    """All addresses of host, families in turn. Blocks; raises OSError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as exc:
        raise OSError(f"invalid host name {host!r}") from exc
    by_family: dict[int, list[Address]] = {}
    for family, _, _, _, address in found:
        addresses = by_family.setdefault(family, [])
        if (family, address) not in addresses:
            addresses.append((family, address))
    return [a for a in chain.from_iterable(zip_longest(*by_family.values())) if a is not None]


def shuffled(addresses: list[Address]) -> list[Address]:
    """In random order within each family; the families keep their places."""
    by_family: dict[int, list[Address]] = {}
    for address in addresses:
        by_family.setdefault(address[0], []).append(address)
    for same in by_family.values():
        random.shuffle(same)
    return [by_family[family].pop() for family, _ in addresses]


def talks_to_itself(sock: socket.socket) -> bool:
    """Whether the kernel, looking for a port of ours, took the very one that nobody listens on.

    It happens while a local server is down, and would keep that server from getting its port back.
    """
    try:
        return sock.family != socket.AF_UNIX and sock.getsockname() == sock.getpeername()
    except OSError:  # broken again already; whoever reads learns of it
        return False


class Resolver:
    """Looks names up, each in one worker thread at a time however often it is asked for."""

    def __init__(self, loop: Any, look_up: Lookup = look_up) -> None:
        self._look_up = look_up
        # `async` is a keyword of the language, and yet the factory's name.
        self._wake = getattr(loop, "async")(self._on_wake)
        self._results: deque[tuple[tuple[str, int], list[Address] | OSError]] = deque()
        self._running: set[tuple[str, int]] = set()
        self._wanted: tuple[str, int] | None = None
        self._done: Callable[[list[Address] | OSError], None] | None = None

    def resolve(
        self, host: str, port: int, done: Callable[[list[Address] | OSError], None]
    ) -> None:
        """Call done on the loop, later. One at a time: a new call or `cancel` forgets the last."""
        self._wanted = key = (host, port)
        self._done = done
        self._wake.start()
        if key in self._running:
            return
        self._running.add(key)
        worker = threading.Thread(
            target=self._work, args=(key,), name="nats_ev-resolver", daemon=True
        )
        try:
            worker.start()
        except RuntimeError as exc:  # no more threads: as good as a name that can't be found
            self._running.discard(key)
            self._results.append((key, OSError(f"no thread to look {host} up: {exc}")))
            self._wake.send()

    def cancel(self) -> None:
        """Forget the question; a worker that still looks for it ends by itself, unheard."""
        self._wanted = self._done = None
        self._wake.stop()

    def _work(self, key: tuple[str, int]) -> None:
        try:
            result: list[Address] | OSError = self._look_up(*key)
        except OSError as exc:
            result = exc
        self._running.discard(key)
        self._results.append((key, result))
        self._wake.send()

    def _on_wake(self, watcher: Any, revents: int) -> None:
        while self._results:
            key, result = self._results.popleft()
            if key == self._wanted and self._done is not None:
                done = self._done
                self.cancel()
                done(result)


class Dialer:
    """Opens a socket to one host or path. Ends with exactly one call of done, or none after cancel."""

    def __init__(
        self,
        loop: Any,
        resolver: Resolver,
        deadlines: Deadlines,
        done: Callable[[socket.socket | OSError], None],
        *,
        keepalive: int = 0,
        priority: int = 0,
        timeout: float = 0.0,
        shuffle: bool = False,
    ) -> None:
        """timeout in seconds only divides the time among addresses; the caller bounds the whole.

        shuffle: so that many clients of one name do not all go to its first address (ADR-11).
        """
        self._loop = loop
        self._resolver = resolver
        self._deadlines = deadlines
        self._done = done
        self._keepalive = keepalive
        self._priority = priority
        self._timeout = timeout
        self._shuffle = shuffle
        self._addresses: deque[Address] = deque()
        self._share = 0.0
        self._sock: socket.socket | None = None
        self._watcher: Any = None
        self._retry: Deadline | None = None
        self._error: OSError = OSError("no address")

    def tcp(self, host: str, port: int) -> None:
        """Begin. done may be called at once when it can be known at once."""
        addresses = numeric_addresses(host, port)
        if addresses:
            self._try_all(addresses)
        else:
            self._resolver.resolve(host, port, self._resolved)

    def unix(self, path: str) -> None:
        """Begin; see `tcp`."""
        self._try_all([(socket.AF_UNIX, path)])

    def cancel(self) -> None:
        """Give up; done will not be called."""
        self._addresses.clear()
        self._resolver.cancel()
        self._forget_socket()

    def forked(self) -> None:
        """In the child of a fork: see `fork`."""
        if self._sock is not None:
            make_dead_end(self._sock.fileno())

    def _resolved(self, result: list[Address] | OSError) -> None:
        if isinstance(result, OSError):
            self._done(result)
        else:
            self._try_all(shuffled(result) if self._shuffle else result)

    def _try_all(self, addresses: list[Address]) -> None:
        self._addresses.extend(addresses)
        if self._timeout and len(addresses) > 1:
            self._share = max(self._timeout / len(addresses), _LEAST_TRY)
        self._try_next()

    def _try_next(self) -> None:
        while self._addresses:
            family, address = self._addresses.popleft()
            try:
                self._connect(family, address)
            except OSError as exc:
                self._forget_socket()
                self._error = exc
            else:
                return
        self._done(self._error)

    def _connect(self, family: int, address: Any) -> None:
        sock = self._sock = open_socket(family, self._keepalive)
        try:
            code = sock.connect_ex(address)
        except OSError as exc:  # before the kernel was asked: a path is longer than it can be
            raise OSError("invalid unix socket path") from exc
        if code == 0:
            self._connected()
        elif code == errno.EAGAIN and family == socket.AF_UNIX:
            self._forget_socket()
            self._addresses.appendleft((family, address))
            self._retry = self._deadlines.after(_BACKLOG_RETRY, self._try_next)
        elif code in (errno.EINPROGRESS, errno.EINTR):
            self._watcher = self._loop.io(
                sock.fileno(), EV_WRITE, self._on_writable, None, self._priority
            )
            self._watcher.start()
            if self._share:
                self._retry = self._deadlines.after(self._share, self._too_slow)
        else:
            raise OSError(code, os.strerror(code))

    def _on_writable(self, watcher: Any, revents: int) -> None:
        assert self._sock is not None
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == 0:
            self._connected()
        else:
            self._error = OSError(code, os.strerror(code))
            self._forget_socket()
            self._try_next()

    def _too_slow(self) -> None:
        if self._addresses:  # the last one may take all the time that is left
            self._error = TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            self._forget_socket()
            self._try_next()

    def _connected(self) -> None:
        sock = self._sock
        assert sock is not None
        if talks_to_itself(sock):
            self._error = OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
            self._forget_socket()
            self._try_next()
            return
        self._sock = None
        self._forget_socket()
        self._done(sock)

    def _forget_socket(self) -> None:
        self._deadlines.end(self._retry)
        self._retry = None
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None
        if self._sock is not None:
            self._sock.close()
            self._sock = None
