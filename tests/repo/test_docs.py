"""Every Python block of the documentation runs on a real server and prints what is said to be printed.

A block of README.md or docs/ is a program of its own for a server at 127.0.0.1:4222 that ends by itself;
one with `def test_` in it is a test for pytest. A `text` block right behind it is its output, a `conf` block
right before it its server's configuration. Nobody listens at 127.0.0.1:4223.

The tutorial and the how-tos are run from top to bottom, in one folder and with one fresh server: a block with
a title is a file of that name, a `sh` block is run by a shell, and a `text` block is what was printed last. A
`bash` block is only shown: it installs something, or starts the server.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from lab.natsserver import NatsServer, find_binary
from lab.paths import ROOT
from lab.process import run_whole
from nats_ev import Nats
from nats_ev.options import NAMES
from nats_ev.testing import free_port

GUIDES = [
    "README.md",
    *(f"docs/{n}.md" for n in ("guide", "faces", "loops", "porting", "from-nats-py", "testing")),
]
# Read from top to bottom; each begins with an empty folder and a server of its own.
PAGES = [
    "docs/tutorial.md",
    *sorted(f"docs/howto/{path.name}" for path in ROOT.glob("docs/howto/*.md")),
]
LIMIT = 60  # seconds; each takes less than one
_BLOCK = re.compile(r"^```(\w*)(?: title=\"([\w.]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Program(NamedTuple):
    """A Python block, and what stands around it."""

    where: str
    code: str
    config: str | None
    output: str | None


class Block(NamedTuple):
    """A block of a page, and the line on which it begins; a file's name is its title."""

    line: int
    language: str
    text: str
    title: str | None


def blocks(name: str) -> list[Block]:
    """All blocks of a file."""
    text = (ROOT / name).read_text()
    found = _BLOCK.finditer(text)
    return [Block(text.count("\n", 0, b.start()) + 1, b[1], b[3], b[2]) for b in found]


def programs(name: str) -> list[Program]:
    nothing = Block(0, "", "", None)
    around = [nothing, *blocks(name), nothing]
    return [
        Program(
            f"{name}:{block.line}",
            block.text,
            before.text if before.language == "conf" else None,
            after.text if after.language == "text" else None,
        )
        for before, block, after in zip(around[:-2], around[1:-1], around[2:], strict=True)
        if block.language == "python" and block.title is None
    ]


PROGRAMS = [program for name in GUIDES for program in programs(name)]
FILES = [
    b for name in [*GUIDES, *PAGES] for b in blocks(name) if b.title and b.language == "python"
]
PROGRAMS_OF_PAGES = [program for name in PAGES for program in programs(name)]


@pytest.fixture(scope="module")
def plain_server(needs_server: None) -> Iterator[NatsServer]:
    with NatsServer(jetstream=True) as server:
        yield server


@pytest.fixture(scope="module")
def server_without_jetstream(needs_server: None) -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that programs and configurations name, made by the commands that the pages print."""
    folder = tmp_path_factory.mktemp("docs")
    for block in FILES:
        (folder / str(block.title)).write_text(block.text)
    for block in [*blocks("docs/guide.md"), *blocks("docs/howto/jwt.md")]:
        if block.language == "sh" and "worker.py" not in block.text:
            shell(block.text, folder)
    return folder


def configuration(text: str, folder: Path) -> str:
    """A `conf` block, with the files that it names where they are."""
    text = re.sub(r'include "(\w+\.conf)"', lambda name: (folder / name[1]).read_text(), text)
    return re.sub(r'"(\w+\.(?:pem|key))"', lambda name: f'"{folder / name[1]}"', text)


def at_port(code: str, there: dict[str, int]) -> str:
    """A program whose servers are at other ports."""
    port = there["4222"]
    code = re.sub(r'host="127.0.0.1"(,\s+port=4222)?', f'host="127.0.0.1", port={port}', code)
    return re.sub(r"127\.0\.0\.1:(422[23])\b", lambda found: f"127.0.0.1:{there[found[1]]}", code)


def settings_in(folder: Path) -> dict[str, str]:
    """The environment of a program that keeps its contexts there, and not in the developer's home."""
    return {"XDG_CONFIG_HOME": str(folder)}


def run(code: str, folder: Path, port: int) -> str:
    """What a program prints with its server at this port; it must end well and warn of nothing."""
    there = {"4222": port, "4223": free_port()}
    code = at_port(code, there)
    program = folder / "test_program.py"
    program.write_text(code)
    command = [sys.executable, "-W", "error", str(program)]
    if "def test_" in code:
        command[3:3] = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "pytest_nats_ev"]
    path = f"{Path(find_binary() or '').parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | settings_in(folder)
    env["NATS_SERVER"] = find_binary() or ""
    done = run_whole(command, LIMIT, cwd=folder, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for documented, real in there.items():
        done.stdout = done.stdout.replace(f":{real}", f":{documented}")
    return str(done.stdout)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.where)
def test_the_program_runs_and_prints_what_is_written_below_it(
    program: Program, folder: Path, plain_server: NatsServer, own_server
) -> None:
    server = plain_server
    if program.config is not None:
        server = own_server(config=configuration(program.config, folder))
    output = run(program.code, folder, server.port)
    if "def test_" not in program.code:
        assert output == (program.output or "")


def shell(script: str, folder: Path) -> str:
    """What the lines of a `sh` block print."""
    paths = [Path(sys.executable).parent, Path(find_binary() or "").parent, os.environ["PATH"]]
    env = os.environ | {"PATH": os.pathsep.join(map(str, paths)), "PYTHONWARNINGS": "error"}
    env |= settings_in(folder)
    done = run_whole(["sh", "-e", "-c", script], LIMIT, cwd=folder, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return str(done.stdout)


@pytest.mark.parametrize("name", PAGES)
def test_the_page_works_from_top_to_bottom(name: str, tmp_path: Path, own_server) -> None:
    server = own_server(jetstream=True)
    there = {"4222": server.port, "4223": free_port()}
    printed = ""
    for block in blocks(name):
        if block.title is not None:
            (tmp_path / block.title).write_text(at_port(block.text, there))
        elif block.language == "python":
            printed = run(block.text, tmp_path, server.port)
        elif found := re.search(r"^nats-server -c (\S+)$", block.text, re.MULTILINE):
            server = own_server(config=configuration((tmp_path / found[1]).read_text(), tmp_path))
            there["4222"] = server.port
            for program in [b for b in blocks(name) if b.title is not None]:
                (tmp_path / str(program.title)).write_text(at_port(program.text, there))
        elif block.language == "sh":
            printed = shell(at_port(block.text, there), tmp_path)
        elif block.language == "text":
            for documented, real in there.items():
                printed = printed.replace(f":{real}", f":{documented}")
            assert printed == block.text, f"{name}:{block.line}"
        else:
            assert block.language in ("bash", "conf", "ini"), f"{name}:{block.line}"


def ends(program: Program, folder: Path, port: int) -> subprocess.CompletedProcess[str]:
    """Run a program with both of its servers at this port."""
    file = folder / "ending.py"
    file.write_text(at_port(program.code, {"4222": port, "4223": port}))
    env = os.environ | settings_in(folder)
    return run_whole([sys.executable, str(file)], LIMIT, cwd=folder, env=env)


CONNECTS = re.compile(r"\bNats\(host|\bconnect\(")
SCRIPTS = [p for p in PROGRAMS if p.config is None and "def test_" not in p.code]
SCRIPTS += PROGRAMS_OF_PAGES
SCRIPTS += [Program(str(b.title), b.text, None, None) for b in FILES if CONNECTS.search(b.text)]


@pytest.mark.parametrize(
    "program", [p for p in SCRIPTS if "JetStream" in p.code], ids=lambda program: program.where
)
def test_without_jetstream_the_program_ends_with_a_status(
    program: Program, folder: Path, server_without_jetstream: NatsServer
) -> None:
    ended = ends(program, folder, server_without_jetstream.port)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "is JetStream enabled on this server" in ended.stderr


# Some wait for their server to come back; in another one a host runs the loop; nats-py tries for ever; one
# has a server of its own; one wants an argument.
PATIENT = (
    "    reconnect=True,", "max_reconnect_attempts=0", "ctypes", "import nats\n", "nats_ev.testing",
    "sys.argv[1]",
)  # fmt: skip


# Keys and JWTs are made without a server.
OFFLINE = [p for p in SCRIPTS if "nats_ev.accounts" in p.code and not CONNECTS.search(p.code)]


@pytest.mark.parametrize(
    "program",
    [p for p in SCRIPTS if p not in OFFLINE and not any(words in p.code for words in PATIENT)],
    ids=lambda program: program.where,
)
def test_without_a_server_the_program_ends_with_a_status(program: Program, folder: Path) -> None:
    ended = ends(program, folder, free_port())
    assert ended.returncode == 1, ended.stdout + ended.stderr
    said = ["Connection refused", "not connected"]
    if "from steps import run" in program.code or "nats_ev.extras" in program.code:
        said.append("disconnected")  # its first callback gets this, and raises it
    assert any(text in ended.stderr for text in said)


def test_the_programs_have_the_style_of_the_code(tmp_path: Path) -> None:
    pytest.importorskip("ruff", reason="ruff is not installed")
    texts = [b.text for b in FILES] + [p.code for p in [*PROGRAMS, *PROGRAMS_OF_PAGES]]
    for number, text in enumerate(texts):
        (tmp_path / f"program_{number}.py").write_text(text)
    for command in (["check"], ["format", "--check"]):
        config = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *config, str(tmp_path)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


MADE_FOR_THE_SITE = (
    "docs/index.md",
    "docs/examples.md",
    "docs/changes.md",
    "docs/reference/errors.md",
)


def anchor(heading: str) -> str:
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "tests/README.md",
        "examples/README.md",
        "csrc/README.md",
        *[str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md")],
    ],
)
def test_links_lead_somewhere(name: str) -> None:
    for target, part in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", (ROOT / name).read_text()):
        if target.startswith("http"):
            continue
        path = ((ROOT / name).parent / target if target else ROOT / name).resolve()
        if str(path.relative_to(ROOT)) in MADE_FOR_THE_SITE:
            continue  # `make docs` checks these
        assert path.exists(), target
        if part:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert part in map(anchor, headings), f"{target}#{part}"


def test_the_contributors_map_is_complete_and_names_nothing_that_is_gone() -> None:
    text = (ROOT / "docs/contributing.md").read_text()
    named = set(re.findall(r"`([\w./-]+)", text))
    package = ROOT / "nats_ev"
    modules = [path for path in package.rglob("*.py") if path.parent.name != "pyev"]
    sources = [*modules, *ROOT.glob("csrc/*.[ch]")]
    wanted = {path.name for path in sources} - {"__init__.py", "_libev.c", "_parser.c"}
    assert not wanted - named, "say in docs/contributing.md where these belong"
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert targets is not None
    assert not set(targets[1].split()) - named, "say in docs/contributing.md when to run these"
    folders = [ROOT, package, ROOT / "csrc", ROOT / "tests", ROOT / "tests" / "csrc"]
    folders += [path.parent for path in [*package.rglob("__init__.py"), *ROOT.glob("tests/*/*.py")]]
    for name in named:
        if re.search(r"\.(py|c|h)$", name):
            assert any((folder / name).exists() for folder in folders), name


def test_help_of_the_client_names_every_option() -> None:
    text = Nats.__doc__ or ""
    missing = [name for name in NAMES if not re.search(rf"\b{name}\b", text)]
    assert not missing
