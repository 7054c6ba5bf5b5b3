"""Each program of examples/ does what it says, on the tests' server."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
LIMIT = 30  # seconds


class Program:
    """An example that runs, its output line by line."""

    def __init__(self, server: Any, name: str, *args: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(EXAMPLES / name), *args],
            env=os.environ | {"NATS_HOST": server.host, "NATS_PORT": str(server.port)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def expect(self, pattern: str) -> re.Match[str]:
        """The next line of output that matches; the test's own time limit bounds the wait."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"the program ended without {pattern!r}")

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def end(self) -> str:
        """Close its input; the rest of its output, once it has ended well."""
        output, _ = self.process.communicate(timeout=LIMIT)
        assert self.process.returncode == 0, output
        return output


@pytest.fixture
def program(server: Any) -> Iterator[Any]:
    started: list[Program] = []

    def start(name: str, *args: str) -> Program:
        started.append(Program(server, name, *args))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


def test_demo() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / "demo.py")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all is well\n")


def test_pubsub(program: Any) -> None:
    output = program("pubsub.py", "4").end()
    assert output.splitlines() == [
        "[ticks.odd] 1", "[ticks.even] 2", "[ticks.odd] 3", "[ticks.even] 4", "drained",
    ]  # fmt: skip


def test_request_reply(program: Any) -> None:
    lines = program("request_reply.py").end().splitlines()
    assert lines[0] == "service.upper: HELLO"
    assert re.fullmatch(r"service\.time: \d\d:\d\d:\d\d", lines[1])
    assert lines[2:] == ["service.missing: no responders"]


def test_queue_workers(program: Any) -> None:
    workers = [program("queue_workers.py") for _ in range(2)]
    for worker in workers:
        worker.expect("ready")
    assert program("queue_workers.py", "produce", "100").end() == "100 jobs sent\n"
    jobs = []
    for worker in workers:
        worker.process.send_signal(signal.SIGTERM)
        output = worker.end()
        jobs += re.findall(r"job (\d+)", output)
        assert output.endswith(f"{len(re.findall('job ', output))} jobs done\n")
    assert sorted(map(int, jobs)) == list(range(100))


def test_chat(program: Any) -> None:
    ann, bob = program("chat.py", "ann", "r1"), program("chat.py", "bob", "r1")
    ann.expect("ann is in r1")
    bob.expect("bob is in r1")
    ann.say("hello\n")
    assert bob.expect("<ann> (.*)")[1] == "hello"
    bob.say("hi ann\n")
    assert ann.expect("<bob> (.*)")[1] == "hi ann"
    assert ann.end() == ""
    assert bob.end() == ""


def test_monitoring(program: Any) -> None:
    output = program("monitoring.py", "0.8").end()
    assert "connected to nats://" in output
    assert re.search(r"rtt \d+\.\d+ ms, \{'msgs_in': \d+", output)
    assert output.endswith("drained\ndisconnected\n")


def test_each_example_is_short_and_has_a_test() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("*.py"))
    for path in EXAMPLES.glob("*.py"):
        assert path.name in tests, f"{path.name} is run by no test"
        if path.name != "demo.py":
            assert len(path.read_text().splitlines()) <= 160, path.name
