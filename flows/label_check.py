"""Suspected label errors: a file for people to review, and their corrections as a new source of training rows."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.comparing import score, short
from flows.labels import read_csv
from flows.reproduce import find_version
from flows.terminal import table
from training import base_model, sources
from training.data import load, split
from training.evaluate import class_indices
from training.frozen import embed
from training.label_errors import Suspects, out_of_fold, pairs, suspect
from training.repairs import known_labels, row_id, text_key
from training.seen import seen, splits_of
from undertone.csv_cells import as_csv, inert_row
from undertone.engine import Engine
from undertone.errors import ConfigError, DataError
from undertone.tasks import TaskSpec, get_task
from undertone.text import repair
from undertone.workspace import Workspace

if TYPE_CHECKING:
    from pandas import DataFrame

log = logging.getLogger("undertone.labels")

#: Columns of the review file. People fill in `label` (a label, `DROP`, or nothing) and `reviewer` if they like.
COLUMNS = (
    *("rank", "text", "label", "given_label", "suggested_label", "given_probability", "suggested_probability"),
    *("reviewer", "channel", "segment", "file", "row", "row_id"),
)

#: Left out of a blind review file: who labels sees neither what stands there nor what the classifier says.
TELLING = ("given_label", "suggested_label", "given_probability", "suggested_probability")

#: Names of the text's and the label's column; None: the usual ones.
Columns = tuple[str | None, str | None]

#: In place of a label: nobody can tell, and the row leaves the training.
DROP = "drop"

#: Columns of the corrected files.
_SOURCE = ("message_id", "text", "label", "channel", "segment", "sent_at")

_FEEDBACK = ("message_id", "label", "labeller", "suggested")

#: A larger share of suspected rows says more about the classifier than about the labels.
_DOUBTFUL = 0.2


@dataclass(frozen=True)
class Checked:
    """Training rows checked.

    Attributes:
        checked: rows that probabilities were found for.
        unseen_only: training rows left out, because the version whose probabilities they are had seen them.
        suspects: places among the checked rows, and what stands against them.
        pairs: as `training.label_errors.pairs` gives them.
        rows: the review file's rows, the most suspicious first, at most the limit.
    """

    task: str
    source: str
    checked: int
    unseen_only: int
    suspects: Suspects
    pairs: list[dict[str, Any]]
    rows: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {
            "task": self.task,
            "source": self.source,
            "checked": self.checked,
            "left_out": self.unseen_only,
            "suspected": len(self.suspects.rows),
            "macro_f1": self.suspects.macro_f1,
            "pairs": self.pairs,
            "rows": self.rows,
        }


def check(
    workspace: Workspace,
    task: str,
    source: str = "",
    *,
    folds: int = 5,
    limit: int | None = None,
    seed: int | None = None,
    version: int | None = None,
    base: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
) -> Checked:
    """Suspected rows among those that a training on `source` learns from. Validation and holdout are not looked at.

    Args:
        source: as `training.data.load` reads it; default: the task's own.
        folds: of the cross-validation.
        limit: at most so many rows for review.
        seed: of the split and the folds; default: the settings'.
        version: take this registered version's probabilities, for rows it has not seen, in place of a logistic
            regression on the base model's frozen embeddings.
        base: base model to embed with; default: the task's.

    Raises:
        DataError: the source cannot be read, or a label has too few rows.
        RegistryError: no such version.
    """
    spec, seed = get_task(task), workspace.settings.seed if seed is None else seed
    source = source or spec.source
    columns = (text_column, label_column)
    log.info("%s: reading %s", task, source)
    frame = split(
        load(source, spec, text_column=text_column, label_column=label_column, store=workspace.store), spec, seed
    ).train
    before = len(frame)
    probabilities: NDArray[Any]
    if version is None:
        folder = base_model.resolve(base or spec.base_model).path
        vectors = embed(frame["text"].tolist(), folder, spec.max_tokens, threads=workspace.settings.threads)
        truth = class_indices(frame["label"], spec)
        probabilities = out_of_fold(vectors, truth, len(spec.labels), folds=folds, seed=seed)
    else:
        frame, probabilities = _by_version(workspace, spec, version, frame)
        truth = class_indices(frame["label"], spec)
    suspects = suspect(probabilities, truth)
    places = _places(source, spec, workspace, columns)
    rows = [
        _row(rank, frame.iloc[at], spec.labels[other], own, its, places)
        for rank, (at, other, own, its) in enumerate(
            zip(
                suspects.rows.tolist()[:limit],
                suspects.suggested.tolist()[:limit],
                suspects.given_probability.tolist()[:limit],
                suspects.suggested_probability.tolist()[:limit],
                strict=True,
            ),
            start=1,
        )
    ]
    return Checked(task, source, len(frame), before - len(frame), suspects, pairs(suspects, truth, spec.labels), rows)


def check_text(found: Checked) -> str:
    """A check for people."""
    count = len(found.suspects.rows)
    share = count / found.checked
    left_out = f" ({found.unseen_only:,} that the version had seen were left out)" if found.unseen_only else ""
    parts = [
        f"{found.task}: {count:,} of {found.checked:,} training rows have a suspected label ({share:.1%}){left_out}\n"
        f"out of fold the probabilities reach macro-F1 {found.suspects.macro_f1:.4f} against the given labels",
        "! so many suspects say more about the classifier than about the labels: read the first ranks only"
        if share > _DOUBTFUL
        else "",
        table(found.pairs[:10], ["label", "suggested", "suspected", "rows"]) if found.pairs else "",
        "\n".join(
            f"{row['rank']:>3}. {row['given_label']} ({row['given_probability']:.0%}), suggested"
            f" {row['suggested_label']} ({row['suggested_probability']:.0%}): {short(row['text'])}"
            for row in found.rows[:5]
        ),
    ]
    return "\n\n".join(part for part in parts if part)


def write_review(found: Checked, path: Path, *, blind: bool = False) -> None:
    """Write the rows for people to review as CSV with `COLUMNS`; without `TELLING` where `blind`.

    Raises:
        ConfigError: the file cannot be written.
    """
    columns = [name for name in COLUMNS if not (blind and name in TELLING)]
    _write(path, as_csv(columns, map(inert_row, found.rows)))


def apply(
    workspace: Workspace,
    task: str,
    path: str,
    source: str,
    out: Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
) -> dict[str, Any]:
    """Write the rows of `source` with the reviewed labels in place of the given ones, as a new source.

    The source itself is not touched. Rows without a reviewed label, and those of named validation and test splits, stay
    as they are; ``drop`` takes a row out. Feedback in the source lies in the store: its corrections go into
    ``feedback.csv``, which `undertone feedback add` takes.

    Args:
        path: the reviewed CSV, with row_id and label.
        source: what was checked.
        out: a new folder for the corrected files.

    Returns:
        reviewed, changed, confirmed, dropped, open (rows without a label), unknown (not in the source), feedback
        (corrections in feedback.csv), files, and source: what to train on.

    Raises:
        DataError: the file or the source cannot be read, or a label is unknown or given twice.
        ConfigError: `out` is there already, or cannot be written.
    """
    spec = get_task(task)
    rows = read_csv(path, ("row_id", "label"))
    given = _reviewed(rows, spec, path)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError("a new folder", f"{out}, which is there already", "name another with --out")
    columns = (text_column, label_column)
    raw = _raw(source, spec, workspace, columns)
    mine = raw["row_id"].isin(given) & ~raw["split"].isin(["val", "test"]) & raw["label"].notna()
    before = dict(zip(raw.loc[mine, "row_id"], known_labels(raw.loc[mine, "label"], spec), strict=True))
    changed = {key: label for key, label in given.items() if key in before and label not in (before[key], DROP)}
    dropped = {key for key, label in given.items() if key in before and label == DROP}
    told = raw["feedback"]
    corrected = raw["label"].where(~(mine & raw["row_id"].isin(changed)), raw["row_id"].map(changed))
    kept = raw.assign(label=corrected)[~(mine & raw["row_id"].isin(dropped)) & ~told]
    files = _write_source(kept, out)
    relabelled = raw[told & mine & raw["row_id"].isin(changed)].drop_duplicates("message_id")
    if len(relabelled):
        who = {row["row_id"]: row.get("reviewer") or workspace.settings.actor for row in rows}
        saw = "false" if set(TELLING).isdisjoint(rows[0]) else "true"
        answers = [
            {"message_id": message, "label": changed[key], "labeller": who[key], "suggested": saw}
            for message, key in zip(relabelled["message_id"], relabelled["row_id"], strict=True)
        ]
        _write(out / "feedback.csv", as_csv(_FEEDBACK, answers))
    counts = {
        "reviewed": len(given),
        "changed": len(changed),
        "confirmed": sum(given[key] == label for key, label in before.items()),
        "dropped": len(dropped),
        "open": len(rows) - len(given),
        "unknown": len(given) - len(before),
        "feedback": len(relabelled),
    }
    _write_note(out, source, path, rows, counts)
    parts = [str(out)] * bool(files) + [str(out / "rows.csv")] * ("rows.csv" in files) + ["feedback"] * bool(told.any())
    return {**counts, "files": files, "source": "+".join(parts)}


def apply_text(task: str, found: Mapping[str, Any]) -> str:
    """What `apply` did, for people."""
    words = {"open": "have no label yet", "unknown": "are not in the source's training rows"}
    said = f"{found['reviewed']} rows reviewed: {found['changed']} changed, {found['confirmed']} confirmed, "
    said += f"{found['dropped']} dropped" + "".join(f", {found[k]} {w}" for k, w in words.items() if found[k])
    lines = [said, f"next: undertone train {task} --source {found['source']}"]
    if found["feedback"]:
        folder = found["source"].split("+")[0] if found["files"] else "FOLDER"
        lines.insert(1, f"before: undertone feedback add {task} {folder}/feedback.csv")
    return "\n".join(lines)


def _by_version(
    workspace: Workspace, spec: TaskSpec, version: int, frame: DataFrame
) -> tuple[DataFrame, NDArray[np.float32]]:
    """The rows that a version has not seen, and its probabilities for them."""
    find_version(workspace, spec.name, version)
    with tempfile.TemporaryDirectory(prefix="undertone-check-") as scratch:
        engine = Engine(workspace.registry.download(spec.name, version, Path(scratch)), workspace.settings.threads)
        if engine.labels != spec.labels:
            raise DataError(f"labels {', '.join(spec.labels)}", ", ".join(engine.labels), "name another version")
        known = splits_of(f"{spec.name} {version}", engine.card.lineage, spec, workspace.store)
        fresh = frame[~seen(frame["text"].tolist(), known)].reset_index(drop=True)
        missing = sorted(set(spec.labels) - set(fresh["label"]))
        if missing:
            raise DataError(
                f"rows of every label that {spec.name} {version} has not seen",
                f"{len(fresh)} of {len(frame)} rows, none of them {', '.join(missing)}",
                "leave --version out: a cross-validation needs no unseen rows",
            )
        return fresh, score(engine, fresh["text"].tolist(), f"version {version}")


def _raw(source: str, spec: TaskSpec, workspace: Workspace, columns: Columns) -> DataFrame:
    """Every row of the source as it was read, with ``row_id`` and its number in its file, from 1."""
    frames = []
    for part in sources.parts(source):
        frame = sources.read(part, spec, text_column=columns[0], label_column=columns[1], store=workspace.store).frame
        frames.append(frame.assign(row=frame.groupby("file").cumcount() + 1))
    raw = pd.concat(frames, ignore_index=True)
    texts = [repair(text) if isinstance(text, str) else "" for text in raw["text"]]
    return raw.assign(text=texts, row_id=[_row_id(text) for text in texts], feedback=raw["feedback"].astype(bool))


def _row_id(text: str) -> str:
    """What a row is known by: its normalised text, so that all rows that say the same are corrected alike."""
    return row_id(text_key(text))


def _places(source: str, spec: TaskSpec, workspace: Workspace, columns: Columns) -> dict[str, tuple[str, int]]:
    """Where each text stands first: file and row."""
    raw = _raw(source, spec, workspace, columns)
    raw = raw[~raw["split"].isin(["val", "test"])].drop_duplicates("row_id")
    return dict(zip(raw["row_id"], zip(raw["file"], raw["row"].tolist(), strict=True), strict=True))


def _row(
    rank: int, row: Any, suggested: str, own: float, its: float, places: Mapping[str, tuple[str, int]]
) -> dict[str, Any]:
    key = _row_id(row["text"])
    file, number = places.get(key, ("", None))
    return {
        "rank": rank,
        "text": row["text"],
        "label": "",
        "given_label": row["label"],
        "suggested_label": suggested,
        "given_probability": round(own, 4),
        "suggested_probability": round(its, 4),
        "reviewer": "",
        "channel": row["channel"] if isinstance(row["channel"], str) else "",
        "segment": row["segment"] if isinstance(row["segment"], str) else "",
        "file": file,
        "row": number,
        "row_id": key,
    }


def _reviewed(rows: list[dict[str, str]], spec: TaskSpec, path: str) -> dict[str, str]:
    """Row ids with the label that people gave."""
    given: dict[str, str] = {}
    for row in rows:
        label = row["label"].strip()
        if not label:
            continue
        if label not in (*spec.labels, DROP):
            raise DataError(
                f"{', '.join(spec.labels)}, {DROP} or nothing in the column label", repr(label), f"mend {path}"
            )
        if given.setdefault(row["row_id"], label) != label:
            raise DataError("one label a row", f"two for {row['row_id']}", f"mend {path}")
    return given


def _write_source(rows: DataFrame, out: Path) -> list[str]:
    """One file for each named split; rows without one are train.csv, or rows.csv beside files that are named."""
    named = set(rows["split"].dropna())
    files = []
    for part in ("train", "val", "test", None):
        inside = rows[rows["split"].isna() if part is None else rows["split"] == part]
        if len(inside):
            name = f"{part or ('rows' if named else 'train')}.csv"
            files.append(name)
            _write(out / name, as_csv(_SOURCE, [_plain(row) for row in inside[list(_SOURCE)].to_dict("records")]))
    return files


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Cells as text; nothing where nothing stands."""
    return {
        str(name): "" if pd.isna(cell) else cell.isoformat() if isinstance(cell, pd.Timestamp) else cell
        for name, cell in row.items()
    }


def _write_note(out: Path, source: str, path: str, rows: list[dict[str, str]], counts: Mapping[str, int]) -> None:
    people = Counter(row.get("reviewer") or "unnamed" for row in rows if row["label"].strip())
    lines = [
        "# Corrected labels",
        "",
        f"The rows of `{source}` with the labels that people gave in `{Path(path).name}`"
        " (`undertone labels apply`). The source itself was not changed.",
        "",
        *(f"- {name}: {count}" for name, count in counts.items()),
        *(f"- reviewed by {name}: {count}" for name, count in sorted(people.items())),
    ]
    _write(out / "README.md", "\n".join(lines) + "\n")


def _write(path: Path, content: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigError("a file that can be written", f"{type(error).__name__}: {error}", "name another") from error
