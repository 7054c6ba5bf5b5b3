"""Credentials and certificates from memory, from files, from callbacks, and several tried in turn."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import pytest

from lab import inside
from lab.jwts import Key, Setup, creds_text, write_creds
from nats_ev import AuthorizationError, BadOptionsError, Nats, TlsError
from nats_ev.testing.certificates import server_config

pytestmark = pytest.mark.usefixtures("needs_server")


@pytest.fixture
def setup() -> Setup:
    return Setup()


@pytest.fixture
def operator_server(own_server: Any, setup: Setup) -> Any:
    return own_server(config=setup.config())


def good(setup: Setup, key: Key) -> str:
    return creds_text(setup.user(key), key.seed)


def stranger() -> str:
    """Credentials of another operator's account, which this server refuses."""
    return good(Setup(), Key("user"))


# From memory.


@pytest.mark.parametrize(
    "kind", [str, lambda text: text.encode(), lambda text: bytearray(text.encode())]
)
def test_creds_from_memory(operator_server: Any, setup: Setup, connected: Any, kind: Any) -> None:
    nats = connected(operator_server, user_credential_bytes=kind(good(setup, Key("user"))))
    nats.force_reconnect()  # it is still there


@pytest.mark.parametrize("kind", [str, str.encode])
def test_a_seed_from_memory(operator_server: Any, setup: Setup, connected: Any, kind: Any) -> None:
    user = Key("user")
    connected(operator_server, jwt=setup.user(user), nkey_seed=kind(user.seed + "\n"))


def test_seed_files(own_server: Any, connected: Any, client: Any, run: Any, tmp_path: Path) -> None:
    old, new = Key("user"), Key("user")
    users = ", ".join(f'{{ nkey: "{key.public}" }}' for key in (old, new))
    server = own_server(config=f"authorization {{ users = [ {users} ] }}")
    path = tmp_path / "u.nk"
    path.touch(0o600)
    path.write_text(f"\n{old.seed}\n")
    nats = connected(server, nkey_seed_file=path)
    assert server.monitor("connz?auth=1")["connections"][0]["authorized_user"] == old.public
    path.write_text(f"-----BEGIN USER NKEY SEED-----\n{new.seed}\n------END USER NKEY SEED------\n")
    nats.force_reconnect()
    run(lambda: nats.stats()["reconnects"] == 1)
    assert server.monitor("connz?auth=1")["connections"][0]["authorized_user"] == new.public


def test_a_seed_file_beside_a_jwt(
    operator_server: Any, setup: Setup, connected: Any, tmp_path: Path
) -> None:
    user = Key("user")
    path = tmp_path / "u.nk"
    path.touch(0o600)
    path.write_text(user.seed)
    connected(operator_server, jwt=setup.user(user), nkey_seed_file=str(path))


def test_bad_content_is_refused_at_the_call_and_not_shown(tmp_path: Path) -> None:
    secret = tmp_path / "s.nk"
    secret.touch(0o600)
    for content in ("", "hunter2", "SUAhunter2"):
        secret.write_text(content)
        with pytest.raises(BadOptionsError, match=r"s\.nk: invalid NKey seed") as caught:
            Nats(nkey_seed_file=secret)
        assert "hunter2" not in str(caught.value)
    with pytest.raises(OSError, match="cannot open NKey seed file /nowhere"):
        Nats(nkey_seed_file="/nowhere")
    broken = creds_text("hunter2.x.y", "hunter2")
    for value, says in (
        (b"hunter2", "user_credential_bytes: missing NATS USER JWT block"),
        ([stranger(), broken], "user_credential_bytes: invalid NKey seed"),
        (5, "user_credential_bytes must be str"),
    ):
        with pytest.raises((BadOptionsError, TypeError), match=says) as caught:
            Nats(user_credential_bytes=value)
        assert "hunter2" not in str(caught.value)
    with pytest.raises(BadOptionsError, match="nkey_seed must be UTF-8"):
        Nats(nkey_seed=b"\xff")
    with pytest.raises(BadOptionsError, match="invalid NKey seed"):
        Nats(nkey_seed=b"SU")
    for name in ("tls_ca", "tls_cert", "tls_key"):
        with pytest.raises(BadOptionsError, match=f"{name} must be PEM"):
            Nats(**{name: "/etc/hunter2.pem"})


@pytest.mark.parametrize(
    "pair",
    [
        ("creds_file", "creds_cb"), ("user_credential_bytes", "jwt"), ("creds_cb", "nkey_seed"),
        ("nkey_seed", "nkey_seed_file"), ("nkey_seed_file", "signature_cb"), ("tls_ca", "tls_ca_file"),
        ("tls_ca", "root_cas_cb"), ("tls_cert", "tls_cert_file"), ("tls_cert_cb", "tls_key"),
        ("tls_context", "tls_ca"), ("tls_context", "tls_cert_cb"),
    ],
)  # fmt: skip
def test_options_that_contradict_each_other_are_refused(
    pair: tuple[str, str], tmp_path: Path, setup: Setup
) -> None:
    user = Key("user")
    seed = tmp_path / "u.nk"
    seed.touch(0o600)
    seed.write_text(user.seed)
    pem = "-----BEGIN CERTIFICATE-----"

    values = {
        "creds_file": write_creds(tmp_path / "u.creds", "e.y.J", user.seed), "creds_cb": lambda: "",
        "user_credential_bytes": good(setup, user), "jwt": "e.y.J", "nkey_seed": user.seed,
        "nkey_seed_file": seed, "signature_cb": lambda nonce: b"", "tls_ca": pem, "tls_ca_file": "/x",
        "root_cas_cb": lambda: pem, "tls_cert": pem, "tls_cert_file": "/x", "tls_key": pem,
        "tls_cert_cb": lambda: pem, "tls_context": ssl.create_default_context(),
    }  # fmt: skip
    with pytest.raises(BadOptionsError, match="exclude each other"):
        Nats(**{name: values[name] for name in pair})


def test_a_key_needs_its_certificate() -> None:
    with pytest.raises(BadOptionsError, match="tls_key needs tls_cert"):
        Nats(tls_key="-----BEGIN PRIVATE KEY-----")


# Several.


def test_creds_are_tried_in_turn_until_a_server_accepts_one(
    operator_server: Any, setup: Setup, client: Any, run: Any, tmp_path: Path
) -> None:
    files = [
        write_creds(tmp_path / f"{i}.creds", setup.user(key), key.seed) if i == 2 else
        write_creds(tmp_path / f"{i}.creds", Setup().user(key), key.seed)
        for i, key in enumerate(Key("user") for _ in range(3))
    ]  # fmt: skip
    nats = client(operator_server, creds_file=files, reconnect=False)
    run(nats.is_connected)
    assert [type(each) for each in nats.recorder.errors] == [AuthorizationError] * 2
    # The one that was accepted is the first one of the next attempt.
    nats.force_reconnect()
    run(lambda: nats.stats()["reconnects"] == 1)
    assert len(nats.recorder.errors) == 2


def test_all_creds_refused_end_a_client_that_does_not_reconnect(
    operator_server: Any, client: Any, run: Any
) -> None:
    nats = client(operator_server, user_credential_bytes=[stranger(), stranger()])
    run(lambda: not inside.is_active(nats))
    assert len(nats.recorder.errors) == 2


def test_a_server_is_given_up_when_it_has_refused_all_creds_and_one_twice(
    operator_server: Any, client: Any, run: Any
) -> None:
    nats = client(
        operator_server, user_credential_bytes=[stranger()] * 3, reconnect=True, reconnect_delay=1
    )
    run(lambda: not inside.is_active(nats))
    refusals = [e for e in nats.recorder.errors if isinstance(e, AuthorizationError)]
    assert len(refusals) == 4
    assert str(nats.recorder.errors[-1]).endswith("no servers available for connection")


def test_a_file_that_has_become_unreadable_does_not_keep_the_next_one_from_its_turn(
    operator_server: Any, setup: Setup, client: Any, run: Any, tmp_path: Path
) -> None:
    first, second = Key("user"), Key("user")
    files = [
        write_creds(tmp_path / "a.creds", setup.user(first), first.seed),
        write_creds(tmp_path / "b.creds", setup.user(second), second.seed),
    ]
    nats = client(operator_server, creds_file=files)
    os.unlink(files[0])
    run(nats.is_connected)
    assert "no credentials" in str(nats.recorder.errors[0])


def test_other_servers_are_asked_with_the_creds_that_the_first_one_has_not_refused(
    own_server: Any, setup: Setup, client: Any, run: Any
) -> None:
    mine, other = Setup(), Setup()
    servers = [own_server(config=each.config()) for each in (mine, other)]
    creds = [stranger(), good(other, Key("user"))]
    nats = client(
        None,
        servers=[each.url for each in servers],
        randomize_servers=False,
        user_credential_bytes=creds,
    )
    run(nats.is_connected)
    assert nats.connected_url().endswith(str(servers[1].port))


def test_a_revoked_user_is_replaced_by_the_next_one(
    own_server: Any, setup: Setup, connected: Any, run: Any
) -> None:
    first, second = Key("user"), Key("user")
    server = own_server(config=setup.config())
    nats = connected(
        server, user_credential_bytes=[good(setup, first), good(setup, second)], reconnect=True,
        reconnect_delay=1,
    )  # fmt: skip
    setup.revoke(first)
    server.reload(setup.config())
    run(lambda: nats.stats()["reconnects"] and nats.is_connected())


# Callbacks.


def test_creds_of_a_callback_are_asked_for_at_each_connect(
    operator_server: Any, setup: Setup, connected: Any, run: Any
) -> None:
    given: list[str] = []

    def creds() -> str:
        given.append(good(setup, Key("user")))
        return given[-1]

    nats = connected(operator_server, creds_cb=creds)
    nats.force_reconnect()
    run(lambda: nats.stats()["reconnects"] == 1)
    assert len(given) == 2


@pytest.mark.parametrize("result", [None, 5, "hunter2", b"hunter2"])
def test_bad_creds_of_a_callback_fail_the_attempt_and_show_nothing(
    operator_server: Any, client: Any, run: Any, result: Any
) -> None:
    nats = client(operator_server, creds_cb=lambda: result)
    run(lambda: nats.recorder.errors)
    assert "no credentials: creds_cb" in str(nats.recorder.errors[0])
    assert "hunter2" not in str(nats.recorder.errors[0])


# Certificates.


@pytest.fixture
def pems(certs: Any) -> dict[str, bytes]:
    own = certs.issue("client", "client")
    return {
        "ca": Path(certs.ca.cert_file).read_bytes(),
        "cert": Path(own.cert_file).read_bytes(),
        "key": Path(own.key_file).read_bytes(),
    }


@pytest.fixture
def tls_server(own_server: Any, certs: Any) -> Any:
    return own_server(config=server_config(certs.issue("127.0.0.1", "127.0.0.1"), certs.ca))


@pytest.mark.parametrize("kind", [bytes, bytes.decode])
def test_certificates_from_memory(
    tls_server: Any, connected: Any, pems: dict[str, bytes], kind: Any
) -> None:
    ca, cert, key = (kind(pems[name]) for name in ("ca", "cert", "key"))
    connected(tls_server, tls_ca=ca, tls_cert=cert, tls_key=key)
    connected(tls_server, tls_ca=ca, tls_cert=cert + key)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_comments_between_authorities_may_have_any_letters(
    tls_server: Any, connected: Any, pems: dict[str, bytes], encoding: str
) -> None:
    ca = "# Autorité de certification\n".encode(encoding) + pems["ca"]
    own = {"tls_cert": pems["cert"], "tls_key": pems["key"]}
    connected(tls_server, tls_ca=ca, **own)
    connected(tls_server, root_cas_cb=lambda: ca, **own)


@pytest.mark.parametrize("together", [False, True])
def test_callbacks_give_certificates_at_each_handshake(
    tls_server: Any, connected: Any, run: Any, pems: dict[str, bytes], together: bool
) -> None:
    asked: list[str] = []

    def authorities() -> bytes:
        asked.append("ca")
        return pems["ca"]

    def certificate() -> Any:
        asked.append("cert")
        return pems["cert"] + pems["key"] if together else (pems["cert"].decode(), pems["key"])

    nats = connected(tls_server, root_cas_cb=authorities, tls_cert_cb=certificate)
    nats.force_reconnect()
    run(lambda: nats.stats()["reconnects"] == 1)
    assert asked == ["ca", "cert"] * 2


def test_a_certificate_that_a_callback_replaces_counts_at_the_next_attempt(
    tls_server: Any, client: Any, run: Any, certs: Any, pems: dict[str, bytes]
) -> None:
    authorities = [Path(certs.authority("other").cert_file).read_bytes(), pems["ca"]]
    nats = client(
        tls_server, root_cas_cb=lambda: authorities.pop(0), tls_cert_cb=lambda: (pems["cert"], pems["key"]),
        retry_on_failed_connect=True, reconnect=True, reconnect_delay=1,
    )  # fmt: skip
    run(nats.is_connected)
    assert isinstance(nats.recorder.errors[0], TlsError)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"root_cas_cb": lambda: None}, "root_cas_cb must return PEM"),
        ({"root_cas_cb": lambda: "hunter2"}, "root_cas_cb: "),
        ({"tls_cert_cb": lambda: ("a", "b", "c")}, "tls_cert_cb must return certificate and key"),
        ({"tls_cert_cb": lambda: b"hunter2"}, "tls_cert_cb: "),
        ({"tls_cert_cb": lambda: 1 // 0}, "by zero"),
        ({"tls_ca": "-----BEGIN CERTIFICATE-----hunter2"}, "tls_ca: "),
        ({"tls_cert": "-----BEGIN CERTIFICATE-----hunter2"}, "tls_cert: "),
    ],
)
def test_bad_certificates_fail_the_attempt_and_show_nothing(
    tls_server: Any, client: Any, run: Any, options: Any, says: str
) -> None:
    nats = client(tls_server, **options)
    run(lambda: nats.recorder.errors)
    assert isinstance(nats.recorder.errors[0], TlsError)
    assert says in str(nats.recorder.errors[0])
    assert "hunter2" not in str(nats.recorder.errors[0])


def test_a_callback_for_certificates_may_disconnect_or_be_interrupted(
    tls_server: Any, client: Any, run: Any, loop: Any
) -> None:
    nats = client(tls_server, root_cas_cb=lambda: nats.disconnect())
    run(lambda: not inside.is_active(nats))
    assert nats.recorder.errors == []

    def interrupted() -> None:
        raise KeyboardInterrupt

    other = client(tls_server, root_cas_cb=interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(lambda: False)
    run(lambda: other.recorder.errors)
    assert not inside.is_active(other)


def test_no_descriptor_stays_of_a_key_in_memory(
    tls_server: Any, connected: Any, pems: dict[str, bytes]
) -> None:
    options = {"tls_ca": pems["ca"], "tls_cert": pems["cert"], "tls_key": pems["key"]}
    connected(tls_server, **options).disconnect()
    before = len(os.listdir("/proc/self/fd"))
    nats = connected(tls_server, **options)
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    nats.disconnect()
