"""Values as they come from a store or a file, made into what a window holds, whatever they are."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def as_numbers(value: Any) -> NDArray[np.float64]:
    """`value` as numbers; empty where it is anything else."""
    try:
        return np.asarray([] if value is None else value, dtype=np.float64)
    except (TypeError, ValueError):  # words, mappings, lists of unequal length
        return np.empty(0)


def as_number(value: Any) -> float:
    """`value` as a number; NaN where it is anything else."""
    number = as_numbers(value)
    return float(number) if number.ndim == 0 and np.isfinite(number) else float("nan")


def as_embeddings(values: list[Any]) -> NDArray[np.float32] | None:
    """Float32 [n, hidden] of the width that most rows have; NaN rows for the others."""
    widths = Counter(len(value) for value in values if isinstance(value, bytes) and value and len(value) % 2 == 0)
    if not widths:
        return None
    width = max(widths, key=lambda size: (widths[size], size))
    gap = np.full(width // 2, np.nan, dtype="<f2").tobytes()
    joined = b"".join(value if isinstance(value, bytes) and len(value) == width else gap for value in values)
    made = np.frombuffer(joined, dtype="<f2").reshape(len(values), -1).astype(np.float32)
    made[~np.isfinite(made).all(axis=1)] = np.nan
    return None if np.isnan(made).all() else made


def tally(column: pd.Series) -> dict[str, int]:
    """How often each word stands in `column`, in alphabetical order."""
    return dict(sorted(Counter(value for value in column if isinstance(value, str)).items()))
