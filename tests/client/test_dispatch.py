"""Delivery from one read buffer when callbacks change what is being delivered: exact counts, order.

A scripted server puts the frames of a test into one segment, so that what follows a callback's frame
is already in the client's buffer.
"""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import Any

import pytest


def one_segment(*parts: str | bytes, after: str = "PUB go 0") -> Any:
    """A script: the handshake, then all parts at once as soon as the client has sent `after`."""

    def script(peer: Any) -> None:
        peer.handshake()
        peer.until(after)
        peer.send(b"".join(p.encode() if isinstance(p, str) else p for p in parts))
        peer.at_eof()

    return script


def msg(sid: int, payload: bytes, subject: str = "x") -> bytes:
    return b"MSG %s %d %d\r\n%s\r\n" % (subject.encode(), sid, len(payload), payload)


def numbers(count: int, sid: int = 1, start: int = 0) -> bytes:
    return b"".join(msg(sid, b"%d" % n) for n in range(start, start + count))


def test_lowering_max_msgs_inside_a_run_counts_each_message_once(fake, client, run):
    nats, got = client(fake(one_segment(numbers(20), msg(2, b"end")))), []

    def callback(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(int(payload))
        if payload == b"1":
            nats.unsubscribe(1, 9)
            nats.unsubscribe(1, 7)
            nats.unsubscribe(1, 5)

    nats.subscribe("x", callback)
    end: list[Any] = []
    nats.subscribe("y", lambda *m: end.append(m))
    run(nats.is_connected)
    nats.publish("go")
    run(lambda: end)
    assert got == [0, 1, 2, 3, 4]
    assert nats.subscription_count() == 1


def test_changing_max_msgs_of_a_limited_subscription_inside_a_run(fake, client, run):
    nats, got, end = client(fake(one_segment(numbers(20), msg(2, b"end")))), [], []

    def callback(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(int(payload))
        if len(got) == 3:
            nats.unsubscribe(1, 12)

    nats.subscribe_max("x", callback, 10)
    nats.subscribe("y", lambda *m: end.append(m))
    run(nats.is_connected)
    nats.publish("go")
    run(lambda: end)
    assert got == list(range(12))


def test_a_cut_inside_a_run_counts_only_what_was_delivered(fake, client, run):
    received: list[str] = []

    def second(peer: Any) -> None:
        peer.handshake()
        peer.send(numbers(10, start=100))
        received.extend(peer.until("PUB done 0"))

    nats, got = client(fake(one_segment(numbers(50)), second), reconnect=True), []

    def callback(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(int(payload))
        if payload == b"2":
            nats.disconnect()
            nats.connect()
        if payload == b"104":
            nats.unsubscribe(1, 10)

    nats.subscribe("x", callback)
    run(nats.is_connected)
    nats.publish("go")
    run(lambda: nats.subscription_count() == 0)
    nats.publish("done")
    run(lambda: received)
    assert got == [0, 1, 2, *range(100, 107)]
    # The server counts from its own SUB: 10 in all, of which 3 came over the former connection.
    assert received == ["UNSUB 1 7", "PUB done 0"]


def test_an_auto_unsubscribe_set_after_a_reconnect_is_the_total_since_subscribe(
    connected, server, client, run, proxy
):
    link = proxy(server.port)
    nats, other, got, theirs = connected(link, reconnect=True), connected(server), [], []
    nats.subscribe("total", lambda s, p, *rest: got.append(p), "q")
    for _ in range(3):
        nats.publish("total", b"before")
    run(lambda: len(got) == 3)
    link.cut()
    run(lambda: nats.recorder.count("reconnect") == 1)
    nats.unsubscribe(1, 5)
    done: list[Any] = []
    nats.flush(done.append)
    run(lambda: done)
    for _ in range(2):
        other.publish("total", b"after")
    run(lambda: len(got) == 5)
    assert nats.subscription_count() == 0
    # Had the server been told 5, it would give messages of the group to a member that is gone.
    other.subscribe("total", lambda s, p, *rest: theirs.append(p), "q")
    for _ in range(40):
        other.publish("total", b"theirs")
    other.flush(done.append)
    run(lambda: len(done) == 2)
    assert len(theirs) == 40


def test_disconnect_in_a_flush_callback_is_not_undone_by_the_pongs_behind_it(fake, client, run):
    nats = client(fake(one_segment("PONG\r\nPONG\r\nPONG\r\n")))
    run(nats.is_connected)
    calls: list[Any] = []
    nats.publish("go")
    nats.flush(lambda error: (calls.append(("first", error)), nats.disconnect()))
    nats.flush(lambda error: calls.append(("second", str(error))))
    nats.flush(lambda error: calls.append(("third", str(error))))
    run(lambda: nats.recorder.count("disconnect"))
    assert not nats.is_connected()
    assert nats.status() == "CLOSED"
    assert calls == [("first", None), ("second", "disconnected"), ("third", "disconnected")]
    assert nats.recorder.events == ["connect", "disconnect"]


def test_an_interrupt_in_a_flush_callback_loses_no_other_pong(fake, client, run, loop):
    nats = client(fake(one_segment("PONG\r\nPONG\r\nPONG\r\n", msg(1, b"after"))))
    run(nats.is_connected)
    calls: list[Any] = []

    def stop(error: Any) -> None:
        calls.append("first")
        raise KeyboardInterrupt

    nats.subscribe("x", lambda s, p, *rest: calls.append(p))
    nats.publish("go")
    nats.flush(stop)
    nats.flush(lambda error: calls.append("second"))
    nats.flush(lambda error: calls.append("third"))
    with pytest.raises(KeyboardInterrupt):
        run(lambda: False)
    assert calls == ["first"]
    run(lambda: len(calls) == 4)
    assert calls == ["first", "second", "third", b"after"]


def test_a_loop_nested_in_a_flush_callback_sees_the_pongs_behind_it(fake, client, run, loop):
    nats = client(fake(one_segment("PONG\r\nPONG\r\n", msg(1, b"after"))))
    run(nats.is_connected)
    calls: list[Any] = []

    def nest(error: Any) -> None:
        calls.append("first")
        run(lambda: b"after" in calls)
        calls.append("first ends")

    nats.subscribe("x", lambda s, p, *rest: calls.append(p))
    nats.publish("go")
    nats.flush(nest)
    nats.flush(lambda error: calls.append("second"))
    run(lambda: "first ends" in calls)
    assert calls == ["first", "second", b"after", "first ends"]


def test_second_answer_to_a_request_is_dropped(connected, server, run):
    nats, other, answers, done = connected(server), connected(server), [], []
    for n in range(3):
        other.subscribe(
            "svc", lambda s, p, reply, h, n=n: [other.publish(reply, b"%d" % n) for _ in range(4)]
        )
    other.flush(done.append)
    run(lambda: done)
    for _ in range(50):
        nats.request("svc", b"", lambda *a: answers.append(a))
    run(lambda: len(answers) == 50)
    nats.flush(done.append)
    other.flush(done.append)
    run(lambda: len(done) == 3)
    nats.flush(done.append)
    run(lambda: len(done) == 4)
    assert len(answers) == 50
    assert {answer[0] for answer in answers} <= {b"0", b"1", b"2"}
    assert nats.stats()["msgs_in"] == 50 * 12


def answer_all(times: int) -> Any:
    """A script that answers all requests before "go" at once, each so many times."""

    def script(peer: Any) -> None:
        peer.handshake()
        lines = peer.until("PUB go 0")
        inboxes = [line.split()[2] for line in lines if line.startswith("PUB svc")]
        sid = next(line.split()[-1] for line in lines if line.startswith("SUB"))
        frames = [
            b"MSG %s %s 2\r\n%02d\r\n" % (inbox.encode(), sid.encode(), n)
            for n, inbox in enumerate(inboxes)
        ]
        peer.send(b"".join(frame * times for frame in frames))
        peer.at_eof()

    return script


def test_answers_in_one_segment_go_each_to_its_request(fake, client, run):
    nats, answers = client(fake(answer_all(3))), {}
    run(nats.is_connected)
    for n in range(30):
        nats.request("svc", b"", lambda *a, n=n: answers.setdefault(n, []).append(a))
    nats.publish("go")
    run(lambda: len(answers) == 30)
    assert answers == {n: [(b"%02d" % n, None, None)] for n in range(30)}


@pytest.mark.parametrize("act", ["nest", "raise", "interrupt", "disconnect"])
@pytest.mark.parametrize("at", [0, 1, 7, 14])
def test_whatever_the_callback_of_one_answer_does_the_others_come_once(
    fake, client, run, loop, excepthook, act, at
):
    nats, answers = client(fake(answer_all(1))), []
    run(nats.is_connected)

    def answered(n: int, response: bytes | None, error: Exception | None, headers: Any) -> None:
        answers.append((n, response, str(error) if error else None))
        if n != at:
            return
        if act == "nest":
            run(lambda: len(answers) == 15)
        elif act == "raise":
            raise ValueError("expected")
        elif act == "interrupt":
            raise KeyboardInterrupt
        else:
            nats.disconnect()

    for n in range(15):
        nats.request("svc", b"", partial(answered, n))
    nats.publish("go")
    if act == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            run(lambda: False)
        assert len(answers) == at + 1
    run(lambda: len(answers) == 15)
    failed = act == "disconnect"
    assert answers == [
        (n, None, "disconnected") if failed and n > at else (n, b"%02d" % n, None)
        for n in range(15)
    ]
    assert [str(error) for error in excepthook] == ["expected"] * (act == "raise")


def test_requests_work_again_after_drain_and_connect(connected, server, run):
    nats, other, answers, done = connected(server), connected(server), [], []
    other.subscribe("again", lambda s, p, reply, h: other.publish(reply, p))
    other.flush(done.append)
    run(lambda: done)
    nats.request("again", b"1", lambda *a: answers.append(a))
    run(lambda: answers)
    nats.drain(done.append)
    run(lambda: nats.recorder.count("disconnect"))
    nats.connect(server.host, server.port)
    nats.request("again", b"2", lambda *a: answers.append(a), 3000)
    run(lambda: len(answers) == 2)
    assert answers == [(b"1", None, None), (b"2", None, None)]


def test_a_pong_that_came_during_a_long_callback_counts(fake, client, run):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.expect("PING")
        peer.send(msg(1, b"slow"))
        time.sleep(0.1)
        peer.send("PONG\r\n")
        while True:
            peer.expect("PING")
            peer.send("PONG\r\n")
            if nats.stats()["msgs_in"] == 1:
                peer.send(msg(1, b"more"))

    def callback(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(payload)
        if payload == b"slow":
            time.sleep(0.4)

    got: list[bytes] = []
    options = {"ping_interval": 200, "max_pings_outstanding": 1}
    nats = client(fake(lambda peer: ended(script, peer)), **options)
    nats.subscribe("x", callback)
    run(lambda: len(got) >= 2)
    assert nats.recorder.errors == []


def test_an_interrupt_at_the_end_of_a_long_delivery_does_not_stop_the_reading(fake, client, run):
    def script(peer: Any) -> None:
        peer.handshake()
        peer.until("PUB go 0")
        peer.send(numbers(200))
        peer.until("PUB more 0")
        peer.send(msg(1, b"more"))
        peer.at_eof()

    def callback(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(payload)
        time.sleep(
            0.0005
        )  # longer than a slice, all of them: the rest waits for the next iteration
        if payload == b"199":
            raise KeyboardInterrupt

    nats, got = client(fake(script)), []
    nats.subscribe("x", callback)
    run(nats.is_connected)
    nats.publish("go")
    with pytest.raises(KeyboardInterrupt):
        run(lambda: len(got) > 200)
    nats.publish("more")
    run(lambda: len(got) > 200)
    assert got == [*(b"%d" % n for n in range(200)), b"more"]


def test_a_disconnect_while_a_resumed_subscription_catches_up_leaves_it_working(
    connected, server, run
):
    nats, got, done = connected(server), [], []

    def callback(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(payload)
        time.sleep(0.02)  # longer than a slice: the rest waits for the next iteration

    sid = nats.subscribe("late", callback)
    nats.pause(sid)
    for n in range(5):
        nats.publish("late", b"%d" % n)
    nats.flush(done.append)
    run(lambda: done)
    nats.resume(sid)
    run(lambda: got)
    nats.disconnect()
    run(lambda: nats.recorder.count("disconnect"))
    before = len(got)
    nats.connect(server.host, server.port)
    run(nats.is_connected)
    nats.publish("late", b"new")
    run(lambda: len(got) > before)
    assert got[before:] == [b"new"]


def test_what_a_resumed_subscription_has_pending_survives_the_end_of_the_connection(
    own_server, connected, run
):
    running = own_server()
    nats, got, done = connected(running), [], []

    def callback(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(payload)
        time.sleep(0.02)

    sid = nats.subscribe("late", callback)
    nats.pause(sid)
    for n in range(5):
        nats.publish("late", b"%d" % n)
    nats.flush(done.append)
    run(lambda: done)
    running.kill()
    nats.resume(sid)
    run(lambda: len(got) == 5)
    assert nats.status() == "CLOSED"
    assert got == [b"%d" % n for n in range(5)]


def test_a_paused_subscription_keeps_no_more_than_max_msgs(fake, client, run):
    nats, got, end = client(fake(one_segment(numbers(20), msg(2, b"end")))), [], []
    nats.subscribe("x", lambda s, p, *rest: got.append(int(p)))
    nats.subscribe("y", lambda *m: end.append(m))
    run(nats.is_connected)
    nats.pause(1)
    nats.unsubscribe(1, 7)
    nats.publish("go")
    run(lambda: end)
    nats.resume(1)
    run(lambda: nats.subscription_count() == 1)
    assert got == list(range(7))


def test_draining_a_subscription_twice_tells_both_behind_the_last_message(connected, server, run):
    nats, events, done = connected(server), [], []

    def callback(subject: str, payload: bytes, *rest: Any) -> None:
        events.append(payload)
        time.sleep(0.02)  # the backlog takes several iterations

    sid = nats.subscribe("twice", callback)
    nats.pause(sid)
    for n in range(5):
        nats.publish("twice", b"%d" % n)
    nats.flush(done.append)
    run(lambda: done)
    nats.drain_subscription(sid, lambda error: events.append(("first", error)))
    nats.drain_subscription(sid, lambda error: events.append(("second", error)))
    run(lambda: len(events) == 7)
    assert events == [*[b"%d" % n for n in range(5)], ("first", None), ("second", None)]


def ended(script: Any, peer: Any) -> None:
    """A script that goes on until the test closes the connection."""
    with contextlib.suppress(EOFError, OSError):
        script(peer)
