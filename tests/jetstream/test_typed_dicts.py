"""The TypedDicts that type checkers see, and the tables that the client checks by, are the same."""

from __future__ import annotations

import types as python_types
import typing
from datetime import timedelta
from typing import Any, Literal, get_args, get_origin

import pytest

from lab.inside import field_tables
from nats_ev import jetstream, types
from nats_ev.jetstream import config, pull_options
from nats_ev.jetstream.answers import ACCOUNT, ACK, CONFIG, INFO

TABLES = field_tables()
OWN = {"on_msg": None}


def members(hint: Any) -> list[Any]:
    """Return the members of a union but None."""
    if get_origin(hint) in (typing.Union, python_types.UnionType):
        return [each for each in get_args(hint) if each is not type(None)]
    return [hint]


def as_table(hint: Any) -> Any:
    """Return a type in the form that `config` has: a table, a list, a set of words, DURATION or None."""
    found = members(hint)
    if set(found) == {timedelta, int}:
        return config.DURATION
    if len(found) > 1:
        return None
    kind = found[0]
    if typing.is_typeddict(kind):
        return {name: as_table(each) for name, each in typing.get_type_hints(kind).items()}
    if get_origin(kind) is Literal:
        return set(get_args(kind))
    if get_origin(kind) in (list, typing.get_origin(typing.Sequence[int])):
        return [as_table(get_args(kind)[0])]
    return None


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        (types.StreamConfig, config.STREAM),
        (types.ConsumerConfig, config.CONSUMER),
        (types.FetchOptions, TABLES["fetch"] | OWN),
        (types.ConsumeOptions, TABLES["consume"]),
        (types.PushOptions, TABLES["push"]),
        (types.FastBatchOptions, TABLES["fast batch"]),
        (types.StreamInfoOptions, TABLES["stream info"]),
        (types.StreamPurgeOptions, TABLES["purge"]),
        (types.StreamListOptions, TABLES["list"]),
        (types.MsgGetOptions, TABLES["get"]),
        (types.DirectGetBatchOptions, TABLES["get batch"]),
    ],
)
def test_a_type_has_the_fields_words_and_durations_of_the_table(kind: Any, table: Any) -> None:
    assert as_table(kind) == table


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (types.PublishOptions, TABLES["publish"]),
        (types.OrderedFetchOptions, {**TABLES["ordered fetch"], **OWN}),
        (types.OrderedConfig, TABLES["ordered"]),
        (types.KeyValueConfig, TABLES["KV"]),
        (types.ObjectStoreConfig, TABLES["ObjectStore"]),
    ],
)
def test_a_type_has_the_names_of_the_table(kind: Any, names: Any) -> None:
    assert set(typing.get_type_hints(kind)) == set(names)


def test_an_ordered_consumer_takes_what_its_parts_take() -> None:
    own = {*pull_options.CONFIG_FIELDS, *TABLES["own"]}
    pulls = TABLES["consume"].keys() - pull_options.PRIORITY.keys()
    assert set(typing.get_type_hints(types.OrderedConsumerConfig)) == own | pulls


def fits(hint: Any, shape: Any) -> bool:
    """Return whether a shape of an answer promises what a type says."""
    if isinstance(shape, dict) and "*" not in shape:
        (kind,) = members(hint)
        hints = typing.get_type_hints(kind) if typing.is_typeddict(kind) else None
        fields = {name.removesuffix("!"): inner for name, inner in shape.items()}
        return hints is None or all(
            fits(hints[name], fields[name]) for name in hints.keys() & fields.keys()
        )
    if isinstance(shape, dict):
        (kind,) = members(hint)
        return get_origin(kind) is dict and fits(get_args(kind)[1], shape["*"])
    if isinstance(shape, list):
        (kind,) = members(hint)
        return fits(get_args(kind)[0], shape[0])
    found = members(hint)
    words = [each for each in found if get_origin(each) is Literal]
    return shape in found or (shape is str and bool(words))


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (types.StreamInfo, INFO),
        (types.ConsumerInfo, INFO),
        (types.StreamConfig, CONFIG),
        (types.ConsumerConfig, CONFIG),
        (types.AccountInfo, ACCOUNT),
        (types.PubAck, ACK),
        (types.ObjectInfo, TABLES["object info"]),
    ],
)
def test_a_result_has_the_types_that_answers_are_checked_for(kind: Any, shape: Any) -> None:
    assert fits(kind, shape)


def test_what_an_answer_is_refused_without_is_required() -> None:
    required = {name.removesuffix("!") for name in ACK if name.endswith("!")}
    assert types.PubAck.__required_keys__ == required
    assert "name" in types.StreamConfig.__required_keys__
    assert jetstream.StreamInfo is types.StreamInfo
