"""A new version, or an old one again, takes over between two batches."""

import threading
from contextlib import contextmanager

import httpx
import pytest

from undertone.engine import Engine


@contextmanager
def load(served, clients=4):
    """Clients that ask without a pause. Gives what they were answered: status, version, digest, confidence."""
    seen, stop = [], threading.Event()
    url = str(served.client.base_url.join("/v1/score"))

    def ask():
        with httpx.Client(timeout=60) as client:
            while not stop.is_set():
                answer = client.post(url, json={"messages": [{"text": "good parcel"}, {"text": "bad"}]})
                said = answer.json()["messages"][0]["tasks"]["sentiment"] if answer.status_code == 200 else {}
                seen.append((answer.status_code, said.get("version"), said.get("digest"), said.get("confidence")))

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def more_than(seen, count, until):
    until(lambda: len(seen) > count, f"{count} answers")


def test_swaps_and_rollbacks_under_load_fail_no_request(followed, shelf, until):
    with load(followed) as seen:
        for version in (2, 3):
            more_than(seen, 20, until)
            shelf.publish()
            followed.wait_version(version)
            more_than(seen, len(seen) + 20, until)
        for version in (2, 1):
            assert shelf.roll_back() == version
            followed.wait_version(version)
        more_than(seen, len(seen) + 20, until)
    assert {status for status, *_ in seen} == {200}
    assert {version for _, version, *_ in seen} == {1, 2, 3}
    assert seen[-1][1] == 1
    assert len({tuple(said) for said in seen}) == 3, "a version's name stood on another's numbers"
    assert followed.metric("model_swaps_total", task="sentiment") == 5


def test_a_request_that_a_swap_overtakes_is_answered_in_the_name_of_what_scored_it(
    followed, shelf, rows, monkeypatch, until
):
    old = followed.task()["digest"]
    engine = followed.worker.slots["sentiment"].served.engine
    run, entered, gate = engine.run, threading.Event(), threading.Event()

    def held(ids, **how):
        entered.set()
        assert gate.wait(60)
        return run(ids, **how)

    monkeypatch.setattr(engine, "run", held)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(followed.score({"id": "overtaken", "text": "good parcel"})))
    try:
        asking.start()
        until(entered.is_set, "version 1 is scoring")
        shelf.publish()
        followed.wait_version(2)
    finally:
        gate.set()
        asking.join()
    said = answers[0]["messages"][0]["tasks"]["sentiment"]
    expected = Engine(shelf.folder(1)).score(["good parcel"]).probabilities[0]
    assert (said["version"], said["digest"]) == (1, old)
    assert list(said["probabilities"].values()) == pytest.approx(expected.tolist(), abs=2e-6)
    assert followed.version() == 2
    followed.wait_stored()
    stored = rows(followed.settings)[1]
    assert [row["model_version"] for row in stored if row["message_id"] == "overtaken"] == [1]


def kept(settings):
    """Versions of the copies on disk."""
    folders = [path for path in (settings.served_dir / "sentiment").iterdir() if path.is_dir()]
    return sorted(folder.name.split("-")[0] for folder in folders)


def test_two_workers_of_one_home_share_copies_and_keep_the_last_two(followed, shelf, serve, until):
    with serve(followed.settings) as other:
        for version in (2, 3, 4):
            assert shelf.publish() == version
            followed.wait_version(version)
            other.wait_version(version)
        assert followed.score("good")["messages"][0]["tasks"] == other.score("good")["messages"][0]["tasks"]
    until(lambda: kept(followed.settings) == ["3", "4"], "only the current copy and the one before it are kept")
