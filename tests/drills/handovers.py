"""Lock and leadership go from process to process while their holders are killed: never two at a time.

`python -m drills.handovers [count]`, or `make handovers`: for each of examples/distributed_lock.py and
leader_election.py three processes on a private server; each holder is killed (SIGKILL) and replaced, a
twentieth of count times. What each of them guards is a file that it locks while it holds: the kernel sees any
overlap. Then `drills.holders` with count hand-overs on a cluster, and all that can happen to a holder.
"""

from __future__ import annotations

import os
import random
import selectors
import signal
import subprocess
import sys
import tempfile
import time

from drills import holders
from lab.natsserver import NatsServer
from lab.paths import EXAMPLES
from lab.process import die_with_us

PROCESSES = 3
TAKEN_WITHIN = 60.0  # on a busy machine, too


class Contest:
    """The processes of one example, and who holds."""

    def __init__(self, port: int, script: str, word: str, *arguments: str) -> None:
        """word: what a process prints, with a number, when it holds."""
        self._command = [sys.executable, str(EXAMPLES / script), *arguments]
        self._env = {**os.environ, "NATS_HOST": "127.0.0.1", "NATS_PORT": str(port)}
        self._word = word
        self._selector = selectors.DefaultSelector()
        self._processes: list[subprocess.Popen[bytes]] = []
        self.revisions: list[int] = []
        for _ in range(PROCESSES):
            self._start()

    def _start(self) -> None:
        process = subprocess.Popen(
            self._command,
            env=self._env,
            stdout=subprocess.PIPE,
            bufsize=0,
            preexec_fn=die_with_us,
        )
        self._processes.append(process)
        self._selector.register(process.stdout, selectors.EVENT_READ, process)  # type: ignore[arg-type]

    def next_holder(self) -> subprocess.Popen[bytes]:
        """Wait for one that takes it."""
        deadline = time.monotonic() + TAKEN_WITHIN
        while time.monotonic() < deadline:
            for key, _ in self._selector.select(0.2):
                data = os.read(key.fd, 65536)
                if not data:
                    raise AssertionError(f"a process has ended: {key.data.wait(5)}")
                for line in data.decode().splitlines():
                    if line.startswith("two "):
                        raise AssertionError(line)
                    if line.startswith(f"{self._word} "):
                        self.revisions.append(int(line.split()[1]))
                        holder: subprocess.Popen[bytes] = key.data
                        return holder
        raise AssertionError(f"nobody has taken it within {TAKEN_WITHIN} s")

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """End a holder in the hardest way, and replace it."""
        assert process.stdout is not None
        self._selector.unregister(process.stdout)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        self._processes.remove(process)
        self._start()

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            process.stdout.close()  # type: ignore[union-attr]
        self._selector.close()


def run(port: int, count: int, script: str, word: str, *arguments: str, kill: bool = True) -> float:
    """count hand-overs, each by killing the holder, or by its letting go.

    Returns the longest time between two, in seconds.
    """
    with tempfile.NamedTemporaryFile() as guarded:
        contest = Contest(port, script, word, *arguments, guarded.name)
        longest = 0.0
        try:
            for _ in range(count + 1):
                began = time.monotonic()
                holder = contest.next_holder()
                if len(contest.revisions) > 1:
                    longest = max(longest, time.monotonic() - began)
                if kill:
                    time.sleep(random.uniform(0.0, 0.3))
                    contest.kill(holder)
            revisions = contest.revisions
            assert revisions == sorted(set(revisions)), "a revision that does not grow"
        finally:
            contest.close()
    return longest


def main() -> None:
    whole = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    count = max(1, whole // 20)
    with NatsServer(jetstream=True) as server:
        for script, word, *arguments in (
            ("distributed_lock.py", "held", "30"),
            ("leader_election.py", "leader"),
        ):
            began = time.monotonic()
            longest = run(server.port, count, script, word, *arguments)
            took = time.monotonic() - began
            print(
                f"{script}: {count} hand-overs with kill -9 in {took:.0f} s, never two holders, "
                f"longest wait {longest:.1f} s",
                flush=True,
            )
    holders.report(whole)


if __name__ == "__main__":
    main()
