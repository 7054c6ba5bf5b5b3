"""A smaller run of `make bigobject`, in a process of its own whose memory is its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lab.paths import TESTS

pytestmark = pytest.mark.slow


@pytest.mark.server
def test_object_streams_in_little_memory_and_over_a_cut_link():
    done = subprocess.run(
        [sys.executable, "-m", "drills.bigobject", "96"],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resumed" in done.stdout
