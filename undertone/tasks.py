"""The NLP problems Undertone knows: three are built in, and each file in the settings' ``tasks_dir`` is one more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from undertone.errors import ConfigError

DEFAULT_BASE_MODEL = "sentence-transformers/all-MiniLM-L6-v2"

#: A challenger beside the champion: its answers are compared and thrown away, or a few customers get them.
TrialKind = Literal["shadow", "canary"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GatePolicy(_Frozen):
    """What a challenger must reach before a person may approve it. Scores are fractions of 1."""

    floor: float = Field(0.60, ge=0, le=1, description="least macro-F1 on the holdout")
    margin: float = Field(
        0.02,
        ge=0,
        le=1,
        description="macro-F1 the challenger may lose to the champion: the 95 % interval stays above it",
    )
    max_ece: float = Field(0.15, ge=0, le=1, description="greatest expected calibration error")
    min_rows: int = Field(200, ge=1, description="fewest holdout rows on which a verdict is given")
    slice_floor: float = Field(0.50, ge=0, le=1, description="least macro-F1 on each slice")
    slice_margin: float = Field(
        0.05, ge=0, le=1, description="macro-F1 a slice may lose to the champion; more is refused where significant"
    )
    slice_min_rows: int = Field(100, ge=30, description="slices with fewer holdout rows are not judged")
    max_latency_ratio: float = Field(
        1.5, gt=0, description="greatest median time for one message, as a multiple of the champion's"
    )
    min_agreement: float = Field(
        0.97,
        ge=0,
        le=1,
        description="least share of labels that an engine has in common with the exact one; else that serves",
    )
    max_engine_loss: float = Field(
        0.01,
        ge=0,
        le=1,
        description="macro-F1 that an engine may lose to the exact one; more is refused where significant",
    )
    min_invariance: float = Field(
        0.85, ge=0, le=1, description="least share of labels that stay when names, emoji or one typo change a message"
    )
    min_negation: float | None = Field(
        None, ge=0, le=1, description="least share of sentences of praise that lose by a `not`; None: not asked"
    )


class ReviewPolicy(_Frozen):
    """Which answers need a person: the least confident ones, until those kept are wrong seldom enough."""

    max_error: float = Field(0.20, gt=0, lt=1, description="share of the kept answers that may be wrong")
    level: float = Field(0.05, gt=0, lt=1, description="chance that they are wrong more often than that")
    min_coverage: float = Field(
        0.50, gt=0, le=1, description="least share of answers kept, even where that many are wrong more often"
    )


class Floor(_Frozen):
    """Least effects of one signal, from which it warns, acts and is severe."""

    warn: float = Field(ge=0)
    act: float | None = Field(None, ge=0, description="None: it warns at most")
    severe: float | None = Field(None, ge=0, description="None: it acts at most")

    @model_validator(mode="after")
    def _ordered(self) -> Floor:
        given = [value for value in (self.warn, self.act, self.severe) if value is not None]
        if given != sorted(given) or (self.act is None and self.severe is not None):
            raise ValueError(f"floors must rise: warn {self.warn}, act {self.act}, severe {self.severe}")
        return self


#: Effect floors by signal (docs/decisions/0008). ``undertone drift calibrate`` raises them where a model's own healthy
#: windows ask for it, and never lowers them.
FLOORS = {
    "embedding": Floor(warn=0.55, act=0.63, severe=0.80),
    "mmd": Floor(warn=0.04, act=0.09, severe=0.20),
    "text": Floor(warn=0.60, act=0.68, severe=0.85),
    "labels": Floor(warn=0.02, act=0.07),
    "confidence": Floor(warn=0.10, act=0.30),
    "form": Floor(warn=0.15, act=0.40),
    "channels": Floor(warn=0.20),
    "segments": Floor(warn=0.20),
    "late labels": Floor(warn=0.03, act=0.06, severe=0.12),
    "disagreement": Floor(warn=0.10),
}


class DriftPolicy(_Frozen):
    """When a difference between two windows counts: significance *and* an effect floor, and then persistence."""

    min_rows: int = Field(500, ge=2, description="fewer messages merge windows, then give the verdict too_few")
    max_rows: int = Field(5_000, ge=2, description="rows a side that tests look at; counts are of all rows")
    max_merged: int = Field(4, ge=1, description="windows merged at most to reach min_rows")
    alpha: float = Field(0.01, gt=0, lt=1, description="family-wise level over a watch's signals (Holm)")
    segment_alpha: float = Field(
        0.001, gt=0, lt=1, description="false discovery rate over segments (Benjamini-Hochberg)"
    )
    segment_rows: int = Field(100, ge=20, description="segments with fewer messages on a side are not tested")
    persist: int = Field(2, ge=1, description="windows among the last `memory`, the latest included, that must act")
    memory: int = Field(3, ge=1, description="windows that are remembered; two count as two if half of each is its own")
    floors: dict[str, Floor] = Field(FLOORS, description="least effects of each signal: warn, act, severe")

    @model_validator(mode="after")
    def _known(self) -> DriftPolicy:
        if set(self.floors) != set(FLOORS):
            raise ValueError(f"drift floors for {sorted(self.floors)}; expected {sorted(FLOORS)}")
        if self.persist > self.memory:
            raise ValueError(f"drift persist {self.persist} is more than memory {self.memory}")
        return self


class QualityPolicy(_Frozen):
    """Gate 0 of a drift watch: what the messages of a window must be like before their drift means anything."""

    max_empty: float = Field(0.01, ge=0, le=1, description="share of messages without text")
    max_duplicates: float = Field(
        0.15, ge=0, le=1, description="share of messages that repeat another one's text, over that of earlier windows"
    )
    max_truncated: float = Field(0.10, ge=0, le=1, description="share of messages that were cut to the limit")
    max_unknown: float = Field(
        0.05, ge=0, le=1, description="share of predictions with an unknown label or no usable probabilities"
    )
    max_missing: float = Field(
        0.20, ge=0, le=1, description="share of messages that lost their channel or segment, over the reference's"
    )
    max_unseen: float = Field(
        0.50, ge=0, le=1, description="share of messages in channels or segments that the reference does not have"
    )
    max_language: float = Field(
        0.20, ge=0, le=1, description="share of messages that moved to other languages, overall or in a segment"
    )
    min_volume: float = Field(0.30, ge=0, description="least messages, as a multiple of the earlier windows' median")
    max_volume: float = Field(4.0, gt=1, description="most messages, as a multiple of the earlier windows' median")


class AuditPolicy(_Frozen):
    """The label audit that drift buys: how many random labels, and what they must show."""

    drop: float = Field(0.06, gt=0, lt=1, description="drop of accuracy that an audit must be able to see")
    power: float = Field(0.80, gt=0, lt=1, description="chance to see such a drop")
    level: float = Field(0.05, gt=0, lt=1, description="chance to see a drop where there is none (one-sided)")
    per_window: int = Field(200, ge=1, description="messages drawn from one window at most; windows are pooled")
    max_age_days: int = Field(28, ge=1, description="audited labels older than this say nothing about today")
    fresh_labels: int = Field(300, ge=1, description="new labels by people that a retrain between the days needs")


class TrialPolicy(_Frozen):
    """When a challenger on trial gives its share of the traffic back to the champion."""

    max_disagreement: float = Field(
        0.15, ge=0, le=1, description="share of a canary's answers that may differ from the champion's; 1: any"
    )
    level: float = Field(
        0.05, gt=0, lt=1, description="chance to end a canary that differs no more than that, however often one looks"
    )
    min_messages: int = Field(200, ge=1, description="compared messages before a difference can end a canary")
    max_errors: int = Field(3, ge=1, description="messages that the challenger could not answer: so many end a trial")
    max_error_rate: float = Field(0.01, ge=0, lt=1, description="share of such messages above which a trial ends")
    max_share: float = Field(0.5, gt=0, le=1, description="greatest share of the customers in a canary")


class Cadence(_Frozen):
    """Days between the last model and the next. Drift and its audit decide in between."""

    min_days: int = Field(14, ge=0, description="never sooner, but for a severe drift that an audit confirms")
    max_days: int = Field(28, ge=1, description="never later")
    ask_days: int = Field(21, ge=0, description="from this day on missing labels are asked for")
    cooldown_days: float = Field(3, ge=0, description="days after a failed training or a refused challenger")
    budget_trainings: int = Field(4, ge=1, description="trainings within max_days that the policy may start")
    budget_cpu_hours: float | None = Field(None, gt=0, description="processor hours within max_days; None: no limit")

    @model_validator(mode="after")
    def _ordered(self) -> Cadence:
        if not self.min_days <= self.ask_days <= self.max_days:
            raise ValueError(
                f"cadence days must rise: min_days {self.min_days}, ask_days {self.ask_days}, max_days {self.max_days}"
            )
        return self


class TaskSpec(_Frozen):
    """One classification problem over customer messages.

    ``labels`` is ordered: position is the class index in the model's head, and the order may
    not change once a version is registered (the gate refuses a different label map).
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="also of the registered model; of a file: its own name")
    labels: tuple[str, ...] = Field(
        min_length=2, description="words, in the order of the model's outputs; not to be changed once it is registered"
    )
    title: str = Field("", description="the question that it answers, for cards and pages")
    base_model: str = Field(DEFAULT_BASE_MODEL, description="hub name or folder: docs/how-to/choose-a-base-model.md")
    max_tokens: int = Field(128, ge=8, le=512, description="longer messages are cut, and flagged")
    primary_metric: str = Field("macro_f1", description="what versions are compared by")
    source: str = Field("sample", description="data of a training that names none")
    label_column: str | None = Field(None, description="column read when the source has no `label`")
    slices: tuple[str, ...] = Field(
        ("channel", "segment", "length", "negation", "sarcasm_cue", "holdout"),
        description="parts of the holdout judged on their own: columns, and what `training.slices` reads from the text",
    )
    praise_label: str | None = Field(None, description="label that a `not` makes less likely in a sentence of praise")
    min_rows_per_class: int = Field(20, ge=2, description="a label with fewer rows stops the training")
    gate: GatePolicy = GatePolicy()
    drift: DriftPolicy = DriftPolicy()
    quality: QualityPolicy = QualityPolicy()
    audit: AuditPolicy = AuditPolicy()
    trial: TrialPolicy = TrialPolicy()
    review: ReviewPolicy = ReviewPolicy()
    cadence: Cadence = Cadence()

    @model_validator(mode="after")
    def _distinct(self) -> TaskSpec:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"task {self.name}: labels repeat in {self.labels}")
        if self.praise_label is not None and self.praise_label not in self.labels:
            raise ValueError(f"task {self.name}: praise_label {self.praise_label!r} is none of {self.labels}")
        return self

    @property
    def registered_model(self) -> str:
        """Name of the registered model in MLflow."""
        return self.name

    def label_index(self) -> dict[str, int]:
        """Label word to class index."""
        return {label: index for index, label in enumerate(self.labels)}


SENTIMENT = TaskSpec(
    name="sentiment",
    title="Is the customer content?",
    labels=("negative", "neutral", "positive"),
    praise_label="positive",
    gate=GatePolicy(floor=0.80, slice_floor=0.60, min_negation=0.90),
)
SARCASM = TaskSpec(
    name="sarcasm",
    title="Does the message mean what it says?",
    labels=("not_sarcastic", "sarcastic"),
    gate=GatePolicy(floor=0.65),
)
EMOTION = TaskSpec(
    name="emotion",
    title="What does the customer feel?",
    labels=("anger", "joy", "optimism", "sadness"),
    praise_label="joy",
    gate=GatePolicy(floor=0.65, min_negation=0.90),
)

#: The tasks of every installation. `TASKS` has those of this one.
BUILT_IN: dict[str, TaskSpec] = {spec.name: spec for spec in (SENTIMENT, SARCASM, EMOTION)}


class _Tasks(Mapping[str, TaskSpec]):
    """The tasks of this process by name: those built in, then those of files. Files are read once, when first needed.

    Raises:
        ConfigError: a file is not a task; not for the name of a task that is built in.
    """

    def __getitem__(self, name: str) -> TaskSpec:
        return BUILT_IN.get(name) or self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    @staticmethod
    def _all() -> Mapping[str, TaskSpec]:
        # both modules need this one first
        from undertone.settings import get_settings
        from undertone.task_files import tasks_in

        return tasks_in(get_settings().tasks_dir)


TASKS = _Tasks()


def get_task(name: str) -> TaskSpec:
    """The spec called `name`.

    Raises:
        ConfigError: there is no such task, or a task's file is wrong.
    """
    try:
        return TASKS[name]
    except KeyError:
        raise ConfigError(
            f"a task ({', '.join(TASKS)})",
            f"{name!r}",
            "use one of these names, or add a task: docs/how-to/add-a-task.md",
        ) from None
