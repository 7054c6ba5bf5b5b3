"""Consumers: their management, and the ways to get messages from them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from ..arguments import Callback, check_callback, integer, optional_middle
from ..errors import BadOptionsError, NatsError
from ..nuid import next_nuid
from ..times import rfc3339
from .api import Api, Feature, name_of
from .config import V2_11, V2_14, consumer_config
from .consume import Consume
from .ordered import OrderedConsumer, ordered_config
from .ordered_fetch import OrderedFetcher
from .pull import Fetch, MsgCallback, consume_opts, fetch_opts
from .push import PushSubscription

Opts = Mapping[str, Any] | Callback | None


class Consumers:
    """The part of `JetStream` that deals with consumers."""

    _api: Api

    # Management.

    def consumer_create(self, stream: str, config: Mapping[str, Any], cb: Callback) -> None:
        """Create a consumer; creating it again with the same configuration succeeds.

        config: durable_name or name, or neither: then the consumer is ephemeral and gets a name; ack_policy
        ("explicit", "all", "none"), ack_wait, max_deliver, max_ack_pending, deliver_policy, opt_start_seq,
        filter_subject or filter_subjects, inactive_threshold and all other fields that the server has.

        ``cb(info, err)``: `ConsumerExistsError` when it exists with another configuration, `ApiLevelError`
        when the server lacks a field, and then nothing was created. For nats-server 2.9 this is the same as
        `consumer_create_or_update`, and so is `consumer_update`.
        """
        self._consumer_store(stream, config, "create", cb)

    def consumer_update(self, stream: str, config: Mapping[str, Any], cb: Callback) -> None:
        """Change a consumer; `ConsumerNotFoundError` when there is none. See `consumer_create`."""
        self._consumer_store(stream, config, "update", cb)

    def consumer_create_or_update(
        self, stream: str, config: Mapping[str, Any], cb: Callback
    ) -> None:
        """Create a consumer, or change the one that has the name."""
        self._consumer_store(stream, config, "", cb)

    def consumer_delete(self, stream: str, consumer: str, cb: Callback) -> None:
        """Delete a consumer; ``cb({"success": True}, err)``."""
        self._consumer("DELETE", stream, consumer, None, cb)

    def consumer_info(self, stream: str, consumer: str, cb: Callback) -> None:
        """A consumer's configuration and state; ``cb({"name", "config", "num_pending", …}, err)``."""
        self._consumer("INFO", stream, consumer, None, cb)

    def consumer_list(self, stream: str, cb: Callback) -> None:
        """All consumers of a stream: ``{"consumers": [info, …], "total": n}``, all pages of it."""
        check_callback(cb)

        def listed(items: Any, error: NatsError | None) -> None:
            if error is not None:
                cb(None, error)
            else:
                cb({"consumers": items, "total": len(items)}, None)

        self._api.pages(f"CONSUMER.LIST.{name_of('stream', stream)}", {}, "consumers", listed)

    def consumer_names(self, stream: str, cb: Callback) -> None:
        """The names of all consumers of a stream, as a list."""
        check_callback(cb)
        self._api.pages(f"CONSUMER.NAMES.{name_of('stream', stream)}", {}, "consumers", cb)

    def consumer_pause(
        self, stream: str, consumer: str, until: datetime | timedelta, cb: Callback
    ) -> None:
        """Deliver nothing until a time, or for so long; ``cb({"paused", "pause_until", …}, err)``."""
        if isinstance(until, timedelta):
            until = datetime.now().astimezone() + until
        if not isinstance(until, datetime):
            raise TypeError(f"until must be a datetime or a timedelta, not {type(until).__name__}")
        body = {"pause_until": rfc3339(until)}
        self._consumer("PAUSE", stream, consumer, body, cb, {"consumer pause": V2_11})

    def consumer_resume(self, stream: str, consumer: str, cb: Callback) -> None:
        """Undo `consumer_pause`."""
        self._consumer("PAUSE", stream, consumer, {}, cb, {"consumer resume": V2_11})

    def consumer_unpin(self, stream: str, consumer: str, group: str, cb: Callback) -> None:
        """Let the server choose another pinned client of a priority group."""
        needs = {"consumer unpin": V2_11}
        self._consumer("UNPIN", stream, consumer, {"group": group}, cb, needs)

    def consumer_reset(
        self,
        stream: str,
        consumer: str,
        seq: int | Callback | None = None,
        cb: Callback | None = None,
    ) -> None:
        """Deliver from a stream sequence on again; without one, from the acknowledged ones on."""
        if cb is None and callable(seq):
            seq, cb = None, seq
        check_callback(cb)
        body = {"seq": integer(seq, "seq")} if seq else {}
        assert cb is not None
        self._consumer("RESET", stream, consumer, body, cb, {"consumer reset": V2_14})

    # nats.go's words.
    create_or_update_consumer = consumer_create_or_update
    pause_consumer = consumer_pause
    resume_consumer = consumer_resume
    unpin_consumer = consumer_unpin
    reset_consumer = consumer_reset

    # Messages.

    def fetch(
        self, stream: str, consumer: str, opts: Opts = None, cb: Callback | None = None
    ) -> None:
        """Get a number of messages from a pull consumer; ``cb([JsMsg, …], err)``.

        The list has what there was: up to batch messages, fewer or none when no more came in time or
        fitted in max_bytes. After an error it is None, or what had come before the error.

        opts, with durations in ns or as timedelta: batch (1; with max_bytes as many as fit), max_bytes,
        expires (5 s), no_wait (true: only what is there now; with an expires, wait for the first),
        heartbeat or idle_heartbeat, and for priority groups group, id, min_pending, min_ack_pending,
        priority.

        Errors: `NoRespondersError` when there is no such consumer, `NoHeartbeatError`, ``disconnected``,
        and the `PullStatusError` for a status that is no ordinary end. Raises `BadOptionsError`, and
        `NotConnectedError` when no connection is coming.
        """
        given, done = optional_middle(opts, cb)
        body = fetch_opts(given or {})
        Fetch(self._api, _next_subject(self._api, stream, consumer), body, done).start()

    def next(
        self, stream: str, consumer: str, opts: Opts = None, cb: Callback | None = None
    ) -> None:
        """Get one message; ``cb(JsMsg, None)``, or `RequestTimeoutError` when none came in time.

        opts as in `fetch`, but batch.
        """
        given, done = optional_middle(opts, cb)
        body = fetch_opts({**(given or {}), "batch": 1})
        fetch = Fetch(self._api, _next_subject(self._api, stream, consumer), body, done)
        fetch.single = True
        fetch.start()

    def consume(
        self,
        stream: str,
        consumer: str,
        opts: Mapping[str, Any] | MsgCallback | None = None,
        cb: MsgCallback | None = None,
    ) -> Consume:
        """Get all messages from a pull consumer, without a pause (ADR-37), until `Consume.stop`.

        ``cb(msg, None)`` for each; ``cb(None, err)`` once when it can't go on: the consumer has been
        deleted or is none to pull from. Lost connections, restarting servers and missed heartbeats are
        got over: then messages that were on the way are delivered again.

        opts, with durations in ns or as timedelta: max_messages (500) asked for at a time, or max_bytes;
        threshold_messages, threshold_bytes (half of it): ask for more when so much is still to come;
        expires (30 s) of each request; heartbeat (half of expires, at most 30 s); for priority groups
        group, min_pending, min_ack_pending, priority; stop_after: so many messages, then it stops, and no
        more are asked for; on_error: ``on_error(err)`` for what was got over.
        """
        given, done = optional_middle(opts, cb)
        options = consume_opts(given or {})
        consume = Consume(
            self._api, name_of("stream", stream), name_of("consumer", consumer), options, done
        )
        consume.start()
        return consume

    def ordered_consumer(
        self,
        stream: str,
        config: Mapping[str, Any] | MsgCallback | None = None,
        cb: MsgCallback | None = None,
    ) -> OrderedConsumer:
        """All messages of a stream in its order (ADR-17), until `OrderedConsumer.stop`.

        ``cb(msg, None)`` for each, exactly once, whatever happens to connections and servers; they are
        not acknowledged. ``cb(None, err)`` once when it can't go on: there is no such stream.

        config: deliver_policy, opt_start_seq, opt_start_time, filter_subject, filter_subjects,
        headers_only, replay_policy, inactive_threshold (5 min), metadata, name_prefix; the options of
        `consume` but those of priority groups (max_messages: 1000); on_start: ``on_start(info)`` once,
        before the first message, with the consumer's info: ``num_pending`` is how many there are initially;
        max_reset_attempts (-1: any number).
        """
        given, done = optional_middle(config, cb)
        fields, options, extra = ordered_config(given or {})
        ordered = OrderedConsumer(
            self._api, name_of("stream", stream), fields, options, extra, done
        )
        ordered.start()
        return ordered

    def ordered_fetcher(
        self, stream: str, config: Mapping[str, Any] | None = None
    ) -> OrderedFetcher:
        """All messages of a stream in its order, a batch at a time: see `OrderedFetcher.fetch`.

        config as in `ordered_consumer`, without the options of `consume`. Nothing is asked for yet.
        """
        return OrderedFetcher(self._api, name_of("stream", stream), config or {})

    def push_subscribe(
        self,
        stream: str,
        consumer: str | Mapping[str, Any],
        opts: Mapping[str, Any] | MsgCallback | None = None,
        cb: MsgCallback | None = None,
    ) -> PushSubscription:
        """Receive what a push consumer sends, until `PushSubscription.stop`.

        consumer: the name of one that exists, or a configuration: it is created, with an inbox as
        deliver_subject unless there is one, and deleted at the end if it has no name. A deliver_group
        shares the messages among its members. ``cb(msg, None)`` for each message, ``cb(None, err)`` once
        when it can't go on. Flow control is answered.

        opts: on_start: ``on_start(info)`` with the consumer's info; on_error: ``on_error(err)`` for what
        does not end it (`NoHeartbeatError`, `SequenceMismatchError`).
        """
        given, done = optional_middle(opts, cb)
        subscription = PushSubscription(self._api, stream, consumer, given or {}, done)
        subscription.start()
        return subscription

    # Helpers.

    def _consumer(
        self,
        verb: str,
        stream: str,
        consumer: str,
        body: Mapping[str, Any] | None,
        cb: Callback,
        needs: Mapping[str, Feature] | None = None,
    ) -> None:
        check_callback(cb)
        subject = f"CONSUMER.{verb}.{name_of('stream', stream)}.{name_of('consumer', consumer)}"
        self._api.require(
            needs or {}, lambda level: self._api.request(subject, body, cb, level=level), cb
        )

    def _consumer_store(
        self, stream: str, config: Mapping[str, Any], action: str, cb: Callback
    ) -> None:
        check_callback(cb)
        stream = name_of("stream", stream)
        body, needs = consumer_config(config)
        durable, name = body.get("durable_name"), body.get("name")
        if durable and name and durable != name:
            raise BadOptionsError("durable_name and name must be the same")
        if action == "update" and not (name or durable):
            raise BadOptionsError("consumer name required")
        consumer = name_of("consumer", name or durable or next_nuid())
        if not durable:
            body["name"] = consumer
        request = {"stream_name": stream, "config": body, "action": action}
        subject = f"CONSUMER.CREATE.{stream}.{consumer}"
        filters = body.get("filter_subject")
        if filters and not any(c <= " " for c in filters):
            subject += f".{filters}"
        self._api.require(
            needs, lambda level: self._api.request(subject, request, cb, level=level), cb
        )


def _next_subject(api: Api, stream: str, consumer: str) -> str:
    return f"{api.prefix}.CONSUMER.MSG.NEXT.{name_of('stream', stream)}.{name_of('consumer', consumer)}"
