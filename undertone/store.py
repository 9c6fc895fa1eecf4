"""The prediction store: messages, predictions, feedback, leases (and the ledger's table) in one SQL database.

SQLite in WAL mode by default, PostgreSQL by URL. Writes are idempotent by message id, so a
caller that is unsure whether a write arrived simply writes again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    Select,
    Subquery,
    Table,
    and_,
    bindparam,
    case,
    create_engine,
    delete,
    event,
    false,
    func,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from undertone import tombstones, views
from undertone.errors import StoreError
from undertone.records import Feedback, Message, ScoredMessage, utc
from undertone.schema import REASON_CHARS, feedback, leases, messages, predictions
from undertone.settings import Settings
from undertone.shares import sample_key

#: Messages that retention has not emptied.
_HAS_TEXT = messages.c.text_removed_at.is_(None)

_MIGRATION_LOCK = 0x756E646D  # "undm": one process migrates at a time on PostgreSQL


class Store:
    """A connection pool to one store. Safe to share between threads.

    Args:
        url: SQLAlchemy URL, ``sqlite:///path`` or ``postgresql+psycopg://…``.
        timeout_s: seconds to wait for a lock or a connection before giving up.
    """

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        self.url = make_url(url)
        self.engine = _engine(str(url), timeout_s)

    @classmethod
    def open(cls, settings: Settings, timeout_s: float = 30.0) -> Store:
        """The store that `settings` name, made and migrated to the newest schema where needed."""
        store = cls(settings.database_url, timeout_s)
        store.migrate()
        return store

    def migrate(self) -> None:
        """Bring the schema to its newest version. One transaction: a second caller waits, then finds it done."""
        from alembic import command
        from alembic.config import Config

        if self.url.database and self.url.get_backend_name() == "sqlite":
            self._make_folder(Path(self.url.database).parent)
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self.transaction() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            views.refresh(connection)

    def _make_folder(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"a folder for the store at {self.url.render_as_string(hide_password=True)}",
                f"{type(error).__name__}: {error}",
                "check disk and rights, or name another with UNDERTONE_STORE_URL",
            ) from error

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A write transaction. On SQLite it takes the write lock at once, so two writers queue instead of failing.

        Raises:
            StoreError: the database is out of reach, locked beyond the timeout, or full.
        """
        with self._translated(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read transaction: never waits for writers."""
        with self._translated(), self.engine.connect().execution_options(undertone_read=True) as connection:
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        where = self.url.render_as_string(hide_password=True)
        try:
            yield
        # PostgreSQL keeps to a column's length and takes no NUL; no database takes half a surrogate pair
        except (DataError, UnicodeEncodeError) as error:
            cause = getattr(error, "orig", None) or error
            raise StoreError(
                f"values that the store at {where} can keep",
                f"{type(cause).__name__}: {cause}",
                "shorten or repair the value; nothing of this transaction was written",
            ) from error
        except (DBAPIError, PoolTimeout) as error:
            cause = getattr(error, "orig", None) or error
            raise StoreError(
                f"an answer from the store at {where}",
                f"{type(cause).__name__}: {cause}",
                "check that the database is up and that UNDERTONE_STORE_URL names it",
            ) from error

    def ping(self) -> None:
        """Raise `StoreError` unless the store answers."""
        with self.reading() as connection:
            connection.execute(text("select 1"))

    # predictions ----------------------------------------------------------------------------

    def record(self, scored: Sequence[ScoredMessage]) -> int:
        """Write scored messages and their predictions in one transaction.

        A message id (and a task's prediction for it) that is already there stays as it is. What a customer sent before
        they were erased (`undertone.tombstones`) is left out.

        Returns:
            How many messages were new.
        """
        if not scored:
            return 0
        # in one order everywhere: two workers that write the same messages queue, they do not deadlock
        stored_at = datetime.now(UTC)
        with self.transaction() as connection:
            erased = tombstones.erased_at(connection, (item.message.customer_id for item in scored))
            if erased:
                scored = [item for item in scored if not _is_erased(item.message, erased)]
            inserts = sorted((_message_row(item) | {"stored_at": stored_at} for item in scored), key=itemgetter("id"))
            answers = [row for item in scored for row in _prediction_rows(item)]
            new = _insert_new(connection, messages, inserts)
            _insert_new(connection, predictions, sorted(answers, key=itemgetter("message_id", "task")))
            return new

    def window(self, task: str, start: datetime, end: datetime, limit: int | None = None) -> Sequence[RowMapping]:
        """Predictions of `task` for messages sent in [start, end), with the message's columns.

        ``text_removed_at`` says where retention has emptied text, customer and embedding.

        Args:
            limit: at most this many rows, a random sample that is the same on every call; None: all.
        """
        query = (
            select(
                predictions,
                messages.c.text,
                messages.c.channel,
                messages.c.segment,
                messages.c.customer_id,
                messages.c.text_removed_at,
                messages.c.final_sentiment,
            )
            .join(messages, messages.c.id == predictions.c.message_id)
            .where(predictions.c.task == task, predictions.c.event_at >= start, predictions.c.event_at < end)
            .order_by(predictions.c.sample_key, predictions.c.message_id)
            .limit(limit)
        )
        with self.reading() as connection:
            return connection.execute(query).mappings().all()

    def count(self, task: str, start: datetime, end: datetime) -> int:
        """How many predictions of `task` fall in [start, end)."""
        query = select(func.count()).where(
            predictions.c.task == task, predictions.c.event_at >= start, predictions.c.event_at < end
        )
        with self.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def latest_event(self, task: str) -> datetime | None:
        """When the newest scored message of `task` was sent."""
        with self.reading() as connection:
            newest: datetime | None = connection.execute(
                select(func.max(predictions.c.event_at, type_=predictions.c.event_at.type)).where(
                    predictions.c.task == task
                )
            ).scalar_one()
            return newest

    # windows --------------------------------------------------------------------------------

    def sample(self, task: str, start: datetime, end: datetime, *, version: int, limit: int) -> Sequence[RowMapping]:
        """What `version` predicted for at most `limit` messages sent in [start, end): the same random ones every time.

        Columns: message_id, label, probabilities, embedding, text, channel, segment. Messages whose text retention has
        removed are left out; `removed_texts` counts them.
        """
        # picked before the join: the texts and embeddings of rows that are not wanted are never read
        picking = (
            select(predictions.c.message_id, predictions.c.sample_key)
            .where(*_within(task, start, end), predictions.c.model_version == version)
            .order_by(predictions.c.sample_key, predictions.c.message_id)
            .limit(limit)
        )
        with self.reading() as connection:
            rows = connection.execute(_sampled(picking.subquery(), task)).mappings().all()
            if any(row["text_removed_at"] is not None for row in rows):
                # a second time, from what has a text: a window that retention has not reached pays nothing for it
                with_text = picking.join(messages, messages.c.id == predictions.c.message_id).where(_HAS_TEXT)
                rows = connection.execute(_sampled(with_text.subquery(), task)).mappings().all()
            return rows

    def removed_texts(self, task: str, start: datetime, end: datetime, *, version: int | None = None) -> int:
        """How many messages of `task` sent in [start, end) have lost their text to retention.

        Args:
            version: of those that it predicted; None: whichever version did.
        """
        query = (
            select(func.count())
            .select_from(predictions.join(messages, messages.c.id == predictions.c.message_id))
            .where(*_within(task, start, end), messages.c.text_removed_at.is_not(None))
        )
        if version is not None:
            query = query.where(predictions.c.model_version == version)
        with self.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def by_version(self, task: str, start: datetime, end: datetime) -> dict[int, int]:
        """How many messages sent in [start, end) each model version predicted."""
        query = (
            select(predictions.c.model_version, func.count())
            .where(*_within(task, start, end))
            .group_by(predictions.c.model_version)
        )
        with self.reading() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def tallies(self, task: str, start: datetime, end: datetime, *, version: int) -> dict[str, dict[str, int]]:
        """Messages of each predicted label, channel and segment among all that `version` predicted in [start, end)."""
        columns = {"label": predictions.c.label, "channel": messages.c.channel, "segment": messages.c.segment}
        query = (
            select(*columns.values(), func.count().label("rows"))
            .join(messages, messages.c.id == predictions.c.message_id)
            .where(*_within(task, start, end), predictions.c.model_version == version)
            .group_by(*columns.values())
        )
        found: dict[str, dict[str, int]] = {name: {} for name in columns}
        with self.reading() as connection:
            for row in connection.execute(query).mappings():
                for name, counts in found.items():
                    if row[name] is not None:
                        counts[row[name]] = counts.get(row[name], 0) + row["rows"]
        return {name: dict(sorted(counts.items())) for name, counts in found.items()}

    def text_counts(self, task: str, start: datetime, end: datetime) -> dict[str, int]:
        """Of the messages of `task` sent in [start, end): rows, empty, truncated and removed ones, and distinct texts.

        Removed (by retention) are neither empty nor distinct.
        """
        query = (
            select(
                func.count().label("rows"),
                func.coalesce(func.sum(case((and_(_HAS_TEXT, func.trim(messages.c.text) == ""), 1), else_=0)), 0).label(
                    "empty"
                ),
                func.coalesce(func.sum(case((messages.c.truncated, 1), else_=0)), 0).label("truncated"),
                func.coalesce(func.sum(case((_HAS_TEXT, 0), else_=1)), 0).label("removed"),
                func.count(case((_HAS_TEXT, messages.c.text)).distinct()).label("distinct"),
            )
            .join(predictions, messages.c.id == predictions.c.message_id)
            .where(*_within(task, start, end))
        )
        with self.reading() as connection:
            return {name: int(count) for name, count in connection.execute(query).mappings().one().items()}

    def first_event(self, task: str) -> datetime | None:
        """When the oldest scored message of `task` was sent."""
        column = predictions.c.event_at
        with self.reading() as connection:
            oldest: datetime | None = connection.execute(
                select(func.min(column, type_=column.type)).where(predictions.c.task == task)
            ).scalar_one()
            return oldest

    def truths(
        self, task: str, start: datetime, end: datetime, *, version: int, until: datetime | None = None
    ) -> Sequence[RowMapping]:
        """Labels that people gave, not shown the model's answer, for what `version` predicted in [start, end).

        The newest label of a message counts. Columns: message_id, predicted, label, origin.

        Args:
            until: labels given later are not seen; None: all.
        """
        last = _newest_labels(task, until).where(feedback.c.suggested == false()).subquery()
        query = (
            select(
                feedback.c.message_id,
                predictions.c.label.label("predicted"),
                feedback.c.label,
                feedback.c.origin,
            )
            .join(last, last.c.id == feedback.c.id)
            .join(predictions, predictions.c.message_id == feedback.c.message_id)
            .where(*_within(task, start, end), predictions.c.model_version == version)
        )
        with self.reading() as connection:
            return connection.execute(query).mappings().all()

    # feedback -------------------------------------------------------------------------------

    def add_feedback(self, labels: Sequence[Feedback]) -> int:
        """Write labels; a labeller's second label for a message replaces the first. Gives the number written."""
        with self.transaction() as connection:
            return write_feedback(connection, labels)

    def known(self, message_ids: Sequence[str]) -> set[str]:
        """Which of these messages were scored."""
        found: set[str] = set()
        with self.reading() as connection:
            for start in range(0, len(message_ids), 500):  # databases limit the values of one `in`
                part = message_ids[start : start + 500]
                found.update(connection.execute(select(messages.c.id).where(messages.c.id.in_(part))).scalars())
        return found

    def labelled(self, task: str, until: datetime | None = None) -> Sequence[RowMapping]:
        """Messages that a person labelled for `task`, newest label per message, in order of message time and id.

        Columns: message_id, text, channel, segment, sent_at, label, labeller, labelled_at, origin, suggested. Messages
        whose text retention has removed are left out; `labelled_without_text` counts them.
        """
        last = _newest_labels(task, until).subquery()
        query = (
            select(
                feedback.c.message_id,
                messages.c.text,
                messages.c.channel,
                messages.c.segment,
                messages.c.sent_at,
                feedback.c.label,
                feedback.c.labeller,
                feedback.c.labelled_at,
                feedback.c.origin,
                feedback.c.suggested,
            )
            .join(last, last.c.id == feedback.c.id)
            .join(messages, messages.c.id == feedback.c.message_id)
            .where(_HAS_TEXT)
        )
        with self.reading() as connection:
            rows = connection.execute(query).mappings().all()
        # sorted here: databases disagree about the order of text and of null, and the data's fingerprint about neither
        return sorted(rows, key=lambda row: (row["sent_at"] or datetime.min.replace(tzinfo=UTC), row["message_id"]))

    def labelled_without_text(self, task: str, until: datetime | None = None) -> int:
        """How many messages that a person labelled for `task` have lost their text to retention."""
        query = (
            select(func.count(feedback.c.message_id.distinct()))
            .join(messages, messages.c.id == feedback.c.message_id)
            .where(feedback.c.task == task, messages.c.text_removed_at.is_not(None))
        )
        if until is not None:
            query = query.where(feedback.c.labelled_at <= until)
        with self.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def texts(self) -> Sequence[str]:
        """Every text that retention has left, in order of message id."""
        query = select(messages.c.text).where(_HAS_TEXT).order_by(messages.c.id)
        with self.reading() as connection:
            return connection.execute(query).scalars().all()

    # leases ---------------------------------------------------------------------------------

    def acquire(self, name: str, holder: str, now: datetime, seconds: float) -> bool:
        """Take the lease `name` for `seconds`, or renew it for its holder. False: somebody else holds it."""
        now = utc(now)
        row = {"name": name, "holder": holder, "expires_at": now + timedelta(seconds=seconds)}
        with self.transaction() as connection:
            connection.execute(delete(leases).where(leases.c.name == name, leases.c.expires_at <= now))
            _insert_new(connection, leases, [row])
            holds = leases.c.name == name, leases.c.holder == holder
            connection.execute(leases.update().where(*holds).values(expires_at=row["expires_at"]))
            return connection.execute(select(leases.c.name).where(*holds)).first() is not None

    def release(self, name: str, holder: str) -> None:
        """Give the lease back; nothing happens if `holder` does not hold it."""
        with self.transaction() as connection:
            connection.execute(delete(leases).where(leases.c.name == name, leases.c.holder == holder))

    def holder(self, name: str) -> str | None:
        """Who holds the lease `name`, live or expired."""
        with self.reading() as connection:
            found: str | None = connection.execute(select(leases.c.holder).where(leases.c.name == name)).scalar()
            return found


def write_feedback(connection: Connection, labels: Sequence[Feedback]) -> int:
    """`Store.add_feedback` within the caller's transaction."""
    last = {(item.message_id, item.task, item.labeller): item for item in labels}
    _lock_feedback(connection)
    if not last:
        return 0
    names = ("message_id", "task", "labeller")
    earlier = delete(feedback).where(*(feedback.c[name] == bindparam(f"its_{name}") for name in names))
    connection.execute(earlier, [dict(zip((f"its_{name}" for name in names), key, strict=True)) for key in last])
    rows = [
        {
            "message_id": item.message_id,
            "task": item.task,
            "label": item.label,
            "labeller": item.labeller,
            "labelled_at": item.labelled_at,
            "origin": item.origin,
            "suggested": item.suggested,
            "guideline": item.guideline,
        }
        for item in last.values()
    ]
    _insert_new(connection, feedback, rows)
    return len(last)


def take_feedback_back(connection: Connection, label: Feedback) -> bool:
    """Remove `label`, if it still is what its labeller says, in the caller's transaction. Gives whether it was."""
    _lock_feedback(connection)
    there = delete(feedback).where(
        feedback.c.message_id == label.message_id,
        feedback.c.task == label.task,
        feedback.c.labeller == label.labeller,
        feedback.c.label == label.label,
        feedback.c.origin == label.origin,
    )
    return connection.execute(there).rowcount > 0


def _lock_feedback(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":  # as on SQLite, the label that is written later counts
        connection.execute(text("lock table feedback in share row exclusive mode"))


def _newest_labels(task: str, until: datetime | None) -> Select[tuple[str, int]]:
    """For each message that people labelled for `task`, the id of its newest label; None: whenever it was given.

    A second person's label in the review queue measures agreement and moves nothing: the first one counts.
    """
    query = (
        select(feedback.c.message_id, func.max(feedback.c.id).label("id"))
        .where(feedback.c.task == task, feedback.c.origin != "second")
        .group_by(feedback.c.message_id)
    )
    return query if until is None else query.where(feedback.c.labelled_at <= until)


def _sampled(picked: Subquery, task: str) -> Select[Any]:
    return (
        select(
            predictions.c.message_id,
            predictions.c.label,
            predictions.c.probabilities,
            predictions.c.embedding,
            messages.c.text,
            messages.c.text_removed_at,
            messages.c.channel,
            messages.c.segment,
        )
        .select_from(picked)
        .join(predictions, (predictions.c.message_id == picked.c.message_id) & (predictions.c.task == task))
        .join(messages, messages.c.id == picked.c.message_id)
        .order_by(picked.c.sample_key, picked.c.message_id)
    )


def _within(task: str, start: datetime, end: datetime) -> tuple[ColumnElement[bool], ...]:
    """Predictions of `task` for messages sent in [start, end)."""
    return predictions.c.task == task, predictions.c.event_at >= start, predictions.c.event_at < end


def _engine(url: str, timeout_s: float) -> Engine:
    if make_url(url).get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": timeout_s})
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    # "read committed", whatever the server's default: who waited for a lock must see what its last holder wrote
    engine = create_engine(
        url,
        pool_pre_ping=True,
        pool_timeout=timeout_s,
        isolation_level="READ COMMITTED",
        connect_args={"connect_timeout": max(1, int(timeout_s))},
    )

    def configure(connection: Any, _record: Any) -> None:
        connection.execute(f"set lock_timeout = {int(timeout_s * 1000)}")
        connection.commit()

    event.listen(engine, "connect", configure)
    return engine


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's "begin" event below opens transactions itself
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=normal")
    connection.execute("pragma secure_delete=on")  # what is erased is overwritten; nothing else is deleted often


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get("undertone_read", False)
    connection.exec_driver_sql("begin" if reads else "begin immediate")


def _insert_new(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> int:
    if not rows:
        return 0
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    insert = dialect.insert(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
    return connection.execute(insert, rows).rowcount


def _is_erased(message: Message, erased: dict[str, datetime]) -> bool:
    return tombstones.is_buried(erased, message.customer_id, message.sent_at, message.received_at)


def _message_row(item: ScoredMessage) -> dict[str, Any]:
    message = item.message
    return {
        "id": message.id,
        "text": message.text,
        "channel": message.channel,
        "segment": message.segment,
        "customer_id": message.customer_id,
        "sent_at": message.sent_at,
        "received_at": message.received_at,
        "truncated": message.truncated,
        "final_sentiment": item.final_sentiment,
        "final_reason": None if item.final_reason is None else item.final_reason[:REASON_CHARS],
        "final_probability": item.final_probability,
        "needs_review": item.needs_review,
    }


def _prediction_rows(item: ScoredMessage) -> list[dict[str, Any]]:
    return [
        {
            "message_id": answer.message_id,
            "task": answer.task,
            "event_at": item.message.sent_at or item.message.received_at,
            "label": answer.label,
            "probabilities": [round(p, 6) for p in answer.probabilities],
            "confidence": answer.confidence,
            "model_version": answer.model_version,
            "model_digest": answer.model_digest,
            "scored_at": answer.scored_at,
            "sample_key": sample_key(answer.message_id),
            "embedding": answer.embedding,
            "needs_review": answer.needs_review,
        }
        for answer in item.predictions
    ]
