"""How long the server alone takes for the rows of JetStream and KV.

    python bench/floor.py [--runs 9] [ROW …]     # kv-get kv-put js-publish js-fetch js-consume js-ordered

A bare socket sends what the clients of these rows send, as far ahead as they do. The frames are made before
the clock starts, and what comes back is counted, not read. So this is what a client without any work of its
own takes on the same machine.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import statistics
import time
from collections.abc import Callable

from full import CONFIG
from names import BUCKET, CONSUMER, PUT_BUCKET, STREAM, SUBJECT
from rows import FullRow, table
from stored import Prepare

from lab.natsserver import NatsServer

_CONNECT = b'CONNECT {"verbose":false,"headers":true,"no_responders":true,"protocol":1}\r\n'
_ACK = re.compile(rb"\$JS\.ACK\.\S+")
# What a row's pull requests ask for, and how many messages may be left when the next one is sent.
PULLS = {"js-fetch": (200, 0), "js-consume": (500, 250), "js-ordered": (1000, 500)}


class Floor:
    """One connection and its counts."""

    def __init__(self, server: NatsServer) -> None:
        self.socket = socket.create_connection((server.host, server.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(_CONNECT + b"SUB _INBOX.x.* 1\r\n")
        self.flush()

    def flush(self) -> None:
        """Wait for a PONG; discard what comes before."""
        self.socket.sendall(b"PING\r\n")
        came = b""
        while b"PONG\r\n" not in came[-9:] + came:
            came = came[-9:] + self.socket.recv(1 << 18)

    def answers(self, frames: list[bytes], window: int, mark: bytes) -> None:
        """Send the frames, window of them ahead of their answers."""
        sent = got = 0
        tail = b""
        while got < len(frames):
            if (more := min(len(frames), got + window) - sent) > 0:
                self.socket.sendall(b"".join(frames[sent : sent + more]))
                sent += more
            came = tail + self.socket.recv(1 << 18)
            got += came.count(mark)
            tail = came[1 - len(mark) :]

    def pull(self, consumer: str, count: int, batch: int, left: int, acknowledge: bool) -> None:
        """Receive count messages of a consumer."""
        asked = got = 0
        tail = b""
        while got < count:
            if asked - got <= left:
                asked += (more := batch - (asked - got))
                body = json.dumps({"batch": more, "expires": 30 * 10**9}).encode()
                self.socket.sendall(publish(f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{consumer}", body))
            came = tail + self.socket.recv(1 << 18)
            end = came.rfind(b"\r\n") + 2
            replies, tail = _ACK.findall(came[:end]), came[end:]
            got += len(replies)
            if acknowledge:
                self.socket.sendall(b"".join([b"PUB %b 4\r\n+ACK\r\n" % one for one in replies]))
        self.flush()

    def ordered(self, count: int, batch: int, left: int) -> None:
        """Create a consumer as an ordered one is created, and receive count messages of it."""
        name = f"floor{time.monotonic_ns()}"
        config = {
            "name": name, "ack_policy": "none", "mem_storage": True, "inactive_threshold": 5 * 10**9
        }  # fmt: skip
        body = json.dumps({"stream_name": STREAM, "config": config, "action": "create"}).encode()
        self.socket.sendall(publish(f"$JS.API.CONSUMER.CREATE.{STREAM}.{name}", body))
        if b"error" in self.socket.recv(1 << 16):
            raise SystemExit("the consumer was not created")
        self.pull(name, count, batch, left, acknowledge=False)


def publish(subject: str, payload: bytes, number: int = 0) -> bytes:
    """Return the frame of a request."""
    return b"PUB %b _INBOX.x.%d %d\r\n%b\r\n" % (subject.encode(), number, len(payload), payload)


def measured(row: FullRow, floor: Floor) -> Callable[[], None]:
    """Return what the clock measures; all frames are made here."""
    count, payload = row.messages, b"x" * row.payload
    if row.key == "js-ordered":
        return lambda: floor.ordered(count, *PULLS[row.key])
    if row.key in PULLS:
        return lambda: floor.pull(CONSUMER, count, *PULLS[row.key], acknowledge=True)
    subject = f"$JS.API.DIRECT.GET.KV_{BUCKET}.$KV.{BUCKET}.k" if row.key == "kv-get" else SUBJECT
    subject = f"$KV.{PUT_BUCKET}.k" if row.key == "kv-put" else subject
    frames = []
    for i in range(count):
        name = f"{subject}{i % row.number}" if row.key.startswith("kv") else subject
        frames.append(publish(name, b"" if row.key == "kv-get" else payload, i))
    mark = b"HMSG _INBOX" if row.key == "kv-get" else b"MSG _INBOX"
    return lambda: floor.answers(frames, row.window, mark)


def main() -> None:
    """Measure, and print one line for each row."""
    parser = argparse.ArgumentParser(description="measure the server alone")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("rows", nargs="*", default=["kv-get", "kv-put", "js-publish", *PULLS])
    args = parser.parse_args()
    with NatsServer(config=CONFIG, jetstream=True) as server:
        prepared = Prepare(server.port)
        for row in table(1):
            if row.key not in args.rows:
                continue
            times = []
            for _ in range(args.runs):
                prepared.prepare(row.kind, row.messages, row.payload, row.number)
                run = measured(row, Floor(server))
                start = time.perf_counter()
                run()
                times.append((time.perf_counter() - start) / row.messages * 1e6)
            print(
                f"{row.key:12} {statistics.median(times):6.2f} µs ({min(times):.2f} … {max(times):.2f})"
            )
        prepared.close()


if __name__ == "__main__":
    main()
