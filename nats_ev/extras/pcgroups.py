"""Partitioned consumer groups: the messages of a key to one member at a time, in order.

`ConsumerGroups` has the methods; `pcgroups_config` the formats, `pcgroups_member` what a member does. Names,
formats and rules are those of orbit.go's pcgroups, whose members share groups with ours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..arguments import Callback, ResultCallback, check_object, optional_middle
from ..buckets import completion
from ..errors import BadOptionsError, NatsError
from ..jetstream import (
    ConsumerConfig,
    ConsumerNotFoundError,
    JetStream,
    MsgCallback,
    StreamNotFoundError,
    WrongLastSequenceError,
)
from ..kv import KV
from .pcgroups_config import (
    PRIORITY_GROUP,
    ConsumerGroupExistsError,
    ElasticConsumerGroupConfig,
    MemberMapping,
    PartitioningFilter,
    StaticConsumerGroupConfig,
    check_name,
    elastic_config,
    encode,
    key_of,
    members_of,
    static_config,
    subject_transforms,
    with_membership,
)
from .pcgroups_member import ELASTIC, STATIC, GroupMember, Kind, MemberEngine, read_config
from .sequence import Sequence as Operation
from .sequence import Steps

# How often a change of the membership is tried while others change it, too.
_ATTEMPTS = 20


class ConsumerGroups:
    """Partitioned consumer groups on the streams of a `JetStream`. nats-server 2.11 or later.

    A group divides a stream's messages into partitions, by a hash of the tokens that are their key, and its
    partitions among its members. At any time each partition has one active consumer, so that the messages of
    a key are handled in order. Several programs may join as the same member: one is active, the others stand
    by. A *static* group has fixed members, and a stream whose subjects begin with the partition's number (by
    a subject transform). An *elastic* group's members come and go; it has a stream of its own, a work queue
    that sources from the stream and adds the partition's number.

    Compatible with orbit.go's pcgroups: programs of both may share a group. Callbacks: ``cb(result, err)``.
    Names of groups and members are words without dots. Methods that read a group give
    `ConsumerGroupNotFoundError` if it does not exist, `ConsumerGroupConfigError` if what is stored makes no
    sense, and the errors of `JetStream`.

    Args:
        js: the `JetStream` whose client, prefix and timeout all calls use.
    """

    def __init__(self, js: JetStream) -> None:
        check_object(js, "nats", "ConsumerGroups takes a JetStream")
        self.js = js

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.js!r}>"

    # Static groups.

    def create_static(
        self,
        stream: str,
        group: str,
        max_members: int,
        cb: ResultCallback[StaticConsumerGroupConfig] | None = None,
        *,
        filters: Sequence[str] | None = None,
        members: Sequence[str] | None = None,
        member_mappings: Sequence[MemberMapping] | None = None,
    ) -> None:
        """Create a static group; ``cb(config, err)``. Creating it again with the same arguments succeeds.

        Args:
            stream: the stream; the first token of its subjects is the number of a partition.
            group: the group's name.
            max_members: the number of partitions, and so of members at most.
            cb: gets `ConsumerGroupExistsError` when the group exists with another configuration.
            filters: of the subjects after the partition's number; without any all messages count.
            members: names, among which the partitions are distributed.
            member_mappings: instead, who has which partitions. filters do not count then, as in orbit.go.

        Raises:
            BadOptionsError, TypeError: the arguments make no sense together.
        """
        config = static_config(max_members, filters, members, member_mappings)
        self._run(self._create(STATIC, stream, _name(group), config), cb)

    def get_static_consumer_group_config(
        self, stream: str, group: str, cb: ResultCallback[StaticConsumerGroupConfig]
    ) -> None:
        """Read a static group's configuration; ``cb(config, err)``."""
        self._run(self._config(STATIC, stream, _name(group)), cb)

    def static_consume(
        self,
        stream: str,
        group: str,
        member: str,
        config: ConsumerConfig | MsgCallback | None = None,
        cb: MsgCallback | None = None,
        *,
        on_error: Callable[[NatsError], object] | None = None,
    ) -> GroupMember:
        """Join a static group as one of its members, and consume its partitions until `GroupMember.stop`.

        Args:
            stream: the group's stream.
            group: the group's name.
            member: a name in the group's configuration.
            config: of the member's consumer, such as ack_wait (5 s), max_ack_pending, max_deliver. All
                instances of a member need the same. ack_wait is also how long after the end of an active
                instance another one takes over.
            cb: ``cb(msg, None)`` for each message, whose subject has no partition's number; acknowledge
                each. ``cb(None, err)`` once when the member can't go on: `NotGroupMemberError`,
                `ConsumerGroupChangedError`, `ConsumerGroupDeletedError`, `ApiLevelError` of a server before
                2.11, and what ends `JetStream.consume`.
            on_error: ``on_error(err)`` for each error that the member survives.

        Returns:
            The handle, with `stop` and `drain`.
        """
        return self._consume(STATIC, stream, group, member, config, cb, on_error)

    def delete_static(
        self, stream: str, group: str, cb: ResultCallback[bool] | None = None
    ) -> None:
        """Delete a static group and the consumers of its members; ``cb(True, err)``."""
        self._run(self._delete_static(stream, _name(group)), cb)

    def list_static_consumer_groups(self, stream: str, cb: ResultCallback[list[str]]) -> None:
        """List the names of a stream's static groups; ``cb([name, …], err)``."""
        self._run(self._list(STATIC, stream), cb)

    def list_static_active_members(
        self, stream: str, group: str, cb: ResultCallback[list[str]]
    ) -> None:
        """List the members of a static group that consume now; ``cb([name, …], err)``."""
        self._run(self._active(STATIC, stream, _name(group)), cb)

    def static_member_step_down(
        self, stream: str, group: str, member: str, cb: ResultCallback[bool] | None = None
    ) -> None:
        """Have another instance of a static group's member be the active one; ``cb(True, err)``."""
        self._run(self._step_down(STATIC, stream, _name(group), _name(member)), cb)

    # Elastic groups.

    def create_elastic(
        self,
        stream: str,
        group: str,
        max_members: int,
        cb: ResultCallback[ElasticConsumerGroupConfig] | None = None,
        *,
        partitioning_filters: Sequence[PartitioningFilter] | None = None,
        max_buffered_msgs: int = 0,
        max_buffered_bytes: int = 0,
    ) -> None:
        """Create an elastic group, without members, and its stream; ``cb(config, err)``.

        Creating the group again with the same arguments succeeds.

        Args:
            stream: the stream.
            group: the group's name; the group's stream is ``<stream>-<group>``.
            max_members: the number of partitions, and so of members at most.
            cb: gets `ConsumerGroupExistsError` when the group exists with another configuration.
            partitioning_filters: which messages, by what: dicts with filter, such as ``"orders.*.>"``, and
                partitioning_wildcards, the numbers of its ``*`` that are the key (``[]``: the whole subject).
                Without any: all messages, by their whole subject.
            max_buffered_msgs, max_buffered_bytes: of the group's stream; 0: unlimited.

        Raises:
            BadOptionsError, TypeError: the arguments make no sense together.
        """
        config = elastic_config(
            max_members, partitioning_filters, max_buffered_msgs, max_buffered_bytes
        )
        self._run(self._create_elastic(stream, _name(group), config), cb)

    def get_elastic_consumer_group_config(
        self, stream: str, group: str, cb: ResultCallback[ElasticConsumerGroupConfig]
    ) -> None:
        """Read an elastic group's configuration; ``cb(config, err)``."""
        self._run(self._config(ELASTIC, stream, _name(group)), cb)

    def elastic_consume(
        self,
        stream: str,
        group: str,
        member: str,
        config: ConsumerConfig | MsgCallback | None = None,
        cb: MsgCallback | None = None,
        *,
        on_error: Callable[[NatsError], object] | None = None,
    ) -> GroupMember:
        """Join an elastic group, and consume whenever the member's name is in its membership.

        Arguments, callbacks and result as in `static_consume`, except that a name that is no member's waits
        until it is one, and that memberships may change at any time: see `add_members`. When the group gives
        partitions to another member, messages that were delivered have ack_wait to be acknowledged.
        """
        return self._consume(ELASTIC, stream, group, member, config, cb, on_error)

    def delete_elastic(
        self, stream: str, group: str, cb: ResultCallback[bool] | None = None
    ) -> None:
        """Delete an elastic group with its stream; ``cb(True, err)``."""
        self._run(self._delete_elastic(stream, _name(group)), cb)

    def list_elastic_consumer_groups(self, stream: str, cb: ResultCallback[list[str]]) -> None:
        """List the names of a stream's elastic groups; ``cb([name, …], err)``."""
        self._run(self._list(ELASTIC, stream), cb)

    def add_members(
        self,
        stream: str,
        group: str,
        members: Sequence[str],
        cb: ResultCallback[list[str]] | None = None,
    ) -> None:
        """Add members to an elastic group; ``cb(all members, err)``. Names that are members stay so.

        The members' partitions are distributed anew among all. `BadOptionsError` when the group has
        member mappings.
        """
        names = [_name(each) for each in _names(members)]

        def more(config: ElasticConsumerGroupConfig) -> ElasticConsumerGroupConfig:
            before = _without_mappings(config)
            return with_membership(config, list(dict.fromkeys([*before, *names])))

        self._run(self._change(stream, _name(group), more), cb)

    def delete_members(
        self,
        stream: str,
        group: str,
        members: Sequence[str],
        cb: ResultCallback[list[str]] | None = None,
    ) -> None:
        """Remove members from an elastic group; ``cb(all that stay, err)``. Unknown names are ignored.

        `BadOptionsError` when the group has member mappings.
        """
        names = {_name(each) for each in _names(members)}

        def fewer(config: ElasticConsumerGroupConfig) -> ElasticConsumerGroupConfig:
            stay = [each for each in _without_mappings(config) if each not in names]
            return with_membership(config, stay)

        self._run(self._change(stream, _name(group), fewer), cb)

    def set_member_mappings(
        self,
        stream: str,
        group: str,
        member_mappings: Sequence[MemberMapping],
        cb: ResultCallback[list[str]] | None = None,
    ) -> None:
        """Say which member of an elastic group has which partitions; ``cb(all members, err)``.

        Args:
            stream, group: of the group.
            member_mappings: dicts with member and partitions; each partition once. They replace the members.
            cb: gets `BadOptionsError` when the mappings are not right for the group.
        """
        if not member_mappings:
            raise BadOptionsError("member_mappings must not be empty")

        def mapped(config: ElasticConsumerGroupConfig) -> ElasticConsumerGroupConfig:
            return with_membership(config, None, member_mappings)

        self._run(self._change(stream, _name(group), mapped), cb)

    def delete_member_mappings(
        self, stream: str, group: str, cb: ResultCallback[list[str]] | None = None
    ) -> None:
        """Remove an elastic group's member mappings: the group has no members then; ``cb([], err)``."""

        def unmapped(config: ElasticConsumerGroupConfig) -> ElasticConsumerGroupConfig:
            return with_membership(config, config.get("members"))

        self._run(self._change(stream, _name(group), unmapped), cb)

    def list_elastic_active_members(
        self, stream: str, group: str, cb: ResultCallback[list[str]]
    ) -> None:
        """List the members of an elastic group that have a consumer; ``cb([name, …], err)``."""
        self._run(self._active(ELASTIC, stream, _name(group)), cb)

    def elastic_is_in_membership_and_active(
        self, stream: str, group: str, member: str, cb: ResultCallback[tuple[bool, bool]]
    ) -> None:
        """Tell whether a name is a member's, and whether it has a consumer; ``cb((is, has), err)``."""
        self._run(self._is_active(stream, _name(group), _name(member)), cb)

    def elastic_member_step_down(
        self, stream: str, group: str, member: str, cb: ResultCallback[bool] | None = None
    ) -> None:
        """Have another instance of an elastic group's member be the active one; ``cb(True, err)``."""
        self._run(self._step_down(ELASTIC, stream, _name(group), _name(member)), cb)

    # The operations.

    def _run(self, steps: Steps[Any], cb: Callback | None) -> None:
        Operation(steps, completion(self.js, cb)).start()

    def _kv(self, kind: Kind) -> KV:
        return KV(self.js, kind.bucket)

    def _config(self, kind: Kind, stream: str, group: str) -> Steps[Any]:
        config, _ = yield from read_config(self._kv(kind), kind, stream, group)
        return config

    def _create(
        self, kind: Kind, stream: str, group: str, config: Mapping[str, Any]
    ) -> Steps[Mapping[str, Any]]:
        """Store a group's configuration, unless it is stored already."""
        kv = self._kv(kind)
        info = yield self.js.stream_info, stream
        replicas = info["config"].get("num_replicas", 1)
        try:
            entry = yield kv.entry, key_of(stream, group)
        except StreamNotFoundError:  # the bucket's; another program may create it at the same time
            yield kv.create_bucket, {"replicas": replicas, "storage": "file"}
            entry = None
        if entry is None:
            try:
                yield kv.create, key_of(stream, group), encode(config)
                return config
            except WrongLastSequenceError:
                pass
        stored, _ = yield from read_config(kv, kind, stream, group)
        names = {*config, *stored}
        if kind.elastic:
            names -= {"members", "member_mappings"}
        if any((config.get(name) or None) != (stored.get(name) or None) for name in names):
            raise ConsumerGroupExistsError(
                f"consumer group {group!r} of {stream!r} exists with another configuration"
            )
        return stored  # type: ignore[no-any-return]

    def _create_elastic(
        self, stream: str, group: str, config: ElasticConsumerGroupConfig
    ) -> Steps[Mapping[str, Any]]:
        info = yield self.js.stream_info, stream
        stored = yield from self._create(ELASTIC, stream, group, config)
        source = {"name": stream, "subject_transforms": subject_transforms(config)}
        queue = {
            "name": ELASTIC.stream(stream, group),
            "retention": "workqueue",
            "num_replicas": info["config"].get("num_replicas", 1),
            "storage": info["config"].get("storage", "file"),
            "max_msgs": config.get("max_buffered_msg") or -1,
            "max_bytes": config.get("max_buffered_bytes") or -1,
            "discard": "new",
            "sources": [source],
            "allow_direct": True,
        }
        yield self.js.stream_create, queue
        return stored

    def _consume(
        self,
        kind: Kind,
        stream: str,
        group: str,
        member: str,
        config: Any,
        cb: Any,
        on_error: Callable[[NatsError], object] | None,
    ) -> GroupMember:
        given, done = optional_middle(config, cb)
        engine = MemberEngine(
            self.js, kind, stream, _name(group), _name(member), given, done, on_error
        )
        engine.start()
        return GroupMember(engine)

    def _delete_static(self, stream: str, group: str) -> Steps[bool]:
        found = yield self.js.consumer_names, stream
        yield self._kv(STATIC).delete, key_of(stream, group)
        for name in found:
            if name.startswith(f"{group}-"):
                with contextlib.suppress(ConsumerNotFoundError):  # its member was faster
                    yield self.js.consumer_delete, stream, name
        return True

    def _delete_elastic(self, stream: str, group: str) -> Steps[bool]:
        yield self._kv(ELASTIC).delete, key_of(stream, group)
        yield self.js.stream_delete, ELASTIC.stream(stream, group)
        return True

    def _list(self, kind: Kind, stream: str) -> Steps[list[str]]:
        try:
            keys = yield self._kv(kind).keys, f"{stream}.>"
        except StreamNotFoundError:  # no bucket, no groups
            return []
        return [key.split(".")[1] for key in keys]

    def _active(self, kind: Kind, stream: str, group: str) -> Steps[list[str]]:
        config = yield from self._config(kind, stream, group)
        found = yield self.js.consumer_list, kind.stream(stream, group)
        waiting = {
            info["name"] for info in found["consumers"] if kind.elastic or info.get("num_waiting")
        }
        return [each for each in members_of(config) if kind.consumer(group, each) in waiting]

    def _is_active(self, stream: str, group: str, member: str) -> Steps[tuple[bool, bool]]:
        config = yield from self._config(ELASTIC, stream, group)
        names = yield self.js.consumer_names, ELASTIC.stream(stream, group)
        return member in members_of(config), member in names

    def _step_down(self, kind: Kind, stream: str, group: str, member: str) -> Steps[bool]:
        names = kind.stream(stream, group), kind.consumer(group, member)
        yield self.js.consumer_unpin, *names, PRIORITY_GROUP
        return True

    def _change(
        self,
        stream: str,
        group: str,
        change: Callable[[ElasticConsumerGroupConfig], ElasticConsumerGroupConfig],
    ) -> Steps[list[str]]:
        """Store a changed membership; again, when another program has changed it meanwhile."""
        kv = self._kv(ELASTIC)
        attempts = _ATTEMPTS
        while True:
            config, revision = yield from read_config(kv, ELASTIC, stream, group)
            changed = change(config)
            try:
                yield kv.update, key_of(stream, group), encode(changed), revision
                return members_of(changed)
            except WrongLastSequenceError:
                attempts -= 1
                if not attempts:
                    raise


def _name(name: str) -> str:
    return check_name("the name of a group or a member", name)


def _names(names: Sequence[str]) -> Sequence[str]:
    if isinstance(names, str):
        raise TypeError("members must be a list of str")
    if not names:
        raise BadOptionsError("members must not be empty")
    return names


def _without_mappings(config: ElasticConsumerGroupConfig) -> list[str]:
    if config.get("member_mappings"):
        raise BadOptionsError("the group has member mappings: use set_member_mappings")
    return list(config.get("members") or [])
