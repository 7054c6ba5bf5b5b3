"""Requests and answers above max_payload: a service that reverses documents, and a client that sends one.

`large_messages.py [SIZE]` is both, with a document of SIZE bytes. NATS_HOST and NATS_PORT say where the
server is.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys

from nats_ev import NatsError, aio
from nats_ev.extras import LargeMessageNotUnderstoodError

HOST = os.environ.get("NATS_HOST", "127.0.0.1")
PORT = int(os.environ.get("NATS_PORT", "4222"))


async def serve(nc: aio.Nats, ready: asyncio.Event) -> None:
    """Answer on documents.reverse, with others of this queue group."""
    large = aio.LargeMessages(nc)
    async with large.subscribe("documents.reverse", queue_group="workers") as requests:
        await nc.flush()
        ready.set()
        async for msg in requests:
            print(f"a document of {len(msg.payload)} bytes", flush=True)
            msg.respond(msg.payload[::-1])


async def main(size: int) -> None:
    server, client = aio.connect(host=HOST, port=PORT), aio.connect(host=HOST, port=PORT)
    async with server as serving, client as nc:
        ready = asyncio.Event()
        service = asyncio.create_task(serve(serving, ready))
        await ready.wait()
        large = aio.LargeMessages(nc)
        document = os.urandom(size)
        print(f"max_payload is {nc.max_payload()}")
        answer = await large.request("documents.reverse", document, timeout=20_000)
        print("sha256", hashlib.sha256(answer.payload[::-1]).hexdigest()[:12])
        assert answer.payload[::-1] == document
        # Who does not know large messages gets one that says so.
        nc.nats.subscribe("documents.old", lambda s, p, reply, h: nc.nats.publish(reply, b"what?"))
        try:
            await large.request("documents.old", document)
        except LargeMessageNotUnderstoodError as exc:
            print("error:", exc)
        service.cancel()


try:
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000))
except NatsError as exc:
    sys.exit(f"error: {exc}")
