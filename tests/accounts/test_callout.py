"""The auth callout on real servers: in a server's configuration, and with an operator."""

from __future__ import annotations

import gc
import weakref
from datetime import timedelta
from typing import Any

import pytest

from lab.operators import Operator, credentials
from nats_ev import (
    AuthorizationError,
    ConnectionClosedError,
    MaxPayloadError,
    PermissionsViolationError,
)
from nats_ev.accounts import (
    AccountClaims,
    AuthCallout,
    AuthorizationRequestClaims,
    AuthorizationResponseClaims,
    JwtError,
    KeyPair,
    UserClaims,
)
from nats_ev.accounts.callout import AUDIENCE

pytestmark = pytest.mark.server


class Site:
    """A server whose configuration has a callout for all but the user auth."""

    def __init__(self, encrypted: bool = False, timeout: float = 2) -> None:
        self.key = KeyPair.create_account()
        self.xkey = KeyPair.create_curve_keys() if encrypted else None
        xkey = f"xkey: {self.xkey.public_key()}" if self.xkey else ""
        self.config = f"""
            accounts {{ AUTH: {{ users: [ {{ user: auth, password: pwd }} ] }}, APP: {{}}, SYS: {{}} }}
            system_account: SYS
            authorization {{
                timeout: {timeout}
                auth_callout {{
                    issuer: {self.key.public_key()}
                    account: AUTH
                    auth_users: [ auth ]
                    {xkey}
                }}
            }}
        """

    def serve(self, own_server: Any, **options: Any) -> Any:
        return own_server(config=self.config, **options)

    def callout(self, nats: Any, handler: Any, **options: Any) -> AuthCallout:
        options.setdefault("account", "APP")
        return AuthCallout(nats, self.key, handler, self.xkey, **options)


OWN = {"user": "auth", "password": "pwd"}
ALICE = {"user": "alice", "password": "wonder"}
MALLORY = {"user": "mallory", "password": "guess"}


def decide(request: Any) -> None:
    """Alice may come in."""
    sent = request.connect_opts
    if (sent.get("user"), sent.get("pass")) == ("alice", "wonder"):
        claims = request.user_claims(name="alice", expires=timedelta(hours=1))
        request.accept(claims.allow_pub("out", "$SYS.REQ.USER.INFO").allow_sub("in", "_INBOX.>"))
    else:
        request.refuse("who is that?")


@pytest.fixture
def refused(client: Any, run: Any) -> Any:
    """refused(server, **options): the error with which a server refuses a client."""

    def refused(server: Any, **options: Any) -> Any:
        nats = client(server, connect_timeout=20_000, **options)
        run(lambda: nats.recorder.errors)
        assert not nats.is_connected()
        return nats.recorder.errors[0]

    return refused


def logged(server: Any, run: Any, text: str) -> None:
    run(lambda: text in server.log)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "xkey"])
def test_accept_and_refuse(
    encrypted: bool,
    any_binary: Any,
    own_server: Any,
    connected: Any,
    refused: Any,
    run: Any,
    call: Any,
) -> None:
    site = Site(encrypted)
    server = site.serve(own_server, binary=any_binary)
    callout = site.callout(connected(server, **OWN), decide)
    alice = connected(server, name="of alice", **ALICE)
    info, err = call(alice.user_info)
    assert err is None
    assert info["account"] == "APP"
    assert sorted(info["permissions"]["publish"]["allow"]) == ["$SYS.REQ.USER.INFO", "out"]
    assert 0 < info["expires"] <= 3600 * 10**9
    alice.publish("elsewhere", "")
    run(lambda: alice.recorder.errors)
    assert isinstance(alice.recorder.errors[0], PermissionsViolationError)
    assert isinstance(refused(server, **MALLORY), AuthorizationError)
    stats = callout.stats()
    assert (stats["requests"], stats["accepted"], stats["refused"], stats["pending"]) == (
        2,
        1,
        1,
        0,
    )
    assert stats["bad_requests"] == 0
    logged(server, run, "who is that?")
    endpoint = callout.service.stats()["endpoints"][0]
    assert endpoint["num_requests"] == 2
    assert endpoint["num_errors"] == 1
    assert endpoint["data"]["accepted"] == 1


def test_what_a_request_tells(any_binary: Any, own_server: Any, connected: Any, certs: Any) -> None:
    site = Site(encrypted=True)
    requests: list[Any] = []

    def handler(request: Any) -> None:
        requests.append(request)
        request.accept()

    server = site.serve(own_server, binary=any_binary, tls=certs)
    tls = {"tls_ca_file": str(server.certificates.ca.cert_file)}
    callout = site.callout(connected(server, **tls, **OWN), handler)
    connected(server, **tls, **ALICE, name="of alice")
    (request,) = requests
    assert request.connect_opts["user"] == "alice"
    assert request.connect_opts["pass"] == "wonder"
    assert request.connect_opts["name"] == "of alice"
    assert request.client_info["host"] == "127.0.0.1"
    assert request.client_tls["version"] == "1.3"
    assert request.server_id["id"] == request.claims.issuer
    assert request.server_id["name"] == server.name
    assert request.answered
    assert "wonder" not in repr(request)
    assert callout.stats()["accepted"] == 1
    assert not request.refuse()
    assert not request.drop()


def test_an_answer_later(own_server: Any, connected: Any, client: Any, run: Any) -> None:
    site = Site(timeout=20)
    server = site.serve(own_server)
    requests: list[Any] = []
    callout = site.callout(connected(server, **OWN), requests.append, timeout_ms=0)
    alice = client(server, connect_timeout=20_000, **ALICE)
    run(lambda: requests)
    assert not alice.is_connected()
    assert callout.stats()["pending"] == 1
    assert requests[0].accept()
    run(alice.is_connected)
    assert not requests[0].accept()
    assert callout.stats()["pending"] == 0


def test_an_answer_too_late(own_server: Any, connected: Any, refused: Any, run: Any) -> None:
    site = Site(timeout=1)
    server = site.serve(own_server)
    requests: list[Any] = []
    callout = site.callout(connected(server, **OWN), requests.append)
    assert isinstance(refused(server, **ALICE), AuthorizationError)
    run(lambda: callout.stats()["timed_out"] == 1)
    assert requests[0].answered
    assert not requests[0].accept()
    assert callout.stats()["pending"] == 0


def test_a_time_out_of_its_own(own_server: Any, connected: Any, client: Any, run: Any) -> None:
    site = Site(timeout=20)
    server = site.serve(own_server)
    requests: list[Any] = []
    callout = site.callout(connected(server, **OWN), requests.append, timeout_ms=50)
    client(server, **ALICE)
    run(lambda: callout.stats()["timed_out"] == 1)
    assert not requests[0].refuse()


def test_a_handler_that_raises_refuses_and_tells_the_client_nothing(
    own_server: Any, connected: Any, refused: Any, run: Any, excepthook: Any
) -> None:
    site = Site()
    server = site.serve(own_server)

    def handler(request: Any) -> None:
        raise RuntimeError("the database's password is hunter2")

    callout = site.callout(connected(server, **OWN), handler)
    error = refused(server, **ALICE)
    assert isinstance(error, AuthorizationError)
    assert "hunter2" not in str(error)
    run(lambda: excepthook)
    assert isinstance(excepthook[0], RuntimeError)
    logged(server, run, "internal error")
    assert "hunter2" not in server.log
    assert callout.stats()["failed"] == 1
    assert callout.stats()["last_error"] == "RuntimeError"


def test_a_dropped_request_waits_for_the_servers_time_out(
    own_server: Any, connected: Any, refused: Any
) -> None:
    site = Site(timeout=1)
    server = site.serve(own_server)
    callout = site.callout(connected(server, **OWN), lambda request: request.drop())
    assert isinstance(refused(server, **ALICE), AuthorizationError)
    assert callout.stats()["dropped"] == 1


def test_instances_share_and_a_restart_is_survived(
    own_server: Any, connected: Any, client: Any, refused: Any, run: Any, call: Any
) -> None:
    site = Site(encrypted=True, timeout=3)
    server = site.serve(own_server)
    first = connected(server, **OWN)
    second = connected(server, reconnect=True, reconnect_delay=50, **OWN)
    one, other = site.callout(first, decide), site.callout(second, decide)
    for _ in range(20):
        connected(server, **ALICE)
    counts = [callout.stats()["accepted"] for callout in (one, other)]
    assert sum(counts) == 20
    assert all(counts)
    assert call(one.stop) == (True, None)
    assert one.stopped
    connected(server, **ALICE)
    assert one.stats()["accepted"] == counts[0]
    assert call(other.stop) == (True, None)
    assert isinstance(refused(server, **ALICE), AuthorizationError)  # nobody answers
    again = site.callout(second, decide)
    alice = connected(
        server, reconnect=True, reconnect_delay=50, ignore_auth_error_abort=True, **ALICE
    )
    server.restart()
    run(lambda: "reconnect" in second.recorder.events)
    run(lambda: "reconnect" in alice.recorder.events)
    assert again.stats()["accepted"] >= 2


def test_a_drain_waits_for_open_requests(
    own_server: Any, connected: Any, client: Any, run: Any
) -> None:
    site = Site(timeout=20)
    server = site.serve(own_server)
    requests: list[Any] = []
    nats = connected(server, **OWN)
    callout = site.callout(nats, requests.append)
    alice = client(server, **ALICE)
    run(lambda: requests)
    drained: list[Any] = []
    nats.drain(lambda err=None: drained.append(err))
    stopped: list[Any] = []
    callout.stop(lambda result, err: stopped.append((result, err)))
    run(lambda: callout.service.stopped)
    assert not drained
    assert not stopped
    requests[0].accept()
    run(alice.is_connected)
    run(lambda: drained and stopped)
    assert drained == [None]
    assert stopped == [(True, None)]


def test_the_end_of_the_client_ends_all(
    own_server: Any, connected: Any, client: Any, run: Any
) -> None:
    site = Site(timeout=20)
    server = site.serve(own_server)
    requests: list[Any] = []
    nats = connected(server, **OWN)
    callout = site.callout(nats, requests.append)
    client(server, **ALICE)
    run(lambda: requests)
    stopped: list[Any] = []
    callout.stop(lambda result, err: stopped.append((result, err)))
    run(lambda: callout.stopped)
    assert not stopped
    nats.disconnect()
    run(lambda: stopped)
    assert stopped[0][0] is None
    assert isinstance(stopped[0][1], ConnectionClosedError)
    assert len(stopped) == 1
    assert callout.stats()["pending"] == 0
    assert requests[0].answered
    assert not requests[0].accept()


def test_a_callout_that_may_do_nothing_else(
    own_server: Any, connected: Any, refused: Any, run: Any
) -> None:
    site = Site(encrypted=True, timeout=1)
    allowed = '"$SYS.REQ.USER.AUTH", "$SRV.>"'
    rights = f'subscribe: [{allowed}], publish: {{ deny: ">" }}, allow_responses: true'
    site.config = site.config.replace(
        "password: pwd",
        f"password: pwd, permissions: {{ {rights} }}",
    )
    server = site.serve(own_server)
    site.callout(connected(server, **OWN), decide)
    connected(server, **ALICE)
    # Without discovery the service stops; the client is told.
    site.config = site.config.replace(', "$SRV.>"', "")
    server = site.serve(own_server)
    nats = connected(server, **OWN)
    callout = site.callout(nats, decide)
    run(lambda: callout.stopped)
    assert isinstance(nats.recorder.errors[0], PermissionsViolationError)
    assert isinstance(refused(server, **ALICE), AuthorizationError)


def test_what_a_handler_may_do_besides(
    own_server: Any, connected: Any, run: Any, excepthook: Any
) -> None:
    """It raises after its answer, and stops the callout."""
    site = Site()
    server = site.serve(own_server)
    stopped: list[Any] = []

    def handler(request: Any) -> None:
        assert request.accept()
        callout.stop(lambda result, err: stopped.append((result, err)))
        raise RuntimeError("too late")

    callout = site.callout(connected(server, **OWN), handler)
    connected(server, **ALICE)
    run(lambda: stopped and excepthook)
    stats = callout.stats()
    assert (stats["accepted"], stats["failed"], stats["pending"]) == (1, 0, 0)
    assert stopped == [(True, None)]


def test_what_is_too_large_for_an_answer_is_refused(
    own_server: Any, connected: Any, refused: Any, run: Any, excepthook: Any
) -> None:
    site = Site(encrypted=True)
    site.config += "\nmax_payload: 4096\n"
    server = site.serve(own_server)

    def handler(request: Any) -> None:
        request.accept(request.user_claims().allow_sub(*(f"subject.{i}" for i in range(1000))))

    callout = site.callout(connected(server, **OWN), handler)
    assert isinstance(refused(server, **ALICE), AuthorizationError)
    run(lambda: excepthook)
    assert isinstance(excepthook[0], MaxPayloadError)
    assert callout.stats()["failed"] == 1


def test_nothing_holds_a_callout_that_has_stopped(
    own_server: Any, connected: Any, call: Any, eventually: Any
) -> None:
    site = Site()
    server = site.serve(own_server)
    nats = connected(server, **OWN)
    requests: list[Any] = []

    def handler(request: Any) -> None:
        requests.append(weakref.ref(request))
        request.accept()

    callout = site.callout(nats, handler)
    connected(server, **ALICE)
    assert call(callout.stop) == (True, None)
    gone = weakref.ref(callout)
    del callout
    eventually(lambda: gc.collect() is not None and gone() is None)
    assert requests[0]() is None


def test_an_xkey_on_one_side_alone(own_server: Any, connected: Any, refused: Any, run: Any) -> None:
    site = Site(encrypted=True, timeout=1)
    server = site.serve(own_server)
    errors: list[Any] = []
    nats = connected(server, **OWN)
    AuthCallout(nats, site.key, decide, error_handler=lambda each, err: errors.append(err))
    assert isinstance(refused(server, **ALICE), AuthorizationError)
    assert "the callout has no xkey" in str(errors[0])

    plain = Site(timeout=1)
    server = plain.serve(own_server)
    callout = AuthCallout(connected(server, **OWN), plain.key, decide, KeyPair.create_curve_keys())
    assert isinstance(refused(server, **ALICE), AuthorizationError)
    assert "not encrypted" in callout.stats()["last_error"]


def test_forged_requests_get_no_answer(server: Any, connected: Any, run: Any) -> None:
    """On a server without a callout everybody may publish to its subject."""
    key, user, signer = KeyPair.create_account(), KeyPair.create_user(), KeyPair.create_server()
    errors: list[Any] = []
    nats = connected(server)
    name = f"callout-{user.public_key()[-8:]}"
    callout = AuthCallout(
        nats, key, decide, name=name, error_handler=lambda each, err: errors.append(str(err))
    )
    answers: list[Any] = []
    inbox = nats.new_inbox()
    nats.subscribe(inbox, lambda subject, payload, reply, headers: answers.append(payload))

    def request(signed_by: KeyPair = signer, audience: str = AUDIENCE, **fields: Any) -> str:
        claims = AuthorizationRequestClaims(key, audience=audience, expires=timedelta(seconds=2))
        claims.nats = {
            "user_nkey": user.public_key(),
            "server_id": {"id": signer.public_key(), "name": "forged", "host": "here"},
            "connect_opts": {"user": "alice", "pass": "wonder", "protocol": 1},
        } | fields
        return claims.encode(signed_by, check=False)

    good = request()
    forged = [
        "",
        "eyJ",
        "eyJ0.e.x",
        "not a JWT",
        user.public_key(),
        UserClaims(user).encode(key),
        request(KeyPair.create_server()),
        request(audience="another"),
        request(user_nkey="U"),
        request(user_nkey=key.public_key()),
        request(server_id={}),
        good[:-4] + "AAAA",
        good.replace(".", ".A", 1),
    ]
    for each in [*forged, bytes(100), b"xkv1" + bytes(50)]:
        nats.publish("$SYS.REQ.USER.AUTH", each, inbox)
    run(lambda: callout.stats()["bad_requests"] == len(forged) + 2)
    assert len(errors) == len(forged) + 2
    assert callout.stats()["requests"] == 0
    nats.publish("$SYS.REQ.USER.AUTH", good, inbox)
    run(lambda: answers)
    assert len(answers) == 1
    answer = AuthorizationResponseClaims.decode(answers[0].decode())
    assert answer.issuer == key.public_key()
    assert answer.subject == user.public_key()
    assert answer.audience == signer.public_key()
    claims = UserClaims.decode(answer.nats["jwt"])
    assert claims.audience == "$G"
    assert claims.name == "alice"
    with pytest.raises(JwtError, match="signed by a key of kind server"):
        request(KeyPair.create_user())


def test_users_that_can_not_be_are_refused_at_the_call(
    own_server: Any, connected: Any, client: Any, run: Any
) -> None:
    site = Site()
    server = site.serve(own_server)
    raised: list[Any] = []
    another = KeyPair.create_user()

    def handler(request: Any) -> None:
        for user in (
            UserClaims(another),
            UserClaims(another).encode(site.key),
            "no JWT",
            request.user_claims().allow_pub("two words"),
        ):
            with pytest.raises(JwtError) as caught:
                request.accept(user)
            raised.append(str(caught.value))
        with pytest.raises(TypeError):
            request.accept({"sub": request.user_nkey})
        jwt = UserClaims(request.user_nkey, audience="APP").encode(site.key)
        # It says already what these would.
        for beside in ({"account": "AUTH"}, {"key": site.key}, {"issuer_account": site.key}):
            with pytest.raises(JwtError, match="account already"):
                request.accept(jwt, **beside)
        request.accept(jwt)

    site.callout(connected(server, **OWN), handler)
    connected(server, **ALICE)
    assert len(raised) == 4


def test_wrong_arguments(own_server: Any, connected: Any) -> None:
    site = Site()
    nats = connected(site.serve(own_server), **OWN)
    public = KeyPair.from_public_key(site.key.public_key())
    for key in (public, KeyPair.create_user(), KeyPair.create_curve_keys(), "SU", ""):
        with pytest.raises(ValueError):
            AuthCallout(nats, key, decide)
    with pytest.raises(TypeError):
        AuthCallout(nats, None, decide)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="kind curve"):
        AuthCallout(nats, site.key, decide, site.key)
    with pytest.raises(ValueError, match="public account key"):
        AuthCallout(nats, site.key, decide, issuer_account="APP")
    with pytest.raises(TypeError, match="handler"):
        AuthCallout(nats, site.key, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        AuthCallout(nats, site.key, lambda: None)  # type: ignore[arg-type, misc]
    AuthCallout(nats, site.key.seed(), decide).stop()


class OperatorSite:
    """An operator whose account AUTH has a callout, and an account APP."""

    def __init__(self, encrypted: bool, signing: bool) -> None:
        self.operator = Operator()
        self.auth, self.app = KeyPair.create_account(), KeyPair.create_account()
        self.own = KeyPair.create_user()
        self.xkey = KeyPair.create_curve_keys() if encrypted else None
        self.auth_signer = KeyPair.create_account() if signing else self.auth
        self.app_signer = KeyPair.create_account() if signing else self.app
        auth = AccountClaims(self.auth, name="AUTH").enable_external_authorization(
            self.own, allowed_accounts=[self.app], xkey=self.xkey or ""
        )
        app = AccountClaims(self.app, name="APP")
        if signing:
            auth.add_signing_key(self.auth_signer)
            app.add_signing_key(self.app_signer)
        self.operator.add(auth)
        self.operator.add(app)
        self.options: dict[str, Any] = {"issuer_account": self.auth} if signing else {}
        self.target: dict[str, Any] = {"key": self.app_signer}
        if signing:
            self.target["issuer_account"] = self.app
        # What clients show is a user that may do nothing: a sentinel.
        self.sentinel = credentials(
            self.auth,
            UserClaims(KeyPair.create_user(), bearer_token=True).deny_pub(">").deny_sub(">"),
        )


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "xkey"])
@pytest.mark.parametrize("signing", [False, True], ids=["own-keys", "signing-keys"])
def test_with_an_operator(
    encrypted: bool,
    signing: bool,
    any_binary: Any,
    own_server: Any,
    connected: Any,
    refused: Any,
    call: Any,
) -> None:
    site = OperatorSite(encrypted, signing)
    server = own_server(
        config=site.operator.config("authorization { timeout: 2 }"), binary=any_binary
    )

    def handler(request: Any) -> None:
        if request.connect_opts.get("auth_token") == "to APP":
            request.accept(request.user_claims(name="bob"), **site.target)
        elif request.connect_opts.get("auth_token") == "to AUTH":
            request.accept()
        else:
            request.refuse()

    own = credentials(site.auth, user=site.own)
    callout = AuthCallout(
        connected(server, **own), site.auth_signer, handler, site.xkey, **site.options
    )
    for token, account in (("to APP", site.app), ("to AUTH", site.auth)):
        nats = connected(
            server, jwt=site.sentinel["jwt"], signature_cb=lambda nonce: b"", token=token
        )
        info, err = call(nats.user_info)
        assert err is None
        assert info["account"] == account.public_key()
    error = refused(server, jwt=site.sentinel["jwt"], signature_cb=lambda nonce: b"", token="?")
    assert isinstance(error, AuthorizationError)
    assert callout.stats()["accepted"] == 2
