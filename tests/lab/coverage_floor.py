"""Fail when the coverage of lines or of branches is below its floor, and name the worst files.

coverage.py has one figure for both, in which well covered lines hide branches that no test takes.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, NamedTuple

WORST = 12


class Kind(NamedTuple):
    """One kind of coverage: its name, and the keys of its figures in `coverage json`."""

    name: str
    covered: str
    total: str
    missing: str


LINES = Kind("lines", "covered_lines", "num_statements", "missing_lines")
BRANCHES = Kind("branches", "covered_branches", "num_branches", "missing_branches")


def percent(kind: Kind, summary: dict[str, int]) -> float:
    """Return the covered share of a summary, 100 where it has nothing to cover."""
    total = summary[kind.total]
    return 100 * summary[kind.covered] / total if total else 100.0


def places(missing: list[Any]) -> str:
    """Return missing lines or branches as text, runs of lines as first-last."""
    if missing and isinstance(missing[0], list):
        return " ".join(f"{start}->{end if end > 0 else 'exit'}" for start, end in missing)
    runs: list[list[int]] = []
    for line in missing:
        if runs and line == runs[-1][1] + 1:
            runs[-1][1] = line
        else:
            runs.append([line, line])
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def worst(kind: Kind, files: dict[str, Any]) -> list[str]:
    """Return a line of text for each of the files that miss most, with the places."""
    missing = {name: file[kind.missing] for name, file in files.items() if file[kind.missing]}
    names = sorted(missing, key=lambda name: len(missing[name]), reverse=True)
    return [
        f"  {name}: {percent(kind, files[name]['summary']):.1f} %, missing {places(missing[name])}"
        for name in names[:WORST]
    ]


def total(kind: Kind, files: dict[str, Any]) -> float:
    """Return the covered share of all files together."""
    sums = {key: sum(f["summary"][key] for f in files.values()) for key in kind[1:3]}
    return percent(kind, sums)


def reaches(title: str, files: dict[str, Any], lines: float, branches: float) -> bool:
    """Print both figures of some files; return whether both reach their floors."""
    good = True
    for kind, floor in ((LINES, lines), (BRANCHES, branches)):
        reached = total(kind, files)
        print(f"coverage of {kind.name}{title}: {reached:.2f} %, floor {floor:g} %")
        if reached < floor:
            good = False
            print(f"below the floor; most {kind.name} are missing in:")
            print("\n".join(worst(kind, files)))
    return good


def main(arguments: list[str]) -> int:
    """Read the report of `coverage json`, print the figures and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report")
    parser.add_argument("--lines", type=float, required=True, help="floor in per cent")
    parser.add_argument("--branches", type=float, required=True, help="floor in per cent")
    parser.add_argument(
        "--apart", nargs=3, action="append", default=[], metavar=("FOLDER", "LINES", "BRANCHES"),
        help="a folder that does not count among the others, and its own floors",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    with open(options.report) as stream:
        files = json.load(stream)["files"]
    good = True
    for folder, lines, branches in options.apart:
        part = {name: files.pop(name) for name in list(files) if name.startswith(folder + "/")}
        good &= reaches(f" in {folder}", part, float(lines), float(branches))
    good &= reaches("", files, options.lines, options.branches)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
