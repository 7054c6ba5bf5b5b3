"""JetStream on the newest server and on older lines, for the tests of JetStream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.natsserver import NatsServer
from lab.server_versions import LINES, line_binary
from nats_ev import JetStream


@pytest.fixture(scope="session")
def line_server(needs_server: None) -> Iterator[Callable[[str], NatsServer]]:
    """line_server("2.10"): one server of each line, for the whole session."""
    servers: dict[str, NatsServer] = {}

    def get(line: str) -> NatsServer:
        if line not in servers:
            servers[line] = NatsServer(jetstream=True, binary=line_binary(line)).start()
        return servers[line]

    yield get
    for started in servers.values():
        started.remove()


def delete_streams(js: JetStream, call: Any) -> None:
    """Leave the server as it was."""
    names, _ = call(js.stream_names)
    for name in names or ():
        call(js.stream_delete, name)


def publish_numbers(js: JetStream, call: Any, first: int, count: int) -> None:
    """Publish first, first + 1, … to s.0 and s.1 in turn, and wait until all are acknowledged."""
    for i in range(first, first + count):
        js.publish_async(f"s.{i % 2}", str(i), lambda ack, err: None)
    assert call(js.publish_complete) == (True, None)


@pytest.fixture
def js(connected: Any, line_server: Any, call: Any) -> Iterator[JetStream]:
    """A `JetStream` on the newest server; at the end no stream is left."""
    context = JetStream(connected(line_server("newest")))
    yield context
    delete_streams(context, call)


@pytest.fixture(params=LINES)
def any_js(request: pytest.FixtureRequest, connected: Any, line_server: Any, call: Any) -> Any:
    """`js` on each line in turn."""
    context = JetStream(connected(line_server(request.param)))
    yield context
    delete_streams(context, call)
