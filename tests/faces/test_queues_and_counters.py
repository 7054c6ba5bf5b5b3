"""The faces of counters, schedules and work queues."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from lab.faces import Face, block, got
from nats_ev import MessageNotFoundError
from nats_ev.extras import JobRejectedError
from nats_ev.nuid import next_nuid


def test_counters_have_a_face(face: Face, since: Any) -> None:
    if not since(2, 12):
        pytest.skip("counters: nats-server 2.12")

    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            js = nc.jetstream()
            name = next_nuid()
            counters = face.module.Counters(js, name)
            await got(counters.create_stream({"subjects": [f"{name}.>"], "storage": "memory"}))
            assert await got(counters.add(f"{name}.a", 3)) == 3
            assert await got(counters.increment(f"{name}.a", n=2)) == 5
            assert await got(counters.get_multiple(f"{name}.*")) == {f"{name}.a": 5}
            with pytest.raises(MessageNotFoundError):
                await got(counters.get(f"{name}.b"))
            await got(js.stream_delete(name))

    face.run(scenario)


def test_schedules_have_a_face(face: Face, since: Any) -> None:
    if not since(2, 12):
        pytest.skip("schedules: nats-server 2.12")

    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            js = nc.jetstream()
            name = next_nuid()
            schedules = face.module.Schedules(js, name)
            await got(schedules.create_stream({"subjects": [f"{name}.>"], "storage": "memory"}))
            when = datetime.now(timezone.utc) + timedelta(hours=1)
            await got(schedules.at(f"{name}.a", when, f"{name}.b", b"x"))
            assert [each.subject for each in await got(schedules.list())] == [f"{name}.a"]
            await got(schedules.stop(f"{name}.a", f"{name}.b", b"early"))
            assert await got(schedules.cancel(f"{name}.a")) is False
            with pytest.raises(MessageNotFoundError):
                await got(schedules.get(f"{name}.a"))
            await got(js.stream_delete(name))

    face.run(scenario)


def test_a_work_queue_has_a_face(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            js = nc.jetstream()
            name = next_nuid()
            queue = face.module.WorkQueue(js, name, attempts=2, backoff=[1])
            await got(queue.create())
            seen: list[bytes] = []

            def plain(job: Any) -> None:
                seen.append(job.data)
                if job.data == b"bad":
                    raise JobRejectedError("no such job")

            async def asynchronous(job: Any) -> None:
                await face.sleep(0.001)
                plain(job)

            handler = asynchronous if face.name.startswith("aio") else plain
            worker = queue.work(handler, concurrency=2)
            assert isinstance(worker, face.module.Worker)
            assert (await got(queue.put(b"good")))["seq"] == 1
            await got(queue.put(b"bad"))
            await face.until(lambda: worker.done == 1 and worker.dead == 1, nc)
            assert await got(worker.drain()) is True
            assert sorted(seen) == [b"bad", b"good"]
            (letter,) = await got(queue.dead_letters())
            assert (letter.data, letter.reason) == (b"bad", "no such job")
            assert await got(queue.redrive()) == 1
            for each in (queue.stream, queue.dead_stream, f"{name}-EVENTS"):
                await got(js.stream_delete(each))

    face.run(scenario)


def test_a_handler_of_a_face_may_call_done_or_be_cancelled(tasks: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            js = nc.jetstream()
            name = next_nuid()
            queue = face.module.WorkQueue(js, name, attempts=2, backoff=[1])
            await got(queue.create())

            def plain(job: Any, done: Any) -> None:
                if job.attempt == 1:
                    raise SystemError("once")
                done()

            async def asynchronous(job: Any, done: Any) -> None:
                if job.attempt == 1:
                    raise asyncio.CancelledError
                done()

            handler = asynchronous if face.name.startswith("aio") else plain
            worker = queue.work(handler)
            await got(queue.put(b"x"))
            await face.until(lambda: worker.done == 1, nc)
            assert worker.failed == 1
            worker.stop()
            for each in (queue.stream, queue.dead_stream, f"{name}-EVENTS"):
                await got(js.stream_delete(each))

    tasks.run(scenario)
