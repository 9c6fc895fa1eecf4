"""One customer erased from a whole home, proven by the bytes that are left; and what is past its retention."""

import json
import random
import shutil
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from serving.recorder import LOCK, UNREADABLE
from serving.spool_erasure import Spool
from serving.spool_line import encode
from training import steps
from training.work import Request
from undertone import privacy
from undertone.errors import ConfigError
from undertone.evidence import read_evidence
from undertone.records import Feedback, Message, Prediction, ScoredMessage
from undertone.redaction import ERASED
from undertone.schema import erasures, feedback, insight_alerts, ledger, messages, predictions, reviews, surveys
from undertone.settings import Settings
from undertone.store import Store
from undertone.workspace import Workspace

NOW = datetime(2026, 10, 5, tzinfo=UTC)
LABELS = ("negative", "neutral", "positive")
CUSTOMER = "customer-erase-me-77"
#: Words that nobody else writes.
SECRET = "zebrawick quillmarsh"
OTHERS = "customer-other-{}"
ROWS = (messages, predictions, feedback, reviews, surveys)


def text_of(number: int, customer: str) -> str:
    rest = " ".join(random.Random(number).choices(["parcel", "late", "fine", "love", "refund", "app", "team"], k=9))
    return f'{SECRET} & "number" {"x" * (number % 7)} {rest}' if customer == CUSTOMER else f"{rest} {number}"


def scored(number: int, customer: str, at: datetime = NOW) -> ScoredMessage:
    name = f"{customer}-m{number}" if customer == CUSTOMER else f"m{number}"
    message = Message(name, text_of(number, customer), "chat", "starter", customer, at, at)
    answer = Prediction(name, "sentiment", LABELS[number % 3], (0.2, 0.3, 0.5), 1, "ab" * 32, at, b"\x00\x3c" * 8)
    return ScoredMessage(message, (answer,), final_sentiment=LABELS[number % 3])


def fill_rows(store: Store) -> list[ScoredMessage]:
    """Messages of four customers, labelled, in review, with surveys and an alert. Gives the one customer's."""
    own = [scored(number, CUSTOMER, NOW - timedelta(hours=number + 1)) for number in range(30)]
    rest = [scored(n, OTHERS.format(n % 3), NOW - timedelta(hours=n % 90 + 1)) for n in range(100, 400)]
    store.record([*own, *rest])
    everyone = [item.message.id for item in [*own, *rest]]
    store.add_feedback([Feedback(n, "sentiment", LABELS[i % 3], "rae", NOW) for i, n in enumerate(everyone)])
    with store.transaction() as connection:
        connection.execute(
            reviews.insert(),
            [
                {"task": "sentiment", "message_id": name, "batch": "b", "kind": "audit", "weight": 1.0,
                 "model_version": 1, "predicted": "negative", "asked_at": NOW, "state": "open"}
                for name in everyone[:40]
            ],
        )  # fmt: skip
        connection.execute(
            surveys.insert(),
            [
                {"id": f"s-{n}", "kind": "nps", "score": 3.0, "customer_id": name, "answered_at": NOW, "origin": "t"}
                for n, name in enumerate([CUSTOMER, OTHERS.format(0)])
            ],
        )  # fmt: skip
        detail = {"label": "negative", "examples": [everyone[0], everyone[50]]}
        connection.execute(insight_alerts.insert(), [{"series": "x", "period": NOW, "found_at": NOW, "detail": detail}])
    return own


def fill_spool(settings: Settings) -> Path:
    """What a dead worker left: a segment, and a file with a broken line."""
    folder = settings.state_dir / "spool" / "dead"
    folder.mkdir(parents=True)
    (folder / LOCK).touch()
    lines = encode(scored(900, CUSTOMER)) + encode(scored(901, OTHERS.format(1)))
    (folder / "1.jsonl").write_bytes(lines)
    (folder / f"2.jsonl{UNREADABLE}").write_bytes(lines + b"{torn " + encode(scored(902, CUSTOMER))[:200] + b"\n")
    return folder


def evidence_of(texts: list[str]) -> dict[str, bytes]:
    examples = [{"text": text, "changed": f"not {text}", "answer": "a", "changed_answer": "b"} for text in texts]
    differences = [
        {"text": text, "label": "negative", "challenger": "positive", "champion": "neutral"} for text in texts
    ]
    values = {"differences.json": differences, "gate.json": {"passed": True, "behaviour": [{"examples": examples}]}}
    return {name: (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode() for name, value in values.items()}


def places(settings: Settings) -> list[Any]:
    return [Spool(settings.state_dir / "spool", patience_s=0.2)]


def hits(home: Path, *needles: str) -> list[str]:
    """Files under `home` with one of these words in their bytes, in whatever way they are written."""
    return [
        str(path.relative_to(home))
        for path in sorted(home.rglob("*"))
        if path.is_file() and any(needle.encode() in path.read_bytes() for needle in needles)
    ]


def everybody_else(store: Store) -> dict[str, list[Any]]:
    """All rows that are not the customer's."""
    with store.reading() as connection:
        found = {table.name: connection.execute(select(table)).mappings().all() for table in ROWS}
    return {
        name: [dict(row) for row in rows if CUSTOMER not in str(row.get("message_id", "")) + str(row.get("id", ""))
               and row.get("customer_id") != CUSTOMER]
        for name, rows in found.items()
    }  # fmt: skip


@pytest.fixture
def home(workspace: Workspace, register: Callable[..., Any]) -> Workspace:
    """A whole home: rows, spool, a work folder of a training on feedback, a registered version with evidence, pages."""
    own = fill_rows(workspace.store)
    fill_spool(workspace.settings)
    request = Request("sentiment", "feedback", "smoke", 7, NOW + timedelta(hours=1), "tom", base_model="bag")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.steps.base_model.resolve", lambda name: _Base())
        work = steps.prepare(workspace, request)
    assert work.rows > 50
    made = register(evidence=evidence_of([own[0].message.text, "somebody else wrote this long sentence"]))
    workspace.ledger.append("registered", "sentiment", at=NOW + timedelta(hours=1), actor="tom", version=made.version,
                            reason="smoke training on feedback", payload={"run_id": made.run_id})  # fmt: skip
    workspace.registry.client.log_text(made.run_id, f"- cut: 1 (for example {own[1].message.text[:60]!r})\n",
                                       "data/summary.md")  # fmt: skip
    reports = workspace.settings.state_dir / "reports"
    reports.mkdir()
    (reports / "page.html").write_text(f"<p>{own[2].message.text.replace('&', '&amp;')}</p><p>kept</p>")
    (reports / "lost.csv").write_text(f'text,label\n"{own[3].message.text.replace(chr(34), chr(34) * 2)}",a\nkept,b\n')
    return workspace


class _Base:
    """What `prepare` asks of a base model."""

    sha256 = "f" * 64

    def require_room(self, tokens: int, task: str) -> None:
        """It has room for everything."""


def test_nothing_of_an_erased_customer_is_left_on_the_disk(home: Workspace) -> None:
    root, store = home.settings.home, home.store
    before, version = everybody_else(store), home.registry.versions("sentiment")[0]
    assert len(hits(root, CUSTOMER, SECRET)) >= 7

    found = {step.place: step.found for step in privacy.find(home, CUSTOMER, places(home.settings)) if step.found}
    assert found[privacy.STORE] == {
        "messages": 30, "predictions": 30, "feedback": 30, "reviews": 30, "surveys": 1, "insight_alerts": 1
    }  # fmt: skip
    assert found[privacy.RUNS] == {"files": 3}
    assert found["the spool of this machine's workers"] == {"lines": 1, "unreadable lines": 2}
    assert found["unfinished trainings on this machine"] == {"folders": 1}
    assert found[privacy.FILES] == {"files": 2}

    receipt = privacy.erase(home, CUSTOMER, NOW + timedelta(days=1), places(home.settings), reason="asked for by mail")

    assert receipt.complete
    assert hits(root, CUSTOMER, SECRET) == []
    alert = before.pop("insight_alerts", None)
    assert alert is None
    assert everybody_else(store) == before
    with store.reading() as connection:
        assert connection.execute(select(insight_alerts.c.detail)).scalar_one()["examples"] == ["m120"]
    assert [item["version"] for item in receipt.models] == [version.version]
    text = json.dumps(receipt.as_dict())
    assert CUSTOMER not in text
    assert SECRET not in text

    row = home.ledger.row(receipt.ledger_row or 0)
    assert row is not None
    assert (row.kind, row.payload["customer"], row.reason) == ("erased", receipt.customer, "asked for by mail")
    assert home.ledger.verify() == row.seq
    evidence = read_evidence(home, "sentiment", version.version)
    assert evidence.problems == ()
    assert len(evidence.redacted) == 2
    assert [item["text"] for item in evidence.json("differences.json")] == [
        ERASED, "somebody else wrote this long sentence"
    ]  # fmt: skip
    assert evidence.json("gate.json")["behaviour"][0]["examples"][0]["changed"] == ERASED

    assert not any(step.found for step in privacy.find(home, CUSTOMER, places(home.settings)))
    again = privacy.erase(home, CUSTOMER, NOW + timedelta(days=2), places(home.settings))
    assert (again.found, again.ledger_row, again.customer) == (False, None, receipt.customer)


def test_evidence_that_was_changed_in_another_way_stays_none(home: Workspace, tmp_path: Path) -> None:
    version = home.registry.versions("sentiment")[0]
    (tmp_path / "gate.json").write_text('{"passed": true, "text": "forged"}')
    home.registry.put_file(version.run_id, tmp_path / "gate.json", "evaluation")
    privacy.erase(home, CUSTOMER, NOW + timedelta(days=1), places(home.settings))
    assert read_evidence(home, "sentiment", version.version).problems == (
        "gate.json was changed after the gate judged",
    )


def test_what_was_sent_before_the_erasure_does_not_come_back(workspace: Workspace) -> None:
    store = workspace.store
    privacy.erase(workspace, CUSTOMER, NOW)
    late, new = scored(1, CUSTOMER, NOW - timedelta(hours=1)), scored(2, CUSTOMER, NOW + timedelta(hours=1))
    assert store.record([late, new, scored(3, "somebody")]) == 2
    with store.reading() as connection:
        kept = connection.execute(select(messages.c.id).order_by(messages.c.id)).scalars().all()
    assert kept == [new.message.id, "m3"]


def test_an_erasure_that_was_stopped_goes_on(home: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("undertone.erasure.delete_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            privacy.erase(home, CUSTOMER, NOW + timedelta(days=1), places(home.settings))
    assert privacy.erase(home, CUSTOMER, NOW + timedelta(days=1), places(home.settings)).complete
    assert hits(home.settings.home, CUSTOMER, SECRET) == []
    assert home.ledger.verify() > 0


def test_a_live_worker_is_waited_for_and_told_of(workspace: Workspace) -> None:
    import fcntl

    folder = fill_spool(workspace.settings)
    with (folder / LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        receipt = privacy.erase(workspace, CUSTOMER, NOW, places(workspace.settings))
        assert not receipt.complete
        assert [step.place for step in receipt.steps if step.left] == ["the spool of this machine's workers"]
        assert hits(folder, CUSTOMER) == ["1.jsonl"]
    assert privacy.erase(workspace, CUSTOMER, NOW, places(workspace.settings)).complete
    assert hits(workspace.settings.home, CUSTOMER) == []


@pytest.mark.parametrize(("customer", "reason"), [(" ", ""), (CUSTOMER, f"{CUSTOMER} asked")])
def test_misuse_is_told(workspace: Workspace, customer: str, reason: str) -> None:
    with pytest.raises(ConfigError):
        privacy.erase(workspace, customer, NOW, reason=reason)
    with workspace.store.reading() as connection:
        assert connection.execute(select(erasures)).all() == []


def test_retention_takes_texts_from_rows_and_evidence_and_says_how_many(home: Workspace) -> None:
    folder = home.settings.state_dir / "spool" / "dead"
    old = next(folder.glob(f"*{UNREADABLE}"))
    now = NOW + timedelta(days=30)
    version = home.registry.versions("sentiment")[0].version
    shutil.rmtree(home.settings.state_dir / "reports")
    result = privacy.retain(home, now, 1, places(home.settings))
    assert (result["texts"], result["customers"], result["embeddings"]) == (330, 330, 330)
    assert result["survey_customers"] == 2
    assert result["files"]["unfinished trainings on this machine"] == 1
    assert result["redacted"] == 3
    assert old.exists()  # it was written a moment ago, whatever the clock of the test says
    row = home.ledger.row(result["ledger_row"])
    assert row is not None
    assert row.payload["removed"]["texts"] == 330
    assert read_evidence(home, "sentiment", version).problems == ()
    folders = [path for path in hits(home.settings.home, SECRET) if not path.startswith(".undertone/spool")]
    assert folders == []
    assert privacy.retain(home, now, 1, places(home.settings))["ledger_row"] is None


def test_on_postgresql_rows_go_and_the_receipt_says_what_remains(workspace: Workspace, postgres: Any) -> None:
    here = Workspace(workspace.settings.model_copy(update={"store_url": postgres.store()}))
    with closing(here.store.engine.raw_connection()):
        fill_rows(here.store)
    before = everybody_else(here.store)
    receipt = privacy.erase(here, CUSTOMER, NOW + timedelta(days=1), places(here.settings))
    assert receipt.complete
    assert any("vacuum full" in sentence for sentence in receipt.cannot_undo)
    assert everybody_else(here.store) == before
    with here.store.reading() as connection:
        for table in (*ROWS, insight_alerts, ledger, erasures):
            assert CUSTOMER not in str(connection.execute(select(table)).all())
    assert here.store.record([scored(1, CUSTOMER, NOW)]) == 0
    assert privacy.retain(here, NOW + timedelta(days=30), 1)["texts"] == 300
    here.store.engine.dispose()
