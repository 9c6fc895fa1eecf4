"""The two windows that a drift watch compares, in one shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from undertone.errors import DataError
from undertone.model_folder import REFERENCE, REFERENCE_COLUMNS
from undertone.store import Store
from undertone.tasks import TaskSpec

COLUMNS = ("label", "confidence", "length", "channel", "segment")

#: How far a sample grows, in multiples of ``max_rows``, while it looks for rows of one model version.
FURTHEST = 16
#: Reasons under ``Window.left_out``.
NO_LABEL, NO_PROBABILITIES = "unknown label", "probabilities that are no numbers"
NO_EMBEDDING, OTHER_VERSION = "without a usable embedding (not seen by that signal)", "scored by another version"


@dataclass(frozen=True, slots=True)
class Window:
    """Predictions of one task over some messages.

    Attributes:
        frame: columns label (str), confidence (float in 0..1), length (characters), channel and segment (str or None).
        embeddings: float32 [n, hidden], a row of NaN where a message has none; None where no message has one.
        left_out: rows that could not be used, or not by every signal, by reason.
    """

    frame: pd.DataFrame
    embeddings: NDArray[np.float32] | None
    left_out: dict[str, int]

    @property
    def rows(self) -> int:
        """How many predictions the window holds."""
        return len(self.frame)

    @property
    def embedded(self) -> NDArray[np.bool_]:
        """Which rows have an embedding, bool [n]."""
        if self.embeddings is None:
            return np.zeros(self.rows, dtype=bool)
        return np.asarray(np.isfinite(self.embeddings).all(axis=1))


def read_reference(folder: Path, spec: TaskSpec) -> Window:
    """The reference window kept with a model version: at most ``spec.drift.max_rows``, the same sample on every call.

    Raises:
        DataError: the file is missing or not what training writes.
    """
    path = folder / REFERENCE
    try:
        frame = pd.read_parquet(path, columns=list(REFERENCE_COLUMNS))
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are OSErrors, ValueErrors and KeyErrors
        raise DataError(
            f"a reference window at {path}",
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            f"train the model again: `undertone train {spec.name}`",
        ) from error
    if len(frame) > spec.drift.max_rows:
        frame = frame.sample(spec.drift.max_rows, random_state=0)
    return window(frame.to_dict("records"), spec)


def current_window(store: Store, spec: TaskSpec, start: datetime, end: datetime, *, model_version: int) -> Window:
    """What `model_version` scored among the messages sent in [start, end): at most ``spec.drift.max_rows``, at random.

    Rows that another version scored are left out, with a count: neither their confidence nor their
    embeddings can be compared with this version's reference.
    """
    wanted = spec.drift.max_rows
    # the store samples before it knows of versions: right after a promotion most of a sample is the old version's
    for limit in (wanted, 4 * wanted, FURTHEST * wanted):
        rows = store.window(spec.name, start, end, limit=limit)
        own = [row for row in rows if row["model_version"] == model_version]
        if len(own) >= wanted or len(rows) < limit:
            break
    made = window([dict(row) | {"length": len(row["text"])} for row in own[:wanted]], spec)
    others = len(rows) - len(own)
    return Window(made.frame, made.embeddings, made.left_out | ({OTHER_VERSION: others} if others else {}))


def window(rows: Iterable[Mapping[Any, Any]], spec: TaskSpec) -> Window:
    """Build a window from rows with label, probabilities, length, channel, segment and embedding (float16 bytes).

    Rows without a known label or without one probability per label are left out and counted. A row without a finite
    embedding of the usual width stays, for the other signals, and is counted too.
    """
    kept: list[dict[Any, Any]] = []
    left_out: Counter[str] = Counter()
    for row in rows:
        probabilities = _numbers(row["probabilities"])
        if row["label"] not in spec.labels:
            left_out[NO_LABEL] += 1
        elif probabilities.shape != (len(spec.labels),) or not ((probabilities >= 0) & (probabilities <= 1)).all():
            left_out[NO_PROBABILITIES] += 1
        else:
            kept.append(dict(row) | {"confidence": float(probabilities.max()), "length": _length(row.get("length"))})
    frame = pd.DataFrame([{name: row.get(name) for name in COLUMNS} for row in kept], columns=list(COLUMNS))
    frame = frame.astype({"label": "object", "confidence": "float64", "length": "float64"})
    for name in ("channel", "segment"):
        frame[name] = [value if isinstance(value, str) else None for value in frame[name]]
    embeddings = _embeddings([row.get("embedding") for row in kept])
    made = Window(frame, embeddings, {})
    missing = made.rows - int(made.embedded.sum())
    if embeddings is not None and missing:
        left_out[NO_EMBEDDING] = missing
    return Window(frame, embeddings, dict(left_out))


def _numbers(value: Any) -> NDArray[np.float64]:
    """`value` as numbers; empty where it is anything else."""
    try:
        return np.asarray([] if value is None else value, dtype=np.float64)
    except (TypeError, ValueError):  # words, mappings, lists of unequal length
        return np.empty(0)


def _length(value: Any) -> float:
    number = _numbers(value)
    return float(number) if number.ndim == 0 and np.isfinite(number) else float("nan")


def _embeddings(values: list[Any]) -> NDArray[np.float32] | None:
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
