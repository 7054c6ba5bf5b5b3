"""Answers that come in pages: all of them, as one."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, NamedTuple

from ..arguments import Callback
from ..client import Nats
from ..errors import NatsError, ProtocolError
from ..steps import later_step
from .asking import PREFIX, Asking, One, body_of
from .errors import NotSystemAccountError

__all__: list[str] = []

# How often the list is requested again because it has changed between two of its pages.
_ATTEMPTS = 5
# Items of a page, which is the servers' own choice, too.
_PAGE = 1024


class Paged(NamedTuple):
    """How an answer is cut into pages.

    Attributes:
        verb: of the request.
        items: the field of data with the list.
        key: the field that names an item, in a list that the server sorts by it; "": it does not.
        options: that the request needs.
        in_order: whether two pages come from one order. If not, they can't be put together: all is asked for
            in one page, when its size is known.
    """

    verb: str
    items: str
    key: str
    options: dict[str, Any]
    in_order: bool


CONNZ = Paged("CONNZ", "connections", "cid", {}, True)
SUBSZ = Paged("SUBSZ", "subscriptions_list", "", {"subscriptions": True}, False)
JSZ = Paged("JSZ", "account_details", "", {"accounts": True}, True)


class Pages:
    """All pages of one server's answer.

    In a list that is sorted each page begins with the last item of the one before. If it does not, an item
    has come or gone between the two, and the pages might lack another one: the list begins again.
    """

    def __init__(
        self,
        nats: Nats,
        server: str,
        paged: Paged,
        opts: dict[str, Any],
        timeout: float,
        cb: Callback,
    ) -> None:
        self._nats = nats
        self._server = server
        self._paged = paged
        self._opts = {"limit": _PAGE, **paged.options, **opts}
        sorted_by = opts.get("sort") or paged.key
        self._key = paged.key if sorted_by == paged.key else ""
        self._timeout = timeout
        self._cb = cb
        self._items: list[Any] = []
        self._before: list[Any] = []
        self._attempts = _ATTEMPTS
        self._repeats = 0  # pages that were the same as the one before
        self._cancelled = False
        self._one: One | None = None

    def cancel(self) -> None:
        """End it; no callback comes any more."""
        self._cancelled = True
        if self._one is not None:
            self._one.cancel()

    def begin(self) -> None:
        """Ask for the first page. Raises what a request raises."""
        self._ask(0, 0)

    def _ask(self, offset: int, overlap: int) -> None:
        body = json.dumps({**self._opts, "offset": offset}, separators=(",", ":")).encode()
        self._one = One(
            self._nats,
            self._server,
            self._paged.verb,
            partial(self._page, offset, overlap),
            self._timeout,
        )
        self._one.begin(body)

    def _page(self, offset: int, overlap: int, answer: Any, error: NatsError | None) -> None:
        if self._cancelled:
            return
        data = (answer or {}).get("data") or {}
        items, total = data.get(self._paged.items) or [], data.get("total")
        if error is None and not (isinstance(items, list) and type(total) in (int, type(None))):
            error = ProtocolError(f"the answer to {self._paged.verb} has a bad list")
        if error is not None:
            self._cb(None, error)
            return
        if overlap and self._attempts > 1 and not self._follows(items):
            self._attempts -= 1
            self._items, self._before, self._repeats = [], [], 0
            self._next(0, 0)
            return
        if not self._paged.in_order and len(items) >= self._opts["limit"] and self._attempts > 1:
            self._attempts -= 1
            # Old servers say in total how many this page has.
            hints = [total, data.get("num_subscriptions"), 4 * len(items)]
            self._opts["limit"] = max(hint for hint in hints if type(hint) is int) + 100
            self._next(0, 0)
            return
        if items and items == self._before:
            self._repeats += 1
        # In a list without an order two pages may be the same by chance.
        if self._repeats >= (1 if self._key else _ATTEMPTS):
            self._cb(None, ProtocolError(f"the answer to {self._paged.verb} has one page twice"))
            return
        self._before = items
        self._items += items[overlap:]
        reached = offset + len(items)
        more = self._paged.in_order and (total is None or reached < total)
        if len(items) > overlap and more:
            again = 1 if self._key and len(items) > 1 else 0
            self._next(reached - again, again)
            return
        data = {**data, self._paged.items: self._distinct(), "offset": 0}
        self._cb({**answer, "data": data}, None)

    def _follows(self, items: list[Any]) -> bool:
        """Return whether a page begins with the last item that is known."""
        return bool(items and self._items) and self._name(items[0]) == self._name(self._items[-1])

    def _name(self, item: Any) -> Any:
        name = item.get(self._key) if isinstance(item, dict) else None
        return name if isinstance(name, (int, str)) else id(item)

    def _distinct(self) -> list[Any]:
        if not self._key:
            return self._items
        return list({self._name(item): item for item in self._items}.values())

    def _next(self, offset: int, overlap: int) -> None:
        try:
            later_step(self._ask, offset, overlap)
        except NatsError as exc:
            self._cb(None, exc)


class AllPages:
    """All pages of the answers of all servers; `cancel` ends it without a callback."""

    def __init__(
        self, nats: Nats, paged: Paged, opts: dict[str, Any], timeout: float, cb: Callback
    ) -> None:
        self._nats = nats
        self._paged = paged
        self._opts = opts
        self._timeout = timeout
        self._cb: Callback | None = cb
        self._answers: list[dict[str, Any]] = []
        self._left = 0
        self._pages: list[Pages] = []
        self._asking = Asking(nats, f"{PREFIX}.PING.{paged.verb}", self._found)

    def begin(self, stall: float, servers: int) -> None:
        """Ask who is there. Raises what a request raises."""
        # The page itself, because not every request lets the options choose among the servers.
        body = body_of({**self._paged.options, **self._opts, "limit": 1})
        self._asking.begin(body, self._timeout, stall, servers)

    def cancel(self) -> None:
        """End it; no callback comes any more."""
        self._cb = None
        self._asking.cancel()
        for pages in self._pages:
            pages.cancel()

    def _found(self, servers: list[dict[str, Any]] | None, error: NatsError | None) -> None:
        if servers is None:
            self._end(error)
            return
        self._answers = [{"server": each["server"]} for each in servers]
        self._left = len(servers)
        for place, each in enumerate(servers):
            pages = Pages(
                self._nats,
                each["server"]["id"],
                self._paged,
                self._opts,
                self._timeout,
                partial(self._one, place),
            )
            self._pages.append(pages)
            try:
                later_step(pages.begin)
            except NatsError as exc:
                self._one(place, None, exc)
        if not servers:
            self._end(None)

    def _one(self, place: int, answer: Any, error: NatsError | None) -> None:
        if error is not None:
            text = getattr(error, "description", "") or str(error)
            code = getattr(error, "code", 0)
            self._answers[place]["error"] = {"code": code, "description": text}
        else:
            self._answers[place] = answer
        if isinstance(error, NotSystemAccountError):
            self._end(error)  # some requests to all servers are answered in each account
        self._left -= 1
        if not self._left or self._cb is None:
            self._end(None)

    def _end(self, error: NatsError | None) -> None:
        cb, self._cb = self._cb, None
        if cb is not None:
            cb(None if error is not None else self._answers, error)
