"""Every Python block of the documentation runs on a real server and prints what is said to be printed.

A block of README.md or docs/ is a program of its own for a server at 127.0.0.1:4222 that ends by itself;
one with `def test_` in it is a test for pytest. A `text` block right behind it is its output, a `conf` block
right before it its server's configuration. Nobody listens at 127.0.0.1:4223.
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

from lab import jwts
from lab.natsserver import NatsServer, find_binary
from lab.paths import ROOT
from lab.process import run_whole
from nats_ev import Nats
from nats_ev.options import NAMES
from nats_ev.testing import free_port
from nats_ev.testing.certificates import Certificates

GUIDES = [
    "README.md",
    *(f"docs/{n}.md" for n in ("guide", "faces", "loops", "porting", "from-nats-py", "testing")),
]
LIMIT = 30  # seconds; each takes less than one
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Program(NamedTuple):
    """A Python block, and what stands around it."""

    where: str
    code: str
    config: str | None
    output: str | None


def blocks(name: str) -> list[tuple[int, str, str]]:
    """(line, language, text) of all blocks of a file."""
    text = (ROOT / name).read_text()
    found = _BLOCK.finditer(text)
    return [(text.count("\n", 0, block.start()) + 1, block[1], block[2]) for block in found]


def programs(name: str) -> list[Program]:
    around = [(0, "", ""), *blocks(name), (0, "", "")]
    return [
        Program(
            f"{name}:{line}",
            text,
            before[2] if before[1] == "conf" else None,
            after[2] if after[1] == "text" else None,
        )
        for before, (line, language, text), after in zip(
            around[:-2], around[1:-1], around[2:], strict=True
        )
        if language == "python"
    ]


PROGRAMS = [program for name in GUIDES for program in programs(name)]


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
    """The files that programs and configurations name."""
    folder = tmp_path_factory.mktemp("docs")
    certificates = Certificates(folder)
    certificates.issue("server", "localhost", "127.0.0.1")
    certificates.issue("client")
    seed = Nats.nkey_generate_user_seed()
    (folder / "user.nk").write_text(seed)
    (folder / "user.pub").write_text(Nats.nkey_public_from_seed(seed))
    setup, user = jwts.Setup(), jwts.Key("user")
    (folder / "operator.conf").write_text(setup.config())
    jwts.write_creds(folder / "user.creds", setup.user(user), user.seed)
    return folder


def configuration(text: str, folder: Path) -> str:
    """A `conf` block, with the files that it names where they are."""
    text = text.replace('include "operator.conf"', (folder / "operator.conf").read_text())
    text = text.replace('"UD4HRJ2VOGPNDI5GTALTCWWCW4PRPFKAM5KHCWIDIP5CFCMHR5W4UWIS"', "$NKEY")
    return re.sub(r'"(\w+\.(?:pem|key))"', lambda name: f'"{folder / name[1]}"', text)


def run(code: str, folder: Path, port: int) -> str:
    """What a program prints with its server at this port; it must end well and warn of nothing."""
    there = {"4222": port, "4223": free_port()}
    code = re.sub(r'host="127.0.0.1"(,\s+port=4222)?', f'host="127.0.0.1", port={port}', code)
    code = re.sub(r"127\.0\.0\.1:(422[23])\b", lambda found: f"127.0.0.1:{there[found[1]]}", code)
    program = folder / "test_program.py"
    program.write_text(code)
    command = [sys.executable, "-W", "error", str(program)]
    if "def test_" in code:
        command[3:3] = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "pytest_nats_ev"]
    path = f"{Path(find_binary() or '').parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    env["NATS_SERVER"] = find_binary() or ""
    done = run_whole(command, LIMIT, cwd=folder, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for documented, real in there.items():
        done.stdout = done.stdout.replace(f":{real}", f":{documented}")
    return str(done.stdout)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.where)
def test_the_program_runs_and_prints_what_is_written_below_it(
    program: Program, folder: Path, plain_server: NatsServer, own_server, monkeypatch
) -> None:
    server = plain_server
    if program.config is not None:
        monkeypatch.setenv("NKEY", (folder / "user.pub").read_text())
        server = own_server(config=configuration(program.config, folder))
    output = run(program.code, folder, server.port)
    if "def test_" not in program.code:
        assert output == (program.output or "")


def ends(program: Program, folder: Path, port: int) -> subprocess.CompletedProcess[str]:
    """Run a program with both of its servers at this port."""
    code = re.sub(
        r'host="127.0.0.1"(,\s+port=4222)?', f'host="127.0.0.1", port={port}', program.code
    )
    code = re.sub(r"127\.0\.0\.1:422[23]\b", f"127.0.0.1:{port}", code)
    file = folder / "ending.py"
    file.write_text(code)
    return run_whole([sys.executable, str(file)], LIMIT, cwd=folder)


SCRIPTS = [p for p in PROGRAMS if p.config is None and "def test_" not in p.code]


@pytest.mark.parametrize(
    "program", [p for p in SCRIPTS if "JetStream" in p.code], ids=lambda program: program.where
)
def test_without_jetstream_the_program_ends_with_a_status(
    program: Program, folder: Path, server_without_jetstream: NatsServer
) -> None:
    ended = ends(program, folder, server_without_jetstream.port)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "is JetStream enabled on this server" in ended.stderr


# One waits for its server to come back; in another one a host runs the loop; nats-py tries for ever; one has
# a server of its own.
PATIENT = ("    reconnect=True,", "ctypes", "import nats\n", "nats_ev.testing")


@pytest.mark.parametrize(
    "program",
    [p for p in SCRIPTS if not any(words in p.code for words in PATIENT)],
    ids=lambda program: program.where,
)
def test_without_a_server_the_program_ends_with_a_status(program: Program, folder: Path) -> None:
    ended = ends(program, folder, free_port())
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "Connection refused" in ended.stderr or "not connected" in ended.stderr


def test_the_programs_have_the_style_of_the_code(tmp_path: Path) -> None:
    pytest.importorskip("ruff", reason="ruff is not installed")
    for number, program in enumerate(PROGRAMS):
        (tmp_path / f"program_{number}.py").write_text(program.code)
    for command in (["check"], ["format", "--check"]):
        config = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *config, str(tmp_path)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


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
        *[f"docs/{p.name}" for p in ROOT.glob("docs/*.md")],
    ],
)
def test_links_lead_somewhere(name: str) -> None:
    for target, part in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", (ROOT / name).read_text()):
        if target.startswith("http"):
            continue
        path = (ROOT / name).parent / target if target else ROOT / name
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
