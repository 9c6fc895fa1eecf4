"""The review queue, and where a label came from."""

import sqlalchemy as sa
from alembic import op

from undertone.schema import UtcDateTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("feedback", sa.Column("origin", sa.String(20), nullable=False, server_default="person"))
    op.add_column("feedback", sa.Column("suggested", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_table(
        "reviews",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("task", sa.String(100), nullable=False),
        sa.Column("message_id", sa.String(200), nullable=False),
        sa.Column("batch", sa.String(100), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("stratum", sa.String(100)),
        sa.Column("weight", sa.Float, nullable=False),
        sa.Column("model_version", sa.Integer, nullable=False),
        sa.Column("predicted", sa.String(100), nullable=False),
        sa.Column("asked_at", UtcDateTime, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("reviewer", sa.String(200)),
        sa.Column("held_until", UtcDateTime),
        sa.Column("label", sa.String(100)),
        sa.Column("labelled_at", UtcDateTime),
        sa.UniqueConstraint("message_id", "task", "batch", name="review_once"),
    )
    op.create_index("reviews_by_state", "reviews", ["task", "state", "kind"])
