"""The bodies of answers, in the shapes that clients of the OpenAI interface read.

Enters: answers of the sampler. Leaves: JSON objects, whole or as chunks of a stream. Chunks are written as bytes around the one part that
changes: a busy server writes thousands a second.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from burnish.sampling import Generated

END = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Shape:
    """One of the two kinds of answers: a message of a conversation, or a continued text."""

    chat: bool
    model: str
    usage: bool = False
    """Whether a stream tells its tokens at its end; every other chunk then says that it does not."""
    ident: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def head(self, *, chunk: bool) -> dict[str, Any]:
        """Return what stands in front of every body."""
        kind = ("chat.completion.chunk" if chunk else "chat.completion") if self.chat else "text_completion"
        return {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{self.ident}",
            "object": kind,
            "created": self.created,
            "model": self.model,
        }

    def whole(self, choices: list[dict[str, Any]], usage: dict[str, int]) -> dict[str, Any]:
        """Return a whole answer."""
        return {**self.head(chunk=False), "choices": choices, "usage": usage}

    def chunk(self, choices: list[dict[str, Any]]) -> bytes:
        """Return a chunk of a stream."""
        return event({**self.head(chunk=True), "choices": choices, **({"usage": None} if self.usage else {})})

    def last(self, usage: dict[str, int]) -> bytes:
        """Return the chunk that tells the tokens."""
        return event({**self.head(chunk=True), "choices": [], "usage": usage})

    def around(self, number: int) -> tuple[bytes, bytes]:
        """Return what stands before and after the text of a choice's chunk, without log-probabilities."""
        marked = {"index": number, "delta": {"content": "@"}} if self.chat else {"index": number, "text": "@"}
        before, after = self.chunk([{**marked, "logprobs": None, "finish_reason": None}]).split(b'"@"')
        return before, after


def event(body: dict[str, Any]) -> bytes:
    """Return a server-sent event."""
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def usage_of(prompt: int, answers: Sequence[Generated]) -> dict[str, int]:
    """Return how many tokens were read and written, ends of answers included."""
    written = sum(len(one.tokens) + (one.end_id is not None) for one in answers)
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def reason_of(answer: Generated, *, shortened: bool = False) -> str:
    """Return why an answer ended: "length" also where it was brought to its end because the limit came near."""
    return "length" if shortened or answer.stop_reason == "length" else "stop"


# ------------------------------------------------------------------------------------------------------------- log-probabilities


@lru_cache(maxsize=1 << 18)
def spoken(tokenizer: Any, token: int) -> tuple[str, tuple[int, ...]]:
    """Return a token as text, and its bytes; one that is no whole character stands as its bytes."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = {letter: byte for byte, letter in bytes_to_unicode().items()}
    written = str(tokenizer.convert_ids_to_tokens(token))
    if token in tokenizer.all_special_ids or not all(letter in letters for letter in written):
        text = tokenizer.backend_tokenizer.decode([token], skip_special_tokens=False)
        return text, tuple(text.encode())
    raw = bytes(letters[letter] for letter in written)
    try:
        return raw.decode(), tuple(raw)
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw), tuple(raw)


def chat_entry(tokenizer: Any, token: int, logprob: float, likeliest: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """Return a token's log-probability as a conversation tells it."""

    def one(number: int, value: float) -> dict[str, Any]:
        text, raw = spoken(tokenizer, number)
        return {"token": text, "logprob": value, "bytes": list(raw)}

    return {**one(token, logprob), "top_logprobs": [one(number, value) for number, value in likeliest]}


def text_entries(tokenizer: Any, found: Sequence[tuple[int, float, Sequence[tuple[int, float]]]], offset: int) -> dict[str, Any]:
    """Return tokens' log-probabilities as a continued text tells them, its first character at `offset`."""
    texts = [spoken(tokenizer, token)[0] for token, _, _ in found]
    offsets = [offset + sum(map(len, texts[:number])) for number in range(len(texts))]
    return {
        "tokens": texts,
        "token_logprobs": [logprob for _, logprob, _ in found],
        "top_logprobs": [{spoken(tokenizer, number)[0]: value for number, value in best} or None for _, _, best in found],
        "text_offset": offsets,
    }
