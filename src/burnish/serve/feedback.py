"""Rating on the page: two answers without names and in random order, and a judgement that is on the disk before the next prompt is shown.

Enters: prompts, names of models on offer, and what a person says. Leaves: lines of the format `feedback` through `burnish.rate`, the same as
`burnish rate` writes in a terminal, and what they say together. Until a session's results are asked for, no answer that this module gives
names a model: which side is whose is known here alone, and follows from prompt and rater.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from burnish import rate
from burnish.data.formats_feedback import Noted, feedback
from burnish.models import fingerprint
from burnish.rate import LETTERS, Item
from burnish.rate_statistics import summary
from burnish.serve.asking import asker
from burnish.serve.drafts_kept import now
from burnish.serve.problems import ApiError, wrong
from burnish.serve.ratings_kept import FEEDBACK, all_ratings, find_rating, make_rating, read_answers
from burnish.serve.ratings_made import AHEAD, Making
from burnish.serve.served import Offer, Served
from burnish.serve.settings import Settings
from burnish.types import Message, Origin, content

SAMPLED = 0.8
"""The temperature of two samples of one model where none is given: at 0 they would be the same."""
Rater = Annotated[str, Query(min_length=1, max_length=60)]


class NewRating(BaseModel):
    """A session: prompts, and the one or two models that answer them (`second` None: a second sample of the first)."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    title: str = Field("", max_length=120)
    first: str = Field(max_length=128)
    second: str | None = Field(None, max_length=128)
    prompts: list[Annotated[str, Field(min_length=1, max_length=20_000)]] = Field(min_length=1, max_length=2000)
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int = Field(128, ge=1, le=4096)
    seed: int = Field(0, ge=0, lt=1 << 31)


class Judgement(BaseModel):
    """What a person says of an item: a side, a tie, both bad or nothing, and perhaps a better text."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    rater: str = Field(min_length=1, max_length=60)
    item: str = Field(max_length=64)
    choice: Literal["left", "right", "tie", "both_bad", "skip"]
    edit: str | None = Field(None, max_length=100_000)
    seconds: float = Field(0, ge=0, le=1e6)


def routes(served: Served, settings: Settings) -> APIRouter:
    """Return the routes about rating sessions."""
    router = APIRouter(prefix="/page/ratings", tags=["page"])
    root = settings.runs
    making = Making(asker(served, settings))

    @router.get("")
    def ratings(rater: Rater) -> dict[str, Any]:
        """List the sessions, the newest first, with how far a rater is in each."""
        return {"ratings": [_listed(name, folder, session, rater) for name, folder, session in all_ratings(root)]}

    @router.post("", status_code=201)
    def begin(asked: NewRating) -> dict[str, str]:
        """Begin a session."""
        return {"id": make_rating(root, _session(asked, served))}

    @router.get("/{rating_id}/next")
    async def following(rating_id: str, rater: Rater, item: Annotated[str | None, Query(max_length=64)] = None) -> dict[str, Any]:
        """Return the next item that this rater has not judged, or the one named; "making" while its answers are not there."""
        folder, session = await asyncio.to_thread(find_rating, root, rating_id)
        found, missing = await asyncio.to_thread(_next, folder, session, rater, item)
        making.want(folder, session, missing)
        if found["state"] == "making" and (error := making.error_of(folder)) is not None:
            raise wrong(f"The answers could not be made. {error}", code="no_answers")
        return found

    @router.post("/{rating_id}/judgements", status_code=201)
    def judge(rating_id: str, said: Judgement) -> dict[str, bool]:
        """Save a judgement; when this answers, it is on the disk."""
        folder, session = find_rating(root, rating_id)
        return {"saved": _save(folder, session, said)}

    @router.get("/{rating_id}/results")
    def results(rating_id: str) -> dict[str, Any]:
        """Return what the judgements of a session say together: win rates, agreement, sides, each with an interval."""
        folder, session = find_rating(root, rating_id)
        rows = rate.read_feedback(folder / FEEDBACK) if (folder / FEEDBACK).is_file() else []
        return {"title": session["title"], "summary": summary(rows), "pairs": _pairs(rows)}

    @router.get("/{rating_id}/feedback.jsonl", include_in_schema=False)
    def file(rating_id: str) -> FileResponse:
        folder, _ = find_rating(root, rating_id)
        if not (folder / FEEDBACK).is_file():
            raise ApiError(404, "Nobody has judged in this session yet.", code="rating_not_found")
        return FileResponse(folder / FEEDBACK, media_type="application/x-ndjson", filename="feedback.jsonl")

    return router


# ---------------------------------------------------------------------------------------------------------------------- a session


def _session(asked: NewRating, served: Served) -> dict[str, Any]:
    """Return a session as it is written down: who answers in which version, and each prompt with its id."""
    names = [asked.first, asked.second or asked.first]
    offers = [served.find(name) for name in names]
    samples = names[0] == names[1]
    if any(offer.reads for offer in offers):
        raise wrong("A model with a head of its own writes no text that could be judged.", param="first")
    temperature = (SAMPLED if samples else 0.0) if asked.temperature is None else asked.temperature
    if samples and temperature == 0:
        raise wrong("Temperature 0 gives the same answer twice: two samples of one model need a higher one.", param="temperature")
    arms = [
        {"name": offer.name, "version": version(offer), "sample": number if samples else 0} for number, offer in enumerate(offers)
    ]
    makers = [(arm["version"] or arm["name"], arm["sample"], asked.max_tokens, temperature, asked.seed) for arm in arms]
    items = [rate.item((Message("user", content(prompt)),), makers) for prompt in dict.fromkeys(asked.prompts)]
    return {
        "title": " ".join(asked.title.split()) or f"Session of {now()[:16].replace('T', ' ')}",
        "time": now(),
        "first": offers[0].name,
        "arms": arms,
        "temperature": temperature,
        "max_tokens": asked.max_tokens,
        "seed": asked.seed,
        "items": [{"id": one.id, "messages": [dict(message) for message in one.messages]} for one in items],
    }


def version(offer: Offer) -> str | None:
    """Return what tells this model from a later one of the same name, None where nothing does (a hub name)."""
    found = offer.loaded.model.found
    if found.adapter is not None:
        found = replace(found, base=str(found.adapter), local=True)
    return (fingerprint(found) or "")[:12] or None


def _listed(name: str, folder: Path, session: Mapping[str, Any], rater: str) -> dict[str, Any]:
    """Return a session as a list shows it, without the models that are judged."""
    given, same = _given(folder), _same(folder)
    mine = {item for item, who in given if who == rater} | same
    return {
        "id": name,
        "title": session["title"],
        "time": session["time"],
        "total": len(session["items"]),
        "judged": sum(one["id"] in mine for one in session["items"]),
        "raters": len({who for _, who in given}),
    }


def _given(folder: Path) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Return the judgement that counts of each item and rater."""
    file = folder / FEEDBACK
    return rate.last_of_each(rate.read_feedback(file)) if file.is_file() else {}


def _same(folder: Path) -> set[str]:
    """Return the items whose answers are the same text, which are not asked."""
    return {item for item, answers in read_answers(folder).items() if len({one.text.strip() for one in answers}) == 1}


def _next(folder: Path, session: Mapping[str, Any], rater: str, wanted: str | None) -> tuple[dict[str, Any], list[int]]:
    """Return what the page is told of the item to be judged, and the places whose answers are to be made."""
    items, made, given = session["items"], read_answers(folder), _given(folder)
    mine = {item: row for (item, who), row in given.items() if who == rater}
    same = {item for item, answers in made.items() if len({one.text.strip() for one in answers}) == 1}
    places = [place for place, one in enumerate(items) if one["id"] not in mine and one["id"] not in same]
    place = next((place for place, one in enumerate(items) if one["id"] == wanted), places[0] if places else None)
    missing = [one for one in places[: AHEAD + 1] if items[one]["id"] not in made]
    about = {
        "title": session["title"],
        "total": len(items),
        "judged": sum(one["id"] in mine or one["id"] in same for one in items),
        "same": sum(one["id"] in same for one in items),
    }
    if place is None:
        return {"state": "done", **about}, []
    item = items[place]
    if item["id"] not in made:
        return {"state": "making", **about}, missing
    answers = made[item["id"]]
    sides = rate.order(item["id"], rater, answers=2)
    found = {
        "state": "item",
        **about,
        "item": item["id"],
        "messages": item["messages"],
        "left": answers[sides[0]].text,
        "right": answers[sides[1]].text,
        "earlier": _earlier(mine.get(item["id"]), sides),
    }
    return found, missing


def _earlier(row: Mapping[str, Any] | None, sides: Sequence[int]) -> dict[str, Any] | None:
    """Return what this rater said before, in terms of the sides that they see."""
    if row is None:
        return None
    choice = str(row.get("choice"))
    if choice in LETTERS:
        choice = "left" if sides[0] == LETTERS.index(choice) else "right"
    return {"choice": choice, "edit": row.get("edit")}


def _save(folder: Path, session: Mapping[str, Any], said: Judgement) -> bool:
    """Append a judgement; a skip of what was judged before changes nothing."""
    kept = next((one for one in session["items"] if one["id"] == said.item), None)
    answers = read_answers(folder).get(said.item)
    if kept is None or answers is None:
        raise wrong("There is no such item in this session.", param="item")
    if said.choice == "skip" and (said.item, said.rater) in _given(folder):
        return False
    edit = said.edit.strip() if said.edit else None
    if edit is not None and said.choice not in ("left", "right"):
        raise wrong("A better text starts from one of the two: say which comes nearer.", param="choice")
    sides = rate.order(said.item, said.rater, answers=2)
    choice = LETTERS[sides[said.choice == "right"]] if said.choice in ("left", "right") else said.choice
    item = Item(said.item, tuple(kept["messages"]))
    row = rate.judgement(item, answers, rater=said.rater, sides=sides, choice=choice, edit=edit or None, seconds=said.seconds)
    rate.append(folder / FEEDBACK, row)
    return True


def _pairs(rows: Sequence[Mapping[str, Any]]) -> int:
    """Return how many pairs of a better and a worse answer the judgements give, as `tune` reads them."""
    last = rate.last_of_each(rows).values()
    made = [feedback(row, Origin("feedback.jsonl", number)) for number, row in enumerate(last, 1)]
    return sum(len(one.examples) for one in made if isinstance(one, Noted))
