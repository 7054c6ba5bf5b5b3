"""Commands for object stores: ``object``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click

from nats_ev import ObjectNotFoundError, blocking

from .client import Settings
from .command import Group, completes, with_settings
from .configs import Field, config_from, config_options, confirm, shown_metadata
from .output import details, note, printable, progress, table, write, write_json
from .values import (
    DURATION,
    SIZE,
    Number,
    Pair,
    Size,
    headers_of,
    shown_age,
    shown_duration,
    shown_size,
    shown_time,
)

_FIELDS = (
    Field("--ttl", "ttl", DURATION, "how long objects are kept"),
    Field("--max-bucket-size", "max_bytes", Size(unlimited=True), "size of the bucket; -1: any"),
    Field("--storage", "storage", click.Choice(["file", "memory"]), "where objects are kept"),
    Field("--replicas", "replicas", Number(1), "servers that have a copy"),
    Field("--description", "description", str, "a text"),
    Field("--compress/--no-compress", "compression", bool, "compress the file"),
    Field("--allow-batched/--no-allow-batched", "allow_batched", bool, "put in fast batches"),
    Field("--metadata", "metadata", [Pair("=")], "a name with a value; may be repeated"),
)
_NAMES = completes(blocking.ObjectStore.bucket_names)
_JSON = click.option("--json", "as_json", is_flag=True, help="print JSON")
_FORCE = click.option("--force", "-f", is_flag=True, help="do not ask")
_NO_PROGRESS = click.option("--no-progress", is_flag=True, help="show no progress bar")


@click.group("object", cls=Group, aliases=("obj", "objects"))
def object_() -> None:
    """Manage object stores, and store and fetch files."""


@object_.command("add", aliases=("new", "create"), examples="object add FILES --ttl 30d")
@click.argument("bucket", shell_complete=_NAMES)
@config_options(*_FIELDS)
@_JSON
@with_settings
def add(settings: Settings, bucket: str, as_json: bool, **how: Any) -> None:
    """Create a bucket."""
    config = config_from(how)
    with settings.jetstream() as js:
        store = js.object_store(bucket)
        store.create_bucket(config)
        _show_bucket(store.status(), as_json)


@object_.command("edit", examples="object edit FILES --description 'all files'")
@click.argument("bucket", shell_complete=_NAMES)
@config_options(*_FIELDS)
@_JSON
@with_settings
def edit(settings: Settings, bucket: str, as_json: bool, **how: Any) -> None:
    """Change the configuration of a bucket. What no option names stays."""
    changes = config_from(how)
    if not changes:
        raise click.UsageError("say what to change")
    with settings.jetstream() as js:
        store = js.object_store(bucket)
        store.update_bucket(changes)
        _show_bucket(store.status(), as_json)


@object_.command(
    "put",
    examples="""
        object put FILES report.pdf
        object put FILES /var/log/app.log --name logs/app.log -H type:text
        object put FILES - --name dump.sql < dump.sql
    """,
)
@click.argument("bucket", shell_complete=_NAMES)
@click.argument("file")
@click.option("--name", help="name of the object; by default the file's, as it is written here")
@click.option("--description", help="a text")
@click.option("--header", "-H", "pairs", type=Pair(), multiple=True, help="a header, as name:value")
@click.option("--metadata", type=Pair("="), multiple=True, help="a name with a value")
@click.option("--chunk-size", type=SIZE, help="size of the parts; by default 128KB")
@click.option("--resume", help="state file: a put that was interrupted goes on where it stopped")
@_NO_PROGRESS
@_JSON
@with_settings
def put(settings: Settings, bucket: str, file: str, name: str | None, **how: Any) -> None:
    """Store a file, or standard input if FILE is -."""
    if name is None and file == "-":
        raise click.UsageError("standard input has no name: --name NAME")
    data: BinaryIO | Path = sys.stdin.buffer if file == "-" else Path(file).expanduser()
    with settings.jetstream() as js, progress(transfer=True, quiet=how["no_progress"]) as bar:
        task = bar.add_task(name or file, total=None)
        info = js.object_store(bucket).put(
            name or file,
            data,
            description=how["description"],
            headers=headers_of(how["pairs"]),
            metadata=dict(how["metadata"]) or None,
            chunk_size=how["chunk_size"],
            resume=Path(how["resume"]).expanduser() if how["resume"] else None,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if how["as_json"]:
        write_json(info)
    else:
        note(f"Stored {info['name']!r} in {bucket}: {shown_size(info['size'])}, {info['digest']}")


@object_.command(
    "get",
    examples="""
        object get FILES report.pdf
        object get FILES logs/app.log --output app.log --force
        object get FILES dump.sql -O - | psql
        object get FILES backup.tar --resume
    """,
)
@click.argument("bucket", shell_complete=_NAMES)
@click.argument("name")
@click.option(
    "--output", "-O", help="file to write; -: standard output. By default the last part of NAME"
)
@click.option("--force", "-f", is_flag=True, help="replace a file that exists")
@click.option("--resume", is_flag=True, help="go on where a get of the same file was interrupted")
@_NO_PROGRESS
@with_settings
def get(settings: Settings, bucket: str, name: str, output: str | None, **how: Any) -> None:
    """Fetch an object into a file. The file is there only when it is complete and its digest is right."""
    target = output or os.path.basename(name)
    if not target:
        raise click.UsageError(f"{name!r} names no file: --output FILE")
    path = Path(target).expanduser()
    if target != "-" and path.exists() and not how["force"]:
        raise click.ClickException(f"{target} exists: --force replaces it")
    if target == "-" and how["resume"]:
        raise click.UsageError("--resume needs a file")
    into: BinaryIO | Path = sys.stdout.buffer if target == "-" else path
    with settings.jetstream() as js, progress(transfer=True, quiet=how["no_progress"]) as bar:
        task = bar.add_task(name, total=None)
        info = js.object_store(bucket).get(
            name,
            into,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            resume=how["resume"],
        )
    if info is None:
        raise ObjectNotFoundError(f"object not found: {name!r} in bucket {bucket!r}")
    if target != "-":
        note(f"Wrote {target}: {shown_size(info['size'])}")


@object_.command(
    "ls",
    aliases=("list",),
    examples="""
        object ls
        object ls FILES
        object ls FILES --json
    """,
)
@click.argument("bucket", required=False, shell_complete=_NAMES)
@click.option("--names", "-n", is_flag=True, help="print names alone")
@_JSON
@with_settings
def ls(settings: Settings, bucket: str | None, names: bool, as_json: bool) -> None:
    """List the buckets, or the objects of one."""
    with settings.jetstream() as js:
        if bucket is None:
            _show_buckets(blocking.ObjectStore.buckets(js), names, as_json)
            return
        infos = js.object_store(bucket).list_infos()
    infos.sort(key=lambda info: str(info["name"]))
    if as_json:
        write_json([info["name"] for info in infos] if names else infos)
    elif names:
        for info in infos:
            write(printable(info["name"]))
    elif not infos:
        note(f"No objects in {bucket}")
    else:
        table(
            ("Name", ">Size", ">Age", "Description"),
            [
                (
                    info["name"],
                    shown_size(info["size"]),
                    shown_age(info["mtime"]),
                    info.get("description") or "",
                )
                for info in infos
            ],
            title=f"Objects in {bucket}",
        )


def _show_buckets(buckets: Sequence[Mapping[str, Any]], names: bool, as_json: bool) -> None:
    if as_json:
        write_json([each["bucket"] for each in buckets] if names else buckets)
    elif names:
        for each in buckets:
            write(each["bucket"])
    elif not buckets:
        note("No object stores")
    else:
        table(
            ("Bucket", "Description", ">Size", ">TTL", "Sealed"),
            [
                (
                    each["bucket"],
                    each["description"],
                    shown_size(each["bytes"]),
                    shown_duration(each["ttl"]) if each["ttl"] else "",
                    "yes" if each["sealed"] else "",
                )
                for each in buckets
            ],
            title="Object stores",
        )


@object_.command(
    "info",
    aliases=("status",),
    examples="""
        object info FILES
        object info FILES report.pdf
    """,
)
@click.argument("bucket", shell_complete=_NAMES)
@click.argument("name", required=False)
@_JSON
@with_settings
def info(settings: Settings, bucket: str, name: str | None, as_json: bool) -> None:
    """Show a bucket, or an object of it."""
    with settings.jetstream() as js:
        store = js.object_store(bucket)
        if name is None:
            _show_bucket(store.status(), as_json)
            return
        found = store.info(name)
    if found is None:
        raise ObjectNotFoundError(f"object not found: {name!r} in bucket {bucket!r}")
    if as_json:
        write_json(found)
        return
    link = (found.get("options") or {}).get("link") or {}
    details(
        f"Object {found['name']} in {bucket}",
        (
            "",
            [
                ("Description", found.get("description")),
                ("Size", f"{shown_size(found['size'])} ({found['size']:,} bytes)"),
                ("Chunks", f"{found['chunks']:,}"),
                ("Modified", shown_time(found["mtime"])),
                ("Digest", found.get("digest")),
                ("Link to", "/".join(filter(None, (link.get("bucket"), link.get("name"))))),
                *shown_metadata(found.get("metadata")),
                *((n, ", ".join(v)) for n, v in (found.get("headers") or {}).items()),
            ],
        ),
    )


def _show_bucket(status: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        write_json(status)
        return
    details(
        f"Object store {status['bucket']}, created {shown_time(status['stream_info']['created'])}",
        (
            "",
            [
                ("Description", status["description"]),
                ("Size", shown_size(status["bytes"])),
                ("TTL", shown_duration(status["ttl"]) if status["ttl"] else "for ever"),
                ("Max size", shown_size(status["config"].get("max_bytes") or -1)),
                ("Storage", status["storage"]),
                ("Replicas", status["replicas"]),
                ("Compressed", "yes" if status["compressed"] else "no"),
                ("Sealed", "yes" if status["sealed"] else "no"),
                *shown_metadata(status["metadata"]),
            ],
        ),
    )


@object_.command(
    "rm",
    aliases=("del", "delete"),
    examples="""
        object rm FILES report.pdf --force
        object rm FILES --force
    """,
)
@click.argument("bucket", shell_complete=_NAMES)
@click.argument("name", required=False)
@_FORCE
@with_settings
def rm(settings: Settings, bucket: str, name: str | None, force: bool) -> None:
    """Delete an object, or a whole bucket. Without NAME the bucket goes, with all its objects."""
    what = f"{name!r} in {bucket}" if name else f"bucket {bucket} with all its objects"
    confirm(f"Delete {what}?", force)
    with settings.jetstream() as js:
        store = js.object_store(bucket)
        if name:
            store.delete(name)
        else:
            store.delete_bucket()


@object_.command("seal", examples="object seal FILES --force")
@click.argument("bucket", shell_complete=_NAMES)
@_FORCE
@with_settings
def seal(settings: Settings, bucket: str, force: bool) -> None:
    """Make a bucket read-only for ever."""
    confirm(f"Seal bucket {bucket}? Nobody can undo that.", force)
    with settings.jetstream() as js:
        js.object_store(bucket).seal()


@object_.command(
    "watch",
    examples="""
        object watch FILES
        object watch FILES --updates-only --json
    """,
)
@click.argument("bucket", shell_complete=_NAMES)
@click.option("--updates-only", is_flag=True, help="print only what changes from now on")
@click.option("--count", type=Number(1), help="end after so many changes")
@click.option("--json", "as_json", is_flag=True, help="print each change as a line of JSON")
@with_settings
def watch(
    settings: Settings, bucket: str, updates_only: bool, count: int | None, as_json: bool
) -> None:
    """Print the objects of a bucket, then every change."""
    with (
        settings.jetstream(lasting=True) as js,
        js.object_store(bucket).watch(updates_only=updates_only) as infos,
    ):
        number = 0
        for info in infos:
            if info is None:  # the end of what was there
                continue
            number += 1
            if as_json:
                write_json(info, line=True)
            else:
                what = "DEL" if info.get("deleted") else f"PUT {shown_size(info['size'])}"
                write(f"[{shown_time(info['mtime'])}] {what} {printable(info['name'])}")
            if number == count:
                break


COMMANDS = (object_,)
