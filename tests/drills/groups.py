"""Members of a consumer group come, go and are killed under load: nothing is lost, each key keeps its order.

`python -m drills.groups [seconds] [rate] [elastic|static] [seconds between events]`, or `make groups`:
processes consume 12 partitions on a private server. Each writes what it handles, with the time, into a file
before it acknowledges. At the end the files show, key by key: what was lost, what came out of order, and what
was handled twice. Twice is right only for what a killed process had handled.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from lab.natsserver import NatsServer
from lab.paths import TESTS
from lab.process import die_with_us
from nats_ev import JetStream, JsMsg, Nats, pyev
from nats_ev.extras import ConsumerGroups, GroupMember
from nats_ev.testing import run_until

PARTITIONS = 12
KEYS = 200
NAMES = [f"m{number}" for number in range(6)]
ACK_WAIT = 5_000_000_000  # ns; a process that gets no CPU for so long is one that was killed
FINISH_WITHIN = 120.0  # seconds


def consume(url: str, kind: str, member: str, path: str) -> None:
    """Be one member, until SIGTERM; what was handled goes to the file."""
    loop = pyev.default_loop()
    nats = Nats(loop=loop, servers=[url], reconnect=True)
    groups = ConsumerGroups(JetStream(nats))
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def take(msg: JsMsg | None, error: Any) -> None:
        if msg is None:
            print(f"{member} has ended: {error!r}", file=sys.stderr)
            nats.disconnect()
            return
        key = msg.subject.partition(".")[2]
        os.write(out, f"{time.monotonic_ns()} {key} {msg.data.decode()} {msg.seq}\n".encode())
        msg.ack()

    join = groups.elastic_consume if kind == "elastic" else groups.static_consume

    def survived(error: Any) -> None:
        print(f"{time.monotonic_ns()} {os.path.basename(path)}: {error!r}", flush=True)

    config: Any = {"ack_wait": ACK_WAIT}
    handle: GroupMember = join("S", "g", member, config, take, on_error=survived)

    def leave(watcher: Any, events: int) -> None:
        watcher.stop()
        handle.drain(lambda result, err: nats.drain())

    stop = loop.signal(signal.SIGTERM, leave)
    stop.start()
    loop.start()


class Handled(NamedTuple):
    """That a process has handled a message."""

    when: int
    number: int
    seq: int
    process: str


class Process:
    """A member's process, and its file."""

    def __init__(self, url: str, kind: str, member: str, path: Path) -> None:
        self.member = member
        self.path = path
        self.killed = 0  # when, in ns
        self._process = subprocess.Popen(
            [sys.executable, "-m", "drills.groups", "member", url, kind, member, str(path)],
            env={**os.environ, "PYTHONPATH": str(TESTS)},
            preexec_fn=die_with_us,
        )

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self.killed = time.monotonic_ns()

    def leave(self) -> None:
        self._process.terminate()

    def end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Drill:
    """The load, the events, and what the files say at the end."""

    def __init__(self, server: NatsServer, kind: str, folder: Path, seed: int) -> None:
        self.kind = kind
        self._url, self._folder = server.url, folder
        self._random = random.Random(seed)
        self._loop = pyev.Loop()
        self._nats = Nats(loop=self._loop, servers=[self._url])
        self._js = JetStream(self._nats, timeout=60_000, stall_wait=120_000)
        self._groups = ConsumerGroups(self._js)
        self._alive: list[Process] = []
        self.all: list[Process] = []
        self._members: set[str] = set()
        self._due: list[tuple[float, Any]] = []
        self.sent: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self._failed: list[Any] = []
        self.slowest = (
            0.0,
            0,
        )  # the longest time in s until the server had stored a message, and when

    def _call(self, method: Any, *args: Any, **options: Any) -> Any:
        answers: list[Any] = []
        method(*args, **options, cb=lambda result, err: answers.append((result, err)))
        run_until(self._loop, lambda: answers, 30_000)
        result, err = answers[0]
        assert err is None, err
        return result

    def set_up(self) -> None:
        run_until(self._loop, self._nats.is_connected, 30_000)
        transform = {
            "src": "w.*",
            "dest": f"{{{{Partition({PARTITIONS},1)}}}}.w.{{{{Wildcard(1)}}}}",
        }
        config: Any = {"name": "S", "subjects": ["w.*"], "storage": "memory"}
        if self.kind == "elastic":
            self._call(self._js.stream_create, config)
            filters: Any = [{"filter": "w.*", "partitioning_wildcards": [1]}]
            self._call(
                self._groups.create_elastic, "S", "g", PARTITIONS, partitioning_filters=filters
            )
        else:
            config |= {"subject_transform": transform, "retention": "workqueue"}
            self._call(self._js.stream_create, config)
            self._call(self._groups.create_static, "S", "g", PARTITIONS, members=NAMES)
            self._members = set(NAMES)

    def start(self, member: str) -> None:
        path = self._folder / f"{len(self.all)}-{member}"
        process = Process(self._url, self.kind, member, path)
        self._alive.append(process)
        self.all.append(process)

    def join(self, member: str) -> None:
        self.start(member)
        self._call(self._groups.add_members, "S", "g", [member])
        self._members.add(member)
        self.events["joined"] += 1

    def _leave(self) -> None:
        """A member leaves; its processes end when they have handed over."""
        member = self._random.choice(sorted(self._members))
        self._members.remove(member)
        self._call(self._groups.delete_members, "S", "g", [member])
        leaving = [each for each in self._alive if each.member == member]
        self._alive = [each for each in self._alive if each.member != member]
        for each in leaving:
            self._later(4, each.leave)
        self.events["left"] += 1

    def _later(self, seconds: float, act: Any) -> None:
        self._due.append((time.monotonic() + seconds, act))

    def event(self) -> None:
        """Let something happen to the members."""
        if not self._alive:
            return
        victim = self._random.choice(self._alive)
        choices = ["kill", "kill", "stand by", "stop", "step down"]
        if self.kind == "elastic":
            choices += ["join", "join", "leave", "leave"]
        what = self._random.choice(choices)
        outside = [each for each in NAMES if each not in self._members]
        if what == "join" and outside:
            self.join(self._random.choice(outside))
        elif what == "leave" and len(self._members) > 1:
            self._leave()
        elif what == "stand by" and len(self._alive) < 10:
            self.start(victim.member)
            self.events["stood by"] += 1
        elif what == "step down":
            step = getattr(self._groups, f"{self.kind}_member_step_down")
            step("S", "g", victim.member, lambda result, err: None)
            self.events["stepped down"] += 1
        elif what in ("kill", "stop"):
            self._alive.remove(victim)
            victim.kill() if what == "kill" else victim.leave()
            self.events["killed" if what == "kill" else "stopped"] += 1
            if not any(each.member == victim.member for each in self._alive):
                self._later(self._random.uniform(0, 3), lambda: self._again(victim.member))

    def _again(self, member: str) -> None:
        if member in self._members and not any(each.member == member for each in self._alive):
            self.start(member)

    def load(self, seconds: float, rate: float, every: float) -> None:
        """Publish, while something happens every few seconds."""
        began = time.monotonic()
        count, next_event = 0, began + every
        while (now := time.monotonic()) < began + seconds:
            for _ in range(int((now - began) * rate) - count):
                key = f"k{self._random.randrange(KEYS)}"
                self.sent[key] += 1
                count += 1
                stored = partial(self._stored, now)
                self._js.publish_async(f"w.{key}", str(self.sent[key]), stored)
            run_until(self._loop, lambda end=now + 0.01: time.monotonic() >= end, 30_000)
            for due in [each for each in self._due if each[0] <= now]:
                self._due.remove(due)
                due[1]()
            if now >= next_event and now < began + seconds - 2 * every:
                next_event = now + self._random.uniform(0.5, 1.5) * every
                self.event()
            assert not self._failed, self._failed[0]
            assert not any(each.ended for each in self._alive), "a process has ended by itself"
        self._call(self._js.publish_complete)

    def _stored(self, sent: float, ack: Any, error: Any) -> None:
        slow = time.monotonic() - sent
        if slow > self.slowest[0]:
            self.slowest = slow, time.monotonic_ns()
        if error is not None:
            self._failed.append(error)

    def finish(self) -> None:
        """Wait until all is handled."""
        for member in sorted(self._members):
            self._again(member)
        stream = "S-g" if self.kind == "elastic" else "S"
        total, deadline = self.sent.total(), time.monotonic() + FINISH_WITHIN
        while time.monotonic() < deadline:
            left = self._call(self._js.stream_info, stream)["state"]["messages"]
            handled = sum(path.read_bytes().count(b"\n") for path in self._paths())
            if not left and handled >= total:
                break
            end = time.monotonic() + 0.3
            run_until(self._loop, lambda end=end: time.monotonic() >= end, 30_000)
        self.close()

    def close(self) -> None:
        for each in self._alive:
            each.end()
        for each in self.all:
            each.end()
        self._nats.disconnect()

    def _paths(self) -> list[Path]:
        return [each.path for each in self.all if each.path.exists()]

    def verdict(self) -> dict[str, int]:
        """Say what was lost, out of order, and handled twice (with and without a kill that explains it)."""
        handled: dict[str, list[Handled]] = {key: [] for key in self.sent}
        killed = {each.path.name: each.killed for each in self.all}
        for path in self._paths():
            for line in path.read_bytes().split(b"\n")[:-1]:
                when, key, number, seq = line.split()
                found_one = Handled(int(when), int(number), int(seq), path.name)
                handled[key.decode()].append(found_one)
        found: Counter[str] = Counter(sent=self.sent.total())
        for key, events in handled.items():
            events.sort()
            first: dict[int, Handled] = {}
            most = 0
            for each in events:
                found["handled"] += 1
                if each.number in first:
                    before = first[each.number]
                    explained = killed[before.process]
                    found["twice after a kill" if explained else "twice"] += 1
                    if not explained and found["twice"] <= 5:
                        print(f"{key}: {before}, then {each}", flush=True)
                    if explained:
                        first[each.number] = each
                    continue
                if each.seq < most:
                    found["out of order"] += 1
                    if found["out of order"] <= 3:
                        print(f"{key}: after sequence {most} {each}", flush=True)
                first[each.number] = each
                most = max(most, each.seq)
            found["lost"] += self.sent[key] - len(first)
        return dict(found)


def run(
    seconds: float,
    rate: float,
    kind: str,
    every: float = 3.0,
    seed: int | None = None,
    strict: bool = True,
) -> dict[str, int]:
    """Run the drill on a private server; return what happened.

    strict: nothing may be handled twice but after a kill, which takes a machine that is not starved.
    """
    seed = random.randrange(1 << 30) if seed is None else seed
    with NatsServer(jetstream=True) as server, tempfile.TemporaryDirectory() as folder:
        drill = Drill(server, kind, Path(folder), seed)
        drill.set_up()
        try:
            for member in NAMES if kind == "static" else NAMES[:2]:
                drill.start(member) if kind == "static" else drill.join(member)
            drill.load(seconds, rate, every)
            drill.finish()
        finally:
            drill.close()
        found = drill.verdict()
        slowest, when = drill.slowest
        print(f"{kind}, seed {seed}: {found}; {dict(drill.events)}", flush=True)
        print(f"the server has stored a message within {slowest:.2f} s (at {when})", flush=True)
    for wrong in ("lost", "out of order", "twice") if strict else ("lost", "out of order"):
        assert not found.get(wrong), f"{wrong}: {found[wrong]}"
    return found


def main() -> None:
    if sys.argv[1:2] == ["member"]:
        consume(*sys.argv[2:6])
        return
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600
    rate = float(sys.argv[2]) if len(sys.argv) > 2 else 2000
    for kind in sys.argv[3:4] or ["elastic", "static"]:
        run(seconds, rate, kind, float(sys.argv[4]) if len(sys.argv) > 4 else 3)


if __name__ == "__main__":
    main()
