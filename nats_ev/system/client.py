"""`SystemClient`: what the users of the system account ask servers for, and hear of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ..arguments import (
    Callback,
    Milliseconds,
    ResultCallback,
    check_callback,
    check_object,
    check_result_cb,
    count,
    integer,
    milliseconds,
    optional_middle,
)
from ..client import Nats
from ..errors import BadOptionsError, NatsError, NotConnectedError, ProtocolError
from ..subjects import check_one_token
from ..times import to_wire
from .asking import PREFIX, Asking, One, body_of
from .events import SUBJECTS, SystemEvent, decode_event
from .monitoring import Monitoring
from .pages import CONNZ, JSZ, SUBSZ, AllPages, Paged, Pages
from .types import ServerAnswer, SystemOptions

__all__ = ["SystemClient"]

_ACCOUNTS = "$SYS.REQ.ACCOUNT"


class SystemClient(Monitoring):
    """Requests to the servers, for a user of the system account (orbit's natssysclient).

    Each monitoring page has a method for one server, which takes the server's id, and one for all
    (``…_ping``), which gives the list of answers; that of a server that can't answer has ``error`` in place
    of ``data``. What is no answer of a server goes to on_error. ``all_…`` ask for all pages of
    long lists. Callbacks get ``cb(result, err)`` once, on the loop; err is `NotSystemAccountError` for a
    user of another account, `UnknownServerError`, `SystemRequestError` with the server's code, or as for
    `Nats.request`. All methods but `events` return an object whose ``cancel()`` ends the request without a
    callback. `JetStream.meta_leader_stepdown` is for these users, too.

    Args:
        nats: the client.
        timeout: for each request, in ms or a timedelta; 0: no limit.
        stall: a request to all servers ends when none has answered for so long.
        servers: how many servers there are, if that is known: such a request ends with so many answers.

    Raises:
        TypeError, BadOptionsError: an argument is wrong.
    """

    def __init__(
        self,
        nats: Nats,
        *,
        timeout: Milliseconds = 5000,
        stall: Milliseconds = 300,
        servers: int = 0,
    ) -> None:
        check_object(nats, "new_inbox", "nats must be a Nats")
        self.nats = nats
        self._timeout = milliseconds(timeout, "timeout")
        self._stall = milliseconds(stall, "stall")
        self._servers = count(servers, "servers")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.nats!r}>"

    # All pages.

    def all_connz(
        self,
        server: str | None,
        opts: SystemOptions | ResultCallback[ServerAnswer] | None = None,
        cb: ResultCallback[ServerAnswer] | None = None,
    ) -> Pages:
        """Ask for all connections of a server, page after page; data["connections"] has them.

        Sorted by cid, which is the default, none is missing or doubled because another one has come or gone
        meanwhile. Sorted in another way, pages may overlap or leave gaps: servers don't order what is equal.

        Args:
            server: its id; None: the server of the connection.
            opts: as for `connz`; limit is the size of a page.
            cb: called once, with one answer that has all pages.
        """
        return self._pages(CONNZ, server, opts, cb)

    def all_subsz(
        self,
        server: str | None,
        opts: SystemOptions | ResultCallback[ServerAnswer] | None = None,
        cb: ResultCallback[ServerAnswer] | None = None,
    ) -> Pages:
        """Ask for all subscriptions of a server; data["subscriptions_list"]. See `all_connz`.

        Servers don't order subscriptions, so pages can't be put together: when more exist than a page has,
        all come in one answer. An account or another filter in opts keeps that small.
        """
        return self._pages(SUBSZ, server, opts, cb)

    def all_jsz(
        self,
        server: str | None,
        opts: SystemOptions | ResultCallback[ServerAnswer] | None = None,
        cb: ResultCallback[ServerAnswer] | None = None,
    ) -> Pages:
        """Ask for JetStream of all accounts on a server; data["account_details"]. See `all_connz`."""
        return self._pages(JSZ, server, opts, cb)

    def all_connz_ping(
        self,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> AllPages:
        """Ask all servers for what `all_connz` asks one for; ``cb([answer, …], err)``."""
        return self._all_pages(CONNZ, opts, cb)

    def all_subsz_ping(
        self,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> AllPages:
        """Ask all servers for what `all_subsz` asks one for; ``cb([answer, …], err)``."""
        return self._all_pages(SUBSZ, opts, cb)

    def all_jsz_ping(
        self,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> AllPages:
        """Ask all servers for what `all_jsz` asks one for; ``cb([answer, …], err)``."""
        return self._all_pages(JSZ, opts, cb)

    # Commands.

    def kick(self, server: str | None, cid: int, cb: ResultCallback[ServerAnswer]) -> One:
        """Close a client's connection; most clients connect again. nats-server 2.10.

        Args:
            server: the id of the client's server; None: that of this connection.
            cid: the number of the connection, as `connz` lists it.
            cb: ``cb({"server"}, err)``.
        """
        return self._command("KICK", server, {"cid": integer(cid, "cid", 1)}, cb)

    def ldm(self, server: str | None, cid: int, cb: ResultCallback[ServerAnswer]) -> One:
        """Tell a client that its server is about to end, so that it moves to another one.

        Arguments as in `kick`.
        """
        return self._command("LDM", server, {"cid": integer(cid, "cid", 1)}, cb)

    def reload(self, server: str | None, cb: ResultCallback[ServerAnswer]) -> One:
        """Let a server read its configuration again; err has the reason if it can't use it."""
        return self._command("RELOAD", server, None, cb)

    # Accounts.

    def account_connz(
        self,
        account: str,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> Asking:
        """Ask all servers for the connections of an account; ``cb([answer, …], err)``."""
        return self._of_account(account, "CONNZ", opts, cb)

    def account_subsz(
        self,
        account: str,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> Asking:
        """Ask all servers for the subscriptions of an account; ``cb([answer, …], err)``."""
        return self._of_account(account, "SUBSZ", opts, cb)

    def account_leafz(
        self,
        account: str,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> Asking:
        """Ask all servers for the leaf nodes of an account; ``cb([answer, …], err)``."""
        return self._of_account(account, "LEAFZ", opts, cb)

    def account_jsz(
        self,
        account: str,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> Asking:
        """Ask all servers for JetStream of an account; ``cb([answer, …], err)``."""
        return self._of_account(account, "JSZ", opts, cb)

    def account_info(
        self,
        account: str,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> Asking:
        """Ask all servers for what they know of an account; ``cb([answer, …], err)``."""
        return self._of_account(account, "INFO", opts, cb)

    def account_statz(
        self,
        account: str,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> Asking:
        """Ask the servers that have clients of an account for its load; ``cb([answer, …], err)``."""
        return self._of_account(account, "STATZ", opts, cb)

    def account_statz_ping(
        self,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> Asking:
        """Ask all servers for the load of all accounts; opts: accounts, include_unused."""
        return self._ask_all(f"{_ACCOUNTS}.PING.STATZ", opts, cb)

    # Events.

    def events(
        self,
        kind: str,
        cb: Callable[[SystemEvent | None, NatsError | None], object],
        *,
        of: str = "*",
    ) -> int:
        """Listen to one kind of events; return the subscription's sid, for `Nats.unsubscribe`.

        Args:
            kind: "connect", "disconnect" or "connections" (their number), of an account; "auth_error",
                "statsz", "lame_duck" or "shutdown", of a server.
            cb: ``cb(event, None)`` for each event, ``cb(None, err)`` for a message that is not one.
            of: the account, or the server's id; default: all.

        Raises:
            BadOptionsError: kind is unknown.
            BadSubjectError: of can't be part of a subject.
        """
        check_callback(cb)
        if kind not in SUBJECTS:
            raise BadOptionsError(f"unknown event {kind!r}: one of {', '.join(SUBJECTS)}")
        if of != "*":
            check_one_token(of, "account or server")

        def arrived(subject: str, payload: bytes, reply: str | None, headers: object) -> None:
            try:
                event = decode_event(kind, subject, payload)
            except ProtocolError as exc:
                failure = exc
            else:
                cb(event, None)
                return
            cb(None, failure)

        return self.nats.subscribe(SUBJECTS[kind].format(of), arrived)

    # What the methods share.

    def _server(self, server: object) -> str:
        """Return a server's id; None: that of the connection. Raises TypeError, `BadSubjectError`."""
        if server is None:
            info = self.nats.server_info()
            if info is None:
                raise NotConnectedError("not connected")
            return str(json.loads(info).get("server_id"))
        if not isinstance(server, str):
            raise TypeError(f"server must be str, not {type(server).__name__}")
        check_one_token(server, "server id")
        return server

    def _one(self, verb: str, server: Any, opts: Any, cb: Callback | None) -> One:
        given, done = optional_middle(opts, cb)
        return self._ask_one(verb, server, given, done)

    def _command(self, verb: str, server: Any, opts: Any, cb: Callback) -> One:
        check_result_cb(cb)
        return self._ask_one(verb, server, opts, cb)

    def _ask_one(self, verb: str, server: Any, opts: Any, cb: Callback) -> One:
        one = One(self.nats, self._server(server), verb, cb, self._timeout)
        one.begin(body_of(opts))
        return one

    def _all(self, verb: str, opts: Any, cb: Callback | None) -> Asking:
        return self._ask_all(f"{PREFIX}.PING.{verb}", opts, cb)

    def _of_account(self, account: object, verb: str, opts: Any, cb: Callback | None) -> Asking:
        if not isinstance(account, str):
            raise TypeError(f"account must be str, not {type(account).__name__}")
        check_one_token(account, "account")
        return self._ask_all(f"{_ACCOUNTS}.{account}.{verb}", opts, cb)

    def _ask_all(self, subject: str, opts: Any, cb: Callback | None) -> Asking:
        given, done = optional_middle(opts, cb)
        asking = Asking(self.nats, subject, done)
        asking.begin(body_of(given), self._timeout, self._stall, self._servers)
        return asking

    def _pages(self, paged: Paged, server: Any, opts: Any, cb: Callback | None) -> Pages:
        given, done = optional_middle(opts, cb)
        chosen = self._server(server)
        pages = Pages(self.nats, chosen, paged, _paged(given), self._timeout, done)
        pages.begin()
        return pages

    def _all_pages(self, paged: Paged, opts: Any, cb: Callback | None) -> AllPages:
        given, done = optional_middle(opts, cb)
        pages = AllPages(self.nats, paged, _paged(given), self._timeout, done)
        pages.begin(self._stall, self._servers)
        return pages


def _paged(given: Any) -> dict[str, Any]:
    """Return the options of a request for all pages. Raises `BadOptionsError`."""
    body_of(given)  # refuses what is no JSON now
    opts: dict[str, Any] = to_wire(given or {})
    if "offset" in opts:
        raise BadOptionsError("offset: all pages begin with the first item")
    if "limit" in opts:
        integer(opts["limit"], "limit", 1)
    return opts
