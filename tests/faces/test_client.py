"""The client's face: connect, publish, request, subscribe, flush, drain."""

from __future__ import annotations

import contextlib
import logging
from datetime import timedelta
from typing import Any

import pytest

from lab.faces import Face, block, each, got
from nats_ev import (
    BadOptionsError,
    BadSubjectError,
    ConnectionClosedError,
    ConnectionLostError,
    MsgIteratorClosedError,
    Nats,
    NatsError,
    NoRespondersError,
    NotConnectedError,
    PermissionsViolationError,
    RequestTimeoutError,
    Status,
)
from nats_ev.testing import free_port


def test_connect_returns_a_connected_client_and_the_block_drains_it(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            assert nc.is_connected()
            assert isinstance(nc.nats, Nats)
            assert repr(nc).startswith(f"<{face.module.__name__}.Nats of <Nats nats://")
        assert nc.status() is Status.CLOSED

    face.run(scenario)


def test_connect_takes_servers_in_every_form(face: Face) -> None:
    url, port = face.server.url, face.server.port
    given: list[dict[str, Any]] = [
        {"servers": [url]},
        {"servers": f"{url}, {url}"},
        {"servers": None, "host": "127.0.0.1", "port": port},
    ]

    async def scenario(face: Face) -> None:
        for options in given:
            nc = await got(face.connect(**options))
            assert nc.is_connected()
            await got(nc.drain())

    face.run(scenario)


def test_connect_raises_the_error_of_a_client_that_gives_up(face: Face) -> None:
    async def scenario(face: Face) -> None:
        with pytest.raises(NatsError, match="refused"):
            await got(face.connect(servers=f"nats://127.0.0.1:{free_port()}"))
        with pytest.raises(NatsError, match="max reconnect attempts reached") as caught:
            await got(
                face.connect(
                    servers=f"nats://127.0.0.1:{free_port()}",
                    reconnect=True,
                    reconnect_delay=1,
                    max_reconnect_attempts=2,
                )
            )
        assert "refused" in str(caught.value.__cause__)

    face.run(scenario)


def test_connect_refuses_wrong_options_and_loops(face: Face) -> None:
    async def scenario(face: Face) -> None:
        with pytest.raises(TypeError, match="unknown"):
            await got(face.connect(nonsense=1))
        with pytest.raises(TypeError, match="on_nonsense"):
            await got(face.connect(on_nonsense=print))
        with pytest.raises(TypeError, match="on_error must be callable"):
            await got(face.connect(on_error=5))
        if not face.name.startswith("aio"):

            async def on_error(error: NatsError) -> None:
                pass

            with pytest.raises(TypeError, match="only nats_ev"):
                await got(face.connect(on_error=on_error))
        with pytest.raises(BadOptionsError, match="loop"):
            await got(face.connect(loop=1))

        async def token() -> str:
            return ""

        with pytest.raises(TypeError, match="token_cb must not be a coroutine function"):
            await got(face.connect(token_cb=token))

    face.run(scenario)


def test_messages_come_in_order_with_all_that_they_have(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            sub = nc.subscribe("m.>")
            nc.publish("m.1", "text")
            nc.publish("m.2", b"", "reply.to")
            nc.publish("m.3", b"x", headers={"A": "1"})
            nc.hpublish("m.4", {"A": "2"}, b"y", "r")
            msgs = [await got(sub.next(timeout=5000)) for _ in range(4)]
            assert [(m.subject, m.payload, m.data, m.reply) for m in msgs] == [
                ("m.1", b"text", b"text", None),
                ("m.2", b"", b"", "reply.to"),
                ("m.3", b"x", b"x", None),
                ("m.4", b"y", b"y", "r"),
            ]
            assert [m.header("A") for m in msgs] == [None, None, "1", "2"]
            assert msgs[0].headers is None
            assert msgs[2].headers.startswith(b"NATS/1.0\r\n")
            assert repr(msgs[3]) == "<Msg 'm.4' reply 'r' 1 bytes>"

    face.run(scenario)


def test_requests_are_answered_and_raise_their_errors(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect(no_responders=True)) as nc:
            nc.nats.subscribe("echo", lambda s, p, reply, h: nc.hpublish(reply, {"B": "3"}, p))
            nc.nats.subscribe("deaf", lambda *message: None)
            answer = await got(nc.request("echo", b"ping", headers={"A": "1"}))
            assert (answer.subject, answer.payload, answer.reply) == ("echo", b"ping", None)
            assert answer.header("B") == "3"
            assert (await got(nc.req("echo", "x", 1000))).payload == b"x"
            assert (
                await got(nc.request("echo", "x", timeout_ms=timedelta(seconds=1)))
            ).data == b"x"
            with pytest.raises(NoRespondersError):
                await got(nc.request("nobody", b""))
            with pytest.raises(RequestTimeoutError):
                await got(nc.request("deaf", b"", 20))
            with pytest.raises(BadSubjectError):
                await got(nc.request("a b", b""))
            with pytest.raises(TypeError, match="takes no cb"):
                await got(nc.request("echo", b"", cb=print))
            with pytest.raises(TypeError, match=r"^subscribe\(\) takes no cb: it returns what"):
                nc.subscribe("echo", print)
            with pytest.raises(TypeError, match="takes no cb"):
                nc.jetstream().consume("S", "C", print)
            with pytest.raises(TypeError):
                await got(nc.request("echo"))
            assert await got(nc.flush()) is None
            assert 0 < await got(nc.rtt()) < 10_000

    face.run(scenario)


def test_respond_answers_and_says_so_when_nobody_waits(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            sub, replies = nc.subscribe("svc"), nc.subscribe("answers")
            nc.publish("svc", b"1", "answers")
            nc.publish("svc", b"2")
            msg = await got(sub.next(1000))
            msg.respond(b"one", headers={"A": "1"})
            msg.respond("two")
            assert [(await got(replies.next(1000))).payload for _ in range(2)] == [b"one", b"two"]
            with pytest.raises(BadSubjectError, match="nobody waits"):
                (await got(sub.next(1000))).respond(b"")

    face.run(scenario)


def test_request_many_iterates_over_its_answers(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect(no_responders=True)) as nc:
            for number in range(3):
                nc.nats.subscribe("all", lambda s, p, reply, h, n=number: nc.publish(reply, str(n)))
            answers = [m.payload async for m in each(nc.request_many("all", b"", 5000, max_msgs=3))]
            assert sorted(answers) == [b"0", b"1", b"2"]
            with pytest.raises(NoRespondersError):
                await got(nc.request_many("nobody", b"").next())
            endless = nc.request_many("all", b"", 0)
            await got(endless.next(1000))
            endless.close()
            with pytest.raises(MsgIteratorClosedError):
                await got(endless.next())

    face.run(scenario)


def test_an_iterator_ends_by_unsubscribe_max_msgs_or_drain(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            counted, drained = nc.subscribe_max("e", 2), nc.subscribe("e")
            later, at_once = nc.subscribe("e"), nc.subscribe("e")
            for number in range(4):
                nc.publish("e", str(number))
            await got(nc.flush())
            later.unsubscribe(3)
            at_once.unsubscribe()
            await got(drained.drain())
            nc.publish("e", "late")
            await got(nc.flush())
            assert [m.payload async for m in each(counted)] == [b"0", b"1"]
            assert [m.payload async for m in each(drained)] == [b"0", b"1", b"2", b"3"]
            assert [m.payload async for m in each(at_once)] == []
            assert len([m async for m in each(later)]) in (3, 4)  # 4 had come when 3 were asked for
            with pytest.raises(MsgIteratorClosedError, match="'e' has ended"):
                await got(drained.next(timeout=1))
            assert nc.subscription_count() == 0
            assert repr(counted) == "<Subscription 'e' closed, 0 pending>"

    face.run(scenario)


def test_a_call_by_sid_ends_the_iterator_too(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            sub, other = nc.subscribe("e"), nc.subscribe("e")
            nc.publish("e")
            await got(nc.flush())
            nc.unsubscribe(sub.sid)
            await got(nc.drain_subscription(other.sid))
            assert [m async for m in each(sub)] == []
            assert len([m async for m in each(other)]) == 1

    face.run(scenario)


def test_an_iterator_that_nobody_holds_ends_its_subscription(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            nc.publish("e")
            sub = nc.subscribe("e")
            async with block(nc.subscribe("f")) as inner:
                nc.publish("e")
                nc.publish("f")
                await got(inner.next(1000))
            assert nc.subscription_count() == 1
            async for _ in each(sub):
                break
            del sub, _
            await face.until(lambda: nc.subscription_count() == 0, nc)

    face.run(scenario)


def test_the_end_of_the_client_is_raised_by_iterators_and_calls(face: Face) -> None:
    async def scenario(face: Face) -> None:
        nc = await got(face.connect())
        sub = nc.subscribe("e")
        nc.publish("e", b"last")
        await got(nc.flush())
        nc.disconnect()
        assert (await got(sub.next(1000))).payload == b"last"
        with pytest.raises(ConnectionClosedError):
            await got(sub.next(1000))
        with pytest.raises(ConnectionClosedError):
            [m async for m in each(sub)]
        with pytest.raises(NotConnectedError):
            await got(nc.request("e", b""))
        with pytest.raises(NotConnectedError):
            await got(nc.flush())

    face.run(scenario)


def test_a_drained_client_ends_its_iterators_without_an_error(face: Face) -> None:
    async def scenario(face: Face) -> None:
        nc = await got(face.connect())
        sub = nc.subscribe("e")
        for _ in range(3):
            nc.publish("e")
        await got(nc.drain())
        assert len([m async for m in each(sub)]) == 3
        assert nc.status() is Status.CLOSED
        with pytest.raises(NotConnectedError):
            await got(nc.drain())

    face.run(scenario)


def test_a_refused_subscription_raises_what_the_server_says(face: Face, own_server: Any) -> None:
    rights = '{subscribe: ["ok", "_INBOX.>"]}'
    users = f"authorization {{ users = [{{user: u, password: p, permissions: {rights}}}] }}"
    server = own_server(config=users)

    async def scenario(face: Face) -> None:
        errors: list[Exception] = []
        nc = await got(
            face.connect(servers=server.url, user="u", password="p", on_error=errors.append)
        )
        refused, allowed = nc.subscribe("no"), nc.subscribe("ok")
        with pytest.raises(PermissionsViolationError, match="no"):
            await got(refused.next(5000))
        nc.publish("ok")
        assert (await got(allowed.next(5000))).subject == "ok"
        await face.until(lambda: errors, nc)
        assert isinstance(errors[0], PermissionsViolationError)
        await got(nc.drain())

    face.run(scenario)


def test_a_lost_connection_fails_requests_and_iterators_survive(face: Face, proxy: Any) -> None:
    between = proxy(face.server.port)

    async def scenario(face: Face) -> None:
        nc = await got(
            face.connect(
                servers=f"nats://127.0.0.1:{between.port}", reconnect=True, reconnect_delay=1
            )
        )
        sub = nc.subscribe("e")
        nc.nats.subscribe("deaf", lambda *message: nc.nats.call_soon(nc.force_reconnect))
        with pytest.raises(ConnectionLostError):
            await got(nc.request("deaf", b"", 0))
        nc.publish("e", b"again")
        assert (await got(sub.next(5000))).payload == b"again"
        await got(nc.drain())

    face.run(scenario)


def test_a_block_that_ends_without_a_connection_sends_what_waits(
    face: Face, own_server: Any
) -> None:
    server = own_server()

    async def scenario(face: Face) -> None:
        connecting = face.connect(servers=server.url, reconnect=True, reconnect_delay=10)
        async with block(connecting) as nc:
            server.stop()
            ticking = None if face.has_tasks else Ticking(nc)
            await face.until(lambda: not nc.is_connected(), ticking)
            nc.publish("late", b"kept")
            server.start()

    face.run(scenario)
    assert server.monitor("varz")["in_msgs"] == 1


class Ticking:
    """Lets the loop of a face that blocks run for a moment in `Face.until`."""

    def __init__(self, nc: Any) -> None:
        self.nc = nc
        self.quiet = nc.subscribe("quiet")

    def is_connected(self) -> bool:
        return True

    def flush(self) -> None:
        with contextlib.suppress(NatsError):
            self.quiet.next(timeout=5)


def test_errors_that_no_call_raises_are_logged(
    face: Face, own_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    config = 'authorization { users = [{user: u, password: p, permissions: {publish: ["ok"]}}] }'
    server = own_server(config=config)

    async def scenario(face: Face) -> None:
        nc = await got(face.connect(servers=server.url, user="u", password="p"))
        nc.publish("no")
        await face.until(lambda: caplog.records, nc)
        await got(nc.drain())

    with caplog.at_level(logging.ERROR, "nats_ev"):
        face.run(scenario)
    assert "PermissionsViolationError" in caplog.text


def test_events_are_callbacks(face: Face) -> None:
    async def scenario(face: Face) -> None:
        events: list[str] = []
        nc = await got(
            face.connect(
                on_connect=lambda: events.append("on"), on_disconnect=lambda: events.append("off")
            )
        )
        await face.until(lambda: events, nc)
        await got(nc.drain())
        await face.until(lambda: events == ["on", "off"])

    face.run(scenario)


def test_one_face_leads_to_the_callback_object_and_back(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            module = face.module
            assert module.wrap(nc.nats) == nc
            assert module.unwrap(nc) is nc.nats
            assert hash(module.wrap(nc.nats)) == hash(nc)
            assert module.wrap(5) == 5
            assert isinstance(nc, module.Nats)
            with pytest.raises(AttributeError):
                module.Nonsense  # noqa: B018
            with pytest.raises(AttributeError):
                nc.nonsense  # noqa: B018

    face.run(scenario)


def test_many_messages_stay_in_order_under_back_pressure(face: Face) -> None:
    async def scenario(face: Face) -> None:
        async with block(face.connect()) as nc:
            sub = nc.subscribe("many")
            count, size = 300, 100_000  # more than the iterator has room for
            for number in range(count):
                nc.publish("many", b"%06d" % number + b"x" * size)
            await got(nc.flush())
            assert nc.subscription_info(sub.sid)["paused"]
            assert sub.pending < count
            seen = [int((await got(sub.next(5000))).payload[:6]) for _ in range(count)]
            assert seen == list(range(count))
            assert not nc.subscription_info(sub.sid)["paused"]

    face.run(scenario)
