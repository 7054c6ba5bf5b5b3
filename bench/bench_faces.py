"""Benchmark of the faces: nats_ev on asyncio, uvloop, gevent and alone, and nats-py on the same loops.

Each run is a process of its own (`client_faces.py`), the clients take turns, the figures are medians. The
ratio says how many times as fast nats_ev is as nats-py on the same loop.

    python bench/bench_faces.py [--runs 5] [--messages 200000] [--requests 20000]
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from lab.natsserver import NatsServer  # noqa: E402
from lab.process import run_whole  # noqa: E402

CLIENTS = ["aio", "aio-uvloop", "nats-py", "nats-py-uvloop", "green", "blocking"]
AGAINST = {"aio": "nats-py", "aio-uvloop": "nats-py-uvloop"}
ROWS = {
    "pub": "PUB + flush, 100 B",
    "iterate": "PUB + SUB by an iterator, 100 B",
    "requests": "requests of 64 tasks",
    "serial": "requests one after the other",
}


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, and return 1 if a client has received something wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--requests", type=int, default=20_000)
    args = parser.parse_args(argv)
    results: dict[tuple[str, str], list[dict[str, float]]] = {}
    with NatsServer() as server:
        print(
            f"nats-server {'.'.join(map(str, server.version))}; Python {platform.python_version()}"
        )
        for number in range(args.runs):
            turn = number % len(CLIENTS)
            for row in ROWS:
                count = args.requests if row in ("requests", "serial") else args.messages
                for client in CLIENTS[turn:] + CLIENTS[:turn]:
                    if client == "blocking" and row == "requests":
                        continue  # it has no tasks
                    result = run_once(client, row, server.port, count)
                    results.setdefault((row, client), []).append(result)
    report(results)
    return int(any(run["wrong"] for runs in results.values() for run in runs))


def run_once(client: str, row: str, port: int, count: int) -> dict[str, float]:
    """Run one client once, and return its result."""
    command = [sys.executable, str(HERE / "client_faces.py"), client, row, str(port), str(count)]
    done = run_whole(command, 600, cwd=HERE)
    if done.returncode:
        raise SystemExit(f"{client}, {row}: {done.stderr.strip() or done.returncode}")
    result: dict[str, float] = json.loads(done.stdout)
    return {**result, "count": count}


def report(results: dict[tuple[str, str], list[dict[str, float]]]) -> None:
    """Print a table for each row: thousands per second, µs of CPU each, the ratio."""
    for row, title in ROWS.items():
        print(f"\n{title}")
        rates = {
            client: median(run["count"] / run["seconds"] for run in runs)
            for (kind, client), runs in results.items()
            if kind == row
        }
        for client in CLIENTS:
            if client not in rates:
                continue
            runs = results[row, client]
            cpu = median(run["cpu"] / run["count"] * 1e6 for run in runs)
            other = AGAINST.get(client)
            ratio = f"  {rates[client] / rates[other]:5.1f} times {other}" if other else ""
            print(f"  {client:15} {rates[client] / 1e3:9.1f} k/s {cpu:8.2f} µs{ratio}")


if __name__ == "__main__":
    sys.exit(main())
