"""Subjects, reply subjects and queue groups: how they are encoded, and which ones are valid. No I/O.

They are str in Python and UTF-8 on the wire, with surrogateescape both ways: a subject of any bytes that a
server forwards can be decoded and sent back. Publishing checks characters only, as the C core does on the hot
path; subscribing checks tokens and wildcards as well, because a server would refuse the subscription later.
"""

from __future__ import annotations

import re

from .errors import BadSubjectError

_BAD = re.compile(r"[\0- \x7f]")


def encode(text: str) -> bytes:
    """Return the bytes of a subject or queue group. Raises TypeError or `BadSubjectError`."""
    try:
        # Not text.encode, which a subclass may override.
        return str.encode(text, "utf-8", "surrogateescape")
    except TypeError:
        raise TypeError(f"a subject must be str, not {type(text).__name__}") from None
    except UnicodeEncodeError:
        raise BadSubjectError(f"invalid subject {text!r}: a lone surrogate", subject=text) from None


def decode(raw: bytes) -> str:
    """Return the text of a subject's bytes. Any bytes will do, and `encode` turns the text back into them."""
    return raw.decode("utf-8", "surrogateescape")


def check_publish(subject: str) -> None:
    """Check that a control line can carry a subject. Raises TypeError or `BadSubjectError`."""
    if not isinstance(subject, str):
        raise TypeError(f"a subject must be str, not {type(subject).__name__}")
    if not subject:
        raise BadSubjectError("invalid subject '': it is empty", subject=subject)
    if _BAD.search(subject):
        raise BadSubjectError(
            f"invalid subject {subject!r}: it contains a blank or control character",
            subject=subject,
        )


def check_tokens(subject: str) -> None:
    """Check a subject that becomes a part of a request's. Raises TypeError or `BadSubjectError`.

    A server delivers no message to a subject with an empty token.
    """
    check_publish(subject)
    if "" in subject.split("."):
        raise BadSubjectError(f"invalid subject {subject!r}: an empty token", subject=subject)


def check_literal(subject: str) -> None:
    """Check a subject that names one thing. Raises TypeError or `BadSubjectError`.

    A request about a subject with wildcards would concern all that match.
    """
    check_tokens(subject)
    if any(token in ("*", ">") for token in subject.split(".")):
        raise BadSubjectError(
            f"invalid subject {subject!r}: a wildcard, to which nobody can publish",
            subject=subject,
        )


def encode_strictly(text: str) -> bytes:
    """Return a subject's bytes, and refuse wildcards and empty tokens. Raises TypeError or `BadSubjectError`.

    Subjects that begin with ``$`` are the server's own: requests of its API may have wildcards.
    """
    if not (isinstance(text, str) and text.startswith("$")):
        check_literal(text)
    return encode(text)


def check_subscribe(subject: str) -> None:
    """Check a subject to subscribe to. Raises TypeError or `BadSubjectError`.

    Beyond `check_publish`, each token between dots must be a name, ``*``, or at the end ``>``.
    """
    check_tokens(subject)
    tokens = subject.split(".")
    if ">" in tokens[:-1]:
        raise BadSubjectError(
            f"invalid subject {subject!r}: > is not the last token", subject=subject
        )
    if any(len(token) > 1 and ("*" in token or ">" in token) for token in tokens):
        raise BadSubjectError(
            f"invalid subject {subject!r}: a wildcard is a token of its own", subject=subject
        )


def matches(pattern: str, subject: str) -> bool:
    """Return whether a subscription to pattern receives messages that are published to subject."""
    wanted, tokens = pattern.split("."), subject.split(".")
    for i, token in enumerate(wanted):
        if token == ">":
            return len(tokens) > i
        if i >= len(tokens) or token not in ("*", tokens[i]):
            return False
    return len(wanted) == len(tokens)


def check_one_token(token: str, what: str) -> None:
    """Check a text that becomes one token of a request's subject. Raises TypeError or `BadSubjectError`.

    Args:
        token: the text.
        what: its meaning, for the error's text.
    """
    check_publish(token)
    if "." in token or token in ("*", ">"):
        raise BadSubjectError(f"invalid {what} {token!r}: not one token", subject=token)
