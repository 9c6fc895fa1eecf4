"""What each worker has counted in a trial."""

import sqlalchemy as sa
from alembic import op

from undertone.schema import UtcDateTime

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "trial_figures",
        sa.Column("trial", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("worker", sa.String(200), primary_key=True),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("figures", sa.JSON, nullable=False),
    )
