"""What every test runs under: offline, one thread, no settings of the person who runs it.

The network guard lets a test talk to this machine only (servers, two processes over gloo). It fails the test with an outcome that
`except Exception` does not catch, so that code which hides a failed connection is found out too.
"""

from __future__ import annotations

import atexit
import ipaddress
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

# Before anything imports torch or huggingface_hub, which read these once. Two cores are shared by everybody: one thread each.
os.environ.update({"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""})
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="burnish-tests-")  # what runs keep for other runs goes with this session

import pytest
from hypothesis import settings

atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# `make test` draws the same examples each time, so that a red run shows what was changed; `make test-all` draws new ones.
settings.register_profile("same", derandomize=True)
settings.register_profile("new", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

KEPT = {"BURNISH_DATA"}
"""Says where real data lies, which tests are allowed to know; every other BURNISH_ variable changes what is being tested."""


def is_local(address: Any) -> bool:
    """Return whether a socket address names this machine: a path, localhost, or a loopback number."""
    if not isinstance(address, tuple):
        return True
    host = str(address[0]).split("%")[0]
    if host in {"", "localhost"}:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Fail whatever connects, or asks for the address of, another machine."""
    patch = pytest.MonkeyPatch()
    real = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex")}
    real_lookup = socket.getaddrinfo

    def guarded(name: str) -> Any:
        def connect(self: socket.socket, address: Any) -> Any:
            if not is_local(address):
                pytest.fail(f"a test reached for the network: {name} {address!r}")
            return real[name](self, address)

        return connect

    def lookup(host: Any, *rest: Any, **named: Any) -> Any:
        own = {None, socket.gethostname(), socket.getfqdn()}  # asked for by servers that listen on every address
        name = host.decode() if isinstance(host, bytes) else host
        if name not in own and not is_local((name, 0)):
            pytest.fail(f"a test reached for the network: address of {name!r}")
        return real_lookup(host, *rest, **named)

    for name in real:
        patch.setattr(socket.socket, name, guarded(name))
    patch.setattr(socket, "getaddrinfo", lookup)
    yield
    patch.undo()


def exact_torch() -> None:
    """Put torch back to one thread, exact products and a known default dtype."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)
        torch.set_float32_matmul_precision("highest")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take away what a person's shell may set, and put torch back to one thread, exact products and a known default dtype."""
    for name in list(os.environ):
        personal = name.startswith("BURNISH_") and name not in KEPT
        if personal or name in {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WORLD_SIZE", "RANK", "LOCAL_RANK"}:
            monkeypatch.delenv(name)
    exact_torch()
    yield
    exact_torch()  # what a module shares is made before the first of its tests comes here
