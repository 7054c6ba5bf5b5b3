"""Configurations of streams, consumers and buckets from options, and from files with JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click

from .values import Pair


class Field(NamedTuple):
    """A field of a configuration, and the option that sets it."""

    flag: str  # "--max-age", or "--ack/--no-ack" for a field that is true or false
    field: str
    kind: Any  # a type of click; a list holds the type of each of several values
    help: str


def config_options(*fields: Field) -> Callable[[Any], Any]:
    """Return a decorator that gives a command the options of these fields, ``--set`` and ``--config``."""

    def decorate(function: Any) -> Any:
        more = (
            click.option(
                "--set",
                "sets",
                type=Pair("="),
                multiple=True,
                help="set any other field, to a JSON value or a text",
            ),
            click.option("--config", "file", help="read the configuration from a JSON file, or -"),
        )
        for option in reversed(more):
            function = option(function)
        for field in reversed(fields):
            several = isinstance(field.kind, list)
            kind = field.kind[0] if several else field.kind
            function = click.option(
                field.flag,
                f"field_{field.field}",
                type=None if kind is bool else kind,
                is_flag=kind is bool,
                multiple=several,
                default=None,
                help=field.help,
            )(function)
        return function

    return decorate


def config_from(how: dict[str, Any]) -> Any:
    """Return the configuration that the options of `config_options` make, and take these out of how.

    Options win over ``--set``, which wins over the file.
    """
    config = read_config(how.pop("file"))
    for name, value in how.pop("sets"):
        try:
            config[name] = json.loads(value)
        except ValueError:
            config[name] = value
    for option in [name for name in how if name.startswith("field_")]:
        value = how.pop(option)
        if value is not None and value != ():
            field = option.removeprefix("field_")
            config[field] = _plain(field, value)
    return config


def _plain(field: str, value: Any) -> Any:
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return dict(value)  # metadata
    if field in ("mirror", "sources"):
        return {"name": value} if field == "mirror" else [{"name": name} for name in value]
    if field == "backoff":
        return list(value)
    if isinstance(value, tuple):  # "a,b" is two
        return [
            part
            for each in value
            for part in (each.split(",") if isinstance(each, str) else [each])
            if part != ""
        ]
    return value


def read_config(path: str | None) -> dict[str, Any]:
    """Return the object in a JSON file; "-" is standard input, and None is no configuration.

    What ``info --json`` prints is understood, too. Raises `click.ClickException`.
    """
    if path is None:
        return {}
    try:
        text = sys.stdin.read() if path == "-" else Path(path).expanduser().read_text()
        found = json.loads(text)
    except OSError as error:
        raise click.FileError(path, error.strerror or str(error)) from None
    except ValueError as error:
        raise click.ClickException(f"{path}: not JSON: {error}") from None
    if isinstance(found, dict) and isinstance(found.get("config"), dict):
        found = found["config"]
    if not isinstance(found, dict):
        raise click.ClickException(f"{path}: not the JSON of a configuration")
    return found


def shown_metadata(metadata: Mapping[str, str] | None) -> list[tuple[str, object]]:
    """Return the metadata that users have given, without the server's own."""
    return [(n, v) for n, v in (metadata or {}).items() if not n.startswith("_nats.")]


def confirm(question: str, force: bool) -> None:
    """Ask before something is lost. Raises `click.Abort` for no.

    Args:
        question: what to ask.
        force: do not ask. Without it and without a terminal this is a `click.UsageError`.
    """
    if force:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError("this can't be undone: confirm it with --force")
    click.confirm(question, abort=True, err=True)
