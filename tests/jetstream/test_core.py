"""JetStream end to end on a real server: streams, publishing, consumers, fetch, order."""

from __future__ import annotations

from typing import Any

import pytest

from nats_ev import MsgAlreadyAckedError, NoRespondersError


def test_xt_11_jetstream(any_js, call):
    js = any_js
    info, err = call(js.stream_create, {"name": "T11", "subjects": ["t11.>"], "storage": "memory"})
    assert err is None
    assert info["config"]["name"] == "T11"
    acks = [call(js.js_publish, "t11.a", f"message {i}")[0] for i in range(1, 4)]
    assert [(a["stream"], a["seq"], a["duplicate"]) for a in acks] == [
        ("T11", 1, False), ("T11", 2, False), ("T11", 3, False),
    ]  # fmt: skip
    config = {"durable_name": "worker", "ack_policy": "explicit", "deliver_policy": "all"}
    info, err = call(js.consumer_create, "T11", config)
    assert (err, info["name"]) == (None, "worker")
    messages, err = call(js.fetch, "T11", "worker", {"batch": 3, "expires": 2_000_000_000})
    assert err is None
    assert [m.data for m in messages] == [b"message 1", b"message 2", b"message 3"]
    assert [m.payload for m in messages] == [m.data for m in messages]
    info, err = call(js.stream_info, "T11")
    assert (err, info["state"]["messages"]) == (None, 3)


def test_xt_18_js_ack_flow(any_js, call):
    js, publish = any_js, any_js.nats.publish
    call(js.stream_create, {"name": "T18", "subjects": ["t18"], "storage": "memory"})
    for text in ("one", "two"):
        call(js.js_publish, "t18", text)
    config = {"durable_name": "acker", "ack_policy": "explicit", "ack_wait": 1_000_000_000}
    call(js.consumer_create, "T18", config)
    (one, two), err = call(js.fetch, "T18", "acker", {"batch": 2, "expires": 1_000_000_000})
    assert err is None
    publish(one.reply, "+ACK")
    publish(two.reply, "-NAK")
    (again,), err = call(js.fetch, "T18", "acker", {"batch": 1, "expires": 2_000_000_000})
    assert (err, again.data, again.metadata.num_delivered) == (None, b"two", 2)
    publish(again.reply, "+ACK")
    opts = {"batch": 1, "expires": 500_000_000, "no_wait": True}
    assert call(js.fetch, "T18", "acker", opts) == ([], None)


def test_messages_answer_for_themselves(js, call):
    call(js.stream_create, {"name": "T18", "subjects": ["t18"], "storage": "memory"})
    for text in ("one", "two"):
        call(js.js_publish, "t18", text)
    call(js.consumer_create, "T18", {"durable_name": "c", "ack_policy": "explicit"})
    (one, two), err = call(js.fetch, "T18", "c", {"batch": 2})
    assert err is None
    one.ack()
    two.nak()
    (again,), err = call(js.fetch, "T18", "c", {"batch": 1})
    assert (err, again.data, again.metadata.num_delivered) == (None, b"two", 2)
    assert call(again.ack_sync) == (True, None)
    assert call(js.fetch, "T18", "c", {"batch": 1, "no_wait": True}) == ([], None)


def test_second_terminal_ack_raises_and_in_progress_does_not_end(js, call):
    call(js.stream_create, {"name": "ACK", "subjects": ["ack"], "storage": "memory"})
    call(js.publish, "ack", b"x")
    call(js.consumer_create, "ACK", {"name": "c", "ack_policy": "explicit"})
    (msg,), _ = call(js.fetch, "ACK", "c")
    msg.in_progress()
    msg.in_progress()
    msg.term("broken")
    for answer in (msg.ack, msg.nak, msg.term, msg.in_progress, lambda: msg.ack_sync(print)):
        with pytest.raises(MsgAlreadyAckedError):
            answer()


def test_ordered_consumer_gives_all_messages_in_order_and_leaves_nothing(js, call, run, eventually):
    call(js.stream_create, {"name": "ORD", "subjects": ["ord.*"], "storage": "memory"})
    for i in range(1, 21):
        call(js.publish, f"ord.{i % 2}", str(i))
    got: list[Any] = []
    started: list[Any] = []
    options = {"filter_subject": "ord.0", "on_start": started.append}
    ordered = js.ordered_consumer("ORD", options, lambda msg, err: got.append((msg, err)))
    run(lambda: len(got) == 10)
    assert [m.data for m, _ in got] == [str(i).encode() for i in range(2, 21, 2)]
    assert [info["num_pending"] for info in started] == [10]
    assert got[-1][0].metadata.num_pending == 0
    ordered.stop()
    eventually(lambda: call(js.consumer_names, "ORD") == ([], None))


def test_consume_gives_every_message_and_stops(js, call, run, eventually):
    call(js.stream_create, {"name": "CON", "subjects": ["con"], "storage": "memory"})
    for i in range(30):
        js.publish_async("con", str(i), lambda ack, err: None)
    assert call(js.publish_complete) == (True, None)
    call(js.consumer_create, "CON", {"durable_name": "c", "ack_policy": "explicit"})
    got: list[Any] = []

    def on_message(msg: Any, err: Any) -> None:
        assert err is None
        msg.ack()
        got.append(msg.data)

    consume = js.consume("CON", "c", {"max_messages": 8}, on_message)
    run(lambda: len(got) == 30)
    assert got == [str(i).encode() for i in range(30)]
    consume.stop()
    assert call(js.publish, "con", b"late")[1] is None
    assert len(got) == 30
    eventually(lambda: call(js.consumer_info, "CON", "c")[0]["num_ack_pending"] == 0)


def test_C7_fetch_from_a_missing_consumer_is_an_error(any_js, call):
    js = any_js
    call(js.stream_create, {"name": "MISS", "subjects": ["miss"], "storage": "memory"})
    messages, err = call(js.fetch, "MISS", "nobody", {"batch": 1})
    assert messages is None
    assert isinstance(err, NoRespondersError)


def test_messages_are_read_directly_and_by_the_leader(js, call):
    config = {"name": "GET", "subjects": ["get.*"], "storage": "memory", "allow_direct": True}
    call(js.stream_create, config)
    call(js.publish, "get.a", b"1", headers={"X": "y"})
    call(js.publish, "get.b", b"2")
    for method in (js.get_msg, js.direct_get):
        msg, err = call(method, "GET", {"last_by_subj": "get.a"})
        assert err is None
        assert (msg.seq, msg.subject, msg.data, msg.header("X")) == (1, "get.a", b"1", "y")
        assert call(method, "GET", 2)[0].data == b"2"
        msg, err = call(method, "GET", {"seq": 9})
        assert msg is None
        assert str(err) == "no message found (code 404): stream 'GET'"
