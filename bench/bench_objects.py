"""Benchmark of objects: put and get with nats_ev, nats-py and nats.js, by size and kind of storage.

The clients take turns on the same server, run by run. Every run is a process of its own; its clock runs over
all its objects, from the first call to the last answer. Both ends of a get compare the digest, and after the
clock has stopped the content is compared byte by byte. "batched" is a store with ``allow_batched``: parts go
in fast batches (ADR-50). nats.js comes from `--js`, a folder with its packages (``npm install``, or
``make peers``); its fast batches need @nats-io/obj 3.4.

    python bench/bench_objects.py [--sizes 1 64] [--runs 5] [--js .cache/js]       # or: make bench-objects
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
sys.path.insert(0, str(HERE.parent))

from lab.natsserver import NatsServer  # noqa: E402

MIB = 1 << 20
# More than a second of content per run of the small ones; nats-py takes seconds for a get of 64 MiB.
COUNTS = {1: 50, 64: 3}
SLOW = {("nats-py", "get"): 1}  # of larger objects than this, in MiB, one; of those above 100 none
TICK = os.sysconf("SC_CLK_TCK")


def content(size: int) -> bytes:
    """Return content of which no part is like another one."""
    block = b"".join(b"%08d" % number for number in range(size // 8 // 64 + 1))
    return (block * 64)[:size]


def run_nats_ev(row: str, port: int, bucket: str, data: bytes, count: int) -> dict[str, float]:
    """Make one run with nats_ev."""
    from nats_ev import JetStream, Nats, ObjectStore, pyev

    loop = pyev.Loop()
    nats = Nats(host="127.0.0.1", port=port, loop=loop, on_connect=lambda: loop.stop())
    loop.start()
    store = ObjectStore(JetStream(nats, timeout=60_000), bucket)

    def wait(method: Any, *args: Any) -> Any:
        answers: list[Any] = []

        def answer(result: Any, error: Any) -> None:
            if error is not None:
                raise SystemExit(f"failed: {error!r}")
            answers.append(result)
            loop.stop()

        method(*args, answer)
        loop.start()
        return answers[0]

    got: Any = None
    wall, cpu = time.perf_counter(), time.process_time()
    for number in range(count):
        got = None
        if row == "put":
            wait(store.put, f"new-{number}", data)
        else:
            got = wait(store.get, "blob")
    result = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    nats.disconnect()
    if row == "get" and got != data:
        raise SystemExit("another content")
    return result


async def run_nats_py(
    row: str, port: int, bucket: str, data: bytes, count: int
) -> dict[str, float]:
    """Make one run with nats-py."""
    import nats

    nc = await nats.connect(f"nats://127.0.0.1:{port}", pending_size=64 * MIB)
    store = await nc.jetstream(timeout=60).object_store(bucket)
    got: Any = None
    wall, cpu = time.perf_counter(), time.process_time()
    for number in range(count):
        got = None
        if row == "put":
            await store.put(f"new-{number}", data)
        else:
            got = (await store.get("blob")).data
    result = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    await nc.close()
    if row == "get" and got != data:
        raise SystemExit("another content")
    return result


def prepare(port: int, storage: str, data: bytes, row: str) -> None:
    """Create the stores again, one that takes batches; for gets with the object."""
    from nats_ev import blocking

    with blocking.connect(port=port) as nc:
        js = nc.jetstream(timeout=60_000)
        for bucket in ("plain", "batched"):
            store = js.object_store(bucket)
            if bucket in store.bucket_names(js):
                store.delete_bucket()
            store.create_bucket({"storage": storage, "allow_batched": bucket == "batched"})
            if row == "get":
                store.put("blob", data)


def server_cpu(pid: int) -> float:
    """Return the seconds of CPU that the server has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def one(client: str, *args: Any, data: bytes, js: Path) -> dict[str, float]:
    """Make one run in a process of its own."""
    if client == "nats.js":
        script = js / "objects_nats_js.mjs"
        shutil.copyfile(HERE / script.name, script)
        command = ["node", str(script)]
    else:
        command = [sys.executable, __file__, "--one", client]
    row, port, bucket, count = args
    command += [row, str(port), bucket, str(len(data)), str(count), str(int(bucket == "batched"))]
    done = subprocess.run(command, input=data, stdout=subprocess.PIPE, timeout=600, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def ways(row: str, js: Path) -> list[tuple[str, str]]:
    """Return clients with the store that each uses."""
    clients = [("nats_ev", "plain"), ("nats-py", "plain")]
    if (js / "node_modules").exists() and shutil.which("node"):
        clients.append(("nats.js", "plain"))
    if row == "put":
        clients.append(("nats_ev", "batched"))
        package = js / "node_modules/@nats-io/obj/package.json"
        if package.exists() and json.loads(package.read_text())["version"] >= "3.4":
            clients.append(("nats.js", "batched"))
    return clients


def measure(args: argparse.Namespace) -> None:
    """Run everything, and print a line of the table for each row and client."""
    print("| row | client | MiB/s | client CPU, ms/MiB | server CPU, ms/MiB |")
    print("|---|---|---:|---:|---:|")
    for size in args.sizes:
        data, count = content(size * MIB), COUNTS.get(size, 1)
        for storage in args.storages:
            for row in args.rows:
                runs: dict[tuple[str, str], list[dict[str, float]]] = {}
                with NatsServer(jetstream=True) as server:
                    for _ in range(args.runs):
                        for client, bucket in ways(row, args.js):
                            most = SLOW.get((client, row), size)
                            if size > max(most, 100):
                                continue
                            times = count if size <= most else 1
                            prepare(server.port, storage, data, row)
                            before = server_cpu(server.pid)
                            run = one(
                                client, row, server.port, bucket, times, data=data, js=args.js
                            )
                            run["mib"] = size * times
                            run["server"] = server_cpu(server.pid) - before
                            runs.setdefault((client, bucket), []).append(run)
                show(f"{row} {size} MiB, {storage}", runs)


def show(row: str, runs: dict[tuple[str, str], list[dict[str, float]]]) -> None:
    """Print medians, and of the speed the best run."""
    for (client, bucket), found in runs.items():
        speeds = [run["mib"] / run["wall"] for run in found]
        cpu, server = (
            statistics.median(run[key] / run["mib"] for run in found) * 1000
            for key in ("cpu", "server")
        )
        name = client if bucket == "plain" else f"{client}, batched"
        speed = f"{statistics.median(speeds):,.0f} (best {max(speeds):,.0f})"
        print(f"| {row} | {name} | {speed} | {cpu:.2f} | {server:.2f} |", flush=True)


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        client, row, port, bucket, size, count, _batched = sys.argv[2:]
        data = sys.stdin.buffer.read()
        assert len(data) == int(size)
        if client == "nats_ev":
            result = run_nats_ev(row, int(port), bucket, data, int(count))
        else:
            result = asyncio.run(run_nats_py(row, int(port), bucket, data, int(count)))
        print(json.dumps(result))
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="*", type=int, default=[1, 64], help="in MiB")
    parser.add_argument("--storages", nargs="*", default=["memory", "file"])
    parser.add_argument("--rows", nargs="*", default=["put", "get"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--js", type=Path, default=HERE.parent / ".cache/js")
    args = parser.parse_args()
    print(
        f"nats_ev {metadata.version('nats_ev')}, nats-py {metadata.version('nats-py')}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores, median of {args.runs}\n"
    )
    measure(args)


if __name__ == "__main__":
    main()
