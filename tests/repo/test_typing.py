"""What type checkers make of the package, in a program that uses it: `nats_ev` is typed (PEP 561)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nats_ev

PROGRAM = """
from nats_ev import KV, Headers, JetStream, JsMsg, Nats, NatsError, WrongLastSequenceError, pyev


def on_message(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
    print(subject, payload.decode(), Headers.parse(headers).get("Trace"))
    if reply:
        nats.publish(reply, payload)


def answered(response: bytes | None, err: NatsError | None, headers: bytes | None) -> None:
    if err:
        raise err


def on_job(msg: JsMsg | None, err: NatsError | None) -> None:
    if msg is not None:
        print(msg.seq, msg.data.decode())
        msg.ack()
    elif isinstance(err, WrongLastSequenceError):
        print(err.err_code)


nats = Nats(host="127.0.0.1", on_error=print)
sid: int = nats.subscribe("foo.>", on_message, "workers")
nats.request("foo", "ping", answered, 1000, headers={"Trace": ["1", "2"]})
js = JetStream(nats, timeout=1000)
js.consume("S", "c", on_job).stop()
KV(js, "config").watch(">", lambda entry, err: print(entry.key if entry else err))
pyev.default_loop().timer(1.0, 0.0, lambda watcher, revents: print(watcher)).start()
pyev.default_loop().start()
nats.publish(5)
"""


def check(folder: Path, code: str) -> list[str]:
    """What mypy complains of, without the names of files."""
    (folder / "program.py").write_text(code)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "program.py"]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"MYPYPATH": str(Path(nats_ev.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert not done.stderr
    return [line.partition(": ")[2] for line in done.stdout.splitlines()[:-1]]


@pytest.mark.slow
def test_a_typical_program_is_well_typed_and_a_wrong_call_is_found(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    complaints = check(tmp_path, PROGRAM)
    assert len(complaints) == 1, complaints
    assert 'Argument 1 to "publish" of "Nats" has incompatible type "int"' in complaints[0]


@pytest.mark.slow
def test_every_public_name_can_be_imported_for_a_type_checker(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    names = ", ".join(sorted(nats_ev.__all__))
    assert check(tmp_path, f"from nats_ev import {names}\n") == []
