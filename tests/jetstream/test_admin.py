"""Administration in a cluster: leaders step down, peers are removed, moves end and are cancelled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab.natsserver import Cluster
from lab.server_versions import LINES, line_binary
from nats_ev import (
    APIError,
    BadOptionsError,
    JetStream,
    NatsError,
    RequestTimeoutError,
    StreamNotFoundError,
    aio,
)

pytestmark = [pytest.mark.server, pytest.mark.slow]

CONFIG = """
accounts {
    SYS { users [ { user: sys, password: p } ] }
    A { jetstream: enabled, users [ { user: a, password: p } ] }
}
system_account: SYS
"""


@pytest.fixture(scope="module")
def clusters(needs_server: None) -> Iterator[Any]:
    """clusters(line): three servers of a line, for all tests of this module."""
    running: dict[str, Cluster] = {}

    def get(line: str) -> Cluster:
        if line not in running:
            cluster = Cluster(3, jetstream=True, config=CONFIG, binary=line_binary(line))
            running[line] = cluster.start()
        return running[line]

    yield get
    for cluster in running.values():
        cluster.remove()


@pytest.fixture
def user(clusters: Any, client: Any, run: Any, call: Any) -> Iterator[Any]:
    """user(line, "a"): the JetStream of a user; streams are deleted at the end."""
    made: list[JetStream] = []

    def make(line: str = "newest", name: str = "a", **options: Any) -> JetStream:
        nats = client(None, **clusters(line).options, user=name, password="p")
        run(nats.is_connected)
        made.append(JetStream(nats, timeout=options.pop("timeout", 10_000)))
        return made[-1]

    yield make
    for js in made[:1]:
        for name in call(js.stream_names)[0] or ():
            call(js.stream_delete, name)


def replicated(js: JetStream, call: Any, replicas: int) -> dict[str, Any]:
    """Create S on some servers, with a consumer d, and wait until all is there."""
    config = {"name": "S", "subjects": ["s"], "num_replicas": replicas}
    until = time.monotonic() + 60
    # The leader of the cluster may not have heard yet that all servers are there.
    while (err := call(js.stream_create, config)[1]) is not None:
        assert "no suitable peers" in str(err)
        assert time.monotonic() < until
    assert call(js.consumer_create, "S", {"durable_name": "d"})[1] is None
    assert call(js.wait_until_converged, "S", consumer="d", timeout=30_000)[1] is None
    info, err = call(js.wait_until_converged, "S", timeout=30_000)
    assert err is None
    return info  # type: ignore[no-any-return]


def servers(info: dict[str, Any]) -> set[str]:
    return {info["cluster"]["leader"], *(peer["name"] for peer in info["cluster"]["replicas"])}


@pytest.mark.parametrize("line", LINES)
def test_leaders_step_down(user: Any, call: Any, eventually: Any, line: str) -> None:
    js = user(line)
    before = replicated(js, call, 3)["cluster"]["leader"]
    assert call(js.stream_leader_stepdown, "S") == ({"type": any_text, "success": True}, None)
    info, err = call(js.wait_until_converged, "S", timeout=30_000)
    assert err is None
    assert info["cluster"]["leader"] != before
    assert call(js.consumer_leader_stepdown, "S", "d")[0]["success"]
    assert call(js.wait_until_converged, "S", consumer="d", timeout=30_000)[1] is None
    if line != "2.10":  # the server chooses by placement
        wanted = info["cluster"]["replicas"][0]["name"]
        assert call(js.stream_leader_stepdown, "S", {"preferred": wanted})[1] is None

        def leads() -> bool:
            found, _ = call(js.wait_until_converged, "S", timeout=30_000)
            return bool(found["cluster"]["leader"] == wanted)

        eventually(leads)
    assert isinstance(call(js.stream_leader_stepdown, "NO")[1], StreamNotFoundError)


class _AnyText:
    def __eq__(self, other: object) -> bool:
        return isinstance(other, str)

    __hash__ = None  # type: ignore[assignment]


any_text = _AnyText()


@pytest.mark.parametrize("line", LINES)
def test_a_peer_is_replaced(user: Any, call: Any, line: str) -> None:
    js = user(line)
    before = servers(replicated(js, call, 2))
    peer = sorted(before)[0]
    looks: list[Any] = []
    assert call(js.stream_peer_remove, "S", peer)[1] is None
    info, err = call(js.wait_until_converged, "S", timeout=60_000, progress=looks.append)
    assert err is None
    assert looks[-1] == info
    # The removed one may be in the answer for a moment.
    while peer in servers(info):
        info, err = call(js.wait_until_converged, "S", timeout=60_000)
        assert err is None
    assert len(servers(info)) == 2
    assert isinstance(call(js.stream_peer_remove, "S", "nobody")[1], APIError)


@pytest.mark.since(2, 15)
def test_a_stream_is_evacuated(user: Any, call: Any, eventually: Any) -> None:
    js = user()
    before = servers(replicated(js, call, 2))
    peer = sorted(before)[0]
    assert call(js.stream_peer_evacuate, "S", peer)[1] is None

    def is_gone() -> bool:
        info, err = call(js.wait_until_converged, "S", timeout=60_000)
        assert err is None
        return peer not in servers(info)

    eventually(is_gone)
    _, err = call(js.stream_cancel_move, "S")
    assert isinstance(err, APIError)
    assert err.err_code == 10129
    assert call(js.stream_update, {"name": "S", "subjects": ["s"], "num_replicas": 1})[1] is None
    info, err = call(js.wait_until_converged, "S", timeout=60_000)
    assert (info["cluster"].get("replicas") or [], err) == ([], None)


def test_the_leader_of_all_steps_down(user: Any, call: Any, clusters: Any, eventually: Any) -> None:
    js = user(name="sys")
    before = clusters("newest").leader().name
    answer, err = call(js.meta_leader_stepdown)
    assert (answer["success"], err) == (True, None)

    def another() -> bool:
        leader = clusters("newest").leader()
        return leader is not None and leader.name != before

    eventually(another)
    clusters("newest").wait_until_ready()
    other = user(timeout=300)
    _, err = call(other.meta_leader_stepdown)
    assert isinstance(err, RequestTimeoutError)
    assert "system account" in str(err)
    _, err = call(js.meta_peer_remove, "nobody")
    assert isinstance(err, APIError)


@pytest.mark.since(2, 15)
def test_a_server_is_evacuated(client: Any, run: Any, call: Any, eventually: Any) -> None:
    with Cluster(3, jetstream=True, config=CONFIG) as servers_:
        made = []
        for who in ("a", "sys"):
            nats = client(None, **servers_.options, user=who, password="p")
            run(nats.is_connected)
            made.append(JetStream(nats, timeout=10_000))
        js, system = made
        peer = sorted(servers(replicated(js, call, 2)))[0]
        answer, err = call(system.meta_peer_evacuate, peer)
        assert (answer["success"], err) == (True, None)

        def is_gone() -> bool:
            info, err = call(js.wait_until_converged, "S", timeout=60_000)
            assert err is None
            return peer not in servers(info)

        eventually(is_gone)


def test_waiting_ends(user: Any, call: Any, run: Any) -> None:
    js = user()
    _, err = call(js.wait_until_converged, "NO")
    assert isinstance(err, StreamNotFoundError)
    assert call(js.stream_create, {"name": "S", "subjects": ["s"]})[1] is None
    got: list[Any] = []
    wait = js.wait_until_converged("S", lambda *answer: got.append(answer))
    wait.cancel()
    wait.cancel()
    wait = js.wait_until_converged(
        "S", lambda *answer: got.append(answer), progress=lambda info: wait.cancel()
    )
    assert call(js.wait_until_converged, "S")[1] is None
    assert call(js.wait_until_converged, "S")[1] is None
    assert got == []


def test_mistakes_are_raised(user: Any) -> None:
    js = user()

    def cb(result: Any, err: Any) -> None:
        raise AssertionError

    with pytest.raises(BadOptionsError):
        js.stream_leader_stepdown("S", {"cluste": "x"}, cb)
    with pytest.raises(BadOptionsError):
        js.stream_leader_stepdown("a.b", cb)
    with pytest.raises(TypeError):
        js.stream_leader_stepdown("S")
    with pytest.raises(TypeError):
        js.stream_peer_remove("S", 1, cb)
    with pytest.raises(BadOptionsError):
        js.stream_peer_remove("S", "", cb)
    with pytest.raises(BadOptionsError):
        js.meta_peer_remove("", cb)
    with pytest.raises(BadOptionsError):
        js.wait_until_converged("S", cb, timeout=-1)
    with pytest.raises(TypeError):
        js.wait_until_converged("S", cb, progress=1)


def test_in_aio(clusters: Any) -> None:
    async def ask() -> Any:
        async with aio.connect(clusters("newest").urls, user="a", password="p") as nc:
            js = nc.jetstream()
            await js.stream_create({"name": "S", "subjects": ["s"], "num_replicas": 3})
            await js.wait_until_converged("S")
            answer = await js.stream_leader_stepdown("S")
            await js.wait_until_converged("S")
            await js.stream_delete("S")
            return answer

    assert asyncio.run(ask())["success"]


def test_a_replicated_stream_is_copied_while_its_leader_steps_down(
    user: Any, call: Any, run: Any
) -> None:
    """The copy is complete, or there is an error; the restored stream has as many replicas."""
    js = user()
    replicated(js, call, 3)
    for number in range(300):
        js.publish_async("s", b"%06d" % number * 500, lambda ack, err: None)
    assert call(js.publish_complete) == (True, None)
    got: list[Any] = []
    pieces: list[bytes] = []
    small = {"chunk_size": 1024, "window_size": 4096}
    js.stream_snapshot("S", pieces.append, lambda *answer: got.append(answer), **small)
    run(lambda: pieces)
    assert call(js.stream_leader_stepdown, "S")[1] is None
    run(lambda: got)
    [(backup, err)] = got
    if err is not None:
        assert isinstance(err, NatsError)
        pieces.clear()
        assert call(js.wait_until_converged, "S", timeout=30_000)[1] is None
        backup, err = call(js.stream_snapshot, "S", pieces.append)
        assert err is None
    assert call(js.stream_delete, "S")[1] is None
    info, err = call(js.stream_restore, backup, pieces)
    assert err is None
    info, err = call(js.wait_until_converged, "S", timeout=30_000)
    assert (info["state"]["messages"], len(servers(info)), err) == (300, 3, None)
    assert call(js.consumer_names, "S") == (["d"], None)
