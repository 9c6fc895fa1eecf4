"""Charts as inline SVG, drawn on the server: no script, no inline style, a title and a description in each.

Colours are classes of ``console.css``, so a chart follows the reader's colour scheme. Text does not shrink with the
screen: a chart is drawn for a desk and once more for a phone, and the style sheet shows one of them. Moving over a
step shows its figures; the table beside the chart holds the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from markupsafe import Markup, escape

from undertone.records import utc

#: Most points of a line that get a dot each.
MOST_DOTS = 45
#: Pixels between two names at the end of their lines.
_APART = 16.0
#: Pixels that one letter takes, about.
_LETTER = 7.0


@dataclass(frozen=True, slots=True)
class Dot:
    """One point of a line.

    Attributes:
        at: where it stands.
        value: None: too little is known here, the line has a gap.
        low, high: ends of its interval.
    """

    at: datetime
    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A named series. `tone` is a class ``tone-…`` of the style sheet; `back` draws it thin, without band or dots."""

    name: str
    dots: tuple[Dot, ...]
    tone: str = "a"
    back: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at a moment: a dashed line with its name, `short` where there is little room."""

    at: datetime
    text: str
    short: str
    about: str


@dataclass(frozen=True, slots=True)
class Hover:
    """What is shown over [start, end) of the time axis; `empty` where too little is known there."""

    start: datetime
    end: datetime
    about: str
    empty: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """A row of a dot plot: a value in its interval; without a value only its note is shown."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    about: str
    note: str = ""
    tone: str = "a"


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of values.

    Attributes:
        ticks: values with their words.
        place: where a value stands between the axis's beginning (0) and its end (1).
        base: the tick that is drawn stronger.
    """

    ticks: tuple[tuple[float, str], ...]
    place: Callable[[float], float]
    base: float = 0.0


@dataclass(frozen=True, slots=True)
class Shape:
    """A chart's size in pixels, with the margins that hold its words; `most` ticks of time."""

    width: int
    height: int
    left: int
    right: int
    most: int
    top: int = 26
    bottom: int = 30
    name: str = "desk"


DESK = Shape(1080, 340, 52, 132, 12)
PHONE = Shape(356, 270, 42, 84, 4, name="phone")
PANEL = Shape(356, 200, 42, 14, 5, name="panel")


def shares(most: float) -> Axis:
    """Per cent from zero to the first round one that holds `most` (a share of 1)."""
    step = next((step for step in (0.01, 0.02, 0.05, 0.1, 0.2) if most <= 5 * step), 0.25)
    steps = max(1, math.ceil(round(min(most, 1.0) / step, 6)))
    top = steps * step
    ticks = tuple((count * step, f"{100 * count * step:.0f} %") for count in range(steps + 1))
    return Axis(ticks, lambda value: value / top)


def numbers(most: float, unit: str = "") -> Axis:
    """Numbers from zero to a round one that holds `most`."""
    power = 10 ** math.floor(math.log10(max(most, 1e-9) / 4))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power * 4 >= most * 0.999)
    steps = max(1, math.ceil(round(most / step, 6)))
    ticks = tuple((count * step, f"{count * step:g}{unit}") for count in range(steps + 1))
    return Axis(ticks, lambda value: value / (steps * step))


def differences(reach: float) -> Axis:
    """Percentage points on both sides of zero, as far as `reach` (a share of 1)."""
    half = shares(reach)
    top = half.ticks[-1][0]
    told = [value for value, _ in half.ticks[1:]]
    ticks = [*(-value for value in reversed(told)), 0.0, *told]
    return Axis(
        tuple((value, f"{100 * value:+.0f}".replace("-", "−") if value else "0") for value in ticks),
        lambda value: (value / top + 1) / 2,
    )


def seconds(least: float, most: float) -> Axis:
    """Durations on a logarithmic axis, between decades that people know: both ends are held."""
    known = [(0.001, "1 ms"), (0.01, "10 ms"), (0.1, "0.1 s"), (1.0, "1 s"), (10.0, "10 s"), (60.0, "1 min")]
    known += [(600.0, "10 min"), (3600.0, "1 h"), (14400.0, "4 h"), (86400.0, "1 day"), (864000.0, "10 days")]
    known += [(8.64e6, "100 days"), (8.64e7, "1,000 days"), (8.64e8, "10,000 days")]
    first = max([index for index, (value, _) in enumerate(known) if value <= least], default=0)
    last = min([index for index, (value, _) in enumerate(known) if value >= most], default=len(known) - 1)
    ticks = tuple(known[first : max(last, first + 1) + 1])
    low, high = math.log(ticks[0][0]), math.log(ticks[-1][0])
    return Axis(ticks, lambda value: (math.log(max(value, ticks[0][0])) - low) / (high - low), ticks[0][0])


def over_time(
    key: str,
    title: str,
    about: str,
    lines: Sequence[Line],
    axis: Axis,
    between: tuple[datetime, datetime],
    *,
    hovers: Sequence[Hover] = (),
    marks: Sequence[Mark] = (),
    goal: tuple[float, float] | None = None,
    limits: Sequence[tuple[float, str]] = (),
    noon: bool = False,
    joined: bool = True,
    panel: bool = False,
) -> Markup:
    """A chart over time.

    Args:
        key: begins the ids in the page.
        about: what it shows, in a sentence or two, for readers who do not see it.
        between: ends of the time axis.
        hovers: steps of the time axis, with the words shown over them.
        goal: values between which it should be, shaded.
        limits: values with a name, each a line.
        noon: a day's tick stands in its middle, under the day's dot.
        joined: False leaves the dots apart.
        panel: one of many beside each other: small, without names at the ends of lines.
    """
    shapes = (PANEL,) if panel else (DESK, PHONE)
    return Markup("\n").join(
        _over_time(f"{key}-{shape.name}", title, about, lines, axis, between, hovers, marks, goal, limits, noon, joined,
                   shape)
        for shape in shapes
    )  # fmt: skip


def dot_plot(
    key: str,
    title: str,
    about: str,
    rows: Sequence[Span],
    axis: Axis,
    line: tuple[float, str] | None = None,
    *,
    panel: bool = False,
    wordy: bool = False,
) -> Markup:
    """Values in their intervals, one row each.

    Args:
        line: a value with its name, drawn through all rows.
        panel: one of many beside each other.
        wordy: the rows have long names.
    """
    shapes = (PANEL,) if panel else (DESK, PHONE)
    return Markup("\n").join(
        _dot_plot(f"{key}-{shape.name}", title, about, rows, axis, line, shape, wordy) for shape in shapes
    )


def time_ticks(start: datetime, end: datetime, most: int) -> list[tuple[datetime, str]]:
    """Round moments of UTC in [start, end], at most `most` of them unless the years are many, each with its words."""
    start, end = utc(start), utc(end)
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    for hours in (1, 2, 3, 6, 12):
        step = timedelta(hours=hours)
        if (end - start) / step <= most and (end - start) <= timedelta(days=4):
            return [(at, f"{at:%H:%M}" if at.hour else _day(at)) for at in _every(midnight, start, end, step)]
    monday = midnight - timedelta(days=midnight.weekday())
    for days, origin in ((1, midnight), (2, midnight), (7, monday), (14, monday)):
        if (end - start) / timedelta(days=days) <= most:
            return [(at, _day(at)) for at in _every(origin, start, end, timedelta(days=days))]
    found: list[tuple[datetime, str]] = []
    for months in (1, 3, 6, 12):
        count = (start.year * 12 + start.month - 1) // months * months
        found = []
        while (at := datetime(count // 12, count % 12 + 1, 1, tzinfo=UTC)) <= end:
            if at >= start:
                found.append((at, f"{at:%b %Y}" if at.month == 1 or not found else f"{at:%b}"))
            count += months
        if len(found) <= most:
            break
    return found


def _over_time(
    key: str,
    title: str,
    about: str,
    lines: Sequence[Line],
    axis: Axis,
    between: tuple[datetime, datetime],
    hovers: Sequence[Hover],
    marks: Sequence[Mark],
    goal: tuple[float, float] | None,
    limits: Sequence[tuple[float, str]],
    noon: bool,
    joined: bool,
    shape: Shape,
) -> Markup:
    right, floor = shape.width - shape.right, shape.height - shape.bottom
    start, end = utc(between[0]), utc(between[1])

    def x(at: datetime) -> float:
        return shape.left + (right - shape.left) * min(1.0, max(0.0, (utc(at) - start) / (end - start)))

    def y(value: float) -> float:
        return floor - (floor - shape.top) * min(1.0, max(0.0, axis.place(value)))

    drawn: list[Markup] = []
    if goal:
        above, below = y(goal[1]), y(goal[0])
        drawn.append(_tag("rect", x=shape.left, y=above, width=right - shape.left, height=below - above, class_="goal"))
    for value, words in axis.ticks:
        base = " base" if value == axis.base else ""
        drawn.append(_tag("line", x1=shape.left, x2=right, y1=y(value), y2=y(value), class_=f"grid{base}"))
        drawn.append(_text(words, shape.left - 8, y(value) + 4.5, "end"))
    lift = timedelta(hours=12) if noon else timedelta()
    for at, words in time_ticks(start, end, shape.most):
        if at + lift <= end:
            where = x(at + lift)
            anchor = "end" if where > shape.width - 20 else "middle"
            drawn.append(_tag("line", x1=where, x2=where, y1=floor, y2=floor + 5, class_="tick"))
            drawn.append(_text(words, where, floor + 20, anchor))
    drawn += _marks([mark for mark in marks if start <= utc(mark.at) <= end], x, shape, floor)
    for value, words in limits:
        drawn.append(_tag("line", x1=shape.left, x2=right, y1=y(value), y2=y(value), class_="limit"))
        drawn.append(_text(words, shape.left + 6, y(value) - 5, "start", "limit-name"))
    for line in sorted(lines, key=lambda line: not line.back):
        drawn.append(_line(line, x, y, joined))
    if shape.name != "panel":
        drawn += _names([line for line in lines if any(dot.value is not None for dot in line.dots)], x, y, shape, right)
    for hover in hovers:
        left, wide = x(hover.start), x(hover.end) - x(hover.start)
        if hover.empty:
            drawn.append(_tag("circle", cx=left + wide / 2, cy=floor - 5, r=2.5, class_="few"))
        inside = _tag("title", escape(hover.about))
        drawn.append(_tag("rect", inside, x=left, y=shape.top, width=wide, height=floor - shape.top, class_="hover"))
    return _svg(key, title, about, shape, drawn)


def _marks(marks: Iterable[Mark], x: Callable[[datetime], float], shape: Shape, floor: float) -> list[Markup]:
    drawn, taken = [], -math.inf
    for mark in sorted(marks, key=lambda mark: mark.at):
        where, words = x(mark.at), mark.text if shape.name == "desk" else mark.short
        title = _tag("title", escape(mark.about))
        drawn.append(_tag("line", title, x1=where, x2=where, y1=shape.top - 8, y2=floor, class_="mark"))
        half = len(words) * _LETTER / 2
        middle = min(max(where, half), shape.width - half)
        if middle - half > taken:  # words never lie on each other; the line and its title stay
            drawn.append(_text(words, middle, shape.top - 13, "middle", "mark-name"))
            taken = middle + half
    return drawn


def _line(line: Line, x: Callable[[datetime], float], y: Callable[[float], float], joined: bool) -> Markup:
    drawn = []
    for run in _runs(line.dots):
        banded = [dot for dot in run if dot.low is not None and dot.high is not None]
        if not line.back and len(banded) == len(run):
            if joined and len(run) > 1:
                edge = [(x(dot.at), y(dot.high or 0.0)) for dot in run]
                edge += [(x(dot.at), y(dot.low or 0.0)) for dot in reversed(run)]
                drawn.append(_tag("path", d=f"M{_points(edge)}Z", class_="band"))
            else:
                drawn += [
                    _tag("line", x1=x(dot.at), x2=x(dot.at), y1=y(dot.low or 0.0), y2=y(dot.high or 0.0), class_="span")
                    for dot in run
                ]
        here = [(x(dot.at), y(dot.value)) for dot in run if dot.value is not None]
        if joined and len(here) > 1:
            drawn.append(_tag("path", d=f"M{_points(here)}", class_="line"))
        if not line.back and (not joined or len(here) == 1 or len(line.dots) <= MOST_DOTS):
            drawn += [_tag("circle", cx=left, cy=top, r=2.6 if joined else 4.5, class_="dot") for left, top in here]
    return _tag("g", Markup("").join(drawn), class_=f"tone-{line.tone}{' back' if line.back else ''}")


def _runs(dots: Sequence[Dot]) -> list[list[Dot]]:
    """Neighbours that have values."""
    runs: list[list[Dot]] = [[]]
    for dot in dots:
        if dot.value is None:
            runs.append([])
        else:
            runs[-1].append(dot)
    return [run for run in runs if run]


def _names(
    lines: Sequence[Line], x: Callable[[datetime], float], y: Callable[[float], float], shape: Shape, right: float
) -> list[Markup]:
    """Names beside the ends of their lines, moved apart where they would lie on each other."""
    ends = []
    for line in lines:
        last = [dot for dot in line.dots if dot.value is not None][-1]
        ends.append((y(last.value or 0.0), line))
    ends.sort(key=lambda end: end[0])
    tops = [top for top, _ in ends]
    for index in range(1, len(tops)):
        tops[index] = max(tops[index], tops[index - 1] + _APART)
    over = tops[-1] - (shape.height - shape.bottom) if tops else 0
    if over > 0:
        tops[-1] -= over
        for index in range(len(tops) - 2, -1, -1):
            tops[index] = min(tops[index], tops[index + 1] - _APART)
    letters = int((shape.width - right - 8) / _LETTER)
    return [
        _text(_cut(line.name, letters), right + 8, top + 4.5, "start", f"name tone-{line.tone}")
        for top, (_, line) in zip(tops, ends, strict=True)
    ]


def _dot_plot(
    key: str,
    title: str,
    about: str,
    rows: Sequence[Span],
    axis: Axis,
    line: tuple[float, str] | None,
    shape: Shape,
    wordy: bool,
) -> Markup:
    slim = shape.name != "desk"
    each = 46 if slim else 34
    left, right = (14, shape.width - 22) if slim else (330 if wordy else 190, shape.width - 110)
    top = 26 if line else 12
    floor = top + each * len(rows)

    def x(value: float) -> float:
        return left + (right - left) * min(1.0, max(0.0, axis.place(value)))

    drawn = []
    for index, (value, words) in enumerate(axis.ticks):
        base = " base" if value == axis.base else ""
        drawn.append(_tag("line", x1=x(value), x2=x(value), y1=top - 4, y2=floor, class_=f"grid{base}"))
        anchor = "middle" if not slim else ("start" if not index else "end" if value == axis.ticks[-1][0] else "middle")
        drawn.append(_text(words, x(value) + {"start": -10, "end": 14}.get(anchor, 0), floor + 18, anchor))
    if line is not None:
        drawn.append(_tag("line", x1=x(line[0]), x2=x(line[0]), y1=top - 6, y2=floor, class_="mark"))
        half = len(line[1]) * _LETTER / 2
        middle = min(max(x(line[0]), half), shape.width - half)
        drawn.append(_text(line[1], middle, top - 11, "middle", "mark-name"))
    for index, row in enumerate(rows):
        level = top + each * index + (each * 0.7 if slim else each / 2)
        name = _cut(row.name, 46 if slim else 44 if wordy else 24)
        inside = [_tag("title", escape(row.about))]
        inside.append(_tag("rect", x=0, y=top + each * index, width=shape.width, height=each, class_="hover"))
        if slim:
            inside.append(_text(name, left + 5, level - 13, "start", "row-name"))
        else:
            inside.append(_text(name, left - 16, level + 4.5, "end", "row-name"))
        if slim and row.note:
            inside.append(_text(row.note, shape.width - 8, level - 13, "end", "note"))
        if row.value is not None:
            low, high = (row.value if end is None else end for end in (row.low, row.high))
            if low < high:
                inside.append(_tag("line", x1=x(low), x2=x(high), y1=level, y2=level, class_="span"))
            inside.append(_tag("circle", cx=x(row.value), cy=level, r=5, class_="dot"))
        if not slim and row.note:
            inside.append(_text(row.note, shape.width - 4, level + 4.5, "end", "note"))
        drawn.append(_tag("g", Markup("").join(inside), class_=f"tone-{row.tone}"))
    sized = Shape(shape.width, floor + 28, left, shape.width - right, 0, name=shape.name)
    return _svg(key, title, about, sized, drawn)


def _svg(key: str, title: str, about: str, shape: Shape, drawn: Iterable[Markup]) -> Markup:
    inside = Markup("").join(
        [_tag("title", escape(title), id=f"{key}-title"), _tag("desc", escape(about), id=f"{key}-about"), *drawn]
    )
    return _tag(
        "svg",
        inside,
        class_=f"chart {shape.name}",
        viewBox=f"0 0 {shape.width} {shape.height}",
        role="img",
        aria_labelledby=f"{key}-title {key}-about",
    )


def _tag(name: str, inside: Markup | str = "", **attributes: float | str) -> Markup:
    """One element; numbers are rounded to a tenth of a pixel, everything is escaped."""
    written = Markup("").join(
        Markup(' {}="{}"').format(
            key.rstrip("_").replace("_", "-") if key != "viewBox" else key,
            f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value,
        )
        for key, value in attributes.items()
    )
    return Markup("<{}{}>{}</{}>").format(Markup(name), written, inside, Markup(name))


def _text(words: str, x: float, y: float, anchor: str, more: str = "") -> Markup:
    return _tag("text", escape(words), x=float(x), y=float(y), class_=f"{anchor} {more}".strip())


def _points(pairs: Iterable[tuple[float, float]]) -> str:
    return "L".join(f"{left:.1f},{top:.1f}" for left, top in pairs)


def _cut(words: str, letters: int) -> str:
    return words if len(words) <= letters else f"{words[: letters - 1]}…"


def _every(origin: datetime, start: datetime, end: datetime, step: timedelta) -> list[datetime]:
    first = origin + step * math.ceil((start - origin) / step)
    return [first + step * count for count in range(int((end - first) / step) + 1)] if first <= end else []


def _day(at: datetime) -> str:
    return f"{at.day} {at:%b}"
