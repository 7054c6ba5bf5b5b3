"""An HTTP server and a client on one loop: `http_gateway.py [PORT]`; 8080 is the default, 0 is any port.

    curl http://127.0.0.1:8080/service.upper -d hello      a request: the page is its answer
    curl http://127.0.0.1:8080/ticks.odd -X PUT -d 1        publish

The watchers of the sockets and those of the client share the loop, so nothing waits for a thread. Run
`request_reply.py service` beside it. NATS_HOST and NATS_PORT say where the server is.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from urllib.parse import unquote

from nats_ev import Nats, NatsError, NoRespondersError, Status, pyev

LIMIT = 1 << 20  # bytes of a question
WITHIN = 2000  # ms for an answer

loop = pyev.default_loop(debug=True)  # an exception in a callback ends the program
nats = Nats(
    host=os.environ.get("NATS_HOST", "127.0.0.1"),
    port=int(os.environ.get("NATS_PORT", "4222")),
    reconnect=True,
    no_responders=True,
    strict_subjects=True,
    retry_on_failed_connect=False,
    on_error=lambda err: on_error(err),
)


def on_error(err: NatsError) -> None:
    print("nats:", err, file=sys.stderr, flush=True)
    if nats.status() is Status.CLOSED:  # no other attempt follows
        sys.exit(1)


class Visitor:
    """One HTTP connection: it asks one question, gets the page, and is closed."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.question = b""
        self.page = b""
        self.reading = loop.io(sock, pyev.EV_READ, self.on_readable)
        self.writing = loop.io(sock, pyev.EV_WRITE, self.on_writable)
        self.reading.start()

    def on_readable(self, watcher: pyev.Io, revents: int) -> None:
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        self.question += data
        head, end, body = self.question.partition(b"\r\n\r\n")
        if not data:
            return self.close()
        if len(self.question) > LIMIT:
            return self.answer("413 Content Too Large")
        if not end:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        size = fields.get("content-length", "0")
        if not size.isdecimal() or "transfer-encoding" in fields or first.count(" ") != 2:
            return self.answer("400 Bad Request")
        if len(body) < int(size):
            return None
        self.reading.stop()
        return self.ask(*first.split()[:2], body[: int(size)])

    def ask(self, method: str, path: str, body: bytes) -> None:
        subject = unquote(path.partition("?")[0]).removeprefix("/")
        try:
            if method == "PUT":
                nats.publish(subject, body)
                self.answer("202 Accepted")
            elif method in ("GET", "POST"):
                nats.request(subject, body, self.on_answer, WITHIN)
            else:
                self.answer("405 Method Not Allowed")
        except ValueError as exc:  # the subject
            self.answer("400 Bad Request", str(exc).encode())
        except NatsError as exc:  # too many bytes wait for the server to come back
            self.answer("503 Service Unavailable", str(exc).encode())

    def on_answer(
        self, response: bytes | None, err: NatsError | None, headers: bytes | None
    ) -> None:
        if response is not None:
            self.answer("200 OK", response)
        elif isinstance(err, NoRespondersError):
            self.answer("404 Not Found", b"nobody answers this subject")
        elif isinstance(err, TimeoutError):
            self.answer("504 Gateway Timeout", b"no answer in time")
        else:
            self.answer("502 Bad Gateway", str(err).encode())

    def answer(self, status: str, body: bytes = b"") -> None:
        self.reading.stop()
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.page = head.encode() + body
        self.writing.start()

    def on_writable(self, watcher: pyev.Io, revents: int) -> None:
        try:
            self.page = self.page[self.sock.send(self.page) :]
        except BlockingIOError:
            return
        except ConnectionError:
            self.page = b""
        if not self.page:
            self.close()

    def close(self) -> None:
        self.reading.stop()
        self.writing.stop()
        self.sock.close()


def on_visit(watcher: pyev.Io, revents: int) -> None:
    Visitor(listener.accept()[0])


def leave(watcher: pyev.Signal, revents: int) -> None:
    for each in (visits, *stops):
        each.stop()
    listener.close()
    nats.drain()  # after the answers that visitors still wait for


if len(sys.argv) > 2 or not "".join(sys.argv[1:] or ["0"]).isdecimal():
    sys.exit(__doc__)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1]) if sys.argv[1:] else 8080))
visits = loop.io(listener, pyev.EV_READ, on_visit)
stops = [loop.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)]
for each in (visits, *stops):
    each.start()
nats.flush(lambda err: print(err or f"listening on {listener.getsockname()[1]}", flush=True))
loop.start()
