"""Small charts as inline SVG: no script, no font, no file beside the page."""

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 220, 70
_BASE = HEIGHT - 12


def bars(reference: Sequence[float], window: Sequence[float], labels: Sequence[str]) -> str:
    """Shares of the reference (outlined) and of the window (filled) side by side, one pair for each label."""
    highest = max([*reference, *window, 1e-9])
    step = WIDTH / max(len(labels), 1)
    parts = []
    for position, (before, now, label) in enumerate(zip(reference, window, labels, strict=True)):
        left = position * step
        title = f"<title>{escape(label)}: {before:.1%} in the reference, {now:.1%} in the window</title>"
        parts.append(
            f"<g>{title}{_bar(left, step, before / highest, 'ref')}{_bar(left, step, now / highest, 'now')}</g>"
        )
    first, last = escape(labels[0]) if labels else "", escape(labels[-1]) if labels else ""
    axis = f'<text x="0" y="{HEIGHT - 1}">{first}</text><text x="{WIDTH}" y="{HEIGHT - 1}" class="end">{last}</text>'
    return _svg("".join(parts) + axis, WIDTH, "distribution in the window beside the reference")


def line(values: Sequence[float | None], limit: float, labels: Sequence[str]) -> str:
    """One figure over nights with its limit; a night without a figure is a gap."""
    width = WIDTH * 3
    known = [value for value in values if value is not None]
    highest = max([*known, limit, 1e-9]) * 1.1
    step = width / max(len(values), 1)
    dots = [
        f'<circle cx="{(position + 0.5) * step:.1f}" cy="{_BASE - value / highest * _BASE:.1f}" r="3" '
        f'class="{"over" if value >= limit else "now"}"><title>{escape(label)}: {value:.3f}</title></circle>'
        for position, (value, label) in enumerate(zip(values, labels, strict=True))
        if value is not None
    ]
    level = _BASE - limit / highest * _BASE
    rule = f'<line x1="0" x2="{width}" y1="{level:.1f}" y2="{level:.1f}" class="limit"/>'
    ends = f'<text x="0" y="{HEIGHT - 1}">{escape(labels[0])}</text>' if labels else ""
    ends += f'<text x="{width}" y="{HEIGHT - 1}" class="end">{escape(labels[-1])}</text>' if labels else ""
    return _svg(rule + "".join(dots) + ends, width, "largest effect by night")


def _bar(left: float, step: float, share: float, kind: str) -> str:
    height = share * (_BASE - 2)
    offset = left + (step * 0.1 if kind == "ref" else step * 0.3)
    place = f'x="{offset:.1f}" y="{_BASE - height:.1f}" width="{step * 0.6:.1f}" height="{height:.1f}"'
    return f'<rect {place} class="{kind}"/>'


def _svg(content: str, width: int, label: str) -> str:
    size = f'viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}"'
    return f'<svg {size} role="img" aria-label="{label}">{content}</svg>'
