"""GGUF: a tokenizer's vocabulary, merges and marks in the form that llama.cpp reads.

Enters: a fast tokenizer (tokenizer.json). Leaves: what a `GGUFWriter` must be told, or a refusal: llama.cpp cuts text into words by rules that
it has built in under names, so that a tokenizer with other rules would be read wrongly without a word.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.errors import ModelError

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

RULES: dict[str, str] = {
    CONTRACTIONS + r"\p{N}{1,3}" + REST: "llama-bpe",
    CONTRACTIONS + r"\p{N}" + REST: "qwen2",
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ): "tekken",
}
"""Rules by which a text is divided into words before merging, and llama.cpp's names for them."""

WHOLE_FIRST = ("llama-bpe", "tekken")
"""Rules under which llama.cpp takes a whole word that is a token, without merging."""

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Kinds of tokens, by the numbers of the file format."""


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """What the file holds of a tokenizer: `model` is "gpt2" (bytes) or "llama" (SentencePiece), `pre` the rule for words."""

    model: str
    pre: str
    tokens: list[str]
    kinds: list[int]
    merges: list[str]
    scores: list[float]
    space_first: bool
    ids: Mapping[str, int]
    starts: bool


def vocabulary(tokenizer: Any, *, rows: int, end_ids: Sequence[int], starts: bool) -> Vocabulary:
    """Return a tokenizer as the file holds it; `rows` is the size of the token table, `starts` whether text begins with the start token.

    Raises ModelError for a tokenizer that llama.cpp would read otherwise, and where tokens have no row in the table.
    """
    raw = json.loads(tokenizer.backend_tokenizer.to_str())
    model = raw["model"]
    if model["type"] != "BPE":
        raise ModelError(f"its tokenizer is of the kind {model['type']}, and only BPE is written as GGUF here.")
    if len(tokenizer) > rows:
        raise ModelError(f"its tokenizer knows {len(tokenizer)} tokens, and the network {rows}: added tokens would have no vector.")
    tokens, kinds = _tokens(raw, rows)
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    ids = _special(tokenizer, end_ids)
    if model.get("byte_fallback"):
        _refuse_other_pieces(raw)
        first = _space_first(raw)
        return Vocabulary("llama", "default", tokens, kinds, [], _scores(tokens, merges, kinds), first, ids, starts)
    if raw.get("normalizer") is not None and not composes(tokenizer):
        raise ModelError(f"its tokenizer changes text first ({json.dumps(raw['normalizer'])[:120]}), and llama.cpp would not.")
    pre = _rule(raw)
    if bool(model.get("ignore_merges")) != (pre in WHOLE_FIRST):
        raise ModelError(f"its tokenizer merges whole words otherwise than llama.cpp does under the rule {pre!r}.")
    return Vocabulary("gpt2", pre, tokens, kinds, merges, [], False, ids, starts)


def composes(tokenizer: Any) -> bool:
    """Return whether a tokenizer composes characters first (NFC), as Qwen's does and llama.cpp does not: most text is composed already."""
    normalizer = json.loads(tokenizer.backend_tokenizer.to_str()).get("normalizer") or {}
    return normalizer.get("type") == "NFC"


def _tokens(raw: Mapping[str, Any], rows: int) -> tuple[list[str], list[int]]:
    """Return every token and its kind, rows without a token filled up."""
    tokens, kinds = [f"[PAD{number}]" for number in range(rows)], [UNUSED] * rows
    for token, number in raw["model"]["vocab"].items():
        tokens[number] = token
        kinds[number] = BYTE if raw["model"].get("byte_fallback") and _is_byte(token) else NORMAL
    for added in raw["added_tokens"]:
        # A token of spaces is found in the text as it stands, where they are not marked yet.
        text = added["content"] if added["special"] or not raw["model"].get("byte_fallback") else added["content"].replace("▁", " ")
        tokens[added["id"]], kinds[added["id"]] = text, CONTROL if added["special"] else USER
    unknown = raw["model"].get("unk_token")
    if unknown in raw["model"]["vocab"] and raw["model"].get("byte_fallback"):
        kinds[raw["model"]["vocab"][unknown]] = UNKNOWN
    return tokens, kinds


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _special(tokenizer: Any, end_ids: Sequence[int]) -> dict[str, int]:
    """Return the tokens with a part of their own: start, end, end of a turn, padding, unknown."""
    found = {name: getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "unk", "pad")}
    ids = {name: int(number) for name, number in found.items() if number is not None}
    turn = [number for number in end_ids if number != ids.get("eos")]
    return ids | ({"eot": turn[0]} if turn else {})


def _rule(raw: Mapping[str, Any]) -> str:
    """Return llama.cpp's name for how this tokenizer divides a text into words; ModelError where it has none."""
    pre = raw.get("pre_tokenizer") or {}
    parts = pre["pretokenizers"] if pre.get("type") == "Sequence" else [pre]
    kinds = [part.get("type") for part in parts]
    last = parts[-1]
    if last.get("type") == "ByteLevel" and not last.get("add_prefix_space"):
        if kinds == ["ByteLevel"] and last.get("use_regex", True):
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and parts[0].get("individual_digits") and last.get("use_regex", True):
            return "smollm"
        if kinds == ["Split", "ByteLevel"] and not last.get("use_regex", True):
            rule = (parts[0].get("pattern") or {}).get("Regex", "")
            if rule in RULES and parts[0].get("behavior") == "Isolated" and not parts[0].get("invert"):
                return RULES[rule]
    raise ModelError(
        f"its tokenizer divides text into words by a rule that llama.cpp has no name for here ({json.dumps(pre)[:120]}), so that the same text "
        f"would have other tokens there. llama.cpp's own converter knows more rules: export with --to merged, then convert_hf_to_gguf.py."
    )


def _refuse_other_pieces(raw: Mapping[str, Any]) -> None:
    """Raise ModelError for a SentencePiece tokenizer that changes text otherwise than by marking its spaces."""
    parts = raw.get("normalizer") or {}
    steps = parts.get("normalizers", [parts]) if parts else []
    marks = [step for step in steps if step.get("type") == "Replace" and step.get("content") == "▁"]
    known = all(step.get("type") in ("Prepend", "Replace") for step in steps)
    space = (raw.get("pre_tokenizer") or {}).get("type") in ("Metaspace", "Split", None)
    if not known or not space or (not marks and (raw.get("pre_tokenizer") or {}).get("type") != "Metaspace"):
        raise ModelError(f"its tokenizer changes text before dividing it ({json.dumps(parts)[:120]}), and llama.cpp would not.")


def _space_first(raw: Mapping[str, Any]) -> bool:
    """Return whether a space is put before a text."""
    parts = raw.get("normalizer") or {}
    steps = parts.get("normalizers", [parts]) if parts else []
    pre = raw.get("pre_tokenizer") or {}
    return any(step.get("type") == "Prepend" for step in steps) or (
        pre.get("type") == "Metaspace" and pre.get("prepend_scheme", "always") != "never"
    )


def _scores(tokens: Sequence[str], merges: Sequence[str], kinds: Sequence[int]) -> list[float]:
    """Return the score of each token, higher where it is merged earlier: SentencePiece merges the best score first."""
    rank: dict[str, int] = {}
    for number, pair in enumerate(merges):
        rank.setdefault("".join(pair.split(" ")), number)
    lowest = float(len(merges) + 1)
    return [
        0.0 if kind in (CONTROL, USER, UNKNOWN, BYTE, UNUSED) else -float(rank.get(token, lowest))
        for token, kind in zip(tokens, kinds, strict=True)
    ]


def write_vocabulary(writer: Any, found: Vocabulary, *, template: str | None) -> None:
    """Write a vocabulary and the chat template."""
    writer.add_tokenizer_model(found.model)
    writer.add_tokenizer_pre(found.pre)
    writer.add_token_list(found.tokens)
    writer.add_token_types(found.kinds)
    if found.merges:
        writer.add_token_merges(found.merges)
    if found.scores:
        writer.add_token_scores(found.scores)
        writer.add_add_space_prefix(found.space_first)
    tell = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "eot": writer.add_eot_token_id,
        "unk": writer.add_unk_token_id,
        "pad": writer.add_pad_token_id,
    }
    for name, number in found.ids.items():
        tell[name](number)
    writer.add_add_bos_token(found.starts)
    writer.add_add_eos_token(False)
    if template is not None:
        writer.add_chat_template(template)
