"""Fixtures: private servers, a loop of its own for each test, clients that are ended for sure.

An exception that reaches `sys.excepthook` fails the test unless it asks for `excepthook`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import loops, transports
from lab.fakeserver import FakeServer
from lab.js_servers import any_js, js, line_server  # noqa: F401
from lab.loops.exclusions import excluded
from lab.natsserver import (
    NO_SERVER,
    OLDER,
    External,
    NatsServer,
    binary_version,
    find_binary,
    wait_for,
)
from lab.peers import nats_js, nats_py
from lab.process import die_with_us
from lab.recorder import Recorder
from lab.server_versions import any_binary  # noqa: F401
from nats_ev import Nats, pyev
from nats_ev.testing import CuttingProxy, run_until
from nats_ev.testing.certificates import Certificates
from nats_ev.testing.process import temporary_folder
from nats_ev.testing.waiting import described

pytest_plugins = ["pytester"]

DEADLINE = 30.0  # seconds; a test that works does not wait for it


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop",
        default=loops.DEFAULT,
        help=f"run the tests that use a loop on this kind, and no others: {', '.join(loops.KINDS)}",
    )
    parser.addoption(
        "--transport",
        default=transports.DEFAULT,
        help=f"what clients reach the tests' servers through: {', '.join(transports.KINDS)}",
    )


def pytest_configure(config: pytest.Config) -> None:
    """A script's background jobs ignore SIGINT, and so would all that the tests start and interrupt."""
    try:
        loops.choose(config.getoption("--loop"))
        transports.choose(config.getoption("--transport"), lambda: temporary_folder("nats_ev-wss-"))
    except ValueError as exc:
        raise pytest.UsageError(str(exc)) from None
    for name in ("ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        os.environ.pop(name, None)  # the developer's: servers of tests are on this machine
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # gevent's own subprocess asks libuv for such times.
    config.addinivalue_line("filterwarnings", "ignore:libuv only supports millisecond:UserWarning")
    config.addinivalue_line("markers", "since(major, minor): the oldest nats-server that knows it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give the marker `server` to each test one of whose fixtures starts a nats-server.

    A worker of pytest-xdist begins with the slow ones, so that none of them is left for the end.
    """
    if loops.chosen.name != loops.DEFAULT:
        _keep_what_uses_the_loop(config, items)
    if transports.chosen != transports.DEFAULT:
        for item in items:
            if why := transports.excluded(item.nodeid):
                item.add_marker(pytest.mark.skip(reason=f"{transports.chosen}: {why}"))
    for item in items:
        if "needs_server" in getattr(item, "fixturenames", ()):
            item.add_marker("server")
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def _keep_what_uses_the_loop(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests without the fixture `loop`, and skip those that this kind of loop cannot run."""
    left_out = [item for item in items if "loop" not in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if "loop" in getattr(item, "fixturenames", ())]
    for item in items:
        if why := excluded(loops.chosen.name, item.nodeid):
            item.add_marker(pytest.mark.skip(reason=f"{loops.chosen.name}: {why}"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Freeze what is loaded by now: the collection at the end of each test need not walk through it."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked `since` when $NATS_SERVER names an older server.

    Also let `NatsServer` refuse to start for a test without the marker `server`, in its subprocesses too.
    """
    loops.missed.clear()
    for marker in item.iter_markers("since"):
        binary = find_binary()
        if binary is not None and binary_version(binary) < marker.args:
            pytest.skip(f"nats-server {'.'.join(map(str, marker.args))} or later")
    if item.get_closest_marker("server"):
        os.environ.pop(NO_SERVER, None)
    else:
        os.environ[NO_SERVER] = item.nodeid


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Any:
    """Count a test as skipped if it asked for what this kind of loop does not offer, and failed then."""
    report = yield
    if report.failed and loops.missed:
        report.outcome = "skipped"
        path, line, _ = item.location
        report.longrepr = (path, line, f"{loops.chosen.name}: {loops.missed[0]}")
    return report


def pytest_report_header(config: pytest.Config) -> list[str]:
    binary = find_binary()
    server = "none" if binary is None else ".".join(map(str, NatsServer(binary=binary).version))
    older = sorted(path.name for path in OLDER.glob("*")) or ["none"]
    libev = pyev.version()[1]
    return [
        f"nats-server: {server} (older lines: {', '.join(older)}); libev: {libev}; loop: {loops.chosen.name}"
    ]


@pytest.fixture(scope="session")
def needs_server() -> None:
    """Asked for by every fixture that starts a nats-server: its tests get the marker `server`."""


@pytest.fixture(scope="session")
def server(needs_server: None) -> Iterator[Any]:
    """A nats-server that all tests share, or the one that the environment names."""
    if "TEST_NATS_HOST" in os.environ or "TEST_NATS_PORT" in os.environ:
        yield External()
        return
    with NatsServer(jetstream=True) as running:
        yield running


@pytest.fixture
def since(server: Any) -> Callable[..., bool]:
    """since(2, 11): whether the shared server is that new; `needs_ttl` skips where it has no TTLs."""
    return lambda *version: getattr(server, "version", (999,)) >= version


@pytest.fixture
def needs_ttl(since: Callable[..., bool]) -> None:
    if not since(2, 11):
        pytest.skip("TTLs of messages: nats-server 2.11")


@pytest.fixture(scope="session", params=[nats_py, nats_js], ids=["nats-py", "nats.js"])
def peer(request: pytest.FixtureRequest, server: Any) -> Iterator[Any]:
    """An official client on the shared server, told what to do: peer("kv.get", bucket=…, key=…)."""
    try:
        running = request.param(server.url)
    except FileNotFoundError as exc:
        pytest.skip(str(exc))
    yield running
    running.close()


@pytest.fixture
def own_server(needs_server: None) -> Iterator[Callable[..., NatsServer]]:
    """Starts servers of the test's own: own_server(config="…")."""
    servers: list[NatsServer] = []

    def start(*args: str, **options: Any) -> NatsServer:
        servers.append(NatsServer(*args, **options))
        return servers[-1].start()

    yield start
    for started in servers:
        started.remove()


@pytest.fixture
def fake() -> Iterator[Callable[..., FakeServer]]:
    """Starts scripted servers: fake(script, …). What a script raises fails the test."""
    servers: list[FakeServer] = []

    def start(*scripts: Any) -> FakeServer:
        servers.append(FakeServer(*scripts))
        return servers[-1]

    yield start
    for started in servers:
        started.close()
    for started in servers:
        if not started.errors.empty():
            raise started.errors.get()


@pytest.fixture
def proxy() -> Iterator[Callable[..., CuttingProxy]]:
    """Starts proxies: proxy(server.port)."""
    proxies: list[CuttingProxy] = []

    def start(port: int) -> CuttingProxy:
        proxies.append(CuttingProxy(transports.port_of(port)))
        if transports.port_of(port) != port:
            transports.started(proxies[-1].port, proxies[-1].port)
        return proxies[-1]

    yield start
    for started in proxies:
        started.close()


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Makes certificates; its own authority is `certs.ca`."""
    return Certificates(tmp_path_factory.mktemp("certs"))


@pytest.fixture
def unix_socket(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """unix_socket(server.port): the path of a Unix socket that socat connects to that port."""
    started: list[subprocess.Popen[bytes]] = []

    def start(port: int, host: str = "127.0.0.1") -> str:
        path = str(tmp_path / f"socket-{len(started)}")
        command = ["socat", f"UNIX-LISTEN:{path},fork", f"TCP:{host}:{port}"]
        started.append(subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=die_with_us))

        def accepts() -> bool:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(path)
                return True
            return False

        wait_for(accepts, what="socat")
        return path

    if shutil.which("socat") is None:
        pytest.skip("socat is not installed")
    yield start
    for process in started:
        process.terminate()
        process.wait()


@pytest.fixture
def excepthook(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """The exceptions that have reached sys.excepthook; asking for it allows them."""
    seen: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", _keep_in(seen))
    return seen


def _keep_in(seen: list[BaseException]) -> Callable[..., None]:
    def excepthook(kind: object, exc: BaseException, tb: object) -> None:
        loops.note(exc)
        seen.append(exc)

    return excepthook


@pytest.fixture(autouse=True)
def no_stray_exceptions(request: pytest.FixtureRequest) -> Iterator[None]:
    if "excepthook" in request.fixturenames:
        request.getfixturevalue("excepthook")
        yield
        return
    seen: list[BaseException] = []
    before = sys.excepthook
    sys.excepthook = _keep_in(seen)
    try:
        yield
    finally:
        sys.excepthook = before
    if seen:
        raise AssertionError(f"{len(seen)} exception(s) left a callback") from seen[0]


@pytest.fixture
def loop() -> Iterator[Any]:
    """A loop of its own, of the kind that ``--loop`` names."""
    loop = loops.new()
    yield loop
    if hasattr(loop, "close"):
        loop.close()


Run = Callable[..., None]


@pytest.fixture
def run(loop: Any) -> Run:
    """run(condition, timeout): run the loop until condition() is true; fails at the deadline.

    timeout is in seconds. Without a condition the loop runs until nothing keeps it running.
    """

    def run(condition: Callable[[], Any] | None = None, timeout: float = DEADLINE) -> None:
        def holds() -> bool:
            if loops.missed:
                return True  # the test is skipped
            try:
                return bool(condition and condition())
            except Exception as exc:
                loops.note(exc)
                raise

        asked = holds if condition is not None else None
        run_until(loop, asked, timeout * 1000, described(condition))
        assert not loops.missed, "the loop lacks what the test asks for"

    return run


@pytest.fixture
def client(loop: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., Nats]]:
    """client(server, **options): a `Nats` with a `recorder`; disconnected at the end."""
    clients: list[Nats] = []

    def make(target: Any = None, **options: Any) -> Nats:
        recorder = Recorder()
        if target is not None:
            options.setdefault("host", target.host)
            options.setdefault("port", target.port)
        for name in ("connect", "disconnect", "reconnect", "lame_duck"):
            key = f"on_{name}"
            theirs = options.get(key)

            def hook(name: str = name, theirs: Any = theirs) -> None:
                recorder.events.append(name)
                if theirs is not None:
                    theirs()

            options[key] = hook
        options.setdefault("on_error", recorder.on_error)
        options.setdefault("loop", loop)
        nats = Nats(**options)
        nats.recorder = recorder  # type: ignore[attr-defined]
        clients.append(nats)
        return nats

    yield make
    for nats in clients:
        nats.on_error(lambda error: None)
        nats.disconnect()
    loop.start(pyev.EVRUN_NOWAIT)
    clients.clear()
    gc.collect()


@pytest.fixture
def connected(client: Callable[..., Nats], run: Run) -> Callable[..., Nats]:
    """connected(server, **options): a client whose handshake is complete."""

    def make(target: Any, **options: Any) -> Nats:
        nats = client(target, **options)
        run(nats.is_connected)
        return nats

    return make


Call = Callable[..., tuple[Any, Any]]


@pytest.fixture
def call(run: Run) -> Call:
    """call(method, *args, **kwargs): its callback's (result, err), run until it has come."""

    def call(method: Callable[..., object], *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        answers: list[tuple[Any, Any]] = []
        method(*args, **kwargs, cb=lambda result, err: answers.append((result, err)))
        assert not answers, "called back inside the call"
        run(lambda: answers)
        return answers[0]

    return call


@pytest.fixture
def eventually(loop: Any) -> Callable[..., None]:
    """eventually(condition): ask again and again, for a condition that itself runs the loop."""

    def eventually(condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, "the deadline has passed"

    return eventually
