"""Training files beside the one whose rows are reported on: kept where they help with those rows, left out where not.

More rows help only if they are labelled alike: irony by hashtag and irony by its own author are two tasks with one
name. Asked in seconds, before hours of fine-tuning, by a linear probe.
"""

from __future__ import annotations

import logging
from pathlib import PurePath

import numpy as np
import pandas as pd

from training.files import without_split
from training.repairs import Repair, drop
from training.resample import slice_macro_f1

log = logging.getLogger("undertone.training")

FOLDS = 5
#: Rows of the file itself, and of the others, that the probe looks at.
MOST_ROWS = 10_000
#: Fewer rows of the file itself tell nothing, and all files stay.
LEAST_ROWS = 200


def leave_out(frame: pd.DataFrame, repairs: list[Repair]) -> pd.DataFrame:
    """`frame` without training rows of other files that make a probe worse on the rows of the file reported on.

    That file is the one that the source splits (train.csv beside val.csv); isarcasm_train.jsonl beside them is another.
    The probe is logistic regression on words and pairs of words (TF-IDF), asked by five-fold cross-validation on the
    file's own training rows, with the others' rows and without. They go if macro-F1 falls by more than two standard
    errors (paired bootstrap over rows); a gain, or too little to tell, lets them stay.

    Args:
        frame: rows with text, label, split and file.
        repairs: gets a repair `other_labels` where rows are left out.
    """
    reported = {_stem(file) for file in frame.loc[frame["split"].isin(["val", "test"]), "file"].unique()}
    train = frame["split"].eq("train")
    other = train & ~frame["file"].map(_stem).isin(reported)
    own = train & ~other
    if not reported or not other.any() or own.sum() < LEAST_ROWS:
        return frame
    names = ", ".join(sorted({PurePath(file).name for file in frame.loc[other, "file"]}))
    found = _difference(_sampled(frame[own]), _sampled(frame[other]))
    if found is None:
        return frame
    without, difference, error = found
    verdict = "left out" if difference < -2 * error else "kept"
    log.info(
        "%s: %s. A probe's macro-F1 on the rows of the file that is reported on is %.3f without and %.3f with (± %.3f)",
        names, verdict, without, without + difference, error,
    )  # fmt: skip
    return drop(frame, other, "other_labels", repairs) if verdict == "left out" else frame


def _stem(file: str) -> str:
    return without_split(PurePath(file).stem)


def _sampled(rows: pd.DataFrame) -> pd.DataFrame:
    """At most `MOST_ROWS`, in an order that does not depend on the file's."""
    rows = rows.sort_values(["key", "label"], kind="stable")
    return rows.sample(min(len(rows), MOST_ROWS), random_state=0)


def _difference(own: pd.DataFrame, other: pd.DataFrame) -> tuple[float, float, float] | None:
    """Macro-F1 without the others, what they add to it, and that difference's standard error; None: too few to tell."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    labels = own["label"].to_numpy()
    if own["label"].value_counts().min() < FOLDS:
        return None
    names = np.unique(labels)
    answers = {with_others: np.empty(len(own), dtype=labels.dtype) for with_others in (False, True)}
    for train, held in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(own["text"], labels):
        for with_others in answers:
            rows = pd.concat([own.iloc[train], other]) if with_others else own.iloc[train]
            words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True).fit(rows["text"])
            probe = LogisticRegression(max_iter=1_000).fit(words.transform(rows["text"]), rows["label"])
            answers[with_others][held] = probe.predict(words.transform(own["text"].iloc[held]))
    truth = np.searchsorted(names, labels)
    # a label that only the others have is wrong here, whichever label stands in for it
    without, joined = (
        np.where(np.isin(told, names), np.searchsorted(names, told), (truth + 1) % len(names))
        for told in (answers[False], answers[True])
    )
    draws = np.random.default_rng(0).integers(0, len(truth), (200, len(truth)))
    scores = [[slice_macro_f1(truth[draw], told[draw], len(names)) for told in (without, joined)] for draw in draws]
    error = float(np.std(np.diff(scores), ddof=1))
    base, more = (slice_macro_f1(truth, told, len(names)) for told in (without, joined))
    return base, more - base, error
