"""What can differ between two windows, each with an effect size, a p-value and the level that its floors give it.

A signal counts only if chance is ruled out after correction *and* its effect reaches a floor: with many messages every
trifle is significant, and with few every floor is reached by chance. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from monitoring.two_sample import (
    CrossFit,
    chi_square,
    cross_fit,
    cross_fit_texts,
    distance_test,
    mmd_test,
    psi,
    rise_test,
)
from monitoring.windows import Window
from undertone.form import FORM
from undertone.multiplicity import holm
from undertone.records import Level, Signal
from undertone.tasks import Floor, TaskSpec

#: Fewest labelled or reviewed messages a side that say anything about quality.
LABELS = 50
#: How a form feature is called in a reason, and whether it is a share.
FORM_WORDS = {
    "length": ("characters", False),
    "words": ("words", False),
    "upper": ("upper-case letters", True),
    "marks": ("punctuation and emoji", True),
}

Texts = tuple[Sequence[str], Sequence[str]]


def measure(
    reference: Window, current: Window, spec: TaskSpec, floors: Mapping[str, Floor], *, texts: Texts | None = None
) -> tuple[Signal, ...]:
    """Every signal that both windows have data for, over all their messages, corrected by Holm at ``drift.alpha``.

    Args:
        floors: least effects by signal, such as ``spec.drift.floors`` or those of a `Calibration`.
        texts: (of messages like the reference's, of the current window); used where embeddings are missing.
    """
    fewest = spec.drift.min_rows
    found = [embedding(reference, current, fewest), mmd(reference, current, fewest)]
    if found[0] is None and texts is not None:
        found.append(text(*texts, fewest))
    found += [
        labels(reference, current, spec.labels),
        confidence(reference, current, fewest),
        form(reference, current, fewest),
        mix("channels", "channel", reference, current),
        mix("segments", "segment", reference, current),
        late_labels(reference, current),
        disagreement(reference, current),
    ]
    present = [signal for signal in found if signal is not None]
    adjusted = holm([signal.p_value for signal in present])
    return tuple(_judged(present, adjusted, spec.drift.alpha, floors))


def segment_signals(
    reference: Window, current: Window, spec: TaskSpec, floors: Mapping[str, Floor]
) -> tuple[Signal, ...]:
    """Signals of single segments that count, each against the same segment of the reference.

    Segments of ``drift.segment_rows`` and more on both sides are tested for embedding, labels, confidence and form.
    All tests of all segments together hold a false discovery rate of ``drift.segment_alpha`` (Benjamini and Hochberg,
    1995).
    """
    fewest = spec.drift.segment_rows
    tested: list[Signal] = []
    for name in sorted(set(reference.counts["segment"]) & set(current.counts["segment"])):
        first, second = (side.take((side.frame["segment"] == name).to_numpy()) for side in (reference, current))
        if min(first.rows, second.rows) < fewest:
            continue
        of_segment = (
            embedding(first, second, fewest),
            labels(first, second, spec.labels),
            confidence(first, second, fewest),
            form(first, second, fewest),
        )
        tested += [replace(signal, segment=name) for signal in of_segment if signal is not None]
    if not tested:
        return ()
    adjusted = stats.false_discovery_control([signal.p_value for signal in tested])
    return tuple(signal for signal in _judged(tested, adjusted, spec.drift.segment_alpha, floors) if signal.fired)


def level_of(effect: float, floor: Floor) -> Level:
    """The highest floor that `effect` reaches."""
    if floor.severe is not None and effect >= floor.severe:
        return "severe"
    if floor.act is not None and effect >= floor.act:
        return "act"
    return "warn" if effect >= floor.warn else "none"


def _judged(
    signals: Iterable[Signal], adjusted: NDArray[np.float64], alpha: float, floors: Mapping[str, Floor]
) -> Iterable[Signal]:
    for signal, p_value in zip(signals, adjusted, strict=True):
        floor = floors[signal.name]
        yield replace(
            signal,
            floor=floor.warn,
            act=floor.act,
            severe=floor.severe,
            adjusted_p=float(p_value),
            level=level_of(signal.effect, floor) if p_value < alpha else "none",
        )


def embedding(reference: Window, current: Window, fewest: int) -> Signal | None:
    """Can a classifier tell the windows apart by their embeddings? The effect is the AUC of held-out scores."""
    fit = _cross_fit(reference, current, fewest)
    return None if fit is None else _signal("embedding", "cross-fitted classifier two-sample test, AUC", *fit.test())


def domain_scores(reference: Window, current: Window) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Held-out scores, high where a message is like the current window, of reference rows and of current ones.

    NaN for a row without an embedding. None where a side has too few embeddings or their widths differ.
    """
    fit = _cross_fit(reference, current, 1)
    if fit is None:
        return None
    scores = np.full(reference.rows, np.nan), np.full(current.rows, np.nan)
    scores[0][reference.embedded], scores[1][current.embedded] = fit.first, fit.second
    return scores


def _cross_fit(reference: Window, current: Window, fewest: int) -> CrossFit | None:
    sides = vectors(reference, current, fewest)
    return None if sides is None else cross_fit(*sides)


def vectors(reference: Window, current: Window, fewest: int) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Embeddings of both sides [n, hidden], [m, hidden]; None where one has fewer than `fewest`, or widths differ."""
    if reference.embeddings is None or current.embeddings is None:
        return None
    first, second = reference.embeddings[reference.embedded], current.embeddings[current.embedded]
    if first.shape[1] != second.shape[1] or min(len(first), len(second)) < fewest:
        return None
    return first, second


def mmd(reference: Window, current: Window, fewest: int) -> Signal | None:
    """Maximum mean discrepancy of the embeddings."""
    sides = vectors(reference, current, max(fewest, 2))
    return None if sides is None else _signal("mmd", "maximum mean discrepancy, permutation", *mmd_test(*sides))


def text(reference: Sequence[str], current: Sequence[str], fewest: int) -> Signal | None:
    """Can a classifier tell the windows apart by their words?"""
    fit = cross_fit_texts(reference, current) if min(len(reference), len(current)) >= fewest else None
    return None if fit is None else _signal("text", "cross-fitted TF-IDF classifier two-sample test, AUC", *fit.test())


def labels(reference: Window, current: Window, words: Sequence[str]) -> Signal | None:
    """Shares of the predicted labels, of all messages."""
    return _shares("labels", words, reference.counts["label"], current.counts["label"])


def mix(name: str, column: str, reference: Window, current: Window) -> Signal | None:
    """Shares of channels or of segments, of all messages that have one."""
    first, second = reference.counts[column], current.counts[column]
    return _shares(name, sorted(first | second), first, second)


def _shares(name: str, values: Sequence[str], first: dict[str, int], second: dict[str, int]) -> Signal | None:
    counts = np.array([[side.get(value, 0) for value in values] for side in (first, second)]).reshape(2, -1)
    sizes = counts.sum(axis=1)
    if not sizes.all():
        return None
    before, after = counts / sizes[:, None]
    top = int(np.abs(after - before).argmax())
    detail = f"{values[top]} {before[top]:.0%} -> {after[top]:.0%}".replace("%", " %")
    return _signal(name, "population stability index, chi-square", psi(counts), chi_square(counts), detail)


def confidence(reference: Window, current: Window, fewest: int) -> Signal | None:
    """How sure the model is."""
    first, second = (side.frame["confidence"].dropna().to_numpy() for side in (reference, current))
    if min(len(first), len(second)) < fewest:
        return None
    effect, p_value = distance_test(first, second)
    detail = f"mean {first.mean():.2f} -> {second.mean():.2f}"
    return _signal("confidence", "Wasserstein distance / std, Kolmogorov-Smirnov", effect, p_value, detail)


def form(reference: Window, current: Window, fewest: int) -> Signal | None:
    """Length, words, capitals and marks; the one that moved furthest speaks, its p-value times how many there are."""
    found = []
    for name in FORM:
        first, second = (side.frame[name].dropna().to_numpy() for side in (reference, current))
        if min(len(first), len(second)) >= fewest:
            found.append((*distance_test(first, second), name, first.mean(), second.mean()))
    if not found:
        return None
    effect, p_value, name, before, after = max(found)
    words, share = FORM_WORDS[name]
    numbers = (f"{before:.1%} -> {after:.1%}".replace("%", " %")) if share else f"{before:.0f} -> {after:.0f}"
    method = "largest Wasserstein distance / std of a form feature, Kolmogorov-Smirnov, Bonferroni"
    return _signal("form", method, effect, min(1.0, p_value * len(found)), f"{words} {numbers}")


def late_labels(reference: Window, current: Window) -> Signal | None:
    """By how much accuracy fell, where labels came by audit or import. The reference's is the holdout's."""
    before, after = ((count - right, count) for right, count in (reference.labelled, current.labelled))
    if min(before[1], after[1]) < LABELS:
        return None
    detail = f"accuracy {1 - before[0] / before[1]:.3f} -> {1 - after[0] / after[1]:.3f} on {after[1]} labels"
    return _signal("late labels", "drop of accuracy, Fisher's exact test", *rise_test(before, after), detail)


def disagreement(reference: Window, current: Window) -> Signal | None:
    """By how much reviewers disagree more often than in the earlier messages that `reference.reviewed` counts."""
    before, after = reference.reviewed, current.reviewed
    if min(before[1], after[1]) < LABELS:
        return None
    detail = f"{before[0]} of {before[1]} -> {after[0]} of {after[1]} reviewed"
    return _signal("disagreement", "rise of the share, Fisher's exact test", *rise_test(before, after), detail)


def _signal(name: str, method: str, effect: float, p_value: float, detail: str = "") -> Signal:
    """A signal that is not judged yet."""
    return Signal(name, method, effect, 0.0, p_value, detail=detail)
