"""A client that reports its own state: counters, back-pressure, lame duck, reconnects.

NATS_HOST and NATS_PORT say where the server is.
"""

from __future__ import annotations

import argparse
import os
import sys

from nats_ev import Nats, NatsError, Status, pyev

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("seconds", type=float, nargs="?", help="how long to run (default: for ever)")
seconds = arguments.parse_args().seconds

loop = pyev.default_loop(debug=True)
nats = Nats(
    host=os.environ.get("NATS_HOST", "127.0.0.1"),
    port=int(os.environ.get("NATS_PORT", "4222")),
    name="monitoring",
    reconnect=True,
    reconnect_delay=500,
    ping_interval=10_000,
    on_connect=lambda: print(f"connected to {nats.connected_url()}", flush=True),
    on_disconnect=lambda: print("disconnected", flush=True),
    on_lame_duck=lambda: print("the server is about to shut down", flush=True),
    retry_on_failed_connect=False,
    on_error=lambda err: on_error(err),
)


def on_error(err: NatsError) -> None:
    print(f"error: {err}", flush=True)
    if nats.status() is Status.CLOSED:  # no other attempt follows
        sys.exit(1)


nats.slow_consumer(1 << 20, lambda pending: print(f"{pending:,} bytes wait to be sent", flush=True))
nats.subscribe("load.>", lambda subject, payload, reply, headers: None)


def load(watcher: pyev.Timer, revents: int) -> None:
    if nats.is_connected():
        nats.batch(lambda: [nats.publish("load.test", bytes(100)) for _ in range(1000)])


def report(watcher: pyev.Timer, revents: int) -> None:
    stats = nats.stats()
    nats.rtt(lambda ms, err: print(f"rtt {err or f'{ms:.2f} ms'}, {stats}", flush=True))


def leave(watcher: pyev.Timer, revents: int) -> None:
    for timer in timers:
        timer.stop()
    nats.drain(lambda err: print("drained", flush=True))


timers = [loop.timer(0.1, 0.1, load), loop.timer(0.5, 1.0, report)]
if seconds is not None:
    timers.append(loop.timer(seconds, 0.0, leave))
for timer in timers:
    timer.start()
loop.start()
