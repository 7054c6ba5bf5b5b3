"""`AccountResolver` on servers with a resolver of type full, and on one that keeps accounts in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.claims_mistakes import CLUSTERS, DROPPED, IMPORTER, OF_ACCOUNTS, OF_USERS, USER
from lab.operators import Operator, credentials
from nats_ev import AuthorizationError, NoRespondersError, ProtocolError
from nats_ev.accounts import (
    AccountClaims,
    AccountResolver,
    KeyPair,
    ResolverError,
    UserClaims,
)

pytestmark = pytest.mark.server


def test_push_list_lookup_and_delete(
    any_binary: Any,
    own_server: Any,
    connected: Any,
    client: Any,
    run: Any,
    call: Any,
    tmp_path: Path,
) -> None:
    operator = Operator()
    server = own_server(config=operator.config(folder=tmp_path / "jwts"), binary=any_binary)
    resolver = AccountResolver(connected(server, **operator.system_user()))
    account = KeyPair.create_account()
    early = client(server, connect_timeout=20_000, **credentials(account))
    run(lambda: early.recorder.errors)  # nobody knows the account; the server asks others first
    assert isinstance(early.recorder.errors[0], AuthorizationError)
    _, err = call(resolver.lookup, account)
    assert isinstance(err, ResolverError)
    assert (err.code, err.account) == (404, account.public_key())

    jwt = operator.sign(AccountClaims(account, name="NEW"))
    assert call(resolver.push, jwt) == (account.public_key(), None)
    nats = connected(server, **credentials(account))
    assert call(resolver.lookup, account) == (jwt, None)
    listed, err = call(resolver.list_accounts)
    assert err is None
    assert sorted(listed) == sorted([account.public_key(), operator.system.public_key()])

    # A newer JWT counts at once: the user is revoked.
    user = KeyPair.create_user()
    revoked = connected(server, **credentials(account, user=user))
    claims = AccountClaims.decode(jwt).revoke(user)
    assert call(resolver.push, operator.sign(claims))[1] is None
    run(lambda: revoked.recorder.errors)
    assert isinstance(revoked.recorder.errors[0], AuthorizationError)
    assert nats.is_connected()

    assert call(resolver.delete, operator.key, [account]) == (1, None)
    run(lambda: not nats.is_connected())
    _, err = call(resolver.lookup, account)
    assert isinstance(err, ResolverError)


def test_what_the_server_refuses(
    own_server: Any, connected: Any, call: Any, tmp_path: Path
) -> None:
    operator = Operator()
    server = own_server(config=operator.config(folder=tmp_path / "jwts"))
    resolver = AccountResolver(connected(server, **operator.system_user()))
    account, stranger = KeyPair.create_account(), KeyPair.create_operator()
    bad = AccountClaims(account).add_export("two words", "stream").encode(operator.key, check=False)
    result, err = call(resolver.push, bad)
    assert result is None
    assert isinstance(err, ResolverError)
    assert err.code == 500
    assert err.account == account.public_key()
    assert "cannot have spaces" in str(err)
    _, err = call(resolver.delete, stranger, account.public_key())
    assert isinstance(err, ResolverError)
    assert "not trusted" in str(err)
    _, err = call(resolver.delete, operator.key, operator.system)
    assert "system account" in str(err)


def test_the_server_refuses_what_validate_calls_blocking(
    any_binary: Any, own_server: Any, connected: Any, run: Any, tmp_path: Path
) -> None:
    operator = Operator()
    server = own_server(config=operator.config(folder=tmp_path / "jwts"), binary=any_binary)
    resolver = AccountResolver(connected(server, **operator.system_user()))
    rows = [row for row in OF_ACCOUNTS if row is not DROPPED]
    if server.version < (2, 11):
        rows.remove(CLUSTERS)
    answers: list[Any] = []
    for fields, _ in rows:
        claims = AccountClaims(IMPORTER, **fields)
        resolver.push(
            claims.encode(operator.key, check=False),
            lambda result, err, fields=fields: answers.append((err, fields)),
        )
    run(lambda: len(answers) == len(rows))
    assert [fields for err, fields in answers if not isinstance(err, ResolverError)] == []


def test_the_server_refuses_users_that_validate_calls_bad(
    own_server: Any, client: Any, run: Any
) -> None:
    operator = Operator()
    account = operator.account()
    server = own_server(config=operator.config())
    clients = []
    for fields, _ in OF_USERS:
        jwt = UserClaims(USER, **fields).encode(account, check=False)
        clients.append(client(server, jwt=jwt, nkey_seed=USER.seed()))
    run(lambda: all(nats.recorder.errors for nats in clients))
    assert all(isinstance(nats.recorder.errors[0], AuthorizationError) for nats in clients)


def test_mistakes_are_raised_at_the_call(server: Any, connected: Any) -> None:
    resolver = AccountResolver(connected(server))
    operator, user, account = (
        KeyPair.create_operator(), KeyPair.create_user(), KeyPair.create_account(),
    )  # fmt: skip

    def cb(result: Any, err: Any) -> None:
        raise AssertionError

    for wrong in (
        lambda: resolver.push("a.b.c", cb),
        lambda: resolver.push(UserClaims(user).encode(account), cb),
        lambda: resolver.lookup(user, cb),
        lambda: resolver.lookup("*", cb),
        lambda: resolver.delete(operator, [], cb),
        lambda: resolver.delete(operator, [user], cb),
        lambda: resolver.delete(KeyPair.create_curve_keys(), [account], cb),
    ):
        with pytest.raises(ValueError):
            wrong()
    with pytest.raises(TypeError):
        resolver.list_accounts(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="nats must be a Nats"):
        AccountResolver(object())  # type: ignore[arg-type]


def test_a_server_with_accounts_in_memory_does_not_answer(
    own_server: Any, connected: Any, call: Any
) -> None:
    operator = Operator()
    account = operator.account()
    server = own_server(config=operator.config())
    resolver = AccountResolver(connected(server, **operator.system_user()))
    for question in ((resolver.list_accounts,), (resolver.lookup, account)):
        _, err = call(*question)
        assert isinstance(err, NoRespondersError)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "null",
        "[]",
        "{",
        "{}",
        '{"data": 1}',
        '{"data": {"x": 1}}',
        '{"data": [1]}',
        '{"error": {}}',
    ],
)
def test_odd_answers(answer: str, server: Any, connected: Any, call: Any) -> None:
    from nats_ev.nuid import next_nuid

    nats = connected(server)
    subject = f"odd.{next_nuid()}"
    nats.subscribe(subject, lambda subject, payload, reply, headers: nats.publish(reply, answer))
    other = AccountResolver(connected(server))
    other.nats.request = lambda to, *rest, **options: type(other.nats).request(  # type: ignore[method-assign]
        other.nats, subject, *rest, **options
    )
    result, err = call(other.list_accounts)
    assert result is None
    assert isinstance(err, (ProtocolError, ResolverError))
