"""`undertone insights`: what customers say, by channel and segment, with how sure that is."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="What customers say: trend, changes, channels, upsell, latency, cadence, revenue, surveys, export.",
    no_args_is_help=True,
)
