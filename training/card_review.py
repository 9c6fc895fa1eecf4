"""Two sections of a model card: how sarcasm is heard, and when a person is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from training.card_cells import number, prose, span

_PARTS = {"all": "all messages", "sarcasm": "with a sign of sarcasm", "rest": "the rest"}


def join(found: Mapping[str, Any] | None) -> dict[str, Any]:
    """Values of the section on sarcasm.

    Args:
        found: what `training.partners.settle` measured; None: no join was fitted.
    """
    if found is None:
        return {"joined": False}
    versions = " and ".join(f"{task} {partner['version']}" for task, partner in found["partners"].items())
    if found["adopted"]:
        verdict = f"A logistic regression joins this model with {versions}, since {found['why']}."
    else:
        verdict = f"Hearing {versions} was tried and is not used: {found['why']}. So sentiment alone answers."
    return {
        "joined": True,
        "join_verdict": prose(verdict),
        "join_rows": number(found["holdout"][0]["rows"]),
        "join_parts": [_part(part) for part in found["holdout"]],
        "join_fit": prose(_fit(found)),
        "join_cautions": [prose(caution) for caution in found["cautions"]],
    }


def review(found: Mapping[str, Any] | None) -> dict[str, Any]:
    """Values of the section on answers that need a person.

    Args:
        found: ``own``, and ``final`` where a join answers, as `training.selective.report` gives them.
    """
    if found is None:
        return {"reviewed": False}
    used, own = found.get("final", found["own"]), found["own"]
    return {
        "reviewed": True,
        "review_final": "final" in found,
        "review_limit": prose(_limit(used)),
        "review_curve": [
            {"coverage": Markup(f"{line['coverage']:.0%}"), "risk": number(line["risk"]), "own": number(other["risk"])}
            for line, other in zip(used["curve"], own["curve"], strict=True)
        ],
        "review_aurc": Markup(
            number(used["aurc"]) + (f" (the model alone {number(own['aurc'])})" if "final" in found else "")
        ),
    }


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    difference = part["difference"]
    return {
        "name": Markup(_PARTS[part["name"]]),
        "rows": number(part["rows"]),
        "alone": number(part["alone"]),
        "final": number(part["final"]),
        "difference": Markup("too few" if difference is None else f"{difference:+.4f}"),
        "interval": span(part["interval"]),
    }


def _fit(found: Mapping[str, Any]) -> str:
    if "validation" not in found:
        return ""
    words = f"Fitted on {found['rows']:,} validation messages"
    if (emotion := found["emotion"]) is not None:
        words += (
            f"; emotion is {'heard too' if emotion['kept'] else 'left out'}: it takes {emotion['gain']:.4f} off the"
            f" log-loss, standard error {emotion['standard_error']:.4f}"
        )
    return f"{words}. Expected calibration error of the final sentiment {found['ece']:.4f}."


def _limit(found: Mapping[str, Any]) -> str:
    policy, threshold, holdout = found["policy"], found["threshold"], found["holdout"]
    aim = f"at most {policy['max_error']:.0%} of the answers that go without a person are to be wrong"
    if threshold["reached"]:
        said = f"On validation that holds with confidence {1 - policy['level']:.0%} (bound {threshold['bound']:.1%})"
    else:
        said = (
            f"That was not reached: of the {threshold['coverage']:.0%} most confident answers up to"
            f" {threshold['bound']:.1%} may be wrong on validation, and these are kept"
        )
    measured = f"on the holdout {holdout['coverage']:.1%} of the answers are kept"
    if holdout["risk"] is not None:
        measured += f", and {holdout['risk']:.1%} of them are wrong"
    if holdout["risk_of_the_rest"] is not None:
        measured += f" (of the others {holdout['risk_of_the_rest']:.1%})"
    limit = f"An answer whose confidence is below {threshold['review_below']:.4f} needs a person"
    return f"{limit}: {aim}. {said}; {measured}."
