"""Charts as pictures that say what the figures say: axes that hold them, gaps where nothing is known, words apart."""

import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console import charts
from console.charts import Dot, Hover, Line, Mark, Span

START = datetime(2026, 3, 2, tzinfo=UTC)
NASTY = '<script>alert(1)</script>"&'
TEXT = "{*}text"


def draw(lines: list[Line], **more: object) -> list[ET.Element]:
    """The chart's pictures, as elements."""
    made = charts.over_time(
        "key", "a title", "about it", lines, charts.shares(0.5), (START, START + timedelta(days=10)), **more
    )  # type: ignore[arg-type]
    return list(ET.fromstring(f"<div>{made}</div>"))


def line(values: list[float | None], name: str = "negative", tone: str = "a") -> Line:
    return Line(
        name,
        tuple(
            Dot(START + timedelta(days=day), value, *(() if value is None else (value - 0.1, value + 0.1)))
            for day, value in enumerate(values)
        ),
        tone,
    )


def of_class(picture: ET.Element, name: str) -> list[ET.Element]:
    return [one for one in picture.iter() if name in one.get("class", "").split()]


@given(st.floats(1e-6, 1.0))
def test_shares_begin_at_zero_and_hold_the_largest(most: float) -> None:
    axis = charts.shares(most)
    values = [value for value, _ in axis.ticks]
    assert values[0] == 0
    assert axis.place(0) == 0
    assert 0 < axis.place(most) <= 1 + 1e-9
    assert len(values) <= 7
    assert [words for _, words in axis.ticks] == [f"{100 * value:.0f} %" for value in values]


@given(st.floats(1e-3, 1e6))
def test_numbers_begin_at_zero_and_hold_the_largest(most: float) -> None:
    axis = charts.numbers(most)
    assert axis.ticks[0][0] == 0
    assert 0 < axis.place(most) <= 1.001
    assert len(axis.ticks) <= 8


@given(st.floats(1e-4, 1e5), st.floats(1.0, 1e3))
def test_durations_rise_along_their_axis_and_both_ends_are_held(least: float, factor: float) -> None:
    axis = charts.seconds(least, least * factor)
    assert -1e-9 <= axis.place(least) <= axis.place(least * factor) <= 1 + 1e-9
    assert all(axis.place(one) < axis.place(other) for (one, _), (other, _) in pairwise(axis.ticks))


@given(st.floats(0.001, 1.0))
def test_differences_have_zero_in_the_middle(reach: float) -> None:
    axis = charts.differences(reach)
    assert axis.place(0) == pytest.approx(0.5)
    assert axis.place(reach) <= 1 + 1e-9
    assert axis.place(-reach) >= -1e-9
    assert (0.0, "0") in axis.ticks


@given(
    st.datetimes(datetime(1995, 1, 1), datetime(2090, 1, 1)),
    st.floats(1, 24 * 365 * 5),
    st.integers(4, 12),
)
def test_ticks_of_time_are_round_few_and_inside(start: datetime, hours: float, most: int) -> None:
    start = start.replace(tzinfo=UTC)
    end = start + timedelta(hours=hours)
    ticks = charts.time_ticks(start, end, most)
    assert len(ticks) <= most + 1
    assert all(start <= at <= end and at.minute == at.second == 0 for at, _ in ticks)
    assert all(one < other for (one, _), (other, _) in pairwise(ticks))
    if hours > 24 * 2 * most:
        assert all(at.hour == 0 for at, _ in ticks)


def test_a_line_has_a_gap_where_nothing_is_known() -> None:
    whole, broken = draw([line([0.3] * 8)])[0], draw([line([0.3, 0.3, 0.3, None, 0.3, 0.3, None, 0.3])])[0]
    assert [len(of_class(picture, "line")) for picture in (whole, broken)] == [1, 2]
    assert [len(of_class(picture, "band")) for picture in (whole, broken)] == [1, 2]
    assert [len(of_class(picture, "dot")) for picture in (whole, broken)] == [8, 6]
    assert len(of_class(broken, "span")) == 1  # the lonely one keeps its interval


def test_a_band_holds_its_line() -> None:
    picture = draw([line([0.2, 0.4, 0.3])])[0]
    tops = [float(one.get("cy", "nan")) for one in of_class(picture, "dot")]
    band = [float(pair.split(",")[1]) for pair in of_class(picture, "band")[0].get("d", "")[1:-1].split("L")]
    upper, lower = band[:3], band[3:][::-1]
    assert all(up < top < low for up, top, low in zip(upper, tops, lower, strict=True))


def test_a_chart_is_drawn_for_a_desk_and_for_a_phone_each_with_title_and_description() -> None:
    desk, phone = draw([line([0.2, 0.3])], marks=[Mark(START + timedelta(days=1), "version 2", "v2", "by ann")])
    assert ("desk" in desk.get("class", ""), "phone" in phone.get("class", "")) == (True, True)
    ids = [one.get("id") for picture in (desk, phone) for one in picture.iter() if one.get("id")]
    assert len(ids) == len(set(ids)) == 4
    for picture in (desk, phone):
        assert picture.get("role") == "img"
        named = picture.get("aria-labelledby", "").split()
        assert [one.text for one in picture if one.get("id") in named] == ["a title", "about it"]
    assert "version 2" in [one.text for one in desk.iter("text")]
    assert "v2" in [one.text for one in phone.iter("text")]


@settings(max_examples=25)
@given(st.lists(st.floats(0, 0.5), min_size=2, max_size=4))
def test_names_of_lines_never_lie_on_each_other_or_outside(ends: list[float]) -> None:
    lines = [line([0.2, end], f"label {index}") for index, end in enumerate(ends)]
    for picture in draw(lines):
        tops = sorted(float(one.get("y", "nan")) for one in of_class(picture, "name"))
        assert len(tops) == len(ends)
        assert all(other - one >= 15.5 for one, other in pairwise(tops))
        height = float(picture.get("viewBox", "").split()[3])
        assert tops[0] > 0
        assert tops[-1] <= height


def test_names_of_marks_never_lie_on_each_other() -> None:
    marks = [Mark(START + timedelta(hours=6 * step), f"version {step}", f"v{step}", "x") for step in range(20)]
    for picture in draw([line([0.2, 0.3])], marks=marks):
        assert len(of_class(picture, "mark")) == 20
        named = [(float(one.get("x", "nan")), len(one.text or "")) for one in of_class(picture, "mark-name")]
        assert len(named) > 1
        assert all(right - left >= 7 * size for (left, size), (right, _) in pairwise(named))


def test_whatever_a_name_holds_is_text() -> None:
    made = charts.over_time(
        "k", NASTY, NASTY, [line([0.2, 0.3], NASTY)], charts.shares(0.5), (START, START + timedelta(days=3)),
        hovers=[Hover(START, START + timedelta(days=1), NASTY)], marks=[Mark(START, NASTY, NASTY, NASTY)],
    ) + charts.dot_plot("d", NASTY, NASTY, [Span(NASTY, 0.2, 0.1, 0.3, NASTY, NASTY)], charts.shares(0.5))  # fmt: skip
    assert "<script" not in made
    tree = ET.fromstring(f"<div>{made}</div>")
    assert NASTY in [one.text for one in tree.iter("title")]
    assert not re.search(r"\sstyle=|\son\w+=", made)


def test_a_step_of_which_too_little_is_known_is_a_hollow_dot_and_says_so() -> None:
    hovers = [Hover(START, START + timedelta(days=1), "too few: 3 messages", empty=True),
              Hover(START + timedelta(days=1), START + timedelta(days=2), "enough")]  # fmt: skip
    picture = draw([line([None, 0.3])], hovers=hovers)[0]
    assert len(of_class(picture, "few")) == 1
    assert [one[0].text for one in of_class(picture, "hover")] == ["too few: 3 messages", "enough"]


def test_a_dot_plot_has_a_row_for_each_value_in_the_order_given() -> None:
    spans = [Span("chat", 0.4, 0.3, 0.5, "about chat", "40 %"), Span("ticket", None, None, None, "few", "too few")]
    desk, phone = ET.fromstring(f"<div>{charts.dot_plot('k', 't', 'a', spans, charts.shares(0.5), (0.3, 'all'))}</div>")
    for picture in (desk, phone):
        assert [one.text for one in of_class(picture, "row-name")] == ["chat", "ticket"]
        assert [one.text for one in of_class(picture, "note")] == ["40 %", "too few"]
        assert len(of_class(picture, "dot")) == len(of_class(picture, "span")) == 1
        assert len(of_class(picture, "mark")) == 1
