"""Stream and consumer configurations: the wire's JSON as dicts, checked against lists of fields.

The lists are those of nats-server 2.15. From 2.12 on a server refuses a field that it does not know; an
older server ignores the field silently. The tables `_STREAM_NEEDS` and `_CONSUMER_NEEDS` therefore say
which server has a field first, and `Api.require` refuses a configuration that the server would not keep.
Times and durations are converted here, once. No I/O.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from ..errors import BadOptionsError
from ..subjects import check_subscribe
from ..times import to_wire
from .levels import Feature

V2_9: Feature = ((2, 9), 0)
V2_10: Feature = ((2, 10), 0)
V2_11: Feature = ((2, 11), 1)
V2_12: Feature = ((2, 12), 2)
V2_14: Feature = ((2, 14), 4)

# The largest sequence, and the largest number of messages.
MAX_SEQUENCE = 2**64 - 1

# Field → what its value may be: None (anything), a table (an object), a list of one of these, a set of
# words, or `DURATION`.
Fields = dict[str, Any]
# A duration: a timedelta, or an int of nanoseconds.
DURATION = "duration"
# Fields under the names of other clients that no spelling brings near, and what they are called here.
_OTHER_WORDS = {"max_messages": "batch", "max_wait": "expires", "timeout": "expires"}
# An int below this one was meant in another unit: no duration of a server is shorter than 1 ms.
_LEAST_DURATION = 1_000_000

_TRANSFORM: Fields = {"src": None, "dest": None}
_SOURCE: Fields = {
    "name": None,
    "opt_start_seq": None,
    "opt_start_time": None,
    "filter_subject": None,
    "subject_transforms": [_TRANSFORM],
    "external": {"api": None, "deliver": None},
    "domain": None,  # a word of the client: see `external_source`
    "consumer": {"name": None, "deliver_subject": None},
}

STREAM: Fields = {
    "name": None,
    "description": None,
    "subjects": [None],
    "retention": {"limits", "interest", "workqueue"},
    "max_consumers": None,
    "max_msgs": None,
    "max_bytes": None,
    "max_age": DURATION,
    "max_msgs_per_subject": None,
    "max_msg_size": None,
    "discard": {"old", "new"},
    "storage": {"file", "memory"},
    "num_replicas": None,
    "no_ack": None,
    "duplicate_window": DURATION,
    "placement": {"cluster": None, "tags": [None], "preferred": None},
    "mirror": _SOURCE,
    "sources": [_SOURCE],
    "compression": {"none", "s2"},
    "first_seq": None,
    "subject_transform": _TRANSFORM,
    "republish": {"src": None, "dest": None, "headers_only": None},
    "allow_direct": None,
    "mirror_direct": None,
    "discard_new_per_subject": None,
    "sealed": None,
    "deny_delete": None,
    "deny_purge": None,
    "allow_rollup_hdrs": None,
    "consumer_limits": {"inactive_threshold": DURATION, "max_ack_pending": None},
    "allow_msg_ttl": None,
    "subject_delete_marker_ttl": DURATION,
    "allow_msg_counter": None,
    "allow_atomic": None,
    "allow_msg_schedules": None,
    "allow_batched": None,
    "persist_mode": {"", "default", "async"},
    "metadata": None,
}

CONSUMER: Fields = {
    "durable_name": None,
    "name": None,
    "description": None,
    "deliver_policy": {
        "all", "last", "new", "by_start_sequence", "by_start_time", "last_per_subject",
    },
    "opt_start_seq": None,
    "opt_start_time": None,
    "ack_policy": {"none", "all", "explicit", "flow_control"},
    "ack_wait": DURATION,
    "max_deliver": None,
    "backoff": [DURATION],
    "filter_subject": None,
    "filter_subjects": [None],
    "replay_policy": {"instant", "original"},
    "rate_limit_bps": None,
    "sample_freq": None,
    "max_waiting": None,
    "max_ack_pending": None,
    "flow_control": None,
    "headers_only": None,
    "max_batch": None,
    "max_expires": DURATION,
    "max_bytes": None,
    "deliver_subject": None,
    "deliver_group": None,
    "idle_heartbeat": DURATION,
    "inactive_threshold": DURATION,
    "num_replicas": None,
    "mem_storage": None,
    "direct": None,
    "sourcing": None,
    "metadata": None,
    "pause_until": None,
    "priority_groups": [None],
    "priority_policy": {"", "none", "overflow", "pinned_client", "prioritized"},
    "priority_timeout": DURATION,
}  # fmt: skip

# Fields that older servers lack. Only fields with a value count: a configuration that came from a server
# has many of them as false.
_STREAM_NEEDS: dict[str, Feature] = {
    "allow_direct": V2_9,
    "mirror_direct": V2_9,
    "discard_new_per_subject": V2_9,
    "compression": V2_10,
    "first_seq": V2_10,
    "subject_transform": V2_10,
    "consumer_limits": V2_10,
    "metadata": V2_10,
    "allow_msg_ttl": V2_11,
    "subject_delete_marker_ttl": V2_11,
    "allow_msg_counter": V2_12,
    "allow_atomic": V2_12,
    "allow_msg_schedules": V2_12,
    "persist_mode": V2_12,
    "allow_batched": V2_14,
}
_CONSUMER_NEEDS: dict[str, Feature] = {
    "filter_subjects": V2_10,
    "metadata": V2_10,
    "pause_until": V2_11,
    "priority_groups": V2_11,
    "priority_policy": V2_11,
    "priority_timeout": V2_11,
}
# Words that are younger than their field.
_WORD_NEEDS: dict[tuple[str, str], Feature] = {
    ("ack_policy", "flow_control"): V2_14,
    ("priority_policy", "prioritized"): V2_12,
}
# Fields that the published schemas require, with the server's own defaults.
_STREAM_DEFAULTS: dict[str, Any] = {
    "retention": "limits",
    "max_consumers": -1,
    "max_msgs": -1,
    "max_bytes": -1,
    "max_age": 0,
    "storage": "file",
    "num_replicas": 1,
}
_CONSUMER_DEFAULTS = {"deliver_policy": "all", "ack_policy": "none", "replay_policy": "instant"}
# Values that mean "not set" to every server, besides those that are false.
_UNSET = {"compression": "none", "persist_mode": "default", "priority_policy": "none"}


def stream_config(config: object) -> tuple[dict[str, Any], dict[str, Feature]]:
    """Return a stream's configuration as it is sent, and the features that the server must have.

    Raises TypeError and `BadOptionsError`, which name the field, and `BadSubjectError` for a filter.
    """
    checked = _checked("stream configuration", config, STREAM)
    if checked.get("mirror"):
        checked["mirror"] = external_source(checked["mirror"])
    if checked.get("sources"):
        checked["sources"] = [external_source(source) for source in checked["sources"]]
    needs = _needs(checked, _STREAM_NEEDS)
    sources = [checked.get("mirror"), *(checked.get("sources") or ())]
    for source in sources:
        check_filters(source or {}, "filter_subject")
    if any(source and source.get("consumer") for source in sources):
        needs["sources.consumer"] = V2_14
    if any(source and source.get("subject_transforms") for source in sources):
        needs["sources.subject_transforms"] = V2_10
    return {**_STREAM_DEFAULTS, **checked}, needs


def consumer_config(config: object) -> tuple[dict[str, Any], dict[str, Feature]]:
    """Return a consumer's configuration as it is sent, and the features that the server must have.

    Raises TypeError and `BadOptionsError`, which name the field, and `BadSubjectError` for a filter.
    """
    checked = _checked("consumer configuration", config, CONSUMER)
    check_filters(checked, "filter_subject", "filter_subjects")
    return {**_CONSUMER_DEFAULTS, **checked}, _needs(checked, _CONSUMER_NEEDS)


def external_source(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mirror or source with its ``domain``, a word of the client, turned into ``external``."""
    result = dict(source)
    domain = result.pop("domain", None)
    if domain:
        if result.get("external"):
            raise BadOptionsError("domain and external of a source exclude each other")
        result["external"] = {"api": f"$JS.{domain}.API"}
    return result


def check_fields(what: str, given: Mapping[str, Any], known: Fields) -> None:
    """Check the fields of a mapping.

    Args:
        what: the mapping's name, for the error's text.
        given: the mapping.
        known: the table of its fields.

    Raises:
        BadOptionsError: a field is not in the table, a word is not in the field's set, or a duration is
            an int from 1 to 999,999.
        TypeError: an object or a list is wanted.
    """
    for field, value in given.items():
        if field not in known:
            other = _OTHER_WORDS.get(str(field))
            close = [other] if other in known else difflib.get_close_matches(str(field), known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise BadOptionsError(f"unknown field {field!r} in {what}{hint}")
        inside = known[field]
        if value is None or inside is None:
            continue
        if isinstance(inside, set):
            if value not in inside:
                words = ", ".join(sorted(word for word in inside if word))
                raise BadOptionsError(f"{field} in {what} must be one of {words}, not {value!r}")
        elif isinstance(inside, list):
            if not isinstance(value, (list, tuple)):
                raise TypeError(f"{field} in {what} must be a list, not {type(value).__name__}")
            for item in value:
                _check_value(what, field, item, inside[0])
        else:
            _check_value(what, field, value, inside)


def _check_value(what: str, field: str, value: object, kind: Any) -> None:
    if kind is None:
        return
    if kind is not DURATION:
        _check_inside(f"{field} of {what}", value, kind)
    elif isinstance(value, int) and 0 < value < _LEAST_DURATION:
        raise BadOptionsError(
            f"{field} in {what}: {value:d} would be {value:d} nanoseconds; for {value:d} s pass a "
            f"timedelta, timedelta(seconds={value:d})"
        )


def check_filters(given: Mapping[str, Any], *names: str) -> None:
    """Check the fields of a mapping that are subjects with or without wildcards, or lists of these.

    Fields without a value are not checked. A server that gets a filter such as "a..b" as a part of a
    request's subject answers nothing at all.

    Raises:
        BadSubjectError: a subject is invalid.
        TypeError: a subject is no str.
    """
    for name in names:
        value = given.get(name)
        for subject in value if isinstance(value, (list, tuple)) else [value] if value else ():
            check_subscribe(subject)


def _check_inside(what: str, value: object, known: Fields) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{what} must be a mapping, not {type(value).__name__}")
    check_fields(what, value, known)


def _checked(what: str, config: object, known: Fields) -> dict[str, Any]:
    _check_inside(what, config, known)
    result: dict[str, Any] = to_wire(config)
    return result


def is_set(field: str, value: object) -> bool:
    """Return whether a field's value says anything to a server."""
    return bool(value) and value != _UNSET.get(field)


def _needs(config: Mapping[str, Any], table: Mapping[str, Feature]) -> dict[str, Feature]:
    needs = {}
    for field, value in config.items():
        if not is_set(field, value):
            continue
        if field == "metadata" and all(key.startswith("_nats.") for key in value):
            continue  # set by the server itself
        if field in table:
            needs[field] = table[field]
        if isinstance(value, str) and (feature := _WORD_NEEDS.get((field, value))):
            needs[f"{field} {value}"] = feature
    return needs


def with_keywords(opts: Mapping[str, Any] | None, **keywords: Any) -> dict[str, Any]:
    """Return a call's options: the dict, and those keywords that are not None.

    Raises TypeError when an option is in both.
    """
    result = dict(opts or {})
    for name, value in keywords.items():
        if value is not None:
            if result.get(name) is not None:
                raise TypeError(f"{name} is given twice: in the options and as a keyword")
            result[name] = value
    return result
