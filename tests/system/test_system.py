"""`SystemClient`: one server and all of them, pages, accounts, commands, events, and odd answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab import inside
from lab.natsserver import Cluster
from lab.server_versions import LINES, line_binary
from nats_ev import (
    BadOptionsError,
    BadSubjectError,
    ConnectionClosedError,
    Nats,
    NotConnectedError,
    ProtocolError,
    RequestTimeoutError,
    aio,
    blocking,
)
from nats_ev.system import (
    NotSystemAccountError,
    SystemClient,
    SystemRequestError,
    UnknownServerError,
    decode_event,
)

CONFIG = """
accounts {
    SYS { users [ { user: sys, password: p } ] }
    A { jetstream: enabled, users [ { user: a, password: p } ] }
}
system_account: SYS
"""
PAGES = [
    "varz", "statsz", "connz", "routez", "gatewayz", "leafz", "subsz", "accountz", "jsz", "healthz",
    "idz", "expvarz", "ipqueuesz", "raftz",
]  # fmt: skip
SERVERS = 3


@pytest.fixture(scope="module")
def clusters(needs_server: None) -> Iterator[Any]:
    """clusters(line): three servers of a line, for all tests of this module."""
    running: dict[str, Cluster] = {}

    def get(line: str = "newest") -> Cluster:
        if line not in running:
            cluster = Cluster(SERVERS, jetstream=True, config=CONFIG, binary=line_binary(line))
            running[line] = cluster.start()
        return running[line]

    yield get
    for cluster in running.values():
        cluster.remove()


@pytest.fixture
def user(clusters: Any, client: Any, run: Any) -> Any:
    """user("a"): a connected client of the account A; "sys": of the system account."""

    def make(who: str = "sys", line: str = "newest", server: int = 0, **options: Any) -> Nats:
        urls = [clusters(line)[server].url]
        nats = client(None, servers=urls, user=who, password="p", **options)
        run(nats.is_connected)
        return nats  # type: ignore[no-any-return]

    return make


@pytest.mark.parametrize("line", LINES)
def test_each_page_of_one_server_and_of_all(user: Any, call: Any, line: str) -> None:
    system = SystemClient(user(line=line), servers=SERVERS)
    for page in PAGES:
        answer, err = call(getattr(system, page), None)
        assert err is None, page
        assert answer["server"]["name"] == "n0"
        assert answer["data"], page
        answers, err = call(getattr(system, f"{page}_ping"))
        assert err is None, page
        assert {each["server"]["name"] for each in answers} == {"n0", "n1", "n2"}, page
        assert all(each["data"] for each in answers), page
    named, err = call(system.varz_ping, {"server_name": "n1"})
    assert ([each["data"]["server_name"] for each in named], err) == (["n1"], None)
    answer, err = call(system.varz, named[0]["server"]["id"])
    assert (answer["server"]["name"], err) == ("n1", None)
    answer, err = call(system.profilez, None, {"name": "goroutine", "debug": 1})
    assert err is None
    assert answer["data"]["profile"]


def test_without_the_number_silence_ends_it(user: Any, call: Any) -> None:
    answers, err = call(SystemClient(user(), stall=300).idz_ping)
    assert (len(answers), err) == (SERVERS, None)


@pytest.mark.parametrize("line", ["newest", "2.10"])
def test_all_pages(user: Any, call: Any, line: str) -> None:
    """More connections than a page has, on each server."""
    others = [user("a", line, number % SERVERS) for number in range(21)]
    for number, nats in enumerate(others):
        nats.subscribe(f"of.{number}", lambda *message: None)
        assert call(lambda cb, nats=nats: nats.flush(lambda err: cb(None, err)))[1] is None
    system = SystemClient(user(line=line), servers=SERVERS)
    mine = {nats.client_id() for nats in others[::SERVERS]}
    for limit in (1, 2, 3, 100):
        answer, err = call(system.all_connz, None, {"limit": limit})
        assert err is None
        connections = [each["cid"] for each in answer["data"]["connections"]]
        assert len(set(connections)) == len(connections)
        assert mine < set(connections)
    answer, err = call(system.all_connz, None, {"limit": 2, "sort": "subs"})
    assert (bool(answer["data"]["connections"]), err) == (True, None)
    answers, err = call(system.all_connz_ping, {"limit": 3, "acc": "A", "auth": True})
    assert err is None
    assert [len(each["data"]["connections"]) for each in answers] == [7] * SERVERS
    answers, err = call(system.all_connz_ping, {"limit": 3, "server_name": "n2"})
    assert ([each["server"]["name"] for each in answers], err) == (["n2"], None)
    answer, err = call(system.all_subsz, None, {"limit": 3})
    assert err is None
    subjects = {each["subject"] for each in answer["data"]["subscriptions_list"]}
    assert {f"of.{number}" for number in range(0, 21, SERVERS)} < subjects
    answers, err = call(system.all_subsz_ping, {"limit": 50, "account": "A"})
    assert (len(answers), err) == (SERVERS, None)
    answers, err = call(system.all_jsz_ping, {"limit": 1})
    assert err is None
    for each in answers:
        assert {account["name"] for account in each["data"]["account_details"]} >= {"A"}
    answer, err = call(system.all_jsz, None)
    assert err is None


def test_accounts(user: Any, call: Any) -> None:
    user("a")
    system = SystemClient(user(), servers=SERVERS)
    for what in ("connz", "subsz", "leafz", "jsz", "info"):
        answers, err = call(getattr(system, f"account_{what}"), "A")
        assert (len(answers), err) == (SERVERS, None), what
    one = SystemClient(user())
    answers, err = call(one.account_statz, "A")
    assert err is None
    assert answers[0]["data"]["account_statz"][0]["acc"] == "A"
    answers, err = call(one.account_statz_ping, {"accounts": ["A"]})
    assert err is None
    # What the servers say is an error stands in the list.
    answers, err = call(system.account_jsz, "NOBODY")
    assert err is None
    assert all(each["error"]["code"] == 500 for each in answers)


def test_a_user_of_another_account(user: Any, call: Any) -> None:
    system = SystemClient(user("a"))
    for method, *args in (
        (system.varz, None),
        (system.varz, "NOBODY"),
        (system.varz_ping,),
        (system.all_connz, None),
        (system.all_connz_ping,),
        (system.account_info, "A"),
        (system.kick, None, 1),
        (system.reload, None),
    ):
        result, err = call(method, *args)
        assert result is None
        assert isinstance(err, NotSystemAccountError), method
        assert "system account" in str(err)


def test_an_unknown_server_and_bad_options(user: Any, call: Any) -> None:
    system = SystemClient(user())
    assert isinstance(call(system.varz, "NOBODY")[1], UnknownServerError)
    assert isinstance(call(system.all_subsz, "NOBODY")[1], UnknownServerError)
    _, err = call(system.connz, None, {"limit": "many"})
    assert isinstance(err, SystemRequestError)
    assert (err.code, err.server) == (400, "n0")
    answers, err = call(system.connz_ping, {"limit": "many"})
    assert err is None
    assert {each["error"]["code"] for each in answers} == {400}
    assert not any("data" in each for each in answers)


def test_commands(user: Any, call: Any, run: Any) -> None:
    lost: list[Any] = []
    warned: list[Any] = []
    other = user(
        "a",
        on_disconnect=lambda: lost.append(None),
        on_lame_duck=lambda: warned.append(None),
        reconnect=True,
    )
    system = SystemClient(user())
    answer, err = call(system.ldm, None, other.client_id())
    assert (set(answer), err) == ({"server"}, None)
    run(lambda: warned)
    answer, err = call(system.kick, None, other.client_id())
    assert err is None
    run(lambda: lost)
    _, err = call(system.kick, None, 999_999)
    assert isinstance(err, SystemRequestError)
    assert err.code == 500


def test_reload(own_server: Any, connected: Any, call: Any) -> None:
    server = own_server(config=CONFIG)
    nats = connected(server, user="sys", password="p")
    answer, err = call(SystemClient(nats).reload, None)
    assert (set(answer), err) == ({"server"}, None)


def test_events(user: Any, call: Any, run: Any, client: Any, clusters: Any) -> None:
    nats = user()
    system, got = SystemClient(nats), []
    for kind in ("connect", "disconnect", "connections", "auth_error"):
        system.events(kind, lambda *event: got.append(event))
    system.events("connect", lambda event, err: got.append(("of A", event)), of="A")
    assert call(lambda cb: nats.flush(lambda err: cb(None, err)))[1] is None
    other = user("a", name="watched")
    other_id = other.client_id()
    other.disconnect()
    client(None, servers=clusters().urls, user="a", password="wrong")
    run(
        lambda: (
            {event[0].kind for event in got if event[0] != "of A"}
            >= {"connect", "disconnect", "auth_error"}
        )
    )
    assert all(err is None for event, err in got if event != "of A")
    ended = next(event for event, _ in got if event != "of A" and event.kind == "disconnect")
    assert (ended.of, ended.server["name"], ended.data["client"]["id"]) == ("A", "n0", other_id)
    assert ended.time is not None
    assert any(event[0] == "of A" for event in got)
    with pytest.raises(BadOptionsError, match="connect"):
        system.events("conect", lambda event, err: None)
    with pytest.raises(BadSubjectError):
        system.events("connect", lambda event, err: None, of="a.b")


def test_the_end_of_a_server(own_server: Any, connected: Any, run: Any, call: Any) -> None:
    with Cluster(2, config=CONFIG) as servers:
        nats = connected(servers[0], user="sys", password="p")
        system, got = SystemClient(nats), []
        for kind in ("shutdown", "statsz"):
            system.events(kind, lambda event, err: got.append(event))
        assert call(lambda cb: nats.flush(lambda err: cb(None, err)))[1] is None
        [other], err = call(system.varz_ping, {"server_name": "n1"})
        assert err is None
        servers[1].stop()
        run(lambda: any(event.kind == "shutdown" for event in got))
        ended = next(event for event in got if event.kind == "shutdown")
        assert ended.of == other["server"]["id"]
        assert ended.server["name"] == "n1"


ODD = [
    b"", b"{", b"[]", b"null", b"\xff", b"{}", b'{"server": 1}', b'{"server": {}}',
    b'{"server": {"id": 1}}', b'{"server": {"id": "\\ud800"}}', b'{"server": {"id": "x"}, "data": 1}',
    b'{"server": {"id": "x"}, "error": 1}', b'{"server": {"id": "x"}, "error": {"code": "1"}}',
    b'{"server": {"id": "x", "name": 1}}', b"[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_odd_answers(server: Any, connected: Any, call: Any, run: Any, odd: bytes) -> None:
    """From another client that has subscribed to the servers' subjects, in an ordinary account."""
    there = connected(server)
    there.subscribe("$SYS.REQ.>", lambda s, p, reply, h: there.publish(reply, odd))
    there.subscribe("events.>", lambda *message: None)
    assert call(lambda cb: there.flush(lambda err: cb(None, err)))[1] is None
    nats = connected(server)
    system = SystemClient(nats, servers=1)
    result, err = call(system.varz, "X")
    assert (result, type(err)) == (None, ProtocolError)
    result, err = call(system.all_connz, "X")
    assert (result, type(err)) == (None, ProtocolError)
    assert call(system.varz_ping) == ([], None)
    assert call(system.all_subsz_ping) == ([], None)
    assert [type(error) for error in nats.recorder.errors] == [ProtocolError] * 2


@pytest.mark.parametrize("odd", ODD[:7], ids=range(7))
def test_odd_events(server: Any, connected: Any, call: Any, run: Any, odd: bytes) -> None:
    nats, got = connected(server), []
    SystemClient(nats).events("connect", lambda *event: got.append(event))
    nats.publish("$SYS.ACCOUNT.A.CONNECT", odd)
    run(lambda: got)
    assert [(event, type(err)) for event, err in got] == [(None, ProtocolError)]
    with pytest.raises(ProtocolError):
        decode_event("connect", "$SYS.ACCOUNT.A.CONNECT", odd)


@pytest.mark.parametrize(
    "data",
    [
        {"connections": 1, "total": 1},
        {"connections": [1], "total": "x"},
        {"connections": [{"cid": 1}, {"cid": 2}], "total": 2**40},
        {"connections": [{"cid": [1]}], "total": 9},
    ],
)
def test_pages_that_never_end(server: Any, connected: Any, call: Any, data: Any) -> None:
    there = connected(server)
    answer = json.dumps({"server": {"id": "X"}, "data": data})
    there.subscribe("$SYS.REQ.>", lambda s, p, reply, h: there.publish(reply, answer))
    assert call(lambda cb: there.flush(lambda err: cb(None, err)))[1] is None
    result, err = call(SystemClient(connected(server)).all_connz, "X")
    assert (result, type(err)) == (None, ProtocolError)


def test_two_pages_that_are_the_same_by_chance(server: Any, connected: Any, call: Any) -> None:
    """Servers don't order what is equal."""
    there = connected(server)
    pages = iter([1, 1, 2, 2, 1])

    def answer(subject: str, payload: bytes, reply: str, headers: Any) -> None:
        data = {"connections": [{"cid": next(pages)}], "total": 5}
        there.publish(reply, json.dumps({"server": {"id": "X"}, "data": data}))

    there.subscribe("$SYS.REQ.SERVER.X.CONNZ", answer)
    assert call(lambda cb: there.flush(lambda err: cb(None, err)))[1] is None
    opts = {"limit": 1, "sort": "subs"}
    result, err = call(SystemClient(connected(server)).all_connz, "X", opts)
    assert err is None
    assert [each["cid"] for each in result["data"]["connections"]] == [1, 1, 2, 2, 1]


def test_a_list_that_changes_begins_again(server: Any, connected: Any, call: Any) -> None:
    """The second page does not begin with the last item of the first, once."""
    there = connected(server)
    cids = list(range(1, 11))
    asked: list[int] = []

    def answer(subject: str, payload: bytes, reply: str, headers: Any) -> None:
        opts = json.loads(payload)
        asked.append(opts["offset"])
        if len(asked) == 2:
            cids.remove(2)
        page = [{"cid": cid} for cid in cids[opts["offset"] : opts["offset"] + 4]]
        data = {"connections": page, "total": len(cids)}
        there.publish(reply, json.dumps({"server": {"id": "X"}, "data": data}))

    there.subscribe("$SYS.REQ.SERVER.X.CONNZ", answer)
    assert call(lambda cb: there.flush(lambda err: cb(None, err)))[1] is None
    result, err = call(SystemClient(connected(server)).all_connz, "X")
    assert err is None
    assert [each["cid"] for each in result["data"]["connections"]] == cids
    assert asked == [0, 3, 0, 3, 6]


def test_a_server_that_answers_twice_counts_once(server: Any, connected: Any, call: Any) -> None:
    """Another account of a server may import the subjects: its answer comes over two ways, then."""
    nats, there = connected(server), connected(server)

    def answer(subject: str, payload: bytes, reply: str, headers: Any) -> None:
        asked = subject.split(".")[3]
        for each in ("ONE", "ONE", "TWO") if asked == "PING" else (asked,):
            data = {"connections": [{"cid": 1}], "total": 1}
            there.publish(reply, json.dumps({"server": {"id": each}, "data": data}))

    there.subscribe("$SYS.REQ.SERVER.>", answer)
    assert call(lambda cb: there.flush(lambda err: cb(None, err)))[1] is None
    system = SystemClient(nats)
    for method in (system.connz_ping, system.all_connz_ping):
        answers, err = call(method)
        assert err is None
        ids = [each["server"]["id"] for each in answers if len(each["server"]["id"]) == 3]
        assert sorted(ids) == ["ONE", "TWO"]


def test_silence_cancelling_and_the_end(server: Any, connected: Any, call: Any, run: Any) -> None:
    there = connected(server)
    there.subscribe("$SYS.REQ.>", lambda *message: None)
    assert call(lambda cb: there.flush(lambda err: cb(None, err)))[1] is None
    nats = connected(server)
    system = SystemClient(nats, timeout=50)
    for method, *args in ((system.varz, "X"), (system.varz_ping,), (system.all_subsz_ping,)):
        assert isinstance(call(method, *args)[1], RequestTimeoutError)
    got: list[Any] = []
    system = SystemClient(nats, timeout=0)
    for method, *args in (
        (system.varz, "X"),
        (system.varz_ping,),
        (system.all_connz, "X"),
        (system.all_connz_ping,),
    ):
        asking = method(*args, cb=lambda *answer: got.append(answer))
        asking.cancel()
        asking.cancel()
    assert inside.waiting_requests(nats) == 0
    assert isinstance(call(SystemClient(nats, timeout=50).varz, "X")[1], RequestTimeoutError)
    assert got == []
    lasting = SystemClient(nats, timeout=0)
    lasting.varz("X", lambda *answer: got.append(answer))
    lasting.varz_ping(lambda *answer: got.append(answer))
    lasting.all_subsz_ping(lambda *answer: got.append(answer))
    nats.call_soon(nats.disconnect)
    run(lambda: len(got) == 3)
    assert all(isinstance(err, ConnectionClosedError) for _, err in got)


def test_mistakes_are_raised(server: Any, connected: Any) -> None:
    system = SystemClient(connected(server))

    def cb(result: Any, err: Any) -> None:
        raise AssertionError

    with pytest.raises(TypeError):
        SystemClient(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        system.varz(1, cb)  # type: ignore[arg-type]
    with pytest.raises(BadSubjectError):
        system.varz("a.b", cb)
    with pytest.raises(TypeError):
        system.varz(None)
    with pytest.raises(BadOptionsError):
        system.connz(None, {"limit": object()}, cb)
    with pytest.raises(TypeError):
        system.connz(None, [1], cb)  # type: ignore[arg-type]
    with pytest.raises(BadOptionsError, match="offset"):
        system.all_connz(None, {"offset": 3}, cb)
    with pytest.raises(TypeError):
        system.kick(None, "1", cb)  # type: ignore[arg-type]
    with pytest.raises(BadSubjectError):
        system.account_info("*", cb)
    with pytest.raises(NotConnectedError):
        SystemClient(Nats()).varz(None, cb)


def test_in_the_faces(clusters: Any) -> None:
    options = {"user": "sys", "password": "p"}
    with blocking.connect(clusters().urls, **options) as nc:
        system = blocking.SystemClient(nc, servers=SERVERS)
        assert len(system.varz_ping()) == SERVERS
        assert system.varz(None)["data"]["version"]
        with pytest.raises(UnknownServerError):
            system.varz("NOBODY")

    async def ask() -> Any:
        async with aio.connect(clusters().urls, **options) as nc:
            system = aio.SystemClient(nc, servers=SERVERS)
            events = system.events("connect", of="A")
            await nc.flush()
            async with aio.connect(clusters().urls, user="a", password="p", name="seen"):
                async for event in events:
                    if event.data["client"].get("name") == "seen":
                        break
            return [len(await system.all_connz_ping({"limit": 1})), event.kind]

    assert asyncio.run(ask()) == [SERVERS, "connect"]
