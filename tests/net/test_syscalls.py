"""What the kernel may answer to a read or a write: nothing is lost, doubled or out of order."""

from __future__ import annotations

import errno
import os
import random
import socket
from typing import Any

import pytest

from lab.certs import server_config
from lab.natsserver import NatsServer

COUNT = 300


@pytest.fixture(scope="module")
def secure(needs_server, certs):
    with NatsServer(config=server_config(certs.issue("syscalls", "127.0.0.1"))) as running:
        yield running


def is_clients(sock: socket.socket) -> bool:
    """Not one of a loop's or of a test's."""
    return sock.family == socket.AF_INET and not sock.getblocking()


def flaky(real: Any, code: int, answer: Any) -> Any:
    """A system call that fails, or does less than it was asked for, most of the time."""
    chance = random.Random(code)

    def call(sock: socket.socket, what: Any, *args: Any) -> Any:
        if not is_clients(sock) or chance.random() < 0.3:
            return real(sock, what, *args)
        if code:
            raise OSError(code, os.strerror(code))
        return real(sock, answer(what), *args)

    return call


FAULTS = [
    ("send", errno.EINTR, None), ("send", errno.EAGAIN, None), ("send", errno.ENOBUFS, None),
    ("send", errno.ENOMEM, None), ("send", 0, lambda data: bytes(memoryview(data)[:1])),
    ("send", 0, lambda data: bytes(memoryview(data)[:1000])),
    ("recv", errno.EINTR, None), ("recv", errno.EAGAIN, None), ("recv", 0, lambda size: 1),
]  # fmt: skip


@pytest.mark.parametrize(
    "fault", FAULTS, ids=lambda f: f"{f[0]} {errno.errorcode.get(f[1], 'less')}"
)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_whatever_the_kernel_answers_every_message_arrives_once_in_order(
    server, secure, certs, client, run, monkeypatch, fault, tls
):
    name, code, answer = fault
    options = {"tls_ca_file": certs.ca.cert_file} if tls else {}
    monkeypatch.setattr(
        socket.socket, name, flaky(getattr(socket.socket, name), code, answer), raising=False
    )
    nats = client(secure if tls else server, connect_timeout=0, **options)
    got: list[bytes] = []
    subject = nats.new_inbox()
    nats.subscribe(subject, lambda s, payload, r, h: got.append(payload))
    sent = [b"%d " % i * (i % 17) for i in range(COUNT)]
    for payload in sent[: COUNT // 2]:
        nats.publish(subject, payload)
    run(lambda: len(got) == COUNT // 2)
    for payload in sent[COUNT // 2 :]:
        nats.publish(subject, payload)
    run(lambda: len(got) == COUNT)
    assert got == sent
    assert nats.recorder.errors == []


@pytest.mark.parametrize(
    "code", [errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT, errno.ENETUNREACH]
)
@pytest.mark.parametrize("name", ["send", "recv"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_call_that_fails_for_good_is_one_loss_and_the_next_connection_works(
    server, secure, certs, connected, run, monkeypatch, name, code, tls
):
    real = getattr(socket.socket, name)
    due: list[bool] = []

    def fail_when_due(sock: socket.socket, *args: Any) -> Any:
        if due and is_clients(sock):
            due.clear()
            sock.shutdown(socket.SHUT_RDWR)  # as after a real one, nothing comes or goes any more
            raise OSError(code, os.strerror(code))
        return real(sock, *args)

    monkeypatch.setattr(socket.socket, name, fail_when_due, raising=False)
    options = {"tls_ca_file": certs.ca.cert_file} if tls else {}
    nats = connected(secure if tls else server, reconnect=True, reconnect_delay=10, **options)
    got: list[bytes] = []
    subject = nats.new_inbox()
    nats.subscribe(subject, lambda s, payload, r, h: got.append(payload))
    flushed: list[Any] = []
    nats.flush(flushed.append)
    run(lambda: flushed)
    due.append(True)
    nats.publish(subject, b"kept whole" if name == "send" else b"may be lost")
    run(lambda: nats.recorder.count("reconnect") == 1)
    assert nats.recorder.count("disconnect") == 1
    nats.publish(subject, b"last")
    run(lambda: b"last" in got)
    if name == "send":  # the kernel had none of it
        assert got == [b"kept whole", b"last"]
