"""The chart of README.md and of the site's home, from the figures in docs/performance.md.

    python bench/chart.py            # writes docs/performance/summary-light.svg and summary-dark.svg

`make bench-full` and `make docs` run it; a test compares the files with the figures.
"""

from __future__ import annotations

import re
import sys
from html import escape
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
# Paths in the folder docs.
PAGE = Path("performance.md")
FILES = {
    "light": Path("performance/summary-light.svg"),
    "dark": Path("performance/summary-dark.svg"),
}

# What the chart says, the row of the page, and the face; rows that nats_ev hardly wins are among them.
ROWS = [
    ("Publish, 100 B", "PUB + flush, 100 B", "nats_ev"),
    ("Publish and receive, 100 B", "PUB+SUB, one connection, 100 B", "nats_ev"),
    ("Publish and receive, 64 KiB", "PUB+SUB, 64 KiB", "nats_ev"),
    ("Request, 64 at a time", "REQ/REP, 64 in flight", "nats_ev"),
    ("Request, one at a time", "request, serial", "nats_ev"),
    ("JetStream publish, 4,000 on the way", "JetStream publish, window 4,000", "nats_ev"),
    ("JetStream consume, each acknowledged", "JetStream consume, ack each", "nats_ev"),
    ("KV get, 64 at a time", "KV get, 64 at a time", "nats_ev"),
    ("Object put, 64 MiB", "object put of 64 MiB", "nats_ev"),
    (
        "asyncio: publish and receive by iterator",
        "PUB+SUB, received by iterator",
        "nats_ev.aio",
    ),
    ("asyncio: request, one at a time", "request, serial", "nats_ev.aio"),
]
COLOURS = {
    "light": {"ground": "#ffffff", "text": "#1f2328", "faint": "#59636e", "bar": "#0b6e4f"},
    "dark": {"ground": "#1e2129", "text": "#e6edf3", "faint": "#9da7b3", "bar": "#3fb68b"},
}
WIDTH, LEFT, RIGHT, TOP, STEP = 620, 16, 604, 74, 42
PER_TIME = (RIGHT - LEFT) / 30.0  # pixels for once the speed of nats-py


class Bar(NamedTuple):
    """A row of the chart: how many times as fast as nats-py, and both times."""

    label: str
    times: float
    ours: str
    theirs: str


def cells(line: str) -> list[str]:
    """Return the cells of a line of a table, without bold."""
    return [cell.strip(" *") for cell in line.strip().strip("|").split("|")]


def table(page: str, heading: str) -> list[list[str]]:
    """Return the lines of the first table below a heading, without its head."""
    _, _, below = page.partition(f"\n{heading}\n")
    lines = re.findall(r"^\|.*$", below.split("\n#", 1)[0], re.MULTILINE)
    return [cells(line) for line in lines[2:]]


def bars(page: str) -> list[Bar]:
    """Return the chart's rows, read from the text of docs/performance.md, without those that it lacks."""
    times = {(row[0], "nats_ev"): row[6] for row in table(page, "### Ratios")}
    walls = {(row[0], row[1]): row[2] for row in table(page, "### All clients")}
    for row in table(page, "### On other loops"):
        if row[1] == "nats_ev.aio":
            times[row[0], row[1]] = row[4]
            walls[row[0], row[1]] = row[2]
        elif row[1] == "nats-py":
            walls[row[0], "nats-py beside nats_ev.aio"] = row[2]
    found = []
    for label, name, client in ROWS:
        other = "nats-py" if client == "nats_ev" else f"nats-py beside {client}"
        if "x" not in times.get((name, client), ""):
            continue
        ours, theirs = (walls[name, who].split(" (")[0] for who in (client, other))
        found.append(Bar(label, float(times[name, client].split("x")[0]), ours, theirs))
    return found


def draw(found: list[Bar], colours: dict[str, str]) -> str:
    """Return the chart as SVG, on a ground of its own."""
    height = TOP + STEP * len(found) + 8

    def text(x: float, y: float, words: str, colour: str, size: int = 15, more: str = "") -> str:
        return (
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colours[colour]}"{more}>'
            f"{escape(words)}</text>"
        )

    said = "; ".join(f"{bar.label}: {bar.times:.1f}" for bar in found)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="system-ui, sans-serif" role="img">',
        f"<title>How many times as fast as nats-py. {escape(said)}</title>",
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="{colours["ground"]}"/>',
        text(LEFT, 28, "Times as fast as nats-py", "text", 18, ' font-weight="600"'),
        text(LEFT, 50, "By the clock, per message. The notch in each bar is nats-py.", "faint", 14),
    ]
    for place, bar in enumerate(found):
        y = TOP + STEP * place
        length = min(bar.times * PER_TIME, RIGHT - LEFT)
        parts += [
            text(LEFT, y + 8, bar.label, "text"),
            text(
                RIGHT, y + 8, f"{bar.ours}, nats-py {bar.theirs}", "faint", 14,
                ' text-anchor="end"',
            ),
            f'<rect x="{LEFT}" y="{y + 14:.1f}" width="{length:.1f}" height="14" rx="2" '
            f'fill="{colours["bar"]}"/>',
        ]  # fmt: skip
        inside = length > (RIGHT - LEFT) - 60
        x, anchor = (LEFT + length - 6, "end") if inside else (LEFT + length + 6, "start")
        colour = "ground" if inside else "text"
        more = f' text-anchor="{anchor}" font-weight="600"'
        parts.append(text(x, y + 26, f"{bar.times:.1f}x", colour, 14, more))
        parts.append(
            f'<rect x="{LEFT + PER_TIME - 1:.1f}" y="{y + 14:.1f}" width="2" height="14" '
            f'fill="{colours["ground"] if bar.times > 1.05 else colours["text"]}"/>'
        )
    return "\n".join([*parts, "</svg>", ""])


def charts(page: str) -> dict[Path, str]:
    """Return both files and their content, for the text of docs/performance.md."""
    found = bars(page)
    return {path: draw(found, COLOURS[name]) for name, path in FILES.items()}


def main(docs: Path = ROOT / "docs") -> int:
    """Write both charts."""
    for path, content in charts((docs / PAGE).read_text()).items():
        if not (docs / path).exists() or (docs / path).read_text() != content:
            (docs / path).write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
