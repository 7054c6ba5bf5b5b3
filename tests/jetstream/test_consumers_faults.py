"""Pull and ordered consumers, and windowed publishing, when the API refuses, loses or is silent."""

from __future__ import annotations

from typing import Any

import pytest

from lab.broker import broker
from lab.scripted_api import OVERLOADED, ScriptedApi, ack_reply, failure
from nats_ev import (
    APIError,
    BadOptionsError,
    ConnectionClosedError,
    ConsumerIsPushError,
    JetStream,
    JetStreamError,
    TooManyStalledMsgsError,
)

MS = 1_000_000


@pytest.fixture
def api(connected, fake):
    api = ScriptedApi(connected(fake(broker)), timeout=2000)
    api.on("CONSUMER.DELETE", {"success": True})
    return api


# consume.


def test_consuming_from_a_push_consumer_ends_with_what_it_is(api, run):
    def nobody(reply):
        api.nats.hpublish(reply, b"NATS/1.0 503\r\n\r\n", b"")

    api.on("CONSUMER.MSG.NEXT", nobody)
    api.on("CONSUMER.INFO", {"config": {"deliver_subject": "elsewhere"}})
    ended: list[Any] = []
    consume = api.js.consume("S", "push", lambda msg, err: ended.append(err))
    run(lambda: ended)
    assert isinstance(ended[0], ConsumerIsPushError)
    assert consume.closed


def test_draining_a_consume_that_has_ended_is_done_at_once(api, run):
    api.on("CONSUMER.MSG.NEXT", None)
    consume = api.js.consume("S", "c", lambda msg, err: None)
    consume.stop()
    done: list[Any] = []
    consume.drain(lambda result, error: done.append((result, error)))
    consume.drain()
    run(lambda: done)
    assert done == [(True, None)]


def test_draining_a_consume_needs_no_callback(api, run):
    api.on("CONSUMER.MSG.NEXT", None)
    consume = api.js.consume("S", "c", lambda msg, err: None)
    run(lambda: api.count("CONSUMER.MSG.NEXT"))
    consume.drain()
    run(lambda: consume.closed)


def test_a_request_that_is_refused_is_told_and_asked_again_after_a_pause(api, run):
    def refuse(reply):
        api.nats.hpublish(reply, b"NATS/1.0 409 Exceeded MaxWaiting\r\n\r\n", b"")

    api.on("CONSUMER.MSG.NEXT", refuse, None)
    errors: list[Any] = []
    consume = api.js.consume("S", "c", {"on_error": errors.append}, lambda msg, err: None)
    run(lambda: api.count("CONSUMER.MSG.NEXT") == 2)
    assert len(errors) == 1
    assert not consume.closed
    consume.stop()


# Ordered consumers.


def created(api: ScriptedApi, consumer: str = "C", pending: int = 0) -> dict[str, Any]:
    return {"name": consumer, "num_pending": pending, "delivered": {"stream_seq": 0}, "config": {}}


def next_messages(api: ScriptedApi, *replies: str) -> Any:
    """Return an answer to a pull request that has a message with each of these reply subjects."""

    def answer(inbox: str) -> None:
        for reply in replies:
            api.nats.publish(inbox, b"x", reply)

    return answer


def test_a_gap_makes_an_ordered_consumer_go_on_after_the_last_message_in_order(api, run):
    api.on("CONSUMER.CREATE", created(api))
    first = next_messages(api, ack_reply(1, 11), ack_reply(3, 13))
    api.on("CONSUMER.MSG.NEXT", first, next_messages(api, ack_reply(1, 12)), None)
    got: list[Any] = []
    errors: list[Any] = []
    consumer = api.js.ordered_consumer(
        "S", {"on_error": errors.append}, lambda msg, err: got.append(msg.seq)
    )
    run(lambda: len(got) == 2)
    assert got == [11, 12]
    assert [type(error) for error in errors] == [JetStreamError]
    assert "gap" in str(errors[0])
    starts = [b["config"].get("opt_start_seq") for v, b in api.asked if "CREATE" in v]
    assert starts == [None, 12]
    assert consumer.resets == 1
    consumer.stop()


def test_a_message_without_metadata_makes_an_ordered_consumer_begin_again(api, run):
    api.on("CONSUMER.CREATE", created(api))
    first = next_messages(api, "no.metadata")
    api.on("CONSUMER.MSG.NEXT", first, next_messages(api, ack_reply(1)), None)
    got: list[Any] = []
    errors: list[Any] = []
    consumer = api.js.ordered_consumer(
        "S", {"on_error": errors.append}, lambda msg, err: got.append(msg.seq)
    )
    run(lambda: got)
    assert got == [1]
    assert "no metadata" in str(errors[0])
    consumer.stop()


def test_a_consumer_that_cannot_be_created_for_now_is_tried_again_and_told(api, run):
    api.on("CONSUMER.CREATE", OVERLOADED, created(api))
    api.on("CONSUMER.MSG.NEXT", None)
    started: list[Any] = []
    errors: list[Any] = []
    options = {"on_error": errors.append, "on_start": started.append}
    api.js.ordered_consumer("S", options, lambda msg, err: None)
    run(lambda: started)
    assert [error.code for error in errors] == [503]


def test_a_refused_ordered_consumer_ends(api, run):
    api.on("CONSUMER.CREATE", failure(400, 10094, "filtered consumer not unique"))
    ended: list[Any] = []
    consumer = api.js.ordered_consumer("S", lambda msg, err: ended.append(err))
    run(lambda: ended)
    assert isinstance(ended[0], APIError)
    assert consumer.closed


def test_no_more_attempts_than_asked_for(api, run):
    api.on("CONSUMER.CREATE", OVERLOADED)
    ended: list[Any] = []
    api.js.ordered_consumer("S", {"max_reset_attempts": 0}, lambda msg, err: ended.append(err))
    run(lambda: ended)
    assert api.count("CONSUMER.CREATE") == 1


def test_draining_an_ordered_consumer_that_has_not_begun_is_done_at_once(api, run):
    api.on("CONSUMER.CREATE", None)
    consumer = api.js.ordered_consumer("S", lambda msg, err: None)
    done: list[Any] = []
    consumer.drain(lambda result, error: done.append((result, error)))
    consumer.drain()
    run(lambda: done)
    assert done == [(True, None)]
    assert consumer.closed


def test_the_end_of_the_client_ends_an_ordered_consumer_once(api, run):
    api.on("CONSUMER.CREATE", created(api))
    api.on("CONSUMER.MSG.NEXT", None)
    ended: list[Any] = []
    consumer = api.js.ordered_consumer("S", lambda msg, err: ended.append(err))
    run(lambda: api.count("CONSUMER.MSG.NEXT"))
    api.nats.disconnect()
    run(lambda: ended)
    assert [type(error) for error in ended] == [ConnectionClosedError]
    assert consumer.closed


def test_an_ordered_consumer_counts_bytes_when_it_is_to(api, run):
    api.on("CONSUMER.CREATE", created(api))
    replies = [ack_reply(number) for number in range(1, 4)]
    api.on("CONSUMER.MSG.NEXT", next_messages(api, *replies), None)
    got: list[Any] = []
    options = {"max_bytes": 200, "threshold_bytes": 150}
    consumer = api.js.ordered_consumer("S", options, lambda msg, err: got.append(msg.seq))
    run(lambda: api.count("CONSUMER.MSG.NEXT") > 1)
    assert got == [1, 2, 3]
    sizes = [body["max_bytes"] for verb, body in api.asked if "NEXT" in verb]
    assert sizes[0] == 200
    assert 0 < sizes[1] <= 200
    consumer.stop()


# Windowed publishing.


class Stored:
    """A stream's side of publishing: messages that have come, answered when the test says so."""

    def __init__(self, nats: Any) -> None:
        self.nats = nats
        self.replies: list[str] = []
        self.data: list[bytes] = []
        nats.subscribe("window.*", self._on_message)

    def _on_message(self, subject: str, payload: bytes, reply: str, headers: Any) -> None:
        self.replies.append(reply)
        self.data.append(payload)

    def ack(self) -> None:
        self.nats.publish(self.replies.pop(0), b'{"stream":"S","seq":%d}' % len(self.data))


@pytest.fixture
def stored(api):
    return Stored(api.nats)


def test_kept_messages_fail_unsent_when_no_acknowledgement_comes(api, stored, run):
    js = JetStream(api.nats, timeout=5000, max_ack_pending=1, stall_wait=60)
    told: list[Any] = []
    ready: list[int] = []
    for number in range(3):
        js.publish_async("window.a", b"%d" % number, lambda ack, err: told.append(err))
    js.publish_ready(lambda: ready.append(1))
    assert js.publish_async_pending() == 3
    run(lambda: len(told) == 2)
    assert [type(error) for error in told] == [TooManyStalledMsgsError] * 2
    assert stored.data == [b"0"]
    assert ready == []
    stored.ack()
    run(lambda: len(told) == 3 and ready)
    assert told[2] is None


def test_kept_messages_wait_as_long_as_acknowledgements_come(api, stored, run):
    js = JetStream(api.nats, timeout=5000, max_ack_pending=1, stall_wait=150)
    told: list[Any] = []
    complete: list[Any] = []
    for number in range(4):
        js.publish_async("window.a", b"%d" % number, lambda ack, err: told.append(err))
    js.publish_complete(lambda result, error: complete.append((result, error)))

    def ack():
        stored.ack()
        if len(told) < 3:
            api.nats.call_later(100, ack)

    run(lambda: stored.replies)
    api.nats.call_later(100, ack)
    run(lambda: complete)
    assert told == [None] * 4
    assert stored.data == [b"0", b"1", b"2", b"3"]
    assert complete == [(True, None)]


def test_a_window_is_a_number_of_one_or_more(api):
    for value in ("1", True, None):
        with pytest.raises(TypeError, match="max_ack_pending"):
            JetStream(api.nats, max_ack_pending=value)
    with pytest.raises(BadOptionsError, match="max_ack_pending"):
        JetStream(api.nats, max_ack_pending=0)


def test_retries_of_a_publish_are_a_number_of_zero_or_more(api):
    for value in ("1", True, 1.5):
        with pytest.raises(TypeError, match="retry_attempts"):
            api.js.publish("a", b"", lambda ack, err: None, retry_attempts=value)
    with pytest.raises(BadOptionsError, match="retry_attempts"):
        api.js.publish("a", b"", lambda ack, err: None, retry_attempts=-1)
