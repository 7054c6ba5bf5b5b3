"""How the calls of buckets take and use their callbacks: optional ones, and those of several steps.

An operation on a bucket often needs several requests. What goes wrong in the first one is raised to the
caller; later the caller has returned, so `call_or_report` gives errors to the callback.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..arguments import Callback, check_result_cb
from ..errors import NatsError
from ..jetstream import later_request

if TYPE_CHECKING:
    from ..jetstream import JetStream


def completion(js: JetStream, cb: Callback | None) -> Callback:
    """Return the callback to use for cb: without one, errors go to the client's on_error."""
    if cb is None:
        nats = js.nats

        def report(result: Any, error: NatsError | None) -> None:
            if error is not None:
                nats.report(error)

        return report
    return guarded(js, cb)


def guarded(js: JetStream, cb: Callback) -> Callback:
    """Return a callback that calls a user's, and deals with what it raises as with any callback's exception.

    Every callback of a user goes through this when the operation begins. So nothing that it raises can
    reach the steps of an operation, where it would be taken for the step's own error, or keep the
    operations that wait after this one from going on.
    """
    check_result_cb(cb)
    return partial(js.nats.call, cb)


def optional_before_cb(value: Any, cb: Any) -> tuple[Any, Any]:
    """Return (value, cb) of a call whose caller may have left out value and passed cb in its place."""
    return (None, value) if cb is None and callable(value) else (value, cb)


def call_or_report(cb: Callback, step: Callable[[], object]) -> None:
    """Call a later step of an operation, which calls no callback of a user; what it raises goes to cb."""
    later_request(step, cb)
