"""Horizontal bars as SVG, by hand: a picture is no reason for another dependency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Bar", "Chart", "draw"]

_WIDTH = 860
_LABEL_WIDTH = 250
_VALUE_WIDTH = 170
_ROW = 28
_HEAD = 44


@dataclass(frozen=True)
class Bar:
    """One bar: ``value`` and on top of it ``more``, told as ``text``."""

    label: str
    value: float
    text: str
    more: float = 0.0
    strong: bool = False


@dataclass(frozen=True)
class Chart:
    """Bars on one scale."""

    title: str
    bars: Sequence[Bar]


def draw(charts: Sequence[Chart]) -> str:
    """The charts, one below the other. The colours can be told apart on white and on black."""
    parts: list[str] = []
    top = 0
    for chart in charts:
        parts.append(_chart(chart, top))
        top += _HEAD + _ROW * len(chart.bars) + 12
    style = "text{font:13px sans-serif;fill:#777}.t{font-weight:bold}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" role="img">'
        f"<style>{style}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _chart(chart: Chart, top: int) -> str:
    scale = (_WIDTH - _LABEL_WIDTH - _VALUE_WIDTH) / max(bar.value + bar.more for bar in chart.bars)
    rows = [_bar(bar, top + _HEAD + _ROW * number, scale) for number, bar in enumerate(chart.bars)]
    return "\n".join([f'<text class="t" x="8" y="{top + 26}">{escape(chart.title)}</text>', *rows])


def _bar(bar: Bar, top: int, scale: float) -> str:
    value, more = bar.value * scale, bar.more * scale
    fill = "#2a7de1" if bar.strong else "#9aa5b1"
    middle = top + 15
    return (
        f'<text x="{_LABEL_WIDTH - 10}" y="{middle}" text-anchor="end">{escape(bar.label)}</text>'
        f'<rect x="{_LABEL_WIDTH}" y="{top}" width="{value:.1f}" height="20" fill="{fill}"/>'
        f'<rect x="{_LABEL_WIDTH + value:.1f}" y="{top}" width="{more:.1f}" height="20" fill="{fill}" opacity="0.5"/>'
        f'<text x="{_LABEL_WIDTH + value + more + 8:.1f}" y="{middle}">{escape(bar.text)}</text>'
    )
