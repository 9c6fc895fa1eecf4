"""A comparison of two versions as one HTML page: no script, no link outside, the picture inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from training.compare_versions import METRICS

#: Changed rows that the page shows of each kind; the CSV files have all.
SHOWN = 50

_TITLES = {
    "macro_f1": "macro-F1",
    "macro_recall": "macro-recall",
    "accuracy": "accuracy",
    "ece": "expected calibration error",
    "nll": "negative log likelihood",
}


def page(
    values: Mapping[str, Any], gained: Sequence[Mapping[str, Any]], lost: Sequence[Mapping[str, Any]], picture: bytes
) -> str:
    """The page.

    Args:
        values: `VersionComparison.as_dict`, and task, version_a, version_b, rows_of, notes, left_out.
        gained: rows as `training.compare_versions.changed_rows` gives them.
        lost: likewise.
        picture: reliability curves, PNG.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("compare.html.jinja").render(
        values,
        titles=_TITLES,
        higher=METRICS,
        reach=_reach(values["slices"]),
        labels_of=list(values["a"]["per_class"]),
        changed={"gained": gained, "lost": lost},
        shown=SHOWN,
        picture=base64.b64encode(picture).decode("ascii"),
    )


def _reach(slices: Sequence[Mapping[str, Any]]) -> float:
    """How far from 0 the axis of the slices' intervals goes."""
    ends = [abs(float(end)) for part in slices if part["interval"] is not None for end in part["interval"]]
    return max([0.01, *ends])
