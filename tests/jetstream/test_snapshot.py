"""`stream_snapshot` and `stream_restore`: whole streams as bytes, from each line to each newer one."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest

from lab import inside
from lab.server_versions import LINES
from nats_ev import (
    APIError,
    BadOptionsError,
    ConnectionClosedError,
    ConnectionLostError,
    InvalidAnswerError,
    JetStream,
    NatsError,
    NoRespondersError,
    PermissionsViolationError,
    RequestTimeoutError,
    SnapshotError,
    StreamNotFoundError,
    aio,
    blocking,
)

MESSAGES = 400


@pytest.fixture
def filled(any_js: Any, call: Any) -> JetStream:
    """A stream S of about half a megabyte that can't be compressed, with a consumer at message 10."""
    fill(any_js, call)
    return any_js  # type: ignore[no-any-return]


def fill(js: JetStream, call: Any) -> None:
    noise = iter_noise()
    assert call(js.stream_create, {"name": "S", "subjects": ["s.>"]})[1] is None
    for number in range(1, MESSAGES + 1):
        headers = {"N": str(number)} if number % 3 else None
        js.publish_async(f"s.{number % 5}", next(noise), lambda ack, err: None, headers=headers)
    assert call(js.publish_complete) == (True, None)
    config = {"durable_name": "d", "ack_policy": "all"}
    assert call(js.consumer_create, "S", config)[1] is None
    messages, _ = call(js.fetch, "S", "d", {"batch": 10})
    assert call(messages[-1].ack_sync)[1] is None


def iter_noise() -> Any:
    import random

    rng = random.Random(7)
    while True:
        yield rng.randbytes(1300)


def snapshot(js: JetStream, call: Any, **options: Any) -> tuple[Any, bytes]:
    file = io.BytesIO()
    backup, err = call(js.stream_snapshot, "S", file, **options)
    assert err is None
    return backup, file.getvalue()


def content(js: JetStream, call: Any, last: int) -> list[Any]:
    """All messages up to a sequence."""
    found = []
    for seq in range(1, last + 1):
        message, err = call(js.get_msg, "S", seq)
        assert err is None
        found.append((message.seq, message.subject, message.data, message.headers, message.time))
    return found


def test_there_and_back_again(filled: JetStream, call: Any) -> None:
    seen: list[Any] = []
    backup, data = snapshot(filled, call, progress=lambda *args: seen.append(args))
    before = content(filled, call, MESSAGES)
    assert backup["config"]["name"] == "S"
    assert backup["state"]["last_seq"] == MESSAGES
    assert seen[-1][0] == len(data)
    assert call(filled.stream_delete, "S")[1] is None
    taken: list[Any] = []
    info, err = call(filled.stream_restore, backup, data, progress=lambda *args: taken.append(args))
    assert err is None
    assert info["state"]["messages"] == MESSAGES
    assert taken[-1] == (len(data), len(data))
    assert content(filled, call, MESSAGES) == before
    assert call(filled.consumer_info, "S", "d")[0]["ack_floor"]["stream_seq"] == 10


@pytest.mark.parametrize(("old", "new"), [(a, b) for b in LINES for a in LINES if a < b])
def test_newer_lines_take_the_copies_of_older_ones(
    connected: Any, line_server: Any, call: Any, run: Any, old: str, new: str
) -> None:
    """Published while the copy is made: all messages up to the copy's last sequence, one by one."""
    here, there = (JetStream(connected(line_server(line))) for line in (old, new))
    fill(here, call)
    file, got, sent = io.BytesIO(), [], MESSAGES

    def more(*answer: Any) -> None:
        nonlocal sent
        if not got:
            sent += 1
            here.publish_async("s.more", b"%d" % sent, more)

    more()
    here.stream_snapshot("S", file, lambda *answer: got.append(answer), window_size=128 * 1024)
    run(lambda: got)
    [(backup, err)] = got
    assert err is None
    assert call(here.publish_complete) == (True, None)
    last = backup["state"]["last_seq"]
    assert MESSAGES <= last <= sent
    file.seek(0)
    info, err = call(there.stream_restore, backup, file)
    assert err is None
    assert info["state"]["last_seq"] >= last
    assert content(there, call, last) == content(here, call, last)
    assert call(there.consumer_info, "S", "d")[0]["ack_floor"]["stream_seq"] == 10
    for js in (here, there):
        assert call(js.stream_delete, "S")[1] is None


def test_targets_and_sources(filled: JetStream, call: Any) -> None:
    pieces: list[bytes] = []
    backup, err = call(filled.stream_snapshot, "S", pieces.append, chunk_size=10_000)
    assert err is None
    assert max(map(len, pieces)) == 10_000
    data = b"".join(pieces)
    for source in (pieces, iter([b"", *pieces]), bytearray(data), io.BytesIO(data), [data]):
        assert call(filled.stream_delete, "S")[1] is None
        info, err = call(filled.stream_restore, backup, source, chunk_size=20_000)
        assert err is None
        assert info["state"]["messages"] == MESSAGES


def test_without_consumers(filled: JetStream, call: Any) -> None:
    backup, data = snapshot(filled, call, consumers=False, check=True)
    call(filled.stream_delete, "S")
    assert call(filled.stream_restore, backup, data)[1] is None
    assert call(filled.consumer_names, "S") == ([], None)


def test_of_an_empty_stream(any_js: Any, call: Any) -> None:
    call(any_js.stream_create, {"name": "S", "subjects": ["s"]})
    backup, data = snapshot(any_js, call)
    call(any_js.stream_delete, "S")
    info, err = call(any_js.stream_restore, backup, data)
    assert (info["state"]["messages"], err) == (0, None)


def test_what_does_not_exist_exists_or_is_in_memory(filled: JetStream, call: Any) -> None:
    into = io.BytesIO()
    assert isinstance(call(filled.stream_snapshot, "NO", into)[1], StreamNotFoundError)
    backup, data = snapshot(filled, call)
    _, err = call(filled.stream_restore, backup, data)
    assert isinstance(err, APIError)
    assert err.stream == "S"


@pytest.mark.parametrize("line", LINES[1:])
def test_old_servers_copy_no_streams_in_memory(
    connected: Any, line_server: Any, call: Any, line: str
) -> None:
    js = JetStream(connected(line_server(line)))
    call(js.stream_create, {"name": "M", "subjects": ["m"], "storage": "memory"})
    _, err = call(js.stream_snapshot, "M", io.BytesIO())
    assert isinstance(err, APIError)
    call(js.stream_delete, "M")


@pytest.mark.since(2, 15)
def test_new_servers_copy_streams_in_memory(js: Any, call: Any) -> None:
    call(js.stream_create, {"name": "S", "subjects": ["s"], "storage": "memory"})
    call(js.publish, "s", b"x")
    backup, data = snapshot(js, call)
    call(js.stream_delete, "S")
    info, err = call(js.stream_restore, backup, data)
    assert (info["state"]["messages"], info["config"]["storage"], err) == (1, "memory", None)


def test_damaged_bytes_create_nothing(filled: JetStream, call: Any) -> None:
    backup, data = snapshot(filled, call)
    call(filled.stream_delete, "S")
    odd = data[:1000] + bytes(b ^ 0xFF for b in data[1000:3000]) + data[3000:]
    for bytes_ in (odd, b"x" * 100):
        info, err = call(filled.stream_restore, backup, bytes_)
        assert info is None
        assert isinstance(err, APIError)
    assert isinstance(call(filled.stream_info, "S")[1], StreamNotFoundError)


def test_a_target_that_raises_ends_it(filled: JetStream, call: Any) -> None:
    before = filled.nats.subscription_count()

    def full(data: bytes) -> None:
        raise OSError(28, "no space")

    _, err = call(filled.stream_snapshot, "S", full)
    assert isinstance(err, SnapshotError)
    assert isinstance(err.__cause__, OSError)
    assert "no space" in str(err)
    _, err = call(filled.stream_snapshot, "S", io.BytesIO(), progress=lambda *a: 1 / 0)
    assert isinstance(err.__cause__, ZeroDivisionError)
    assert filled.nats.subscription_count() == before


def test_a_source_that_raises_creates_nothing(filled: JetStream, call: Any) -> None:
    backup, data = snapshot(filled, call)
    call(filled.stream_delete, "S")

    def source() -> Any:
        yield data[: len(data) // 2]
        raise OSError("unreadable")

    _, err = call(filled.stream_restore, backup, source())
    assert isinstance(err, SnapshotError)
    assert isinstance(err.__cause__, OSError)
    assert isinstance(call(filled.stream_info, "S")[1], StreamNotFoundError)


def test_cancel(filled: JetStream, call: Any, run: Any) -> None:
    got: list[Any] = []
    running: Any = None

    def into(data: bytes) -> None:
        running.cancel()
        running.cancel()

    running = filled.stream_snapshot("S", into, lambda *answer: got.append(answer), chunk_size=1024)
    run(lambda: got)
    running.cancel()
    assert isinstance(got[0][1], SnapshotError)
    assert (running.ended, running.chunks, len(got)) == (True, 1, 1)
    backup, data = snapshot(filled, call)
    call(filled.stream_delete, "S")
    running = filled.stream_restore(
        backup, data, lambda *answer: got.append(answer), chunk_size=1024,
        progress=lambda *args: running.cancel(),
    )  # fmt: skip
    run(lambda: len(got) == 2)
    assert isinstance(got[1][1], SnapshotError)
    assert isinstance(call(filled.stream_info, "S")[1], StreamNotFoundError)


def test_a_restore_that_is_cancelled_at_its_last_chunks(
    js: Any, connected: Any, line_server: Any, call: Any, run: Any
) -> None:
    """The server never gets the end; it may build the stream without, and the error says so."""
    there = connected(line_server("newest"))
    sizes: list[int] = []
    got: list[Any] = []

    def answer(subject: str, payload: bytes, reply: str | None, headers: Any) -> None:
        if not subject.startswith("odd.STREAM"):
            sizes.append(len(payload))
        there.publish(reply, b"" if sizes else b'{"deliver_subject": "odd.chunks"}')

    there.subscribe("odd.>", answer)
    assert call(lambda cb: there.flush(lambda err: cb(None, err)))[1] is None
    other = JetStream(js.nats, prefix="odd")
    running = other.stream_restore(
        {"config": {"name": "S"}, "state": {}}, bytes(3000), lambda *answer: got.append(answer),
        chunk_size=1024, progress=lambda *args: running.cancel(),
    )  # fmt: skip
    run(lambda: got)
    for nats in (js.nats, there):
        assert call(lambda cb: nats.flush(lambda err: cb(None, err)))[1] is None  # noqa: B023
    assert (sizes, len(got), running.bytes) == ([1024, 1024, 952], 1, 1024)
    assert "may exist now" in str(got[0][1])
    assert "was cancelled" in str(got[0][1])


@pytest.mark.parametrize("where", ["target", "source", "progress"])
def test_an_interrupt_ends_it(filled: JetStream, call: Any, run: Any, where: str) -> None:
    """Ctrl-C comes out of the loop; after that, no incomplete copy passes for a complete one."""
    backup, data = snapshot(filled, call)
    got: list[Any] = []
    chunks: list[int] = []

    def interrupted(*args: Any) -> None:
        chunks.append(1)
        if len(chunks) == 3:
            raise KeyboardInterrupt

    def source() -> Any:
        for at in range(0, len(data), 1024):
            interrupted()
            yield data[at : at + 1024]

    def begin() -> None:
        if where == "target":
            filled.stream_snapshot(
                "S", interrupted, lambda *answer: got.append(answer), chunk_size=1024
            )
            return
        call(filled.stream_delete, "S")
        progress = interrupted if where == "progress" else None
        filled.stream_restore(
            backup, source() if where == "source" else data,
            lambda *answer: got.append(answer), progress=progress, chunk_size=1024,
        )  # fmt: skip

    begin()
    with pytest.raises(KeyboardInterrupt):
        run(lambda: got)
    run(lambda: got)
    assert isinstance(got[0][1], SnapshotError)
    assert isinstance(got[0][1].__cause__, KeyboardInterrupt)
    assert (len(got), len(chunks)) == (1, 3)
    if where != "target":
        assert isinstance(call(filled.stream_info, "S")[1], StreamNotFoundError)


def test_a_lost_connection_ends_both(
    js: Any, proxy: Any, connected: Any, call: Any, run: Any
) -> None:
    fill(js, call)
    backup, data = snapshot(js, call)
    gate = proxy(int(js.nats.connected_url().rpartition(":")[2]))
    other = JetStream(connected(None, servers=[gate.url], reconnect=True))
    pieces: list[bytes] = []
    got: list[Any] = []
    other.stream_snapshot(
        "S", pieces.append, lambda *answer: got.append(answer), chunk_size=1024, window_size=1024
    )
    run(lambda: pieces)
    gate.cut()
    run(lambda: got)
    assert isinstance(got.pop()[1], ConnectionLostError)
    run(other.nats.is_connected)
    call(js.stream_delete, "S")
    running = other.stream_restore(
        backup, data, lambda *answer: got.append(answer), chunk_size=1024
    )
    run(lambda: running.bytes)
    gate.cut()
    run(lambda: got)
    assert isinstance(got[0][1], (ConnectionLostError, ConnectionClosedError))
    assert other.nats.subscription_count() == 1  # that of all requests
    assert isinstance(call(js.stream_info, "S")[1], StreamNotFoundError)


def test_a_client_that_ends_inside_ends_it(filled: JetStream, run: Any) -> None:
    """Also without a limit of time."""
    got: list[Any] = []
    filled.stream_snapshot(
        "S", lambda data: filled.nats.disconnect(), lambda *answer: got.append(answer),
        chunk_size=1024, window_size=1024, timeout=0,
    )  # fmt: skip
    run(lambda: got)
    assert isinstance(got[0][1], ConnectionClosedError)
    filled.nats.connect()
    run(filled.nats.is_connected)


def test_odd_answers_and_subjects(js: Any, connected: Any, line_server: Any, call: Any) -> None:
    """From what answers in the place of a server."""
    there = connected(line_server("newest"))
    other = JetStream(connected(line_server("newest")), prefix="odd")
    answers: list[bytes] = []
    there.subscribe("odd.>", lambda s, p, reply, h: there.publish(reply, answers[-1]))
    assert call(lambda cb: there.flush(lambda err: cb(None, err)))[1] is None
    backup = {"config": {"name": "S"}, "state": {}}
    for odd in (b"", b"{", b"[]", b'{"config": 1}', b'{"config": {}, "state": []}', b"[" * 99_999):
        answers.append(odd)
        assert isinstance(call(other.stream_snapshot, "S", io.BytesIO())[1], InvalidAnswerError)
        assert isinstance(call(other.stream_restore, backup, b"x")[1], InvalidAnswerError)
    for odd in (b'{"deliver_subject": "a b"}', b'{"deliver_subject": ""}'):
        answers.append(odd)
        assert isinstance(call(other.stream_restore, backup, b"x")[1], NatsError)
    answers.append(b'{"deliver_subject": "odd.again"}')
    assert isinstance(call(other.stream_restore, backup, b"x")[1], InvalidAnswerError)
    answers.append(b'{"deliver_subject": "nobody.is.here"}')
    assert isinstance(call(other.stream_restore, backup, b"x")[1], NoRespondersError)
    assert inside.waiting_requests(other.nats) == 0


def test_statuses_and_gaps(js: Any, connected: Any, line_server: Any, call: Any) -> None:
    there = connected(line_server("newest"))
    other = JetStream(connected(line_server("newest")), prefix="odd")
    ack = "$JS.SNAPSHOT.ACK.S.x.3"
    frames: list[Any] = []

    def answer(subject: str, payload: bytes, reply: str, headers: Any) -> None:
        there.publish(reply, b'{"config": {"name": "S"}, "state": {"messages": 1}}')
        for data, number, head in frames:
            where = json.loads(payload)["deliver_subject"]
            to = f"{ack}.{number}" if number else None
            there.publish(where, data, to, headers=head)

    there.subscribe("odd.>", answer)
    assert call(lambda cb: there.flush(lambda err: cb(None, err)))[1] is None
    good = [(b"abc", 1, None), (b"def", 2, None), (b"g", 0, None)]
    for code, end in ((408, "No Flow Response"), (500, "bad disk"), (408, "No Interest")):
        frames[:] = [*good, (b"", 0, f"NATS/1.0 {code} {end}\r\n\r\n".encode())]
        _, err = call(other.stream_snapshot, "S", io.BytesIO())
        assert isinstance(err, SnapshotError)
        assert (err.code, end in str(err)) == (code, True)
    for end in (None, b"NATS/1.0 204\r\n\r\n"):
        frames[:] = [*good, (b"", 0, end)]
        file = io.BytesIO()
        assert call(other.stream_snapshot, "S", file)[1] is None
        assert file.getvalue() == b"abcdefg"
    frames[:] = [good[0], (b"ghi", 3, None), (b"", 0, None)]
    _, err = call(other.stream_snapshot, "S", io.BytesIO())
    assert isinstance(err, SnapshotError)
    assert "missing" in str(err)
    frames[:] = good[:1]  # and then silence
    _, err = call(other.stream_snapshot, "S", io.BytesIO(), timeout=50)
    assert isinstance(err, RequestTimeoutError)


def test_a_drain_lets_them_end(
    js: Any, connected: Any, line_server: Any, call: Any, run: Any
) -> None:
    fill(js, call)
    nats = connected(line_server("newest"))
    other, file, got = JetStream(nats), io.BytesIO(), []
    other.stream_snapshot("S", file, lambda *answer: got.append(answer), chunk_size=1024)
    nats.drain(lambda err: got.append(("drained", err)))
    run(lambda: len(got) == 2)
    backup, err = got[0]
    assert (err, got[1]) == (None, ("drained", None))
    call(js.stream_delete, "S")
    nats = connected(line_server("newest"))
    got.clear()
    JetStream(nats).stream_restore(
        backup, file.getvalue(), lambda *answer: got.append(answer), chunk_size=1024
    )
    nats.drain(lambda err: got.append(("drained", err)))
    run(lambda: len(got) == 2)
    assert (got[0][1], got[1]) == (None, ("drained", None))
    assert call(js.stream_info, "S")[0]["state"]["messages"] == MESSAGES


def test_what_a_user_may_not(own_server: Any, connected: Any, call: Any) -> None:
    deny = 'permissions: { publish: { deny: "$JS.API.STREAM.SNAPSHOT.>" } }'
    server = own_server(
        config=f"authorization {{ users: [ {{ user: u, password: p, {deny} }} ] }}", jetstream=True
    )
    js = JetStream(connected(server, user="u", password="p"))
    _, err = call(js.stream_snapshot, "S", io.BytesIO(), timeout=0)
    assert isinstance(err, PermissionsViolationError)


def test_mistakes_are_raised(js: Any) -> None:
    def cb(result: Any, err: Any) -> None:
        raise AssertionError

    backup = {"config": {"name": "S"}, "state": {}}
    with pytest.raises(TypeError, match="Backup"):
        js.stream_snapshot("S", "file", cb)
    with pytest.raises(BadOptionsError):
        js.stream_snapshot("a.b", io.BytesIO(), cb)
    with pytest.raises(BadOptionsError):
        js.stream_snapshot("S", io.BytesIO(), cb, chunk_size=2**21)
    with pytest.raises(TypeError):
        js.stream_snapshot("S", io.BytesIO(), None)
    with pytest.raises(TypeError, match="Backup"):
        js.stream_restore(backup, "file", cb)
    with pytest.raises(TypeError):
        js.stream_restore(b"", b"", cb)
    with pytest.raises(BadOptionsError):
        js.stream_restore({"config": {}}, b"", cb)
    assert js.nats.subscription_count() == 0


def test_in_the_faces(js: Any, line_server: Any, call: Any) -> None:
    fill(js, call)
    url = line_server("newest").url
    with blocking.connect(url) as nc:
        file = io.BytesIO()
        backup = nc.jetstream().stream_snapshot("S", file)
        nc.jetstream().stream_delete("S")
        info = nc.jetstream().stream_restore(backup, file.getvalue())
        assert info["state"]["messages"] == MESSAGES

    async def ask() -> Any:
        async with aio.connect(url) as nc:
            there = nc.jetstream()
            first = asyncio.Event()
            task = asyncio.ensure_future(there.stream_snapshot("S", lambda data: first.set()))
            await first.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await there.wait_until_converged("S")
            return await there.stream_snapshot("S", io.BytesIO())

    assert asyncio.run(ask())["state"]["messages"] == MESSAGES
