"""NUIDs: 22 characters that are unique everywhere and can't be guessed.

The official clients draw a random start and count up from it, so that whoever has seen one inbox can guess
the next ones. Here all 131 bits of each NUID come from the system's random source. No state is kept between
calls either, so that a forked child needs no reset.
"""

from __future__ import annotations

import os

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LENGTH = 22
_RANGE = 62**_LENGTH


def next_nuid() -> str:
    """Return a fresh NUID: 22 base-62 digits."""
    number = _RANGE
    while number >= _RANGE:  # in one of 200 calls: 131 bits express a few more numbers
        number = int.from_bytes(os.urandom(17), "little") >> 5
    digits = []
    for _ in range(_LENGTH):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(digits)
