"""Two versions on the same rows: every metric's paired difference, by slice, and the examples gained and lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.evaluate import ECE_BINS, SLICE_ROWS, Evaluation, class_indices, evaluate
from training.resample import RESAMPLES, interval, mcnemar, poisson_weights, resample, slice_macro_f1
from training.slices import membership
from undertone.multiplicity import holm
from undertone.tasks import TaskSpec

if TYPE_CHECKING:
    from pandas import DataFrame

#: Chance, over all tested slices together, that equal models differ significantly in one.
SLICE_ALPHA = 0.05

#: Metric to whether more of it is better.
METRICS = {"macro_f1": True, "macro_recall": True, "accuracy": True, "ece": False, "nll": False}

#: A probability below it counts as it: the log of 0 would hide every other row.
_LEAST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class Difference:
    """A metric of both versions on the same rows: `b` less `a`, and the 95 % paired-bootstrap interval of that."""

    a: float
    b: float
    difference: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class SliceDifference:
    """Macro-F1 of both versions in one slice.

    Attributes:
        name: such as ``channel=chat``.
        rows: rows in it.
        a: macro-F1 of the first version; None where the slice has fewer than 30 rows, or no label with five.
        b: the second's.
        difference: `b` less `a`.
        interval: 95 % paired-bootstrap interval of the difference, of this slice by itself.
        p_value: two-sided, from the resamples, of this slice by itself; never below 0.001.
        significant: the difference holds after Holm's correction over all tested slices.
    """

    name: str
    rows: int
    a: float | None = None
    b: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    significant: bool = False


@dataclass(frozen=True)
class VersionComparison:
    """What the rows say about version `b` beside version `a`.

    Attributes:
        rows: rows compared.
        metrics: ``macro_f1``, ``macro_recall``, ``accuracy``, ``ece`` (expected calibration error) and ``nll`` (mean
            negative log likelihood, nats).
        mcnemar_p: exact McNemar p-value of the rows on which just one of the two is right.
        gained: rows that `a` got wrong and `b` right.
        lost: rows that `a` got right and `b` wrong.
        both_wrong: rows that both got wrong.
        slices: significant ones first, then by the size of the difference; those with too few rows last.
        a: the first version's evaluation.
        b: the second's.
    """

    rows: int
    metrics: dict[str, Difference]
    mcnemar_p: float
    gained: int
    lost: int
    both_wrong: int
    slices: tuple[SliceDifference, ...]
    a: Evaluation
    b: Evaluation

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``cannot tell``: where the interval of the difference in macro-F1 lies."""
        low, high = self.metrics["macro_f1"].interval
        return "better" if low > 0 else "worse" if high < 0 else "cannot tell"

    def labels(self) -> list[dict[str, Any]]:
        """F1 of each label: label, rows, a, b, difference."""
        return [
            {
                "label": label,
                "rows": int(scores["support"]),
                "a": scores["f1"],
                "b": self.b.per_class[label]["f1"],
                "difference": self.b.per_class[label]["f1"] - scores["f1"],
            }
            for label, scores in self.a.per_class.items()
        ]

    def confusions(self) -> list[dict[str, Any]]:
        """Mistakes that became more or fewer, the greatest change first: label, answer, a, b, change (rows)."""
        names = list(self.a.per_class)
        found = [
            {"label": names[i], "answer": names[j], "a": before, "b": after, "change": after - before}
            for i, (row, other) in enumerate(zip(self.a.confusion, self.b.confusion, strict=True))
            for j, (before, after) in enumerate(zip(row, other, strict=True))
            if i != j and before != after
        ]
        return sorted(found, key=lambda cell: -abs(cell["change"]))

    def as_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has; no texts."""
        return {
            "rows": self.rows,
            "verdict": self.verdict,
            "metrics": {name: asdict(value) for name, value in self.metrics.items()},
            "mcnemar_p": self.mcnemar_p,
            "gained": self.gained,
            "lost": self.lost,
            "both_wrong": self.both_wrong,
            "labels": self.labels(),
            "slices": [asdict(part) for part in self.slices],
            "confusions": self.confusions(),
            "a": self.a.as_dict(),
            "b": self.b.as_dict(),
        }


def compare_versions(frame: DataFrame, spec: TaskSpec, a: NDArray[Any], b: NDArray[Any]) -> VersionComparison:
    """Compare the answers of two versions to the same rows. The order of the rows does not matter.

    Args:
        frame: n rows with ``text`` and ``label``, and the columns that the spec's slices name where the data has them.
        spec: labels and slices.
        a: calibrated probabilities [n, labels] of the first version, columns in the spec's label order.
        b: likewise, of the second.

    Raises:
        DataError: no rows, shapes that do not fit, a label that the spec does not have.
    """
    first, second = evaluate(a, frame, spec), evaluate(b, frame, spec)
    truth = class_indices(frame["label"], spec)
    keys = frame["text"].tolist()
    was_right, is_right = a.argmax(axis=1) == truth, b.argmax(axis=1) == truth
    return VersionComparison(
        rows=len(frame),
        metrics=_metrics(truth, (a, b), keys),
        mcnemar_p=mcnemar(truth, b.argmax(axis=1), a.argmax(axis=1)),
        gained=int((~was_right & is_right).sum()),
        lost=int((was_right & ~is_right).sum()),
        both_wrong=int((~was_right & ~is_right).sum()),
        slices=_slices(frame, spec, truth, (a.argmax(axis=1), b.argmax(axis=1)), keys),
        a=first,
        b=second,
    )


def changed_rows(
    frame: DataFrame, labels: Sequence[str], a: NDArray[Any], b: NDArray[Any]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows gained (`a` wrong, `b` right) and lost (`a` right, `b` wrong), each with `b`'s most confident first.

    Args:
        frame: n rows with ``text`` and ``label``.
        labels: label words in the order of the probabilities.
        a: the first version's probabilities [n, labels].
        b: the second's.
    """
    answers = [np.array(labels, dtype=object)[one.argmax(axis=1)] for one in (a, b)]
    truth = frame["label"].to_numpy(dtype=object)
    was_right, is_right = answers[0] == truth, answers[1] == truth
    records = frame.to_dict("records")

    def rows(which: NDArray[np.bool_]) -> list[dict[str, Any]]:
        places = np.flatnonzero(which)
        places = places[np.argsort(-b.max(axis=1)[places], kind="stable")]
        return [
            {
                "text": records[at]["text"],
                "label": records[at]["label"],
                "a": answers[0][at],
                "a_confidence": round(float(a[at].max()), 4),
                "b": answers[1][at],
                "b_confidence": round(float(b[at].max()), 4),
                **{name: _word(records[at].get(name)) for name in ("channel", "segment", "message_id")},
            }
            for at in places.tolist()
        ]

    return rows(~was_right & is_right), rows(was_right & ~is_right)


def _metrics(truth: NDArray[np.int64], models: Sequence[NDArray[Any]], keys: Sequence[str]) -> dict[str, Difference]:
    classes = models[0].shape[1]
    order = np.array(sorted(range(len(truth)), key=lambda row: keys[row]), dtype=np.int64)
    columns = [_columns(truth[order], probabilities[order], classes) for probabilities in models]
    ones = np.ones((len(truth), 1), dtype=np.float32)
    points = [_scores(part, ones, classes) for part in columns]
    resampled = [[_scores(part, weights, classes) for part in columns] for weights in poisson_weights(len(truth), 0)]
    drawn = [{name: np.concatenate([one[at][name] for one in resampled]) for name in METRICS} for at in (0, 1)]
    return {
        name: Difference(
            float(points[0][name][0]),
            float(points[1][name][0]),
            float(points[1][name][0] - points[0][name][0]),
            interval(drawn[1][name] - drawn[0][name]),
        )
        for name in METRICS
    }


def _columns(truth: NDArray[np.int64], probabilities: NDArray[Any], classes: int) -> NDArray[np.float32]:
    """Row by row what the metrics are sums of, [n, 3 * classes + bins + 1]: the true label, hits, predicted labels, how
    much confidence exceeded correctness in the row's confidence bin, and the loss."""
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1).astype(np.float64)
    is_truth, is_predicted = (labels[:, None] == np.arange(classes) for labels in (truth, predicted))
    # bins as in `training.evaluate.calibration_bins`
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    gaps = np.where(bins[:, None] == np.arange(ECE_BINS), (confidence - (predicted == truth))[:, None], 0.0)
    loss = -np.log(np.maximum(probabilities[np.arange(len(truth)), truth].astype(np.float64), _LEAST_PROBABILITY))
    parts = [is_truth, is_truth & is_predicted, is_predicted, gaps, loss[:, None]]
    return np.hstack([part.astype(np.float32) for part in parts])


def _scores(columns: NDArray[np.float32], weights: NDArray[np.float32], classes: int) -> dict[str, NDArray[np.float64]]:
    """Every metric [resamples] of one model, from `columns` [n, k] and how often each row counts [n, resamples]."""
    sums = (columns.T @ weights).astype(np.float64)
    supports, hits, calls = sums[:classes], sums[classes : 2 * classes], sums[2 * classes : 3 * classes]
    rows = np.maximum(supports.sum(axis=0), 1)
    return {
        "macro_f1": (2 * hits / np.maximum(supports + calls, 1)).mean(axis=0),
        "macro_recall": (hits / np.maximum(supports, 1)).mean(axis=0),
        "accuracy": hits.sum(axis=0) / rows,
        "ece": np.abs(sums[3 * classes : -1]).sum(axis=0) / rows,
        "nll": sums[-1] / rows,
    }


def _slices(
    frame: DataFrame,
    spec: TaskSpec,
    truth: NDArray[np.int64],
    answers: tuple[NDArray[Any], NDArray[Any]],
    keys: Sequence[str],
) -> tuple[SliceDifference, ...]:
    parts, classes = membership(frame, spec.slices), len(spec.labels)
    scored: dict[str, list[float]] = {}
    for name, inside in parts.items():
        scores = [slice_macro_f1(truth[inside], one[inside], classes) for one in answers]
        if inside.sum() >= SLICE_ROWS and np.isfinite(scores).all():
            scored[name] = scores
    drawn = resample(truth, answers, classes, [parts[name] for name in scored], keys=keys)
    differences = dict(zip(scored, drawn[:, 1] - drawn[:, 0], strict=True))
    p_values = {name: _p_value(values) for name, values in differences.items()}
    significant = dict(zip(p_values, (holm(list(p_values.values())) <= SLICE_ALPHA).tolist(), strict=True))
    found = [
        SliceDifference(name, int(inside.sum()))
        if name not in scored
        else SliceDifference(
            name,
            int(inside.sum()),
            a=scored[name][0],
            b=scored[name][1],
            difference=scored[name][1] - scored[name][0],
            interval=interval(differences[name]),
            p_value=p_values[name],
            significant=significant[name],
        )
        for name, inside in parts.items()
    ]
    return tuple(sorted(found, key=lambda part: (part.a is None, not part.significant, -abs(part.difference or 0))))


def _p_value(differences: NDArray[np.float64]) -> float:
    """Two-sided, by inverting the percentile interval (Efron and Tibshirani, 1993, section 15.4)."""
    tail = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (1 + tail) / (1 + RESAMPLES))


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) else None
