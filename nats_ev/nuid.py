"""NUIDs: 22 characters that are unique everywhere and can't be guessed.

The official clients count on from a random start; inboxes made of such a sequence can be guessed by
who has seen one. Here each is random as a whole (131 bits from the system), so nothing is kept
between calls and a fork needs no care.
"""

from __future__ import annotations

import secrets

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LENGTH = 22
_RANGE = 62**_LENGTH


def next_nuid() -> str:
    """A fresh NUID: 22 base-62 digits."""
    number = secrets.randbelow(_RANGE)
    digits = []
    for _ in range(_LENGTH):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(digits)
