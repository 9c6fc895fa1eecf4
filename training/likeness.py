"""Was a version reproduced? Two trainings compared by their metrics, their predictions and their files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from training.file_likeness import FileLikeness
from undertone.model_folder import REFERENCE

Verdict = Literal["identical", "same weights", "equivalent", "different"]

#: Metrics that may differ by this much in an equivalent model, in fractions of 1.
TOLERANCE = 0.01

#: Metrics on which the verdict rests. Labels are shown and decide nothing: few rows move them far.
HEADLINE = ("macro_f1", "accuracy", "ece")


def compare_metrics(recorded: Mapping[str, Any], repeated: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Metrics of two evaluations (`training.evaluate.Evaluation.as_dict`): recorded, repeated and their difference.

    Names are ``macro_f1``, ``accuracy``, ``ece`` and ``f1.<label>``; None stands for a value that is not there.
    """
    ours, theirs = _flat(recorded), _flat(repeated)
    found = {}
    for name in ours | theirs:
        one, other = ours.get(name), theirs.get(name)
        difference = None if one is None or other is None else other - one
        found[name] = {"recorded": one, "repeated": other, "difference": difference}
    return found


def compare_predictions(recorded: Path, repeated: Path) -> dict[str, Any] | None:
    """Answers of two model folders on the rows neither was trained on; None where these are not the same rows.

    Returns:
        rows, same_label (a share) and greatest_difference (between probabilities).
    """
    import pyarrow.parquet as pq

    try:
        ours, theirs = (pq.read_table(folder / REFERENCE) for folder in (recorded, repeated))
        if not all(ours[column].equals(theirs[column]) for column in ("length", "channel", "segment")):
            return None
        one, other = (np.array(table["probabilities"].to_pylist(), dtype=np.float64) for table in (ours, theirs))
    except (OSError, KeyError, ValueError):
        return None
    if one.shape != other.shape or not one.size:
        return None
    return {
        "rows": len(one),
        "same_label": float((one.argmax(axis=1) == other.argmax(axis=1)).mean()),
        "greatest_difference": float(np.abs(one - other).max()),
    }


def judge(
    files: Sequence[FileLikeness], metrics: Mapping[str, Mapping[str, float | None]], *, same_data: bool
) -> tuple[Verdict, str]:
    """The verdict in a word, and why.

    A training on other data repeats nothing: it is ``different`` whatever it measured.
    """
    if not same_data:
        return "different", "the data is not the data that the version was trained on"
    apart = [item for item in files if item.state != "identical"]
    drawn = [item for item in apart if item.name == "MLmodel" and item.state == "identical_but"]
    if len(apart) == len(drawn):
        return "identical", "every byte is the same" + (f", but for {drawn[0].note} in MLmodel" if drawn else "")
    weights = [item for item in files if item.has_weights]
    if weights and all(item.greatest_difference == 0.0 for item in weights):
        return (
            "same weights",
            f"every weight is the same; other bytes differ in {', '.join(item.name for item in apart)}",
        )
    differences = {name: metrics.get(name, {}).get("difference") for name in HEADLINE}
    greatest = max((math.inf if value is None else abs(value) for value in differences.values()), default=math.inf)
    told = ", ".join(f"{name} {'missing' if value is None else f'{value:+.4f}'}" for name, value in differences.items())
    if greatest <= TOLERANCE:
        return "equivalent", f"weights differ, metrics within {TOLERANCE:g}: {told}"
    return "different", f"metrics differ by more than {TOLERANCE:g}: {told}"


def _flat(evaluation: Mapping[str, Any]) -> dict[str, float | None]:
    values = {name: evaluation.get(name) for name in HEADLINE}
    values |= {f"f1.{label}": scores.get("f1") for label, scores in evaluation.get("per_class", {}).items()}
    return {
        name: float(value) if isinstance(value, int | float) and math.isfinite(value) else None
        for name, value in values.items()
    }
