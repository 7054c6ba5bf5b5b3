"""Ctrl-C at any moment of a running client: KeyboardInterrupt, and nothing lost, doubled or torn.

Interrupts are sent by a thread at random moments, as many as it takes; what the other end has sent and
received must be exactly what it is without them.
"""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

import pytest

from lab import refparser
from nats_ev import pyev

ROUNDS, MESSAGES = 3, 10_000


@pytest.fixture
def handler() -> Iterator[None]:
    """Python's own handler of SIGINT, which a test runner may have replaced, and no tracing.

    While a tracer such as coverage is set, CPython 3.11 looks for signals after `list.append`, too: an
    interrupt may then strike between two statements of the test's own callback. No library can prevent that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)
    signal.signal(signal.SIGINT, before)


class Storm:
    """A thread that interrupts the main thread, each time soon after a message callback has asked."""

    def __init__(self) -> None:
        self.asked = self.caught = 0
        # Called when an interrupt has come out, with the code that it has struck.
        self.on_struck: Callable[[CodeType], None] = lambda code: None
        self._ended = False
        self._asked = threading.Semaphore(0)
        self._in_flight = False
        self._thread = threading.Thread(target=self._blow, daemon=True)
        self._thread.start()

    def _blow(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        chance = random.Random(1)
        while True:
            self._asked.acquire()
            if self._ended:
                return
            time.sleep(chance.uniform(0.0, 0.002))
            signal.pthread_kill(main, signal.SIGINT)

    def ask(self) -> None:
        """For one more. There is never more than one on its way: it can't strike twice."""
        if not self._in_flight:
            self._in_flight = True
            self.asked += 1
            self._asked.release()

    def through(self, run: Callable[..., None], condition: Callable[[], object]) -> None:
        """Run the loop until the condition holds and no interrupt is on its way."""
        while True:
            try:
                while not condition():
                    run(condition)
                while self._in_flight:
                    time.sleep(0.001)
                break
            except KeyboardInterrupt as exc:
                self.caught += 1
                self._in_flight = False
                codes = [frame.f_code for frame, _ in traceback.walk_tb(exc.__traceback__)]
                # The last frames are those of the signal handler.
                self.on_struck(
                    [c for c in codes if not c.co_filename.endswith("/_interrupts.py")][-1]
                )

    def end(self) -> None:
        """No more of it."""
        self._ended = True
        self._asked.release()
        self._thread.join()


def flood(peer: Any, received: list[bytes]) -> None:
    """In each round all messages, of some subjects, in runs and alone; keeps what the client sends."""
    peer.handshake()
    data = bytearray(peer.buffer)

    def receive(subject: bytes, times: int = 1) -> None:
        frame = b"PUB %b 0\r\n\r\n" % subject
        while data.count(frame) < times and (more := peer.sock.recv(65536)):
            data.extend(more)

    for n in range(ROUNDS * MESSAGES):
        if n % MESSAGES == 0:
            receive(b"go", n // MESSAGES + 1)
            frames = []
        payload = b"%d" % n
        frames.append(b"MSG a.%d 1 %d\r\n%b\r\n" % (n // 3 % 5, len(payload), payload))
        if n % MESSAGES == MESSAGES - 1:
            peer.send(b"".join(frames))
    receive(b"end")
    received.append(bytes(data))
    peer.at_eof()


@pytest.mark.parametrize("echoes", [False, True], ids=["receiving", "answering"])
def test_a_storm_of_interrupts_loses_no_byte(
    fake: Any, client: Any, run: Any, handler: None, echoes: bool
) -> None:
    received: list[bytes] = []
    nats = client(fake(lambda peer: flood(peer, received)), ping_interval=0)
    got: list[bytes] = []
    storm = Storm()

    def callback(subject: str, payload: bytes, reply: Any, headers: Any) -> None:
        got.append(payload)
        if echoes:
            nats.publish("echo", payload)
        if len(got) % 1000 == 1:
            storm.ask()

    # Python 3.10 looks for signals after `append`, too: there the user's own code is at work, which is
    # interrupted at once, and whether it has published is its own affair.
    halfway: set[bytes] = set()

    def struck(code: CodeType) -> None:
        if code is callback.__code__:
            halfway.add(got[-1])

    storm.on_struck = struck
    nats.subscribe("a.*", callback)
    run(nats.is_connected)
    for done in range(MESSAGES, ROUNDS * MESSAGES + 1, MESSAGES):
        nats.publish("go")
        storm.through(run, lambda done=done: len(got) >= done)
    storm.end()
    expected = [b"%d" % n for n in range(ROUNDS * MESSAGES)]
    assert got == expected
    # One in each round at least, and each is raised once.
    assert storm.caught == storm.asked >= ROUNDS
    nats.publish("end")
    run(lambda: received)
    sent = [c for c in refparser.parse_commands(received[0]) if c[0] == "PUB"]
    assert sent[-1][1] == b"end"
    echoed = [payload for _, subject, *_, payload in sent if subject == b"echo"]
    there = set(echoed)
    wanted = [payload for payload in expected if payload in there or payload not in halfway]
    assert echoed == (wanted if echoes else [])
    assert len(sent) == len(echoed) + ROUNDS + 1
    assert nats.recorder.errors == []


def test_a_callback_that_calls_the_client_without_end_is_interrupted(
    fake: Any, client: Any, run: Any, handler: None
) -> None:
    nats = client(fake(lambda peer: (peer.handshake(), peer.at_eof())))
    run(nats.is_connected)
    begun: list[float] = []

    def callback() -> None:
        begun.append(time.monotonic())
        while time.monotonic() < begun[0] + 10:
            nats.stats()
            nats.is_connected()

    nats.call_soon(callback)
    timer = threading.Timer(
        0.05, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)
    )
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run(lambda: False)
    assert time.monotonic() < begun[0] + 9
    timer.join()
    assert nats.is_connected()


def test_pythons_handler_is_back_when_the_loop_has_ended(loop: pyev.Loop, handler: None) -> None:
    inside: list[Any] = []
    loop.timer(0.0, 0.0, lambda w, r: inside.append(signal.getsignal(signal.SIGINT))).start()
    loop.start()
    assert inside != [signal.default_int_handler]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_users_is_left_in_place(loop: pyev.Loop, handler: None) -> None:
    seen: list[int] = []
    signal.signal(signal.SIGINT, lambda signum, frame: seen.append(signum))

    def interrupt(watcher: Any, revents: int) -> None:
        signal.raise_signal(signal.SIGINT)

    loop.timer(0.0, 0.0, interrupt).start()
    loop.start()
    assert seen == [signal.SIGINT]


def test_a_handler_installed_while_the_loop_runs_stays(loop: pyev.Loop, handler: None) -> None:
    def mine(signum: int, frame: Any) -> None:
        pass

    loop.timer(0.0, 0.0, lambda w, r: signal.signal(signal.SIGINT, mine)).start()
    loop.start()
    assert signal.getsignal(signal.SIGINT) is mine
