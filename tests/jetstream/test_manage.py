"""Streams and consumers are managed on every line of servers; configurations are checked beforehand.

C8 is a row of the audit of the client that this one mirrors: it listed the first page, and dropped err_code.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from lab.js_configs import ALL_CONSUMER, ALL_STREAM
from lab.js_servers import LINES
from nats_ev import (
    APIError,
    ApiLevelError,
    BadOptionsError,
    ConsumerExistsError,
    ConsumerNotFoundError,
    JetStream,
    JetStreamError,
    MessageNotFoundError,
    NatsError,
    NoRespondersError,
    NotConnectedError,
    StreamNameAlreadyInUseError,
    StreamNotFoundError,
    SubjectOverlapError,
)


def test_what_the_server_returned_can_be_passed_back_unchanged(any_js, call):
    created, err = call(any_js.stream_create, ALL_STREAM)
    assert err is None
    config = created["config"]
    assert config["max_age"] == 3_600_000_000_000
    assert config["consumer_limits"]["max_ack_pending"] == 100
    for method in (any_js.stream_create, any_js.stream_update, any_js.stream_create_or_update):
        again, err = call(method, config)
        assert err is None
        assert again["config"] == config
    created, err = call(any_js.consumer_create, "ALL", ALL_CONSUMER)
    assert err is None
    config = created["config"]
    assert config["backoff"] == [1_000_000_000, 2_000_000_000]
    for name in ("consumer_create", "consumer_update", "consumer_create_or_update"):
        again, err = call(getattr(any_js, name), "ALL", config)
        assert err is None
        assert again["config"] == config


def test_every_field_is_sent_as_the_wires_json(any_js, call):
    """A strict server (2.12 and later) refuses an unknown field; every one lists what it has stored."""
    info, _ = call(any_js.stream_create, ALL_STREAM)
    sent = {k: v for k, v in ALL_STREAM.items() if k not in ("compression", "metadata")}
    for name, value in sent.items():
        if isinstance(value, timedelta):
            value = value // timedelta(microseconds=1) * 1000
        if name == "consumer_limits":
            continue
        assert info["config"][name] == value, name


def test_C8_streams_and_consumers_are_listed_beyond_one_page(js, call, run):
    js = JetStream(js.nats, timeout=30_000)
    done: list[Any] = []
    for i in range(300):  # 256 a page, 1024 names
        config = {"name": f"P{i:03}", "subjects": [f"p.{i}"], "storage": "memory"}
        js.stream_create(config, lambda info, err: done.append(err))
    run(lambda: len(done) == 300, 30)
    assert call(js.stream_names, {"subject": "p.299"}) == (["P299"], None)
    listed, err = call(js.stream_list)
    assert err is None
    assert done == [None] * 300
    assert sorted(s["config"]["name"] for s in listed["streams"]) == [
        f"P{i:03}" for i in range(300)
    ]
    assert listed["total"] == 300
    for i in range(270):
        js.consumer_create("P000", {"name": f"c{i:03}"}, lambda info, err: done.append(err))
    run(lambda: len(done) == 570, 30)
    listed, err = call(js.consumer_list, "P000")
    assert err is None
    assert len({c["name"] for c in listed["consumers"]}) == 270
    names, err = call(js.consumer_names, "P000")
    assert sorted(names) == [f"c{i:03}" for i in range(270)]
    assert call(js.stream_name_by_subject, "p.7") == ("P007", None)
    assert isinstance(call(js.stream_name_by_subject, "q")[1], StreamNotFoundError)


def test_stream_subjects_are_counted(any_js, call):
    call(any_js.stream_create, {"name": "S", "subjects": ["s.*"], "storage": "memory"})
    for i in range(6):
        call(any_js.publish, f"s.{i % 3}", b"")
    call(any_js.stream_msg_delete, "S", 2)
    opts = {"subjects_filter": ">", "deleted_details": True}
    info, err = call(any_js.stream_info, "S", opts)
    assert err is None
    assert info["state"]["subjects"] == {"s.0": 2, "s.1": 1, "s.2": 2}
    assert info["state"]["deleted"] == [2]


def test_purge_by_filter_sequence_and_keep(any_js, call):
    call(any_js.stream_create, {"name": "S", "subjects": ["s.*"], "storage": "memory"})
    for i in range(10):
        call(any_js.publish, f"s.{i % 2}", b"")
    assert call(any_js.stream_purge, "S", {"filter": "s.0", "keep": 2})[0]["purged"] == 3
    assert call(any_js.stream_purge, "S", {"seq": 5})[0]["purged"] == 2
    assert call(any_js.stream_purge, "S")[0]["purged"] == 5
    with pytest.raises(BadOptionsError, match="seq and keep exclude each other"):
        any_js.stream_purge("S", {"seq": 1, "keep": 1}, print)


def test_message_is_got_by_sequence_last_and_next_deleted_and_erased(any_js, call):
    call(any_js.stream_create, {"name": "S", "subjects": ["s.*"], "storage": "memory"})
    for i in range(4):
        call(any_js.publish, f"s.{i % 2}", str(i), headers={"N": str(i)})
    answer, err = call(any_js.stream_msg_get, "S", {"last_by_subj": "s.0"})
    assert (err, answer["message"]["seq"], answer["message"]["data"]) == (None, 3, "Mg==")
    msg, _ = call(any_js.get_msg, "S", {"next_by_subj": "s.1", "seq": 3})
    assert (msg.seq, msg.data, msg.header("N")) == (4, b"3", "3")
    assert call(any_js.get_last_msg, "S", "s.1")[0].seq == 4
    assert call(any_js.stream_msg_delete, "S", 4)[0]["success"]
    assert call(any_js.secure_delete_msg, "S", 3)[0]["success"]
    _, err = call(any_js.get_msg, "S", 3)
    assert isinstance(err, MessageNotFoundError)
    assert (err.code, err.err_code) == (404, 10037)
    with pytest.raises(BadOptionsError, match="required"):
        any_js.get_msg("S", {}, print)


def test_C8_errors_have_code_err_code_description_and_a_class(any_js, call):
    missing = (
        (any_js.stream_info, "NO"), (any_js.stream_delete, "NO"), (any_js.stream_purge, "NO"),
        (any_js.stream_update, {"name": "NO", "subjects": ["no"]}), (any_js.consumer_list, "NO"),
        (any_js.consumer_create, "NO", {"name": "c"}),
    )  # fmt: skip
    for method, *args in missing:
        result, err = call(method, *args)
        assert result is None
        assert isinstance(err, StreamNotFoundError), (method, err)
        assert isinstance(err, (APIError, JetStreamError, NatsError))
        assert (err.code, err.err_code, err.description) == (404, 10059, "stream not found")
        assert str(err) == "stream not found (code 404): stream 'NO'"
        assert err.stream == "NO"
    call(any_js.stream_create, {"name": "S", "subjects": ["s"], "storage": "memory"})
    same_name = {"name": "S", "subjects": ["t"], "storage": "memory"}
    assert isinstance(call(any_js.stream_create, same_name)[1], StreamNameAlreadyInUseError)
    same_subject = {"name": "T", "subjects": ["s"], "storage": "memory"}
    assert isinstance(call(any_js.stream_create, same_subject)[1], SubjectOverlapError)
    for method in (any_js.consumer_info, any_js.consumer_delete):
        assert isinstance(call(method, "S", "c")[1], ConsumerNotFoundError)
    call(any_js.consumer_create, "S", {"name": "c", "ack_policy": "explicit"})
    _, err = call(
        any_js.consumer_create,
        "S",
        {"name": "c", "ack_policy": "explicit", "ack_wait": timedelta(seconds=7)},
    )
    assert isinstance(err, ConsumerExistsError)
    _, err = call(any_js.consumer_update, "S", {"name": "d", "ack_policy": "explicit"})
    assert isinstance(err, ConsumerNotFoundError)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({}, "stream name required"),
        ({"name": ""}, "stream name required"),
        ({"name": "a.b"}, "invalid stream name 'a.b': it contains '.'"),
        ({"name": "a b"}, "contains ' '"),
        ({"name": "A", "rollup_hdrs": True}, "unknown field 'rollup_hdrs'.*mean 'allow_rollup_hdrs'"),
        ({"name": "A", "storage": "disk"}, "storage .* must be one of file, memory, not 'disk'"),
        ({"name": "A", "mirror": {"nam": "B"}}, "unknown field 'nam' in mirror of stream"),
        ({"name": "A", "sources": [{"name": "B", "domian": "x"}]}, "unknown field 'domian'.*'domain'"),
        ({"name": "A", "mirror": {"domain": "x", "external": {"api": "y"}}}, "exclude each other"),
        ({"name": "A", "max_age": float("nan")}, "not JSON"),
    ],
)  # fmt: skip
def test_bad_stream_configuration_is_refused_at_the_call(js, config, text):
    with pytest.raises(BadOptionsError, match=text):
        js.stream_create(config, print)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"ack_polcy": "none"}, "unknown field 'ack_polcy'.*mean 'ack_policy'"),
        ({"ack_policy": "maybe"}, "ack_policy .* must be one of"),
        ({"durable_name": "a", "name": "b"}, "must be the same"),
        ({"durable_name": "a*"}, "invalid consumer name"),
    ],
)
def test_bad_consumer_configuration_is_refused_at_the_call(js, config, text):
    with pytest.raises(BadOptionsError, match=text):
        js.consumer_create("S", config, print)


def test_wrong_types_are_type_errors_at_the_call(js):
    for call in (
        lambda: js.stream_create({"name": "A"}, None),
        lambda: js.stream_create("A", print),
        lambda: js.stream_info("A"),
        lambda: js.stream_info("A", 5, print),
        lambda: js.stream_info(5, print),
        lambda: js.stream_msg_delete("A", "1", print),
        lambda: js.stream_create({"name": "A", "sources": {}}, print),
        lambda: js.stream_create({"name": "A", "mirror": "B"}, print),
        lambda: js.consumer_pause("A", "c", 5, print),
        lambda: js.fetch("A", "c", {"batch": "1"}, print),
        lambda: js.publish("a", b"", print, nonsense=1),
    ):
        with pytest.raises(TypeError):
            call()


def test_a_consumer_is_created_again_with_the_same_configuration(any_js, call):
    call(any_js.stream_create, {"name": "S", "subjects": ["s.>"]})
    for name, config in {
        "named": {"name": "named"},
        "explicit": {"name": "explicit", "ack_policy": "explicit", "filter_subject": "s.a"},
        "durable": {"durable_name": "durable", "ack_policy": "explicit", "metadata": {"a": "b"}},
        "backoff": {
            "durable_name": "backoff",
            "ack_policy": "explicit",
            "max_deliver": 3,
            "backoff": [timedelta(seconds=1), timedelta(seconds=2)],
            "opt_start_time": datetime(2025, 1, 1, tzinfo=timezone.utc),
            "deliver_policy": "by_start_time",
        },
    }.items():
        first, err = call(any_js.consumer_create, "S", config)
        assert err is None, name
        for again in (config, first["config"], call(any_js.consumer_info, "S", name)[0]["config"]):
            info, err = call(any_js.consumer_create, "S", again)
            assert err is None, (name, again)
            assert info["config"] == first["config"]
    for name, change in {
        "named": {"ack_policy": "explicit"},
        "explicit": {"filter_subject": "s.b"},
        "durable": {"max_deliver": 7},
    }.items():
        config = call(any_js.consumer_info, "S", name)[0]["config"]
        info, err = call(any_js.consumer_create, "S", {**config, **change})
        assert isinstance(err, ConsumerExistsError), name
    config = {"durable_name": "durable", "ack_policy": "explicit"}
    assert isinstance(call(any_js.consumer_create, "S", config)[1], ConsumerExistsError)


def test_a_consumer_of_another_client_is_created_again(any_js, call):
    """Other clients send fewer fields, in other ways: here the request is made by hand."""
    call(any_js.stream_create, {"name": "S", "subjects": ["s.>"]})
    config = {"durable_name": "theirs", "ack_policy": "explicit", "max_ack_pending": 1000}
    body = {"stream_name": "S", "config": {**config, "deliver_policy": "all"}}
    subject = "$JS.API.CONSUMER.DURABLE.CREATE.S.theirs"
    done: list[Any] = []
    any_js.nats.request(subject, json.dumps(body), lambda *got: done.append(got))
    for ours in (config, {"durable_name": "theirs", "ack_policy": "explicit"}):
        info, err = call(any_js.consumer_create, "S", ours)
        assert err is None
        assert info["name"] == "theirs"


GATED = [
    ("stream", {"allow_msg_ttl": True}, (2, 11)),
    ("stream", {"subject_delete_marker_ttl": timedelta(minutes=1)}, (2, 11)),
    ("stream", {"allow_atomic": True}, (2, 12)),
    ("stream", {"allow_msg_counter": True}, (2, 12)),
    ("stream", {"allow_msg_schedules": True}, (2, 12)),
    ("stream", {"persist_mode": "async"}, (2, 12)),
    ("stream", {"allow_batched": True}, (2, 14)),
    ("consumer", {"pause_until": datetime(2100, 1, 1, tzinfo=timezone.utc)}, (2, 11)),
    ("consumer", {"priority_groups": ["g"], "priority_policy": "overflow"}, (2, 11)),
    ("consumer", {"priority_groups": ["g"], "priority_policy": "prioritized"}, (2, 12)),
]


@pytest.mark.parametrize("line", LINES)
def test_field_that_the_server_lacks_is_refused_and_nothing_created(
    line, line_server, connected, call
):
    server = line_server(line)
    js = JetStream(connected(server))
    call(js.stream_create, {"name": "BASE", "subjects": ["base"]})
    for kind, fields, needed in GATED:
        if kind == "stream":
            config = {"name": "GATED", "subjects": ["gated"], **fields}
            if "subject_delete_marker_ttl" in fields:
                config["allow_rollup_hdrs"] = True
            info, err = call(js.stream_create, config)
            left, _ = call(js.stream_names, {"subject": "gated"})
            call(js.stream_delete, "GATED")
        else:
            info, err = call(
                js.consumer_create, "BASE", {"name": "g", "ack_policy": "explicit", **fields}
            )
            left, _ = call(js.consumer_names, "BASE")
            call(js.consumer_delete, "BASE", "g")
        if server.version[:2] >= needed:
            assert err is None, (fields, err)
            assert {k: info["config"].get(k) for k in fields}.keys() == fields.keys()
            assert all(info["config"].get(k) for k in fields), fields
        else:
            assert isinstance(err, ApiLevelError), fields
            assert re.search(rf"nats-server {needed[0]}\.{needed[1]} or later", str(err))
            assert left == []
    call(js.stream_delete, "BASE")


@pytest.mark.since(2, 11)
def test_gated_field_waits_for_the_connection_before_it_is_judged(client, line_server, call):
    js = JetStream(client(line_server("2.10"), reconnect=True))
    config = {"name": "EARLY", "subjects": ["early"], "allow_msg_ttl": True}
    assert isinstance(call(js.stream_create, config)[1], ApiLevelError)
    js = JetStream(client(line_server("newest"), reconnect=True))
    info, err = call(js.stream_create, config)
    assert err is None
    assert info["config"]["allow_msg_ttl"]
    call(js.stream_delete, "EARLY")


@pytest.mark.since(2, 14)
def test_consumer_pause_resume_unpin_and_reset(js, call):
    call(js.stream_create, {"name": "S", "subjects": ["s"], "storage": "memory"})
    call(js.consumer_create, "S", {"name": "c", "ack_policy": "explicit"})
    answer, err = call(js.consumer_pause, "S", "c", timedelta(hours=1))
    assert (err, answer["paused"]) == (None, True)
    assert call(js.consumer_info, "S", "c")[0]["paused"]
    answer, err = call(js.consumer_resume, "S", "c")
    assert (err, answer["paused"]) == (None, False)
    _, err = call(js.consumer_unpin, "S", "c", "g")
    assert err.err_code == 10160
    call(js.publish, "s", b"1")
    (msg,), _ = call(js.fetch, "S", "c")
    assert call(msg.ack_sync) == (True, None)
    answer, err = call(js.consumer_reset, "S", "c", 1)
    assert (err, answer["reset_seq"]) == (None, 1)
    assert [m.data for m in call(js.fetch, "S", "c")[0]] == [b"1"]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("create_or_update_stream", "stream_create_or_update"),
        ("create_or_update_consumer", "consumer_create_or_update"),
        ("pause_consumer", "consumer_pause"),
        ("resume_consumer", "consumer_resume"),
        ("unpin_consumer", "consumer_unpin"),
        ("reset_consumer", "consumer_reset"),
        ("get_last_msg_for_subject", "get_last_msg"),
        ("delete_msg", "stream_msg_delete"),
        ("secure_delete_msg", "stream_msg_erase"),
        ("publish_async_complete", "publish_complete"),
    ],
)
def test_methods_have_nats_gos_names_too(theirs, ours):
    assert getattr(JetStream, theirs) is getattr(JetStream, ours)


def test_account_info_tells_usage_and_limits(any_js, call):
    info, err = call(any_js.account_info)
    assert err is None
    assert {"memory", "storage", "streams", "consumers", "limits", "api"} <= set(info)


def test_other_prefix_and_domain(tmp_path, own_server, connected, call):
    server = own_server(config=f'jetstream {{ domain: hub, store_dir: "{tmp_path}" }}')
    nats = connected(server)
    assert call(JetStream(nats, domain="hub").account_info)[1] is None
    assert call(JetStream(nats, prefix="$JS.hub.API").account_info)[1] is None
    _, err = call(JetStream(nats, domain="elsewhere").account_info)
    assert isinstance(err, NoRespondersError)
    with pytest.raises(BadOptionsError):
        JetStream(nats, prefix="$X", domain="hub")
    with pytest.raises(BadOptionsError, match="wildcards"):
        JetStream(nats, prefix="$JS.*.API")
    for name, value in (("prefix", None), ("prefix", b"$JS.API"), ("domain", 5)):
        with pytest.raises(TypeError, match=f"{name} must be str"):
            JetStream(nats, **{name: value})
    js = JetStream(nats, domain="hub")
    call(js.stream_create, {"name": "S", "subjects": ["s"], "storage": "memory"})
    ack, err = call(js.publish, "s", b"x")
    assert (err, ack["domain"]) == (None, "hub")
    info, err = call(js.stream_create, {"name": "M", "mirror": {"name": "S", "domain": "hub"}})
    assert (err, info["config"]["mirror"]["external"]["api"]) == (None, "$JS.hub.API")


def test_without_jetstream_and_without_a_connection(own_server, connected, client, call):
    js = JetStream(connected(own_server()))
    assert isinstance(call(js.account_info)[1], NoRespondersError)
    assert isinstance(call(js.stream_info, "S")[1], NoRespondersError)
    assert isinstance(call(js.publish, "s", b"", retry_attempts=0)[1], NoRespondersError)
    js = JetStream(client())
    for act in (
        lambda: js.account_info(print),
        lambda: js.publish("s", b"", print),
        lambda: js.publish_async("s", b"", print),
        lambda: js.fetch("S", "c", print),
        lambda: js.consume("S", "c", print),
        lambda: js.ordered_consumer("S", print),
        lambda: js.push_subscribe("S", "c", print),
        lambda: js.direct_get_batch("S", {"batch": 1}, print),
        lambda: js.atomic_batch().add("s"),
        lambda: js.fast_batch().add("s"),
    ):
        with pytest.raises(NotConnectedError):
            act()
    assert js.nats.subscription_count() <= 1  # the inbox of all requests


def test_answer_that_is_not_jetstreams_is_an_error(connected, server, call):
    nats = connected(server)
    js = JetStream(nats, prefix="FAKE")
    answers = iter([b"not json", b"[1]", b'{"error":"odd"}', b'{"error":{"code":500}}'])
    nats.subscribe("FAKE.>", lambda s, p, reply, h: nats.publish(reply, next(answers)))
    texts = [str(call(js.account_info)[1]) for _ in range(4)]
    assert texts[0].startswith("invalid answer")
    assert texts[1:] == [
        "invalid answer: not an object",
        "odd (code 0)",
        "unknown error (code 500)",
    ]
    nats.subscribe("plain", lambda s, p, reply, h: nats.publish(reply, b"{}"))
    assert "not a publish acknowledgement" in str(call(js.publish, "plain", b"")[1])


@pytest.mark.since(2, 11)
def test_direct_batches(js, call):
    config = {"name": "D", "subjects": ["d.*"], "storage": "memory", "allow_direct": True}
    call(js.stream_create, config)
    for i in range(1, 11):
        call(js.publish, f"d.{i % 3}", str(i))
    messages, err = call(js.direct_get_batch, "D", {"batch": 4, "seq": 3})
    assert (err, [m.seq for m in messages]) == (None, [3, 4, 5, 6])
    assert messages[-1].num_pending == 4
    messages, _ = call(js.direct_get_batch, "D", {"batch": 50, "next_by_subj": "d.1"})
    assert [m.data for m in messages] == [b"1", b"4", b"7", b"10"]
    messages, _ = call(js.direct_get_batch, "D", {"multi_last": ["d.0", "d.1"]})
    assert [m.seq for m in messages] == [9, 10]
    messages, _ = call(js.direct_get_batch, "D", {"multi_last": "d.>", "up_to_seq": 6})
    assert [m.seq for m in messages] == [4, 5, 6]
    assert call(js.direct_get_batch, "D", {"multi_last": "e.>"}) == ([], None)
    for i in range(1100):
        js.publish_async("d.x" + str(i), b"", lambda ack, err: None)
    call(js.publish_complete)
    assert call(js.direct_get_batch, "D", {"multi_last": "d.>"})[1].code == 413
    before = js.nats.subscription_count()
    assert isinstance(call(js.direct_get_batch, "E", {"batch": 1})[1], NoRespondersError)
    assert isinstance(call(js.direct_get, "E", 1)[1], NoRespondersError)
    assert js.nats.subscription_count() == before


def test_batch_get_is_refused_by_old_servers(connected, line_server, call):
    js = JetStream(connected(line_server("2.10")))
    _, err = call(js.direct_get_batch, "D", {"batch": 2})
    assert isinstance(err, ApiLevelError)
