from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluate import (
    draw_calibration,
    draw_confusion,
    evaluate,
    expected_calibration_error,
    macro_f1,
    write_reference,
)
from undertone.engine import Scores
from undertone.errors import DataError
from undertone.model_folder import REFERENCE_COLUMNS, REFERENCE_TERMS
from undertone.tasks import TaskSpec

SPEC = TaskSpec(name="mood", labels=("sad", "glad", "calm"))


def frame_of(labels, **columns) -> pd.DataFrame:
    return pd.DataFrame({"text": ["word"] * len(labels), "label": labels, **columns})


def certain(predicted: list[int]) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[predicted]


def test_scores_of_a_small_case_worked_by_hand():
    # sad: 2 rows, 1 found; glad: 2 rows, both found, 1 false call; calm: 1 row found
    found = evaluate(certain([0, 1, 1, 1, 2]), frame_of(["sad", "sad", "glad", "glad", "calm"]), SPEC)
    assert found.rows == 5
    assert found.accuracy == pytest.approx(4 / 5)
    assert found.macro_recall == pytest.approx((0.5 + 1 + 1) / 3)
    assert found.macro_f1 == pytest.approx((2 / 3 + 4 / 5 + 1) / 3)
    assert found.per_class["glad"] == pytest.approx({"precision": 2 / 3, "recall": 1, "f1": 0.8, "support": 2})
    assert found.confusion == ((1, 1, 0), (0, 2, 0), (0, 0, 1))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60))
def test_scores_agree_with_scikit_learn(pairs):
    from sklearn.metrics import f1_score, recall_score

    truth, predicted = map(list, zip(*pairs, strict=True))
    options = {"labels": [0, 1, 2], "average": "macro", "zero_division": 0}
    found = evaluate(certain(predicted), frame_of([SPEC.labels[index] for index in truth]), SPEC)
    assert found.macro_f1 == pytest.approx(f1_score(truth, predicted, **options))
    assert found.macro_recall == pytest.approx(recall_score(truth, predicted, **options))
    assert macro_f1(np.array(truth), np.array(predicted), 3) == found.macro_f1


def test_calibration_error_of_a_case_worked_by_hand():
    # Two rows at .9 with one right (gap .4), two at .6 with both right (gap .4): 0.4
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    assert expected_calibration_error(probabilities, np.array([0, 1, 0, 1])) == pytest.approx(0.4)
    # Rows of one bin are averaged before the gap is taken: .89 wrong and .90 right are in one bin
    probabilities = np.array([[0.88, 0.12], [0.92, 0.08]])
    assert expected_calibration_error(probabilities, np.array([0, 1])) == pytest.approx(0.4)


def test_certainty_that_is_right_has_no_calibration_error():
    assert expected_calibration_error(certain([0, 1, 2]), np.array([0, 1, 2])) == 0.0


def test_probabilities_that_are_no_numbers_give_no_calibration_error():
    probabilities = np.array([[np.nan, 0.5], [0.5, 0.5]])
    assert math.isnan(expected_calibration_error(probabilities, np.array([0, 1])))


def test_slices_partition_the_rows_and_small_ones_have_no_score():
    labels = ["sad", "glad"] * 40
    texts = ["one two"] * 31 + ["w " * 15] * 31 + ["w " * 40] * 18
    frame = frame_of(labels, channel=["chat"] * 50 + ["mail"] * 29 + [None], segment=[None] * 80)
    found = evaluate(certain([0, 1] * 40), frame.assign(text=texts), SPEC)
    assert {name: entry["rows"] for name, entry in found.slices.items()} == {
        "channel=chat": 50,
        "channel=mail": 29,
        "length=short": 31,
        "length=medium": 31,
        "length=long": 18,
    }
    assert found.slices["channel=chat"] == {"rows": 50, "macro_f1": 1.0, "interval": [1.0, 1.0], "too_few": False}
    assert found.slices["channel=mail"] == {"rows": 29, "macro_f1": None, "interval": None, "too_few": True}


def test_the_interval_holds_the_score_and_does_not_depend_on_the_order_of_rows():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 2, 300)
    predicted = np.where(generator.random(300) < 0.2, 1 - truth, truth)
    frame = frame_of([SPEC.labels[index] for index in truth]).assign(text=[f"text {n}" for n in range(300)])
    found = evaluate(certain(predicted.tolist()), frame, SPEC)
    low, high = found.interval
    assert low < found.macro_f1 < high
    assert high - low == pytest.approx(4 * (2 / 3) * np.sqrt(0.2 * 0.8 / 300), rel=0.15)
    order = generator.permutation(300)
    assert evaluate(certain(predicted[order].tolist()), frame.iloc[order], SPEC).interval == found.interval


def test_metrics_are_flat_floats_under_names_that_mlflow_takes():
    from mlflow.utils.validation import _validate_metric_name

    frame = frame_of(["sad", "glad"] * 20, channel=["e-mail: VIP!"] * 40)
    values = evaluate(certain([0, 1] * 20), frame, SPEC).metrics()
    assert values["macro_f1"] == pytest.approx(2 / 3)
    assert values["f1.sad"] == 1.0
    assert all(type(value) is float for value in values.values())
    assert [name for name in values if name.startswith("slice.channel.")]
    for name in values:
        _validate_metric_name(name)


def test_an_evaluation_is_plain_json():
    found = evaluate(certain([0, 1]), frame_of(["sad", "glad"]), SPEC)
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False)) == found.as_dict()


@pytest.mark.parametrize(
    ("probabilities", "labels"), [(certain([0]), ["sad", "glad"]), (certain([]), []), (certain([0]), ["furious"])]
)
def test_rows_that_do_not_fit_are_refused(probabilities, labels):
    with pytest.raises(DataError):
        evaluate(probabilities, frame_of(labels), SPEC)


def test_pictures_are_drawn(tmp_path):
    found = evaluate(certain([0, 1, 2, 2]), frame_of(["sad", "glad", "calm", "sad"]), SPEC)
    pictures = [
        draw_confusion(found, SPEC, tmp_path / "new" / "confusion.png"),
        draw_calibration(np.array([[0.7, 0.2, 0.1]] * 4), np.array([0, 1, 2, 0]), tmp_path / "calibration.png"),
    ]
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_reference_holds_predictions_and_no_text(tmp_path):
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], dtype=np.float32)
    embeddings = np.array([[1.5, -2.25], [0.0, 3.0]], dtype=np.float32)
    scores = Scores(probabilities, probabilities, embeddings, np.zeros(2, dtype=np.bool_))
    frame = frame_of(["sad", "glad"], channel=["chat", None]).assign(text=["secret!", "né"])
    table = pd.read_parquet(write_reference(tmp_path, frame, scores, SPEC))
    assert tuple(table.columns) == REFERENCE_COLUMNS
    assert table["label"].tolist() == ["sad", "calm"]
    assert table["length"].tolist() == [7, 2]
    assert table["channel"].isna().tolist() == [False, True]
    assert table["segment"].isna().all()
    assert table["confidence"].tolist() == pytest.approx([0.7, 0.8])
    assert np.array_equal(np.vstack([np.frombuffer(value, "<f2") for value in table["embedding"]]), embeddings)
    assert table["truth"].tolist() == ["sad", "glad"]
    assert table["words"].tolist() == [1, 1]
    assert table["marks"].tolist() == pytest.approx([1 / 7, 0])
    assert table["language"].isna().all()
    for file in (tmp_path / "undertone").iterdir():
        assert b"secret" not in file.read_bytes()


def test_the_reference_knows_form_and_language_of_its_texts(tmp_path):
    texts = ["The parcel NEVER arrived, sadly.", "Die Lieferung kam leider viel zu spät an!"]
    scores = Scores(certain([0, 1]), certain([0, 1]), certain([0, 1]), np.zeros(2, dtype=np.bool_))
    table = pd.read_parquet(write_reference(tmp_path, frame_of(["sad", "glad"]).assign(text=texts), scores, SPEC))
    assert table["language"].tolist() == ["en", "de"]
    assert table["words"].tolist() == [5, 8]
    assert table["upper"].tolist() == pytest.approx([6 / 26, 2 / 33])


def test_reference_terms_are_words_of_five_rows_and_more_the_most_frequent_first(tmp_path):
    texts = ["late late refund"] * 5 + ["late parcel"] * 4 + ["a refund"] * 2
    scores = Scores(certain([0] * 11), certain([0] * 11), certain([0] * 11), np.zeros(11, dtype=np.bool_))
    write_reference(tmp_path, frame_of(["sad"] * 11).assign(text=texts), scores, SPEC)
    found = json.loads((tmp_path / REFERENCE_TERMS).read_text(encoding="utf-8"))
    assert found == {"rows": 11, "shares": {"late": 9 / 11, "refund": 7 / 11}}
    assert list(found["shares"]) == ["late", "refund"]


def test_a_reference_of_other_rows_is_refused(tmp_path):
    scores = Scores(certain([0]), certain([0]), certain([0]), np.zeros(1, dtype=np.bool_))
    with pytest.raises(DataError):
        write_reference(tmp_path, frame_of(["sad", "glad"]), scores, SPEC)
