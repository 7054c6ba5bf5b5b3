"""Users, accounts and operators that were issued here, as a server in operator mode takes them."""

from __future__ import annotations

import subprocess
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from lab.natsserver import NatsServer
from lab.operators import Operator, credentials
from nats_ev import (
    AuthExpiredError,
    AuthorizationError,
    MaxPayloadError,
    MaxSubscriptionsExceededError,
    PermissionsViolationError,
)
from nats_ev.accounts import (
    AccountClaims,
    ActivationClaims,
    JwtError,
    KeyPair,
    OperatorClaims,
    UserClaims,
    issue_user_jwt,
    write_creds,
)

pytestmark = pytest.mark.server


@pytest.fixture
def refused(client: Any, run: Any) -> Any:
    """refused(server, **options): the error with which a server refuses a client."""

    def refused(server: Any, **options: Any) -> Any:
        nats = client(server, **options)
        run(lambda: nats.recorder.errors)
        assert not nats.is_connected()
        return nats.recorder.errors[0]

    return refused


def serve(own_server: Any, operator: Operator, binary: str | None = None, more: str = "") -> Any:
    return own_server(config=operator.config(more), binary=binary)


def received(connected: Any, run: Any, server: Any, subject: str, **options: Any) -> list[Any]:
    """What a client of these credentials gets of subject."""
    messages: list[Any] = []
    nats = connected(server, **options)
    nats.subscribe(subject, lambda subject, payload, reply, headers: messages.append(payload))
    done: list[Any] = []
    nats.flush(lambda err=None: done.append(err))
    run(lambda: done)
    return messages


def test_the_server_accepts_what_was_issued_and_checks_it(
    any_binary: Any, own_server: Any, connected: Any, run: Any, tmp_path: Path
) -> None:
    operator = Operator(
        operator_service_urls=["nats://localhost:4222", "wss://localhost:443"],
        assert_server_version="2.10.0",
        account_server_url="nats://localhost",
        tags=["Test"],
    )
    account, user = operator.account(), KeyPair.create_user()
    jwt = UserClaims(user, name="worker", tags=["one:1"]).encode(account)
    path = tmp_path / "worker.creds"
    write_creds(path, jwt, user)
    assert path.stat().st_mode & 0o777 == 0o600
    config = tmp_path / "server.conf"
    config.write_text(operator.config())
    binary = NatsServer(binary=any_binary).binary
    subprocess.run([binary, "-t", "-c", str(config)], check=True, timeout=30, capture_output=True)
    server = serve(own_server, operator, any_binary)
    nats = connected(server, creds_file=str(path))
    answers: list[Any] = []
    nats.user_info(lambda result, err: answers.append((result, err)))
    run(lambda: answers)
    assert answers[0][0]["user"] == user.public_key()
    assert answers[0][0]["account"] == account.public_key()


def test_permissions_are_as_asked(
    any_binary: Any, own_server: Any, connected: Any, run: Any
) -> None:
    operator = Operator()
    account, user = operator.account(), KeyPair.create_user()
    server = serve(own_server, operator, any_binary)
    claims = UserClaims(user, name="worker")
    claims.allow_pub("jobs.>").deny_pub("jobs.secret").allow_sub("jobs.*", "work q").deny_sub(
        "jobs.x"
    )
    nats = connected(server, **credentials(account, claims, user))
    messages = received(connected, run, server, ">", **credentials(account))
    errors = nats.recorder.errors
    nats.publish("jobs.secret", "no")
    run(lambda: len(errors) == 1)
    nats.publish("other", "no")
    run(lambda: len(errors) == 2)
    nats.subscribe("jobs.x", print)
    run(lambda: len(errors) == 3)
    nats.subscribe("work", print, "other")
    run(lambda: len(errors) == 4)
    assert all(isinstance(error, PermissionsViolationError) for error in errors)
    mine: list[str] = []
    nats.subscribe("jobs.a", lambda subject, payload, reply, headers: mine.append(subject))
    nats.subscribe("work", print, "q")
    nats.publish("jobs.a", "yes")
    run(lambda: mine and b"yes" in messages)
    assert len(errors) == 4
    assert b"no" not in messages


def test_a_user_may_answer_as_often_as_asked(own_server: Any, connected: Any, run: Any) -> None:
    operator = Operator()
    account, user = operator.account(), KeyPair.create_user()
    server = serve(own_server, operator)
    claims = (
        UserClaims(user).allow_sub("service").deny_pub(">").allow_responses(2, timedelta(minutes=1))
    )
    nats = connected(server, **credentials(account, claims, user))

    def answer(subject: str, payload: bytes, reply: str, headers: Any) -> None:
        for _ in range(3):
            nats.publish(reply, "answer")

    nats.subscribe("service", answer)
    other = connected(server, **credentials(account))
    answers: list[Any] = []
    other.subscribe("inbox.1", lambda subject, payload, reply, headers: answers.append(payload))
    other.publish("service", "", "inbox.1")
    run(lambda: len(answers) == 2 and nats.recorder.errors)
    assert isinstance(nats.recorder.errors[0], PermissionsViolationError)
    assert len(answers) == 2


def test_limits_are_as_asked(own_server: Any, connected: Any, run: Any) -> None:
    operator = Operator()
    account = operator.account()
    server = serve(own_server, operator)
    nats = connected(server, **credentials(account, subs=1, payload=100))
    run(lambda: nats.max_payload() == 100)
    with pytest.raises(MaxPayloadError):
        nats.publish("a", bytes(101))
    nats.subscribe("a", print)
    nats.subscribe("b", print)
    run(lambda: nats.recorder.errors)
    assert isinstance(nats.recorder.errors[0], MaxSubscriptionsExceededError)


def test_expiry_disconnects_and_not_before_keeps_out(
    any_binary: Any, own_server: Any, connected: Any, refused: Any, run: Any
) -> None:
    operator = Operator()
    account = operator.account()
    server = serve(own_server, operator, any_binary)
    nats = connected(server, **credentials(account, expires=timedelta(seconds=3)))
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    past = int(time.time()) - 10
    for options in ({"not_before": later}, {"expires": past}):
        error = refused(server, **credentials(account, **options))
        assert isinstance(error, AuthorizationError)
    run(lambda: nats.recorder.errors)
    assert isinstance(nats.recorder.errors[0], AuthExpiredError)


def test_networks_hours_and_connection_types(own_server: Any, connected: Any, refused: Any) -> None:
    operator = Operator()
    account = operator.account()
    server = serve(own_server, operator)
    here = datetime.now(timezone.utc)

    def hours(start: int, end: int) -> Any:
        times = [(here + timedelta(hours=each)).strftime("%H:%M:%S") for each in (start, end)]
        return {"times": [{"start": times[0], "end": times[1]}], "times_location": "UTC"}

    for fits in (
        {"src": ["127.0.0.0/8", "10.0.0.0/8"]},
        hours(-2, 2),
        {"allowed_connection_types": ["STANDARD", "WEBSOCKET"]},
    ):
        connected(server, **credentials(account, **fits))
    for fails in (
        {"src": ["10.0.0.0/8"]},
        hours(2, 4),
        {"allowed_connection_types": ["WEBSOCKET"]},
    ):
        assert isinstance(refused(server, **credentials(account, **fails)), AuthorizationError)


def test_a_user_for_websocket_alone(own_server: Any, connected: Any, refused: Any) -> None:
    operator = Operator()
    account = operator.account()
    server = own_server(config=operator.config(), websocket=True)
    options = credentials(account, allowed_connection_types=["WEBSOCKET"])
    connected(None, **server.ws_options, **options)
    assert isinstance(refused(server, **options), AuthorizationError)


def test_a_bearer_token_needs_no_signature(own_server: Any, connected: Any, refused: Any) -> None:
    operator = Operator()
    account, strict = operator.account(), KeyPair.create_account()
    operator.add(AccountClaims(strict, name="STRICT").set_limits(disallow_bearer=True))
    server = serve(own_server, operator)
    other = KeyPair.create_user().seed()
    jwt = credentials(account, bearer_token=True)["jwt"]
    connected(server, jwt_cb=lambda: jwt, signature_cb=lambda nonce: b"")
    refused(server, jwt=credentials(account)["jwt"], nkey_seed=other)
    refused(server, **credentials(strict, bearer_token=True))
    connected(server, **credentials(strict))


def test_signing_keys_and_scopes(
    any_binary: Any, own_server: Any, connected: Any, refused: Any, run: Any
) -> None:
    operator = Operator()
    account, plain, scoped = (KeyPair.create_account() for _ in range(3))
    claims = AccountClaims(account, name="APP").add_signing_key(plain)
    claims.add_signing_key(
        scoped,
        role="worker",
        template={
            "pub": {"allow": ["jobs.{{name()}}.>", "team.{{tag(team)}}"]},
            "sub": {"allow": ["_INBOX.>"]},
            "subs": 5,
        },
    )
    operator.add(claims)
    server = serve(own_server, operator, any_binary)
    issued_for = account.public_key()
    connected(server, **credentials(plain, issuer_account=issued_for))
    refused(server, **credentials(plain))  # which does not name the account

    user = KeyPair.create_user()
    jwt = issue_user_jwt(scoped, account, user, name="alice", tags=["team:blue"])
    nats = connected(server, jwt=jwt, nkey_seed=user.seed())
    messages = received(connected, run, server, ">", **credentials(account))
    nats.publish("jobs.bob.1", "no")
    run(lambda: nats.recorder.errors)
    assert isinstance(nats.recorder.errors[0], PermissionsViolationError)
    nats.publish("jobs.alice.1", "yes")
    nats.publish("team.blue", "team")
    run(lambda: messages == [b"yes", b"team"])
    # With permissions of its own a user of a scoped key is refused.
    mine = UserClaims(user, issuer_account=issued_for)
    refused(server, jwt=mine.encode(scoped), nkey_seed=user.seed())
    with pytest.raises(JwtError, match="no permissions or limits of its own"):
        UserClaims(user, scoped=True, subs=1)


def test_a_revoked_user_is_out(
    any_binary: Any, own_server: Any, connected: Any, refused: Any, run: Any
) -> None:
    operator = Operator()
    account, user = operator.account(), KeyPair.create_user()
    server = serve(own_server, operator, any_binary)
    options = credentials(account, user=user)
    nats = connected(server, **options)
    other = connected(server, **credentials(account))
    claims = AccountClaims(account, name="APP").revoke(user)
    assert claims.is_claim_revoked(UserClaims.decode(options["jwt"]))
    operator.add(claims)
    server.reload(operator.config())
    run(lambda: nats.recorder.errors)
    assert isinstance(nats.recorder.errors[0], AuthorizationError)
    refused(server, **options)
    later = UserClaims(user).encode(account, issued_at=int(time.time()) + 2)
    connected(server, jwt=later, nkey_seed=user.seed())
    assert other.is_connected()


def test_imports_and_exports_with_an_activation_token(
    any_binary: Any, own_server: Any, connected: Any, run: Any, call: Any
) -> None:
    operator = Operator()
    exporter, importer, signing = (KeyPair.create_account() for _ in range(3))
    exports = AccountClaims(exporter, name="EXPORTER").add_signing_key(signing)
    exports.add_export("orders.>", "stream", token_req=True)
    exports.add_export("prices", "service")
    operator.add(exports)
    token = ActivationClaims(
        importer, name="orders", subject="orders.eu.>", kind="stream",
        issuer_account=exporter.public_key(),
    ).encode(signing)  # fmt: skip
    assert exports.did_sign(ActivationClaims.decode(token))
    imports = AccountClaims(importer, name="IMPORTER")
    imports.add_import("orders.eu.>", exporter, "stream", token=token, local_subject="bought.eu.>")
    imports.add_import("prices", exporter, "service", local_subject="cost")
    operator.add(imports)
    server = serve(own_server, operator, any_binary)

    messages = received(connected, run, server, "bought.>", **credentials(importer))
    seller = connected(server, **credentials(exporter))
    seller.subscribe("prices", lambda subject, payload, reply, headers: seller.publish(reply, "42"))
    seller.publish("orders.us.1", "no")
    seller.publish("orders.eu.1", "yes")
    run(lambda: messages == [b"yes"])
    buyer = connected(server, **credentials(importer))
    answers: list[Any] = []
    buyer.request(
        "cost", "", lambda response, err, headers: answers.append((response, err)), 10_000
    )
    run(lambda: answers)
    assert answers[0] == (b"42", None)


def test_an_import_without_its_token_gets_nothing(
    own_server: Any, connected: Any, run: Any
) -> None:
    operator = Operator()
    exporter, importer, third = (KeyPair.create_account() for _ in range(3))
    operator.add(AccountClaims(exporter).add_export("orders.>", "stream", token_req=True))
    operator.add(AccountClaims(importer).add_import("orders.>", exporter, "stream"))
    token = ActivationClaims(third, subject="orders.>", kind="stream").encode(exporter)
    stolen = AccountClaims(importer).add_import("orders.>", exporter, "stream", token=token)
    with pytest.raises(JwtError, match="doesn't match account it is being included in"):
        operator.sign(stolen)
    server = serve(own_server, operator)
    messages = received(connected, run, server, ">", **credentials(importer))
    seller = connected(server, **credentials(exporter))
    seen = received(connected, run, server, ">", **credentials(exporter))
    seller.publish("orders.1", "")
    run(lambda: seen)
    done: list[Any] = []
    seller.flush(lambda err=None: done.append(err))
    run(lambda: done)
    assert not messages


def test_limits_of_accounts_and_default_permissions(
    own_server: Any, connected: Any, refused: Any, run: Any
) -> None:
    operator = Operator()
    account, small = KeyPair.create_account(), KeyPair.create_account()
    operator.add(
        AccountClaims(account, default_permissions={"pub": {"deny": ["secret"]}}).add_mapping(
            "from.*", {"subject": "to.$1", "weight": 100}
        )
    )
    operator.add(AccountClaims(small).set_limits(conn=1))
    server = serve(own_server, operator)
    connected(server, **credentials(small))
    refused(server, **credentials(small))
    messages = received(connected, run, server, "to.>", **credentials(account))
    user = KeyPair.create_user()
    nats = connected(server, **credentials(account, UserClaims(user), user))
    nats.publish("from.1", "mapped")
    run(lambda: messages == [b"mapped"])
    nats.publish("secret", "")
    run(lambda: nats.recorder.errors)
    assert isinstance(nats.recorder.errors[0], PermissionsViolationError)


@pytest.mark.parametrize("tier", [None, "R1"])
def test_jetstream_of_an_account(
    tier: str | None, own_server: Any, connected: Any, call: Any
) -> None:
    from nats_ev import JetStream

    operator = Operator()
    account, without = KeyPair.create_account(), operator.account()
    operator.add(
        AccountClaims(account).enable_jetstream(disk_storage=1 << 20, streams=1, tier=tier)
    )
    server = own_server(config=operator.config(), jetstream=True)
    js = JetStream(connected(server, **credentials(account)))
    _, err = call(js.stream_create, {"name": "ONE", "subjects": ["one"]})
    assert err is None
    _, err = call(js.stream_create, {"name": "TWO", "subjects": ["two"]})
    assert "maximum number of streams" in str(err)
    other = JetStream(connected(server, **credentials(without)))
    _, err = call(other.stream_create, {"name": "ONE", "subjects": ["one"]})
    assert "not enabled" in str(err)


def test_strict_signing_keys(own_server: Any, connected: Any, refused: Any) -> None:
    """Operator and accounts then sign nothing themselves, but by signing keys."""
    operator = Operator()
    signing, account, signer = (
        KeyPair.create_operator(), KeyPair.create_account(), KeyPair.create_account(),
    )  # fmt: skip
    operator.claims = OperatorClaims(
        operator.key, name="strict", strict_signing_key_usage=True
    ).add_signing_key(signing)
    operator.jwt = operator.claims.encode(operator.key)
    for key in (operator.system, account):
        claims = AccountClaims(key).add_signing_key(signer)
        operator.accounts[key.public_key()] = claims.encode(signing)
        assert operator.claims.did_sign(claims)
        claims.encode(operator.key)
        assert not operator.claims.did_sign(claims)
    server = serve(own_server, operator)
    connected(server, **credentials(signer, issuer_account=account.public_key()))
    refused(server, **credentials(account))
