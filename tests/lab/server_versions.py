"""The lines of nats-server that tests run on: the newest one, and older ones that have been fetched."""

from __future__ import annotations

import pytest

from lab.natsserver import cached_binary, find_binary

LINES = ["newest", "2.12", "2.10"]


def line_binary(line: str) -> str | None:
    """The server of a line; skips the test when that line has not been fetched."""
    binary = find_binary() if line == "newest" else cached_binary(line)
    if line != "newest" and binary is None:
        pytest.skip(f"nats-server {line} has not been fetched: make servers")
    return binary


@pytest.fixture(scope="session", params=LINES)
def any_binary(needs_server: None, request: pytest.FixtureRequest) -> str | None:
    """The binary of each line in turn: own_server(config=…, binary=any_binary)."""
    return line_binary(request.param)
