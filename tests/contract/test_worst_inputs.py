"""A megabyte of the worst input for every expression and every loop that meets bytes from outside.

Whoever may publish, a server, a file or a variable of the environment gives these bytes, and all callbacks of
the loop wait while they are read. So the time may grow with n·log n at most. A quadratic search of a megabyte
takes hours, a linear one milliseconds. ``python -m contract.test_worst_inputs`` in `tests/` prints the times.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import re
import string
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import nats_ev
from nats_ev import errors, subjects, times
from nats_ev.arguments import http_headers
from nats_ev.auth import check_seed, read_creds, undecorated
from nats_ev.connection.server import parse_server, server_at
from nats_ev.headers import Headers, set_in_block, status_of
from nats_ev.jetstream import answers, direct, levels
from nats_ev.jetstream.advisory import decode_advisory
from nats_ev.jetstream.answers import whole
from nats_ev.jetstream.message import parse_ack_reply
from nats_ev.kv import entry
from nats_ev.kv.codecs import Base64Codec, PathCodec
from nats_ev.net.tls_errors import StreamError
from nats_ev.net.websocket.upgrade import Upgrade
from nats_ev.object_store import meta
from nats_ev.protocol.info import ServerInfo
from nats_ev.protocol.session import Session, State

MEGABYTE = 1_000_000
INFO = b'INFO {"max_payload":1048576}\r\n'
REFUSED = (errors.NatsError, ValueError, RecursionError, StreamError)


class Events:
    """What a session reports, ignored."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def received(size: int, greeting: bytes = INFO) -> Callable[[bytes], None]:
    """A session that gets the bytes in pieces of this size."""

    def read(data: bytes) -> None:
        session = Session({}, Events(), 10 * MEGABYTE)
        session.receive(greeting)
        session.deliver(60.0)
        for at in range(0, len(data), size):
            session.receive(data[at : at + size])
            session.deliver(60.0)
            if session.state is State.CLOSED:
                return

    return read


def headers(raw: bytes) -> None:
    """All that is done with a received block."""
    status_of(raw)
    block = Headers.parse(raw)
    for name in ("a", "Nats-Pending-Messages"):
        block.get(name)
        block.get_all(name)
        whole(block.get(name))
    block.pairs()
    set_in_block(raw, {"a": "1"})
    block.encode()


def info(raw: bytes) -> None:
    text = raw.decode("utf-8", "replace")
    ServerInfo.parse(text)
    levels.version_of(text)
    levels.stands_alone(text)


def creds(path: Path) -> Callable[[str], None]:
    def read(text: str) -> None:
        path.write_text(text[: 1024 * 1024 - 1])
        path.chmod(0o600)
        try:
            undecorated(text)
        finally:
            read_creds(path)

    return read


LINES: dict[str, Callable[[int], bytes]] = {
    "subject": lambda n: b"MSG " + b"a" * n + b" 1 1\r\nx\r\n",
    "blanks": lambda n: b"MSG " + b" " * n + b"a 1 1\r\nx\r\n",
    "reply": lambda n: b"MSG a 1 " + b"r" * n + b" 0\r\n\r\n",
    "digits": lambda n: b"MSG a " + b"1" * n + b" 0\r\n\r\n",
    "sizes": lambda n: b"MSG a 1 " + b"0" * n + b"1\r\nx\r\n",
    "-ERR": lambda n: b"-ERR '" + b"x" * n + b"'\r\n",
    "INFO": lambda n: b'INFO {"a":"' + b"x" * n + b'"}\r\n',
    "carriage returns": lambda n: b"INFO " + b"\r" * n + b"\r\n",
    "payload": lambda n: b"MSG a 1 %d\r\n" % n + b"x" * n + b"\r\n",
    "headers": lambda n: (
        b"HMSG a 1 %d %d\r\n" % (n, n) + b"NATS/1.0\r\n" + b"x" * (n - 10) + b"\r\n"
    ),
    "PINGs": lambda n: b"PING\r\n" * (n // 6),
    "+OKs": lambda n: b"+OK\r\n" * (n // 5),
    "empty messages": lambda n: b"MSG a 1 0\r\n\r\n" * (n // 13),
    "long replies": lambda n: (b"MSG a 1 " + b"r" * 3000 + b" 0\r\n\r\n") * (n // 3013),
    "changing subjects": lambda n: b"".join(b"MSG %d 1 0\r\n\r\n" % i for i in range(n // 18)),
    "changing replies": lambda n: b"".join(b"MSG a 1 %d 0\r\n\r\n" % i for i in range(n // 20)),
}
BLOCKS: dict[str, Callable[[int], bytes]] = {
    "blanks in a status line": lambda n: b"NATS/1.0 200 a" + b" " * n + b"b\r\n\r\n",
    "tabs in a status line": lambda n: b"NATS/1.0 200 a" + b"\t" * n + b"b\r\n\r\n",
    "blanks before a status": lambda n: b"NATS/1.0" + b" " * n + b"b\r\n\r\n",
    "empty lines": lambda n: b"NATS/1.0" + b"\r\n" * (n // 2),
    "names": lambda n: b"NATS/1.0\r\n" + b"".join(b"%x:\r\n" % i for i in range(n // 8)),
    "one name": lambda n: b"NATS/1.0\r\n" + b"a:\r\n" * (n // 4),
    "blanks around a value": lambda n: b"NATS/1.0\r\na:" + b" " * n + b"x" + b" " * n + b"\r\n\r\n",
    "blanks in a value": lambda n: b"NATS/1.0\r\na:x" + b" " * n + b"x\r\n\r\n",
    "carriage returns": lambda n: b"NATS/1.0\r\na:" + b"\r" * n,
    "colons": lambda n: b"NATS/1.0\r\n" + b":" * n,
    "digits": lambda n: b"NATS/1.0\r\nNats-Pending-Messages: " + b"1" * n + b"\r\n\r\n",
}
VIOLATION = "'Permissions Violation for Subscription to \""
ERRORS: dict[str, Callable[[int], str]] = {
    "an open quote": lambda n: VIOLATION + "a" * n,
    "backslashes": lambda n: VIOLATION + "\\" * n + "\"'",
    "escapes": lambda n: VIOLATION + "\\x41" * (n // 4) + "\"'",
    "an open queue": lambda n: VIOLATION + 'a" using queue "' + "b" * n,
    "a queue of backslashes": lambda n: VIOLATION + 'a" using queue "' + "\\" * n,
    "digits": lambda n: VIOLATION + 'a" (sid "' + "1" * n + "\")'",
    "open digits": lambda n: VIOLATION + 'a" (sid "' + "1" * n,
    "quotes": lambda n: VIOLATION + '"' * n + "'",
    "blanks": lambda n: " " * n + "x" + " " * n,
}
JSONS: dict[str, Callable[[int], bytes]] = {
    "one number": lambda n: b"1" * n,
    "long numbers": lambda n: b"[" + b",".join([b"1" * 4000] * (n // 4000)) + b"]",
    "decimals": lambda n: b"1." + b"1" * n,
    "digits with an exponent": lambda n: b"1" * n + b"e-5",
    "powers": lambda n: b"[" + b",".join([b"1e300"] * (n // 6)) + b"]",
    "long fractions": lambda n: (
        b"[" + b",".join([b"1." + b"3" * 700 + b"e-300"] * (n // 700)) + b"]"
    ),
    "lists in lists": lambda n: b"[" * n,
    "objects in objects": lambda n: b'{"a":' * (n // 5),
    "escapes": lambda n: b'"' + b"\\n" * (n // 2) + b'"',
    "surrogates": lambda n: b'"' + b"\\ud800" * (n // 6) + b'"',
    "names": lambda n: ("{" + ",".join(f'"{i}":1' for i in range(n // 9)) + "}").encode(),
    "an error": lambda n: b'{"error":{"code":500,"description":"' + b"x" * n + b'"}}',
    "no UTF-8": lambda n: b'"' + b"\xff" * n + b'"',
    "servers": lambda n: b'{"connect_urls":[' + b",".join([b'"a"'] * (n // 4)) + b"]}",
    "versions": lambda n: b'{"version":"' + b"1." * (n // 2) + b'"}',
    "a version": lambda n: b'{"version":"' + b"1" * n + b'"}',
    "a nuid": lambda n: b'{"name":"a","nuid":"' + b"a" * n + b'!"}',
}
# What texts of users, configurations and other clients consist of, for each hand-written reader.
URLS = ":@/[]%.?#&\\-1a \n"
TEXTS: dict[str, tuple[Callable[[str], object], str]] = {
    "URL": (parse_server, URLS),
    "WebSocket URL": (lambda text: parse_server("ws://h/" + text), URLS),
    "HTTP header": (lambda text: http_headers({"X": text}, "x"), "x \t\r"),
    "HTTP answer": (lambda text: Upgrade("h", "/", (), True).feed(text.encode()), "H\r\n: "),
    "host": (lambda text: server_at(text, 4222), URLS),
    "subject": (subjects.check_subscribe, ".*>a"),
    "match": (lambda text: subjects.matches(text, text), ".*>a"),
    "acknowledgement": (lambda text: parse_ack_reply("$JS.ACK." + text), ".1_a"),
    "digits of an acknowledgement": (lambda t: parse_ack_reply(f"$JS.ACK.s.c.{t}.1.1.1.1"), "1+_"),
    "time": (times.parse_time, "Z.1:-"),
    "decimals of a time": (lambda text: times.parse_time("2020-01-01T00:00:00." + text), "Z.1:-"),
    "key": (entry.check_key, "./=a"),
    "filter": (entry.check_filters, "./=*>a"),
    "base64 key": (Base64Codec().decode_key, ".=A_"),
    "path key": (PathCodec().decode_key, "./a"),
    "seed": (check_seed, "SA-\n ="),
    "seed in a block": (undecorated, "A-\n "),
}
CREDS = [
    "-", "---BEGIN ", "--- ", "---BEGIN A---\nx\n", "---BEGIN A---x ", "-- ", " ", "\n", "x", "END ",
    "------END A------\n",
]  # fmt: skip
# All expressions of the package: how each is used, and what makes it get beyond its first step.
EXPRESSIONS = {
    "arguments._HTTP_NAME": ("fullmatch", [""]),
    "arguments._HTTP_VALUE": ("fullmatch", [""]),
    "accounts.keys._SECRET": ("fullmatch", ["", "S", "SA"]),
    "accounts.tokens._BASE64URL": ("fullmatch", [""]),
    "accounts.validation._OF_DAY": ("fullmatch", ["", "1", "12:3"]),
    "accounts.validation._VERSION": ("fullmatch", ["", "1.", "1.2."]),
    "extras.pcgroups_config._NAME": ("fullmatch", [""]),
    "extras.schedules._RANGE": ("fullmatch", ["", "1-", "*/", "1-2/"]),
    "extras.work_queue._NAME": ("fullmatch", [""]),
    "net.proxies.http._BLANK_LINE": ("search", ["", "\r\n"]),
    "net.proxies.http._STATUS_LINE": ("match", ["", "HTTP/1.1", "HTTP/1.1 200 "]),
    "object_store.sinks._NUID": ("fullmatch", [""]),
    "net.websocket.upgrade._NAME": ("fullmatch", [""]),
    "net.websocket.upgrade._STATUS": ("fullmatch", ["", "HTTP/1.1 101", "HTTP/1.1 101 "]),
    "errors._PERMISSION": ("match", ["", VIOLATION[1:], VIOLATION[1:] + 'a" (sid "']),
    "errors._ESCAPE": ("findall", ["", "\\x"]),
    "service.service._NAME": ("fullmatch", [""]),
    "service.service._SEMVER": ("fullmatch", ["", "1.", "1.2.3-", "1.2.3+"]),
    "jetstream.api._PLAIN_NAME": ("fullmatch", ["", "-"]),
    "service.service._BREAKS": ("findall", [""]),
    "connection.server._PLAIN": ("fullmatch", ["", "nats://", "tls://h:", "h:1"]),
    "auth.creds._BLOCKS": ("findall", ["", "---BEGIN A---", "---BEGIN A---\nx"]),
    "auth.creds._TEXT_BLOCK": ("search", ["", "---BEGIN A---", "---BEGIN A---\nx"]),
    "auth.creds._WORD": ("search", [""]),
    "contexts.references._SCHEME": ("match", ["", "a"]),
    "contexts.references._VARIABLE": ("findall", ["", "$", "${", "${a"]),
    "headers._NAME": ("fullmatch", [""]),
    "instrumentation.trace._SECRET_NAME": ("search", ["", "api", "passwor"]),
    "subjects._BAD": ("search", [""]),
    "headers._BREAKS": ("search", [""]),
    "buckets.bucket._BUCKET": ("fullmatch", [""]),
    "object_store.meta._NUID": ("fullmatch", [""]),
    "kv.entry._KEY": ("fullmatch", ["", "a."]),
    "kv.entry._FILTER": ("fullmatch", ["", "*.", ">"]),
}
SAME = {"sub": "findall", "finditer": "findall"}  # uses that look at all of a text
USES = ("match", "search", "fullmatch", "findall", *SAME)
# Expressions that stand in a call, as ``re.split(r"[/?#]", …)``: one class of characters each.
IN_CALLS = {
    "connection.server": 2, "testing.binary": 1, "extras.schedules": 1, "accounts.user_claims": 2,
    "accounts.validation": 2, "faces.rules": 1,
}  # fmt: skip


def outsiders(path: Path) -> Iterator[tuple[str, Callable[[Any], object], Callable[[int], Any]]]:
    """All (name, what reads, what makes n bytes of its input); path is that of a creds file."""
    tables: list[tuple[str, Callable[[Any], object], dict[str, Callable[[int], Any]]]] = [
        ("header block", headers, BLOCKS),
        ("direct get", lambda raw: direct.stored_message(b"", raw), BLOCKS),
        ("-ERR", errors.server_error, ERRORS),
        ("answer", answers.decode, JSONS),
        ("advisory", lambda raw: decode_advisory("$JS.EVENT.x", raw), JSONS),
        ("INFO", info, JSONS),
        ("object info", lambda raw: meta.parse("b", "bw==", raw, "", 1), JSONS),
        ("100 bytes at a time", received(100), LINES),
        ("64 KiB at a time", received(65536), LINES),
        ("first line", received(100, greeting=b""), LINES),
    ]
    for name, read, inputs in tables:
        for what, make in inputs.items():
            yield f"{name}: {what}", read, make
    for name, (read, characters) in TEXTS.items():
        for char in characters:
            yield f"{name}: {char!r}", read, partial(repeated, char)
            yield f"{name}: 1 and {char!r}", read, partial(repeated, "1" + char)
    for text in CREDS:
        yield f"creds: {text!r}", creds(path), partial(repeated, text)


def repeated(text: str, size: int) -> str:
    return text * (size // len(text))


def seconds(read: Callable[[Any], object], value: Any) -> float:
    """CPU time of one reading, however it ends."""
    start = time.process_time()
    with contextlib.suppress(REFUSED):
        read(value)
    return time.process_time() - start


def grows_too_fast(read: Callable[[Any], object], make: Callable[[int], Any]) -> str | None:
    """What shows that a megabyte takes far more than n·log n; else None."""
    whole = seconds(read, make(MEGABYTE))
    if whole < 0.05:
        return None  # a quadratic reader takes minutes
    # The caches of the processor, and what else runs there, make a linear time grow faster, too.
    part = min(seconds(read, make(MEGABYTE // 8)) for _ in range(3))
    whole = min(whole, seconds(read, make(MEGABYTE)))
    exponent = math.log(whole / max(part, 1e-4), 8)
    return f"n^{exponent:.2f}, {whole:.1f} s" if exponent > 1.75 or whole > 5 else None


@pytest.mark.slow
def test_nothing_that_meets_outside_bytes_is_worse_than_n_log_n(tmp_path):
    tracer = sys.gettrace()
    sys.settrace(None)  # one that measures the coverage makes this take ten times as long
    try:
        slow = {
            name: growth
            for name, read, make in outsiders(tmp_path / "user.creds")
            if (growth := grows_too_fast(read, make)) is not None
        }
    finally:
        sys.settrace(tracer)
    assert slow == {}


def sources() -> Iterator[Path]:
    """The files of the package, without the command line: what a user types there slows nobody else."""
    package = Path(nats_ev.__file__).parent
    return (path for path in package.rglob("*.py") if path.relative_to(package).parts[0] != "cli")


def patterns() -> dict[str, re.Pattern[Any]]:
    """All expressions of the package that have a name, as "module._NAME"."""
    found = {}
    for path in sources():
        names = re.findall(r"^(\w+) = re\.compile\(", path.read_text(), re.MULTILINE)
        module = ".".join(path.relative_to(Path(nats_ev.__file__).parent).with_suffix("").parts)
        for name in names:
            found[f"{module}.{name}"] = getattr(importlib.import_module(f"nats_ev.{module}"), name)
    return found


def test_no_expression_is_worse_than_linear_in_any_character():
    """Of 20,000 characters, which a quadratic expression would need seconds for; a megabyte is above."""
    assert patterns().keys() == EXPRESSIONS.keys()
    size = 20_000
    slow = {}
    for name, pattern in patterns().items():
        use, beginnings = EXPRESSIONS[name]
        for beginning, char in product(beginnings, string.printable):
            for text in (beginning + char * size, beginning + ("1" + char) * (size // 2) + "!"):
                subject: Any = text.encode() if isinstance(pattern.pattern, bytes) else text
                start = time.process_time()
                getattr(pattern, use)(subject)
                if (spent := time.process_time() - start) > 0.5:
                    slow[name, beginning, char] = spent
    assert slow == {}


def test_all_expressions_of_the_package_are_known_here():
    for path in sources():
        module = ".".join(path.relative_to(Path(nats_ev.__file__).parent).with_suffix("").parts)
        text = path.read_text()
        calls = len(re.findall(r"\bre\.(?!compile\b|Match\b|Pattern\b|[A-Z]+\b)\w+\(", text))
        assert calls == IN_CALLS.get(module, 0), module
        assert len(re.findall(r"\bre\.compile\(", text)) == sum(
            name.rpartition(".")[0] == module for name in EXPRESSIONS
        ), module
        for name, use in re.findall(rf"\b(_[A-Z_]+)\.({'|'.join(USES)})\(", text):
            known, _ = EXPRESSIONS[f"{module}.{name}"]
            assert known == SAME.get(use, use), f"{module}.{name}"


def main(size: int = MEGABYTE) -> None:
    """Print the CPU time of each, the longest first."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            (seconds(read, make(size)), seconds(read, make(size // 8)), name)
            for name, read, make in outsiders(Path(folder) / "user.creds")
        ]
    for all_of_it, part, name in sorted(rows, reverse=True):
        print(f"{all_of_it * 1000:8.1f} ms, an eighth of it {part * 1000:7.1f} ms: {name}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
