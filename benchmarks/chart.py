"""Bar charts as SVG, readable on light and dark pages."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LABELS, VALUES = 760, 240, 60
BAR, GAP, TOP = 13, 14, 56

_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-size: 15px; font-weight: 600 }
.quiet { fill: #57606a }
.a { fill: #8c959f } .b { fill: #c4cad0 }
.own .a { fill: #0969da } .own .b { fill: #79b4f2 }
.own text { font-weight: 600 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .quiet { fill: #9198a1 }
  .a { fill: #8b949e } .b { fill: #484f58 }
  .own .a { fill: #4493f8 } .own .b { fill: #1f4f8f }
}
"""


@dataclass(frozen=True)
class Row:
    """One label with its two values."""

    label: str
    values: tuple[float, float]
    own: bool


def bars(
    title: str, legend: tuple[str, str], rows: Sequence[Row], longest: float = math.inf
) -> str:
    """Draw two horizontal bars per row.

    Bars of values above `longest` are cut off there.
    """
    values = [value for row in rows for value in row.values]
    scale = (WIDTH - LABELS - VALUES) / min(max(values), longest)
    height = TOP + len(rows) * (2 * BAR + GAP)
    shapes = [
        f'<text class="title" x="0" y="16">{escape(title)}</text>',
        *_legend(legend),
    ]
    for number, row in enumerate(rows):
        top = TOP + number * (2 * BAR + GAP)
        shapes.append('<g class="own">' if row.own else "<g>")
        shapes.append(
            f'<text x="{LABELS - 10}" y="{top + BAR + 4}" text-anchor="end">'
            f"{escape(row.label)}</text>"
        )
        for kind, value in zip("ab", row.values, strict=True):
            width = max(1.0, min(value, longest) * scale)
            shapes.append(
                f'<path class="{kind}" d="M{LABELS},{top}{_outline(width, value > longest)}z"/>'
                f'<text class="quiet" x="{LABELS + width + 6:.1f}" y="{top + BAR - 3}"'
                f' font-size="11">{value:.2f}</text>'
            )
            top += BAR
        shapes.append("</g>")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' width="{WIDTH}" height="{height}" role="img">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n"
        + "\n".join(shapes)
        + "\n</svg>\n"
    )


def _outline(width: float, cut: bool) -> str:
    """Return the path around a bar from its upper left; the end of a cut bar is jagged."""
    side = f"v{BAR - 1}"
    if cut:
        tooth = (BAR - 1) / 4
        side = f"l-4,{tooth} l4,{tooth} l-4,{tooth} l4,{tooth}"
    return f"h{width:.1f}{side}h-{width:.1f}"


def _legend(names: tuple[str, str]) -> list[str]:
    return [
        f'<rect class="{kind}" x="{x}" y="28" width="12" height="12"/>'
        f'<text class="quiet" x="{x + 18}" y="39">{escape(name)}</text>'
        for kind, name, x in zip("ab", names, (LABELS, LABELS + 200), strict=True)
    ]
