"""`ask`: a subscription delivers as many messages as were asked for, and pauses."""

from __future__ import annotations

import random
from typing import Any

import pytest

from lab.steps import collect, flushed
from nats_ev import BadOptionsError, pyev


def numbers(first: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, end)]


def send(nats: Any, first: int, end: int, subject: str = "a") -> None:
    for payload in numbers(first, end):
        nats.publish(subject, payload)


def test_as_many_come_as_were_asked_for_and_calls_add_up(server, connected, run):
    nats, got = connected(server), []
    sid = nats.subscribe("a", collect(got))
    nats.ask(sid, 0)
    send(nats, 0, 10)
    flushed(nats, run)
    assert got == []
    assert nats.subscription_info(sid)["paused"]
    nats.ask(sid, 2)
    nats.ask(sid, 1)
    assert got == []  # nothing inside the call
    flushed(nats, run)
    assert got == numbers(0, 3)
    nats.ask(sid, 100)
    flushed(nats, run)
    send(nats, 10, 200)
    flushed(nats, run)
    assert got == numbers(0, 103)
    nats.resume(sid)
    send(nats, 200, 300)
    flushed(nats, run)
    assert got == numbers(0, 300)
    assert not nats.subscription_info(sid)["paused"]


@pytest.mark.parametrize("more", [1, 2, 3, 7])
def test_asking_in_the_callback_neither_loses_nor_reorders_nor_doubles(
    server, connected, run, more
):
    nats, got = connected(server), []

    def on_message(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(payload)
        if len(got) % more == 0:
            nats.ask(sid, more)

    sid = nats.subscribe("a", on_message)
    nats.ask(sid, more)
    send(nats, 0, 500)
    run(lambda: len(got) == 500)
    assert got == numbers(0, 500)
    info = nats.subscription_info(sid)
    assert (info["received"], info["delivered"], info["pending_msgs"]) == (500, 500, 0)


def test_a_pause_forgets_the_demand_and_a_resume_ends_it(server, connected, run):
    nats, got = connected(server), []
    sid = nats.subscribe("a", collect(got))
    nats.ask(sid, 5)
    send(nats, 0, 2)
    flushed(nats, run)
    nats.pause(sid)
    send(nats, 2, 6)
    flushed(nats, run)
    assert got == numbers(0, 2)
    nats.ask(sid, 1)
    flushed(nats, run)
    assert got == numbers(0, 3)
    nats.ask(sid, 10)
    nats.resume(sid)
    send(nats, 6, 50)
    flushed(nats, run)
    assert got == numbers(0, 50)


def test_a_pause_in_the_middle_of_a_batch_and_a_demand_inside_a_nested_loop(server, connected, run):
    nats, got = connected(server), []

    def on_message(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(payload)
        if payload == b"3":
            nats.pause(sid)
            nats.call_later(1, nats.ask, sid, 4)
        if payload == b"5":
            flushed(nats, run)  # runs the loop, which delivers 6 and 7
            assert got[-1] == b"7"
            nats.ask(sid, 1000)

    sid = nats.subscribe("a", on_message)
    send(nats, 0, 300)
    run(lambda: len(got) == 300)
    assert got == numbers(0, 300)


def test_a_demand_outlives_a_reconnect(proxy, server, connected, run):
    between = proxy(server.port)
    nats, got = connected(between, reconnect=True, reconnect_delay=1), []
    sid = nats.subscribe("a", collect(got))
    nats.ask(sid, 3)
    send(nats, 0, 2)
    flushed(nats, run)
    between.cut()
    run(lambda: nats.recorder.count("connect") == 2)
    send(nats, 2, 5)
    flushed(nats, run)
    assert got == numbers(0, 3)
    nats.ask(sid, 2)
    run(lambda: len(got) == 5)
    assert got == numbers(0, 5)


@pytest.mark.parametrize("asked", [0, 1, 50, 500])
def test_a_drain_delivers_everything_whatever_was_asked_for(server, connected, run, asked):
    nats, other, got, done = connected(server), connected(server), [], []

    def on_message(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(payload)
        if payload == b"100":
            nats.ask(sid, 1)

    sid = nats.subscribe("a", on_message)
    nats.ask(sid, asked)
    flushed(nats, run)
    send(other, 0, 300)
    flushed(other, run)
    nats.drain(done.append)
    run(lambda: done)
    assert done == [None]
    assert got == numbers(0, 300)


def test_draining_the_subscription_delivers_everything(server, connected, run):
    nats, got, done = connected(server), [], []
    sid = nats.subscribe("a", collect(got))
    nats.ask(sid, 3)
    send(nats, 0, 300)
    flushed(nats, run)
    nats.drain_subscription(sid, done.append)
    run(lambda: done)
    assert done == [None]
    assert got == numbers(0, 300)


def test_a_subscription_with_an_end_ends_after_its_last_message(server, connected, run):
    nats, got = connected(server), []
    sid = nats.subscribe_max("a", collect(got), 5)
    nats.ask(sid, 2)
    send(nats, 0, 9)
    flushed(nats, run)
    assert got == numbers(0, 2)
    nats.ask(sid, 2)
    flushed(nats, run)
    assert nats.subscription_info(sid)["pending_msgs"] == 1
    nats.ask(sid, 1)
    flushed(nats, run)
    assert got == numbers(0, 5)
    assert nats.subscription_info(sid) is None
    nats.ask(sid, 1)  # unknown: ignored


def test_a_disconnect_discards_what_is_kept_and_a_later_connection_goes_on(server, connected, run):
    nats, got = connected(server), []
    sid = nats.subscribe("a", collect(got))
    nats.ask(sid, 1)
    send(nats, 0, 5)
    flushed(nats, run)
    nats.disconnect()
    run(lambda: "disconnect" in nats.recorder.events)
    nats.connect(server.host, server.port)
    run(nats.is_connected)
    send(nats, 5, 8)
    flushed(nats, run)
    assert got == numbers(0, 1)
    nats.ask(sid, 2)
    flushed(nats, run)
    assert got == [b"0", b"5", b"6"]


def test_what_passes_takes_is_not_kept(server, connected, run):
    nats, got, passed = connected(server), [], []

    def passes(subject: str, payload: bytes, *rest: Any) -> bool:
        passed.append(payload)
        return int(payload) % 2 == 0

    sid = nats.subscribe("a", collect(got))
    nats.pause(sid, passes)
    send(nats, 0, 6)
    flushed(nats, run)
    nats.resume(sid)
    flushed(nats, run)
    assert (passed, got) == (numbers(0, 6), [b"1", b"3", b"5"])
    nats.pause(sid)
    send(nats, 6, 8)
    flushed(nats, run)
    nats.resume(sid)
    flushed(nats, run)
    assert got[3:] == [b"6", b"7"]


@pytest.mark.parametrize(
    ("msgs", "error"), [(-1, BadOptionsError), (1.0, TypeError), (True, TypeError)]
)
def test_a_demand_is_a_number(client, msgs, error):
    with pytest.raises(error):
        client().ask(1, msgs)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_called_whenever_each_message_comes_once_and_in_order(
    server, connected, run, loop, seed
):
    chance = random.Random(seed)
    nats, other, got = connected(server), connected(server), []
    calls = [
        lambda: nats.pause(sid),
        lambda: nats.resume(sid),
        lambda: nats.ask(sid, chance.choice([0, 1, 2, 50])),
    ]

    def on_message(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(payload)
        if chance.random() < 0.2:
            chance.choice(calls)()
        if chance.random() < 0.02:
            loop.start(pyev.EVRUN_NOWAIT)
        info = nats.subscription_info(sid)
        assert info["delivered"] == len(got)

    def from_outside() -> None:
        chance.choice(calls)()
        if len(got) < 2000:
            nats.call_later(chance.choice([0, 0, 1]), from_outside)

    sid = nats.subscribe("a", on_message)
    flushed(nats, run)
    from_outside()
    send(other, 0, 2000)
    run(lambda: len(got) == 2000)
    assert got == numbers(0, 2000)


def test_a_demand_counts_after_a_drain_is_over(client, server, run):
    nats, got = client(server), []
    run(nats.is_connected)
    nats.drain()
    run(lambda: "disconnect" in nats.recorder.events)
    sid = nats.subscribe("a", collect(got))
    nats.ask(sid, 2)
    nats.connect(server.host, server.port)
    run(nats.is_connected)
    send(nats, 0, 5)
    flushed(nats, run)
    assert got == numbers(0, 2)
