"""Which features the JetStream has that answers: API levels, and the versions of servers (ADR-44).

The connected server tells its version and its API level in INFO. Across a domain or a leaf node, and in a
cluster that is being upgraded, another server answers: its level is asked for, and counts for a while.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from ..arguments import Callback
from ..errors import NatsError, PermissionsViolationError
from .errors import APIError, ApiLevelError, nobody_answered

if TYPE_CHECKING:
    from ..client import Nats

# The first nats-server version that has it, and the first JetStream API level. Level 0: the feature is
# older than API levels are.
Feature = tuple[tuple[int, int], int]


# For how long, in seconds, an API level counts that was asked for: a cluster may be upgraded meanwhile.
_LEVEL_COUNTS = 60.0
# The same for an answer that is an error, as while a cluster elects a leader: asking again is quick then.
_ERROR_COUNTS = 2.0


@lru_cache(maxsize=16)
def version_of(info: str | None) -> tuple[tuple[int, ...], int | None]:
    """Return the (version, API level or None) in a server's INFO.

    A server without a version, or with version 0.0 (a build from source), counts as newer than all.
    """
    fields = json.loads(info or "{}")
    numbers = str(fields.get("version", "")).partition("-")[0].split(".")
    try:
        version = tuple(int(number) for number in numbers)
    except ValueError:
        version = (0,)
    level = fields.get("api_lvl")
    known = type(level) is int and 0 <= level < 2**31
    return version if version >= (0, 1) else (999,), level if known else None


@lru_cache(maxsize=16)
def stands_alone(info: str | None) -> bool:
    """Return whether the server with this INFO has a JetStream of its own, and is not in a cluster."""
    fields = json.loads(info or "{}")
    return bool(fields.get("jetstream")) and not fields.get("cluster")


@lru_cache(maxsize=16)
def domain_of(info: str | None) -> str:
    """Return the JetStream domain in a server's INFO, "" if there is none."""
    domain = json.loads(info or "{}").get("domain")
    return domain if isinstance(domain, str) else ""


class _Level(NamedTuple):
    """What a JetStream has answered when it was asked for its API level."""

    level: int | None = None  # None: it has not told
    domain: str = ""
    info: str | None = None  # the INFO of the connection that asked
    until: float = 0.0  # on the monotonic clock: how long this counts


class _Stream(NamedTuple):
    """What a stream's leader has answered when it was asked for the stream."""

    config: dict[str, Any] | None = None  # None: it has not told
    info: str | None = None  # as in `_Level`
    until: float = 0.0


_UNKNOWN = _Level()
_NO_STREAM = _Stream()
# Option of a message → the field that its stream must have. A server that knows the field refuses the
# message without it.
_STREAM_FIELDS = {
    **dict.fromkeys(("ttl", "msg_ttl"), "allow_msg_ttl"),
    **dict.fromkeys(
        ("schedule", "schedule_at", "schedule_every", "schedule_cron"), "allow_msg_schedules"
    ),
}


def _lasts(error: NatsError | None) -> float:
    """Return for how long, in seconds, an answer or an error counts."""
    if isinstance(error, PermissionsViolationError) or nobody_answered(error):
        return math.inf
    return _ERROR_COUNTS if isinstance(error, APIError) else _LEVEL_COUNTS


def _level_of(answer: Any, error: NatsError | None, info: str | None) -> _Level:
    """Return what an account's INFO tells; info is that of the connection."""
    fields: Mapping[str, Any] = answer if isinstance(answer, dict) else {}
    api, domain = fields.get("api"), fields.get("domain")
    level = (api.get("level") or 0) if isinstance(api, dict) else None
    return _Level(
        level if type(level) is int else None,
        domain if isinstance(domain, str) else "",
        info,
        time.monotonic() + _lasts(error),
    )


class Levels:
    """The features of the JetStream that answers the requests of one `Api`, and of others."""

    def __init__(
        self, nats: Nats, prefix: str, request: Callable[[str, str, Callback], object]
    ) -> None:
        """request(prefix, verb, cb) sends a request without a body to the JetStream with this prefix."""
        self._nats = nats
        self._prefix = prefix
        self._request = request
        # By prefix: what `ask` has learnt, by subject: who waits for an answer.
        self._levels: dict[str, _Level] = {}
        self._asking: dict[str, list[Callable[[], object]]] = {}
        # By name: the configurations of streams, as their leaders know them.
        self._streams: dict[str, _Stream] = {}

    def version(self) -> tuple[tuple[int, ...], int | None]:
        """Return the connected server's (version, API level); None: its INFO has no level."""
        return version_of(self._nats.server_info())

    def supports(self, feature: Feature) -> bool:
        """Return whether the JetStream that answers has the feature, as far as that is known."""
        level = None if self._is_local() else self._known(self._prefix).level
        if level is not None:
            # Level 0: a server before 2.11, whose version nothing tells. What it ignores shows in its answer.
            return level >= feature[1]
        version, level = self.version()
        if level is not None and feature[1]:
            return level >= feature[1]
        return version >= feature[0]

    def confirm(self, ack: dict[str, Any], needs: Mapping[str, Feature], cb: Callback) -> None:
        """Pass an acknowledgement to cb, or `ApiLevelError` if what has stored the message lacks a feature.

        Subjects alone decide which stream stores a message: across a leaf node it may be one of another
        domain than the JetStream that was asked before. The acknowledgement names its domain. In a cluster
        that is being upgraded the stream's leader may be older than the server that told the level; it does
        not know the stream's fields then.

        Args:
            ack: the acknowledgement of one message.
            needs: the features that the message needs.
            cb: ``cb(ack, err)``.
        """
        domain, own = ack.get("domain"), self._own_domain()
        if not isinstance(domain, str) or not domain or domain == own or own is None:
            self._confirm_stream(ack, needs, cb)
            return
        prefix = f"$JS.{domain}.API"

        def judge() -> None:
            level = self._known(prefix).level
            missing = {n: one for n, one in needs.items() if level is not None and level < one[1]}
            if missing:
                cb(None, ApiLevelError.lacking(missing, ack))
            else:
                cb(ack, None)

        if self._is_fresh(prefix):
            judge()
        else:
            self.ask(judge, prefix)

    def _confirm_stream(
        self, ack: dict[str, Any], needs: Mapping[str, Feature], cb: Callback
    ) -> None:
        fields = {name: _STREAM_FIELDS[name] for name in needs if name in _STREAM_FIELDS}
        name = ack.get("stream")
        known = self._known(self._prefix).level is not None and isinstance(name, str)
        if not fields or not known or self._is_local():
            cb(ack, None)
            return
        assert isinstance(name, str)

        def judge() -> None:
            config = self._streams.get(name, _NO_STREAM).config
            missing = {
                need: needs[need]
                for need, field in fields.items()
                if config is not None and not config.get(field)
            }
            if missing:
                self._streams.pop(name, None)  # it may soon have another leader
                cb(None, ApiLevelError.lacking(missing, ack))
            else:
                cb(ack, None)

        def learnt(answer: Any, error: NatsError | None) -> None:
            config = answer.get("config") if isinstance(answer, dict) else None
            self._streams[name] = _Stream(
                config if isinstance(config, dict) else None,
                self._nats.server_info(),
                time.monotonic() + _lasts(error),
            )

        stream = self._streams.get(name, _NO_STREAM)
        if stream.info == self._nats.server_info() and time.monotonic() < stream.until:
            judge()
        else:
            self._learn(f"STREAM.INFO.{name}", self._prefix, learnt, judge)

    def _own_domain(self) -> str | None:
        """Return the domain of the JetStream that answers; "": it has none; None: that is not known."""
        if self._prefix == "$JS.API":
            known = self._known(self._prefix).domain
            return known or domain_of(self._nats.server_info())
        tokens = self._prefix.split(".")
        if len(tokens) == 3 and tokens[0] == "$JS" and tokens[2] == "API":
            return tokens[1]
        return self._known(self._prefix).domain or None

    def _is_local(self) -> bool:
        """Return whether the connected server itself answers the requests.

        Across a domain or a leaf node, and in a cluster that is being upgraded, another one does.
        """
        return self._prefix == "$JS.API" and stands_alone(self._nats.server_info())

    def _known(self, prefix: str) -> _Level:
        return self._levels.get(prefix, _UNKNOWN)

    def _is_fresh(self, prefix: str) -> bool:
        known = self._known(prefix)
        return known.info == self._nats.server_info() and time.monotonic() < known.until

    def ask(self, go: Callable[[], object], prefix: str | None = None) -> None:
        """Ask a JetStream for its API level, then call ``go()`` (ADR-44).

        Without a clear answer the level of the connected server counts. A user who may not ask does not ask
        again on this connection. Calls while an answer is awaited share it.

        Args:
            go: called on the loop.
            prefix: that of another JetStream than the one that answers requests.
        """
        asked = prefix or self._prefix
        info = self._nats.server_info()

        def learnt(answer: Any, error: NatsError | None) -> None:
            self._levels[asked] = _level_of(answer, error, info)

        self._learn("INFO", asked, learnt, go)

    def _learn(self, verb: str, prefix: str, learnt: Callback, go: Callable[[], object]) -> None:
        """Pass the answer to a request to learnt, then call ``go()``, as all that wait for it."""
        subject = f"{prefix}.{verb}"
        waiting = self._asking.setdefault(subject, [])
        waiting.append(go)
        if len(waiting) > 1:
            return

        def answered(answer: Any, error: NatsError | None) -> None:
            learnt(answer, error)
            for one in self._asking.pop(subject, ()):
                self._nats.call(one)

        self._request(prefix, verb, answered)

    def must_ask(self, level: int) -> bool:
        """Return whether the API level is unknown, and something needs one."""
        return level > 0 and not self._is_local() and not self._is_fresh(self._prefix)
