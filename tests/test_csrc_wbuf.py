"""The write buffer's C tests, built and run under AddressSanitizer and UndefinedBehaviorSanitizer.

What is tested is in `csrc/test_wbuf.c` and `fuzz/fuzz_wbuf.c`; nothing here goes through CFFI.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
CSRC = TESTS.parent / "csrc"
CORPUS = TESTS / "fuzz" / "corpus" / "wbuf"
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
SANITIZE = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]

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


def build(source: Path, target: Path, *options: str) -> Path:
    run("cc", *STRICT, *options, f"-I{CSRC}", f"-I{TESTS / 'csrc'}", source, "-o", target)
    return target


def test_the_c_tests_pass_under_address_and_undefined_behaviour_sanitizers(tmp_path: Path) -> None:
    program = build(TESTS / "csrc" / "test_wbuf.c", tmp_path / "test_wbuf", *SANITIZE)
    assert "random_calls_agree_with_the_model: 300 runs" in run(program)


def test_the_c_tests_pass_as_the_module_is_built_optimised_and_without_assertions(
    tmp_path: Path,
) -> None:
    program = build(
        TESTS / "csrc" / "test_wbuf.c", tmp_path / "test_wbuf", "-O3", "-DNDEBUG", "-pedantic"
    )
    assert "random_calls_agree_with_the_model: 1000 runs" in run(program, "1000")


def test_the_fuzz_corpus_replays(tmp_path: Path) -> None:
    inputs = sorted(CORPUS.iterdir())
    assert len(inputs) >= 20
    program = build(TESTS / "fuzz" / "fuzz_wbuf.c", tmp_path / "replay", "-DREPLAY", *SANITIZE)
    assert f"{len(inputs)} inputs replayed" in run(program, *inputs)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("option", ["-DDEBUG", "-DNDEBUG"])
def test_the_write_buffer_compiles_without_a_warning(
    tmp_path: Path, compiler: str, option: str
) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    run(compiler, *STRICT, "-O2", option, "-c", CSRC / "nats_wbuf.c", "-o", tmp_path / "wbuf.o")
