"""The plugin for pytest, in suites of its users: each runs in a process of its own."""

from __future__ import annotations

import os
from typing import Any

import pytest

import nats_ev
import pytest_nats_ev
from lab.natsserver import find_binary

# The plugin alone, as in an environment without others; as errors, what would disturb a suite.
ALONE = ("-p", "no:cacheprovider", "-W", "error")


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Any:
    """suite(code, *arguments): run a test file, and return pytest's result."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("NATS_SERVER", find_binary() or "")

    def run(code: str, *arguments: str, plugin: str = "pytest_nats_ev") -> pytest.RunResult:
        pytester.makepyfile(code)
        return pytester.runpytest_subprocess(*ALONE, "-p", plugin, *arguments, timeout=120)

    return run


def test_a_suite_that_does_not_use_it_loads_nothing_of_nats_ev(suite: Any) -> None:
    result = suite(
        """
        import sys

        def test_nothing(request):
            assert not [name for name in sys.modules if name.split(".")[0] in ("nats_ev", "cffi")]
            assert not [name for name in request.fixturenames if "nats" in name]
        """,
        "--strict-markers",
        "--strict-config",
    )
    result.assert_outcomes(passed=1)


def test_a_program_may_load_the_package_before_pytest() -> None:
    """pytest would else warn that it cannot rewrite the asserts of what a plugin came with."""
    assert "PYTEST_DONT_REWRITE" in (nats_ev.__doc__ or "")


def test_it_is_installed_for_every_pytest() -> None:
    import importlib.metadata

    (entry,) = (
        entry
        for entry in importlib.metadata.entry_points(group="pytest11")
        if entry.value == "pytest_nats_ev"
    )
    assert entry.load() is pytest_nats_ev


def test_all_its_names_say_whose_they_are() -> None:
    allowed = ("nats_", "_nats_", "pytest_")
    fixtures = [
        name
        for name, thing in vars(pytest_nats_ev).items()
        if callable(thing) and getattr(thing, "__module__", "") == "pytest_nats_ev"
    ]
    assert len(fixtures) == 11
    assert all(name.startswith(allowed) for name in fixtures), fixtures


CLIENTS = """
import asyncio
import pytest
from nats_ev import ConnectError
from nats_ev.testing import free_port

def exchange(nats, nats_run):
    got = []
    nats.subscribe("a", lambda *message: got.append(message))
    nats.publish("a", b"x")
    nats_run(lambda: got)

@pytest.mark.parametrize("nats_loop", ["pyev", "asyncio", "uvloop", "gevent"], indirect=True)
def test_each_loop(nats_client, nats_run, nats_server):
    exchange(nats_client, nats_run)

@pytest.mark.nats_loop("asyncio")
def test_marker(nats_loop, nats_client, nats_run):
    assert type(nats_loop).__name__ == "AsyncioLoop"
    exchange(nats_client, nats_run)

def test_in_a_coroutine(nats_connect):
    async def main():
        nc = await nats_connect()
        messages = nc.subscribe("a")
        async with nats_connect(name="other") as other:
            other.publish("a", b"x")
            assert (await messages.next(timeout=20_000)).payload == b"x"
    asyncio.run(main())

def test_several(nats_connect, nats_run):
    one, other = nats_connect(), nats_connect(name="other")
    got = []
    one.subscribe("a", lambda *message: got.append(message))
    one.flush(lambda err: other.publish("a"))
    nats_run(lambda: got)

def test_a_client_that_cannot_connect(nats_connect):
    with pytest.raises(ConnectError, match="Connection refused"):
        nats_connect(host="127.0.0.1", port=free_port())
"""


@pytest.mark.server
def test_clients_on_every_kind_of_loop(suite: Any) -> None:
    result = suite(CLIENTS)
    counts = result.parseoutcomes()
    assert counts["passed"] + counts.get("skipped", 0) == 8, counts  # uvloop, gevent: if installed
    assert counts["passed"] >= 6
    assert set(counts) <= {"passed", "skipped"}


TARGETS = """
import asyncio
import socket

import nats_ev
from nats_ev.testing import Cluster, CuttingProxy, Server, wait_for

STATE = {}

def test_a_server_is_shared(nats_server):
    assert isinstance(nats_server, Server)
    STATE["first"] = nats_server.pid

def test_as_long_as_it_is_left_as_it_was(nats_server):
    assert nats_server.pid == STATE["first"]
    nats_server.restart()

def test_a_restarted_one_is_replaced(nats_server):
    assert nats_server.pid != STATE["first"]
    assert "Server Shutdown" not in nats_server.log
    STATE["left"] = socket.create_connection((nats_server.host, nats_server.port))
    STATE["left"].recv(4)
    wait_for(lambda: nats_server.monitor()["connections"] == 1)
    STATE["third"] = nats_server.pid

def test_one_with_a_connection_is_replaced(nats_server):
    STATE.pop("left").close()
    assert nats_server.pid != STATE["third"]
    nats_server.lame_duck()

def test_a_lame_duck_is_replaced(nats_connect, nats_run):
    nats = nats_connect()
    done = []
    nats.flush(done.append)
    nats_run(lambda: done)

def test_jetstream(nats_jetstream_server, nats_connect):
    async def main():
        nc = await nats_connect()
        await nc.jetstream().stream_create({"name": "S"})
    asyncio.run(main())

def test_the_store_is_new(nats_jetstream_server, nats_connect):
    async def main():
        nc = await nats_connect()
        assert await nc.jetstream().stream_names() == []
    asyncio.run(main())

def test_proxy(nats_jetstream_server, nats_proxy, nats_connect, nats_run):
    assert isinstance(nats_proxy, CuttingProxy)
    back = []
    nats = nats_connect(reconnect=True, reconnect_delay=10, on_reconnect=lambda: back.append(1))
    assert nats.connected_url().endswith(f":{nats_proxy.port}")
    nats_proxy.cut()
    nats_run(lambda: back)
    answers = []
    nats_ev.JetStream(nats).account_info(lambda result, err: answers.append(err))
    nats_run(lambda: answers)
    assert answers == [None]

def test_proxy_before_nobody_in_particular(nats_proxy, nats_client):
    assert nats_client.connected_url() == nats_proxy.url

def test_cluster(nats_cluster, nats_client):
    assert isinstance(nats_cluster, Cluster)
    assert nats_client.connected_url() in nats_cluster.urls
"""


@pytest.mark.server
def test_servers_proxies_and_clusters(suite: Any, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    result = suite(TARGETS)
    result.assert_outcomes(passed=10)
    assert [name for name in os.listdir(tmp_path) if name.startswith("nats_ev")] == []


def test_without_a_server_it_fails_in_one_line(suite: Any, monkeypatch: Any, tmp_path: Any) -> None:
    monkeypatch.setenv("NATS_SERVER", str(tmp_path / "missing"))
    result = suite("def test_it(nats_server): pass\ndef test_js(nats_jetstream_server): pass")
    result.assert_outcomes(errors=2)
    assert (
        len([line for line in result.outlines if "missing: no program of this name" in line]) >= 2
    )
    assert not [line for line in result.outlines if "binary.py" in line]


def test_a_server_that_has_not_started_is_not_given_to_the_next_test(suite: Any) -> None:
    result = suite(
        """
        import pytest
        from nats_ev.testing import ServerStartError, plugin

        def test_again(monkeypatch):
            shared = plugin.Shared()
            with monkeypatch.context() as patch, pytest.raises(ServerStartError):
                patch.setattr(plugin, "Server", lambda: plugin.testing.Server("--no-such-option"))
                shared.take()
            assert shared.take().is_running()
            shared.close()
        """
    )
    result.assert_outcomes(passed=1)


def test_the_kind_of_loop_is_configured_and_checked(suite: Any, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nnats_loop = asyncio")
    result = suite(
        """
        import pytest

        def test_ini(nats_loop):
            assert type(nats_loop).__name__ == "AsyncioLoop"

        @pytest.mark.nats_loop("pyev")
        def test_marker(nats_loop):
            assert type(nats_loop).__name__ == "Loop"

        @pytest.mark.parametrize("nats_loop", ["pyev", "asyncio"], indirect=True)
        def test_raises(nats_loop, nats_run):
            seen = []
            def callback(watcher, revents):
                seen.append(1)
                raise KeyError("of a callback")
            getattr(nats_loop, "timer")(0.0, 0.0, callback).start()
            nats_run(lambda: seen)

        @pytest.mark.nats_loop("twisted")
        def test_wrong(nats_loop):
            pass
        """,
        "--strict-markers",
        plugin="nats_ev.testing.plugin",  # the other way to name it
    )
    result.assert_outcomes(passed=3, failed=1, errors=2)
    result.stdout.fnmatch_lines(["*AssertionError: 1 exception(s) left a callback*"])
    result.stdout.fnmatch_lines(["*'twisted': choose one of pyev, asyncio, uvloop, gevent*"])
