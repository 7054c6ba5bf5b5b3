"""Requests to ``$JS.API``: subjects, the envelope of answers, paging, server features, timers.

Everything in `JetStream` that talks to the API goes through one `Api` object. A short call is one
`Api.request`. A call with several answers, such as a fetch, is an `Exchange` with an inbox of its own.
Something that may have to wait takes a `Timer`, which also ends with the client, so that no callback is
ever left without an answer. This module knows nothing of streams or consumers, and uses the public
methods of `Nats` only.
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
from .errors import APIError, ApiLevelError, InvalidAnswerError

if TYPE_CHECKING:
    from ..client import Nats
    from ..net import Deadline


Body = Mapping[str, Any]
# The first nats-server version that has it, and the first JetStream API level. Level 0: the feature is
# older than API levels are.
Feature = tuple[tuple[int, int], int]

_NO_NAME_CHARS = frozenset(' \t\r\n\f\0.*>/\\"')


def name_of(what: str, name: object) -> str:
    """Return a stream's or consumer's name if a subject can hold it (ADR-6).

    Args:
        what: "stream" or "consumer", for the error's text.
        name: the name to check.

    Raises:
        BadOptionsError: the name is empty or has a character that a name must not have.
        TypeError: it is no str.
    """
    if name is None or name == "":
        raise BadOptionsError(f"{what} name required")
    if not isinstance(name, str):
        raise TypeError(f"{what} name must be str, not {type(name).__name__}")
    bad = next((c for c in name if c in _NO_NAME_CHARS or not c.isprintable()), None)
    if bad is not None:
        raise BadOptionsError(f"invalid {what} name {name!r}: it contains {bad!r}")
    return name


def encode(body: Body) -> bytes:
    """Return the JSON of a request's body. Raises `BadOptionsError` for a value that JSON can't hold.

    Times and durations must have been converted before, by `times.to_wire`: the functions that check a
    user's options do that once.
    """
    try:
        return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as exc:
        raise BadOptionsError(f"not JSON: {exc}") from None


def decode(payload: bytes) -> tuple[dict[str, Any] | None, NatsError | None]:
    """Return an answer as ``(result, err)``."""
    try:
        answer = json.loads(payload)
    except (ValueError, RecursionError) as exc:
        return None, InvalidAnswerError(f"invalid answer: {exc}")
    if not isinstance(answer, dict):
        return None, InvalidAnswerError("invalid answer: not an object")
    error = answer.get("error")
    if error:
        try:
            return None, APIError.of(error if isinstance(error, dict) else {"description": error})
        except (TypeError, ValueError, AttributeError) as exc:  # a code that is a list, for example
            return None, InvalidAnswerError(f"invalid answer: its error is malformed: {exc}")
    return answer, None


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
    return version if version >= (0, 1) else (999,), fields.get("api_lvl")


Completion = Callable[[NatsError], object]


class Timer:
    """A timer that can be started again; it calls due(), or closed(err) if the client ends first."""

    __slots__ = ("_closed", "_deadline", "_due", "_nats")

    def __init__(self, nats: Nats, due: Callable[[], object], closed: Completion) -> None:
        self._nats = nats
        self._due = due
        self._closed = closed
        self._deadline: Deadline | None = None

    def start(self, delay_ms: float) -> None:
        """Start the timer; if it is running, start it again with the new delay."""
        self.cancel()
        self._deadline = self._nats.call_later(delay_ms, self._expire, ended=self._close)

    @property
    def running(self) -> bool:
        """Whether the timer was started and has neither expired nor been cancelled."""
        return self._deadline is not None

    def cancel(self) -> None:
        """Stop the timer. Does nothing if it is not running."""
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
    """A request with several answers, which come to an inbox of its own; ends exactly once, on the loop.

    A subclass has `on_message` and `finish`. A lost connection ends the exchange, because the server
    forgets the request with the connection.
    """

    def __init__(self, api: Api) -> None:
        self.api = api
        self.ended = False
        self.inbox = ""
        self.sid = 0
        self.late = api.timer(lambda: self.timed_out(), self.end)

    def open(self) -> None:
        """Subscribe to the inbox."""
        self.inbox = self.api.nats.new_inbox()
        self.sid = self.api.nats.subscribe(self.inbox, self.on_message)
        self.api.nats.add_status_listener(self._on_status)

    def publish(self, subject: str, payload: bytes) -> None:
        """Send the request. If that raises, the inbox is unsubscribed before."""
        try:
            self.api.nats.publish(subject, payload, self.inbox)
        except BaseException:
            self._leave()
            raise

    def end(self, error: NatsError | None) -> None:
        """End the exchange, unless it has ended."""
        if not self.ended:
            self._leave()
            self.finish(error)

    def on_message(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        """Take an answer."""
        raise NotImplementedError

    def timed_out(self) -> None:
        """End the exchange because the timer `late` has expired."""
        self.end(RequestTimeoutError("request timeout"))

    def finish(self, error: NatsError | None) -> None:
        """Call the user back. Called once."""
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
        """Send a request to ``<prefix>.<verb>``; ``cb(answer, err)``. Raises what `Nats.request` raises.

        Args:
            verb: what the subject has after the prefix.
            body: the request's JSON; None: an empty payload.
            cb: gets the decoded answer, or the error in it.
            level: the API level that the request needs. A server of a lower one refuses it (nats-server
                2.12 and later).
            timeout: for the answer; default: that of the `JetStream`.
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

    def request_or_report(
        self, verb: str, body: Body | None, cb: Callback, *, timeout: Milliseconds | None = None
    ) -> None:
        """Send a `request` as a later step of an operation: what it raises goes to cb.

        The original caller has returned, so there is nobody else to raise it to.
        """
        try:
            self.request(verb, body, cb, timeout=timeout)
        except NatsError as exc:
            cb(None, exc)

    def pages(
        self,
        verb: str,
        body: Body,
        items_of: Callable[[dict[str, Any]], list[Any]],
        cb: Callable[[dict[str, Any] | None, list[Any], NatsError | None], object],
    ) -> None:
        """Request all pages of an answer; ``cb(last page, [items of all pages], err)``.

        Args:
            verb: as in `request`.
            body: the request's JSON without ``offset``.
            items_of: returns the items of one page.
            cb: called once; with an err the last page is None.
        """
        items: list[Any] = []

        def page(answer: dict[str, Any] | None, error: NatsError | None) -> None:
            if answer is None:
                cb(None, items, error)
                return
            more = items_of(answer)
            items.extend(more)
            if more and len(items) < answer.get("total", 0):
                self.request_or_report(verb, {**body, "offset": len(items)}, page)
            else:
                cb(answer, items, None)

        self.request(verb, {**body, "offset": 0}, page)

    def all_items(self, verb: str, body: Body, key: str, cb: Callback) -> None:
        """Request all pages of a list, which answers have under key; ``cb([item, …], err)``."""
        self.pages(
            verb,
            body,
            lambda answer: answer.get(key) or [],
            lambda answer, items, error: cb(items if error is None else None, error),
        )

    # What the server can do.

    def version(self) -> tuple[tuple[int, ...], int | None]:
        """Return the connected server's (version, API level); None: its INFO has no level."""
        return version_of(self.nats.server_info())

    def supports(self, feature: Feature) -> bool:
        """Return whether the server that the client is connected to has the feature."""
        version, level = self.version()
        if level is not None and feature[1]:
            return level >= feature[1]
        return version >= feature[0]

    def require(
        self, needs: Mapping[str, Feature], go: Callable[[int], object], cb: Callback
    ) -> None:
        """Call ``go(level)`` if the server has all features in needs, else pass `ApiLevelError` to cb.

        An older server ignores fields that it does not know, so its answer would not show that something
        is missing: the client must check before. Without a connection it waits for one. An exception of
        go is raised if go runs inside this call; later it goes to cb.
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

    def start_timer(self, delay_ms: float, due: Callable[[], object], closed: Completion) -> Timer:
        """Return a running `timer`."""
        timer = self.timer(due, closed)
        timer.start(delay_ms)
        return timer

    def timer(self, due: Callable[[], object], closed: Completion) -> Timer:
        """Return a `Timer` that is not running yet."""
        return Timer(self.nats, due, closed)

    def when_connected(self, cb: Callable[[NatsError | None], object]) -> None:
        """Call ``cb(None)`` at the next handshake, or ``cb(err)`` on timeout or when the client ends.

        Raises `NotConnectedError` when no connection is coming.
        """
        self.refuse_if_closed()

        def end(error: NatsError | None) -> None:
            timer.cancel()
            self.nats.remove_status_listener(changed)
            cb(error)

        def changed(status: Status) -> None:
            if status is Status.CONNECTED:
                end(None)

        def late() -> None:
            end(RequestTimeoutError("request timeout"))

        timer = self.start_timer(self.timeout or 3_600_000, late, end)
        self.nats.add_status_listener(changed)

    def refuse_if_closed(self) -> None:
        """Raise `NotConnectedError` when the client is not connected and no attempt is planned."""
        if self.nats.status() in (Status.DISCONNECTED, Status.CLOSED):
            raise NotConnectedError
