"""What is done wrong on purpose, and what the client says: which server, stream or key it is, and what to do.

One row for each mistake of a new user. `AT_THE_CALL` has those that the call refuses, `WITHOUT_JETSTREAM` and
`WITH_JETSTREAM` those that a server answers; connection errors are in the tests before them.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lab.process import run_whole
from lab.steps import ignore
from nats_ev import (
    KV,
    BadOptionsError,
    BadSubjectError,
    BucketExistsError,
    BucketNotFoundError,
    ConnectError,
    ConnectTimeoutError,
    ConsumerNotFoundError,
    InvalidBucketNameError,
    InvalidKeyError,
    JetStream,
    JetStreamNotEnabledError,
    KeyExistsError,
    KeyNotFoundError,
    MaxPayloadError,
    MessageNotFoundError,
    Nats,
    NoRespondersError,
    NoServersError,
    NoStreamResponseError,
    ObjectNotFoundError,
    ObjectStore,
    ProtocolError,
    RequestTimeoutError,
    Service,
    ServiceError,
    StreamNotFoundError,
    UnreadableFileError,
    WrongLastSequenceError,
    aio,
    pyev,
)
from nats_ev.testing import free_port

# Connecting.


def failure(loop: pyev.Loop, **options: Any) -> Any:
    """Return the last error of a client that can't connect."""
    seen: list[Any] = []
    Nats(loop=loop, on_error=seen.append, **options)
    loop.start()
    return seen[-1]


@contextmanager
def peer(greeting: bytes) -> Iterator[int]:
    """Something that is no NATS server: it says its greeting to whoever connects, and waits."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        taken: list[socket.socket] = []

        def serve() -> None:
            sock, _ = listener.accept()
            taken.append(sock)
            sock.sendall(greeting)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield port
        thread.join(5)
        for sock in taken:
            sock.close()


def test_a_wrong_port_is_named(loop):
    port = free_port()
    error = failure(loop, host="127.0.0.1", port=port)
    assert type(error) is ConnectError
    assert str(error) == f"127.0.0.1:{port}: Connection refused"
    assert (error.address, error.server) == (f"127.0.0.1:{port}", f"nats://127.0.0.1:{port}")


def test_an_unknown_host_is_named(loop):
    error = failure(loop, host="no-such-host.invalid")
    assert str(error).startswith("no-such-host.invalid:4222: ")
    assert error.address == "no-such-host.invalid:4222"


def test_the_numbers_of_a_name_are_shown(loop):
    port = free_port()
    error = failure(loop, host="localhost", port=port)
    assert re.fullmatch(
        rf"localhost:{port} \([0-9a-f.:]+(, [0-9a-f.:]+)*\): Connection refused", str(error)
    )


def test_a_missing_unix_socket_is_named(loop, tmp_path):
    path = str(tmp_path / "missing")
    error = failure(loop, path=path)
    assert str(error) == f"{path}: No such file or directory"
    assert (error.address, error.server) == (path, f"unix://{path}")


def test_who_gives_up_names_all_servers_and_keeps_the_last_reason_but_no_secret(loop):
    ports = free_port(), free_port()
    urls = [f"nats://joe:pa55@127.0.0.1:{port}" for port in ports]
    options = {"reconnect": True, "reconnect_delay": 1, "max_reconnect_attempts": 1}
    error = failure(loop, servers=urls, **options)
    assert type(error) is NoServersError
    assert str(error) == (
        f"127.0.0.1:{ports[0]}, 127.0.0.1:{ports[1]}: max reconnect attempts reached"
    )
    assert str(error.__cause__).endswith(": Connection refused")
    for text in (str(error), repr(error.__cause__), repr(vars(error)), repr(vars(error.__cause__))):
        assert "pa55" not in text


def test_an_http_server_is_recognized_by_what_it_sends(loop):
    with peer(b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n") as port:
        error = failure(loop, host="127.0.0.1", port=port)
    assert type(error) is ProtocolError
    assert str(error) == (
        f"127.0.0.1:{port}: protocol error: unknown command (at byte 0): "
        "the peer sent b'HTTP/1.1 400 Bad Request'; is it a NATS server?"
    )
    assert error.address == f"127.0.0.1:{port}"


def test_a_first_line_that_is_no_info_is_shown(loop):
    with peer(b"PING\r\n") as port:
        error = failure(loop, host="127.0.0.1", port=port)
    assert "first line is not INFO: the peer sent b'PING'; is it a NATS server?" in str(error)


def test_a_silent_server_is_named(loop):
    with peer(b"") as port:
        error = failure(loop, host="127.0.0.1", port=port, connect_timeout=50)
    assert type(error) is ConnectTimeoutError
    assert str(error) == (
        f"127.0.0.1:{port}: the peer sends no INFO (is it a NATS server?): connect timeout"
    )


def test_a_wrong_password_keeps_the_words_of_the_server_and_names_the_server(loop, own_server):
    server = own_server(config='authorization { user: "u", password: "p" }')
    error = failure(loop, host="127.0.0.1", port=server.port, user="u", password="wr0ng")
    assert str(error) == "Authorization Violation"
    assert error.address == f"127.0.0.1:{server.port}"
    assert f"127.0.0.1:{server.port}" in error.__notes__[0]
    assert "wr0ng" not in repr(vars(error))


def test_a_stale_connection_is_named(loop, own_server, connected, run):
    server = own_server()
    nats = connected(server, ping_interval=20, max_pings_outstanding=1)
    server.suspend()
    run(lambda: nats.recorder.errors)
    (error,) = nats.recorder.errors
    assert str(error) == f"127.0.0.1:{server.port}: stale connection"


# At the call.


class Row(NamedTuple):
    """A mistake: what is called, the class of what it raises, and its text, of which … is any part."""

    call: Callable[[Nats], object]
    error: type[BaseException]
    text: str


async def coroutine(*message: object) -> None: ...


def generator(*message: object) -> Iterator[int]:
    yield 1


def two(a: object, b: object) -> None: ...


class Worker:
    def on_message(self, subject: str) -> None: ...

    def on_answer(self, response: bytes, err: object, headers: object) -> None: ...


MESSAGE = "(subject, payload, reply, headers)"
AT_THE_CALL = {
    "misspelt option": Row(
        lambda nats: Nats(reconect=True),
        TypeError,
        "unknown option 'reconect'; did you mean 'reconnect'?",
    ),
    "option of nats-py": Row(
        lambda nats: Nats(allow_reconnect=True),
        TypeError,
        "unknown option 'allow_reconnect'; did you mean 'reconnect'?",
    ),
    "option of nats.go": Row(
        lambda nats: Nats(max_reconnects=3),
        TypeError,
        "unknown option 'max_reconnects'; did you mean 'max_reconnect_attempts'?",
    ),
    "another client's word for connect_timeout": Row(
        lambda nats: Nats(timeout=3),
        TypeError,
        "unknown option 'timeout'; did you mean 'connect_timeout'?",
    ),
    "port that is too large": Row(
        lambda nats: Nats(servers="nats://127.0.0.1:99999"),
        BadOptionsError,
        "invalid server URL: '127.0.0.1:99999' (a port is 1 to 65535)",
    ),
    "option of a wrong type": Row(
        lambda nats: Nats(reconnect_delay="2s"),
        TypeError,
        "reconnect_delay must be milliseconds or a timedelta, not str",
    ),
    "host by position": Row(
        lambda nats: Nats("127.0.0.1"),
        TypeError,
        "…positional argument…: options are given by keyword, as in Nats(host='127.0.0.1')",
    ),
    "port in host": Row(
        lambda nats: Nats(host="127.0.0.1:4222"),
        BadOptionsError,
        "host has a port in it: give it as port=, or host:port as servers=",
    ),
    "scheme": Row(
        lambda nats: Nats(servers=["http://127.0.0.1:4222"]),
        BadOptionsError,
        "invalid server URL: 'http://127.0.0.1:4222' (…)",
    ),
    "file as seed": Row(
        lambda nats: Nats(nkey_seed="user.nk"),
        BadOptionsError,
        "invalid NKey seed: it seems to be a file's name; give the file's content",
    ),
    "public key as seed": Row(
        lambda nats: Nats(nkey_seed=Nats.nkey_public_from_seed(Nats.nkey_generate_user_seed())),
        BadOptionsError,
        "invalid NKey seed: it is a public key, and a seed begins with S",
    ),
    "blank in subject": Row(
        lambda nats: nats.publish("a b"), BadSubjectError, "invalid subject 'a b'"
    ),
    "dict as payload": Row(
        lambda nats: nats.publish("a", {}),
        TypeError,
        "payload must be bytes-like, str or None, not dict",
    ),
    "headers as third argument": Row(
        lambda nats: nats.publish("a", b"", {"A": "b"}),
        TypeError,
        "reply_to must be str, not dict: headers are the argument headers",
    ),
    "publish(reply=)": Row(
        lambda nats: nats.publish("a", b"", reply="b"),
        TypeError,
        "…unexpected keyword argument 'reply'…: the subject for answers is reply_to",
    ),
    "request(timeout=)": Row(
        lambda nats: nats.request("a", b"", ignore, timeout=2),
        TypeError,
        "…unexpected keyword argument 'timeout'…: the time-out is timeout_ms, in ms or a timedelta",
    ),
    "awaited request": Row(
        lambda nats: nats.request("a", b""),
        TypeError,
        "…'cb': answers come to cb(response, err, headers), later and on the loop: nothing is awaited",
    ),
    "subscribe(queue=)": Row(
        lambda nats: nats.subscribe("a", ignore, queue="q"),
        TypeError,
        "…unexpected keyword argument 'queue'…: the parameter is queue_group",
    ),
    "subscribe without cb": Row(
        lambda nats: nats.subscribe("a"),
        TypeError,
        f"…'cb': messages come to cb{MESSAGE}",
    ),
    "callback is None": Row(
        lambda nats: nats.subscribe("a", None),
        TypeError,
        "cb must be callable, not NoneType",
    ),
    "callback of two": Row(
        lambda nats: nats.subscribe("a", two),
        TypeError,
        f"cb is called with {MESSAGE}: two, test_what_messages_say.py:… does not take 4 arguments",
    ),
    "method of one": Row(
        lambda nats: nats.subscribe("a", Worker().on_message),
        TypeError,
        f"cb is called with {MESSAGE}: Worker.on_message, …does not take 4 arguments",
    ),
    "async def": Row(
        lambda nats: nats.subscribe("a", coroutine),
        TypeError,
        f"cb must be a plain function of {MESSAGE}: coroutine, … is an async function, …",
    ),
    "generator": Row(
        lambda nats: nats.subscribe("a", generator),
        TypeError,
        f"cb must be a plain function of {MESSAGE}: generator, … is a generator function, …",
    ),
    "on_error of none": Row(
        lambda nats: Nats(on_error=lambda: None),
        TypeError,
        "on_error is called with (err): …does not take 1 argument",
    ),
    "on_connect of one": Row(
        lambda nats: nats.on_connect(lambda nats: None),
        TypeError,
        "on_connect is called with (): …does not take 0 arguments",
    ),
    "flush callback of none": Row(
        lambda nats: nats.flush(lambda: None),
        TypeError,
        "cb is called with (err): …does not take 1 argument",
    ),
    "answers of one": Row(
        lambda nats: nats.request_many("a", b"", lambda response: None),
        TypeError,
        "cb is called with (response, err, headers): …does not take 3 arguments",
    ),
    "result of one": Row(
        lambda nats: JetStream(nats).account_info(lambda info: None),
        TypeError,
        "cb is called with (result, err): …does not take 2 arguments",
    ),
    "bucket's result of one": Row(
        lambda nats: KV(JetStream(nats), "b").get("k", lambda value: None),
        TypeError,
        "cb is called with (result, err): …does not take 2 arguments",
    ),
    "fields as keywords": Row(
        lambda nats: JetStream(nats).stream_create(name="A"),
        TypeError,
        "…'name'…: a configuration is one dict, as in stream_create({'name': 'A', …}, cb)",
    ),
    "bucket's fields as keywords": Row(
        lambda nats: KV(JetStream(nats), "b").create_bucket(history=5),
        TypeError,
        "…'history'…: a configuration is one dict, as in create_bucket({'history': 5}, cb)",
    ),
    "store's fields as keywords": Row(
        lambda nats: ObjectStore(JetStream(nats), "b").create_bucket(storage="memory"),
        TypeError,
        "…'storage'…: a configuration is one dict, as in create_bucket({'storage': 'file'}, cb)",
    ),
    "options of fetch as keywords": Row(
        lambda nats: JetStream(nats).fetch("S", "c", batch=10, cb=ignore),
        TypeError,
        "…'batch'…: options are one dict, as in fetch('S', 'c', {'batch': 10}, cb)",
    ),
    "consumer's fields as keywords": Row(
        lambda nats: JetStream(nats).consumer_create("S", durable_name="c"),
        TypeError,
        "…: a configuration is one dict, as in consumer_create('S', {'name': 'c'}, cb)",
    ),
    "unknown field": Row(
        lambda nats: JetStream(nats).stream_create({"name": "A", "max_messages": 1}, two),
        BadOptionsError,
        "unknown field 'max_messages' in stream configuration; did you mean 'max_msgs'?",
    ),
    "timeout of a fetch": Row(
        lambda nats: JetStream(nats).fetch("S", "c", {"timeout": 5}, two),
        BadOptionsError,
        "unknown field 'timeout' in fetch options; did you mean 'expires'?",
    ),
    "method of nats-py": Row(
        lambda nats: JetStream(nats).add_stream(name="A"),
        AttributeError,
        "'JetStream' object has no attribute 'add_stream': it is stream_create",
    ),
    "one subject in place of a list": Row(
        lambda nats: JetStream(nats).stream_create({"name": "A", "subjects": "a"}, two),
        TypeError,
        "subjects in stream configuration must be a list, not str",
    ),
    "update with nats-py's last": Row(
        lambda nats: KV(JetStream(nats), "b").update("a", b"", last=1),
        TypeError,
        "…'last': the parameter is revision",
    ),
    "30 s as ns": Row(
        lambda nats: JetStream(nats).consumer_create("S", {"name": "c", "ack_wait": 30}, two),
        BadOptionsError,
        "…ack_wait…timedelta…",
    ),
    "KV of a Nats": Row(
        lambda nats: KV(nats, "b"),
        TypeError,
        "KV takes a JetStream, not Nats: KV(JetStream(nats), 'b')",
    ),
    "ObjectStore of a Nats": Row(
        lambda nats: ObjectStore(nats, "b"),
        TypeError,
        "ObjectStore takes a JetStream, not Nats: ObjectStore(JetStream(nats), 'b')",
    ),
    "JetStream of a JetStream": Row(
        lambda nats: JetStream(JetStream(nats)),
        TypeError,
        "nats must be a Nats, not JetStream",
    ),
    "Service of a JetStream": Row(
        lambda nats: Service(JetStream(nats), name="s", version="1.0.0"),
        TypeError,
        "nats must be a Nats, not JetStream",
    ),
    "missing creds file": Row(
        lambda nats: Nats(creds_file="/no/such.creds"),
        UnreadableFileError,
        "cannot open creds file /no/such.creds: No such file or directory",
    ),
    "key": Row(
        lambda nats: KV(JetStream(nats), "b").get("a key", two),
        InvalidKeyError,
        "invalid key 'a key': letters, digits and -/_=. without an empty token between dots",
    ),
    "bucket": Row(
        lambda nats: KV(JetStream(nats), "my.bucket"),
        InvalidBucketNameError,
        "invalid bucket name 'my.bucket': letters, digits, dashes and underscores",
    ),
    "object into a name": Row(
        lambda nats: ObjectStore(JetStream(nats), "b").get("x", "out.bin", two),
        TypeError,
        "an object's content can't go into str: name a file by a pathlib.Path",
    ),
    "progress of one": Row(
        lambda nats: ObjectStore(JetStream(nats), "b").put("x", b"", progress=lambda done: None),
        TypeError,
        "progress is called with (bytes so far, bytes in all): …<lambda>, …does not take 2 arguments",
    ),
    "loop.run": Row(
        lambda nats: pyev.Loop().run(), AttributeError, "a Loop has no run(): start() runs it"
    ),
}


@pytest.mark.parametrize("row", AT_THE_CALL.values(), ids=AT_THE_CALL.keys())
def test_a_mistake_is_answered_at_the_call(row, connected, server):
    nats = connected(server)
    with pytest.raises(row.error) as caught:
        row.call(nats)
    assert re.fullmatch(".*".join(map(re.escape, row.text.split("…"))), str(caught.value))


def test_names_are_attributes_of_what_the_call_raises(connected, server):
    nats = connected(server)
    js = JetStream(nats)
    with pytest.raises(InvalidKeyError) as key:
        KV(js, "b").get("a key", two)
    with pytest.raises(InvalidBucketNameError) as bucket:
        KV(js, "my.bucket")
    with pytest.raises(BadSubjectError) as subject:
        nats.publish("a b")
    with pytest.raises(MaxPayloadError) as payload:
        nats.publish("large", b"x" * 2_000_000)
    assert (key.value.key, bucket.value.bucket) == ("a key", "my.bucket")
    assert subject.value.subject == "a b"
    assert (payload.value.size, payload.value.subject) == (2_000_000, "large")
    assert str(payload.value) == f"payload exceeds max_payload ({payload.value.limit})"


@pytest.mark.parametrize(
    "callback",
    [
        lambda *message: None,
        lambda subject, payload, reply, headers, more=1: None,
        lambda subject, payload=b"", *rest, **named: None,
        partial(two, 1),
        print,
        [].append,
        type("Callable", (), {"__call__": two})(),
    ],
)
def test_what_may_take_the_arguments_is_accepted(connected, server, callback):
    connected(server).subscribe("a", callback)


def test_a_request_says_where_a_callback_of_wrong_arity_is(connected, server, run, excepthook):
    nats = connected(server)
    nats.subscribe("a", lambda subject, payload, reply, headers: nats.publish(reply, b"x"))
    nats.request("a", b"", lambda response: None)
    nats.request("silent", b"", lambda: None, 20)
    nats.subscribe("silent", ignore)
    run(lambda: len(excepthook) == 2)
    for error, given in zip(excepthook, ("1 positional argument", "0 positional"), strict=True):
        assert f"<lambda>() takes {given}" in str(error)
        assert re.search(
            r"\(/.*/test_what_messages_say\.py:\d+\); .* \(response, err, he", str(error)
        )


def test_the_first_answer_says_where_a_callback_of_wrong_arity_is(client, server, run, excepthook):
    nats = client(server)  # one that is connected sends its requests in another way
    nats.subscribe("a", lambda subject, payload, reply, headers: nats.publish(reply, b"x"))
    nats.request("a", b"", lambda response: None)
    run(lambda: excepthook)
    assert re.search(r"given \(/.*/test_what_messages_say\.py:\d+\); ", str(excepthook[0]))


def test_a_stored_message_says_where_a_callback_of_wrong_arity_is(
    connected, server, run, excepthook
):
    js = JetStream(connected(server))
    js.stream_create({"name": "ARITY", "subjects": ["arity"], "storage": "memory"}, ignore)
    js.publish("arity", b"", lambda ack: None)
    run(lambda: excepthook)
    assert re.search(r"test_what_messages_say\.py:\d+\); .*\(result, err\)", str(excepthook[0]))


def test_a_timer_says_where_a_callback_of_wrong_arity_is(excepthook):
    loop = pyev.Loop()
    timer = loop.timer(0.0, 0.0, lambda: None)
    timer.start()
    loop.start()
    assert re.search(
        r"test_what_messages_say\.py:\d+\); .*\(watcher, revents\)", str(excepthook[0])
    )


def test_a_client_that_is_not_awaited_says_so():
    connecting = aio.connect("nats://127.0.0.1:1")
    with pytest.raises(AttributeError, match=r"no publish: write `await connect"):
        connecting.publish("a", b"")  # type: ignore[attr-defined]
    connecting.close()


def test_a_type_error_of_the_callback_itself_stays_as_it_is(connected, server, run, excepthook):
    nats = connected(server)

    def answered(response: Any, err: Any, headers: Any) -> None:
        two(1)

    nats.request("nobody", b"", answered, no_responders=True)
    run(lambda: excepthook)
    assert str(excepthook[0]) == "two() missing 1 required positional argument: 'b'"


@pytest.mark.parametrize("subject", ["a.*", "a.>", "a..b", "a.", ".a", "*", ">"])
def test_strict_subjects_refuses_what_reaches_nobody(connected, server, run, subject):
    lax, strict = connected(server), connected(server, strict_subjects=True)
    lax.publish(subject, b"")
    for call in (
        lambda: strict.publish(subject, b""),
        lambda: strict.publish(subject, b"", headers={"A": "b"}),
        lambda: strict.hpublish(subject, {"A": "b"}, b""),
        lambda: strict.request(subject, b"", ignore),
        lambda: strict.request_many(subject, b"", ignore),
    ):
        with pytest.raises(BadSubjectError, match=r"wildcard|empty token") as caught:
            call()
        assert caught.value.subject == subject
    assert strict.stats()["accepted"] == 0


def test_with_strict_subjects_all_else_works(connected, server, run):
    strict, got = connected(server, strict_subjects=True), []
    strict.subscribe("a.*", lambda subject, payload, reply, headers: got.append((payload, reply)))
    strict.publish("a.b", b"1", "r")
    strict.hpublish("a.b", {"A": "b"}, b"2")
    strict.request("a.b", b"3", ignore)
    JetStream(strict).stream_list({"subject": "a.*"}, lambda result, err: got.append(err))
    run(lambda: len(got) == 4)
    assert [each[0] for each in got if each] == [b"1", b"2", b"3"]


def test_a_file_s_name_as_content_is_a_warning(connected, server):
    store = ObjectStore(JetStream(connected(server)), "b")
    with pytest.warns(UserWarning, match=r"give pathlib\.Path\('/etc/passwd'\)"):
        store.put("x", "/etc/passwd", ignore)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.put("x", "/no/such/file", ignore)
        store.put("x", "a text", ignore)
        store.put("x", b"/etc/passwd", ignore)


# What a server answers.


class Answer(NamedTuple):
    """A call whose callback gets an error: its class, its text and its attributes."""

    call: Callable[[JetStream, Callable[[Any, Any], None]], object]
    error: type[BaseException]
    text: str
    names: dict[str, str]


def asks(verb: str, **names: str) -> Any:
    subject = f"$JS.API.{verb}"
    text = f"no responders on {subject}: is JetStream enabled on this server (nats-server -js)?"
    return JetStreamNotEnabledError, text, {"subject": subject, **names}


STREAM = {"name": "S", "subjects": ["s"]}
NO_STREAM = (
    "no stream stores subject 'orders.new': no responders (is JetStream enabled on this server?)"
)
NO_CONSUMER = "no consumer 'c' of stream 'S' answers: no responders (do both exist, …)"
WITHOUT_JETSTREAM = {
    "account_info": Answer(lambda js, cb: js.account_info(cb), *asks("INFO")),
    "stream_create": Answer(
        lambda js, cb: js.stream_create(STREAM, cb), *asks("STREAM.CREATE.S", stream="S")
    ),
    "consumer_info": Answer(
        lambda js, cb: js.consumer_info("S", "c", cb),
        *asks("CONSUMER.INFO.S.c", stream="S", consumer="c"),
    ),
    "publish": Answer(
        lambda js, cb: js.publish("orders.new", b"", cb, retry_attempts=0),
        NoStreamResponseError,
        NO_STREAM,
        {"subject": "orders.new"},
    ),
    "fetch": Answer(
        lambda js, cb: js.fetch("S", "c", cb),
        NoStreamResponseError,
        NO_CONSUMER,
        {"stream": "S", "consumer": "c"},
    ),
    "KV.put": Answer(
        lambda js, cb: KV(js, "b").put("k", b"", cb), *asks("STREAM.INFO.KV_b", stream="KV_b")
    ),
    "KV.get": Answer(
        lambda js, cb: KV(js, "b").get("k", cb), *asks("STREAM.INFO.KV_b", stream="KV_b")
    ),
    "create_bucket": Answer(
        lambda js, cb: KV(js, "b").create_bucket({}, cb),
        *asks("STREAM.CREATE.KV_b", stream="KV_b"),
    ),
    "ObjectStore.list": Answer(
        lambda js, cb: ObjectStore(js, "b").list(cb), JetStreamNotEnabledError, "…OBJ_b…", {}
    ),
}
WITH_JETSTREAM = {
    "no stream for the subject": Answer(
        lambda js, cb: js.publish("orders.new", b"", cb, retry_attempts=0),
        NoStreamResponseError,
        NO_STREAM,
        {"subject": "orders.new"},
    ),
    "no stream": Answer(
        lambda js, cb: js.stream_info("NO", cb),
        StreamNotFoundError,
        "stream not found (code 404): stream 'NO'",
        {"stream": "NO"},
    ),
    "no consumer": Answer(
        lambda js, cb: js.consumer_info("SAYS", "c", cb),
        ConsumerNotFoundError,
        "consumer not found (code 404): consumer 'c' of stream 'SAYS'",
        {"stream": "SAYS", "consumer": "c"},
    ),
    "fetch without consumer": Answer(
        lambda js, cb: js.fetch("S", "c", cb),
        NoStreamResponseError,
        NO_CONSUMER,
        {"stream": "S", "consumer": "c"},
    ),
    "message": Answer(
        lambda js, cb: js.stream_msg_get("SAYS", {"seq": 999}, cb),
        MessageNotFoundError,
        "no message found (code 404): stream 'SAYS'",
        {"stream": "SAYS"},
    ),
    "wrong sequence": Answer(
        lambda js, cb: js.publish("says.a", b"", cb, expect_last_seq=999),
        WrongLastSequenceError,
        "wrong last sequence: 0 (code 400): subject 'says.a'",
        {"subject": "says.a"},
    ),
    "direct get": Answer(
        lambda js, cb: js.direct_get("SAYS", 1, cb),
        NoStreamResponseError,
        "no stream 'SAYS' answers: no responders (does it exist, with allow_direct, …)",
        {"stream": "SAYS"},
    ),
    "no bucket": Answer(
        lambda js, cb: KV(js, "nope").put("k", b"", cb),
        BucketNotFoundError,
        "bucket not found: 'nope'",
        {"bucket": "nope"},
    ),
    "no bucket, read": Answer(
        lambda js, cb: KV(js, "nope").get("k", cb),
        BucketNotFoundError,
        "bucket not found: 'nope'",
        {"bucket": "nope"},
    ),
    "no store": Answer(
        lambda js, cb: ObjectStore(js, "nope").put("x", b"", cb),
        BucketNotFoundError,
        "bucket not found: 'nope'",
        {"bucket": "nope"},
    ),
    "bucket exists": Answer(
        lambda js, cb: KV(js, "says").create_bucket({"max_history": 9, "storage": "memory"}, cb),
        BucketExistsError,
        "bucket already exists with another configuration: 'says'",
        {"bucket": "says"},
    ),
    "key exists": Answer(
        lambda js, cb: KV(js, "says").create("taken", b"", cb),
        KeyExistsError,
        "key exists: taken",
        {"bucket": "says", "key": "taken"},
    ),
    "no revision": Answer(
        lambda js, cb: KV(js, "says").get_revision("missing", 999, cb),
        KeyNotFoundError,
        "key not found: missing",
        {"bucket": "says", "key": "missing"},
    ),
    "no object": Answer(
        lambda js, cb: ObjectStore(js, "says").delete("missing", cb),
        ObjectNotFoundError,
        "object not found: missing",
        {"bucket": "says", "name": "missing"},
    ),
}


def check(answer: Answer, error: Any) -> None:
    assert type(error) is answer.error, error
    assert re.fullmatch(".*".join(map(re.escape, answer.text.split("…"))), str(error))
    assert {name: getattr(error, name) for name in answer.names} == answer.names


@pytest.fixture(scope="module")
def plain(needs_server) -> Iterator[Any]:
    from lab.natsserver import NatsServer

    with NatsServer() as running:
        yield running


@pytest.mark.parametrize("answer", WITHOUT_JETSTREAM.values(), ids=WITHOUT_JETSTREAM.keys())
def test_without_jetstream_the_answer_asks_the_question(answer, plain, connected, call):
    _, error = call(partial(answer.call, JetStream(connected(plain))))
    check(answer, error)
    assert isinstance(error, NoRespondersError)


@pytest.mark.parametrize("answer", WITH_JETSTREAM.values(), ids=WITH_JETSTREAM.keys())
def test_an_answer_says_what_it_is_about(answer, js, call):
    call(js.stream_create, {"name": "SAYS", "subjects": ["says.*"], "storage": "memory"})
    call(KV(js, "says").create_bucket, {"storage": "memory"})
    call(KV(js, "says").put, "taken", b"")
    call(ObjectStore(js, "says").create_bucket, {"storage": "memory"})
    _, error = call(partial(answer.call, js))
    check(answer, error)


def test_another_prefix_is_part_of_the_question(plain, connected, call):
    js = JetStream(connected(plain), domain="hub")
    _, error = call(js.account_info)
    assert str(error).endswith("? Does it serve the prefix or domain of '$JS.hub.API'?")


def test_requests_keep_the_words_of_the_manual_and_name_their_subject(connected, server, run):
    nats, errors = connected(server), []
    nats.subscribe("silent.*", ignore)

    def answered(response: Any, err: Any, headers: Any) -> None:
        errors.append(err)

    nats.request("nobody", b"", answered, no_responders=True)
    for subject in ("silent.a", "silent.b"):
        nats.request(subject, b"", answered, 30)
    nats.request_many("silent.c", b"", answered, 30)
    run(lambda: len(errors) == 4)
    assert sorted((str(e), e.subject) for e in errors) == [
        ("no responders", "nobody"), ("request timeout", "silent.a"),
        ("request timeout", "silent.b"), ("request timeout", "silent.c"),
    ]  # fmt: skip
    assert {type(error) for error in errors} == {NoRespondersError, RequestTimeoutError}


def test_a_service_hides_what_its_handler_raised(connected, server, run, excepthook):
    nats, told = connected(server), []

    def handler(request: Any) -> None:
        raise RuntimeError("/etc/secret: no such file")

    service = Service(nats, name="bug", version="1.0.0")
    service.add_endpoint("e", handler, "bug.e")
    nats.request("bug.e", b"", lambda response, err, headers: told.append(headers))
    run(lambda: told)
    error = ServiceError.from_headers(told[0])
    assert (error.code, error.description) == ("500", "internal error")
    assert b"secret" not in told[0]
    assert "secret" not in repr(service.stats())
    assert [str(exc) for exc in excepthook] == ["/etc/secret: no such file"]


# Programs.


def program(code: str, port: int) -> subprocess.CompletedProcess[str]:
    return run_whole([sys.executable, "-W", "error", "-c", code.format(port=port)], timeout=20)


NEVER_RUN = """
from nats_ev import Nats
nats = Nats(host="127.0.0.1", port={port})
for _ in range({count}):
    nats.publish("a", b"")
{then}
"""


@pytest.mark.parametrize(
    ("count", "then", "said"),
    [
        (1000, "", "nats_ev: 1000 messages were never sent: the loop has not run\n"),
        (1, "nats.drain()", "nats_ev: 1 message was never sent: the loop has not run\n"),
        (0, "", ""),
        (5, "nats.disconnect()", ""),
        (5, "from nats_ev import pyev; nats.drain(); pyev.default_loop().start()", ""),
    ],
)
def test_a_loop_that_never_ran_is_named_at_the_end(server, count, then, said):
    code = NEVER_RUN.replace("{count}", str(count)).replace("{then}", then)
    ended = program(code, server.port)
    assert (ended.returncode, ended.stderr) == (0, said)


def test_the_default_loop_takes_debug_at_any_time():
    code = "from nats_ev import pyev; pyev.default_loop(); loop = pyev.default_loop(debug=True)\n"
    code += "t = loop.timer(0, 0, lambda *event: 1 / 0); t.start(); loop.start()"
    ended = program(code, 0)
    assert ended.returncode == 1
    assert ended.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_paths_in_texts_are_those_of_the_user(connected, server):
    with pytest.raises(TypeError, match=re.escape(Path(__file__).name)):
        connected(server).subscribe("a", two)
