"""Run a server until it is told to stop.

Enters: what the command line was given. Leaves: nothing; the process answers requests until SIGTERM or Ctrl-C, then lets those under way
finish. A second signal ends it at once.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn

from burnish.errors import UsageError
from burnish.serve.app import create_app
from burnish.serve.served import Served, split_name
from burnish.serve.settings import Look, Settings, hash_of, is_loopback, new_key
from burnish.terminal import say

SHORTEST_KEY = 16


def run(
    models: list[str],
    *,
    base: str | None,
    host: str,
    port: int,
    key_file: Path | None,
    hosts: tuple[str, ...],
    runs: Path,
    dtype: str = "auto",
    jobs: int = 1,
    look: Look | None = None,
) -> None:
    """Open the models, listen, and answer until a signal comes; `look` finds passages of documents for the page."""
    key, fresh = _key(host, key_file)
    settings = Settings(
        host=host,
        port=port,
        key_hash=None if key is None else hash_of(key),
        hosts=hosts,
        runs=runs,
        dtype=dtype,
        jobs=jobs,
        look=look,
    )
    with _listener(host, port) as listener:
        served = Served(settings=settings)
        for name, model in map(split_name, [*models, *([base] if base else [])]):
            offer = served.open(name, model)
            for note in offer.notes:
                say(f"{name} is loaded by itself and shares no base: {note}.")
        app = create_app(served, settings)
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        say(
            f"Serving {', '.join(offer.name for offer in served.all())} at {address} (OpenAI interface: {address}/v1). Ctrl-C stops."
        )
        if fresh:
            say(f"Key, shown this once: {key}")
        uvicorn.Server(configuration(app, settings)).run(sockets=[listener])


def configuration(app: Any, settings: Settings) -> uvicorn.Config:
    """Return how uvicorn runs the app: limits on headers and connections, and no log of paths, which may hold what nobody should read."""
    return uvicorn.Config(
        app,
        http=_timed(settings.head_seconds),  # pyright: ignore[reportArgumentType]  (any callable that makes a protocol)
        h11_max_incomplete_event_size=settings.header_bytes,
        limit_concurrency=settings.connections,
        timeout_graceful_shutdown=int(settings.drain_seconds),
        access_log=False,
        log_level="warning",
        server_header=False,
        ws="none",
    )


def _timed(seconds: float) -> Callable[..., Any]:
    """Return uvicorn's protocol, whose new connections are closed where the headers of their first request do not come in time."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    def protocol(*inputs: Any, **options: Any) -> H11Protocol:
        made = H11Protocol(*inputs, **options)
        connected = made.connection_made

        def connection_made(transport: Any) -> None:
            connected(transport)
            made.loop.call_later(seconds, lambda: transport.close() if made.cycle is None else None)

        made.connection_made = connection_made  # type: ignore[method-assign]
        return made

    return protocol


def _key(host: str, key_file: Path | None) -> tuple[str | None, bool]:
    """Return the key that requests must bring (None: none), and whether it was made just now."""
    if key_file is not None:
        try:
            key = key_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"--key-file {key_file}: cannot be read ({type(error).__name__}). Give a text file that holds the key."
            ) from error
    else:
        key = os.environ.get("BURNISH_API_KEY", "").strip()
    if key and len(key) < SHORTEST_KEY:
        raise UsageError(f"The key is too short: at least {SHORTEST_KEY} characters. Leave it away to have one made.")
    if key_file is not None and not key:
        raise UsageError(f"--key-file {key_file}: is empty. Put the key in it, or leave --key-file away to have one made.")
    if key:
        return key, False
    return (None, False) if is_loopback(host) else (new_key(), True)


def _listener(host: str, port: int) -> socket.socket:
    """Return a listening socket, opened before any weights are read; UsageError where the address cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise UsageError(f"--host {host} --port {port}: cannot listen there ({error.strerror}). Choose another --port.") from error
    return listener
