"""The errors of JetStream: those that the server answers with, and those that the client finds.

::

    JetStreamError                          code, err_code, description
    ├── APIError                            the server's answer is an error; branch on err_code (ADR-7)
    │   ├── JetStreamNotEnabledError        also a NoRespondersError
    │   ├── JetStreamNotEnabledForAccountError
    │   ├── StreamNotFoundError · StreamNameAlreadyInUseError · SubjectOverlapError
    │   ├── ConsumerNotFoundError · ConsumerExistsError · ConsumerNameAlreadyInUseError
    │   ├── MessageNotFoundError
    │   ├── WrongLastSequenceError · WrongLastMsgIdError · WrongStreamError
    │   ├── ApiLevelError                   the server is too old for the request
    │   ├── MaximumMessagesError · ResourcesExceededError
    │   ├── MessageTtlError
    │   ├── BatchError
    │   └── CounterError · ScheduleError · ConsumerInvalidResetError · ReconfigurationInProgressError
    ├── NoStreamResponseError               no stream or consumer answers; also a NoRespondersError
    ├── PullStatusError                     a status that ends a pull request, or a consumer
    │   ├── BadPullRequestError (400) · NoMessagesError (404) · TooManyRequestsError (429)
    │   ├── PinIdMismatchError (423)
    │   ├── ConsumerDeletedError · ConsumerIsPushError · ConsumerLeadershipChangedError
    │   ├── ServerShutdownError · MaxBytesExceededError · MaxWaitingExceededError
    │   └── MaxRequestExceededError
    ├── NoHeartbeatError                    two heartbeats are missing
    ├── StreamRecreatedError                an ordered consumer's stream is another one now
    ├── ConsumerIsPullError · SequenceMismatchError (push consumers)
    ├── MsgAlreadyAckedError · MsgNotAckableError
    ├── BatchClosedError
    ├── InvalidAnswerError                  the answer is not one of JetStream's
    └── TooManyStalledMsgsError             no acknowledgement frees the window of publish_async

No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from ..errors import NatsError, NoRespondersError

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
    "NoStreamResponseError",
    "PinIdMismatchError",
    "PullStatusError",
    "ResourcesExceededError",
    "SequenceMismatchError",
    "ServerShutdownError",
    "StreamNameAlreadyInUseError",
    "StreamNotFoundError",
    "StreamRecreatedError",
    "SubjectOverlapError",
    "TooManyRequestsError",
    "TooManyStalledMsgsError",
    "WrongLastMsgIdError",
    "WrongLastSequenceError",
    "WrongStreamError",
]


class JetStreamError(NatsError):
    """Base of all errors of JetStream; code is HTTP-like, err_code JetStream's own (0: none).

    `stream`, `consumer` and `subject` name what the error is about, as far as the client knows; else "".

    What to do: see the subclass, or code and description.
    """

    text = "jetstream error"
    code: int = 0
    err_code: int = 0
    stream: str = ""
    consumer: str = ""
    subject: str = ""
    description: str  # the server's text, without the code

    def __init__(self, text: str = "", **data: Any) -> None:
        super().__init__(text, **data)
        self.__dict__.setdefault("description", str(self))


class APIError(JetStreamError):
    """The server refused a request: ``str(err)`` is "<description> (code <code>)" and what it is about.

    What to do: branch on err_code; the manual of nats-server lists all of them.
    """

    by_err_code: ClassVar[dict[int, type[APIError]]] = {}

    def __init_subclass__(cls, err_codes: tuple[int, ...] = ()) -> None:
        cls.by_err_code.update(dict.fromkeys(err_codes, cls))
        if err_codes:  # the err_code of an exception that the client raises by itself
            cls.err_code = err_codes[0]

    @staticmethod
    def of(error: Mapping[str, Any]) -> APIError:
        """Return the exception for an answer's ``error``; an unknown err_code gives a plain `APIError`."""
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


class JetStreamNotEnabledError(APIError, NoRespondersError, err_codes=(10076,)):
    """The server runs without JetStream, or nobody serves the subject of its API.

    In the second case, which is the usual one, `err_code` is 0, and the text is a question: the client can't
    be sure. The server may run without JetStream, or the account may have no access to the prefix or domain.

    What to do: start the server with ``-js``, or give the account access to JetStream; with a domain or
    prefix, check its name.
    """


class JetStreamNotEnabledForAccountError(APIError, err_codes=(10039,)):
    """The account has no JetStream.

    What to do: enable JetStream for the account: ``jetstream: enabled`` in the configuration, or limits
    by ``nsc``.
    """


class StreamNotFoundError(APIError, err_codes=(10059,)):
    """The stream does not exist.

    What to do: create the stream, or correct its name; `JetStream.stream_names` lists all.
    """


class StreamNameAlreadyInUseError(APIError, err_codes=(10058,)):
    """A stream of this name exists, with another configuration.

    What to do: use `JetStream.stream_create_or_update`, or another name.
    """


class SubjectOverlapError(APIError, err_codes=(10065,)):
    """Another stream has one of the subjects already.

    What to do: choose subjects that no other stream has; `JetStream.stream_name_by_subject` names the one
    that has it.
    """


class ConsumerNotFoundError(APIError, err_codes=(10014, 10149)):
    """The consumer does not exist.

    What to do: create the consumer, or correct its name. One without durable_name ends after its
    inactive_threshold.
    """


class ConsumerExistsError(APIError, err_codes=(10105, 10148)):
    """A consumer of this name exists, with another configuration.

    What to do: use `JetStream.consumer_create_or_update`, or another name.
    """


class ConsumerNameAlreadyInUseError(APIError, err_codes=(10013,)):
    """The consumer's name is taken.

    What to do: choose another name, or delete the consumer that has it.
    """


class MessageNotFoundError(APIError, err_codes=(10037,)):
    """The stream has no such message.

    What to do: it was deleted, has expired, or never was: `JetStream.stream_info` has the first and last
    sequence.
    """


class WrongLastSequenceError(APIError, err_codes=(10071, 10164)):
    """The last sequence of the stream, or of the subject, is not the expected one.

    What to do: another writer was first: read the latest state, and decide again.
    """


class WrongLastMsgIdError(APIError, err_codes=(10070,)):
    """The stream's last message has another id than expected.

    What to do: another writer was first: read the latest state, and decide again.
    """


class WrongStreamError(APIError, err_codes=(10060,)):
    """The subject belongs to another stream than expected.

    What to do: correct expect_stream, or the streams' subjects.
    """


class ApiLevelError(APIError, err_codes=(10185,)):
    """The server's JetStream is too old for the request.

    The server has done nothing, except where an older server than the one that was asked for its level has
    ignored what is new: a consumer exists without the field, a message is stored without the feature. The
    text then says where the message is, and `ack` is the server's acknowledgement.

    What to do: update the server to the version in the text, or leave out the field or option.
    """

    ack: dict[str, Any] | None = None

    @classmethod
    def lacking(
        cls,
        features: Mapping[str, tuple[tuple[int, int], int]],
        ack: Mapping[str, Any] | None = None,
    ) -> ApiLevelError:
        """Return the error that names these features, and the first nats-server that has all of them.

        Args:
            features: those that the server lacks.
            ack: the acknowledgement of a message that was stored without them.
        """
        major, minor = max(version for version, _ in features.values())
        text = f"{', '.join(features)}: nats-server {major}.{minor} or later is required"
        if ack is not None:
            text += f"; stored without in {ack.get('stream')}, sequence {ack.get('seq')}"
            stored = dict(ack)
            return cls(f"{text} (code 412)", code=412, err_code=10185, description=text, ack=stored)
        return cls(f"{text} (code 412)", code=412, err_code=10185, description=text)


class MaximumMessagesError(APIError, err_codes=(10077,)):
    """The server did not store the message, because the stream has reached a limit.

    What to do: raise the stream's limit, let it discard old messages (``discard: old``), or consume
    faster.
    """


class ResourcesExceededError(APIError, err_codes=(10002, 10023, 10026, 10027, 10028, 10047)):
    """The account or the server has reached a limit.

    What to do: delete streams or consumers that are not needed, or raise the limit of the account or the
    server.
    """


class MessageTtlError(APIError, err_codes=(10165, 10166)):
    """The time to live is invalid, or the stream does not allow one per message.

    What to do: set ``allow_msg_ttl`` in the stream's configuration, and give a ttl of a second or more.
    """


class BatchError(
    APIError,
    err_codes=(
        10174, 10175, 10176, 10177, 10179, 10199, 10200, 10201, 10205, 10206, 10207, 10208, 10210, 10211,
    ),
):  # fmt: skip
    """The server has refused or abandoned a batch.

    What to do: publish the batch again from its beginning; the text says what the server did not accept.
    """


class NoStreamResponseError(JetStreamError, NoRespondersError):
    """No stream stores the subject of a message, or the stream or consumer that was asked does not answer.

    What to do: create a stream with that subject, or correct the subject; is JetStream enabled?
    """

    text = "no response from stream"


class PullStatusError(JetStreamError):
    """A status that ends a pull request; `code` is the status, ``str(err)`` its text.

    What to do: see the text; `consume` goes on by itself where that makes sense.
    """

    terminal: ClassVar[bool] = False  # the consumer delivers no more messages


class BadPullRequestError(PullStatusError):
    """The server does not understand the request.

    What to do: correct the options of the request.
    """

    terminal = True


class NoMessagesError(PullStatusError):
    """The consumer has no message now.

    What to do: nothing is wrong: ask again later, or wait longer by ``expires``.
    """


class TooManyRequestsError(PullStatusError):
    """The server is overloaded.

    What to do: ask less often.
    """


class PinIdMismatchError(PullStatusError):
    """Another client has become the pinned one.

    What to do: nothing: the client asks for a pin again. `JetStream.consumer_unpin` takes it from the
    other one.
    """


class ConsumerDeletedError(PullStatusError):
    """The consumer has been deleted.

    What to do: create the consumer again and consume from it, or end.
    """

    terminal = True


class ConsumerIsPushError(PullStatusError):
    """The consumer is a push consumer: it takes no pull requests.

    What to do: use `JetStream.push_subscribe`, or create a consumer without deliver_subject.
    """

    terminal = True


class ConsumerLeadershipChangedError(PullStatusError):
    """Another server of the cluster has taken over.

    What to do: ask again; `consume` does that by itself.
    """


class ServerShutdownError(PullStatusError):
    """The server that leads the consumer is going down.

    What to do: ask again; `consume` does that by itself.
    """


class MaxBytesExceededError(PullStatusError):
    """The next message is larger than max_bytes.

    What to do: raise max_bytes above the size of the largest message.
    """


class MaxWaitingExceededError(PullStatusError):
    """The consumer has as many waiting requests as it allows (max_waiting).

    What to do: share the consumer between fewer clients, or raise its max_waiting.
    """


class MaxRequestExceededError(PullStatusError):
    """The request asks for more than the consumer's max_batch, max_expires or max_bytes.

    What to do: ask for less, or raise the consumer's limit.
    """

    terminal = True


class NoHeartbeatError(JetStreamError):
    """Two heartbeats in a row are missing.

    What to do: `consume` asks again by itself. If it goes on: is the consumer's leader there, and does a
    callback block the loop?
    """

    text = "no heartbeat received"


class StreamRecreatedError(JetStreamError):
    """The stream was deleted and created again, or has lost its messages.

    The last call of the callback of an ordered consumer or a watch: its position means nothing now.

    What to do: create the consumer or the watch again.
    """

    text = "stream was created again"


class ConsumerIsPullError(JetStreamError):
    """The consumer is a pull consumer: it delivers only on request.

    What to do: use `JetStream.consume` or `JetStream.fetch`.
    """

    text = "consumer is not push based"


class SequenceMismatchError(JetStreamError):
    """The server has sent messages of a push consumer that have not arrived.

    What to do: create the subscription again; an ordered consumer does that by itself.
    """

    text = "messages have not arrived"


class MsgAlreadyAckedError(JetStreamError):
    """The message has had its final answer.

    What to do: answer each message once; only `in_progress` may come before.
    """

    text = "message was already acknowledged"


class MsgNotAckableError(JetStreamError):
    """The message can't be acknowledged: its consumer wants no acknowledgements.

    What to do: leave the answer out, or create the consumer with ``ack_policy: explicit``.
    """

    text = "message can not be acknowledged"


class InvalidAnswerError(JetStreamError):
    """The answer is not one that JetStream gives.

    What to do: look into the text for the field; is another program answering on this subject?
    """

    text = "invalid answer"


class BatchClosedError(JetStreamError):
    """The user or the server has ended the batch.

    `ack` is the server's acknowledgement if it sent one: up to there the messages are stored.

    What to do: begin another batch with what `ack` does not contain.
    """

    text = "batch is closed"
    ack: dict[str, Any] | None = None
    lost: tuple[int, int] | None = None  # last_seq and seq of a gap that the server reports


class TooManyStalledMsgsError(JetStreamError):
    """max_ack_pending messages are unacknowledged, and no acknowledgement came within stall_wait.

    What to do: wait for `JetStream.publish_ready`, raise stall_wait or max_ack_pending, or look for a
    stream without a leader.
    """

    text = "stalled with too many outstanding async published messages"


# How the text of a 409 begins, in lower case → class. The texts are those of nats-server's consumer.
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


class _Asked(NamedTuple):
    """What a subject of the API asks for: the stream and consumer in it, or ""."""

    prefix: str
    kind: str
    stream: str
    consumer: str


def _asked(subject: str) -> _Asked | None:
    """Return what a request's subject asks for; None for a subject outside of the API."""
    tokens = subject.split(".")
    for at, kind in enumerate(tokens):
        if kind in ("STREAM", "CONSUMER", "DIRECT") or (kind == "INFO" and at == len(tokens) - 1):
            verb = at + 2 if tokens[at + 1 : at + 2] in _TWO_WORDS else at + 1
            stream, consumer, *_ = [*tokens[verb + 1 : verb + 3], "", ""]
            consumer = consumer if kind == "CONSUMER" else ""
            return _Asked(".".join(tokens[:at]), kind, stream, consumer)
    return None


# The first words of STREAM.MSG.GET, CONSUMER.DURABLE.CREATE and the like.
_TWO_WORDS = (["MSG"], ["PEER"], ["LEADER"], ["DURABLE"])


def about(error: NatsError | None, subject: str) -> NatsError | None:
    """Let the error of an API request name the stream and the consumer of the request, once.

    Args:
        error: a `JetStreamError`; others stay as they are.
        subject: of the request, with or without the prefix.
    """
    if not isinstance(error, JetStreamError) or error.stream:
        return error
    asked = _asked(subject)
    if asked is not None and asked.stream:
        error.stream, error.consumer = asked.stream, asked.consumer
        what = f"stream {error.stream!r}"
        if error.consumer and not isinstance(error, StreamNotFoundError):
            what = f"consumer {error.consumer!r} of {what}"
        error.args = (f"{error}: {what}",)
    return error


def nobody(subject: str, stores: bool = False) -> NatsError:
    """Return the error for a 503, the server's notice that nobody listens to a request's subject.

    Args:
        subject: of the request; "" if it is unknown.
        stores: whether the subject is one that a stream should store.
    """
    if stores:
        return NoStreamResponseError(
            f"no stream stores subject {subject!r}: no responders (is JetStream enabled on this server?)",
            code=503, subject=subject,
        )  # fmt: skip
    asked = _asked(subject)
    if asked is None:
        text = f"no responders on {subject}: does the consumer exist, and is JetStream enabled?"
        return NoRespondersError(text if subject else "", subject=subject)
    prefix, kind, stream, consumer = asked
    if kind == "DIRECT":
        return NoStreamResponseError(
            f"no stream {stream!r} answers: no responders "
            "(does it exist, with allow_direct, and is JetStream enabled?)",
            code=503, subject=subject, stream=stream,
        )  # fmt: skip
    if ".MSG.NEXT." in subject:
        return NoStreamResponseError(
            f"no consumer {consumer!r} of stream {stream!r} answers: no responders "
            "(do both exist, and is JetStream enabled?)",
            code=503, subject=subject, stream=stream, consumer=consumer,
        )  # fmt: skip
    text = f"no responders on {subject}: is JetStream enabled on this server (nats-server -js)?"
    if prefix != "$JS.API":
        text += f" Does it serve the prefix or domain of {prefix!r}?"
    return JetStreamNotEnabledError(
        text, code=503, err_code=0, subject=subject, stream=stream, consumer=consumer
    )


def nobody_answered(error: NatsError | None) -> bool:
    """Return whether an error is one of `nobody`, and not a server's own answer."""
    return isinstance(error, NoRespondersError) and not getattr(error, "err_code", 0)


def status_error(
    status: int, text: str | None, subject: str = "", stores: bool = False
) -> NatsError:
    """Return the exception for a status message.

    Args:
        status: the code. 503 is the server's notice that nobody listens: see `nobody`.
        text: the description, which tells the 409s of a pull request apart.
        subject, stores: of the request, as for `nobody`.
    """
    if status == 503:
        return nobody(subject, stores)
    return about(_status_error(status, text), subject) or NatsError()


def _status_error(status: int, text: str | None) -> NatsError:
    text = text or f"status {status}"
    if status == 412:
        return ApiLevelError(f"{text} (code 412)", code=412, err_code=10185, description=text)
    kind = _BY_STATUS.get(status)
    if kind is None:
        folded = text.lower()
        kind = next((kind for start, kind in _BY_TEXT if folded.startswith(start)), PullStatusError)
    return kind(text, code=status)


# Cluster incomplete, JetStream temporarily unavailable, no leader to handle the request, stream offline.
_ELECTING = {10004, 10008, 10009, 10118}


def is_electing(error: NatsError | None) -> bool:
    """Return whether a server has answered that it can't just now, as while a cluster elects a leader."""
    return isinstance(error, APIError) and error.err_code in _ELECTING
