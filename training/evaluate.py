"""Measure a model on rows it never saw, as numbers for the gate and the registry."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.draw import draw_calibration, draw_confusion
from training.resample import interval, resample, slice_macro_f1
from training.slices import membership, words_of
from undertone.errors import DataError
from undertone.form import form, languages
from undertone.model_folder import REFERENCE, REFERENCE_COLUMNS, REFERENCE_TERMS, TERM_ROWS
from undertone.tasks import TaskSpec
from undertone.text import terms

if TYPE_CHECKING:
    from pandas import DataFrame

    from undertone.engine import Scores

__all__ = [
    "Evaluation",
    "calibration_bins",
    "class_indices",
    "confusion_matrix",
    "draw_calibration",
    "draw_confusion",
    "evaluate",
    "expected_calibration_error",
    "macro_f1",
    "write_reference",
]

ECE_BINS = 15

#: Slices with fewer rows say too_few in place of a score.
SLICE_ROWS = 30

#: Words kept at most, the most frequent ones.
TERMS = 3_000


@dataclass(frozen=True)
class Evaluation:
    """What a model did on one holdout. Scores are fractions of 1.

    Attributes:
        rows: rows looked at.
        macro_f1: unweighted mean of the labels' F1.
        accuracy: share of rows with the right label.
        macro_recall: unweighted mean of the labels' recall.
        ece: expected calibration error, 15 bins of equal width.
        per_class: label to precision, recall, f1 and support.
        confusion: counts, true label by row and predicted label by column, in the spec's label order.
        slices: ``"channel=chat"`` to rows, macro_f1 and interval (None below 30 rows) and too_few. A slice's macro-F1
            is that of the labels with at least five rows in it.
        interval: 95 % bootstrap interval of macro_f1.
    """

    rows: int
    macro_f1: float
    accuracy: float
    macro_recall: float
    ece: float
    per_class: dict[str, dict[str, float]]
    confusion: tuple[tuple[int, ...], ...]
    slices: dict[str, dict[str, Any]]
    interval: tuple[float, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        values = asdict(self)
        values["confusion"] = [list(row) for row in self.confusion]
        values["interval"] = None if self.interval is None else list(self.interval)
        return values

    def metrics(self) -> dict[str, float]:
        """Flat floats under names that MLflow takes: ``macro_f1``, ``f1.joy``, ``slice.channel.chat.macro_f1``."""
        values = {
            "rows": float(self.rows),
            "macro_f1": self.macro_f1,
            "accuracy": self.accuracy,
            "macro_recall": self.macro_recall,
            "ece": self.ece,
        }
        for label, scores in self.per_class.items():
            values |= {f"{name}.{_metric_name(label)}": float(scores[name]) for name in ("precision", "recall", "f1")}
        for name, scores in self.slices.items():
            if scores["macro_f1"] is not None:
                values[f"slice.{_metric_name(name.replace('=', '.', 1))}.macro_f1"] = float(scores["macro_f1"])
        return values


def evaluate(probabilities: NDArray[Any], frame: DataFrame, spec: TaskSpec) -> Evaluation:
    """Compare `probabilities` with the labels of `frame`.

    Args:
        probabilities: calibrated, [n, labels], columns in the spec's label order.
        frame: n rows with ``text`` and ``label``, and ``channel`` and ``segment`` where the data has them.
        spec: labels and slices.

    Raises:
        DataError: no rows, shapes that do not fit, a label that the spec does not have.
    """
    if probabilities.shape != (len(frame), len(spec.labels)) or frame.empty:
        raise DataError(
            f"one row of {len(spec.labels)} probabilities for each labelled row, and at least one row",
            f"probabilities {probabilities.shape} for {len(frame)} rows",
            "score the very rows that are evaluated",
        )
    truth = class_indices(frame["label"], spec)
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_matrix(truth, predicted, len(spec.labels))
    precision, recall, f1 = class_scores(confusion)
    bounds, slices = _resampled(frame, spec, truth, predicted)
    return Evaluation(
        rows=len(frame),
        macro_f1=float(f1.mean()),
        accuracy=float((truth == predicted).mean()),
        macro_recall=float(recall.mean()),
        ece=expected_calibration_error(probabilities, truth),
        per_class={
            label: {
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "support": int(confusion[index].sum()),
            }
            for index, label in enumerate(spec.labels)
        },
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        slices=slices,
        interval=bounds,
    )


def confusion_matrix(truth: NDArray[Any], predicted: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Counts [classes, classes]: true class by row, predicted class by column."""
    cells = np.asarray(truth, dtype=np.int64) * classes + np.asarray(predicted, dtype=np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def class_scores(confusion: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision, recall and F1 of each class; 0 where a class has no row to be right about.

    Args:
        confusion: counts [..., classes, classes]; leading axes are kept.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    supports, calls = confusion.sum(axis=-1), confusion.sum(axis=-2)
    precision = hits / np.maximum(calls, 1)
    recall = hits / np.maximum(supports, 1)
    f1 = 2 * hits / np.maximum(supports + calls, 1)
    return precision, recall, f1


def macro_f1(truth: NDArray[Any], predicted: NDArray[Any], classes: int) -> float:
    """Unweighted mean of the classes' F1."""
    return float(class_scores(confusion_matrix(truth, predicted, classes))[2].mean())


def calibration_bins(
    probabilities: NDArray[Any], labels: NDArray[Any], bins: int = ECE_BINS
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Rows, mean confidence and accuracy in each of `bins` confidence bins of equal width; NaN where a bin is empty."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    # Bins are open below and closed above, as in Guo et al.
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = np.bincount(index, weights=confidence, minlength=bins) / counts
        accuracies = np.bincount(index, weights=right, minlength=bins) / counts
    return counts, means, accuracies


def expected_calibration_error(probabilities: NDArray[Any], labels: NDArray[Any], bins: int = ECE_BINS) -> float:
    """Mean gap between confidence and accuracy over bins, weighted by rows.

    Guo et al., 2017, https://arxiv.org/abs/1706.04599, equation 3. NaN where a probability is not finite.
    """
    if not np.isfinite(probabilities).all():
        return float("nan")
    counts, means, accuracies = calibration_bins(probabilities, labels, bins)
    gaps = np.nan_to_num(np.abs(means - accuracies))
    return float((counts * gaps).sum() / counts.sum())


def write_reference(folder: Path, frame: DataFrame, scores: Scores, spec: TaskSpec) -> Path:
    """Write ``undertone/reference.parquet``: predictions on `frame`, the reference of the drift watch. No texts.

    One row a message, in the order of `frame`, columns as in `REFERENCE_COLUMNS`:

    ============== ======================== ====================================================
    label          string                   predicted label
    probabilities  list<float32>            calibrated, in label order
    confidence     float64                  the largest probability
    length         int64                    characters of the text
    channel        string or null           as in `frame`
    segment        string or null           as in `frame`
    embedding      binary                   little-endian float16, ``np.frombuffer(value, "<f2")``
    truth          string                   the row's label
    words          int64                    words of the text
    upper          float64                  share of its letters that are capitals
    marks          float64                  share of its characters that are no letter, digit or blank
    language       string or null           ISO 639 code, null where the text is too short to tell
    ============== ======================== ====================================================

    ``undertone/reference_terms.json`` is written beside it: ``{"rows": n, "shares": {word: share of rows}}`` for
    the `TERMS` most frequent words that stand in at least `TERM_ROWS` rows.

    Args:
        folder: the model folder.
        frame: rows the model was not trained on.
        scores: the engine's answers for the texts of `frame`, in its order.
        spec: label words.

    Returns:
        The Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    probabilities = np.asarray(scores.probabilities, dtype=np.float32)
    if len(probabilities) != len(frame):
        raise DataError(
            "one score for each reference row", f"{len(probabilities)} for {len(frame)}", "score the very same rows"
        )
    texts = frame["text"].tolist()
    forms = [form(text) for text in texts]
    columns = {
        "label": pa.array([spec.labels[index] for index in probabilities.argmax(axis=1)], pa.string()),
        "probabilities": pa.array(list(probabilities), pa.list_(pa.float32())),
        "confidence": pa.array(probabilities.max(axis=1).astype(np.float64), pa.float64()),
        "length": pa.array([int(row["length"]) for row in forms], pa.int64()),
        "channel": pa.array(words_of(frame, "channel"), pa.string()),
        "segment": pa.array(words_of(frame, "segment"), pa.string()),
        "embedding": pa.array([row.astype("<f2").tobytes() for row in scores.embeddings], pa.binary()),
        "truth": pa.array(words_of(frame, "label"), pa.string()),
        "words": pa.array([int(row["words"]) for row in forms], pa.int64()),
        "upper": pa.array([row["upper"] for row in forms], pa.float64()),
        "marks": pa.array([row["marks"] for row in forms], pa.float64()),
        "language": pa.array(languages(texts), pa.string()),
    }
    path = folder / REFERENCE
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: columns[name] for name in REFERENCE_COLUMNS}), path)
    (folder / REFERENCE_TERMS).write_text(
        json.dumps(_reference_terms(texts), ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return path


def _reference_terms(texts: Sequence[str]) -> dict[str, Any]:
    counts = Counter(term for text in texts for term in terms(text))
    # ties by the alphabet, so that the same rows always make the same model folder
    kept = sorted((item for item in counts.items() if item[1] >= TERM_ROWS), key=lambda item: (-item[1], item[0]))
    return {"rows": len(texts), "shares": {term: count / len(texts) for term, count in kept[:TERMS]}}


def class_indices(labels: Iterable[str], spec: TaskSpec) -> NDArray[np.int64]:
    """Class indices [n] of n label words.

    Raises:
        DataError: a label that the spec does not have.
    """
    index, words = spec.label_index(), list(labels)
    unknown = sorted({str(label) for label in words} - set(index))
    if unknown:
        raise DataError(
            f"labels {', '.join(spec.labels)}", ", ".join(unknown[:5]), f"correct the data of task {spec.name!r}"
        )
    return np.array([index[label] for label in words], dtype=np.int64)


def _resampled(
    frame: DataFrame, spec: TaskSpec, truth: NDArray[Any], predicted: NDArray[Any]
) -> tuple[tuple[float, float], dict[str, dict[str, Any]]]:
    """The interval of macro-F1, and the slices with theirs."""
    classes, parts = len(spec.labels), membership(frame, spec.slices)
    scored = {
        name: score
        for name, rows in parts.items()
        if rows.sum() >= SLICE_ROWS and np.isfinite(score := slice_macro_f1(truth[rows], predicted[rows], classes))
    }
    scores = resample(
        truth, [predicted], classes, (None, *(parts[name] for name in scored)), keys=frame["text"].tolist()
    )
    bounds = {name: list(interval(values[0])) for name, values in zip(scored, scores[1:], strict=True)}
    slices = {
        name: {
            "rows": int(rows.sum()),
            "macro_f1": scored.get(name),
            "interval": bounds.get(name),
            "too_few": name not in scored,
        }
        for name, rows in parts.items()
    }
    return interval(scores[0, 0]), slices


def _metric_name(name: str) -> str:
    """`name` with what MLflow refuses in a metric's name replaced."""
    return "".join(character if character.isalnum() or character in "_-. /" else "_" for character in name)
