"""A join is adopted where sarcasm turns praise, and not where it says nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from training.join import Heard, compare, fit_join, joined
from undertone.join import Partner

LABELS = ("negative", "neutral", "positive")
SARCASM = ("not_sarcastic", "sarcastic")
EMOTIONS = ("anger", "joy")


def softmax(values: NDArray[Any]) -> NDArray[Any]:
    exponent = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(exponent / exponent.sum(axis=1, keepdims=True), dtype=np.float32)


def heard(labels: tuple[str, ...], probabilities: NDArray[Any]) -> Heard:
    return Heard(Partner(version=1, manifest_sha256="a" * 64, labels=labels), probabilities)


def planted(rows: int, turned: float, seed: int = 0) -> dict[str, Any]:
    """Words of three kinds; a share `turned` of the praise is sarcasm, so it means the opposite.

    Both models are good, and the sentiment model takes sarcasm for praise. Emotion is noise.
    """
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 3, rows)
    sarcastic = (words == 2) & (rng.random(rows) < turned)
    truth = np.where(sarcastic, 0, words)
    own = softmax(np.eye(3)[words] * 3 + rng.normal(0, 1, (rows, 3)))
    odds = np.where(sarcastic, 2.5, -2.5) + rng.normal(0, 1, rows)
    if not turned:
        odds = rng.normal(0, 2, rows)
    sarcasm = softmax(np.stack([np.zeros(rows), odds], axis=1))
    return {
        "own": own,
        "heard": {
            "sarcasm": heard(SARCASM, sarcasm),
            "emotion": heard(EMOTIONS, softmax(rng.normal(0, 1, (rows, 2)))),
        },
        "truth": truth,
        "cue": rng.random(rows) < 0.05,
        "labels": LABELS,
    }


def test_a_planted_effect_is_found_and_helps_on_other_messages() -> None:
    fitted = fit_join(**planted(1_200, turned=0.4))
    assert fitted.join.adopted, fitted.join.why
    assert tuple(fitted.join.partners) == ("sarcasm",)  # emotion is noise
    praise, meant, told = np.array([[0.05, 0.1, 0.85]]), np.array([[0.97, 0.03]]), np.array([[0.05, 0.95]])
    assert joined(fitted.join, praise, {"sarcasm": meant}).argmax() == 2
    assert joined(fitted.join, praise, {"sarcasm": told}).argmax() == 0
    fresh = planted(1_000, turned=0.4, seed=1)
    others = {task: item.probabilities for task, item in fresh["heard"].items()}
    final = joined(fitted.join, fresh["own"], others).argmax(axis=1)
    signs = np.asarray(others["sarcasm"][:, 1] >= 0.5)
    whole, sarcasm, rest = compare(fresh["truth"], fresh["own"].argmax(axis=1), final, signs, 3)
    assert whole["interval"][0] > 0.02
    assert sarcasm["interval"][0] > 0.1
    assert rest["interval"][0] > -0.02


def test_without_an_effect_sentiment_alone_answers() -> None:
    data = planted(1_200, turned=0.0)
    fitted = fit_join(**data)
    assert not fitted.join.adopted
    assert "no sure gain" in fitted.join.why or "may hurt" in fitted.join.why
    assert np.array_equal(fitted.probabilities, np.asarray(data["own"], dtype=np.float64))


@pytest.mark.parametrize(("rows", "cause"), [(60, "of a label"), (400, "sign of sarcasm")])
def test_too_few_rows_show_nothing(rows: int, cause: str) -> None:
    data = planted(rows, turned=0.4)
    if rows == 400:
        silent = np.tile(np.array([0.9, 0.1], dtype=np.float32), (rows, 1))
        data |= {"heard": {"sarcasm": heard(SARCASM, silent)}, "cue": np.zeros(rows, dtype=bool)}
    fitted = fit_join(**data)
    assert not fitted.join.adopted
    assert cause in fitted.join.why


def test_an_emotion_that_tells_more_is_kept() -> None:
    data = planted(1_200, turned=0.4)
    telling = softmax(
        np.stack([np.where(data["truth"] == 0, 2.0, 0.0), np.where(data["truth"] == 2, 2.0, 0.0)], axis=1)
    )
    data["heard"]["emotion"] = heard(EMOTIONS, telling)
    fitted = fit_join(**data)
    assert set(fitted.join.partners) == {"sarcasm", "emotion"}
    assert fitted.report["emotion"]["kept"]


def test_what_serves_computes_what_was_fitted() -> None:
    """The arithmetic of serving against the regression's own, whose penalised likelihood no other weights beat."""
    from scipy.special import log_softmax

    from undertone.join import features

    data = planted(1_200, turned=0.4)
    del data["heard"]["emotion"]
    fitted = fit_join(**data)
    sarcasm = data["heard"]["sarcasm"].probabilities
    values = np.array(
        [
            features(LABELS, own, {"sarcasm": (SARCASM, heard_one)})
            for own, heard_one in zip(data["own"].tolist(), sarcasm.tolist(), strict=True)
        ]
    )
    scale = np.array([feature.scale for feature in fitted.join.features])
    weights = np.array(fitted.join.weights)
    assert np.array_equal(weights[:, :3], np.eye(3))  # the offset

    def objective(free: NDArray[Any]) -> float:
        scores = log_softmax(values[:, :3] + (values[:, 3:] / scale[3:]) @ free.T, axis=1)
        chosen = scores[np.arange(len(scores)), data["truth"]]
        return float(-chosen.sum() + (free**2).sum() / (2 * fitted.report["strength"]))

    best = objective(weights[:, 3:])
    rng = np.random.default_rng(0)
    assert all(best <= objective(weights[:, 3:] + rng.normal(0, 0.05, (3, 3))) + 1e-3 for _ in range(50))
    expected = np.exp(log_softmax(values[:, :3] + (values[:, 3:] / scale[3:]) @ weights[:, 3:].T, axis=1))
    assert joined(fitted.join, data["own"], {"sarcasm": sarcasm}) == pytest.approx(expected, abs=1e-9)


def test_a_message_in_which_no_sarcasm_is_heard_keeps_its_sentiment() -> None:
    fitted = fit_join(**planted(1_200, turned=0.4))
    own = np.random.default_rng(2).dirichlet(np.ones(3), 200)
    silent = np.tile([1.0, 0.0], (200, 1))
    assert joined(fitted.join, own, {"sarcasm": silent}) == pytest.approx(np.maximum(own, 1e-4), abs=2e-3)
