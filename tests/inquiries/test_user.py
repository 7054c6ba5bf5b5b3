"""Who a client is for its server, and the warning before that ends."""

from __future__ import annotations

import time
from typing import Any

import pytest

from lab.jwts import Key, Setup
from lab.natsserver import wait_for
from lab.server_versions import LINES
from nats_ev import (
    NatsError,
    NoRespondersError,
    PermissionsViolationError,
    ProtocolError,
    RequestTimeoutError,
    UnsupportedError,
)

pytestmark = pytest.mark.server
SUBJECT = "$SYS.REQ.USER.INFO"


def test_user_info_tells_account_permissions_and_expiry(
    own_server: Any, connected: Any, call: Any
) -> None:
    setup, user = Setup(), Key("user")
    # Without a system account nobody answers.
    server = own_server(config=setup.config(f"system_account: {setup.account.public}\n"))
    jwt = setup.user(user, 1000, pub={"deny": ["secret.>"]}, sub={"allow": [">"]})
    nats = connected(server, jwt=jwt, nkey_seed=user.seed)
    result, err = call(nats.user_info)
    assert err is None
    assert result["user"] == user.public
    assert result["account"] == setup.account.public
    assert result["permissions"]["publish"]["deny"] == ["secret.>"]
    assert 0 < result["expires"] <= 1000 * 10**9


def test_user_info_of_a_client_that_may_not_ask(own_server: Any, connected: Any, call: Any) -> None:
    config = 'authorization { users = [ { user: a, password: a, permissions: { publish: "x" } } ] }'
    nats = connected(own_server(config=config), user="a", password="a")
    result, err = call(nats.user_info)
    assert result is None
    assert isinstance(err, PermissionsViolationError)


def answering(text: str | None) -> Any:
    def script(peer: Any) -> None:
        peer.handshake(headers=True)
        while not (line := peer.line()).startswith(f"PUB {SUBJECT}"):
            pass
        reply = line.split()[2]
        if text is None:
            peer.send(f"HMSG {reply} 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n")
        else:
            peer.send(f"MSG {reply} 1 {len(text)}\r\n{text}\r\n")
        peer.at_eof()

    return script


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("", ProtocolError, "not a JSON object"),
        ("[]", ProtocolError, "not a JSON object"),
        ("[" * 100_000, ProtocolError, "not a JSON object"),
        ("{}", ProtocolError, "has no data"),
        ('{"data": 5}', ProtocolError, "has no data"),
        ('{"data": {"expires": "soon"}}', ProtocolError, "bad expires"),
        (
            '{"error": {"code": 500, "description": "no way"}}',
            NatsError,
            r"\$SYS.REQ.USER.INFO: no way",
        ),
        ('{"error": "no way"}', NatsError, "no way"),
        (None, NoRespondersError, "no responders"),
    ],
)
def test_odd_answers_are_errors(
    fake: Any, connected: Any, call: Any, text: str | None, kind: Any, says: str
) -> None:
    nats = connected(fake(answering(text)))
    result, err = call(nats.user_info)
    assert result is None
    assert isinstance(err, kind)
    with pytest.raises(kind, match=says):
        raise err


def test_user_info_times_out(fake: Any, connected: Any, call: Any) -> None:
    nats = connected(fake(lambda peer: (peer.handshake(), peer.at_eof())))
    _, err = call(nats.user_info, timeout_ms=50)
    assert isinstance(err, RequestTimeoutError)


# The warning.


def test_a_jwt_that_expires_is_announced_in_time_and_once_per_connection(
    own_server: Any, connected: Any, run: Any
) -> None:
    setup, user = Setup(), Key("user")
    server = own_server(config=setup.config())
    seen: list[float] = []
    nats = connected(
        server, jwt_cb=lambda: setup.user(user, 3), nkey_seed=user.seed, on_auth_expiring=seen.append,
        auth_expiring_before=2500,
    )  # fmt: skip
    run(lambda: seen)
    assert 0 <= seen[0] <= 2.5
    nats.force_reconnect()
    run(lambda: len(seen) == 2)
    assert nats.stats()["msgs_out"] == 0  # nobody was asked


def test_credentials_that_live_shorter_than_the_warning_are_announced_halfway(
    own_server: Any, connected: Any, run: Any
) -> None:
    """A callback that reconnects at once makes no reconnects without a pause."""
    setup, user = Setup(), Key("user")
    server = own_server(config=setup.config())
    seen: list[float] = []

    def expiring(seconds: float) -> None:
        seen.append(seconds)
        nats.force_reconnect()

    nats = connected(
        server, jwt_cb=lambda: setup.user(user, 3), nkey_seed=user.seed, on_auth_expiring=expiring
    )
    run(lambda: len(seen) == 2)
    assert all(seconds <= 1.5 for seconds in seen)


def test_new_credentials_prevent_the_end(own_server: Any, connected: Any, run: Any) -> None:
    setup, user = Setup(), Key("user")
    server = own_server(config=setup.config())
    lives = [3, 1000]
    asked: list[float] = []
    nats = connected(
        server, jwt_cb=lambda: setup.user(user, lives.pop(0)), nkey_seed=user.seed,
        on_auth_expiring=asked.append,
    )  # fmt: skip
    run(lambda: asked)
    nats.force_reconnect()
    run(lambda: nats.stats()["reconnects"] == 1 and nats.is_connected())
    assert lives == []
    assert len(asked) == 1


def test_without_a_jwt_the_server_is_asked(fake: Any, client: Any, run: Any) -> None:
    seen: list[float] = []
    nats = client(
        fake(answering('{"data": {"expires": 1000000000}}')), on_auth_expiring=seen.append
    )
    run(lambda: seen)
    assert 0 <= seen[0] <= 0.5
    nats.disconnect()


def test_no_expiry_no_warning(own_server: Any, connected: Any, run: Any) -> None:
    setup, user = Setup(), Key("user")
    server = own_server(config=setup.config())
    seen: list[float] = []
    nats = connected(
        server, jwt=setup.user(user), nkey_seed=user.seed, on_auth_expiring=seen.append
    )
    done: list[Any] = []
    nats.flush(done.append)
    run(lambda: done)
    assert not seen


def test_the_callback_may_be_set_later_replaced_and_cleared(
    own_server: Any, connected: Any, run: Any
) -> None:
    setup, user = Setup(), Key("user")
    server = own_server(config=setup.config())
    nats = connected(server, jwt=setup.user(user, 3), nkey_seed=user.seed)
    seen: list[str] = []
    nats.on_auth_expiring(lambda seconds: seen.append("first"))
    run(lambda: seen)
    nats.on_auth_expiring(lambda seconds: seen.append("second"))
    nats.on_auth_expiring(None)
    done: list[Any] = []
    nats.flush(done.append)
    run(lambda: done)
    assert seen == ["first"]


@pytest.mark.parametrize(
    "exp", ["soon", None, True, -5, 0, 1e300, 10**400, float("nan"), [], 2**39]
)
def test_an_odd_expiry_is_none(fake: Any, connected: Any, run: Any, exp: Any) -> None:
    user = Key("user")
    jwt = Setup().account.odd_jwt(sub=user.public, exp=exp)
    seen: list[float] = []
    nats = connected(
        fake(lambda peer: (peer.handshake(nonce="n0nce"), peer.at_eof())), jwt=jwt, nkey_seed=user.seed,
        on_auth_expiring=seen.append,
    )  # fmt: skip
    nats.disconnect()
    assert not seen


@pytest.mark.parametrize("jwt", ["x", "x.y.z", "..", "a.é.b", "e.W10.x", "e.NQ.x"])
def test_a_jwt_that_is_none_is_sent_as_it_is(fake: Any, connected: Any, jwt: str) -> None:
    connected(
        fake(lambda peer: (peer.handshake(), peer.at_eof())), jwt=jwt, on_auth_expiring=print
    ).disconnect()


def test_it_all_ends_with_the_client(own_server: Any, connected: Any, loop: Any) -> None:
    """A deadline in a hundred years does not keep the loop."""
    setup, user = Setup(), Key("user")
    server = own_server(config=setup.config())
    nats = connected(
        server,
        jwt=setup.user(user, 3 * 10**9),
        nkey_seed=user.seed,
        on_auth_expiring=lambda seconds: None,
    )
    nats.drain()
    began = time.monotonic()
    loop.start()
    assert time.monotonic() - began < 20


def test_servers_expire_what_was_announced(own_server: Any, connected: Any, run: Any) -> None:
    """The order at the end: the warning, then the server's error."""
    setup, user = Setup(), Key("user")
    server = own_server(config=setup.config())
    seen: list[str] = []
    nats = connected(
        server, jwt=setup.user(user, 2), nkey_seed=user.seed, on_auth_expiring=lambda s: seen.append("soon"),
        on_error=lambda err: seen.append(type(err).__name__),
    )  # fmt: skip
    run(lambda: len(seen) == 2)
    assert seen == ["soon", "AuthExpiredError"]
    wait_for(lambda: not nats.is_connected())


@pytest.mark.parametrize("line", LINES)
def test_every_line_of_servers_says_who_a_client_is_and_traces_or_refuses(
    line_server: Any, connected: Any, call: Any, line: str
) -> None:
    nats = connected(line_server(line))
    result, err = call(nats.user_info)
    assert err is None
    assert result["account"] == "$G"
    trace, err = call(nats.trace, "nobody", b"")
    if line == "2.10":
        assert isinstance(err, UnsupportedError)
    else:
        assert trace.complete
