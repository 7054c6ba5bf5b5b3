"""`KeyPair`: keys of all kinds, signatures, sealed messages."""

from __future__ import annotations

import copy
import pickle
import random
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_ev import BadOptionsError, Nats, NatsError
from nats_ev.accounts import (
    AuthCallout,
    DecryptError,
    KeyPair,
    NkeyError,
    UserClaims,
    crypto,
    write_creds,
)

KINDS = {
    "operator": ("O", "SO"),
    "account": ("A", "SA"),
    "user": ("U", "SU"),
    "server": ("N", "SN"),
    "cluster": ("C", "SC"),
    "curve": ("X", "SX"),
}
# A pair that the nkeys specification shows.
SEED = "SUAKYRHVIOREXV7EUZTBHUHL7NUMHPMAS7QMDU3GTIUWEI5LDNOXD43IZY"
PUBLIC = "UD466L6EBCM3YY5HEGHJANNTN4LSKTSUXTH7RILHCKEQMQHTBNLHJJXT"

# The example of "Cryptography in NaCl": what Alice seals for Bob.
ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
ALICE_PUBLIC = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
BOB_PUBLIC = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
NONCE = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
FIRST_KEY = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
SECOND_KEY = bytes.fromhex("dc908dda0b9344a953629b733820778880f3ceb421bb61b91cbd4c3e66256ce4")
PLAIN = bytes.fromhex(
    "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffc"
    "e5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41db66cce314adb31"
    "0e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde"
    "048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f93776384864"
    "5e0705"
)
BOX = bytes.fromhex(
    "f3ffc7703f9400e52a7dfb4b3d3305d9"
    "8e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186a"
    "c0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738"
    "b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da"
    "99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74"
    "e355a5"
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_of_each_kind_comes_back_from_its_seed(kind: str) -> None:
    pair = KeyPair.create_pair(kind)
    letter, seed = KINDS[kind]
    assert pair.public_key()[0] == letter
    assert pair.seed()[:2] == seed
    assert pair.private_key()[0] == "P"
    again = KeyPair.from_seed(f"\n {pair.seed()}\n")
    assert again == pair
    assert hash(again) == hash(pair)
    assert again.kind == kind
    assert KeyPair.from_public_key(pair.public_key()) == pair
    assert KeyPair.create_pair(kind) != pair


def test_the_names_of_nkeys() -> None:
    made = [
        KeyPair.create_operator(), KeyPair.create_account(), KeyPair.create_user(),
        KeyPair.create_server(), KeyPair.create_cluster(), KeyPair.create_curve_keys(),
    ]  # fmt: skip
    assert [pair.kind for pair in made] == list(KINDS)


def test_a_published_pair() -> None:
    assert KeyPair.from_seed(SEED).public_key() == PUBLIC
    assert KeyPair.from_seed(bytearray(SEED, "ascii")).seed() == SEED


def test_seeds_of_users_are_those_of_the_client() -> None:
    seed = Nats.nkey_generate_user_seed()
    assert KeyPair.from_seed(seed).public_key() == Nats.nkey_public_from_seed(seed)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "curve"])
def test_signatures(kind: str) -> None:
    pair = KeyPair.create_pair(kind)
    signature = pair.sign(b"data")
    KeyPair.from_public_key(pair.public_key()).verify(b"data", signature)
    for data, wrong in ((b"datA", signature), (b"data", signature[:-1]), (b"data", b"")):
        with pytest.raises(NkeyError, match="invalid signature"):
            pair.verify(data, wrong)
    with pytest.raises(NkeyError, match="only a curve key"):
        pair.seal(b"data", KeyPair.create_curve_keys().public_key())


def test_a_curve_key_does_not_sign() -> None:
    pair = KeyPair.create_curve_keys()
    with pytest.raises(NkeyError, match="can't sign"):
        pair.sign(b"data")
    with pytest.raises(NkeyError, match="can't verify"):
        pair.verify(b"data", bytes(64))


def test_the_box_of_nacl() -> None:
    assert crypto.curve_public(bytearray(ALICE)) == ALICE_PUBLIC
    assert crypto.seal(PLAIN, NONCE, BOB_PUBLIC, bytearray(ALICE)) == BOX
    assert crypto.unseal(BOX, NONCE, ALICE_PUBLIC, bytearray(BOB)) == PLAIN
    assert crypto.hsalsa20(FIRST_KEY, NONCE[:16]) == SECOND_KEY


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 64, 96, 1000, 256 * 64 - 32, 256 * 64, 40_000])
def test_sealed_messages_of_all_sizes(size: int) -> None:
    one, other = KeyPair.create_curve_keys(), KeyPair.create_curve_keys()
    data = random.Random(size).randbytes(size)
    sealed = one.seal(data, other.public_key())
    assert sealed.startswith(b"xkv1")
    assert len(sealed) == 4 + 24 + 16 + size
    assert other.open(sealed, one.public_key()) == data
    assert sealed != one.seal(data, other.public_key())


def test_a_part_of_a_long_message_is_sealed_like_the_whole() -> None:
    """What is computed in several pieces continues the same key stream."""
    secret = bytearray(ALICE)
    long = crypto.seal(bytes(50_000), NONCE, BOB_PUBLIC, secret)
    short = crypto.seal(bytes(500), NONCE, BOB_PUBLIC, secret)
    assert long[16:516] == short[16:]


def test_what_was_changed_or_is_for_another_can_not_be_opened() -> None:
    one, other, third = (KeyPair.create_curve_keys() for _ in range(3))
    sealed = one.seal(b"secret", other.public_key())
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(DecryptError):
            other.open(changed, one.public_key())
    for size in range(len(sealed)):
        with pytest.raises(DecryptError):
            other.open(sealed[:size], one.public_key())
    with pytest.raises(DecryptError):
        third.open(sealed, one.public_key())
    with pytest.raises(DecryptError):
        other.open(sealed, third.public_key())
    nothing = KeyPair._of("curve", None, bytes(32)).public_key()  # a point of small order
    with pytest.raises(DecryptError, match="unusable"):
        other.open(sealed, nothing)
    with pytest.raises(NkeyError, match="not a public curve key"):
        other.open(sealed, KeyPair.create_user().public_key())


def test_wiping_takes_the_secret() -> None:
    pair = KeyPair.create_user()
    secret = pair._secret
    pair.wipe()
    pair.wipe()
    assert secret == bytes(32)
    for use in (pair.seed, pair.private_key, lambda: pair.sign(b"")):
        with pytest.raises(NkeyError, match="was wiped"):
            use()
    assert pair.public_key()
    with pytest.raises(NkeyError, match="public key only"):
        KeyPair.from_public_key(PUBLIC).sign(b"")


def test_the_secret_shows_nowhere() -> None:
    pair = KeyPair.create_account()
    seed = pair.seed()
    assert repr(pair) == f"<KeyPair account {pair.public_key()}>"
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="can't be pickled"):
            leak(pair)
    for wrong in (lambda: KeyPair.from_public_key(seed), lambda: pair.seal(b"", seed)):
        with pytest.raises(NkeyError) as caught:
            wrong()
        assert seed[4:] not in str(caught.value)
    with pytest.raises(NkeyError) as caught:
        KeyPair.from_seed(seed[:-1] + ("A" if seed[-1] != "A" else "B"))
    assert seed[4:-1] not in str(caught.value)


def test_frames_of_refused_seeds_hold_no_secret(tmp_path: Path) -> None:
    pair = KeyPair.create_user()
    bad = pair.seed()[:-1] + "1"
    jwt = UserClaims(pair).encode(KeyPair.create_account())
    for call in (
        lambda: KeyPair.from_seed(bad),
        lambda: KeyPair.from_public_key(bad),
        lambda: AuthCallout(Nats(), bad, print),
        lambda: write_creds(tmp_path / "missing" / "x", jwt, pair),
    ):
        with pytest.raises((ValueError, OSError)) as caught:
            call()
        found = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        ours = [frame for frame in found.stack if "nats_ev/accounts" in frame.filename]
        assert not ours


@pytest.mark.parametrize("wrong", [None, 1, object(), ["x"]])
def test_a_seed_of_another_type(wrong: object) -> None:
    with pytest.raises(TypeError, match="seed must be"):
        KeyPair.from_seed(wrong)  # type: ignore[arg-type]


def test_keys_are_made_by_class_methods() -> None:
    with pytest.raises(TypeError, match="create_user"):
        KeyPair()
    with pytest.raises(NkeyError, match="no such kind"):
        KeyPair.create_pair("prince")
    assert issubclass(NkeyError, BadOptionsError)


@given(st.one_of(st.text(max_size=70), st.binary(max_size=70)))
def test_garbage_is_no_key(garbage: str | bytes) -> None:
    with pytest.raises(NkeyError):
        KeyPair.from_seed(garbage)
    with pytest.raises(NkeyError):
        KeyPair.from_public_key(garbage)  # type: ignore[arg-type]
    pair = KeyPair.create_curve_keys()
    with pytest.raises(NatsError):
        pair.open(
            garbage if isinstance(garbage, bytes) else garbage.encode("utf-8", "replace"), "X"
        )
