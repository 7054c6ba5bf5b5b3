"""Events that servers publish about JetStream (ADR-2): advisories, and metrics of acknowledgements."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from ..arguments import check_callback
from ..errors import NatsError
from ..times import parse_time
from .answers import EVENT, attempt, read_json
from .api import Api
from .errors import InvalidAnswerError

_PREFIXES = ("io.nats.jetstream.advisory.v1.", "io.nats.jetstream.metric.v1.")

# kind → the event, and the fields of `data` besides those that all events have.
KINDS = {
    "api_audit": "a request was sent to the API: server, client, subject, request, response",
    "stream_action": "a stream was created, deleted or modified: action",
    "consumer_action": "a consumer was created or deleted: action",
    "consumer_pause": "a consumer was paused or resumed: paused, pause_until",
    "max_deliver": "a message was delivered max_deliver times: stream_seq, deliveries",
    "nak": "a client refused a message (nak): consumer_seq, stream_seq, deliveries",
    "terminated": "a message was terminated: consumer_seq, stream_seq, deliveries, reason",
    "consumer_ack": "a sampled acknowledgement: ack_time, consumer_seq, stream_seq, deliveries",
    "consumer_group_pinned": "a client was pinned: group, pinned_id",
    "consumer_group_unpinned": "a client is no longer pinned: group, reason",
    "stream_leader_elected": "a stream has a new leader: leader, replicas",
    "stream_quorum_lost": "a stream has lost its quorum: replicas",
    "stream_batch_abandoned": "an atomic batch was abandoned: batch, reason",
    "consumer_leader_elected": "a consumer has a new leader: leader, replicas",
    "consumer_quorum_lost": "a consumer has lost its quorum: replicas",
    "snapshot_create": "a backup has begun: blksize, client",
    "snapshot_complete": "a backup has ended: start, end, client",
    "restore_create": "a restore has begun: client",
    "restore_complete": "a restore has ended: start, end, bytes, client",
    "domain_leader_elected": "a domain has a new leader: leader, replicas",
    "meta_rescue": "an operator has lowered a quorum: server, prev_quorum, new_quorum",
    "server_out_of_space": "a server has no space left: server, server_id, cluster",
    "server_removed": "a server was removed: server, server_id, cluster",
    "api_limit_reached": "a server has dropped requests: dropped",
}


class Advisory(NamedTuple):
    """An event from a server, as `JetStream.advisories` delivers it.

    kind is the last part of type: a key of `KINDS`, or a word of a newer server. stream and consumer are ""
    when the event is not about one. subject is the one that the event came on; data is the whole event.
    """

    kind: str
    type: str
    id: str
    time: datetime
    stream: str
    consumer: str
    subject: str
    data: dict[str, Any]


def decode_advisory(subject: str, payload: bytes) -> Advisory:
    """Return the event in a message.

    Args:
        subject: the message's subject.
        payload: the event's JSON.

    Raises:
        InvalidAnswerError: the payload is not an event of JetStream.
    """
    advisory, error = attempt(_advisory, subject, payload, what="advisory")
    if advisory is None:
        raise InvalidAnswerError(f"not an advisory: {error}") from None
    return advisory


def _advisory(subject: str, payload: bytes) -> Advisory:
    data = read_json(payload, EVENT)
    kind = data["type"]
    for prefix in _PREFIXES:
        kind = kind.removeprefix(prefix)
    return Advisory(
        kind=kind,
        type=data["type"],
        id=data.get("id") or "",
        time=parse_time(data["timestamp"]),
        stream=data.get("stream") or "",
        consumer=data.get("consumer") or "",
        subject=subject,
        data=data,
    )


class Advisories:
    """The methods of `JetStream` that listen to servers."""

    _api: Api
    event_prefix = "$JS.EVENT"

    def advisories(
        self,
        cb: Callable[[Advisory | None, NatsError | None], object],
        *,
        events: str = "ADVISORY.>",
    ) -> int:
        """Listen to the servers' events; returns the subscription's sid, for `Nats.unsubscribe`.

        Args:
            cb: ``cb(advisory, None)`` for each event, ``cb(None, err)`` for a message that is not one.
            events: the subject after ``$JS.EVENT.``, or the prefix for events, such as "ADVISORY.STREAM.>",
                "METRIC.CONSUMER.ACK.>" or "ADVISORY.CONSUMER.MAX_DELIVERIES.<stream>.<consumer>".
        """
        check_callback(cb)

        def arrived(subject: str, payload: bytes, reply: str | None, headers: object) -> None:
            cb(*attempt(decode_advisory, subject, payload))

        return self._api.nats.subscribe(f"{self.event_prefix}.{events}", arrived)
