"""Numbers at their ends, missing rights, and what other clients left: streams, consumers, messages."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from lab.broker import broker
from lab.scripted_api import ScriptedApi, failure
from lab.server_versions import line_binary
from nats_ev import (
    ApiLevelError,
    BadOptionsError,
    BadSubjectError,
    ConsumerExistsError,
    ConsumerNotFoundError,
    JetStream,
    PermissionsViolationError,
)

CONFIG = {"name": "S", "subjects": ["s.>"], "storage": "memory", "allow_direct": True}
EXISTS = failure(400, 10148, "consumer already exists")
GONE = failure(404, 10014, "consumer not found")


@pytest.fixture
def stream(js: JetStream, call: Any) -> JetStream:
    call(js.stream_create, CONFIG)
    for number in range(3):
        call(js.publish, "s.a", b"%d" % number)
    return js


# Numbers and times.


@pytest.mark.parametrize("bad", [0, -1, 2**64, 10**400, True, 1.5, "1"])
def test_a_purge_up_to_an_impossible_sequence_is_refused(stream, call, bad):
    """A server takes 0 for "not given", and deletes everything."""
    with pytest.raises((BadOptionsError, TypeError), match="seq must be"):
        stream.stream_purge("S", {"seq": bad}, print)
    assert call(stream.stream_info, "S")[0]["state"]["messages"] == 3


@pytest.mark.parametrize("bad", [-1, 2**64, 10**400, True, 1.5, "1"])
def test_a_purge_that_keeps_an_impossible_number_is_refused(stream, bad):
    with pytest.raises((BadOptionsError, TypeError), match="keep must be"):
        stream.stream_purge("S", {"keep": bad}, print)


@pytest.mark.parametrize(("opts", "left"), [({"seq": 1}, 3), ({"seq": 3}, 1), ({"keep": 0}, 0)])
def test_a_purge_at_the_ends(stream, call, opts, left):
    assert call(stream.stream_purge, "S", opts)[1] is None
    assert call(stream.stream_info, "S")[0]["state"]["messages"] == left


@pytest.mark.parametrize("subject", [".s", "s.", "s..a"])
def test_a_direct_get_of_an_impossible_subject_is_refused(stream, subject):
    with pytest.raises(BadSubjectError, match="empty token"):
        stream.direct_get_last("S", subject, print)
    with pytest.raises(BadSubjectError, match="empty token"):
        stream.direct_get("S", {"last_by_subj": subject}, print)


@pytest.mark.parametrize("subject", ["s.a", "s.*", ">"])
def test_a_direct_get_takes_wildcards(stream, call, subject):
    assert call(stream.direct_get_last, "S", subject)[0].seq == 3


def test_a_nak_is_not_delayed_beyond_what_a_server_can_count(any_js, call):
    """The delay was beyond 64 bits of nanoseconds, and the message came again at once."""
    call(any_js.stream_create, CONFIG)
    call(any_js.publish, "s.a", b"")
    call(any_js.consumer_create, "S", {"durable_name": "c", "ack_policy": "explicit"})
    message, _ = call(any_js.next, "S", "c")
    for delay in (2**53, timedelta(days=36501), timedelta.max):
        with pytest.raises(BadOptionsError, match=r"100 years|time"):
            message.nak(delay)
    assert not message.acked
    message.nak(timedelta(days=36500))
    opts = {"expires": timedelta(milliseconds=300)}
    assert call(any_js.fetch, "S", "c", opts) == ([], None)


def test_times_at_their_ends_are_served_or_refused(stream, call):
    with pytest.raises(BadOptionsError, match="9999"):
        stream.consumer_pause("S", "c", timedelta.max, print)
    begin = {"name": "c", "deliver_policy": "by_start_time"}
    west = timezone(timedelta(hours=-5))
    for bad in (datetime.min, datetime.max.replace(tzinfo=west)):
        with pytest.raises(ValueError, match="year 1 to 9999"):
            stream.consumer_create("S", {**begin, "opt_start_time": bad}, print)
    oldest = datetime(1, 1, 2, tzinfo=timezone.utc)
    info, err = call(stream.consumer_create, "S", {**begin, "opt_start_time": oldest})
    assert err is None
    assert info["config"]["opt_start_time"].startswith("0001-01-02T")


# Consumers and streams of other clients, servers and moments.


@pytest.mark.parametrize(("theirs", "ours"), [(1000, -1), (-1, 1000), (-1, None)])
def test_a_consumer_with_another_bound_of_unacknowledged_messages_is_another_one(
    any_js, call, theirs, ours
):
    call(any_js.stream_create, CONFIG)
    config = {"durable_name": "c", "ack_policy": "explicit"}
    assert call(any_js.consumer_create, "S", {**config, "max_ack_pending": theirs})[1] is None
    again = config if ours is None else {**config, "max_ack_pending": ours}
    assert isinstance(call(any_js.consumer_create, "S", again)[1], ConsumerExistsError)


@pytest.mark.parametrize(
    ("ours", "theirs", "replicas", "same"),
    [
        (1, 0, None, True),  # no cluster
        (1, None, None, True),
        (1, 0, 2, False),  # 0: as many as the stream has
        (3, 0, 2, True),
        (1, 1, 0, True),
        (None, 1, 0, False),
    ],
)
def test_a_consumer_with_other_replicas_is_another_one(
    connected, fake, call, ours, theirs, replicas, same
):
    api = ScriptedApi(connected(fake(broker)))
    config = {"durable_name": "c", "ack_policy": "explicit"}
    info: dict[str, Any] = {"name": "c", "config": {**config, "num_replicas": theirs}}
    if replicas is not None:
        info["cluster"] = {"leader": "a", "replicas": [{}] * replicas}
    api.on("CONSUMER.CREATE", EXISTS)
    api.on("CONSUMER.INFO", info)
    _, err = call(api.js.consumer_create, "S", {**config, "num_replicas": ours})
    assert (err is None) is same


@pytest.mark.parametrize(
    ("ours", "stored"),
    [
        ({"sources": [{"name": "A", "consumer": {"name": "c"}}]}, {"sources": [{"name": "A"}]}),
        (
            {"sources": [{"name": "A", "subject_transforms": [{"src": "a", "dest": "b"}]}]},
            {"sources": [{"name": "A"}]},
        ),
        (
            {"mirror": {"name": "A", "subject_transforms": [{"src": "a", "dest": "b"}]}},
            {"mirror": {"name": "A"}},
        ),
    ],
)
def test_a_dropped_field_of_a_source_is_seen_in_the_answer(connected, fake, call, ours, stored):
    api = ScriptedApi(connected(fake(broker)))
    api.on("STREAM.CREATE", {"config": {"name": "S", **ours}}, {"config": {"name": "S", **stored}})
    assert call(api.js.stream_create, {"name": "S", **ours})[1] is None
    assert isinstance(call(api.js.stream_create, {"name": "S", **ours})[1], ApiLevelError)


def test_a_word_that_an_older_server_replaced_is_seen_in_the_answer(connected, fake, call):
    api = ScriptedApi(connected(fake(broker)))
    config = {"name": "c", "priority_groups": ["g"], "priority_policy": "prioritized"}
    api.on("CONSUMER.CREATE", {"config": {**config, "priority_policy": "overflow"}})
    assert isinstance(call(api.js.consumer_create, "S", config)[1], ApiLevelError)


def test_create_or_update_before_a_drain_creates(js, connected, run, call):
    nats = connected(None, servers=[js.nats.connected_url()])
    out: list[Any] = []
    JetStream(nats).stream_create_or_update(CONFIG, lambda info, error: out.append(error))
    nats.drain(lambda error: out.append(error))
    run(lambda: len(out) == 2)
    assert out == [None, None]
    assert call(js.stream_names) == (["S"], None)


@pytest.mark.parametrize("status", ["503", "503 No Responders", "404", "408", "100", "204"])
def test_a_status_line_of_a_publisher_is_part_of_its_message(line_server, connected, call, status):
    """nats-server 2.10 stores it; newer ones drop it."""
    assert line_binary("2.10")
    js = JetStream(connected(line_server("2.10")))
    call(js.stream_create, CONFIG)
    call(js.publish, "s.a", b"", headers=b"NATS/1.0 %s\r\n\r\n" % status.encode())
    for method, what in ((js.direct_get, 1), (js.get_msg, 1), (js.direct_get_last, "s.a")):
        message, error = call(method, "S", what)
        assert error is None
        assert (message.seq, message.data) == (1, b"")
    call(js.stream_delete, "S")


# Rights.


@pytest.fixture
def restricted(own_server, connected, call) -> Any:
    """A `JetStream` of a user that may neither acknowledge nor receive on "no.>"."""
    rights = "permissions: {publish: {deny: '$JS.ACK.>'}, subscribe: {deny: 'no.>'}}"
    users = f"{{user: all, password: p}}, {{user: some, password: p, {rights}}}"
    server = own_server(
        jetstream=True, config=f"accounts {{ A {{ jetstream: enabled, users: [{users}] }} }}"
    )
    everything = JetStream(connected(server, user="all", password="p"))
    assert call(everything.stream_create, CONFIG)[1] is None
    assert call(everything.publish, "s.a", b"")[1] is None
    return JetStream(connected(server, user="some", password="p", on_error=lambda error: None))


def test_an_acknowledgement_that_is_not_permitted_ends_at_once(restricted, call):
    call(restricted.consumer_create, "S", {"durable_name": "c", "ack_policy": "explicit"})
    message, _ = call(restricted.next, "S", "c")
    done, error = call(message.ack_sync, timeout=60_000)
    assert done is None
    assert isinstance(error, PermissionsViolationError)
    assert not message.acked


def test_a_push_subscription_that_is_not_permitted_ends(restricted, run, call, eventually):
    told: list[Any] = []
    config = {"deliver_subject": "no.here", "ack_policy": "none"}
    subscription = restricted.push_subscribe("S", config, lambda *got: told.append(got))
    run(lambda: told)
    assert [(message, type(error)) for message, error in told] == [
        (None, PermissionsViolationError)
    ]
    assert subscription.closed
    eventually(lambda: call(restricted.consumer_names, "S") == ([], None))


# Push consumers across connections.


def test_a_push_consumer_that_is_gone_after_a_reconnect_ends_its_subscription(
    own_server, connected, run, call
):
    """It has no heartbeats, so nothing else would tell."""
    server = own_server(jetstream=True)
    nats = connected(server, reconnect=True, reconnect_delay=10)
    js = JetStream(nats)
    call(js.stream_create, {**CONFIG, "storage": "file"})
    told: list[Any] = []
    begun: list[Any] = []
    js.push_subscribe(
        "S",
        {"name": "p", "ack_policy": "none", "mem_storage": True, "deliver_subject": "d"},
        lambda *got: told.append(got),
        on_start=begun.append,
    )
    run(lambda: begun)
    server.kill()
    server.start()
    run(lambda: told)
    assert [(message, type(error)) for message, error in told] == [(None, ConsumerNotFoundError)]


def test_a_push_consumer_that_is_there_again_goes_on(connected, fake, run):
    api = ScriptedApi(connected(fake(broker, broker), reconnect=True, reconnect_delay=1))
    api.on("CONSUMER.INFO", {"config": {"deliver_subject": "d"}}, GONE, {"config": {}})
    told: list[Any] = []
    begun: list[Any] = []
    subscription = api.js.push_subscribe(
        "S", "c", lambda *got: told.append(got), on_start=begun.append
    )
    run(lambda: begun)
    api.nats.force_reconnect()
    run(lambda: api.count("CONSUMER.INFO") == 3)
    api.nats.publish("d", b"x")
    run(lambda: told)
    assert told[0][1] is None
    assert not subscription.closed


def test_no_subject_means_an_inbox(stream, run):
    told: list[Any] = []
    config = {"ack_policy": "none", "deliver_subject": None}
    stream.push_subscribe("S", config, lambda message, error: told.append(error))
    run(lambda: len(told) == 3)
    assert told == [None] * 3


@pytest.mark.parametrize("bad", [0, -1, 2**64, "", 1.5, True])
def test_a_reset_to_an_impossible_sequence_is_refused(js, bad):
    """A server takes 0 for "not given": another place than the one that was asked for."""
    with pytest.raises((BadOptionsError, TypeError), match="seq must be"):
        js.consumer_reset("S", "c", bad, print)
