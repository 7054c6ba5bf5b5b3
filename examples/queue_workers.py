"""Workers that share jobs: start several, then `queue_workers.py produce 100`.

Each job goes to one worker. On SIGTERM or Ctrl-C a worker finishes the jobs that it has received, and later
jobs go to the other workers. NATS_HOST and NATS_PORT say where the server is.
"""

from __future__ import annotations

import os
import signal
import sys

from nats_ev import Nats, NatsError, Status, pyev

loop = pyev.default_loop(debug=True)
nats = Nats(
    host=os.environ.get("NATS_HOST", "127.0.0.1"),
    port=int(os.environ.get("NATS_PORT", "4222")),
    reconnect=True,
    retry_on_failed_connect=False,
    on_error=lambda err: on_error(err),
)


def on_error(err: NatsError) -> None:
    print("nats:", err, file=sys.stderr, flush=True)
    if nats.status() is Status.CLOSED:  # no other attempt follows
        sys.exit(1)


done = 0


def work(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
    global done
    done += 1
    print(f"job {payload.decode()}", flush=True)


def leave(watcher: pyev.Signal, revents: int) -> None:
    for stop in stops:
        stop.stop()
    nats.drain(lambda err: print(f"{done} jobs done", flush=True))


if sys.argv[1:2] == ["produce"]:
    jobs = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    nats.batch(lambda: [nats.publish("tasks.new", str(number)) for number in range(jobs)])
    nats.drain(lambda err: sys.exit(f"error: {err}") if err else print(f"{jobs} jobs sent"))
else:
    stops = [loop.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)]
    for stop in stops:
        stop.start()
    nats.subscribe("tasks.*", work, "workers")
    nats.flush(lambda err: err or print("ready", flush=True))  # on_error has shown err
loop.start()
