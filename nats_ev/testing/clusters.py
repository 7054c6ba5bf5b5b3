"""Private clusters of nats-servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, overload

from .servers import Server, ServerStartError, free_port
from .waiting import wait_for

Self = TypeVar("Self", bound="Cluster")

_ATTEMPTS = 3  # to start; another program may take the port of a route
_READY_WITHIN = 30_000  # milliseconds


class Cluster(Sequence[Server]):
    """Several private servers that know each other: a context manager, and a sequence of `Server`.

    Args:
        size: how many servers.
        jetstream: whether they have JetStream. The cluster is ready when its meta group has a leader.
        config: the text of the configuration file of each.
        binary: the program; default: `find_binary`.
        name: the cluster's; the servers are n0, n1, ….

    Raises:
        ServerNotFoundError: this machine has no nats-server.
    """

    server_class = Server

    def __init__(
        self,
        size: int = 3,
        *,
        jetstream: bool = False,
        config: str = "",
        binary: str | None = None,
        name: str = "test",
    ) -> None:
        if size < 1:
            raise ValueError(f"a cluster needs a server, not {size}")
        self.name = name
        self._size = size
        self._jetstream = jetstream
        self._config = config
        self._binary = binary
        self._servers = self._make()

    def _make(self) -> list[Server]:
        routes = [free_port() for _ in range(self._size)]
        urls = ",".join(f"nats://127.0.0.1:{port}" for port in routes)
        return [
            self.server_class(
                "--cluster_name", self.name, "--cluster", f"nats://127.0.0.1:{port}",
                "--routes", urls, config=self._config, jetstream=self._jetstream,
                binary=self._binary, name=f"n{number}",
            )
            for number, port in enumerate(routes)
        ]  # fmt: skip

    def __enter__(self: Self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} of {self._servers}>"

    def __len__(self) -> int:
        return len(self._servers)

    @overload
    def __getitem__(self, index: int) -> Server: ...
    @overload
    def __getitem__(self, index: slice) -> list[Server]: ...
    def __getitem__(self, index: int | slice) -> Server | list[Server]:
        return self._servers[index]

    @property
    def urls(self) -> list[str]:
        """Return where clients connect to: the URL of each server."""
        return [server.url for server in self._servers]

    @property
    def options(self) -> dict[str, Any]:
        """Return what a client needs to connect: ``Nats(**cluster.options)``."""
        return {"servers": self.urls}

    def start(self: Self) -> Self:
        """Start all servers, wait until the cluster is `ready`, and return it.

        Raises:
            ServerStartError: a server has not started.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                for server in self._servers:
                    server.start()
                break
            except BaseException as exc:
                self.remove()
                in_use = isinstance(exc, ServerStartError) and "address already in use" in exc.log
                if not in_use or attempt == _ATTEMPTS:
                    raise
                self._servers = self._make()
        self.wait_until_ready()
        return self

    def wait_until_ready(self, timeout: float = _READY_WITHIN) -> None:
        """Wait until the running servers are connected with each other, and with JetStream one leads them.

        Args:
            timeout: milliseconds.

        Raises:
            ConditionError: the time is over.
        """
        running = [server for server in self._servers if server.is_running()]
        wait_for(
            lambda: all(_neighbours(server) >= len(running) - 1 for server in running),
            timeout,
            "the routes of the cluster",
        )
        if self._jetstream:
            wait_for(
                lambda: self._has_followers(len(running) - 1), timeout, "JetStream's meta group"
            )

    def _has_followers(self, count: int) -> bool:
        """Return whether the meta group has a leader, and so many members that have all that it has."""
        leader = self.leader()
        if leader is None:
            return False
        members = (_page(leader, "jsz").get("meta_cluster") or {}).get("replicas") or []
        followers = [each for each in members if each.get("current") and not each.get("offline")]
        return len(followers) >= count

    def leader(self) -> Server | None:
        """Return the running server that leads JetStream's meta group, None if none does."""
        for server in self._servers:
            meta = _page(server, "jsz").get("meta_cluster") or {}
            for other in self._servers:
                if other.name == meta.get("leader") and other.is_running():
                    return other
        return None

    def remove(self) -> None:
        """Kill all servers and delete their folders."""
        for server in self._servers:
            server.remove()


def _page(server: Server, what: str) -> dict[str, Any]:
    """Return a monitoring page, empty if the server does not answer."""
    if not server.is_running():
        return {}
    try:
        page: dict[str, Any] = server.monitor(what)
    except OSError:
        return {}
    return page


def _neighbours(server: Server) -> int:
    """Return how many other servers this one is connected with; it may have several routes to each."""
    routes = _page(server, "routez").get("routes") or []
    return len({route.get("remote_id") for route in routes})
