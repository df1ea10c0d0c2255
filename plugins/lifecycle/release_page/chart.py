"""The drift chart: where its bars stand, in the units of an SVG's view box. The template draws it."""

import msgspec

from lifecycle.release_page.registry_view import NIGHTS, Night

WIDTH, HEIGHT = 720, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 10, 8, 22
_STEP = (WIDTH - _LEFT - _RIGHT) / NIGHTS
_GAP = 5


class Bar(msgspec.Struct, frozen=True):
    """One night: a bar as high as the share of features that drifted."""

    night: Night
    x: float
    y: float
    width: float
    height: float
    label: str
    """Under the bar, for every fifth night and the last; otherwise empty."""


class Chart(msgspec.Struct, frozen=True):
    """Bars and the horizontal lines behind them."""

    bars: list[Bar]
    lines: list[tuple[float, str]]
    """Height of each line and its label."""
    base: float
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT


def draw(nights: list[Night]) -> Chart:
    """At most ``NIGHTS`` bars, the newest at the right. The scale ends at the worst night, at 4 features or more."""
    top = max([night.drifted for night in nights] + [4])
    base = HEIGHT - _BOTTOM
    scale = (base - _TOP) / top
    bars = []
    for index, night in enumerate(nights[-NIGHTS:]):
        last = len(nights[-NIGHTS:]) - 1
        height = max(night.drifted * scale, 2.0)  # a quiet night is still seen to have been judged
        bars.append(
            Bar(
                night=night,
                x=round(_LEFT + (NIGHTS - 1 - last + index) * _STEP + _GAP / 2, 1),
                y=round(base - height, 1),
                width=round(_STEP - _GAP, 1),
                height=round(height, 1),
                label=night.window[5:10] if (last - index) % 5 == 0 else "",
            )
        )
    return Chart(bars, [(round(base - value * scale, 1), str(value)) for value in (0, top // 2, top)], base)
