"""What `make` does by itself: it compiles again when it must, and fetches what it could not fetch before.

The `.venv` of these trees is a script that notes how it is called, or the Python of the tests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from drills import packaging_steps as steps
from lab.paths import ROOT

pytestmark = [
    pytest.mark.skipif(shutil.which("make") is None, reason="needs make"),
    pytest.mark.slow,
]
STAMPS = (".venv/.servers", ".venv/.peers")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree, set up but for the servers and peers; a blank is in its name."""
    tree = steps.copy_tree(tmp_path / "a tree")
    (tree / ".venv" / "bin").mkdir(parents=True)
    interpreter(tree, f'exec "{sys.executable}" "$@"')
    for name in (".python", ".installed"):
        (tree / ".venv" / name).touch()
    return tree


def interpreter(tree: Path, script: str) -> None:
    """Replace the tree's .venv/bin/python."""
    path = tree / ".venv" / "bin" / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def make(tree: Path, *arguments: str, **environ: str) -> str:
    """What make prints; without what the make that runs these tests was called with."""
    ours = ("MAKEFLAGS", "MAKELEVEL", "PYTHON", "CC", "CFLAGS", "NATS_EV_WERROR", "NATS_EV_DEBUG")
    clean = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(
        ["make", *arguments], cwd=tree, env=clean | environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_could_not_be_fetched_is_not_noted_as_fetched(tree):
    nowhere = "http://127.0.0.1:1"  # nobody listens on it
    offline = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "npm_config_registry": nowhere}
    said = make(tree, "servers", "peers", **offline)
    assert said.count("not fetched") == 2
    assert [s for s in STAMPS if (tree / s).exists()] == []
    # With a network the next run fetches them; here they are put where it looks for them.
    lines = re.search(r"^SERVER_LINES := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert lines is not None
    for version in lines[1].split():
        server = tree / ".cache" / "nats-server" / version / "nats-server"
        server.parent.mkdir(parents=True)
        server.write_text("")
        server.chmod(0o755)
    packages = (tree / "tests" / "lab" / "js" / "package.json").read_bytes()
    (tree / ".cache" / "js").mkdir(parents=True, exist_ok=True)
    (tree / ".cache" / "js" / ".installed").write_bytes(packages)
    make(tree, *STAMPS, **offline)
    assert [s for s in STAMPS if not (tree / s).exists()] == []


def test_C_is_compiled_again_when_a_file_or_the_compilers_flags_have_changed(tree):
    interpreter(tree, 'echo "$*" >> calls')
    calls = tree / "calls"

    def compiles(*arguments: str, **environ: str) -> bool:
        calls.write_text("")
        make(tree, "build", *arguments, **environ)
        return "_parser_build.py" in calls.read_text()

    assert compiles()
    assert not compiles()
    assert compiles(CC="cc -m64")
    assert not compiles(CC="cc -m64")
    assert compiles("CC=cc -m64", "CFLAGS=-O0")
    assert compiles(LIBEV_PREFIX="/somewhere")
    assert compiles()
    for name in ("csrc/nats_scan.h", "csrc/libev_glue.c", "_build_flags.py", "_libev_build.py"):
        later = (tree / ".venv" / ".built").stat().st_mtime + 5
        os.utime(tree / name, (later, later))
        assert compiles(), name
        os.utime(tree / name, (0, 0))
        assert not compiles(), name


def test_a_venv_of_another_Python_than_the_one_asked_for_is_replaced(tree):
    same = make(tree, ".venv/.python", f"PYTHON={sys.executable}")
    assert "replacing" not in same
    assert (tree / ".venv" / "bin").exists()
    interpreter(tree, "echo 3.9")
    make(tree, ".venv/.python")  # no version is asked for
    assert (tree / ".venv" / "bin").exists()
    said = make(tree, ".venv/.python", f"PYTHON={sys.executable}")
    assert "replacing the .venv of 3.9" in said
    assert not (tree / ".venv" / "bin").exists()
    assert (tree / ".venv" / ".python").exists()
