"""What JetStream answers instead of a result.

::

    JetStreamError                          code, err_code, description
    ├── APIError                            an answer with an error in it; ADR-7: branch on err_code
    │   ├── JetStreamNotEnabledError · JetStreamNotEnabledForAccountError
    │   ├── StreamNotFoundError · StreamNameAlreadyInUseError · SubjectOverlapError
    │   ├── ConsumerNotFoundError · ConsumerExistsError · ConsumerNameAlreadyInUseError
    │   ├── MessageNotFoundError
    │   ├── WrongLastSequenceError · WrongLastMsgIdError · WrongStreamError
    │   ├── ApiLevelError                   the server is too old for what was asked for
    │   ├── MaximumMessagesError · ResourcesExceededError
    │   ├── MessageTtlError
    │   └── BatchError
    ├── PullStatusError                     a status that ends a pull request, or a consumer
    │   ├── BadPullRequestError (400) · NoMessagesError (404) · TooManyRequestsError (429)
    │   ├── PinIdMismatchError (423)
    │   ├── ConsumerDeletedError · ConsumerIsPushError · ConsumerLeadershipChangedError
    │   ├── ServerShutdownError · MaxBytesExceededError · MaxWaitingExceededError
    │   └── MaxRequestExceededError
    ├── NoHeartbeatError                    the server has fallen silent
    ├── ConsumerIsPullError · SequenceMismatchError (push consumers)
    ├── MsgAlreadyAckedError · MsgNotAckableError
    ├── BatchClosedError
    ├── InvalidAnswerError                  an answer that is none of JetStream's
    └── TooManyStalledMsgsError             the window of asynchronous publishing does not move

No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ..errors import NatsError

__all__ = [
    "APIError",
    "ApiLevelError",
    "BadPullRequestError",
    "BatchClosedError",
    "BatchError",
    "ConsumerDeletedError",
    "ConsumerExistsError",
    "ConsumerIsPullError",
    "ConsumerIsPushError",
    "ConsumerLeadershipChangedError",
    "ConsumerNameAlreadyInUseError",
    "ConsumerNotFoundError",
    "InvalidAnswerError",
    "JetStreamError",
    "JetStreamNotEnabledError",
    "JetStreamNotEnabledForAccountError",
    "MaxBytesExceededError",
    "MaxRequestExceededError",
    "MaxWaitingExceededError",
    "MaximumMessagesError",
    "MessageNotFoundError",
    "MessageTtlError",
    "MsgAlreadyAckedError",
    "MsgNotAckableError",
    "NoHeartbeatError",
    "NoMessagesError",
    "PinIdMismatchError",
    "PullStatusError",
    "ResourcesExceededError",
    "SequenceMismatchError",
    "ServerShutdownError",
    "StreamNameAlreadyInUseError",
    "StreamNotFoundError",
    "SubjectOverlapError",
    "TooManyRequestsError",
    "TooManyStalledMsgsError",
    "WrongLastMsgIdError",
    "WrongLastSequenceError",
    "WrongStreamError",
]


class JetStreamError(NatsError):
    """Base of all that JetStream reports; code is HTTP-like, err_code JetStream's own (0: none)."""

    text = "jetstream error"
    code: int = 0
    err_code: int = 0
    description: str  # the server's words, without the code

    def __init__(self, text: str = "", **data: Any) -> None:
        super().__init__(text, **data)
        self.__dict__.setdefault("description", str(self))


class APIError(JetStreamError):
    """The server refused a request: ``str(err)`` is "<description> (code <code>)"."""

    by_err_code: ClassVar[dict[int, type[APIError]]] = {}

    def __init_subclass__(cls, err_codes: tuple[int, ...] = ()) -> None:
        cls.by_err_code.update(dict.fromkeys(err_codes, cls))
        if err_codes:  # what an exception of the class has that was not made from an answer
            cls.err_code = err_codes[0]

    @staticmethod
    def of(error: Mapping[str, Any]) -> APIError:
        """The exception for an answer's ``error``; an unknown err_code gives a plain `APIError`."""
        code = error.get("code", 0)
        err_code = error.get("err_code", 0)
        description = str(error.get("description", "") or "unknown error")
        kind = APIError.by_err_code.get(err_code, APIError)
        return kind(
            f"{description} (code {code})",
            code=code,
            err_code=err_code,
            description=description,
        )


class JetStreamNotEnabledError(APIError, err_codes=(10076,)):
    """The server runs without JetStream."""


class JetStreamNotEnabledForAccountError(APIError, err_codes=(10039,)):
    """The account has no JetStream."""


class StreamNotFoundError(APIError, err_codes=(10059,)):
    """There is no such stream."""


class StreamNameAlreadyInUseError(APIError, err_codes=(10058,)):
    """A stream of this name exists, with another configuration."""


class SubjectOverlapError(APIError, err_codes=(10065,)):
    """Another stream has one of the subjects already."""


class ConsumerNotFoundError(APIError, err_codes=(10014, 10149)):
    """There is no such consumer."""


class ConsumerExistsError(APIError, err_codes=(10105, 10148)):
    """There is such a consumer already, with another configuration."""


class ConsumerNameAlreadyInUseError(APIError, err_codes=(10013,)):
    """The consumer's name is taken."""


class MessageNotFoundError(APIError, err_codes=(10037,)):
    """The stream has no such message."""


class WrongLastSequenceError(APIError, err_codes=(10071, 10164)):
    """The stream, or the subject, has gone on since the expected sequence."""


class WrongLastMsgIdError(APIError, err_codes=(10070,)):
    """The stream's last message has another id than expected."""


class WrongStreamError(APIError, err_codes=(10060,)):
    """The subject belongs to another stream than expected."""


class ApiLevelError(APIError, err_codes=(10185,)):
    """The server's JetStream is too old for what was asked for; nothing was done."""


class MaximumMessagesError(APIError, err_codes=(10077,)):
    """The message was not stored: a limit of the stream."""


class ResourcesExceededError(APIError, err_codes=(10002, 10023, 10026, 10027, 10028, 10047)):
    """A limit of the account or the server."""


class MessageTtlError(APIError, err_codes=(10165, 10166)):
    """The time to live is invalid, or the stream has none."""


class BatchError(
    APIError,
    err_codes=(
        10174, 10175, 10176, 10177, 10179, 10199, 10200, 10201, 10205, 10206, 10207, 10208, 10210, 10211,
    ),
):  # fmt: skip
    """A batch was refused or abandoned."""


class PullStatusError(JetStreamError):
    """A status that ends a pull request; `code` is the status, ``str(err)`` its text."""

    terminal: ClassVar[bool] = False  # the consumer will give no more messages


class BadPullRequestError(PullStatusError):
    """The server does not understand the request."""

    terminal = True


class NoMessagesError(PullStatusError):
    """There is no message now."""


class TooManyRequestsError(PullStatusError):
    """The server has too much to do."""


class PinIdMismatchError(PullStatusError):
    """Another client has become the pinned one."""


class ConsumerDeletedError(PullStatusError):
    """The consumer has been deleted."""

    terminal = True


class ConsumerIsPushError(PullStatusError):
    """The consumer delivers by itself; it can't be asked."""

    terminal = True


class ConsumerLeadershipChangedError(PullStatusError):
    """Another server of the cluster has taken over."""


class ServerShutdownError(PullStatusError):
    """The server that leads the consumer is going down."""


class MaxBytesExceededError(PullStatusError):
    """The next message is larger than max_bytes."""


class MaxWaitingExceededError(PullStatusError):
    """As many requests wait already as the consumer allows (max_waiting)."""


class MaxRequestExceededError(PullStatusError):
    """The request asks for more than the consumer's max_batch, max_expires or max_bytes."""

    terminal = True


class NoHeartbeatError(JetStreamError):
    """Two heartbeats in a row have not come."""

    text = "no heartbeat received"


class ConsumerIsPullError(JetStreamError):
    """The consumer delivers nothing by itself; it wants to be asked."""

    text = "consumer is not push based"


class SequenceMismatchError(JetStreamError):
    """The server has sent more of a push consumer's messages than have arrived."""

    text = "messages have not arrived"


class MsgAlreadyAckedError(JetStreamError):
    """A message can be answered for good only once."""

    text = "message was already acknowledged"


class MsgNotAckableError(JetStreamError):
    """Messages of this consumer are not acknowledged."""

    text = "message can not be acknowledged"


class InvalidAnswerError(JetStreamError):
    """Whoever answered, it was not JetStream."""

    text = "invalid answer"


class BatchClosedError(JetStreamError):
    """The batch has ended: by its user, or by the server (`ack`, if it gave one, says how far it got)."""

    text = "batch is closed"
    ack: dict[str, Any] | None = None
    lost: tuple[int, int] | None = None  # last_seq and seq of a gap that the server reports


class TooManyStalledMsgsError(JetStreamError):
    """max_ack_pending messages are unacknowledged, and no acknowledgement came for stall_wait."""

    text = "stalled with too many outstanding async published messages"


# Beginning of a 409's text in lower case → class; from nats-server's consumer.
_BY_TEXT: tuple[tuple[str, type[PullStatusError]], ...] = (
    ("consumer deleted", ConsumerDeletedError),
    ("consumer is push based", ConsumerIsPushError),
    ("leadership change", ConsumerLeadershipChangedError),
    ("server shutdown", ServerShutdownError),
    ("message size exceeds maxbytes", MaxBytesExceededError),
    ("exceeded maxwaiting", MaxWaitingExceededError),
    ("exceeded maxrequest", MaxRequestExceededError),
)
_BY_STATUS: dict[int, type[PullStatusError]] = {
    400: BadPullRequestError,
    404: NoMessagesError,
    423: PinIdMismatchError,
    429: TooManyRequestsError,
}


def status_error(status: int, text: str | None) -> JetStreamError:
    """The exception for a status message of a pull request."""
    text = text or f"status {status}"
    if status == 412:
        return ApiLevelError(f"{text} (code 412)", code=412, err_code=10185, description=text)
    kind = _BY_STATUS.get(status)
    if kind is None:
        folded = text.lower()
        kind = next((kind for start, kind in _BY_TEXT if folded.startswith(start)), PullStatusError)
    return kind(text, code=status)
