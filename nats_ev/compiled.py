"""The compiled module, and what its C code hands out. The only importer of ``nats_ev._parser``.

`ffi` and `lib` are CFFI's: the functions of the write buffer and the parser. The rest are types and functions
of the hot path, which know Python's objects (``csrc/py_hot.h`` says why):

- `fast_method` makes a method of a `Client` that runs in C for common arguments;
- `OutboundBase`, `Inbound` and `SubscriptionBase` are bases of classes in `protocol`;
- `encode_block` and `parse_headers` turn mappings into header blocks, and back; `HeadersBase` has the fields.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ._parser import ffi as ffi
from ._parser import lib as lib

if TYPE_CHECKING:
    from ._parser import Client as Client
    from ._parser import HeadersBase as HeadersBase
    from ._parser import Inbound as Inbound
    from ._parser import OutboundBase as OutboundBase
    from ._parser import SubscriptionBase as SubscriptionBase

    _F = TypeVar("_F", bound=Callable[..., object])
    _H = TypeVar("_H", bound=HeadersBase)

    def fast_method(function: _F) -> _F:
        """Return a method that runs in C when it can, and else calls function.

        The function's name chooses the C code.
        """

    def encode_block(mapping: object) -> bytes | None:
        """Return the header block of a dict; None if it is no dict of str, or must not be sent."""

    def parse_headers(
        cls: type[_H], raw: bytes, status_of: Callable[[bytes], tuple[int | None, str | None]], /
    ) -> _H | None:
        """Return the headers of a block, or None if it is none; status_of looks for a status line."""

else:
    _handed_out: list[Any] = []
    if lib.nats_py_types(ffi.cast("void *", id(_handed_out))):
        raise MemoryError("no memory for the types of the compiled module")
    OutboundBase, SubscriptionBase, Client, fast_method, Inbound, *_handed_out = _handed_out
    encode_block, HeadersBase, parse_headers = _handed_out
