"""Our drift tests inside Evidently: its HTML, JSON and test suite then show the verdict's own numbers and decisions.

Evidently tests one column at a time, and a signal rests on more than a column holds: vectors, counts of all rows, the
other signals' p-values. So each signal has a column to look at, and its test asks the very function that the verdict
asked, on the windows themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from monitoring import signals
from monitoring.two_sample import cross_fit, cross_fit_texts, distance_test
from monitoring.windows import Window
from undertone.form import FORM
from undertone.multiplicity import holm
from undertone.records import DriftVerdict, Signal
from undertone.tasks import Floor, TaskSpec

#: Effect and p-value.
Found = tuple[float, float]

#: Signals over the columns that show them; "form" has four, of which the one that moved furthest is tested.
COLUMNS = {
    "embedding": "embedding: domain score",
    "mmd": "mmd: witness",
    "text": "text: domain score",
    "labels": "label",
    "confidence": "confidence",
    "channels": "channel",
    "segments": "segment",
    "late labels": "late labels: right",
    "disagreement": "review: agreed",
}
#: Rows a side that the witness of an MMD is measured against.
WITNESSES = 1_000
#: Values of a column that are shown; the rarer ones are one value.
MOST_VALUES = 50
OTHERS = "(others)"

#: Evidently writes values into a script of its page as they are: "</script>" in a channel's name would end it.
_HARMLESS = str.maketrans({"<": "‹", ">": "›", "&": "＆", "\u2028": " ", "\u2029": " "})


@dataclass(frozen=True, slots=True)
class Shown:
    """A column for Evidently.

    Attributes:
        before, now: its values in the reference and in the window; not empty, no NaN.
        numbers: whether they are numbers, else words.
        ask: gives effect and p-value.
        fires: what the verdict's rule makes of them; None: the column explains, and is tested by nobody.
    """

    column: str
    before: pd.Series
    now: pd.Series
    numbers: bool
    title: str
    ask: Callable[[], Found]
    fires: Callable[[Found], bool] | None = None
    floor: float = 0.0


@dataclass(frozen=True, slots=True)
class _Sides:
    """What a signal compares: all messages, or those of one segment."""

    reference: Window
    current: Window
    fewest: int
    spec: TaskSpec
    texts: signals.Texts | None = None


def columns(
    spec: TaskSpec,
    reference: Window,
    current: Window,
    verdict: DriftVerdict,
    *,
    texts: signals.Texts | None = None,
    most_segments: int = 20,
) -> list[Shown]:
    """A column for each signal of `verdict` that both windows can show, those of segments last.

    Args:
        texts: those of `monitoring.drift.judge`; without them the "text" signal has no column.
    """
    own = [signal for signal in verdict.signals if signal.segment is None]
    whole = _Sides(reference, current, spec.drift.min_rows, spec, texts)
    made = [column for signal in own for column in _columns_of(signal, whole, own)]
    for signal in [signal for signal in verdict.signals if signal.segment is not None][:most_segments]:
        first, second = (
            side.take((side.frame["segment"] == signal.segment).to_numpy()) for side in (reference, current)
        )
        made += _columns_of(signal, _Sides(first, second, spec.drift.segment_rows, spec), None)
    return list({one.column: one for one in made}.values())  # long names of segments may be cut to the same


def frames(shown: Sequence[Shown], rows: tuple[int, int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reference and window as Evidently reads them: columns beside one another, whose rows do not belong together."""
    first, second = (
        pd.DataFrame({one.column: side(one).reset_index(drop=True) for one in shown}, index=range(count))
        for side, count in zip((lambda one: one.before, lambda one: one.now), rows, strict=True)
    )
    return first, second


@contextmanager
def taught(shown: Sequence[Shown]) -> Iterator[dict[str, str]]:
    """Within it Evidently knows a test for each of `shown`; gives the tests' names by column.

    Its registry is one a process and forgets nothing, so it is taught fixed names only; what they ask is kept here,
    for this thread, and for as long as the report runs.
    """
    token = _ASKED.set({one.column: one for one in shown})
    try:
        yield {one.column: _teach(one.title, one.numbers) for one in shown}
    finally:
        _ASKED.reset(token)


_ASKED: ContextVar[Mapping[str, Shown]] = ContextVar("columns of the report that runs")


@cache
def _teach(title: str, numbers: bool) -> str:
    # `legacy` is where Evidently 0.7 keeps its registry of tests
    from evidently.legacy.calculations.stattests import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    kind = ColumnType.Numerical if numbers else ColumnType.Categorical
    key = f"undertone: {title}"
    register_stattest(StatTest(key, title, allowed_feature_types=[kind], default_threshold=0.0), _decide)
    return key


def _decide(reference: pd.Series, current: pd.Series, kind: Any, floor: float) -> tuple[float, bool]:
    shown = _ASKED.get()[str(current.name)]
    found = shown.ask()
    return found[0], shown.fires is not None and shown.fires(found)


def _columns_of(signal: Signal, sides: _Sides, family: Sequence[Signal] | None) -> list[Shown]:
    """Usually one column; none where a side has nothing to show; four for "form".

    Args:
        family: the signals that `signal` was corrected with; None: only those that fired are known.
    """

    def fires(found: Found) -> bool:
        adjusted = _adjusted(signal, found[1], family)
        policy = sides.spec.drift
        alpha = policy.alpha if signal.segment is None else policy.segment_alpha
        floor = Floor(warn=signal.floor, act=signal.act, severe=signal.severe)
        return adjusted < alpha and signals.level_of(found[0], floor) != "none"

    if signal.name == "form":
        return _form(signal, sides, fires)
    made = _side_columns(signal.name, sides)
    if made is None:
        return []
    before, now, ask = made
    numbers = before.dtype != object
    if before.empty or now.empty:
        return []
    column = _named(COLUMNS[signal.name], signal)
    return [Shown(column, before, now, numbers, signal.method, ask, fires, signal.floor)]


def _adjusted(signal: Signal, p_value: float, family: Sequence[Signal] | None) -> float:
    """Holm among `family`, with `p_value` in the signal's place; Benjamini-Hochberg only grows with the p-value."""
    if family is None:
        return signal.adjusted_p if p_value <= signal.p_value * (1 + 1e-6) else 1.0
    return float(holm([p_value, *(other.p_value for other in family if other is not signal)])[0])


def _side_columns(name: str, sides: _Sides) -> tuple[pd.Series, pd.Series, Callable[[], Found]] | None:
    reference, current, spec = sides.reference, sides.current, sides.spec
    match name:
        case "embedding":
            vectors = signals.vectors(reference, current, 1)
            fit = cross_fit(*vectors) if vectors else None
            return None if fit is None else (_numbers(fit.first), _numbers(fit.second), fit.test)
        case "text":
            fit = cross_fit_texts(*sides.texts) if sides.texts else None
            return None if fit is None else (_numbers(fit.first), _numbers(fit.second), fit.test)
        case "mmd":
            vectors = signals.vectors(reference, current, 1)
            if vectors is None:
                return None
            return *_witness(*vectors), _asking(lambda: signals.mmd(reference, current, sides.fewest))
        case "confidence":
            both = [_numbers(side.frame["confidence"].to_numpy()) for side in (reference, current)]
            return both[0], both[1], _asking(lambda: signals.confidence(reference, current, sides.fewest))
        case "labels":
            return *_counted("label", reference, current), _asking(
                lambda: signals.labels(reference, current, spec.labels)
            )
        case "channels" | "segments":
            column = name.removesuffix("s")
            return *_counted(column, reference, current), _asking(lambda: signals.mix(name, column, reference, current))
        case "late labels":
            both = [
                _words({"right": right, "wrong": count - right}, side.rows)
                for side, (right, count) in ((side, side.labelled) for side in (reference, current))
            ]
            return both[0], both[1], _asking(lambda: signals.late_labels(reference, current))
        case "disagreement":
            both = [
                _words({"agreed": count - against, "disagreed": against}, side.rows)
                for side, (against, count) in ((side, side.reviewed) for side in (reference, current))
            ]
            return both[0], both[1], _asking(lambda: signals.disagreement(reference, current))
    return None  # a signal that this module does not know yet has no column, and the page still tells it


def _form(signal: Signal, sides: _Sides, fires: Callable[[Found], bool]) -> list[Shown]:
    """The features of a text's form: the one that moved furthest has the signal's test, the others explain."""
    found: list[tuple[Found, str, tuple[pd.Series, pd.Series]]] = []
    for name in FORM:
        first, second = (_numbers(side.frame[name].to_numpy()) for side in (sides.reference, sides.current))
        if min(len(first), len(second)) >= sides.fewest:
            found.append((distance_test(first.to_numpy(), second.to_numpy()), name, (first, second)))
    if not found:
        return []
    furthest = max(found, key=lambda one: (*one[0], one[1]))[1]
    made = []
    for numbers, name, (first, second) in found:
        if name == furthest:
            ask = _asking(lambda: signals.form(sides.reference, sides.current, sides.fewest))
            made.append(Shown(_named(name, signal), first, second, True, signal.method, ask, fires, signal.floor))
        elif signal.segment is None:
            title = "Wasserstein distance / std of the reference (explains, never fires)"
            made.append(Shown(name, first, second, True, title, _known(numbers)))
    return made


def _asking(test: Callable[[], Signal | None]) -> Callable[[], Found]:
    def ask() -> Found:
        signal = test()
        assert signal is not None  # the verdict has it, from the same windows
        return signal.effect, signal.p_value

    return ask


def _known(found: Found) -> Callable[[], Found]:
    return lambda: found


def _named(column: str, signal: Signal) -> str:
    if signal.segment is None:
        return column
    return f"{column}, segment {signal.segment[:60]}".translate(_HARMLESS)


def _numbers(values: Any) -> pd.Series:
    numbers = np.asarray(values, dtype=np.float64)
    return pd.Series(numbers[np.isfinite(numbers)])


def _counted(column: str, reference: Window, current: Window) -> tuple[pd.Series, pd.Series]:
    """Words as often as they stand in all messages, scaled to the rows of the samples."""
    first, second = (
        {(name[:60]).translate(_HARMLESS): count for name, count in side.counts.get(column, {}).items()}
        for side in (reference, current)
    )
    kept = set(
        sorted(first.keys() | second.keys(), key=lambda name: -first.get(name, 0) - second.get(name, 0))[:MOST_VALUES]
    )
    both = []
    for side, counts in ((reference, first), (current, second)):
        rare = sum(count for name, count in counts.items() if name not in kept)
        shown = {name: count for name, count in counts.items() if name in kept} | ({OTHERS: rare} if rare else {})
        both.append(_words(shown, side.rows))
    return both[0], both[1]


def _words(counts: Mapping[str, int], most: int) -> pd.Series:
    """Every word of `counts` as often as it counts, or in the same shares in `most` rows where they are more."""
    counts = {name: count for name, count in sorted(counts.items(), key=lambda item: item[1]) if count > 0}
    scale = min(1.0, most / max(1, sum(counts.values())))
    values = [name for name, count in counts.items() for _ in range(max(1, round(scale * count)))]
    return pd.Series(values[:most], dtype=object)  # the rarest first: rounding cuts the most frequent


def _witness(first: NDArray[Any], second: NDArray[Any]) -> tuple[pd.Series, pd.Series]:
    """Where each row stands between the samples: its mean kernel with the second minus that with the first.

    The difference of the two columns' means estimates the squared MMD (Gretton et al., 2012, section 2.3); the number
    and the p-value beside the picture are those of the real test, with its own kernel.
    """
    from scipy.spatial.distance import pdist
    from sklearn.metrics.pairwise import rbf_kernel

    random = np.random.default_rng(0)
    some = [side[np.sort(random.permutation(len(side))[:WITNESSES])] for side in (first, second)]
    width = float(np.median(pdist(some[0]))) if len(some[0]) > 1 else 1.0
    gamma = 1 / (2 * (width or 1.0) ** 2)
    return tuple(  # type: ignore[return-value]
        _numbers(rbf_kernel(side, some[1], gamma).mean(axis=1) - rbf_kernel(side, some[0], gamma).mean(axis=1))
        for side in (first, second)
    )
