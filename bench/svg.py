"""Charts as SVG: lines on two logarithmic axes, and dots on one. They need nothing but this file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

COLOURS = ["#0b6e4f", "#d1495b", "#2e5eaa", "#e09f3e", "#7a4ea3", "#5c6b73"]
FONT = 'font-family="sans-serif" font-size="12"'


def number(value: float) -> str:
    """Return a short text for a number on an axis."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def seconds(nanoseconds: float) -> str:
    """Return a short text for a time."""
    for unit, name in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if nanoseconds >= unit:
            return f"{nanoseconds / unit:.3g} {name}"
    return f"{nanoseconds:.3g} ns"


def decades_of(values: Sequence[float]) -> tuple[int, int]:
    """Return the powers of ten that enclose the values."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


class Canvas:
    """A drawing with a title, a white ground and a logarithmic axis from left to right."""

    def __init__(self, width: int, height: int, title: str, left: int, low: int, high: int) -> None:
        self.width, self.height, self.left = width, height, left
        self.right = width - 20
        self.low, self.high = low, high
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {FONT}>',
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        ]
        self.text(width / 2, 20, title, "middle", weight="bold")

    def x(self, value: float) -> float:
        """Return where a value lies on the axis."""
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.left + share * (self.right - self.left)

    def text(
        self, x: float, y: float, text: str, anchor: str = "start", weight: str = "normal"
    ) -> None:
        """Write a text."""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" '
            f'fill="#222222">{escape(text)}</text>'
        )

    def line(self, points: Sequence[tuple[float, float]], colour: str, dash: str = "") -> None:
        """Draw a line through the points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>'
        )

    def rule(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """Draw a line of the grid."""
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#dddddd"/>'
        )

    def dot(self, x: float, y: float, colour: str, label: str) -> None:
        """Draw a dot; its label shows when the mouse is over the dot."""
        self.parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}">'
            f"<title>{escape(label)}</title></circle>"
        )

    def legend(self, names: Sequence[str], colours: Mapping[str, str], y: float) -> None:
        """Write which colour is which client."""
        x = float(self.left)
        for name in names:
            self.dot(x, y - 4, colours[name], name)
            self.text(x + 9, y, name)
            x += 30 + 7.2 * len(name)

    def finish(self) -> str:
        """Return the file's text."""
        return "\n".join([*self.parts, "</svg>", ""])


def dots(
    title: str,
    rows: Sequence[tuple[str, Mapping[str, float]]],
    colours: Mapping[str, str],
) -> str:
    """Return a chart with a line for each row and a dot for each client, on an axis of time."""
    values = [value for _, found in rows for value in found.values()]
    low, high = decades_of(values)
    bottom = 60 + 22 * len(rows)
    canvas = Canvas(900, bottom + 40, title, 300, low, high)
    canvas.legend(list(colours), colours, 42)
    for power in range(low, high + 1):
        x = canvas.x(10**power)
        canvas.rule(x, 54, x, bottom)
        canvas.text(x, bottom + 16, seconds(10**power), "middle")
    for place, (name, found) in enumerate(rows):
        y = 70 + 22 * place
        canvas.rule(canvas.left, y, canvas.right, y)
        canvas.text(canvas.left - 10, y + 4, name, "end")
        for client in reversed(colours):  # the first client lies on top
            if client in found:
                label = f"{client}: {seconds(found[client])}"
                canvas.dot(canvas.x(found[client]), y, colours[client], label)
    return canvas.finish()


Curve = Sequence[tuple[float, float]]


def curves(
    title: str, axis: str, solid: Mapping[str, Curve], dashed: Mapping[str, Curve], colours: Mapping[str, str]
) -> str:  # fmt: skip
    """Return a chart of time over a growing number: by client, a solid and a dashed line."""
    points = [point for curve in [*solid.values(), *dashed.values()] for point in curve]
    low, high = decades_of([x for x, _ in points])
    bottom_power, top_power = decades_of([y for _, y in points])
    canvas = Canvas(700, 400, title, 70, low, high)
    top, bottom = 60, 345

    def y(value: float) -> float:
        share = (math.log10(value) - bottom_power) / (top_power - bottom_power)
        return bottom - share * (bottom - top)

    canvas.legend([name for name in colours if name in solid], colours, 42)
    for power in range(low, high + 1):
        x = canvas.x(10**power)
        canvas.rule(x, top, x, bottom)
        canvas.text(x, bottom + 16, number(10**power), "middle")
    for power in range(bottom_power, top_power + 1):
        canvas.rule(canvas.left, y(10**power), canvas.right, y(10**power))
        canvas.text(canvas.left - 6, y(10**power) + 4, seconds(10**power), "end")
    canvas.text((canvas.left + canvas.right) / 2, 385, axis, "middle")
    for lines, dash in ((dashed, "4 4"), (solid, "")):
        for client, curve in lines.items():
            canvas.line([(canvas.x(a), y(b)) for a, b in curve], colours[client], dash)
    for client, curve in solid.items():
        for a, b in curve:
            canvas.dot(canvas.x(a), y(b), colours[client], f"{client}, {a:,g}: {seconds(b)}")
    return canvas.finish()
