"""The ledger takes new rows only: the database itself refuses to change or remove one.

Triggers bind every role, the owner too, until somebody with the owner's rights drops them. What is
changed after that, the hash chain finds. A later migration that rebuilds the table (alembic's batch
mode on SQLite) has to make them again.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

REFUSAL = "the ledger takes new rows only"

SQLITE = (
    f"""create trigger ledger_keeps_content before update on ledger
        begin select raise(abort, '{REFUSAL}'); end""",
    f"""create trigger ledger_keeps_rows before delete on ledger
        begin select raise(abort, '{REFUSAL}'); end""",
    # "insert or replace" removes the old row without asking the trigger above
    f"""create trigger ledger_keeps_places before insert on ledger
        when exists (select 1 from ledger where seq = new.seq or hash = new.hash)
        begin select raise(abort, '{REFUSAL}'); end""",
)
POSTGRESQL = (
    f"""create function ledger_refuses() returns trigger language plpgsql as
        $$ begin raise exception '{REFUSAL}' using errcode = 'restrict_violation'; end $$""",
    """create trigger ledger_keeps_rows before update or delete or truncate on ledger
        for each statement execute function ledger_refuses()""",
    "alter table ledger enable always trigger ledger_keeps_rows",  # in sessions that replicate, too
)


def upgrade() -> None:
    for statement in POSTGRESQL if op.get_context().dialect.name == "postgresql" else SQLITE:
        op.execute(statement)
