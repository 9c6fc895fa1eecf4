"""Reproducing a version: the same bytes from the same inputs, and what is said when an input is not the same."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows import recorded_code
from flows.recorded_code import Code
from flows.recorded_inputs import copy_labels
from flows.reproduce import reproduce, text
from flows.retrain import retrain
from training import lineage, steps
from training.work import Request
from undertone.errors import ConfigError, DataError, RegistryError, VerificationError
from undertone.model_folder import ModelCardData
from undertone.records import Feedback, Message, ScoredMessage
from undertone.settings import Settings, get_settings
from undertone.store import Store
from undertone.workspace import Workspace

NOW = datetime(2026, 10, 5, 9, 30, tzinfo=UTC)
WORDS = {
    "negative": ["hate", "awful", "late"],
    "neutral": ["okay", "fine", "arrived"],
    "positive": ["love", "great", "happy"],
}
THINGS = ["parcel", "refund", "order", "delivery", "price", "team", "app", "support", "invoice", "answer"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chooser = random.Random(3)
    path = tmp_path_factory.mktemp("data") / "messages.csv"
    lines = ["words,mood"]
    for _ in range(400):
        label = chooser.choice(list(WORDS))
        words = [*chooser.choices(WORDS[label], k=2), *chooser.choices(THINGS, k=6)]
        lines.append(f"{' '.join(words)},{label}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def trained(
    source: Path,
    tiny_base_model: Path,
    prefect_api: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Workspace]:
    """A workspace with one version."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", prefect_api)
        patch.setenv("UNDERTONE_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("UNDERTONE_ACTOR", "ann")
        patch.setenv("UNDERTONE_ENGINE_THREADS", "1")
        get_settings.cache_clear()
        retrain(
            "sentiment",
            source=str(source),
            effort="smoke",
            seed=11,
            now=NOW,
            text_column="words",
            label_column="mood",
            base_model=str(tiny_base_model),
            trainer="tom",
        )
        yield Workspace(get_settings())
    get_settings.cache_clear()


@pytest.mark.timeout(900)
def test_the_same_inputs_give_the_same_bytes(trained: Workspace) -> None:
    result = reproduce(trained, "sentiment", 1, now=NOW)
    assert result["verdict"] in {"identical", "same weights"}, text(result)
    assert result["data"]["same"]
    commit = lineage.commit()
    assert result["code"]["recorded"] == commit
    assert result["code"]["same"] == (commit != "unknown" and not commit.endswith("-dirty"))
    assert {line["difference"] for line in result["metrics"].values()} == {0.0}
    assert {item["greatest_difference"] for item in result["files"]} == {None, 0.0}
    assert result["predictions"]["same_label"] == 1.0
    assert result["predictions"]["greatest_difference"] == 0.0
    (row,) = trained.ledger.entries("sentiment", ["reproduced"])
    assert (row.version, row.actor, row.at) == (1, "ann", NOW)
    assert row.payload["verdict"] == result["verdict"]
    assert [item.version for item in trained.registry.versions("sentiment")] == [1]
    assert not list((trained.settings.state_dir / "reproduce").iterdir())
    assert json.loads(json.dumps(result)) == result
    assert result["verdict"] in text(result)


def test_a_changed_source_is_told(
    trained: Workspace, source: Path, tiny_base_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_but_do_not_learn(code: Code, arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
        """A training that reads the data of today, and gives the model of then."""
        home = Path(environment["UNDERTONE_HOME"])
        there = Workspace(Settings(home=home, artifact_uri=(home / "artifacts").as_uri()))
        assert arguments[:3] == ["sentiment", "--source", str(source)]
        request = Request("sentiment", str(source), "smoke", 11, NOW, "tom", "words", "mood", str(tiny_base_model))
        work = steps.prepare(there, request)
        folder = trained.registry.download("sentiment", 1, tmp_path / "model")
        then = ModelCardData.read(folder)
        now = then.lineage.model_copy(update={"data_sha256": work.data_sha256, "rows": work.rows})
        then.model_copy(update={"lineage": now}).write(folder)
        run = there.registry.client.create_run(there.registry.experiment_id())
        evaluation = trained.registry.read_file(trained.registry.get("sentiment", 1).run_id, "evaluation/holdout.json")
        there.registry.client.log_text(run.info.run_id, evaluation.decode(), "evaluation/holdout.json")
        return {"version": there.registry.create("sentiment", folder, run.info.run_id, {}).version}

    monkeypatch.setattr(recorded_code, "train", read_but_do_not_learn)
    whole = source.read_text()
    source.write_text("".join(whole.splitlines(keepends=True)[:-20]))
    try:
        result = reproduce(trained, "sentiment", 1, now=NOW)
    finally:
        source.write_text(whole)
    assert result["verdict"] == "different"
    assert not result["data"]["same"]
    assert result["data"]["recorded"] != result["data"]["repeated"]
    assert result["predictions"] is None
    assert "THE DATA IS NOT THE SAME" in text(result)
    assert trained.registry.get("sentiment", 1).version == 1, "MLflow is back at the workspace"


def test_what_cannot_come_out_the_same_is_refused_at_once(
    trained: Workspace, source: Path, tiny_base_model: Path
) -> None:
    with pytest.raises(RegistryError, match=r"version 2 .* found versions 1\."):
        reproduce(trained, "sentiment", 2, now=NOW)
    with pytest.raises(RegistryError, match="none at all"):
        reproduce(trained, "sarcasm", 1, now=NOW)
    with pytest.raises(ConfigError, match="urgency"):
        reproduce(trained, "urgency", 1, now=NOW)
    hidden = source.rename(source.with_suffix(".gone"))
    try:
        with pytest.raises(DataError, match="nothing there"):
            reproduce(trained, "sentiment", 1, now=NOW)
    finally:
        hidden.rename(source)
    weights = tiny_base_model / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept + b" ")
    try:
        with pytest.raises(VerificationError, match="base model"):
            reproduce(trained, "sentiment", 1, now=NOW)
    finally:
        weights.write_bytes(kept)
    assert not list((trained.settings.state_dir / "reproduce").iterdir())


@pytest.mark.parametrize(
    ("commit", "said"), [("unknown", "no commit"), (f"{'a' * 40}-dirty", "changed files"), ("b" * 40, "not to be had")]
)
def test_without_the_commit_the_present_code_stands_in(tmp_path: Path, commit: str, said: str) -> None:
    code = recorded_code.check_out(commit, tmp_path / "code")
    assert (code.folder, code.recorded) == (lineage.PROJECT, False)
    assert said in code.caveat
    assert not (tmp_path / "code").exists()


def test_labels_given_until_the_training_come_along(workspace: Workspace, tmp_path: Path) -> None:
    hour = timedelta(hours=1)
    messages = [Message(f"m{n}", f"text {n}", "chat", None, "c", NOW - hour if n else None, NOW) for n in range(3)]
    workspace.store.record([ScoredMessage(message, ()) for message in messages])
    workspace.store.add_feedback(
        [Feedback(f"m{n}", "sentiment", "positive", "rae", NOW + (n - 1) * hour) for n in range(3)]
    )
    there = Store(f"sqlite:///{tmp_path / 'there.db'}")
    there.migrate()
    copy_labels(workspace.store, there, "sentiment", NOW)
    wanted = [dict(row) for row in workspace.store.labelled("sentiment", NOW)]
    assert len(wanted) == 2
    assert [dict(row) for row in there.labelled("sentiment")] == wanted
