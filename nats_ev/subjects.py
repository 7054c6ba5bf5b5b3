"""Subjects: their bytes, and what makes one valid. No I/O.

Subjects, replies and queue groups are str in Python and UTF-8 on the wire, with surrogateescape both
ways, so that whatever a server forwards can be answered.
"""

from __future__ import annotations

from .errors import BadSubjectError


def encode(text: str) -> bytes:
    """The bytes of a subject or queue group; raises TypeError or `BadSubjectError`."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except AttributeError:
        raise TypeError(f"a subject must be str, not {type(text).__name__}") from None
    except UnicodeEncodeError:
        raise BadSubjectError(f"invalid subject {text!r}: a lone surrogate", subject=text) from None


def decode(raw: bytes) -> str:
    """The text of a subject's bytes; whatever they are, `encode` gives them back."""
    return raw.decode("utf-8", "surrogateescape")


def check_publish(subject: str) -> None:
    """Raise `BadSubjectError` for what no line of the protocol can carry."""
    if not isinstance(subject, str):
        raise TypeError(f"a subject must be str, not {type(subject).__name__}")
    if not subject:
        raise BadSubjectError("invalid subject '': it is empty", subject=subject)
    if any(c <= " " or c == "\x7f" for c in subject):
        raise BadSubjectError(
            f"invalid subject {subject!r}: it contains a blank or control character",
            subject=subject,
        )


def check_subscribe(subject: str) -> None:
    """`check_publish`, and each token between dots must be a name, ``*``, or at the end ``>``."""
    check_publish(subject)
    tokens = subject.split(".")
    if "" in tokens:
        raise BadSubjectError(f"invalid subject {subject!r}: an empty token", subject=subject)
    if ">" in tokens[:-1]:
        raise BadSubjectError(
            f"invalid subject {subject!r}: > is not the last token", subject=subject
        )
    if any(len(token) > 1 and ("*" in token or ">" in token) for token in tokens):
        raise BadSubjectError(
            f"invalid subject {subject!r}: a wildcard is a token of its own", subject=subject
        )


def matches(pattern: str, subject: str) -> bool:
    """Whether a subscription to pattern receives what is published to subject."""
    wanted, tokens = pattern.split("."), subject.split(".")
    for i, token in enumerate(wanted):
        if token == ">":
            return len(tokens) > i
        if i >= len(tokens) or token not in ("*", tokens[i]):
            return False
    return len(wanted) == len(tokens)
