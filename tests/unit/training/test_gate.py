from __future__ import annotations

import dataclasses
import json
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluate import Evaluation, evaluate
from training.gate import bootstrap_interval, decide, mcnemar
from undertone.tasks import GatePolicy, TaskSpec

SPEC = TaskSpec(name="mood", labels=("sad", "glad", "calm"))
POLICY = GatePolicy(floor=0.5, margin=0.02, max_ece=1.0, min_rows=10)


def evaluation_of(truth: np.ndarray, predicted: np.ndarray, spec: TaskSpec = SPEC) -> Evaluation:
    words = [spec.labels[index] for index in truth]
    return evaluate(
        np.eye(len(spec.labels))[predicted], pd.DataFrame({"text": ["a"] * len(words), "label": words}), spec
    )


def judge(truth, ours, theirs, policy=POLICY, **changes):
    arguments = {"challenger_labels": SPEC.labels, "champion_labels": SPEC.labels, "paired": (truth, ours, theirs)}
    return decide(evaluation_of(truth, ours), evaluation_of(truth, theirs), policy, **arguments | changes)


def noisy(truth: np.ndarray, share: float, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    wrong = generator.random(len(truth)) < share
    return np.where(wrong, (truth + generator.integers(1, 3, len(truth))) % 3, truth)


TRUTH = np.random.default_rng(0).integers(0, 3, 1_000)
predictions = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).integers(0, 3, 60))


def test_the_first_model_is_measured_against_the_policy_alone():
    good, bad = evaluation_of(TRUTH, noisy(TRUTH, 0.1, 1)), evaluation_of(TRUTH, noisy(TRUTH, 0.8, 1))
    first = {"challenger_labels": SPEC.labels, "champion_labels": None, "paired": None}
    assert decide(good, None, POLICY, **first).passed
    refused = decide(bad, None, POLICY, **first)
    assert not refused.passed
    assert [line.name for line in refused.lines if not line.passed] == ["macro-F1"]
    assert refused.verdict == "first"
    assert refused.difference is None


@pytest.mark.parametrize(
    ("change", "policy", "line"),
    [
        ({}, {"min_rows": 1_001}, "rows"),
        ({}, {"floor": 0.95}, "macro-F1"),
        ({"ece": 0.16}, {"max_ece": 0.15}, "calibration error"),
    ],
)
def test_each_requirement_refuses_alone(change, policy, line):
    good = dataclasses.replace(evaluation_of(TRUTH, noisy(TRUTH, 0.1, 1)), **change)
    verdict = decide(
        good, None, POLICY.model_copy(update=policy), challenger_labels=SPEC.labels, champion_labels=None, paired=None
    )
    assert [entry.name for entry in verdict.lines if not entry.passed] == [line]
    assert not verdict.passed


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict", "passed"),
    [(0.1, 0.3, "better", True), (0.3, 0.1, "worse", False), (0.2, 0.2, "not_worse", True)],
)
def test_the_comparison_is_named_by_its_interval(ours, theirs, verdict, passed):
    found = judge(TRUTH, noisy(TRUTH, ours, 1), noisy(TRUTH, theirs, 1))
    assert (found.verdict, found.passed) == (verdict, passed)
    low, high = found.interval
    assert low <= found.difference <= high


def test_few_rows_cannot_tell():
    truth = TRUTH[:40]
    assert judge(truth, noisy(truth, 0.2, 1), noisy(truth, 0.2, 2)).verdict == "too_few"


def test_a_loss_on_the_margin_passes_and_one_beyond_it_does_not():
    truth, theirs = np.repeat([0, 1], 500), np.repeat([0, 1], 500)
    ours = truth.copy()
    ours[::50] = 1 - ours[::50]
    exact = evaluation_of(truth, theirs).macro_f1 - evaluation_of(truth, ours).macro_f1
    assert exact > 0
    assert judge(truth, ours, theirs, POLICY.model_copy(update={"margin": exact})).passed
    assert not judge(truth, ours, theirs, POLICY.model_copy(update={"margin": exact - 1e-4})).passed


def test_another_label_map_is_refused():
    ours = noisy(TRUTH, 0.1, 1)
    found = judge(TRUTH, ours, ours, champion_labels=("glad", "sad", "calm"))
    assert not found.passed
    assert "label map" in [line.name for line in found.lines if not line.passed]


@pytest.mark.parametrize("metric", ["macro_f1", "ece", "rows"])
@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), float("-inf"), "0.9", True])
def test_a_metric_that_is_no_number_fails(metric, value):
    good = evaluation_of(TRUTH, TRUTH)
    broken = dataclasses.replace(good, **{metric: value})
    first = {"challenger_labels": SPEC.labels, "champion_labels": None, "paired": None}
    assert decide(good, None, POLICY, **first).passed
    verdict = decide(broken, None, POLICY, **first)
    assert not verdict.passed
    json.dumps(verdict.as_dict(), allow_nan=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"paired": None},
        {"champion_labels": None},
        {"paired": (TRUTH[:-1], TRUTH[:-1], TRUTH[:-1])},
        {"paired": (TRUTH, TRUTH, TRUTH + 1)},
        {"paired": (TRUTH, noisy(TRUTH, 0.5, 1), TRUTH)},  # not the rows that the evaluation speaks of
    ],
)
def test_a_comparison_that_cannot_be_made_fails(changes):
    assert judge(TRUTH, TRUTH, TRUTH).passed
    found = judge(TRUTH, TRUTH, TRUTH, **changes)
    assert not found.passed
    assert found.interval is None


def test_a_champion_that_could_not_be_evaluated_fails():
    good = evaluation_of(TRUTH, TRUTH)
    found = decide(good, None, POLICY, challenger_labels=SPEC.labels, champion_labels=SPEC.labels, paired=None)
    assert not found.passed


@settings(max_examples=40, deadline=None)
@given(truth=predictions, ours=predictions, theirs=predictions, data=st.data())
def test_a_better_challenger_never_turns_a_pass_into_a_refusal(truth, ours, theirs, data):
    policy = POLICY.model_copy(update={"floor": 0.2, "margin": 0.05})
    before = judge(truth, ours, theirs, policy)
    mended = data.draw(st.lists(st.integers(0, len(truth) - 1), max_size=20))
    better = ours.copy()
    better[mended] = truth[mended]
    after = judge(truth, better, theirs, policy)
    assert after.difference >= before.difference - 1e-12
    assert after.passed or not before.passed


@settings(max_examples=40, deadline=None)
@given(truth=predictions, ours=predictions, margin=st.floats(0, 0.1))
def test_identical_predictions_are_never_worse(truth, ours, margin):
    found = judge(truth, ours, ours, POLICY.model_copy(update={"floor": 0.0, "margin": margin}))
    assert (found.verdict, found.difference, found.interval) == ("not_worse", 0.0, (0.0, 0.0))
    assert found.passed


@settings(max_examples=20, deadline=None)
@given(truth=predictions, ours=predictions, theirs=predictions, seed=st.integers(0, 1_000))
def test_row_order_does_not_matter(truth, ours, theirs, seed):
    order = np.random.default_rng(seed).permutation(len(truth))
    assert judge(truth, ours, theirs) == judge(truth[order], ours[order], theirs[order])


def test_the_interval_is_that_of_resampling_rows():
    truth, ours, theirs = TRUTH[:300], noisy(TRUTH, 0.2, 1)[:300], noisy(TRUTH, 0.3, 2)[:300]
    generator = np.random.default_rng(5)
    differences = []
    for _ in range(1_000):
        rows = generator.integers(0, 300, 300)
        differences.append(
            evaluation_of(truth[rows], ours[rows]).macro_f1 - evaluation_of(truth[rows], theirs[rows]).macro_f1
        )
    expected = np.quantile(differences, [0.025, 0.975])
    assert bootstrap_interval(truth, ours, theirs, 3, seed=0) == pytest.approx(expected, abs=0.012)


def test_mcnemar_is_the_binomial_of_the_rows_that_differ():
    truth = np.zeros(20, dtype=int)
    ours, theirs = truth.copy(), truth.copy()
    theirs[:5] = 1
    assert mcnemar(truth, ours, theirs) == pytest.approx(2 * 0.5**5)
    assert mcnemar(truth, ours, ours) == 1.0


def test_two_thousand_rows_are_judged_within_a_second():
    truth = np.random.default_rng(1).integers(0, 3, 2_000)
    judge(truth, truth, truth)  # imports scipy
    start = time.perf_counter()
    judge(truth, noisy(truth, 0.2, 1), noisy(truth, 0.2, 2))
    assert time.perf_counter() - start < 1


def test_the_verdict_reads_as_a_table():
    text = judge(TRUTH, noisy(TRUTH, 0.3, 1), noisy(TRUTH, 0.1, 1)).as_markdown()
    assert "refused (worse)" in text
    assert "| macro-F1 against the champion |" in text
    assert "**no**" in text
    assert "McNemar" in text
