"""Clusters of three whose leaders are killed and suspended while every kind of reader and writer runs.

`make chaos`, or `python -m drills.clusters [--line LINE] [--rounds N] [--seed N]`. Streams have three
replicas. Running at once: a publisher with message ids, puts of keys, a watch of all keys, lists of keys,
short watches, an ordered consumer, an ordered fetcher, a consume, puts and gets of objects. In each round
one of these happens, with operations that begin in the same moment:

- the leader of a stream, of the meta group, or the server we are connected to is killed, and comes back;
- one of these is suspended with SIGSTOP for some seconds;
- a replica is suspended while messages are stored, and as soon as it runs again, lagging, the server on
  which a consumer runs is killed;
- the server that sends a watch its first entries is killed in the middle of them.

In the end it must hold: what was delivered is what is stored, each message once and in order; no watch has
gone back, and each ends with the newest value of every key; each list has each key; objects are whole;
transfers survive; every operation has been completed; no consumer is left on the servers. A replica that lags
may begin a list or a watch with what it has: such a snapshot is compared with what all replicas had then.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from typing import Any

from drills.cluster_nodes import CONFIG, Node, Nodes
from drills.cluster_traffic import (
    BUCKET,
    DURABLE,
    STORE,
    STREAM,
    Lister,
    Notes,
    Objects,
    Readers,
    Watcher,
    Writer,
    number_of,
)
from lab.natsserver import Cluster, NatsServer, cached_binary, find_binary, wait_for
from lab.steps import run_until
from nats_ev import KV, JetStream, Nats, ObjectStore, pyev

LINES = ("newest", "2.12", "2.10")
ROUNDS = 20
KEYS = 2500
TICK = 0.05
PER_TICK = 10  # messages; half as many puts
BURST = 3000
# How long the readers may need to come to the end, and a consumer of ours to be deleted.
CATCH_UP = 60.0
LEFT_OVER = 30.0


class Drill:
    """One run on one cluster."""

    def __init__(self, nodes: Nodes, seed: int, keys: int) -> None:
        self.loop = pyev.Loop()
        self.nodes = nodes
        self.rng = random.Random(seed)
        self.notes = Notes()
        self.keys = [f"k{n:04}" for n in range(keys)]
        self.kills = self.stops = self.lags = 0
        urls = [node.server.url for node in nodes.all]
        self.clients = [self._client(urls) for _ in range(4)]
        self.until(lambda: all(nats.is_connected() for nats in self.clients))
        self.contexts = [JetStream(nats, timeout=5000) for nats in self.clients]
        self.admin = self.contexts[0]
        self._create()
        self.writer = Writer(self.admin, self.notes, self.keys, self.rng)
        for key in self.keys * 2:
            self.writer.put(key)
        self.until(lambda: self.writer.complete, 60)
        if missing := [key for key in self.keys if not self.writer.revisions[key]]:
            raise AssertionError(f"no cluster to begin with: {len(missing)} keys were not put")
        self.until(lambda: nodes.on_all(self.writer.kv.stream) >= self.writer.last_revision)
        self.watcher = Watcher(
            KV(self.contexts[1], BUCKET), self.notes, self.writer, nodes, "watch"
        )
        self.readers = Readers(self.contexts[1], self.notes)
        self.lister = Lister(self.contexts[2], self.notes, self.writer, nodes)
        self.objects = Objects(self.contexts[3], self.notes, self.rng)
        self.ticker = self.loop.timer(TICK, TICK, self._tick)
        self.ticks = 0
        self.ticker.start()
        self.until(lambda: self.watcher.marked and self.readers.consumed)

    def _client(self, urls: list[str]) -> Nats:
        return Nats(
            loop=self.loop, servers=urls, reconnect=True, reconnect_delay=50,
            max_reconnect_delay=200, max_reconnect_attempts=0, connect_timeout=1000,
            ping_interval=1000, on_error=lambda error: self.notes.error("client", error),
        )  # fmt: skip

    def until(self, condition: Callable[[], Any], within: float = 30.0) -> None:
        """Run the loop until condition() is true."""
        run_until(
            self.loop,
            condition,
            within,
            lambda: (self.notes.wrong[:5], self.notes.errors, list(self.notes.open.values())[:5]),
        )

    def wait(self, seconds: float) -> None:
        """Run the loop for that long."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end, seconds + 5)

    def call(self, method: Callable[..., Any], *arguments: Any, within: float = 30.0) -> Any:
        """Call until there is a result; an error while a cluster elects a leader passes."""
        deadline = time.monotonic() + within
        while True:
            answers: list[Any] = []
            method(*arguments, lambda *answer, to=answers: to.append(answer))
            self.until(lambda to=answers: to, within)
            result, error = answers[0]
            if error is None:
                return result
            assert time.monotonic() < deadline, error

    def _create(self) -> None:
        config = {"name": STREAM, "subjects": ["ev.>"], "num_replicas": 3}
        self.call(self.admin.stream_create, config)
        durable = {"durable_name": DURABLE, "ack_policy": "explicit", "ack_wait": 5_000_000_000}
        self.call(self.admin.consumer_create, STREAM, durable | {"max_ack_pending": 5000})
        self.call(KV(self.admin, BUCKET).create_bucket, {"replicas": 3, "history": 5})
        self.call(ObjectStore(self.admin, STORE).create_bucket, {"replicas": 3})

    # Traffic.

    def _tick(self, watcher: Any, revents: int) -> None:
        self.ticks += 1
        if len(self.writer.acked) > self.writer.sent - 5000:
            self.writer.publish(PER_TICK)
        for _ in range(PER_TICK // 2):
            self.writer.put()
        if self.ticks % 6 == 0:
            self.list_one()
        if self.ticks % 4 == 0 and len(self.objects.free) > 3:
            self.objects.one()

    def list_one(self) -> None:
        """Begin a list or a short watch, unless many are under way."""
        if sum(kind in ("keys", "list_keys", "watch") for kind, _ in self.notes.open.values()) < 6:
            self.rng.choice((self.lister.keys, self.lister.list_keys, self.lister.watch))()

    def begin_all(self) -> None:
        """Begin one of each operation, as when a leader has died in this moment."""
        self.objects.one()
        self.objects.one()
        self.list_one()
        self.writer.put()

    # What happens to servers.

    def pick(self) -> Node:
        """Return a server that matters just now."""
        choices = [
            self.nodes.leader(STREAM),
            self.nodes.leader(self.writer.kv.stream),
            self.nodes.leader(self.objects.store.stream),
            self.nodes.leader(""),
            self.nodes.of_url(self.rng.choice(self.clients).connected_url()),
            self.nodes.of_consumer(self.readers.consumer.name),
        ]
        return self.rng.choice([node for node in choices if node is not None] or self.nodes.all)

    def kill(self, node: Node) -> None:
        """Kill a server; operations begin just before, just after, and while it is away."""
        if self.rng.random() < 0.5:
            self.begin_all()
        self.kills += 1
        node.kill(self.rng.uniform(0.1, 2.0))
        self.begin_all()
        for _ in range(3):
            self.clients[0].call_later(self.rng.uniform(0, 1500), self.begin_all)

    def suspend(self, node: Node, seconds: float) -> None:
        """Suspend a server for a while."""
        self.stops += 1
        node.suspend()
        self.begin_all()
        self.wait(seconds)
        node.resume()

    def lag(self) -> None:
        """Let a replica lag, and kill the server of a consumer when the replica is running again."""
        node = self.nodes.of_consumer(self.readers.consumer.name) or self.pick()
        others = [n for n in self.nodes.all if n is not node]
        behind = self.rng.choice(others)
        self.lags += 1
        self.stops += 1
        behind.suspend()
        self.writer.publish(BURST)
        self.wait(self.rng.uniform(2.0, 4.0))
        for _ in range(3):
            self.list_one()
        behind.resume()
        self.kill(node)

    def kill_in_snapshot(self) -> None:
        """Kill a server in the middle of the first entries of a watch."""
        at = self.rng.choice((1, len(self.keys) // 3, len(self.keys) * 2 // 3))
        done: list[Node] = []

        def on_entry(count: int) -> None:
            if count == at and not done:
                done.append(self.nodes.of_url(self.clients[2].connected_url()) or self.pick())
                self.kill(done[0])

        watcher = self.lister.watch(on_entry)
        self.until(lambda: done or watcher.marked or watcher.failed, 60)

    def round(self, number: int) -> None:
        """Let one thing happen, and wait until all servers run again."""
        what = ("kill", "suspend", "lag", "snapshot", "kill", "lag")[number % 6]
        if what == "kill":
            self.kill(self.pick())
        elif what == "suspend":
            self.suspend(self.pick(), self.rng.uniform(1.5, 5.0))
        elif what == "lag":
            self.lag()
        else:
            self.kill_in_snapshot()
        self.until(lambda: self.nodes.healthy, 60)
        self.wait(self.rng.uniform(0.5, 3.0))

    # The end.

    def finish(self) -> None:
        """Stop writing, wait for the readers, and compare."""
        self.ticker.stop()
        self.until(lambda: self.writer.complete, CATCH_UP)
        state = self.call(self.admin.stream_info, STREAM)["state"]
        truth = self._stored(state["last_seq"])
        self._compare_acknowledged(truth)
        newest = self._newest()
        self._reached("readers", lambda: self.readers.at(state["last_seq"]))
        self._reached("watch", lambda: self.watcher.last >= max(newest.values()))
        self.readers.stop()
        self.watcher.watch.stop()
        self.readers.compare(truth)
        self.watcher.compare(newest)
        if not self.watcher.marked:
            self.notes.wrong.append("watch: no marker")
        self._reached("completions", lambda: not self.notes.open)
        self.left_over()
        for nats in self.clients:
            nats.disconnect()
        self.loop.start()

    def _reached(self, what: str, condition: Callable[[], Any]) -> None:
        began = time.monotonic()
        try:
            self.until(condition, CATCH_UP)
        except AssertionError as exc:
            self.notes.wrong.append(f"{what}: {exc}")
        self.notes.longest[f"end: {what}"] = time.monotonic() - began

    def _stored(self, last: int) -> dict[int, bytes]:
        """Read all messages of the stream from its leader, one by one."""
        stored: dict[int, bytes] = {}
        asked: list[int] = []

        def ask(seq: int) -> None:
            def read(message: Any, error: Exception | None) -> None:
                if message is not None:
                    stored[seq] = message.data
                elif "no message found" not in str(error):
                    ask(seq)
                    return
                asked.append(seq)

            self.admin.get_msg(STREAM, seq, read)

        for first in range(1, last + 1, 500):
            end = min(first + 499, last)
            for seq in range(first, end + 1):
                ask(seq)
            self.until(lambda end=end: len(asked) == end, 60)
        return stored

    def _compare_acknowledged(self, truth: dict[int, bytes]) -> None:
        """Count what the servers have lost; that is not ours."""
        stored: dict[int, int] = {}
        for seq, payload in truth.items():
            number = number_of(payload)
            if number in stored:
                self.notes.count("stored twice")
            stored[number] = seq
        for number, seq in self.writer.acked.items():
            if number not in stored:
                self.notes.count("LOST BY THE SERVERS")
            elif seq and stored[number] != seq:  # 0: a duplicate, in nats-server 2.10
                self.notes.count("stored elsewhere")

    def _newest(self) -> dict[str, int]:
        """Return the newest revision of each key, as the leader has it."""
        newest: dict[str, int] = {}
        stream, prefix = self.writer.kv.stream, f"$KV.{BUCKET}."

        def ask(key: str) -> None:
            def read(message: Any, error: Exception | None) -> None:
                if message is None:
                    ask(key)
                else:
                    newest[key] = message.seq

            self.admin.get_last_msg(stream, prefix + key, read)

        for key in self.keys:
            ask(key)
        self.until(lambda: len(newest) == len(self.keys), 60)
        for key, revision in newest.items():
            if revision < self.writer.newest(key, self.writer.last_revision):
                self.notes.count("LOST BY THE SERVERS")
        return newest

    def left_over(self) -> None:
        """Wait until no consumer is left but the durable one."""
        streams = (STREAM, self.writer.kv.stream, self.objects.store.stream)
        left: list[str] = []
        began = time.monotonic()
        while time.monotonic() - began < LEFT_OVER:
            left = [name for s in streams for name in self.call(self.admin.consumer_names, s)]
            if left == [DURABLE]:
                break
            self.wait(0.25)
        else:
            self.notes.wrong.append(f"consumers left on the servers: {left}")
        self.notes.longest["end: consumers gone"] = time.monotonic() - began


def _knows_peers(server: NatsServer) -> bool:
    """Return whether a server leads the meta group and has heard both others."""
    peers = server.monitor("jsz").get("meta_cluster", {}).get("replicas") or []
    return sum(bool(peer.get("current")) for peer in peers) == 2


def clusters(line: str, rounds: int, seed: int, keys: int = KEYS) -> tuple[str, Notes]:
    """Run on one line of servers; return what was seen, and the notes with what is wrong."""
    binary = find_binary() if line == "newest" else cached_binary(line)
    if binary is None:
        raise FileNotFoundError(f"nats-server {line} has not been fetched: make servers")
    began = time.monotonic()
    with Cluster(3, binary=binary, jetstream=True, config=CONFIG) as servers:
        wait_for(lambda: any(_knows_peers(server) for server in servers), 60_000)
        nodes = Nodes(servers)
        try:
            drill = Drill(nodes, seed, keys)
            for number in range(rounds):
                drill.round(number)
            drill.finish()
        finally:
            nodes.finish()
        version = ".".join(map(str, servers[0].version))
    notes = drill.notes
    longest = ", ".join(f"{what} {took:.1f}" for what, took in sorted(notes.longest.items()))
    counts = ", ".join(f"{n} {what}" for what, n in sorted(notes.counts.items()))
    text = (
        f"{version}, seed {seed}: {rounds} rounds, {drill.kills} kills, {drill.stops} stops, "
        f"{drill.lags} lagging replicas; {drill.writer.sent:,} messages, {counts}; "
        f"{drill.readers.consumer.resets} resets of the ordered consumer; "
        f"replicas went back {sum(n.went_back for n in nodes.all)} times; "
        f"longest in s: {longest}; wrong={len(notes.wrong)}; {time.monotonic() - began:.0f} s"
    )
    return text, notes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--line", help="newest, 2.12, 2.10; default: all")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--keys", type=int, default=KEYS)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    failed = False
    for line in [options.line] if options.line else LINES:
        if line != "newest" and cached_binary(line) is None:
            print(f"clusters: nats-server {line} has not been fetched: make servers", flush=True)
            continue
        text, notes = clusters(line, options.rounds, options.seed, options.keys)
        print("clusters:", text, flush=True)
        for what, count in sorted(notes.errors.items(), key=lambda item: -item[1])[:12]:
            print(f"    {count:6} {what}", flush=True)
        for wrong in notes.wrong[:20]:
            print("    WRONG", wrong, flush=True)
        failed = failed or bool(notes.wrong)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
