"""Two versions on the same rows: the same numbers as an evaluation's, blind to order, sharp where they differ."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from training.compare_page import page
from training.compare_versions import METRICS, changed_rows, compare_versions
from training.evaluate import evaluate
from training.resample import interval, resample
from undertone.errors import DataError
from undertone.multiplicity import holm
from undertone.tasks import TaskSpec

SPEC = TaskSpec(name="mood", labels=("sad", "calm", "glad"), slices=("channel",))
ROWS = 600
TRUTH = np.arange(ROWS) % 3
FRAME = pd.DataFrame(
    {
        "text": [f"message {number}" for number in range(ROWS)],
        "label": [SPEC.labels[index] for index in TRUTH],
        "channel": ["chat" if number % 2 else "email" for number in range(ROWS)],
    }
)


def answers(seed: int, quality: float, where: np.ndarray | None = None, elsewhere: float = 0.0) -> np.ndarray:
    """Probabilities of a model that is right the oftener the greater `quality` is, in the rows `where`."""
    logits = np.random.default_rng(seed).normal(size=(ROWS, 3))
    logits[np.arange(ROWS), TRUTH] += np.where(np.ones(ROWS, bool) if where is None else where, quality, elsewhere)
    exponent = np.exp(logits)
    return (exponent / exponent.sum(axis=1, keepdims=True)).astype(np.float32)


def test_the_numbers_are_those_of_the_evaluations() -> None:
    a, b = answers(0, 1.0), answers(1, 2.0)
    found = compare_versions(FRAME, SPEC, a, b)
    for probabilities, side in ((a, "a"), (b, "b")):
        alone = evaluate(probabilities, FRAME, SPEC)
        for name in ("macro_f1", "macro_recall", "accuracy", "ece"):
            assert getattr(found.metrics[name], side) == pytest.approx(getattr(alone, name), abs=1e-5), name
        own = probabilities[np.arange(ROWS), TRUTH]
        assert getattr(found.metrics["nll"], side) == pytest.approx(-np.log(own).mean(), abs=1e-5)
    drawn = resample(TRUTH, [a.argmax(axis=1), b.argmax(axis=1)], 3, keys=FRAME["text"].tolist())[0]
    assert found.metrics["macro_f1"].interval == pytest.approx(interval(drawn[1] - drawn[0]), abs=1e-6)


def test_the_better_version_is_better_on_either_side() -> None:
    weak, strong = answers(0, 1.0), answers(1, 2.0)
    there, back = compare_versions(FRAME, SPEC, weak, strong), compare_versions(FRAME, SPEC, strong, weak)
    assert (there.verdict, back.verdict) == ("better", "worse")
    assert (there.gained, there.lost) == (back.lost, back.gained)
    assert there.mcnemar_p == back.mcnemar_p < 0.01
    for name, higher in METRICS.items():
        if name != "ece":
            assert (there.metrics[name].difference > 0) is higher
        assert there.metrics[name].difference == pytest.approx(-back.metrics[name].difference)


def test_the_order_of_the_rows_does_not_matter() -> None:
    a, b = answers(0, 1.0), answers(1, 1.2)
    shuffled = np.random.default_rng(5).permutation(ROWS)
    one = compare_versions(FRAME, SPEC, a, b)
    other = compare_versions(FRAME.iloc[shuffled].reset_index(drop=True), SPEC, a[shuffled], b[shuffled])
    for name in METRICS:
        assert other.metrics[name].interval == pytest.approx(one.metrics[name].interval, abs=1e-6)
    assert {part.name: part.p_value for part in other.slices} == {part.name: part.p_value for part in one.slices}


def test_a_version_beside_itself_shows_nothing() -> None:
    same = answers(0, 1.0)
    found = compare_versions(FRAME, SPEC, same, same)
    assert (found.verdict, found.gained, found.lost, found.mcnemar_p) == ("cannot tell", 0, 0, 1.0)
    assert all(value.interval == (0, 0) for value in found.metrics.values())
    assert not any(part.significant for part in found.slices)
    assert found.confusions() == []


def test_the_slice_that_was_lost_is_found() -> None:
    chat = (FRAME["channel"] == "chat").to_numpy()
    found = compare_versions(FRAME, SPEC, answers(0, 1.5), answers(1, 1.5, where=~chat, elsewhere=0.2))
    first, second = found.slices
    assert (first.name, first.significant) == ("channel=chat", True)
    assert first.difference is not None
    assert first.difference < -0.1
    assert (second.name, second.significant) == ("channel=email", False)


def test_a_slice_of_few_rows_has_no_score() -> None:
    frame = FRAME.assign(channel=["phone" if row < 20 else "chat" for row in range(ROWS)])
    last = compare_versions(frame, SPEC, answers(0, 1.0), answers(1, 1.0)).slices[-1]
    assert (last.name, last.rows, last.a, last.significant) == ("channel=phone", 20, None, False)


def test_changed_rows_are_complete_and_the_most_confident_come_first() -> None:
    a, b = answers(0, 1.0), answers(1, 1.5)
    found = compare_versions(FRAME, SPEC, a, b)
    gained, lost = changed_rows(FRAME, SPEC.labels, a, b)
    assert (len(gained), len(lost)) == (found.gained, found.lost)
    assert all(row["b"] == row["label"] != row["a"] for row in gained)
    assert all(row["a"] == row["label"] != row["b"] for row in lost)
    for rows in (gained, lost):
        confidences = [row["b_confidence"] for row in rows]
        assert confidences == sorted(confidences, reverse=True)


def test_mistakes_add_up() -> None:
    found = compare_versions(FRAME, SPEC, answers(0, 1.0), answers(1, 2.0))
    assert sum(cell["change"] for cell in found.confusions()) == found.lost - found.gained


def test_holm_is_between_bonferroni_and_no_correction() -> None:
    assert (holm([0.01, 0.04, 0.03, 0.005]) <= 0.05).tolist() == [True, False, False, True]
    assert (holm([0.02, 0.02]) <= 0.05).tolist() == [True, True]  # Bonferroni accepts as well, at 0.025
    assert (holm([0.03, 0.02]) <= 0.05).tolist() == [True, True]  # Bonferroni would not reject the first
    assert (holm([]) <= 0.05).tolist() == []


def test_the_page_shows_words_as_words_and_asks_for_nothing_outside() -> None:
    frame = FRAME.assign(text=[f"<script>alert({number})</script>" for number in range(ROWS)])
    a, b = answers(0, 1.0), answers(1, 1.5)
    found = compare_versions(frame, SPEC, a, b)
    about = {
        "task": "mood",
        "version_a": 6,
        "version_b": 7,
        "rows_of": "a <b>file</b>",
        "left_out": 3,
        "notes": ["x<y"],
    }
    made = page(about | found.as_dict(), *changed_rows(frame, SPEC.labels, a, b), b"png")
    assert "<script" not in made
    assert "&lt;script&gt;alert(" in made
    assert "a &lt;b&gt;file" in made
    assert "x&lt;y" in made
    assert 'src="data:image/png;base64,cG5n"' in made
    assert "http" not in made


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="one row of 3 probabilities"):
        compare_versions(FRAME, SPEC, answers(0, 1.0)[:-1], answers(1, 1.0))
