"""The study of a sweep, with Optuna itself on SQLite: what counts, what is run again, what is pruned and refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from optuna import Study, TrialPruned, create_study
from optuna.trial import TrialState

from training import study as studies
from training import sweep_report
from training.space import Range
from training.sweep import FAILURES, SCORE, Judge, Plan, _stop_where_all_fail, best
from training.work import Request
from undertone.errors import ConfigError, StoreError, TrainingError
from undertone.settings import Settings

# trials are begun by hand here; a sweep begins them with `Study.optimize`
pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed to be used with Study.optimize")

NOW = datetime(2026, 10, 5, tzinfo=UTC)


@pytest.fixture
def lost() -> list[int]:
    """Numbers of the trials that were queued again."""
    return []


@pytest.fixture
def study(tmp_path: Path, lost: list[int]) -> Iterator[Study]:
    with studies.opened(Settings(home=tmp_path), "tried", lambda trial: lost.append(trial.number)) as made:
        yield made


def begin(study: Study, process: str) -> float:
    trial = study.ask()
    trial.set_user_attr(studies.PROCESS, process)
    return trial.suggest_float("balance", 0, 1)


def test_the_trial_of_a_killed_process_is_run_again_and_counts_once(study: Study, lost: list[int]) -> None:
    study.tell(study.ask(), 0.5)
    asked = begin(study, "dead")
    begin(study, "alive")
    begin(study, "on another machine")
    assert not studies.wanting(study, 4)
    studies.revive(study, {"dead": False, "alive": True}.get, lambda trial: lost.append(trial.number))
    assert lost == [1]
    assert [trial.number for trial in studies.counted(study)] == [0, 2, 3, 4]
    assert studies.wanting(study, 4), "the queued one is to be begun"
    assert begin(study, "alive") == asked
    assert not studies.wanting(study, 4)
    assert studies.wanting(study, 5)


def test_a_trial_that_kills_every_process_fails_for_good(study: Study, lost: list[int]) -> None:
    for _ in range(studies.RETRIES + 1):
        assert studies.wanting(study, 1)
        begin(study, "dead")
        studies.revive(study, lambda process: False, lambda trial: lost.append(trial.number))
    assert not studies.wanting(study, 1)
    assert [trial.state for trial in studies.ended(study)] == [TrialState.FAIL]
    with pytest.raises(TrainingError, match="ended well"):
        best(study)


def test_a_sweep_ends_where_every_trial_fails(study: Study) -> None:
    for number in range(FAILURES):
        _stop_where_all_fail(study)
        trial = study.ask()
        trial.set_user_attr(studies.ERROR, f"no loss {number}")
        study.tell(trial, state=TrialState.FAIL)
    with pytest.raises(TrainingError, match="no loss 2"):
        _stop_where_all_fail(study)
    study.tell(study.ask(), 0.5)
    _stop_where_all_fail(study)


def test_a_draw_depends_on_the_seed_and_the_trials_before_it_alone(tmp_path: Path) -> None:
    def draws(name: str, stopped_after: int) -> list[float]:
        found: list[float] = []
        for first, last in ((0, stopped_after), (stopped_after, 8)):  # two processes, one after the other
            with studies.opened(Settings(home=tmp_path), name, lambda trial: None) as study:
                for _ in range(first, last):
                    studies.seeded(study, 7)
                    trial = study.ask()
                    found.append(trial.suggest_float("balance", 0, 1))
                    study.tell(trial, found[-1])
        return found

    whole = draws("whole", 8)
    assert draws("stopped", 3) == whole
    assert len(set(whole)) == 8


def test_a_training_worse_than_the_median_ends_early_but_not_after_its_last_pass(study: Study) -> None:
    curve: list[int] = []

    def run(scores: list[float]) -> float:
        trial = study.ask()
        judge = Judge(trial, len(scores), lambda values, step: curve.append(step))
        try:
            for step, score in enumerate(scores):
                judge({"loss": 1.0}, step)
                judge({SCORE: score}, step)
        except TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
            raise
        assert judge.best == max(scores)
        study.tell(trial, judge.best)
        return judge.best

    for score in (0.5, 0.6, 0.7, 0.8):
        run([score, score, score - 0.1, score])
    with pytest.raises(TrialPruned):
        run([0.55, 0.55])  # at half of the training the others had 0.65 in the middle
    assert len(curve) == 4 * 8 + 2
    assert run([0.9, 0.1]) == 0.9
    assert best(study).number == 5
    assert not studies.wanting(study, 6)


def test_a_study_of_other_data_is_refused(study: Study) -> None:
    identity = {"task": "sentiment", "data_sha256": "d" * 64, "fixed hyperparameters": {"epochs": 4, "dropout": None}}
    studies.claim(study, identity)
    studies.claim(study, identity)
    with pytest.raises(ConfigError, match=r"the data sha256 that study 'tried' was made for: d+; found e+"):
        studies.claim(study, identity | {"data_sha256": "e" * 64})
    with pytest.raises(ConfigError, match="--study NAME"):
        studies.claim(study, identity | {"fixed hyperparameters": {"epochs": 5}})


def test_pictures_and_importances_come_with_trials_that_differ(tmp_path: Path) -> None:
    study = create_study(direction="maximize", study_name="drawn")  # in memory

    def run(score: float) -> None:
        trial = study.ask()
        rate, _ = trial.suggest_float("learning_rate", 0, 1), trial.suggest_float("balance", 0, 1)
        study.tell(trial, score * rate)

    for _ in range(sweep_report.IMPORTANCE_TRIALS - 1):
        run(1.0)
    assert sweep_report.importances(study) == {}
    for _ in range(3):
        run(1.0)
    weights = sweep_report.importances(study)
    assert list(weights) == ["learning_rate", "balance"]
    assert sum(weights.values()) == pytest.approx(1)
    for draw in (sweep_report.draw_history(study, tmp_path / "h.png"),
                 sweep_report.draw_importances(weights, tmp_path / "i.png")):  # fmt: skip
        assert draw.read_bytes().startswith(b"\x89PNG")
    assert [row["macro_f1"] for row in sweep_report.rows(study)] == [trial.value for trial in study.trials]


def test_studies_on_sqlite_have_a_file_of_their_own(tmp_path: Path, study: Study) -> None:
    with sqlite3.connect(tmp_path / ".undertone" / "sweeps.db") as connection:
        assert connection.execute("select study_name from studies").fetchall() == [("tried",)]
    assert not (tmp_path / ".undertone" / "undertone.db").exists()


def test_a_database_out_of_reach_is_told_without_its_password() -> None:
    settings = Settings(store_url="postgresql+psycopg://ann:secret@127.0.0.1:1/none")
    with pytest.raises(StoreError, match="the database of sweeps") as told, studies.opened(settings, "x", print):
        pass
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"study": "../up"}, "letters, digits"),
        ({"trials": 0}, "one trial at least"),
        ({"space": {}}, "a hyperparameter to search"),
        ({"space": {"epochs": Range(1, 2)}}, "fixed or searched; found both: epochs"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(changes: dict, said: str) -> None:
    request = Request("sentiment", "sample", "smoke", 7, NOW, "ann", overrides={"epochs": 2})
    with pytest.raises(ConfigError, match=said):
        Plan(**{"request": request, "space": {"balance": Range(0.0, 1.0)}, "trials": 2, "study": "s"} | changes)
