"""The study of a sweep: Optuna's record of its trials, in a database that several processes share.

What counts as one of a sweep's N trials: every trial but those of processes that were killed, which are queued again
with the same hyperparameters.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertone.errors import ConfigError, StoreError
from undertone.settings import Settings, without_password

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

#: Seconds between two signs of life of a running trial, and without one before another machine takes it for dead.
BEAT_S, GRACE_S = 10, 60

#: Times that a trial whose process was killed is queued again.
RETRIES = 2

#: Schema of Optuna's tables in a PostgreSQL database: its ``alembic_version`` is not that of the store, nor MLflow's.
SCHEMA = "undertone_sweeps"

#: Trial attributes: the process that runs it, its MLflow run, what went wrong, the seconds it took.
PROCESS, RUN, ERROR, SECONDS = "process", "run_id", "error", "seconds"

Lost = Callable[["FrozenTrial"], None]


def database_url(settings: Settings) -> str:
    """SQLAlchemy URL of the studies: a file of their own beside a store on SQLite, else the store's database."""
    if settings.database_url.startswith("sqlite"):
        return f"sqlite:///{settings.state_dir / 'sweeps.db'}"
    return settings.database_url


@contextmanager
def opened(settings: Settings, name: str, lost: Lost, sampler_seed: int = 0) -> Iterator[Study]:
    """The study called `name`, made if it is new. Only one process at a time may be about to open it.

    Args:
        settings: name the database.
        name: of the study.
        lost: called for a trial whose process is gone, before it is queued again.
        sampler_seed: of the first draw, see `seeded`.

    Raises:
        StoreError: the database is out of reach.
    """
    import optuna
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = None
    try:
        storage = _storage(settings, lost)
        yield optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
            sampler=_sampler(sampler_seed),
        )
    except (SQLAlchemyError, StorageInternalError) as error:
        raise StoreError(
            f"the database of sweeps at {without_password(database_url(settings))}",
            f"{type(error).__name__}: {str(error).splitlines()[0]}",
            "check that it is up; the same command then goes on",
        ) from error
    finally:
        if storage is not None:
            storage.remove_session()
            storage.engine.dispose()


def claim(study: Study, identity: Mapping[str, Any]) -> None:
    """Write into a new study what its trials have in common, or check that an old one has the same.

    Raises:
        ConfigError: it was made for other data, another space, ….
    """
    known = study.user_attrs.get("identity")
    if known is None:
        study.set_user_attr("identity", dict(identity))
        return
    for key, value in identity.items():
        if known.get(key) != value:
            raise ConfigError(
                f"the {key.replace('_', ' ')} that study {study.study_name!r} was made for: {known.get(key)}",
                f"{value}",
                "ask for what it was made for, or begin another study with --study NAME",
            )


def seeded(study: Study, seed: int) -> None:
    """Let the next draw depend on `seed` and the trials so far alone, whichever process makes it."""
    study.sampler = _sampler(seed + len(study.get_trials(deepcopy=False)))


def counted(study: Study) -> list[FrozenTrial]:
    """The study's trials without those that were queued again, in order."""
    from optuna.storages import RetryHeartbeatStaleTrialCallback as Retry

    trials = study.get_trials()
    with _unwarned():
        again = {number for trial in trials for number in Retry.retry_history(trial)}
    return [trial for trial in trials if trial.number not in again]


def running(study: Study) -> list[FrozenTrial]:
    """Trials that have begun and not ended."""
    return [trial for trial in counted(study) if trial.state.name == "RUNNING"]


def ended(study: Study) -> list[FrozenTrial]:
    """Trials that came to an end: complete, pruned or failed."""
    return [trial for trial in counted(study) if trial.state.is_finished()]


def wanting(study: Study, trials: int) -> bool:
    """Whether one more of `trials` trials in all is to be begun."""
    found = counted(study)
    return any(trial.state.name == "WAITING" for trial in found) or len(found) < trials


def again(study: Study, trial: FrozenTrial, lost: Lost) -> None:
    """Queue `trial`, which ended with its process, once more; after `RETRIES` times it has failed for good."""
    from optuna.storages import RetryHeartbeatStaleTrialCallback

    lost(trial)
    with _unwarned():
        RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)(study, trial)


def revive(study: Study, alive: Callable[[str], bool | None], lost: Lost) -> None:
    """Queue trials of dead processes again, at once where death can be seen (the heartbeat needs a minute).

    Args:
        study: the study.
        alive: whether the process of this name lives; None: that cannot be seen from here.
        lost: as in `opened`.
    """
    from optuna.trial import TrialState

    for trial in running(study):
        process = trial.user_attrs.get(PROCESS)
        begun = trial.datetime_start or datetime.min
        dead = alive(process) is False if process else datetime.now() - begun > timedelta(seconds=GRACE_S)
        if dead:
            study.tell(trial.number, state=TrialState.FAIL)
            again(study, trial, lost)


def _sampler(seed: int) -> Any:
    import optuna

    with _unwarned():
        return optuna.samplers.TPESampler(n_startup_trials=5, multivariate=True, constant_liar=True, seed=seed)


def _storage(settings: Settings, lost: Lost) -> RDBStorage:
    from optuna.storages import RDBStorage
    from sqlalchemy import create_engine, event, text

    url = database_url(settings)
    sqlite = url.startswith("sqlite")
    if sqlite:
        Path(settings.state_dir).mkdir(parents=True, exist_ok=True)
        arguments: dict[str, Any] = {"timeout": 60}
    else:
        arguments = {"options": f"-csearch_path={SCHEMA}"}
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text(f"create schema if not exists {SCHEMA}"))
        engine.dispose()
    with _unwarned():
        storage = RDBStorage(
            url,
            engine_kwargs={"connect_args": arguments} | ({} if sqlite else {"pool_pre_ping": True}),
            heartbeat_interval=BEAT_S,
            grace_period=GRACE_S,
            heartbeat_stale_trial_callback=lambda study, trial: again(study, trial, lost),
        )
    if sqlite:  # two processes that read and then write would else refuse each other in place of waiting
        storage.engine.dispose()
        event.listen(storage.engine, "connect", _own_transactions)
        event.listen(storage.engine, "begin", lambda connection: connection.exec_driver_sql("begin immediate"))
    return storage


def _own_transactions(connection: Any, _record: Any) -> None:
    connection.isolation_level = None


@contextmanager
def _unwarned() -> Iterator[None]:
    """Optuna calls heartbeats, retries and the joint sampler experimental, each time."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
