"""The connection is cut at bytes of an exchange; see `cuts`, which does it at every byte."""

from __future__ import annotations

import pytest

from drills import cuts
from nats_ev.testing import DOWN, UP

pytestmark = pytest.mark.slow


@pytest.mark.since(2, 12)
@pytest.mark.parametrize("reset", [False, True])
def test_a_cut_anywhere_gives_a_clean_reconnect_and_no_wrong_message(loop, server, proxy, reset):
    sizes = cuts.record(loop, server)
    assert sizes[UP] + sizes[DOWN] > 4000
    link = proxy(server.port)
    for direction, position in cuts.positions(sizes, 11):
        cuts.cut_at(loop, link, direction, position + 5 * reset, reset)
