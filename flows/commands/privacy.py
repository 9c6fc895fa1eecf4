"""`undertone privacy`: what is kept of a customer, erasing it, and retention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.options import Json

if TYPE_CHECKING:
    from undertone.privacy import Step

app = typer.Typer(help="Personal data: find, erase, retain.", no_args_is_help=True)

Customer = Annotated[str, typer.Argument(help="as messages have it in customer_id", metavar="CUSTOMER")]
Also = Annotated[
    list[str] | None, typer.Option(help="a folder with exports to look through too; repeatable", metavar="FOLDER")
]


@app.command()
def find(customer: Customer, also: Also = None, as_json: Json = False) -> None:
    """Where something of a customer is; nothing is changed."""
    from dataclasses import asdict

    from flows.privacy import places
    from flows.terminal import emit, say
    from undertone import privacy
    from undertone.workspace import Workspace

    workspace = Workspace()
    steps = privacy.find(workspace, customer, places(workspace.settings), _folders(also), say)
    found = [asdict(step) for step in steps if step.found]
    emit(
        {"found": bool(found), "places": found, "looked_at": [step.place for step in steps]},
        as_json=as_json,
        text=_table(steps) if found else f"nothing, in {', '.join(step.place for step in steps)}",
    )


@app.command()
def erase(
    customer: Customer,
    also: Also = None,
    reason: Annotated[str, typer.Option(help="for the ledger; must not name the customer")] = "",
    out: Annotated[str, typer.Option(help="a file for the receipt, as JSON", metavar="FILE")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    as_json: Json = False,
) -> None:
    """Erase a customer everywhere, for good; gives a receipt, and exit code 1 where something is left."""
    import json
    from datetime import UTC, datetime
    from pathlib import Path

    from flows.privacy import places
    from flows.terminal import emit, say
    from undertone import privacy
    from undertone.workspace import Workspace

    if not yes:
        typer.confirm(f"Erase everything of {customer!r}? It cannot be undone", abort=True, err=True)
    workspace = Workspace()
    receipt = privacy.erase(
        workspace,
        customer,
        datetime.now(UTC),
        places(workspace.settings),
        _folders(also),
        reason=reason,
        progress=say,
    )
    content = receipt.as_dict()
    if out:
        Path(out).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    emit(content, as_json=as_json, text=_receipt(receipt))
    raise typer.Exit(0 if receipt.complete else 1)


@app.command()
def retain(
    days: Annotated[float | None, typer.Option(help="default: the settings' retention_days")] = None,
    now: Annotated[str, typer.Option(help="the clock, ISO 8601; default: this moment", metavar="TIME")] = "",
    as_json: Json = False,
) -> None:
    """Remove texts, customer ids and embeddings of messages past their retention; figures stay."""
    from datetime import UTC, datetime

    from flows import privacy
    from flows.terminal import emit, moment, say
    from undertone.workspace import Workspace

    workspace = Workspace()
    result = privacy.run(
        workspace,
        moment(now) if now else datetime.now(UTC),
        workspace.settings.retention_days if days is None else days,
        say,
    )
    emit(result, as_json=as_json, text=privacy.text(result))


def _folders(names: list[str] | None) -> list[Any]:
    from pathlib import Path

    from undertone.errors import ConfigError

    folders = [Path(name) for name in names or []]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError("a folder to look through", str(folder), "check --also")
    return folders


def _table(steps: tuple[Step, ...]) -> str:
    from flows.terminal import table

    def told(counts: dict[str, int]) -> str:
        return ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in counts.items())

    rows = [{"place": step.place, "found": told(step.found), "removed": told(step.removed)} for step in steps]
    return table(rows, ["place", "found", "removed"] if any(step.removed for step in steps) else ["place", "found"])


def _receipt(receipt: Any) -> str:
    row = "nothing was there" if receipt.ledger_row is None else f"ledger row {receipt.ledger_row}"
    left = [f"! left: {sentence}" for step in receipt.steps for sentence in step.left]
    parts = [
        f"customer {receipt.customer[:16]}… ({row})",
        _table(receipt.steps),
        *(["\n".join(left)] if left else []),
        "Out of reach:\n" + "\n".join(f"- {sentence}" for sentence in receipt.cannot_undo),
    ]
    return "\n\n".join(parts)
