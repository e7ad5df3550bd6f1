"""What stands before every route: who may ask, by which name, from which page, and how much may be sent.

Enters: every HTTP request, before anything of it is understood. Leaves: the same request, whose body is counted and timed as it is read, or
a refusal. It asks nothing about the path, so that no way of writing a path goes around it. Sources of the rules: CVE-2026-48746 (key check
by path), CVE-2025-62593 (a browser led to a local server by its own name for it).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from burnish.serve.metrics import Metrics
from burnish.serve.problems import LOG, ApiError, envelope, fault
from burnish.serve.settings import Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""Added to every answer that does not set them itself."""


class Guard:
    """The outermost part of the app; a class because that is what Starlette takes."""

    def __init__(self, app: App, settings: Settings, watch: Metrics | None = None) -> None:
        self.app, self.settings, self.watch = app, settings, watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or hand it on with limits on its body and headers on its answer."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        began = time.perf_counter()
        status = 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                there = {name.lower() for name, _ in message.get("headers", ())}
                message["headers"] = [*message.get("headers", ()), *(pair for pair in HEADERS if pair[0] not in there)]
            await send(message)

        try:
            headers = Headers(scope)
            self._admit(headers)
            await self.app(scope, self._limited(headers, receive), told)
        except ApiError as error:
            if status:
                raise
            body = envelope(error.status_code, error.detail, param=error.param, code=error.code)
            await _answer(told, error.status_code, body, dict(error.headers or {}))
        except Exception as error:
            said = fault(error)
            if status:
                raise ConnectionAbortedError("the answer had begun") from None
            await _answer(told, 500, said, {})
        finally:
            route = getattr(scope.get("route"), "path", "-")  # the route's own name: a path may hold what nobody should read
            seconds = time.perf_counter() - began
            LOG.info("%s %s %d %.1f ms", scope["method"], route, status, 1000 * seconds)
            if self.watch is not None:
                self.watch.count("requests", route=route, status=str(status))
                self.watch.observe("request_seconds", seconds)

    def _admit(self, headers: Headers) -> None:
        """Raise the ApiError of a request that may not come in."""
        if sum(len(name) + len(value) for name, value in headers.pairs) > self.settings.header_bytes:
            raise ApiError(431, f"The headers are longer than {self.settings.header_bytes:,} bytes.", code="headers_too_large")
        host = headers.one("host")
        name = None if host is None else host_name(host)
        if host is None or name is None:
            raise ApiError(400, "The Host header is missing or cannot be read.", code="invalid_host")
        if not self.settings.knows_host(name):
            raise ApiError(
                403, "This server is not known by that name. Start it with --allow-host NAME if it should be.", code="invalid_host"
            )
        origin = headers.one("origin")
        if origin is not None and not _is_same(origin, host):
            raise ApiError(403, "Requests from pages of another origin are refused.", code="invalid_origin")
        if headers.one("sec-fetch-site") in ("cross-site", "same-site"):
            raise ApiError(403, "Requests from pages of another site are refused.", code="invalid_origin")
        if self.settings.key_hash is not None and not any(self.settings.knows_key(key) for key in headers.keys_given()):
            asks = "Basic realm=burnish" if "text/html" in (headers.one("accept") or "") else "Bearer"
            raise ApiError(
                401,
                "This server asks for a key: send it as Authorization: Bearer KEY (a browser: as the password, with any user name).",
                code="invalid_api_key",
                headers={"www-authenticate": asks},
            )

    def _limited(self, headers: Headers, receive: Receive) -> Receive:
        """Return `receive` with limits on how large a body may be and how long it may take; raises from where the body is read."""
        upload = (headers.one("content-type") or "").lower().startswith("multipart/form-data")
        most = self.settings.upload_bytes if upload else self.settings.body_bytes
        length = headers.one("content-length")
        if length is not None and (not length.isdecimal() or int(length) > most):
            raise _too_large(most)
        got, until, complete = 0, time.monotonic() + self.settings.body_seconds, False

        async def limited() -> Message:
            nonlocal got, until, complete
            if complete:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, until - time.monotonic()))
            except TimeoutError:
                raise ApiError(
                    408,
                    f"The body did not come within {self.settings.body_seconds:g} s.",
                    code="timeout",
                    headers={"connection": "close"},
                ) from None
            if message["type"] == "http.request":
                got += len(message.get("body", b""))
                complete = not message.get("more_body", False)
                if got > most:
                    raise _too_large(most)
                if upload:
                    until = time.monotonic() + self.settings.body_seconds
            return message

        return limited


class Headers:
    """The headers of a request; one that stands twice where it may stand once counts as unreadable."""

    def __init__(self, scope: Scope) -> None:
        self.pairs = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]

    def one(self, name: str) -> str | None:
        """Return the value of a header, None where it is missing; ApiError where it stands twice."""
        values = [value for key, value in self.pairs if key == name.encode()]
        if len(values) > 1:
            raise ApiError(400, f"The header {name} stands more than once.", code="invalid_header")
        return values[0] if values else None

    def keys_given(self) -> list[str]:
        """Return the key of the Authorization header: a bearer token, or the password of basic authentication."""
        kind, _, value = (self.one("authorization") or "").partition(" ")
        if kind.lower() == "bearer":
            return [value.strip()]
        if kind.lower() == "basic":
            try:
                return [base64.b64decode(value, validate=True).decode("utf-8").partition(":")[2]]
            except (binascii.Error, UnicodeDecodeError):
                return []
        return []


def host_name(host: str) -> str | None:
    """Return the name in a Host header, without its port and an address's brackets; None where it cannot be read."""
    if not host or any(letter in host for letter in "/\\@?#, \t"):
        return None
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises where it is no number
    except ValueError:
        return None
    return parts.hostname or None


def _is_same(origin: str, host: str) -> bool:
    """Return whether an Origin header names the server that the Host header names."""
    scheme, _, rest = origin.partition("://")
    return scheme in ("http", "https") and rest.lower() == host.lower()


def _too_large(most: int) -> ApiError:
    return ApiError(
        413, f"The body is larger than the {most:,} bytes that are taken.", code="body_too_large", headers={"connection": "close"}
    )


async def _answer(send: Send, status: int, body: dict[str, Any], headers: dict[str, str]) -> None:
    """Send an answer without the framework."""
    content = json.dumps(body).encode()
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    pairs += [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": content})
