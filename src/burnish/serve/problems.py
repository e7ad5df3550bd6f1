"""What went wrong with a request, in the envelope that clients of the OpenAI interface read.

Enters: problems found by routes, by FastAPI's validation, by the guard, or by burnish itself. Leaves: a status and
`{"error": {"message", "type", "param", "code"}}`. Details of faults of our own stay in the log, without anything a client sent.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from burnish.errors import BurnishError, UsageError

LOG = logging.getLogger("burnish.serve")
MOST_PROBLEMS = 20
TYPES = {429: "rate_limit_error"}
"""The kind of error by status; other statuses below 500 are "invalid_request_error", as hosted services say, from 500 on "server_error"."""
CODES = {404: "unknown_url", 405: "method_not_allowed"}
"""The code where a framework raised the error."""


class ApiError(HTTPException):
    """A request that is refused: its status, what is wrong and how to mend it, the parameter, and a code that programs can look at."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers=dict(headers or {}))
        self.param, self.code = param, code


def envelope(status: int, message: str, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return the body that tells of an error."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def wrong(message: str, *, param: str | None = None, code: str | None = "invalid_value") -> ApiError:
    """Return the error for a request that cannot be carried out as it was asked."""
    return ApiError(400, message, param=param, code=code)


def answer_with_envelopes(app: FastAPI) -> None:
    """Let an app answer every error with the envelope."""

    async def refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        param, code = (error.param, error.code) if isinstance(error, ApiError) else (None, CODES.get(error.status_code))
        body = envelope(error.status_code, _said(request, error), param=param, code=code)
        return JSONResponse(body, error.status_code, headers=error.headers)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        problems = [_problem(one) for one in error.errors()]
        param = problems[0][0] if problems else None
        text = "; ".join(said for _, said in problems[:MOST_PROBLEMS])
        if any(one["type"] == "json_invalid" for one in error.errors()):
            return JSONResponse(envelope(400, f"The body is not valid JSON: {text}", code="invalid_json"), 400)
        return JSONResponse(envelope(400, text, param=param, code="invalid_value"), 400)

    async def ours(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, BurnishError)
        status = 400 if isinstance(error, UsageError) else 500
        return JSONResponse(envelope(status, str(error), code="invalid_value" if status == 400 else "internal_error"), status)

    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(BurnishError, ours)


def fault(error: BaseException) -> dict[str, Any]:
    """Write a fault of our own to the log, by kind and place but without any text that may hold a request, and return the envelope."""
    places = traceback.extract_tb(error.__traceback__)[-4:]
    where = " < ".join(f"{place.filename.rsplit('/', 1)[-1]}:{place.lineno}" for place in reversed(places))
    LOG.error("a fault in burnish: %s at %s", type(error).__name__, where)
    return envelope(500, f"A fault in burnish ({type(error).__name__}); the server's log says where.", code="internal_error")


def _said(request: Request, error: HTTPException) -> str:
    """Return what an error says; where only a framework spoke, in words of our own."""
    if isinstance(error, ApiError):
        return error.detail
    if error.status_code == 404:
        return f"There is no {request.method} route of this name. GET /openapi.json lists all of them."
    if error.status_code == 405:
        return f"{request.method} is not what this route answers to. GET /openapi.json lists all of them."
    return str(error.detail)


def _problem(one: Mapping[str, Any]) -> tuple[str | None, str]:
    """Return the parameter of a validation problem and a sentence about it, without the value that was sent."""
    place = [str(part) for part in one["loc"] if part not in ("body", "query", "path", "header")]
    param = ".".join(place) or None
    return param, f"{param or 'the body'}: {one['msg']}"
