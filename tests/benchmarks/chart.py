"""The comparison as a chart: horizontal bars in an SVG, written by hand to need no package.

It has its own background, so that it is readable in a light and in a dark README.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from tests.benchmarks.results import Result

WIDTH: Final = 760
LABEL_WIDTH: Final = 200
FIGURE_WIDTH: Final = 90
BAR_HEIGHT: Final = 14
GROUP_GAP: Final = 10
SECTION_HEIGHT: Final = 30
TOP: Final = 40
MARGIN: Final = 16
COLOURS: Final = {"worker": "#1a7f5a", "sketch": "#c2513c", "echo": "#8a93a0"}
OTHER_COLOUR: Final = "#c3cad3"
SHADE_OF_MORE_PROCESSES: Final = 0.65


def chart(results: Sequence[Result]) -> str:
    """Requests per second, with a bar for each case, all on one scale."""
    body, height = _bars(results)
    fonts = 'font-family="system-ui, sans-serif" font-size="12" fill="#1f2328"'
    title = "Requests per second (paler: 2 processes)"
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {fonts}>',
            f"<title>{title}</title>",
            f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>',
            _text(MARGIN, TOP - 14, title, 'font-size="15" font-weight="600"'),
            *body,
            "</svg>\n",
        )
    )


def _bars(results: Sequence[Result]) -> tuple[list[str], int]:
    longest = max(result.rate for result in results)
    scale = (WIDTH - LABEL_WIDTH - FIGURE_WIDTH - MARGIN) / longest
    lines: list[str] = []
    y = TOP
    for workload, contestants in _grouped(results):
        lines.append(_text(MARGIN, y + 16, workload, 'font-weight="600"'))
        y += SECTION_HEIGHT - GROUP_GAP
        for name, entries in contestants:
            middle = y + len(entries) * BAR_HEIGHT / 2 + 4
            lines.append(_text(LABEL_WIDTH - 10, middle, name, 'text-anchor="end"'))
            for result in entries:
                lines += _bar(y, result, result.rate * scale)
                y += BAR_HEIGHT
            y += GROUP_GAP
    return lines, y + MARGIN - GROUP_GAP


def _bar(y: int, result: Result, width: float) -> Iterator[str]:
    case = result.case
    colour = COLOURS.get(case.contestant, OTHER_COLOUR)
    opacity = SHADE_OF_MORE_PROCESSES if case.processes > 1 else 1
    yield (
        f'<rect x="{LABEL_WIDTH}" y="{y}" width="{max(width, 1):.1f}" height="{BAR_HEIGHT - 2}" '
        f'fill="{colour}" fill-opacity="{opacity}"/>'
    )
    yield _text(
        LABEL_WIDTH + width + 6, y + BAR_HEIGHT - 4, f"{result.rate:,.0f}", 'font-size="11"'
    )


def _grouped(results: Sequence[Result]) -> list[tuple[str, list[tuple[str, list[Result]]]]]:
    """By workload and then by contestant, each in the order of its first result."""
    workloads: dict[str, dict[str, list[Result]]] = {}
    for result in results:
        contestants = workloads.setdefault(result.case.workload.name, {})
        contestants.setdefault(result.case.contestant, []).append(result)
    return [(name, list(contestants.items())) for name, contestants in workloads.items()]


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'
