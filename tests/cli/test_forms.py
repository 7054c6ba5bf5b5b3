"""Other forms of commands: lists as JSON and as names, empty lists, where to begin, what is refused."""

from __future__ import annotations

import io
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import click
import pytest

from lab.natsserver import NatsServer
from nats_ev import Context, blocking
from nats_ev.cli import main
from nats_ev.cli.configs import confirm
from nats_ev.cli.output import write_json
from nats_ev.cli.tracing import _line
from nats_ev.cli.values import TIME, Size

from .conftest import Run
from .test_commands import answering

pytestmark = pytest.mark.server


@pytest.fixture
def other(offline: Run, own_server) -> Run:
    """other(*arguments): call the command line on a server with JetStream and nothing else."""
    server = own_server(jetstream=True)

    def run(*arguments: str, stdin: bytes = b"", status: int = 0) -> Any:
        done = offline(*arguments, "-s", server.url, stdin=stdin)
        assert done.status == status, done
        return done

    return run


def test_empty_lists(other: Run, offline: Run) -> None:
    assert other("stream", "ls").err == "No streams; --all also shows those of buckets\n"
    assert other("stream", "ls", "--json").json == []
    assert other("kv", "ls").err == "No key-value buckets\n"
    assert other("object", "ls").err == "No object stores\n"
    assert other("service", "ls").err == "No services\n"
    assert other("service", "ping", "--json", status=1).json == []
    assert other("service", "stats", status=1).err == "nats-ev: no service answers\n"
    other("stream", "add", "A", "--storage", "memory")
    assert other("consumer", "ls", "A").err == "No consumers of A\n"
    other("object", "add", "A", "--storage", "memory")
    assert other("object", "ls", "A").err == "No objects in A\n"
    assert other("stream", "ls", "--all", "--names").out.split() == ["A", "OBJ_A"]
    assert offline("context", "ls").err.startswith("No contexts")


def test_lists_as_json_and_as_names(other: Run, tmp_path: Path) -> None:
    other("stream", "add", "A", "--storage", "memory", "--subjects", "a")
    other("consumer", "add", "A", "c")
    other("kv", "add", "K", "--storage", "memory")
    other("kv", "put", "K", "key", "value", "-q")
    other("object", "add", "O", "--storage", "memory")
    other("object", "put", "O", "-", "--name", "thing", stdin=b"x")
    for path, names in {
        ("stream", "ls"): ["A"],
        ("consumer", "ls", "A"): ["c"],
        ("kv", "ls"): ["K"],
        ("object", "ls"): ["O"],
        ("object", "ls", "O"): ["thing"],
    }.items():
        assert other(*path, "--names").out.split() == names
        assert other(*path, "--names", "--json").json == names
        assert len(other(*path, "--json").json) == 1
    assert other("kv", "ls", "K", "--json").json == ["key"]
    assert "Revision" in other("kv", "ls", "K", "--verbose").out
    assert other("kv", "get", "K", "key", "--raw").out == "value"
    other("kv", "put", "K", "big", stdin=b"\xff\x00" * 10)
    assert other("kv", "get", "K", "big").out.startswith("\\xff")
    assert other("object", "info", "O", "thing", "--json").json["size"] == 1
    assert "not found" in other("object", "info", "O", "no", status=1).err
    assert other("object", "watch", "O", "--count", "1", "--json").lines[0]["name"] == "thing"
    other("object", "edit", "O", "--description", "new")
    assert other("object", "info", "O", "--json").json["description"] == "new"
    assert other("stream", "purge", "A", "--force", "--json").json["purged"] == 0
    assert other("kv", "info", "K", "--json").json["bucket"] == "K"


def test_nothing_to_change(offline: Run) -> None:
    for path in (("stream", "A"), ("consumer", "A", "b"), ("kv", "A"), ("object", "A")):
        done = offline(path[0], "edit", *path[1:])
        assert (done.status, done.err.splitlines()[0]) == (2, "nats-ev: say what to change")


def test_what_is_refused_before_connecting(offline: Run) -> None:
    for arguments in (
        ("pub", "a", "b", "-J", "--reply", "c"),
        ("object", "put", "A", "-"),
        ("object", "get", "A", "folder/"),
        ("context", "select"),
        ("pub", "a", "{{What}}", "--count", "0"),
    ):
        assert offline(*arguments).status == 2, arguments


def test_where_a_stream_is_read_from(ev: Run) -> None:
    ev("stream", "add", "FROM", "--subjects", "from.>", "--storage", "memory")
    for number in range(4):
        ev("pub", "-J", f"from.{number % 2}", f"{number}", "--json")
    for options, wanted in {
        ("--start-sequence", "3"): "2\n3\n",
        ("--since", "1h"): "0\n1\n2\n3\n",
        ("--last-per-subject",): "2\n3\n",
    }.items():
        assert (
            ev("sub", ">", "--stream", "FROM", *options, "--raw", "--wait", "200ms").out == wanted
        )
    two = ev("sub", "from.0", "from.1", "--stream", "FROM", "--count", "2", "--timestamp")
    assert "[#2] from.1 (FROM 2, " in two.out
    only = ("--subject", "from.1", "--since", "1h", "--raw")
    assert ev("stream", "view", "FROM", *only).out == "1\n3\n"
    ev("stream", "rmm", "FROM", "1", "--erase", "--force")
    headers = ev("sub", ">", "--stream", "FROM", "--count", "1", "--headers-only").out
    assert headers == "[#1] from.1 (FROM 2, 2 left)\n\n"
    again = ("stream", "add", "COPY", "--source", "FROM", "--storage", "memory", "--json")
    assert ev(*again).json["config"]["sources"] == [{"name": "FROM"}]
    mirror = ev("stream", "add", "MIRROR", "--mirror", "FROM", "--storage", "memory")
    assert "Mirror of: FROM" in mirror.out
    ev("consumer", "add", "FROM", "c", "--filter", "from.1")
    edited = ev("consumer", "edit", "FROM", "c", "--filter", "from.0", "--json").json["config"]
    assert edited["filter_subject"] == "from.0"
    assert ev("consumer", "sub", "FROM", "c", "--wait", "100ms", "--raw").out == "2\n"


def test_publishing_slowly_and_much(ev: Run) -> None:
    begin = time.monotonic()
    ev("pub", "slow", "x", "--count", "3", "--sleep", "20ms")
    assert time.monotonic() - begin >= 0.04
    assert ev("pub", "much", "x", "--count", "2500", "--json").json["messages"] == 2500


def test_templates_of_requests(ev: Run, js_server: NatsServer) -> None:
    with answering(js_server, lambda nc: nc.nats.call_threadsafe(_echo, nc.nats)):
        done = ev("req", "form.{{Count}}", "n {{.Count}}", "--count", "2", "--templates", "--raw")
    assert done.out == "n 1\nn 2\n"


def _echo(nats: Any) -> None:
    nats.subscribe("form.*", lambda subject, payload, reply, headers: nats.publish(reply, payload))


def test_a_command_that_fails_gives_no_answer(ev: Run, js_server: NatsServer) -> None:
    def ask(nc: blocking.Nats) -> None:
        def publish() -> None:
            nc.nats.publish("form.fails", b"x", nc.nats.new_inbox())
            nc.nats.call_later(20, publish)

        nc.nats.call_threadsafe(publish)

    with answering(js_server, ask):
        done = ev("reply", "form.fails", "--command", "false", "--count", "1", "--quiet")
    assert "nats-ev: false: exit status 1" in done.err


def test_measuring_what_others_publish(ev: Run, js_server: NatsServer) -> None:
    def publish(nc: blocking.Nats) -> None:
        def again() -> None:
            for _ in range(50):
                nc.nats.publish("form.bench", b"12345678")
            nc.nats.call_later(20, again)

        nc.nats.call_threadsafe(again)

    with answering(js_server, publish):
        result = ev("bench", "sub", "form.bench", "--msgs", "200", "--json").json
        assert (result["messages"], result["size"]) == (200, 8)
        assert "Waiting for 10 messages" in ev("bench", "sub", "form.bench", "--msgs", "10").err
    assert "no responders" in ev("bench", "request", "form.nobody", status=1).err
    ev("bench", "pubsub", "form.many", "--msgs", "12000")
    ev("bench", "pub", "form.many", "--msgs", "12000")


def test_a_server_without_jetstream(offline: Run, own_server) -> None:
    server = own_server()
    assert "Enabled: no" in offline("info", "-s", server.url).out
    done = offline("stream", "ls", "-s", server.url)
    assert done.status == 1
    assert "JetStream" in done.err


def test_monitoring_that_is_none(offline: Run, js_server: NatsServer) -> None:
    refused = offline("top", "--monitor", "127.0.0.1:1", "--once")
    assert (refused.status, refused.err) == (
        1,
        "nats-ev: http://127.0.0.1:1/varz: Connection refused\n",
    )


def test_a_service_that_answers_no_json(ev: Run, js_server: NatsServer) -> None:
    def lie(nats: Any) -> None:
        nats.subscribe("$SRV.PING.liar", lambda s, p, reply, h: nats.publish(reply, b"what?"))

    with answering(js_server, lambda nc: nc.nats.call_threadsafe(lie, nc.nats)):
        assert "is not JSON" in ev("service", "ping", "liar", status=1).err


def test_services_as_json(ev: Run, js_server: NatsServer) -> None:
    with answering(js_server, lambda nc: nc.service("form", "1.0.0").add_endpoint("e", print)):
        assert [a["name"] for a in ev("service", "ping", "form", "--json").json] == ["form"]
        assert ev("service", "info", "form", "--json").json[0]["endpoints"][0]["name"] == "e"
        assert "form" in ev("service", "stats", "form").out


def test_configurations_from_files(ev: Run, offline: Run, tmp_path: Path) -> None:
    file = tmp_path / "stream.json"
    file.write_text(json.dumps({"subjects": ["file.>"], "storage": "memory"}))
    more = ("--set", "description=a text", "--set", "max_msgs=7")
    config = ev("stream", "add", "FILE", "--config", str(file), *more, "--json").json["config"]
    assert (config["description"], config["max_msgs"]) == ("a text", 7)
    for text, message in {"{": "not JSON", "[]": "not the JSON of a configuration"}.items():
        file.write_text(text)
        assert message in offline("stream", "add", "X", "--config", str(file)).err


def test_broken_contexts(offline: Run, tmp_path: Path) -> None:
    folder = tmp_path / "config" / "nats" / "context"
    folder.mkdir(parents=True)
    (folder / "broken.json").write_text("{")
    assert offline("context", "save", "token", "--user", "s3cret").status == 0
    assert json.loads((folder / "token.json").read_text())["token"] == "s3cret"
    listed = offline("context", "ls")
    assert "token" in listed.out
    assert "broken.json" in listed.err
    assert "s3cret" not in listed.out + offline("context", "show", "token").out


def test_credentials_that_others_may_read(
    offline: Run, js_server: NatsServer, tmp_path: Path
) -> None:
    file = tmp_path / "user.creds"
    file.write_text("nothing in it")
    file.chmod(0o644)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        done = offline("rtt", "--creds", str(file))
    assert done.status == 1
    first, last = done.err.splitlines()
    assert first == f"nats-ev: warning: {file}: others may read it (mode 0644)"
    assert last.startswith(f"nats-ev: {file}: missing NATS USER JWT")


def test_a_closed_standard_output(
    monkeypatch: pytest.MonkeyPatch, js_server: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["pub", "x", "-s", js_server.url]) == 0
    sys.stdout.close()
    sys.stdin.close()


def test_closed_standard_input_and_error(
    monkeypatch: pytest.MonkeyPatch, js_server: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stderr", None)
    with monkeypatch.context() as patch:
        patch.setenv("NATS_URL", js_server.url)
        assert main(["pub", "x", "--send-on", "newline"]) == 0
        assert main(["pub", "x", "y"]) == 0
    assert main(["no such command"]) == 2
    sys.stdin.close()
    sys.stderr.close()
    assert capsys.readouterr() == ("", "")


def test_json_for_an_output_that_is_not_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    value = {"subject": "ü€\N{GRINNING FACE}"}
    with io.TextIOWrapper(raw, encoding="ascii", errors="backslashreplace") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        write_json(value, line=True)
        assert json.loads(raw.getvalue()) == value


@pytest.mark.parametrize("given", ["of the clients", "x y", "h:name", "[::1"])
def test_what_is_no_monitoring_port(offline: Run, js_server: NatsServer, given: str) -> None:
    monitor = f"u:s3cret@127.0.0.1:{js_server.port}" if given == "of the clients" else given
    done = offline("top", "--once", "--monitor", monitor.removeprefix("u:s3cret@"))
    assert done.status == 1
    assert "not the JSON of a server" in done.err
    done = offline("top", "--once", "--monitor", monitor)
    assert done.status == 1
    assert "s3cret" not in done.err


@pytest.mark.parametrize("command", ["tr 'a", ""])
def test_a_command_that_no_shell_could_read(offline: Run, command: str) -> None:
    done = offline("reply", "x", "--command", command)
    assert done.status == 2
    assert done.err.startswith("nats-ev: --command: ")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"url": "nats://h:name"}, "url: invalid server URL"),
        ({"inbox_prefix": "a b"}, "inbox_prefix: "),
        ({"nkey": "data:;base64,eA=="}, "nkey: "),
        ({"jetstream_domain": "a", "jetstream_api_prefix": "b"}, "jetstream_domain: "),
    ],
)
def test_what_is_wrong_with_a_context(offline: Run, fields: dict[str, str], says: str) -> None:
    Context("wrong", **fields).save()
    done = offline("context", "validate")
    assert done.status == 1
    assert says in done.err


def test_a_question_is_asked_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    confirm("lost", True)
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    with pytest.raises(click.Abort):
        confirm("lost", False)
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    confirm("lost", False)


def test_reports_of_traces() -> None:
    for event, text in {
        '{"type":"in","kind":1,"cid":7,"name":"n2","acc":"A","subj":"x"}': "from route 7 n2, account A",
        '{"type":"eg","kind":4,"cid":1,"sub":"x","queue":"q"}': "subscribed to x, queue group q",
        '{"type":"js","stream":"S","subject":"x","nointerest":true}': "keeps nothing: no interest",
        '{"type":"sm","from":"a","to":"b"}': "mapped from a to b",
        '{"type":"si","acc":"A","to":"b"}': "imported as b from account A",
        '{"type":"se","acc":"A","to":"b"}': "exported as b to account A",
        '{"type":"new"}': '{"type": "new"}',
    }.items():
        assert text in _line(json.loads(event))


def test_the_protocol_is_shown_without_secrets(offline: Run, own_server) -> None:
    server = own_server(config="authorization { token: s3cret }")
    login = ("-s", server.url, "--token", "s3cret")
    shown = offline("pub", "traced", "body", *login, "--trace")
    assert shown.status == 0
    assert "→ PUB traced 4 'body'" in shown.err
    assert "s3cret" not in shown.err
    assert "PUB" not in offline("pub", "traced", "body", *login).err


def test_values_that_are_converted_already() -> None:
    assert Size(unlimited=True)("-1") == -1
    moment = TIME("2026-01-01T00:00:00+01:00")
    assert TIME(moment) is moment
