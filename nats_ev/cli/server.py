"""Commands about the server and the way to it: ``rtt``, ``info`` and ``top``."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from nats_ev import JetStreamError, NoRespondersError, RequestTimeoutError

from .client import Settings
from .command import Command, with_settings
from .output import console, details, is_terminal, printable, write, write_json
from .values import DURATION, Number, shown_duration, shown_limit, shown_size

if TYPE_CHECKING:
    from rich.console import RenderableType

_JSON = click.option("--json", "as_json", is_flag=True, help="print JSON")


@click.command(
    cls=Command,
    examples="""
        rtt
        rtt 20 --json
    """,
)
@click.argument("count", type=Number(1), default=5)
@_JSON
@with_settings
def rtt(settings: Settings, count: int, as_json: bool) -> None:
    """Measure the round trip to the server, COUNT times (5)."""
    with settings.connect() as nc:
        url = str(nc.connected_url())
        times = [nc.rtt() for _ in range(count)]
    if as_json:
        write_json({"server": url, "ms": [round(ms, 4) for ms in times]})
        return
    shown = [shown_duration(ms * 1e6) for ms in times]
    details(
        url,
        (
            "",
            [
                ("Each", ", ".join(shown)),
                ("Median", shown_duration(sorted(times)[count // 2] * 1e6)),
                ("Shortest", shown_duration(min(times) * 1e6)),
                ("Longest", shown_duration(max(times) * 1e6)),
            ],
        ),
    )


@click.command(
    cls=Command,
    examples="""
        info
        info --json
    """,
)
@_JSON
@with_settings
def info(settings: Settings, as_json: bool) -> None:
    """Show the server, the connection, and the use of JetStream."""
    show_info(settings, as_json)


def show_info(settings: Settings, as_json: bool) -> None:
    """Print what the commands ``info`` and ``account info`` show."""
    with settings.connect() as nc:
        server = json.loads(nc.server_info() or "{}")
        round_trip = nc.rtt()
        connection = {
            "url": nc.connected_url(),
            "client_id": nc.client_id(),
            "client_ip": nc.client_ip(),
            "rtt_ms": round(round_trip, 4),
        }
        account: Mapping[str, Any] | None
        try:
            account = settings.jetstream_of(nc).account_info()
        except (NoRespondersError, JetStreamError, RequestTimeoutError):
            account = None
    server.pop("nonce", None)
    if as_json:
        write_json({"server": server, "connection": connection, "jetstream": account})
        return
    details(
        f"Server {server['server_name']} at {connection['url']}",
        (
            "",
            [
                ("Version", f"{server['version']}, {server['go']}"),
                ("Id", server["server_id"]),
                ("Cluster", server.get("cluster")),
                ("Domain", server.get("domain")),
                ("Max payload", shown_size(server["max_payload"])),
                ("TLS", _tls(server)),
                ("Also known", ", ".join(server.get("connect_urls") or ())),
            ],
        ),
        (
            "Connection",
            [
                ("Client", f"{connection['client_id']} from {connection['client_ip']}"),
                ("Round trip", shown_duration(round_trip * 1e6)),
            ],
        ),
        ("JetStream", _account(account)),
    )


def _tls(server: dict[str, Any]) -> str:
    if server.get("tls_required"):
        return "required"
    return "available" if server.get("tls_available") else "no"


def _account(account: Mapping[str, Any] | None) -> list[tuple[str, object]]:
    if account is None:
        return [("Enabled", "no")]
    limits = account.get("limits") or {}
    most = {name: shown_limit(limits.get(f"max_{name}")) for name in ("streams", "consumers")}
    return [
        ("Memory", _of(account["memory"], limits.get("max_memory"))),
        ("Files", _of(account["storage"], limits.get("max_storage"))),
        ("Streams", f"{account['streams']:,} of {most['streams']}"),
        ("Consumers", f"{account['consumers']:,} of {most['consumers']}"),
        ("Requests", f"{account['api']['total']:,}, {account['api']['errors']:,} errors"),
    ]


def _of(used: int, most: int | None) -> str:
    return f"{shown_size(used)} of {shown_size(-1 if most is None else most)}"


# The watch of a server.

# From this width on there is room for addresses.
_WIDE = 110
_SORTS = ("msgs", "bytes", "subs", "pending", "cid", "name")
Ask = Callable[[str, dict[str, Any]], dict[str, Any]]


@click.command(
    cls=Command,
    examples="""
        top --monitor http://127.0.0.1:8222
        top --context system --sort bytes --interval 5s
        top --monitor 127.0.0.1:8222 --once --json
    """,
)
@click.option(
    "--monitor", help="ask the monitoring port at this URL, in place of the system account"
)
@click.option(
    "--interval", type=DURATION, default="1s", show_default=True, help="between two looks"
)
@click.option("--count", type=Number(1), help="end after so many looks")
@click.option("--once", is_flag=True, help="look once, at the totals")
@click.option("--limit", type=Number(1), default=20, show_default=True, help="connections to show")
@click.option(
    "--sort", type=click.Choice(_SORTS), default="msgs", show_default=True, help="what comes first"
)
@click.option("--json", "as_json", is_flag=True, help="print each look as a line of JSON")
@with_settings
def top(settings: Settings, monitor: str | None, once: bool, **how: Any) -> None:
    """Watch the load of a server and of its connections.

    The figures come from the server's monitoring port, or without --monitor from the server itself, which
    answers the users of the system account alone.
    """
    looks = 1 if once else how["count"]
    if monitor is not None:
        _watch(
            _http(monitor, settings.wait),
            lambda pause: time.sleep(pause.total_seconds()),
            looks,
            how,
        )
        return
    with settings.connect() as nc:
        server = json.loads(nc.server_info() or "{}")["server_id"]

        def ask(what: str, options: dict[str, Any]) -> dict[str, Any]:
            subject = f"$SYS.REQ.SERVER.{server}.{what.upper()}"
            answer = json.loads(nc.request(subject, json.dumps(options), settings.wait).payload)
            if "data" not in answer:
                raise click.ClickException(f"{subject}: {answer.get('error')}")
            return dict(answer["data"])

        try:
            _watch(ask, settings.run, looks, how)
        except (NoRespondersError, RequestTimeoutError) as error:
            raise click.ClickException(
                f"{error}: the server answers users of the system account alone; "
                "or ask its monitoring port: --monitor URL"
            ) from None


def _http(url: str, wait: timedelta) -> Ask:
    """Return a function that asks the monitoring port."""
    import http.client
    import urllib.error
    import urllib.request

    base = (url if "://" in url else f"http://{url}").rstrip("/")
    scheme, _, rest = base.partition("://")
    shown = f"{scheme}://{rest.rpartition('@')[2]}"  # without a password

    def ask(what: str, options: dict[str, Any]) -> dict[str, Any]:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        try:
            with urllib.request.urlopen(
                f"{base}/{what}?{query}", timeout=wait.total_seconds() or None
            ) as answer:
                return dict(json.load(answer))
        except urllib.error.URLError as error:
            why = getattr(error.reason, "strerror", None) or error.reason
            raise click.ClickException(f"{shown}/{what}: {why}") from None
        except (http.client.HTTPException, ValueError, TypeError):
            text = f"{shown}/{what}: not the JSON of a server (is it the monitoring port?)"
            raise click.ClickException(text) from None

    return ask


def _watch(
    ask: Ask, wait: Callable[[timedelta], None], looks: int | None, how: dict[str, Any]
) -> None:
    """Show look after look: as JSON, on a terminal in one place, else one below the other."""
    before = None
    pages = _Pages(how)
    with pages:
        for number in itertools.count(1):
            look = _Look(ask("varz", {}), ask("connz", _order(how)), before)
            pages.show(look)
            before = look
            if number == looks:
                break
            wait(how["interval"])


def _order(how: dict[str, Any]) -> dict[str, Any]:
    words = {"msgs": "msgs_to", "bytes": "bytes_to", "name": "cid"}
    return {"sort": words.get(how["sort"], how["sort"]), "limit": 1024}


class _Look:
    """The figures of one moment, and their change since the look before."""

    def __init__(
        self, server: dict[str, Any], connections: dict[str, Any], before: _Look | None
    ) -> None:
        self.at = time.monotonic()
        self.server = server
        self.connections = {c["cid"]: c for c in connections.get("connections") or ()}
        self._before = before
        self.seconds = self.at - before.at if before is not None else 0.0

    def rate(self, field: str) -> float:
        """Return the change of a counter of the server per second; 0 at the first look."""
        if self._before is None:
            return 0.0
        change = self.server[field] - self._before.server[field]
        return (
            max(0.0, float(change)) / self.seconds
        )  # a server that was started again counts from 0

    def rates(self, connection: dict[str, Any]) -> dict[str, float]:
        """Return the messages and bytes per second of a connection; at the first look the totals."""
        fields = ("out_msgs", "in_msgs", "out_bytes", "in_bytes")
        if self._before is None:
            return {field: float(connection[field]) for field in fields}
        earlier = self._before.connections.get(connection["cid"], dict.fromkeys(fields, 0))
        changes = {field: connection[field] - earlier[field] for field in fields}
        return {field: max(0.0, change / self.seconds) for field, change in changes.items()}

    def rows(self, how: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the connections to show, with their rates."""
        rows = [
            {
                "cid": c["cid"],
                "name": c.get("name") or "",
                "address": f"{c['ip']}:{c['port']}",
                "language": f"{c.get('lang', '')} {c.get('version', '')}".strip(),
                "subscriptions": c["subscriptions"],
                "pending": c["pending_bytes"],
                "rtt": c.get("rtt", ""),
                **self.rates(c),
            }
            for c in self.connections.values()
        ]
        keys: dict[str, Callable[[dict[str, Any]], Any]] = {
            "msgs": lambda row: -row["in_msgs"] - row["out_msgs"],
            "bytes": lambda row: -row["in_bytes"] - row["out_bytes"],
            "subs": lambda row: -row["subscriptions"],
            "pending": lambda row: -row["pending"],
            "cid": lambda row: row["cid"],
            "name": lambda row: row["name"],
        }
        return sorted(rows, key=keys[how["sort"]])[: how["limit"]]

    def summary(self) -> dict[str, Any]:
        """Return the figures of the server."""
        server = self.server
        return {
            "server": server["server_name"],
            "version": server["version"],
            "uptime": server["uptime"],
            "cpu": server["cpu"],
            "memory": server["mem"],
            "connections": server["connections"],
            "subscriptions": server["subscriptions"],
            "slow_consumers": server["slow_consumers"],
            "in_msgs_per_second": round(self.rate("in_msgs"), 1),
            "out_msgs_per_second": round(self.rate("out_msgs"), 1),
            "in_bytes_per_second": round(self.rate("in_bytes"), 1),
            "out_bytes_per_second": round(self.rate("out_bytes"), 1),
            "in_msgs": server["in_msgs"],
            "out_msgs": server["out_msgs"],
        }


class _Pages:
    """Shows looks. On a terminal each replaces the one before."""

    def __init__(self, how: dict[str, Any]) -> None:
        self._how = how
        self._live: Any = None

    def __enter__(self) -> _Pages:
        if is_terminal() and not self._how["as_json"]:
            from rich.live import Live

            self._live = Live(console=console(), auto_refresh=False, vertical_overflow="crop")
            self._live.__enter__()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        if self._live is not None:
            self._live.__exit__(*exc_info)

    def show(self, look: _Look) -> None:
        """Show a look."""
        if self._how["as_json"]:
            write_json(look.summary() | {"clients": look.rows(self._how)}, line=True)
        elif self._live is not None:
            self._live.update(_page(look, self._how), refresh=True)
        else:
            console().print(_page(look, self._how))
            write()


def _page(look: _Look, how: dict[str, Any]) -> RenderableType:
    """Return a look as rich draws it, for 80 columns and more."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    now = look.summary()
    lines = [
        Text(f"{now['server']} {now['version']}, up {now['uptime']}", style="bold"),
        Text(
            f"CPU {now['cpu']:.0f} %, memory {shown_size(now['memory'])}, "
            f"{now['connections']:,} connections, {now['subscriptions']:,} subscriptions, "
            f"{now['slow_consumers']:,} slow"
        ),
    ]
    if look.seconds:
        lines += [
            Text(
                f"{way}: {now[f'{key}_msgs_per_second']:,.0f} messages/s, "
                f"{shown_size(now[f'{key}_bytes_per_second'])}/s"
            )
            for way, key in (("In ", "in"), ("Out", "out"))
        ]
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    wide = console().width >= _WIDE
    columns = ("Id", "Name", *(("Address",) if wide else ()), "Subs", "Pending")
    unit = "/s" if look.seconds and wide else ""
    counts = (f"{what}{unit}" for what in ("Msgs to", "Msgs from", "Bytes to", "Bytes from"))
    for column in (*columns, *counts):
        right = column not in ("Name", "Address")
        drawn.add_column(column, justify="right" if right else "left", no_wrap=right)
    for row in look.rows(how):
        name = Text(printable(row["name"]), no_wrap=True, overflow="ellipsis")
        drawn.add_row(
            str(row["cid"]),
            name,
            *((row["address"],) if wide else ()),
            f"{row['subscriptions']:,}",
            shown_size(row["pending"]),
            f"{row['out_msgs']:,.0f}",
            f"{row['in_msgs']:,.0f}",
            shown_size(row["out_bytes"]),
            shown_size(row["in_bytes"]),
        )
    return Group(*lines, Text(), drawn)


COMMANDS = (rtt, info, top)
