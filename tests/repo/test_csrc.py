"""The C core's own tests, built and run under AddressSanitizer and UndefinedBehaviorSanitizer.

What is tested is in `csrc/` and `fuzz/`, each file saying what; nothing here goes through CFFI.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab.paths import ROOT, TESTS

CSRC = ROOT / "csrc"
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Wshadow"]
# A newer compiler may warn of what this one does not: only the project's own checks are so strict.
WERROR = ["-Werror"] if os.environ.get("NATS_EV_WERROR") == "1" else []
SANITIZE = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
# program → the last line of its output, and how many random runs it is asked for as built.
PROGRAMS = {
    "test_parser": ("random_streams_give_the_same_rows_however_they_are_cut: {} runs", 500, 3000),
    "test_wbuf": ("random_calls_agree_with_the_model: {} runs", 300, 1000),
}
# fuzz target → what is linked with it.
TARGETS = {"parser": [], "roundtrip": [CSRC / "nats_wbuf.c", CSRC / "nats_unsent.c"], "wbuf": []}

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler named cc")


def run(*command: str | Path) -> str:
    """Output of a command that must succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def build(sources: list[Path], target: Path, *options: str, compiler: str = "cc") -> Path:
    include = [f"-I{CSRC}", f"-I{TESTS / 'csrc'}"]
    run(compiler, *STRICT, *WERROR, *options, *include, *sources, "-o", target)
    return target


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_c_tests_pass_under_address_and_undefined_behaviour_sanitizers(
    tmp_path: Path, name: str
) -> None:
    program = build([TESTS / "csrc" / f"{name}.c"], tmp_path / name, *SANITIZE)
    last, runs, _ = PROGRAMS[name]
    assert last.format(runs) in run(program)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_c_tests_pass_as_the_module_is_built_optimised_and_without_assertions(
    tmp_path: Path, name: str
) -> None:
    options = ["-O3", "-DNDEBUG", "-pedantic"]
    program = build([TESTS / "csrc" / f"{name}.c"], tmp_path / name, *options)
    last, _, runs = PROGRAMS[name]
    assert last.format(runs) in run(program, str(runs))


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_the_fuzz_corpus_replays(tmp_path: Path, target: str) -> None:
    inputs = sorted((TESTS / "fuzz" / "corpus" / target).iterdir())
    assert len(inputs) >= 20
    sources = [TESTS / "fuzz" / f"fuzz_{target}.c", *TARGETS[target]]
    program = build(sources, tmp_path / "replay", "-DREPLAY", *SANITIZE)
    assert f"{len(inputs)} inputs replayed" in run(program, *inputs)


@pytest.mark.parametrize("compiler", ["cc", "gcc", "clang"])
@pytest.mark.parametrize("option", ["-DDEBUG", "-DNDEBUG"])
def test_the_c_core_compiles_alone_and_without_a_warning(
    tmp_path: Path, compiler: str, option: str
) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    for source in sorted(CSRC.glob("nats_*.c")):
        output = run(
            *(compiler, *STRICT, *WERROR, "-pedantic", "-O2", option),
            *("-c", source, "-o", tmp_path / "out.o"),
        )
        # Shown by pytest -rA; fatal only with NATS_EV_WERROR=1.
        print(output)


def test_the_c_core_needs_no_python_and_no_socket() -> None:
    allowed = {"assert.h", "limits.h", "stddef.h", "stdint.h", "stdlib.h", "string.h"}
    for path in sorted([*CSRC.glob("nats_*.[ch]"), CSRC / "cdef.h"]):
        lines = [line for line in path.read_text().splitlines() if line.startswith("#include <")]
        assert {line.split("<")[1].rstrip(">") for line in lines} <= allowed, path.name


@pytest.mark.skipif(sys.platform != "linux", reason="a shell script for Linux and the like")
def test_the_fuzz_script_says_what_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", str(TESTS / "fuzz" / "run.sh")],
        env={**os.environ, "CLANG": "no-such-clang"},
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "there is no no-such-clang" in done.stderr
