"""Quality estimated without labels: confidence-based performance estimation (CBPE), as a difference from the reference.

It cannot see a change of concept, and was seen to miss most of a covariate shift: it never shows green.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimated quality of a window.

    Attributes:
        accuracy, macro_f1: the reference's measured value plus the estimated change.
        accuracy_change, macro_f1_change: CBPE on the window minus CBPE on the reference.
        error: how far earlier estimates of accuracy were from the audits that came later (mean of absolute
            differences); None: no audit yet.
    """

    accuracy: float
    macro_f1: float
    accuracy_change: float
    macro_f1_change: float
    rows: int
    error: float | None = None
