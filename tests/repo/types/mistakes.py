"""Mistakes on purpose: each type checker must report each line that has a mark, and no other one.

A mark has the code of mypy and the rule of pyright. `lab.planted` compares; `right.py` has the right uses.
"""

# fmt: off
from __future__ import annotations

from typing import Any

from nats_ev import KV, JetStream, Nats, NatsError, ObjectStore, Service, aio, blocking, green
from nats_ev.types import StreamInfo


def takes_nothing() -> None: ...
def takes_a_number(number: int) -> None: ...
def on_error(err: NatsError) -> None: ...


anything: Any = "nats://127.0.0.1"

# Options.
Nats(reconect=True)  # expect: call-arg | reportCallIssue
Nats(host=5)  # expect: arg-type | reportArgumentType
Nats(port="4222")  # expect: arg-type | reportArgumentType
Nats(anything)  # expect: call-arg | reportCallIssue
Nats(servers=[1, 2])  # expect: list-item | reportArgumentType
Nats(loop=5)  # expect: arg-type | reportArgumentType
Nats(reconnect="yes")  # expect: arg-type | reportArgumentType
Nats(reconnect_delay="2 s")  # expect: arg-type | reportArgumentType
Nats(tls_context=True)  # expect: arg-type | reportArgumentType
Nats(on_error=takes_nothing)  # expect: arg-type | reportArgumentType
Nats(on_connect=on_error)  # expect: arg-type | reportArgumentType
Nats(user_cb=lambda: "user")  # expect: arg-type,return-value | reportArgumentType
aio.connect(reconect=True)  # expect: call-arg | reportCallIssue
aio.connect(port="4222")  # expect: arg-type | reportArgumentType
aio.connect(loop=None)  # expect: call-arg | reportCallIssue
blocking.connect(name=5)  # expect: arg-type | reportArgumentType
blocking.connect(background=True, reconect=True)  # expect: call-arg | reportCallIssue
green.connect(max_payload="1")  # expect: arg-type | reportArgumentType

# Accessors.
nats = Nats()
nats.ping_interval("5")  # expect: call-overload | reportArgumentType
nats.max_payload(1.5)  # expect: call-overload | reportArgumentType
nats.on_error(takes_nothing)  # expect: arg-type | reportArgumentType
nats.on_error(1)  # expect: call-overload | reportArgumentType
interval: str = nats.ping_interval()  # expect: assignment | reportAssignmentType
print(nats.stats()["messages"])  # expect: typeddict-item | reportGeneralTypeIssues

# JetStream.
js = JetStream(nats, timeout="5 s")  # expect: arg-type | reportArgumentType


def on_info(info: StreamInfo | None, err: NatsError | None) -> None: ...
def on_bytes(data: bytes | None, err: NatsError | None) -> None: ...


js.stream_create({"name": "S", "subject": ["s"]}, on_info)  # expect: typeddict-unknown-key | reportArgumentType
js.stream_create({"subjects": ["s"]}, on_info)  # expect: typeddict-item | reportArgumentType
js.stream_create({"name": "S", "storage": "disk"}, on_info)  # expect: typeddict-item | reportArgumentType
js.stream_create({"name": "S", "max_age": 1.5}, on_info)  # expect: typeddict-item | reportArgumentType
js.stream_create({"name": "S"}, on_bytes)  # expect: arg-type | reportArgumentType
js.stream_info("S", {"filter": "s"}, on_info)  # expect: arg-type | reportArgumentType
js.consumer_create("S", {"durable": "c"}, print)  # expect: typeddict-unknown-key | reportArgumentType
js.consumer_create("S", {"ack_policy": "exact"}, print)  # expect: typeddict-item | reportArgumentType
js.stream_info("S", lambda info, err: info["state"])  # expect: index | reportOptionalSubscript
js.stream_info("S", takes_nothing)  # expect: arg-type | reportArgumentType
js.consume("S", "c", on_info)  # expect: arg-type | reportArgumentType
js.publish("s.1", b"", print, msg_ids="1")  # expect: call-arg | reportCallIssue
js.publish("s.1", b"", print, ttl=b"1")  # expect: arg-type | reportArgumentType

# Buckets and services.
KV(nats, "config")  # expect: arg-type | reportArgumentType
kv = KV(js, "config")
kv.create_bucket({"histroy": 5})  # expect: arg-type | reportArgumentType
kv.put("a", 5)  # expect: arg-type | reportArgumentType
kv.get("a", on_info)  # expect: arg-type | reportArgumentType
kv.status(lambda status, err: print(status and status["sealed"]))  # expect: typeddict-item | reportGeneralTypeIssues
ObjectStore(js, "files").create_bucket({"history": 5})  # expect: arg-type | reportArgumentType
ObjectStore(js, "files").update_meta("a", {"nam": "b"})  # expect: typeddict-unknown-key | reportArgumentType
Service(nats, name="math")  # expect: call-arg | reportCallIssue
Service(nats, name="math", version=1)  # expect: arg-type | reportArgumentType


async def awaited() -> None:
    nc = await aio.connect()
    nc.publish(5)  # expect: arg-type | reportArgumentType
    jetstream = nc.jetstream()
    info = await jetstream.stream_info("S")
    print(info["states"])  # expect: typeddict-item | reportGeneralTypeIssues
    await jetstream.create_stream({"nane": "S"})  # expect: typeddict-item,typeddict-unknown-key | reportArgumentType
    await jetstream.key_value("config").put("a")  # expect: call-arg | reportCallIssue
