"""Windows, labels and facts read from a real store."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from monitoring.quality import check, facts
from monitoring.windows import OTHER_VERSION, current_window, reach, read_reference, read_terms
from undertone.errors import DataError
from undertone.model_folder import REFERENCE, REFERENCE_TERMS
from undertone.records import Feedback, Message, Prediction, ScoredMessage
from undertone.store import Store
from undertone.tasks import get_task

SPEC = get_task("sentiment")
NOW = datetime(2026, 10, 5, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = NOW - 7 * DAY, NOW


def record(store: Store, prefix: str, count: int, *, version: int = 1, days_ago: float = 1, **changes) -> None:
    """`count` messages sent `days_ago`, labelled by version `version`: negative, neutral and positive in turn."""
    scored = []
    for number in range(count):
        of_message = {"text": f"Parcel {prefix}{number} has not come.", "channel": "chat", "segment": "starter"} | {
            name: value(number) if callable(value) else value for name, value in changes.items()
        }
        message = Message(
            f"{prefix}{number}", of_message["text"], of_message["channel"], of_message["segment"], None,
            NOW - days_ago * DAY, NOW, of_message.get("truncated", False),
        )  # fmt: skip
        chances = np.roll((0.7, 0.2, 0.1), number % 3)
        vector = np.full(4, number % 100, "<f2").tobytes()
        answer = Prediction(message.id, "sentiment", SPEC.labels[number % 3], tuple(chances), version, "d", NOW, vector)
        scored.append(ScoredMessage(message, (answer,)))
    store.record(scored)


def label(store: Store, message_id: str, word: str, origin: str, *, labeller: str = "eve", at=NOW, suggested=False):
    store.add_feedback([Feedback(message_id, "sentiment", word, labeller, at, origin, suggested)])


def small(rows: int, **drift):
    return SPEC.model_copy(update={"drift": SPEC.drift.model_copy(update={"max_rows": rows, **drift})})


def test_a_window_is_a_sample_and_counts_are_of_all_messages(store: Store) -> None:
    record(store, "a", 300, segment=lambda number: "pro" if number % 10 == 0 else None)
    record(store, "b", 90, version=2)
    record(store, "old", 50, days_ago=8)
    spec = small(120)
    current = current_window(store, spec, *WEEK, model_version=1)
    assert (current.rows, current.total, current.left_out) == (120, 300, {OTHER_VERSION: 90})
    assert current.counts == {
        "label": {"negative": 100, "neutral": 100, "positive": 100},
        "channel": {"chat": 300},
        "segment": {"pro": 30},
    }
    assert current.probabilities.shape == (120, 3)
    assert current.embeddings is not None
    # every column is of its own message
    number = current.frame["message_id"].str[1:].astype(int)
    assert (current.embeddings[:, 0] == number % 100).all()
    assert (current.frame["label"] == [SPEC.labels[one % 3] for one in number]).all()
    assert (current.probabilities.argmax(axis=1) == number % 3).all()
    again = current_window(store, spec, *WEEK, model_version=1)
    pd.testing.assert_frame_equal(current.frame, again.frame)


def test_form_and_language_are_kept_and_the_text_is_not(store: Store) -> None:
    record(store, "a", 2, text=lambda number: ["THE PARCEL has not come yet, and nobody answers!", "ok"][number])
    frame = current_window(store, SPEC, *WEEK, model_version=1).frame.set_index("message_id")
    assert list(frame.loc["a1", ["length", "words", "upper", "marks"]]) == [2.0, 1.0, 0.0, 0.0]
    assert (frame.loc["a0", "language"], frame.loc["a1", "language"]) == ("en", None)
    assert frame.loc["a0", "upper"] == pytest.approx(9 / 38)
    assert "parcel" not in frame.to_json().lower()


def test_labels_count_by_where_they_came_from(store: Store) -> None:
    record(store, "a", 12)  # a0 negative, a1 neutral, a2 positive, …
    label(store, "a0", "negative", "audit")  # right
    label(store, "a1", "negative", "audit")  # wrong
    label(store, "a2", "negative", "import")  # wrong, and a reviewer's
    label(store, "a3", "neutral", "review")  # picked because it is hard
    label(store, "a4", "negative", "person")  # given unasked
    label(store, "a5", "negative", "audit", suggested=True)  # no evidence of its own
    label(store, "a6", "neutral", "audit", at=NOW + DAY)  # not given yet
    label(store, "a7", "negative", "audit")
    label(store, "a7", "neutral", "audit", labeller="adam")  # the newer label counts: right
    current = current_window(store, SPEC, *WEEK, model_version=1, until=NOW)
    assert current.labelled == (2, 4)
    assert current.reviewed == (2, 2)
    truth = current.frame.set_index("message_id")["truth"].dropna().to_dict()
    assert truth == {
        "a0": "negative", "a1": "negative", "a2": "negative", "a3": "neutral", "a4": "negative", "a7": "neutral",
    }  # fmt: skip
    assert current_window(store, SPEC, *WEEK, model_version=1).labelled == (2, 5)
    assert current_window(store, SPEC, *WEEK, model_version=2).labelled == (0, 0)


def test_labels_of_messages_outside_the_sample_count_too(store: Store) -> None:
    record(store, "a", 60)
    for number in range(60):
        label(store, f"a{number}", SPEC.labels[number % 3], "audit")
    current = current_window(store, small(10), *WEEK, model_version=1)
    assert (current.rows, current.labelled) == (10, (60, 60))


def test_windows_partition_time(store: Store) -> None:
    record(store, "a", 30, days_ago=1)
    record(store, "b", 20, days_ago=3)
    record(store, "c", 5, days_ago=7)  # on the very start, which belongs to the window; its end does not
    middle = NOW - 2 * DAY
    whole, first, second, before = (
        current_window(store, SPEC, *bounds, model_version=1).total
        for bounds in (WEEK, (WEEK[0], middle), (middle, NOW), (WEEK[0] - DAY, WEEK[0]))
    )
    assert (whole, first, second, before) == (55, 25, 30, 0)


def test_an_empty_window_is_a_window(store: Store) -> None:
    current = current_window(store, SPEC, *WEEK, model_version=1)
    assert (current.rows, current.total, current.embeddings, current.left_out) == (0, 0, None, {})
    assert list(current.frame["length"]) == []
    assert facts(store, SPEC, *WEEK).rows == 0


def test_small_windows_reach_back_as_far_as_they_need_and_no_further(store: Store) -> None:
    for week in range(6):
        record(store, f"w{week}-", 40, days_ago=7 * week + 1)
    spec, opened = small(5_000, min_rows=100), NOW - 365 * DAY
    current, begin, merged = reach(store, spec, *WEEK, model_version=1, opened=opened)
    assert (current.total, begin, merged) == (120, NOW - 21 * DAY, 3)
    spec = small(5_000, min_rows=1_000)
    current, begin, merged = reach(store, spec, *WEEK, model_version=1, opened=opened)
    assert (current.total, begin, merged) == (160, NOW - 28 * DAY, 4)  # max_merged
    current, begin, merged = reach(store, spec, *WEEK, model_version=1, opened=NOW - 10 * DAY)
    assert (current.total, begin, merged) == (80, NOW - 10 * DAY, 2)
    current, begin, merged = reach(store, spec, *WEEK, model_version=1, opened=NOW - 3 * DAY)
    assert (current.total, begin, merged) == (40, NOW - 3 * DAY, 1)


def test_facts_count_all_messages_and_the_windows_before(store: Store) -> None:
    record(store, "a", 40, text=lambda number: "  " if number < 3 else f"text {min(number, 29)}")
    record(store, "b", 10, version=2, truncated=True)
    record(store, "c", 30, days_ago=8, text=lambda number: f"text {number % 10}")
    record(store, "d", 20, days_ago=15)
    record(store, "first", 5, days_ago=25)  # in the fourth week back, which is no whole one
    seen = facts(store, SPEC, *WEEK)
    assert (seen.rows, seen.empty, seen.truncated, seen.duplicates) == (50, 3, 10, 12)
    assert seen.earlier_rows == (30, 20)
    assert seen.earlier_duplicates == pytest.approx((2 / 3, 0))  # counted, since 12 of 50 are over the limit
    assert facts(store, SPEC, NOW - 14 * DAY, NOW - 7 * DAY, earlier=2).earlier_duplicates == (0.0,)
    assert facts(store, SPEC, NOW - 21 * DAY, NOW - 14 * DAY).earlier_duplicates == ()
    assert facts(store, SPEC, *WEEK, earlier=1).earlier_rows == (30,)


def test_first_weeks_have_no_usual_volume(store: Store) -> None:
    record(store, "a", 400)
    record(store, "b", 5, days_ago=8)
    record(store, "c", 5, days_ago=15)
    window = current_window(store, SPEC, *WEEK, model_version=1)
    seen = facts(store, SPEC, *WEEK)
    assert seen.earlier_rows == (5,)
    assert check(SPEC, window, window, seen) == ()


def test_postgresql_gives_the_same_windows(store: Store, postgres) -> None:
    server = Store(postgres.store())
    found = []
    for one in (store, server):
        record(one, "a", 60, segment=lambda number: "Pro" if number % 4 else None, truncated=True)
        record(one, "b", 30, version=2, text="all alike")
        record(one, "c", 20, days_ago=8)
        label(one, "a1", "negative", "audit")
        window = current_window(one, small(40), *WEEK, model_version=1, until=NOW)
        found.append((window, facts(one, SPEC, *WEEK)))
    server.engine.dispose()
    (first, counts), (second, others) = found
    assert counts == others
    assert (counts.duplicates, counts.truncated) == (29, 60)
    pd.testing.assert_frame_equal(first.frame, second.frame)
    np.testing.assert_array_equal(first.embeddings, second.embeddings)
    assert (first.counts, first.total, first.labelled) == (second.counts, second.total, second.labelled)


# the reference ----------------------------------------------------------------------------------


def reference_rows(count: int, columns: dict | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "label": [SPEC.labels[number % 3] for number in range(count)],
            "probabilities": [np.roll((0.7, 0.2, 0.1), number % 3) for number in range(count)],
            "confidence": 0.7, "length": range(count), "channel": None, "segment": "pro",
            "embedding": [np.full(4, number, "<f2").tobytes() for number in range(count)],
        }
        | (columns or {})
    )  # fmt: skip


def write(folder: Path, table: pd.DataFrame) -> Path:
    path = folder / REFERENCE
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)
    return folder


def test_a_reference_of_an_older_model_lacks_the_new_columns(tmp_path: Path) -> None:
    reference = read_reference(write(tmp_path, reference_rows(30)), SPEC)
    assert (reference.rows, reference.total, reference.labelled) == (30, 30, (0, 0))
    assert reference.frame[["words", "upper", "marks"]].isna().all(axis=None)
    assert reference.frame[["truth", "language", "origin"]].isna().all(axis=None)


def test_a_reference_knows_its_truth(tmp_path: Path) -> None:
    new = {"truth": ["negative"] * 30, "words": 4, "upper": 0.1, "marks": 0.2, "language": "en"}
    reference = read_reference(write(tmp_path, reference_rows(30, new)), SPEC)
    assert reference.labelled == (10, 30)
    assert reference.reviewed == (0, 0)
    assert set(reference.frame["language"]) == {"en"}


def test_a_large_reference_is_sampled_and_counted_whole(tmp_path: Path) -> None:
    folder = write(tmp_path, reference_rows(90))
    first, second = read_reference(folder, small(40)), read_reference(folder, small(40))
    assert (first.rows, first.total, first.counts["label"]["neutral"]) == (40, 90, 30)
    pd.testing.assert_frame_equal(first.frame, second.frame)


def test_terms_are_read_where_they_are(tmp_path: Path) -> None:
    assert read_terms(tmp_path) is None
    path = tmp_path / REFERENCE_TERMS
    path.parent.mkdir()
    path.write_text(json.dumps({"rows": 9, "shares": {"parcel": 0.5}}))
    terms = read_terms(tmp_path)
    assert terms is not None
    assert (terms.rows, terms.shares) == (9, {"parcel": 0.5})
    path.write_text("[1]")
    with pytest.raises(DataError, match="train the model again"):
        read_terms(tmp_path)
