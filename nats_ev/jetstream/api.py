"""Requests to ``$JS.API``: subjects, the envelope of answers, paging, and waiting that always ends.

Knows nothing of streams or consumers. Uses the public methods of `Nats` only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..arguments import Callback, Milliseconds, milliseconds
from ..errors import (
    BadOptionsError,
    ConnectionClosedError,
    ConnectionLostError,
    NatsError,
    NotConnectedError,
    RequestTimeoutError,
)
from ..status import Status
from ..times import to_wire
from .errors import APIError, ApiLevelError, InvalidAnswerError

if TYPE_CHECKING:
    from ..client import Nats
    from ..net import Deadline


Body = Mapping[str, Any]
# (version that has it first, JetStream's API level of it); 0: older than levels are
Feature = tuple[tuple[int, int], int]

_NO_NAME_CHARS = frozenset(' \t\r\n\f\0.*>/\\"')


def name_of(what: str, name: object) -> str:
    """A stream's or consumer's name that fits in a subject (ADR-6); raises `BadOptionsError`."""
    if name is None or name == "":
        raise BadOptionsError(f"{what} name required")
    if not isinstance(name, str):
        raise TypeError(f"{what} name must be str, not {type(name).__name__}")
    bad = next((c for c in name if c in _NO_NAME_CHARS or not c.isprintable()), None)
    if bad is not None:
        raise BadOptionsError(f"invalid {what} name {name!r}: it contains {bad!r}")
    return name


def encode(body: Body) -> bytes:
    """A request's body; raises `BadOptionsError` for what JSON can't hold."""
    try:
        return json.dumps(to_wire(body), separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as exc:
        raise BadOptionsError(f"not JSON: {exc}") from None


def decode(payload: bytes) -> tuple[dict[str, Any] | None, NatsError | None]:
    """An answer's ``(result, err)``."""
    try:
        answer = json.loads(payload)
    except ValueError as exc:
        return None, InvalidAnswerError(f"invalid answer: {exc}")
    if not isinstance(answer, dict):
        return None, InvalidAnswerError("invalid answer: not an object")
    error = answer.get("error")
    if error:
        return None, APIError.of(error if isinstance(error, dict) else {"description": error})
    return answer, None


@lru_cache(maxsize=16)
def version_of(info: str | None) -> tuple[tuple[int, ...], int | None]:
    """The (version, API level or None) in a server's INFO.

    One that does not tell its version, or calls itself 0.0 as when built from source, counts as new.
    """
    fields = json.loads(info or "{}")
    numbers = str(fields.get("version", "")).partition("-")[0].split(".")
    try:
        version = tuple(int(number) for number in numbers)
    except ValueError:
        version = (0,)
    return version if version >= (0, 1) else (999,), fields.get("api_lvl")


Completion = Callable[[NatsError], object]


class Wait:
    """A delay that may be started again: calls due after it, or closed(err) when the client ends before."""

    __slots__ = ("_closed", "_deadline", "_due", "_nats")

    def __init__(self, nats: Nats, due: Callable[[], object], closed: Completion) -> None:
        self._nats = nats
        self._due = due
        self._closed = closed
        self._deadline: Deadline | None = None

    def start(self, delay_ms: float) -> None:
        """Wait delay_ms from now on, whether this was waiting or not."""
        self.cancel()
        self._deadline = self._nats.call_later(delay_ms, self._expire, ended=self._close)

    @property
    def waiting(self) -> bool:
        """Whether this was started and neither due nor cancelled."""
        return self._deadline is not None

    def cancel(self) -> None:
        """Stop waiting. Does nothing if this is not waiting."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close(self) -> None:
        self._deadline = None
        self._closed(ConnectionClosedError("disconnected"))

    def _expire(self) -> None:
        self._deadline = None
        self._due()


class Exchange:
    """A request with several answers, to an inbox of its own; ends exactly once, on the loop.

    A subclass has `on_message` and `finish`. Lost connections end it: the server has forgotten it, too.
    """

    def __init__(self, api: Api) -> None:
        self.api = api
        self.ended = False
        self.inbox = ""
        self.sid = 0
        self.late = api.wait(lambda: self.timed_out(), self.end)

    def open(self) -> None:
        """Subscribe to the inbox."""
        self.inbox = self.api.nats.new_inbox()
        self.sid = self.api.nats.subscribe(self.inbox, self.on_message)
        self.api.nats.add_status_listener(self._on_status)

    def publish(self, subject: str, payload: bytes) -> None:
        """Send the request. When that raises nothing is left behind."""
        try:
            self.api.nats.publish(subject, payload, self.inbox)
        except BaseException:
            self._leave()
            raise

    def end(self, error: NatsError | None) -> None:
        """It is over."""
        if not self.ended:
            self._leave()
            self.finish(error)

    def on_message(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        """An answer."""
        raise NotImplementedError

    def timed_out(self) -> None:
        """`late` is due."""
        self.end(RequestTimeoutError("request timeout"))

    def finish(self, error: NatsError | None) -> None:
        """Tell the user; called once."""
        raise NotImplementedError

    def _leave(self) -> None:
        self.ended = True
        self.late.cancel()
        self.api.nats.unsubscribe(self.sid)
        self.api.nats.remove_status_listener(self._on_status)

    def _on_status(self, status: Status) -> None:
        if status is Status.RECONNECTING:
            self.end(ConnectionLostError("disconnected"))


class Api:
    """The requests of one `JetStream`."""

    def __init__(self, nats: Nats, prefix: str, timeout: Milliseconds) -> None:
        self.nats = nats
        self.prefix = prefix
        self.timeout = milliseconds(timeout, "timeout")

    def request(
        self,
        verb: str,
        body: Body | None,
        cb: Callback,
        *,
        level: int = 0,
        timeout: Milliseconds | None = None,
    ) -> None:
        """Ask ``<prefix>.<verb>``; ``cb(answer, err)``. Raises what `Nats.request` raises.

        level: the API level that the server must have, or it refuses (2.12 and later).
        """

        def answered(payload: bytes | None, error: NatsError | None, headers: object) -> None:
            if payload is None:
                cb(None, error)
            else:
                cb(*decode(payload))

        self.nats.request(
            f"{self.prefix}.{verb}",
            encode(body) if body is not None else b"",
            answered,
            self.timeout if timeout is None else timeout,
            headers={"Nats-Required-Api-Level": str(level)} if level else None,
            no_responders=True,
        )

    def again(
        self, verb: str, body: Body | None, cb: Callback, *, timeout: Milliseconds | None = None
    ) -> None:
        """`request` for a later step: what it would raise goes to cb, like all else."""
        try:
            self.request(verb, body, cb, timeout=timeout)
        except NatsError as exc:
            cb(None, exc)

    def pages(self, verb: str, body: Body, key: str, cb: Callback) -> None:
        """All pages of a list; ``cb([items of key], err)``."""
        items: list[Any] = []

        def page(answer: dict[str, Any] | None, error: NatsError | None) -> None:
            if answer is None:
                cb(None, error)
                return
            more = answer.get(key) or []
            items.extend(more)
            if more and len(items) < answer.get("total", 0):
                self.again(verb, {**body, "offset": len(items)}, page)
            else:
                cb(items, None)

        self.request(verb, {**body, "offset": 0}, page)

    # What the server can do.

    def version(self) -> tuple[tuple[int, ...], int | None]:
        """The connected server's (version, API level or None when it does not say)."""
        return version_of(self.nats.server_info())

    def supports(self, feature: Feature) -> bool:
        """Whether the server that we are connected to knows the feature."""
        version, level = self.version()
        if level is not None and feature[1]:
            return level >= feature[1]
        return version >= feature[0]

    def require(
        self, needs: Mapping[str, Feature], go: Callable[[int], object], cb: Callback
    ) -> None:
        """``go(level)`` if the server has all that is needed, else `ApiLevelError` to cb.

        Older servers ignore what they do not know, so this can only be found out beforehand; without a
        connection it waits for one. What go raises is raised, or given to cb when it comes later.
        """
        level = max((feature[1] for feature in needs.values()), default=0)

        def lacking() -> NatsError | None:
            missing = [name for name, feature in needs.items() if not self.supports(feature)]
            if not missing:
                return None
            major, minor = max(needs[name][0] for name in missing)
            text = f"{', '.join(missing)}: nats-server {major}.{minor} or later is required"
            return ApiLevelError(f"{text} (code 412)", code=412, err_code=10185, description=text)

        def connected(error: NatsError | None) -> None:
            error = error or lacking()
            if error is not None:
                cb(None, error)
                return
            try:
                go(level)
            except NatsError as exc:
                cb(None, exc)

        if not needs:
            go(0)
        elif not self.nats.is_connected():
            self.when_connected(connected)
        elif (error := lacking()) is not None:
            self.nats.call_soon(cb, None, error)
        else:
            go(level)

    # Time.

    def later(self, delay_ms: float, due: Callable[[], object], closed: Completion) -> Wait:
        """Call ``due()`` in delay_ms, or ``closed(err)`` when the client ends before."""
        wait = self.wait(due, closed)
        wait.start(delay_ms)
        return wait

    def wait(self, due: Callable[[], object], closed: Completion) -> Wait:
        """A `later` that is not waiting yet."""
        return Wait(self.nats, due, closed)

    def when_connected(self, cb: Callable[[NatsError | None], object]) -> None:
        """``cb(None)`` at the next handshake, ``cb(err)`` after the timeout or when the client ends.

        Raises `NotConnectedError` when no connection is coming.
        """
        self.refuse_if_closed()

        def end(error: NatsError | None) -> None:
            wait.cancel()
            self.nats.remove_status_listener(changed)
            cb(error)

        def changed(status: Status) -> None:
            if status is Status.CONNECTED:
                end(None)

        def late() -> None:
            end(RequestTimeoutError("request timeout"))

        wait = self.wait(late, end)
        wait.start(self.timeout or 3_600_000)
        self.nats.add_status_listener(changed)

    def refuse_if_closed(self) -> None:
        """Raise `NotConnectedError` when there is no connection and none is coming."""
        if self.nats.status() in (Status.DISCONNECTED, Status.CLOSED):
            raise NotConnectedError
