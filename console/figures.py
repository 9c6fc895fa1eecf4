"""Evidence as tables: numbers side by side, slices, confusion matrices, messages on which two versions differ.

Evidence files are read as they are: what is missing or of another shape is shown as missing, and stops no page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: Steps of the shading in a confusion matrix, as the style sheet has them.
SHADES = 10

#: Messages of one kind that are shown; the rest stand in the evidence file.
MOST_MESSAGES = 100


@dataclass(frozen=True, slots=True)
class Comparison:
    """One number of both versions. A value that is missing is None.

    Attributes:
        ours: this version's.
        theirs: the champion's.
        ours_interval: 95 % interval, where the evidence has one.
        theirs_interval: likewise.
        difference: ours less theirs.
        difference_interval: 95 % interval of the difference on the same rows.
        lower_is_better: an error, not a score.
        rows: rows behind the numbers.
        holds: what the gate said about this line, if it looked at it.
    """

    name: str
    ours: float | None
    theirs: float | None
    ours_interval: tuple[float, float] | None = None
    theirs_interval: tuple[float, float] | None = None
    difference: float | None = None
    difference_interval: tuple[float, float] | None = None
    lower_is_better: bool = False
    rows: int | None = None
    holds: bool | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A count in a confusion matrix, its share of the true label's rows, and how dark it is drawn."""

    count: int
    share: float
    shade: int
    right: bool


@dataclass(frozen=True, slots=True)
class Matrix:
    """A confusion matrix: true label by row, predicted label by column."""

    labels: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """A holdout message on which the two versions differ."""

    text: str
    label: str
    ours: str
    theirs: str

    @property
    def outcome(self) -> str:
        """``worse`` (only the champion is right), ``better`` (only this version is), or ``neither``."""
        if self.theirs == self.label:
            return "worse"
        return "better" if self.ours == self.label else "neither"


def metrics(ours: Any, theirs: Any, verdict: Any) -> list[Comparison]:
    """The holdout's numbers, this version's beside the champion's."""
    found = [
        _compared(
            "macro-F1",
            _get(ours, "macro_f1"),
            _get(theirs, "macro_f1"),
            interval(_get(ours, "macro_f1_interval")),
            interval(_get(theirs, "macro_f1_interval")),
            interval(_table(verdict).get("interval")),
        ),
        _compared("accuracy", _get(ours, "accuracy"), _get(theirs, "accuracy")),
        _compared("macro recall", _get(ours, "macro_recall"), _get(theirs, "macro_recall")),
        _compared("calibration error", _get(ours, "ece"), _get(theirs, "ece"), lower_is_better=True),
    ]
    for label in _table(_get(ours, "per_class")):
        mine, other = _get(ours, "per_class", label), _get(theirs, "per_class", label)
        support = _count(_get(mine, "support"))
        found.append(_compared(f"F1 of {label}", _get(mine, "f1"), _get(other, "f1"), rows=support))
    return found


def slices(ours: Any, theirs: Any, verdict: Any) -> list[Comparison]:
    """Macro-F1 by slice: as the gate compared them, or else from the two evaluations."""
    judged = _table(verdict).get("slices")
    if isinstance(judged, list) and judged:
        return [_judged_slice(_table(row)) for row in judged]
    return [
        _compared(
            name,
            _get(row, "macro_f1"),
            _get(theirs, "slices", name, "macro_f1"),
            rows=_count(_get(row, "rows")),
            note="too few rows" if _get(row, "too_few") else "",
        )
        for name, row in _table(_get(ours, "slices")).items()
    ]


def matrix(evaluation: Any, labels: Sequence[str]) -> Matrix | None:
    """The confusion matrix of one evaluation; None where it has none that fits its labels."""
    counts = _get(evaluation, "confusion")
    names = tuple(labels) if set(labels) == set(_table(_get(evaluation, "per_class"))) else ()
    names = names or tuple(_table(_get(evaluation, "per_class")))
    if not isinstance(counts, list) or not names or len(counts) != len(names):
        return None
    if not all(isinstance(row, list) and len(row) == len(names) and None not in map(_count, row) for row in counts):
        return None
    return Matrix(names, tuple(_cells(index, row) for index, row in enumerate(counts)))


def differences(file: Any) -> list[Difference]:
    """The messages on which the two versions differ."""
    rows = file if isinstance(file, list) else _get(file, "messages") or _get(file, "rows") or []
    return [
        Difference(
            text=_word(row.get("text")),
            label=_word(row.get("label", row.get("truth"))),
            ours=_word(row.get("challenger")),
            theirs=_word(row.get("champion")),
        )
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict)
    ]


def number(value: Any) -> float | None:
    """`value` where it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def interval(value: Any) -> tuple[float, float] | None:
    """`value` where it is a pair of finite numbers."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return None if low is None or high is None else (low, high)


def _compared(
    name: str,
    ours: Any,
    theirs: Any,
    ours_interval: tuple[float, float] | None = None,
    theirs_interval: tuple[float, float] | None = None,
    difference_interval: tuple[float, float] | None = None,
    *,
    lower_is_better: bool = False,
    rows: int | None = None,
    note: str = "",
) -> Comparison:
    mine, other = number(ours), number(theirs)
    return Comparison(
        name=name,
        ours=mine,
        theirs=other,
        ours_interval=ours_interval,
        theirs_interval=theirs_interval,
        difference=None if mine is None or other is None else mine - other,
        difference_interval=difference_interval,
        lower_is_better=lower_is_better,
        rows=rows,
        note=note,
    )


def _judged_slice(row: dict[str, Any]) -> Comparison:
    holds, too_few = row.get("holds"), row.get("too_few") is True
    return Comparison(
        name=_word(row.get("name", row.get("slice"))),
        ours=number(row.get("challenger")),
        theirs=number(row.get("champion")),
        difference=number(row.get("difference")),
        difference_interval=interval(row.get("interval")),
        rows=_count(row.get("rows")),
        holds=holds if isinstance(holds, bool) and not too_few else None,
        note="too few rows" if too_few else "",
    )


def _cells(index: int, row: list[int]) -> tuple[Cell, ...]:
    total = max(1, sum(row))
    return tuple(
        Cell(count, count / total, round(SHADES * count / total), right=column == index)
        for column, count in enumerate(row)
    )


def _get(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _word(value: Any) -> str:
    return "missing" if value is None else str(value)
