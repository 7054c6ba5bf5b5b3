"""Benchmark of nats_ev, nats-py and, where Perl has it, EV::Nats: the same rows at the same time.

Every run is a process of its own. The clients take turns run by run, so that other work of the machine
slows all of them alike. Before the clock of a run starts, the client sends a tenth of the messages. After
the clock has stopped, the client sends numbered messages and compares what comes back: number, subjects,
payloads and order. With a private server the benchmark also reads from the server how many messages
and bytes went in and out. See README.md for what each row measures.

    python bench/benchmark.py            # or: make bench
    python bench/benchmark.py --help
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from lab.natsserver import NatsServer  # noqa: E402
from lab.process import run_whole  # noqa: E402

CHECKED = 2000
IN_FLIGHT = 64
# Limits of what is on the way to a subscriber on the same connection: well below the 64 MiB at which
# a server disconnects a slow consumer.
WINDOW_MESSAGES = 100_000
WINDOW_BYTES = 16 * 1024 * 1024


@dataclass
class Row:
    """A row of the benchmark: what each client does (its method `kind`), and with how many messages."""

    title: str
    kind: str
    messages: int
    payload: int
    results: dict[str, list[dict[str, int]]] = field(default_factory=dict)

    @property
    def window(self) -> int:
        """Return how many messages may be on the way at a time."""
        if self.kind == "request":
            return IN_FLIGHT
        return max(2, min(WINDOW_MESSAGES, WINDOW_BYTES // max(1, self.payload)))

    @property
    def checked(self) -> int:
        """Return how many numbered messages to compare afterwards: all are on the way at once."""
        return max(2, min(CHECKED, WINDOW_BYTES // max(1, self.payload)))

    @property
    def arguments(self) -> list[str]:
        """Return the arguments of a client's command line, without those for the server."""
        return [str(n) for n in (self.messages, self.payload, self.window, self.checked)]

    def expected(self, size: int) -> tuple[int, int, int, int]:
        """Return (messages in, bytes in, messages out, bytes out) that the server must count."""
        timed = self.messages + max(1, self.messages // 10)
        both = 2 if self.kind == "request" else 1
        sent = (timed + self.checked) * both
        received = self.checked if self.kind == "pub" else sent
        return sent, sent * size, received, received * size


@dataclass
class Client:
    """A program that makes one run of one row."""

    name: str
    version: str
    command: list[str]


def find_clients(perl: str) -> list[Client]:
    """Return the clients that can run here; name on stderr those that cannot."""
    clients = [
        Client("nats_ev", metadata.version("nats_ev"), [sys.executable, "client_nats_ev.py"])
    ]
    try:
        version = metadata.version("nats-py")
        clients.append(Client("nats-py", version, [sys.executable, "client_nats_py.py"]))
    except metadata.PackageNotFoundError:
        print("nats-py is not installed: pip install nats-py", file=sys.stderr)
    probe = [perl, "-MEV::Nats", "-e", "print $EV::Nats::VERSION"]
    with contextlib.suppress(OSError):
        found = subprocess.run(probe, capture_output=True, text=True)
        if found.returncode == 0:
            clients.append(Client("EV::Nats", found.stdout, [perl, "ev_nats.pl"]))
            return clients
    print("EV::Nats is not installed (README.md says how to get it)", file=sys.stderr)
    return clients


def run_once(client: Client, row: Row, host: str, port: int, **options: Any) -> dict[str, int]:
    """Run one client once, in a process of its own, and return its result."""
    command = [*client.command, row.kind, host, str(port), *row.arguments]
    done = run_whole(command, 600, cwd=HERE, **options)
    if done.returncode:
        raise SystemExit(f"{client.name}, {row.title}: {done.stderr.strip() or done.returncode}")
    result: dict[str, int] = json.loads(done.stdout)
    return result


def traffic(server: NatsServer) -> tuple[int, int, int, int]:
    """Return the counters of the server: messages in, bytes in, messages out, bytes out."""
    seen = server.monitor("varz")
    return seen["in_msgs"], seen["in_bytes"], seen["out_msgs"], seen["out_bytes"]


def measure(
    rows: list[Row], clients: list[Client], runs: int, host: str, port: int, server: Any
) -> None:
    """Fill in the results of the rows, client by client within each run."""
    for number in range(runs):
        for row in rows:
            # Another client comes first in each run: the first one finds the caches cold.
            turn = number % len(clients)
            for client in clients[turn:] + clients[:turn]:
                before = traffic(server) if server is not None else None
                result = run_once(client, row, host, port)
                if before is not None:
                    seen = tuple(b - a for a, b in zip(before, traffic(server), strict=True))
                    result["lost"] = int(seen != row.expected(row.payload))
                row.results.setdefault(client.name, []).append(result)
        print(f"\rrun {number + 1} of {runs}", end="", file=sys.stderr, flush=True)
    print("\r", end="", file=sys.stderr)


def spread(values: list[float], unit: float, digits: int) -> str:
    """Return the text "median (least … most)", in multiples of unit."""
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle / unit:.{digits}f} ({least / unit:.{digits}f} … {most / unit:.{digits}f})"


def report(rows: list[Row], clients: list[Client]) -> None:
    """Print the table of all rows and clients."""
    for row in rows:
        print(f"\n{row.title}: {row.messages} messages of {row.payload} bytes")
        ours = row.results[clients[0].name]
        for client in clients:
            results = row.results[client.name]
            rates = [row.messages / (r["ns"] / 1e9) for r in results]
            cpu = [r["cpu_ns"] / row.messages for r in results]
            megabytes = statistics.median(rates) * row.payload / 1e6
            print(
                f"  {client.name:9}{spread(rates, 1000, 0):>24} k msgs/s{megabytes:8.1f} MB/s"
                f"   CPU {spread(cpu, 1, 0):>18} ns/msg{ratio(ours, results)}{faults(row, results)}"
            )


def ratio(ours: list[dict[str, int]], theirs: list[dict[str, int]]) -> str:
    """Return the text that says how many times as fast nats_ev is, by the clock and by CPU time."""
    if theirs is ours:
        return ""
    clock, cpu = (
        statistics.median(r[key] for r in theirs) / statistics.median(r[key] for r in ours)
        for key in ("ns", "cpu_ns")
    )
    return f"   nats_ev: {clock:.2f}x, CPU {cpu:.2f}x"


def faults(row: Row, results: list[dict[str, int]]) -> str:
    """Return the text that says what the checks have found wrong."""
    wrong = sum(r["wrong"] for r in results)
    lost = sum(r.get("lost", 0) for r in results)
    found = f"   {wrong} of {row.checked * len(results)} messages came back wrong" if wrong else ""
    if lost:
        found += f"   the server's counts differ in {lost} of {len(results)} runs"
    return found


@contextlib.contextmanager
def target(args: argparse.Namespace) -> Iterator[tuple[str, int, NatsServer | None]]:
    """Yield (host, port, server); server is None unless it is a private one, which ends with the block."""
    if args.host or args.port:
        yield args.host or "127.0.0.1", args.port or 4222, None
        return
    with NatsServer() as server:
        yield server.host, server.port, server


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Return the command line's flags; the environment may set their defaults."""
    environ = os.environ.get
    parser = argparse.ArgumentParser(description="compare nats_ev and other clients; see README.md")
    parser.add_argument("--messages", type=int, default=int(environ("BENCH_MESSAGES", "200000")))
    parser.add_argument("--payload", type=int, default=int(environ("BENCH_PAYLOAD", "100")))
    parser.add_argument("--requests", type=int, help="default: a tenth of --messages")
    parser.add_argument("--runs", type=int, default=int(environ("BENCH_RUNS", "5")))
    parser.add_argument("--host", default=environ("BENCH_HOST"), help="default: a private server")
    parser.add_argument("--port", type=int, default=int(environ("BENCH_PORT", "0")))
    parser.add_argument("--clients", help="some of nats_ev,nats-py,EV::Nats")
    parser.add_argument("--perl", default="perl", help="the Perl that has EV::Nats")
    parser.add_argument("--json", type=Path, help="also write all results to this file")
    args = parser.parse_args(argv)
    args.requests = args.requests or max(1, args.messages // 10)
    for name in ("messages", "requests", "runs", "payload"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1")
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status: 1 if nats_ev has lost or mixed up a message."""
    args = parse_args(argv)
    clients = find_clients(args.perl)
    if args.clients:
        wanted = args.clients.split(",")
        clients = [client for client in clients if client.name in wanted]
    if not clients:
        raise SystemExit("none of these clients is installed")
    rows = [
        Row("PUB + flush", "pub", args.messages, args.payload),
        Row("PUB + SUB on one connection", "pubsub", args.messages, args.payload),
        Row("PUB + SUB on one connection", "pubsub", args.messages, 8),
        Row(f"REQ/REP, {IN_FLIGHT} in flight", "request", args.requests, args.payload),
    ]
    with target(args) as (host, port, server):
        where = f"{host}:{port}"
        if server is not None:
            where = "nats-server " + ".".join(map(str, server.version))
        names = ", ".join(f"{client.name} {client.version}" for client in clients)
        print(f"{names}; {where}; {platform.python_implementation()} {platform.python_version()};")
        print(f"{os.cpu_count()} CPUs; {args.runs} runs each: median (least … most)")
        measure(rows, clients, args.runs, host, port, server)
    report(rows, clients)
    if args.json is not None:
        args.json.write_text(json.dumps([vars(row) for row in rows], indent=1))
    ours = [result for row in rows for result in row.results.get("nats_ev", [])]
    return int(any(result["wrong"] or result.get("lost") for result in ours))


if __name__ == "__main__":
    sys.exit(main())
