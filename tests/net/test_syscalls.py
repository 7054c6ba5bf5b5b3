"""What the kernel may answer to a read or a write: nothing is lost, doubled or out of order.

TLS reads and writes by Python's sockets, which are patched. Without TLS the compiled core makes the
calls, so a preloaded library (`flaky_calls.c`) makes them fail in a process of its own.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.natsserver import NatsServer
from nats_ev.testing.certificates import server_config

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
def test_whatever_the_kernel_answers_tls_every_message_arrives_once_in_order(
    secure, certs, client, run, monkeypatch, fault
):
    name, code, answer = fault
    monkeypatch.setattr(
        socket.socket, name, flaky(getattr(socket.socket, name), code, answer), raising=False
    )
    nats = client(secure, connect_timeout=0, tls_ca_file=certs.ca.cert_file)
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


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled `flaky_calls`."""
    if sys.platform != "linux":
        pytest.skip("preloads a library as Linux does")
    target = tmp_path_factory.mktemp("flaky") / "flaky_calls.so"
    source = Path(__file__).with_name("flaky_calls.c")
    compiler = shlex.split(os.environ.get("CC", "cc"))
    command = [*compiler, "-shared", "-fPIC", "-O1", "-o", str(target), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return target


def run_flaky(library: Path, server: Any, what: str, **settings: Any) -> dict[str, Any]:
    """Run `flaky_program.py` with the library, and return what it prints."""
    program = Path(__file__).with_name("flaky_program.py")
    preload = " ".join(filter(None, [str(library), os.environ.get("LD_PRELOAD")]))
    given = {f"FLAKY_{name.upper()}": str(value) for name, value in settings.items()}
    done = subprocess.run(
        [sys.executable, str(program), server.host, str(server.port), what],
        env={**os.environ, "LD_PRELOAD": preload, "FLAKY_MOST": "0", **given},
        capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


PLAIN = [
    ("send", errno.EINTR, 0), ("send", errno.EAGAIN, 0), ("send", errno.ENOBUFS, 0),
    ("send", errno.ENOMEM, 0), ("send", 0, 1), ("send", 0, 1000),
    ("recv", errno.EINTR, 0), ("recv", errno.EAGAIN, 0), ("recv", 0, 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "code", "most"), PLAIN)
def test_whatever_the_kernel_answers_every_message_arrives_once_in_order(
    server, library, name, code, most
):
    result = run_flaky(library, server, str(COUNT), call=name, errno=code, most=most)
    assert result == {"got": ["same"], "events": [], "errors": []}


FATAL = [errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT, errno.ENETUNREACH]


@pytest.mark.parametrize("code", FATAL)
@pytest.mark.parametrize("name", ["send", "recv"])
def test_a_call_that_fails_for_good_is_one_loss_and_the_next_connection_works(
    server, library, tmp_path, name, code
):
    result = run_flaky(library, server, "lose", call=name, errno=code, once=tmp_path / "due")
    assert result["events"] == ["disconnect", "reconnect"]
    if name == "send":  # the kernel had none of it
        assert result["got"] == ["kept whole", "last"]


@pytest.mark.parametrize("code", FATAL)
@pytest.mark.parametrize("name", ["send", "recv"])
def test_a_call_that_fails_for_good_is_one_loss_of_tls_too(
    secure, certs, connected, run, monkeypatch, name, code
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
    ca = certs.ca.cert_file
    nats = connected(secure, reconnect=True, reconnect_delay=10, tls_ca_file=ca)
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
