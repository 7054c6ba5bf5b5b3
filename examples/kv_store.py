"""A bucket from the command line.

`kv_store.py get KEY`, `put KEY VALUE`, `delete KEY`, `keys`, `history KEY`. The bucket is called
"example" and is made when it does not exist. NATS_HOST and NATS_PORT say where the server is.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from nats_ev import KV, JetStream, Nats, NatsError, pyev

nats = Nats(
    host=os.environ.get("NATS_HOST", "127.0.0.1"),
    port=int(os.environ.get("NATS_PORT", "4222")),
    on_error=lambda err: sys.exit(f"nats: {err}"),
)
kv = KV(JetStream(nats), "example")


def show(result: Any, err: NatsError | None) -> None:
    if err is not None:
        print(f"error: {err}")
    elif isinstance(result, list):
        for item in result:
            print(
                item
                if isinstance(item, str)
                else f"{item.revision} {item.operation} {item.value!r}"
            )
    else:
        print(result.decode() if isinstance(result, bytes) else result)
    nats.disconnect()


def run(info: Any, err: NatsError | None) -> None:
    match sys.argv[1:]:
        case ["get", key]:
            kv.get(key, show)
        case ["put", key, value]:
            kv.put(key, value, show)
        case ["delete", key]:
            kv.delete(key, show)
        case ["keys"]:
            kv.keys(show)
        case ["history", key]:
            kv.history(key, show)
        case _:
            print(__doc__)
            nats.disconnect()


kv.create_bucket({"history": 10}, run)
pyev.default_loop().start()
