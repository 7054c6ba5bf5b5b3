"""A process of the drill `holders`: it stands for a lock or an election, and uses what that protects.

Started as ``python -m drills.holder KIND BUCKET NAME LEASE_MS FILE URL…``. While it holds, it appends a line
with its token to FILE every few ms, right after a look at `held`: the kernel puts the lines of all processes
in one order. On standard output it tells what happens, with the time of a clock that all processes share.
"release" on standard input lets it release, and stand again.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from nats_ev import KV, JetStream, Nats, NatsError, pyev
from nats_ev.extras import Election, Lock

ACCESS_EVERY = 0.004  # seconds


def tell(*words: object) -> None:
    print(*words, time.monotonic(), flush=True)


class Holder:
    """What the process does."""

    def __init__(
        self, kind: str, bucket: str, name: str, lease: float, path: str, urls: list[str]
    ) -> None:
        self._loop = pyev.default_loop()
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        nats = Nats(
            servers=urls,
            loop=self._loop,
            reconnect=True,
            reconnect_delay=50,
            ignore_discovered_servers=True,
            connect_timeout=500,
            ping_interval=500,
            max_pings_outstanding=1,
            on_error=lambda err: None,
        )
        kv = KV(JetStream(nats), bucket)
        self._election: Election | None = None
        if kind == "election":
            self._election = Election(
                kv, name, lease=lease, on_elected=self._elected, on_lost=self._lost
            )
        self._lock = Lock(kv, name, lease=lease, on_lost=self._lost)
        self._input = self._loop.io(0, pyev.EV_READ, self._command)
        self._timer = self._loop.timer(ACCESS_EVERY, ACCESS_EVERY, self._access)
        self._input.start()
        self._timer.start()
        self._stand()

    def run(self) -> None:
        self._loop.start()

    def _stand(self) -> None:
        if self._election is not None:
            self._election.campaign()
        else:
            self._lock.acquire(self._acquired)

    def _acquired(self, token: int | None, err: NatsError | None) -> None:
        if err is not None or token is None:
            tell("error", repr(str(err)))
            sys.exit(1)
        tell("held", token)

    def _elected(self, token: int) -> None:
        tell("held", token)

    def _lost(self, err: NatsError) -> None:
        tell("lost", type(err).__name__)
        if self._election is None:
            self._stand()

    def _access(self, watcher: Any, revents: int) -> None:
        holds: Any = self._election if self._election is not None else self._lock
        if holds.token:
            os.write(self._file, b"%d %d\n" % (holds.token, os.getpid()))

    def _command(self, watcher: Any, revents: int) -> None:
        words = os.read(0, 4096).split()
        if not words:
            sys.exit(0)
        if words == [b"state"]:
            lock = self._lock if self._election is None else self._election._lock
            ticket = lock._ticket
            state = (
                {} if ticket is None else {k: v for k, v in vars(ticket).items() if k[:2] != "__"}
            )
            print(f"{os.getpid()} {lock!r} {lock.js.nats!r} {state}", file=sys.stderr, flush=True)
            return
        tell("releases", self._lock.token)
        if self._election is not None:
            self._election.resign(self._released)
        else:
            self._lock.release(self._released)

    def _released(self, done: bool | None, err: NatsError | None) -> None:
        tell("released", done)
        self._stand()


if __name__ == "__main__":
    kind, bucket, name, lease, path, *urls = sys.argv[1:]
    Holder(kind, bucket, name, float(lease), path, urls).run()
