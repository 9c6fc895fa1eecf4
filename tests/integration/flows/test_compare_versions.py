"""`undertone models compare` and `undertone labels`, through the command line."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from training.data import load, split
from training.seen import splits_of
from undertone.errors import ConfigError, DataError, RegistryError
from undertone.model_folder import Lineage, ModelCardData
from undertone.registry import ModelVersion
from undertone.tasks import get_task

SPEC = get_task("sentiment")
WORDS = {"negative": "bad", "neutral": "parcel", "positive": "good"}


@pytest.fixture
def messages(tmp_path: Path) -> Path:
    """600 messages, each of words of its own."""
    rows = [
        {
            "text": f"{word} {word} {word} {_word(number)} {_word(number * 7)} {label[0]}",
            "label": label,
            "channel": "chat",
        }
        for number in range(200)
        for label, word in WORDS.items()
    ]
    path = tmp_path / "messages.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def _word(number: int) -> str:
    """A word of letters: digits say nothing when texts are told apart."""
    return "".join(chr(ord("a") + int(digit)) for digit in f"{number:04d}")


def of(data: Path, seed: int = 7, **changes: Any) -> Callable[[Path], None]:
    """Write into a model folder that it was trained on `data`."""

    def edit(folder: Path) -> None:
        card = ModelCardData.read(folder)
        made = split(load(str(data), SPEC), SPEC, seed)
        known = {"source": str(data), "seed": seed, "data_sha256": made.data_sha256, "rows": made.rows} | changes
        lineage = Lineage.model_validate(card.lineage.model_dump() | known)
        card.model_copy(update={"lineage": lineage}).write(folder)

    return edit


def test_two_versions_meet_on_the_holdout_that_neither_saw(
    undertone: Callable[..., Any], register: Callable[..., ModelVersion], messages: Path, tmp_path: Path
) -> None:
    register(edit=of(messages))
    register(edit=of(messages))
    out = tmp_path / "report"
    found = undertone("models", "compare", "sentiment", "1", "2", "--out", str(out), "--json")
    holdout = split(load(str(messages), SPEC), SPEC, 7).holdout
    assert (found["rows"], found["left_out"], found["notes"]) == (len(holdout), 0, [])
    assert found["gained"] + found["lost"] + found["both_wrong"] <= found["rows"]
    assert {path.name for path in out.iterdir()} == {
        *("report.html", "calibration.png", "compare.json", "gained.csv", "lost.csv")
    }
    assert len(pd.read_csv(out / "gained.csv")) == found["gained"]
    said = undertone("models", "compare", "sentiment", "2", "1")
    assert "sentiment 1 beside 2" in said
    assert "channel=chat" in said


def test_rows_that_a_version_learned_from_are_left_out_and_told(
    undertone: Callable[..., Any], register: Callable[..., ModelVersion], messages: Path
) -> None:
    register(edit=of(messages, seed=1))
    register(edit=of(messages, seed=2))
    everything = ("models", "compare", "sentiment", "1", "2", "--source", str(messages), "--json")
    table = load(str(messages), SPEC)
    found = undertone(*everything, "--keep-seen")
    assert (found["rows"], found["left_out"], len(found["notes"])) == (len(table.rows), 0, 2)
    with pytest.raises(DataError, match="30 rows that neither version has seen"):
        undertone(*everything)


def test_changed_data_is_refused_and_a_file_stands_in(
    undertone: Callable[..., Any], register: Callable[..., ModelVersion], messages: Path
) -> None:
    register(edit=of(messages, data_sha256="0" * 64))
    register(edit=of(messages, source=str(messages.with_name("gone.csv"))))
    for pair, word in ((("1", "2"), "nothing there"), (("2", "1"), "nothing there")):
        with pytest.raises(DataError, match=word):
            undertone("models", "compare", "sentiment", *pair)
    found = undertone("models", "compare", "sentiment", "1", "2", "--source", str(messages), "--json")
    assert found["rows"] == 600
    assert [note.split(" saw")[0] for note in found["notes"]] == [
        f"nobody can tell which rows version {version}" for version in (1, 2)
    ]
    with pytest.raises(ConfigError, match="two versions"):
        undertone("models", "compare", "sentiment", "1", "1")
    with pytest.raises(RegistryError, match="version 9"):
        undertone("models", "compare", "sentiment", "1", "9")


def test_a_changed_row_changes_the_fingerprint(messages: Path, tmp_path: Path) -> None:
    made = split(load(str(messages), SPEC), SPEC, 7)
    lineage = Lineage(
        source=str(messages), data_sha256=made.data_sha256, rows=made.rows, commit="c", lock_sha256="l", trainer="tom",
        trained_at="2026-10-05T00:00:00Z", seed=7, effort="smoke", base_model="b", base_model_sha256="s",
    )  # fmt: skip
    assert splits_of("sentiment 1", lineage, SPEC).holdout["text"].tolist() == made.holdout["text"].tolist()
    messages.write_text(messages.read_text().replace("aaad ", "aaadx ", 1))
    with pytest.raises(DataError, match="have changed since"):
        splits_of("sentiment 1", lineage, SPEC)


def test_suspected_labels_are_reviewed_and_come_back(
    undertone: Callable[..., Any], messages: Path, tiny_base_model: Path, tmp_path: Path
) -> None:
    frame = pd.read_csv(messages)
    wrong = frame.index[5:600:31]
    frame.loc[wrong, "label"] = frame.loc[wrong, "label"].map(
        {"negative": "positive", "neutral": "negative", "positive": "negative"}
    )
    frame.loc[0, "text"] = '=bad, "bad"\r\nNA'
    frame.to_csv(messages, index=False)
    review, out = tmp_path / "review.csv", tmp_path / "corrected"
    found = undertone(
        "labels", "check", "sentiment", "--source", str(messages), "--base-model", str(tiny_base_model),
        "--out", str(review), "--seed", "3", "--folds", "3", "--json",
    )  # fmt: skip
    before = split(load(str(messages), SPEC), SPEC, 3)
    assert found["checked"] == len(before.train)
    planted = set(frame.loc[wrong, "text"]) & set(before.train["text"])
    shown = planted & {row["text"] for row in found["rows"]}
    assert len(shown) / len(found["rows"]) > 5 * len(planted) / found["checked"]
    for row in found["rows"]:
        assert frame.loc[row["row"] - 1, "text"] == row["text"]

    with review.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    truth = {text: next(label for label, word in WORDS.items() if word in text.split()) for text in planted}
    for row in rows:
        row["label"] = truth.get(row["text"], "")
    dropped = rows[-1]
    dropped["label"] = "drop"
    with review.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    told = undertone(
        "labels", "apply", "sentiment", str(review), "--source", str(messages), "--out", str(out), "--json"
    )
    after = split(load(told["source"], SPEC), SPEC, 3)
    relabelled = {row["text"] for row in rows if row["label"] in SPEC.labels}
    assert (told["changed"], told["dropped"], told["unknown"]) == (len(relabelled), 1, 0)
    columns = ["text", "label", "channel"]
    assert after.holdout[columns].equals(before.holdout[columns])
    labels = dict(zip(after.train["text"], after.train["label"], strict=True))
    assert all(labels[text] == truth[text] for text in relabelled)
    same = {text: label for text, label in zip(before.train["text"], before.train["label"], strict=True)
            if text not in relabelled and text != dropped["text"]}  # fmt: skip
    assert labels == same | {text: truth[text] for text in relabelled}
    with pytest.raises(ConfigError, match="a new folder"):
        undertone("labels", "apply", "sentiment", str(review), "--source", str(messages), "--out", str(out))


def test_a_blind_file_tells_nothing_and_a_version_answers_for_rows_it_has_not_seen(
    undertone: Callable[..., Any], register: Callable[..., ModelVersion], messages: Path, tmp_path: Path
) -> None:
    half = pd.read_csv(messages)
    half.iloc[:300].to_csv(tmp_path / "half.csv", index=False)
    register(edit=of(tmp_path / "half.csv"))
    review = tmp_path / "review.csv"
    found = undertone(
        "labels", "check", "sentiment", "--source", str(messages), "--version", "1", "--blind", "--out", str(review),
        "--json",
    )  # fmt: skip
    known = split(load(str(tmp_path / "half.csv"), SPEC), SPEC, 7)
    learned = set(known.train["text"]) | set(known.validation["text"])
    assert found["left_out"] > 0
    assert not learned & {row["text"] for row in found["rows"]}
    assert {"given_label", "suggested_label"}.isdisjoint(review.read_text().splitlines()[0].split(","))
