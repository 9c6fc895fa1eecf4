"""What a sweep found, on its parent run: the table of trials, the best one, and two pictures."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from training import study as studies
from training.draw import BLUE, GREY, RED, calm, new_figure, save_png
from training.study import ERROR, RUN, SECONDS
from training.sweep import Sweep, best

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

#: Folder of the parent run.
FOLDER = "sweep"

#: With fewer complete trials nothing is said of which hyperparameter matters.
IMPORTANCE_TRIALS = 10


def rows(study: Study) -> list[dict[str, Any]]:
    """One row a trial: number, state, macro_f1 (the last one reported where it was pruned), hyperparameters, …."""
    return [_row(trial) for trial in studies.counted(study)]


def columns(study: Study) -> list[str]:
    """Names of the columns of `rows`."""
    return list(dict.fromkeys(name for row in rows(study) for name in row))


def publish(sweep: Sweep) -> None:
    """Put table, best trial and pictures on the parent run, in place of those that an earlier end of the study left."""
    client, study = sweep.workspace.registry.client, sweep.study
    found = best(study)
    table = io.StringIO()
    writer = csv.DictWriter(table, columns(study))
    writer.writeheader()
    writer.writerows(rows(study))
    client.log_text(sweep.run_id, table.getvalue(), f"{FOLDER}/trials.csv")
    client.log_dict(sweep.run_id, {"trial": found.number, **sweep.overrides(found.params)}, f"{FOLDER}/best.json")
    with TemporaryDirectory() as scratch:
        draw_history(study, Path(scratch) / "history.png")
        if weights := importances(study):
            draw_importances(weights, Path(scratch) / "importances.png")
            client.log_dict(sweep.run_id, weights, f"{FOLDER}/importances.json")
        client.log_artifacts(sweep.run_id, scratch, FOLDER)


def importances(study: Study) -> dict[str, float]:
    """Share of the differences between trials that each hyperparameter explains, greatest first; empty: too few trials.

    By functional ANOVA over a random forest (Hutter et al., 2014, https://proceedings.mlr.press/v32/hutter14.html).
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    complete = [trial for trial in studies.ended(study) if trial.state.name == "COMPLETE"]
    if len(complete) < IMPORTANCE_TRIALS or len({trial.value for trial in complete}) == 1:
        return {}
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))


def draw_history(study: Study, path: Path) -> Path:
    """Draw every trial's macro-F1 as PNG, in the order of their numbers, and the best so far."""
    complete = [trial for trial in studies.ended(study) if trial.state.name == "COMPLETE"]
    pruned = [trial for trial in studies.ended(study) if trial.state.name == "PRUNED" and trial.intermediate_values]
    figure = new_figure((6.4, 3.8))
    axes = figure.add_subplot()
    numbers, scores = [trial.number for trial in complete], [trial.value or 0.0 for trial in complete]
    so_far = [max(scores[: end + 1]) for end in range(len(scores))]
    axes.step(numbers, so_far, where="post", color=GREY, label="best so far")
    axes.scatter(numbers, scores, color=BLUE, label="complete", zorder=3)
    if pruned:
        last = [trial.intermediate_values[max(trial.intermediate_values)] for trial in pruned]
        axes.scatter([trial.number for trial in pruned], last, color=RED, marker="x", label="pruned, its last score")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("trial")
    axes.set_ylabel("macro-F1 on validation")
    axes.set_title(f"{study.study_name}: best {max(scores):.4f}", loc="left")
    axes.legend(frameon=False)
    calm(axes)
    return save_png(figure, path)


def draw_importances(weights: dict[str, float], path: Path) -> Path:
    """Draw the shares of `importances` as PNG."""
    names = list(reversed(weights))
    figure = new_figure((6.4, 1.2 + 0.4 * len(names)))
    axes = figure.add_subplot()
    axes.barh(names, [weights[name] for name in names], color=BLUE)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the differences between trials that it explains")
    axes.set_title("What mattered, in this space and these trials", loc="left")
    calm(axes)
    axes.grid(visible=False)
    return save_png(figure, path)


def _row(trial: FrozenTrial) -> dict[str, Any]:
    reported = trial.intermediate_values
    score = trial.value if trial.state.name == "COMPLETE" else reported[max(reported)] if reported else None
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        "macro_f1": score,
        **trial.params,
        "seconds": trial.user_attrs.get(SECONDS),
        "run_id": trial.user_attrs.get(RUN),
        "error": trial.user_attrs.get(ERROR),
    }
