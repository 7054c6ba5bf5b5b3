"""A scripted NATS server, for what a good server never does.

Runs in a thread. Each accepted connection is a `Peer`, on which a test sends and expects; `handshake`
does the usual beginning.
"""

from __future__ import annotations

import contextlib
import json
import queue
import re
import socket
import ssl
import struct
import threading
from typing import Any

from lab import transports

INFO: dict[str, Any] = {
    "server_id": "FAKE",
    "version": "2.99.0",
    "proto": 1,
    "headers": True,
    "max_payload": 1048576,
    "client_id": 7,
}


class _TlsSocket(ssl.SSLSocket):
    """One that Python's ssl forgets to close, when the client has gone before it looks, closes itself."""

    def __del__(self) -> None:
        self.close()


class Peer:
    """The server's side of one connection. Reads block for at most `timeout` seconds."""

    timeout = 5.0

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        # What is sent is on its way at once, and not lost in a reset that follows.
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(self.timeout)
        self.buffer = b""
        self.closed = False

    def send(self, data: bytes | str) -> None:
        """Raw bytes."""
        self.sock.sendall(data.encode() if isinstance(data, str) else data)

    def send_info(self, **fields: Any) -> None:
        """INFO, with fields that differ from the usual ones."""
        self.send(f"INFO {json.dumps(INFO | fields)}\r\n")

    def line(self) -> str:
        """The next control line."""
        while b"\r\n" not in self.buffer:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(f"the client closed; left: {self.buffer!r}")
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line.decode("utf-8", "surrogateescape")

    def payload(self, size: int) -> bytes:
        """So many bytes and their CRLF."""
        while len(self.buffer) < size + 2:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError("the client closed in a payload")
            self.buffer += data
        data, self.buffer = self.buffer[:size], self.buffer[size + 2 :]
        return data

    def expect(self, pattern: str) -> re.Match[str]:
        """The next line, which must match all of pattern."""
        line = self.line()
        found = re.fullmatch(pattern, line, re.DOTALL)
        assert found, f"expected {pattern!r}, got {line!r}"
        return found

    def until(self, pattern: str) -> list[str]:
        """All lines up to the first that matches; payloads of PUB and HPUB are skipped."""
        lines = []
        while True:
            line = self.line()
            lines.append(line)
            if line.startswith(("PUB ", "HPUB ")):
                self.payload(int(line.rpartition(" ")[2]))
            if re.fullmatch(pattern, line, re.DOTALL):
                return lines

    def start_tls(self, context: ssl.SSLContext) -> None:
        """The server's side of the TLS handshake; from now on everything is encrypted."""
        assert not self.buffer, f"in clear: {self.buffer!r}"
        context.sslsocket_class = _TlsSocket
        self.sock = context.wrap_socket(self.sock, server_side=True, suppress_ragged_eofs=False)
        if self.closed:  # meanwhile, by the test that has ended
            self.sock.close()

    def handshake(self, tls: ssl.SSLContext | None = None, **info: Any) -> dict[str, Any]:
        """INFO, perhaps TLS, CONNECT, PING, PONG; returns what CONNECT said."""
        if tls is not None:
            info = {"tls_required": True} | info
        self.send_info(**info)
        if tls is not None:
            self.start_tls(tls)
        connect = json.loads(self.expect(r"CONNECT (\{.*\})")[1])
        self.until("PING")
        self.send("PONG\r\n")
        return dict(connect)

    def at_eof(self) -> bool:
        """Wait for the client to close; False when it does not within the timeout."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    def reset(self) -> None:
        """Close with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        """Close with FIN."""
        self.closed = True
        self.sock.close()


def silent(peer: Peer) -> None:
    """Take the connection and say nothing until the client closes it: a script."""
    peer.at_eof()


class FakeServer:
    """Listens on a free port; runs `script(peer)` for each connection, in one thread, in turn."""

    host = "127.0.0.1"

    def __init__(self, *scripts: Any) -> None:
        """The n-th connection gets the n-th script; the last one serves all that follow."""
        self._scripts = scripts
        self._listener = socket.create_server((self.host, 0))
        self.port = int(self._listener.getsockname()[1])
        transports.taken(self.port)
        self.connections = 0
        self.peers: list[Peer] = []
        self.errors: queue.Queue[BaseException] = queue.Queue()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="fake server", daemon=True)
        self._thread.start()

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, exc_type: object, *exc: object) -> None:
        self.close()
        if exc_type is None and not self.errors.empty():
            raise self.errors.get()

    @property
    def url(self) -> str:
        """For the clients' servers option."""
        return f"nats://{self.host}:{self.port}"

    def receive_buffer(self, size: int) -> None:
        """Let the kernel keep only about so many unread bytes for each later connection."""
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            peer = Peer(sock)
            self.peers.append(peer)
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            threading.Thread(target=self._serve, args=(script, peer), daemon=True).start()

    def _serve(self, script: Any, peer: Peer) -> None:
        try:
            script(peer)
        except BaseException as exc:
            if not (self._closing and isinstance(exc, OSError)):  # it was still reading at the end
                self.errors.put(exc)

    def close(self) -> None:
        """End everything."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        for peer in self.peers:
            peer.close()
