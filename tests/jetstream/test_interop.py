"""nats-py and nats_ev on the same streams: each creates, publishes and consumes what the other made."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

nats_py = pytest.importorskip("nats", reason="nats-py is not installed")

Official = Callable[[Callable[[Any], Awaitable[Any]]], Any]


@pytest.fixture
def official(js: Any, run: Any) -> Any:
    """official(work): ``await work(js)`` with nats-py's context, in a thread of its own; its result."""
    url = js.nats.connected_url()

    async def with_client(work: Any) -> Any:
        nc = await nats_py.connect(url)
        try:
            return await work(nc.jetstream())
        finally:
            await nc.close()

    with ThreadPoolExecutor(1) as pool:

        def official(work: Any) -> Any:
            future: Future[Any] = pool.submit(lambda: asyncio.run(with_client(work)))
            run(future.done)
            return future.result()

        yield official


def test_official_client_reads_what_we_made_and_published(js, call, official):
    call(js.stream_create, {"name": "OURS", "subjects": ["ours.>"], "storage": "memory"})
    for i in range(20):
        call(js.publish, f"ours.{i}", f"zwölf {i}", headers={"N": str(i)}, msg_id=f"id{i}")
    call(js.consumer_create, "OURS", {"durable_name": "c", "ack_policy": "explicit"})

    async def work(theirs: Any) -> Any:
        info = await theirs.stream_info("OURS")
        duplicate = await theirs.publish("ours.1", b"", headers={"Nats-Msg-Id": "id1"})
        sub = await theirs.pull_subscribe_bind("c", "OURS")
        messages = await sub.fetch(20)
        for msg in messages:
            await msg.ack_sync()
        seen = [(m.subject, m.data.decode(), m.headers["N"]) for m in messages]
        return info.state.messages, duplicate.duplicate, seen

    count, duplicate, seen = official(work)
    assert (count, duplicate) == (20, True)
    assert seen == [(f"ours.{i}", f"zwölf {i}", str(i)) for i in range(20)]
    assert call(js.consumer_info, "OURS", "c")[0]["num_ack_pending"] == 0


def test_we_read_what_the_official_client_made_and_published(js, call, run, official):
    from nats.js.api import ConsumerConfig

    async def work(theirs: Any) -> None:
        await theirs.add_stream(name="THEIRS", subjects=["theirs.*"])
        for i in range(20):
            await theirs.publish(f"theirs.{i}", b"%d" % i, headers={"N": str(i)})
        await theirs.add_consumer("THEIRS", ConsumerConfig(durable_name="c", ack_policy="explicit"))

    official(work)
    info, _ = call(js.stream_info, "THEIRS")
    assert call(js.stream_update, info["config"])[1] is None
    info, _ = call(js.consumer_info, "THEIRS", "c")
    assert call(js.consumer_update, "THEIRS", info["config"])[1] is None
    got: list[Any] = []

    def on_message(msg: Any, err: Any) -> None:
        assert err is None
        got.append((msg.subject, msg.data, msg.header("N")))
        msg.ack()

    consume = js.consume("THEIRS", "c", on_message)
    run(lambda: len(got) == 20)
    consume.stop()
    assert got == [(f"theirs.{i}", b"%d" % i, str(i)) for i in range(20)]
    ordered_got: list[Any] = []
    ordered = js.ordered_consumer("THEIRS", lambda msg, err: ordered_got.append(msg.data))
    run(lambda: len(ordered_got) == 20)
    ordered.stop()


def test_both_work_on_one_consumer_and_nothing_is_done_twice(js, call, run, official):
    call(js.stream_create, {"name": "BOTH", "subjects": ["both"], "storage": "memory"})
    for i in range(100):
        call(js.publish, "both", str(i))
    call(js.consumer_create, "BOTH", {"durable_name": "c", "ack_policy": "explicit"})
    ours: list[int] = []

    def on_message(msg: Any, err: Any) -> None:
        if msg is not None:
            ours.append(int(msg.data))
            msg.ack()

    consume = js.consume("BOTH", "c", {"max_messages": 4}, on_message)

    async def work(theirs: Any) -> list[int]:
        sub = await theirs.pull_subscribe_bind("c", "BOTH")
        seen = []
        # nats-py raises the one or the other.
        with contextlib.suppress(asyncio.TimeoutError, nats_py.errors.TimeoutError):
            while True:
                for msg in await sub.fetch(4, timeout=0.3):
                    seen.append(int(msg.data))
                    await msg.ack()
        return seen

    theirs = official(work)
    run(lambda: len(ours) + len(theirs) >= 100)
    consume.stop()
    assert sorted(ours + theirs) == list(range(100))


def test_push_consumers_of_both_kinds(js, call, run, official):
    call(js.stream_create, {"name": "PUSH", "subjects": ["push"], "storage": "memory"})
    for i in range(10):
        call(js.publish, "push", str(i))
    config = {"durable_name": "d", "deliver_subject": "to.d", "ack_policy": "explicit"}
    call(js.consumer_create, "PUSH", config)

    async def work(theirs: Any) -> list[bytes]:
        info = await theirs.consumer_info("PUSH", "d")
        sub = await theirs.subscribe_bind("PUSH", consumer="d", config=info.config)
        seen = []
        for _ in range(4):
            msg = await sub.next_msg(timeout=5)
            seen.append(msg.data)
            await msg.ack_sync()
        await sub.unsubscribe()
        return seen

    assert official(work) == [b"0", b"1", b"2", b"3"]
    call(js.consumer_update, "PUSH", {**config, "ack_wait": 10**8})
    got: set[bytes] = set()
    push = js.push_subscribe("PUSH", "d", lambda msg, err: (got.add(msg.data), msg.ack()))
    run(lambda: got == {b"%d" % i for i in range(4, 10)}, 40)
    push.stop()
