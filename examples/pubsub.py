"""Subscribe with a wildcard, publish on a timer, drain on Ctrl-C.

NATS_HOST and NATS_PORT say where the server is.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from itertools import count, islice

from nats_ev import Nats, NatsError, Status, pyev

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("messages", type=int, nargs="?", help="how many to send (default: no end)")

loop = pyev.default_loop(debug=True)
numbers = islice(count(1), arguments.parse_args().messages)
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


def on_message(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
    print(f"[{subject}] {payload.decode()}")


def tick(watcher: pyev.Timer, revents: int) -> None:
    number = next(numbers, None)
    if number is None:
        leave()
    else:
        nats.publish(f"ticks.{'even' if number % 2 == 0 else 'odd'}", str(number))


def leave(*_: object) -> None:
    """Stop this program's watchers and drain: the loop ends when nothing keeps it busy."""
    timer.stop()
    interrupt.stop()
    nats.drain(lambda err: sys.exit(f"error: {err}") if err else print("drained"))


nats.subscribe("ticks.>", on_message)
timer = loop.timer(0.0, 0.1, tick)
timer.start()
interrupt = loop.signal(signal.SIGINT, leave)
interrupt.start()
loop.start()
