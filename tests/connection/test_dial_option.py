"""The option dial: sockets of the user's own, of all kinds, in all moments, and what comes in their place."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from lab import inside
from lab.located import words
from lab.process import descriptors
from nats_ev import ConnectError, ConnectTimeoutError, Status, aio, blocking
from nats_ev.connection import route
from nats_ev.net import transport
from nats_ev.testing import wait_for
from nats_ev.testing.certificates import server_config

FAST = {
    "reconnect": True,
    "reconnect_delay": 1,
    "max_reconnect_delay": 1,
    "max_reconnect_attempts": 0,
}


def connect(host: str, port: int, done: Any) -> None:
    """Connect at once, in the call."""
    done(socket.create_connection((host, port)))


class Later:
    """A dial that only notes the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, Callable[..., None]]] = []

    def __call__(self, host: str, port: int, done: Callable[..., None]) -> None:
        self.calls.append((host, port, done))


def failure_of(client: Any, run: Any, dial: Any, **options: Any) -> Any:
    """Return the one error of a client whose dial brings no socket."""
    nats = client(None, servers=["nats.example:4222"], dial=dial, reconnect=False, **options)
    run(lambda: nats.status() is Status.CLOSED)
    (error,) = nats.recorder.errors
    assert isinstance(error, ConnectError)
    assert error.address == "nats.example:4222"
    return error


def check_works(nats: Any, run: Any) -> None:
    got: list[bytes] = []
    payload = os.urandom(200_000)
    nats.subscribe("round.trip", lambda subject, data, *rest: got.append(data))
    nats.publish("round.trip", payload)
    run(lambda: got)
    assert got == [payload]


@pytest.fixture
def pair_to(server) -> Iterator[Callable[[], socket.socket]]:
    """pair_to(): one end of a socketpair; a thread connects the other one to the server."""
    with contextlib.ExitStack() as stack:

        def make() -> socket.socket:
            ours, theirs = socket.socketpair()
            far = socket.create_connection(("127.0.0.1", server.port))
            for source, target in ((theirs, far), (far, theirs)):
                threading.Thread(target=pump, args=(source, target), daemon=True).start()
            stack.callback(far.close)
            stack.callback(theirs.close)
            return ours

        yield make


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


def test_a_socket_in_the_call(server, client, run):
    nats = client(None, servers=[server.url], dial=connect, keepalive=7, tcp_user_timeout=2500)
    run(nats.is_connected)
    check_works(nats, run)
    assert inside.reads_in_c(nats)
    sock = inside.socket_of(nats)
    assert not sock.getblocking()
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    if sys.platform.startswith("linux"):
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2500


def test_no_proxy_of_the_environment_counts(server, client, run, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    nats = client(None, servers=[server.url], dial=connect)
    run(nats.is_connected)


def test_a_socket_later_gets_the_servers_name_unresolved(server, client, run):
    later = Later()
    nats = client(None, servers=[f"tls.nats.example:{server.port}"], dial=later, connect_timeout=0)
    run(lambda: later.calls)
    ((host, port, done),) = later.calls
    assert (host, port) == ("tls.nats.example", server.port)
    assert inside.is_dialling(nats)
    given = socket.create_connection(("127.0.0.1", server.port))
    done(given)
    assert given.fileno() == -1  # the client has taken it over
    assert not nats.is_connected()
    run(nats.is_connected)
    check_works(nats, run)


def test_a_socketpair_serves_and_reconnects(pair_to, client, run):
    nats = client(
        None, servers=["in.process:4222"], dial=lambda host, port, done: done(pair_to()), **FAST
    )
    for number in range(3):
        run(lambda: nats.is_connected() and nats.stats()["reconnects"] == number)  # noqa: B023
        nats.force_reconnect()
    run(lambda: nats.stats()["reconnects"] == 3)
    assert not nats.recorder.errors


def test_a_programs_standard_streams_are_a_way_to_the_server(server, client, run):
    """As ``ssh -W host:port gateway`` does."""
    program = """
import os, socket, sys, threading
far = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def up():
    while data := os.read(0, 65536):
        far.sendall(data)
    far.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := far.recv(65536):
    os.write(1, data)
"""
    children: list[subprocess.Popen[bytes]] = []

    def dial(host: str, port: int, done: Any) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-c", program, str(port)]
            children.append(subprocess.Popen(command, stdin=theirs, stdout=theirs))
        done(ours)

    nats = client(None, servers=[f"gateway.only:{server.port}"], dial=dial)
    run(nats.is_connected)
    check_works(nats, run)
    nats.disconnect()
    assert children[0].wait(timeout=30) == 0  # it has seen the end of its input


def test_an_inherited_descriptor(server, client, run):
    """As systemd passes one."""
    fd = socket.create_connection(("127.0.0.1", server.port)).detach()
    nats = client(
        None, servers=[server.url], dial=lambda h, p, done: done(socket.socket(fileno=fd))
    )
    run(nats.is_connected)
    assert inside.socket_of(nats).fileno() == fd


def test_a_unix_socket_of_dial_and_one_without_it(server, unix_socket, client, run):
    path = unix_socket(server.port)
    calls: list[str] = []

    def dial(host: str, port: int, done: Any) -> None:
        calls.append(host)
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        done(sock)

    nats = client(None, servers=["over.unix:1"], dial=dial)
    run(nats.is_connected)
    direct = client(path=path, dial=dial)
    run(direct.is_connected)
    assert calls == ["over.unix"]


def test_tls_over_a_socket_of_ones_own(own_server, certs, client, run):
    server = own_server(config=server_config(certs.issue("dialled", "nats.internal")))

    def dial(host: str, port: int, done: Any) -> None:
        assert host == "nats.internal"
        connect("127.0.0.1", port, done)

    nats = client(
        None, servers=[f"tls://nats.internal:{server.port}"], dial=dial,
        tls_ca_file=certs.ca.cert_file,
    )  # fmt: skip
    run(nats.is_connected)
    assert inside.is_secure(nats)


def test_the_faces_take_dial(server):
    with blocking.connect(servers=server.url, dial=connect) as nc:
        nc.flush()

    async def main() -> None:
        import asyncio

        tasks: list[Any] = []

        def dial(host: str, port: int, done: Any) -> None:
            async def open_socket() -> None:
                sock = socket.socket()
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, (host, port))
                done(sock)

            tasks.append(asyncio.get_running_loop().create_task(open_socket()))

        async with aio.connect(servers=f"127.0.0.1:{server.port}", dial=dial) as nc:
            await nc.flush()
        assert len(tasks) == 1

    import asyncio

    asyncio.run(main())


def test_a_greenlet_connects_in_its_own_time(server):
    gevent = pytest.importorskip("gevent")
    from gevent import socket as green_socket

    from nats_ev import green

    def dial(host: str, port: int, done: Any) -> None:
        gevent.spawn(lambda: done(green_socket.create_connection((host, port))))

    with green.connect(servers=server.url, dial=dial) as nc:
        nc.flush()


# What goes wrong.


def raises(host: str, port: int, done: Any) -> None:
    raise LookupError("no way")


@pytest.mark.parametrize(
    ("dial", "text", "cause"),
    [
        (lambda h, p, done: done(None, OSError(113, "No route to host")), "dial: No route to host", OSError),
        (lambda h, p, done: done(OSError("gateway closed")), "dial: gateway closed", OSError),
        (lambda h, p, done: done(err="no ticket"), "dial: no ticket", None),
        (lambda h, p, done: done("no ticket"), "dial: no ticket", None),
        (lambda h, p, done: done(None, KeyError()), "dial: KeyError", KeyError),
        (lambda h, p, done: done(), "dial: done was called without a socket", None),
        (lambda h, p, done: done(None), "dial: done was called without a socket", None),
        (lambda h, p, done: done(5), "dial: a connected socket is wanted, not int", TypeError),
        (lambda h, p, done: done(io.BytesIO()), "dial: a connected socket is wanted, not BytesIO", TypeError),
        (lambda h, p, done: done(socket.socket()), "dial: Transport endpoint is not connected", OSError),
        (lambda h, p, done: done(closed()), "dial: the socket is closed", OSError),
        (
            lambda h, p, done: done(socket.socket(type=socket.SOCK_DGRAM)),
            "dial: a stream socket is wanted", TypeError,
        ),
        (raises, "dial: no way", LookupError),
    ],
)  # fmt: skip
def test_what_is_no_connection_is_an_error_of_the_attempt(client, run, dial, text, cause):
    error = failure_of(client, run, dial)
    assert words(error).startswith(text)
    assert type(error.__cause__) is (cause or type(None)) or isinstance(error.__cause__, cause)


def closed() -> socket.socket:
    sock = socket.socket()
    sock.close()
    return sock


def test_a_socket_with_tls_is_refused(client, run):
    import ssl

    context = ssl.create_default_context()
    ours, theirs = socket.socketpair()
    with theirs:
        wrapped = context.wrap_socket(ours, server_hostname="x", do_handshake_on_connect=False)
        error = failure_of(client, run, lambda h, p, done: done(wrapped))
    assert "a plain socket is wanted, not one with TLS" in str(error)
    assert wrapped.fileno() == -1


def test_the_pool_goes_on_after_a_dial_that_fails(server, client, run):
    def dial(host: str, port: int, done: Any) -> None:
        if port == server.port:
            connect(host, port, done)
        else:
            raise LookupError("unknown")

    nats = client(None, servers=["127.0.0.1:1", server.url], randomize_servers=False, dial=dial)
    run(nats.is_connected)
    assert [words(error) for error in nats.recorder.errors] == ["dial: unknown"]


@pytest.mark.parametrize("end", ["time-out", "disconnect", "reconnect"])
def test_a_socket_that_comes_too_late_is_closed(client, run, end):
    later = Later()
    more = {"time-out": {"connect_timeout": 60}, "disconnect": {}, "reconnect": FAST}[end]
    nats = client(None, servers=["nats.example:4222"], dial=later, **{"connect_timeout": 0} | more)
    run(lambda: later.calls)
    if end == "time-out":
        run(lambda: nats.status() is Status.CLOSED)
        (error,) = nats.recorder.errors
        assert isinstance(error, ConnectTimeoutError)
        assert words(error) == "the option dial has not called done: connect timeout"
    else:
        nats.disconnect()
        if end == "reconnect":
            nats.connect()
            run(lambda: len(later.calls) == 2)
    _, _, done = later.calls[0]
    ours, theirs = socket.socketpair()
    with theirs:
        done(ours)
        assert ours.fileno() == -1
        assert theirs.recv(1) == b""
    done(None, OSError("too late"))
    done(OSError("too late"))
    done(5)
    assert inside.is_dialling(nats) == (end == "reconnect")
    assert len(nats.recorder.errors) == (end == "time-out")


class Numbered(socket.socket):
    """A socket whose addresses are numbers, as those of VSOCK are."""

    def getpeername(self) -> Any:
        return (2, 4222)

    def getsockname(self) -> Any:
        return (3, 50_000)


def test_a_socket_of_a_family_whose_addresses_are_numbers(server, client, run, monkeypatch):
    monkeypatch.setattr(
        transport, "socket_of", lambda fd: Numbered(socket.AF_INET, socket.SOCK_STREAM, 0, fd)
    )

    nats = client(servers=server.url, dial=connect)
    run(nats.is_connected)
    assert (nats.connected_addr(), nats.local_addr()) == ("2:4222", "3:50000")


def test_done_counts_once(server, client, run):
    later = Later()
    nats = client(None, servers=[server.url], dial=later)
    run(lambda: later.calls)
    _, _, done = later.calls[0]
    done(socket.create_connection(("127.0.0.1", server.port)))
    second, theirs = socket.socketpair()
    with theirs:
        done(second)
        assert second.fileno() == -1
    done(None, OSError("and an error"))
    run(nats.is_connected)
    assert not nats.recorder.errors


@pytest.mark.parametrize("replaced", [False, True], ids=["", "socket replaced as by gevent"])
def test_disconnect_between_done_and_its_effect_closes_the_socket(
    client, run, monkeypatch, replaced
):
    if replaced:
        monkeypatch.setattr(route, "socket", SimpleNamespace(socket=Later))
    later = Later()
    nats = client(None, servers=["nats.example:4222"], dial=later)
    run(lambda: later.calls)
    ours, theirs = socket.socketpair()
    with theirs:
        later.calls[0][2](ours)
        nats.disconnect()
        assert theirs.recv(1) == b""
    run(lambda: not inside.is_active(nats))
    assert not nats.recorder.errors


def test_an_exception_after_done_is_a_callbacks_and_the_socket_counts(
    server, client, run, excepthook
):
    def dial(host: str, port: int, done: Any) -> None:
        connect(host, port, done)
        raise LookupError("after all")

    nats = client(None, servers=[server.url], dial=dial)
    run(nats.is_connected)
    run(lambda: excepthook)
    assert [str(exc) for exc in excepthook] == ["after all"]
    assert not nats.recorder.errors


@pytest.mark.parametrize("early", [False, True])
def test_an_interrupt_in_dial_comes_out_of_the_loop(server, client, loop, run, early):
    def dial(host: str, port: int, done: Any) -> None:
        if early:
            connect(host, port, done)
        raise KeyboardInterrupt

    nats = client(None, servers=[server.url], dial=dial, reconnect=False)
    with pytest.raises(KeyboardInterrupt):
        run(lambda: False)
    if early:
        run(nats.is_connected)
    else:
        run(lambda: nats.status() is Status.CLOSED)
        assert [words(e) for e in nats.recorder.errors] == ["dial: interrupted"]


def test_dial_may_disconnect_or_set_the_pool(server, client, run):
    def dial(host: str, port: int, done: Any) -> None:
        box[0].disconnect()
        done(socket.create_connection((host, port)))

    box = [client(None, servers=[server.url], dial=dial)]
    before = descriptors()
    run(lambda: box[0].status() is Status.CLOSED)
    assert descriptors() <= before + 1
    assert not box[0].recorder.errors


def test_done_of_another_thread_is_refused(client, run, loop):
    if not hasattr(loop, "thread"):
        pytest.skip("this loop does not say which thread runs it")
    raised: list[BaseException] = []
    ours, theirs = socket.socketpair()
    threads: list[threading.Thread] = []

    def dial(host: str, port: int, done: Any) -> None:
        def work() -> None:
            try:
                done(ours)
            except RuntimeError as exc:
                raised.append(exc)

        threads.append(threading.Thread(target=work))
        threads[0].start()
        threads[0].join()

    with ours, theirs:
        nats = client(None, servers=["nats.example:4222"], dial=dial)
        run(lambda: raised)
        assert "call_threadsafe" in str(raised[0])
        assert inside.is_dialling(nats)


def test_call_threadsafe_brings_a_socket_of_another_thread(server, client, run):
    def dial(host: str, port: int, done: Any) -> None:
        def work() -> None:
            sock = socket.create_connection((host, port))
            box[0].call_threadsafe(done, sock)

        threading.Thread(target=work).start()

    box = [client(None, servers=[server.url], dial=dial)]
    run(box[0].is_connected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_while_a_socket_is_awaited_or_taken(server, client, run):
    later = Later()
    nats = client(None, servers=[server.url], dial=later, connect_timeout=0)
    run(lambda: later.calls)
    done = later.calls[0][2]
    given = socket.create_connection(("127.0.0.1", server.port))
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            done(given)
            os._exit(int(given.fileno() != -1))
        os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    done(given)
    pid = os.fork()
    if not pid:
        os._exit(int(nats.is_connected()))
    assert os.waitpid(pid, 0)[1] == 0
    run(nats.is_connected)
    check_works(nats, run)


def test_a_done_that_is_kept_keeps_nothing_of_the_client(server, client, run):
    import gc

    later = Later()
    nats = client(None, servers=[server.url], dial=later)
    run(lambda: later.calls)
    later.calls[0][2](socket.create_connection(("127.0.0.1", server.port)))
    run(nats.is_connected)
    nats.disconnect()
    run(lambda: not inside.is_active(nats))
    kept = [each for each in gc.get_referents(later.calls[0][2]) if not isinstance(each, type)]
    assert kept == [None]


def test_a_socketpair_whose_end_is_closed_is_a_loss(client, run, fake):
    ends: list[socket.socket] = []

    def dial(host: str, port: int, done: Any) -> None:
        ours, theirs = socket.socketpair()
        ends.append(theirs)
        done(ours)

    nats = client(None, servers=["nats.example:4222"], dial=dial, reconnect=False)
    run(lambda: ends)
    ends[0].close()
    run(lambda: nats.status() is Status.CLOSED)
    assert words(nats.recorder.errors[0]) == "connection closed by the server before INFO"


def test_a_stuck_write_ends_a_socketpair_too(client, run, fake):
    ends: list[socket.socket] = []

    def dial(host: str, port: int, done: Any) -> None:
        ours, theirs = socket.socketpair()
        ends.append(theirs)
        theirs.sendall(b'INFO {"max_payload":1048576}\r\nPONG\r\n')
        done(ours)

    nats = client(
        None, servers=["nats.example:4222"], dial=dial, write_timeout=100, reconnect=False
    )
    run(nats.is_connected)
    for _ in range(20):
        nats.publish("x", bytes(1 << 20))
    run(lambda: nats.status() is Status.CLOSED)
    assert "write timeout" in str(nats.recorder.errors[0])
    wait_for(lambda: ends[0].fileno() != -1)
    ends[0].close()
