"""Horizontal bars as SVG, readable on light and dark pages: who took how long on one path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _LABELS, _VALUES, _LINE, _BAR, _TOP = 720, 150, 110, 26, 16, 44
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 15px }
.ours { fill: #0969da } .limit { fill: #8c959f } .peer { fill: #d4a72c }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .ours { fill: #4493f8 } .limit { fill: #6e7681 } .peer { fill: #bb8009 }
}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of a chart; `kind` is ours, limit or peer."""

    label: str
    value: float
    kind: str


def bars_as_svg(title: str, unit: str, bars: Sequence[Bar]) -> str:
    """The bars, shortest first, each with its value; lengths are in proportion, from zero."""
    most = max((bar.value for bar in bars), default=0.0) or 1.0
    height = _TOP + _LINE * len(bars) + 8
    lines = [f'<text class="title" x="8" y="24">{escape(title)}</text>']
    for number, bar in enumerate(sorted(bars, key=lambda bar: bar.value)):
        top = _TOP + _LINE * number
        length = max(1.0, (_WIDTH - _LABELS - _VALUES) * bar.value / most)
        base = top + _BAR - 3
        lines += [
            f'<text x="{_LABELS - 8}" y="{base}" text-anchor="end">{escape(bar.label)}</text>',
            f'<rect class="{bar.kind}" x="{_LABELS}" y="{top}" width="{length:.1f}" height="{_BAR}" rx="2"/>',
            f'<text x="{_LABELS + length + 6:.1f}" y="{base}">{bar.value:,.2f} {escape(unit)}</text>',
        ]
    told = ", ".join(f"{bar.label} {bar.value:.2f} {unit}" for bar in bars)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">\n'
        f"<title>{escape(f'{title}: {told}')}</title>\n<style>{_STYLE}</style>\n"
        + "\n".join(lines)
        + "\n</svg>\n"
    )
