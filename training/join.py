"""Fit the join of sentiment with sarcasm (and emotion), and adopt it only where it helps and does not hurt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from training.resample import interval, resample, slice_macro_f1
from undertone.join import EMOTION, SARCASM, SARCASTIC, Feature, Join, Partner, features, names

#: Inverse strengths of the L2 penalty that cross-validation chooses from.
STRENGTHS = (0.003, 0.03, 0.3, 3.0)
FOLDS = 5

#: Macro-F1 that the join may lose on all messages, and on those without a sign of sarcasm (fewer, so less sure).
MARGIN, REST_MARGIN = 0.01, 0.02

#: Fewer messages with a sign of sarcasm, or fewer of one label, show nothing.
FEWEST = 30


@dataclass(frozen=True)
class Heard:
    """A partner's calibrated probabilities [n, labels] for the rows that the join is fitted on, and whose they are."""

    partner: Partner
    probabilities: NDArray[Any]


@dataclass(frozen=True)
class Fitted:
    """A join and what speaks for or against it.

    Attributes:
        join: without ``review_below``.
        probabilities: [n, labels] of the rows it was fitted on, each by a join that was fitted without its fold; the
            sentiment model's own where it was not adopted.
        report: what was tried and measured, JSON-ready.
    """

    join: Join
    probabilities: NDArray[np.float64]
    report: dict[str, Any]


def fit_join(
    own: NDArray[Any],
    heard: Mapping[str, Heard],
    truth: NDArray[Any],
    cue: NDArray[np.bool_],
    labels: Sequence[str],
    *,
    keys: Sequence[str] | None = None,
    seed: int = 0,
) -> Fitted:
    """Fit a join on validation rows, and decide by cross-validation whether it is adopted.

    It is a multinomial logistic regression without intercepts (L2; the strength with the least log-loss over five
    stratified folds), whose offset is the sentiment model's own log-probabilities: shares of labels are not learned
    again, which cost 6 points of macro-F1 in another domain (docs/experiments.md).
    Emotion is kept where the rows' log-loss without it is more by over one standard error. The join is adopted where
    the 95 % interval of its macro-F1 less sentiment's own, on rows left out of its fit, lies above ``-MARGIN`` for all
    rows, above ``-REST_MARGIN`` for those without a sign of sarcasm, and above 0 for those with one: the sarcasm model
    says so (at least 0.5), or the text has a cue (`training.slices`). (The strength is chosen on the same folds: four
    values, so hardly an advantage.)

    Args:
        own: the sentiment model's calibrated probabilities [n, labels].
        heard: sarcasm, and emotion where there is a champion.
        truth: class indices [n].
        cue: whether the text has a cue of sarcasm, bool [n].
        labels: of sentiment.
        keys: what each row is known by, for the bootstrap; None: its place.
        seed: of the folds and the bootstrap.
    """
    own = np.asarray(own, dtype=np.float64)
    signs = cue | (sarcastic(heard[SARCASM]) >= 0.5)
    if (problem := _too_few(truth, signs, labels)) is not None:
        return _refused(own, heard, labels, problem, {"rows": len(truth)})
    tried = {name: _cross_validate(own, _only(heard, name), truth, labels, seed) for name in _subsets(heard)}
    losses = {name: _row_loss(found.probabilities, truth) for name, found in tried.items()}
    emotion = _emotion_gain(losses)
    kept = (SARCASM, EMOTION) if emotion is not None and emotion["kept"] else (SARCASM,)
    best, partners = tried[kept], _only(heard, kept)
    parts = compare(truth, own.argmax(axis=1), best.probabilities.argmax(axis=1), signs, len(labels), keys, seed)
    report = {
        "rows": len(truth),
        "strength": best.strength,
        "log_loss": {"alone": float(_row_loss(own, truth).mean()), "joined": float(losses[kept].mean())},
        "emotion": emotion,
        "validation": parts,
        "margins": {"all": MARGIN, "rest": REST_MARGIN},
    }
    if (problem := _objection(parts)) is not None:
        return _refused(own, heard, labels, problem, report)
    why = "on validation it gains where sarcasm is heard and does not hurt the rest"
    join = solve(own, partners, truth, labels, best.strength, why)
    report["weights"] = {
        feature.name: {label: join.weights[row][place] for row, label in enumerate(labels)}
        for place, feature in enumerate(join.features)
    }
    return Fitted(join, best.probabilities, report | {"adopted": True, "why": why})


def joined(join: Join, own: NDArray[Any], heard: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Probabilities [n, labels] of the join, row by row in the very arithmetic that serves; ``own`` if not adopted."""
    if not join.adopted:
        return np.asarray(own, dtype=np.float64)
    return np.array(
        [
            join.probabilities(row, {task: heard[task][place].tolist() for task in join.partners})
            for place, row in enumerate(np.asarray(own).tolist())
        ]
    ).reshape(len(own), len(join.labels))


def sarcastic(heard: Heard) -> NDArray[np.float64]:
    """Probability of sarcasm [n]."""
    place = heard.partner.labels.index(SARCASTIC)
    return np.asarray(heard.probabilities, dtype=np.float64)[:, place]


def compare(
    truth: NDArray[Any],
    own: NDArray[Any],
    final: NDArray[Any],
    signs: NDArray[np.bool_],
    classes: int,
    keys: Sequence[str] | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Macro-F1 of sentiment alone and of the final sentiment: all rows, those with a sign of sarcasm, and the rest.

    Args:
        truth: class indices [n].
        own: sentiment's own [n].
        final: the final ones [n].
        signs: bool [n].
        classes: number of labels.
        keys: as for `training.resample.resample`.
        seed: of the bootstrap.

    Returns:
        For each part: name, rows, alone, final, difference and its paired 95 % bootstrap interval, and how many rows
        changed for the better and for the worse. Scores are None where a part has too few rows of every label.
    """
    parts = {"all": None, "sarcasm": signs, "rest": ~signs}
    scores = resample(truth, [own, final], classes, tuple(parts.values()), keys=keys, seed=seed)
    found = []
    for (name, part), sampled in zip(parts.items(), scores, strict=True):
        inside = np.ones(len(truth), dtype=bool) if part is None else part
        ends = [slice_macro_f1(truth[inside], answer[inside], classes) for answer in (own, final)]
        if part is None:
            ends = [_macro_f1(truth, answer, classes) for answer in (own, final)]
        fine = bool(np.isfinite(ends).all())
        found.append(
            {
                "name": name,
                "rows": int(inside.sum()),
                "alone": ends[0] if fine else None,
                "final": ends[1] if fine else None,
                "difference": ends[1] - ends[0] if fine else None,
                "interval": list(interval(sampled[1] - sampled[0])) if fine else None,
                "better": int(((own != truth) & (final == truth) & inside).sum()),
                "worse": int(((own == truth) & (final != truth) & inside).sum()),
            }
        )
    return found


@dataclass(frozen=True)
class _Tried:
    strength: float
    probabilities: NDArray[np.float64]


def _macro_f1(truth: NDArray[Any], predicted: NDArray[Any], classes: int) -> float:
    from training.evaluate import macro_f1

    return macro_f1(truth, predicted, classes)


def _too_few(truth: NDArray[Any], signs: NDArray[np.bool_], labels: Sequence[str]) -> str | None:
    counts = np.bincount(truth, minlength=len(labels))
    if counts.min() < FEWEST:
        return f"only {counts.min()} validation messages of a label, fewer than {FEWEST}"
    if signs.sum() < FEWEST:
        return f"only {signs.sum()} validation messages with a sign of sarcasm, fewer than {FEWEST}"
    return None


def _objection(parts: Sequence[Mapping[str, Any]]) -> str | None:
    """Why the join is not adopted; None where nothing speaks against it."""
    for part in parts:
        where = {"all": "on all messages", "rest": "without a sign of sarcasm", "sarcasm": "where sarcasm is heard"}
        if part["interval"] is None:
            continue
        low = part["interval"][0]
        told = f"{part['difference']:+.4f} macro-F1 {where[part['name']]} (95 % interval from {low:+.4f})"
        if part["name"] == "sarcasm" and low <= 0:
            return f"no sure gain: {told}"
        margin = MARGIN if part["name"] == "all" else REST_MARGIN
        if part["name"] != "sarcasm" and low <= -margin:
            return f"it may hurt: {told}, more than {margin:g} is not ruled out"
    return None


def _subsets(heard: Mapping[str, Heard]) -> list[tuple[str, ...]]:
    return [(SARCASM,), (SARCASM, EMOTION)] if EMOTION in heard else [(SARCASM,)]


def _only(heard: Mapping[str, Heard], tasks: Sequence[str]) -> dict[str, Heard]:
    return {task: heard[task] for task in tasks}


def _emotion_gain(losses: Mapping[tuple[str, ...], NDArray[np.float64]]) -> dict[str, Any] | None:
    """What emotion takes off the rows' log-loss, with its standard error; None where there is no emotion champion."""
    if (SARCASM, EMOTION) not in losses:
        return None
    gains = losses[SARCASM,] - losses[SARCASM, EMOTION]
    error = float(gains.std(ddof=1) / np.sqrt(len(gains)))
    return {"gain": float(gains.mean()), "standard_error": error, "kept": bool(gains.mean() > error)}


def _row_loss(probabilities: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.float64]:
    chosen = np.asarray(probabilities, dtype=np.float64)[np.arange(len(truth)), truth]
    return np.asarray(-np.log(np.maximum(chosen, 1e-12)))


def _matrix(own: NDArray[Any], heard: Mapping[str, Heard], labels: Sequence[str]) -> NDArray[np.float64]:
    """Features [n, features], not standardised."""
    others = {task: (item.partner.labels, item.probabilities.tolist()) for task, item in heard.items()}
    rows = [
        features(labels, row, {task: (words, values[place]) for task, (words, values) in others.items()})
        for place, row in enumerate(own.tolist())
    ]
    return np.array(rows, dtype=np.float64)


def _cross_validate(
    own: NDArray[Any], heard: Mapping[str, Heard], truth: NDArray[Any], labels: Sequence[str], seed: int
) -> _Tried:
    from sklearn.model_selection import StratifiedKFold

    values = _matrix(own, heard, labels)
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(values, truth))
    tried = []
    for strength in STRENGTHS:
        found = np.empty((len(truth), len(labels)))
        for learned, left_out in folds:
            mean, scale, weights = _weigh(values[learned], truth[learned], len(labels), strength)
            found[left_out] = softmax(((values[left_out] - mean) / scale) @ weights.T, axis=1)
        tried.append(_Tried(strength, found))
    return min(tried, key=lambda item: float(_row_loss(item.probabilities, truth).mean()))


def _weigh(
    values: NDArray[np.float64], truth: NDArray[Any], classes: int, strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Means and scales [features] and weights [labels, features] of the features as `_matrix` gives them.

    The first features are the offset, with the weight 1 for their own label. How much sarcasm is heard is scaled and
    not centred, for nothing heard is to move nothing; emotion's log-probabilities are both.
    """
    from scipy.optimize import minimize

    sarcasm = slice(classes, classes + classes)
    mean, scale = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-6)
    mean[:classes], scale[:classes], mean[sarcasm] = 0.0, 1.0, 0.0
    standard = (values - mean) / scale
    offset, rest, told = standard[:, :classes], standard[:, classes:], np.eye(classes)[truth]

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(classes, -1)
        scores = log_softmax(offset + rest @ weights.T, axis=1)
        loss = -(scores * told).sum() + (flat**2).sum() / (2 * strength)
        slope = (np.exp(scores) - told).T @ rest + weights / strength
        return float(loss), slope.ravel()

    found = minimize(objective, np.zeros(classes * rest.shape[1]), jac=True, method="L-BFGS-B")
    return mean, scale, np.hstack([np.eye(classes), found.x.reshape(classes, -1)])


def solve(
    own: NDArray[Any],
    heard: Mapping[str, Heard],
    truth: NDArray[Any],
    labels: Sequence[str],
    strength: float,
    why: str,
) -> Join:
    """The join with the most likely weights at this inverse strength of the penalty, fitted on all rows, adopted."""
    mean, scale, weights = _weigh(_matrix(own, heard, labels), truth, len(labels), strength)
    partners = {task: item.partner for task, item in heard.items()}
    told = names(labels, {task: partner.labels for task, partner in partners.items()})
    return Join(
        labels=tuple(labels),
        partners=partners,
        adopted=True,
        why=why,
        features=tuple(
            Feature(name=name, mean=float(centre), scale=float(width))
            for name, centre, width in zip(told, mean, scale, strict=True)
        ),
        weights=tuple(tuple(float(value) for value in row) for row in weights),
        bias=(0.0,) * len(labels),
    )


def _refused(
    own: NDArray[Any], heard: Mapping[str, Heard], labels: Sequence[str], why: str, report: Mapping[str, Any]
) -> Fitted:
    partners = {SARCASM: heard[SARCASM].partner}
    join = Join(labels=tuple(labels), partners=partners, adopted=False, why=why)
    return Fitted(join, np.asarray(own, dtype=np.float64), {**report, "adopted": False, "why": why})
