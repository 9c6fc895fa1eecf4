"""Quality estimated without labels: confidence-based performance estimation (CBPE), as a difference from the reference.

It cannot see a change of concept, and was seen to miss most of a covariate shift: it never shows green.

Calibrated probabilities say how many of a window's answers are right and what the others should have been: an expected
confusion matrix (https://nannyml.readthedocs.io/en/stable/how_it_works/performance_estimation.html). Only its change
between two windows is used, which takes out the miscalibration that both have: the difference of confidences of
Guillory et al. (2021, https://arxiv.org/abs/2107.03315). How such estimates fail: Garg et al. (2022,
https://arxiv.org/abs/2201.04234).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.audit import measured
from monitoring.windows import Window
from undertone.audit_figures import macro_f1
from undertone.tasks import TaskSpec


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimated quality of a window.

    Attributes:
        accuracy, macro_f1: the reference's measured value plus the estimated change, within 0 and 1.
        accuracy_change, macro_f1_change: CBPE on the window minus CBPE on the reference.
        rows: of the window that it looked at.
        error: how far earlier estimates of accuracy were from the audits that came later (mean of absolute
            differences); None: no audit yet.
    """

    accuracy: float
    macro_f1: float
    accuracy_change: float
    macro_f1_change: float
    rows: int
    error: float | None = None


def estimate(reference: Window, current: Window, spec: TaskSpec, *, error: float | None = None) -> Estimate | None:
    """What calibrated confidence says of `current`, starting from what labels say of `reference`.

    Returns:
        None where the reference has no true labels, or either window no rows.
    """
    matrix = measured(spec, reference)
    before, now = expected(reference, spec), expected(current, spec)
    if matrix is None or before is None or now is None:
        return None
    accuracy_change = _accuracy(now) - _accuracy(before)
    f1_change = float(macro_f1(now) - macro_f1(before))
    return Estimate(
        accuracy=min(max(_accuracy(matrix) + accuracy_change, 0.0), 1.0),
        macro_f1=min(max(float(macro_f1(matrix)) + f1_change, 0.0), 1.0),
        accuracy_change=accuracy_change,
        macro_f1_change=f1_change,
        rows=current.rows,
        error=error,
    )


def expected(window: Window, spec: TaskSpec) -> NDArray[np.float64] | None:
    """The confusion matrix [true, predicted] that probabilities expect; None in a window without rows."""
    if not window.rows:
        return None
    index = spec.label_index()
    given = np.zeros((window.rows, len(index)))
    given[np.arange(window.rows), window.frame["label"].map(index).to_numpy(int)] = 1.0
    made: NDArray[np.float64] = window.probabilities.T @ given
    return made


def _accuracy(matrix: NDArray[np.float64]) -> float:
    return float(np.trace(matrix) / matrix.sum())
