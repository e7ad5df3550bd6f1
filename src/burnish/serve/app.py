"""The app: every route behind one guard, every error in one envelope.

A further part of the server is a module of this room with a function `routes(served, settings) -> APIRouter` and one entry in `ROUTES`.
Inside a route, raise `problems.ApiError` (or `problems.wrong` for a 400); a `BurnishError` becomes an envelope by itself. The guard has
already asked for the key, the Host and the Origin, and counts the body while it is read: 4 MiB, an upload (multipart/form-data) 512 MiB
(`settings`). A route that works for long hands the work to a thread or a process: the event loop must not wait. `served.all()` and
`served.find(name)` are the models on offer, `served.add(offer)` offers one more; `settings.runs` is the folder of runs.

Enters: the models on offer and the settings. Leaves: a FastAPI app, which `cli_serve` runs under uvicorn.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, FastAPI

from burnish import __version__
from burnish.serve import jobs, status
from burnish.serve.guard import Guard
from burnish.serve.problems import answer_with_envelopes
from burnish.serve.served import Served
from burnish.serve.settings import Settings

Routes = Callable[[Served, Settings], APIRouter]

ROUTES: tuple[Routes, ...] = (status.routes, jobs.routes)
"""Everything that the server answers to."""


def create_app(served: Served, settings: Settings | None = None) -> FastAPI:
    """Return the app that answers for these models."""
    allowed = settings or Settings()
    # No pages with scripts from elsewhere; the description itself stays, behind the key like everything.
    app = FastAPI(title="burnish", version=__version__, docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    app.state.served, app.state.settings = served, allowed
    for routes in ROUTES:
        app.include_router(routes(served, allowed))
    answer_with_envelopes(app)
    app.add_middleware(Guard, settings=allowed)
    return app
