"""Clients reach their servers through proxies: real ones, dead ones, odd ones, in every moment."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab import inside
from lab.fakeserver import silent
from lab.located import words
from lab.process import descriptors
from lab.proxies import ThreadProxy, can_mount, danted, microsocks, tinyproxy
from lab.steps import flushed
from nats_ev import (
    ConnectError,
    ConnectTimeoutError,
    JetStream,
    Nats,
    ProxyError,
    Status,
    aio,
    blocking,
)
from nats_ev.testing import free_port, wait_for
from nats_ev.testing.certificates import server_config

FAST = {
    "reconnect": True,
    "reconnect_delay": 1,
    "max_reconnect_delay": 1,
    "max_reconnect_attempts": 0,
}
KINDS = ["http", "socks5", "socks5h"]


@pytest.fixture
def programs() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def thread_proxy(programs) -> Callable[..., ThreadProxy]:
    return lambda **how: programs.enter_context(ThreadProxy(**how))


def failure_of(client: Any, run: Any, **options: Any) -> Any:
    """Return the one error of a client that does not get a connection."""
    nats = client(None, reconnect=False, **options)
    run(lambda: nats.status() is Status.CLOSED)
    (error,) = nats.recorder.errors
    return error


def check_works(nats: Nats, run: Any) -> None:
    """Let a message with many bytes go round."""
    got: list[Any] = []
    payload = os.urandom(200_000)
    sid = nats.subscribe("round.trip", lambda subject, data, *rest: got.append(data))
    nats.publish("round.trip", payload)
    run(lambda: got)
    assert got == [payload]
    nats.unsubscribe(sid)


# Real proxies.


def test_an_http_proxy_with_a_password(server, client, run, programs, tmp_path):
    port = programs.enter_context(tinyproxy(tmp_path, server.port, "user hunter2"))
    options = {"servers": [server.url], "proxy": f"http://user:hunter2@127.0.0.1:{port}"}
    nats = client(None, **options)
    run(nats.is_connected)
    check_works(nats, run)
    assert inside.reads_in_c(nats)  # nothing of the proxy is left on the way
    assert inside.socket_of(nats).getpeername()[1] == port
    assert nats.proxy() == f"http://127.0.0.1:{port}"
    for part in inside.shown_parts(nats):
        assert "hunter2" not in repr(part)
    for login, code in [("user:hunter3@", (401, 407)), ("", (407,))]:
        error = failure_of(client, run, **options | {"proxy": f"http://{login}127.0.0.1:{port}"})
        assert isinstance(error, ProxyError)
        assert error.code in code
        assert error.proxy == f"http://127.0.0.1:{port}"
        assert (error.server, error.address) == (server.url, f"127.0.0.1:{server.port}")
        assert f"(through http://127.0.0.1:{port}): the proxy answered {error.code}" in str(error)
        assert "hunter" not in str(error)


def test_an_http_proxy_that_refuses_the_port(server, client, run, programs, tmp_path):
    port = programs.enter_context(tinyproxy(tmp_path, free_port()))
    error = failure_of(client, run, servers=[server.url], proxy=f"http://127.0.0.1:{port}")
    assert isinstance(error, ProxyError)
    assert error.code == 403


def test_an_http_proxy_that_does_not_reach_the_server(client, run, programs, tmp_path):
    nobody = free_port()
    port = programs.enter_context(tinyproxy(tmp_path, nobody))
    error = failure_of(
        client, run, servers=[f"127.0.0.1:{nobody}"], proxy=f"http://127.0.0.1:{port}"
    )
    assert isinstance(error, ProxyError)
    assert error.code in (500, 502, 503, 504)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_socks_proxy_with_a_password(server, client, run, programs, scheme):
    port = programs.enter_context(microsocks("user hunter2"))
    nats = client(None, servers=[server.url], proxy=f"{scheme}://user:hunter2@127.0.0.1:{port}")
    run(nats.is_connected)
    check_works(nats, run)
    for login, text in [
        ("user:hunter3@", "refuses the user or the password"), ("", "it wants a user and a password"),
    ]:  # fmt: skip
        error = failure_of(
            client, run, servers=[server.url], proxy=f"{scheme}://{login}127.0.0.1:{port}"
        )
        assert isinstance(error, ProxyError)
        assert text in str(error)
        assert "hunter" not in str(error)


def test_a_socks_proxy_with_rules(server, client, run, programs, tmp_path):
    blocked, nobody = free_port(), free_port()
    port = programs.enter_context(danted(tmp_path, blocked))
    nats = client(None, servers=[server.url], proxy=f"socks5://127.0.0.1:{port}")
    run(nats.is_connected)
    check_works(nats, run)
    for target, code in [(blocked, 2), (nobody, 5)]:
        error = failure_of(
            client, run, servers=[f"127.0.0.1:{target}"], proxy=f"socks5://127.0.0.1:{port}"
        )
        assert isinstance(error, ProxyError)
        assert error.code == code


def test_a_name_that_only_a_real_proxy_knows(server, client, run, programs, tmp_path):
    if not can_mount():
        pytest.skip("needs root: the proxy has its own /etc/hosts in a namespace")
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 only.the.proxy.knows\n")
    port = programs.enter_context(microsocks(hosts=hosts))
    nats = client(
        None, servers=[f"only.the.proxy.knows:{server.port}"], proxy=f"socks5://127.0.0.1:{port}"
    )
    run(nats.is_connected)
    assert nats.connected_url() == f"nats://only.the.proxy.knows:{server.port}"


# A proxy in threads.


@pytest.mark.parametrize("piecewise", [False, True])
@pytest.mark.parametrize("scheme", KINDS)
def test_names_are_the_proxys_and_no_byte_of_the_server_is_lost(
    server, client, run, thread_proxy, monkeypatch, scheme, piecewise
):
    """Piecewise, INFO comes together with the last byte of the proxy's answer."""
    proxy = thread_proxy(names={"nats.internal": "127.0.0.1"}, login="u:p", piecewise=piecewise)
    looked_up: list[str] = []
    getaddrinfo = socket.getaddrinfo

    def noted(host: str, *args: Any, **options: Any) -> Any:
        looked_up.append(host)
        return getaddrinfo(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", noted)
    nats = client(
        None, servers=[f"nats.internal:{server.port}"], proxy=f"{scheme}://u:p@{proxy.address}"
    )
    run(nats.is_connected)
    check_works(nats, run)
    assert proxy.asked == [f"nats.internal:{server.port}"]
    assert "nats.internal" not in looked_up
    assert not nats.recorder.errors


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize("first", [False, True])
def test_tls_inside_the_tunnel_checks_the_servers_name(
    own_server, certs, client, run, thread_proxy, scheme, first
):
    good = certs.issue("reached-by-proxies", "localhost")
    server = own_server(config=server_config(good, first=first), silent=first)
    proxy = thread_proxy(names={"nats.internal": "127.0.0.1"}, piecewise=not first)
    options = {
        "proxy": f"{scheme}://{proxy.address}",
        "tls_ca_file": certs.ca.cert_file,
        "tls_handshake_first": first,
    }
    nats = client(None, servers=[f"tls://localhost:{server.port}"], **options)
    run(nats.is_connected)
    assert inside.is_secure(nats)
    check_works(nats, run)
    error = failure_of(client, run, servers=[f"tls://nats.internal:{server.port}"], **options)
    assert "nats.internal" in str(error)
    assert proxy.asked == [f"localhost:{server.port}", f"nats.internal:{server.port}"]


def test_jetstream_and_reconnects_go_through_the_proxy(own_server, client, run, call, thread_proxy):
    server = own_server(jetstream=True)
    proxy = thread_proxy()
    nats = client(None, servers=[server.url], proxy=f"socks5://{proxy.address}", **FAST)
    run(nats.is_connected)
    js = JetStream(nats)
    _, err = call(js.stream_create, {"name": "S", "subjects": ["s.>"], "storage": "memory"})
    assert err is None
    for number in range(1, 4):
        ack, err = call(js.publish, "s.x", b"data")
        assert (err, ack["seq"]) == (None, number)
        before = nats.stats()["reconnects"]
        proxy.cut()
        run(lambda: nats.stats()["reconnects"] > before and nats.is_connected())  # noqa: B023
    assert len(proxy.asked) >= 4


def test_discovered_servers_are_reached_through_the_proxy(fake, client, run, thread_proxy):
    second = fake(lambda peer: (peer.handshake(), silent(peer)))
    first = fake(
        lambda peer: (
            peer.handshake(connect_urls=[f"127.0.0.1:{second.port}"]),
            peer.close(),
        ),
        lambda peer: peer.close(),
    )
    proxy = thread_proxy()
    nats = client(None, servers=[first.url], proxy=f"http://{proxy.address}", **FAST)
    run(lambda: nats.is_connected() and nats.connected_url() == second.url)
    assert f"127.0.0.1:{second.port}" in proxy.asked


@pytest.mark.parametrize("scheme", KINDS)
def test_a_dead_proxy_is_an_error_that_names_it_and_the_pool_goes_on(
    server, client, run, thread_proxy, scheme
):
    port = free_port()
    nats = client(
        None, servers=[server.url, "127.0.0.1:1"], proxy=f"{scheme}://u:p@127.0.0.1:{port}", **FAST
    )
    run(lambda: len(nats.recorder.errors) >= 6)
    for error in nats.recorder.errors:
        assert isinstance(error, ProxyError)
        assert isinstance(error.__cause__, ConnectionRefusedError)
        assert error.proxy == f"{scheme}://127.0.0.1:{port}"
        assert words(error) == "the proxy: Connection refused"
    assert {error.address for error in nats.recorder.errors} == {
        f"127.0.0.1:{server.port}", "127.0.0.1:1",
    }  # fmt: skip
    states = nats.server_pool()
    assert all(isinstance(state["last_error"], ProxyError) for state in states)
    proxy = thread_proxy(login="u:p")
    assert nats.proxy(f"{scheme}://u:p@{proxy.address}") == f"{scheme}://{proxy.address}"
    run(nats.is_connected)
    assert nats.connected_url() == server.url


def test_the_proxy_is_set_and_removed_at_run_time(server, client, run, thread_proxy):
    proxy = thread_proxy()
    nats = client(None, servers=[server.url], proxy="", **FAST)
    run(nats.is_connected)
    assert (nats.proxy(), proxy.asked) == ("", [])
    nats.proxy(f"socks5://{proxy.address}")
    nats.force_reconnect()
    run(lambda: nats.stats()["reconnects"] == 1)
    assert len(proxy.asked) == 1
    assert nats.proxy(False) == ""
    nats.force_reconnect()
    run(lambda: nats.stats()["reconnects"] == 2)
    assert len(proxy.asked) == 1
    with pytest.raises(ValueError, match="proxy"):
        nats.proxy("proxy:8080")
    assert nats.proxy(None) is None


# The environment, contexts and faces.


def test_the_environment_names_a_proxy_and_exceptions(
    server, client, run, thread_proxy, monkeypatch
):
    proxy = thread_proxy()
    monkeypatch.setenv("ALL_PROXY", f"socks5h://{proxy.address}")
    nats = client(None, servers=[server.url])
    run(nats.is_connected)
    assert len(proxy.asked) == 1
    for how in ({"proxy": ""}, {"proxy": False}, {"dial": connect}):
        direct = client(None, servers=[server.url], **how)
        run(direct.is_connected)
    monkeypatch.setenv("NO_PROXY", "example.org, 127.0.0.0/8")
    direct = client(None, servers=[server.url])
    run(direct.is_connected)
    assert len(proxy.asked) == 1
    explicit = client(None, servers=[server.url], proxy=f"http://{proxy.address}")
    run(explicit.is_connected)
    assert len(proxy.asked) == 2


def connect(host: str, port: int, done: Any) -> None:
    """Connect at once: an option dial."""
    done(socket.create_connection((host, port)))


def test_a_bad_variable_is_an_error_of_the_attempt(server, client, run, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "https://u:hunter2@proxy")
    error = failure_of(client, run, servers=[server.url])
    assert isinstance(error, ConnectError)
    assert "ALL_PROXY: TLS to a proxy" in str(error)
    assert "hunter2" not in str(error)


def test_unix_sockets_need_no_proxy(server, unix_socket, client, run, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    nats = client(path=unix_socket(server.port), proxy="http://127.0.0.1:1")
    run(nats.is_connected)


def test_a_context_and_the_tools_variable_name_a_proxy(
    server, loop, run, thread_proxy, tmp_path, monkeypatch
):
    proxy = thread_proxy(login="u:hunter2")
    file = tmp_path / "work.json"
    file.write_text(
        f'{{"url": "{server.url}", "socks_proxy": "socks5://u:hunter2@{proxy.address}"}}'
    )
    nats = Nats.from_context(file, loop=loop)
    run(nats.is_connected)
    assert len(proxy.asked) == 1
    assert "hunter2" not in repr(nats.context)
    assert "hunter2" not in str(nats.context.redacted())
    nats.disconnect()
    other = Nats.from_context(file, loop=loop, proxy="")
    run(other.is_connected)
    assert len(proxy.asked) == 1
    other.disconnect()
    monkeypatch.setenv("NATS_URL", server.url)
    monkeypatch.setenv("NATS_SOCKS_PROXY", f"socks5://u:hunter2@{proxy.address}")
    third = Nats.from_env(loop=loop)
    run(third.is_connected)
    assert len(proxy.asked) == 2
    third.disconnect()
    monkeypatch.setenv("NATS_SOCKS_PROXY", "socks4://u:hunter2@proxy")
    with pytest.raises(ValueError, match=r"NATS_SOCKS_PROXY.*socks4:// is not supported") as caught:
        Nats.from_env(loop=loop)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_the_faces_go_through_proxies(server, thread_proxy, scheme):
    proxy = thread_proxy()
    url = f"{scheme}://{proxy.address}"
    with blocking.connect(servers=server.url, proxy=url) as nc:
        nc.flush()
        assert nc.proxy() == url

    async def main() -> None:
        async with aio.connect(servers=server.url, proxy=url) as nc:
            await nc.flush()

    import asyncio

    asyncio.run(main())
    assert len(proxy.asked) == 2
    with pytest.raises(ProxyError, match="the proxy: Connection refused"):
        blocking.connect(servers=server.url, proxy=f"{scheme}://127.0.0.1:1").__enter__()


# Moments.


def http_head(peer: Any) -> None:
    peer.until("")


def greeting(peer: Any) -> None:
    assert peer.sock.recv(3) == b"\x05\x01\x00"


def socks_request(peer: Any) -> None:
    greeting(peer)
    peer.send(b"\x05\x00")
    assert peer.sock.recv(10)


# What a proxy hears before it falls silent.
STAGES = [
    ("http", lambda peer: None),
    ("http", http_head),
    ("socks5", greeting),
    ("socks5", socks_request),
]


@pytest.mark.parametrize(("scheme", "hears"), STAGES, ids=["a", "b", "c", "d"])
class TestSilence:
    """A proxy that says nothing, or half of something."""

    def test_the_time_out_says_that_it_is_the_proxy(self, fake, client, run, scheme, hears):
        proxy = fake(lambda peer: (hears(peer), silent(peer), peer.close()))
        open_before: list[int] = []
        for _ in range(2):
            error = failure_of(
                client, run, servers=["nats.example:4222"], connect_timeout=150,
                proxy=f"{scheme}://127.0.0.1:{proxy.port}",
            )  # fmt: skip
            assert isinstance(error, ConnectTimeoutError)
            assert words(error) == "the proxy does not answer: connect timeout"
            assert f"through {scheme}://127.0.0.1:{proxy.port}" in str(error)
            wait_for(lambda: all(peer.closed for peer in proxy.peers))
            open_before.append(descriptors())
        assert open_before[1] <= open_before[0] + 1  # the second client's, to be woken by

    def test_disconnect_is_final(self, fake, client, run, loop, scheme, hears):
        heard: list[Any] = []
        ended: list[bool] = []

        def script(peer: Any) -> None:
            hears(peer)
            heard.append(peer)
            ended.append(peer.at_eof())

        proxy = fake(script)
        nats = client(
            None, servers=["nats.example:4222"], proxy=f"{scheme}://127.0.0.1:{proxy.port}",
            connect_timeout=0,
        )  # fmt: skip
        run(lambda: heard)
        assert inside.is_dialling(nats)
        nats.disconnect()
        wait_for(lambda: ended)
        assert ended == [True]
        run()  # nothing keeps the loop running
        assert nats.recorder.errors == []

    def test_a_proxy_that_closes_is_an_error_and_a_retry(self, fake, client, run, scheme, hears):
        proxy = fake(hears and (lambda peer: (hears(peer), peer.close())))
        nats = client(
            None, servers=["nats.example:4222"], proxy=f"{scheme}://127.0.0.1:{proxy.port}", **FAST
        )
        run(lambda: len(nats.recorder.errors) >= 3)
        for error in nats.recorder.errors:
            assert isinstance(error, ProxyError)
            assert "closed the connection" in str(error) or "reset" in str(error)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
    def test_a_fork_leaves_the_parents_tunnel_alone(self, fake, client, run, scheme, hears):
        heard: list[Any] = []
        go_on: list[int] = []

        def script(peer: Any) -> None:
            hears(peer)
            heard.append(peer)
            peer.at_eof()
            go_on.append(1)

        proxy = fake(script)
        nats = client(
            None, servers=["nats.example:4222"], proxy=f"{scheme}://127.0.0.1:{proxy.port}",
            connect_timeout=0,
        )  # fmt: skip
        run(lambda: heard)
        pid = os.fork()
        if not pid:
            os._exit(int(nats.is_connected()))
        assert os.waitpid(pid, 0)[1] == 0
        assert not go_on  # the peer has seen no end
        assert inside.is_dialling(nats)
        nats.disconnect()
        wait_for(lambda: go_on)


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port that never answers: its listener's backlog is full and nobody accepts."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(16):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_proxy_that_is_not_reached_in_time(client, run, full_port, scheme):
    url = f"{scheme}://127.0.0.1:{full_port}"
    error = failure_of(client, run, servers=["nats.example:4222"], proxy=url, connect_timeout=100)
    assert isinstance(error, ConnectTimeoutError)
    assert str(error) == (
        f"nats.example:4222 (through {url}): the proxy can't be reached: connect timeout"
    )
    nats = client(None, servers=["nats.example:4222"], proxy=url, connect_timeout=0)
    run(lambda: inside.is_dialling(nats))
    nats.disconnect()
    run()
    assert not nats.recorder.errors


def test_a_proxy_whose_name_is_not_found(client, run, monkeypatch):
    def unknown(host: str, *args: Any, **options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = failure_of(
        client, run, servers=["10.0.0.1:4222"], proxy="http://u:p@no.such.proxy:8080"
    )
    assert isinstance(error, ProxyError)
    assert str(error) == (
        "10.0.0.1:4222 (through http://no.such.proxy:8080): the proxy: Name or service not known"
    )


def test_failed_tunnels_leave_no_descriptors(fake, client, run):
    proxy = fake(
        lambda peer: (http_head(peer), peer.send(b"HTTP/1.1 503 No\r\n\r\n"), peer.close())
    )
    nats = client(
        None, servers=["nats.example:4222"], proxy=f"http://127.0.0.1:{proxy.port}", **FAST
    )
    run(lambda: len(nats.recorder.errors) > 5)
    before = descriptors()
    run(lambda: len(nats.recorder.errors) > 40)
    run(lambda: descriptors() <= before + 2)
    nats.disconnect()


def test_an_endless_header_ends(fake, client, run):
    def script(peer: Any) -> None:
        http_head(peer)
        peer.send(b"HTTP/1.1 200 OK\r\n")
        with contextlib.suppress(OSError):
            for _ in range(10_000):
                peer.send(b"X: " + b"x" * 1000 + b"\r\n")

    proxy = fake(script)
    error = failure_of(
        client, run, servers=["nats.example:4222"], proxy=f"http://127.0.0.1:{proxy.port}",
        connect_timeout=20_000,
    )  # fmt: skip
    assert words(error) == "the header of the proxy's answer exceeds 16384 bytes"


def test_a_server_that_fails_inside_the_tunnel_shows_the_way(fake, client, run, thread_proxy):
    server = fake(lambda peer: peer.close())
    proxy = thread_proxy()
    error = failure_of(client, run, servers=[server.url], proxy=f"http://u:p@{proxy.address}")
    assert str(error).startswith(f"127.0.0.1:{server.port} (through http://{proxy.address}): ")
    assert words(error) == "connection closed by the server before INFO"


def test_messages_are_flushed_through_the_tunnel(server, client, run, thread_proxy):
    proxy = thread_proxy()
    nats = client(None, servers=[server.url], proxy=f"socks5://{proxy.address}")
    for _ in range(50):
        nats.publish("bulk", bytes(20_000))
    flushed(nats, run)
