"""Requests to ``$JS.API``: subjects, the envelope of answers, paging, timers.

Everything in `JetStream` that talks to the API goes through one `Api` object. A short call is one
`Api.request`. A call with several answers, such as a fetch, is an `Exchange` with an inbox of its own.
Something that may have to wait takes a `Timer`, which also ends with the client, so that no callback is
ever left without an answer. This module knows nothing of streams or consumers, and uses the public
methods of `Nats` only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from ..arguments import Callback, Milliseconds, milliseconds
from ..errors import (
    BadOptionsError,
    ConnectionClosedError,
    ConnectionLostError,
    NatsError,
    NoRespondersError,
    NotConnectedError,
    PermissionsViolationError,
    RequestTimeoutError,
)
from ..headers import HeadersLike
from ..status import Status
from ..steps import later_step
from .answers import ACCOUNT, INFO, Shape, attempt, decode, later_request
from .errors import ApiLevelError, InvalidAnswerError, about, nobody
from .levels import Feature, Levels

if TYPE_CHECKING:
    from ..client import Nats
    from ..net import Deadline


Body = Mapping[str, Any]
# How often a list is requested again because it has changed between two of its pages.
_LIST_ATTEMPTS = 5
# How long to wait for the answer about the API level, in ms.
_ASK_WITHIN = 2000.0
# 115 days, in ms.
NO_LIMIT = 1e10
_PLAIN_NAME = re.compile(r"[-_A-Za-z0-9]+")
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
    if type(name) is str and _PLAIN_NAME.fullmatch(name):
        return name
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
    except (TypeError, ValueError, RecursionError) as exc:
        raise BadOptionsError(f"not JSON: {exc}") from None


def _listed_name(item: Any) -> object:
    """Return the name of a stream or consumer in a list; one without a name is like no other."""
    name = item
    if isinstance(item, Mapping):
        config = item.get("config")
        name = item.get("name") or (config.get("name") if isinstance(config, Mapping) else None)
    return name if isinstance(name, str) else object()


def _level_of(needs: Mapping[str, Feature]) -> int:
    return max((feature[1] for feature in needs.values()), default=0)


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
    """What waits for more than one answer, or for that of a publish: `Nats` does the same for its requests.

    A server does not answer what its user may not send: it sends an -ERR, which names the subject.
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


def waiting_of(nats: Nats) -> dict[object, tuple[str, int, RequestCallback]]:
    """Return the table of what a violation of permissions ends at once.

    Its values are (subject, sid of an inbox of its own or 0, callback).
    Whoever enters something takes it out again, also when its callback is called.
    """
    if nats not in _asked:
        _asked[nats] = _Asked(nats)
    return _asked[nats].waiting


def ask(
    nats: Nats,
    subject: str,
    payload: bytes,
    cb: RequestCallback,
    timeout: Milliseconds,
    headers: HeadersLike | None = None,
    stores: bool = False,
) -> None:
    """Send a request that "no responders" ends, as a violation of permissions ends any.

    Raises what `Nats.request` raises.

    Args:
        nats: the client.
        subject, payload, cb, timeout, headers: as in `Nats.request`.
        stores: whether a stream should store the subject, for the error when nobody listens.
    """
    answered = partial(_explained, cb, subject, stores)
    nats.request(subject, payload, answered, timeout, headers=headers, no_responders=True)


def _explained(
    cb: RequestCallback,
    subject: str,
    stores: bool,
    data: bytes | None,
    error: NatsError | None,
    raw: bytes | None,
) -> None:
    """Pass an answer on; that nobody listens, with what it may mean."""
    if type(error) is NoRespondersError:
        error = nobody(subject, stores)
    cb(data, error, raw)


class Api:
    """The requests of one `JetStream`."""

    def __init__(self, nats: Nats, prefix: str, timeout: Milliseconds) -> None:
        self.nats = nats
        self.prefix = prefix
        self.timeout = milliseconds(timeout, "timeout")
        self.levels = Levels(nats, prefix, self._ask_for_level)
        self.waiting = waiting_of(nats)

    def ask(
        self,
        subject: str,
        payload: bytes,
        cb: RequestCallback,
        timeout: Milliseconds,
        headers: HeadersLike | None = None,
        stores: bool = False,
    ) -> None:
        """Send a request that a violation of permissions ends at once. Raises what `Nats.request` raises."""
        ask(self.nats, subject, payload, cb, timeout, headers, stores)

    def request(
        self,
        verb: str,
        body: Body | None,
        cb: Callback,
        *,
        level: int = 0,
        timeout: Milliseconds | None = None,
        shape: Shape = INFO,
        prefix: str | None = None,
    ) -> None:
        """Send a request to ``<prefix>.<verb>``; ``cb(answer, err)``. Raises what `Nats.request` raises.

        Args:
            verb: what the subject has after the prefix.
            body: the request's JSON; None: an empty payload.
            cb: gets the decoded answer, or the error in it.
            level: the API level that the request needs. A server of a lower one refuses it (nats-server
                2.12 and later).
            timeout: for the answer; default: that of the `JetStream`.
            shape: the types of the answer's fields; an answer of another shape is an `InvalidAnswerError`.
            prefix: default: that of the `JetStream`.
        """

        def answered(payload: bytes | None, error: NatsError | None, headers: object) -> None:
            if payload is None:
                cb(None, error)
            else:
                answer, error = decode(payload, shape)
                cb(answer, error if error is None else about(error, verb))

        self.ask(
            f"{prefix or self.prefix}.{verb}",
            encode(body) if body is not None else b"",
            answered,
            self.timeout if timeout is None else timeout,
            {"Nats-Required-Api-Level": str(level)} if level else None,
        )

    def request_or_report(
        self,
        verb: str,
        body: Body | None,
        cb: Callback,
        *,
        timeout: Milliseconds | None = None,
        shape: Shape = INFO,
        prefix: str | None = None,
    ) -> None:
        """Send a `request` as a later step of an operation: what it raises goes to cb.

        The original caller has returned, so there is nobody else to raise it to.
        """
        later_request(
            lambda: self.request(verb, body, cb, timeout=timeout, shape=shape, prefix=prefix), cb
        )

    def pages(
        self,
        verb: str,
        body: Body,
        items_of: Callable[[dict[str, Any]], list[Any]],
        cb: Callable[[dict[str, Any] | None, list[Any], NatsError | None], object],
        shape: Shape = INFO,
        name_of_item: Callable[[Any], object] | None = None,
    ) -> None:
        """Request all pages of an answer; ``cb(last page, [items of all pages], err)``.

        The last page has ``missing``: the names of all pages whose servers have not answered.

        Args:
            verb: as in `request`.
            body: the request's JSON without ``offset``.
            items_of: returns the items of one page.
            cb: called once; with an err the last page is None.
            shape: as in `request`.
            name_of_item: returns what an item is known by, in a list that the server sorts by it. The list
                is requested again when an item was created or deleted between two pages: the next page
                would lack an item, or repeat one.
        """
        items: list[Any] = []
        missing: list[Any] = []
        names: set[object] = set()
        overlap: list[Any] = []  # the last item, which the next page must begin with
        last: tuple[Any, Any] = ((), ())
        attempts = _LIST_ATTEMPTS
        offset = 0

        def request(more: int) -> None:
            self.request_or_report(verb, {**body, "offset": more}, page, shape=shape)

        def page(answer: dict[str, Any] | None, error: NatsError | None) -> None:
            nonlocal attempts, offset, last
            if answer is None:
                cb(None, items, error)
                return
            more, absent = items_of(answer), answer.get("missing")
            absent = absent if isinstance(absent, list) else []
            before, last = last, (more, absent)
            # The same page again would never end. To compare what is nested deeply raises.
            same, odd = attempt(lambda: bool(more or absent) and last == before)
            if same or odd is not None:
                cb(None, items, odd or InvalidAnswerError("invalid answer: the same page again"))
                return
            offset += len(more) + len(absent)
            if name_of_item is not None:
                begins = [name_of_item(item) for item in more[: len(overlap)]]
                if begins != list(map(name_of_item, overlap)) and attempts > 1:
                    attempts -= 1
                    offset = 0
                    last = ((), ())
                    names.clear()
                    for part in (items, missing, overlap):
                        part.clear()
                    request(0)
                    return
                more = [item for item in more if name_of_item(item) not in names]
                names.update(map(name_of_item, more))
            items.extend(more)
            missing.extend(absent)
            if (more or absent) and offset < (answer.get("total") or 0):
                # A page of one item would repeat it for ever. A missing item may be the last one.
                exact = name_of_item is None or missing or len(more) + len(overlap) < 2
                overlap[:] = [] if exact else more[-1:]
                offset -= len(overlap)
                request(offset)
            else:
                cb({**answer, "missing": missing}, items, None)

        self.request(verb, {**body, "offset": 0}, page, shape=shape)

    def all_items(
        self,
        verb: str,
        body: Body,
        key: str,
        item: Shape,
        cb: Callable[[list[Any] | None, NatsError | None, list[Any]], object],
    ) -> None:
        """Request all pages of a list; ``cb([item, …], err, [missing, …])``.

        Args:
            verb, body: as in `pages`.
            key: the name of the list in an answer.
            item: the shape of an item.
            cb: called once. missing are the names of items whose servers have not answered the one that was
                asked.
        """

        def listed(
            answer: dict[str, Any] | None, items: list[Any], error: NatsError | None
        ) -> None:
            if answer is None:
                cb(None, error, [])
            else:
                cb(items, None, answer["missing"])

        shape = {"total": int, "offset": int, "limit": int, key: [item]}
        self.pages(verb, body, lambda answer: answer.get(key) or [], listed, shape, _listed_name)

    # What the server can do.

    def _ask_for_level(self, prefix: str, verb: str, cb: Callback) -> None:
        limit = min(self.timeout or _ASK_WITHIN, _ASK_WITHIN)
        shape = ACCOUNT if verb == "INFO" else INFO
        self.request_or_report(verb, None, cb, timeout=limit, shape=shape, prefix=prefix)

    def require(
        self,
        needs: Mapping[str, Feature],
        go: Callable[[int], object],
        cb: Callback,
    ) -> None:
        """Call ``go(level)`` if JetStream has all features in needs, else pass `ApiLevelError` to cb.

        An older server ignores fields that it does not know, so its answer would not show that something
        is missing: the client must check before. Without a connection it waits for one. An exception of
        go is raised if go runs inside this call; later it goes to cb.

        Args:
            needs: the features.
            go: gets the API level that they need.
            cb: gets the error.
        """
        level = _level_of(needs)

        def judge() -> None:
            if (error := self.lacking(needs)) is not None:
                cb(None, error)
                return
            try:
                later_step(go, level)
            except NatsError as exc:
                cb(None, exc)

        def connected(error: NatsError | None) -> None:
            if error is not None:
                cb(None, error)
            elif self.levels.must_ask(level):
                self.levels.ask(judge)
            else:
                judge()

        if not needs:
            go(0)
        elif not self.nats.is_connected():
            self.when_connected(connected)
        elif self.levels.must_ask(level):
            self.levels.ask(judge)
        elif (error := self.lacking(needs)) is not None:
            self.nats.call_soon(cb, None, error)
        else:
            go(level)

    def lacking(self, needs: Mapping[str, Feature]) -> NatsError | None:
        """Return the error that says which of these features are missing, as far as that is known."""
        missing = {name: one for name, one in needs.items() if not self.levels.supports(one)}
        return ApiLevelError.lacking(missing) if missing else None

    def knows(self, needs: Mapping[str, Feature]) -> bool:
        """Return whether `lacking` can be asked now: there is a connection, and its level is known."""
        return self.nats.is_connected() and not self.levels.must_ask(_level_of(needs))

    def when_known(
        self, needs: Mapping[str, Feature], go: Callable[[], object], ended: Completion
    ) -> None:
        """Call ``go()`` when `knows` these features, or ``ended(err)`` if no connection comes."""

        def connected(error: NatsError | None) -> None:
            if error is not None:
                ended(error)
            elif self.levels.must_ask(_level_of(needs)):
                self.levels.ask(go)
            else:
                go()

        if self.nats.is_connected():
            connected(None)
        else:
            self.when_connected(connected, 0)

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
        timer = self.start_timer(limit or NO_LIMIT, late, end, step=True)
        self.nats.add_status_listener(changed)

    def refuse(self) -> None:
        """Raise `NotConnectedError` when the client is not connected and no attempt is planned.

        Raise `ConnectionDrainingError` after `Nats.drain`, except in a later step of an operation.
        """
        if self.nats.status() in (Status.DISCONNECTED, Status.CLOSED):
            raise NotConnectedError
        self.nats.refuse_if_draining()
