"""Uploads and downloads whose server answers wrongly, late or not at all, with an API that a test scripts."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from lab.broker import broker
from lab.scripted_api import OVERLOADED, ScriptedApi, ack_reply, failure
from nats_ev import (
    BadObjectMetaError,
    BadOptionsError,
    ConnectionClosedError,
    DigestMismatchError,
    ObjectIncompleteError,
    ObjectLinkError,
    ObjectStore,
    ObjectTransferError,
    RequestTimeoutError,
)

NO_MESSAGE = failure(404, 10037, "no message found")
WRONG_LAST = failure(400, 10071, "wrong last sequence: 3")
# Of two parts. The second attempt is a duplicate.
FIRST_ACK_LOST = [None, {"stream": "OBJ_b", "seq": 2}, {"stream": "OBJ_b", "seq": 1}]
REFUSED = failure(503, 10023, "insufficient resources")
PURGED = {"success": True, "purged": 1}


@pytest.fixture
def api(connected, fake):
    api = ScriptedApi(connected(fake(broker)), timeout=500)
    api.on("STREAM.MSG.GET", NO_MESSAGE)
    api.on("STREAM.PURGE", PURGED)
    api.on("CONSUMER.DELETE", {"success": True})
    return api


class Bucket:
    """The stream's side of a bucket: parts and infos that have come, and how they are answered."""

    def __init__(self, api: ScriptedApi) -> None:
        self.api = api
        self.parts: list[bytes] = []
        self.infos: list[dict[str, Any]] = []
        self.part_answers: list[Any] = []  # then: stored
        self.info_answers: list[Any] = []
        self.seq = 0
        api.nats.subscribe("$O.b.C.*", self._on_part)
        api.nats.subscribe("$O.b.M.*", self._on_info)

    def _on_part(self, subject: str, payload: bytes, reply: str, headers: Any) -> None:
        self.parts.append(payload)
        self._answer(reply, self.part_answers)

    def _on_info(self, subject: str, payload: bytes, reply: str, headers: Any) -> None:
        self.infos.append(json.loads(payload))
        self._answer(reply, self.info_answers)

    def _answer(self, reply: str, answers: list[Any]) -> None:
        self.seq += 1
        answer = answers.pop(0) if answers else {"stream": "OBJ_b", "seq": self.seq}
        if isinstance(answer, bytes):
            self.api.nats.hpublish(reply, answer, b"")
        elif answer is not None:
            self.api.nats.publish(reply, json.dumps(answer))


@pytest.fixture
def bucket(api):
    return Bucket(api)


@pytest.fixture
def store(api, bucket):
    return ObjectStore(api.js, "b", chunk_size=4)


def stored_info(**fields: Any) -> dict[str, Any]:
    """Return the answer to a question for an object's info."""
    info = {"name": "o", "bucket": "b", "nuid": "N" * 22, "size": 0, "chunks": 0, **fields}
    data = base64.b64encode(json.dumps(info).encode()).decode()
    return {"message": {"subject": "$O.b.M.bw==", "seq": 3, "time": "t", "data": data}}


def subjects(count: int, nuid: str) -> dict[str, Any]:
    return {"config": {}, "state": {"subjects": {f"$O.b.C.{nuid}": count}}}


# Uploads.


def test_a_refused_part_fails_the_upload_and_removes_what_is_stored(store, bucket, api, call):
    bucket.part_answers += [{"stream": "OBJ_b", "seq": 1}, REFUSED]
    info, error = call(store.put, "o", b"12345678")
    assert (info, error.code) == (None, 503)
    assert bucket.infos == []
    assert api.count("STREAM.PURGE") == 1


@pytest.mark.parametrize(
    "answers", [[OVERLOADED], [{"stream": "OBJ_b", "seq": 0, "duplicate": True}]]
)
def test_an_upload_survives_a_cluster_that_is_just_storing_or_electing(
    store, bucket, api, call, answers
):
    bucket.part_answers += answers
    bucket.info_answers += [OVERLOADED]
    api.on("STREAM.MSG.GET", OVERLOADED, NO_MESSAGE)

    def counted(reply):
        nuid = bucket.infos[-1]["nuid"] if bucket.infos else api.asked[-1][1]["subjects_filter"][7:]
        api.nats.publish(reply, json.dumps(subjects(1, nuid)))

    api.on("STREAM.INFO", OVERLOADED, counted)
    info, error = call(store.put, "o", b"1234")
    assert error is None
    assert info["size"] == 4
    assert api.count("STREAM.MSG.GET") == 2


def test_an_upload_waits_for_a_leader_that_nobody_is(store, bucket, api, run):
    """A stream without a leader has no responder: for longer than a store that does not exist gets."""
    nobody = b"NATS/1.0 503\r\n\r\n"
    bucket.part_answers += [nobody] * 3
    api.on("STREAM.MSG.GET", NO_MESSAGE, *[OVERLOADED] * 5, NO_MESSAGE)
    api.on("STREAM.INFO", lambda reply: api.nats.publish(reply, json.dumps(subjects(1, nuid()))))
    told: list[Any] = []

    def nuid() -> str:
        return api.asked[-1][1]["subjects_filter"].rpartition(".")[2]

    store.put("o", b"1234", lambda info, error: told.append((info, error)))
    run(lambda: told)
    assert told[0][1] is None
    assert len(bucket.parts) == 4


def test_parts_that_are_stored_out_of_order_fail_the_upload(store, bucket, api, call):
    bucket.part_answers += [{"stream": "OBJ_b", "seq": 9}, {"stream": "OBJ_b", "seq": 8}]
    info, error = call(store.put, "o", b"12345678")
    assert info is None
    assert isinstance(error, ObjectTransferError)
    assert "out of order" in str(error)
    assert api.count("STREAM.PURGE") == 1


def test_a_part_without_an_answer_is_sent_again_and_the_parts_are_counted(store, bucket, api, run):
    bucket.part_answers += FIRST_ACK_LOST
    told: list[Any] = []

    def count(reply):
        nuid = api.asked[-1][1]["subjects_filter"].rpartition(".")[2]
        api.nats.publish(reply, json.dumps(subjects(2, nuid)))

    api.on("STREAM.INFO", count)
    store.put("o", b"12345678", lambda info, error: told.append((info, error)))
    run(lambda: told)
    info, error = told[0]
    assert error is None
    assert (info["size"], info["chunks"]) == (8, 2)
    assert bucket.parts == [b"1234", b"5678", b"1234"]


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_parts_than_were_sent_is_incomplete(store, bucket, api, run, count):
    bucket.part_answers += FIRST_ACK_LOST
    told: list[Any] = []

    def answer(reply):
        nuid = api.asked[-1][1]["subjects_filter"].rpartition(".")[2]
        api.nats.publish(reply, json.dumps(subjects(count, nuid)))

    api.on("STREAM.INFO", answer)
    store.put("o", b"12345678", lambda info, error: told.append((info, error)))
    run(lambda: told)
    assert told[0][0] is None
    assert isinstance(told[0][1], ObjectIncompleteError)
    assert bucket.infos == []
    assert api.count("STREAM.PURGE") == 1


def test_parts_that_cannot_be_counted_now_are_counted_later(store, bucket, api, run):
    bucket.part_answers += [None]
    told: list[Any] = []

    def count(reply):
        nuid = api.asked[-1][1]["subjects_filter"].rpartition(".")[2]
        api.nats.publish(reply, json.dumps(subjects(1, nuid)))

    api.on("STREAM.INFO", None, count)
    store.put("o", b"1234", lambda info, error: told.append((info, error)))
    run(lambda: told)
    assert told[0][1] is None
    assert api.count("STREAM.INFO") == 2


def test_parts_that_the_server_refuses_to_count_fail_the_upload(store, bucket, api, run):
    bucket.part_answers += [None]
    api.on("STREAM.INFO", REFUSED)
    told: list[Any] = []
    store.put("o", b"1234", lambda info, error: told.append((info, error)))
    run(lambda: told)
    assert told[0][1].code == 503
    assert bucket.infos == []


def test_an_info_whose_answer_was_lost_is_recognized_as_stored(store, bucket, api, run):
    bucket.info_answers += [None, WRONG_LAST]
    told: list[Any] = []

    def stored_by_us(reply):
        api.nats.publish(reply, json.dumps(stored_info(nuid=bucket.infos[0]["nuid"], size=4)))

    api.on("STREAM.MSG.GET", NO_MESSAGE, stored_by_us)
    store.put("o", b"1234", lambda info, error: told.append((info, error)))
    run(lambda: told)
    info, error = told[0]
    assert error is None
    assert info["nuid"] == bucket.infos[0]["nuid"]
    assert api.count("STREAM.PURGE") == 0


def test_another_writer_that_was_faster_is_replaced_with_its_content(store, bucket, api, call):
    bucket.info_answers += [WRONG_LAST]
    other = stored_info(nuid="other", size=1, chunks=1)
    api.on("STREAM.MSG.GET", NO_MESSAGE, other)
    info, error = call(store.put, "o", b"1234")
    assert error is None
    assert info["size"] == 4
    assert [body["filter"] for verb, body in api.asked if "PURGE" in verb] == ["$O.b.C.other"]


def test_a_refused_info_fails_the_upload_when_the_object_is_not_there(store, bucket, api, call):
    bucket.info_answers += [REFUSED]
    info, error = call(store.put, "o", b"1234")
    assert (info, error.code) == (None, 503)
    assert api.count("STREAM.PURGE") == 1


def test_a_refused_info_is_a_success_when_the_object_is_there_after_all(store, bucket, api, call):
    bucket.info_answers += [REFUSED]

    def there(reply):
        api.nats.publish(reply, json.dumps(stored_info(nuid=bucket.infos[0]["nuid"], size=4)))

    api.on("STREAM.MSG.GET", NO_MESSAGE, there)
    info, error = call(store.put, "o", b"1234")
    assert error is None
    assert info["size"] == 4
    assert api.count("STREAM.PURGE") == 0


def test_a_look_for_a_faster_writer_that_fails_is_the_uploads_error(store, bucket, api, call):
    bucket.info_answers += [WRONG_LAST]
    api.on("STREAM.MSG.GET", NO_MESSAGE, REFUSED)
    info, error = call(store.put, "o", b"1234")
    assert (info, error.code) == (None, 503)


def test_a_removal_that_has_no_answer_is_tried_again(store, bucket, api, run):
    bucket.part_answers += [REFUSED]
    api.on("STREAM.PURGE", None, PURGED)
    told: list[Any] = []
    store.put("o", b"1234", lambda info, error: told.append(error))
    run(lambda: told)
    assert told[0].code == 503
    run(lambda: api.count("STREAM.PURGE") == 2)


def test_the_end_of_the_client_fails_an_upload_that_waits_to_go_on(store, bucket, api, run):
    bucket.part_answers += [None]
    told: list[Any] = []
    store.put("o", b"1234", lambda info, error: told.append(error))
    run(lambda: bucket.parts)
    api.nats.call_later(250, api.nats.disconnect)
    run(lambda: told)
    assert isinstance(told[0], (RequestTimeoutError, ConnectionClosedError))


def test_a_cancelled_upload_waits_for_its_parts_and_removes_them(store, bucket, api, run):
    told: list[Any] = []
    bucket.part_answers += [None] * 8
    upload = store.put("o", b"1234" * 8, lambda info, error: told.append(error))
    run(lambda: bucket.parts)
    upload.cancel()
    run(lambda: told)
    assert isinstance(told[0], ObjectTransferError)
    assert "cancelled" in str(told[0])
    assert api.count("STREAM.PURGE") == 1
    upload.cancel()
    assert len(told) == 1


def test_a_file_that_reads_text_fails_the_upload_with_what_it_gave(store, call):
    class Text:
        def read(self, size):
            return "text"

    info, error = call(store.put, "o", Text())
    assert info is None
    assert isinstance(error, ObjectTransferError)
    assert "str, not bytes" in str(error) or "str, not bytes" in str(error.__cause__)


# Downloads.


def digest(data: bytes) -> str:
    return "SHA-256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()


@pytest.fixture
def serve(api):
    """serve(info fields, parts): an object whose parts come as soon as a consumer asks for them."""

    def serve(fields: dict[str, Any], *parts: bytes) -> None:
        api.on("STREAM.MSG.GET.OBJ_b", stored_info(**fields))
        consumer = {"name": "C", "num_pending": len(parts), "delivered": {"stream_seq": 0}}
        api.on("CONSUMER.CREATE", {**consumer, "config": {}})

        def send(inbox: str) -> None:
            for number, part in enumerate(parts, 1):
                reply = ack_reply(number, pending=len(parts) - number)
                api.nats.publish(inbox, part, reply)

        api.on("CONSUMER.MSG.NEXT", send, None)

    return serve


def test_an_object_whose_size_and_digest_are_right_is_given(store, serve, call):
    serve({"size": 8, "chunks": 2, "digest": digest(b"12345678")}, b"1234", b"5678")
    assert call(store.get, "o") == (b"12345678", None)


@pytest.mark.parametrize("size", [3, 7])
def test_more_content_than_the_info_says_is_a_mismatch(store, serve, call, size):
    serve({"size": size, "chunks": 2, "digest": digest(b"12345678")}, b"1234", b"5678")
    data, error = call(store.get, "o")
    assert data is None
    assert isinstance(error, DigestMismatchError)


def test_less_content_than_the_info_says_is_incomplete(store, serve, call):
    serve({"size": 9, "chunks": 2, "digest": digest(b"12345678")}, b"1234", b"5678")
    data, error = call(store.get, "o")
    assert data is None
    assert isinstance(error, ObjectIncompleteError)


def test_other_content_than_the_digest_says_is_a_mismatch(store, serve, call):
    serve({"size": 8, "chunks": 2, "digest": digest(b"other")}, b"1234", b"5678")
    data, error = call(store.get, "o")
    assert data is None
    assert isinstance(error, DigestMismatchError)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"size": 4, "chunks": 1}, "no SHA-256 digest"),
        ({"size": 4, "chunks": 1, "digest": "MD5=x"}, "no SHA-256 digest"),
        ({"size": 4, "chunks": 1, "digest": digest(b"1234"), "nuid": ""}, "does not say where"),
        ({"size": -1}, "invalid object info"),
        ({"nuid": "*"}, "invalid object info"),
        ({"chunks": "1"}, "invalid object info"),
    ],
)
def test_an_info_that_makes_no_sense_is_an_error(store, serve, call, fields, what):
    serve(fields)
    data, error = call(store.get, "o")
    assert data is None
    assert isinstance(error, BadObjectMetaError)
    assert what in str(error)


def test_an_empty_object_needs_no_parts(store, serve, call):
    serve({})
    assert call(store.get, "o") == (b"", None)


def test_what_takes_the_content_may_fail_at_its_end(store, serve, call, tmp_path):
    serve({"size": 4, "chunks": 1, "digest": digest(b"1234")}, b"1234")
    target = tmp_path / "folder"
    with pytest.raises(IsADirectoryError):
        store.get("o", tmp_path, print)
    info, error = call(store.get, "o", target, progress=lambda done, total: target.mkdir())
    assert info is None
    assert isinstance(error, ObjectTransferError)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_an_ordered_consumer_that_is_refused_fails_the_download(store, serve, api, call):
    serve({"size": 4, "chunks": 1, "digest": digest(b"1234")})
    api.on("CONSUMER.CREATE", failure(400, 10094, "filtered consumer not unique"))
    data, error = call(store.get, "o")
    assert data is None
    assert error.err_code == 10094


@pytest.mark.parametrize("answer", [OVERLOADED, None])
def test_a_download_survives_a_consumer_that_cannot_begin(store, serve, api, run, answer):
    serve({"size": 4, "chunks": 1, "digest": digest(b"1234")}, b"1234")
    begun = {"name": "C", "num_pending": 1, "delivered": {"stream_seq": 0}, "config": {}}
    api.on("CONSUMER.CREATE", answer, answer, begun)
    told: list[Any] = []
    store.get("o", lambda *result: told.append(result))
    run(lambda: told)
    assert told == [(b"1234", None)]


def test_a_download_that_hears_nothing_more_ends_with_an_error(store, serve, api, run, monkeypatch):
    monkeypatch.setattr("nats_ev.object_store.download.RETRY_FOR", 1.0)
    serve({"size": 8, "chunks": 2, "digest": digest(b"12345678")}, b"1234")
    info = stored_info(size=8, chunks=2, digest=digest(b"12345678"))
    api.on("STREAM.MSG.GET.OBJ_b", info, None)
    told: list[Any] = []
    store.get("o", lambda *result: told.append(result))
    run(lambda: told)
    assert told[0][0] is None
    assert isinstance(told[0][1], RequestTimeoutError)


def test_a_download_replaces_a_consumer_that_does_not_send_what_is_there(
    store, serve, api, run, monkeypatch
):
    monkeypatch.setattr("nats_ev.object_store.download._IDLE_LOOKS", 2)
    serve({"size": 4, "chunks": 1, "digest": digest(b"1234")})
    info = stored_info(size=4, chunks=1, digest=digest(b"1234"))
    part = {"message": {**info["message"], "seq": 1}}
    api.on("STREAM.MSG.GET.OBJ_b", info, part)

    def send(inbox: str) -> None:
        if api.count("CONSUMER.CREATE") == 2:
            api.nats.publish(inbox, b"1234", ack_reply(1))
        else:  # it is there, and has nothing
            api.nats.hpublish(inbox, b"NATS/1.0 100 Idle Heartbeat\r\n\r\n", b"")

    api.on("CONSUMER.MSG.NEXT", send)
    told: list[Any] = []
    store.get("o", lambda *result: told.append(result))
    run(lambda: told)
    assert told == [(b"1234", None)]


def test_a_download_can_be_paused_and_resumed(store, serve, api, run):
    serve({"size": 8, "chunks": 2, "digest": digest(b"12345678")}, b"1234", b"5678")
    told: list[Any] = []
    pieces: list[bytes] = []

    def take(piece):
        pieces.append(piece)
        if len(pieces) == 1:
            download.pause()

    download = store.get("o", take, lambda info, error: told.append((info, error)))
    run(lambda: pieces)
    assert told == []
    rest = lambda inbox: api.nats.publish(inbox, b"5678", ack_reply(1, 2))  # noqa: E731
    api.on("CONSUMER.MSG.NEXT", rest, None)
    download.resume()
    download.resume()
    run(lambda: told)
    assert told[0][1] is None
    assert pieces == [b"1234", b"5678"]
    assert api.asked[-1][0].startswith(("CONSUMER", "STREAM"))


def test_a_paused_download_begins_only_when_it_is_resumed(store, serve, api, run):
    serve({"size": 4, "chunks": 1, "digest": digest(b"1234")}, b"1234")
    told: list[Any] = []
    download = store.get("o", lambda data, error: told.append((data, error)))
    download.pause()
    run(lambda: api.count("STREAM.MSG.GET"))
    assert api.count("CONSUMER.CREATE") == 0
    download.resume()
    run(lambda: told)
    assert told == [(b"1234", None)]


def test_a_download_cancelled_twice_tells_once(store, serve, api, run):
    serve({"size": 4, "chunks": 1, "digest": digest(b"1234")})
    told: list[Any] = []
    download = store.get("o", lambda data, error: told.append(error))
    download.cancel()
    download.cancel()
    run(lambda: told)
    assert "cancelled" in str(told[0])
    download.cancel()
    assert len(told) == 1


def test_a_question_for_the_info_that_fails_is_the_downloads_error(store, api, call):
    api.on("STREAM.MSG.GET", REFUSED)
    data, error = call(store.get, "o")
    assert (data, error.code) == (None, 503)


def test_a_link_to_a_whole_bucket_is_no_object(store, serve, call):
    serve({"options": {"link": {"bucket": "other"}}})
    data, error = call(store.get, "o")
    assert data is None
    assert isinstance(error, ObjectLinkError)


def test_links_in_a_circle_are_given_up(store, serve, api, call):
    serve({"options": {"link": {"bucket": "b", "name": "o"}}})
    data, error = call(store.get, "o")
    assert data is None
    assert isinstance(error, ObjectLinkError)
    assert "too many links" in str(error)


def test_a_link_into_a_bucket_that_cannot_be_is_an_error(store, serve, call):
    serve({"options": {"link": {"bucket": "not a bucket", "name": "o"}}})
    data, error = call(store.get, "o")
    assert data is None
    assert isinstance(error, ObjectLinkError)
    assert "malformed link" in str(error)


# Changes.


def test_a_deletion_whose_look_fails_is_an_error_and_changes_nothing(store, bucket, api, call):
    api.on("STREAM.MSG.GET", OVERLOADED)
    result, error = call(store.delete, "o")
    assert (result, error.code) == (None, 503)
    assert bucket.infos == []


def test_a_deletion_looks_again_when_another_writer_was_faster(store, bucket, api, call):
    api.on("STREAM.MSG.GET", stored_info())
    bucket.info_answers += [WRONG_LAST]
    assert call(store.delete, "o") == (True, None)
    assert [info["deleted"] for info in bucket.infos] == [True, True]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda store: store.put("o", b"", chunk_size="4"), TypeError),
        (lambda store: store.put("o", b"", chunk_size=True), TypeError),
        (lambda store: store.put("o", b"", chunk_size=0), BadOptionsError),
        (lambda store: store.put("o", b"", description=1), TypeError),
        (lambda store: store.put("o", b"", metadata={"a": 1}), TypeError),
        (lambda store: store.put("o", b"", progress=1), TypeError),
        (lambda store: store.put("o", 1), TypeError),
        (lambda store: store.get("o", 1, lambda *result: None), TypeError),
        (lambda store: store.update_meta("o", ["name"]), TypeError),
        (lambda store: store.update_meta("o", {"size": 1}), BadOptionsError),
        (
            lambda store: store.watch(
                lambda *result: None, updates_only=True, include_history=True
            ),
            BadOptionsError,
        ),
    ],
)
def test_wrong_arguments_raise_at_the_call_and_ask_for_nothing(store, api, change, error):
    with pytest.raises(error):
        change(store)
    assert api.asked == []


# A leader is being elected.


def test_a_put_that_begins_without_a_leader_survives_it(store, bucket, api, call):
    api.on("STREAM.MSG.GET", None, NO_MESSAGE)
    info, error = call(store.put, "o", b"1234")
    assert error is None
    assert info["size"] == 4


def test_a_get_that_begins_without_a_leader_survives_it(store, api, call):
    api.on("STREAM.MSG.GET", None, NO_MESSAGE)
    assert call(store.get, "o") == (None, None)
    assert api.count("STREAM.MSG.GET") == 2


def test_a_put_cancelled_while_its_parts_are_counted_is_not_stored(store, bucket, api, run):
    bucket.part_answers += [None]
    told: list[Any] = []

    def count(reply):
        upload.cancel()
        nuid = api.asked[-1][1]["subjects_filter"].rpartition(".")[2]
        api.nats.publish(reply, json.dumps(subjects(1, nuid)))

    api.on("STREAM.INFO", count)
    upload = store.put("o", b"1234", lambda info, error: told.append((info, error)))
    run(lambda: told)
    api.nats.flush(lambda error: told.append("flushed"))
    run(lambda: "flushed" in told)
    assert [type(error) for _, error in told[:-1]] == [ObjectTransferError]
    assert bucket.infos == []


def test_an_upload_of_tiny_parts_is_bounded_in_parts_too(store, bucket, api, run):
    bucket.part_answers += [None] * 5000
    store.put("o", b"x" * 5000, chunk_size=1)
    fence: list[Any] = []
    run(lambda: bucket.parts)
    api.nats.flush(fence.append)
    run(lambda: fence)
    assert len(bucket.parts) == 1024


@pytest.mark.parametrize(
    ("fields", "window"),
    [
        ({"size": 300_000, "chunks": 300_000, "options": {"max_chunk_size": 1}}, 1024),
        ({"size": 40 << 20, "chunks": 40, "options": {"max_chunk_size": 1}}, 4),
        ({"size": 1 << 20, "chunks": 8, "options": {"max_chunk_size": 1 << 17}}, 32),
        ({"size": 1, "chunks": 1, "options": {"max_chunk_size": 1 << 30}}, 4),
    ],
    ids=["tiny parts", "larger than the info says", "usual", "smaller than the info says"],
)
def test_a_download_asks_for_so_many_parts_at_a_time(store, api, run, fields, window):
    api.on("STREAM.MSG.GET.OBJ_b", stored_info(digest=digest(b""), **fields))
    consumer = {"name": "C", "num_pending": fields["chunks"], "delivered": {"stream_seq": 0}}
    api.on("CONSUMER.CREATE", {**consumer, "config": {}})
    api.on("CONSUMER.MSG.NEXT", None)
    download = store.get("o", lambda data, error: None)
    run(lambda: api.count("CONSUMER.MSG.NEXT"))
    (asked,) = [body for verb, body in api.asked if verb.startswith("CONSUMER.MSG.NEXT")]
    assert asked["batch"] == window
    download.cancel()
