"""Charts as HTML with inline SVG, drawn without a script: positions in percent, so that text keeps its size on any screen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

# Marker outlines of about 10 units around (0, 0): told apart without colour.
_SHAPES = (
    "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0",
    "M-4.5,-4.5h9v9h-9z",
    "M0,-6l6,6l-6,6l-6,-6z",
    "M0,-6l5.6,10h-11.2z",
    "M-6,-2h4v-4h4v4h4v4h-4v4h-4v-4h-4z",
    "M0,6l5.6,-10h-11.2z",
)
COLOURS = 6
# name -> value by row; None where it is not defined
Values = Mapping[str, Sequence[float | None]]
Points = Sequence[tuple[float, float]]


def mark(system: int) -> str:
    """The marker of the nth system as a small picture in the text."""
    path = f"<path class='s{system % COLOURS}' {_path(system)}/>"
    return f"<svg class='mark' viewBox='-8 -8 16 16' aria-hidden='true'>{path}</svg>"


def legend(names: Sequence[str]) -> str:
    """Which marker is whose."""
    items = "".join(f"<li>{mark(index)}{escape(name)}</li>" for index, name in enumerate(names))
    return f"<ul class='legend'>{items}</ul>"


def dots(rows: Sequence[str], values: Values, unit: str = "", apart: str | None = None) -> str:
    """A row for each label, in it a marker for each system on one common axis.

    Args:
        rows: the labels.
        values: each system's value in each row.
        unit: after each number.
        apart: the label above which a gap sets the following rows apart.
    """
    low, high, ticks = axis([value for line in values.values() for value in line if value is not None])
    parts = []
    # Equal values shall not hide each other.
    middle = (len(values) - 1) / 2
    for place, label in enumerate(rows):
        here = [(index, name, line[place]) for index, (name, line) in enumerate(values.items())]
        known = [(index, name, value) for index, name, value in here if value is not None]
        if not known:
            continue
        ends = [_percent(value, low, high) for _, _, value in known]
        markers = f"<line class='span' x1='{min(ends):.2f}%' x2='{max(ends):.2f}%' y1='50%' y2='50%'/>" + "".join(
            f"<svg x='{_percent(value, low, high):.2f}%' y='{50 + 9 * (index - middle):.1f}%' overflow='visible'>"
            f"<path class='s{index % COLOURS}' {_path(index)}>"
            f"<title>{escape(name)}: {_number(value)}{unit}</title></path></svg>"
            for index, name, value in known
        )
        spoken = ", ".join(f"{name} {_number(value)}" for _, name, value in known)
        parts.append(_row(label, f"{_grid(ticks, low, high)}{markers}", 26, f"{label}: {spoken}", apart=label == apart))
    return f"<div class='chart'>{''.join(parts)}{_scale(ticks, low, high, unit)}</div>"


def strips(values: Mapping[str, Sequence[float]], unit: str = "") -> str:
    """A row for each system: a point for each clip, a box of the quartiles, a line from the 5th to the 95th percentile."""
    low, high, ticks = axis([value for line in values.values() for value in line])
    parts = []
    for index, (name, line) in enumerate(values.items()):
        if not line:
            continue
        p5, q1, median, q3, p95 = (float(number) for number in np.percentile(line, (5, 25, 50, 75, 95)))
        at = {key: _percent(number, low, high) for key, number in zip("abcde", (p5, q1, median, q3, p95), strict=True)}
        # Spread over the row's height by the golden ratio: even, and the same each time.
        points = "".join(
            f"M{10 * _percent(value, low, high):.0f},{6 + 28 * ((place * 0.618034) % 1):.0f}h0"
            for place, value in enumerate(line)
        )
        drawn = (
            f"{_grid(ticks, low, high)}<line class='span' x1='{at['a']:.2f}%' x2='{at['e']:.2f}%' y1='50%' y2='50%'/>"
            f"<rect class='box' x='{at['b']:.2f}%' width='{at['d'] - at['b']:.2f}%' y='6' height='28'/>"
            f"<svg viewBox='0 0 1000 40' preserveAspectRatio='none' width='100%' height='40' overflow='visible'>"
            f"<path class='points p{index % COLOURS}' d='{points}'/></svg>"
            f"<line class='median' x1='{at['c']:.2f}%' x2='{at['c']:.2f}%' y1='4' y2='36'>"
            f"<title>{escape(name)}: median {_number(median)}{unit}</title></line>"
        )
        spoken = (
            f"{name}: {len(line)} clips, median {_number(median)}, quartiles {_number(q1)} and {_number(q3)}, "
            f"5th and 95th percentile {_number(p5)} and {_number(p95)}"
        )
        parts.append(_row(f"{mark(index)}{escape(name)}", drawn, 40, spoken, is_html=True))
    return f"<div class='chart'>{''.join(parts)}{_scale(ticks, low, high, unit)}</div>"


def curves(lines: Mapping[str, Points], colours: Mapping[str, int], along: str) -> str:
    """Lines over a common axis, such as a metric over the optimiser's steps.

    Args:
        lines: name -> (x, y) in order of x.
        colours: name -> number of the system whose colour it has.
        along: what x is.
    """
    left, right, across = axis([x for line in lines.values() for x, _ in line])
    low, high, ticks = axis([y for line in lines.values() for _, y in line])
    body = "".join(
        f"<line class='grid' x1='0' x2='100%' y1='{y:.2f}%' y2='{y:.2f}%'/>"
        for y in (100 - _percent(tick, low, high) for tick in ticks)
    )
    for name, line in lines.items():
        place = [(_percent(x, left, right), 100 - _percent(y, low, high)) for x, y in line]
        path = " ".join(f"{10 * x:.0f},{10 * y:.0f}" for x, y in place)
        colour = colours[name] % COLOURS
        body += (
            "<svg viewBox='0 0 1000 1000' preserveAspectRatio='none' width='100%' height='100%'>"
            f"<polyline class='curve p{colour}' points='{path}'/></svg>"
        )
        body += "".join(
            f"<svg x='{x:.2f}%' y='{y:.2f}%' overflow='visible'><path class='s{colour}' {_path(colours[name])}>"
            f"<title>{escape(name)}, {along} {_number(value[0])}: {_number(value[1])}</title></path></svg>"
            for (x, y), value in zip(place, line, strict=True)
        )
    spoken = "; ".join(f"{name} from {_number(line[0][1])} to {_number(line[-1][1])}" for name, line in lines.items())
    labels = "".join(
        f"<span style='top:{100 - _percent(tick, low, high):.2f}%'>{_number(tick)}</span>" for tick in ticks
    )
    return (
        f"<div class='chart curves'><div class='levels'>{labels}</div>"
        f"<svg class='plot' width='100%' height='240' role='img' aria-label='{escape(spoken, quote=True)}'>{body}</svg>"
        f"{_scale(across, left, right, '')}</div><p class='note'>{escape(along)}</p>"
    )


def axis(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Ends of an axis that holds all values, and round ticks on it; it begins at zero where zero is near."""
    if not values:
        return 0.0, 1.0, [0.0, 1.0]
    low, high = min(values), max(values)
    if 0 <= low < 0.5 * high:
        low = 0.0
    span = (high - low) or abs(high) or 1.0
    raw = span / 5
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if first == last:
        last += 1
    ticks = [round(step * place, 10) + 0.0 for place in range(first, last + 1)]
    return ticks[0], ticks[-1], ticks


def _percent(value: float, low: float, high: float) -> float:
    return 100 * (value - low) / (high - low)


def _number(value: float) -> str:
    if value == int(value) and abs(value) >= 10:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 100 else f"{value:.2f}".rstrip("0").rstrip(".")


def _path(system: int) -> str:
    return f"d='{_SHAPES[system % len(_SHAPES)]}'"


def _row(label: str, drawn: str, height: int, spoken: str, *, is_html: bool = False, apart: bool = False) -> str:
    text = label if is_html else escape(label)
    picture = f"<svg class='plot' width='100%' height='{height}' role='img' aria-label='{escape(spoken, quote=True)}'>"
    return f"<div class='label{' apart' if apart else ''}'>{text}</div>{picture}{drawn}</svg>"


def _grid(ticks: Sequence[float], low: float, high: float) -> str:
    places = (_percent(tick, low, high) for tick in ticks)
    return "".join(f"<line class='grid' x1='{x:.2f}%' x2='{x:.2f}%' y1='0' y2='100%'/>" for x in places)


def _scale(ticks: Sequence[float], low: float, high: float, unit: str) -> str:
    marks = "".join(
        f"<span style='left:{_percent(tick, low, high):.2f}%'>{_number(tick)}{unit}</span>" for tick in ticks
    )
    return f"<div></div><div class='scale' aria-hidden='true'>{marks}</div>"
