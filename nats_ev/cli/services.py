"""Commands that ask services: ``service``."""

from __future__ import annotations

from typing import Any

import click

from nats_ev import blocking

from .client import Settings
from .command import Group, with_settings
from .output import details, note, table, write_json
from .values import DURATION, shown_age, shown_duration

_JSON = click.option("--json", "as_json", is_flag=True, help="print JSON")
_STALL = click.option(
    "--wait",
    type=DURATION,
    default="300ms",
    show_default=True,
    help="end after so long without another answer",
)


@click.group(cls=Group, aliases=("micro", "services"))
def service() -> None:
    """Find services and ask what they do."""


def _ask(
    settings: Settings, verb: str, names: tuple[str | None, ...], wait: Any
) -> list[dict[str, Any]]:
    """Return the answers of all instances of services to a request of discovery.

    Args:
        settings: say how to connect.
        verb: PING, INFO or STATS.
        names: of a service, then of one instance; None: all.
        wait: the longest time between two answers.
    """
    with settings.connect() as nc:
        client = blocking.ServiceClient(nc, timeout=settings.wait, stall=wait)
        ask: Any = {"PING": client.ping, "INFO": client.info, "STATS": client.stats}[verb]
        answers = ask(*(name for name in names if name))
    return sorted(answers, key=lambda answer: (answer["name"], answer["id"]))


def _nobody(names: tuple[str | None, ...]) -> None:
    what = f" {' '.join(name for name in names if name)}" if any(names) else ""
    raise click.ClickException(f"no service{what} answers")


@service.command("ping", examples="service ping")
@click.argument("name", required=False)
@_STALL
@_JSON
@with_settings
def ping(settings: Settings, name: str | None, wait: Any, as_json: bool) -> None:
    """Print which instances answer. Exit status 1 if none does."""
    answers = _ask(settings, "PING", (name,), wait)
    if as_json:
        write_json(answers)
    if not answers:
        _nobody((name,))
    if not as_json:
        table(("Name", "Version", "Id"), [(a["name"], a["version"], a["id"]) for a in answers])


@service.command("ls", aliases=("list",), examples="service ls")
@_STALL
@_JSON
@with_settings
def ls(settings: Settings, wait: Any, as_json: bool) -> None:
    """List the instances of services, with their endpoints."""
    answers = _ask(settings, "INFO", (), wait)
    if as_json:
        write_json(answers)
    elif not answers:
        note("No services")
    else:
        table(
            ("Name", "Version", "Id", "Description", "Endpoints"),
            [
                (
                    a["name"],
                    a["version"],
                    a["id"],
                    a.get("description") or "",
                    ", ".join(endpoint["subject"] for endpoint in a.get("endpoints") or ()),
                )
                for a in answers
            ],
            title="Services",
        )


@service.command(
    "info",
    examples="""
        service info orders
        service info orders --json
    """,
)
@click.argument("name")
@click.argument("id", required=False)
@_STALL
@_JSON
@with_settings
def info(settings: Settings, name: str, id: str | None, wait: Any, as_json: bool) -> None:
    """Show the instances of a service, or the one with this ID."""
    answers = _ask(settings, "INFO", (name, id), wait)
    if not answers:
        _nobody((name, id))
    if as_json:
        write_json(answers)
        return
    for answer in answers:
        details(
            f"Service {answer['name']} {answer['version']}, instance {answer['id']}",
            (
                "",
                [
                    ("Description", answer.get("description")),
                    *(answer.get("metadata") or {}).items(),
                ],
            ),
            (
                "Endpoints",
                [
                    (endpoint["name"], f"{endpoint['subject']}{_queue(endpoint)}")
                    for endpoint in answer.get("endpoints") or ()
                ],
            ),
        )


def _queue(endpoint: dict[str, Any]) -> str:
    return f" (queue group {endpoint['queue_group']})" if endpoint.get("queue_group") else ""


@service.command("stats", examples="service stats orders")
@click.argument("name", required=False)
@click.argument("id", required=False)
@_STALL
@_JSON
@with_settings
def stats(settings: Settings, name: str | None, id: str | None, wait: Any, as_json: bool) -> None:
    """Show the requests that services have had, and their times."""
    answers = _ask(settings, "STATS", (name, id), wait)
    if not answers:
        _nobody((name, id))
    if as_json:
        write_json(answers)
        return
    table(
        ("Name", "Id", "Endpoint", ">Requests", ">Errors", ">Average", "Started"),
        [
            (
                answer["name"],
                answer["id"],
                endpoint["name"],
                f"{endpoint['num_requests']:,}",
                f"{endpoint['num_errors']:,}",
                shown_duration(endpoint["average_processing_time"]),
                f"{shown_age(answer['started'])} ago",
            )
            for answer in answers
            for endpoint in answer.get("endpoints") or ()
        ],
        title="Services",
    )


COMMANDS = (service,)
