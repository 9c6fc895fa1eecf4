"""The report with the real Evidently, and windows read from real places."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from monitoring.drift import judge
from monitoring.policy import decide_retrain
from monitoring.report import CARRIERS, DOMAIN, write_report
from monitoring.windows import OTHER_VERSION, Window, current_window, read_reference, window
from undertone.errors import DataError
from undertone.model_folder import REFERENCE
from undertone.records import Message, Prediction, ScoredMessage
from undertone.store import Store
from undertone.tasks import get_task

SPEC = get_task("sentiment")
NOW = datetime(2026, 10, 12, tzinfo=UTC)
MARKER = "zzz-secret-customer-words"


def rows(seed: int, count: int = 600, shift: float = 0.0, **columns) -> list[dict]:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet([1, 1, 1], size=count)
    vectors = (random.normal(size=(count, 16)) + shift).astype("<f2")
    return [
        {
            "label": SPEC.labels[int(p.argmax())],
            "probabilities": p.tolist(),
            "confidence": float(p.max()),
            "length": int(random.integers(10, 200)),
            "channel": str(random.choice(["chat", "email"])),
            "segment": "starter",
            "embedding": vector.tobytes(),
        }
        | columns
        for p, vector in zip(probabilities, vectors, strict=True)
    ]


def report_on(reference: Window, current: Window, into: Path):
    verdict = judge(SPEC, reference, current, model_version=3, start=NOW - timedelta(days=7), end=NOW)
    decision = decide_retrain(SPEC.cadence, now=NOW, last_model_at=NOW - timedelta(days=20), verdict=verdict)
    return verdict, write_report(SPEC, reference, current, verdict, into, decision=decision, synthetic=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_evidently_imports() -> None:
    """Fails when pandas 3.1 or newer slips in (docs/decisions/0003-pins.md)."""
    import evidently

    assert evidently.__version__


def test_the_report_says_what_the_verdict_says(tmp_path: Path) -> None:
    verdict, files = report_on(window(rows(1), SPEC), window(rows(2, shift=0.5), SPEC), tmp_path)
    assert [path.name for path in files.paths()] == ["index.html", "report.json", "evidently.html"]
    content = json.loads(files.json.read_text())
    auc = next(signal.effect for signal in verdict.signals if signal.name == "embedding")
    metrics = content["evidently"]["metrics"]
    found = next(metric for metric in metrics if DOMAIN in json.dumps(metric.get("config", metric)))
    assert float(found["value"]) == pytest.approx(auc, abs=1e-6)
    tests = json.dumps(content["evidently"]["tests"])
    assert DOMAIN in tests
    assert content["verdict"]["verdict"] == "drifted"
    assert content["decision"] == {
        "retrain": True, "rule": "drift", "reason": content["decision"]["reason"], "days_since": 20.0
    }  # fmt: skip
    page = files.page.read_text()
    assert len(page) < 300_000
    for words in (
        "sentiment, version 3",
        "drifted",
        "Retrain.",
        f"{auc:.3f}",
        "Synthetic",
        "evidently.html",
        "600 messages",
    ):
        assert words in page
    assert "<script" not in page


@pytest.mark.parametrize(
    ("shift", "columns"),
    [
        (0.0, {}),
        (0.5, {}),
        (0.0, {"length": 150}),
        (0.0, {"label": "positive"}),
        (0.0, {"channel": "letter", "segment": "new"}),
    ],
    ids=["quiet", "topic", "length", "labels", "mix"],
)
def test_evidently_shows_our_numbers_and_our_decisions(tmp_path: Path, shift: float, columns: dict) -> None:
    verdict, files = report_on(window(rows(1), SPEC), window(rows(2, shift=shift, **columns), SPEC), tmp_path)
    found = json.loads(files.json.read_text())["evidently"]
    values = {metric["config"].get("column"): metric["value"] for metric in found["metrics"]}
    failed = {CARRIERS[s.name] for s in verdict.signals if s.fired}
    tested = {CARRIERS[s.name] for s in verdict.signals if not s.name.endswith(" mix")}
    for signal in verdict.signals:
        assert float(values[CARRIERS[signal.name]]) == pytest.approx(signal.effect, abs=1e-9)
    drift = {t["name"].removeprefix("Value Drift for column "): t["status"] for t in found["tests"][1:]}
    assert set(drift) == tested
    assert {name for name, status in drift.items() if status == "FAIL"} == failed
    assert files.html is not None
    assert files.html.read_text().count("Data drift detected") == len(failed)


def test_what_chance_explains_fails_nowhere(tmp_path: Path) -> None:
    """An effect over its floor with a p-value that chance explains: Evidently's own methods would fail it."""
    floors = SPEC.drift.model_copy(update={"length_wasserstein": 0.1, "confidence_wasserstein": 0.05})
    spec = SPEC.model_copy(update={"drift": floors})
    first, second = window(rows(1), spec), window(rows(2), spec)
    verdict = judge(spec, first, second, model_version=3, start=NOW, end=NOW)
    assert any(s.effect >= s.floor > 0 and not s.fired for s in verdict.signals)
    files = write_report(spec, first, second, verdict, tmp_path)
    assert {test["status"] for test in json.loads(files.json.read_text())["evidently"]["tests"]} == {"SUCCESS"}


def test_missing_embeddings_leave_gaps_and_the_same_number(tmp_path: Path) -> None:
    current = rows(2, shift=0.5)
    for row in current[:50]:
        row["embedding"] = None
    verdict, files = report_on(window(rows(1), SPEC), window(current, SPEC), tmp_path)
    metrics = json.loads(files.json.read_text())["evidently"]["metrics"]
    found = next(metric["value"] for metric in metrics if metric["config"].get("column") == DOMAIN)
    assert float(found) == pytest.approx(verdict.signals[0].effect, abs=1e-9)
    assert verdict.signals[0].name == "embedding"


@pytest.mark.parametrize("sizes", [(600, 1), (600, 499), (1, 600)])
def test_too_few_is_contradicted_by_no_green_test(tmp_path: Path, sizes: tuple[int, int]) -> None:
    verdict, files = report_on(window(rows(1, sizes[0]), SPEC), window(rows(2, sizes[1]), SPEC), tmp_path)
    assert verdict.verdict == "too_few"
    assert files.paths() == [files.page, files.json]
    assert json.loads(files.json.read_text())["evidently"] is None


def test_the_page_shows_the_segments_that_changed(tmp_path: Path) -> None:
    before, now = rows(1), rows(2)
    for index, row in enumerate(before):
        row["segment"] = f"an old and rather long segment {index % 20:02d}"
    for row in now:
        row["segment"] = "zebra"
    _, files = report_on(window(before, SPEC), window(now, SPEC), tmp_path)
    page = files.page.read_text()
    assert "zebra" in page
    assert "9 more are not shown" in page
    assert "an old and rather long segment 00" in page


@pytest.mark.parametrize(
    "columns",
    [{"channel": None, "segment": None}, {"embedding": None}, {"label": "positive"}, {"length": None}],
    ids=["no channels", "no embeddings", "one class", "no lengths"],
)
def test_one_bad_column_does_not_end_the_report(tmp_path: Path, columns: dict) -> None:
    _, files = report_on(window(rows(1), SPEC), window(rows(2, **columns), SPEC), tmp_path)
    assert files.html is not None
    assert files.html.stat().st_size > 100_000


def test_an_empty_window_is_reported_as_too_few(tmp_path: Path) -> None:
    verdict, files = report_on(window(rows(1), SPEC), window([], SPEC), tmp_path)
    assert verdict.verdict == "too_few"
    assert files.html is None
    assert "too few" in files.page.read_text()


def test_what_customers_name_is_escaped(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    _, files = report_on(window(rows(1), SPEC), window(rows(2, segment=evil), SPEC), tmp_path)
    assert evil not in files.page.read_text()
    assert "&lt;img" in files.page.read_text()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(f"sqlite:///{tmp_path / 'store.db'}")
    made.migrate()
    return made


def record(store: Store, count: int, version: int, prefix: str) -> None:
    scored = []
    for number, row in enumerate(rows(version, count)):
        name, sent_at = f"{prefix}{number}", NOW - timedelta(hours=number % 100 + 1)
        message = Message(name, f"{MARKER} {number}", "chat", "starter", None, sent_at, NOW)
        answer = Prediction(
            name, "sentiment", row["label"], tuple(row["probabilities"]), version, "d", NOW, row["embedding"]
        )
        scored.append(ScoredMessage(message, (answer,)))
    store.record(scored)


def test_a_window_from_the_store_holds_one_version_and_no_text(store: Store, tmp_path: Path) -> None:
    record(store, 550, 1, "old")
    record(store, 520, 2, "new")
    current = current_window(store, SPEC, NOW - timedelta(days=7), NOW, model_version=2)
    assert current.rows == 520
    assert current.left_out == {"scored by another version": 550}
    assert current.embeddings is not None
    assert current.embeddings.shape == (520, 16)
    assert set(current.frame["length"]) <= {float(len(f"{MARKER} {n}")) for n in (1, 10, 100)}
    verdict, files = report_on(window(rows(2), SPEC), current, tmp_path / "report")
    assert "550 scored by another version" in verdict.reason
    for path in files.paths():
        assert MARKER not in path.read_text()


def test_a_young_version_is_found_behind_an_older_ones_rows(store: Store) -> None:
    """The store samples before it knows of versions: a small share of the window is still enough."""
    record(store, 1_500, 1, "old")
    record(store, 700, 2, "new")
    spec = SPEC.model_copy(update={"drift": SPEC.drift.model_copy(update={"max_rows": 600})})
    bounds = NOW - timedelta(days=7), NOW
    current = current_window(store, spec, *bounds, model_version=2)
    assert current.rows == 600
    again = current_window(store, spec, *bounds, model_version=2)
    pd.testing.assert_frame_equal(current.frame, again.frame)
    assert current_window(store, spec, *bounds, model_version=3).left_out == {OTHER_VERSION: 2_200}


def test_a_large_reference_is_sampled_alike_each_time(tmp_path: Path) -> None:
    path = tmp_path / REFERENCE
    path.parent.mkdir(parents=True)
    pd.DataFrame(rows(1, 900)).to_parquet(path)
    spec = SPEC.model_copy(update={"drift": SPEC.drift.model_copy(update={"max_rows": 600})})
    first, second = read_reference(tmp_path, spec), read_reference(tmp_path, spec)
    assert first.rows == 600
    pd.testing.assert_frame_equal(first.frame, second.frame)


def test_windows_partition_time(store: Store) -> None:
    record(store, 300, 1, "m")
    start, end = NOW - timedelta(hours=100), NOW
    middle = start + timedelta(hours=37)
    whole, first, second = (
        current_window(store, SPEC, *bounds, model_version=1).rows
        for bounds in ((start, end), (start, middle), (middle, end))
    )
    assert whole == first + second == 300


def test_a_reference_round_trips_and_a_broken_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / REFERENCE
    with pytest.raises(DataError, match="undertone train sentiment"):
        read_reference(tmp_path, SPEC)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not parquet")
    with pytest.raises(DataError):
        read_reference(tmp_path, SPEC)
    pd.DataFrame(rows(1)).drop(columns="channel").to_parquet(path)
    with pytest.raises(DataError):
        read_reference(tmp_path, SPEC)
    pd.DataFrame(rows(1)).to_parquet(path)
    reference = read_reference(tmp_path, SPEC)
    assert (reference.rows, reference.embeddings.shape) == (600, (600, 16))
