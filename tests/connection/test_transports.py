"""The tests can run through WebSocket: `pytest --transport=ws`."""

from __future__ import annotations

import sys

import pytest

from lab import inside, transports
from lab.paths import ROOT
from lab.process import run_whole
from lab.steps import collect

# A few tests of each kind, and one that says what they have run on.
SMOKE = (
    "tests/connection/test_transports.py::test_clients_use_what_the_run_has_chosen",
    "tests/client/test_requests.py",
)


def test_clients_use_what_the_run_has_chosen(connected, server, run):
    nats = connected(server)
    assert inside.link_of(nats).websocket is (transports.chosen != "tcp")
    assert inside.is_secure(nats) is (transports.chosen == "wss")
    assert nats.connected_url() == server.url
    got: list[bytes] = []
    nats.subscribe("a", collect(got))
    nats.publish("a", b"x")
    run(lambda: got)


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("transport", ["ws", "wss"])
def test_a_run_through_websocket(transport):
    command = [sys.executable, "-m", "pytest", "-q", f"--transport={transport}", *SMOKE]
    command += ["-p", "no:cacheprovider"]
    done = run_whole(command, 300, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_another_word_is_refused():
    done = run_whole([sys.executable, "-m", "pytest", "--transport=quic", "-q"], 60, cwd=ROOT)
    assert done.returncode == 4
    assert "choose one of tcp, ws, wss" in done.stderr
