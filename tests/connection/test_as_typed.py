"""What people type, and what files hold: taken, or refused at the call with the mend in the text."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path

import pytest

from lab.jwts import Key
from nats_ev import Nats
from nats_ev.auth import read_creds
from nats_ev.errors import BadOptionsError

LOCAL = "nats://127.0.0.1:1"


def servers_of(**options) -> list[str]:
    """Return the URLs of a client that is disconnected before it begins."""
    nats = Nats(randomize_servers=False, on_error=lambda err: None, **options)
    try:
        return nats.servers()
    finally:
        nats.disconnect()


@pytest.mark.parametrize(
    "text",
    [
        f"{LOCAL},", f",{LOCAL}", f"{LOCAL},,{LOCAL}", f"{LOCAL}\n", f"\t{LOCAL} \r\n",
        f"{LOCAL},\n {LOCAL}\n",
        [LOCAL, ""], [f"{LOCAL}\n"], ("  ", LOCAL),
    ],
)  # fmt: skip
def test_blanks_line_breaks_and_stray_commas_in_servers_mean_nothing(text):
    assert servers_of(servers=text) == [LOCAL]


@pytest.mark.parametrize("text", ["", ",", " \n,", [""], []])
def test_servers_without_any_server_are_refused(text):
    with pytest.raises(BadOptionsError, match="at least one server"):
        Nats(servers=text)


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({"host": "127.0.0.1\n", "port": 1}, LOCAL),
        ({"host": "nats://127.0.0.1", "port": 1}, LOCAL),
        ({"host": "nats://127.0.0.1:1"}, LOCAL),
        ({"host": "nats://127.0.0.1:1", "port": 1}, LOCAL),
        ({"host": "tls://127.0.0.1", "port": 1}, "tls://127.0.0.1:1"),
        ({"host": "::1", "port": 1}, "nats://[::1]:1"),
        ({"host": "[::1]", "port": 1}, "nats://[::1]:1"),
        ({"host": "fe80::1%eth0"}, "nats://[fe80::1%eth0]:4222"),
        ({"host": "fe80::1%25eth0"}, "nats://[fe80::1%eth0]:4222"),
        ({"servers": "nats://[fe80::1%25eth0]:1"}, "nats://[fe80::1%eth0]:1"),
        ({"servers": "nats://[fe80::1%eth0]:1"}, "nats://[fe80::1%eth0]:1"),
        ({"servers": "fe80::1%25eth0"}, "nats://[fe80::1%eth0]:4222"),
        ({"servers": "nats://[fe80::1%25]:1"}, "nats://[fe80::1%25]:1"),  # the interface's number
        ({"host": "fe80::1%25", "port": 1}, "nats://[fe80::1%25]:1"),
        ({"servers": "UNIX:///run/nats.sock"}, "unix:///run/nats.sock"),
        ({"path": Path("/tmp/nats.sock")}, "unix:///tmp/nats.sock"),
        ({"path": "~/nats.sock"}, f"unix://{Path.home()}/nats.sock"),
        ({"servers": "unix://~/nats.sock"}, f"unix://{Path.home()}/nats.sock"),
    ],
)  # fmt: skip
def test_hosts_ports_zones_and_paths_are_taken(options, url):
    assert servers_of(**options) == [url]


@pytest.mark.parametrize("host", ["127.0.0.1:1", "[::1]:1", "localhost:", "se:cret"])
def test_a_port_within_host_is_refused_with_the_mend(host):
    with pytest.raises(BadOptionsError, match=r"port=, or host:port as servers=$"):
        Nats(host=host)
    with pytest.raises(BadOptionsError, match=r"port=, or host:port as servers=$"):
        Nats().connect(host)


def test_two_ports_that_differ_are_refused():
    with pytest.raises(BadOptionsError, match="host names port 5, and port is 6"):
        Nats(host="nats://localhost:5", port=6)
    with pytest.raises(BadOptionsError, match="host names port 5, and port is 6"):
        Nats().connect("nats://localhost:5", 6)


def test_several_servers_in_host_are_refused_with_the_mend():
    with pytest.raises(BadOptionsError, match="several as servers="):
        Nats(host="nats://a,nats://b")


SECRET_URLS = [
    "nats://user:sek/ret@host:4222", "nats://user:sek?ret@host", "nats://user:sek#ret@host", "nats://sek/ret@host",
    "nats://user:se[k@host", "nats://user:sek ret", "nats://user:sek\nret@host", "nats://user:sekret",
    "http://user:sekret@host", "nats://user:sekret@host:port", "nats://user:sekret@ho st",
    "user:sekret", "nats://user:sekret@host/x", "nats://user:sekret@host:1/sekret",
    "user:sekret:4222", "nats://user:sekret:4222", "nats://user:sekret%FF@host",
]  # fmt: skip


@pytest.mark.parametrize("url", SECRET_URLS)
@pytest.mark.parametrize("way", ["host", "servers", "list", "connect", "pool"])
def test_no_part_of_a_password_shows_in_the_error_of_a_bad_url(url, way):
    calls = {
        "host": lambda: servers_of(host=url),
        "servers": lambda: servers_of(servers=url),
        "list": lambda: servers_of(servers=[url]),
        "connect": lambda: Nats().connect(url),
        "pool": lambda: Nats().set_server_pool([url]),
    }
    with pytest.raises(BadOptionsError) as caught:
        calls[way]()
    assert not any(part in str(caught.value) for part in ("sek", "ret@", "'ret"))


def test_no_part_of_a_password_with_a_comma_shows():
    with pytest.raises(BadOptionsError, match=r"'user:…'.*a comma in a password is %2C"):
        Nats(servers="nats://user:sek,ret@host")
    assert servers_of(servers=["nats://user:sek,ret@host"]) == ["nats://host:4222"]
    with pytest.raises(BadOptionsError, match=r"'user:…'"):
        Nats(servers="nats://user:sek:12,ret@host")
    with pytest.raises(BadOptionsError, match=r"an @: a URL begins with nats://$"):
        Nats(host="user:sek ret@host")


def test_escapes_that_are_not_utf_8_are_refused_and_not_replaced():
    for url in ("nats://user:%FF@host", "nats://%C3:x@host", "nats://%ed%a0%80@host"):
        with pytest.raises(BadOptionsError, match="must be UTF-8"):
            Nats(servers=url)
    assert servers_of(servers="nats://%C3%A9:%E2%82%AC@127.0.0.1:1") == [LOCAL]


@pytest.mark.parametrize("host", ["localhost/", "localhost/x", "local?x", "h#"])
def test_a_host_with_what_belongs_to_a_url_is_refused(host):
    with pytest.raises(BadOptionsError, match=r"must be a name.*begins with nats://"):
        Nats(host=host)


@pytest.mark.parametrize(
    "name", ["tls_ca_file", "tls_cert_file", "tls_key_file", "creds_file", "path"]
)
@pytest.mark.parametrize("file", ["a\0b", "a\ud800b"])
def test_a_path_that_no_file_can_have_is_refused_at_the_call(name, file):
    with pytest.raises(BadOptionsError, match=f"^{name} .*(NUL|surrogate)"):
        Nats(**{name: file})


@pytest.mark.parametrize("name", ["a\0b", "a b", "a\nb", "\x7f"])
def test_a_tls_hostname_that_no_certificate_can_have_is_refused_at_the_call(name):
    with pytest.raises(BadOptionsError, match=r"^tls_hostname"):
        Nats(tls_hostname=name)


def test_a_slash_in_a_password_is_refused_with_the_mend():
    with pytest.raises(BadOptionsError, match=r"'host:4222'.*write / as %2F"):
        Nats(servers="nats://user:sek/ret@host:4222")
    assert servers_of(servers="nats://user:sek%2Fret@host:4222") == ["nats://host:4222"]


SEED = Key("user").seed
BLOCK = f"-----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------\n"


@pytest.mark.parametrize(
    "text",
    [SEED + "\n", SEED + "\r\n", f"\n {SEED}\t", BLOCK, "# a key\n" + BLOCK.replace("USER ", "")],
    ids=range(5),
)
def test_seeds_are_taken_with_line_breaks_and_in_blocks(text):
    Nats(nkey_seed=text).nkey_seed(text)


def test_a_public_key_and_a_seed_from_a_file_are_taken_with_their_line_breaks():
    key = Key("user")
    assert Nats.nkey_public_from_seed(key.seed + "\n") == key.public
    Nats(nkey=key.public + "\n", signature_cb=lambda nonce: b"")


JWT = "eyJ0.eyJ1.sig-na_ture---x"


def creds(first: str, second: str, start: str = "-----", end: str = "------") -> str:
    return (
        f"{start}BEGIN {first}{start}\n{JWT}\n{end}END {first}{end}\n\n*** IMPORTANT ***\n--- a note ---\n"
        f"{start}BEGIN {second}{start}\n{SEED}\n{end}END {second}{end}\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        creds("NATS USER JWT", "USER NKEY SEED"), creds("USER JWT", "USER PRIVATE KEY"), creds("A", "B"),
        creds("my-user", "my-key"), creds("NATS USER JWT", "USER PRIVATE KEY", "---", "---"),
        creds("NATS USER JWT", "USER NKEY SEED").replace("\n", "\r\n"),
        creds("NATS USER JWT", "USER NKEY SEED").replace("\n", " "),
    ],
    ids=range(7),
)  # fmt: skip
def test_blocks_of_any_label_are_read_from_a_creds_file(tmp_path, text):
    path = tmp_path / "user.creds"
    path.write_text(text)
    path.chmod(0o600)
    found = read_creds(path)
    assert (found.jwt, bytes(found.seed)) == (JWT, SEED.encode())


@pytest.mark.parametrize("name", ["creds_file", "tls_ca_file", "tls_cert_file"])
def test_a_tilde_in_a_file_option_is_the_home(tmp_path, monkeypatch, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").write_text(creds("NATS USER JWT", "USER NKEY SEED"))
    (tmp_path / "file").chmod(0o600)
    from lab import inside

    nats = Nats(**{name: "~/file"})
    assert getattr(inside.options_of(nats), name) == str(tmp_path / "file")
    Nats().creds_file(Path("~/file"))


DASHES = [
    "-" * 1_000_000,
    "---BEGIN " * 111_000, "---BEGIN A---" + " " * 980_000, "---BEGIN A---\n" + "x" * 980_000,
    "---BEGIN A" + "-" * 980_000, "--- " * 250_000,
    "---BEGIN A---\nx\n" * 60_000, "---BEGIN " + "-- " * 320_000,
    "---BEGIN A---\nx\n" + "-" * 980_000, "---BEGIN A---x " * 65_000, "---" + " " * 980_000,
]  # fmt: skip


@pytest.mark.parametrize("text", DASHES, ids=[text[:16] for text in DASHES])
def test_a_creds_file_is_searched_in_linear_time(tmp_path, text):
    path = tmp_path / "user.creds"
    path.write_text(text)
    path.chmod(0o600)
    start = time.process_time()
    with pytest.raises(BadOptionsError, match="missing"):
        read_creds(path)
    with pytest.raises(BadOptionsError):
        Nats(nkey_seed=text)
    # The quadratic search took hours; this is no measure of speed.
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    "value", [10**400, 10**5000, -(10**5000), float("nan"), float("inf")], ids=list("abcde")
)
def test_numbers_that_no_float_can_hold_are_refused_as_times(value):
    nats = Nats(ping_interval=5)
    for call in (nats.ping_interval, nats.connect_timeout, lambda ms: nats.reconnect(True, ms)):
        with pytest.raises(BadOptionsError, match="must be a time of 0 or more"):
            call(value)
    assert nats.ping_interval() == 5
    assert not nats.reconnect_enabled()


@pytest.mark.parametrize(
    "name", ["max_pings_outstanding", "port", "keepalive", "reconnect_buffer_size"]
)
def test_huge_counts_are_refused_or_taken_without_another_error(name):
    for value in (-(10**5000), 10**5000):
        seen = ""
        try:
            Nats(**{name: value})
        except BadOptionsError as exc:
            seen = str(exc)
        assert len(seen) < 100


@pytest.mark.parametrize("value", [True, Decimal(5), "5", b"5"])
def test_other_types_are_no_times_whatever_they_equal(value):
    nats = Nats(ping_interval=1, connect_timeout=5)
    for call in (nats.ping_interval, nats.connect_timeout):
        with pytest.raises(TypeError):
            call(value)


def test_accessors_refuse_what_the_constructor_refuses(tmp_path):
    path = tmp_path / "user.creds"
    path.write_text(creds("NATS USER JWT", "USER NKEY SEED"))
    path.chmod(0o600)
    with pytest.raises(BadOptionsError, match="exclude"):
        Nats(signature_cb=lambda nonce: b"").nkey_seed(SEED)
    with pytest.raises(BadOptionsError, match="exclude"):
        Nats(jwt_cb=lambda: "").creds_file(path)
    for nothing in (None, ""):
        nats = Nats(nkey_seed=SEED)
        with pytest.raises(BadOptionsError, match="needs a path"):
            nats.creds_file(nothing)
        with pytest.raises(BadOptionsError, match="exclude"):  # the seed is still there
            Nats(nkey_seed=SEED, nkey=Key("user").public)


def test_no_frame_shows_a_secret_when_an_interrupt_ends_the_call():
    class Slow:
        def __fspath__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        Nats(password="sekret", creds_file=Slow())
    frames = caught.tb
    while frames is not None:
        assert frames.tb_frame.f_globals["__name__"] in (__name__, "nats_ev.redact")
        frames = frames.tb_next


def test_no_frame_shows_a_secret_whatever_the_error_is():
    class Odd:
        def wrap_bio(self) -> None: ...

    with pytest.raises(AttributeError) as caught:
        Nats(password="sekret", tls_context=Odd())
    frames = caught.tb
    while frames is not None:
        assert frames.tb_frame.f_globals["__name__"] in (__name__, "nats_ev.redact")
        frames = frames.tb_next


def test_a_jwt_from_a_callback_may_have_the_lines_of_its_block_around_it(client, fake, run):
    seen = []

    def script(peer):
        seen.append(peer.handshake()["jwt"])
        peer.at_eof()

    block = "\n-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n\n"
    nats = client(fake(script), jwt_cb=lambda: block)
    run(nats.is_connected)
    assert seen == ["a.b.c"]
