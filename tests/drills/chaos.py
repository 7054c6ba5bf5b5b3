"""Rolling restarts of a three-node cluster under a publisher of 10,000 messages a second.

`make chaos`, or `python -m drills.chaos [ROUNDS]`. A round restarts each node once: killed, stopped, or
sent into lame duck mode and then stopped. Publisher and subscriber are two clients in this process. In
the end it must hold, exactly:

- neither client has stopped by itself, or reconnected more often than its node went away;
- accepted == written + waiting + discarded in every sample, and accepted is what publish has taken;
- what arrived is whole, in order, without doubles, and no server has complained about a frame;
- every missing message was published or sent while the publisher's or the subscriber's link was down;
- callbacks are balanced, and memory and descriptors do not grow.
"""

from __future__ import annotations

import bisect
import gc
import queue
import signal
import sys
import threading
import time
import zlib
from array import array
from collections.abc import Callable
from typing import Any

from lab.natsserver import Cluster, NatsServer, wait_for
from lab.process import descriptors, resident
from lab.steps import run_until
from nats_ev import Nats, ProtocolError, ServerError, pyev

ROUNDS = 30
RATE = 10_000  # messages per second
TICK = 0.005
# What lies between the end of a node and what a client sees of it: bytes in flight before, and after
# the reconnect the time in which the other nodes learn that the subscriber is now elsewhere.
BEFORE, AFTER = 0.2, 0.5
MEMORY = 4 * 1024 * 1024
COMPLAINTS = ("Parser Error", "Unknown Protocol", "protocol error", "Invalid")


class Nodes(threading.Thread):
    """Restarts the nodes, in a thread of its own so that the loop goes on meanwhile."""

    def __init__(self) -> None:
        super().__init__(name="nodes", daemon=True)
        self.ready: queue.Queue[Any] = queue.Queue()
        self.orders: queue.Queue[tuple[int, str] | None] = queue.Queue()
        self.log = ""

    def run(self) -> None:
        try:
            with Cluster(3) as servers:
                self.ready.put([s.url for s in servers])
                while (order := self.orders.get()) is not None:
                    index, how = order
                    self._restart(servers, servers[index], how)
                    self.ready.put(True)
                self.log = "".join(s.log for s in servers)
        except BaseException as exc:
            self.ready.put(exc)
        else:
            self.ready.put(None)

    def _restart(self, servers: list[NatsServer], server: NatsServer, how: str) -> None:
        if how == "lame duck":
            server.signal(signal.SIGUSR2)
            time.sleep(0.1)
        (server.kill if how == "kill" else server.stop)()
        time.sleep(0.1)
        server.start()
        wait_for(lambda: all(len(s.monitor("routez")["routes"]) >= 2 for s in servers))


class Link:
    """One client, and when it was connected to what."""

    def __init__(self, loop: Any, urls: list[str]) -> None:
        self.events: list[str] = []
        self.errors: list[Exception] = []
        self.down: list[list[float]] = []  # [from, to]
        self.nats = Nats(
            loop=loop, servers=urls, reconnect=True, reconnect_delay=50, max_reconnect_delay=200,
            max_reconnect_attempts=0, on_error=self.errors.append, ping_interval=1000,
            on_connect=lambda: self.events.append("connect"),
            on_disconnect=lambda: self.events.append("disconnect"),
            on_reconnect=lambda: self.events.append("reconnect"),
        )  # fmt: skip
        self.nats.add_status_listener(self._status)

    def _status(self, status: str) -> None:
        now = time.monotonic()
        if status == "RECONNECTING":
            self.down.append([now, float("inf")])
        elif status == "CONNECTED" and self.down:
            self.down[-1][1] = now
        elif status == "CLOSED":
            self.events.append("closed")

    @property
    def restarted(self) -> int:
        """How often its connection was lost."""
        return len(self.down)


class Chaos:
    """The traffic of one run, and what is known of it."""

    def __init__(self, urls: list[str], rate: int) -> None:
        self.loop = pyev.Loop()
        self.publisher, self.subscriber = Link(self.loop, urls), Link(self.loop, urls)
        self.per_tick = int(rate * TICK)
        self.sent = 0
        self.ticks = array("d")  # when the messages from index * per_tick on were published
        self.gaps: list[tuple[int, int]] = []
        self.received = 0
        self.next = 0
        self.wrong: list[str] = []
        self.publishing = False
        self.ticker = self.loop.timer(TICK, TICK, self._tick)
        self.subscriber.nats.subscribe("chaos", self._message)
        flushed: list[Any] = []
        self.subscriber.nats.flush(flushed.append)
        self.until(lambda: flushed and self.publisher.nats.is_connected())
        self.ticker.start()

    def _tick(self, watcher: Any, revents: int) -> None:
        self.ticks.append(time.monotonic())
        publish = self.publisher.nats.publish
        for n in range(self.sent, self.sent + self.per_tick):
            publish("chaos", frame(n))
        self.sent += self.per_tick
        stats = self.publisher.nats.stats()
        if stats["accepted"] != stats["written"] + stats["waiting"] + stats["discarded"]:
            self.wrong.append(f"accounting: {stats}")
        if stats["accepted"] != self.sent:
            self.wrong.append(f"{self.sent} published: {stats}")

    def _message(self, subject: str, payload: bytes, reply: Any, headers: Any) -> None:
        number = int(payload[:12])
        if payload != frame(number):
            self.wrong.append(f"message {number} is not what was sent: {payload!r}")
        if number < self.next:
            self.wrong.append(f"{number} after {self.next - 1}")
        if number > self.next:
            self.gaps.append((self.next, number - 1))
        self.next = number + 1
        self.received += 1

    def until(self, condition: Callable[[], Any], timeout: float = 60.0) -> None:
        """Run the loop until condition() is true."""
        run_until(
            self.loop,
            condition,
            timeout,
            lambda: (self.publisher.events[-3:], self.subscriber.events[-3:]),
        )

    def settle(self) -> None:
        """Until both are connected and something published now has arrived, and for a while."""
        start = self.sent
        self.until(lambda: self.publisher.nats.is_connected() and self.next > start)
        quiet = time.monotonic() + AFTER + 0.25
        self.until(lambda: time.monotonic() > quiet)

    def finish(self) -> None:
        """Stop publishing and wait for what is on its way."""
        self.ticker.stop()
        flushed: list[Any] = []
        self.publisher.nats.flush(flushed.append)
        self.until(lambda: flushed)
        self.until(lambda: self.next == self.sent)

    def check(self, kills: list[float], log: str) -> str:
        """The assertions; returns how many messages were missing, and how many might have been."""
        assert not self.wrong, self.wrong[:5]
        stats = self.publisher.nats.stats()
        assert (stats["accepted"], stats["waiting"], stats["discarded"]) == (self.sent, 0, 0), stats
        assert self.received + sum(b - a + 1 for a, b in self.gaps) == self.sent
        for link in (self.publisher, self.subscriber):
            losses = link.restarted
            assert "closed" not in link.events
            assert link.events.count("connect") == losses + 1, link.events
            assert link.events.count("disconnect") == losses, link.events
            assert link.events.count("reconnect") == losses, link.events
            assert losses <= len(kills)
            for error in link.errors:
                assert not isinstance(error, (ProtocolError, ServerError)), repr(error)
        for line in log.splitlines():
            assert not any(complaint in line for complaint in COMPLAINTS), line
        windows = self._windows(kills)
        for gap in self.gaps:
            assert any(a <= gap[0] and gap[1] <= b for a, b in windows), (gap, windows)
        missing = sum(b - a + 1 for a, b in self.gaps)
        covered = sum(b - a + 1 for a, b in windows)
        assert covered < self.sent, "the links were down all the time"
        return f"{missing:,} missing, all in {len(windows)} intervals of a link down ({covered:,})"

    def _windows(self, kills: list[float]) -> list[tuple[int, int]]:
        """Numbers of the messages published while a link was down, overlapping intervals as one."""
        windows: list[tuple[int, int]] = []
        for start, end in sorted(self.publisher.down + self.subscriber.down):
            # Down since the node went, which the client may have seen a little later.
            went = kills[max(0, bisect.bisect(kills, start) - 1)]
            first = self._number(min(start, max(went, start - 1.0)) - BEFORE)
            last = self._number(end + AFTER) + self.per_tick
            if windows and first <= windows[-1][1]:
                first, last = windows[-1][0], max(last, windows[-1][1])
                windows.pop()
            windows.append((first, last))
        return windows

    def _number(self, at: float) -> int:
        return max(0, bisect.bisect(self.ticks, at) - 1) * self.per_tick


def frame(number: int) -> bytes:
    """The payload of one message: its number, a filling of varying length, and a checksum."""
    body = b"%012d" % number + b"\r\nPUB chaos 1\r\n" * (number % 11)
    return body + b"%08x" % zlib.crc32(body)


def chaos(rounds: int, nodes_per_round: int = 3, rate: int = RATE) -> str:
    """Run; returns what was seen, raises AssertionError for what must not be."""
    start = time.monotonic()
    nodes = Nodes()
    nodes.start()
    urls = nodes.ready.get(timeout=60)
    if isinstance(urls, BaseException):
        raise urls
    kills: list[float] = []
    before = 0, 0
    try:
        run = Chaos(urls, rate)
        run.settle()
        for number in range(rounds):
            for index in range(nodes_per_round):
                how = ("kill", "stop", "lame duck")[(number + index) % 3]
                kills.append(time.monotonic())
                nodes.orders.put((index, how))
                run.until(lambda: not nodes.ready.empty())
                if isinstance(failure := nodes.ready.get(), BaseException):
                    raise failure
                run.settle()
            if number == rounds // 3:
                gc.collect()
                before = resident(), descriptors()
        run.finish()
        gc.collect()
        after = resident(), descriptors()
    finally:
        nodes.orders.put(None)
        nodes.ready.get(timeout=60)
    gaps = run.check(kills, nodes.log)
    assert after[0] - before[0] <= MEMORY, (before, after)
    assert after[1] <= before[1], (before, after)
    for link in (run.publisher, run.subscriber):
        link.nats.disconnect()
    run.loop.start()
    return (
        f"{len(kills)} restarts, {run.publisher.restarted} + {run.subscriber.restarted} reconnects; "
        f"{run.sent:,} published, {run.received:,} received, {gaps}; no double, none out of order; "
        f"memory {(after[0] - before[0]) / 1024:+.0f} KiB; {time.monotonic() - start:.0f} s"
    )


def main() -> None:
    print("chaos:", chaos(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))


if __name__ == "__main__":
    main()
