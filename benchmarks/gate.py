"""How often does the gate pass an equal model, and one that is 1 or 3 points worse? `python -m benchmarks.gate`

Pairs of models are simulated and judged by the real `training.gate.decide` under the sentiment policy, slices included;
latency, behaviour and engine are taken as perfect, so what is measured is the comparison. Each row has a difficulty
p ~ Beta that both models share: each is right with probability p. Its spread is set so that just one of two equal
models is right on a given share of the rows; `--discordant` asks for another share. A worse challenger loses rows it
had right, at random, until its expected macro-F1 is as much lower as asked. True differences are known because they are
made.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.behaviour import EMOJI, NAMES, NEGATION, TYPOS, Check
from training.evaluate import Evaluation, macro_f1
from training.fidelity import Fidelity
from training.gate import GateVerdict, Paired, decide
from training.latency import Latency
from undertone.tasks import get_task

SPEC = get_task("sentiment")
SHARES = (0.25, 0.40, 0.35)
ROWS = (500, 2_000, 10_000)
LOSSES = (0.0, 0.01, 0.03)
MARGINS = (0.01, 0.015, 0.02, 0.03)

#: Share of rows that just one of two equally good models has right. Measured on TF-IDF models of equal quality: 0.04
#: (sample) and 0.08 (tweets) where eight ninths of the training rows are shared, 0.15 and 0.30 where none is.
DISCORDANT = 0.12

#: Champion's chance of being right; its macro-F1 comes out at about 0.80.
RIGHT = 0.805

#: Shares of the values of each kind of slice, as in the built-in sample.
SLICES = {
    "channel": {"chat": 0.28, "email": 0.29, "social": 0.18, "ticket": 0.25},
    "segment": {"enterprise": 0.11, "growth": 0.23, "pay_per_use": 0.35, "starter": 0.31},
    "length": {"short": 0.08, "medium": 0.83, "long": 0.09},
    "negation": {"yes": 0.26, "": 0.74},
    "sarcasm_cue": {"yes": 0.07, "": 0.93},
}
BEHAVIOUR = tuple(Check(name, 200, 200) for name in (NAMES, EMOJI, TYPOS, NEGATION))


@dataclass(frozen=True)
class Cell:
    """Verdicts on many pairs with one true loss at one number of rows."""

    rows: int
    loss: float
    verdicts: list[GateVerdict]

    def share(self, holds: list[bool]) -> float:
        """Share of the pairs."""
        return sum(holds) / len(holds)

    def table_row(self) -> list[str]:
        """Cells of the table, as text."""
        lows = [(verdict.interval or (0, 0))[0] for verdict in self.verdicts]
        named = Counter(verdict.verdict for verdict in self.verdicts)
        slice_lines = [
            any(not line.passed for line in verdict.lines if line.name.startswith("slices"))
            for verdict in self.verdicts
        ]
        shares = [
            self.share([verdict.passed for verdict in self.verdicts]),
            *(named[name] / len(self.verdicts) for name in ("better", "not_worse", "too_few", "worse")),
            self.share(slice_lines),
            self.share([(verdict.difference or 0) >= -0.01 for verdict in self.verdicts]),
            *(self.share([low >= -margin for low in lows]) for margin in MARGINS),
        ]
        loss = "equal" if not self.loss else f"{self.loss:.0%} worse".replace("%", " point" + "s" * (self.loss > 0.01))
        return [f"{self.rows:,}", loss, *(f"{value:.1%}" for value in shares)]


def simulate(
    rows: int, thinned: float, generator: np.random.Generator, discordant: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Truth, challenger's and champion's predictions [rows]; `thinned` of the challenger's right rows turn wrong."""
    spread = discordant / (2 * RIGHT * (1 - RIGHT) - discordant)
    easy = generator.beta(RIGHT * spread, (1 - RIGHT) * spread, rows)
    truth = generator.choice(3, rows, p=SHARES)
    tempting = (truth + generator.integers(1, 3, rows)) % 3
    predictions = []
    for share in (thinned, 0.0):
        right = (generator.random(rows) < easy) & (generator.random(rows) >= share)
        other = np.where(generator.random(rows) < 0.8, tempting, 3 - truth - tempting)
        predictions.append(np.where(right, truth, other))
    return truth, predictions[0], predictions[1]


def thinning(loss: float, discordant: float, rows: int = 400_000) -> float:
    """Share of right rows to make wrong so that the expected macro-F1 is `loss` lower."""
    low, high = 0.0, 0.5
    for _ in range(14):
        middle = (low + high) / 2
        truth, ours, _ = simulate(rows, middle, np.random.default_rng(0), discordant)
        _, alike, _ = simulate(rows, 0.0, np.random.default_rng(0), discordant)
        low, high = (low, middle) if macro_f1(truth, alike, 3) - macro_f1(truth, ours, 3) > loss else (middle, high)
    return 0.0 if not loss else (low + high) / 2


def judge_pairs(rows: int, thinned: float, pairs: int, discordant: float = DISCORDANT) -> Iterator[GateVerdict]:
    """The gate's verdict on one simulated pair after another."""
    for number in range(pairs):
        generator = np.random.default_rng([rows, round(thinned * 1e6), number])
        truth, ours, theirs = simulate(rows, thinned, generator, discordant)
        slices = {}
        for kind, shares in SLICES.items():
            values = generator.choice(list(shares), rows, p=list(shares.values()))
            slices |= {f"{kind}={name}": values == name for name in shares if name and (values == name).any()}
        yield decide(
            _evaluation(truth, ours, slices),
            _evaluation(truth, theirs, slices),
            SPEC.gate.model_copy(update={"floor": 0.0}),
            challenger_labels=SPEC.labels,
            champion_labels=SPEC.labels,
            paired=Paired(truth, ours, theirs, None, slices),
            fidelity=Fidelity("onnx-fp32", 1.0, 1.0, 1.0),
            latency=Latency(1.0, 1.0),
            behaviour=BEHAVIOUR,
            seed=number,
        )


def _evaluation(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], slices: dict[str, NDArray[np.bool_]]
) -> Evaluation:
    sizes = {name: {"rows": int(inside.sum())} for name, inside in slices.items()}
    accuracy = float((truth == predicted).mean())
    return Evaluation(len(truth), macro_f1(truth, predicted, 3), accuracy, accuracy, 0.03, {}, (), sizes)


def main() -> None:
    """Simulate, judge, and print the table as Markdown."""
    from rich.console import Console
    from rich.progress import Progress

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=400, help="simulated pairs for each line (default: 400)")
    parser.add_argument(
        "--rows", type=int, nargs="*", default=ROWS, help="rows of the holdout (default: 500 2000 10000)"
    )
    parser.add_argument("--discordant", type=float, default=DISCORDANT, help=f"see above (default: {DISCORDANT})")
    asked = parser.parse_args()
    pairs = asked.pairs
    truth, ours, theirs = simulate(400_000, 0.0, np.random.default_rng(1), asked.discordant)
    discordant = float(((ours == truth) != (theirs == truth)).mean())
    print(f"{pairs} pairs a line; the champion's macro-F1 is {macro_f1(truth, theirs, 3):.3f}, just one of two equal")
    print(f"models is right on {discordant:.1%} of the rows, and labels differ on {np.mean(ours != theirs):.1%}.")
    print(f"Policy: {SPEC.gate} (floor 0 here)")
    print(f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}\n")
    heads = ["rows", "challenger", "**passes**", "better", "not worse", "too few", "worse", "a slice refuses"]
    heads += ["old rule", *(f"margin {margin:g}" for margin in MARGINS)]
    print("| " + " | ".join(heads) + " |")
    print("| " + " | ".join("---:" for _ in heads) + " |")
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("pairs judged", total=len(asked.rows) * len(LOSSES) * pairs)
        for rows in asked.rows:
            for loss in LOSSES:
                verdicts = []
                for verdict in judge_pairs(rows, thinning(loss, asked.discordant), pairs, asked.discordant):
                    verdicts.append(verdict)
                    progress.advance(bar)
                print("| " + " | ".join(Cell(rows, loss, verdicts).table_row()) + " |", flush=True)


if __name__ == "__main__":
    main()
