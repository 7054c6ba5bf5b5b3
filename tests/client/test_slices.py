"""Many completions at once: other watchers run in between, and the order of the callbacks stays."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest

from lab.broker import broker
from lab.steps import ignore
from nats_ev import Nats, pyev

MANY = 40
SLOW = 0.002  # seconds of each callback: all of them take eight slices


class Ticks:
    """Counts the calls of a timer of 1 ms between two looks."""

    def __init__(self, loop: pyev.Loop) -> None:
        self.count = 0
        self.timer = loop.timer(0.001, 0.001, self._tick)
        self.timer.start()

    def _tick(self, watcher: Any, revents: int) -> None:
        self.count += 1


@pytest.fixture
def ticks(loop: pyev.Loop) -> Any:
    counting = Ticks(loop)
    yield counting
    counting.timer.stop()


class Slow:
    """Callbacks that take their time and note when they ran."""

    def __init__(self, ticks: Ticks) -> None:
        self.ticks = ticks
        self.done: list[int] = []
        self.seen: set[int] = set()

    def __call__(self, number: int) -> Callable[..., None]:
        def callback(*args: object) -> None:
            self.done.append(number)
            self.seen.add(self.ticks.count)
            time.sleep(SLOW)

        return callback

    def check(self) -> None:
        """All were called, in order, and the timer ran in between several times."""
        assert self.done == list(range(MANY))
        assert len(self.seen) >= 4


def requests(nats: Nats, callback: Callable[[int], Any]) -> None:
    nats.subscribe("silent", ignore)
    for number in range(MANY):
        nats.request("silent", b"", callback(number), 60_000)


def requests_that_time_out(nats: Nats, callback: Callable[[int], Any]) -> None:
    nats.subscribe("silent", ignore)
    for number in range(MANY):
        nats.request("silent", b"", callback(number), 20)


def requests_with_own_timeouts(nats: Nats, callback: Callable[[int], Any]) -> None:
    nats.subscribe("silent", ignore)
    for number in range(MANY):
        nats.request_many("silent", b"", callback(number), 20 + number / 1000)


def flushes(nats: Nats, callback: Callable[[int], Any]) -> None:
    for number in range(MANY):
        nats.flush(callback(number))


def calls(nats: Nats, callback: Callable[[int], Any]) -> None:
    for number in range(MANY):
        nats.call_soon(callback(number))


def all_kinds(nats: Nats, callback: Callable[[int], Any]) -> None:
    nats.subscribe("silent", ignore)
    for number in range(0, MANY, 4):
        nats.request("silent", b"", callback(number), 60_000)
        nats.flush(callback(number + 1))
        nats.request_many("silent", b"", callback(number + 2), 60_000)
        nats.call_later(60_000, ignore, ended=callback(number + 3))


@pytest.mark.parametrize(
    "begin", [requests_that_time_out, requests_with_own_timeouts, flushes, calls]
)
def test_other_watchers_run_between_completions(
    connected: Any, fake: Any, run: Any, ticks: Ticks, begin: Callable[..., None]
) -> None:
    nats, slow = connected(fake(broker)), Slow(ticks)
    begin(nats, slow)
    run(lambda: len(slow.done) == MANY)
    slow.check()


@pytest.mark.parametrize("begin", [requests, flushes, all_kinds])
def test_a_disconnect_fails_many_in_slices_and_in_order(
    connected: Any, fake: Any, run: Any, ticks: Ticks, begin: Callable[..., None]
) -> None:
    nats, slow = connected(fake(broker)), Slow(ticks)
    begin(nats, slow)
    nats.disconnect()
    nats.on_disconnect(lambda: slow.done.append(MANY))
    run(lambda: MANY in slow.done)
    assert slow.done.pop() == MANY
    slow.check()


@pytest.mark.parametrize("begin", [requests, flushes])
def test_the_first_attempt_after_a_loss_comes_after_all_that_the_loss_has_failed(
    connected: Any, fake: Any, run: Any, ticks: Ticks, begin: Callable[..., None]
) -> None:
    server = fake(broker)
    nats, slow = connected(server, reconnect=True, reconnect_delay=1), Slow(ticks)
    order: list[str] = []

    def lost() -> None:
        assert len(slow.done) == MANY
        order.append("lost")
        time.sleep(0.05)  # time for an attempt that is under way
        order.append(f"{server.connections} connections")

    nats.on_disconnect(lost)
    nats.on_connect(lambda: order.append("connected"))
    begin(nats, slow)
    nats.force_reconnect()
    run(lambda: "connected" in order)
    assert order == ["lost", "1 connections", "connected"]
    slow.check()


def test_a_connect_in_a_late_on_disconnect_replaces_the_attempt(
    connected: Any, fake: Any, run: Any, ticks: Ticks
) -> None:
    first, second = fake(broker), fake(broker)
    nats, slow = connected(first, reconnect=True, reconnect_delay=1), Slow(ticks)
    nats.on_disconnect(lambda: nats.connect(second.host, second.port))
    requests(nats, slow)
    nats.force_reconnect()
    run(lambda: len(slow.done) == MANY and nats.is_connected())
    assert nats.connected_url() == second.url
    assert (first.connections, second.connections) == (1, 1)
    slow.check()


def test_a_disconnect_among_the_completions_leaves_no_attempt(
    connected: Any, fake: Any, run: Any, ticks: Ticks, loop: pyev.Loop
) -> None:
    server = fake(broker)
    nats, slow = connected(server, reconnect=True, reconnect_delay=1), Slow(ticks)
    requests(nats, slow)
    nats.force_reconnect()
    run(lambda: len(slow.done) > MANY // 2)
    nats.disconnect()
    run(lambda: len(slow.done) == MANY)
    ticks.timer.stop()
    loop.start()  # returns: nothing keeps the loop
    assert server.connections == 1
    slow.check()


def test_a_call_from_its_own_callback_comes_in_the_next_iteration(
    connected: Any, fake: Any, run: Any, loop: pyev.Loop
) -> None:
    nats = connected(fake(broker))
    iterations: list[int] = []

    def again() -> None:
        iterations.append(loop.iteration)
        nats.call_soon(again)

    again()
    got: list[bytes] = []
    nats.subscribe("a", lambda subject, payload, *rest: got.append(payload))
    nats.publish("a", b"1")
    run(lambda: got)  # messages come meanwhile
    assert len(iterations) > 2
    assert all(a < b for a, b in itertools.pairwise(iterations[1:]))
    nats.disconnect()
    nats.on_disconnect(loop.stop)
    loop.start()


def test_what_is_put_off_behind_a_call_from_a_callback_keeps_its_place(
    connected: Any, fake: Any, run: Any
) -> None:
    nats = connected(fake(broker))
    order: list[str] = []

    def first() -> None:
        nats.call_soon(order.append, "second")
        nats.drain_subscription(0, lambda err: order.append("third"))
        order.append("first")

    nats.call_soon(first)
    run(lambda: len(order) == 3)
    assert order == ["first", "second", "third"]


def chain_of_drains(nats: Nats) -> None:
    nats.drain_subscription(0, lambda err: chain_of_drains(nats))


def chain_of_reports(nats: Nats) -> None:
    nats.on_error(nats.report)
    nats.report(RuntimeError("again"))  # type: ignore[arg-type]


@pytest.mark.parametrize("chain", [chain_of_drains, chain_of_reports])
def test_no_chain_of_callbacks_starves_the_loop(
    connected: Any, fake: Any, run: Any, chain: Callable[[Nats], None]
) -> None:
    nats = connected(fake(broker), on_error=None)
    chain(nats)
    got: list[bytes] = []
    nats.subscribe("a", lambda subject, payload, *rest: got.append(payload))
    nats.publish("a", b"1")
    run(lambda: got)
    nats.on_error(ignore)
    nats.disconnect()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_among_many_completions_leaves_the_rest_for_the_next_start(
    connected: Any, fake: Any, run: Any, ticks: Ticks, error: type[BaseException]
) -> None:
    nats, slow = connected(fake(broker)), Slow(ticks)

    def interrupt(*args: object) -> None:
        slow.done.append(-1)
        raise error

    nats.subscribe("silent", ignore)
    for number in range(MANY):
        nats.request("silent", b"", interrupt if number in (3, 20) else slow(number), 60_000)
    nats.disconnect()
    for _ in range(2):
        with pytest.raises(error):
            run(lambda: len(slow.done) == MANY)
    run(lambda: len(slow.done) == MANY)
    assert slow.done == [-1 if number in (3, 20) else number for number in range(MANY)]


def test_a_nested_loop_among_many_completions_takes_the_rest(
    connected: Any, fake: Any, run: Any, ticks: Ticks, loop: pyev.Loop
) -> None:
    nats, slow = connected(fake(broker)), Slow(ticks)

    def nest(*args: object) -> None:
        slow.done.append(0)
        run(lambda: len(slow.done) == MANY)

    nats.subscribe("silent", ignore)
    for number in range(MANY):
        nats.request("silent", b"", slow(number) if number else nest, 60_000)
    nats.disconnect()
    run(lambda: len(slow.done) == MANY)
    slow.check()


def test_an_error_without_on_error_is_raised_after_the_completions(
    connected: Any, fake: Any, run: Any, ticks: Ticks, loop: pyev.Loop
) -> None:
    server = fake(broker)
    nats, slow = connected(server, on_error=None), Slow(ticks)
    requests(nats, slow)
    nats.report(RuntimeError("reported"))  # type: ignore[arg-type]
    nats.disconnect()
    loop.debug = True
    with pytest.raises(RuntimeError, match="reported"):
        run(lambda: False)
    loop.debug = False
    slow.check()


def test_a_callback_cleared_or_replaced_before_its_turn_is_not_called(
    connected: Any, fake: Any, run: Any, excepthook: list[BaseException]
) -> None:
    nats = connected(fake(broker))
    heard: list[str] = []
    done: list[object] = []
    nats.on_error(lambda err: heard.append("old"))
    nats.add_error_listener(heard.append)  # type: ignore[arg-type]
    nats.report(RuntimeError("one"))  # type: ignore[arg-type]
    nats.on_error(lambda err: heard.append("new"))
    nats.remove_error_listener(heard.append)  # type: ignore[arg-type]
    nats.add_status_listener(done.append)
    nats.flush(done.append)
    run(lambda: done)
    assert heard == ["new"]
    nats.report(RuntimeError("two"))  # type: ignore[arg-type]
    nats.on_error(None)
    nats.disconnect()
    nats.remove_status_listener(done.append)
    run(lambda: excepthook)
    assert [str(error) for error in excepthook] == ["two"]
    assert done == [None]
