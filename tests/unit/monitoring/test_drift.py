"""Signals and verdict on windows made of numbers."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.drift import earlier_levels, judge, persisted, policy_sha256
from monitoring.signals import domain_scores
from monitoring.windows import NO_EMBEDDING, NO_LABEL, NO_PROBABILITIES, Window, window
from undertone.records import LEVELS, DriftVerdict, Finding, LedgerEntry
from undertone.tasks import FLOORS, TASKS, DriftPolicy, get_task

SPEC = get_task("sentiment")
NOW = datetime(2026, 10, 5, tzinfo=UTC)


def made(seed: int, rows: int = 600, *, shift: float = 0.0, shares=(0.3, 0.3, 0.4), spec=SPEC, **columns) -> Window:
    """A window of random predictions; `shift` moves the embeddings' mean, in standard deviations over 16 dimensions."""
    random = np.random.default_rng(seed)
    picks = random.choice(len(spec.labels), size=rows, p=np.array(shares) if len(shares) == len(spec.labels) else None)
    logits = random.normal(size=(rows, len(spec.labels))) + 3 * np.eye(len(spec.labels))[picks]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    embeddings = (random.normal(size=(rows, 16)) + shift / 4).astype("<f2")
    return window(
        [
            {
                "label": spec.labels[int(row.argmax())],
                "probabilities": row,
                "length": int(length),
                "channel": str(channel),
                "segment": None,
                "embedding": vector.tobytes(),
            }
            | {name: values[index] for name, values in columns.items()}
            for index, (row, length, channel, vector) in enumerate(
                zip(
                    probabilities,
                    random.gamma(5, 20, size=rows),
                    random.choice(["chat", "email"], size=rows),
                    embeddings,
                    strict=True,
                )
            )
        ],
        spec,
    )


def verdict_on(reference: Window, current: Window, spec=SPEC, **asked) -> DriftVerdict:
    return judge(spec, reference, current, model_version=1, start=NOW, end=NOW, **asked)


def fired(verdict: DriftVerdict) -> set[str]:
    return {signal.name for signal in verdict.signals if signal.fired}


def test_quiet_windows_stay_quiet() -> None:
    """Warnings are held at 1 %, so that twelve windows have one at most; nothing is near an act."""
    levels = [verdict_on(made(2 * seed), made(2 * seed + 1)).level for seed in range(12)]
    assert levels.count("none") >= 11
    assert set(levels) <= {"none", "warn"}


@pytest.mark.parametrize("seed", range(5))
def test_identical_windows_never_drift(seed: int) -> None:
    same = made(seed)
    verdict = verdict_on(same, same)
    assert (verdict.verdict, verdict.level, fired(verdict)) == ("stable", "none", set())


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 1_000), st.sampled_from([0.0, 1.0]))
def test_the_order_of_rows_does_not_matter(seed: int, shift: float) -> None:
    reference, current = made(1), made(2, shift=shift)
    order = np.random.default_rng(seed).permutation(current.rows)
    shuffled = replace(
        current, frame=current.frame.iloc[order].reset_index(drop=True), embeddings=current.embeddings[order]
    )
    first, second = verdict_on(reference, current), verdict_on(reference, shuffled)
    assert first.verdict == second.verdict
    for one, other in zip(first.signals, second.signals, strict=True):
        assert one.effect == pytest.approx(other.effect, abs=1e-9)
        assert one.p_value == pytest.approx(other.p_value, abs=1e-9)


def test_a_change_of_topic_is_seen_by_embeddings_alone() -> None:
    verdict = verdict_on(made(1), made(2, shift=2.0))
    assert fired(verdict) == {"embedding", "mmd"}
    assert (verdict.verdict, verdict.level) == ("warn", "severe")
    assert "embedding" in verdict.reason
    assert "1 of the last 3 windows acted: 2 are needed" in verdict.reason
    assert verdict_on(made(1), made(2, shift=2.0), history=("severe",)).verdict == "severe"
    assert verdict_on(made(1), made(2, shift=2.0), history=("none", "act")).verdict == "act"


def test_a_weak_change_warns_and_does_not_act() -> None:
    verdict = verdict_on(made(1, 2_000), made(2, 2_000, shift=0.35), history=("severe", "severe"))
    assert "embedding" in fired(verdict)
    assert (verdict.verdict, verdict.level) == ("warn", "warn")


def test_a_trifle_that_many_messages_make_significant_does_not_fire() -> None:
    """The effect floor's half of the rule."""
    verdict = verdict_on(made(1, 5_000), made(2, 5_000, shift=0.18))
    signal = verdict.signals[0]
    assert signal.name == "embedding"
    assert signal.p_value < 1e-6
    assert signal.effect < signal.floor
    assert verdict.verdict == "stable"


def test_a_change_of_label_shares_is_seen() -> None:
    verdict = verdict_on(made(1), made(2, shares=(0.55, 0.25, 0.2)))
    assert "labels" in fired(verdict)


def test_longer_messages_are_seen() -> None:
    verdict = verdict_on(made(1), made(2, length=[200] * 600))
    assert fired(verdict) == {"form"}
    assert "characters 100 -> 200" in verdict.reason


def test_less_confidence_is_seen() -> None:
    unsure = [np.array([0.34, 0.33, 0.33])] * 600
    assert "confidence" in fired(verdict_on(made(1), made(2, probabilities=unsure)))


def test_a_change_of_channels_warns_at_most() -> None:
    verdict = verdict_on(made(1), made(2, channel=["letter"] * 600), history=("act", "act"))
    mix = next(signal for signal in verdict.signals if signal.name == "channels")
    assert mix.effect > 1
    assert mix.p_value < 1e-6
    assert (mix.level, verdict.level, verdict.verdict) == ("warn", "warn", "warn")


@pytest.mark.parametrize(("reference", "current"), [(600, 499), (499, 600), (600, 0), (0, 600), (0, 0)])
def test_too_few_is_never_stable(reference: int, current: int) -> None:
    verdict = verdict_on(made(1, reference), made(2, current, shift=5.0))
    assert (verdict.verdict, verdict.level, verdict.signals) == ("too_few", "none", ())
    assert "500" in verdict.reason


def test_rows_that_are_no_numbers_are_left_out_and_counted() -> None:
    bad = made(1).frame
    probabilities = (
        [np.array([np.nan, 0.5, 0.5])] * 3 + [np.array([0.5, 0.5])] * 2 + [None] + [np.array([0.2, 0.3, 0.5])] * 594
    )
    labels = ["positive"] * 598 + ["furious"] * 2
    current = made(2, probabilities=probabilities, label=labels)
    assert current.rows == 592
    assert current.left_out == {"probabilities that are no numbers": 6, "unknown label": 2}
    assert "2 unknown label" in verdict_on(made(1), current).reason
    assert len(bad) == 600


@pytest.mark.parametrize(
    "columns",
    [
        {"label": ["positive"] * 600},
        {"length": [None] * 600},
        {"length": [7] * 600},
        {"channel": [None] * 600},
        {"channel": [float("nan")] * 600},
        {"embedding": [np.zeros(16, "<f2").tobytes()] * 600},
    ],
    ids=["one class", "no lengths", "one length", "no channels", "nan channels", "identical texts"],
)
def test_degenerate_windows_get_a_verdict(columns: dict) -> None:
    ordinary, odd = made(1), made(2, **columns)
    for reference, current in ((ordinary, odd), (odd, ordinary), (odd, odd)):
        verdict = verdict_on(reference, current)
        assert verdict.verdict in {"stable", "warn"}
        assert all(np.isfinite([signal.effect, signal.p_value]).all() for signal in verdict.signals)
    assert verdict_on(odd, odd).verdict == "stable"


@pytest.mark.parametrize(
    "embedding",
    [[None] * 600, [b""] * 600, [np.zeros(8, "<f2").tobytes()] * 600, [b"\x00\x00"] + [b"\x00\x00\x00\x00"] * 599],
    ids=["none", "empty", "another width", "ragged"],
)
def test_without_comparable_embeddings_the_reason_says_so(embedding: list) -> None:
    verdict = verdict_on(made(1), made(2, embedding=embedding))
    assert "embedding" not in {signal.name for signal in verdict.signals}
    assert "not enough embeddings to compare" in verdict.reason


def embedded(count: int, missing: int, fill: bytes | None = None, shift: float = 1.0) -> list[bytes | None]:
    """Embeddings of shifted messages, the first `missing` of them replaced by `fill`."""
    values = (np.random.default_rng(9).normal(size=(count, 16)) + shift).astype("<f2")
    return [fill if index < missing else value.tobytes() for index, value in enumerate(values)]


@pytest.mark.parametrize(
    "fill",
    [None, b"", b"\x00", b"\x00\x00", np.full(16, np.inf, "<f2").tobytes(), np.full(16, np.nan, "<f2").tobytes()],
    ids=["none", "empty", "half a number", "another width", "infinite", "nan"],
)
def test_a_few_bad_embeddings_do_not_blind_the_watch(fill: bytes | None) -> None:
    current = made(2, embedding=embedded(600, 5, fill))
    verdict = verdict_on(made(1), current)
    assert current.rows == 600
    assert current.left_out == {NO_EMBEDDING: 5}
    assert "embedding" in fired(verdict)
    assert f"5 {NO_EMBEDDING}" in verdict.reason


def test_with_few_embeddings_that_signal_is_absent_even_beside_one_that_fires() -> None:
    few = made(2, embedding=embedded(600, 101), length=[200] * 600)
    verdict = verdict_on(made(1), few)
    assert fired(verdict) == {"form"}
    assert "embedding" not in {signal.name for signal in verdict.signals}
    assert "not enough embeddings to compare" in verdict.reason
    assert "embedding" in fired(verdict_on(made(1), made(2, embedding=embedded(600, 100))))


def test_gaps_stay_with_their_rows() -> None:
    reference, current = made(1), made(2, embedding=embedded(600, 40))
    _, scores = domain_scores(reference, current)
    assert np.isnan(scores[:40]).all()
    assert np.isfinite(scores[40:]).all()


@pytest.mark.parametrize(
    "probabilities", ["abc", ["x", "y", "z"], [[1], [1, 2]], {"a": 1}, 7, [5, -3, -1], [None, 0.5, 0.5], []]
)
def test_what_is_no_probabilities_is_counted_and_never_a_crash(probabilities: object) -> None:
    current = made(2, probabilities=[probabilities] + [[0.2, 0.3, 0.5]] * 599)
    assert current.rows == 599
    assert current.left_out == {NO_PROBABILITIES: 1}


@pytest.mark.parametrize("length", ["long", float("inf"), float("nan"), None])
def test_what_is_no_length_is_a_gap(length: object) -> None:
    current = made(2, 620, length=[length] + [50] * 619)
    assert int(current.frame["length"].isna().sum()) == 1
    assert "form" in fired(verdict_on(made(1), current))


def test_what_the_reference_lacks_is_said() -> None:
    reference = made(1, 610, label=["furious"] * 10 + ["positive"] * 600)
    assert f"left out of the reference: 10 {NO_LABEL}" in verdict_on(reference, made(2)).reason


def test_the_reason_counts_the_signals_that_were_tested() -> None:
    verdict = verdict_on(made(1), made(2, length=[200] * 600))
    assert "1 of 6 signals count" in verdict.reason


@pytest.mark.parametrize("spec", TASKS.values(), ids=TASKS)
def test_every_task_judges(spec) -> None:
    even = tuple([1 / len(spec.labels)] * len(spec.labels))
    assert verdict_on(made(1, shares=even, spec=spec), made(2, shares=even, spec=spec), spec).verdict == "stable"
    changed = verdict_on(made(1, shares=even, spec=spec), made(2, shift=2, shares=even, spec=spec), spec)
    assert (changed.level, changed.drifted) == ("severe", True)


# segments ---------------------------------------------------------------------------------------


def with_segments(seed: int, names: list[str], **columns) -> Window:
    return made(seed, len(names), segment=names, **columns)


def test_a_change_within_one_segment_is_found_there() -> None:
    names = [f"segment-{index % 6}" for index in range(1_200)]
    random = np.random.default_rng(5)
    moved = [(random.normal(size=16) + (1.0 if name == "segment-2" else 0.0)).astype("<f2").tobytes() for name in names]
    verdict = verdict_on(with_segments(1, names), with_segments(2, names, embedding=moved))
    assert {signal.segment for signal in verdict.signals if signal.segment} == {"segment-2"}
    assert "embedding in segment 'segment-2'" in verdict.reason
    quiet = verdict_on(with_segments(1, names), with_segments(2, names))
    assert not [signal for signal in quiet.signals if signal.segment]


def test_new_and_vanished_segments_are_told() -> None:
    before, now = ["a", "b"] * 300, ["a", "c"] * 300
    verdict = verdict_on(with_segments(1, before), with_segments(2, now))
    assert (verdict.new_segments, verdict.vanished_segments) == (("c",), ("b",))
    assert "new segments: c; vanished segments: b" in verdict.reason
    few = ["a"] * 594 + ["rare"] * 6  # one in a hundred is missed now and then
    assert verdict_on(with_segments(1, few), with_segments(2, ["a"] * 600)).vanished_segments == ()


@pytest.mark.parametrize("swapped", [False, True])
def test_one_side_without_segments_is_no_news_of_segments(swapped: bool) -> None:
    sides = [made(1), with_segments(2, ["a", "b"] * 300)]
    verdict = verdict_on(*(reversed(sides) if swapped else sides))
    assert (verdict.new_segments, verdict.vanished_segments, verdict.verdict) == ((), (), "stable")


# persistence ------------------------------------------------------------------------------------

levels = st.lists(st.sampled_from(LEVELS), max_size=6)


@given(st.sampled_from(LEVELS), levels, st.integers(1, 5), st.integers(1, 5))
def test_an_act_needs_this_window_and_enough_of_the_last(level, history, persist, memory) -> None:
    policy = DriftPolicy(persist=min(persist, memory), memory=memory)
    verdict = persisted(level, history, policy)
    seen = [LEVELS.index(one) for one in [level, *history][:memory]]
    assert (verdict == "stable") == (level == "none")
    if verdict in {"act", "severe"}:
        assert seen[0] >= LEVELS.index(verdict)
        assert sum(one >= LEVELS.index(verdict) for one in seen) >= policy.persist
    elif level in {"act", "severe"}:
        assert sum(one >= LEVELS.index("act") for one in seen) < policy.persist


@given(st.sampled_from(LEVELS[:3]), levels)
def test_a_higher_level_never_makes_a_lower_verdict(level, history) -> None:
    order = ("stable", "warn", "act", "severe")
    higher = LEVELS[LEVELS.index(level) + 1]
    first, second = (persisted(one, history, DriftPolicy()) for one in (level, higher))
    assert order.index(first) <= order.index(second)


def seen(day: float, level: str | None, kind: str = "drift", verdict: str = "warn") -> LedgerEntry:
    window = [(NOW + timedelta(days=day - 7)).isoformat(), (NOW + timedelta(days=day)).isoformat()]
    return LedgerEntry(
        int(1_000 + day), "", kind, "sentiment", 1, "", "", {"level": level, "window": window, "verdict": verdict}
    )


WEEK = timedelta(days=7)


def test_windows_count_as_separate_when_half_is_their_own() -> None:
    daily = [seen(-day, "act" if day >= 4 else "none") for day in range(1, 15)]
    assert earlier_levels(daily, NOW, WEEK, 3) == ("act", "act")  # the looks of days -4 and -8
    assert earlier_levels(daily, NOW, WEEK, 1) == ()
    assert earlier_levels([seen(-3.4, "act"), seen(-3.5, "severe")], NOW, WEEK, 3) == ("severe",)


def test_what_is_no_earlier_window_is_passed_over() -> None:
    rows = [
        seen(-7, "none", verdict="too_few"),  # too few is not quiet
        seen(-7, None),  # written before there were levels
        seen(-7, "act", kind="retrain"),
        seen(3, "severe"),  # the clock went backwards
        seen(-14, "act"),
    ]
    assert earlier_levels(rows, NOW, WEEK, 3) == ("act",)


# what the verdict rests on ----------------------------------------------------------------------


def test_floors_of_a_calibration_replace_the_policys() -> None:
    higher = FLOORS | {"form": FLOORS["form"].model_copy(update={"warn": 9.0, "act": None})}
    reference, current = made(1), made(2, length=[200] * 600)
    first, second = verdict_on(reference, current), verdict_on(reference, current, floors=higher)
    assert (first.level, second.level) == ("act", "none")
    assert first.policy_sha256 == policy_sha256(SPEC, SPEC.drift.floors) != second.policy_sha256


def test_a_finding_is_told_and_changes_no_level() -> None:
    finding = Finding("volume", "the message source (volume)", "600 messages, usually 6,000", 0.1, 0.3)
    verdict = verdict_on(made(1), made(2), quality=[finding], merged=3)
    assert (verdict.verdict, verdict.quality, verdict.merged) == ("stable", (finding,), 3)
    assert "3 windows merged" in verdict.reason
    assert "the message source (volume): 600 messages, usually 6,000" in verdict.reason


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 1_000))
def test_a_wholly_foreign_window_is_never_called_less_than_a_quiet_one(seed: int) -> None:
    reference = made(1)
    quiet, foreign = made(seed), made(seed, shift=2.0)
    first, second = verdict_on(reference, quiet), verdict_on(reference, foreign)
    assert LEVELS.index(second.level) >= LEVELS.index(first.level)
    assert second.level == "severe"
