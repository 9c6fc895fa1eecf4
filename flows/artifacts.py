"""Pages that Prefect keeps with a run."""

from __future__ import annotations

from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext


def publish(key: str, markdown: str) -> None:
    """Keep `markdown` with the flow run under `key`; outside a run there is nowhere to keep it."""
    if FlowRunContext.get() is not None:
        create_markdown_artifact(markdown, key=key.replace("_", "-"))
