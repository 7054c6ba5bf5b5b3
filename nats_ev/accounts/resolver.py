"""`AccountResolver`: the account JWTs that servers keep (``$SYS.REQ.CLAIMS…``)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from ..arguments import Milliseconds, ResultCallback, check_object, check_result_cb, milliseconds
from ..client import Nats
from ..errors import NatsError, ProtocolError
from .account_claims import AccountClaims
from .claims import GenericClaims, Key, public_of
from .errors import JwtError, ResolverError
from .keys import KeyPair, kind_of

_PREFIX = "$SYS.REQ"
_DEFAULT_TIMEOUT = 5000


class AccountResolver:
    """The accounts of an operator, as servers with a resolver of type full keep them.

    In a cluster the first server that answers counts; the servers pass JWTs on among themselves. A server
    that has its accounts in memory (``resolver: MEMORY``) does not answer: `NoRespondersError`.

    Args:
        nats: a client that is a user of the system account.
        timeout_ms: for each answer, in ms or a timedelta; 0: no limit.

    Raises:
        TypeError: nats is no client.
    """

    def __init__(self, nats: Nats, timeout_ms: Milliseconds = _DEFAULT_TIMEOUT) -> None:
        check_object(nats, "new_inbox", "nats must be a Nats")
        self.nats = nats
        self._timeout = milliseconds(timeout_ms, "timeout_ms")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.nats!r}>"

    def push(self, jwt: str, cb: ResultCallback[str]) -> None:
        """Store or replace an account's JWT; servers apply it at once.

        Args:
            jwt: of an account, signed by the operator or a signing key of it.
            cb: ``cb(result, err)``. result is the account's public key. err: `ResolverError`, or what
                `Nats.request` gives.

        Raises:
            JwtError: jwt is no account's.
            NatsError: what `Nats.request` raises.
        """
        check_result_cb(cb)
        claims = AccountClaims.decode(jwt)

        def read(payload: bytes) -> str:
            _status(payload)
            return claims.subject

        self._ask(f"{_PREFIX}.CLAIMS.UPDATE", jwt.strip(), cb, read)

    def lookup(self, account: Key, cb: ResultCallback[str]) -> None:
        """Get an account's JWT.

        Args:
            account: the account's public key or `KeyPair`.
            cb: ``cb(result, err)``. result is the JWT. err: `ResolverError` with code 404 if the server
                does not know the account, or what `Nats.request` gives.

        Raises:
            JwtError: account is no public account key.
            NatsError: what `Nats.request` raises.
        """
        check_result_cb(cb)
        public = _account(account)

        def read(payload: bytes) -> str:
            text = payload.decode("utf-8", "replace")
            if not text:
                raise ResolverError("no such account", code=404, account=public)
            return text

        self._ask(f"{_PREFIX}.ACCOUNT.{public}.CLAIMS.LOOKUP", b"", cb, read)

    def list_accounts(self, cb: ResultCallback[list[str]]) -> None:
        """Get the public keys of all accounts.

        ``cb(result, err)``: result is the list; err is what `Nats.request` gives.
        """
        check_result_cb(cb)

        def read(payload: bytes) -> list[str]:
            found = _answer(payload).get("data")
            if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
                raise ProtocolError("the answer to CLAIMS.LIST has no list of accounts")
            return found

        self._ask(f"{_PREFIX}.CLAIMS.LIST", b"", cb, read)

    def delete(
        self, operator: KeyPair, accounts: Key | Sequence[Key], cb: ResultCallback[int]
    ) -> None:
        """Delete accounts. Their clients are disconnected.

        The server's configuration needs ``allow_delete: true``; the system account can't be deleted.

        Args:
            operator: the operator's key or a signing key of it, with its secret: it signs the request.
            accounts: a public key or a `KeyPair`, or several of these.
            cb: ``cb(result, err)``. result is the number of accounts. err: `ResolverError`, or what
                `Nats.request` gives.

        Raises:
            JwtError: an account is no public account key, or there is none.
            NatsError: what `Nats.request` raises.
        """
        check_result_cb(cb)
        several = [accounts] if isinstance(accounts, (str, KeyPair)) else accounts
        listed = [_account(each) for each in several]
        if not listed:
            raise JwtError("delete needs at least one account")
        token = GenericClaims(operator, name="accounts to delete", accounts=listed).encode(operator)

        def read(payload: bytes) -> int:
            _status(payload)
            return len(listed)

        self._ask(f"{_PREFIX}.CLAIMS.DELETE", token, cb, read)

    def _ask(
        self,
        subject: str,
        payload: str | bytes,
        cb: Callable[[Any, NatsError | None], object],
        read: Callable[[bytes], Any],
    ) -> None:
        def answered(response: bytes | None, error: NatsError | None, headers: object) -> None:
            result = None
            if error is None:
                try:
                    result = read(response or b"")
                except NatsError as exc:
                    error = exc
            cb(result, error)

        self.nats.request(subject, payload, answered, self._timeout, no_responders=True)


def _account(account: Key) -> str:
    public = public_of(account, "account")
    if kind_of(public) != "account":
        raise JwtError("account must be a public account key")
    return public


def _answer(payload: bytes) -> dict[str, Any]:
    """Return the object in an answer. Raises `ResolverError`, `ProtocolError`."""
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ProtocolError("the account resolver's answer is not a JSON object")
    failure = found.get("error")
    if failure:
        if not isinstance(failure, dict):
            failure = {"description": failure}
        code, account = failure.get("code"), failure.get("account")
        raise ResolverError(
            str(failure.get("description") or "account resolver error"),
            code=code if isinstance(code, int) else 500,
            account=account if isinstance(account, str) else "",
        )
    return found


def _status(payload: bytes) -> None:
    """Check that an answer tells of success."""
    if not isinstance(_answer(payload).get("data"), dict):
        raise ProtocolError("the account resolver's answer has no data")
