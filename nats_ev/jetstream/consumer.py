"""Consumers: creating, changing and listing them, and all ways to receive their messages.

Here are the methods of `JetStream`. Each way to receive has a module: `fetch`, `consume` (on `pull`),
`ordered`, `ordered_fetch`, `push`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, overload

from ..arguments import (
    Callback,
    ResultCallback,
    callable_or_none,
    check_result_cb,
    explained,
    integer,
    optional_middle,
)
from ..errors import BadOptionsError, NatsError
from ..nuid import next_nuid
from ..times import rfc3339
from .answers import INFO
from .api import Api, name_of
from .config import MAX_SEQUENCE, V2_11, V2_14, consumer_config, with_keywords
from .consume import Consume, ConsumeEngine
from .fetch import Fetch, FetchEngine, fetch_opts
from .levels import Feature
from .message import JsMsg
from .ordered import OrderedEngine
from .ordered_fetch import OrderedFetcher
from .ordered_handle import OrderedConsumer
from .pull import MsgCallback
from .pull_options import consume_opts, ordered_config
from .push import PushEngine, PushSubscription
from .store import store_consumer
from .types import (
    ConsumeOptions,
    ConsumerConfig,
    ConsumerInfo,
    ConsumerList,
    ConsumerPauseResult,
    ConsumerResetResult,
    FetchOptions,
    OrderedConfig,
    OrderedConsumerConfig,
    PushOptions,
    Success,
)

_IN_A_DICT = "options are one dict, as in fetch('S', 'c', {'batch': 10}, cb)"
_ONE_DICT = "a configuration is one dict, as in consumer_create('S', {'name': 'c'}, cb)"


class Consumers:
    """The methods of `JetStream` that deal with consumers and their messages."""

    _api: Api

    # Management.

    @explained(other=_ONE_DICT)
    def consumer_create(
        self, stream: str, config: ConsumerConfig, cb: ResultCallback[ConsumerInfo]
    ) -> None:
        """Create a consumer; ``cb(info, err)``. Creating it again with the same configuration succeeds.

        On nats-server 2.9 this is the same as `consumer_create_or_update`, and so is `consumer_update`.

        Args:
            stream: the stream's name.
            config: durable_name or name, or neither: then the consumer is ephemeral and gets a name;
                ack_policy ("explicit", "all", "none"), ack_wait, max_deliver, max_ack_pending,
                deliver_policy, opt_start_seq, filter_subject or filter_subjects, inactive_threshold
                and all other fields that the server has.
            cb: gets `ConsumerExistsError` when the consumer exists with another configuration,
                `ApiLevelError` when the server lacks a field. Nothing was created then, unless the server
                that stores the consumer is older than the one that answered for its API level.

        Raises:
            TypeError, BadOptionsError: config is not a consumer configuration.
        """
        self._consumer_store(stream, config, "create", cb)

    @explained(other=_ONE_DICT)
    def consumer_update(
        self, stream: str, config: ConsumerConfig, cb: ResultCallback[ConsumerInfo]
    ) -> None:
        """Change a consumer; cb gets `ConsumerNotFoundError` when it does not exist.

        Arguments and errors otherwise as in `consumer_create`.
        """
        self._consumer_store(stream, config, "update", cb)

    def consumer_create_or_update(
        self, stream: str, config: ConsumerConfig, cb: ResultCallback[ConsumerInfo]
    ) -> None:
        """Create a consumer, or change the one that has its name. Arguments as in `consumer_create`."""
        self._consumer_store(stream, config, "", cb)

    def consumer_delete(self, stream: str, consumer: str, cb: ResultCallback[Success]) -> None:
        """Delete a consumer; ``cb({"success": True}, err)``."""
        self._consumer("DELETE", stream, consumer, None, cb)

    def consumer_info(self, stream: str, consumer: str, cb: ResultCallback[ConsumerInfo]) -> None:
        """Ask for a consumer's configuration and state.

        ``cb({"name", "config", "num_pending", …}, err)``.
        """
        self._consumer("INFO", stream, consumer, None, cb)

    def consumer_list(self, stream: str, cb: ResultCallback[ConsumerList]) -> None:
        """List all consumers of a stream; ``cb({"consumers": [info, …], "total": n}, err)``.

        ``missing`` as in `stream_list`.
        """
        check_result_cb(cb)

        def listed(items: Any, error: NatsError | None, missing: list[Any]) -> None:
            if error is not None:
                cb(None, error)
            else:
                found: ConsumerList = {"consumers": items, "total": len(items)}
                if missing:
                    found["missing"] = missing
                cb(found, None)

        verb = f"CONSUMER.LIST.{name_of('stream', stream)}"
        self._api.all_items(verb, {}, "consumers", INFO, listed)

    def consumer_names(self, stream: str, cb: ResultCallback[list[str]]) -> None:
        """List the names of all consumers of a stream; ``cb([name, …], err)``."""
        check_result_cb(cb)
        verb = f"CONSUMER.NAMES.{name_of('stream', stream)}"
        self._api.all_items(verb, {}, "consumers", str, lambda names, error, _: cb(names, error))

    def consumer_pause(
        self,
        stream: str,
        consumer: str,
        until: datetime | timedelta,
        cb: ResultCallback[ConsumerPauseResult],
    ) -> None:
        """Pause a consumer: it delivers nothing until a time. nats-server 2.11 or later.

        Args:
            stream: the stream's name.
            consumer: the consumer's name.
            until: a time, or a timedelta from now on.
            cb: ``cb({"paused", "pause_until", …}, err)``.
        """
        if isinstance(until, timedelta):
            try:
                until = datetime.now().astimezone() + until
            except OverflowError:
                raise BadOptionsError(f"until is beyond the year 9999: {until}") from None
        if not isinstance(until, datetime):
            raise TypeError(f"until must be a datetime or a timedelta, not {type(until).__name__}")
        body = {"pause_until": rfc3339(until)}
        self._consumer("PAUSE", stream, consumer, body, cb, {"consumer pause": V2_11})

    def consumer_resume(
        self, stream: str, consumer: str, cb: ResultCallback[ConsumerPauseResult]
    ) -> None:
        """Resume a paused consumer; the answer is as in `consumer_pause`."""
        self._consumer("PAUSE", stream, consumer, {}, cb, {"consumer resume": V2_11})

    def consumer_unpin(
        self, stream: str, consumer: str, group: str, cb: ResultCallback[Success]
    ) -> None:
        """Have the server choose another pinned client of a priority group. nats-server 2.11 or later."""
        needs = {"consumer unpin": V2_11}
        self._consumer("UNPIN", stream, consumer, {"group": group}, cb, needs)

    def consumer_reset(
        self,
        stream: str,
        consumer: str,
        seq: int | ResultCallback[ConsumerResetResult] | None = None,
        cb: ResultCallback[ConsumerResetResult] | None = None,
    ) -> None:
        """Set a consumer back to a stream sequence (ADR-60). nats-server 2.14 or later.

        Args:
            stream: the stream's name.
            consumer: the consumer's name.
            seq: the sequence to deliver from, 1 or more; left out: the first one that is not acknowledged.
            cb: called once.
        """
        if cb is None and callable(seq):
            seq, cb = None, seq
        check_result_cb(cb)
        body = {} if seq is None else {"seq": integer(seq, "seq", 1, MAX_SEQUENCE)}
        assert cb is not None
        self._consumer("RESET", stream, consumer, body, cb, {"consumer reset": V2_14})

    # Messages.

    @overload
    def fetch(
        self,
        stream: str,
        consumer: str,
        opts: FetchOptions | ResultCallback[list[JsMsg]] | None = None,
        cb: ResultCallback[list[JsMsg]] | None = None,
    ) -> Fetch: ...
    @overload
    def fetch(
        self,
        stream: str,
        consumer: str,
        opts: FetchOptions | ResultCallback[int] | None = None,
        cb: ResultCallback[int] | None = None,
        *,
        on_msg: Callable[[JsMsg], object],
    ) -> Fetch: ...
    @explained(other=_IN_A_DICT)
    def fetch(
        self,
        stream: str,
        consumer: str,
        opts: FetchOptions | ResultCallback[list[JsMsg]] | ResultCallback[int] | None = None,
        cb: ResultCallback[list[JsMsg]] | ResultCallback[int] | None = None,
        *,
        on_msg: Callable[[JsMsg], object] | None = None,
    ) -> Fetch:
        """Fetch a number of messages from a pull consumer; ``cb([JsMsg, …], err)``.

        The list has up to batch messages: fewer, or none, when no more came in time or fitted in
        max_bytes. With an err it has the messages that came before the error, or it is None.

        Args:
            stream: the stream's name.
            consumer: the consumer's name.
            opts: with durations as timedelta or in ns: batch (1; with max_bytes as many as fit),
                max_bytes, expires (5 s), no_wait (True: only messages that the consumer has now, none
                while it waits for acknowledgements; with an expires it waits for the first), heartbeat
                or idle_heartbeat (15 s when expires is above 30 s, else none), and for priority groups
                group, id, min_pending, min_ack_pending, priority. Also on_msg.
            cb: gets `NoRespondersError` when the consumer does not exist, `NoHeartbeatError`,
                ``disconnected``, or the `PullStatusError` of a status that is not an ordinary end.
            on_msg: ``on_msg(msg)`` for each message as soon as it has come. cb gets their number in place
                of the list, after the last one: ``cb(number, err)``.

        Returns:
            The handle, whose `stop` ends the fetch early.

        Raises:
            TypeError, BadOptionsError: an option is wrong.
            NotConnectedError: the client is not connected and no attempt is planned.
        """
        given, done = optional_middle(opts, cb)
        options = with_keywords(given, on_msg=on_msg)
        on_msg = callable_or_none(options.pop("on_msg", None), "on_msg")
        body = fetch_opts(options)
        subject = _next_subject(self._api, stream, consumer)
        engine = FetchEngine(self._api, subject, body, done, on_msg)
        engine.start()
        return Fetch(engine)

    @explained(other=_IN_A_DICT)
    def next(
        self,
        stream: str,
        consumer: str,
        opts: FetchOptions | ResultCallback[JsMsg] | None = None,
        cb: ResultCallback[JsMsg] | None = None,
    ) -> Fetch:
        """Fetch one message from a pull consumer; ``cb(JsMsg, err)``.

        Args:
            stream: the stream's name.
            consumer: the consumer's name.
            opts: as in `fetch`, except batch.
            cb: gets `RequestTimeoutError` when no message came in time, and the errors of `fetch`.

        Returns:
            The handle, whose `stop` ends the wait early.
        """
        given, done = optional_middle(opts, cb)
        body = fetch_opts({**(given or {}), "batch": 1})
        engine = FetchEngine(self._api, _next_subject(self._api, stream, consumer), body, done)
        engine.single = True
        engine.start()
        return Fetch(engine)

    def consume(
        self,
        stream: str,
        consumer: str,
        opts: ConsumeOptions | MsgCallback | None = None,
        cb: MsgCallback | None = None,
        *,
        on_error: Callable[[NatsError], object] | None = None,
        stop_after: int | None = None,
    ) -> Consume:
        """Deliver all messages of a pull consumer continuously (ADR-37), until `Consume.stop`.

        Consuming survives lost connections, restarted servers and missed heartbeats; messages that were
        on their way are delivered again.

        Args:
            stream: the stream's name.
            consumer: the consumer's name.
            opts: with durations as timedelta or in ns: max_messages (500) or max_bytes, the most that is
                requested at a time; threshold_messages, threshold_bytes (half of it): request more when
                no more than this is still to come; expires (30 s) of each request; heartbeat (half of
                expires, at most 30 s, at least 500 ms; until something has come, a third of the timeout of
                this object); for priority groups group, min_pending,
                min_ack_pending, priority. Also on_error and stop_after.
            cb: ``cb(msg, None)`` for each message; ``cb(None, err)`` once when consuming can't go on: the
                consumer was deleted or is a push consumer, its user lacks the right, no JetStream answers
                within the timeout of this object, or the client has ended. `NoHeartbeatError` when the
                server knows the consumer, but not one heartbeat has come, twice that timeout long.
            on_error: ``on_error(err)`` for each error that consuming survives.
            stop_after: stop after this number of messages, and request no more than these.

        Returns:
            The handle, with `stop` and `drain`.
        """
        given, done = optional_middle(opts, cb)
        options = consume_opts(with_keywords(given, on_error=on_error, stop_after=stop_after))
        engine = ConsumeEngine(
            self._api, name_of("stream", stream), name_of("consumer", consumer), options, done
        )
        engine.start()
        return Consume(engine)

    def ordered_consumer(
        self,
        stream: str,
        config: OrderedConsumerConfig | MsgCallback | None = None,
        cb: MsgCallback | None = None,
        *,
        on_start: Callable[[ConsumerInfo], object] | None = None,
        on_error: Callable[[NatsError], object] | None = None,
        stop_after: int | None = None,
        max_reset_attempts: int | None = None,
        name_prefix: str | None = None,
    ) -> OrderedConsumer:
        """Deliver all messages of a stream in its order (ADR-17), until `OrderedConsumer.stop`.

        Each message is delivered exactly once, across lost connections and restarted servers. The
        messages are not acknowledged.

        Args:
            stream: the stream's name.
            config: deliver_policy, opt_start_seq, opt_start_time, filter_subject, filter_subjects,
                headers_only, replay_policy, inactive_threshold (5 min), metadata; the options of `consume`
                except those of priority groups (max_messages: 1000). Also the keywords below.
            cb: ``cb(msg, None)`` for each message; ``cb(None, err)`` once when the consumer can't go on: the
                stream does not exist, it could not begin within the timeout of this object, the stream is
                another one now (`StreamRecreatedError`), nothing that the server sends arrives
                (`NoHeartbeatError`, as in `consume`), or the client has ended.
            on_start: ``on_start(info)`` once, before the first message, with the consumer's info, whose
                ``num_pending`` is the number of messages that there are initially.
            on_error: ``on_error(err)`` for each error that the consumer survives.
            stop_after: stop after this number of messages.
            max_reset_attempts: how often in a row creating the consumer may fail (-1: any number).
            name_prefix: names on the server are ``<name_prefix>_<number>``; default: a random one.

        Returns:
            The handle, with `stop` and `drain`.
        """
        given, done = optional_middle(config, cb)
        keywords = with_keywords(
            given,
            on_start=on_start,
            on_error=on_error,
            stop_after=stop_after,
            max_reset_attempts=max_reset_attempts,
            name_prefix=name_prefix,
        )
        fields, options, own = ordered_config(keywords)
        engine = OrderedEngine(self._api, name_of("stream", stream), fields, options, own, done)
        engine.start()
        return OrderedConsumer(engine)

    def ordered_fetcher(
        self,
        stream: str,
        config: OrderedConfig | None = None,
        *,
        max_reset_attempts: int | None = None,
        name_prefix: str | None = None,
    ) -> OrderedFetcher:
        """Return an object that fetches a stream's messages in order: see `OrderedFetcher.fetch`.

        Nothing is sent to the server yet.

        Args:
            stream: the stream's name.
            config: as in `ordered_consumer`, without the options of `consume`.
            max_reset_attempts, name_prefix: as in `ordered_consumer`.
        """
        given = with_keywords(
            config, max_reset_attempts=max_reset_attempts, name_prefix=name_prefix
        )
        return OrderedFetcher(self._api, name_of("stream", stream), given)

    def push_subscribe(
        self,
        stream: str,
        consumer: str | ConsumerConfig,
        opts: PushOptions | MsgCallback | None = None,
        cb: MsgCallback | None = None,
        *,
        on_start: Callable[[ConsumerInfo], object] | None = None,
        on_error: Callable[[NatsError], object] | None = None,
    ) -> PushSubscription:
        """Receive the messages of a push consumer, until `PushSubscription.stop`.

        The server's flow control is answered. The members of a deliver_group share the messages.

        Args:
            stream: the stream's name.
            consumer: the name of a consumer that exists, or a configuration: then the consumer is created,
                with an inbox as deliver_subject unless the configuration has one, and deleted at the end
                if it has no name.
            opts: on_start and on_error.
            cb: ``cb(msg, None)`` for each message; ``cb(None, err)`` once when the subscription can't go on:
                the consumer is missing, the user may not receive its messages, the client has ended, or not
                one of its heartbeats has come in four times their interval (`NoHeartbeatError`).
            on_start: ``on_start(info)`` once, with the consumer's info.
            on_error: ``on_error(err)`` for each error that does not end the subscription
                (`NoHeartbeatError`, `SequenceMismatchError`).

        Returns:
            The handle, with `stop` and `drain`.
        """
        given, done = optional_middle(opts, cb)
        options = with_keywords(given, on_start=on_start, on_error=on_error)
        engine = PushEngine(self._api, stream, consumer, options, done)
        engine.start()
        return PushSubscription(engine)

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
        check_result_cb(cb)
        subject = f"CONSUMER.{verb}.{name_of('stream', stream)}.{name_of('consumer', consumer)}"
        self._api.require(
            needs or {}, lambda level: self._api.request(subject, body, cb, level=level), cb
        )

    def _consumer_store(
        self, stream: str, config: Mapping[str, Any], action: str, cb: Callback
    ) -> None:
        check_result_cb(cb)
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
        store_consumer(self._api, stream, consumer, subject, request, needs, cb)


def _next_subject(api: Api, stream: str, consumer: str) -> str:
    return f"{api.prefix}.CONSUMER.MSG.NEXT.{name_of('stream', stream)}.{name_of('consumer', consumer)}"
