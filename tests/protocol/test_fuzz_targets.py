"""The fuzz targets that go through Python, on the corpus of the tree and on some random inputs."""

from __future__ import annotations

import random

import pytest

from lab import fuzz_targets
from lab.paths import TESTS

TARGETS = {"inbound": fuzz_targets.inbound, "outbound": fuzz_targets.outbound}


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_replays(name: str) -> None:
    inputs = sorted((TESTS / "fuzz" / "corpus" / name).iterdir())
    assert len(inputs) >= 20
    for path in inputs:
        TARGETS[name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_changed_inputs_break_no_promise(name: str) -> None:
    rng = random.Random(name)
    inputs = [path.read_bytes() for path in sorted((TESTS / "fuzz" / "corpus" / name).iterdir())]
    for _ in range(300):
        data = bytearray(rng.choice(inputs) + rng.choice(inputs))
        for _ in range(rng.randrange(6)):
            data[rng.randrange(len(data))] = rng.choice(b"\0\1\2\3\4\5\6\7\r\n 19MHa\xff")
        TARGETS[name](bytes(data[: rng.randrange(len(data)) + 1]))


def test_a_wrong_delivery_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle itself: an input whose message the reference reads differently fails."""
    parse = fuzz_targets.refparser.parse
    monkeypatch.setattr(
        fuzz_targets.refparser, "parse", lambda stream, limit: parse(stream[:-4] + b"y\r\n", limit)
    )
    with pytest.raises(AssertionError):
        fuzz_targets.inbound(b"\xff\0MSG a 1 2\r\nxx\r\n")
