"""Later steps of an operation that takes several requests, such as the first put into a bucket.

`Nats.drain` refuses what begins after it, and lets come to its end what began before. A request alone does
not show which of the two it is, so whoever sends the second request of an operation, or a later one, sends it
within `later_step`. What a user's callback asks for is never a later step: it begins something.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class _Steps(threading.local):
    depth = 0


_steps = _Steps()


def later_step(step: Callable[..., T], *args: Any, **options: Any) -> T:
    """Call ``step(*args, **options)``, whose requests a drain accepts, and return its result.

    Args:
        step: sends requests, and calls no callback of a user.
        args, options: passed to step.
    """
    _steps.depth += 1
    try:
        return step(*args, **options)
    finally:
        _steps.depth -= 1


def in_later_step() -> bool:
    """Return whether the caller runs within `later_step`."""
    return _steps.depth > 0
