"""`ServiceClient`: who is there, what they tell of themselves, and answers that are none."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from nats_ev import (
    BadOptionsError,
    BadSubjectError,
    ConnectionClosedError,
    ProtocolError,
    RequestTimeoutError,
    Service,
    ServiceClient,
    ServiceError,
    aio,
    blocking,
)


@pytest.fixture
def there(connected: Any, server: Any, run: Any) -> Any:
    """there(): a client for services; there(subject, payload): one that answers so."""

    def make(subject: str = "", payload: Any = b"", headers: Any = None) -> Any:
        nats = connected(server)
        if subject:
            nats.subscribe(
                subject, lambda s, p, reply, h: nats.publish(reply, payload, headers=headers)
            )
        return nats

    return make


@pytest.fixture
def settle(run: Any) -> Any:
    """settle(nats): wait until the server knows all subscriptions."""

    def settle(nats: Any) -> None:
        done: list[Any] = []
        nats.flush(done.append)
        run(lambda: done)

    return settle


def two_services(nats: Any) -> tuple[Service, Service]:
    first = Service(nats, "orders", "1.2.3", "takes orders", {"zone": "a"})
    first.add_endpoint("new", lambda request: request.respond(b"ok"), "orders.new")
    return first, Service(nats, "stock", "0.1.0")


def test_ping_info_and_stats(
    connected: Any, server: Any, call: Any, run: Any, there: Any, settle: Any
) -> None:
    other = there()
    first, second = two_services(other)
    settle(other)
    client = ServiceClient(connected(server))
    found, err = call(client.ping)
    assert err is None
    assert sorted(each["name"] for each in found) == ["orders", "stock"]
    assert call(client.ping, name="orders") == ([first.ping()], None)
    assert call(client.info, name="orders", id=first.id) == ([first.info()], None)
    assert call(client.stats, name="orders") == ([first.stats()], None)
    assert call(client.stats, name="stock") == ([second.stats()], None)
    assert call(client.ping, name="orders", id=second.id) == ([], None)


def test_nobody_is_an_empty_list_at_once(
    connected: Any, server: Any, call: Any, run: Any, there: Any, settle: Any
) -> None:
    client = ServiceClient(connected(server), timeout=0, prefix="$OTHER")
    assert call(client.ping) == ([], None)


def test_a_known_number_ends_the_request(
    connected: Any, server: Any, call: Any, run: Any, there: Any, settle: Any
) -> None:
    other = there()
    two_services(other)
    settle(other)
    client = ServiceClient(connected(server), timeout=0, stall=0, max_answers=2)
    found, err = call(client.ping)
    assert (len(found), err) == (2, None)


ODD = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff",
    b'{"type": "io.nats.micro.v1.ping_response"}',
    b'{"type": "io.nats.micro.v1.info_response", "name": "a", "id": "b", "version": "c"}',
    b'{"type": "io.nats.micro.v1.ping_response", "name": 1, "id": "b", "version": "c"}',
    b'{"type": "io.nats.micro.v1.ping_response", "name": "", "id": "b", "version": "c"}',
    b'{"type": "io.nats.micro.v1.ping_response", "name": "\\ud800", "id": "b", "version": "c"}',
    b'{"type": "io.nats.micro.v1.ping_response", "name": "a", "id": "b", "version": "c", "metadata": [1]}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_an_answer_that_is_none_is_reported(
    connected: Any, server: Any, call: Any, run: Any, there: Any, settle: Any, odd: bytes
) -> None:
    other = there("$SRV.PING", odd)
    good = Service(other, "good", "1.0.0")
    settle(other)
    nats = connected(server)
    assert call(ServiceClient(nats).ping) == ([good.ping()], None)
    assert [type(error) for error in nats.recorder.errors] == [ProtocolError]


@pytest.mark.parametrize(
    "endpoints",
    [1, [1], [{}], [{"name": "a", "subject": "b", "num_requests": "3"}], [{"name": "a"}]],
)
def test_odd_endpoints_are_reported(
    connected: Any, server: Any, call: Any, run: Any, there: Any, settle: Any, endpoints: Any
) -> None:
    answer = {"type": "io.nats.micro.v1.stats_response", "name": "a", "id": "b", "version": "1.0.0"}
    odd = json.dumps({**answer, "endpoints": endpoints})
    settle(there("$SRV.STATS", odd))
    nats = connected(server)
    assert call(ServiceClient(nats).stats) == ([], None)
    assert [type(error) for error in nats.recorder.errors] == [ProtocolError]


def test_what_is_missing_is_added(
    connected: Any, server: Any, call: Any, run: Any, there: Any, settle: Any
) -> None:
    answer = {"type": "io.nats.micro.v1.stats_response", "name": "a", "id": "b", "version": "1.0.0"}
    odd = json.dumps({**answer, "metadata": None, "endpoints": [{"name": "x", "subject": "y"}]})
    settle(there("$SRV.STATS", odd))
    [found], err = call(ServiceClient(connected(server)).stats)
    assert err is None
    assert (found["metadata"], found["started"]) == ({}, "")
    assert found["endpoints"][0]["num_requests"] == 0


def test_an_error_as_an_answer_is_reported(
    connected: Any, server: Any, call: Any, run: Any, there: Any, settle: Any
) -> None:
    error = {"Nats-Service-Error": "no", "Nats-Service-Error-Code": "500"}
    settle(there("$SRV.PING", b"", error))
    nats = connected(server)
    assert call(ServiceClient(nats).ping) == ([], None)
    assert [str(each) for each in nats.recorder.errors] == [str(ServiceError(500, "no"))]


def test_silence_and_the_end_of_the_connection(
    connected: Any, server: Any, call: Any, run: Any, there: Any, settle: Any
) -> None:
    other = there()
    other.subscribe("$SRV.PING", lambda *message: None)
    settle(other)
    nats = connected(server)
    found, err = call(ServiceClient(nats, timeout=50).ping)
    assert found is None
    assert isinstance(err, RequestTimeoutError)
    got: list[Any] = []
    ServiceClient(nats, timeout=0).ping(lambda *answer: got.append(answer))
    nats.call_soon(nats.disconnect)
    run(lambda: got)
    assert got[0][0] is None
    assert isinstance(got[0][1], ConnectionClosedError)


def test_cancelled_ones_call_nobody(
    connected: Any, server: Any, call: Any, run: Any, there: Any, settle: Any
) -> None:
    other = there()
    two_services(other)
    settle(other)
    nats = connected(server)
    got: list[Any] = []
    client = ServiceClient(nats)
    discovery = client.ping(lambda *answer: got.append(answer))
    discovery.cancel()
    discovery.cancel()
    assert len(call(client.ping)[0]) == 2
    assert got == []


def test_mistakes_are_raised(connected: Any, server: Any) -> None:
    nats = connected(server)
    client = ServiceClient(nats)
    with pytest.raises(BadOptionsError):
        client.ping(lambda found, err: None, id="x")
    with pytest.raises(BadSubjectError):
        client.ping(lambda found, err: None, "a b")
    with pytest.raises(BadSubjectError):
        client.ping(lambda found, err: None, "*")
    with pytest.raises(TypeError):
        client.ping(lambda found, err: None, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        client.ping("orders")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ServiceClient(None)  # type: ignore[arg-type]
    with pytest.raises(BadOptionsError):
        ServiceClient(nats, stall=-1)


def test_in_the_faces(server: Any) -> None:
    with blocking.connect(server.url) as nc:
        service = nc.service("orders", "1.0.0")
        assert blocking.ServiceClient(nc).ping("orders") == [service.ping()]
        assert blocking.ServiceClient(nc).ping("other") == []

    async def ask() -> Any:
        async with aio.connect(server.url) as nc:
            nc.service("orders", "1.0.0")
            return await aio.ServiceClient(nc).stats("orders")

    assert [each["name"] for each in asyncio.run(ask())] == ["orders"]
