"""One run of one row with nats_ev. `benchmark.py` starts it, and explains rows and arguments.

python client_nats_ev.py ROW HOST PORT MESSAGES PAYLOAD WINDOW CHECKED
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from nats_ev import Nats, pyev

SUBJECT = "bench.subject"
Message = tuple[str, bytes, str | None, bytes | None]


class Client:
    """The rows as methods; each returns when the server or the subscriber has everything."""

    def __init__(self, host: str, port: int) -> None:
        self.loop = pyev.default_loop()
        self.nats = Nats(
            host=host,
            port=port,
            on_error=fail,
            on_connect=self.loop.stop,
            tls_ca_file=os.environ.get("BENCH_TLS_CA"),
        )
        self.loop.start()

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


def fail(error: object) -> None:
    raise SystemExit(f"nats_ev: {error}")


def main(row: str, host: str, port: str, count: str, size: str, window: str, checked: str) -> None:
    client = Client(host, int(port))
    run: Callable[[int, bytes, int], None] = getattr(client, row)
    messages, payload = int(count), b"x" * int(size)
    run(max(1, messages // 10), payload, int(window))  # warm-up
    cpu, start = time.process_time_ns(), time.perf_counter_ns()
    run(messages, payload, int(window))
    elapsed, cpu = time.perf_counter_ns() - start, time.process_time_ns() - cpu
    numbered = [(b"%0*d" % (int(size), i))[-int(size) :] for i in range(int(checked))]
    wrong = (client.check_requests if row == "request" else client.check_messages)(numbered)
    print(json.dumps({"ns": elapsed, "cpu_ns": cpu, "wrong": wrong}))
    client.nats.disconnect()


if __name__ == "__main__":
    main(*sys.argv[1:])
