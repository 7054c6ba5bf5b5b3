"""The faces of JetStream, buckets and services."""

from __future__ import annotations

import asyncio
import io
from datetime import timedelta
from typing import Any

import pytest

from lab.faces import Face, block, each, got
from nats_ev import (
    KV,
    BadOptionsError,
    BucketNotFoundError,
    ConsumerDeletedError,
    JetStream,
    JsMsg,
    KeyExistsError,
    MsgAlreadyAckedError,
    NatsError,
    RequestTimeoutError,
    ServiceError,
    StreamNotFoundError,
    aio,
    blocking,
    extras,
)
from nats_ev.nuid import next_nuid

NS = 1_000_000_000


async def stream(js: Any, count: int = 0) -> str:
    """Create a stream of an own name with so many messages, and a consumer "c"."""
    name = next_nuid()
    config = {"name": name, "subjects": [f"{name}.>"], "storage": "memory"}
    assert (await got(js.stream_create(config)))["config"]["name"] == name
    for number in range(count):
        await got(js.publish(f"{name}.m", str(number)))
    await got(js.consumer_create(name, {"durable_name": "c", "ack_policy": "explicit"}))
    return name


def test_streams_consumers_and_published_messages(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            js = nc.jetstream(timeout=3000)
            assert isinstance(face.module.unwrap(js), JetStream)
            assert (js.prefix, js.timeout, js.nats) == ("$JS.API", 3000, nc.nats)
            name = await stream(js)
            ack = await got(js.publish(f"{name}.a", b"1", headers={"A": "1"}, msg_id="x"))
            assert (ack["stream"], ack["seq"]) == (name, 1)
            assert (await got(js.js_publish(f"{name}.a", b"1", msg_id="x")))["duplicate"]
            assert (await got(js.stream_info(name)))["state"]["messages"] == 1
            assert (await got(js.get_msg(name, 1))).data == b"1"
            assert name in await got(js.stream_names())
            assert await got(js.consumer_names(name)) == ["c"]
            with pytest.raises(StreamNotFoundError):
                await got(js.stream_info("missing"))
            with pytest.raises(NatsError):
                await got(js.publish("nobody.stores.this", b""))
            await got(js.stream_delete(name))

    face.run(scenario)


def test_windowed_publishing_returns_before_the_acknowledgement(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            js = nc.jetstream()
            name = await stream(js)
            laters = [js.publish_async(f"{name}.a", str(n)) for n in range(50)]
            assert js.publish_async_pending() == 50
            await got(js.publish_ready())
            await got(js.publish_async_complete())
            for number, later in enumerate(laters):
                ack = await later if isinstance(later, asyncio.Future) else later.result(1000)
                assert ack["seq"] == number + 1
            if face.name in ("green", "blocking"):
                assert laters[0].done()
                assert repr(laters[0]) == "<Later done>"
            await got(js.stream_delete(name))

    face.run(scenario)


def test_messages_are_fetched_and_acknowledged(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            js = nc.jetstream()
            name = await stream(js, 3)
            first = await got(js.next(name, "c"))
            assert isinstance(first, JsMsg)
            assert isinstance(first, face.module.JsMsg)
            assert (first.data, first.seq) == (b"0", 1)
            assert await got(first.ack_sync()) is True
            with pytest.raises(MsgAlreadyAckedError):
                first.ack()
            with pytest.raises(MsgAlreadyAckedError):
                await got(first.double_ack())
            second, third = await got(js.fetch(name, "c", {"batch": 5, "no_wait": True}))
            second.ack()
            third.nak()
            again = await got(js.next(name, "c", {"expires": timedelta(seconds=2)}))
            assert (again.data, again.metadata.num_delivered) == (b"2", 2)
            again.term()
            with pytest.raises(RequestTimeoutError):
                await got(js.next(name, "c", {"expires": timedelta(milliseconds=20)}))
            fetcher = js.ordered_fetcher(name)
            assert [m.seq for m in await got(fetcher.fetch({"batch": 2}))] == [1, 2]
            assert (await got(fetcher.next())).seq == 3
            assert fetcher.last_seq == 3
            await got(js.stream_delete(name))

    face.run(scenario)


def test_consumers_are_iterators(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            js = nc.jetstream()
            count = (
                700  # more than an iterator has room for, and than a consumer requests at a time
            )
            name = await stream(js)
            for number in range(count):
                js.publish_async(f"{name}.m", str(number))
            await got(js.publish_async_complete())
            consume = js.consume(name, "c")
            seen = []
            async for msg in each(consume):
                msg.ack()
                seen.append(int(msg.data))
                if len(seen) == count:
                    break
            assert seen == list(range(count))
            assert (consume.name, consume.stream, consume.closed) == ("c", name, False)
            await got(consume.drain())
            assert consume.closed
            config = {"opt_start_seq": 11, "deliver_policy": "by_start_sequence"}
            async with block(js.ordered_consumer(name, config)) as ordered:
                assert [int((await got(ordered.next(5000))).data) for _ in range(600)] == list(
                    range(10, 610)
                )
            push = js.push_subscribe(name, {"ack_policy": "none"})
            assert [int((await got(push.next(5000))).data) for _ in range(count)] == seen
            push.stop()
            limited = js.consume(name, "c", stop_after=1)
            await got(js.publish(f"{name}.m", b"last"))
            assert [msg.data async for msg in each(limited)] == [b"last"]
            await got(js.stream_delete(name))

    face.run(scenario)


def test_what_ends_a_consumer_is_raised_by_its_iterator(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            js = nc.jetstream()
            name = await stream(js)
            consume = js.consume(name, "c")
            await got(js.consumer_info(name, "c"))
            await got(js.consumer_delete(name, "c"))
            with pytest.raises(ConsumerDeletedError):
                async for _ in each(consume):
                    pass
            with pytest.raises(NatsError):
                await got(js.consume("missing", "c").next(10_000))
            await got(js.stream_delete(name))

    face.run(scenario)


def test_advisories_are_an_iterator(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            js = nc.jetstream()
            events = js.advisories(events="ADVISORY.STREAM.CREATED.>")
            await got(nc.flush())
            name = await stream(js)
            async for advisory in each(events):
                if advisory.stream == name:
                    break
            await got(js.stream_delete(name))

    face.run(scenario)


def test_key_value_buckets(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            js, bucket = nc.jetstream(), next_nuid()
            kv = js.key_value(bucket)
            assert (kv.bucket, kv.stream, kv.js) == (bucket, f"KV_{bucket}", js)
            with pytest.raises(BucketNotFoundError):
                await got(kv.get("a"))
            await got(kv.create_bucket({"storage": "memory", "history": 5}))
            assert await got(kv.put("a", b"1")) == 1
            assert await got(kv.get("a")) == b"1"
            assert await got(kv.get("b")) is None
            assert (await got(kv.entry("a"))).revision == 1
            with pytest.raises(KeyExistsError):
                await got(kv.create("a", b"2"))
            assert await got(kv.update("a", b"2", 1)) == 2
            assert [e.value for e in await got(kv.history("a"))] == [b"1", b"2"]
            await got(kv.put("b", b"3"))
            assert await got(kv.keys()) == ["a", "b"]
            assert sorted([key async for key in each(kv.list_keys())]) == ["a", "b"]
            assert bucket in await got(face.module.KV.bucket_names(js))
            same = face.module.KV(js, bucket, timeout=1000)
            assert await got(same.get("b")) == b"3"
            async with block(kv.watch(">")) as watch:
                seen = []
                async for entry in each(watch):
                    seen.append(entry and (entry.key, entry.value, entry.operation))
                    if entry is None:
                        await got(kv.delete("a"))
                    elif entry.operation == "DEL":
                        break
                assert seen == [
                    ("a", b"2", "PUT"), ("b", b"3", "PUT"), None, ("a", b"", "DEL")
                ]  # fmt: skip
            await got(kv.delete_bucket())

    face.run(scenario)


def test_a_watch_of_many_keys_waits_for_its_reader(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            js, bucket = nc.jetstream(), next_nuid()
            kv = js.key_value(bucket)
            await got(kv.create_bucket({"storage": "memory"}))
            count = 3000
            for number in range(count):
                js.publish_async(f"$KV.{bucket}.k{number:04}", str(number))
            await got(js.publish_async_complete())
            watch = kv.watch()
            await got(watch.next(5000))
            for _ in range(20):
                await got(nc.flush())
            assert watch.pending < count
            keys = [(await got(watch.next(5000))).key for _ in range(count - 1)]
            assert keys == [f"k{number:04}" for number in range(1, count)]
            assert await got(watch.next(5000)) is None
            watch.stop()
            await got(kv.delete_bucket())

    face.run(scenario)


def test_object_stores(face: Face, tmp_path: Any) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            store = nc.jetstream().object_store(next_nuid(), chunk_size=1000)
            await got(store.create_bucket({"storage": "memory"}))
            content = bytes(range(256)) * 40
            parts: list[bytes] = []
            info = await got(store.put("o", io.BytesIO(content), description="d"))
            assert (info["size"], info["chunks"], store.chunk_size) == (10240, 11, 1000)
            assert await got(store.get("o")) == content
            assert (await got(store.get("o", parts.append)))["name"] == "o"
            assert b"".join(parts) == content
            assert (await got(store.get("o", into=tmp_path / "file")))["size"] == 10240
            assert (tmp_path / "file").read_bytes() == content
            assert await got(store.get("missing")) is None
            assert await got(store.list()) == ["o"]
            async for info in each(store.watch()):
                if info is None:
                    break
                assert info["name"] == "o"
            assert await got(store.delete("o")) is True
            await got(store.delete_bucket())

    face.run(scenario)


def test_services(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc, block(face.connect()) as other:
            done: list[Any] = []
            service = nc.service("calc", "1.0.0", done_handler=done.append)

            def double(request: Any) -> None:
                if request.data == b"bad":
                    raise ServiceError(400, "bad number")
                request.respond(request.data * 2)

            subject = next_nuid()
            service.group(subject).add_endpoint("double", double)
            assert service.endpoints[0].name == "double"
            await got(nc.flush())
            if face.has_tasks:
                assert (await got(other.request(f"{subject}.double", b"2"))).payload == b"22"
                answer = await got(other.request(f"{subject}.double", b"bad"))
                assert str(ServiceError.from_headers(answer.headers)) == "400:bad number"
            else:  # the loop of each client runs in calls of this client only
                assert (await got(nc.request(f"{subject}.double", b"2"))).payload == b"22"
            assert await got(service.stop()) is True
            await face.until(lambda: done, nc)
            async with block(face.module.Service(nc, "again", "1.0.0")) as again:
                assert again.info()["name"] == "again"
            assert again.stopped

    face.run(scenario)


def test_an_object_of_another_face_is_refused(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            js = nc.jetstream()
            for other in {aio, blocking} - {face.module}:
                text = f"has the face {face.module.__name__}, not {other.__name__}"
                with pytest.raises(BadOptionsError, match=text):
                    other.JetStream(nc)
                with pytest.raises(BadOptionsError, match=text):
                    other.KV(js, "b")
                with pytest.raises(BadOptionsError, match=text):
                    other.Lock(js.key_value("b"), "a")

    face.run(scenario)


@pytest.mark.parametrize("name", ["Counters", "Schedules", "WorkQueue", "ConsumerGroups", "Backup"])
def test_the_callback_api_refuses_an_object_of_a_face(name: str, face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            js = nc.jetstream()
            more = ("S",) if name in ("Counters", "Schedules", "WorkQueue") else ()
            text = f"not a JetStream of {face.module.__name__}: use that module's classes"
            with pytest.raises(TypeError, match=text):
                getattr(extras, name)(js, *more)
            with pytest.raises(TypeError, match=f"KV takes a JetStream, {text}"):
                KV(js, "b")
            with pytest.raises(TypeError, match=f"not a KV of {face.module.__name__}"):
                extras.Lock(js.key_value("b"), "a")
            for of_client in (JetStream, extras.LargeMessages):
                with pytest.raises(TypeError, match=f"not a Nats of {face.module.__name__}"):
                    of_client(nc)

    face.run(scenario)
