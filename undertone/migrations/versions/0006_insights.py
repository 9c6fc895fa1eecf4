"""What insights, the review queue and privacy keep."""

import sqlalchemy as sa
from alembic import op

from undertone.schema import UtcDateTime

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("messages", sa.Column("stored_at", UtcDateTime))
    op.add_column("messages", sa.Column("text_removed_at", UtcDateTime))
    op.create_index("messages_by_customer", "messages", ["customer_id"])
    op.create_index(
        "messages_with_text",
        "messages",
        ["received_at"],
        sqlite_where=sa.text("text_removed_at is null"),
        postgresql_where=sa.text("text_removed_at is null"),
    )
    op.add_column("feedback", sa.Column("guideline", sa.String(40)))
    op.add_column("reviews", sa.Column("closed_at", UtcDateTime))
    op.add_column("reviews", sa.Column("reason", sa.String(40)))
    op.add_column("reviews", sa.Column("priority", sa.Float))
    op.add_column("reviews", sa.Column("guideline", sa.String(40)))
    op.add_column("reviews", sa.Column("second_of", sa.Integer))
    op.add_column("reviews", sa.Column("first_label", sa.String(100)))
    op.create_index("reviews_by_second", "reviews", ["second_of"])
    op.create_table(
        "confusions",
        sa.Column("task", sa.String(100), primary_key=True),
        sa.Column("model_version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("label", sa.String(100), primary_key=True),
        sa.Column("predicted", sa.String(100), primary_key=True),
        sa.Column("rows", sa.Integer, nullable=False),
    )
    op.create_table(
        "surveys",
        sa.Column("id", sa.String(200), primary_key=True),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("score", sa.Float, nullable=False),
        sa.Column("customer_id", sa.String(200)),
        sa.Column("segment", sa.String(100)),
        sa.Column("channel", sa.String(100)),
        sa.Column("answered_at", UtcDateTime, nullable=False),
        sa.Column("origin", sa.String(40), nullable=False),
    )
    op.create_index("surveys_by_customer", "surveys", ["customer_id"])
    op.create_index("surveys_by_time", "surveys", ["answered_at"])
    op.create_table(
        "insight_alerts",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("series", sa.String(400), nullable=False),
        sa.Column("period", UtcDateTime, nullable=False),
        sa.Column("found_at", UtcDateTime, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.Column("told_at", UtcDateTime),
        sa.UniqueConstraint("series", "period", name="insight_alert_once"),
    )
    op.create_table(
        "erasures",
        sa.Column("customer_hash", sa.String(64), primary_key=True),
        sa.Column("salt", sa.String(64), nullable=False),
        sa.Column("erased_at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "stream_positions",
        sa.Column("reader", sa.String(100), primary_key=True),
        sa.Column("stream", sa.String(500), primary_key=True),
        sa.Column("part", sa.String(200), primary_key=True),
        sa.Column("position", sa.String(200), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
    )
    op.create_table("views_state", sa.Column("digest", sa.String(64), primary_key=True))
