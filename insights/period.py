"""What a question about messages is limited to, and how it is written in an address."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import urlencode

from undertone.errors import DataError
from undertone.records import utc

#: What messages can be cut by.
Cut = Literal["channel", "segment", "model_version"]
CUTS: tuple[Cut, ...] = ("channel", "segment", "model_version")
Step = Literal["hour", "day", "week"]
STEPS: dict[Step, timedelta] = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}

#: Most points of one series: more cannot be told apart in a picture.
MOST_POINTS = 400


@dataclass(frozen=True, slots=True)
class Period:
    """Messages sent in [start, end), in steps, of one channel, segment or version where these are named."""

    start: datetime
    end: datetime
    step: Step = "day"
    channel: str | None = None
    segment: str | None = None
    model_version: int | None = None

    def __post_init__(self) -> None:
        if self.step not in STEPS:
            raise DataError(f"a step: {', '.join(STEPS)}", repr(self.step), "choose one")
        start, end = utc(self.start), utc(self.end)
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "end", end)
        if end <= start:
            raise DataError("a period that ends after it starts", f"{start:%Y-%m-%d} to {end:%Y-%m-%d}", "swap the two")
        if (end - start) / STEPS[self.step] > MOST_POINTS:
            raise DataError(
                f"at most {MOST_POINTS} points",
                f"{(end - start) / STEPS[self.step]:.0f} of one {self.step}",
                "choose a shorter period or longer steps",
            )

    def steps(self) -> Iterator[tuple[datetime, datetime]]:
        """Start and end of each step, in order, cut at both ends; days and hours are those of UTC, weeks of 7 days."""
        began = self.start
        if self.step != "week":
            began = began.replace(minute=0, second=0, microsecond=0)
            began = began.replace(hour=0) if self.step == "day" else began
        while began < self.end:
            ends = began + STEPS[self.step]
            yield max(began, self.start), min(ends, self.end)
            began = ends

    def before(self) -> Period:
        """As long a time so many whole days earlier that the two do not meet: the same hours of the day."""
        days = timedelta(days=math.ceil((self.end - self.start) / timedelta(days=1)))
        return replace(self, start=self.start - days, end=self.end - days)

    def query(self, **more: str | int | None) -> str:
        """This period as the query of an address, with more fields: whoever opens it sees the same messages."""
        values: Mapping[str, object] = {field.name: getattr(self, field.name) for field in fields(self)} | more
        written = {
            name: value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
            for name, value in values.items()
            if value is not None
        }
        return urlencode(written)
