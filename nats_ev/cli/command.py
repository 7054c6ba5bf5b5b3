"""The classes of all commands: examples in the help, other names, and options that may stand anywhere.

The options for connecting may stand before a command's name or after its arguments, as users of the official
tool write them. Each command therefore has them all, but only the help of ``nats-ev`` itself lists them.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import click

from nats_ev import Context, NatsError

from .client import Settings
from .values import DURATION

# Flags, the field of `Settings`, the type, the help.
_OPTIONS: tuple[tuple[tuple[str, ...], str, Any, str], ...] = (
    (("--server", "-s"), "server", str, "URLs of servers, with commas between (NATS_URL)"),
    (("--context",), "context", str, "use this saved context (NATS_CONTEXT)"),
    (("--user",), "user", str, "user name, or a token if there is no password (NATS_USER)"),
    (("--password",), "password", str, "password (NATS_PASSWORD)"),
    (("--token",), "token", str, "token (NATS_TOKEN)"),
    (("--creds",), "creds", str, "file of credentials (NATS_CREDS)"),
    (("--nkey",), "nkey", str, "file with the seed of an NKey (NATS_NKEY)"),
    (("--tlscert",), "tlscert", str, "file with the client's certificate (NATS_CERT)"),
    (("--tlskey",), "tlskey", str, "file with its private key (NATS_KEY)"),
    (("--tlsca",), "tlsca", str, "file with the authorities to trust (NATS_CA)"),
    (("--tlsfirst",), "tlsfirst", bool, "begin with TLS, before the server speaks"),
    (
        ("--proxy", "--socks-proxy"),
        "proxy",
        str,
        "URL of a proxy, http:// or socks5://, or none (NATS_SOCKS_PROXY, ALL_PROXY)",
    ),
    (("--timeout",), "timeout", DURATION, "limit of each step, such as 5s (NATS_TIMEOUT)"),
    (("--js-domain",), "js_domain", str, "JetStream domain"),
    (("--js-api-prefix",), "js_api_prefix", str, "prefix of JetStream's API"),
    (("--inbox-prefix",), "inbox_prefix", str, "prefix of subjects for answers"),
    (("--connection-name",), "connection_name", str, "name that the server shows"),
    (("--trace",), "trace", bool, "show the protocol's lines on standard error"),
)

_COMPLETES_WITHIN = timedelta(seconds=1)


def _take(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Note an option in the settings; the one that stands last counts."""
    if value is not None and not ctx.resilient_parsing:
        setattr(ctx.ensure_object(Settings), str(param.name), value)


def connection_options(hidden: bool) -> list[click.Parameter]:
    """Return the options for connecting; hidden: the help does not list them."""
    return [
        click.Option(
            [*flags, field],
            help=text,
            hidden=hidden,
            expose_value=False,
            callback=_take,
            is_eager=True,
            shell_complete=_contexts if field == "context" else None,
            default=None,
            **({"is_flag": True} if kind is bool else {"type": kind}),
        )
        for flags, field, kind, text in _OPTIONS
    ]


def with_settings(function: Callable[..., None]) -> Callable[..., None]:
    """Pass the settings to a command, as its first argument."""
    return click.pass_obj(function)


def completes(list_names: Callable[[Any], list[str]]) -> Callable[..., list[str]]:
    """Return the argument ``shell_complete`` of a parameter whose values the server knows.

    Args:
        list_names: called with a JetStream; returns all values. An error means that there are none.
    """

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        with contextlib.suppress(Exception), Settings(timeout=_COMPLETES_WITHIN).jetstream() as js:
            return [name for name in list_names(js) if name.startswith(incomplete)]
        return []

    return complete


def _contexts(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    with contextlib.suppress(NatsError):
        return [name for name in Context.list() if name.startswith(incomplete)]
    return []


class Command(click.Command):
    """A command with examples in its help."""

    def __init__(
        self,
        *args: Any,
        examples: str = "",
        aliases: Sequence[str] = (),
        connects: bool = True,
        **options: Any,
    ) -> None:
        """Args:
        args, options: of `click.Command`.
        examples: command lines, without ``nats-ev``, one in a line.
        aliases: other names of the command.
        connects: whether the command takes the options for connecting.
        """
        options.setdefault("context_settings", {"help_option_names": ["-h", "--help"]})
        super().__init__(*args, **options)
        self.examples = inspect.cleandoc(examples).splitlines()
        self.aliases = tuple(aliases)
        self.connects = connects
        if connects:
            own = {flag for param in self.params for flag in param.opts}
            self.params += [o for o in connection_options(True) if not own & set(o.opts)]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples:
                    whole = line if " | nats-ev " in line else f"nats-ev {line}"
                    formatter.write(f"{'':{formatter.current_indent}}{whole}\n")
        if self.connects:
            formatter.write("\nOptions for connecting are listed by: nats-ev --help\n")


class Group(click.Group):
    """A group of commands, which knows their other names and what was probably meant."""

    command_class = Command

    def __init__(self, *args: Any, aliases: Sequence[str] = (), **options: Any) -> None:
        """Args:
        args, options: of `click.Group`.
        aliases: other names of the group.
        """
        options.setdefault("context_settings", {"help_option_names": ["-h", "--help"]})
        super().__init__(*args, **options)
        self.aliases = tuple(aliases)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name or one of its other names."""
        found = super().get_command(ctx, cmd_name)
        if found is None:
            for command in self.commands.values():
                if cmd_name in getattr(command, "aliases", ()):
                    return command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of a command line. Raises `click.UsageError`, with the names that are similar."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            known = [
                n for c in self.commands.values() for n in (c.name, *getattr(c, "aliases", ()))
            ]
            similar = difflib.get_close_matches(name, [n for n in known if n], n=1)
            hint = f": did you mean {similar[0]!r}?" if similar else ""
            ctx.fail(f"no command {name!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in the order of their definition, with their other names."""
        rows = []
        for name, command in self.commands.items():
            names = (name, *getattr(command, "aliases", ())[:1])
            rows.append((", ".join(names), command.get_short_help_str(60)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


# A group within a group is of the same class.
Group.group_class = Group
