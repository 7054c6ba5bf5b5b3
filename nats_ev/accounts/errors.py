"""Errors of keys, JWTs and account servers. No text has a secret in it.

::

    NatsError
    ├── BadOptionsError(ValueError)
    │   ├── NkeyError                  a key that can't do what was asked
    │   │   └── DecryptError
    │   └── JwtError                   a JWT or claims that can't be used
    │       └── JwtValidationError
    └── ResolverError                  given to the callback
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import BadOptionsError, NatsError


class NkeyError(BadOptionsError):
    """A key is invalid, of the wrong kind, without its secret part, or wiped; or a signature is wrong.

    What to do: use the seed or the public key of the kind that the text names.
    """

    text = "bad nkey"


class DecryptError(NkeyError):
    """A sealed message can't be opened: it was sealed for another key or by another one, or was changed.

    What to do: compare the public curve keys (``X…``) on both sides.
    """

    text = "could not decrypt"


class JwtError(BadOptionsError):
    """A JWT can't be decoded, has a wrong signature or issuer, or claims have a field of a wrong type.

    What to do: correct what the text names; `decode` of a JWT from elsewhere expects this error.
    """

    text = "bad JWT"


class ValidationIssue(NamedTuple):
    """One thing that is wrong with claims.

    Attributes:
        description: a sentence for people.
        blocking: servers refuse the JWT.
        time_check: the JWT has expired, or is not valid yet.
    """

    description: str
    blocking: bool = True
    time_check: bool = False


class JwtValidationError(JwtError):
    """Claims say what no server accepts. `issues` has all that is wrong, as `ValidationIssue` objects.

    What to do: correct the claims; ``claims.validate()`` shows the same list before they are encoded.
    """

    text = "invalid claims"
    issues: list[ValidationIssue]


class ResolverError(NatsError):
    """A server's account resolver has refused a request.

    Attributes:
        code: the server's number, such as 500.
        account: the account that the request was about; "" if the server does not tell.

    What to do: read the text, which the server has chosen. The client needs to be a user of the system
    account, and deleting needs ``allow_delete: true`` in the server's configuration.
    """

    text = "account resolver error"
    code: int
    account: str
