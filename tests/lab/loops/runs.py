"""Programs that run the behavioural tests on each kind of loop.

::

    python -m lab.loops                                  # every kind, all behavioural tests: `make loops`
    python -m lab.loops uvloop host -- -k drain          # these kinds, these tests
    python -m lab.loops --jobs 4                         # four kinds at a time
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from lab.loops import DEFAULT, KINDS
from lab.paths import CACHE, ROOT, TESTS
from lab.process import run_whole

FOLDERS = (
    "client", "connection", "jetstream", "kv", "object_store", "buckets", "service", "net",
)  # fmt: skip
# What tests of one kind may take before they count as hung, in seconds.
LONGEST = 3600.0


def command(kind: str, *arguments: str) -> list[str]:
    """Return the command that runs pytest on a kind of loop, in a process of its own."""
    return [
        sys.executable,
        "-m",
        "lab.loops",
        "--in-process",
        kind,
        "-p",
        "no:cacheprovider",
        *arguments,
    ]


def run(kind: str, *arguments: str, timeout: float = LONGEST) -> subprocess.CompletedProcess[str]:
    """Run pytest on a kind of loop in a process of its own, and return what it printed."""
    environ = {**os.environ, "PYTHONPATH": str(TESTS)}
    environ.pop("PYTEST_XDIST_WORKER", None)
    return run_whole(command(kind, *arguments), timeout, cwd=ROOT, env=environ)


def counts(output: str) -> dict[str, int]:
    """Return how many tests passed, failed, were skipped, …, as pytest's last line says."""
    lines = [line for line in output.splitlines() if re.search(r" in [\d.]+s", line)]
    return (
        {what: int(number) for number, what in re.findall(r"(\d+) (\w+)", lines[-1])}
        if lines
        else {}
    )


def one(kind: str, arguments: list[str]) -> bool:
    """Run tests on a kind of loop, print one line, keep all output in a file; return whether all passed."""
    begin = time.monotonic()
    done = run(kind, *arguments)
    log = CACHE / "loops" / f"{kind}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(done.stdout + done.stderr)
    summary = ", ".join(f"{number} {what}" for what, number in counts(done.stdout).items())
    print(f"{kind:28} {time.monotonic() - begin:6.0f} s  {summary}", flush=True)
    if done.returncode:
        failures = [
            line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))
        ]
        print("\n".join(failures or done.stderr.splitlines()[-20:]), f"all of it: {log}", sep="\n")
    return done.returncode == 0


def main() -> int:
    """Run what the command line says; return the status of the program."""
    ours, _, theirs = " ".join(sys.argv[1:]).partition(" -- ")
    if sys.argv[1:2] == ["--"]:
        ours, theirs = "", " ".join(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m lab.loops", description=__doc__)
    parser.add_argument(
        "kinds", nargs="*", help=f"of {', '.join(KINDS)}; default: all but {DEFAULT}"
    )
    parser.add_argument("--jobs", type=int, default=1, help="how many kinds at a time")
    options = parser.parse_args(ours.split())
    arguments = theirs.split() or [f"tests/{folder}" for folder in FOLDERS]
    if theirs and not any(word.startswith("tests") for word in theirs.split()):
        arguments += [f"tests/{folder}" for folder in FOLDERS]
    kinds = options.kinds or [name for name in KINDS if name != DEFAULT]
    with ThreadPoolExecutor(options.jobs) as pool:
        return 0 if all(list(pool.map(lambda kind: one(kind, ["-q", *arguments]), kinds))) else 1
