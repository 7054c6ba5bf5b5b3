"""The option proxy, and which proxy the environment names for which server."""

from __future__ import annotations

import pytest

from nats_ev import BadOptionsError
from nats_ev.options import Options, parse_proxy, proxy_of_environment


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://proxy:8080", ("http", "proxy", 8080, None, "")),
        (" HTTP://Proxy:8080/ ", ("http", "proxy", 8080, None, "")),
        ("http://proxy", ("http", "proxy", 80, None, "")),
        ("socks5://proxy", ("socks5", "proxy", 1080, None, "")),
        ("socks5h://[fd00::1]:99", ("socks5h", "fd00::1", 99, None, "")),
        ("socks5://u:p@proxy:1", ("socks5", "proxy", 1, "u", "p")),
        ("http://u@proxy:1", ("http", "proxy", 1, "u", "")),
        ("http://u%40x:p%2F%3A@proxy:1", ("http", "proxy", 1, "u@x", "p/:")),
        ("http://u:pä@proxy:1", ("http", "proxy", 1, "u", "pä")),
    ],
)
def test_urls_of_proxies(url, parts):
    proxy = parse_proxy(url)
    assert tuple(proxy) == parts
    assert "u" not in proxy.url.removeprefix(f"{parts[0]}://")
    assert repr(proxy) == f"<Proxy {proxy.url}>"


BAD = [
    "proxy:8080", "127.0.0.1", "https://u:hunter2@proxy:1", "socks4://hunter2@proxy:1", "socks://proxy:1",
    "ftp://u:hunter2@proxy:1", "http://", "http://:80", "http://u:hunter2@", "http://proxy:0",
    "http://proxy:x", "http://proxy:99999", "http://u:hunter2/x@proxy:1", "http://u:hunter2#x@proxy:1",
    "http://proxy:1/path", "http://pro xy:1", "http://proxy:1\r\nX: y", "http://u:hunter2%ff@proxy:1",
    "http://[hunter2:1", "http://u%3Ax:hunter2@proxy:1", "socks5://:hunter2@proxy:1",
    "socks5://u:" + "hunter2" * 40 + "@proxy:1", "socks5://" + "hunter2" * 40 + ":p@proxy:1",
]  # fmt: skip


@pytest.mark.parametrize("url", BAD)
def test_a_bad_url_is_refused_at_the_call_and_shows_no_secret(url):
    with pytest.raises(BadOptionsError, match=r"^proxy") as caught:
        Options.from_kwargs({"proxy": url})
    assert "hunter2" not in str(caught.value)


def test_tls_to_a_proxy_and_old_socks_say_what_is_supported():
    with pytest.raises(ValueError, match=r"TLS to a proxy .* is not supported"):
        Options.from_kwargs({"proxy": "https://proxy"})
    with pytest.raises(ValueError, match="socks4:// is not supported"):
        Options.from_kwargs({"proxy": "socks4://proxy"})


@pytest.mark.parametrize("value", [1, 0, b"http://proxy", ["http://proxy"]])
def test_what_is_no_url_is_a_type_error(value):
    with pytest.raises(TypeError, match="proxy must be str"):
        Options.from_kwargs({"proxy": value})


def test_true_is_no_proxy():
    with pytest.raises(BadOptionsError, match="proxy must be a URL"):
        Options.from_kwargs({"proxy": True})


def test_a_false_value_is_no_proxy_and_none_is_the_environments():
    assert [Options.from_kwargs({"proxy": v}).proxy for v in ("", " ", False, None)] == [
        "",
        "",
        "",
        None,
    ]


def test_no_repr_shows_the_url():
    options = Options.from_kwargs({"proxy": "http://u:hunter2@proxy:1"})
    assert "hunter2" not in repr(options)
    assert " proxy=" not in repr(options)


def dial(host, port, done):
    """Do nothing."""


def test_dial_and_proxy_exclude_each_other():
    with pytest.raises(BadOptionsError, match="dial and proxy exclude each other"):
        Options.from_kwargs({"proxy": "http://proxy:1", "dial": dial})
    assert Options.from_kwargs({"proxy": "", "dial": dial}).dial is dial
    with pytest.raises(TypeError, match="dial is called with \\(host, port, done\\)"):
        Options.from_kwargs({"dial": lambda host, port: None})
    with pytest.raises(TypeError, match="dial must be callable or None"):
        Options.from_kwargs({"dial": 5})


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        (
            "local_address",
            [("127.0.0.1", ("127.0.0.1", 0)), ("[::1]", ("::1", 0)), (("::1", 5), ("::1", 5)), (None, None)],
            ["localhost", "", "127.0.0.1:5", ("127.0.0.1", 70_000), ("127.0.0.1", -1), (None, 5), "eth0"],
        ),
        ("ip_resolution_order", [(0, 0), (4, 4), (6, 6), (46, 46), (64, 64)], [1, 44, -4, 10**40]),
        ("tcp_user_timeout", [(0, 0), (0.2, 1), (2000, 2000)], [-1, 2**31, float("nan")]),
    ],
)  # fmt: skip
def test_options_of_sockets(name, good, bad):
    for given, kept in good:
        assert getattr(Options.from_kwargs({name: given}), name) == kept
    for value in bad:
        with pytest.raises(BadOptionsError, match=name):
            Options.from_kwargs({name: value})
    for value in ("soon", [1, 2, 3], object()):
        with pytest.raises((TypeError, BadOptionsError), match=name):
            Options.from_kwargs({name: value})


def test_a_system_without_the_kernels_timeout_says_so(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(BadOptionsError, match="needs Linux"):
        Options.from_kwargs({"tcp_user_timeout": 5})
    assert Options.from_kwargs({"tcp_user_timeout": 0}).tcp_user_timeout == 0


# The environment.

PROXY = "http://proxy:8080"


def found(host: str, port: int = 4222, **environ: str) -> str | None:
    proxy = proxy_of_environment(host, port, environ)
    return None if proxy is None else proxy.url


def test_all_proxy_in_its_spellings():
    assert found("nats.example") is None
    assert found("nats.example", ALL_PROXY=PROXY) == PROXY
    assert (
        found("nats.example", all_proxy="socks5h://proxy:1", ALL_PROXY=PROXY) == "socks5h://proxy:1"
    )
    assert found("nats.example", all_proxy="", ALL_PROXY=PROXY) == PROXY
    assert found("nats.example", ALL_PROXY="proxy:8080") == PROXY
    assert found("127.0.0.1", ALL_PROXY=PROXY) == PROXY
    with pytest.raises(BadOptionsError, match=r"^ALL_PROXY: TLS to a proxy") as caught:
        found("nats.example", ALL_PROXY="https://u:hunter2@proxy")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "exceptions"),
    [
        ("nats.example", "*"), ("nats.example", "a,*"), ("nats.example", "nats.example"),
        ("nats.example", "example"), ("nats.example", ".example"), ("nats.example", "*.example"),
        ("NATS.Example.", "other, nats.EXAMPLE"), ("nats.example", "a nats.example b"),
        ("nats.example", "nats.example:4222"), ("nats.example", "nats.example."),
        ("localhost", "localhost,127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "127.0.0.0/8"),
        ("10.1.2.3", "10.0.0.0/8:4222"), ("::1", "::1"), ("::1", "[::1]"), ("::1", "[::1]:4222"),
        ("fd00::9", "fd00::/8"), ("fe80::1%eth0", "fe80::/10"), ("10.0.0.7", "10.0.0.1/24"),
    ],
)  # fmt: skip
def test_no_proxy_names_servers_that_are_reached_directly(host, exceptions):
    assert found(host, NO_PROXY=exceptions, ALL_PROXY=PROXY) is None
    assert found(host, no_proxy=exceptions, NO_PROXY="none", ALL_PROXY=PROXY) is None


@pytest.mark.parametrize(
    ("host", "exceptions"),
    [
        ("nats.example", ""), ("nats.example", "ats.example"), ("nats.example", "a.nats.example"),
        ("nats.example", "nats.example:4223"), ("nats.example", "nats.example:x"), ("127.0.0.1", "127.0.0"),
        ("127.0.0.1", "10.0.0.0/8"), ("127.0.0.1", "::1"), ("127.0.0.1", "127.0.0.1/99"),
        ("::1", "127.0.0.1"), ("nats.example", "nats.example:" + "9" * 5000),
        ("nats.example", ","), ("nats.example", "."), ("127.0.0.1", "localhost"),
        ("nats.example", "10.0.0.0/8"),
    ],
)  # fmt: skip
def test_no_proxy_names_no_other_server(host, exceptions):
    assert found(host, NO_PROXY=exceptions, ALL_PROXY=PROXY) == PROXY
