"""How the modules are compiled: hardened and without assertions as a release, the reverse for debugging."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = next(p for p in Path(__file__).resolve().parents if (p / "pyproject.toml").exists())
MODULES = ["nats_ev._parser", "nats_ev.pyev._libev"]


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """`_build_flags`, which is no part of the package."""
    monkeypatch.syspath_prepend(str(ROOT))
    module = importlib.import_module("_build_flags")
    module.accepts.cache_clear()
    yield module
    module.accepts.cache_clear()


def readelf(module: str, *options: str) -> str:
    """What readelf prints of a compiled module; skips where that says nothing of a release."""
    path = importlib.import_module(module).__file__
    assert path is not None
    with open(path, "rb") as file:
        if file.read(4) != b"\x7fELF":
            pytest.skip("the compiled modules are no ELF files on this platform")
    if shutil.which("readelf") is None:
        pytest.skip("needs readelf (Debian: binutils)")
    symbols = subprocess.check_output(["readelf", "-W", "--dyn-syms", path], text=True)
    if "__asan_" in symbols:
        pytest.skip("built for a sanitizer, not as a release")
    return subprocess.check_output(["readelf", "-W", *options, path], text=True)


@pytest.mark.parametrize("module", MODULES)
def test_tables_of_functions_are_read_only_once_loaded(flags: ModuleType, module: str) -> None:
    for flag in ("-Wl,-z,relro", "-Wl,-z,now"):
        if not flags.accepts(flag):
            pytest.skip(f"the linker does not know {flag}")
    assert "GNU_RELRO" in readelf(module, "-l")
    assert "NOW" in readelf(module, "-d")


@pytest.mark.parametrize("module", MODULES)
def test_functions_with_arrays_have_a_stack_protector(flags: ModuleType, module: str) -> None:
    if not flags.accepts("-fstack-protector-strong"):
        pytest.skip("the compiler does not know -fstack-protector-strong")
    assert "__stack_chk_" in readelf(module, "--dyn-syms")


@pytest.mark.parametrize("module", MODULES)
def test_a_release_has_no_assertions_and_exports_nothing_but_its_entry(module: str) -> None:
    symbols = readelf(module, "--dyn-syms")
    assert "__assert" not in symbols
    exported = {
        fields[7]
        for fields in map(str.split, symbols.splitlines())
        if len(fields) > 7 and fields[4] == "GLOBAL" and fields[6] not in ("UND", "ABS")
    } - {"_init", "_fini"}
    assert exported == {f"PyInit_{module.rpartition('.')[2]}"}


def test_a_debug_build_has_assertions_and_leaves_the_memory_checks_to_sanitizers(
    flags: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_EV_DEBUG", "1")
    monkeypatch.delenv("NATS_EV_WERROR", raising=False)
    assert flags.compile_args("-O1")[-1] == "-UNDEBUG"
    assert not any("FORTIFY" in flag for flag in flags.compile_args())
    assert flags.link_args() == []
    monkeypatch.delenv("NATS_EV_DEBUG")
    assert "-DNDEBUG" in flags.compile_args()


def test_warnings_are_errors_only_when_asked_for(
    flags: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NATS_EV_WERROR", raising=False)
    assert "-Werror" not in flags.compile_args()
    monkeypatch.setenv("NATS_EV_WERROR", "1")
    assert "-Werror" in flags.compile_args()


def test_flags_that_the_compiler_does_not_know_are_left_out(flags: ModuleType) -> None:
    nonsense, known = ["-fno-such-flag-of-any-compiler"], ["-fPIC"]
    assert flags.chosen([[nonsense, known], [nonsense]]) == known


def test_without_a_compiler_nothing_is_chosen(
    flags: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "nonexistent-cc")
    assert flags.chosen(flags.HARDENING_COMPILE) == []


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("assertions", ["-UNDEBUG", "-DNDEBUG"])
def test_the_binding_compiles_without_a_warning(
    flags: ModuleType, tmp_path: Path, compiler: str, assertions: str
) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    include = f"-I{sysconfig.get_path('include')}"
    options = ["-std=c11", "-O2", "-D_GNU_SOURCE", *flags.WARNINGS, "-Werror", assertions]
    source = ROOT / "csrc" / "libev_glue.c"
    done = subprocess.run(
        [compiler, *options, include, "-c", str(source), "-o", str(tmp_path / "glue.o")],
        capture_output=True,
        text=True,
    )
    if done.returncode and "ev.h is missing" in done.stderr and sys.platform == "darwin":
        pytest.skip("libev is not where the compiler looks")
    assert done.returncode == 0, done.stderr
