"""A tour of nats_ev on a private nats-server, which it starts and ends: `make demo`.

Shows each step as it happens. Exits with 1 when one of them fails or takes longer than STEP_LIMIT.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from natsserver import NatsServer

from nats_ev import Headers, Nats, NatsError, NoRespondersError, Status, pyev

STEP_LIMIT = 10.0  # seconds
Done = Callable[[str], None]
Step = Callable[[Nats, Done], None]

STEPS: list[Step] = []


def step(function: Step) -> Step:
    """Put a function on the tour; its docstring is the headline. It calls done(text) at its end."""
    STEPS.append(function)
    return function


def check(truth: Any, what: str) -> None:
    if not truth:
        raise SystemExit(f"FAILED: {what}")


@step
def publish_and_subscribe(nats: Nats, done: Done) -> None:
    """publish / subscribe with a wildcard"""

    def on_message(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
        nats.unsubscribe(sid)
        check((subject, payload) == ("tour.greeting", b"hello"), "the message that was published")
        done(f"{subject}: {payload!r}")

    sid = nats.subscribe("tour.*", on_message)
    nats.publish("tour.greeting", b"hello")


@step
def headers_arrive(nats: Nats, done: Done) -> None:
    """headers"""

    def on_message(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
        parsed = Headers.parse(headers)
        check(parsed["X-Trace"] == "42", "the header that was sent")
        done(f"{dict(parsed)} on {payload!r}")

    nats.subscribe_max("tour.headers", on_message, 1)
    nats.hpublish("tour.headers", {"X-Trace": "42"}, b"body")


@step
def request_and_reply(nats: Nats, done: Done) -> None:
    """request / reply"""

    def serve(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
        check(reply, "a request has a reply subject")
        nats.publish(str(reply), payload.upper())

    def answered(response: bytes | None, err: NatsError | None, headers: bytes | None) -> None:
        nats.unsubscribe(sid)
        check(err is None and response == b"PING", f"an answer instead of {err or response!r}")
        done(f"ping -> {response!r}")

    sid = nats.subscribe("tour.upper", serve)
    nats.request("tour.upper", b"ping", answered, 2000)


@step
def nobody_answers(nats: Nats, done: Done) -> None:
    """a request that nobody answers fails at once"""
    start = time.monotonic()

    def answered(response: bytes | None, err: NatsError | None, headers: bytes | None) -> None:
        check(isinstance(err, NoRespondersError), f"no responders, not {err!r}")
        done(f"{err} after {(time.monotonic() - start) * 1000:.1f} ms")

    nats.request("tour.nobody", b"?", answered, 5000)


@step
def queue_group_shares(nats: Nats, done: Done) -> None:
    """a queue group shares its messages"""
    counts = [0, 0]

    def worker(number: int) -> Any:
        def on_message(*message: object) -> None:
            counts[number] += 1
            if sum(counts) == 100:
                for sid in sids:
                    nats.unsubscribe(sid)
                check(min(counts) > 0, "both workers get some")
                done(f"100 jobs: {counts[0]} + {counts[1]}")

        return on_message

    sids = [nats.subscribe("tour.jobs", worker(n), "workers") for n in range(2)]
    nats.batch(lambda: [nats.publish("tour.jobs", str(i)) for i in range(100)])


@step
def many_messages(nats: Nats, done: Done) -> None:
    """200,000 messages there and back, written once per loop iteration"""
    count = 200_000
    start = time.monotonic()
    received = 0

    def on_message(*message: object) -> None:
        nonlocal received
        received += 1
        if received == count:
            took = time.monotonic() - start
            nats.unsubscribe(sid)
            done(f"{count / took:,.0f} messages/s")

    sid = nats.subscribe("tour.flood", on_message)
    payload = bytes(100)
    for _ in range(count):
        nats.publish("tour.flood", payload)


@step
def flush_is_a_fence(nats: Nats, done: Done) -> None:
    """flush: the server has processed everything"""

    def flushed(err: NatsError | None) -> None:
        check(err is None, f"a flush without {err!r}")
        done(f"{nats.stats()['written']:,} messages written so far")

    nats.publish("tour.last", b"before the fence")
    nats.flush(flushed)


@step
def server_restarts(nats: Nats, done: Done) -> None:
    """the server is killed and restarted: subscriptions and queued messages survive"""

    def on_message(subject: str, payload: bytes, *rest: object) -> None:
        check(payload == b"queued while the server was away", "the queued message")
        done("reconnected, subscription restored, message delivered")

    def status_changed(status: Status) -> None:
        if status is Status.RECONNECTING:
            nats.remove_status_listener(status_changed)
            nats.publish("tour.survivor", b"queued while the server was away")
            server.start()

    nats.subscribe_max("tour.survivor", on_message, 1)
    nats.add_status_listener(status_changed)
    nats.flush(lambda err: server.kill())


@step
def drain_ends_it(nats: Nats, done: Done) -> None:
    """drain: deliver what is in flight, then disconnect"""

    def drained(err: NatsError | None) -> None:
        check(err is None, f"a drain without {err!r}")
        done("drained; nothing is left that keeps the loop running")

    nats.drain(drained)


class Tour:
    """Runs the steps one after the other, each within its time."""

    def __init__(self) -> None:
        self._left = iter(STEPS)
        self._watchdog = pyev.default_loop().timer(STEP_LIMIT, STEP_LIMIT, self._too_slow)
        self.finished = False
        self.nats = Nats(
            host=server.host,
            port=server.port,
            name="tour",
            reconnect=True,
            reconnect_delay=50,
            no_responders=True,
            on_error=lambda err: print(f"      (on_error: {err})"),
        )
        self.nats.flush(lambda err: self._connected(err))
        self._watchdog.start()

    def _connected(self, err: NatsError | None) -> None:
        check(err is None, f"a connection, not {err!r}")
        print(f"  ok  connect: {self.nats.connected_url()}")
        self._next()

    def _next(self) -> None:
        self._watchdog.reset()
        current = next(self._left, None)
        if current is None:
            self.finished = True
            self._watchdog.stop()
            return

        def done(text: str) -> None:
            print(f"  ok  {current.__doc__}: {text}")
            self.nats.call_soon(self._next)

        current(self.nats, done)

    def _too_slow(self, watcher: Any, revents: int) -> None:
        raise SystemExit(f"FAILED: a step took longer than {STEP_LIMIT:.0f} s")


if __name__ == "__main__":
    with NatsServer(jetstream=True) as server:
        version = ".".join(map(str, server.version))
        print(
            f"nats-server {version} on {server.url}, libev {'.'.join(map(str, pyev.abi_version()))}"
        )
        loop = pyev.default_loop(debug=True)  # whatever a callback raises ends the tour
        tour = Tour()
        loop.start()
        check(tour.finished, "the loop ended before the tour did")
        print("all is well")
