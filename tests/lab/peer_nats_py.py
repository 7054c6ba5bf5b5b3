"""A peer for the cross tests, on nats-py. Protocol: see tests/lab/peers.py."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import nats
import nats.micro
from nats.js.api import KeyValueConfig, ObjectMeta, ObjectMetaOptions, RePublish
from nats.js.errors import (
    KeyDeletedError,
    KeyNotFoundError,
    NoKeysError,
    NotFoundError,
    ObjectDeletedError,
    ObjectNotFoundError,
)

MISSING = (
    KeyDeletedError,
    KeyNotFoundError,
    NotFoundError,
    ObjectNotFoundError,
    ObjectDeletedError,
)


class Peer:
    """One method per operation: kv.put is `kv_put`."""

    async def connect(self, url: str) -> None:
        self.nc = await nats.connect(url)
        self.js = self.nc.jetstream()
        self.services: dict[str, Any] = {}

    async def ready(self) -> str:
        return nats.__name__

    async def kv_create_bucket(self, bucket: str, **options: Any) -> None:
        ttl, marker = options.pop("ttl_ms", None), options.pop("marker_ttl_ms", None)
        if "republish" in options:
            options["republish"] = RePublish(**options["republish"])
        await self.js.create_key_value(
            KeyValueConfig(
                bucket=bucket,
                ttl=ttl and ttl / 1000,
                limit_marker_ttl=marker and marker / 1000,
                direct=True,
                **options,
            )
        )

    async def kv_put(self, bucket: str, key: str, value: str) -> int:
        return await (await self.js.key_value(bucket)).put(key, value.encode())

    async def kv_create(self, bucket: str, key: str, value: str, ttl_s: float | None = None) -> int:
        kv = await self.js.key_value(bucket)
        return await kv.create(key, value.encode(), msg_ttl=ttl_s)

    async def kv_update(self, bucket: str, key: str, value: str, revision: int) -> int:
        return await (await self.js.key_value(bucket)).update(key, value.encode(), revision)

    async def kv_get(self, bucket: str, key: str, revision: int | None = None) -> Any:
        try:
            return entry(await (await self.js.key_value(bucket)).get(key, revision))
        except MISSING:
            return None

    async def kv_delete(self, bucket: str, key: str, revision: int | None = None) -> None:
        await (await self.js.key_value(bucket)).delete(key, revision)

    async def kv_purge(self, bucket: str, key: str, ttl_s: float | None = None) -> None:
        await (await self.js.key_value(bucket)).purge(key, msg_ttl=ttl_s)

    async def kv_delete_bucket(self, bucket: str) -> None:
        await self.js.delete_key_value(bucket)

    async def kv_keys(self, bucket: str) -> list[str]:
        try:
            return sorted(await (await self.js.key_value(bucket)).keys())
        except NoKeysError:
            return []

    async def kv_purge_deletes(self, bucket: str) -> None:
        await (await self.js.key_value(bucket)).purge_deletes(olderthan=-1)

    async def kv_history(self, bucket: str, key: str) -> list[Any]:
        return [entry(e) for e in await (await self.js.key_value(bucket)).history(key)]

    async def kv_status(self, bucket: str) -> Any:
        status = await (await self.js.key_value(bucket)).status()
        return {
            "bucket": status.bucket,
            "values": status.values,
            "history": status.history,
            "ttl_ms": (status.ttl or 0) * 1000,
            "marker_ttl_ms": (status.marker_ttl or 0) * 1000,
        }

    async def kv_watch(
        self,
        bucket: str,
        count: int,
        key: str = ">",
        started: str | None = None,
        **options: bool,
    ) -> list[Any]:
        kv = await self.js.key_value(bucket)
        watch = await kv.watch(key, **options)
        if started:
            await kv.put(started, b"watching")
        found: list[Any] = []
        while len(found) < count:
            update = await watch.updates(timeout=10)
            if update is not None and update.key != started:
                found.append(entry(update))
        await watch.stop()
        return found

    async def obj_create_bucket(self, bucket: str, description: str | None = None) -> None:
        await self.js.create_object_store(bucket, description=description)

    async def obj_put(
        self,
        bucket: str,
        name: str,
        path: str,
        description: str | None = None,
        headers: dict[str, str] | None = None,
        chunk_size: int | None = None,
    ) -> Any:
        options = ObjectMetaOptions(max_chunk_size=chunk_size) if chunk_size else None
        meta = ObjectMeta(name=name, description=description, headers=headers, options=options)
        store = await self.js.object_store(bucket)
        with open(path, "rb") as file:
            return info(await store.put(name, file, meta=meta))

    async def obj_get(self, bucket: str, name: str, path: str) -> Any:
        store = await self.js.object_store(bucket)
        try:
            with open(path, "wb") as file:
                result = await store.get(name, writeinto=file)
                file.write(result.data or b"")  # what a link leads to does not go into file
        except MISSING:
            return None
        return info(result.info)

    async def obj_info(self, bucket: str, name: str) -> Any:
        try:
            return info(await (await self.js.object_store(bucket)).get_info(name))
        except MISSING:
            return None

    async def obj_delete(self, bucket: str, name: str) -> None:
        await (await self.js.object_store(bucket)).delete(name)

    async def obj_list(self, bucket: str) -> list[str]:
        try:
            found = await (await self.js.object_store(bucket)).list(ignore_deletes=True)
        except MISSING:
            return []
        return sorted(o.name for o in found)

    async def obj_watch(self, bucket: str, count: int, started: str) -> list[Any]:
        watch = await (await self.js.object_store(bucket)).watch()
        await (await self.js.key_value(started)).put("started", b"")
        found: list[Any] = []
        while len(found) < count:
            update = await watch.updates(timeout=10)
            if update is not None:
                found.append(info(update))
        await watch.stop()
        return found

    async def obj_update(self, bucket: str, name: str, meta: dict[str, Any]) -> None:
        store = await self.js.object_store(bucket)
        await store.update_meta(name, ObjectMeta(**meta))

    async def obj_seal(self, bucket: str) -> bool:
        store = await self.js.object_store(bucket)
        await store.seal()
        return (await store.status()).sealed

    async def obj_status(self, bucket: str) -> Any:
        status = await (await self.js.object_store(bucket)).status()
        return {
            "bucket": status.bucket,
            "size": status.size,
            "sealed": status.sealed,
            "description": status.description,
        }

    async def svc_start(self, name: str, version: str, **options: Any) -> str:
        service = await nats.micro.add_service(self.nc, name=name, version=version, **options)
        group = service.add_group(name="peer")

        async def echo(request: Any) -> None:
            await request.respond(request.data)

        async def fail(request: Any) -> None:
            await request.respond_error("418", "teapot")

        async def crash(request: Any) -> None:
            raise nats.micro.request.ServiceError("418", "teapot")

        await group.add_endpoint(name="echo", handler=echo, metadata={"kind": "echo"})
        await service.add_endpoint(name="fail", subject="fail.now", handler=fail)
        await service.add_endpoint(name="crash", handler=crash)
        await fence(self.nc)
        self.services[name] = service
        return str(service.id)

    async def svc_stop(self, name: str) -> None:
        await self.services.pop(name).stop()

    async def svc_discover(self, name: str, id: str | None = None) -> Any:
        """nats-py has no client for discovery: what the subjects answer."""
        found: dict[str, Any] = {}
        for verb in ("PING", "INFO", "STATS"):
            subject = f"$SRV.{verb}.{name}" + (f".{id}" if id else "")
            message = await self.nc.request(subject, timeout=5)
            found[verb.lower()] = [json.loads(message.data)]
        return found

    async def svc_request(self, subject: str, data: str = "") -> Any:
        message = await self.nc.request(subject, data.encode(), timeout=5)
        headers = message.headers or {}
        error = None
        if "Nats-Service-Error-Code" in headers:
            error = {
                "code": headers["Nats-Service-Error-Code"],
                "description": headers["Nats-Service-Error"],
            }
        return {"data": message.data.decode(), "error": error}


async def fence(nc: Any) -> None:
    """Wait until the server has all that was sent before.

    Twice: nats-py writes the PING of a flush before what is still in its own buffer.
    """
    await nc.flush()
    await nc.flush()


def entry(found: Any) -> Any:
    return {
        "key": found.key,
        "value": (found.value or b"").decode(),
        "revision": found.revision,
        "operation": found.operation or "PUT",
        "delta": found.delta,
        "created": found.created.isoformat() if found.created else None,
    }


def info(found: Any) -> Any:
    fields = ("name", "bucket", "nuid", "size", "chunks", "digest", "description", "headers")
    link = found.options and found.options.link
    return {
        **{field: getattr(found, field) for field in fields},
        "deleted": bool(found.deleted),
        "options": {"link": {"bucket": link.bucket, "name": link.name}} if link else {},
    }


async def main() -> None:
    peer = Peer()
    await peer.connect(sys.argv[1])
    running = set()

    async def answer(id: int, op: str, args: dict[str, Any]) -> None:
        try:
            result = {"ok": await getattr(peer, op.replace(".", "_"))(**args)}
        except Exception as exc:
            code = getattr(exc, "err_code", None)
            result = {"err": str(exc) or type(exc).__name__, "code": code}
        print(json.dumps({"id": id, **result}), flush=True)

    while line := await asyncio.to_thread(sys.stdin.readline):
        call = json.loads(line)
        task = asyncio.create_task(answer(call["id"], call["op"], call["args"]))
        running.add(task)
        task.add_done_callback(running.discard)
    await peer.nc.close()


asyncio.run(main())
