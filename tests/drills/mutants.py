"""Plants the mistakes of `csrc/mutants.txt` in a copy of the parser, one at a time: which tests notice?

`make mutants`. Each mutant is built twice: for the C tests (`csrc/test_parser.c`) and as the module, for
`protocol/test_parser_differential.py`. Ends with status 1 when one escapes both, or when the parser as it is
does not pass. Some 10 s per mutant; `python -m drills.mutants 3 7` tries just these.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from lab.paths import ROOT, TESTS

SOURCES = ("nats_parser.c", "nats_scan.h")
C_TESTS, DIFFERENTIAL = "the C tests", "the differential test"
SANITIZE = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]


class Mutant(NamedTuple):
    """A text that occurs once in the sources, and what it becomes."""

    name: str
    old: str
    new: str


def read_mutants() -> list[Mutant]:
    mutants = []
    for block in (TESTS / "csrc" / "mutants.txt").read_text().split("\n= ")[1:]:
        name, *lines = block.splitlines()
        old = "\n".join(line[2:] for line in lines if line.startswith("- "))
        new = "\n".join(line[2:] for line in lines if line.startswith("+ "))
        mutants.append(Mutant(name, old, new))
    return mutants


def passes(*command: str | Path, cwd: Path, **environment: str) -> bool:
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=120,
        )
    except subprocess.TimeoutExpired:  # a mistake may well be an endless loop
        return False
    return done.returncode == 0


def copy_to(folder: Path) -> None:
    for name in ("csrc", "nats_ev", "tests"):
        ignore = shutil.ignore_patterns("__pycache__", "corpus", "*.o")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ("_parser_build.py", "_build_flags.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)


def noticed(folder: Path) -> list[str]:
    """The tests that the parser in the folder does not pass."""
    compile_tests = ["cc", "-std=c11", "-w", *SANITIZE, "-Icsrc", "-Itests/csrc"]
    if not passes(*compile_tests, "tests/csrc/test_parser.c", "-o", "test_parser", cwd=folder):
        raise SystemExit("does not compile")
    by = [] if passes("./test_parser", "100", cwd=folder) else [C_TESTS]
    if not passes(sys.executable, "_parser_build.py", cwd=folder, CFLAGS="-O0 -w"):
        raise SystemExit("does not compile as a module")
    test = [sys.executable, "-m", "pytest", "-q", "-x", "--noconftest", "-p", "no:cacheprovider"]
    path = f"{folder}:{folder / 'tests'}"
    if not passes(
        *test,
        "tests/protocol/test_parser_differential.py",
        cwd=folder,
        PYTHONPATH=path,
        NATS_EV_SHRINK="0",
    ):
        by.append(DIFFERENTIAL)
    return by


def plant(mutant: Mutant, folder: Path) -> Path:
    """Change the folder's copy; returns the file that must be restored."""
    found = [name for name in SOURCES if mutant.old in (ROOT / "csrc" / name).read_text()]
    texts = [(ROOT / "csrc" / name).read_text() for name in found]
    if len(found) != 1 or texts[0].count(mutant.old) != 1:
        raise SystemExit(f"{mutant.name}: its text must occur once in {SOURCES}")
    path = folder / "csrc" / found[0]
    path.write_text(texts[0].replace(mutant.old, mutant.new))
    return path


def main(numbers: list[int]) -> int:
    mutants = read_mutants()
    counts = {C_TESTS: 0, DIFFERENTIAL: 0}
    escaped = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_to(folder)
        if noticed(folder):
            raise SystemExit("the parser as it is does not pass")
        for number in numbers or range(len(mutants)):
            start = time.monotonic()
            path = plant(mutants[number], folder)
            by = noticed(folder)
            shutil.copy(ROOT / "csrc" / path.name, path)
            for test in by:
                counts[test] += 1
            if not by:
                escaped.append(mutants[number].name)
            took = f"{time.monotonic() - start:.1f} s"
            print(
                f"{number}: {mutants[number].name}: {' and '.join(by) or 'NOBODY'} ({took})",
                flush=True,
            )
    print("noticed by", ", by ".join(f"{test}: {n}" for test, n in counts.items()))
    if escaped:
        print(f"{len(escaped)} escaped: {'; '.join(escaped)}")
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main([int(n) for n in sys.argv[1:]]))
