"""One run of one row with nats_ev. `benchmark.py` starts it, and explains rows and arguments.

python client_nats_ev.py ROW HOST PORT MESSAGES PAYLOAD WINDOW CHECKED [NUMBER]
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from itertools import cycle, islice
from typing import Any

from js_nats_ev import JetStreamRows

from nats_ev import Headers, Nats, pyev

SUBJECT = "bench.subject"
# The program has no such row: `full.py` leaves the row out.
NO_ROW = 64
# These rows count what exists after one run, or read what has been stored once: nothing warms up.
COLD = {"subscriptions", "connections"}
STORED = ("js_", "kv_", "object_")
Message = tuple[str, bytes, str | None, bytes | None]


class Client(JetStreamRows):
    """The rows as methods; each returns when the server or the subscriber has everything."""

    def __init__(self, host: str, port: int, number: int = 1) -> None:
        self.loop = pyev.default_loop()
        self.host, self.port, self.number = host, port, number
        self.extra: dict[str, int] = {}
        self.nats = self.connect(self.loop.stop)
        self.loop.start()

    def connect(self, connected: Callable[[], object]) -> Nats:
        """Return a client that calls connected when its connection is there."""
        ca_file = os.environ.get("BENCH_TLS_CA")
        masked = {"Nats-No-Masking": "false"} if "BENCH_MASKED" in os.environ else None
        return Nats(
            servers=os.environ.get("BENCH_URL", f"nats://{self.host}:{self.port}"),
            on_error=fail,
            on_connect=connected,
            tls_ca_file=ca_file,
            ws_compression="BENCH_COMPRESSED" in os.environ,
            ws_headers=masked,
        )

    def pub(self, count: int, payload: bytes, window: int) -> None:
        """Publish count messages, then flush and wait for the server's confirmation."""
        publish = self.nats.publish
        for _ in range(count):
            publish(SUBJECT, payload)
        self.flush()

    def flush(self) -> None:
        """Wait until the server has processed everything that was published."""

        def done(error: Exception | None) -> None:
            if error is not None:
                fail(error)
            self.loop.stop()

        self.nats.flush(done)
        self.loop.start()

    def pubsub(self, count: int, payload: bytes, window: int) -> None:
        """Publish to a subscription of this connection; at most window messages are on the way."""
        publish = self.nats.publish
        received = sent = 0

        def message(subject: str, payload: bytes, reply: str | None, headers: Any) -> None:
            nonlocal received
            received += 1
            if received == mark:
                reached()

        def send(portion: int) -> None:
            nonlocal sent, mark
            portion = min(portion, count - sent)
            for _ in range(portion):
                publish(SUBJECT, payload)
            sent += portion
            mark = count if sent == count else sent - window // 2

        def reached() -> None:
            if received == count:
                self.loop.stop()
            else:
                send(window // 2)

        mark = 0
        sid = self.nats.subscribe(SUBJECT, message)
        send(window)
        self.loop.start()
        self.nats.unsubscribe(sid)

    def request(self, count: int, payload: bytes, window: int) -> None:
        """Send requests to a responder on this connection, window of them in flight."""
        nats = self.nats
        request, publish = nats.request, nats.publish
        sent = received = 0

        def respond(subject: str, payload: bytes, reply: str, headers: Any) -> None:
            publish(reply, payload)

        def answer(response: bytes | None, error: Exception | None, headers: Any) -> None:
            nonlocal sent, received
            if error is not None:
                fail(error)
            received += 1
            if sent < count:
                sent += 1
                request(SUBJECT, payload, answer, 10_000)
            elif received == count:
                self.loop.stop()

        sid = nats.subscribe(SUBJECT, respond)
        while sent < min(window, count):
            sent += 1
            request(SUBJECT, payload, answer, 10_000)
        self.loop.start()
        nats.unsubscribe(sid)

    def sub(self, count: int, payload: bytes, window: int) -> None:
        """Receive count messages that `feeder.py`, another process, publishes when asked."""
        received = 0

        def message(subject: str, payload: bytes, reply: str | None, headers: Any) -> None:
            nonlocal received
            received += 1
            if received == count:
                self.loop.stop()

        sid = self.nats.subscribe(SUBJECT, message)
        self.nats.publish("bench.feed", b"%d %d" % (count, len(payload)))
        self.loop.start()
        self.nats.unsubscribe(sid)

    def subjects(self, count: int, payload: bytes, window: int) -> None:
        """Publish to `number` subjects in turn; one subscription with a wildcard receives all."""
        publish = self.nats.publish
        names = cycle([f"bench.many.{i}" for i in range(self.number)])

        def send(portion: int) -> None:
            for subject in islice(names, portion):
                publish(subject, payload)

        self.windowed("bench.many.*", count, window, send)

    def windowed(
        self,
        pattern: str,
        count: int,
        window: int,
        send: Callable[[int], None],
        use: Callable[[Any], object] | None = None,
    ) -> None:
        """Receive count messages; send(portion) publishes the next ones, window are on the way."""
        received = sent = mark = 0

        def message(subject: str, payload: bytes, reply: str | None, headers: Any) -> None:
            nonlocal received
            if use is not None:
                use(headers)
            received += 1
            if received == mark:
                if received == count:
                    self.loop.stop()
                else:
                    more(window // 2)

        def more(portion: int) -> None:
            nonlocal sent, mark
            portion = min(portion, count - sent)
            send(portion)
            sent += portion
            mark = count if sent == count else sent - window // 2

        sid = self.nats.subscribe(pattern, message)
        more(window)
        self.loop.start()
        self.nats.unsubscribe(sid)

    def raw_headers(self, count: int, payload: bytes, window: int) -> None:
        """Publish with a raw block of `number` headers; the callback gets the raw block."""
        hpublish, block = self.nats.hpublish, raw_block(self.number)

        def send(portion: int) -> None:
            for _ in range(portion):
                hpublish(SUBJECT, block, payload)

        self.windowed(SUBJECT, count, window, send)

    def headers(self, count: int, payload: bytes, window: int) -> None:
        """Publish with a mapping of `number` headers; the callback parses what arrives."""
        hpublish, mapping = self.nats.hpublish, header_mapping(self.number)

        def send(portion: int) -> None:
            for _ in range(portion):
                hpublish(SUBJECT, mapping, payload)

        self.windowed(SUBJECT, count, window, send, Headers.parse)

    def serial(self, count: int, payload: bytes, window: int) -> None:
        """Send one request after the other; note the time that each one took."""
        nats, now, took, begun = self.nats, time.perf_counter_ns, [], 0

        def ask() -> None:
            nonlocal begun
            begun = now()
            nats.request(SUBJECT, payload, answer, 10_000)

        def answer(response: bytes | None, error: Exception | None, headers: Any) -> None:
            took.append(now() - begun)
            if error is not None:
                fail(error)
            if len(took) < count:
                ask()
            else:
                self.loop.stop()

        sid = nats.subscribe(SUBJECT, lambda _s, payload, reply, _h: nats.publish(reply, payload))
        ask()
        self.loop.start()
        nats.unsubscribe(sid)
        self.extra = percentiles(took)

    def subscriptions(self, count: int, payload: bytes, window: int) -> None:
        """Subscribe to count subjects; the server has confirmed all of them."""
        before = resident()

        def message(subject: str, payload: bytes, reply: str | None, headers: Any) -> None:
            pass

        for i in range(count):
            self.nats.subscribe(f"bench.sub.{i}", message)
        self.flush()
        self.extra = {"bytes": max(0, resident() - before)}

    def connections(self, count: int, payload: bytes, window: int) -> None:
        """Open count connections at once; all handshakes are over."""
        before, open_now = resident(), 0

        def connected() -> None:
            nonlocal open_now
            open_now += 1
            if open_now == count:
                self.loop.stop()

        self.others = [self.connect(connected) for _ in range(count)]
        self.loop.start()
        self.extra = {"bytes": max(0, resident() - before)}

    def check(self, row: str, payloads: list[bytes]) -> int:
        """Send numbered payloads the way that the row does; return how many came back wrong."""
        if row.startswith(STORED):
            return self.check_stored(row)
        if row in ("request", "serial"):
            return self.check_requests(payloads)
        if row == "subjects":
            return self.check_subjects(payloads)
        if row in ("headers", "raw_headers"):
            return self.check_headers(row, payloads)
        return self.check_messages(payloads)

    def check_subjects(self, payloads: list[bytes]) -> int:
        """Publish to `number` subjects in turn; return how many messages came back wrong."""
        got: list[Message] = []
        sid = self.nats.subscribe("bench.many.*", lambda *message: got.append(message))
        sent = [(f"bench.many.{i % self.number}", data) for i, data in enumerate(payloads)]
        for subject, payload in sent:
            self.nats.publish(subject, payload)
        self.flush()
        self.nats.unsubscribe(sid)
        return differences(got, [(subject, payload, None, None) for subject, payload in sent])

    def check_headers(self, row: str, payloads: list[bytes]) -> int:
        """Publish with headers; return how many messages came back with other ones."""
        mapping, block = header_mapping(self.number), raw_block(self.number)
        got: list[Any] = []

        def message(subject: str, payload: bytes, reply: str | None, headers: bytes) -> None:
            parsed = Headers.parse(headers)
            found = headers if row == "raw_headers" else {name: parsed[name] for name in mapping}
            got.append((subject, payload, reply, found))

        sid = self.nats.subscribe(SUBJECT, message)
        sent = block if row == "raw_headers" else mapping
        for payload in payloads:
            self.nats.hpublish(SUBJECT, sent, payload)
        self.flush()
        self.nats.unsubscribe(sid)
        return differences(got, [(SUBJECT, payload, None, sent) for payload in payloads])

    def check_messages(self, payloads: list[bytes]) -> int:
        """Publish payloads to a subscription of this connection; return how many came back wrong."""
        got: list[Message] = []
        sid = self.nats.subscribe(SUBJECT, lambda *message: got.append(message))
        for payload in payloads:
            self.nats.publish(SUBJECT, payload)
        self.flush()
        self.nats.unsubscribe(sid)
        return differences(got, [(SUBJECT, payload, None, None) for payload in payloads])

    def check_requests(self, payloads: list[bytes]) -> int:
        """Send each payload as a request to an echo; return how many answers were wrong."""
        nats = self.nats
        got: list[bytes | None] = []
        sid = nats.subscribe(SUBJECT, lambda _s, payload, reply, _h: nats.publish(reply, payload))
        for payload in payloads:
            nats.request(SUBJECT, payload, lambda answer, _e, _h: got.append(answer), 10_000)
        while len(got) < len(payloads):
            self.loop.start(pyev.EVRUN_ONCE)
        nats.unsubscribe(sid)
        return differences(got, payloads)


def differences(got: list[Any], expected: list[Any]) -> int:
    """Return in how many places the two lists differ."""
    wrong = sum(a != b for a, b in zip(got, expected, strict=False))
    return wrong + abs(len(got) - len(expected))


def header_mapping(number: int) -> dict[str, str]:
    """Return the headers of a message, as all clients send them."""
    return {f"X-Header-{i}": f"value-{i}" for i in range(number)}


def raw_block(number: int) -> bytes:
    """Return the same headers as a block of the wire."""
    lines = [f"{name}: {value}" for name, value in header_mapping(number).items()]
    return "\r\n".join(["NATS/1.0", *lines, "", ""]).encode()


def percentiles(took: list[int]) -> dict[str, int]:
    """Return the median and the 99th percentile."""
    took.sort()
    return {"p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100]}


def resident() -> int:
    """Return the resident memory in bytes; 0 where /proc is missing."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def in_kernel() -> int:
    """Return the ns that the kernel has worked for this process."""
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_stime * 1e9)


def fail(error: object) -> None:
    raise SystemExit(f"nats_ev: {error}")


def main(
    row: str,
    host: str,
    port: str,
    count: str,
    size: str,
    window: str,
    checked: str,
    number: str = "1",
) -> None:
    client = Client(host, int(port), int(number))
    run: Callable[[int, bytes, int], None] | None = getattr(client, row, None)
    if run is None:
        raise SystemExit(NO_ROW)
    messages, payload = int(count), b"x" * int(size)
    if row.startswith(STORED):
        client.ready(payload, messages)
    elif row not in COLD:
        run(max(1, messages // 10), payload, int(window))  # warm-up
    kernel = in_kernel()
    cpu, start = time.process_time_ns(), time.perf_counter_ns()
    run(messages, payload, int(window))
    elapsed, cpu = time.perf_counter_ns() - start, time.process_time_ns() - cpu
    client.extra["kernel_ns"] = in_kernel() - kernel
    numbered = [(b"%0*d" % (int(size), i))[-int(size) :] for i in range(int(checked))]
    wrong = client.check(row, numbered)
    print(json.dumps({"ns": elapsed, "cpu_ns": cpu, "wrong": wrong} | client.extra))
    client.nats.disconnect()


if __name__ == "__main__":
    main(*sys.argv[1:])
