from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.finetune import subsample
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


@pytest.mark.parametrize("counts", [{}, {"furious": 3}])
def test_what_cannot_be_trained_on_is_refused(counts):
    with pytest.raises(DataError):
        subsample(frame_of(counts), SPEC, 10, 1)
