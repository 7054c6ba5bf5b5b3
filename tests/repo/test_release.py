"""A release's notes are the section of CHANGELOG.md for its tag, and the tag is the version's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.paths import ROOT
from lab.release_notes import notes, section

LOG = """# Changelog

## Unreleased

- not yet

## 1.10.0 — 2026-03-01

### Added

- ten

## 1.1.0 — 2026-02-01

- one

## 1.0.0

- no date

## 0.9.0 — 2026-01-01

"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "nats_ev").mkdir()
    (tmp_path / "nats_ev" / "_version.py").write_text('__version__ = "1.1.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(LOG)
    return tmp_path


def test_the_notes_are_the_section_of_that_version_alone(tree):
    assert notes("v1.1.0", tree) == "- one"
    assert section(LOG, "1.10.0") == "### Added\n\n- ten"


@pytest.mark.parametrize("tag", ["v1.10.0", "1.1.0", "v1.1", "main", ""])
def test_a_tag_that_is_not_the_versions_is_refused(tree, tag):
    with pytest.raises(ValueError, match=r"is not that of the package's version, v1\.1\.0"):
        notes(tag, tree)


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("2.0.0", "no section 2.0.0"),
        ("1.0.0", "no date"),
        ("0.9.0", "is empty"),
        ("1.1", "no section"),
    ],
)
def test_a_missing_undated_or_empty_section_is_refused(version, text):
    with pytest.raises(ValueError, match=text):
        section(LOG, version)


def test_the_program_prints_notes_or_ends_with_a_status():
    program = [sys.executable, ROOT / "tests/lab/release_notes.py", "v0.0.0"]
    done = subprocess.run(program, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "the tag v0.0.0 is not" in done.stderr


def test_the_headings_of_the_changelog_are_versions_with_dates_newest_first():
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    dated = [h for h in headings if h != "Unreleased"]
    assert headings.count("Unreleased") <= 1
    found = [re.fullmatch(r"(\d+)\.(\d+)\.(\d+) — \d{4}-\d{2}-\d{2}", h) for h in dated]
    assert all(found), dated
    versions = [tuple(map(int, match.groups())) for match in found if match]
    assert versions == sorted(versions, reverse=True)


def test_the_packages_version_has_a_section_or_is_yet_to_get_one():
    text = (ROOT / "CHANGELOG.md").read_text()
    version = (ROOT / "nats_ev/_version.py").read_text().split('"')[-2]
    assert "## Unreleased\n" in text or section(text, version)
