"""Answers of JetStream that are no answers become errors, not exceptions."""

import pytest

from nats_ev.jetstream.api import decode
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
