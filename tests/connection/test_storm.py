"""Everything at once for a while: cuts, stalls, refusals, pauses, forced reconnects, under load.

What must hold afterwards: order, no doubles, exact accounting, each completion once, balanced events.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from lab.process import descriptors
from nats_ev import Nats, NatsError


class Storm:
    """A publisher and a subscriber, each behind a proxy of its own, and what happens to them."""

    def __init__(self, seed: int, loop: Any, client: Any, proxies: list[Any]) -> None:
        self.rng = random.Random(seed)
        self.proxies = proxies
        self.got: list[int] = []
        self.sent = self.asked = self.answered = 0
        options = {
            "reconnect": True, "reconnect_delay": 2, "max_reconnect_delay": 20,
            "max_reconnect_attempts": 0, "on_error": lambda error: None,
        }  # fmt: skip
        self.publisher: Nats = client(proxies[0], **options)
        self.subscriber: Nats = client(proxies[1], ping_interval=300, **options)
        self.sid = self.subscriber.subscribe("storm.seq", self.receive)
        self.subscriber.subscribe("storm.echo", self.echo)
        self.timers = [loop.timer(0.001, 0.001, self.work), loop.timer(0.05, 0.02, self.trouble)]

    def receive(self, subject: str, payload: bytes, reply: Any, headers: Any) -> None:
        self.got.append(int(payload))
        if self.rng.random() < 0.001:
            self.subscriber.pause(self.sid)
            self.subscriber.call_later(20 * self.rng.random(), self.subscriber.resume, self.sid)

    def echo(self, subject: str, payload: bytes, reply: Any, headers: Any) -> None:
        self.subscriber.publish(reply, payload)

    def count_answer(self, response: Any, error: Any, headers: Any) -> None:
        self.answered += 1

    def work(self, watcher: Any, revents: int) -> None:
        rng, publisher, subscriber = self.rng, self.publisher, self.subscriber
        for _ in range(rng.randrange(40)):
            try:
                publisher.publish("storm.seq", b"%d" % self.sent)
            except NatsError:
                break
            self.sent += 1
        if rng.random() < 0.3:
            publisher.request("storm.echo", b"x", self.count_answer, rng.choice([5, 50, 500]))
            self.asked += 1
        if rng.random() < 0.01:
            rng.choice([publisher, subscriber]).force_reconnect()
        if rng.random() < 0.02:
            subscriber.pause_reading()
            subscriber.call_later(30 * rng.random(), subscriber.resume_reading)

    def trouble(self, watcher: Any, revents: int) -> None:
        rng = self.rng
        proxy, what = rng.choice(self.proxies), rng.random()
        if what < 0.3:
            proxy.cut(reset=rng.random() < 0.5)
        elif what < 0.5:
            proxy.stall()
            self.publisher.call_later(30, proxy.resume)
        elif what < 0.6:
            proxy.refuse()
            self.publisher.call_later(20, proxy.accept)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_storm_of_connections_loses_no_count_and_no_order(seed, loop, client, proxy, server, run):
    proxies = [proxy(server.port), proxy(server.port)]
    storm = Storm(seed, loop, client, proxies)
    publisher, subscriber = storm.publisher, storm.subscriber
    over: list[int] = []
    run(lambda: publisher.is_connected() and subscriber.is_connected())
    for timer in storm.timers:
        timer.start()
    fds = descriptors()
    publisher.call_later(1500, over.append, 1)
    run(lambda: over)
    for timer in storm.timers:
        timer.stop()
    for between in proxies:
        between.resume()
        between.accept()
    subscriber.resume_reading()
    subscriber.resume(storm.sid)
    run(lambda: publisher.is_connected() and subscriber.is_connected())
    done: list[Any] = []

    def flush(error: Any = True) -> None:
        """Again after an error: a cut of before may still be on its way."""
        if error:
            publisher.flush(flush)
        else:
            subscriber.flush(done.append)

    flush()
    run(lambda: done and storm.answered == storm.asked)
    run(lambda: (subscriber.subscription_info(storm.sid) or {}).get("pending_msgs") == 0)
    assert done == [None]
    assert storm.got == sorted(set(storm.got))
    assert len(storm.got) > 1000
    stats = publisher.stats()
    assert stats["waiting"] == 0
    assert stats["accepted"] == stats["written"] + stats["discarded"] == storm.sent + storm.asked
    info = subscriber.subscription_info(storm.sid)
    assert info is not None
    assert info["delivered"] == len(storm.got)
    for nats in (publisher, subscriber):
        events = nats.recorder.events  # type: ignore[attr-defined]
        assert events.count("connect") == events.count("disconnect") + 1
        assert events.count("reconnect") == nats.stats()["reconnects"] > 3
    assert descriptors() <= fds + 2
