"""A worker on a work queue that tries again, and puts aside what it cannot do: dead letters.

`jetstream_worker.py add ADDRESS...` queues mails. `jetstream_worker.py` sends them until SIGTERM or Ctrl-C;
any number of workers share the work. `jetstream_worker.py dead` lists the dead letters, with the reason,
and `jetstream_worker.py again` puts them back into the queue.

A mail that fails is delivered again after a pause that doubles. After three attempts it becomes a dead
letter, even when every worker that has tried it was killed. NATS_HOST and NATS_PORT say where the server is.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from nats_ev import JetStream, Nats, NatsError, Status, pyev
from nats_ev.extras import DeadLetter, Job, WorkQueue

loop = pyev.default_loop(debug=True)  # an exception in a callback ends the program
nats = Nats(
    host=os.environ.get("NATS_HOST", "127.0.0.1"),
    port=int(os.environ.get("NATS_PORT", "4222")),
    reconnect=True,
    retry_on_failed_connect=False,
    on_error=lambda err: on_error(err),
)
mails = WorkQueue(JetStream(nats), "MAILS", attempts=3, backoff=[50, 100], ack_wait=30_000)


def on_error(err: NatsError) -> None:
    print("nats:", err, file=sys.stderr, flush=True)
    if nats.status() is Status.CLOSED:  # no other attempt follows
        sys.exit(1)


def then(do: Callable[[Any], object]) -> Callable[[Any, NatsError | None], None]:
    """Return a callback that goes on with a result, and ends the program on an error."""

    def callback(result: Any, err: NatsError | None) -> None:
        if err is not None:
            sys.exit(f"error: {err}")
        do(result)

    return callback


def send(job: Job) -> None:
    """The work: an exception is a failure."""
    address = job.data.decode()
    if "@" not in address:
        raise ValueError("an address without @")
    print(f"sent to {address}", flush=True)


def buried(job: Job, reason: str) -> None:
    print(f"buried {job.data.decode()}: {reason}", flush=True)


def work() -> None:
    worker = mails.work(send, concurrency=20, on_dead=buried, on_error=on_error)

    def leave(watcher: pyev.Signal, revents: int) -> None:
        for stop in stops:
            stop.stop()
        worker.drain(lambda result, err: nats.drain(lambda err: sys.exit(1) if err else None))

    stops = [loop.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)]
    for stop in stops:
        stop.start()
    print("ready", flush=True)


def add(addresses: list[str]) -> None:
    def stored(ack: Any) -> None:
        if addresses:
            mails.put(addresses.pop(0), then(stored))
        else:
            nats.drain()

    stored(None)


def list_dead(letters: list[DeadLetter]) -> None:
    print(len(letters), "dead letters")
    for letter in letters:
        print(f"{letter.data.decode()}: {letter.reason}")
    nats.drain()


def put_back(count: int) -> None:
    print(count, "dead letters are back")
    nats.drain()


def begin() -> None:
    match sys.argv[1:]:
        case []:
            work()
        case ["add", address, *more]:
            add([address, *more])
        case ["dead"]:
            mails.dead_letters(then(list_dead))
        case ["again"]:
            mails.redrive(then(put_back))
        case _:
            sys.exit(__doc__)


mails.create(then(lambda result: begin()))
loop.start()
