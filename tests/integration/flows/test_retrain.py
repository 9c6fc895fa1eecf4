"""The retrain flow around its steps: one at a time, and a failure that leaves a trace."""

import hashlib
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.retrain import retrain
from training import steps
from training.work import Request
from undertone.errors import ConfigError, DataError, DecisionError
from undertone.lease import hold
from undertone.model_folder import EXACT, SPLIT_GRAPHS, ModelCardData
from undertone.records import Feedback, Message, ScoredMessage
from undertone.settings import get_settings
from undertone.tasks import get_task
from undertone.workspace import Workspace

pytestmark = pytest.mark.usefixtures("prefect_api")

NOW = datetime(2026, 10, 5, tzinfo=UTC)


@pytest.fixture
def here(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The workspace that flows of this process work in."""
    monkeypatch.setenv("UNDERTONE_HOME", str(workspace.settings.home))
    get_settings.cache_clear()
    yield workspace
    get_settings.cache_clear()


def test_two_retrains_of_a_task_never_run_at_once(here: Workspace) -> None:
    with hold(here.store, "train sentiment"), pytest.raises(DecisionError, match="nobody else at work"):
        retrain("sentiment", now=NOW)
    assert here.ledger.entries() == []


def test_bad_data_is_told_and_kept_in_the_ledger(here: Workspace, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("text,label\nhello,furious\n")
    with pytest.raises(DataError, match="furious"):
        retrain("sentiment", source=str(tmp_path / "bad.csv"), now=NOW, trainer="tom")
    (row,) = here.ledger.entries()
    assert (row.kind, row.actor, row.at) == ("training_failed", "tom", NOW)
    assert "furious" in row.reason
    assert here.store.holder("train sentiment") is None
    assert here.registry.versions("sentiment") == []


@pytest.mark.parametrize(("name", "value"), [("task", "urgency"), ("effort", "heroic")])
def test_misuse_is_told(here: Workspace, name: str, value: str) -> None:
    arguments = {"task": "sentiment", "source": "sample:1", "now": NOW} | {name: value}
    with pytest.raises(ConfigError, match=value):
        retrain(**arguments)


LABELS = ("negative", "neutral", "positive")
TRUNK = SPLIT_GRAPHS[EXACT][0]


def words(number: int) -> str:
    return " ".join(random.Random(number).choices(["parcel", "late", "fine", "love", "refund", "app", "team"], k=9))


def with_feedback(here: Workspace, folder: Path, rows: int, labels: int) -> str:
    """A source of `rows` rows, and `labels` labelled messages, one an hour, the last of them an hour ago."""
    lines = [f"{words(number)} {'x' * (number % 97)},{LABELS[number % 3]}" for number in range(rows)]
    (folder / "rows.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    sent = [NOW - timedelta(hours=number + 1) for number in range(labels)]
    messages = [Message(f"m{n}", f"{words(-n - 1)} then", "chat", None, None, at, at) for n, at in enumerate(sent)]
    here.store.record([ScoredMessage(message, ()) for message in messages])
    here.store.add_feedback([Feedback(f"m{n}", "sentiment", LABELS[n % 3], "rae", NOW) for n in range(labels)])
    return f"{folder / 'rows.csv'}+feedback"


def test_a_retrain_is_judged_on_old_and_new_messages_and_says_what_it_cost(
    here: Workspace, tmp_path: Path, tiny_base_model: Path
) -> None:
    source = with_feedback(here, tmp_path, 300, 300)
    result = retrain("sentiment", source=source, effort="smoke", now=NOW, base_model=str(tiny_base_model))
    sizes = {name: part["rows"] for name, part in result["evaluation"]["slices"].items() if name.startswith("holdout")}
    assert set(sizes) == {"holdout=frozen", "holdout=recent"}
    assert sum(sizes.values()) == result["evaluation"]["rows"]
    row = here.ledger.latest("sentiment", ["registered"], result["version"])
    assert row is not None
    assert row.payload["spent"]["wall_s"] > 0
    assert row.payload["spent"]["cpu_s"] > 0
    run = here.registry.client.get_run(result["run_id"])
    assert run.data.params["feedback.half_life_days"] == "28.0"
    assert "holdout_slice.holdout.recent.macro_f1" in run.data.metrics


def test_rows_sent_at_or_after_a_moment_are_not_used(here: Workspace, tmp_path: Path, tiny_base_model: Path) -> None:
    source = with_feedback(here, tmp_path, 300, 100)
    early = NOW - timedelta(hours=50)
    asked = Request("sentiment", source, "smoke", 1, NOW, "tom", None, None, str(tiny_base_model), early)
    work = steps.prepare(here, asked)
    assert work.newest_at == early - timedelta(hours=1)
    work.model.mkdir()
    steps._card(work).write(work.model)
    assert ModelCardData.read(work.model).lineage.rows_until == early


def test_of_many_holdout_rows_the_recent_ones_are_all_looked_at(
    here: Workspace, tmp_path: Path, tiny_base_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.effort import EFFORTS

    source = with_feedback(here, tmp_path, 900, 150)
    work = steps.prepare(here, Request("sentiment", source, "smoke", 1, NOW, "tom", None, None, str(tiny_base_model)))
    whole = work.rows_of("holdout")["holdout"].value_counts()
    for limit, recent in ((len(work.rows_of("holdout")), whole["recent"]), (80, whole["recent"]), (20, 10)):
        monkeypatch.setitem(EFFORTS, "smoke", EFFORTS["smoke"].model_copy(update={"max_eval_rows": limit}))
        looked_at = steps._capped(work, "holdout")
        assert len(looked_at) == limit
        assert looked_at.index.is_monotonic_increasing
        assert (looked_at["holdout"] == "recent").sum() == recent


def test_a_task_is_trained_on_the_trunk_of_a_registered_version(
    here: Workspace, tiny_base_model: Path, tmp_path: Path
) -> None:
    for task, labels in (("sentiment", LABELS), ("sarcasm", get_task("sarcasm").labels)):
        rows = [f"{words(number)} {'x' * (number % 97)},{labels[number % len(labels)]}" for number in range(240)]
        (tmp_path / f"{task}.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    how = {"effort": "smoke", "now": NOW, "trainer": "tom"}
    retrain("sentiment", source=str(tmp_path / "sentiment.csv"), base_model=str(tiny_base_model), trunk="own", **how)
    retrain("sarcasm", source=str(tmp_path / "sarcasm.csv"), trunk="models:/sentiment/1", **how)
    below, above = (here.registry.download(task, 1, tmp_path / task) for task in ("sentiment", "sarcasm"))
    assert (below / TRUNK).read_bytes() == (above / TRUNK).read_bytes()
    lineage = ModelCardData.read(above).lineage
    assert (ModelCardData.read(below).lineage.trunk, lineage.trunk) == ("own", "models:/sentiment/1")
    with (below / "model" / "model.safetensors").open("rb") as stream:
        assert lineage.base_model_sha256 == hashlib.file_digest(stream, "sha256").hexdigest()
