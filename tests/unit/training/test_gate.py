from __future__ import annotations

import dataclasses
import json
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.behaviour import EMOJI, NAMES, NEGATION, TYPOS, Check
from training.evaluate import Evaluation, evaluate
from training.fidelity import Fidelity
from training.gate import Paired, decide
from training.latency import Latency
from training.slices import membership
from undertone.tasks import GatePolicy, TaskSpec

SPEC = TaskSpec(name="mood", labels=("sad", "glad", "calm"), praise_label="glad")
POLICY = GatePolicy(floor=0.5, margin=0.05, max_ece=1.0, min_rows=10, slice_floor=0.0, min_negation=0.9)
WELL_BEHAVED = tuple(Check(name, 100, 100) for name in (NAMES, EMOJI, TYPOS, NEGATION))
EQUALLY_FAST = Latency(10.0, 10.0)
FAITHFUL = Fidelity("onnx-int8", 0.985, 0.80, 0.80)
ALONE = {
    "challenger_labels": SPEC.labels,
    "champion_labels": None,
    "paired": None,
    "fidelity": FAITHFUL,
    "latency": Latency(10.0),
    "behaviour": WELL_BEHAVED,
}


def frame_of(truth: np.ndarray, spec: TaskSpec = SPEC) -> pd.DataFrame:
    """Rows in two channels, known by their place."""
    texts = [f"message {number:05d}" for number in range(len(truth))]
    channels = ["chat" if number % 2 else "email" for number in range(len(truth))]
    return pd.DataFrame({"text": texts, "label": [spec.labels[index] for index in truth], "channel": channels})


def evaluation_of(truth: np.ndarray, predicted: np.ndarray, frame: pd.DataFrame | None = None) -> Evaluation:
    return evaluate(np.eye(3)[predicted], frame_of(truth) if frame is None else frame, SPEC)


def judge(truth, ours, theirs, policy=POLICY, frame=None, **changes):
    frame = frame_of(truth) if frame is None else frame
    arguments = {
        "challenger_labels": SPEC.labels,
        "champion_labels": SPEC.labels,
        "paired": Paired(truth, ours, theirs, frame["text"].tolist(), membership(frame, SPEC.slices)),
        "fidelity": FAITHFUL,
        "latency": EQUALLY_FAST,
        "behaviour": WELL_BEHAVED,
    }
    return decide(evaluation_of(truth, ours, frame), evaluation_of(truth, theirs, frame), policy, **arguments | changes)


def failed(verdict) -> list[str]:
    return [line.name for line in verdict.lines if not line.passed]


def noisy(truth: np.ndarray, share: float, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    wrong = generator.random(len(truth)) < share
    return np.where(wrong, (truth + generator.integers(1, 3, len(truth))) % 3, truth)


TRUTH = np.random.default_rng(0).integers(0, 3, 1_000)
predictions = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).integers(0, 3, 60))


def test_the_first_model_is_measured_against_the_policy_alone():
    good, bad = evaluation_of(TRUTH, noisy(TRUTH, 0.1, 1)), evaluation_of(TRUTH, noisy(TRUTH, 0.8, 1))
    assert decide(good, None, POLICY, **ALONE).passed
    refused = decide(bad, None, POLICY, **ALONE)
    assert not refused.passed
    assert failed(refused) == ["macro-F1"]
    assert refused.verdict == "first"
    assert refused.difference is None


@pytest.mark.parametrize(
    ("change", "policy", "line"),
    [
        ({}, {"min_rows": 1_001}, "rows"),
        ({}, {"floor": 0.95}, "macro-F1"),
        ({"ece": 0.16}, {"max_ece": 0.15}, "calibration error"),
        ({}, {"slice_floor": 0.95}, "slices"),
    ],
)
def test_each_requirement_refuses_alone(change, policy, line):
    good = dataclasses.replace(evaluation_of(TRUTH, noisy(TRUTH, 0.1, 1)), **change)
    verdict = decide(good, None, POLICY.model_copy(update=policy), **ALONE)
    assert failed(verdict) == [line]
    assert not verdict.passed


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"latency": Latency(15.1, 10.0)}, "latency of one message"),
        ({"latency": Latency(15.0)}, "latency of one message"),
        ({"latency": Latency(float("nan"), 10.0)}, "latency of one message"),
        ({"latency": None}, "latency of one message"),
        ({"behaviour": (*WELL_BEHAVED[:-1], Check(NEGATION, 100, 89))}, "negation"),
        ({"behaviour": (Check(NAMES, 100, 84), *WELL_BEHAVED[1:])}, "names swapped"),
        ({"behaviour": (Check(NAMES, 0, 0), *WELL_BEHAVED[1:])}, "names swapped"),
        ({"behaviour": WELL_BEHAVED[1:]}, "names swapped"),
    ],
)
def test_slow_ill_behaved_or_unmeasured_is_refused(change, line):
    assert judge(TRUTH, TRUTH, TRUTH).passed
    assert failed(judge(TRUTH, TRUTH, TRUTH, **change)) == [line]


@pytest.mark.parametrize(
    "fidelity",
    [
        None,
        dataclasses.replace(FAITHFUL, agreement=0.9699),
        dataclasses.replace(FAITHFUL, agreement=None),
        dataclasses.replace(FAITHFUL, macro_f1=0.785),
        dataclasses.replace(FAITHFUL, exact_macro_f1=float("nan")),
    ],
)
def test_an_engine_that_loses_answers_or_was_not_compared_is_refused(fidelity):
    assert failed(judge(TRUTH, TRUTH, TRUTH, fidelity=fidelity)) == ["engine"]
    assert failed(decide(evaluation_of(TRUTH, TRUTH), None, POLICY, **ALONE | {"fidelity": fidelity})) == ["engine"]


def test_the_exact_engine_has_nothing_to_lose():
    found = judge(TRUTH, TRUTH, TRUTH, fidelity=Fidelity("onnx-fp32", 1.0, 0.8, 0.8))
    assert found.passed
    assert [line.found for line in found.lines if line.name == "engine"] == ["exact"]


@settings(max_examples=40, deadline=None)
@given(agreement=st.floats(0, 1), more=st.floats(0, 1), score=st.floats(0, 1))
def test_a_higher_agreement_never_loses_a_pass(agreement, more, score):
    passed = [
        decide(
            evaluation_of(TRUTH, TRUTH), None, POLICY, **ALONE | {"fidelity": Fidelity("onnx-int8", share, score, 0.8)}
        ).passed
        for share in sorted((agreement, more))
    ]
    assert passed == sorted(passed)


def test_the_first_model_has_nobody_to_be_slower_than():
    good = evaluation_of(TRUTH, noisy(TRUTH, 0.1, 1))
    assert decide(good, None, POLICY, **ALONE | {"latency": Latency(10_000.0)}).passed
    assert failed(decide(good, None, POLICY, **ALONE | {"latency": None})) == ["latency of one message"]


def test_a_task_without_praise_is_not_asked_about_negation():
    policy = POLICY.model_copy(update={"min_negation": None})
    found = judge(TRUTH, TRUTH, TRUTH, policy, behaviour=WELL_BEHAVED[:3])
    assert found.passed
    assert NEGATION not in [line.name for line in found.lines]


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict", "passed"),
    [(0.1, 0.3, "better", True), (0.3, 0.1, "worse", False), (0.2, 0.2, "not_worse", True)],
)
def test_the_comparison_is_named_by_its_interval(ours, theirs, verdict, passed):
    found = judge(TRUTH, noisy(TRUTH, ours, 1), noisy(TRUTH, theirs, 1))
    assert (found.verdict, found.passed) == (verdict, passed)
    low, high = found.interval
    assert low <= found.difference <= high


def test_few_rows_cannot_tell_and_do_not_pass():
    truth = TRUTH[:100]
    found = judge(truth, noisy(truth, 0.2, 1), noisy(truth, 0.2, 2))
    assert found.verdict == "too_few"
    assert failed(found) == ["macro-F1 against the champion"]


def test_a_lower_bound_on_the_margin_passes_and_one_beyond_it_does_not():
    truth, ours, theirs = TRUTH, noisy(TRUTH, 0.12, 1), noisy(TRUTH, 0.1, 2)
    low = judge(truth, ours, theirs).interval[0]
    assert low < 0
    for margin, passed in ((-low, True), (-low - 1e-4, False)):
        policy = POLICY.model_copy(update={"margin": margin, "slice_margin": 0.2})
        assert judge(truth, ours, theirs, policy).passed is passed


def test_a_slice_that_lost_too_much_refuses_although_the_whole_gained():
    chat = np.arange(len(TRUTH)) % 2 == 1
    theirs = np.where(chat, noisy(TRUTH, 0.1, 1), noisy(TRUTH, 0.4, 1))
    ours = np.where(chat, noisy(TRUTH, 0.25, 2), TRUTH)
    found = judge(TRUTH, ours, theirs)
    assert found.verdict == "better"
    assert failed(found) == ["slices against the champion"]
    lost = {part.name: part for part in found.slices}["channel=chat"]
    assert not lost.holds
    assert lost.rows == 500
    assert lost.difference < -0.05
    assert lost.interval[0] < lost.difference < lost.interval[1] < 0
    assert judge(TRUTH, ours, theirs, POLICY.model_copy(update={"slice_margin": 0.5})).passed
    small = judge(TRUTH, ours, theirs, POLICY.model_copy(update={"slice_min_rows": 501}))
    assert small.passed
    assert {part.name for part in small.slices if part.too_few} == {"channel=chat", "channel=email"}


def test_equal_models_are_rarely_refused_for_a_slice():
    refused = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        truth = generator.integers(0, 3, 500)
        found = judge(truth, noisy(truth, 0.2, seed), noisy(truth, 0.2, seed + 1_000))
        refused += "slices against the champion" in failed(found)
    assert refused <= 4


def test_another_label_map_is_refused():
    ours = noisy(TRUTH, 0.1, 1)
    found = judge(TRUTH, ours, ours, champion_labels=("glad", "sad", "calm"))
    assert not found.passed
    assert "label map" in failed(found)


@pytest.mark.parametrize("metric", ["macro_f1", "ece", "rows"])
@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), float("-inf"), "0.9", True])
def test_a_metric_that_is_no_number_fails(metric, value):
    good = evaluation_of(TRUTH, TRUTH)
    broken = dataclasses.replace(good, **{metric: value})
    assert decide(good, None, POLICY, **ALONE).passed
    verdict = decide(broken, None, POLICY, **ALONE)
    assert not verdict.passed
    json.dumps(verdict.as_dict(), allow_nan=False)


CHANNELS = membership(frame_of(TRUTH), SPEC.slices)


@pytest.mark.parametrize(
    "changes",
    [
        {"paired": None},
        {"champion_labels": None},
        {"paired": Paired(TRUTH[:-1], TRUTH[:-1], TRUTH[:-1], None, CHANNELS)},
        {"paired": Paired(TRUTH, TRUTH, TRUTH + 1, None, CHANNELS)},
        {"paired": Paired(TRUTH, TRUTH, TRUTH, ["one key"], CHANNELS)},
        {"paired": Paired(TRUTH, TRUTH, TRUTH)},  # no slices
        {"paired": Paired(TRUTH, TRUTH, TRUTH, None, CHANNELS | {"channel=chat": np.ones(3, dtype=bool)})},
        {"paired": Paired(TRUTH, noisy(TRUTH, 0.5, 1), TRUTH, None, CHANNELS)},  # not the rows that were evaluated
    ],
)
def test_a_comparison_that_cannot_be_made_fails(changes):
    assert judge(TRUTH, TRUTH, TRUTH).passed
    found = judge(TRUTH, TRUTH, TRUTH, **changes)
    assert not found.passed
    assert found.interval is None
    assert "macro-F1 against the champion" in failed(found)
    assert "slices against the champion" in failed(found)


def test_a_slice_that_the_champion_lacks_fails():
    good, frame = evaluation_of(TRUTH, TRUTH), frame_of(TRUTH)
    poorer = dataclasses.replace(good, slices={k: v for k, v in good.slices.items() if k != "channel=chat"})
    arguments = {"challenger_labels": SPEC.labels, "champion_labels": SPEC.labels, "latency": EQUALLY_FAST}
    arguments |= {
        "fidelity": FAITHFUL,
        "paired": Paired(TRUTH, TRUTH, TRUTH, frame["text"].tolist(), CHANNELS),
        "behaviour": WELL_BEHAVED,
    }
    assert decide(good, good, POLICY, **arguments).passed
    assert not decide(good, poorer, POLICY, **arguments).passed


def test_a_champion_that_could_not_be_evaluated_fails():
    good = evaluation_of(TRUTH, TRUTH)
    found = decide(good, None, POLICY, **ALONE | {"champion_labels": SPEC.labels})
    assert not found.passed
    assert found.verdict == "too_few"


@settings(max_examples=40, deadline=None)
@given(truth=predictions, ours=predictions, theirs=predictions, data=st.data())
def test_a_better_challenger_never_turns_a_pass_into_a_refusal(truth, ours, theirs, data):
    policy = POLICY.model_copy(update={"floor": 0.2, "margin": 0.1, "slice_min_rows": 30})
    before = judge(truth, ours, theirs, policy)
    mended = data.draw(st.lists(st.integers(0, len(truth) - 1), max_size=20))
    better = ours.copy()
    better[mended] = truth[mended]
    after = judge(truth, better, theirs, policy)
    assert after.difference >= before.difference - 1e-12
    assert after.interval[0] >= before.interval[0] - 1e-12
    assert after.passed or not before.passed


@settings(max_examples=40, deadline=None)
@given(truth=predictions, ours=predictions, margin=st.floats(0, 0.1))
def test_identical_predictions_are_never_worse(truth, ours, margin):
    policy = POLICY.model_copy(update={"floor": 0.0, "margin": margin, "slice_margin": margin, "slice_min_rows": 30})
    found = judge(truth, ours, ours, policy)
    assert (found.verdict, found.difference, found.interval) == ("not_worse", 0.0, (0.0, 0.0))
    assert found.passed


@settings(max_examples=20, deadline=None)
@given(truth=predictions, ours=predictions, theirs=predictions, seed=st.integers(0, 1_000))
def test_row_order_does_not_matter(truth, ours, theirs, seed):
    order = np.random.default_rng(seed).permutation(len(truth))
    frame = frame_of(truth)
    moved = judge(truth[order], ours[order], theirs[order], frame=frame.iloc[order].reset_index(drop=True))
    assert moved == judge(truth, ours, theirs, frame=frame)


def test_two_thousand_rows_are_judged_within_a_second():
    truth = np.random.default_rng(1).integers(0, 3, 2_000)
    judge(truth, truth, truth)  # imports scipy
    start = time.process_time()
    judge(truth, noisy(truth, 0.2, 1), noisy(truth, 0.2, 2))
    assert time.process_time() - start < 1


def test_the_verdict_reads_as_a_table():
    text = judge(TRUTH, noisy(TRUTH, 0.3, 1), noisy(TRUTH, 0.1, 1)).as_markdown()
    assert "refused (worse)" in text
    assert "| macro-F1 against the champion |" in text
    assert "**no**" in text
    assert "McNemar" in text
    assert "| channel=chat | 500 |" in text


def test_the_verdict_is_plain_json_and_keeps_messages_to_itself_unless_asked():
    broken = Check(NAMES, 100, 99, ({"text": "secret", "changed": "s", "answer": "a", "changed_answer": "b"},))
    found = judge(TRUTH, TRUTH, noisy(TRUTH, 0.1, 1), behaviour=(broken, *WELL_BEHAVED[1:]))
    values = found.as_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert "secret" not in json.dumps(values)
    assert values["behaviour"][0] == {"name": NAMES, "cases": 100, "held": 99, "share": 0.99}
    assert "secret" in json.dumps(found.as_dict(texts=True))
    assert values["latency"] == {"challenger_ms": 10.0, "champion_ms": 10.0}
    assert values["fidelity"] == dataclasses.asdict(FAITHFUL)
