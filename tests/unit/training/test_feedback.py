from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from training.feedback import FEEDBACK, FeedbackPolicy, beyond_cap, is_aged, newest_feedback, weigh

NOW = pd.Timestamp("2026-10-05", tz="UTC")


def frame_of(days: list[float | None]) -> pd.DataFrame:
    """Feedback of so many days ago; None: a row that is no feedback."""
    told_at = pd.Series([pd.NaT if age is None else NOW - pd.Timedelta(days=age) for age in days])
    return pd.DataFrame({"feedback": [age is not None for age in days], "told_at": pd.to_datetime(told_at, utc=True)})


def test_the_boost_halves_with_every_half_life():
    frame = frame_of([0, 28, 56, None, 2_800])
    assert weigh(frame, NOW, FEEDBACK).tolist() == pytest.approx([2, 1.5, 1.25, 1, 1])


def test_without_feedback_or_boost_all_rows_weigh_one():
    frame = frame_of([None, None])
    assert newest_feedback(frame) is None
    assert weigh(frame, None, FEEDBACK).tolist() == [1, 1]
    assert weigh(frame_of([0, 9]), NOW, FeedbackPolicy(boost=0)).tolist() == [1, 1]


@given(ages=st.lists(st.floats(0, 3_000), min_size=1, max_size=30), boost=st.floats(0, 50))
def test_weights_fall_with_age_between_one_and_the_boost(ages, boost):
    policy = FeedbackPolicy(boost=boost)
    found = weigh(frame_of(sorted(ages)), NOW, policy)
    assert (np.diff(found) <= 1e-9).all()
    assert ((found >= 1) & (found <= 1 + boost + 1e-9)).all()


def test_ages_count_from_the_newest_label_not_from_the_clock():
    frame = frame_of([100, 128])
    assert weigh(frame, newest_feedback(frame), FEEDBACK).tolist() == pytest.approx([2, 1.5])


def test_feedback_leaves_the_recent_holdout_after_its_days():
    assert is_aged(frame_of([0, 89.99, 90, None]), NOW, FEEDBACK).tolist() == [False, False, True, False]


@given(
    suggested=st.lists(st.booleans(), max_size=60),
    share=st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9]),
    seed=st.integers(0, 9),
)
def test_the_cap_holds_and_leaves_no_room_unused(suggested, share, seed):
    marks, told = np.array(suggested, dtype=bool), np.ones(len(suggested), dtype=bool)
    places = np.random.default_rng(seed).random(len(suggested))
    gone = beyond_cap(marks, told, places, share)
    assert not (gone & ~marks).any()
    kept, own = int((marks & ~gone).sum()), int((~marks).sum())
    assert kept <= share * (kept + own) + 1e-6
    if gone.any():
        assert kept + 1 > share * (kept + 1 + own) - 1e-6
        assert places[gone].min() >= places[marks & ~gone].max(initial=0)


@pytest.mark.parametrize("change", [{"boost": -1}, {"half_life_days": 0}, {"max_suggested": 1}, {"holdout": 9}])
def test_a_policy_that_makes_no_sense_is_refused(change):
    with pytest.raises(ValidationError):
        FeedbackPolicy(**change)
