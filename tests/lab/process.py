"""What this process holds: memory and descriptors."""

from __future__ import annotations

import os
import resource
from pathlib import Path

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
