"""Steps that many tests take: callbacks that keep what they get, and runs of a loop up to a condition."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from nats_ev import Nats, pyev


def ignore(*arguments: object) -> None:
    """Do nothing: a callback where any will do."""


def collect(payloads: list[Any]) -> Callable[..., None]:
    """Return a callback for messages that appends their payloads."""
    return lambda subject, payload, reply, headers: payloads.append(payload)


def collect_messages(messages: list[Any]) -> Callable[..., None]:
    """Return a callback for messages that appends each as (subject, payload, reply, headers)."""
    return lambda *message: messages.append(message)


def flushed(nats: Nats, run: Callable[..., None]) -> None:
    """Run the loop until the server has processed all that the client has sent so far."""
    done: list[Any] = []
    nats.flush(done.append)
    run(lambda: done)
    assert done == [None]


def run_until(
    loop: Any,
    condition: Callable[[], Any],
    within: float = 10.0,
    state: Callable[[], object] = lambda: "",
) -> None:
    """Run a loop until condition() is true; for programs, which have no fixture `run`.

    Args:
        loop: The loop to run.
        condition: Asked after each iteration, at least every 20 ms.
        within: Seconds until the AssertionError that the condition has not come.
        state: What that error shows.
    """
    deadline = time.monotonic() + within
    timer = loop.timer(0.02, 0.02, ignore)
    timer.start()
    try:
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"the condition has not come: {state()}")
            loop.start(pyev.EVRUN_ONCE)
    finally:
        timer.stop()
