"""The cutting proxy, before a server of sockets and before a nats-server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from nats_ev.testing import DOWN, UP, CuttingProxy, Server, wait_for


class Echo:
    """A server that sends back what it receives."""

    host = "127.0.0.1"
    url = "nats://127.0.0.1"

    def __init__(self) -> None:
        self.listener = socket.create_server((self.host, 0))
        self.port = self.listener.getsockname()[1]
        self.ends: list[str] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            try:
                while data := sock.recv(65536):
                    sock.sendall(data)
                self.ends.append("end")
            except ConnectionError:
                self.ends.append("reset")


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.listener.shutdown(socket.SHUT_RDWR)
    server.listener.close()


@pytest.fixture
def between(echo: Echo) -> Iterator[CuttingProxy]:
    with CuttingProxy(echo) as proxy:
        yield proxy


def connect(proxy: CuttingProxy) -> socket.socket:
    sock = socket.create_connection((proxy.host, proxy.port), 20)
    sock.settimeout(20)
    return sock


def received(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return data


def test_bytes_pass_and_are_recorded(between: CuttingProxy, echo: Echo) -> None:
    with connect(between) as sock:
        sock.sendall(b"hello")
        assert received(sock, 5) == b"hello"
        assert between.open_connections == 1
        assert between.connections == 1
        assert between.recorded == {UP: b"hello", DOWN: b"hello"}
        assert f"{echo.host}:{echo.port}, 1 open" in repr(between)
        between.recording = False
        sock.sendall(b"more")
        assert received(sock, 4) == b"more"
        assert between.recorded[UP] == b"hello"
    wait_for(lambda: echo.ends == ["end"])


@pytest.mark.parametrize("reset", [False, True])
def test_a_cut_ends_open_connections_on_both_sides(
    between: CuttingProxy, echo: Echo, reset: bool
) -> None:
    with connect(between) as sock:
        sock.sendall(b"x")
        received(sock, 1)
        between.cut(reset)
        if reset:
            with pytest.raises(ConnectionError):
                sock.recv(1)
        else:
            assert sock.recv(1) == b""
        wait_for(lambda: echo.ends == ["reset" if reset else "end"])
    with connect(between) as sock:
        sock.sendall(b"y")
        assert received(sock, 1) == b"y"


def test_it_refuses_new_connections_and_keeps_open_ones(between: CuttingProxy) -> None:
    with connect(between) as old:
        old.sendall(b"x")
        received(old, 1)
        between.refuse()
        with connect(between) as new:
            assert new.recv(1) == b""
        old.sendall(b"y")
        assert received(old, 1) == b"y"
        between.accept()
        with connect(between) as new:
            new.sendall(b"z")
            assert received(new, 1) == b"z"


def test_what_is_stalled_comes_after_resume(between: CuttingProxy) -> None:
    with connect(between) as sock:
        sock.sendall(b"x")
        received(sock, 1)
        between.stall(DOWN)
        sock.sendall(b"stalled")
        wait_for(lambda: between.recorded[UP] == b"xstalled")
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.settimeout(20)
        between.resume()
        assert received(sock, 7) == b"stalled"


def test_a_delay_is_in_milliseconds(between: CuttingProxy) -> None:
    between.delay(50, UP)
    between.delay(timedelta(milliseconds=50), DOWN)
    with connect(between) as sock:
        began = time.monotonic()
        sock.sendall(b"x")
        received(sock, 1)
        assert time.monotonic() - began >= 0.1


def test_single_bytes(between: CuttingProxy) -> None:
    between.split(1)
    with connect(between) as sock:
        sock.sendall(b"hello")
        assert received(sock, 5) == b"hello"


@pytest.mark.parametrize("times", [1, None])
def test_a_limit_cuts_each_connection_after_so_many_bytes(
    between: CuttingProxy, times: int | None
) -> None:
    between.limit(3, DOWN, times=times)
    for number in range(2):
        with connect(between) as sock:
            sock.sendall(b"hello")
            whole = times is not None and number == 1
            assert received(sock, 5) == (b"hello" if whole else b"hel")
    between.limit(None)
    with connect(between) as sock:
        sock.sendall(b"hello")
        assert received(sock, 5) == b"hello"


def test_it_goes_elsewhere_for_new_connections(between: CuttingProxy, echo: Echo) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(20)
        between.retarget(other.getsockname()[1])
        with connect(between), other.accept()[0]:
            wait_for(lambda: between.open_connections == 1)


def test_where_it_goes_may_be_said_in_several_ways(echo: Echo) -> None:
    for server in (echo, echo.port, f"nats://127.0.0.1:{echo.port}", f"127.0.0.1:{echo.port}"):
        with CuttingProxy(server) as proxy, connect(proxy) as sock:
            sock.sendall(b"x")
            assert received(sock, 1) == b"x"
            assert proxy.url == f"nats://127.0.0.1:{proxy.port}"
    with CuttingProxy(f"tls://127.0.0.1:{echo.port}") as proxy:
        assert proxy.options == {"servers": [f"tls://127.0.0.1:{proxy.port}"]}


def test_nobody_listens_behind_it(between: CuttingProxy) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        between.retarget(closed.getsockname()[1])
        with connect(between) as sock:
            assert sock.recv(1) == b""


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda proxy: proxy.stall("sideways"), "'up' or 'down'"),
        (lambda proxy: proxy.delay(1, "left"), "'up' or 'down'"),
        (lambda proxy: proxy.split(0), "1 or more"),
        (lambda proxy: proxy.limit(1, "x"), "'up' or 'down'"),
    ],
)
def test_wrong_words_are_refused(between: CuttingProxy, wrong: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        wrong(between)


@pytest.mark.server
def test_a_client_goes_through_it_and_comes_back(client: Any, run: Any) -> None:
    with Server(tls=True) as server, CuttingProxy(server) as proxy:
        nats = client(**proxy.options, reconnect=True, reconnect_delay=10)
        run(nats.is_connected)
        assert proxy.url.startswith("tls://")
        proxy.refuse()
        proxy.cut()
        run(lambda: nats.recorder.count("disconnect"))
        proxy.accept()
        run(lambda: nats.recorder.count("reconnect"))
