"""Observers: what they are told, that they can harm nothing, and that nobody pays who has none."""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar

import pytest

from lab import inside
from lab.steps import collect, collect_messages, flushed
from nats_ev import (
    BadSubjectError,
    Headers,
    Instrumentation,
    JetStream,
    Nats,
    NotConnectedError,
    RequestTimeoutError,
    aio,
)
from nats_ev.testing import free_port

FAST = {"reconnect": True, "reconnect_delay": 5, "max_reconnect_attempts": 0}


class Events(Instrumentation):
    """Notes all events."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def attach(self, nats):
        self.seen.append(("attach", nats))
        return self


for _name in (
    "connected", "disconnected", "attempt_failed", "closed", "error", "discovered",
    "lame_duck", "slow_consumer", "caught_up",
):  # fmt: skip
    setattr(Events, _name, lambda self, *args, _name=_name: self.seen.append((_name, *args)))


class Turns(Instrumentation):
    """Adds up what turns report."""

    def __init__(self) -> None:
        self.calls = self.size = self.msgs = self.msg_bytes = 0

    def wrote(self, size: int) -> None:
        self.calls += 1
        self.size += size

    def received(self, msgs: int, size: int) -> None:
        self.msgs += msgs
        self.msg_bytes += size


class Messages(Instrumentation):
    """Adds a header to what is sent, and notes what passes."""

    def __init__(self, name: str = "X-Seen") -> None:
        self.name = name
        self.seen: list[tuple[Any, ...]] = []

    def publish(self, send, subject, payload, reply_to, headers):
        self.seen.append(("publish", subject, payload, reply_to))
        send(headers, {self.name: "1"})

    def request(self, send, subject, payload, headers, answered, many):
        self.seen.append(("request", subject, payload))

        def also(response, err, headers):
            self.seen.append(("answered", response, type(err).__name__))
            answered(response, err, headers)

        send(headers, also, {self.name: "1"})

    def deliver(self, call, subject, payload, reply, headers, subscription):
        self.seen.append(("deliver", subject, payload, *subscription))
        call()
        self.seen.append(("delivered", subject))


class Bad(Instrumentation):
    """Does everything wrong."""

    def __init__(self, how: str) -> None:
        self.how = how

    def _fail(self, send, *args):
        if self.how == "never":
            return
        if self.how == "twice":
            send(*args)
            send(*args)
            return
        if self.how == "late":
            send(*args)
        raise ValueError(self.how)

    def publish(self, send, subject, payload, reply_to, headers):
        self._fail(send, headers)

    def request(self, send, subject, payload, headers, answered, many):
        self._fail(send, headers, answered)

    def deliver(self, call, *message):
        self._fail(call)

    def connected(self, url, reconnected):
        raise ValueError("connected")


def test_events_come_in_order_with_their_facts(own_server, client, run):
    server, events = own_server(), Events()
    nats = client(server, instrumentation=events, **FAST)
    run(nats.is_connected)
    server.stop()
    run(lambda: any(event[0] == "attempt_failed" for event in events.seen))
    server.start()
    run(lambda: nats.recorder.count("reconnect"))
    nats.disconnect()
    run(lambda: events.seen[-1][0] == "closed")
    url = f"nats://{server.host}:{server.port}"
    assert events.seen[:2] == [("attach", nats), ("connected", url, False)]
    names = [event[0] for event in events.seen if event[0] not in ("attempt_failed", "error")]
    assert names == ["attach", "connected", "disconnected", "connected", "disconnected", "closed"]
    failed = next(event for event in events.seen if event[0] == "attempt_failed")
    assert failed[1] == url
    assert failed[3] >= 0
    assert ("connected", url, True) in events.seen
    # No hook for messages: the fast path stays.
    assert type(nats) is Nats


def test_the_last_attempt_has_no_delay(client, run):
    events = Events()
    nats = client(None, host="127.0.0.1", port=free_port(), instrumentation=events)
    run(lambda: any(event[0] == "closed" for event in events.seen))
    failed = [event for event in events.seen if event[0] == "attempt_failed"]
    assert [event[3] for event in failed] == [None]
    assert failed[0][2] is nats.last_error()


def test_turns_add_up_to_the_stats(server, connected, run):
    turns = Turns()
    nats = connected(server, instrumentation=turns)
    assert type(nats) is Nats
    before = turns.calls
    nats.subscribe("t", collect(got := []))
    for _ in range(1000):
        nats.publish("t", b"12345")
    run(lambda: len(got) == 1000)
    assert turns.calls - before < 100
    stats = nats.stats()
    assert (turns.msgs, turns.msg_bytes) == (stats["msgs_in"], stats["bytes_in"]) == (1000, 5000)
    assert turns.size > 1000 * len("PUB t 5\r\n12345\r\n")


def test_turns_count_each_message_once_when_a_callback_runs_the_loop(server, connected, run):
    turns = Turns()
    nats = connected(server, instrumentation=turns)
    got: list[bytes] = []

    def nest(subject, payload, reply, headers):
        got.append(payload)
        if payload == b"first":
            nats.publish("t", b"nested")
            run(lambda: b"nested" in got)

    nats.subscribe("t", nest)
    for payload in (b"first", b"second", b"third"):
        nats.publish("t", payload)
    run(lambda: len(got) == 4)
    assert turns.msgs == nats.stats()["msgs_in"] == 4


def test_turns_count_what_is_parsed_after_a_slice_is_over(server, connected, run):
    turns = Turns()
    nats = connected(server, instrumentation=turns)
    got: list[int] = []

    def slow(subject, payload, reply, headers):
        got.append(1)
        if len(got) % 1000 == 1:
            time.sleep(0.011)

    nats.subscribe("t", slow)
    for number in range(6000):  # short runs, so that a read has more rows than fit
        nats.publish("t", b"", f"r{number}" if number % 2 else None)
    run(lambda: len(got) == 6000)
    assert turns.msgs == nats.stats()["msgs_in"] == 6000


def test_turns_count_what_a_connection_had_received_when_a_callback_stopped_the_loop(
    server, connected, run, loop
):
    turns = Turns()
    nats = connected(server, instrumentation=turns)

    def stop(subject, payload, reply, headers):
        raise KeyboardInterrupt

    nats.subscribe("t", stop)
    nats.publish("t", b"1")
    nats.publish("t", b"2")
    with pytest.raises(KeyboardInterrupt):
        run(lambda: False)
    nats.disconnect()
    run(lambda: turns.msgs)
    assert turns.msgs == nats.stats()["msgs_in"]


def test_a_class_that_has_a_hook_for_its_subclasses_may_be_observed(server, connected, run, loop):
    class Named(Nats):
        names: ClassVar[list[str]] = []

        def __init_subclass__(cls, *, name: str) -> None:
            cls.names.append(name)

    class Mine(Named, name="mine"):
        pass

    seen = Messages()
    nats = Mine(host=server.host, port=server.port, loop=loop, instrumentation=seen)
    flushed(nats, run)
    nats.publish("t")
    assert isinstance(nats, Mine)
    assert Named.names == ["mine"]
    assert seen.seen == [("publish", "t", b"", None)]
    nats.disconnect()


def test_a_subclass_may_have_methods_of_its_own_that_take_more(server, connected, run, loop):
    class Sealing(Nats):
        def publish(self, subject, payload=b"", reply_to=None, *, seal=b"", headers=None):
            super().publish(subject, payload + seal, reply_to, headers=headers)

    seen = Messages()
    nats = Sealing(host=server.host, port=server.port, loop=loop, instrumentation=seen)
    flushed(nats, run)
    nats.publish("t", b"a", seal=b"!")
    nats.publish("t", b"b", seal=b"!", headers={"A": "b"})
    assert isinstance(nats, Sealing)
    assert seen.seen == [("publish", "t", b"a!", None), ("publish", "t", b"b!", None)]
    nats.disconnect()


def test_messages_pass_through_with_headers_that_an_observer_adds(server, connected, run):
    seen = Messages()
    nats, plain = connected(server, instrumentation=seen), connected(server)
    assert isinstance(nats, Nats)
    assert type(nats).__name__ == "Nats"
    plain.subscribe("out.>", collect_messages(got := []))
    flushed(plain, run)
    nats.publish("out.a", b"1")
    nats.pub("out.b", "2", "reply", headers={"A": "b"})
    nats.hpublish("out.c", {"A": "c"})
    nats.hpub("out.d", {"A": "d"}, b"4", "reply")
    run(lambda: len(got) == 4)
    assert [(s, p, r) for s, p, r, _ in got] == [
        ("out.a", b"1", None), ("out.b", b"2", "reply"), ("out.c", b"", None),
        ("out.d", b"4", "reply"),
    ]  # fmt: skip
    parsed = [Headers.parse(h) for *_, h in got]
    assert [h.get("A") for h in parsed] == [None, "b", "c", "d"]
    assert all(h.get("X-Seen") == "1" for h in parsed)
    assert seen.seen == [
        ("publish", "out.a", b"1", None), ("publish", "out.b", "2", "reply"),
        ("publish", "out.c", b"", None), ("publish", "out.d", b"4", "reply"),
    ]  # fmt: skip


def test_requests_and_deliveries_pass_through_all_observers_in_order(server, connected, run):
    first, second = Messages("X-First"), Messages("X-Second")
    nats = connected(server, instrumentation=[first, Events(), second])
    answers: list[Any] = []
    nats.subscribe(
        "svc",
        lambda subject, payload, reply, headers: nats.publish(reply, headers),
        "workers",
    )
    number = nats.request("svc", b"?", lambda *args: answers.append(args), 5000, headers={"A": "b"})
    assert isinstance(number, int)
    run(lambda: answers)
    headers = Headers.parse(answers[0][0])
    assert [headers.get(name) for name in ("A", "X-First", "X-Second")] == ["b", "1", "1"]
    for each in (first, second):
        assert [event[0] for event in each.seen] == [
            "request", "deliver", "publish", "delivered", "answered",
        ]  # fmt: skip
        assert ("deliver", "svc", b"?", "svc", "workers") in each.seen
    nats.request_many("svc", b"?", lambda *args: answers.append(args), max_msgs=1)
    run(lambda: len(answers) == 3)
    assert answers[2] == (None, None, None)
    nats.cancel_request(nats.request("nobody", b"?", lambda *args: answers.append(args)))
    nats.request("silent", b"?", lambda *args: answers.append(args), 20)
    nats.subscribe("silent", collect([]))
    run(lambda: len(answers) == 4)
    assert isinstance(answers[3][1], RequestTimeoutError)


@pytest.mark.parametrize("how", ["early", "late", "never", "twice"])
def test_an_observer_that_fails_changes_nothing(server, connected, run, excepthook, how):
    nats = connected(server, instrumentation=Bad(how))
    answers: list[Any] = []
    nats.subscribe("s", collect_messages(got := []))
    nats.subscribe("svc", lambda subject, payload, reply, headers: nats.publish(reply, b"yes"))
    nats.publish("s", b"1")
    nats.hpublish("s", {"A": "b"}, b"2")
    assert nats.request("svc", b"?", lambda *args: answers.append(args)) > 0
    run(lambda: answers and len(got) == 2)
    flushed(nats, run)
    assert [payload for _, payload, *_ in got] == [b"1", b"2"]
    assert len(answers) == 1
    assert {str(exc) for exc in excepthook} == {
        "connected",
        *([how] if how in ("early", "late") else []),
    }


def test_errors_of_the_call_and_of_the_callback_stay_what_they_are(
    server, connected, run, excepthook
):
    nats = connected(server, instrumentation=Messages())
    with pytest.raises(BadSubjectError):
        nats.publish("a b")
    with pytest.raises(TypeError, match="cb"):
        nats.request("a", b"", None)
    with pytest.raises(TypeError, match=r"subject, payload, reply, headers"):
        nats.subscribe("a", lambda subject: None)
    nats.subscribe("boom", lambda *args: 1 / 0)
    nats.publish("boom")
    run(lambda: excepthook)
    assert [type(exc) for exc in excepthook] == [ZeroDivisionError]
    nats.disconnect()
    with pytest.raises(NotConnectedError):
        nats.publish("a")


def test_a_class_of_the_users_own_stays_itself(server, loop, run):
    class Mine(Nats):
        def publish(self, subject, *args, **kwargs):
            super().publish(f"mine.{subject}", *args, **kwargs)

    seen = Messages()
    nats = Mine(host=server.host, port=server.port, loop=loop, instrumentation=seen)
    run(nats.is_connected)
    nats.subscribe("mine.a", collect_messages(got := []))
    nats.publish("a", b"1")
    run(lambda: got)
    assert isinstance(nats, Mine)
    assert [event[0] for event in seen.seen] == ["publish", "deliver", "delivered"]
    nats.disconnect()
    loop.start()


def test_layers_on_top_pass_through(server, connected, call):
    seen = Messages()
    js = JetStream(connected(server, instrumentation=seen))
    call(js.stream_create, {"name": "seen", "subjects": ["seen.>"]})
    ack, err = call(js.publish, "seen.a", b"1")
    assert err is None
    assert ack["seq"] == 1
    assert ("request", "seen.a", b"1") in seen.seen
    call(js.stream_delete, "seen")


def test_an_observer_of_events_takes_no_fast_path(server, connected, run):
    nats = connected(server, instrumentation=Events())
    flushed(nats, run)
    assert inside.reads_in_c(nats)


@pytest.mark.parametrize("value", [5, "text", [5], Events])
def test_what_is_no_observer_is_refused(value):
    with pytest.raises(TypeError, match="instrumentation"):
        Nats(instrumentation=value)


def test_none_and_an_empty_list_mean_no_observer():
    assert type(Nats(instrumentation=None)) is type(Nats(instrumentation=[])) is Nats


def test_faces_pass_through(server):
    seen = Messages()

    async def main() -> None:
        async with aio.connect(servers=server.url, instrumentation=seen) as nc:
            subscription = nc.subscribe("face.svc")
            await nc.flush()
            asking = asyncio.ensure_future(nc.request("face.svc", b"?"))
            msg = await subscription.next(timeout=20_000)
            msg.respond(b"yes")
            assert (await asking).payload == b"yes"

    asyncio.run(main())
    assert [event[0] for event in seen.seen] == [
        "request", "deliver", "delivered", "publish", "answered",
    ]  # fmt: skip
