"""Signals and verdict on windows made of numbers."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.drift import judge
from monitoring.signals import psi
from monitoring.windows import Window, window
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
    assert "there are no embeddings to compare" in verdict.reason


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
