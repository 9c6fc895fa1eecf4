from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.subsample import subsample, weights_of
from undertone.errors import DataError
from undertone.tasks import TaskSpec

SPEC = TaskSpec(name="mood", labels=("sad", "glad", "calm"))


def frame_of(counts: dict[str, int]) -> pd.DataFrame:
    labels = [label for label, count in counts.items() for _ in range(count)]
    return pd.DataFrame({"text": [f"text {number}" for number in range(len(labels))], "label": labels})


@given(counts=st.tuples(*[st.integers(1, 60)] * 3), limit=st.integers(3, 200), seed=st.integers(0, 99))
def test_labels_keep_their_shares_and_the_limit_holds(counts, limit, seed):
    frame = frame_of(dict(zip(SPEC.labels, counts, strict=True)))
    found = subsample(frame, SPEC, limit, seed)
    assert len(found) == min(limit, len(frame))
    assert found.index.is_unique
    assert found.index.is_monotonic_increasing
    for label, count in zip(SPEC.labels, counts, strict=True):
        got = int((found["label"] == label).sum())
        assert got >= 1
        assert got == count or abs(got - len(found) * count / len(frame)) <= 2
    assert found.equals(subsample(frame, SPEC, limit, seed))


def test_seeds_draw_different_rows():
    frame = frame_of({"sad": 50, "glad": 50, "calm": 50})
    assert not subsample(frame, SPEC, 30, 1).equals(subsample(frame, SPEC, 30, 2))


def test_no_limit_keeps_every_row():
    frame = frame_of({"sad": 5, "glad": 5})
    assert subsample(frame, SPEC, None, 1) is frame


def test_equal_weights_change_nothing():
    frame = frame_of({"sad": 50, "glad": 50, "calm": 50})
    drawn = subsample(frame.assign(weight=2.0), SPEC, 30, 1)
    assert drawn.drop(columns="weight").equals(subsample(frame, SPEC, 30, 1))
    assert weights_of(drawn) is None
    assert weights_of(frame) is None


@given(limit=st.integers(3, 80), seed=st.integers(0, 99))
def test_weights_leave_the_shares_of_labels_as_they_are(limit, seed):
    frame = frame_of({"sad": 40, "glad": 25, "calm": 15}).assign(weight=[1.0, 4.0] * 40)
    found = subsample(frame, SPEC, limit, seed)
    assert found["label"].value_counts().to_dict() == (
        subsample(frame.drop(columns="weight"), SPEC, limit, seed)["label"].value_counts().to_dict()
    )
    assert found.index.is_monotonic_increasing
    assert found.equals(subsample(frame, SPEC, limit, seed))


def test_heavier_rows_are_drawn_more_often_and_count_once_in_all():
    frame = frame_of({"sad": 500, "glad": 500}).assign(weight=[1.0, 1.0, 1.0, 1.0, 4.0] * 200)
    drawn = [subsample(frame, SPEC, 300, seed) for seed in range(200)]
    often = np.mean([(rows.index % 5 == 4).mean() for rows in drawn])
    assert 0.37 < often < 0.47  # 0.20 without weights, 0.50 of draws with replacement
    # each draw's weights estimate the sum of all weights without bias: 800 * 1 + 200 * 4
    for heavy, whole in ((True, 800), (False, 800)):
        sums = [rows.loc[(rows.index % 5 == 4) == heavy, "weight"].sum() for rows in drawn]
        assert abs(np.mean(sums) - whole) < 4 * np.std(sums) / np.sqrt(len(sums))


@pytest.mark.parametrize("counts", [{}, {"furious": 3}])
def test_what_cannot_be_trained_on_is_refused(counts):
    with pytest.raises(DataError):
        subsample(frame_of(counts), SPEC, 10, 1)
