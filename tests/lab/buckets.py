"""What the tests of key-value buckets and of object stores share."""

from __future__ import annotations

from typing import Any

import pytest

from lab.peers import nats_js
from nats_ev import JetStream

# For what nats-py lacks.
only_nats_js = pytest.mark.parametrize(
    "peer", [nats_js], ids=["nats.js"], indirect=True, scope="session"
)


@pytest.fixture
def js(connected: Any, server: Any) -> JetStream:
    """A `JetStream` on the shared server; each test makes buckets of its own there."""
    return JetStream(connected(server))
