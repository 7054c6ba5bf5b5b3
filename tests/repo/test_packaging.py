"""What is shipped: the source distribution is complete, the wheel works elsewhere, a failed build helps.

All Pythons and ways to install: `make packaging`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

from _build_flags import HAS_STABLE_ABI
from drills import packaging_steps as steps
from lab.paths import ROOT

pytestmark = pytest.mark.slow
AGREED = {
    "pyproject.toml", "setup.py", "MANIFEST.in", "nats_ev", "_parser_build.py", "_libev_build.py",
    "pytest_nats_ev.py", "_build_flags.py", ".clang-format",
    "csrc", "tests", "bench", "examples", "docs", "LICENSE", "README.md", "CHANGELOG.md", "Makefile",
    "CONTRIBUTING.md", "SECURITY.md", ".gitignore", ".ci", ".github",
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
    found = {path.name for path in tree.iterdir()} - {"nats_ev.egg-info"}  # of the builds below
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
    assert {t for t in top if not t.endswith(".dist-info")} == {"nats_ev", "pytest_nats_ev.py"}
    package = {f"nats_ev/{f}" for f in files(tree / "nats_ev") if f.endswith((".py", ".pyi"))}
    assert package | {"nats_ev/py.typed"} <= names
    for module in ("_parser", "pyev/_libev"):
        assert any(re.fullmatch(rf"nats_ev/{module}\..*\.so", name) for name in names)
        assert f"nats_ev/{module}.pyi" in names
    assert any(name.endswith("LICENSE") for name in names)


def test_one_wheel_serves_every_python_from_the_oldest_one_on(wheel):
    if not HAS_STABLE_ABI:
        pytest.skip("this Python has no stable ABI")
    assert wheel.name.split("-")[2:4] == ["cp310", "abi3"]
    with zipfile.ZipFile(wheel) as archive:
        built = [n for n in archive.namelist() if n.endswith(".so")]
    assert [n for n in built if not n.endswith(".abi3.so")] == []


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


def test_the_addresses_of_the_project_are_those_that_the_release_is_built_for(own_tree):
    program = "from setuptools import build_meta; build_meta.prepare_metadata_for_build_wheel('.')"
    for home in ("", "https://example.org/a/b"):
        steps.run(sys.executable, "-c", program, cwd=own_tree, NATS_EV_HOME=home)
        (info,) = own_tree.glob("*.dist-info/METADATA")
        urls = message_from_string(info.read_text()).get_all("Project-URL", [])
        assert [u.partition(", ")[0] for u in urls] == (
            ["Source", "Documentation", "Changelog", "Issues"] if home else []
        )
        assert all(home in url for url in urls)


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


def test_a_missing_compiler_is_named_with_what_to_install(own_tree):
    said = steps.failure(*PIP_WHEEL, cwd=own_tree, CC="nonexistent-cc")
    assert "needs a C compiler, and there is no 'nonexistent-cc'" in said
    assert "gcc libc6-dev (Debian, Ubuntu)" in said


def test_a_missing_libev_is_named_with_what_to_install(work, own_tree):
    if not Path("/usr/include/ev.h").exists():
        pytest.skip("libev's header is not where this test can hide it")
    without = f"'{steps.compiler_without_libev(work)}'"
    said = steps.failure(*PIP_WHEEL, cwd=own_tree, CC=without)
    assert "libev's header ev.h is missing. Install libev-dev (Debian, Ubuntu, Alpine)" in said
    assert "undeclared" not in said  # it is not buried in what a compiler finds wrong without it
    said = steps.failure(sys.executable, "_libev_build.py", cwd=own_tree, CC=without)
    assert "libev's header ev.h is missing. Install libev-dev (Debian, Ubuntu)" in said


@pytest.mark.parametrize("script", ["_parser_build.py", "_libev_build.py"])
def test_warnings_are_errors_when_asked_for(own_tree, script):
    warning = {"CFLAGS": "-Wpadded"}  # which the structs of both cannot help
    said = steps.failure(sys.executable, script, cwd=own_tree, NATS_EV_WERROR="1", **warning)
    assert "-Werror=padded" in said


# What pip calls for `pip install -e .`; pip itself would replace the package that these tests run on.
EDITABLE = "import sys; from setuptools import build_meta; build_meta.build_editable(sys.argv[1])"
BUILDS = {
    "make build": [["_parser_build.py"], ["_libev_build.py"]],
    "pip install -e .": [["-c", EDITABLE, "editable"]],
}


@pytest.fixture
def own_tree(tmp_path: Path) -> Path:
    """A source tree that a test may build in."""
    return steps.copy_tree(tmp_path / "a tree")


def build_in_place(tree: Path, way: str, **environ: str) -> None:
    """Build both modules in the tree, quickly."""
    (tree / "editable").mkdir(exist_ok=True)
    for arguments in BUILDS[way]:
        steps.run(sys.executable, *arguments, cwd=tree, **({"CFLAGS": "-O0"} | environ))


def compiled(tree: Path) -> list[Path]:
    """What compilers and linkers have left in the tree's own folders."""
    folders = (tree / "nats_ev", tree / "csrc")
    return [p for f in folders for p in f.rglob("*") if p.suffix in (".so", ".o")]


@pytest.mark.parametrize("way", BUILDS)
def test_a_build_leaves_one_extension_per_module_and_replaces_stale_ones(own_tree, way):
    flavours = ["abi3.so", "so", sysconfig.get_config_var("EXT_SUFFIX").lstrip(".")]
    stale = [own_tree / f"nats_ev/{m}.{f}" for m in ("_parser", "pyev/_libev") for f in flavours]
    for path in stale:
        path.write_bytes(b"from before a change in C")
    build_in_place(own_tree, way)
    found = {str(p.relative_to(own_tree)).partition(".")[0]: p for p in compiled(own_tree)}
    assert len(found) == len(compiled(own_tree)), compiled(own_tree)
    assert set(found) == {"nats_ev/_parser", "nats_ev/pyev/_libev"}
    program = "from nats_ev import pyev, _parser; print(_parser.__file__, pyev._libev.__file__)"
    said = steps.run(sys.executable, "-c", program, cwd=own_tree, PYTHONPATH=str(own_tree))
    assert said.strip() == " ".join(map(str, found.values()))


def test_the_build_script_and_pip_name_an_extension_alike(own_tree):
    names = []
    for way in BUILDS:
        build_in_place(own_tree, way)
        names.append(sorted(path.name for path in compiled(own_tree)))
    assert names[0] == names[1]


def test_make_clean_removes_every_object_and_extension(own_tree):
    if shutil.which("make") is None:
        pytest.skip("needs make")
    build_in_place(own_tree, "make build")
    for name in ("nats_ev/_parser.o", "nats_ev/pyev/_libev.o", "csrc/nats_wbuf.o", "nats_ev/a.so"):
        (own_tree / name).touch()
    steps.run("make", "clean", cwd=own_tree)
    assert compiled(own_tree) == []
    assert files(own_tree) == files(steps.copy_tree(own_tree.with_name("another")))


def test_a_wheel_has_nothing_of_an_earlier_build(own_tree):
    cache = f"build/lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}/nats_ev"
    stale = {"_parser" + sysconfig.get_config_var("EXT_SUFFIX"), "old.py", "old/__init__.py"}
    for name in stale:
        (own_tree / cache / name).parent.mkdir(parents=True, exist_ok=True)
        (own_tree / cache / name).write_bytes(b"")
    steps.run(*PIP_WHEEL, cwd=own_tree, CFLAGS="-O0")
    assert not stale & files(own_tree / cache)
    assert (own_tree / cache / "_parser.pyi").exists()  # that is where it was built
    (wheel,) = (own_tree / "unused").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert not {f"nats_ev/{name}" for name in stale} & set(archive.namelist())


@pytest.fixture
def libev_prefix(tmp_path: Path) -> Path:
    """A folder with a libev of its own, as LIBEV_PREFIX names one; a blank is in its name."""
    prefix = tmp_path / "own libev"
    header = Path("/usr/include/ev.h")
    maps = steps.run(
        sys.executable, "-c", "import nats_ev.pyev; print(open('/proc/self/maps').read())"
    )
    libraries = re.findall(r"/\S*/libev\.so\S*", maps)
    if sys.platform != "linux" or not header.exists() or not libraries:
        pytest.skip("libev is not where this test can copy it from")
    (prefix / "include").mkdir(parents=True)
    (prefix / "lib").mkdir()
    shutil.copy(header, prefix / "include")
    shutil.copy(libraries[0], prefix / "lib" / "libev.so.4")
    (prefix / "lib" / "libev.so").symlink_to("libev.so.4")
    return prefix


@pytest.mark.parametrize("way", BUILDS)
def test_the_libev_of_LIBEV_PREFIX_is_the_one_that_is_loaded(own_tree, libev_prefix, way):
    build_in_place(own_tree, way, LIBEV_PREFIX=str(libev_prefix))
    program = "import nats_ev.pyev; print(open('/proc/self/maps').read())"
    maps = steps.run(sys.executable, "-c", program, cwd=own_tree, PYTHONPATH=str(own_tree))
    loaded = set(re.findall(r"/.*/libev\.so.*", maps))
    assert loaded == {str(libev_prefix / "lib" / "libev.so.4")}


@pytest.fixture
def static_libev(tmp_path: Path) -> Path:
    """A static libev as wheels carry it; its source is cached, or can be fetched, or the test is skipped."""
    prefix = tmp_path / "static libev"
    try:
        steps.run("sh", ROOT / "tests/lab/libev.sh", prefix)
    except subprocess.CalledProcessError as exc:
        if "cannot be fetched" not in exc.stdout:
            raise
        pytest.skip("libev's source can't be fetched")
    return prefix


# Loads the system's libev first, for all to see, as another binding of it may.
CARRIED = """
import ctypes, sys
system = ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
system.ev_loop_new.restype = ctypes.c_void_p
from nats_ev import pyev
ours, theirs = pyev.default_loop(), system.ev_loop_new(0)
if ctypes.c_void_p.in_dll(system, "ev_default_loop_ptr").value is not None:
    sys.exit("the system's libev got a default loop")
try:
    pyev.Loop.from_address(theirs)
except ValueError as exc:
    print(exc)
fired = []
timer = ours.timer(0.001, 0, lambda *event: fired.append(event))
timer.start()
ours.start()
sys.exit(not fired)
"""


def test_a_wheel_with_libev_inside_needs_none_and_keeps_it_to_itself(
    own_tree, static_libev, libev_prefix
):
    environ = {"LIBEV_PREFIX": str(static_libev), "CFLAGS": "-O0"}
    steps.run(*PIP_WHEEL, cwd=own_tree, **environ)
    (wheel,) = (own_tree / "unused").glob("*.whl")
    target = own_tree.with_name("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    licence = target / "nats_ev/pyev/LICENSE.libev"
    assert licence.read_text() == (static_libev / "LICENSE").read_text()
    (module,) = (target / "nats_ev/pyev").glob("_libev.*.so")
    assert str(static_libev) not in module.read_bytes().decode("latin-1")  # no RUNPATH
    program = [sys.executable, "-c", CARRIED, libev_prefix / "lib" / "libev.so.4"]
    said = steps.run(*program, cwd=target, PYTHONPATH=str(target))
    assert "another copy of libev" in said


def test_a_LIBEV_PREFIX_without_libev_is_refused(own_tree, tmp_path):
    said = steps.failure(*PIP_WHEEL, cwd=own_tree, LIBEV_PREFIX=str(tmp_path / "nowhere"))
    assert f"there is no {tmp_path / 'nowhere' / 'include' / 'ev.h'}" in said


def test_a_LIBEV_PREFIX_with_a_header_alone_is_refused(own_tree, libev_prefix):
    for library in (libev_prefix / "lib").iterdir():
        library.unlink()
    said = steps.failure(*PIP_WHEEL, cwd=own_tree, LIBEV_PREFIX=str(libev_prefix))
    assert f"there is no library libev in {libev_prefix / 'lib'}" in said


def test_a_LIBEV_PREFIX_that_a_RUNPATH_cant_hold_is_refused(own_tree, libev_prefix):
    odd = libev_prefix.rename(libev_prefix.with_name("a:b"))
    said = steps.failure(*PIP_WHEEL, cwd=own_tree, LIBEV_PREFIX=str(odd))
    assert "a colon separates folders" in said


@pytest.mark.parametrize(("cc", "text"), [("gcc 'x", "No closing quotation"), (" ", "no compiler")])
def test_a_CC_that_is_no_command_is_refused_and_named(own_tree, cc, text):
    said = steps.failure(*PIP_WHEEL, cwd=own_tree, CC=cc)
    assert f"CC={cc}" in said or f"CC={cc!r}" in said
    assert text in said


def test_CC_may_have_arguments(own_tree):
    cc = f"{shutil.which('cc')} -DCC_HAS_ARGUMENTS"
    header = own_tree / "csrc" / "nats_attributes.h"
    header.write_text(f"#ifndef CC_HAS_ARGUMENTS\n#error no\n#endif\n{header.read_text()}")
    build_in_place(own_tree, "make build", CC=cc)
    build_in_place(own_tree, "pip install -e .", CC=cc)


def system_packages(tree: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """What `make system` says to a user without rights."""
    path = tree / "bin"
    path.mkdir()
    (path / "id").write_text("#!/bin/sh\necho 1000\n")
    (path / "id").chmod(0o755)
    environ = os.environ | {"PATH": f"{path}:{os.environ['PATH']}"} | environ
    return subprocess.run(
        ["sh", "tests/lab/system_packages.sh"],
        cwd=tree, env={"PYTHON": sys.executable} | environ, capture_output=True, text=True,
    )  # fmt: skip


def test_the_look_for_system_packages_takes_a_CC_with_arguments(own_tree):
    done = system_packages(own_tree, CC="cc -g -O0")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_look_for_system_packages_finds_the_libev_of_LIBEV_PREFIX(own_tree, libev_prefix):
    without = f"'{steps.compiler_without_libev(own_tree)}' -g"
    done = system_packages(own_tree, CC=without, LIBEV_PREFIX=str(libev_prefix))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    shutil.rmtree(own_tree / "bin")
    home = {"HOME": str(libev_prefix.parent), "LIBEV_PREFIX": f"~/{libev_prefix.name}"}
    done = system_packages(own_tree, CC=without, **home)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    shutil.rmtree(own_tree / "bin")
    done = system_packages(own_tree, CC=without)
    assert done.returncode == 1
    assert "libev's headers: Debian libev-dev" in done.stderr
    assert "a C compiler" not in done.stderr


def test_the_look_for_system_packages_names_the_CC_that_is_missing(own_tree):
    done = system_packages(own_tree, CC="nonexistent-cc -m64")
    assert done.returncode == 1
    assert "a C compiler (there is no nonexistent-cc, which CC names)" in done.stderr
