"""Masses through TLS past a slow reader, byte-exact in both directions: `make tls-soak` (1 GB each way).

The peer is a scripted server in a process of its own. First it reads what the client publishes, in
fits and starts; then it sends as much, and the client is the slow one.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import random
import resource
import socket
import ssl
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from nats_ev import Nats, OutboundBufferLimitError, pyev
from nats_ev.testing.certificates import Certificates

SIZES = (0, 1, 100, 1000, 16 * 1024, 100_000, 1_000_000)
INFO = b'INFO {"tls_required":true,"headers":true,"max_payload":1048576}\r\n'


def payloads(total: int) -> Any:
    """Payloads of so many bytes in all; the same ones each time."""
    rng = random.Random(4)
    block = rng.randbytes(2_000_000)
    while total > 0:
        start = rng.randrange(1_000_000)
        payload = block[start : start + rng.choice(SIZES)]
        total -= len(payload) + 1
        yield payload


def serve(listener: socket.socket, cert: str, key: str, total: int, pipe: Any) -> None:
    """The peer's process."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    plain, _ = listener.accept()
    plain.sendall(INFO)
    sock = context.wrap_socket(plain, server_side=True)
    rng = random.Random(5)
    data = b""
    while b"PING\r\n" not in data:
        data += sock.recv(65536)
    sock.sendall(b"PONG\r\n")
    digest, count, tail = hashlib.sha256(), 0, b""
    while not tail.endswith(b"PUB the.end 0\r\n\r\n"):
        data = sock.recv(rng.choice((10, 1000, 65536)))
        if not data:
            raise EOFError("the client closed")
        digest.update(data)
        count += len(data)
        tail = (tail + data)[-32:]
        if rng.random() < 0.001:
            time.sleep(rng.choice((0.001, 0.01, 0.1)))
    pipe.send((count, digest.hexdigest()))
    for payload in payloads(total):
        sock.sendall(b"MSG back 1 %d\r\n%b\r\n" % (len(payload), payload))
    sock.sendall(b"MSG back 1 3\r\nEND\r\n")
    sock.recv(1)


class Writer:
    """Publishes as long as there is room, and goes on a moment later."""

    def __init__(self, nats: Nats, loop: pyev.Loop, total: int) -> None:
        self._nats = nats
        self._payloads = payloads(total)
        self._next: bytes | None = b""
        self._timer = loop.timer(0.0, 0.001, self._go_on)
        self.digest, self.count = hashlib.sha256(), 0
        self.full = 0
        self._timer.start()

    def _go_on(self, watcher: Any, revents: int) -> None:
        while self._next is not None:
            try:
                self._nats.publish("there", self._next)
            except OutboundBufferLimitError:
                self.full += 1
                return
            frame = b"PUB there %d\r\n%b\r\n" % (len(self._next), self._next)
            self.digest.update(frame)
            self.count += len(frame)
            self._next = next(self._payloads, None)
        try:
            self._nats.publish("the.end")
        except OutboundBufferLimitError:
            return
        frame = b"PUB the.end 0\r\n\r\n"
        self.digest.update(frame)
        self.count += len(frame)
        watcher.stop()


def soak(total: int, folder: Path) -> dict[str, Any]:
    """Both directions, total bytes each; returns what happened. Raises what went wrong."""
    certs = Certificates(folder)
    pair = certs.issue("soak", "127.0.0.1")
    listener = socket.create_server(("127.0.0.1", 0))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    peer = context.Process(
        target=serve,
        args=(listener, str(pair.cert_file), str(pair.key_file), total, theirs),
        daemon=True,
    )
    peer.start()
    port = listener.getsockname()[1]
    listener.close()
    loop = pyev.Loop()
    errors: list[BaseException] = []
    digest, expected = hashlib.sha256(), hashlib.sha256()
    received = 0
    started = time.monotonic()

    def failed(error: BaseException) -> None:
        errors.append(error)
        loop.stop()

    def got(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
        nonlocal received
        received += 1
        if payload == b"END":
            loop.stop()
            return
        digest.update(payload)
        if received % 1000 == 0:
            time.sleep(0.005)  # the slow one

    try:
        nats = Nats(
            loop=loop, host="127.0.0.1", port=port, tls_ca_file=pair.cert_file.with_name("ca.pem"),
            max_pending_bytes=8 * 1024 * 1024, on_error=failed,
            connect_timeout=60_000,  # the peer is a process that has to start first
            on_disconnect=lambda: failed(RuntimeError("disconnected")),
        )  # fmt: skip
        nats.subscribe("back", got)
        writers: list[Writer] = []
        nats.on_connect(lambda: writers.append(Writer(nats, loop, total)))
        loop.start()
        nats.on_disconnect(None)
        nats.disconnect()
        loop.start(pyev.EVRUN_NOWAIT)
    finally:
        peer.terminate()
        peer.join()
    if errors:
        raise errors[0]
    (writer,) = writers
    assert ours.poll(5)
    assert ours.recv() == (writer.count, writer.digest.hexdigest()), "what was published got lost"
    for payload in payloads(total):
        expected.update(payload)
    assert digest.digest() == expected.digest(), "what was received is not what was sent"
    return {
        "bytes each way": writer.count,
        "messages each way": received,
        "times the buffer was full": writer.full,
        "seconds": round(time.monotonic() - started, 1),
        "peak RSS MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


if __name__ == "__main__":
    megabytes = int(sys.argv[1]) if sys.argv[1:] else 1000
    with tempfile.TemporaryDirectory() as name:
        for what, value in soak(megabytes * 1_000_000, Path(name)).items():
            print(f"{what}: {value}")
