"""Each program of examples/ does what it says, on the tests' server."""

from __future__ import annotations

import os
import re
import signal
import sys
from typing import Any

import pytest

from lab.natsserver import find_binary
from lab.paths import EXAMPLES, TESTS
from lab.process import run_whole


@pytest.mark.server
def test_demo() -> None:
    env = os.environ | {"NATS_SERVER": find_binary() or ""}
    done = run_whole([sys.executable, "-W", "error", str(EXAMPLES / "demo.py")], 60, env=env)
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
    tests = "".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    for path in EXAMPLES.glob("*.py"):
        assert path.name in tests, f"{path.name} is run by no test"
        if path.name != "demo.py":
            assert len(path.read_text().splitlines()) <= 160, path.name


def test_the_index_of_examples_names_each_with_its_first_line() -> None:
    index = (EXAMPLES / "README.md").read_text()
    named = set(re.findall(r"\]\(([\w/]+\.\w+)\)", index))
    programs = {path.name for path in EXAMPLES.glob("*.py")}
    assert programs <= named
    assert all((EXAMPLES / name).exists() for name in named)
