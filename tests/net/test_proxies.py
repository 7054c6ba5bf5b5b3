"""Handshakes with proxies, byte by byte: what is said, what is heard, and what is left for the server."""

from __future__ import annotations

import pytest

from nats_ev import ProxyError
from nats_ev.net.proxies.handshake import Handshake
from nats_ev.net.proxies.tunnel import handshake_of
from nats_ev.options import parse_proxy

OK = b"HTTP/1.1 200 Connection established\r\n\r\n"
GRANTED = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
INFO = b"INFO {}\r\n"


def begun(url: str, host: str = "nats.example", port: int = 4222) -> tuple[Handshake, bytes]:
    shake = handshake_of(parse_proxy(url), host, port)
    return shake, shake.begin()


def feed(shake: Handshake, data: bytes, step: int = 0) -> tuple[bytes, bytes]:
    """Let a handshake hear data, so many bytes at a time; return what it says and what is left."""
    said = b""
    at, end = 0, 0
    while end < len(data) and not shake.done:  # data[at:end] has arrived and was not taken
        end = min(end + step, len(data)) if step else len(data)
        while at < end and not shake.done:
            taken, words = shake.receive(data[at:end])
            assert taken > 0
            at += taken
            said += words
    return said, data[at:]


@pytest.mark.parametrize(
    ("host", "where"),
    [
        ("nats.example", "nats.example:4222"), ("10.0.0.1", "10.0.0.1:4222"), ("fd00::1", "[fd00::1]:4222"),
        ("bücher.example", "xn--bcher-kva.example:4222"),
    ],
)  # fmt: skip
def test_connect_names_the_server_twice_and_the_user_once(host, where):
    _, said = begun("http://127.0.0.1:8080", host)
    assert said == f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode()
    _, said = begun("http://us%2Fer:p%3Ass@127.0.0.1:8080", host)
    assert b"\r\nProxy-Authorization: Basic dXMvZXI6cDpzcw==\r\n\r\n" in said


ANSWERS = [
    OK,
    b"HTTP/1.0 200 OK\r\n\r\n",
    b"HTTP/1.1 200\r\n\r\n",
    b"HTTP/1.1 200 \r\nVia: 1.1 x\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 204 None\nVia: 1.1 x\n\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    b"HTTP/1.1 200 OK\r\nX: " + b"x" * 16_000 + b"\r\n\r\n",
]


@pytest.mark.parametrize("step", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("answer", ANSWERS)
def test_an_http_proxys_consent_leaves_the_servers_words_alone(answer, step):
    shake, _ = begun("http://127.0.0.1:8080")
    assert feed(shake, answer + INFO + b"\r\n\r\n", step)[1].endswith(INFO + b"\r\n\r\n"[:None])
    assert shake.done


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (b"HTTP/1.1 403 Filtered\r\n\r\n", 403, "the proxy answered 403 Filtered"),
        (b"HTTP/1.1 502 Bad\x1b[1m \xff gateway\r\n\r\n", 502, "502 Bad [1m ÿ gateway"),
        (b"HTTP/1.1 407 Who\r\n\r\n", 407, "407 Who: it wants a user and a password"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", 101, "101 Switching"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere\r\n\r\n", 302, "302 Found"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 11, 100, "100 Continue"),
        (b"HTTP/1.1 500 " + b"x" * 200 + b"\r\n\r\n", 500, "500 " + "x" * 80),
        (b"HTTP/1.1 2000 OK\r\n\r\n", 0, "not an HTTP proxy"),
        (b"HTTP/1.1\r\n\r\n", 0, "not an HTTP proxy"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", 0, "not an HTTP proxy: it sent b'S"),
        (INFO, 0, "not an HTTP proxy: it sent b'I"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 17_000, 0, "exceeds 16384 bytes"),
    ],
)  # fmt: skip
def test_an_http_proxy_that_refuses_or_is_none(answer, code, words, step):
    shake, _ = begun("http://127.0.0.1:8080")
    with pytest.raises(ProxyError) as caught:
        feed(shake, answer, step)
    assert words in str(caught.value)
    assert (caught.value.code, caught.value.proxy) == (code, "http://127.0.0.1:8080")
    assert not shake.done


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("nats.example", b"\x03\x0cnats.example"), ("10.0.0.1", b"\x01\x0a\x00\x00\x01"),
        ("::1", b"\x04" + bytes(15) + b"\x01"),
    ],
)  # fmt: skip
def test_socks_names_are_the_proxys_to_resolve_and_numbers_stay_numbers(scheme, host, address):
    shake, said = begun(f"{scheme}://127.0.0.1", host)
    assert said == b"\x05\x01\x00"
    assert feed(shake, b"\x05\x00")[0] == b"\x05\x01\x00" + address + b"\x10\x7e"
    assert shake.receive(GRANTED + INFO) == (len(GRANTED), b"")
    assert shake.done


@pytest.mark.parametrize("step", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "bound", [b"\x01" + bytes(4), b"\x04" + bytes(16), b"\x03\x00", b"\x03\x05hello"]
)
@pytest.mark.parametrize("version", [1, 5])
def test_a_socks_proxy_logs_in_and_leaves_the_servers_words_alone(step, bound, version):
    shake, said = begun("socks5://us%40er:p@127.0.0.1:1080", "a.b")
    assert said == b"\x05\x02\x00\x02"
    answer = b"\x05\x02" + bytes([version, 0]) + b"\x05\x00\x00" + bound + b"\x00\x00"
    said, left = feed(shake, answer + INFO, step)
    assert said == b"\x01\x05us@er\x01p" + b"\x05\x01\x00\x03\x03a.b\x10\x7e"
    assert left.endswith(INFO)
    assert shake.done


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (b"\x05\xff", 255, "it wants another way to log in"),
        (b"\x05\x01", 1, "a way to log in that is not known here (1)"),
        (b"\x04\x00", 0, "not a SOCKS5 proxy"),
        (b"HTTP/1.1 400", 0, "not a SOCKS5 proxy: it sent b'HT'"),
        (b"\x05\x02\x01\x01", 1, "refuses the user or the password"),
        (b"\x05\x02\x07\x00", 0, "not a SOCKS5 proxy"),
        *(
            (b"\x05\x00\x05" + bytes([code]), code, words)
            for code, words in [
                (1, "general failure"), (2, "rules do not allow"), (3, "network unreachable"),
                (4, "host unreachable"), (5, "connection refused"), (6, "TTL expired"),
                (7, "does not support CONNECT"), (8, "type of address"), (99, "99: unknown reason"),
            ]
        ),
        (b"\x05\x00\x06\x00", 0, "not a SOCKS5 proxy"),
        (b"\x05\x00\x05\x00\x00\x02\x00", 0, "not a SOCKS5 proxy"),
    ],
)  # fmt: skip
def test_a_socks_proxy_that_refuses_or_is_none(answer, code, words, step):
    shake, _ = begun("socks5://user:hunter2@127.0.0.1:1080")
    with pytest.raises(ProxyError) as caught:
        feed(shake, answer, step)
    assert words in str(caught.value)
    assert caught.value.code == code
    assert "hunter2" not in str(caught.value)


def test_a_login_that_was_not_offered_is_not_made():
    shake, _ = begun("socks5://127.0.0.1:1080")
    with pytest.raises(ProxyError, match="not known here"):
        shake.receive(b"\x05\x02")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "socks5://127.0.0.1:1"])
def test_an_answer_that_stops_is_told_from_none(url):
    shake, _ = begun(url)
    assert str(shake.ended()) == "the proxy has closed the connection without an answer"
    shake.receive(b"H" if url.startswith("http") else b"\x05")
    assert str(shake.ended()) == "the proxy has closed the connection in the middle of its answer"


@pytest.mark.parametrize("host", ["fe80::1%eth0", "x" * 256 + ".example", "ü" * 80])
def test_a_name_that_a_proxy_can_not_be_told_is_an_error(host):
    with pytest.raises(ProxyError):
        begun("socks5://127.0.0.1:1", host)
