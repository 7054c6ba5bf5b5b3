"""The programs of examples/ about buckets, stores and services."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest

from lab.paths import EXAMPLES, ROOT
from lab.programs import Program
from nats_ev import KV, JetStream
from nats_ev.testing import DOWN


def test_kv_store(program: Any) -> None:
    def kv(*args: str) -> str:
        return program("kv_store.py", *args).end().strip()

    first = int(kv("put", "name", "alice"))
    assert kv("get", "name") == "alice"
    assert int(kv("put", "name", "bob")) == first + 1
    assert kv("keys") == "name"
    assert kv("delete", "name") == "True"
    assert program("kv_store.py", "get", "name").fails() == "no such key\n"
    assert kv("history", "name").splitlines() == [
        f"{first} PUT b'alice'", f"{first + 1} PUT b'bob'", f"{first + 2} DEL b''",
    ]  # fmt: skip


def test_config_watcher(program: Any) -> None:
    assert program("config_watcher.py", "set", "app.colour", "red").end() == "revision 1\n"
    watcher = program("config_watcher.py")
    watcher.expect("started with {'colour': 'red'}")
    program("config_watcher.py", "set", "app.colour", "blue").end()
    watcher.expect("colour is now blue")


@pytest.mark.since(2, 11)
def test_a_lock_is_given_back_also_while_its_renewal_is_under_way(
    own_server: Any, proxy: Any, connected: Any, run: Any
) -> None:
    """The renewal goes out 0.67 s after the lock is held; its answer comes when the release is due."""
    server = own_server(jetstream=True)
    with proxy(server.port) as slow:
        holder = Program(slow, "distributed_lock.py", "0.8")
        try:
            holder.expect("held")
            slow.stall(DOWN)
            kv = KV(JetStream(connected(server)), "locks")
            seen: list[Any] = []

            def changed(entry: Any, err: Any) -> None:
                if entry is not None:
                    seen.append(entry)
                    if len(seen) == 2:
                        kv.js.nats.call_later(100, slow.resume)

            kv.watch("lock.*", changed)
            run(lambda: any(entry.deleted for entry in seen))
            end = next(i for i, entry in enumerate(seen) if entry.deleted)
            assert end == 2
            # Released, and not expired at the end of the lease.
            assert (seen[end].created - seen[end - 1].created).total_seconds() < 1.9
        finally:
            holder.process.kill()
            holder.process.communicate()


def test_object_cli(program: Any, tmp_path: Any) -> None:
    def objects(*args: str) -> str:
        return program("object_cli.py", *args).end().strip()

    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(range(256)) * 2000)
    assert objects("put", str(source)).startswith("source: 512000 bytes in 4 parts, SHA-256=")
    assert objects("ls") == "source"
    assert objects("get", "source", str(target)) == objects("stat", "source")
    assert target.read_bytes() == source.read_bytes()
    assert objects("rm", "source") == "done"
    assert program("object_cli.py", "stat", "source").fails() == "not found\n"
    assert program("object_cli.py", "get", "source", str(target)).fails() == "not found\n"
    missing = program("object_cli.py", "put", str(tmp_path / "missing")).fails()
    assert missing.startswith("error: [Errno 2] No such file or directory: ")


@pytest.mark.parametrize(
    "args",
    [
        ("kv_store.py",), ("kv_store.py", "get"), ("object_cli.py", "rm", "a", "b"),
        ("config_watcher.py", "set", "app.x"), ("request_reply.py", "--help"), ("pubsub.py", "many"),
        ("monitoring.py", "1", "2"), ("leader_election.py", "--hepl"),
    ],
)  # fmt: skip
def test_wrong_arguments_get_the_usage_and_a_failure(program: Any, args: tuple[str, ...]) -> None:
    one = program(*args)
    output, _ = one.process.communicate(timeout=30)
    assert one.process.returncode in (1, 2)
    assert "NATS_HOST and NATS_PORT say where the server is." in output or "usage: " in output
    assert "Traceback" not in output


ALL = [
    ("chat.py",), ("config_watcher.py",), ("config_watcher.py", "set", "a", "b"), ("distributed_lock.py",),
    ("kv_store.py", "keys"), ("leader_election.py",), ("monitoring.py",), ("object_cli.py", "ls"),
    ("pubsub.py",), ("queue_workers.py",), ("queue_workers.py", "produce", "3"), ("request_reply.py",),
    ("service.py",), ("service.py", "ask", "3"), ("asyncio_worker.py",), ("notebook.py",),
    ("gevent_web.py", "0"), ("jetstream_worker.py",), ("jetstream_worker.py", "dead"),
    ("thread_bridge.py",), ("thread_bridge.py", "ask", "x"), ("http_gateway.py", "0"),
    ("shell_tool.py", "pub", "a", "b"), ("shell_tool.py", "sub", "a"),
]  # fmt: skip
# Without on_error the error comes out of `start`, or of a face's `connect`.
WITH_TRACEBACK = {
    "distributed_lock.py", "leader_election.py", "asyncio_worker.py", "notebook.py",
    "gevent_web.py",
}  # fmt: skip


@pytest.mark.parametrize("args", ALL, ids=" ".join)
def test_without_a_server_a_program_fails_and_says_why(
    args: tuple[str, ...], proxy: Any, server: Any
) -> None:
    if args[0] == "gevent_web.py":
        pytest.importorskip("gevent")
    refusing = proxy(server.port)
    refusing.refuse()
    output = Program(refusing, *args).fails()
    assert re.search(rf"(nats|error|Error): {refusing.host}:{refusing.port}: ", output)
    assert ("Traceback" in output) == (args[0] in WITH_TRACEBACK)


@pytest.mark.parametrize(
    "args",
    [
        each
        for each in ALL
        if re.search(r"jetstream|JetStream|KV\(|ObjectStore\(", (EXAMPLES / each[0]).read_text())
    ],
    ids=" ".join,
)
def test_without_jetstream_a_program_fails_and_says_why(
    args: tuple[str, ...], own_server: Any
) -> None:
    output = Program(own_server(), *args).fails()
    assert "is JetStream enabled on this server (nats-server -js)?" in output
    assert ("Traceback" in output) == (args[0] in {"asyncio_worker.py", "notebook.py"})


def test_nobody_answers_a_question(program: Any) -> None:
    assert program("service.py", "ask", "1").fails() == "error: no responders\n"
    output = program("request_reply.py", "client").fails()
    assert output == "service.upper: no responders\n"


@pytest.mark.parametrize(
    "args",
    [
        ("kv_store.py", "put", "a key", "x"), ("config_watcher.py", "set", "a key", "x"),
        ("object_cli.py", "stat", ""), ("chat.py", "ann", "a room"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_name_that_is_none_ends_the_program(program: Any, args: tuple[str, ...]) -> None:
    assert "Error: invalid" in program(*args).fails()


def names(text: str) -> set[str]:
    """The streams and buckets that a program makes."""
    return set(
        re.findall(
            r"""(?:\b(?:KV|ObjectStore)\([^"]*|key_value\(|object_store\(|"name": )"([\w-]+)\"""",
            text,
        )
    )


def test_no_example_makes_a_stream_or_bucket_that_another_one_or_the_docs_make() -> None:
    """Otherwise the second program that a reader tries finds it with another configuration."""
    docs = [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    taken = set().union(*(names(path.read_text()) for path in docs))
    assert {"JOBS", "config", "files", "faces"} <= taken
    for path in EXAMPLES.glob("*.py"):
        if path.name != "demo.py":  # it has a server of its own
            own = names(path.read_text())
            assert not own & taken, path.name
            taken |= own


def test_service(program: Any) -> None:
    services = [program("service.py") for _ in range(2)]
    for service in services:
        service.expect("ready: ")
    assert program("service.py", "ask", "3", "4.5").end() == "7.5\n"
    assert program("service.py", "ask", "x").fails() == "error: 400:a list of numbers, please\n"
    answered = 0
    for service in services:
        service.process.send_signal(signal.SIGTERM)
        answered += int(service.expect(r"(\d+) requests answered")[1])
        service.end()
    assert answered == 2


def test_backup(program: Any, connected: Any, server: Any, call: Any, tmp_path: Path) -> None:
    js = JetStream(connected(server))
    assert call(js.stream_create, {"name": "EXAMPLE", "subjects": ["example"]})[1] is None
    assert call(js.publish, "example", b"kept")[1] is None
    job = program("backup.py", str(tmp_path), "0.01", "2")
    for _ in range(4):
        job.expect(r"\d+ streams, [\d,]+ bytes")
    job.process.kill()
    job.process.wait()
    assert 1 <= len(list(tmp_path.glob("*/manifest.json"))) <= 3
    assert call(js.stream_delete, "EXAMPLE")[1] is None
    assert "EXAMPLE" in program("backup.py", str(tmp_path), "restore").end()
    message, err = call(js.get_msg, "EXAMPLE", 1)
    assert (message.data, err) == (b"kept", None)
    call(js.stream_delete, "EXAMPLE")
    assert "no copy" in program("backup.py", str(tmp_path / "none"), "restore").fails()
