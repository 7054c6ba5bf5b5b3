"""A worker on JetStream that tries again, and puts aside what it cannot do: dead letters.

`jetstream_worker.py add ADDRESS...` queues mails. `jetstream_worker.py` sends them until SIGTERM or Ctrl-C;
any number of workers share the work. `jetstream_worker.py dead` lists the dead letters, with the reason.

A mail that fails is delivered again after a pause that doubles. After ATTEMPTS it is stored as a dead letter,
and only then taken out of the queue: at no moment would a killed worker lose it. NATS_HOST and NATS_PORT say
where the server is.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from nats_ev import Headers, JetStream, JsMsg, Nats, NatsError, Status, pyev

ATTEMPTS = 3
PAUSE = timedelta(milliseconds=50)
QUEUE = {"name": "MAILS", "subjects": ["mails.>"], "retention": "workqueue"}
DEAD = {"name": "DEAD-MAILS", "subjects": ["dead.mails.>"]}
CONSUMER = {
    "durable_name": "senders",
    "ack_policy": "explicit",
    "ack_wait": timedelta(seconds=30),
    "max_ack_pending": 100,
}

loop = pyev.default_loop(debug=True)  # an exception in a callback ends the program
nats = Nats(
    host=os.environ.get("NATS_HOST", "127.0.0.1"),
    port=int(os.environ.get("NATS_PORT", "4222")),
    reconnect=True,
    retry_on_failed_connect=False,
    on_error=lambda err: on_error(err),
)
js = JetStream(nats)


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


def send(address: str) -> None:
    """The work."""
    if "@" not in address:
        raise ValueError("an address without @")
    print(f"sent to {address}", flush=True)


def on_mail(msg: JsMsg | None, err: NatsError | None) -> None:
    if msg is None:
        sys.exit(f"error: {err}")
    attempt = msg.metadata.num_delivered
    try:
        if attempt > ATTEMPTS:
            raise RuntimeError("every worker that has tried it has ended")
        send(msg.data.decode())
    except Exception as exc:
        if attempt < ATTEMPTS:
            msg.nak(delay=PAUSE * 2 ** (attempt - 1))
        else:
            bury(msg, f"{type(exc).__name__}: {exc}")
    else:
        msg.ack()


def bury(msg: JsMsg, reason: str) -> None:
    """Store a dead letter, then take the mail out of the queue."""

    def stored(ack: Any, err: NatsError | None) -> None:
        if err is None:
            msg.term(reason)
            print(f"buried {msg.data.decode()}: {reason}", flush=True)
        else:  # not answered: the mail comes again after ack_wait
            print("no dead letter:", err, file=sys.stderr, flush=True)

    # Of two workers that bury the same mail the second stores nothing.
    once = f"{msg.metadata.stream}-{msg.metadata.stream_sequence}"
    js.publish(f"dead.{msg.subject}", msg.data, stored, headers={"Reason": reason}, msg_id=once)


def work() -> None:
    mails = js.consume("MAILS", "senders", {"max_messages": 20}, on_mail)

    def leave(watcher: pyev.Signal, revents: int) -> None:
        for stop in stops:
            stop.stop()
        mails.drain(lambda result, err: nats.drain(lambda err: sys.exit(1) if err else None))

    stops = [loop.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)]
    for stop in stops:
        stop.start()
    print("ready", flush=True)


def add(addresses: list[str]) -> None:
    def stored(ack: Any) -> None:
        if addresses:
            js.publish("mails.new", addresses.pop(0), then(stored))
        else:
            nats.drain()

    stored(None)


def list_dead(info: Any) -> None:
    count = info["state"]["messages"]
    print(count, "dead letters")
    seen = 0

    def on_letter(msg: JsMsg) -> None:
        nonlocal seen
        seen += 1
        print(f"{msg.data.decode()}: {Headers.parse(msg.headers)['Reason']}")
        if seen == count:
            letters.stop()
            nats.drain()

    if count:
        letters = js.ordered_consumer("DEAD-MAILS", then(on_letter))
    else:
        nats.drain()


def begin() -> None:
    match sys.argv[1:]:
        case []:
            js.consumer_create_or_update("MAILS", CONSUMER, then(lambda info: work()))
        case ["add", address, *more]:
            add([address, *more])
        case ["dead"]:
            js.stream_info("DEAD-MAILS", then(list_dead))
        case _:
            sys.exit(__doc__)


create = js.stream_create_or_update
create(DEAD, then(lambda info: create(QUEUE, then(lambda info: begin()))))
loop.start()
