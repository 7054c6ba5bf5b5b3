"""What users do inside the callbacks of transfers: each transfer ends once, with what was done to it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from nats_ev import (
    APIError,
    ConnectionClosedError,
    JetStream,
    ObjectStore,
    ObjectTransferError,
)

_numbers = itertools.count(1)
DATA = bytes(range(250)) * 80  # 20 parts


@pytest.fixture
def store(connected, server, call):
    nats = connected(server, reconnect=True, reconnect_delay=10)
    store = ObjectStore(JetStream(nats), f"moments{next(_numbers)}", chunk_size=1000)
    assert call(store.create_bucket, {"storage": "memory"})[1] is None
    assert call(store.put, "x", DATA)[1] is None
    return store


class Transfer:
    """A transfer in whose nth callback something is done."""

    def __init__(self, store: ObjectStore, act: Callable[[Transfer], object], nth: int) -> None:
        self.store = store
        self.ended: list[tuple[Any, Any]] = []
        self.calls = 0
        self._act = act
        self._nth = nth
        self.handle: Any = None

    def moment(self, *_: Any) -> None:
        self.calls += 1
        if self.calls == self._nth:
            self._act(self)

    def end(self, result: Any, error: Any) -> None:
        self.ended.append((result, error))

    def pieces(self) -> Any:
        for start in range(0, len(DATA), 1000):
            self.moment()
            yield DATA[start : start + 1000]


BEGIN: dict[str, Callable[[Transfer], Any]] = {
    "the source of a put": lambda t: t.store.put("x", t.pieces(), t.end),
    "the progress of a put": lambda t: t.store.put("x", DATA, t.end, progress=t.moment),
    "the target of a get": lambda t: t.store.get("x", t.moment, t.end),
    "the progress of a get": lambda t: t.store.get("x", t.end, progress=t.moment),
}
ACTS: dict[str, tuple[Callable[[Transfer], object], Any]] = {
    "cancel": (lambda t: t.handle.cancel(), ObjectTransferError),
    "cancel twice": (lambda t: (t.handle.cancel(), t.handle.cancel()), ObjectTransferError),
    "disconnect": (lambda t: t.store.js.nats.disconnect(), ConnectionClosedError),
    "put the same name": (lambda t: t.store.put("x", b"other"), None),
    "get the same name": (lambda t: t.store.get("x", lambda data, error: None), None),
    "reconnect": (lambda t: t.store.js.nats.force_reconnect(), None),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("moment", BEGIN)
def test_in_a_callback_of_a_transfer(store, run, moment, act):
    do, expected = ACTS[act]
    transfer = Transfer(store, do, 1 if moment == "the progress of a put" else 3)
    transfer.handle = BEGIN[moment](transfer)
    run(lambda: transfer.ended)
    done = transfer.handle.done
    later: list[int] = []
    if store.js.nats.is_connected():
        store.js.nats.call_later(50, later.append, 1)
        run(lambda: later)
    assert len(transfer.ended) == 1
    assert done
    result, error = transfer.ended[0]
    if moment == "the progress of a put" and result is not None:
        return  # all of it may be stored by then
    if expected is None:
        assert error is None
        return
    assert result is None
    assert type(error) is expected
    if "get" in moment:
        assert transfer.calls == 3  # nothing came after that


def test_sealed_while_it_is_put(store, run):
    transfer = Transfer(store, lambda t: t.store.seal(), 3)
    transfer.handle = BEGIN["the source of a put"](transfer)
    run(lambda: transfer.ended)
    assert isinstance(transfer.ended[0][1], (APIError, type(None)))
