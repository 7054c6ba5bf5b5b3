"""The command as a program: signals, pipes, terminals, exit statuses, and a Python without the extra."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.natsserver import NatsServer
from lab.process import run_whole
from nats_ev import blocking

pytestmark = pytest.mark.server
COMMAND = [sys.executable, "-m", "nats_ev"]
LIMIT = 30


@pytest.fixture
def env(js_server: NatsServer) -> dict[str, str]:
    """The environment of the programs."""
    left = {n: v for n, v in os.environ.items() if not n.startswith(("NO_COLOR", "FORCE_COLOR"))}
    return left | {"NATS_URL": js_server.url}


@contextlib.contextmanager
def started(
    env: dict[str, str], *arguments: str, stdin: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[str]]:
    """A command that runs until the block ends."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env=env,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # The runner of the tests may ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    watchdog = threading.Timer(LIMIT, process.kill)  # ends a read that waits for ever
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def test_ctrl_c_ends_it_with_130_and_no_traceback(env: dict[str, str]) -> None:
    with started(env, "sub", "quiet.>") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "Subscribed to 'quiet.>'\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, out, err) == (130, "", "")


def test_a_closed_pipe_ends_it_without_a_word(env: dict[str, str]) -> None:
    with started(env, "sub", "piped") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.readline()
        process.stdout.close()
        done = run_whole([*COMMAND, "pub", "piped", "x", "--count", "3"], LIMIT, env=env)
        assert done.returncode == 0, done.stderr
        assert process.wait(LIMIT) == 141
        assert process.stderr.read() == ""


def test_a_pipe_gets_each_message_at_once(env: dict[str, str]) -> None:
    with (
        blocking.connect(env["NATS_URL"]) as nc,
        started(env, "sub", "lines", "--count", "2") as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.readline()  # it has subscribed
        nc.publish("lines", "one line")
        nc.flush()
        assert process.stdout.readline() == "[#1] lines\n"
        assert process.stdout.readline() == "one line\n"
        assert process.poll() is None


def test_standard_input_is_the_payload(env: dict[str, str]) -> None:
    done = run_whole(
        [
            "sh",
            "-c",
            f"printf 'a\\nb\\n' | {sys.executable} -m nats_ev pub x --send-on newline --json",
        ],
        LIMIT,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    assert '"messages": 2' in done.stdout


def test_lines_are_published_as_they_come(env: dict[str, str]) -> None:
    with blocking.connect(env["NATS_URL"]) as nc, nc.subscribe("follow") as lines:
        nc.flush()
        with started(
            env, "pub", "follow", "--send-on", "newline", stdin=subprocess.PIPE
        ) as process:
            assert process.stdin is not None
            for line in ("one", "two"):
                process.stdin.write(f"{line}\n")
                process.stdin.flush()
                assert lines.next(LIMIT * 1000).payload == line.encode()
            process.stdin.write("the last")
            out, err = process.communicate(timeout=LIMIT)
        assert lines.next(LIMIT * 1000).payload == b"the last"
    assert (process.returncode, out) == (0, "")
    assert err == "Published 3 messages, 14 bytes, to 'follow'\n"


def test_an_object_into_a_closed_pipe(env: dict[str, str]) -> None:
    run_whole([*COMMAND, "object", "add", "CUT"], LIMIT, env=env)
    ev = f"{sys.executable} -m nats_ev object"
    put = f"head -c 3000000 /dev/zero | {ev} put CUT - --name big"
    script = f"{put}; {ev} get CUT big -O - | true; echo done"
    done = run_whole(["sh", "-c", script], LIMIT, env=env)
    assert done.stdout == "done\n"
    assert done.stderr.count("\n") == 1, done.stderr


def test_a_lasting_command_reconnects_and_says_so(own_server) -> None:
    server = own_server()
    with started(os.environ | {"NATS_URL": server.url}, "sub", "again", "--count", "1") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "Subscribed to 'again'\n"
        server.restart()
        said = []
        while not said or "reconnected" not in said[-1]:
            said.append(process.stderr.readline())
            assert said[-1], said
        run_whole([*COMMAND, "pub", "again", "x", "-s", server.url], LIMIT)
        out, _ = process.communicate(timeout=LIMIT)
    assert "nats-ev: disconnected\n" in said
    assert (process.returncode, out) == (0, "[#1] again\nx\n\n")


def on_a_terminal(env: dict[str, str], *arguments: str) -> str:
    """What a command shows on a terminal of 80 columns; it must succeed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env=env | {"TERM": "xterm-256color", "COLUMNS": "80"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while data := os.read(ours, 65536):
            shown += data
    os.close(ours)
    assert process.wait(LIMIT) == 0, shown
    return shown.decode()


def test_colours_are_for_terminals_alone(env: dict[str, str]) -> None:
    run_whole([*COMMAND, "stream", "add", "SHOWN", "--description", "\x1b[31mred"], LIMIT, env=env)
    plain = run_whole([*COMMAND, "stream", "ls"], LIMIT, env=env).stdout
    assert "\x1b[1m" not in plain
    assert "─" not in plain
    coloured = on_a_terminal(env, "stream", "ls")
    assert "\x1b[" in coloured
    assert "─" in coloured
    assert "\x1b[31m" not in coloured, "what others have written is no command for the terminal"
    assert r"\x1b[31mred" in re.sub(r"\x1b\[\d*m", "", coloured)
    bare = on_a_terminal(env | {"NO_COLOR": "1"}, "stream", "ls")
    assert not re.search(r"\x1b\[[\d;]*m", bare), "neither colours nor bold"
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in coloured.splitlines()) <= 80


def test_progress_is_shown_on_a_terminal(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "big"
    file.write_bytes(bytes(3_000_000))
    run_whole([*COMMAND, "object", "add", "SHOWN"], LIMIT, env=env)
    shown = on_a_terminal(env, "object", "put", "SHOWN", str(file), "--name", "big")
    assert "%" in shown
    assert "MiB" in shown
    assert "Stored 'big' in SHOWN" in shown


def test_top_replaces_its_page_on_a_terminal(env: dict[str, str], js_server: NatsServer) -> None:
    monitor = f"127.0.0.1:{js_server.monitor_port}"
    arguments = ("top", "--monitor", monitor, "--count", "2", "--interval", "50ms")
    with blocking.connect(js_server.url, name="a client with a long name"):
        shown = on_a_terminal(env, *arguments)
    assert "\x1b[1A" in shown, "the cursor goes up"
    lines = re.sub(r"\x1b\[[\d;?]*\w", "", shown).replace("\r", "\n").splitlines()
    assert any("a client" in line for line in lines)
    assert max(map(len, lines)) <= 80
    heads = [line.split() for line in lines if line.split()[:1] == ["Id"]]
    assert heads[0][2:] == [
        "Subs",
        "Pending",
        "Msgs",
        "to",
        "Msgs",
        "from",
        "Bytes",
        "to",
        "Bytes",
        "from",
    ]


def test_a_request_is_measured_against_a_reply(env: dict[str, str]) -> None:
    with started(env, "bench", "reply", "bench.other") as process:
        assert process.stderr is not None
        process.stderr.readline()
        asked = ("bench", "request", "bench.other", "--msgs", "50", "--json")
        done = run_whole([*COMMAND, *asked], LIMIT, env=env)
        assert '"messages": 50' in done.stdout, done.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == 130


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['rich'] = None\n")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = run_whole([*COMMAND, "pub", "x"], LIMIT, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        "nats-ev: the command line needs rich: pip install 'nats_ev[cli]'\n",
    )
