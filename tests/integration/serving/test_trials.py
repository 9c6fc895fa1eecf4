"""Trials on a worker that answers: signed tiny models, MLflow and the ledger on SQLite."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from serving.trial import takes_part
from undertone import keys, trial_acts, trials
from undertone.governance import Act
from undertone.model_folder import GRAPH, MODEL, STATEMENT
from undertone.records import LedgerEntry, Message
from undertone.signing import SIGNATURE
from undertone.trial_figures import Figures
from undertone.workspace import Workspace

EVER = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)

Until = Callable[..., Any]
Serve = Callable[..., AbstractContextManager[Any]]


@dataclass
class Bench:
    """A worker that serves sentiment 1, and somebody who tries challengers beside it."""

    worker: Any
    shelf: Any
    until: Until

    @property
    def workspace(self) -> Workspace:
        return self.shelf.workspace

    def start(self, version: int, kind: Any, share: float, **how: Any) -> int:
        """Gives the trial's row in the ledger, once the worker tries it."""
        row = trial_acts.start(self.workspace, "sentiment", version, act(), kind=kind, share=share, **how).seq
        self.wait_tried(row)
        return row

    def wait_tried(self, row: int, worker: Any = None) -> None:
        worker = worker or self.worker
        self.until(lambda: (state := self.trial(worker)).get("row") == row and "kind" in state, f"row {row} is tried")

    def wait_refused(self, row: int, worker: Any = None) -> dict[str, Any]:
        worker = worker or self.worker
        self.until(lambda: (now := self.trial(worker)).get("row") == row and "refused" in now, f"row {row} is refused")
        return dict(self.trial(worker)["refused"])

    def wait_gone(self, worker: Any = None) -> None:
        self.until(lambda: not self.trial(worker or self.worker), "the worker tries nothing")

    def trial(self, worker: Any = None) -> dict[str, Any]:
        """What `/readyz` says of it; nothing: empty."""
        return (worker or self.worker).task()["trial"] or {}

    def running(self) -> trials.Trial | None:
        return trials.running(self.workspace.ledger, "sentiment")

    def ended(self) -> LedgerEntry:
        row = self.workspace.ledger.latest("sentiment", ["trial_ended"])
        assert row is not None
        return row

    def figures(self, row: int) -> Figures:
        return trials.pooled(self.workspace.store, row)

    def wait_compared(self, row: int, count: int) -> Figures:
        self.until(lambda: self.figures(row).compared == count, f"{count} are compared")
        return self.figures(row)

    def forge(self, version: int, order: dict[str, Any]) -> dict[str, Any]:
        """A row that no approver wrote; gives why the worker refuses it."""
        row = self.workspace.ledger.append(
            "trial_started", "sentiment", at=act().at, actor="ann", reason="", version=version, payload={"order": order}
        )
        refusal = self.wait_refused(row.seq)
        trial_acts.end(self.workspace, "sentiment", act())
        self.wait_gone()
        return refusal


@pytest.fixture
def bench(followed: Any, shelf: Any, until: Until) -> Bench:
    return Bench(followed, shelf, until)


def act() -> Act:
    return Act("ann", "let us see", datetime.now(UTC))


def edit_weights(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """An edit of a model folder that changes one of the graph's tables."""

    def edit(folder: Path) -> None:
        model = onnx.load(folder / GRAPH)
        found = next(item for item in model.graph.initializer if item.name == name)
        found.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(numpy_helper.to_array(found))), name))
        onnx.save(model, folder / GRAPH)

    return edit


#: Says the opposite.
CONTRARY = edit_weights("head", lambda head: head[:, ::-1])
#: Has no row for the word "great", and cannot read a text with it; others, and those of the smoke test, it can.
FAILING = edit_weights("table", lambda table: table[:4])


def customers(count: int, turn: str = "0", text: str = "good parcel") -> list[dict[str, Any]]:
    return [
        {"id": f"{turn}-{number}", "text": text, "customer_id": f"customer {number}", "channel": "email"}
        for number in range(count)
    ]


def send(worker: Any, items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Sentiment by customer."""
    found = worker.score(*items)["messages"]
    return {item["customer_id"]: answer["tasks"]["sentiment"] for item, answer in zip(items, found, strict=True)}


def versions(given: dict[str, dict[str, Any]]) -> set[int]:
    return {answer["version"] for answer in given.values()}


def in_share(items: list[dict[str, Any]], share: float) -> set[str]:
    return {
        item["customer_id"]
        for item in items
        if takes_part("sentiment", Message(item["id"], item["text"], customer_id=item["customer_id"]), share)
    }


def test_a_shadow_is_compared_and_changes_no_answer(bench: Bench) -> None:
    items = customers(60)
    before = send(bench.worker, items)
    row = bench.start(bench.shelf.register(edit=CONTRARY, gated=False), "shadow", 0.5)
    shown = bench.trial()
    assert (shown["kind"], shown["version"], shown["share"], shown["champion"]) == ("shadow", 2, 0.5, 1)
    assert send(bench.worker, customers(60, "1")) == before
    count = len(in_share(items, 0.5))
    assert 15 < count < 45

    figures = bench.wait_compared(row, count)
    assert (figures.disagreed, figures.errors, figures.dropped) == (count, 0, 0)
    assert (figures.champion_labels, figures.challenger_labels) == ({"positive": count}, {"negative": count})
    assert figures.slices == {"channel=email": (count, count)}
    assert figures.timed >= 1
    labels = {"task": "sentiment", "kind": "shadow"}
    assert bench.worker.metric("trial_messages_total", **labels, outcome="disagreed") == count
    assert bench.worker.metric("trial_version", **labels) == 2
    bench.worker.wait_stored()
    assert bench.workspace.store.by_version("sentiment", *EVER) == {1: 120}
    assert bench.trial()["figures"]["agreement"] == 0.0  # however much it differs, a shadow goes on

    ended = trial_acts.end(bench.workspace, "sentiment", act())
    bench.wait_gone()
    assert ended.payload["figures"]["compared"] == count
    assert bench.worker.metric("trial_version", **labels) == 0
    assert not (bench.workspace.settings.state_dir / "trials" / "sentiment" / str(row)).exists()


def test_a_canary_answers_the_same_customers_again_and_again(bench: Bench) -> None:
    challenger = bench.shelf.register()
    bench.start(challenger, "canary", 0.1)
    few = {name for name, answer in send(bench.worker, customers(80)).items() if answer["version"] == 2}
    row = bench.start(challenger, "canary", 0.3)
    chosen = in_share(customers(80), 0.3)
    assert few < chosen
    for turn in "123":
        given = send(bench.worker, customers(80, turn))
        assert {name for name, answer in given.items() if answer["version"] == 2} == chosen
        assert {answer["label"] for answer in given.values()} == {"positive"}
    figures = bench.wait_compared(row, 3 * len(chosen))
    assert (figures.disagreed, figures.errors) == (0, 0)
    bench.worker.wait_stored()
    by_challenger = 3 * len(chosen) + len(few)
    assert bench.workspace.store.by_version("sentiment", *EVER) == {1: 320 - by_challenger, 2: by_challenger}
    assert bench.running() is not None


def test_a_canary_that_disagrees_gives_its_share_back(bench: Bench) -> None:
    row = bench.start(bench.shelf.register(edit=CONTRARY), "canary", 0.5)
    turns = iter(range(1_000))

    def returned() -> bool:
        send(bench.worker, customers(100, str(next(turns))))
        return bench.running() is None

    bench.until(returned, "the trial ends by itself")
    ended = bench.ended()
    assert (ended.actor, ended.payload["automatic"], ended.payload["trial"]) == ("serving worker", True, row)
    assert "challenger and champion differ in" in ended.reason
    assert ended.payload["figures"]["compared"] >= 200
    assert versions(send(bench.worker, customers(50, "after"))) == {1}
    bench.wait_gone()


def test_a_canary_that_fails_is_returned_and_no_client_sees_it(bench: Bench) -> None:
    bench.start(bench.shelf.register(edit=FAILING), "canary", 0.5)
    assert versions(send(bench.worker, customers(20))) == {1, 2}
    given = send(bench.worker, customers(40, "1", "great parcel"))
    assert {(answer["version"], answer["label"]) for answer in given.values()} == {(1, "positive")}
    assert versions(send(bench.worker, customers(40, "2"))) == {1}  # at once, before the ledger knows
    bench.until(lambda: bench.running() is None, "the ledger says that it ended")
    ended = bench.ended()
    assert ended.payload["automatic"] is True
    assert "the challenger could not answer" in ended.reason
    assert ended.payload["figures"]["errors"] >= 1
    assert bench.workspace.ledger.verify() >= ended.seq


def test_a_promotion_ends_it_and_the_challenger_answers_all(bench: Bench) -> None:
    challenger = bench.shelf.register()
    bench.start(challenger, "canary", 0.2)
    bench.shelf.approve(challenger)
    bench.worker.wait_version(challenger)
    bench.wait_gone()
    assert versions(send(bench.worker, customers(30))) == {challenger}
    assert bench.ended().reason.startswith("version 2 was approved")


def test_a_restarted_worker_goes_on_with_the_copy_on_disk(bench: Bench, serve: Serve) -> None:
    made = bench.shelf.register()
    row = bench.start(made, "canary", 0.5)
    with serve(bench.workspace.settings) as again:
        bench.wait_tried(row, again)
        assert versions(send(again, customers(40))) == {1, 2}


def test_nothing_is_tried_that_nobody_signed(bench: Bench, tmp_path: Path) -> None:
    bench.start(bench.shelf.register(), "canary", 0.5)
    trial = bench.running()
    assert trial is not None
    order = trial.row.payload["order"]
    trial_acts.end(bench.workspace, "sentiment", act())
    bench.wait_gone()
    assert "older than row" in bench.forge(2, order)["found"]  # played back

    unsigned = bench.shelf.register()

    def newest(**change: Any) -> dict[str, Any]:
        serial, digest = bench.workspace.ledger.head()
        return {**order, "serial": serial, "ledger_hash": digest, **change}

    refusal = bench.forge(unsigned, newest(version=unsigned))
    assert "a trial of 'sentiment' 3" in refusal["expected"]
    bench.shelf.registry.fetch_trial("sentiment", 2, tmp_path)
    bench.shelf.registry.put_trial("sentiment", unsigned, tmp_path / MODEL / STATEMENT, tmp_path / SIGNATURE)
    refusal = bench.forge(unsigned, newest(version=unsigned))  # the signature of another version
    assert "one of sentiment 2" in refusal["found"]
    assert refusal["next_step"].startswith("end it: `undertone models end-trial")
    assert "signed by ann" in bench.forge(2, newest(share=1.0))["expected"]  # not the share that she signed
    assert versions(send(bench.worker, customers(40))) == {1}


def test_bytes_that_changed_after_signing_are_not_tried(bench: Bench, serve: Serve, tmp_path: Path) -> None:
    version = bench.shelf.register()
    row = bench.start(version, "canary", 0.5)
    copy = bench.workspace.settings.state_dir / "trials" / "sentiment" / str(row) / MODEL / GRAPH
    copy.write_bytes(copy.read_bytes() + b"\0")
    (tmp_path / "model.onnx").write_bytes(b"other weights")
    found = bench.shelf.registry.get("sentiment", version)
    bench.shelf.registry.client.log_model_artifact(found.model_id, str(tmp_path / "model.onnx"), "undertone")
    with serve(bench.workspace.settings) as other:  # neither the copy of this home nor the one in MLflow holds
        assert "digest" in json.dumps(bench.wait_refused(row, other))
        assert versions(send(other, customers(40))) == {1}


def test_a_key_that_is_revoked_ends_what_it_ordered(bench: Bench) -> None:
    row = bench.start(bench.shelf.register(), "canary", 0.5)
    keys.revoke(bench.workspace.settings, "ann")
    assert "revoked" in bench.wait_refused(row)["found"]


def test_two_workers_of_one_home_agree(bench: Bench, serve: Serve) -> None:
    with serve(bench.workspace.settings) as other:
        row = bench.start(bench.shelf.register(edit=CONTRARY), "canary", 0.5)
        bench.wait_tried(row, other)
        for turn, worker in (("1", bench.worker), ("2", other)):
            given = send(worker, customers(280, turn))  # about 140 in the share: alone, neither may judge
            assert versions(given) == {1, 2}
        bench.until(lambda: bench.running() is None, "together they end it")
        bench.wait_gone()
        bench.wait_gone(other)
    assert len(bench.workspace.ledger.entries("sentiment", ["trial_ended"])) == 1
    assert 200 <= bench.ended().payload["figures"]["compared"] < 400
