"""Accounts: NKeys of all kinds, JWTs of operators, accounts and users (ADR-14), the auth callout (ADR-26).

::

    from nats_ev.accounts import AccountClaims, KeyPair, OperatorClaims, UserClaims, write_creds

    operator, account, user = (KeyPair.create_operator(), KeyPair.create_account(), KeyPair.create_user())
    operator_jwt = OperatorClaims(operator, name="acme").encode(operator)
    account_jwt = AccountClaims(account, name="APP").encode(operator)
    jwt = UserClaims(user, name="worker").allow_sub("jobs.>").encode(account)
    write_creds("worker.creds", jwt, user)

Everything but `AuthCallout` and `AccountResolver` works without a connection. The package cryptography is
needed. `nats_ev.accounts.types` has the fields of claims.

Files: `keys` (`KeyPair`), `crypto` (what it needs), `tokens` (a JWT as text), `claims` (all kinds have it in
common), `user_claims`, `account_claims`, `callout` (`AuthCallout`, and the claims that it reads and writes),
`resolver`, `shapes` (the fields of all claims), `validation` (what is wrong with them), `types`, `errors`.
"""

from __future__ import annotations

from ..imports import show_as_public
from .account_claims import AccountClaims, OperatorClaims
from .callout import (
    AuthCallout,
    AuthCalloutStats,
    AuthorizationRequestClaims,
    AuthorizationResponseClaims,
    AuthRequest,
)
from .claims import Claims, GenericClaims, decode
from .errors import (
    DecryptError,
    JwtError,
    JwtValidationError,
    NkeyError,
    ResolverError,
    ValidationIssue,
)
from .keys import KeyPair
from .resolver import AccountResolver
from .user_claims import (
    ActivationClaims,
    UserClaims,
    decorate_jwt,
    decorate_seed,
    format_user_config,
    issue_user_jwt,
    parse_decorated_jwt,
    parse_decorated_nkey,
    write_creds,
)

__all__ = [
    "AccountClaims",
    "AccountResolver",
    "ActivationClaims",
    "AuthCallout",
    "AuthCalloutStats",
    "AuthRequest",
    "AuthorizationRequestClaims",
    "AuthorizationResponseClaims",
    "Claims",
    "DecryptError",
    "GenericClaims",
    "JwtError",
    "JwtValidationError",
    "KeyPair",
    "NkeyError",
    "OperatorClaims",
    "ResolverError",
    "UserClaims",
    "ValidationIssue",
    "decode",
    "decorate_jwt",
    "decorate_seed",
    "format_user_config",
    "issue_user_jwt",
    "parse_decorated_jwt",
    "parse_decorated_nkey",
    "write_creds",
]

show_as_public(globals(), __all__, "nats_ev.accounts")
