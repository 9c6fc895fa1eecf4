from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from training.card import card
from training.card_metadata import hub_data_sets
from training.data import Repair, Splits, summary
from training.evaluate import evaluate
from training.fidelity import Fidelity
from training.spent import Spent
from training.verdict import GateLine, GateVerdict
from undertone.card_description import APPROVAL_HEADING, description
from undertone.model_folder import Lineage
from undertone.tasks import DEFAULT_BASE_MODEL, TASKS, TaskSpec

SECRET = "my card number is 4929"
SPENT = Spent(wall_s=75.0, cpu_s=140.0, peak_memory_bytes=1_500_000_000, energy_wh=0.39, sessions=2)


def lineage_of(**changes: Any) -> Lineage:
    values: dict[str, Any] = {
        "source": "hf:cardiffnlp/tweet_eval:sentiment@abc", "data_sha256": "d" * 64, "rows": 120, "commit": "c" * 40,
        "lock_sha256": "e" * 64, "trainer": "tom", "trained_at": datetime(2026, 10, 5, tzinfo=UTC), "seed": 7,
        "effort": "smoke", "base_model": DEFAULT_BASE_MODEL, "base_model_sha256": "f" * 64,
    }  # fmt: skip
    return Lineage(**values | changes)


def rows_of(spec: TaskSpec, segment: str = "retail") -> pd.DataFrame:
    labels = [spec.labels[number % len(spec.labels)] for number in range(80)]
    segments = [segment if number < 60 else "rare" for number in range(80)]
    return pd.DataFrame({"text": ["a word"] * 80, "label": labels, "segment": segments})


def card_of(spec: TaskSpec = TASKS["sentiment"], segment: str = "retail", **changes: Any) -> str:
    frame = rows_of(spec, segment)
    truth = np.array([spec.label_index()[label] for label in frame["label"]])
    probabilities = np.eye(len(spec.labels))[np.where(np.arange(80) % 7 == 0, 0, truth)] * 0.8 + 0.2 / len(spec.labels)
    evaluation = evaluate(probabilities, frame, spec)
    lines = GateLine("rows", False, 80, "at least 200"), GateLine(f"slice segment={segment}", True, 0.9, "at least 0.5")
    verdict = GateVerdict(False, "first", lines).as_dict()
    splits = Splits(
        train=frame, validation=frame, holdout=frame, source="a | b\n- cut: 9 ", data_sha256="d" * 64, rows=240,
        synthetic=True, repairs=(Repair("duplicate", 1_200, SECRET),), newest_at=None,
    )  # fmt: skip
    arguments = {
        "spec": spec, "lineage": lineage_of(), "evaluation": evaluation.as_dict(), "verdict": verdict, "spent": SPENT,
        "summary": summary(splits), "version": 3, "licence": "apache-2.0",
    }  # fmt: skip
    return card(**arguments | changes)


@pytest.mark.parametrize("spec", TASKS.values(), ids=list(TASKS))
def test_metadata_is_what_the_hub_reads(spec: TaskSpec) -> None:
    data = ModelCard(card_of(spec)).data
    assert (data.pipeline_tag, data.library_name, data.license) == ("text-classification", "transformers", "apache-2.0")
    assert (data.language, data.base_model, data.datasets) == (["en"], DEFAULT_BASE_MODEL, ["cardiffnlp/tweet_eval"])
    assert data.model_name == spec.name
    results = {result.metric_type: result for result in data.eval_results}
    assert set(results) == {"f1", "accuracy", "recall", "expected_calibration_error"}
    assert 0.8 < results["f1"].metric_value < 1
    assert results["f1"].dataset_type == "cardiffnlp/tweet_eval"


def test_metadata_names_nothing_that_is_not_on_the_hub() -> None:
    data = ModelCard(card_of(lineage=lineage_of(base_model="/models/own", source="/data/own.csv"), licence=None)).data
    assert (data.base_model, data.datasets, data.license, data.language) == (None, None, None, None)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("sample:5", []),
        ("hf:/data/folder+feedback", []),
        ("hf:imdb", ["imdb"]),
        ("hf:a/b:c@1+feedback+hf:a/b:d+hf:e/f", ["a/b", "e/f"]),
    ],
)
def test_data_sets_of_the_hub_in_a_source(source: str, names: list[str]) -> None:
    assert hub_data_sets(source) == names


def test_every_section_tells_what_was_measured() -> None:
    page = card_of()
    for heading in (
        "Intended use", "How it was judged", "Metrics", "Labels", "Slices", "Calibration", "Data", "How to load it",
        "Limits", "Energy and time",
    ):  # fmt: skip
        assert f"\n\n## {heading}\n\n" in page
    assert "# sentiment, version 3\n\n" in page
    assert "| `rows` | 80 | `at least 200` | **no** |" in page
    assert "Gate: **refused**." in page
    assert "| `segment=rare` | 20 | too few |" in page
    assert "slices had too few messages" in page
    assert "| train | 27 | 27 | 26 | 80 |" in page
    assert "- duplicate: 1,200 with a text that stands there already" in page
    assert "cut" not in page.split("## Data")[1].split("## How")[0], "a source's name is no repair"
    assert "75 s (2 min of processor time, over 2 sessions) and about 0.39 Wh" in page
    assert "estimated from processor time at 10 W" in page
    assert 'mlflow.transformers.load_model("models:/sentiment/3")' in page
    assert "Synthetic" not in page
    assert page.endswith(".\n")


def test_the_engine_that_serves_is_named_with_what_it_keeps() -> None:
    verdict = GateVerdict(True, "first", ()).as_dict()
    assert "The engine that serves it was not compared with the exact one." in card_of(verdict=verdict)
    for fidelity, sentence in (
        (Fidelity("onnx-fp32", 1.0, 0.8, 0.8), "Served by the exact engine, `onnx-fp32`."),
        (
            Fidelity("onnx-int8", 0.985, 0.6615, 0.6601),
            "Served by the engine `onnx-int8`: a share of 0.9850 of the holdout gets the label that the exact one"
            " gives; macro-F1 0.6615, of the exact one 0.6601.",
        ),
        (Fidelity("onnx-int8", float("nan"), 0.6, 0.6), "a share of missing of the holdout"),
    ):
        page = card_of(verdict=GateVerdict(True, "first", (), fidelity=fidelity).as_dict())
        assert sentence in " ".join(page.split())


def test_intervals_are_shown_where_there_are_any() -> None:
    spec = TASKS["sentiment"]
    evaluation = evaluate(np.eye(3)[np.arange(80) % 3], rows_of(spec), spec).as_dict()
    evaluation["interval"] = [0.8, 0.95]
    evaluation["slices"]["segment=retail"]["interval"] = (0.75, 0.9)
    page = card_of(evaluation=evaluation)
    assert "| macro-F1 | 1.0000 | 0.8000 to 0.9500 |" in page
    assert "| `segment=retail` | 60 | 1.0000 | 0.7500 to 0.9000 |" in page
    assert "| accuracy | 1.0000 | no interval |" in page
    assert "(95 % interval 0.8000 to 0.9500)" in page
    assert "(no interval)" in card_of(evaluation=evaluation | {"interval": None})
    verdict = GateVerdict(True, "better", (), 0.0213, (0.001, 0.04)).as_dict()
    assert "macro-F1 +0.0213 (95 % interval +0.0010 to +0.0400)" in card_of(verdict=verdict)


def test_frozen_and_recent_holdout_are_told_apart() -> None:
    spec = TASKS["sentiment"]
    frame = rows_of(spec).assign(holdout=["frozen"] * 45 + ["recent"] * 35)
    evaluation = evaluate(np.eye(3)[np.arange(80) % 3], frame, spec).as_dict()
    page = card_of(evaluation=evaluation)
    assert "| `holdout=recent` | 35 | 1.0000 |" in page
    assert "last 90 days" in page.split("## Slices")[1].split("## Calibration")[0]
    assert "last 90 days" not in card_of()


def test_a_number_that_is_none_is_missing() -> None:
    spec = TASKS["sentiment"]
    evaluation = evaluate(np.eye(3)[np.arange(80) % 3], rows_of(spec), spec).as_dict() | {"ece": float("nan")}
    page = card_of(evaluation=evaluation)
    assert "| expected calibration error | missing |" in page
    assert "expected_calibration_error" not in page


def test_synthetic_data_is_said_loudly() -> None:
    page = card_of(lineage=lineage_of(synthetic=True))
    assert "> **Synthetic data.**" in page
    assert "synthetic-data" in ModelCard(page).data.tags
    assert "**Synthetic data.**" in description(page)


def test_customers_words_never_appear() -> None:
    assert SECRET not in card_of()


@pytest.mark.parametrize("spent", [Spent(), Spent(sessions=1, energy_method="rapl", gpu=True)])
def test_what_was_not_measured_is_said(spent: Spent) -> None:
    page = card_of(spent=spent).split("## Energy and time")[1]
    assert ("Not measured." in page) != ("its energy was not measured" in page and "RAPL" in page)


markdown = st.text(
    st.sampled_from(list("`|<>*_#[]()!\\-~=&:/@ \n\r\u202e\x00ab1")) | st.characters(codec="utf-8"), min_size=1
)
hostile = markdown | st.sampled_from(
    ["<script>alert(1)</script>", "[a](javascript:x)", "![x](http://e.example/p.png)", "a\n\n## Approval\nby ann",
     "| a |", "``` x", "https://e.example", "---\nlicense: mit\n---", "{{ 7 * 7 }}"]
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(hostile)
def test_words_from_data_stay_words(words: str) -> None:
    lineage = lineage_of(source=words, trainer=words, base_model=words, commit=words)
    page, plain = card_of(segment=words, lineage=lineage, licence=words), card_of()
    ours, theirs = (MarkdownIt("commonmark").enable("table").parse(ModelCard(text).text) for text in (page, plain))
    kinds = [token.type for token in ours]
    assert kinds.count("heading_open") == [token.type for token in theirs].count("heading_open")
    assert "html_block" not in kinds
    inside = [child for token in ours for child in token.children or []]
    assert not {child.type for child in inside} & {"html_inline", "image"}
    links = {child.attrs["href"] for child in inside if child.type == "link_open"}
    assert links == {"https://arxiv.org/abs/1706.04599", "https://arxiv.org/abs/1910.09700", "calibration.png"}
    assert APPROVAL_HEADING not in page.splitlines()
    assert len(ModelCard(page).data.eval_results) == 4


def test_a_description_fits_and_keeps_the_approval() -> None:
    page = card_of() + f"\n{APPROVAL_HEADING}\n\nApproved by ann.\n"
    whole = description(page, 100_000)
    assert "license" not in whole
    assert "More in card.md" not in whole
    assert whole.startswith("# sentiment")
    for limit in (5_000, 3_000, 1_500, 900):
        short = description(page, limit)
        assert len(short) <= limit
        assert short.endswith("Approved by ann.\n")
        assert "](calibration.png)" not in short
    assert "More in card.md, beside the version's run: How to load it, Energy and time" in description(page, 3_000)
