"""Durations and filters that can't be meant are refused at the call, before anything is sent."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from lab.broker import broker
from nats_ev import KV, BadOptionsError, BadSubjectError, JetStream, ObjectStore
from nats_ev.times import parse_time, to_wire


@pytest.fixture
def js(connected, fake):
    return JetStream(connected(fake(broker)))


def cb(*args: Any) -> None:
    """A callback that nothing calls here."""


STREAM = ("max_age", "duplicate_window", "subject_delete_marker_ttl")
CONSUMER = ("ack_wait", "max_expires", "idle_heartbeat", "inactive_threshold", "priority_timeout")


@pytest.mark.parametrize("value", [1, 30, 999_999])
def test_a_duration_that_was_meant_as_seconds_is_refused_and_timedelta_is_named(js, value):
    def stream(**fields: Any) -> Any:
        return lambda: js.stream_create({"name": "S", "subjects": ["s"], **fields}, cb)

    def consumer(**fields: Any) -> Any:
        return lambda: js.consumer_create("S", {"durable_name": "c", **fields}, cb)

    calls = [stream(**{name: value}) for name in STREAM]
    calls += [stream(consumer_limits={"inactive_threshold": value})]
    calls += [consumer(**{name: value}) for name in CONSUMER]
    calls += [consumer(backoff=[timedelta(seconds=1), value])]
    for name in ("expires", "heartbeat", "idle_heartbeat"):
        calls += [
            lambda name=name: js.fetch("S", "c", {name: value}, cb),
            lambda name=name: js.next("S", "c", {name: value}, cb),
            lambda name=name: js.consume("S", "c", {name: value}, cb),
            lambda name=name: js.ordered_consumer("S", {name: value}, cb),
        ]
    calls += [
        lambda: js.ordered_consumer("S", {"inactive_threshold": value}, cb),
        lambda: js.ordered_fetcher("S", {"inactive_threshold": value}),
        lambda: js.push_subscribe("S", {"idle_heartbeat": value}, cb),
    ]
    for bucket in (KV(js, "B"), ObjectStore(js, "B")):
        calls += [
            lambda bucket=bucket, word=word: bucket.create_bucket({word: value}, cb)
            for word in ("ttl", "max_age")
        ]
    calls += [lambda: KV(js, "B").update_bucket({"limit_marker_ttl": value}, cb)]
    for call in calls:
        with pytest.raises(BadOptionsError, match=rf"{value} nanoseconds.*timedelta"):
            call()


@pytest.mark.parametrize("value", [0, 1_000_000, timedelta(microseconds=1), None])
def test_a_duration_of_a_millisecond_a_timedelta_and_no_duration_pass(js, value):
    js.stream_create({"name": "S", "subjects": ["s"], "max_age": value}, cb)
    js.consumer_create("S", {"durable_name": "c", "ack_wait": value}, cb)


@pytest.mark.parametrize("subject", [".f", "f.", "f..x", "f x", "f.>.x", "f*"])
def test_a_filter_that_is_no_subject_is_refused(js, subject):
    for config in ({"filter_subject": subject}, {"filter_subjects": ["ok", subject]}):
        for call in (
            lambda config=config: js.consumer_create("S", config, cb),
            lambda config=config: js.consumer_update("S", {"name": "c", **config}, cb),
            lambda config=config: js.consumer_create_or_update("S", config, cb),
            lambda config=config: js.ordered_consumer("S", config, cb),
            lambda config=config: js.ordered_fetcher("S", config),
            lambda config=config: js.push_subscribe("S", config, cb),
        ):
            with pytest.raises(BadSubjectError):
                call()
    for call in (
        lambda: js.stream_create(
            {"name": "S", "mirror": {"name": "A", "filter_subject": subject}}, cb
        ),
        lambda: js.stream_create(
            {"name": "S", "sources": [{"name": "A", "filter_subject": subject}]}, cb
        ),
        lambda: js.stream_purge("S", {"filter": subject}, cb),
        lambda: js.stream_info("S", {"subjects_filter": subject}, cb),
        lambda: js.stream_list({"subject": subject}, cb),
        lambda: js.stream_names({"subject": subject}, cb),
    ):
        with pytest.raises(BadSubjectError):
            call()


def test_a_time_before_the_year_1000_is_sent_as_it_came():
    for text in ("0001-01-01T00:00:00.000000Z", "0987-06-05T04:03:02.100000Z"):
        assert to_wire({"opt_start_time": parse_time(text)}) == {"opt_start_time": text}
