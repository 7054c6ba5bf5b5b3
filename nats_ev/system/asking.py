"""One request to one server or to all: how answers become values, and errors what they mean."""

from __future__ import annotations

import json
from typing import Any

from ..arguments import Callback, is_unicode
from ..client import Nats
from ..errors import BadOptionsError, NatsError, NoRespondersError, ProtocolError
from ..steps import later_step
from ..times import to_wire
from .errors import NotSystemAccountError, SystemRequestError, UnknownServerError
from .types import SystemOptions

__all__: list[str] = []

PREFIX = "$SYS.REQ.SERVER"


def body_of(opts: SystemOptions | None) -> bytes:
    """Return the JSON of a request's options. Raises `BadOptionsError`; TypeError if it is no mapping."""
    if not opts:
        return b""
    if not hasattr(opts, "items"):
        raise TypeError(f"options must be a dict, not {type(opts).__name__}")
    try:
        return json.dumps(to_wire(opts), separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise BadOptionsError(f"not JSON: {exc}") from None


def read_answer(subject: str, payload: bytes) -> dict[str, Any]:
    """Return a server's answer: server, and data or error. Raises `ProtocolError`."""
    try:
        answer = json.loads(payload)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise ProtocolError(f"the answer to {subject} is not a JSON object")
    verb = subject.rpartition(".")[2]
    if verb == "IDZ" and "server" not in answer:  # as it is, without an envelope
        answer = {"server": answer, "data": answer}
    elif verb == "STATSZ" and "statsz" in answer:  # as the servers publish it themselves
        answer = {"server": answer.get("server"), "data": answer["statsz"]}
    server = answer.get("server")
    if not isinstance(server, dict) or not _is_text(server.get("id")):
        raise ProtocolError(f"the answer to {subject} does not name its server")
    name = server.get("name")
    if name is not None and not _is_text(name):
        raise ProtocolError(f"the answer to {subject} has a server with a bad name")
    data, error = answer.get("data"), answer.get("error")
    if data is not None and not isinstance(data, dict):
        raise ProtocolError(f"the answer to {subject} has data that is not an object")
    if error is not None and (
        not isinstance(error, dict)
        or type(error.get("code", 0)) is not int
        or not _is_text(error.get("description", ""))
    ):
        raise ProtocolError(f"the answer to {subject} has a bad error")
    found: dict[str, Any] = {"server": server}
    if error is not None:
        code, text = error.get("code", 0), error.get("description", "")
        found["error"] = {"code": code, "description": text}
    elif data is not None:
        found["data"] = data
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str) and is_unicode(value)


def error_of(subject: str, answer: dict[str, Any]) -> SystemRequestError | None:
    """Return the exception for an answer with an error."""
    error = answer.get("error")
    if error is None:
        return None
    name = answer["server"].get("name") or answer["server"]["id"]
    text = f"{error['description'] or 'error'} (code {error['code']}): {subject} on server {name!r}"
    return SystemRequestError(
        text, code=error["code"], description=error["description"], server=name
    )


class One:
    """A request to one server that is under way."""

    def __init__(self, nats: Nats, server: str, verb: str, cb: Callback, timeout: float) -> None:
        self._nats = nats
        self._server = server
        self._subject = f"{PREFIX}.{server}.{verb}"
        self._cb = cb
        self._timeout = timeout
        self._number = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._subject}>"

    def begin(self, body: bytes) -> None:
        """Send the request; ``cb(answer, err)``. Raises what `Nats.request` raises."""
        self._number = self._nats.request(
            self._subject, body, self._answered, self._timeout, no_responders=True
        )

    def cancel(self) -> None:
        """End the request; no callback comes any more. Does nothing at the end."""
        self._nats.cancel_request(self._number)

    def _answered(self, payload: bytes | None, error: NatsError | None, headers: object) -> None:
        if payload is None:
            if isinstance(error, NoRespondersError):
                self._explain()
            else:
                self._cb(None, error)
            return
        answer: dict[str, Any] | None = None
        try:
            answer = read_answer(self._subject, payload)
        except ProtocolError as exc:
            error = exc
        else:
            error = error_of(self._subject, answer)
        self._cb(None if error is not None else answer, error)

    def _explain(self) -> None:
        """Find out why nobody has answered: do other servers answer?"""

        def answered(payload: bytes | None, error: NatsError | None, headers: object) -> None:
            if payload is not None:
                error = UnknownServerError(f"no server has the id {self._server!r}")
            elif isinstance(error, NoRespondersError):
                error = NotSystemAccountError()
            self._cb(None, error)

        try:
            self._number = later_step(
                self._nats.request,
                f"{PREFIX}.PING.IDZ",
                b"",
                answered,
                self._timeout,
                no_responders=True,
            )
        except NatsError as exc:
            self._cb(None, exc)


class Asking:
    """A request to all servers that is under way.

    `cancel` ends it without a callback.
    """

    def __init__(self, nats: Nats, subject: str, cb: Callback) -> None:
        self._nats = nats
        self._subject = subject
        self._cb: Callback | None = cb
        self._answers: dict[str, dict[str, Any]] = {}
        self._number = 0

    def begin(self, body: bytes, timeout: float, stall: float, servers: int) -> None:
        """Send the request. Raises what `Nats.request_many` raises."""
        self._number = self._nats.request_many(
            self._subject, body, self._answered, timeout, stall_ms=stall, max_msgs=servers
        )

    def cancel(self) -> None:
        """End the request; no callback comes any more."""
        if self._cb is not None:
            self._cb = None
            self._nats.cancel_request(self._number)

    def _answered(self, payload: bytes | None, error: NatsError | None, headers: object) -> None:
        if payload is not None:
            try:
                answer = read_answer(self._subject, payload)
            except ProtocolError as exc:
                self._nats.report(exc)
            else:  # the first one of each server: a second would count its figures twice
                self._answers.setdefault(answer["server"]["id"], answer)
            return
        cb, self._cb = self._cb, None
        if cb is None:
            return
        if isinstance(error, NoRespondersError):
            error = NotSystemAccountError()
        if error is not None:
            cb(None, error)
        else:
            cb(list(self._answers.values()), None)
