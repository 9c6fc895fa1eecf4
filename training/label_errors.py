"""Rows whose label is probably wrong, by confident learning over out-of-fold probabilities.

Northcutt, Jiang and Chuang, 2021, *Confident learning: estimating uncertainty in dataset labels*,
https://doi.org/10.1613/jair.1.12125, as cleanlab does it. Of each pair of labels as many rows are suspected as the
estimated noise asks for: those where the other label is by most the likelier one. Hard rows are suspected with the
wrong ones: what comes out is a reading list, not a verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluate import macro_f1
from undertone.errors import DataError

#: Inverse strength of the L2 penalty: the best of 1, 3, 10 and 30 on real texts (docs/how-to/find-label-errors.md).
_C = 3.0


@dataclass(frozen=True)
class Suspects:
    """Rows whose label is suspected.

    Attributes:
        rows: places in the given labels, the most suspicious first.
        suggested: the likeliest other label of each of `rows`, a class index.
        given_probability: what the classifier gives the label that stands there, of each of `rows`.
        suggested_probability: what it gives the suggested one.
        macro_f1: of the probabilities against the given labels, out of fold: what the suspicion rests on.
    """

    rows: NDArray[np.int64]
    suggested: NDArray[np.int64]
    given_probability: NDArray[np.float64]
    suggested_probability: NDArray[np.float64]
    macro_f1: float


def out_of_fold(
    embeddings: NDArray[Any], labels: NDArray[np.int64], classes: int, *, folds: int = 5, seed: int = 0
) -> NDArray[np.float64]:
    """Probabilities [n, classes] of a logistic regression that never saw the row it answers.

    Args:
        embeddings: float [n, hidden].
        labels: class indices [n].
        classes: number of labels.
        folds: of the cross-validation, stratified; at least 2.
        seed: of the folds.

    Raises:
        DataError: a label has fewer rows than there are folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from tqdm.auto import tqdm

    fewest = int(np.bincount(labels, minlength=classes).min())
    if folds < 2 or fewest < folds:
        raise DataError(
            "at least 2 folds, and as many rows of every label as folds",
            f"{folds} folds, {fewest} rows of the rarest label",
            "use fewer --folds, or more rows",
        )
    found = np.zeros((len(labels), classes), dtype=np.float64)
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed).split(embeddings, labels)
    for train, held in tqdm(splits, total=folds, desc="cross-validation", unit="fold", leave=False):
        model = LogisticRegression(C=_C, max_iter=1_000).fit(embeddings[train], labels[train])
        found[held] = model.predict_proba(embeddings[held])
    return found


def suspect(probabilities: NDArray[Any], labels: NDArray[np.int64]) -> Suspects:
    """The suspected rows, those with the least probability of their label first.

    Args:
        probabilities: [n, classes], of a model that did not learn from the rows.
        labels: the given class indices [n]; every class has a row.
    """
    from cleanlab.filter import find_label_issues

    chances = np.asarray(probabilities, dtype=np.float64)
    chances /= chances.sum(axis=1, keepdims=True)
    rows = np.asarray(
        find_label_issues(labels, chances, return_indices_ranked_by="self_confidence", n_jobs=1), dtype=np.int64
    )
    others = chances[rows].copy()
    others[np.arange(len(rows)), labels[rows]] = -1.0
    suggested = others.argmax(axis=1)
    return Suspects(
        rows=rows,
        suggested=suggested,
        given_probability=chances[rows, labels[rows]],
        suggested_probability=chances[rows, suggested],
        macro_f1=macro_f1(labels, chances.argmax(axis=1), chances.shape[1]),
    )


def pairs(suspects: Suspects, labels: NDArray[np.int64], names: Sequence[str]) -> list[dict[str, Any]]:
    """How many suspected rows of a label look like which other, most first: label, suggested, suspected, rows."""
    counts = np.bincount(labels, minlength=len(names))
    cells = labels[suspects.rows] * len(names) + suspects.suggested
    found = np.bincount(cells, minlength=len(names) ** 2).reshape(len(names), len(names))
    table = [
        {"label": names[i], "suggested": names[j], "suspected": int(found[i, j]), "rows": int(counts[i])}
        for i in range(len(names))
        for j in range(len(names))
        if found[i, j]
    ]
    return sorted(table, key=lambda row: -row["suspected"])
