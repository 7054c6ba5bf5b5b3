"""The bucket of an `ObjectStore` as a whole: its stream (ADR-20), its state, and the list of all stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._buckets import (
    COMMON_FIELDS,
    Callback,
    Config,
    bucket_error,
    check_bucket,
    check_cb,
    completion,
    create_or_update_stream,
    create_stream,
    optional_config,
    stream_fields,
    update_stream,
)
from .errors import NatsError
from .jetstream import JetStream


class ObjectBucket:
    """The part of `ObjectStore` that deals with the bucket."""

    def __init__(self, js: JetStream, bucket: str) -> None:
        self.js = js
        self.bucket = check_bucket(bucket)
        self.stream = f"OBJ_{bucket}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.bucket}>"

    def create_bucket(
        self, config: Config | Callback | None = None, cb: Callback | None = None
    ) -> None:
        """Create the store; ``cb(stream's info, err)``. With the same configuration it succeeds again.

        config: description, ttl or max_age (ns or a timedelta), max_bytes, storage ("file", "memory"),
        replicas, placement, compression (bool), metadata. `BucketExistsError` when it exists with
        another configuration.
        """
        config, cb = optional_config(config, cb)
        done = completion(self.js, cb)
        create_stream(self.js, self._stream_config(config), done)

    def update_bucket(self, config: Config, cb: Callback | None = None) -> None:
        """Change the store's configuration; what config does not name stays as it is."""
        done = completion(self.js, cb)
        fields = stream_fields("store configuration", config, COMMON_FIELDS)
        update_stream(self.js, self.stream, fields, done)

    def create_or_update_bucket(
        self, config: Config | Callback | None = None, cb: Callback | None = None
    ) -> None:
        """`update_bucket`, or `create_bucket` when there is none."""
        config, cb = optional_config(config, cb)
        done = completion(self.js, cb)
        fields = stream_fields("store configuration", config, COMMON_FIELDS)
        create_or_update_stream(self.js, self._stream_config(config), fields, done)

    def delete_bucket(self, cb: Callback | None = None) -> None:
        """Delete the store and all that is in it; ``cb(True, err)``."""
        done = completion(self.js, cb)

        def deleted(result: Any, error: NatsError | None) -> None:
            done(True if error is None else None, bucket_error(error))

        self.js.stream_delete(self.stream, deleted)

    def seal(self, cb: Callback | None = None) -> None:
        """Let nothing be changed any more, for ever; ``cb(True, err)``."""
        done = completion(self.js, cb)

        def sealed(info: Any, error: NatsError | None) -> None:
            done(True if error is None else None, error)

        update_stream(self.js, self.stream, {"sealed": True}, sealed)

    def status(self, cb: Callback) -> None:
        """The store's state: ``cb(dict, err)``.

        bytes, sealed, ttl (ns, 0: none), storage, replicas, compressed, description, metadata,
        backing_store, and stream_info, as the server tells it.
        """
        check_cb(cb)

        def told(info: Any, error: NatsError | None) -> None:
            cb(_status(info) if error is None else None, bucket_error(error))

        self.js.stream_info(self.stream, cb=told)

    @staticmethod
    def bucket_names(js: JetStream, cb: Callback) -> None:
        """The names of all object stores."""
        check_cb(cb)

        def listed(found: Any, error: NatsError | None) -> None:
            if error is None:
                found = [name[4:] for name in found if name.startswith("OBJ_")]
            cb(found, error)

        js.stream_names({"subject": "$O.*.C.>"}, listed)

    @staticmethod
    def buckets(js: JetStream, cb: Callback) -> None:
        """The `status` of all object stores, as a list."""
        check_cb(cb)

        def listed(answer: Any, error: NatsError | None) -> None:
            if error is not None:
                cb(None, error)
                return
            infos = answer["streams"]
            cb([_status(i) for i in infos if i["config"]["name"].startswith("OBJ_")], None)

        js.stream_list({"subject": "$O.*.C.>"}, listed)

    def _stream_config(self, config: Config) -> dict[str, Any]:
        return {
            "name": self.stream,
            "subjects": [f"$O.{self.bucket}.C.>", f"$O.{self.bucket}.M.>"],
            "max_age": 0,
            "max_bytes": -1,
            "storage": "file",
            "num_replicas": 1,
            "discard": "new",
            "allow_rollup_hdrs": True,
            "allow_direct": True,
            **stream_fields("store configuration", config, COMMON_FIELDS),
        }


def _status(info: Mapping[str, Any]) -> dict[str, Any]:
    config, state = info["config"], info["state"]
    return {
        "bucket": config["name"].removeprefix("OBJ_"),
        "bytes": state["bytes"],
        "sealed": bool(config.get("sealed")),
        "ttl": config.get("max_age", 0),
        "storage": config.get("storage", "file"),
        "replicas": config.get("num_replicas", 1),
        "compressed": config.get("compression", "none") != "none",
        "description": config.get("description", ""),
        "metadata": config.get("metadata") or {},
        "backing_store": "JetStream",
        "stream_info": dict(info),
    }
