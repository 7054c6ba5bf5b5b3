"""What a program loads, allocates and wakes up for when it uses only a part of nats_ev.

Most tests run a program of their own, without `site`: what a virtual environment loads at start is not ours.
Nothing here measures speed.
"""

from __future__ import annotations

import contextlib
import json
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nats_ev
from lab.fakeserver import FakeServer, Peer
from lab.natsserver import NatsServer
from lab.process import run_whole, unmeasured
from nats_ev import Nats, pyev

ROOT = Path(nats_ev.__file__).parent.parent

# Modules that a program without TLS, NKeys and JetStream must not load, and who would load them.
UNUSED = {
    "cryptography": "a seed or a creds file",
    "ssl": "TLS",
    "_ssl": "TLS",
    "logging": "a warning",
    "dataclasses": "JetStream",
    "inspect": "dataclasses",
    "ast": "inspect",
    "dis": "inspect",
    "hashlib": "object stores",
    "_hashlib": "OpenSSL's digests: the library alone takes 4 MiB",
    "hmac": "secrets",
    "secrets": "nobody",
    "random": "several servers, or a second attempt",
    "base64": "NKeys",
    "difflib": "a misspelt option",
    "ipaddress": "urllib.parse",
    "urllib.parse": "a URL with a password in it",
    "pathlib": "nobody",
    "platform": "nobody",
    "tempfile": "nobody",
    "subprocess": "nobody",
    "asyncio": "nobody",
    "importlib.util": "nobody",
    "nats_ev.jetstream": "JetStream",
    "nats_ev.buckets": "KV",
    "nats_ev.kv": "KV",
    "nats_ev.object_store": "ObjectStore",
    "nats_ev.service": "Service",
    "nats_ev.net.tls": "TLS",
    "nats_ev.times": "JetStream",
    "nats_ev.faces": "a face",
}

PREPARE = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
port = int(sys.argv[2])
"""

CONNECT = """
from nats_ev import Nats, pyev
loop = pyev.default_loop()
nats = Nats(host="127.0.0.1", port=port, on_connect=loop.stop)
loop.start()
assert nats.is_connected()
"""


def outcome(program: str, port: int = 0) -> Any:
    """Run a program that has `port`, and return what it prints as JSON."""
    libraries = [str(ROOT), *{sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}]
    command = [sys.executable, "-S", "-W", "error", "-c", PREPARE + program]
    result = run_whole([*command, json.dumps(libraries), str(port)], 60, env=unmeasured())
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def loaded(program: str, port: int = 0) -> set[str]:
    """Return the modules that are loaded at the end of a program."""
    return set(outcome(program + "\nprint(json.dumps(sorted(sys.modules)))", port))


def test_import_loads_no_loop_and_nothing_that_is_not_used() -> None:
    modules = loaded("import nats_ev")
    assert modules & {*UNUSED, "nats_ev.pyev"} == set()


def test_the_first_connection_loads_nothing_that_is_not_used(server: NatsServer) -> None:
    modules = loaded(CONNECT, server.port)
    assert modules & set(UNUSED) == set()


def test_messages_requests_and_headers_load_nothing_more(server: NatsServer) -> None:
    use = """
before = set(sys.modules)
nats.subscribe("a", lambda subject, payload, reply, headers: nats.publish(reply, payload))
nats.request("a", "x", lambda response, err, headers: loop.stop())
nats.hpublish("b", {"name": "value"}, "x")
loop.start()
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    assert outcome(CONNECT + use, server.port) == []


def test_flags_say_what_could_be_loaded_and_load_nothing() -> None:
    show = "import nats_ev; print(json.dumps([nats_ev.HAS_TLS, nats_ev.HAS_NKEY]))"
    assert outcome(show) == [True, True]
    forbid = "sys.modules.update({'_ssl': None, 'cryptography': None})\n"
    assert outcome(forbid + show) == [False, False]


def test_nkeys_without_the_package_are_refused_at_the_call() -> None:
    forbid = """
sys.modules["cryptography"] = None
from nats_ev import BadOptionsError, Nats
try:
    Nats.nkey_generate_user_seed()
except BadOptionsError as exc:
    print(json.dumps(str(exc)))
"""
    assert outcome(forbid) == "NKeys need the package cryptography"


@pytest.mark.parametrize(
    "options", ["tls=True", "tls_skip_verify=True", "servers=['tls://127.0.0.1']"]
)
def test_tls_that_is_asked_for_is_loaded_by_the_call_and_not_by_the_loop(options: str) -> None:
    host = "" if "servers" in options else "host='127.0.0.1', "
    program = f"from nats_ev import Nats, pyev\nNats({host}loop=pyev.Loop(), {options})"
    assert {"ssl", "nats_ev.net.tls"} <= loaded(program)


@pytest.mark.parametrize(
    ("name", "layer"), [("JetStream", "jetstream"), ("KV", "kv"), ("Service", "service")]
)
def test_a_layer_is_loaded_with_its_first_name(name: str, layer: str) -> None:
    for program in (f"from nats_ev import {name}", f"import nats_ev; nats_ev.{name}"):
        assert f"nats_ev.{layer}" in loaded(program)
    show = f"import nats_ev; print(json.dumps(nats_ev.{layer}.{name}.__module__))"
    assert outcome(show) == "nats_ev"


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("aio", {"gevent", "nats_ev.pyev", "nats_ev.jetstream", "nats_ev.green"}),
        ("green", {"nats_ev.pyev", "nats_ev.jetstream", "nats_ev.aio", "nats_ev.asyncio_loop"}),
        ("blocking", {"asyncio", "gevent", "nats_ev.jetstream", "nats_ev.aio"}),
    ],
)
def test_a_face_is_loaded_with_its_loop_alone_when_it_is_first_used(
    name: str, others: set[str]
) -> None:
    if name == "green":
        pytest.importorskip("gevent")
    modules = loaded(f"import nats_ev; nats_ev.{name}.connect")
    assert f"nats_ev.{name}" in modules
    assert modules & others == set()


def test_every_way_to_see_all_names_shows_all_names() -> None:
    program = """
import nats_ev, pickle, pydoc
listed = dir(nats_ev)
space = {}
exec("from nats_ev import *", space)
text = pydoc.plain(pydoc.render_doc(nats_ev))
print(json.dumps([listed, sorted(space), [n for n in nats_ev.__all__ if n not in text],
                  [n for n in nats_ev.__all__
                   if isinstance(space[n], type)
                   and pickle.loads(pickle.dumps(space[n])) is not space[n]]]))
"""
    listed, star, undocumented, unpickled = outcome(program)
    assert set(nats_ev.__all__) <= set(listed)
    assert set(nats_ev.__all__) - {"__version__"} <= set(star)
    assert undocumented == []
    assert unpickled == []


def test_a_pickle_made_elsewhere_loads_its_layer() -> None:
    program = r"""
import pickle
error = pickle.loads(b"cnats_ev\nKeyExistsError\n.")
print(json.dumps(error.__name__))
"""
    assert outcome(program) == "KeyExistsError"


def test_threads_may_be_the_first_to_use_the_layers() -> None:
    program = """
import threading
import nats_ev
names = [n for n in nats_ev.__all__ if n not in vars(nats_ev)]
start, errors = threading.Barrier(8), []
def look(mine):
    start.wait()
    for name in mine:
        try:
            getattr(nats_ev, name)
        except BaseException as exc:
            errors.append(repr(exc))
threads = [threading.Thread(target=look, args=(names[i:] + names[:i],)) for i in range(0, 64, 8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps([len(names) > 60, errors]))
"""
    assert outcome(program) == [True, []]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Jetstream'"):
        nats_ev.Jetstream  # type: ignore[attr-defined]  # noqa: B018


def test_the_table_of_later_names_is_that_of_the_layers() -> None:
    for layer, names in nats_ev._LATER.items():  # type: ignore[attr-defined]
        assert sorted(getattr(nats_ev, layer).__all__) == sorted(names.split()), layer


def test_a_subscription_takes_at_most_250_bytes_beyond_its_callback() -> None:
    program = """
import tracemalloc
from nats_ev import Nats, pyev
nats = Nats(loop=pyev.Loop())
callback = print
subjects = [f"orders.{i}" for i in range(100_000)]
nats.subscribe("first", callback)
tracemalloc.start()
for subject in subjects:
    nats.subscribe(subject, callback)
print(json.dumps(tracemalloc.get_traced_memory()[0] / len(subjects)))
"""
    assert outcome(program) <= 250


def test_a_new_connection_does_not_make_subscriptions_larger(server: NatsServer) -> None:
    program = """
import gc, tracemalloc
import random  # a second attempt loads it, and with it the list of all packages that are installed
nats.reconnect(True)
subjects = [f"orders.{i}" for i in range(10_000)]
for subject in subjects:
    nats.subscribe(subject, print)
    nats.subscribe(subject, lambda *args: None)
def size():
    nats.flush(lambda err: loop.stop())
    loop.start()
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
tracemalloc.start()
before = size()
connected = []
nats.on_connect(lambda: (connected.append(1), loop.stop()))
nats.force_reconnect()
loop.start()
assert connected
print(json.dumps((size() - before) / 20_000))
"""
    assert outcome(CONNECT + program, server.port) <= 5


@pytest.mark.parametrize("ping_interval", [0, 100])
def test_an_idle_client_wakes_the_loop_for_nothing_but_its_pings(
    fake: Callable[..., FakeServer],
    connected: Callable[..., Nats],
    loop: pyev.Loop,
    ping_interval: int,
) -> None:
    """A PING takes two turns of the loop: the timer's, and that of the PONG."""
    pings = 0

    def script(peer: Peer) -> None:
        nonlocal pings
        peer.handshake()
        with contextlib.suppress(EOFError, ConnectionError):  # the client has closed
            while peer.line() == "PING":
                pings += 1
                peer.send("PONG\r\n")

    def idle(seconds: float) -> int:
        """Run the loop for a time, and return how many turns it has made."""
        before = loop.iteration
        end = loop.timer(seconds, 0.0, lambda watcher, revents: loop.stop())
        end.start()
        loop.start()
        return loop.iteration - before

    nats = connected(fake(script), ping_interval=ping_interval, connect_timeout=200)
    idle(0.4)  # the timer of the time-out may still fire once, for nothing
    pings_before = pings
    turns = idle(1.0)
    sent = pings - pings_before
    if ping_interval:
        assert sent > 0
        assert turns <= 1 + 2 * (sent + 1)
    else:
        assert (sent, turns) == (0, 1)
    nats.disconnect()
