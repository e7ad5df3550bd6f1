"""Let a model behind an OpenAI-compatible server write: prompts in, replies out, over HTTP with the standard library alone.

Called by `synthesize`. The key comes from the environment, goes into one header, and is neither written nor shown; it is not sent in the
clear to another machine, and redirects are not followed, which would carry it elsewhere. Whatever the server says is data.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, urlsplit

from burnish.errors import ConfigError, RunError
from burnish.synthesize import Asked, Reply, Write

KEY_VARIABLE = "OPENAI_API_KEY"
LARGEST_ANSWER = 4_000_000
"""Bytes of an answer that are read: far more than any reply, and little beside the memory of a laptop."""
LONGEST_WAIT = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """An OpenAI-compatible server: the address up to and with /v1, how long one answer may take, how often it is asked again.

    The key is never part of what is printed of it.
    """

    address: str
    key: str = field(default="", repr=False)
    timeout: float = 120.0
    tries: int = 4
    wait: Callable[[float], None] = time.sleep


def open_server(address: str, *, key_variable: str = KEY_VARIABLE, timeout: float = 120.0, tries: int = 4) -> Server:
    """Return the server at an address, with the key from the environment variable where it is set ('' for none).

    Raises ConfigError for an address that is none, that holds a password, or to which the key would travel in the clear.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{address!r} is no address of a server; expected http://HOST:PORT/v1 or https://HOST/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError(
            "The server's address holds a user, a query or a fragment. Give the address alone, and the key in an environment variable "
            f"(--key-variable, else {KEY_VARIABLE})."
        )
    key = os.environ.get(key_variable, "").strip() if key_variable else ""
    if key and parts.scheme == "http" and not _is_this_machine(parts):
        raise ConfigError(
            f"{key_variable} is set, and over http everyone on the way to {parts.hostname} could read it. Use https, or --key-variable '' "
            f"to send no key."
        )
    if any(character in key for character in "\r\n"):
        raise ConfigError(f"{key_variable} holds a line break; expected a key")
    path = parts.path.rstrip("/")
    return Server(f"{parts.scheme}://{parts.netloc}{path or '/v1'}", key, timeout, tries)


def _is_this_machine(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def model_of(server: Server, name: str | None = None) -> str:
    """Return the model's name: as given, or the only one that the server has. Raises ConfigError where it has none or several."""
    if name:
        return name
    answer = _asked(server, "/models", None)
    listed = answer.get("data") if isinstance(answer, dict) else None
    names = [one["id"] for one in listed or [] if isinstance(one, dict) and isinstance(one.get("id"), str)]
    if len(names) != 1:
        told = f"it has {', '.join(names[:10])}" if names else "it names none"
        raise ConfigError(f"Which model of {server.address} is to write? {told}. Give one: --server-model NAME")
    return names[0]


def server_writer(server: Server, model: str, *, temperature: float = 0.7, parallel: int = 4) -> Write:
    """Return a function that lets the server's model answer prompts, `parallel` at a time.

    A prompt that gets no usable answer after several tries has the reason in its place. Raises RunError where the server refuses the
    request itself (no such model, wrong key): asking again would change nothing.
    """

    def reply(one: Asked) -> Reply:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": one.prompt}],
            "temperature": temperature,
            "max_tokens": one.max_tokens,
            "seed": one.number % 2**31,
        }
        try:
            return _read_reply(_asked(server, "/chat/completions", body))
        except TimeoutError as error:
            return Reply("", problem=str(error))

    def write(asked: Sequence[Asked]) -> list[Reply]:
        with ThreadPoolExecutor(max_workers=parallel) as pool:
            return list(pool.map(reply, asked))

    return write


def _read_reply(answer: Any) -> Reply:
    """Return the text of the first choice of a completion, or the problem where the answer is something else."""
    try:
        choice = answer["choices"][0]
        text = choice["message"]["content"]
    except (KeyError, IndexError, TypeError):
        text = choice = None
    if not isinstance(text, str) or not isinstance(choice, dict):
        return Reply("", problem="the server's answer is no chat completion")
    return Reply(text, choice.get("finish_reason") != "length")


def _asked(server: Server, path: str, body: dict[str, Any] | None) -> Any:
    """Return the JSON that the server answers, asking again after a failure that may pass, each time after a longer pause.

    Raises TimeoutError where no try succeeded, RunError where the server refuses.
    """
    problem, pause = "", 0.0
    for attempt in range(server.tries):
        if attempt:
            server.wait(pause)
        pause = min(LONGEST_WAIT, 2.0**attempt)
        try:
            return json.loads(_exchange(server, path, body))
        except urllib.error.HTTPError as error:
            with error:
                problem = _refusal(server, error)
                if error.code not in (408, 409, 425, 429) and error.code < 500:
                    raise RunError(f"{server.address}{path}: {problem}") from None
                pause = _retry_after(error.headers.get("Retry-After"), pause)
        except (OSError, HTTPException, ValueError, RecursionError) as error:  # no connection, a time-out, half an answer, no JSON
            problem = f"{type(error).__name__}: {_hidden(server, str(error))[:200]}"
    if path == "/models":
        raise RunError(f"{server.address} does not answer ({problem}). Is it running, and is the address right?")
    raise TimeoutError(problem)


def _exchange(server: Server, path: str, body: dict[str, Any] | None) -> bytes:
    """Return the bytes of one answer. The whole of it must arrive: half an answer raises ValueError."""
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "burnish"}
    if server.key:
        headers["Authorization"] = f"Bearer {server.key}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.address + path, data=data, headers=headers, method="POST" if data else "GET")
    with _opener(server).open(request, timeout=server.timeout) as answer:
        content = answer.read(LARGEST_ANSWER + 1)
    if len(content) > LARGEST_ANSWER:
        raise ValueError(f"the answer is longer than {LARGEST_ANSWER:,} bytes")
    return content


def _opener(server: Server) -> urllib.request.OpenerDirector:
    """Return what opens addresses: no redirects, no files, and no proxy for this machine."""
    opener = urllib.request.OpenerDirector()
    kinds: list[Callable[[], urllib.request.BaseHandler]] = [
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
    ]
    if not _is_this_machine(urlsplit(server.address)):
        kinds.append(partial(urllib.request.ProxyHandler, None))
    for kind in kinds:
        opener.add_handler(kind())
    return opener


def _refusal(server: Server, error: urllib.error.HTTPError) -> str:
    """Return what the server said, in one line, the key blanked out."""
    told = _hidden(server, error.read(2000).decode("utf-8", "replace"))
    advice = {
        401: " Is the key right (see --key-variable)?",
        403: " Is the key allowed to use this model?",
        404: " Is the address right (up to /v1), and does the server have this model?",
    }.get(error.code, " Redirects are not followed; give the final address." if 300 <= error.code < 400 else "")
    return f"HTTP {error.code}{advice} ({' '.join(told.split())[:200]})"


def _hidden(server: Server, text: str) -> str:
    return text.replace(server.key, "***") if server.key else text


def _retry_after(value: str | None, pause: float) -> float:
    """Return how many seconds the server asks to wait, at most a minute; the own pause where it asks nothing understandable."""
    try:
        return min(LONGEST_WAIT, max(pause, float(value or "")))
    except ValueError:
        return pause
