"""Commands that ask all servers, as a user of the system account: ``server``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from nats_ev import blocking

from .client import Settings
from .command import Group, with_settings
from .output import details, table, write_json
from .values import DURATION, Number, shown_size

_JSON = click.option("--json", "as_json", is_flag=True, help="print JSON")
_STALL = click.option(
    "--wait",
    type=DURATION,
    default="300ms",
    show_default=True,
    help="end after so long without another answer",
)
_EXPECT = click.option("--expect", type=Number(0), default=0, help="end after so many answers")


@click.group(cls=Group, aliases=("srv", "sys"))
def server() -> None:
    """Ask servers what they do; for users of the system account."""


@server.group("report", cls=Group, aliases=("rep",))
def report() -> None:
    """Compare what the servers say."""


@contextmanager
def _system(settings: Settings, wait: Any, expect: int) -> Iterator[Any]:
    with settings.connect() as nc:
        yield blocking.SystemClient(nc, timeout=settings.wait, stall=wait, servers=expect)


def _good(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the answers that are no errors, by the servers' names. Raises `click.ClickException`."""
    for answer in answers:
        if "error" in answer:
            name, error = answer["server"].get("name"), answer["error"]
            raise click.ClickException(f"server {name}: {error['description']}")
    return sorted(answers, key=lambda answer: str(answer["server"].get("name")))


@server.command("ls", aliases=("list",), examples="server ls --context system")
@_STALL
@_EXPECT
@_JSON
@with_settings
def ls(settings: Settings, wait: Any, expect: int, as_json: bool) -> None:
    """List the servers, with their load."""
    with _system(settings, wait, expect) as system:
        answers = _good(system.statsz_ping())
    if as_json:
        write_json(answers)
        return
    table(
        ("Name", "Cluster", "Host", "Version", ">Conns", ">Subs", ">Routes", ">CPU", ">Memory"),
        [
            (
                each["server"].get("name"),
                each["server"].get("cluster") or "",
                each["server"].get("host") or "",
                each["server"].get("ver") or "",
                f"{data.get('connections', 0):,}",
                f"{data.get('subscriptions', 0):,}",
                len(data.get("routes") or ()),
                f"{data.get('cpu', 0):.0f} %",
                shown_size(data.get("mem", 0)),
            )
            for each, data in ((each, each.get("data") or {}) for each in answers)
        ],
        title="Servers",
    )


@server.command("ping", examples="server ping --expect 3")
@_STALL
@_EXPECT
@_JSON
@with_settings
def ping(settings: Settings, wait: Any, expect: int, as_json: bool) -> None:
    """Print which servers answer.

    Exit status 1 if fewer do than --expect says.
    """
    with _system(settings, wait, expect) as system:
        answers = _good(system.idz_ping())
    if as_json:
        write_json([answer["server"] for answer in answers])
    else:
        rows = [
            (each.get("name"), each.get("host") or "", each["id"])
            for each in (answer["server"] for answer in answers)
        ]
        table(("Name", "Host", "Id"), rows)
    if len(answers) < expect:
        raise click.ClickException(f"{len(answers)} of {expect} servers have answered")


@server.command(
    "info",
    aliases=("i",),
    examples="""
        server info
        server info n1 --json
    """,
)
@click.argument("name", required=False)
@_STALL
@_JSON
@with_settings
def info(settings: Settings, name: str | None, wait: Any, as_json: bool) -> None:
    """Show one server.

    NAME may be an id, too; without NAME it is the server of the connection.
    """
    with _system(settings, wait, 0) as system:
        answer = system.varz(_id_of(system, name) if name else None)
    data = answer.get("data") or {}
    if as_json:
        write_json(answer)
        return
    details(
        f"Server {data.get('server_name')} {data.get('version')}",
        (
            "",
            [
                ("Id", data.get("server_id")),
                ("Started", data.get("start")),
                ("Uptime", data.get("uptime")),
                ("Configuration", data.get("config_load_time")),
                ("Address", f"{data.get('host')}:{data.get('port')}"),
                ("Cluster", (data.get("cluster") or {}).get("name")),
            ],
        ),
        (
            "Load",
            [
                ("CPU", f"{data.get('cpu', 0):.0f} % of {data.get('cores')} cores"),
                ("Memory", shown_size(data.get("mem", 0))),
                ("Connections", f"{data.get('connections', 0):,}"),
                ("Subscriptions", f"{data.get('subscriptions', 0):,}"),
                ("Slow consumers", f"{data.get('slow_consumers', 0):,}"),
                ("In", _flow(data, "in")),
                ("Out", _flow(data, "out")),
            ],
        ),
    )


def _flow(data: dict[str, Any], way: str) -> str:
    return f"{data.get(f'{way}_msgs', 0):,} messages, {shown_size(data.get(f'{way}_bytes', 0))}"


def _id_of(system: Any, name: str) -> str:
    """Return the id of a server with this name or id. Raises `click.ClickException`."""
    for answer in system.idz_ping():
        if name in (answer["server"].get("name"), answer["server"]["id"]):
            return str(answer["server"]["id"])
    raise click.ClickException(f"no server {name!r} answers")


@report.command(
    "connections",
    aliases=("conn", "connz", "conns"),
    examples="""
        server report connections --account SHOP
        server report connections --sort msgs --top 10
    """,
)
@click.option("--account", help="only connections of this account")
@click.option("--subject", help="only connections with a subscription that matches")
@click.option(
    "--sort",
    type=click.Choice(["cid", "subs", "msgs", "bytes", "pending"]),
    default="subs",
    show_default=True,
    help="what comes first",
)
@click.option("--top", type=Number(1), default=1000, show_default=True, help="connections to show")
@_STALL
@_EXPECT
@_JSON
@with_settings
def connections(
    settings: Settings,
    account: str | None,
    subject: str | None,
    sort: str,
    top: int,
    wait: Any,
    expect: int,
    as_json: bool,
) -> None:
    """List the connections of all servers."""
    opts: dict[str, Any] = {"auth": True, "subscriptions": True}
    opts |= {"acc": account} if account else {}
    opts |= {"filter_subject": subject} if subject else {}
    with _system(settings, wait, expect) as system:
        answers = _good(system.all_connz_ping(opts))
    rows = [
        {"server": answer["server"].get("name"), **each}
        for answer in answers
        for each in answer["data"].get("connections") or ()
    ]
    keys: dict[str, Any] = {
        "cid": lambda row: row["cid"],
        "subs": lambda row: -row.get("subscriptions", 0),
        "msgs": lambda row: -(row.get("in_msgs", 0) + row.get("out_msgs", 0)),
        "bytes": lambda row: -(row.get("in_bytes", 0) + row.get("out_bytes", 0)),
        "pending": lambda row: -row.get("pending_bytes", 0),
    }
    rows = sorted(rows, key=keys[sort])[:top]
    if as_json:
        write_json(rows)
        return
    table(
        ("Server", ">Id", "Name", "Account", ">Subs", ">In", ">Out", ">Pending", "Uptime"),
        [
            (
                row["server"],
                row["cid"],
                row.get("name") or "",
                row.get("account") or "",
                f"{row.get('subscriptions', 0):,}",
                f"{row.get('in_msgs', 0):,}",
                f"{row.get('out_msgs', 0):,}",
                shown_size(row.get("pending_bytes", 0)),
                row.get("uptime") or "",
            )
            for row in rows
        ],
        title="Connections",
    )


@report.command(
    "jetstream", aliases=("jsz", "js"), examples="server report jetstream --account SHOP"
)
@click.option("--account", help="only this account")
@_STALL
@_EXPECT
@_JSON
@with_settings
def jetstream(
    settings: Settings, account: str | None, wait: Any, expect: int, as_json: bool
) -> None:
    """Show JetStream on all servers, and who leads it."""
    opts = {"account": account} if account else {}
    with _system(settings, wait, expect) as system:
        answers = _good(system.jsz_ping(opts))
    if as_json:
        write_json(answers)
        return
    leader = next(
        (
            meta["leader"]
            for meta in ((each.get("data") or {}).get("meta_cluster") or {} for each in answers)
            if meta.get("leader")
        ),
        None,
    )
    table(
        (
            "Server",
            ">Streams",
            ">Consumers",
            ">Messages",
            ">Bytes",
            ">Memory",
            ">File",
            ">Requests",
        ),
        [
            (
                f"{each['server'].get('name')}{'*' if each['server'].get('name') == leader else ''}",
                f"{data.get('streams', 0):,}",
                f"{data.get('consumers', 0):,}",
                f"{data.get('messages', 0):,}",
                shown_size(data.get("bytes", 0)),
                shown_size(data.get("memory", 0)),
                shown_size(data.get("storage", 0)),
                f"{(data.get('api') or {}).get('total', 0):,}",
            )
            for each, data in ((each, each.get("data") or {}) for each in answers)
            if not data.get("disabled")
        ],
        title="JetStream (*: leads)",
    )


COMMANDS = (server,)
