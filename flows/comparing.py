"""`undertone models compare`: two registered versions on rows that neither has seen, as text, page and files."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flows.reproduce import find_version
from flows.terminal import table
from training.compare_page import page
from training.compare_versions import METRICS, VersionComparison, changed_rows, compare_versions
from training.data import Splits, load
from training.draw import draw_reliability
from training.evaluate import class_indices
from training.seen import seen, splits_of
from undertone.csv_cells import as_csv, inert_row
from undertone.engine import Engine
from undertone.errors import ConfigError, DataError
from undertone.tasks import TaskSpec, get_task
from undertone.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pandas import DataFrame

log = logging.getLogger("undertone.compare")

#: Fewer rows than these tell nothing.
MIN_ROWS = 30

#: Texts scored between two steps of the progress bar.
_CHUNK = 256

#: Slices, confusions and examples that the terminal shows.
_SHOWN = 12

_CHANGED = ("text", "label", "a", "a_confidence", "b", "b_confidence", "channel", "segment", "message_id")


@dataclass(frozen=True)
class Compared:
    """Two versions compared.

    Attributes:
        task: its name.
        versions: numbers of the first and the second.
        rows_of: what the rows are, in words.
        notes: what a reader must know of them, a sentence each.
        left_out: rows left out, because a version had seen them.
        comparison: the numbers.
        gained: rows that the first got wrong and the second right; lost: the other way round.
        frame: the rows.
        probabilities: of both, [n, labels].
    """

    task: str
    versions: tuple[int, int]
    rows_of: str
    notes: list[str]
    left_out: int
    comparison: VersionComparison
    gained: list[dict[str, Any]]
    lost: list[dict[str, Any]]
    frame: DataFrame
    probabilities: tuple[NDArray[Any], NDArray[Any]]

    def as_dict(self) -> dict[str, Any]:
        """Everything but the texts."""
        return {
            "task": self.task,
            "version_a": self.versions[0],
            "version_b": self.versions[1],
            "rows_of": self.rows_of,
            "notes": self.notes,
            "left_out": self.left_out,
            **self.comparison.as_dict(),
        }


def compare(
    workspace: Workspace,
    task: str,
    versions: tuple[int, int],
    *,
    source: str = "",
    text_column: str | None = None,
    label_column: str | None = None,
    keep_seen: bool = False,
) -> Compared:
    """Score the same rows with both versions' own bytes.

    Args:
        versions: first and second; differences are those of the second less the first.
        source: labelled rows, as `training.data.load` reads them; default: the newer version's holdout, made again.
        text_column: of `source`, where it has no usual name.
        label_column: likewise.
        keep_seen: compare on rows too that a version learned from or was chosen by.

    Raises:
        RegistryError: no such version, or MLflow is out of reach.
        ConfigError: twice the same version, or columns without a source.
        DataError: rows cannot be had, the versions' labels differ, or too few rows are left.
        VerificationError: a version's files do not load.
    """
    spec = get_task(task)
    if versions[0] == versions[1]:
        raise ConfigError("two versions", f"{versions[0]} twice", f"see `undertone models list {task}`")
    if not source and (text_column or label_column):
        raise ConfigError("--source with --text-column or --label-column", "no --source", "name labelled rows")
    for version in versions:
        find_version(workspace, task, version)
    with _engines(workspace, spec, versions) as engines:
        splits, notes = _recorded_splits(workspace, spec, versions, engines, needed=None if source else max(versions))
        if source:
            frame = load(
                source, spec, text_column=text_column, label_column=label_column, store=workspace.store
            ).rows.reset_index(drop=True)
            rows_of = source
        elif (newer := splits[max(versions)]) is not None:  # it is: else `_recorded_splits` had raised
            frame, rows_of = newer.holdout, f"the holdout of version {max(versions)}"
        frame, left_out = _unseen(frame, splits, notes, keep_seen)
        answers = [score(engine, frame["text"].tolist(), f"version {engine_version}")
                   for engine, engine_version in zip(engines, versions, strict=True)]  # fmt: skip
    a, b = answers
    gained, lost = changed_rows(frame, spec.labels, a, b)
    comparison = compare_versions(frame, spec, a, b)
    return Compared(task, versions, rows_of, notes, left_out, comparison, gained, lost, frame, (a, b))


def text(compared: Compared) -> str:
    """A comparison for people."""
    found, (first, second) = compared.comparison, compared.versions
    macro = found.metrics["macro_f1"]
    names = {"a": str(first), "b": str(second)}
    kept = [part for part in found.slices if part.a is not None]
    few = len(found.slices) - len(kept)
    parts = [
        f"{compared.task} {second} beside {first}, on {found.rows:,} rows of {compared.rows_of}: {found.verdict}\n"
        f"macro-F1 {macro.a:.4f} to {macro.b:.4f}, {macro.difference:+.4f} (95 % interval {_interval(macro.interval)});"
        f" McNemar p = {found.mcnemar_p:.3g}",
        "\n".join(f"! {note}" for note in compared.notes),
        table(
            [
                {"metric": name, **_scores(value, names), "95 % interval": _interval(value.interval),
                 "better if": "higher" if METRICS[name] else "lower"}
                for name, value in found.metrics.items()
            ],
            ["metric", *names.values(), "difference", "95 % interval", "better if"],
        ),
        table(
            [{"F1 of": row["label"], "rows": row["rows"], names["a"]: row["a"], names["b"]: row["b"],
              "difference": f"{row['difference']:+.4f}"} for row in found.labels()],
            ["F1 of", "rows", *names.values(), "difference"],
        ),
        table(
            [{"slice (macro-F1)": part.name, "rows": part.rows, **_scores(part, names),
              "95 % interval": _interval(part.interval), "significant": "yes" if part.significant else "no"}
             for part in kept[:_SHOWN]],
            ["slice (macro-F1)", "rows", *names.values(), "difference", "95 % interval", "significant"],
        )
        + _more(len(kept) - _SHOWN, few),
        _mistakes(found),
        f"gained {found.gained:,} rows ({first} wrong, {second} right), lost {found.lost:,}; both wrong on"
        f" {found.both_wrong:,}",
        *(_examples(word, rows, names) for word, rows in (("gained", compared.gained), ("lost", compared.lost))),
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part)


def write(compared: Compared, folder: Path) -> list[str]:
    """Write report.html, calibration.png, compare.json, gained.csv and lost.csv into `folder`; gives their names.

    The CSV files and the page hold customers' words.

    Raises:
        ConfigError: the folder cannot be written.
    """
    spec = get_task(compared.task)
    truth = class_indices(compared.frame["label"], spec)
    names = [f"version {version}" for version in compared.versions]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        picture = draw_reliability(
            dict(zip(names, compared.probabilities, strict=True)), truth, folder / "calibration.png"
        )
        values = compared.as_dict()
        (folder / "compare.json").write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        for name, rows in (("gained.csv", compared.gained), ("lost.csv", compared.lost)):
            content = as_csv(_CHANGED, map(inert_row, rows))
            (folder / name).write_text(content, encoding="utf-8", newline="")
        report = page(values, compared.gained, compared.lost, picture.read_bytes())
        (folder / "report.html").write_text(report, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            "a folder that can be written", f"{type(error).__name__}: {error}", "name another with --out"
        ) from error
    return ["report.html", "calibration.png", "compare.json", "gained.csv", "lost.csv"]


@contextmanager
def _engines(workspace: Workspace, spec: TaskSpec, versions: Sequence[int]) -> Iterator[list[Engine]]:
    with tempfile.TemporaryDirectory(prefix="undertone-compare-") as scratch:
        engines = []
        for version in versions:
            folder = workspace.registry.download(spec.name, version, Path(scratch) / str(version))
            engine = Engine(folder, workspace.settings.threads)
            if engine.labels != spec.labels or engine.card.task != spec.name:
                raise DataError(
                    f"labels of {spec.name}: {', '.join(spec.labels)}",
                    f"{spec.name} {version} answers {engine.card.task}: {', '.join(engine.labels)}",
                    "compare versions with the same labels",
                )
            engines.append(engine)
        yield engines


def _recorded_splits(
    workspace: Workspace, spec: TaskSpec, versions: Sequence[int], engines: Sequence[Engine], *, needed: int | None
) -> tuple[dict[int, Splits | None], list[str]]:
    """Each version's splits, None where they cannot be made again, and what that means; those of `needed` must be."""
    found: dict[int, Splits | None] = {}
    by_sha: dict[str, Splits] = {}
    notes = []
    for version, engine in zip(versions, engines, strict=True):
        lineage = engine.card.lineage
        log.info("%s %s: reading %s again", spec.name, version, lineage.source)
        try:
            found[version] = by_sha.get(lineage.data_sha256) or splits_of(
                f"{spec.name} {version}", lineage, spec, workspace.store
            )
            by_sha[lineage.data_sha256] = found[version]  # type: ignore[assignment]
        except DataError as error:
            if version == needed:
                raise
            found[version] = None
            notes.append(
                f"nobody can tell which rows version {version} saw in training: expected {error.expected}, found"
                f" {error.found}"
            )
        if lineage.trunk not in (None, "own"):
            notes.append(
                f"version {version} stands on the trunk {lineage.trunk}, whose training rows are not looked at"
            )
        if lineage.synthetic:
            notes.append(f"version {version} was trained on generated messages")
    return found, notes


def _unseen(
    frame: DataFrame, splits: Mapping[int, Splits | None], notes: list[str], keep_seen: bool
) -> tuple[DataFrame, int]:
    """The rows that no version has seen, as far as that is known; all where `keep_seen`."""
    texts = frame["text"].tolist()
    gone = np.zeros(len(frame), dtype=np.bool_)
    for version, known in splits.items():
        if known is None:
            continue
        which = seen(texts, known)
        gone |= which
        if which.any():
            notes.append(
                f"version {version} learned from, or was chosen by, {int(which.sum()):,} of these {len(frame):,} rows;"
                f" they are {'compared all the same, which favours it' if keep_seen else 'left out'}"
            )
    if keep_seen:
        return frame, 0
    left = frame[~gone].reset_index(drop=True)
    if len(left) < MIN_ROWS:
        raise DataError(
            f"at least {MIN_ROWS} rows that neither version has seen",
            f"{len(left)} of {len(frame)}",
            "name other labelled rows with --source, or compare on seen rows with --keep-seen",
        )
    return left, int(gone.sum())


def score(engine: Engine, texts: Sequence[str], title: str) -> NDArray[Any]:
    """Calibrated probabilities [n, labels] of `texts`, with a progress bar on standard error."""
    from tqdm.auto import tqdm

    with tqdm(total=len(texts), desc=f"scoring with {title}", unit="row", leave=False) as bar:
        parts = []
        for start in range(0, len(texts), _CHUNK):
            chunk = texts[start : start + _CHUNK]
            parts.append(engine.score(chunk).probabilities)
            bar.update(len(chunk))
    return np.concatenate(parts)


def _scores(value: Any, names: Mapping[str, str]) -> dict[str, Any]:
    return {names["a"]: value.a, names["b"]: value.b, "difference": f"{value.difference:+.4f}"}


def _interval(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:+.4f} to {bounds[1]:+.4f}"


def _more(hidden: int, few: int) -> str:
    words = [f"{hidden} more" * (hidden > 0), f"{few} with too few rows" * (few > 0)]
    said = ", ".join(word for word in words if word)
    return f"\n({said})" if said else ""


def _mistakes(found: VersionComparison) -> str:
    lines = [
        f"  {cell['label']} taken for {cell['answer']}: {cell['a']} to {cell['b']} ({cell['change']:+d})"
        for cell in found.confusions()[:5]
    ]
    return "\n".join(["mistakes that changed most", *lines]) if lines else ""


def _examples(word: str, rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> str:
    lines = [
        f"  {row['label']}: {names['a']} said {row['a']}, {names['b']} {row['b']} ({row['b_confidence']:.0%}):"
        f" {short(row['text'])}"
        for row in rows[:3]
    ]
    return "\n".join([f"{word}, most confident first", *lines]) if lines else ""


def short(words: str) -> str:
    """`words` on one line, cut to what a terminal shows."""
    line = " ".join(words.split())
    return line if len(line) <= 90 else f"{line[:89]}…"
