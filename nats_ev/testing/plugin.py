"""What the fixtures of the plugin for pytest do; `pytest_nats_ev` defines them.

That module is loaded by each pytest, and this one when a test asks for a fixture. A pytest that does not load
installed plugins has ``-p nats_ev.testing.plugin``.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import pytest

from .. import Nats, Status, pyev, testing
from ..asyncio_loop import AsyncioLoop
from ..faces import Connecting
from . import (
    Cluster,
    ConditionError,
    CuttingProxy,
    Server,
    ServerNotFoundError,
    run_until,
    wait_for,
)

pytest_plugins = ("pytest_nats_ev",)

# Where a client of the test connects to: the first of these that the test has.
_TARGETS = ("nats_proxy", "nats_cluster", "nats_jetstream_server", "nats_server")
_KINDS = ("pyev", "asyncio", "uvloop", "gevent")
# Milliseconds.
_CONNECTS_WITHIN = 10_000
_LEAVES_WITHIN = 200


def started(kind: str, *args: Any, **options: Any) -> Iterator[Any]:
    """Yield a started `Server` or `Cluster`, and remove it. Without a server the test fails in one line."""
    try:
        thing = getattr(testing, kind)(*args, **options)
    except ServerNotFoundError as exc:
        pytest.fail(str(exc), pytrace=False)
    with thing:
        yield thing


class Shared:
    """The server of the fixture `nats_server`: of many tests in turn, as long as they leave it as it was."""

    def __init__(self) -> None:
        self._server: Server | None = None
        self._pid = 0

    def take(self) -> Server:
        """Return the server, a new one if there is none."""
        if self._server is None:
            try:
                server = Server()
            except ServerNotFoundError as exc:
                pytest.fail(str(exc), pytrace=False)
            server.start()  # if this raises, the next test begins again
            self._server, self._pid = server, server.pid
        return self._server

    def give_back(self) -> None:
        """Remove the server if the test has changed it or has left something in it."""
        if self._server is not None and not self._is_untouched(self._server):
            self.close()

    def _is_untouched(self, server: Server) -> bool:
        if not server.is_running() or server.pid != self._pid or server.touched:
            return False
        try:
            # The server sees the end of a connection a moment later.
            wait_for(lambda: not server.monitor("varz")["connections"], _LEAVES_WITHIN)
        except (OSError, ConditionError):
            return False
        return True

    def close(self) -> None:
        """Remove the server."""
        server, self._server = self._server, None
        if server is not None:
            server.remove()


def target(request: pytest.FixtureRequest, before: str = "") -> Any:
    """Return the server, cluster or proxy of this test to which clients connect, None if it has none.

    Args:
        request: of pytest.
        before: the name of a target; only later ones are returned.
    """
    names = _TARGETS[_TARGETS.index(before) + 1 :] if before else _TARGETS
    name = next((name for name in names if name in request.fixturenames), None)
    return None if name is None else request.getfixturevalue(name)


def proxy_of(request: pytest.FixtureRequest) -> CuttingProxy:
    """Return a proxy before the server of this test: the first one of a cluster, else `nats_server`."""
    server = target(request, before="nats_proxy")
    if server is None:
        server = request.getfixturevalue("nats_server")
    return CuttingProxy(server[0] if isinstance(server, Cluster) else server)


def kind_of(request: pytest.FixtureRequest) -> str:
    """Return the kind of loop that a test wants."""
    kind = getattr(request, "param", None)
    if kind is None and (marker := request.node.get_closest_marker("nats_loop")):
        kind = marker.args[0] if marker.args else None
    return str(kind or request.config.getini("nats_loop") or _KINDS[0])


@contextlib.contextmanager
def _callbacks_must_not_raise() -> Iterator[None]:
    """Fail the test at its end if a callback has raised, which a loop only reports."""
    seen: list[BaseException] = []
    before = sys.excepthook

    def excepthook(
        kind: type[BaseException], exc: BaseException, traceback: TracebackType | None
    ) -> None:
        seen.append(exc)
        before(kind, exc, traceback)

    sys.excepthook = excepthook
    try:
        yield
    finally:
        if sys.excepthook is excepthook:
            sys.excepthook = before
    if seen:
        raise AssertionError(f"{len(seen)} exception(s) left a callback") from seen[0]


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    exc = context.get("exception")
    if exc is None:
        loop.default_exception_handler(context)
    else:
        sys.excepthook(type(exc), exc, exc.__traceback__)


def new_loop(kind: str) -> Iterator[Any]:
    """Yield a loop of this kind, and close it; skip the test if its package is not installed.

    What a callback raises fails the test: at once on a loop of pyev, at its end on other ones.
    """
    with _callbacks_must_not_raise():
        yield from _new_loop(kind)


def _new_loop(kind: str) -> Iterator[Any]:
    if kind == "pyev":
        loop = pyev.Loop(debug=True)
        yield loop
        loop.start(pyev.EVRUN_NOWAIT)  # what has been disconnected ends
    elif kind in ("asyncio", "uvloop"):
        module = asyncio if kind == "asyncio" else pytest.importorskip("uvloop")
        own = module.new_event_loop()
        own.set_exception_handler(_report)
        yield AsyncioLoop(own)
        own.run_until_complete(asyncio.sleep(0))
        own.run_until_complete(own.shutdown_asyncgens())
        own.close()
    elif kind == "gevent":
        gevent = pytest.importorskip("gevent")
        yield importlib.import_module("nats_ev.gevent_loop").GeventLoop()
        gevent.sleep(0)
    else:
        pytest.fail(f"nats_loop {kind!r}: choose one of {', '.join(_KINDS)}", pytrace=False)


def _options(thing: Any) -> dict[str, Any]:
    if hasattr(thing, "options"):
        return dict(thing.options)
    return {"servers": [thing.url]}


class Connector:
    """Connects clients, and disconnects them.

    Args:
        request: of pytest.
        loop: of the clients, unless a loop of asyncio runs.
        shared: has the server for a test that has asked for none.
    """

    def __init__(self, request: pytest.FixtureRequest, loop: Any, shared: Shared) -> None:
        # All that clients need is there before them, and so it is removed after them.
        self._target = target(request)
        self._loop = loop
        self._shared = shared
        self._taken = False
        self._clients: list[Nats] = []

    def connect(self, server: Any = None, **options: Any) -> Any:
        """Return a connected client, or what is awaited for it: see the fixture `nats_connect`."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._connect(server, options)
        return Connecting(self._connect_aio(server, options))

    def _with_target(self, server: Any, options: dict[str, Any]) -> dict[str, Any]:
        if options.keys() & {"host", "path", "servers"}:
            return options
        if server is None and self._target is None:
            self._target = self._shared.take()
            self._taken = True
        return _options(self._target if server is None else server) | options

    def _connect(self, server: Any, options: dict[str, Any]) -> Nats:
        loop = options.setdefault("loop", self._loop)
        errors: list[Exception] = []
        theirs: Callable[[Any], object] | None = options.pop("on_error", None)
        client = Nats(on_error=errors.append, **self._with_target(server, options))
        self._clients.append(client)
        try:
            run_until(
                loop,
                lambda: client.is_connected() or (errors and client.status() is Status.CLOSED),
                _CONNECTS_WITHIN,
                "the connection",
                lambda: f"errors: {errors}" if errors else "no error",
            )
        except ConditionError:
            client.disconnect()
            raise
        if not client.is_connected():
            raise errors[-1]
        client.on_error(theirs)
        return client

    async def _connect_aio(self, server: Any, options: dict[str, Any]) -> Any:
        from .. import aio

        nc = await aio.connect(**self._with_target(server, options))
        self._clients.append(nc.nats)
        return nc

    def close(self) -> None:
        """Disconnect all clients."""
        for client in self._clients:
            # The loop of an asynchronous test may have been closed, and its clients with it.
            with contextlib.suppress(RuntimeError):
                client.on_error(lambda err: None)
                client.disconnect()
        self._clients.clear()
        if self._taken:
            self._shared.give_back()
