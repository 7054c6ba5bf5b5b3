"""Messages above max_payload, on a real server."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from nats_ev import (
    BadOptionsError,
    ConnectionClosedError,
    Headers,
    JetStream,
    Nats,
    NoRespondersError,
    ObjectStore,
    RequestTimeoutError,
    StoredMsg,
)
from nats_ev.extras import (
    LargeMessageLostError,
    LargeMessageNotTakenError,
    LargeMessageNotUnderstoodError,
    LargeMessageRefusedError,
    LargeMessages,
    LargeMessageTooLargeError,
    LargeMsg,
)

MIB = 1024 * 1024
BIG = os.urandom(3 * MIB + 17)
Make = Callable[..., LargeMessages]


@pytest.fixture
def make(connected: Any, server: Any) -> Make:
    """make(**options): a `LargeMessages` with a client of its own on the shared server."""

    def make(nats: Nats | None = None, **options: Any) -> LargeMessages:
        return LargeMessages(nats or connected(server, no_responders=True), **options)

    return make


@pytest.fixture
def subject() -> str:
    return f"large.{os.urandom(4).hex()}"


class Taken:
    """What a subscription has got."""

    def __init__(self) -> None:
        self.msgs: list[LargeMsg] = []
        self.errors: list[Any] = []
        self.ends: list[Any] = []

    def __call__(self, msg: LargeMsg | None, error: Any) -> None:
        if msg is None:
            self.ends.append(error)
        else:
            self.msgs.append(msg)

    def subscribe(self, large: LargeMessages, subject: str, queue: str | None = None) -> Any:
        return large.subscribe(subject, self, queue, on_error=self.errors.append)

    def has(self, count: int) -> bool:
        return len(self.msgs) >= count


def flushed(call: Any, *larges: LargeMessages) -> None:
    for large in larges:
        assert call(large.nats.rtt)[1] is None


@pytest.mark.parametrize("size", [0, 1, MIB - 30, MIB - 29, MIB, MIB + 1, 5 * MIB])
def test_any_size_arrives_with_its_headers(
    make: Make, call: Any, run: Any, subject: str, size: int
) -> None:
    sender, receiver, taken = make(), make(), Taken()
    taken.subscribe(receiver, subject)
    flushed(call, receiver)
    payload = os.urandom(size)
    headers = Headers([("Kind", "a"), ("Kind", "b")])
    count, err = call(sender.publish, subject, payload, headers=headers, receivers=1)
    assert err is None
    assert count == (1 if size > MIB - 30 else 0)
    run(lambda: taken.msgs)
    (msg,) = taken.msgs
    assert (msg.payload, msg.data, msg.subject, msg.reply) == (payload, payload, subject, None)
    assert Headers.parse(msg.headers).get_all("Kind") == ["a", "b"]
    assert msg.header("Kind") == "a"
    assert len(Headers.parse(msg.headers).pairs()) == 2
    assert (sender.transfers, receiver.transfers, taken.errors) == (0, 0, [])
    with pytest.raises(BadOptionsError):
        msg.respond(b"")


@pytest.mark.parametrize("limit", [200, 1000, 5000])
def test_small_limits(make: Make, call: Any, run: Any, subject: str, limit: int) -> None:
    sender, receiver, taken = make(), make(), Taken()
    taken.subscribe(receiver, subject)
    flushed(call, receiver)
    sender.nats.max_payload(max(limit, 700))
    payload = os.urandom(20_000)
    assert call(sender.publish, subject, payload, receivers=1) == (1, None)
    run(lambda: taken.msgs)
    assert taken.msgs[0].payload == payload


def test_all_subscribers_get_the_message(make: Make, call: Any, run: Any, subject: str) -> None:
    sender = make(accept_timeout=300)
    takers = [Taken() for _ in range(3)]
    for taken in takers:
        receiver = make()
        taken.subscribe(receiver, subject)
        flushed(call, receiver)
    assert call(sender.publish, subject, BIG) == (3, None)
    assert all(taken.msgs[0].payload == BIG for taken in takers)


def test_one_member_of_a_queue_group_gets_all_chunks(
    make: Make, call: Any, run: Any, subject: str
) -> None:
    sender = make()
    takers = [Taken() for _ in range(3)]
    for taken in takers:
        receiver = make()
        taken.subscribe(receiver, subject, "q")
        flushed(call, receiver)
    done: list[Any] = []
    for _ in range(12):
        sender.publish(subject, BIG, lambda count, err: done.append((count, err)), receivers=1)
    run(lambda: len(done) == 12)
    assert done == [(1, None)] * 12
    assert sum(len(taken.msgs) for taken in takers) == 12
    assert all(msg.payload == BIG for taken in takers for msg in taken.msgs)


@pytest.mark.parametrize("ordered", [True, False])
def test_order_among_large_and_small_ones(
    make: Make, call: Any, run: Any, subject: str, ordered: bool
) -> None:
    sender, receiver, taken = make(), make(ordered=ordered, max_in_progress=2), Taken()
    taken.subscribe(receiver, subject)
    flushed(call, receiver)
    sent = [bytes([number]) * (MIB * 2 if number % 3 == 0 else 10) for number in range(30)]
    for payload in sent:
        sender.publish(subject, payload, lambda count, err: None)
    run(partial(taken.has, 30))
    assert sorted(msg.payload[0] for msg in taken.msgs) == list(range(30))
    got = [msg.payload for msg in taken.msgs]
    assert (got == sent) is ordered
    assert taken.errors == []


@pytest.mark.parametrize("question", [10, 2 * MIB])
@pytest.mark.parametrize("answer", [10, 3 * MIB])
def test_requests_and_answers_of_any_size(
    make: Make, call: Any, run: Any, subject: str, question: int, answer: int
) -> None:
    requester, responder = make(), make()
    asked, replied = os.urandom(question), os.urandom(answer)
    errors: list[Any] = []
    answered: list[Any] = []

    def respond(msg: LargeMsg | None, error: Any) -> None:
        if msg is None:
            return
        assert msg.payload == asked
        assert msg.header("Q") == "1"
        msg.respond(replied, lambda n, err: answered.append((n, err)), headers={"A": "2"})

    responder.subscribe(subject, respond, "q", on_error=errors.append)
    flushed(call, responder)
    msg, err = call(requester.request, subject, asked, headers={"Q": "1"})
    assert err is None
    assert (msg.payload, msg.header("A"), msg.reply) == (replied, "2", None)
    run(lambda: answered)
    assert answered == [(1 if answer > MIB else 0, None)]
    assert (requester.transfers, responder.transfers, errors) == (0, 0, [])


def test_ordinary_clients_meet_large_ones(
    make: Make, connected: Any, server: Any, call: Any, run: Any, subject: str
) -> None:
    large = make(accept_timeout=200)
    nats = connected(server)
    # A receiver that knows nothing gets a message that says so, and the sender an error.
    got: list[tuple[bytes, Any]] = []
    nats.subscribe(subject, lambda s, p, r, h: got.append((p, h)))
    assert call(nats.rtt)[1] is None
    _, err = call(large.publish, subject, BIG)
    assert isinstance(err, LargeMessageNotTakenError)
    assert not isinstance(err, LargeMessageNotUnderstoodError)
    assert b"offer" in got[0][0]
    assert Headers.parse(got[0][1])["Nats-Large-Size"] == str(len(BIG))
    # One that answers says more.
    nats.subscribe(f"{subject}.r", lambda s, p, r, h: nats.publish(r, b"what?"))
    assert call(nats.rtt)[1] is None
    _, err = call(large.request, f"{subject}.r", BIG)
    assert isinstance(err, LargeMessageNotUnderstoodError)
    assert err.response == b"what?"
    # A small request of one that knows nothing, and a large answer.
    failed: list[Any] = []

    def respond(msg: LargeMsg | None, error: Any) -> None:
        if msg is None:
            return
        msg.respond(BIG, lambda n, err: failed.append(err))

    large.subscribe(f"{subject}.s", respond)
    flushed(call, large)
    answers: list[Any] = []
    nats.request(f"{subject}.s", b"", lambda p, e, h: answers.append((p, e, h)))
    run(lambda: answers and failed)
    fields = Headers.parse(answers[0][2])
    assert fields["Nats-Service-Error-Code"] == "406"
    assert isinstance(failed[0], LargeMessageRefusedError)
    assert failed[0].code == 406
    # And a small answer.
    large.subscribe(f"{subject}.t", lambda msg, e: msg and msg.respond(b"ok"))  # type: ignore[func-returns-value]
    flushed(call, large)
    nats.request(f"{subject}.t", b"", lambda p, e, h: answers.append((p, e)))
    run(lambda: len(answers) == 2)
    assert answers[1] == (b"ok", None)
    # A large request finds an ordinary responder that answers a small one.
    nats.subscribe(f"{subject}.u", lambda s, p, r, h: nats.publish(r, p + b"!"))
    assert call(nats.rtt)[1] is None
    msg, err = call(large.request, f"{subject}.u", b"small")
    assert (msg.payload, err) == (b"small!", None)


def test_nobody_there(make: Make, call: Any, subject: str) -> None:
    large = make(accept_timeout=200)
    for method in (large.publish, large.request):
        _, err = call(method, subject, BIG)
        assert isinstance(err, NoRespondersError)
    _, err = call(large.request, subject, b"small")
    assert isinstance(err, NoRespondersError)
    assert large.transfers == 0


def test_what_a_receiver_refuses(make: Make, call: Any, run: Any, subject: str) -> None:
    sender, receiver, taken = make(), make(max_size=2 * MIB), Taken()
    taken.subscribe(receiver, subject)
    flushed(call, receiver)
    _, err = call(sender.publish, subject, BIG, receivers=1)
    assert isinstance(err, LargeMessageTooLargeError)
    assert err.code == 413
    assert isinstance(taken.errors[0], LargeMessageTooLargeError)
    # And the other way round: the answer.
    sender.subscribe(f"{subject}.r", lambda msg, e: msg and msg.respond(BIG))  # type: ignore[func-returns-value]
    flushed(call, sender)
    _, err = call(receiver.request, f"{subject}.r", b"")
    assert isinstance(err, LargeMessageTooLargeError)


def test_messages_wait_for_their_turn_and_too_many_are_refused(
    make: Make, call: Any, run: Any, subject: str
) -> None:
    sender = make(accept_timeout=200, idle_timeout=5000)
    receiver = make(max_in_progress=1, max_waiting=5, ordered=False)
    taken = Taken()
    taken.subscribe(receiver, subject)
    flushed(call, receiver)
    done: list[Any] = []
    for _ in range(10):
        sender.publish(subject, BIG, lambda count, err: done.append(err), receivers=1)
    run(lambda: len(done) == 10)
    refused = [err for err in done if err is not None]
    assert len(taken.msgs) + len(refused) == 10
    assert len(taken.msgs) >= 6
    assert {err.code for err in refused} <= {429}
    run(lambda: receiver.transfers == 0)


def test_a_slow_receiver_sets_the_pace(make: Make, call: Any, run: Any, subject: str) -> None:
    sender, receiver, taken = make(), make(max_waiting=2), Taken()
    sub = taken.subscribe(receiver, subject)
    sub.pause()
    flushed(call, receiver)
    done: list[Any] = []
    for number in range(4):
        sender.publish(subject, bytes([number]) * 2 * MIB, lambda n, err: done.append(err))
    flushed(call, sender, receiver)
    assert not taken.msgs
    sub.resume()
    run(partial(taken.has, 4))
    assert [msg.payload[0] for msg in taken.msgs] == [0, 1, 2, 3]


def test_cancelled_by_either_side(make: Make, call: Any, run: Any, subject: str) -> None:
    sender, receiver, taken = make(accept_timeout=500), make(max_in_progress=1), Taken()
    sub = taken.subscribe(receiver, subject)
    flushed(call, receiver)
    done: list[Any] = []
    transfer = sender.publish(subject, os.urandom(30 * MIB), lambda n, err: done.append(err))
    assert transfer is not None
    run(lambda: receiver.transfers)
    transfer.cancel()
    run(lambda: taken.errors)
    assert isinstance(taken.errors[0], LargeMessageLostError)
    assert (done, sender.transfers, transfer.closed) == ([], 0, True)
    sender.publish(subject, os.urandom(30 * MIB), lambda n, err: done.append(err), receivers=1)
    run(lambda: receiver.transfers)
    sub.stop()
    run(lambda: done)
    assert isinstance(done[0], LargeMessageRefusedError)
    assert receiver.transfers == 0
    request = sender.request(subject, BIG, lambda msg, err: done.append(err))
    request.cancel()
    assert sender.transfers == 0
    assert len(done) == 1


def test_request_time_out(make: Make, call: Any, subject: str) -> None:
    requester, responder, taken = make(), make(), Taken()
    taken.subscribe(responder, subject)
    flushed(call, responder)
    for payload in (b"small", BIG):
        _, err = call(requester.request, subject, payload, timeout=300)
        assert isinstance(err, RequestTimeoutError)
    assert requester.transfers == 0


def test_receiver_dies_in_the_middle(
    make: Make, connected: Any, server: Any, call: Any, run: Any, subject: str
) -> None:
    sender = make(idle_timeout=600, accept_timeout=200)
    receiver, taken = make(), Taken()
    taken.subscribe(receiver, subject)
    flushed(call, receiver)
    done: list[Any] = []
    sender.publish(subject, os.urandom(40 * MIB), lambda n, err: done.append(err), receivers=1)
    run(lambda: receiver.transfers)
    receiver.nats.disconnect()
    run(lambda: done and taken.ends)
    assert isinstance(done[0], LargeMessageLostError)
    assert isinstance(taken.ends[0], ConnectionClosedError)
    assert len(taken.ends) == 1


def test_sender_dies_in_the_middle(make: Make, call: Any, run: Any, subject: str) -> None:
    sender, receiver, taken = make(), make(idle_timeout=1000), Taken()
    taken.subscribe(receiver, subject)
    flushed(call, receiver)
    done: list[Any] = []
    sender.publish(subject, os.urandom(40 * MIB), lambda n, err: done.append(err))
    run(lambda: receiver.transfers)
    sender.nats.disconnect()
    run(lambda: done and taken.errors)
    assert isinstance(done[0], ConnectionClosedError)
    assert isinstance(taken.errors[0], LargeMessageLostError)
    assert receiver.transfers == 0


def test_a_lost_connection_in_the_middle_is_survived(
    make: Make, connected: Any, server: Any, call: Any, run: Any, subject: str
) -> None:
    options = {"reconnect": True, "reconnect_delay": 20, "no_responders": True}
    sender = make(connected(server, **options), idle_timeout=10_000)
    receiver = make(connected(server, **options), idle_timeout=10_000)
    taken = Taken()
    taken.subscribe(receiver, subject)
    flushed(call, receiver)
    payload = os.urandom(24 * MIB)
    done: list[Any] = []
    sender.publish(subject, payload, lambda n, err: done.append((n, err)), receivers=1)
    run(lambda: receiver.transfers)
    receiver.nats.force_reconnect()
    flushed(call, receiver)
    sender.nats.force_reconnect()
    run(lambda: done)
    assert done == [(1, None)]
    assert hashlib.sha256(taken.msgs[0].payload).digest() == hashlib.sha256(payload).digest()


def test_drain_lets_transfers_end(make: Make, call: Any, run: Any, subject: str) -> None:
    sender, receiver, taken = make(), make(), Taken()
    sub = taken.subscribe(receiver, subject)
    flushed(call, receiver)
    done: list[Any] = []
    sender.publish(subject, BIG, lambda n, err: done.append((n, err)), receivers=1)
    drained: list[Any] = []
    sender.nats.drain(drained.append)
    run(lambda: done and drained)
    assert (done, drained) == ([(1, None)], [None])
    sub.drain(lambda result, err: drained.append((result, err)))
    run(lambda: len(drained) == 2)
    assert drained[1] == (True, None)
    assert sub.closed
    assert taken.msgs[0].payload == BIG


def test_receiver_that_drains_finishes_what_it_receives(
    make: Make, call: Any, run: Any, subject: str
) -> None:
    sender, receiver, taken = make(), make(), Taken()
    taken.subscribe(receiver, subject)
    flushed(call, receiver)
    done: list[Any] = []
    sender.publish(subject, BIG, lambda n, err: done.append((n, err)), receivers=1)
    run(lambda: receiver.transfers)
    drained: list[Any] = []
    receiver.nats.drain(drained.append)
    run(lambda: done and drained)
    assert done == [(1, None)]
    assert taken.msgs[0].payload == BIG


def test_references_through_streams_and_without(
    make: Make, connected: Any, server: Any, call: Any, run: Any, subject: str
) -> None:
    nats = connected(server, no_responders=True)
    js = JetStream(nats)
    store = ObjectStore(js, f"refs{subject[6:]}")
    assert call(store.create_bucket)[1] is None
    stream = f"S{subject[6:]}"
    call(js.stream_create, {"name": stream, "subjects": [f"{subject}.js"]})
    large = make(nats, store=store, delete_loaded=True)
    ack, err = call(large.publish_reference, f"{subject}.js", BIG, headers={"K": "v"}, js=js)
    assert (ack["stream"], err) == (stream, None)
    stored, _ = call(js.get_msg, stream, 1)
    assert b"reference" in stored.data
    msg, err = call(large.load, stored)
    assert (msg.payload, msg.header("K"), err) == (BIG, "v", None)
    _, err = call(large.load, stored)
    assert isinstance(err, LargeMessageLostError) or err is not None
    taken = Taken()
    taken.subscribe(large, subject)
    assert call(large.publish_reference, subject, BIG) == (None, None)
    run(lambda: taken.msgs)
    assert taken.msgs[0].payload == BIG
    other = make(connected(server), store=None)
    blind = Taken()
    blind.subscribe(other, subject)
    flushed(call, other)
    call(large.publish_reference, subject, b"x")
    run(lambda: blind.errors)
    assert "not the store" in str(blind.errors[0])
    with pytest.raises(BadOptionsError):
        other.publish_reference(subject, b"x")
    plain, err = call(large.load, StoredMsg("S", "s", 1, "", b"p", None))
    assert (plain.payload, err) == (b"p", None)
    call(js.stream_delete, stream)
    call(store.delete_bucket)


def test_options(connected: Any, server: Any) -> None:
    nats = connected(server)
    for wrong in ({"max_size": 0}, {"chunk_size": 0}, {"accept_timeout": 0}, {"max_waiting": -1}):
        with pytest.raises(BadOptionsError):
            LargeMessages(nats, **wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        LargeMessages(JetStream(nats))  # type: ignore[arg-type]
    large = LargeMessages(nats)
    with pytest.raises(TypeError):
        large.subscribe("a", 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        large.request("a", b"", None)  # type: ignore[arg-type]
