"""A storm of SIGINTs, at random moments of a client at work: nothing may be lost, doubled or torn.

`make interrupts`, or `python -m drills.interrupts [SIGNALS [WAY …]]`. Numbered messages go round between
the client and a server, and so do requests: one that is missing, comes twice or comes too early is seen at
once, or stops its ring. A thread sends each SIGINT soon after the last one has been caught, and each must be
caught once:

- ``start``: KeyboardInterrupt comes out of the `start` of `nats_ev.pyev`, which is then called again;
- ``watched``: a `Signal` watcher of the loop gets it;
- ``gevent``: ``gevent.signal_handler`` gets it, as the guide has it; if gevent is installed.
"""

from __future__ import annotations

import importlib.util
import queue
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from lab.natsserver import NatsServer
from nats_ev import Nats, pyev

SIGNALS = 500_000
NUMBERS = 1000  # messages are numbered from 0 on, and again
WINDOW = 50  # messages on their way, and a tenth of it requests
PAUSE = 100e-6  # seconds between two signals, on the average
PATIENCE = 20.0  # seconds without progress


class Storm:
    """A thread that sends SIGINT to the main thread, each time soon after it was asked for."""

    def __init__(self, signals: int) -> None:
        self.left = signals
        self.count = 0
        self._wanted = True
        self._chance = random.Random(1)
        self._asked: queue.SimpleQueue[None] = queue.SimpleQueue()
        threading.Thread(target=self._blow, daemon=True).start()

    def _blow(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        while self.left:
            self._asked.get()
            time.sleep(self._chance.uniform(0.0, 2 * PAUSE))
            self.left -= 1
            signal.pthread_kill(main, signal.SIGINT)

    def caught(self) -> None:
        """Count one."""
        self.count += 1
        self._wanted = True

    def ask(self, *event: Any) -> None:
        """Ask for the next one, inside of the loop only: it may strike before this returns."""
        if self._wanted:
            self._wanted = False
            self._asked.put(None)


class Rings:
    """Messages and requests that go round for ever.

    KeyboardInterrupt may strike in the user's code, after each call that it makes. So each callback makes one
    call of the client's, which cannot be divided, as the last thing that it does.
    """

    def __init__(self, nats: Nats) -> None:
        self.nats = nats
        self.texts = [b"%d" % number for number in range(NUMBERS)]
        around = [*self.texts, *self.texts]
        self.following = {text: around[n + 1] for n, text in enumerate(self.texts)}
        self.ahead = {text: around[n + WINDOW] for n, text in enumerate(self.texts)}
        # Runs of one subject, and single messages.
        self.subjects = {text: f"ring.{n % 9 // 5}" for n, text in enumerate(self.texts)}
        self.expected, self.answer = self.texts[0], self.texts[0]
        self.messages = self.answers = 0
        self.wrong: str | None = None
        nats.subscribe("ring.*", self.on_message)
        nats.subscribe(
            "echo", lambda subject, payload, reply, headers: nats.publish(reply, payload)
        )

    def begin(self) -> None:
        """Send what goes round."""
        for number in range(WINDOW):
            self.nats.publish(self.subjects[self.texts[number]], self.texts[number])
        for number in range(WINDOW // 10):
            self.nats.request("echo", self.texts[number], self.on_answer, 0)

    def on_message(self, subject: str, payload: bytes, reply: Any, headers: Any) -> None:
        if payload != self.expected or subject != self.subjects[payload]:
            self.wrong = f"message {payload!r} on {subject} came in place of {self.expected!r}"
        self.messages += 1
        self.expected = self.following[payload]
        following = self.ahead[payload]
        self.nats.publish(self.subjects[following], following)

    def on_answer(self, payload: bytes | None, error: Any, headers: Any = None) -> None:
        if error is not None or payload != self.answer:
            self.wrong = f"answer {payload!r} {error!r} came in place of {self.answer!r}"
            return
        self.answers += 1
        self.answer = self.following[payload]
        self.nats.request(
            "echo", self.texts[(self.answers - 1 + WINDOW // 10) % NUMBERS], self.on_answer, 0
        )


class Watch:
    """Whether the rings still go round, and when the storm is over."""

    def __init__(self, rings: Rings, storm: Storm, signals: int) -> None:
        self._rings = rings
        self._storm = storm
        self._signals = signals
        self._last = (0, 0, 0)
        self._since = time.monotonic()
        self._end: tuple[int, int] | None = None
        self.over = False

    def look(self) -> None:
        """Set `over` when all signals have come, and messages and answers have gone round after the last."""
        rings = self._rings
        now = (rings.messages, rings.answers, self._storm.count)
        if rings.wrong is not None:
            self.over = True
        elif self._storm.count == self._signals:
            if self._end is None:
                self._end = now[:2]
            self.over = now[0] > self._end[0] + 2 * WINDOW and now[1] > self._end[1] + WINDOW
        if all(new > old for new, old in zip(now[:2], self._last[:2], strict=True)):
            self._last, self._since = now, time.monotonic()
        elif time.monotonic() > self._since + PATIENCE:
            rings.wrong = f"a ring stands still: {now}, {PATIENCE:.0f} s ago {self._last}"
            self.over = True


def out_of_start(loop: pyev.Loop, watch: Watch, storm: Storm) -> None:
    """Run until the storm is over; count what comes out of `start`."""

    def look(watcher: Any, revents: int) -> None:
        watch.look()
        if watch.over:
            loop.stop()

    timer = loop.timer(0.05, 0.05, look)
    timer.start()
    asking = loop.prepare(storm.ask)
    asking.start()
    while not watch.over:
        try:
            loop.start()
        except KeyboardInterrupt:
            storm.caught()
    asking.stop()
    timer.stop()


def watched(loop: pyev.Loop, watch: Watch, storm: Storm) -> None:
    """Run until the storm is over; a watcher counts."""
    watcher = loop.signal(signal.SIGINT, lambda watcher, revents: storm.caught())
    watcher.start()
    out_of_start(loop, watch, storm)
    watcher.stop()


def in_gevent(loop: Any, watch: Watch, storm: Storm) -> None:
    """Let gevent's hub run until the storm is over; gevent's handler counts."""
    import gevent

    def caught() -> None:
        storm.caught()
        storm.ask()

    handler = gevent.signal_handler(signal.SIGINT, caught)
    storm.ask()
    while not watch.over:
        gevent.sleep(0.05)
        watch.look()
    handler.cancel()


def storm(way: str, signals: int) -> str:
    """Run one way; return what was measured. Raises AssertionError for anything wrong."""
    run: Callable[..., None]
    loop: Any
    if way == "gevent":
        from nats_ev.gevent_loop import GeventLoop

        loop, run = GeventLoop(), in_gevent
    else:
        loop, run = pyev.Loop(), out_of_start if way == "start" else watched
    raised: list[BaseException] = []
    hook, sys.excepthook = sys.excepthook, lambda kind, exc, tb: raised.append(exc)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    started = time.monotonic()
    try:
        with NatsServer() as server:
            nats = Nats(loop=loop, host=server.host, port=server.port, on_error=raised.append)
            rings, blows = Rings(nats), Storm(signals)
            nats.on_connect(rings.begin)
            run(loop, Watch(rings, blows, signals), blows)
            stats = nats.stats()
            nats.disconnect()
    finally:
        sys.excepthook = hook
        signal.signal(signal.SIGINT, handler)
    text = (
        f"{way}: {blows.count:,} SIGINTs in {time.monotonic() - started:.0f} s, {rings.messages:,} messages "
        f"and {rings.answers:,} answers in order, wrong: {rings.wrong or raised or 'nothing'}"
    )
    assert rings.wrong is None, text
    assert not raised, text
    assert blows.count == signals, text
    assert stats["accepted"] == stats["written"] + stats["waiting"] + stats["discarded"], text
    return text


def ways() -> list[str]:
    """The loops at hand."""
    return ["start", "watched", *(["gevent"] if importlib.util.find_spec("gevent") else [])]


def main() -> None:
    signals = int(sys.argv[1]) if len(sys.argv) > 1 else SIGNALS
    for way in sys.argv[2:] or ways():
        print("interrupts:", storm(way, signals), flush=True)


if __name__ == "__main__":
    main()
