"""Comparing the configurations of two buckets' streams, of which different clients may have made one. No I/O.

Every client writes a bucket's configuration in its own way: some leave out what the server fills in, some
send zeros, and the server adds its own metadata. What a user can ask for must be equal. What is only a means,
and differs between clients, need not be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What today's clients set, where older ones differ: brought up to date. Without rollups no key can be purged
# and no object replaced.
_REPAIRED: dict[str, Any] = {"discard": "new", "allow_direct": True, "allow_rollup_hdrs": True}
# Left as the bucket has it. nats.js leaves deny_delete false, and nobody can undo a true one; most clients
# leave duplicate_window to the server; a mirror without mirror_direct is only read more slowly.
_LEFT = {"deny_delete", "duplicate_window", "mirror_direct"}
# Added where it is asked for, and else left: clients that do not know fast batches publish as before.
_ADDED = {"allow_batched"}
# How a server or a client writes what is not set. None, "", 0, False, [] and {} mean the same everywhere.
_UNSET: dict[str, Any] = {
    "max_bytes": -1, "max_msg_size": -1, "max_msgs": -1, "max_consumers": -1,
    "max_msgs_per_subject": -1, "storage": "file", "num_replicas": 1, "compression": "none",
    "retention": "limits",
}  # fmt: skip


def repairs(ours: Mapping[str, Any], theirs: object) -> dict[str, Any] | None:
    """Return the fields to update in a bucket's stream so that it serves as ours; None: another bucket.

    Args:
        ours: the configuration that is asked for.
        theirs: the configuration that the server has.
    """
    if not isinstance(theirs, Mapping):
        return None
    try:
        if _plain(ours) != _plain(theirs):
            return None
    except (TypeError, AttributeError):  # wrong types within theirs
        return None
    repaired = {k: v for k, v in _REPAIRED.items() if k in ours and theirs.get(k) != v}
    return repaired | {k: True for k in _ADDED if ours.get(k) and not theirs.get(k)}


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a user can ask for and that are set, in one form."""
    plain: dict[str, Any] = {}
    for field, value in config.items():
        if field in _REPAIRED or field in _LEFT or field in _ADDED or value == _UNSET.get(field):
            continue
        if field == "metadata":
            value = {k: v for k, v in (value or {}).items() if not k.startswith("_nats.")}
        elif field == "subjects":
            value = sorted(value or [])
        value = _set(value)
        if value:
            plain[field] = value
    return plain


def _set(value: Any) -> Any:
    """Return a value without the parts of it that are not set."""
    if isinstance(value, Mapping):
        parts = {key: _set(part) for key, part in value.items()}
        return {key: part for key, part in parts.items() if part}
    if isinstance(value, list):
        return [_set(part) for part in value]
    return value
