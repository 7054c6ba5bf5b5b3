"""The requests for each monitoring page: to one server, and to all (…_ping)."""

from __future__ import annotations

from typing import Any

from ..arguments import Callback, ResultCallback
from .asking import Asking, One
from .types import ServerAnswer, SystemOptions

__all__: list[str] = []


class Monitoring:
    """The methods of `SystemClient` for monitoring pages; the words are orbit's.

    Those with a server take its id, or None for the server of the connection. An answer is a dict with server
    and data.
    """

    def _one(self, verb: str, server: Any, opts: Any, cb: Callback | None) -> One:
        raise NotImplementedError

    def _all(self, verb: str, opts: Any, cb: Callback | None) -> Asking:
        raise NotImplementedError

    def varz(
        self,
        server: str | None,
        opts: SystemOptions | ResultCallback[ServerAnswer] | None = None,
        cb: ResultCallback[ServerAnswer] | None = None,
    ) -> One:
        """Ask for the figures and the configuration of a server; ``cb(answer, err)``."""
        return self._one("VARZ", server, opts, cb)

    def varz_ping(
        self,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> Asking:
        """Ask all servers for what `varz` asks one for; ``cb([answer, …], err)``."""
        return self._all("VARZ", opts, cb)

    def statsz(
        self,
        server: str | None,
        opts: SystemOptions | ResultCallback[ServerAnswer] | None = None,
        cb: ResultCallback[ServerAnswer] | None = None,
    ) -> One:
        """Ask for the load of a server, as it publishes it itself; ``cb(answer, err)``."""
        return self._one("STATSZ", server, opts, cb)

    def statsz_ping(
        self,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> Asking:
        """Ask all servers for what `statsz` asks one for; ``cb([answer, …], err)``."""
        return self._all("STATSZ", opts, cb)

    def connz(
        self,
        server: str | None,
        opts: SystemOptions | ResultCallback[ServerAnswer] | None = None,
        cb: ResultCallback[ServerAnswer] | None = None,
    ) -> One:
        """Ask for one page of the connections of a server; ``cb(answer, err)``.

        opts: sort, auth, subscriptions, subscriptions_detail, offset, limit, cid, state, user, acc,
            filter_subject.
        """
        return self._one("CONNZ", server, opts, cb)

    def connz_ping(
        self,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> Asking:
        """Ask all servers for what `connz` asks one for; ``cb([answer, …], err)``."""
        return self._all("CONNZ", opts, cb)

    def routez(
        self,
        server: str | None,
        opts: SystemOptions | ResultCallback[ServerAnswer] | None = None,
        cb: ResultCallback[ServerAnswer] | None = None,
    ) -> One:
        """Ask for the routes of a server to the others of its cluster; ``cb(answer, err)``."""
        return self._one("ROUTEZ", server, opts, cb)

    def routez_ping(
        self,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> Asking:
        """Ask all servers for what `routez` asks one for; ``cb([answer, …], err)``."""
        return self._all("ROUTEZ", opts, cb)

    def gatewayz(
        self,
        server: str | None,
        opts: SystemOptions | ResultCallback[ServerAnswer] | None = None,
        cb: ResultCallback[ServerAnswer] | None = None,
    ) -> One:
        """Ask for the gateways of a server to other clusters; ``cb(answer, err)``."""
        return self._one("GATEWAYZ", server, opts, cb)

    def gatewayz_ping(
        self,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> Asking:
        """Ask all servers for what `gatewayz` asks one for; ``cb([answer, …], err)``."""
        return self._all("GATEWAYZ", opts, cb)

    def leafz(
        self,
        server: str | None,
        opts: SystemOptions | ResultCallback[ServerAnswer] | None = None,
        cb: ResultCallback[ServerAnswer] | None = None,
    ) -> One:
        """Ask for the leaf nodes of a server; ``cb(answer, err)``."""
        return self._one("LEAFZ", server, opts, cb)

    def leafz_ping(
        self,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> Asking:
        """Ask all servers for what `leafz` asks one for; ``cb([answer, …], err)``."""
        return self._all("LEAFZ", opts, cb)

    def subsz(
        self,
        server: str | None,
        opts: SystemOptions | ResultCallback[ServerAnswer] | None = None,
        cb: ResultCallback[ServerAnswer] | None = None,
    ) -> One:
        """Ask for one page of the subscriptions of a server; ``cb(answer, err)``.

        opts: subscriptions (True: list them), offset, limit, account, test (a subject).
        """
        return self._one("SUBSZ", server, opts, cb)

    def subsz_ping(
        self,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> Asking:
        """Ask all servers for what `subsz` asks one for; ``cb([answer, …], err)``."""
        return self._all("SUBSZ", opts, cb)

    def accountz(
        self,
        server: str | None,
        opts: SystemOptions | ResultCallback[ServerAnswer] | None = None,
        cb: ResultCallback[ServerAnswer] | None = None,
    ) -> One:
        """Ask for the accounts of a server, or one of them; ``cb(answer, err)``.

        opts: account.
        """
        return self._one("ACCOUNTZ", server, opts, cb)

    def accountz_ping(
        self,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> Asking:
        """Ask all servers for what `accountz` asks one for; ``cb([answer, …], err)``."""
        return self._all("ACCOUNTZ", opts, cb)

    def jsz(
        self,
        server: str | None,
        opts: SystemOptions | ResultCallback[ServerAnswer] | None = None,
        cb: ResultCallback[ServerAnswer] | None = None,
    ) -> One:
        """Ask for JetStream on a server; ``cb(answer, err)``.

        opts: account, accounts, streams, consumer, config, leader_only, offset, limit, raft.
        """
        return self._one("JSZ", server, opts, cb)

    def jsz_ping(
        self,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> Asking:
        """Ask all servers for what `jsz` asks one for; ``cb([answer, …], err)``."""
        return self._all("JSZ", opts, cb)

    def healthz(
        self,
        server: str | None,
        opts: SystemOptions | ResultCallback[ServerAnswer] | None = None,
        cb: ResultCallback[ServerAnswer] | None = None,
    ) -> One:
        """Ask for the health of a server: data has status, ``ok`` or not, and error; ``cb(answer, err)``.

        opts: js-enabled-only, js-server-only, account, stream, consumer, details.
        """
        return self._one("HEALTHZ", server, opts, cb)

    def healthz_ping(
        self,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> Asking:
        """Ask all servers for what `healthz` asks one for; ``cb([answer, …], err)``."""
        return self._all("HEALTHZ", opts, cb)

    def idz(
        self,
        server: str | None,
        opts: SystemOptions | ResultCallback[ServerAnswer] | None = None,
        cb: ResultCallback[ServerAnswer] | None = None,
    ) -> One:
        """Ask for the name, host and id of a server; ``cb(answer, err)``."""
        return self._one("IDZ", server, opts, cb)

    def idz_ping(
        self,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> Asking:
        """Ask all servers for what `idz` asks one for; ``cb([answer, …], err)``."""
        return self._all("IDZ", opts, cb)

    def profilez(
        self,
        server: str | None,
        opts: SystemOptions | ResultCallback[ServerAnswer] | None = None,
        cb: ResultCallback[ServerAnswer] | None = None,
    ) -> One:
        """Ask for a profile of a server, in Go's format; ``cb(answer, err)``.

        opts: name (such as heap), debug, duration.
        """
        return self._one("PROFILEZ", server, opts, cb)

    def profilez_ping(
        self,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> Asking:
        """Ask all servers for what `profilez` asks one for; ``cb([answer, …], err)``."""
        return self._all("PROFILEZ", opts, cb)

    def expvarz(
        self,
        server: str | None,
        opts: SystemOptions | ResultCallback[ServerAnswer] | None = None,
        cb: ResultCallback[ServerAnswer] | None = None,
    ) -> One:
        """Ask for the internal variables of a server; ``cb(answer, err)``."""
        return self._one("EXPVARZ", server, opts, cb)

    def expvarz_ping(
        self,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> Asking:
        """Ask all servers for what `expvarz` asks one for; ``cb([answer, …], err)``."""
        return self._all("EXPVARZ", opts, cb)

    def ipqueuesz(
        self,
        server: str | None,
        opts: SystemOptions | ResultCallback[ServerAnswer] | None = None,
        cb: ResultCallback[ServerAnswer] | None = None,
    ) -> One:
        """Ask for the internal queues of a server; ``cb(answer, err)``.

        opts: all, filter.
        """
        return self._one("IPQUEUESZ", server, opts, cb)

    def ipqueuesz_ping(
        self,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> Asking:
        """Ask all servers for what `ipqueuesz` asks one for; ``cb([answer, …], err)``."""
        return self._all("IPQUEUESZ", opts, cb)

    def raftz(
        self,
        server: str | None,
        opts: SystemOptions | ResultCallback[ServerAnswer] | None = None,
        cb: ResultCallback[ServerAnswer] | None = None,
    ) -> One:
        """Ask for the Raft groups of a server; ``cb(answer, err)``.

        opts: account, group.
        """
        return self._one("RAFTZ", server, opts, cb)

    def raftz_ping(
        self,
        opts: SystemOptions | ResultCallback[list[ServerAnswer]] | None = None,
        cb: ResultCallback[list[ServerAnswer]] | None = None,
    ) -> Asking:
        """Ask all servers for what `raftz` asks one for; ``cb([answer, …], err)``."""
        return self._all("RAFTZ", opts, cb)
