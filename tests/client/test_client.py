"""The client's core on a real server: publish, subscribe, request, fences, limits, order."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from lab import inside
from lab.steps import collect_messages
from nats_ev import (
    AlreadyConnectedError,
    BadHeadersError,
    BadSubjectError,
    ConnectionDrainingError,
    MaxPayloadError,
    Nats,
    NoRespondersError,
    NotConnectedError,
    RequestTimeoutError,
)


def test_message_arrives_with_subject_payload_reply_and_headers(connected, server, run):
    nats, got = connected(server), []
    assert nats.subscribe("core.>", collect_messages(got)) == 1
    nats.publish("core.a", b"one")
    nats.publish("core.b", "zwölf", "core.reply")
    nats.hpublish("core.c", {"X-Trace": "42"}, b"body", "r")
    nats.hpublish("core.d", b"NATS/1.0\r\nA: b\r\n\r\n")
    run(lambda: len(got) == 4)
    assert got == [
        ("core.a", b"one", None, None),
        ("core.b", "zwölf".encode(), "core.reply", None),
        ("core.c", b"body", "r", b"NATS/1.0\r\nX-Trace: 42\r\n\r\n"),
        ("core.d", b"", None, b"NATS/1.0\r\nA: b\r\n\r\n"),
    ]


@pytest.mark.parametrize(
    ("payload", "sent"),
    [
        (b"", b""), (None, b""), ("", b""), (b"x", b"x"), (bytearray(b"xy"), b"xy"),
        (memoryview(b"abcd")[::2], b"ac"), ("é", b"\xc3\xa9"), (b"x" * 65536, b"x" * 65536),
    ],
)  # fmt: skip
def test_payload_of_any_bytes_like_or_str_arrives(connected, server, run, payload, sent):
    nats, got = connected(server), []
    nats.subscribe("p", collect_messages(got))
    for _ in range(3):  # framed directly, interned, from the table
        nats.publish("p", payload)
    run(lambda: len(got) == 3)
    assert [m[1] for m in got] == [sent] * 3


def test_every_message_of_a_flood_has_its_subject_and_payload_in_order(connected, server, run):
    nats, got = connected(server), []
    nats.subscribe("flood.subject", collect_messages(got))
    payloads = [b"%0100d" % i for i in range(20_000)]
    for payload in payloads:
        nats.publish("flood.subject", payload)
    run(lambda: len(got) == len(payloads))
    assert got == [("flood.subject", payload, None, None) for payload in payloads]


def test_wildcards_match_one_token_or_the_rest(connected, server, run):
    nats, one, rest = connected(server), [], []
    nats.subscribe("w.*", collect_messages(one))
    nats.subscribe("w.>", collect_messages(rest))
    for subject in ("w.a", "w.a.b", "w.c", "v.a"):
        nats.publish(subject)
    done = []
    nats.flush(done.append)
    run(lambda: done)
    assert [m[0] for m in one] == ["w.a", "w.c"]
    assert [m[0] for m in rest] == ["w.a", "w.a.b", "w.c"]


def test_queue_group_gets_each_message_once_and_both_members_some(connected, server, run):
    nats, first, second = connected(server), [], []
    nats.subscribe("q", collect_messages(first), "workers")
    nats.subscribe("q", collect_messages(second), queue_group="workers")
    for _ in range(40):
        nats.publish("q", b"job")
    run(lambda: len(first) + len(second) == 40)
    assert first
    assert second


def test_subscribe_max_delivers_exactly_so_many(connected, server, run):
    nats, got, done = connected(server), [], []
    nats.subscribe_max("m", collect_messages(got), 3)
    for i in range(10):
        nats.publish("m", b"%d" % i)
    nats.flush(done.append)
    run(lambda: done)
    assert [m[1] for m in got] == [b"0", b"1", b"2"]
    assert nats.subscription_count() == 0


def test_unsubscribe_counts_from_subscribe_and_ends_at_once_when_reached(connected, server, run):
    nats, got, done = connected(server), [], []
    sid = nats.subscribe("m", collect_messages(got))
    for _ in range(5):
        nats.publish("m")
    run(lambda: len(got) == 5)
    nats.unsubscribe(sid, 5)
    assert nats.subscription_count() == 0
    nats.publish("m")
    nats.flush(done.append)
    run(lambda: done)
    assert len(got) == 5


def test_no_message_after_unsubscribe_even_of_those_already_received(connected, server, run):
    nats, got, done = connected(server), [], []

    def once(*message: Any) -> None:
        got.append(message)
        nats.unsubscribe(sid)

    sid = nats.subscribe("u", once)
    nats.batch(lambda: [nats.publish("u", b"x") for _ in range(100)])
    nats.flush(done.append)
    run(lambda: done)
    assert len(got) == 1
    assert nats.subscription_count() == 0


def test_request_is_answered(connected, server, run):
    nats, answers = connected(server), []
    nats.subscribe("svc", lambda s, payload, reply, h: nats.publish(reply, payload.upper()))
    nats.request("svc", b"ping", lambda *answer: answers.append(answer))
    nats.request("svc", "pong", lambda *answer: answers.append(answer), timeout_ms=1000)
    run(lambda: len(answers) == 2)
    assert answers == [(b"PING", None, None), (b"PONG", None, None)]


def test_answers_go_to_their_own_reply_subject_at_once_or_later(connected, server, run):
    service, nats, kept, got = connected(server), connected(server), [], []

    def serve(subject: str, payload: bytes, reply: str, headers: Any) -> None:
        kept.append(reply)
        service.publish(reply, payload)
        service.publish(reply, bytearray(payload))
        if len(kept) > 1:
            service.publish(kept[-2], b"late", reply)

    service.subscribe("answer.me", serve)
    nats.subscribe("back.*", lambda s, payload, reply, h: got.append((s, payload, reply)))
    done: list[Any] = []
    for client in (service, nats):
        client.flush(done.append)
    run(lambda: len(done) == 2)
    for name in ("back.1", "back.ü", "back.\udcff", "back.1"):
        nats.publish("answer.me", name.encode("utf-8", "surrogateescape"), name)
    run(lambda: len(got) == 11)
    assert sorted(got, key=repr) == sorted(
        [(name, name.encode("utf-8", "surrogateescape"), None) for name in kept for _ in "12"]
        + [(a, b"late", b) for a, b in pairwise(kept)],
        key=repr,
    )  # fmt: skip


def test_request_with_headers_gets_headers_back(connected, server, run):
    nats, answers = connected(server), []
    nats.subscribe("h", lambda s, p, reply, headers: nats.hpublish(reply, headers, p))
    nats.request("h", b"x", lambda *a: answers.append(a), headers={"A": "1"})
    run(lambda: answers)
    assert answers == [(b"x", None, b"NATS/1.0\r\nA: 1\r\n\r\n")]


def test_request_times_out_once_with_the_manuals_text(connected, server, run):
    nats, answers = connected(server), []
    nats.subscribe("silent", lambda *message: None)
    nats.request("silent", b"", lambda *a: answers.append(a), 50)
    nats.request("silent", b"", lambda *a: answers.append(a), timedelta(milliseconds=60))
    run(lambda: len(answers) == 2)
    for response, error, headers in answers:
        assert (response, headers) == (None, None)
        assert isinstance(error, RequestTimeoutError)
        assert isinstance(error, TimeoutError)
        assert str(error) == "request timeout"


def test_no_responders_fails_early_only_when_asked_for(connected, server, run):
    answers = []
    nats = connected(server, no_responders=True)
    nats.request("nobody", b"", lambda *a: answers.append(a))
    run(lambda: answers)
    assert isinstance(answers[0][1], NoRespondersError)
    assert str(answers[0][1]) == "no responders"
    patient = connected(server)
    patient.request("nobody", b"", lambda *a: answers.append(a), 100)
    run(lambda: len(answers) == 2)
    assert isinstance(answers[1][1], RequestTimeoutError)


def test_thousand_requests_in_flight_are_all_answered_rightly(connected, server, run):
    nats, answers, total = connected(server), {}, 100_000
    nats.subscribe("echo", lambda s, payload, reply, h: nats.publish(reply, payload))
    sent = 0

    def send() -> None:
        nonlocal sent
        number = sent
        sent += 1
        nats.request("echo", b"%d" % number, lambda *a: answered(number, a), 30_000)

    def answered(number: int, answer: Any) -> None:
        assert number not in answers
        answers[number] = answer
        if sent < total:
            send()

    for _ in range(1024):
        send()
    run(lambda: len(answers) == total, timeout=60)
    assert all(answers[n] == (b"%d" % n, None, None) for n in range(total))


def test_new_inboxes_are_unique_and_work(connected, server, run):
    nats, got = connected(server, inbox_prefix="_MINE.x"), []
    inboxes = {nats.new_inbox() for _ in range(1000)}
    assert len(inboxes) == 1000
    assert all(inbox.startswith("_MINE.x.") for inbox in inboxes)
    inbox = inboxes.pop()
    nats.subscribe(inbox, collect_messages(got))
    nats.request(inbox, b"", lambda *a: None)  # opens the shared inbox
    nats.publish(inbox, b"x")
    run(lambda: len(got) == 2)
    assert nats.stats()["msgs_in"] == 2


def test_flush_means_that_the_server_has_processed_everything(connected, server, run):
    nats, other, done = connected(server), connected(server), []
    got = []
    other.subscribe("f", collect_messages(got))
    other.flush(done.append)
    run(lambda: done)
    for _ in range(1000):
        nats.publish("f", b"x" * 100)
    nats.flush(done.append)
    run(lambda: len(done) == 2)
    run(lambda: len(got) == 1000)
    assert done == [None, None]


def test_ping_does_not_satisfy_a_flush(fake, client, run):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.expect("PING")
        peer.expect("PING")
        peer.send("PONG\r\n")
        peer.until("PUB go 0")
        peer.send("PONG\r\n")

    nats, done = client(fake(script)), []
    run(nats.is_connected)
    nats.ping()
    nats.flush(done.append)
    nats.subscribe("unused", lambda *m: None)
    run(lambda: inside.awaited_pongs(nats) == 1)
    assert not done
    nats.publish("go")
    run(lambda: done)


def test_drain_delivers_what_is_in_flight_then_disconnects(connected, server, run):
    nats, got = connected(server), []
    events = nats.recorder.events
    nats.subscribe("d", collect_messages(got))
    for _ in range(500):
        nats.publish("d", b"x")
    nats.drain(lambda error: events.append(("drained", error)))
    nats.publish("d", b"last")
    with pytest.raises(ConnectionDrainingError):
        nats.subscribe("e", collect_messages(got))
    with pytest.raises(ConnectionDrainingError):
        nats.request("e", b"", lambda *a: None)
    nats.drain(lambda error: events.append(("joined", error)))
    run(lambda: "disconnect" in events)
    assert [m[1] for m in got] == [b"x"] * 500 + [b"last"]
    assert events == ["connect", ("drained", None), ("joined", None), "disconnect"]
    assert not nats.is_connected()
    with pytest.raises(NotConnectedError):
        nats.publish("d")


def test_answers_published_while_draining_arrive(connected, server, run):
    service, nats, answers = connected(server), connected(server), []
    service.subscribe("slow", lambda s, p, reply, h: service.publish(reply, p))
    done = []
    service.flush(done.append)
    run(lambda: done)
    for i in range(100):
        nats.request("slow", b"%d" % i, lambda *a: answers.append(a), 5000)
    nats.flush(done.append)
    run(lambda: len(done) == 2)
    service.drain(done.append)
    run(lambda: len(answers) == 100)
    assert all(error is None for _, error, _ in answers)


def test_batch_publishes_everything_also_when_its_body_raises(connected, server, run):
    nats, got = connected(server), []
    nats.subscribe("b", collect_messages(got))

    def body() -> None:
        nats.publish("b", b"1")
        nats.batch(lambda: nats.publish("b", b"2"))
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        nats.batch(body)
    nats.publish("b", b"3")
    run(lambda: len(got) == 3)
    assert nats.batch(lambda: 7) == 7


def test_stats_count_messages_and_their_bytes(connected, server, run):
    nats, got = connected(server), []
    nats.subscribe("s", collect_messages(got))
    nats.publish("s", b"12345")
    nats.hpublish("s", b"NATS/1.0\r\n\r\n", b"123")
    run(lambda: len(got) == 2)
    stats = nats.stats()
    assert stats == {
        "msgs_in": 2, "msgs_out": 2, "bytes_in": 20, "bytes_out": 20,
        "accepted": 2, "written": 2, "waiting": 0, "discarded": 0, "reconnects": 0,
        "slow_episodes": 0, "bytes_waiting": 0, "pings_outstanding": 0, "rtt": 0,
    }  # fmt: skip
    nats.reset_stats()
    assert set(nats.stats().values()) == {0}


def test_max_payload_is_the_smaller_of_ours_and_the_servers(connected, server, run):
    nats = connected(server)
    assert nats.max_payload() == 1024 * 1024
    with pytest.raises(MaxPayloadError, match=r"^payload exceeds max_payload \(1048576\)$"):
        nats.publish("x", b"x" * (1024 * 1024 + 1))
    nats.max_payload(8)
    assert nats.max_payload() == 8
    nats.publish("x", b"12345678")
    with pytest.raises(ValueError, match=r"payload exceeds max_payload \(8\)"):
        nats.publish("x", b"123456789")
    with pytest.raises(MaxPayloadError, match=r"message exceeds max_payload \(8\)"):
        nats.hpublish("x", b"NATS/1.0\r\n\r\n", b"1")
    with pytest.raises(MaxPayloadError):
        nats.request("x", b"123456789", lambda *a: None)
    nats.max_payload(0)
    assert nats.max_payload() == 1024 * 1024
    assert nats.stats()["msgs_out"] == 1


@pytest.mark.parametrize("subject", ["", " ", "a b", "a\r\nPUB b 0\r\n", "a\x00", "a\x7f", "a\tb"])
def test_subjects_that_would_break_the_line_are_refused(connected, server, subject):
    nats = connected(server)
    for call in (
        lambda: nats.publish(subject),
        lambda: nats.publish("ok", b"", subject) if subject else nats.publish(subject),
        lambda: nats.subscribe(subject, print),
        lambda: nats.subscribe("ok", print, subject) if subject else nats.subscribe(subject, print),
        lambda: nats.request(subject, b"", print),
        lambda: nats.hpublish(subject, b"NATS/1.0\r\n\r\n"),
    ):
        with pytest.raises(BadSubjectError):
            call()
    assert nats.subscription_count() <= 1  # the inbox of the refused request
    assert nats.stats()["accepted"] == 0


@pytest.mark.parametrize("subject", [None, b"raw", 5])
def test_a_subject_that_is_no_text_is_a_type_error(client, subject):
    with pytest.raises(TypeError, match="a subject must be str, not"):
        client().publish(subject, b"x")


@pytest.mark.parametrize("subject", ["a..b", ".a", "a.", "a.>.b", ">.a", "a*", "a.b>", "*a.b"])
def test_subscribe_refuses_empty_tokens_and_misplaced_wildcards(client, subject):
    with pytest.raises(BadSubjectError):
        client().subscribe(subject, print)


def test_headers_that_are_no_block_are_refused(connected, server):
    nats = connected(server)
    for bad in (b"", b"X: y\r\n\r\n", b"NATS/1.0\r\nA: b\r\n", {"a b": "c"}, {"a": "b\r\nc"}):
        with pytest.raises(BadHeadersError):
            nats.hpublish("x", bad, b"")
    with pytest.raises(TypeError):
        nats.hpublish("x", 5, b"")


def test_wrong_types_are_type_errors(connected, server):
    nats = connected(server)
    for call in (
        lambda: nats.publish(b"bytes"), lambda: nats.publish(5), lambda: nats.publish("a", 5),
        lambda: nats.publish("a", [1]), lambda: nats.publish("a", b"", 5),
        lambda: nats.subscribe("a", None), lambda: nats.subscribe(b"a", print),
        lambda: nats.request("a", b"", None), lambda: nats.request("a", b"", print, "5"),
        lambda: nats.publish([]), lambda: nats.request("a", 5, print),
    ):  # fmt: skip
        with pytest.raises(TypeError):
            call()
    assert nats.stats()["accepted"] == 0
    sid = nats.subscribe("a", print)
    for method in (
        nats.unsubscribe, nats.drain_subscription, nats.pause, nats.resume, nats.subscription_info,
        nats.set_pending_limits,
    ):  # fmt: skip
        for wrong in (None, str(sid), True, 1.0):
            with pytest.raises(TypeError, match="sid must be an int"):
                method(wrong)
    for args in ((sid, "1"), (sid, 1, None), (sid, 1.5)):
        with pytest.raises(TypeError, match="must be an int"):
            nats.set_pending_limits(*args)
    with pytest.raises(TypeError, match="max_msgs"):
        nats.unsubscribe(sid, 1.5)
    with pytest.raises(ValueError, match="max_msgs must be 0 or more, not -1"):
        nats.unsubscribe(sid, -1)
    assert nats.subscription_count() == 1


def test_without_a_connection_and_none_coming_calls_raise_not_connected(client):
    nats = client()
    for call in (
        lambda: nats.publish("a"), lambda: nats.hpublish("a", {}), nats.flush, nats.drain, nats.ping,
        lambda: nats.request("a", b"", print),
    ):  # fmt: skip
        with pytest.raises(NotConnectedError, match=r"^not connected$"):
            call()
        with pytest.raises(ConnectionError):
            call()
    sid = nats.subscribe("a", print)
    nats.unsubscribe(sid)
    nats.unsubscribe(12345)
    nats.disconnect()
    assert nats.server_info() is None
    assert nats.stats()["accepted"] == 0


def test_connect_twice_raises_already_connected(connected, client, server, run):
    nats = client()
    nats.connect(server.host, server.port)
    with pytest.raises(AlreadyConnectedError, match=r"^already connected$"):
        nats.connect(server.host, server.port)
    run(nats.is_connected)
    with pytest.raises(AlreadyConnectedError):
        nats.connect_unix("/tmp/x")


def test_disconnect_is_told_on_the_loop_and_nothing_is_delivered_after_it(connected, server, run):
    nats, got, answers = connected(server), [], []
    events = nats.recorder.events

    def first(*message: Any) -> None:
        got.append(message)
        nats.disconnect()
        events.append("returned")

    nats.subscribe("x", first)
    nats.request("x", b"", lambda *a: events.append(str(a[1])))
    nats.flush(lambda error: events.append(f"flush {error}"))
    for _ in range(10):
        nats.publish("x", b"1")
    run(lambda: "disconnect" in events)
    nats.disconnect()
    assert len(got) == 1
    assert events == ["connect", "returned", "disconnected", "flush disconnected", "disconnect"]
    assert answers == []


def test_client_lives_without_references_until_it_ends(loop, server, run):
    import gc
    import weakref

    got: list[Any] = []
    nats = Nats(loop=loop, host=server.host, port=server.port)
    nats.on_connect(lambda: got.append("connect"))
    alive = weakref.ref(nats)
    del nats
    gc.collect()
    run(lambda: got)
    client = alive()
    assert client is not None
    client.disconnect()
    del client
    loop.start()
    gc.collect()
    assert alive() is None


def test_secrets_are_in_no_repr(client):
    nats = client(user="u", password="s3cret", token="t0ken", jwt="j3wt")
    text = repr(nats) + repr(inside.options_of(nats))
    assert not {"s3cret", "t0ken", "j3wt"} & set(text.replace("'", " ").split())
    assert "s3cret" not in text


def test_the_repr_names_the_server_and_the_status_and_works_after_a_bad_option(
    loop, connected, server
):
    assert repr(Nats(loop=loop)) == "<Nats DISCONNECTED>"
    nats = connected(server)
    assert repr(nats) == f"<Nats {nats.connected_url()} CONNECTED>"
    half = Nats.__new__(Nats)
    with pytest.raises(TypeError):
        half.__init__(no_such_option=1)
    assert repr(half) == "<Nats>"


@pytest.mark.parametrize("what", ["status", "error"])
def test_a_listener_must_be_callable(client, what):
    nats = client()
    with pytest.raises(TypeError, match="cb must be callable, not int"):
        getattr(nats, f"add_{what}_listener")(3)
    getattr(nats, f"remove_{what}_listener")(print)  # is not there


def test_on_reconnect_is_for_a_connection_that_replaces_another_not_for_an_explicit_connect(
    connected, server, run
):
    nats, log = connected(server), []
    nats.on_connect(lambda: log.append("connect"))
    nats.on_reconnect(lambda: log.append("reconnect"))
    nats.disconnect()
    nats.connect(server.host, server.port)
    run(lambda: log)
    assert log == ["connect"]
    nats.force_reconnect()
    run(lambda: len(log) == 3)
    assert log == ["connect", "connect", "reconnect"]
