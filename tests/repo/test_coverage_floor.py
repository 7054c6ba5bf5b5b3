"""The check of the coverage floors: lines and branches apart, the worst files named with places."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = next(p for p in Path(__file__).parents if p.name == "tests") / "lab" / "coverage_floor.py"


def report(folder: Path, files: dict[str, dict[str, Any]]) -> Path:
    """Write a report as `coverage json` does: files with covered counts and missing places."""
    entries = {}
    for name, file in files.items():
        entries[name] = {
            "missing_lines": file["lines"],
            "missing_branches": file["branches"],
            "summary": summary(90, 40, len(file["lines"]), len(file["branches"])),
        }
    missing = [sum(len(file[kind]) for file in files.values()) for kind in ("lines", "branches")]
    totals = summary(90 * len(files), 40 * len(files), *missing)
    path = folder / "report.json"
    path.write_text(json.dumps({"files": entries, "totals": totals}))
    return path


def summary(lines: int, branches: int, no_lines: int, no_branches: int) -> dict[str, int]:
    return {
        "covered_lines": lines,
        "num_statements": lines + no_lines,
        "covered_branches": branches,
        "num_branches": branches + no_branches,
    }


def check(path: Path, lines: float, branches: float) -> subprocess.CompletedProcess[str]:
    floors = ["--lines", str(lines), "--branches", str(branches)]
    command = [sys.executable, SCRIPT, *floors, path]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


GOOD = {"lines": [], "branches": []}
BAD = {"lines": [3, 4, 5, 9], "branches": [[7, 9], [12, -10]]}


def test_figures_at_their_floors_pass(tmp_path):
    done = check(report(tmp_path, {"a.py": GOOD}), 100, 100)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "coverage of lines: 100.00 %, floor 100 %",
        "coverage of branches: 100.00 %, floor 100 %",
    ]


def test_lines_below_their_floor_fail_although_branches_hold(tmp_path):
    done = check(report(tmp_path, {"good.py": GOOD, "bad.py": BAD}), 98, 90)
    assert done.returncode == 1
    assert "  bad.py: 95.7 %, missing 3-5 9\n" in done.stdout
    assert "good.py" not in done.stdout
    assert "->" not in done.stdout


def test_branches_below_their_floor_fail_although_lines_hold(tmp_path):
    done = check(report(tmp_path, {"good.py": GOOD, "bad.py": BAD}), 90, 99)
    assert done.returncode == 1
    assert "  bad.py: 95.2 %, missing 7->9 12->exit\n" in done.stdout


def test_the_file_that_misses_most_comes_first(tmp_path):
    worse = {"lines": [*range(1, 40)], "branches": []}
    done = check(report(tmp_path, {"bad.py": BAD, "worse.py": worse}), 99, 0)
    named = [line.split(":")[0].strip() for line in done.stdout.splitlines() if ".py" in line]
    assert named == ["worse.py", "bad.py"]


def test_a_missing_report_fails(tmp_path):
    assert check(tmp_path / "none.json", 0, 0).returncode != 0
