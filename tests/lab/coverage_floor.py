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


def main(arguments: list[str]) -> int:
    """Read the report of `coverage json`, print both figures and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report")
    parser.add_argument("--lines", type=float, required=True, help="floor in per cent")
    parser.add_argument("--branches", type=float, required=True, help="floor in per cent")
    options = parser.parse_args(arguments)
    with open(options.report) as stream:
        report = json.load(stream)
    below = False
    for kind, floor in ((LINES, options.lines), (BRANCHES, options.branches)):
        reached = percent(kind, report["totals"])
        print(f"coverage of {kind.name}: {reached:.2f} %, floor {floor:g} %")
        if reached < floor:
            below = True
            print(f"below the floor; most {kind.name} are missing in:")
            print("\n".join(worst(kind, report["files"])))
    return int(below)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
