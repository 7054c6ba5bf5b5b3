"""WebSocket through nginx as a reverse proxy, under a path of its own, with and without TLS."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import debian, inside
from lab.natsserver import wait_for
from lab.process import die_with_us
from lab.proxies import ThreadProxy
from lab.steps import collect, flushed
from nats_ev import WebSocketError
from nats_ev.testing import free_port

CONFIG = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{
    listen 127.0.0.1:{port};
    listen 127.0.0.1:{tls_port} ssl;
    ssl_certificate {cert}; ssl_certificate_key {key};
    location /nats/ {{
      proxy_pass http://127.0.0.1:{upstream}/;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_read_timeout 300s;
    }}
    location /unmasked-unknown/ {{
      proxy_pass http://127.0.0.1:{upstream}/;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_set_header Nats-No-Masking "";
    }}
    location /private/ {{
      if ($http_authorization != "Bearer s3cret") {{ return 401; }}
      proxy_pass http://127.0.0.1:{upstream}/;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
    }}
    location /down/ {{ proxy_pass http://127.0.0.1:{closed}; }}
    location /nothing {{ return 404; }}
    location /moved/ {{ return 302 http://127.0.0.1:{port}/nats/; }}
  }}
}}
"""


class Nginx:
    """A running nginx: its ports in clear and with TLS."""

    def __init__(self, folder: Path, upstream: int, pair: Any) -> None:
        self.port, self.tls_port = free_port(), free_port()
        text = CONFIG.format(
            folder=folder, port=self.port, tls_port=self.tls_port, upstream=upstream,
            cert=pair.cert_file, key=pair.key_file, closed=free_port(),
        )  # fmt: skip
        (folder / "nginx.conf").write_text(text)
        command = [debian.program("nginx"), "-p", str(folder), "-c", "nginx.conf"]
        command += ["-e", str(folder / "error.log")]
        self.process = subprocess.Popen(command, preexec_fn=die_with_us, start_new_session=True)

        def accepts() -> bool:
            assert self.process.poll() is None, (folder / "error.log").read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return True
            return False

        wait_for(accepts, what="nginx")

    def url(self, tls: bool, path: str) -> str:
        return (
            f"wss://localhost:{self.tls_port}{path}" if tls else f"ws://127.0.0.1:{self.port}{path}"
        )

    def end(self) -> None:
        """End nginx and its worker."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def nginx(own_server, certs, tmp_path) -> Iterator[Callable[..., Nginx]]:
    """nginx(binary): in front of a server."""
    started: list[Nginx] = []

    def start(binary: str | None = None) -> Nginx:
        server = own_server(websocket=True, binary=binary)
        pair = certs.issue("nginx", "localhost", "127.0.0.1")
        started.append(Nginx(tmp_path, server.ws_port, pair))
        return started[-1]

    try:
        debian.program("nginx")
    except FileNotFoundError as exc:
        pytest.skip(str(exc))
    yield start
    for each in started:
        each.end()


@pytest.mark.parametrize("compression", [False, True])
@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
def test_messages_pass_under_a_path(nginx, connected, run, certs, any_binary, tls, compression):
    proxy = nginx(any_binary)
    url = proxy.url(tls, "/nats/client?x=y")
    ca = {"tls_ca_file": str(certs.ca.cert_file)} if tls else {}
    nats = connected(None, servers=[url], ws_compression=compression, connect_timeout=10_000, **ca)
    stream = inside.stream_of(nats)
    assert (stream.compressed, stream.masked, stream.secure) == (compression, False, tls)
    assert nats.connected_url() == url.partition("?")[0]
    got: list[bytes] = []
    nats.subscribe("a.>", collect(got))
    payloads = [os.urandom(size) for size in (0, 10, 126, 65536, 1_000_000)] * 3 + [
        b"x" * 100
    ] * 5000
    for payload in payloads:
        nats.publish("a.b", payload)
    run(lambda: len(got) == len(payloads))
    assert got == payloads
    assert nats.recorder.errors == []


def test_discovered_servers_are_reached_under_the_path_of_the_option(nginx, connected, run):
    proxy = nginx()
    nats = connected(
        None,
        servers=[proxy.url(False, "")],
        ws_proxy_path="/nats/",
        reconnect=True,
        reconnect_delay=20,
    )
    listed = json.loads(nats.server_info()).get("connect_urls", [])
    assert all(":" in each for each in listed)
    nats.force_reconnect()
    run(lambda: nats.recorder.count("reconnect") == 1)
    flushed(nats, run)


def test_a_proxy_that_drops_the_header_gets_masked_frames(nginx, connected, run):
    nats = connected(None, servers=[nginx().url(False, "/unmasked-unknown/")])
    assert inside.stream_of(nats).masked
    got: list[bytes] = []
    nats.subscribe("a", collect(got))
    nats.publish("a", b"x" * 100_000)
    run(lambda: got == [b"x" * 100_000])


def test_refusals_of_a_proxy_have_its_status(nginx, client, connected, run):
    proxy = nginx()
    for path, status in (("/nothing", 404), ("/private/", 401), ("/down/", 502), ("/moved/", 302)):
        nats = client(servers=[proxy.url(False, path)])
        run(lambda nats=nats: nats.recorder.errors)
        error = nats.recorder.errors[0]
        assert isinstance(error, WebSocketError)
        assert error.status == status
        assert f"127.0.0.1:{proxy.port}" in str(error)
    headers = {"Authorization": "Bearer s3cret"}
    connected(None, servers=[proxy.url(False, "/private/")], ws_headers=headers)


def test_a_new_configuration_of_the_proxy_breaks_no_connection(nginx, connected, run):
    proxy = nginx()
    nats = connected(None, servers=[proxy.url(False, "/nats/")])
    os.kill(
        proxy.process.pid, signal.SIGHUP
    )  # new workers; the old one goes on with its connections
    flushed(nats, run)
    assert nats.recorder.count("disconnect") == 0


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
def test_the_tunnel_of_a_proxy_comes_before_tls_and_http(
    own_server, connected, run, certs, scheme, tls
):
    server = own_server(websocket=True, tls=certs if tls else False)
    with ThreadProxy(names={"nats.internal": "127.0.0.1"}) as proxy:
        options = {"tls_hostname": "localhost"} if tls else {}
        url = server.ws_url.replace("127.0.0.1", "nats.internal")
        options |= server.ws_options | {"servers": [url], "proxy": f"{scheme}://{proxy.address}"}
        nats = connected(None, **options)
        assert proxy.asked == [f"nats.internal:{server.ws_port}"]
        flushed(nats, run)
        assert nats.connected_url() == url


def test_a_socket_of_the_users_own_carries_websocket(own_server, connected, run):
    server = own_server(websocket=True)

    def dial(host: str, port: int, done: Any) -> None:
        done(socket.create_connection(("127.0.0.1", server.ws_port)))

    nats = connected(None, servers=["ws://elsewhere.example/x"], dial=dial)
    flushed(nats, run)
    assert nats.connected_url() == "ws://elsewhere.example:80/x"
