"""What a worker does with copies on disk, with a registry that comes and goes, and with models that do not fit."""

import json
import logging
import threading

import pytest

from undertone import keys, model_folder
from undertone.engine import Engine


def count_warnings(caplog, said):
    return sum(said in record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)


def test_a_new_version_serves_within_seconds_under_load_and_no_request_fails(settings, shelf, serve):
    shelf.publish()
    failures, answers, stop = [], set(), threading.Event()
    with serve(settings) as served:
        served.wait_version(1)

        def load():
            while not stop.is_set():
                answer = served.client.post("/v1/score", json={"text": "good parcel"})
                if answer.status_code != 200:
                    failures.append(answer.text)
                else:
                    said = answer.json()["messages"][0]["tasks"]["sentiment"]
                    answers.add((said["version"], said["digest"], said["confidence"]))

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(2):
                version = shelf.publish()
                assert served.wait_version(version) < 10
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert failures == []
    versions = {version for version, _, _ in answers}
    assert {1, 3} <= versions <= {1, 2, 3}
    assert len(answers) == len(versions), "a version's name stood on another's numbers"


def test_a_request_that_a_swap_overtakes_is_answered_in_the_name_of_what_scored_it(
    settings, shelf, serve, rows, monkeypatch, until
):
    shelf.publish()
    with serve(settings) as served:
        served.wait_version(1)
        old = served.task()["digest"]
        engine = served.worker.slots["sentiment"].served.engine
        run, entered, gate = engine.run, threading.Event(), threading.Event()

        def held(ids, **how):
            entered.set()
            assert gate.wait(60)
            return run(ids, **how)

        monkeypatch.setattr(engine, "run", held)
        answers = []
        asking = threading.Thread(
            target=lambda: answers.append(served.score({"id": "overtaken", "text": "good parcel"}))
        )
        try:
            asking.start()
            until(entered.is_set, "version 1 is scoring")
            shelf.publish()
            served.wait_version(2)
        finally:
            gate.set()
            asking.join()
        said = answers[0]["messages"][0]["tasks"]["sentiment"]
        expected = Engine(shelf.folders["sentiment", 1]).score(["good parcel"]).probabilities[0]
        assert (said["version"], said["digest"]) == (1, old)
        assert list(said["probabilities"].values()) == pytest.approx(expected.tolist(), abs=2e-6)
        assert served.score("good parcel")["messages"][0]["tasks"]["sentiment"]["version"] == 2
        served.wait_stored()
    assert [row["model_version"] for row in rows(settings)[1] if row["message_id"] == "overtaken"] == [1]


def test_mlflow_may_break_and_mend_while_the_worker_runs(settings, shelf, serve, until):
    shelf.publish()
    database = settings.mlflow_home / "mlflow.db"
    with serve(settings) as served:
        served.wait_version(1)
        good = database.read_bytes()
        with database.open("r+b") as stream:  # the same file, so that open connections see it too
            stream.write(b"no database at all" * 300)
        until(lambda: served.ready()["registry_problem"], "the problem shown", 30)
        assert served.score("good")["messages"][0]["tasks"]["sentiment"]["version"] == 1
        with database.open("r+b") as stream:
            stream.write(good)
        until(lambda: not served.ready()["registry_problem"], "MLflow answers again", 30)
        version = shelf.publish()
        served.wait_version(version)


def test_a_start_without_mlflow_serves_from_disk_and_shows_it(settings, shelf, serve, until):
    shelf.publish()
    with serve(settings) as served:
        served.wait_version(1)
        digest = served.task()["digest"]
    with serve(settings.model_copy(update={"tracking_uri": "http://127.0.0.1:9"})) as served:
        assert served.task()["digest"] == digest, "it serves before the registry was asked"
        assert f'digest="{digest[:12]}",task="sentiment"}} 1.0' in served.client.get("/metrics").text
        until(lambda: "127.0.0.1:9" in (served.ready()["registry_problem"] or ""), "the problem shown", 60)
        served.score("good")


def test_a_spoilt_copy_is_told_and_fetched_again(settings, shelf, serve, caplog):
    shelf.publish()
    with serve(settings) as served:
        served.wait_version(1)
    folder = settings.served_dir / "sentiment"
    graph = folder / json.loads((folder / "current.json").read_text())["folder"] / "model" / model_folder.GRAPH
    graph.write_bytes(graph.read_bytes() + b" ")
    with serve(settings) as served:
        served.wait_version(1)
        assert served.task()["refused"] is None
    assert count_warnings(caplog, "sentiment 1 is not served") == 1


def test_a_refusal_at_start_stays_visible_without_an_alias(settings, shelf, serve):
    shelf.publish()
    with serve(settings) as served:
        served.wait_version(1)
    shelf.registry.client.delete_registered_model_alias("sentiment", "champion")
    (settings.trusted_dir / "ann.pub").unlink()
    with serve(settings) as served:
        served.look()
        assert served.client.get("/readyz").status_code == 503
        assert "'ann'" in served.task()["refused"]["found"]
        assert "refused: sentiment 1" in served.score("good", status=503)["error"]["found"]


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"version": "x", "folder": "y"}', "\x00\xff"])
def test_a_spoilt_pointer_does_not_stop_the_start(settings, shelf, serve, content):
    (settings.served_dir / "sentiment").mkdir(parents=True)
    (settings.served_dir / "sentiment" / "current.json").write_text(content)
    shelf.publish()
    with serve(settings) as served:
        served.wait_version(1)


def test_an_alias_taken_away_serves_on(settings, shelf, serve):
    shelf.publish()
    with serve(settings) as served:
        served.wait_version(1)
        shelf.registry.client.delete_registered_model_alias("sentiment", "champion")
        served.look()
        assert served.score("good")["messages"][0]["tasks"]["sentiment"]["version"] == 1


@pytest.mark.parametrize("whole", [False, True], ids=["version", "model"])
def test_what_was_deleted_in_mlflow_serves_on_also_after_a_restart(settings, shelf, serve, whole):
    shelf.publish()
    with serve(settings) as served:
        served.wait_version(1)
        if whole:
            shelf.registry.client.delete_registered_model("sentiment")
        else:
            shelf.registry.client.delete_model_version("sentiment", "1")
        served.look()
        assert served.score("good")["messages"][0]["tasks"]["sentiment"]["version"] == 1
        assert served.ready()["registry_problem"] is None
    with serve(settings) as served:
        served.look()
        assert served.score("good")["messages"][0]["tasks"]["sentiment"]["version"] == 1


def test_a_version_number_used_anew_is_noticed(settings, shelf, serve, until):
    shelf.publish()
    with serve(settings) as served:
        served.wait_version(1)
        old = served.task()["digest"]
        shelf.registry.client.delete_registered_model("sentiment")
        assert shelf.publish() == 1
        until(lambda: served.task()["digest"] != old, "the new version 1 serves")


def test_a_new_approval_is_tried_at_the_next_look(settings, shelf, serve, monkeypatch):
    monkeypatch.setattr("serving.follower.PATIENCE", 1_000_000)  # the same approval is not tried again in this test
    version = shelf.register()
    keys.make(settings, "eve")  # nobody trusts eve
    shelf.approve(version, approver="eve")
    with serve(settings) as served:
        assert "'eve'" in served.wait_refused(version)["found"]
        shelf.approve(version, approver="ann")
        served.wait_version(version)


def test_a_key_that_becomes_trusted_is_enough(settings, shelf, serve):
    version = shelf.register()
    keys.make(settings, "eve")
    shelf.approve(version, approver="eve")
    with serve(settings) as served:
        served.wait_refused(version)
        served.look()
        (settings.keys_dir / "eve.pub").rename(settings.trusted_dir / "eve.pub")
        assert served.wait_version(version) < 10
        assert served.task()["approved_by"] == "eve"


def test_a_refusal_is_logged_once(settings, shelf, serve, caplog):
    version = shelf.register()
    shelf.registry.set_champion("sentiment", version)
    with serve(settings) as served:
        first = served.wait_refused(version)
        for _ in range(4):
            served.look()
        assert served.task()["refused"] == first, "the time of a refusal is that of the first one"
        page = served.client.get("/metrics").text
    assert count_warnings(caplog, f"sentiment {version} is not served") == 1
    assert 'undertone_model_refusals_total{task="sentiment"} 1.0' in page


def test_an_approved_model_with_other_labels_is_refused(settings, shelf, serve):
    shelf.publish()
    version = shelf.approve(shelf.register(labels=("positive", "neutral", "negative")))
    with serve(settings) as served:
        assert "positive, neutral, negative" in served.wait_refused(version)["found"]


def test_an_approved_model_that_cannot_score_is_refused_and_others_are_followed(settings, shelf, serve):
    version = shelf.register("sentiment")
    folder = shelf.folders["sentiment", version]
    words = folder / model_folder.TOKENIZER
    tokenizer = json.loads(words.read_text())
    tokenizer["model"]["vocab"] = {word: 900 + place for word, place in tokenizer["model"]["vocab"].items()}
    words.write_text(json.dumps(tokenizer))
    version = shelf.approve(shelf.register_folder("sentiment", folder))
    shelf.publish("emotion")
    with serve(settings) as served:
        assert "that scores" in served.wait_refused(version)["expected"]
        served.wait_version(1, "emotion")


def test_two_workers_of_one_home_share_copies(settings, shelf, serve):
    shelf.publish()
    with serve(settings) as one, serve(settings) as two:
        for _ in range(3):
            version = shelf.publish()
            one.wait_version(version)
            two.wait_version(version)
        assert one.score("good")["messages"][0]["tasks"] == two.score("good")["messages"][0]["tasks"]
    names = sorted(path.name.split("-")[0] for path in (settings.served_dir / "sentiment").iterdir() if path.is_dir())
    assert names == ["3", "4"]
