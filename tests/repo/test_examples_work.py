"""The examples with dead letters, threads, HTTP, TLS with creds, and the tool for a shell."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from lab import jwts
from lab.paths import EXAMPLES
from lab.process import die_with_us, run_whole
from lab.programs import LIMIT
from nats_ev import AuthorizationError
from nats_ev.testing import wait_for
from nats_ev.testing.certificates import Certificates, server_config


def test_what_cannot_be_done_becomes_a_dead_letter(program: Any) -> None:
    assert program("jetstream_worker.py", "dead").end() == "0 dead letters\n"
    assert (
        program("jetstream_worker.py", "add", "ann@a.example", "bob", "cid@c.example").end() == ""
    )
    workers = [program("jetstream_worker.py") for _ in range(2)]
    for worker in workers:
        worker.expect("ready")
    dead = program("jetstream_worker.py", "dead")
    while dead.end() == "0 dead letters\n":
        dead = program("jetstream_worker.py", "dead")
    said = ""
    for worker in workers:
        worker.process.send_signal(signal.SIGTERM)
        said += worker.process.stdout.read()
        assert worker.end() == ""
    assert sorted(said.splitlines()) == [
        "buried bob: ValueError: an address without @", "sent to ann@a.example",
        "sent to cid@c.example",
    ]  # fmt: skip
    assert program("jetstream_worker.py", "dead").end().splitlines() == [
        "1 dead letters", "bob: ValueError: an address without @",
    ]  # fmt: skip
    late = program("jetstream_worker.py")
    late.expect("ready")
    late.process.send_signal(signal.SIGINT)
    assert late.process.stdout.read() == ""  # nothing is left in the queue
    assert late.end() == ""


def test_reminders_come_in_time_and_are_counted(program: Any, since: Any) -> None:
    if not since(2, 12):
        pytest.skip("schedules: nats-server 2.12")
    watching = program("reminders.py", "watch", "ann")
    watching.expect("ready")
    late = program("reminders.py", "in", "3600", "ann", "tomorrow").end().strip()
    assert program("reminders.py", "list").end() == f"{late} ann tomorrow\n"
    program("reminders.py", "in", "0.2", "ann", "tea").end()
    watching.expect("1: tea")
    assert program("reminders.py", "cancel", late).end() == "cancelled\n"
    assert program("reminders.py", "cancel", late).end() == "no such reminder\n"
    assert program("reminders.py", "list").end() == ""
    watching.process.send_signal(signal.SIGINT)
    assert watching.process.wait(LIMIT) == 130


def test_threads_answer_through_the_loop(program: Any) -> None:
    bridge = program("thread_bridge.py")
    bridge.expect("ready")
    answers = program("thread_bridge.py", "ask", *"abcdef").end().splitlines()
    assert len(answers) == len({answer.split()[0] for answer in answers}) == 6
    assert all(re.fullmatch(r"[0-9a-f]{16} by worker_\d", answer) for answer in answers)
    asking = program("thread_bridge.py", "ask", *"abcdefghijkl")
    asking.expect("by worker")  # so the other questions have been received
    bridge.process.send_signal(signal.SIGTERM)
    assert bridge.end() == "all answered\n"
    assert len(asking.process.stdout.read().splitlines()) == 11
    assert asking.end() == ""
    assert program("thread_bridge.py", "ask", "x").fails() == "error: no responders\n"


def fetch(url: str, **options: Any) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, **options), timeout=LIMIT) as page:
            return page.status, page.read()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read()


def test_http_and_nats_share_a_loop(program: Any, connected: Any, server: Any, run: Any) -> None:
    gateway = program("http_gateway.py", "0")
    url = f"http://127.0.0.1:{gateway.expect('listening on (.*)')[1]}"
    services = program("request_reply.py", "service")
    while fetch(f"{url}/service.upper", data=b"hello") != (200, b"HELLO"):
        assert services.process.poll() is None
    assert fetch(f"{url}/service.upper", data=b"x" * 500_000) == (200, b"X" * 500_000)
    assert fetch(f"{url}/service%2Eupper") == (200, b"")
    assert fetch(f"{url}/nobody.home") == (404, b"nobody answers this subject")
    assert fetch(f"{url}/a..b")[0] == 400
    assert fetch(f"{url}/service.upper", method="DELETE")[0] == 405
    assert fetch(f"{url}/service.upper", data=b"x" * (1 << 20))[0] == 413
    got: list[Any] = []
    nats = connected(server)
    nats.subscribe("gateway.put", lambda *message: got.append(message[1]))
    done: list[Any] = []
    nats.flush(done.append)
    run(lambda: done)
    assert fetch(f"{url}/gateway.put", data=b"published", method="PUT") == (202, b"")
    run(lambda: got)
    assert got == [b"published"]
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.end() == ""


@pytest.fixture
def managed(tmp_path: Path, own_server: Any) -> Any:
    """A server with TLS and JWT accounts, and the files that its users have."""
    certificates = Certificates(tmp_path)
    setup, user = jwts.Setup(), jwts.Key("user")
    jwts.write_creds(tmp_path / "user.creds", setup.user(user), user.seed)
    late = jwts.Key("user")
    jwts.write_creds(tmp_path / "late.creds", setup.user(late, seconds=-10), late.seed)
    config = server_config(certificates.issue("server", "127.0.0.1"), more=setup.config())
    return own_server(config=config)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["user.creds", "ca.pem"], 0, r"connected to \S+ \d+\.\d+\.\d+\nreceived: hello, me\n"),
        (
            ["user.creds"],
            1,
            r"error: .*certificate verify failed(.|\n)*\(does CA name the authority",
        ),
        (["user.creds", "other-ca.pem"], 1, "error: .*certificate verify failed"),
        (
            ["late.creds", "ca.pem"],
            1,
            r"error: .*[Aa]uth(.|\n)*\(does the server know this account",
        ),
        (["missing.creds", "ca.pem"], 1, "error: cannot open creds file missing.creds"),
        (["user.creds", "missing.pem"], 1, r"error: .*missing\.pem"),
        ([], 1, "Connect with TLS and a .creds file"),
    ],
    ids=["good", "no-ca", "other-ca", "expired", "no-creds", "no-ca-file", "usage"],
)
def test_tls_with_creds(
    managed: Any, tmp_path: Path, arguments: list[str], status: int, says: str
) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / "tls_creds.py"), *arguments]
    env = os.environ | {"NATS_URL": f"tls://127.0.0.1:{managed.port}"}
    done = run_whole(command, LIMIT, cwd=tmp_path, env=env)
    assert done.returncode == status, done.stdout + done.stderr
    assert re.match(says, done.stdout + done.stderr), done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_an_auth_callout(
    program: Any, own_server: Any, connected: Any, client: Any, run: Any, tmp_path: Path
) -> None:
    def ask(*arguments: str) -> str:
        said: str = program("auth_callout.py", *arguments, cwd=tmp_path).end()
        return said

    assert ask("setup") == "written: callout.keys, callout.conf; only you can read them\n"
    assert ask("add", "ann", "s3cret", "news.>") == "ann may use news.>\n"
    for name in ("callout.keys", "callout.conf", "people.json"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert "s3cret" not in (tmp_path / "people.json").read_text()
    server = own_server(config=(tmp_path / "callout.conf").read_text())
    service = program("auth_callout.py", at=server, cwd=tmp_path)
    service.expect("^ready$")
    ann = connected(server, user="ann", password="s3cret")
    ann.publish("elsewhere", "")
    run(lambda: ann.recorder.errors)
    for wrong in ({"user": "ann", "password": "guess"}, {"user": "bob", "password": "s3cret"}):
        nats = client(server, **wrong)
        run(lambda nats=nats: nats.recorder.errors)
        assert isinstance(nats.recorder.errors[0], AuthorizationError)
    service.process.send_signal(signal.SIGTERM)
    assert service.end().splitlines() == [
        "'ann' from 127.0.0.1: accepted", "'ann' from 127.0.0.1: refused",
        "'bob' from 127.0.0.1: refused", "1 accepted, 2 refused",
    ]  # fmt: skip
    assert "auth_callout.py setup" in program("auth_callout.py", "help").fails()


class Shell:
    """Runs shell_tool.py on a server of its own."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.env = os.environ | {"NATS_HOST": server.host, "NATS_PORT": str(server.port)}

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", str(EXAMPLES / "shell_tool.py"), *arguments],
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=die_with_us,
        )

    def run(self, *arguments: str, input: bytes = b"") -> tuple[int | None, bytes, bytes]:
        return self.end(self.start(*arguments), input)

    def end(
        self, process: subprocess.Popen[bytes], input: bytes | None = None
    ) -> tuple[int | None, bytes, bytes]:
        output, errors = process.communicate(input, timeout=LIMIT)
        return process.returncode, output, errors

    def listen(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `sub`, and wait until the server knows the subscription."""
        process = self.start("sub", *arguments)
        wait_for(lambda: self.server.monitor("connz")["connections"][-1:])
        wait_for(lambda: self.server.monitor("connz")["connections"][0]["subscriptions"])
        return process


@pytest.fixture
def shell(own_server: Any) -> Shell:
    return Shell(own_server())


def test_lines_are_messages(shell: Shell) -> None:
    listener = shell.listen("lines.>", "5")
    assert shell.run("pub", "lines.in", input=b"one\ntwo\n\nlast") == (0, b"", b"")
    assert shell.run("pub", "lines.in", "in", "words") == (0, b"", b"")
    assert shell.end(listener) == (0, b"one\ntwo\n\nlast\nin words\n", b"")


def test_ctrl_c_and_a_closed_pipe_end_a_subscriber_well(shell: Shell) -> None:
    listener = shell.listen("lines.>")
    listener.send_signal(signal.SIGINT)
    assert shell.end(listener) == (0, b"", b"")
    listener = shell.listen("lines.>")
    assert listener.stdout is not None
    assert shell.run("pub", "lines.in", "first")[0] == 0
    assert listener.stdout.readline() == b"first\n"
    listener.stdout.close()
    assert shell.run("pub", "lines.in", "second")[0] == 0
    assert listener.wait(LIMIT) == 0
    assert listener.stderr is not None
    assert listener.stderr.read() == b""
    for stream in (listener.stdin, listener.stderr):
        assert stream is not None
        stream.close()


def test_a_question_from_the_shell(shell: Shell, connected: Any, run: Any) -> None:
    assert shell.run("request", "nobody", "x") == (1, b"", b"error: no responders\n")
    nats = connected(shell.server)
    nats.subscribe("double", lambda s, payload, reply, h: nats.publish(reply, payload * 2))
    done: list[Any] = []
    nats.flush(done.append)
    run(lambda: done)
    question = shell.start("request", "double", "ab")
    run(lambda: question.poll() is not None, LIMIT)
    assert shell.end(question) == (0, b"abab\n", b"")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("pub", "a b"), b"error: invalid subject"),
        (("sub", "a..b"), b"error: invalid subject"),
        (("pub", "a b", "x"), b"error: invalid subject"),
        (("sub", "a", "many"), b"NATS in a shell's pipes"),
        ((), b"NATS in a shell's pipes"),
    ],
    ids=str,
)
def test_the_shell_tool_refuses_what_is_wrong(
    shell: Shell, arguments: tuple[str, ...], says: bytes
) -> None:
    status, output, errors = shell.run(*arguments, input=b"line\n")
    assert (status, output) == (1, b"")
    assert errors.startswith(says)
