"""Which messages are worth a person's label: unsure ones that differ from each other, and some at random.

The smallest margins alone are often one kind of message many times over. So they only make the shortlist, and what is
asked is spread over it by k-means (the two steps of Zhdanov, 2019, *Diverse mini-batch Active Learning*,
https://arxiv.org/abs/1901.05954, without its weights).
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, and_, case, or_, select

from undertone.join import SARCASM, SARCASTIC, SENTIMENT
from undertone.schema import feedback, messages, predictions, reviews
from undertone.store import Store
from undertone.tasks import get_task

#: Why a message was picked. ``random`` stands for all messages, the others were chosen for what they teach.
Reason = Literal["random", "unsure", "diverse", "disagreement", "drift"]
REASONS: tuple[Reason, ...] = ("random", "unsure", "diverse", "disagreement", "drift")

#: Share of the picks that are random: what was chosen for being hard tells nothing of the others.
RANDOM_SHARE = 0.15

#: Share of the other picks that go to messages on which sentiment and sarcasm disagree, where there are so many.
DISAGREEMENT_SHARE = 0.3

#: Places on the shortlist for each pick; and the part of all candidates that it may be at most.
BREADTH, SHORTLIST = 10, 1 / 3


#: Principal components of the embeddings that k-means looks at: it costs with the square of the picks, and with these.
DIMENSIONS = 32


@dataclass(frozen=True, slots=True)
class Pick:
    """A message that goes into the queue.

    Attributes:
        stratum: the segment it was drawn from; None: it has none.
        weight: messages of its window that it stands for.
        predicted: the answer that is judged; reviewers do not see it.
        reason: why it was picked; None: an audit's, which is random.
        priority: the lower, the sooner; None: in the order of the draw.
    """

    message_id: str
    stratum: str | None
    weight: float
    predicted: str
    reason: Reason | None = None
    priority: float | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer that could be reviewed.

    Attributes:
        embedding: little-endian float16 bytes; None: none was stored.
        abstained: the model itself asked for a person.
        disagrees: sentiment and sarcasm do not go together in this message.
        drawable: it is of a random sample of messages that no pick has looked at before, so that a random one of these
            stands for all.
        labelled: a person labelled it: only a random draw may ask again.
    """

    message_id: str
    label: str
    probabilities: tuple[float, ...]
    segment: str | None = None
    embedding: bytes | None = None
    abstained: bool = False
    disagrees: bool = False
    drawable: bool = True
    labelled: bool = False

    @property
    def margin(self) -> float:
        """Between the two largest probabilities (Scheffer, Decomain and Wrobel, 2001,
        https://doi.org/10.1007/3-540-44816-0_31).
        """
        second, first = sorted(self.probabilities)[-2:]
        return first - second


def find_candidates(
    store: Store, task: str, version: int, start: datetime, end: datetime, *, limit: int, since: datetime | None = None
) -> list[Candidate]:
    """What `version` answered for messages sent in [start, end), as far as it may be asked of people.

    A random sample, and beside it the messages on which the model abstains or sentiment and sarcasm disagree, which
    may be too rare for a sample; at most `limit` of each. Messages that were in the queue before do not come again.

    Args:
        since: when messages were last picked; None: never.
    """
    labels, abstained, disagrees = len(get_task(task).labels), _abstained(task), _disagrees(task)
    asked = select(reviews.c.id).where(reviews.c.message_id == predictions.c.message_id, reviews.c.task == task)
    told = select(feedback.c.id).where(feedback.c.message_id == predictions.c.message_id, feedback.c.task == task)
    within = (
        predictions.c.task == task,
        predictions.c.model_version == version,
        predictions.c.event_at >= start,
        predictions.c.event_at < end,
        messages.c.text_removed_at.is_(None),
        ~asked.exists(),
    )
    found: dict[str, Candidate] = {}
    with store.reading() as connection:
        for wanted in (None, abstained, disagrees):
            # chosen before embeddings are read: those of messages that are not wanted never are
            chosen = (
                _joined(select(predictions.c.message_id, predictions.c.sample_key))
                .where(*within, *([] if wanted is None else [wanted, ~told.exists()]))
                .order_by(predictions.c.sample_key, predictions.c.message_id)
                .limit(limit)
                .subquery()
            )
            query = (
                _joined(
                    select(
                        predictions.c.message_id,
                        predictions.c.label,
                        predictions.c.probabilities,
                        predictions.c.embedding,
                        predictions.c.scored_at,
                        messages.c.segment,
                        case((abstained, 1), else_=0).label("abstained"),
                        case((disagrees, 1), else_=0).label("disagrees"),
                        case((told.exists(), 1), else_=0).label("labelled"),
                    )
                )
                .join(chosen, chosen.c.message_id == predictions.c.message_id)
                .where(predictions.c.task == task)
            )
            for row in connection.execute(query).mappings():
                if row["message_id"] not in found and len(row["probabilities"] or ()) == labels:
                    found[row["message_id"]] = Candidate(
                        message_id=row["message_id"],
                        label=row["label"],
                        probabilities=tuple(row["probabilities"]),
                        segment=row["segment"],
                        embedding=row["embedding"],
                        abstained=bool(row["abstained"]),
                        disagrees=bool(row["disagrees"]),
                        drawable=wanted is None and (since is None or row["scored_at"] > since),
                        labelled=bool(row["labelled"]),
                    )
    return list(found.values())


def pick(rows: Iterable[Candidate], wanted: int, *, seed: int, reason: Reason | None = None) -> list[Pick]:
    """At most `wanted` messages, the most valuable first; any beginning of the list holds each kind in its share.

    `RANDOM_SHARE` of them are drawn first, of all that may be drawn, so that they stand for all messages. Of the others
    `DISAGREEMENT_SHARE` go to messages on which sentiment and sarcasm disagree and the rest to unsure answers, both
    `spread`.

    Args:
        rows: in any order: it does not matter.
        seed: of the draw and of k-means.
        reason: what those that are not random are said to be for, where it is not their own.
    """
    rows = sorted(rows, key=lambda row: row.message_id)
    drawable = [row for row in rows if row.drawable]
    by_chance = min(round(RANDOM_SHARE * min(wanted, len(rows))), len(drawable))
    drawn = random.Random(seed).sample(drawable, by_chance)
    taken = {row.message_id for row in drawn}
    rest = [row for row in rows if row.message_id not in taken and not row.labelled]
    torn, unsure = [row for row in rest if row.disagrees], [row for row in rest if not row.disagrees]
    places = min(wanted - by_chance, len(rest))
    for_torn = min(len(torn), max(round(DISAGREEMENT_SHARE * places), places - len(unsure)))
    kinds: list[list[tuple[Candidate, Reason]]] = [
        [(row, reason or ("diverse" if by_cluster and not row.abstained else "unsure"))
         for row, by_cluster in spread(unsure, places - for_torn, seed=seed)],
        [(row, reason or "disagreement") for row, _ in spread(torn, for_torn, seed=seed)],
        [(row, "random") for row in drawn],
    ]  # fmt: skip
    placed = [
        ((rank + 0.5) / len(kind), turn, item) for turn, kind in enumerate(kinds) for rank, item in enumerate(kind)
    ]
    ordered = [item for _, _, item in sorted(placed, key=lambda entry: entry[:2])]
    return [
        Pick(row.message_id, row.segment, 1.0, row.label, why, float(place)) for place, (row, why) in enumerate(ordered)
    ]


def spread(rows: Sequence[Candidate], wanted: int, *, seed: int) -> list[tuple[Candidate, bool]]:
    """`wanted` unsure rows that differ, those first whose neighbourhood is the most unsure in all.

    The shortlist is of rows on which the model abstains, then of the smallest margins. k-means makes as many clusters
    of its embeddings, scaled to length 1 and cut to their main directions, as there are places, and the row next to
    each centre is taken. Rows with the embedding of another one come in by margin where places are left, and rows
    without an embedding in the share that they have of the list.

    Returns:
        Rows, and whether they stand for a cluster.
    """
    if wanted <= 0:
        return []
    order = sorted(rows, key=lambda row: (not row.abstained, row.margin, row.message_id))
    shortlist = order[: max(wanted, min(BREADTH * wanted, int(SHORTLIST * len(order))))]
    distinct = list({row.embedding: row for row in reversed(shortlist) if row.embedding}.values())[::-1]
    size = max((len(row.embedding or b"") for row in distinct), default=0)
    distinct = [row for row in distinct if len(row.embedding or b"") == size]
    with_one = sum(row.embedding is not None for row in shortlist)
    clusters = min(len(distinct), round(wanted * with_one / len(shortlist)) if shortlist else 0)
    chosen = _next_to_centres(distinct, clusters, seed)
    taken = {row.message_id for row in chosen}
    others = [row for row in order if row.message_id not in taken]
    return [(row, True) for row in chosen] + [(row, False) for row in others[: wanted - len(chosen)]]


def _next_to_centres(rows: Sequence[Candidate], clusters: int, seed: int) -> list[Candidate]:
    """For each cluster the row next to its centre; the cluster with the most uncertainty first."""
    if clusters < 2:
        return list(rows[:clusters])
    from scipy.cluster.vq import kmeans2

    vectors = np.stack([np.frombuffer(row.embedding or b"", dtype="<f2") for row in rows]).astype(np.float64)
    vectors = np.nan_to_num(vectors)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    vectors, whose = np.unique(vectors, axis=0, return_index=True)  # k-means++ wants as many points as clusters
    if vectors.shape[1] > DIMENSIONS:
        left, scale, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
        vectors = left[:, :DIMENSIONS] * scale[:DIMENSIONS]
    clusters = min(clusters, len(vectors))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a cluster may end empty: then fewer rows stand for one
        centres, cluster = kmeans2(vectors, clusters, iter=20, minit="++", seed=np.random.default_rng(seed))
    distance: NDArray[np.float64] = np.linalg.norm(vectors - centres[cluster], axis=1)
    doubt = np.array([1 - rows[row].margin for row in whose])
    found: list[tuple[float, str, Candidate]] = []
    for number in np.unique(cluster):
        inside = [int(place) for place in np.flatnonzero(cluster == number)]
        nearest = min(inside, key=lambda place: (round(float(distance[place]), 9), rows[int(whose[place])].message_id))
        row = rows[int(whose[nearest])]
        found.append((-float(doubt[inside].sum()), row.message_id, row))
    return [row for _, _, row in sorted(found, key=lambda entry: entry[:2])]


_sentiment, _sarcasm = predictions.alias("said"), predictions.alias("heard")


def _joined(query: Any) -> Any:
    """Answers with their message, and what sentiment and sarcasm said of it."""
    return (
        query.select_from(predictions)
        .join(messages, messages.c.id == predictions.c.message_id)
        .outerjoin(
            _sentiment, and_(_sentiment.c.message_id == predictions.c.message_id, _sentiment.c.task == SENTIMENT)
        )
        .outerjoin(_sarcasm, and_(_sarcasm.c.message_id == predictions.c.message_id, _sarcasm.c.task == SARCASM))
    )


def _abstained(task: str) -> ColumnElement[bool]:
    own = predictions.c.needs_review.is_(True)
    return or_(own, messages.c.needs_review.is_(True)) if task == SENTIMENT else own


def _disagrees(task: str) -> ColumnElement[bool]:
    """The final sentiment is not that of the words, or praise is heard as sarcastic: of both tasks, and no other."""
    turned = messages.c.final_sentiment != _sentiment.c.label
    praise = and_(
        _sentiment.c.label == get_task(SENTIMENT).praise_label,
        _sarcasm.c.label == SARCASTIC,
    )
    return and_(predictions.c.task.in_((SENTIMENT, SARCASM)), predictions.c.task == task, or_(turned, praise))
