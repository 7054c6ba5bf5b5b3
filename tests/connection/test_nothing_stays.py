"""A connection or an attempt that has ended is freed at once, whatever ended it.

That must not need Python's collector of cycles: a program may have switched it off, and otherwise it comes
late, while each connection holds 90 kB with TLS. Nor must an error that somebody keeps hold the connection.
"""

from __future__ import annotations

import contextlib
import gc
import socket
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab import inside
from lab.fakeserver import Peer
from nats_ev import ConnectError, ConnectionLostError

ROUNDS = 5
BAD_RECORD = b"\x17\x03\x03\x00\x20" + bytes(32)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def fin(peer: Peer) -> None:
    peer.close()


def close_notify(peer: Peer) -> None:
    with contextlib.suppress(OSError):
        peer.sock.unwrap()  # type: ignore[attr-defined]
    peer.close()


def broken_record(peer: Peer) -> None:
    with socket.socket(fileno=peer.sock.detach()) as sock, contextlib.suppress(OSError):
        sock.sendall(BAD_RECORD)
        sock.recv(65536)


def message_and_broken_record(peer: Peer) -> None:
    peer.send("MSG a 1 1\r\nx\r\n")
    broken_record(peer)


def nonsense(peer: Peer) -> None:
    peer.send("NONSENSE\r\n")
    peer.at_eof()


def bad_info(peer: Peer) -> None:
    peer.send("INFO {]\r\n")
    peer.reset()


def full_and_gone(peer: Peer) -> None:
    """End while bytes wait to be written: the write fails, or the read."""
    peer.send("PING\r\n" * 10)
    peer.reset()


ENDS = [fin, Peer.reset, nonsense, bad_info, full_and_gone]
TLS_ENDS = [fin, Peer.reset, close_notify, broken_record, message_and_broken_record, nonsense]


@pytest.mark.parametrize(
    ("tls", "end"),
    [(False, end) for end in ENDS] + [(True, end) for end in TLS_ENDS],
)
def test_a_lost_connection_is_freed_without_the_collector(
    no_collector, fake, client, run, certs, tls: bool, end: Callable[[Peer], None]
):
    context = certs.issue("server", "127.0.0.1").server_context() if tls else None
    links: list[Any] = []

    def script(peer: Peer) -> None:
        peer.handshake(context)
        peer.until("PING")
        end(peer)

    def connected() -> None:
        links.append(weakref.ref(inside.link_of(nats)))
        nats.flush(lambda err: None)

    nats = client(
        fake(script), tls_ca_file=str(certs.ca.cert_file) if tls else None, on_connect=connected,
        reconnect=True, reconnect_delay=1, max_reconnect_delay=1,
    )  # fmt: skip
    # Its recorder keeps the errors.
    run(lambda: len(links) > ROUNDS)
    assert [link() for link in links[:ROUNDS]] == [None] * ROUNDS


STAGES = ["before INFO", "after INFO", "after TLS", "after CONNECT"]


@pytest.mark.parametrize("end", [Peer.reset, Peer.close])
@pytest.mark.parametrize("stage", STAGES)
def test_an_attempt_that_is_cut_is_a_ConnectError_whatever_its_stage(
    fake, client, run, certs, stage: str, end: Callable[[Peer], None]
):
    context = certs.issue("server", "127.0.0.1").server_context()

    def script(peer: Peer) -> None:
        if stage == "after TLS":
            peer.send_info(tls_required=True)
            peer.start_tls(context)
        elif stage != "before INFO":
            peer.send_info()
            if stage == "after CONNECT":
                peer.until("PING")
        end(peer)

    nats = client(
        fake(script), tls_ca_file=None if stage != "after TLS" else str(certs.ca.cert_file)
    )
    errors = nats.recorder.errors
    run(lambda: errors)
    assert isinstance(errors[0], ConnectError)
    assert not isinstance(errors[0], ConnectionLostError)
    assert nats.recorder.events.count("disconnect") == 0


def wrong_certificate(certs: Any) -> Callable[[Peer], None]:
    context = certs.issue("elsewhere", "10.0.0.1").server_context()

    def script(peer: Peer) -> None:
        peer.send_info(tls_required=True)
        with contextlib.suppress(OSError):
            peer.start_tls(context)
        peer.close()

    return script


def no_tls(certs: Any) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.send_info(tls_required=True)
        peer.sock.recv(65536)
        peer.send("HTTP/1.0 400 Bad Request\r\n\r\n")
        peer.at_eof()

    return script


def bad_greeting(certs: Any) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.send("INFO {]\r\n")
        peer.at_eof()

    return script


def hangs_up(certs: Any) -> Callable[[Peer], None]:
    return lambda peer: (peer.send_info(tls_required=True), peer.close())


# What an attempt leaves when it is over.
ENDED = ("Link", "Dialer", "Tunnel", "HandedOver")
FAILURES: list[tuple[Any, dict[str, Any]]] = [
    (wrong_certificate, {}),
    (no_tls, {}),
    (bad_greeting, {}),
    (hangs_up, {}),
    (hangs_up, {"tls_ca_file": "/nowhere/ca.pem"}),
    (hangs_up, {"host": "no-such-host.invalid"}),
    (hangs_up, {"path": "/nowhere/nats.sock"}),
    (hangs_up, {"path": "/" + "x" * 200}),
    (hangs_up, {"proxy": "http://127.0.0.1:1"}),
    (hangs_up, {"proxy": "socks5://itself"}),
    (bad_greeting, {"proxy": "http://itself"}),
    (hangs_up, {"dial": lambda host, port, done: done(None, LookupError("no way"))}),
    (hangs_up, {"dial": lambda host, port, done: done(socket.create_connection((host, port)))}),
]


@pytest.mark.parametrize(("script", "options"), FAILURES)
def test_a_failed_attempt_leaves_no_garbage(
    no_collector, fake, client, run, certs, script: Any, options: dict[str, Any]
):
    of_others = {id(o): o for o in gc.get_objects() if type(o).__name__ in ENDED}  # other tests'
    server = fake(script(certs))
    target = None if "path" in options else server
    if "itself" in options.get("proxy", ""):  # the server is no proxy
        options = {"proxy": options["proxy"].replace("itself", f"127.0.0.1:{server.port}")}
    nats = client(
        target, **{"tls_ca_file": str(certs.ca.cert_file)} | options,
        reconnect=True, reconnect_delay=1, max_reconnect_delay=1,
    )  # fmt: skip
    errors = nats.recorder.errors
    run(lambda: len(errors) > 1)
    gc.collect()
    run(lambda: len(errors) > 1 + ROUNDS)
    found = (o for o in gc.get_objects() if type(o).__name__ in ENDED and id(o) not in of_others)
    links = [weakref.ref(o) for o in found]
    alive = [o for o in links if o() is not None and o() not in inside.attempt_of(nats)]
    assert alive == []
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        names = [type(o).__module__ + "." + type(o).__qualname__ for o in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    ours = [name for name in names if name.startswith(("nats_ev", "ssl", "_ssl"))]
    assert ours == []
