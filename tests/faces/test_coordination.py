"""Locks, elections and many keys in the faces: awaited, as context managers, cancelled."""

from __future__ import annotations

import asyncio
import itertools
import time
from datetime import timedelta
from typing import Any

import pytest

from lab.faces import block, each, got
from nats_ev.extras import LeaseLostError, NotReentrantError

pytestmark = pytest.mark.usefixtures("needs_ttl")
_numbers = itertools.count(1)


async def bucket_of(nc: Any, **config: Any) -> Any:
    kv = nc.jetstream().key_value(f"faces{next(_numbers)}")
    config.setdefault("limit_marker_ttl", timedelta(seconds=1))
    await got(kv.create_bucket({"storage": "memory", **config}))
    return kv


def test_lock_in_a_block(face):
    async def scenario(face: Any) -> None:
        async with block(face.connect()) as nc:
            kv = await bucket_of(nc)
            lock, other = face.module.Lock(kv, "a", owner="me"), face.module.Lock(kv, "a")
            async with block(lock) as held:
                assert held is lock
                assert lock.held
                assert lock.token > 0
                assert await got(other.try_acquire()) is None
                with pytest.raises(TimeoutError):
                    await got(other.acquire(timeout=50))
                with pytest.raises(NotReentrantError):
                    await got(lock.acquire())
                assert (await got(other.queue()))[0] == ("me", "", lock.token)
            assert not lock.held
            token = await got(other.acquire())
            assert other.held
            assert token == other.token
            assert await got(other.release()) is True
            assert await got(other.release()) is False
            with pytest.raises(RuntimeError, match="mine"):
                async with block(lock):
                    raise RuntimeError("mine")
            assert not lock.held
            pool = face.module.Semaphore(kv, "pool", 2)
            assert pool.permits == 2
            async with block(pool):
                assert pool.held

    face.run(scenario)


def test_block_ends_with_an_error_when_the_lock_was_lost(face):
    async def scenario(face: Any) -> None:
        async with block(face.connect()) as nc:
            kv = await bucket_of(nc)
            lost: list[Any] = []
            lock = face.module.Lock(kv, "a", lease=1000, on_lost=lost.append)
            with pytest.raises(LeaseLostError):
                async with block(lock):
                    (key,) = await got(kv.get_many("a.*"))
                    await got(kv.purge(key))
                    while lock.held:
                        await got(nc.rtt())
            assert isinstance(lost[0], LeaseLostError)
            async with block(lock):
                assert lock.lost is None

    face.run(scenario)


def test_election(face):
    async def scenario(face: Any) -> None:
        async with block(face.connect()) as nc:
            kv = await bucket_of(nc)
            elected: list[int] = []
            election = face.module.Election(
                kv, "head", id="me", value="here", on_elected=elected.append
            )
            leaders = election.observe()
            token = await got(election.campaign())
            assert election.leading
            assert (election.id, election.token) == ("me", token)
            leader = await got(election.leader())
            assert (leader.owner, leader.value, leader.token) == ("me", "here", token)
            async for seen in each(leaders):
                if seen is not None:
                    assert seen == leader
                    break
            leaders.close()
            assert await got(election.resign()) is True
            assert await got(election.leader()) is None
            async with block(election):
                await got(election.campaign())
            assert not election.leading
            assert elected == [token, elected[1]]

    face.run(scenario)


def test_lock_of_a_blocking_program_is_renewed_in_the_background(server):
    from nats_ev import blocking

    with blocking.connect(server.url, background=True) as nc:
        kv = nc.jetstream().key_value(f"faces{next(_numbers)}")
        kv.create_bucket({"limit_marker_ttl": timedelta(seconds=1), "storage": "memory"})
        with blocking.Lock(kv, "a", lease=1000) as lock:
            token, until = lock.token, time.monotonic() + 2.5
            while time.monotonic() < until:
                time.sleep(0.05)
            assert lock.held
            assert lock.token == token
        assert not lock.held


def test_lock_of_a_client_whose_loop_stands_still_is_lost(server):
    """And the end of the block says so."""
    from nats_ev import blocking

    with blocking.connect(server.url) as nc:
        kv = nc.jetstream().key_value(f"faces{next(_numbers)}")
        kv.create_bucket({"limit_marker_ttl": timedelta(seconds=1), "storage": "memory"})
        with pytest.raises(LeaseLostError), blocking.Lock(kv, "a", lease=1000) as lock:
            while lock.held:
                time.sleep(0.05)


def test_cancelled_acquire_keeps_nothing(server):
    """Also one that is cancelled in the moment in which it has its turn."""
    from nats_ev import aio

    async def scenario() -> None:
        async with aio.connect(server.url) as nc:
            kv = await bucket_of(nc)
            holder, lock = aio.Lock(kv, "a"), aio.Lock(kv, "a")
            for _ in range(10):
                await holder.acquire()
                task = asyncio.create_task(lock.acquire())
                while len(await holder.queue()) < 2:
                    await asyncio.sleep(0)
                await holder.release()
                while not lock.held:
                    await asyncio.sleep(0)
                if not task.cancel():
                    await task
                    await lock.release()
                    continue
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert not lock.held
            await holder.acquire()
            task = asyncio.create_task(lock.acquire())
            while len(await holder.queue()) < 2:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while len(await holder.queue()) > 1:
                await asyncio.sleep(0)
            await holder.release()

    asyncio.run(asyncio.wait_for(scenario(), 30))


@pytest.mark.since(2, 12)
def test_many_keys(face):
    async def scenario(face: Any) -> None:
        async with block(face.connect()) as nc:
            kv = await bucket_of(nc, allow_atomic=True)
            revisions = await got(kv.put_many({"a": b"1", "b": b"2"}, revisions={"a": 0}))
            assert list(revisions) == ["a", "b"]
            entries = await got(kv.get_many(["a", "b", "c"]))
            assert {key: entry.value for key, entry in entries.items()} == {"a": b"1", "b": b"2"}
            assert {key: entry.revision for key, entry in entries.items()} == revisions
            await got(kv.put("a", b"3", ttl=5000))
            assert await got(kv.touch("a")) > revisions["b"]

    face.run(scenario)
