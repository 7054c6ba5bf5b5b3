"""Chat in a room: `chat.py NAME [ROOM]`; each line of standard input is sent to the room.

The program watches standard input on the same loop as the client. At the end of the input it drains and ends.
NATS_HOST and NATS_PORT say where the server is.
"""

from __future__ import annotations

import os
import sys

from nats_ev import Headers, Nats, NatsError, Status, pyev

name = sys.argv[1] if len(sys.argv) > 1 else "somebody"
room = sys.argv[2] if len(sys.argv) > 2 else "lobby"
loop = pyev.default_loop(debug=True)
nats = Nats(
    host=os.environ.get("NATS_HOST", "127.0.0.1"),
    port=int(os.environ.get("NATS_PORT", "4222")),
    echo=False,
    reconnect=True,
    retry_on_failed_connect=False,
    on_error=lambda err: on_error(err),
)


def on_error(err: NatsError) -> None:
    print("nats:", err, file=sys.stderr, flush=True)
    if nats.status() is Status.CLOSED:  # no other attempt follows
        sys.exit(1)


def on_message(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
    speaker = Headers.parse(headers).get("Name", "?")
    print(f"<{speaker}> {payload.decode(errors='replace')}", flush=True)


def on_input(watcher: pyev.Io, revents: int) -> None:
    line = sys.stdin.buffer.readline()
    if line:
        nats.hpublish(f"chat.{room}", {"Name": name}, line.rstrip(b"\n"))
    else:
        watcher.stop()
        nats.drain()


nats.subscribe(f"chat.{room}", on_message)
nats.flush(lambda err: print(err or f"{name} is in {room}", flush=True))
loop.io(sys.stdin, pyev.EV_READ, on_input).start()
loop.start()
