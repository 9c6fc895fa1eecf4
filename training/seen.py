"""Which rows did a version see? Its data is read and split again as its lineage says, and checked by fingerprint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training import sources
from training.data import Splits, load, split
from training.leaks import near_duplicates
from training.repairs import text_key
from undertone.errors import DataError
from undertone.model_folder import Lineage
from undertone.store import Store
from undertone.tasks import TaskSpec

#: What to do where a version's rows cannot be had again.
_NEXT = "put the data back, or name labelled rows with --source"


def splits_of(name: str, lineage: Lineage, spec: TaskSpec, store: Store | None = None) -> Splits:
    """The splits that a version was trained and judged on, made again from its lineage.

    Args:
        name: of the version, for messages, such as ``sentiment 7``.
        lineage: the version's.
        spec: its task.
        store: where feedback lies, if the source names it.

    Raises:
        DataError: the source is gone, or its rows are not those that the version recorded.
    """
    for part in sources.parts(lineage.source):
        path = Path(part.removeprefix("hf:"))
        if path.is_absolute() and not path.exists():
            raise DataError(f"the data of {name} at {path}", "nothing there", _NEXT)
    table = load(
        lineage.source,
        spec,
        text_column=lineage.text_column,
        label_column=lineage.label_column,
        store=store,
        until=lineage.trained_at,
        rows_until=lineage.rows_until,
    )
    splits = split(table, spec, lineage.seed)
    if splits.data_sha256 != lineage.data_sha256:
        raise DataError(
            f"the data of {name} as it was recorded: fingerprint {lineage.data_sha256[:12]} of {lineage.rows:,} rows",
            f"{splits.data_sha256[:12]} of {splits.rows:,} rows in {lineage.source}: the rows, or how they are split,"
            " have changed since",
            _NEXT,
        )
    return splits


def seen(texts: Sequence[str], splits: Splits) -> NDArray[np.bool_]:
    """Which of `texts` a version learned from or was chosen by: (nearly) a text of its train or validation rows.

    An effort that trains on a part of the rows is taken at all of them.

    Returns:
        bool [len(texts)].
    """
    known = pd.concat([splits.train["text"], splits.validation["text"]])
    return near_duplicates([text_key(text) for text in texts], [text_key(text) for text in known])
