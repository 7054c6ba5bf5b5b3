"""Tasks beside each other, in the faces that have them: cancellation, drains, handlers, fairness."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from lab.faces import Face, block, each, got
from nats_ev import (
    KeyNotFoundError,
    PermissionsViolationError,
    ServiceError,
    Status,
)
from nats_ev.nuid import next_nuid

Steps = Coroutine[Any, Any, Any]


async def cancel(face: Face, task: Any) -> None:
    """End a task that waits, and see that it has ended by that."""
    if face.name == "green":
        task.kill()
        assert task.dead
        task.steps.close()
    else:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def joined(task: Any) -> Any:
    """Return a task's result."""
    return task.get(timeout=10) if hasattr(task, "get") else await task


def given_up(tasks: Face, begin: Callable[[Any], Steps], left: Callable[[Any], Any]) -> None:
    """Cancel a task in the middle of a call, and wait until the client has nothing left of it."""

    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            before = left(nc)
            task = face.spawn(begin(nc))
            await face.until(lambda: left(nc) != before, nc)
            await cancel(face, task)
            del task  # a greenlet keeps what has killed it, and so its frames
            await face.until(lambda: left(nc) == before, nc)

    tasks.run(scenario)


def test_a_cancelled_request_is_cancelled(tasks: Face) -> None:
    async def begin(nc: Any) -> None:
        nc.nats.subscribe("deaf", lambda *message: None)
        await got(nc.request("deaf", b"", 0))

    given_up(tasks, begin, lambda nc: nc.nats._core.under_way())


def test_a_cancelled_fetch_leaves_nothing(tasks: Face) -> None:
    async def begin(nc: Any) -> None:
        js, name = nc.jetstream(), next_nuid()
        await got(js.stream_create({"name": name, "subjects": [name], "storage": "memory"}))
        await got(js.consumer_create(name, {"durable_name": "c"}))
        nc.nats.subscribe("mark", lambda *message: None)
        await got(js.fetch(name, "c", {"batch": 5, "expires": 60_000_000_000}))

    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            task = face.spawn(begin(nc))
            # One for answers to requests, one for the mark, one for the fetch.
            await face.until(lambda: nc.subscription_count() == 3, nc)
            await cancel(face, task)
            await face.until(lambda: nc.subscription_count() == 2, nc)

    tasks.run(scenario)


def test_a_cancelled_iteration_leaves_nothing(tasks: Face) -> None:
    async def begin(nc: Any) -> None:
        async for _ in each(nc.subscribe("e")):
            pass

    def left(nc: Any) -> int:
        gc.collect()
        return nc.subscription_count()  # type: ignore[no-any-return]

    given_up(tasks, begin, left)


def test_a_cancelled_upload_leaves_no_object(tasks: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            store = nc.jetstream().object_store(next_nuid())
            await got(store.create_bucket({"storage": "memory"}))
            pieces: list[int] = []

            def endless() -> bytes:
                pieces.append(1)
                return b"x" * 100_000

            async def put() -> None:
                await got(store.put("o", endless))

            task = face.spawn(put())
            await face.until(lambda: len(pieces) > 3, nc)
            await cancel(face, task)
            before = len(pieces)
            await got(nc.flush())
            assert len(pieces) == before
            assert await got(store.list()) == []
            await got(store.delete_bucket())

    tasks.run(scenario)


def test_a_cancelled_next_loses_no_message(tasks: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            sub = nc.subscribe("e")

            async def take(seen: list[int]) -> None:
                while True:
                    seen.append(int((await got(sub.next())).payload))

            seen: list[int] = []
            for number in range(300):
                nc.publish("e", str(number))
                task = face.spawn(take(seen))
                await face.sleep(0)
                if number % 3:
                    await face.sleep(0.001)
                await cancel(face, task)
            last = face.spawn(take(seen))
            await face.until(lambda: len(seen) == 300, nc)
            assert seen == list(range(300))
            await cancel(face, last)

    tasks.run(scenario)


def test_a_timeout_of_the_framework_ends_a_call(tasks: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            nc.nats.subscribe("deaf", lambda *message: None)
            if face.name == "green":
                import gevent

                with pytest.raises(gevent.Timeout), gevent.Timeout(0.02):
                    nc.request("deaf", b"", 0)
            else:
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(nc.request("deaf", b"", 0), 0.02)
            assert not nc.nats._core.under_way()

    tasks.run(scenario)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.TaskGroup: Python 3.11")
def test_a_task_group_takes_calls_and_connects(server: Any) -> None:
    async def scenario(face: Face) -> None:
        async with asyncio.TaskGroup() as group:
            nc = await group.create_task(face.connect())
            nc.nats.subscribe("echo", lambda s, payload, reply, h: nc.publish(reply, payload))
            calls = [group.create_task(nc.request("echo", str(n))) for n in range(50)]
        assert [call.result().payload for call in calls] == [str(n).encode() for n in range(50)]
        await nc.drain()

    Face("aio", server).run(scenario)


def test_several_tasks_share_an_iterator(tasks: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            sub = nc.subscribe("e")
            seen: list[bytes] = []

            async def take() -> None:
                async for msg in each(sub):
                    seen.append(msg.payload)
                    await face.sleep(0)

            workers = [face.spawn(take()) for _ in range(5)]
            await face.sleep(0)
            for number in range(1000):
                nc.publish("e", str(number))
            await got(nc.flush())
            await got(sub.drain())
            for worker in workers:
                await joined(worker)
            assert sorted(map(int, seen)) == list(range(1000))

    tasks.run(scenario)


def test_drain_waits_for_tasks_that_still_take_messages_and_answer(tasks: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as other:
            nc = await got(face.connect())
            answers = other.subscribe("answers")
            answered = 0

            async def serve() -> None:
                nonlocal answered
                async for msg in each(nc.subscribe("e")):
                    await face.sleep(0.003)
                    msg.respond(msg.payload)
                    answered += 1

            task = face.spawn(serve())
            await face.until(lambda: nc.subscription_count() == 1, nc)
            await got(nc.flush())
            await got(other.flush())
            for number in range(40):
                nc.publish("e", str(number), "answers")
            await got(nc.drain())
            assert answered == 40
            await joined(task)
            assert [int((await got(answers.next(5000))).payload) for _ in range(40)] == list(
                range(40)
            )

    tasks.run(scenario)


def test_drain_does_not_wait_for_iterators_that_nobody_uses(tasks: Face) -> None:
    async def scenario(face: Face) -> None:
        nc = await got(face.connect())
        subs = [nc.subscribe("e") for _ in range(3)]
        for _ in range(10):
            nc.publish("e")
        await got(nc.flush())
        await got(subs[0].next())

        async def take_one() -> None:
            async for _ in each(subs[1]):
                return

        await joined(face.spawn(take_one()))
        begun = time.monotonic()
        await got(nc.drain())
        assert time.monotonic() - begun < 5  # drain_timeout is 30 s
        assert nc.status() is Status.CLOSED

    tasks.run(scenario)


def test_the_block_ends_at_once_when_it_is_cancelled(tasks: Face) -> None:
    async def scenario(face: Face) -> None:
        clients: list[Any] = []

        async def program() -> None:
            async with block(face.connect()) as nc:
                clients.append(nc)
                await got(nc.subscribe("never").next())

        task = face.spawn(program())
        await face.until(lambda: clients)
        await face.sleep(0.01)
        await cancel(face, task)
        assert clients[0].status() is Status.CLOSED

    tasks.run(scenario)


def test_a_cancelled_connect_leaves_no_client(tasks: Face) -> None:
    from nats_ev.client import core

    async def scenario(face: Face) -> None:
        before = set(core._live)
        task = face.spawn(_connect(face))
        await face.until(lambda: core._live - before)
        (nats,) = core._live - before
        await cancel(face, task)
        assert nats.status() is Status.CLOSED

    tasks.run(scenario)


async def _connect(face: Face) -> None:
    await got(face.connect(servers="nats://127.0.0.1:1", reconnect=True, reconnect_delay=60_000))


def test_handlers_of_services_may_wait(tasks: Face, excepthook: Any) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            service = nc.service("slow", "1.0.0")
            running = most = 0

            async def handle(request: Any) -> None:
                nonlocal running, most
                running += 1
                most = max(most, running)
                await face.sleep(0.02)
                running -= 1
                if request.data == b"bad":
                    raise ServiceError(400, "bad")
                if request.data == b"worse":
                    raise KeyNotFoundError("worse\nthan bad")
                request.respond(b"done " + request.data)

            def handle_in_greenlet(request: Any) -> None:
                with contextlib.suppress(StopIteration):
                    handle(request).send(None)

            subject = next_nuid()
            handler = handle_in_greenlet if face.name == "green" else handle
            endpoint = service.add_endpoint("e", handler, subject)
            calls = [face.spawn(_request(nc, subject, str(n))) for n in range(10)]
            answers = [(await joined(call)).payload for call in calls]
            assert answers == [f"done {n}".encode() for n in range(10)]
            assert most > 1
            for data, text in ((b"bad", "400:bad"), (b"worse", "500:worse than bad")):
                answer = await _request(nc, subject, data)
                assert str(ServiceError.from_headers(answer.headers)) == text
            assert [type(error) for error in excepthook] == [KeyNotFoundError]
            assert endpoint.num_errors == 2
            last = face.spawn(_request(nc, subject, b"last"))
            await face.until(lambda: running, nc)
            await got(service.stop())
            assert running == 0
            assert (await joined(last)).payload == b"done last"

    tasks.run(scenario)


async def _request(nc: Any, subject: str, data: Any) -> Any:
    return await got(nc.request(subject, data, 5000))


def test_a_drain_lets_handlers_answer(tasks: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as other:
            nc = await got(face.connect())
            begun: list[int] = []

            async def handle(request: Any) -> None:
                begun.append(1)
                await face.sleep(0.05)
                request.respond(b"late")

            def handle_in_greenlet(request: Any) -> None:
                with contextlib.suppress(StopIteration):
                    handle(request).send(None)

            subject = next_nuid()
            handler = handle_in_greenlet if face.name == "green" else handle
            nc.service("slow", "1.0.0").add_endpoint("e", handler, subject)
            await got(nc.flush())
            call = face.spawn(_request(other, subject, b""))
            await face.until(lambda: begun, nc)
            await got(nc.drain())
            assert (await joined(call)).payload == b"late"

    tasks.run(scenario)


def test_callbacks_for_events_may_wait(tasks: Face, own_server: Any) -> None:
    server = own_server(
        config='authorization { users = [{user: u, password: p, permissions: {publish: ["ok"]}}] }'
    )

    async def scenario(face: Face) -> None:
        seen: list[Any] = []

        async def on_error(error: Exception) -> None:
            await face.sleep(0.01)
            seen.append(error)

        def on_error_in_greenlet(error: Exception) -> None:
            with contextlib.suppress(StopIteration):
                on_error(error).send(None)

        hook = on_error_in_greenlet if face.name == "green" else on_error
        nc = await got(face.connect(servers=server.url, user="u", password="p", on_error=hook))
        nc.publish("no")
        await face.until(lambda: seen, nc)
        assert isinstance(seen[0], PermissionsViolationError)
        await got(nc.drain())

    tasks.run(scenario)


def test_a_coroutine_function_is_refused_where_its_result_counts(server: Any) -> None:
    async def scenario(face: Face) -> None:
        class Later:
            async def __call__(self, *args: Any) -> bytes:
                return b""

        later = Later()

        async with face.connect() as nc:
            store = nc.jetstream().object_store("b")
            for call in (
                lambda: nc.request_many("a", b"", sentinel=later),
                lambda: nc.batch(later),
                lambda: nc.service("a", "1.0.0", stats_handler=later),
            ):
                with pytest.raises(TypeError, match="must not be a coroutine function"):
                    call()
            with pytest.raises(TypeError, match="data must not be a coroutine function"):
                await store.put("a", later)

    Face("aio", server).run(scenario)


def test_an_iterator_may_be_awaited(server: Any) -> None:
    async def scenario(face: Face) -> None:
        async with face.connect() as nc:
            sub = await nc.subscribe("e")
            nc.publish("e")
            assert (await sub.next(1000)).subject == "e"
            many = nc.request_many("e", b"", 1000)
            assert await many is many

    Face("aio", server).run(scenario)


def test_an_iteration_lets_other_tasks_run(tasks: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            sub = nc.subscribe("e")
            for _ in range(400):
                nc.publish("e")
            await got(nc.flush())
            assert sub.pending == 400
            ticks: list[float] = []
            running = True

            async def tick() -> None:
                while running:
                    ticks.append(time.monotonic())
                    await face.sleep(0)

            task = face.spawn(tick())
            await face.sleep(0)
            before = len(ticks)
            taken = 0
            async for _ in each(sub):
                taken += 1
                time.sleep(0.001)  # work that does not wait
                if taken == 300:
                    break
            running = False
            assert len(ticks) - before >= 10
            await joined(task)

    tasks.run(scenario)


def test_nothing_stays_of_a_client_that_has_ended(tasks: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            sub = nc.subscribe("e")
            nc.publish("e")
            await got(sub.next())
            await got(nc.jetstream().account_info())
            ends = [weakref.ref(nc.nats), weakref.ref(nc._context)]
        del nc, sub
        await face.sleep(0.01)
        gc.collect()
        assert [end() for end in ends] == [None, None]

    tasks.run(scenario)
