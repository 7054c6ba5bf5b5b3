"""Benchmark of JetStream with nats_ev and nats-py: publish, fetch, consume, ordered consumer.

The clients take turns on the same server. Every run is a process of its own on a stream in memory. The
clock of a row runs from the first call to the last message or acknowledgement. Client CPU is the CPU time
of the client's process over the same span, server CPU that of the server's process. nats-py has no consume:
its row is its usual loop of fetch and ack.

    python bench/bench_js.py [--messages 100000] [--payload 100] [--runs 3]        # or: make bench-js
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
sys.path.insert(0, str(HERE.parent))

from lab.natsserver import NatsServer  # noqa: E402
from lab.process import run_whole  # noqa: E402

ROWS = {
    "publish": "publish async, 4000 unacknowledged",
    "fetch": "fetch 200 at a time, ack each",
    "consume": "consume, ack each",
    "ordered": "ordered consumer",
}
BATCH = 200
WINDOW = 4000
TICK = os.sysconf("SC_CLK_TCK")


class Clock:
    """Wall and CPU time of a span: `start`, then `stop`, which returns both in seconds."""

    def start(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def stop(self) -> dict[str, float]:
        return {"wall": time.perf_counter() - self.wall, "cpu": time.process_time() - self.cpu}


# nats_ev.


def run_nats_ev(row: str, port: int, count: int, payload: bytes) -> dict[str, float]:
    """Make one run of a row with nats_ev; return its wall and CPU time."""
    from nats_ev import JetStream, Nats, pyev

    loop = pyev.Loop()
    nats = Nats(host="127.0.0.1", port=port, loop=loop, on_connect=lambda: loop.stop())
    loop.start()
    js = JetStream(nats, timeout=30_000, max_ack_pending=WINDOW, stall_wait=0)
    clock = Clock()
    seen = 0

    def check(result: Any, err: Any) -> None:
        if err is not None:
            raise SystemExit(f"failed: {err!r}")

    def publish() -> None:
        nonlocal seen
        sent = 0

        def acked(ack: Any, err: Any) -> None:
            nonlocal seen
            check(ack, err)
            seen += 1
            if seen == count:
                loop.stop()
            elif sent < count and js.publish_async_pending() <= WINDOW // 2:
                more()

        def more() -> None:
            nonlocal sent
            while sent < count:
                sent += 1
                if not js.publish_async("bench.js", payload, acked):
                    return

        more()

    def fetch() -> None:
        nonlocal seen

        def fetched(messages: Any, err: Any) -> None:
            nonlocal seen
            check(messages, err)
            for msg in messages:
                msg.ack()
            seen += len(messages)
            if seen < count:
                js.fetch("BENCH", "c", {"batch": BATCH}, fetched)
            else:
                nats.flush(lambda err: loop.stop())

        js.fetch("BENCH", "c", {"batch": BATCH}, fetched)

    def consume() -> None:
        def arrived(msg: Any, err: Any) -> None:
            nonlocal seen
            if err is not None:
                check(msg, err)
            msg.ack()
            seen += 1
            if seen == count:
                nats.flush(lambda err: loop.stop())

        js.consume("BENCH", "c", arrived)

    def ordered() -> None:
        def arrived(msg: Any, err: Any) -> None:
            nonlocal seen
            if err is not None:
                check(msg, err)
            seen += 1
            if seen == count:
                loop.stop()

        js.ordered_consumer("BENCH", arrived)

    rows: dict[str, Callable[[], None]] = {
        "publish": publish, "fetch": fetch, "consume": consume, "ordered": ordered,
    }  # fmt: skip
    clock.start()
    rows[row]()
    loop.start()
    result = clock.stop()
    nats.disconnect()
    if seen != count:
        raise SystemExit(f"{seen} messages, not {count}")
    return result


# nats-py.


async def run_nats_py(row: str, port: int, count: int, payload: bytes) -> dict[str, float]:
    """Make one run of a row with nats-py; return its wall and CPU time."""
    import nats

    nc = await nats.connect(f"nats://127.0.0.1:{port}", pending_size=64 * 1024 * 1024)
    js = nc.jetstream(timeout=30, publish_async_max_pending=WINDOW)
    clock = Clock()
    seen = 0
    clock.start()
    if row == "publish":
        futures = []
        for _ in range(count):
            futures.append(await js.publish_async("bench.js", payload, wait_stall=30))
        for future in futures:
            await future
            seen += 1
    elif row in ("fetch", "consume"):
        sub = await js.pull_subscribe_bind("c", "BENCH")
        while seen < count:
            messages = await sub.fetch(BATCH, timeout=5)
            for msg in messages:
                await msg.ack()
            seen += len(messages)
        await nc.flush()
    else:
        done = asyncio.get_running_loop().create_future()

        async def arrived(msg: Any) -> None:
            nonlocal seen
            seen += 1
            if seen == count:
                done.set_result(None)

        await js.subscribe(
            "bench.js", stream="BENCH", ordered_consumer=True, cb=arrived,
            pending_msgs_limit=-1, pending_bytes_limit=-1,
        )  # fmt: skip
        await done
    result = clock.stop()
    await nc.close()
    if seen != count:
        raise SystemExit(f"{seen} messages, not {count}")
    return result


# One run, and all runs.


def prepare(port: int, row: str, count: int, payload: bytes) -> None:
    """Create the stream and its consumer again, and fill the stream for the rows that read."""
    from nats_ev import JetStream, Nats, pyev

    loop = pyev.Loop()
    nats = Nats(host="127.0.0.1", port=port, loop=loop)
    js = JetStream(nats, timeout=30_000, stall_wait=0)

    def do(method: Any, *args: Any) -> Any:
        answers: list[Any] = []
        method(*args, lambda *answer: (answers.append(answer), loop.stop()))
        while not answers:
            loop.start()
        return answers[0]

    do(js.stream_delete, "BENCH")
    config = {"name": "BENCH", "subjects": ["bench.js"], "storage": "memory"}
    for method, *args in (
        (js.stream_create, config),
        (
            js.consumer_create,
            "BENCH",
            {"durable_name": "c", "ack_policy": "explicit", "max_ack_pending": 100_000},
        ),
    ):
        _, err = do(method, *args)
        if err is not None:
            raise SystemExit(f"failed: {err!r}")
    if row != "publish":
        for _ in range(count):
            js.publish_async("bench.js", payload, lambda ack, err: None)
        do(js.publish_complete)
    nats.disconnect()


def server_cpu(pid: int) -> float:
    """Return the seconds of CPU that the server has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def measure(args: argparse.Namespace) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Run all rows with both clients; return the results by row and client."""
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    with NatsServer(jetstream=True) as server:
        for row in args.rows:
            for client in ["nats_ev", "nats-py"] * args.runs:
                count = args.messages if client == "nats_ev" else args.messages // args.slower
                prepare(server.port, row, count, b"x" * args.payload)
                command = [
                    sys.executable, __file__, "--one", client, row, str(server.port), str(count),
                    str(args.payload),
                ]  # fmt: skip
                before = server_cpu(server.pid)
                run = run_whole(command, 600)
                if run.returncode:
                    raise SystemExit(f"{client} {row}: {run.stderr}{run.stdout}")
                result = json.loads(run.stdout)
                result["server"] = server_cpu(server.pid) - before
                result["count"] = count
                results.setdefault(row, {}).setdefault(client, []).append(result)
    return results


def report(results: dict[str, dict[str, list[dict[str, float]]]]) -> None:
    """Print the table of medians."""
    print("| row | client | messages/s | client CPU µs/msg | server core | faster | less CPU |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for row, clients in results.items():
        base: tuple[float, float] | None = None
        for client in ("nats-py", "nats_ev"):
            runs = clients[client]
            wall = statistics.median(r["wall"] / r["count"] for r in runs)
            cpu = statistics.median(r["cpu"] / r["count"] for r in runs)
            share = statistics.median(r["server"] / r["wall"] for r in runs)
            if base is None:
                base, times = (wall, cpu), "| |"
            else:
                times = f"{base[0] / wall:.1f} | {base[1] / cpu:.1f} |"
            print(
                f"| {ROWS[row]} | {client} | {1 / wall:,.0f} | {cpu * 1e6:.2f} | {share:.0%} | {times}"
            )


def print_run(client: str, row: str, port: str, count: str, size: str) -> None:
    """Make one run and print its result as JSON."""
    payload = b"x" * int(size)
    if client == "nats_ev":
        result = run_nats_ev(row, int(port), int(count), payload)
    else:
        result = asyncio.run(run_nats_py(row, int(port), int(count), payload))
    print(json.dumps(result))


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print_run(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument(
        "--slower", type=int, default=4, help="nats-py gets --messages divided by this number"
    )
    parser.add_argument("--payload", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    args = parser.parse_args()
    results = measure(args)
    print(
        f"nats_ev {metadata.version('nats_ev')}, nats-py {metadata.version('nats-py')}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"{args.payload} B, median of {args.runs}\n"
    )
    report(results)


if __name__ == "__main__":
    main()
