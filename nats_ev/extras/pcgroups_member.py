"""One member of a partitioned consumer group: what it consumes, and how memberships change.

Theory of operation
-------------------

Each member has a consumer whose filters are its partitions. Instances of the same member share that consumer;
its priority group lets one of them, the pinned one, receive. The group's configuration is watched.

**Hand-over.** In an elastic group a change of the membership gives partitions to another member. Both consume
from a work queue, where filters must not overlap: the new owner's consumer is refused (10100) until the old
owner has deleted its own, and tries again. The old owner therefore pauses its consumer, takes what is on its
way, waits until the program has acknowledged it (at most ack_wait), and only then deletes the consumer. What
was not acknowledged is delivered again, from the first such message on: so a key's order stays.

**Take-over.** An instance that becomes the pinned one begins in the middle. Messages that its predecessor has
received and not acknowledged would come after newer ones, when their ack_wait is over. So the first message
with another pin begins a hold: messages are kept until the server waits for no acknowledgement but theirs,
and are then delivered by their place in the stream. The server's count covers what it had delivered when it
answered; only messages up to that consumer sequence are compared with it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from ..arguments import Callback, ResultCallback, callable_or_none, check_result_cb
from ..errors import (
    BadOptionsError,
    ConnectionClosedError,
    NatsError,
    PermissionsViolationError,
)
from ..jetstream import (
    APIError,
    ApiLevelError,
    Consume,
    ConsumerDeletedError,
    ConsumerExistsError,
    ConsumerNotFoundError,
    JetStream,
    JsMsg,
    PinIdMismatchError,
    StreamNotFoundError,
)
from ..kv import KV, KvEntry, KvWatch
from ..times import MILLISECOND, SECOND, to_wire
from .pcgroups_config import (
    ELASTIC_BUCKET,
    PRIORITY_GROUP,
    STATIC_BUCKET,
    ConsumerGroupChangedError,
    ConsumerGroupDeletedError,
    ConsumerGroupError,
    ConsumerGroupNotFoundError,
    NotGroupMemberError,
    check_elastic,
    check_static,
    decode,
    elastic_get_partition_filters,
    key_of,
    members_of,
    static_get_partition_filters,
)
from .sequence import Sequence, Steps, pause

# orbit.go's default, in ns.
DEFAULT_ACK_WAIT = 5 * SECOND
# Filters of consumers of a work queue overlap: another member has not given up its partitions yet.
_NOT_UNIQUE = 10100
# Between two attempts, in ms: the first and the longest pause.
_FIRST_PAUSE, _LAST_PAUSE = 100.0, 1000.0
# Between two looks at a consumer, in ms.
_LOOK_EVERY = 50.0
# After this an error of a static member's consumer is final: its group may have been deleted. In ms.
_GRACE = 500.0
# In a header block, before the pin's id.
_PIN = b"Nats-Pin-Id:"
# No header block has it.
_NO_PIN = b"\r\n\r\n\0"
# What the group decides, and not who joins.
_OWN_FIELDS = (
    "durable_name", "name", "filter_subject", "filter_subjects", "priority_groups",
    "priority_policy", "priority_timeout", "deliver_subject", "deliver_group",
)  # fmt: skip


class Kind(NamedTuple):
    """What differs between static and elastic groups."""

    elastic: bool
    bucket: str
    check: Callable[[Mapping[str, Any]], None]
    filters: Callable[[Any, str], list[str]]

    def stream(self, stream: str, group: str) -> str:
        """Return the name of the stream that members consume from."""
        return f"{stream}-{group}" if self.elastic else stream

    def consumer(self, group: str, member: str) -> str:
        """Return the name of a member's consumer."""
        return member if self.elastic else f"{group}-{member}"


STATIC = Kind(False, STATIC_BUCKET, check_static, static_get_partition_filters)
ELASTIC = Kind(True, ELASTIC_BUCKET, check_elastic, elastic_get_partition_filters)


def read_config(kv: KV, kind: Kind, stream: str, group: str) -> Steps[tuple[Any, int]]:
    """Read a group's configuration, with its revision."""
    missing = f"stream {stream!r} has no consumer group {group!r} in bucket {kind.bucket!r}"
    try:
        entry: KvEntry | None = yield (kv.entry, key_of(stream, group))
    except StreamNotFoundError as exc:  # the bucket's
        raise ConsumerGroupNotFoundError(missing) from exc
    if entry is None:
        raise ConsumerGroupNotFoundError(missing)
    return decode(entry.value, kind.check, group), entry.revision


class GroupMember:
    """A member of a partitioned consumer group that consumes: what `ConsumerGroups` returns for it.

    Attributes:
        stream: the stream that the member consumes from; that of the group's own, for an elastic group.
        group: the group's name.
        member: the member's name.
        name: the name of the member's consumer.
    """

    def __init__(self, engine: MemberEngine) -> None:
        self.stream = engine.stream
        self.group = engine.group
        self.member = engine.member
        self.name = engine.name
        self._engine = engine

    def __repr__(self) -> str:
        state = "closed" if self.closed else "paused" if self.paused else "running"
        return f"<{type(self).__name__} {self.member} of {self.group} {state}>"

    @property
    def closed(self) -> bool:
        """Whether the member has ended: no callback follows."""
        return self._engine.closed

    @property
    def paused(self) -> bool:
        """Whether the delivery waits for `resume`."""
        return self._engine.paused and not self.closed

    @property
    def filters(self) -> list[str]:
        """The filters of the member's partitions; empty while it has no consumer."""
        return list(self._engine.have)

    def pause(self) -> None:
        """Deliver no message until `resume`; see `Consume.pause`."""
        self._engine.pause()

    def resume(self) -> None:
        """Deliver messages again, those first that were kept."""
        self._engine.resume()

    def stop(self) -> None:
        """End the membership of this instance at once: no callback follows.

        Another instance of the same member may take over at once. What was delivered may still be
        acknowledged.
        """
        self._engine.stop()

    def drain(self, cb: ResultCallback[bool] | None = None) -> None:
        """End the membership of this instance after the messages that are on their way.

        Then ``cb(True, None)``, or ``cb(None, err)`` if the connection was lost before.
        """
        self._engine.drain(cb)


class MemberEngine:
    """What a `GroupMember` does; see the head of this file."""

    def __init__(
        self,
        js: JetStream,
        kind: Kind,
        stream: str,
        group: str,
        member: str,
        config: Mapping[str, Any] | None,
        cb: Callback,
        on_error: Callable[[NatsError], object] | None,
    ) -> None:
        check_result_cb(cb)
        self._js, self._kind, self._cb = js, kind, cb
        self._on_error = callable_or_none(on_error, "on_error")
        self._source, self.group, self.member = stream, group, member
        self.stream, self.name = kind.stream(stream, group), kind.consumer(group, member)
        self._consumer = _consumer_config(kind, config or {})
        self._consumer["name" if kind.elastic else "durable_name"] = self.name
        self._ack_wait: float = self._consumer["ack_wait"] / SECOND
        self._kv = KV(js, kind.bucket)
        self._config: Any = None
        self._watch: KvWatch | None = None
        self._consume: Consume | None = None
        self._work: Sequence | None = None  # changes the consumer
        self._settling: Sequence | None = None
        self._held: dict[int, JsMsg] | None = None  # by stream sequence, during a hold
        self._pin = _NO_PIN
        self.have: list[str] = []  # the filters of the consumer
        self.closed = False
        self.paused = False

    # Life.

    def start(self) -> None:
        """Join the group. Raises what the first request raises."""
        self._work = Sequence(self._begin(), self._changed)
        self._work.start()

    def _begin(self) -> Steps[None]:
        self._config, _ = yield from read_config(self._kv, self._kind, self._source, self.group)
        if not self._kind.elastic and self.member not in members_of(self._config):
            raise NotGroupMemberError(
                f"{self.member!r} is no member of consumer group {self.group!r}"
            )
        self._watch = self._kv.watch(key_of(self._source, self.group), self._on_entry)
        yield from self._follow()

    def pause(self) -> None:
        """See `GroupMember.pause`."""
        self.paused = True
        if self._consume is not None:
            self._consume.pause()

    def resume(self) -> None:
        """See `GroupMember.resume`."""
        self.paused = False
        if self._settling is None and self._held is not None:
            self._release()
        if self._consume is not None and not self.paused:
            self._consume.resume()

    def stop(self) -> None:
        """See `GroupMember.stop`."""
        if self.closed:
            return
        consume = self._leave()
        if consume is not None:
            consume.stop()
        self._step_back()

    def drain(self, cb: ResultCallback[bool] | None) -> None:
        """See `GroupMember.drain`."""
        nats = self._js.nats
        if self._work is not None:
            self._work.stop()
        if self._watch is not None:
            self._watch.stop()
        if self.closed or self._consume is None:
            self._leave()
            if cb is not None:
                nats.call_soon(cb, True, None)
            return

        def drained(result: bool | None, error: NatsError | None) -> None:
            self._leave()
            self._step_back()
            if cb is not None:
                cb(result, error)

        self._consume.drain(drained)

    def _leave(self) -> Consume | None:
        """End all that goes on but the consuming, which is returned."""
        self.closed = True
        for running in (self._work, self._settling):
            if running is not None:
                running.stop()
        if self._watch is not None:
            self._watch.stop()
        held, self._held = self._held or {}, None
        for msg in held.values():
            self._attempt(msg.nak)
        consume, self._consume = self._consume, None
        self.have = []
        return consume

    def _attempt(self, call: Callable[[], object]) -> None:
        try:
            call()
        except NatsError as exc:
            self._report(exc)

    def _fail(self, error: NatsError) -> None:
        """End with an error."""
        if not self.closed:
            consume = self._leave()
            if consume is not None:
                consume.stop()
            self._js.nats.call(self._cb, None, error)

    def _report(self, error: NatsError) -> None:
        # That another instance has been pinned is no error here.
        ordinary = isinstance(error, PinIdMismatchError)
        if self._on_error is not None and not self.closed and not ordinary:
            self._js.nats.call_soon(self._on_error, error)

    def _step_back(self) -> None:
        """Let another instance of this member be the pinned one, if it is this one now."""
        if self._pin != _NO_PIN and self._js.nats.is_connected():
            Sequence(self._unpin(), lambda result, error: None).run()

    def _unpin(self) -> Steps[None]:
        info = yield self._js.consumer_info, self.stream, self.name
        if self._is_pinned(info):
            yield self._js.consumer_unpin, self.stream, self.name, PRIORITY_GROUP

    def _is_pinned(self, info: Mapping[str, Any]) -> bool:
        """Return whether the consumer's pinned client is this one."""
        ours = self._pin.partition(b":")[2].strip().decode("ascii", "replace")
        groups = info.get("priority_groups") or []
        return any(
            each.get("group") == PRIORITY_GROUP and each.get("pinned_client_id") == ours
            for each in groups
        )

    # The configuration.

    def _on_entry(self, entry: KvEntry | None, error: NatsError | None) -> None:
        if error is not None:
            self._fail(error)
        elif entry is not None and not self.closed:
            self._on_config(entry)

    def _on_config(self, entry: KvEntry) -> None:
        where = f"consumer group {self.group!r}"
        if entry.deleted:
            self._end(ConsumerGroupDeletedError(f"{where} was deleted"))
            return
        try:
            config = decode(entry.value, self._kind.check, self.group)
        except ConsumerGroupError as exc:
            self._end(exc)
            return
        before, self._config = self._config, config
        if _fixed(self._kind, config) != _fixed(self._kind, before):
            self._end(ConsumerGroupChangedError(f"{where} has another configuration now"))
        elif self._kind.elastic:
            self._look()

    def _end(self, error: NatsError) -> None:
        """End with an error; a static group's consumer is of no use any more."""
        self._fail(error)
        if not self._kind.elastic:
            self._attempt(
                lambda: self._js.consumer_delete(self.stream, self.name, lambda result, error: None)
            )

    def _look(self) -> None:
        """Change the consumer if it is not the right one, and nothing does so now."""
        busy = self._work is not None and not self._work.ended
        if not busy and not self.closed and self._wanted() != self.have:
            self._work = Sequence(self._follow(), self._changed)
            self._work.run()

    def _changed(self, result: object, error: NatsError | None) -> None:
        if isinstance(error, StreamNotFoundError) and self._config is not None:
            error = ConsumerGroupDeletedError(f"stream {self.stream!r} was deleted")
        if error is not None:
            self._fail(error)
        else:
            self._look()

    def _wanted(self) -> list[str]:
        return self._kind.filters(self._config, self.member)

    def _follow(self) -> Steps[None]:
        """Make the consumer that the configuration wants, until it is there."""
        wait = _FIRST_PAUSE
        while (wanted := self._wanted()) != self.have:
            try:
                if self.have:
                    yield from self._hand_over()
                elif wanted:
                    yield from self._create(wanted)
                wait = _FIRST_PAUSE
            except NatsError as exc:
                if _is_final(exc):
                    raise
                if getattr(exc, "err_code", 0) != _NOT_UNIQUE:
                    self._report(exc)
                # Not in step with the other members, who may wait for the same.
                yield pause, self._js.nats, wait * random.uniform(0.8, 1.2)
                wait = min(wait * 1.5, _LAST_PAUSE)

    # The consumer.

    def _create(self, wanted: list[str]) -> Steps[None]:
        config = {**self._consumer, "filter_subjects": wanted}
        patience = time.monotonic() + self._ack_wait + 1
        while True:
            try:
                yield self._js.consumer_create, self.stream, config
                break
            except ConsumerExistsError:
                if not self._kind.elastic:
                    raise
                yield from self._replace(patience)
        if wanted == self._wanted():
            self._start_consuming(wanted)
        else:
            self.have = wanted  # to be handed over at once

    def _replace(self, patience: float) -> Steps[None]:
        """Delete this member's consumer of an earlier membership, when nobody uses it any more."""
        try:
            info = yield self._js.consumer_info, self.stream, self.name
            if info["num_ack_pending"] and time.monotonic() < patience:
                # Its pinned instance is about to do this.
                yield pause, self._js.nats, _LOOK_EVERY * 2
            else:
                yield self._js.consumer_delete, self.stream, self.name
        except ConsumerNotFoundError:
            pass

    def _start_consuming(self, filters: list[str]) -> None:
        self.have = filters
        self._pin, self._held = _NO_PIN, None
        expires = max(self._consumer["ack_wait"] // 2, SECOND)
        self._consume = self._js.consume(
            self.stream,
            self.name,
            {"group": PRIORITY_GROUP, "expires": expires},
            self._arrived,
            on_error=self._report,
        )
        if self.paused:
            self._consume.pause()

    def _hand_over(self) -> Steps[None]:
        """Give up the consumer, with as few messages as possible delivered again."""
        js, consume = self._js, self._consume
        try:
            info = yield js.consumer_info, self.stream, self.name
            if consume is not None and self._is_pinned(info):
                most = timedelta(seconds=self._ack_wait + 5)
                yield js.consumer_pause, self.stream, self.name, most
                yield from self._drain(consume)
                if self._settling is not None:
                    self._settling.stop()
                yield from self._others_done(time.monotonic() + self._ack_wait)
                yield js.consumer_delete, self.stream, self.name
            elif consume is not None:
                # Whoever is the pinned one deletes the consumer.
                consume.stop()
                self._consume = None
                yield pause, js.nats, random.uniform(400, 500)
        except ConsumerNotFoundError:
            pass
        if self._consume is not None:
            self._consume.stop()
        self._consume, self._held, self.have = None, None, []

    def _drain(self, consume: Consume) -> Steps[None]:
        try:
            yield (consume.drain,)
        except ConnectionClosedError:
            raise
        except NatsError as exc:  # the connection was lost: what was on its way comes again
            self._report(exc)

    def _ended(self, error: NatsError) -> None:
        """Go on after the end of consuming, if that can be."""
        self._consume = self._held = None
        if self._kind.elastic and isinstance(error, (ConsumerDeletedError, ConsumerNotFoundError)):
            self.have = []
            self._look()
        elif isinstance(error, (ConsumerDeletedError, ConsumerNotFoundError)):
            self._js.nats.call_later(_GRACE, self._fail, error, ended=lambda: self._fail(error))
        else:
            self._fail(error)

    # Messages.

    def _arrived(self, msg: JsMsg | None, error: NatsError | None) -> None:
        if msg is None:
            assert error is not None
            if not self.closed:
                self._ended(error)
            return
        if msg.headers is None or self._pin not in msg.headers:
            self._on_pin(msg)
        msg.subject = msg.subject.partition(".")[2]
        if self._held is None:
            self._cb(msg, None)
        else:
            self._held[msg.seq] = msg

    def _on_pin(self, msg: JsMsg) -> None:
        """Take note of another pin: this instance has become the pinned one."""
        headers = msg.headers or b""
        at = headers.rfind(_PIN)
        if at < 0:
            return
        self._pin = headers[at : headers.index(b"\r\n", at)]
        if msg.metadata.consumer_sequence > 1 and self._held is None:
            self._held = {}
            self._settling = Sequence(self._settle(), self._settled)
            self._settling.run()

    def _settle(self) -> Steps[None]:
        # As long as a program may take that keeps messages by in_progress, within reason.
        patience = time.monotonic() + max(3 * self._ack_wait, 10)
        while True:
            try:
                yield from self._others_done(patience)
                return
            except NatsError as exc:
                if _is_final(exc) or time.monotonic() >= patience:
                    raise
                self._report(exc)  # such as a time-out of a server under load: ask again
                yield pause, self._js.nats, _FIRST_PAUSE

    def _settled(self, result: object, error: NatsError | None) -> None:
        self._settling = None
        if error is not None:
            self._report(error)
        if isinstance(error, ConsumerNotFoundError):
            self._held = None  # they come again, from another consumer
            return
        for msg in (self._held or {}).values():  # their time has run since they came
            self._attempt(msg.in_progress)
        self._release()

    def _others_done(self, patience: float) -> Steps[None]:
        """Wait until no messages are unacknowledged but those that are held."""
        refresh = time.monotonic() + self._ack_wait / 2
        while True:
            info = yield self._js.consumer_info, self.stream, self.name
            delivered = info["delivered"]["consumer_seq"]
            held = self._held or {}
            ours = sum(msg.metadata.consumer_sequence <= delivered for msg in held.values())
            now = time.monotonic()
            if info["num_ack_pending"] <= ours or now >= patience:
                return
            if now >= refresh:
                refresh = now + self._ack_wait / 2
                for msg in held.values():
                    self._attempt(msg.in_progress)
            yield pause, self._js.nats, _LOOK_EVERY

    def _release(self) -> None:
        """Deliver what was held, in the stream's order, until the user pauses or stops."""
        while self._held and not self.paused:
            first = min(self._held)
            self._js.nats.call(self._cb, self._held.pop(first), None)
        if not self._held:
            self._held = None


def _consumer_config(kind: Kind, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a member's consumer, but for its name and filters."""
    own = {*_OWN_FIELDS, *(("inactive_threshold",) if kind.elastic else ())}
    if forbidden := sorted(own & given.keys()):
        raise BadOptionsError(f"the group decides on {', '.join(forbidden)}")
    config: dict[str, Any] = {
        "ack_policy": "explicit",
        "deliver_policy": "all",
        "replay_policy": "instant",
        **to_wire(given),
    }
    if kind.elastic and config["ack_policy"] != "explicit":
        raise BadOptionsError("ack_policy must be explicit in an elastic consumer group")
    config["ack_wait"] = ack_wait = config.get("ack_wait") or DEFAULT_ACK_WAIT
    config["priority_groups"] = [PRIORITY_GROUP]
    config["priority_policy"] = "pinned_client"
    config["priority_timeout"] = max(ack_wait, SECOND)
    if kind.elastic:
        config["inactive_threshold"] = ack_wait
    if ack_wait < 100 * MILLISECOND:
        raise BadOptionsError("ack_wait must be at least 100 ms")
    return config


def _fixed(kind: Kind, config: Mapping[str, Any]) -> list[Any]:
    """Return what must not change in a configuration while members consume."""
    names = ["max_members", "partitioning_filters", "max_buffered_msg", "max_buffered_bytes"]
    if not kind.elastic:
        names = ["max_members", "filters", "members", "member_mappings"]
    return [config.get(name) or None for name in names]


def _is_final(error: NatsError) -> bool:
    """Return whether to try again makes no sense."""
    if isinstance(error, (ApiLevelError, BadOptionsError, StreamNotFoundError)):
        return True
    if isinstance(error, (ConnectionClosedError, PermissionsViolationError, ConsumerGroupError)):
        return True
    refused = isinstance(error, APIError) and 400 <= error.code < 500
    return refused and getattr(error, "err_code", 0) != _NOT_UNIQUE
