"""Answers of JetStream that are no answers become errors, not exceptions."""

import json
from datetime import datetime, timezone

import pytest

from nats_ev import JsMsg, ServiceError
from nats_ev.headers import appended
from nats_ev.jetstream.answers import STORED, decode, whole
from nats_ev.jetstream.direct import stored_message
from nats_ev.jetstream.errors import InvalidAnswerError
from nats_ev.times import parse_time


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"error":{"code":[1],"err_code":{}}}',
    ],
    ids=["lists", "objects", "unhashable"],
)
def test_an_odd_answer_becomes_an_invalid_answer_error(payload):
    result, error = decode(payload)
    assert result is None
    assert isinstance(error, InvalidAnswerError)


def test_of_headers_that_the_server_appends_the_last_one_counts():
    own = b"Nats-Stream: S\r\nNats-Subject: a\r\nNats-Sequence: 3\r\n"
    message, error = stored_message(b"x", b"NATS/1.0\r\nNats-Sequence: 99999\r\n" + own + b"\r\n")
    assert error is None
    assert message.seq == 3


@pytest.mark.parametrize(
    ("block", "found"),
    [
        (None, {}),
        (b"", {}),
        (b"garbage", {}),
        (b"garbage\r\nNats-Pin-Id: server\r\n\r\n", {"Nats-Pin-Id": "server"}),
        (b"NATS/1.0\r\nNats-Pin-Id: a\r\nNats-Pin-Id: b\r\n\r\n", {"Nats-Pin-Id": "b"}),
        (b"NATS/1.0 100 Idle\r\nA:\r\n: x\r\nno colon\r\n\r\n", {"A": ""}),
    ],
)
def test_appended_headers_are_the_last_of_their_names(block, found):
    assert appended(block) == found


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *[(None, None), ("", None), ("7", 7), ("-1", None), ("1e9", None), ("\u00b2", None)],
        *[(str(2**64 - 1), 2**64 - 1), (str(2**64), None), ("9" * 5_000, None), (" 1", None)],
    ],
)
def test_the_number_in_a_header_is_whole_and_has_64_bits(text, number):
    assert whole(text) == number


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        ({"config": {"max_age": "1"}}, "config.max_age is '1', not a whole number"),
        ({"state": {"subjects": {"a": None}}}, "state.subjects.a is None, not a whole number"),
        ({"config": {"mirror": {"external": []}}}, "config.mirror.external is [], not an object"),
        ({"created": "\ud800"}, r"created is '\ud800', not text"),
        ({"config": {"subjects": ["a", 1]}}, r"config.subjects[1] is 1, not text"),
        ({"success": 1}, "success is 1, not true or false"),
        ({"num_pending": 2**64}, f"num_pending is {2**64}, not a whole number"),
    ],
)
def test_an_error_names_the_field_that_is_wrong(answer, wrong):
    result, error = decode(json.dumps(answer).encode())
    assert result is None
    assert str(error) == f"invalid answer: {wrong}"


def test_what_is_missing_is_named():
    result, error = decode(b"{}", STORED)
    assert (result, str(error)) == (None, "invalid answer: config is missing")


def test_fields_that_nobody_knows_come_as_they_are():
    answer = {"x": [1, "\ud800", None], "config": {"y": {"z": 1.5}}, "state": None}
    assert decode(json.dumps(answer).encode()) == (answer, None)


def test_what_is_no_header_block_has_no_headers_and_is_no_error_of_a_service():
    assert ServiceError.from_headers(b"garbage\r\n\r\n") is None
    assert JsMsg(None, "a", b"", None, b"garbage\r\n\r\n").header("garbage", "none") == "none"


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2026-01-02T03:04:05.123456789Z", 123456),
        ("2026-01-02T03:04:05.000000001Z", 0),
        ("2026-01-02T03:04:05.1234567Z", 123456),
        ("2026-01-02T03:04:05Z", 0),
        ("2026-01-02T03:04:05.123+00:00", 123000),
        ("2026-01-02T04:04:05.123456+01:00", 123456),
    ],
)
def test_times_are_read_to_the_microsecond(text, micros):
    assert parse_time(text) == datetime(2026, 1, 2, 3, 4, 5, micros, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-02-30T03:04:05.123456789Z",
        "2026-13-02T03:04:05.123456789Z",
        "2026-01-02T03:04:05.123456789z",
    ],
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError):
        parse_time(text)
