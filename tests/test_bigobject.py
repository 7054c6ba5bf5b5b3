"""A smaller run of `make bigobject`, in a process of its own whose memory is its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).resolve().parent / "bigobject.py"


def test_object_streams_in_little_memory_and_over_a_cut_link():
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "96"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resumed" in done.stdout
