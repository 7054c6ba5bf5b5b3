"""A smaller run of `clusters`, on the newest server, in a process of its own."""

from __future__ import annotations

import sys

import pytest

from lab.paths import TESTS
from lab.process import run_whole

pytestmark = pytest.mark.slow


@pytest.mark.server
def test_nothing_is_wrong_when_leaders_are_killed_and_suspended():
    command = [sys.executable, "-m", "drills.clusters", "--line", "newest"]
    done = run_whole([*command, "--rounds", "2", "--keys", "500"], 300, cwd=TESTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "wrong=0" in done.stdout
