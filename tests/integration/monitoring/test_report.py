"""The report with the real Evidently, and windows read from real places."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from monitoring.audit import AuditResult
from monitoring.drift import judge
from monitoring.estimate import Estimate
from monitoring.evidently_tests import COLUMNS, columns
from monitoring.policy import Asked, RetrainDecision
from monitoring.report import Past, Story, keep_run, write_report
from monitoring.terms import Term
from monitoring.windows import Window, current_window, window
from undertone.form import FORM
from undertone.records import DriftVerdict, Finding, Message, Prediction, ScoredMessage
from undertone.store import Store
from undertone.tasks import get_task

SPEC = get_task("sentiment")
NOW = datetime(2026, 10, 12, tzinfo=UTC)
MARKER = "zzz-secret-customer-words"
DECISION = RetrainDecision(True, "audited drop", "an audit confirms it", 20.0, policy_sha256="fedcba987654" + "3" * 52)


def rows(seed: int, count: int = 600, shift: float = 0.0, **columns) -> list[dict]:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet([1, 1, 1], size=count)
    vectors = (random.normal(size=(count, 16)) + shift).astype("<f2")
    return [
        {
            "message_id": f"m{number}",
            "label": SPEC.labels[int(p.argmax())],
            "probabilities": p.tolist(),
            "confidence": float(p.max()),
            "length": int(random.integers(10, 200)),
            "words": int(random.integers(2, 40)),
            "upper": float(random.random() * 0.2),
            "marks": float(random.random() * 0.1),
            "language": "en",
            "channel": str(random.choice(["chat", "email"])),
            "segment": "starter",
            "embedding": vector.tobytes(),
        }
        | columns
        for number, (p, vector) in enumerate(zip(probabilities, vectors, strict=True))
    ]


def side(seed: int, *, right: float | None = None, **columns) -> Window:
    """A window; `right`: the share of answers that an import agreed with, which counts as late label and as review."""
    made = rows(seed, **columns)
    if right is not None:
        for number, row in enumerate(made):
            agreed = number < right * len(made)
            row["truth"] = row["label"] if agreed else next(word for word in SPEC.labels if word != row["label"])
            row["origin"] = "import"
    return window(made, SPEC)


def report_on(reference: Window, current: Window, into: Path, story: Story | None = None, **options):
    verdict = judge(SPEC, reference, current, model_version=3, start=NOW - timedelta(days=7), end=NOW)
    story = Story(DECISION, synthetic=True) if story is None else story
    return verdict, write_report(SPEC, reference, current, verdict, into, story=story, **options)


def evidently_agrees(verdict: DriftVerdict, content: dict) -> None:
    """Every signal's effect stands in Evidently's metrics; its test fails where the signal counts and only there."""
    assert content["evidently_problem"] == ""
    values = {metric["config"].get("column"): metric["value"] for metric in content["evidently"]["metrics"]}
    tests = {
        test["name"].removeprefix("Value Drift for column "): test["status"]
        for test in content["evidently"]["tests"][1:]
    }
    expected = {}
    for signal in verdict.signals:
        segment = f", segment {signal.segment}" if signal.segment else ""
        names = [f"{name}{segment}" for name in (FORM if signal.name == "form" else [COLUMNS[signal.name]])]
        (tested,) = [name for name in names if name in tests]
        assert float(values[tested]) == pytest.approx(signal.effect, abs=1e-9)
        expected[tested] = "FAIL" if signal.fired else "SUCCESS"
    assert tests == expected


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_evidently_imports() -> None:
    """Fails when pandas 3.1 or newer slips in (docs/decisions/0003-pins.md)."""
    import evidently

    assert evidently.__version__


def test_the_report_says_what_the_verdict_says(tmp_path: Path) -> None:
    current = rows(2, shift=0.5)
    for row in current[:50]:
        row["embedding"] = None  # gaps that one signal does not see
    verdict, files = report_on(side(1), window(current, SPEC), tmp_path)
    assert [path.name for path in files.paths()] == ["index.html", "report.json", "evidently.html"]
    content = json.loads(files.json.read_text())
    evidently_agrees(verdict, content)
    auc = next(signal.effect for signal in verdict.signals if signal.name == "embedding")
    assert content["verdict"]["verdict"] == verdict.verdict == "warn"
    assert content["verdict"]["level"] == verdict.level == "severe"
    assert content["story"]["decision"]["rule"] == "audited drop"
    assert files.html is not None
    assert files.html.read_text().count("Data drift detected") == sum(signal.fired for signal in verdict.signals)
    page = files.page.read_text()
    assert len(page.encode()) < 300_000
    for words in (
        "sentiment, version 3",
        'class="tag warn">warn<',
        "Retrain.",
        "audited drop",
        "An audit confirms it.",
        "fedcba987654<",
        verdict.policy_sha256[:12],
        f"{auc:.3f}",
        "Synthetic",
        "evidently.html",
        "600 messages",
        "20 days since training",
    ):
        assert words in page
    assert "<script" not in page


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"right": 0.9}, {"right": 0.9}, set()),
        ({}, {"length": 150, "label": "positive"}, {"form", "labels"}),
        (
            {"right": 0.9},
            {"right": 0.5, "channel": "letter", "segment": "new"},
            {"channels", "segments", "late labels", "disagreement"},
        ),
    ],
    ids=["quiet", "form and labels", "mixes and late labels"],
)
def test_evidently_shows_our_numbers_and_our_decisions(
    tmp_path: Path, before: dict, now: dict, expected: set[str]
) -> None:
    verdict, files = report_on(side(1, **before), side(2, **now), tmp_path)
    evidently_agrees(verdict, json.loads(files.json.read_text()))
    assert {signal.name for signal in verdict.signals if signal.fired} == expected


def test_what_chance_explains_fails_nowhere(tmp_path: Path) -> None:
    """Effects over their floors, with p-values that chance explains, one of them only after Holm's correction."""
    first, second = side(1), side(2, shift=0.09)
    low = {name: floor.model_copy(update={"warn": 0.0}) for name, floor in SPEC.drift.floors.items()}
    verdict = judge(SPEC, first, second, model_version=3, start=NOW, end=NOW, floors=low)
    mmd = next(signal for signal in verdict.signals if signal.name == "mmd")
    between = SPEC.drift.model_copy(update={"alpha": (mmd.p_value + mmd.adjusted_p) / 2, "floors": low})
    spec = SPEC.model_copy(update={"drift": between})
    verdict = judge(spec, first, second, model_version=3, start=NOW, end=NOW)
    assert not next(signal for signal in verdict.signals if signal.name == "mmd").fired
    assert mmd.p_value < between.alpha
    assert sum(s.effect >= s.floor and not s.fired for s in verdict.signals) > 3
    files = write_report(spec, first, second, verdict, tmp_path)
    evidently_agrees(verdict, json.loads(files.json.read_text()))


def test_segments_that_fired_have_their_tests(tmp_path: Path) -> None:
    before, now = rows(1), rows(2)
    for number, row in enumerate([*before, *now]):
        row["segment"] = "pro" if number % 3 else "starter"
        if number >= len(before) and row["segment"] == "pro":
            row["length"] = row["length"] * 3
    verdict, files = report_on(window(before, SPEC), window(now, SPEC), tmp_path)
    assert {(signal.name, signal.segment) for signal in verdict.signals if signal.segment} == {("form", "pro")}
    evidently_agrees(verdict, json.loads(files.json.read_text()))
    assert "Those that fired" in files.page.read_text()


def test_a_model_without_an_encoder_is_tested_by_its_words_and_keeps_none(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    texts = tuple(
        [f"{MARKER} {' '.join(random.choice(words, 6))}" for _ in range(600)]
        for words in (["bill", "paid", "late", "cost", "plan"], ["flight", "gate", "late", "seat", "plan"])
    )
    first, second = side(1, embedding=None), side(2, embedding=None)
    verdict = judge(SPEC, first, second, model_version=3, start=NOW, end=NOW, texts=texts)
    files = write_report(SPEC, first, second, verdict, tmp_path, texts=texts)
    assert any(signal.name == "text" and signal.fired for signal in verdict.signals)
    evidently_agrees(verdict, json.loads(files.json.read_text()))
    for path in files.paths():
        assert MARKER not in path.read_text()
    assert COLUMNS["text"] not in [shown.column for shown in columns(SPEC, first, second, verdict)]


def test_counts_are_of_all_rows_where_the_frame_is_a_sample(tmp_path: Path) -> None:
    current = replace(
        side(2),
        total=90_000,
        counts={"label": {"negative": 80_000, "positive": 10_000}, "channel": {"fax": 3}, "segment": {}},
        labelled=(20_000, 30_000),
    )
    verdict, files = report_on(replace(side(1), labelled=(560, 600)), current, tmp_path)
    evidently_agrees(verdict, json.loads(files.json.read_text()))
    page = files.page.read_text()
    for words in ("90,000 messages", "600 of them tested", "88.9 %", "This window has none of them"):
        assert words in page


@pytest.mark.parametrize("sizes", [(600, 1), (600, 499), (1, 600), (600, 0), (0, 600), (0, 0)])
def test_too_few_is_contradicted_by_no_green_test(tmp_path: Path, sizes: tuple[int, int]) -> None:
    verdict, files = report_on(side(1, count=sizes[0]), side(2, count=sizes[1]), tmp_path)
    assert verdict.verdict == "too_few"
    assert files.paths() == [files.page, files.json]
    assert json.loads(files.json.read_text())["evidently"] is None
    assert ">too few<" in files.page.read_text()


def test_the_page_shows_the_segments_that_changed(tmp_path: Path) -> None:
    before, now = rows(1, 40), rows(2, 40)  # too few for Evidently; the page counts them all the same
    for index, row in enumerate(before):
        row["segment"] = f"an old and rather long segment {index % 20:02d}"
    for row in now:
        row["segment"] = "zebra"
    _, files = report_on(window(before, SPEC), window(now, SPEC), tmp_path)
    page = files.page.read_text()
    assert "New, unknown to the reference: <strong>zebra</strong>" in page
    assert "9 more are not shown" in page
    assert "an old and rather long segment 00" in page


@pytest.mark.parametrize(
    "gone",
    [
        {"channel": None, "segment": None, "embedding": np.ones(8, "<f2").tobytes(), "length": None},
        {"embedding": None, **dict.fromkeys(FORM)},
    ],
    ids=["no channels, no lengths, vectors of another width", "no embeddings, no form"],
)
def test_what_one_side_lacks_does_not_end_the_report(tmp_path: Path, gone: dict) -> None:
    verdict, files = report_on(side(1), side(2, **gone), tmp_path)
    assert files.html is not None
    assert files.html.stat().st_size > 100_000
    evidently_agrees(verdict, json.loads(files.json.read_text()))


def test_two_windows_of_one_and_the_same_row_are_reported(tmp_path: Path) -> None:
    same = window([{**rows(1, 1)[0], "length": 5}] * 600, SPEC)
    verdict, files = report_on(same, same, tmp_path)
    assert verdict.verdict == "stable"
    evidently_agrees(verdict, json.loads(files.json.read_text()))


def test_a_report_without_evidently_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A workspace that cannot be made stops Evidently's part, and neither the page nor the watch."""
    (tmp_path / "file").write_text("in the way")
    verdict, files = report_on(side(1), side(2), tmp_path / "out", evidently_workspace=tmp_path / "file" / "workspace")
    assert files.html is None
    assert "Evidently's report could not be made: NotADirectoryError" in files.page.read_text()
    assert json.loads(files.json.read_text())["verdict"]["verdict"] == verdict.verdict
    assert "could not be made" in caplog.text


def test_what_customers_name_is_escaped_and_cut(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    history = [Past(NOW - timedelta(hours=n), "act", "act", 600, {"embedding": 0.7}) for n in range(2_000, 0, -1)]
    story = Story(
        replace(DECISION, reason=evil * 900, rule=evil),
        history=tuple(history),
        approver=evil,
        overrides=(Asked(evil, evil, NOW),),
        terms=(Term(evil, 0.1, 0.2, 5.0),),
        examples=(evil,),
    )
    now = rows(2)
    for number, row in enumerate(now):
        row["segment"] = row["channel"] = evil if number % 2 else f"{number}" * 2_000
    current = window(now, SPEC)
    verdict = judge(SPEC, side(1), current, model_version=3, start=NOW, end=NOW)
    found = Finding("missing", evil, evil, 1.0, 0.2)
    verdict = replace(verdict, quality=(found,), reason=evil, vanished_segments=(evil,))
    files = write_report(SPEC, side(1), current, verdict, tmp_path, story=story)
    page = files.page.read_text()
    assert len(page.encode()) < 300_000
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;img" in page
    evidently_agrees(verdict, json.loads(files.json.read_text()))
    assert files.html is not None
    assert "<script>alert" not in files.html.read_text()
    assert "<img src=x" not in files.html.read_text()


AUDIT = AuditResult(
    "sentiment", 3, 400, 400, True, 0.68, 0.66, 0.73, 0.72, 0.05, (0.02, 0.08), 0.06, (0.03, 0.09), True,
    NOW - timedelta(days=9), NOW - timedelta(days=3),
)  # fmt: skip
RULED_OUT = replace(AUDIT, accuracy_interval=(-0.02, 0.03), macro_f1_interval=(-0.02, 0.05))
ESTIMATE = Estimate(0.71, 0.69, -0.013, -0.016, 600)


@pytest.mark.parametrize(
    ("story", "said", "unsaid"),
    [
        (Story(), ["not known", "Approver not known", "None was taken"], ["tone-good", "estimated:"]),
        (
            Story(estimate=ESTIMATE),
            ["estimated: cannot see a change of concept", "−1.3 points", "nobody knows how far"],
            ["tone-good", "tone-bad"],
        ),
        (Story(estimate=replace(ESTIMATE, error=0.082)), ["8.2 points off the audits"], ["tone-good"]),
        (
            Story(audit=AUDIT, estimate=ESTIMATE),
            ["A drop, confirmed", "tone-bad", "−5.0 points", "−8.0 to −2.0", "given 3 days ago", "9 days ago"],
            ["estimated:"],
        ),
        (
            Story(audit=replace(AUDIT, rows=120, complete=False, confirmed=False), estimate=ESTIMATE),
            ["120 of 400 labels", "Too few yet to be evidence", "estimated: cannot see a change of concept"],
            ['class="big tone-'],
        ),
        (
            Story(audit=replace(RULED_OUT, confirmed=False)),
            ["No drop of 6.0 points", "tone-good"],
            ["tone-bad"],
        ),
        (
            Story(audit=replace(AUDIT, confirmed=False, accuracy_interval=(-0.02, 0.09))),
            ["No drop shown"],
            ['class="big tone-'],
        ),
        (
            Story(
                replace(DECISION, retrain=False, ask_labels=True, days_since=None), trained_at=NOW - timedelta(days=33),
                approver="anna", approved_at=NOW - timedelta(days=32), override=True, asked_labels=200,
                overrides=(Asked("omar", "support asked for it", NOW - timedelta(days=1)),),
                terms=(Term("delayed", 0.0, 0.081, 14.0), Term("parcel", 0.09, 0.02, -9.0)), examples=("message-17",),
                history=(Past(NOW - timedelta(days=7), "stable", "none", 700, {"embedding": 0.51}),),
            ),
            ["No retrain.", "200 messages wait", "33 days since training", "anna", "over the gate's refusal",
             "omar", "Support asked for it.", "delayed", "8.1 %", "parcel", "message-17",
             "undertone drift examples sentiment", "2026-10-05: stable"],
            [],
        ),
    ],
    ids=["nothing", "estimate", "tracked estimate", "audit", "audit under way", "ruled out", "unclear", "people"],
)  # fmt: skip
def test_page_one_tells_the_story_and_no_more(tmp_path: Path, story: Story, said: list, unsaid: list) -> None:
    _, files = report_on(side(1, count=20), side(2, count=20), tmp_path, story)
    page = files.page.read_text().partition("<main>")[2]
    for words in said:
        assert words in page
    for words in unsaid:
        assert words not in page


def test_a_broken_upstream_comes_before_the_decision(tmp_path: Path) -> None:
    first, second = side(1, count=20), side(2, count=20)
    found = Finding("truncated", "the chat gateway", "41 % of messages are cut", 0.41, 0.1)
    verdict = judge(SPEC, first, second, model_version=3, start=NOW, end=NOW, quality=[found])
    page = write_report(SPEC, first, second, verdict, tmp_path, story=Story(DECISION)).page.read_text()
    assert 0 < page.index("Broken upstream") < page.index("the chat gateway") < page.index("<h3>Decision</h3>")


def test_a_clock_that_moved_back_shows_no_window_twice(tmp_path: Path) -> None:
    past = tuple(Past(NOW + timedelta(days=n), "act", "act", 600) for n in (-7, 0, 7))
    _, files = report_on(side(1, count=20), side(2, count=20), tmp_path, Story(history=past))
    assert files.page.read_text().count("alone act") == 1


#: Another process that adds five runs: what a fork of this one would be, without its threads.
WRITER = """
import sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from evidently.core.report import Snapshot
from monitoring.report import keep_run
from undertone.tasks import get_task
snapshot, name, place = sys.argv[1:]
snapshot, spec = Snapshot.loads(Path(snapshot).read_text()), get_task("sentiment").model_copy(update={"name": name})
print("ready", flush=True)
sys.stdin.readline()
for _ in range(5):
    keep_run(snapshot, spec, Path(place))
"""


def test_a_workspace_keeps_the_runs_of_all_processes_in_one_project_without_data(tmp_path: Path) -> None:
    import warnings

    place = tmp_path / "workspace"
    report_on(side(1), side(2), tmp_path / "report", evidently_workspace=place)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from evidently import Dataset, Report
        from evidently.metrics import RowCount
        from evidently.ui.workspace import Workspace
    snapshot = Report([RowCount()]).run(Dataset.from_pandas(pd.DataFrame({"a": [1]})), None)
    other = SPEC.model_copy(update={"name": "other"})
    (tmp_path / "snapshot.json").write_text(snapshot.dumps())
    command = [sys.executable, "-c", WRITER, str(tmp_path / "snapshot.json"), other.name, str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"ready\n"
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
        for _ in range(5):
            keep_run(snapshot, other, place)
        assert writer.wait(60) == 0

    workspace = Workspace.create(str(place))
    runs = {project.name: (project.id, workspace.list_runs(project.id)) for project in workspace.list_projects()}
    assert {name: len(found) for name, (_, found) in runs.items()} == {"sentiment drift": 1, "other drift": 10}
    project, (run,) = runs["sentiment drift"]
    kept = workspace.get_run(project, run)
    assert kept.timestamp == NOW.replace(tzinfo=kept.timestamp.tzinfo)
    assert kept.metadata["verdict"] == "stable"
    names = sorted(str(path.relative_to(place / str(project))) for path in (place / str(project)).rglob("*.*"))
    assert names == ["dashboard.json", "metadata.json", f"snapshots/{run}.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report", "snapshot.json", "workspace"]


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
