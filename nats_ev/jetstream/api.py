"""Requests to ``$JS.API``: subjects, the envelope of answers, paging, server features, timers.

Everything in `JetStream` that talks to the API goes through one `Api` object. A short call is one
`Api.request`. A call with several answers, such as a fetch, is an `Exchange` with an inbox of its own.
Something that may have to wait takes a `Timer`, which also ends with the client, so that no callback is
ever left without an answer. This module knows nothing of streams or consumers, and uses the public
methods of `Nats` only.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from ..arguments import Callback, Milliseconds, milliseconds
from ..errors import (
    BadOptionsError,
    ConnectionClosedError,
    ConnectionLostError,
    NatsError,
    NotConnectedError,
    PermissionsViolationError,
    RequestTimeoutError,
)
from ..status import Status
from ..steps import later_step
from .errors import APIError, ApiLevelError, InvalidAnswerError

if TYPE_CHECKING:
    from ..client import Nats
    from ..net import Deadline


Body = Mapping[str, Any]
# The first nats-server version that has it, and the first JetStream API level. Level 0: the feature is
# older than API levels are.
Feature = tuple[tuple[int, int], int]

# For how long, in seconds, an API level counts that was asked for: a cluster may be upgraded meanwhile.
_LEVEL_COUNTS = 60.0
# How long to wait for that answer, in ms.
_ASK_WITHIN = 2000.0
# 115 days, in ms.
_NO_LIMIT = 1e10
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
    except (ValueError, RecursionError) as exc:  # the latter: nested too deeply
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


@lru_cache(maxsize=16)
def stands_alone(info: str | None) -> bool:
    """Return whether the server with this INFO has a JetStream of its own, and is not in a cluster."""
    fields = json.loads(info or "{}")
    return bool(fields.get("jetstream")) and not fields.get("cluster")


Completion = Callable[[NatsError], object]
RequestCallback = Callable[[bytes | None, NatsError | None, bytes | None], object]


class Timer:
    """A timer that can be started again; it calls due(), or closed(err) if the client ends first."""

    __slots__ = ("_closed", "_deadline", "_due", "_nats", "_step")

    def __init__(
        self, nats: Nats, due: Callable[[], object], closed: Completion, step: bool = False
    ) -> None:
        self._nats = nats
        self._due = due
        self._closed = closed
        self._step = step
        self._deadline: Deadline | None = None

    def start(self, delay_ms: Milliseconds) -> None:
        """Start the timer; if it is running, start it again with the new delay."""
        self.cancel()
        self._deadline = self._nats.call_later(
            delay_ms, self._expire, ended=self._close, step=self._step
        )

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
        self.api.nats.await_in_drain(self.sid)
        self.api.nats.add_status_listener(self._on_status)

    def publish(self, subject: str, payload: bytes) -> None:
        """Send the request. If that raises, the inbox is unsubscribed before."""
        self.api.waiting[self] = subject, self.sid, lambda data, error, raw: self.end(error)
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
        self.api.waiting.pop(self, None)
        self.api.nats.unsubscribe(self.sid)
        self.api.nats.remove_status_listener(self._on_status)

    def _on_status(self, status: Status) -> None:
        if status is Status.RECONNECTING:
            self.end(ConnectionLostError("disconnected"))


class _Asked:
    """The API requests of one client that wait for an answer.

    A server does not answer a request that its user may not send: it sends an -ERR, which names the subject.
    """

    def __init__(self, nats: Nats) -> None:
        # (subject, sid of an inbox of its own or 0, callback)
        self.waiting: dict[object, tuple[str, int, RequestCallback]] = {}
        self._nats = ref(nats)  # the client is the key of the table below
        nats.add_error_listener(self._on_error)

    def _on_error(self, error: NatsError) -> None:
        nats = self._nats()
        if not isinstance(error, PermissionsViolationError) or nats is None:
            return
        for subject, sid, cb in list(self.waiting.values()):
            denied = subject == error.subject if error.kind == "publish" else sid == error.sid
            if denied:
                nats.call(cb, None, error, None)


# One for each client: a listener for each `JetStream` would stay as long as the client.
_asked: WeakKeyDictionary[Nats, _Asked] = WeakKeyDictionary()


class Api:
    """The requests of one `JetStream`."""

    def __init__(self, nats: Nats, prefix: str, timeout: Milliseconds) -> None:
        self.nats = nats
        self.prefix = prefix
        self.timeout = milliseconds(timeout, "timeout")
        # The API level that `_ask_level` has learnt (None: nothing), of which connection, and until when.
        self._level: tuple[int | None, str | None, float] = (None, None, 0.0)
        if nats not in _asked:
            _asked[nats] = _Asked(nats)
        # What a violation of permissions ends; the callback takes itself out.
        self.waiting = _asked[nats].waiting

    def ask(
        self,
        subject: str,
        payload: bytes,
        cb: RequestCallback,
        timeout: Milliseconds,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a request that a violation of permissions ends at once. Raises what `Nats.request` raises."""
        key = object()
        waiting = self.waiting

        def answered(data: bytes | None, error: NatsError | None, raw: bytes | None) -> None:
            if waiting.pop(key, None) is not None:
                cb(data, error, raw)

        waiting[key] = subject, 0, answered
        try:
            self.nats.request(
                subject, payload, answered, timeout, headers=headers, no_responders=True
            )
        except BaseException:
            waiting.pop(key, None)
            raise

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

        self.ask(
            f"{self.prefix}.{verb}",
            encode(body) if body is not None else b"",
            answered,
            self.timeout if timeout is None else timeout,
            {"Nats-Required-Api-Level": str(level)} if level else None,
        )

    def request_or_report(
        self, verb: str, body: Body | None, cb: Callback, *, timeout: Milliseconds | None = None
    ) -> None:
        """Send a `request` as a later step of an operation: what it raises goes to cb.

        The original caller has returned, so there is nobody else to raise it to.
        """
        try:
            later_step(lambda: self.request(verb, body, cb, timeout=timeout))
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
        """Return whether the JetStream that answers has the feature, as far as that is known."""
        level = None if self._is_local() else self._level[0]
        if level is not None:
            # Level 0: a server before 2.11, whose version nothing tells. What it ignores shows in its answer.
            return level >= feature[1]
        version, level = self.version()
        if level is not None and feature[1]:
            return level >= feature[1]
        return version >= feature[0]

    def _is_local(self) -> bool:
        """Return whether the connected server itself answers the requests.

        Across a domain or a leaf node, and in a cluster that is being upgraded, another one does.
        """
        return self.prefix == "$JS.API" and stands_alone(self.nats.server_info())

    def _ask_level(self, go: Callable[[], object]) -> None:
        """Ask the JetStream that answers for its API level, then call ``go()`` (ADR-44).

        Without a clear answer, as when a user may not ask, the level of the connected server counts, and
        this connection does not ask again.
        """
        info = self.nats.server_info()

        def answered(answer: Any, error: NatsError | None) -> None:
            api = answer.get("api") if isinstance(answer, dict) else None
            level = api.get("level", 0) if isinstance(api, dict) else None
            known = level if type(level) is int else None
            lasts = _LEVEL_COUNTS if known is not None else math.inf
            self._level = (known, info, time.monotonic() + lasts)
            go()

        limit = min(self.timeout or _ASK_WITHIN, _ASK_WITHIN)
        self.request_or_report("INFO", None, answered, timeout=limit)

    def require(
        self,
        needs: Mapping[str, Feature],
        go: Callable[[int], object],
        cb: Callback,
        *,
        timeout: float | None = None,
    ) -> None:
        """Call ``go(level)`` if JetStream has all features in needs, else pass `ApiLevelError` to cb.

        An older server ignores fields that it does not know, so its answer would not show that something
        is missing: the client must check before. Without a connection it waits for one. An exception of
        go is raised if go runs inside this call; later it goes to cb.

        Args:
            needs: the features.
            go: gets the API level that they need.
            cb: gets the error.
            timeout: how long to wait for a connection, in ms; 0: for ever; default: that of the `JetStream`.
        """
        level = max((feature[1] for feature in needs.values()), default=0)

        def lacking() -> NatsError | None:
            missing = {name: one for name, one in needs.items() if not self.supports(one)}
            return ApiLevelError.lacking(missing) if missing else None

        def judge() -> None:
            if (error := lacking()) is not None:
                cb(None, error)
                return
            try:
                later_step(go, level)
            except NatsError as exc:
                cb(None, exc)

        def connected(error: NatsError | None) -> None:
            if error is not None:
                cb(None, error)
            elif self._must_ask(level):
                self._ask_level(judge)
            else:
                judge()

        if not needs:
            go(0)
        elif not self.nats.is_connected():
            self.when_connected(connected, timeout)
        elif self._must_ask(level):
            self._ask_level(judge)
        elif (error := lacking()) is not None:
            self.nats.call_soon(cb, None, error)
        else:
            go(level)

    def _must_ask(self, level: int) -> bool:
        """Return whether the API level is unknown, and something needs one."""
        _, info, until = self._level
        fresh = info == self.nats.server_info() and time.monotonic() < until
        return level > 0 and not fresh and not self._is_local()

    # Time.

    def start_timer(
        self,
        delay_ms: Milliseconds,
        due: Callable[[], object],
        closed: Completion,
        *,
        step: bool = False,
    ) -> Timer:
        """Return a running `timer`; a drain waits for it if due is a later step of an operation."""
        timer = Timer(self.nats, due, closed, step)
        timer.start(delay_ms)
        return timer

    def timer(self, due: Callable[[], object], closed: Completion) -> Timer:
        """Return a `Timer` that is not running yet."""
        return Timer(self.nats, due, closed)

    def when_connected(
        self, cb: Callable[[NatsError | None], object], timeout: float | None = None
    ) -> None:
        """Call ``cb(None)`` at the next handshake, or ``cb(err)`` on timeout or when the client ends.

        Raises `NotConnectedError` when no connection is coming.

        Args:
            cb: called once.
            timeout: in ms; 0: no limit; default: that of the `JetStream`.
        """
        self.refuse()

        def end(error: NatsError | None) -> None:
            timer.cancel()
            self.nats.remove_status_listener(changed)
            cb(error)

        def changed(status: Status) -> None:
            if self.nats.is_connected():  # the status in a drain is another one
                end(None)

        def late() -> None:
            end(RequestTimeoutError("request timeout"))

        limit = self.timeout if timeout is None else timeout
        # The timer also tells of the client's end, so there is one without a limit, too.
        timer = self.start_timer(limit or _NO_LIMIT, late, end, step=True)
        self.nats.add_status_listener(changed)

    def refuse(self) -> None:
        """Raise `NotConnectedError` when the client is not connected and no attempt is planned.

        Raise `ConnectionDrainingError` after `Nats.drain`, except in a later step of an operation.
        """
        if self.nats.status() in (Status.DISCONNECTED, Status.CLOSED):
            raise NotConnectedError
        self.nats.refuse_if_draining()
