"""Time-outs of requests: exact, in order, cheap in masses, and safe whatever a callback does."""

from __future__ import annotations

import gc
import math
import random
import sys
import time
from datetime import timedelta
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from functools import partial
from typing import Any

import pytest

from lab import inside
from nats_ev import RequestTimeoutError, pyev


@pytest.fixture
def silent(connected: Any, server: Any) -> Any:
    """A client with a subscription that never answers, on the subject "silent"."""
    nats = connected(server)
    nats.subscribe("silent", lambda *message: None)
    return nats


def test_time_outs_of_any_length_expire_in_order_and_not_early(silent, run):
    expired: list[tuple[float, float]] = []
    start = time.monotonic()
    for ms in (60, 20, 40, 0.5, 20.0, timedelta(milliseconds=30)):

        def timed_out(response: Any, error: Any, headers: Any, ms: Any = ms) -> None:
            assert isinstance(error, RequestTimeoutError)
            wanted = ms / timedelta(milliseconds=1) if isinstance(ms, timedelta) else ms
            expired.append((wanted, (time.monotonic() - start) * 1000))

        silent.request("silent", b"", timed_out, ms)
    never: list[Any] = []
    silent.request("silent", b"", lambda *answer: never.append(answer), 0)
    run(lambda: len(expired) == 6)
    assert not never
    assert [wanted for wanted, _ in expired] == [0.5, 20, 20.0, 30, 40, 60]
    assert all(took >= wanted for wanted, took in expired)


def test_more_different_time_outs_than_are_remembered(silent, run):
    expired: list[int] = []
    for ms in range(1, 601):
        silent.request("silent", b"", lambda *a, ms=ms: expired.append(ms), 20 + ms / 100)
    run(lambda: len(expired) == 600)
    assert expired == sorted(expired)
    for ms in range(1, 601):  # again, with time-outs that were forgotten meanwhile
        silent.request("silent", b"", lambda *a, ms=ms: expired.append(ms), 20 + ms / 100)
    run(lambda: len(expired) == 1200)


def test_fifty_thousand_expire_together_without_delay(silent, run):
    expired: list[int] = []
    for i in range(50_000):
        silent.request("silent", b"", lambda *a, i=i: expired.append(i), 1000)
    run(lambda: len(expired) == 50_000, timeout=30)
    assert expired == list(range(50_000))


def test_the_answered_do_not_delay_those_behind_them(connected, server, run):
    nats, answers, late = connected(server), [], []
    nats.subscribe("echo", lambda s, payload, reply, h: nats.publish(reply, payload))
    nats.subscribe("silent", lambda *message: None)
    for i in range(1000):
        nats.request("echo", b"%d" % i, lambda *answer: answers.append(answer), 200)
    nats.request("silent", b"", lambda *answer: late.append(answer), 200)
    run(lambda: len(answers) == 1000)
    assert all(error is None for _, error, _ in answers)
    run(lambda: late)
    assert isinstance(late[0][1], RequestTimeoutError)
    assert len(answers) == 1000


def test_time_outs_that_alternate_expire_each_at_its_own(silent, run):
    expired: list[int] = []
    for i in range(200):
        silent.request("silent", b"", lambda *answer: expired.append(-1), 0)  # never
        ms = 60 if i % 2 else 20
        silent.request("silent", b"", lambda *answer, at=i: expired.append(at), ms)
    run(lambda: len(expired) == 200)
    assert expired == [*range(0, 200, 2), *range(1, 200, 2)]


def test_the_answered_leave_nothing_behind_while_one_waits_for_an_hour(connected, server, run):
    nats, answers = connected(server), []
    nats.subscribe("echo", lambda s, payload, reply, h: nats.publish(reply, payload))
    nats.subscribe("silent", lambda *message: None)

    def ask(*answer: Any) -> None:
        answers.append(answer)
        if len(answers) < 2000:
            nats.request("echo", b"", ask, 3_600_000)

    nats.request("silent", b"", lambda *answer: None, 3_600_000)
    ask()
    run(lambda: len(answers) == 2000)
    assert inside.request_runs(nats) <= 16


def test_a_burst_of_different_time_outs_leaves_nothing_a_second_after_the_answers(
    connected, server, run
):
    nats, answers, total = connected(server), [], 20_000
    nats.subscribe("echo", lambda s, payload, reply, h: nats.publish(reply, payload))
    for i in range(total):
        nats.request("echo", b"", lambda *answer: answers.append(answer), 3_600_000 + i)
    run(lambda: len(answers) == total)
    run(lambda: inside.waiting_deadlines(nats) < 100)
    run(lambda: inside.request_runs(nats) < 100)


def test_ever_other_time_outs_leave_nothing_behind_when_answered(connected, server, run):
    nats, answers = connected(server), []
    nats.subscribe("echo", lambda s, payload, reply, h: nats.publish(reply, payload))
    for i in range(2000):
        nats.request("echo", b"", lambda *answer: answers.append(answer), 3_600_000 + i)
        if i % 100 == 99:
            run(lambda upto=i: len(answers) > upto)
    assert inside.waiting_deadlines(nats) < 600


def test_a_request_made_by_one_that_expires_has_its_own_time(silent, run):
    ends: list[float] = []

    def again(response: Any, error: Any, headers: Any) -> None:
        ends.append(time.monotonic())
        if len(ends) < 4:
            silent.request("silent", b"", again, 20)

    start = time.monotonic()
    silent.request("silent", b"", again, 20)
    run(lambda: len(ends) == 4)
    assert all(b - a >= 0.02 for a, b in zip([start, *ends], ends, strict=False))


def test_the_rest_expires_in_a_loop_that_a_callback_nests(silent, loop, run):
    expired: list[int] = []

    def nest(*answer: Any) -> None:
        expired.append(0)
        while len(expired) < 3:
            loop.start(pyev.EVRUN_ONCE)

    silent.request("silent", b"", nest, 20)
    silent.request("silent", b"", lambda *answer: expired.append(1), 20)
    silent.request("silent", b"", lambda *answer: expired.append(2), 20)
    run(lambda: len(expired) == 3)
    assert expired == [0, 1, 2]


def test_the_rest_expires_after_a_callback_that_stops_the_loop(silent, run):
    expired: list[int] = []

    def interrupt(*answer: Any) -> None:
        raise KeyboardInterrupt

    silent.request("silent", b"", interrupt, 20)
    silent.request("silent", b"", lambda *answer: expired.append(1), 20)
    with pytest.raises(KeyboardInterrupt):
        run(lambda: expired)
    assert not expired
    run(lambda: expired == [1])


def test_a_callback_may_end_the_client_while_others_are_due(silent, run):
    ends: list[str] = []
    silent.request("silent", b"", lambda *answer: silent.disconnect(), 20)
    silent.request("silent", b"", lambda response, error, headers: ends.append(str(error)), 20)
    run(lambda: ends)
    assert ends == ["disconnected"]


def test_a_client_that_connects_again_has_its_time_outs(silent, server, run):
    ends: list[str] = []
    silent.request("silent", b"", lambda r, error, h: ends.append(str(error)), 5000)
    silent.disconnect()
    run(lambda: ends == ["disconnected"])
    silent.connect(server.host, server.port)
    run(silent.is_connected)
    silent.request("silent", b"", lambda r, error, h: ends.append(str(error)), 5000.0)
    silent.request("silent", b"", lambda r, error, h: ends.append(str(error)), 30)
    run(lambda: len(ends) == 2)
    assert ends[1] == "request timeout"
    assert inside.waiting_requests(silent) == 1


@pytest.mark.parametrize("bad", ["5", None, [5], b"5"])
def test_what_is_no_time_is_a_type_error_and_sends_nothing(silent, bad):
    with pytest.raises(TypeError, match="timeout_ms must be milliseconds"):
        silent.request("silent", b"", lambda *answer: None, bad)
    assert silent.stats()["accepted"] == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_of_a_random_mix_each_ends_once_and_none_early(connected, server, loop, run, seed):
    nats, rng = connected(server), random.Random(seed)
    started: dict[int, float] = {}
    ends: dict[int, Any] = {}
    nats.subscribe("echo", lambda s, payload, reply, h: nats.publish(reply, payload))
    nats.subscribe("silent", lambda *message: None)

    def ask() -> None:
        number = len(started)
        started[number] = time.monotonic()
        subject = rng.choice(["echo", "echo", "silent"])
        ms = rng.choice([0, 1, 5, 5.5, 20, 20.0, rng.random() * 40, 3_600_000])
        if subject == "silent" and not 0 < ms < 100:
            ms = 10

        def ended(response: Any, error: Any, headers: Any) -> None:
            assert number not in ends
            if error is not None:
                assert isinstance(error, RequestTimeoutError)
                assert (time.monotonic() - started[number]) * 1000 >= ms
            else:
                assert response == b"%d" % number
            ends[number] = error
            if rng.random() < 0.2:
                ask()
            if rng.random() < 0.002:
                loop.start(pyev.EVRUN_NOWAIT)

        headers = {"a": "b"} if rng.random() < 0.1 else None
        early = rng.choice([None, None, True, False])
        nats.request(subject, b"%d" % number, ended, ms, headers=headers, no_responders=early)
        if rng.random() < 0.1:
            nats.flush()

    def tick(watcher: Any, revents: int) -> None:
        for _ in range(rng.choice([1, 1, 3, 20, 100])):
            ask()

    ticks = loop.timer(0.001, 0.001, tick)
    ticks.start()
    run(lambda: len(started) > 10_000)
    ticks.stop()
    run(lambda: len(ends) == len(started))
    assert sum(error is not None for error in ends.values()) > 2000
    assert sum(error is None for error in ends.values()) > 2000
    assert not inside.waiting_requests(nats)


class Odd(int):
    """Is equal to every other number."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


@pytest.mark.parametrize(
    "wrong",
    [
        True,
        Decimal(1),
        Fraction(1),
        1 + 0j,
        math.nan,
        10**400,
        -1,
        None,
        "1",
        [1],
        math.inf,
        object(),
    ],
)
def test_what_is_no_time_is_refused_whatever_the_last_time_out_was(silent, run, wrong):
    def request(timeout_ms: Any) -> None:
        silent.request("silent", b"", lambda *answer: None, timeout_ms)

    for before in (None, 1, 1.0, timedelta(milliseconds=1), 5000):
        if before is not None:
            request(before)
        for _ in range(2):
            with pytest.raises((TypeError, ValueError)):
                request(wrong)
            with pytest.raises((TypeError, ValueError)):
                silent.request_many("silent", b"", print, wrong)
            with pytest.raises((TypeError, ValueError)):
                silent.call_later(wrong, print)


def test_a_time_out_of_a_subclass_is_its_own_time(silent, run):
    expired: list[int] = []
    for ms in (40, Odd(5), 40, Odd(20), IntEnum("Ms", {"TEN": 10}).TEN, 40.0, Odd(5)):  # type: ignore[attr-defined]
        silent.request("silent", b"", lambda *answer, ms=ms: expired.append(int(ms)), ms)
    run(lambda: len(expired) == 7)
    assert expired == [5, 5, 10, 20, 40, 40, 40]


def test_a_request_from_a_signal_handler_does_not_keep_an_expired_one_in_the_buffer(
    client, fake, run
):
    """The handler strikes when the outer request has its number and is not framed yet."""
    nats = client(fake(lambda peer: peer.at_eof()), connect_timeout=0)
    answers: list[Any] = []
    nats.request("a", b"", lambda *answer: answers.append("first"), 20)

    def profile(frame: Any, event: str, arg: object) -> None:
        if event == "call" and (
            frame.f_code.co_name == "publish" and frame.f_code.co_filename.endswith("wire.py")
        ):
            sys.setprofile(None)
            nats.request("a", b"", lambda *answer: answers.append("handler"), 0)

    sys.setprofile(profile)
    try:
        # Not for C, which no handler interrupts.
        nats.request("a", bytearray(b"outer"), lambda *answer: answers.append("outer"), 20)
    finally:
        sys.setprofile(None)
    assert nats.waiting_count() == 3
    run(lambda: len(answers) == 2)
    assert answers == ["first", "outer"]
    assert nats.waiting_count() == 1


def test_a_request_from_a_signal_handler_lets_the_one_it_interrupts_expire(client, fake, run):
    """The handler's request begins a run, of later numbers, before the outer one could."""
    nats = client(fake(lambda peer: peer.at_eof()), connect_timeout=0)
    answers: list[Any] = []

    def profile(frame: Any, event: str, arg: object) -> None:
        if event == "call" and (
            frame.f_code.co_name == "publish" and frame.f_code.co_filename.endswith("wire.py")
        ):
            sys.setprofile(None)
            nats.request("a", b"", lambda *answer: answers.append("handler"), 0)

    sys.setprofile(profile)
    try:
        nats.request("a", bytearray(b"outer"), lambda *answer: answers.append("outer"), 20)
    finally:
        sys.setprofile(None)
    run(lambda: answers == ["outer"])
    assert nats.waiting_count() == 1


def test_a_request_of_a_finalizer_leaves_the_time_out_of_another_alone(silent, run):
    """The garbage collector may run in C, while a request is made; see `gc.set_threshold`."""

    class Garbage:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            silent.request("silent", b"", lambda *answer: None, 0)

    expired: list[int] = []
    before = gc.get_threshold()
    for threshold in range(1, 12):
        silent.request("silent", b"", lambda *answer: None, 1)
        callback = partial(lambda number, *answer: expired.append(number), threshold)
        gc.disable()
        try:
            gc.collect()
            gc.set_threshold(threshold)
            Garbage()
            gc.enable()
            silent.request("silent", b"", callback, 1, no_responders=False)
        finally:
            gc.set_threshold(*before)
            gc.enable()
        gc.collect()
    run(lambda: len(expired) == 11)


def test_a_request_made_while_headers_are_converted_leaves_the_time_out_alone(silent, run):
    class Asking(dict[str, str]):
        def items(self) -> Any:
            silent.request("silent", b"", lambda *answer: None, 0)
            return super().items()

    expired: list[Any] = []
    silent.request("silent", b"", lambda *answer: expired.append(answer), 1, headers=Asking(a="b"))
    run(lambda: expired)
