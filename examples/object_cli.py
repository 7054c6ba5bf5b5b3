"""Files in an object store: `object_cli.py put FILE [NAME]`, `get NAME FILE`, `ls`, `stat NAME`, `rm NAME`.

The program streams files of any size. It uses the store "objects", and creates it if it does not exist.
NATS_HOST and NATS_PORT say where the server is.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from nats_ev import JetStream, Nats, NatsError, ObjectStore, pyev

nats = Nats(
    host=os.environ.get("NATS_HOST", "127.0.0.1"),
    port=int(os.environ.get("NATS_PORT", "4222")),
    on_error=lambda err: sys.exit(f"nats: {err}"),
)
store = ObjectStore(JetStream(nats), "objects")


def show(result: Any, err: NatsError | None) -> None:
    if err is not None:
        sys.exit(f"error: {err}")
    if isinstance(result, dict):
        print(
            f"{result['name']}: {result['size']} bytes in {result['chunks']} parts, {result['digest']}"
        )
    elif isinstance(result, list):
        print(*result, sep="\n")
    else:
        print("done" if result else sys.exit("not found"))
    nats.disconnect()


def progress(done: int, total: int | None) -> None:
    if total and sys.stderr.isatty():
        print(f"\r{done * 100 // total} %", end="", file=sys.stderr)


def run(info: Any, err: NatsError | None) -> None:
    if err is not None:
        sys.exit(f"error: {err}")
    try:
        task()
    except OSError as exc:  # of the file
        sys.exit(f"error: {exc}")


match sys.argv[1:]:
    case ["put", file, *name] if len(name) < 2:
        target = name[0] if name else Path(file).name
        task = partial(store.put, target, Path(file), show, progress=progress)
    case ["get", name, file]:
        task = partial(store.get, name, Path(file), show, progress=progress)
    case ["ls"]:
        task = partial(store.list, show)
    case ["stat", name]:
        task = partial(store.info, name, show)
    case ["rm", name]:
        task = partial(store.delete, name, show)
    case _:
        sys.exit(__doc__)
store.create_bucket({}, run)
pyev.default_loop(debug=True).start()
