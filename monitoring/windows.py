"""The two windows that a drift watch compares, in one shape."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class Window:
    """Predictions of one task over some messages.

    Attributes:
        frame: columns label (str), confidence (float in 0..1), length (characters), channel and segment (str or None).
        embeddings: float32 [n, hidden], or None where the rows carry none.
        left_out: rows that could not be used, by reason.
    """

    frame: pd.DataFrame
    embeddings: NDArray[np.float32] | None
    left_out: dict[str, int]

    @property
    def rows(self) -> int:
        """How many predictions the window holds."""
        return len(self.frame)


def read_reference(folder: Path, spec: TaskSpec) -> Window:
    """The reference window kept with a model version.

    Raises:
        DataError: the file is missing or not what training writes.
    """
    path = folder / REFERENCE
    try:
        frame = pd.read_parquet(path, columns=list(REFERENCE_COLUMNS))
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are OSErrors, ValueErrors and KeyErrors
        raise DataError(
            f"a reference window at {path}",
            f"{type(error).__name__}: {str(error).splitlines()[0]}",
            f"train the model again: `undertone train {spec.name}`",
        ) from error
    return window(frame.to_dict("records"), spec)


def current_window(store: Store, spec: TaskSpec, start: datetime, end: datetime, *, model_version: int) -> Window:
    """What `model_version` scored among the messages sent in [start, end): at most ``spec.drift.max_rows``, at random.

    Rows that another version scored are left out, with a count: neither their confidence nor their
    embeddings can be compared with this version's reference.
    """
    rows = [
        dict(row) | {"length": len(row["text"])}
        for row in store.window(spec.name, start, end, limit=spec.drift.max_rows)
    ]
    own = [row for row in rows if row["model_version"] == model_version]
    made = window(own, spec)
    others = len(rows) - len(own)
    return Window(
        made.frame, made.embeddings, made.left_out | ({"scored by another version": others} if others else {})
    )


def window(rows: Iterable[Mapping[Any, Any]], spec: TaskSpec) -> Window:
    """Build a window from rows with label, probabilities, length, channel, segment and embedding (float16 bytes).

    Rows without a known label or finite probabilities are left out and counted. Embeddings are kept only if
    every row has one of the same width.
    """
    kept: list[dict[Any, Any]] = []
    left_out: dict[str, int] = {}
    for row in rows:
        probabilities = np.asarray(row["probabilities"] if row["probabilities"] is not None else [], dtype=np.float64)
        if row["label"] not in spec.labels:
            left_out["unknown label"] = left_out.get("unknown label", 0) + 1
        elif probabilities.shape != (len(spec.labels),) or not np.isfinite(probabilities).all():
            left_out["probabilities that are no numbers"] = left_out.get("probabilities that are no numbers", 0) + 1
        else:
            kept.append(dict(row) | {"confidence": float(probabilities.max())})
    frame = pd.DataFrame([{name: row.get(name) for name in COLUMNS} for row in kept], columns=list(COLUMNS))
    frame = frame.astype({"label": "object", "confidence": "float64", "length": "float64"})
    for name in ("channel", "segment"):
        frame[name] = [value if isinstance(value, str) else None for value in frame[name]]
    return Window(frame, _embeddings([row.get("embedding") for row in kept]), left_out)


def _embeddings(values: list[Any]) -> NDArray[np.float32] | None:
    if not values or any(not isinstance(value, bytes) for value in values) or len({len(v) for v in values}) != 1:
        return None
    made = np.frombuffer(b"".join(values), dtype="<f2").reshape(len(values), -1).astype(np.float32)
    return made if made.size and np.isfinite(made).all() else None
