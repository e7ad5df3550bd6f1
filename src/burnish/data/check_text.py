"""What stands in the texts that should not be learned or could do harm.

In: the texts of examples and the model's special tokens. Out: findings on text that a tokenizer would read as control tokens,
characters that are not seen or turn the direction of writing, damaged encoding, personal data, keys, blobs and shell commands.
Nothing found here is printed: a message names the kind and the place, never the value.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as ListOf

from burnish.data.fields import Field
from burnish.data.findings import SHOWN, Finding, Level, finding
from burnish.types import Example, Origin

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
_TAGS = re.compile("[\U000e0000-\U000e007f]")
# Joiners are letters' business in many scripts and in emoji; between Latin letters they only hide something.
_ZERO_WIDTH = re.compile("[\u200b\u2060\ufeff]|(?<=[A-Za-z0-9])[\u200c\u200d](?=[A-Za-z0-9])")
# An emoji flag of a region is written in tag characters after a black flag and ends with a cancel tag.
_FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f")
_SURROGATE = re.compile("[\ud800-\udfff]")

_PERSONAL = {
    "e-mail address": re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,4}\.[A-Za-z]{2,24}\b"),
    "telephone number": re.compile(
        r"(?<![\w.+-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,4}\)[ .-]?|\d{2,4}[ .-])\d{3,4}[ .-]\d{3,4}(?![\w-])"
    ),
    "social security number": re.compile(r"(?<![\w-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])"),
    "IBAN": re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b"),
}
_CARD = re.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?![\d.-])")
_KEYS = re.compile(
    r"\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_[A-Za-z0-9_]{30,}|\bhf_[A-Za-z0-9]{30,}|\bsk-[A-Za-z0-9_-]{20,}"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bAIza[0-9A-Za-z_-]{35}|-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"
)
_BLOB = re.compile(r"[A-Za-z0-9+/]{200,}={0,2}")
_SHELL = re.compile(
    r"\b(?:curl|wget)\b[^\n|]{0,200}\|\s{0,4}(?:sudo\s{1,4})?(?:ba|z)?sh\b|\brm\s{1,4}-(?:rf|fr)\s{1,4}[/~*]|:\(\)\s?\{\s?:\|:&\s?\};:"
)

_RULES: tuple[tuple[Level, str, str, str], ...] = (
    (
        "warning",
        "special_token_text",
        "with text that the model's tokenizer reads as a special token",
        "Such text can end a turn or start another. Take it out; the chat template and the renderer add what is needed.",
    ),
    (
        "error",
        "lone_surrogate",
        "with half of a character (a lone surrogate)",
        "The text was cut or escaped wrongly; write it again as UTF-8.",
    ),
    (
        "warning",
        "control_character",
        "with control characters",
        "They come from a terminal, a scan or a wrong encoding; take them out.",
    ),
    (
        "warning",
        "bidirectional_control",
        "with characters that turn the direction of writing",
        "Text reads otherwise than it is stored; take them out.",
    ),
    ("warning", "tag_character", "with invisible tag characters", "They can carry hidden instructions; take them out."),
    ("warning", "zero_width_character", "with zero-width characters", "They change the tokens and are not seen; take them out."),
    (
        "warning",
        "replacement_character",
        "with the replacement character U+FFFD",
        "It was decoded wrongly earlier; export it again as UTF-8.",
    ),
    (
        "note",
        "personal_data",
        "with what looks like personal data",
        "A tuned model can repeat it; replace what need not be learned.",
    ),
    ("note", "key_like", "with what looks like a key or password", "A tuned model can repeat it; take it out and revoke the key."),
    (
        "note",
        "encoded_blob",
        "with a long run of encoded bytes",
        "It takes tokens and teaches nothing that can be read; take it out.",
    ),
    (
        "note",
        "shell_command",
        "with a command that runs what it fetches or deletes broadly",
        "Look at them before a model learns to give them.",
    ),
)
"""Level, name, what rows are (completes "3 rows ..."), what to do."""


def check_text(
    examples: ListOf[Example], texts: ListOf[tuple[Field, ...]], *, special_tokens: ListOf[str] = (), shown: int = SHOWN
) -> list[Finding | None]:
    """Return what stands in the texts; `texts` are the `fields` of each example, `special_tokens` the tokenizer's strings."""
    special = special_pattern(special_tokens)
    hits: dict[str, list[tuple[Origin, str]]] = {}
    for example, parts in zip(examples, texts, strict=True):
        found: dict[str, list[str]] = {}
        for part in parts:
            for rule, detail in _in_text(part, special):
                found.setdefault(rule, []).append(f"{part.name}: {detail}")
        for rule, details in found.items():
            hits.setdefault(rule, []).append((example.origin, ", ".join(dict.fromkeys(details))))
    return [finding(level, rule, what=what, hits=hits.get(rule, []), fix=fix, shown=shown) for level, rule, what, fix in _RULES]


def special_pattern(tokens: Iterable[str]) -> re.Pattern[str] | None:
    """Return a pattern that finds any of the special tokens in a text, the longest first; None without tokens.

    Tokens that are white space, or a single character, stand in every text and are left out.
    """
    known = sorted({token for token in tokens if len(token.strip()) > 1}, key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, known))) if known else None


def _in_text(part: Field, special: re.Pattern[str] | None) -> Iterator[tuple[str, str]]:
    text = part.text
    if special is not None and (found := special.findall(text)):
        yield "special_token_text", _special(found)
    if match := _CONTROL.search(text):
        yield "control_character", f"U+{ord(match[0]):04X} at {match.start()}"
    if not text.isascii():
        yield from _unseen(text)
    yield from _private(text)
    if _BLOB.search(text):
        yield "encoded_blob", "base64"
    if part.side == "answer" and _SHELL.search(text):
        yield "shell_command", "command"


def _special(found: list[str]) -> str:
    counts = Counter(found)
    unpaired = [token for token in counts if (twin := closing(token)) is not None and counts[token] != counts[twin]]
    named = ", ".join(f"{token!r}" + (f" x {count}" if count > 1 else "") for token, count in list(counts.items())[:4])
    return named + (f", {unpaired[0]!r} without its {closing(unpaired[0])!r}" if unpaired else "")


def closing(token: str) -> str | None:
    """Return the token that closes an opening one ('<x>' '</x>', '[X]' '[/X]', '<|im_start|>' '<|im_end|>'), None for another."""
    for pattern, twin in (
        (r"<\|(\w+?)_start\|>", r"<|\1_end|>"),
        (r"<(\w+)>", r"</\1>"),
        (r"\[(\w+)\]", r"[/\1]"),
        (r"<<(\w+)>>", r"<</\1>>"),
    ):
        if match := re.fullmatch(pattern, token):
            return match.expand(twin)
    return None


def _unseen(text: str) -> Iterator[tuple[str, str]]:
    for rule, pattern in (("bidirectional_control", _BIDI), ("zero_width_character", _ZERO_WIDTH), ("lone_surrogate", _SURROGATE)):
        if match := pattern.search(text):
            yield rule, f"U+{ord(match[0]):04X} at {match.start()}"
    if _TAGS.search(text) and (match := _TAGS.search(_FLAG.sub("", text))):
        yield "tag_character", f"U+{ord(match[0]):04X}"
    if (place := text.find("\ufffd")) >= 0:
        yield "replacement_character", f"at {place}"


def _private(text: str) -> Iterator[tuple[str, str]]:
    for kind, pattern in _PERSONAL.items():
        if (kind != "e-mail address" or "@" in text) and pattern.search(text):
            yield "personal_data", kind
    if any(_luhn(match[0]) for match in _CARD.finditer(text)):
        yield "personal_data", "payment card number"
    if _KEYS.search(text):
        yield "key_like", "key"


def _luhn(number: str) -> bool:
    """Return whether the digits carry the check digit of payment cards (ISO/IEC 7812-1, Luhn's formula)."""
    digits = [int(digit) for digit in number if digit.isdigit()]
    doubled = [digit if place % 2 == 0 else digit * 2 - 9 * (digit > 4) for place, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0 and len(set(digits)) > 1
