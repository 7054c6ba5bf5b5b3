"""A smaller run of `make bigobject`, in a process of its own whose memory is its own."""

from __future__ import annotations

import sys

import pytest

from lab.paths import TESTS
from lab.process import run_whole

pytestmark = pytest.mark.slow


@pytest.mark.server
def test_object_streams_in_little_memory_and_over_a_cut_link():
    done = run_whole([sys.executable, "-m", "drills.bigobject", "96"], 300, cwd=TESTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resumed" in done.stdout
