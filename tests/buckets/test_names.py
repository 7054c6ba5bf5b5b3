"""Whatever is passed as a key, filter, bucket or object becomes one subject of its own, or is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_ev import BadOptionsError
from nats_ev.buckets.bucket import check_bucket
from nats_ev.kv.entry import check_filters, check_key
from nats_ev.object_store.meta import check_name, meta_subject
from nats_ev.subjects import check_publish, check_subscribe, matches

texts = st.one_of(
    st.text(max_size=30),
    st.text(alphabet="ab.*>-_=/ $\r\n\t\0\x7f,:%é", max_size=12),
)


def literal(subject: str) -> bool:
    """Whether a subject names itself and nothing else."""
    tokens = subject.split(".")
    return "" not in tokens and "*" not in tokens and ">" not in tokens


@pytest.mark.slow
@given(texts)
def test_keys(text: str) -> None:
    try:
        subject = f"$KV.b.{check_key(text)}"
    except BadOptionsError:
        return
    check_publish(subject)
    assert literal(subject)
    assert matches("$KV.b.>", subject)
    assert subject.encode() == subject.encode("ascii")


@given(texts)
def test_filters(text: str) -> None:
    try:
        (key,) = check_filters(text)
    except BadOptionsError:
        return
    check_subscribe(f"$KV.b.{key}")
    assert key == (text or ">")


@given(texts)
def test_buckets(text: str) -> None:
    try:
        subject = f"$KV.{check_bucket(text)}.key"
    except BadOptionsError:
        return
    check_publish(subject)
    assert literal(subject)
    assert subject.count(".") == 2


@given(texts)
def test_object_names(text: str) -> None:
    try:
        subject = meta_subject("b", check_name(text))
    except BadOptionsError:
        assert text == "" or any("\ud800" <= c <= "\udfff" for c in text)
        return
    check_publish(subject)
    assert literal(subject)
    assert subject.count(".") == 3


@pytest.mark.parametrize("value", [None, 5, b"bytes", ["a"]])
def test_what_is_no_text(value: object) -> None:
    for check in (check_key, check_bucket, check_name):
        with pytest.raises(TypeError):
            check(value)
