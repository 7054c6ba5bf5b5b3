"""Folders of the source tree that tests and programs beside them need."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
EXAMPLES = ROOT / "examples"
BENCH = ROOT / "bench"
CACHE = ROOT / ".cache"  # what is downloaded once: older servers, packages of another language
