"""The examples of consumer groups and large messages."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from lab.programs import Program
from nats_ev import JetStream


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


def test_consumer_group(
    program: Any, connected: Any, server: Any, call: Any, eventually: Any
) -> None:
    members = [program("consumer_group.py", "join", name) for name in ("ann", "bob")]
    for member in members:
        member.expect("members: ")
    assert program("consumer_group.py", "publish", "200").end() == "200 orders published\n"
    js = JetStream(connected(server))

    def all_handled() -> bool:
        state = call(js.stream_info, "CUSTOMER-ORDERS-handlers")[0]["state"]
        return bool(state["last_seq"] == 200 and not state["messages"])

    eventually(all_handled)
    found: dict[str, list[int]] = {}
    for member in members:
        member.process.send_signal(signal.SIGTERM)
        output = member.end()
        assert re.search(r"\d+ orders handled\n$", output)
        for customer, number in re.findall(r"(c\d) order (\d+)", output):
            found.setdefault(customer, []).append(int(number))
    assert found == {f"c{n}": list(range(n, 200, 10)) for n in range(10)}
    for stream in ("CUSTOMER-ORDERS-handlers", "CUSTOMER-ORDERS", "KV_elastic-consumer-groups"):
        call(js.stream_delete, stream)


def test_large_messages(program: Any) -> None:
    lines = program("large_messages.py", "3000000").end().splitlines()
    assert re.fullmatch(r"max_payload is \d+", lines[0])
    assert lines[1] == "a document of 3000000 bytes"
    assert re.fullmatch(r"sha256 [0-9a-f]{12}", lines[2])
    assert lines[3] == "error: a receiver of 'documents.old' does not know large messages"
