"""Commands for key-value buckets: ``kv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import click

from nats_ev import KeyNotFoundError, KvEntry, blocking

from .client import Settings
from .command import Group, completes, with_settings
from .configs import Field, config_from, config_options, confirm, shown_metadata
from .output import details, note, printable, table, write, write_bytes, write_json
from .values import (
    DURATION,
    Number,
    Pair,
    Size,
    body_of,
    shown_age,
    shown_duration,
    shown_size,
    shown_time,
)

_FIELDS = (
    Field("--history", "history", Number(1, 64), "revisions kept of each key"),
    Field("--ttl", "ttl", DURATION, "how long values are kept"),
    Field("--max-bucket-size", "max_bytes", Size(unlimited=True), "size of the bucket; -1: any"),
    Field("--max-value-size", "max_value_size", Size(unlimited=True), "size of one value; -1: any"),
    Field("--storage", "storage", click.Choice(["file", "memory"]), "where values are kept"),
    Field("--replicas", "replicas", Number(1), "servers that have a copy"),
    Field("--description", "description", str, "a text"),
    Field("--compress/--no-compress", "compression", bool, "compress the file"),
    Field("--marker-ttl", "limit_marker_ttl", DURATION, "let keys have TTLs of their own"),
    Field("--atomic/--no-atomic", "allow_atomic", bool, "let several keys be put together"),
    Field("--mirror", "mirror", str, "another bucket that it copies"),
    Field("--source", "sources", [str], "another bucket that it also takes values from"),
    Field("--metadata", "metadata", [Pair("=")], "a name with a value; may be repeated"),
)
_NAMES = completes(blocking.KV.bucket_names)
_JSON = click.option("--json", "as_json", is_flag=True, help="print JSON")
_TTL = click.option("--ttl", type=DURATION, help="how long the key is kept (see add --marker-ttl)")
_FORCE = click.option("--force", "-f", is_flag=True, help="do not ask")


@click.group(cls=Group)
def kv() -> None:
    """Manage key-value buckets, and read and write their keys."""


@kv.command(
    "add",
    aliases=("new",),
    examples="""
        kv add CONFIG
        kv add CONFIG --history 5 --ttl 30d --storage memory
    """,
)
@click.argument("bucket", shell_complete=_NAMES)
@config_options(*_FIELDS)
@_JSON
@with_settings
def add(settings: Settings, bucket: str, as_json: bool, **how: Any) -> None:
    """Create a bucket."""
    config = config_from(how)
    with settings.jetstream() as js:
        store = js.key_value(bucket)
        store.create_bucket(config)
        _show(store.status(), as_json)


@kv.command("edit", examples="kv edit CONFIG --history 10")
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
        store = js.key_value(bucket)
        store.update_bucket(changes)
        _show(store.status(), as_json)


@kv.command(
    "info",
    aliases=("status",),
    examples="kv info CONFIG",
)
@click.argument("bucket", shell_complete=_NAMES)
@_JSON
@with_settings
def info(settings: Settings, bucket: str, as_json: bool) -> None:
    """Show the configuration and the state of a bucket."""
    with settings.jetstream() as js:
        _show(js.key_value(bucket).status(), as_json)


def _show(status: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        write_json(status)
        return
    details(
        f"Key-value bucket {status['bucket']}, "
        f"created {shown_time(status['stream_info']['created'])}",
        (
            "",
            [
                ("Description", status["description"]),
                ("Values", f"{status['stream_info']['state']['messages']:,}"),
                ("Size", shown_size(status["bytes"])),
                ("History", status["config"].get("history")),
                ("TTL", shown_duration(status["ttl"]) if status["ttl"] else "for ever"),
                ("Max size", shown_size(status["config"].get("max_bytes") or -1)),
                ("Max value size", shown_size(status["config"].get("max_value_size") or -1)),
                ("Storage", status["storage"]),
                ("Replicas", status["replicas"]),
                ("Compressed", "yes" if status["compressed"] else "no"),
                *shown_metadata(status["metadata"]),
            ],
        ),
    )


@kv.command(
    "ls",
    aliases=("list", "keys"),
    examples="""
        kv ls
        kv ls CONFIG
        kv ls CONFIG 'app.>' --verbose
    """,
)
@click.argument("bucket", required=False, shell_complete=_NAMES)
@click.argument("filters", nargs=-1)
@click.option("--names", "-n", is_flag=True, help="of buckets: print names alone")
@click.option("--verbose", "-v", is_flag=True, help="of keys: print revisions and ages, too")
@_JSON
@with_settings
def ls(
    settings: Settings,
    bucket: str | None,
    filters: tuple[str, ...],
    names: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """List the buckets, or the keys of one. FILTERS may have wildcards."""
    with settings.jetstream() as js:
        if bucket is None:
            _show_buckets(blocking.KV.buckets(js), names, as_json)
            return
        store = js.key_value(bucket)
        if verbose:
            _show_keys(_latest(store, filters), as_json)
            return
        keys = store.keys(list(filters))
    if as_json:
        write_json(sorted(keys))
    else:
        for key in sorted(keys):
            write(printable(key))


def _show_buckets(buckets: Sequence[Mapping[str, Any]], names: bool, as_json: bool) -> None:
    if as_json:
        write_json([each["bucket"] for each in buckets] if names else buckets)
    elif names:
        for each in buckets:
            write(each["bucket"])
    elif not buckets:
        note("No key-value buckets")
    else:
        table(
            ("Bucket", "Description", ">Values", ">Size", ">History", ">TTL"),
            [
                (
                    each["bucket"],
                    each["description"],
                    f"{each['stream_info']['state']['messages']:,}",
                    shown_size(each["bytes"]),
                    each["config"].get("history", ""),
                    shown_duration(each["ttl"]) if each["ttl"] else "",
                )
                for each in buckets
            ],
            title="Key-value buckets",
        )


def _latest(store: blocking.KV, filters: tuple[str, ...]) -> list[KvEntry]:
    """Return the latest entry of each key, without values."""
    entries = []
    with store.watch(list(filters), ignore_deletes=True, meta_only=True) as watch:
        for entry in watch:
            if entry is None:
                break
            entries.append(entry)
    return entries


def _show_keys(entries: list[KvEntry], as_json: bool) -> None:
    entries.sort(key=lambda entry: entry.key)
    if as_json:
        write_json([{"key": e.key, "revision": e.revision, "created": e.created} for e in entries])
    else:
        rows = [(e.key, f"{e.revision:,}", shown_age(e.created)) for e in entries]
        table(("Key", ">Revision", ">Age"), rows)


@kv.command(
    "get",
    examples="""
        kv get CONFIG app.colour
        kv get CONFIG app.colour --raw > colour.txt
        kv get CONFIG app.colour --revision 3 --json
    """,
)
@click.argument("bucket", shell_complete=_NAMES)
@click.argument("key")
@click.option("--revision", type=Number(1), help="not the latest value, but this one")
@click.option("--raw", "-r", is_flag=True, help="print the value's bytes and nothing else")
@_JSON
@with_settings
def get(
    settings: Settings, bucket: str, key: str, revision: int | None, raw: bool, as_json: bool
) -> None:
    """Print the value of a key. Exit status 1 if there is none."""
    with settings.jetstream() as js:
        store = js.key_value(bucket)
        entry = store.entry(key) if revision is None else store.get_revision(key, revision)
    if entry is None or entry.deleted:
        raise KeyNotFoundError(f"key not found: {key!r} in bucket {bucket!r}")
    if raw:
        write_bytes(entry.value)
    elif as_json:
        write_json(_as_dict(entry))
    else:
        write(printable(entry.value).removesuffix("\n"))


def _as_dict(entry: KvEntry) -> dict[str, Any]:
    return {
        "bucket": entry.bucket,
        "key": entry.key,
        "value": entry.value,
        "revision": entry.revision,
        "created": entry.created,
        "operation": entry.operation,
    }


_QUIET = click.option("--quiet", "-q", is_flag=True, help="do not print the revision")


@kv.command(
    "put",
    examples="""
        kv put CONFIG app.colour red
        kv put CONFIG app.json < app.json
        kv put CONFIG session.42 alice --ttl 30m
    """,
)
@click.argument("bucket", shell_complete=_NAMES)
@click.argument("key")
@click.argument("value", required=False)
@_TTL
@_QUIET
@with_settings
def put(
    settings: Settings,
    bucket: str,
    key: str,
    value: str | None,
    ttl: timedelta | None,
    quiet: bool,
) -> None:
    """Set a key, whatever its value is, and print the revision. Without VALUE it is read from a pipe."""
    data = body_of(value)
    with settings.jetstream() as js:
        _report(js.key_value(bucket).put(key, data, ttl=ttl), quiet)


def _report(revision: int, quiet: bool) -> None:
    if not quiet:
        write(str(revision))


@kv.command("create", examples="kv create CONFIG lock.job me --ttl 30s")
@click.argument("bucket", shell_complete=_NAMES)
@click.argument("key")
@click.argument("value", required=False)
@_TTL
@_QUIET
@with_settings
def create(
    settings: Settings,
    bucket: str,
    key: str,
    value: str | None,
    ttl: timedelta | None,
    quiet: bool,
) -> None:
    """Set a key that must not exist. Exit status 1 if it does."""
    data = body_of(value)
    with settings.jetstream() as js:
        _report(js.key_value(bucket).create(key, data, ttl=ttl), quiet)


@kv.command("update", examples="kv update CONFIG app.colour blue 3")
@click.argument("bucket", shell_complete=_NAMES)
@click.argument("key")
@click.argument("value")
@click.argument("revision", type=Number(0))
@_TTL
@_QUIET
@with_settings
def update(
    settings: Settings,
    bucket: str,
    key: str,
    value: str,
    revision: int,
    ttl: timedelta | None,
    quiet: bool,
) -> None:
    """Set a key whose latest revision must be REVISION. Exit status 1 if it is not."""
    data = body_of(value)
    with settings.jetstream() as js:
        _report(js.key_value(bucket).update(key, data, revision, ttl=ttl), quiet)


@kv.command("touch", examples="kv touch CONFIG session.42 --ttl 30m")
@click.argument("bucket", shell_complete=_NAMES)
@click.argument("key")
@_TTL
@_QUIET
@with_settings
def touch(settings: Settings, bucket: str, key: str, ttl: timedelta | None, quiet: bool) -> None:
    """Let a key live on: its value becomes a new revision. Exit status 1 if there is none."""
    with settings.jetstream() as js:
        _report(js.key_value(bucket).touch(key, ttl=ttl), quiet)


@kv.command(
    "del",
    aliases=("delete",),
    examples="""
        kv del CONFIG app.colour
        kv del CONFIG app.colour --revision 7
    """,
)
@click.argument("bucket", shell_complete=_NAMES)
@click.argument("key")
@click.option("--revision", type=Number(1), help="only if this is its latest revision")
@with_settings
def delete(settings: Settings, bucket: str, key: str, revision: int | None) -> None:
    """Delete a key; its history stays. To delete a bucket, use rm."""
    with settings.jetstream() as js:
        js.key_value(bucket).delete(key, revision=revision)


@kv.command("purge", examples="kv purge CONFIG app.colour --force")
@click.argument("bucket", shell_complete=_NAMES)
@click.argument("key")
@click.option("--revision", type=Number(1), help="only if this is its latest revision")
@_FORCE
@with_settings
def purge(settings: Settings, bucket: str, key: str, revision: int | None, force: bool) -> None:
    """Delete a key with its history."""
    confirm(f"Delete {key} with its history?", force)
    with settings.jetstream() as js:
        js.key_value(bucket).purge(key, revision=revision)


@kv.command(
    "compact", aliases=("purge-deletes",), examples="kv compact CONFIG --older-than 1h --force"
)
@click.argument("bucket", shell_complete=_NAMES)
@click.option(
    "--older-than", type=DURATION, default="30m", show_default=True, help="of the deletion"
)
@_FORCE
@with_settings
def compact(settings: Settings, bucket: str, older_than: timedelta, force: bool) -> None:
    """Remove what deleted keys have left."""
    confirm(f"Remove the history of all deleted keys of {bucket}?", force)
    with settings.jetstream() as js:
        note(f"Removed {js.key_value(bucket).purge_deletes(older_than):,} keys")


@kv.command("rm", aliases=("delete-bucket", "rmb"), examples="kv rm CONFIG --force")
@click.argument("bucket", shell_complete=_NAMES)
@_FORCE
@with_settings
def rm(settings: Settings, bucket: str, force: bool) -> None:
    """Delete a bucket with all its keys."""
    confirm(f"Delete bucket {bucket} with all its keys?", force)
    with settings.jetstream() as js:
        js.key_value(bucket).delete_bucket()


@kv.command("history", examples="kv history CONFIG app.colour")
@click.argument("bucket", shell_complete=_NAMES)
@click.argument("key")
@_JSON
@with_settings
def history(settings: Settings, bucket: str, key: str, as_json: bool) -> None:
    """Show the revisions of a key that the bucket still has."""
    with settings.jetstream() as js:
        entries = js.key_value(bucket).history(key)
    if as_json:
        write_json([_as_dict(entry) for entry in entries])
        return
    table(
        (">Revision", "Operation", "Created", "Value"),
        [
            (f"{e.revision:,}", e.operation, shown_time(e.created), printable(e.value))
            for e in entries
        ],
    )


@kv.command("revert", examples="kv revert CONFIG app.colour 3")
@click.argument("bucket", shell_complete=_NAMES)
@click.argument("key")
@click.argument("revision", type=Number(1))
@_QUIET
@with_settings
def revert(settings: Settings, bucket: str, key: str, revision: int, quiet: bool) -> None:
    """Set a key to the value that it had at REVISION."""
    with settings.jetstream() as js:
        store = js.key_value(bucket)
        _report(store.put(key, store.get_revision(key, revision).value), quiet)


@kv.command(
    "watch",
    examples="""
        kv watch CONFIG
        kv watch CONFIG 'app.>' --updates-only --json
    """,
)
@click.argument("bucket", shell_complete=_NAMES)
@click.argument("filters", nargs=-1)
@click.option("--history", is_flag=True, help="begin with all revisions that the bucket has")
@click.option("--updates-only", is_flag=True, help="print only what changes from now on")
@click.option("--ignore-deletes", is_flag=True, help="print no deletions")
@click.option("--count", type=Number(1), help="end after so many entries")
@click.option("--json", "as_json", is_flag=True, help="print each entry as a line of JSON")
@with_settings
def watch(
    settings: Settings, bucket: str, filters: tuple[str, ...], count: int | None, **how: bool
) -> None:
    """Print the entries of a bucket, then every change."""
    with settings.jetstream(lasting=True) as js:
        entries = js.key_value(bucket).watch(
            list(filters),
            include_history=how["history"],
            updates_only=how["updates_only"],
            ignore_deletes=how["ignore_deletes"],
        )
        number = 0
        with entries:
            for entry in entries:
                if entry is None:  # the end of what was there
                    continue
                number += 1
                if how["as_json"]:
                    write_json(_as_dict(entry), line=True)
                else:
                    write(_line(entry))
                if number == count:
                    break


def _line(entry: KvEntry) -> str:
    value = "" if entry.deleted else f": {printable(entry.value)}"
    return f"[{shown_time(entry.created)}] {entry.operation} {printable(entry.key)}{value}"


COMMANDS = (kv,)
