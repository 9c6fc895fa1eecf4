"""How often is a difference of spending found that is not there, and one that is? `python -m benchmarks.revenue`

Made-up customers differ in what they spend (log-normal), in how often they complain (beta) and in how much they write;
in each of four months they may write, and 40 % spend nothing. A complaint multiplies the month's spending by a known
ratio. The real `insights.associate.compare` judges each draw. Whales: one customer in fifty spends thirty times as
much.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import pandas as pd

from insights.associate import compare

CUSTOMERS = (100, 300, 1_000)
RATIOS = (1.0, 0.7)
MONTHS = 4


def draw(seed: int, customers: int, ratio: float, *, whales: bool) -> pd.DataFrame:
    """Customer-months in which somebody wrote."""
    random = np.random.default_rng([seed, customers])
    level, segment = random.lognormal(0, 1, customers), random.integers(0, 3, customers)
    if whales:
        level = np.where(random.random(customers) < 0.02, 30 * level, level)
    complains = random.beta(2, 5, customers)
    months = []
    for month in range(MONTHS):
        labelled = random.random(customers) < complains

        def spent(month: int, ratios: object) -> np.ndarray:
            mean = level * (1 + 0.2 * month) * (1 + segment) * ratios
            return mean * random.lognormal(-0.5, 1, customers) * (random.random(customers) < 0.6)

        rows = {
            "customer": np.arange(customers),
            "period": month,
            "segment": segment,
            "labelled": labelled.astype(float),
            "messages": 1 + random.poisson(1, customers),
            "outcome": spent(month, np.where(labelled, ratio, 1.0)),
            "previous": spent(month - 1, 1.0),
        }
        months.append(pd.DataFrame(rows)[random.random(customers) < 0.7])
    return pd.concat(months, ignore_index=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--customers", type=int, nargs="+", default=CUSTOMERS)
    parser.add_argument("--spending", nargs="+", default=("even", "whales"))
    asked = parser.parse_args()
    draws = asked.draws
    print("| customers | spending | true ratio | found | regression alone | flips alone | interval holds it | median |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for spending in asked.spending:
        for customers in asked.customers:
            for ratio in RATIOS:
                found = []
                for seed in range(draws):
                    rows = draw(seed, customers, ratio, whales=spending == "whales")
                    found.append(compare(rows, "ratio", previous=True, flips=999))
                    print(f"\r{customers} {ratio} {seed + 1}/{draws}", end="", file=sys.stderr)
                told = [one for one in found if one.value is not None]
                shares = [
                    sum((p or 1.0) < 0.05 for p in ps) / draws
                    for ps in (
                        [one.p_value for one in told],
                        [one.p_regression for one in told],
                        [one.p_flips for one in told],
                    )
                ]
                holds = sum((one.low or 0) <= ratio <= (one.high or 0) for one in told) / max(1, len(told))
                median = np.median([one.value or 0.0 for one in told])
                cells = [f"{customers:,}", spending, f"{ratio}", *(f"{s:.1%}" for s in shares)]
                print("| " + " | ".join([*cells, f"{holds:.1%}", f"{median:.2f}"]) + " |", flush=True)
    print(file=sys.stderr)


if __name__ == "__main__":
    main()
