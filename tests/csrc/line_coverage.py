"""Measure which lines of the C core the C tests run: `make coverage-c`.

Builds ``test_parser.c`` and ``test_wbuf.c`` with gcc's instrumentation and without optimisation, runs them,
and lets gcov count. Prints a line per file and the lines that were never run; ends with status 1 when the
tests run less than `FLOOR` per cent of the lines. Takes some ten seconds.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = next(p for p in Path(__file__).resolve().parents if (p / "pyproject.toml").exists())
CSRC = ROOT / "csrc"
TESTS = ROOT / "tests" / "csrc"
PROGRAMS = {"test_parser": "50", "test_wbuf": "100"}
FLOOR = 98.0

# gcov's "    count:   line:text": "-" has no code, "#####" was never run.
_LINE = re.compile(r"\s*(-|=====|#####|[0-9]+)\*?:\s*([0-9]+):")


def run(*command: str | Path, cwd: Path) -> None:
    """Run a command that must succeed; raises CalledProcessError."""
    subprocess.run([str(part) for part in command], cwd=cwd, check=True, stdout=subprocess.DEVNULL)


def measure(folder: Path) -> dict[str, dict[int, bool]]:
    """Return for each file of the core: line → whether a test ran the line."""
    gcc, gcov = os.environ.get("GCC", "gcc"), os.environ.get("GCOV", "gcov")
    counts: dict[str, dict[int, bool]] = {}
    for name, runs in PROGRAMS.items():
        source = TESTS / f"{name}.c"
        options = ["--coverage", "-O0", "-DNDEBUG", "-std=c11", f"-I{CSRC}", f"-I{TESTS}"]
        run(gcc, *options, source, "-o", name, cwd=folder)
        run(folder / name, runs, cwd=folder)
        (data,) = folder.glob(f"*{name}.gcda")
        run(gcov, "--preserve-paths", data, cwd=folder)
    for report in folder.glob("*.gcov"):
        path = report.name.removesuffix(".gcov").replace("#", "/")
        if Path(path).parent != CSRC:
            continue
        lines = counts.setdefault(Path(path).name, {})
        for match in map(_LINE.match, report.read_text().splitlines()):
            if match and match[1] not in ("-", "====="):
                number = int(match[2])
                lines[number] = lines.get(number, False) or match[1] != "#####"
    return counts


def main() -> int:
    """Print the report; return the exit status."""
    if shutil.which(os.environ.get("GCC", "gcc")) is None:
        print("coverage-c: needs gcc with gcov (Debian: gcc)", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        counts = measure(Path(folder))
    for name, lines in sorted(counts.items()):
        missed = [number for number, was_run in sorted(lines.items()) if not was_run]
        share = 100 * (1 - len(missed) / len(lines))
        print(f"{name:16} {len(lines):4} lines {share:6.1f} %  {missed or ''}")
    total = sum(map(len, counts.values()))
    done = sum(sum(lines.values()) for lines in counts.values())
    share = 100 * done / total
    print(f"{'together':16} {total:4} lines {share:6.1f} %  floor {FLOOR:.0f} %")
    return 0 if share >= FLOOR else 1


if __name__ == "__main__":
    sys.exit(main())
