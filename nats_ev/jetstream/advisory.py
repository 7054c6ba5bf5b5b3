"""What servers tell of JetStream by themselves (ADR-2): advisories, and metrics of acknowledgements."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from ..arguments import check_callback
from ..errors import NatsError
from ..times import parse_time
from .api import Api
from .errors import InvalidAnswerError

_PREFIXES = ("io.nats.jetstream.advisory.v1.", "io.nats.jetstream.metric.v1.")

# kind → what it tells, and the fields of `data` besides those that all have.
KINDS = {
    "api_audit": "a request to the API: server, client, subject, request, response",
    "stream_action": "a stream was created, deleted, modified (action)",
    "consumer_action": "a consumer was created, deleted (action)",
    "consumer_pause": "a consumer was paused or resumed: paused, pause_until",
    "max_deliver": "a message was delivered max_deliver times: stream_seq, deliveries",
    "nak": "a message was refused: consumer_seq, stream_seq, deliveries",
    "terminated": "a message was terminated: consumer_seq, stream_seq, deliveries, reason",
    "consumer_ack": "an acknowledgement, sampled: ack_time, consumer_seq, stream_seq, deliveries",
    "consumer_group_pinned": "a client was pinned: group, pinned_id",
    "consumer_group_unpinned": "a client is pinned no more: group, reason",
    "stream_leader_elected": "leader, replicas",
    "stream_quorum_lost": "replicas",
    "stream_batch_abandoned": "an atomic batch was dropped: batch, reason",
    "consumer_leader_elected": "leader, replicas",
    "consumer_quorum_lost": "replicas",
    "snapshot_create": "a backup was begun: blksize, client",
    "snapshot_complete": "a backup has ended: start, end, client",
    "restore_create": "a restore was begun: client",
    "restore_complete": "a restore has ended: start, end, bytes, client",
    "domain_leader_elected": "leader, replicas",
    "meta_rescue": "a quorum was lowered by hand: server, prev_quorum, new_quorum",
    "server_out_of_space": "server, server_id, cluster",
    "server_removed": "server, server_id, cluster",
    "api_limit_reached": "requests were dropped: dropped",
}


class Advisory(NamedTuple):
    """One event. kind is the last part of type: a key of `KINDS`, or one that a newer server has."""

    kind: str
    type: str
    id: str
    time: datetime
    stream: str  # "" when it is about none
    consumer: str
    subject: str  # that it came on
    data: dict[str, Any]  # all of it


def decode_advisory(subject: str, payload: bytes) -> Advisory:
    """The event in a message's payload. Raises `InvalidAnswerError`."""
    try:
        data = json.loads(payload)
        kind = data["type"]
        for prefix in _PREFIXES:
            kind = kind.removeprefix(prefix)
        return Advisory(
            kind=kind,
            type=data["type"],
            id=data.get("id", ""),
            time=parse_time(data["timestamp"]),
            stream=data.get("stream", ""),
            consumer=data.get("consumer", ""),
            subject=subject,
            data=data,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise InvalidAnswerError(f"not an advisory: {exc!r}") from None


class Advisories:
    """The part of `JetStream` that listens to servers."""

    _api: Api

    def advisories(
        self,
        cb: Callable[[Advisory | None, NatsError | None], object],
        *,
        events: str = "ADVISORY.>",
    ) -> int:
        """Listen: ``cb(advisory, None)`` for each event, ``(None, err)`` for what is none.

        events: what follows ``$JS.EVENT.``, such as "ADVISORY.STREAM.>", "METRIC.CONSUMER.ACK.>" or
        "ADVISORY.CONSUMER.MAX_DELIVERIES.<stream>.<consumer>". Returns the sid, for `Nats.unsubscribe`.
        """
        check_callback(cb)

        def arrived(subject: str, payload: bytes, reply: str | None, headers: object) -> None:
            try:
                advisory = decode_advisory(subject, payload)
            except InvalidAnswerError as exc:
                cb(None, exc)
                return
            cb(advisory, None)

        return self._api.nats.subscribe(f"$JS.EVENT.{events}", arrived)
