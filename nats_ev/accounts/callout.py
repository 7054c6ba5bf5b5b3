"""`AuthCallout`: a service that decides who may connect (ADR-26)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypedDict

from ..arguments import (
    Milliseconds,
    ResultCallback,
    Unpack,
    callable_or_none,
    check_callback,
    milliseconds,
)
from ..client import Nats
from ..errors import ConnectionClosedError, NatsError
from ..redact import drop_frames, without_traceback
from ..service import Endpoint, Service, ServiceRequest
from . import shapes, validation
from .claims import Claims, Key, When, public_of, register
from .errors import JwtError, NkeyError
from .keys import KeyPair, kind_of
from .types import ClientInformation, ClientTLS, ConnectOptions, ServerID, UserFields
from .user_claims import UserClaims
from .validation import Issues

if TYPE_CHECKING:
    from ..net import Deadline

AUDIENCE = "nats-authorization-request"
SUBJECT = "$SYS.REQ.USER.AUTH"
_XKEY_HEADER = "Nats-Server-Xkey"
_DEFAULT_ACCOUNT = "$G"
_SHORTEST, _LONGEST = 1_000, 600_000  # ms that a request says that its server waits
_VERSION = "1.0.0"  # of the service


@register
class AuthorizationRequestClaims(Claims):
    """What a server asks an auth callout. `AuthRequest` has the fields of `nats`."""

    type = "authorization_request"
    signers = ("server",)
    shape = shapes.REQUEST

    def _validate(self, issues: Issues) -> None:
        validation.check_request(issues, self.nats)


@register
class AuthorizationResponseClaims(Claims):
    """What an auth callout answers; `nats` has either jwt or error, and perhaps issuer_account."""

    type = "authorization_response"
    signers = ("account",)
    subject_kind = "user"
    shape = shapes.RESPONSE

    def _validate(self, issues: Issues) -> None:
        validation.check_response(issues, self.nats, self.subject, self.audience)


class AuthRequest:
    """A client that wants to connect: `accept` or `refuse` it, in the handler or later.

    Attributes:
        user_nkey: the public key that the server has made for the client; its JWT must be about this.
        server_id: a `types.ServerID`.
        client_info: a `types.ClientInformation`.
        connect_opts: a `types.ConnectOptions`: what the client has sent, secrets included.
        client_tls: a `types.ClientTLS`; None without TLS.
        claims: the `AuthorizationRequestClaims` as such.
        answered: whether there is an answer, or it is too late for one.
    """

    def __init__(
        self, callout: AuthCallout, claims: AuthorizationRequestClaims, message: ServiceRequest
    ) -> None:
        nats: Any = claims.nats
        self._callout = callout
        self.claims = claims
        self._message = message
        self.user_nkey: str = nats["user_nkey"]
        self.server_id: ServerID = nats.get("server_id", {})
        self.client_info: ClientInformation = nats.get("client_info", {})
        self.connect_opts: ConnectOptions = nats.get("connect_opts", {})
        self.client_tls: ClientTLS | None = nats.get("client_tls")
        self.answered = False

    def __repr__(self) -> str:
        state = "answered" if self.answered else "open"
        return f"<{type(self).__name__} {self.user_nkey} {state}>"

    def user_claims(
        self,
        *,
        name: str = "",
        expires: When = None,
        not_before: When = None,
        scoped: bool = False,
        **fields: Unpack[UserFields],
    ) -> UserClaims:
        """Return claims of the user that this request is about, to be completed and given to `accept`.

        Args:
            name, expires, not_before, scoped, fields: see `UserClaims`.
        """
        return UserClaims(
            self.user_nkey,
            name=name,
            expires=expires,
            not_before=not_before,
            scoped=scoped,
            **fields,
        )

    def accept(
        self,
        user: UserClaims | str | None = None,
        *,
        account: str = "",
        key: KeyPair | None = None,
        issuer_account: Key = "",
    ) -> bool:
        """Let the client connect, with the permissions and limits of a user.

        Args:
            user: claims from `user_claims`, or a JWT that was issued for `user_nkey`, which takes no other
                argument. None: all rights in the account.
            account: the name of the account that the client is put into, where the server's configuration
                has the accounts. Default: that of the callout.
            key: signs the user in place of the callout's key, where an operator has the accounts: the
                key of the account that the client is put into, or a signing key of it.
            issuer_account: the account's public key, if key is a signing key.

        Returns:
            False if the request was answered already or has timed out: then nothing is sent.

        Raises:
            JwtError: the claims can't be used, or are about another user.
            NatsError: the answer can't be sent; the request stays open.
        """
        if user is None:
            user = self.user_claims()
        if isinstance(user, str):
            if account or key is not None or issuer_account:
                raise JwtError("a JWT has its account already: give accept claims, or nothing else")
            found, jwt = UserClaims.decode(user), user.strip()
        elif isinstance(user, UserClaims):
            found, jwt = user, ""
        else:
            raise TypeError(f"user must be UserClaims or a JWT, not {type(user).__name__}")
        if found.subject != self.user_nkey:
            raise JwtError("the user's JWT must be about user_nkey of the request")
        if not jwt:
            jwt = self._callout._user_jwt(found, key, account, issuer_account)
        return self._callout._answer(self, "accepted", jwt, "")

    def refuse(self, message: str = "authorization refused") -> bool:
        """Refuse the client at once.

        Args:
            message: for the server's log. The client gets a general text.

        Returns:
            False if the request was answered already or has timed out: then nothing is sent.

        Raises:
            NatsError: the answer can't be sent; the request stays open.
        """
        if not isinstance(message, str):
            raise TypeError(f"message must be str, not {type(message).__name__}")
        return self._callout._answer(self, "refused", "", message or "authorization refused")

    def drop(self) -> bool:
        """Leave the client without an answer: the server refuses it when its time-out is over.

        That slows down those who try passwords. Returns False if the request was answered already.
        """
        return self._callout._answer(self, "dropped", "", "")

    def handler_failed(self, error: Exception) -> None:
        """Refuse the client because its handler has raised; no part of the exception leaves this side.

        A face whose handlers are tasks calls this.
        """
        self._callout._report(error)
        self._callout._answer(self, "failed", "", "internal error")


def claims_of(payload: bytes, sender: str, xkey: KeyPair | None) -> AuthorizationRequestClaims:
    """Return the claims of a request, decrypted and checked. Raises `JwtError`, `NkeyError`.

    Args:
        payload: of the message.
        sender: the server's public curve key, from the message's header; "" without.
        xkey: the callout's curve key, if its requests are encrypted.
    """
    encrypted = not payload.startswith(b"eyJ")
    if xkey is None and encrypted:
        raise NkeyError("the request is encrypted, and the callout has no xkey")
    if xkey is not None:
        if not encrypted:
            raise NkeyError("the request is not encrypted, and the callout has an xkey")
        payload = xkey.open(payload, sender)
    claims = AuthorizationRequestClaims.decode(payload.decode("ascii", "replace"))
    server = claims.nats.get("server_id", {})
    if claims.issuer != server.get("id"):
        raise JwtError("the request was signed by another server than it names")
    if claims.audience != AUDIENCE:
        raise JwtError("the request is for another audience")
    if xkey is not None and server.get("xkey") != sender:
        raise JwtError("the request names another server xkey than its header")
    blocking = [issue.description for issue in claims.validate() if issue.blocking]
    if blocking:
        raise JwtError(f"invalid request: {'; '.join(blocking)}")
    return claims


def key_for(value: object, name: str, kind: str) -> KeyPair:
    """Return a `KeyPair` with its secret, given as such or as a seed. Raises TypeError, `NkeyError`."""
    if isinstance(value, (str, bytes, bytearray)):
        value = KeyPair.from_seed(value)
    if not isinstance(value, KeyPair):
        raise TypeError(f"{name} must be a KeyPair or a seed, not {type(value).__name__}")
    if value.kind != kind:
        raise NkeyError(f"{name} must be a key of kind {kind}, not {value.kind}")
    value.seed()  # raises without a secret
    return value


class AuthCalloutStats(TypedDict):
    """What an `AuthCallout` has done so far.

    requests are those that were understood: accepted, refused, dropped by a handler, failed (it has raised),
    timed_out, or pending. bad_requests could not be decrypted or decoded, and got no answer.
    """

    requests: int
    accepted: int
    refused: int
    dropped: int
    failed: int
    timed_out: int
    pending: int
    bad_requests: int
    last_error: str


class AuthCallout:
    """A service that servers ask whether a client may connect, and as whom (ADR-26, nats-server 2.10).

    ::

        def decide(request):
            if request.connect_opts.get("user") == "alice":
                request.accept(request.user_claims(name="alice").allow_sub("news.>"))
            else:
                request.refuse("who is that?")

        callout = AuthCallout(nats, issuer_key, decide)

    The user of the client needs to be allowed to subscribe to ``$SYS.REQ.USER.AUTH`` and ``$SRV.>``, and to
    answer. It is a `Service`: several instances share the requests, and tools discover them. It answers from
    now until `stop` or the end of the client. A drain waits for the requests that have no answer yet.

    Attributes:
        service: the `Service`.
        issuer_account: as given, "" without.
        stopped: whether it has ended.

    Args:
        nats: a client that is one of the callout's auth_users.
        issuer_key: signs the answers, and users unless `AuthRequest.accept` names another key: a `KeyPair`
            or seed of kind account. In the server's configuration its public key is ``auth_callout.issuer``;
            with an operator it is the key of the callout's account or a signing key of it.
        handler: ``handler(request)`` is called on the loop with an `AuthRequest` for each client. A
            handler that raises refuses the client; the exception is reported like that of any callback.
        xkey: a `KeyPair` or seed of kind curve, if ``xkey`` of the callout is set: requests and answers are
            encrypted. Then others are not answered.
        account: the name of the account for users that `AuthRequest.accept` names none for. Default "$G".
            With an operator it has no meaning: there the account is that of the key that signs.
        issuer_account: the public key of the callout's account, if issuer_key is a signing key of it.
        timeout_ms: how long a request waits for its answer, in ms or a timedelta. Default: as long as the
            server does (``authorization.timeout``, 2 seconds). Then it is too late to answer. 0: no limit.
        queue_group: of the instances.
        name: of the service.
        error_handler: ``error_handler(callout, err)``, called for each request that can't be decrypted or
            decoded.

    Raises:
        NkeyError: a key is of another kind, or has no secret.
        JwtError: issuer_account is no public account key.
        TypeError: an argument has a wrong type.
        NatsError: what `Service` raises.
    """

    @without_traceback
    def __init__(
        self,
        nats: Nats,
        issuer_key: KeyPair | str,
        handler: Callable[[AuthRequest], object],
        xkey: KeyPair | str | None = None,
        *,
        account: str = _DEFAULT_ACCOUNT,
        issuer_account: Key = "",
        timeout_ms: Milliseconds | None = None,
        queue_group: str = "auth-callout",
        name: str = "auth-callout",
        error_handler: Callable[[AuthCallout, NatsError], object] | None = None,
    ) -> None:
        self._key = key_for(issuer_key, "issuer_key", "account")
        self._xkey = None if xkey is None else key_for(xkey, "xkey", "curve")
        check_callback(handler, "handler", ("request", 1))
        self._handler = handler
        self._error_handler = callable_or_none(error_handler, "error_handler", ("callout, err", 2))
        if not isinstance(account, str):
            raise TypeError(f"account must be str, not {type(account).__name__}")
        self._account = account
        self.issuer_account = _account_of(issuer_account)
        self._limit = None if timeout_ms is None else milliseconds(timeout_ms, "timeout_ms")
        self._pending: dict[AuthRequest, list[Deadline]] = {}
        self._stopping: list[Callable[[Any, NatsError | None], object]] = []
        self._counts = dict.fromkeys(
            ("requests", "accepted", "refused", "dropped", "failed", "timed_out", "bad_requests"), 0
        )
        self._last_error = ""
        self.nats = nats
        self.service = Service(
            nats,
            name,
            _VERSION,
            "decides who may connect",
            queue_group=queue_group,
            stats_handler=self._service_stats,
        )
        try:
            self.service.add_endpoint("authorize", self._on_message, SUBJECT)
        except BaseException:
            self.service.stop()
            raise

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._key.public_key()}>"

    @property
    def stopped(self) -> bool:
        """Whether the callout has ended."""
        return self.service.stopped

    def stats(self) -> AuthCalloutStats:
        """Return what the callout has done so far."""
        counts: Any = self._counts
        stats: Any = {**counts, "pending": len(self._pending), "last_error": self._last_error}
        return stats  # type: ignore[no-any-return]

    def stop(self, cb: ResultCallback[bool] | None = None) -> None:
        """Stop answering. Requests that the server has sent already are still handled.

        ``cb(True, None)`` is called when they all have an answer or have timed out, or ``cb(None, err)`` if
        the connection is lost before. The client stays connected.
        """
        callable_or_none(cb, "cb")

        def stopped(result: bool | None, error: NatsError | None) -> None:
            if cb is None:
                return
            if error is None and self._pending:
                self._stopping.append(cb)
            else:
                cb(result, error)

        self.service.stop(stopped)

    # Requests.

    def _on_message(self, message: ServiceRequest) -> None:
        sender = message.header(_XKEY_HEADER, "") or ""
        try:
            claims = claims_of(message.data, sender, self._xkey)
        except NatsError as error:
            drop_frames(error)  # which may hold what a client has sent
            self._counts["bad_requests"] += 1
            self._last_error = f"{type(error).__name__}: {error}"
            if self._error_handler is not None:
                self.nats.call(self._error_handler, self, error)
            return
        request = AuthRequest(self, claims, message)
        self._counts["requests"] += 1
        deadlines = [self.nats.hold_drain(lambda: self._lost(request))]
        if limit := self._limit_of(request):
            deadlines.append(self.nats.call_later(limit, self._late, request))
        self._pending[request] = deadlines
        try:
            self._handler(request)
        except Exception as error:
            request.handler_failed(error)

    def _limit_of(self, request: AuthRequest) -> float:
        """Return how many ms a request waits. Its two times are of one clock, which may be wrong here."""
        if self._limit is not None:
            return self._limit
        claims = request.claims
        return min(max((claims.expires - claims.issued_at) * 1000.0, _SHORTEST), _LONGEST)

    def _late(self, request: AuthRequest) -> None:
        if not request.answered:
            self._counts["timed_out"] += 1
            self._close(request)

    def _lost(self, request: AuthRequest) -> None:
        """Forget a request whose answer can't be sent any more: the client has ended."""
        self._close(request, ConnectionClosedError("disconnected"))

    def _close(self, request: AuthRequest, error: NatsError | None = None) -> None:
        """Forget a request that has its answer, or gets none any more."""
        request.answered = True
        for deadline in self._pending.pop(request, ()):
            deadline.cancel()
        if not self._pending:
            waiting, self._stopping = self._stopping, []
            for cb in waiting:
                self.nats.call_soon(cb, True if error is None else None, error)

    # Of `AuthRequest`.

    def _answer(self, request: AuthRequest, outcome: str, jwt: str, error: str) -> bool:
        """Answer a request; return whether it was still open."""
        if request.answered:
            return False
        if jwt or error:
            self._send(request, jwt, error)
        self._counts[outcome] += 1
        self._close(request)
        return True

    def _user_jwt(
        self, claims: UserClaims, key: KeyPair | None, account: str, issuer_account: Key
    ) -> str:
        """Complete and sign the claims of a user."""
        owner = _account_of(issuer_account)
        if key is None:
            key, owner = self._key, owner or self.issuer_account
        elif account:
            raise JwtError("accept takes either the name of an account or the key of one")
        if owner and "issuer_account" not in claims.nats:
            claims.nats["issuer_account"] = owner
        if not claims.audience and key is self._key and not owner:
            claims.audience = account or self._account
        elif account:
            claims.audience = account
        return claims.encode(key)

    def _report(self, error: Exception) -> None:
        """Report what a handler has raised, like an exception of any callback."""
        self._last_error = type(error).__name__
        self.nats.call(_raise, error)

    def _send(self, request: AuthRequest, jwt: str, error: str) -> None:
        server = request.server_id
        claims = AuthorizationResponseClaims(request.user_nkey, audience=server["id"])
        claims.nats = {"jwt": jwt} if jwt else {"error": error}
        if self.issuer_account:
            claims.nats["issuer_account"] = self.issuer_account
        answer = claims.encode(self._key).encode()
        if self._xkey is not None:
            answer = self._xkey.seal(answer, server.get("xkey", ""))
        if error:
            request._message.respond_error(401, "unauthorized", answer)
        else:
            request._message.respond(answer)

    def _service_stats(self, endpoint: Endpoint) -> dict[str, Any]:
        return dict(self.stats())


def _raise(error: Exception) -> None:
    raise error


def _account_of(account: Key) -> str:
    public = public_of(account, "issuer_account")
    if public and kind_of(public) != "account":
        raise JwtError("issuer_account must be a public account key")
    return public
