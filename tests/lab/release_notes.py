"""The notes of a release, the section of CHANGELOG.md for a tag: `make release-notes TAG=vX.Y.Z`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def section(changelog: str, version: str) -> str:
    """Return what CHANGELOG.md says about a version, without its heading.

    Raises:
        ValueError: there is no such section, its heading has no date, or it is empty.
    """
    heading = re.search(rf"^## {re.escape(version)}( .*|)$", changelog, re.MULTILINE)
    if heading is None:
        raise ValueError(f"CHANGELOG.md has no section {version}")
    if not re.fullmatch(r" — \d{4}-\d{2}-\d{2}", heading[1]):
        raise ValueError(
            f"the section {version} of CHANGELOG.md has no date: '## {version} — 2026-01-31'"
        )
    text = re.split(r"^## ", changelog[heading.end() :], maxsplit=1, flags=re.MULTILINE)[0].strip()
    if not text:
        raise ValueError(f"the section {version} of CHANGELOG.md is empty")
    return text


def notes(tag: str, root: Path = ROOT) -> str:
    """Return the notes for a tag.

    Raises:
        ValueError: the tag is not that of the package's version, or `section` raises it.
    """
    text = (root / "nats_ev" / "_version.py").read_text()
    (version,) = re.findall(r'^__version__ = "(.*)"$', text, re.MULTILINE)
    if tag != f"v{version}":
        raise ValueError(f"the tag {tag} is not that of the package's version, v{version}")
    return section((root / "CHANGELOG.md").read_text(), version)


if __name__ == "__main__":
    try:
        print(notes(sys.argv[1] if len(sys.argv) > 1 else ""))
    except ValueError as exc:
        sys.exit(str(exc))
