"""`undertone insights revenue|surveys|export`: customers' words beside their orders and answers, and files for BI."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.insights import app
from flows.commands.options import Json

surveys_app = typer.Typer(help="Answers to surveys (NPS, CSAT): import.", no_args_is_help=True)
app.add_typer(surveys_app, name="surveys")

Start = Annotated[str, typer.Option(help="messages from then on, ISO 8601; default: all", metavar="TIME")]
End = Annotated[str, typer.Option(help="messages before then; default: all", metavar="TIME")]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", help="another name of a column, as amount=total; repeatable", metavar="NAME=COLUMN"),
]


@app.command()
def revenue(
    orders: Annotated[
        str,
        typer.Option(
            help="CSV, JSONL or Parquet with customer_id, ordered_at, amount (and order_id, segment, product), or a"
            " SQLAlchemy URL with --query",
            metavar="FILE|URL",
        ),
    ] = "",
    query: Annotated[str, typer.Option(help="a SELECT that gives these columns; run read-only", metavar="SQL")] = "",
    columns: Columns = None,
    product: Annotated[str, typer.Option(help="only orders of this product")] = "",
    outcomes: Annotated[
        list[str] | None, typer.Option("--outcome", help="spend, nps or csat; repeatable; default: spend")
    ] = None,
    task: Annotated[str, typer.Option(help="whose answer; sentiment is the final one, sarcasm heard")] = "sentiment",
    label: Annotated[str, typer.Option(help="customers with this label are compared with the others")] = "negative",
    period: Annotated[str, typer.Option(help="week, month or quarter")] = "month",
    start: Start = "",
    end: End = "",
    as_json: Json = False,
) -> None:
    """How spending or survey scores differ between customers who wrote negatively and others who wrote.

    An association, never a cause: by customer, segment and period, with intervals and Holm's correction.
    """
    from flows.revenue import relation_text
    from flows.terminal import emit, moment
    from insights import orders as reading
    from insights.revenue import relate
    from undertone.workspace import Workspace

    found = relate(
        Workspace().store,
        reading.read(orders, query=query, columns=_pairs(columns), product=product) if orders else None,
        tuple(outcomes or ("spend",)),
        task=task,
        label=label,
        step=period,  # type: ignore[arg-type]  # checked there
        start=moment(start) if start else None,
        end=moment(end) if end else None,
    )
    emit(found.as_dict(), as_json=as_json, text="" if as_json else relation_text(found))


@surveys_app.command("import")
def import_surveys(
    file: Annotated[str, typer.Argument(help="CSV or TSV, as the tool exports it")],
    tool: Annotated[str, typer.Option(help="generic, qualtrics, surveymonkey, typeform or delighted")] = "generic",
    kind: Annotated[str, typer.Option(help="nps (0 to 10) or csat (1 to 5), where no column says so")] = "",
    score: Annotated[str, typer.Option(help="column with the score; a part of its name is enough")] = "",
    customer: Annotated[str, typer.Option(help="column with your customer id; default: the tool's usual one")] = "",
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            help="the file's column for id, time, segment, channel or kind, as time=Date; repeatable",
            metavar="FIELD=COLUMN",
        ),
    ] = None,
    time_zone: Annotated[str, typer.Option(help="of times without one, as Europe/Vienna; default: UTC")] = "",
    time_format: Annotated[
        str, typer.Option(help="of times, as %m/%d/%Y %I:%M:%S %p; default: ISO 8601", metavar="FORMAT")
    ] = "",
    as_json: Json = False,
) -> None:
    """Store answers to surveys, each once by its id; importing a file again changes nothing. Comments are not kept."""
    from dataclasses import asdict

    from flows.revenue import import_text, rows_progress
    from flows.terminal import emit
    from insights.surveys import import_file
    from undertone.workspace import Workspace

    named = _pairs(columns) | ({"score": score} if score else {}) | ({"customer": customer} if customer else {})
    with rows_progress(file) as progress:
        found = import_file(
            Workspace().store,
            file,
            tool,
            kind=kind,
            columns=named,
            zone=time_zone,
            time_format=time_format,
            progress=progress,
        )
    emit(asdict(found), as_json=as_json, text=import_text(found))


@app.command()
def export(
    folder: Annotated[str, typer.Argument(help="made where needed; files there are replaced, each at once")],
    start: Annotated[str, typer.Option(help="days from then on; default: all", metavar="TIME")] = "",
    end: Annotated[str, typer.Option(help="days before then; default: all", metavar="TIME")] = "",
    texts: Annotated[bool, typer.Option("--texts", help="also what customers wrote")] = False,
    as_json: Json = False,
) -> None:
    """Write the BI views as Parquet: a file each, the large ones a folder with a file for each day."""
    from dataclasses import asdict
    from pathlib import Path

    from flows.revenue import export_progress, export_text
    from flows.terminal import emit, moment, say
    from insights.export import export as write
    from undertone.workspace import Workspace

    with export_progress() as progress:
        done = write(
            Workspace().store,
            Path(folder),
            start=moment(start) if start else None,
            end=moment(end) if end else None,
            texts=texts,
            progress=progress,
        )
    emit([asdict(item) for item in done], as_json=as_json, text=export_text(done))
    say("these files hold customer ids: whoever is erased later is in them until you export again")


def _pairs(given: list[str] | None) -> dict[str, str]:
    """NAME=VALUE options as a mapping."""
    from undertone.errors import ConfigError

    pairs = {}
    for pair in given or ():
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise ConfigError("NAME=COLUMN", repr(pair), "write it so, as --column amount=total")
        pairs[name.strip()] = value.strip()
    return pairs
