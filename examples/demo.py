"""A tour of nats_ev on a private nats-server, which the program starts and ends: `make demo`.

The program shows each step as it happens. It exits with 1 when a step fails or takes longer than STEP_LIMIT.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from nats_ev import (
    KV,
    Headers,
    JetStream,
    Nats,
    NatsError,
    NoRespondersError,
    ObjectStore,
    Service,
    Status,
    pyev,
)
from nats_ev.extras import Lock
from nats_ev.testing import Server

STEP_LIMIT = 10.0  # seconds
Done = Callable[[str], None]
Step = Callable[[Nats, Done], None]

STEPS: list[Step] = []


def step(function: Step) -> Step:
    """Add a function to the tour: its docstring is the headline, and it calls done(text) at its end."""
    STEPS.append(function)
    return function


def check(truth: Any, what: str) -> None:
    """End the tour unless truth is true; what names the thing that was expected."""
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
def jetstream(nats: Nats, done: Done) -> None:
    """JetStream: publish with acknowledgement, fetch, acknowledge"""
    js = JetStream(nats)

    def created(stream: Any, err: NatsError | None) -> None:
        check(err is None, f"a stream, not {err!r}")
        for number in range(10):
            js.publish("orders.new", str(number), published)

    def published(ack: Any, err: NatsError | None) -> None:
        check(err is None, f"an acknowledgement, not {err!r}")
        if ack["seq"] == 10:
            js.consumer_create("ORDERS", {"durable_name": "tour", "ack_policy": "explicit"}, fetch)

    def fetch(consumer: Any, err: NatsError | None) -> None:
        check(err is None, f"a consumer, not {err!r}")
        js.fetch("ORDERS", "tour", {"batch": 10}, fetched)

    def fetched(messages: Any, err: NatsError | None) -> None:
        check(err is None, f"messages, not {err!r}")
        check([m.data for m in messages] == [b"%d" % n for n in range(10)], "all in order")
        for message in messages[:-1]:
            message.ack()
        messages[-1].ack_sync(lambda result, err: done("10 stored, fetched and acknowledged"))

    js.stream_create({"name": "ORDERS", "subjects": ["orders.*"]}, created)


@step
def key_value(nats: Nats, done: Done) -> None:
    """key-value: put, update by revision, watch"""
    kv = KV(JetStream(nats), "tour")
    seen: list[tuple[str, bytes]] = []
    watch: Any = None

    def created(result: Any, err: NatsError | None) -> None:
        nonlocal watch
        check(err is None, f"a bucket, not {err!r}")
        watch = kv.watch(">", changed)

    def changed(entry: Any, err: NatsError | None) -> None:
        check(err is None, f"a change, not {err!r}")
        if entry is None:  # the initial entries have all come
            kv.put("colour", b"red", put)
            return
        seen.append((entry.key, entry.value))
        if len(seen) == 2:
            watch.stop()
            done(" ".join(f"{key}={value.decode()}" for key, value in seen))

    def put(revision: Any, err: NatsError | None) -> None:
        check(err is None, f"a revision, not {err!r}")
        kv.update("colour", b"blue", revision, lambda result, err: check(err is None, str(err)))

    kv.create_bucket({"history": 5}, created)


@step
def objects(nats: Nats, done: Done) -> None:
    """object store: a megabyte in and out, its digest checked"""
    store = ObjectStore(JetStream(nats), "tour")
    data = bytes(range(256)) * 4096

    def created(result: Any, err: NatsError | None) -> None:
        check(err is None, f"a bucket, not {err!r}")
        store.put("big.bin", data, stored)

    def stored(info: Any, err: NatsError | None) -> None:
        check(err is None, f"an object, not {err!r}")
        store.get(
            "big.bin", lambda got, err: (check(got == data, "the object"), done(info["digest"]))
        )

    store.create_bucket({}, created)


@step
def service(nats: Nats, done: Done) -> None:
    """a service that can be discovered"""
    service = Service(nats, name="tour", version="1.0.0")
    service.add_endpoint("double", lambda request: request.respond(request.data * 2))

    def answered(response: bytes | None, err: NatsError | None, headers: bytes | None) -> None:
        check(response == b"abab", f"the service's answer, not {err or response!r}")
        nats.request("$SRV.INFO.tour", b"", discovered)

    def discovered(response: bytes | None, err: NatsError | None, headers: bytes | None) -> None:
        check(response is not None, str(err))
        endpoint = json.loads(response or b"{}")["endpoints"][0]
        done(f"endpoint {endpoint['name']!r} on subject {endpoint['subject']!r}")

    nats.flush(lambda err: nats.request("double", b"ab", answered))


@step
def lock_is_handed_over(nats: Nats, done: Done) -> None:
    """a lock: the next one has it as soon as the first one releases it"""
    if server.version < (2, 11):
        done("needs nats-server 2.11")
        return
    kv = KV(JetStream(nats), "tour-locks")
    first, second = Lock(kv, "printer"), Lock(kv, "printer")
    tokens: list[int] = []

    def created(result: Any, err: NatsError | None) -> None:
        check(err is None, f"a bucket, not {err!r}")
        first.acquire(lambda token, err: got(first, token, err))
        second.acquire(lambda token, err: got(second, token, err))

    def got(lock: Lock, token: int | None, err: NatsError | None) -> None:
        check(token is not None, f"the lock, not {err!r}")
        tokens.append(token or 0)
        lock.release(lambda result, err: check(err is None, str(err)))
        if lock is second:
            check(tokens[0] < tokens[1], "a token that grows")
            done("its token has grown")

    kv.create_bucket({"limit_marker_ttl": 60_000_000_000}, created)


@step
def over_websocket(nats: Nats, done: Done) -> None:
    """WebSocket: another client, through what lets only HTTP pass"""
    other = Nats(servers=[server.ws_url], name="tour over WebSocket")

    def answered(response: bytes | None, err: NatsError | None, headers: bytes | None) -> None:
        check(response == b"pong", f"the answer, not {err or response!r}")
        url = other.connected_url()
        other.drain(lambda err: done(f"connected to {url}"))

    nats.subscribe_max("tour.ping", lambda s, p, reply, h: nats.publish(reply, b"pong"), 1)
    nats.flush(lambda err: other.request("tour.ping", b"", answered))


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
    """A run of the steps, one after the other, each within STEP_LIMIT."""

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
    with Server(jetstream=True, websocket=True) as server:
        version = ".".join(map(str, server.version))
        print(
            f"nats-server {version} on {server.url}, libev {'.'.join(map(str, pyev.abi_version()))}"
        )
        loop = pyev.default_loop(debug=True)  # an exception in a callback ends the tour
        tour = Tour()
        loop.start()
        check(tour.finished, "the loop ended before the tour did")
        print("all is well")
