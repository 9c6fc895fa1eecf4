"""What picks for review are worth: topics covered and accuracy learned, by smallest margins, by ours, and at random.

    python -m benchmarks.review_picks

Messages are tweets to airlines (`--file`: a CSV with text and a label). A model of the simplest kind (TF-IDF
and logistic regression) learns from a few labels, then from those that each way of picking asks for, day by day. Its
embeddings are 64 components of the TF-IDF matrix, kept as float16 as the store keeps them.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split

from undertone.review_picks import Candidate, pick

FIRST, DAYS, EACH, TOPICS = 150, 6, 40, 100

Way = Callable[[list[Candidate], int], list[str]]


def by_margin(rows: list[Candidate], seed: int) -> list[str]:
    """The smallest margins and nothing else."""
    return [row.message_id for row in sorted(rows, key=lambda row: (row.margin, row.message_id))[:EACH]]


def ours(rows: list[Candidate], seed: int) -> list[str]:
    """As the queue does."""
    return [one.message_id for one in pick(rows, EACH, seed=seed)]


def by_chance(rows: list[Candidate], seed: int) -> list[str]:
    """At random."""
    chosen = np.random.default_rng(seed).permutation(len(rows))[:EACH]
    return [rows[int(place)].message_id for place in chosen]


WAYS: dict[str, Way] = {"smallest margins": by_margin, "as the queue picks": ours, "at random": by_chance}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--file", default="../shared/data/stream/airline_messages.csv")
    parser.add_argument("--label", default="label")
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    frame = pd.read_csv(given.file).dropna(subset=["text", given.label]).drop_duplicates("text")
    texts, labels = frame["text"].to_numpy(str), frame[given.label].to_numpy(str)
    words = TfidfVectorizer(min_df=3, ngram_range=(1, 2), sublinear_tf=True).fit_transform(texts)
    vectors = TruncatedSVD(64, random_state=0).fit_transform(words)
    topics = KMeans(TOPICS, n_init=1, random_state=0).fit_predict(vectors)
    stored = [row.astype("<f2").tobytes() for row in vectors]
    found: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for seed in track(range(given.seeds), description="seeds"):
        pool, test = train_test_split(np.arange(len(texts)), test_size=3_000, random_state=seed, stratify=labels)
        first = np.random.default_rng(seed).permutation(pool)[:FIRST]
        found["first labels only"].append((0.0, 0.0, _score(_learned(words, labels, first), words, labels, test)))
        for name, way in WAYS.items():
            found[name].append(_days(way, words, labels, topics, stored, pool, test, first, seed))
    _tell(found)


def _days(
    way: Way, words: Any, labels: Any, topics: Any, stored: list[bytes], pool: Any, test: Any, first: Any, seed: int
) -> tuple[float, float, float]:
    """Topics among a day's picks, topics among all of them, and macro-F1 after the last day."""
    known, daily = list(first), []
    for day in range(DAYS):
        model = _learned(words, labels, known)
        rest = np.setdiff1d(pool, known)
        rows = [
            Candidate(str(place), "", tuple(chances), embedding=stored[place])
            for place, chances in zip(rest, model.predict_proba(words[rest]), strict=True)
        ]
        chosen = [int(name) for name in way(rows, 100 * seed + day)]
        daily.append(len(set(topics[chosen])))
        known += chosen
    asked = known[len(first) :]
    return (
        float(np.mean(daily)),
        float(len(set(topics[asked]))),
        _score(_learned(words, labels, known), words, labels, test),
    )


def _learned(words: Any, labels: Any, rows: Any) -> LogisticRegression:
    return LogisticRegression(C=10.0, max_iter=500, class_weight="balanced").fit(words[rows], labels[rows])


def _score(model: LogisticRegression, words: Any, labels: Any, test: Any) -> float:
    return float(f1_score(labels[test], model.predict(words[test]), average="macro"))


def _tell(found: dict[str, list[tuple[float, float, float]]]) -> None:
    say = Console(highlight=False, width=140).print
    seeds = len(found["at random"])
    say(f"\n{FIRST} first labels, then {DAYS} days of {EACH} picks; means and standard errors over {seeds} seeds")
    say("| picks | topics a day | topics in all | macro-F1 | against the smallest margins |")
    say("| --- | ---: | ---: | ---: | ---: |")
    margin = np.array(found["smallest margins"])
    for name, rows in found.items():
        table = np.array(rows)
        gain = table[:, 2] - margin[:, 2]
        cells = [_mean(table[:, 0], 1), _mean(table[:, 1], 1), _mean(table[:, 2], 4), _mean(gain, 4)]
        say(f"| {name} | {' | '.join(cells)} |")


def _mean(values: Any, digits: int) -> str:
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.{digits}f}"


if __name__ == "__main__":
    main()
