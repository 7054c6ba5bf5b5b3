"""A partitioned consumer group: each customer's orders are handled in order, by one of several processes.

`consumer_group.py join NAME` is one process; Ctrl-C or SIGTERM lets it leave.
`consumer_group.py publish COUNT` publishes orders of ten customers. NATS_HOST and NATS_PORT say where the
server is.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from nats_ev import JetStream, JsMsg, Nats, NatsError, Status, pyev
from nats_ev.extras import ConsumerGroups

STREAM, GROUP = "CUSTOMER-ORDERS", "handlers"
loop = pyev.default_loop()
nats = Nats(
    host=os.environ.get("NATS_HOST", "127.0.0.1"),
    port=int(os.environ.get("NATS_PORT", "4222")),
    reconnect=True,
    retry_on_failed_connect=False,
    on_error=lambda err: on_error(err),
)
js = JetStream(nats)
groups = ConsumerGroups(js)
handled = 0


def on_error(err: NatsError) -> None:
    print("nats:", err, file=sys.stderr, flush=True)
    if nats.status() is Status.CLOSED:  # no other attempt follows
        sys.exit(1)


def check(err: NatsError | None) -> None:
    if err is not None:
        sys.exit(f"error: {err}")


def set_up(then: Any) -> None:
    """Create stream and group, unless they are there: ten partitions by the customer's name."""

    def group(info: object, err: NatsError | None) -> None:
        check(err)
        by_customer: Any = [{"filter": "orders.*", "partitioning_wildcards": [1]}]
        groups.create_elastic(STREAM, GROUP, 10, made, partitioning_filters=by_customer)

    def made(config: object, err: NatsError | None) -> None:
        check(err)
        then()

    js.stream_create({"name": STREAM, "subjects": ["orders.*"]}, group)


def join(name: str) -> None:
    def on_order(msg: JsMsg | None, err: NatsError | None) -> None:
        global handled
        if msg is None:
            print(f"{handled} orders handled", flush=True)
            nats.disconnect()
            return
        handled += 1
        print(f"{msg.subject.partition('.')[2]} order {msg.data.decode()}", flush=True)
        msg.ack()

    def joined(members: list[str] | None, err: NatsError | None) -> None:
        check(err)
        print(f"members: {', '.join(sorted(members or []))}", flush=True)

    def leave(watcher: pyev.Signal, events: int) -> None:
        for each in watchers:
            each.stop()
        groups.delete_members(STREAM, GROUP, [name], left)

    def left(members: list[str] | None, err: NatsError | None) -> None:
        check(err)
        if member.filters:  # the partitions are being handed over
            nats.call_later(50, left, members, err)
        else:
            member.stop()
            on_order(None, None)

    member = groups.elastic_consume(STREAM, GROUP, name, on_order)
    groups.add_members(STREAM, GROUP, [name], joined)
    for number in (signal.SIGINT, signal.SIGTERM):
        watcher = loop.signal(number, leave)
        watcher.start()
        watchers.append(watcher)


def publish(count: int) -> None:
    for number in range(count):
        js.publish_async(f"orders.c{number % 10}", str(number), lambda ack, err: check(err))

    def done(result: object, err: NatsError | None) -> None:
        check(err)
        print(f"{count} orders published", flush=True)
        nats.disconnect()

    js.publish_complete(done)


watchers: list[pyev.Signal] = []
match sys.argv[1:]:
    case ["join", name]:
        set_up(lambda: join(name))
    case ["publish", count]:
        set_up(lambda: publish(int(count)))
    case _:
        sys.exit(__doc__)
loop.start()
