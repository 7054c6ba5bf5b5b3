"""`Service`: request handlers that tools can discover, watch and scale (ADR-32).

A `Service` is one instance, with an id of its own. `Service.add_endpoint` subscribes a handler to a subject
as an `Endpoint`; a `Group` gives the endpoints that are added to it a common prefix and queue group. For
each message the endpoint calls its handler with a `ServiceRequest`, counts the request and takes the time.
A handler reports a failure by `ServiceRequest.respond_error` or by raising: both become an answer with two
error headers, which the sender of the request reads by `ServiceError.from_headers`.

For tools the service also answers on nine discovery subjects: PING, INFO and STATS, each for all services
(``$SRV.PING``), for those of its name (``$SRV.PING.name``) and for itself (``$SRV.PING.name.id``).

A service ends by `Service.stop`, with its client, or when the server refuses one of its subscriptions. Any
number of services can share one client. Only public methods of `Nats` are used.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, cast

from .. import errors, subjects
from ..arguments import (
    Omitted,
    Payload,
    ResultCallback,
    callable_or_none,
    check_callback,
    check_object,
    str_mapping,
)
from ..client import Nats
from ..headers import Headers, HeadersLike, as_headers, received
from ..nuid import next_nuid
from ..status import Status
from ..times import rfc3339
from .types import EndpointInfo, EndpointStats, ServiceIdentity, ServiceInfo, ServiceStats

# What a requester learns of an exception that is no `ServiceError`.
_UNEXPECTED = "internal error"

ERROR_HEADER = "Nats-Service-Error"
ERROR_CODE_HEADER = "Nats-Service-Error-Code"
DEFAULT_QUEUE_GROUP = "q"
API_PREFIX = "$SRV"

_TYPE = "io.nats.micro.v1.{}_response"
_VERBS = ("PING", "INFO", "STATS")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
# The grammar of semver.org: core, then perhaps a pre-release, then perhaps build metadata.
_NUMBER = r"(?:0|[1-9]\d*)"
_PRE = rf"(?:{_NUMBER}|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_BUILD = r"[0-9a-zA-Z-]+"
_SEMVER = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_PRE}(?:\.{_PRE})*)?(?:\+{_BUILD}(?:\.{_BUILD})*)?",
    re.ASCII,
)
_BREAKS = re.compile(r"[\r\n\0]+")

# The default of queue_group, because None means "no queue group": an endpoint or group takes the queue group
# of the group or service that it was added to.
_INHERIT = cast(Any, Omitted())


class ServiceError(errors.NatsError):
    """An error as the answer to a request.

    A handler may raise it. The sender of the request gets it from `from_headers`.

    What to do: look at code and description, which the service has chosen.

    Args:
        code: a number, as int or str; the attribute `code` is a str.
        description: a sentence for people.
    """

    text = "service error"
    code: str
    description: str

    def __init__(self, code: str | int, description: str) -> None:
        super().__init__(f"{code}:{description}", code=str(code), description=description)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.description)

    @classmethod
    def from_headers(cls, headers: HeadersLike | None) -> ServiceError | None:
        """Return the error in an answer's headers, or None if the answer is not an error."""
        if headers is None:
            return None
        headers = received(headers) if isinstance(headers, bytes) else as_headers(headers)
        if ERROR_HEADER not in headers and ERROR_CODE_HEADER not in headers:
            return None
        return cls(headers.get(ERROR_CODE_HEADER, ""), headers.get(ERROR_HEADER, ""))


class ServiceRequest:
    """A request to an endpoint. Answer it in the handler or later, once or several times.

    Attributes: `subject`, `data` (bytes), `headers` (the raw block, or None), `reply` (the subject that
    answers go to, or None).
    """

    __slots__ = (
        "_endpoint",
        "_nats",
        "_returned_at",
        "_started_at",
        "data",
        "headers",
        "reply",
        "subject",
    )

    def __init__(
        self,
        nats: Nats,
        endpoint: Endpoint,
        subject: str,
        data: bytes,
        reply: str | None,
        headers: bytes | None,
    ) -> None:
        self._nats = nats
        self._endpoint = endpoint
        self._started_at = time.perf_counter_ns()
        self._returned_at: int | None = None
        self.subject = subject
        self.data = data
        self.reply = reply
        self.headers = headers

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.subject} {len(self.data)} B>"

    def header(self, name: str, default: str | None = None) -> str | None:
        """Return the first value of a header.

        Args:
            name: case-sensitive.
            default: the result if the request has no such header.
        """
        return received(self.headers).get(name, default)

    def respond(self, data: Payload = b"", headers: HeadersLike | None = None) -> None:
        """Send an answer. Nothing is sent if the request has no reply subject.

        Args:
            data: the payload; a str is sent as UTF-8.
            headers: of the answer.

        Raises:
            NatsError: what `Nats.publish` and `Nats.hpublish` raise.
        """
        if self.reply:
            if headers is None:
                self._nats.publish(self.reply, data)
            else:
                self._nats.hpublish(self.reply, headers, data)
        if self._returned_at is not None:
            # The handler has returned and answers now: the time since then counts as processing, too.
            now = time.perf_counter_ns()
            self._endpoint.processing_time += now - self._returned_at
            self._returned_at = now

    def respond_json(self, data: object, headers: HeadersLike | None = None) -> None:
        """Send an answer as JSON.

        Args:
            data: what `json.dumps` can encode, NaN and infinity excluded.
            headers: of the answer.

        Raises:
            TypeError, ValueError: JSON can't express data.
            NatsError: what `respond` raises.
        """
        self.respond(json.dumps(data, separators=(",", ":"), allow_nan=False), headers)

    def respond_error(
        self,
        code: str | int,
        description: str,
        data: Payload = b"",
        headers: HeadersLike | None = None,
    ) -> None:
        """Send an error as the answer, and count the error in the endpoint's statistics.

        Args:
            code: a number, as int or str.
            description: a sentence for people, not empty.
            data: the payload.
            headers: more headers of the answer.

        Raises:
            TypeError: code or description has a wrong type.
            BadOptionsError: code or description is empty.
            NatsError: what `respond` raises.
        """
        if not isinstance(code, (str, int)) or not isinstance(description, str):
            raise TypeError("an error has a code, str or int, and a description, str")
        text = str(code)
        if not text or not description:
            raise errors.BadOptionsError("an error has a code and a description")
        answer = Headers() if headers is None else as_headers(headers)
        answer[ERROR_HEADER] = description
        answer[ERROR_CODE_HEADER] = text
        self.respond(data, answer)
        self._endpoint._count_error(f"{text}:{description}")


class Endpoint:
    """One subject of a service, with its handler and counters. `Group.add_endpoint` returns it.

    Attributes: `name`, `subject`, `queue_group` ("": none), `metadata`, `sid` (of the subscription); the
    counters `num_requests`, `num_errors`, `last_error` ("<code>:<description>", "" before the first) and
    `processing_time` (the total, in ns), as `stats` shows them.
    """

    def __init__(
        self,
        nats: Nats,
        name: str,
        subject: str,
        queue_group: str,
        metadata: Mapping[str, str] | None,
        handler: Callable[[ServiceRequest], object],
    ) -> None:
        self._nats = nats
        self._handler = handler
        self.name = name
        self.subject = subject
        self.queue_group = queue_group
        self.metadata = str_mapping(metadata, "metadata")
        self.reset()
        self.sid = nats.subscribe(subject, self._on_request, queue_group)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.subject}>"

    def reset(self) -> None:
        """Set the counters to zero."""
        self.num_requests = 0
        self.num_errors = 0
        self.last_error = ""
        self.processing_time = 0  # nanoseconds

    def info(self) -> EndpointInfo:
        """Return the endpoint's part of an INFO answer."""
        return {
            "name": self.name,
            "subject": self.subject,
            "queue_group": self.queue_group,
            "metadata": dict(self.metadata),
        }

    def stats(self) -> EndpointStats:
        """Return the endpoint's part of a STATS answer, times in nanoseconds."""
        count = self.num_requests
        return {
            "name": self.name,
            "subject": self.subject,
            "queue_group": self.queue_group,
            "num_requests": count,
            "num_errors": self.num_errors,
            "last_error": self.last_error,
            "processing_time": self.processing_time,
            "average_processing_time": self.processing_time // count if count else 0,
        }

    def _count_error(self, text: str) -> None:
        self.num_errors += 1
        self.last_error = text

    def _on_request(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        request = ServiceRequest(self._nats, self, subject, payload, reply, headers)
        self.num_requests += 1
        try:
            self._handler(request)
        except ServiceError as error:
            self._handler_failed(request, error, error.code, error.description or error.text)
        except Exception as error:
            # Its text is for this side only: it may show what no requester should know.
            self._handler_failed(request, error, "500", _UNEXPECTED)
            raise  # reported like an exception of any other callback
        finally:
            request._returned_at = now = time.perf_counter_ns()
            self.processing_time += now - request._started_at

    def _handler_failed(
        self, request: ServiceRequest, error: Exception, code: str, description: str
    ) -> None:
        """Answer with an error that the handler has raised, and count it.

        A text that can't be a header is replaced by the exception's class name. Nothing is raised: the
        exception of the handler must not be replaced by another one.
        """
        name = type(error).__name__
        code = _one_line(code) or "500"
        description = _one_line(description) or name
        before = self.num_errors
        for text in (description, name):
            with contextlib.suppress(errors.NatsError):  # no connection, or no text for a header
                request.respond_error(code, text)
                break
        if self.num_errors == before:
            self._count_error(f"{code}:{description}")


class Group:
    """A common prefix of subjects, and a default queue group, for endpoints. Made by `Service.group`."""

    def __init__(self, service: Service, prefix: str, queue_group: str) -> None:
        self._service = service
        self._prefix = prefix
        self._queue_group = queue_group

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._prefix!r} of {self._service.name}>"

    def group(
        self,
        name: str,
        queue_group: str | None = _INHERIT,
        *,
        queue_group_disabled: bool = False,
    ) -> Group:
        """Return a group inside this one.

        Args:
            name: one or more tokens that follow this group's prefix; "" changes only the queue group.
            queue_group: the default of the new group's endpoints. Default: this group's. None or "": no queue
                group, every instance gets every request.
            queue_group_disabled: the same as queue_group=None, in the words of other clients.

        Raises:
            BadSubjectError: name or queue_group can't be part of a subject.
        """
        if name:
            subjects.check_subscribe(name)
            if name.split(".")[-1] == ">":
                raise errors.BadSubjectError(
                    f"invalid group name {name!r}: nothing could follow", subject=name
                )
        return Group(
            self._service,
            _join(self._prefix, name),
            _queue_group(queue_group, queue_group_disabled, self._queue_group),
        )

    add_group = group

    def add_endpoint(
        self,
        name: str,
        handler: Callable[[ServiceRequest], object],
        subject: str | None = None,
        queue_group: str | None = _INHERIT,
        metadata: Mapping[str, str] | None = None,
        *,
        queue_group_disabled: bool = False,
    ) -> Endpoint:
        """Subscribe to a subject and answer its requests; return the `Endpoint`.

        Args:
            name: letters, digits, dashes and underscores.
            handler: called on the loop with a `ServiceRequest` for each request. The handler may answer by
                `ServiceRequest.respond` now or later. A `ServiceError` that the handler raises is the answer,
                and counted. Any other exception is answered with ``500 internal error``, counted, and
                reported like that of any callback: its text stays on this side.
            subject: of the requests, after the group's prefix; may have wildcards. Default: name.
            queue_group: each request goes to one member of it. Default: the group's, which is "q" unless
                set. None or "": no queue group, every instance gets every request.
            metadata: str to str, shown by INFO; copied.
            queue_group_disabled: the same as queue_group=None, in the words of other clients.

        Raises:
            BadOptionsError: the name is invalid.
            BadSubjectError: subject or queue_group is invalid.
            TypeError: handler is not callable, or metadata is not str to str.
            ConnectionClosedError: the service has been stopped.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise errors.BadOptionsError(f"invalid endpoint name {name!r}")
        return self._service._add(
            name,
            handler,
            _join(self._prefix, subject or name),
            _queue_group(queue_group, queue_group_disabled, self._queue_group),
            metadata,
        )


class Service(Group):
    """A service on a client. It answers from now until `stop` or the end of the client.

    Attributes: `name`, `version`, `description`, `metadata`; `id`, unique to this instance; `endpoints`, the
    list of its `Endpoint` objects; `stopping`, true from `stop` on; `stopped`, true when that is done.

    Args:
        nats: the client.
        name: the kind of service; letters, digits, dashes and underscores.
        version: a semantic version, such as "1.0.0".
        description: for people.
        metadata: of this instance, str to str; copied.
        queue_group: the default of the endpoints, "q". None or "": no queue group.
        queue_group_disabled: the same as queue_group=None, in the words of other clients.
        stats_handler: ``stats_handler(endpoint)`` returns what STATS shows as an endpoint's data,
            anything that json can encode.
        done_handler: ``done_handler(service)``, called once when the service has stopped for any reason.
        error_handler: ``error_handler(service, err)``, called when the server refuses a subscription of the
            service; the service then stops. The client's on_error gets the error as well.
        prefix: of the subjects for discovery.

    Raises:
        BadOptionsError: name or version is invalid.
        BadSubjectError: queue_group or prefix is invalid.
        TypeError: an argument has a wrong type.
    """

    def __init__(
        self,
        nats: Nats,
        name: str,
        version: str,
        description: str = "",
        metadata: Mapping[str, str] | None = None,
        queue_group: str | None = DEFAULT_QUEUE_GROUP,
        *,
        queue_group_disabled: bool = False,
        stats_handler: Callable[[Endpoint], object] | None = None,
        done_handler: Callable[[Service], object] | None = None,
        error_handler: Callable[[Service, errors.NatsError], object] | None = None,
        prefix: str = API_PREFIX,
    ) -> None:
        check_object(nats, "new_inbox", "nats must be a Nats")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise errors.BadOptionsError(
                f"invalid service name {name!r}: letters, digits, dashes and underscores"
            )
        if not isinstance(version, str) or not _SEMVER.fullmatch(version):
            raise errors.BadOptionsError(f"invalid version {version!r}: not a semantic version")
        if not isinstance(description, str):
            raise TypeError(f"description must be str, not {type(description).__name__}")
        super().__init__(
            self, "", _queue_group(queue_group, queue_group_disabled, DEFAULT_QUEUE_GROUP)
        )
        self.name = name
        self.version = version
        self.description = description
        self.metadata = str_mapping(metadata, "metadata")
        self.id = next_nuid()
        self.stopping = False
        self.stopped = False
        self.endpoints: list[Endpoint] = []
        self._nats = nats
        self._stats_handler = callable_or_none(stats_handler, "stats_handler")
        self._done_handler = callable_or_none(done_handler, "done_handler")
        self._error_handler = callable_or_none(error_handler, "error_handler")
        self._started = datetime.now(timezone.utc)
        self._stop_callbacks: list[Callable[[Any, errors.NatsError | None], object]] = []
        self._discovery: list[int] = []
        answers = {"PING": self.ping, "INFO": self.info, "STATS": self.stats}
        for verb in _VERBS:
            for level in ("", f".{name}", f".{name}.{self.id}"):
                subject = f"{prefix}.{verb}{level}"
                self._discover(subject, answers[verb])
        nats.add_status_listener(self._on_status)
        nats.add_error_listener(self._on_error)

    def _discover(self, subject: str, answer: Callable[[], object]) -> None:
        """Subscribe to a discovery subject; if that raises, no earlier one is left."""
        try:
            self._discovery.append(self._nats.subscribe(subject, self._answers_with(answer)))
        except BaseException:
            for sid in self._discovery:
                self._nats.unsubscribe(sid)
            raise

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.version} {self.id}>"

    def ping(self) -> ServiceIdentity:
        """Return the answer to PING: type, name, id, version and metadata."""
        return self._identity("ping")

    def info(self) -> ServiceInfo:
        """Return the answer to INFO: the fields of `ping`, the description and the endpoints."""
        return {
            **self._identity("info"),
            "description": self.description,
            "endpoints": [endpoint.info() for endpoint in self.endpoints],
        }

    def stats(self) -> ServiceStats:
        """Return the answer to STATS: the fields of `ping`, the start and the endpoints' counters (ns)."""
        endpoints = []
        for endpoint in self.endpoints:
            stats = endpoint.stats()
            if self._stats_handler is not None:
                self._nats.call(self._add_data, self._stats_handler, endpoint, stats)
            endpoints.append(stats)
        return {
            **self._identity("stats"),
            "started": rfc3339(self._started),
            "endpoints": endpoints,
        }

    def reset(self) -> None:
        """Set all endpoints' counters to zero, and the start to now."""
        for endpoint in self.endpoints:
            endpoint.reset()
        self._started = datetime.now(timezone.utc)

    def stop(self, cb: ResultCallback[bool] | None = None) -> None:
        """Stop the service. Requests that the server has sent already are still handled.

        ``cb(True, None)`` is called after the last of them, or ``cb(None, err)`` if the connection is lost
        before. The client stays connected.
        """
        callable_or_none(cb, "cb")
        if self.stopped:
            if cb is not None:
                self._nats.call_soon(cb, True, None)
            return
        if cb is not None:
            self._stop_callbacks.append(cb)
        if not self.stopping:
            self.stopping = True
            # All UNSUBs go out in one write, in this order. When the server has confirmed the last drain, all
            # requests in flight for the others have arrived as well: one callback is enough.
            live = [sid for sid in self._sids() if self._nats.subscription_info(sid) is not None]
            for sid in live[:-1]:
                self._nats.drain_subscription(sid)
            if live:
                self._nats.drain_subscription(live[-1], self._end)
            else:
                self._nats.call_soon(self._end, None)

    def _add(
        self,
        name: str,
        handler: Callable[[ServiceRequest], object],
        subject: str,
        queue_group: str,
        metadata: Mapping[str, str] | None,
    ) -> Endpoint:
        if self.stopping or self.stopped:
            raise errors.ConnectionClosedError("the service has been stopped")
        check_callback(handler, "handler", ("request", 1))
        endpoint = Endpoint(self._nats, name, subject, queue_group, metadata, handler)
        self.endpoints.append(endpoint)
        return endpoint

    def _sids(self) -> list[int]:
        return self._discovery + [endpoint.sid for endpoint in self.endpoints]

    def _identity(self, what: str) -> ServiceIdentity:
        return {
            "type": _TYPE.format(what),
            "name": self.name,
            "id": self.id,
            "version": self.version,
            "metadata": dict(self.metadata),
        }

    @staticmethod
    def _add_data(
        handler: Callable[[Endpoint], object], endpoint: Endpoint, stats: EndpointStats
    ) -> None:
        data = handler(endpoint)
        # Raises here, so that bad data does not spoil the answer of all endpoints. NaN is not JSON.
        json.dumps(data, allow_nan=False)
        stats["data"] = data

    def _answers_with(self, answer: Callable[[], object]) -> Callable[..., object]:
        def on_message(subject: str, payload: bytes, reply: str | None, headers: Any) -> None:
            if reply:
                self._nats.publish(reply, json.dumps(answer(), separators=(",", ":")))

        return on_message

    def _on_status(self, status: Status) -> None:
        if status is Status.CLOSED:
            for sid in self._sids():
                self._nats.unsubscribe(sid)
            self._end(None)

    def _on_error(self, error: errors.NatsError) -> None:
        """Stop when the server refuses a subscription of this service, which would never be answered."""
        if not isinstance(error, errors.PermissionsViolationError) or error.sid not in self._sids():
            return
        for endpoint in self.endpoints:
            if endpoint.sid == error.sid:
                endpoint._count_error(str(error))
        if not self.stopping and self._error_handler is not None:
            self._nats.call(self._error_handler, self, error)
        self.stop()

    def _end(self, error: errors.NatsError | None) -> None:
        if self.stopped:
            return
        self.stopped = True
        self._nats.remove_status_listener(self._on_status)
        self._nats.remove_error_listener(self._on_error)
        callbacks, self._stop_callbacks = self._stop_callbacks, []
        for callback in callbacks:
            self._nats.call_soon(callback, True if error is None else None, error)
        if self._done_handler is not None:
            self._nats.call_soon(self._done_handler, self)


def _one_line(text: str) -> str:
    return _BREAKS.sub(" ", text).strip()


def _queue_group(given: str | None, disabled: bool, inherited: str) -> str:
    """Return the queue group in force: the given one, checked, or the inherited one; "" for none."""
    if disabled or given is None:
        return ""
    if given is _INHERIT:
        return inherited
    if given:
        subjects.check_publish(given)
    return given


def _join(prefix: str, subject: str) -> str:
    return f"{prefix}.{subject}" if prefix and subject else prefix or subject
