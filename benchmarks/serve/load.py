"""Servers as processes, and clients that load them: raw sockets, so that what is measured is the server and little of the client.

Enters: commands of servers, and requests. Leaves: for each request when it was sent, when its first and last piece of text came, and its text.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Served:
    """A server that is up: its port, the name of its model, and its process."""

    port: int
    model: str
    pid: int


@dataclass
class Asked:
    """One request: times in seconds, its text, its status, and whether the client left in the middle."""

    sent: float
    first: float = 0.0
    last: float = 0.0
    text: str = ""
    status: int = 0
    left: bool = False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def server(command: list[str], model: str, *, threads: int, wait: float = 180.0) -> Iterator[Served]:
    """Run a server until the end of the `with` block; `{port}` in the command is a free port."""
    port = free_port()
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen(
        [part.format(port=port) for part in command], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + wait
        while True:
            assert process.poll() is None, f"{command[:3]} ended with {process.returncode}"
            assert time.monotonic() < until, f"{command[:3]} did not come up in {wait:g} s"
            try:
                asyncio.run(get(port, "/health"))
                break
            except OSError:
                time.sleep(0.2)
        yield Served(port, model, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def burnish(model: str, *more: str) -> list[str]:
    """Return the command of `burnish serve`."""
    return [sys.executable, "-m", "burnish", "serve", model, *more, "--port", "{port}"]


async def get(port: int, path: str) -> str:
    """Return the body of a route."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
    found = await reader.read()
    writer.close()
    return found.decode().partition("\r\n\r\n")[2]


async def ask(on: Served, content: str, *, tokens: int, leave_after: int = 0, **more: object) -> Asked:
    """Send one streamed request for a chat message and read its answer; with `leave_after` pieces, leave in the middle."""
    body = json.dumps(
        {"model": on.model, "messages": [{"role": "user", "content": content}], "max_tokens": tokens, "stream": True, **more}
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{on.port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    asked = Asked(time.perf_counter())
    reader, writer = await asyncio.open_connection("127.0.0.1", on.port, limit=1 << 22)
    writer.write(head.encode() + body)
    pieces = 0
    try:
        async for line in reader:
            if line.startswith(b"HTTP/1.1 "):
                asked.status = int(line.split()[1])
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                asked.status = 500
                continue
            piece = (event["choices"][0]["delta"].get("content") or "") if event["choices"] else ""
            if piece:
                asked.last = time.perf_counter()
                asked.first = asked.first or asked.last
                asked.text += piece
                pieces += 1
                if leave_after and pieces >= leave_after:
                    asked.left = True
                    break
    finally:
        writer.close()
    return asked


def resident(pid: int) -> int:
    """Return the bytes that a process holds."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024
