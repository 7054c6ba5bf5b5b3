"""Answers of JetStream that are no answers become errors, not exceptions."""

import pytest

from nats_ev.jetstream.api import decode
from nats_ev.jetstream.direct import _result
from nats_ev.jetstream.errors import InvalidAnswerError


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
    message, error = _result(b"x", b"NATS/1.0\r\nNats-Sequence: 99999\r\n" + own + b"\r\n")
    assert error is None
    assert message.seq == 3
