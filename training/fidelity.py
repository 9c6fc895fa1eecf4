"""Does the engine that serves answer as the exact graph does? A lossy graph is fast, and this is what it must keep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluate import macro_f1
from training.resample import mcnemar
from training.verdict import is_number
from undertone.model_folder import EXACT
from undertone.tasks import GatePolicy

#: A loss of macro-F1 counts where chance would seldom (less than one case in twenty) split the rows on which one engine
#: is right and the other is not so unevenly: on 300 rows, two per cent of other labels are worth a hundredth by luck.
LEVEL = 0.05


@dataclass(frozen=True)
class Fidelity:
    """One engine beside the exact one, on the same rows.

    Attributes:
        engine: its name, a key of `undertone.model_folder.GRAPHS`.
        agreement: share of rows on which it gives the label that the exact graph gives.
        macro_f1: its own, against the true labels.
        exact_macro_f1: the exact graph's.
        p_value: McNemar's, of the rows that just one of the two engines gets right.
    """

    engine: str
    agreement: float
    macro_f1: float
    exact_macro_f1: float
    p_value: float = 0.0

    @property
    def loss(self) -> float:
        """Macro-F1 that the engine loses to the exact graph; below 0 where it gains."""
        return self.exact_macro_f1 - self.macro_f1

    def holds(self, policy: GatePolicy) -> bool:
        """Whether the engine may serve: it is the exact one, or keeps as much of its answers as the policy asks for.

        A greater loss of macro-F1 is forgiven where it is not significant. A number that is none does not hold.
        """
        if self.engine == EXACT:
            return True
        if not self._measured or self.agreement < policy.min_agreement:
            return False
        return self.loss <= policy.max_engine_loss or (is_number(self.p_value) and self.p_value >= LEVEL)

    def __str__(self) -> str:
        """What was found, for people."""
        if self.engine == EXACT:
            return "exact"
        if not self._measured:
            return f"{self.engine}: not measured"
        return f"{self.engine}: {self.agreement:.2%} the same label, macro-F1 {-self.loss:+.4f}"

    @property
    def _measured(self) -> bool:
        return all(is_number(value) for value in (self.agreement, self.macro_f1, self.exact_macro_f1))


def compare_engines(
    engine: str, logits: NDArray[np.float32], exact: NDArray[np.float32], truth: NDArray[np.int64]
) -> Fidelity:
    """`engine` beside the exact one, from the logits of both on the same rows.

    A row on which an engine's answer is not finite has no label: it agrees with nothing.

    Args:
        engine: its name.
        logits: its answers, [rows, labels], one row or more.
        exact: the exact graph's.
        truth: class indices [rows].
    """
    ours, theirs = logits.argmax(axis=1), exact.argmax(axis=1)
    finite = np.isfinite(logits).all(axis=1) & np.isfinite(exact).all(axis=1)
    return Fidelity(
        engine,
        agreement=float(((ours == theirs) & finite).mean()),
        macro_f1=macro_f1(truth, ours, logits.shape[1]),
        exact_macro_f1=macro_f1(truth, theirs, logits.shape[1]),
        p_value=mcnemar(truth, ours, theirs),
    )
