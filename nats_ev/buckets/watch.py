"""Watching the last messages of subjects, and what follows them, on an ordered consumer (ADR-8, 17)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import NatsError, RequestTimeoutError
from .calls import call_or_report
from .errors import bucket_error

if TYPE_CHECKING:
    from ..jetstream import JetStream, JsMsg, Metadata, OrderedConsumer
    from ..net import Deadline


# So long without one of the initial messages: ask whether they still exist.
_ASK_AFTER_MS = 500.0


class Watch:
    """A running watch: `stop` ends it. `stopped` tells whether it has ended."""

    def __init__(
        self,
        js: JetStream,
        bucket: str,
        callback: Callable[[Any, NatsError | None], object],
        *,
        ignore_deletes: bool = False,
    ) -> None:
        self.stopped = False
        self.bucket = bucket
        self._js = js
        self._callback = callback
        self._ignore_deletes = ignore_deletes
        self._prefix = 0  # length of what subjects have before the key
        self._consumer: OrderedConsumer | None = None
        self._initial = -1  # messages of the initial data still to come; -1: not known yet, or told
        self._last = ("", 0)  # consumer and consumer sequence of the last message

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.bucket}{' stopped' if self.stopped else ''}>"

    def stop(self) -> None:
        """No call of the callback follows. May be called in the callback, and more than once."""
        self.stopped = True
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.stop()

    # For the bucket.

    def read(self, key: str, message: JsMsg, meta: Metadata) -> tuple[Any, bool]:
        """What a message tells: what the callback gets, and whether that is a deletion.

        May raise a NatsError: then the message is left out, and the error goes to on_error.
        """
        raise NotImplementedError

    def start(self, stream: str, prefix: str, filters: list[str], options: dict[str, Any]) -> None:
        """Begin; prefix is what subjects have before the key. Raises what a request raises."""
        if self.stopped:
            return
        self._prefix = len(prefix)
        subjects = [prefix + key for key in filters]
        config: dict[str, Any] = {**options, "on_start": self._on_start}
        if len(subjects) == 1:
            config["filter_subject"] = subjects[0]
        else:
            config["filter_subjects"] = subjects
        self._consumer = self._js.ordered_consumer(stream, config, self._on_message)

    def fail(self, error: NatsError) -> None:
        """It can't go on."""
        if not self.stopped:
            self.stop()
            self._callback(None, bucket_error(error))

    @property
    def progress(self) -> tuple[bool, int, tuple[str, int]]:
        """Another value whenever something of the initial data has come."""
        return self._consumer is not None, self._initial, self._last

    def _on_start(self, info: dict[str, Any]) -> None:
        if self.stopped:
            return
        if info.get("config", {}).get("deliver_policy") == "new":
            self._initial = 0
        else:
            self._initial = info.get("num_pending", 0)
        if not self._initial:
            self._tell_initial_done()
        else:
            self._wait_for_initial()

    def _on_message(self, message: JsMsg | None, error: NatsError | None) -> None:
        if self.stopped:
            return
        if message is None:
            assert error is not None
            self.fail(error)
            return
        meta = message.metadata
        self._last = (meta.consumer, meta.consumer_sequence)
        # Counted although the callback may raise: it has had this one.
        try:
            item, deleted = self.read(message.subject[self._prefix :], message, meta)
            if not (deleted and self._ignore_deletes):
                self._js.nats.call(self._callback, item, None)
        except NatsError as exc:
            self._js.nats.report(exc)
        finally:
            # The last one of the initial data has nothing behind it (ADR-8).
            if self._initial > 0 and not self.stopped:
                self._initial = self._initial - 1 if meta.num_pending else 0
                if not self._initial:
                    self._tell_initial_done()

    def _tell_initial_done(self) -> None:
        self._initial = -1
        self._js.nats.call(self._callback, None, None)

    # Initial messages may expire, or be purged, before they come: then they never do, and nobody says so.

    def _wait_for_initial(self) -> None:
        before = self._last

        def due() -> None:
            consumer = self._consumer
            if self.stopped or self._initial < 0 or consumer is None:
                return
            if self._last == before and self._js.nats.is_connected():
                stream, name = consumer.stream, consumer.name
                call_or_report(told, lambda: self._js.consumer_info(stream, name, told))
            else:
                self._wait_for_initial()

        def told(info: Any, error: NatsError | None) -> None:
            if self.stopped or self._initial < 0:
                return
            name, seq = self._last
            seen = seq if error is None and info["name"] == name else 0
            if error is None and not info["num_pending"] and _delivered(info) <= seen:
                self._tell_initial_done()
            else:
                self._wait_for_initial()

        self._js.nats.call_later(_ASK_AFTER_MS, due)


def collect(
    js: JetStream,
    begin: Callable[[Callable[[Any, NatsError | None], object]], Watch],
    cb: Callable[[list[Any] | None, NatsError | None], object],
) -> None:
    """``cb(items, err)`` once: the initial data of the watch that ``begin(callback)`` starts.

    A watch outlasts any silence; who waits for a list does not: ``request timeout`` when nothing more
    of it comes for the timeout of js.
    """
    items: list[Any] = []
    silence: Deadline | None = None

    def next_one(item: Any, error: NatsError | None) -> None:
        if item is None:
            end(error)
        else:
            items.append(item)

    def end(error: NatsError | None) -> None:
        watch.stop()
        if silence is not None:
            silence.cancel()
        cb(items if error is None else None, error)

    def listen() -> None:
        nonlocal silence
        before = watch.progress

        def due() -> None:
            if watch.stopped:
                return
            if watch.progress == before:
                end(RequestTimeoutError("request timeout"))
            else:
                listen()

        # No shorter than it takes to find out that what is still to come has expired.
        silence = js.nats.call_later(js.timeout + 2 * _ASK_AFTER_MS, due)

    watch = begin(next_one)
    if js.timeout:
        listen()


def _delivered(info: dict[str, Any]) -> int:
    sequence: int = info["delivered"]["consumer_seq"]
    return sequence
