"""How soon the client notices that something is wrong, and is back when it is right again.

By the client's status events. The bounds are those of the options plus a second for a busy machine; while
all that happens the loop's other timers must keep going.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from lab.located import words
from nats_ev import ConnectTimeoutError, StaleConnectionError
from nats_ev.testing import free_port

GRACE = 5.0  # seconds that a busy machine may take on top


@pytest.fixture
def watch(loop) -> Iterator[Any]:
    """watch(nats) → list of (time, status); and the loop is never blocked meanwhile."""
    gaps: list[float] = []
    last = [0.0]

    def tick(watcher: Any, revents: int) -> None:
        now = time.monotonic()
        if last[0]:
            gaps.append(now - last[0])
        last[0] = now

    def pause() -> None:
        last[0] = 0.0  # the test itself blocks the loop: not counted

    ticker = loop.timer(0.005, 0.005, tick)
    ticker.start()
    loop.unref()

    def watch(nats: Any) -> list[tuple[float, str]]:
        seen: list[tuple[float, str]] = []
        nats.add_status_listener(lambda status: seen.append((time.monotonic(), str(status.value))))
        return seen

    watch.pause = pause  # type: ignore[attr-defined]
    yield watch
    loop.ref()
    ticker.stop()
    assert gaps
    assert max(gaps) < GRACE


def when(seen: list[tuple[float, str]], status: str) -> float:
    """The last time of a status."""
    return [at for at, what in seen if what == status][-1]


def test_back_soon_after_the_server_listens_again(own_server, connected, run, watch):
    running = own_server()
    nats = connected(
        running,
        reconnect=True,
        reconnect_delay=20,
        max_reconnect_delay=50,
        max_reconnect_attempts=0,
    )
    seen = watch(nats)
    for number in range(1, 6):
        killed = time.monotonic()
        running.kill()
        run(lambda: nats.status() == "RECONNECTING")
        assert when(seen, "RECONNECTING") - killed < GRACE
        pause_until = time.monotonic() + 0.1
        run(lambda until=pause_until: time.monotonic() > until)
        watch.pause()
        running.start()
        listening = time.monotonic()
        run(lambda number=number: nats.recorder.count("reconnect") == number)
        assert when(seen, "CONNECTED") - listening < 0.05 + GRACE
    assert nats.recorder.count("disconnect") == 5
    assert nats.recorder.count("connect") == 6


def test_a_stopped_server_is_noticed_and_found_again(own_server, connected, run, watch):
    running = own_server()
    options = {"ping_interval": 100, "max_pings_outstanding": 2, "connect_timeout": 200}
    nats = connected(running, reconnect=True, reconnect_delay=10, max_reconnect_delay=50, **options)
    seen = watch(nats)
    stopped = time.monotonic()
    running.suspend()
    run(lambda: nats.recorder.errors)
    assert isinstance(nats.recorder.errors[0], StaleConnectionError)
    assert 0.1 <= when(seen, "RECONNECTING") - stopped < 0.3 + GRACE
    # The kernel still takes connections for it; nobody says anything.
    run(lambda: len(nats.recorder.errors) >= 3)
    assert all(isinstance(error, ConnectTimeoutError) for error in nats.recorder.errors[1:])
    resumed = time.monotonic()
    running.resume()
    run(lambda: nats.recorder.count("reconnect"))
    assert when(seen, "CONNECTED") - resumed < 0.25 + GRACE


def test_a_network_that_swallows_everything_is_noticed(proxy, server, connected, run, watch):
    link = proxy(server.port)
    options = {"ping_interval": 80, "max_pings_outstanding": 2, "connect_timeout": 300}
    nats = connected(link, reconnect=True, reconnect_delay=10, max_reconnect_delay=50, **options)
    seen = watch(nats)
    for direction in ("up", "down"):
        before = len(nats.recorder.errors)
        stalled = time.monotonic()
        link.stall(direction)
        run(lambda before=before: len(nats.recorder.errors) > before)
        assert isinstance(nats.recorder.errors[before], StaleConnectionError)
        assert when(seen, "RECONNECTING") - stalled < 0.24 + GRACE
        link.resume()
        run(nats.is_connected)
    assert nats.recorder.count("disconnect") == 2


@pytest.mark.parametrize("port_of", ["silent", "silent after INFO"])
def test_connect_timeout_is_kept(fake, client, run, watch, port_of):
    def script(peer: Any) -> None:
        if port_of == "silent after INFO":
            peer.send_info()
        peer.at_eof()

    start = time.monotonic()
    nats = client(fake(script), connect_timeout=200)
    seen = watch(nats)
    run(lambda: nats.recorder.errors)
    took = time.monotonic() - start
    assert 0.2 <= took < 0.2 + GRACE
    assert isinstance(nats.recorder.errors[0], ConnectTimeoutError)
    hint = "the peer sends no INFO (is it a NATS server?): " if port_of == "silent" else ""
    assert words(nats.recorder.errors[0]) == f"{hint}connect timeout"
    assert seen[-1][1] == "CLOSED"


def test_a_refused_connection_is_an_error_at_once(client, run):
    start = time.monotonic()
    nats = client(None, host="127.0.0.1", port=free_port())
    run(lambda: nats.recorder.errors)
    assert time.monotonic() - start < GRACE
    assert words(nats.recorder.errors[0]) == "Connection refused"


def test_delays_between_rounds_double_with_jitter_up_to_their_maximum(client, run, watch):
    at: list[float] = []
    nats = client(
        None, host="127.0.0.1", port=free_port(),
        reconnect=True, reconnect_delay=20, max_reconnect_delay=160, max_reconnect_attempts=7,
        on_error=lambda error: at.append(time.monotonic()),
    )  # fmt: skip
    watch(nats)
    run(lambda: nats.status() == "CLOSED" and len(at) == 9)
    waits = [b - a for a, b in pairwise(at[:-1])]
    for wait, delay in zip(waits, [0.02, 0.04, 0.08, 0.16, 0.16, 0.16, 0.16], strict=True):
        assert delay * 0.5 <= wait < delay + GRACE


def test_a_connection_to_itself_is_taken_for_what_it_is(client, run, monkeypatch):
    from nats_ev.net import dial

    port, real, bound = free_port(held=False), dial.open_socket, []

    def open_socket(family: int, keepalive: int) -> Any:
        sock = real(family, keepalive)
        if not bound:  # what the kernel does by chance, among some 28,000 ports
            sock.bind(("127.0.0.1", port))
            bound.append(sock)
        return sock

    monkeypatch.setattr(dial, "open_socket", open_socket)
    nats = client(None, host="127.0.0.1", port=port, reconnect=True, reconnect_delay=1)
    run(lambda: len(nats.recorder.errors) > 4)
    assert {words(error) for error in nats.recorder.errors} == {"Connection refused"}
    assert nats.server_info() is None
