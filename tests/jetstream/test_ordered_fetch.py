"""Batches of an ordered consumer: each goes on where the last one ended, and leaves nothing behind."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from lab.js_servers import publish_numbers
from nats_ev import (
    BadOptionsError,
    JetStream,
    MaxBytesExceededError,
    NoMessagesError,
    NotConnectedError,
    RequestTimeoutError,
    StreamNotFoundError,
)

MS = 1_000_000


def fill(js: JetStream, call: Any, count: int) -> None:
    """So many messages more in the stream S."""
    call(js.stream_create, {"name": "S", "subjects": ["s.*"]})
    publish_numbers(js, call, 0, count)


def seqs(answer: Any) -> list[int]:
    messages, err = answer
    assert err is None
    return [m.seq for m in messages]


def test_each_fetch_goes_on_behind_the_last(any_js, call, eventually):
    fill(any_js, call, 10)
    ordered = any_js.ordered_fetcher("S", {"name_prefix": "mine"})
    assert seqs(call(ordered.fetch, {"batch": 4})) == [1, 2, 3, 4]
    assert ordered.last_seq == 4
    msg, err = call(ordered.next)
    assert (err, msg.seq, msg.data) == (None, 5, b"4")
    assert seqs(call(ordered.fetch, {"batch": 50, "no_wait": True})) == [6, 7, 8, 9, 10]
    assert seqs(call(ordered.fetch, {"batch": 5, "no_wait": True})) == []
    assert isinstance(call(ordered.next, {"no_wait": True})[1], NoMessagesError)
    assert isinstance(call(ordered.next, {"expires": 50 * MS})[1], RequestTimeoutError)
    fill(any_js, call, 2)
    # Fewer than asked for: what had come in time.
    assert seqs(call(ordered.fetch, {"batch": 5, "expires": 300 * MS})) == [11, 12]
    eventually(lambda: call(any_js.consumer_names, "S") == ([], None))


def test_fetch_waits_for_messages_and_starts_where_it_is_told(js, call):
    fill(js, call, 10)
    new = js.ordered_fetcher("S", {"deliver_policy": "new"})
    assert seqs(call(new.fetch, {"no_wait": True})) == []
    js.nats.call_later(50, lambda: js.publish("s.1", b"", lambda ack, err: None))
    assert seqs(call(new.fetch, {"batch": 1})) == [11]
    some = js.ordered_fetcher("S", {"filter_subject": "s.1", "opt_start_seq": 5,
                                    "deliver_policy": "by_start_sequence"})  # fmt: skip
    assert some.last_seq == 4
    assert seqs(call(some.fetch, {"batch": 2})) == [6, 8]
    assert seqs(call(some.fetch, {"batch": 2})) == [10, 11]


def test_fetch_by_size_leaves_what_does_not_fit_to_the_next(js, call):
    fill(js, call, 9)
    ordered = js.ordered_fetcher("S")
    got = []
    for _ in range(2):
        messages = seqs(call(ordered.fetch, {"max_bytes": 300}))
        assert 1 < len(messages) < 9
        got += messages
    assert isinstance(call(ordered.fetch, {"max_bytes": 10})[1], MaxBytesExceededError)
    got += seqs(call(ordered.fetch, {"max_bytes": 3000, "no_wait": True}))
    assert got == list(range(1, 10))


def test_lost_connection_and_lost_consumer_are_got_over(
    connected, line_server, proxy, call, run, eventually
):
    server = line_server("newest")
    direct = JetStream(connected(server))
    fill(direct, call, 3000)
    cut = proxy(server.port)
    js = JetStream(connected(cut, reconnect=True, reconnect_delay=10, max_reconnect_attempts=0))
    ordered = js.ordered_fetcher("S")
    got: list[int] = []
    answers: list[Any] = []
    opts = {"batch": 500, "expires": timedelta(seconds=20), "heartbeat": 200 * MS}
    for i in range(6):
        ordered.fetch(opts, lambda messages, err: answers.append((messages, err)))
        if i % 2:
            direct.nats.call_later(i, cut.cut)
        elif names := call(direct.consumer_names, "S")[0]:
            call(direct.consumer_delete, "S", names[0])
        run(lambda: answers, 20)
        got += seqs(answers.pop())
    assert got == list(range(1, 3001))
    eventually(lambda: call(direct.consumer_names, "S") == ([], None))
    call(direct.stream_delete, "S")


def test_what_can_not_be_is_told(js, client, call, run):
    assert isinstance(call(js.ordered_fetcher("NO").fetch)[1], StreamNotFoundError)
    fill(js, call, 1)
    ordered = js.ordered_fetcher("S", {"deliver_policy": "new"})
    answers: list[Any] = []
    ordered.fetch(lambda messages, err: answers.append((messages, err)))
    with pytest.raises(BadOptionsError, match="fetching already"):
        ordered.next(print)
    js.nats.disconnect()
    run(lambda: answers)
    (result,) = answers
    assert (result[0], str(result[1])) == (None, "disconnected")
    with pytest.raises(NotConnectedError):
        ordered.fetch(print)
    for config, text in (
        ({"ack_policy": "none"}, "unknown field 'ack_policy'"),
        ({"max_messages": 5}, "unknown field 'max_messages'"),
        ({"deliver_policy": "x"}, "deliver_policy"),
    ):
        with pytest.raises(BadOptionsError, match=text):
            js.ordered_fetcher("S", config)
    for opts in ({"max_bytes": 0}, {"batch": 0}, {"group": "g"}):
        with pytest.raises(BadOptionsError):
            ordered.fetch(opts, print)
    with pytest.raises(TypeError):
        ordered.fetch({"batch": 1})
    js.nats.connect()
    run(js.nats.is_connected)
