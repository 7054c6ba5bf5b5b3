"""Who we are: passwords, tokens, NKeys, JWTs, .creds files, on real servers that want them."""

from __future__ import annotations

import base64
import gc
import os
import re
import subprocess
import sys
import time
import weakref
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lab import inside
from lab.jwts import ROLES, Key, Setup, creds_text, encode, write_creds
from lab.located import words
from nats_ev import (
    AuthExpiredError,
    AuthorizationError,
    BadOptionsError,
    ConnectError,
    Nats,
    pyev,
)

# A pair from the NATS documentation, so that both encodings are checked by somebody else's numbers.
SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


# NKeys.


def test_nkey_known_pair_is_derived_rightly():
    assert Nats.nkey_public_from_seed(SEED) == PUBLIC


def test_nkey_generated_seeds_differ_are_users_and_have_the_right_public_key():
    seeds = {Nats.nkey_generate_user_seed() for _ in range(50)}
    assert len(seeds) == 50
    for seed in seeds:
        assert re.fullmatch(r"SU[A-Z2-7]{56}", seed)
        assert re.fullmatch(r"U[A-Z2-7]{55}", Nats.nkey_public_from_seed(seed))


@pytest.mark.parametrize("role", ROLES)
def test_nkey_public_key_has_the_role_of_its_seed(role):
    key = Key(role)
    assert Nats.nkey_public_from_seed(key.seed) == key.public


def bad_seeds() -> dict[str, str]:
    good = Key("user").seed
    raw = base64.b32decode(good + "======")[:-2]
    flipped = "A" if good[30] != "A" else "B"
    return {
        "empty": "", "short": good[:-1], "long": good + "A", "very long": good * 1000,
        "lower case": good.lower(), "padding": good[:-2] + "==", "blank": good[:-1] + " ",
        "line break": good[:30] + "\n" + good[30:],
        "not base32": good[:-1] + "1", "not ASCII": good[:-1] + "é",
        "checksum": good[:30] + flipped + good[31:], "public key": Key("user").public + "AA",
        "no seed letter": encode(bytes([19 << 3]) + raw[1:]),
        "curve": encode(bytes([18 << 3 | 23 >> 2, 23 << 6 & 0xFF]) + raw[2:]),
        "unknown role": encode(bytes([18 << 3 | 25 >> 2, 25 << 6 & 0xFF]) + raw[2:]),
        "bits behind the role": encode(raw[:1] + bytes([raw[1] | 1]) + raw[2:]),
        "bits behind the end": good[:-1] + chr(ord(good[-1]) + 1),
    }  # fmt: skip


@pytest.mark.parametrize("what", bad_seeds())
def test_B4_bad_seed_is_refused_at_the_call_and_not_shown(client, what):
    seed = bad_seeds()[what]
    for call in (
        lambda: Nats.nkey_public_from_seed(seed),
        lambda: client(nkey_seed=seed) if seed else Nats.nkey_public_from_seed(seed),
        lambda: client().nkey_seed(seed) if seed else Nats.nkey_public_from_seed(seed),
    ):
        with pytest.raises(ValueError, match=r"^invalid NKey seed$"):
            call()


def test_B14_seeds_come_from_the_systems_source_and_from_nothing_else(monkeypatch):
    monkeypatch.setattr("os.urandom", lambda size: bytes(range(size)))
    assert Nats.nkey_generate_user_seed() == Nats.nkey_generate_user_seed()

    def fail(size: int) -> bytes:
        raise OSError("no entropy")

    monkeypatch.setattr("os.urandom", fail)
    with pytest.raises(OSError, match="no entropy"):
        Nats.nkey_generate_user_seed()


def test_B14_no_descriptor_is_inherited_and_the_loop_lives_as_long_as_its_client(server, run):
    loop = pyev.Loop()
    alive = weakref.ref(loop)
    seen: list[str] = []
    nats = Nats(loop=loop, host=server.host, port=server.port, on_connect=loop.stop)
    nats.on_disconnect(lambda: seen.append("disconnect"))
    loop.start()
    del loop
    gc.collect()
    assert not os.get_inheritable(inside.socket_of(nats).fileno())
    again = alive()
    assert again is not None
    nats.disconnect()
    again.start()
    assert seen == ["disconnect"]


def test_nkey_that_is_no_text_is_a_type_error():
    with pytest.raises(TypeError):
        Nats.nkey_public_from_seed(5)
    with pytest.raises(TypeError):
        Nats(nkey_seed=5)


def test_xt15_nkey_authenticates_and_a_wrong_one_is_an_auth_error(
    own_server, any_binary, client, run
):
    seed = Nats.nkey_generate_user_seed()
    users = f"authorization {{ users: [ {{nkey: {Nats.nkey_public_from_seed(seed)}}} ] }}"
    server = own_server(config=users, binary=any_binary)
    good = client(server, nkey_seed=seed)
    run(good.is_connected)
    done: list[Any] = []
    good.flush(done.append)
    run(lambda: done == [None])
    bad = client(server, nkey_seed=Nats.nkey_generate_user_seed())
    run(lambda: bad.recorder.errors)
    assert isinstance(bad.recorder.errors[0], AuthorizationError)
    assert "Authorization Violation" in str(bad.recorder.errors[0])
    assert not bad.is_connected()


def test_signature_callback_signs_for_a_public_key(own_server, client, run):
    key = Key("user")
    server = own_server(config=f"authorization {{ users: [ {{nkey: {key.public}}} ] }}")
    nonces: list[bytes] = []

    def sign(nonce: bytes) -> bytes:
        nonces.append(nonce)
        return key.sign(nonce)

    nats = client(server, nkey=key.public, signature_cb=sign)
    run(nats.is_connected)
    assert isinstance(nonces[0], bytes)
    with pytest.raises(BadOptionsError):
        client(nkey="U" + "A" * 55, signature_cb=sign)
    with pytest.raises(BadOptionsError):
        client(nkey_seed=key.seed, signature_cb=sign)


def test_signature_is_over_the_nonce_as_it_is(fake, client, run):
    seen: list[dict[str, Any]] = []
    seed = Key("user").seed
    nats = client(fake(lambda peer: seen.append(peer.handshake(nonce='Zw"\\ ü~'))), nkey_seed=seed)
    run(lambda: nats.is_connected() and seen)
    signature = base64.urlsafe_b64decode(seen[0]["sig"] + "==")
    raw = base64.b32decode(seen[0]["nkey"])[1:33]
    Ed25519PublicKey.from_public_bytes(raw).verify(signature, 'Zw"\\ ü~'.encode())
    assert seen[0]["nkey"] == Nats.nkey_public_from_seed(seed)


def test_server_that_asks_for_no_signature_gets_none(fake, client, run):
    seen: list[dict[str, Any]] = []
    nats = client(fake(lambda peer: seen.append(peer.handshake())), nkey_seed=Key("user").seed)
    run(nats.is_connected)
    assert not {"sig", "nkey", "jwt"} & set(seen[0])


@pytest.mark.parametrize("nonce", ["", "n" * 257])
def test_nonce_of_senseless_length_is_not_signed(fake, client, run, nonce):
    nats = client(fake(lambda peer: peer.send_info(nonce=nonce)), nkey_seed=Key("user").seed)
    run(lambda: nats.recorder.errors)
    assert "nonce" in str(nats.recorder.errors[0])


# Passwords and tokens.

AWKWARD = 'pä"ss\\wörd\r\n\x00\t\u2028 }{'


def test_passwords_are_escaped_and_reach_the_server_whole(fake, client, run):
    seen: list[dict[str, Any]] = []
    server = fake(lambda peer: seen.append(peer.handshake()))
    nats = client(server, user=AWKWARD, password=AWKWARD * 100, token=AWKWARD, name=AWKWARD)
    run(nats.is_connected)
    assert seen[0]["user"] == seen[0]["auth_token"] == seen[0]["name"] == AWKWARD
    assert seen[0]["pass"] == AWKWARD * 100


def test_connect_says_what_it_must_and_nothing_else(fake, client, run):
    seen: list[dict[str, Any]] = []
    client(fake(lambda peer: seen.append(peer.handshake())))
    run(lambda: seen)
    assert set(seen[0]) == {
        "verbose", "pedantic", "echo", "tls_required", "lang", "version", "protocol", "headers",
        "no_responders",
    }  # fmt: skip
    everything: dict[str, Any] = {
        "user": "u", "password": "p", "token": "t", "name": "n", "jwt": "j",
        "nkey_seed": Key("user").seed,
    }  # fmt: skip
    client(fake(lambda peer: seen.append(peer.handshake(nonce="x"))), **everything)
    run(lambda: len(seen) == 2)
    assert set(seen[1]) == set(seen[0]) | {"user", "pass", "auth_token", "name", "jwt", "sig"}


@pytest.mark.parametrize("name", ["user", "password", "token", "name", "jwt", "tls_hostname"])
def test_lone_surrogates_in_credentials_are_refused_and_not_shown(client, name):
    with pytest.raises(ValueError, match=name) as caught:
        client(**{name: "s3cret\udcff"})
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_real_server_takes_an_awkward_password(own_server, client, run):
    word = "p\\u00e4 'x' #"
    server = own_server(
        config='authorization { user: "u v", password: "p\\\\u00e4 \'x\' #" }'  # as the file has it
    )
    nats = client(server, user="u v", password=word)
    run(nats.is_connected)


def test_xt03_wrong_token_is_an_error_and_the_right_one_connects(own_server, client, run):
    server = own_server(config="authorization { token: s3cr3t }")
    wrong = client(server, token="wrong")
    run(lambda: wrong.recorder.errors)
    assert "Authorization Violation" in str(wrong.recorder.errors[0])
    assert not wrong.is_connected()
    right = client(server, token="s3cr3t")
    run(right.is_connected)


def test_callbacks_are_asked_at_every_connect(own_server, client, run):
    server = own_server(config="authorization { user: u, password: two }")
    passwords = ["one", "two", "two"]
    nats = client(
        server,
        user_cb=lambda: ("u", passwords.pop(0)),
        reconnect=True,
        reconnect_delay=10,
    )
    run(nats.is_connected)
    assert passwords == ["two"]
    nats.force_reconnect()
    run(lambda: nats.recorder.count("reconnect"))
    assert passwords == []


def test_token_callback(own_server, client, run):
    server = own_server(config="authorization { token: s3cr3t }")
    nats = client(server, token_cb=lambda: "s3cr3t")
    run(nats.is_connected)


def failing() -> Any:
    raise RuntimeError("the vault is closed")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"user_cb": failing}, "the vault is closed"),
        ({"user_cb": lambda: "s3cret"}, r"user_cb must return \(user, password\)"),
        ({"user_cb": lambda: ("u", None)}, "user_cb must return two str"),
        ({"token_cb": lambda: b"s3cret"}, "token_cb must return str"),
        ({"token_cb": lambda: "s3cret\udcff"}, "token_cb must return text without"),
        ({"jwt_cb": lambda: None}, "jwt_cb must return str"),
        ({"signature_cb": lambda nonce: "s3cret"}, "signature_cb must return bytes"),
        ({"signature_cb": lambda nonce: failing()}, "the vault is closed"),
    ],
)
def test_callback_that_fails_fails_the_attempt_and_the_next_may_do(
    fake, client, run, options, text
):
    nats = client(
        fake(lambda peer: peer.send_info(nonce="x")),
        reconnect=True,
        reconnect_delay=1,
        **options,
    )
    run(lambda: len(nats.recorder.errors) >= 3)
    for error in nats.recorder.errors:
        assert isinstance(error, ConnectError)
        assert re.search(f"^no credentials: {text}", words(error))
        assert "s3cret" not in str(error)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_callback_that_stops_the_loop_fails_the_attempt_and_the_next_may_do(
    own_server, client, run, loop, kind
):
    server = own_server(config="authorization { user: u, password: p }")
    asked: list[bool] = []

    def user() -> tuple[str, str]:
        asked.append(True)
        if len(asked) == 1:
            raise kind
        return "u", "p"

    nats = client(server, user_cb=user, reconnect=True, reconnect_delay=10, connect_timeout=0)
    with pytest.raises(kind):
        loop.start()
    run(nats.is_connected)
    assert [words(error) for error in nats.recorder.errors] == [f"no credentials: {kind.__name__}"]


@pytest.mark.parametrize("raises", [False, True])
def test_callback_may_disconnect(fake, client, run, raises):
    def leave() -> tuple[str, str]:
        nats.disconnect()
        return failing() if raises else ("u", "p")

    server = fake(lambda peer: (peer.send_info(), peer.at_eof()))
    nats = client(server, user_cb=leave, reconnect=True, reconnect_delay=1)
    run(lambda: server.connections and not inside.is_active(nats))
    assert nats.recorder.errors == []


def test_credentials_of_a_url_are_decoded_once_and_shown_nowhere(own_server, client, run):
    server = own_server(config='authorization { user: "a@b", password: "p:w%41/" }')
    url = f"nats://a%40b:p%3Aw%2541%2F@127.0.0.1:{server.port}"
    nats = client(servers=[url])
    run(nats.is_connected)
    for shown in (nats.connected_url(), repr(nats), repr(inside.current_server(nats))):
        assert "p:w" not in shown
        assert "a@b" not in shown
        assert "%40" not in shown


# .creds files.


@pytest.fixture
def decentral(own_server):
    """(set-up, server) in decentralised-auth mode."""
    setup = Setup()
    return setup, own_server(config=setup.config())


@pytest.fixture
def any_decentral(own_server, any_binary):
    """`decentral` on each line in turn."""
    setup = Setup()
    return setup, own_server(config=setup.config(), binary=any_binary)


@pytest.mark.parametrize("eol", ["\n", "\r\n"])
def test_t15_creds_file_with_lf_or_crlf_connects(any_decentral, connected, tmp_path, eol):
    setup, server = any_decentral
    key = Key("user")
    path = write_creds(tmp_path / "u.creds", setup.user(key), key.seed, eol)
    connected(server, creds_file=path)


def test_creds_file_method_before_connect(decentral, client, run, tmp_path):
    setup, server = decentral
    key = Key("user")
    path = write_creds(tmp_path / "u.creds", setup.user(key), key.seed)
    nats = client()
    assert nats.creds_file(path) is None
    nats.connect(server.host, server.port)
    run(nats.is_connected)


def test_jwt_and_seed_given_apart(decentral, connected):
    setup, server = decentral
    key = Key("user")
    connected(server, jwt=setup.user(key), nkey_seed=key.seed)
    connected(server, jwt_cb=lambda: setup.user(key), signature_cb=key.sign)


@pytest.mark.parametrize(
    ("cut", "text"),
    [
        ("------END NATS USER JWT------", "missing NATS USER JWT block"),
        ("-----BEGIN NATS USER JWT-----", "missing NATS USER JWT block"),
        ("-----BEGIN USER NKEY SEED-----", "missing USER NKEY SEED block"),
        ("------END USER NKEY SEED------", "missing USER NKEY SEED block"),
    ],
)
def test_t15_creds_file_without_a_block_raises_at_the_call(client, tmp_path, cut, text):
    key = Key("user")
    path = tmp_path / "u.creds"
    path.touch(0o600)
    path.write_text(creds_text("e.y.J", key.seed).replace(cut, ""))
    for call in (lambda: client(creds_file=path), lambda: client().creds_file(path)):
        with pytest.raises(BadOptionsError) as caught:
            call()
        assert str(caught.value) == f"{path}: {text}"


def test_t15_creds_file_that_is_cut_off_or_missing_raises_at_the_call(client, tmp_path):
    key = Key("user")
    path = write_creds(tmp_path / "u.creds", "e.y.J", key.seed)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(BadOptionsError, match="missing USER NKEY SEED block"):
        client(creds_file=path)
    path.write_bytes(b"")
    with pytest.raises(BadOptionsError, match="missing NATS USER JWT block"):
        client(creds_file=path)
    for call in (
        lambda: client(creds_file=tmp_path / "none"),
        lambda: client().creds_file(str(tmp_path / "none")),
    ):
        with pytest.raises(OSError, match=r"cannot open creds file .*none: No such file") as caught:
            call()
        assert isinstance(caught.value, BadOptionsError)


def test_creds_file_must_be_a_regular_file_of_sensible_size(client, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    huge = write_creds(tmp_path / "huge", "e.y.J", Key("user").seed)
    with open(huge, "ab") as file:
        file.truncate(8 * 1024 * 1024)
    for name in ("", "fifo", "huge"):
        with pytest.raises(BadOptionsError, match=r"not a regular file|too large"):
            client(creds_file=tmp_path / name)


def test_creds_file_with_a_bad_seed_raises_at_the_call_without_showing_it(client, tmp_path):
    seed = Key("user").seed
    path = write_creds(
        tmp_path / "u.creds", "e.y.J", seed[:-2] + ("AA" if seed[-2:] != "AA" else "BA")
    )
    with pytest.raises(BadOptionsError, match="invalid NKey seed") as caught:
        client(creds_file=path)
    assert seed[:20] not in str(caught.value)


def test_creds_file_that_others_can_read_warns_once(client, tmp_path):
    path = write_creds(tmp_path / "open.creds", "e.y.J", Key("user").seed, mode=0o644)
    with pytest.warns(UserWarning, match=r"others may read it \(mode 0644\)"):
        client(creds_file=path)
    client(creds_file=path)


def test_creds_file_that_is_replaced_by_one_that_others_can_read_warns_at_the_next_connect(
    decentral, client, run, tmp_path
):
    setup, server = decentral
    key = Key("user")
    path = write_creds(tmp_path / "u.creds", setup.user(key), key.seed)
    nats = client(server, creds_file=path, reconnect=True, reconnect_delay=10)
    run(nats.is_connected)
    path.chmod(0o640)
    nats.force_reconnect()
    with pytest.warns(UserWarning, match=r"u\.creds: others may read it \(mode 0640\)"):
        run(lambda: nats.recorder.count("reconnect"))
    nats.force_reconnect()
    run(lambda: nats.recorder.count("reconnect") == 2)
    assert nats.recorder.errors == []


def test_creds_file_excludes_other_keys(client, tmp_path):
    key = Key("user")
    path = write_creds(tmp_path / "u.creds", "e.y.J", key.seed)
    with pytest.raises(BadOptionsError, match="creds_file and nkey_seed exclude each other"):
        client(creds_file=path, nkey_seed=key.seed)


def test_creds_file_is_read_anew_at_every_connect(any_decentral, client, run, tmp_path):
    setup, server = any_decentral
    first, second = Key("user"), Key("user")
    path = write_creds(tmp_path / "u.creds", setup.user(first), first.seed)
    nats = client(server, creds_file=path, reconnect=True, reconnect_delay=10)
    run(nats.is_connected)
    write_creds(path, setup.user(second), second.seed)
    nats.force_reconnect()
    run(lambda: nats.recorder.count("reconnect"))
    path.unlink()
    nats.force_reconnect()
    run(lambda: nats.recorder.errors)
    assert words(nats.recorder.errors[0]).startswith("no credentials: cannot open creds file")
    write_creds(path, setup.user(first), first.seed)
    run(lambda: nats.recorder.count("reconnect") == 2)


def test_long_jwt_is_not_cut(own_server, connected):
    setup = Setup()
    server = own_server(config=setup.config("max_control_line: 1MB\n"))
    key = Key("user")
    allow = {"allow": [f"subject.number.{i}.>" for i in range(5000)]}
    jwt = setup.user(key, pub=allow)
    assert len(jwt) > 100_000
    connected(server, jwt=jwt, nkey_seed=key.seed)


def test_user_jwt_that_expires_is_replaced_from_the_file(any_decentral, client, run, tmp_path):
    setup, server = any_decentral
    key = Key("user")
    path = write_creds(tmp_path / "u.creds", setup.user(key, seconds=2), key.seed)
    renewed: list[bool] = []

    def renew() -> None:
        if not renewed:
            renewed.append(True)
            write_creds(path, setup.user(key), key.seed)

    nats = client(server, creds_file=path, reconnect=True, reconnect_delay=10, on_disconnect=renew)
    run(nats.is_connected)
    run(lambda: nats.recorder.count("reconnect"))
    assert [str(e) for e in nats.recorder.errors] == ["User Authentication Expired"]
    assert nats.recorder.events[-3:] == ["disconnect", "connect", "reconnect"]


def test_account_that_expires_ends_the_connection_and_is_asked_for_again(own_server, client, run):
    setup = Setup()
    server = own_server(config=setup.config(expires=int(time.time()) + 2))
    key = Key("user")
    nats = client(
        server,
        jwt=setup.user(key),
        nkey_seed=key.seed,
        reconnect=True,
        reconnect_delay=100,
        ignore_auth_error_abort=True,
    )
    run(nats.is_connected)
    run(lambda: nats.recorder.count("disconnect"))
    assert str(nats.recorder.errors[0]) == "Account Authentication Expired"
    assert isinstance(nats.recorder.errors[0], AuthExpiredError)
    server.reload(setup.config())
    run(lambda: nats.recorder.count("reconnect"))


def test_revoked_user_comes_back_with_a_new_jwt(any_decentral, client, run, tmp_path):
    setup, server = any_decentral
    key = Key("user")
    path = write_creds(tmp_path / "u.creds", setup.user(key), key.seed)
    other = Key("user")
    nats = client(
        server,
        creds_file=path,
        reconnect=True,
        reconnect_delay=10,
        on_disconnect=lambda: write_creds(path, setup.user(other), other.seed),
    )
    run(nats.is_connected)
    setup.revoke(key)
    server.reload(setup.config())
    run(lambda: nats.recorder.count("reconnect"))
    assert all(isinstance(e, AuthorizationError) for e in nats.recorder.errors)


def test_revoked_user_without_anything_new_gives_up(decentral, client, run):
    setup, server = decentral
    key = Key("user")
    nats = client(
        server, jwt=setup.user(key), nkey_seed=key.seed, reconnect=True, reconnect_delay=1
    )
    run(nats.is_connected)
    setup.revoke(key)
    server.reload(setup.config())
    run(lambda: not inside.is_active(nats))
    assert nats.recorder.count("connect") == 1


# Secrets.

SCAN = """
import re, sys, gc
from nats_ev import Nats, pyev
path, port = sys.argv[1], int(sys.argv[2])
kept = open(path).read() if sys.argv[3:] else ""  # shows that the scan would find it
loop = pyev.default_loop()
nats = Nats(loop=loop, host="127.0.0.1", port=port, creds_file=path, on_connect=loop.stop)
loop.start()
assert nats.is_connected()
gc.collect()
# Asked for byte by byte, so that the question is not found as an answer.
import base64, os
fd = os.open(path, os.O_RDONLY)
text = bytearray(os.fstat(fd).st_size)
os.readv(fd, [text])
at = text.index(b"BEGIN USER NKEY SEED-----") + 26
wanted = bytes(b ^ 0x55 for b in text[at + 4:at + 50])
text[:] = bytes(len(text))
hits = 0
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as mem:
    for line in maps.read().splitlines():
        found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
        if not found or "vvar" in line:
            continue
        start, end = (int(n, 16) for n in found.groups())
        mem.seek(start)
        try:
            block = mem.read(end - start)
        except OSError:
            continue
        hits += block.translate(bytes(b ^ 0x55 for b in range(256))).count(wanted)
        del block
print("hits", hits)
nats.disconnect()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_B14_seed_of_a_creds_file_is_not_left_in_memory(decentral, tmp_path):
    setup, server = decentral
    key = Key("user")
    path = write_creds(tmp_path / "u.creds", setup.user(key), key.seed)
    command = [sys.executable, "-c", SCAN, str(path), str(server.port)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.stdout.split() == ["hits", "0"], result.stdout + result.stderr
    control = subprocess.run([*command, "keep"], capture_output=True, text=True, timeout=60)
    assert int(control.stdout.split()[1]) > 0
