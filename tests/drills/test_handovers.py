"""The lock and the election of examples/: a few hand-overs of `make handovers`."""

from __future__ import annotations

import pytest

from drills.handovers import run

pytestmark = [pytest.mark.slow, pytest.mark.since(2, 11)]


@pytest.mark.parametrize(
    ("script", "arguments"),
    [("distributed_lock.py", ("held", "30")), ("leader_election.py", ("leader",))],
)
def test_killed_holder_is_followed_by_one_other(server, script, arguments):
    run(server.port, 3, script, *arguments)


def test_lock_goes_round_when_it_is_let_go(server):
    run(server.port, 12, "distributed_lock.py", "held", "0.05", kill=False)
