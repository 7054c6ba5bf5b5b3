"""The errors of counters, schedules, resets and reconfigurations have classes of their own."""

from __future__ import annotations

from typing import Any

import pytest

from nats_ev import (
    APIError,
    ConsumerInvalidResetError,
    CounterError,
    JetStream,
    ReconfigurationInProgressError,
    ScheduleError,
)


@pytest.mark.parametrize(
    ("kind", "codes"),
    [
        (CounterError, range(10168, 10174)),
        (ScheduleError, [*range(10186, 10193), 10203, 10212, 10223]),
        (ConsumerInvalidResetError, [10204]),
        (ReconfigurationInProgressError, [10226]),
    ],
)
def test_each_code_has_its_class(kind: type[APIError], codes: Any) -> None:
    for code in codes:
        error = APIError.of({"code": 400, "err_code": code, "description": "why"})
        assert type(error) is kind
        assert (error.err_code, error.code, str(error)) == (code, 400, "why (code 400)")


def test_a_reset_that_is_impossible(js: JetStream, call: Any, since: Any) -> None:
    if not since(2, 14):
        pytest.skip("reset of consumers: nats-server 2.14")
    call(js.stream_create, {"name": "R", "subjects": ["r"], "storage": "memory"})
    for _ in range(3):
        call(js.publish, "r", b"")
    config = {"durable_name": "c", "deliver_policy": "by_start_sequence", "opt_start_seq": 2}
    assert call(js.consumer_create, "R", {**config, "ack_policy": "explicit"})[1] is None
    _, err = call(js.consumer_reset, "R", "c", 1)
    assert isinstance(err, ConsumerInvalidResetError)
    assert err.err_code == 10204


def test_an_increment_on_a_stream_without_counters(js: JetStream, call: Any, since: Any) -> None:
    if not since(2, 12):
        pytest.skip("counters: nats-server 2.12")
    call(js.stream_create, {"name": "P", "subjects": ["p.>"], "storage": "memory"})
    _, err = call(js.publish, "p.a", b"", incr=1)
    assert isinstance(err, CounterError)
    assert err.err_code == 10168
    config = {"name": "M", "mirror": {"name": "P"}, "allow_msg_counter": True}
    _, err = call(js.stream_create, config)
    assert isinstance(err, CounterError)
    assert err.err_code == 10173
