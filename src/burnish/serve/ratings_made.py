"""The answers of a rating session, made while a person reads: a few items ahead, so that nobody waits for a model.

Enters: a session, and what lets a model on offer answer. Leaves: answers in the session's file. An error of a model is told where its answers
are asked for, and the next request tries again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.errors import BurnishError
from burnish.rate import Candidate
from burnish.serve.problems import ApiError
from burnish.serve.ratings_kept import keep_answers, read_answers

Ask = Callable[[str, Sequence[Mapping[str, str]], Mapping[str, Any]], Awaitable[str]]
"""(name on offer, messages, sampling settings) -> the text of the answer."""
AHEAD = 4
"""Items whose answers are made before they are asked for."""


class Making:
    """What is being made for the sessions of a server; a class because tasks and errors are."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._errors: dict[str, str] = {}

    def want(self, folder: Path, session: Mapping[str, Any], places: Sequence[int]) -> None:
        """Begin to make the answers of the next places that have none, unless this session is being worked on."""
        task = self._tasks.get(folder.name)
        if places and (task is None or task.done()):
            self._tasks[folder.name] = asyncio.create_task(self._make(folder, session, list(places)[: AHEAD + 1]))

    def error_of(self, folder: Path) -> str | None:
        """Return what went wrong the last time, once."""
        return self._errors.pop(folder.name, None)

    async def _make(self, folder: Path, session: Mapping[str, Any], places: Sequence[int]) -> None:
        made = await asyncio.to_thread(read_answers, folder)
        try:
            for place in places:
                one = session["items"][place]
                if one["id"] in made:
                    continue
                answers = await asyncio.gather(*(self._answer(session, one, arm, place) for arm in session["arms"]))
                await asyncio.to_thread(keep_answers, folder, one["id"], answers)
        except (BurnishError, ApiError) as error:
            self._errors[folder.name] = error.detail if isinstance(error, ApiError) else str(error)

    async def _answer(self, session: Mapping[str, Any], item: Mapping[str, Any], arm: Mapping[str, Any], place: int) -> Candidate:
        # Two samples of one model, and two prompts of one session, draw from seeds of their own.
        seed = (session["seed"] + 7919 * place + 104_729 * arm["sample"]) % (1 << 31)
        settings = {"temperature": session["temperature"], "max_tokens": session["max_tokens"], "seed": seed}
        text = await self._ask(arm["name"], item["messages"], settings)
        return Candidate(text.strip(), arm["name"], arm["version"])
