"""A consume that can't begin ends with an error; one whose requests are too small asks for more."""

from __future__ import annotations

from typing import Any

import pytest

from lab.broker import broker
from lab.scripted_api import ScriptedApi, ack_reply
from nats_ev import (
    JetStream,
    JetStreamNotEnabledForAccountError,
    NoRespondersError,
    PermissionsViolationError,
    Status,
)
from nats_ev.testing import free_port

MS = 1_000_000


@pytest.fixture
def api(connected, fake):
    return ScriptedApi(connected(fake(broker)), timeout=400)


def ends_with(api: ScriptedApi, run: Any) -> Any:
    got: list[Any] = []
    consume = api.js.consume("S", "c", lambda msg, err: got.append(err))
    run(lambda: got, 3)
    assert consume.closed
    assert len(got) == 1
    return got[0]


def test_no_jetstream_in_the_account_ends_a_consume(api, run):
    api.on(
        "CONSUMER.MSG.NEXT", lambda reply: api.nats.hpublish(reply, b"NATS/1.0 503\r\n\r\n", b"")
    )
    api.on("CONSUMER.INFO", {"error": {"code": 503, "err_code": 10039}})
    assert isinstance(ends_with(api, run), JetStreamNotEnabledForAccountError)


def test_a_wrong_domain_ends_a_consume(connected, own_server, run):
    nats = connected(own_server(jetstream=True))
    got: list[Any] = []
    js = JetStream(nats, domain="nowhere", timeout=400)
    js.consume("S", "c", lambda msg, err: got.append(err))
    run(lambda: got, 3)
    assert isinstance(got[0], NoRespondersError)


DENIED = {
    "requests": 'publish: {deny: ["$JS.API.CONSUMER.MSG.>"]}',
    "the inbox": 'subscribe: {deny: ["_INBOX.>"]}',
}


@pytest.mark.parametrize("way", ["consume", "ordered_consumer"])
@pytest.mark.parametrize("what", DENIED)
def test_a_missing_right_ends_a_consume_at_once(client, own_server, call, run, tmp_path, what, way):
    config = f"""
    jetstream {{ store_dir: "{tmp_path}" }}
    accounts {{ A {{ jetstream: enabled, users: [
      {{ user: admin, password: a }},
      {{ user: poor, password: a, permissions: {{ {DENIED[what]} }} }} ] }} }}
    """
    server = own_server(config=config)
    admin = client(server, user="admin", password="a")
    js = JetStream(admin)
    assert call(js.stream_create, {"name": "S", "subjects": ["s"]})[1] is None
    assert call(js.consumer_create, "S", {"durable_name": "c", "ack_policy": "none"})[1] is None
    nats = client(server, user="poor", password="a", on_error=lambda err: None)
    got: list[Any] = []
    poor = JetStream(nats, timeout=60_000)
    args = ["S", "c"] if way == "consume" else ["S"]
    getattr(poor, way)(*args, lambda msg, err: got.append(err))
    run(lambda: got, 3)
    assert [type(err) for err in got] == [PermissionsViolationError]


def test_consume_in_a_group_waits_for_the_server_longer_than_the_timeout(client, run):
    nats = client(
        host="127.0.0.1",
        port=free_port(),
        reconnect=True,
        reconnect_delay=50,
        max_reconnect_attempts=0,
        on_error=lambda err: None,
    )
    js = JetStream(nats, timeout=50)
    got: list[Any] = []
    consume = js.consume("S", "c", {"group": "g"}, lambda msg, err: got.append(err))
    waited: list[Any] = []
    nats.call_later(200, waited.append, 1)
    run(lambda: waited)
    assert got == []
    assert not consume.closed
    nats.disconnect()
    run(lambda: got)
    assert consume.closed
    assert nats.status() is not Status.CONNECTED


def test_a_message_too_large_for_the_rest_is_asked_for_with_all_of_max_bytes(api, run):
    """Two requests of half the size are out, the next message fits in neither."""
    requests: list[str] = []
    api.on("CONSUMER.MSG.NEXT", requests.append)
    got: list[Any] = []
    opts = {"max_bytes": 1000, "expires": 2_000 * MS, "heartbeat": 500 * MS}
    consume = api.js.consume("S", "c", opts, lambda msg, err: got.append(err or len(msg.data)))
    run(lambda: requests)
    api.nats.publish(requests[0], b"x" * 500, ack_reply(1))
    run(lambda: len(requests) == 2)
    bodies = [body for verb, body in api.asked if verb.startswith("CONSUMER.MSG.NEXT")]
    assert bodies[1]["max_bytes"] < 700
    for reply, left in ((requests[0], 400), (requests[1], bodies[1]["max_bytes"])):
        status = f"NATS/1.0 409 Message Size Exceeds MaxBytes\r\nNats-Pending-Bytes: {left}\r\n\r\n"
        api.nats.hpublish(reply, status.encode(), b"")
    run(lambda: len(requests) == 3)
    api.nats.publish(requests[2], b"y" * 800, ack_reply(2))
    run(lambda: len(got) == 2)
    bodies = [body for verb, body in api.asked if verb.startswith("CONSUMER.MSG.NEXT")]
    assert bodies[2]["max_bytes"] == 1000
    assert got == [500, 800]
    assert len(bodies) <= 4
    consume.stop()


def test_a_request_without_the_right_to_ask_ends_at_once(client, own_server, call, tmp_path):
    config = f"""
    jetstream {{ store_dir: "{tmp_path}" }}
    accounts {{ A {{ jetstream: enabled, users: [
      {{ user: poor, password: a, permissions: {{ publish: {{ deny: ["$JS.API.>", "s"] }} }} }} ] }} }}
    """
    nats = client(own_server(config=config), user="poor", password="a", on_error=lambda err: None)
    js = JetStream(nats, timeout=60_000)
    for method, *args in (
        (js.stream_info, "S"),
        (js.consumer_create, "S", {"durable_name": "c"}),
        (js.direct_get, "S", 1),
        (js.stream_names,),
        (js.publish, "s", b""),
        (js.fetch, "S", "c", {"batch": 5}),
    ):
        answer, error = call(method, *args)
        assert answer is None
        assert isinstance(error, PermissionsViolationError)


@pytest.mark.parametrize(("seconds", "beats"), [(30, None), (31, 15_000 * MS)])
@pytest.mark.parametrize("way", ["fetch", "next"])
def test_a_fetch_that_may_wait_long_has_heartbeats(api, run, way, seconds, beats):
    api.on("CONSUMER.MSG.NEXT", lambda reply: api.nats.publish(reply, b"x", ack_reply(1)))
    got: list[Any] = []
    getattr(api.js, way)(
        "S", "c", {"expires": seconds * 1000 * MS}, lambda *result: got.append(result)
    )
    run(lambda: got)
    assert api.asked[0][1].get("idle_heartbeat") == beats


def test_a_status_with_an_absurd_number_raises_nothing_and_ends_the_request(api, run):
    """Anybody who knows the inbox can send one. Python refuses to read a number of 5,000 digits."""
    requests: list[str] = []
    api.on("CONSUMER.MSG.NEXT", requests.append)
    got: list[Any] = []
    opts = {"max_messages": 1, "expires": 2_000 * MS, "heartbeat": 500 * MS}
    consume = api.js.consume("S", "c", opts, lambda msg, err: got.append(err or msg.data))
    run(lambda: requests)
    digits = b"9" * 5000
    status = b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 1\r\nNats-Pending-Bytes: %b\r\n\r\n"
    api.nats.hpublish(requests[0], status % digits, b"")
    run(lambda: len(requests) == 2)
    api.nats.publish(requests[1], b"x", ack_reply(1))
    run(lambda: got)
    assert got == [b"x"]
    consume.stop()
