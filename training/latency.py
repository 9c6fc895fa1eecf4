"""How long one message takes: the challenger beside the champion, in one run on one machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Texts timed, each once with each model, after the first few warmed both up.
TEXTS = 100
WARM_UP = 5


@dataclass(frozen=True)
class Latency:
    """Median milliseconds for one message, alone in its batch. Only the ratio means anything elsewhere.

    Attributes:
        challenger_ms: the challenger's.
        champion_ms: the champion's on the same texts; None where there is none.
    """

    challenger_ms: float
    champion_ms: float | None = None

    @property
    def ratio(self) -> float | None:
        """Challenger's time as a multiple of the champion's; None without a champion."""
        return self.challenger_ms / self.champion_ms if self.champion_ms else None


def measure_latency(
    texts: Sequence[str],
    challenger: Callable[[Sequence[str]], Any],
    champion: Callable[[Sequence[str]], Any] | None = None,
) -> Latency:
    """Time both models on `texts` one message at a time, in turns, so that a busy machine slows both alike.

    Args:
        texts: messages; the first `TEXTS` are used.
        challenger: scores a list of texts.
        champion: likewise; None where there is no champion.
    """
    models = [challenger] if champion is None else [challenger, champion]
    for text in texts[:WARM_UP]:
        for model in models:
            model([text])
    seconds: list[list[float]] = [[] for _ in models]
    for number, text in enumerate(texts[:TEXTS]):
        # who goes first takes turns as well: the second finds the caches warm
        for which in range(len(models)) if number % 2 == 0 else reversed(range(len(models))):
            began = time.perf_counter()
            models[which]([text])
            seconds[which].append(time.perf_counter() - began)
    medians = [1_000 * float(np.median(values)) for values in seconds]
    return Latency(*medians)
