"""The windows that a drift watch compares, in one shape. They hold numbers and words of a short list, and no text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from monitoring.cells import as_embeddings, as_number, as_numbers, tally
from undertone.errors import DataError
from undertone.form import form, languages
from undertone.model_folder import REFERENCE, REFERENCE_COLUMNS, REFERENCE_TERMS
from undertone.store import Store
from undertone.tasks import TaskSpec

NUMBERS = ("length", "words", "upper", "marks")
WORDS = ("channel", "segment", "language", "truth", "origin")
COLUMNS = ("message_id", "label", "confidence", *NUMBERS, *WORDS)
#: Columns of which a window counts all its rows.
COUNTED = ("label", "channel", "segment")
#: What a reference has carried from the first version on; of older models it has nothing else.
OLDEST = REFERENCE_COLUMNS[:7]

#: Reasons under ``Window.left_out``.
NO_LABEL, NO_PROBABILITIES = "unknown label", "probabilities that are no numbers"
#: Retention has emptied them: they count in volumes and labels, and their texts are not looked at.
REMOVED = "without a text (removed by retention)"
NO_EMBEDDING, OTHER_VERSION = "without a usable embedding (not seen by that signal)", "scored by another version"

#: Origins of labels that were not picked for being hard: they say how good the answers are (`Window.labelled`).
#: Labels that people give unasked are picked too, by those who complain.
UNPICKED = ("audit", "import")
#: Origins of reviewers' labels (`Window.reviewed`).
REVIEWERS = ("review", "import")


@dataclass(frozen=True, slots=True)
class Window:
    """Predictions of one task over some messages.

    Attributes:
        frame: the sample, a row a message: `COLUMNS`. confidence is in 0..1, `NUMBERS` are those of
            `undertone.form.form` (NaN: unknown), `WORDS` are str or None. truth is what a person said, origin where
            that came from (None in a reference: its whole truth is the holdout's).
        embeddings: float32 [n, hidden], a row of NaN where a message has none; None where no message has one.
        left_out: rows that could not be used, or not by every signal, by reason.
        probabilities: float64 [n, labels], in the order of the task's labels.
        total: messages of the window, where the frame is a sample of them.
        counts: of all these messages, by "label", "channel" and "segment".
        reviewed: (answers that reviewers disagreed with, reviewed answers) of all messages.
        labelled: (right answers, labelled answers) of all messages, labels of `UNPICKED` origin (a reference: all).
    """

    frame: pd.DataFrame
    embeddings: NDArray[np.float32] | None
    left_out: dict[str, int] = field(default_factory=dict)
    probabilities: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    total: int = 0
    counts: dict[str, dict[str, int]] = field(default_factory=lambda: {name: {} for name in COUNTED})
    reviewed: tuple[int, int] = (0, 0)
    labelled: tuple[int, int] = (0, 0)

    @property
    def rows(self) -> int:
        """How many predictions the sample holds."""
        return len(self.frame)

    @property
    def embedded(self) -> NDArray[np.bool_]:
        """Which rows have an embedding, bool [n]."""
        if self.embeddings is None:
            return np.zeros(self.rows, dtype=bool)
        return np.asarray(np.isfinite(self.embeddings).all(axis=1))

    def take(self, rows: NDArray[Any]) -> Window:
        """A window of these rows of the sample alone (positions or bool [n]), with counts of its own."""
        frame = self.frame.iloc[np.flatnonzero(rows) if rows.dtype == bool else rows].reset_index(drop=True)
        made = Window(
            frame,
            None if self.embeddings is None else self.embeddings[rows],
            probabilities=self.probabilities[rows] if len(self.probabilities) else self.probabilities,
        )
        return _counted(made)


@dataclass(frozen=True, slots=True)
class ReferenceTerms:
    """In which share of the reference's `rows` a word stands, for frequent words."""

    rows: int
    shares: dict[str, float]


def read_reference(folder: Path, spec: TaskSpec) -> Window:
    """The reference window kept with a model version: at most ``spec.drift.max_rows``, the same sample on every call.

    References of older models lack truth, words, upper, marks and language: they come as NaN and None.

    Raises:
        DataError: the file is missing or not what training writes.
    """
    path = folder / REFERENCE
    try:
        table = pd.read_parquet(path)
        table = table[[*OLDEST, *(name for name in REFERENCE_COLUMNS if name in table and name not in OLDEST)]]
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are OSErrors, ValueErrors and KeyErrors
        raise DataError(
            f"a reference window at {path}",
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            f"train the model again: `undertone train {spec.name}`",
        ) from error
    sampled = table.sample(spec.drift.max_rows, random_state=0) if len(table) > spec.drift.max_rows else table
    made = window(sampled.to_dict("records"), spec)
    counts = {name: tally(table[name]) for name in COUNTED}
    return replace(made, total=len(table), counts=counts)


def read_terms(folder: Path) -> ReferenceTerms | None:
    """Words of the reference; None for a model that was trained before they were kept.

    Raises:
        DataError: the file is not what training writes.
    """
    path = folder / REFERENCE_TERMS
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return ReferenceTerms(int(found["rows"]), {str(word): float(share) for word, share in found["shares"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"words of a reference at {path}", f"{type(error).__name__}: {error}", "train the model again"
        ) from error


def current_window(
    store: Store, spec: TaskSpec, start: datetime, end: datetime, *, model_version: int, until: datetime | None = None
) -> Window:
    """What `model_version` scored among the messages sent in [start, end): a sample, and counts of all.

    Rows that another version scored are left out, with a count: neither their confidence nor their
    embeddings can be compared with this version's reference.

    Args:
        until: labels given after this are not seen; None: all are.
    """
    versions = store.by_version(spec.name, start, end)
    rows = store.sample(spec.name, start, end, version=model_version, limit=spec.drift.max_rows)
    truths = store.truths(spec.name, start, end, version=model_version, until=until)
    known = {row["message_id"]: {"truth": row["label"], "origin": row["origin"]} for row in truths}
    told = languages([row["text"] for row in rows])
    made = window(
        [
            dict(row) | form(row["text"]) | {"language": language} | known.get(row["message_id"], {})
            for row, language in zip(rows, told, strict=True)
        ],
        spec,
    )
    others = sum(versions.values()) - versions.get(model_version, 0)
    removed = store.removed_texts(spec.name, start, end, version=model_version)
    right = [row["label"] == row["predicted"] for row in truths if row["origin"] in UNPICKED]
    disagreed = [row["label"] != row["predicted"] for row in truths if row["origin"] in REVIEWERS]
    return replace(
        made,
        left_out=made.left_out | ({OTHER_VERSION: others} if others else {}) | ({REMOVED: removed} if removed else {}),
        total=versions.get(model_version, 0),
        counts=store.tallies(spec.name, start, end, version=model_version),
        labelled=(sum(right), len(right)),
        reviewed=(sum(disagreed), len(disagreed)),
    )


def reach(
    store: Store,
    spec: TaskSpec,
    start: datetime,
    end: datetime,
    *,
    model_version: int,
    opened: datetime,
    until: datetime | None = None,
) -> tuple[Window, datetime, int]:
    """The window [start, end), and where it is too small, the windows of equal length before it with it.

    At most ``spec.drift.max_merged`` windows, until ``min_rows`` are there, and none from before `opened`.

    Returns:
        The window, when it begins, and how many windows it is made of.
    """
    length, begin, merged = end - start, max(start, opened), 1
    found = current_window(store, spec, begin, end, model_version=model_version, until=until)
    while found.rows < spec.drift.min_rows and merged < spec.drift.max_merged and begin > opened:
        begin, merged = max(begin - length, opened), merged + 1
        found = current_window(store, spec, begin, end, model_version=model_version, until=until)
    return found, begin, merged


def window(rows: Iterable[Mapping[Any, Any]], spec: TaskSpec) -> Window:
    """Build a window from rows with label, probabilities and, where known, the other `COLUMNS` and embedding (bytes).

    Rows without a known label or without one probability per label are left out and counted. A row without a finite
    embedding (float16) of the usual width stays, for the other signals, and is counted too.
    """
    kept: list[dict[Any, Any]] = []
    chances: list[NDArray[np.float64]] = []
    left_out: Counter[str] = Counter()
    for row in rows:
        probabilities = as_numbers(row["probabilities"])
        if row["label"] not in spec.labels:
            left_out[NO_LABEL] += 1
        elif probabilities.shape != (len(spec.labels),) or not ((probabilities >= 0) & (probabilities <= 1)).all():
            left_out[NO_PROBABILITIES] += 1
        else:
            chances.append(probabilities)
            kept.append(
                {name: row.get(name) for name in (*COLUMNS, "embedding")}
                | {"confidence": float(probabilities.max())}
                | {name: as_number(row.get(name)) for name in NUMBERS}
                | {name: row.get(name) if isinstance(row.get(name), str) else None for name in WORDS}
            )
    frame = pd.DataFrame({name: pd.Series([row[name] for row in kept], dtype=_dtype(name)) for name in COLUMNS})
    frame["truth"] = frame["truth"].where(frame["truth"].isin(spec.labels), None)
    embeddings = as_embeddings([row["embedding"] for row in kept])
    made = Window(
        frame, embeddings, probabilities=np.array(chances, dtype=np.float64).reshape(len(kept), len(spec.labels))
    )
    missing = made.rows - int(made.embedded.sum())
    if embeddings is not None and missing:
        left_out[NO_EMBEDDING] = missing
    return _counted(replace(made, left_out=dict(left_out)))


def _counted(made: Window) -> Window:
    """`made` with counts of its own rows."""
    frame = made.frame
    known = frame[frame["truth"].notna() & (frame["origin"].isna() | frame["origin"].isin(UNPICKED))]
    seen = frame[frame["truth"].notna() & frame["origin"].isin(REVIEWERS)]
    return replace(
        made,
        total=made.rows,
        counts={name: tally(frame[name]) for name in COUNTED},
        labelled=(int((known["truth"] == known["label"]).sum()), len(known)),
        reviewed=(int((seen["truth"] != seen["label"]).sum()), len(seen)),
    )


def _dtype(name: str) -> str:
    return "float64" if name in NUMBERS or name == "confidence" else "object"
