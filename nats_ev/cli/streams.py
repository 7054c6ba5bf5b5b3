"""Commands for streams: ``stream``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from nats_ev import Headers

from .client import Settings
from .command import Group, completes, with_settings
from .configs import Field, config_from, config_options, confirm, shown_metadata
from .messages import show_message, show_stored
from .output import details, note, table, write, write_json
from .values import (
    DURATION,
    TIME,
    Number,
    Pair,
    Size,
    shown_age,
    shown_duration,
    shown_limit,
    shown_size,
    shown_time,
)

_NUMBER = Number(-1)
_FIELDS = (
    Field("--subjects", "subjects", [str], "subjects that it stores; several with commas between"),
    Field("--description", "description", str, "a text"),
    Field("--storage", "storage", click.Choice(["file", "memory"]), "where messages are kept"),
    Field("--replicas", "num_replicas", Number(1, 5), "servers that have a copy"),
    Field(
        "--retention",
        "retention",
        click.Choice(["limits", "interest", "workqueue"]),
        "what keeps a message",
    ),
    Field("--discard", "discard", click.Choice(["old", "new"]), "what goes at a limit"),
    Field("--max-age", "max_age", DURATION, "how long messages are kept; 0: for ever"),
    Field("--max-bytes", "max_bytes", Size(unlimited=True), "size of all messages; -1: any"),
    Field("--max-msgs", "max_msgs", _NUMBER, "number of messages; -1: any"),
    Field("--max-msgs-per-subject", "max_msgs_per_subject", _NUMBER, "messages of each subject"),
    Field("--max-msg-size", "max_msg_size", Size(unlimited=True), "size of one message"),
    Field("--max-consumers", "max_consumers", _NUMBER, "number of consumers"),
    Field("--dupe-window", "duplicate_window", DURATION, "how long message ids are remembered"),
    Field("--no-ack/--ack", "no_ack", bool, "publishers get no acknowledgements, or get them"),
    Field("--compression", "compression", click.Choice(["none", "s2"]), "of the file"),
    Field("--allow-direct/--no-allow-direct", "allow_direct", bool, "replicas answer reads"),
    Field("--allow-rollup/--no-allow-rollup", "allow_rollup_hdrs", bool, "headers may purge"),
    Field("--allow-msg-ttl/--no-allow-msg-ttl", "allow_msg_ttl", bool, "messages may have a TTL"),
    Field("--deny-delete/--no-deny-delete", "deny_delete", bool, "no message can be deleted"),
    Field("--deny-purge/--no-deny-purge", "deny_purge", bool, "the stream can't be purged"),
    Field("--first-sequence", "first_seq", Number(1), "sequence of the first message"),
    Field("--mirror", "mirror", str, "another stream that it copies"),
    Field("--source", "sources", [str], "another stream that it also takes messages from"),
    Field("--metadata", "metadata", [Pair("=")], "a name with a value; may be repeated"),
)
_NAMES = completes(lambda js: js.stream_names())
_JSON = click.option("--json", "as_json", is_flag=True, help="print JSON")
_FORCE = click.option("--force", "-f", is_flag=True, help="do not ask")


@click.group(cls=Group, aliases=("str", "streams"))
def stream() -> None:
    """Manage streams, and read what they have stored."""


@stream.command(
    "ls",
    aliases=("list",),
    examples="""
        stream ls
        stream ls --subject 'orders.>' --names
        stream ls --json
    """,
)
@click.option("--subject", help="only streams that store it")
@click.option("--names", "-n", is_flag=True, help="print names alone")
@click.option("--all", "-a", "every", is_flag=True, help="also the streams of buckets")
@_JSON
@with_settings
def ls(settings: Settings, subject: str | None, names: bool, every: bool, as_json: bool) -> None:
    """List the streams."""
    with settings.jetstream() as js:
        found = js.stream_list({"subject": subject} if subject else None)
    infos = [i for i in found["streams"] if every or not _of_bucket(i["config"]["name"])]
    for name in found.get("missing") or ():
        note(f"nats-ev: the server of stream {name!r} has not answered")
    if as_json:
        write_json([i["config"]["name"] for i in infos] if names else infos)
    elif names:
        for info in infos:
            write(info["config"]["name"])
    elif not infos:
        note("No streams" if every else "No streams; --all also shows those of buckets")
    else:
        table(
            ("Name", "Description", "Subjects", ">Messages", ">Size", ">Last"),
            [_row(info) for info in infos],
            title="Streams",
        )


def _of_bucket(name: str) -> bool:
    return name.startswith(("KV_", "OBJ_"))


def _row(info: Mapping[str, Any]) -> tuple[str, ...]:
    config, state = info["config"], info["state"]
    return (
        config["name"],
        config.get("description") or "",
        ", ".join(config.get("subjects") or ()),
        f"{state['messages']:,}",
        shown_size(state["bytes"]),
        shown_age(state["last_ts"]),
    )


@stream.command(
    "info",
    examples="""
        stream info ORDERS
        stream info ORDERS --json | jq .state.messages
    """,
)
@click.argument("name", shell_complete=_NAMES)
@_JSON
@with_settings
def info(settings: Settings, name: str, as_json: bool) -> None:
    """Show the configuration and the state of a stream."""
    with settings.jetstream() as js:
        _show(js.stream_info(name), as_json)


def _show(info: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        write_json(info)
        return
    config, state = info["config"], info["state"]
    cluster = info.get("cluster") or {}
    leader = [("Leader", cluster.get("leader"))] if cluster.get("name") else []
    replicas = [
        (r["name"], "current" if r.get("current") else f"{r.get('lag', 0):,} operations behind")
        for r in cluster.get("replicas") or ()
    ]
    details(
        f"Stream {config['name']}, created {shown_time(info['created'])}",
        ("", _configuration(config)),
        (
            "State",
            [
                ("Messages", f"{state['messages']:,}"),
                ("Size", shown_size(state["bytes"])),
                ("First sequence", _position(state, "first")),
                ("Last sequence", _position(state, "last")),
                ("Deleted", f"{state['num_deleted']:,}" if state.get("num_deleted") else None),
                ("Consumers", f"{state['consumer_count']:,}"),
                ("Subjects", f"{state['num_subjects']:,}" if "num_subjects" in state else None),
            ],
        ),
        ("Cluster", [("Name", cluster.get("name")), *leader, *replicas]),
    )


def _position(state: dict[str, Any], end: str) -> str:
    seq = state[f"{end}_seq"]
    return f"{seq:,} at {shown_time(state[f'{end}_ts'])}" if state["messages"] else f"{seq:,}"


def _configuration(config: dict[str, Any]) -> list[tuple[str, object]]:
    flags = [
        ("allow_direct", "direct reads"),
        ("allow_rollup_hdrs", "rollups"),
        ("allow_msg_ttl", "message TTLs"),
        ("allow_atomic", "atomic batches"),
        ("allow_msg_counter", "counters"),
        ("allow_msg_schedules", "schedules"),
        ("deny_delete", "no deletes"),
        ("deny_purge", "no purges"),
        ("no_ack", "no acknowledgements"),
        ("sealed", "sealed"),
    ]
    sources = [source["name"] for source in config.get("sources") or ()]
    return [
        ("Description", config.get("description")),
        ("Subjects", ", ".join(config.get("subjects") or ())),
        ("Mirror of", (config.get("mirror") or {}).get("name")),
        ("Sources", ", ".join(sources)),
        ("Storage", config["storage"]),
        ("Replicas", config["num_replicas"]),
        ("Retention", config["retention"]),
        ("At a limit", f"discard {config['discard']}"),
        ("Max age", shown_duration(config["max_age"]) if config.get("max_age") else "unlimited"),
        ("Max messages", shown_limit(config.get("max_msgs"))),
        ("Max per subject", shown_limit(config.get("max_msgs_per_subject"))),
        ("Max size", shown_size(config.get("max_bytes") or -1)),
        ("Max message size", shown_size(config.get("max_msg_size") or -1)),
        ("Max consumers", shown_limit(config.get("max_consumers"))),
        ("Duplicate window", shown_duration(config.get("duplicate_window"))),
        ("Compression", config.get("compression")),
        ("Options", ", ".join(text for field, text in flags if config.get(field))),
        *shown_metadata(config.get("metadata")),
    ]


@stream.command(
    "add",
    aliases=("create", "new"),
    examples="""
        stream add ORDERS --subjects 'orders.>'
        stream add JOBS --subjects a,b --retention workqueue --max-age 1d
        stream add COPY --mirror ORDERS --storage memory --max-bytes 1GiB
        stream add ORDERS --config orders.json
    """,
)
@click.argument("name", shell_complete=_NAMES)
@config_options(*_FIELDS)
@click.option("--defaults", is_flag=True, hidden=True, help="for scripts of the official tool")
@_JSON
@with_settings
def add(settings: Settings, name: str, as_json: bool, **how: Any) -> None:
    """Create a stream. Without --subjects it stores the subject that is its name."""
    config = config_from(how) | {"name": name}
    with settings.jetstream() as js:
        _show(js.stream_create(config), as_json)


@stream.command(
    "edit",
    aliases=("update",),
    examples="""
        stream edit ORDERS --max-age 30d --description 'all orders'
        stream edit ORDERS --config orders.json
    """,
)
@click.argument("name", shell_complete=_NAMES)
@config_options(*_FIELDS)
@_JSON
@with_settings
def edit(settings: Settings, name: str, as_json: bool, **how: Any) -> None:
    """Change the configuration of a stream. What no option names stays."""
    changes = config_from(how)
    if not changes:
        raise click.UsageError("say what to change")
    with settings.jetstream() as js:
        config: Any = {**js.stream_info(name)["config"], **changes, "name": name}
        _show(js.stream_update(config), as_json)


@stream.command("rm", aliases=("delete", "del"), examples="stream rm ORDERS --force")
@click.argument("name", shell_complete=_NAMES)
@_FORCE
@with_settings
def rm(settings: Settings, name: str, force: bool) -> None:
    """Delete a stream, with its messages and consumers."""
    confirm(f"Delete stream {name} with all its messages?", force)
    with settings.jetstream() as js:
        js.stream_delete(name)


@stream.command(
    "purge",
    examples="""
        stream purge ORDERS --force
        stream purge ORDERS --subject orders.test --keep 10 --force
    """,
)
@click.argument("name", shell_complete=_NAMES)
@click.option("--subject", help="only messages of this subject, which may have wildcards")
@click.option("--seq", type=Number(1), help="only messages before this sequence")
@click.option("--keep", type=Number(0), help="keep so many of the newest messages")
@_FORCE
@_JSON
@with_settings
def purge(
    settings: Settings,
    name: str,
    subject: str | None,
    seq: int | None,
    keep: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Delete messages of a stream. Without options all are deleted."""
    confirm(f"Delete messages of stream {name}?", force)
    asked = {"filter": subject, "seq": seq, "keep": keep}
    opts: Any = {field: value for field, value in asked.items() if value is not None}
    with settings.jetstream() as js:
        answer = js.stream_purge(name, opts)
    if as_json:
        write_json(answer)
    else:
        note(f"Purged {answer['purged']:,} messages of {name}")


_CONTENT = (
    click.option("--raw", "-r", is_flag=True, help="print payloads and nothing else"),
    click.option("--json", "as_json", is_flag=True, help="print each message as a line of JSON"),
)


@stream.command(
    "get",
    examples="""
        stream get ORDERS 42
        stream get ORDERS --last-for orders.new --raw
    """,
)
@click.argument("name", shell_complete=_NAMES)
@click.argument("seq", type=Number(1), required=False)
@click.option("--last-for", "-S", "subject", help="the last message of this subject")
@_CONTENT[0]
@_CONTENT[1]
@with_settings
def get(settings: Settings, name: str, seq: int | None, subject: str | None, **how: Any) -> None:
    """Print one message of a stream. It is named by its sequence, or is the last one of a subject."""
    if (seq is None) == (subject is None):
        raise click.UsageError("name one message: SEQ, or --last-for SUBJECT")
    with settings.jetstream() as js:
        if subject is not None:
            _show_stored(js.get_last_msg(name, subject), how)
        elif seq is not None:
            _show_stored(js.get_msg(name, seq), how)


def _show_stored(msg: Any, how: dict[str, Any]) -> None:
    about = f" ({msg.stream} {msg.seq} at {shown_time(msg.time)})"
    more = {"stream": msg.stream, "seq": msg.seq, "stored": msg.time}
    headers = Headers.parse(msg.headers)
    show_message(
        msg.subject,
        msg.data,
        headers.encode() if headers else None,
        about=about,
        more=more,
        how=how,
    )


@stream.command(
    "view",
    examples="""
        stream view ORDERS
        stream view ORDERS 100 --subject orders.new --since 1h
    """,
)
@click.argument("name", shell_complete=_NAMES)
@click.argument("count", type=Number(1), default=25)
@click.option("--subject", help="only messages of this subject, which may have wildcards")
@click.option("--id", "seq", type=Number(1), help="begin at this sequence")
@click.option("--since", type=TIME, help="begin at this time, or so long ago")
@_CONTENT[0]
@_CONTENT[1]
@with_settings
def view(
    settings: Settings,
    name: str,
    count: int,
    subject: str | None,
    seq: int | None,
    since: datetime | None,
    **how: Any,
) -> None:
    """Print the messages of a stream. COUNT is 25 by default."""
    config: Any = {"deliver_policy": "all"}
    if subject is not None:
        config["filter_subject"] = subject
    if seq is not None:
        config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": seq}
    elif since is not None:
        config |= {"deliver_policy": "by_start_time", "opt_start_time": since}

    with settings.jetstream() as js:
        fetcher = js.ordered_fetcher(name, config)
        messages = fetcher.fetch({"batch": count, "no_wait": True})
    for number, msg in enumerate(messages, 1):
        show_stored(msg, number, how)
    if messages and not how["raw"] and not how["as_json"]:
        left = messages[-1].metadata.num_pending
        if left:
            seq = messages[-1].seq + 1
            note(f"{left:,} more: nats-ev stream view {name} {count} --id {seq}")


@stream.command("subjects", examples="stream subjects ORDERS --filter 'orders.*'")
@click.argument("name", shell_complete=_NAMES)
@click.option("--filter", "subject", default=">", help="only subjects that match")
@_JSON
@with_settings
def subjects(settings: Settings, name: str, subject: str, as_json: bool) -> None:
    """List the subjects of which a stream has messages."""
    with settings.jetstream() as js:
        found = js.stream_info(name, {"subjects_filter": subject})["state"].get("subjects") or {}
    if as_json:
        write_json(found)
    else:
        rows = sorted(found.items(), key=lambda item: (-item[1], item[0]))
        table(("Subject", ">Messages"), [(name, f"{count:,}") for name, count in rows])


@stream.command("find", examples="stream find orders.new")
@click.argument("subject")
@with_settings
def find(settings: Settings, subject: str) -> None:
    """Print the name of the stream that stores a subject."""
    with settings.jetstream() as js:
        write(js.stream_name_by_subject(subject))


@stream.command("rmm", examples="stream rmm ORDERS 42 --force")
@click.argument("name", shell_complete=_NAMES)
@click.argument("seq", type=Number(1))
@click.option("--erase", is_flag=True, help="also overwrite the data")
@_FORCE
@with_settings
def rmm(settings: Settings, name: str, seq: int, erase: bool, force: bool) -> None:
    """Delete one message of a stream."""
    confirm(f"Delete message {seq} of stream {name}?", force)
    with settings.jetstream() as js:
        if erase:
            js.stream_msg_erase(name, seq)
        else:
            js.stream_msg_delete(name, seq)


COMMANDS = (stream,)
