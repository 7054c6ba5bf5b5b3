"""`unref` and `ref`: whether a client keeps its loop running."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from lab import inside
from lab.fakeserver import silent
from lab.steps import flushed
from nats_ev import Nats, pyev
from nats_ev.testing import free_port
from nats_ev.testing.certificates import Certificates, server_config


def ends(loop: Any) -> bool:
    """Return whether the loop ends by itself, within a short time."""
    late: list[bool] = []

    def stop(watcher: Any, revents: int) -> None:
        late.append(True)
        loop.stop()

    timer = loop.timer(0.1, 0.0, stop)
    timer.start()
    loop.unref()
    loop.start()
    loop.ref()
    timer.stop()
    return not late


@pytest.fixture
def run(run: Any, loop: Any) -> Any:
    """`run` of a program that keeps the loop running itself."""

    def kept(condition: Any) -> None:
        timer = loop.timer(60.0, 0.0, lambda *_: None)
        timer.start()
        try:
            run(condition)
        finally:
            timer.stop()

    return kept


@pytest.fixture
def tls_server(own_server: Any, certs: Certificates) -> Any:
    pair = certs.issue("localhost", "localhost", "127.0.0.1")
    return own_server(config=server_config(pair))


def test_an_unreferenced_client_lets_the_loop_end_and_goes_on_with_the_next_run(
    connected, server, run, loop
):
    nats, got = connected(server), []
    nats.subscribe("a", lambda subject, payload, *rest: got.append(payload))
    flushed(nats, run)
    assert not ends(loop)
    nats.unref()
    nats.unref()
    assert ends(loop)
    nats.request("nobody", b"", lambda *answer: got.append(answer), 60_000)
    nats.call_later(60_000, print)
    assert ends(loop)
    for number in range(3):
        nats.publish("a", b"%d" % number)
    run(lambda: got[:3] == [b"0", b"1", b"2"])
    nats.ref()
    nats.ref()
    assert not ends(loop)
    nats.unref()
    nats.disconnect()
    run(lambda: "disconnect" in nats.recorder.events)
    assert ends(loop)
    nats.connect(server.host, server.port)  # still without a reference
    assert ends(loop)


def test_a_timer_of_the_program_keeps_the_loop_and_is_served(connected, server, loop):
    nats, fired, got = connected(server), [], []
    nats.unref()
    nats.subscribe("a", lambda *message: got.append(message))

    def tick(watcher: Any, revents: int) -> None:
        fired.append(1)
        nats.publish("a", b"x")
        if len(fired) == 10:
            watcher.stop()

    timer = loop.timer(0.005, 0.005, tick)
    timer.start()
    loop.start()
    assert len(fired) == 10
    assert len(got) >= 8


@pytest.mark.parametrize("unreferenced", [True, False])
def test_the_count_is_right_after_reconnects_timeouts_and_a_full_socket(
    proxy, server, connected, run, loop, unreferenced
):
    between = proxy(server.port)
    nats = connected(between, reconnect=True, reconnect_delay=1)
    answers: list[Any] = []
    nats.subscribe("silent", lambda *message: None)
    if unreferenced:
        nats.unref()
    for _ in range(5):
        nats.request("silent", b"", lambda *answer: answers.append(answer), 5)
        run(lambda: answers)
        answers.clear()
        between.stall()
        for _ in range(64):
            nats.publish("x", b"y" * 65536)
        for _ in range(20):
            loop.start(pyev.EVRUN_NOWAIT)
        between.resume()
        flushed(nats, run)
        count = nats.recorder.count("connect")
        between.cut()
        run(lambda count=count: nats.recorder.count("connect") > count)
        nats.ref()
        nats.unref() if unreferenced else nats.ref()
    assert ends(loop) is unreferenced
    nats.ref()
    assert not ends(loop)
    nats.disconnect()
    run(lambda: nats.recorder.events[-1] == "disconnect")
    assert ends(loop)
    # Nothing of the program's is counted twice or not at all.
    timer = loop.timer(0.01, 0.0, lambda *_: None)
    timer.start()
    began = time.monotonic()
    loop.start()
    assert time.monotonic() - began >= 0.009


def test_while_connecting_by_name_and_waiting_to_reconnect(client, loop, run):
    nats = client(servers=[f"localhost:{free_port()}"], reconnect=True, reconnect_delay=60_000)
    nats.unref()
    assert ends(loop)
    run(lambda: nats.recorder.errors)
    assert ends(loop)
    nats.ref()
    assert not ends(loop)
    nats.unref()
    nats.disconnect()
    assert ends(loop)


def test_under_tls(tls_server, certs, client, run, loop):
    nats = client(tls_server, tls_ca_file=certs.ca.cert_file)
    nats.unref()
    run(nats.is_connected)
    flushed(nats, run)
    assert ends(loop)
    nats.force_reconnect()
    run(lambda: nats.recorder.count("connect") == 2)
    assert ends(loop)
    nats.ref()
    assert not ends(loop)


def test_an_unreferenced_client_that_is_dropped_leaves_the_loops_count_as_it_was(server):
    loop = pyev.Loop()
    for _ in range(20):
        nats = Nats(loop=loop, host=server.host, port=server.port)
        nats.unref()
        nats.on_connect(nats.disconnect)
        timer = loop.timer(5.0, 0.0, lambda *_: None)
        timer.start()
        nats.on_disconnect(timer.stop)
        began = time.monotonic()
        loop.start()
        assert time.monotonic() - began < 4
        del nats
    fired: list[int] = []
    loop.timer(0.01, 0.0, lambda *_: fired.append(1)).start()
    loop.start()
    assert fired == [1]


def test_a_call_of_another_thread_reaches_an_unreferenced_client(connected, server, run):
    nats, got = connected(server), []
    nats.unref()
    nats.call_threadsafe(got.append, 1)
    run(lambda: got)


@pytest.mark.parametrize("where", ["connected", "connecting by name"])
def test_the_child_of_a_fork_may_run_its_loop_to_the_end(server, where):
    code = f"""
import os, time
from nats_ev import Nats, pyev
loop = pyev.default_loop()
host = {server.host!r} if {where == "connected"} else "localhost"
nats = Nats(host=host, port={server.port}, reconnect=True)
nats.unref()
if {where == "connected"}:
    keep = loop.timer(0.002, 0.002, lambda *_: nats.is_connected() and keep.stop())
    keep.start()
    loop.start()
    assert nats.is_connected()
pid = os.fork()
if not pid:
    loop.reset()
    loop.start()
    fired = []
    loop.timer(0.02, 0.0, lambda *_: fired.append(1)).start()
    began = time.monotonic()
    loop.start()
    os._exit(7 if fired and time.monotonic() - began < 5 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
done = []
keep = loop.timer(0.002, 0.002, lambda *_: done and keep.stop())
keep.start()
nats.flush(done.append)
loop.start()
assert done == [None]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_tunnel_under_way_counts_as_its_client_does(fake, client, run, loop, scheme):
    heard: list[Any] = []
    proxy = fake(lambda peer: (heard.append(peer.sock.recv(1)), silent(peer)))
    nats = client(
        None, servers=["nats.example:4222"], proxy=f"{scheme}://127.0.0.1:{proxy.port}",
        connect_timeout=0,
    )  # fmt: skip
    run(lambda: heard)
    assert not ends(loop)
    nats.unref()
    assert ends(loop)
    assert inside.is_dialling(nats)
    nats.ref()
    assert not ends(loop)
    nats.disconnect()
    assert ends(loop)
