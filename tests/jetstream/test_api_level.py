"""Features are judged by the JetStream that answers, not by the server that the client is connected to."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from lab import inside
from lab.broker import broker
from lab.natsserver import NatsServer
from lab.scripted_api import OVERLOADED, ScriptedApi, failure
from lab.server_versions import line_binary
from nats_ev import ApiLevelError, JetStream
from nats_ev.testing import free_port


@pytest.fixture
def across(own_server, connected, run) -> Callable[[str, str], JetStream]:
    """across(hub, leaf) → JetStream of the hub's line, asked through a leaf node of the other one."""

    def make(hub: str, leaf: str) -> JetStream:
        port = free_port()
        own_server(
            jetstream=True,
            config=f"jetstream {{ domain: hub }}\nleafnodes {{ listen: '127.0.0.1:{port}' }}",
            binary=line_binary(hub),
        )
        end: NatsServer = own_server(
            config=f"leafnodes {{ remotes: [{{ url: 'nats://127.0.0.1:{port}' }}], reconnect: 1 }}",
            binary=line_binary(leaf),
        )
        js = JetStream(connected(end), timeout=2000, domain="hub")
        answers: list[Any] = []

        def ask(result: Any = None, error: Any = None) -> None:
            if error is None and result is not None:
                answers.append(result)
            else:
                js.nats.call_later(20, lambda: js.account_info(ask))

        ask()
        run(lambda: answers)
        return js

    return make


MESSAGES: list[dict[str, Any]] = [
    {"ttl": 1000},
    {"incr": 1},
    {"schedule": timedelta(minutes=1), "schedule_target": "s.b"},
]
STREAMS: list[dict[str, Any]] = [
    {"allow_msg_ttl": True},
    {"allow_atomic": True},
    {"allow_msg_counter": True},
    {"allow_msg_schedules": True},
    {"allow_batched": True},
    {"persist_mode": "async", "storage": "file"},
]


@pytest.mark.since(2, 14)
def test_an_older_jetstream_across_a_leaf_node_refuses_what_it_would_drop(across, call):
    js = across("2.10", "newest")
    base = {"name": "S", "subjects": ["s.*"], "storage": "memory"}
    for fields in STREAMS:
        assert isinstance(call(js.stream_create, {**base, **fields})[1], ApiLevelError), fields
    assert call(js.stream_names) == ([], None)
    assert call(js.stream_create, base)[1] is None
    for options in MESSAGES:
        assert isinstance(call(js.publish, "s.a", b"", **options)[1], ApiLevelError), options
    batch = js.atomic_batch()
    batch.add("s.a")
    batch.add("s.a")
    assert isinstance(call(batch.commit, "s.a", b"")[1], ApiLevelError)
    fast = js.fast_batch()
    fast.add("s.a")
    assert isinstance(call(fast.close)[1], ApiLevelError)
    assert call(js.stream_info, "S")[0]["state"]["last_seq"] == 0


@pytest.mark.since(2, 14)
def test_a_newer_jetstream_across_an_older_leaf_node_is_used(across, call):
    js = across("newest", "2.10")
    for fields in STREAMS:
        info, err = call(js.stream_create, {"name": "S", "subjects": ["s.*"], **fields})
        assert err is None, fields
        assert all(info["config"][name] == value for name, value in fields.items())
        call(js.stream_delete, "S")


def test_a_dropped_field_is_seen_in_the_answer(connected, fake, call):
    """The check beforehand may have looked at another server, as in a cluster during an upgrade."""
    api = ScriptedApi(connected(fake(broker)))
    stored = {"name": "S", "subjects": ["s"]}
    api.on("STREAM.CREATE", {"config": stored, "did_create": True}, {"config": stored})
    api.on("STREAM.DELETE", {"success": True})
    config = {**stored, "allow_msg_ttl": True, "allow_atomic": True}
    info, err = call(api.js.stream_create, config)
    assert info is None
    assert isinstance(err, ApiLevelError)
    assert "allow_msg_ttl, allow_atomic: nats-server 2.12 or later" in str(err)
    assert api.count("STREAM.DELETE.S") == 1
    assert isinstance(call(api.js.stream_create, config)[1], ApiLevelError)
    assert api.count("STREAM.DELETE.S") == 1  # the stream was there before: it stays
    api.on("CONSUMER.CREATE", {"name": "c", "config": {"name": "c"}})
    config = {"name": "c", "priority_groups": ["g"], "priority_policy": "overflow"}
    assert isinstance(call(api.js.consumer_create, "S", config)[1], ApiLevelError)


def test_a_jetstream_that_does_not_tell_its_level_is_judged_by_the_connected_server(
    connected, fake, call
):
    api = ScriptedApi(connected(fake(broker)))
    api.on("INFO", failure(503, 10039, "not now"))
    api.on("CONSUMER.PAUSE", {"paused": True})
    assert call(api.js.consumer_pause, "S", "c", timedelta(hours=1)) == ({"paused": True}, None)
    assert call(api.js.consumer_pause, "S", "c", timedelta(hours=1))[1] is None
    assert api.count("INFO") == 1  # the answer counts for a while


def test_a_user_who_may_not_ask_for_the_level_waits_for_it_once(connected, fake, call):
    api = ScriptedApi(connected(fake(broker)), timeout=100)
    api.on("INFO", None)
    api.on("CONSUMER.PAUSE", {"paused": True})
    api.on("STREAM.CREATE", {"config": {"name": "S", "metadata": {"a": "b"}}})
    config = {"name": "S", "subjects": ["s"], "metadata": {"a": "b"}}
    assert call(api.js.stream_create, config)[1] is None
    assert api.count("INFO") == 0  # metadata is older than API levels
    for _ in range(3):
        assert call(api.js.consumer_pause, "S", "c", timedelta(hours=1))[1] is None
    assert api.count("INFO") == 1


@pytest.mark.parametrize(("level", "refused"), [(0, True), (1, False), (5, False)])
def test_the_level_of_the_jetstream_that_answers_counts(connected, fake, call, level, refused):
    api = ScriptedApi(connected(fake(broker)))
    api.on("INFO", {"api": {"level": level} if level else {"total": 1}})
    api.on("CONSUMER.PAUSE", {"paused": True})
    _, err = call(api.js.consumer_pause, "S", "c", timedelta(hours=1))
    assert isinstance(err, ApiLevelError) is refused


# A stream of another domain than the JetStream that was asked.


@pytest.mark.since(2, 14)
def test_a_message_that_the_hub_stores_is_judged_by_the_hub(
    own_server, connected, call, eventually
):
    """The leaf node has a JetStream of its own, which is newer; subjects lead to the hub's stream."""
    port = free_port()
    hub = own_server(
        jetstream=True,
        config=f"jetstream {{ domain: hub }}\nleafnodes {{ listen: '127.0.0.1:{port}' }}",
        binary=line_binary("2.10"),
    )
    leaf = own_server(
        jetstream=True,
        config=f"jetstream {{ domain: leaf }}\n"
        f"leafnodes {{ remotes: [{{ url: 'nats://127.0.0.1:{port}' }}], reconnect: 1 }}",
    )
    there, js = JetStream(connected(hub)), JetStream(connected(leaf), timeout=2000)
    assert call(there.stream_create, {"name": "S", "subjects": ["s.*"]})[1] is None
    eventually(lambda: call(js.publish, "s.a", b"")[1] is None)
    for options in [*MESSAGES, {"ttl": 2000}]:
        ack, err = call(js.publish, "s.a", b"", **options)
        assert ack is None
        assert isinstance(err, ApiLevelError), options
        assert err.ack["domain"] == "hub"
        assert f"stored without in S, sequence {err.ack['seq']}" in str(err)
    for kind in ("atomic_batch", "fast_batch"):
        batch = getattr(js, kind)()
        batch.add("s.b")
        batch.add("s.b")
        assert isinstance(call(batch.commit, "s.b", b"")[1], ApiLevelError)
    info, _ = call(there.stream_info, "S", {"subjects_filter": "s.b"})
    assert info["state"]["subjects"] == {"s.b": 2}  # of each batch only the first


@pytest.mark.parametrize(
    ("prefix", "answer", "refused"),
    [
        ("$JS.API", {"api": {"level": 0}}, True),
        ("$JS.API", {"api": {"level": 1}}, False),
        ("$JS.API", failure(503, 10039, "not enabled"), False),
        ("$JS.API", None, False),
        ("$JS.here.API", {"api": {}}, True),
        ("$JS.there.API", {"api": {}}, False),  # the one that was asked before
        ("JS.import", {"api": {}}, False),  # nothing tells its domain
    ],
)
def test_an_acknowledgement_of_another_domain_is_judged_by_that_domain(
    connected, fake, call, prefix, answer, refused
):
    nats = connected(fake(broker))
    js = JetStream(nats, prefix=prefix, timeout=100)
    asked: list[str] = []

    def info(subject: str, payload: bytes, reply: str, headers: Any) -> None:
        asked.append(subject)
        ours = subject == f"{prefix}.INFO"
        if ours or answer is not None:
            nats.publish(reply, json.dumps({"api": {"level": 4}} if ours else answer))

    nats.subscribe("*.*.*.INFO", info)
    nats.subscribe("*.*.INFO", info)
    ack = {"stream": "S", "seq": 1, "domain": "there"}
    nats.subscribe("s.a", lambda s, p, reply, h: nats.publish(reply, json.dumps(ack)))
    for _ in range(2):
        _, err = call(js.publish, "s.a", b"", ttl=1000)
        assert isinstance(err, ApiLevelError) is refused
    assert len(asked) == len(set(asked))  # what was learnt counts for a while
    before = len(asked)
    assert call(js.publish, "s.a", b"")[1] is None
    assert len(asked) == before  # a message without such options needs no answer


def test_a_counter_that_did_not_count_is_no_success(connected, fake, call):
    nats = connected(fake(broker))
    answer = '{"stream": "S", "seq": 7}'
    nats.subscribe("s.a", lambda s, p, reply, h: nats.publish(reply, answer))
    _, err = call(JetStream(nats).publish, "s.a", b"", incr=1)
    assert isinstance(err, ApiLevelError)
    assert err.ack["seq"] == 7


def test_calls_that_wait_for_the_level_share_one_question(connected, fake, run):
    api = ScriptedApi(connected(fake(broker)))
    api.on("INFO", {"api": {"level": 4}})
    api.on("CONSUMER.PAUSE", {"paused": True})
    told: list[Any] = []
    for _ in range(20):
        api.js.consumer_pause(
            "S", "c", timedelta(hours=1), lambda result, error: told.append(error)
        )
    run(lambda: len(told) == 20)
    assert told == [None] * 20
    assert api.count("INFO") == 1


def test_a_level_that_could_not_be_told_just_now_is_asked_for_again(
    connected, fake, call, monkeypatch
):
    """As while a cluster elects a leader: until then the connected server's level counts."""
    clock = inside.level_clock(monkeypatch)
    api = ScriptedApi(connected(fake(broker)))
    api.on("INFO", OVERLOADED, {"api": {"level": 0}})
    api.on("CONSUMER.PAUSE", {"paused": True})
    assert call(api.js.consumer_pause, "S", "c", timedelta(hours=1))[1] is None
    clock(3)
    assert isinstance(call(api.js.consumer_pause, "S", "c", timedelta(hours=1))[1], ApiLevelError)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"ttl": 1000}, "allow_msg_ttl"),
        ({"msg_ttl": "5s"}, "allow_msg_ttl"),
        ({"schedule": timedelta(minutes=1), "schedule_target": "s.b"}, "allow_msg_schedules"),
    ],
)
def test_a_stream_whose_leader_is_older_than_the_one_that_told_the_level_is_no_success(
    connected, fake, call, options, field
):
    """As in a cluster that is being upgraded: a leader that knew the field would have refused."""
    api = ScriptedApi(connected(fake(broker)))
    api.on("INFO", {"api": {"level": 4}})
    api.on("STREAM.INFO", {"config": {"name": "S"}}, {"config": {"name": "S", field: True}})
    ack = '{"stream": "S", "seq": 3}'
    api.nats.subscribe("s.a", lambda s, p, reply, h: api.nats.publish(reply, ack))
    _, err = call(api.js.publish, "s.a", b"", **options)
    assert isinstance(err, ApiLevelError)
    assert err.ack["seq"] == 3
    for _ in range(3):  # another leader now
        assert call(api.js.publish, "s.a", b"", **options)[1] is None
    assert api.count("STREAM.INFO") == 2
    assert api.count("INFO") == 1


@pytest.mark.parametrize("answer", [failure(404, 10059, "stream not found"), {"config": 5}, b"{"])
def test_a_stream_that_can_not_be_asked_for_is_believed(connected, fake, call, answer):
    api = ScriptedApi(connected(fake(broker)))
    api.on("INFO", {"api": {"level": 4}})
    api.on("STREAM.INFO", answer)
    ack = '{"stream": "S", "seq": 3}'
    api.nats.subscribe("s.a", lambda s, p, reply, h: api.nats.publish(reply, ack))
    for _ in range(2):
        assert call(api.js.publish, "s.a", b"", ttl=1000)[1] is None
    assert api.count("STREAM.INFO") == 1
