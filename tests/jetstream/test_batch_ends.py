"""Batches under a drain, without a right, with bad messages, and on a server that does not know batches."""

from __future__ import annotations

from typing import Any

import pytest

from lab import inside
from lab.broker import broker
from lab.scripted_api import ScriptedApi
from lab.server_versions import line_binary
from nats_ev import (
    ApiLevelError,
    BadSubjectError,
    BatchClosedError,
    ConnectionDrainingError,
    JetStream,
    PermissionsViolationError,
)

STREAM = {
    "name": "B",
    "subjects": ["b.>"],
    "storage": "memory",
    "allow_atomic": True,
    "allow_batched": True,
}
KINDS = ["atomic_batch", "fast_batch"]
pytestmark = pytest.mark.since(2, 14)


@pytest.fixture
def stream(js: JetStream, call: Any) -> JetStream:
    assert call(js.stream_create, STREAM)[1] is None
    return js


@pytest.mark.parametrize("how", ["commit", "close"])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_that_was_committed_before_a_drain_is_stored(
    stream, connected, run, kind, begun, how
):
    nats = connected(None, servers=[stream.nats.connected_url()])
    batch = getattr(JetStream(nats), kind)()
    batch.add("b.1")
    if begun:
        run(lambda: inside.has_begun(batch))
    batch.add("b.2")
    out: list[Any] = []
    if how == "close":
        batch.close(lambda ack, error: out.append((ack, error)))
    else:
        batch.commit("b.3", b"", lambda ack, error: out.append((ack, error)))
    nats.drain(lambda error: out.append(error))
    run(lambda: len(out) == 2)
    (ack, error), drained = out
    assert (error, drained) == (None, None)
    assert ack["count"] == (2 if how == "close" else 3)


def test_a_drain_waits_for_messages_of_an_open_fast_batch_and_then_ends_it(stream, connected, run):
    nats = connected(None, servers=[stream.nats.connected_url()])
    batch = JetStream(nats).fast_batch(flow=1)
    out: list[Any] = []
    for _ in range(3):
        batch.add("b.1", b"", lambda result, error: out.append(error))
    nats.drain(lambda error: out.append(error))
    run(lambda: len(out) == 4)
    assert out == [None] * 4
    with pytest.raises(BatchClosedError):
        batch.close(print)


def test_a_drain_ends_an_idle_fast_batch(stream, connected, run):
    nats = connected(None, servers=[stream.nats.connected_url()])
    errors: list[Any] = []
    out: list[Any] = []
    batch = JetStream(nats).fast_batch(flow=1, on_error=errors.append)
    batch.add("b.1")
    run(lambda: batch.acked == 1)
    nats.drain(lambda error: out.append(error))
    run(lambda: out)
    assert out == [None]
    assert [type(error) for error in errors] == [ConnectionDrainingError]


@pytest.fixture
def restricted(own_server, connected, call) -> Any:
    """A client that may not publish to b.no, on a server with the stream."""
    users = (
        "{user: all, password: p}, {user: some, password: p, permissions: {publish: {deny: b.no}}}"
    )
    server = own_server(
        jetstream=True, config=f"accounts {{ A {{ jetstream: enabled, users: [{users}] }} }}"
    )
    everything = connected(server, user="all", password="p")
    assert call(JetStream(everything).stream_create, STREAM)[1] is None
    return connected(server, user="some", password="p", on_error=lambda error: None)


@pytest.mark.parametrize("denied", range(3))
@pytest.mark.parametrize("kind", ["atomic_batch", "fast_batch"])
def test_a_message_that_the_user_may_not_publish_ends_its_batch_at_once(
    restricted, call, kind, denied
):
    batch = getattr(JetStream(restricted, timeout=60_000), kind)()
    subjects = ["b.no" if number == denied else "b.yes" for number in range(3)]
    batch.add(subjects[0])
    batch.add(subjects[1])
    ack, error = call(batch.commit, subjects[2], b"")
    assert ack is None
    # One in the middle is missing: the server says so.
    assert isinstance(error, PermissionsViolationError) is (denied != 1)


@pytest.mark.parametrize("gap_ok", [False, True])
def test_messages_before_a_commit_that_is_not_permitted_are_told_as_stored(
    restricted, call, gap_ok
):
    batch = JetStream(restricted, timeout=60_000).fast_batch(gap_ok=gap_ok)
    told: list[Any] = []
    batch.add("b.yes", b"", lambda result, error: told.append((result, error)))
    _, error = call(batch.commit, "b.no", b"")
    assert isinstance(error, PermissionsViolationError)
    assert told == [({"batch_seq": 1, "ack_seq": 1}, None)]


def test_the_callback_of_a_commit_comes_after_those_of_the_messages(stream, run):
    batch = stream.fast_batch()
    order: list[Any] = []
    for number in range(3):
        batch.add("b.1", b"", lambda result, error, number=number: order.append(number))
    batch.commit("b.1", b"", lambda ack, error: order.append(error))
    run(lambda: len(order) == 4)
    assert order == [0, 1, 2, None]


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_of_a_batch_is_no_message(stream, call, kind):
    batch = getattr(stream, kind)()
    batch.add("b.1")
    ack, _ = call(batch.close)
    assert (batch.size, ack["count"]) == (1, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_first_message_that_is_refused_leaves_nothing_behind(stream, call, kind):
    nats = stream.nats
    before = nats.subscription_count()
    batch = getattr(stream, kind)()
    for _ in range(3):
        with pytest.raises(BadSubjectError):
            batch.add("b 1")
    assert nats.subscription_count() == before
    batch.add("b.1")
    assert call(batch.close)[0]["count"] == 1
    assert nats.subscription_count() == before


def test_a_batch_that_the_server_has_ended_says_at_the_commit_what_is_stored(
    connected, fake, run, call
):
    nats = connected(fake(broker))
    replies: list[str] = []
    nats.subscribe("b.*", lambda subject, payload, reply, headers: replies.append(reply))
    batch = JetStream(nats).fast_batch()
    batch.add("b.1")
    run(lambda: replies)
    nats.publish(replies[0], '{"stream": "B", "seq": 9, "batch": "x", "count": 1}')
    run(lambda: batch.closed)
    with pytest.raises(BatchClosedError) as caught:
        batch.commit("b.1", b"", print)
    assert caught.value.ack is not None
    assert caught.value.ack["seq"] == 9


# A server that does not know batches, or not all of the members' options.


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_stores_the_first_message_by_itself_gets_no_other(
    connected, fake, call, kind
):
    """As the hub does across a leaf node that has a JetStream of its own."""
    nats = connected(fake(broker))
    stored: list[Any] = []

    def store(subject: str, payload: bytes, reply: str | None, headers: Any) -> None:
        stored.append(payload)
        if reply:
            nats.publish(reply, b'{"stream": "B", "seq": %d}' % len(stored))

    nats.subscribe("b.*", store)
    batch = getattr(JetStream(nats), kind)()
    batch.add("b.1", b"1")
    batch.add("b.1", b"2")
    ack, error = call(batch.commit, "b.1", b"3")
    assert ack is None
    assert isinstance(error, ApiLevelError)
    assert error.ack == {"stream": "B", "seq": 1, "duplicate": False}
    assert stored == [b"1"]


def test_a_single_message_that_was_stored_as_no_batch_is_no_success(connected, fake, call):
    nats = connected(fake(broker))
    nats.subscribe("b.*", lambda s, p, reply, h: nats.publish(reply, b'{"stream":"B","seq":1}'))
    for kind in KINDS:
        batch = getattr(JetStream(nats), kind)()
        assert isinstance(call(batch.commit, "b.1", b"")[1], ApiLevelError)


AT = "@at 2100-01-01T00:00:00Z"


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"schedule_source": "b.x"},
        {"schedule_rollup": "sub"},
        {"schedule_time_zone": "CET"},
        {"schedule": "@every 1h"},
    ],
)
def test_options_of_an_atomic_batch_are_judged_like_those_of_a_publish(
    line_server, connected, call, options, first
):
    assert line_binary("2.12")
    js = JetStream(connected(line_server("2.12")))
    config = {"name": "B", "subjects": ["b.>"], "storage": "memory"}
    call(js.stream_create, {**config, "allow_atomic": True, "allow_msg_schedules": True})
    options = {"schedule": AT, "schedule_target": "b.t", **options}
    batch = js.atomic_batch()
    members: list[Any] = [options, {}] if first else [{}, options]
    for member in members:
        batch.add("b.1", b"", **member)
    assert isinstance(call(batch.commit, "b.1", b"")[1], ApiLevelError)
    assert call(js.stream_info, "B")[0]["state"]["messages"] == 0
    call(js.stream_delete, "B")


def test_an_atomic_batch_of_another_domain_is_judged_by_its_level(connected, fake, call):
    api = ScriptedApi(connected(fake(lambda peer: broker(peer, domain="leaf"))))
    nats = api.nats
    nats.subscribe("$JS.hub.API.INFO", lambda s, p, r, h: nats.publish(r, '{"api": {"level": 2}}'))

    def store(subject: str, payload: bytes, reply: str | None, headers: bytes) -> None:
        if reply and b"Batch-Commit" in headers:
            nats.publish(
                reply, b'{"stream":"B","seq":2,"domain":"hub","batch":"%s"}' % batch.id.encode()
            )
        elif reply:
            nats.publish(reply)

    nats.subscribe("b.*", store)
    nats.subscribe("$JS.API.INFO", lambda s, p, r, h: nats.publish(r, '{"api": {"level": 5}}'))
    batch = JetStream(nats).atomic_batch()
    batch.add("b.1", schedule=AT, schedule_target="b.t", schedule_source="b.s")
    _, error = call(batch.commit, "b.1", b"")
    assert isinstance(error, ApiLevelError)
    assert str(error).startswith("schedule_source: nats-server 2.14")
