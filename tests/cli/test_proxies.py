"""The command line goes through a proxy: by its option, its variable, a context, or not at all."""

from __future__ import annotations

import pytest

from lab.natsserver import NatsServer
from lab.proxies import ThreadProxy
from nats_ev import Context

from .conftest import Run

pytestmark = pytest.mark.server


def test_option_variable_and_context(
    offline: Run, js_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = ("--server", js_server.url)
    with ThreadProxy(login="u:hunter2") as proxy:
        url = f"socks5://u:hunter2@{proxy.address}"
        for number, option in enumerate(["--proxy", "--socks-proxy"], 1):
            assert offline("rtt", *at, option, url).status == 0
            assert len(proxy.asked) == number
        assert offline("context", "save", "far", *at, "--proxy", url).status == 0
        assert Context.load("far")["socks_proxy"] == url
        shown = offline("context", "show", "far")
        assert "hunter2" not in shown.out + shown.err
        assert offline("rtt", "--context", "far").status == 0
        assert len(proxy.asked) == 3
        for none in ("none", "-", ""):
            assert offline("rtt", "--context", "far", "--proxy", none).status == 0
        assert len(proxy.asked) == 3
        monkeypatch.setenv("NATS_SOCKS_PROXY", url)
        assert offline("rtt", *at).status == 0
        assert len(proxy.asked) == 4
        refused = offline("rtt", *at, "--proxy", f"http://u:hunter3@{proxy.address}")
        assert refused.status == 1
        assert "the proxy answered 407" in refused.err
        assert "hunter" not in refused.err
        assert offline("context", "save", "far", "--proxy", "none").status == 0
        assert Context.load("far")["socks_proxy"] == ""
    bad = offline("rtt", *at, "--proxy", "https://u:hunter2@proxy")
    assert bad.status == 1
    assert "TLS to a proxy" in bad.err
    assert "hunter2" not in bad.err
