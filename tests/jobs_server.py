"""A server of this process for tests of jobs, and the official client that talks to it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import uvicorn

from burnish.serve.app import create_app
from burnish.serve.run import configuration
from burnish.serve.served import Served
from burnish.serve.settings import Settings

FINAL = ("succeeded", "failed", "cancelled")


@contextmanager
def serving(folder: Path, *models: tuple[str, Path], **limits: Any) -> Iterator[openai.OpenAI]:
    """Run a server with its runs in a folder, and give the unmodified client of the hosted service: only base_url is another."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    settings = Settings(port=listener.getsockname()[1], runs=folder / "runs", **limits)
    served = Served(settings=settings)
    for name, model in models:
        served.open(name, str(model))
    server = uvicorn.Server(configuration(create_app(served, settings), settings))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    client = client_of(f"http://127.0.0.1:{settings.port}/v1")
    try:
        yield client
    finally:
        client.close()
        server.should_exit = True
        thread.join(timeout=30)
        listener.close()


def client_of(base_url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=base_url, api_key="unused", max_retries=0, timeout=60)


def until(client: openai.OpenAI, job: str, *states: str, seconds: float = 240.0) -> Any:
    """Ask for a job, as a client's program does, until it is in one of these states."""
    end = time.monotonic() + seconds
    while (now := client.fine_tuning.jobs.retrieve(job)).status not in states:
        assert now.status not in FINAL and time.monotonic() < end, now.to_json()
        time.sleep(0.05)
    return now
