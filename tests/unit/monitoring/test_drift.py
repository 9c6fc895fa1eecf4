"""Signals and verdict on windows made of numbers."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.drift import judge
from monitoring.signals import domain_scores, psi
from monitoring.windows import NO_EMBEDDING, NO_LABEL, NO_PROBABILITIES, Window, window
from undertone.records import DriftVerdict
from undertone.tasks import TASKS, get_task

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


def verdict_on(reference: Window, current: Window, spec=SPEC) -> DriftVerdict:
    return judge(spec, reference, current, model_version=1, start=NOW, end=NOW)


def fired(verdict: DriftVerdict) -> set[str]:
    return {signal.name for signal in verdict.signals if signal.fired}


def test_quiet_windows_stay_quiet() -> None:
    alarms = [verdict_on(made(2 * seed), made(2 * seed + 1)).verdict for seed in range(40)]
    assert alarms == ["stable"] * 40


@pytest.mark.parametrize("seed", range(5))
def test_identical_windows_never_drift(seed: int) -> None:
    same = made(seed)
    verdict = verdict_on(same, same)
    assert (verdict.verdict, verdict.act, fired(verdict)) == ("stable", False, set())


@settings(max_examples=10, deadline=None)
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
    verdict = verdict_on(made(1), made(2, shift=1.0))
    assert fired(verdict) == {"embedding"}
    assert (verdict.verdict, verdict.act) == ("drifted", True)
    assert "embedding" in verdict.reason


def test_a_weak_change_warns_and_does_not_act() -> None:
    verdict = verdict_on(made(1, 2_000), made(2, 2_000, shift=0.35))
    assert fired(verdict) == {"embedding"}
    assert (verdict.verdict, verdict.act) == ("drifted", False)


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
    assert "length" in fired(verdict_on(made(1), made(2, length=[200] * 600)))


def test_less_confidence_is_seen() -> None:
    unsure = [np.array([0.34, 0.33, 0.33])] * 600
    assert "confidence" in fired(verdict_on(made(1), made(2, probabilities=unsure)))


def test_channel_mix_explains_and_never_fires() -> None:
    verdict = verdict_on(made(1), made(2, channel=["letter"] * 600))
    mix = next(signal for signal in verdict.signals if signal.name == "channel mix")
    assert mix.effect > 1
    assert mix.p_value < 1e-6
    assert not mix.fired
    assert verdict.verdict == "stable"


@pytest.mark.parametrize(("reference", "current"), [(600, 499), (499, 600), (600, 0), (0, 600), (0, 0)])
def test_too_few_is_never_stable(reference: int, current: int) -> None:
    verdict = verdict_on(made(1, reference), made(2, current, shift=5.0))
    assert (verdict.verdict, verdict.act, verdict.signals) == ("too_few", False, ())
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
        assert verdict.verdict in {"stable", "drifted"}
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
    assert fired(verdict) == {"length"}
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
    assert "length" in fired(verdict_on(made(1), current))


def test_what_the_reference_lacks_is_said() -> None:
    reference = made(1, 610, label=["furious"] * 10 + ["positive"] * 600)
    assert f"left out of the reference: 10 {NO_LABEL}" in verdict_on(reference, made(2)).reason


def test_the_reason_counts_only_signals_that_can_fire() -> None:
    verdict = verdict_on(made(1), made(2, shift=1.0, segment=["a"] * 600))
    assert "1 of 4 signals fired" in verdict.reason


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=6))
def test_psi_does_not_mind_values_that_nobody_holds(cells: list[tuple[int, int]]) -> None:
    counts = np.array(cells).T
    assert psi(np.hstack([counts, np.zeros((2, 3), int)])) == pytest.approx(psi(counts))


@pytest.mark.parametrize("spec", TASKS.values(), ids=TASKS)
def test_every_task_judges(spec) -> None:
    even = tuple([1 / len(spec.labels)] * len(spec.labels))
    assert verdict_on(made(1, shares=even, spec=spec), made(2, shares=even, spec=spec), spec).verdict == "stable"
    assert verdict_on(made(1, shares=even, spec=spec), made(2, shift=2, shares=even, spec=spec), spec).act


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=6))
def test_psi_is_never_negative_and_zero_for_equal_shares(cells: list[tuple[int, int]]) -> None:
    counts = np.array(cells).T
    assert psi(counts) >= 0
    assert psi(np.stack([counts[0], counts[0]])) == pytest.approx(0)
