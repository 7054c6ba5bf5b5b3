"""A service that tools can discover: start several, then `service.py ask 3 4`, or `nats micro ls`.

Each request goes to one of them. On Ctrl-C or SIGTERM a service first answers what it has received.
NATS_HOST and NATS_PORT say where the server is.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from nats_ev import Nats, NatsError, Service, ServiceError, ServiceRequest, Status, pyev

loop = pyev.default_loop(debug=True)
nats = Nats(
    host=os.environ.get("NATS_HOST", "127.0.0.1"),
    port=int(os.environ.get("NATS_PORT", "4222")),
    reconnect=True,
    no_responders=True,
    retry_on_failed_connect=False,
    on_error=lambda err: on_error(err),
)


def on_error(err: NatsError) -> None:
    print("nats:", err, file=sys.stderr, flush=True)
    if nats.status() is Status.CLOSED:  # no other attempt follows
        sys.exit(1)


def add(request: ServiceRequest) -> None:
    try:
        numbers = [float(number) for number in json.loads(request.data)]
    except (TypeError, ValueError):
        raise ServiceError(400, "a list of numbers, please") from None
    request.respond(json.dumps(sum(numbers)))


def answered(response: bytes | None, err: NatsError | None, headers: bytes | None) -> None:
    error = err or ServiceError.from_headers(headers)
    if error is not None:
        sys.exit(f"error: {error}")
    print((response or b"").decode())
    nats.disconnect()


def leave(watcher: pyev.Signal, revents: int) -> None:
    for stop in stops:
        stop.stop()
    print(f"{service.stats()['endpoints'][0]['num_requests']} requests answered", flush=True)
    service.stop(lambda ok, err: nats.disconnect())


if sys.argv[1:2] == ["ask"]:
    nats.request("calc.add", json.dumps(sys.argv[2:]), answered)
else:
    service = Service(nats, name="calc", version="1.0.0", description="adds numbers")
    service.group("calc").add_endpoint("add", add, metadata={"format": "a list of numbers in JSON"})
    stops = [loop.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)]
    for stop in stops:
        stop.start()
    nats.flush(lambda err: print(err or f"ready: {service.id}", flush=True))
loop.start()
