"""The bucket of an `ObjectStore` as a whole: its configuration and its state (ADR-20)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ..arguments import ResultCallback, explained
from ..buckets import (
    COMMON_FIELDS,
    Bucket,
    Config,
    ObjectStoreConfig,
    ObjectStoreStatus,
    completion,
)
from ..errors import NatsError
from ..jetstream import StreamInfo
from .meta import STREAM_PREFIX


class ObjectBucket(Bucket[ObjectStoreConfig, ObjectStoreStatus]):
    """The part of `ObjectStore` that deals with the bucket as a whole."""

    _STREAM_PREFIX = STREAM_PREFIX
    _FIELDS: ClassVar[dict[str, str]] = {**COMMON_FIELDS, "allow_batched": "allow_batched"}

    @explained(other="a configuration is one dict, as in create_bucket({'storage': 'file'}, cb)")
    def create_bucket(
        self,
        config: ObjectStoreConfig | ResultCallback[StreamInfo] | None = None,
        cb: ResultCallback[StreamInfo] | None = None,
    ) -> None:
        """Create the store; ``cb(stream's info, err)``.

        Succeeds too when the store exists with the same configuration; `BucketExistsError` when the store
        exists with another one.

        Args:
            config: description; ttl or max_age (a timedelta or ns, after which objects expire); max_bytes;
                storage ("file", "memory"); replicas; placement; compression (bool); metadata;
                allow_batched: True: `put` sends parts in fast batches (nats-server 2.14; ADR-50).
            cb: may be left out; errors then go to the client's on_error.
        """
        super().create_bucket(config, cb)

    def seal(self, cb: ResultCallback[bool] | None = None) -> None:
        """Make the store read-only for ever: no client can undo that; ``cb(True, err)``."""
        done = completion(self.js, cb)

        def sealed(info: Any, error: NatsError | None) -> None:
            done(True if error is None else None, error)

        self._update_stream({"sealed": True}, sealed)

    def status(self, cb: ResultCallback[ObjectStoreStatus]) -> None:
        """Read the store's state; ``cb(dict, err)``.

        The dict has: bytes, sealed, ttl (ns; 0: objects do not expire), storage, replicas, compressed,
        description, metadata, backing_store; config, as `create_bucket` takes it; stream_info, the server's
        answer.
        """
        super().status(cb)

    @classmethod
    def _state(cls, info: Mapping[str, Any]) -> dict[str, Any]:
        return {**super()._state(info), "sealed": bool(info["config"].get("sealed"))}

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
            **self._stream_fields(config),
        }
