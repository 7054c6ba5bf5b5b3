"""A key-value bucket on the command line.

`kv_store.py get KEY`, `put KEY VALUE`, `delete KEY`, `keys`, `history KEY`. The program uses the bucket
"example", and creates it if it does not exist. NATS_HOST and NATS_PORT say where the server is.
"""

from __future__ import annotations

import os
import sys
from functools import partial
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
        sys.exit(f"error: {err}")
    if result is None:
        sys.exit("no such key")
    if isinstance(result, list):
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
    if err is not None:
        sys.exit(f"error: {err}")
    task()


match sys.argv[1:]:
    case ["get", key]:
        task = partial(kv.get, key, show)
    case ["put", key, value]:
        task = partial(kv.put, key, value, show)
    case ["delete", key]:
        task = partial(kv.delete, key, show)
    case ["keys"]:
        task = partial(kv.keys, show)
    case ["history", key]:
        task = partial(kv.history, key, show)
    case _:
        sys.exit(__doc__)
kv.create_bucket({"history": 10}, run)
pyev.default_loop(debug=True).start()
