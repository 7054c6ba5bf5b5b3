"""What commands print: tables, details, messages, JSON, progress; plain text when nobody looks at it."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

# What a terminal would obey: all control characters but tab and line feed, DEL and those of Latin-1.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# In a pipe a line is as long as it needs to be.
_ENDLESS = 10_000
# How many columns of a terminal a name may take before it is wrapped.
_NAME = 30


def is_terminal(stream: Any = None) -> bool:
    """Return whether a stream is a terminal; None: standard output."""
    return bool((stream or sys.stdout).isatty())


def console(stderr: bool = False) -> Console:
    """Return rich's console for a stream: with colours and bold on a terminal without NO_COLOR only."""
    from rich.console import Console

    class Ours(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    stream = sys.stderr if stderr else sys.stdout
    width = None if is_terminal(stream) or "COLUMNS" in os.environ else _ENDLESS
    # With NO_COLOR rich itself would leave out colours alone, and keep bold.
    colours: Any = None if os.environ.get("NO_COLOR") else "auto"
    return Ours(
        file=stream, width=width, color_system=colours, highlight=False, markup=False, emoji=False
    )


def write(text: str = "", *, flush: bool = True) -> None:
    """Print a line to standard output. Bytes that are no UTF-8 are written as they came."""
    sys.stdout.write(text + "\n")
    if flush:
        sys.stdout.flush()


def write_bytes(data: bytes) -> None:
    """Write bytes to standard output as they are."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def note(text: str) -> None:
    """Print a line for people to standard error: what is going on, and no result."""
    sys.stderr.write(f"{printable(text, sys.stderr)}\n")
    sys.stderr.flush()


def complain(text: object) -> None:
    """Print an error to standard error, in one line."""
    note(f"nats-ev: {' '.join(str(text).split())}")


def write_json(value: Any, *, line: bool = False) -> None:
    """Print a value as JSON.

    Args:
        value: what is printed; bytes become text.
        line: in one line, because more values follow.
    """
    # What an encoding does not have would be written as an escape of Python, which JSON may not know.
    ascii_only = not str(sys.stdout.encoding).lower().startswith("utf")
    indent = None if line else 2
    write(json.dumps(value, indent=indent, default=_jsonable, ensure_ascii=ascii_only))


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def printable(data: bytes | str, stream: Any = None) -> str:
    """Return a payload as text: bytes that are no UTF-8, and on a terminal control characters, as escapes.

    Args:
        data: the payload.
        stream: where the text will be printed; None: standard output.
    """
    text = data if isinstance(data, str) else data.decode(errors="backslashreplace")
    text = text.encode(errors="backslashreplace").decode()
    if is_terminal(stream):
        text = _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    return text


def _one_line(text: str) -> str:
    return printable(text).replace("\n", "\\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Print a table. A column whose name begins with ``>`` is aligned to the right.

    Args:
        columns: names.
        rows: cells.
        title: a line above it, on a terminal.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    here = console()
    drawn = Table(
        box=box.SIMPLE_HEAD if here.is_terminal else None,
        title=title if here.is_terminal else None,
        title_style="bold",
        header_style="bold" if here.is_terminal else "",
        title_justify="left",
        pad_edge=False,
        padding=(0, 2, 0, 0),
        border_style="dim",
    )
    lines = [[_one_line(str(cell)) for cell in row] for row in rows]
    # A column without a cell says nothing.
    shown = [n for n in range(len(columns)) if not n or any(line[n] for line in lines)]
    columns = [columns[n] for n in shown]
    lines = [[line[n] for n in shown] for line in lines]
    for number, column in enumerate(columns):
        right = column.startswith(">")
        widest = max((len(line[number]) for line in lines), default=0)
        drawn.add_column(
            column.lstrip(">"),
            justify="right" if right else "left",
            overflow="fold",
            style="cyan" if number == 0 else None,
            # Numbers and names keep their width; texts are wrapped to make room for them.
            no_wrap=right,
            min_width=min(widest, _NAME) if number == 0 else None,
        )
    for line in lines:
        drawn.add_row(*(Text(cell) for cell in line))
    here.print(drawn)


def details(title: str, *sections: tuple[str, Iterable[tuple[str, object]]]) -> None:
    """Print a title, and under it sections of names with values. A value None or "" is left out.

    Args:
        title: the first line.
        sections: each a heading, which may be empty, and pairs of a name and a value.
    """
    from rich.text import Text

    here = console()
    here.print(Text(printable(title), style="bold"), soft_wrap=True)
    shown = [
        (heading, [(name, value) for name, value in pairs if value not in (None, "")])
        for heading, pairs in sections
    ]
    width = max((len(name) for _, pairs in shown for name, _ in pairs), default=0)
    for heading, pairs in shown:
        if not pairs:
            continue
        here.print()
        if heading:
            here.print(Text(heading, style="bold"), soft_wrap=True)
        for name, value in pairs:
            line = Text(f"  {name:>{width}}: ", style="cyan")
            line.append(printable(str(value)), style="default")
            here.print(line, soft_wrap=True)


def progress(*, transfer: bool = False, quiet: bool = False) -> Progress:
    """Return rich's progress bar, on standard error; it is disabled when that is no terminal.

    Args:
        transfer: count bytes, else messages.
        quiet: disable it in any case.
    """
    from rich import progress as bars

    class Bar(bars.Progress):
        def stop(self) -> None:
            if not self.disable:  # else older versions of rich print an empty line
                super().stop()

    here = console(stderr=True)
    counted: tuple[bars.ProgressColumn, ...]
    if transfer:
        counted = (bars.DownloadColumn(binary_units=True), bars.TransferSpeedColumn())
    else:
        counted = (bars.MofNCompleteColumn(),)
    return Bar(
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.TaskProgressColumn(),
        *counted,
        bars.TimeRemainingColumn(),
        console=here,
        disable=quiet or not here.is_terminal,
        transient=True,
    )
