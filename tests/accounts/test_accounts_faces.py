"""The auth callout and the account resolver in the faces."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.faces import Face, block, got
from lab.natsserver import NatsServer
from lab.operators import Operator
from nats_ev import AuthorizationError
from nats_ev.accounts import AccountClaims, KeyPair, ResolverError

pytestmark = pytest.mark.server
KEY, XKEY = KeyPair.create_account(), KeyPair.create_curve_keys()
CONFIG = f"""
    accounts {{ AUTH: {{ users: [ {{ user: auth, password: pwd }} ] }}, APP: {{}} }}
    authorization {{
        timeout: 10
        auth_callout {{
            issuer: {KEY.public_key()}, account: AUTH, auth_users: [ auth ], xkey: {XKEY.public_key()}
        }}
    }}
"""
OWN = {"user": "auth", "password": "pwd"}


@pytest.fixture(params=["aio", "green", "blocking"])
def face(request: pytest.FixtureRequest, needs_server: None) -> Iterator[Face]:
    if request.param == "green":
        pytest.importorskip("gevent")
    with NatsServer(config=CONFIG) as server:
        yield Face(request.param, server)


async def refused(face: Face, user: str) -> None:
    with pytest.raises(AuthorizationError):
        await got(face.connect(user=user, password="x", reconnect=False))


def test_a_callout(face: Face, excepthook: Any) -> None:
    def decide(request: Any) -> None:
        user = request.connect_opts.get("user")
        if user == "bad":
            raise RuntimeError("hunter2")
        (request.accept if user == "alice" else request.refuse)()

    async def scenario(face: Face) -> None:
        # In a face that blocks only a loop in a thread serves while this one connects.
        options = {"background": True} if face.name == "blocking" else {}
        nc = await got(face.connect(**OWN, **options))
        callout = face.module.AuthCallout(nc, KEY, decide, XKEY, account="APP")
        alice = await got(face.connect(user="alice", password="x"))
        await got(alice.drain())
        await refused(face, "mallory")
        await refused(face, "bad")
        stats = callout.stats()
        assert (stats["accepted"], stats["refused"], stats["failed"]) == (1, 1, 1)
        assert await got(callout.stop()) is True
        assert callout.stopped
        async with block(face.module.AuthCallout(nc, KEY, decide, XKEY, account="APP")) as again:
            alice = await got(face.connect(user="alice", password="x"))
            await got(alice.drain())
        assert again.stopped
        await got(nc.drain())

    face.run(scenario)


def test_a_handler_that_is_a_coroutine_function(needs_server: None, excepthook: Any) -> None:
    async def decide(request: Any) -> None:
        await asyncio.sleep(0)
        user = request.connect_opts.get("user")
        if user == "bad":
            raise RuntimeError("hunter2")
        if user == "alice":
            request.accept()
        else:
            request.refuse()

    async def scenario(face: Face) -> None:
        nc = await face.connect(**OWN)
        callout = face.module.AuthCallout(nc, KEY, decide, XKEY, account="APP")
        await (await face.connect(user="alice", password="x")).drain()
        await refused(face, "mallory")
        await refused(face, "bad")
        stats = callout.stats()
        assert (stats["accepted"], stats["refused"], stats["failed"]) == (1, 1, 1)
        assert stats["last_error"] == "RuntimeError"
        assert "hunter2" not in face.server.log
        assert await callout.stop()
        await nc.drain()

    with NatsServer(config=CONFIG) as server:
        Face("aio", server).run(scenario)
    assert [type(error) for error in excepthook] == [RuntimeError]


def test_faces_that_block_refuse_coroutine_functions(face: Face) -> None:
    async def decide(request: Any) -> None:
        request.accept()

    async def scenario(face: Face) -> None:
        nc = await got(face.connect(**OWN))
        with pytest.raises(TypeError, match=r"only nats_ev\.aio runs these"):
            face.module.AuthCallout(nc, KEY, decide, XKEY)
        await got(nc.drain())

    if face.name != "aio":
        face.run(scenario)


@pytest.mark.parametrize("name", ["aio", "blocking"])
def test_the_account_resolver(name: str, needs_server: None, tmp_path: Path) -> None:
    operator, account = Operator(), KeyPair.create_account()
    jwt = operator.sign(AccountClaims(account, name="NEW"))

    async def scenario(face: Face) -> None:
        nc = await got(face.connect(**operator.system_user()))
        resolver = face.module.AccountResolver(nc)
        assert await got(resolver.push(jwt)) == account.public_key()
        assert await got(resolver.lookup(account)) == jwt
        assert account.public_key() in await got(resolver.list_accounts())
        assert await got(resolver.delete(operator.key, account)) == 1
        with pytest.raises(ResolverError):
            await got(resolver.lookup(account))
        await got(nc.drain())

    with NatsServer(config=operator.config(folder=tmp_path / "jwts")) as server:
        Face(name, server).run(scenario)
