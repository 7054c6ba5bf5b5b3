"""The other process of the row "SUB only": it publishes as many messages as a client asks for.

python feeder.py HOST PORT
"""

from __future__ import annotations

import sys
from typing import Any

from nats_ev import Nats, pyev


def main(host: str, port: str) -> None:
    def feed(subject: str, payload: bytes, reply: str | None, headers: Any) -> None:
        count, size = map(int, payload.split())
        message = b"x" * size
        for _ in range(count):
            nats.publish("bench.subject", message)

    nats = Nats(host=host, port=int(port))
    nats.subscribe("bench.feed", feed)
    nats.flush(lambda error: print("ready", flush=True))
    pyev.default_loop().start()


if __name__ == "__main__":
    main(*sys.argv[1:])
