"""Messages joined with orders and answers: what matches is compared, the rest counted, and no cause is claimed."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.revenue import relation_text
from insights import orders
from insights.revenue import ALL, Relation, period_start, relate
from undertone import surveys
from undertone.errors import ConfigError, DataError
from undertone.records import Message, Prediction, ScoredMessage
from undertone.schema import confusions
from undertone.store import Store

MONTHS = [datetime(2026, month, 1, tzinfo=UTC) for month in range(6, 10)]
CAUSAL = re.compile(r"\b(cause[sd]?|because|due to|leads? to|drives?|impact|effects?|results? in|therefore)\b", re.I)


def scored(name: str, customer: str | None, moment: datetime, label: str, segment: str = "plan") -> ScoredMessage:
    answer = Prediction(name, "sentiment", label, (0.8, 0.1, 0.1), 1, "ab" * 32, moment)
    sarcasm = Prediction(name, "sarcasm", "sarcastic", (0.3, 0.7), 4, "ab" * 32, moment)
    message = Message(name, f"words of {customer}", "chat", segment, customer, moment, moment)
    return ScoredMessage(message, (answer, sarcasm), label, "", 0.8)


def write(store: Store, rows: list[tuple[str | None, int, str, str]]) -> None:
    """Messages of (customer, month, label, segment)."""
    store.record(
        [
            scored(f"m{number}", customer, MONTHS[month] + timedelta(days=number % 25), label, segment)
            for number, (customer, month, label, segment) in enumerate(rows)
        ]
    )


def bought(rows: list[tuple[str, int, float]], **more: object) -> orders.Orders:
    """Orders of (customer, month, amount)."""
    frame = pd.DataFrame(
        {
            "customer_id": [customer for customer, _, _ in rows],
            "ordered_at": [(MONTHS[month] + timedelta(days=5)).isoformat() for _, month, _ in rows],
            "amount": [amount for *_, amount in rows],
        }
    ).assign(**more)
    return orders.usable(frame, {name: name for name in orders.COLUMNS}, "a table")


def world(seed: int, ratio: float, customers: int = 240) -> tuple[list, list]:
    """Messages and orders of customers in two segments; who writes negatively spends `ratio` times as much then."""
    random = np.random.default_rng(seed)
    wrote, spent = [], []
    for number in range(customers):
        level, customer, segment = random.lognormal(3, 0.6), f"c{number}", ("plan", "trial")[number % 2]
        for month in range(4):
            negative = month > 0 and random.random() < 0.35
            if month > 0:
                wrote.append((customer, month, "negative" if negative else "positive", segment))
            if random.random() < 0.8:
                spent.append((customer, month, level * random.lognormal(0, 0.4) * (ratio if negative else 1.0)))
    return wrote, spent


def by_name(found: Relation, outcome: str, when: str, segment: str = ALL):
    return next(
        item for item in found.comparisons if (item.outcome, item.when, item.segment) == (outcome, when, segment)
    )


def test_a_planted_difference_is_found_in_its_period_and_every_segment(store: Store) -> None:
    wrote, spent = world(1, ratio=0.5)
    write(store, wrote)
    found = relate(store, bought(spent))
    assert found.tests == 12
    for segment in (ALL, "plan", "trial"):
        same = by_name(found, "spend", "same", segment)
        assert same.verdict == "differs"
        assert same.estimate.low <= 0.5 <= same.estimate.high
        assert by_name(found, "spend", "following", segment).verdict == "not_shown"
        assert by_name(found, "ordered", "same", segment).verdict == "not_shown"
    assert found.counts["customers_with_both"] == 240
    assert found.start == "2026-07-01"


def test_without_a_planted_difference_none_is_found(store: Store) -> None:
    wrote, spent = world(2, ratio=1.0)
    write(store, wrote)
    assert {item.verdict for item in relate(store, bought(spent)).comparisons} == {"not_shown"}


def test_a_customer_with_a_thousand_messages_does_not_decide(store: Store, tmp_path: Path) -> None:
    wrote, spent = world(2, ratio=1.0)
    loud = [("c0", month, "negative", "plan") for month in (1, 2, 3) for _ in range(333)]
    quiet = [row for row in wrote if row[0] != "c0"]
    spent = [row for row in spent if row[0] != "c0"] + [("c0", month, 5_000.0) for month in range(4)]
    write(store, quiet + loud)
    other = Store(f"sqlite:///{tmp_path / 'other.db'}")
    other.migrate()
    write(other, quiet + loud[::333])
    found, once = (by_name(relate(of, bought(spent)), "spend", "same") for of in (store, other))
    assert found.verdict == once.verdict == "not_shown"
    assert found.estimate.mean == pytest.approx(once.estimate.mean)
    assert found.estimate.customers == once.estimate.customers


def test_what_does_not_match_is_counted_and_shown(store: Store) -> None:
    wrote, spent = world(3, ratio=1.0, customers=80)
    write(store, [*wrote, (None, 1, "negative", "plan"), ("stranger", 1, "negative", "plan")])
    read = bought([*spent, ("silent", 1, 9.0), ("c1", 2, -1e9), ("", 1, 3.0), ("c2", 1, float("nan"))])
    found = relate(store, read)
    assert found.counts["messages_without_customer"] == 1
    assert found.counts["messages_of_customers_without_orders"] == 1
    assert found.counts["orders_of_customers_who_did_not_write"] == 1
    assert found.counts["customer_periods_with_more_refunds_than_orders"] == 1
    assert found.unusable == {"no customer": 1, "no number in amount": 1}
    text = relation_text(found)
    for words in ("1 messages without customer", "orders left out: no customer (1)", "too few"):
        assert words in text


def test_too_few_customers_are_said_and_not_tested(store: Store) -> None:
    wrote, spent = world(4, ratio=0.2, customers=24)
    write(store, wrote)
    found = relate(store, bought(spent))
    assert {item.verdict for item in found.comparisons} == {"too_few"}
    assert (found.tests, [item.adjusted_p for item in found.comparisons]) == (0, [None] * len(found.comparisons))
    assert found.caveats == tuple(json.loads(json.dumps(found.as_dict()))["caveats"])


def test_every_answer_says_that_it_is_an_association(store: Store) -> None:
    wrote, spent = world(1, ratio=0.5, customers=120)
    write(store, wrote)
    found = relate(store, bought(spent))
    shown, data = relation_text(found), json.dumps(found.as_dict())
    for words in found.caveats:
        assert words in shown
        assert words in data
    assert "associations" in found.caveats[0]
    assert not CAUSAL.findall(shown + data)
    assert "words of" not in shown + data


def test_known_errors_of_the_model_are_told_and_corrected_for(store: Store) -> None:
    wrote, spent = world(1, ratio=0.5)
    write(store, wrote)
    cells = {("negative", "negative"): 80, ("negative", "neutral"): 20, ("neutral", "negative"): 20}
    cells |= {("neutral", "neutral"): 100, ("positive", "positive"): 80}
    with store.transaction() as connection:
        for (true, said), rows in cells.items():
            row = {"task": "sentiment", "model_version": 1, "label": true, "predicted": said, "rows": rows}
            connection.execute(confusions.insert().values(**row))
    found = relate(store, bought(spent))
    assert (found.errors.source, found.errors.rows, found.errors.sensitivity) == ("holdout", 300, 0.8)
    assert found.errors.specificity == pytest.approx(0.9)
    same = by_name(found, "spend", "same")
    assert same.corrected < same.estimate.value < 1
    assert "Corrected so: spend same all" in relation_text(found)


def test_another_tasks_label_is_compared_the_same_way(store: Store) -> None:
    wrote, spent = world(1, ratio=0.5, customers=60)
    write(store, wrote)
    found = relate(store, bought(spent), task="sarcasm", label="sarcastic")
    assert by_name(found, "spend", "same").verdict == "too_few"
    assert by_name(found, "spend", "same").estimate.others == 0


def test_survey_scores_join_the_same_way(store: Store) -> None:
    wrote, spent = world(1, ratio=0.5)
    write(store, wrote)
    random = np.random.default_rng(0)
    answers = [
        surveys.survey(
            "generic",
            str(number),
            "nps",
            int(np.clip(random.normal(4 if label == "negative" else 8, 2), 0, 10)),
            MONTHS[month] + timedelta(days=20),
            customer_id=customer,
        )
        for number, (customer, month, label, _) in enumerate(wrote)
    ]
    surveys.write(store, [*answers, surveys.survey("generic", "nobody", "nps", 3, MONTHS[1])])
    found = relate(store, bought(spent), ("spend", "nps"))
    assert found.counts["nps_answers_without_customer"] == 1
    score = by_name(found, "nps_score", "same")
    assert score.verdict == "differs"
    assert score.estimate.low <= -3.8 <= score.estimate.high
    assert by_name(found, "nps", "same").estimate.value < -50
    assert by_name(found, "nps_score", "following").verdict == "not_shown"
    assert by_name(relate(store, None, ("nps",)), "nps_score", "same").estimate == score.estimate


def test_the_segment_of_the_orders_counts_where_they_have_one(store: Store) -> None:
    wrote, spent = world(1, ratio=0.5)
    write(store, wrote)
    found = relate(store, bought(spent, segment=["gold" if row[0] < "c15" else "iron" for row in spent]))
    assert {item.segment for item in found.comparisons} == {ALL, "gold", "iron"}


@pytest.mark.parametrize(
    ("question", "error"),
    [
        ({"outcomes": ("profit",)}, ConfigError),
        ({"outcomes": ("spend",)}, ConfigError),
        ({"outcomes": ("nps",), "step": "year"}, ConfigError),
        ({"outcomes": ("nps",)}, DataError),
    ],
)
def test_misuse_is_told(store: Store, question: dict, error: type[Exception]) -> None:
    write(store, [("c1", 1, "negative", "plan")])
    with pytest.raises(error):
        relate(store, None, **question)


def test_ids_that_never_meet_are_told(store: Store) -> None:
    write(store, [("c1", 1, "negative", "plan")])
    with pytest.raises(DataError, match="none is the same"):
        relate(store, bought([("C-0001", 1, 5.0)]))


@pytest.mark.parametrize("step", ["week", "month", "quarter"])
def test_periods_partition_the_days(step: str) -> None:
    from insights.revenue import _periods

    days = pd.Series(pd.date_range("2023-12-20", "2026-01-10", tz="UTC"))
    for day, number in zip(days, _periods(days, step), strict=True):
        assert period_start(int(number), step) <= day.date() < period_start(int(number) + 1, step)
    if step == "week":
        assert period_start(2_900, step).weekday() == 0


# orders


def test_files_are_read_alike(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "order": [1, 2, 2, 3],
            "customer_id": [7.0, 8.0, 8.0, None],
            "ordered_at": ["2026-11-03T23:30:00-02:00", "2026-11-04", "2026-11-04", "2026-11-05"],
            "total": [5.0, 6.5, 6.5, 1.0],
            "note": ["a", "b", "b", "c"],
        }
    )
    rows.to_csv(tmp_path / "a.csv", index=False)
    rows.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    rows.to_parquet(tmp_path / "a.parquet")
    names = {"order_id": "order", "amount": "total"}
    found = [orders.read(str(tmp_path / f"a.{kind}"), columns=names) for kind in ("jsonl", "parquet")]
    for one in found:
        assert one.unusable == {"no customer": 1, "order id seen before": 1}
        assert one.frame["customer_id"].tolist() == ["7", "8"]
        assert one.frame["ordered_at"][0] == pd.Timestamp("2026-11-04T01:30Z")
        assert one.frame["amount"].sum() == 11.5
        assert "note" not in one.frame
    text = orders.read(str(tmp_path / "a.csv"), columns=names)  # a CSV's cells are text: 7.0 is an id like any other
    assert text.frame["amount"].sum() == 11.5


def test_a_database_is_only_read(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as shop:
        shop.execute("create table sales (customer_id text, ordered_at text, amount real)")
        shop.execute("insert into sales values ('c1', '2026-11-03T12:30', 4.5)")
    shop.close()
    url = f"sqlite:///{path}"
    query = "select customer_id, ordered_at, amount from sales where ordered_at like '%12:30'"
    assert orders.read(url, query=query).frame["amount"].tolist() == [4.5]
    for statement in ("delete from sales", "with x as (select 1) insert into sales select 'x', 'x', 1"):
        with pytest.raises((ConfigError, DataError)):
            orders.read(url, query=statement)
    assert orders.read(url, query="select * from sales").rows == 1
    with pytest.raises(DataError, match="a SQLite file"):
        orders.read(f"{url}.gone", query=query)
    assert not (tmp_path / "shop.db.gone").exists()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://ann:s3cret@127.0.0.1:1/shop",
        "oracle+nothing://ann:s3cret@host/shop",
        "postgresql+psycopg://ann:s3cret@host:port/shop",
    ],
)
def test_a_password_is_in_no_message(url: str) -> None:
    with pytest.raises((ConfigError, DataError)) as error:
        orders.read(url, query="select 1")
    assert "s3cret" not in str(error.value)


def test_a_url_needs_a_query(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--query"):
        orders.read("sqlite:///x.db")


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("customer_id,ordered_at,total\n1,2026-11-03,5\n")
    with pytest.raises(DataError, match="--column amount=YOUR_NAME"):
        orders.read(str(tmp_path / "a.csv"))
    (tmp_path / "b.csv").write_text("customer_id,ordered_at,amount\n1,11/03/2026,5\n")
    with pytest.raises(DataError, match="no time in ISO 8601: 1"):
        orders.read(str(tmp_path / "b.csv"))
