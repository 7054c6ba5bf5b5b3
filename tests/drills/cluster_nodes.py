"""Three nats-servers of one cluster that are killed, suspended and started again, and what each has stored.

A thread for each server reads its monitoring pages and starts it again after a kill, so that the loop of the
drill never waits for a server.
"""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
import urllib.request

from lab.natsserver import NatsServer

# A replica that has acknowledged a message has it on its disk: a kill loses nothing of it.
CONFIG = "jetstream: {sync_interval: always}\n"
_PAGE = "jsz?accounts=true&streams=true&consumers=true"
_EVERY = 0.2  # seconds between two readings


class Node(threading.Thread):
    """One server of the cluster.

    `stored` has the last sequence of each stream on this server, `settled` the lower one of the last two
    readings, `consumers` the names of the consumers that run here, `leaders` the name of each stream's leader
    ("" for that of the meta group), as last read.
    """

    def __init__(self, server: NatsServer) -> None:
        super().__init__(name=f"node {server.name}", daemon=True)
        self.server = server
        self.stored: dict[str, int] = {}
        self.settled: dict[str, int] = {}
        self.consumers: set[str] = set()
        self.leaders: dict[str, str] = {}
        self.down = False  # killed, and not there again
        self.suspended = False
        self.went_back = 0  # how often a reading had a lower sequence than the one before
        self.failure: BaseException | None = None
        self._start_at = 0.0
        self._wake = threading.Event()
        self._over = False

    @property
    def healthy(self) -> bool:
        """Whether it runs, as far as this drill knows."""
        return not self.down and not self.suspended

    def kill(self, pause: float) -> None:
        """End the server at once with SIGKILL; it starts again after the pause, in seconds."""
        self.down, self.suspended = True, False
        self._start_at = time.monotonic() + pause
        self.server.signal(signal.SIGKILL)
        self._wake.set()

    def suspend(self) -> None:
        """Stop the server with SIGSTOP: its sockets stay open, and nothing answers."""
        self.suspended = True
        self.server.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue a suspended server."""
        if self.suspended:
            self.server.signal(signal.SIGCONT)
            self.suspended = False

    def finish(self) -> None:
        """End the thread; the server runs on."""
        self.resume()
        self._over = True
        self._wake.set()
        self.join(30)

    def run(self) -> None:
        try:
            while not self._over:
                if self.down:
                    time.sleep(max(0.0, self._start_at - time.monotonic()))
                    self.server.restart()
                    self.down = False
                if not self.suspended:
                    with contextlib.suppress(OSError, ValueError):
                        self._read()
                self._wake.wait(_EVERY)
                self._wake.clear()
        except BaseException as exc:
            self.failure = exc

    def _read(self) -> None:
        url = f"http://{self.server.host}:{self.server.monitor_port}/{_PAGE}"
        with urllib.request.urlopen(url, timeout=1) as answer:
            page = json.load(answer)
        stored: dict[str, int] = {}
        consumers: set[str] = set()
        leaders = {"": page.get("meta_cluster", {}).get("leader", "")}
        for account in page.get("account_details", ()):
            for stream in account.get("stream_detail", ()):
                name = stream["name"]
                stored[name] = stream["state"]["last_seq"]
                leaders[name] = (stream.get("cluster") or {}).get("leader", "")
                consumers |= {c["name"] for c in stream.get("consumer_detail") or ()}
        if any(stored.get(name, 0) < last for name, last in self.stored.items()):
            self.went_back += 1
        # What was stored at the reading before: a kill may lose what was applied a moment ago, until
        # the server has read its log.
        self.settled = {name: min(last, self.stored.get(name, 0)) for name, last in stored.items()}
        self.stored, self.consumers, self.leaders = stored, consumers, leaders


class Nodes:
    """The servers of the cluster together."""

    def __init__(self, servers: list[NatsServer]) -> None:
        self.all = [Node(server) for server in servers]
        for node in self.all:
            node.start()

    @property
    def healthy(self) -> bool:
        """Whether all run and know each other. Raises what a restart has raised."""
        for node in self.all:
            if node.failure is not None:
                raise node.failure
        return all(node.healthy for node in self.all)

    def on_all(self, stream: str) -> int:
        """Return the sequence up to which every server has a stream."""
        return min(node.settled.get(stream, 0) for node in self.all)

    def leader(self, stream: str) -> Node | None:
        """Return the server that leads a stream, "" for the meta group, as far as the others know."""
        for node in self.all:
            name = node.leaders.get(stream) if node.healthy else None
            if name:
                return next(n for n in self.all if n.server.name == name)
        return None

    def of_consumer(self, name: str) -> Node | None:
        """Return the server on which a consumer runs."""
        return next((n for n in self.all if n.healthy and name in n.consumers), None)

    def of_url(self, url: str | None) -> Node | None:
        """Return the server that a client is connected to."""
        return next((n for n in self.all if n.server.url == url), None)

    def finish(self) -> None:
        """Continue what is suspended, and end the threads."""
        for node in self.all:
            node.finish()
