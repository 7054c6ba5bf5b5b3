"""The command ``nats-ev``: what the library can do, from a shell.

An example of the public API, and on that alone: commands that ask wait by `nats_ev.blocking`, those that
receive have callbacks. `values` reads and shows durations and sizes, `output` prints, `client` connects,
`command` has the classes of commands; the other modules have the commands. Needs click and rich: the
extra ``cli``.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, cast

import click
from click.shell_completion import get_completion_class

from nats_ev import (
    NatsError,
    NoRespondersError,
    NoStreamResponseError,
    RequestTimeoutError,
    ServerError,
    __version__,
)

from . import (
    accounts,
    backups,
    bench,
    consumers,
    contexts,
    kv,
    messages,
    objects,
    server,
    services,
    streams,
    system,
    tracing,
)
from .client import Settings
from .command import Group, connection_options
from .output import complain, note, write

# Exit statuses, besides 0. A shell reports 128 + n for a program that signal n has ended.
FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130
BROKEN_PIPE = 141

_COMPLETE = "_NATS_EV_COMPLETE"


@click.group(
    "nats-ev",
    cls=Group,
    params=connection_options(hidden=False),
    epilog="Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.",
)
@click.version_option(__version__, "--version", "-V", message="nats-ev %(version)s")
def root() -> None:
    """Publish, subscribe, and manage streams and buckets on a NATS server.

    The options may also stand after a command. Durations are written like 5s or 1h30m, sizes like 64KB.
    """


_MODULES = (
    *(messages, server, backups, system, tracing, bench, streams, consumers, kv, objects),
    *(services, contexts, accounts),
)
for module in _MODULES:
    for each in module.COMMANDS:
        root.add_command(each)


@root.command(
    "completion",
    connects=False,
    examples="""
        completion bash > ~/.local/share/bash-completion/completions/nats-ev
        completion zsh > ~/.zfunc/_nats-ev
        completion fish > ~/.config/fish/completions/nats-ev.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what completes command lines in a shell."""
    kind = get_completion_class(shell)
    assert kind is not None
    write(kind(root, {}, "nats-ev", _COMPLETE).source())


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, and return the exit status.

    Args:
        argv: the arguments; None: those of the program.
    """
    if argv is None and _COMPLETE in os.environ:
        root.main(prog_name="nats-ev", complete_var=_COMPLETE)
    logging.getLogger("nats_ev").addHandler(logging.NullHandler())
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by who has started the program
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  open to the program's end
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = cast(Any, _show_warning)
            return _run(sys.argv[1:] if argv is None else list(argv))
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError):
            # Python flushes standard output at its end: to nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    """Print a warning of the library as one line, without the place in the code."""
    complain(f"warning: {message}")


def _run(argv: list[str]) -> int:
    try:
        with root.make_context("nats-ev", argv, obj=Settings()) as ctx:
            root.invoke(ctx)
            sys.stdout.flush()
            return 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        note(error.format_message())
        return WRONG_USAGE
    except click.UsageError as error:
        complain(error.format_message())
        if error.ctx is not None:
            note(error.ctx.get_usage())
            note(f"Try '{error.ctx.command_path} --help'.")
        return WRONG_USAGE
    except click.ClickException as error:
        complain(error.format_message())
        return FAILED
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            note("")  # after the terminal's ^C
        return INTERRUPTED
    except click.Abort:
        return FAILED
    except BrokenPipeError:
        raise
    except (NatsError, OSError) as error:
        if isinstance(error.__cause__, BrokenPipeError):  # an object on its way to standard output
            raise error.__cause__ from None
        if isinstance(error, OSError) and error.filename is not None and error.strerror:
            complain(f"{os.fsdecode(error.filename)}: {error.strerror}")
        elif isinstance(error, NoStreamResponseError):  # its text names the stream or the subject
            complain(error)
        elif isinstance(error, (NoRespondersError, RequestTimeoutError)) and error.subject:
            whole = str(error)
            complain(whole if error.subject in whole else f"{whole}: {error.subject!r}")
        else:
            address = error.address if isinstance(error, ServerError) else None
            complain(f"{address}: {error}" if address else error)
        return FAILED
