"""Repairs are counted, splits share no text, and nothing depends on the order of the rows."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.columns import COLUMNS
from training.data import SHARES, Splits, Table, load, split, summary
from training.leaks import near_duplicates
from training.repairs import MAX_CHARACTERS, MEANINGS, text_key
from undertone.errors import DataError
from undertone.tasks import TaskSpec

SPEC = TaskSpec(name="mood", labels=("bad", "good"), min_rows_per_class=2)
WORDS = [
    "late",
    "lovely",
    "parcel",
    "team",
    "cup",
    "price",
    "never",
    "always",
    "cold",
    "warm",
    "box",
    "call",
    "door",
    "week",
    "green",
    "slow",
]


def sentence(number: int, words: int = 8) -> str:
    """A text of its own for every number: words drawn by a generator that the number seeds."""
    drawn = np.random.default_rng(number).choice(WORDS, words)
    return f"{' '.join(drawn)} {''.join(chr(97 + int(digit)) for digit in str(number))}"


def table_of(rows: list[tuple[str, str]] | list[tuple[str, str, str | None]]) -> Table:
    frame = pd.DataFrame([(*row, None)[:3] for row in rows], columns=["text", "label", "split"], dtype=object)
    frame = frame.assign(message_id=[f"m{n}" for n in range(len(frame))], channel=None, segment=None)
    frame = frame.assign(feedback=False, suggested=False)
    frame["sent_at"] = frame["told_at"] = pd.to_datetime(pd.Series(pd.NaT, index=frame.index), utc=True)
    return Table(frame[list(COLUMNS)], "made", False, ())


def many(start: int, stop: int, name: str | None = None) -> list[tuple[str, str, str | None]]:
    return [(sentence(number), SPEC.labels[number % 2], name) for number in range(start, stop)]


def members(splits: Splits) -> dict[str, str]:
    return {text: part for part, rows in splits.parts() for text in rows["text"]}


def write(path: Path, rows: list[tuple[str, ...]], header: str = "text,label") -> str:
    frame = pd.DataFrame(rows, columns=header.split(","))
    frame.to_csv(path, index=False)
    return str(path)


GOOD = [("late again", "bad"), ("lovely team", "good"), ("broken cup", "bad"), ("great price", "good")]


def repaired(path: Path, rows: list[tuple[str, ...]], header: str = "text,label", **options: datetime) -> Table:
    return load(write(path / "a.csv", rows, header), SPEC, **options)


def counts(table: Table | Splits) -> dict[str, int]:
    return {item.name: item.count for item in table.repairs}


# repairs ----------------------------------------------------------------------------------------


def test_sound_rows_need_no_repair(tmp_path: Path) -> None:
    table = repaired(tmp_path, GOOD)
    assert table.repairs == ()
    assert tuple(table.rows.columns) == COLUMNS


def test_rows_without_text_are_dropped_and_counted(tmp_path: Path) -> None:
    table = repaired(tmp_path, [*GOOD, ("", "bad"), ("  \t ", "good"), ("\u200b\ufeff", "good")])
    assert counts(table) == {"empty_text": 3}
    assert len(table.rows) == 4


def test_rows_without_label_are_dropped_and_counted_with_an_example(tmp_path: Path) -> None:
    table = repaired(tmp_path, [*GOOD, ("who knows", ""), ("nobody", " ")])
    assert counts(table) == {"unlabelled": 2}
    assert table.repairs[0].example == "who knows"


def test_repeated_ids_keep_the_row_that_was_sent_first(tmp_path: Path) -> None:
    rows = [(f"m{n}", *row, "2026-09-02") for n, row in enumerate(GOOD)]
    table = repaired(tmp_path, [*rows, ("m0", "an earlier one", "bad", "2026-09-01")], "id,text,label,time")
    assert counts(table) == {"repeated_id": 1}
    assert "an earlier one" in set(table.rows["text"])
    assert "late again" not in set(table.rows["text"])


def test_long_texts_are_cut_and_counted_fast(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", [*GOOD, ("very long " * 100_000, "bad")])
    load(source, SPEC)  # imports
    start = time.process_time()
    table = load(source, SPEC)
    assert time.process_time() - start < 2
    assert counts(table) == {"cut": 1}
    assert table.rows["text"].str.len().max() == MAX_CHARACTERS


def test_control_characters_become_spaces_and_are_counted(tmp_path: Path) -> None:
    table = repaired(tmp_path, [*GOOD, ("bell\x07rings", "bad"), ("two\nlines", "good")])
    assert counts(table) == {"characters": 1}  # line breaks are everyday text, no repair to report
    assert {"bell rings", "two lines"} <= set(table.rows["text"])


def test_the_same_text_with_two_labels_goes_altogether(tmp_path: Path) -> None:
    table = repaired(tmp_path, [*GOOD, ("Well, well!", "bad"), ("well well", "good"), ("WELL WELL", "good")])
    assert counts(table) == {"conflict": 3}
    assert set(table.rows["text"]) == {text for text, _ in GOOD}


def test_a_text_that_stands_there_already_goes(tmp_path: Path) -> None:
    table = repaired(tmp_path, [*GOOD, ("Late again!", "bad"), ("@ann late again", "bad")])
    assert counts(table) == {"duplicate": 2}
    assert len(table.rows) == 4


def test_texts_of_emoji_alone_are_not_all_the_same(tmp_path: Path) -> None:
    assert len(repaired(tmp_path, [*GOOD, ("😀", "good"), ("😡", "bad")]).rows) == 6


def test_rows_sent_at_or_after_the_cut_off_are_left_out(tmp_path: Path) -> None:
    times = ["2026-09-01", "2026-09-01T23:59:59Z", "", "", "2026-09-02T00:00:00Z", "2026-09-03"]
    rows = [(*row, at) for row, at in zip([*GOOD, ("new one", "bad"), ("newer one", "bad")], times, strict=True)]
    table = repaired(tmp_path, rows, "text,label,time", until=datetime(2026, 9, 2, tzinfo=UTC))
    assert counts(table) == {"after_until": 2}
    assert set(table.rows["text"]) == {text for text, _ in GOOD}


@pytest.mark.parametrize(("rows", "word"), [(GOOD[::2], "good (0 rows)"), (GOOD[:3], "good (1 rows)")])
def test_a_class_with_too_few_rows_is_named(rows: list[tuple[str, ...]], word: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 2 rows") as caught:
        repaired(tmp_path, rows)
    assert word in caught.value.found


def test_classes_are_counted_after_the_repairs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"good \(1 rows\)"):
        repaired(tmp_path, [*GOOD[:3], ("Lovely team!", "good")])


# places -----------------------------------------------------------------------------------------


def test_shares_are_close_to_70_15_15_for_every_label() -> None:
    splits = split(table_of(many(0, 4_000)), SPEC, seed=1)
    for label in SPEC.labels:
        sizes = np.array([(rows["label"] == label).sum() for _, rows in splits.parts()])
        assert np.abs(sizes / sizes.sum() - SHARES).max() < 0.03


def test_another_seed_gives_another_split() -> None:
    table = table_of(many(0, 200))
    assert members(split(table, SPEC, 1)) != members(split(table, SPEC, 2))
    assert members(split(table, SPEC, 1)) == members(split(table, SPEC, 1))


def test_three_named_splits_are_kept() -> None:
    rows = [*many(0, 100, "train"), *many(100, 120, "val"), *many(120, 140, "test")]
    assert members(split(table_of(rows), SPEC, 1)) == {
        text: {"train": "train", "val": "validation", "test": "holdout"}[name or ""] for text, _, name in rows
    }


@pytest.mark.parametrize("held", ["val", "test"])
def test_one_named_split_beside_train_is_the_holdout(held: str) -> None:
    rows = [*many(0, 1_000, "train"), *many(1_000, 1_050, held)]
    splits = split(table_of(rows), SPEC, 1)
    assert set(splits.holdout["text"]) == {text for text, _, name in rows if name == held}
    assert 70 <= len(splits.validation) <= 130
    assert len(splits.train) + len(splits.validation) == 1_000


@pytest.mark.parametrize("name", ["train", None])
def test_training_rows_alone_are_shared_out(name: str | None) -> None:
    plain = members(split(table_of(many(0, 300)), SPEC, 1))
    assert members(split(table_of(many(0, 300, name)), SPEC, 1)) == plain


def test_rows_without_a_split_join_named_splits_by_the_hash() -> None:
    named = [*many(0, 200, "train"), *many(200, 240, "test")]
    joined = members(split(table_of([*named, *many(300, 600)]), SPEC, 1))
    alone = members(split(table_of(many(300, 600)), SPEC, 1))
    assert {text: joined[text] for text in alone} == alone


def test_a_class_with_too_few_rows_in_a_split_is_named() -> None:
    rows = [*many(0, 100, "train"), *[row for row in many(100, 140, "test") if row[1] == "bad"]]
    with pytest.raises(DataError, match="holdout split of made") as caught:
        split(table_of(rows), SPEC, 1)
    assert "good (0 rows)" in caught.value.found


# leaks ------------------------------------------------------------------------------------------


def test_copies_of_held_out_texts_leave_train_and_never_the_holdout() -> None:
    val, test = many(100, 140, "val"), many(200, 240, "test")
    copies = [
        (f"@you {val[0][0].upper()} !!", "bad", "train"),
        (test[0][0], "good", "train"),
        (test[1][0], "bad", "val"),
    ]
    splits = split(table_of([*many(0, 100, "train"), *val, *test, *copies]), SPEC, 1)
    assert counts(splits) == {"leak": 3}
    assert len(splits.holdout) == 40
    assert len(splits.validation) == 40
    assert len(splits.train) == 100


def test_nearly_the_same_text_is_a_leak() -> None:
    text = sentence(0, words=30)
    rows = [
        *many(100, 200, "train"),
        *many(200, 240, "test"),
        (text, "bad", "test"),
        (f"{text} indeed", "bad", "train"),
    ]
    splits = split(table_of(rows), SPEC, 1)
    assert counts(splits) == {"leak": 1}
    assert text in set(splits.holdout["text"])


@pytest.mark.parametrize(
    ("candidate", "fixed", "expected"),
    [
        ("a b c d e f g h i j", "a b c d e f g h i j", True),
        ("a b c d e f g h i j k", "a b c d e f g h i j", True),  # 9 of 10 bigrams
        ("a b c d e f g h x j", "a b c d e f g h i j", False),  # 7 of 11
        ("a b c d e", "a b c d e f", True),  # 4 of 5: exactly 0.8
        ("a b c d", "a b c d e", False),  # too short for anything but equality
        ("a b c d", "a b c d", True),
        ("j i h g f e d c b a", "a b c d e f g h i j", False),
    ],
)
def test_near_duplicates_share_four_fifths_of_their_bigrams(candidate: str, fixed: str, expected: bool) -> None:
    assert near_duplicates([candidate], ["z y x w v u", fixed]).tolist() == [expected]


def test_near_duplicates_of_nothing_are_none() -> None:
    assert near_duplicates([], ["a b c d e"]).tolist() == []
    assert near_duplicates(["a b c d e"], []).tolist() == [False]


def jaccard(one: str, other: str) -> float:
    left, right = (set(zip(text.split(), text.split()[1:], strict=False)) for text in (one, other))
    return len(left & right) / len(left | right)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), min_size=5, max_size=9).map(" ".join), min_size=2, max_size=12))
def test_near_duplicates_agree_with_sets(texts: list[str]) -> None:
    half = len(texts) // 2
    candidates, fixed = texts[:half], texts[half:]
    expected = [any(one == other or jaccard(one, other) >= 0.8 for other in fixed) for one in candidates]
    assert near_duplicates(candidates, fixed).tolist() == expected


# properties -------------------------------------------------------------------------------------

BASE = many(0, 120)
EXTRA = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from([row[0] for row in BASE]).map(lambda text: f"{text} then"),
            st.text("abc D!1é😀", min_size=1, max_size=12),
            st.integers(1_000, 9_999).map(sentence),
        ),
        st.sampled_from(SPEC.labels),
    ),
    max_size=25,
)


def loaded(rows: list[tuple[str, ...]], folder: Path) -> Splits:
    return split(load(write(folder / "a.csv", rows), SPEC), SPEC, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


@settings(max_examples=12, deadline=None)
@given(extra=EXTRA)
def test_splits_never_share_a_text(extra: list[tuple[str, str]], folder: Path) -> None:
    splits = loaded([row[:2] for row in BASE] + extra, folder)
    keys = [text_key(text) for _, rows in splits.parts() for text in rows["text"]]
    assert len(keys) == len(set(keys)) == splits.rows
    assert not near_duplicates(
        [text_key(t) for t in splits.train["text"]], [text_key(t) for t in splits.holdout["text"]]
    ).any()


@settings(max_examples=12, deadline=None)
@given(extra=EXTRA, seed=st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(extra: list[tuple[str, str]], seed: object, folder: Path) -> None:
    rows = [row[:2] for row in BASE] + extra
    shuffled = list(rows)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = loaded(rows, folder), loaded(shuffled, folder)
    assert first.data_sha256 == second.data_sha256
    assert counts(first) == counts(second)
    for (_, left), (_, right) in zip(first.parts(), second.parts(), strict=True):
        pd.testing.assert_frame_equal(left, right)


@settings(max_examples=12, deadline=None)
@given(extra=EXTRA)
def test_rows_that_come_later_move_no_old_row(extra: list[tuple[str, str]], folder: Path) -> None:
    before = members(loaded([row[:2] for row in BASE], folder))
    after = members(loaded([row[:2] for row in BASE] + extra, folder))
    assert all(after[text] == part for text, part in before.items() if text in after)
    # an old row may only leave for a reason that is counted: a copy or near-copy among the new ones
    gone = [text_key(text) for text in before if text not in after]
    assert near_duplicates(gone, [text_key(text) for text, _ in extra]).all()


@pytest.mark.parametrize("change", [{"text": "changed"}, {"label": "good"}])
def test_the_fingerprint_follows_every_text_and_label(change: dict[str, str]) -> None:
    table = table_of([*many(0, 99, "train"), ("the one row", "bad", "train"), *many(100, 140, "test")])
    rows = table.rows.copy()
    rows.loc[99, list(change)] = list(change.values())
    changed = Table(rows, table.source, table.synthetic, table.repairs)
    assert split(changed, SPEC, 1).data_sha256 != split(table, SPEC, 1).data_sha256


# feedback ---------------------------------------------------------------------------------------

NEWEST = pd.Timestamp("2026-10-05", tz="UTC")


def with_feedback(
    base: list[tuple[str, str, str | None]], told: list[tuple[str, str]], days: list[float], suggested: list[bool]
) -> Table:
    """`base`, and feedback of so many days before `NEWEST`."""
    rows = table_of(base).rows
    more = table_of(told).rows.assign(feedback=True, suggested=suggested)
    more["told_at"] = (NEWEST - pd.to_timedelta(days, unit="D")).astype(rows["told_at"].dtype)
    return Table(pd.concat([rows, more], ignore_index=True), "made", False, ())


def told(start: int, stop: int) -> list[tuple[str, str]]:
    return [(text, label) for text, label, _ in many(start, stop)]


def test_feedback_never_enters_nor_relabels_the_frozen_holdout() -> None:
    base = many(0, 400)
    alone = split(table_of(base), SPEC, 1)
    others = [(text, "good" if label == "bad" else "bad") for text, label, _ in base[:100]]
    joined = split(with_feedback(base, [*others, *told(1_000, 1_200)], [1.0] * 300, [False] * 300), SPEC, 1)
    frozen = joined.holdout[joined.holdout["holdout"] == "frozen"]
    assert list(zip(frozen["text"], frozen["label"], strict=True)) == list(
        zip(alone.holdout["text"], alone.holdout["label"], strict=True)
    )
    recent = set(joined.holdout.loc[joined.holdout["holdout"] == "recent", "text"])
    assert 10 < len(recent) < 60
    assert recent < {text for text, _ in told(1_000, 1_200)}
    learned = joined.train[joined.train["feedback"]].set_index("text")["label"]
    assert {text: label for text, label in others if text in learned.index}.items() <= learned.to_dict().items()
    assert counts(joined)["frozen"] + counts(joined)["relabelled"] == 100


def test_the_recent_holdout_rolls_and_what_leaves_it_is_never_learned_from() -> None:
    base, new = many(0, 400), told(1_000, 1_400)
    days = [float(90 * (number % 2)) for number in range(400)]
    splits = split(with_feedback(base, new, days, [False] * 400), SPEC, 1)
    placed = members(splits)
    old, recent = ({text for (text, _), age in zip(new, days, strict=True) if age == wanted} for wanted in (90, 0))
    fresh = members(split(with_feedback(base, new, [0.0] * 400, [False] * 400), SPEC, 1))
    assert "holdout" not in {placed.get(text) for text in old}
    assert {text for text in old if text not in placed} == {text for text in old if fresh[text] == "holdout"}
    assert all(placed[text] == fresh[text] for text in recent)
    assert counts(splits)["aged"] == sum(fresh[text] == "holdout" for text in old)


def test_suggested_labels_go_to_train_alone_and_are_capped() -> None:
    base, new = many(0, 400), told(1_000, 1_400)
    splits = split(with_feedback(base, new, [1.0] * 400, [number % 4 > 0 for number in range(400)]), SPEC, 1)
    assert not splits.holdout["suggested"].any()
    assert not splits.validation["suggested"].any()
    learned = splits.train[splits.train["feedback"]]
    assert int(learned["suggested"].sum()) == int(0.25 * (~learned["suggested"]).sum())
    assert counts(splits)["suggested"] == 300 - int(learned["suggested"].sum())
    assert "that the model suggested" in summary(splits)


def test_newer_labels_weigh_more_and_other_rows_weigh_one() -> None:
    new = told(1_000, 1_300)
    days = [[0.0, 28.0, 56.0][number % 3] for number in range(300)]
    splits = split(with_feedback(many(0, 400), new, days, [False] * 300), SPEC, 1)
    assert set(splits.train.loc[~splits.train["feedback"], "weight"]) == {1.0}
    age = {text: days for (text, _), days in zip(new, days, strict=True)}
    learned = splits.train[splits.train["feedback"]]
    assert {(age[text], weight) for text, weight in zip(learned["text"], learned["weight"], strict=True)} == {
        (0.0, 2.0),
        (28.0, 1.5),
        (56.0, 1.25),
    }


def test_the_fingerprint_follows_the_weights_of_feedback() -> None:
    base, new = many(0, 200), told(1_000, 1_050)
    one, other = (
        split(with_feedback(base, new, [0.0, *[days] * 49], [False] * 50), SPEC, 1).data_sha256 for days in (1.0, 9.0)
    )
    assert one != other


FEEDBACK_ROWS = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from([row[0] for row in BASE]),
            st.sampled_from([row[0] for row in BASE]).map(lambda text: f"{text} then"),
            st.integers(1_000, 9_999).map(sentence),
        ),
        st.sampled_from(SPEC.labels),
        st.sampled_from([0.0, 30.0, 89.0, 90.0, 400.0]),
        st.booleans(),
    ),
    max_size=40,
    unique_by=lambda row: row[0],
)


@pytest.fixture(scope="module")
def alone() -> Splits:
    return split(table_of(BASE), SPEC, 3)


@settings(max_examples=8, deadline=None)
@given(rows=FEEDBACK_ROWS, order=st.randoms(use_true_random=False))
def test_whatever_people_say_the_splits_hold(
    rows: list[tuple[str, str, float, bool]], order: object, alone: Splits
) -> None:
    new, days, suggested = [row[:2] for row in rows], [row[2] for row in rows], [row[3] for row in rows]
    table = with_feedback(BASE, new, days, suggested)
    splits = split(table, SPEC, 3)
    frozen = splits.holdout[splits.holdout["holdout"] == "frozen"]
    assert frozen["text"].tolist() == alone.holdout["text"].tolist()
    assert frozen["label"].tolist() == alone.holdout["label"].tolist()
    keys = [text_key(text) for _, part in splits.parts() for text in part["text"]]
    assert len(keys) == len(set(keys))
    learned = [text_key(text) for text in splits.train["text"]]
    assert not near_duplicates(learned, [text_key(text) for text in splits.holdout["text"]]).any()
    assert not splits.holdout["suggested"].any()
    told = splits.train[splits.train["feedback"]]
    assert told["suggested"].sum() <= 0.2 * len(told)
    assert (splits.train["weight"] >= 1).all()
    # rows that the hash puts into a holdout never come to train, however old they grow
    grown = split(with_feedback(BASE, new, [0.0] * len(new), suggested), SPEC, 3)
    assert not set(grown.holdout["text"]) & set(splits.train["text"])
    shuffled = list(range(len(table.rows)))
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    again = split(Table(table.rows.iloc[shuffled].reset_index(drop=True), "made", False, ()), SPEC, 3)
    assert again.data_sha256 == splits.data_sha256
    assert counts(again) == counts(splits)


# summary ----------------------------------------------------------------------------------------


def test_the_summary_shows_rows_and_repairs(tmp_path: Path) -> None:
    rows = [row[:2] for row in BASE]
    splits = split(repaired(tmp_path, [*rows, ("", "bad"), (f"{rows[0][0]}!", rows[0][1])]), SPEC, 3)
    text = summary(splits)
    for part, frame in splits.parts():
        bad = int((frame["label"] == "bad").sum())
        assert f"| {part} | {bad} | {len(frame) - bad} | {len(frame)} |" in text
    assert f"empty_text: 1 {MEANINGS['empty_text']}" in text
    assert "duplicate: 1 " in text
    assert "synthetic" not in text


def test_synthetic_rows_are_called_so() -> None:
    table = table_of(many(0, 200))
    assert "synthetic" in summary(split(Table(table.rows, "sample", True, ()), SPEC, 1))


def test_the_newest_row_is_told(tmp_path: Path) -> None:
    rows = [(*row[:2], f"2026-09-{1 + n % 28:02d}") for n, row in enumerate(BASE)]
    table = repaired(tmp_path, rows, "text,label,time")
    assert split(table, SPEC, 3).newest_at == datetime(2026, 9, 28, tzinfo=UTC)
    assert split(table_of(many(0, 200)), SPEC, 1).newest_at is None
