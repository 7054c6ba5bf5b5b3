"""Blocking work in threads, the client on its loop: `thread_bridge.py`, then `thread_bridge.py ask WORD...`.

A function that takes long would stop the loop. So a pool of threads calls it, and `call_threadsafe`, which
any thread may call, brings each result back to the loop. On SIGTERM or Ctrl-C the program answers what it
has received. NATS_HOST and NATS_PORT say where the server is.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from nats_ev import Nats, NatsError, Status, pyev

loop = pyev.default_loop(debug=True)  # an exception in a callback ends the program
nats = Nats(
    host=os.environ.get("NATS_HOST", "127.0.0.1"),
    port=int(os.environ.get("NATS_PORT", "4222")),
    reconnect=True,
    no_responders=True,
    retry_on_failed_connect=False,
    on_error=lambda err: on_error(err),
)
running = 0  # jobs in threads
leaving = False


def on_error(err: NatsError) -> None:
    print("nats:", err, file=sys.stderr, flush=True)
    if nats.status() is Status.CLOSED:  # no other attempt follows
        sys.exit(1)


def stretch(word: bytes) -> str:
    """The blocking function: a key that takes long to compute."""
    key = hashlib.scrypt(word, salt=b"example", n=1 << 13, r=8, p=1, dklen=8)
    return f"{key.hex()} by {threading.current_thread().name}"


def on_request(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
    global running
    if reply is None:
        return
    running += 1
    job = pool.submit(stretch, payload)
    # Called in the thread of the pool; `answer` then runs on the loop.
    job.add_done_callback(lambda job: nats.call_threadsafe(answer, reply, job))


def answer(reply: str, job: Future[str]) -> None:
    global running
    running -= 1
    error = job.exception()
    if error is None:
        nats.publish(reply, job.result())
    else:
        nats.publish(reply, b"", headers={"Error": str(error)})
    end_if_done()


def leave(watcher: pyev.Signal, revents: int) -> None:
    global leaving
    for stop in stops:
        stop.stop()
    leaving = True
    nats.drain_subscription(sid, lambda err: end_if_done())


def end_if_done() -> None:
    if leaving and not running:
        nats.drain(lambda err: sys.exit(f"error: {err}") if err else print("all answered"))


def ask(words: list[str]) -> None:
    def answered(response: bytes | None, err: NatsError | None, headers: bytes | None) -> None:
        if response is None:
            sys.exit(f"error: {err}")
        print(response.decode(), flush=True)
        open_questions.pop()
        if not open_questions:
            nats.drain()

    open_questions = list(words)
    for word in words:
        nats.request("stretch", word, answered, 20_000)


match sys.argv[1:]:
    case []:
        pool = ThreadPoolExecutor(4, thread_name_prefix="worker")
        stops = [loop.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)]
        for stop in stops:
            stop.start()
        sid = nats.subscribe("stretch", on_request, "stretchers")
        nats.flush(lambda err: print(err or "ready", flush=True))
    case ["ask", word, *more]:
        ask([word, *more])
    case _:
        sys.exit(__doc__)
loop.start()
