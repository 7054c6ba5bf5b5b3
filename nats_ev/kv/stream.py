"""What a `KV` knows of its bucket's stream, and the operations that wait until it knows (ADR-8, 19, 48).

How a key is read and written depends on the stream: a mirror has the subjects of its origin, direct get may
be off, TTLs may not be allowed. The client asks once, before the first operation. Operations that are
called meanwhile wait in a queue and go on in the order of their calls; later ones start at once. The client
asks again after a change of the bucket and after an error that says that the bucket may be another one now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..arguments import Callback
from ..buckets import BadBucketError, bucket_error, call_or_report
from ..errors import NatsError
from ..jetstream import JetStream, attempt, subject_of_last
from ..subjects import check_subscribe

# An operation that waits until the stream is known: its next step, and its callback for an error.
Waiting = tuple[Callable[[], object], Callback]


class KvStream:
    """What is known of the stream of one bucket."""

    def __init__(self, js: JetStream, bucket: str, name: str) -> None:
        self.read_prefix = self.write_prefix = f"$KV.{bucket}."
        self.direct_prefix = (
            ""  # a key follows in a direct get's subject; "": there is no direct get
        )
        self.has_ttl = False
        self.known = False
        self.js = js
        self.bucket = bucket
        self.name = name
        self._changes = 0  # under way
        self._waiting: list[Waiting] = []

    def when_known(self, step: Callable[[], object], cb: Callback) -> None:
        """Call step, now or as soon as the stream is known; an error until then goes to cb.

        Raises what a request raises.
        """
        if self.known:
            step()
            return
        self.js.nats.refuse_if_draining()  # nothing else would, if the request is on its way
        self._waiting.append((step, cb))
        if len(self._waiting) == 1 and not self._changes:
            try:
                self.js.stream_info(self.name, cb=self._answered)
            except BaseException:
                self._waiting.pop()
                raise

    @property
    def ways(self) -> tuple[object, ...]:
        """How keys are read and written: another value after the bucket was created again in another way."""
        return self.direct_prefix, self.read_prefix, self.write_prefix

    def forget(self) -> None:
        """Ask the server again before the next operation."""
        self.known = False

    def change(self, done: Callback, change: Callable[[Callback], object]) -> None:
        """Call change(cb), which changes the stream; operations that are called meanwhile wait for the end.

        done gets what cb gets.
        """

        def changed(info: Any, error: NatsError | None) -> None:
            self._changes -= 1
            if not self._changes and error is None:
                self._learn(info, None)
            elif not self._changes and self._waiting:
                # The change has failed; there may be a bucket all the same.
                call_or_report(
                    self._learn, lambda: self.js.stream_info(self.name, cb=self._answered)
                )
            done(info, error)

        self._changes += 1
        try:
            change(changed)
        except BaseException:
            self._changes -= 1
            raise
        self.known = False

    def _answered(self, info: Any, error: NatsError | None) -> None:
        # While a change is under way this answer may be out of date: `changed` has a newer one.
        if not self._changes:
            self._learn(info, error)

    def _learn(self, info: Any, error: NatsError | None) -> None:
        """Take in what the stream is like, and let the waiting operations go on or fail."""
        waiting, self._waiting = self._waiting, []
        if error is None:
            error = self._take(info)
        error = bucket_error(error)
        for step, cb in waiting:
            if error is not None:
                cb(None, error)
            else:
                call_or_report(cb, step)

    def _take(self, info: Any) -> NatsError | None:
        """Read a stream's info; return the error if it is not that of a bucket, or makes no sense."""
        error = attempt(self._read, info)[1]
        if error is not None and not isinstance(error, BadBucketError):
            return BadBucketError(
                f"stream {self.name}: {error}", bucket=self.bucket, stream=self.name
            )
        return error

    def _read(self, info: Mapping[str, Any]) -> None:
        config = info["config"]
        if (config.get("max_msgs_per_subject") or 0) < 1:
            text = f"stream {self.name} is not a key-value bucket"
            raise BadBucketError(text, bucket=self.bucket, stream=self.name)
        mirror = config.get("mirror")
        # A mirror has the subjects of its origin, and only the origin can be written to.
        bucket = mirror["name"].removeprefix("KV_") if mirror else self.bucket
        read_prefix = f"$KV.{bucket}."
        # ADR-19: with another API prefix or a domain, the server or the account maps subjects that begin with
        # that prefix.
        external = mirror and (mirror.get("external") or {}).get("api")
        api = external or self.js.prefix
        in_api = "" if api == "$JS.API" else f"{api}."
        check_subscribe(f"{in_api}{read_prefix}>")  # raises for a name that no stream can have
        self.read_prefix, self.write_prefix = read_prefix, in_api + read_prefix
        self.direct_prefix = ""
        if config.get("allow_direct"):
            self.direct_prefix = subject_of_last(self.js, self.name) + read_prefix
        self.has_ttl = bool(config.get("allow_msg_ttl"))
        self.known = True
