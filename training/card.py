"""The model card: what a version is and what was measured about it, as Markdown with Hugging Face's metadata.

No customer's words stand in it. What comes from data (labels, slices, names of sources and people) is shown as code,
so that it cannot become Markdown, HTML or a link.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from training import card_review
from training.card_cells import code, codes, duration, number, prose, span
from training.card_metadata import metadata
from training.feedback import FEEDBACK
from training.repairs import MEANINGS
from training.spent import WATTS_PER_CORE, Spent
from undertone.model_folder import EXACT, Lineage
from undertone.tasks import DEFAULT_BASE_MODEL, TaskSpec

_METRICS = {
    "macro_f1": "macro-F1",
    "accuracy": "accuracy",
    "macro_recall": "macro-recall",
    "ece": "expected calibration error",
}
_SPLIT_ROW = re.compile(r"\| (train|validation|holdout) \|((?: \d+ \|)+)")
_REPAIR_ROW = re.compile(r"- ([a-z_]+): ([\d,]+) ")


def card(
    spec: TaskSpec,
    lineage: Lineage,
    evaluation: Mapping[str, Any],
    verdict: Mapping[str, Any],
    spent: Spent,
    summary: str,
    *,
    version: int | None = None,
    licence: str | None = None,
    languages: Sequence[str] | None = None,
    review: Mapping[str, Any] | None = None,
    join: Mapping[str, Any] | None = None,
) -> str:
    """The card of a trained version. An approval may be appended as a section of its own.

    Args:
        spec: the task.
        lineage: what the model was made from.
        evaluation: `training.evaluate.Evaluation.as_dict`.
        verdict: `training.gate.GateVerdict.as_dict`.
        spent: what the training cost.
        summary: `training.data.summary`; its examples of messages are left out.
        version: number of the registered version.
        licence: of the base model, where it is known.
        languages: ISO 639 codes of the languages that the base model knows; None: known for the default one alone.
        review: from which confidence on answers go without a person (`training.partners.settle`).
        join: how sarcasm is heard, likewise; None: it is not.
    """
    if languages is None:
        languages = ("en",) if lineage.base_model == DEFAULT_BASE_MODEL else ()
    values = {
        **_what_it_is(spec, lineage, licence, version),
        **_how_it_was_judged(verdict, evaluation),
        **_measured(evaluation),
        **_data(spec, lineage, summary),
        **_cost(spent),
        **card_review.review(review),
        **card_review.join(join),
        "languages": codes(languages) if languages else "",
        "max_tokens": spec.max_tokens,
    }
    body = re.sub(r"\n{3,}", "\n\n", _template().render(values)).strip()
    front = metadata(spec, lineage, evaluation, licence=licence, languages=languages)
    return f"---\n{front.to_yaml().strip()}\n---\n\n{body}\n"


def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        # the page is Markdown, where escaping HTML is not enough: what is not known to be safe becomes code
        finalize=lambda value: value if isinstance(value, Markup | int) else code(value),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("card.md.jinja")


def _what_it_is(spec: TaskSpec, lineage: Lineage, licence: str | None, version: int | None) -> dict[str, Any]:
    return {
        "task": Markup(spec.name),
        "version": version,
        "loaded_version": Markup(version or "VERSION"),
        "synthetic": lineage.synthetic,
        "question": prose(spec.title),
        "labels": codes(spec.labels),
        "base_model": lineage.base_model,
        "licence": licence,
        "base_facts": _base_facts(lineage),
        "trainer": lineage.trainer,
        "trained_on": Markup(f"{lineage.trained_at:%Y-%m-%d}"),
    }


def _base_facts(lineage: Lineage) -> Markup:
    """Family, tokens, tokenizer and origin of the base model, as far as the lineage has them."""
    found = [
        ("family", lineage.base_model_family),
        ("reads at most (tokens)", lineage.base_model_max_tokens),
        ("tokenizer", lineage.tokenizer),
        ("from", lineage.base_model_origin),
    ]
    return Markup("; ").join(Markup(f"{name} {code(str(value))}") for name, value in found if value is not None)


def _how_it_was_judged(verdict: Mapping[str, Any], evaluation: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "gate": Markup("passed" if verdict["passed"] else "refused"),
        "gate_lines": [
            {
                "name": line["name"],
                "found": line["found"] if isinstance(line["found"], str) else number(line["found"]),
                "required": line["required"],
                "holds": Markup("yes" if line["passed"] else "**no**"),
            }
            for line in verdict["lines"]
        ],
        "comparison": _comparison(verdict),
        "engine": _engine(verdict.get("fidelity")),
        "headline": number(evaluation.get("macro_f1")) + f" ({_told(_interval(evaluation, 'macro_f1'))})",
    }


def _comparison(verdict: Mapping[str, Any]) -> Markup:
    difference, interval = verdict.get("difference"), verdict.get("interval")
    if difference is None:
        first = verdict.get("verdict") == "first"
        return Markup(
            "There was no champion to compare with." if first else "No comparison with the champion was made."
        )
    told = f"Against the champion on the same messages: macro-F1 {difference:+.4f}"
    if interval:
        told += f" (95 % interval {interval[0]:+.4f} to {interval[1]:+.4f})"
    return Markup(f"{told}.")


def _engine(fidelity: Mapping[str, Any] | None) -> Markup:
    if fidelity is None:
        return Markup("The engine that serves it was not compared with the exact one.")
    if fidelity["engine"] == EXACT:
        return Markup(f"Served by the exact engine, {code(EXACT)}.")
    return Markup(
        f"Served by the engine {code(fidelity['engine'])}: a share of {number(fidelity['agreement'])} of the holdout"
        f" gets the label that the exact one gives; macro-F1 {number(fidelity['macro_f1'])}, of the exact one"
        f" {number(fidelity['exact_macro_f1'])}."
    )


def _measured(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    slices = [_slice(name, scores) for name, scores in evaluation["slices"].items()]
    return {
        "rows": number(evaluation["rows"]),
        "metrics": [
            {"name": Markup(title), "value": number(evaluation.get(name)), "interval": _interval(evaluation, name)}
            for name, title in _METRICS.items()
        ],
        "per_label": [
            {"label": label, "support": int(scores["support"])}
            | {name: number(scores[name]) for name in ("precision", "recall", "f1")}
            for label, scores in evaluation["per_class"].items()
        ],
        "slices": slices,
        "recent": any(name == "holdout=recent" for name in evaluation["slices"]),
        "holdout_days": Markup(f"{FEEDBACK.holdout_days:g}"),
        "small_slices": sum(line["macro_f1"] == "too few" for line in slices),
        "ece": number(evaluation["ece"]),
    }


def _slice(name: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    too_few = scores.get("too_few") or scores.get("macro_f1") is None
    return {
        "name": name,
        "rows": int(scores["rows"]),
        "macro_f1": Markup("too few") if too_few else number(scores["macro_f1"]),
        "interval": Markup("") if too_few else span(scores.get("interval")),
    }


def _interval(evaluation: Mapping[str, Any], name: str) -> Markup:
    """The interval of a metric, where `evaluation` has one: ``interval`` is that of macro-F1."""
    return span(evaluation.get("interval" if name == "macro_f1" else f"{name}_interval"))


def _told(interval: Markup) -> str:
    return str(interval) if interval == "no interval" else f"95 % interval {interval}"


def _data(spec: TaskSpec, lineage: Lineage, summary: str) -> dict[str, Any]:
    """Counts and repairs of `training.data.summary`: its numbers and our words, none of the data's."""
    labels = sorted(spec.labels)
    rule = "| --- |" + " ---: |" * (len(labels) + 1)
    splits, repairs = [], []
    for line in summary.rpartition(f"\n{rule}\n")[2].splitlines():  # the source's name stands above the rule
        if row := _SPLIT_ROW.fullmatch(line):
            splits.append({"name": Markup(row[1]), "counts": Markup(row[2].strip(" |"))})
        elif (row := _REPAIR_ROW.match(line)) and row[1] in MEANINGS:
            words = {"name": row[1].replace("_", " "), "count": row[2], "meaning": MEANINGS[row[1]]}
            repairs.append({key: Markup(value) for key, value in words.items()})
    return {
        "source": lineage.source,
        "data_rows": number(lineage.rows),
        "data_sha256": lineage.data_sha256,
        "splits": splits,
        "split_labels": codes(labels, " | "),
        "split_rule": Markup(rule),
        "repairs": repairs,
        "commit": lineage.commit,
        "dirty": lineage.commit.endswith("-dirty"),
        "lock": lineage.lock_sha256,
        "seed": lineage.seed,
        "effort": lineage.effort,
        "base_sha256": lineage.base_model_sha256,
    }


def _cost(spent: Spent) -> dict[str, Any]:
    return {
        "spent": spent,
        "wall": duration(spent.wall_s),
        "cpu": duration(spent.cpu_s),
        "energy": Markup(f"{spent.energy_wh:.3g}"),
        "watts": Markup(f"{WATTS_PER_CORE:g}"),
        "memory": Markup(f"{spent.peak_memory_bytes / 1e9:.1f}"),
    }
