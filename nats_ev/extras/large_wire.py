"""The protocol of large messages, without I/O: headers, errors, and the assembly of chunks.

docs/howto/large-messages.md describes the protocol for implementations in other languages.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import BadHeadersError, NatsError
from ..headers import Headers, HeadersLike, received

VERSION = "1"
PREFIX = "Nats-Large-"
# Of an offer or a reference.
OFFER, SIZE, CHUNK, WANTS = (PREFIX + name for name in ("Version", "Size", "Chunk", "Wants-Reply"))
OBJECT = PREFIX + "Object"
# Of a receiver's messages to the sender.
PULL, DONE = PREFIX + "Pull", PREFIX + "Done"
# Of the sender's messages to a receiver.
INDEX, DIGEST, GONE = PREFIX + "Index", PREFIX + "Digest", PREFIX + "Gone"
# Of requests and answers.
ACCEPT, ANSWER, ERROR = PREFIX + "Accept", PREFIX + "Answer", PREFIX + "Error"
# Those of nats micro, which every requester of a service looks at.
SERVICE_ERROR, SERVICE_ERROR_CODE = "Nats-Service-Error", "Nats-Service-Error-Code"

# In bytes.
DEFAULT_CHUNK = 128 * 1024
# Of max_payload, for the headers of a chunk, and for one more header.
ROOM_FOR_HEADERS = 1024
ONE_HEADER = 64
# That of a server without a configuration.
USUAL_MAX_PAYLOAD = 1024 * 1024
_MOST_CHUNKS = 1 << 31


class LargeMessageError(NatsError):
    """Base of the errors of large messages; code is HTTP-like, 0 if there is none.

    What to do: see the subclass.
    """

    code: int = 0
    subject: str = ""


class LargeMessageRefusedError(LargeMessageError):
    """A receiver did not take the message; code and text say why.

    413: it is larger than the receiver's max_size. 429: too many messages wait at the receiver. 422: the
    receiver has got something else than was sent. 406: the requester takes no large answers.

    What to do: by the code; raise max_size or max_waiting at the receiver, or send less.
    """


class LargeMessageTooLargeError(LargeMessageRefusedError):
    """A message is larger than max_size, at its receiver or here.

    What to do: raise max_size of the receiver's `LargeMessages`, or send a reference to an object.
    """

    code = 413


class LargeMessageNotTakenError(LargeMessageError):
    """No receiver has asked for the message in time, or none is there.

    What to do: start a receiver that uses `LargeMessages.subscribe`; others can't take the message.
    """


class LargeMessageNotUnderstoodError(LargeMessageNotTakenError):
    """A receiver has answered without taking the message: it does not know large messages.

    `response` is what it has answered, `headers` the raw block or None.

    What to do: let the receiver use `LargeMessages.subscribe`.
    """

    response: bytes = b""
    headers: bytes | None = None


class LargeMessageLostError(LargeMessageError):
    """The other side has fallen silent, or has given up, in the middle of a message.

    What to do: send the message again. A receiver that has taken it whole may have handled it.
    """


class LargeMessageCorruptError(LargeMessageError):
    """What has come is not what was sent: the digest or the size differs, or a message makes no sense.

    What to do: send the message again; look for a program between the two that changes messages.
    """

    code = 422


class Offer(NamedTuple):
    """What an offer says: the size in bytes, and that of a chunk."""

    size: int
    chunk: int

    @property
    def chunks(self) -> int:
        """The number of chunks."""
        return -(-self.size // self.chunk)

    @classmethod
    def parse(cls, headers: Headers) -> Offer:
        """Read an offer. Raises `LargeMessageCorruptError`."""
        if headers.get(OFFER) != VERSION:
            raise LargeMessageCorruptError(f"unknown version {headers.get(OFFER)!r}")
        size, chunk = number(headers, SIZE), number(headers, CHUNK)
        if not size or not chunk or -(-size // chunk) > _MOST_CHUNKS:
            raise LargeMessageCorruptError(f"an offer of {size} bytes in chunks of {chunk}")
        return cls(size, chunk)


def number(headers: Mapping[str, str], name: str) -> int:
    """Return a header that is a number of at most 18 digits. Raises `LargeMessageCorruptError`."""
    text = headers.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise LargeMessageCorruptError(f"{name} is no number: {text!r}")
    return int(text)


def numbers(headers: Mapping[str, str], name: str) -> tuple[int, int]:
    """Return a header that is two numbers. Raises `LargeMessageCorruptError`."""
    first, _, second = headers.get(name, "").partition(" ")
    pair = {"first": first, "second": second}
    return number(pair, "first"), number(pair, "second")


def digest_text(digest: bytes) -> str:
    """Return a SHA-256 as the headers have it, which is also the form of object stores."""
    return "SHA-256=" + urlsafe_b64encode(digest).decode()


def is_ours(headers: bytes | None) -> bool:
    """Return whether a block has headers of this protocol."""
    return headers is not None and PREFIX.encode() in headers


def parsed(headers: bytes | None) -> Headers:
    """Return the headers of a block; none for a block that is malformed."""
    try:
        return received(headers)
    except BadHeadersError:
        return Headers()


def users_headers(headers: bytes | None) -> bytes | None:
    """Return a block without the headers of this protocol; None if nothing is left."""
    if headers is None or not is_ours(headers):
        return headers
    kept = [(name, value) for name, value in parsed(headers).pairs() if not name.startswith(PREFIX)]
    try:
        return Headers(kept).encode() if kept else None
    except BadHeadersError:
        return headers


def offer_headers(
    headers: HeadersLike | None, size: int, chunk: int, *, wants_reply: bool
) -> Headers:
    """Return the headers of an offer: a user's and those of the protocol."""
    made = Headers.parse(headers) if isinstance(headers, bytes) else Headers(headers or {})
    made[OFFER] = VERSION
    made[SIZE], made[CHUNK] = str(size), str(chunk)
    if wants_reply:
        made[WANTS] = "1"
    return made


def offer_text(size: int) -> bytes:
    """Return the payload of an offer, for receivers that do not know the protocol."""
    return (
        f"[nats-large/1] This is not the message but the offer of one of {size} bytes, above max_payload. "
        "Its receiver needs a client that knows large messages: see the header Nats-Large-Version.\n"
    ).encode()


def reference_text(where: str, size: int) -> bytes:
    """Return the payload of a reference to an object."""
    return (
        f"[nats-large/1] This is not the message but a reference to one of {size} bytes, which is the object "
        f"{where}. Its receiver needs a client that knows large messages: see the header "
        "Nats-Large-Object.\n"
    ).encode()


class Assembler:
    """Puts chunks together, in order. It holds no more than the size that was offered.

    Args:
        offer: what was offered.
    """

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.next = 0  # the chunk that is wanted next
        self._data = bytearray()
        self._hash = hashlib.sha256()

    @property
    def complete(self) -> bool:
        """Whether all chunks have come."""
        return self.next == self.offer.chunks

    def add(self, index: int, data: bytes) -> bool:
        """Take a chunk; return whether it was the one that is wanted next. Others are discarded.

        Raises:
            LargeMessageCorruptError: the chunk can't be a part of the message.
        """
        offer = self.offer
        if index >= offer.chunks:
            raise LargeMessageCorruptError(f"chunk {index} of {offer.chunks}")
        if index != self.next:
            return False
        last = index == offer.chunks - 1
        right = offer.size - index * offer.chunk if last else offer.chunk
        if len(data) != right:
            raise LargeMessageCorruptError(f"chunk {index} has {len(data)} bytes, not {right}")
        self._data += data
        self._hash.update(data)
        self.next += 1
        return True

    def message(self, digest: str) -> bytes:
        """Return the whole message. Raises `LargeMessageCorruptError` if its digest is another one."""
        if digest != digest_text(self._hash.digest()):
            raise LargeMessageCorruptError(
                "the digest of the message is another one than its sender's"
            )
        return bytes(self._data)
