"""`JetStream`: one class made of the methods of `stream`, `consumer`, `batch`, `publish` and others.

The methods have the manual's words (``stream_create``). nats.go's words (``create_stream``) are aliases of
them, declared here.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ..arguments import Unpack, check_object
from ..client import Nats
from ..errors import BadOptionsError
from ..options import NatsOptions
from ..subjects import check_subscribe
from .admin import Administration
from .advisory import Advisories
from .api import Api
from .batch import Batches
from .consumer import Consumers
from .publish import Publishing
from .snapshot import Snapshots
from .stream import Streams

_FIELD_OF = {"domain": "domain", "prefix": "api_prefix", "event_prefix": "event_prefix"}

# Methods of nats-py and nats.go that are other ones here, for the text of an AttributeError.
_OTHER_METHODS = {
    "add_consumer": "consumer_create",
    "add_stream": "stream_create",
    "consumers_info": "consumer_list",
    "create_key_value": "create_bucket of KV",
    "create_object_store": "create_bucket of ObjectStore",
    "delete_key_value": "delete_bucket of KV",
    "delete_object_store": "delete_bucket of ObjectStore",
    "find_stream_name_by_subject": "stream_name_by_subject",
    "publish_async_completed": "publish_complete",
    "pull_subscribe": "consume or fetch, after consumer_create",
    "streams_info": "stream_list",
    "subscribe": "consume, after consumer_create",
}

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..contexts import Context
else:
    Self = Context = Any  # Python 3.10 has no Self; most programs have no context


class JetStream(Streams, Consumers, Batches, Advisories, Publishing, Snapshots, Administration):
    """JetStream on a client's connection.

    Every method takes a callback, ``cb(result, err)``, as its last positional argument or as ``cb``. It is
    called once, on the loop, never inside the call. Options before it may be left out. A wrong argument
    is raised; so is `NotConnectedError` when the client is not connected and no attempt is planned.

    Configurations and results are dicts of the server's JSON unless a method says otherwise: durations as
    timedelta or in ns (in results always in ns), times as RFC 3339. err is None, or an `APIError` with the
    server's code, err_code and description (`StreamNotFoundError`, …), `RequestTimeoutError`,
    ``disconnected``, `NoRespondersError`: nobody serves the prefix, as when JetStream is off, or
    `InvalidAnswerError`: the answer is not one of JetStream's, and the text names what is wrong. The server
    may answer calls in another order: put a call that needs the result of another one in its callback.

    Args:
        nats: the client; any number of `JetStream` objects may share one.
        prefix: the subject of the API.
        timeout: for each answer, in ms or a timedelta; 0: no limit.
        domain: the JetStream domain; the same as the prefix ``$JS.<domain>.API``.
        event_prefix: under which another account's events arrive, for `advisories`.
        max_ack_pending: how many messages of `publish_async` may be in flight.
        stall_wait: how long, in ms or a timedelta, `publish_async` keeps messages while no acknowledgement
            comes; 0: no limit.
    """

    # nats.go's words. Where they are the same as the manual's (`account_info`, `stream_info`, `stream_names`,
    # `stream_name_by_subject`, `get_msg`, `consumer_info`, `consumer_names`, `fetch`, `next`, `consume`,
    # `ordered_consumer`, `publish`, `publish_async`, `publish_async_pending`) there is nothing to declare.
    create_stream = Streams.stream_create
    update_stream = Streams.stream_update
    create_or_update_stream = Streams.stream_create_or_update
    delete_stream = Streams.stream_delete
    list_streams = Streams.stream_list
    purge_stream = Streams.stream_purge
    get_last_msg_for_subject = Streams.get_last_msg
    delete_msg = Streams.stream_msg_delete
    secure_delete_msg = Streams.stream_msg_erase
    create_consumer = Consumers.consumer_create
    update_consumer = Consumers.consumer_update
    create_or_update_consumer = Consumers.consumer_create_or_update
    delete_consumer = Consumers.consumer_delete
    list_consumers = Consumers.consumer_list
    pause_consumer = Consumers.consumer_pause
    resume_consumer = Consumers.consumer_resume
    unpin_consumer = Consumers.consumer_unpin
    reset_consumer = Consumers.consumer_reset
    publish_async_complete = Publishing.publish_complete
    # The manual's other word for `publish`.
    js_publish = Publishing.publish

    def __init__(
        self,
        nats: Nats,
        prefix: str = "$JS.API",
        timeout: float | timedelta = 5000,
        domain: str | None = None,
        *,
        event_prefix: str = "$JS.EVENT",
        max_ack_pending: int = 4000,
        stall_wait: float | timedelta = 5000,
    ) -> None:
        check_object(nats, "new_inbox", "nats must be a Nats")
        if domain is not None and not isinstance(domain, str):
            raise TypeError(f"domain must be str, not {type(domain).__name__}")
        if domain:
            if prefix != "$JS.API":
                raise BadOptionsError("prefix and domain exclude each other")
            prefix = f"$JS.{domain}.API"
        self.nats = nats
        self.prefix = _prefix("prefix", prefix)
        self.event_prefix = _prefix("event_prefix", event_prefix)
        self.domain = domain
        self._api = Api(nats, self.prefix, timeout)
        super().__init__(max_ack_pending=max_ack_pending, stall_wait=stall_wait)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError, with a hint for a method of another client."""
            text = f"{type(self).__name__!r} object has no attribute {name!r}"
            hint = _OTHER_METHODS.get(name)
            raise AttributeError(f"{text}: it is {hint}" if hint else text, name=name, obj=self)

    @classmethod
    def from_context(
        cls,
        *context: str | os.PathLike[str] | Context | None,
        prefix: str | None = None,
        domain: str | None = None,
        event_prefix: str | None = None,
        timeout: float | timedelta = 5000,
        max_ack_pending: int = 4000,
        stall_wait: float | timedelta = 5000,
        **options: Unpack[NatsOptions],
    ) -> Self:
        """Create a client from a context, and return its `JetStream`; ``nats`` is the client.

        Args:
            context: by position, or its name as ``name=``, as for `Nats.from_context`.
            prefix, domain: one of them replaces the context's jetstream_domain and jetstream_api_prefix.
            event_prefix: replaces the context's jetstream_event_prefix.
            timeout, max_ack_pending, stall_wait: as for `JetStream`.
            options: of `Nats`; they win over the context's.

        Raises:
            ContextError: as `Nats.from_context`; or the context has both a domain and a prefix.
        """
        from ..contexts import context_of

        whole: dict[str, Any] = dict(options)
        found = context_of(context, whole)
        given = {"prefix": prefix, "domain": domain, "event_prefix": event_prefix}
        own = found.jetstream_options(**{n: v for n, v in given.items() if v is not None})
        for option, value in own.items():  # before the client begins to connect
            if given[option] is None:
                found.checked(f"jetstream_{_FIELD_OF[option]}", _prefix, option, value)
            else:
                _prefix(option, value)
        nats = Nats.from_context(found, **whole)
        return cls(
            nats, timeout=timeout, max_ack_pending=max_ack_pending, stall_wait=stall_wait, **own
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.prefix} {self.nats!r}>"

    @property
    def timeout(self) -> float:
        """The time-out of each answer, in ms."""
        return self._api.timeout


def _prefix(name: str, value: object) -> str:
    """Return the checked prefix of subjects."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be str, not {type(value).__name__}")
    value = value.removesuffix(".")
    check_subscribe(value)
    if "*" in value or ">" in value:
        raise BadOptionsError(f"a prefix must not have wildcards: {value!r}")
    return value
