"""The label audit: its size, its draw, and what it proves."""

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import f1_score

from monitoring.audit import AuditedAnswer, AuditResult, Pick, assess, audit_size, draw, opened
from monitoring.windows import Window
from undertone.audit_figures import macro_f1
from undertone.records import DriftVerdict, LedgerEntry
from undertone.tasks import SARCASM, SENTIMENT, AuditPolicy, TaskSpec

NOW = datetime(2026, 10, 5, tzinfo=UTC)
LABELS = SENTIMENT.labels


def reference(rows: int = 3_000, accuracy: float = 0.75, spec: TaskSpec = SENTIMENT) -> Window:
    """Exactly `accuracy` of the answers are right; the others are the next label."""
    truth = [spec.labels[n % len(spec.labels)] for n in range(rows)]
    right = [int((n + 1) * accuracy + 1e-9) > int(n * accuracy + 1e-9) for n in range(rows)]
    label = [
        word if ok else spec.labels[(n + 1) % len(spec.labels)]
        for n, (word, ok) in enumerate(zip(truth, right, strict=True))
    ]
    return Window(pd.DataFrame({"label": label, "truth": truth}), None)


def answers(
    rows: int, accuracy: float, weight: float = 5.0, segments: int = 3, batch: str = "a"
) -> list[AuditedAnswer]:
    right = reference(rows, accuracy).frame
    return [
        AuditedAnswer(f"{batch}{n}", batch, row.label, row.truth, weight, f"s{n % segments}", NOW + timedelta(hours=n))
        for n, row in enumerate(right.itertuples())
    ]


def judge(rows: int, accuracy: float, wanted: int = 350) -> AuditResult:
    made = assess(SENTIMENT, reference(), answers(rows, accuracy), wanted=wanted, version=3)
    assert made is not None
    return made


# size ---------------------------------------------------------------------------------------


def test_a_drop_of_six_points_from_three_quarters_needs_about_350_labels() -> None:
    assert audit_size(AuditPolicy(), 0.75) == 338
    assert audit_size(AuditPolicy(drop=0.03), 0.75) > 1_200
    assert audit_size(AuditPolicy(power=0.9), 0.75) > 338 > audit_size(AuditPolicy(level=0.1), 0.75)


def test_the_size_has_the_power_it_promises() -> None:
    for accuracy in (0.6, 0.75, 0.9):
        n = audit_size(AuditPolicy(), accuracy)
        limit = binom.ppf(0.05, n, accuracy) - 1  # the exact test's
        assert binom.cdf(limit, n, accuracy) <= 0.05
        assert binom.cdf(limit, n, accuracy - 0.06) == pytest.approx(0.8, abs=0.08)  # and so a little weaker


@given(st.floats(0, 1, allow_nan=False))
def test_every_accuracy_has_a_size(accuracy: float) -> None:
    assert 20 <= audit_size(AuditPolicy(), accuracy) < 2_000


# draw ---------------------------------------------------------------------------------------

rows_of = st.lists(st.sampled_from(["starter", "pro", "", None]), max_size=60).map(
    lambda segments: [{"message_id": f"m{n}", "label": "neutral", "segment": s} for n, s in enumerate(segments)]
)


@given(rows_of, st.integers(0, 70), st.integers(0, 2**31), st.randoms())
def test_a_draw_is_proportional_and_the_same_in_any_order(
    rows: list[dict], wanted: int, seed: int, shuffler: random.Random
) -> None:
    picks = draw(rows, wanted, seed=seed)
    assert len(picks) == len({pick.message_id for pick in picks}) == min(wanted, len(rows))
    sizes, drawn = Counter(row["segment"] for row in rows), Counter(pick.stratum for pick in picks)
    for segment, size in sizes.items():
        assert abs(drawn[segment] - min(wanted, len(rows)) * size / len(rows)) < 1
        weights = [pick.weight for pick in picks if pick.stratum == segment]
        assert weights == pytest.approx([size / len(weights)] * len(weights)) if weights else True
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    assert draw(iter(shuffled), wanted, seed=seed) == picks


def test_a_draw_is_random() -> None:
    rows = [{"message_id": f"m{n}", "label": "neutral", "segment": None} for n in range(100)]
    seen = Counter(pick.message_id for seed in range(300) for pick in draw(rows, 10, seed=seed))
    assert len(seen) == 100
    assert max(seen.values()) < 30 + 6 * 5.2  # each is drawn 30 times, give or take 5.2
    first = Counter(draw(rows, 10, seed=seed)[0].message_id for seed in range(300))
    assert max(first.values()) < 15  # and none is always asked first
    assert draw(rows, 10, seed=1)[0] == Pick(draw(rows, 10, seed=1)[0].message_id, None, 10.0, "neutral")


# incident -----------------------------------------------------------------------------------


def look(day: float, verdict: str, level: str | None = "warn", days: float = 7) -> LedgerEntry:
    at = NOW + timedelta(days=day)
    payload = {"verdict": verdict, "window": [(at - timedelta(days=days)).isoformat(), at.isoformat()]}
    return LedgerEntry(1, at, "drift", "sentiment", 3, "w", "", payload | ({"level": level} if level else {}))


@pytest.mark.parametrize(
    ("looks", "day"),
    [
        ([], None),
        ([look(1, "stable", "none"), look(2, "too_few", "none")], None),
        ([look(1, "warn"), look(2, "warn"), look(3, "warn")], 1),
        ([look(1, "warn"), look(2, "stable", "none"), look(3, "warn")], 1),  # a day that passed as stable ends nothing
        ([look(1, "warn"), look(12, "warn")], 12),  # a week and a half without a warning does
        ([look(1, "warn"), look(11, "warn")], 1),
        ([look(1, "warn"), look(2, "warn", "act"), look(3, "act", "act"), look(4, "warn")], 2),
        ([look(1, "act", "act"), look(2, "severe", "severe"), look(3, "act", "act")], 2),
        ([look(1, "severe", "severe"), look(30, "warn"), look(31, "warn")], 30),
        ([look(1, "drifted", None)], None),  # as version 0.1 wrote it
        ([look(1, "warn", None)], 1),
    ],
)
def test_an_incident_counts_from_where_it_was_at_its_worst(looks: list[LedgerEntry], day: int | None) -> None:
    assert opened(looks, None, NOW + timedelta(days=40)) == (None if day is None else NOW + timedelta(days=day))


def test_the_watch_under_way_counts_too() -> None:
    now = NOW + timedelta(days=2)
    worse = DriftVerdict("sentiment", "act", (), 1, 1, now - timedelta(days=7), now, 3, "", level="act")
    assert opened([look(1, "warn")], worse, now) == now
    assert opened([look(1, "warn")], replace(worse, level="warn"), now) == NOW + timedelta(days=1)
    assert opened([look(1, "warn")], replace(worse, verdict="stable"), now) == NOW + timedelta(days=1)


# verdict ------------------------------------------------------------------------------------


def test_a_large_drop_is_confirmed_and_none_is_not() -> None:
    lost = judge(360, 0.60)
    assert lost.complete
    assert lost.confirmed
    assert lost.accuracy == pytest.approx(0.60)
    assert lost.accuracy_drop == pytest.approx(0.15, abs=1e-3)
    assert 0 < lost.accuracy_interval[0] < 0.15 < lost.accuracy_interval[1]
    assert 0 < lost.macro_f1_interval[0] < lost.macro_f1_drop < lost.macro_f1_interval[1]
    same = judge(360, 0.75)
    assert not same.confirmed
    assert same.accuracy_interval[0] < 0 < same.accuracy_interval[1]
    assert not judge(360, 0.90).confirmed


def test_an_audit_that_is_not_complete_proves_nothing() -> None:
    early = judge(300, 0.50)
    assert (early.rows, early.wanted, early.complete, early.confirmed) == (300, 350, False, False)
    assert early.accuracy_interval[0] > 0
    first = judge(3, 0.0)
    assert (first.accuracy_interval, first.macro_f1_interval) == ((-1, 1), (-1, 1))


def test_the_interval_is_about_as_wide_as_theory_says() -> None:
    low, high = judge(360, 0.75).accuracy_interval
    error = np.sqrt(0.75 * 0.25 * (1 / 360 + 1 / 3_000))
    # between a two-sided 90 % interval and one of 95 %: two metrics share the level
    assert 2 * 1.645 * error * 0.95 < high - low < 2 * 1.96 * error * 1.05


def test_answers_stand_for_the_messages_of_their_weight() -> None:
    mixed = answers(200, 1.0, weight=30.0, batch="a") + answers(200, 0.5, weight=10.0, batch="b")
    made = assess(SENTIMENT, reference(), mixed, wanted=350, version=3)
    assert made is not None
    assert made.accuracy == pytest.approx((30 * 1.0 + 10 * 0.5) / 40)
    doubled = [replace(answer, weight=2 * answer.weight) for answer in mixed]
    again = assess(SENTIMENT, reference(), doubled, wanted=350, version=3)
    assert again is not None
    assert again.accuracy_interval == pytest.approx(made.accuracy_interval)


def test_the_result_does_not_depend_on_order() -> None:
    made = answers(120, 0.7)
    assert assess(SENTIMENT, reference(), made, wanted=100, version=3) == assess(
        SENTIMENT, reference(), made[::-1], wanted=100, version=3
    )


def test_strata_of_one_or_two_answers_do_not_narrow_the_interval() -> None:
    few = assess(SENTIMENT, reference(), answers(360, 0.75, segments=3), wanted=350, version=3)
    many = assess(SENTIMENT, reference(), answers(360, 0.75, segments=180), wanted=350, version=3)
    assert few is not None
    assert many is not None
    width = few.accuracy_interval[1] - few.accuracy_interval[0]
    assert many.accuracy_interval[1] - many.accuracy_interval[0] == pytest.approx(width, rel=0.1)


def test_a_class_that_collapses_shows_in_macro_f1_alone() -> None:
    no, yes = SARCASM.labels
    truth, label = [no] * 2_700 + [yes] * 300, [no] * 2_550 + [yes] * 350 + [no] * 100
    before = Window(pd.DataFrame({"truth": truth, "label": label}), None)
    given = [AuditedAnswer(f"m{n}", "a", no, yes if n % 10 == 0 else no, 1.0, None, NOW) for n in range(360)]
    made = assess(SARCASM, before, given, wanted=350, version=3)
    assert made is not None
    assert made.accuracy_drop < 0.02
    assert made.macro_f1_drop > 0.2
    assert made.confirmed


def test_what_cannot_be_compared_gives_no_result() -> None:
    unknown = Window(reference().frame.assign(truth=None), None)
    assert assess(SENTIMENT, unknown, answers(360, 0.5), wanted=350, version=3) is None
    assert (
        assess(SENTIMENT, Window(reference().frame[["label"]], None), answers(360, 0.5), wanted=350, version=3) is None
    )
    assert assess(SENTIMENT, reference(), [], wanted=350, version=3) is None
    other = [replace(answer, label="joy") for answer in answers(50, 0.5)]
    assert assess(SENTIMENT, reference(), other, wanted=350, version=3) is None
    mixed = assess(SENTIMENT, reference(), other + answers(30, 0.5, batch="b"), wanted=30, version=3)
    assert mixed is not None
    assert mixed.rows == 30


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_all_right_and_all_wrong_are_answers_too(accuracy: float) -> None:
    made = assess(SENTIMENT, reference(400, 1.0), answers(100, accuracy), wanted=100, version=3)
    assert made is not None
    assert made.confirmed == (accuracy == 0.0)
    assert np.isfinite([*made.accuracy_interval, *made.macro_f1_interval]).all()


def test_a_result_goes_through_json() -> None:
    import json

    made = judge(360, 0.6).as_dict()
    assert json.loads(json.dumps(made)) == made
    assert made["first_at"] == "2026-10-05T00:00:00+00:00"


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_macro_f1_is_sklearns(pairs: list[tuple[int, int]]) -> None:
    truth, label = zip(*pairs, strict=True)
    matrix = np.zeros((3, 3))
    np.add.at(matrix, (truth, label), 1)
    assert macro_f1(matrix) == pytest.approx(f1_score(truth, label, average="macro"))
