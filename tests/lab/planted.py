"""Compare what mypy and pyright report about `tests/repo/types` with the marks there. `make lint` runs this.

A line with a mistake ends with ``# expect: <codes of mypy> | <rules of pyright>``, with commas between.
No other line may be reported.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from lab.structure import ROOT

FOLDER = ROOT / "tests" / "repo" / "types"
CHECKERS = ("mypy", "pyright")
# (file, line) → codes
Found = dict[tuple[str, int], set[str]]

_MARK = re.compile(r"# expect: ([\w,-]+) \| ([\w,]+)$")
_MYPY = re.compile(r"(.+?):(\d+): error: .*\[([\w-]+)\]$")


def expected(paths: list[Path]) -> dict[str, Found]:
    """Return what each checker should report."""
    found: dict[str, Found] = {checker: {} for checker in CHECKERS}
    for path in paths:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            mark = _MARK.search(line)
            if mark is None:
                assert "# expect" not in line, f"{path.name}:{number}: not a mark"
                continue
            for checker, codes in zip(CHECKERS, mark.groups(), strict=True):
                found[checker][path.name, number] = set(codes.split(","))
    return found


def by_mypy(paths: list[Path], version: str = "3.10") -> Found:
    """Return what mypy --strict reports."""
    options = ["--strict", "--config-file=", "--python-version", version, "--no-pretty"]
    done = _run(["mypy", *options, *map(str, paths)], MYPYPATH=str(ROOT))
    found: Found = {}
    for line in done.splitlines():
        if match := _MYPY.match(line):
            file, number, code = match.groups()
            found.setdefault((Path(file).name, int(number)), set()).add(code)
    return found


def by_pyright(paths: list[Path], version: str = "3.10") -> Found:
    """Return what pyright reports. Without node on this machine the package from PyPI would fetch one."""
    options = ["--outputjson", "--pythonpath", sys.executable, "--pythonversion", version]
    done = _run(["pyright", *options, *map(str, paths)], PYRIGHT_PYTHON_IGNORE_WARNINGS="1")
    found: Found = {}
    for each in json.loads(done)["generalDiagnostics"]:
        if each["severity"] == "error":
            place = (Path(each["file"]).name, each["range"]["start"]["line"] + 1)
            found.setdefault(place, set()).add(each.get("rule", "syntax"))
    return found


def _run(command: list[str], **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def differences(wanted: Found, found: Found) -> list[str]:
    """Return a line for each place where a checker reports something else than its mark says."""
    lines = []
    for place in sorted({*wanted, *found}):
        before, after = wanted.get(place, set()), found.get(place, set())
        if before != after:
            file, number = place
            shown = ", ".join(sorted(after)) or "nothing"
            marked = ", ".join(sorted(before)) or "nothing"
            lines.append(f"{file}:{number}: reports {shown}, the mark says {marked}")
    return lines


def main() -> int:
    """Print what differs; return 1 if anything does."""
    paths = sorted(FOLDER.glob("*.py"))
    wanted = expected(paths)
    lines = [f"mypy: {each}" for each in differences(wanted["mypy"], by_mypy(paths))]
    if shutil.which("node") is not None:
        lines += [f"pyright: {each}" for each in differences(wanted["pyright"], by_pyright(paths))]
    else:
        print("pyright was not run: node is not installed")
    print("\n".join(lines) or f"{len(wanted['mypy'])} planted mistakes found")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
