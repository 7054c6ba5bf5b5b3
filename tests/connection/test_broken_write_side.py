"""A server that takes nothing any more, talking or silent: a lost connection, within a second or two."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab import inside
from lab.fakeserver import Peer
from lab.steps import collect
from lab.ws_frames import WsPeer
from nats_ev import ConnectionLostError
from nats_ev.connection.link import Link


@pytest.fixture
def deaf(tmp_path: Path) -> Any:
    """Start a server on a Unix socket, which shakes hands, stops reading, and then runs a script."""
    listener = socket.socket(socket.AF_UNIX)
    over = threading.Event()
    threads: list[threading.Thread] = []

    def start(script: Callable[[Peer], None] = lambda peer: None) -> str:
        path = str(tmp_path / "deaf.sock")
        listener.bind(path)
        listener.listen(1)

        def serve() -> None:
            sock, _ = listener.accept()
            with sock, contextlib.suppress(OSError, EOFError):
                peer = Peer(sock)
                peer.handshake()
                peer.until("SUB a 1")
                sock.shutdown(socket.SHUT_RD)
                peer.send("MSG a 1 4\r\ndeaf\r\n")
                script(peer)
                over.wait(20)

        threads.append(threading.Thread(target=serve))
        threads[0].start()
        return path

    yield start
    over.set()
    for thread in threads:
        thread.join()
    listener.close()


def test_a_connection_that_cannot_be_written_to_is_lost_though_the_reader_stays_silent(
    deaf, client, run
):
    nats, got = client(path=deaf()), []
    run(nats.is_connected)
    nats.subscribe("a", collect(got))
    run(lambda: got)
    answers: list[Any] = []
    nats.request("x", b"", lambda response, err, headers: answers.append(err), 0)
    start = time.monotonic()
    run(lambda: answers)
    assert (
        0.5 < time.monotonic() - start < 5
    )  # by default a stale connection is found after 6 minutes
    assert isinstance(answers[0], ConnectionLostError)
    assert isinstance(nats.recorder.errors[0], ConnectionLostError)
    assert nats.recorder.events[-1] == "disconnect"


def test_what_still_comes_is_delivered_before_the_connection_is_lost(deaf, client, run):
    def script(peer: Peer) -> None:
        for _ in range(30):
            time.sleep(0.05)
            peer.send("MSG a 1 4\r\nmore\r\n")
        peer.send("MSG a 1 4\r\nlast\r\n")

    nats, got = client(path=deaf(script)), []
    run(nats.is_connected)
    nats.subscribe("a", collect(got))
    run(lambda: got)
    nats.publish("x", b"y")
    run(lambda: nats.recorder.count("disconnect"))
    assert got == [b"deaf"] + [b"more"] * 30 + [b"last"]


def test_frames_that_cannot_leave_do_not_keep_the_loop_busy(client, run, monkeypatch):
    """What is framed and unsent when the write side breaks stays so: nobody waits for a writable socket."""
    calls: list[Any] = []
    made = Link._on_writable

    def note(self: Any, *args: Any) -> None:
        calls.append(args)
        made(self, *args)

    monkeypatch.setattr(Link, "_on_writable", note)
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs:
            peer = WsPeer(Peer(theirs))
            peer.handshake()
            peer.until("SUB a 1")
            theirs.shutdown(socket.SHUT_RD)
            for _ in range(10):
                peer.send("MSG a 1 4\r\nmore\r\n")
                time.sleep(0.05)
            over.wait(20)

    over = threading.Event()
    thread = threading.Thread(target=serve)
    thread.start()
    got: list[bytes] = []
    nats = client(servers="ws://h", dial=lambda host, port, done: done(ours))
    run(nats.is_connected)
    nats.subscribe("a", collect(got))
    run(lambda: got)
    before = len(calls)
    nats.publish("x", b"y")
    run(lambda: nats.recorder.count("disconnect"))
    over.set()
    thread.join()
    assert got == [b"more"] * 10
    assert len(calls) - before < 10


def test_what_was_read_before_is_delivered_by_slow_callbacks(deaf, client, run):
    def script(peer: Peer) -> None:
        peer.send("MSG a 1 4\r\nslow\r\n" * 150)

    nats, got = client(path=deaf(script)), []
    run(nats.is_connected)

    def slow(subject: str, payload: bytes, reply: str, headers: Any) -> None:
        got.append(payload)
        nats.publish("x", b"y")
        time.sleep(0.01)

    nats.subscribe("a", slow)
    run(lambda: nats.recorder.count("disconnect"))
    assert got == [b"deaf"] + [b"slow"] * 150


@pytest.mark.parametrize(
    "number", [errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ECONNABORTED, errno.EPIPE]
)
@pytest.mark.parametrize("paused", [False, True])
def test_what_has_come_is_delivered_whatever_error_a_send_has(fake, client, run, number, paused):
    """With reading paused that is what has been read already, and else also what the kernel has."""
    more, sent = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.handshake()
        peer.until("SUB a 1")
        peer.send("MSG a 1 1\r\nx\r\n" * 100)
        more.wait(20)
        peer.send("MSG a 1 4\r\nlast\r\n")
        sent.set()
        peer.at_eof()

    nats, got = client(fake(script)), []
    run(nats.is_connected)

    def slow(subject: str, payload: bytes, reply: Any, headers: Any) -> None:
        got.append(payload)
        time.sleep(0.002)  # all of them take many slices
        if len(got) == 1:
            if paused:
                nats.pause_reading()
            inside.break_sends(nats, OSError(number, "broken"))
            nats.publish("x", b"y")
            more.set()
            assert sent.wait(20)

    nats.subscribe("a", slow)
    run(lambda: nats.recorder.count("disconnect"))
    assert got[:100] == [b"x"] * 100
    assert got[100:] == ([] if paused else [b"last"])
    assert isinstance(nats.recorder.errors[0], ConnectionLostError)


def test_a_server_that_goes_on_talking_keeps_no_connection_that_cannot_be_written_to(
    deaf, client, run
):
    over = threading.Event()

    def script(peer: Peer) -> None:
        while not over.wait(0.1):
            peer.send("MSG a 1 1\r\nx\r\n")

    nats, got = client(path=deaf(script)), []
    run(nats.is_connected)
    nats.subscribe("a", collect(got))
    run(lambda: len(got) > 1)
    nats.publish("x")
    try:
        run(lambda: not nats.is_connected())  # by default, PINGs would need 6 minutes
    finally:
        over.set()
    assert isinstance(nats.recorder.errors[0], ConnectionLostError)
