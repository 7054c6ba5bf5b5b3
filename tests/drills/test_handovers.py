"""The lock and the election of examples/: a few hand-overs of `make handovers`."""

from __future__ import annotations

import pytest

from drills import holders
from drills.handovers import run
from lab.natsserver import NatsServer

pytestmark = [pytest.mark.slow, pytest.mark.since(2, 11)]


@pytest.mark.parametrize(
    ("script", "arguments"),
    [("distributed_lock.py", ("held", "30")), ("leader_election.py", ("leader",))],
)
def test_killed_holder_is_followed_by_one_other(server, script, arguments):
    run(server.port, 3, script, *arguments)


def test_lock_goes_round_when_it_is_let_go(server):
    run(server.port, 12, "distributed_lock.py", "held", "0.05", kill=False)


@pytest.mark.parametrize("kind", ["lock", "election"])
def test_fence_sees_no_two_holders(needs_server, kind):
    """A few of the hand-overs of `drills.holders`."""
    with NatsServer(jetstream=True) as server:
        drill = holders.run([server], kind, ["release", "kill", "stop", "cut_off", "release"])
    assert {what: len(times) for what, times in drill.times.items()} == {
        "release": 2, "kill": 1, "stop": 1, "cut_off": 1,
    }  # fmt: skip
    assert drill.lost >= 2
