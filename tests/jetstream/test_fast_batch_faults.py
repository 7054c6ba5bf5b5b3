"""A fast batch whose server is slow, silent, loses messages, refuses them or ends the batch."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.broker import broker
from nats_ev import (
    BadOptionsError,
    BatchClosedError,
    InvalidAnswerError,
    JetStream,
    NoRespondersError,
    RequestTimeoutError,
)


@pytest.fixture
def nats(connected, fake):
    return connected(fake(broker))


class Stream:
    """The stream's side of a fast batch: what has come, and answers as a test wants them."""

    def __init__(self, nats: Any) -> None:
        self.nats = nats
        self.operations: list[tuple[int, int]] = []  # (batch sequence, operation)
        self.reply = ""
        nats.subscribe("fast.*", self._on_message)

    def _on_message(self, subject: str, payload: bytes, reply: str, headers: Any) -> None:
        *_, number, operation, _end = reply.split(".")
        self.operations.append((int(number), int(operation)))
        self.reply = reply

    def say(self, answer: Any) -> None:
        """Answer to the batch's inbox; bytes as they are, anything else as JSON."""
        data = answer if isinstance(answer, bytes) else json.dumps(answer)
        self.nats.publish(self.reply, data)

    def ack(self, number: int, messages: int = 100) -> None:
        self.say({"type": "ack", "seq": number, "msgs": messages})

    def stored(self, count: int) -> None:
        self.say({"stream": "S", "seq": count, "batch": "b", "count": count})


@pytest.fixture
def stream(nats):
    return Stream(nats)


@pytest.fixture
def begin(nats, stream, run):
    """begin(**options) → (batch, errors): a batch whose first message the stream has."""

    def begin(timeout: float = 2000, **options: Any) -> Any:
        errors: list[Any] = []
        batch = JetStream(nats, timeout=timeout).fast_batch({"on_error": errors.append, **options})
        assert batch.add("fast.a", b"1") is True
        run(lambda: stream.operations)
        return batch, errors

    return begin


def test_messages_beyond_what_the_server_takes_are_kept_until_it_has_room(begin, stream, run):
    batch, _ = begin(flow=1, max_outstanding_acks=1)
    stream.ack(1, 1)
    run(lambda: batch.acked == 1)
    assert batch.add("fast.a", b"2") is True
    assert batch.add("fast.a", b"3") is False
    run(lambda: len(stream.operations) == 2)
    stream.ack(2, 1)
    run(lambda: len(stream.operations) == 3)
    assert [number for number, _ in stream.operations] == [1, 2, 3]


def test_an_older_acknowledgement_changes_nothing(begin, stream, run):
    batch, errors = begin()
    told: list[Any] = []
    batch.add("fast.a", b"2", lambda result, error: told.append((result, error)))
    stream.ack(2)
    run(lambda: told)
    stream.ack(1)
    stream.say(b"{")  # whose error says that the former has been read
    run(lambda: errors)
    assert told == [({"batch_seq": 2, "ack_seq": 2}, None)]
    assert batch.acked == 2


@pytest.mark.parametrize("answer", [b"{", b"[]", b"null"])
def test_an_answer_that_makes_no_sense_is_told_and_the_batch_goes_on(begin, stream, run, answer):
    batch, errors = begin()
    stream.say(answer)
    run(lambda: errors)
    assert isinstance(errors[0], InvalidAnswerError)
    assert not batch.closed


def test_a_gap_is_told_with_what_is_lost(begin, stream, run):
    _, errors = begin(gap_ok=True)
    stream.say({"type": "gap", "last_seq": 3, "seq": 6})
    run(lambda: errors)
    assert isinstance(errors[0], BatchClosedError)
    assert errors[0].lost == (3, 6)


@pytest.mark.parametrize("gap_ok", [True, False])
def test_messages_that_a_gap_has_lost_are_told_to_their_callbacks_and_to_the_commit(
    begin, stream, run, gap_ok
):
    batch, _ = begin(gap_ok=gap_ok)
    told: dict[int, Any] = {}
    for number in range(2, 7):
        batch.add("fast.a", b"x", lambda _, error, n=number: told.update({n: error}))
    stream.ack(1)
    ended: list[Any] = []
    batch.commit("fast.a", b"7", lambda *got: ended.append(got))
    run(lambda: len(stream.operations) == 7)
    stream.say({"type": "gap", "last_seq": 3, "seq": 5})  # 3 and 4 have not come
    if gap_ok:
        stream.ack(6)
    stream.stored(7 if gap_ok else 2)
    run(lambda: ended and len(told) == 5)
    ack, error = ended[0]
    assert told[2] is None
    assert [told[n].lost for n in (3, 4)] == [(3, 5)] * 2
    if gap_ok:
        assert (error, ack["count"], ack["missing"]) == (None, 7, [3, 4])
        assert (told[5], told[6]) == (None, None)
    else:
        assert (ack, type(error), error.ack["count"]) == (None, BatchClosedError, 2)
        assert [told[n].ack["count"] for n in (5, 6)] == [2, 2]


def test_a_refused_message_is_told_to_on_error_and_to_its_callback(begin, stream, run):
    batch, errors = begin()
    told: list[Any] = []
    batch.add("fast.a", b"2", lambda result, error: told.append((result, error)))
    refusal = {"code": 400, "err_code": 10071, "description": "wrong last sequence"}
    stream.say({"type": "err", "seq": 2, "error": refusal})
    stream.ack(2)
    run(lambda: told)
    assert told == [(None, errors[0])]
    assert errors[0].err_code == 10071


def test_a_stream_that_nobody_serves_ends_the_batch(nats, run):
    errors: list[Any] = []
    batch = JetStream(nats).fast_batch({"on_error": errors.append})
    batch.add("nobody.serves.this", b"1")
    run(lambda: errors)
    assert isinstance(errors[0], NoRespondersError)
    with pytest.raises(BatchClosedError):
        batch.add("nobody.serves.this", b"2")


def test_the_last_acknowledgement_goes_to_the_commit(begin, stream, run):
    batch, errors = begin()
    stream.ack(1)
    run(lambda: batch.acked == 1)
    told: list[Any] = []
    batch.commit("fast.a", b"2", lambda ack, error: told.append((ack, error)))
    run(lambda: len(stream.operations) == 2)
    stream.stored(2)
    run(lambda: told)
    ack, error = told[0]
    assert (ack["count"], error) == (2, None)
    assert errors == []


def test_a_batch_that_the_server_ends_too_early_fails_what_it_still_had(begin, stream, run):
    batch, errors = begin()
    stream.stored(1)
    run(lambda: errors)
    assert isinstance(errors[0], BatchClosedError)
    assert errors[0].ack["count"] == 1
    assert batch.closed


def test_a_batch_that_the_server_refuses_to_end_fails_its_commit(begin, stream, run):
    batch, _ = begin()
    stream.ack(1)
    told: list[Any] = []
    batch.close(lambda ack, error: told.append((ack, error)))
    run(lambda: len(stream.operations) == 2)
    stream.say({"error": {"code": 503, "err_code": 10008, "description": "not now"}})
    run(lambda: told)
    ack, error = told[0]
    assert (ack, error.code) == (None, 503)


def test_a_silent_server_is_asked_three_times_then_the_batch_ends(begin, stream, run):
    batch, errors = begin(timeout=90)
    told: list[Any] = []
    stream.ack(1)
    run(lambda: batch.acked == 1)
    batch.add("fast.a", b"2", lambda result, error: told.append((result, error)))
    run(lambda: told)
    result, error = told[0]
    assert result is None
    assert isinstance(error, RequestTimeoutError)
    assert errors == []  # the message's own callback has had it
    pings = [number for number, operation in stream.operations if operation == 4]
    assert pings == [2, 2, 2]


def test_a_batch_that_waits_for_nothing_is_not_asked_for(nats, begin, stream, run):
    batch, errors = begin(timeout=60)
    stream.ack(1)
    run(lambda: batch.acked == 1)
    later: list[int] = []
    nats.call_later(200, lambda: later.append(1))
    run(lambda: later)
    assert (batch.closed, errors) == (False, [])
    assert batch.add("fast.a", b"2") is True


@pytest.mark.parametrize("name", ["flow", "max_outstanding_acks"])
def test_options_that_are_no_numbers_in_their_range_are_refused(nats, name):
    js = JetStream(nats)
    for value in ("1", True, 1.5):
        with pytest.raises(TypeError, match=name):
            js.fast_batch({name: value})
    for value in (0, 1_000_000):
        with pytest.raises(BadOptionsError, match=name):
            js.fast_batch({name: value})
    with pytest.raises(TypeError, match="on_error"):
        js.fast_batch({"on_error": 1})


def test_an_empty_batch_cannot_be_closed(nats):
    with pytest.raises(BatchClosedError, match="empty"):
        JetStream(nats).fast_batch().close(lambda ack, error: None)
