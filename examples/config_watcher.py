"""Configuration that changes while the program runs: the program watches the keys under "app." of a bucket.

Set one with `config_watcher.py set app.NAME VALUE`. NATS_HOST and NATS_PORT say where the server is.
"""

from __future__ import annotations

import os
import sys

from nats_ev import KV, JetStream, KvEntry, Nats, NatsError, Status, pyev

nats = Nats(
    host=os.environ.get("NATS_HOST", "127.0.0.1"),
    port=int(os.environ.get("NATS_PORT", "4222")),
    reconnect=True,
    retry_on_failed_connect=False,
    on_error=lambda err: on_error(err),
)


def on_error(err: NatsError) -> None:
    print("nats:", err, file=sys.stderr, flush=True)
    if nats.status() is Status.CLOSED:  # no other attempt follows
        sys.exit(1)


kv = KV(JetStream(nats), "app-config")
config: dict[str, str] = {}
complete = False


def changed(entry: KvEntry | None, err: NatsError | None) -> None:
    global complete
    if err is not None:
        sys.exit(f"configuration lost: {err}")
    if entry is None:
        complete = True
        print(f"started with {config}", flush=True)
        return
    name = entry.key.removeprefix("app.")
    if entry.deleted:
        config.pop(name, None)
    else:
        config[name] = entry.value.decode()
    if complete:
        print(f"{name} is now {config.get(name, 'unset')}", flush=True)


def done(revision: int | None, err: NatsError | None) -> None:
    if err is not None:
        sys.exit(f"error: {err}")
    print(f"revision {revision}")
    nats.disconnect()


kv.create_bucket()
match sys.argv[1:]:
    case []:
        kv.watch("app.>", changed)
    case ["set", name, value]:
        kv.put(name, value, done)
    case _:
        sys.exit(__doc__)
pyev.default_loop(debug=True).start()
