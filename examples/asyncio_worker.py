"""A worker on asyncio: jobs from a work queue, several at a time. `asyncio_worker.py add 20` adds jobs.

On SIGTERM or Ctrl-C the worker finishes the jobs that it has begun; the others go to the next worker.
NATS_URL says where the server is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

from nats_ev import aio

URL = os.environ.get("NATS_URL", "nats://127.0.0.1:4222")
STREAM = {"name": "IMAGES", "subjects": ["images.>"], "retention": "workqueue", "storage": "memory"}
CONSUMER = {"durable_name": "workers", "ack_policy": "explicit", "max_ack_pending": 100}


async def work(jobs: aio.Consume) -> None:
    async for job in jobs:
        await asyncio.sleep(0.005)  # the work
        print(f"{job.subject} {job.data.decode()}", flush=True)
        await job.ack_sync()


async def main() -> None:
    async with aio.connect(URL, reconnect=True, retry_on_failed_connect=False) as nc:
        js = nc.jetstream()
        await js.stream_create_or_update(STREAM)
        await js.consumer_create_or_update("IMAGES", CONSUMER)
        if sys.argv[1:2] == ["add"]:
            acks = [js.publish_async("images.new", str(n)) for n in range(int(sys.argv[2]))]
            print(len(await asyncio.gather(*acks)), "jobs added")
            return
        jobs = js.consume("IMAGES", "workers", {"max_messages": 10})
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: asyncio.ensure_future(jobs.drain()))
        print("ready", flush=True)
        await asyncio.gather(*(work(jobs) for _ in range(4)))


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
