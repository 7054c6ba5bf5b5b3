"""Right uses: neither type checker complains of any line. `lab.planted` runs them."""

from __future__ import annotations

import ssl
from datetime import timedelta
from pathlib import Path

from typing_extensions import Unpack, assert_type

from nats_ev import KV, JetStream, JsMsg, Nats, NatsError, ObjectStore, Service, aio, blocking, pyev
from nats_ev.asyncio_loop import AsyncioLoop
from nats_ev.types import (
    NatsOptions,
    PubAck,
    PublishOptions,
    ResultCallback,
    StreamConfig,
    StreamInfo,
)


def on_error(err: NatsError) -> None:
    print(err)


async def on_error_later(err: NatsError) -> None:
    print(err)


def my_client(**options: Unpack[NatsOptions]) -> Nats:
    return Nats(**options)


nats = Nats(
    host="127.0.0.1",
    port=4222,
    loop=pyev.default_loop(),
    reconnect=True,
    reconnect_delay=timedelta(seconds=1),
    connect_timeout=500,
    keepalive=timedelta(minutes=1),
    creds_file=Path("user.creds"),
    tls_context=ssl.create_default_context(),
    user_cb=lambda: ("user", "password"),
    signature_cb=lambda nonce: nonce[:64],
    on_error=on_error,
    on_slow_consumer=lambda pending_bytes: print(pending_bytes + 1),
    on_discovered_servers=lambda urls: print(urls[0].upper()),
)
Nats(servers=["nats://a", "nats://b"], loop=AsyncioLoop())
my_client(servers="nats://a,nats://b", ping_interval=1000)
options: NatsOptions = {"host": "127.0.0.1", "reconnect": True}
Nats(**options)

assert_type(nats.ping_interval(), float)
assert_type(nats.ping_interval(timedelta(seconds=5)), float)
assert_type(nats.max_payload(), int)
nats.on_error(None)
nats.on_connect(lambda: print("connected"))
assert_type(nats.stats()["msgs_in"], int)
if (sub := nats.subscription_info(1)) is not None:
    assert_type(sub["subject"], str)

js = JetStream(nats, timeout=timedelta(seconds=5))
js.publish("a", b"", lambda ack, err: print(ack), msg_id="1", ttl=timedelta(minutes=1))

with blocking.connect("nats://127.0.0.1:4222", reconnect=True, background=True) as client:
    assert_type(client.request("a", b"").payload, bytes)


async def main() -> None:
    async with aio.connect(reconnect=True, on_error=on_error_later) as nc:
        nc.publish("a", b"1")
        print((await nc.request("a", b"")).payload)


# JetStream.
def on_info(info: StreamInfo | None, err: NatsError | None) -> None:
    if info is not None:
        assert_type(info["state"]["messages"], int)
        print(info["config"]["name"], info.get("cluster", {}).get("leader"))
        js.stream_update({**info["config"], "max_age": timedelta(days=2)}, on_info)


def on_message(msg: JsMsg | None, err: NatsError | None) -> None:
    if msg is not None:
        msg.ack_sync(lambda done, err: print(done, err))


config: StreamConfig = {
    "name": "S",
    "subjects": ["s.>"],
    "storage": "memory",
    "max_age": timedelta(days=1),
}
js.stream_create(config, on_info)
js.stream_create(
    {"name": "T", "mirror": {"name": "S", "domain": "hub"}, "max_age": 60_000_000_000}, on_info
)
js.stream_info("S", on_info)
js.stream_info("S", cb=on_info)
js.stream_info(
    "S", {"subjects_filter": "s.*"}, lambda info, err: print(info and info["config"]["name"])
)
js.consumer_create(
    "S", {"durable_name": "c", "ack_wait": timedelta(seconds=30)}, lambda info, err: None
)
js.consume("S", "c", on_message, on_error=on_error, stop_after=5)
js.consume("S", "c", {"max_messages": 10, "expires": timedelta(seconds=5)}, on_message)
js.ordered_consumer("S", on_message, on_start=lambda info: print(info["num_pending"]))
js.fetch("S", "c", {"batch": 5}, lambda msgs, err: print([msg.seq for msg in msgs or []]))
js.fetch("S", "c", lambda number, err: print(number or 0 + 1), on_msg=lambda msg: print(msg.data))
js.account_info(lambda info, err: print(info and info["api"].get("level")))
js.publish("s.1", b"", lambda ack, err: print(ack["seq"] if ack else err))

# Buckets.
kv = KV(js, "config", timeout=500)
kv.create_bucket({"history": 5, "ttl": timedelta(hours=1), "compression": True})
kv.put("a", "1", lambda revision, err: print(revision and revision + 1))
kv.get("a", lambda value, err: print(value and value.decode()))
kv.watch("a.>", lambda entry, err: print(entry and entry.revision))
kv.status(lambda status, err: print(status and status["values"]))
store = ObjectStore(js, "files")
store.put("a", Path("a"), lambda info, err: print(info and info["size"]))
store.get("a", lambda data, err: print(data and data.decode()))
store.get("a", Path("b"), lambda info, err: print(info and info["name"]))
store.status(lambda status, err: print(status and status["sealed"]))
ObjectStore.buckets(js, lambda found, err: print([each["sealed"] for each in found or []]))

# Services.
service = Service(nats, name="math", version="1.0.0")
service.add_endpoint("add", lambda request: request.respond(request.data))
assert_type(service.info()["endpoints"][0]["subject"], str)


async def with_results() -> None:
    async with aio.connect() as nc:
        jetstream = nc.jetstream()
        info = await jetstream.stream_info("S")
        assert_type(info["state"]["last_seq"], int)
        ack = await jetstream.publish("s.1", b"")
        assert_type(ack["seq"], int)
        async for entry in jetstream.key_value("config").watch():
            print(entry and entry.key)
        assert_type(await jetstream.object_store("files").get("a"), "bytes | None")
        assert_type((await jetstream.fetch("S", "c", {"batch": 2}))[0].seq, int)
        assert_type(await jetstream.fetch("S", "c", on_msg=lambda msg: msg.ack()), int)


def wrapped(**options: Unpack[PublishOptions]) -> None:
    done: ResultCallback[PubAck] = lambda ack, err: print(ack, err)  # noqa: E731
    js.publish("s.1", b"", done, **options)
