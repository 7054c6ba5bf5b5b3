"""Leader election: one process leads; when it ends, is killed or cut off, another process takes over.

All processes stand for election, and the one that has asked first leads. A leader that is stopped or cut off
knows that it leads no more before another process is elected.

NATS_HOST and NATS_PORT say where the server is (2.11 or later).
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
from datetime import timedelta
from typing import Any

from nats_ev import KV, JetStream, Nats, NatsError, NoRespondersError, pyev
from nats_ev.extras import Contender, Election

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument(
    "file", nargs="?", help="a file that only the leader may touch: locked while this process leads"
)
guarded = arguments.parse_args().file
GUARD = open(guarded, "ab") if guarded is not None else None  # noqa: SIM115

nats = Nats(
    host=os.environ.get("NATS_HOST", "127.0.0.1"),
    port=int(os.environ.get("NATS_PORT", "4222")),
    reconnect=True,
    retry_on_failed_connect=False,
)
kv = KV(JetStream(nats), "election")


def elected(token: int) -> None:
    guard(True)
    print(f"leader {token}", flush=True)


def lost(err: NatsError) -> None:
    guard(False)
    print(f"stepped down: {err}", flush=True)


def follow(leader: Contender | None, err: NatsError | None) -> None:
    if leader is not None and leader.owner != election.id:
        print(f"follower of {leader.owner}", flush=True)


def guard(lock: bool) -> None:
    """Lock what only the leader may touch, or unlock it."""
    if GUARD is not None:
        try:
            fcntl.flock(GUARD, fcntl.LOCK_EX | fcntl.LOCK_NB if lock else fcntl.LOCK_UN)
        except OSError:
            print("two leaders", flush=True)
            os._exit(1)


def ready(info: Any, err: NatsError | None) -> None:
    if isinstance(err, NoRespondersError):
        sys.exit(f"no bucket: {err}")
    if err is not None:
        print("no bucket yet:", err, file=sys.stderr)
        nats.call_later(1000, start)
        return
    election.observe(follow)
    election.campaign()


def start() -> None:
    kv.create_bucket({"limit_marker_ttl": timedelta(seconds=1)}, ready)


election = Election(kv, "leader", lease=timedelta(seconds=2), on_elected=elected, on_lost=lost)
start()
pyev.default_loop().start()
