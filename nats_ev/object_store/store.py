"""`ObjectStore`: content of any size in a stream, in parts (ADR-20).

A store ``b`` is the stream ``OBJ_b``. The parts of a content are messages on ``$O.b.C.<nuid>``. For each
name there is one message under ``$O.b.M.``, the object's info, which names the nuid of its content. An
object is as its info says, so every operation here reads or replaces an info (`infos`), and some also move
content (`upload`, `download`). Only public methods of `JetStream` are used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, cast, overload

from ..arguments import Callback, ResultCallback, callable_or_none, integer
from ..buckets import (
    BadObjectMetaError,
    ObjectInfo,
    ObjectLink,
    ObjectMeta,
    ObjectNotFoundError,
    WatchEngine,
    check_bucket,
    collect,
    completion,
    guarded,
    optional_before_cb,
)
from ..errors import BadOptionsError, NatsError
from ..headers import HeadersLike
from ..jetstream import JetStream
from ..nuid import next_nuid
from .bucket import ObjectBucket
from .download import Download, ObjectReader
from .infos import Infos, ObjectWatch, info_reader
from .links import Search, add_link, put_link
from .meta import (
    CHUNK_SIZE,
    Info,
    check_name,
    meta_fields,
    names,
)
from .renames import rename
from .sinks import Destination, Into, sink_of
from .sources import Data, Source, UploadState, source_of
from .upload import ObjectWriter, Upload

WatchCallback = ResultCallback[ObjectInfo]
_PROGRESS = "bytes so far, bytes in all", 2  # what progress is called with
ObjectInfos = list[ObjectInfo]  # in the class, list is a method


class ObjectStore(ObjectBucket):
    """An object store, by its name. To construct one asks nothing of the server: see `create_bucket`.

    Callbacks are ``cb(result, err)``, the last argument or a keyword. Where one may be left out, errors
    go to the client's on_error. An object's info is a dict: name, bucket, nuid, size, chunks, digest,
    mtime, deleted, seq (its revision), and possibly description, headers, metadata, options.

    Args:
        js: the `JetStream` whose client, prefix and timeout all calls use.
        bucket: letters, digits, dashes and underscores.
        chunk_size: bytes per part, for a `put` without its own.
        timeout: for each answer, a timedelta or ms, in place of that of js.

    Attributes:
        bucket: the store's name.
        stream: the name of the store's stream, for calls of `JetStream` that `ObjectStore` has no word for.
        js: the `JetStream` that all calls go through, with this store's timeout.
        chunk_size: as given.

    Raises:
        InvalidBucketNameError: a store can't have this name.
    """

    def __init__(
        self,
        js: JetStream,
        bucket: str,
        chunk_size: int = CHUNK_SIZE,
        timeout: float | timedelta | None = None,
    ) -> None:
        self._check_js(js, bucket)
        super().__init__(js if timeout is None else JetStream(js.nats, js.prefix, timeout), bucket)
        self._infos = Infos(self.js, self.bucket)
        self.chunk_size = integer(chunk_size, "chunk_size", 1)

    def _change_stream(self, done: Callback, change: Callable[[Callback], object]) -> None:
        self._infos.batched = None
        super()._change_stream(done, change)

    # Content.

    def put(
        self,
        name: str,
        data: Data,
        cb: ResultCallback[ObjectInfo] | None = None,
        *,
        description: str | None = None,
        headers: HeadersLike | None = None,
        metadata: Mapping[str, str] | None = None,
        chunk_size: int | None = None,
        progress: Callable[[int, int | None], object] | None = None,
        resume: os.PathLike[Any] | None = None,
    ) -> Upload:
        """Store an object in the place of the one that has the name; ``cb(info, err)`` when it is complete.

        Readers get the former object until then; afterwards its parts are removed. After an error nothing of
        the new object is left, unless the client has ended and can't remove it. The upload survives a lost
        connection, and a stream without a leader, if either comes back within 30 s.
        The memory needed does not depend on the object's size,
        unless data is in memory.

        Args:
            name: any text that is not empty.
            data: bytes-like or str (UTF-8), a path (`os.PathLike`), a binary file, an iterable of
                bytes-like pieces, or a function that returns the next piece and in the end b"" or None.
                Read as the server takes it.
            cb: may be left out; errors then go to the client's on_error.
            description, headers, metadata: stored with the object.
            chunk_size: bytes per part; at most the server's max_payload.
            progress: ``progress(bytes stored, bytes in all or None)`` now and then.
            resume: the path of a small file that says which upload this is, when data is a path. When the
                process dies, or the connection is lost for good, the parts that are stored and this file
                stay. The next put of the same name, data and resume goes on there; success, `Upload.cancel`
                and other errors remove the file. When data has changed meanwhile, cb gets
                `ObjectTransferError`, and what is stored is removed.

        Returns:
            The `Upload`, which can be cancelled.

        Raises:
            InvalidObjectNameError: an object can't have this name.
            OSError: a path can't be opened, or another put uses the file of resume.
            BadOptionsError: resume without a path as data, or a file of something else.
        """
        done = completion(self.js, cb)
        callable_or_none(progress, "progress", _PROGRESS)
        check_name(name)
        fields = meta_fields(description, headers, metadata)
        size = self.chunk_size if chunk_size is None else integer(chunk_size, "chunk_size", 1)
        state = self._upload_state(name, data, resume)
        if state is not None:
            size = state.fields.get("chunk_size", size)
        info: Info = {
            "name": name,
            **fields,
            "options": {"max_chunk_size": size},
            "bucket": self.bucket,
            "nuid": next_nuid(),
            "size": 0,
            "chunks": 0,
        }
        source: Source | None = None
        try:
            source = source_of(data, size)
            writer = ObjectWriter(self._infos, info, source, progress, done, state)
            writer.start()
        except BaseException:  # RuntimeError, in another thread than the loop's
            if source is not None:
                source.close()
            if state is not None:
                state.keep()
            raise
        return Upload(writer)

    def _upload_state(self, name: str, data: Data, resume: object) -> UploadState | None:
        """Return the state of an upload that may be resumed."""
        if resume is None:
            return None
        if not isinstance(resume, os.PathLike):
            raise TypeError(f"resume must be a path, not {type(resume).__name__}")
        if not isinstance(data, os.PathLike):
            raise BadOptionsError("resume needs the path of a file, as a pathlib.Path")
        return UploadState(resume, bucket=self.bucket, name=name)

    @overload
    def get(
        self,
        name: str,
        into: ResultCallback[bytes] | None = None,
        cb: ResultCallback[bytes] | None = None,
        *,
        progress: Callable[[int, int], object] | None = None,
        offset: int = 0,
        length: int | None = None,
        resume: bool = False,
    ) -> Download: ...
    @overload
    def get(
        self,
        name: str,
        into: Destination,
        cb: ResultCallback[ObjectInfo],
        *,
        progress: Callable[[int, int], object] | None = None,
        offset: int = 0,
        length: int | None = None,
        resume: bool = False,
    ) -> Download: ...
    def get(
        self,
        name: str,
        into: Into | Callback = None,
        cb: Callback | None = None,
        *,
        progress: Callable[[int, int], object] | None = None,
        offset: int = 0,
        length: int | None = None,
        resume: bool = False,
    ) -> Download:
        """Read an object, or the one that a link leads to.

        ``cb(bytes, err)``, or with into ``cb(info, err)``; ``cb(None, None)`` when the object is missing or
        deleted. Success means that size and digest are right. The download survives a lost connection, with
        reconnect. Without any part for 30 s on a living connection, as when the stream has no leader, it ends
        with the last error of its consumers, or with ``request timeout``.

        Args:
            name: the object's.
            into: a path (`os.PathLike`): the file is created or replaced when the object is complete. Or
                a binary file to write to, or ``into(part)`` for each part: after an error what these have
                got is not the object.
            cb: gets `DigestMismatchError`, `ObjectIncompleteError`, `ObjectChangedError` when the object was
                replaced or deleted meanwhile, `ObjectLinkError`, `ObjectTransferError` when into has failed.
            progress: ``progress(bytes so far, bytes in all)`` for each part.
            offset, length: read these bytes only; None: to the end. As of a slice, what is beyond the end is
                left out. Only the parts that have these bytes are read. Their digest is not known, so nothing
                but their number is checked.
            resume: with a path: after an error, and when the process has died, what has come stays in a
                hidden file beside it. The next get with resume goes on there, and checks the whole. When the
                object was replaced meanwhile, it begins again.

        Returns:
            The `Download`, which can be paused and cancelled.

        Raises:
            InvalidObjectNameError: an object can't have this name.
            OSError: the file can't be created.
            BadOptionsError: resume without a path, or with a range.
        """
        into, cb = optional_before_cb(into, cb)
        cb = guarded(self.js, cb)
        callable_or_none(progress, "progress", _PROGRESS)
        check_name(name)
        span = (integer(offset, "offset", 0), length) if offset or length is not None else None
        if length is not None:
            integer(length, "length", 0)
        if resume and span is not None:
            raise BadOptionsError("resume reads the whole object: it excludes offset and length")
        sink = sink_of(cast(Into, into), resume)
        reader = ObjectReader(self._infos, name, sink, progress, cb, span)
        try:
            Search(self._infos, name, reader).start()
        except BaseException:  # RuntimeError, in another thread than the loop's
            sink.abandon()
            raise
        return Download(reader)

    # What there is.

    def info(
        self, name: str, cb: ResultCallback[ObjectInfo], *, show_deleted: bool = False
    ) -> None:
        """Read an object's info; ``cb(info, err)``, ``cb(None, None)`` when it is missing or deleted.

        Args:
            name: the object's; of a link the link's own info is read.
            cb: see above.
            show_deleted: give the info of a deleted object, too.
        """
        cb = guarded(self.js, cb)

        def found(info: Info | None, error: NatsError | None) -> None:
            cb(info if info is not None and (show_deleted or not info["deleted"]) else None, error)

        self._infos.last(check_name(name), found)

    def list(self, cb: ResultCallback[list[str]], *, show_deleted: bool = False) -> None:
        """List the names of all objects, sorted; ``cb([name, …], err)``.

        Args:
            cb: gets `BadObjectMetaError` if the info of an object can't be read; its `readable` has the names
                of all others.
            show_deleted: list deleted objects, too.
        """
        cb = guarded(self.js, cb)

        def listed(infos: Any, error: NatsError | None) -> None:
            if isinstance(error, BadObjectMetaError):
                error.readable = names(error.readable)
            cb(names(infos) if error is None else None, error)

        self.list_infos(listed, show_deleted=show_deleted)

    def list_infos(self, cb: ResultCallback[ObjectInfos], *, show_deleted: bool = False) -> None:
        """List the infos of all objects, in the order in which they were stored; ``cb([info, …], err)``.

        Args:
            cb: gets `BadObjectMetaError` if the info of an object can't be read; its `readable` has the
                infos of all others.
            show_deleted: list deleted objects, too.
        """
        cb = guarded(self.js, cb)
        unread: list[NatsError] = []

        def begin(next_one: Callback) -> WatchEngine:
            engine = self._start_watch(next_one)
            engine.unread = unread.append
            return engine

        def collected(found: Any, error: NatsError | None) -> None:
            if error is not None:
                cb(None, error)
                return
            infos: dict[str, Info] = {}
            for info in found:  # an object that is put meanwhile comes twice
                infos.pop(info["name"], None)
                infos[info["name"]] = info
            wanted = [i for i in infos.values() if show_deleted or not i["deleted"]]
            if unread:
                text = f"{len(unread)} objects in {self.bucket} can't be read: {unread[0]}"
                cb(None, BadObjectMetaError(text, readable=wanted))
            else:
                cb(wanted, None)

        collect(self.js, begin, collected)

    def watch(
        self,
        cb: WatchCallback,
        *,
        include_history: bool = False,
        ignore_deletes: bool = False,
        updates_only: bool = False,
    ) -> ObjectWatch:
        """Watch objects: first what they are now, then every change until `ObjectWatch.stop`.

        ``cb(info, None)`` for each object, deleted ones included; ``cb(None, None)`` once at the end of
        these; then an info per change. ``cb(None, err)`` once when the watch can't go on.

        Args:
            cb: see above.
            include_history: first all infos that the store has, replaced ones included.
            ignore_deletes: no infos of deletions.
            updates_only: only changes from now on; the ``cb(None, None)`` comes at once.

        Returns:
            The `ObjectWatch`, which can be stopped.

        Raises:
            BadOptionsError: updates_only with include_history.
        """
        cb = guarded(self.js, cb)
        if updates_only and include_history:
            raise BadOptionsError("updates_only excludes include_history")
        policy = "new" if updates_only else "all" if include_history else "last_per_subject"
        return ObjectWatch(self._start_watch(cb, policy, ignore_deletes=ignore_deletes))

    def _start_watch(
        self, cb: WatchCallback, policy: str = "last_per_subject", *, ignore_deletes: bool = False
    ) -> WatchEngine:
        read = info_reader(self.bucket)
        engine = WatchEngine(self.js, self.bucket, read, cb, ignore_deletes=ignore_deletes)
        options = {"deliver_policy": policy}
        engine.start(self.stream, f"$O.{self.bucket}.M.", [">"], options, reads_leader=True)
        return engine

    # Changes.

    def delete(self, name: str, cb: ResultCallback[bool] | None = None) -> None:
        """Delete an object; ``cb(True, err)``, `ObjectNotFoundError` when the name never had one."""
        done = completion(self.js, cb)

        def change(info: Info | None) -> Info | NatsError:
            if info is None:
                return ObjectNotFoundError(
                    f"object not found: {name}", bucket=self.bucket, name=name
                )
            return {**info, "deleted": True, "size": 0, "chunks": 0, "digest": ""}

        def changed(info: Info | None, error: NatsError | None) -> None:
            if info is None:
                done(None, error)
            else:
                self._infos.remove_content(info["nuid"], lambda: done(True, None))

        self._infos.change(check_name(name), change, changed)

    def update_meta(
        self, name: str, meta: ObjectMeta, cb: ResultCallback[ObjectInfo] | None = None
    ) -> None:
        """Change what is stored with an object, or its name; ``cb(info, err)``.

        A rename survives lost answers for 30 s, and writers of this package that put or delete the old name
        meanwhile; watchers see a deletion of the old name. Other clients' puts of the old name check nothing,
        and may remove the content of the new one.

        Args:
            name: the object's present name.
            meta: any of name (the new one), description, headers, metadata; what it does not name stays.
            cb: gets `ObjectNotFoundError` when the object is missing or deleted, `ObjectExistsError` when
                another object has the new name, `ObjectTransferError` when a rename could be neither
                finished nor undone: then both names may have the content, and neither should be deleted.
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
                return ObjectNotFoundError(
                    f"object not found: {name}", bucket=self.bucket, name=name
                )
            return {**info, **fields, "name": new_name}

        if new_name == name:
            self._infos.change(name, change, done)
        else:
            rename(self._infos, name, new_name, change, done)

    def add_link(
        self,
        name: str,
        target: str | ObjectInfo | ObjectLink,
        cb: ResultCallback[ObjectInfo] | None = None,
        *,
        bucket: str | None = None,
    ) -> None:
        """Store a link from name to another object: `get` of name reads that object. ``cb(info, err)``.

        Args:
            name: the link's; a link of this name is replaced.
            target: the other object's name or info.
            cb: gets `ObjectNotFoundError` when target does not exist, `ObjectLinkError` when target is a
                link, `ObjectExistsError` when name is an object.
            bucket: the store that target is in; default: this one.
        """
        done = completion(self.js, cb)
        check_name(name)
        if isinstance(target, Mapping):
            bucket, target = target.get("bucket", bucket), target.get("name", "")
        other = check_name(target)
        store = self._infos if bucket is None else self._infos.of_bucket(str(bucket))
        add_link(self._infos, name, store, other, done)

    def add_bucket_link(
        self, name: str, bucket: str | ObjectStore, cb: ResultCallback[ObjectInfo] | None = None
    ) -> None:
        """Store a link from name to a whole store; ``cb(info, err)``.

        Args:
            name: the link's; `get` of that name ends with `ObjectLinkError`.
            bucket: the store or its name.
            cb: gets `ObjectExistsError` when name is an object.
        """
        done = completion(self.js, cb)
        target = bucket.bucket if isinstance(bucket, ObjectStore) else check_bucket(bucket)
        put_link(self._infos, check_name(name), {"bucket": target}, done)
