"""A fetch that is stopped, and one that delivers as messages come: one completion, and no message lost."""

from __future__ import annotations

import gc
import weakref
from datetime import timedelta
from typing import Any

import pytest

from lab.scripted_api import ScriptedApi
from lab.steps import flushed
from nats_ev import BadOptionsError, JetStream, NoMessagesError

LONG = {"batch": 50, "expires": timedelta(seconds=30)}
KINDS = ["pull", "ordered"]


@pytest.fixture
def filled(js: JetStream, call: Any) -> JetStream:
    """A stream S with ten messages, and a consumer c."""
    call(js.stream_create, {"name": "S", "subjects": ["s"], "storage": "memory"})
    for number in range(10):
        assert call(js.publish, "s", str(number))[1] is None
    call(js.consumer_create, "S", {"name": "c", "ack_policy": "explicit"})
    return js


@pytest.fixture
def own_js(filled: JetStream, connected: Any, line_server: Any) -> JetStream:
    """One whose client may end: the other one cleans up."""
    return JetStream(connected(line_server("newest"), reconnect=True, reconnect_delay=1))


class Fetcher:
    """Both ways to fetch, with the same arguments."""

    def __init__(self, js: JetStream, kind: str) -> None:
        self.js = js
        self.ordered = js.ordered_fetcher("S") if kind == "ordered" else None

    def fetch(self, *args: Any, **kwargs: Any) -> Any:
        if self.ordered is not None:
            return self.ordered.fetch(*args, **kwargs)
        return self.js.fetch("S", "c", *args, **kwargs)

    def next(self, *args: Any) -> Any:
        if self.ordered is not None:
            return self.ordered.next(*args)
        return self.js.next("S", "c", *args)


def taken(calls: list[Any]) -> Any:
    """Return the result of the one call of a callback."""
    ((result, error),) = calls
    assert error is None
    return result


def numbers(messages: Any) -> list[int]:
    return [int(message.data) for message in messages]


def idle(nats: Any, run: Any, ms: int = 50) -> None:
    done: list[int] = []
    nats.call_later(ms, done.append, 1)
    run(lambda: done)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fetch_that_is_stopped_gives_what_has_come(filled, run, call, kind):
    fetcher, calls = Fetcher(filled, kind), []
    handle = fetcher.fetch(LONG, lambda *call: calls.append(call))
    idle(filled.nats, run)
    assert calls == []
    assert not handle.ended
    assert repr(handle) == "<Fetch running>"
    handle.stop()
    handle.stop()
    assert calls == []  # nothing inside the call
    run(lambda: calls)
    assert numbers(taken(calls)) == list(range(10))
    assert handle.ended
    assert repr(handle) == "<Fetch ended>"
    handle.stop()
    idle(filled.nats, run)
    assert len(calls) == 1
    if kind == "pull":
        assert call(filled.consumer_info, "S", "c")[0]["num_waiting"] == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ms", [None, 0, 1, 2, 5])
def test_no_message_is_lost_whenever_a_fetch_is_stopped(filled, run, call, kind, ms):
    fetcher, calls, seen = Fetcher(filled, kind), [], []
    for _ in range(3):
        calls.clear()
        handle = fetcher.fetch({**LONG, "batch": 4}, lambda *call: calls.append(call))
        if ms is None:
            handle.stop()
        else:
            filled.nats.call_later(ms, handle.stop)
        run(lambda: calls)
        messages = taken(calls)
        seen += numbers(messages)
        if kind == "pull":
            assert all(message.ack_sync(lambda *answer: None) is None for message in messages)
            flushed(filled.nats, run)
            info = call(filled.consumer_info, "S", "c")[0]
            assert (info["num_waiting"], info["num_ack_pending"]) == (0, 0)
            assert info["delivered"]["consumer_seq"] == len(seen)
    assert seen == list(range(len(seen)))
    fetcher.fetch({"batch": 50, "no_wait": True}, lambda *call: calls.append(call))
    run(lambda: len(calls) == 2)
    assert seen + numbers(calls[1][0]) == list(range(10))


@pytest.mark.parametrize("kind", KINDS)
def test_next_that_is_stopped_says_that_no_message_came(filled, run, kind):
    fetcher, calls = Fetcher(filled, kind), []
    fetcher.fetch({"batch": 10}, lambda *call: calls.append(call))
    run(lambda: calls)
    handle = fetcher.next({"expires": timedelta(seconds=30)}, lambda *call: calls.append(call))
    idle(filled.nats, run)
    handle.stop()
    run(lambda: len(calls) == 2)
    message, error = calls[1]
    assert message is None
    assert isinstance(error, NoMessagesError)


@pytest.mark.parametrize("kind", KINDS)
def test_messages_come_one_by_one_and_the_callback_gets_their_number(filled, run, kind):
    fetcher, calls, seen = Fetcher(filled, kind), [], []
    on_msg = seen.append
    fetcher.fetch({"batch": 3}, lambda *call: calls.append((*call, len(seen))), on_msg=on_msg)
    run(lambda: calls)
    assert calls == [(3, None, 3)]
    options = {**LONG, "on_msg": seen.append}
    handle = fetcher.fetch(options, lambda *call: calls.append(call))
    run(lambda: len(seen) == 10)
    idle(filled.nats, run)
    assert len(calls) == 1
    handle.stop()
    run(lambda: len(calls) == 2)
    assert calls[1] == (7, None)
    assert numbers(seen) == list(range(10))
    fetcher.fetch(
        {"expires": timedelta(milliseconds=30)}, lambda *call: calls.append(call), on_msg=on_msg
    )
    run(lambda: len(calls) == 3)
    assert calls[2] == (0, None)
    with pytest.raises(TypeError):
        fetcher.fetch({}, print, on_msg=1)
    with pytest.raises(TypeError, match="given twice"):
        fetcher.fetch({"on_msg": print}, print, on_msg=print)
    with pytest.raises(BadOptionsError):
        fetcher.fetch({"on_message": print}, print)


@pytest.mark.parametrize("kind", KINDS)
def test_stopping_in_on_msg_and_raising_there(filled, run, kind, excepthook):
    fetcher, calls, seen = Fetcher(filled, kind), [], []

    def on_msg(message: Any) -> None:
        seen.append(message)
        handle.stop()
        raise ValueError(message.data)

    handle = fetcher.fetch(LONG, lambda *call: calls.append(call), on_msg=on_msg)
    run(lambda: calls)
    assert calls == [(len(seen), None)]
    assert numbers(seen) == list(range(len(seen)))
    assert len(excepthook) == len(seen)
    fetcher.fetch({"batch": 50, "no_wait": True}, lambda *call: calls.append(call))
    run(lambda: len(calls) == 2)
    assert numbers(seen) + numbers(calls[1][0]) == list(range(10))


@pytest.mark.parametrize("kind", KINDS)
def test_stopping_before_there_is_a_connection(own_js, run, kind):
    nats = own_js.nats
    nats.force_reconnect()
    calls: list[Any] = []
    handle = Fetcher(own_js, kind).fetch(LONG, lambda *call: calls.append(call))
    handle.stop()
    run(lambda: calls)
    assert calls == [([], None)]
    run(nats.is_connected)
    idle(nats, run)
    assert len(calls) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["force_reconnect", "disconnect", "drain"])
@pytest.mark.parametrize("first", ["stop", "end"])
def test_a_stop_beside_the_end_of_the_connection_completes_once(own_js, run, kind, end, first):
    nats, calls, seen = own_js.nats, [], []
    handle = Fetcher(own_js, kind).fetch(LONG, lambda *call: calls.append(call), on_msg=seen.append)
    run(lambda: len(seen) == 10)
    steps = [handle.stop, getattr(nats, end)]
    for step in steps if first == "stop" else reversed(steps):
        step()
    run(lambda: calls)
    (count, error) = calls[0]
    assert count == 10
    assert error is None or "disconnected" in str(error)
    if end != "force_reconnect":
        run(lambda: "disconnect" in nats.recorder.events)
    assert len(calls) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_ended_handle_holds_no_callback(filled, run, kind):
    class Big:
        def __call__(self, *args: Any) -> None:
            calls.append(args)

    calls: list[Any] = []
    big = Big()
    gone = weakref.ref(big)
    handle = Fetcher(filled, kind).fetch(LONG, big, on_msg=lambda message, big=big: None)
    handle.stop()
    run(lambda: calls)
    del big
    idle(filled.nats, run, 1)
    gc.collect()
    assert gone() is None
    assert handle.ended


def test_stopping_while_the_client_asks_what_the_server_can_do(connected, server, run):
    nats, calls = connected(server), []
    api = ScriptedApi(nats)
    replies: list[str] = []
    api.on("INFO", replies.append)  # no answer yet
    api.on("CONSUMER.MSG.NEXT", None)
    subscriptions = nats.subscription_count()
    for method in (api.js.fetch, api.js.next):
        handle = method("S", "c", {"group": "A"}, lambda *call: calls.append(call))
        flushed(nats, run)
        handle.stop()
    run(lambda: len(calls) == 2)
    assert calls[0] == ([], None)
    assert isinstance(calls[1][1], NoMessagesError)
    for reply in replies:
        nats.publish(reply, '{"api": {"level": 3}}')
    idle(nats, run)
    assert len(calls) == 2
    assert api.count("CONSUMER.MSG.NEXT") == 0
    assert nats.subscription_count() <= subscriptions + 1
