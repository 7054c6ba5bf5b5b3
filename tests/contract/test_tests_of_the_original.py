"""The tests of the client that this one mirrors, by the numbers of its files, with what they assert.

`t_` are its basic ones, `xt_` those with servers of their own. All run on the newest nats-server and on
the older lines that `make servers` has fetched; with TEST_NATS_HOST or TEST_NATS_PORT those that need
no server of their own run on that one. TLS, NKeys, JetStream and what builds on it are tested elsewhere.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from lab import inside
from lab.natsserver import Cluster, External, NatsServer, find_binary
from lab.paths import ROOT
from lab.steps import flushed
from nats_ev import AuthorizationError, MaxPayloadError
from nats_ev.testing import free_port


@pytest.fixture(scope="module")
def peer(any_binary: str) -> Iterator[Any]:
    """A running server of each line, or the one that the environment names."""
    if "TEST_NATS_HOST" in os.environ or "TEST_NATS_PORT" in os.environ:
        if any_binary != find_binary():
            pytest.skip("the environment names the server to test with")
        yield External()
        return
    with NatsServer(binary=any_binary) as running:
        yield running


def test_t_01_connect(peer, client, run):
    seen: list[bool] = []
    nats = client(peer, on_connect=lambda: seen.append(nats.is_connected()))
    assert not nats.is_connected()
    run(lambda: seen)
    assert seen == [True]
    assert nats.is_connected()
    assert '"server_id"' in nats.server_info()
    nats.disconnect()
    run(lambda: nats.recorder.count("disconnect"))
    assert not nats.is_connected()
    assert nats.recorder.events == ["connect", "disconnect"]


def test_t_02_pubsub(peer, connected, run):
    nats, got = connected(peer), []
    nats.subscribe("ported.test.>", lambda s, p, r, h: got.append((s, p)))
    for n in range(1, 4):
        nats.publish(f"ported.test.{n}", f"message {n}")
    run(lambda: len(got) == 3)
    assert got == [(f"ported.test.{n}", b"message %d" % n) for n in range(1, 4)]


def test_t_03_request(peer, connected, run):
    nats, seen, answers = connected(peer), [], []

    def respond(subject: str, payload: bytes, reply: str | None, headers: Any) -> None:
        seen.append(payload)
        assert reply is not None
        nats.publish(reply, b"pong")

    nats.subscribe("ported.service", respond)
    nats.request("ported.service", "ping", lambda *a: answers.append(a), 5000)
    run(lambda: answers)
    assert seen == [b"ping"]
    assert answers == [(b"pong", None, None)]


def test_t_04_queue_group(peer, connected, run):
    nats, counts = connected(peer), Counter()
    for member in "ab":
        nats.subscribe("ported.q", lambda *m, member=member: counts.update(member), "workers")
    for n in range(20):
        nats.publish("ported.q", b"%d" % n)
    flushed(nats, run)
    assert counts.total() == 20
    assert set(counts) == {"a", "b"}


def test_t_05_autounsub(peer, connected, run):
    nats, got = connected(peer), []
    sid = nats.subscribe("ported.auto", lambda *m: got.append(m))
    nats.unsubscribe(sid, 3)
    for _ in range(10):
        nats.publish("ported.auto")
    flushed(nats, run)
    assert len(got) == 3
    assert nats.subscription_count() == 0


def test_t_06_request_timeout(peer, connected, run):
    nats, answers = connected(peer), []
    nats.request("ported.nobody", b"", lambda *a: answers.append(a), 500)
    run(lambda: answers)
    ((response, error, headers),) = answers
    assert (response, str(error), headers) == (None, "request timeout", None)


def test_t_07_drain(peer, connected, run):
    nats, drained = connected(peer), []
    nats.subscribe("ported.drain", lambda *m: None)
    nats.drain(lambda error: drained.append((error, nats.is_connected())))
    run(lambda: nats.recorder.count("disconnect"))
    assert [error for error, _ in drained] == [None]
    assert not nats.is_connected()
    assert nats.status() == "CLOSED"


def test_t_08_large_payload(peer, connected, run):
    nats, got = connected(peer), []
    nats.subscribe("ported.large", lambda s, p, r, h: got.append(p))
    payloads = [b"", b"x", os.urandom(65536)]
    for payload in payloads:
        nats.publish("ported.large", payload)
    run(lambda: len(got) == 3)
    assert got == payloads


def test_t_09_stress(peer, connected, run):
    nats, got = connected(peer), []
    nats.subscribe("ported.stress", lambda s, p, r, h: got.append(int(p)))
    for n in range(10_000):
        nats.publish("ported.stress", b"%d" % n)
    run(lambda: len(got) == 10_000)
    assert got == list(range(10_000))


def test_t_10_batch(peer, connected, run):
    nats, got = connected(peer), []
    nats.subscribe("ported.batch.*", lambda s, p, r, h: got.append(s))
    nats.batch(lambda: [nats.publish(f"ported.batch.{n}", f"msg-{n}") for n in range(100)])
    run(lambda: len(got) == 100)
    assert nats.stats()["msgs_out"] == 100


def test_t_11_multi_conn(peer, connected, run):
    clients, got, answers = [connected(peer) for _ in range(3)], Counter(), []
    for n, nats in enumerate(clients):
        nats.subscribe("ported.fan", lambda *m, n=n: got.update([n]))
    clients[1].subscribe("ported.cross", lambda s, p, r, h: clients[1].publish(r, p + b" answered"))
    for nats in clients:
        flushed(nats, run)
    for _ in range(10):
        clients[0].publish("ported.fan")
    clients[2].request("ported.cross", b"asked", lambda *a: answers.append(a))
    run(lambda: got.total() == 30 and answers)
    assert got == {0: 10, 1: 10, 2: 10}
    assert answers == [(b"asked answered", None, None)]


WORKER = """
import sys
from nats_ev import Nats, pyev
fan = queue = 0
def on_fan(*message):
    global fan
    fan += 1
def on_queue(*message):
    global queue
    queue += 1
def stop(*message):
    nats.publish("ported.done", f"{fan} {queue}")
    nats.drain()
nats = Nats(host=sys.argv[1], port=int(sys.argv[2]))
nats.subscribe("ported.mp.fan", on_fan)
nats.subscribe("ported.mp.queue", on_queue, "workers")
nats.subscribe("ported.mp.stop", stop)
nats.flush(lambda error: nats.publish("ported.ready"))
pyev.default_loop().start()
"""


def test_t_12_multi_process(peer, connected, run):
    nats, ready, done = connected(peer), [], []
    nats.subscribe("ported.ready", lambda *m: ready.append(m))
    nats.subscribe("ported.done", lambda s, p, r, h: done.append(tuple(map(int, p.split()))))
    flushed(nats, run)
    command = [sys.executable, "-c", WORKER, peer.host, str(peer.port)]
    workers = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    try:
        run(lambda: len(ready) == 3, 20)
        for _ in range(50):
            nats.publish("ported.mp.fan")
            nats.publish("ported.mp.queue")
        flushed(nats, run)
        nats.publish("ported.mp.stop")
        run(lambda: len(done) == 3)
        assert [worker.wait(10) for worker in workers] == [0, 0, 0]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert [fan for fan, _ in done] == [50, 50, 50]
    assert sum(queue for _, queue in done) == 50
    assert all(queue > 0 for _, queue in done)


def test_t_13_misc(peer, connected, run):
    nats, one, rest, three = connected(peer), [], [], []
    inboxes = {nats.new_inbox() for _ in range(100)}
    assert len(inboxes) == 100
    assert all(inbox.startswith("_INBOX.") for inbox in inboxes)
    assert nats.subscription_count() == 0
    nats.subscribe("ported.misc.*", lambda *m: one.append(m))
    nats.subscribe("ported.misc.>", lambda *m: rest.append(m))
    assert nats.subscription_count() == 2
    for subject in ("ported.misc.a", "ported.misc.b", "ported.misc.c.d"):
        nats.publish(subject, b"12345")
    flushed(nats, run)
    assert (len(one), len(rest)) == (2, 3)
    stats = nats.stats()
    assert (stats["msgs_out"], stats["bytes_out"]) == (3, 15)
    assert (stats["msgs_in"], stats["bytes_in"]) == (5, 25)
    nats.reset_stats()
    assert nats.stats()["msgs_in"] == nats.stats()["msgs_out"] == 0
    nats.subscribe_max("ported.misc3", lambda *m: three.append(m), 3)
    for _ in range(10):
        nats.publish("ported.misc3")
    flushed(nats, run)
    assert len(three) == 3
    assert nats.is_connected()


def test_t_16_max_payload(peer, connected, run):
    nats = connected(peer)
    assert nats.max_payload() > 8
    assert nats.max_payload(8) == 8
    with pytest.raises(MaxPayloadError, match=r"^payload exceeds max_payload \(8\)$"):
        nats.publish("ported.max", b"123456789")
    with pytest.raises(MaxPayloadError, match=r"^message exceeds max_payload \(8\)$"):
        nats.hpublish("ported.max", b"NATS/1.0\r\n\r\n", b"")
    with pytest.raises(MaxPayloadError, match=r"^payload exceeds max_payload \(8\)$"):
        nats.request("ported.max", b"123456789", lambda *a: None)
    nats.publish("ported.max", b"12345678")
    flushed(nats, run)


def test_xt_01_cluster_failover(any_binary, client, run):
    with Cluster(3, binary=any_binary) as nodes:
        nats, got = client(nodes[0], reconnect=True, reconnect_delay=20), []
        run(nats.is_connected)
        assert nats.connected_url() == nodes[0].url
        nats.subscribe("ported.failover", lambda s, p, r, h: got.append(p))
        nats.publish("ported.failover", b"before")
        run(lambda: got)
        # The others are known by then.
        run(lambda: {n.url for n in nodes} <= set(inside.known_urls(nats)))
        nodes[0].kill()
        run(lambda: nats.recorder.count("reconnect"))
        assert nats.connected_url() in {nodes[1].url, nodes[2].url}
        nats.publish("ported.failover", b"after")
        run(lambda: len(got) == 2)
        assert got == [b"before", b"after"]
        assert nats.recorder.count("connect") == 2
        # With the second one gone, too, the third remains, whichever it is.
        next(n for n in nodes[1:] if n.url == nats.connected_url()).kill()
        run(lambda: nats.recorder.count("reconnect") == 2)
        nats.publish("ported.failover", b"last")
        run(lambda: len(got) == 3)


def test_xt_02_unix_socket(peer, client, run, unix_socket):
    path = unix_socket(peer.port, peer.host)
    nats, got, answers = client(None, path=path), [], []
    run(nats.is_connected)
    nats.subscribe("ported.unix", lambda s, p, r, h: got.append(p))
    nats.subscribe("ported.echo", lambda s, p, r, h: nats.publish(r, p))
    for n in range(3):
        nats.publish("ported.unix", b"%d" % n)
    nats.request("ported.echo", b"x", lambda *a: answers.append(a))
    run(lambda: len(got) == 3 and answers)
    assert got == [b"0", b"1", b"2"]
    assert answers == [(b"x", None, None)]
    assert nats.connected_url() == f"unix://{path}"
    nats.disconnect()
    other = client()
    other.connect_unix(path)
    run(other.is_connected)
    other.drain()
    run(lambda: other.recorder.count("disconnect"))


def test_xt_03_auth_failure(any_binary, own_server, client, connected, run):
    running = own_server("--auth", "secret", binary=any_binary)
    wrong = client(running, token="wrong")
    run(lambda: wrong.recorder.errors)
    assert isinstance(wrong.recorder.errors[0], AuthorizationError)
    assert str(wrong.recorder.errors[0]) == "Authorization Violation"
    assert not wrong.is_connected()
    assert wrong.recorder.count("connect") == 0
    assert connected(running, token="secret").is_connected()


def test_xt_04_server_restart(any_binary, own_server, connected, run):
    running = own_server(binary=any_binary)
    nats, got = connected(running, reconnect=True, reconnect_delay=20), []
    nats.subscribe("ported.restart", lambda s, p, r, h: got.append(p), "q")
    nats.publish("ported.restart", b"before")
    run(lambda: got)
    running.stop()
    run(lambda: nats.recorder.count("disconnect"))
    assert not nats.is_connected()
    nats.publish("ported.restart", b"meanwhile")
    assert nats.waiting_count() == 1
    running.start()
    run(lambda: len(got) == 2)
    nats.publish("ported.restart", b"after")
    run(lambda: len(got) == 3)
    assert got == [b"before", b"meanwhile", b"after"]
    assert nats.recorder.count("connect") == 2


def test_xt_05_concurrent_requests(peer, connected, run):
    nats, other, answers = connected(peer), connected(peer), {}
    other.subscribe("ported.echo", lambda s, p, r, h: other.publish(r, b"re " + p))
    flushed(other, run)
    for n in range(1000):
        nats.request("ported.echo", b"%d" % n, lambda *a, n=n: answers.setdefault(n, a))
    run(lambda: len(answers) == 1000)
    assert answers == {n: (b"re %d" % n, None, None) for n in range(1000)}


def test_xt_06_large_fanout(peer, connected, run):
    nats, counts = connected(peer), Counter()
    for n in range(100):
        nats.subscribe("ported.fanout", lambda *m, n=n: counts.update([n]))
    for _ in range(100):
        nats.publish("ported.fanout")
    run(lambda: counts.total() == 10_000)
    assert counts == dict.fromkeys(range(100), 100)


def test_xt_07_slow_consumer(peer, connected, run):
    nats, pending = connected(peer), []
    nats.slow_consumer(4096, pending.append)
    for _ in range(100):
        nats.publish("ported.slow", b"x" * 1000)
    flushed(nats, run)
    assert len(pending) == 1  # once per crossing, whatever comes on top
    assert pending[0] > 4096
    for _ in range(10):
        nats.publish("ported.slow", b"x" * 1000)
    flushed(nats, run)
    assert len(pending) == 2


def test_xt_08_drain_under_load(peer, connected, run):
    nats, other, got, drained = connected(peer), connected(peer), [], []

    def message(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(int(payload))
        if len(got) == 100:
            nats.drain(drained.append)

    nats.subscribe("ported.load", message)
    flushed(nats, run)
    sent = 0

    def publish() -> None:
        nonlocal sent
        for _ in range(100):
            other.publish("ported.load", b"%d" % sent)
            sent += 1
        if not drained:
            other.call_later(1, publish)

    publish()
    run(lambda: nats.recorder.count("disconnect"))
    assert drained == [None]
    assert len(got) >= 100
    assert got == list(range(len(got)))
    assert not nats.is_connected()
    flushed(other, run)


def test_xt_09_max_payload(peer, connected, run):
    nats, got = connected(peer), []
    limit = nats.max_payload()
    nats.subscribe("ported.limit", lambda s, p, r, h: got.append(len(p)))
    nats.publish("ported.limit", b"x" * (limit - 1))
    nats.publish("ported.limit", b"x" * limit)
    with pytest.raises(MaxPayloadError):
        nats.publish("ported.limit", b"x" * (limit + 1))
    run(lambda: len(got) == 2)
    assert got == [limit - 1, limit]
    flushed(nats, run)


def test_xt_14_lame_duck(any_binary, own_server, connected, run):
    running = own_server(binary=any_binary)
    nats = connected(running)
    running.signal(signal.SIGUSR2)
    run(lambda: nats.recorder.count("lame_duck"))
    assert nats.recorder.events[:2] == ["connect", "lame_duck"]


def test_xt_17_flush_disconnect(peer, connected, proxy, run):
    link, flushed = proxy(peer.port), []
    nats = connected(link)
    link.stall()
    nats.flush(lambda error: flushed.append(str(error)))
    link.cut()
    run(lambda: nats.recorder.count("disconnect"))
    assert flushed == ["disconnected"]
    # And by our own doing.
    again = connected(peer)
    again.flush(lambda error: flushed.append(str(error)))
    again.disconnect()
    run(lambda: again.recorder.count("disconnect"))
    assert flushed == ["disconnected"] * 2


@pytest.mark.slow
def test_the_environment_names_the_server_to_test_with(server):
    env = os.environ | {"TEST_NATS_HOST": server.host, "TEST_NATS_PORT": str(server.port)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    chosen = [*command, "-k", "newest and (02_pubsub or 03_request)"]
    done = subprocess.run(chosen, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
    env["TEST_NATS_PORT"] = str(free_port())
    done = subprocess.run(chosen, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "2 failed" in done.stdout  # nobody listens there
