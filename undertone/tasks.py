"""The NLP problems Undertone knows. A fourth task is one more `TaskSpec` in `TASKS`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from undertone.errors import ConfigError

DEFAULT_BASE_MODEL = "sentence-transformers/all-MiniLM-L6-v2"


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
    min_invariance: float = Field(
        0.85, ge=0, le=1, description="least share of labels that stay when names, emoji or one typo change a message"
    )
    min_negation: float | None = Field(
        None, ge=0, le=1, description="least share of sentences of praise that lose by a `not`; None: not asked"
    )


class DriftPolicy(_Frozen):
    """When a difference between two windows counts: significance *and* an effect floor.

    The floors are those that kept quiet windows quiet on real tweets (docs/decisions/0008).
    """

    min_rows: int = Field(500, ge=2, description="fewer messages give the verdict too_few")
    max_rows: int = Field(5_000, ge=2, description="rows a side that tests look at")
    alpha: float = Field(0.001, gt=0, lt=1, description="significance level of each signal")
    embedding_auc: float = Field(0.58, ge=0.5, le=1, description="least domain-classifier AUC that warns")
    embedding_auc_act: float = Field(0.65, ge=0.5, le=1, description="AUC from which drift acts")
    label_psi: float = Field(0.02, ge=0, description="least population stability index of predicted labels")
    confidence_wasserstein: float = Field(0.10, ge=0, description="least normed Wasserstein distance of confidence")
    length_wasserstein: float = Field(0.15, ge=0, description="least normed Wasserstein distance of text length")


class Cadence(_Frozen):
    """Days between the last model and the next. Drift decides in between."""

    min_days: int = Field(14, ge=0)
    max_days: int = Field(28, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Cadence:
        if self.min_days > self.max_days:
            raise ValueError(f"cadence min_days {self.min_days} is after max_days {self.max_days}")
        return self


class TaskSpec(_Frozen):
    """One classification problem over customer messages.

    ``labels`` is ordered: position is the class index in the model's head, and the order may
    not change once a version is registered (the gate refuses a different label map).
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    labels: tuple[str, ...] = Field(min_length=2)
    title: str = ""
    base_model: str = DEFAULT_BASE_MODEL
    max_tokens: int = Field(128, ge=8, le=512, description="longer messages are cut, and flagged")
    primary_metric: str = "macro_f1"
    source: str = "sample"
    label_column: str | None = Field(None, description="column read when the source has no `label`")
    slices: tuple[str, ...] = Field(
        ("channel", "segment", "length", "negation", "sarcasm_cue"),
        description="parts of the holdout judged on their own: columns, and what `training.slices` reads from the text",
    )
    praise_label: str | None = Field(None, description="label that a `not` makes less likely in a sentence of praise")
    min_rows_per_class: int = Field(20, ge=2)
    gate: GatePolicy = GatePolicy()
    drift: DriftPolicy = DriftPolicy()
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

TASKS: dict[str, TaskSpec] = {spec.name: spec for spec in (SENTIMENT, SARCASM, EMOTION)}


def get_task(name: str) -> TaskSpec:
    """The spec called `name`.

    Raises:
        ConfigError: there is no such task.
    """
    try:
        return TASKS[name]
    except KeyError:
        raise ConfigError(
            f"a task ({', '.join(TASKS)})",
            f"{name!r}",
            "use one of these names, or add a TaskSpec in undertone/tasks.py",
        ) from None
