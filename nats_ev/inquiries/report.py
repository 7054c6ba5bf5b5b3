"""`Trace`: what the servers on a message's way have said about it, as a tree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_KINDS = ("Client", "Router", "Gateway", "System", "Leafnode", "JetStream", "Account")
_IDS = ("cid", "rid", "gid", "sid", "lid", "jid", "aid")
_ARROWS = {0: "--C", 1: "-->", 2: "==>", 4: "~~>", 5: "--J"}
_CLIENT, _GATEWAY, _JETSTREAM = 0, 2, 5
HOP = "Nats-Trace-Hop"
# Characters: far beyond any network, and few enough for a recursion.
_LONGEST_HOP = 200


class Trace(dict[str, Any]):
    """The way of one message: a dict of the first server's report, and in it those of the others.

    Keys are the servers' (ADR-41): ``server`` (name, cluster, ver, …), ``request`` (header, msgsize),
    ``hops`` (to how many servers it was forwarded), ``events``. An event is a dict with a ``type``:
    ``in`` (how the message came in), ``sm`` (its subject was mapped), ``se``, ``si`` (an export or import
    between accounts), ``js`` (a stream), ``eg`` (how it left; ``error`` if it did not). An event ``eg``
    to another server has ``link``: the report of that server, of the same form, or None if it is missing.
    ``kind`` is 0 for a client, 1 a route, 2 a gateway, 4 a leaf node, 5 JetStream.

    ``complete`` is whether all reports have arrived. ``str(trace)`` is the tree as text.
    """

    def __init__(self, root: dict[str, Any], complete: bool) -> None:
        super().__init__(root)
        self.complete = complete

    def reports(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (depth, report) of each server in the order of the text; the first one has depth 0."""
        waiting: list[tuple[int, dict[str, Any]]] = [(0, self)]
        while waiting:
            depth, report = waiting.pop()
            yield depth, report
            links = [link for event in leaving(report) if (link := event.get("link"))]
            waiting += [(depth + 1, link) for link in reversed(links)]

    def text(self) -> str:
        """Return the tree as text: a line for each event, indented by servers."""
        lines: list[str] = []
        _render(self, 0, lines)
        if not self.complete:
            lines.append("(reports are missing)")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()


def entry(report: dict[str, Any]) -> dict[str, Any]:
    """Return how the message came to a server; an empty dict if that is unknown."""
    for event in report["events"]:
        if event.get("type") == "in":
            return event  # type: ignore[no-any-return]
    return {}


def leaving(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events of a report that say how the message left."""
    return [event for event in report["events"] if event.get("type") == "eg"]


def is_report(report: object) -> bool:
    """Return whether a value has the shape of a server's report."""
    if not isinstance(report, dict) or not isinstance(report.get("events"), list):
        return False
    if not isinstance(report.get("server"), dict) or not report["events"]:
        return False
    request = report.get("request")
    if not isinstance(request, dict) or not isinstance(request.get("header") or {}, dict):
        return False
    return all(isinstance(each, dict) for each in report["events"])


def clean(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report without what only `join` may add to it, and with a number of hops."""
    report.pop("missing", None)
    report.setdefault("hops", 0)
    for event in report["events"]:
        event.pop("link", None)
    return report


def hop_of(report: dict[str, Any]) -> str | None:
    """Return the place of a report in the tree, such as "1.2"; "": the first server's; None: it is odd."""
    values = (report["request"].get("header") or {}).get(HOP)
    if values is None:
        return ""
    hop = values[0] if isinstance(values, list) and values else None
    if not isinstance(hop, str) or len(hop) > _LONGEST_HOP:
        return None
    return hop if all(each.isdigit() for each in hop.split(".")) else None


def onward(hop: str, report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the events by which a message left for other servers, by the hops of these.

    Only what is one hop further counts, and once: a report may come from anybody, and must not make a circle.
    """
    found: dict[str, dict[str, Any]] = {}
    for event in leaving(report):
        to = event.get("hop")
        if isinstance(to, str) and to and to.rpartition(".")[0] == hop:
            found.setdefault(to, event)
    return found


def is_complete(reports: dict[str, dict[str, Any]]) -> bool:
    """Return whether the first report and those of all hops after it are there."""
    waiting = [""]
    while waiting:
        hop = waiting.pop()
        if hop not in reports:
            return False
        waiting += onward(hop, reports[hop])
    return True


def join(reports: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the tree of reports by their hops. A missing one that others follow is made of what they know.

    Args:
        reports: one at least.
    """
    for hop in sorted(reports):
        _add_parents(reports, hop)
    for hop, report in reports.items():
        for to, event in onward(hop, report).items():
            event["link"] = reports.get(to)
    return reports[""]


def _add_parents(reports: dict[str, dict[str, Any]], hop: str) -> None:
    while hop:
        child = reports[hop]
        parent = hop.rpartition(".")[0]
        came = entry(child)
        if parent not in reports:
            reports[parent] = {
                "server": {"name": came.get("name", "")}, "request": {}, "hops": 0, "events": [],
                "missing": True,
            }  # fmt: skip
        known = reports[parent]
        if known.get("missing"):  # the child knows the name, if its own report is there
            known["server"]["name"] = known["server"]["name"] or came.get("name", "")
        if known.get("missing") and all(each["hop"] != hop for each in known["events"]):
            name = child["server"].get("name", "")
            known["events"].append(
                {"type": "eg", "kind": came.get("kind", 1), "name": name, "hop": hop}
            )
            known["hops"] += 1
        hop = parent


# The text.


def _render(report: dict[str, Any], depth: int, lines: list[str]) -> None:
    def line(text: str) -> None:
        lines.append("    " * depth + text)

    def error(event: dict[str, Any]) -> None:
        if event.get("error"):
            line(f"  --X {event['error']}")

    server = report["server"]
    if not entry(report):
        line(f"(no report) {_pairs(server=server.get('name'))}".rstrip())
    for event in report["events"]:
        kind = event.get("type")
        if kind == "in":
            where = _pairs(
                server=server.get("name"), version=server.get("ver"), cluster=server.get("cluster")
            )
            line(f"{_who(event)} {where}")
        elif kind == "sm":
            line(f"    mapped to {event.get('to')!r}")
        elif kind == "se":
            line(f"    stream export {_pairs(account=event.get('acc'), subject=event.get('to'))}")
        elif kind == "si":
            pairs = _pairs(account=event.get("acc"), subject=event.get("from"), to=event.get("to"))
            line(f"    service import {pairs}")
        elif kind == "js":
            action = "no interest" if event.get("nointerest") else "stored"
            pairs = _pairs(stream=event.get("stream"), subject=event.get("subject"))
            line(f"--J JetStream {action} {pairs}")
        elif kind == "eg":
            pairs = _pairs(
                account=event.get("acc"), subject=event.get("sub"), queue=event.get("queue")
            )
            line(f"{_ARROWS.get(_kind(event), '--')} {_who(event)} {pairs}".rstrip())
        error(event)
        if kind == "eg" and event.get("link"):
            _render(event["link"], depth + 1, lines)
        elif kind == "eg" and "link" in event:
            lines.append("    " * (depth + 1) + "(no report)")
    came = entry(report)
    if _kind(came) == _CLIENT and came and not came.get("error") and not _goes_on(report):
        line("--X no active interest")


def _goes_on(report: dict[str, Any]) -> bool:
    return any(event.get("type") in ("eg", "js") for event in report["events"])


def _kind(event: dict[str, Any]) -> int:
    kind = event.get("kind", 0)
    return kind if isinstance(kind, int) and 0 <= kind < len(_KINDS) else 0


def _who(event: dict[str, Any]) -> str:
    name = f' "{event["name"]}"' if event.get("name") else ""
    kind = _kind(event)
    return f"{_KINDS[kind]}{name} {_IDS[kind]}:{event.get('cid', 0)}"


def _pairs(**values: Any) -> str:
    return " ".join(f'{name}:"{value}"' for name, value in values.items() if value)
