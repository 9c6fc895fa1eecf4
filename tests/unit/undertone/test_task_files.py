"""A task in a file: what it may say, what it is told when it is wrong, and who sees it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from undertone.errors import ConfigError
from undertone.settings import Settings, get_settings
from undertone.task_files import read_task, tasks_in
from undertone.tasks import BUILT_IN, FLOORS, TASKS, GatePolicy, TaskSpec, get_task


def write(folder: Path, text: str, name: str = "urgency.toml") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_labels_are_enough_and_the_rest_is_as_in_the_built_in_tasks(tmp_path: Path) -> None:
    spec = read_task(write(tmp_path, 'labels = ["low", "high"]'))
    assert spec == TaskSpec(name="urgency", labels=("low", "high"), title="Urgency: low or high?")


def test_a_file_may_say_all_that_a_spec_has(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").touch()
    (tmp_path / "encoder").mkdir()
    spec = read_task(
        write(
            tmp_path,
            """
            name = "urgency"
            labels = ["low", "high"]
            title = "How soon?"
            source = "rows.csv+feedback+gone.csv"
            base_model = "encoder"
            [gate]
            floor = 0.7
            [drift.floors]
            text = {warn = 0.7}
            """,
        )
    )
    assert spec.source == f"{tmp_path / 'rows.csv'}+feedback+gone.csv"
    assert spec.base_model == str(tmp_path / "encoder")
    assert (spec.title, spec.gate) == ("How soon?", GatePolicy(floor=0.7))
    assert spec.drift.floors["text"].warn == 0.7
    assert {name: floor for name, floor in spec.drift.floors.items() if name != "text"} == {
        name: floor for name, floor in FLOORS.items() if name != "text"
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "labels"),
        ('labels = ["low"]', "labels"),
        ('labels = ["low", "low"]', "repeat"),
        ('labels = ["low", 2]', "labels.1"),
        ('labels = ["low", "high"]\nmax_token = 5', "max_token"),
        ('labels = ["low", "high"]\n[gate]\nfloor = 80', "gate.floor"),
        ('labels = ["low", "high"]\n[drift.floors]\nspeed = {warn = 1}', "speed"),
        ('labels = ["low", "high"]\nname = "haste"', "'haste'"),
        ('labels = ["low", "high"', "Unclosed array"),
    ],
)
def test_a_wrong_file_is_told_with_its_name_and_field(tmp_path: Path, text: str, said: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        tasks_in(tmp_path)
    assert str(file) in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["sentiment.toml", "all.toml", "Urgent.toml", "how soon.toml", "1st.toml"])
def test_a_name_that_is_taken_or_is_none_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, 'labels = ["low", "high"]', name)
    with pytest.raises(ConfigError, match="rename the file"):
        tasks_in(tmp_path)


def test_settings_know_the_tasks_of_their_own_home(tmp_path: Path) -> None:
    write(tmp_path / "tasks", 'labels = ["low", "high"]\n[gate]\nfloor = 0.7')
    settings = Settings(home=tmp_path, invocations_task="urgency", gate={"urgency": {"margin": 0.05}})
    assert settings.gate_policy("urgency") == GatePolicy(floor=0.7, margin=0.05)
    with pytest.raises(ValueError, match="unknown task 'urgency'"):
        Settings(home=tmp_path / "elsewhere", invocations_task="urgency")


def test_a_built_in_task_needs_no_file_to_be_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "labels = 1")
    monkeypatch.setenv("UNDERTONE_TASKS_DIR", str(tmp_path))
    get_settings.cache_clear()
    try:
        assert get_task("sentiment") is BUILT_IN["sentiment"]
        with pytest.raises(ConfigError, match=r"urgency\.toml"):
            list(TASKS)
    finally:
        get_settings.cache_clear()


def test_every_process_sees_it(tmp_path: Path) -> None:
    write(tmp_path / "tasks", 'labels = ["low", "high"]')
    code = (
        "from console.render import TASKS\n"
        "from serving.worker import Worker\n"
        "from undertone.settings import get_settings\n"
        "print(*TASKS, *Worker(get_settings()).slots)"
    )
    environment = os.environ | Settings(home=tmp_path).environment()
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd="/")
    assert done.stdout.split() == [*BUILT_IN, "urgency"] * 2, done.stderr
