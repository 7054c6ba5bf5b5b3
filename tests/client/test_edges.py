"""Edges of the client that a program comes across rarely, and then relies on."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from lab import inside
from lab.broker import broker
from nats_ev import BadOptionsError, Nats, NatsError, PermissionsViolationError, Service, TlsError


def test_messages_to_more_subjects_than_are_remembered_keep_their_subjects(connected, server, run):
    nats: Nats = connected(server)
    got: list[str] = []
    nats.subscribe("edges.*", lambda subject, *rest: got.append(subject))
    subjects = [f"edges.{number}" for number in range(4200)]
    for subject in subjects:
        for _ in range(3):
            nats.publish(subject, b"")
    nats.publish(subjects[0], b"")
    run(lambda: len(got) == 3 * len(subjects) + 1)
    assert got == [s for subject in subjects for s in [subject] * 3] + [subjects[0]]


def test_no_most_messages_is_a_subscription_without_end(connected, fake, run):
    nats: Nats = connected(fake(broker))
    got: list[bytes] = []
    nats.subscribe_max("a", lambda subject, payload, *rest: got.append(payload), 0)
    for number in range(3):
        nats.publish("a", b"%d" % number)
    run(lambda: len(got) == 3)
    assert nats.subscription_count() == 1


def test_listeners_of_errors_hear_each_until_they_are_removed(connected, fake, run):
    nats: Nats = connected(fake(broker))
    heard: list[NatsError] = []
    nats.remove_error_listener(heard.append)
    nats.add_error_listener(heard.append)
    error = NatsError("noticed")
    nats.report(error)
    run(lambda: heard)
    nats.remove_error_listener(heard.append)
    nats.report(NatsError("not noticed"))
    run(lambda: len(nats.recorder.errors) == 2)  # type: ignore[attr-defined]
    assert heard == [error]
    assert nats.recorder.errors[0] is error  # type: ignore[attr-defined]


def test_a_new_pool_replaces_an_attempt_that_waits_for_an_old_server(client, fake, run):
    refusing = fake(lambda peer: peer.close())
    serving = fake(broker)
    nats: Nats = client(
        refusing, reconnect=True, retry_on_failed_connect=True, reconnect_delay=60_000
    )
    run(lambda: nats.recorder.errors)  # type: ignore[attr-defined]
    nats.set_server_pool([serving.url])
    nats.force_reconnect()
    run(nats.is_connected)
    assert serving.connections == 1


@pytest.mark.parametrize("host", ["a" * 64 + ".invalid", "a..invalid"])
def test_a_host_name_that_cannot_be_is_an_error_of_the_connection(client, run, host):
    nats: Nats = client(host=host, port=4222)
    run(lambda: nats.recorder.errors)  # type: ignore[attr-defined]
    assert not nats.is_connected()


def test_a_drain_without_a_time_limit_ends_when_all_is_delivered(connected, fake, run):
    nats: Nats = connected(fake(broker), drain_timeout=0)
    got: list[bytes] = []
    done: list[Any] = []
    nats.subscribe("a", lambda subject, payload, *rest: got.append(payload))
    nats.publish("a", b"1")
    nats.drain(done.append)
    run(lambda: done)
    assert (got, done) == ([b"1"], [None])


# Services.


def test_a_stopped_service_tells_each_that_stops_it(connected, fake, run):
    nats: Nats = connected(fake(broker))
    service = Service(nats, "s", "1.0.0")
    done: list[Any] = []
    service.stop()
    for _ in range(2):
        service.stop(lambda result, error: done.append((result, error)))
    run(lambda: len(done) == 2)
    service.stop()
    service.stop(lambda result, error: done.append((result, error)))
    run(lambda: len(done) == 3)
    assert done == [(True, None)] * 3


def test_a_service_whose_subscriptions_have_gone_stops_at_once(connected, fake, run):
    nats: Nats = connected(fake(broker))
    done: list[Any] = []
    service = Service(nats, "s", "1.0.0")
    for sid in range(1, 100):
        with contextlib.suppress(NatsError):
            nats.unsubscribe(sid)
    service.stop(lambda result, error: done.append((result, error)))
    run(lambda: done)
    assert done == [(True, None)]
    assert service.stopped


def test_a_discovery_that_wants_no_answer_gets_none(connected, fake, run):
    nats: Nats = connected(fake(broker))
    Service(nats, "s", "1.0.0")
    answers: list[Any] = []
    nats.publish("$SRV.PING", b"")
    nats.request("$SRV.PING", b"", lambda data, error, headers: answers.append(error))
    run(lambda: answers)
    assert answers == [None]
    assert nats.recorder.errors == []  # type: ignore[attr-defined]


def test_a_refused_subscription_stops_the_service_and_is_told(connected, fake, run):
    peers: list[Any] = []

    def script(peer: Any) -> None:
        peers.append(peer)
        broker(peer)

    nats: Nats = connected(fake(script))
    told: list[Any] = []
    stopped: list[Any] = []
    service = Service(
        nats, "s", "1.0.0",
        error_handler=lambda service, error: told.append(error),
        done_handler=stopped.append,
    )  # fmt: skip
    endpoint = service.add_endpoint("forbidden", lambda request: None, subject="no.entry")
    answers: list[Any] = []
    nats.request("$SRV.PING", b"", lambda data, error, headers: answers.append(error))
    run(lambda: answers)
    refusal = 'Permissions Violation for Subscription to "no.entry" using queue "q"'
    peers[0].send(f"-ERR '{refusal}'\r\n")
    run(lambda: stopped)
    assert isinstance(told[0], PermissionsViolationError)
    assert endpoint.num_errors == 1
    assert service.stopped


# Callbacks in the middle of what has come in one piece.


def together(*answers: str) -> Any:
    """Return a script that reads a message for each answer, then sends all answers in one piece."""

    def script(peer: Any) -> None:
        peer.handshake()
        requests = [peer.until("PUB .*")[-1].split() for _ in answers]
        lines = [
            f"MSG {words[2]} {{sid}} {len(answer)}\r\n{answer}\r\n"
            for words, answer in zip(requests, answers, strict=True)
        ]
        peer.send("".join(lines).format(sid=1))
        peer.at_eof()

    return script


def test_an_answer_whose_callback_raises_does_not_keep_back_the_next(
    connected, fake, run, excepthook
):
    nats: Nats = connected(fake(together("one", "two", "three")))
    got: list[Any] = []

    def fail(data: Any, error: Any, headers: Any) -> None:
        got.append(data)
        raise ValueError(data)

    for _ in range(2):
        nats.request("a", b"", fail)
    nats.request("a", b"", lambda data, error, headers: got.append(data))
    run(lambda: len(got) == 3)
    assert got == [b"one", b"two", b"three"]
    assert [str(error) for error in excepthook] == ["b'one'", "b'two'"]


def test_pausing_and_resuming_between_two_messages_loses_and_doubles_none(connected, fake, run):
    def script(peer: Any) -> None:
        peer.handshake()
        sid = peer.until("SUB a .*")[-1].split()[-1]
        peer.send("".join(f"MSG a {sid} 1\r\n{number}\r\n" for number in range(6)))
        peer.at_eof()

    nats: Nats = connected(fake(script))
    got: list[bytes] = []

    def take(subject: str, payload: bytes, reply: Any, headers: Any) -> None:
        got.append(payload)
        if payload in (b"1", b"3"):
            nats.pause(sid)
            nats.resume(sid)

    sid = nats.subscribe("a", take)
    run(lambda: len(got) >= 6)
    assert got == [b"%d" % number for number in range(6)]
    info = nats.subscription_info(sid)
    assert info is not None
    assert info["received"] == 6


# Drains that do not come to their end.


def test_a_disconnect_tells_the_drains_of_subscriptions_that_it_ends(connected, fake, run):
    nats: Nats = connected(fake(broker))
    done: list[Any] = []
    first, second = (nats.subscribe(subject, lambda *message: None) for subject in "ab")
    nats.drain_subscription(first, done.append)
    nats.drain_subscription(second)
    nats.disconnect()
    run(lambda: done)
    assert len(done) == 1
    assert isinstance(done[0], NatsError)
    assert nats.subscription_info(first) is None


def test_unsubscribing_ends_a_drain_of_the_subscription(connected, fake, run):
    nats: Nats = connected(fake(broker))
    done: list[Any] = []
    first, second = (nats.subscribe(subject, lambda *message: None) for subject in "ab")
    nats.drain_subscription(first, done.append)
    nats.drain_subscription(second)
    for sid in (first, second):
        nats.unsubscribe(sid)
    run(lambda: done)
    assert done == [None]


def test_a_name_that_no_certificate_can_have_is_an_error_of_the_handshake(client, fake, run):
    nats: Nats = client(
        fake(lambda peer: (peer.send_info(tls_required=True), peer.at_eof())),
        tls_hostname=".invalid",
    )
    run(lambda: nats.recorder.errors)  # type: ignore[attr-defined]
    error = nats.recorder.errors[0]  # type: ignore[attr-defined]
    assert isinstance(error, TlsError)
    assert "SSL setup failed" in str(error)


def test_limits_beyond_what_a_server_understands_are_counted_here(fake, client, run):
    lines: list[str] = []

    def script(peer: Any) -> None:
        peer.handshake()
        lines.extend(peer.until("PING"))
        peer.send("MSG a 1 1\r\n1\r\nMSG b 2 1\r\n1\r\nMSG c 3 1\r\n1\r\nPONG\r\n")
        assert peer.at_eof()

    nats, got, done = client(fake(script)), [], []
    run(nats.is_connected)
    for subject, most in (("a", 10**9), ("b", 2**64), ("c", 10**400)):
        nats.subscribe_max(subject, lambda s, *rest: got.append(s), most)
    sid = nats.subscribe("d", print)
    nats.unsubscribe(sid, 5)
    nats.unsubscribe(sid, 10**9)
    nats.flush(done.append)
    run(lambda: done)
    assert got == ["a", "b", "c"]
    assert [line for line in lines if line.startswith("UNSUB")] == [
        "UNSUB 4 5",
        "UNSUB 4 999999999",
    ]
    assert nats.subscription_info(3)["max_msgs"] == 10**400


@pytest.mark.parametrize(
    "value", [10**400, float("inf"), float("nan"), -1], ids=["huge", "inf", "nan", "negative"]
)
def test_times_that_nothing_can_hold_are_refused(connected, server, value):
    nats = connected(server)
    with pytest.raises(BadOptionsError):
        nats.request("a", b"", print, value)
    with pytest.raises(BadOptionsError):
        nats.call_later(value, print)
    assert not inside.waiting_requests(nats)


def test_a_long_subject_is_subscribed_again_when_both_sides_allow_it(own_server, connected, run):
    server = own_server(config="max_control_line: 64KB")
    nats, got = connected(server, max_control_line=65536, reconnect=True, reconnect_delay=1), []
    subject = "x" * 10_000
    nats.subscribe(subject, lambda s, p, *rest: got.append(p))
    nats.force_reconnect()
    run(lambda: nats.recorder.count("connect") == 2)
    nats.publish(subject, b"heard")
    run(lambda: got)


def test_calls_that_were_put_off_are_made_in_a_loop_that_one_of_them_nests(connected, server, run):
    nats, seen = connected(server), []
    loop = inside.loop_of(nats)

    def nests() -> None:
        wake = loop.timer(0.5, 0.0, lambda *args: (seen.append("too late"), loop.stop()))
        wake.start()
        loop.start()
        wake.stop()

    nats.call_soon(nests)
    nats.call_soon(lambda: (seen.append("second"), loop.stop()))
    run(lambda: seen)
    assert seen == ["second"]


def test_call_later_counts_in_the_last_callbacks_of_a_client(connected, server, run):
    nats, seen = connected(server), []
    nats.call_later(10, seen.append, "before the end")
    nats.request("nobody", b"", lambda *answer: nats.call_later(5, seen.append, "request"))
    nats.on_disconnect(lambda: nats.call_later(5, seen.append, "on_disconnect"))
    nats.disconnect()
    run(lambda: len(seen) == 2)
    assert seen == ["request", "on_disconnect"]
