"""`fetch`, `next` and acknowledgements: every status has its meaning, and none is a message.

C7 is a row of the audit of the client that this one mirrors: its fetch told errors as messages, or not.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from lab.broker import broker
from lab.scripted_api import ScriptedApi, failure
from nats_ev import (
    ApiLevelError,
    BadOptionsError,
    BadPullRequestError,
    ConsumerDeletedError,
    ConsumerIsPushError,
    ConsumerNotFoundError,
    JetStream,
    JsMsg,
    MaxBytesExceededError,
    MaxRequestExceededError,
    MaxWaitingExceededError,
    MsgNotAckableError,
    NoHeartbeatError,
    NoMessagesError,
    NoRespondersError,
    NoStreamResponseError,
    PinIdMismatchError,
    PullStatusError,
    RequestTimeoutError,
    ServerShutdownError,
    TooManyRequestsError,
    parse_ack_reply,
)

MS = 1_000_000


@pytest.fixture
def filled(any_js: JetStream, call: Any) -> JetStream:
    """A stream S with ten messages, and a consumer c."""
    call(any_js.stream_create, {"name": "S", "subjects": ["s.*"], "storage": "memory"})
    for i in range(10):
        call(any_js.publish, f"s.{i % 2}", str(i), headers={"N": str(i)} if i == 3 else None)
    call(any_js.consumer_create, "S", {"name": "c", "ack_policy": "explicit"})
    return any_js


def texts(messages: list[JsMsg]) -> list[str]:
    return [m.data.decode() for m in messages]


def test_fetch_gives_up_to_batch_messages_with_all_they_have(filled, call):
    messages, err = call(filled.fetch, "S", "c", {"batch": 4})
    assert err is None
    assert texts(messages) == ["0", "1", "2", "3"]
    msg = messages[3]
    assert (msg.subject, msg.header("N"), msg.header("none"), msg.seq) == ("s.1", "3", None, 4)
    meta = msg.metadata
    assert (meta.stream, meta.consumer, meta.num_delivered) == ("S", "c", 1)
    assert (meta.stream_sequence, meta.consumer_sequence, meta.num_pending) == (4, 4, 6)
    assert abs(meta.timestamp.timestamp() - meta.timestamp_ns / 1e9) < 1e-3
    assert "JsMsg 's.1' S 4" in repr(msg)


def test_fetch_ends_when_there_are_no_more(filled, call):
    messages, err = call(filled.fetch, "S", "c", {"batch": 20, "no_wait": True})
    assert (err, len(messages)) == (None, 10)
    assert call(filled.fetch, "S", "c", {"no_wait": True}) == ([], None)
    assert call(filled.fetch, "S", "c", {"expires": timedelta(milliseconds=20)}) == ([], None)


def test_fetch_waits_for_messages_to_come(filled, call):
    call(filled.fetch, "S", "c", {"batch": 10})
    filled.nats.call_later(30, filled.nats.publish, "s.0", b"late")
    messages, err = call(filled.fetch, "S", "c", {"batch": 1})
    assert (err, texts(messages)) == (None, ["late"])


def test_fetch_by_size_and_a_message_that_fits_in_no_request(filled, call):
    messages, err = call(filled.fetch, "S", "c", {"batch": 10, "max_bytes": 200})
    assert err is None
    assert 0 < len(messages) < 10
    # As many as fit, when nothing else is said.
    more, err = call(filled.fetch, "S", "c", {"max_bytes": 200})
    assert (err, len(more)) == (None, len(messages))
    messages, err = call(filled.fetch, "S", "c", {"batch": 1, "max_bytes": 5})
    assert messages is None
    assert isinstance(err, MaxBytesExceededError)


def test_next_gives_one_message_or_says_that_none_came(filled, call):
    msg, err = call(filled.next, "S", "c")
    assert (err, msg.data) == (None, b"0")
    call(filled.fetch, "S", "c", {"batch": 9})
    assert isinstance(call(filled.next, "S", "c", {"expires": 20 * MS})[1], RequestTimeoutError)
    assert isinstance(call(filled.next, "S", "c", {"no_wait": True})[1], NoMessagesError)


def test_consumer_deleted_meanwhile_keeps_what_has_come(filled, call, run, eventually):
    answers: list[Any] = []
    filled.fetch("S", "c", {"batch": 11}, lambda *a: answers.append(a))
    eventually(lambda: call(filled.consumer_info, "S", "c")[0]["num_ack_pending"] == 10)
    call(filled.consumer_delete, "S", "c")
    run(lambda: answers)
    messages, err = answers[0]
    assert isinstance(err, ConsumerDeletedError)
    assert err.code == 409
    assert len(messages) == 10


def test_requests_beyond_the_consumers_limits(filled, call, run):
    limits = {"max_batch": 5, "max_expires": 10_000 * MS, "max_waiting": 1}
    config = {"name": "l", "ack_policy": "explicit", "filter_subject": "s.none", **limits}
    call(filled.consumer_create, "S", config)
    assert isinstance(call(filled.fetch, "S", "l", {"batch": 6})[1], MaxRequestExceededError)
    _, err = call(filled.fetch, "S", "l", {"expires": 11_000 * MS})
    assert isinstance(err, MaxRequestExceededError)
    answers: list[Any] = []
    filled.fetch("S", "l", {"expires": 300 * MS}, lambda *a: answers.append(a))
    assert isinstance(call(filled.fetch, "S", "l")[1], MaxWaitingExceededError)
    run(lambda: answers)
    assert answers == [([], None)]


def test_C7_push_consumer_can_not_be_asked(filled, call):
    call(filled.consumer_create, "S", {"name": "p", "deliver_subject": "d"})
    messages, err = call(filled.fetch, "S", "p", {"expires": 50 * MS})
    assert messages is None
    assert isinstance(err, (ConsumerIsPushError, NoRespondersError))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad Request - x", BadPullRequestError),
        ("409 Server Shutdown", ServerShutdownError),
        ("409 Something New", PullStatusError),
        ("412 Required Api Level", ApiLevelError),
        ("423 Nats-Wrong-Pin-Id", PinIdMismatchError),
        ("429 Too Many Requests", TooManyRequestsError),
        ("503", NoStreamResponseError),
    ],
)
def test_C7_status_that_a_test_server_never_sends_is_an_error(js, call, status, kind):
    fake = JetStream(js.nats, prefix="FAKE")
    block = f"NATS/1.0 {status}\r\n\r\n".encode()
    js.nats.subscribe("FAKE.>", lambda s, p, reply, h: js.nats.hpublish(reply, block))
    messages, err = call(fake.fetch, "S", "c")
    assert messages is None
    assert type(err) is kind


def test_missed_heartbeats_and_a_silent_server_end_a_fetch(js, call):
    fake = JetStream(js.nats, prefix="FAKE")
    js.nats.subscribe("FAKE.>", lambda *message: None)
    opts = {"expires": 60_000 * MS, "heartbeat": 20 * MS}
    assert isinstance(call(fake.fetch, "S", "c", opts)[1], NoHeartbeatError)
    _, err = call(fake.fetch, "S", "c", {"expires": 1_000_000})
    assert isinstance(err, RequestTimeoutError)


def test_heartbeats_keep_a_fetch_waiting(filled, call):
    call(filled.fetch, "S", "c", {"batch": 10})
    filled.nats.call_later(700, filled.nats.publish, "s.0", b"late")
    opts = {"expires": timedelta(seconds=5), "idle_heartbeat": timedelta(milliseconds=200)}
    assert texts(call(filled.fetch, "S", "c", opts)[0]) == ["late"]


def test_C7_lost_connection_ends_a_fetch(connected, line_server, proxy, call, run):
    link = proxy(line_server("newest").port)
    js = JetStream(connected(link, reconnect=True, reconnect_delay=10))
    call(js.stream_create, {"name": "S", "subjects": ["s"], "storage": "memory"})
    call(js.consumer_create, "S", {"name": "c", "ack_policy": "explicit"})
    js.nats.call_later(50, link.cut)
    messages, err = call(js.fetch, "S", "c")
    assert messages is None
    assert str(err) == "disconnected"
    run(js.nats.is_connected)
    js.nats.call_later(50, js.nats.disconnect)
    assert str(call(js.fetch, "S", "c")[1]) == "disconnected"
    other = JetStream(connected(line_server("newest")))
    call(other.stream_delete, "S")


def test_fetch_before_the_connection_is_sent_when_it_is_there(filled, client, call):
    port = int(filled.nats.connected_url().rpartition(":")[2])
    early = JetStream(client(host="127.0.0.1", port=port))
    messages, err = call(early.fetch, "S", "c", {"batch": 2})
    assert (err, texts(messages)) == (None, ["0", "1"])


@pytest.mark.parametrize(
    "opts",
    [
        {"batch": 0}, {"expires": -1}, {"max_bytes": 0}, {"bach": 1}, {"heartbeat": 5, "expires": 8},
        {"heartbeat": 5, "idle_heartbeat": 5},
    ],
)  # fmt: skip
def test_bad_fetch_options_are_refused_at_the_call(js, opts):
    with pytest.raises(BadOptionsError):
        js.fetch("S", "c", opts, print)


def test_nak_with_a_delay_comes_again_later_and_term_never(filled, call):
    first, second, third, *_ = call(filled.fetch, "S", "c", {"batch": 10})[0]
    first.nak(delay=timedelta(milliseconds=150))
    second.term()
    third.nak()
    messages, _ = call(filled.fetch, "S", "c", {"batch": 2, "expires": 2_000 * MS})
    assert [(m.data, m.metadata.num_delivered) for m in messages] == [(b"2", 2), (b"0", 2)]
    assert call(filled.fetch, "S", "c", {"no_wait": True}) == ([], None)


@pytest.mark.parametrize(
    ("version", "body"),
    [
        ("2.9.25", b"+TERM"),
        ("2.10.3", b"+TERM"),
        ("2.10.4", b"+TERM why"),
        ("2.15.0-RC.1", b"+TERM why"),
        ("0.0.0", b"+TERM why"),
    ],
)
def test_reason_goes_only_to_a_server_that_understands_it(fake, connected, run, version, body):
    """An older one would take the answer for none, and deliver the message again."""
    answers: list[bytes] = []

    def script(peer: Any) -> None:
        peer.handshake(version=version)
        size = peer.expect(r"PUB \$JS\.ACK\.S\.c\.1\.1\.1\.0\.0 (\d+)")[1]
        answers.append(peer.payload(int(size)))

    JsMsg(connected(fake(script)), "s", b"", "$JS.ACK.S.c.1.1.1.0.0", None).term("why")
    run(lambda: answers)
    assert answers == [body]


def test_in_progress_puts_off_the_redelivery(filled, call, run):
    config = {"name": "w", "ack_policy": "explicit", "ack_wait": 400 * MS}
    call(filled.consumer_create, "S", config)
    (msg,), _ = call(filled.fetch, "S", "w")
    for delay in (200, 400):
        filled.nats.call_later(delay, msg.in_progress)
    assert len(call(filled.fetch, "S", "w", {"batch": 9})[0]) == 9
    assert call(filled.fetch, "S", "w", {"expires": 100 * MS}) == ([], None)
    done: list[Any] = []
    filled.nats.call_later(600, done.append, True)
    run(lambda: done)
    assert call(msg.ack_sync) == (True, None)
    info, _ = call(filled.consumer_info, "S", "w")
    assert info["ack_floor"]["stream_seq"] == 1


def test_ack_sync_that_got_no_answer_can_be_tried_again(js, call):
    msg = JsMsg(js.nats, "s", b"", "nobody.listens", None)
    result, err = call(msg.ack_sync)
    assert result is None
    assert isinstance(err, NoRespondersError)
    assert not msg.acked
    js.nats.subscribe("nobody.listens", lambda s, p, reply, h: js.nats.publish(reply))
    assert call(msg.double_ack) == (True, None)
    assert msg.acked
    for bad in (JsMsg(js.nats, "s", b"", None, None), JsMsg(None, "s", b"", "r", None)):
        with pytest.raises(MsgNotAckableError):
            bad.ack()
    with pytest.raises(MsgNotAckableError):
        _ = msg.metadata


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("$JS.ACK.S.c.1.2.3.4000.5", ("S", "c", 1, 2, 3, 4000, 5, "", "")),
        ("$JS.ACK._.hash.S.c.1.2.3.4000.5", ("S", "c", 1, 2, 3, 4000, 5, "", "hash")),
        ("$JS.ACK.hub.hash.S.c.1.2.3.4000.5", ("S", "c", 1, 2, 3, 4000, 5, "hub", "hash")),
        (
            "$JS.ACK.hub.hash.S.c.1.2.3.4000.5.rand.more",
            ("S", "c", 1, 2, 3, 4000, 5, "hub", "hash"),
        ),
        ("$JS.ACK.S.c.1.2.3.4000", None),
        ("$JS.ACK.hub.S.c.1.2.3.4000.5", None),
        ("$JS.ACK.S.c.one.2.3.4000.5", None),
        ("_INBOX.x.1", None),
        (None, None),
    ],
)
def test_ack_reply_of_either_version_is_read(reply, expected):
    meta = parse_ack_reply(reply)
    assert (tuple(meta) if meta else None) == expected


@pytest.mark.since(2, 14)
def test_ack_reply_version_2_of_a_real_server(own_server, connected, call, tmp_path, run):
    config = f'jetstream {{ store_dir: "{tmp_path}" }}\nfeature_flags {{ js_ack_fc_v2: true }}'
    js = JetStream(connected(own_server(config=config)))
    call(js.stream_create, {"name": "S", "subjects": ["s"], "storage": "memory"})
    for _ in range(3):
        call(js.publish, "s", b"x")
    call(js.consumer_create, "S", {"name": "c", "ack_policy": "explicit"})
    messages, _ = call(js.fetch, "S", "c", {"batch": 2})
    assert messages[0].reply.startswith("$JS.ACK._.")
    meta = messages[1].metadata
    assert (meta.stream, meta.stream_sequence, meta.num_pending, meta.domain) == ("S", 2, 1, "")
    assert meta.account_hash
    assert call(messages[0].ack_sync) == (True, None)
    got: list[Any] = []
    ordered = js.ordered_consumer("S", lambda msg, err: got.append(msg.seq))
    run(lambda: got == [1, 2, 3])
    ordered.stop()


@pytest.mark.since(2, 11)
def test_priority_overflow_and_pinned_client(js, call, run):
    call(js.stream_create, {"name": "S", "subjects": ["s"], "storage": "memory"})
    base = {"ack_policy": "explicit", "priority_groups": ["g"]}
    call(js.consumer_create, "S", {**base, "name": "over", "priority_policy": "overflow"})
    for i in range(5):
        call(js.publish, "s", str(i))
    opts = {"batch": 5, "group": "g", "expires": 100 * MS}
    assert call(js.fetch, "S", "over", {**opts, "min_pending": 10}) == ([], None)
    assert texts(call(js.fetch, "S", "over", {**opts, "min_pending": 3})[0])[:1] == ["0"]
    assert isinstance(call(js.fetch, "S", "over", {"batch": 1})[1], BadPullRequestError)
    pinned = {
        **base,
        "name": "pin",
        "priority_policy": "pinned_client",
        "priority_timeout": 5_000 * MS,
    }
    call(js.consumer_create, "S", pinned)
    messages, _ = call(js.fetch, "S", "pin", opts)
    pin = messages[0].header("Nats-Pin-Id")
    assert pin
    call(js.publish, "s", b"more")
    _, err = call(js.fetch, "S", "pin", {**opts, "id": "wrong"})
    assert isinstance(err, PinIdMismatchError)
    assert texts(call(js.fetch, "S", "pin", {**opts, "batch": 1, "id": pin})[0]) == ["more"]
    call(js.consumer_unpin, "S", "pin", "g")
    got: list[Any] = []
    consume = js.consume(
        "S", "pin", {"group": "g", "max_messages": 2}, lambda m, e: got.append((m, e))
    )
    for i in range(6):
        js.publish("s", f"c{i}", lambda ack, err: None)
    run(lambda: len(got) == 6)
    assert [m.data for m, _ in got] == [f"c{i}".encode() for i in range(6)]
    consume.stop()


def test_priority_fields_on_an_old_server_are_refused(connected, line_server, call):
    js = JetStream(connected(line_server("2.10")))
    assert isinstance(call(js.fetch, "S", "c", {"group": "g"})[1], ApiLevelError)
    ended: list[Any] = []
    consume = js.consume("S", "c", {"group": "g"}, lambda msg, err: ended.append(err))
    call(js.account_info)
    assert isinstance(ended[0], ApiLevelError)
    consume.stop()


def test_without_waiting_a_consumer_that_waits_for_acks_has_no_messages(any_js, call):
    """The server does not answer such a request, but keeps it until the acks come."""
    js = JetStream(any_js.nats, timeout=300)
    call(js.stream_create, {"name": "S", "subjects": ["s.>"], "storage": "memory"})
    full = {"durable_name": "c", "max_ack_pending": 2, "ack_policy": "explicit"}
    assert call(js.consumer_create, "S", full)[1] is None
    for _ in range(5):
        call(js.publish, "s.1", b"x")
    messages, _ = call(js.fetch, "S", "c", {"batch": 2})
    assert call(js.fetch, "S", "c", {"batch": 3, "no_wait": True}) == ([], None)
    assert isinstance(call(js.next, "S", "c", {"no_wait": True})[1], NoMessagesError)
    for message in messages:
        assert call(message.ack_sync)[1] is None
    messages, error = call(js.fetch, "S", "c", {"batch": 3, "no_wait": True})
    assert (error, len(messages)) == (None, 2)


def test_without_waiting_a_server_that_does_not_answer_is_an_error(connected, fake, call):
    api = ScriptedApi(connected(fake(broker)), timeout=100)
    api.on("CONSUMER.MSG.NEXT", None)
    api.on(
        "CONSUMER.INFO",
        {"config": {"max_ack_pending": 2}, "num_ack_pending": 1},
        failure(404, 10014, "consumer not found"),
        None,
    )
    errors = [call(api.js.fetch, "S", "c", {"no_wait": True})[1] for _ in range(3)]
    kinds = [type(error) for error in errors]
    assert kinds == [RequestTimeoutError, ConsumerNotFoundError, RequestTimeoutError]
