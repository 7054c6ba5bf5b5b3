"""What callbacks get when the JetStream API gives no, half or nonsensical answers."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from lab.broker import broker
from lab.scripted_api import OVERLOADED, ScriptedApi, failure
from nats_ev import (
    APIError,
    ApiLevelError,
    BatchClosedError,
    InvalidAnswerError,
    MessageNotFoundError,
    NoRespondersError,
    RequestTimeoutError,
    StreamNotFoundError,
)

NO_STREAM = failure(404, 10059, "stream not found")


@pytest.fixture
def api(connected, fake):
    return ScriptedApi(connected(fake(broker)), timeout=2000)


def with_headers(api: ScriptedApi, block: bytes, data: bytes = b"") -> Any:
    """Return an answer that has a header block."""
    return lambda reply: api.nats.hpublish(reply, b"NATS/1.0" + block + b"\r\n\r\n", data)


# Lists and infos that come in pages.


def test_an_error_on_a_later_page_of_a_list_is_the_callers(api, call):
    first = {"total": 3, "offset": 0, "limit": 1, "streams": ["A"]}
    api.on("STREAM.NAMES", first, OVERLOADED)
    names, error = call(api.js.stream_names)
    assert names is None
    assert isinstance(error, APIError)
    assert error.code == 503
    assert [body["offset"] for _, body in api.asked] == [0, 1]


@pytest.mark.parametrize("depth", [0, *range(900, 1000, 5)])
def test_the_same_page_again_and_again_is_an_invalid_answer(api, call, depth):
    """However deep the items are nested: as deep as JSON is read, they can't be compared."""
    nested = "[" * depth + "]" * depth or "1"
    answer = '{"total": 1000000, "offset": 0, "streams": [{"x": ' + nested + "}]}"
    api.on("STREAM.LIST", answer.encode())
    streams, error = call(api.js.stream_list)
    assert streams is None
    assert isinstance(error, InvalidAnswerError)


def test_subjects_of_a_stream_are_gathered_from_all_pages(api, call):
    pages = [
        {"total": 2, "config": {}, "state": {"subjects": {subject: 1}}} for subject in ("a", "b")
    ]
    api.on("STREAM.INFO", *pages)
    info, error = call(api.js.stream_info, "S", {"subjects_filter": ">"})
    assert error is None
    assert info["state"]["subjects"] == {"a": 1, "b": 1}
    assert [body.get("offset") for _, body in api.asked] == [0, 1]


def test_an_error_on_a_page_of_subjects_is_the_callers(api, call):
    api.on("STREAM.INFO", {"total": 9, "state": {"subjects": {"a": 1}}}, OVERLOADED)
    info, error = call(api.js.stream_info, "S", {"subjects_filter": ">"})
    assert (info, error.code) == (None, 503)


def test_an_offset_asks_for_that_page_alone(api, call):
    api.on("STREAM.INFO", {"total": 9, "state": {"subjects": {"i": 1}}})
    info, error = call(api.js.stream_info, "S", {"subjects_filter": ">", "offset": 8})
    assert error is None
    assert info["state"]["subjects"] == {"i": 1}
    assert api.asked == [("STREAM.INFO.S", {"subjects_filter": ">", "offset": 8})]


def test_details_of_deletions_are_asked_for_with_one_request(api, call):
    api.on("STREAM.INFO", {"state": {"deleted": [2]}})
    info, error = call(api.js.stream_info, "S", {"deleted_details": True})
    assert (info["state"]["deleted"], error) == ([2], None)
    assert api.asked == [("STREAM.INFO.S", {"deleted_details": True})]


def test_a_stream_looked_for_by_subject_may_be_unknown_or_the_question_fail(api, call):
    api.on("STREAM.NAMES", OVERLOADED, {"streams": None}, {"streams": ["S"]})
    assert call(api.js.stream_name_by_subject, "a.b")[1].code == 503
    assert isinstance(call(api.js.stream_name_by_subject, "a.b")[1], StreamNotFoundError)
    assert call(api.js.stream_name_by_subject, "a.b") == ("S", None)


# Messages.


@pytest.mark.parametrize(
    "answer", [{}, {"message": None}, {"message": {"subject": "a", "seq": 1, "data": 5}}]
)
def test_a_stored_message_that_makes_no_sense_is_an_invalid_answer(api, call, answer):
    api.on("STREAM.MSG.GET", answer)
    message, error = call(api.js.get_msg, "S", 1)
    assert message is None
    assert isinstance(error, InvalidAnswerError)


def test_a_stored_message_is_decoded(api, call):
    fields = {"subject": "a", "seq": 7, "time": "2026-01-02T03:04:05Z"}
    fields["data"] = base64.b64encode(b"hello").decode()
    api.on("STREAM.MSG.GET", {"message": fields})
    message, error = call(api.js.get_msg, "S", {"last_by_subj": "a"})
    assert error is None
    assert (message.subject, message.seq, message.data) == ("a", 7, b"hello")


DIRECT = b"\r\nNats-Stream: S\r\nNats-Subject: a\r\nNats-Sequence: %b\r\nNats-Time-Stamp: t"


def test_a_direct_get_without_a_sequence_is_an_invalid_answer(api, call):
    api.on("DIRECT.GET", with_headers(api, DIRECT % b"x", b"data"))
    message, error = call(api.js.direct_get, "S", 1)
    assert message is None
    assert isinstance(error, InvalidAnswerError)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (b" 404 Message Not Found", MessageNotFoundError),
        (b" 503", NoRespondersError),
        (b" 412 Level", ApiLevelError),
        (b" 408 Bad Request", APIError),
    ],
)
def test_the_status_of_a_direct_get_becomes_an_error_of_its_kind(api, call, status, kind):
    api.on("DIRECT.GET", with_headers(api, status))
    message, error = call(api.js.direct_get, "S", 1)
    assert message is None
    assert isinstance(error, kind)


BATCH = {"batch": 2}


class TestDirectGetBatch:
    def test_gathers_the_messages_until_the_status_that_ends_them(self, api, call):
        def answer(reply):
            for number in (b"1", b"2"):
                block = DIRECT % number + b"\r\nNats-Num-Pending: 1"
                with_headers(api, block, b"m" + number)(reply)
            with_headers(api, b" 204 EOB")(reply)

        api.on("DIRECT.GET", answer)
        messages, error = call(api.js.direct_get_batch, "S", BATCH)
        assert error is None
        assert [(m.seq, m.data) for m in messages] == [(1, b"m1"), (2, b"m2")]

    def test_nothing_there_is_an_empty_list(self, api, call):
        api.on("DIRECT.GET", with_headers(api, b" 404 No Results"))
        assert call(api.js.direct_get_batch, "S", BATCH) == ([], None)

    def test_an_answer_that_makes_no_sense_ends_it(self, api, call):
        api.on("DIRECT.GET", with_headers(api, DIRECT % b"x", b"m"))
        messages, error = call(api.js.direct_get_batch, "S", BATCH)
        assert messages is None
        assert isinstance(error, InvalidAnswerError)

    def test_a_server_that_gives_only_one_message_does_not_know_batches(self, api, call):
        api.on("DIRECT.GET", with_headers(api, DIRECT % b"1", b"m"))
        messages, error = call(api.js.direct_get_batch, "S", BATCH)
        assert messages is None
        assert isinstance(error, ApiLevelError)

    def test_silence_is_a_timeout(self, connected, fake, call):
        api = ScriptedApi(connected(fake(broker)), timeout=60)
        api.on("DIRECT.GET", None)
        messages, error = call(api.js.direct_get_batch, "S", BATCH)
        assert messages is None
        assert isinstance(error, RequestTimeoutError)

    def test_multi_last_takes_one_subject_or_a_list(self, api, call):
        api.on("DIRECT.GET", with_headers(api, b" 404 No Results"))
        for subjects in ("a.*", ["a.*"]):
            assert call(api.js.direct_get_batch, "S", {"multi_last": subjects}) == ([], None)
        assert [body["multi_last"] for _, body in api.asked] == [["a.*"], ["a.*"]]


# Publishing.


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"stream":""}'])
def test_what_is_no_acknowledgement_of_a_publish_is_an_invalid_answer(api, call, data):
    api.nats.subscribe(
        "not.a.stream", lambda subject, payload, reply, headers: api.nats.publish(reply, data)
    )
    ack, error = call(api.js.publish, "not.a.stream", b"x")
    assert ack is None
    assert isinstance(error, InvalidAnswerError)


def test_an_atomic_batch_wants_an_acknowledgement_of_itself(api, call):
    answer = b'{"stream":"S","seq":1,"batch":"of another one","count":1}'
    api.nats.subscribe(
        "batch.a", lambda subject, payload, reply, headers: api.nats.publish(reply, answer)
    )
    batch = api.js.atomic_batch()
    ack, error = call(batch.commit, "batch.a", b"only one")
    assert ack is None
    assert isinstance(error, InvalidAnswerError)


def test_a_refused_atomic_batch_tells_the_commit_and_sends_no_more(api, call, run):
    seen = []

    def refuse(subject, payload, reply, headers):
        seen.append(payload)
        if reply:
            api.nats.publish(
                reply, b'{"error":{"code":400,"err_code":10174,"description":"no batches"}}'
            )

    api.nats.subscribe("batch.b", refuse)
    batch = api.js.atomic_batch()
    batch.add("batch.b", b"1")
    run(lambda: seen)
    batch.add("batch.b", b"2")
    ack, error = call(batch.commit, "batch.b", b"3")
    assert ack is None
    assert error.err_code == 10174
    assert b"3" not in seen
    with pytest.raises(BatchClosedError):
        batch.add("batch.b", b"4")


def test_an_empty_atomic_batch_cannot_be_closed(api):
    batch = api.js.atomic_batch()
    with pytest.raises(BatchClosedError, match="empty"):
        batch.close(lambda ack, err: None)
    batch.discard()
    with pytest.raises(BatchClosedError):
        batch.add("batch.c", b"")
