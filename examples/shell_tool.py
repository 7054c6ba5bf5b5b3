"""NATS in a shell's pipes: a line is a message.

    tail -f app.log | shell_tool.py pub logs.app      each line of standard input
    shell_tool.py pub logs.app 'one line'
    shell_tool.py sub 'logs.>' | grep error           each message as a line, until Ctrl-C
    shell_tool.py sub 'logs.>' 10                     the next ten
    shell_tool.py request service.upper hello         the answer, within 5 seconds

The exit status is 0 if all went well, else 1. NATS_HOST and NATS_PORT say where the server is.
"""

from __future__ import annotations

import os
import sys

from nats_ev import Nats, NatsError, pyev

loop = pyev.default_loop(debug=True)  # what a callback raises ends the program
nats = Nats(
    host=os.environ.get("NATS_HOST", "127.0.0.1"),
    port=int(os.environ.get("NATS_PORT", "4222")),
    no_responders=True,
    on_error=lambda err: sys.exit(f"nats: {err}"),
)


def end(err: NatsError | None = None) -> None:
    """Drain, and so send or print all; sys.exit on an error."""
    if err is not None:
        sys.exit(f"error: {err}")
    nats.drain(lambda err: sys.exit(f"error: {err}") if err else None)


def show(payload: bytes) -> None:
    try:
        sys.stdout.buffer.write(payload + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def publish_lines(subject: str) -> None:
    rest = b""

    def on_input(watcher: pyev.Io, revents: int) -> None:
        nonlocal rest
        data = os.read(sys.stdin.fileno(), 65536)
        *lines, rest = (rest + data).split(b"\n")
        if not data and rest:
            lines.append(rest)  # the last line had no end
        for line in lines:
            nats.publish(subject, line)
        if not data:
            watcher.stop()
            end()

    def connected(err: NatsError | None) -> None:
        if err is not None:
            sys.exit(f"error: {err}")
        loop.io(sys.stdin, pyev.EV_READ, on_input).start()

    nats.flush(connected)


def subscribe(subject: str, count: int) -> None:
    left = count

    def on_message(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
        nonlocal left
        show(payload)
        left -= 1
        if not left:
            end()

    if count:
        nats.subscribe_max(subject, on_message, count)
    else:
        nats.subscribe(subject, on_message)


def answered(response: bytes | None, err: NatsError | None, headers: bytes | None) -> None:
    if response is not None:
        show(response)
    end(err)


try:
    match sys.argv[1:]:
        case ["pub", subject]:
            publish_lines(subject)
        case ["pub", subject, *words]:
            nats.publish(subject, " ".join(words))
            end()
        case ["sub", subject, *count] if len(count) < 2 and "".join(count or "0").isdecimal():
            subscribe(subject, int(count[0]) if count else 0)
        case ["request", subject, *words]:
            nats.request(subject, " ".join(words), answered, 5000)
        case _:
            sys.exit(__doc__)
    loop.start()
except ValueError as exc:  # a subject that is none
    sys.exit(f"error: {exc}")
except KeyboardInterrupt:
    nats.disconnect()
