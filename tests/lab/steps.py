"""Steps that many tests take: callbacks that keep what they get, and runs of a loop up to a condition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nats_ev import Nats, testing


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
    state: Callable[[], object] | None = None,
) -> None:
    """Run a loop until condition() is true, also while nothing keeps it running; for programs.

    Args:
        loop: The loop to run.
        condition: Asked after each iteration, at least every 10 ms.
        within: Seconds until the AssertionError that the condition has not come.
        state: What that error shows.
    """
    timer = loop.timer(0.02, 0.02, ignore)
    timer.start()
    try:
        testing.run_until(loop, condition, within * 1000, state=state)
    finally:
        timer.stop()
