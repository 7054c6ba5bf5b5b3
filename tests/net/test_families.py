"""IPv4 and IPv6: which addresses are tried, from which of our own, in which order, and who wins."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from typing import Any

import pytest

from lab import inside
from lab.located import words
from lab.paths import ROOT
from lab.process import run_whole
from nats_ev import ConnectError, Status
from nats_ev.net.deadlines import Deadlines
from nats_ev.net.dial import Dialer, Resolver, permitted

SIX, FOUR = socket.AF_INET6, socket.AF_INET
MIXED = [(SIX, "6.0"), (FOUR, "4.0"), (SIX, "6.1"), (FOUR, "4.1"), (SIX, "6.2")]


@pytest.mark.parametrize(
    ("order", "wanted"),
    [
        (0, "6.0 4.0 6.1 4.1 6.2"), (4, "4.0 4.1"), (6, "6.0 6.1 6.2"),
        (46, "4.0 6.0 4.1 6.1 6.2"), (64, "6.0 4.0 6.1 4.1 6.2"),
    ],
)  # fmt: skip
def test_the_order_chooses_families_and_the_first_one(order, wanted):
    assert [address for _, address in permitted(MIXED, order)] == wanted.split()


def test_our_own_address_connects_to_its_family_only():
    assert permitted(MIXED, 0, ("127.0.0.1", 0)) == [(FOUR, "4.0"), (FOUR, "4.1")]
    assert permitted(MIXED, 46, ("::1", 0)) == [(SIX, f"6.{i}") for i in range(3)]
    with pytest.raises(OSError, match="local_address is of another family"):
        permitted(MIXED, 4, ("::1", 0))
    with pytest.raises(OSError, match="no IPv6 address"):
        permitted([(FOUR, "4.0")], 6)
    with pytest.raises(OSError, match="no IPv4 address"):
        permitted([(SIX, "6.0")], 0, ("127.0.0.1", 0))
    assert permitted([], 46) == []


@pytest.mark.parametrize(("order", "host"), [(6, "127.0.0.1"), (4, "[::1]")])
def test_a_number_of_the_other_family_is_an_error(client, run, order, host):
    nats = client(None, servers=[f"{host}:4222"], ip_resolution_order=order, reconnect=False)
    run(lambda: nats.status() is Status.CLOSED)
    assert isinstance(nats.recorder.errors[0], ConnectError)
    assert words(nats.recorder.errors[0]) == f"no IPv{order} address"


def test_our_own_address_and_port(server, client, run):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    nats = client(
        None, servers=[server.url], local_address=("127.0.0.1", port), reconnect=True, reconnect_delay=5
    )  # fmt: skip
    run(nats.is_connected)
    assert inside.socket_of(nats).getsockname() == ("127.0.0.1", port)
    other = client(None, servers=[server.url], local_address="127.0.0.2")
    run(other.is_connected)
    assert inside.socket_of(other).getsockname()[0] == "127.0.0.2"


def test_an_address_that_is_not_ours(server, client, run):
    nats = client(None, servers=[server.url], local_address="192.0.2.1", reconnect=False)
    run(lambda: nats.status() is Status.CLOSED)
    (error,) = nats.recorder.errors
    assert words(error).startswith("can't connect from 192.0.2.1: ")
    assert isinstance(error.__cause__, OSError)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux")
def test_the_kernels_timeout_is_set(server, client, run):
    nats = client(None, servers=[server.url], tcp_user_timeout=1234)
    run(nats.is_connected)
    sock = inside.socket_of(nats)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1234


# Happy Eyeballs (RFC 8305).


class Scripted:
    """Sockets that connect when the test says so, with the time at which each was begun."""

    def __init__(self, monkeypatch: Any) -> None:
        self.begun: list[tuple[str, float]] = []
        self.open: set[str] = set()
        self.refused: set[str] = set()
        self.others: list[socket.socket] = []  # the other ends
        monkeypatch.setattr(Dialer, "_connect", lambda *args: self._connect(*args))

    def _connect(self, dialer: Any, family: int, address: Any) -> None:
        host = address[0]
        self.begun.append((host, time.monotonic()))
        if host in self.refused:
            raise ConnectionRefusedError(111, "Connection refused")
        # One end of a pair whose buffer is full becomes writable when the test reads from the other one.
        ours, theirs = socket.socketpair()
        self.others.append(theirs)
        ours.setblocking(False)
        try:
            while True:
                ours.send(bytes(65536))
        except BlockingIOError:
            pass
        self.open.add(host)
        dialer._await(ours)


def dialled(loop: Any, addresses: list[Any], **options: Any) -> tuple[Dialer, list[Any]]:
    results: list[Any] = []
    resolver = Resolver(loop, lambda host, port: addresses)
    return Dialer(loop, resolver, Deadlines(loop), results.append, **options), results


V6 = [(SIX, (f"fd00::{i}", 1, 0, 0)) for i in range(3)]
V4 = [(FOUR, (f"10.0.0.{i}", 1)) for i in range(2)]


def test_a_silent_address_delays_the_next_one_by_a_quarter_of_a_second(loop, run, monkeypatch):
    scripted = Scripted(monkeypatch)
    dialer, _ = dialled(loop, [V6[0], V4[0], V6[1]], timeout=60.0)
    dialer.tcp("both.example", 1)
    run(lambda: len(scripted.begun) == 3)
    assert [host for host, _ in scripted.begun] == ["fd00::0", "10.0.0.0", "fd00::1"]
    gaps = [
        after - before
        for (_, before), (_, after) in zip(scripted.begun, scripted.begun[1:], strict=False)
    ]
    assert all(gap > 0.24 for gap in gaps)
    dialer.cancel()
    for sock in scripted.others:
        sock.close()


def test_a_refused_address_delays_nothing(loop, run, monkeypatch):
    scripted = Scripted(monkeypatch)
    scripted.refused = {"fd00::0", "10.0.0.0", "fd00::1", "10.0.0.1", "fd00::2"}
    dialer, results = dialled(loop, [V6[0], V4[0], V6[1], V4[1], V6[2]])
    dialer.tcp("both.example", 1)
    run(lambda: results)
    assert len(scripted.begun) == 5
    assert isinstance(results[0], ConnectionRefusedError)


PROGRAM = """
import json, socket, sys, time
sys.path.insert(0, {tests!r})
from nats_ev import Nats, pyev
from nats_ev.testing import Server, run_until

with Server() as server:
    loop = pyev.Loop()
    times = {{}}
    for order in (0, 64, 46, 4):
        got = []
        start = time.monotonic()
        nats = Nats(
            servers=[f"both.example:{{server.port}}"], loop=loop, ip_resolution_order=order,
            connect_timeout=20_000, on_connect=lambda: got.append(1), on_error=got.append,
        )
        run_until(loop, lambda: got)
        times[order] = (time.monotonic() - start, got == [1])
        nats.disconnect()
    found = [family for family, *_ in socket.getaddrinfo("both.example", 1, type=socket.SOCK_STREAM)]
    print(json.dumps({{"times": times, "first": found[0] == socket.AF_INET6, "count": len(found)}}))
"""


@pytest.mark.server
def test_a_black_hole_for_ipv6_costs_a_quarter_of_a_second(tmp_path):
    """In a network namespace: both.example has an IPv6 address that swallows all, and 127.0.0.1."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs root, unshare and ip: the test makes a network namespace")
    hosts = tmp_path / "hosts"
    hosts.write_text("fd00:9::2 both.example\n127.0.0.1 both.example\n127.0.0.1 localhost\n")
    setup = f"""set -e
mount --bind {hosts} /etc/hosts
ip link set lo up
ip link add v0 type veth peer name v1
ip link set v0 up
ip link set v1 up
ip -6 addr add fd00:9::1/64 dev v0 nodad
ip -6 neigh add fd00:9::2 lladdr 02:00:00:00:00:01 dev v0 nud permanent
exec "$0" -c "$1"
"""
    probe = subprocess.run(
        ["unshare", "-n", "-m", "sh", "-c", setup.replace('exec "$0" -c "$1"', "true")],
        capture_output=True, text=True,
    )  # fmt: skip
    if probe.returncode:
        pytest.skip(f"no namespace with a pair of interfaces here: {probe.stderr.strip()}")
    program = PROGRAM.format(tests=str(ROOT / "tests"))
    done = run_whole(
        ["unshare", "-n", "-m", "sh", "-c", setup, sys.executable, program],
        timeout=120, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["count"] == 2
    assert all(connected for _, connected in told["times"].values())
    assert told["times"]["64"][0] > 0.2  # the black hole came first
    assert told["times"]["64"][0] < 15  # its own time-out would have been 20 s
    assert told["times"]["4"][0] < 15
