"""Types of the compiled module, as csrc/cdef.h declares it; `tests/` hold both against each other.

The classes exist for type checkers only: at run time every one of them is cffi's ``CData``. A pointer is
never None; a NULL pointer is false.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, SupportsInt, TypeAlias, TypeVar, final, overload

_C = TypeVar("_C", bound=CData)

class CData:
    """Any C object."""

    def __bool__(self) -> bool: ...

# What is accepted for a ``const void *``: no subclass of bytes.
Bytes: TypeAlias = bytes | CData

@final
class Buffer:
    """The memory of a C object; slices are bytes."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: slice, /) -> bytes: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

class CharPointer(CData): ...

class View(CharPointer):
    """The bytes of a Python object, which keeps them in place until the view is released."""

    def __enter__(self) -> View: ...
    def __exit__(self, *exc: object) -> None: ...
    def __add__(self, offset: int, /) -> CharPointer: ...

class Int32Pointer(CData): ...
class Uint64Pointer(CData): ...

class SizePointer(CData):
    def __getitem__(self, index: int, /) -> int: ...

class Parser(CData):
    """``nats_parser *``."""

    max_message: int
    inbox_sid: int
    inbox_len: int
    max_control_line: int
    pos: int
    frame: CharPointer
    frame_len: int
    error: int
    error_offset: int
    snippet: CharPointer
    snippet_len: int
    msgs: int
    bytes: int

class Wbuf(CData):
    """``nats_wbuf *``."""

class Limits(CData):
    """``nats_wbuf_limits *``."""

    max_payload: int
    max_control_line: int
    max_pending: int
    high_water: int
    slow_mark: int
    closed: int
    held: int

class Counts(CData):
    """``nats_wbuf_counts *``."""

    msgs_out: int
    bytes_out: int
    accepted: int
    written: int
    waiting: int
    discarded: int

@final
class Ffi:
    """What is used of cffi's ``FFI``."""

    NULL: CData

    @overload
    def new(self, cdecl: Literal["nats_parser *"], /) -> Parser: ...
    @overload
    def new(self, cdecl: Literal["int32_t[]"], init: int | Sequence[int], /) -> Int32Pointer: ...
    @overload
    def new(self, cdecl: Literal["uint64_t[]"], init: int | Sequence[int], /) -> Uint64Pointer: ...
    @overload
    def new(self, cdecl: Literal["size_t *"], /) -> SizePointer: ...
    @overload
    def new(self, cdecl: Literal["char[]"], init: int | bytes, /) -> CharPointer: ...
    @overload
    def cast(self, ctype: Literal["void *"], value: int, /) -> CData: ...
    @overload
    def cast(self, ctype: Literal["uintptr_t"], value: CData, /) -> SupportsInt: ...
    def gc(self, cdata: _C, destructor: Callable[[_C], None], /) -> _C: ...
    def buffer(self, cdata: CData, size: int = -1, /) -> Buffer: ...
    def from_buffer(self, cdecl: Literal["char[]"], buffer: bytearray, /) -> View: ...
    def string(self, cdata: CharPointer, /) -> bytes: ...
    @overload
    def unpack(self, cdata: CharPointer, length: int, /) -> bytes: ...
    @overload
    def unpack(self, cdata: Int32Pointer | Uint64Pointer, length: int, /) -> list[int]: ...

@final
class Lib:
    """The constants and functions of the module."""

    NATS_ROW_WIDTH: int
    NATS_ROW_MSG: int
    NATS_ROW_RUN: int
    NATS_ROW_INFO: int
    NATS_ROW_ERR: int
    NATS_ROW_PING: int
    NATS_ROW_PONG: int
    NATS_ROW_OK: int
    NATS_ROW_ANSWER: int
    NATS_ROW_REPLY_RUN: int
    NATS_ROW_ANSWER_RUN: int
    NATS_PARSER_OK: int
    NATS_PARSER_UNKNOWN_VERB: int
    NATS_PARSER_BAD_ARGS: int
    NATS_PARSER_BAD_SID: int
    NATS_PARSER_BAD_SIZE: int
    NATS_PARSER_BAD_HEADER_SIZE: int
    NATS_PARSER_BAD_LINE_END: int
    NATS_PARSER_BAD_PAYLOAD_END: int
    NATS_PARSER_LINE_TOO_LONG: int
    NATS_PARSER_MESSAGE_TOO_LONG: int
    NATS_PARSER_NO_MEMORY: int
    NATS_MAX_CONTROL_LINE: int
    NATS_MAX_ERR_LINE: int
    NATS_MAX_INFO_LINE: int
    NATS_SNIPPET: int
    NATS_WBUF_FIRST: int
    NATS_WBUF_HIGH: int
    NATS_WBUF_SLOW: int
    NATS_WBUF_LINE_TOO_LONG: int
    NATS_WBUF_PAYLOAD_TOO_LONG: int
    NATS_WBUF_FULL: int
    NATS_WBUF_CLOSED: int
    NATS_WBUF_BAD_SUBJECT: int
    NATS_WBUF_BAD_REPLY: int
    NATS_WBUF_BAD_QUEUE: int
    NATS_WBUF_BAD_HEADERS: int
    NATS_WBUF_NO_MEMORY: int
    NATS_WBUF_LOCKED: int

    def nats_parser_init(self, parser: Parser, max_message: int, /) -> None: ...
    def nats_parser_destroy(self, parser: Parser, /) -> None: ...
    def nats_parser_feed(
        self, parser: Parser, data: Bytes, pos: int, len: int, rows: Int32Pointer, cap: int, /
    ) -> int: ...
    def nats_parser_strerror(self, error: int, /) -> CharPointer: ...
    def nats_wbuf_new(self) -> Wbuf: ...
    def nats_wbuf_free(self, wbuf: Wbuf, /) -> None: ...
    def nats_wbuf_get_limits(self, wbuf: Wbuf, /) -> Limits: ...
    def nats_wbuf_get_counts(self, wbuf: Wbuf, /) -> Counts: ...
    def nats_wbuf_publish(
        self,
        wbuf: Wbuf,
        subject: Bytes,
        subject_len: int,
        reply: Bytes,
        reply_len: int,
        headers: Bytes,
        headers_len: int,
        payload: Bytes,
        payload_len: int,
        tag: int,
        /,
    ) -> int: ...
    def nats_wbuf_set_inbox(self, wbuf: Wbuf, inbox: Bytes, len: int, /) -> int: ...
    def nats_wbuf_request(
        self,
        wbuf: Wbuf,
        subject: Bytes,
        subject_len: int,
        headers: Bytes,
        headers_len: int,
        payload: Bytes,
        payload_len: int,
        tag: int,
        /,
    ) -> int: ...
    def nats_wbuf_check_sub(
        self,
        subject: Bytes,
        subject_len: int,
        queue: Bytes,
        queue_len: int,
        sid: int,
        max_control_line: int,
        /,
    ) -> int: ...
    def nats_wbuf_sub(
        self,
        wbuf: Wbuf,
        subject: Bytes,
        subject_len: int,
        queue: Bytes,
        queue_len: int,
        sid: int,
        /,
    ) -> int: ...
    def nats_wbuf_unsub(self, wbuf: Wbuf, sid: int, max_msgs: int, /) -> int: ...
    def nats_wbuf_ping(self, wbuf: Wbuf, /) -> int: ...
    def nats_wbuf_pong(self, wbuf: Wbuf, /) -> int: ...
    def nats_wbuf_connect(self, wbuf: Wbuf, json: Bytes, json_len: int, /) -> int: ...
    def nats_wbuf_data(self, wbuf: Wbuf, /) -> CharPointer: ...
    def nats_wbuf_len(self, wbuf: Wbuf, /) -> int: ...
    def nats_wbuf_sent(self, wbuf: Wbuf, n: int, /) -> None: ...
    def nats_wbuf_lock(self, wbuf: Wbuf, locked: int, /) -> None: ...
    def nats_wbuf_pin(self, wbuf: Wbuf, n: int, /) -> None: ...
    def nats_ws_mask(self, data: CharPointer, length: int, key: Bytes, /) -> None: ...
    def nats_wbuf_take_back(self, wbuf: Wbuf, /) -> None: ...
    def nats_wbuf_remove(self, wbuf: Wbuf, tags: Uint64Pointer, n: int, /) -> int: ...
    def nats_wbuf_trim(self, wbuf: Wbuf, /) -> None: ...
    def nats_wbuf_drop_messages(self, wbuf: Wbuf, /) -> int: ...
    def nats_wbuf_recheck(
        self, wbuf: Wbuf, headers: int, tags: Uint64Pointer, cap: int, n_tags: SizePointer, /
    ) -> int: ...
    def nats_wbuf_last_line(self, wbuf: Wbuf, line: CharPointer, cap: int, /) -> int: ...
    def nats_wbuf_strerror(self, error: int, /) -> CharPointer: ...
    def nats_py_types(self, list: CData, /) -> int: ...

# The types of csrc/py_*.c, which `nats_py_types` hands out; the module has no such names.

class OutboundBase:
    """The base of `wire.Outbound`."""

    last_order: int
    run_start: int
    timeout: Any
    times: Any
    no_headers: bool
    wants_notice: bool
    waiting: Waiting
    queued: Callable[[int], object]
    schedule: Callable[[], object] | None
    loop: Any
    batches: int
    begin_run: Callable[[int], object]
    subject: str | None
    subjects: list[tuple[int, str]]
    most_subjects: int
    begin_subject: Callable[[int, str], object]
    overrides: tuple[Callable[..., object], Callable[..., object]]

    def _attach(self, address: int, owner: object, /) -> None: ...
    def __len__(self) -> int: ...
    def send(self, fd: int, /) -> int: ...

class SubscriptionBase:
    """The base of `protocol.Subscription`."""

    callback: Callable[[str, bytes, str | None, bytes | None], object]
    received: int
    received_before: int
    fast: bool
    is_inbox: bool
    closed: bool
    draining: bool

class Client:
    """The base of a class with methods that `wire.fast_method` makes."""

    def _attach(self, outbound: OutboundBase, /) -> None: ...

class HeadersBase:
    """The base of `Headers`."""

    status: int | None
    description: str | None
    _values: dict[str, list[str]]
    _received: bool

class Inbound:
    """The base of `protocol.Session`."""

    awaits_info: bool

    @property
    def depth(self) -> int: ...
    @property
    def drained(self) -> bool: ...
    @property
    def counts(self) -> tuple[int, int]: ...
    def _attach(self, subs: dict[int, Any], waiting: Waiting, schedule: object, /) -> None: ...
    def receive(self, data: bytes, /) -> None: ...
    def deliver(self, seconds: float, /) -> bool: ...
    def read(self, fd: int, seconds: float, /) -> int: ...
    def close(self) -> None: ...
    def set_inbox(self, sid: int, prefix_len: int, /) -> None: ...
    def set_max_message(self, size: int, /) -> None: ...
    def parse_error(self) -> tuple[str, int, bytes]: ...

class Taker:
    """The base of `jetstream.pull.Puller`."""

    _received: int
    _mark: int
    _where: int
    _pinned: bool
    last_reply: str | None

    def _take(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None, /
    ) -> None: ...
    def _give(
        self,
        callback: Callable[[Any, Any], object],
        type: type[Any],
        base: type[Any],
        nats: object,
        /,
    ) -> None: ...

class ConnectionBase:
    """The base of `connection.Connection`."""

    delivering: int
    refusing: bool

class LinkBase:
    """The base of `connection.Link`."""

    session: Any
    _out: Any
    _owner: Any
    _before_write: Callable[[], object]
    _clock: Callable[[], float]
    _spoke_at: float
    _slice: float
    _fd: int
    _direct: bool
    _writing: bool
    _broken: bool
    _closed: bool

    def read(self, watcher: Any = ..., revents: int = ..., /) -> bool: ...
    def flush(self, again: bool = ..., /) -> None: ...

class TurnBase:
    """The base of `net.Turn`."""

    _received: Any
    deliver: Callable[[], object]
    finish: Callable[[], object]
    flush: Callable[[], object]
    _soon: deque[tuple[Callable[..., object], tuple[object, ...]]]
    _unhandled: deque[tuple[BaseException, bool]]
    _fed: bool
    _resting: bool
    unfinished: bool

    def _on_prepare(self, watcher: Any, revents: int, /) -> None: ...
    def schedule(self) -> None: ...
    def _attach_watcher(self, prepare: object, address: int, /) -> None: ...

@final
class Waiting:
    """The callbacks of waiting requests by number."""

    def __len__(self) -> int: ...
    def __contains__(self, number: int, /) -> bool: ...
    def __getitem__(self, number: int, /) -> Any: ...
    def __setitem__(self, number: int, callback: Callable[..., object], /) -> None: ...
    def __delitem__(self, number: int, /) -> None: ...
    def __iter__(self) -> Iterator[int]: ...
    def keys(self) -> list[int]: ...
    def pop(self, number: int, default: Any = ..., /) -> Any: ...
    def clear(self) -> None: ...

class ExpiryBase:
    """The base of `client.expiry.Expiry`."""

    armed: float
    sweeping: bool

    @property
    def runs(self) -> int: ...
    @property
    def next_at(self) -> float: ...
    def _attach(
        self,
        out: OutboundBase,
        turn: TurnBase,
        clock: Callable[[], float],
        alarm: object,
        slop: float,
        /,
    ) -> None: ...
    def choose(self, seconds: float, /) -> None: ...
    def begin_run(self, number: int, /) -> None: ...
    def end_turn(self) -> None: ...
    def take_expired(self, now: float, /) -> int: ...
    def trim(self) -> None: ...
    def forget(self) -> None: ...

ffi: Ffi
lib: Lib
