"""From a server's name to a connected socket, without blocking the loop. Nothing of NATS here.

Theory of operation
-------------------
A `Dialer` makes one attempt: it looks a name up, tries the addresses in turn, and ends with one call
of `done` with a socket or an error. The caller bounds the attempt in time, and calls `cancel` when
the time is over.

*Names.* `getaddrinfo` blocks, for long if the name server is silent, and cannot be interrupted. A
numeric address does not need it and is used at once. A name is looked up in a daemon thread, which
wakes the loop with an Async watcher, the only watcher that another thread may use. A look-up that is
no longer wanted cannot be stopped: `Resolver` forgets the question, and the thread ends by itself.
There is at most one thread per name, however often a client that reconnects asks for it; a thread
that a former attempt has started answers the next attempt, too.
However a look-up ends, its name can be looked up again.

*gevent.* Where a program has patched `socket` and `threading`, look-ups, sockets and threads are still the
interpreter's own: see `native`.

*Order.* The addresses of one name alternate between IPv6 and IPv4, so that a broken network of one
family delays the attempt by one address and not by all of that family (RFC 8305, "Happy Eyeballs"). The
family that the system's resolver puts first comes first, which is its choice by RFC 6724, unless `order` says
otherwise. With `shuffle` they are in random order within each family (ADR-11).

*Time.* If there is more than one address, the next one is begun after an equal share of half of `timeout`,
at most 0.25 s, and at once if the one before has failed. Otherwise the first one that swallows packets would
use up the time of all. The former ones are not given up: the first that answers is the one, and the others
are closed. What RFC 8305 says about look-ups does not apply: `getaddrinfo` has all addresses or none.

*Two peculiarities of kernels.* A Unix socket whose backlog is full answers EAGAIN to `connect`, and
no event says that there is room again: `_retry` tries again 20 ms later. While nobody listens on a
local port from the ephemeral range, the kernel may choose that very port as ours, and the socket is
connected to itself. Such a connection would also keep the server from getting its port back: it
counts as refused.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain, zip_longest
from typing import Any

from ..loops import Io, Loop, make_async
from ..redact import drop_frames
from .deadlines import Deadline, Deadlines
from .fork import make_dead_end
from .native import getaddrinfo, start_thread
from .refs import Refs
from .transport import EV_WRITE, open_socket, set_user_timeout

# Seconds until a Unix socket with a full backlog is tried again.
_BACKLOG_RETRY = 0.02
# The most seconds until the next one of several addresses is begun (RFC 8305 recommends this).
_MOST_SHARE = 0.25

Address = tuple[int, Any]  # (family, sockaddr)
Lookup = Callable[[str, int], list[Address]]
Local = tuple[str, int]  # an address of this machine, and a port or 0

_NAMES: dict[int, str] = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
# The families that an order permits, the preferred one first; 0: all, in the order of the resolver.
ORDERS: dict[int, tuple[int, ...]] = {
    0: (),
    4: (socket.AF_INET,),
    6: (socket.AF_INET6,),
    46: (socket.AF_INET, socket.AF_INET6),
    64: (socket.AF_INET6, socket.AF_INET),
}


def numeric_addresses(host: str, port: int) -> list[Address]:
    """Return the address if host is numeric, else an empty list. Never blocks and never raises."""
    try:
        found = getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except Exception:  # no number; for any other cause `look_up` will fail, too, and say why
        return []
    return [(family, address) for family, _, _, _, address in found]


def look_up(host: str, port: int) -> list[Address]:
    """Return all addresses of host, families alternating. Blocks. Raises OSError."""
    try:
        found = getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as exc:
        raise OSError(f"invalid host name {host!r}") from exc
    by_family: dict[int, list[Address]] = {}
    for family, _, _, _, address in found:
        addresses = by_family.setdefault(family, [])
        if (family, address) not in addresses:
            addresses.append((family, address))
    return _alternating(by_family.values())


def _alternating(families: Iterable[list[Address]]) -> list[Address]:
    return [a for a in chain.from_iterable(zip_longest(*families)) if a is not None]


def permitted(addresses: list[Address], order: int, local: Local | None = None) -> list[Address]:
    """Return the addresses that may be tried, in the order in which they are.

    Args:
        addresses: families alternating.
        order: one of `ORDERS`.
        local: our own address, which only connects to addresses of its family.

    Raises:
        OSError: there were addresses, and none of them may be tried.
    """
    families = ORDERS[order] or tuple(dict.fromkeys(family for family, _ in addresses))
    if local is not None:
        own = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
        if ORDERS[order] and own not in families:
            raise OSError("local_address is of another family than ip_resolution_order permits")
        families = (own,)
    left = _alternating([a for a in addresses if a[0] == family] for family in families)
    if addresses and not left:
        raise OSError(f"no {' or '.join(_NAMES[family] for family in families)} address")
    return left


def shuffled(addresses: list[Address]) -> list[Address]:
    """Return the addresses in random order within each family. The order of the families stays."""
    by_family: dict[int, list[Address]] = {}
    for address in addresses:
        by_family.setdefault(address[0], []).append(address)
    for same in by_family.values():
        shuffle(same)
    return [by_family[family].pop() for family, _ in addresses]


def shuffle(items: list[Any]) -> None:
    """Put the items of a list into random order."""
    if len(items) > 1:
        import random

        random.shuffle(items)


def talks_to_itself(sock: socket.socket) -> bool:
    """Return whether sock is connected to itself.

    That happens while a local server is down: the kernel chooses the port that is dialled as our own.
    """
    try:
        return sock.family != socket.AF_UNIX and sock.getsockname() == sock.getpeername()
    except OSError:  # broken already: the first read reports it
        return False


class Resolver:
    """The look-up of names in worker threads, at most one thread per name.

    One question is open at a time: the next call of `resolve`, or `cancel`, forgets the last question.
    """

    def __init__(self, loop: Loop, look_up: Lookup = look_up, refs: Refs | None = None) -> None:
        self._refs = refs or Refs(loop)
        self._look_up = look_up
        self._wake = make_async(loop, self._on_wake)
        self._results: deque[tuple[tuple[str, int], list[Address] | OSError]] = deque()
        self._running: set[tuple[str, int]] = set()
        self._wanted: tuple[str, int] | None = None
        self._done: Callable[[list[Address] | OSError], None] | None = None

    def resolve(
        self, host: str, port: int, done: Callable[[list[Address] | OSError], None]
    ) -> None:
        """Look host up, and call done with the addresses or the error, on the loop, never in this call.

        Args:
            host: a name; a numeric address works, too.
            port: becomes part of each address.
            done: not called after another `resolve` or `cancel`.
        """
        self._wanted = key = (host, port)
        self._done = done
        self._refs.start(self._wake)
        if key in self._running:
            return
        self._running.add(key)
        try:
            start_thread(self._work, key)
        except (RuntimeError, MemoryError) as exc:  # the process has too many threads
            self._running.discard(key)
            self._results.append((key, OSError(f"no thread to look {host} up: {exc}")))
            self._wake.send()

    def cancel(self) -> None:
        """Forget the question. A thread that still works on it ends by itself; its result is ignored."""
        self._wanted = self._done = None
        self._refs.stop(self._wake)

    def forked(self) -> None:
        """Forget the question in the child of a fork, whose threads have ended; see `fork`."""
        self.cancel()
        self._running.clear()

    def _work(self, key: tuple[str, int]) -> None:
        result: list[Address] | OSError = OSError(f"the look-up of {key[0]} failed")
        try:
            result = self._look_up(*key)
        except OSError as exc:
            drop_frames(exc)  # they hold `result`
            result = exc
        except BaseException as exc:  # out of memory, for example
            result = OSError(f"the look-up of {key[0]} failed: {exc!r}")
        finally:
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
    """One attempt to connect a socket. Ends with exactly one call of done; with none after `cancel`."""

    def __init__(
        self,
        loop: Loop,
        resolver: Resolver,
        deadlines: Deadlines,
        done: Callable[[socket.socket | OSError], None],
        *,
        keepalive: int = 0,
        priority: int = 0,
        timeout: float = 0.0,
        shuffle: bool = False,
        refs: Refs | None = None,
        order: int = 0,
        local: Local | None = None,
        user_timeout: int = 0,
    ) -> None:
        """Make a dialer; `tcp` or `unix` starts it.

        Args:
            loop: makes the watcher of the socket.
            resolver: shared by a client's dialers.
            deadlines: the client's.
            done: called with the connected socket, or with the last address's error.
            keepalive: see `open_socket`.
            priority: of the watcher.
            timeout: seconds that the addresses share; 0: any time. The caller bounds the whole attempt.
            shuffle: use the addresses of a name in random order, so that not all clients go to the
                first one.
            refs: the client's.
            order: of the families, one of `ORDERS`.
            local: our own address; None: the kernel's choice.
            user_timeout: see `set_user_timeout`.
        """
        self._loop = loop
        self._refs = refs or Refs(loop)
        self._resolver = resolver
        self._order = order
        self._local = local
        self._user_timeout = user_timeout
        self._deadlines = deadlines
        self._done = done
        self._keepalive = keepalive
        self._priority = priority
        self._timeout = timeout
        self._shuffle = shuffle
        self._addresses: deque[Address] = deque()
        self.tried: list[str] = []  # the addresses that were begun with, without ports
        self._share = 0.0
        self._open: dict[socket.socket, Io] = {}  # being connected, with their watchers
        self._forked = False  # this is the child of a fork
        self._retry: Deadline | None = None
        self._error: OSError = OSError("no address")

    def tcp(self, host: str, port: int) -> None:
        """Connect to a host. done may be called before this returns."""
        addresses = numeric_addresses(host, port)
        if addresses:
            self._resolved(addresses)
            return
        try:
            self._resolver.resolve(host, port, self._resolved)
        except Exception as exc:  # the loop has no descriptor to be woken with
            self._resolver.cancel()
            drop_frames(exc)
            self._done(OSError(f"can't look {host} up: {exc}"))

    def unix(self, path: str) -> None:
        """Connect to a Unix socket. done may be called before this returns."""
        self._try_all([(socket.AF_UNIX, path)])

    def cancel(self) -> None:
        """Stop the attempt. done is not called."""
        self._addresses.clear()
        self._resolver.cancel()
        self._forget_all()

    def forked(self) -> None:
        """Replace the sockets by dead ends in the child of a fork; see `fork`."""
        self._forked = True
        self._resolver.forked()  # else its watcher would keep the child's loop running
        for sock in self._open:
            make_dead_end(sock.fileno())

    def _resolved(self, result: list[Address] | OSError) -> None:
        if isinstance(result, OSError):
            self._done(result)
            return
        if self._order or self._local is not None:
            try:
                result = permitted(result, self._order, self._local)
            except OSError as exc:
                drop_frames(exc)
                self._done(exc)
                return
        self._try_all(shuffled(result) if self._shuffle else result)

    def _try_all(self, addresses: list[Address]) -> None:
        self._addresses.extend(addresses)
        if len(addresses) > 1:
            share = self._timeout / 2 / len(addresses)  # the last one has half of the time
            self._share = min(share, _MOST_SHARE) if share else _MOST_SHARE
        self._try_next()

    def _try_next(self) -> None:
        self._deadlines.end(self._retry)
        self._retry = None
        while self._addresses:
            family, address = self._addresses.popleft()
            try:
                if family != socket.AF_UNIX:
                    self.tried.append(str(address[0]))
                self._connect(family, address)
            except Exception as exc:  # also out of memory, or a resolver's address that is none
                drop_frames(exc)  # they hold this object
                self._error = (
                    exc if isinstance(exc, OSError) else OSError(f"can't connect: {exc!r}")
                )
            else:
                return
        if not self._open:
            self._done(self._error)

    def _connect(self, family: int, address: Any) -> None:
        """Begin with an address. It has failed if this raises; then its socket is closed."""
        sock = open_socket(family, self._keepalive)
        try:
            if family != socket.AF_UNIX:
                self._prepare(sock)
        except BaseException:
            sock.close()
            raise
        try:
            code = sock.connect_ex(address)
            if code in (errno.EINPROGRESS, errno.EINTR):
                self._await(sock)
                return
        except OSError as exc:  # raised by Python itself: the path is too long
            sock.close()
            raise OSError("invalid unix socket path") from exc
        except BaseException:
            sock.close()
            raise
        if code == 0:
            self._connected(sock)
        elif code == errno.EAGAIN and family == socket.AF_UNIX:
            sock.close()
            self._addresses.appendleft((family, address))
            self._retry = self._deadlines.after(_BACKLOG_RETRY, self._try_next)
        else:
            sock.close()
            raise OSError(code, os.strerror(code))

    def _prepare(self, sock: socket.socket) -> None:
        """Set what must be set before a socket is connected."""
        set_user_timeout(sock, self._user_timeout)
        if self._local is None:
            return
        if self._local[1]:  # a former connection from this port may not be over for the kernel
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(self._local)
        except OSError as exc:
            host, port = self._local
            text = f"can't connect from {host}{f' port {port}' if port else ''}"
            raise OSError(exc.errno, f"{text}: {exc.strerror or exc}") from None

    def _await(self, sock: socket.socket) -> None:
        """Wait until the kernel has connected a socket; meanwhile begin with the next address."""
        watcher = self._loop.io(
            sock.fileno(), EV_WRITE, partial(self._on_writable, sock), None, self._priority
        )
        self._refs.start(watcher)
        self._open[sock] = watcher
        if self._addresses:
            self._retry = self._deadlines.after(self._share, self._try_next)

    def _on_writable(self, sock: socket.socket, watcher: Any, revents: int) -> None:
        self._refs.stop(self._open.pop(sock))
        if self._forked:
            sock.close()
            return
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == 0:
            self._connected(sock)
        else:
            sock.close()
            self._failed(code)

    def _connected(self, sock: socket.socket) -> None:
        if talks_to_itself(sock):
            sock.close()
            self._failed(errno.ECONNREFUSED)
            return
        self._addresses.clear()
        self._forget_all()
        self._done(sock)

    def _failed(self, code: int) -> None:
        self._error = OSError(code, os.strerror(code))
        self._try_next()

    def _forget_all(self) -> None:
        self._deadlines.end(self._retry)
        self._retry = None
        while self._open:
            sock, watcher = self._open.popitem()
            self._refs.stop(watcher)
            sock.close()
