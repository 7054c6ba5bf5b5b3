"""The benchmark runs, verifies what it received, and says so when that is wrong. No word on speed."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from lab.paths import BENCH
from lab.process import run_whole

SMALL = {"BENCH_MESSAGES": "3000", "BENCH_RUNS": "2", "BENCH_PAYLOAD": "16"}


def benchmark(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BENCH_")}
    command = [sys.executable, str(BENCH / "benchmark.py"), *args]
    return run_whole(command, 120, env=clean | SMALL | environ)


@pytest.mark.slow
@pytest.mark.server
def test_every_row_is_measured_and_verified_for_nats_ev_and_nats_py(tmp_path):
    done = benchmark("--clients", "nats_ev,nats-py", "--json", str(tmp_path / "out.json"))
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads((tmp_path / "out.json").read_text())
    assert [(r["kind"], r["messages"], r["payload"]) for r in rows] == [
        ("pub", 3000, 16), ("pubsub", 3000, 16), ("pubsub", 3000, 8), ("request", 300, 16),
    ]  # fmt: skip
    for row in rows:
        assert set(row["results"]) == {"nats_ev", "nats-py"}
        for results in row["results"].values():
            assert [(r["wrong"], r["lost"]) for r in results] == [(0, 0)] * 2
            assert all(r["ns"] > 0 and r["cpu_ns"] > 0 for r in results)
    assert done.stdout.count("k msgs/s") == 8
    assert done.stdout.count("nats_ev: ") == 4  # the ratios


@pytest.mark.slow
def test_it_uses_a_server_that_is_named_in_the_environment(server):
    port = str(server.port)
    done = benchmark("--clients", "nats_ev", BENCH_HOST=server.host, BENCH_PORT=port)
    assert done.returncode == 0, done.stderr
    assert f"{server.host}:{port}" in done.stdout


@pytest.mark.parametrize("flag", ["--messages", "--runs", "--payload"])
def test_a_number_below_one_is_refused(flag):
    done = benchmark(flag, "0")
    assert done.returncode == 2
    assert f"{flag} must be at least 1" in done.stderr


@pytest.mark.server
def test_messages_that_come_back_wrong_make_it_fail(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCH))
    import benchmark as module

    for result, said in (
        ({"ns": 1, "cpu_ns": 1, "wrong": 3}, "3 of 2000 messages came back wrong"),
        ({"ns": 1, "cpu_ns": 1, "wrong": 0}, "the server's counts differ in 1 of 1 runs"),
    ):
        monkeypatch.setattr(module, "run_once", lambda *a, result=result: dict(result))
        assert module.main(["--clients", "nats_ev", "--runs", "1"]) == 1
        assert said in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.server
def test_the_benchmark_of_tls_runs_and_verifies_too():
    command = [sys.executable, str(BENCH / "bench_tls.py"), "--messages", "300", "--runs", "1"]
    done = run_whole(command, 120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ev TLS") == done.stdout.count("py TLS") == 5
    assert "came back wrong" not in done.stdout


@pytest.mark.slow
@pytest.mark.server
def test_the_benchmark_of_websocket_runs_and_verifies_too():
    clients = ("ev ws", "ev masked", "ev wss", "py ws")
    command = [sys.executable, str(BENCH / "bench_ws.py"), "--messages", "300", "--runs", "1"]
    done = run_whole([*command, "--clients", ",".join(clients)], 120)
    assert done.returncode == 0, done.stderr
    for client in clients:
        assert done.stdout.count(f"  {client} ") == (3 if client == "py ws" else 4)
    assert "came back wrong" not in done.stdout


@pytest.fixture
def held() -> Iterator[tuple[int, int]]:
    """A pipe; when its reading end is at its end, all processes that inherited the writing end are gone."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    yield reading, writing
    os.close(reading)


def hanging(descriptor: int) -> list[str]:
    """A program that writes a byte to the descriptor, and then hangs."""
    code = f"import os, signal; os.write({descriptor}, b'r'); signal.pause()"
    return [sys.executable, "-c", code]


def next_byte(reading: int) -> bytes:
    assert select.select([reading], [], [], 30)[0], "a process is left"
    return os.read(reading, 1)


def test_a_program_that_hangs_leaves_no_process(held):
    reading, writing = held
    code = f"import subprocess; subprocess.run({hanging(writing)!r}, close_fds=False)"
    command = [sys.executable, "-c", code]
    with pytest.raises(subprocess.TimeoutExpired):
        run_whole(command, 2, close_fds=False)
    os.close(writing)
    while next_byte(reading):  # the byte, if the program has come so far
        pass


@pytest.mark.skipif(
    sys.platform != "linux", reason="other systems don't end children by themselves"
)
def test_a_benchmark_that_is_killed_leaves_no_client(held):
    reading, writing = held
    code = f"""
import benchmark
client = benchmark.Client("hanging", "", {hanging(writing)!r})
benchmark.run_once(client, benchmark.Row("", "", 1, 1), "127.0.0.1", 0, close_fds=False)
"""
    path = os.pathsep.join([str(BENCH), str(BENCH.parent / "tests")])
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, close_fds=False
    )
    os.close(writing)
    assert next_byte(reading) == b"r"
    process.kill()
    process.wait()
    assert next_byte(reading) == b""
