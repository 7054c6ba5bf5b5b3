"""Nothing that is secret shows: in texts, logs, errors, what the client tells of itself, or in clear."""

from __future__ import annotations

import copy
import io
import logging
import pickle
import traceback
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from lab import inside
from lab.jwts import Key, creds_text, write_creds
from lab.located import words
from nats_ev import BadOptionsError, Nats, NatsError
from nats_ev.testing.certificates import server_config

KEY = Key("user")
SECRETS = {
    "password": "p4ssw0rd-sentinel", "token": "t0ken-sentinel", "jwt": "j3wt.sentinel.x",
    "nkey_seed": KEY.seed,
}  # fmt: skip
URL_SECRETS = ("urlus3r-sentinel", "urlp4ss-sentinel", "urlt0ken-sentinel")
ALL = (*SECRETS.values(), *URL_SECRETS)


def texts(thing: object) -> Iterator[str]:
    """Whatever a user, a log or a debugger's first look would show of it."""
    yield repr(thing)
    yield str(thing)
    yield f"{thing}"
    if isinstance(thing, BaseException):
        yield repr(vars(thing))
        yield repr(thing.args)
        yield "".join(traceback.format_exception(thing))
        for link in (thing.__cause__, thing.__context__):
            if link is not None:
                yield from texts(link)
                yield repr(getattr(link, "object", ""))


def assert_hidden(*things: object, secrets: Any = ALL) -> None:
    for thing in things:
        for text in texts(thing):
            for secret in secrets:
                assert secret not in text


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """All that is logged, from DEBUG on; must hold no secret at the end."""
    monkeypatch.delenv("NATS_EV_KEEP_TRACEBACKS", raising=False)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)
    assert_hidden(stream.getvalue())


def test_secrets_in_memory_show_nowhere(fake, client, run):
    """Content of creds files and keys, and the references of contexts, in reprs, errors and logs."""
    creds = creds_text("j3wt.sentinel.x", KEY.seed)
    key = "-----BEGIN PRIVATE KEY-----\nk3y-sentinel\n"
    secrets = [*ALL, "k3y-sentinel"]
    for options in (
        {"user_credential_bytes": creds}, {"creds_cb": lambda: creds},
        {"tls_cert": key, "tls_key": key, "tls_handshake_first": True},
        {"tls_cert_cb": lambda: (key, key), "tls_handshake_first": True},
    ):  # fmt: skip
        speaks = "tls_handshake_first" not in options
        server = fake(
            lambda peer, speaks=speaks: (
                (peer.handshake(nonce="n0nce"), peer.at_eof()) if speaks else peer.at_eof()
            )
        )
        nats = client(server, reconnect=False, **options)
        assert_hidden(*inside.shown_parts(nats), secrets=secrets)
        run(lambda nats=nats: nats.is_connected() or nats.recorder.errors)
        assert_hidden(*inside.shown_parts(nats), *nats.recorder.errors, secrets=secrets)
        nats.disconnect()


def test_client_shows_none_of_its_secrets_at_any_time(own_server, client, run):
    server = own_server(config=f'authorization {{ user: u, password: "{SECRETS["password"]}" }}')
    nats = client(server, user="u", **SECRETS)
    assert_hidden(*inside.shown_parts(nats))
    run(nats.is_connected)
    assert_hidden(*inside.shown_parts(nats))
    nats.disconnect()
    assert_hidden(*inside.shown_parts(nats))


def test_refused_credentials_are_in_no_error(own_server, client, run):
    server = own_server(config="authorization { user: u, password: other }")
    nats = client(server, user="u", reconnect=True, reconnect_delay=1, **SECRETS)
    run(lambda: not inside.is_active(nats))
    assert nats.recorder.errors
    assert_hidden(*nats.recorder.errors, *inside.shown_parts(nats))


@pytest.mark.parametrize(
    "url",
    [
        "nats://{0}:{1}@127.0.0.1:{port}", "nats://{2}@127.0.0.1:{port}", "{0}:{1}@127.0.0.1:{port}",
    ],
)  # fmt: skip
def test_credentials_of_a_url_show_nowhere(fake, client, run, url):
    seen: list[Any] = []
    server = fake(lambda peer: (seen.append(peer.handshake()), peer.at_eof()))
    nats = client(servers=[url.format(*URL_SECRETS, port=server.port)])
    assert_hidden(*inside.shown_parts(nats))
    run(nats.is_connected)
    assert seen[0].get("pass") == URL_SECRETS[1] or seen[0].get("auth_token") == URL_SECRETS[2]
    assert_hidden(*inside.shown_parts(nats))


@pytest.mark.parametrize(
    "url",
    [
        "nats://{0}:{1}@host:99999", "nats://{0}:{1}@", "http://{0}:{1}@host", "nats://{0}:{1}@[::1",
        "nats://{0}:{1}@host/path", "nats://{2}@host:x", "nats://{0}:{1}@ho st", "nats://{0}:{1}@h?q",
    ],
)  # fmt: skip
def test_bad_url_is_refused_without_showing_its_credentials(url):
    with pytest.raises(BadOptionsError) as caught:
        Nats(servers=[url.format(*URL_SECRETS)])
    assert_hidden(str(caught.value), repr(caught.value), repr(vars(caught.value)))


def test_credentials_in_a_host_that_is_no_url_are_refused_without_being_shown():
    host = "{}:{}@127.0.0.1".format(*URL_SECRETS[:2])
    for call in (lambda: Nats(host=host), lambda: Nats().connect(host)):
        with pytest.raises(BadOptionsError, match="nats://") as caught:
            call()
        assert_hidden(str(caught.value), repr(caught.value))


@pytest.mark.parametrize("name", ["password", "token", "jwt", "user"])
def test_bad_credentials_are_refused_without_being_shown(name):
    with pytest.raises(ValueError, match=name) as caught:
        Nats(**{name: "s3cret-sentinel\udcff"})
    error = caught.value
    assert error.__context__ is None
    assert_hidden(str(error), repr(error), secrets=["s3cret-sentinel"])
    with pytest.raises(TypeError) as wrong_type:
        Nats(**{name: b"s3cret-sentinel"})
    assert_hidden(str(wrong_type.value), secrets=["s3cret-sentinel"])


def frames_of(error: BaseException) -> str:
    """What an error reporter shows of our frames: their local variables, too."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    lines: list[str] = []
    mine = False
    for line in "".join(shown.format()).splitlines():
        if line.lstrip().startswith("File "):
            mine = __file__ in line
        if not mine:
            lines.append(line)
    return "\n".join(lines)


BAD_SEED = KEY.seed[:-1] + "1"


@pytest.mark.parametrize(
    "call",
    [
        lambda: Nats(port="x", **SECRETS),
        lambda: Nats(password="p4ssw0rd-sentinel\udcff"),
        lambda: Nats(token=b"t0ken-sentinel"),
        lambda: Nats(pasword="p4ssw0rd-sentinel"),
        lambda: Nats(nkey_seed=BAD_SEED),
        lambda: Nats().nkey_seed(BAD_SEED),
        lambda: Nats().jwt(b"j3wt.sentinel.x"),
        lambda: Nats.nkey_public_from_seed(BAD_SEED),
        lambda: Nats(servers=["nats://u:urlp4ss-sentinel@h:99999"]),
        lambda: Nats(host="nats://u:urlp4ss-sentinel@[::1"),
        lambda: Nats().connect("nats://u:urlp4ss-sentinel@h:99999"),
        lambda: Nats().set_server_pool(["nats://u:urlp4ss-sentinel@h:99999"]),
    ],
)
def test_frames_of_refused_arguments_hold_no_secret(call):
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    shown = frames_of(caught.value)
    assert type(caught.value).__name__ in shown
    for secret in (*ALL, KEY.seed[:-1]):
        assert secret not in shown


def test_arguments_bound_to_a_callback_for_credentials_show_nowhere(client):
    for name in ("user_cb", "token_cb", "jwt_cb", "signature_cb"):
        nats = client(**{name: partial(str, SECRETS["password"])})
        assert_hidden(*inside.shown_parts(nats))


def test_frames_of_refused_creds_files_hold_no_secret(client, tmp_path):
    bad_seed = write_creds(tmp_path / "bad", SECRETS["jwt"], BAD_SEED)
    no_end = write_creds(tmp_path / "cut", SECRETS["jwt"], KEY.seed)
    no_end.write_bytes(no_end.read_bytes().replace(b"---END USER", b""))
    for path in (bad_seed, no_end):
        for call in (
            lambda path=path: Nats(creds_file=path),
            lambda path=path: client().creds_file(path),
        ):
            with pytest.raises(BadOptionsError) as caught:
                call()
            assert_hidden(frames_of(caught.value), secrets=(SECRETS["jwt"], KEY.seed[:-1]))


def test_frames_of_credentials_that_fail_at_connect_show_those_of_the_callback_alone(
    client, fake, run
):
    def sign(nonce: bytes) -> bytes:
        raise RuntimeError("the card is not in")

    server = fake(lambda peer: (peer.send_info(nonce="n0nce"), peer.at_eof()))
    nats = client(
        server, user_cb=lambda: ("u", SECRETS["password"]), token_cb=lambda: SECRETS["token"],
        jwt=SECRETS["jwt"], signature_cb=sign,
    )  # fmt: skip
    run(lambda: nats.recorder.errors)
    (error,) = nats.recorder.errors
    assert words(error) == "no credentials: the card is not in"
    cause = traceback.extract_tb(error.__cause__.__traceback__)
    assert [frame.name for frame in cause] == ["sign"]
    assert_hidden(frames_of(error))


def test_a_developer_of_the_library_can_keep_the_frames(client, fake, run, monkeypatch):
    def failing() -> list[BaseException]:
        with pytest.raises(TypeError) as caught:
            Nats(port="x")
        server = fake(lambda peer: (peer.send_info(nonce="n0nce"), peer.at_eof()))
        nats = client(server, token_cb=lambda: 1 / 0)
        run(lambda: nats.recorder.errors)
        return [caught.value, nats.recorder.errors[0].__cause__]

    def names(error: BaseException) -> list[str]:
        return [frame.name for frame in traceback.extract_tb(error.__traceback__)]

    bad_option, bad_callback = failing()
    assert "integer" not in names(bad_option)
    assert names(bad_callback) == ["<lambda>"]
    monkeypatch.setenv("NATS_EV_KEEP_TRACEBACKS", "1")
    bad_option, bad_callback = failing()
    assert names(bad_option)[-1] == "integer"
    assert "identity" in names(bad_callback)
    assert names(bad_callback)[-1] == "<lambda>"


def test_failed_client_can_be_looked_at():
    class Kept(Nats):
        def __init__(self, **options: Any) -> None:
            kept.append(self)
            super().__init__(**options)

    kept: list[Nats] = []
    with pytest.raises(TypeError):
        Kept(port="x")
    assert repr(kept[0]) == "<Kept>"


def test_client_cannot_be_pickled_or_copied(client):
    nats = client(**SECRETS)
    for attempt in (lambda: pickle.dumps(nats), lambda: copy.deepcopy(nats)):
        with pytest.raises(Exception) as caught:
            attempt()
        assert_hidden(str(caught.value))


def test_creds_file_shows_its_path_and_nothing_of_its_content(client, fake, run, tmp_path):
    path = write_creds(tmp_path / "my.creds", SECRETS["jwt"], KEY.seed)
    nats = client(
        fake(lambda peer: (peer.handshake(nonce="n0nce"), peer.at_eof())), creds_file=path
    )
    run(nats.is_connected)
    assert_hidden(*inside.shown_parts(nats))
    assert KEY.seed not in str(vars(nats))


def test_nothing_secret_goes_in_clear_once_tls_was_asked_for(
    certs, own_server, client, run, proxy, monkeypatch
):
    """Sentinels, all kinds of credentials, on the wire of a whole life: connect, publish, reconnect."""
    server = own_server(config=server_config(certs.issue("s", "127.0.0.1")))
    between = proxy(server.port)
    nats = client(
        between, tls_ca_file=certs.ca.cert_file, user="us3r-sentinel", reconnect=True,
        reconnect_delay=1, name="n4me-sentinel", **SECRETS,
    )  # fmt: skip
    got: list[Any] = []
    nats.subscribe("subj3ct-sentinel", lambda *message: got.append(message))
    nats.publish("subj3ct-sentinel", b"payl0ad-sentinel")
    run(lambda: got)
    between.cut()
    run(lambda: nats.recorder.count("reconnect"))
    nats.publish("subj3ct-sentinel", b"payl0ad-sentinel")
    run(lambda: len(got) == 2)
    wire = bytes(between.recorded["up"]) + bytes(between.recorded["down"].replace(b"INFO", b""))
    for secret in (
        *SECRETS.values(), "us3r-sentinel", "n4me-sentinel", "subj3ct-sentinel", "payl0ad-sentinel",
        "CONNECT", "SUB ", "PING",
    ):  # fmt: skip
        assert secret.encode() not in wire


def test_errors_of_callbacks_that_fetch_credentials_show_only_what_those_say(client, fake, run):
    def fetch() -> str:
        password = SECRETS["password"]  # in a local variable of the failing function
        raise NatsError("the vault is closed" if password else "")

    nats = client(fake(lambda peer: peer.send_info()), token_cb=fetch, **SECRETS)
    run(lambda: nats.recorder.errors)
    assert words(nats.recorder.errors[0]) == "no credentials: the vault is closed"
    assert_hidden(*nats.recorder.errors)
