"""gunicorn with gevent workers serves HTTP requests that make NATS requests, with reconnects in between.

`python -m drills.webserver [count [loop]]`, or `make webserver`: 1,000 requests, by 16 at a time, to two
workers; all connections of the workers to the server are cut twice meanwhile. Each HTTP request has its
own right answer in the end; one that is in flight at a cut may be answered 503 and is asked again.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.natsserver import NatsServer, wait_for
from lab.paths import TESTS
from lab.process import die_with_us
from nats_ev import Nats, pyev
from nats_ev.testing import CuttingProxy

WORKERS = 2
AT_A_TIME = 16
CUTS = 2
LOOPS = ("libev-cext", "libev-cffi", "libuv")


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket: needs no port."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def get(path: str, what: str) -> tuple[int, str]:
    """Return the status and the body of one HTTP request."""
    connection = UnixConnection(path)
    try:
        connection.request("GET", what)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def connected(path: str, workers: dict[str, int], times: int) -> bool:
    """Ask one worker how often its client has connected; return whether all have so many times."""
    pid, connects = get(path, "/connects")[1].split()
    workers[pid] = int(connects)
    return sum(connects >= times for connects in workers.values()) == WORKERS


@contextlib.contextmanager
def responder(port: int) -> Iterator[None]:
    """Answer the requests of the workers in a thread of its own, until the end."""
    loop = pyev.Loop()
    nats = Nats(host="127.0.0.1", port=port, loop=loop)
    nats.subscribe("web.upper", lambda s, payload, reply, h: nats.publish(reply, payload.upper()))
    ready = threading.Event()
    nats.flush(lambda err: ready.set())
    end = getattr(loop, "async")(lambda watcher, revents: (nats.disconnect(), loop.stop()))
    end.start()
    thread = threading.Thread(target=loop.start)
    thread.start()
    try:
        assert ready.wait(20), "no responder"
        yield
    finally:
        end.send()
        thread.join()


@contextlib.contextmanager
def gunicorn(folder: Path, nats_port: int, loop: str) -> Iterator[str]:
    """Run gunicorn with gevent workers, and yield the path of its socket."""
    path, log = str(folder / "http"), folder / "log"
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "-k",
        "gevent",
        "-w",
        str(WORKERS),
        "-b",
        f"unix:{path}",
    ]
    command += ["--graceful-timeout", "5", "--no-control-socket", "drills.web_app:app"]
    environ = {**os.environ, "GEVENT_LOOP": loop, "NATS_PORT": str(nats_port)}
    environ["PYTHONPATH"] = str(TESTS)
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env=environ, cwd=folder, stdout=out, stderr=out, preexec_fn=die_with_us
        )
    try:

        def serves() -> bool:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(OSError):
                return len(workers) == WORKERS or connected(path, workers, 1)
            return False

        workers: dict[str, int] = {}
        wait_for(serves, what="gunicorn")
        yield path
    finally:
        process.terminate()
        status = process.wait(20)
    text = log.read_text()
    assert status == 0, text
    assert "Traceback" not in text, text


def run(port: int, count: int, loop: str) -> dict[str, float]:
    """Make count HTTP requests, and cut the workers' connections to the server meanwhile.

    Args:
        port: Of the server.
        count: How many requests.
        loop: gevent's, of `LOOPS`.

    Returns:
        What was counted: requests that were asked again, connections of each worker, requests per second.
    """
    again: list[str] = []
    finished: list[int] = []

    def one(number: int) -> None:
        deadline = time.monotonic() + 30
        while (answer := get(path, f"/request-{number}")) != (200, f"REQUEST-{number}"):
            assert answer[0] == 503, answer
            assert time.monotonic() < deadline, answer
            again.append(answer[1])
            assert len(again) <= count, again[-3:]
        finished.append(number)

    workers: dict[str, int] = {}
    with (
        tempfile.TemporaryDirectory(prefix="nats_ev-web-") as folder,
        CuttingProxy(port) as proxy,
        responder(port),
        gunicorn(Path(folder), proxy.port, loop) as path,
    ):
        begin = time.monotonic()
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            jobs = [pool.submit(one, number) for number in range(count)]
            for cut in range(1, CUTS + 1):
                wanted = count * cut // (CUTS + 1)
                wait_for(lambda wanted=wanted: len(finished) >= wanted, timeout=120_000)
                wait_for(lambda cut=cut: connected(path, workers, cut), what="connections")
                proxy.cut(reset=cut % 2 == 0)
            for job in jobs:
                job.result(120)
        took = time.monotonic() - begin
        wait_for(lambda: connected(path, workers, 1 + CUTS), what="reconnects")
    assert sorted(finished) == list(range(count))
    return {"again": len(again), "connections": max(workers.values()), "per_second": count / took}


def main() -> None:
    """Run it on each loop of gevent, or on one."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with NatsServer() as server:
        for loop in sys.argv[2:] or LOOPS:
            counted = run(server.port, count, loop)
            print(
                f"gunicorn, gevent, {loop:10}: {count} requests answered, {counted['again']:.0f} of them "
                f"asked again after a cut, {counted['connections']:.0f} connections of a worker, "
                f"{counted['per_second']:.0f} requests/s",
                flush=True,
            )


if __name__ == "__main__":
    main()
