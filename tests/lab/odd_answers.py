"""A scripted JetStream that gives right answers, and the shapes into which a test bends them.

Each `Case` has a number, which is in the subjects of all its requests: so one client can have thousands of
them at a time. The answers to the requests that the case names are odd, all others are right.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lab.broker import matches

CONTENT = b"the content"
DIGEST = "SHA-256=" + base64.urlsafe_b64encode(hashlib.sha256(CONTENT).digest()).decode()
TIME = "2026-01-02T03:04:05.123456789Z"
NUID = "AAAAAAAAAAAAAAAAAAAAAA"
_NUMBER = re.compile(r"(?:ODD\.|odd\.|_b|\.b)(\d+)\b")
_VERBS = re.compile(
    r"STREAM\.(?:MSG\.)?[A-Z]+|CONSUMER\.MSG\.NEXT|CONSUMER\.[A-Z]+|DIRECT\.GET|INFO\Z"
)

# Shapes.

DEEP = "[" * 5_000 + "]" * 5_000
# Odd values as JSON, some of which is none.
VALUES: dict[str, str] = {
    "null": "null", "true": "true", "false": "false", "zero": "0", "minus": "-1", "float": "1.5",
    "infinite": "1e999", "nan": "NaN", "uint64": str(2**64), "googol": "1" + "0" * 400,
    "digits": "9" * 5_000, "empty text": '""', "text": '"x y"', "long text": '"%s"' % ("y" * 300),
    "surrogate": r'"\ud800"', "control": '"a\x01\n\x00b"', "wild": '"*.>"', "list": "[]",
    "lists": "[[]]", "mixed": '[1,"a",null,{}]', "object": "{}", "objects": '{"a":{"b":[]}}',
    "deep": DEEP, "depth 200": "[" * 200 + "]" * 200, "depth 400": "[" * 400 + "]" * 400,
    "depth 600": "[" * 600 + "]" * 600, "depth 900": "[" * 900 + "]" * 900,
}  # fmt: skip
_KINDS: dict[str, Callable[[Any], bool]] = {
    "numbers": lambda value: type(value) is int,
    "texts": lambda value: isinstance(value, str),
    "objects": lambda value: isinstance(value, dict),
    "lists": lambda value: isinstance(value, list),
}
_MARK = "\ue000%s\ue000"
_MARKED = re.compile('"\ue000([^\ue000]+)\ue000"')
_RAW: dict[str, bytes] = {
    "nothing": b"",
    "blank": b" ",
    "not JSON": b"hello",
    "half": b'{"config":{"name":',
    "bytes": bytes(range(256)),
    "BOM": b"\xef\xbb\xbf{}",
    "deep lists": b"[" * 20_000,
    "deep objects": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "deep error": b'{"error":' * 20_000 + b"1" + b"}" * 20_000,
    "digits": b"9" * 5_000,
    "error text": b'{"error":"no"}',
    "error empty": b'{"error":{}}',
    "error list": b'{"error":[1]}',
    "error true": b'{"error":true}',
    "error codes": b'{"error":{"code":[1],"err_code":{}}}',
    "error code text": b'{"error":{"code":"404","err_code":"10059","description":5}}',
    "error code infinite": b'{"error":{"code":1e999,"err_code":NaN}}',
    "error code digits": b'{"error":{"code":%s}}' % (b"9" * 500),
    "error surrogate": rb'{"error":{"code":400,"description":"\ud800"}}',
    "error control": b'{"error":{"code":400,"description":"a\x01\nb"}}',
}
_BLOCKS: dict[str, bytes] = {
    "garbage": b"garbage\r\n\r\n",
    "garbage with a blank": b"NATSX1.0 404\r\n\r\n",
    "503": b"NATS/1.0 503\r\n\r\n",
    "404": b"NATS/1.0 404 No Messages\r\n\r\n",
    "409": b"NATS/1.0 409 Message Size Exceeds MaxBytes\r\n\r\n",
    "999": b"NATS/1.0 999 what\r\n\r\n",
    "000": b"NATS/1.0 000\r\n\r\n",
    "204": b"NATS/1.0 204 EOB\r\n\r\n",
    "100 stalled": b"NATS/1.0 100\r\nNats-Consumer-Stalled: a b\r\nNats-Last-Consumer: %s\r\n\r\n"
    % (b"9" * 5_000),
    "pending": b"NATS/1.0 408 R\r\nNats-Pending-Messages: %s\r\nNats-Pending-Bytes: -5\r\n\r\n"
    % (b"9" * 5_000),
    "yesterday": b"NATS/1.0\r\nNats-Time-Stamp: yesterday\r\nKV-Operation: \xff\r\n\r\n",
    "sequence": b"NATS/1.0\r\nNats-Sequence: 1e999\r\nNats-Num-Pending: -1\r\n\r\n",
    "sequence digits": b"NATS/1.0\r\nNats-Sequence: %s\r\n\r\n" % (b"9" * 5_000),
    "marker": b"NATS/1.0\r\nNats-Marker-Reason: \xff\xfe\r\nNats-Msg-Size: x\r\n\r\n",
}
_ACKS = (
    "$JS.ACK",
    "$JS.ACK.S.C.1.1.1.%s.0" % ("9" * 5_000),
    "$JS.ACK.S.C.1.1.1.%s.0" % ("9" * 25),
    "$JS.ACK.S.C.1.-1.1.1700000000000000000.-1",
    "$JS.ACK.S.C.1.1e9.1.1700000000000000000.0",
    "$JS.ACK.S.C.1.99999999999999999999999.1.1700000000000000000.0",
    "$JS.ACK.S.C.1.7.1.1700000000000000000.99999999999999999999999",
    "$JS.ACK.a.b.c.d.e.f.g.h.i.j.k",
    "nowhere",
)


def _bend(value: Any, name: str, is_kind: Callable[[Any], bool], top: bool = True) -> Any:
    if not top and is_kind(value):
        return _MARK % name
    if isinstance(value, dict):
        return {key: _bend(item, name, is_kind, False) for key, item in value.items()}
    if isinstance(value, list):
        return [_bend(item, name, is_kind, False) for item in value]
    return value


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from _places(item, (*path, key))


def _without(value: Any, number: int) -> Any:
    """Leave out the field of that number, counted through all levels."""
    places = list(_places(value))
    result = copy.deepcopy(value)
    *path, last = places[number % len(places)]
    inner = result
    for key in path:
        inner = inner[key]
    del inner[last]
    return result


def _with_more(value: Any, name: str) -> Any:
    """Give each object a field that nobody knows."""
    if isinstance(value, dict):
        more = {key: _with_more(item, name) for key, item in value.items()}
        return {**more, "x_unknown": _MARK % name}
    return [_with_more(item, name) for item in value] if isinstance(value, list) else value


def _encode(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False)
    return _MARKED.sub(lambda found: VALUES[found[1]], text).encode("utf-8", "surrogatepass")


@dataclass
class Shape:
    """A way in which an answer is odd: its JSON, the headers of a message, or its reply subject."""

    name: str
    bend: Callable[[Any], bytes] = _encode
    block: bytes | None = None
    ack: str | None = None


def shapes() -> list[Shape]:
    """Return all shapes."""
    found = [Shape(f"raw {name}", lambda good, raw=raw: raw) for name, raw in _RAW.items()]  # type: ignore[misc]
    for value, raw in VALUES.items():
        found.append(Shape(f"all is {value}", lambda good, raw=raw: raw.encode()))  # type: ignore[misc]
        for kind, is_kind in _KINDS.items():

            def bend(good: Any, value: str = value, is_kind: Any = is_kind) -> bytes:
                return _encode(_bend(good, value, is_kind))

            found.append(Shape(f"{kind} are {value}", bend))
    for value in VALUES:
        found.append(
            Shape(f"unknown is {value}", lambda good, v=value: _encode(_with_more(good, v)))  # type: ignore[misc]
        )
    for number in range(24):
        found.append(
            Shape(f"without field {number}", lambda good, n=number: _encode(_without(good, n)))  # type: ignore[misc]
        )
    found += [Shape(f"headers: {name}", block=block) for name, block in _BLOCKS.items()]
    found += [Shape(f"ack: {ack[:40]}", ack=ack) for ack in _ACKS]
    return found


# Right answers.


def stream_info(name: str) -> dict[str, Any]:
    config = {
        "name": name, "subjects": [f"{name}.>"], "max_age": 0, "max_bytes": -1, "storage": "file",
        "num_replicas": 1, "max_msgs_per_subject": 5, "compression": "none", "description": "d",
        "metadata": {"a": "b"}, "allow_direct": True, "subject_delete_marker_ttl": 2_000_000_000,
        "allow_msg_ttl": True, "mirror": None,
    }  # fmt: skip
    state = {
        "messages": 1, "bytes": 90, "first_seq": 1, "last_seq": 7, "consumer_count": 0,
        "subjects": {"a": 1}, "deleted": [2],
    }  # fmt: skip
    return {"type": "t", "config": config, "created": TIME, "state": state, "total": 1, "offset": 0}


def consumer_info(name: str, config: dict[str, Any], pending: int) -> dict[str, Any]:
    sequences = {"consumer_seq": 0, "stream_seq": 0}
    config = {"ack_policy": "none", "filter_subject": ">", **config, "name": name}
    return {
        "type": "t", "stream_name": "S", "name": name, "created": TIME, "config": config,
        "delivered": sequences, "ack_floor": dict(sequences), "num_pending": pending,
        "num_waiting": 0, "paused": False,
    }  # fmt: skip


def object_info(bucket: str, name: str = "o") -> dict[str, Any]:
    return {
        "name": name, "bucket": bucket, "nuid": NUID, "size": len(CONTENT), "chunks": 1,
        "digest": DIGEST, "description": "d", "headers": {"A": ["b"]}, "metadata": {"c": "d"},
        "options": {"max_chunk_size": 65536, "link": None},
    }  # fmt: skip


def meta_subject(bucket: str) -> str:
    return f"$O.{bucket}.M.{base64.urlsafe_b64encode(b'o').decode()}"


@dataclass
class Case:
    """One way of being odd: in the answers to requests whose verb is one of these."""

    verbs: frozenset[str]
    shape: Shape
    filters: dict[str, str] = field(default_factory=dict)  # of consumers, by name
    sent: set[str] = field(default_factory=set)


# The subscriptions by sid, by the head of their subjects.
Subscriptions = dict[str, dict[str, str]]
# Where it goes, the subject that it shows, its reply subject, its headers, its payload.
Frame = tuple[str, str, "str | None", "bytes | None", bytes]


class OddServer:
    """A script for `FakeServer`: the answers to the requests of all cases."""

    def __init__(self, cases: list[Case]) -> None:
        self.cases = cases
        self.odd = True  # False: all answers are right from now on

    def __call__(self, peer: Any) -> None:
        peer.send_info(version="2.99.0", api_lvl=9)
        peer.sock.settimeout(60)
        subscriptions: Subscriptions = {}
        try:
            while True:
                verb, _, rest = peer.line().partition(" ")
                words = rest.split()
                if verb == "PING":
                    peer.send("PONG\r\n")
                elif verb == "SUB":
                    subscriptions.setdefault(_head(words[0]), {})[words[-1]] = words[0]
                elif verb == "UNSUB" and len(words) == 1:
                    for alike in subscriptions.values():
                        alike.pop(words[0], None)
                elif verb in ("PUB", "HPUB"):
                    sizes = 2 if verb == "HPUB" else 1
                    payload = peer.payload(int(words[-1]))
                    if words[1:-sizes]:
                        body = payload[int(words[-2]) :] if sizes == 2 else payload
                        frames = self.answers(words[0], words[1], body)
                        if b"\r\nNats-Batch-Sequence: 1\r\n" in payload:  # taken, not stored yet
                            frames = [
                                (*frame[:-1], b"" if b'"batch"' in frame[-1] else frame[-1])
                                for frame in frames
                            ]
                        peer.send(b"".join(_frames(frames, subscriptions)))
        except (EOFError, OSError):
            return

    def answers(self, subject: str, reply: str, body: bytes) -> list[Frame]:
        """Return the messages that answer a request."""
        found = _NUMBER.search(subject)
        if found is None:
            return []
        number = int(found[1])
        case = self.cases[number]
        verb = _VERBS.match(subject.removeprefix(f"ODD.{number}."))
        kind = verb[0] if verb is not None else "PUB"
        if kind == "PUB" and reply.endswith(".$FI"):
            kind = "FAST"
        bent = case.shape if self.odd and (kind in case.verbs or "*" in case.verbs) else None
        inner = case.shape if self.odd and "OBJECT" in case.verbs else None
        frames = _Answers(case, number, bent, inner).of(kind, subject, reply, body)
        return frames


def _head(subject: str) -> str:
    """Return the first two tokens, in which an inbox and its subscription are the same."""
    return ".".join(subject.split(".")[:2])


def _frames(frames: list[Frame], subscriptions: Subscriptions) -> Iterator[bytes]:
    for to, subject, reply, block, payload in frames:
        for sid, pattern in subscriptions.get(_head(to), {}).items():
            if pattern == to or (pattern[-1] in "*>" and matches(pattern, to)):
                words = [subject, sid, *([reply] if reply else [])]
                if block is not None:
                    words += [str(len(block)), str(len(block) + len(payload))]
                    yield f"HMSG {' '.join(words)}\r\n".encode() + block + payload + b"\r\n"
                else:
                    yield f"MSG {' '.join(words)} {len(payload)}\r\n".encode() + payload + b"\r\n"
                break


class _Answers:
    """The answer to one request."""

    def __init__(self, case: Case, number: int, bent: Shape | None, inner: Shape | None) -> None:
        self.case = case
        self.number = number
        self.bent = bent
        self.inner = inner
        self.pushed = case.shape if "PUSH" in case.verbs else None
        self.object = inner.bend if inner is not None else _encode

    def of(self, kind: str, subject: str, reply: str, body: bytes) -> list[Frame]:
        """Return the messages of the answer, bent."""
        if kind == "CONSUMER.MSG.NEXT":
            return self._messages(subject, reply, body)
        if kind == "DIRECT.GET":
            return self._direct(reply, body)
        if kind == "FAST":
            return self._fast(reply)
        request = json.loads(body) if body[:1] == b"{" and kind != "PUB" else {}
        good = self._good(kind, subject, request, body)
        shape = self.bent
        if shape is None:
            frames: list[Frame] = [(reply, reply, None, None, _encode(good))]
            if kind == "CONSUMER.INFO" and subject.endswith(".push"):
                frames.append(self._pushed())
            return frames
        if kind == "STREAM.MSG.GET" and shape.block is not None and "message" in good:
            good["message"]["hdrs"] = base64.b64encode(shape.block).decode()
            return [(reply, reply, None, None, _encode(good))]
        payload = b"" if shape.block is not None else shape.bend(good)
        return [(reply, reply, None, shape.block, payload)]

    def _good(
        self, kind: str, subject: str, request: dict[str, Any], body: bytes
    ) -> dict[str, Any]:
        bucket = f"b{self.number}"
        words = subject.split(".")
        stream = next((word for word in words if word.endswith(f"_{bucket}")), f"KV_{bucket}")
        if kind == "INFO":
            api = {"level": 9, "total": 1, "errors": 0}
            return {
                "memory": 0,
                "storage": 0,
                "streams": 1,
                "consumers": 0,
                "limits": {},
                "api": api,
            }
        if kind in ("STREAM.CREATE", "STREAM.UPDATE"):
            info = stream_info(stream)
            return {**info, "config": {**info["config"], **request}, "did_create": True}
        if kind == "STREAM.INFO":
            info = stream_info(stream)
            if "subjects_filter" in request:
                info["state"]["subjects"] = {request["subjects_filter"]: 1}
            return info
        if kind == "STREAM.LIST":
            infos = [stream_info(f"KV_{bucket}"), stream_info(f"OBJ_{bucket}")]
            return {"total": 2, "offset": 0, "limit": 256, "streams": infos}
        if kind == "STREAM.NAMES":
            names = [f"KV_{bucket}", f"OBJ_{bucket}"]
            return {"total": 2, "offset": 0, "limit": 1024, "streams": names}
        if kind == "STREAM.MSG.GET":
            wanted = request.get("last_by_subj", "")
            if ".M." in wanted and wanted != meta_subject(bucket):
                return {
                    "error": {"code": 404, "err_code": 10037, "description": "no message found"}
                }
            return {"type": "t", "message": self._stored(request)}
        if kind == "CONSUMER.LIST":
            consumers = [consumer_info("c", {}, 0)]
            return {"total": 1, "offset": 0, "limit": 256, "consumers": consumers}
        if kind == "CONSUMER.NAMES":
            return {"total": 1, "offset": 0, "limit": 1024, "consumers": ["c"]}
        if kind in ("CONSUMER.CREATE", "CONSUMER.RESET"):
            config = request.get("config", {})
            name = words[words.index(kind.split(".")[1]) + 2]
            self.case.filters[name] = config.get("filter_subject", ">")
            return {**consumer_info(name, config, 1), "reset_seq": 1}
        if kind == "CONSUMER.INFO":
            config = {"deliver_subject": f"odd.{self.number}.push"} if words[-1] == "push" else {}
            return consumer_info(words[-1], config, 1)
        if kind in ("CONSUMER.PAUSE", "CONSUMER.UNPIN"):
            return {"paused": True, "pause_until": TIME, "pause_remaining": 5}
        if kind in ("STREAM.DELETE", "STREAM.PURGE", "STREAM.MSG.DELETE", "CONSUMER.DELETE"):
            return {"success": True, "purged": 1}
        return {"stream": stream, "seq": 7, "duplicate": False, "batch": "B", "count": 1}

    def _stored(self, request: dict[str, Any]) -> dict[str, Any]:
        bucket = f"b{self.number}"
        subject = request.get("last_by_subj") or request.get("next_by_subj") or f"$KV.{bucket}.k"
        data = self._content(subject)
        encoded = base64.b64encode(data).decode()
        return {"subject": subject, "seq": 7, "data": encoded, "time": TIME}

    def _content(self, subject: str) -> bytes:
        if subject.startswith("$O.") and ".M." in subject:
            token = subject.rpartition(".")[2]
            name = "o" if token == ">" else base64.urlsafe_b64decode(token).decode()
            return self.object(object_info(f"b{self.number}", name))
        return CONTENT if subject.startswith("$O.") else b"value"

    def _direct(self, reply: str, body: bytes) -> list[Frame]:
        subject, several = f"$KV.b{self.number}.k", b"batch" in body
        own = f"Nats-Stream: S\r\nNats-Subject: {subject}\r\nNats-Sequence: 7\r\nNats-Time-Stamp: {TIME}"
        block = f"NATS/1.0\r\n{own}\r\nNats-Num-Pending: 0\r\n\r\n".encode()
        payload, shape = b"value", self.bent
        if shape is not None and shape.block is not None:
            block, payload = shape.block, b"" if shape.block[8:9] == b" " else payload
        elif shape is not None:
            payload = shape.bend({"a": 1, "b": "c", "d": [], "e": {}})
        frames: list[Frame] = [(reply, reply, None, block, payload)]
        if several:
            frames.append((reply, reply, None, b"NATS/1.0 204 EOB\r\n\r\n", b""))
        return frames

    def _messages(self, subject: str, reply: str, body: bytes) -> list[Frame]:
        """One message in all for each consumer, which an odd status may precede."""
        name, shape = subject.rpartition(".")[2], self.bent
        first = name not in self.case.sent
        self.case.sent.add(name)
        if not first and name != "c":
            if shape is None or shape.block is None or f"{name}!" in self.case.sent:
                return []
            self.case.sent.add(f"{name}!")
            shape = None
        shown = topic = self.case.filters.get(name, "odd.x").replace(">", "bw==").replace("*", "k")
        payload, block = self._content(topic), None
        ack: str | None = f"$JS.ACK.S.{name}.1.7.1.1700000000000000000.0"
        if shape is not None and shape.block is not None:
            block = shape.block
            if block[8:9] == b" ":
                payload, ack, shown = b"", None, reply
        elif shape is not None and shape.ack is not None:
            ack = shape.ack
        elif shape is not None:
            payload = shape.bend(object_info(f"b{self.number}"))
        return [(reply, shown, ack, block, payload)]

    def _pushed(self) -> Frame:
        """A message to a push consumer: odd if the case has the verb PUSH."""
        to, ack = f"odd.{self.number}.push", "$JS.ACK.S.push.1.7.1.1700000000000000000.0"
        shape = self.pushed or Shape("right")
        if shape.block is not None and shape.block[8:9] == b" ":
            return to, to, None, shape.block, b""
        return to, "a", shape.ack or ack, shape.block, shape.bend({"a": 1})

    def _fast(self, reply: str) -> list[Frame]:
        *_, number, operation, _ = reply.split(".")
        good: dict[str, Any] = {"type": "ack", "seq": int(number), "msgs": 100}
        if operation in ("2", "3"):
            good = {
                "stream": "S",
                "seq": 7,
                "batch": "B",
                "count": int(number) - (operation == "3"),
            }
        shape = self.bent
        if shape is None:
            return [(reply, reply, None, None, _encode(good))]
        return [(reply, reply, None, shape.block, b"" if shape.block else shape.bend(good))]
