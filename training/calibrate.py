"""Make a model's confidence mean what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from undertone.errors import TrainingError

LOWEST, HIGHEST = 0.05, 20.0


def fit_temperature(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """The temperature that makes `labels` most likely under ``softmax(logits / temperature)``.

    It minimises the negative log-likelihood over log T, in which the problem has one valley, and keeps every
    argmax (Guo et al., 2017, https://arxiv.org/abs/1706.04599). Never worse than no calibration: where the
    search ends above the likelihood of T = 1, the answer is 1.

    Args:
        logits: [n, labels], from rows the model was not trained on.
        labels: int [n], class indices.

    Returns:
        A temperature in [0.05, 20].

    Raises:
        TrainingError: no rows, shapes that do not fit, or logits that are not finite.
    """
    from scipy.optimize import minimize_scalar

    values = np.asarray(logits, dtype=np.float64)
    truth = np.asarray(labels)
    if values.ndim != 2 or truth.shape != values.shape[:1] or not len(truth) or not np.isfinite(values).all():
        raise TrainingError(
            "finite logits [n, labels] and one label for each of n > 0 rows",
            f"shapes {values.shape} and {truth.shape}"
            + ("" if np.isfinite(values).all() else ", with values that are not finite"),
            "give calibration a validation split, and look at the training loss",
        )
    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(values, truth, float(np.exp(log_t))),
        bounds=(np.log(LOWEST), np.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    temperature = float(np.clip(np.exp(found.x), LOWEST, HIGHEST))
    if negative_log_likelihood(values, truth, temperature) > negative_log_likelihood(values, truth, 1.0):
        return 1.0
    return temperature


def negative_log_likelihood(logits: NDArray[Any], labels: NDArray[Any], temperature: float) -> float:
    """Mean negative log-likelihood of `labels` under ``softmax(logits / temperature)``, in nats."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(scaled).sum(axis=1))
    return float(np.mean(log_sum - scaled[np.arange(len(labels)), labels]))
