"""Claims with one mistake each, and what the text about it says: nats-server refuses them, too."""

from __future__ import annotations

from typing import Any

from nats_ev.accounts import ActivationClaims, KeyPair

IMPORTER, EXPORTER, USER = (
    KeyPair.create_account(),
    KeyPair.create_account(),
    KeyPair.create_user(),
)
A, B = IMPORTER.public_key(), EXPORTER.public_key()
TOKEN = ActivationClaims(A, subject="a.>", kind="stream").encode(EXPORTER)

Row = tuple[dict[str, Any], str]
# Fields of `UserClaims`.
OF_USERS: list[Row] = [
    ({"pub": {"allow": [""]}}, "subject cannot be empty"),
    ({"pub": {"allow": [".a"]}}, "cannot start or end with a `.`"),
    ({"sub": {"deny": ["a."]}}, "cannot start or end with a `.`"),
    ({"sub": {"deny": ["a..b"]}}, "cannot contain consecutive `.`"),
    ({"pub": {"allow": ["a q"]}}, "not allowed to contain queue"),
    ({"sub": {"allow": ["a q x"]}}, "too many spaces"),
    ({"src": ["10.0.0.1"]}, "invalid cidr"),
    ({"src": ["10.0.0.0/33"]}, "invalid cidr"),
    ({"times": [{"start": "8:00:00", "end": "25:00:00"}]}, "end in time range is invalid"),
    ({"times": [{"start": "08:00"}]}, "start in time range is invalid"),
    ({"times_location": "Mars/Base"}, "could not parse iana time zone"),
    ({"issuer_account": "A"}, "issuer_account is not an account public key"),
]
# Fields of `AccountClaims(IMPORTER)`.
OF_ACCOUNTS: list[Row] = [
    ({"exports": [{"subject": "a", "type": "thing"}]}, "invalid export type"),
    ({"exports": [{"type": "stream"}]}, "subject cannot be empty"),
    ({"exports": [{"subject": "a", "type": "stream", "response_type": "Stream"}]}, "for stream"),
    ({"exports": [{"subject": "a", "type": "service", "response_type": "X"}]}, "for service"),
    ({"exports": [{"subject": "a", "type": "stream", "allow_trace": True}]}, "allow_trace"),
    (
        {"exports": [{"subject": "a", "type": "stream", "response_threshold": 10**6}]},
        "threshold only valid for services",
    ),
    (
        {"exports": [{"subject": "a", "type": "service", "response_threshold": -1}]},
        "negative response threshold",
    ),
    (
        {
            "exports": [
                {
                    "subject": "a",
                    "type": "service",
                    "service_latency": {"sampling": 101, "results": "b"},
                }
            ]
        },
        "between 1-100",
    ),
    (
        {
            "exports": [
                {
                    "subject": "a",
                    "type": "service",
                    "service_latency": {"sampling": "headers", "results": "b.*"},
                }
            ]
        },
        "can not contain wildcards",
    ),
    (
        {
            "exports": [
                {
                    "subject": "a",
                    "type": "stream",
                    "service_latency": {"sampling": 1, "results": "b"},
                }
            ]
        },
        "latency tracking only permitted for services",
    ),
    ({"exports": [{"subject": "a", "type": "stream", "account_token_position": 1}]}, "wildcard"),
    ({"exports": [{"subject": "a.*", "type": "stream", "account_token_position": 1}]}, "match a *"),
    ({"exports": [{"subject": "a.*", "type": "stream", "account_token_position": 3}]}, "exceeds"),
    (
        {"exports": [{"subject": "a.>", "type": "stream"}, {"subject": "a.b", "type": "stream"}]},
        "already exports",
    ),
    ({"exports": [{"subject": "a", "type": "stream", "info_url": "x"}]}, "info_url"),
    ({"limits": {"exports": 0}, "exports": [{"subject": "a", "type": "stream"}]}, "more exports"),
    (
        {
            "limits": {"exports": 1, "wildcards": False},
            "exports": [{"subject": "a.*", "type": "stream"}],
        },
        "wildcard exports",
    ),
    (
        {"limits": {"imports": 0}, "imports": [{"subject": "a", "account": A, "type": "stream"}]},
        "more imports",
    ),
    ({"imports": [{"subject": "a", "type": "stream"}]}, "account to import from"),
    ({"imports": [{"subject": "a", "account": A, "type": "x"}]}, "invalid import type"),
    ({"imports": [{"subject": "a", "account": A, "type": "stream", "share": True}]}, "sharing"),
    (
        {"imports": [{"subject": "a", "account": A, "type": "service", "allow_trace": True}]},
        "allow_trace only valid for stream import",
    ),
    (
        {"imports": [{"subject": "a", "account": A, "type": "stream", "token": "x"}]},
        "invalid activation token",
    ),
    (
        {"imports": [{"subject": "a.b", "account": A, "type": "stream", "token": TOKEN}]},
        "doesn't match account for import",
    ),
    (
        {"imports": [{"subject": "a.b", "account": B, "type": "service", "token": TOKEN}]},
        "mismatch between",
    ),
    (
        {"imports": [{"subject": "b", "account": B, "type": "stream", "token": TOKEN}]},
        "subject doesn't match import",
    ),
    (
        {"imports": [{"subject": "a.*", "account": A, "type": "stream", "local_subject": "b.$2"}]},
        "has no *",
    ),
    (
        {"imports": [{"subject": "a.*", "account": A, "type": "stream", "local_subject": "b"}]},
        "does not contain enough",
    ),
    (
        {"imports": [{"subject": "a.>", "account": A, "type": "stream", "local_subject": "b"}]},
        "end or not end in >",
    ),
    (
        {
            "imports": [
                {"subject": "a", "account": A, "type": "stream", "local_subject": "b", "to": "c"}
            ]
        },
        "local_subject replaces to",
    ),
    (
        {
            "imports": [
                {"subject": "a", "account": A, "type": "service", "local_subject": "x.>"},
                {"subject": "b", "account": A, "type": "service", "local_subject": "x.y"},
            ]
        },
        "overlapping",
    ),
    ({"limits": {"mem_storage": 1, "tiered_limits": {"R1": {"mem_storage": 1}}}}, "exclusive"),
    ({"limits": {"tiered_limits": {"": {}}}}, "blank"),
    ({"mappings": {"a": [{"subject": "b", "weight": 101}]}}, "weight 101"),
    ({"mappings": {"a": [{"subject": "b", "weight": 60}, {"subject": "c", "weight": 60}]}}, "100%"),
    (
        {"mappings": {"a": [{"subject": "b", "cluster": "x"}, {"subject": "c", "cluster": "x"}]}},
        "in cluster 'x'",
    ),
    ({"mappings": {"a": [{}]}}, "subject cannot be empty"),
    ({"authorization": {"allowed_accounts": [A]}}, "without users"),
    ({"authorization": {"auth_users": ["U"]}}, "auth_users is not a user public key"),
    ({"authorization": {"auth_users": [USER.public_key()], "allowed_accounts": ["*", A]}}, "'*'"),
    ({"authorization": {"auth_users": [USER.public_key()], "xkey": A}}, "xkey is not a curve"),
    ({"trace": {"dest": "a.*"}}, "not a valid publish subject"),
    ({"trace": {"dest": "a", "sampling": 101}}, "sampling"),
    ({"cluster_traffic": "mine"}, "unknown cluster traffic"),
    ({"signing_keys": [USER.public_key()]}, "signing key is not an account public key"),
    ({"signing_keys": [{"kind": "other", "key": A}]}, "unknown signing key scope"),
    ({"description": "x" * 9000}, "description is too long"),
    ({"info_url": "nowhere"}, "no hostname or scheme"),
    ({"default_permissions": {"pub": {"allow": ["a b"]}}}, "queue"),
]
# The server drops the one when it reads the other.
DROPPED: Row = OF_ACCOUNTS[[text for _, text in OF_ACCOUNTS].index("exclusive")]
# Older servers do not see this.
CLUSTERS: Row = OF_ACCOUNTS[[text for _, text in OF_ACCOUNTS].index("in cluster 'x'")]
