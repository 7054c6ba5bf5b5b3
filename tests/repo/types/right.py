"""Right uses: neither type checker complains of any line. `lab.planted` runs them."""

from __future__ import annotations

import ssl
from datetime import timedelta
from pathlib import Path

from typing_extensions import Unpack, assert_type

from nats_ev import JetStream, Nats, NatsError, aio, blocking, pyev
from nats_ev.asyncio_loop import AsyncioLoop
from nats_ev.types import NatsOptions


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
