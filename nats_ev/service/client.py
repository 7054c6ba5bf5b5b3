"""`ServiceClient`: which services there are, and what they tell of themselves (ADR-32)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..arguments import (
    Callback,
    Milliseconds,
    ResultCallback,
    check_object,
    check_result_cb,
    count,
    is_unicode,
    milliseconds,
)
from ..client import Nats
from ..errors import BadOptionsError, NatsError, NoRespondersError, ProtocolError
from ..subjects import check_one_token, check_publish
from .service import API_PREFIX, ServiceError
from .types import ServiceIdentity, ServiceInfo, ServiceStats

# The fields of an answer: their types, and what stands for one that is missing or null. A field with "!" must
# be there.
_METADATA: dict[str, str] = {}
_IDENTITY = {"type!": "", "name!": "", "id!": "", "version!": "", "metadata": _METADATA}
_ENDPOINT = {"name!": "", "subject!": "", "queue_group": ""}
_COUNTS = {
    "num_requests": 0, "num_errors": 0, "last_error": "", "processing_time": 0,
    "average_processing_time": 0,
}  # fmt: skip
_FIELDS: dict[str, dict[str, Any]] = {
    "PING": _IDENTITY,
    "INFO": {**_IDENTITY, "description": ""},
    "STATS": {**_IDENTITY, "started": ""},
}
_ENDPOINTS: dict[str, dict[str, Any]] = {
    "INFO": {**_ENDPOINT, "metadata": _METADATA},
    "STATS": {**_ENDPOINT, **_COUNTS},
}


class ServiceClient:
    """Finds the instances of services, and asks what they tell of themselves.

    Each method asks all services; those of a name; or the one instance with an id. The result is the list of
    their answers, which is empty if there are none. An answer that is none of ADR-32's, or an error, is
    missing in the list and goes to on_error of the client: `ProtocolError`, `ServiceError`.

    Args:
        nats: the client.
        prefix: of the subjects for discovery.
        timeout: for all answers, in ms or a timedelta; 0: no limit.
        stall: a request ends when no further answer has come for so long; 0: only with timeout.
        max_answers: a request ends with so many answers; 0: any number.

    Raises:
        TypeError, BadOptionsError: an argument is wrong.
        BadSubjectError: prefix can't be part of a subject.
    """

    def __init__(
        self,
        nats: Nats,
        *,
        prefix: str = API_PREFIX,
        timeout: Milliseconds = 5000,
        stall: Milliseconds = 300,
        max_answers: int = 0,
    ) -> None:
        check_object(nats, "new_inbox", "nats must be a Nats")
        check_publish(prefix)
        self.nats = nats
        self._prefix = prefix
        self._timeout = milliseconds(timeout, "timeout")
        self._stall = milliseconds(stall, "stall")
        self._most = count(max_answers, "max_answers")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._prefix} of {self.nats!r}>"

    def ping(
        self, cb: ResultCallback[list[ServiceIdentity]], name: str = "", id: str = ""
    ) -> Discovery:
        """Ask who is there; ``cb([identity, …], err)``.

        Args:
            cb: called once. err: `RequestTimeoutError` if services listen and none answers;
                `PermissionsViolationError`; ``disconnected``.
            name: only the services of this name.
            id: only the instance with this id, with name.

        Returns:
            A `Discovery`, whose `cancel` ends the request without a callback.

        Raises:
            BadOptionsError: an id without a name.
            BadSubjectError: name or id can't be part of a subject.
            NatsError: what `Nats.request_many` raises.
        """
        return self._ask("PING", name, id, cb)

    def info(
        self, cb: ResultCallback[list[ServiceInfo]], name: str = "", id: str = ""
    ) -> Discovery:
        """Ask for descriptions and endpoints; ``cb([info, …], err)``. Arguments as in `ping`."""
        return self._ask("INFO", name, id, cb)

    def stats(
        self, cb: ResultCallback[list[ServiceStats]], name: str = "", id: str = ""
    ) -> Discovery:
        """Ask for the counters of endpoints; ``cb([stats, …], err)``. Arguments as in `ping`."""
        return self._ask("STATS", name, id, cb)

    def _ask(self, verb: str, name: str, id: str, cb: Callback) -> Discovery:
        check_result_cb(cb)
        if not isinstance(name, str) or not isinstance(id, str):
            raise TypeError("name and id must be str")
        if id and not name:
            raise BadOptionsError("an id needs the name of its service")
        for what, token in (("service name", name), ("id", id)):
            if token:
                check_one_token(token, what)
        subject = ".".join(filter(None, (self._prefix, verb, name, id)))
        discovery = Discovery(self.nats, verb, subject, cb)
        discovery.begin(self._timeout, self._stall, self._most)
        return discovery


class Discovery:
    """A request of a `ServiceClient` that is under way."""

    def __init__(self, nats: Nats, verb: str, subject: str, cb: Callback) -> None:
        self._nats = nats
        self._verb = verb
        self._subject = subject
        self._cb: Callback | None = cb
        self._found: list[dict[str, Any]] = []
        self._number = 0

    def __repr__(self) -> str:
        state = "done" if self._cb is None else f"{len(self._found)} answers"
        return f"<{type(self).__name__} {self._subject} {state}>"

    def begin(self, timeout: float, stall: float, most: int) -> None:
        """Send the request. Raises what `Nats.request_many` raises."""
        self._number = self._nats.request_many(
            self._subject, b"", self._answered, timeout, stall_ms=stall, max_msgs=most
        )

    def cancel(self) -> None:
        """End the request; no callback comes any more. Does nothing at the end."""
        if self._cb is not None:
            self._cb = None
            self._nats.cancel_request(self._number)

    def _answered(
        self, payload: bytes | None, error: NatsError | None, headers: bytes | None
    ) -> None:
        if payload is not None:
            failure: NatsError | None = ServiceError.from_headers(headers)
            if failure is None:
                try:
                    self._found.append(_read(self._verb, self._subject, payload))
                except ProtocolError as exc:
                    failure = exc
            if failure is not None:
                self._nats.report(failure)
            return
        cb, self._cb = self._cb, None
        found, self._found = self._found, []
        if cb is not None:
            nobody = isinstance(error, NoRespondersError)
            cb(found if error is None or nobody else None, None if nobody else error)


def _read(verb: str, subject: str, payload: bytes) -> dict[str, Any]:
    """Return an answer with all its fields. Raises `ProtocolError`."""
    try:
        answer = json.loads(payload)
    except (ValueError, RecursionError):
        raise ProtocolError(f"an answer to {subject} is not JSON") from None
    if not isinstance(answer, dict):
        raise ProtocolError(f"an answer to {subject} is not a JSON object")
    _complete(subject, answer, _FIELDS[verb])
    wanted = f"io.nats.micro.v1.{verb.lower()}_response"
    if answer["type"] != wanted:
        raise ProtocolError(f"an answer to {subject} has the type {answer['type']!r:.100}")
    if verb in _ENDPOINTS:
        endpoints = answer.get("endpoints")
        answer["endpoints"] = endpoints = [] if endpoints is None else endpoints
        if not isinstance(endpoints, list):
            raise ProtocolError(f"an answer to {subject} has bad endpoints")
        for endpoint in endpoints:
            if not isinstance(endpoint, dict):
                raise ProtocolError(f"an answer to {subject} has a bad endpoint")
            _complete(subject, endpoint, _ENDPOINTS[verb])
    return answer


def _complete(subject: str, given: dict[str, Any], fields: Mapping[str, Any]) -> None:
    """Check the fields of an answer or endpoint, and add those that are missing."""
    for field, default in fields.items():
        name = field.removesuffix("!")
        value = given.get(name)
        if value is None and name == field:
            given[name] = dict(default) if isinstance(default, dict) else default
        elif not _is_like(value, default) or (name != field and not value):
            raise ProtocolError(f"an answer to {subject} has a bad {name}")


def _is_like(value: object, default: object) -> bool:
    if isinstance(default, dict):
        return isinstance(value, dict) and all(_is_like(item, "") for item in value.values())
    if isinstance(default, str):
        return isinstance(value, str) and is_unicode(value)
    return type(value) is int
