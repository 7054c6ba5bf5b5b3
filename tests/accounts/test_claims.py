"""Claims and JWTs without a server: what is written, read, found wrong and refused."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.claims_mistakes import EXPORTER, IMPORTER, OF_ACCOUNTS, OF_USERS, TOKEN, USER, A
from nats_ev import BadOptionsError
from nats_ev.accounts import (
    AccountClaims,
    ActivationClaims,
    AuthorizationRequestClaims,
    AuthorizationResponseClaims,
    Claims,
    GenericClaims,
    JwtError,
    JwtValidationError,
    KeyPair,
    NkeyError,
    OperatorClaims,
    UserClaims,
    decode,
    decorate_jwt,
    decorate_seed,
    format_user_config,
    issue_user_jwt,
    parse_decorated_jwt,
    parse_decorated_nkey,
    write_creds,
)
from nats_ev.auth import parse_creds

OPERATOR, SERVER, CURVE = map(KeyPair.create_pair, ("operator", "server", "curve"))
ACCOUNT = EXPORTER
OTHER = IMPORTER
IAT = 1_700_000_000

# JWTs by nats-io/jwt: an operator, an account with JetStream, a user; an activation of version 1.
HEADER = "eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ"
OF_GO = {
    "operator": (
        f"{HEADER}.eyJqdGkiOiIyUkc0WjJKVzYzSUtBS1czSFg0SkpMQVhRN1ZSM0NKVlRQU1FHUVRCU0ZFQjVKTkNISU"
        "pRIiwiaWF0IjoxNjE2MTg2MjAxLCJpc3MiOiJPRDRNNklBQUtRU000RFFTTFdaSVZCQUNZVFlTMlM2WFFTN1U2N1hY"
        "WVhKNDRJTE5FMzVZUEdKSyIsIm5hbWUiOiJqcy10ZXN0Iiwic3ViIjoiT0Q0TTZJQUFLUVNNNERRU0xXWklWQkFDWV"
        "RZUzJTNlhRUzdVNjdYWFlYSjQ0SUxORTM1WVBHSksiLCJuYXRzIjp7InR5cGUiOiJvcGVyYXRvciIsInZlcnNpb24i"
        "OjJ9fQ.VkjSK2BlMmtYfVJSkC9aZEFvjg4BXzbd0oXkQa3Rlkhh8EuSRU7-Tp1zUm1SveBb6dZXsE51vhIQFQY66fO0Bw"
    ),
    "account": (
        f"{HEADER}.eyJqdGkiOiJRSVFDRFpRRkRIUU9WQlc3Q0tDNFQzVzJJV0dZV1ZISjZTVTRSTlYzUFo3NUhTUFVQS1ZBIi"
        "wiaWF0IjoxNjE2MTg3MjUwLCJpc3MiOiJPRDRNNklBQUtRU000RFFTTFdaSVZCQUNZVFlTMlM2WFFTN1U2N1hYWVhKNDRJ"
        "TE5FMzVZUEdKSyIsIm5hbWUiOiJvbmUiLCJzdWIiOiJBQlZSWktKNlo3TklNUElZSlJDSEVZRlJVTzdFTk42TldPS1FERk"
        "xGREZWUFNNMzZVUFgyVUNQUCIsIm5hdHMiOnsibGltaXRzIjp7InN1YnMiOi0xLCJkYXRhIjotMSwicGF5bG9hZCI6LTEs"
        "ImltcG9ydHMiOi0xLCJleHBvcnRzIjotMSwid2lsZGNhcmRzIjp0cnVlLCJjb25uIjotMSwibGVhZiI6LTEsIm1lbV9zdG"
        "9yYWdlIjoxMDczNzQxODI0LCJkaXNrX3N0b3JhZ2UiOjEwNzM3NDE4MjQwLCJzdHJlYW1zIjoxMDB9LCJkZWZhdWx0X3Bl"
        "cm1pc3Npb25zIjp7InB1YiI6e30sInN1YiI6e319LCJ0eXBlIjoiYWNjb3VudCIsInZlcnNpb24iOjJ9fQ.yYdE3AjpWMB"
        "t_rZVLSNmuxR28FP5-6fO_x6FMQl7xe7hmeEc--bbCBcw4ujEjtVkE62I21asKtu06vmW1fEsAg"
    ),
    "user": (
        f"{HEADER}.eyJqdGkiOiJHRUNQVEpISE1TM01DTUtMVFBHWUdBTzQ1R1E2TjZRUFlXUTRHUExBRUIzM1ZDUkpOUlZRIi"
        "wiaWF0IjoxNjE2MjQ3MjMyLCJpc3MiOiJBQlZSWktKNlo3TklNUElZSlJDSEVZRlJVTzdFTk42TldPS1FERkxGREZWUFNN"
        "MzZVUFgyVUNQUCIsIm5hbWUiOiJvbmUiLCJzdWIiOiJVRENJQkdHR0hDSkJRUE9PNFNDSkpCSFpEUjM3TlFHR0NJV01ORz"
        "JEREFLSjZXTUtCTUFLWElNTyIsIm5hdHMiOnsicHViIjp7fSwic3ViIjp7fSwic3VicyI6LTEsImRhdGEiOi0xLCJwYXls"
        "b2FkIjotMSwidHlwZSI6InVzZXIiLCJ2ZXJzaW9uIjoyfX0.VLhSDtGZEF_jdvgmhgkdISXAt5wFMMZxxwm5w8UrsnlM1"
        "hkUvtxBlTe4IP0xJIf4xf8JOR2Bmf73xUGJKUZECQ"
    ),
}
OF_VERSION_1 = (
    "eyJ0eXAiOiJqd3QiLCJhbGciOiJlZDI1NTE5In0.eyJqdGkiOiJGQ1lZRjJLR0EzQTZHTlZQR0pIVjNUSExYR1VZWkFUREZ"
    "LV1JTT1czUUo1T0k3QlJST0ZRIiwiaWF0IjoxNTQzOTQzNjc1LCJpc3MiOiJBQ1NKWkhOWlI0QUFUVE1KNzdUV1JONUJHVU"
    "ZFWFhUS0gzWEtGTldDRkFCVzJRWldOUTRDQkhRRSIsInN1YiI6IkFEVEFHWVZYRkpPRENRM0g0VUZQQU43R1dXWk1BVU9FT"
    "TJMMkRWQkFWVFdLM01TU0xUS1JUTzVGIiwidHlwZSI6ImFjdGl2YXRpb24iLCJuYXRzIjp7InN1YmplY3QiOiJmb28iLCJ0"
    "eXBlIjoic2VydmljZSJ9fQ.HCZTCF-7wolS3Wjx3swQWMkoDhoo_4gp9EsuM5diJfZrH8s6NTpO0iT7_fKZm7dNDeEoqjw"
    "U--3ebp8j-Mm_Aw"
)


def body_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    body: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return body


def encoded(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def signed(body: Any, key: KeyPair = ACCOUNT, header: Any = None) -> str:
    """A JWT with any body, rightly signed."""
    text = f"{encoded(header or {'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{encoded(body)}"
    return f"{text}.{encoded(key.sign(text.encode()))}"


@pytest.mark.parametrize("kind", OF_GO)
def test_jwts_of_the_official_library_are_read_and_written_alike(kind: str) -> None:
    token = OF_GO[kind]
    claims = decode(token)
    assert claims.type == kind
    assert claims.validate() == []
    assert claims.to_dict() == body_of(token)
    # The id is computed alike, and the text is the same to the byte.
    signer = KeyPair.create_pair("account" if kind == "user" else "operator")
    from nats_ev.accounts import tokens

    body = claims.to_dict()
    assert tokens.new_id(body) == claims.id
    assert encoded(tokens.to_json(body).encode()) == token.split(".")[1]
    issued_at = claims.issued_at
    again = decode(claims.encode(signer, issued_at=issued_at))
    assert (again.subject, again.issuer) == (claims.subject, signer.public_key())
    assert again.id != body["jti"]


def test_a_jwt_of_version_1() -> None:
    claims = ActivationClaims.decode(OF_VERSION_1)
    assert claims.nats["subject"] == "foo"
    assert claims.nats["kind"] == "service"
    assert claims.validate() == []


def test_the_same_claims_give_the_same_jwt() -> None:
    def make() -> str:
        claims = UserClaims(USER, name="<Ann & Bob>", tags=["b", "A", "b "], expires=IAT + 10**9)
        claims.allow_pub("b", "a").deny_sub("c").allow_responses(-1, timedelta(seconds=5))
        return claims.encode(ACCOUNT, issued_at=IAT)

    token = make()
    assert make() == token
    body = body_of(token)
    assert list(body) == ["exp", "jti", "iat", "iss", "name", "sub", "nats"]
    assert body["nats"] == {
        "pub": {"allow": ["b", "a"]},
        "sub": {"deny": ["c"]},
        "resp": {"max": -1, "ttl": 5 * 10**9},
        "subs": -1,
        "data": -1,
        "payload": -1,
        "tags": ["b", "a"],
        "type": "user",
        "version": 2,
    }
    part = base64.urlsafe_b64decode(token.split(".")[1] + "==")
    assert b"\\u003cAnn \\u0026 Bob\\u003e" in part  # as Go escapes it, which counts for the id


def test_claims_come_back() -> None:
    claims = UserClaims(
        USER,
        name="worker",
        audience="APP",
        expires=datetime(2100, 1, 1, tzinfo=timezone.utc),
        not_before=timedelta(hours=-1),
        issuer_account=OTHER.public_key(),
        src=["10.0.0.0/8"],
        times=[{"start": "08:00:00", "end": "18:00:00"}],
        times_location="Europe/Berlin",
        bearer_token=True,
        allowed_connection_types=["WEBSOCKET"],
        subs=3,
    )
    assert claims.expires == 4102444800
    again = UserClaims.decode(claims.encode(ACCOUNT))
    assert again == claims
    assert again != UserClaims(USER)
    assert again.issuer == ACCOUNT.public_key()
    assert abs(again.issued_at - time.time()) < 60
    assert repr(again) == f"<UserClaims {USER.public_key()} 'worker'>"


def test_networks_as_one_text() -> None:
    claims = UserClaims(USER, src="10.0.0.0/8, FE80::/10")  # type: ignore[arg-type]
    assert claims.nats["src"] == ["10.0.0.0/8", "fe80::/10"]
    body = body_of(GOOD)
    body["nats"]["src"] = "10.0.0.0/8,"
    assert UserClaims.decode(signed(body)).nats["src"] == ["10.0.0.0/8"]


def test_limits_of_a_decoded_account() -> None:
    body = AccountClaims(OTHER).to_dict() | {"iss": ACCOUNT.public_key()}
    del body["nats"]["limits"]
    claims = AccountClaims.decode(signed(body))
    claims.set_limits(conn=1).enable_jetstream(tier="R1")
    assert claims.nats["limits"]["conn"] == 1


def test_scoped_users() -> None:
    token = issue_user_jwt(ACCOUNT, OTHER, USER, expires=timedelta(hours=1), tags=["x"])
    claims = UserClaims.decode(token)
    assert claims.has_empty_permissions()
    assert claims.name == USER.public_key()
    assert claims.nats["issuer_account"] == OTHER.public_key()
    assert not UserClaims(USER).has_empty_permissions()
    assert body_of(token)["nats"]["pub"] == {}
    for account, user in ((USER, USER), (OTHER, ACCOUNT)):
        with pytest.raises(JwtError):
            issue_user_jwt(ACCOUNT, account, user)


def test_who_may_sign_what() -> None:
    for claims, right in (
        (UserClaims(USER), {"account"}),
        (AccountClaims(OTHER), {"account", "operator"}),
        (ActivationClaims(OTHER, subject="a", kind="stream"), {"account", "operator"}),
        (OperatorClaims(OPERATOR), {"operator"}),
    ):
        for key in (OPERATOR, ACCOUNT, USER, SERVER):
            if key.kind in right:
                assert decode(claims.encode(key)).issuer == key.public_key()
            else:
                with pytest.raises(JwtError, match="are signed by a key of kind"):
                    claims.encode(key)
                with pytest.raises(JwtError, match="the issuer of"):
                    decode(signed({**claims.to_dict(), "iss": key.public_key()}, key))
        with pytest.raises(NkeyError):
            claims.encode(
                KeyPair.from_public_key(ACCOUNT.public_key())
            ) if "account" in right else (
                claims.encode(KeyPair.from_public_key(OPERATOR.public_key()))
            )
        with pytest.raises(TypeError):
            claims.encode(ACCOUNT.seed())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (UserClaims, ACCOUNT),
        (AccountClaims, USER),
        (OperatorClaims, ACCOUNT),
        (ActivationClaims, USER),
    ],
)
def test_subjects_are_of_their_kind(make: Any, wrong: KeyPair) -> None:
    signer = OPERATOR if make is OperatorClaims else ACCOUNT
    for subject in (wrong, "", "x", CURVE):
        with pytest.raises(JwtError, match="subject"):
            make(subject).encode(signer)
    with pytest.raises(TypeError):
        make(None)


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"permissions": {}}, TypeError, "has no field 'permissions'; it has pub, sub"),
        ({"type": "user"}, TypeError, "no field 'type'"),
        ({"pub": {"alow": ["x"]}}, JwtError, "unknown field pub.alow"),
        ({"pub": ["x"]}, JwtError, "pub must be a dict, not list"),
        ({"pub": {"allow": "x"}}, JwtError, "pub.allow must be a list, not str"),
        ({"pub": {"allow": [b"x"]}}, JwtError, r"pub.allow\[0\] must be str, not bytes"),
        ({"subs": "1"}, JwtError, "subs must be int"),
        ({"subs": True}, JwtError, "subs must be int, not bool"),
        ({"subs": 1 << 64}, JwtError, "out of range"),
        ({"bearer_token": 1}, JwtError, "bearer_token must be bool"),
        ({"resp": {"max": 1, "ttl": 30}}, JwtError, "use a timedelta"),
        ({"resp": {"max": 1, "ttl": 1.5}}, JwtError, "timedelta, not float"),
        ({"expires": 3600}, JwtError, "use a timedelta"),
        ({"expires": -1}, JwtError, "use a timedelta"),
        ({"expires": datetime.min}, JwtError, "expires is"),
        ({"expires": timedelta.max}, JwtError, "expires is out of range"),
        ({"expires": timedelta.min}, JwtError, "expires is"),
        ({"expires": 1.5}, TypeError, "datetime, timedelta or int"),
        ({"expires": True}, TypeError, "not bool"),
        ({"name": 1}, TypeError, "name must be str"),
        ({"tags": "x"}, JwtError, "tags must be a list"),
    ],
)
def test_mistakes_are_raised_at_once(fields: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        UserClaims(USER, **fields)


def test_fields_that_were_set_wrongly_are_found_when_encoded() -> None:
    claims = UserClaims(USER)
    claims.nats["subs"] = "many"  # type: ignore[typeddict-item]
    with pytest.raises(JwtError, match=r"nats\.subs must be int"):
        claims.encode(ACCOUNT)
    assert (claims.issuer, claims.issued_at, claims.id) == ("", 0, "")
    half = UserClaims(USER, name="\ud800")
    with pytest.raises(JwtError, match="can't be JSON"):
        half.encode(ACCOUNT)
    generic = GenericClaims(USER, thing=object())
    with pytest.raises(JwtError, match="can't be JSON"):
        generic.encode(ACCOUNT)


def issues_of(claims: Claims) -> list[str]:
    return [issue.description for issue in claims.validate() if issue.blocking]


@pytest.mark.parametrize(("fields", "text"), OF_USERS)
def test_what_is_wrong_with_a_user(fields: Any, text: str) -> None:
    claims = UserClaims(USER, **fields)
    assert any(text in issue for issue in issues_of(claims))
    with pytest.raises(JwtValidationError) as caught:
        claims.encode(ACCOUNT)
    assert text in str(caught.value)
    assert caught.value.issues[0].blocking
    assert UserClaims.decode(claims.encode(ACCOUNT, check=False)) == claims


@pytest.mark.parametrize(
    "fields",
    [
        {"sub": {"allow": ["a q", ">", "*.b"]}},
        {"src": ["10.0.0.7/8", "::/0"]},
        {"times": [{"start": "8:00:00", "end": "23:59:59"}], "times_location": "UTC"},
    ],
)
def test_what_is_right_with_a_user(fields: Any) -> None:
    assert UserClaims(USER, **fields).validate() == []


def test_times_do_not_block() -> None:
    claims = UserClaims(USER, expires=int(time.time()) - 5, not_before=timedelta(days=1))
    issues = claims.validate()
    assert [(issue.blocking, issue.time_check) for issue in issues] == [(False, True)] * 2
    assert [issue.description for issue in issues] == ["claim is expired", "claim is not yet valid"]
    decode(claims.encode(ACCOUNT))


@pytest.mark.parametrize(("fields", "text"), OF_ACCOUNTS)
def test_what_is_wrong_with_an_account(fields: Any, text: str) -> None:
    claims = AccountClaims(OTHER, **fields)
    assert any(text in issue for issue in issues_of(claims)), issues_of(claims)
    assert AccountClaims.decode(claims.encode(OPERATOR, check=False)) == claims


def test_what_is_right_with_an_account() -> None:
    claims = AccountClaims(OTHER, name="APP", description="x", info_url="https://example.com/x")
    claims.add_export("prices.*", "service", account_token_position=2, response_type="Chunked")
    claims.add_export("a.>", "stream").add_export("b", "stream", token_req=True)
    claims.add_import("a.b", ACCOUNT, "stream", token=TOKEN)
    claims.add_import("x.*.y.*", ACCOUNT, "service", local_subject="y.$2.$1")
    claims.enable_jetstream(tier="R1").enable_jetstream(tier="R3", streams=2)
    claims.add_mapping("m", {"subject": "n", "weight": 50}, {"subject": "o", "weight": 50})
    claims.enable_external_authorization(USER, allowed_accounts=["*"], xkey=CURVE)
    claims.add_signing_key(ACCOUNT, role="r", template={"pub": {"allow": ["{{ name() }}.x y"]}})
    claims.add_signing_key(KeyPair.create_account())
    claims.set_limits(conn=5)
    assert claims.validate() == []
    again = AccountClaims.decode(claims.encode(OPERATOR))
    assert again == claims
    assert again.nats["limits"]["conn"] == 5
    assert again.nats["limits"]["tiered_limits"]["R3"]["streams"] == 2
    claims.add_signing_key(OTHER, template={"pub": {"allow": ["a..b"]}})
    (issue,) = claims.validate()
    assert "template of signing key" in issue.description
    assert not issue.blocking
    (issue,) = AccountClaims.decode(AccountClaims(OTHER).encode(OTHER)).validate()
    assert "self-signed" in issue.description
    assert not issue.blocking


def test_wrong_fields_of_the_helpers() -> None:
    claims = AccountClaims(OTHER)
    for wrong in (
        lambda: claims.add_export("a", "stream", subjekt="b"),  # type: ignore[call-arg]
        lambda: claims.add_import("a", OTHER, "stream", tokn="b"),  # type: ignore[call-arg]
        lambda: claims.set_limits(connections=1),  # type: ignore[call-arg]
        lambda: claims.enable_jetstream(memory=1),  # type: ignore[call-arg]
        lambda: claims.add_signing_key(OTHER, template={"pubs": {}}),  # type: ignore[typeddict-unknown-key]
        lambda: claims.add_mapping("a", {"wait": 1}),  # type: ignore[typeddict-unknown-key]
        lambda: claims.revoke("everyone"),
    ):
        with pytest.raises(JwtError):
            wrong()
    with pytest.raises(JwtError, match="at least one"):
        UserClaims(USER).allow_sub()  # which would allow everything
    with pytest.raises(TypeError):
        UserClaims(USER).allow_pub(["a"])  # type: ignore[arg-type]
    assert claims == AccountClaims(OTHER)


def test_signing_keys_are_replaced_and_removed() -> None:
    claims = AccountClaims(OTHER).add_signing_key(ACCOUNT)
    claims.add_signing_key(ACCOUNT, role="x").add_signing_key(ACCOUNT, role="y")
    (scope,) = claims.nats["signing_keys"]
    assert isinstance(scope, dict)
    assert scope["role"] == "y"
    user = UserClaims(USER, issuer_account=OTHER.public_key())
    user.encode(ACCOUNT)
    assert claims.did_sign(user)
    assert not AccountClaims(ACCOUNT).did_sign(AccountClaims(OTHER))
    claims.remove_signing_key(ACCOUNT)
    assert not claims.did_sign(user)
    user.encode(OTHER)
    assert claims.did_sign(user)


def test_revocations() -> None:
    claims = AccountClaims(OTHER)
    user = UserClaims.decode(UserClaims(USER).encode(OTHER, issued_at=IAT))
    assert not claims.is_claim_revoked(user)
    claims.revoke(USER, at=IAT - 1)
    assert not claims.is_claim_revoked(user)
    claims.revoke(USER, at=IAT).revoke(USER, at=IAT - 1)
    assert claims.is_claim_revoked(user)
    claims.clear_revocation(USER)
    assert not claims.is_claim_revoked(user)
    assert claims.revoke().is_claim_revoked(user)
    assert AccountClaims.decode(claims.encode(OPERATOR)).nats["revocations"]["*"] > IAT
    assert claims.is_claim_revoked(UserClaims(USER))  # which was not issued


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"account_server_url": "host"}, "requires a protocol"),
        ({"operator_service_urls": ["http://x"]}, "only nats, tls, ws and wss"),
        ({"operator_service_urls": ["nats://x/path"]}, "paths are not supported"),
        ({"operator_service_urls": ["nats://u:hunter2@x"]}, "has credentials"),
        ({"signing_keys": [A]}, "signing key is not an operator public key"),
        ({"system_account": USER.public_key()}, "system_account is not an account public key"),
        ({"assert_server_version": "2.10"}, "<major>.<minor>.<update>"),
    ],
)
def test_what_is_wrong_with_an_operator(fields: Any, text: str) -> None:
    claims = OperatorClaims(OPERATOR, **fields)
    (issue,) = issues_of(claims)
    assert text in issue
    assert "hunter2" not in issue


def test_activations() -> None:
    claims = ActivationClaims(OTHER, subject="a.*.b", kind="stream", expires=timedelta(days=1))
    with pytest.raises(JwtError, match="not enough data"):
        claims.hash_id()
    claims.encode(ACCOUNT)
    assert len(claims.hash_id()) == 56
    other = ActivationClaims(OTHER, subject="a.>", kind="service")
    other.encode(ACCOUNT)
    assert other.hash_id() == claims.hash_id()
    assert "invalid import type" in issues_of(ActivationClaims(OTHER, subject="a"))[0]


def test_claims_of_the_callout() -> None:
    request = AuthorizationRequestClaims(ACCOUNT)
    assert "user_nkey is not a user public key" in issues_of(request)[0]
    response = AuthorizationResponseClaims(USER, audience=SERVER.public_key())
    response.nats = {"error": "no"}
    assert response.validate() == []
    response.nats = {"error": "no", "jwt": "x", "issuer_account": "A"}
    response.audience = "x"
    assert len(issues_of(response)) == 3


def test_generic_claims() -> None:
    claims = GenericClaims(OPERATOR, name="list", accounts=[A], type="mine")
    token = claims.encode(OPERATOR)
    again = decode(token)
    assert isinstance(again, GenericClaims)
    assert again.type == "mine"
    assert again.nats == {"accounts": [A], "type": "mine", "version": 2}
    assert "type" not in body_of(GenericClaims(OPERATOR).encode(OPERATOR))["nats"]
    with pytest.raises(JwtError, match="not user claims"):
        UserClaims.decode(token)


# Reading what others have made.

GOOD = UserClaims(USER).encode(ACCOUNT)


@pytest.mark.parametrize(
    ("token", "text"),
    [
        ("", "three parts"),
        ("a.b", "three parts"),
        ("a.b.c.d", "three parts"),
        ("a.b.c", "header is not base64url"),
        ("aa.b.c", "header is not JSON"),
        (f"{encoded([])}.b.c", "header is not a JSON object"),
        (f"{encoded({'typ': 'x'})}.b.c", "typ"),
        (f"{encoded({'typ': 'JWT', 'alg': 'none'})}.e30.", "algorithm"),
        (f"{encoded({'typ': 'JWT', 'alg': ['ed25519']})}.e30.", "algorithm"),
        (f"{HEADER}.é.c", "claims is not base64url"),
        (f"{HEADER}.{encoded(b'{')}.c", "claims is not JSON"),
        (f"{HEADER}.{encoded(b'[' * 100_000)}.c", "claims is not JSON"),
        (f"{HEADER}.{encoded(b'{' + b'1' * 10_000)}.c", "claims is not JSON"),
        (f"{HEADER}.{encoded(b'NaN')}.c", "claims is not JSON"),
        (f"{HEADER}.{encoded(bytes([255]))}.c", "claims is not JSON"),
        (f"{HEADER}.{encoded(json.dumps(chr(0xD800)).encode())}.c", "claims is not JSON"),
        (f"{HEADER}.{encoded([])}.c", "claims is not a JSON object"),
        (f"{GOOD[:-2]}==", "signature is not base64url"),
        (f"{GOOD[:-5]}AAAAA", "signature is wrong"),
        (f"{'.'.join(GOOD.split('.')[:2])}.", "signature is wrong"),
        ("a" * (1 << 20) + "a", "too large"),
    ],
)
def test_texts_that_are_no_jwt(token: str, text: str) -> None:
    with pytest.raises(JwtError, match=text) as caught:
        decode(token)
    assert isinstance(caught.value, BadOptionsError)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sub": 1}, "sub must be str"),
        ({"exp": "1"}, "exp must be int"),
        ({"exp": 1.0}, "exp must be int"),
        ({"iat": 1 << 64}, "out of range"),
        ({"iss": 1}, "signature is wrong"),
        ({"iss": OTHER.public_key()}, "signature is wrong"),
        ({"nats": []}, "nats must be a dict"),
        ({"nats": {"type": "user", "version": 3}}, "newer version"),
        ({"nats": {"type": "user", "version": 1}}, "version 1 are not supported"),
        ({"nats": {"type": "user", "version": "2"}}, "version must be int"),
        ({"nats": {"type": "server", "version": 2}}, "not supported"),
        ({"nats": {"type": "user", "version": 2, "pub": []}}, "nats.pub must be a dict"),
        ({"nats": {"type": "user", "version": 2, "src": 1}}, "nats.src must be a list"),
    ],
)
def test_claims_that_are_none(change: Any, text: str) -> None:
    body = {**body_of(GOOD), **change}
    with pytest.raises(JwtError, match=text):
        decode(signed(body))


def test_what_is_unknown_is_kept() -> None:
    body = body_of(GOOD)
    body["nats"] |= {"of_tomorrow": {"x": [1]}, "resp": None}
    body["nats"]["pub"] = {"allow": ["a"], "maybe": ["b"]}
    claims = UserClaims.decode(signed(body))
    again = body_of(claims.encode(ACCOUNT))
    assert again["nats"]["of_tomorrow"] == {"x": [1]}
    assert again["nats"]["pub"] == {"allow": ["a"], "maybe": ["b"]}


def test_the_header_is_covered_by_the_signature() -> None:
    head, body, signature = GOOD.split(".")
    other = encoded({"typ": "JWT", "alg": "ed25519"})
    assert head != other
    with pytest.raises(JwtError, match="signature is wrong"):
        decode(f"{other}.{body}.{signature}")


@pytest.mark.parametrize("wrong", [None, b"a.b.c", 1])
def test_a_jwt_is_str(wrong: Any) -> None:
    with pytest.raises(TypeError):
        decode(wrong)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda each: (
        st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=8), each, max_size=3)
    ),
    max_leaves=10,
)
NAMES = st.sampled_from(
    ["pub", "sub", "resp", "limits", "exports", "imports", "signing_keys", "authorization", "mappings",
     "trace", "default_permissions", "server_id", "connect_opts", "src", "times", "kind", "subject",
     "version", "tags", "revocations", "jwt", "operator_service_urls"]
)  # fmt: skip


@given(
    st.text(max_size=200)
    | st.lists(st.text("aeyJ0-_=", max_size=20), min_size=3, max_size=3).map(".".join)
)
def test_no_garbage_raises_another_error(token: str) -> None:
    with pytest.raises(JwtError):
        decode(token)


@given(
    st.sampled_from(
        ["user", "account", "operator", "activation", "authorization_request", "x", 7, None]
    ),
    st.dictionaries(NAMES | st.text(max_size=5), JSON, max_size=4),
    st.dictionaries(
        st.sampled_from(["sub", "exp", "nbf", "name", "aud", "type", "tags"]), JSON, max_size=2
    ),
)
def test_no_signed_garbage_raises_another_error(kind: Any, nats: Any, more: Any) -> None:
    """Also that which is read can be validated and written again."""
    key = {"operator": OPERATOR, "authorization_request": SERVER}.get(kind, ACCOUNT)
    body = {"sub": USER.public_key(), **more, "iss": key.public_key()}
    body["nats"] = {"version": 2, **nats, "type": kind}
    try:
        claims = decode(signed(body, key))
    except JwtError:
        return
    claims.validate()
    repr(claims)
    decode_again = json.dumps(claims.to_dict())
    assert decode_again


# Credentials files.


def test_creds_files(tmp_path: Path) -> None:
    text = format_user_config(GOOD, USER)
    assert parse_decorated_jwt(text) == parse_decorated_jwt(f" {GOOD}\n") == GOOD
    assert parse_decorated_nkey(text) == parse_decorated_nkey(USER.seed()) == USER
    for parse in (parse_decorated_jwt, parse_decorated_nkey):
        with pytest.raises(BadOptionsError):
            parse("neither")
    found = parse_creds(bytearray(text, "ascii"), "creds")
    assert (found.jwt, bytes(found.seed)) == (GOOD, USER.seed().encode())
    assert text == decorate_jwt(GOOD) + decorate_seed(USER)
    assert "-----BEGIN NATS USER JWT-----" in text
    assert "------END USER NKEY SEED------" in text
    path = tmp_path / "user.creds"
    path.write_text("older")
    path.chmod(0o644)
    write_creds(path, GOOD, USER)
    assert path.read_text() == text
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["user.creds"]
    assert "-----BEGIN NATS ACCOUNT JWT-----" in decorate_jwt(AccountClaims(OTHER).encode(OPERATOR))
    assert "-----BEGIN OPERATOR NKEY SEED-----" in decorate_seed(OPERATOR)


def test_creds_files_that_can_not_be(tmp_path: Path) -> None:
    path = tmp_path / "user.creds"
    with pytest.raises(JwtError, match="another user"):
        write_creds(path, GOOD, KeyPair.create_user())
    with pytest.raises(JwtError, match="a creds file has a user's JWT"):
        write_creds(path, AccountClaims(OTHER).encode(OPERATOR), USER)
    with pytest.raises(NkeyError, match="public key only"):
        write_creds(path, GOOD, KeyPair.from_public_key(USER.public_key()))
    with pytest.raises(JwtError, match="only seeds of"):
        decorate_seed(CURVE)
    with pytest.raises(OSError):
        write_creds(tmp_path / "missing" / "user.creds", GOOD, USER)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("secret", [KeyPair.seed, KeyPair.private_key])
def test_no_secret_in_place_of_a_public_key(secret: Callable[[KeyPair], str]) -> None:
    """A JWT is for all to read, and an error's text ends in logs."""
    account, user, curve = map(secret, (ACCOUNT, USER, CURVE))
    for call in (
        lambda: UserClaims(user),
        lambda: GenericClaims(account),
        lambda: AccountClaims(ACCOUNT).add_signing_key(account, role="r"),
        lambda: AccountClaims(ACCOUNT).add_import("a", account, "stream"),
        lambda: AccountClaims(ACCOUNT).enable_external_authorization(user),
        lambda: AccountClaims(ACCOUNT).enable_external_authorization(USER, xkey=curve),
        lambda: AccountClaims(ACCOUNT).revoke(user),
        lambda: UserClaims(USER, issuer_account=account).encode(ACCOUNT),
        lambda: OperatorClaims(OPERATOR, system_account=account).encode(OPERATOR),
        lambda: AccountClaims(ACCOUNT, signing_keys=[account]).encode(OPERATOR),
        lambda: KeyPair.create_pair(account),
    ):
        with pytest.raises((JwtError, NkeyError)) as caught:
            call()
        assert not [text for text in (account, user, curve) if text[4:50] in str(caught.value)]
