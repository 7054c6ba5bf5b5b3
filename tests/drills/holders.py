"""A lock and an election under all that can happen to a holder: never two at a time, as a fence sees it.

`python -m drills.holders [count]`; `make handovers` runs it, too. Processes (`drills.holder`) stand for one
name in a bucket of three replicas, each behind proxies of its own. In turn the holder releases, is killed
(SIGKILL), is stopped (SIGSTOP) beyond its lease, or is cut off; or the bucket's stream gets another leader
while it is held, by a step-down or because the server of the leader is killed. Then the time until another
process holds is taken.

The fence is a file to which a holder appends its token, over and over: the kernel puts all these accesses in
one order. A fence refuses a token that is smaller than one before. A process that is stopped between its look
at the clock and the access would be refused here, once for each such stop at most; anything more is a fault.
"""

from __future__ import annotations

import contextlib
import os
import random
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from lab.natsserver import Cluster
from lab.paths import ROOT
from lab.process import die_with_us
from nats_ev import blocking
from nats_ev.testing import CuttingProxy

PROCESSES = 4
LEASE = 2.0  # seconds
WITHIN = 60.0  # on a busy machine, too


class Process:
    """One `drills.holder`, and its ways to the servers."""

    def __init__(self, kind: str, name: str, path: str, ports: list[int]) -> None:
        self.proxies = [CuttingProxy(port) for port in ports]
        urls = [proxy.url for proxy in self.proxies]
        command = [sys.executable, "-m", "drills.holder"]
        self.popen = subprocess.Popen(
            [*command, kind, BUCKET, name, str(LEASE * 1000), path, *urls],
            env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            preexec_fn=die_with_us,
        )
        self.held = 0
        self.rest = ""  # of its output: the beginning of a line

    def command(self, text: str) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(text.encode() + b"\n")

    def stall(self) -> None:
        for proxy in self.proxies:
            proxy.stall()

    def resume(self) -> None:
        for proxy in self.proxies:
            proxy.resume()
            proxy.cut(reset=True)

    def end(self) -> None:
        self.popen.kill()
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            assert pipe is not None
            pipe.close()
        for proxy in self.proxies:
            proxy.close()


BUCKET = "drill"


class Drill:
    """The processes of one name, the fence, and the times of the hand-overs by what has led to them."""

    def __init__(self, kind: str, cluster: Any, path: str, seed: int) -> None:
        self.kind = kind
        self.times: dict[str, list[float]] = {}
        self._stopped: set[tuple[int, int]] = set()  # (process, token)
        self.refused = 0
        self.since = 0.0
        self.survived = 0
        self.lost = 0
        self._random = random.Random(seed)
        self._cluster = cluster
        self._path = path
        self._name = kind
        self._urls = [server.url for server in cluster]
        self._ports = [server.port for server in cluster]
        self._selector = selectors.DefaultSelector()
        self._processes: list[Process] = []
        self._tokens: list[int] = []
        for _ in range(PROCESSES):
            self._add()

    def _add(self) -> None:
        process = Process(self.kind, self._name, self._path, self._ports)
        self._processes.append(process)
        assert process.popen.stdout is not None
        self._selector.register(process.popen.stdout, selectors.EVENT_READ, process)

    def _remove(self, process: Process) -> None:
        assert process.popen.stdout is not None
        self._selector.unregister(process.popen.stdout)
        self._processes.remove(process)
        process.end()

    def _read(self, wait: float) -> None:
        for key, _ in self._selector.select(wait):
            process: Process = key.data
            data = os.read(key.fd, 65536)
            if not data:
                raise AssertionError(f"a process has ended: {process.popen.wait(5)}")
            *lines, process.rest = (process.rest + data.decode()).split("\n")
            for line in lines:
                word, what, *_ = line.split()
                if word == "held":
                    self._tokens.append(int(what))
                    process.held = int(what)
                    self.since = float(line.split()[-1])
                elif word in ("lost", "releases"):
                    self.lost += word == "lost"
                    process.held = 0
                elif word == "error":
                    raise AssertionError(line)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + WITHIN
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {WITHIN:g} s: {what}")
            self._read(0.02)
        return found

    def holder(self, after: int = 0) -> Process:
        """Wait for a process that holds with a token above a number."""

        def newest() -> Process | None:
            each = max(self._processes, key=lambda process: process.held)
            return each if each.held > after else None

        found: Process = self.until(newest, f"a holder after token {after}")
        return found

    # What happens to a holder.

    def round(self, what: str) -> None:
        """Wait for a holder, do this to it, and take the time until another one holds."""
        process = self.holder()
        self._wait(self._random.uniform(0.0, 0.4))
        token = self.holder().held
        if process.held != token:  # lost meanwhile: the newest one then
            process = self.holder()
            token = process.held
        began = time.monotonic()
        heal = getattr(self, f"_{what}")(process)
        if what in ("step_down", "kill_server"):
            # The lease survives that, or is lost and passes on. Then the holder releases.
            self._wait(LEASE)
            after = self.holder()
            self.survived += after.held == token
            process, token = after, after.held
            began = time.monotonic()
            process.command("release")
        process.held = 0
        self.holder(token)
        self.times.setdefault(what, []).append(self.since - began)
        if heal is not None:
            heal()

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._read(left)

    def _release(self, process: Process) -> None:
        process.command("release")

    def _kill(self, process: Process) -> None:
        self._remove(process)
        self._add()

    def _stop(self, process: Process) -> Callable[[], None]:
        process.popen.send_signal(signal.SIGSTOP)
        self._stopped.add((process.popen.pid, process.held))

        def go_on() -> None:
            self._wait(self._random.uniform(0.0, 0.5))
            process.popen.send_signal(signal.SIGCONT)

        return go_on

    def _cut_off(self, process: Process) -> Callable[[], None]:
        process.stall()

        def heal() -> None:
            self._wait(self._random.uniform(0.0, 0.5))
            process.resume()

        return heal

    def _step_down(self, process: Process) -> None:
        with contextlib.suppress(Exception), blocking.connect(self._urls) as nc:
            nc.request(f"$JS.API.STREAM.LEADER.STEPDOWN.KV_{BUCKET}", b"", 2000)

    def _kill_server(self, process: Process) -> Callable[[], None]:
        with blocking.connect(self._urls) as nc:
            info = nc.jetstream().stream_info(f"KV_{BUCKET}")
        leader = info["cluster"].get("leader")
        server = next((each for each in self._cluster if each.name == leader), self._cluster[0])
        server.kill()

        def start() -> None:
            server.start()
            self._cluster.wait_until_ready()

        return start

    # The fence.

    def check(self) -> int:
        """Return how many accesses a fence has to refuse. Raises AssertionError for what can't be."""
        assert self._tokens == sorted(set(self._tokens)), "a token that does not grow"
        highest = accesses = 0
        refused: list[tuple[int, int]] = []
        for line in Path(self._path).read_text().splitlines():
            token, pid = map(int, line.split())
            if token < highest:
                refused.append((pid, token))
            highest = max(highest, token)
            accesses += 1
        assert accesses
        assert len(set(refused)) == len(refused), f"a stale token more than once: {refused}"
        assert self._stopped.issuperset(refused), f"stale without a stop: {refused}"
        return len(refused)

    def explain(self) -> None:
        """Let the processes write what they know to standard error."""
        with contextlib.suppress(Exception), blocking.connect(self._urls) as nc:
            js = nc.jetstream()
            print(js.stream_info(f"KV_{BUCKET}"), file=sys.stderr, flush=True)
            print(js.key_value(BUCKET).get_many(None), file=sys.stderr, flush=True)
        with contextlib.suppress(AssertionError, OSError):  # of a process that has ended
            for process in self._processes:
                process.command("state")
            self._wait(1.0)

    def close(self) -> None:
        for process in list(self._processes):
            self._remove(process)
        self._selector.close()


# How often each of these happens, of ten.
ROUNDS = [
    "release", "kill", "stop", "cut_off", "release", "kill", "stop", "step_down", "cut_off", "kill_server",
]  # fmt: skip


def run(cluster: Any, kind: str, rounds: list[str], seed: int = 0) -> Drill:
    """Let these things happen, one after the other; returns the drill, whose fence has been checked.

    cluster: a `Cluster`, or a list with one server, which can't have another leader.
    """
    with blocking.connect([server.url for server in cluster]) as nc:
        kv = nc.jetstream().key_value(BUCKET)
        kv.create_bucket({"limit_marker_ttl": timedelta(seconds=1), "replicas": len(cluster)})
    with tempfile.NamedTemporaryFile() as file:
        drill = Drill(kind, cluster, file.name, seed)
        try:
            for number, what in enumerate(rounds):
                try:
                    drill.round(what)
                except AssertionError as exc:
                    drill.explain()
                    raise AssertionError(f"round {number}, {what}: {exc}") from exc
            drill._wait(0.3)
            drill.refused = drill.check()
        finally:
            drill.close()
    return drill


def shown(drill: Drill) -> str:
    lines = []
    for what, times in sorted(drill.times.items()):
        middle = sorted(times)[len(times) // 2]
        lines.append(
            f"  after {what:<11} {len(times):>3} times: median {middle:.2f} s, longest {max(times):.2f} s"
        )
    return "\n".join(lines)


def report(count: int, seed: int | None = None) -> None:
    """Run the whole drill, and print the times."""
    seed = random.randrange(1_000_000) if seed is None else seed
    with Cluster(3, jetstream=True) as cluster:
        for kind, rounds in (("lock", count), ("election", max(1, count // 4))):
            began = time.monotonic()
            plan = [ROUNDS[i % len(ROUNDS)] for i in range(rounds)]
            drill = run(cluster, kind, plan, seed)
            took = time.monotonic() - began
            print(
                f"{kind}: {rounds} hand-overs in {took:.0f} s, seed {seed}, never two holders; "
                f"{drill.refused} stale accesses refused by the fence; a lease of {LEASE:g} s survived "
                f"{drill.survived} changes of the stream's leader, was lost {drill.lost} times\n"
                f"{shown(drill)}",
                flush=True,
            )


if __name__ == "__main__":
    report(int(sys.argv[1]) if len(sys.argv) > 1 else 200, *map(int, sys.argv[2:3]))
