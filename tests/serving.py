"""A real server for tests: uvicorn in a thread, on a port of its own, asked by the official client or byte by byte."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import uvicorn
from openai import OpenAI

from burnish import api
from burnish.models import adapt, load_model, save_model
from burnish.serve.app import create_app
from burnish.serve.run import configuration
from burnish.serve.served import Served
from burnish.serve.settings import Settings
from burnish.techniques import TECHNIQUES
from stub import cpu

ORDER = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "amount": {"type": "integer"}},
    "required": ["name", "amount"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def write_adapter(base: Path, folder: Path, seed: int, technique: str = "lora", settings: Any = None, **options: Any) -> Path:
    """Write an adapter that says something quite different from its base."""
    model = load_model(str(base), cpu())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapt(model, TECHNIQUES[technique], options)
        for parameter in model.network.parameters():
            if parameter.requires_grad:
                parameter.data += 0.2 * torch.randn_like(parameter)
    folder.mkdir(parents=True)
    save_model(model, folder, settings=settings)
    return folder


def alone(folder: Path, prompts: list[str], *, task: str | None = None, **options: Any) -> list[dict[str, Any]]:
    """Return what `burnish generate` says of prompts, in float32: the server is another door to the same sampler."""
    return api.generate(api.load(folder, dtype="float32", task=task), prompts, **options)


@dataclass(frozen=True)
class Server:
    """A server that listens."""

    served: Served
    port: int
    uvicorn: uvicorn.Server
    thread: threading.Thread

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> OpenAI:
        return OpenAI(**{"base_url": f"{self.url}/v1", "api_key": "none", "max_retries": 0, "timeout": 60, **options})

    def raw(self, data: bytes, *, seconds: float = 10.0) -> bytes:
        """Send bytes and return all that comes back until the server closes or nothing comes for a while."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            connection.sendall(data)
            connection.settimeout(seconds)
            found = b""
            try:
                while part := connection.recv(65536):
                    found += part
            except TimeoutError:
                pass
            return found

    def idle(self, seconds: float = 10.0) -> bool:
        """Return whether, before long, no row is under way and none waits."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.served.engine.rows_now == (0, 0) and not self.served.engine.tickets:
                return True
            time.sleep(0.01)
        return False


@contextmanager
def running(served: Served, settings: Settings | None = None) -> Iterator[Server]:
    """Run a server for the models inside the `with` block; where the settings name no folder of runs, in one of its own."""
    allowed = settings or served.settings
    with tempfile.TemporaryDirectory(prefix="burnish-runs-") as aside:
        yield from _running(served, allowed if allowed.runs != Settings().runs else replace(allowed, runs=Path(aside)))


def _running(served: Served, allowed: Settings) -> Iterator[Server]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(configuration(create_app(served, allowed), allowed))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    assert server.started
    try:
        yield Server(served, listener.getsockname()[1], server, thread)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the server did not stop"


def offered(settings: Settings, **models: Path) -> Served:
    """Return what a server offers of folders, everything in float32 on the CPU."""
    served = Served(settings=settings)
    for name, folder in models.items():
        served.open(name, str(folder))
    return served
