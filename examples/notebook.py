"""What a notebook does, cell by cell: each call returns its result, also where asyncio runs already.

NATS_URL says where the server is.
"""

# %% Connect. With reconnect=True the client survives an afternoon between two cells.
import json
import os

from nats_ev import blocking

nc = blocking.connect(
    os.environ.get("NATS_URL", "nats://127.0.0.1:4222"),
    reconnect=True,
    retry_on_failed_connect=False,
)

# %% Write some measurements.
kv = nc.jetstream().key_value("measurements")
kv.create_bucket({"storage": "memory", "history": 5})
for city, degrees in (("rome", 31), ("oslo", 17), ("rome", 33)):
    kv.put(city, json.dumps({"degrees": degrees}))

# %% Look at them.
for key in sorted(kv.keys()):
    print(key, json.loads(kv.get(key) or b"{}"))
print([json.loads(entry.value)["degrees"] for entry in kv.history("rome")])

# %% Follow what comes, for as long as wanted.
with kv.watch("oslo", updates_only=True) as changes:
    next(changes)  # None: the watch has begun
    kv.put("oslo", json.dumps({"degrees": 16}))
    entry = next(changes)
    if entry is not None:
        print(f"{entry.key} is now {entry.value.decode()}")

# %% Clean up.
kv.delete_bucket()
nc.drain()
