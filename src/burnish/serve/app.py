"""The app: every route behind one guard, every error in one envelope.

A further part of the server is a module of this room with a function `routes(served, settings) -> APIRouter` and one entry in `ROUTES`.
Inside a route, raise `problems.ApiError` (or `problems.wrong` for a 400); a `BurnishError` becomes an envelope by itself. The guard has
already asked for the key, the Host and the Origin, and counts the body while it is read: 4 MiB, an upload (multipart/form-data) 512 MiB
(`settings`). A route that works for long hands the work to a thread or a process: the event loop must not wait. `served.all()` and
`served.find(name)` are the models on offer, `served.open(name, run_dir)` loads and offers one more while the server runs (call it from a thread);
`settings.runs` is the folder of runs.

Enters: the models on offer and the settings. Leaves: a FastAPI app, which `cli_serve` runs under uvicorn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from fastapi import APIRouter, FastAPI

from burnish import __version__
from burnish.serve import chat, classify, completions, drafts, embeddings, feedback, jobs, page, runs_view, status
from burnish.serve.engine import Event, Ticket, hand_over
from burnish.serve.guard import Guard
from burnish.serve.problems import answer_with_envelopes
from burnish.serve.served import Served
from burnish.serve.settings import Settings

Routes = Callable[[Served, Settings], APIRouter]

ROUTES: tuple[Routes, ...] = (
    status.routes,
    chat.routes,
    completions.routes,
    classify.routes,
    embeddings.routes,
    jobs.routes,
    page.routes,
    runs_view.routes,
    feedback.routes,
    drafts.routes,
)
"""Everything that the server answers to."""


def create_app(served: Served, settings: Settings | None = None) -> FastAPI:
    """Return the app that answers for these models."""
    allowed = settings or served.settings
    # No pages with scripts from elsewhere; the description itself stays, behind the key like everything.
    app = FastAPI(title="burnish", version=__version__, docs_url=None, redoc_url=None, lifespan=_running(served))
    app.state.served, app.state.settings = served, allowed
    for routes in ROUTES:
        app.include_router(routes(served, allowed))
    answer_with_envelopes(app)
    app.add_middleware(Guard, settings=allowed, watch=served.metrics)
    return app


def _running(served: Served) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Return what starts the engine with an app and stops it with it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()

        def deliver(events: list[tuple[Ticket, Event]]) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(hand_over, events)

        served.engine.start(deliver)
        served.running = True
        yield
        served.running = False
        await asyncio.to_thread(served.engine.close)

    return lifespan
