"""Proxies for tests: tinyproxy, microsocks and danted on free ports, and one in threads, which tells more."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.debian import program
from lab.process import die_with_us
from nats_ev.testing import free_port, wait_for

Address = tuple[str, int]


@contextlib.contextmanager
def started(command: list[str], port: int) -> Iterator[int]:
    """Run a program for a ``with`` block; yield its port when the program accepts connections."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_us,
    )

    def accepts() -> bool:
        assert process.poll() is None, f"{command[0]} has ended"
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return True
        return False

    try:
        wait_for(accepts, what=command[0])
        yield port
    finally:
        process.terminate()
        process.wait()


def named(name: str) -> str:
    """Return the path of a program, or skip the test."""
    try:
        return program(name)
    except FileNotFoundError as exc:
        pytest.skip(str(exc))


def tinyproxy(
    folder: Path, allowed: int, login: str = ""
) -> contextlib.AbstractContextManager[int]:
    """Run an HTTP proxy that allows CONNECT to one port; login: "user password"."""
    port = free_port()
    config = folder / f"tinyproxy-{port}.conf"
    lines = [f"Port {port}", "Listen 127.0.0.1", "Timeout 600", f"ConnectPort {allowed}"]
    config.write_text("\n".join([*lines, f"BasicAuth {login}" if login else "", ""]))
    return started([named("tinyproxy"), "-d", "-c", str(config)], port)


def microsocks(
    login: str = "", hosts: Path | None = None
) -> contextlib.AbstractContextManager[int]:
    """Run a SOCKS5 proxy.

    Args:
        login: "user password".
        hosts: a file that the proxy sees as /etc/hosts; needs root.
    """
    port = free_port()
    command = [named("microsocks"), "-i", "127.0.0.1", "-p", str(port)]
    if login:
        user, password = login.split()
        command += ["-u", user, "-P", password]
    if hosts is not None:
        mount = f'mount --bind "{hosts}" /etc/hosts && exec "$0" "$@"'
        command = ["unshare", "-m", "sh", "-c", mount, *command]
    return started(command, port)


def danted(folder: Path, blocked: int) -> contextlib.AbstractContextManager[int]:
    """Run a SOCKS5 proxy whose rules block one port."""
    port = free_port()
    config = folder / f"danted-{port}.conf"
    config.write_text(
        f"""
        logoutput: {folder}/danted.log
        internal: 127.0.0.1 port = {port}
        external: 127.0.0.1
        clientmethod: none
        socksmethod: none
        user.privileged: {_user()}
        user.unprivileged: {_user()}
        client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
        socks block {{ from: 0.0.0.0/0 to: 0.0.0.0/0 port = {blocked} }}
        socks pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 command: connect }}
        """
    )
    return started([named("danted"), "-f", str(config), "-p", f"{folder}/danted.pid"], port)


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def can_mount() -> bool:
    """Return whether this process may make namespaces in which it mounts files."""
    if os.geteuid() != 0:
        return False
    done = subprocess.run(
        ["unshare", "-m", "mount", "--bind", "/etc/hosts", "/etc/hosts"], capture_output=True
    )
    return done.returncode == 0


class ThreadProxy:
    """An HTTP and SOCKS5 proxy in threads: resolves names of its own, and notes where clients want to go."""

    def __init__(
        self, names: dict[str, str] | None = None, login: str = "", piecewise: bool = False
    ) -> None:
        """Start it.

        Args:
            names: what it resolves, besides what the system does.
            login: "user:password".
            piecewise: send each byte of an answer on its own, and the last ones of it together with what
                the server says first.
        """
        self.names = names or {}
        self.login = login
        self.piecewise = piecewise
        self.asked: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> ThreadProxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self._closed = True
        for sock in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def cut(self) -> None:
        """Close all connections."""
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._closed:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError):
            first = sock.recv(1, socket.MSG_PEEK)
            if first == b"\x05":
                self._socks(sock)
            elif first:
                self._http(sock)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    def _http(self, sock: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += _exactly(sock, 1)
        lines = head.decode().split("\r\n")
        wanted = base64.b64encode(self.login.encode()).decode()
        if self.login and f"Proxy-Authorization: Basic {wanted}" not in lines:
            sock.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return
        host, _, port = lines[0].split()[1].rpartition(":")
        self._connect(sock, host.strip("[]"), int(port), b"HTTP/1.1 200 OK\r\nVia: test\r\n\r\n")

    def _socks(self, sock: socket.socket) -> None:
        _, count = _exactly(sock, 2)
        methods = _exactly(sock, count)
        method = 2 if self.login else 0
        self._say(sock, bytes([5, method if method in methods else 255]))
        if method not in methods:
            return
        if method:
            user = _exactly(sock, _exactly(sock, 2)[1])
            password = _exactly(sock, _exactly(sock, 1)[0])
            good = f"{user.decode()}:{password.decode()}" == self.login
            self._say(sock, bytes([1, 0 if good else 1]))
            if not good:
                return
        kind = _exactly(sock, 4)[3]
        if kind == 3:
            host = _exactly(sock, _exactly(sock, 1)[0]).decode()
        elif kind == 4:
            host = socket.inet_ntop(socket.AF_INET6, _exactly(sock, 16))
        else:
            host = socket.inet_ntop(socket.AF_INET, _exactly(sock, 4))
        port = int.from_bytes(_exactly(sock, 2), "big")
        self._connect(sock, host, port, b"\x05\x00\x00\x03\x04name\x00\x07", numeric=kind != 3)

    def _connect(
        self, sock: socket.socket, host: str, port: int, answer: bytes, numeric: bool = False
    ) -> None:
        self.asked.append(f"{'=' if numeric else ''}{host}:{port}")
        try:
            server = socket.create_connection((self.names.get(host, host), port))
        except OSError:
            socks = answer[:1] == b"\x05"
            sock.sendall(
                b"\x05\x04\x00\x01" + bytes(6) if socks else b"HTTP/1.1 502 Bad Gateway\r\n\r\n"
            )
            return
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sockets.append(server)
        if self.piecewise:
            self._say(sock, answer[:-1])
            sock.sendall(answer[-1:] + server.recv(65536))
        else:
            sock.sendall(answer)
        up = threading.Thread(target=_pump, args=(sock, server), daemon=True)
        up.start()
        _pump(server, sock)

    def _say(self, sock: socket.socket, words: bytes) -> None:
        for part in [words[i : i + 1] for i in range(len(words))] if self.piecewise else [words]:
            sock.sendall(part)


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
