"""The protocol of large messages without I/O: what can be read, put together, and what is refused."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.inside import assembled
from nats_ev import Headers
from nats_ev.extras import LargeMessageCorruptError
from nats_ev.extras.large_wire import (
    Assembler,
    Offer,
    digest_text,
    is_ours,
    offer_headers,
    parsed,
    users_headers,
)

messages = st.binary(min_size=1, max_size=400)
chunk_sizes = st.integers(1, 60)


def parts(message: bytes, size: int) -> list[bytes]:
    return [message[at : at + size] for at in range(0, len(message), size)]


def digest_of(message: bytes) -> str:
    return digest_text(hashlib.sha256(message).digest())


@given(messages, chunk_sizes, st.data())
def test_chunks_in_any_order_again_and_again_make_the_message(
    message: bytes, size: int, data: st.DataObject
) -> None:
    """A sender that goes back to what is missing, and a network that repeats and reorders chunks."""
    chunks = parts(message, size)
    assembler = Assembler(Offer(len(message), size))
    for index in data.draw(st.lists(st.integers(0, len(chunks) - 1), max_size=40)):
        taken = assembler.next
        assert assembler.add(index, chunks[index]) == (index == taken)
    while not assembler.complete:
        assert assembler.add(assembler.next, chunks[assembler.next])
    assert assembler.message(digest_of(message)) == message


@given(
    messages,
    chunk_sizes,
    st.lists(st.tuples(st.integers(0, 500), st.binary(max_size=80)), max_size=30),
)
def test_whatever_comes_never_makes_more_or_another_message(
    message: bytes, size: int, noise: list[tuple[int, bytes]]
) -> None:
    offer = Offer(len(message), size)
    assembler = Assembler(offer)
    for index, data in noise:
        try:
            taken = assembler.add(index, data)
        except LargeMessageCorruptError:
            continue
        assert not taken or len(data) <= size
        assert len(assembled(assembler)) <= offer.size
    if assembler.complete and assembled(assembler) != message:
        with pytest.raises(LargeMessageCorruptError):
            assembler.message(digest_of(message))


@given(messages, chunk_sizes)
def test_a_changed_chunk_is_found(message: bytes, size: int) -> None:
    assembler = Assembler(Offer(len(message), size))
    for index, chunk in enumerate(parts(message, size)):
        changed = bytes([chunk[0] ^ 1]) + chunk[1:] if index == 0 else chunk
        assembler.add(index, changed)
    with pytest.raises(LargeMessageCorruptError, match="digest"):
        assembler.message(digest_of(message))


@given(st.dictionaries(
    st.sampled_from(["Nats-Large-Version", "Nats-Large-Size", "Nats-Large-Chunk", "X"]),
    st.sampled_from(["1", "0", "2", "-1", "1e3", "", "\u0661", "9" * 18, "9" * 19, "100"]),
))  # fmt: skip
def test_an_offer_makes_sense_or_is_refused(values: dict[str, str]) -> None:
    try:
        offer = Offer.parse(Headers(values))
    except LargeMessageCorruptError:
        return
    assert values["Nats-Large-Version"] == "1"
    assert offer.size >= 1
    assert offer.chunk >= 1
    assert offer.chunks <= 1 << 31


@given(st.binary(max_size=200))
def test_no_header_block_is_too_odd(raw: bytes) -> None:
    for block in (raw, b"NATS/1.0\r\n" + raw, b"NATS/1.0\r\nNats-Large-" + raw + b"\r\n\r\n"):
        parsed(block)
        is_ours(block)
        users_headers(block)


@pytest.mark.parametrize("given", [None, {"A": "1"}, b"NATS/1.0\r\nA: 1\r\nA: 2\r\n\r\n"])
def test_a_users_headers_come_back(given: Any) -> None:
    block = offer_headers(given, 5, 2, wants_reply=True).encode()
    found = users_headers(block)
    if given is None:
        assert found is None
    else:
        wanted = Headers.parse(given) if isinstance(given, bytes) else Headers(given)
        assert Headers.parse(found) == wanted
