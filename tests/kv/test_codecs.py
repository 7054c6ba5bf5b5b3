"""Each method that takes a key, with each codec, and keys of odd characters."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from nats_ev import (
    KV,
    Base64Codec,
    ChainCodec,
    CodecError,
    InvalidKeyError,
    KeyExistsError,
    PathCodec,
)

_numbers = itertools.count(1)


class Identity:
    encode_key = decode_key = encode_filter = staticmethod(lambda key: key)


class NoFilter:
    """A codec that can't keep wildcards, in which any character may be part of a key."""

    def encode_key(self, key: str) -> str:
        return key.encode().hex()

    def decode_key(self, key: str) -> str:
        return bytes.fromhex(key).decode()


CODECS: dict[str, Any] = {
    "none": None,
    "identity": Identity(),
    "base64": Base64Codec(),
    "path": PathCodec(),
    "path, base64": ChainCodec(PathCodec(), Base64Codec()),
    "hex": NoFilter(),
    "hex in a chain": ChainCodec(Identity(), NoFilter()),
}
ANY = [
    "a b",
    "ü/ö",
    "*",
    ">",
    "a*",
    "a.*",
    "a.>",
    "*.a",
    "> ",
    "a\nb",
    "$KV.x",
    "\U0001f600",
    "a>b",
]
KEYS: dict[str, list[str]] = {
    "none": ["a", "a.b", "a/b", "=_-", "_root_.x"],
    "identity": ["a", "a.b", "a/b", "=_-"],
    "base64": ["a", "a.b", *ANY],
    "path": ["/", "/a/b", "a/b", "a", "_kv/x"],
    "path, base64": ["/a b/c", "/ü", "/*", "/>", "/a/*/b", "a/>"],
    "hex": ["a", "a.b", "a..b", ".", *ANY],
    "hex in a chain": ["a", *ANY],
}
REFUSED: dict[str, list[Any]] = {
    "none": ["", ".", "a.", ".a", "a..b", "a b", "*", ">", "a.*", "ü", "\ud800"],
    "identity": ["", "a.", "a..b", "a b", "*", "a.>", "\ud800"],
    "base64": ["", ".", "a..b", "a.", "\ud800"],
    "path": ["", "//", "/a//b", "a b", "/*", ">", "ü", "\ud800"],
    "path, base64": ["", "//", "/a//b", "\ud800"],
    "hex": ["", "\ud800"],
    "hex in a chain": ["", "\ud800"],
}
KEEP_WILDCARDS = ["none", "identity", "base64", "path", "path, base64"]


@pytest.fixture
def make(js, call) -> Callable[[str], KV]:
    def make(codec: str) -> KV:
        kv = KV(js, f"codecs{next(_numbers)}", key_codec=CODECS[codec])
        config = {"history": 5, "storage": "memory"}
        assert call(kv.create_bucket, config)[1] is None
        return kv

    return make


def initial(kv: KV, keys: Any, run: Any) -> list[str]:
    """The keys that a watch gives first."""
    seen: list[Any] = []
    watch = kv.watch(keys, lambda entry, error: seen.append(entry if error is None else error))
    run(lambda: None in seen)
    watch.stop()
    return sorted(entry.key for entry in seen if entry is not None)


@pytest.mark.parametrize("codec", CODECS)
def test_every_method_finds_the_key_that_was_put_and_no_other(make, call, run, codec):
    kv, keys = make(codec), KEYS[codec]
    for key in keys:
        assert call(kv.create, key, key)[1] is None
    for key in keys:
        revision = call(kv.entry, key)[0].revision
        assert call(kv.get, key) == (key.encode(), None)
        assert call(kv.get_revision, key, revision)[0].key == key
        assert [(e.key, e.value) for e in call(kv.history, key)[0]] == [(key, key.encode())]
        assert call(kv.update, key, b"2", revision)[1] is None
        assert [e.value for e in call(kv.history, key)[0]] == [key.encode(), b"2"]
        assert call(kv.delete, key) == (True, None)
        assert call(kv.create, key, b"3")[1] is None
        assert len(call(kv.history, key)[0]) == 4
        assert call(kv.purge, key) == (True, None)
        assert [(e.key, e.operation) for e in call(kv.history, key)[0]] == [(key, "PURGE")]
        assert call(kv.put, key, b"4")[1] is None
    assert call(kv.keys) == (sorted(keys), None)
    assert call(kv.keys, []) == (sorted(keys), None)  # as in nats.go: no filter is all keys
    assert initial(kv, None, run) == initial(kv, [], run) == sorted(keys)
    for key in keys:
        if "*" not in key and ">" not in key:
            assert call(kv.keys, key) == ([key], None)
            assert call(kv.keys, [key]) == ([key], None)
            assert initial(kv, key, run) == [key]
    plain = [key for key in keys if "*" not in key and ">" not in key]
    assert call(kv.keys, plain) == (sorted(plain), None)


@pytest.mark.parametrize("codec", CODECS)
def test_a_key_that_cannot_be_is_refused_by_every_method(make, codec):
    kv = make(codec)
    nothing = lambda result, error: None  # noqa: E731
    for key in REFUSED[codec]:
        for method in (
            lambda key: kv.get(key, nothing),
            lambda key: kv.entry(key, nothing),
            lambda key: kv.get_revision(key, 1, nothing),
            lambda key: kv.history(key, nothing),
            lambda key: kv.put(key, b""),
            lambda key: kv.create(key, b""),
            lambda key: kv.update(key, b"", 1),
            lambda key: kv.delete(key),
            lambda key: kv.purge(key),
        ):
            with pytest.raises(InvalidKeyError):
                method(key)
    for method in (kv.get, kv.history, kv.put):
        with pytest.raises(TypeError):
            method(None, nothing)


@pytest.mark.parametrize("codec", CODECS)
def test_filters_keep_their_wildcards_or_are_refused(make, call, run, codec):
    kv = make(codec)
    between = "/" if codec.startswith("path") else "."
    a_star, a_all, all_b = (f"a{between}*", f"a{between}>", f"*{between}b")
    if codec not in KEEP_WILDCARDS:
        for pattern in (a_star, a_all, all_b, "*", ">"):
            with pytest.raises(InvalidKeyError, match="can't keep wildcards"):
                kv.keys(pattern, print)
        return
    keys = [f"a{between}b", f"a{between}b{between}c", f"x{between}b"]
    for key in keys:
        assert call(kv.put, key, b"")[1] is None
    for pattern, found in ((a_star, keys[:1]), (a_all, keys[:2]), (all_b, [keys[0], keys[2]])):
        assert call(kv.keys, pattern) == (found, None)
        assert initial(kv, pattern, run) == found
    assert call(kv.keys, [a_all, keys[2]]) == (keys, None)
    assert call(kv.keys, ">") == (keys, None)
    for pattern in (f"{between}a" if codec != "path" else "a//b", f">{between}a", "\ud800*"):
        if not (codec == "path, base64" and pattern == "/a"):
            with pytest.raises(InvalidKeyError):
                kv.keys(pattern, print)


@pytest.mark.parametrize("codec", ["base64", "path", "hex"])
def test_purge_deletes_purges_keys_as_they_are_stored(make, js, call, codec):
    """Another program has put a key that the codec can't read, or reads as another key."""
    kv = make(codec)
    plain = KV(js, kv.bucket)
    assert call(kv.put, "x/y", b"keep")[1] is None
    stored = call(plain.keys)[0][0]
    other = "x/y" if codec == "path" else "not=encoded"
    assert other != stored
    call(plain.put, other, b"")
    call(plain.delete, other)
    assert call(kv.purge_deletes, 0) == (1, None)
    assert call(kv.get, "x/y") == (b"keep", None)
    assert call(plain.keys) == ([stored], None)
    assert call(plain.entry, other) == (None, None)
    assert (call(plain.history, other)[1]) is not None


def test_a_codec_that_decodes_to_no_text_is_an_error_and_keys_still_come(js, call):
    class Odd(Identity):
        @staticmethod
        def decode_key(key: str) -> Any:
            return 1 if key == "a" else key

    kv = KV(js, f"codecs{next(_numbers)}", key_codec=Odd())
    assert call(kv.create_bucket, {"storage": "memory"})[1] is None
    for key in "ab":
        call(kv.put, key, b"")
    assert call(kv.keys) == (["b"], None)
    assert isinstance(js.nats.recorder.errors[-1], CodecError)


def test_a_filter_that_a_codec_makes_empty_is_not_all_keys(js):
    class Empty(Identity):
        @staticmethod
        def encode_filter(key: str) -> str:
            return ""

    with pytest.raises(InvalidKeyError):
        KV(js, "codecs", key_codec=Empty()).keys("a.*", print)


def test_a_key_whose_value_cannot_be_decoded_exists(js, call):
    kv = KV(js, f"codecs{next(_numbers)}", value_codec=Base64Codec())
    assert call(kv.create_bucket, {"storage": "memory"})[1] is None
    call(KV(js, kv.bucket).put, "k", b"!")
    assert isinstance(call(kv.create, "k", b"")[1], KeyExistsError)
