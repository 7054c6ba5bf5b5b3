"""What this process holds, memory and descriptors; processes that end with the one that started them."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
from pathlib import Path
from typing import Any

from nats_ev.testing.process import die_with_us as die_with_us

# Where a count is compared with an earlier one, a platform without /proc compares 0 with 0.
HAS_PROC = Path("/proc/self/statm").exists()


def resident() -> int:
    """Return the resident memory in bytes."""
    if not HAS_PROC:
        return 0
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def descriptors() -> int:
    """Return how many descriptors are open."""
    return len(os.listdir("/proc/self/fd")) if HAS_PROC else 0


def unmeasured() -> dict[str, str]:
    """Return an environment in which a started Python is not measured by coverage.

    For programs that count allocations: the tracer makes some, too.
    """
    return {name: value for name, value in os.environ.items() if "COVERAGE" not in name}


def run_whole(
    command: list[str], timeout: float, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return its output; all that the program has started ends with it.

    That holds when the time is up and on Ctrl-C, too, where `subprocess.run` ends the program only. On Linux
    the program also ends when the caller is killed.

    Args:
        command: The program and its arguments.
        timeout: Seconds until `subprocess.TimeoutExpired`.
        options: Further arguments of `subprocess.Popen`.
    """
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    with subprocess.Popen(
        command, start_new_session=True, preexec_fn=die_with_us, **options
    ) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)
