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
    """A holdout message on which the two versions differ, with each one's answer and how sure it was."""

    text: str
    label: str
    ours: str
    theirs: str
    ours_confidence: float | None = None
    theirs_confidence: float | None = None
    where: str = ""

    @property
    def outcome(self) -> str:
        """``worse`` (only the champion is right), ``better`` (only this version is), or ``neither``."""
        if self.theirs == self.label:
            return "worse"
        return "better" if self.ours == self.label else "neither"


@dataclass(frozen=True, slots=True)
class Check:
    """A behavioural check: changed messages, those that held, and some failures, each before and after the change."""

    name: str
    cases: int | None
    held: int | None
    share: float | None
    failures: tuple[tuple[str, str], ...]


def metrics(ours: Any, theirs: Any, verdict: Any) -> list[Comparison]:
    """The holdout's numbers, this version's beside the champion's."""
    found = [
        _compared(
            "macro-F1",
            _get(ours, "macro_f1"),
            _get(theirs, "macro_f1"),
            interval(_get(ours, "interval")),
            interval(_get(theirs, "interval")),
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
    judged = _dicts(_get(verdict, "slices"))
    if judged:
        return [_judged_slice(row) for row in judged]
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
    return [
        Difference(
            text=_word(row.get("text")),
            label=_word(row.get("label")),
            ours=_word(row.get("challenger")),
            theirs=_word(row.get("champion")),
            ours_confidence=number(row.get("challenger_confidence")),
            theirs_confidence=number(row.get("champion_confidence")),
            where=", ".join(str(row[name]) for name in ("channel", "segment") if row.get(name)),
        )
        for row in _dicts(file)
    ]


def behaviour(verdict: Any) -> list[Check]:
    """The behavioural checks of a verdict, with the failures that its evidence file shows."""
    return [
        Check(
            name=_word(row.get("name")),
            cases=_count(row.get("cases")),
            held=_count(row.get("held")),
            share=number(row.get("share")),
            failures=tuple(
                (
                    f"{_word(case.get('text'))} → {_word(case.get('answer'))}",
                    f"{_word(case.get('changed'))} → {_word(case.get('changed_answer'))}",
                )
                for case in _dicts(row.get("examples"))
            ),
        )
        for row in _dicts(_get(verdict, "behaviour"))
    ]


def latency(verdict: Any) -> Comparison | None:
    """Median milliseconds for one message; None where nobody measured."""
    found = _get(verdict, "latency")
    if number(_get(found, "challenger_ms")) is None:
        return None
    return _compared("latency", found["challenger_ms"], _get(found, "champion_ms"), lower_is_better=True)


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
        name=_word(row.get("name")),
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


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _word(value: Any) -> str:
    return "missing" if value is None else str(value)
