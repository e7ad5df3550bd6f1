"""The page at `/`: files written by hand, served as they are, and what they ask of the models on offer.

Enters: requests of a browser. Leaves: the files of `static/` under a policy that lets nothing else in (no inline script or style, no other
host, no parsing of texts as markup), which models there are, and passages of the server's documents. All else that the page shows comes from
the routes for programs, from `runs_view`, `feedback` and `drafts`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from burnish.data.render_heads import HeadRenderer
from burnish.serve.problems import ApiError, wrong
from burnish.serve.run_folders import read_object
from burnish.serve.served import Offer, Served
from burnish.serve.settings import Settings

STATIC = Path(__file__).parent / "static"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "frame-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""With trusted types that nobody may make, a script of the page could not turn a text into markup even by mistake."""
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=()",
}
MOST_EXAMPLES = 12


class Question(BaseModel):
    """What is looked for in the documents."""

    question: str = Field(min_length=1, max_length=100_000)


def routes(served: Served, settings: Settings) -> APIRouter:
    """Return the routes of the page's own files, and of what it shows of models and documents."""
    router = APIRouter(tags=["page"])
    files = {path.name: path for path in STATIC.iterdir() if path.suffix in KINDS}

    @router.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return _file(files["index.html"])

    @router.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> FileResponse:
        if name not in files:  # a name from a list, so that none can lead anywhere else
            raise ApiError(404, "The page has no file of that name.", code="unknown_url")
        return _file(files[name])

    @router.get("/page/models")
    async def models() -> dict[str, Any]:
        """List the models on offer as the page shows them, and whether there are documents to look in."""
        offers = served.all()
        return {"models": [_described(offer, offers) for offer in offers], "documents": settings.look is not None}

    @router.post("/page/passages")
    async def passages(asked: Question) -> dict[str, Any]:
        """Return the passages of the server's documents that fit a question best."""
        if settings.look is None:
            raise wrong("This server was started without documents: burnish serve RUN_DIR --documents FOLDER.")
        found = await asyncio.to_thread(settings.look, asked.question)
        return {"passages": [{"text": one.text, "source": str(one.origin)} for one in found]}

    return router


def _file(path: Path) -> FileResponse:
    return FileResponse(path, media_type=KINDS[path.suffix], headers=HEADERS)


def _described(offer: Offer, offers: list[Offer]) -> dict[str, Any]:
    """Return what the page shows of a model: whether it writes, continues or reads, what it was tuned from, prompts it has not learned from."""
    renderer = offer.loaded.renderer
    labels = list(renderer.spec.labels) if isinstance(renderer, HeadRenderer) else []
    asks = isinstance(renderer, HeadRenderer) and renderer.spec.kind == "span"
    run = Path(offer.loaded.model.found.name)
    report = read_object(run / "report.json")
    return {
        "name": offer.name,
        "kind": "reads" if offer.reads else "continues" if offer.loaded.continues_text else "writes",
        "asks": asks,
        "single": bool(renderer.frame.choices),
        "labels": labels,
        "base": _base(offer, offers, report),
        "examples": prompts_of(report)[:MOST_EXAMPLES],
    }


def _base(offer: Offer, offers: list[Offer], report: dict[str, Any]) -> str | None:
    """Return the name under which the model is offered that this one was tuned from, None where it is not on offer or not known."""
    found = offer.loaded.model.found
    before = (report.get("run") or {}).get("model")
    for other in offers:
        there = other.loaded.model.found
        if other is not offer and found.adapter is not None and there.adapter is None and there.base == found.base:
            return other.name
        if other is not offer and isinstance(before, str) and is_same(there.name, before):
            return other.name
    return None


def served_as(model: str, served: Served) -> str | None:
    """Return the name under which a model is on offer."""
    return next((offer.name for offer in served.all() if is_same(offer.loaded.model.found.name, model)), None)


def is_same(one: str, other: str) -> bool:
    """Return whether two names of models name the same: as they stand, or as folders."""
    first, second = Path(one).expanduser(), Path(other).expanduser()
    return one == other or (first.is_dir() and second.is_dir() and first.resolve() == second.resolve())


def prompts_of(report: dict[str, Any]) -> list[str]:
    """Return the prompts of a report's examples: rows that the run held out."""
    examples = report.get("examples") or []
    return [
        one["prompt"] for one in examples if isinstance(one, dict) and isinstance(one.get("prompt"), str) and one["prompt"].strip()
    ]
