"""How often do the drift tests reject windows that do not differ? `python -m benchmarks.drift_level`

Windows are simulated, so that nothing differs for sure. First the classifier test alone: p-values of one test over all
held-out scores, the usual way, beside the product's. Then whole quiet watches, judged by the real
`monitoring.drift.judge` under the sentiment policy: 384 correlated columns, eight segments, no persistence. Rates on
real messages, and after persistence, are `benchmarks.drift`'s.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from monitoring.drift import judge
from monitoring.two_sample import FOLDS, CrossFit, auc_test, cross_fit
from monitoring.windows import Window, window
from undertone.records import DriftVerdict
from undertone.tasks import get_task

SPEC = get_task("sentiment")
NOW = datetime(2026, 11, 26, tzinfo=UTC)
HIDDEN, SEGMENTS = 384, 8
#: Reference and window rows, and simulated watches for each hundred asked for.
SIZES = ((3_000, 500, 100), (3_000, 1_000, 150), (5_000, 5_000, 30))
_MIX = np.random.default_rng(7).normal(size=(HIDDEN, HIDDEN)) * np.exp(-np.arange(HIDDEN) / 60)[:, None] / 10


def pooled(first: NDArray[Any], second: NDArray[Any], folds: int) -> float:
    """The p-value of one test over the held-out scores of all folds: what the product does not do."""
    rows, domain = np.concatenate([first, second]), np.repeat([0, 1], [len(first), len(second)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=500))
    scores = cross_val_predict(model, rows, domain, cv=folds, method="decision_function")
    return auc_test(scores[: len(first)], scores[len(first) :])[1]


def by_cauchy(fit: CrossFit) -> float:
    """The folds' p-values combined after Liu and Xie (2020, https://doi.org/10.1080/01621459.2018.1554485)."""
    values = [
        auc_test(fit.first[fit.first_folds == fold], fit.second[fit.second_folds == fold])[1] for fold in range(FOLDS)
    ]
    return float(stats.cauchy.sf(np.mean(np.tan((0.5 - np.clip(values, 1e-15, 1 - 1e-15)) * np.pi))))


def pairs(count: int, rows: int = 500, width: int = 64) -> Iterator[tuple[float, ...]]:
    """P-values of every way for like samples."""
    random = np.random.default_rng(1)
    mix = random.normal(size=(width, width)) * np.exp(-np.arange(width) / 40)
    for _ in range(count):
        first, second = (random.normal(size=(rows, width)) @ mix.T for _ in range(2))
        fit = cross_fit(first, second)
        assert fit is not None
        yield pooled(first, second, 5), pooled(first, second, 2), fit.test()[1], by_cauchy(fit)


def made(random: np.random.Generator, rows: int) -> Window:
    """A window of made-up answers."""
    vectors = (random.normal(size=(rows, HIDDEN)) @ _MIX).astype("<f2")
    picks = random.choice(3, size=rows, p=[0.3, 0.3, 0.4])
    logits = random.normal(size=(rows, 3)) + 2 * np.eye(3)[picks]
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    columns = {
        "length": random.gamma(5, 20, size=rows), "upper": random.beta(1, 20, size=rows),
        "marks": random.beta(2, 30, size=rows), "channel": random.integers(3, size=rows).astype(str).tolist(),
        "segment": random.integers(SEGMENTS, size=rows).astype(str).tolist(),
    }  # fmt: skip
    return window(
        [
            {name: values[row] for name, values in columns.items()}
            | {"words": columns["length"][row] // 6, "label": SPEC.labels[int(chances[row].argmax())]}
            | {"probabilities": chances[row], "embedding": vectors[row].tobytes()}
            for row in range(rows)
        ],
        SPEC,
    )


def watches(before: int, now: int, count: int) -> Iterator[tuple[DriftVerdict, float]]:
    """Verdicts on quiet windows with an empty history, and the processor seconds of each."""
    random = np.random.default_rng(before + now)
    for _ in range(count):
        sides = made(random, before), made(random, now)
        began = time.process_time()
        verdict = judge(SPEC, *sides, model_version=1, start=NOW, end=NOW)
        yield verdict, time.process_time() - began


def _shown(what: Callable[..., Iterator[Any]], *arguments: int, total: int) -> list[Any]:
    return list(track(what(*arguments), f"{what.__name__} {arguments}", total=total, console=Console(stderr=True)))


def main() -> None:
    """Simulate, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--percent", type=int, default=100, help="of the watches: 100, 150 and 30")
    asked = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}, "
          f"scikit-learn {version('scikit-learn')}\n")  # fmt: skip
    values = np.array(_shown(pairs, asked.pairs, total=asked.pairs))
    print(f"| p-value on {asked.pairs} like pairs, 500 against 500 rows, 64 columns | below 5 % | below 1 % |")
    print("| --- | ---: | ---: |")
    names = (
        "one test over five folds' scores",
        "one test over two folds' scores",
        "the product's",
        "Cauchy, two folds",
    )
    for name, column in zip(names, values.T, strict=True):
        print(f"| {name} | {100 * (column < 0.05).mean():.1f} % | {100 * (column < 0.01).mean():.1f} % |")
    print("\n| reference : window | watches | classifier, p < 5 % / 1 % | MMD, p < 5 % / 1 % | AUC / MMD, 99 % | "
          "warn | act | processor seconds |")  # fmt: skip
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for before, now, watches_of_100 in SIZES:
        count = max(1, watches_of_100 * asked.percent // 100)
        found = _shown(watches, before, now, count, total=count)
        print(_line(f"{before:,} : {now:,}", found), flush=True)


def _line(title: str, found: list[tuple[DriftVerdict, float]]) -> str:
    cells = [title, str(len(found))]
    effects = []
    for name in ("embedding", "mmd"):
        own = [next(s for s in v.signals if s.name == name and s.segment is None) for v, _ in found]
        p_values = np.array([signal.p_value for signal in own])
        cells.append(" / ".join(f"{100 * (p_values < level).mean():.1f} %" for level in (0.05, 0.01)))
        effects.append(f"{np.quantile([signal.effect for signal in own], 0.99):.3f}")
    levels = [verdict.level for verdict, _ in found]
    cells.append(" / ".join(effects))
    cells.append(f"{100 * np.mean([level != 'none' for level in levels]):.1f} %")
    cells.append(f"{100 * np.mean([level in ('act', 'severe') for level in levels]):.1f} %")
    cells.append(f"{np.median([seconds for _, seconds in found]):.2f}")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
