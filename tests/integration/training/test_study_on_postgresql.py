"""Studies in the store's PostgreSQL database: beside its tables, in a schema of their own."""

from training import study as studies
from training.space import Range
from undertone.settings import Settings
from undertone.store import Store


def test_the_stores_migrations_and_optunas_do_not_meet(postgres) -> None:
    url = postgres.database("migrated")
    with studies.opened(Settings(store_url=url), "one", print) as study:
        study.optimize(lambda trial: float(Range(0.0, 1.0).draw(trial, "balance")), n_trials=2)
    with studies.opened(Settings(store_url=url), "one", print) as study:
        assert len(studies.ended(study)) == 2
    store = Store(url)
    store.migrate()
    with store.reading() as connection:
        tables = connection.exec_driver_sql(
            "select table_schema, count(*) from information_schema.tables where table_name = 'alembic_version'"
            " group by 1 order by 1"
        ).all()
        studied = connection.exec_driver_sql(
            "select table_schema from information_schema.tables where table_name = 'trials'"
        ).all()
    store.engine.dispose()
    assert [tuple(row) for row in tables] == [("public", 1), (studies.SCHEMA, 1)]
    assert (studies.SCHEMA,) in [tuple(row) for row in studied]
