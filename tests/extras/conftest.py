"""Fixtures of this folder: faces on the shared server."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from lab.faces import Face


@pytest.fixture(params=["aio", "green", "blocking"])
def face(request: pytest.FixtureRequest, server: Any) -> Face:
    """Each face, on the shared server."""
    if request.param == "green" and importlib.util.find_spec("gevent") is None:
        pytest.skip("gevent is not installed")
    return Face(request.param, server)
