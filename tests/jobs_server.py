"""A server for tests of jobs, and how a client's program waits for one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai

from burnish.serve.settings import Settings
from serving import offered, running

FINAL = ("succeeded", "failed", "cancelled")


@contextmanager
def serving(folder: Path, *models: tuple[str, Path], **limits: Any) -> Iterator[openai.OpenAI]:
    """Run a server with its runs in a folder, and give the unmodified client of the hosted service: only base_url is another."""
    settings = Settings(runs=folder / "runs", **limits)
    with running(offered(settings, **dict(models)), settings) as server, server.client() as client:
        yield client


def client_of(base_url: str) -> openai.OpenAI:
    """Return the client for a server in another process."""
    return openai.OpenAI(base_url=base_url, api_key="unused", max_retries=0, timeout=60)


def until(client: openai.OpenAI, job: str, *states: str, seconds: float = 240.0) -> Any:
    """Ask for a job, as a client's program does, until it is in one of these states."""
    end = time.monotonic() + seconds
    while (now := client.fine_tuning.jobs.retrieve(job)).status not in states:
        assert now.status not in FINAL and time.monotonic() < end, now.to_json()
        time.sleep(0.05)
    return now
