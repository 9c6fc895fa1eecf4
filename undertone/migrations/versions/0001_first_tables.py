"""First tables: messages, predictions, feedback, ledger, leases."""

import sqlalchemy as sa
from alembic import op

from undertone.schema import UtcDateTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "messages",
        sa.Column("id", sa.String(200), primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("channel", sa.String(100)),
        sa.Column("segment", sa.String(100)),
        sa.Column("customer_id", sa.String(200)),
        sa.Column("sent_at", UtcDateTime),
        sa.Column("received_at", UtcDateTime, nullable=False),
        sa.Column("truncated", sa.Boolean, nullable=False),
        sa.Column("final_sentiment", sa.String(100)),
        sa.Column("final_reason", sa.String(200)),
    )
    op.create_table(
        "predictions",
        sa.Column("message_id", sa.String(200), primary_key=True),
        sa.Column("task", sa.String(100), primary_key=True),
        sa.Column("event_at", UtcDateTime, nullable=False),
        sa.Column("label", sa.String(100), nullable=False),
        sa.Column("probabilities", sa.JSON, nullable=False),
        sa.Column("confidence", sa.Float, nullable=False),
        sa.Column("model_version", sa.Integer, nullable=False),
        sa.Column("model_digest", sa.String(64), nullable=False),
        sa.Column("scored_at", UtcDateTime, nullable=False),
        sa.Column("sample_key", sa.Integer, nullable=False),
        sa.Column("embedding", sa.LargeBinary),
    )
    op.create_index("predictions_by_time", "predictions", ["task", "event_at"])
    op.create_table(
        "feedback",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("message_id", sa.String(200), nullable=False),
        sa.Column("task", sa.String(100), nullable=False),
        sa.Column("label", sa.String(100), nullable=False),
        sa.Column("labeller", sa.String(200), nullable=False),
        sa.Column("labelled_at", UtcDateTime, nullable=False),
        sa.UniqueConstraint("message_id", "task", "labeller", name="feedback_once"),
    )
    op.create_table(
        "ledger",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("kind", sa.String(60), nullable=False),
        sa.Column("task", sa.String(100), nullable=False),
        sa.Column("version", sa.Integer),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),
    )
    op.create_index("ledger_by_task", "ledger", ["task", "kind"])
    op.create_table(
        "leases",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("holder", sa.String(200), nullable=False),
        sa.Column("expires_at", UtcDateTime, nullable=False),
    )
