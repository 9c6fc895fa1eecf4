"""How often does a label audit confirm a drop that is there, and one that is not? `python -m benchmarks.audit`

Audits are simulated and judged by the real `monitoring.audit.assess`: a reference of 3,000 rows, and audited answers in
four segments. True drops are known because they are made: every label's chance to be answered right falls by so much.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from monitoring.audit import AuditResult, assess
from monitoring.windows import Window
from undertone.audit_figures import macro_f1
from undertone.reviews import AuditedAnswer
from undertone.tasks import TaskSpec, get_task

REFERENCE_ROWS = 3_000
SEGMENTS = (0.5, 0.3, 0.15, 0.05)
NOW = datetime(2026, 11, 26, tzinfo=UTC)
#: Audits without a drop are simulated so many times as often: 5 % is measured with less noise than a power needs.
MORE = 3


@dataclass(frozen=True)
class Case:
    """One kind of audit. ``right``: each label's chance to be answered right before; ``pooled``: weight of later rows.

    Answers up to the 200th stand for 5 messages each, as those of a first window; later ones for `pooled`.
    """

    name: str
    task: str
    shares: tuple[float, ...]
    right: tuple[float, ...]
    rows: int
    drop: float
    pooled: float = 5.0


THREE = ("three", "sentiment", (0.3, 0.45, 0.25), (0.75, 0.75, 0.75))
TWO = ("two", "sarcasm", (0.8, 0.2), (0.80, 0.55))
CASES = (
    *(Case(*THREE, rows, drop) for rows in (200, 360) for drop in (0.0, 0.06, 0.08)),
    *(Case("three, weights 1 to 3", *THREE[1:], 360, drop, 15.0) for drop in (0.0, 0.06)),
    *(Case(*TWO, rows, drop) for rows in (200, 360) for drop in (0.0, 0.06, 0.08)),
)


def joint(shares: tuple[float, ...], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chances [true, predicted]; wrong answers are spread evenly over the other labels."""
    labels = len(shares)
    wrong = (1 - right)[:, None] / (labels - 1) * (1 - np.eye(labels))
    made: NDArray[np.float64] = np.array(shares)[:, None] * (np.diag(right) + wrong)
    return made


def simulate(case: Case, audits: int) -> Iterator[tuple[AuditResult, tuple[float, float]]]:
    """Results, and the true drops of accuracy and of macro-F1."""
    spec = get_task(case.task)
    before, after = (joint(case.shares, np.array(case.right) - drop) for drop in (0.0, case.drop))
    true = float(np.trace(before) - np.trace(after)), float(macro_f1(before) - macro_f1(after))
    words = np.array(spec.labels, dtype=object)
    for number in range(audits):
        random = np.random.default_rng([number, 99])
        truth, label = _drawn(random, before, REFERENCE_ROWS)
        reference = Window(pd.DataFrame({"label": words[label], "truth": words[truth]}), None)
        yield _audited(spec, case, reference, random, after), true


def _audited(
    spec: TaskSpec, case: Case, reference: Window, random: np.random.Generator, after: NDArray[np.float64]
) -> AuditResult:
    truth, label = _drawn(random, after, case.rows)
    segments = random.choice(len(SEGMENTS), size=case.rows, p=SEGMENTS)
    answers = [
        AuditedAnswer(
            f"m{row}", "batch", spec.labels[label[row]], spec.labels[truth[row]], 5.0 if row < 200 else case.pooled,
            f"s{segments[row]}", NOW,
        )
        for row in range(case.rows)
    ]  # fmt: skip
    result = assess(spec, reference, answers, wanted=case.rows, version=1)
    assert result is not None
    return result


def _drawn(
    random: np.random.Generator, chances: NDArray[np.float64], rows: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    cells = random.choice(chances.size, size=rows, p=chances.ravel())
    return cells // len(chances), cells % len(chances)


def main() -> None:
    """Simulate every case and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=500, help="of a case; three times as many where nothing dropped")
    asked = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}\n")
    print("| labels | audited | true drop | audits | confirmed | accuracy's interval covers | macro-F1's covers |")
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: |")
    for case in CASES:
        count = asked.audits * (1 if case.drop else MORE)
        found = list(track(simulate(case, count), case.name, total=count, console=Console(stderr=True)))
        shares = [np.mean([result.confirmed for result, _ in found])]
        for place, name in enumerate(("accuracy_interval", "macro_f1_interval")):
            ends = [(*getattr(result, name), true[place]) for result, true in found]
            shares.append(np.mean([low <= value <= high for low, high, value in ends]))
        drop = f"{100 * case.drop:.0f} points" if case.drop else "none"
        cells = [case.name, str(case.rows), drop, f"{count:,}", *(f"{100 * share:.1f} %" for share in shares)]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
