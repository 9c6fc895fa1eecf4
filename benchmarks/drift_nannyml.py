"""NannyML 0.13 on the windows of `benchmarks.drift`, in its own environment: it wants statsmodels and its own pins.

Run by `benchmarks.drift_peers` as `PYTHON drift_nannyml.py REFERENCE WINDOWS ROWS OUT`: two Parquet files with label,
truth, confidence, form features, channel, segment and a probability for each label; every ROWS rows are one window.
Defaults throughout, but chunks as large as a window: CBPE for accuracy and macro F1, univariate drift by Jensen-Shannon
distance; both alarm at three standard deviations over the reference's chunks.
"""

from __future__ import annotations

import json
import sys
import warnings

warnings.filterwarnings("ignore")

import nannyml  # noqa: E402
import pandas  # noqa: E402

LABELS = ("negative", "neutral", "positive")
CATEGORIES = ["label", "channel", "segment"]
NUMBERS = ["confidence", "length", "words", "upper", "marks"]


def main(reference_path: str, windows_path: str, rows: int, out: str) -> None:
    """Write one object per window: what alarmed, and CBPE's accuracy."""
    reference, windows = pandas.read_parquet(reference_path), pandas.read_parquet(windows_path)
    cbpe = nannyml.CBPE(
        problem_type="classification_multiclass",
        y_pred_proba={label: f"p_{label}" for label in LABELS},
        y_pred="label",
        y_true="truth",
        metrics=["accuracy", "f1"],
        chunk_size=rows,
    )
    found = cbpe.fit(reference).estimate(windows).filter(period="analysis").to_df()
    reference_accuracy = float((reference["label"] == reference["truth"]).mean())
    drift = nannyml.UnivariateDriftCalculator(
        column_names=CATEGORIES + NUMBERS, treat_as_categorical=CATEGORIES, chunk_size=rows
    )
    moved = drift.fit(reference).calculate(windows).filter(period="analysis").to_df()
    answers = []
    for number in range(len(windows) // rows):
        columns = [name for name in CATEGORIES + NUMBERS if bool(moved[name, "jensen_shannon", "alert"].iloc[number])]
        answers.append(
            {
                "cbpe": bool(found["accuracy", "alert"].iloc[number] or found["f1", "alert"].iloc[number]),
                "accuracy": float(found["accuracy", "value"].iloc[number]),
                "reference_accuracy": reference_accuracy,
                "columns": columns,
            }
        )
    with open(out, "w", encoding="utf-8") as file:
        json.dump({"version": nannyml.__version__, "windows": answers}, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
