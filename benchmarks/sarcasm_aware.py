"""Does hearing sarcasm make the sentiment better? Fitted on validation data, measured on other data.

    python -m benchmarks.sarcasm_aware --sentiment FOLDER --sarcasm FOLDER [--emotion FOLDER] --test sample
    python -m benchmarks.sarcasm_aware --sentiment FOLDER --sarcasm FOLDER --test stream/airline_messages.csv

A FOLDER is a model folder, or a folder that has one in it as ``model``. The join is fitted on the validation rows of
the source that the sentiment model was trained on, split with its seed, unless ``--fit`` names another labelled source.
``--test sample`` takes the weeks of the built-in sample after those; its true sarcasm labels say which messages are
sarcastic. In other data a message counts as such where the sarcasm model hears it (0.5 or more) or the text has a cue.
Prints Markdown.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.data import load, split
from training.evaluate import expected_calibration_error
from training.join import FOLDS, Heard, compare, fit_join, joined, sarcastic, solve
from training.sample import generate_sample
from training.selective import choose_threshold, report
from training.slices import membership
from undertone.engine import Engine
from undertone.join import SARCASM, Join, Partner
from undertone.model_folder import digest, manifest
from undertone.tasks import TaskSpec, get_task

if TYPE_CHECKING:
    from pandas import DataFrame

PARTS = {"all": "all", "sarcasm": "sarcastic", "rest": "the rest"}

#: The rule before the join: praise turned from the first probability of sarcasm, neutral words from the second.
OLD_RULE = (0.9, 0.95)


@dataclass(frozen=True)
class Scored:
    """Rows with a truth [n], which of them are sarcastic, and what the models say of them."""

    texts: list[str]
    truth: NDArray[Any]
    sarcastic: NDArray[np.bool_]
    cue: NDArray[np.bool_]
    own: NDArray[Any]
    heard: dict[str, Heard]


def main(arguments: list[str] | None = None) -> None:
    """Fit, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for task in ("sentiment", "sarcasm", "emotion"):
        parser.add_argument(f"--{task}", type=Path, required=task != "emotion", help="a model folder")
    parser.add_argument("--fit", help="labelled rows to fit on, in place of the sentiment model's validation split")
    parser.add_argument("--test", required=True, help="sample, or a labelled source")
    parser.add_argument("--rows", type=int, default=5_000, help="rows at most of each, drawn at random")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    engines = {
        task: Engine(_model(path), given.threads)
        for task in ("sentiment", "sarcasm", "emotion")
        if (path := getattr(given, task)) is not None
    }
    spec, lineage = get_task("sentiment"), engines["sentiment"].card.lineage
    if given.fit:
        fit_frame = load(given.fit, spec).rows
    else:
        fit_frame = split(load(lineage.source, spec, text_column=lineage.text_column), spec, lineage.seed).validation
    test_frame = _later_weeks(lineage.source) if given.test == "sample" else load(given.test, spec).rows
    test_frame = test_frame[~test_frame["text"].isin(set(fit_frame["text"]))]
    fitting = _score(fit_frame, engines, given, spec)
    testing = _score(test_frame, engines, given, spec)
    _print(given, spec, fitting, testing)


def _print(given: Any, spec: TaskSpec, fitting: Scored, testing: Scored) -> None:
    labels = spec.labels
    fitted = fit_join(fitting.own, fitting.heard, fitting.truth, fitting.cue, labels, keys=fitting.texts)
    print(f"Fitted on {len(fitting.truth):,} rows of {given.fit or 'the validation split'}.")
    print(f"The join is {'adopted' if fitted.join.adopted else 'not adopted'}: {fitted.join.why}.")
    print(f"Heard: {', '.join(fitted.join.partners)}. Emotion: {fitted.report.get('emotion')}.\n")
    _table("Validation, rows left out of the fit", {"the join": fitted.report.get("validation", [])})
    values = {task: item.probabilities for task, item in testing.heard.items()}
    final = joined(fitted.join, testing.own, values)
    rivals = {
        f"the rule before ({OLD_RULE[0]}, {OLD_RULE[1]})": _old_rule(testing),
        "sentiment alone, fitted anew": _without_sarcasm(fitting, testing),
    }
    if fitted.join.adopted:
        rivals["the join"] = final.argmax(axis=1)
    elif "strength" in fitted.report:
        rivals["the join, had it been adopted"] = _had_it_been(fitted.report["strength"], fitting, testing, labels)
    _table(
        f"{given.test}, {len(testing.truth):,} rows",
        {
            name: compare(
                testing.truth, testing.own.argmax(axis=1), answer, testing.sarcastic, len(labels), testing.texts
            )
            for name, answer in rivals.items()
        },
    )
    print(
        f"Expected calibration error: alone {expected_calibration_error(testing.own, testing.truth):.3f},"
        f" final {expected_calibration_error(final, testing.truth):.3f}.\n"
    )
    _risk(spec, "alone", fitting.own, fitting, testing.own, testing)
    if fitted.join.adopted:
        _risk(spec, "final", fitted.probabilities, fitting, final, testing)
        print("\n| feature (standardised) | " + " | ".join(labels) + " |\n| --- |" + " ---: |" * len(labels))
        for name, weights in fitted.report["weights"].items():
            print(f"| {name} | " + " | ".join(f"{weights[label]:+.2f}" for label in labels) + " |")


def _table(title: str, found: dict[str, list[dict[str, Any]]]) -> None:
    print(f"{title}\n")
    print("| | messages | rows | alone | macro-F1 | difference (95 % interval) | better / worse |")
    print("| --- | --- | ---: | ---: | ---: | --- | ---: |")
    for name, parts in found.items():
        for part in parts:
            scores = ["too few"] * 3
            if part["difference"] is not None:
                low, high = part["interval"]
                told = f"{part['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
                scores = [f"{part['alone']:.3f}", f"{part['final']:.3f}", told]
            changed = f"{part['better']:,} / {part['worse']:,}"
            print(f"| {name} | {PARTS[part['name']]} | {part['rows']:,} | {' | '.join(scores)} | {changed} |")
    print()


def _risk(
    spec: TaskSpec, name: str, fit: NDArray[Any], fitting: Scored, answers: NDArray[Any], testing: Scored
) -> None:
    threshold = choose_threshold(fit.max(axis=1), fit.argmax(axis=1) == fitting.truth, spec.review)
    found = report(threshold, answers.max(axis=1), answers.argmax(axis=1) == testing.truth, spec.review)
    curve = ", ".join(f"{line['coverage']:.0%}: {line['risk']:.3f}" for line in found["curve"])
    holdout = found["holdout"]
    print(
        f"- {name}: kept from {threshold.review_below:.3f} ({'reached' if threshold.reached else 'not reached'}, bound"
        f" {threshold.bound:.3f}); there coverage {holdout['coverage']:.3f}, risk {holdout['risk'] or 0:.3f};"
        f" AURC {found['aurc']:.4f}; risk by coverage {curve}"
    )


def _old_rule(rows: Scored) -> NDArray[Any]:
    own, heard = rows.own.argmax(axis=1), sarcastic(rows.heard[SARCASM])
    turned = ((own == 2) & (heard >= OLD_RULE[0])) | ((own == 1) & (heard >= OLD_RULE[1]))
    return np.where(turned, 0, own)


def _without_sarcasm(fitting: Scored, testing: Scored) -> NDArray[Any]:
    """Sentiment's own log-probabilities alone in the same regression: what the fit gives without any sarcasm."""
    from sklearn.linear_model import LogisticRegressionCV

    fit, test = (np.log(np.maximum(rows.own, 1e-4)) for rows in (fitting, testing))
    model = LogisticRegressionCV(
        cv=FOLDS, max_iter=1_000, scoring="neg_log_loss", l1_ratios=(0.0,), use_legacy_attributes=False
    )
    return np.asarray(model.fit(fit, fitting.truth).predict(test))


def _had_it_been(strength: float, fitting: Scored, testing: Scored, labels: tuple[str, ...]) -> NDArray[Any]:
    heard = {SARCASM: fitting.heard[SARCASM]}
    join: Join = solve(fitting.own, heard, fitting.truth, labels, strength, "measured all the same")
    return joined(join, testing.own, {SARCASM: testing.heard[SARCASM].probabilities}).argmax(axis=1)


def _score(frame: DataFrame, engines: dict[str, Engine], given: Any, spec: TaskSpec) -> Scored:
    if len(frame) > given.rows:
        frame = frame.sample(given.rows, random_state=0)
    texts = frame["text"].tolist()
    print(f"scoring {len(texts):,} rows with {', '.join(engines)}", file=sys.stderr)
    answers = {task: engine.score(texts).probabilities for task, engine in engines.items()}
    heard = {
        task: Heard(
            Partner(version=1, manifest_sha256=_digest(getattr(given, task)), labels=engine.labels), answers[task]
        )
        for task, engine in engines.items()
        if task != "sentiment"
    }
    cue = membership(frame, ["sarcasm_cue"]).get("sarcasm_cue=yes", np.zeros(len(frame), dtype=np.bool_))
    signs = cue | (sarcastic(heard[SARCASM]) >= 0.5)
    if "sarcasm" in frame:
        signs = (frame["sarcasm"] == "sarcastic").to_numpy()
    index = spec.label_index()
    return Scored(texts, np.array([index[label] for label in frame["label"]]), signs, cue, answers["sentiment"], heard)


def _later_weeks(source: str) -> DataFrame:
    """The sample's messages after the weeks of ``sample:WEEKS``."""
    import pandas as pd

    kind, _, weeks = source.split("+")[0].partition(":")
    if kind != "sample":
        raise SystemExit(f"--test sample needs a model of the sample; found one of {source}")
    frame = generate_sample().rename(columns={"sentiment": "label"})
    after = frame["sent_at"].min().normalize() + pd.Timedelta(weeks=int(weeks or 5))
    return frame[frame["sent_at"] >= after]


def _model(path: Path) -> Path:
    return path / "model" if (path / "model" / "undertone").is_dir() else path


def _digest(path: Path) -> str:
    return digest(manifest(_model(path)))


if __name__ == "__main__":
    main()
