"""A push subscription when its server refuses, stalls, loses messages or ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.broker import broker
from lab.scripted_api import OVERLOADED, ScriptedApi, ack_reply, failure
from nats_ev import (
    ConnectionClosedError,
    ConsumerIsPullError,
    ConsumerNotFoundError,
    NoHeartbeatError,
    NotConnectedError,
    SequenceMismatchError,
)

MS = 1_000_000
GONE = failure(404, 10014, "consumer not found")


@pytest.fixture
def api(connected, fake):
    api = ScriptedApi(connected(fake(broker)), timeout=2000)
    api.on("CONSUMER.DELETE", {"success": True})
    return api


class Seen:
    """What a push subscription has told: messages, the error that ended it, errors on the way."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.ended: list[Any] = []
        self.errors: list[Any] = []

    def __call__(self, msg: Any, err: Any) -> None:
        if msg is None:
            self.ended.append(err)
        else:
            self.messages.append(msg)

    @property
    def options(self) -> dict[str, Any]:
        return {"on_error": self.errors.append}


@pytest.fixture
def seen():
    return Seen()


def info(subject: str = "deliver.here", **config: Any) -> dict[str, Any]:
    return {"config": {"deliver_subject": subject, **config}}


def status(api: ScriptedApi, subject: str, reply: str | None = None, **headers: str) -> None:
    """Send the heartbeat or flow control request that a server sends."""
    block = "NATS/1.0 100 Idle Heartbeat\r\n"
    block += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    api.nats.hpublish(subject, block.encode() + b"\r\n", b"", reply)


def test_a_refused_consumer_ends_the_subscription(api, seen, run):
    api.on("CONSUMER.CREATE", OVERLOADED)
    push = api.js.push_subscribe("S", {}, seen)
    run(lambda: seen.ended)
    assert seen.ended[0].code == 503
    assert push.closed


def test_a_pull_consumer_is_no_push_consumer(api, seen, run):
    api.on("CONSUMER.INFO", {"config": {}})
    push = api.js.push_subscribe("S", "pull", seen)
    run(lambda: seen.ended)
    assert isinstance(seen.ended[0], ConsumerIsPullError)
    assert push.closed


def test_a_consumer_that_exists_is_asked_where_it_delivers(api, seen, run):
    started = []
    api.on("CONSUMER.INFO", info("deliver.there"))
    push = api.js.push_subscribe("S", "old", {"on_start": started.append}, seen)
    run(lambda: started)
    api.nats.publish("deliver.there", b"1", ack_reply(1))
    run(lambda: seen.messages)
    assert seen.messages[0].data == b"1"
    push.stop()
    assert api.count("CONSUMER.DELETE") == 0  # it is not ours


def test_stopping_before_the_answer_deletes_the_consumer_that_it_tells_of(api, seen, run):
    replies = []
    api.on("CONSUMER.CREATE", replies.append)
    push = api.js.push_subscribe("S", {}, seen)
    run(lambda: replies)
    push.stop()
    push.stop()
    run(lambda: api.count("CONSUMER.DELETE"))
    api.nats.publish(replies[0], b'{"config":{"deliver_subject":"x"}}')
    assert (seen.ended, seen.messages) == ([], [])


def test_flow_control_is_answered_once_the_messages_before_it_are_handled(api, seen, run):
    api.on("CONSUMER.INFO", info())
    answered = []
    for subject in ("go.on", "stalled"):
        api.nats.subscribe(subject, lambda subject, *rest: answered.append(subject))
    started = []
    api.js.push_subscribe("S", "flow", {"on_start": started.append}, seen)
    run(lambda: started)
    api.nats.publish("deliver.here", b"1", ack_reply(1))
    status(api, "deliver.here", "go.on")
    status(api, "deliver.here", Nats_Consumer_Stalled="stalled")
    run(lambda: len(answered) == 2)
    assert answered == ["go.on", "stalled"]
    assert [message.data for message in seen.messages] == [b"1"]


def test_a_heartbeat_that_counts_more_messages_tells_once_that_some_are_missing(api, seen, run):
    api.on("CONSUMER.INFO", info(idle_heartbeat=60_000 * MS))
    started = []
    options = {**seen.options, "on_start": started.append}
    push = api.js.push_subscribe("S", "gaps", options, seen)
    run(lambda: started)
    api.nats.publish("deliver.here", b"1", ack_reply(1))
    for _ in range(2):
        status(api, "deliver.here", Nats_Last_Consumer="4")
    api.nats.publish("deliver.here", b"5", ack_reply(5))
    status(api, "deliver.here", Nats_Last_Consumer="5")
    run(lambda: len(seen.messages) == 2)
    run(lambda: seen.errors)
    assert [type(error) for error in seen.errors] == [SequenceMismatchError]
    assert "3 messages" in str(seen.errors[0])
    assert not push.closed


def test_a_heartbeat_with_an_absurd_number_raises_nothing(api, seen, run):
    """Anybody who knows the subject can send one. Python refuses to read a number of 5,000 digits."""
    api.on("CONSUMER.INFO", info(idle_heartbeat=60_000 * MS))
    started = []
    api.js.push_subscribe("S", "absurd", {**seen.options, "on_start": started.append}, seen)
    run(lambda: started)
    api.nats.publish("deliver.here", b"1", ack_reply(1))
    status(api, "deliver.here", Nats_Last_Consumer="9" * 5000)
    api.nats.publish("deliver.here", b"2", ack_reply(2))
    run(lambda: len(seen.messages) == 2)
    assert seen.errors == seen.ended == []


def test_another_status_than_100_is_no_message(api, seen, run):
    api.on("CONSUMER.INFO", info())
    started = []
    api.js.push_subscribe("S", "odd", {"on_start": started.append}, seen)
    run(lambda: started)
    api.nats.hpublish("deliver.here", b"NATS/1.0 409 Leadership Change\r\n\r\n", b"")
    api.nats.publish("deliver.here", b"1", ack_reply(1))
    run(lambda: seen.messages)
    assert [message.data for message in seen.messages] == [b"1"]
    assert seen.ended == []


def test_two_missed_heartbeats_are_told_and_the_consumer_is_asked_for(api, seen, run):
    api.on("CONSUMER.INFO", info(idle_heartbeat=30 * MS), info(), GONE)
    push = api.js.push_subscribe("S", "silent", seen.options, seen)
    run(lambda: seen.errors)
    assert isinstance(seen.errors[0], NoHeartbeatError)
    assert not push.closed
    run(lambda: seen.ended)
    assert isinstance(seen.ended[0], ConsumerNotFoundError)
    assert push.closed


def test_a_member_of_a_group_waits_for_no_heartbeats(api, seen, run):
    api.on("CONSUMER.INFO", info(idle_heartbeat=10 * MS, deliver_group="g"))
    started, later = [], []
    options = {**seen.options, "on_start": started.append}
    api.js.push_subscribe("S", "member", options, seen)
    run(lambda: started)
    api.nats.call_later(60, lambda: later.append(1))
    run(lambda: later)
    assert seen.errors == []


def test_draining_one_that_has_ended_is_done_at_once(api, seen, run):
    api.on("CONSUMER.INFO", {"config": {}})
    push = api.js.push_subscribe("S", "pull", seen)
    run(lambda: seen.ended)
    done = []
    push.drain(lambda result, error: done.append((result, error)))
    push.drain()
    run(lambda: done)
    assert done == [(True, None)]


def test_draining_one_that_runs_delivers_what_has_come_and_deletes_the_consumer(api, seen, run):
    config = {}

    def created(reply):
        config.update(api.asked[-1][1]["config"])
        api.nats.publish(reply, b'{"config":{"deliver_subject":"%b"}}' % subject().encode())

    def subject():
        return config["deliver_subject"]

    api.on("CONSUMER.CREATE", created)
    started, done = [], []
    push = api.js.push_subscribe("S", {}, {"on_start": started.append}, seen)
    run(lambda: started)
    api.nats.publish(subject(), b"1", ack_reply(1))
    push.drain(lambda result, error: done.append((result, error)))
    run(lambda: done)
    assert done == [(True, None)]
    assert [message.data for message in seen.messages] == [b"1"]
    run(lambda: api.count("CONSUMER.DELETE") == 1)


def test_the_end_of_the_client_is_the_end_of_the_subscription(api, seen, run):
    api.on("CONSUMER.INFO", info())
    started = []
    push = api.js.push_subscribe("S", "last", {"on_start": started.append}, seen)
    run(lambda: started)
    api.nats.disconnect()
    run(lambda: seen.ended)
    assert isinstance(seen.ended[0], ConnectionClosedError)
    assert push.closed
    with pytest.raises(NotConnectedError):
        api.js.push_subscribe("S", "late", seen)


@pytest.mark.parametrize("answer", [info(), OVERLOADED, None])
def test_a_consumer_is_deleted_after_it_was_created_when_the_subscription_stops_at_once(
    connected, fake, run, answer
):
    """A server handles requests in any order: a DELETE before the CREATE would leave the consumer."""
    api = ScriptedApi(connected(fake(broker)), timeout=200)
    api.on("CONSUMER.DELETE", {"success": True})
    replies: list[str] = []
    api.on("CONSUMER.CREATE", replies.append)
    subscription = api.js.push_subscribe("S", {}, lambda msg, err: None)
    run(lambda: replies)
    subscription.stop()
    flushed: list[Any] = []
    api.nats.flush(flushed.append)
    run(lambda: flushed)
    assert api.count("CONSUMER.DELETE") == 0
    if answer is not None:
        api.nats.publish(replies[0], json.dumps(answer))
    run(lambda: api.count("CONSUMER.DELETE"))
    assert api.count("CONSUMER.DELETE") == 1


def test_a_consumer_whose_creation_is_not_answered_is_deleted(connected, fake, run, seen):
    api = ScriptedApi(connected(fake(broker)), timeout=100)
    api.on("CONSUMER.DELETE", {"success": True})
    api.on("CONSUMER.CREATE", None)
    api.js.push_subscribe("S", {}, seen)
    run(lambda: seen.ended and api.count("CONSUMER.DELETE") == 1)
