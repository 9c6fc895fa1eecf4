from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline

from training.sample import CHANNELS, COLUMNS, SEGMENTS, SENTIMENTS, STEADY_WEEKS, generate_sample
from training.sample_words import GRAMMAR, LATE, LATE_PRODUCTS, PRODUCTS, TAIL_CLAUSES

START = datetime(2026, 9, 7, tzinfo=UTC)


@pytest.fixture(scope="module")
def sample() -> pd.DataFrame:
    return generate_sample()


@pytest.fixture(scope="module")
def week(sample: pd.DataFrame) -> pd.Series:
    return (sample["sent_at"] - pd.Timestamp(START)).dt.days // 7 + 1


def test_same_arguments_give_the_same_rows() -> None:
    pd.testing.assert_frame_equal(generate_sample(300, seed=3), generate_sample(300, seed=3))
    assert not generate_sample(300, seed=3)["text"].equals(generate_sample(300, seed=4)["text"])


def test_columns_and_labels(sample: pd.DataFrame) -> None:
    assert tuple(sample.columns) == COLUMNS
    assert len(sample) == 12_000
    assert sample["message_id"].is_unique
    assert sample["message_id"].iloc[123] == "sample-7-000123"
    assert set(sample["channel"]) == set(CHANNELS)
    assert set(sample["segment"]) == set(SEGMENTS)
    assert set(sample["sentiment"]) == set(SENTIMENTS)
    assert set(sample["sarcasm"]) == {"sarcastic", "not_sarcastic"}
    assert set(sample["emotion"].dropna()) == {"anger", "joy", "optimism", "sadness"}
    assert all(emotion is None or isinstance(emotion, str) for emotion in sample["emotion"])
    assert sample["emotion"].isna().mean() > 0.3
    assert set(sample["product"]) == {*PRODUCTS, *LATE_PRODUCTS}
    assert sample["text"].str.len().between(8, 400).all()


def test_every_row_says_that_it_is_synthetic(sample: pd.DataFrame) -> None:
    assert sample["synthetic"].dtype == bool
    assert sample["synthetic"].all()


def test_time_is_sorted_utc_and_spans_the_weeks(sample: pd.DataFrame, week: pd.Series) -> None:
    assert str(sample["sent_at"].dt.tz) == "UTC"
    assert sample["sent_at"].is_monotonic_increasing
    assert set(week) == set(range(1, 9))
    by_hour = sample["sent_at"].dt.hour.value_counts()
    assert by_hour[range(9, 21)].min() > 3 * by_hour[range(1, 5)].max()


def test_start_and_weeks_are_respected() -> None:
    start = datetime(2025, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    sent = generate_sample(200, weeks=2, start=start)["sent_at"]
    assert sent.min() >= pd.Timestamp(start)
    assert sent.max() < pd.Timestamp(start) + pd.Timedelta(weeks=2)
    assert str(sent.dt.tz) == "UTC"


@pytest.mark.parametrize("arguments", [{"rows": 0}, {"weeks": 0}, {"start": datetime(2026, 9, 7)}])
def test_misuse_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        generate_sample(**arguments)  # type: ignore[arg-type]


def test_one_row_is_enough() -> None:
    assert len(generate_sample(1)) == 1


def test_a_customer_has_one_segment(sample: pd.DataFrame) -> None:
    assert sample.groupby("customer_id")["segment"].nunique().max() == 1


def test_no_two_texts_are_nearly_the_same(sample: pd.DataFrame) -> None:
    keys = sample["text"].map(lambda text: re.sub(r"[\W\d_]+", " ", text.lower()).strip())
    assert keys.is_unique


def test_no_symbol_is_left_unexpanded(sample: pd.DataFrame) -> None:
    assert not sample["text"].str.contains(r"[{}]").any()


def test_every_symbol_in_the_grammar_has_phrases() -> None:
    known = {*GRAMMAR, *LATE, "product", "part", "good", "bad", "good_too", "bad_too"}
    phrases = [phrase for rule in (GRAMMAR, LATE) for choices in rule.values() for phrase in choices]
    named = {symbol for phrase in [*phrases, *TAIL_CLAUSES.values()] for symbol in re.findall(r"\{(\w+)\}", phrase)}
    assert named <= known


def test_sarcastic_praise_is_negative_and_shares_its_words_with_sincere_praise(sample: pd.DataFrame) -> None:
    sarcastic = sample["sarcasm"] == "sarcastic"
    assert 0.10 <= sarcastic.mean() <= 0.15
    assert (sample.loc[sarcastic, "sentiment"] == "negative").mean() > 0.8
    praise = sample["text"].str.contains(r"\b(?:great|amazing|love|brilliant|perfect|thank you)\b", case=False)
    assert (praise & sarcastic & (sample["sentiment"] == "negative")).sum() > 200
    assert (praise & ~sarcastic & (sample["sentiment"] == "positive")).sum() > 200


def test_a_bag_of_words_is_neither_helpless_nor_enough(sample: pd.DataFrame, week: pd.Series) -> None:
    steady = sample[week <= STEADY_WEEKS]
    held_out = np.random.default_rng(0).random(len(steady)) < 0.2
    baseline = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(max_iter=500))
    baseline.fit(steady.loc[~held_out, "text"], steady.loc[~held_out, "sentiment"])
    predicted = baseline.predict(steady.loc[held_out, "text"])
    assert 0.6 < f1_score(steady.loc[held_out, "sentiment"], predicted, average="macro") < 0.9


def test_products_channels_and_mood_shift_after_week_five(sample: pd.DataFrame, week: pd.Series) -> None:
    before, after = sample[week <= STEADY_WEEKS], sample[week > STEADY_WEEKS]
    assert before["product"].isin([*LATE_PRODUCTS]).sum() == 0
    assert after["product"].isin([*LATE_PRODUCTS]).mean() > 0.3
    for channel in ("chat", "social"):
        assert (after["channel"] == channel).mean() > (before["channel"] == channel).mean() + 0.05
    assert (after["sentiment"] == "negative").mean() > (before["sentiment"] == "negative").mean() + 0.03
    assert (after["sarcasm"] == "sarcastic").mean() > (before["sarcasm"] == "sarcastic").mean() + 0.02


@pytest.mark.parametrize("column", ["channel", "segment", "sentiment", "sarcasm"])
def test_the_first_five_weeks_are_stationary(sample: pd.DataFrame, week: pd.Series, column: str) -> None:
    steady = week <= STEADY_WEEKS
    shares = pd.crosstab(week[steady], sample.loc[steady, column], normalize="index")
    assert (shares.max() - shares.min()).max() < 0.08
