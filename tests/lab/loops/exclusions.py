"""Which tests a kind of loop cannot run, and why."""

from __future__ import annotations

import re
from typing import NamedTuple


class Exclusion(NamedTuple):
    """Tests whose id matches a pattern, and the kinds of loop that cannot run them."""

    kinds: str  # a pattern of their names
    tests: str  # a pattern of the tests' ids
    why: str


EXCLUSIONS: tuple[Exclusion, ...] = ()


def excluded(kind: str, nodeid: str) -> str | None:
    """Return why a kind of loop cannot run a test, None if it can."""
    for entry in EXCLUSIONS:
        if re.fullmatch(entry.kinds, kind) and re.search(entry.tests, nodeid):
            return entry.why
    return None
