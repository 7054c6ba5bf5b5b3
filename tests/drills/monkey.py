"""A client that does random things in random callbacks on a network that is cut at random.

`python -m drills.monkey [SEEDS [FIRST_SEED]]` (`make monkey`); a seed gives the same choices again, though
not the same timing. Whatever happens must keep to what the documentation promises: completions exactly
once, messages in order, none twice, none after unsubscribe or disconnect, none beyond max_msgs, the
accounting exact, connects and disconnects in turn, and a client that works when all is quiet again.
"""

from __future__ import annotations

import contextlib
import gc
import random
import sys
import tempfile
import time
import weakref
from pathlib import Path
from typing import Any

from lab.natsserver import NatsServer
from lab.steps import run_until
from nats_ev import (
    ConnectionDrainingError,
    NatsError,
    NotConnectedError,
    pyev,
)
from nats_ev import Nats as Client
from nats_ev.testing import CuttingProxy
from nats_ev.testing.certificates import Certificates, server_config

SUBJECTS = [f"monkey.{n}" for n in range(5)]
ACTIONS = 400
WITHIN = 20.0


class Boom(Exception):
    """Raised on purpose."""


class Sub:
    """What must be true of one subscription."""

    def __init__(self, monkey: Monkey, subject: str, queue: str | None, limit: int) -> None:
        self.monkey, self.subject, self.queue, self.limit = monkey, subject, queue, limit
        self.sid = 0
        self.last = -1
        self.count = 0
        self.over = False  # nothing may come any more
        self.allowed: int | None = None  # messages until the next ask; None: any number

    def message(self, subject: str, payload: bytes, reply: str | None, headers: Any) -> None:
        monkey = self.monkey
        assert not self.over, "a message after unsubscribe"
        assert not monkey.silent, "a message after disconnect"
        assert subject == self.subject, (subject, self.subject)
        name, number, rest = payload.split(b" ", 2)
        assert name == subject.encode()
        assert rest == filling(int(number))
        assert int(number) > self.last, f"{int(number)} after {self.last} on {subject}"
        self.last = int(number)
        self.count += 1
        assert not self.limit or self.count <= self.limit, "more than max_msgs"
        if self.allowed is not None:
            assert self.allowed > 0, "more than was asked for"
            self.allowed -= 1
        monkey.maybe(0.03)


def filling(number: int) -> bytes:
    """The rest of a payload."""
    return b"\r\nMSG x 1 1\r\n" * (number % 5)


class Monkey:
    """One run with one seed."""

    def __init__(self, seed: int, server: NatsServer, proxy: CuttingProxy, options: Any) -> None:
        self.random = random.Random(seed)
        self.loop = pyev.Loop()
        self.proxy = proxy
        self.actions = 0
        self.depth = 0
        self.silent = False  # between disconnect() and the next connect()
        self.subs: list[Sub] = []
        self.owed: dict[int, str] = {}  # completions that have not been called
        self.completions = 0
        self.requests: list[tuple[int, int]] = []  # (what is owed, the client's number)
        self.accepted = 0
        self.events: list[str] = []
        self.numbers = dict.fromkeys(SUBJECTS, 0)
        self.echoed = -1
        self.sent = 0
        self.raised: list[BaseException] = []
        self.log: list[str] = []
        self.over = False  # the run: nothing connects any more
        self.helper = Client(loop=self.loop, host=server.host, port=server.port, **options)
        self.helper.subscribe("monkey.echo", self._echo)
        self.helper.subscribe("monkey.sink", self._sink)
        self.nats = Client(
            loop=self.loop, host=proxy.host, port=proxy.port, reconnect=True, reconnect_delay=1,
            max_reconnect_delay=10, max_reconnect_attempts=0, no_responders=True,
            ping_interval=50, max_pings_outstanding=4, on_error=self._error,
            on_connect=lambda: self._event("connect"), on_disconnect=lambda: self._event("disconnect"),
            on_reconnect=lambda: self.maybe(0.3), on_slow_consumer=lambda size: self.maybe(0.3),
            slow_consumer_bytes=5000, **options,
        )  # fmt: skip
        self.feeder = self.loop.timer(0.001, 0.001, self._feed)
        self.chooser = self.loop.timer(0.002, 0.002, lambda watcher, revents: self.act())

    # What arrives.

    def _echo(self, subject: str, payload: bytes, reply: str | None, headers: Any) -> None:
        if reply is not None:
            self.helper.publish(reply, payload)
            if payload.endswith(b"7"):  # a second answer
                self.helper.publish(reply, b"second")

    def _sink(self, subject: str, payload: bytes, reply: Any, headers: Any) -> None:
        number = int(payload.split()[0])
        assert payload == b"%d " % number + filling(number)
        assert number > self.echoed, f"sink: {number} after {self.echoed}"
        self.echoed = number

    def _error(self, error: NatsError) -> None:
        assert not type(error).__name__.startswith("Protocol"), error
        self.maybe(0.2)

    def _event(self, name: str) -> None:
        self.log.append(f"-- {name}")
        assert self.events[-1:] != [name], f"{name} twice"
        assert self.events or name == "connect"
        self.events.append(name)
        self.maybe(0.3)

    def _feed(self, watcher: Any, revents: int) -> None:
        for _ in range(self.random.choice([1, 3, 20])):
            subject = self.random.choice(SUBJECTS)
            for _ in range(self.random.choice([1, 1, 4])):
                number = self.numbers[subject]
                self.numbers[subject] += 1
                self.helper.publish(
                    subject, b"%s %d %s" % (subject.encode(), number, filling(number))
                )

    # What is done.

    def maybe(self, chance: float) -> None:
        """In a callback: perhaps do something, or raise."""
        if self.random.random() < chance:
            self.act()
            if self.random.random() < 0.2:
                self.log.append("raise")
                raise Boom

    def act(self) -> None:
        """Do something at random."""
        if self.actions >= ACTIONS:
            return
        self.actions += 1
        name = self.random.choices(NAMES, WEIGHTS)[0]
        self.log.append(name)
        with contextlib.suppress(NotConnectedError, ConnectionDrainingError):
            getattr(self, f"do_{name}")()
        stats = self.nats.stats()
        waiting = stats["written"] + stats["waiting"] + stats["discarded"]
        assert stats["accepted"] == waiting == self.accepted, (stats, self.accepted)

    def owe(self, name: str) -> Any:
        """A completion that must be called once."""
        self.completions += 1
        number = self.completions

        def done(*args: Any) -> None:
            assert number in self.owed, f"{name} {number} twice"
            del self.owed[number]
            self.maybe(0.1)

        return number, done

    def take(self, name: str, call: Any, *args: Any) -> None:
        """Call something that takes a completion as its last argument and may refuse."""
        number, done = self.owe(name)
        self.owed[number] = name
        try:
            call(*args, done)
        except NatsError:
            del self.owed[number]
            raise

    def do_publish(self) -> None:
        for _ in range(self.random.choice([1, 1, 5, 50])):
            number = self.sent
            payload = b"%d " % number + filling(number)
            if self.random.random() < 0.3:
                self.nats.hpublish("monkey.sink", {"N": str(number)}, payload)
            else:
                self.nats.publish("monkey.sink", payload)
            self.sent += 1
            self.accepted += 1

    def do_batch(self) -> None:
        self.nats.batch(self.do_publish)

    def do_request(self) -> None:
        kind = self.random.choice(["echo", "echo", "echo", "silent", "nobody"])
        timeout = self.random.choice([0, 1, 5, 20, 5000]) if kind != "silent" else 20
        number, done = self.owe("request")
        payload = b"ask %d" % number

        def answered(response: Any, error: Any, headers: Any) -> None:
            assert (response == payload) if error is None else response is None, (response, payload)
            done()

        self.owed[number] = f"request {kind} {timeout}"
        try:
            asked = self.nats.request(f"monkey.{kind}", payload, answered, timeout)
        except NatsError:
            del self.owed[number]
            raise
        self.requests.append((number, asked))
        self.accepted += 1

    def do_cancel(self) -> None:
        for number, asked in self.random.sample(self.requests, min(3, len(self.requests))):
            self.nats.cancel_request(asked)
            self.owed.pop(number, None)  # a call from now on is one too many

    def do_call_threadsafe(self) -> None:
        self.take("call_threadsafe", self.nats.call_threadsafe)

    def do_unref(self) -> None:
        self.random.choice([self.nats.unref, self.nats.ref])()

    def do_flush(self) -> None:
        self.take("flush", self.nats.flush)

    def do_rtt(self) -> None:
        self.take("rtt", self.nats.rtt)

    def do_ping(self) -> None:
        self.nats.ping()

    def do_call_soon(self) -> None:
        self.take("call_soon", self.nats.call_soon)

    def do_subscribe(self) -> None:
        if len([sub for sub in self.subs if not sub.over]) > 12:
            self.do_unsubscribe()
            return
        limit = self.random.choice([0, 0, 0, 1, 5, 40])
        queue = self.random.choice([None, None, "q"])
        sub = Sub(self, self.random.choice(SUBJECTS), queue, limit)
        if limit:
            sub.sid = self.nats.subscribe_max(sub.subject, sub.message, limit, sub.queue)
        else:
            sub.sid = self.nats.subscribe(sub.subject, sub.message, sub.queue)
        self.subs.append(sub)

    def _some(self) -> Sub | None:
        subs = [sub for sub in self.subs if not sub.over]
        return self.random.choice(subs) if subs else None

    def do_unsubscribe(self) -> None:
        if sub := self._some():
            sub.over = True
            self.nats.unsubscribe(sub.sid)

    def do_unsubscribe_max(self) -> None:
        if (sub := self._some()) and not sub.limit:
            info = self.nats.subscription_info(sub.sid)
            if info is None or info["draining"]:
                return
            sub.limit = max(info["received"], sub.count + self.random.choice([-2, 0, 1, 10]), 1)
            self.nats.unsubscribe(sub.sid, sub.limit)

    def do_drain_subscription(self) -> None:
        if sub := self._some():
            number, done = self.owe("drain_subscription")

            def drained(error: Any) -> None:
                if error is None:
                    sub.over = True
                done()

            self.owed[number] = "drain_subscription"
            sub.allowed = None
            self.nats.drain_subscription(sub.sid, drained)

    def do_pause(self) -> None:
        if sub := self._some():
            self.nats.pause(sub.sid)
            sub.allowed = 0

    def do_resume(self) -> None:
        for sub in self.subs:
            if self.random.random() < 0.5:
                self.nats.resume(sub.sid)
                sub.allowed = None

    def do_ask(self) -> None:
        if sub := self._some():
            info = self.nats.subscription_info(sub.sid)
            more = self.random.choice([0, 1, 1, 3, 30])
            ends = info is None or info["draining"] or self.nats.status().value.startswith("DRAIN")
            sub.allowed = None if ends else (sub.allowed or 0) + more
            self.nats.ask(sub.sid, more)

    def do_pause_reading(self) -> None:
        self.nats.pause_reading()
        self.helper.call_later(3, self.nats.resume_reading)

    def do_force_reconnect(self) -> None:
        self.nats.force_reconnect()

    def do_cut(self) -> None:
        self.proxy.cut(reset=self.random.random() < 0.5)

    def do_stall(self) -> None:
        self.proxy.stall()
        self.helper.call_later(self.random.choice([2, 10, 400]), self.proxy.resume)

    def do_refuse(self) -> None:
        self.proxy.refuse()
        self.proxy.cut()
        self.helper.call_later(15, self.proxy.accept)

    def do_disconnect(self) -> None:
        self.nats.disconnect()
        self.silent = True
        if self.random.random() < 0.5:
            self._connect()
        else:
            self.helper.call_later(5, self._connect)

    def do_drain(self) -> None:
        self.take("drain", self.nats.drain)
        for sub in self.subs:
            sub.allowed = None
            if sub.limit == 0:
                sub.limit = 1 << 60  # it ends, one does not know when

    def do_nest(self) -> None:
        if self.depth < 3:
            self.depth += 1
            until = time.monotonic() + self.random.choice([0.0, 0.002, 0.01])
            try:
                self.until(lambda: time.monotonic() > until)
            finally:
                self.depth -= 1

    def do_collect(self) -> None:
        gc.collect()

    def _connect(self) -> None:
        if self.nats.status() in ("DISCONNECTED", "CLOSED") and not self.over:
            self.silent = False
            self.nats.connect(self.proxy.host, self.proxy.port)

    # The run.

    def until(self, condition: Any) -> None:
        """Run the loop until condition() is true."""
        run_until(self.loop, condition, WITHIN, lambda: (self.nats, self.owed))

    def play(self) -> None:
        """Random things, then quiet, then everything must work."""
        self.feeder.start()
        self.chooser.start()
        self.until(lambda: self.actions >= ACTIONS or self.raised)
        self.chooser.stop()
        self.feeder.stop()
        if self.raised:
            raise self.raised[0]
        self.proxy.resume()
        self.proxy.accept()
        self._resume_all()  # a drain may wait for that
        self.until(self._connected)
        self._settle()
        self.over = True
        self.nats.disconnect()
        self.until(lambda: self.events.count("connect") == self.events.count("disconnect"))
        self.loop.start(pyev.EVRUN_NOWAIT)
        assert not self.owed, self.owed
        self.helper.disconnect()
        deadline = time.monotonic() + WITHIN
        while self.loop.start(pyev.EVRUN_NOWAIT):
            assert time.monotonic() < deadline, "something keeps the loop running"
        fired: list[int] = []
        self.loop.timer(0.001, 0.0, lambda watcher, revents: fired.append(1)).start()
        self.loop.start()
        assert fired, "the loop counts too few watchers"
        if self.raised:
            raise self.raised[0]

    def _resume_all(self) -> None:
        for sub in self.subs:
            self.nats.resume(sub.sid)
            sub.allowed = None

    def _connected(self) -> bool:
        if self.raised:
            raise self.raised[0]
        self._connect()
        return self.nats.status() == "CONNECTED"

    def _settle(self) -> None:
        """Everybody who subscribes gets everything, and what was published has arrived."""
        self._resume_all()
        self.nats.resume_reading()
        done: list[Any] = []
        while done[-1:] != [None]:  # a cut may have been under way
            self.until(self._connected)
            done.clear()
            self.nats.flush(done.append)
            self.until(lambda: done or self.raised)
        counts = {sub: sub.count for sub in self.subs if self._endless(sub)}
        for subject in SUBJECTS:
            for _ in range(50):
                number = self.numbers[subject]
                self.numbers[subject] += 1
                self.helper.publish(
                    subject, b"%s %d %s" % (subject.encode(), number, filling(number))
                )
        self.do_publish()
        self.helper.flush(done.append)
        self.nats.flush(done.append)
        self.until(lambda: len(done) == 3 or self.raised)
        self.nats.flush(done.append)
        self.helper.flush(done.append)
        self.until(lambda: len(done) == 5 or self.raised)
        for sub, before in counts.items():
            assert sub.count == before + 50, (sub.subject, sub.count, before)
        assert self.echoed == self.sent - 1

    def _endless(self, sub: Sub) -> bool:
        info = self.nats.subscription_info(sub.sid)
        assert sub.over <= (info is None)
        return info is not None and not (info["max_msgs"] or info["draining"] or sub.queue)


CHOICES = {
    "publish": 12, "batch": 3, "request": 12, "flush": 6, "rtt": 2, "ping": 2, "call_soon": 2,
    "subscribe": 10, "unsubscribe": 4, "unsubscribe_max": 4, "drain_subscription": 3, "pause": 4,
    "resume": 5, "pause_reading": 1, "force_reconnect": 2, "cut": 3, "stall": 2, "refuse": 1,
    "disconnect": 2, "drain": 1, "nest": 4, "collect": 1, "cancel": 4, "call_threadsafe": 2, "unref": 2,
    "ask": 4,
}  # fmt: skip
NAMES, WEIGHTS = list(CHOICES), list(CHOICES.values())


def monkey(seed: int, server: NatsServer, **options: Any) -> Monkey:
    """Play one seed, with options of the clients; raises AssertionError with what had been done."""
    with CuttingProxy(server.port) as proxy:
        proxy.recording = False
        run = Monkey(seed, server, proxy, options)

        def hook(kind: type[BaseException], exc: BaseException, traceback: Any) -> None:
            if not isinstance(exc, Boom):
                run.raised.append(exc)

        before, sys.excepthook = sys.excepthook, hook
        try:
            run.play()
        except BaseException as exc:
            raise AssertionError(f"seed {seed}: {exc!r} after {run.log[-40:]}") from exc
        finally:
            sys.excepthook = before
            proxy.accept()
    return run


def collected(run: Monkey) -> None:
    """The client of a finished run is gone with it."""
    alive = weakref.ref(run.nats)
    run.__dict__.clear()
    gc.collect()
    assert alive() is None


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    start = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        NatsServer() as plain,
        NatsServer(
            config=server_config((certs := Certificates(Path(folder))).issue("s", "127.0.0.1"))
        ) as secure,
    ):
        tls = {"tls": True, "tls_ca_file": str(certs.ca.cert_file)}
        for seed in range(first, first + seeds):
            if seed % 2:
                collected(monkey(seed, plain))
            else:
                collected(monkey(seed, secure, **tls))
    print(
        f"monkey: {seeds} seeds of {ACTIONS} actions, every second one over TLS: no promise broken "
        f"({time.monotonic() - start:.0f} s)"
    )


if __name__ == "__main__":
    main()
