"""Explanations on demand: a process beside the worker, started when somebody first asks and ended when nobody does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from serving import child, explain_child
from serving.errors import Later, NoExplanations, Overloaded, TooMany
from serving.explain_child import Explanation, OutOfTime, Question
from serving.http import Call
from serving.model_slot import ModelSlot
from undertone.errors import DataError
from undertone.model_folder import MODEL
from undertone.records import Prediction, ScoredMessage
from undertone.settings import Settings
from undertone.text import repair

#: Messages of one request that are explained.
MESSAGES = 20

#: Requests that wait for an explanation; more are refused.
WAITING = 4

#: Seconds without work after which the process ends and its memory is free.
IDLE_S = 120.0

#: Seconds beyond its time after which the process is taken to hang.
GRACE_S = 5.0

#: Seconds that the answer itself still takes.
ANSWER_S = 0.5


def wanted(call: Call) -> bool:
    """Whether the request asks for explanations: ``?explain=true``.

    Raises:
        DataError: it says something else.
    """
    if "explain" not in call.query:
        return False
    said = parse_qs(call.query, keep_blank_values=True).get("explain", ["false"])[-1].lower()
    if said not in {"true", "false", "1", "0", ""}:
        raise DataError("explain=true or explain=false", repr(repair(said[:50])), "mend the query")
    return said in {"true", "1"}


def refuse_many(count: int) -> None:
    """Raise `TooMany` where a request asks for more explanations than it may."""
    if count > MESSAGES:
        raise TooMany(
            f"at most {MESSAGES} messages in a request with explain=true",
            f"{count:,}",
            f"send them in parts of {MESSAGES}, or without it",
        )


class Explainer:
    """Explains scored messages, one request after the other.

    Args:
        slots: what serves for each task, and where its copy on disk is.
        settings: name the time that explanations may take.
        idle_s: seconds without work after which the process ends.
    """

    def __init__(self, slots: dict[str, ModelSlot], settings: Settings, idle_s: float = IDLE_S) -> None:
        self._slots = slots
        self._seconds = settings.explain_seconds
        self._idle_s = idle_s
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._pool: ProcessPoolExecutor | None = None
        self._warm = False
        self._asked: asyncio.Future[Any] | None = None
        self._rest: asyncio.TimerHandle | None = None

    @property
    def processes(self) -> list[BaseProcess]:
        """The process, if there is one."""
        return child.processes(self._pool)

    async def prepare(self, deadline: float) -> None:
        """Have a process that can explain, before anything is scored.

        Raises:
            NoExplanations: captum is not installed.
            Overloaded: too many requests wait for explanations.
            Later: the process is not there in time; it may be soon.
        """
        self._refuse_if_late()
        if not self._warm:
            async with self._turn:
                await self._ready(deadline)

    async def explain(self, scored: Sequence[ScoredMessage], deadline: float) -> list[dict[str, Explanation]]:
        """Explanations of each message by task. A canary's answers have none: they come from another copy.

        Args:
            scored: messages with their answers.
            deadline: event-loop time after which nobody waits.

        Raises:
            Overloaded: too many wait, or there is too little time.
            Later: the process ended, or took too long.
        """
        self._refuse_if_late()
        self._waiting += 1
        try:
            async with self._turn:
                return await self._explain(scored, deadline)
        finally:
            self._waiting -= 1

    async def stop(self) -> None:
        """End the process, whatever it does."""
        self._end()

    def _refuse_if_late(self) -> None:
        if self._waiting >= WAITING:
            raise Overloaded(f"at most {WAITING} requests waiting for explanations", "more", "try again later", 5.0)

    async def _explain(self, scored: Sequence[ScoredMessage], deadline: float) -> list[dict[str, Explanation]]:
        folders = await asyncio.to_thread(self._folders, scored)
        places, questions = [], []
        for place, item in enumerate(scored):
            for answer in item.predictions:
                if (folder := folders.get((answer.task, answer.model_version))) is not None:
                    places.append((place, answer.task))
                    questions.append(Question(folder, item.message.text, self._label(answer)))
        await self._ready(deadline)
        seconds = min(self._seconds, _left(deadline))
        try:
            made: list[Explanation] = await self._ask(seconds + GRACE_S, explain_child.explain, questions, seconds)
        except OutOfTime as error:
            raise Overloaded(
                f"{len(questions)} answers explained within {seconds:.1f} s",
                f"time for {error.explained} of them",
                "send fewer or shorter messages, or try again later",
                5.0,
            ) from error
        found: list[dict[str, Explanation]] = [{} for _ in scored]
        for (place, task), explanation in zip(places, made, strict=True):
            found[place][task] = explanation
        return found

    async def _ready(self, deadline: float) -> None:
        """A process that has imported what it needs, and is done with what it was asked before."""
        if self._asked is not None and not self._asked.done():  # its client has gone
            await asyncio.wait({self._asked}, timeout=_left(deadline))
        if self._warm:
            return
        if self._pool is None:
            self._pool = child.start(explain_child.begin)
        try:
            await self._ask(_left(deadline), explain_child.warm)
            self._warm = True
        except ImportError as error:
            self._end()
            raise NoExplanations(
                "the package captum, which explains", str(error), "`pip install captum` where the worker runs"
            ) from error

    async def _ask(self, seconds: float, act: Callable[..., Any], *values: Any) -> Any:
        """What the process answers.

        Raises:
            Later: it ended, or took too long.
        """
        loop = asyncio.get_running_loop()
        if self._rest is not None:
            self._rest.cancel()
        try:
            self._asked = asked = asyncio.ensure_future(loop.run_in_executor(self._pool, act, *values))
            asked.add_done_callback(_heard)
            async with asyncio.timeout(seconds):
                return await asyncio.shield(asked)  # the process cannot be called off
        except TimeoutError as error:
            if act is not explain_child.warm:  # that one goes on, for whoever asks next
                self._end()
            raise Later(
                f"an explanation within {seconds:.0f} s", "none yet", "try again, with fewer messages", 5.0
            ) from error
        except (BrokenProcessPool, OSError) as error:
            self._end()
            raise Later(
                "a process that explains", f"{type(error).__name__}: {error}", "try again; read the worker's log", 5.0
            ) from error
        finally:
            self._rest = loop.call_later(self._idle_s, self._end)

    def _end(self) -> None:
        pool, self._pool, self._warm = self._pool, None, False
        if self._rest is not None:
            self._rest.cancel()
        child.end(pool)

    def _folders(self, scored: Sequence[ScoredMessage]) -> dict[tuple[str, int], Path]:
        """The copy on disk of every version that answered."""
        needed = {(answer.task, answer.model_version) for item in scored for answer in item.predictions}
        found = {}
        for task, version in needed:
            slot = self._slots[task]
            served = slot.served
            if served is not None and served.version == version:
                found[task, version] = served.folder / MODEL
            else:  # it was replaced a moment ago
                copies = (folder for _, number, folder in slot.copies() if number == version)
                if (folder := next(copies, None)) is not None:
                    found[task, version] = folder / MODEL
        return found

    def _label(self, answer: Prediction) -> int:
        return self._slots[answer.task].spec.labels.index(answer.label)


def _left(deadline: float) -> float:
    """Seconds until `deadline`, without those that the answer takes.

    Raises:
        Overloaded: there are none.
    """
    left = deadline - asyncio.get_running_loop().time() - ANSWER_S
    if left <= 0:
        raise Overloaded("time left for explanations", "none", "allow more time, or send fewer messages", 5.0)
    return left


def _heard(asked: asyncio.Future[Any]) -> None:
    """Whoever waited for it may have gone; an error then is nobody's."""
    if not asked.cancelled():
        asked.exception()
