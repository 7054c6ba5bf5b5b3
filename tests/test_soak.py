"""Short runs of `soak`, `chaos` and `monkey`."""

from __future__ import annotations

import chaos
import monkey
import pytest
import soak


def test_nothing_grows_with_messages_and_reconnects():
    # Short runs see the allocator settle, so memory may grow by more than in `make soak`.
    soak.soak(60, 3000, memory=8 * 1024 * 1024)


def test_a_rolling_restart_loses_nothing_but_what_was_under_way():
    chaos.chaos(rounds=1, nodes_per_round=2)


@pytest.mark.parametrize("seed", [3, 105, 183, 404])
def test_random_actions_in_random_callbacks_break_no_promise(server, seed):
    monkey.collected(monkey.monkey(seed, server))
