"""A selection of the behavioural tests on every kind of loop; `make loops` runs all of them on each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab import loops
from lab.loops import runs
from lab.loops.exclusions import EXCLUSIONS
from lab.paths import ROOT, TESTS

SELECTION = (TESTS / "loops" / "selection.txt").read_text().split()
OTHERS = [name for name in loops.KINDS if name != loops.DEFAULT]


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("kind", OTHERS)
def test_the_selection_passes_on(kind: str) -> None:
    done = runs.run(kind, "-q", *(f"tests/{name}" for name in SELECTION), timeout=120.0)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert runs.counts(done.stdout).get("passed", 0) >= len(SELECTION) - 2, done.stdout


def test_a_kind_that_needs_a_patched_process_says_so() -> None:
    name = loops.chosen.name
    try:
        with pytest.raises(ValueError, match=r"python -m lab\.loops gevent-libuv-patched"):
            loops.choose("gevent-libuv-patched")
    finally:
        loops.choose(name)
    with pytest.raises(ValueError, match="choose one of libev, pyev-like, "):
        loops.choose("twisted")


def test_the_table_in_the_documentation_names_every_kind_and_every_reason() -> None:
    text = (ROOT / "docs" / "loops-table.md").read_text()
    text = re.sub(r"\s+", " ", text)
    for kind in loops.KINDS.values():
        assert f"| {kind.title} |" in text, kind.name
    for entry in EXCLUSIONS:
        assert entry.why in text, entry


def test_every_exclusion_names_tests_that_exist() -> None:
    sources = {path: path.read_text() for path in Path(TESTS).rglob("test_*.py")}
    for entry in EXCLUSIONS:
        file, _, name = entry.tests.rpartition("::")
        if entry.tests.endswith(".py"):
            assert any(str(path).endswith(entry.tests) for path in sources), entry
            continue
        name = re.split(r"\.\*|\\\[", name)[0]
        found = [path for path, text in sources.items() if f"def {name}" in text]
        assert any(str(path).endswith(file) for path in found), entry
    for name in (name.partition("::") for name in SELECTION):
        assert f"def {name[2].partition('[')[0]}(" in (TESTS / name[0]).read_text(), name
