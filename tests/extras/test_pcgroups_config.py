"""The formats of partitioned consumer groups: as orbit.go writes and computes them."""

from __future__ import annotations

from typing import Any

import pytest

from nats_ev import BadOptionsError
from nats_ev.extras import (
    ConsumerGroupConfigError,
    elastic_get_partition_filters,
    generate_partition_filters,
    static_get_partition_filters,
)
from nats_ev.extras.pcgroups_config import (
    check_static,
    decode,
    elastic_config,
    encode,
    static_config,
    subject_transforms,
    with_membership,
)

FOUR = ["m1", "m2", "m3", "m4"]


@pytest.mark.parametrize(
    ("members", "count", "member", "partitions"),
    [
        (["m1", "m2", "m3"], 6, "m1", [0, 1]),
        (["m1", "m2", "m3"], 6, "m2", [2, 3]),
        (["m3", "m1", "m2", "m1"], 6, "m3", [4, 5]),
        (["m1", "m2", "m3"], 7, "m1", [0, 1, 6]),
        (["m1", "m2", "m3"], 8, "m2", [2, 3, 7]),
        (["m1", "m2", "m3"], 8, "m3", [4, 5]),
        (["m1", "m2", "m3"], 2, "m1", [0]),
        (["m1", "m2", "m3"], 2, "m3", []),
        (["m1"], 3, "m1", [0, 1, 2]),
        (["m1"], 3, "other", []),
        (["a", "B", "é"], 3, "B", [0]),
    ],
)
def test_partitions_are_distributed_as_orbit_does(
    members: list[str], count: int, member: str, partitions: list[int]
) -> None:
    filters = generate_partition_filters(members, count, [], member, "foo.*")
    assert filters == [f"{number}.foo.*" for number in partitions]


def test_all_partitions_have_one_owner_whatever_the_numbers() -> None:
    for count in range(1, 20):
        for size in range(1, 8):
            members = [f"m{i}" for i in range(size)]
            owned = [
                each
                for member in members
                for each in generate_partition_filters(members, count, [], member, ">")
            ]
            assert sorted(owned) == sorted(f"{i}.>" for i in range(count))


def test_mappings_count_when_there_are_no_members() -> None:
    mappings: Any = [
        {"member": "a", "partitions": [2, 0]},
        {"member": "b", "partitions": [1]},
    ]
    assert generate_partition_filters([], 3, mappings, "a", "foo") == ["2.>", "0.>"]
    config = static_config(3, ["x", "y"], None, mappings)
    assert static_get_partition_filters(config, "a") == ["2.>", "0.>"]


def test_configurations_byte_by_byte() -> None:
    static = static_config(2, ["foo.>"], ["m1", "m2"], None)
    assert encode(static) == rb'{"max_members":2,"filters":["foo.\u003e"],"members":["m1","m2"]}'
    mapped = static_config(2, None, None, [{"member": "m&", "partitions": [0, 1]}])
    assert (
        encode(mapped)
        == rb'{"max_members":2,"member_mappings":[{"member":"m\u0026","partitions":[0,1]}]}'
    )
    elastic = elastic_config(
        4, [{"filter": "a.*.*", "partitioning_wildcards": [2, 1]}], 1000, 1 << 20
    )
    assert encode(elastic) == (
        b'{"max_members":4,"partitioning_filters":[{"filter":"a.*.*","partitioning_wildcards":[2,1]}],'
        b'"max_buffered_msg":1000,"max_buffered_bytes":1048576}'
    )
    assert encode(elastic_config(4, None, 0, 0)) == b'{"max_members":4,"partitioning_filters":null}'
    joined = with_membership(elastic_config(4, None, 0, 0), ["é"])
    assert (
        encode(joined) == '{"max_members":4,"partitioning_filters":null,"members":["é"]}'.encode()
    )


@pytest.mark.parametrize(
    ("filters", "transforms"),
    [
        (None, [(">", "{{Partition(5)}}.>")]),
        (
            [("foo.*.*.>", [2])],
            [("foo.*.*.>", "{{Partition(5,2)}}.foo.{{Wildcard(1)}}.{{Wildcard(2)}}.>")],
        ),
        (
            [("a.*", []), ("b.*.*", [1, 2])],
            [
                ("a.*", "{{Partition(5)}}.a.{{Wildcard(1)}}"),
                ("b.*.*", "{{Partition(5,1,2)}}.b.{{Wildcard(1)}}.{{Wildcard(2)}}"),
            ],
        ),
    ],
)
def test_transforms(filters: Any, transforms: Any) -> None:
    given = filters and [{"filter": f, "partitioning_wildcards": w} for f, w in filters]
    found = subject_transforms(elastic_config(5, given, 0, 0))
    assert found == [{"src": src, "dest": dest} for src, dest in transforms]


def test_filters_of_an_elastic_member() -> None:
    given: Any = [
        {"filter": "a.*", "partitioning_wildcards": [1]},
        {"filter": "b.>", "partitioning_wildcards": []},
    ]
    config = with_membership(elastic_config(4, given, 0, 0), ["x", "y"])
    assert elastic_get_partition_filters(config, "y") == ["2.a.*", "3.a.*", "2.b.>", "3.b.>"]
    assert elastic_get_partition_filters(config, "z") == []


@pytest.mark.parametrize(
    "arguments",
    [
        (0, None, None, None),
        (2, None, ["a"], [{"member": "a", "partitions": [0, 1]}]),
        (2, None, None, [{"member": "a", "partitions": [0]}]),
        (2, None, None, [{"member": "a", "partitions": [0, 0]}]),
        (2, None, None, [{"member": "a", "partitions": [0, 2]}]),
        (2, None, None, [{"member": "a", "partitions": [0]}, {"member": "a", "partitions": [1]}]),
        (1, None, None, [{"member": "a", "partitions": [0]}, {"member": "b", "partitions": []}]),
        (2, None, ["a.b"], None),
    ],
)
def test_what_a_static_group_cannot_be(arguments: Any) -> None:
    with pytest.raises(BadOptionsError):
        static_config(*arguments)


@pytest.mark.parametrize(
    ("filter", "wildcards"), [("", []), ("a", []), ("a.*", [2]), ("a.*", [0]), ("a.*.*", [1, 1])]
)
def test_what_a_partitioning_filter_cannot_be(filter: str, wildcards: list[int]) -> None:
    with pytest.raises(BadOptionsError):
        elastic_config(2, [{"filter": filter, "partitioning_wildcards": wildcards}], 0, 0)


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"[]",
        b"{}",
        b'{"max_members":"x"}',
        b'{"max_members":2,"members":"x"}',
        b'{"max_members":2,"member_mappings":[{}]}',
        b'{"max_members":2,"member_mappings":[7]}',
    ],
)
def test_stored_nonsense_has_an_error_of_its_own(stored: bytes) -> None:
    with pytest.raises(ConsumerGroupConfigError, match="'g'"):
        decode(stored, check_static, "g")


@pytest.mark.parametrize("filters", [["orders.*"], {"filter": "orders.*"}, "orders.*"])
def test_partitioning_filters_are_dicts(filters: Any) -> None:
    with pytest.raises(TypeError, match="partitioning_filters must be a list of dicts"):
        elastic_config(4, filters, 0, 0)
    with pytest.raises(BadOptionsError, match="non-empty filter"):
        elastic_config(4, [{"partitioning_wildcards": [1]}], 0, 0)  # type: ignore[typeddict-item]
