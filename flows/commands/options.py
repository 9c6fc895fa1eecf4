"""Arguments and options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Task = Annotated[str, typer.Argument(help="name of a task, as `undertone tasks list` shows them", metavar="TASK")]
Json = Annotated[bool, typer.Option("--json", help="print the answer as JSON")]
TextColumn = Annotated[str | None, typer.Option(help="column with the message")]
LabelColumn = Annotated[str | None, typer.Option(help="column with the label")]
