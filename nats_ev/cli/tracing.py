"""The command ``trace``: the way of a message through the servers (ADR-41, nats-server 2.11)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from nats_ev import Headers, RequestTimeoutError

from .client import Settings
from .command import Command, with_settings
from .output import printable, write, write_json
from .values import DURATION, Pair, body_of

if TYPE_CHECKING:
    from nats_ev.blocking import Nats

_SINCE = (2, 11)
# The numbers of the servers for the kinds of connections.
_KINDS = {
    0: "client",
    1: "route",
    2: "gateway",
    3: "system",
    4: "leaf",
    5: "jetstream",
    6: "account",
}


@click.command(
    cls=Command,
    examples="""
        trace orders.new
        trace orders.new '{"id": 1}' --deliver
        trace orders.new --json
    """,
)
@click.argument("subject")
@click.argument("body", required=False)
@click.option("--header", "-H", "pairs", type=Pair(), multiple=True, help="a header, as name:value")
@click.option("--deliver", is_flag=True, help="also deliver and store the message")
@click.option(
    "--wait",
    type=DURATION,
    default="300ms",
    show_default=True,
    help="end after so long without another report of a server",
)
@click.option("--json", "as_json", is_flag=True, help="print the servers' reports as JSON")
@with_settings
def trace(
    settings: Settings, subject: str, body: str | None, deliver: bool, wait: timedelta, **how: Any
) -> None:
    """Show which servers, subscribers and streams get a message.

    Nobody gets the message, unless --deliver. To see the lines of the protocol of any command, use the option
    --trace.
    """
    headers = Headers(how["pairs"])
    if not deliver:
        headers["Nats-Trace-Only"] = "true"
    payload = body_of(body)
    with settings.connect() as nc:
        version = json.loads(nc.server_info() or "{}").get("version", "")
        if _numbers(version) < _SINCE:
            raise click.ClickException(f"the server has no traces: it is {version}, they need 2.11")
        reports = list(_reports(nc, settings.wait, wait, subject, payload, headers))
    if not reports:
        raise click.ClickException("no server has sent a report")
    if how["as_json"]:
        write_json(reports)
        return
    for report in reports:
        _show(report)
    if not any(
        event.get("type") in ("eg", "js") for r in reports for event in r.get("events") or ()
    ):
        write("Nobody gets it")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("-")[0].split(".")[:2] if part.isdigit())


def _reports(
    nc: Nats, first: timedelta, wait: timedelta, subject: str, payload: bytes, headers: Headers
) -> Iterator[dict[str, Any]]:
    """Publish the message, and yield what the servers on its way report."""
    inbox = nc.new_inbox()
    headers["Nats-Trace-Dest"] = inbox
    with nc.subscribe(inbox) as reports:
        nc.publish(subject, payload, headers=headers)
        limit = first
        while True:
            try:
                yield json.loads(reports.next(limit).payload)
            except RequestTimeoutError:
                return
            limit = wait


def _show(report: dict[str, Any]) -> None:
    server = report.get("server") or {}
    place = f" in {server['cluster']}" if server.get("cluster") else ""
    write(printable(f"Server {server.get('name', '?')}{place}"))
    for event in report.get("events") or ():
        write(f"  {printable(_line(event))}{_error(event)}")


def _line(event: dict[str, Any]) -> str:
    """Return what one event of a server's report says."""
    kind = _KINDS.get(event.get("kind", -1), "connection")
    who = f"{kind} {event.get('cid', '')} {event.get('name') or ''}".strip()
    what = event.get("type")
    if what == "in":
        return f"from {who}, account {event.get('acc')}, subject {event.get('subj')}"
    if what == "eg":
        queue = f", queue group {event['queue']}" if event.get("queue") else ""
        subscribed = f", subscribed to {event['sub']}" if event.get("sub") else ""
        return f"to {who}{subscribed}{queue}"
    if what == "js":
        nobody = ", which keeps nothing: no interest" if event.get("nointerest") else ""
        return f"to stream {event.get('stream')}, subject {event.get('subject')}{nobody}"
    if what == "sm":
        return f"mapped from {event.get('from')} to {event.get('to')}"
    if what == "si":
        return f"imported as {event.get('to')} from account {event.get('acc')}"
    if what == "se":
        return f"exported as {event.get('to')} to account {event.get('acc')}"
    return json.dumps(event)


def _error(event: dict[str, Any]) -> str:
    return f": {printable(str(event['error']))}" if event.get("error") else ""


COMMANDS = (trace,)
