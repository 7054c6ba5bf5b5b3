"""The hot path takes no more instructions and calls than `hot_path_counts.json` says.

After a change that saves something, or is worth its price, `make counts` writes the file again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from lab.hot_path import (
    RECORDED,
    build,
    instructions_of_client,
    instructions_of_core,
    missing,
    operations,
)
from lab.natsserver import NatsServer
from lab.paths import TESTS
from lab.process import run_whole, unmeasured

COUNTS = json.loads(RECORDED.read_text())

needs_valgrind = pytest.mark.skipif(missing() is not None, reason=f"needs {missing()}")


def most() -> float:
    """Return how many times the recorded instructions are accepted."""
    # Another compiler makes other instructions of the same C, and another Python allocates in another way.
    return 1.05 if build() == COUNTS["counted with"] else 1.75


def more(found: dict[str, float], recorded: dict[str, float]) -> list[str]:
    """Return what takes more instructions than recorded."""
    assert found.keys() == recorded.keys(), "make counts"
    factor = most()
    return [
        f"{name}: {count} instead of {recorded[name]}"
        for name, count in found.items()
        if count > recorded[name] * factor
    ]


def calls(what: str, *port: int) -> Any:
    """Return what a program of its own has counted: the tracer of coverage calls functions, too."""
    command = [sys.executable, "-m", "lab.hot_path", what, *map(str, port)]
    environment = unmeasured() | {"PYTHONPATH": str(TESTS)}
    result = run_whole(command, 120, env=environment)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@needs_valgrind
def test_the_c_core_takes_no_more_instructions_for_a_message() -> None:
    assert more(instructions_of_core(), COUNTS["instructions"]["core"]) == []


@needs_valgrind
@pytest.mark.slow
def test_the_client_takes_no_more_instructions_for_a_message() -> None:
    assert more(instructions_of_client(), COUNTS["instructions"]["client"]) == []


def test_no_function_but_the_callback_is_called_for_a_message() -> None:
    found = calls("calls")
    assert found.keys() == operations(print).keys()
    received = ("deliver", "answer")
    assert found == {name: [float(name.startswith(received)), 0.0] for name in found}


@pytest.mark.parametrize("part", ["turns", "layers"])
def test_what_needs_a_server_calls_no_more_functions(
    own_server: Callable[..., NatsServer], part: str
) -> None:
    recorded = COUNTS["calls of Python, of C"][part]
    server = own_server(jetstream=True)
    # Now and then there is one more: a group of time-outs begins, a read is split. The messages of a consumer
    # come in more or fewer reads, as the server likes. So the least of some runs counts.
    least: dict[str, list[float]] = {}
    for _ in range(4):
        found = calls("calls" if part == "turns" else part, server.port)
        assert found.keys() == recorded.keys(), "make counts"
        for name, counts in found.items():
            least[name] = [min(pair) for pair in zip(counts, least.get(name, counts), strict=True)]
        wrong = {
            name: (counts, recorded[name])
            for name, counts in least.items()
            if any(count > bound + 0.5 for count, bound in zip(counts, recorded[name], strict=True))
        }
        if not wrong:
            break
    assert wrong == {}
