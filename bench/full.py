"""The whole benchmark: every row of the table and the decades, for every client that is on this machine.

It writes the results as JSON and renews the generated part of docs/performance.md and its charts. The rows
are in `rows.py`, how they are shown in `page.py`; README.md says what each one measures.

    python bench/full.py [--runs 9] [--decade-runs 3]        # or: make bench-full
    python bench/full.py --only pub,request --runs 3 --json out.json --no-page
    python bench/full.py --from out.json                     # only the page, from earlier results
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import page
from benchmark import HERE, Client, find_clients, traffic
from rows import EV_NATS, FACES, LOOP_CLIENTS, NATS_PY, Decade, FullRow, decades, loops, table
from stored import Prepare

import nats_ev
from lab.natsserver import NatsServer
from lab.process import die_with_us, run_whole

NO_ROW = 64
DECADE_CLIENTS = ("nats_ev", NATS_PY, EV_NATS, "libnats")
CONFIG = "max_payload: 64MB\nmax_pending: 512MB\n"
DOCS = HERE.parent / "docs"


def all_clients(perl: str, folder: Path, other_pythons: list[str]) -> list[Client]:
    """Return the clients that can run here, nats_ev first."""
    clients = find_clients(perl)
    on_uvloop = ["env", "BENCH_UVLOOP=1", sys.executable, "client_nats_py.py"]
    for name, package, command in (
        ("nats-py uvloop", "uvloop", on_uvloop),
        ("natsrpy", "natsrpy", [sys.executable, "client_natsrpy.py"]),
    ):
        try:
            clients.append(Client(name, metadata.version(package), command))
        except metadata.PackageNotFoundError:
            print(f"{package} is not installed: pip install {package}", file=sys.stderr)
    for python in other_pythons:
        probe = "import platform, nats_ev; print(nats_ev.__version__, platform.python_version())"
        found = subprocess.run([python, "-c", probe], capture_output=True, text=True)
        if found.returncode:
            raise SystemExit(f"{python} can't import nats_ev: {found.stderr}")
        version, number = found.stdout.split()
        name = f"nats_ev on CPython {number}"
        clients.append(Client(name, version, [python, "client_nats_ev.py"]))
    for name, face in FACES.items():
        needs = {"uvloop": "uvloop", "green": "gevent"}.get(face)
        if needs is None or importlib.util.find_spec(needs) is not None:
            command = [sys.executable, "client_faces.py", face]
            clients.append(Client(name, nats_ev.__version__, command))
    if (libnats := compile_libnats(folder)) is not None:
        clients.append(libnats)
    return clients


def compile_libnats(folder: Path) -> Client | None:
    """Return the client for libnats; None, and a word on stderr, when libnats or a compiler is missing."""
    compiler = next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
    program = str(folder / "client_libnats")
    source = str(HERE / "client_libnats.c")
    if compiler is not None:
        made = subprocess.run(
            [compiler, "-O2", "-o", program, source, "-lnats", "-lpthread"], capture_output=True
        )
        if made.returncode == 0:
            version = subprocess.run([program, "version"], capture_output=True, text=True).stdout
            return Client("libnats", version.strip(), [program])
    print("libnats is not installed: Debian's libnats-dev has it", file=sys.stderr)
    return None


class Bench:
    """A server, a feeder and what stores the data; runs rows on them."""

    def __init__(self, clients: list[Client], timeout: float) -> None:
        self.clients, self.timeout = clients, timeout

    def __enter__(self) -> Bench:
        self.server = NatsServer(config=CONFIG, jetstream=True).start()
        self.prepared = Prepare(self.server.port)
        self.feeder = subprocess.Popen(
            [sys.executable, "feeder.py", self.server.host, str(self.server.port)],
            cwd=HERE,
            stdout=subprocess.PIPE,
            preexec_fn=die_with_us,
        )
        assert self.feeder.stdout is not None
        self.feeder.stdout.readline()
        return self

    def __exit__(self, *exc: object) -> None:
        self.feeder.kill()
        self.feeder.communicate()
        self.prepared.close()
        self.server.remove()

    def measure(
        self,
        rows: Sequence[FullRow],
        runs: int,
        wanted: Sequence[str] | None,
        keep: Callable[[], object],
    ) -> None:
        """Run all rows; the clients take turns, and another one comes first in each run.

        keep() is called after each run: a benchmark that is interrupted leaves what it has.
        """
        clients = [c for c in self.clients if wanted is None or c.name in wanted]
        for number in range(runs):
            turn = number % max(1, len(clients))
            for row in rows:
                for client in clients[turn:] + clients[:turn]:
                    if client.name not in row.failures:
                        self.run(row, client)
            keep()
            print(f"run {number + 1} of {runs}, {time.strftime('%X')}", file=sys.stderr, flush=True)

    def run(self, row: FullRow, client: Client) -> None:
        """Run one client once, and keep its result or why it has none."""
        count = row.count_for(client.name)
        if count < row.messages and not row.shared:
            row.failures[client.name] = f"not measured above {count:,}"
            return
        if row.stored:
            self.prepared.prepare(row.kind, row.messages, row.payload, row.number)
        before = traffic(self.server)
        command = [*client.command, row.kind, self.server.host, str(self.server.port)]
        try:
            done = run_whole([*command, *row.arguments_for(client.name)], self.timeout, cwd=HERE)
        except subprocess.TimeoutExpired:
            row.failures[client.name] = f"no end within {self.timeout:.0f} s"
            return
        if done.returncode:
            said = done.stderr.strip().splitlines()
            row.failures[client.name] = said[-1] if done.returncode != NO_ROW and said else ""
            return
        result: dict[str, int] = json.loads(done.stdout)
        result["count"] = count
        after = traffic(self.server)
        seen = (after[0] - before[0], after[2] - before[2])
        expected = row.traffic_for(client.name)
        result["lost"] = int(expected is not None and seen != expected)
        if row.stored:
            result["lost"] = int(self.prepared.lost(row.kind, count))
        row.results.setdefault(client.name, []).append(result)


def about(clients: list[Client], server: NatsServer, runs: int, decade_runs: int) -> dict[str, Any]:
    """Return what the page says about the machine and the versions."""
    built = str(sysconfig.get_config_var("CONFIG_ARGS"))
    flags = (("--enable-optimizations", "PGO"), ("--with-lto", "LTO"))
    optimised = [name for flag, name in flags if flag in built]
    return {
        "date": datetime.date.today().isoformat(),
        "clients": {client.name: client.version for client in clients},
        "server": ".".join(map(str, server.version)),
        "python": platform.python_version(),
        "python_build": " and ".join(optimised) or "neither PGO nor LTO",
        "machine": f"{os.cpu_count()} CPUs, {processor()}, {platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 1),
        "runs": runs,
        "decade_runs": decade_runs,
    }


def processor() -> str:
    """Return the processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown processor"


def as_json(row: FullRow) -> dict[str, Any]:
    """Return a row with its results."""
    return {name: value for name, value in vars(row).items() if name != "limits"}


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Return the command line's flags."""
    parser = argparse.ArgumentParser(description="measure every row for every client")
    parser.add_argument("--runs", type=int, default=9, help="of each row of the table")
    parser.add_argument("--decade-runs", type=int, default=3, help="of each point of the decades")
    parser.add_argument("--scale", type=float, default=1, help="multiplies the numbers of messages")
    parser.add_argument("--largest", type=int, default=1 << 30, help="last point of the decades")
    parser.add_argument("--only", help="keys of rows and decades, separated by commas")
    parser.add_argument("--clients", help="names, separated by commas; nats_ev must be one")
    parser.add_argument("--perl", default="perl", help="the Perl that has EV::Nats")
    parser.add_argument(
        "--other-python", action="append", help="another Python that has nats_ev; may be repeated"
    )
    parser.add_argument("--timeout", type=float, default=60, help="seconds for one run")
    parser.add_argument("--json", type=Path, help="default: docs/performance/results.json")
    parser.add_argument("--docs", type=Path, default=DOCS, help="the folder of performance.md")
    parser.add_argument("--no-page", action="store_true", help="print the table only")
    parser.add_argument("--from", dest="source", type=Path, help="the results of an earlier run")
    return parser.parse_args(argv)


def measure_all(args: argparse.Namespace) -> dict[str, Any]:
    """Run everything that the flags ask for; return the results."""
    only = args.only.split(",") if args.only else None
    rows = [row for row in table(args.scale) if only is None or row.key in only]
    others = [row for row in loops(args.scale) if only is None or row.key in only]
    curves = [d for d in decades(args.scale, args.largest) if only is None or d.key in only]
    points = [row for decade in curves for _, row in decade.points]
    begun = time.monotonic()
    facts: dict[str, Any] = {}

    def results() -> dict[str, Any]:
        facts["minutes"] = round((time.monotonic() - begun) / 60, 1)
        lines = [as_json(row) for row in rows]
        return {
            "about": facts,
            "table": lines,
            "loops": [as_json(row) for row in others],
            "decades": curves_json(curves),
        }

    def keep() -> None:
        store(args, results())

    with tempfile.TemporaryDirectory() as folder:
        clients = all_clients(args.perl, Path(folder), args.other_python or [])
        if args.clients:
            clients = [client for client in clients if client.name in args.clients.split(",")]
        with Bench(clients, args.timeout) as bench:
            facts |= about(clients, bench.server, args.runs, args.decade_runs)
            plain = [client.name for client in clients if client.name not in FACES]
            bench.measure(rows, args.runs, plain, keep)
            bench.measure(others, args.runs, LOOP_CLIENTS, keep)
            if args.decade_runs:
                bench.measure(points, args.decade_runs, DECADE_CLIENTS, keep)
    return results()


def store(args: argparse.Namespace, results: dict[str, Any]) -> None:
    """Write the results to the file that the flags name, if they want one."""
    path = args.json
    if path is None and not args.no_page:
        path = args.docs / "performance" / "results.json"
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(one_row_a_line(results))


def curves_json(curves: list[Decade]) -> list[dict[str, Any]]:
    """Return the decades with their results."""
    return [
        {
            "key": decade.key,
            "title": decade.title,
            "axis": decade.axis,
            "points": [as_json(row) | {"x": x} for x, row in decade.points],
        }
        for decade in curves
    ]


def one_row_a_line(results: dict[str, Any]) -> str:
    """Return the results as JSON whose differences can be read."""
    text = json.dumps(results, ensure_ascii=False)
    return text.replace('{"title": ', '\n{"title": ').replace('{"key": ', '\n{"key": ') + "\n"


def faults(results: dict[str, Any]) -> list[str]:
    """Return what nats_ev has done wrong: failed rows, and messages that differed or were lost."""
    points = [point for decade in results["decades"] for point in decade["points"]]
    found = []
    for row in [*results["table"], *results["loops"], *points]:
        for client in ("nats_ev", *FACES):
            if why := row["failures"].get(client):
                found.append(f"{client}, {row['title']}: {why}")
            for result in row["results"].get(client, []):
                if result["wrong"] or result["lost"]:
                    found.append(f"{client}, {row['title']}: messages came back wrong or were lost")
    return found


def main(argv: list[str] | None = None) -> int:
    """Measure, write the results and the page; return 1 if nats_ev has made a mistake."""
    args = parse_args(argv)
    results = json.loads(args.source.read_text()) if args.source else measure_all(args)
    store(args, results)
    if args.no_page:
        print(page.summary(results))
    else:
        page.write(results, args.docs)
    wrong = faults(results)
    for line in wrong:
        print(line, file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
