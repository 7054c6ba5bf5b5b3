"""A lock shared by processes on any machines: one process at a time holds it, works, and releases it.

The lock is a key that expires: the holder updates the key in time, and a killed holder loses the lock after
LEASE. The holder stops by its own clock before the key expires on the server, so there are never two holders.
The key's revision grows with each holder: what the lock protects can refuse a smaller revision.

Arguments: seconds to hold the lock each time (default 1), and a file that is locked as long; a second holder
would print "two holders" and end. NATS_HOST and NATS_PORT say where the server is.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from datetime import timedelta
from typing import Any

from nats_ev import KV, ApiLevelError, JetStream, KvEntry, Nats, NatsError, NoRespondersError, pyev

LEASE = 1.5  # seconds
MARGIN = 0.2  # seconds before the lease expires, when the holder stops
HOLD_MS = float(sys.argv[1]) * 1000 if len(sys.argv) > 1 else 1000.0
GUARD = open(sys.argv[2], "ab") if len(sys.argv) > 2 else None  # noqa: SIM115

nats = Nats(
    host=os.environ.get("NATS_HOST", "127.0.0.1"),
    port=int(os.environ.get("NATS_PORT", "4222")),
    reconnect=True,
    retry_on_failed_connect=False,
)
kv = KV(JetStream(nats, timeout=timedelta(seconds=1)), "locks")
me = f"{os.uname().nodename}:{os.getpid()}"
holding = 0  # the key's revision while this process holds the lock
asking = renewing = False
valid_until = 0.0
timers: list[Any] = []


def acquire() -> None:
    global asking
    if holding or asking:
        return
    asking = True
    asked = time.monotonic()

    def created(revision: int | None, err: NatsError | None) -> None:
        global asking
        asking = False
        if err is None and revision is not None:
            held(revision, asked)
        else:  # another process holds the lock: try again when the key is deleted, or after a while
            forget_timers()
            later(LEASE * 250, acquire)

    kv.create("lock", me, created)


def held(revision: int, asked: float) -> None:
    global holding
    forget_timers()
    if time.monotonic() > asked + LEASE - MARGIN:
        return lost()  # the answer took too long: the lease may have expired
    holding = revision
    guard(True)
    print(f"held {holding}", flush=True)
    later(HOLD_MS, release)
    extend(asked)


def extend(asked: float) -> None:  # hold the lock for a lease from then on, and renew it in time
    global valid_until
    valid_until = asked + LEASE - MARGIN
    later(LEASE * 300, renew)
    later((valid_until - time.monotonic()) * 1000, check)


def renew() -> None:
    global renewing
    asked = time.monotonic()

    def renewed(revision: int | None, err: NatsError | None) -> None:
        global holding, renewing
        renewing = False
        if holding and err is None and revision is not None:
            holding = revision
            extend(asked)

    renewing = True
    kv.update("lock", me, holding, renewed)


def check() -> None:
    if holding and time.monotonic() >= valid_until:
        lost()


def release() -> None:
    global holding
    if renewing:  # the answer has the revision to delete
        return later(20, release)
    if holding:
        guard(False)
        print(f"released {holding}", flush=True)
        forget_timers()
        kv.delete("lock", lambda ok, err: later(100, acquire), revision=holding)
        holding = 0


def lost() -> None:
    global holding
    if holding:
        guard(False)
        print(f"lost {holding}", flush=True)
    holding = 0
    forget_timers()
    later(LEASE * 250, acquire)


def guard(lock: bool) -> None:  # lock what the lock protects, or unlock it
    if GUARD is not None:
        try:
            fcntl.flock(GUARD, fcntl.LOCK_EX | fcntl.LOCK_NB if lock else fcntl.LOCK_UN)
        except OSError:
            print("two holders", flush=True)
            os._exit(1)


def changed(entry: KvEntry | None, err: NatsError | None) -> None:
    if entry is not None and entry.deleted and not holding:
        acquire()


def later(delay_ms: float, what: Any) -> None:
    timers.append(nats.call_later(max(0.0, delay_ms), what))


def forget_timers() -> None:
    while timers:
        timers.pop().cancel()


def created(info: Any, err: NatsError | None) -> None:
    if isinstance(err, ApiLevelError):  # a server before 2.11 stores no marker when a key expires
        return kv.create_bucket({"ttl": timedelta(seconds=LEASE)}, created)
    if err is not None:
        print("no bucket yet:", err, file=sys.stderr)
        return sys.exit(1) if isinstance(err, NoRespondersError) else later(1000, start)
    kv.watch("lock", changed)
    acquire()


def start() -> None:
    lease = timedelta(seconds=LEASE)
    kv.create_bucket({"ttl": lease, "limit_marker_ttl": timedelta(seconds=1)}, created)


start()
pyev.default_loop().start()
