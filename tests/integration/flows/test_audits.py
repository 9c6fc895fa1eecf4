"""From a drift to a confirmed drop, and the review queue at the command line and in files."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import select

from flows.audits import audit_of, draw_audit, estimate_error, queue_picks, wanted_labels
from flows.labels import add_file, export_reviews, import_reviews
from flows.pick_reviews import pick_reviews
from flows.situation import fresh_labels
from monitoring.windows import Window, current_window
from tests.integration.conftest import NOW
from training import sources
from undertone.errors import ConfigError, DataError
from undertone.records import DriftVerdict, Level, Message, Prediction, ScoredMessage, Verdict
from undertone.reviews import Reviews
from undertone.schema import feedback as feedback_table
from undertone.schema import messages
from undertone.tasks import SENTIMENT
from undertone.workspace import Workspace

DAY = timedelta(days=1)
#: Small enough for a test: a drop of 20 points below an accuracy of 0.8 needs 29 labels.
SPEC = SENTIMENT.model_copy(update={"audit": SENTIMENT.audit.model_copy(update={"drop": 0.2, "per_window": 20})})
PROBABILITIES = {"negative": (0.6, 0.3, 0.1), "neutral": (0.3, 0.4, 0.3), "positive": (0.0, 0.1, 0.9)}


@pytest.fixture(scope="module")
def reference() -> Window:
    """A holdout on which eight answers of ten are right."""
    label = [SENTIMENT.labels[n % 3] for n in range(900)]
    truth = [word if n // 3 % 5 else SENTIMENT.labels[(n + 1) % 3] for n, word in enumerate(label)]
    return Window(pd.DataFrame({"label": label, "truth": truth}), None)


def traffic(workspace: Workspace, day: int, rows: int = 100, version: int = 3) -> None:
    """Messages of one day, a fifth of them of the segment pro, a tenth of none."""
    made = []
    for n in range(rows):
        label = SENTIMENT.labels[n % 3]
        segment = None if n % 10 == 9 else "pro" if n % 10 < 2 else "starter"
        at = NOW + day * DAY + timedelta(minutes=n)
        answer = Prediction(f"d{day}-{n}", "sentiment", label, PROBABILITIES[label], version, "ab" * 32, at)
        message = Message(f"d{day}-{n}", f"text {n} of day {day}", "chat", segment, None, at, at)
        made.append(ScoredMessage(message, (answer,)))
    workspace.store.record(made)


def seen(day: int, verdict: Verdict = "warn", version: int = 3, level: Level = "warn") -> DriftVerdict:
    start = NOW + day * DAY
    return DriftVerdict("sentiment", verdict, (), 900, 100, start, start + DAY, version, "test", level)


def watch(workspace: Workspace, verdict: DriftVerdict, reference: Window, estimate: float | None = None) -> int:
    """What a watch at the end of the verdict's window does; gives the number of messages drawn."""
    now = verdict.window_end
    drawn = draw_audit(workspace, SPEC, verdict, reference, now)
    audit_of(workspace, SPEC, verdict.model_version, reference, now, verdict)
    window = [verdict.window_start.isoformat(), now.isoformat()]
    payload = {"verdict": verdict.verdict, "level": verdict.level, "window": window}
    workspace.ledger.append(
        "drift", "sentiment", at=now, actor="w", reason="", version=verdict.model_version,
        payload=payload | ({"estimate": {"accuracy": estimate}} if estimate else {}),
    )  # fmt: skip
    return drawn


def label_all(workspace: Workspace, now: datetime, right: float) -> int:
    """Label what is open: that share with the model's own answer, the others wrong."""
    queue = Reviews(workspace.store)
    answers = {
        (batch["batch"], pick.message_id): pick.predicted
        for batch in queue.open("sentiment")
        for pick in queue.batch("sentiment", batch["batch"])
    }
    items = queue.next("sentiment", "bo", now, count=500)
    for n, item in enumerate(items):
        predicted = answers[item["batch"], item["message_id"]]
        other = SENTIMENT.labels[(SENTIMENT.labels.index(predicted) + 1) % 3]
        is_right = int((n + 1) * right + 1e-9) > int(n * right + 1e-9)
        queue.label(item["id"], predicted if is_right else other, "bo", now)
    return len(items)


def kinds(workspace: Workspace) -> Counter[str]:
    return Counter(row.kind for row in workspace.ledger.entries("sentiment"))


def test_a_drift_buys_labels_and_the_labels_confirm_a_drop(workspace: Workspace, reference: Window) -> None:
    wanted = wanted_labels(SPEC, reference)
    assert wanted == 29
    for day in (0, 1, 2):
        traffic(workspace, day)
    traffic(workspace, 3, version=4)
    assert watch(workspace, seen(-1, "stable"), reference) == 0
    assert watch(workspace, seen(-1, "too_few"), reference) == 0
    assert watch(workspace, seen(0), reference) == 20
    assert watch(workspace, seen(0, "act"), reference) == 0  # the same window
    assert audit_of(workspace, SPEC, 3, reference, NOW + DAY) is None
    row = workspace.ledger.entries("sentiment", ["audit_drawn"])[0]
    assert row.payload["batch"] == "sentiment-3-2026-10-06"
    assert (row.payload["drawn"], row.payload["wanted"], row.version) == (20, 29, 3)
    assert row.payload["strata"] == [
        {"segment": None, "drawn": 2, "rows": 10},
        {"segment": "pro", "drawn": 4, "rows": 20},
        {"segment": "starter", "drawn": 14, "rows": 70},
    ]

    label_all(workspace, NOW + DAY, right=0.4)
    partly = audit_of(workspace, SPEC, 3, reference, NOW + DAY)
    assert partly is not None
    assert (partly.rows, partly.wanted, partly.complete, partly.confirmed) == (20, 29, False, False)

    assert watch(workspace, seen(1, "severe"), reference, estimate=0.75) == 9
    assert watch(workspace, seen(2, "severe"), reference) == 0  # there are enough
    assert watch(workspace, seen(3), reference) == 0  # all of them by another version
    label_all(workspace, NOW + 3 * DAY, right=0.4)
    assert audit_of(workspace, SPEC, 3, reference, NOW + 2 * DAY) == partly  # as it was then
    done = audit_of(workspace, SPEC, 3, reference, NOW + 3 * DAY)
    assert done is not None
    assert (done.rows, done.complete, done.confirmed) == (29, True, True)
    assert done.accuracy == pytest.approx(0.4, abs=0.1)
    assert audit_of(workspace, SPEC, 3, reference, NOW + 4 * DAY) == done
    assert kinds(workspace)["audit"] == 1
    told = workspace.ledger.latest("sentiment", ["audit"])
    assert told is not None
    assert told.reason.startswith("a drop is confirmed: accuracy 0.")
    assert told.payload["batches"] == ["sentiment-3-2026-10-06", "sentiment-3-2026-10-07"]
    assert told.payload["accuracy"] == done.accuracy
    error = estimate_error(workspace, "sentiment")
    assert error == pytest.approx(0.75 - done.accuracy)
    assert estimate_error(workspace, "sentiment", NOW + 2 * DAY) is None
    workspace.ledger.verify()


def test_old_audits_say_nothing_of_today(workspace: Workspace, reference: Window) -> None:
    traffic(workspace, 0)
    traffic(workspace, 40)
    watch(workspace, seen(0), reference)
    label_all(workspace, NOW + DAY, right=0.4)
    assert audit_of(workspace, SPEC, 3, reference, NOW + 28 * DAY) is not None
    assert audit_of(workspace, SPEC, 3, reference, NOW + 41 * DAY) is None
    assert watch(workspace, seen(40), reference) == 20


def test_an_audit_is_about_one_incident_and_starts_anew_when_the_drift_grows(
    workspace: Workspace, reference: Window
) -> None:
    for day in range(8):
        traffic(workspace, day)
    assert [watch(workspace, seen(day), reference) for day in (0, 1)] == [20, 9]
    label_all(workspace, NOW + 2 * DAY, right=0.8)
    before = audit_of(workspace, SPEC, 3, reference, NOW + 2 * DAY)
    assert before is not None
    assert (before.complete, before.confirmed) == (True, False)
    assert watch(workspace, seen(2, "act", level="severe"), reference) == 20  # all was well while the drift was small
    assert audit_of(workspace, SPEC, 3, reference, NOW + 3 * DAY) is None
    assert watch(workspace, seen(3, "act", level="act"), reference) == 9
    label_all(workspace, NOW + 4 * DAY, right=0.4)
    grown = audit_of(workspace, SPEC, 3, reference, NOW + 4 * DAY)
    assert grown is not None
    assert (grown.rows, grown.confirmed) == (29, True)
    for day in (4, 5):
        watch(workspace, seen(day, "stable", level="none"), reference)
    assert watch(workspace, seen(6), reference) == 20  # another incident
    assert watch(workspace, seen(7, level="act"), reference) == 20
    assert [row["open"] for row in Reviews(workspace.store).open("sentiment")] == [0, 0, 0, 0, 0, 20]
    assert kinds(workspace)["audit"] == 2


def test_messages_are_drawn_once_for_a_version_whatever_windows_overlap(
    workspace: Workspace, reference: Window
) -> None:
    traffic(workspace, 0, rows=24)
    watch(workspace, seen(0), reference)
    again = DriftVerdict("sentiment", "warn", (), 900, 30, NOW, NOW + 2 * DAY, 3, "test", "warn")
    assert watch(workspace, again, reference) == 4  # all that are left
    drawn = [
        pick.message_id
        for day in ("06", "07")
        for pick in Reviews(workspace.store).batch("sentiment", f"sentiment-3-2026-10-{day}")
    ]
    assert len(set(drawn)) == 24


def test_a_watch_killed_between_queue_and_ledger_is_made_good(
    workspace: Workspace, reference: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic(workspace, 0)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(workspace.ledger, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            draw_audit(workspace, SPEC, seen(0), reference, NOW + DAY)
    assert draw_audit(workspace, SPEC, seen(0), reference, NOW + DAY) == 0
    rows = workspace.ledger.entries("sentiment", ["audit_drawn"])
    assert [(row.payload["drawn"], row.payload["asked"]) for row in rows] == [(20, 20)]


def test_a_reference_without_truth_is_told_and_proves_nothing(
    workspace: Workspace, reference: Window, caplog: pytest.LogCaptureFixture
) -> None:
    old = Window(reference.frame.assign(truth=None), None)
    traffic(workspace, 0)
    assert draw_audit(workspace, SPEC, seen(0), old, NOW + DAY) == 20
    label_all(workspace, NOW + DAY, right=0.1)
    assert audit_of(workspace, SPEC, 3, old, NOW + DAY) is None
    assert "true labels in the reference of sentiment 3" in caplog.text


def test_skipped_and_erased_items_are_drawn_anew(workspace: Workspace, reference: Window) -> None:
    traffic(workspace, 0)
    traffic(workspace, 1)
    watch(workspace, seen(0), reference)
    queue = Reviews(workspace.store)
    first, second = queue.next("sentiment", "bo", NOW, count=2)
    queue.skip(first["id"], "bo", NOW)
    with workspace.store.transaction() as connection:
        connection.execute(messages.delete().where(messages.c.id == second["message_id"]))
    assert watch(workspace, seen(1), reference) == 11  # 9, and 2 for those


# files --------------------------------------------------------------------------------------


@pytest.fixture
def drawn(workspace: Workspace, reference: Window) -> list[dict[str, Any]]:
    traffic(workspace, 0, rows=5)
    with workspace.store.transaction() as connection:
        connection.execute(messages.update().where(messages.c.id == "d0-1").values(text='=1+1 "quoted", and\nmore'))
    draw_audit(workspace, SPEC, seen(0), reference, NOW + DAY)
    return Reviews(workspace.store).export("sentiment")


def guidelines(workspace: Workspace) -> Counter[str | None]:
    """How many labels follow each version of the guideline."""
    with workspace.store.reading() as connection:
        return Counter(connection.execute(select(feedback_table.c.guideline)).scalars())


def labels_in(workspace: Workspace) -> list[tuple]:
    columns = [feedback_table.c[name] for name in ("message_id", "label", "labeller", "origin", "suggested")]
    with workspace.store.reading() as connection:
        return [tuple(row) for row in connection.execute(select(*columns).order_by(feedback_table.c.message_id))]


def test_a_table_goes_out_and_comes_back_labelled(workspace: Workspace, drawn: list[dict], tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(export_reviews("sentiment", workspace=workspace))))
    assert [int(row["review_id"]) for row in rows] == [item["id"] for item in drawn]
    assert "predicted" not in rows[0]
    assert '\'=1+1 "quoted", and\nmore' in [row["text"] for row in rows]  # no formula for a spreadsheet
    for row, label in zip(rows, ("neutral", "negative", "", "", ""), strict=True):
        row["label"] = label
    rows[1]["reviewer"] = "ann"
    path = tmp_path / "labelled.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    counts = import_reviews("sentiment", str(path), "bo", NOW + DAY, workspace)
    assert counts == {"labelled": 2, "second": 0, "unchanged": 0, "others": 0, "open": 3}
    assert import_reviews("sentiment", str(path), "bo", NOW + DAY, workspace)["unchanged"] == 2
    assert guidelines(workspace) == {"1": 2}  # the file says under which version it was exported
    assert Counter(row[1:] for row in labels_in(workspace)) == {
        ("neutral", "bo", "audit", False): 1,
        ("negative", "ann", "audit", False): 1,
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("review_id,label\n1,neutral\n2,great\n", "found 'great'"),
        ("review_id,label\n1,neutral\n77,neutral\n", "no item 77"),
        ("review_id,label\n1,neutral\none,neutral\n", "numbers in the column review_id"),
        ("review_id,label,labelled_at\n1,neutral,yesterday\n", "times such as"),
        ("id,label\n1,neutral\n", "add review_id"),
        ("", "a CSV file"),
    ],
)
def test_a_file_with_one_bad_row_is_refused_whole(
    workspace: Workspace, drawn: list[dict], tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / "bad.csv").write_text(content)
    with pytest.raises(DataError, match=said):
        import_reviews("sentiment", str(tmp_path / "bad.csv"), "bo", NOW, workspace)
    assert labels_in(workspace) == []


def annotation(label: str | None, **more: Any) -> dict[str, Any]:
    choice = {"type": "choices", "from_name": "label", "to_name": "text", "value": {"choices": [label]}}
    made = {"id": 1, "completed_by": 7, "was_cancelled": False, "created_at": "2026-10-05T12:00:00.528353Z"}
    return made | {"result": [choice] if label else []} | more


def test_label_studio_takes_the_tasks_and_gives_labels_back(
    workspace: Workspace, drawn: list[dict], tmp_path: Path
) -> None:
    tasks = json.loads(export_reviews("sentiment", "label-studio", workspace))
    assert tasks[0] == {
        "data": {
            "review_id": drawn[0]["id"],
            "text": drawn[0]["text"],
            "channel": "chat",
            "segment": drawn[0]["segment"],
            "guideline": "1",
        }
    }
    given = [
        [annotation("neutral")],
        [annotation("neutral"), annotation("positive", completed_by={"id": 3, "email": "ann@example.com"},
                                           updated_at="2026-10-05T13:00:00Z")],
        [annotation("neutral", was_cancelled=True)],
        [annotation(None)],
        [],
    ]  # fmt: skip
    exported = [task | {"id": n, "annotations": made} for n, (task, made) in enumerate(zip(tasks, given, strict=True))]
    path = tmp_path / "project.json"
    path.write_text(json.dumps(exported))
    counts = import_reviews("sentiment", str(path), now=NOW + DAY, workspace=workspace)
    assert counts == {"labelled": 3, "second": 1, "unchanged": 0, "others": 0, "open": 3}
    assert Counter(row[1:4] for row in labels_in(workspace)) == {
        ("neutral", "label-studio user 7", "audit"): 1,
        ("positive", "ann@example.com", "audit"): 1,
        ("neutral", "label-studio user 7", "second"): 1,  # the other annotation of that task, older
    }
    assert guidelines(workspace) == {"1": 3}
    again = import_reviews("sentiment", str(path), now=NOW + DAY, workspace=workspace)
    assert (again["labelled"], again["unchanged"]) == (0, 3)
    (pair,) = workspace.reviews.twice("sentiment")
    assert (pair.first_label, pair.second_label) == ("positive", "neutral")
    audited = Reviews(workspace.store).audited("sentiment", 3, NOW, NOW + DAY)
    assert audited[0].labelled_at.isoformat() == "2026-10-05T12:00:00.528353+00:00"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda task: task | {"annotations": [annotation("neutral", parent_prediction=4)]}, "without a suggestion"),
        (lambda task: task | {"annotations": [annotation("great")]}, "found 'great'"),
        (
            lambda task: (
                task | {"annotations": [annotation("neutral") | {"result": annotation("neutral")["result"] * 2}]}
            ),
            "one choice",
        ),
        (lambda task: {"text": "JSON-MIN", "choice": "neutral"}, "not as JSON-MIN"),
        (lambda task: [], "Label Studio's export"),
    ],
)
def test_what_label_studio_gives_wrong_is_refused_whole(
    workspace: Workspace, drawn: list[dict], tmp_path: Path, change: Callable[[dict], Any], said: str
) -> None:
    tasks = json.loads(export_reviews("sentiment", "label-studio", workspace))
    path = tmp_path / "project.json"
    path.write_text(json.dumps([tasks[0] | {"annotations": [annotation("neutral")]}, change(tasks[1])]))
    with pytest.raises(DataError, match=said):
        import_reviews("sentiment", str(path), now=NOW, workspace=workspace)
    assert labels_in(workspace) == []


def test_labels_of_a_file_say_where_they_came_from(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("message_id,label,suggested\na,neutral,true\nb,neutral,False\nc,neutral,\n")
    assert add_file("sentiment", str(path), workspace) == {"added": 3, "unknown": 3}
    assert [row[3:] for row in labels_in(workspace)] == [("import", True), ("import", False), ("import", False)]
    path.write_text("message_id,label,suggested\nd,neutral,perhaps\n")
    with pytest.raises(DataError, match=r"true, false or nothing.*found 'perhaps'"):
        add_file("sentiment", str(path), workspace)
    path.write_text("message_id,label,labelled_at\nd,neutral,soon\n")
    with pytest.raises(DataError, match="times such as"):
        add_file("sentiment", str(path), workspace)


# the command line ---------------------------------------------------------------------------


def test_a_reviewers_hour_at_the_command_line(
    undertone: Callable[..., Any], drawn: list[dict], workspace: Workspace, tmp_path: Path
) -> None:
    first = undertone("reviews", "next", "sentiment")
    assert f"item {drawn[0]['id']}: chat, " in first
    assert drawn[0]["text"] in first or "more" in first
    assert "negative | neutral | positive" in first
    assert len(undertone("reviews", "next", "sentiment", "--count", "2", "--reviewer", "bo", "--json")) == 2
    one, *others = [str(item["id"]) for item in drawn]
    assert undertone("reviews", "label", one, "neutral", "--json") == {
        "item": int(one),
        "label": "neutral",
        "reviewer": "ann",
    }
    with pytest.raises(DataError, match="bo has it"):
        undertone("reviews", "skip", others[0])
    undertone("reviews", "skip", others[0], "--reviewer", "bo")
    row = undertone("reviews", "show", "sentiment", "--json")[0]
    assert [row[name] for name in ("open", "held", "labelled", "skipped")] == [3, 1, 1, 1]
    assert "sentiment-3-2026-10-06" in undertone("reviews", "show")
    path = tmp_path / "queue.csv"
    undertone("reviews", "export", "sentiment", "--file", str(path))
    assert len(pd.read_csv(path)) == 3
    assert undertone("reviews", "export", "sentiment") == path.read_text()
    assert len(json.loads(undertone("reviews", "export", "sentiment", "--format", "label-studio"))) == 3
    with pytest.raises(ConfigError, match="a format"):
        undertone("reviews", "export", "sentiment", "--format", "xml")
    with pytest.raises(ConfigError, match="a file that can be written"):
        undertone("reviews", "export", "sentiment", "--file", str(tmp_path))
    path.write_text(f"review_id,label\n{others[1]},positive\n")
    assert undertone("reviews", "import", "sentiment", str(path)) == "1 items labelled\n"
    path.write_text("message_id,label,suggested\nx,neutral,true\n")
    undertone("feedback", "add", "sentiment", str(path))
    assert undertone("reviews", "next", "emotion") == "\n"


def test_picked_answers_go_into_the_queue_once_a_day(undertone: Callable[..., Any], workspace: Workspace) -> None:
    traffic(workspace, 0, rows=60)
    with pytest.raises(DataError, match="a champion of sentiment"):
        undertone("reviews", "pick", "sentiment")
    workspace.ledger.append("approved", "sentiment", at=NOW, actor="ann", reason="test", version=3)
    assert queue_picks(workspace, "sentiment", 20, NOW + DAY, days=7) == 20
    assert queue_picks(workspace, "sentiment", 20, NOW + DAY, days=7) == 0
    picked = Reviews(workspace.store).batch("sentiment", "review-sentiment-3-2026-10-06")
    assert Counter(pick.reason for pick in picked) == {"unsure": 17, "random": 3}
    assert {pick.predicted for pick in picked if pick.reason == "unsure"} == {"neutral"}  # 0.4 against 0.3
    assert queue_picks(workspace, "sentiment", 60, NOW + 2 * DAY, days=7) == 40  # those not asked yet
    assert undertone("reviews", "pick", "sentiment", "--json") == {"added": 0}  # today has no messages


def test_the_daily_pick_fills_the_queue_and_no_more(undertone: Callable[..., Any], workspace: Workspace) -> None:
    traffic(workspace, 0, rows=60)
    assert pick_reviews.fn("sentiment", now=NOW + DAY) == {"open": 0, "added": 0}  # no champion
    workspace.ledger.append("approved", "sentiment", at=NOW, actor="ann", reason="test", version=3)
    assert pick_reviews.fn("sentiment", room=30, now=NOW + DAY) == {"open": 0, "added": 30}
    assert pick_reviews.fn("sentiment", room=30, now=NOW + 2 * DAY) == {"open": 30, "added": 0}
    label_all(workspace, NOW + 2 * DAY, right=0.8)
    traffic(workspace, 2, rows=20)
    assert pick_reviews.fn("sentiment", room=40, now=NOW + 3 * DAY) == {"open": 0, "added": 40}
    newest = workspace.reviews.batch("sentiment", "review-sentiment-3-2026-10-08")
    assert {pick.message_id[:3] for pick in newest if pick.reason == "random"} == {"d2-"}  # new since the last pick


def test_what_the_first_reviewer_says_is_learned_from_and_judges_late(
    workspace: Workspace, drawn: list[dict[str, Any]]
) -> None:
    queue = Reviews(workspace.store, "2", second_share=1.0)
    for item in queue.next("sentiment", "bo", NOW, count=5):
        queue.label(item["id"], "neutral", "bo", NOW)
    for item in queue.next("sentiment", "ann", NOW, count=5):
        queue.label(item["id"], "negative", "ann", NOW + DAY)
    assert Counter(row[1:4] for row in labels_in(workspace)) == {
        ("neutral", "bo", "audit"): 5,
        ("negative", "ann", "second"): 5,
    }
    assert sources.read("feedback", SENTIMENT, store=workspace.store).frame["label"].tolist() == ["neutral"] * 5
    late = current_window(workspace.store, SENTIMENT, NOW, NOW + DAY, model_version=3)
    right = sum(
        Reviews(workspace.store).batch("sentiment", drawn[0]["batch"])[n].predicted == "neutral" for n in range(5)
    )
    assert late.labelled == (right, 5)
    assert fresh_labels(workspace.store, "sentiment", NOW, NOW + DAY) == 0  # the second labels are no new ones


def test_a_reviewer_takes_a_label_back_and_agreement_is_told(
    undertone: Callable[..., Any], drawn: list[dict], workspace: Workspace
) -> None:
    one, two, *_ = [str(item["id"]) for item in drawn]
    with pytest.raises(DataError, match="by ann to take back"):
        undertone("reviews", "undo")
    undertone("reviews", "label", one, "neutral")
    undertone("reviews", "skip", two)
    assert undertone("reviews", "undo") == f"item {two} of sentiment was skipped; it is open again\n"
    assert undertone("reviews", "undo", "sentiment", "--json") == {
        "id": int(one), "task": "sentiment", "label": "neutral",
    }  # fmt: skip
    assert labels_in(workspace) == []
    assert undertone("reviews", "agreement", "sentiment") == "no message of sentiment has two labels yet\n"
    Reviews(workspace.store, "1", second_share=1.0).label(int(one), "neutral", "ann", NOW)
    second = undertone("reviews", "next", "sentiment", "--reviewer", "bo", "--count", "5", "--json")
    twin = next(item["id"] for item in second if item["kind"] == "second")
    undertone("reviews", "label", str(twin), "negative", "--reviewer", "bo")
    told = undertone("reviews", "agreement", "sentiment", "--json")
    assert (told["all"]["rows"], told["all"]["observed"], told["all"]["kappa_interval"]) == (1, 0.0, None)
    assert told["people"][0]["names"] == ["ann", "bo"]
    assert told["differ"][0]["item"] == int(one)
    text = undertone("reviews", "agreement", "sentiment")
    assert "ann and bo" in text
    assert "too few to tell" in text
    mine = undertone("reviews", "export", "sentiment", "--reviewer", "ann")
    assert len(mine.splitlines()) <= len(undertone("reviews", "export", "sentiment").splitlines())
