"""A work queue whose workers and server are killed: a short run of `make jobs`."""

from __future__ import annotations

from typing import Any

import pytest

from drills.jobs import run

pytestmark = pytest.mark.slow


def test_no_job_is_lost_and_no_dead_letter_double(own_server: Any) -> None:
    assert "none lost" in run(own_server(jetstream=True), 30, 1)
