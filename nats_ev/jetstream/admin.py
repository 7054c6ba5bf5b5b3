"""Administration of streams and consumers in a cluster: leaders, peers, moves.

The words are those of the official tools. Most of these calls are answered before their work is done:
`JetStream.wait_until_converged` waits for that.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..arguments import (
    Callback,
    Milliseconds,
    ResultCallback,
    callable_or_none,
    check_result_cb,
    milliseconds,
    optional_middle,
)
from ..errors import BadOptionsError, NatsError, RequestTimeoutError
from .answers import INFO, Shape, part
from .api import Api, name_of
from .config import Fields, check_fields
from .errors import APIError, is_electing
from .types import ConsumerInfo, Placement, StreamInfo, Success

__all__: list[str] = []

_PLACEMENT: Fields = {"cluster": None, "tags": [None], "preferred": None}
# "a reconfiguration of this stream is already in progress"
_IN_PROGRESS = 10226
# Between two looks, in ms.
_LOOKS = 250.0

# Called as progress(info), for each look.
MoveProgress = Callable[[Any], object]


class Administration:
    """The methods of `JetStream` for those who run a cluster."""

    _api: Api

    # Leaders.

    def stream_leader_stepdown(
        self,
        stream: str,
        placement: Placement | ResultCallback[Success] | None = None,
        cb: ResultCallback[Success] | None = None,
    ) -> None:
        """Let another server lead a stream; ``cb({"success": True}, err)``.

        Args:
            stream: the stream's name.
            placement: preferred (the name of the server that shall lead), cluster, tags. nats-server 2.11.
            cb: called when the leader has stepped down; the next one need not be elected yet.
        """
        verb = f"STREAM.LEADER.STEPDOWN.{name_of('stream', stream)}"
        self._step_down(verb, placement, cb)

    def consumer_leader_stepdown(
        self,
        stream: str,
        consumer: str,
        placement: Placement | ResultCallback[Success] | None = None,
        cb: ResultCallback[Success] | None = None,
    ) -> None:
        """Let another server lead a consumer; see `stream_leader_stepdown`."""
        names = f"{name_of('stream', stream)}.{name_of('consumer', consumer)}"
        self._step_down(f"CONSUMER.LEADER.STEPDOWN.{names}", placement, cb)

    def meta_leader_stepdown(
        self,
        placement: Placement | ResultCallback[Success] | None = None,
        cb: ResultCallback[Success] | None = None,
    ) -> None:
        """Let another server lead JetStream itself; for users of the system account alone.

        Args:
            placement: as in `stream_leader_stepdown`.
            cb: ``cb({"success": True}, err)``. No server answers a user of another account:
                `RequestTimeoutError`, whose text asks for that.
        """
        self._step_down("META.LEADER.STEPDOWN", placement, cb, system=True)

    def _step_down(self, verb: str, placement: Any, cb: Any, *, system: bool = False) -> None:
        given, done = optional_middle(placement, cb)
        check_fields("placement", given or {}, _PLACEMENT)
        body = {"placement": dict(given)} if given else None
        if system:
            done = _for_system(done)
        self._api.request(verb, body, done)

    # Peers.

    def stream_peer_remove(self, stream: str, peer: str, cb: ResultCallback[Success]) -> None:
        """Take a server out of a stream's group; another one takes its place if the cluster has one.

        Args:
            stream: the stream's name.
            peer: the server's name, or its peer id.
            cb: ``cb({"success": True}, err)``. While another change of the stream is under way the request
                is sent again, for as long as the time-out of the `JetStream`.
        """
        self._patiently(f"STREAM.PEER.REMOVE.{name_of('stream', stream)}", _peer(peer), cb)

    def stream_peer_evacuate(self, stream: str, peer: str, cb: ResultCallback[Success]) -> None:
        """Move a stream off a server, which serves the stream until another one has all; nats-server 2.15.

        Args:
            stream: the stream's name.
            peer: the server's name, or its peer id.
            cb: ``cb({"success": True}, err)``, when the move has begun; a single server refuses it. An older
                server does not know the request: `RequestTimeoutError` or `NoRespondersError`.
        """
        self._patiently(f"STREAM.PEER.EVACUATE.{name_of('stream', stream)}", _peer(peer), cb)

    def stream_cancel_move(self, stream: str, cb: ResultCallback[StreamInfo]) -> None:
        """Let a stream stay where it was before its move or scaling; nats-server 2.15.

        Args:
            stream: the stream's name.
            cb: ``cb(info, err)``. err is an `APIError` (err_code 10129) if no change is under way.
        """
        check_result_cb(cb)
        self._api.request(f"STREAM.CANCEL_MOVE.{name_of('stream', stream)}", None, cb)

    def meta_peer_remove(self, peer: str, cb: ResultCallback[Success], *, id: str = "") -> None:
        """Take a server that is gone for good out of JetStream; for users of the system account alone.

        A server that runs is refused, or comes back.

        Args:
            peer: the server's name; "" with id.
            cb: as in `meta_leader_stepdown`.
            id: its peer id, if the name is not unique.
        """
        self._meta_peer("SERVER.REMOVE", peer, id, cb)

    def meta_peer_evacuate(self, peer: str, cb: ResultCallback[Success], *, id: str = "") -> None:
        """Move all streams and consumers off a server that runs; nats-server 2.15, the system account alone.

        Arguments as in `meta_peer_remove`; cb is called when the moves have begun.
        """
        self._meta_peer("SERVER.EVACUATE", peer, id, cb)

    def _meta_peer(self, verb: str, peer: object, id: object, cb: Callback) -> None:
        check_result_cb(cb)
        if not isinstance(peer, str) or not isinstance(id, str):
            raise TypeError("peer and id must be str")
        if not peer and not id:
            raise BadOptionsError("peer or id required")
        body = {"peer": peer, **({"peer_id": id} if id else {})}
        self._api.request(verb, body, _for_system(cb))

    def _patiently(self, verb: str, body: Mapping[str, Any], cb: Callback) -> None:
        """Send a request, again and again while another change of the stream is under way."""
        check_result_cb(cb)
        until = time.monotonic() + (self._api.timeout or math.inf) / 1000

        def answered(answer: Any, error: NatsError | None) -> None:
            busy = isinstance(error, APIError) and error.err_code == _IN_PROGRESS
            if not busy or time.monotonic() > until:
                cb(answer, error)
                return
            self._api.start_timer(
                _LOOKS,
                lambda: self._api.request_or_report(verb, body, answered),
                lambda ended: cb(None, ended),
                step=True,
            )

        self._api.request(verb, body, answered)

    # Waiting.

    def wait_until_converged(
        self,
        stream: str,
        cb: ResultCallback[StreamInfo | ConsumerInfo],
        *,
        consumer: str | None = None,
        timeout: Milliseconds = 0,
        progress: MoveProgress | None = None,
    ) -> Convergence:
        """Wait until a stream or consumer is where it should be; ``cb(info, err)``.

        That is: it has a leader, as many replicas as its configuration says, all of them are online and
        have everything, and no move is under way. A stream on a single server is at once.

        Args:
            stream: the stream's name.
            cb: gets the last info; `RequestTimeoutError` after timeout, and other errors as of `stream_info`.
                Errors that pass, such as that no leader is elected, are waited out.
            consumer: wait for this consumer of the stream.
            timeout: in ms or a timedelta; 0: no limit.
            progress: ``progress(info)``, called for each look: info["cluster"] has the replicas with their
                lag, and from nats-server 2.15 on what is desired.

        Returns:
            A `Convergence`, whose `cancel` ends the waiting.
        """
        check_result_cb(cb)
        verb = f"STREAM.INFO.{name_of('stream', stream)}"
        if consumer is not None:
            verb = f"CONSUMER.INFO.{stream}.{name_of('consumer', consumer)}"
        wait = Convergence(
            self._api,
            verb,
            callable_or_none(progress, "progress"),
            milliseconds(timeout, "timeout"),
            cb,
        )
        wait.begin()
        return wait


class Convergence:
    """A wait of `JetStream.wait_until_converged`."""

    def __init__(
        self, api: Api, verb: str, progress: MoveProgress | None, timeout: float, cb: Callback
    ) -> None:
        self._api = api
        self._verb = verb
        self._progress = progress
        self._timeout = timeout
        self._until = time.monotonic() + timeout / 1000
        self._cb: Callback | None = cb
        self._timer = api.timer(self._look, lambda error: self._end(None, error))

    def __repr__(self) -> str:
        state = "done" if self._cb is None else "waiting"
        return f"<{type(self).__name__} {self._verb} {state}>"

    def cancel(self) -> None:
        """End the waiting; no callback comes any more."""
        self._cb = self._progress = None
        self._timer.cancel()

    def begin(self) -> None:
        """Look for the first time. Raises what a request raises."""
        self._api.request(
            self._verb, None, self._answered, shape=_SHAPE, timeout=self._look_within()
        )

    def _look(self) -> None:
        self._api.request_or_report(
            self._verb, None, self._answered, shape=_SHAPE, timeout=self._look_within()
        )

    def _look_within(self) -> float | None:
        """Return how many ms a look may take, at most what is left; None: as the `JetStream` has it."""
        left = self._left()
        return min(left, self._api.timeout or left) if self._timeout else None

    def _left(self) -> float:
        """Return how many ms the wait may still take."""
        left = (self._until - time.monotonic()) * 1000
        return max(1.0, left) if self._timeout else math.inf

    def _answered(self, info: dict[str, Any] | None, error: NatsError | None) -> None:
        if self._cb is None:
            return
        if info is not None and self._progress is not None:
            self._api.nats.call(self._progress, info)
            if self._cb is None:  # progress has cancelled
                return
        if info is not None and _has_converged(info):
            self._end(info, None)
        elif error is not None and not _passes(error):
            self._end(None, error)
        elif self._timeout and time.monotonic() >= self._until:
            why = f": {error}" if error is not None else ""
            text = f"request timeout: {self._verb} has not converged in {self._timeout:g} ms{why}"
            self._end(None, RequestTimeoutError(text))
        else:
            self._timer.start(min(_LOOKS, self._left()))

    def _end(self, info: Any, error: NatsError | None) -> None:
        cb, self._cb, self._progress = self._cb, None, None
        if cb is not None:
            cb(info, error)


_PEER: Shape = {"name": str, "current": bool, "offline": bool, "pending": bool, "lag": int}
_CLUSTER: Shape = {"name": str, "leader": str, "replicas": [_PEER], "desired": {}}
_SHAPE: Shape = {**INFO, "config!": INFO["config"], "cluster": _CLUSTER}


def _has_converged(info: Mapping[str, Any]) -> bool:
    """Return whether a stream or consumer is where it should be."""
    cluster = part(info, "cluster")
    if not cluster.get("name"):
        return True  # a single server
    if not cluster.get("leader") or cluster.get("desired"):
        return False
    replicas = cluster.get("replicas") or []
    # A consumer with num_replicas 0 has those of its stream.
    wanted = part(info, "config").get("num_replicas") or 0
    return (not wanted or len(replicas) == wanted - 1) and all(
        peer.get("current") and not peer.get("offline") and not peer.get("pending")
        for peer in replicas
    )


def _passes(error: NatsError) -> bool:
    """Return whether the next look may succeed."""
    return is_electing(error) or isinstance(error, RequestTimeoutError)


def _peer(peer: object) -> dict[str, object]:
    if not isinstance(peer, str):
        raise TypeError(f"peer must be str, not {type(peer).__name__}")
    if not peer:
        raise BadOptionsError("peer required")
    return {"peer": peer}


def _for_system(cb: Callback) -> Callback:
    """Return a callback for a request that only users of the system account may send."""

    def answered(answer: Any, error: NatsError | None) -> None:
        if isinstance(error, RequestTimeoutError):
            error = RequestTimeoutError(f"{error} (is this user in the system account?)")
        cb(answer, error)

    return answered
