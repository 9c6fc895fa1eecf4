"""Windows made of rows, and windows taken from them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.windows import COLUMNS, Window, window
from undertone.tasks import get_task

SPEC = get_task("sentiment")


def made(rows: int = 30, **columns) -> Window:
    values = {
        "message_id": [f"m{index}" for index in range(rows)],
        "label": [SPEC.labels[index % 3] for index in range(rows)],
        "probabilities": [np.roll((0.7, 0.2, 0.1), index % 3) for index in range(rows)],
        "segment": ["a" if index % 5 else None for index in range(rows)],
        "embedding": [np.full(4, index, "<f2").tobytes() for index in range(rows)],
    } | columns
    return window(({name: each[index] for name, each in values.items()} for index in range(rows)), SPEC)


def test_columns_that_rows_lack_are_gaps() -> None:
    found = made()
    assert list(found.frame.columns) == list(COLUMNS)
    assert found.frame[["length", "words", "upper", "marks"]].dtypes.unique().tolist() == [np.dtype("float64")]
    for name in ("channel", "language", "truth", "origin"):
        assert found.frame[name].tolist() == [None] * 30
    assert (found.total, found.counts["segment"], found.counts["channel"]) == (30, {"a": 24}, {})


@pytest.mark.parametrize("rows", [[], [{"label": "furious", "probabilities": [0.2, 0.5, 0.3]}]])
def test_a_window_of_nothing_has_every_column_too(rows: list) -> None:
    found = window(rows, SPEC)
    assert (found.rows, found.total, found.embeddings) == (0, 0, None)
    assert list(found.frame.columns) == list(COLUMNS)
    assert found.probabilities.shape == (0, 3)
    assert found.take(np.array([], dtype=int)).rows == 0


def test_a_truth_that_is_no_label_is_none() -> None:
    found = made(truth=["furious", 3, None, float("nan"), "neutral", *["positive"] * 25])
    assert found.frame["truth"].tolist()[:5] == [None, None, None, None, "neutral"]
    assert found.labelled == (10, 26)


@settings(max_examples=20)
@given(st.lists(st.integers(0, 29), unique=True))
def test_taking_rows_takes_all_that_belongs_to_them(rows: list[int]) -> None:
    whole = made()
    part = whole.take(np.array(rows, dtype=int))
    assert part.frame["message_id"].tolist() == [f"m{index}" for index in rows]
    assert part.embeddings is not None
    assert part.embeddings[:, 0].tolist() == rows
    assert part.probabilities.argmax(axis=1).tolist() == [index % 3 for index in rows]
    assert part.total == len(rows)
    assert sum(part.counts["label"].values()) == len(rows)
    mask = np.isin(np.arange(30), rows)
    pd.testing.assert_frame_equal(whole.take(mask).frame, whole.take(np.flatnonzero(mask)).frame)


def test_a_part_and_the_rest_are_the_whole() -> None:
    whole = made()
    mask = (whole.frame["segment"] == "a").to_numpy()
    assert whole.take(mask).rows + whole.take(~mask).rows == whole.rows
