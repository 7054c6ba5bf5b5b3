"""Draining: what is still delivered, what is refused when, and that everybody is told, once."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from lab import inside
from lab.steps import collect
from nats_ev import (
    ConnectionDrainingError,
    DrainTimeoutError,
    NotConnectedError,
    Status,
)
from nats_ev.steps import later_step


def test_what_is_in_flight_until_the_pong_is_delivered_and_nothing_after(fake, client, run):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.until("SUB a 1")
        peer.expect("UNSUB 1")
        peer.expect("PING")
        peer.send("MSG a 1 1\r\n1\r\nMSG a 1 1\r\n2\r\nPONG\r\nMSG a 1 1\r\n3\r\n")
        assert peer.at_eof()

    nats, got, events = client(fake(script)), [], []
    run(nats.is_connected)
    nats.subscribe("a", collect(got))
    nats.drain(events.append)
    run(lambda: "disconnect" in nats.recorder.events)
    assert got == [b"1", b"2"]
    assert events == [None]


def test_publish_is_allowed_until_the_ping_is_written_and_then_only_to_answer(fake, client, run):
    refused: list[Any] = []

    def script(peer: Any) -> None:
        peer.handshake()
        assert peer.until("PING") == ["SUB a 1", "PUB before 0", "UNSUB 1", "PING"]
        peer.answer.wait(5)
        peer.send("MSG a 1 r 1\r\n1\r\n")
        assert peer.until("PUB r 1") == ["PUB r 1"]
        peer.send("PONG\r\n")
        peer.expect("PING")
        peer.send("PONG\r\n")
        assert peer.at_eof()

    go = threading.Event()

    def with_event(peer: Any) -> None:
        peer.answer = go
        script(peer)

    nats, done = client(fake(with_event)), []
    run(nats.is_connected)
    nats.subscribe("a", lambda s, p, reply, h: nats.publish(reply, p))
    nats.drain(done.append)
    nats.publish("before")
    assert nats.status() is Status.DRAINING_SUBS

    def too_late() -> None:
        try:
            nats.publish("after")
        except ConnectionDrainingError as exc:
            refused.append(exc)
        go.set()

    nats.call_later(20, too_late)
    run(lambda: done)
    assert len(refused) == 1
    assert done == [None]
    stats = nats.stats()
    assert stats["written"] == stats["accepted"] == 2


def test_many_subscriptions_end_in_portions_of_which_none_stalls_the_loop(fake, client, run):
    total, portion, fences, go = 10_000, 4096, [], threading.Semaphore(0)

    def script(peer: Any) -> None:
        peer.handshake()
        peer.until(f"SUB s.{total} {total}")
        peer.send("MSG s.2 2 4\r\nkept\r\n")
        fences.extend(peer.until("PING") for _ in range(3))
        for _ in fences:
            assert go.acquire(timeout=10)
            peer.send(f"MSG s.{total} {total} 1\r\nx\r\nPONG\r\n")
        assert peer.at_eof()

    nats, got, done = client(fake(script)), [], []
    run(nats.is_connected)
    for n in range(1, total + 1):
        nats.subscribe(f"s.{n}", collect(got))
    nats.pause(2)
    run(lambda: nats.subscription_info(2)["pending_msgs"])
    nats.drain(done.append)
    run(lambda: len(fences) == 3)
    unsubs = [line for lines in fences for line in lines if line != "PING"]
    assert unsubs == [f"UNSUB {n}" for n in range(1, total + 1)]
    for left in (total - portion, total - 2 * portion):
        go.release()
        run(lambda left=left: nats.subscription_count() == left)
        assert done == []
    go.release()
    run(lambda: done)
    assert done == [None]
    assert nats.subscription_count() == 0
    assert got == [b"kept", b"x", b"x", b"x"]


def test_requests_in_flight_end_by_themselves_and_only_then_the_ping_follows(fake, client, run):
    lines: list[str] = []

    def script(peer: Any) -> None:
        peer.handshake()
        reply = peer.until("PUB svc .* 1")[-1].split()[2]
        peer.until("UNSUB 2")
        peer.send(f"MSG {reply} 1 2\r\nok\r\n")
        lines.extend(peer.until("PING"))
        peer.send("PONG\r\n")
        assert peer.at_eof()

    nats = client(fake(script))
    events = nats.recorder.events
    run(nats.is_connected)
    nats.request("svc", b"x", lambda *answer: events.append(answer[0]))
    nats.request("silent", b"x", lambda *answer: events.append(str(answer[1])), 200)
    nats.subscribe("ends", print)
    nats.drain(lambda error: events.append(("drained", error)))
    with pytest.raises(ConnectionDrainingError):
        nats.request("new", b"", print)
    with pytest.raises(ConnectionDrainingError):
        nats.request("new", b"", print, 200)
    with pytest.raises(ConnectionDrainingError):
        nats.request_many("new", b"", print)
    nats.call_later(100, nats.publish, "while.waiting")
    run(lambda: "disconnect" in events)
    assert events == ["connect", b"ok", "request timeout", ("drained", None), "disconnect"]
    assert lines == ["PUB while.waiting 0", "PING"]


def test_many_answers_end_by_their_silence_before_the_drain_does(connected, server, run):
    other, nats, seen = connected(server), connected(server), []
    other.subscribe("q", lambda s, p, reply, h: other.publish(reply, b"one"))
    other.flush(lambda error: seen.append("ready"))
    run(lambda: seen)
    nats.request_many("q", b"", lambda r, e, h: seen.append((r, e)), stall_ms=50)
    nats.drain(seen.append)
    run(lambda: "disconnect" in nats.recorder.events)
    assert seen == ["ready", (b"one", None), (None, None), None]


def test_what_is_left_after_drain_timeout_fails_in_the_order_of_the_calls(fake, client, run):
    def script(peer: Any) -> None:
        peer.handshake()
        assert "PING" not in peer.until("PUB silent .*")
        assert peer.at_eof()

    nats = client(fake(script), drain_timeout=50)
    events = nats.recorder.events
    run(nats.is_connected)
    nats.request("silent", b"", lambda r, e, h: events.append(str(e)), 0)
    nats.drain(lambda error: events.append(type(error)))
    nats.drain(lambda error: events.append(type(error)))
    run(lambda: "disconnect" in events)
    assert events == ["connect", "disconnected", DrainTimeoutError, DrainTimeoutError, "disconnect"]


def test_a_request_in_the_callback_of_one_that_was_in_flight_is_refused(connected, server, run):
    other, nats, seen = connected(server), connected(server), []
    other.subscribe("q", lambda s, p, reply, h: other.publish(reply, p))
    other.flush(lambda error: seen.append("ready"))
    run(lambda: seen)

    def answered(response: Any, error: Any, headers: Any) -> None:
        seen.append(response)
        nats.publish("still.allowed")
        for call in (nats.request, nats.request_many):
            with pytest.raises(ConnectionDrainingError):
                call("q", b"again", print)
        with pytest.raises(ConnectionDrainingError):
            nats.subscribe("q", print)

    nats.request("q", b"1", answered)
    nats.drain(seen.append)
    run(lambda: "disconnect" in nats.recorder.events)
    assert seen == ["ready", b"1", None]


def test_later_steps_of_operations_are_sent_and_awaited(connected, server, run):
    other, nats, seen = connected(server), connected(server), []
    other.subscribe("q", lambda s, p, reply, h: other.publish(reply, p))
    other.flush(lambda error: seen.append("ready"))
    run(lambda: seen)

    def ask(payload: bytes, then: Any) -> None:
        nats.request("q", payload, lambda response, error, h: (seen.append(response), then()))

    def wait() -> None:
        nats.call_later(60, ask, b"3", lambda: None, ended=print, step=True)

    ask(b"1", lambda: later_step(ask, b"2", wait))
    nats.drain(seen.append)
    run(lambda: "disconnect" in nats.recorder.events)
    assert seen == ["ready", b"1", b"2", b"3", None]


def test_a_subscription_for_the_answers_of_an_operation_ends_by_itself(connected, server, run):
    other, nats, seen = connected(server), connected(server), []

    def answer(subject: str, payload: bytes, reply: str, headers: Any) -> None:
        for delay in (20, 60):
            other.call_later(delay, other.publish, reply, b"%d" % delay)

    def answered(subject: str, payload: bytes, *rest: Any) -> None:
        seen.append(payload)
        if payload == b"60":
            nats.unsubscribe(sid)

    other.subscribe("q", answer)
    other.flush(lambda error: seen.append("ready"))
    run(lambda: seen)
    inbox = nats.new_inbox()
    sid = nats.subscribe(inbox, answered)
    nats.await_in_drain(sid)
    nats.publish("q", b"", inbox)
    nats.drain(seen.append)
    run(lambda: "disconnect" in nats.recorder.events)
    assert seen == ["ready", b"20", b"60", None]


def test_messages_of_one_that_is_paused_again_are_delivered_when_it_is_resumed(
    connected, server, run
):
    nats, got, done = connected(server), [], []

    def slowly(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(payload)
        nats.pause(sid)
        nats.call_later(5, nats.resume, sid)

    sid = nats.subscribe("slow", slowly)
    for i in range(10):
        nats.publish("slow", b"%d" % i)
    nats.drain(done.append)
    run(lambda: done)
    assert (got, done) == ([b"%d" % i for i in range(10)], [None])


def test_kept_messages_may_be_answered_in_every_slice(connected, server, run):
    nats, other, answers, done = connected(server), connected(server), [], []
    other.subscribe("answers", collect(answers))
    other.flush(done.append)
    run(lambda: done)

    def slow(subject: str, payload: bytes, reply: str, headers: Any) -> None:
        end = time.monotonic() + 0.012  # more than a slice
        while time.monotonic() < end:
            pass
        nats.publish(reply, payload)

    sid = nats.subscribe("kept", slow)
    nats.pause(sid)
    for i in range(10):
        nats.publish("kept", b"%d" % i, "answers")
    run(lambda: nats.subscription_info(sid)["pending_msgs"] == 10)
    nats.drain(done.append)
    run(lambda: len(done) == 2 and len(answers) == 10)
    assert done == [None, None]


def test_a_callback_may_answer_after_much_and_after_a_nested_loop(connected, server, run):
    nats, other, answers, done = connected(server), connected(server), [], []
    other.subscribe("answers", collect(answers))
    other.flush(done.append)
    run(lambda: done)
    loop = inside.loop_of(nats)

    def busy(subject: str, payload: bytes, reply: str, headers: Any) -> None:
        for _ in range(30):
            nats.publish("much", bytes(100_000))
        nats.publish(reply, b"after much")
        wake = loop.timer(0.05, 0.0, lambda *args: loop.stop())
        wake.start()
        loop.start()
        nats.publish(reply, b"after a nested loop")

    nats.subscribe("busy", busy)
    nats.publish("busy", b"", "answers")
    nats.drain(done.append)
    run(lambda: len(done) == 2 and len(answers) == 2)
    assert done == [None, None]
    assert answers == [b"after much", b"after a nested loop"]


def test_force_reconnect_in_a_drain_leaves_it_to_its_end(connected, server, run):
    nats, got, done = connected(server), [], []

    def first(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(payload)
        nats.force_reconnect()

    nats.subscribe("d", first)
    for i in range(20):
        nats.publish("d", b"%d" % i)
    nats.drain(done.append)
    nats.force_reconnect()
    run(lambda: done)
    assert (len(got), done) == (20, [None])
    assert nats.recorder.events == ["connect", "disconnect"]


def test_connect_while_a_drain_waits_is_refused_and_the_drain_comes_to_its_end(
    own_server, connected, run
):
    server = own_server()
    nats, done = connected(server, reconnect=True, reconnect_delay=50), []
    nats.subscribe("a", print)
    server.kill()
    run(lambda: "disconnect" in nats.recorder.events)
    nats.publish("last.words", b"x")
    nats.drain(done.append)
    with pytest.raises(ConnectionDrainingError):
        nats.connect()
    server.start()
    run(lambda: done)
    assert done == [None]
    assert nats.stats()["written"] == 1
    assert nats.status() is Status.CLOSED


def test_all_are_told_in_the_order_of_the_calls_when_the_connection_is_lost(fake, client, run):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.until("PING")
        peer.until("PING")
        peer.reset()

    nats = client(fake(script), reconnect=True, reconnect_delay=1)
    events = nats.recorder.events
    run(nats.is_connected)
    nats.request("x", b"", lambda r, error, h: events.append(f"request {error}"), 60_000)
    nats.flush(lambda error: events.append(f"flush {error}"))
    nats.drain(lambda error: events.append(f"drain {error}"))
    nats.flush(lambda error: events.append(f"late flush {error}"))
    nats.drain(lambda error: events.append(f"joined {error}"))
    run(lambda: "disconnect" in events)
    events = [e for e in events if not e.startswith("error")]
    assert events == [
        "connect", "request disconnected", "flush disconnected", "drain disconnected",
        "late flush disconnected", "joined disconnected", "disconnect",
    ]  # fmt: skip
    assert nats.status() is Status.CLOSED  # a drained client does not come back
    assert nats.subscription_count() == 0


def test_a_drain_while_connecting_follows_the_queue(client, connected, server, run):
    other, got = connected(server), []
    other.subscribe("queued", collect(got))
    done: list[Any] = []
    other.flush(done.append)
    run(lambda: done)
    nats = client(server)
    nats.publish("queued", b"1")
    nats.drain(done.append)
    nats.publish("queued", b"2")
    run(lambda: "disconnect" in nats.recorder.events)
    assert done == [None, None]
    run(lambda: len(got) == 2)
    assert nats.recorder.events == ["connect", "disconnect"]


def test_a_drain_while_reconnecting_waits_for_the_connection(own_server, connected, run):
    server = own_server()
    nats, done = connected(server, reconnect=True, reconnect_delay=5), []
    sid = nats.subscribe("a", print)
    server.kill()
    run(lambda: "disconnect" in nats.recorder.events)
    nats.publish("last.words", b"x")
    nats.drain(done.append)
    with pytest.raises(ConnectionDrainingError):
        nats.subscribe("b", print)
    nats.unsubscribe(sid)
    server.start()
    run(lambda: nats.recorder.count("disconnect") == 2)
    assert done == [None]
    assert nats.stats()["written"] == 1
    assert nats.recorder.count("connect") == 2


def test_disconnect_ends_a_drain_that_has_not_begun(client, fake, run):
    server = fake(lambda peer: peer.at_eof())
    nats, done = client(server), []
    nats.drain(done.append)
    nats.drain(done.append)
    nats.disconnect()
    assert done == []
    run(lambda: len(done) == 2)
    assert [str(error) for error in done] == ["disconnected"] * 2
    with pytest.raises(NotConnectedError):
        nats.drain()


def test_a_drain_that_takes_too_long_is_told_and_ends(fake, client, run):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.until("PING")
        assert peer.at_eof()

    nats = client(fake(script), drain_timeout=50)
    events = nats.recorder.events
    run(nats.is_connected)
    nats.drain(lambda error: events.append(error))
    run(lambda: "disconnect" in events)
    assert isinstance(events[1], DrainTimeoutError)
    assert isinstance(events[1], TimeoutError)
    assert len(events) == 3
    silent = client(fake(script), drain_timeout=50)
    run(silent.is_connected)
    silent.drain()
    run(lambda: "disconnect" in silent.recorder.events)
    assert isinstance(silent.recorder.errors[0], DrainTimeoutError)


def test_a_drained_client_can_be_used_again_from_scratch(connected, server, run):
    nats, got, done = connected(server), [], []
    nats.subscribe("a", collect(got))
    nats.request("nobody", b"", lambda *a: None, 10)
    nats.drain(done.append)
    run(lambda: "disconnect" in nats.recorder.events)
    assert nats.subscription_count() == 0
    nats.connect()
    run(nats.is_connected)
    nats.subscribe("b", collect(got))
    nats.publish("a", b"a")
    nats.publish("b", b"b")
    run(lambda: got == [b"b"])
    nats.request("b", b"", lambda *a: done.append(a), 20)
    run(lambda: len(done) == 2)


def test_draining_inside_a_message_callback_delivers_the_rest(connected, server, run):
    nats, got = connected(server), []

    def first(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(payload)
        if payload == b"0":
            nats.drain()

    nats.subscribe("d", first)
    for i in range(200):
        nats.publish("d", b"%d" % i)
    run(lambda: "disconnect" in nats.recorder.events)
    assert got == [b"%d" % i for i in range(200)]


def test_status_listeners_hear_of_a_drain(connected, server, run):
    nats, heard = connected(server), []
    nats.add_status_listener(heard.append)
    nats.drain()
    run(lambda: "disconnect" in nats.recorder.events)
    assert heard == [Status.DRAINING_SUBS, Status.DRAINING_PUBS, Status.CLOSED]


# One subscription.


def test_one_subscription_ends_behind_what_was_in_flight(connected, server, run):
    nats, got, other, events = connected(server), [], [], []
    sid = nats.subscribe("s", collect(got))
    nats.subscribe("s", collect(other))
    for i in range(100):
        nats.publish("s", b"%d" % i)
    nats.drain_subscription(sid, lambda error: events.append((error, len(got))))
    nats.drain_subscription(sid, lambda error: events.append((error, len(got))))
    nats.publish("s", b"late")
    run(lambda: len(events) == 2 and len(other) == 101)
    assert events == [(None, 100), (None, 100)]
    assert nats.subscription_count() == 1
    nats.drain_subscription(sid, lambda error: events.append(error))
    run(lambda: len(events) == 3)
    assert events[2] is None


def test_a_draining_subscription_does_not_come_back_with_a_reconnect(fake, client, run):
    def first(peer: Any) -> None:
        peer.handshake()
        peer.until("UNSUB 1")
        peer.expect("PING")
        peer.close()

    def second(peer: Any) -> None:
        peer.send_info()
        peer.until("CONNECT .*")
        assert peer.until("PING") == ["SUB kept 2", "PING"]
        peer.send("PONG\r\n")
        peer.at_eof()

    nats, events = client(fake(first, second), reconnect=True, reconnect_delay=1), []
    run(nats.is_connected)
    sid = nats.subscribe("drained", print)
    nats.subscribe("kept", print)
    nats.drain_subscription(sid, events.append)
    run(lambda: nats.recorder.count("connect") == 2)
    assert [str(e) for e in events] == ["disconnected"]
    assert nats.subscription_count() == 1


def test_drain_ends_a_pause_of_reading(connected, server, run):
    nats, drained = connected(server), []
    nats.pause_reading()
    nats.drain(drained.append)
    run(lambda: drained)
    assert drained == [None]


def test_a_drain_while_connecting_delivers_what_the_queue_brings(client, server, run):
    nats, got, done = client(server), [], []
    nats.subscribe("queued.own", collect(got))
    nats.publish("queued.own", b"1")
    nats.drain(done.append)
    run(lambda: done)
    assert (got, done, nats.subscription_count()) == ([b"1"], [None], 0)
