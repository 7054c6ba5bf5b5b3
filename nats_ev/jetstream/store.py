"""Storing configurations: what the server has made of them is compared with what was asked for.

The features that a configuration needs are checked before it is sent. That check looks at a server that
may not be the one that stores the configuration, as in a cluster during an upgrade. An older server ignores
what it does not know, so its answer is compared as well (ADR-44, ADR-48).

A server also refuses to create a consumer that exists with the same configuration, when it was created by
another client or when the server has filled in defaults: then the configurations are compared here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..arguments import Callback
from ..errors import NatsError
from ..times import SECOND, parse_time
from .answers import MALFORMED, STORED
from .api import Api
from .config import is_set
from .errors import ApiLevelError, ConsumerExistsError
from .levels import Feature

Config = Mapping[str, Any]
Needs = Mapping[str, Feature]

# What a server fills in where a consumer's configuration says nothing.
_FILLED_IN: dict[str, tuple[Any, ...]] = {
    "ack_wait": (30 * SECOND,),
    "max_deliver": (-1,),
    "max_ack_pending": (1000,),
    "max_waiting": (512,),
    "deliver_policy": ("all",),
    "ack_policy": ("none",),
    "replay_policy": ("instant",),
}
_TIMES = ("opt_start_time", "pause_until")
_FILTERS = ("filter_subject", "filter_subjects")


def store_stream(api: Api, verb: str, config: Config, needs: Needs, cb: Callback) -> None:
    """Request that a stream is created or changed; ``cb(info, err)``.

    When the server has ignored a field, cb gets `ApiLevelError`, and a stream that this request has created
    is deleted again.
    """

    def stored(info: Any, error: NatsError | None) -> None:
        error = error or _ignored(info, config, needs)
        if not isinstance(info, dict) or error is None:
            cb(info, error)
        elif info.get("did_create"):
            name = config["name"]
            api.request_or_report(f"STREAM.DELETE.{name}", None, lambda _, late: cb(None, error))
        else:
            cb(None, error)

    api.require(
        needs, lambda level: api.request(verb, config, stored, level=level, shape=STORED), cb
    )


def store_consumer(
    api: Api, stream: str, name: str, verb: str, body: Mapping[str, Any], needs: Needs, cb: Callback
) -> None:
    """Request that a consumer is created or changed; ``cb(info, err)``.

    Args:
        api: where to send the request.
        stream: the stream's name.
        name: the consumer's name.
        verb: the request's subject after the prefix.
        body: the request's body.
        needs: the features that the configuration needs.
        cb: gets `ApiLevelError` when the server has ignored a field.
    """
    config = body["config"]

    def stored(info: Any, error: NatsError | None) -> None:
        if isinstance(error, ConsumerExistsError) and body["action"] == "create":
            exists = error

            def existing(info: Any, error: NatsError | None) -> None:
                same = isinstance(info, dict) and same_consumer(config, info)
                cb(*((info, None) if same else (None, exists)))

            api.request_or_report(f"CONSUMER.INFO.{stream}.{name}", None, existing)
            return
        error = error or _ignored(info, config, needs)
        cb(info if error is None else None, error)

    api.require(needs, lambda level: api.request(verb, body, stored, level=level, shape=STORED), cb)


def _ignored(info: Any, config: Config, needs: Needs) -> NatsError | None:
    """Return the error that says which fields the server has ignored; None: it has stored all of them."""
    theirs = info.get("config") if isinstance(info, dict) else None
    if not isinstance(theirs, dict):
        return None  # the caller of an answer without a configuration deals with that
    missing = {
        name: feature
        for name, feature in needs.items()
        # 2.9 is the oldest server that this client knows.
        if feature[0] > (2, 9) and not _has_kept(name, config, theirs)
    }
    return ApiLevelError.lacking(missing) if missing else None


def _has_kept(name: str, config: Config, theirs: Config) -> bool:
    """Return whether a server has stored what a need is about: a field, its word, or a field of sources."""
    field, _, word = name.partition(" ")
    if word:
        return bool(theirs.get(field) == word)
    _, _, inner = name.partition(".")
    if not inner:
        return name not in config or is_set(name, theirs.get(name))
    return _having(inner, config) == _having(inner, theirs)


def _having(field: str, config: Config) -> int:
    """Return how many of a stream's sources, its mirror included, have a field."""
    sources = config.get("sources")
    listed = [config.get("mirror"), *(sources if isinstance(sources, list) else ())]
    return sum(isinstance(source, Mapping) and bool(source.get(field)) for source in listed)


def same_consumer(ours: Config, info: Mapping[str, Any]) -> bool:
    """Return whether a consumer is what a configuration asks for.

    Args:
        ours: the configuration.
        info: the server's answer about the consumer.
    """
    theirs = info.get("config")
    if not isinstance(theirs, dict):
        return False
    try:
        if not isinstance(cluster := info.get("cluster"), dict):
            ours, theirs = ({**config, "num_replicas": 0} for config in (ours, theirs))
        elif not theirs.get("num_replicas") and ours.get("num_replicas"):
            # As many as the stream has.
            theirs = {**theirs, "num_replicas": 1 + len(cluster.get("replicas") or ())}
        return _plain(ours, theirs) == _plain(theirs, theirs)
    except MALFORMED:
        return False


def _plain(config: Config, theirs: Config) -> dict[str, Any]:
    """Return the fields that say something, in one form: defaults left out, filters sorted, times parsed."""
    backoff, ephemeral = theirs.get("backoff"), not theirs.get("durable_name")
    plain: dict[str, Any] = {}
    for field, value in config.items():
        if field == "name" or field in _FILTERS or not is_set(field, value):
            continue
        if field == "metadata":
            value = {k: v for k, v in value.items() if not k.startswith("_nats.")}
            if not value:
                continue
        elif field in _TIMES:
            value = parse_time(value)
        elif field == "sample_freq":
            value = str(value).removesuffix("%")
        elif (
            value in _FILLED_IN.get(field, ())
            or (field == "ack_wait" and backoff and value == backoff[0])
            or (field == "inactive_threshold" and ephemeral and value == 5 * SECOND)
        ):
            continue
        plain[field] = value
    filters = sorted(config.get("filter_subjects") or [config.get("filter_subject") or ">"])
    if filters != [">"]:
        plain["filters"] = filters
    return plain
