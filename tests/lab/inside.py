"""What tests may know of the inside of the library, so that the inside can change in one place.

A test uses public names where they show what it asks for, and these functions where none does. A test of one
module (`net/test_deadlines.py`) may also import that module's public names.
"""

from __future__ import annotations

import ctypes
import socket
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from nats_ev import KV, JetStream, Nats, ObjectStore
from nats_ev.connection.link import Link
from nats_ev.protocol import wire
from nats_ev.pyev import _libev

# A wheel's module has libev inside, which other bindings and C programs cannot use.
needs_shared_libev = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(_libev.__file__), "ev_version_major"),
    reason="libev is inside the module",
)

# The client and its loop.


def loop_of(nats: Nats) -> Any:
    """Return the loop that the client runs on."""
    return nats._options.loop


def options_of(nats: Nats) -> Any:
    """Return the client's options as it has stored them."""
    return nats._options


def listeners_of(nats: Nats) -> list[Any]:
    """Return the upper layers' listeners for changes of the client's status."""
    return nats._core.status_listeners


def shown_parts(nats: Nats) -> list[object]:
    """Return the client and the parts of it whose repr a debugger or a traceback may show."""
    connection = nats._connection
    pool = connection.pool
    return [
        nats, nats._options, connection, pool, pool.current, nats.server_info(), nats.connected_url(),
        nats.stats(), nats.status(), pool.urls, pool._servers, connection.info, vars(pool),
    ]  # fmt: skip


# The connection.


def is_active(nats: Nats) -> bool:
    """Return whether a connection is up, under way, or planned."""
    return nats._connection.active


def is_dialling(nats: Nats) -> bool:
    """Return whether a socket is on its way: by a look-up, a connect, a proxy, or the option dial."""
    return nats._connection._attempts._route is not None


def attempt_began_at(nats: Nats) -> float:
    """Return when the last attempt to connect began, by the monotonic clock."""
    return nats._connection._attempts._began_at


def has_session(nats: Nats) -> bool:
    """Return whether a connected socket has a protocol session."""
    return nats._connection._session is not None


def is_secure(nats: Nats) -> bool:
    """Return whether what is sent from now on is encrypted."""
    return nats._connection.link.secure


def link_of(nats: Nats) -> Any:
    """Return the connected socket with its watchers and its session."""
    return nats._connection.link


def reads_in_c(nats: Nats) -> bool:
    """Return whether C reads and writes the client's socket."""
    return nats._connection.link._direct  # type: ignore[union-attr]


def attempt_of(nats: Nats) -> tuple[Any, Any]:
    """Return what the attempt under way has: the stage of its route, the connected socket; None for each."""
    route = nats._connection._attempts._route
    return (route and route._stage), nats._connection.link


def close_link(nats: Nats) -> None:
    """Close the socket without a word to the connection that owns it."""
    nats._connection.link.close()


def unanswered_pings(nats: Nats) -> int:
    """Return how many of the client's own PINGs the server has not answered."""
    return nats._connection.pings.unanswered


def awaited_pongs(nats: Nats) -> int:
    """Return how many PONGs are to come, those for the user's pings and flushes included."""
    return len(nats._connection.pings.waiting)


def waiting_deadlines(nats: Nats) -> int:
    """Return how many deadlines are kept, ended ones included."""
    return len(nats._connection.deadlines._heap)


# Its socket.


def stream_of(nats: Nats) -> Any:
    """Return what reads and writes bytes: a `Stream` or a `TlsStream`."""
    return nats._connection.link._stream


def break_sends(nats: Nats, error: OSError) -> None:
    """Let each later send on the client's connection fail; it must not be encrypted."""

    def fail(*args: Any) -> int:
        raise error

    nats._connection.link._direct = False  # sends by Python, which can be replaced
    stream_of(nats)._send = fail


def socket_of(nats: Nats) -> socket.socket:
    """Return the socket of the client's connection."""
    return stream_of(nats).sock  # type: ignore[no-any-return]


def wrap_socket(nats: Nats, wrapper: Callable[[Any], Any]) -> Any:
    """Put wrapper(socket) in the place of the socket below TLS, and return the wrapper's result."""
    stream = stream_of(nats)
    stream._sock = wrapper(stream._sock)
    return stream._sock


# Its servers.


def known_urls(nats: Nats) -> list[str]:
    """Return the URLs of the whole pool."""
    return nats._connection.pool.urls


def discovered_urls(nats: Nats) -> list[str]:
    """Return the URLs that a server has named."""
    return nats._connection.pool.discovered_urls


def current_server(nats: Nats) -> Any:
    """Return the pool's entry of the server in use."""
    return nats._connection.pool.current


def entries_of(pool: Any) -> list[Any]:
    """Return the entries of a `ServerPool`, in its order."""
    return list(pool._servers)


# What it has to send, and what it waits for.


def unsent_bytes(nats: Nats) -> int:
    """Return how many bytes are framed and not yet handed to the kernel."""
    return len(nats._out)


def unsent(nats: Nats) -> bytes:
    """Return the bytes that are framed and not yet handed to the kernel."""
    return bytes(nats._out.peek())


def without_inbox(nats: Nats, frames: bytes) -> bytes:
    """Return frames with the inbox of the client's requests, which is different for each client, left out."""
    prefix = nats._requests._prefix
    return frames.replace(prefix, b"<inbox>.") if prefix else frames


def lock_unsent(nats: Nats, locked: bool) -> None:
    """Lock the write buffer, as during a call to the kernel."""
    wire.lib.nats_wbuf_lock(nats._out.c, locked)


def drop_unsent(nats: Nats) -> int:
    """Empty the write buffer, so that the next call is again the first of its turn. Return how many went."""
    return nats._out.drop_messages()


def hold_unsent(nats: Nats, held: bool) -> None:
    """Hold the write buffer, as without a connection, or let it ask for writes."""
    nats._out.limits.held = held


def interrupt_next_run(nats: Nats) -> None:
    """Let Ctrl-C strike when the next request has been framed, once."""
    begin_run = nats._requests.begin_run

    def interrupted(order: int) -> None:
        nats._out.begin_run = begin_run
        raise KeyboardInterrupt

    nats._out.run_start = 0
    nats._out.begin_run = interrupted


def note_queued(nats: Nats) -> list[int]:
    """Return a list that gets the bits of each framing call from now on, in place of the connection."""
    bits: list[int] = []
    nats._out.queued = bits.append
    nats._out.schedule = None
    return bits


def stop_noting(nats: Nats) -> None:
    """Undo `note_queued`."""
    nats._out.queued = nats._connection.queued
    nats._out.schedule = nats._connection.turn.schedule


def types_again() -> list[object]:
    """Return what the compiled module hands out to an import that follows the first."""
    again: list[object] = []
    assert wire.lib.nats_py_types(wire.ffi.cast("void *", id(again))) == 0
    return again


def waiting_requests(nats: Nats) -> int:
    """Return how many requests have no answer yet."""
    return len(nats._requests.waiting)


def subjects_kept(nats: Nats) -> int:
    """Return how many subjects of requests are kept."""
    return len(asked_subjects(nats))


def without_headers(nats: Nats, without: bool) -> None:
    """Let a client take its server for one that does not support headers, or for one that does."""
    nats._out.no_headers = without


def keep_subjects(nats: Nats) -> None:
    """Keep the subjects of all requests: Python never looks which have ended."""
    nats._out.most_subjects = 1 << 30


def asked_subjects(nats: Nats) -> list[tuple[int, str]]:
    """Return the subjects of requests that are kept, with the number of the first request of each."""
    return nats._core.requests._out.subjects


def request_runs(nats: Nats) -> int:
    """Return how many runs of requests wait for their time."""
    return nats._requests.times.runs


# Deadlines on their own.


def kept_deadlines(deadlines: Any) -> int:
    """Return how many entries a `Deadlines` keeps, ended ones included."""
    return len(deadlines._heap)


# The parser.


def limit_control_line(parser: Any, size: int) -> None:
    """Set the longest control line that a `Parser` accepts."""
    parser._c.max_control_line = size


def parser_code(parser: Any) -> int:
    """Return the C parser's error code."""
    return int(parser._c.error)


# Upper layers.


def server_version(js: JetStream) -> tuple[int, ...]:
    """Return the version of the server that a `JetStream` talks to."""
    return js._api.levels.version()[0]  # type: ignore[no-any-return]


def waiting_calls(js: JetStream) -> int:
    """Return how many calls of a `JetStream` wait for a time or for the client's end."""
    return len(js.nats._core.waits._waiting)


def level_clock(monkeypatch: Any) -> Callable[[float], None]:
    """Return a function that lets so many seconds pass for the API levels that are known."""
    passed = 0.0
    monotonic = time.monotonic

    def advance(seconds: float) -> None:
        nonlocal passed
        passed += seconds

    clock = SimpleNamespace(monotonic=lambda: monotonic() + passed)
    monkeypatch.setattr("nats_ev.jetstream.levels.time", clock)
    return advance


def has_begun(batch: Any) -> bool:
    """Whether the server has answered the first message of a batch."""
    return bool(batch._begun if hasattr(batch, "acked") else batch._started)


def be_patient(js: JetStream) -> None:
    """Let a JetStream wait for 20 s for each answer from now on."""
    js._api.timeout = 20_000


def skip_a_message(ordered: Any) -> None:
    """Let an ordered consumer believe that it has received one message more, if it is receiving."""
    if ordered._engine._incarnation is not None:
        ordered._engine._incarnation._received += 1


def store_info(
    store: ObjectStore, info: dict[str, Any], old: Any, cb: Callable[..., object]
) -> None:
    """Store an object's info as a client with other ideas would, in the place of old; ``cb(info, err)``."""
    store._infos.publish(info, old, cb)


def stream_config(kv: KV, config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of the stream that a bucket with this configuration would have."""
    return kv._stream_config(config)


def watch_sends(monkeypatch: pytest.MonkeyPatch, note: Callable[[int, int], None]) -> None:
    """Call ``note(offered, taken)`` for each call that hands a write buffer to the kernel."""
    send, flush = wire.Outbound.send, Link.flush

    def noted(self: wire.Outbound, fd: int) -> int:
        offered = len(self)
        taken = send(self, fd)
        note(offered, max(0, taken))
        return taken

    def noted_flush(self: Link, *again: bool) -> None:
        waits = self._broken or (self._writing and not again)
        offered = len(self._out) if self._direct and not waits else 0
        flush(self, *again)
        if offered:
            note(offered, offered - len(self._out))

    monkeypatch.setattr(wire.Outbound, "send", noted)
    monkeypatch.setattr(Link, "flush", noted_flush)


def field_tables() -> dict[str, Any]:
    """The tables of fields and options by which calls of JetStream and buckets check what they are given."""
    from nats_ev.jetstream import (
        batch,
        direct,
        fetch,
        ordered_fetch,
        publish_options,
        pull_options,
        push,
        stream,
    )
    from nats_ev.kv.bucket import KvBucket
    from nats_ev.object_store import meta
    from nats_ev.object_store.bucket import ObjectBucket

    return {
        "fetch": fetch._FETCH_FIELDS,
        "consume": pull_options._CONSUME_FIELDS,
        "push": push._FIELDS,
        "fast batch": batch._FAST_FIELDS,
        "stream info": stream._INFO_FIELDS,
        "purge": stream._PURGE_FIELDS,
        "list": stream._LIST_FIELDS,
        "get": direct._GET_FIELDS,
        "get batch": direct._BATCH_FIELDS,
        "publish": publish_options._OPTIONS,
        "ordered fetch": ordered_fetch._OPTIONS,
        "ordered": ordered_fetch._CONFIG,
        "KV": KvBucket._FIELDS,
        "ObjectStore": ObjectBucket._FIELDS,
        "own": pull_options._OWN,
        "object info": meta._INFO,
    }


def engine_of(member: Any) -> Any:
    """What a member of a consumer group does its work with."""
    return member._engine


def core_of(large: Any) -> Any:
    """What the parts of a `LargeMessages` share."""
    return large._core


def assembled(assembler: Any) -> bytes:
    """What an `Assembler` of large messages has so far."""
    return bytes(assembler._data)


def before_ending(nats: Nats, act: Callable[[], object]) -> None:
    """Call act once, at the moment when the requests leave their tables because the connection is lost.

    A finalizer or a signal handler may run there.
    """

    class Ending(dict[Any, Any]):
        def update(self, *args: Any, **kwargs: Any) -> None:
            nats._requests.ending = plain
            act()
            plain.update(*args, **kwargs)

    plain: dict[Any, Any] = {}
    nats._requests.ending = Ending()
