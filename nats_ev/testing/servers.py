"""Private nats-servers: on ports of their own, in folders of their own, ended for sure."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
import weakref
from typing import Any, TypeVar

from .binary import binary_version, find_binary
from .certificates import Certificates, server_config
from .process import ender, temporary_folder
from .waiting import ConditionError, wait_for

Self = TypeVar("Self", bound="Server")

_READY_WITHIN = 20_000  # milliseconds
_ENDS_WITHIN = 10  # seconds; then it is killed
_SHOWN = 40  # lines of a log in an error


def free_port(held: bool = True) -> int:
    """Return a port of 127.0.0.1 on which nobody listens.

    On Linux a bound socket holds the port until this process ends. Connections to it are refused, and the
    kernel gives it to no other program by chance. A server that names the port can still listen there,
    because both sockets set SO_REUSEADDR.

    Args:
        held: False for a socket of the test's own that is to be bound there without SO_REUSEADDR.
    """
    with socket.socket() as sock:
        if held and sys.platform == "linux":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        port = int(sock.getsockname()[1])
        if held and sys.platform == "linux":
            sock.detach()  # open until the end of the process
    return port


def _hold_port(host: str, port: int) -> int:
    """Return a descriptor that keeps a port for a server that starts there soon, -1 where that can't be done.

    Its owner closes it when the server listens.
    """
    if sys.platform != "linux":
        return -1
    with contextlib.suppress(OSError), socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        return sock.detach()
    return -1


class ServerStartError(RuntimeError):
    """A nats-server that has not started. The text has its log.

    Attributes:
        log: what the server has logged.
        command: the program and its arguments.
    """

    def __init__(self, text: str, log: str, command: list[str]) -> None:
        lines = log.strip().splitlines() or ["(nothing)"]
        if len(lines) > _SHOWN:
            # The first lines say what is wrong with an argument, the last ones why a server ended.
            lines = [*lines[: _SHOWN // 4], "…", *lines[-_SHOWN * 3 // 4 :]]
        super().__init__("\n".join([text, f"command: {' '.join(command)}", "log:", *lines]))
        self.log = log
        self.command = command


class _Resources:
    """What a server has to give back: its folder, its process, and its port while it is down."""

    def __init__(self, prefix: str) -> None:
        self.folder = temporary_folder(prefix)
        self.owner = os.getpid()
        self.process: subprocess.Popen[bytes] | None = None
        self._held = -1

    def hold(self, host: str, port: int) -> None:
        """Keep a port for the next start."""
        if self._held < 0:
            self._held = _hold_port(host, port)

    def let_go(self) -> None:
        """Keep the port no longer."""
        held, self._held = self._held, -1
        if held >= 0:
            os.close(held)

    def end(self, number: int) -> None:
        """End the process with this signal, and wait for it."""
        process, self.process = self.process, None
        if process is None or self.owner != os.getpid():
            return
        if process.poll() is None:
            process.send_signal(number)
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            try:
                process.wait(_ENDS_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        # The janitor takes what such a file names for a running server.
        for path in self.folder.glob("*.ports"):
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Kill the process, and delete the folder."""
        self.end(signal.SIGKILL)
        self.let_go()
        if self.owner == os.getpid():
            shutil.rmtree(self.folder, ignore_errors=True)


class Server:
    """One private nats-server on 127.0.0.1. Use it as a context manager, or call `start` and `remove`.

    The server takes a free port itself, has its log and its store in a temporary folder, and ends with this
    process, even if that is killed. The second `start` uses the ports of the first one.

    Attributes:
        host: 127.0.0.1.
        port: of the clients; 0 before the first start.
        monitor_port: of the monitoring pages.
        ws_port: of clients with WebSocket, 0 without websocket.
        ports: all that it listens on, as its file of ports has it: ``{"nats": ["nats://…"], …}``.
        folder: where log and store are.
        binary: the program.
        version: (major, minor, patch).
        name: the server's.
        touched: whether it was sent a signal or given another configuration since it was made.
        certificates: the authority that has issued its certificate, None without tls.

    Args:
        args: further arguments of the program.
        config: the text of a configuration file. Ports in it should be -1.
        jetstream: whether the server has JetStream; its store is in the folder.
        tls: True: a certificate for localhost and 127.0.0.1, of a new authority; or `Certificates`, which
            issue it.
        tls_verify: whether clients must show a certificate; `options` has one.
        websocket: True: the server also takes WebSocket connections, with TLS if tls is set, and compresses
            if the client wishes. A str: further lines of the configuration's block for that.
        binary: the program; default: `find_binary`.
        name: the server's.
        silent: the server says nothing before the client does (TLS first).

    Raises:
        ServerNotFoundError: this machine has no nats-server.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        *args: str,
        config: str = "",
        jetstream: bool = False,
        tls: bool | Certificates = False,
        tls_verify: bool = False,
        websocket: bool | str = False,
        binary: str | None = None,
        name: str = "test",
        silent: bool = False,
    ) -> None:
        self.binary = binary or find_binary()
        self.version = binary_version(self.binary)
        self.name = name
        self.touched = False
        self.port = 0
        self.monitor_port = 0
        self.ws_port = 0
        self.ports: dict[str, list[str]] = {}
        self._args = args
        self._jetstream = jetstream
        self._silent = silent
        self._verify = tls_verify
        self._websocket = websocket
        self._tls_config = ""
        self._resources = _Resources("nats_ev-testing-")
        self.folder = self._resources.folder
        self.certificates: Certificates | None = None
        self._finalizer = weakref.finalize(self, _Resources.remove, self._resources)
        if tls:
            self._tls_config = self._issue(tls)
            config = f"{config}\n{self._tls_config}"
        self._config = config

    def _issue(self, tls: bool | Certificates) -> str:
        issuer = tls if isinstance(tls, Certificates) else Certificates(self.folder)
        self.certificates = issuer
        pair = issuer.issue("server", "localhost", self.host)
        if self._verify:
            self._client = issuer.issue("client")
        return server_config(pair, issuer.ca if self._verify else None)

    def __enter__(self: Self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        state = f"at {self.url}" if self.is_running() else "not running"
        return f"<{type(self).__name__} {self.name}, {state}>"

    @property
    def url(self) -> str:
        """Return where clients connect to: ``nats://127.0.0.1:PORT``, with tls ``tls://…``."""
        return f"{'tls' if self.certificates else 'nats'}://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        """Return where clients with WebSocket connect to: ``ws://127.0.0.1:PORT``, with tls ``wss://…``."""
        return f"{'wss' if self.certificates else 'ws'}://{self.host}:{self.ws_port}"

    @property
    def ws_options(self) -> dict[str, Any]:
        """Return what a client needs to connect by WebSocket: ``Nats(**server.ws_options)``."""
        return {**self.options, "servers": [self.ws_url]}

    @property
    def options(self) -> dict[str, Any]:
        """Return what a client needs to connect: ``Nats(**server.options)``."""
        options: dict[str, Any] = {"servers": [self.url]}
        if self.certificates is not None:
            options["tls_ca_file"] = str(self.certificates.ca.cert_file)
            if self._verify:
                options["tls_cert_file"] = str(self._client.cert_file)
                options["tls_key_file"] = str(self._client.key_file)
        return options

    @property
    def pid(self) -> int:
        """Return the number of the running process."""
        return self._running().pid

    @property
    def log(self) -> str:
        """Return what the server has logged, all starts together.

        Before it comes what the last start has printed, such as an error in the configuration.
        """
        files = [self.folder / name for name in ("output", "log")]
        return "".join(path.read_text(errors="replace") for path in files if path.exists())

    def is_running(self) -> bool:
        """Return whether the process has been started and has not ended."""
        process = self._resources.process
        return process is not None and process.poll() is None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._resources.process is None:
            raise RuntimeError("the server has not been started, or has been ended")
        return self._resources.process

    def start(self: Self) -> Self:
        """Start the server and wait until it takes connections; return it.

        Raises:
            ServerStartError: the server has ended, or is not ready after 20 seconds.
        """
        if self._resources.process is not None:
            if self.is_running():
                raise RuntimeError("the server runs already")
            self._end(signal.SIGKILL)
        command = self._command()
        with open(self.folder / "output", "wb") as output:
            self._resources.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=ender(),
            )
        try:
            self.ports = wait_for(self._read_ports, _READY_WITHIN)
            self.port = int(self.ports["nats"][0].rpartition(":")[2])
            if pages := self.ports.get("monitoring"):
                self.monitor_port = int(pages[0].rpartition(":")[2])
            if self._websocket:
                self.ws_port = int(self.ports["websocket"][0].rpartition(":")[2])
            wait_for(self._accepts, _READY_WITHIN)
        except BaseException as exc:
            status = self._running().poll()
            self._end(signal.SIGKILL)
            if not isinstance(exc, (ConditionError, ProcessLookupError)):
                raise
            why = "is not ready" if status is None else f"ended with the status {status}"
            raise ServerStartError(f"nats-server {why}", self.log, command) from None
        self._resources.let_go()
        return self

    def _command(self) -> list[str]:
        command = [self.binary, "-a", self.host, "-p", str(self.port or -1)]
        command += ["-m", str(self.monitor_port or -1), "--ports_file_dir", str(self.folder)]
        command += ["-l", str(self.folder / "log"), "-n", self.name, *self._args]
        if self._jetstream:
            command += ["-js", "-sd", str(self.folder / "jetstream")]
        if self._config or self._websocket:
            self._write_config(self._config)
            command += ["-c", str(self.folder / "server.conf")]
        return command

    def _read_ports(self) -> Any:
        if self._running().poll() is not None:
            raise ProcessLookupError
        for path in self.folder.glob("*.ports"):
            with contextlib.suppress(ValueError, FileNotFoundError):  # half written
                return json.loads(path.read_text())
        return None

    def _accepts(self) -> bool:
        if self._running().poll() is not None:
            raise ProcessLookupError
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1) as s:
            return self._silent or s.recv(4) == b"INFO"
        return False

    def monitor(self, what: str = "varz") -> Any:
        """Return one of the monitoring pages, decoded: varz, connz, routez, jsz, …"""
        url = f"http://{self.host}:{self.monitor_port}/{what}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        self.touched = True
        self._running().send_signal(number)

    def kill(self) -> None:
        """End the server at once (SIGKILL), and wait for its end. The port stays reserved for `start`."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the server in its own way (SIGTERM), and wait for its end. See `kill`."""
        self._end(signal.SIGTERM)

    def lame_duck(self) -> None:
        """Let the server announce its end to the clients, as a rolling upgrade does (SIGUSR2).

        It takes no connections any more, closes those that it has after 10 seconds and more, and ends. A
        test that has seen the announcement calls `kill`.
        """
        self.signal(signal.SIGUSR2)

    def suspend(self) -> None:
        """Stop the process from running while its sockets stay open (SIGSTOP); `resume` lets it go on."""
        self.signal(signal.SIGSTOP)
        if hasattr(os, "waitid"):  # else one of its threads may still answer
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        """Let the process run again after `suspend`."""
        self.signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill the server and start it again on the same ports, with the same store."""
        self.kill()
        self.start()

    def configure(self, config: str) -> None:
        """Change the configuration for the next start."""
        self.touched = True
        self._config = config
        self._write_config(config)

    def reload(self, config: str) -> None:
        """Change the configuration of the running server (SIGHUP), and wait until it has."""
        self._write_config(config)
        before = self.log.count("Reloaded server configuration")
        self.signal(signal.SIGHUP)
        wait_for(
            lambda: self.log.count("Reloaded server configuration") > before,
            _READY_WITHIN,
            "the reload of the configuration",
            lambda: self.log,
        )

    def _write_config(self, text: str) -> None:
        # On a reload the server looks for its name here, and not among its arguments.
        text = f'server_name: "{self.name}"\n{text}'
        if self._websocket:
            lines = [f"listen: '{self.host}:{self.ws_port or -1}'", "compression: true"]
            more = self._websocket if isinstance(self._websocket, str) else ""
            lines.append(more)
            if "tls" not in more:
                lines.append(self._tls_config or "no_tls: true")
            text += "\nwebsocket {\n  " + "\n  ".join(lines) + "\n}\n"
        (self.folder / "server.conf").write_text(text)

    def remove(self) -> None:
        """Kill the server and delete its folder. The server cannot be started again."""
        self._finalizer()

    def _end(self, number: int) -> None:
        self._resources.end(number)
        if self.port:
            self._resources.hold(self.host, self.port)
