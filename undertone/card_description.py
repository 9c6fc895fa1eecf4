"""A model card as the description of its version in MLflow. Nothing but text: any room can use it."""

from __future__ import annotations

import re

APPROVAL_HEADING = "## Approval"

#: Characters that MLflow's database keeps of a version's description.
DESCRIPTION_LIMIT = 5_000

#: Sections that a description can do without, first to go first.
_DISPENSABLE = (
    *(
        "How to load it",
        "Energy and time",
        "Labels",
        "Data",
        "Slices",
        "Limits",
        "When a person is asked",
        "Calibration",
        "Sarcasm",
        "Metrics",
    ),
    *("Intended use", "How it was judged"),
)


def description(card: str, limit: int = DESCRIPTION_LIMIT) -> str:
    """`card` as a version's description in MLflow: without metadata, and no longer than `limit` characters.

    Where it is too long whole sections are left out, those first that a decision needs least; an approval stays.
    """
    body = re.sub(r"\A---\n.*?\n---\n+", "", card, flags=re.DOTALL).strip()
    for picture in ("calibration.png", "risk-coverage.png"):
        body = body.replace(f"[{picture}]({picture})", f"{picture}, beside card.md")  # MLflow's page is elsewhere
    opening, *sections = re.split(r"\n+(?=## )", body)
    left_out: list[str] = []

    def whole() -> str:
        note = f"\n\nMore in card.md, beside the version's run: {', '.join(left_out)}." if left_out else ""
        return "\n\n".join([opening + note, *sections]) + "\n"

    for title in _DISPENSABLE:
        if len(whole()) <= limit:
            break
        kept = [section for section in sections if not section.startswith(f"## {title}\n")]
        if len(kept) < len(sections):
            left_out.append(title)
        sections = kept
    return whole()[:limit]
