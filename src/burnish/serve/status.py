"""How the server is: `/health`, `/metrics`, and the models on offer.

Enters: nothing. Leaves: JSON, and text for Prometheus.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from burnish.serve.served import Served
from burnish.serve.settings import Settings


def routes(served: Served, settings: Settings) -> APIRouter:
    """Return the routes about the server itself."""
    router = APIRouter(tags=["server"])

    @router.get("/health")
    async def health() -> dict[str, Any]:
        """Say that the server is there."""
        return {"status": "ok", "models": len(served.all())}

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """Give the figures of the server in Prometheus' text format."""
        flying, waiting = served.engine.rows_now
        kept = [line.flight.past.before for line in served.engine.lines if line.flight is not None and line.flight.past.joins]
        gauges = {
            "rows": (float(flying), "Answers that are made now."),
            "rows_waiting": (float(waiting), "Answers that wait for a place."),
            "prefix_bytes": (
                float(sum(one.size for one in kept if one is not None)),
                "Bytes of the past of prompts that are kept.",
            ),
            "prefix_tokens_taken": (float(sum(one.taken for one in kept if one is not None)), "Tokens of prompts not read again."),
        }
        return PlainTextResponse(served.metrics.text(gauges), media_type="text/plain; version=0.0.4")

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        """List the models on offer."""
        return {"object": "list", "data": [_described(name, since) for name, since in served.names()]}

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        """Describe one model."""
        known = dict(served.names())
        return _described(name, known[name]) if name in known else _described(name, served.find(name).since)

    return router


def _described(name: str, since: int) -> dict[str, Any]:
    """Return a model as clients know it."""
    return {"id": name, "object": "model", "created": since, "owned_by": "burnish"}
