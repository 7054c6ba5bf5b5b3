"""`ObjectStore`: content of any size in a stream, in parts (ADR-20).

A store ``b`` is the stream ``OBJ_b``: parts under ``$O.b.C.<nuid>``, and for each name one message
under ``$O.b.M.`` that tells which parts are its content. Only public methods of `JetStream` are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, cast

from ._buckets import (
    BadObjectMetaError,
    Callback,
    ObjectExistsError,
    ObjectLinkError,
    ObjectNotFoundError,
    attempt,
    bucket_error,
    check_bucket,
    check_cb,
    completion,
    later,
)
from ._object_bucket import ObjectBucket
from ._object_get import Download, Into, sink_of
from ._object_meta import (
    CHUNK_SIZE,
    Info,
    check_name,
    encode,
    link_of,
    meta_fields,
    meta_subject,
    names,
    parse,
)
from ._object_put import Data, Upload, remove_chunks, source_of
from ._object_watch import ObjectWatch
from ._watch import collect
from .errors import BadOptionsError, ConnectionLostError, NatsError
from .headers import HeadersLike
from .jetstream import JetStream, StoredMsg
from .jetstream.errors import MessageNotFoundError, WrongLastSequenceError
from .nuid import next_nuid
from .options import callable_or_none

WatchCallback = Callable[["Info | None", "NatsError | None"], object]

# How many links are followed, one leading to the next, and how often a change is tried against others.
_MAX_LINKS = 8
_MAX_ATTEMPTS = 20
# After a lost connection, before an object is looked for again.
_RETRY_WAIT_MS = 50.0


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
        self.chunk_size = _check_chunk_size(chunk_size)

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
        size = self.chunk_size if chunk_size is None else _check_chunk_size(chunk_size)
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
        upload = Upload(self, info, source, progress, done)
        try:
            upload.start()
        except NatsError:
            source.close()
            raise
        return upload

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
        check_cb(cb)
        callable_or_none(progress, "progress")
        check_name(name)
        sink = sink_of(cast(Into, into))
        download = Download(self, name, sink, progress, cb)
        try:
            self._find(name, download, _MAX_LINKS)
        except NatsError:
            sink.abandon()
            raise
        return download

    def _find(self, name: str, download: Download, links: int) -> None:
        """Start a download of the object, behind all links to it."""

        def found(info: Info | None, error: NatsError | None) -> None:
            if download.done:
                return
            if isinstance(error, ConnectionLostError):
                later(
                    self.js.nats,
                    _RETRY_WAIT_MS,
                    lambda: attempt(found, look),
                    lambda: download.fail(error),
                )
            elif error is not None:
                download.fail(error)
            elif info is None or info["deleted"]:
                download.missing()
            elif (link := link_of(info)) is None:
                download.start(self, info)
            else:
                follow(link)

        def follow(link: Mapping[str, Any]) -> None:
            target = link.get("name")
            if not target:
                download.fail(ObjectLinkError(f"{name} is a link to bucket {link.get('bucket')!r}"))
            elif not links:
                download.fail(ObjectLinkError(f"too many links: {name}"))
            else:
                bucket = link.get("bucket") or self.bucket
                try:
                    store = self if bucket == self.bucket else ObjectStore(self.js, bucket)
                    store._find(target, download, links - 1)
                except NatsError as exc:
                    download.fail(exc)

        def look() -> None:
            self.last_info(name, found)

        look()

    # What there is.

    def info(self, name: str, cb: Callback, *, show_deleted: bool = False) -> None:
        """An object's info; ``cb(None, None)`` when it is missing or deleted. A link's is its own."""
        check_cb(cb)

        def found(info: Info | None, error: NatsError | None) -> None:
            cb(info if info is not None and (show_deleted or not info["deleted"]) else None, error)

        self.last_info(check_name(name), found)

    def list(self, cb: Callback, *, show_deleted: bool = False) -> None:
        """The names of all objects, sorted; ``cb([name, …], err)``. Deleted ones only with show_deleted."""
        check_cb(cb)

        def listed(infos: Any, error: NatsError | None) -> None:
            cb(names(infos) if error is None else None, error)

        self.list_infos(listed, show_deleted=show_deleted)

    def list_infos(self, cb: Callback, *, show_deleted: bool = False) -> None:
        """The infos of all objects, in the order in which they were put; ``cb([info, …], err)``."""
        check_cb(cb)

        def collected(found: Any, error: NatsError | None) -> None:
            if error is not None:
                cb(None, error)
                return
            infos: dict[str, Info] = {}
            for info in found:  # an object that was put meanwhile comes again
                infos.pop(info["name"], None)
                infos[info["name"]] = info
            cb([i for i in infos.values() if show_deleted or not i["deleted"]], None)

        collect(self.js, self.watch, collected)

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
        check_cb(cb)
        if updates_only and include_history:
            raise BadOptionsError("updates_only excludes include_history")
        policy = "new" if updates_only else "all" if include_history else "last_per_subject"
        watch = ObjectWatch(self.js, self.bucket, cb, ignore_deletes=ignore_deletes)
        watch.start(self.stream, f"$O.{self.bucket}.M.", [">"], {"deliver_policy": policy})
        return watch

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
                remove_chunks(self, info["nuid"], lambda: done(True, None))

        self._change(check_name(name), change, changed)

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
            self._change(name, change, done)
        else:
            self._rename(name, new_name, change, done)

    def _rename(
        self,
        name: str,
        new_name: str,
        change: Callable[[Info | None], Info | NatsError],
        done: Callback,
    ) -> None:
        def found(info: Info | None, error: NatsError | None) -> None:
            changed = error if error is not None else change(info)
            if isinstance(changed, NatsError):
                done(None, changed)
                return
            assert info is not None
            old_seq = info["seq"]

            def take(target: Info | None) -> Info | NatsError:
                if target is not None and not target["deleted"]:
                    return ObjectExistsError(f"an object already exists with that name: {new_name}")
                return changed

            def taken(info: Info | None, error: NatsError | None) -> None:
                if info is None:
                    done(None, error)
                    return
                opts = {"filter": meta_subject(self.bucket, name), "seq": old_seq + 1}

                def purged(result: Any, error: NatsError | None) -> None:
                    done(info if error is None else None, bucket_error(error))

                attempt(done, lambda: self.js.stream_purge(self.stream, opts, purged))

            attempt(done, lambda: self._change(new_name, take, taken))

        self.last_info(name, found)

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
        store = self if bucket in (None, self.bucket) else ObjectStore(self.js, str(bucket))

        def found(info: Info | None, error: NatsError | None) -> None:
            if error is None and (info is None or info["deleted"]):
                error = ObjectNotFoundError(f"object not found: {other}")
            elif error is None and info is not None and link_of(info) is not None:
                error = ObjectLinkError(f"{other} is a link itself")
            if error is not None:
                done(None, error)
            else:
                link = {"bucket": store.bucket, "name": other}
                attempt(done, lambda: self._put_link(name, link, done))

        store.last_info(other, found)

    def add_bucket_link(
        self, name: str, bucket: str | ObjectStore, cb: Callback | None = None
    ) -> None:
        """Let name lead to a whole store; ``cb(info, err)``. `get` of it is an `ObjectLinkError`."""
        done = completion(self.js, cb)
        target = bucket.bucket if isinstance(bucket, ObjectStore) else check_bucket(bucket)
        self._put_link(check_name(name), {"bucket": target}, done)

    def _put_link(self, name: str, link: Mapping[str, str], done: Callback) -> None:
        def change(info: Info | None) -> Info | NatsError:
            if info is not None and not info["deleted"] and link_of(info) is None:
                return ObjectExistsError(f"an object already exists with that name: {name}")
            return {
                "name": name,
                "options": {"link": dict(link)},
                "bucket": self.bucket,
                "nuid": next_nuid(),
                "size": 0,
                "chunks": 0,
            }

        self._change(name, change, done)

    # Infos, as they are stored. Also for uploads and downloads.

    def last_info(self, name: str, cb: Callback) -> None:
        """An object's info, deleted or not, from the stream's leader; (None, None) when there is none."""

        def found(message: StoredMsg | None, error: NatsError | None) -> None:
            if message is None:
                cb(None, None if isinstance(error, MessageNotFoundError) else bucket_error(error))
                return
            try:
                info = parse(self.bucket, message.data, message.time, message.seq)
            except BadObjectMetaError as exc:
                cb(None, exc)
                return
            cb(info, None)

        self.js.get_msg(self.stream, {"last_by_subj": meta_subject(self.bucket, name)}, found)

    def publish_info(self, info: Info, old: Info | None, cb: Callback) -> None:
        """Store an info in place of old; ``cb(info, err)``, `WrongLastSequenceError` when it is not."""

        def stored(ack: Any, error: NatsError | None) -> None:
            if error is not None:
                cb(None, bucket_error(error))
                return
            # The server knows the time to the nanosecond; this saves asking for it.
            now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            cb(
                {**info, "mtime": now, "seq": ack["seq"], "deleted": info.get("deleted", False)},
                None,
            )

        self.js.publish(
            meta_subject(self.bucket, info["name"]),
            encode(info),
            stored,
            rollup="sub",
            expect_last_subject_seq=old["seq"] if old is not None else 0,
        )

    def _change(
        self, name: str, change: Callable[[Info | None], Info | NatsError], cb: Callback
    ) -> None:
        """Store what change makes of a name's info, whoever else may be changing it."""
        attempts = 0

        def found(info: Info | None, error: NatsError | None) -> None:
            changed = error if error is not None else change(info)
            if isinstance(changed, NatsError):
                cb(None, changed)
            else:
                attempt(cb, lambda: self.publish_info(changed, info, stored))

        def stored(info: Info | None, error: NatsError | None) -> None:
            nonlocal attempts
            attempts += 1
            if isinstance(error, WrongLastSequenceError) and attempts < _MAX_ATTEMPTS:
                attempt(cb, lambda: self.last_info(name, found))
            else:
                cb(info, error)

        self.last_info(name, found)


def _check_chunk_size(size: object) -> int:
    if type(size) is not int:
        raise TypeError(f"chunk_size must be an int, not {type(size).__name__}")
    if size < 1:
        raise BadOptionsError(f"chunk_size must be 1 or more, not {size}")
    return size
