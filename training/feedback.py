"""What feedback is worth in a training: recent labels weigh more, the model's own suggestions are capped.

A label of age t weighs ``1 + boost * 0.5 ** (t / half_life)`` and a row that is no feedback weighs 1. That is gradual
forgetting by an exponential (Gama et al., 2014, *A survey on concept drift adaptation*,
https://doi.org/10.1145/2523813), but towards 1, not 0: an old label is as good as any other row. Weighed and left: a
window that forgets all older rows (customers still say most of what they said); a linear decay (it ends on a day); and
weights from a classifier that tells old from new messages (Shimodaira, 2000, doi 10.1016/S0378-3758(00)00115-4:
one model more to check, and it looks at topics, not at what labels mean now).

The boost is small because it is no free gain (docs/experiments.md). Among rows that are drawn, fresh ones help with the
weeks that come; in the loss of all rows a boost of 3 cost a linear model 0.7 points on them, and one of 1 half of that.
Where only topics move, an unweighted fit is the better one (Shimodaira); weights insure against labels that come to
mean something else.

Ages count from the newest feedback of the data, not from the clock: the same rows weigh the same in a training that is
resumed or repeated later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from pandas import DataFrame, Series, Timestamp


class FeedbackPolicy(BaseModel):
    """Every number that decides what feedback does in a training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    boost: float = Field(1.0, ge=0, description="a label of today weighs 1 + boost; 0: all rows alike")
    half_life_days: float = Field(28.0, gt=0, description="days after which half of the boost is left")
    max_suggested: float = Field(
        0.2, ge=0, lt=1, description="greatest share, of the feedback learned from, that the model itself suggested"
    )
    holdout_days: float = Field(90.0, gt=0, description="days that feedback stays in the recent holdout")


FEEDBACK = FeedbackPolicy()


def newest_feedback(frame: DataFrame) -> Timestamp | None:
    """When the newest feedback of `frame` was sent; None where there is none."""
    latest: Timestamp | None = frame.loc[frame["feedback"], "told_at"].max() if frame["feedback"].any() else None
    return latest


def weigh(frame: DataFrame, latest: Timestamp | None, policy: FeedbackPolicy) -> NDArray[np.float64]:
    """The weight of every row, at least 1.

    Args:
        frame: n rows with ``feedback`` (bool) and ``told_at`` (UTC, set where feedback is true).
        latest: as `newest_feedback` gives it, of all the data.
        policy: boost and half-life.

    Returns:
        float64 [n].
    """
    found = np.ones(len(frame), dtype=np.float64)
    told = frame["feedback"].to_numpy(dtype=np.bool_)
    if latest is not None and told.any():
        found[told] += policy.boost * 0.5 ** (_days(frame.loc[told, "told_at"], latest) / policy.half_life_days)
    return found


def is_aged(frame: DataFrame, latest: Timestamp | None, policy: FeedbackPolicy) -> Series:
    """Which rows are feedback that is too old for the recent holdout, bool [n]."""
    aged = frame["feedback"].astype(bool).copy()
    if latest is not None and aged.any():
        aged[aged] = _days(frame.loc[aged, "told_at"], latest) >= policy.holdout_days
    return aged


def beyond_cap(
    suggested: NDArray[np.bool_], told: NDArray[np.bool_], places: NDArray[np.float64], share: float
) -> NDArray[np.bool_]:
    """Which suggested rows must go, so that at most `share` of what stays of the feedback is suggested.

    Args:
        suggested: rows whose label the model suggested, bool [n].
        told: rows that are feedback, suggested ones included, bool [n].
        places: a fixed random number of each row [n]; the smallest stay.
        share: of the feedback, below 1.

    Returns:
        bool [n].
    """
    own = int((told & ~suggested).sum())
    room = int(own * share / (1 - share) + 1e-9)
    rows = np.flatnonzero(suggested)
    gone = np.zeros(len(suggested), dtype=np.bool_)
    gone[rows[np.argsort(places[rows], kind="stable")][room:]] = True
    return gone


def _days(moments: Series, latest: Timestamp) -> NDArray[np.float64]:
    days: NDArray[np.float64] = ((latest - moments).dt.total_seconds() / 86_400).to_numpy(dtype=np.float64)
    return days
