"""The C core on its own: for C11 and C++17, installed, and linked to a program without Python."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab.paths import EXAMPLES, ROOT

CSRC = ROOT / "csrc"
SOURCES = [CSRC / f"{name}.c" for name in ("nats_parser", "nats_wbuf", "nats_unsent")]
PUBLIC = ["nats_attributes.h", "nats_parser.h", "nats_wbuf.h"]
STRICT = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-pedantic", "-Werror"]
C11 = ["-x", "c", "-std=c11", "-Wc++-compat"]
CXX17 = ["-x", "c++", "-std=c++17"]
# C compilers, and the C++ compiler that comes with each; Debian's packages g++ and clang have them.
COMPILERS = [
    ("cc", C11),
    ("gcc", C11),
    ("clang", C11),
    ("c++", CXX17),
    ("g++", CXX17),
    ("clang++", CXX17),
]
DECLARED = re.compile(r"\b(nats_\w+)\(")
CAPTURE = (
    b'INFO {"server_id":"X"}\r\nPING\r\nPING\r\n'
    b"MSG foo 1 3\r\nabc\r\nMSG foo 1 0\r\n\r\nMSG bar 2 r.1 1\r\n\xff\r\nMSG bar 2 r.2 2\r\nyy\r\n"
    b"HMSG baz 3 12 14\r\nNATS/1.0\r\n\r\nhi\r\n-ERR 'Slow Consumer'\r\n+OK\r\nPONG\r\n"
)
FRAMES = r"""INFO text "{\"server_id\":\"X\"}"
PING
PING
MSG sid 1 subject "foo" payload "abc"
MSG sid 1 subject "foo" payload ""
MSG sid 2 subject "bar" reply "r.1" payload "\xff"
MSG sid 2 subject "bar" reply "r.2" payload "yy"
HMSG sid 3 subject "baz" headers "NATS/1.0\x0d\x0a\x0d\x0a" payload "hi"
-ERR text "'Slow Consumer'"
+OK
PONG
5 messages, 20 bytes
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the compilers of a Unix")


def need(*tools: str) -> None:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)}: not installed")


def run(*command: object, **options: object) -> bytes:
    """What a command that must succeed prints."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, timeout=300, **options
    )  # type: ignore[call-overload]
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")
    output: bytes = done.stdout
    return output


def exported(output: bytes) -> set[str]:
    """The functions and variables in the output of nm that other files may use."""
    return set(re.findall(r"^[0-9a-f]+ [A-TV-Z] _?(\w+)$", output.decode(), re.MULTILINE))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a blank in its name, into which the core is installed."""
    need("make", "cc", "ar")
    prefix = tmp_path_factory.mktemp("the core") / "usr"
    ours = ("MAKEFLAGS", "MAKELEVEL", "CC", "CFLAGS", "DESTDIR")
    clean = {name: value for name, value in os.environ.items() if name not in ours}
    said = run("make", "install-core", f"PREFIX={prefix}", cwd=ROOT, env=clean)
    assert said.startswith(b"installed the C core ")
    return prefix


@pytest.mark.parametrize(("compiler", "language"), COMPILERS, ids=[c for c, _ in COMPILERS])
def test_each_header_compiles_alone_in_both_languages(
    tmp_path: Path, compiler: str, language: list[str]
) -> None:
    need(compiler)
    for header in sorted(CSRC.glob("nats_*.h")):
        program = tmp_path / "program.c"
        program.write_text(
            f'#include "{header.name}"\n#include "{header.name}"\nint main(void) {{ return 0; }}\n'
        )
        # What is static in a private header is not used here.
        run(
            compiler,
            *language,
            *STRICT,
            "-Wno-unused-function",
            f"-I{CSRC}",
            "-fsyntax-only",
            program,
        )


@pytest.mark.parametrize(("compiler", "language"), COMPILERS, ids=[c for c, _ in COMPILERS])
def test_the_sources_compile_in_both_languages(compiler: str, language: list[str]) -> None:
    need(compiler)
    # C++ compilers differ in what they think of an enumerator beside an int.
    strict = [*STRICT, "-Wno-extra"] if language is CXX17 else STRICT
    for source in SOURCES:
        run(compiler, *language, *strict, "-fsyntax-only", source)


@pytest.mark.parametrize(("compiler", "language"), COMPILERS, ids=[c for c, _ in COMPILERS])
def test_the_example_frames_and_parses_a_capture(
    installed: Path, tmp_path: Path, compiler: str, language: list[str]
) -> None:
    need(compiler, "pkg-config")
    environ = os.environ | {"PKG_CONFIG_PATH": str(installed / "lib" / "pkgconfig")}
    flags = run("pkg-config", "--cflags", "--libs", "nats-ev-core", env=environ).decode()
    program, capture = tmp_path / "frames", tmp_path / "capture"
    example = [EXAMPLES / "c_core" / "frames.c", "-x", "none"]
    run(compiler, *language, *STRICT, *example, *shlex.split(flags), "-o", program)
    capture.write_bytes(CAPTURE)
    assert run(program, capture).decode() == FRAMES
    assert run(program, input=CAPTURE).decode() == FRAMES
    hpub = b"HPUB foo.bar 25 27\r\nNATS/1.0\r\nTrace-Id: 4\r\n\r\nhi\r\n"
    assert run(program, "publish", "foo.bar", "hi", "Trace-Id=4") == hpub
    assert run(program, "publish", "foo.bar", "hello") == b"PUB foo.bar 5\r\nhello\r\n"
    capture.write_bytes(CAPTURE + b"MSG foo\r\n" + CAPTURE)
    done = subprocess.run([program, capture], capture_output=True, timeout=60)
    assert done.returncode == 1
    error = f'error at byte {len(CAPTURE)}: wrong number of arguments in "MSG foo'
    assert FRAMES.splitlines()[-2] + "\n" + error in done.stdout.decode()
    done = subprocess.run([program, "publish", "a b", "x"], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, b"not framed: invalid subject\n")


def test_the_installed_files_are_those_that_the_contract_names(installed: Path) -> None:
    files = sorted(str(p.relative_to(installed)) for p in installed.rglob("*") if p.is_file())
    headers = [f"include/nats_ev/{name}" for name in PUBLIC]
    assert files == [*headers, "lib/libnats_ev_core.a", "lib/pkgconfig/nats-ev-core.pc"]
    contract = (CSRC / "README.md").read_text()
    assert all(f"`{name}`" in contract for name in PUBLIC)
    for path in (installed / "include" / "nats_ev").iterdir():
        own = re.findall(r'#include "(.*)"', path.read_text())
        assert set(own) <= set(PUBLIC), path.name  # no private header


def test_only_declared_functions_are_exported(installed: Path, tmp_path: Path) -> None:
    need("nm", "cc")
    headers = [(installed / "include" / "nats_ev" / name).read_text() for name in PUBLIC]
    code = re.sub(r"/\*.*?\*/", "", "".join(headers), flags=re.DOTALL)
    public = set(DECLARED.findall(code))
    private = set(DECLARED.findall((CSRC / "nats_wbuf_private.h").read_text()))
    library = installed / "lib" / "libnats_ev_core.a"
    # Within the library the core's files share some more, which a shared library does not hand on.
    assert public <= exported(run("nm", "-g", library)) <= public | private
    if sys.platform == "linux":
        shared = tmp_path / "core.so"
        whole = ["-Wl,--whole-archive", library, "-Wl,--no-whole-archive"]
        run("cc", "-shared", *whole, "-o", shared)
        assert exported(run("nm", "-D", "--defined-only", shared)) == public


def test_destdir_is_where_files_go_and_not_what_they_say(tmp_path: Path) -> None:
    need("make", "cc", "ar")
    environ = {n: v for n, v in os.environ.items() if n not in ("MAKEFLAGS", "MAKELEVEL")}
    run("make", "install-core", "PREFIX=/opt/nats", f"DESTDIR={tmp_path}", cwd=ROOT, env=environ)
    text = (tmp_path / "opt/nats/lib/pkgconfig/nats-ev-core.pc").read_text()
    assert text.startswith("prefix=/opt/nats\n")
    version = re.search(r'"(.*)"', (ROOT / "nats_ev/_version.py").read_text().split("=")[-1])
    assert version is not None
    assert f"\nVersion: {version[1]}\n" in text
