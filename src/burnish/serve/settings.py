"""What a server allows: where it listens, who may ask, and how much.

Enters: options of the command line. Leaves: `Settings`, which every other module of this room reads.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from burnish.retrieval import Passage

MEGABYTE = 1 << 20
Look = Callable[[str], Sequence[Passage]]
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Settings:
    """The limits of a server, each with the value that the command line starts from.

    `key_hash` is the SHA-256 of the key that every route asks for, None where none is asked for: the key itself is not kept. `hosts` are
    names that a request may call this server by, beside those of the machine. `runs` is the folder in which runs are looked for.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    key_hash: bytes | None = field(default=None, repr=False)
    hosts: tuple[str, ...] = ()
    runs: Path = Path("runs")
    look: Look | None = field(default=None, repr=False)
    """What finds passages of the server's documents for a question; None: there are none."""
    body_bytes: int = 4 * MEGABYTE
    """Of a request that is not an upload (multipart/form-data)."""
    upload_bytes: int = 512 * MEGABYTE
    body_seconds: float = 30.0
    """In which a body must have come; an upload: in which its next piece must."""
    header_bytes: int = 32 * 1024
    head_seconds: float = 15.0
    """In which a new connection must have sent the headers of a request."""
    connections: int = 512
    dtype: str = "auto"
    """Number format of weights that are loaded: auto (bfloat16 where the processor is fast at it), float32, bfloat16 or float16."""
    rows: int = 32
    """Answers made at once, by each base."""
    queue: int = 256
    """Answers that may wait for a place; more are refused with 429."""
    queue_seconds: float = 60.0
    answer_seconds: float = 600.0
    max_tokens: int = 4096
    """That one answer may have; what is asked for above it is refused."""
    choices: int = 16
    stops: int = 16
    stop_length: int = 512
    schema_bytes: int = 64 * 1024
    messages: int = 1024
    texts: int = 256
    tools: int = 128
    prefix_bytes: int = 256 * MEGABYTE
    """Of the past of prompts that are kept, by each base, for prompts that begin alike; 0: none."""
    drain_seconds: float = 30.0
    jobs: int = 1
    """Fine-tuning jobs carried out at once."""
    waiting_jobs: int = 100
    """Fine-tuning jobs that may wait; more are refused with 429."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    def knows_host(self, name: str) -> bool:
        """Return whether a request may call this server by a name: an attacker's page can point a name of its own at any address.

        Plain addresses are always meant; a name must be this machine's, or one that the server was started with.
        """
        name = name.lower().rstrip(".")
        if name in LOOPBACK or name in {known.lower() for known in self.hosts}:
            return True
        if self.is_local:
            return False
        return _is_address(name) or name in {self.host.lower(), socket.gethostname().lower()}

    def knows_key(self, given: str) -> bool:
        """Return whether a key is the server's, in a time that does not depend on where it differs."""
        return self.key_hash is None or secrets.compare_digest(hash_of(given), self.key_hash)


def hash_of(key: str) -> bytes:
    """Return what is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def new_key() -> str:
    """Return a fresh key for a server that others can reach."""
    return f"sk-burnish-{secrets.token_urlsafe(24)}"


def is_loopback(host: str) -> bool:
    """Return whether an address to listen on is this machine's own, out of reach for others."""
    if host == "localhost":
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
