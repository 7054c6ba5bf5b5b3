"""`Nats.trace`: the way of a message over clients, streams, routes, gateways and leaf nodes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab.natsserver import Cluster, NatsServer, wait_for
from nats_ev import (
    BadHeadersError,
    BadSubjectError,
    ConnectionClosedError,
    Nats,
    NotConnectedError,
    RequestTimeoutError,
    Trace,
    UnsupportedError,
    aio,
)
from nats_ev.testing import free_port

pytestmark = pytest.mark.server


@contextlib.contextmanager
def network() -> Iterator[tuple[Cluster, NatsServer]]:
    """Three servers of a cluster, and a leaf node of the first one."""
    with Cluster(3, config='leafnodes { listen: "127.0.0.1:-1" }') as servers:
        port = servers[0].monitor()["leaf"]["port"]
        remote = f'leafnodes {{ remotes: [ {{ url: "nats-leaf://127.0.0.1:{port}" }} ] }}'
        with NatsServer(name="leaf", config=remote) as leaf:
            wait_for(lambda: leaf.monitor("leafz")["leafnodes"] == 1)
            yield servers, leaf


def links(report: dict[str, Any]) -> dict[str, Any]:
    """The reports of the next servers, by their names."""
    found = [event["link"] for event in report["events"] if event.get("link")]
    return {each["server"]["name"]: each for each in found}


def kinds(report: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(event["type"], event.get("kind")) for event in report["events"]]


def test_over_three_servers_and_a_leaf_node(connected: Any, call: Any, run: Any) -> None:
    with network() as (servers, leaf):
        got: list[Any] = []
        for server in (servers[1], servers[2], leaf):
            there = connected(server, name=f"at {server.name}")
            there.subscribe("orders.*", lambda *message: got.append(message))
            there.flush(lambda err: None)
        nats = connected(servers[1], name="me")

        def whole() -> bool:  # interest spreads on its own time
            trace, err = call(nats.trace, "orders.new", b"x", headers={"A": "b"})
            assert err is None
            reached = {report["server"]["name"] for _, report in trace.reports()}
            return reached == {"n0", "n1", "n2", "leaf"}

        wait_for(whole)
        trace, err = call(nats.trace, "orders.new", b"x", headers={"A": "b"})
        assert err is None
        assert isinstance(trace, Trace)
        assert trace.complete
        assert trace["server"]["name"] == "n1"
        assert trace["request"]["header"]["A"] == ["b"]
        assert kinds(trace)[0] == ("in", 0)
        assert sorted(kinds(trace)[1:]) == [("eg", 0), ("eg", 1), ("eg", 1)]
        assert links(trace).keys() == {"n0", "n2"}
        first = links(trace)["n0"]
        assert kinds(first) == [("in", 1), ("eg", 4)]
        behind = links(first)["leaf"]
        assert kinds(behind) == [("in", 4), ("eg", 0)]
        assert behind["request"]["header"]["Nats-Trace-Hop"] == [
            f"{first['request']['header']['Nats-Trace-Hop'][0]}.1"
        ]
        assert json.loads(json.dumps(trace)) == trace
        lines = str(trace).splitlines()
        assert lines[0].startswith('Client "me" cid:')
        assert 'server:"n1"' in lines[0]
        assert any(line.startswith('--> Router "n0" rid:') for line in lines)
        assert any(line.startswith('    ~~> Leafnode "leaf" lid:') for line in lines)
        assert any(line.startswith('        --C Client "at leaf" cid:') for line in lines)
        assert 'subject:"orders.*"' in lines[-1] or 'subject:"orders.*"' in lines[1]
        assert got == []  # traced only

        trace, err = call(nats.trace, "orders.new", b"x", deliver=True)
        assert trace.complete
        run(lambda: len(got) == 3)
        assert {message[1] for message in got} == {b"x"}


def test_over_a_gateway(connected: Any, call: Any) -> None:
    ports = {name: free_port() for name in "AB"}
    remotes = ", ".join(f'{{ name: {n}, url: "nats://127.0.0.1:{p}" }}' for n, p in ports.items())
    with contextlib.ExitStack() as stack:
        servers = {
            name: stack.enter_context(
                NatsServer(
                    name=f"in-{name}",
                    config=f"gateway {{ name: {name}, listen: '127.0.0.1:{port}', "
                    f"gateways: [{remotes}] }}",
                )
            )
            for name, port in ports.items()
        }
        for server in servers.values():
            wait_for(lambda server=server: server.monitor("gatewayz")["outbound_gateways"])
        there = connected(servers["B"], name="far")
        there.subscribe("x", lambda *message: None)
        there.flush(lambda err: None)
        nats = connected(servers["A"])

        def crossed() -> bool:  # a gateway learns of an inbox on its own time
            trace, err = call(nats.trace, "x", b"", timeout_ms=500)
            assert err is None
            return '==> Gateway "in-B" gid:' in str(trace) and '--C Client "far"' in str(trace)

        wait_for(crossed)


def test_streams_mappings_and_nobody(own_server: Any, connected: Any, call: Any) -> None:
    from nats_ev import JetStream

    config = """accounts { A {
        jetstream: enabled, users: [ {user: a, password: a} ], mappings: { in: s.out } } }"""
    server = own_server(config=config, jetstream=True)
    nats = connected(server, user="a", password="a")
    js = JetStream(nats)
    assert call(js.stream_create, {"name": "S", "subjects": ["s.*"]})[1] is None
    trace, err = call(nats.trace, "in", b"x")
    assert err is None
    assert [event["type"] for event in trace["events"]] == ["in", "sm", "js"]
    assert "    mapped to 's.out'" in str(trace)
    assert '--J JetStream stored stream:"S" subject:"s.out"' in str(trace)
    assert call(js.stream_info, "S")[0]["state"]["messages"] == 0
    trace, err = call(nats.trace, "nobody", b"")
    assert str(trace).splitlines()[1] == "--X no active interest"


def test_what_is_denied_is_in_the_trace(own_server: Any, connected: Any, call: Any) -> None:
    config = """authorization { users = [
        { user: a, password: a, permissions: { publish: { deny: "secret" } } },
        { user: b, password: b, permissions: { subscribe: { deny: "x.y" } } } ] }"""
    server = own_server(config=config)
    there = connected(server, user="b", password="b")
    there.subscribe("x.*", lambda *message: None)
    there.flush(lambda err: None)
    nats = connected(server, user="a", password="a")
    trace, _ = call(nats.trace, "secret", b"")
    assert "--X Permissions Violation for Publish" in str(trace)
    wait_for(lambda: "subscription denies this subject" in str(call(nats.trace, "x.y", b"")[0]))


def test_wrong_calls_change_nothing(server: Any, connected: Any, client: Any) -> None:
    nats = connected(server)
    before = nats.subscription_count()
    for args, error in (
        (("a b", b"", print), BadSubjectError),
        (("a", object(), print), TypeError),
        (("a", b"", 5), TypeError),
    ):
        with pytest.raises(error):
            nats.trace(*args)
    with pytest.raises(BadHeadersError):
        nats.trace("a", b"", lambda trace, err: None, headers=b"no block")
    with pytest.raises(ValueError, match="timeout_ms"):
        nats.trace("a", b"", lambda trace, err: None, -1)
    assert nats.subscription_count() == before
    with pytest.raises(NotConnectedError):
        Nats().trace("a", b"", lambda trace, err: None)


def test_an_old_server_is_not_sent_the_message(line_server: Any, connected: Any, call: Any) -> None:
    nats = connected(line_server("2.10"))
    trace, err = call(nats.trace, "a", b"")
    assert trace is None
    assert isinstance(err, UnsupportedError)
    assert "2.11" in str(err)
    assert nats.stats()["msgs_out"] == 0


# Reports that are missing or no reports, from a scripted server.


def scripted(*reports: Any) -> Any:
    """A server that answers a traced message with these reports."""

    def script(peer: Any) -> None:
        peer.handshake(version="2.12.0", headers=True)
        sid = ""
        while not (line := peer.line()).startswith("HPUB"):
            if line.startswith("SUB _INBOX"):
                sid = line.split()[-1]
        sent = peer.payload(int(line.split()[-1])).decode()
        inbox = sent.split("Nats-Trace-Dest: ")[1].split("\r\n")[0]
        for each in reports:
            text = each if isinstance(each, str) else json.dumps(each)
            peer.send(f"MSG {inbox} {sid} {len(text)}\r\n{text}\r\n")
        peer.at_eof()

    return script


def report(name: str, hop: str = "", *to: str, kind: int = 1, error: str = "") -> dict[str, Any]:
    came: dict[str, Any] = {"type": "in", "kind": kind if hop else 0, "cid": 1, "name": "before"}
    return {
        "server": {"name": name}, "request": {"header": {"Nats-Trace-Hop": [hop]} if hop else None},
        "hops": len(to), "events": [came, *({"type": "eg", "kind": 1, "hop": each} for each in to)],
    }  # fmt: skip


def test_what_has_arrived_by_the_time_out_is_the_trace(
    fake: Any, connected: Any, call: Any
) -> None:
    nats = connected(fake(scripted(report("b", "1", "1.1"), report("a", "", "1", "2"))))
    trace, err = call(nats.trace, "x", b"", timeout_ms=100)
    assert err is None
    assert not trace.complete
    assert [e.get("link", {}) and e["link"]["server"]["name"] for e in trace["events"][1:2]] == [
        "b"
    ]
    assert trace["events"][2]["link"] is None
    assert str(trace).splitlines()[-1] == "(reports are missing)"
    assert "(no report)" in str(trace)


def test_servers_whose_own_report_is_missing_are_known_by_those_after_them(
    fake: Any, connected: Any, call: Any
) -> None:
    nats = connected(fake(scripted(report("d", "1.2.1", kind=4), report("c", "1.1"))))
    trace, err = call(nats.trace, "x", b"", timeout_ms=100)
    assert err is None
    assert trace["missing"]
    assert [each["server"]["name"] for _, each in trace.reports()] == [
        "",
        "before",
        "c",
        "before",
        "d",
    ]


@pytest.mark.parametrize(
    "junk", ["", "[]", "5", "{", '{"events": 5}', '{"events": [], "server": {}}', "[" * 100_000,
             '{"events": [5], "server": {}, "request": {}}', '{"events": [{}], "server": {}}'],
)  # fmt: skip
def test_junk_is_no_report(fake: Any, connected: Any, call: Any, junk: str) -> None:
    nats = connected(fake(scripted(junk)))
    trace, err = call(nats.trace, "x", b"", timeout_ms=50)
    assert trace is None
    assert isinstance(err, RequestTimeoutError)
    assert "no server has reported in 50 ms" in str(err)


@pytest.mark.parametrize(
    "odd",
    [
        {"hops": "many"}, {"hops": 1, "events": [{"type": "eg", "hop": 5}]}, {"events": [{"type": 5}]},
        {"events": [{"type": "eg", "kind": 99, "cid": "x", "name": 5, "hop": "1"}], "hops": 1},
        {"events": [{"type": "eg", "hop": "1"}, {"type": "eg", "hop": "1"}], "hops": 2},
        {"request": {"header": {"Nats-Trace-Hop": "1"}}}, {"request": {"header": {"Nats-Trace-Hop": [5]}}},
        {"request": {"header": {"Nats-Trace-Hop": ["1.1.1.1.1.1"]}}},
        {"request": {"header": {"Nats-Trace-Hop": ["..."]}}},
        {"server": {"name": ["x"], "ver": 5}},
        {"request": {"header": {"Nats-Trace-Hop": [".".join("1" * 500_000)]}}},
        {"events": [{"type": "eg", "hop": "", "link": "x"}, {"type": "eg", "hop": "1.1"}], "hops": 2},
    ],
)  # fmt: skip
def test_odd_reports_end_a_trace_too(fake: Any, connected: Any, call: Any, odd: Any) -> None:
    whole = {**report("a", ""), **odd}
    nats = connected(fake(scripted(whole)))
    trace, err = call(nats.trace, "x", b"", timeout_ms=50)
    assert err is None or isinstance(err, RequestTimeoutError)
    if trace is not None:
        assert str(trace)
        assert list(trace.reports())


def test_reports_that_name_each_other_make_no_circle(fake: Any, connected: Any, call: Any) -> None:
    first, second = report("a", "", "1", "1", ""), report("b", "1", "1", "", "1.1", "1.1")
    nats = connected(fake(scripted(first, second, report("c", "1.1", "1.1", "1"))))
    trace, err = call(nats.trace, "x", b"")
    assert err is None
    assert trace.complete
    assert [each["server"]["name"] for _, each in trace.reports()] == ["a", "b", "c"]
    assert json.dumps(trace)


def test_the_end_of_the_client_ends_a_trace_once(fake: Any, connected: Any, run: Any) -> None:
    nats = connected(fake(lambda peer: (peer.handshake(version="2.12.0"), peer.at_eof())))
    seen: list[Any] = []
    nats.trace("x", b"", lambda *result: seen.append(result), 0)
    nats.disconnect()
    run(lambda: seen)
    assert seen[0][0] is None
    assert isinstance(seen[0][1], ConnectionClosedError)


def test_a_drain_waits_for_a_trace(server: Any, connected: Any, run: Any) -> None:
    nats = connected(server)
    seen: list[str] = []
    nats.trace("x", b"", lambda trace, err: seen.append(f"trace {trace is not None}"))
    nats.drain(lambda err: seen.append(f"drained {err}"))
    run(lambda: len(seen) == 2)
    assert seen == ["trace True", "drained None"]


def test_faces_return_the_trace(server: Any) -> None:
    from nats_ev import blocking

    with blocking.connect(server.url) as nc:
        assert nc.trace("x", b"").complete
        assert nc.user_info()["account"] == "$G"


def test_a_cancelled_trace_leaves_nothing(server: Any, connected: Any, call: Any, run: Any) -> None:
    nats = connected(server)
    before, got = nats.subscription_count(), []
    tracing = nats.trace("nobody.here", b"", lambda *answer: got.append(answer), 0)
    tracing.cancel()
    tracing.cancel()
    assert nats.subscription_count() == before
    assert call(nats.trace, "nobody.here", b"")[1] is None
    assert got == []

    async def cancelled() -> None:
        async with aio.connect(server.url) as nc:
            count = nc.subscription_count()
            task = asyncio.ensure_future(nc.trace("nobody.here", b"", timeout_ms=0))
            await asyncio.sleep(0)
            assert nc.subscription_count() == count + 1
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert nc.subscription_count() == count

    asyncio.run(cancelled())
