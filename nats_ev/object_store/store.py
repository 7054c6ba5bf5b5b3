"""`ObjectStore`: content of any size in a stream, in parts (ADR-20).

A store ``b`` is the stream ``OBJ_b``: parts under ``$O.b.C.<nuid>``, and for each name one message
under ``$O.b.M.`` that tells which parts are its content. Only public methods of `JetStream` are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, cast

from ..arguments import Callback, callable_or_none, check_callback, integer
from ..buckets import (
    ObjectNotFoundError,
    WatchEngine,
    check_bucket,
    collect,
    completion,
)
from ..errors import BadOptionsError, NatsError
from ..headers import HeadersLike
from ..jetstream import JetStream
from ..nuid import next_nuid
from .bucket import ObjectBucket
from .download import Download, ObjectReader
from .infos import Infos
from .links import Search, add_link, put_link
from .meta import (
    CHUNK_SIZE,
    Info,
    check_name,
    meta_fields,
    names,
)
from .sinks import Into, sink_of
from .sources import Data, source_of
from .upload import ObjectWriter, Upload
from .watch import ObjectWatch, info_reader

WatchCallback = Callable[["Info | None", "NatsError | None"], object]


class ObjectStore(ObjectBucket):
    """The store of a name. Making one asks nothing of the server: see `create_bucket`.

    Callbacks are ``cb(result, err)``, the last argument or a keyword. Where one may be left out, errors
    go to the client's on_error. An object's info is a dict: name, bucket, nuid, size, chunks, digest,
    mtime, deleted, seq (its revision), and if there are any description, headers, metadata, options.

    Args:
        chunk_size: bytes per part, for objects that are put without one.
        timeout: for each answer, in ms or a timedelta, in place of that of js.

    Raises `InvalidBucketNameError`.
    """

    def __init__(
        self,
        js: JetStream,
        bucket: str,
        chunk_size: int = CHUNK_SIZE,
        timeout: float | timedelta | None = None,
    ) -> None:
        super().__init__(js if timeout is None else JetStream(js.nats, js.prefix, timeout), bucket)
        self._infos = Infos(self.js, self.bucket)
        self.chunk_size = integer(chunk_size, "chunk_size", 1)

    # Content.

    def put(
        self,
        name: str,
        data: Data,
        cb: Callback | None = None,
        *,
        description: str | None = None,
        headers: HeadersLike | None = None,
        metadata: Mapping[str, str] | None = None,
        chunk_size: int | None = None,
        progress: Callable[[int, int | None], object] | None = None,
    ) -> Upload:
        """Store an object, in place of the one that has the name; ``cb(info, err)`` when it is complete.

        Until then readers get the former one, whose parts are removed then. After an error nothing is
        left of the new one, unless the client has ended: then nobody could remove it. A lost connection
        is got over when it comes back within 30 s. Memory needed does not depend on the object's size,
        unless data is in memory.

        Args:
            data: bytes-like or str (UTF-8), a path (`os.PathLike`), a binary file, an iterable of
                bytes-like pieces, or a function that returns the next piece and in the end b"" or None.
                Read as the server takes it.
            description, headers, metadata: kept with it.
            chunk_size: bytes per part; at most the server's max_payload.
            progress: ``progress(bytes stored, bytes in all or None)`` now and then.

        Returns the `Upload`, which can be cancelled. Raises OSError when a path can't be opened.
        """
        done = completion(self.js, cb)
        callable_or_none(progress, "progress")
        check_name(name)
        fields = meta_fields(description, headers, metadata)
        size = self.chunk_size if chunk_size is None else integer(chunk_size, "chunk_size", 1)
        info: Info = {
            "name": name,
            **fields,
            "options": {"max_chunk_size": size},
            "bucket": self.bucket,
            "nuid": next_nuid(),
            "size": 0,
            "chunks": 0,
        }
        source = source_of(data, size)
        writer = ObjectWriter(self._infos, info, source, progress, done)
        try:
            writer.start()
        except NatsError:
            source.close()
            raise
        return Upload(writer)

    def get(
        self,
        name: str,
        into: Into | Callback = None,
        cb: Callback | None = None,
        *,
        progress: Callable[[int, int], object] | None = None,
    ) -> Download:
        """Read an object, or what a link leads to; ``cb(None, None)`` when it is missing or deleted.

        ``cb(bytes, err)``; with into ``cb(info, err)``. Success means that size and digest are right.
        A lost connection is got over, with reconnect.

        Args:
            into: a path (`os.PathLike`): the file of that name appears or changes when all is there; a
                binary file to be written to, or ``into(part)`` for each part: after an error what they
                have had is not the object.
            progress: ``progress(bytes so far, bytes in all)`` for each part.

        Returns the `Download`, which can be paused and cancelled. Raises OSError when the file can't be
        made. Errors: `DigestMismatchError`, `ObjectIncompleteError`, `ObjectChangedError` when it was
        replaced meanwhile, `ObjectLinkError`, `ObjectTransferError` when what takes it has failed.
        """
        if cb is None:
            into, cb = None, cast(Callback, into)
        check_callback(cb)
        callable_or_none(progress, "progress")
        check_name(name)
        sink = sink_of(cast(Into, into))
        reader = ObjectReader(self._infos, name, sink, progress, cb)
        try:
            Search(self._infos, name, reader).start()
        except NatsError:
            sink.abandon()
            raise
        return Download(reader)

    # What there is.

    def info(self, name: str, cb: Callback, *, show_deleted: bool = False) -> None:
        """An object's info; ``cb(None, None)`` when it is missing or deleted. A link's is its own."""
        check_callback(cb)

        def found(info: Info | None, error: NatsError | None) -> None:
            cb(info if info is not None and (show_deleted or not info["deleted"]) else None, error)

        self._infos.last(check_name(name), found)

    def list(self, cb: Callback, *, show_deleted: bool = False) -> None:
        """The names of all objects, sorted; ``cb([name, …], err)``. Deleted ones only with show_deleted."""
        check_callback(cb)

        def listed(infos: Any, error: NatsError | None) -> None:
            cb(names(infos) if error is None else None, error)

        self.list_infos(listed, show_deleted=show_deleted)

    def list_infos(self, cb: Callback, *, show_deleted: bool = False) -> None:
        """The infos of all objects, in the order in which they were put; ``cb([info, …], err)``."""
        check_callback(cb)

        def collected(found: Any, error: NatsError | None) -> None:
            if error is not None:
                cb(None, error)
                return
            infos: dict[str, Info] = {}
            for info in found:  # an object that was put meanwhile comes again
                infos.pop(info["name"], None)
                infos[info["name"]] = info
            cb([i for i in infos.values() if show_deleted or not i["deleted"]], None)

        collect(self.js, self._start_watch, collected)

    def watch(
        self,
        cb: WatchCallback,
        *,
        include_history: bool = False,
        ignore_deletes: bool = False,
        updates_only: bool = False,
    ) -> ObjectWatch:
        """Every change of objects, from now until `ObjectWatch.stop`, after what they are now.

        ``cb(info, None)`` for each object, deleted ones included; ``cb(None, None)`` once when that was
        all; then an info per change. ``cb(None, err)`` once when it can't go on.

        Args:
            include_history: former infos, too, should the store have any.
            ignore_deletes: no infos of deletions.
            updates_only: only changes from now on; the ``cb(None, None)`` comes at once.
        """
        check_callback(cb)
        if updates_only and include_history:
            raise BadOptionsError("updates_only excludes include_history")
        policy = "new" if updates_only else "all" if include_history else "last_per_subject"
        return ObjectWatch(self._start_watch(cb, policy, ignore_deletes=ignore_deletes))

    def _start_watch(
        self, cb: WatchCallback, policy: str = "last_per_subject", *, ignore_deletes: bool = False
    ) -> WatchEngine:
        read = info_reader(self.bucket)
        engine = WatchEngine(self.js, self.bucket, read, cb, ignore_deletes=ignore_deletes)
        engine.start(self.stream, f"$O.{self.bucket}.M.", [">"], {"deliver_policy": policy})
        return engine

    # Changes.

    def delete(self, name: str, cb: Callback | None = None) -> None:
        """Delete an object; ``cb(True, err)``, `ObjectNotFoundError` when there never was one."""
        done = completion(self.js, cb)

        def change(info: Info | None) -> Info | NatsError:
            if info is None:
                return ObjectNotFoundError(f"object not found: {name}")
            return {**info, "deleted": True, "size": 0, "chunks": 0, "digest": ""}

        def changed(info: Info | None, error: NatsError | None) -> None:
            if info is None:
                done(None, error)
            else:
                self._infos.remove_content(info["nuid"], lambda: done(True, None))

        self._infos.change(check_name(name), change, changed)

    def update_meta(self, name: str, meta: Mapping[str, Any], cb: Callback | None = None) -> None:
        """Change what is kept with an object; what meta does not name stays. ``cb(info, err)``.

        meta: name (renames it), description, headers, metadata. `ObjectNotFoundError`, and
        `ObjectExistsError` when another object has the new name.
        """
        done = completion(self.js, cb)
        check_name(name)
        if not isinstance(meta, Mapping):
            raise TypeError(f"meta must be a mapping, not {type(meta).__name__}")
        for field in meta:
            if field not in ("name", "description", "headers", "metadata"):
                raise BadOptionsError(f"unknown field {field!r} in object meta")
        new_name = check_name(meta.get("name", name))
        fields = meta_fields(meta.get("description"), meta.get("headers"), meta.get("metadata"))

        def change(info: Info | None) -> Info | NatsError:
            if info is None or info["deleted"]:
                return ObjectNotFoundError(f"object not found: {name}")
            return {**info, **fields, "name": new_name}

        if new_name == name:
            self._infos.change(name, change, done)
        else:
            self._infos.rename(name, new_name, change, done)

    def add_link(
        self,
        name: str,
        target: str | Mapping[str, Any],
        cb: Callback | None = None,
        *,
        bucket: str | None = None,
    ) -> None:
        """Let name lead to another object: `get` of the one reads the other. ``cb(info, err)``.

        target: its name, in this store or in that of bucket, or its info. `ObjectNotFoundError` when it
        does not exist, `ObjectLinkError` when it is a link, `ObjectExistsError` when name is an object.
        """
        done = completion(self.js, cb)
        check_name(name)
        if isinstance(target, Mapping):
            bucket, target = target.get("bucket", bucket), target.get("name", "")
        other = check_name(target)
        store = self._infos if bucket is None else self._infos.of_bucket(str(bucket))
        add_link(self._infos, name, store, other, done)

    def add_bucket_link(
        self, name: str, bucket: str | ObjectStore, cb: Callback | None = None
    ) -> None:
        """Let name lead to a whole store; ``cb(info, err)``. `get` of it is an `ObjectLinkError`."""
        done = completion(self.js, cb)
        target = bucket.bucket if isinstance(bucket, ObjectStore) else check_bucket(bucket)
        put_link(self._infos, check_name(name), {"bucket": target}, done)
