"""Fixtures: each face in turn, and the ones that have tasks."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest

from lab.faces import Face

ALL = ["aio", "aio-debug", "aio-uvloop", "green", "blocking"]


def _face(name: str, server: Any) -> Face:
    if name == "aio-uvloop":
        if importlib.util.find_spec("uvloop") is None:
            pytest.skip("uvloop is not installed")
        if sys.version_info < (3, 11):
            pytest.skip("asyncio.Runner: Python 3.11")
    if name == "green" and importlib.util.find_spec("gevent") is None:
        pytest.skip("gevent is not installed")
    return Face(name, server)


@pytest.fixture(params=ALL)
def face(request: pytest.FixtureRequest, server: Any) -> Face:
    """Each face, on the shared server."""
    return _face(request.param, server)


@pytest.fixture(params=ALL[:-1])
def tasks(request: pytest.FixtureRequest, server: Any) -> Face:
    """Each face that has tasks, on the shared server."""
    return _face(request.param, server)
