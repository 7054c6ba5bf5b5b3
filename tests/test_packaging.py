"""What is shipped: the source distribution is complete, the wheel works elsewhere, a failed build helps.

All Pythons and ways to install: `make packaging`.
"""

from __future__ import annotations

import re
import sys
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import packaging_steps as steps
import pytest

ROOT = steps.ROOT
AGREED = {
    "pyproject.toml", "setup.py", "MANIFEST.in", "nats_ev", "_parser_build.py", "_libev_build.py",
    "csrc", "tests", "bench", "examples", "docs", "LICENSE", "README.md", "CHANGELOG.md", "Makefile",
    ".gitignore", ".ci", ".github",
}  # fmt: skip


def files(tree: Path) -> set[str]:
    return {str(p.relative_to(tree)) for p in tree.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packaging with blanks")


@pytest.fixture(scope="module")
def tree(work: Path) -> Path:
    """The source tree without leftovers."""
    return steps.copy_tree(work / "tree")


@pytest.fixture(scope="module")
def unpacked(work: Path, tree: Path) -> Path:
    """The unpacked source distribution."""
    return steps.unpack(steps.build_sdist(tree, work / "sdist", "--no-isolation"), work / "source")


@pytest.fixture(scope="module")
def wheel(work: Path, unpacked: Path) -> Path:
    """A wheel from the source distribution, compiled with warnings as errors."""
    folder = work / "wheel"
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    steps.run(*pip, "-w", folder, unpacked, NATS_EV_WERROR="1")
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        return message_from_string(archive.read(name).decode())


def test_the_top_level_has_only_the_agreed_entries(tree):
    found = {path.name for path in tree.iterdir()}
    assert found <= AGREED
    assert {"pyproject.toml", "nats_ev", "_parser_build.py", "csrc", "tests", "bench"} <= found


def test_the_source_distribution_has_every_file_of_the_tree(tree, unpacked):
    assert files(tree) - files(unpacked) == {".gitignore"} & files(tree)
    made = {f for f in files(unpacked) - files(tree) if ".egg-info" not in f}
    assert made <= {"PKG-INFO", "setup.cfg"}


def test_the_wheel_has_the_package_its_types_and_nothing_else(tree, wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    top = {name.partition("/")[0] for name in names}
    assert {t for t in top if not t.endswith(".dist-info")} == {"nats_ev"}
    package = {f"nats_ev/{f}" for f in files(tree / "nats_ev") if f.endswith((".py", ".pyi"))}
    assert package | {"nats_ev/py.typed"} <= names
    for module in ("_parser", "_libev"):
        assert any(re.fullmatch(rf"nats_ev/{module}\..*\.so", name) for name in names)
        assert f"nats_ev/{module}.pyi" in names
    assert any(name.endswith("LICENSE") for name in names)


def test_the_wheel_works_outside_the_tree(work, wheel, server):
    target = work / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    command = [sys.executable, "-c", steps.SMOKE, server.port, ROOT, "wheel"]
    version = steps.run(*command, cwd=work, PYTHONPATH=str(target)).strip()
    assert version == (ROOT / "nats_ev/_version.py").read_text().split('"')[-2]


def test_the_metadata_say_what_is_so(metadata):
    assert metadata["Name"] == "nats_ev"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Requires-Python"] == ">=3.10"
    needs = [n for n in metadata.get_all("Requires-Dist", []) if "extra ==" not in n]
    assert sorted(re.split("[<>=]", n)[0] for n in needs) == ["cffi", "cryptography"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])


def test_the_version_is_in_one_place(tree, metadata):
    version = (tree / "nats_ev/_version.py").read_text().split('"')[-2]
    assert metadata["Version"] == version
    elsewhere = [
        name
        for name in files(tree)
        if name.endswith((".py", ".toml", ".c", ".h", "Makefile")) and name != "nats_ev/_version.py"
        and re.search(rf"(?<![\d.]){re.escape(version)}(?![\d.])", (tree / name).read_text())
    ]  # fmt: skip
    assert elsewhere == []


PIP_WHEEL = [
    sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", "unused", ".",
]  # fmt: skip


def test_a_missing_compiler_is_named_with_what_to_install(tree):
    said = steps.failure(*PIP_WHEEL, cwd=tree, CC="nonexistent-cc")
    assert "needs a C compiler, and there is no 'nonexistent-cc'" in said
    assert "gcc libc6-dev (Debian, Ubuntu)" in said


def test_a_missing_libev_is_named_with_what_to_install(work, tree):
    if not Path("/usr/include/ev.h").exists():
        pytest.skip("libev's header is not where this test can hide it")
    without = f"'{steps.compiler_without_libev(work)}'"
    said = steps.failure(*PIP_WHEEL, cwd=tree, CC=without)
    assert "libev's header ev.h is missing. Install libev-dev (Debian, Ubuntu, Alpine)" in said
    assert "undeclared" not in said  # it is not buried in what a compiler finds wrong without it
    said = steps.failure(sys.executable, "_libev_build.py", cwd=tree, CC=without)
    assert "libev's header ev.h is missing. Install libev-dev (Debian, Ubuntu)" in said


@pytest.mark.parametrize("script", ["_parser_build.py", "_libev_build.py"])
def test_warnings_are_errors_when_asked_for(tree, script):
    warning = {"CFLAGS": "-Wpadded"}  # which the structs of both cannot help
    said = steps.failure(sys.executable, script, cwd=tree, NATS_EV_WERROR="1", **warning)
    assert "-Werror=padded" in said
