"""What partitioned consumer groups store: configurations in a key-value bucket, in the format of orbit.go.

The same JSON, byte by byte, as orbit.go writes: its members and ours share a group.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from ..arguments import integer
from ..errors import BadOptionsError
from ..jetstream import JetStreamError

STATIC_BUCKET = "static-consumer-groups"
ELASTIC_BUCKET = "elastic-consumer-groups"
PRIORITY_GROUP = "PCG"
_LARGEST = 2**31 - 1
_NAME = re.compile(r"[^\s.*>/\\]+")


class MemberMapping(TypedDict):
    """Which partitions a member of a consumer group has."""

    member: str
    partitions: list[int]


class PartitioningFilter(TypedDict):
    """Which messages an elastic consumer group takes, and by what it partitions them.

    partitioning_wildcards are the numbers (1 is the first) of the filter's ``*`` whose tokens decide the
    partition; without any the whole subject decides.
    """

    filter: str
    partitioning_wildcards: list[int] | None


class _Membership(TypedDict, total=False):
    members: list[str]
    member_mappings: list[MemberMapping]


class StaticConsumerGroupConfig(_Membership, total=False):
    """The configuration of a static consumer group; max_members is the number of partitions."""

    max_members: int
    filters: list[str]


class ElasticConsumerGroupConfig(_Membership, total=False):
    """The configuration of an elastic consumer group; max_members is the number of partitions."""

    max_members: int
    partitioning_filters: list[PartitioningFilter] | None
    max_buffered_msg: int
    max_buffered_bytes: int


class ConsumerGroupError(JetStreamError):
    """Base of the errors of partitioned consumer groups.

    What to do: see the subclass.
    """


class ConsumerGroupNotFoundError(ConsumerGroupError):
    """The stream has no consumer group of this name and kind.

    What to do: create the group, or correct the name.
    """


class ConsumerGroupExistsError(ConsumerGroupError):
    """The consumer group exists with another configuration.

    What to do: delete the group and create it again, or use the configuration that it has.
    """


class ConsumerGroupConfigError(ConsumerGroupError):
    """The configuration that is stored for the consumer group makes no sense.

    What to do: delete the group and create it again; a program that is no client of consumer groups has
    written into their bucket.
    """


class ConsumerGroupChangedError(ConsumerGroupError):
    """The consumer group's configuration was changed in a way that its members can't follow.

    What to do: join again with the new configuration.
    """


class ConsumerGroupDeletedError(ConsumerGroupError):
    """The consumer group was deleted while the member consumed.

    What to do: nothing, if that was wanted.
    """


class NotGroupMemberError(ConsumerGroupError):
    """The member's name is not in the static consumer group's configuration.

    What to do: correct the name, or create the group with it.
    """


def check_name(what: str, name: object) -> str:
    """Return the name of a group or a member. Raises TypeError and `BadOptionsError`."""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be str, not {type(name).__name__}")
    if not _NAME.fullmatch(name):
        raise BadOptionsError(f"{what} must be a word without . * > / and blanks, not {name!r}")
    return name


def key_of(stream: str, group: str) -> str:
    """Return the key of a group's configuration."""
    return f"{stream}.{group}"


def encode(config: Mapping[str, Any]) -> bytes:
    """Return a configuration as it is stored: compact, and escaped as Go does it."""
    text = json.dumps(config, ensure_ascii=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode()


def decode(data: bytes, check: Any, group: str) -> Any:
    """Return a stored configuration. Raises `ConsumerGroupConfigError`."""
    try:
        config = json.loads(data)
        if not isinstance(config, dict):
            raise BadOptionsError("the configuration is no JSON object")
        check(config)
    except (ValueError, TypeError, KeyError) as exc:
        raise ConsumerGroupConfigError(f"consumer group {group!r}: {exc}") from exc
    return config


def static_config(
    max_members: int,
    filters: Sequence[str] | None,
    members: Sequence[str] | None,
    member_mappings: Sequence[MemberMapping] | None,
) -> StaticConsumerGroupConfig:
    """Return the configuration of a static group, in the order and with the fields of the format."""
    config: StaticConsumerGroupConfig = {"max_members": max_members}
    if filters:
        config["filters"] = _texts("filters", filters)
    _add_membership(config, members, member_mappings)
    check_static(config)
    return config


def elastic_config(
    max_members: int,
    partitioning_filters: Sequence[PartitioningFilter] | None,
    max_buffered_msgs: int,
    max_buffered_bytes: int,
) -> ElasticConsumerGroupConfig:
    """Return the configuration of an elastic group without members."""
    config: ElasticConsumerGroupConfig = {"max_members": max_members, "partitioning_filters": None}
    if partitioning_filters is not None:
        config["partitioning_filters"] = [
            {
                "filter": each.get("filter", ""),
                "partitioning_wildcards": _listed(each.get("partitioning_wildcards")),
            }
            for each in _mappings("partitioning_filters", partitioning_filters)
        ]
    if integer(max_buffered_msgs, "max_buffered_msgs", -1):
        config["max_buffered_msg"] = max_buffered_msgs
    if integer(max_buffered_bytes, "max_buffered_bytes", -1):
        config["max_buffered_bytes"] = max_buffered_bytes
    check_elastic(config)
    return config


def with_membership(
    config: ElasticConsumerGroupConfig,
    members: Sequence[str] | None = None,
    member_mappings: Sequence[MemberMapping] | None = None,
) -> ElasticConsumerGroupConfig:
    """Return a configuration with another membership."""
    changed = config.copy()
    changed.pop("members", None)
    changed.pop("member_mappings", None)
    _add_membership(changed, members, member_mappings)
    check_elastic(changed)
    return changed


def _add_membership(
    config: _Membership,
    members: Sequence[str] | None,
    member_mappings: Sequence[MemberMapping] | None,
) -> None:
    if members:
        config["members"] = _texts("members", members)
        for member in members:
            check_name("a member", member)
    if member_mappings:
        config["member_mappings"] = [
            {
                "member": check_name("a member", each["member"]),
                "partitions": list(each["partitions"]),
            }
            for each in member_mappings
        ]


def _texts(name: str, values: Sequence[str]) -> list[str]:
    if isinstance(values, str) or not all(isinstance(each, str) for each in values):
        raise TypeError(f"{name} must be a list of str")
    return list(values)


def _mappings(name: str, values: Sequence[PartitioningFilter]) -> Sequence[PartitioningFilter]:
    if isinstance(values, Mapping) or not all(isinstance(each, Mapping) for each in values):
        raise TypeError(
            f"{name} must be a list of dicts, as in "
            "[{'filter': 'orders.*', 'partitioning_wildcards': [1]}]"
        )
    return values


def _listed(values: Iterable[int] | None) -> list[int] | None:
    return None if values is None else list(values)


def check_static(config: Mapping[str, Any]) -> None:
    """Raise `BadOptionsError` or TypeError if a static group can't be so."""
    partitions = integer(config.get("max_members"), "max_members", 1, _LARGEST)
    _texts("filters", config.get("filters") or [])
    _check_membership(config, partitions)


def check_elastic(config: Mapping[str, Any]) -> None:
    """Raise `BadOptionsError` or TypeError if an elastic group can't be so."""
    partitions = integer(config.get("max_members"), "max_members", 1, _LARGEST)
    for each in config.get("partitioning_filters") or []:
        _check_filter(each)
    _check_membership(config, partitions)


def _check_filter(given: Mapping[str, Any]) -> None:
    text = given.get("filter")
    if not isinstance(text, str) or not text:
        raise BadOptionsError("partitioning filters must have a non-empty filter")
    tokens = text.split(".")
    stars = tokens.count("*")
    if not stars and tokens[-1] != ">":
        raise BadOptionsError(f"a partitioning filter must have a * or end with >: {text!r}")
    chosen = given.get("partitioning_wildcards") or []
    for number in chosen:
        integer(number, "a partitioning wildcard")
        if not 1 <= number <= stars:
            raise BadOptionsError(f"partitioning wildcards of {text!r} must be 1 to {stars}")
    if len(set(chosen)) != len(chosen):
        raise BadOptionsError("partitioning wildcards must be unique")


def _check_membership(config: Mapping[str, Any], partitions: int) -> None:
    members, mappings = config.get("members") or [], config.get("member_mappings") or []
    _texts("members", members)
    if members and mappings:
        raise BadOptionsError("members and member_mappings exclude each other")
    if not mappings:
        return
    names = [each["member"] for each in mappings]
    if len(set(names)) != len(names):
        raise BadOptionsError("member names must be unique")
    if len(names) > partitions:
        raise BadOptionsError("there are more member mappings than partitions")
    taken = [number for each in mappings for number in each["partitions"] or ()]
    for number in taken:
        integer(number, "a partition", 0, partitions - 1)
    if len(set(taken)) != len(taken):
        raise BadOptionsError("a partition must have one member only")
    if len(taken) != partitions:
        raise BadOptionsError(f"member mappings must cover all {partitions} partitions")


def members_of(config: Mapping[str, Any]) -> list[str]:
    """Return the names of a group's members, in either form."""
    mapped = [str(each["member"]) for each in config.get("member_mappings") or []]
    return mapped or list(config.get("members") or [])


def generate_partition_filters(
    members: Sequence[str],
    max_members: int,
    member_mappings: Sequence[MemberMapping],
    member_name: str,
    filter: str,
) -> list[str]:
    """Return the filters of a member's partitions, as orbit.go computes them.

    Args:
        members: names; duplicates and those above max_members (in the order of the alphabet) do not count.
        max_members: the number of partitions.
        member_mappings: counts when there are no members; filter does not count then.
        member_name: whose filters.
        filter: what follows the partition's number, ``>`` for all.
    """
    if not members:
        owned = [
            number
            for mapping in member_mappings
            if mapping["member"] == member_name
            for number in mapping["partitions"] or ()
        ]
        return [f"{number}.>" for number in owned]
    # As Go sorts them: by their bytes.
    names = sorted(set(members), key=lambda name: name.encode(errors="surrogateescape"))
    names = names[:max_members]
    count = len(names)
    each = max_members // count
    even = count * each

    def owner(number: int) -> str:
        return names[number // each if number < even else (number - even) % count]

    return [f"{number}.{filter}" for number in range(max_members) if owner(number) == member_name]


def partition_filters(
    config: Mapping[str, Any], member_name: str, filters: Sequence[str]
) -> list[str]:
    """Return the filters of a member for all filters of its group (none: ``>``), each once."""
    members, mappings = config.get("members") or [], config.get("member_mappings") or []
    found: dict[str, None] = {}
    for text in filters or [">"]:
        ours = generate_partition_filters(
            members, config["max_members"], mappings, member_name, text
        )
        found.update(dict.fromkeys(ours))
    return list(found)


def static_get_partition_filters(config: StaticConsumerGroupConfig, member_name: str) -> list[str]:
    """Return the filters of the consumer of a static group's member."""
    return partition_filters(config, member_name, config.get("filters") or [])


def elastic_get_partition_filters(
    config: ElasticConsumerGroupConfig, member_name: str
) -> list[str]:
    """Return the filters of the consumer of an elastic group's member; [] if it is no member now."""
    filters = [each["filter"] for each in config.get("partitioning_filters") or []]
    return partition_filters(config, member_name, filters)


def subject_transforms(config: ElasticConsumerGroupConfig) -> list[dict[str, str]]:
    """Return the transforms by which an elastic group's stream partitions what it sources."""
    filters: Sequence[Mapping[str, Any]] = config.get("partitioning_filters") or [{"filter": ">"}]
    return [
        {"src": each["filter"], "dest": _destination(each, config["max_members"])}
        for each in filters
    ]


def _destination(given: Mapping[str, Any], partitions: int) -> str:
    chosen = given.get("partitioning_wildcards") or []
    numbers = "".join(f",{number}" for number in chosen)
    tokens, star = [], 0
    for token in given["filter"].split("."):
        if token == "*":
            star += 1
            token = f"{{{{Wildcard({star})}}}}"
        tokens.append(token)
    return f"{{{{Partition({partitions}{numbers})}}}}.{'.'.join(tokens)}"
