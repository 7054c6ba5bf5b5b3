"""Calls before there is a connection, on servers that lack a feature, and with no room to send."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from lab.broker import broker
from lab.scripted_api import ScriptedApi, ack_reply
from nats_ev import (
    ApiLevelError,
    JetStream,
    JsMsg,
    MaxPayloadError,
    Nats,
    NotConnectedError,
    OutboundBufferLimitError,
    RequestTimeoutError,
)


def old(version: str) -> Any:
    return partial(broker, version=version)


# Servers that lack a feature.

NEEDS = {
    "consumer_pause": ("2.11", lambda js, cb: js.consumer_resume("S", "c", cb)),
    "consumer_unpin": ("2.11", lambda js, cb: js.consumer_unpin("S", "c", "g", cb)),
    "consumer_reset": ("2.14", lambda js, cb: js.consumer_reset("S", "c", cb)),
    "direct_get_batch": ("2.11", lambda js, cb: js.direct_get_batch("S", {"batch": 1}, cb)),
    "a source's consumer": (
        "2.14",
        lambda js, cb: js.stream_create(
            {"name": "S", "sources": [{"name": "T", "consumer": {"name": "c"}}]}, cb
        ),
    ),
    "a ttl": ("2.11", lambda js, cb: js.publish("a", b"", cb, ttl=1000)),
}


@pytest.mark.parametrize("what", NEEDS)
def test_what_a_server_is_too_old_for_is_refused_unsent(connected, fake, call, what):
    version, ask = NEEDS[what]
    api = ScriptedApi(connected(fake(old("2.9.0"))))
    answer, error = call(lambda cb: ask(api.js, cb))
    assert answer is None
    assert isinstance(error, ApiLevelError)
    assert version in str(error)
    assert api.asked == []


@pytest.mark.parametrize("version", ["2.99.1-beta", "devel", "", "0.0.0"])
def test_a_server_of_an_unknown_version_counts_as_new(connected, fake, call, version):
    api = ScriptedApi(connected(fake(old(version))))
    api.on("CONSUMER.PAUSE", {"paused": False})
    assert call(api.js.consumer_resume, "S", "c")[1] is None


def test_an_old_server_gets_a_termination_without_its_reason(connected, fake, run):
    for version, body in (("2.10.3", b"+TERM"), ("2.10.4", b"+TERM because")):
        nats = connected(fake(old(version)))
        seen: list[bytes] = []
        nats.subscribe("$JS.ACK.>", lambda subject, payload, *rest: seen.append(payload))  # noqa: B023
        JsMsg(nats, "a", b"", ack_reply(1), None).term("because")
        run(lambda: seen)  # noqa: B023
        assert seen == [body]


# Before there is a connection.


def test_what_waits_for_a_connection_is_sent_when_there_is_one(client, fake, run):
    nats: Nats = client(fake(broker))
    api = ScriptedApi(nats)
    api.on("CONSUMER.PAUSE", {"paused": False})
    told: list[Any] = []
    assert not nats.is_connected()
    api.js.consumer_resume("S", "c", lambda result, error: told.append(error))
    run(lambda: told)
    assert told == [None]


def test_what_the_new_connection_does_not_take_goes_to_the_callback(client, fake, run):
    nats: Nats = client(fake(partial(broker, max_payload=100)))
    told: list[Any] = []
    JetStream(nats).publish("a", b"x" * 200, lambda ack, error: told.append(error), ttl=1000)
    run(lambda: told)
    assert isinstance(told[0], MaxPayloadError)


def test_a_connection_that_does_not_come_is_a_timeout(client, fake, run):
    nats: Nats = client(fake(lambda peer: peer.at_eof()))
    told: list[Any] = []
    JetStream(nats, timeout=80).consumer_resume("S", "c", lambda result, error: told.append(error))
    run(lambda: told)
    assert isinstance(told[0], RequestTimeoutError)


def test_a_fetch_before_there_is_a_connection_asks_once_there_is_one(client, fake, run):
    nats: Nats = client(fake(broker))
    api = ScriptedApi(nats)
    api.on("CONSUMER.MSG.NEXT", lambda inbox: nats.publish(inbox, b"1", ack_reply(1)))
    told: list[Any] = []
    api.js.fetch("S", "c", {"batch": 1}, lambda messages, error: told.append((messages, error)))
    run(lambda: told)
    messages, error = told[0]
    assert ([message.data for message in messages], error) == ([b"1"], None)


def test_a_consume_before_there_is_a_connection_begins_with_it(client, fake, run):
    nats: Nats = client(fake(broker))
    api = ScriptedApi(nats)
    api.on("CONSUMER.MSG.NEXT", lambda inbox: nats.publish(inbox, b"1", ack_reply(1)), None)
    got: list[Any] = []
    consume = api.js.consume("S", "c", lambda msg, error: got.append(msg.data))
    run(lambda: got)
    consume.stop()
    assert got == [b"1"]


# No room to send.


@pytest.fixture
def full(connected, fake):
    """full(): a scripted API whose client has no room for another message in this turn."""

    def full() -> ScriptedApi:
        api = ScriptedApi(connected(fake(broker), max_pending_bytes=20_000))

        def fill() -> None:
            size = 8192
            while size:
                try:
                    api.nats.publish("nobody", b"x" * size)
                except OutboundBufferLimitError:
                    size //= 2
            for _ in range(1000):
                try:
                    api.nats.publish("n", b"")
                except OutboundBufferLimitError:
                    return

        api.fill = fill
        return api

    return full


def test_a_call_that_cannot_be_sent_raises_and_leaves_no_subscription(full, call):
    api = full()
    api.on("STREAM.NAMES", {"streams": [], "total": 0})
    assert call(api.js.stream_names) == ([], None)  # the inbox of requests is one, too
    before = api.nats.subscription_count()
    api.fill()
    with pytest.raises(OutboundBufferLimitError):
        api.js.fetch("S", "c", {"batch": 1}, lambda messages, error: None)
    with pytest.raises(OutboundBufferLimitError):
        api.js.push_subscribe("S", {}, {}, lambda msg, error: None)
    assert api.nats.subscription_count() == before


def test_a_consume_that_cannot_ask_for_now_tells_and_asks_later(full, run):
    api = full()
    api.on("CONSUMER.MSG.NEXT", lambda inbox: api.nats.publish(inbox, b"1", ack_reply(1)), None)
    got: list[Any] = []
    errors: list[Any] = []
    api.fill()
    options = {"on_error": errors.append}
    consume = api.js.consume("S", "c", options, lambda msg, error: got.append(msg.data))
    run(lambda: got)
    consume.stop()
    assert got == [b"1"]
    assert isinstance(errors[0], OutboundBufferLimitError)


# The order of what is published while a message with an option waits.


def publish_in_turn(nats: Nats, js: JetStream, count: int) -> tuple[list[bytes], list[Any]]:
    """Publish count messages, each third one with an option that needs a newer server, by both ways.

    Returns what a subscriber gets, and the callbacks' (number, ack, error).
    """
    got: list[bytes] = []
    told: list[Any] = []

    def store(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
        got.append(payload)
        nats.publish(reply or "", b'{"stream":"S","seq":%d}' % len(got))

    nats.subscribe("a", store)
    for number in range(count):
        publish = js.publish_async if number % 2 else js.publish
        options = {} if number % 3 else {"ttl": 1000}
        publish("a", b"%d" % number, lambda *ack, n=number: told.append((n, *ack)), **options)
    return got, told


@pytest.mark.parametrize("connected_first", [False, True])
def test_the_order_of_publishing_stays_while_a_message_waits(client, fake, run, connected_first):
    nats: Nats = client(fake(broker))
    if connected_first:  # the API level is still unknown
        run(nats.is_connected)
    api = ScriptedApi(nats)
    got, told = publish_in_turn(nats, api.js, 10)
    run(lambda: len(told) == 10)
    assert got == [b"%d" % number for number in range(10)]
    assert [(number, ack["seq"], error) for number, ack, error in told] == [
        (number, number + 1, None) for number in range(10)
    ]
    told.clear()
    api.js.publish("a", b"later", lambda *ack: told.append(ack))
    api.js.publish("a", b"last", lambda *ack: told.append(ack), ttl=1000)
    run(lambda: len(told) == 2)
    assert got[10:] == [b"later", b"last"]


def test_a_message_that_a_server_is_too_old_for_does_not_hold_up_those_after_it(client, fake, run):
    nats: Nats = client(fake(old("2.9.0")))
    got, told = publish_in_turn(nats, ScriptedApi(nats).js, 10)
    run(lambda: len(told) == 10)
    assert got == [b"%d" % number for number in range(10) if number % 3]
    assert {n: type(error) for n, _, error in told if error} == dict.fromkeys(
        (0, 3, 6, 9), ApiLevelError
    )


def test_each_message_that_waits_ends_by_its_own_timeout(client, fake, run):
    nats: Nats = client(fake(lambda peer: peer.at_eof()), connect_timeout=0)
    js, told = JetStream(nats), []
    for timeout, options in ((60, {"ttl": 1000}), (20, {}), (40, {"ttl": 1000}), (0, {})):
        js.publish(
            "a",
            b"",
            lambda ack, error, t=timeout: told.append((t, error)),
            timeout=timeout,
            **options,
        )
    run(lambda: len(told) == 3)
    assert [timeout for timeout, _ in told] == [20, 40, 60]
    assert all(isinstance(error, RequestTimeoutError) for _, error in told)
    nats.disconnect()
    run(lambda: len(told) == 4)
    assert str(told[3][1]) == "disconnected"
    with pytest.raises(NotConnectedError):
        js.publish("a", b"", print, ttl=1000)
