"""Tests that an adapter of a loop keeps the promises of `nats_ev.loops`. pytest runs them, or `failures`.

::

    class TestMyLoop(LoopConformance):
        def make(self):
            return MyLoop()

        def run(self, loop, seconds):
            loop.run_until_stopped(seconds)

        def stop(self, loop):
            loop.stop()

Each test makes a loop of its own, runs it for some tenths of a second, and closes it. What callbacks raise is
reported in the loop's way, so that tests of exceptions may print tracebacks.
"""

from __future__ import annotations

import _socket
import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from ..loops import EV_READ, EV_WRITE, Io, Timer, make_async
from .loop_case import LIMIT, MOMENT, Pair, Thread, get_ident, require, serve, sleep
from .loop_refs import RefTests

EV_CUSTOM = 0x01000000
EV_MINPRI = -2


class _Closed:
    """Has a method that a loop calls when it is closed."""

    def __init__(self) -> None:
        self.calls = 0

    def closed(self) -> None:
        """Count the calls."""
        self.calls += 1


class LoopConformance(RefTests):
    """The tests. A subclass has `make`, `run`, `stop` and, if its loop can be closed, `close`.

    It also has `run_until_idle`, if its loop or its watchers have ``ref``.
    """

    # Descriptors.

    def test_io_calls_while_a_descriptor_is_readable(self) -> None:
        """Check that the callback is called again until all has been read: level-triggered."""
        with self.opened(1) as (loop, pair):
            got: list[bytes] = []

            def on_read(watcher: Any, revents: int) -> None:
                got.append(pair.ours.recv(1))
                if len(got) == 3:
                    watcher.stop()
                    self.stop(loop)

            watcher = loop.io(pair.fd, EV_READ, on_read, None, 0)
            require(not watcher.active, "a new watcher is active")
            watcher.start()
            watcher.start()
            require(watcher.active, "a started watcher is not active")
            pair.theirs.send(b"abc")
            self.wait(loop, "a readable descriptor")
            require(got == [b"a", b"b", b"c"], f"read {got}")
            require(not watcher.active, "a stopped watcher is active")
            watcher.stop()

    def test_io_calls_when_a_descriptor_is_writable_or_at_its_end(self) -> None:
        """Check that a writer is called, and a reader when the peer has closed."""
        with self.opened(1) as (loop, pair):
            called: list[str] = []

            def on_write(watcher: Any, revents: int) -> None:
                called.append("writable")
                watcher.stop()
                pair.theirs.close()

            def on_read(watcher: Any, revents: int) -> None:
                called.append(repr(pair.ours.recv(1)))
                watcher.stop()
                self.stop(loop)

            writer = loop.io(pair.fd, EV_WRITE, on_write, None, 0)
            reader = loop.io(pair.fd, EV_READ, on_read, None, 0)
            reader.start()
            writer.start()
            self.wait(loop, "a descriptor that is writable, then at its end")
            require(called == ["writable", "b''"], f"called: {called}")

    def test_io_reader_and_writer_of_one_descriptor_are_independent(self) -> None:
        """Check that stopping one of them leaves the other alone."""
        with self.opened(1) as (loop, pair):
            called: list[str] = []

            def note(name: str) -> Callable[[Any, int], None]:
                def call(watcher: Any, revents: int) -> None:
                    called.append(name)
                    watcher.stop()
                    if len(called) >= 3:
                        self.stop(loop)

                return call

            reader = loop.io(pair.fd, EV_READ, note("read"), None, 0)
            writer = loop.io(pair.fd, EV_WRITE, note("write"), None, 0)
            for watcher in (reader, writer):
                watcher.start()
            pair.theirs.send(b"x")
            self.run(loop, MOMENT)
            require(sorted(called) == ["read", "write"], f"called: {called}")
            reader.start()
            self.wait(loop, "the reader, started again beside a stopped writer")
            require(called[2:] == ["read"], f"called: {called}")

    def test_io_that_was_stopped_is_not_called_though_both_were_ready(self) -> None:
        """Check two callbacks that stop each other's watcher: only one is called."""
        with self.opened(2) as (loop, first, second):
            called: list[int] = []
            watchers: list[Io] = []

            def make(number: int) -> Callable[[Any, int], None]:
                def call(watcher: Any, revents: int) -> None:
                    called.append(number)
                    for other in watchers:
                        other.stop()

                return call

            for number, pair in enumerate((first, second)):
                pair.theirs.send(b"x")
                watchers.append(loop.io(pair.fd, EV_READ, make(number), None, 0))
            for watcher in watchers:
                watcher.start()
            self.run(loop, MOMENT)
            require(len(called) == 1, f"{len(called)} callbacks, of watchers that were stopped")

    def test_io_of_a_descriptors_number_that_is_used_again(self) -> None:
        """Check that a closed descriptor leaves nothing in the loop."""
        with self.opened() as loop:
            for round_ in range(5):
                pair = Pair()
                got: list[bytes] = []

                def on_read(
                    watcher: Any, revents: int, pair: Pair = pair, got: list[bytes] = got
                ) -> None:
                    got.append(pair.ours.recv(10))
                    self.stop(loop)

                watcher = loop.io(pair.fd, EV_READ, on_read, None, 0)
                watcher.start()
                pair.theirs.send(b"%d" % round_)
                self.wait(loop, f"socket {round_} with the same number")
                require(got == [b"%d" % round_], f"got {got}")
                watcher.stop()
                pair.close()

    def test_io_inside_its_callback_can_be_stopped_and_started_again(self) -> None:
        """Check a watcher that is started again by its own callback."""
        with self.opened(1) as (loop, pair):
            calls: list[int] = []

            def on_read(watcher: Any, revents: int) -> None:
                calls.append(revents)
                watcher.stop()
                if len(calls) < 3:
                    watcher.start()
                else:
                    self.stop(loop)

            loop.io(pair.fd, EV_READ, on_read, None, 0).start()
            pair.theirs.send(b"x")
            self.wait(loop, "a watcher that is started in its callback")

    def test_active_watchers_are_kept_alive_by_the_loop(self) -> None:
        """Check watchers to which a program has no reference."""
        with self.opened(1) as (loop, pair):
            called: list[str] = []

            def call(name: str) -> Callable[[Any, int], None]:
                def called_by(watcher: Any, revents: int) -> None:
                    called.append(name)
                    watcher.stop()
                    if len(called) == 2:
                        self.stop(loop)

                return called_by

            loop.io(pair.fd, EV_READ, call("io"), None, 0).start()
            loop.timer(0.01, 0.0, call("timer")).start()
            gc.collect()
            pair.theirs.send(b"x")
            self.wait(loop, "watchers that only the loop refers to")

    # Timers.

    def test_timer_fires_once_for_each_start_and_in_time(self) -> None:
        """Check the times of a timer, and that it does not repeat."""
        with self.opened() as loop:
            fired: list[float] = []

            def fire(watcher: Any, revents: int) -> None:
                fired.append(time.monotonic())
                self.stop(loop)

            timer = loop.timer(0.0, 0.0, fire)
            for seconds in (0.1, 0.05):
                loop.update()
                timer.stop()
                timer.set(seconds, 0.0)
                timer.start()
                timer.start()
                took = self.wait(loop, f"a timer of {seconds} s")
                require(took > seconds * 0.8 - 0.005, f"{seconds} s have taken {took:.3f} s")
                require(took < seconds + 1.0, f"{seconds} s have taken {took:.3f} s")
            self.run(loop, MOMENT)
            require(len(fired) == 2, "a timer without repeat has fired again")

    def test_timer_that_was_stopped_does_not_fire(self) -> None:
        """Check timers that are due already, too."""
        with self.opened() as loop:
            fired: list[int] = []
            timers: list[Timer] = []

            def fire(watcher: Any, revents: int) -> None:
                fired.append(1)
                for timer in timers:
                    timer.stop()

            timers += [loop.timer(0.02, 0.0, fire), loop.timer(0.02, 0.0, fire)]
            stopped = loop.timer(0.01, 0.0, lambda watcher, revents: fired.append(3))
            for timer in (*timers, stopped):
                timer.start()
            stopped.stop()
            stopped.stop()
            self.soon(loop, lambda: sleep(0.05))  # both are due in the same iteration
            self.run(loop, MOMENT * 2)
            require(len(fired) == 1 and 3 not in fired, f"fired: {fired}")

    def test_timer_counts_from_now_after_update(self) -> None:
        """Check this in a callback that has kept the loop busy for long."""
        with self.opened() as loop:
            times: list[float] = []

            def busy() -> None:
                sleep(0.2)
                loop.update()
                times.append(time.monotonic())
                timer.start()

            def fire(watcher: Any, revents: int) -> None:
                times.append(time.monotonic())
                self.stop(loop)

            timer = loop.timer(0.15, 0.0, fire)
            self.soon(loop, busy)
            self.wait(loop, "a timer")
            took = times[1] - times[0]
            require(took > 0.1, f"0.15 s have taken {took:.3f} s: they count from a stale time")

    def test_timer_of_0_seconds_gives_way_to_descriptors(self) -> None:
        """Check that a callback that starts it again and again does not keep others from being called."""
        with self.opened(1) as (loop, pair):
            turns: list[int] = []
            got: list[int] = []

            def again(watcher: Any, revents: int) -> None:
                turns.append(1)
                if not got:
                    watcher.start()

            def on_read(watcher: Any, revents: int) -> None:
                got.append(len(turns))
                watcher.stop()
                self.stop(loop)

            loop.timer(0.0, 0.0, again).start()
            loop.io(pair.fd, EV_READ, on_read, None, 0).start()
            pair.theirs.send(b"x")
            self.wait(loop, "a readable descriptor beside a timer of 0 s")
            require(got[0] < 100, f"{got[0]} turns of the timer came first")

    # Fed events.

    def test_prepare_fed_in_a_callback_comes_before_the_loop_blocks(self) -> None:
        """Check that what is fed does not wait for the next event."""
        with self.opened(1) as (loop, pair):
            called: list[int] = []

            def prepared(watcher: Any, revents: int) -> None:
                called.append(1)
                self.stop(loop)

            prepare = loop.prepare(prepared, None, EV_MINPRI)
            kinds: list[Callable[[], Any]] = [
                lambda: loop.timer(0.0, 0.0, feed),
                lambda: loop.io(pair.fd, EV_WRITE, feed, None, 0),
            ]

            def feed(watcher: Any, revents: int) -> None:
                watcher.stop()
                prepare.feed(EV_CUSTOM)
                require(not called, "called inside feed")

            for number, kind in enumerate(kinds):
                del called[:]
                kind().start()
                took = self.wait(loop, f"a fed Prepare ({number})")
                require(took < 1.0, f"a fed Prepare has waited for {took:.1f} s")

    def test_prepare_is_called_once_after_all_callbacks_of_the_iteration(self) -> None:
        """Check what makes one write of all that is published."""
        with self.opened(3) as (loop, *pairs):
            called: list[str] = []
            prepare = loop.prepare(
                lambda watcher, revents: called.append("prepare"), None, EV_MINPRI
            )

            def feed(watcher: Any, revents: int) -> None:
                called.append("io")
                watcher.stop()
                prepare.feed(EV_CUSTOM)
                prepare.feed(EV_CUSTOM)

            for pair in pairs:
                pair.theirs.send(b"x")
                loop.io(pair.fd, EV_READ, feed, None, 0).start()
            self.run(loop, MOMENT)
            require(called == ["io"] * 3 + ["prepare"], f"called: {called}")

    def test_prepare_fed_in_its_own_callback_is_called_again(self) -> None:
        """Check that the loop does not block while something is fed."""
        with self.opened() as loop:
            called: list[int] = []

            def prepared(watcher: Any, revents: int) -> None:
                called.append(1)
                if len(called) < 10:
                    watcher.feed(EV_CUSTOM)
                else:
                    self.stop(loop)

            prepare = loop.prepare(prepared, None, EV_MINPRI)
            self.soon(loop, lambda: prepare.feed(EV_CUSTOM))
            took = self.wait(loop, "a Prepare that feeds itself")
            require(took < 1.0, f"10 calls have taken {took:.1f} s")

    def test_prepare_fed_while_the_loop_does_not_run_waits_until_it_does(self) -> None:
        """Check what a program publishes before it runs the loop."""
        with self.opened() as loop:
            called: list[int] = []

            def prepared(watcher: Any, revents: int) -> None:
                called.append(1)
                self.stop(loop)

            prepare = loop.prepare(prepared, None, EV_MINPRI)
            prepare.feed(EV_CUSTOM)
            require(not called, "called inside feed")
            self.wait(loop, "what was fed before the loop ran")
            self.run(loop, MOMENT)
            require(len(called) == 1, f"{len(called)} calls")

    def test_prepare_that_was_stopped_is_not_called_and_can_be_fed_again(self) -> None:
        """Check that stop discards what was fed."""
        with self.opened() as loop:
            called: list[int] = []

            def prepared(watcher: Any, revents: int) -> None:
                called.append(revents)
                self.stop(loop)

            prepare = loop.prepare(prepared, None, EV_MINPRI)
            prepare.feed(EV_CUSTOM)
            prepare.stop()
            prepare.stop()
            self.run(loop, MOMENT)
            require(not called, "called though it was stopped")
            prepare.feed(EV_CUSTOM)
            self.wait(loop, "a Prepare that is fed after stop")

    # Other threads.

    def test_async_send_of_another_thread_wakes_the_loop(self) -> None:
        """Check that the callback comes soon, in the loop's thread."""
        with self.opened() as loop:
            where: list[int] = []

            def woken(watcher: Any, revents: int) -> None:
                where.append(get_ident())
                self.stop(loop)

            watcher = make_async(loop, woken)
            watcher.start()
            for _ in range(3):
                thread = Thread(watcher.send, 0.05)
                took = self.wait(loop, "send() of another thread")
                thread.join()
                require(took < 2.0, f"send has taken {took:.1f} s")
            require(set(where) == {get_ident()}, "called in another thread")
            watcher.stop()

    def test_async_calls_after_the_last_of_many_sends(self) -> None:
        """Check that no send is lost at the moment of a call."""
        with self.opened() as loop:
            sent: list[int] = []
            seen: list[int] = []

            def work() -> None:
                for number in range(1000):
                    sent.append(number)
                    watcher.send()

            def woken(watcher: Any, revents: int) -> None:
                seen.append(len(sent))
                if seen[-1] == 1000:
                    self.stop(loop)

            watcher = make_async(loop, woken)
            watcher.start()
            thread = Thread(work)
            self.wait(loop, "a call after the last send()")
            thread.join()
            watcher.stop()

    def test_async_that_was_stopped_ignores_send(self) -> None:
        """Check sends before start and after stop."""
        with self.opened() as loop:
            called: list[int] = []
            watcher = make_async(loop, lambda watcher, revents: called.append(1))
            watcher.send()
            watcher.start()
            watcher.send()
            watcher.stop()
            watcher.send()
            self.run(loop, MOMENT)
            require(not called, "called though it was stopped")

    def test_async_send_of_a_signal_handler_wakes_the_loop(self) -> None:
        """Check a send in the loop's own thread, between two callbacks."""
        if threading.current_thread() is not threading.main_thread():
            return
        with self.opened() as loop:
            watcher = make_async(loop, lambda watcher, revents: self.stop(loop))
            watcher.start()
            before = signal.signal(signal.SIGUSR1, lambda *args: watcher.send())
            # Python runs the handler when the loop runs Python code.
            beat = loop.timer(0.01, 0.0, lambda watcher, revents: watcher.start())
            beat.start()
            thread = Thread(lambda: os.kill(os.getpid(), signal.SIGUSR1), 0.05)
            try:
                self.wait(loop, "send() of a signal handler")
            finally:
                thread.join()
                beat.stop()
                watcher.stop()
                signal.signal(signal.SIGUSR1, before)

    def test_thread_is_that_which_runs_the_loop(self) -> None:
        """Check the attribute `thread`, if there is one."""
        with self.opened() as loop:
            if not hasattr(loop, "thread"):
                return
            mine = get_ident()
            seen: list[Any] = []

            def other() -> None:
                seen.append((loop.thread, get_ident()))

            def look() -> None:
                seen.append(loop.thread)
                Thread(other).join()
                self.stop(loop)

            require(loop.thread in (None, mine), "another thread runs a loop that does not run")
            self.soon(loop, look)
            self.wait(loop, "a timer")
            require(seen[0] in (None, mine), "thread is not this thread in a callback")
            thread, others = seen[1]
            require(thread is not None, "thread is None in another thread while the loop runs")
            require(thread != others, "thread is another thread than the one that runs the loop")

    # Exceptions.

    def test_watchers_stay_active_though_their_callback_raises(self) -> None:
        """Check that the loop goes on after an Exception."""
        with self.opened(1) as (loop, pair):
            calls: list[int] = []

            def on_read(watcher: Any, revents: int) -> None:
                calls.append(1)
                if len(calls) < 3:
                    raise ValueError("raised by a test of the loop")
                watcher.stop()
                self.stop(loop)

            loop.io(pair.fd, EV_READ, on_read, None, 0).start()
            pair.theirs.send(b"x")
            self.wait(loop, "a watcher whose callback has raised")

    def test_prepare_fed_in_a_callback_that_raises_is_called(self) -> None:
        """Check that an Exception discards nothing that was fed."""
        with self.opened() as loop:
            prepare = loop.prepare(lambda watcher, revents: self.stop(loop), None, EV_MINPRI)

            def raising() -> None:
                prepare.feed(EV_CUSTOM)
                raise ValueError("raised by a test of the loop")

            self.soon(loop, raising)
            took = self.wait(loop, "what was fed in a callback that has raised")
            require(took < 1.0, f"a fed Prepare has waited for {took:.1f} s")

    def test_keyboard_interrupt_and_system_exit_come_out_of_run(self) -> None:
        """Check also that the loop can be run again, with all that was active or fed."""
        for kind in (KeyboardInterrupt, SystemExit):
            with self.opened(1) as (loop, pair):
                prepared: list[int] = []
                read: list[int] = []
                prepare = loop.prepare(
                    lambda watcher, revents, prepared=prepared: prepared.append(1), None, EV_MINPRI
                )

                def on_read(
                    watcher: Any,
                    revents: int,
                    loop: Any = loop,
                    read: list[int] = read,
                    prepare: Any = prepare,
                    kind: type[BaseException] = kind,
                ) -> None:
                    read.append(1)
                    if len(read) == 1:
                        prepare.feed(EV_CUSTOM)
                        raise kind
                    watcher.stop()
                    self.stop(loop)

                loop.io(pair.fd, EV_READ, on_read, None, 0).start()
                pair.theirs.send(b"x")
                try:
                    self.run(loop, LIMIT)
                except kind:
                    pass
                else:
                    raise AssertionError(f"{kind.__name__} did not come out of run")
                self.wait(loop, f"the loop after {kind.__name__}")
                self.run(loop, MOMENT)
                if hasattr(loop, "thread"):
                    require(len(prepared) == 1, f"what was fed was called {len(prepared)} times")

    # The end.

    def test_at_close_calls_a_method_and_watchers_can_be_stopped(self) -> None:
        """Check the attribute `at_close`, if there is one."""
        pair = Pair()
        try:
            loop: Any = self.make()
            if not hasattr(loop, "at_close"):
                self.close(loop)
                return
            kept, dropped = _Closed(), _Closed()
            loop.at_close(kept.closed)
            loop.at_close(dropped.closed)
            del dropped
            io = loop.io(pair.fd, EV_READ, lambda watcher, revents: None, None, 0)
            timer = loop.timer(10.0, 0.0, lambda watcher, revents: None)
            wake = make_async(loop, lambda watcher, revents: None)
            prepare = loop.prepare(lambda watcher, revents: None, None, EV_MINPRI)
            for watcher in (io, timer, wake):
                watcher.start()
            prepare.feed(EV_CUSTOM)
            self.run(loop, MOMENT)
            require(kept.calls == 0, "called before the loop was closed")
            self.close(loop)
            require(kept.calls == 1, f"called {kept.calls} times when the loop was closed")
            wake.send()
            for watcher in (io, timer, wake, prepare):
                watcher.stop()
        finally:
            pair.close()

    # A client.

    def test_a_client_connects_and_asks_and_ends(self) -> None:
        """Check a client on a server that knows enough of the protocol to answer."""
        from .. import Nats

        with self.opened() as loop:
            listener = _socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            server = Thread(lambda: serve(listener))
            seen: list[Any] = []

            def connected() -> None:
                nats.request("ask", b"what", answered)

            def answered(response: Any, err: Any, headers: Any) -> None:
                seen.append((response, err))
                nats.drain(drained)

            def drained(err: Any) -> None:
                seen.append(err)
                self.stop(loop)

            nats: Nats = Nats(
                host="localhost", port=listener.getsockname()[1], loop=loop, reconnect=False,
                on_connect=connected, on_error=seen.append,
            )  # fmt: skip
            self.run(loop, LIMIT)
            nats.disconnect()
            self.run(loop, MOMENT)
            server.join()
            listener.close()
            require(seen == [(b"this", None), None], f"the client has seen {seen}")
