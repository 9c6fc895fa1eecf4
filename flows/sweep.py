"""The sweep flow: trials of a task's hyperparameters, then the best one through the ordinary retrain flow.

Reads as a page. What a trial is stands in `training.sweep`; what is drawn, in `training.space`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import Any

import prefect
from prefect.cache_policies import NO_CACHE

from flows.retrain import retrain
from flows.terminal import table
from training import study as studies
from training import sweep_report
from training.effort import get_effort
from training.space import default_space, parse_space
from training.sweep import SWEEP, SWEEP_RUN, Plan, Sweep, best, one_more, opened
from training.work import asked
from undertone import identity
from undertone.errors import DecisionError
from undertone.lease import hold
from undertone.workspace import Workspace

#: What is told of the version that the best trial became.
_MADE = ("task", "version", "run_id", "macro_f1", "passed", "verdict", "lines")

log = logging.getLogger("undertone.training")


@prefect.flow(name="sweep", flow_run_name="sweep {task}")
def sweep(
    task: str,
    source: str = "",
    trials: int = 20,
    effort: str = "standard",
    seed: int | None = None,
    now: datetime | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    base_model: str | None = None,
    trainer: str = "",
    space: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    study: str = "",
    retrain_best: bool = True,
) -> dict[str, Any]:
    """Search hyperparameters; the best trial's are trained again, registered and judged by the gate.

    Args:
        trials: how many in all, those of earlier calls and of other processes included.
        space: what to search, as ``NAME=LOW..HIGH`` or ``NAME=A,B``; empty: `training.space.default_space`.
        overrides: hyperparameters that are fixed.
        study: name of the study; empty: task and effort.
        retrain_best: False: end with the trials.

    The others are those of `flows.retrain.retrain`.

    Returns:
        study, run_id (the parent run), trials, best, running (trials of other processes), and model: the version, None
        where there is none yet.
    """
    workspace = Workspace()
    chosen = get_effort(effort).having(overrides or {})
    plan = Plan(
        request=asked(
            workspace.settings,
            task,
            source=source,
            effort=effort,
            seed=seed,
            now=now,
            trainer=trainer,
            text_column=text_column,
            label_column=label_column,
            base_model=base_model,
            overrides=overrides,
        ),
        space=parse_space(space, chosen) if space else default_space(chosen, overrides or {}),
        trials=trials,
        study=study or f"{task}-{effort}",
    )
    identity.trainer(workspace.settings, plan.request.trainer)
    with opened(workspace, plan) as here:
        while trial(here):
            pass
        model = None
        if not studies.running(here.study):  # else the process that ends the last trial goes on from here
            report(here)
            model = register_best(here) if retrain_best else None
        return outcome(here, model)


@prefect.task(name="trial", cache_policy=NO_CACHE)
def trial(here: Sweep) -> bool:
    """Run one more trial; False: all have begun."""
    return one_more(here) is not None


@prefect.task(name="report", cache_policy=NO_CACHE)
def report(here: Sweep) -> None:
    """Put the table of trials and the pictures on the parent run."""
    sweep_report.publish(here)


def register_best(here: Sweep) -> dict[str, Any] | None:
    """Train the best trial's hyperparameters through the retrain flow, once; None: another process does so now."""
    study, registry, request = here.study, here.workspace.registry, here.plan.request
    with ExitStack() as turn:
        try:
            turn.enter_context(hold(here.workspace.store, f"sweep {study.study_name} retrain"))
        except DecisionError:
            log.info("another process trains the best trial")
            return None
        found = best(study)
        made: dict[str, Any] | None = study.user_attrs.get("model")
        if made and made["trial"] == found.number:
            return made
        result = retrain(
            request.task,
            source=request.source,
            effort=request.effort,
            seed=request.seed,
            now=request.now,
            text_column=request.text_column,
            label_column=request.label_column,
            base_model=request.base_model,
            trainer=request.trainer,
            overrides=here.overrides(found.params),
        )
        made = {name: result[name] for name in _MADE} | {"trial": found.number}
        tags = {SWEEP: study.study_name, SWEEP_RUN: here.run_id, "undertone.trial": str(found.number)}
        registry.tag(request.task, result["version"], tags)
        for key, value in tags.items():
            registry.client.set_tag(result["run_id"], key, value)
        registry.client.set_tag(here.run_id, "undertone.version", str(result["version"]))
        study.set_user_attr("model", made)
        return made


def outcome(here: Sweep, model: dict[str, Any] | None) -> dict[str, Any]:
    """What a sweep came to, as JSON-ready values."""
    running = len(studies.running(here.study))
    found = None if running else best(here.study)
    return {
        "study": here.study.study_name,
        "run_id": here.run_id,
        "trials": sweep_report.rows(here.study),
        "running": running,
        "best": found and {"trial": found.number, "macro_f1": found.value, "set": here.overrides(found.params)},
        "model": model,
    }


def text(result: dict[str, Any]) -> str:
    """A sweep's result for people."""
    from flows.running import training_text

    hidden = ("run_id", "error")
    columns = dict.fromkeys(name for row in result["trials"] for name in row if name not in hidden)
    parts = [table([{name: _short(value) for name, value in row.items()} for row in result["trials"]], list(columns))]
    if result["running"]:
        parts.append(f"{result['running']} still running in other processes; the one that ends last goes on")
    if found := result["best"]:
        chosen = " ".join(f"--set {name}={_typed(value)}" for name, value in found["set"].items())
        parts.append(f"best: trial {found['trial']}, macro-F1 {found['macro_f1']:.4f} on validation\n{chosen}")
    if result["model"]:
        parts.append(training_text(result["model"]))
    return "\n\n".join(parts)


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


def _typed(value: Any) -> str:
    return "none" if value is None else f"{value!r}" if isinstance(value, float) else str(value)
