"""Short runs of `soak`, `reconnects`, `references`, `timeouts`, `interrupts`, `chaos` and `monkey`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest

from drills import chaos, interrupts, monkey, reconnects, references, soak, timeouts
from lab.natsserver import NatsServer
from nats_ev.testing.certificates import Certificates, server_config

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_log_is_kept(monkeypatch):
    """pytest keeps what is logged until the test ends, and so it would grow."""
    monkeypatch.setattr(logging.getLogger("nats_ev"), "disabled", True)


@pytest.mark.server
def test_nothing_grows_with_messages_and_reconnects():
    # Short runs see the allocator settle, so memory may grow by more than in `make soak`.
    soak.soak(60, 3000, memory=8 * 1024 * 1024)


@pytest.mark.server
def test_connections_leave_no_memory_behind(tmp_path):
    reconnects.reconnects(500, tmp_path)


@pytest.mark.server
@pytest.mark.parametrize("loop", reconnects.LOOPS[1:])
def test_clients_leave_nothing_behind_on_other_loops(loop):
    assert reconnects.in_a_process(500, loop, "clients") == 0


@pytest.mark.server
def test_timeouts_that_all_differ_leave_no_memory_behind():
    timeouts.timeouts(20_000)


@pytest.mark.server
def test_operations_leave_no_blocks_of_memory_behind():
    references.references(20_000)


@pytest.fixture
def untraced() -> Iterator[None]:
    """A tracer such as coverage makes Python look for signals in the middle of the drill's own callbacks."""
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)


@pytest.mark.server
@pytest.mark.parametrize("way", interrupts.ways())
def test_a_storm_of_interrupts_loses_and_doubles_nothing(untraced, way):
    interrupts.storm(way, 500)


@pytest.mark.server
def test_a_rolling_restart_loses_nothing_but_what_was_under_way():
    chaos.chaos(rounds=1, nodes_per_round=2)


@pytest.mark.parametrize("seed", [3, 105, 183, 404])
def test_random_actions_in_random_callbacks_break_no_promise(server, seed):
    monkey.collected(monkey.monkey(seed, server))


@pytest.mark.server
def test_random_actions_over_tls_break_no_promise(tmp_path):
    certs = Certificates(tmp_path)
    with NatsServer(config=server_config(certs.issue("server", "127.0.0.1"))) as server:
        options = {"tls": True, "tls_ca_file": str(certs.ca.cert_file)}
        monkey.collected(monkey.monkey(7, server, **options))
