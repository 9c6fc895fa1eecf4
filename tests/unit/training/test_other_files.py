"""Training files beside the one reported on: the same labels stay, other labels go."""

import random

import pandas as pd
import pytest

from training.data import load
from undertone.tasks import get_task

WORDS = {
    "sarcastic": ["sure", "great", "thanks", "brilliant", "wow", "amazing", "genius", "super"],
    "not_sarcastic": ["parcel", "invoice", "arrived", "monday", "order", "number", "address", "please"],
}
FILLING = ["the", "a", "my", "it", "was", "with", "today", "about", "for", "this", "team", "shop", "again"]


def rows(count: int, seed: int, *, swapped: bool = False) -> pd.DataFrame:
    draw, made = random.Random(seed), []
    for number in range(count):
        label = ("sarcastic", "not_sarcastic")[number % 2]
        words = [draw.choice(WORDS[label]), *draw.choices(FILLING, k=6), f"n{seed}x{number}"]
        draw.shuffle(words)
        told = ({"sarcastic", "not_sarcastic"} - {label}).pop() if swapped else label
        made.append({"text": " ".join(words), "label": told})
    return pd.DataFrame(made)


@pytest.mark.parametrize("swapped", [True, False], ids=["other labels", "the same labels"])
def test_a_file_stays_where_its_labels_mean_the_same(tmp_path, swapped: bool) -> None:
    rows(400, 1).to_csv(tmp_path / "train.csv", index=False)
    rows(100, 2).to_csv(tmp_path / "val.csv", index=False)
    rows(300, 3, swapped=swapped).to_csv(tmp_path / "more_train.csv", index=False)
    table = load(str(tmp_path), get_task("sarcasm"))
    repairs = {repair.name: repair.count for repair in table.repairs}
    assert repairs.get("other_labels", 0) == (300 if swapped else 0)
    assert len(table.rows) == (500 if swapped else 800)


def test_files_without_one_that_is_reported_on_all_stay(tmp_path) -> None:
    rows(400, 1).to_csv(tmp_path / "train.csv", index=False)
    rows(300, 3, swapped=True).to_csv(tmp_path / "more_train.csv", index=False)
    assert len(load(str(tmp_path), get_task("sarcasm")).rows) == 700
