"""Official clients for the cross tests, each a program of its own that does what it is told.

One line of JSON per operation, ``{"id", "op", "args"}``, and one per answer, ``{"id", "ok"}`` or
``{"id", "err", "code"}``, in any order. The programs: peer_nats_py.py and js/peer.mjs, whose
packages `make peers` puts into .cache/js.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import shutil
import subprocess
import sys
import time
from typing import Any

from lab.paths import CACHE, TESTS

LAB = TESTS / "lab"
JS = CACHE / "js"
ANSWER_WITHIN = 60.0


class PeerError(Exception):
    """What the official client said; `code` is its error number, where it has one."""

    def __init__(self, text: str, code: Any) -> None:
        super().__init__(text)
        self.code = code


class Call:
    """An operation under way."""

    def __init__(self, peer: Peer, id: int) -> None:
        self._peer = peer
        self._id = id

    def done(self) -> bool:
        """Whether the answer is there; for `run(call.done)`."""
        self._peer.read(0)
        return self._id in self._peer.answers

    def result(self) -> Any:
        """Wait for the answer; raises `PeerError`."""
        deadline = time.monotonic() + ANSWER_WITHIN
        while self._id not in self._peer.answers:
            if time.monotonic() > deadline:
                raise TimeoutError("the peer has not answered")
            self._peer.read(0.5)
        answer = self._peer.answers.pop(self._id)
        if "err" in answer:
            raise PeerError(answer["err"], answer.get("code"))
        return answer["ok"]


class Peer:
    """A running program: ``peer("kv.put", bucket="b", …)`` waits, `start` does not."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self.answers: dict[int, Any] = {}
        self._last = 0
        self._rest = b""
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self("ready")

    def __call__(self, op: str, **args: Any) -> Any:
        return self.start(op, **args).result()

    def start(self, op: str, **args: Any) -> Call:
        """Begin an operation."""
        self._last += 1
        line = json.dumps({"id": self._last, "op": op, "args": args}) + "\n"
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())
        return Call(self, self._last)

    def read(self, timeout: float) -> None:
        """Take in what it has answered."""
        out = self._process.stdout
        assert out is not None
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            if not selector.select(timeout):
                return
        data = os.read(out.fileno(), 1 << 20)
        if not data:
            raise RuntimeError(f"the peer {self.name} has ended: {self._process.wait(5)}")
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            answer = json.loads(line)
            self.answers[answer["id"]] = answer

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def nats_py(url: str) -> Peer:
    """The official client for asyncio."""
    return Peer("nats-py", [sys.executable, str(LAB / "peer_nats_py.py"), url])


def nats_js(url: str) -> Peer:
    """The official client for Node.js. Raises FileNotFoundError with the reason when it can't run."""
    node = shutil.which("node")
    if node is None:
        raise FileNotFoundError("no node: install nodejs and npm")
    fetch_js()
    program = JS / "peer.mjs"
    source = LAB / "js" / "peer.mjs"
    if not program.exists() or program.read_bytes() != source.read_bytes():
        # Next to its packages, where Node.js looks for them; in one step, other workers may be reading it.
        copy = JS / f"peer.{os.getpid()}.mjs"
        shutil.copyfile(source, copy)
        copy.replace(program)
    return Peer("nats.js", [node, str(program), url])


def fetch_js() -> None:
    """Put the packages of lab/js/package.json into .cache/js, unless they are there."""
    wanted = (LAB / "js" / "package.json").read_bytes()
    JS.mkdir(parents=True, exist_ok=True)
    with open(JS / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # only one of the workers installs them
        done = JS / ".installed"
        if not done.exists() or done.read_bytes() != wanted:
            _install(wanted)
            done.write_bytes(wanted)


def _install(wanted: bytes) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("no npm: install nodejs and npm")
    (JS / "package.json").write_bytes(wanted)
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    command += ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=20000"]
    try:
        subprocess.run(command, cwd=JS, check=True, timeout=120, capture_output=True, text=True)
    except subprocess.CalledProcessError as exc:
        raise FileNotFoundError(f"npm could not fetch the packages: {exc.stderr[-500:]}") from exc
    except subprocess.TimeoutExpired as exc:
        raise FileNotFoundError("npm could not fetch the packages in 120 s") from exc


if __name__ == "__main__":
    try:
        fetch_js()
    except FileNotFoundError as exc:
        sys.exit(f"@nats-io packages: {exc}")
