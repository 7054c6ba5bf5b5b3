"""The examples that use a face: an asyncio worker, a notebook, a web server on gevent."""

from __future__ import annotations

import re
import signal
import urllib.error
import urllib.request
from typing import Any

import pytest


def test_asyncio_worker(program: Any) -> None:
    worker, other = program("asyncio_worker.py"), program("asyncio_worker.py")
    worker.expect("ready")
    other.expect("ready")
    assert program("asyncio_worker.py", "add", "50").end() == "50 jobs added\n"
    first = worker.expect("images.new (.*)")
    done = [first[1]]
    for one in (worker, other):
        one.process.send_signal(signal.SIGTERM)
        done += re.findall("images.new (.*)", one.process.stdout.read())
        assert one.end() == ""
    assert len(done) == len(set(done))
    last = program("asyncio_worker.py")
    while len(done) < 50:
        done.append(last.expect("images.new (.*)")[1])
    assert sorted(map(int, done)) == list(range(50))


def test_notebook(program: Any) -> None:
    assert program("notebook.py").end().splitlines() == [
        "oslo {'degrees': 17}", "rome {'degrees': 33}", "[31, 33]", 'oslo is now {"degrees": 16}',
    ]  # fmt: skip


def test_gevent_web(program: Any) -> None:
    pytest.importorskip("gevent")
    web = program("gevent_web.py", "0")
    url = f"http://127.0.0.1:{web.expect('listening on (.*)')[1]}"
    for text in ("one", "two"):
        with urllib.request.urlopen(f"{url}/upper/{text}", timeout=10) as answer:
            assert answer.read() == text.upper().encode()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{url}/missing/x", timeout=10)
    web.process.send_signal(signal.SIGTERM)
    assert web.end() == ""
