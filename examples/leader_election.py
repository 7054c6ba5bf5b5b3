"""Leader election: one process leads; when it ends, is killed or cut off, another process takes over.

The leader's name is the value of a key that expires after LEASE unless the leader updates the key. A leader
that cannot update the key in time steps down by its own clock, before another process can be elected.

NATS_HOST and NATS_PORT say where the server is.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
import time
from datetime import timedelta
from typing import Any

from nats_ev import KV, JetStream, KvEntry, Nats, NatsError, NoRespondersError, pyev

LEASE = 1.5  # seconds
MARGIN = 0.2  # seconds before the lease expires, when the leader steps down
arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument(
    "file", nargs="?", help="a file that only the leader may touch: locked while this process leads"
)
guarded = arguments.parse_args().file
GUARD = open(guarded, "ab") if guarded is not None else None  # noqa: SIM115

loop = pyev.default_loop()
nats = Nats(
    host=os.environ.get("NATS_HOST", "127.0.0.1"),
    port=int(os.environ.get("NATS_PORT", "4222")),
    reconnect=True,
    retry_on_failed_connect=False,
)
kv = KV(JetStream(nats, timeout=timedelta(seconds=1)), "election")
me = f"{os.uname().nodename}:{os.getpid()}"
term = 0  # the key's revision while this process leads
valid_until = 0.0


def campaign(watcher: Any = None, revents: int = 0) -> None:
    """Try to become the leader, or to remain the leader."""
    asked = time.monotonic()

    def answered(revision: int | None, err: NatsError | None) -> None:
        global term, valid_until
        if err is not None or revision is None:
            return  # another process leads, or the server does not answer: `check` decides by the clock
        if time.monotonic() > asked + LEASE - MARGIN:
            return
        valid_until = asked + LEASE - MARGIN
        if not term:
            guard(True)
            print(f"leader {revision}", flush=True)
        term = revision

    if term:
        kv.update("leader", me, term, answered)
    else:
        kv.create("leader", me, answered)


def check(watcher: Any, revents: int) -> None:
    """Step down when the lease is about to expire."""
    global term
    if term and time.monotonic() > valid_until:
        guard(False)
        print(f"stepped down {term}", flush=True)
        term = 0


def guard(lock: bool) -> None:
    """Lock what only the leader may touch, or unlock it."""
    if GUARD is not None:
        try:
            fcntl.flock(GUARD, fcntl.LOCK_EX | fcntl.LOCK_NB if lock else fcntl.LOCK_UN)
        except OSError:
            print("two leaders", flush=True)
            os._exit(1)


def changed(entry: KvEntry | None, err: NatsError | None) -> None:
    if entry is not None and not term:
        if entry.deleted:
            campaign()
        elif entry.value != me.encode():
            print(f"follower of {entry.value.decode()}", flush=True)


def ready(info: Any, err: NatsError | None) -> None:
    if err is not None:
        print("no bucket yet:", err, file=sys.stderr)
        if isinstance(err, NoRespondersError):
            sys.exit(1)
        nats.call_later(1000, start)
        return
    kv.watch("leader", changed)
    campaign()
    for timer in timers:
        timer.start()


def start() -> None:
    kv.create_bucket({"ttl": timedelta(seconds=LEASE)}, ready)


timers = [loop.timer(LEASE / 4, LEASE / 4, campaign), loop.timer(0.05, 0.05, check)]
start()
loop.start()
