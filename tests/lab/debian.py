"""Programs of other projects that tests talk through: web servers and proxies.

A program is taken from PATH. Where it is not installed and the system is Debian's or its like, its package
is downloaded and unpacked into .cache/debian: nothing is installed, nothing is started, root is not needed.
`make peers` does that before the suite; without a network the tests that need such a program say so.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from lab.paths import CACHE

# Name of the program: name of its package.
PACKAGES = {
    "nginx": "nginx",
    "tinyproxy": "tinyproxy-bin",
    "microsocks": "microsocks",
    "danted": "dante-server",
}
FOLDER = CACHE / "debian"
_WITHIN = 60.0  # seconds for one download


def program(name: str) -> str:
    """Return the path of a program. Raises FileNotFoundError with the reason if it can't be had."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is not None:
        return found
    package = PACKAGES[name]
    unpacked = FOLDER / package
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / f".{package}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several tests may want it at the same time
        if not unpacked.is_dir():
            _unpack(package, unpacked)
    for folder in ("usr/sbin", "usr/bin"):
        if (unpacked / folder / name).is_file():
            return str(unpacked / folder / name)
    raise FileNotFoundError(f"Debian's package {package} has no program {name}")


def _unpack(package: str, target: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise FileNotFoundError(f"install {package}: this system has no packages of Debian")
    work = target.with_name(f".{package}.{os.getpid()}")
    work.mkdir()
    try:
        _run(["apt-get", "download", "-q", package], work)
        archives = list(work.glob("*.deb"))
        if len(archives) != 1:
            raise FileNotFoundError(f"{package}: apt-get has downloaded {len(archives)} packages")
        _run(["dpkg-deb", "-x", str(archives[0]), str(work / "tree")], work)
        (work / "tree").replace(target)
    finally:
        shutil.rmtree(work)


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(
            command, cwd=folder, check=True, timeout=_WITHIN, capture_output=True, text=True
        )
    except subprocess.CalledProcessError as exc:
        raise FileNotFoundError(f"{' '.join(command)}: {exc.stderr.strip()[-300:]}") from exc
    except subprocess.TimeoutExpired as exc:
        raise FileNotFoundError(f"{' '.join(command)}: not done in {_WITHIN:g} s") from exc


if __name__ == "__main__":
    missing = 0
    for each in PACKAGES:
        try:
            program(each)
        except FileNotFoundError as exc:
            missing = 1
            print(f"{each}: {exc}")
    sys.exit(missing)
