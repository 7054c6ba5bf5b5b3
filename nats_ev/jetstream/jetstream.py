"""`JetStream`: streams, consumers, and publishing with acknowledgement, over one `Nats`."""

from __future__ import annotations

from datetime import timedelta

from ..client import Nats
from ..errors import BadOptionsError
from ..subjects import check_subscribe
from .advisory import Advisories
from .api import Api
from .batch import Batches
from .consumer import Consumers
from .publish import Publishing
from .stream import Streams


class JetStream(Streams, Consumers, Batches, Advisories, Publishing):
    """JetStream on a client's connection.

    Every method takes a callback, ``cb(result, err)``, as its last positional argument or as ``cb``; it is
    called once, on the loop, never inside the call. Options before it may be left out. What is wrong with
    an argument is raised; so is `NotConnectedError` when no connection is coming.

    Configurations and results are dicts of the server's JSON unless a method says otherwise: durations in
    ns (a timedelta will do in what is sent), times as RFC 3339. err is None, or an `APIError` with the
    server's code, err_code and description (`StreamNotFoundError`, …), `RequestTimeoutError`,
    ``disconnected``, or `NoRespondersError`: nobody serves the prefix, as when JetStream is off. The server
    may answer calls in another order: what needs the result of one belongs into its callback.

    Args:
        nats: the client; any number of `JetStream` objects may share one.
        prefix: where the API listens.
        timeout: for each answer, in ms or a timedelta; 0: for ever.
        domain: the JetStream domain; the same as the prefix ``$JS.<domain>.API``.
        max_ack_pending: messages of `publish_async` in flight.
        stall_wait: how long, in ms, `publish_async` keeps messages while no acknowledgement comes; 0: for
            ever.
    """

    def __init__(
        self,
        nats: Nats,
        prefix: str = "$JS.API",
        timeout: float | timedelta = 5000,
        domain: str | None = None,
        *,
        max_ack_pending: int = 4000,
        stall_wait: float | timedelta = 5000,
    ) -> None:
        for name, value in (("prefix", prefix), ("domain", domain or "")):
            if not isinstance(value, str):
                raise TypeError(f"{name} must be str, not {type(value).__name__}")
        if domain:
            if prefix != "$JS.API":
                raise BadOptionsError("prefix and domain exclude each other")
            prefix = f"$JS.{domain}.API"
        prefix = prefix.removesuffix(".")
        check_subscribe(prefix)
        if "*" in prefix or ">" in prefix:
            raise BadOptionsError(f"a prefix must not have wildcards: {prefix!r}")
        self.nats = nats
        self.prefix = prefix
        self.domain = domain
        self._api = Api(nats, prefix, timeout)
        super().__init__(max_ack_pending=max_ack_pending, stall_wait=stall_wait)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.prefix} {self.nats!r}>"

    @property
    def timeout(self) -> float:
        """For each answer, in ms."""
        return self._api.timeout
