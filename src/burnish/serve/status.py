"""How the server is: `/health`, and the models on offer.

Enters: nothing. Leaves: JSON.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from burnish.serve.served import Offer, Served
from burnish.serve.settings import Settings


def routes(served: Served, settings: Settings) -> APIRouter:
    """Return the routes about the server itself."""
    router = APIRouter(tags=["server"])

    @router.get("/health")
    async def health() -> dict[str, Any]:
        """Say that the server is there."""
        return {"status": "ok", "models": len(served.all())}

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        """List the models on offer."""
        return {"object": "list", "data": [_described(offer) for offer in served.all()]}

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        """Describe one model."""
        return _described(served.find(name))

    return router


def _described(offer: Offer) -> dict[str, Any]:
    """Return a model as clients know it."""
    return {"id": offer.name, "object": "model", "created": offer.since, "owned_by": "burnish"}
