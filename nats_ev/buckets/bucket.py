"""A bucket of either kind as a whole: its configuration, its state, and the list of all buckets of the kind.

A bucket is a stream with a prefix in its name and rules for its configuration. `Bucket` is the base of `KV`
and `ObjectStore`: it checks a configuration in the words of buckets, turns it into the stream's fields, and
turns the stream's state back into the words of buckets. What the kinds differ in are the hooks at the end
of the class. The functions after the class are the operations on the stream, which take several steps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar, cast

from ..arguments import Callback, ResultCallback, check_object
from ..errors import BadOptionsError, NatsError
from ..jetstream import (
    STREAM,
    JetStream,
    StreamConfig,
    StreamInfo,
    StreamNameAlreadyInUseError,
    check_fields,
    converted,
)
from ..times import to_wire
from .calls import call_or_report, completion, guarded, optional_before_cb
from .errors import BucketNotFoundError, InvalidBucketNameError, bucket_error
from .settings import repairs
from .types import BucketConfig

Config = Mapping[str, Any]  # within this package; users see the types of each kind

_TWO_MINUTES = 120_000_000_000

# Word of a configuration → field of the stream, for both kinds: nats.go's words, and the stream's own.
# `Bucket.status` uses the first word for a field.
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

ConfigT = TypeVar("ConfigT", bound=BucketConfig)
StatusT = TypeVar("StatusT")


class Bucket(Generic[ConfigT, StatusT]):
    """The part of `KV` and `ObjectStore` that deals with the bucket as a whole.

    Attributes: bucket, its name; stream, the name of the bucket's stream; js, the `JetStream` that all calls
    go through, with their timeout.
    """

    _STREAM_PREFIX: ClassVar[str]
    _FIELDS: ClassVar[dict[str, str]]

    def __init__(self, js: JetStream, bucket: str) -> None:
        self._check_js(js, bucket)
        self.js = js
        self.bucket = check_bucket(bucket)
        self.stream = self._STREAM_PREFIX + bucket

    @classmethod
    def _check_js(cls, js: object, bucket: object) -> None:
        """Raise TypeError for what is no `JetStream`, such as a `Nats`."""
        if hasattr(type(js), "_original"):
            check_object(js, "nats", f"{cls.__name__} takes a JetStream")
        if not hasattr(js, "nats"):
            kind, given = cls.__name__, type(js).__name__
            raise TypeError(
                f"{kind} takes a JetStream, not {given}: {kind}(JetStream(nats), {bucket!r})"
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.bucket}>"

    def create_bucket(
        self,
        config: ConfigT | ResultCallback[StreamInfo] | None = None,
        cb: ResultCallback[StreamInfo] | None = None,
    ) -> None:
        """Create the bucket; ``cb(stream's info, err)``.

        Succeeds too when the bucket exists with the same configuration; `BucketExistsError` when the bucket
        exists with another one.
        """
        config, cb = optional_before_cb(config, cb)
        done = completion(self.js, cb)
        stream = self._stream_config({} if config is None else cast(Config, config))
        self._change_stream(done, lambda cb: _create(self.js, stream, cb))

    def update_bucket(self, config: ConfigT, cb: ResultCallback[StreamInfo] | None = None) -> None:
        """Change the fields of the bucket's configuration that config names; ``cb(stream's info, err)``.

        `BucketNotFoundError` when the bucket does not exist. See `create_bucket` for the fields.
        """
        done = completion(self.js, cb)
        fields = self._stream_fields(config)
        self._change_stream(done, lambda cb: self._update_stream(fields, cb))

    def create_or_update_bucket(
        self,
        config: ConfigT | ResultCallback[StreamInfo] | None = None,
        cb: ResultCallback[StreamInfo] | None = None,
    ) -> None:
        """Call `update_bucket`, or `create_bucket` when the bucket does not exist."""
        config, cb = optional_before_cb(config, cb)
        done = completion(self.js, cb)
        given = {} if config is None else cast(Config, config)
        fields, stream = self._stream_fields(given), self._stream_config(given)
        self._change_stream(done, lambda cb: _create_or_update(self.js, stream, fields, cb))

    def delete_bucket(self, cb: ResultCallback[bool] | None = None) -> None:
        """Delete the bucket and everything in it; ``cb(True, err)``."""
        done = completion(self.js, cb)

        def deleted(result: Any, error: NatsError | None) -> None:
            done(True if error is None else None, bucket_error(error))

        self.js.stream_delete(self.stream, deleted)

    def status(self, cb: ResultCallback[StatusT]) -> None:
        """Read the bucket's state; ``cb(dict, err)``.

        The dict has: bytes, ttl (ns; 0: entries do not expire), storage, replicas, compressed, description,
        metadata, backing_store; config, as `create_bucket` takes it; stream_info, the server's answer.
        """
        cb = guarded(self.js, cb)

        def received(state: Any, error: NatsError | None) -> None:
            cb(state, bucket_error(error))

        self.js.stream_info(self.stream, cb=converted(self._state, received))

    # Both lists go by the streams' names. To ask for streams by a bucket's subjects would miss mirrors, which
    # have no subjects.

    @classmethod
    def bucket_names(cls, js: JetStream, cb: ResultCallback[list[str]]) -> None:
        """List the names of all buckets of this kind; ``cb([name, …], err)``."""
        cb = guarded(js, cb)

        def listed(names: Any, error: NatsError | None) -> None:
            if error is None:
                prefix = cls._STREAM_PREFIX
                names = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
            cb(names, error)

        js.stream_names(listed)

    @classmethod
    def buckets(cls, js: JetStream, cb: ResultCallback[list[StatusT]]) -> None:
        """List the `status` of all buckets of this kind; ``cb([status, …], err)``."""
        cb = guarded(js, cb)

        def states(answer: dict[str, Any]) -> list[dict[str, Any]]:
            infos, prefix = answer["streams"], cls._STREAM_PREFIX
            return [cls._state(i) for i in infos if i["config"]["name"].startswith(prefix)]

        js.stream_list(converted(states, cb))

    # Hooks, which each kind extends.

    def _change_stream(self, done: Callback, change: Callable[[Callback], object]) -> None:
        """Call change(cb), which changes the stream; done gets what cb gets."""
        change(done)

    def _update_stream(self, fields: dict[str, Any], cb: Callback) -> None:
        """Change some of the stream's fields; ``cb(stream's info, err)``."""
        _update(self.js, self.stream, fields, cb)

    @classmethod
    def _state(cls, info: Mapping[str, Any]) -> dict[str, Any]:
        """Return the dict that `status` gives."""
        config, state = info["config"], info["state"]
        words = {field: word for word, field in reversed(cls._FIELDS.items())}
        return {
            "bucket": config["name"].removeprefix(cls._STREAM_PREFIX),
            "bytes": state["bytes"],
            "ttl": config.get("max_age") or 0,
            "storage": config.get("storage") or "file",
            "replicas": config.get("num_replicas") or 1,
            "compressed": (config.get("compression") or "none") != "none",
            "description": config.get("description") or "",
            "metadata": config.get("metadata") or {},
            "backing_store": "JetStream",
            "config": {word: config[field] for field, word in words.items() if field in config},
            "stream_info": dict(info),
        }

    def _stream_fields(self, config: Config) -> dict[str, Any]:
        """Return the stream's fields for a bucket's configuration.

        Raises TypeError and `BadOptionsError`, which name the field and its value.
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
        # As in Go, 0 means the default: one replica, no limit.
        if result.get("num_replicas") == 0:
            result["num_replicas"] = 1
        for limit in ("max_bytes", "max_msg_size"):
            if result.get(limit) == 0:
                result[limit] = -1
        return result

    def _stream_config(self, config: Config) -> dict[str, Any]:
        """Return the configuration of the stream of a new bucket."""
        raise NotImplementedError


def duplicate_window(max_age: int) -> int:
    """Return the duplicate_window for a stream with this max_age, both in ns.

    Two minutes, the server's default, or less: a server refuses a window that is longer than max_age.
    """
    return min(max_age, _TWO_MINUTES) if max_age > 0 else _TWO_MINUTES


def _create(js: JetStream, config: dict[str, Any], cb: Callback) -> None:
    """Create a bucket's stream; ``cb(stream's info, err)``.

    A bucket that exists with the same settings will do, whichever client has made it; see `settings`.
    """

    def created(info: Any, error: NatsError | None) -> None:
        if isinstance(error, StreamNameAlreadyInUseError):
            ask = converted(_with_config, existing)
            call_or_report(cb, lambda: js.stream_info(config["name"], cb=ask))
        else:
            cb(info, bucket_error(error))

    def existing(info: Any, error: NatsError | None) -> None:
        if error is not None:
            cb(None, bucket_error(error))
            return
        changes = repairs(config, info["config"])
        if changes:
            _update(js, config["name"], changes, cb)
        elif changes is not None:
            cb(info, None)
        else:
            exists = StreamNameAlreadyInUseError(
                "stream name already in use (code 400)",
                code=400,
                err_code=10058,
                stream=config["name"],
            )
            cb(None, bucket_error(exists))

    js.stream_create(cast(StreamConfig, config), created)


def _update(js: JetStream, name: str, fields: dict[str, Any], cb: Callback) -> None:
    """Change some fields of a bucket's stream; ``cb(stream's info, err)``."""

    def current(theirs: Any, error: NatsError | None) -> None:
        if error is not None:
            cb(None, bucket_error(error))
            return
        marker = "subject_delete_marker_ttl"
        if fields.get(marker) == 0 and theirs.get(marker):
            # ADR-48. Keys that expire would end without telling the watchers.
            cb(None, BadOptionsError("limit_marker_ttl of a bucket can't be switched off"))
            return
        config: Any = {**theirs, **fields}
        if "max_age" in fields:
            config["duplicate_window"] = duplicate_window(fields["max_age"])
        call_or_report(
            cb, lambda: js.stream_update(config, lambda info, error: cb(info, bucket_error(error)))
        )

    js.stream_info(name, cb=converted(_config, current))


def _config(info: Mapping[str, Any]) -> Any:
    """Return the configuration in a stream's info. Raises KeyError."""
    config = info["config"]
    if not config:
        raise KeyError("config")
    return config


def _with_config(info: Mapping[str, Any]) -> Any:
    """Return a stream's info that has a configuration. Raises KeyError."""
    _config(info)
    return info


def _create_or_update(
    js: JetStream, config: dict[str, Any], fields: dict[str, Any], cb: Callback
) -> None:
    """Update a bucket's stream, or create it when it does not exist; ``cb(stream's info, err)``."""

    def updated(info: Any, error: NatsError | None) -> None:
        if isinstance(error, BucketNotFoundError):
            call_or_report(cb, lambda: _create(js, config, cb))
        else:
            cb(info, error)

    _update(js, config["name"], fields, updated)


_BUCKET = re.compile(r"[A-Za-z0-9_-]+")


def check_bucket(bucket: object) -> str:
    """Return bucket if it is a valid name of a bucket. Raises TypeError and `InvalidBucketNameError`."""
    if not isinstance(bucket, str):
        raise TypeError(f"a bucket's name must be str, not {type(bucket).__name__}")
    if not _BUCKET.fullmatch(bucket):
        raise InvalidBucketNameError(
            f"invalid bucket name {bucket!r}: letters, digits, dashes and underscores",
            bucket=bucket,
        )
    return bucket
