"""Reminders that the server sends: schedules in a stream (nats-server 2.12), counted per user.

`reminders.py in SECONDS USER TEXT` schedules one, `reminders.py list` shows those that wait,
`reminders.py cancel NAME` deletes one, and `reminders.py watch USER` prints what comes, with the number of
reminders so far, until Ctrl-C. No program has to run for a reminder to be sent.

NATS_HOST and NATS_PORT say where the server is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from nats_ev import JetStream, Nats, NatsError, Status, pyev
from nats_ev.extras import Counters, Schedule, Schedules, schedule_delivery
from nats_ev.nuid import next_nuid

loop = pyev.default_loop(debug=True)  # an exception in a callback ends the program
nats = Nats(
    host=os.environ.get("NATS_HOST", "127.0.0.1"),
    port=int(os.environ.get("NATS_PORT", "4222")),
    reconnect=True,
    retry_on_failed_connect=False,
    on_error=lambda err: on_error(err),
)
js = JetStream(nats)
reminders = Schedules(js, "REMINDERS")
counts = Counters(js, "REMINDED")


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


def say(text: object) -> None:
    print(text, flush=True)
    nats.drain()


def remind(seconds: float, user: str, text: str) -> None:
    name, when = next_nuid(), datetime.now(timezone.utc) + timedelta(seconds=seconds)
    subject = f"reminder.{user}.{name}"
    reminders.at(subject, when, f"due.{user}", text, then(lambda ack: say(name)))


def show(found: list[Schedule]) -> None:
    for each in found:
        _, user, name = each.subject.split(".")
        print(name, user, each.payload.decode())
    nats.drain()


def cancel(name: str) -> None:
    def chosen(found: list[Schedule]) -> None:
        if found:
            reminders.cancel(found[0].subject, then(lambda there: say("cancelled")))
        else:
            say("no such reminder")

    reminders.list(then(chosen), f"reminder.*.{name}")


def watch(user: str) -> None:
    def on_message(msg: Any) -> None:
        delivery = schedule_delivery(msg)
        assert delivery is not None
        text = msg.data.decode()
        # The name of the reminder is the id: should the program be killed here, it is counted once.
        counts.add(
            f"reminded.{user}",
            1,
            then(lambda number: print(f"{number}: {text}", flush=True)),
            msg_id=delivery.scheduler,
        )

    js.ordered_consumer(
        "REMINDERS", {"filter_subjects": [f"due.{user}"], "deliver_policy": "new"}, then(on_message)
    )
    print("ready", flush=True)


def begin() -> None:
    match sys.argv[1:]:
        case ["in", seconds, user, text]:
            remind(float(seconds), user, text)
        case ["list"]:
            reminders.list(then(show), "reminder.>")
        case ["cancel", name]:
            cancel(name)
        case ["watch", user]:
            watch(user)
        case _:
            sys.exit(__doc__)


def set_up() -> None:
    streams = {"subjects": ["reminder.>", "due.>"]}
    counters = {"subjects": ["reminded.>"], "max_msgs_per_subject": 1}
    ready = then(lambda info: begin())
    reminders.create_stream(streams, then(lambda info: counts.create_stream(counters, ready)))


set_up()
try:
    loop.start()
except KeyboardInterrupt:
    sys.exit(130)
