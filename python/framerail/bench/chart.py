"""Results as an SVG bar chart: plain text, no library, readable on light and dark pages."""

from __future__ import annotations

from xml.sax.saxutils import escape

from .cases import Case
from .catalog import title
from .report import LIMIT, OURS, limit_of, number, ranked
from .runner import Result

WIDTH = 860
NAMES = 150
BAR = 18
GAP = 5
OWN_COLOUR = "#d9480f"
PEER_COLOUR = "#1c7ed6"
WRONG_COLOUR = "#adb5bd"


def draw(outcomes: list[tuple[Case, list[Result]]], heading: str, note: str) -> str:
    """One panel per case, each with its own scale; the dashed line is decoding alone."""
    parts: list[str] = []
    top = 64.0
    for case, results in outcomes:
        shown = [result for result in ranked(results) if result.runs and result.reader != LIMIT]
        if shown:
            panel, height = _panel(case, shown, limit_of(results), top)
            parts.append(panel)
            top += height
    height = top + 24
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}"'
            ' font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{height:.0f}" fill="white"/>',
            f'<text x="16" y="28" font-size="17" fill="#212529">{escape(heading)}</text>',
            '<text x="16" y="46" fill="#666">longer is better; grey: wrong frames; dashed: decoding alone</text>',
            *parts,
            f'<text x="{WIDTH - 16}" y="{height - 10:.0f}" font-size="10" fill="#666" text-anchor="end">{escape(note)}</text>',
            "</svg>\n",
        ]
    )


def _panel(case: Case, results: list[Result], limit: float | None, top: float) -> tuple[str, float]:
    most = max([max(result.runs) for result in results] + ([limit] if limit else []))
    scale = (WIDTH - NAMES - 110) / most
    lines = [f'<text x="16" y="{top + 14:.1f}" font-weight="bold" fill="#212529">{escape(case.title)}, {case.unit}</text>']
    y = top + 24
    first = y
    for result in results:
        lines.append(_bar(result, y, scale))
        y += BAR + GAP
    if limit:
        x = NAMES + limit * scale
        lines.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{first - 2:.1f}" y2="{y:.1f}" stroke="#444" stroke-dasharray="4 3"/>'
        )
    return "\n".join(lines), y - top + 16


def _bar(result: Result, y: float, scale: float) -> str:
    median = result.median or 0.0
    colour = WRONG_COLOUR if not result.is_ranked else OWN_COLOUR if result.reader == OURS else PEER_COLOUR
    low, high = NAMES + min(result.runs) * scale, NAMES + max(result.runs) * scale
    middle = y + BAR / 2
    label = number(median) + ("" if result.is_ranked else ", wrong frames" if result.is_right is False else ", failed")
    return "\n".join(
        [
            f'<text x="{NAMES - 8}" y="{middle + 4:.1f}" text-anchor="end" fill="#212529">{escape(title(result.reader))}</text>',
            f'<rect x="{NAMES}" y="{y:.1f}" width="{median * scale:.1f}" height="{BAR}" fill="{colour}"/>',
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle:.1f}" y2="{middle:.1f}" stroke="#212529"/>',
            f'<text x="{high + 6:.1f}" y="{middle + 4:.1f}" fill="#212529">{escape(label)}</text>',
        ]
    )
