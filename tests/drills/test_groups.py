"""Consumer groups under load while members come, go and are killed: a few seconds of `make groups`."""

from __future__ import annotations

import pytest

from drills.groups import run

pytestmark = [pytest.mark.slow, pytest.mark.server]


@pytest.mark.parametrize("kind", ["elastic", "static"])
def test_nothing_is_lost_and_each_key_keeps_its_order(kind: str) -> None:
    found = run(6, 300, kind, every=1.0, strict=False)
    assert found["handled"] >= found["sent"] > 1000
