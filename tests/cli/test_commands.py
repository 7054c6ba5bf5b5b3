"""Each group of commands on a real server, called as a function."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from lab.natsserver import NatsServer
from nats_ev import blocking
from nats_ev.cli import root

from .conftest import Run

pytestmark = pytest.mark.server


@contextmanager
def answering(server: NatsServer, serve: Callable[[blocking.Nats], object]) -> Iterator[None]:
    """Let a client in a thread of its own do something while the block runs."""
    with blocking.connect(server.url, background=True) as nc:
        serve(nc)
        nc.flush()
        yield


@pytest.fixture
def echo(js_server: NatsServer) -> Iterator[str]:
    """A subject on which two answer."""

    def serve(nc: blocking.Nats) -> None:
        for name in ("one", "two"):
            nc.nats.call_threadsafe(subscribe, nc.nats, name)

    def subscribe(nats, name: str) -> None:
        def asked(subject, payload, reply, headers) -> None:
            nats.publish(reply, payload, headers={"By": name})

        nats.subscribe("cli.echo", asked)

    with answering(js_server, serve):
        yield "cli.echo"


# Messages.


def test_what_is_published_is_received(ev: Run, js_server: NatsServer) -> None:
    ev("stream", "add", "PUBS", "--subjects", "pubs.>", "--storage", "memory")
    done = ev("pub", "pubs.a", "hello", "-H", "X-Trace: 42", "--json")
    assert done.json == {"subject": "pubs.a", "messages": 1, "bytes": 5}
    assert ev("pub", "pubs.b", stdin=b"from a pipe\n").err.startswith(
        "Published 1 message, 12 bytes"
    )
    ev("pub", "pubs.c", "n {{Count}}", "--count", "3", "--templates", "-q")
    ev("pub", "pubs.d", "--send-on", "newline", "-q", stdin=b"x\ny\r\n")
    assert ev("pub", "-J", "pubs.e", "kept").out == "Stored in PUBS as 8\n"
    got = ev("sub", ">", "--stream", "PUBS", "--count", "8", "--json").lines
    assert [msg["payload"] for msg in got] == [
        *("hello", "from a pipe\n", "n 1", "n 2", "n 3", "x", "y", "kept")
    ]
    assert got[0]["headers"] == {"X-Trace": ["42"]}
    assert [msg["seq"] for msg in got] == list(range(1, 9))
    last = ev("sub", "pubs.c", "--stream", "PUBS", "--last", "--wait", "200ms")
    assert last.out == "[#1] pubs.c (PUBS 5, 0 left)\nn 3\n\n"
    assert ev("sub", "pubs.a", "--stream", "PUBS", "--count", "1").out == (
        "[#1] pubs.a (PUBS 1, 0 left)\nX-Trace: 42\n\nhello\n\n"
    )
    assert ev("sub", "pubs.a", "--stream", "PUBS", "--raw", "--count", "1").out == "hello\n"


def test_subscribing_to_several_subjects(ev: Run, js_server: NatsServer) -> None:
    def publish(nc: blocking.Nats) -> None:
        def again() -> None:
            for subject in ("many.a", "many.b"):
                nc.nats.publish(subject, subject)
            nc.nats.call_later(20, again)

        nc.nats.call_threadsafe(again)

    with answering(js_server, publish):
        done = ev("sub", "many.a", "many.b", "--count", "4", "--subjects-only")
    assert sorted(set(done.out.split())) == ["many.a", "many.b"]
    assert len(done.out.splitlines()) == 4
    assert ev("sub", "quiet", "--wait", "50ms").err == "Subscribed to 'quiet'\n"


def test_a_request_has_an_answer(ev: Run, echo: str) -> None:
    assert ev("req", echo, "ping", "--raw").out == "ping\n"
    answers = ev("req", echo, "ping", "--replies", "2", "--json").lines
    assert {answer["headers"]["By"][0] for answer in answers} == {"one", "two"}
    assert len(ev("request", echo, "ping", "--replies", "0", "--json").lines) == 2
    shown = ev("req", echo, "ping").out.splitlines()
    assert shown[0].startswith("cli.echo answered in ")
    assert shown[1] in ("By: one", "By: two")
    assert shown[2:4] == ["", "ping"]


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        (["number {{Count}}"], "number 1\n"),
        (["--echo"], "ping\n"),
        (["--command", "tr a-z A-Z"], "PING\n"),
    ],
)
def test_replying(
    options: list[str], answer: str, ev: Run, js_server: NatsServer, tmp_path: Path
) -> None:
    answers: list[bytes] = []

    def ask(nc: blocking.Nats) -> None:
        def asked(response, err, headers) -> None:
            if err is not None:  # the command has not subscribed yet
                nc.nats.call_later(20, begin)
            else:
                answers.append(response)

        def begin() -> None:
            nc.nats.request("cli.reply", b"ping", asked, no_responders=True)

        nc.nats.call_threadsafe(begin)

    with answering(js_server, ask):
        shown = ev("reply", "cli.reply", *options, "--count", "1")
    assert shown.out == "[#1] cli.reply\nping\n\n"
    assert answers == [answer.removesuffix("\n").encode()]


def test_errors_are_one_line_and_status_1(ev: Run, offline: Run) -> None:
    for arguments, text in {
        ("req", "nobody", "x"): "no responders: 'nobody'",
        ("stream", "info", "NOPE"): "stream not found",
        ("pub", "a b", "x"): "invalid subject",
        ("pub", "a.*", "x"): "invalid subject 'a.*': a wildcard, to which nobody can publish",
        ("req", "a..b", "x"): "invalid subject 'a..b'",
        ("kv", "get", "NOPE", "x"): "NOPE",
        ("object", "info", "NOPE"): "NOPE",
        ("consumer", "next", "NOPE", "x", "--wait", "100ms"): "is JetStream enabled?)\n",
        ("service", "info", "nope"): "no service nope answers",
        ("context", "show", "nope"): "no context 'nope'",
        ("pub", "-J", "nowhere", "x"): "nowhere",
        ("rtt", "-s", "nats://127.0.0.1:1"): "127.0.0.1:1: Connection refused",
        ("rtt", "--creds", "/nope"): "/nope",
        ("rtt", "--nkey", "/nope"): "/nope",
        ("stream", "add", "X", "--config", "/nope"): "/nope",
        ("top", "--once", "--timeout", "200ms"): "--monitor URL",
    }.items():
        done = ev(*arguments, status=1)
        assert done.err.startswith("nats-ev: "), done
        assert text in done.err
        assert len(done.err.splitlines()) == 1, done.err
        assert done.out == ""


# The server.


def test_the_server(ev: Run, js_server: NatsServer) -> None:
    found = ev("info", "--json").json
    assert found["server"]["server_name"] == "cli"
    assert found["connection"]["url"] == js_server.url
    assert found["jetstream"]["limits"]["max_streams"] == -1
    assert "Server cli at nats://127.0.0.1:" in ev("info").out
    assert len(ev("rtt", "3", "--json").json["ms"]) == 3
    assert "Median: " in ev("rtt").out


def test_top_shows_connections(ev: Run, js_server: NatsServer) -> None:
    monitor = f"127.0.0.1:{js_server.monitor_port}"
    with blocking.connect(js_server.url, name="seen by top"):
        look = ev("top", "--monitor", monitor, "--once", "--json").json
        assert "seen by top" in [client["name"] for client in look["clients"]]
        shown = ev("top", "--monitor", monitor, "--count", "2", "--interval", "50ms").out
    assert "seen by top" in shown
    assert "In : " in shown


def test_top_asks_the_system_account(offline: Run, own_server) -> None:
    server = own_server(
        config="accounts { SYS: { users: [{user: admin, password: secret}] } }\nsystem_account: SYS\n"
    )
    login = ("-s", server.url, "--user", "admin", "--password", "secret")
    done = offline("top", *login, "--once", "--json")
    assert done.status == 0, done
    assert done.json["connections"] >= 0
    assert done.json["server"] == server.name


@pytest.mark.parametrize(
    "arguments",
    [
        ("pub", "bench.a"),
        ("pubsub", "bench.b"),
        ("js", "bench.stored", "--in-flight", "10"),
        ("request", "cli.echo", "--in-flight", "5"),
    ],
)
def test_measuring(arguments: tuple[str, ...], ev: Run, echo: str) -> None:
    ev("stream", "add", "BENCH", "--subjects", "bench.stored", "--storage", "memory")
    result = ev("bench", *arguments, "--msgs", "300", "--size", "1KB", "--json").json
    assert result["messages"] == 300
    assert result["size"] == 1024
    assert result["messages_per_second"] > 0
    if arguments[0] == "request":
        assert set(result["latency_ms"]) == {"p50", "p90", "p99", "max"}
    assert " messages/s" in ev("bench", *arguments, "--msgs", "10").out


def test_a_trace_names_streams_and_subscribers(ev: Run, js_server: NatsServer) -> None:
    if js_server.version < (2, 11):
        pytest.skip("traces came with nats-server 2.11")
    ev("stream", "add", "TRACED", "--subjects", "traced.>", "--storage", "memory")
    shown = ev("trace", "traced.x", "body").out
    assert "Server cli" in shown
    assert "to stream TRACED, subject traced.x" in shown
    assert ev("stream", "info", "TRACED", "--json").json["state"]["messages"] == 0
    ev("trace", "traced.x", "body", "--deliver", "--json")
    assert ev("stream", "info", "TRACED", "--json").json["state"]["messages"] == 1
    assert "Nobody gets it" in ev("trace", "untraced", "x").out


# JetStream.


def test_streams(ev: Run) -> None:
    add = ("stream", "add", "ORDERS", "--subjects", "orders.new,orders.old", "--max-age", "1d")
    made = ev(
        *add, "--max-bytes", "10MB", "--metadata", "team=a", "--set", "deny_delete=false", "--json"
    )
    config = made.json["config"]
    assert config["subjects"] == ["orders.new", "orders.old"]
    assert config["max_age"] == 86_400 * 10**9
    assert config["max_bytes"] == 10 << 20
    assert config["metadata"]["team"] == "a"
    assert ev("stream", "edit", "ORDERS", "--no-ack", "--json").json["config"]["no_ack"] is True
    with_ack = ev("stream", "edit", "ORDERS", "--ack", "--json").json["config"]
    assert not with_ack.get("no_ack")
    for number in range(3):
        ev("pub", "-J", "orders.new", f"{number}", "-q")
    shown = ev("stream", "info", "ORDERS").out
    assert "Subjects: orders.new, orders.old" in shown
    assert "Max age: 1d" in shown
    assert "Messages: 3" in shown
    assert "_nats" not in shown
    assert "ORDERS" in ev("stream", "ls").out
    assert "ORDERS" in ev("stream", "ls", "--names", "--subject", "orders.new").out.split()
    assert ev("stream", "find", "orders.old").out == "ORDERS\n"
    assert ev("stream", "subjects", "ORDERS", "--json").json == {"orders.new": 3}
    assert ev("stream", "get", "ORDERS", "2", "--raw").out == "1\n"
    assert ev("stream", "get", "ORDERS", "--last-for", "orders.new", "--json").json["seq"] == 3
    view = ev("stream", "view", "ORDERS", "2")
    assert view.out.count("orders.new") == 2
    assert view.err == "1 more: nats-ev stream view ORDERS 2 --id 3\n"
    assert ev("stream", "view", "ORDERS", "--id", "3", "--raw").out == "2\n"
    ev("stream", "rmm", "ORDERS", "2", "--force")
    assert "Purged 1 messages" in ev("stream", "purge", "ORDERS", "--keep", "1", "--force").err
    copy = ev("stream", "info", "ORDERS", "--json").out
    ev("stream", "rm", "ORDERS", "--force")
    again = ev("stream", "add", "ORDERS", "--config", "-", "--json", stdin=copy.encode())
    assert again.json["config"]["max_age"] == 86_400 * 10**9
    ev("stream", "rm", "ORDERS", "--force")


def test_consumers(ev: Run) -> None:
    ev("stream", "add", "JOBS", "--subjects", "jobs.>", "--storage", "memory")
    add = ("consumer", "add", "JOBS", "worker", "--filter", "jobs.>", "--wait", "1m")
    config = ev(*add, "--backoff", "1s,10s", "--max-deliver", "3", "--json").json["config"]
    assert config["filter_subject"] == "jobs.>"
    assert config["backoff"] == [10**9, 10**10]
    assert config["durable_name"] == "worker"
    ev("consumer", "edit", "JOBS", "worker", "--max-pending", "7")
    assert "Max ack pending: 7" in ev("consumer", "info", "JOBS", "worker").out
    assert ev("consumer", "ls", "JOBS", "--names").out == "worker\n"
    assert "worker" in ev("consumer", "ls", "JOBS").out
    for number in range(5):
        ev("pub", "-J", f"jobs.{number}", f"{number}", "-q")
    assert ev("consumer", "next", "JOBS", "worker", "--raw").out == "0\n"
    got = ev("consumer", "next", "JOBS", "worker", "--count", "2", "--json").lines
    assert [msg["payload"] for msg in got] == ["1", "2"]
    assert ev("consumer", "next", "JOBS", "worker", "--no-ack", "--raw").out == "3\n"
    assert ev("consumer", "sub", "JOBS", "worker", "--count", "1").out == (
        "[#1] jobs.4 (JOBS 5, 0 left)\n4\n\n"
    )
    state = ev("consumer", "info", "JOBS", "worker", "--json").json
    assert (state["num_ack_pending"], state["delivered"]["stream_seq"]) == (1, 5)
    done = ev("consumer", "next", "JOBS", "worker", "--wait", "100ms", status=1)
    assert done.err == "nats-ev: no messages of worker in JOBS\n"
    begins = {"new": "new", "2": "by_start_sequence", "1h": "by_start_time", "last": "last"}
    for word, policy in begins.items():
        made = ev("consumer", "add", "JOBS", f"c{word}", "--deliver", word, "--ephemeral", "--json")
        assert made.json["config"]["deliver_policy"] == policy
    assert ev("consumer", "sub", "JOBS", "c2", "--count", "2", "--raw").out == "1\n2\n"
    push = ("consumer", "add", "JOBS", "push", "--target", "pushed", "--ack", "none")
    assert ev(*push, "--json").json["config"]["deliver_subject"] == "pushed"
    assert ev("consumer", "sub", "JOBS", "push", "--count", "3", "--raw").out == "0\n1\n2\n"
    ev("consumer", "rm", "JOBS", "worker", "--force")
    assert "worker" not in ev("consumer", "ls", "JOBS", "--names").out


def test_pausing_a_consumer(ev: Run, js_server: NatsServer) -> None:
    if js_server.version < (2, 11):
        pytest.skip("pauses came with nats-server 2.11")
    ev("stream", "add", "PAUSED", "--storage", "memory")
    ev("consumer", "add", "PAUSED", "one")
    assert ev("consumer", "pause", "PAUSED", "one", "1h").err.startswith("Paused until ")
    assert "Paused until" in ev("consumer", "info", "PAUSED", "one").out
    ev("consumer", "resume", "PAUSED", "one")
    assert "Paused until" not in ev("consumer", "info", "PAUSED", "one").out


@pytest.mark.since(2, 12)
def test_keys_with_a_time_to_live(ev: Run) -> None:
    status = ev("kv", "add", "SESSIONS", "--marker-ttl", "1s", "--atomic", "--json")
    assert status.json["config"]["allow_atomic"] is True
    assert ev("kv", "put", "SESSIONS", "42", "alice", "--ttl", "1h").out == "1\n"
    assert ev("kv", "touch", "SESSIONS", "42").out == "2\n"
    assert ev("kv", "update", "SESSIONS", "42", "bob", "2", "--ttl", "30m").out == "3\n"
    assert ev("kv", "touch", "SESSIONS", "42", "--ttl", "2h", "--quiet").out == ""
    assert "key not found" in ev("kv", "touch", "SESSIONS", "43", status=1).err
    assert ev("kv", "get", "SESSIONS", "42").out == "bob\n"
    ev("kv", "rm", "SESSIONS", "--force")


def test_key_value_buckets(ev: Run) -> None:
    status = ev(
        "kv", "add", "CONFIG", "--history", "5", "--ttl", "1d", "--storage", "memory", "--json"
    )
    assert status.json["config"]["history"] == 5
    assert ev("kv", "put", "CONFIG", "app.colour", "red").out == "1\n"
    assert ev("kv", "put", "CONFIG", "app.colour", stdin=b"blue\n").out == "2\n"
    assert ev("kv", "get", "CONFIG", "app.colour").out == "blue\n"
    assert (
        ev("kv", "get", "CONFIG", "app.colour", "--revision", "1", "--json").json["value"] == "red"
    )
    assert "key exists" in ev("kv", "create", "CONFIG", "app.colour", "x", status=1).err
    assert ev("kv", "create", "CONFIG", "app.size", "XL").out == "3\n"
    assert ev("kv", "update", "CONFIG", "app.size", "S", "3").out == "4\n"
    ev("kv", "update", "CONFIG", "app.size", "M", "3", status=1)
    assert ev("kv", "ls", "CONFIG").out == "app.colour\napp.size\n"
    assert ev("kv", "ls", "CONFIG", "app.c*", status=1).out == ""
    verbose = ev("kv", "ls", "CONFIG", "app.*", "--verbose", "--json").json
    assert [entry["revision"] for entry in verbose] == [2, 4]
    assert "CONFIG" in ev("kv", "ls").out
    assert [e["value"] for e in ev("kv", "history", "CONFIG", "app.colour", "--json").json] == [
        *("red", "blue\n")
    ]
    assert r"blue\n" in ev("kv", "history", "CONFIG", "app.colour").out
    watched = ev("kv", "watch", "CONFIG", "--count", "2", "--json").lines
    assert {entry["key"] for entry in watched} == {"app.colour", "app.size"}
    assert "PUT app.size: S" in ev("kv", "watch", "CONFIG", "app.size", "--count", "1").out
    assert ev("kv", "revert", "CONFIG", "app.colour", "1").out == "5\n"
    ev("kv", "del", "CONFIG", "app.size")
    assert "key not found: 'app.size'" in ev("kv", "get", "CONFIG", "app.size", status=1).err
    ev("kv", "purge", "CONFIG", "app.colour", "--force")
    assert ev("kv", "compact", "CONFIG", "--older-than", "0", "--force").err == "Removed 2 keys\n"
    ev("kv", "edit", "CONFIG", "--history", "7")
    assert "History: 7" in ev("kv", "info", "CONFIG").out
    ev("kv", "rm", "CONFIG", "--force")


def test_object_stores(ev: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = bytes(range(256)) * 2000
    Path("report.bin").write_bytes(content)
    ev("object", "add", "FILES", "--storage", "memory")
    info = ev("object", "put", "FILES", "report.bin", "--description", "all", "--json").json
    assert (info["size"], info["description"]) == (len(content), "all")
    ev("object", "put", "FILES", "-", "--name", "logs/text", stdin=b"some text\n")
    assert ev("object", "get", "FILES", "logs/text", "-O", "-").out == "some text\n"
    ev("object", "get", "FILES", "logs/text")
    assert Path("text").read_bytes() == b"some text\n"
    assert "--force replaces it" in ev("object", "get", "FILES", "logs/text", status=1).err
    assert ev("object", "get", "FILES", "report.bin", "-O", "copy").err == "Wrote copy: 500.0 KiB\n"
    assert Path("copy").read_bytes() == content
    ev("object", "get", "FILES", "report.bin", "-O", "copy", "--resume", "--force")
    assert Path("copy").read_bytes() == Path("report.bin").read_bytes()
    ev("object", "put", "FILES", "report.bin", "--resume", "state")
    assert not Path("state").exists()
    assert (
        "needs a file"
        in ev("object", "get", "FILES", "report.bin", "-O", "-", "--resume", status=2).err
    )
    assert ev("object", "ls", "FILES", "--names").out == "logs/text\nreport.bin\n"
    assert "500.0 KiB" in ev("object", "ls", "FILES").out
    assert "FILES" in ev("object", "ls").out
    assert "Size: 500.0 KiB (512,000 bytes)" in ev("object", "info", "FILES", "report.bin").out
    assert "Sealed: no" in ev("object", "info", "FILES").out
    assert "PUT 10 B logs/text" in ev("object", "watch", "FILES", "--count", "2").out
    ev("object", "rm", "FILES", "report.bin", "--force")
    assert "not found" in ev("object", "get", "FILES", "report.bin", "-O", "x", status=1).err
    ev("object", "seal", "FILES", "--force")
    assert ev("object", "info", "FILES", "--json").json["sealed"] is True
    ev("object", "rm", "FILES", "--force")


def test_services(ev: Run, js_server: NatsServer) -> None:
    def serve(nc: blocking.Nats) -> None:
        service = nc.service("double", "1.2.3", description="twice")
        service.add_endpoint("double", lambda request: request.respond(request.data * 2))

    with answering(js_server, serve):
        ev("req", "double", "ab")
        assert "double" in ev("service", "ping").out
        found = ev("service", "ls", "--json").json
        assert [each["name"] for each in found] == ["double"]
        shown = ev("service", "info", "double").out
        assert "Service double 1.2.3" in shown
        assert "double (queue group q)" in shown
        stats = ev("service", "stats", "double", found[0]["id"], "--json").json
        assert stats[0]["endpoints"][0]["num_requests"] == 1
        assert "twice" in ev("micro", "ls").out
    assert ev("service", "ls").err == "No services\n"


# Where to connect.


def test_contexts(ev: Run, js_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NATS_URL")
    ev("context", "save", "here", "--server", js_server.url, "--description", "a", "--select")
    ev(
        "context",
        "save",
        "there",
        "--server",
        "nats://127.0.0.1:1",
        "--user",
        "me",
        "--password",
        "x3",
    )
    assert [each["name"] for each in ev("context", "ls", "--json").json] == ["here", "there"]
    assert "here*" in ev("context", "ls").out
    shown = ev("context", "show", "there")
    assert "x3" not in shown.out
    assert "127.0.0.1:1" in shown.out
    assert ev("rtt", "1", "--json").json["server"] == js_server.url
    assert "refused" in ev("rtt", "--context", "there", status=1).err
    assert "refused" in ev("--context", "there", "rtt", status=1).err
    assert ev("rtt", "--context", "there", "-s", js_server.url, "--json").json["server"]
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:1")
    assert "refused" in ev("rtt", status=1).err
    assert ev("rtt", "--context", "here", "--json").json["server"] == js_server.url
    monkeypatch.delenv("NATS_URL")
    assert ev("context", "validate").out == "here: ok\nthere: ok\n"
    assert "there: 127.0.0.1:1" in ev("context", "validate", "there", "--connect", status=1).err
    ev("context", "save", "there", "--creds", "/nope")
    assert ev("context", "show", "there", "--json").json.keys() == {"name", "url", "creds"}
    assert "/nope" in ev("context", "validate", status=1).err
    ev("context", "select", "there")
    ev("context", "select", "--previous")
    ev("context", "rm", "there", "--force")
    ev("context", "unselect")
    assert json.dumps(ev("context", "ls", "--json").json).count("true") == 0


def test_credentials_from_options_and_environment(
    offline: Run, own_server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own_server(config="authorization { users: [{user: me, password: secret}] }")
    token = own_server(config="authorization { token: s3cret }")
    assert offline("rtt", "-s", server.url, "--user", "me", "--password", "secret").status == 0
    assert offline("--user", "me", "rtt", "-s", server.url, "--password", "secret").status == 0
    assert offline("rtt", "-s", token.url, "--user", "s3cret").status == 0
    assert offline("rtt", "-s", token.url, "--token", "s3cret").status == 0
    refused = offline("rtt", "-s", server.url, "--user", "me", "--password", "wr0ng")
    assert refused.status == 1
    assert f"127.0.0.1:{server.port}: Authorization Violation" in refused.err
    assert "wr0ng" not in refused.err
    monkeypatch.setenv("NATS_USER", "me")
    monkeypatch.setenv("NATS_PASSWORD", "secret")
    monkeypatch.setenv("NATS_URL", server.url)
    monkeypatch.setenv("NATS_TIMEOUT", "10s")
    assert offline("rtt").status == 0
    assert offline("rtt", "--user", "me").status == 0
    monkeypatch.setenv("NATS_TIMEOUT", "10")
    done = offline("rtt")
    assert (done.status, done.err.splitlines()[0][:23]) == (2, "nats-ev: NATS_TIMEOUT: ")


def test_what_the_user_may_not_do(offline: Run, own_server) -> None:
    server = own_server(
        config="authorization { users: [{user: a, password: b, permissions: {publish: ok, subscribe: ok}}] }"
    )
    login = ("-s", server.url, "--user", "a", "--password", "b")
    assert offline("pub", "ok", "x", *login).status == 0
    for command in (("pub", "secret", "x"), ("sub", "secret"), ("reply", "secret", "x")):
        done = offline(*command, *login)
        assert done.status == 1, done
        assert "permissions violation" in done.err.lower()
        assert "secret" in done.err.splitlines()[-1]


def test_names_are_completed(ev: Run) -> None:
    ev("stream", "add", "COMPLETED", "--storage", "memory")
    ev("kv", "add", "COMPLETED", "--storage", "memory")
    ev("context", "save", "completed", "-s", "nats://127.0.0.1:1")
    for words, names in {
        ("stream", "info"): ["COMPLETED"],
        ("consumer", "ls"): ["COMPLETED"],
        ("kv", "get"): ["COMPLETED"],
        ("object", "ls"): [],
        ("rtt", "--context"): ["completed"],
    }.items():
        start = names[0][:3] if names else "COM"
        complete = ShellComplete(root, {}, "nats-ev", "_NATS_EV_COMPLETE")
        found = [item.value for item in complete.get_completions(list(words), start)]
        assert found == names, words


def test_threads_end(ev: Run) -> None:
    """A command leaves nothing behind."""
    before = threading.active_count()
    ev("rtt")
    assert threading.active_count() == before


# Backups, and all servers.


def test_a_stream_is_copied_and_restored(ev: Run, tmp_path: Path) -> None:
    ev("stream", "add", "COPY", "--subjects", "copy.>")
    ev("pub", "copy.a", "x", "--count", "5")
    folder = str(tmp_path / "copy")
    done = ev("stream", "backup", "COPY", folder)
    assert done.err.startswith("Copied 5 messages of COPY, up to sequence 5: ")
    assert "has a backup" in ev("stream", "backup", "COPY", folder, status=1).err
    found = ev("stream", "backup", "COPY", folder, "--overwrite", "--json").json
    assert (found["stream"], found["state"]["messages"]) == ("COPY", 5)
    assert "COPY" in ev("stream", "restore", folder, status=1).err
    ev("stream", "rm", "COPY", "--force")
    assert ev("stream", "restore", folder).err.startswith("Restored COPY: 5 messages")
    ev("stream", "rm", "COPY", "--force")
    info = ev("stream", "restore", folder, "--replicas", "1", "--json").json
    assert info["state"]["messages"] == 5
    assert "backup.json" in ev("stream", "restore", str(tmp_path), status=1).err


def test_an_account_is_copied_and_restored(ev: Run, tmp_path: Path) -> None:
    ev("stream", "add", "ONE", "--subjects", "one.>")
    ev("kv", "add", "TWO")
    ev("kv", "put", "TWO", "key", "value")
    folder = str(tmp_path / "all")
    assert ev("account", "backup", folder).err.startswith("Copied 2 streams: ")
    assert "exists already" in ev("account", "restore", folder, status=1).err
    ev("stream", "rm", "ONE", "--force")
    done = ev("account", "restore", folder, "--skip-existing")
    assert "Restored 1 streams: ONE" in done.err
    assert "KV_TWO" in done.err
    ev("kv", "rm", "TWO", "--force")
    assert ev("account", "restore", folder, "--skip-existing", "--json").json == {
        "restored": ["KV_TWO"],
        "skipped": ["ONE"],
    }
    assert ev("kv", "get", "TWO", "key", "--raw").out.strip() == "value"
    assert ev("account", "info", "--json").json["jetstream"]["streams"] == 2
    assert ev("account", "--json").json["jetstream"]["streams"] == 2
    assert ev("account", "--timeout", "9s", "info", "--json").json["jetstream"]["streams"] == 2


SYSTEM = """
accounts {
    SYS { users [ { user: sys, password: p } ] }
    A { jetstream: enabled, users [ { user: a, password: p } ] }
}
system_account: SYS
"""


def test_all_servers(offline: Run, own_server) -> None:
    server = own_server(config=SYSTEM, jetstream=True, name="cli1")
    to = ("--server", server.url, "--user", "sys", "--password", "p")
    with blocking.connect(server.url, user="a", password="p", name="watched", background=True):
        for command in (
            ("server", "ls"),
            ("server", "ping", "--expect", "1"),
            ("server", "info"),
            ("server", "info", "cli1"),
            ("server", "report", "connections"),
            ("server", "report", "jetstream", "--account", "A"),
        ):
            done = offline(*command, *to)
            assert (done.status, done.err) == (0, ""), done
            assert "cli1" in done.out
            assert offline(*command, *to, "--json").json
        found = offline("server", "report", "connections", "--account", "A", *to, "--json").json
        assert [each["name"] for each in found] == ["watched"]
    done = offline("server", "info", "cli2", *to)
    assert (done.status, "cli2" in done.err) == (1, True)
    done = offline("server", "ping", "--expect", "2", *to)
    assert (done.status, "1 of 2" in done.err) == (1, True)
    done = offline("server", "ls", "--server", server.url, "--user", "a", "--password", "p")
    assert (done.status, "system account" in done.err) == (1, True)
