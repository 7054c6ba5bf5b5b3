"""Batches in a stream's order: `OrderedConsumer`, a number of messages at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from ..arguments import Callback, optional_middle
from ..errors import BadOptionsError, NatsError, RequestTimeoutError
from ..times import MILLISECOND
from .api import Api, Wait
from .config import check_fields, consumer_config
from .errors import MaxBytesExceededError, NoMessagesError
from .message import JsMsg
from .ordered import CONFIG_FIELDS, OrderedConsumer, ordered_config
from .pull import fetch_opts, size_of

_CONFIG = dict.fromkeys((*CONFIG_FIELDS, "max_reset_attempts", "name_prefix"))
_OPTIONS = dict.fromkeys(
    ("batch", "max_bytes", "expires", "no_wait", "heartbeat", "idle_heartbeat")
)
Opts = Mapping[str, Any] | Callback | None


class OrderedFetcher:
    """What `Consumers.ordered_fetcher` makes: each `fetch` goes on behind the one before it.

    Messages are in the stream's order, each exactly once, as from an `OrderedConsumer`; between two
    fetches nothing of it is on the server.
    """

    def __init__(self, api: Api, stream: str, config: Mapping[str, Any]) -> None:
        check_fields("ordered consumer", config, _CONFIG)
        consumer_config(ordered_config(config)[0])  # raises for a bad one
        self.stream = stream
        self._api = api
        self._config = dict(config)
        self._prefix = config.get("name_prefix")
        self._count = 0
        self._running: _Batch | None = None

    @property
    def last_seq(self) -> int:
        """Stream sequence of the last message fetched, or the one before the first to come."""
        return int(self._config.get("opt_start_seq", 1)) - 1

    def fetch(self, opts: Opts = None, cb: Callback | None = None) -> None:
        """Get a number of messages; ``cb([JsMsg, …], err)``, after an error what had come before it.

        opts: batch (1; with max_bytes as many as fit), max_bytes (`MaxBytesExceededError` when the first
        does not fit), expires (5 s), no_wait (true: only what is there now), heartbeat; durations in ns
        or as timedelta. One at a time: raises `BadOptionsError` while another is running.
        """
        given, done = optional_middle(opts, cb)
        self._start(
            given or {},
            lambda messages, error: done(messages or ([] if error is None else None), error),
        )

    def next(self, opts: Opts = None, cb: Callback | None = None) -> None:
        """Get one message; ``cb(JsMsg, None)``, or `RequestTimeoutError`, with no_wait `NoMessagesError`.

        opts as in `fetch`, but batch.
        """
        given, done = optional_middle(opts, cb)
        none: NatsError = RequestTimeoutError("request timeout")
        if (given or {}).get("no_wait"):
            none = NoMessagesError("no messages", code=404)

        def fetched(messages: list[JsMsg], error: NatsError | None) -> None:
            if messages:
                done(messages[0], None)
            else:
                done(None, error or none)

        self._start({**(given or {}), "batch": 1}, fetched)

    def _start(self, given: Mapping[str, Any], cb: Callback) -> None:
        check_fields("fetch options", given, _OPTIONS)
        body = fetch_opts(given)
        if self._running is not None:
            raise BadOptionsError("this ordered consumer is fetching already")

        self._count += 1
        if self._prefix:
            self._config["name_prefix"] = f"{self._prefix}_{self._count}"

        def ended(messages: list[JsMsg], error: NatsError | None) -> None:
            position = batch.position()
            if position is not None:
                self._config.pop("opt_start_time", None)
                self._config.update(deliver_policy="by_start_sequence", opt_start_seq=position + 1)
            self._running = None
            cb(messages, error)

        batch = _Batch(self._api, self.stream, self._config, body, ended)
        batch.start()
        self._running = batch


class _Batch:
    """An ordered consumer for one batch."""

    def __init__(
        self,
        api: Api,
        stream: str,
        config: Mapping[str, Any],
        body: Mapping[str, Any],
        ended: Callable[[list[JsMsg], NatsError | None], object],
    ) -> None:
        self._most: int = body["batch"]
        self._no_wait = bool(body.get("no_wait"))
        self._expires = body.get("expires", 0) / MILLISECOND or api.timeout or 5000
        self._messages: list[JsMsg] = []
        self._room: int = body.get("max_bytes") or sys.maxsize
        self._too_large = False  # the message behind those
        self._ended = ended
        self._made = False  # the server has the consumer
        self._over = False
        given = {**config, "max_messages": min(self._most, 1000), "stop_after": self._most}
        if beats := body.get("idle_heartbeat"):
            given["heartbeat"] = beats
        fields, options, own = ordered_config({**given, "on_start": self._on_start})
        self.ordered = OrderedConsumer(api, stream, fields, options, own, self._on_message)
        self._late: Wait = api.wait(self._timed_out, self._finish)

    def start(self) -> None:
        self.ordered.start()
        self._late.start(self._expires)

    def position(self) -> int | None:
        """Stream sequence that the next fetch begins behind; None: where this one did."""
        if self._messages:
            return self._messages[-1].seq
        return None if self._too_large else self.ordered.position

    def _on_start(self, info: Any) -> None:
        self._made = True
        if self._no_wait:
            self._most = min(self._most, info["num_pending"])
            if not self._most:
                self._finish(None)

    def _on_message(self, msg: JsMsg | None, error: NatsError | None) -> None:
        if msg is not None:
            self._room -= size_of(msg.subject, msg.data, msg.reply, msg.headers)
            if self._room < 0:
                self._too_large = True
                reason = MaxBytesExceededError("message size exceeds max_bytes", code=409)
                self._finish(None if self._messages else reason)
                return
            self._messages.append(msg)
        if error is not None or len(self._messages) >= self._most:
            self._finish(error)

    def _timed_out(self) -> None:
        self._finish(None if self._made else RequestTimeoutError("request timeout"))

    def _finish(self, error: NatsError | None) -> None:
        if not self._over:
            self._over = True
            self._late.cancel()
            self.ordered.stop()
            self._ended(self._messages, error)
