"""Requests with several answers (ADR-47), and what becomes of requests without a connection."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from lab import inside
from nats_ev import (
    BadHeadersError,
    BadOptionsError,
    ConnectionClosedError,
    ConnectionDrainingError,
    ConnectionLostError,
    MaxPayloadError,
    NoRespondersError,
    NotConnectedError,
    RequestTimeoutError,
)


class Answers:
    """Records the calls of a request_many's callback."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self, response: Any, error: Any, headers: Any) -> None:
        self.calls.append((response, error, headers))

    @property
    def payloads(self) -> list[bytes]:
        return [response for response, _, _ in self.calls[:-1]]

    @property
    def ended(self) -> bool:
        return bool(self.calls) and self.calls[-1][0] is None

    @property
    def error(self) -> Any:
        assert self.ended
        assert self.calls[-1][2] is None
        return self.calls[-1][1]


@pytest.fixture
def responder(connected, server, run):
    """responder(subject, *payloads): a client that sends all of them as answers."""

    def make(subject: str, *payloads: bytes) -> Any:
        nats, done = connected(server), []

        def answer(s: str, p: bytes, reply: str, h: bytes) -> None:
            for payload in payloads:
                nats.publish(reply, payload)

        nats.subscribe(subject, answer)
        nats.flush(done.append)
        run(lambda: done)
        return nats

    return make


def test_many_answers_arrive_until_the_time_is_over(connected, server, run, responder):
    responder("all", b"1", b"2")
    responder("all", b"3")
    nats, answers = connected(server), Answers()
    nats.request_many("all", b"", answers, 200)
    run(lambda: answers.ended)
    assert sorted(answers.payloads) == [b"1", b"2", b"3"]
    assert answers.error is None
    assert not inside.waiting_requests(nats)


def test_it_ends_after_as_many_answers_as_wanted(connected, server, run, responder):
    responder("most", b"1", b"2", b"3", b"4")
    nats, answers = connected(server), Answers()
    nats.request_many("most", b"", answers, timedelta(seconds=60), max_msgs=2)
    run(lambda: answers.ended)
    assert answers.payloads == [b"1", b"2"]
    assert answers.error is None
    done: list[Any] = []
    nats.flush(done.append)
    run(lambda: done)
    assert len(answers.calls) == 3


def test_it_ends_after_a_silence_behind_an_answer(connected, server, run, responder):
    responder("stall", b"1", b"2")
    nats, answers = connected(server), Answers()
    nats.request_many("stall", b"", answers, 60_000, stall_ms=50)
    run(lambda: answers.ended)
    assert answers.payloads == [b"1", b"2"]
    assert answers.error is None


def test_it_ends_at_the_sentinel_which_is_no_answer(connected, server, run, responder):
    responder("end", b"1", b"2", b"", b"3")
    nats, empty, custom = connected(server), Answers(), Answers()
    nats.request_many("end", b"", empty, 60_000, sentinel=True)
    nats.request_many("end", b"", custom, 60_000, sentinel=lambda payload, headers: payload == b"2")
    run(lambda: empty.ended and custom.ended)
    assert empty.payloads == [b"1", b"2"]
    assert custom.payloads == [b"1"]
    assert empty.error is custom.error is None


def test_nobody_answering_is_a_timeout_and_nobody_listening_is_told_at_once(connected, server, run):
    nats, late, early = connected(server), Answers(), Answers()
    nats.subscribe("silent", lambda *message: None)
    nats.request_many("silent", b"", late, 50)
    nats.request_many("nobody.at.all", b"", early, 60_000)
    run(lambda: late.ended and early.ended)
    assert isinstance(late.error, RequestTimeoutError)
    assert isinstance(early.error, NoRespondersError)
    assert len(late.calls) == len(early.calls) == 1


def test_a_status_ends_it_with_its_description(connected, server, run):
    nats, answers = connected(server), Answers()

    def answer(s: str, p: bytes, reply: str, h: bytes) -> None:
        nats.hpublish(reply, {"A": "b"}, b"data")
        nats.hpublish(reply, b"NATS/1.0 404 No Messages\r\n\r\n")

    nats.subscribe("status", answer)
    nats.request_many("status", b"", answers, 60_000, headers={"X": "y"})
    run(lambda: answers.ended)
    assert answers.calls[0] == (b"data", None, b"NATS/1.0\r\nA: b\r\n\r\n")
    assert str(answers.error) == "404 No Messages"


def test_losing_the_connection_ends_it(connected, server, proxy, run, responder):
    responder("lost", b"1")
    between = proxy(server.port)
    nats, answers = connected(between), Answers()
    nats.request_many("lost", b"", answers, 60_000)
    run(lambda: answers.calls)
    between.cut()
    run(lambda: answers.ended)
    assert isinstance(answers.error, ConnectionLostError)
    assert str(answers.error) == "disconnected"


def test_a_callback_that_raises_or_disconnects_still_gets_its_end(
    connected, server, run, responder, excepthook
):
    responder("raise", b"1", b"2")
    nats, calls = connected(server), []

    def bad(response: Any, error: Any, headers: Any) -> None:
        calls.append((response, error))
        if response == b"1":
            raise RuntimeError("mine")
        if response == b"2":
            nats.disconnect()

    nats.request_many("raise", b"", bad, 60_000)
    run(lambda: len(calls) == 3)
    assert [str(e) for e in excepthook] == ["mine"]
    assert calls[:2] == [(b"1", None), (b"2", None)]
    assert isinstance(calls[2][1], ConnectionClosedError)


def test_a_sentinel_that_raises_ends_it(connected, server, run, responder, excepthook):
    responder("bad.sentinel", b"1", b"2")
    nats, answers = connected(server), Answers()
    nats.request_many("bad.sentinel", b"", answers, 60_000, sentinel=lambda p, h: 1 / 0)
    run(lambda: answers.ended)
    assert answers.payloads == []
    assert isinstance(excepthook[0], ZeroDivisionError)


def test_arguments_are_checked(connected, server):
    nats = connected(server)
    for call, kind in (
        (lambda: nats.request_many("a", b"", None), TypeError),
        (lambda: nats.request_many("a", b"", print, sentinel="x"), TypeError),
        (lambda: nats.request_many("a", b"", print, max_msgs=-1), BadOptionsError),
        (lambda: nats.request_many("a", b"", print, stall_ms=-1), BadOptionsError),
        (lambda: nats.request_many("a", b"x" * (2 << 20), print), MaxPayloadError),
    ):
        with pytest.raises(kind):
            call()
    assert not inside.waiting_requests(nats)
    nats.drain()
    with pytest.raises(ConnectionDrainingError):
        nats.request_many("a", b"", print)
    nats.disconnect()
    with pytest.raises(NotConnectedError):
        nats.request_many("a", b"", print)


# Without a connection.


def test_requests_made_while_connecting_are_answered(client, server, run):
    nats, answers = client(server), []
    nats.subscribe("echo", lambda s, p, reply, h: nats.publish(reply, p))
    for i in range(10):
        nats.request("echo", b"%d" % i, lambda *a: answers.append(a))
    assert nats.waiting_count() == 10
    run(lambda: len(answers) == 10)
    assert [a[0] for a in answers] == [b"%d" % i for i in range(10)]


def test_skip_waiting_drops_messages_and_fails_requests(own_server, connected, run):
    server = own_server()
    nats, answers, got = connected(server, reconnect=True, reconnect_delay=1), [], []
    nats.subscribe("m", lambda s, p, r, h: got.append(p))
    server.kill()
    run(lambda: "disconnect" in nats.recorder.events)
    nats.publish("m", b"old")
    nats.request("m", b"", lambda *a: answers.append(a), 60_000)
    nats.flush(lambda error: answers.append(error))
    assert nats.waiting_count() == 2
    nats.skip_waiting()
    assert nats.waiting_count() == 0
    assert answers == []
    run(lambda: answers)
    assert str(answers[0][1]) == "disconnected"
    nats.publish("m", b"new")
    server.start()
    run(lambda: got)
    assert got == [b"new"]
    run(lambda: len(answers) == 2)
    assert answers[1] is None  # the fence was not a message
    stats = nats.stats()
    assert stats["discarded"] == 2
    assert stats["accepted"] == stats["written"] + stats["discarded"]


def test_a_request_that_timed_out_in_a_full_socket_is_never_sent(proxy, server, connected, run):
    between = proxy(server.port)
    nats, other, answers, heard = connected(between), connected(server), [], []
    other.subscribe("ghost", lambda s, p, r, h: heard.append(p))
    done: list[Any] = []
    other.flush(done.append)
    run(lambda: done)
    between.stall()
    while not answers:
        for _ in range(200):
            nats.publish("fill", b"x" * 65536)
        nats.request("ghost", b"boo", lambda *a: answers.append(a), 20)
        run(lambda: answers)
    assert isinstance(answers[0][1], RequestTimeoutError)
    between.resume()
    nats.flush(done.append)
    run(lambda: len(done) == 2)
    other.flush(done.append)
    run(lambda: len(done) == 3)
    assert heard == []
    assert nats.stats()["discarded"] == 1


def test_the_last_call_comes_once_when_a_sentinel_disconnects(connected, server, run, responder):
    responder("last", b"1")
    nats, answers = connected(server), Answers()

    def sentinel(payload: bytes, headers: Any) -> bool:
        nats.disconnect()
        return True

    nats.request_many("last", b"", answers, 60_000, sentinel=sentinel)
    run(lambda: answers.ended)
    run(lambda: "disconnect" in nats.recorder.events)
    assert answers.calls == [(None, None, None)]


def test_the_last_call_comes_once_when_a_loss_is_told_late(fake, client, run):
    def script(peer: Any) -> None:
        peer.handshake()
        reply = peer.until("PUB q .* 0")[-1].split()[2]
        peer.send(f"MSG {reply} 2 1\r\n1\r\n")
        peer.until("PING")
        peer.close()

    nats, answers = client(fake(script)), Answers()
    loop = inside.loop_of(nats)
    run(nats.is_connected)

    def nests(response: Any, error: Any, headers: Any) -> None:
        wake = loop.timer(0.2, 0.0, lambda *args: loop.stop())
        wake.start()
        loop.start()

    nats.subscribe("other", print)
    nats.request("earlier", b"", nests, 60_000)
    nats.request_many("q", b"", answers, 60_000, stall_ms=100)
    run(lambda: answers.calls)
    nats.flush()
    run(lambda: answers.ended)
    run(lambda: "disconnect" in nats.recorder.events)
    assert [call[0] for call in answers.calls] == [b"1", None]


def test_headers_are_refused_where_they_would_cost_the_connection(fake, client, run):
    def script(peer: Any) -> None:
        peer.handshake(headers=False)
        assert peer.at_eof()

    nats = client(fake(script))
    run(nats.is_connected)
    for call in (nats.request, nats.request_many):
        with pytest.raises(BadHeadersError):
            call("q", b"", print, headers={"a": "b"})
    assert nats.stats()["accepted"] == 0


def test_a_cancelled_request_never_calls_and_is_not_sent(connected, server, run, responder):
    responder("echo", b"1")
    nats, calls, done = connected(server), [], []
    kept = nats.request("echo", b"", lambda *answer: done.append(answer[0]))
    numbers = [
        nats.request("echo", b"", lambda *answer: calls.append(answer)),
        nats.request("echo", b"x" * 5, lambda *answer: calls.append(answer), headers={"a": "b"}),
        nats.request_many("echo", b"", lambda *answer: calls.append(answer), 50),
    ]
    assert len({kept, *numbers}) == 4
    for number in [*numbers, *numbers, 0, 10**30]:
        nats.cancel_request(number)
    nats.flush(done.append)
    run(lambda: len(done) == 2)
    nats.cancel_request(kept)  # has ended
    assert nats.stats()["written"] == 1
    sent = nats.request_many("echo", b"", lambda *answer: calls.append(answer), 50, stall_ms=10)
    nats.flush(lambda error: nats.cancel_request(sent))
    nats.call_later(100, done.append, "later")
    run(lambda: len(done) == 3)
    assert not any(call[0] is None for call in calls)
    with pytest.raises(TypeError):
        nats.cancel_request("1")


def test_cancelling_inside_the_first_of_many_answers_ends_them(connected, server, run, responder):
    responder("three", b"1", b"2", b"3")
    nats, calls, done = connected(server), [], []

    def first(*answer: Any) -> None:
        calls.append(answer[0])
        nats.cancel_request(number)

    number = nats.request_many("three", b"", first, 50, max_msgs=3)
    nats.call_later(120, done.append, "later")
    run(lambda: done)
    assert calls == [b"1"]


def test_a_drain_does_not_wait_for_a_cancelled_request(connected, server, run):
    nats, done = connected(server), []
    nats.subscribe("silent", lambda *message: None)
    number = nats.request("silent", b"", print, 60_000)
    nats.drain(done.append)
    nats.call_later(20, nats.cancel_request, number)
    run(lambda: done)
    assert done == [None]


def test_publish_takes_headers(connected, server, run):
    nats, got = connected(server), []
    nats.subscribe("h", lambda *message: got.append(message))
    nats.publish("h", b"x", "reply", headers={"A": "b"})
    run(lambda: got)
    assert got == [("h", b"x", "reply", b"NATS/1.0\r\nA: b\r\n\r\n")]


def test_requests_that_are_sent_while_all_others_fail_are_kept(connected, own_server, proxy, run):
    """As by a finalizer, which may run between any two steps; the other is cancelled there."""
    server = own_server()
    gate = proxy(server.port)
    nats = connected(None, host="127.0.0.1", port=gate.port, reconnect=True, reconnect_delay=10)
    nats.subscribe("silent", lambda *message: None)
    nats.subscribe("echo", lambda s, payload, reply, h: nats.publish(reply, payload))
    calls: list[Any] = []
    nats.request("silent", b"", lambda *answer: calls.append(("first", answer[0])), 0)
    gone = nats.request("silent", b"", lambda *answer: calls.append(("gone", answer[0])), 0)

    def meanwhile() -> None:
        nats.cancel_request(gone)
        nats.request("echo", b"late", lambda *answer: calls.append(("late", answer[0])), 30_000)

    inside.before_ending(nats, meanwhile)
    gate.cut()
    run(lambda: len(calls) == 2)
    assert calls == [("first", None), ("late", b"late")]
    assert inside.waiting_requests(nats) == 0
