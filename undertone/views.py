"""The views that BI tools and the console read: stable names, described columns, nothing of a model's insides.

On PostgreSQL they are a schema of their own, ``bi.messages``; SQLite has no schemas, so there it is ``bi_messages``.
The definitions below are the newest; `refresh` brings a database to them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Date,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
    text,
)

from undertone.schema import UtcDateTime, views_state

SCHEMA = "bi"

#: What the two dialects write differently.
_PHRASES = {
    "postgresql": {
        "day": "({0} at time zone 'UTC')::date",
        "hour": "date_trunc('hour', {0} at time zone 'UTC') at time zone 'UTC'",
        "seconds": "extract(epoch from ({1}) - ({0}))::double precision",
        "moment": "({0})::timestamptz",
        "true": "true",
    },
    "sqlite": {
        "day": "date({0})",
        "hour": "strftime('%Y-%m-%d %H:00:00.000000', {0})",
        "seconds": "round((julianday({1}) - julianday({0})) * 86400.0, 3)",
        "moment": "replace(substr({0}, 1, 19), 'T', ' ') || '.000000'",
        "true": "1",
    },
}


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """A column of a view: its name, its type and what it holds."""

    name: str
    type: Any
    about: str


@dataclass(frozen=True, slots=True)
class View:
    """One view.

    Attributes:
        name: without the schema.
        about: one sentence.
        columns: in order.
        query: its select; `sql` writes phrases such as ``<day column>`` as the dialect has them.
        texts: whether it holds customers' words, which not everybody may read.
    """

    name: str
    about: str
    columns: tuple[ViewColumn, ...]
    query: str
    texts: bool = False

    def full_name(self, dialect: str) -> str:
        """As it is called there."""
        return f"{SCHEMA}.{self.name}" if dialect == "postgresql" else f"{SCHEMA}_{self.name}"

    def sql(self, dialect: str) -> str:
        """Its select in that dialect."""
        written = self.query
        for phrase, form in _PHRASES[dialect].items():
            while (start := written.find(f"<{phrase}")) >= 0:
                end = written.index(">", start)
                values = [value.strip() for value in written[start + 1 + len(phrase) : end].split("|") if value.strip()]
                written = written[:start] + form.format(*values) + written[end + 1 :]
        return written

    def table(self, dialect: str) -> Table:
        """For queries by SQLAlchemy."""
        columns = [Column(column.name, column.type) for column in self.columns]
        if dialect == "postgresql":
            return Table(self.name, MetaData(), *columns, schema=SCHEMA)
        return Table(f"{SCHEMA}_{self.name}", MetaData(), *columns)


_EVENT = "coalesce(m.sent_at, m.received_at)"
_WHERE = (
    ViewColumn("channel", String, "chat, email, social, ticket, …; null: none was given"),
    ViewColumn("segment", String, "revenue segment; null: none was given"),
)
_TASK = ViewColumn("task", String, "sentiment, sarcasm, emotion, …")
_MESSAGE_ID = ViewColumn("message_id", String, "the sender's id of the message")
_VERSION = ViewColumn("model_version", Integer, "registered version that answered")
_EVENT_AT = ViewColumn("event_at", UtcDateTime, "when the message was sent, else received; UTC")
_DAY = ViewColumn("day", Date, "day of event_at in UTC")
_CUSTOMER = ViewColumn("customer_id", String, "null: none was given, or removed by retention")

VIEWS: tuple[View, ...] = (
    View(
        "messages",
        "Every scored message, one row each, without its text.",
        (
            _MESSAGE_ID,
            _EVENT_AT,
            _DAY,
            *_WHERE,
            _CUSTOMER,
            ViewColumn("sentiment", String, "final sentiment, sarcasm heard; null: no sentiment model served"),
            ViewColumn("sentiment_probability", Float, "calibrated probability of `sentiment`"),
            ViewColumn("needs_review", Boolean, "too unsure to go without a person; null: no limit was known"),
            ViewColumn("truncated", Boolean, "only the beginning of the text was read"),
            ViewColumn("received_at", UtcDateTime, "when Undertone got it; UTC"),
            ViewColumn("stored_at", UtcDateTime, "when it became visible here; UTC"),
            ViewColumn("seconds_to_insight", Float, "from event_at to stored_at"),
            ViewColumn("seconds_to_store", Float, "from received_at to stored_at: Undertone's own part"),
        ),
        f"""select m.id as message_id, {_EVENT} as event_at, <day {_EVENT}> as day, m.channel, m.segment, m.customer_id,
            m.final_sentiment as sentiment, m.final_probability as sentiment_probability, m.needs_review, m.truncated,
            m.received_at, m.stored_at, <seconds {_EVENT} | m.stored_at> as seconds_to_insight,
            <seconds m.received_at | m.stored_at> as seconds_to_store
            from messages m""",
    ),
    View(
        "message_texts",
        "What customers wrote, as the models read it: grant it to few.",
        (_MESSAGE_ID, ViewColumn("text", Text, "cut to the worker's limit, masked where that is switched on")),
        "select m.id as message_id, m.text from messages m where m.text_removed_at is null",
        texts=True,
    ),
    View(
        "predictions",
        "Every task's answer for every message.",
        (
            _MESSAGE_ID,
            _TASK,
            ViewColumn("label", String, "the likeliest label"),
            ViewColumn("confidence", Float, "its calibrated probability"),
            ViewColumn("needs_review", Boolean, "too unsure to go without a person; null: no limit was known"),
            _VERSION,
            _EVENT_AT,
            _DAY,
            *_WHERE,
            _CUSTOMER,
            ViewColumn("scored_at", UtcDateTime, "when the model answered; UTC"),
        ),
        """select p.message_id, p.task, p.label, p.confidence, p.needs_review, p.model_version, p.event_at,
            <day p.event_at> as day, m.channel, m.segment, m.customer_id, p.scored_at
            from predictions p join messages m on m.id = p.message_id""",
    ),
    View(
        "hourly_labels",
        "Messages by hour, task, label, channel, segment and model version.",
        (
            ViewColumn("hour", UtcDateTime, "start of the hour of event_at; UTC"),
            _DAY,
            _TASK,
            ViewColumn("label", String, "the likeliest label"),
            *_WHERE,
            _VERSION,
            ViewColumn("messages", Integer, "how many"),
            ViewColumn("unsure", Integer, "of these, how many need a person"),
            ViewColumn("mean_confidence", Float, "of their answers"),
        ),
        """select <hour p.event_at> as hour, <day p.event_at> as day, p.task, p.label, m.channel, m.segment,
            p.model_version, count(*) as messages, sum(case when p.needs_review then 1 else 0 end) as unsure,
            avg(p.confidence) as mean_confidence
            from predictions p join messages m on m.id = p.message_id
            group by 1, 2, p.task, p.label, m.channel, m.segment, p.model_version""",
    ),
    View(
        "labels",
        "Labels that people gave, beside what the model had said.",
        (
            _MESSAGE_ID,
            _TASK,
            ViewColumn("label", String, "the person's"),
            ViewColumn("predicted", String, "the model's; null: the message was never scored for this task"),
            _VERSION,
            ViewColumn("labeller", String, "who labelled"),
            ViewColumn("labelled_at", UtcDateTime, "UTC"),
            ViewColumn("origin", String, "person (unasked), audit, review, second or import"),
            ViewColumn("suggested", Boolean, "the labeller saw the model's answer first"),
            ViewColumn("guideline", String, "version of the labelling guideline; null: none was named"),
        ),
        """select f.message_id, f.task, f.label, p.label as predicted, p.model_version, f.labeller, f.labelled_at,
            f.origin, f.suggested, f.guideline
            from feedback f left join predictions p on p.message_id = f.message_id and p.task = f.task""",
    ),
    View(
        "reviews",
        "The review queue, open items and closed ones.",
        (
            ViewColumn("review_id", Integer, "number of the item"),
            _TASK,
            _MESSAGE_ID,
            ViewColumn("batch", String, "the draw that it belongs to"),
            ViewColumn("kind", String, "audit (drawn at random), review (picked as useful) or second (labelled again)"),
            ViewColumn("reason", String, "why it was picked: random, unsure, diverse, disagreement or drift"),
            ViewColumn("state", String, "open, labelled or skipped"),
            ViewColumn("reviewer", String, "who has it in hand, or closed it"),
            ViewColumn("asked_at", UtcDateTime, "UTC"),
            ViewColumn("held_until", UtcDateTime, "until then nobody else gets it; UTC"),
            ViewColumn("label", String, "the reviewer's"),
            ViewColumn("labelled_at", UtcDateTime, "UTC"),
            ViewColumn("guideline", String, "version of the labelling guideline"),
            ViewColumn("second_of", Integer, "the item that this one has labelled again"),
            ViewColumn("segment", String, "the one that it was drawn from"),
            ViewColumn("weight", Float, "messages of its window that it stands for"),
            _VERSION,
            ViewColumn("predicted", String, "that version's answer"),
        ),
        """select r.id as review_id, r.task, r.message_id, r.batch, r.kind, r.reason, r.state, r.reviewer, r.asked_at,
            r.held_until, r.label, r.labelled_at, r.guideline, r.second_of, r.stratum as segment, r.weight,
            r.model_version, r.predicted from reviews r""",
    ),
    View(
        "model_errors",
        "How often each version takes one label for another, on its holdout and in audits of its answers.",
        (
            _TASK,
            _VERSION,
            ViewColumn("source", String, "holdout (when it was trained) or audit (people, on messages that it served)"),
            ViewColumn("label", String, "the true one"),
            ViewColumn("predicted", String, "the model's"),
            ViewColumn("rows", Integer, "messages"),
        ),
        """select c.task, c.model_version, 'holdout' as source, c.label, c.predicted, c.rows as rows from confusions c
            union all
            select r.task, r.model_version, 'audit', r.label, r.predicted, count(*) from reviews r
            where r.kind = 'audit' and r.state = 'labelled' group by r.task, r.model_version, r.label, r.predicted""",
    ),
    View(
        "model_updates",
        "Which version was put into service when: approvals and rollbacks of the ledger.",
        (
            _TASK,
            ViewColumn("model_version", Integer, "the version that serves from then on"),
            ViewColumn("kind", String, "approved or rolled_back"),
            ViewColumn("at", UtcDateTime, "UTC"),
            ViewColumn("actor", String, "who decided"),
            ViewColumn("days_since_last", Float, "days since the task's last update; null: it is the first"),
            ViewColumn("seq", Integer, "number of the ledger's row"),
        ),
        """select u.task, u.version as model_version, u.kind, u.moment as at, u.actor,
            <seconds lag(u.moment) over (partition by u.task order by u.seq) | u.moment> / 86400.0 as days_since_last,
            u.seq from (select l.task, l.version, l.kind, <moment l.at> as moment, l.actor, l.seq from ledger l
            where l.kind in ('approved', 'rolled_back')) u""",
    ),
    View(
        "surveys",
        "Answers of customers to surveys, as they were imported.",
        (
            ViewColumn("survey_id", String, "of the answer"),
            ViewColumn("kind", String, "nps (0 to 10) or csat (1 to 5)"),
            ViewColumn("score", Float, "on that scale"),
            _CUSTOMER,
            *_WHERE,
            ViewColumn("answered_at", UtcDateTime, "UTC"),
            _DAY,
            ViewColumn("origin", String, "the tool or file that it came from"),
        ),
        """select s.id as survey_id, s.kind, s.score, s.customer_id, s.channel, s.segment, s.answered_at,
            <day s.answered_at> as day, s.origin from surveys s""",
    ),
)


def get_view(name: str) -> View:
    """The view of that name; `KeyError` where there is none."""
    return {view.name: view for view in VIEWS}[name]


def refresh(connection: Connection) -> bool:
    """Make the database's views those of `VIEWS`, in the caller's transaction. Gives whether anything changed."""
    dialect = connection.dialect.name
    definitions = [(view.name, view.sql(dialect), [[c.name, c.about] for c in view.columns]) for view in VIEWS]
    digest = hashlib.sha256(json.dumps(definitions).encode()).hexdigest()
    if connection.execute(select(views_state.c.digest)).scalar() == digest:
        return False
    for statement in _statements(connection, dialect):
        # the driver reads % and : as its own signs; a definition has no values to bind
        connection.exec_driver_sql(statement.replace("%", "%%") if dialect == "postgresql" else statement)
    connection.execute(delete(views_state))
    connection.execute(insert(views_state).values(digest=digest))
    return True


def _statements(connection: Connection, dialect: str) -> Sequence[str]:
    if dialect == "postgresql":
        granted = _grants(connection)
        made = [f"drop schema if exists {SCHEMA} cascade", f"create schema {SCHEMA}"]
        for view in VIEWS:
            name = view.full_name(dialect)
            made += [f"create view {name} as {view.sql(dialect)}", f"comment on view {name} is {_quoted(view.about)}"]
            made += [f'comment on column {name}."{c.name}" is {_quoted(c.about)}' for c in view.columns]
        return [*made, *granted]
    there = connection.execute(text("select name from sqlite_master where type = 'view'")).scalars()
    known = [name for name in there if name.startswith(f"{SCHEMA}_")]
    return [f"drop view {name}" for name in known] + [
        f"create view {view.full_name(dialect)} as {view.sql(dialect)}" for view in VIEWS
    ]


def _grants(connection: Connection) -> list[str]:
    """What readers may do now, as statements that give it back once the views are made anew."""
    found = connection.execute(
        text(
            "select g.grantee, g.table_name from information_schema.role_table_grants g where g.table_schema = :schema"
            " and g.privilege_type = 'SELECT' and g.grantee <> current_user order by 1, 2"
        ),
        {"schema": SCHEMA},
    ).all()
    names = {view.name for view in VIEWS}
    roles = sorted({role for role, _ in found})
    return [f"grant usage on schema {SCHEMA} to {_role(role)}" for role in roles] + [
        f"grant select on {SCHEMA}.{name} to {_role(role)}" for role, name in found if name in names
    ]


def _role(name: str) -> str:
    return "public" if name == "PUBLIC" else '"' + name.replace('"', '""') + '"'


def _quoted(words: str) -> str:
    return "'" + words.replace("'", "''") + "'"
