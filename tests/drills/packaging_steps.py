"""From the source tree to an installed package, with every Python that is here: `make packaging`.

`repo/test_packaging.py` does what is quick of it in the suite. Installs with pip as a user would, so it
needs a package index or pip's cache.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lab.natsserver import NatsServer
from lab.paths import ROOT

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
# What a build, a test run or a tool leaves behind; as .gitignore has it.
LEFTOVERS = shutil.ignore_patterns(
    ".git", ".venv*", ".cache", "build", "dist", "*.egg-info", "__pycache__", "*.py[cod]", "*.so",
    "*.o", "_parser.c", "_libev.c", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis",
    "node_modules", "site",
)  # fmt: skip

# Run outside the tree: prints the version when a message has gone to the server and back.
SMOKE = """
import sys
import nats_ev
from nats_ev import Nats, pyev

loop = pyev.default_loop()
nats = Nats(host="127.0.0.1", port=int(sys.argv[1]), on_error=lambda error: sys.exit(str(error)))
nats.subscribe("smoke", lambda *message: nats.drain(lambda error: print(nats_ev.__version__)))
nats.publish("smoke", b"x")
loop.start()
assert sys.argv[2] not in nats_ev.__file__ or sys.argv[3] == "editable", nats_ev.__file__
"""


def run(*command: object, cwd: Path | None = None, **environ: str) -> str:
    """Output of a command; CalledProcessError with all of it when it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd or tempfile.gettempdir(),
        env={**os.environ, **environ},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=900,
    )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout)
    return done.stdout


def failure(*command: object, cwd: Path | None = None, **environ: str) -> str:
    """Output of a command that has to fail."""
    try:
        output = run(*command, cwd=cwd, **environ)
    except subprocess.CalledProcessError as exc:
        return str(exc.stdout)
    raise AssertionError(f"succeeded: {command}\n{output}")


def copy_tree(to: Path) -> Path:
    """A copy of the source tree without what is not part of it."""
    shutil.copytree(ROOT, to, ignore=LEFTOVERS)
    return to


def build_sdist(tree: Path, to: Path, *options: str) -> Path:
    """The tree's source distribution."""
    run(sys.executable, "-m", "build", "--sdist", *options, "-o", to, tree)
    (sdist,) = to.glob("*.tar.gz")
    return sdist


def unpack(sdist: Path, to: Path) -> Path:
    """The folder that a source distribution unpacks to."""
    with tarfile.open(sdist) as archive:
        archive.extractall(to, filter="data") if hasattr(
            tarfile, "data_filter"
        ) else archive.extractall(to)
    (folder,) = to.iterdir()
    return folder


def compiler_without_libev(to: Path) -> Path:
    """A compiler that sees all of the system's headers but ev.h."""
    headers, wrapper = to / "include", to / "cc"
    headers.mkdir()
    for entry in Path("/usr/include").iterdir():
        if entry.name not in ("ev.h", "libev"):
            (headers / entry.name).symlink_to(entry)
    own = run("cc", "-print-file-name=include").strip()
    multiarch = run("cc", "-print-multiarch").strip()
    places = [own, f"/usr/include/{multiarch}", str(headers)]
    flags = " ".join(f"-isystem '{place}'" for place in places)
    wrapper.write_text(f'#!/bin/sh\nexec cc -nostdinc {flags} "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


def pythons() -> Iterator[tuple[str, Path]]:
    """(version, interpreter) of those that are installed; says which are not."""
    for version in PYTHONS:
        candidates = [Path(found)] if (found := shutil.which(f"python{version}")) else []
        candidates += sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
        for candidate in candidates:
            try:
                run(candidate, "-c", "import ssl, venv, ensurepip")
            except (subprocess.CalledProcessError, OSError):
                continue
            yield version, candidate
            break
        else:
            print(f"Python {version}: not installed here, skipped")


def try_python(version: str, python: Path, sdist: Path, work: Path, port: int) -> None:
    """Install in every way with one Python, and send a message with each."""
    outside = work / f"outside {version}"
    outside.mkdir()

    def venv(name: str) -> Path:
        run(python, "-m", "venv", outside / name)
        return outside / name / "bin" / "python"

    def smoke(of: Path, kind: str) -> None:
        print(
            f"Python {version}, {kind}:",
            run(of, "-c", SMOKE, port, ROOT, kind, cwd=outside).strip(),
        )

    plain = venv("plain")
    run(plain, "-m", "pip", "install", "-q", copy_tree(outside / "a tree"))
    smoke(plain, "pip install .")
    editable = venv("editable")
    run(editable, "-m", "pip", "install", "-q", "-e", copy_tree(outside / "editable tree"))
    smoke(editable, "editable")
    wheels = outside / "wheels"
    packager = venv("wheel")
    run(packager, "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, sdist)
    (wheel,) = wheels.glob("*.whl")
    run(packager, "-m", "pip", "install", "-q", wheel)
    smoke(packager, "sdist to wheel")


def try_make(work: Path) -> None:
    """`make` as a user without rights, in a folder whose name has blanks, again without a network."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        print("make as another user: needs root and setpriv, skipped")
        return
    nobody = pwd.getpwnam("nobody")
    tree = copy_tree(work / "a folder with blanks")
    run("chown", "-R", f"{nobody.pw_uid}:{nobody.pw_gid}", tree)
    work.chmod(0o755)
    user = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    home = {"HOME": str(tree)}
    python = Path(sys.base_prefix, "bin", "python3")
    if subprocess.run([*user, "test", "-x", python]).returncode:  # in another's home
        python = Path("/usr/bin/python3")
    quick = ["pytest", "PYTEST_ARGS=-q tests/client/test_client.py"]
    make = [*user, "make", f"PYTHON={python}"]
    run(*make, "demo", cwd=tree, **home)
    print("make demo as nobody, in", tree.name)
    dark = ["unshare", "--net", "sh", "-c", 'ip link set lo up 2>/dev/null; exec "$@"', "sh"]
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        dark = []
    for again in (["demo"], ["check"], quick):
        run(*dark, *make, *again, cwd=tree, **home)
        print("make", again[0], "again", "without a network" if dark else "with a network")


def main() -> None:
    """Raises when anything fails."""
    with tempfile.TemporaryDirectory(prefix="nats_ev packaging ") as name, NatsServer() as server:
        work = Path(name)
        sdist = build_sdist(ROOT, work / "sdist")
        for version, python in pythons():
            try_python(version, python, sdist, work, server.port)
        try_make(work)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as exc:
        sys.exit(f"{exc}\n{exc.stdout}")
