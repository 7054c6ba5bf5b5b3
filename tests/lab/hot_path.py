"""Count what an operation of the hot path takes: instructions of C, and calls of Python. No clock.

    python -m lab.hot_path renew         # in tests/: writes repo/hot_path_counts.json (`make counts`)
    python -m lab.hot_path calls [PORT]  # prints the calls for each message, or for turns with a server
    python -m lab.hot_path layers PORT   # prints those of JetStream and KV

Instructions are counted by valgrind's callgrind: those of the C core in the program ``csrc/hot_ops.c``, those
of the client (`OPERATIONS`) in a Python of its own, inside the functions `INSIDE` alone. Both programs call a
function after each operation that makes callgrind write a file of its own for the operation.

Calls are those that `sys.setprofile` reports. What the client does for each message is the difference of two
runs of different length. What a turn of the loop does is counted with a server.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import termios
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lab import inside
from nats_ev import KV, JetStream, Nats, compiled, pyev
from nats_ev.protocol import Session, Waiting

TESTS = Path(__file__).resolve().parent.parent
CSRC = TESTS.parent / "csrc"
RECORDED = TESTS / "repo" / "hot_path_counts.json"
TIMES = 1000

# Where the client's C is entered for a message.
INSIDE = ("nats_py_publish", "nats_py_hpublish", "nats_py_request", "inbound_deliver")
# The function whose call ends an operation: no operation calls it.
_MARK = "nats_parser_strerror"

Operation = Callable[[int], None]


class _Server:
    """The `Events` of a session without a socket, and the `Owner` and `Inbox` of its subscriptions."""

    def __init__(self, callback: Callable[..., object]) -> None:
        self.waiting = Waiting()
        self.subs: dict[int, Any] = {}
        self.callback = callback
        self.session = Session(self.subs, self, 1 << 28, self.waiting)  # type: ignore[arg-type]
        self.give(b'INFO {"server_id":"X","headers":true}\r\nPONG\r\n')

    def give(self, data: bytes) -> None:
        """Let the session receive and deliver bytes, however long that takes."""
        self.session.receive(data)
        while not self.session.deliver(3600.0):
            pass

    def info_received(self, info: object, first: bool) -> None:
        self.session.connect({}, iter(()))

    def ready(self) -> None:
        pass

    def callback_failed(self, error: BaseException) -> None:
        raise error

    def answer(self, number: int, payload: bytes, headers: bytes | None) -> None:
        pass


def operations(callback: Callable[..., object]) -> dict[str, Operation]:
    """Return functions that do an operation so many times.

    Args:
        callback: for messages and answers.
    """
    from nats_ev.protocol import Subscription

    # Nobody runs the loop: what is published stays in the write buffer.
    nats = Nats(host="127.0.0.1", port=1, loop=pyev.Loop(), reconnect=True)
    for _ in range(9):
        nats.publish("fill", bytes(128 * 1024))  # the buffer has 2 MiB now, and grows no more
    payload = b"x" * 100
    raw = b"NATS/1.0\r\nTrace: 1234567890\r\nOther: x\r\n\r\n"
    mapping = {"Trace": "1234567890", "Other": "x"}
    host = _Server(callback)
    for sid in (1, 2):
        host.subs[sid] = Subscription(host, sid, b"bench.>", b"", callback)  # type: ignore[arg-type]
    host.subs[2].inbox, host.subs[2].prefix_len = host, len("_INBOX.x.")

    def sender(function: Callable[..., object], *args: object) -> Operation:
        def send(times: int) -> None:
            for _ in range(times):
                function(*args)

        return send

    def ask_in_turn(times: int) -> None:
        for subject in subjects[:times]:
            nats.request(subject, payload, callback)

    subjects = [f"bench.{i}" for i in range(TIMES)]
    inside.keep_subjects(nats)

    def receiver(first: str, more: bytes = b"") -> Operation:
        def receive(times: int) -> None:
            for number in range(1, times + 1):
                host.waiting[number] = callback
            body = more + payload + b"\r\n"
            host.give(
                b"".join(first.format(number).encode() + body for number in range(1, times + 1))
            )

        return receive

    host.give(b"MSG _INBOX.x.0 2 0\r\n\r\n")  # from now on the parser reads the numbers of answers
    return {
        "publish": sender(nats.publish, "bench.subject", payload),
        "publish with reply": sender(nats.publish, "bench.subject", payload, "reply.to"),
        "hpublish, raw block": sender(nats.hpublish, "bench.subject", raw, payload),
        "hpublish, mapping": sender(nats.hpublish, "bench.subject", mapping, payload),
        "request": sender(nats.request, "bench.subject", payload, callback),
        "request, raw block, 503 ends it": sender(
            partial(nats.request, headers=raw, no_responders=True),
            "bench.subject",
            payload,
            callback,
        ),
        "request, other subjects": ask_in_turn,
        "deliver": receiver("MSG bench.subject 1 100\r\n"),
        "deliver, other subjects": receiver("MSG bench.{} 1 100\r\n"),
        "deliver with reply": receiver("MSG bench.subject 1 reply.{} 100\r\n"),
        "deliver with headers": receiver(
            f"HMSG bench.subject 1 {len(raw)} {len(raw) + 100}\r\n", raw
        ),
        "answer": receiver("MSG _INBOX.x.{} 2 100\r\n"),
    }


# Instructions.


def missing() -> str | None:
    """Return the name of a tool that counting instructions needs and that is missing."""
    return next((tool for tool in ("valgrind", "cc") if shutil.which(tool) is None), None)


def _run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=300,
        env={k: v for k, v in os.environ.items() if "COVERAGE" not in k} | environment,
    )
    if done.returncode:
        raise AssertionError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def _callgrind(folder: Path, inside: tuple[str, ...], mark: str, *program: str | Path) -> list[str]:
    """Run a program that prints a name for each part; return them with the instructions of each."""
    out = folder / "callgrind"
    names = _run(
        "valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--collect-atstart=no",
        *(f"--toggle-collect={name}" for name in inside), f"--dump-before={mark}", *program,
        PYTHONHASHSEED="0", PYTHONPATH=str(TESTS),
    ).split("\n")  # fmt: skip
    found = []
    for number, name in enumerate(filter(None, names), 1):
        total = re.search(r"^totals: (\d+)", Path(f"{out}.{number}").read_text(), re.M)
        found.append(f"{name}\t{total[1] if total else 0}")
    return found


def _per_message(parts: list[str]) -> dict[str, float]:
    split = (part.split("\t") for part in parts)
    return {name: round(int(count) / TIMES, 1) for name, count in split if not name.startswith("-")}


def instructions_of_core() -> dict[str, float]:
    """Return the instructions of the C core for each message that it frames or parses."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "hot_ops"
        sources = [CSRC / f"nats_{name}.c" for name in ("parser", "wbuf", "unsent")]
        options = ["-std=c11", "-g", "-O3", "-DNDEBUG", f"-I{CSRC}"]
        _run("cc", *options, TESTS / "csrc" / "hot_ops.c", *sources, "-o", program)
        return _per_message(_callgrind(Path(folder), ("measured",), "part", program))


def instructions_of_client() -> dict[str, float]:
    """Return the instructions of each operation, from the entry into C; callbacks do nothing."""
    with tempfile.TemporaryDirectory() as folder:
        program = [sys.executable, "-m", "lab.hot_path", "operations"]
        return _per_message(_callgrind(Path(folder), INSIDE, _MARK, *program))


def _run_operations() -> None:
    """Do each operation once to warm up and then `TIMES` times, for callgrind."""
    for name, operation in operations("".format).items():
        for shown, times in ((f"-{name}", 10), (name, TIMES)):
            operation(times)
            print(shown, flush=True)
            getattr(compiled.lib, _MARK)(0)
    os._exit(0)


# Calls.


class _Calls:
    """Counts calls of Python functions and of C functions inside a ``with``."""

    def __enter__(self) -> _Calls:
        self.python = self.c = 0
        sys.setprofile(self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.setprofile(None)
        self.c -= 1  # this call of sys.setprofile
        self.python -= 1  # and that of __exit__

    def _note(self, frame: object, event: str, arg: object) -> None:
        if event == "call":
            self.python += 1
        elif event == "c_call":
            self.c += 1


def calls_of_client() -> dict[str, list[float]]:
    """Return how many functions written in Python, and in C, are called for each operation.

    A call of `publish` itself is none of them; that of a message's callback is one.
    """

    def callback(*args: object) -> None:
        pass

    found = {}
    for name, operation in operations(callback).items():
        operation(10)
        counts = []
        for times in (100, 300):
            with _Calls() as calls:
                operation(times)
            counts.append((calls.python, calls.c))
        # The generator that makes the bytes to receive is called for each message, too.
        own = 1 if name.startswith(("deliver", "answer")) else 0
        (py1, c1), (py2, c2) = counts
        found[name] = [(py2 - py1) / 200 - own, (c2 - c1) / 200 - 2 * own]
    return found


def calls_of_turns(port: int) -> dict[str, list[float]]:
    """Return the calls of a serial request and of a turn that publishes, with a server at a port.

    Both clients of a request are on one loop: it takes two turns.
    """
    loop = pyev.Loop()
    clients = []
    for _ in range(2):
        clients.append(Nats(host="127.0.0.1", port=port, loop=loop, on_connect=loop.stop))
        loop.start()
    asking, answering = clients

    def answer(subject: str, payload: bytes, reply: str, headers: bytes | None) -> None:
        answering.publish(reply, payload)

    answering.subscribe("echo", answer)
    answering.flush(lambda err: loop.stop())
    loop.start()
    left = 0

    def got(response: bytes | None, err: object, headers: bytes | None) -> None:
        nonlocal left
        assert err is None
        left -= 1
        if left:
            asking.request("echo", b"x", got, 5000)
        else:
            loop.stop()

    def serial(times: int) -> None:
        nonlocal left
        left = times
        asking.request("echo", b"x", got, 5000)
        loop.start()

    def publish(watcher: Any, revents: int) -> None:
        nonlocal left
        left -= 1
        asking.publish("nobody", b"x")
        if not left:
            watcher.stop()
            loop.stop()

    def turns(times: int) -> None:
        nonlocal left
        left = times
        loop.idle(publish).start()
        loop.start()

    found = {}
    for name, operation in (("serial request", serial), ("turn that publishes", turns)):
        operation(20)
        rounds = []
        # A busy machine splits a read now and then: the least of some rounds.
        for _ in range(5):
            with _Calls() as calls:
                operation(200)
            rounds.append([round(calls.python / 200, 2), round(calls.c / 200, 2)])
        found[name] = [min(r[i] for r in rounds) for i in (0, 1)]
    for nats in clients:
        nats.disconnect()
    return found


_A_READ = 100_000  # bytes: about what the client reads at once


def _bytes_to_read(connection: socket.socket) -> int:
    found = bytearray(4)
    fcntl.ioctl(connection, termios.FIONREAD, found)
    return int.from_bytes(found, sys.byteorder)


def calls_of_layers(port: int) -> dict[str, list[float]]:
    """Return the calls of operations of JetStream and KV, many of them at a time, with a server at a port."""
    loop = pyev.Loop()
    nats = Nats(host="127.0.0.1", port=port, loop=loop, on_connect=loop.stop)
    loop.start()
    connection = inside.socket_of(nats)
    js = JetStream(nats)
    kv = KV(js, "counted")
    left = 0

    def done(result: object, error: object) -> None:
        nonlocal left
        assert error is None
        left -= 1
        if not left:
            loop.stop()

    # An operation returns how often `done` was called: a read holds more messages than were asked for.
    def many(call: Callable[[int], object]) -> Callable[[int], int]:
        def run(times: int) -> int:
            nonlocal left
            left = times
            for number in range(times):
                call(number)
            loop.start()
            return times - left

        return run

    def wait_for_bytes(watcher: Any, revents: int) -> None:
        """Let the server send what it will before the next read: how many turns it takes is not counted."""
        counter = sys.getprofile()
        sys.setprofile(None)
        before = -1
        while (waiting := _bytes_to_read(connection)) != before and waiting < _A_READ:
            before = waiting
            time.sleep(0.02)
        sys.setprofile(counter)

    def received(begin: Callable[..., Any]) -> Callable[[int], int]:
        def run(times: int) -> int:
            nonlocal left
            left = times
            running = begin(done)
            waits = loop.prepare(wait_for_bytes)
            waits.start()
            loop.start()
            waits.stop()
            running.stop()
            return times - left

        return run

    operations = {
        "JetStream publish": many(lambda number: js.publish("counted", b"x", done)),
        "JetStream publish, windowed": many(lambda number: js.publish_async("counted", b"x", done)),
        "KV put": many(lambda number: kv.put(f"k{number % 100}", b"x", done)),
        "KV get": many(lambda number: kv.get(f"k{number % 100}", done)),
        "consume": received(lambda cb: js.consume("COUNTED", "c", cb)),
        "ordered consumer": received(lambda cb: js.ordered_consumer("COUNTED", cb)),
    }
    for create in (
        lambda: js.stream_create({"name": "COUNTED", "subjects": ["counted"]}, done),
        lambda: js.consumer_create("COUNTED", {"durable_name": "c", "ack_policy": "none"}, done),
        lambda: kv.create_bucket(done),
    ):
        many(lambda number, create=create: create())(1)
    many(lambda number: js.publish_async("counted", b"x", done))(5000)  # for the consumers
    found = {}
    for name, operation in operations.items():
        operation(100)
        rounds = []
        # A busy machine splits a read now and then: the least of some rounds.
        for _ in range(5):
            with _Calls() as calls:
                times = operation(400)
            rounds.append([round(calls.python / times, 2), round(calls.c / times, 2)])
        found[name] = [min(r[i] for r in rounds) for i in (0, 1)]
    nats.disconnect()
    return found


def build() -> dict[str, str]:
    """Return what decides how many instructions the same C has."""
    compiler = _run("cc", "--version").splitlines()[0] if shutil.which("cc") else ""
    return {
        "compiler": compiler,
        "machine": platform.machine(),
        "python": f"{sysconfig.get_python_version()}, {sysconfig.get_config_var('OPT')}",
    }


def renew() -> None:
    """Write all counts."""
    from .natsserver import NatsServer

    with NatsServer(jetstream=True) as server:
        turns = calls_of_turns(server.port)
        layers = calls_of_layers(server.port)
    counts = {
        "instructions": {"core": instructions_of_core(), "client": instructions_of_client()},
        "calls of Python, of C": {
            "client": calls_of_client(),
            "turns": turns,
            "layers": layers,
        },
        "counted with": build(),
    }
    text = json.dumps(counts, indent=2)
    text = re.sub(r"\[\s+([-\d.]+),\s+([-\d.]+)\s+\]", r"[\1, \2]", text)
    RECORDED.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    if sys.argv[1] in ("calls", "layers"):
        with_server = calls_of_layers if sys.argv[1] == "layers" else calls_of_turns
        print(json.dumps(with_server(int(sys.argv[2])) if sys.argv[2:] else calls_of_client()))
    else:
        {"operations": _run_operations, "renew": renew}[sys.argv[1]]()
