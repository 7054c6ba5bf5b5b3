"""Which tests a kind of loop cannot run, and why."""

from __future__ import annotations

import re
from typing import NamedTuple


class Exclusion(NamedTuple):
    """Tests whose id matches a pattern, and the kinds of loop that cannot run them."""

    kinds: str  # a pattern of their names
    tests: str  # a pattern of the tests' ids
    why: str


GEVENT = "gevent-.*"
ASYNCIO = "asyncio|asyncio-debug|uvloop"
NO_HELD_INTERRUPTS = (
    "Ctrl-C at any instruction: only `nats_ev.pyev` holds it back until a callback has ended"
)
NO_PREPARE = "a Prepare watcher can be fed, and cannot be started"

EXCLUSIONS = (
    Exclusion(f"{GEVENT}|{ASYNCIO}", "client/test_interrupts.py", NO_HELD_INTERRUPTS),
    Exclusion(ASYNCIO, "test_coalescing.py::test_published_from_a_prepare_watcher", NO_PREPARE),
)


def excluded(kind: str, nodeid: str) -> str | None:
    """Return why a kind of loop cannot run a test, None if it can."""
    for entry in EXCLUSIONS:
        if re.fullmatch(entry.kinds, kind) and re.search(entry.tests, nodeid):
            return entry.why
    return None
