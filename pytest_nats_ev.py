"""The plugin of nats_ev for pytest: fixtures with private servers, loops and clients, all called `nats_…`.

pytest loads this module in every suite of an environment that has nats_ev. So it stands outside the package,
whose import is not free, and loads `nats_ev.testing.plugin` when a test asks for a fixture.
docs/testing.md shows how they are used. ``-p no:pytest_nats_ev`` leaves the plugin out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from nats_ev import Nats
    from nats_ev.testing import Cluster, CuttingProxy, Server
    from nats_ev.testing.plugin import Shared


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini option `nats_loop`."""
    parser.addini(
        "nats_loop", "kind of loop of the fixture nats_loop: pyev, asyncio, uvloop, gevent"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker `nats_loop`."""
    config.addinivalue_line("markers", "nats_loop(kind): the kind of loop of the fixture nats_loop")


@pytest.fixture(scope="session")
def _nats_shared() -> Iterator[Shared]:
    from nats_ev.testing.plugin import Shared

    shared = Shared()
    yield shared
    shared.close()


@pytest.fixture
def nats_server(_nats_shared: Shared) -> Iterator[Server]:
    """A private nats-server without JetStream: `nats_ev.testing.Server`.

    A test may kill, restart or reload it, or leave clients connected: the next test then gets a new one.
    """
    yield _nats_shared.take()
    _nats_shared.give_back()


@pytest.fixture
def nats_jetstream_server() -> Iterator[Server]:
    """A private nats-server with JetStream, and with a store of this test's own."""
    from nats_ev.testing.plugin import started

    yield from started("Server", jetstream=True)


@pytest.fixture
def nats_cluster() -> Iterator[Cluster]:
    """A private cluster of three nats-servers with JetStream: `nats_ev.testing.Cluster`."""
    from nats_ev.testing.plugin import started

    yield from started("Cluster", 3, jetstream=True)


@pytest.fixture
def nats_proxy(request: pytest.FixtureRequest) -> Iterator[CuttingProxy]:
    """A `nats_ev.testing.CuttingProxy` before the server of this test: see `nats_connect`."""
    from nats_ev.testing.plugin import proxy_of

    with proxy_of(request) as proxy:
        yield proxy


@pytest.fixture
def nats_loop(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A loop of this test's own, for ``Nats(loop=nats_loop)``.

    Its kind is that of ``@pytest.mark.nats_loop("asyncio")``, else of the ini option `nats_loop`, else pyev;
    ``@pytest.mark.parametrize("nats_loop", ["pyev", "asyncio"], indirect=True)`` gives a test several. What a
    callback raises fails the test, and so does an error of a client without on_error.
    """
    from nats_ev.testing.plugin import kind_of, new_loop

    yield from new_loop(kind_of(request))


@pytest.fixture
def nats_run(nats_loop: Any) -> Callable[..., Any]:
    """``nats_run(condition, timeout=10_000)``: run `nats_loop` until condition() is true, and return it."""
    from functools import partial

    from nats_ev.testing import run_until

    return partial(run_until, nats_loop)


@pytest.fixture
def nats_connect(
    request: pytest.FixtureRequest, nats_loop: Any, _nats_shared: Shared
) -> Iterator[Callable[..., Any]]:
    """``nats_connect(server=None, **options)``: a connected client, disconnected at the end of the test.

    A `Nats` on `nats_loop`; inside a running loop of asyncio the client of `nats_ev.aio`, to be awaited:
    ``nc = await nats_connect()``. server is a `Server`, `Cluster` or `CuttingProxy`. Default: that fixture of
    the test which comes first in this list: nats_proxy, nats_cluster, nats_jetstream_server, nats_server.
    """
    from nats_ev.testing.plugin import Connector

    connector = Connector(request, nats_loop, _nats_shared)
    yield connector.connect
    connector.close()


@pytest.fixture
def nats_client(nats_connect: Callable[..., Any]) -> Nats:
    """A connected client on `nats_loop`: ``nats_connect()``."""
    client: Nats = nats_connect()
    return client
