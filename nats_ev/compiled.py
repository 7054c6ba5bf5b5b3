"""The compiled module, and what its C code hands out. The only importer of ``nats_ev._parser``.

`ffi` and `lib` are CFFI's: the functions of the write buffer and the parser. The rest are types and functions
of the hot path, which know Python's objects (``csrc/py_hot.h`` says why):

- `fast_method` makes a method of a `Client` that runs in C for common arguments;
- `OutboundBase`, `Inbound` and `SubscriptionBase` are bases of classes in `protocol`, `Taker` of one in
  `jetstream`; `ConnectionBase`, `LinkBase` and `TurnBase` are bases of the classes of these names,
  and so is `ExpiryBase` of one in `client`;
- `Waiting` is the table of waiting requests;
- `encode_block` turns mappings into header blocks; `parse_headers` and `last_values` turn them back, and
  `HeadersBase` has the fields of `Headers`;
- `parse_ack` reads the acknowledgement of a publish.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ._parser import ffi as ffi
from ._parser import lib as lib

if TYPE_CHECKING:
    from ._parser import Client as Client
    from ._parser import ConnectionBase as ConnectionBase
    from ._parser import ExpiryBase as ExpiryBase
    from ._parser import HeadersBase as HeadersBase
    from ._parser import Inbound as Inbound
    from ._parser import LinkBase as LinkBase
    from ._parser import OutboundBase as OutboundBase
    from ._parser import SubscriptionBase as SubscriptionBase
    from ._parser import Taker as Taker
    from ._parser import TurnBase as TurnBase
    from ._parser import Waiting as Waiting

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
        """Return the headers of a block, or None for other bytes; status_of looks for a status line."""

    def last_values(raw: bytes) -> dict[str, str]:
        """Return the names of a header block with the last value of each; not the first line."""

    def parse_ack(data: bytes) -> dict[str, Any] | None:
        """Return the stream, seq and duplicate of an acknowledgement; None if it is not the usual one."""

else:
    _handed_out: list[Any] = []
    if lib.nats_py_types(ffi.cast("void *", id(_handed_out))):
        raise MemoryError("no memory for the types of the compiled module")
    (
        OutboundBase, SubscriptionBase, Client, fast_method, Inbound,
        encode_block, HeadersBase, parse_headers, last_values, parse_ack, Taker,
        ConnectionBase, LinkBase, TurnBase, ExpiryBase, Waiting,
    ) = _handed_out  # fmt: skip
