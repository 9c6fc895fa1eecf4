"""What a worker does with copies on disk, with a registry that comes and goes, and with models that do not fit."""

import json
import logging
from datetime import UTC, datetime

import pytest

from undertone import keys
from undertone.governance import Act
from undertone.model_folder import GRAPH, TOKENIZER, ModelCardData
from undertone.workspace import Workspace

EVE = Act("eve", "mine", datetime(2026, 10, 7, tzinfo=UTC))


def count_warnings(caplog, said):
    return sum(said in record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)


def offline(settings):
    return settings.model_copy(update={"tracking_uri": "http://127.0.0.1:9"})


def copy_of(settings):
    """Folder of the last good copy."""
    folder = settings.served_dir / "sentiment"
    return folder / json.loads((folder / "current.json").read_text())["folder"]


def test_mlflow_may_break_and_mend_while_the_worker_runs(followed, shelf, until):
    database = followed.settings.mlflow_home / "mlflow.db"
    good = database.read_bytes()
    with database.open("r+b") as stream:  # the same file, so that open connections see it too
        stream.write(b"no database at all" * 300)
    until(lambda: followed.ready()["registry_problem"], "the problem shown")
    assert followed.version() == 1
    with database.open("r+b") as stream:
        stream.write(good)
    until(lambda: not followed.ready()["registry_problem"], "MLflow answers again")
    followed.wait_version(shelf.publish())


def test_a_start_without_mlflow_serves_from_disk_and_shows_it(ready, serve, until):
    with serve(offline(ready)) as served:
        digest = served.task()["digest"]
        assert served.task()["version"] == 1, "it serves before the registry was asked"
        assert f'digest="{digest[:12]}",task="sentiment"}} 1.0' in served.client.get("/metrics").text
        until(lambda: "127.0.0.1:9" in (served.ready()["registry_problem"] or ""), "the problem shown", 60)
        assert served.version() == 1


@pytest.mark.parametrize("victim", [GRAPH, "approval.json", "undertone/model.json"])
def test_a_copy_on_disk_is_verified_too(ready, serve, victim):
    path = copy_of(ready) / "model" / victim
    path.write_bytes(path.read_bytes() + b" ")
    with serve(offline(ready)) as served:
        assert served.task()["version"] is None
        assert served.task()["refused"]["version"] == 1
        served.score("good", status=503)


def test_a_spoilt_copy_is_told_and_fetched_again(ready, serve, caplog):
    graph = copy_of(ready) / "model" / GRAPH
    graph.write_bytes(graph.read_bytes() + b" ")
    with serve(ready) as served:
        served.wait_version(1)
        assert served.task()["refused"] is None
    assert count_warnings(caplog, "sentiment 1 is not served") == 1


def test_a_refusal_at_start_stays_visible_without_an_alias(ready, serve):
    Workspace(ready).registry.client.delete_registered_model_alias("sentiment", "champion")
    (ready.trusted_dir / "ann.pub").unlink()
    with serve(ready) as served:
        served.look()
        assert served.client.get("/readyz").status_code == 503
        assert "'ann'" in served.task()["refused"]["found"]
        assert "refused: sentiment 1" in served.score("good", status=503)["error"]["found"]


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"version": "x", "folder": "y"}', "\x00\xff"])
def test_a_spoilt_pointer_does_not_stop_the_start(ready, serve, content):
    (ready.served_dir / "sentiment" / "current.json").write_text(content)
    with serve(ready) as served:
        served.wait_version(1)


def test_an_alias_taken_away_serves_on(served):
    Workspace(served.settings).registry.client.delete_registered_model_alias("sentiment", "champion")
    served.look()
    assert served.version() == 1


@pytest.mark.parametrize("whole", [False, True], ids=["version", "model"])
def test_what_was_deleted_in_mlflow_serves_on_also_after_a_restart(ready, serve, whole):
    client = Workspace(ready).registry.client
    with serve(ready) as served:
        served.look()
        if whole:
            client.delete_registered_model("sentiment")
        else:
            client.delete_model_version("sentiment", "1")
        served.look()
        assert served.version() == 1
        assert served.ready()["registry_problem"] is None
    with serve(ready) as served:
        served.look()
        assert served.version() == 1


def test_a_version_number_used_anew_is_noticed(followed, shelf, until):
    old = followed.task()["digest"]
    shelf.registry.client.delete_registered_model("sentiment")
    assert shelf.publish() == 1
    until(lambda: followed.task()["digest"] != old, "the new version 1 serves")


@pytest.fixture
def eves(shelf, workspace, register, tmp_path):
    """The registry as somebody sees it who trusts herself."""
    own = {"actor": "eve", "trusted_keys": tmp_path / "eve", "signing_key": tmp_path / "eve.key"}
    return type(shelf)(Workspace(workspace.settings.model_copy(update=own)), register, tmp_path / "eves")


def test_a_new_approval_is_tried_at_the_next_look(shelf, eves, serve, monkeypatch):
    monkeypatch.setattr("serving.follower.PATIENCE", 1_000_000)  # the same approval is not tried again in this test
    version = eves.approve(shelf.register(), act=EVE)
    with serve(shelf.workspace.settings) as served:
        assert "'eve'" in served.wait_refused(version)["found"]
        shelf.approve(version)
        served.wait_version(version)


def test_a_key_that_becomes_trusted_is_enough(shelf, eves, serve):
    settings = shelf.workspace.settings
    version = eves.approve(shelf.register(), act=EVE)
    with serve(settings) as served:
        served.wait_refused(version)
        served.look()
        keys.trust(settings, "eve", eves.workspace.settings.trusted_dir / "eve.pub", "approver")
        served.wait_version(version)
        assert served.task()["approved_by"] == "eve"


def test_a_refusal_is_logged_once(shelf, serve, caplog):
    version = shelf.register()
    shelf.registry.set_champion("sentiment", version)
    with serve(shelf.workspace.settings) as served:
        first = served.wait_refused(version)
        for _ in range(4):
            served.look()
        assert served.task()["refused"] == first, "the time of a refusal is that of the first one"
        assert served.metric("model_refusals_total", task="sentiment") == 1
    assert count_warnings(caplog, f"sentiment {version} is not served") == 1


def turn_labels_around(folder):
    card = ModelCardData.read(folder)
    card.model_copy(update={"labels": card.labels[::-1]}).write(folder)


def test_an_approved_model_with_other_labels_is_refused(shelf, serve):
    version = shelf.publish(edit=turn_labels_around)
    with serve(shelf.workspace.settings) as served:
        assert "positive, neutral, negative" in served.wait_refused(version)["found"]


def name_words_that_the_graph_lacks(folder):
    words = folder / TOKENIZER
    tokenizer = json.loads(words.read_text())
    tokenizer["model"]["vocab"] = {word: 900 + place for word, place in tokenizer["model"]["vocab"].items()}
    words.write_text(json.dumps(tokenizer))


def test_an_approved_model_that_cannot_score_is_refused_and_others_are_followed(shelf, serve):
    version = shelf.publish(edit=name_words_that_the_graph_lacks)
    shelf.publish("emotion")
    with serve(shelf.workspace.settings) as served:
        assert "that scores" in served.wait_refused(version)["expected"]
        served.wait_version(1, "emotion")
