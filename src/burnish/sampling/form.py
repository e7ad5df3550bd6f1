"""Answers that keep to a form: JSON of a schema, or text with JSON in it, held to token by token.

Enters: a tokenizer and a schema. Leaves: a `Form` for one row of a flight: which tokens may come next. Whatever the model would rather say, the
text is of that form; and where the limit of tokens comes near, it is brought to its end in time, so that a short limit gives a short answer
and not half of one. What the grammar allows is computed by llguidance.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from burnish.errors import ConfigError, ModelError

SPACE = {"whitespace_pattern": "[ \\n\\t]{0,24}"}
"""White space between parts, in any usual style; without an end, a model could fill its whole answer with it."""
OPENING = "{[,:"
"""What makes the way to the end longer, outside of strings."""
LONGEST_END = 512
"""Tokens that an end may have, after which none is looked for."""
SURELY = 4
"""Tokens to spare below which the answer is brought to its end."""
LOOK_AGAIN = 8
"""Tokens after which an end is looked for again where none was found."""
FEW, MANY = 12, 64
"""Tokens to spare below which nothing is opened any more: a few, and more where a schema asks for much."""


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """A tokenizer as the grammar reads it: what each token says, and in which order tokens are tried to bring a text to its end."""

    reader: Any
    texts: tuple[str, ...]
    inside_V: np.ndarray
    """Preference within a string, int32: closing it comes first."""
    outside_V: np.ndarray
    """Preference elsewhere: closing brackets come first, then what ends a value, then the shortest values."""
    opens_V: np.ndarray
    """Whether a token has an opening bracket, a comma, a colon or nothing but space."""


class Held:
    """The form of one answer: a class because it goes along with the answer."""

    def __init__(self, vocabulary: Vocabulary, matcher: Any, ends: Sequence[int]) -> None:
        self.vocabulary, self.matcher, self.ends = vocabulary, matcher, frozenset(ends)
        self.place = Place()
        first = self._way_to_end()
        self.margin = min(MANY, FEW + 2 * (len(first) if first is not None else MANY))
        self.check_at: int | None = None
        self.way: list[int] = []
        self.shortened = False
        """Whether the answer was brought to its end because the limit came near."""

    @property
    def done(self) -> bool:
        """Whether nothing but the end of the answer can follow."""
        return self.matcher.is_stopped()

    def allowed(self, left: int) -> np.ndarray:
        """Return which tokens may come next, bool [V], when `left` more fit."""
        mask_V = _mask(self.matcher, len(self.vocabulary.texts))
        if self.way:
            return _only(mask_V, self.way[0])
        if self.check_at is not None and left > self.check_at:
            return mask_V
        way = self._way_to_end()
        if way is None:  # no short end is known from here
            self.check_at = left - 1 - LOOK_AGAIN
            return mask_V
        spare = left - len(way)
        self.check_at = left - 1 - max(0, spare - self.margin) // self.margin
        if spare <= SURELY and way:
            self.way, self.shortened = way, True
            return _only(mask_V, way[0])
        if spare <= self.margin and not self.place.inside and way:
            kept_V = mask_V & ~self.vocabulary.opens_V
            return kept_V if kept_V.any() else _only(mask_V, way[0])
        return mask_V

    def take(self, token: int) -> None:
        """Go on behind a token that was chosen; the end of an answer changes nothing."""
        if token in self.ends:
            return
        if not self.matcher.consume_token(token):
            raise ModelError(f"An answer left its form: {self.matcher.get_error()}")
        self.place.read(self.vocabulary.texts[token])
        if self.way:
            self.way.pop(0)

    def _way_to_end(self) -> list[int] | None:
        """Return few tokens that bring the text to an end of its form, none where it may end here; None where none were found."""
        matcher, place, way = self.matcher.deep_copy(), Place(self.place.inside, self.place.escaped), []
        while not matcher.is_accepting():
            order_V = self.vocabulary.inside_V if place.inside else self.vocabulary.outside_V
            mask_V = _mask(matcher, len(order_V))
            token = int(np.where(mask_V, order_V, np.iinfo(np.int32).max).argmin())
            if len(way) == LONGEST_END or not mask_V[token] or not matcher.consume_token(token):
                return None
            way.append(token)
            place.read(self.vocabulary.texts[token])
        return way


@dataclass(slots=True)
class Place:
    """Where in JSON a text stands: inside a string or not, right behind a backslash or not."""

    inside: bool = False
    escaped: bool = False

    def read(self, text: str) -> None:
        """Go on behind a piece of text."""
        for letter in text:
            if self.escaped:
                self.escaped = False
            elif letter == "\\":
                self.escaped = self.inside
            elif letter == '"':
                self.inside = not self.inside


# ------------------------------------------------------------------------------------------------------------------------- grammars


def json_grammar(schema: Mapping[str, Any] | None) -> str:
    """Return the grammar of JSON that fits a schema, None for any object. Raises ConfigError where the schema cannot be held to."""
    library = _library()
    try:
        grammar = library.LLMatcher.grammar_from_json_schema(
            dict(schema) if schema is not None else {"type": "object"}, overrides=SPACE
        )
    except ValueError as error:
        raise ConfigError(f"The schema cannot be held to: {error}") from None
    return _checked(grammar)


def calls_grammar(before: str, after: str, schema: Mapping[str, Any], *, special: bool) -> str:
    """Return the grammar of JSON between two marks, which are tokens of their own where `special`. Raises ConfigError likewise."""
    marks = (before, after) if special else (json.dumps(before, ensure_ascii=False), json.dumps(after, ensure_ascii=False))
    body = json.dumps({**schema, "x-guidance": SPACE}, ensure_ascii=False)
    end = f" {marks[1]}" if after else ""
    text = f"start: {marks[0]} call{end}\n" if before else f"start: call{end}\n"
    return _checked(_library().LLMatcher.grammar_from_lark(f"{text}call: %json {body}\n"))


def hold(tokenizer: Any, grammar: str, *, size: int, ends: Sequence[int]) -> Held:
    """Return the form of one answer. `size` is that of the model's logits, `ends` are the tokens that end an answer.

    Raises ConfigError for a grammar that this tokenizer cannot write.
    """
    vocabulary = _vocabulary(tokenizer, size, tuple(ends))
    matcher = _library().LLMatcher(vocabulary.reader, grammar, log_level=0)
    if matcher.is_error():
        raise ConfigError(f"The schema cannot be held to: {_short(matcher.get_error())}")
    return Held(vocabulary, matcher, ends)


def _checked(grammar: str) -> str:
    said = _library().LLMatcher.validate_grammar(grammar)
    if said and not said.startswith("WARNING"):
        raise ConfigError(f"The schema cannot be held to: {_short(said)}")
    return grammar


def _short(text: str) -> str:
    return " ".join(text.split())[:300]


def _mask(matcher: Any, size: int) -> np.ndarray:
    """Return which tokens a matcher allows, bool [V]."""
    bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8), bitorder="little")
    return bits[:size].astype(bool)


def _only(mask_V: np.ndarray, token: int) -> np.ndarray:
    only_V = np.zeros_like(mask_V)
    only_V[token] = True
    return only_V


@lru_cache(maxsize=16)
def _vocabulary(tokenizer: Any, size: int, ends: tuple[int, ...]) -> Vocabulary:
    """Return what is known of a tokenizer's tokens; it takes a second for a large one, and is made once."""
    from llguidance.hf import from_tokenizer

    reader = from_tokenizer(tokenizer, n_vocab=size, eos_token=list(ends))
    texts = tuple(reader.decode_str([token]) if not reader.is_special_token(token) else "" for token in range(size))
    inside, outside = _order(texts, ('"',)), _order(texts, ("}", "]", ",", ":", "0", '"'))
    opens = np.asarray([bool(set(text) & set(OPENING)) or text.isspace() for text in texts])
    return Vocabulary(reader, texts, inside, outside, opens)


def _order(texts: Sequence[str], first: Sequence[str]) -> np.ndarray:
    """Return for each token its place in the order in which tokens are tried: some first, then the others by length, space last."""
    ranks = {text: number for number, text in enumerate(first)}
    usual = len(ranks)
    return np.asarray([ranks.get(text, usual + (len(text) if text.strip() else 1000)) for text in texts], dtype=np.int32)


def _library() -> Any:
    try:
        import llguidance
    except ModuleNotFoundError:
        raise ConfigError("Answers held to JSON need llguidance, which is not installed: pip install 'burnish[serve]'") from None
    return llguidance
