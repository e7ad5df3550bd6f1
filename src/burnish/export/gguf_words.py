"""GGUF, read again: from text to tokens as a runtime does it that knows nothing but the file's metadata.

Enters: the metadata of a GGUF file. Leaves: a function from text to tokens: byte-level BPE under the rule for words that the file names, or
SentencePiece's merging by scores. Written from llama.cpp's description of both, apart from what wrote the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from burnish.errors import ModelError

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
WORDS: dict[str, tuple[str, ...]] = {
    "gpt-2": (GPT2,),
    "smollm": (r"\p{N}", GPT2),
    "llama-bpe": (_LLAMA3.replace("DIGITS", "{1,3}"),),
    "qwen2": (_LLAMA3.replace("DIGITS", ""),),
    "tekken": (
        r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+|[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))+((?=[\p{L}])([^A-Z]))*"
        r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
}
"""llama.cpp's rules for words, by the names that stand in files."""

WHOLE_FIRST = {"llama-bpe", "tekken"}
UNKNOWN, CONTROL, USER, UNUSED = 2, 3, 4, 5


def cutter(facts: Mapping[str, Any]) -> Callable[[str], list[int]]:
    """Return the function from text to tokens that a file's metadata describe."""
    tokens, kinds = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.token_type"]
    pieces = facts["tokenizer.ggml.model"] == "llama"
    inner = _by_scores(facts) if pieces else _by_merges(facts)
    # A longer mark is found before a shorter one that begins like it.
    marks = {
        token: number
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (UNKNOWN, CONTROL, USER) and token
    }
    if not marks:
        return inner
    found = re.compile("|".join(re.escape(mark) for mark in sorted(marks, key=len, reverse=True)))

    def cut(text: str) -> list[int]:
        ids, place = [], 0
        for match in found.finditer(text):
            ids += inner(text[place : match.start()]) if match.start() > place else []
            ids.append(marks[match[0]])
            place = match.end()
        return ids + (inner(text[place:]) if place < len(text) else [])

    return cut


def _by_merges(facts: Mapping[str, Any]) -> Callable[[str], list[int]]:
    """Return byte-level BPE: words by the named rule, then pairs of bytes merged in the file's order."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    pre = facts["tokenizer.ggml.pre"]
    if pre not in WORDS:
        raise ModelError(f"the file names a rule for words that is not known here: {pre!r}.")
    vocabulary = {token: number for number, token in enumerate(facts["tokenizer.ggml.tokens"])}
    merges = [tuple(pair.split(" ", 1)) for pair in facts["tokenizer.ggml.merges"]]
    raw = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=pre in WHOLE_FIRST))  # pyright: ignore[reportArgumentType]
    splits: list[Any] = [pre_tokenizers.Split(Regex(rule), "isolated") for rule in WORDS[pre]]
    raw.pre_tokenizer = pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return lambda text: raw.encode(text, add_special_tokens=False).ids


def _by_scores(facts: Mapping[str, Any]) -> Callable[[str], list[int]]:
    """Return SentencePiece's BPE: the pair of neighbours whose token has the best score is merged first; bytes for what is left."""
    scores: dict[str, float] = {}
    ids: dict[str, int] = {}
    kinds = facts["tokenizer.ggml.token_type"]
    for number, token in enumerate(facts["tokenizer.ggml.tokens"]):
        ids.setdefault(token, number)
        if kinds[number] not in (CONTROL, UNUSED):
            scores.setdefault(token, facts["tokenizer.ggml.scores"][number])

    @lru_cache(maxsize=4096)
    def word(text: str) -> tuple[int, ...]:
        parts = list(text)
        while len(parts) > 1:
            best, place = max(
                ((scores.get(parts[i] + parts[i + 1], float("-inf")), -i) for i in range(len(parts) - 1)),
                default=(float("-inf"), 0),
            )
            if best == float("-inf"):
                break
            parts[-place : -place + 2] = [parts[-place] + parts[-place + 1]]
        found: list[int] = []
        for part in parts:
            found += [ids[part]] if part in scores else [ids[f"<0x{byte:02X}>"] for byte in part.encode()]
        return tuple(found)

    def cut(text: str) -> list[int]:
        marked = text.replace(" ", "▁")
        return list(word("▁" + marked if facts.get("tokenizer.ggml.add_space_prefix", True) else marked))

    return cut
