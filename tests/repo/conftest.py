"""Fixtures for the tests of what stands beside the package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lab.programs import Program


@pytest.fixture
def program(server: Any) -> Iterator[Any]:
    started: list[Program] = []

    def start(name: str, *args: str, at: Any = None, **options: Any) -> Program:
        started.append(Program(at or server, name, *args, **options))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()
