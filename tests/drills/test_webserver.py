"""A hundred requests of `make webserver`."""

from __future__ import annotations

from typing import Any

import pytest

from drills.webserver import run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("loop", ["libev-cext", "libuv"])
def test_gevent_workers_answer_every_request_though_the_connection_is_cut(
    server: Any, loop: str
) -> None:
    counted = run(server.port, 100, loop)
    assert counted["connections"] >= 2
