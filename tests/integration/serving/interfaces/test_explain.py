"""Token attributions of the engine that serves, from a process beside the worker."""

import itertools
import math
import pickle
import subprocess
import sys
import textwrap

import httpx
import numpy as np
import psutil
import pytest

from serving.explain_child import OutOfTime, Question, explain, explain_one
from undertone.engine import Engine
from undertone.model_folder import MODEL
from undertone.tasks import TASKS

pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # captum imports matplotlib


def folder_of(desk, task="sentiment"):
    return desk.served.worker.slots[task].served.folder / MODEL


def post(desk, *texts, query="?explain=true", status=200, **headers):
    items = [{"text": text} for text in texts]
    answer = desk.served.client.post(f"/v1/score{query}", json={"messages": items}, headers=headers, timeout=60)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_attributions_sum_to_what_the_words_change(desk):
    texts = ["good bad parcel", "great good sure", "parcel", "bad " * 16]
    plain = post(desk, *texts, query="")["messages"]
    for text, before, message in zip(texts, plain, post(desk, *texts)["messages"], strict=True):
        for task in TASKS:
            answer = message["tasks"][task]
            found = answer.pop("explanation")
            assert answer == before["tasks"][task]
            assert found["probability"] == pytest.approx(answer["confidence"], abs=1e-5)
            total = sum(word["attribution"] for word in found["words"])
            assert total == pytest.approx(found["probability"] - found["base"], abs=1e-6)
            assert [text[word["start"] : word["end"]] for word in found["words"]] == text.split()
            assert [word["text"] for word in found["words"]] == text.split()
            assert found["samples"] >= 1
    assert all("explanation" not in answer for message in plain for answer in message["tasks"].values())


def test_good_pulls_up_and_bad_pulls_down(desk):
    words = {word["text"]: word["attribution"] for word in post(desk, "good good good bad")["messages"][0]["tasks"][
        "sentiment"]["explanation"]["words"]}  # fmt: skip
    assert words["good"] > 0 > words["bad"]


def test_they_are_the_shapley_values_of_the_served_engine(desk):
    """Against every order of the words, worked out by hand from the engine."""
    folder, text = folder_of(desk), "great bad parcel good"
    engine, words = Engine(folder), text.split()
    label = int(np.argmax(engine.score([text]).probabilities[0]))

    def value(present):
        masked = " ".join(word if place in present else "unheard" for place, word in enumerate(words))
        return float(engine.score([masked]).probabilities[0, label])

    exact = [0.0] * len(words)
    for order in itertools.permutations(range(len(words))):
        for place, word in enumerate(order):
            exact[word] += (value(set(order[: place + 1])) - value(set(order[:place]))) / math.factorial(len(words))
    found = explain_one(Question(folder, text, label), 30.0, samples=300)
    assert found.samples == 300
    for word, expected in zip(found.words, exact, strict=True):
        assert word.attribution == pytest.approx(expected, abs=max(5 * word.error, 1e-6))
    assert max(word.error for word in found.words) < 0.02


def test_the_same_number_of_orders_gives_the_same_values(desk):
    question = Question(folder_of(desk), "great bad parcel good sure", 2)
    first, second = (explain_one(question, 30.0, samples=4) for _ in range(2))
    assert first == second
    assert explain_one(question, 0.0).samples == 1


def test_too_little_time_says_how_far_it_came(desk):
    question = Question(folder_of(desk), "great bad parcel good sure", 2)
    with pytest.raises(OutOfTime) as late:
        explain([question] * 3, -1.0)
    assert late.value.explained == 0
    assert pickle.loads(pickle.dumps(late.value)).explained == 0
    assert [found.samples >= 1 for found in explain([question] * 3, 5.0)] == [True] * 3


def test_a_request_without_the_time_for_it_is_refused_and_the_next_is_not(ready, process, tmp_path):
    with process(ready.model_copy(update={"explain_seconds": 0.000001}), tmp_path / "log") as worker:
        for _ in range(2):
            answer = httpx.post(f"{worker.url}/v1/score?explain=true", json={"text": "good bad"}, timeout=60)
            assert answer.status_code == 503
            assert "time for 0 of them" in answer.json()["error"]["found"]
            assert int(answer.headers["Retry-After"]) == 5


def test_limits(desk):
    error = post(desk, *["good"] * 21, status=413)["error"]
    assert "20 messages" in error["expected"]
    assert "explain=true" in post(desk, "good", query="?explain=maybe", status=422)["error"]["expected"]
    late = post(desk, "good", status=503, **{"X-Latency-Budget-Ms": "100"})
    assert "time left" in late["error"]["expected"]


def test_what_is_explained_is_recorded_once(desk, rows):
    item = {"id": "explained-1", "text": "good"}
    assert desk.served.client.post("/v1/score?explain=true", json=item, timeout=60).status_code == 200
    desk.served.wait_stored()
    messages, _ = rows(desk.settings)
    assert [row["text"] for row in messages if row["id"] == "explained-1"] == ["good"]


def test_the_worker_holds_no_torch_and_its_child_ends_with_it(ready, process, tmp_path, until):
    with process(ready.model_copy(update={"explain_seconds": 2.0}), tmp_path / "log") as worker:
        answer = httpx.post(f"{worker.url}/v1/score?explain=true", json={"text": "good bad"}, timeout=60)
        assert answer.status_code == 200
        assert answer.json()["messages"][0]["tasks"]["sentiment"]["explanation"]["words"]
        me = psutil.Process(worker.child.pid)
        mapped = {place.path for place in me.memory_maps()}
        assert not [path for path in mapped if "libtorch" in path]
        holders = [
            child for child in me.children(recursive=True) if any("libtorch" in m.path for m in child.memory_maps())
        ]
        assert [child.nice() for child in holders] == [10]
        worker.child.kill()
        until(lambda: not holders[0].is_running() or holders[0].status() == psutil.STATUS_ZOMBIE, "the child ended")


def test_after_a_rest_or_a_death_there_is_a_new_process(desk):
    code = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from types import SimpleNamespace as S
        from serving.explain import Explainer
        from undertone.settings import Settings
        from undertone.tasks import TASKS

        async def main():
            slot = S(served=S(version=1, folder=Path(sys.argv[1])), spec=TASKS["sentiment"], copies=list)
            explainer = Explainer({"sentiment": slot}, Settings(explain_seconds=1), idle_s=0.3)
            item = S(message=S(text="good bad"), predictions=[S(task="sentiment", model_version=1, label="positive")])
            loop = asyncio.get_running_loop()
            (found,) = await explainer.explain([item], loop.time() + 60)
            assert len(found["sentiment"].words) == 2
            first = explainer.processes[0].pid
            while explainer.processes:
                await asyncio.sleep(0.02)
            await explainer.explain([item], loop.time() + 60)
            second = explainer.processes[0]
            second.kill()
            second.join()
            try:
                await explainer.explain([item], loop.time() + 60)
            except Exception as error:
                print(first != second.pid, type(error).__name__)
            await explainer.explain([item], loop.time() + 60)
            third = explainer.processes[0]
            await explainer.stop()
            third.join(20)
            print(third.exitcode)
        if __name__ == "__main__":
            asyncio.run(main())
    """)
    script = desk.settings.home / "rest.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, str(script), str(folder_of(desk).parent)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "Later", "-15"]


def test_without_captum_it_says_what_to_install(ready, process, tmp_path, monkeypatch, rows):
    (tmp_path / "captum").mkdir()
    (tmp_path / "captum" / "__init__.py").write_text("raise ImportError('no captum here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with process(ready, tmp_path / "log") as worker:
        item = {"id": "not-explained", "text": "good"}
        answer = httpx.post(f"{worker.url}/v1/score?explain=true", json=item, timeout=60)
        assert answer.status_code == 503
        assert "pip install captum" in answer.json()["error"]["next_step"]
        assert worker.score({"id": "plain", "text": "bad"}).status_code == 200
        assert worker.stop() == 0
    assert "not-explained" not in {row["id"] for row in rows(ready)[0]}
