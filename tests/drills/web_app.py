"""The WSGI application of `webserver`: each request to it makes a NATS request, on the hub of its worker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from gevent.event import AsyncResult

from nats_ev import Nats
from nats_ev.gevent_loop import GeventLoop

connects: list[str] = []
_client: list[Nats] = []


def client() -> Nats:
    """Return this worker's client, which the first request makes: a worker is the child of a fork."""
    if not _client:
        port = int(os.environ["NATS_PORT"])
        options: dict[str, Any] = {
            "reconnect_delay": 20,
            "on_connect": lambda: connects.append("up"),
        }
        _client.append(
            Nats(host="localhost", port=port, loop=GeventLoop(), reconnect=True, **options)
        )
        _client[0].on_error(lambda error: None)  # the cuts are wanted
    return _client[0]


def ask(payload: str) -> bytes:
    """Return the answer to a NATS request, or raise its error; blocks the greenlet that calls."""
    answer: AsyncResult[bytes] = AsyncResult()

    def done(response: bytes, err: Exception | None, headers: object) -> None:
        if err is None:
            answer.set(response)
        else:
            answer.set_exception(err)

    client().request("web.upper", payload, done, 5000)
    return bytes(answer.get(timeout=10))


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer /connects with the worker's number and its connections so far, anything else by NATS."""
    path = environ["PATH_INFO"]
    try:
        client()
        body = b"%d %d" % (os.getpid(), len(connects)) if path == "/connects" else ask(path[1:])
        status = "200 OK"
    except Exception as exc:
        status, body = "503 Service Unavailable", repr(exc).encode()
    start_response(status, [("Content-Length", str(len(body)))])
    return [body]
