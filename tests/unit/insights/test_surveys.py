"""Survey tools' files become the same rows, once each; what cannot be an answer is counted with its reason."""

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from insights.surveys import TOOLS, import_file, score_of
from undertone import surveys, tombstones
from undertone.errors import ConfigError, DataError
from undertone.schema import surveys as table
from undertone.store import Store

#: Name, text, import id and the cells of each column, as Qualtrics exports them.
QUALTRICS_COLUMNS = (
    ("Status", "Response Type", {"ImportId": "status"}, ("0", "IP Address", "Survey Preview", "0", "0")),
    ("Finished", "Finished", {"ImportId": "finished"}, ("1", "True", "1", "1", "1")),
    (
        "RecordedDate",
        "Recorded Date",
        {"ImportId": "recordedDate", "timeZone": "Pacific/Auckland"},
        ("2026-11-03 17:55:01",) * 3 + ("11/03/2026 17:55", "2026-11-03 17:55:01"),
    ),
    ("ResponseId", "Response ID", {"ImportId": "_recordId"}, ("R_1", "R_2", "R_3", "R_4", "R_5")),
    ("ExternalReference", "External Data Reference", {"ImportId": "externalDataReference"}, ("c1", "", "c3", "", "")),
    ("DistributionChannel", "Distribution Channel", {"ImportId": "distributionChannel"}, ("email",) * 5),
    ("Q1_NPS_GROUP", "Would you recommend us? - Group", {"ImportId": "QID1_NPS_GROUP"}, ("3", "1", "1", "1", "")),
    ("Q1", "Would you recommend us?", {"ImportId": "QID1"}, ("10", "3 - hm", "0", "5", "")),
    ("Q2", "Why, in\nyour words?", {"ImportId": "QID2_TEXT"}, ('lovely, "really"', "secret words", "", "", "")),
)


def qualtrics(separator: str = ",") -> str:
    made = io.StringIO()
    lines = zip(*((name, text, json.dumps(ids), *cells) for name, text, ids, cells in QUALTRICS_COLUMNS), strict=True)
    csv.writer(made, delimiter=separator).writerows(lines)
    return made.getvalue()


SURVEYMONKEY = """\
Respondent ID,Collector ID,Start Date,End Date,IP Address,Email Address,First Name,Last Name,Custom Data 1,\
How satisfied were you?,How likely are you to recommend us?,
,,,,,,,,,Response,Response,Other (please specify)
118052219061,446111201,11/03/2026 05:48:07 PM,11/03/2026 06:02:25 PM,10.0.0.1,,,,c1,Very satisfied (5),9,secret words
118052219062,446111201,11/03/2026 05:48:07 PM,11/03/2026 06:02:25 PM,10.0.0.1,,,,,3 of 5,12,
"""
TYPEFORM = """\
#,How likely are you to recommend us?,Why?,customer_id,Response Type,Start Date (UTC),Stage Date (UTC),\
Submit Date (UTC),Network ID,Tags
odwdp4nzj1xg6m9l36odwdp4nzlv2gcw,8,secret words,c1,completed,2026-11-03 02:39:31,,2026-11-03 02:41:38,653e97acae,
"""
DELIGHTED = """\
Response ID,Survey Type,Score,Comment,Created At,Customer ID
5435,NPS,9,secret words,2026-11-03 02:41:38 UTC,c1
5436,ces,4,,2026-11-03 02:41:38 UTC,c1
"""


def stored(store: Store) -> list[dict]:
    with store.reading() as connection:
        return [dict(row) for row in connection.execute(select(table).order_by(table.c.id)).mappings()]


def written(folder: Path, text: str, name: str = "answers.csv", encoding: str = "utf-8") -> str:
    (folder / name).write_text(text, encoding=encoding)
    return str(folder / name)


@pytest.mark.parametrize(("name", "encoding"), [("a.csv", "utf-8"), ("a.csv", "utf-8-sig"), ("a.tsv", "utf-16")])
def test_qualtrics(store: Store, tmp_path: Path, name: str, encoding: str) -> None:
    text = qualtrics("\t" if name.endswith("tsv") else ",")
    found = import_file(store, written(tmp_path, text, name, encoding), "qualtrics", kind="nps")
    assert (found.rows, found.stored, found.new, found.without_customer) == (5, 2, 2, 1)
    assert found.left_out == {"preview, test or spam": 1, "a time that cannot be read": 1, "no score": 1}
    assert found.columns["score"] == "Q1"
    first, second = stored(store)
    assert first == {
        "id": "qualtrics:R_1",
        "kind": "nps",
        "score": 10.0,
        "customer_id": "c1",
        "segment": None,
        "channel": "email",
        "answered_at": datetime(2026, 11, 3, 4, 55, 1, tzinfo=UTC),  # in November Auckland is 13 hours ahead
        "origin": "qualtrics",
    }
    assert (second["score"], second["customer_id"]) == (3.0, None)


def test_surveymonkey(store: Store, tmp_path: Path) -> None:
    path = written(tmp_path, SURVEYMONKEY)
    how = {"time_format": "%m/%d/%Y %I:%M:%S %p", "zone": "America/New_York"}
    found = import_file(store, path, "surveymonkey", kind="csat", columns={"score": "how satisfied"}, **how)
    assert (found.stored, found.left_out) == (1, {"a score that is no number": 1})
    assert found.columns["score"] == "How satisfied were you? Response"
    (row,) = stored(store)
    assert (row["id"], row["score"], row["customer_id"]) == ("surveymonkey:118052219061", 5.0, "c1")
    assert row["answered_at"] == datetime(2026, 11, 3, 23, 2, 25, tzinfo=UTC)
    other = import_file(store, path, "surveymonkey", kind="nps", columns={"score": "recommend us? response"}, **how)
    assert other.left_out == {"12 instead of a score of 0 to 10 for nps": 1}


def test_typeform_and_delighted(store: Store, tmp_path: Path) -> None:
    path = written(tmp_path, TYPEFORM)
    assert import_file(store, path, "typeform", kind="nps", columns={"score": "recommend"}).new == 1
    how = {"time_format": "%Y-%m-%d %H:%M:%S %Z"}
    found = import_file(store, written(tmp_path, DELIGHTED), "delighted", **how)
    assert (found.stored, found.left_out) == (1, {"neither nps nor csat": 1})
    delighted, typeform = stored(store)
    assert (delighted["score"], typeform["score"]) == (9.0, 8.0)
    assert delighted["answered_at"] == typeform["answered_at"] == datetime(2026, 11, 3, 2, 41, 38, tzinfo=UTC)


def test_what_was_written_is_kept_nowhere(store: Store, tmp_path: Path) -> None:
    import_file(store, written(tmp_path, qualtrics()), "qualtrics", kind="nps")
    import_file(store, written(tmp_path, TYPEFORM), "typeform", kind="nps", columns={"score": "recommend"})
    assert len(stored(store)) == 3
    assert "words" not in json.dumps(stored(store), default=str)


def test_importing_again_changes_nothing_and_a_corrected_score_counts(store: Store, tmp_path: Path) -> None:
    header = "id;kind;score;answered_at;customer_id\n"
    path = written(tmp_path, header + "1;nps;9;2026-11-03T10:00Z;c1\n2;csat;4;2026-11-04;c2\n")
    assert import_file(store, path).new == 2
    before = stored(store)
    again = import_file(store, path)
    assert (again.stored, again.new, stored(store)) == (2, 0, before)
    written(tmp_path, "id,kind,score,answered_at\n1,nps,2,2026-11-03T10:00Z\n")
    import_file(store, path)
    assert [row["score"] for row in stored(store)] == [2.0, 4.0]


def test_what_an_erased_customer_answered_before_stays_away(store: Store, tmp_path: Path) -> None:
    with store.transaction() as connection:
        tombstones.bury(connection, "c1", datetime(2026, 11, 4, tzinfo=UTC))
    rows = "1,nps,9,2026-11-03,c1\n2,nps,9,2026-11-03,c2\n3,nps,9,2026-11-05,c1\n"
    found = import_file(store, written(tmp_path, "id,kind,score,time,customer_id\n" + rows))
    assert (found.stored, found.left_out) == (2, {"of a customer who was erased since": 1})
    assert [row["id"] for row in stored(store)] == ["generic:2", "generic:3"]


def test_batches_are_told_as_they_are_stored(store: Store, tmp_path: Path) -> None:
    rows = "".join(f"{number},nps,{number % 11},2026-11-03\n" for number in range(2_500))
    told: list[int] = []
    found = import_file(store, written(tmp_path, "id,kind,score,time\n" + rows), progress=told.append)
    assert (found.new, told) == (2_500, [1_000, 2_000, 2_500])


@pytest.mark.parametrize(
    ("text", "how", "error", "said"),
    [
        ("id,score,time\n", {"tool": "monkey"}, ConfigError, "a survey tool"),
        ("id,score,time\n", {"kind": "ces"}, ConfigError, "a kind"),
        ("id,score,time\n", {"kind": "nps", "zone": "Mars/Olympus"}, ConfigError, "Europe/Vienna"),
        ("id,score,time\n", {"columns": {"price": "x"}}, ConfigError, "fields"),
        ("id,score,time\n", {}, DataError, "--kind nps"),
        ("id,time\n", {"kind": "nps"}, DataError, "--score COLUMN"),
        ("id,a score,b score,time\n", {"kind": "nps", "columns": {"score": "score"}}, DataError, "one column"),
        ("", {"kind": "nps"}, DataError, "an empty file"),
        (TYPEFORM, {"tool": "qualtrics", "kind": "nps"}, DataError, "third header line"),
        ("id,score,time\n\xff", {"kind": "nps"}, DataError, "UnicodeDecodeError"),
    ],
)
def test_misuse_is_told(store: Store, tmp_path: Path, text: str, how: dict, error: type, said: str) -> None:
    path = written(tmp_path, text, encoding="latin-1" if "\xff" in text else "utf-8")
    with pytest.raises(error, match=said):
        import_file(store, path, **how)
    assert stored(store) == []


@pytest.mark.parametrize(
    ("cell", "score"),
    [("9", 9), ("4.0", 4), ("10 - Extremely likely", 10), ("Very satisfied (5)", 5), ("-1", -1), ("5★", 5)]
    + [(cell, None) for cell in ("", "3 of 5", "9/10", "Q2", "v1.2.3", "often")],
)
def test_scores_in_cells(cell: str, score: float | None) -> None:
    assert score_of(cell) == score


@given(st.text(), st.text(), st.floats(allow_nan=True), st.sampled_from(["nps", "csat", "ces"]))
def test_an_answer_fits_the_store_or_is_refused(id: str, customer: str, score: float, kind: str) -> None:
    try:
        made = surveys.survey("generic", id, kind, score, datetime(2026, 11, 3, tzinfo=UTC), customer_id=customer)
    except DataError:
        return
    low, high = surveys.SCALES[made.kind]
    assert low <= made.score <= high
    assert len(made.id) <= surveys.ID_CHARS
    assert made.customer_id is None or made.customer_id.strip()


def test_every_tool_names_what_an_answer_needs() -> None:
    for name, tool in TOOLS.items():
        assert {"id", "time", "customer"} <= set(tool.columns), name
