"""Commands that copy streams into folders, and back: ``stream backup``, ``account backup`` and their like."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nats_ev import blocking

from .client import Settings
from .command import Group, completes, connection_options, with_settings
from .output import note, progress, write_json
from .server import show_info
from .streams import stream
from .values import DURATION, Number, shown_size

if TYPE_CHECKING:
    from collections.abc import Iterator

_JSON = click.option("--json", "as_json", is_flag=True, help="print JSON")
_QUIET = click.option("--quiet", "-q", is_flag=True, help="show no progress")
_CONSUMERS = click.option(
    "--consumers/--no-consumers", default=True, help="with the consumers, or without"
)
_CHECK = click.option("--check", is_flag=True, help="let the server check all messages before")
_STEP = click.option(
    "--step", type=DURATION, default="30s", show_default=True, help="limit of each piece"
)
_REPLICAS = click.option("--replicas", type=Number(1, 5), help="servers that have a copy")
_CLUSTER = click.option("--cluster", help="place it in this cluster")
_TAGS = click.option("--tag", "tags", multiple=True, help="place it on servers with this tag")


def _config(replicas: int | None, cluster: str | None, tags: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields of a stream's configuration that the options change."""
    placement: dict[str, Any] = {}
    if cluster:
        placement["cluster"] = cluster
    if tags:
        placement["tags"] = list(tags)
    changed: dict[str, Any] = {"placement": placement} if placement else {}
    return changed if replicas is None else {**changed, "num_replicas": replicas}


@contextmanager
def _bar(what: str, quiet: bool) -> Iterator[Callable[..., None]]:
    """Show a progress bar for a block, which calls ``advance([stream,] bytes, total)``."""
    with progress(transfer=True, quiet=quiet) as bar:
        task = bar.add_task(what, total=None)

        def advance(*seen: Any) -> None:
            name, done, total = seen if len(seen) == 3 else (what, *seen)
            bar.update(task, description=name, completed=done, total=total)

        yield advance


@stream.command(
    "backup",
    aliases=("snapshot",),
    examples="""
        stream backup ORDERS backups/orders
        stream backup ORDERS backups/orders --no-consumers --overwrite
    """,
)
@click.argument("name", shell_complete=completes(lambda js: js.stream_names()))
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@_CONSUMERS
@_CHECK
@click.option("--overwrite", is_flag=True, help="replace a backup in the folder")
@_STEP
@_QUIET
@_JSON
@with_settings
def backup_stream(
    settings: Settings,
    name: str,
    folder: Path,
    step: timedelta,
    quiet: bool,
    as_json: bool,
    **how: Any,
) -> None:
    """Copy a stream into a folder.

    The official tool can restore the copy, too.
    """
    with settings.jetstream() as js, _bar(name, quiet or as_json) as advance:
        found = blocking.Backup(js).backup_stream(
            name, folder, timeout=step, progress=advance, **how
        )
    state = found["state"]
    if as_json:
        write_json({"stream": name, "folder": str(folder), **found})
    else:
        note(
            f"Copied {state['messages']:,} messages of {name}, up to sequence {state['last_seq']}: "
            f"{shown_size(found['bytes'])} in {folder}"
        )


@stream.command(
    "restore",
    examples="""
        stream restore backups/orders
        stream restore backups/orders --replicas 3
    """,
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@_REPLICAS
@_CLUSTER
@_TAGS
@_STEP
@_QUIET
@_JSON
@with_settings
def restore_stream(
    settings: Settings, folder: Path, step: timedelta, quiet: bool, as_json: bool, **where: Any
) -> None:
    """Create a stream from the copy in a folder.

    The stream must not exist.
    """
    with settings.jetstream() as js, _bar("restore", quiet or as_json) as advance:
        info = blocking.Backup(js).restore_stream(
            folder, config=_config(**where), timeout=step, progress=advance
        )
    if as_json:
        write_json(info)
    else:
        name, state = info["config"]["name"], info["state"]
        note(f"Restored {name}: {state['messages']:,} messages, {shown_size(state['bytes'])}")


@click.group(
    "account", cls=Group, invoke_without_command=True, params=connection_options(hidden=True)
)
@_JSON
@click.pass_context
def account(ctx: click.Context, as_json: bool) -> None:
    """Show the account, and copy all of its streams."""
    if ctx.invoked_subcommand is None:
        show_info(ctx.obj, as_json)


@account.command("info", aliases=("nfo",), examples="account info")
@_JSON
@with_settings
def account_info(settings: Settings, as_json: bool) -> None:
    """Show the connection and the use of JetStream, as info does."""
    show_info(settings, as_json)


@account.command("backup", aliases=("snapshot",), examples="account backup backups/all")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@_CONSUMERS
@_CHECK
@_STEP
@_QUIET
@_JSON
@with_settings
def backup_account(
    settings: Settings, folder: Path, step: timedelta, quiet: bool, as_json: bool, **how: Any
) -> None:
    """Copy all streams of the account into a folder.

    The folder must not have a backup.
    """
    with settings.jetstream() as js, _bar("streams", quiet or as_json) as advance:
        manifest = blocking.Backup(js).backup_account(folder, timeout=step, progress=advance, **how)
    if as_json:
        write_json(manifest)
        return
    size = sum(each["bytes"] for each in manifest["streams"])
    note(f"Copied {len(manifest['streams'])} streams: {shown_size(size)} in {folder}")
    for name, reason in manifest["skipped"].items():
        note(f"Skipped {name}: {reason}")


@account.command(
    "restore",
    examples="""
        account restore backups/all
        account restore backups/all --skip-existing --replicas 1
    """,
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--skip-existing", is_flag=True, help="leave streams alone that exist")
@_REPLICAS
@_CLUSTER
@_TAGS
@_STEP
@_QUIET
@_JSON
@with_settings
def restore_account(
    settings: Settings,
    folder: Path,
    skip_existing: bool,
    step: timedelta,
    quiet: bool,
    as_json: bool,
    **where: Any,
) -> None:
    """Create all streams from the copies in a folder.

    The copies may be those of the official tool.
    """
    with settings.jetstream() as js, _bar("streams", quiet or as_json) as advance:
        found = blocking.Backup(js).restore_account(
            folder,
            config=_config(**where),
            skip_existing=skip_existing,
            timeout=step,
            progress=advance,
        )
    if as_json:
        write_json(found)
        return
    note(f"Restored {len(found['restored'])} streams: {', '.join(found['restored']) or 'none'}")
    if found["skipped"]:
        note(f"Skipped, because they exist: {', '.join(found['skipped'])}")


COMMANDS = (account,)
