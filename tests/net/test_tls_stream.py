"""TLS under pressure: records and frames that the kernel took in part, one send per turn, slow peers."""

from __future__ import annotations

import gc
import os
import random
import re
import signal
import socket
import ssl
import threading
import warnings
from typing import Any

import pytest

from drills.tls_soak import soak
from lab import inside
from lab.steps import flushed
from nats_ev import Nats, NotConnectedError
from nats_ev.net.tls import RECORD_SIZE, TlsStream
from nats_ev.testing.certificates import server_config


@pytest.fixture(scope="session")
def good(certs):
    return certs.issue("stream", "127.0.0.1", "localhost")


class Engine:
    """The server's side of a `TlsStream` over a socket pair: reads only when it is told to."""

    def __init__(self, certs: Any, pair: Any, version: ssl.TLSVersion, sndbuf: int) -> None:
        ours, self.sock = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
        for sock in (ours, self.sock):
            sock.setblocking(False)
        client = ssl.create_default_context(cafile=str(certs.ca.cert_file))
        server = pair.server_context()
        server.minimum_version = server.maximum_version = version
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = server.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.stream = TlsStream(ours, client, "localhost")
        done = False
        while not self.stream.handshake() or not done:
            self._pull(65536)
            try:
                self.tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            self.sock.send(self.outgoing.read())
            if not self.stream.handshaking:
                break
        self.stream.recv()  # session tickets

    def _pull(self, most: int) -> None:
        try:
            self.incoming.write(self.sock.recv(most))
        except BlockingIOError:
            return

    def read(self, most: int) -> bytes:
        """What of the plaintext so many bytes more bring out."""
        self._pull(most)
        plain = b""
        try:
            while chunk := self.tls.read(RECORD_SIZE):
                plain += chunk
        except ssl.SSLWantReadError:
            pass
        return plain

    def close(self) -> None:
        self.stream.close()
        self.sock.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("seed", range(6))
def test_bytes_count_as_gone_when_the_kernel_has_their_whole_record(certs, good, version, seed):
    """At every step: gone + held is what was encrypted, and gone is never more than could be read."""
    rng = random.Random(seed)
    engine = Engine(certs, good, version, rng.choice((1, 5000, 50_000)))
    stream = engine.stream
    buffer, sent, got = bytearray(), bytearray(), bytearray()
    gone = 0
    for _ in range(400):
        if rng.random() < 0.5:
            buffer += rng.randbytes(rng.choice((1, 100, 16_384, 16_385, 70_000)))
        n = stream.send(bytes(buffer))
        sent += buffer[:n]
        del buffer[:n]
        gone += n
        assert 0 <= stream.held <= len(buffer)
        assert (stream.held > 0) == stream.unsent
        got += engine.read(rng.choice((1, 7, 1000, 20_000)))
        assert sent.startswith(got)
    # Whatever the kernel has can be read, and that is what counts as gone, to the byte.
    while more := engine.read(1_000_000):
        got += more
    assert got == sent
    while buffer:
        n = stream.send(bytes(buffer))
        sent += buffer[:n]
        del buffer[:n]
        got += engine.read(1_000_000)
    while more := engine.read(1_000_000):
        got += more
    assert got == sent
    assert stream.held == 0
    engine.close()


def test_what_tls_writes_itself_does_not_lose_count_of_the_callers_bytes(certs, good):
    """An alert joins the bytes that wait: otherwise these would be gone, and sent again."""
    engine = Engine(certs, good, ssl.TLSVersion.TLSv1_3, 5000)
    stream = engine.stream
    buffer, got = bytearray(random.Random(1).randbytes(200_000)), bytearray()
    sent = stream.send(buffer)
    assert stream.unsent
    got += engine.read(1_000_000)  # the kernel has room again
    engine.sock.send(b"\x17\x03\x03\x00\x14" + bytes(20))  # a record that can't be decrypted
    with pytest.raises(ssl.SSLError):
        stream.recv()
    while stream.held or sent < len(buffer):
        sent += stream.send(buffer[sent:])
        try:
            got += engine.read(1_000_000)
        except ssl.SSLError:  # the alert
            break
    assert got == buffer[: len(got)]
    assert len(got) <= sent
    engine.close()


class CountingSocket:
    """A socket that counts its sends."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self.sends: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def send(self, data: bytes, flags: int = 0) -> int:
        self.sends.append(len(data))
        return int(self._sock.send(data, flags))


def test_all_that_one_turn_publishes_leaves_in_one_send(certs, good, fake, client, run):
    context = good.server_context()

    def script(peer: Any) -> None:
        peer.handshake(tls=context)
        peer.until("PUB last 0")
        peer.send("PONG\r\n")

    nats = client(fake(script), tls_ca_file=certs.ca.cert_file)
    run(nats.is_connected)
    counter = inside.wrap_socket(nats, CountingSocket)
    for i in range(1000):
        nats.publish(f"subject.{i % 7}", b"x" * 100)
    done: list[Any] = []
    nats.publish("last")
    nats.flush(done.append)
    assert counter.sends == []
    run(lambda: done)
    assert len(counter.sends) == 1
    assert counter.sends[0] > 100_000


@pytest.mark.parametrize("payload", [100, 3000, 200_000])
def test_frames_of_which_the_kernel_has_every_record_are_not_sent_again_and_all_others_are(
    certs, good, fake, client, run, payload
):
    """Both sides together get each message exactly once, in order."""
    context = good.server_context()
    count = 15_000_000 // payload
    got: list[list[int]] = [[], []]
    cut, ended = threading.Event(), threading.Event()

    def content(number: str) -> bytes:
        return number.encode() * (payload // len(number))

    def frames(peer: Any, into: list[int]) -> None:
        """Whole messages up to the end, however it ends."""
        try:
            while True:
                line = peer.line()
                if found := re.fullmatch(r"PUB kept\.(\d+) (\d+)", line):
                    data = peer.payload(int(found[2]))
                    assert data == content(found[1])
                    into.append(int(found[1]))
                elif line == "PUB the.end 0":
                    peer.payload(0)
                    into.append(-1)
        except (EOFError, OSError):
            return

    def stalled(peer: Any) -> None:
        peer.handshake(tls=context)
        assert cut.wait(10)
        frames(peer, got[0])
        ended.set()

    def next_one(peer: Any) -> None:
        peer.handshake(tls=context)
        frames(peer, got[1])

    server = fake(stalled, next_one)
    server.receive_buffer(100_000)
    nats = client(
        server,
        tls_ca_file=certs.ca.cert_file,
        reconnect=True,
        reconnect_delay=1,
        reconnect_buffer_size=-1,
    )
    run(nats.is_connected)
    for i in range(count):
        nats.publish(f"kept.{i}", content(str(i)))
    turns = []
    nats.call_later(100, turns.append, True)
    run(lambda: turns)
    before = nats.stats()
    assert before["waiting"] > 0
    assert before["written"] > 0
    nats.force_reconnect()
    cut.set()
    nats.publish("the.end")
    run(lambda: -1 in got[1] and ended.is_set(), timeout=20)
    assert got[0] + got[1] == [*range(count), -1]
    assert len(got[0]) == before["written"]
    assert nats.stats()["discarded"] == 0


def test_B8_stalled_server_and_60_megabytes_without_an_error(certs, good, fake, client, run):
    context = good.server_context()
    go_on = threading.Event()
    sizes: list[int] = []

    def script(peer: Any) -> None:
        peer.handshake(tls=context)
        assert go_on.wait(10)
        total = 0
        while not peer.buffer.endswith(b"PUB the.end 0\r\n\r\n"):
            data = peer.sock.recv(1_000_000)
            total += len(data)
            peer.buffer = (peer.buffer + data)[-32:]
        sizes.append(total)

    nats = client(fake(script), tls_ca_file=certs.ca.cert_file)
    run(nats.is_connected)
    message = b"x" * 50_000
    expected = 0
    for i in range(1200):
        nats.publish(f"s.{i}", message)
        expected += len(f"PUB s.{i} 50000\r\n\r\n") + 50_000
    turns: list[bool] = []
    nats.call_later(100, turns.append, True)
    run(lambda: turns)
    go_on.set()
    nats.publish("the.end")
    run(lambda: sizes, timeout=20)
    assert sizes == [expected + len("PUB the.end 0\r\n\r\n")]
    assert nats.recorder.errors == []
    assert nats.is_connected()


def test_requests_that_time_out_leave_no_hole_in_what_is_encrypted(certs, good, fake, client, run):
    """Frames in records that are partly sent stay; those behind them are taken out."""
    context = good.server_context()
    go_on = threading.Event()
    lines: list[str] = []

    def script(peer: Any) -> None:
        peer.handshake(tls=context)
        assert go_on.wait(10)
        lines.extend(peer.until("PUB the.end 0"))

    nats = client(fake(script), tls_ca_file=certs.ca.cert_file)
    run(nats.is_connected)
    answers: list[Any] = []
    for i in range(400):
        nats.publish(f"fill.{i}", b"x" * 30_000)
        nats.request(f"ask.{i}", b"?" * 10_000, lambda *answer: answers.append(answer), 100)
    run(lambda: len(answers) == 400)
    assert {str(answer[1]) for answer in answers} == {"request timeout"}
    go_on.set()
    nats.publish("the.end")
    run(lambda: lines and lines[-1] == "PUB the.end 0", timeout=20)
    fills = [line for line in lines if line.startswith("PUB fill")]
    asks = [line for line in lines if line.startswith("PUB ask")]
    assert len(fills) == 400
    assert 0 < len(asks) < 400
    assert nats.stats()["discarded"] == 400 - len(asks)


@pytest.mark.parametrize("first", [False, True])
def test_single_bytes_over_a_real_socket(certs, good, own_server, proxy, client, run, first):
    server = own_server(config=server_config(good, first=first), silent=first)
    between = proxy(server.port)
    between.split(1)
    nats = client(
        between, tls_ca_file=certs.ca.cert_file, tls_handshake_first=first, connect_timeout=0
    )
    got: list[Any] = []
    nats.subscribe("a.>", lambda *message: got.append(message))
    nats.publish("a.b", b"x" * 100, "reply")
    nats.hpublish("a.c", {"H": "1"}, b"y")
    run(lambda: len(got) == 2)
    assert got == [
        ("a.b", b"x" * 100, "reply", None),
        ("a.c", b"y", None, b"NATS/1.0\r\nH: 1\r\n\r\n"),
    ]


def test_everything_in_a_burst_of_small_records_is_delivered_at_once(
    certs, good, fake, client, run
):
    """No record waits in the engine for the socket to become readable again."""
    context = good.server_context()

    def script(peer: Any) -> None:
        peer.handshake(tls=context)
        for i in range(3000):
            text = b"%d" % i
            peer.send(b"MSG burst 1 %d\r\n%b\r\n" % (len(text), text))
        peer.at_eof()

    nats, got = client(fake(script), tls_ca_file=certs.ca.cert_file), []
    nats.subscribe("burst", lambda subject, payload, reply, headers: got.append(int(payload)))
    run(lambda: len(got) == 3000)
    assert got == list(range(3000))


def test_child_of_a_fork_does_not_end_the_parents_tls_connection(
    certs, good, own_server, connected, run
):
    server = own_server(config=server_config(good))
    nats: Nats = connected(server, tls_ca_file=certs.ca.cert_file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        signal.alarm(5)  # whatever happens here, the test ends
        try:
            inside.close_link(nats)
            nats.disconnect()
            del nats
            gc.collect()
        except NotConnectedError:
            pass
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    flushed(nats, run)


def test_soak_smoke_masses_past_a_slow_reader_are_byte_exact(tmp_path):
    result = soak(20_000_000, tmp_path)
    assert result["bytes each way"] > 20_000_000
