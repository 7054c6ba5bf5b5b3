"""A work queue whose workers and server are killed: each job is done or a dead letter, none of these twice.

`python -m drills.jobs [jobs [server kills [line]]]`, or `make jobs`: of three worker processes one after the
other is killed (SIGKILL), some jobs kill theirs, and the server is killed, too. Workers write what they have
done into a file.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.natsserver import NatsServer
from lab.process import die_with_us
from lab.server_versions import line_binary
from nats_ev import JetStream, Nats, pyev
from nats_ev.extras import Job, WorkQueue
from nats_ev.testing import run_until

WORKERS = 3
LIMIT_MS = 300_000.0
FOR_EVER: dict[str, Any] = {
    "reconnect": True,
    "max_reconnect_attempts": 0,
    "reconnect_delay": 100,
    "on_error": lambda err: None,
}


def queue_on(nats: Nats) -> WorkQueue:
    return WorkQueue(
        JetStream(nats, timeout=3000), "Q", attempts=3, backoff=[50, 100], ack_wait=1000
    )


def work(port: int, path: str) -> None:
    """Be a worker, until SIGTERM."""
    done_file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    nats = Nats(host="127.0.0.1", port=port, **FOR_EVER)

    def handler(job: Job, done: Callable[..., None]) -> None:
        name = job.data.decode()
        if name.startswith("poison"):
            os.kill(os.getpid(), signal.SIGKILL)
        if name.startswith("bad"):
            done("always bad")
        else:
            nats.call_later(random.random() * 20, end, name, done)

    def end(name: str, done: Callable[..., None]) -> None:
        os.write(done_file, f"{name} {time.time()}\n".encode())
        done()

    def leave(watcher: pyev.Signal, revents: int) -> None:
        watcher.stop()
        worker.drain(lambda result, err: nats.disconnect())

    worker = queue_on(nats).work(handler, concurrency=8, prefetch=4)
    stop = pyev.default_loop().signal(signal.SIGTERM, leave)
    stop.start()
    pyev.default_loop().start()


class Drill:
    """The queue, its worker processes, and the hand that kills them."""

    def __init__(self, server: NatsServer, path: Path) -> None:
        self.loop = pyev.Loop()
        self.nats = Nats(host=server.host, port=server.port, loop=self.loop, **FOR_EVER)
        self.queue = queue_on(self.nats)
        self.kills = 0
        self._path = path
        self._command = [sys.executable, "-m", "drills.jobs", "work", str(server.port), str(path)]
        self._env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._processes: list[subprocess.Popen[bytes]] = []

    def wait(self, condition: Callable[[], Any]) -> None:
        run_until(self.loop, condition, LIMIT_MS)

    def call(self, method: Callable[..., object], *args: Any, **options: Any) -> Any:
        answers: list[tuple[Any, Any]] = []
        method(*args, cb=lambda result, err: answers.append((result, err)), **options)
        self.wait(lambda: answers)
        return answers[0]

    def pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() > until)

    def put(self, names: list[str]) -> None:
        answers: list[Any] = []
        assert self.call(self.queue.create) == (True, None)
        for name in names:
            self.queue.put(name, lambda ack, err: answers.append(err))
        self.wait(lambda: len(answers) == len(names))
        assert not any(answers)

    def start_workers(self) -> None:
        """Replace those that have been killed."""
        alive = [each for each in self._processes if each.poll() is None]
        assert {each.poll() for each in self._processes} <= {None, -signal.SIGKILL}
        self.kills += len(self._processes) - len(alive)
        for _ in range(WORKERS - len(alive)):
            alive.append(subprocess.Popen(self._command, env=self._env, preexec_fn=die_with_us))
        self._processes = alive

    def kill_one(self) -> None:
        process = random.choice(self._processes)
        process.kill()
        process.wait()

    def left(self) -> int:
        info, err = self.call(self.queue.js.stream_info, "Q")
        return int(info["state"]["messages"]) if err is None else -1

    def end(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        for process in self._processes:
            process.wait()
        self.nats.disconnect()

    def verdict(self, names: list[str]) -> str:
        """Compare what was done with what was wanted. Raises AssertionError."""
        rows = [line.split() for line in self._path.read_text().splitlines()]
        done = Counter(name for name, _ in rows)
        last = {name: float(when) for name, when in rows}
        letters, err = self.call(self.queue.dead_letters, limit=len(names) + 1)
        assert err is None
        dead = Counter(letter.data.decode() for letter in letters)
        assert set(done) | set(dead) == set(names), "a job is lost"
        assert set(dead.values()) <= {1}, "a dead letter is double"
        assert all(name in dead for name in names if name.startswith(("bad", "poison")))
        assert not any(name.startswith(("bad", "poison")) for name in done)
        late = [each for each in letters if last.get(each.data.decode(), 0) > each.died.timestamp()]
        assert not late, "a job was done after its death"
        twice = sum(number > 1 for number in done.values())
        return (
            f"{len(names)} jobs, {self.kills} workers killed: {len(done)} done ({twice} more than once), "
            f"{len(dead)} dead ({len(set(done) & set(dead))} of them after they were done), none lost"
        )


def run(server: NatsServer, jobs: int, server_kills: int, between: float = 2.0) -> str:
    """Run the drill, and return its result in words.

    Args:
        server: has its own JetStream.
        jobs: how many.
        server_kills: how often the server is killed.
        between: seconds between two kills of workers.
    """
    names = [f"job{number}" for number in range(jobs)]
    names += [f"bad{number}" for number in range(jobs // 50 + 1)]
    names += [f"poison{number}" for number in range(jobs // 200 + 1)]
    random.shuffle(names)
    with tempfile.TemporaryDirectory() as folder:
        drill = Drill(server, Path(folder, "done"))
        try:
            drill.wait(drill.nats.is_connected)
            drill.put(names)
            deadline = time.monotonic() + LIMIT_MS / 1000
            while drill.left():
                assert time.monotonic() < deadline, "the queue does not get empty"
                drill.start_workers()
                drill.pause(between * (0.5 + random.random()))
                drill.kill_one()
                if server_kills:
                    server_kills -= 1
                    server.kill()
                    server.start()
            return drill.verdict(names)
        finally:
            drill.end()


def main() -> None:
    if sys.argv[1:2] == ["work"]:
        work(int(sys.argv[2]), sys.argv[3])
        return
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 1500
    kills = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    line = sys.argv[3] if len(sys.argv) > 3 else "newest"
    with NatsServer(jetstream=True, binary=line_binary(line)) as server:
        began = time.monotonic()
        print(run(server, jobs, kills), f"in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
