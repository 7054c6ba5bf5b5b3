"""The options of pull requests: what `fetch`, `consume` and ordered consumers accept, and their defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..arguments import callable_or_none, check_callback, integer
from ..errors import BadOptionsError, NatsError
from ..times import SECOND, to_wire
from .api import name_of
from .config import DURATION, V2_11, V2_12, check_fields
from .levels import Feature

# The batch of a request that only max_bytes limits.
MANY = 1_000_000
# The bounds of consume's heartbeat, in ns.
_LEAST_BEATS, _MOST_BEATS = SECOND // 2, 30 * SECOND

# The fields of priority groups.
PRIORITY: dict[str, Feature] = {
    "group": V2_11,
    "min_pending": V2_11,
    "min_ack_pending": V2_11,
    "priority": V2_12,
}
_CONSUME_FIELDS = {
    **dict.fromkeys(["max_messages", "max_bytes", "threshold_messages", "threshold_bytes"]),
    **dict.fromkeys(["stop_after", "on_error", *PRIORITY]),
    **dict.fromkeys(["expires", "heartbeat", "idle_heartbeat"], DURATION),
}

# The fields of an ordered consumer's configuration.
CONFIG_FIELDS = (
    "deliver_policy", "opt_start_seq", "opt_start_time", "filter_subject", "filter_subjects",
    "headers_only", "replay_policy", "inactive_threshold", "metadata", "description",
)  # fmt: skip
# Options of the client that are neither the consumer's nor the requests'.
_OWN = ("on_start", "max_reset_attempts", "name_prefix")


def priority_needs(body: Mapping[str, Any]) -> dict[str, Feature]:
    """Return the features that a request's priority fields need."""
    return {name: feature for name, feature in PRIORITY.items() if body.get(name)}


def count_of(opts: Mapping[str, Any], name: str, default: int = 0, least: int = 1) -> int:
    """Return an option that is a number of `least` or more, or the default if it is not given."""
    value = opts.get(name)
    if value is None:
        return default
    return integer(value, name, least)


def priority_fields(opts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request's fields for priority groups. Raises TypeError and `BadOptionsError`."""
    fields: dict[str, Any] = {}
    for name in ("group", "id"):
        if not isinstance(opts.get(name, ""), str):
            raise TypeError(f"{name} must be str, not {type(opts[name]).__name__}")
        fields[name] = opts.get(name)
    for name in ("min_pending", "min_ack_pending", "priority"):
        fields[name] = count_of(opts, name, least=0)
    if fields["priority"] > 9:
        raise BadOptionsError(f"priority must be 0 to 9, not {fields['priority']}")
    return {name: value for name, value in fields.items() if value}


def heartbeat_of(opts: Mapping[str, Any]) -> int:
    """Return the heartbeat's interval in ns, given by one of its two names; 0: not given."""
    if "heartbeat" in opts and "idle_heartbeat" in opts:
        raise BadOptionsError("heartbeat and idle_heartbeat are the same")
    name = "heartbeat" if "heartbeat" in opts else "idle_heartbeat"
    return count_of(opts, name, least=0)


@dataclass(slots=True)
class PullOptions:
    """The options of a `Puller`. Times in ns."""

    max_messages: int
    max_bytes: int
    threshold_messages: int
    threshold_bytes: int
    expires: int
    heartbeat: int
    on_error: Callable[[NatsError], object] | None
    stop_after: int = 0  # 0: never
    priority: dict[str, Any] = field(default_factory=dict)


def consume_opts(given: Mapping[str, Any], *, ordered: bool = False) -> PullOptions:
    """Return the options of `Consumers.consume`, with defaults and the bounds of ADR-37.

    Args:
        given: the options that the user has given.
        ordered: for an ordered consumer, whose heartbeat may have any length.

    Raises:
        TypeError: an option has a wrong type.
        BadOptionsError: an option is unknown or out of its bounds.
    """
    check_fields("consume options", given, _CONSUME_FIELDS)
    opts = to_wire({name: value for name, value in given.items() if name != "on_error"})
    on_error = callable_or_none(given.get("on_error"), "on_error")
    max_bytes = count_of(opts, "max_bytes")
    max_messages = count_of(opts, "max_messages", MANY if max_bytes else 500)
    expires = count_of(opts, "expires", 30 * SECOND, SECOND)
    heartbeat = heartbeat_of(opts) or min(expires // 2, 30 * SECOND)
    if not ordered and not _LEAST_BEATS <= heartbeat <= _MOST_BEATS:
        raise BadOptionsError("heartbeat must be from 500 ms to 30 s")
    if given.get("max_messages") and max_bytes:
        raise BadOptionsError("max_messages and max_bytes exclude each other")
    if heartbeat * 2 > expires:
        raise BadOptionsError("heartbeat must be at most half of expires")
    threshold = count_of(opts, "threshold_messages", (max_messages + 1) // 2, 0)
    threshold_bytes = count_of(opts, "threshold_bytes", (max_bytes + 1) // 2, 0)
    if threshold > max_messages or threshold_bytes > max_bytes:
        raise BadOptionsError("a threshold must not be above what is asked for")
    return PullOptions(
        max_messages,
        max_bytes,
        threshold,
        threshold_bytes,
        expires,
        heartbeat,
        on_error,
        count_of(opts, "stop_after"),
        priority_fields(opts),
    )


def ordered_config(
    given: Mapping[str, Any],
) -> tuple[dict[str, Any], PullOptions, dict[str, Any]]:
    """Split what a user has given for an ordered consumer, and check it.

    Returns:
        The configuration for the server, the options of the requests, and the client's own options.
    """
    config = {name: value for name, value in given.items() if name in CONFIG_FIELDS}
    own = {name: given[name] for name in _OWN if given.get(name) is not None}
    rest = {name: value for name, value in given.items() if name not in (*CONFIG_FIELDS, *_OWN)}
    for name in ("group", "min_pending", "min_ack_pending", "priority"):
        if name in rest:
            raise BadOptionsError(f"an ordered consumer has no {name}")
    rest.setdefault("heartbeat", rest.pop("idle_heartbeat", 5 * SECOND))
    if not rest.get("max_bytes"):
        rest.setdefault("max_messages", 1000)
    options = consume_opts(rest, ordered=True)
    if "filter_subject" in config and "filter_subjects" in config:
        raise BadOptionsError("filter_subject and filter_subjects exclude each other")
    filters = config.get("filter_subjects")
    if isinstance(filters, (list, tuple)) and len(filters) == 1:
        # A single filter is understood by every server.
        config["filter_subject"] = filters[0]
    if not filters or "filter_subject" in config:
        config.pop("filter_subjects", None)
    if "on_start" in own:
        check_callback(own["on_start"], "on_start")
    name_of("consumer", own.get("name_prefix", "x"))
    config.update(
        ack_policy="none",
        max_deliver=1,
        mem_storage=True,
        num_replicas=1,
        inactive_threshold=config.get("inactive_threshold") or 300 * SECOND,
    )
    config.setdefault("deliver_policy", "all")
    config.setdefault("replay_policy", "instant")
    if config["deliver_policy"] == "last_per_subject" and "filter_subjects" not in config:
        config.setdefault("filter_subject", ">")  # the server requires one
    return config, options, own
