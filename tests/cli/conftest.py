"""A server with JetStream, and the command line called as a function."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lab.natsserver import NatsServer

pytest.importorskip("click", reason="click is not installed")
pytest.importorskip("rich", reason="rich is not installed")

from nats_ev import blocking
from nats_ev.cli import main


class Done(NamedTuple):
    """How a command has ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, decoded."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Standard output, each line decoded."""
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Done]


@pytest.fixture(scope="session")
def js_server(needs_server: None) -> Iterator[NatsServer]:
    with NatsServer(jetstream=True, name="cli") as server:
        yield server


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No context and no variable of the machine counts."""
    for name in (
        *("CONTEXT", "URL", "USER", "PASSWORD", "TOKEN", "CREDS", "NKEY", "JWT", "SEED"),
        *("CERT", "KEY", "CA", "TIMEOUT", "SOCKS_PROXY"),
    ):
        monkeypatch.delenv(f"NATS_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def offline(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Run:
    """offline(*arguments, stdin=b""): call the command line; it names no server."""

    def run(*arguments: str, stdin: bytes = b"") -> Done:
        given = tmp_path / "stdin"
        given.write_bytes(stdin)
        capsys.readouterr()
        with given.open(encoding="utf-8") as file:
            monkeypatch.setattr(sys, "stdin", file)
            status = main(arguments)
        return Done(status, *capsys.readouterr())

    return run


@pytest.fixture
def ev(offline: Run, js_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> Run:
    """ev(*arguments, stdin=b""): call the command line on the server with JetStream; it must succeed.

    status=1 is another exit status to expect. Nothing is stored when a test begins.
    """
    monkeypatch.setenv("NATS_URL", js_server.url)
    with blocking.connect(servers=js_server.url) as nc:
        js = nc.jetstream()
        for name in js.stream_names():
            js.stream_delete(name)

    def run(*arguments: str, stdin: bytes = b"", status: int = 0) -> Done:
        done = offline(*arguments, stdin=stdin)
        assert done.status == status, done
        return done

    return run
