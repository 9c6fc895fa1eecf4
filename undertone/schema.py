"""Tables of the prediction store. Changes go through a new file in ``undertone/migrations/versions``."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
)
from sqlalchemy import text as sql_text

metadata = MetaData()

#: Longest reason of a final sentiment that is kept.
REASON_CHARS = 200


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC. SQLite keeps no zone, so values go in naive UTC and come out aware."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """An aware time in UTC, naive for SQLite."""
        if value is None:
            return None
        value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """An aware time in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


messages = Table(
    "messages",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("text", Text, nullable=False),
    Column("channel", String(100)),
    Column("segment", String(100)),
    Column("customer_id", String(200)),
    Column("sent_at", UtcDateTime),
    Column("received_at", UtcDateTime, nullable=False),
    Column("truncated", Boolean, nullable=False),
    Column("final_sentiment", String(100)),
    Column("final_reason", String(REASON_CHARS)),
    Column("final_probability", Float),
    Column("needs_review", Boolean, doc="the final sentiment is too unsure; null: no limit was known"),
    Column("stored_at", UtcDateTime, doc="when it was written here, and so could be seen; null: before 0006"),
    Column("text_removed_at", UtcDateTime, doc="when retention emptied text, customer and embeddings; null: never"),
    Index("messages_by_customer", "customer_id"),
    # what retention has yet to look at, and only that: it stays small however many rows are done
    Index(
        "messages_with_text",
        "received_at",
        sqlite_where=sql_text("text_removed_at is null"),
        postgresql_where=sql_text("text_removed_at is null"),
    ),
)

predictions = Table(
    "predictions",
    metadata,
    Column("message_id", String(200), primary_key=True),
    Column("task", String(100), primary_key=True),
    Column("event_at", UtcDateTime, nullable=False, doc="when the message was sent, else received"),
    Column("label", String(100), nullable=False),
    Column("probabilities", JSON, nullable=False),
    Column("confidence", Float, nullable=False),
    Column("model_version", Integer, nullable=False),
    Column("model_digest", String(64), nullable=False),
    Column("scored_at", UtcDateTime, nullable=False),
    Column("sample_key", Integer, nullable=False, doc="31 bits of SHA-256 of the id: a fixed random order"),
    Column("embedding", LargeBinary),
    Column("needs_review", Boolean, doc="this task's answer is too unsure; null: no limit was known"),
    Index("predictions_by_time", "task", "event_at"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("message_id", String(200), nullable=False),
    Column("task", String(100), nullable=False),
    Column("label", String(100), nullable=False),
    Column("labeller", String(200), nullable=False),
    Column("labelled_at", UtcDateTime, nullable=False),
    Column("origin", String(20), nullable=False, server_default="person"),
    Column("suggested", Boolean, nullable=False, server_default=false(), doc="began as the model's own answer"),
    Column("guideline", String(40), doc="version of the labelling guideline; null: none was named"),
    UniqueConstraint("message_id", "task", "labeller", name="feedback_once"),
)

reviews = Table(
    "reviews",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("task", String(100), nullable=False),
    Column("message_id", String(200), nullable=False),
    Column("batch", String(100), nullable=False, doc="the draw it belongs to, such as audit-3-2026-10-05"),
    Column(
        "kind",
        String(20),
        nullable=False,
        doc="audit: drawn at random; review: picked because it is useful; second: labelled before, by another person",
    ),
    Column("stratum", String(100), doc="the segment it was drawn from; null: none"),
    Column("weight", Float, nullable=False, doc="messages of its window that it stands for"),
    Column("model_version", Integer, nullable=False, doc="the version whose answer is judged"),
    Column("predicted", String(100), nullable=False, doc="that version's answer; reviewers do not see it"),
    Column("asked_at", UtcDateTime, nullable=False),
    Column("state", String(20), nullable=False, doc="open, labelled or skipped"),
    Column("reviewer", String(200), doc="who has it in hand, or labelled it"),
    Column("held_until", UtcDateTime, doc="until then it is in hand of `reviewer`"),
    Column("label", String(100)),
    Column("labelled_at", UtcDateTime),
    Column("closed_at", UtcDateTime, doc="when `reviewer` labelled or skipped it here; null: open, or from a file"),
    Column("reason", String(40), doc="why it was picked: random, unsure, diverse, disagreement or drift"),
    Column("priority", Float, doc="the lower, the sooner within its kind; null: in the order of the draw"),
    Column("guideline", String(40), doc="version of the labelling guideline that the label follows"),
    Column("second_of", Integer, doc="the item that this one has labelled again; null: none"),
    Column("first_label", String(100), doc="of a labelled second item: the first one's label as it then was"),
    UniqueConstraint("message_id", "task", "batch", name="review_once"),
    Index("reviews_by_state", "task", "state", "kind"),
    Index("reviews_by_second", "second_of"),
)

ledger = Table(
    "ledger",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at", String(40), nullable=False, doc="ISO 8601 in UTC, as text: the hash covers these very characters"),
    Column("kind", String(60), nullable=False),
    Column("task", String(100), nullable=False),
    Column("version", Integer),
    Column("actor", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("payload", Text, nullable=False, doc="canonical JSON, as text for the same reason"),
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Index("ledger_by_task", "task", "kind"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("holder", String(200), nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)

trial_figures = Table(
    "trial_figures",
    metadata,
    Column("trial", BigInteger, primary_key=True, autoincrement=False, doc="number of the ledger's row that began it"),
    Column("worker", String(200), primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("figures", JSON, nullable=False),
)

confusions = Table(
    "confusions",
    metadata,
    Column("task", String(100), primary_key=True),
    Column("model_version", Integer, primary_key=True, autoincrement=False),
    Column("label", String(100), primary_key=True, doc="the true one, on the holdout"),
    Column("predicted", String(100), primary_key=True),
    Column("rows", Integer, nullable=False),
)

surveys = Table(
    "surveys",
    metadata,
    Column("id", String(200), primary_key=True, doc="of the answer, with the survey tool's name before it"),
    Column("kind", String(10), nullable=False, doc="nps (0 to 10) or csat (1 to 5)"),
    Column("score", Float, nullable=False),
    Column("customer_id", String(200)),
    Column("segment", String(100)),
    Column("channel", String(100)),
    Column("answered_at", UtcDateTime, nullable=False),
    Column("origin", String(40), nullable=False, doc="the tool or file that it came from"),
    Index("surveys_by_customer", "customer_id"),
    Index("surveys_by_time", "answered_at"),
)

insight_alerts = Table(
    "insight_alerts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("series", String(400), nullable=False, doc="task, label and what it was cut by"),
    Column("period", UtcDateTime, nullable=False, doc="start of the period that changed"),
    Column("found_at", UtcDateTime, nullable=False),
    Column("detail", JSON, nullable=False, doc="the figures, as `insights.changes` gives them"),
    Column("told_at", UtcDateTime, doc="when people were told; null: not yet"),
    UniqueConstraint("series", "period", name="insight_alert_once"),
)

#: Customers who were erased, by a salted hash: what they sent before comes back by no spool, topic or retry.
erasures = Table(
    "erasures",
    metadata,
    Column("customer_hash", String(64), primary_key=True, doc="HMAC-SHA-256 of the customer id under `salt`"),
    Column("salt", String(64), nullable=False, doc="the same in every row of a store"),
    Column("erased_at", UtcDateTime, nullable=False),
)

stream_positions = Table(
    "stream_positions",
    metadata,
    Column("reader", String(100), primary_key=True, doc="consumer group; its members share one position"),
    Column("stream", String(500), primary_key=True, doc="a Kinesis stream with its region, or a file"),
    Column("part", String(200), primary_key=True, doc="a shard; empty: the whole file"),
    Column("position", String(200), nullable=False, doc="of the last message whose scores are durable"),
    Column("at", UtcDateTime, nullable=False),
)

#: One row: which definition of the views of `undertone.views` the database has.
views_state = Table("views_state", metadata, Column("digest", String(64), primary_key=True))
