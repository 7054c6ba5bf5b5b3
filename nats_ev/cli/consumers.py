"""Commands for consumers: ``consumer``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import click

from nats_ev import MsgIteratorClosedError, NoMessagesError, RequestTimeoutError
from nats_ev.types import FetchOptions

from .client import Settings
from .command import Group, completes, with_settings
from .configs import Field, config_from, config_options, confirm, shown_metadata
from .messages import show_stored, shows_messages
from .output import details, note, table, write, write_json
from .values import (
    DURATION,
    TIME,
    Durations,
    Number,
    Pair,
    shown_age,
    shown_duration,
    shown_limit,
    shown_time,
)

_FIELDS = (
    Field("--description", "description", str, "a text"),
    Field("--filter", "filter_subjects", [str], "only messages of these subjects"),
    Field(
        "--ack", "ack_policy", click.Choice(["explicit", "all", "none"]), "which messages are acked"
    ),
    Field("--wait", "ack_wait", DURATION, "deliver again what is not acked for so long"),
    Field("--backoff", "backoff", Durations(), "time before each next delivery, as 1s,10s"),
    Field("--max-deliver", "max_deliver", Number(-1), "deliver each message so often"),
    Field("--max-pending", "max_ack_pending", Number(-1), "messages waiting for their acks"),
    Field(
        "--replay", "replay_policy", click.Choice(["instant", "original"]), "how fast it delivers"
    ),
    Field("--headers-only/--no-headers-only", "headers_only", bool, "deliver no payloads"),
    Field("--inactive-threshold", "inactive_threshold", DURATION, "delete it when unused so long"),
    Field("--max-waiting", "max_waiting", Number(1), "pull requests waiting at a time"),
    Field("--max-pull-batch", "max_batch", Number(1), "messages of one pull request"),
    Field("--max-pull-expire", "max_expires", DURATION, "duration of one pull request"),
    Field("--target", "deliver_subject", str, "push to this subject, in place of pulling"),
    Field("--deliver-group", "deliver_group", str, "queue group of --target"),
    Field("--heartbeat", "idle_heartbeat", DURATION, "of a push consumer: time between signs"),
    Field("--flow-control/--no-flow-control", "flow_control", bool, "of a push consumer"),
    Field("--replicas", "num_replicas", Number(1), "servers that have a copy of its state"),
    Field("--memory/--no-memory", "mem_storage", bool, "keep its state in memory"),
    Field("--metadata", "metadata", [Pair("=")], "a name with a value; may be repeated"),
)
_WORDS = ("all", "new", "last", "last_per_subject")
_NAMES = completes(lambda js: js.stream_names())
_JSON = click.option("--json", "as_json", is_flag=True, help="print JSON")
_FORCE = click.option("--force", "-f", is_flag=True, help="do not ask")


@click.group(cls=Group, aliases=("con", "consumers"))
def consumer() -> None:
    """Manage the consumers of a stream, and receive by them."""


@consumer.command("ls", aliases=("list",), examples="consumer ls ORDERS")
@click.argument("stream", shell_complete=_NAMES)
@click.option("--names", "-n", is_flag=True, help="print names alone")
@_JSON
@with_settings
def ls(settings: Settings, stream: str, names: bool, as_json: bool) -> None:
    """List the consumers of a stream."""
    with settings.jetstream() as js:
        infos = js.consumer_list(stream)["consumers"]
    if as_json:
        write_json([info["name"] for info in infos] if names else infos)
    elif names:
        for info in infos:
            write(info["name"])
    elif not infos:
        note(f"No consumers of {stream}")
    else:
        table(
            ("Name", "Description", "Kind", ">Unacked", ">Unprocessed", ">Last"),
            [_row(info) for info in infos],
            title=f"Consumers of {stream}",
        )


def _row(info: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        info["name"],
        info["config"].get("description") or "",
        "push" if info["config"].get("deliver_subject") else "pull",
        f"{info['num_ack_pending']:,}",
        f"{info['num_pending']:,}",
        shown_age(info["delivered"].get("last_active")),
    )


@consumer.command("info", examples="consumer info ORDERS worker")
@click.argument("stream", shell_complete=_NAMES)
@click.argument("name")
@_JSON
@with_settings
def info(settings: Settings, stream: str, name: str, as_json: bool) -> None:
    """Show the configuration and the state of a consumer."""
    with settings.jetstream() as js:
        _show(js.consumer_info(stream, name), as_json)


def _show(info: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        write_json(info)
        return
    config, delivered, floor = info["config"], info["delivered"], info["ack_floor"]
    filters = config.get("filter_subjects") or [config.get("filter_subject") or ""]
    begin = config["deliver_policy"]
    begin += f" {config.get('opt_start_seq') or config.get('opt_start_time') or ''}"
    details(
        f"Consumer {info['name']} of {info['stream_name']}, created {shown_time(info['created'])}",
        (
            "",
            [
                ("Description", config.get("description")),
                ("Kind", "push" if config.get("deliver_subject") else "pull"),
                ("Durable", "yes" if config.get("durable_name") else "no"),
                ("Delivers to", config.get("deliver_subject")),
                ("Queue group", config.get("deliver_group")),
                ("Subjects", ", ".join(filters)),
                ("Begins at", begin.strip()),
                ("Acknowledges", config["ack_policy"]),
                ("Ack wait", shown_duration(config["ack_wait"]) if "ack_wait" in config else None),
                ("Back-off", ", ".join(shown_duration(ns) for ns in config.get("backoff") or ())),
                ("Max deliveries", shown_limit(config.get("max_deliver"))),
                ("Max ack pending", shown_limit(config.get("max_ack_pending"))),
                (
                    "Deleted after",
                    shown_duration(config["inactive_threshold"])
                    if config.get("inactive_threshold")
                    else None,
                ),
                *shown_metadata(config.get("metadata")),
                ("Paused until", shown_time(config["pause_until"]) if info.get("paused") else None),
            ],
        ),
        (
            "State",
            [
                ("Last delivered", _position(delivered)),
                ("Ack floor", _position(floor)),
                ("Ack pending", f"{info['num_ack_pending']:,}"),
                ("Delivered again", f"{info['num_redelivered']:,}"),
                ("Unprocessed", f"{info['num_pending']:,}"),
                ("Waiting pulls", f"{info['num_waiting']:,}"),
            ],
        ),
    )


def _position(at: dict[str, Any]) -> str:
    text = f"stream sequence {at['stream_seq']:,}, consumer sequence {at['consumer_seq']:,}"
    return f"{text} ({shown_age(at['last_active'])} ago)" if at.get("last_active") else text


@consumer.command(
    "add",
    aliases=("create", "new"),
    examples="""
        consumer add ORDERS worker
        consumer add ORDERS audit --filter 'orders.*.paid' --deliver new --ack none
        consumer add ORDERS slow --wait 5m --max-deliver 3 --max-pending 10
    """,
)
@click.argument("stream", shell_complete=_NAMES)
@click.argument("name")
@click.option(
    "--deliver",
    help="where to begin: all, new, last, last_per_subject, a sequence, a time, or 1h for an hour ago",
)
@click.option("--ephemeral", is_flag=True, help="not durable: deleted when unused")
@click.option("--pull", is_flag=True, hidden=True, help="for scripts of the official tool")
@click.option("--defaults", is_flag=True, hidden=True, help="for scripts of the official tool")
@config_options(*_FIELDS)
@_JSON
@with_settings
def add(
    settings: Settings,
    stream: str,
    name: str,
    deliver: str | None,
    ephemeral: bool,
    as_json: bool,
    **how: Any,
) -> None:
    """Create a consumer. By default it is durable, is pulled from, and wants each message acknowledged."""
    config: Any = {"ack_policy": "explicit"} | _config(how)
    if deliver is not None:
        config |= _begin(deliver)
    config["name"] = name
    if not ephemeral:
        config["durable_name"] = name
    with settings.jetstream() as js:
        _show(js.consumer_create(stream, config), as_json)


def _config(how: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = config_from(how)
    filters = config.get("filter_subjects")
    if isinstance(filters, list) and len(filters) == 1:  # which all servers know
        del config["filter_subjects"]
        config["filter_subject"] = filters[0]
    return config


def _begin(deliver: str) -> dict[str, Any]:
    """Return the fields of a configuration for the option --deliver."""
    word = deliver.replace("-", "_")
    if word in (*_WORDS, "subject"):
        return {"deliver_policy": "last_per_subject" if word == "subject" else word}
    if deliver.isdigit():
        return {"deliver_policy": "by_start_sequence", "opt_start_seq": int(deliver)}
    try:
        return {"deliver_policy": "by_start_time", "opt_start_time": TIME(deliver)}
    except click.BadParameter:
        raise click.BadParameter(
            f"{deliver!r} is none of {', '.join(_WORDS)}, a sequence, a time or a duration",
            param_hint="--deliver",
        ) from None


@consumer.command(
    "edit", aliases=("update",), examples="consumer edit ORDERS worker --max-pending 100"
)
@click.argument("stream", shell_complete=_NAMES)
@click.argument("name")
@config_options(*_FIELDS)
@_JSON
@with_settings
def edit(settings: Settings, stream: str, name: str, as_json: bool, **how: Any) -> None:
    """Change the configuration of a consumer. What no option names stays."""
    changes = _config(how)
    if not changes:
        raise click.UsageError("say what to change")
    with settings.jetstream() as js:
        config: Any = dict(js.consumer_info(stream, name)["config"])
        if changes.keys() & {"filter_subject", "filter_subjects"}:
            config.pop("filter_subject", None)
            config.pop("filter_subjects", None)
        _show(js.consumer_update(stream, config | changes), as_json)


@consumer.command("rm", aliases=("delete", "del"), examples="consumer rm ORDERS worker --force")
@click.argument("stream", shell_complete=_NAMES)
@click.argument("name")
@_FORCE
@with_settings
def rm(settings: Settings, stream: str, name: str, force: bool) -> None:
    """Delete a consumer."""
    confirm(f"Delete consumer {name} of {stream}?", force)
    with settings.jetstream() as js:
        js.consumer_delete(stream, name)


@consumer.command(
    "pause",
    examples="""
        consumer pause ORDERS worker 10m
        consumer pause ORDERS worker 2030-01-01T00:00:00Z
    """,
)
@click.argument("stream", shell_complete=_NAMES)
@click.argument("name")
@click.argument("until")
@with_settings
def pause(settings: Settings, stream: str, name: str, until: str) -> None:
    """Let a consumer deliver nothing UNTIL a time. A duration is counted from now."""
    end: datetime | timedelta
    try:
        end = DURATION(until)
    except click.BadParameter:
        end = TIME(until)
    with settings.jetstream() as js:
        answer = js.consumer_pause(stream, name, end)
    note(f"Paused until {shown_time(answer.get('pause_until'))}")


@consumer.command("resume", examples="consumer resume ORDERS worker")
@click.argument("stream", shell_complete=_NAMES)
@click.argument("name")
@with_settings
def resume(settings: Settings, stream: str, name: str) -> None:
    """Let a paused consumer deliver again."""
    with settings.jetstream() as js:
        js.consumer_resume(stream, name)


# Receiving.

_ANSWERS: dict[str, Callable[[Any], object]] = {
    "ack": lambda msg: msg.ack(),
    "nak": lambda msg: msg.nak(),
    "term": lambda msg: msg.term(),
    "none": lambda msg: None,
}


def _answers(function: Any) -> Any:
    """Give a command the options that say how messages are answered."""
    for option in (
        click.option("--no-ack", "answer", flag_value="none", help="do not answer messages"),
        click.option("--nak", "answer", flag_value="nak", help="have each message delivered again"),
        click.option("--term", "answer", flag_value="term", help="have none delivered again"),
        click.option(
            "--ack", "answer", flag_value="ack", default="ack", help="acknowledge (the default)"
        ),
    ):
        function = option(function)
    return shows_messages(function)


@consumer.command(
    "next",
    examples="""
        consumer next ORDERS worker
        consumer next ORDERS worker --count 10 --wait 1s --raw
        consumer next ORDERS worker --no-ack
    """,
)
@click.argument("stream", shell_complete=_NAMES)
@click.argument("name")
@click.option("--count", default=1, type=Number(1), help="messages to receive")
@click.option("--wait", type=DURATION, help="limit for all of them; by default --timeout")
@_answers
@with_settings
def next_(
    settings: Settings,
    stream: str,
    name: str,
    count: int,
    wait: timedelta | None,
    answer: str,
    **how: Any,
) -> None:
    """Receive one message or more by a pull consumer. Each is acknowledged when it is printed.

    Exit status 1 if there was no message.
    """
    with settings.jetstream() as js:
        opts: FetchOptions = {"batch": count, "expires": settings.wait if wait is None else wait}
        printed: list[Any] = []

        def received(msg: Any) -> None:
            printed.append(msg)
            _print(msg, len(printed), answer, how)

        js.fetch(stream, name, opts, on_msg=received)
    if not printed:
        raise NoMessagesError(f"no messages of {name} in {stream}")


@consumer.command(
    "sub",
    examples="""
        consumer sub ORDERS worker
        consumer sub ORDERS worker --count 100 --json
    """,
)
@click.argument("stream", shell_complete=_NAMES)
@click.argument("name")
@click.option("--count", type=Number(1), help="end after so many messages")
@click.option("--wait", type=DURATION, help="end after so long without a message")
@_answers
@with_settings
def sub(
    settings: Settings,
    stream: str,
    name: str,
    count: int | None,
    wait: timedelta | None,
    answer: str,
    **how: Any,
) -> None:
    """Receive by a pull or push consumer until Ctrl-C. Each message is acknowledged when it is printed."""
    with settings.jetstream(lasting=True) as js:
        config = js.consumer_info(stream, name)["config"]
        messages: Any
        if config.get("deliver_subject"):
            messages = js.push_subscribe(stream, name)
        else:
            # Few, because what was received and not printed has to wait for its redelivery.
            messages = js.consume(stream, name, {"max_messages": 16}, stop_after=count)
        with messages:
            number = 0
            while number != count:
                try:
                    msg = messages.next(wait)
                except (RequestTimeoutError, MsgIteratorClosedError):
                    break
                number += 1
                acks = answer if config["ack_policy"] != "none" else "none"
                _print(msg, number, acks, how)


def _print(msg: Any, number: int, answer: str, how: dict[str, Any]) -> None:
    show_stored(msg, number, how)
    _ANSWERS[answer](msg)


COMMANDS = (consumer,)
