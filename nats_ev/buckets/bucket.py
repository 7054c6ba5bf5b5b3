"""A bucket as a whole, of either kind: its stream, its state, and the list of all of its kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ..arguments import Callback, check_callback
from ..errors import BadOptionsError, NatsError
from ..jetstream import STREAM, JetStream, StreamNameAlreadyInUseError, check_fields
from ..times import to_wire
from .calls import call_or_report, completion
from .errors import BucketNotFoundError, InvalidBucketNameError, bucket_error

Config = Mapping[str, Any]

_TWO_MINUTES = 120_000_000_000

# What both kinds can be configured with: nats.go's words, and the stream's own, for a stream's fields.
# The first word for a field is the one that `Bucket.status` uses.
COMMON_FIELDS: dict[str, str] = {
    "description": "description",
    "ttl": "max_age",
    "max_age": "max_age",
    "max_bytes": "max_bytes",
    "storage": "storage",
    "replicas": "num_replicas",
    "num_replicas": "num_replicas",
    "placement": "placement",
    "compression": "compression",
    "metadata": "metadata",
}
_NUMBERS = {
    "max_age", "max_bytes", "num_replicas", "max_msgs_per_subject", "max_msg_size",
    "subject_delete_marker_ttl",
}  # fmt: skip


class Bucket:
    """The part of `KV` and `ObjectStore` that deals with the bucket as a whole."""

    _STREAM_PREFIX: ClassVar[str]
    _FIELDS: ClassVar[dict[str, str]]

    def __init__(self, js: JetStream, bucket: str) -> None:
        self.js = js
        self.bucket = check_bucket(bucket)
        self.stream = self._STREAM_PREFIX + bucket

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.bucket}>"

    def create_bucket(
        self, config: Config | Callback | None = None, cb: Callback | None = None
    ) -> None:
        """Create the bucket; ``cb(stream's info, err)``. With the same configuration it succeeds again.

        `BucketExistsError` when it exists with another configuration.
        """
        config, cb = _optional_config(config, cb)
        done = completion(self.js, cb)
        stream = self._stream_config(config)
        self._change_stream(done, lambda cb: _create(self.js, stream, cb))

    def update_bucket(self, config: Config, cb: Callback | None = None) -> None:
        """Change the bucket's configuration; what config does not name stays as it is.

        ``cb(stream's info, err)``; `BucketNotFoundError` when there is none.
        """
        done = completion(self.js, cb)
        fields = self._stream_fields(config)
        self._change_stream(done, lambda cb: self._update_stream(fields, cb))

    def create_or_update_bucket(
        self, config: Config | Callback | None = None, cb: Callback | None = None
    ) -> None:
        """`update_bucket`, or `create_bucket` when there is none."""
        config, cb = _optional_config(config, cb)
        done = completion(self.js, cb)
        fields, stream = self._stream_fields(config), self._stream_config(config)
        self._change_stream(done, lambda cb: _create_or_update(self.js, stream, fields, cb))

    def delete_bucket(self, cb: Callback | None = None) -> None:
        """Delete the bucket and all that is in it; ``cb(True, err)``."""
        done = completion(self.js, cb)

        def deleted(result: Any, error: NatsError | None) -> None:
            done(True if error is None else None, bucket_error(error))

        self.js.stream_delete(self.stream, deleted)

    def status(self, cb: Callback) -> None:
        """The bucket's state: ``cb(dict, err)``.

        bytes, ttl (ns, 0: none), storage, replicas, compressed, description, metadata, backing_store;
        config, as `create_bucket` takes it; stream_info, as the server tells it.
        """
        check_callback(cb)

        def told(info: Any, error: NatsError | None) -> None:
            cb(self._state(info) if error is None else None, bucket_error(error))

        self.js.stream_info(self.stream, cb=told)

    # By their streams' names: a mirror has no subjects that could be asked for.

    @classmethod
    def bucket_names(cls, js: JetStream, cb: Callback) -> None:
        """The names of all buckets of this kind; ``cb([name, …], err)``."""
        check_callback(cb)

        def listed(names: Any, error: NatsError | None) -> None:
            if error is None:
                prefix = cls._STREAM_PREFIX
                names = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
            cb(names, error)

        js.stream_names(listed)

    @classmethod
    def buckets(cls, js: JetStream, cb: Callback) -> None:
        """The `status` of all buckets of this kind; ``cb([status, …], err)``."""
        check_callback(cb)

        def listed(answer: Any, error: NatsError | None) -> None:
            if error is not None:
                cb(None, error)
                return
            infos, prefix = answer["streams"], cls._STREAM_PREFIX
            cb([cls._state(i) for i in infos if i["config"]["name"].startswith(prefix)], None)

        js.stream_list(listed)

    # For each kind.

    def _change_stream(self, done: Callback, change: Callable[[Callback], object]) -> None:
        """Let change(cb) change the stream; done gets what cb gets."""
        change(done)

    def _update_stream(self, fields: dict[str, Any], cb: Callback) -> None:
        """Change some of the stream's fields."""
        _update(self.js, self.stream, fields, cb)

    @classmethod
    def _state(cls, info: Mapping[str, Any]) -> dict[str, Any]:
        """What `status` tells."""
        config, state = info["config"], info["state"]
        words = {field: word for word, field in reversed(cls._FIELDS.items())}
        return {
            "bucket": config["name"].removeprefix(cls._STREAM_PREFIX),
            "bytes": state["bytes"],
            "ttl": config.get("max_age", 0),
            "storage": config.get("storage", "file"),
            "replicas": config.get("num_replicas", 1),
            "compressed": config.get("compression", "none") != "none",
            "description": config.get("description", ""),
            "metadata": config.get("metadata") or {},
            "backing_store": "JetStream",
            "config": {word: config[field] for field, word in words.items() if field in config},
            "stream_info": dict(info),
        }

    def _stream_fields(self, config: Config) -> dict[str, Any]:
        """The stream's fields for a configuration.

        Raises TypeError and `BadOptionsError`, which name what is wrong.
        """
        what = "bucket configuration"
        if not isinstance(config, Mapping):
            raise TypeError(f"{what} must be a mapping, not {type(config).__name__}")
        result: dict[str, Any] = {}
        words: dict[str, str] = {}
        check_fields(what, config, dict.fromkeys(self._FIELDS))
        for word, value in config.items():
            if value is None:
                continue
            field = self._FIELDS[word]
            if field in result:
                raise BadOptionsError(f"{word} and {words[field]} are the same in {what}")
            if field == "compression" and isinstance(value, bool):
                value = "s2" if value else "none"
            check_fields(what, {word: value}, {word: STREAM[field]})
            value = to_wire(value)
            if field in _NUMBERS and type(value) is not int:
                raise BadOptionsError(f"{word} in {what} must be a whole number, not {value!r}")
            if field == "metadata" and not isinstance(value, dict):
                raise TypeError(f"metadata in {what} must be a mapping, not {value!r}")
            result[field], words[field] = value, word
        if result.get("num_replicas") == 0:
            result["num_replicas"] = 1
        for limit in ("max_bytes", "max_msg_size"):
            if result.get(limit) == 0:
                result[limit] = -1
        return result

    def _stream_config(self, config: Config) -> dict[str, Any]:
        """The stream of a new bucket with that configuration."""
        raise NotImplementedError


def duplicate_window(max_age: int) -> int:
    """What goes with a bucket's max_age; both in ns. A server refuses a longer one than the age."""
    return min(max_age, _TWO_MINUTES) if max_age > 0 else _TWO_MINUTES


def _optional_config(config: Any, cb: Any) -> tuple[Config, Callback | None]:
    """``(config, cb)`` of a call that may have left out either."""
    if cb is None and callable(config):
        config, cb = None, config
    return ({} if config is None else config), cb


def _create(js: JetStream, config: dict[str, Any], cb: Callback) -> None:
    """Create a bucket's stream; one that only lacks what old clients did not set is brought up to date."""

    def created(info: Any, error: NatsError | None) -> None:
        if isinstance(error, StreamNameAlreadyInUseError):
            call_or_report(cb, lambda: js.stream_info(config["name"], cb=existing))
        else:
            cb(info, bucket_error(error))

    def existing(info: Any, error: NatsError | None) -> None:
        if error is not None:
            cb(None, bucket_error(error))
            return
        theirs = info["config"]
        mended = ("discard", "allow_direct")
        if all(theirs.get(k) == v for k, v in config.items() if k not in mended):
            _update(js, config["name"], {k: config[k] for k in mended}, cb)
        else:
            exists = StreamNameAlreadyInUseError(
                "stream name already in use (code 400)", code=400, err_code=10058
            )
            cb(None, bucket_error(exists))

    js.stream_create(config, created)


def _update(js: JetStream, name: str, fields: dict[str, Any], cb: Callback) -> None:
    """Change some fields of a bucket's stream."""

    def current(info: Any, error: NatsError | None) -> None:
        if error is not None:
            cb(None, bucket_error(error))
            return
        config = {**info["config"], **fields}
        if "max_age" in fields:
            config["duplicate_window"] = duplicate_window(fields["max_age"])
        call_or_report(
            cb, lambda: js.stream_update(config, lambda info, error: cb(info, bucket_error(error)))
        )

    js.stream_info(name, cb=current)


def _create_or_update(
    js: JetStream, config: dict[str, Any], fields: dict[str, Any], cb: Callback
) -> None:
    """`_update`, or `_create` when there is none."""

    def updated(info: Any, error: NatsError | None) -> None:
        if isinstance(error, BucketNotFoundError):
            call_or_report(cb, lambda: _create(js, config, cb))
        else:
            cb(info, error)

    _update(js, config["name"], fields, updated)


_BUCKET = re.compile(r"[A-Za-z0-9_-]+")


def check_bucket(bucket: object) -> str:
    """A bucket's name that is valid; raises `InvalidBucketNameError`."""
    if not isinstance(bucket, str):
        raise TypeError(f"a bucket's name must be str, not {type(bucket).__name__}")
    if not _BUCKET.fullmatch(bucket):
        raise InvalidBucketNameError(
            f"invalid bucket name {bucket!r}: letters, digits, dashes and underscores"
        )
    return bucket
