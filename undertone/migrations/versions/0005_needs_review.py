"""How sure the final sentiment is, and which answers need a person."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("messages", sa.Column("final_probability", sa.Float))
    op.add_column("messages", sa.Column("needs_review", sa.Boolean))
    op.add_column("predictions", sa.Column("needs_review", sa.Boolean))
