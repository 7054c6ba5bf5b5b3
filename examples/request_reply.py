"""Two small services and a client: `request_reply.py service`, `client`, or `both` in one process (default).

NATS_HOST and NATS_PORT say where the server is.
"""

from __future__ import annotations

import os
import sys
import time

from nats_ev import Nats, NatsError, pyev

mode = sys.argv[1] if len(sys.argv) > 1 else "both"
nats = Nats(
    host=os.environ.get("NATS_HOST", "127.0.0.1"),
    port=int(os.environ.get("NATS_PORT", "4222")),
    no_responders=True,
    on_error=lambda err: sys.exit(f"nats: {err}"),
)


def upper(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
    if reply:
        nats.publish(reply, payload.upper())


def clock(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
    if reply:
        nats.publish(reply, time.strftime("%H:%M:%S"))


def ask(*questions: tuple[str, str]) -> None:
    """Ask the questions one after the other, then drain."""
    if not questions:
        nats.drain()
        return
    (subject, text), *rest = questions

    def answered(response: bytes | None, err: NatsError | None, headers: bytes | None) -> None:
        print(f"{subject}: {err if response is None else response.decode()}", flush=True)
        if err is not None and subject != "service.missing":
            sys.exit(1)
        ask(*rest)

    nats.request(subject, text, answered, 2000)


if mode not in ("service", "client", "both"):
    sys.exit(__doc__)
if mode in ("service", "both"):
    nats.subscribe("service.upper", upper, "upper")
    nats.subscribe("service.time", clock, "time")
if mode in ("client", "both"):
    ask(("service.upper", "hello"), ("service.time", ""), ("service.missing", ""))
pyev.default_loop(debug=True).start()
