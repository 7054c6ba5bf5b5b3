"""`OrderedFetcher`: a stream's messages in order, a batch at a time.

Each batch is an ordered consumer (`OrderedEngine`) that stops after so many messages. The fetcher itself
keeps only the position: between two fetches there is nothing on the server.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, overload

from ..arguments import ResultCallback, callable_or_none, optional_middle
from ..errors import BadOptionsError, NatsError, RequestTimeoutError
from ..times import MILLISECOND
from .api import Api, Timer
from .config import check_fields, consumer_config, with_keywords
from .errors import MaxBytesExceededError, NoMessagesError
from .fetch import Fetch, fetch_opts
from .message import JsMsg, Metadata
from .ordered import OrderedEngine
from .pull import size_of
from .pull_options import CONFIG_FIELDS, ordered_config
from .types import OrderedFetchOptions

_CONFIG = dict.fromkeys((*CONFIG_FIELDS, "max_reset_attempts", "name_prefix"))
_OPTIONS = dict.fromkeys(
    ("batch", "max_bytes", "expires", "no_wait", "heartbeat", "idle_heartbeat")
)


class OrderedFetcher:
    """The handle of `JetStream.ordered_fetcher`: each `fetch` goes on after the one before it.

    The messages come in the stream's order, each exactly once, as from an `OrderedConsumer`; between two
    fetches it has no consumer on the server. `stream` is the stream's name.
    """

    def __init__(self, api: Api, stream: str, config: Mapping[str, Any]) -> None:
        check_fields("ordered consumer", config, _CONFIG)
        consumer_config(ordered_config(config)[0])  # only to raise for a bad one
        self.stream = stream
        self._api = api
        self._config = dict(config)
        self._prefix = config.get("name_prefix")
        self._count = 0
        self._running: _Batch | None = None
        # With last_per_subject, until that snapshot is over: the position, 0 in the beginning.
        self._snapshot = config.get("deliver_policy") == "last_per_subject"
        self._position = 0

    def __repr__(self) -> str:
        state = " fetching" if self._running is not None else ""
        return f"<{type(self).__name__} {self.stream} at {self.last_seq}{state}>"

    @property
    def last_seq(self) -> int:
        """The stream sequence of the last message fetched, or the one before the first to come."""
        return self._position or int(self._config.get("opt_start_seq", 1)) - 1

    @overload
    def fetch(
        self,
        opts: OrderedFetchOptions | ResultCallback[list[JsMsg]] | None = None,
        cb: ResultCallback[list[JsMsg]] | None = None,
    ) -> Fetch: ...
    @overload
    def fetch(
        self,
        opts: OrderedFetchOptions | ResultCallback[int] | None = None,
        cb: ResultCallback[int] | None = None,
        *,
        on_msg: Callable[[JsMsg], object],
    ) -> Fetch: ...
    def fetch(
        self,
        opts: OrderedFetchOptions | ResultCallback[list[JsMsg]] | ResultCallback[int] | None = None,
        cb: ResultCallback[list[JsMsg]] | ResultCallback[int] | None = None,
        *,
        on_msg: Callable[[JsMsg], object] | None = None,
    ) -> Fetch:
        """Fetch the next messages; ``cb([JsMsg, …], err)``.

        Args:
            opts: batch (1; with max_bytes as many as fit), max_bytes (`MaxBytesExceededError` when the
                first message does not fit), expires (5 s), no_wait (True: only messages that the stream
                has now), heartbeat; durations as timedelta or in ns. Also on_msg.
            cb: called once. With an err the list has the messages that came before the error, or it is
                None if there are none.
            on_msg: ``on_msg(msg)`` for each message as soon as it has come. cb gets their number in place
                of the list, after the last one: ``cb(number, err)``.

        Returns:
            The handle, whose `stop` ends the fetch early. The next fetch goes on after the last message.

        Raises:
            BadOptionsError: an option is wrong, or another fetch is running.
        """
        given, done = optional_middle(opts, cb)
        options = with_keywords(given, on_msg=on_msg)
        on_msg = callable_or_none(options.pop("on_msg", None), "on_msg")
        if on_msg is not None:
            return self._start(options, lambda batch, error: done(batch.received, error), on_msg)

        def fetched(batch: _Batch, error: NatsError | None) -> None:
            done(batch.messages or ([] if error is None else None), error)

        return self._start(options, fetched)

    def next(
        self,
        opts: OrderedFetchOptions | ResultCallback[JsMsg] | None = None,
        cb: ResultCallback[JsMsg] | None = None,
    ) -> Fetch:
        """Fetch the next message; ``cb(JsMsg, err)``.

        Args:
            opts: as in `fetch`, except batch.
            cb: gets `RequestTimeoutError` when no message came in time; with no_wait, and after
                `Fetch.stop`, `NoMessagesError`.

        Returns:
            The handle, whose `stop` ends the wait early.
        """
        given, done = optional_middle(opts, cb)
        no_wait = (given or {}).get("no_wait")

        def fetched(batch: _Batch, error: NatsError | None) -> None:
            if batch.messages:
                done(batch.messages[0], None)
                return
            if no_wait or batch.stopped:
                error = error or NoMessagesError("no messages", code=404)
            done(None, error or RequestTimeoutError("request timeout"))

        return self._start({**(given or {}), "batch": 1}, fetched)

    def _start(
        self,
        given: Mapping[str, Any],
        cb: Callable[[_Batch, NatsError | None], object],
        on_msg: Callable[[JsMsg], object] | None = None,
    ) -> Fetch:
        check_fields("fetch options", given, _OPTIONS)
        body = fetch_opts(given)
        if self._running is not None:
            raise BadOptionsError("this ordered consumer is fetching already")

        self._count += 1
        if self._prefix:
            self._config["name_prefix"] = f"{self._prefix}_{self._count}"

        def ended(error: NatsError | None) -> None:
            position = batch.position()
            if position:
                self._position = position
            self._snapshot = self._snapshot and batch.in_snapshot()
            if position is not None and not self._snapshot:
                self._config.pop("opt_start_time", None)
                self._config.update(deliver_policy="by_start_sequence", opt_start_seq=position + 1)
            self._running = None
            try:
                cb(batch, error)
            finally:
                batch.messages = []  # this object may stay until Python collects cycles

        resume = self._position if self._snapshot else 0
        batch = _Batch(self._api, self.stream, self._config, body, ended, resume, on_msg)
        batch.start()
        self._running = batch
        return Fetch(batch)


class _Batch:
    """The ordered consumer of one batch."""

    def __init__(
        self,
        api: Api,
        stream: str,
        config: Mapping[str, Any],
        body: Mapping[str, Any],
        ended: Callable[[NatsError | None], object],
        resume: int,
        on_msg: Callable[[JsMsg], object] | None,
    ) -> None:
        self._api = api
        self._most: int = body["batch"]
        self._no_wait = bool(body.get("no_wait"))
        self._expires = body.get("expires", 0) / MILLISECOND or api.timeout or 5000
        self.messages: list[JsMsg] = []
        self.received = 0
        self.stopped = False  # by the user
        self._on_msg = on_msg
        self._last: int | None = None  # the stream sequence of the last message
        self._room: int = body.get("max_bytes") or sys.maxsize
        self._too_large = False  # the next message does not fit in max_bytes
        self._done = ended
        self._created = False  # the server has the consumer
        self.ended = False
        self._at_end = False  # of the snapshot of last_per_subject
        given = {**config, "max_messages": min(self._most, 1000), "stop_after": self._most}
        if beats := body.get("idle_heartbeat"):
            given["heartbeat"] = beats
        fields, options, own = ordered_config({**given, "on_start": self._on_start})
        self._engine = OrderedEngine(api, stream, fields, options, own, self._on_message)
        if resume:
            self._engine.begin_after(resume)
        self._engine.skipped = self._skipped
        self._late: Timer = api.timer(self._timed_out, self._finish)

    def start(self) -> None:
        self._engine.start()
        self._engine.hold_drain()
        self._late.start(self._expires)

    def position(self) -> int | None:
        """Return the stream sequence after which the next fetch begins; None: where this one began."""
        if self._last is not None:
            return self._last
        return None if self._too_large else self._engine.position

    def in_snapshot(self) -> bool:
        """Return whether the last message of each subject has not come from all subjects yet."""
        return (self._engine.snapshot and not self._at_end) or self._too_large

    def _skipped(self, meta: Metadata) -> None:
        if not meta.num_pending:
            self._at_end = True
            if self._no_wait:
                self._finish(None)

    def _on_start(self, info: Any) -> None:
        self._created = True
        if self._no_wait:
            self._most = min(self._most, max(0, info["num_pending"]))
            if not self._most:
                self._finish(None)

    def _on_message(self, msg: JsMsg | None, error: NatsError | None) -> None:
        if msg is not None:
            self._room -= size_of(msg.subject, msg.data, msg.reply, msg.headers)
            if self._room < 0:
                self._too_large = True
                reason = MaxBytesExceededError("message size exceeds max_bytes", code=409)
                self._finish(None if self.received else reason)
                return
            self.received += 1
            self._last = msg.seq
            if self._engine.snapshot and not msg.metadata.num_pending:
                self._at_end = True
                if self._no_wait:
                    self._most = self.received  # the others that were announced came before
        try:
            if msg is not None and self._on_msg is not None:
                self._api.nats.call(self._on_msg, msg)
            elif msg is not None:
                self.messages.append(msg)
        finally:
            if error is not None or self.received >= self._most:
                self._finish(error)

    def stop(self) -> None:
        """See `Fetch.stop`."""
        if not self.ended and not self.stopped:
            self.stopped = True
            self._api.nats.call_soon(self._finish, None)

    def _timed_out(self) -> None:
        # Within the timeout of the JetStream there is at least a heartbeat.
        silent = self._expires >= self._api.timeout > 0 and not self._engine.heard
        answered = self._created and not silent
        self._finish(None if answered else RequestTimeoutError("request timeout"))

    def _finish(self, error: NatsError | None) -> None:
        if not self.ended:
            self.ended = True
            self._late.cancel()
            self._engine.stop()
            self._on_msg = None
            done, self._done = self._done, lambda error: None
            done(error)
