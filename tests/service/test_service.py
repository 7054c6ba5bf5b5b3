"""Services (ADR-32): requests, errors, statistics, discovery, stopping; against official clients, too."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from typing import Any

import pytest

from nats_ev import (
    BadOptionsError,
    BadSubjectError,
    ConnectionClosedError,
    Headers,
    NoRespondersError,
    PermissionsViolationError,
    Service,
    ServiceError,
)

ECHO = b"echo me"


def echo(request: Any) -> None:
    request.respond(request.data)


@pytest.fixture
def ask(run):
    """ask(nats, subject, data) → (data, error, Headers) of the one answer."""

    def ask(nats: Any, subject: str, data: Any = b"", headers: Any = None) -> Any:
        got: list[Any] = []
        nats.request(
            subject,
            data,
            lambda *answer: got.append(answer),
            headers=headers,
            no_responders=True,
        )
        run(lambda: got)
        response, error, raw = got[0]
        return response, error, Headers.parse(raw)

    return ask


@pytest.fixture
def discover(run):
    """discover(nats, subject, count) → that many decoded answers."""

    def discover(nats: Any, subject: str, count: int = 1) -> list[Any]:
        found: list[Any] = []
        inbox = nats.new_inbox()
        sid = nats.subscribe(inbox, lambda s, payload, r, h: found.append(json.loads(payload)))
        nats.publish(subject, b"", inbox)
        run(lambda: len(found) >= count)
        done: list[Any] = []
        nats.flush(done.append)
        run(lambda: done)
        nats.unsubscribe(sid)
        return found

    return discover


def test_request_has_subject_data_headers_and_is_answered(connected, server, run, ask):
    nats, seen = connected(server), []

    def handler(request: Any) -> None:
        seen.append((request.subject, request.data, request.headers, request.header("X-A")))
        request.respond(b"yes", {"X-B": "2"})

    service = Service(nats, name="basic", version="1.0.0")
    service.add_endpoint("do", handler)
    service.add_endpoint("wild", echo, subject="basic.*.wild")
    response, error, headers = ask(nats, "do", b"please", {"X-A": "1"})
    assert (response, error, headers["X-B"]) == (b"yes", None, "2")
    assert seen == [("do", b"please", b"NATS/1.0\r\nX-A: 1\r\n\r\n", "1")]
    assert ask(nats, "basic.7.wild", ECHO)[0] == ECHO
    assert ask(nats, "do")[0] == b"yes"
    assert seen[1] == ("do", b"", None, None)


def test_groups_are_prefixes_and_nest(connected, server, run, ask):
    nats = connected(server)
    service = Service(nats, name="grouped", version="1.0.0")
    outer = service.group("grouped.a")
    inner = outer.group("b")
    assert outer.add_endpoint("one", echo).subject == "grouped.a.one"
    assert inner.add_endpoint("two", echo).subject == "grouped.a.b.two"
    assert inner.add_endpoint("three", echo, subject="x.y").subject == "grouped.a.b.x.y"
    assert service.group("").add_endpoint("grouped", echo).subject == "grouped"
    for subject in ("grouped.a.one", "grouped.a.b.two", "grouped.a.b.x.y", "grouped"):
        assert ask(nats, subject, ECHO)[0] == ECHO


def test_queue_group_is_inherited_overridden_and_disabled(connected, server):
    nats = connected(server)
    service = Service(nats, name="queues", version="1.0.0")
    own = Service(nats, name="queues", version="1.0.0", queue_group="own")
    none = Service(nats, name="queues", version="1.0.0", queue_group_disabled=True)
    found = [
        service.add_endpoint("queues-a", echo),
        service.add_endpoint("queues-b", echo, queue_group="e"),
        service.add_endpoint("queues-c", echo, queue_group=None),
        service.add_endpoint("queues-d", echo, queue_group_disabled=True),
        service.group("g", "group").add_endpoint("e", echo),
        service.group("g", "group").group("h").add_endpoint("f", echo),
        service.group("g", queue_group_disabled=True).add_endpoint("g", echo),
        own.add_endpoint("queues-h", echo),
        own.group("i").add_endpoint("i", echo),
        none.add_endpoint("queues-j", echo),
        none.add_endpoint("queues-k", echo, queue_group="back"),
    ]
    groups = [endpoint.queue_group for endpoint in found]
    assert groups == ["q", "e", "", "", "group", "group", "", "own", "own", "", "back"]
    assert [e["queue_group"] for e in none.info()["endpoints"]] == ["", "back"]


def test_one_of_a_queue_group_answers_and_all_without_one(connected, server, run):
    nats, hits = connected(server), []
    for instance in range(3):
        service = Service(nats, name="spread", version="1.0.0")
        service.add_endpoint("one", lambda r, i=instance: hits.append(("one", i)), "spread.one")
        service.add_endpoint(
            "all", lambda r, i=instance: hits.append(("all", i)), "spread.all", queue_group=""
        )
    nats.publish("spread.one")
    nats.publish("spread.all")
    done: list[Any] = []
    nats.flush(done.append)
    run(lambda: done)
    assert sorted(i for name, i in hits if name == "all") == [0, 1, 2]
    assert len([i for name, i in hits if name == "one"]) == 1


def test_respond_error_is_told_by_headers_and_counted(connected, server, ask):
    nats = connected(server)
    service = Service(nats, name="errors", version="1.0.0")
    service.add_endpoint(
        "bad", lambda r: r.respond_error(400, "no good", b"why", {"X-More": "m"}), "errors.bad"
    )
    response, error, headers = ask(nats, "errors.bad")
    assert (response, error) == (b"why", None)
    assert headers.pairs() == [
        ("X-More", "m"),
        ("Nats-Service-Error", "no good"),
        ("Nats-Service-Error-Code", "400"),
    ]
    told = ServiceError.from_headers(headers.encode())
    assert (told.code, told.description, str(told)) == ("400", "no good", "400:no good")
    assert ServiceError.from_headers(None) is None
    assert ServiceError.from_headers({"X": "y"}) is None
    (stats,) = service.stats()["endpoints"]
    assert (stats["num_requests"], stats["num_errors"]) == (1, 1)
    assert stats["last_error"] == "400:no good"


def test_raising_handler_becomes_a_500_and_a_counted_error(connected, server, ask, excepthook):
    nats = connected(server)
    service = Service(nats, name="raising", version="1.0.0")

    def handler(request: Any) -> None:
        raise ValueError("line one\r\nline two")

    def answers_first(request: Any) -> None:
        request.respond(b"first")
        raise KeyError("late")

    def service_error(request: Any) -> None:
        raise ServiceError(404, "not here")

    service.add_endpoint("r", handler, "raising.r")
    service.add_endpoint("s", service_error, "raising.s")
    service.add_endpoint("f", answers_first, "raising.f")
    response, error, headers = ask(nats, "raising.r")
    told = ServiceError.from_headers(headers)
    assert (response, error, told.code, told.description) == (b"", None, "500", "internal error")
    assert [str(exc) for exc in excepthook] == ["line one\r\nline two"]
    told = ServiceError.from_headers(ask(nats, "raising.s")[2])
    assert (told.code, told.description) == ("404", "not here")
    assert len(excepthook) == 1  # this one was meant for the requester
    assert ask(nats, "raising.f")[0] == b"first"
    counted = [(e["num_errors"], e["last_error"]) for e in service.stats()["endpoints"]]
    assert counted == [
        (1, "500:internal error"), (1, "404:not here"), (1, "500:internal error"),
    ]  # fmt: skip


class NoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_raising_handler_is_answered_whatever_its_text(connected, server, ask, excepthook):
    nats = connected(server)
    service = Service(nats, name="texts", version="1.0.0")
    raised: list[Exception] = []

    def handler(request: Any) -> None:
        raise raised[-1]

    service.add_endpoint("t", handler, "texts.t")
    for error, code, description in (
        (ValueError("a\0b"), "500", "internal error"),
        (ValueError(), "500", "internal error"),
        (ValueError("\ud800"), "500", "internal error"),
        (NoText(), "500", "internal error"),
        (ValueError("x" * 2_000_000), "500", "internal error"),
        (ServiceError(400, "a\0b"), "400", "a b"),
        (ServiceError(400, "bad\r\nrequest"), "400", "bad request"),
        (ServiceError("4\n", "\ud800"), "4", "ServiceError"),
        (ServiceError("", ""), "500", "service error"),
    ):
        raised.append(error)
        told = ServiceError.from_headers(ask(nats, "texts.t")[2])
        assert (told.code, told.description) == (code, description)
        (stats,) = service.stats()["endpoints"]
        assert (stats["num_errors"], stats["last_error"]) == (len(raised), f"{code}:{description}")
    assert len(excepthook) == 5


def test_respond_json_and_arguments_of_answers(connected, server, ask):
    nats = connected(server)
    service = Service(nats, name="json", version="1.0.0")
    refused: list[str] = []

    def handler(request: Any) -> None:
        for bad in (object(), float("nan")):
            with pytest.raises((TypeError, ValueError)):
                request.respond_json(bad)
        for code, description in ((None, "x"), (400, None), (400, ""), ("", "x")):
            with pytest.raises((TypeError, BadOptionsError)) as caught:
                request.respond_error(code, description)
            refused.append(str(caught.value))
        request.respond_json({"n": [1, None, "ü"]}, {"X": "y"})

    service.add_endpoint("j", handler, "json.j")
    response, error, headers = ask(nats, "json.j")
    assert json.loads(response) == {"n": [1, None, "ü"]}
    assert (error, headers["X"], len(refused)) == (None, "y", 4)
    assert service.stats()["endpoints"][0]["num_errors"] == 0


@pytest.mark.parametrize("denied", ["denied.e", "$SRV.INFO.*"])
def test_refused_subscription_stops_the_service(own_server, connected, run, denied):
    server = own_server(
        config="authorization { users: [{user: u, password: p, permissions: "
        f'{{ subscribe: {{ deny: ["{denied}"] }} }} }}] }}'
    )
    nats, told, ended = connected(server, user="u", password="p"), [], []
    service = Service(
        nats,
        "refused",
        "1.0.0",
        error_handler=lambda *error: told.append(error),
        done_handler=ended.append,
    )
    service.add_endpoint("good", echo, "good.e")
    service.add_endpoint("bad", echo, "denied.e")
    run(lambda: ended)
    ((which, error),) = told
    assert which is service
    assert isinstance(error, PermissionsViolationError)
    assert nats.recorder.errors == [error]
    assert service.stopped
    assert nats.subscription_count() == 0
    bad = service.stats()["endpoints"][1]
    assert (bad["num_errors"] == 1) == (denied == "denied.e")
    nats.subscribe("denied.e" if denied == "denied.e" else "$SRV.INFO.x", print)
    run(lambda: len(nats.recorder.errors) == 2)
    assert len(told) == 1  # somebody else's


def test_request_may_be_answered_after_the_handler(connected, server, run, ask):
    nats = connected(server)
    service = Service(nats, name="later", version="1.0.0")
    service.add_endpoint(
        "l", lambda request: nats.call_later(30, request.respond, b"at last"), "later.l"
    )
    assert ask(nats, "later.l")[0] == b"at last"
    (stats,) = service.stats()["endpoints"]
    assert stats["processing_time"] >= 30_000_000
    assert stats["average_processing_time"] == stats["processing_time"]


def test_statistics_count_average_and_reset(connected, server, run, ask):
    nats = connected(server)
    service = Service(
        nats, name="stats", version="1.0.0", stats_handler=lambda endpoint: {"of": endpoint.name}
    )
    service.add_endpoint("s", echo, "stats.s")
    nats.publish("stats.s", b"no reply")
    for _ in range(3):
        ask(nats, "stats.s")
    before = service.stats()
    (stats,) = before["endpoints"]
    assert stats["num_requests"] == 4
    assert stats["num_errors"] == 0
    assert stats["last_error"] == ""
    assert stats["average_processing_time"] == stats["processing_time"] // 4 > 0
    assert stats["data"] == {"of": "s"}
    service.reset()
    (stats,) = service.stats()["endpoints"]
    assert (stats["num_requests"], stats["processing_time"]) == (0, 0)
    assert stats["average_processing_time"] == 0
    assert service.stats()["started"] > before["started"]


def test_stats_handler_that_fails_leaves_the_rest(connected, server, discover, excepthook):
    nats = connected(server)
    service = Service(nats, name="badstats", version="1.0.0", stats_handler=lambda e: object())
    service.add_endpoint("x", echo, "badstats.x")
    (answer,) = discover(nats, "$SRV.STATS.badstats")
    assert answer["endpoints"][0]["num_requests"] == 0
    assert "data" not in answer["endpoints"][0]
    assert "not JSON serializable" in str(excepthook[0])


def test_discovery_answers_at_all_three_levels(connected, server, discover):
    nats = connected(server)
    first = Service(nats, "found", "1.2.3-rc.1+b7", "finds", {"zone": "a"})
    second = Service(nats, name="found", version="2.0.0")
    first.add_endpoint("e", echo, "found.e", metadata={"m": "1"})
    identity = {
        "name": "found", "id": first.id, "version": "1.2.3-rc.1+b7", "metadata": {"zone": "a"},
    }  # fmt: skip
    expected = {
        "PING": {"type": "io.nats.micro.v1.ping_response", **identity},
        "INFO": {
            "type": "io.nats.micro.v1.info_response",
            **identity,
            "description": "finds",
            "endpoints": [
                {"name": "e", "subject": "found.e", "queue_group": "q", "metadata": {"m": "1"}}
            ],
        },
    }
    for verb in ("PING", "INFO", "STATS"):
        (answer,) = discover(nats, f"$SRV.{verb}.found.{first.id}")
        if verb == "STATS":
            started = datetime.fromisoformat(answer.pop("started").replace("Z", "+00:00"))
            assert 0 <= (datetime.now(timezone.utc) - started).total_seconds() < 60
            assert answer == {
                "type": "io.nats.micro.v1.stats_response",
                **identity,
                "endpoints": [
                    {
                        "name": "e", "subject": "found.e", "queue_group": "q", "num_requests": 0,
                        "num_errors": 0, "last_error": "", "processing_time": 0,
                        "average_processing_time": 0,
                    }
                ],
            }  # fmt: skip
        else:
            assert answer == expected[verb]
        ids = {a["id"] for a in discover(nats, f"$SRV.{verb}.found", 2)}
        assert ids == {first.id, second.id}
        assert ids <= {a["id"] for a in discover(nats, f"$SRV.{verb}", 2)}


def test_stop_handles_what_is_in_flight_and_then_nothing(connected, server, run, ask):
    nats, requester = connected(server), connected(server)
    ended: list[Any] = []
    service = Service(nats, "stopping", "1.0.0", done_handler=ended.append)
    service.add_endpoint("s", echo, "stopping.s")
    known: list[Any] = []
    nats.flush(known.append)
    run(lambda: known)  # the server has the subscription before the other client asks
    assert ask(requester, "stopping.s", ECHO)[0] == ECHO
    results: list[Any] = []
    answered: list[Any] = []
    for n in range(200):
        requester.request("stopping.s", str(n), lambda *a: answered.append(a), no_responders=True)
    flushed: list[Any] = []
    requester.flush(flushed.append)
    run(lambda: flushed)  # the server has sent them all, or is about to
    service.stop(lambda *result: results.append(result))
    service.stop(lambda *result: results.append(result))
    with pytest.raises(ConnectionClosedError):
        service.add_endpoint("t", echo)
    run(lambda: len(answered) == 200 and ended)
    assert [a[0] for a in answered] == [str(n).encode() for n in range(200)]
    assert results == [(True, None), (True, None)]
    assert ended == [service]
    assert service.stopped
    assert isinstance(ask(requester, "stopping.s")[1], NoRespondersError)
    assert isinstance(ask(requester, "$SRV.PING.stopping")[1], NoRespondersError)
    assert nats.subscription_count() == 0
    assert nats.is_connected()
    service.stop(lambda *result: results.append(result))
    run(lambda: len(results) == 3)


def test_service_ends_with_its_client(connected, server, run):
    nats, ended = connected(server), []
    service = Service(nats, "ends", "1.0.0", done_handler=ended.append)
    service.add_endpoint("x", echo)
    nats.disconnect()
    run(lambda: ended)
    assert service.stopped
    assert nats.subscription_count() == 0
    assert ended == [service]


def test_draining_the_client_answers_what_is_in_flight_and_ends_the_service(connected, server, run):
    nats, requester = connected(server), connected(server)
    ended: list[Any] = []
    answered: list[Any] = []
    service = Service(nats, "draining", "1.0.0", done_handler=ended.append)
    service.add_endpoint("x", echo, "draining.x")
    known: list[Any] = []
    nats.flush(known.append)
    run(lambda: known)
    for n in range(100):
        requester.request("draining.x", str(n), lambda *a: answered.append(a))
    sent: list[Any] = []
    requester.flush(sent.append)
    run(lambda: sent)
    nats.drain()
    run(lambda: len(answered) == 100 and ended)
    assert [a[0] for a in answered] == [str(n).encode() for n in range(100)]
    assert ended == [service]
    with pytest.raises(ConnectionClosedError):
        service.add_endpoint("y", echo)


def test_service_survives_a_reconnect(connected, own_server, run, ask):
    server = own_server()
    nats = connected(server, reconnect=True, reconnect_delay=10)
    service = Service(nats, "again", "1.0.0")
    service.add_endpoint("x", echo, "again.x")
    server.restart()
    run(lambda: nats.recorder.count("connect") == 2)
    assert ask(nats, "again.x", ECHO)[0] == ECHO
    assert not service.stopped


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name": ""}, BadOptionsError),
        ({"name": "a b"}, BadOptionsError),
        ({"name": "a.b"}, BadOptionsError),
        ({"name": "a\n"}, BadOptionsError),
        ({"version": "1.0"}, BadOptionsError),
        ({"version": "01.0.0"}, BadOptionsError),
        ({"version": "1.0.0\n"}, BadOptionsError),
        ({"version": ""}, BadOptionsError),
        ({"metadata": {"a": 1}}, TypeError),
        ({"queue_group": "a b"}, BadSubjectError),
        ({"description": 3}, TypeError),
        ({"metadata": ["a"]}, TypeError),
        ({"stats_handler": 1}, TypeError),
        ({"done_handler": "x"}, TypeError),
        ({"error_handler": b""}, TypeError),
        ({"prefix": "a b"}, BadSubjectError),
        ({"name": "n" * 4060}, BadSubjectError),  # too long for the subject with the id only
    ],
)
def test_bad_service_is_refused_and_leaves_nothing(connected, server, arguments, error):
    nats = connected(server)
    with pytest.raises(error):
        Service(nats, **{"name": "good", "version": "1.0.0", **arguments})
    assert nats.subscription_count() == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name": "a.b"}, BadOptionsError),
        ({"subject": "a..b"}, BadSubjectError),
        ({"subject": "a b"}, BadSubjectError),
        ({"subject": ">.a"}, BadSubjectError),
        ({"queue_group": "a\r\nb"}, BadSubjectError),
        ({"metadata": {1: "a"}}, TypeError),
        ({"handler": None}, TypeError),
    ],
)
def test_bad_endpoint_is_refused_and_leaves_nothing(connected, server, arguments, error):
    nats = connected(server)
    service = Service(nats, name="good", version="1.0.0")
    before = nats.subscription_count()
    with pytest.raises(error):
        service.add_endpoint(**{"name": "e", "handler": echo, **arguments})
    with pytest.raises(BadSubjectError):
        service.group("a.>")
    assert nats.subscription_count() == before
    assert service.info()["endpoints"] == []


def drained(nats: Any, run: Any, sid: int) -> Any:
    done: list[Any] = []
    nats.drain_subscription(sid, done.append)
    run(lambda: done)
    return done[0]


def test_drained_subscription_gets_what_was_sent_and_no_more(connected, server, run):
    nats, got = connected(server), []
    sid = nats.subscribe("drained", lambda s, payload, r, h: got.append(payload))
    for n in range(100):
        nats.publish("drained", str(n))
    assert drained(nats, run, sid) is None
    assert got == [str(n).encode() for n in range(100)]
    assert nats.subscription_count() == 0
    nats.publish("drained")
    assert drained(nats, run, sid) is None  # unknown by now
    assert len(got) == 100


def test_drained_subscription_does_not_come_back_with_a_reconnect(connected, server, run, proxy):
    link = proxy(server.port)
    nats = connected(link, reconnect=True, reconnect_delay=10)
    sid = nats.subscribe("drained", lambda *message: None)
    link.stall()
    done: list[Any] = []
    nats.drain_subscription(sid, done.append)
    link.cut()
    link.resume()
    run(lambda: done and nats.recorder.count("connect") == 2)
    assert str(done[0]) == "disconnected"
    assert nats.subscription_count() == 0


# With official clients.


def shape(value: Any) -> Any:
    """The JSON types of an answer, names included."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return type(value)


def test_discovery_answers_equal_those_of_an_official_service(
    connected, server, run, ask, discover, peer
):
    """Field by field, as they are on the wire: each verb at each level, fresh and after requests."""
    nats = connected(server)
    name = f"same-{peer.name.replace('.', '-')}"
    arguments = {
        "name": name, "version": "1.2.3", "description": "one of two", "metadata": {"zone": "b"},
    }  # fmt: skip

    def answers(id: str) -> dict[str, Any]:
        found = {}
        for subject in ("{}", f"{{}}.{name}", f"{{}}.{name}.{id}"):
            for verb in ("PING", "INFO", "STATS"):
                (answer,) = discover(nats, f"$SRV.{subject.format(verb)}")
                found[f"{verb} {subject.count('.')}"] = normal(answer, id)
        return found

    def used(id: str) -> list[dict[str, Any]]:
        fresh = answers(id)
        for subject in ["peer.echo"] * 3 + ["fail.now"] * 2 + ["crash"] * 2:
            ask(nats, subject, ECHO)
        return [fresh, answers(id)]

    def crash(request: Any) -> None:
        raise ServiceError(418, "teapot")

    theirs = used(peer("svc.start", **arguments))
    peer("svc.stop", name=name)
    service = Service(nats, **arguments)
    service.group("peer").add_endpoint("echo", echo, metadata={"kind": "echo"})
    service.add_endpoint("fail", lambda r: r.respond_error(418, "teapot"), subject="fail.now")
    service.add_endpoint("crash", crash)
    ours = used(service.id)
    assert ours == theirs
    assert len(ours[0]) == 9
    assert [e["num_requests"] for e in ours[1]["STATS 2"]["endpoints"]] == [3, 2, 2]
    for mine, other in zip(ours, theirs, strict=True):
        assert shape(mine) == shape(other)
    call = peer.start("svc.discover", name=name, id=service.id)  # by its own client, too
    run(call.done)
    assert {verb: len(found) for verb, found in call.result().items()} == {
        "ping": 1, "info": 1, "stats": 1,
    }  # fmt: skip


def normal(answer: dict[str, Any], id: str) -> dict[str, Any]:
    """An answer without what differs each time."""
    assert answer["id"] == id
    answer["id"] = "id"
    if "started" in answer:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", answer["started"])
        answer["started"] = "time"
    for endpoint in answer.get("endpoints", ()):
        for field in ("processing_time", "average_processing_time"):
            if field in endpoint:
                assert type(endpoint[field]) is int
                assert endpoint[field] >= 0
                endpoint[field] = 0
        if endpoint["name"] == "fail" and "num_errors" in endpoint:
            # An answer by respond_error counts for nats.go and here, not for these two.
            endpoint["num_errors"], endpoint["last_error"] = 0, ""
        if endpoint.get("last_error"):
            assert "teapot" in endpoint["last_error"]
            endpoint["last_error"] = "teapot"
        # What ADR-32 leaves open and the official clients do in different ways.
        for field in ("metadata", "last_error", "data"):
            if not endpoint.get(field):
                endpoint.pop(field, None)
    return answer


def test_official_client_finds_our_service_and_its_errors(connected, server, run, peer):
    nats = connected(server)
    service = Service(nats, "asked", "1.0.0")
    service.add_endpoint("echo", echo, "asked.echo")
    service.add_endpoint("fail", lambda r: r.respond_error(418, "teapot"), "asked.fail")
    flushed: list[Any] = []
    nats.flush(flushed.append)  # the peer's own connection must find the service
    run(lambda: flushed)
    for subject, expected in (
        ("asked.echo", {"data": "hello", "error": None}),
        ("asked.fail", {"data": "", "error": {"code": "418", "description": "teapot"}}),
    ):
        call = peer.start("svc.request", subject=subject, data="hello")
        run(call.done)
        assert call.result() == expected
    call = peer.start("svc.discover", name="asked")
    run(call.done)
    (stats,) = call.result()["stats"]
    assert [e["num_requests"] for e in stats["endpoints"]] == [1, 1]
    assert stats["endpoints"][1]["last_error"] == "418:teapot"


def test_our_requests_reach_an_official_service(connected, server, ask, discover, peer):
    nats = connected(server)
    name = f"theirs-{peer.name.replace('.', '-')}"
    id = peer("svc.start", name=name, version="1.0.0")
    assert ask(nats, "peer.echo", ECHO)[:2] == (ECHO, None)
    told = ServiceError.from_headers(ask(nats, "fail.now")[2])
    assert (told.code, told.description) == ("418", "teapot")
    assert [a["id"] for a in discover(nats, f"$SRV.PING.{name}")] == [id]
    peer("svc.stop", name=name)
