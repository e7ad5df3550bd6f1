"""Render examples for one model: from what a row means to tokens and the places where something is predicted.

Enters: examples, a tokenizer with its chat template, and the run's choices (`Frame`). Leaves: sequences to learn from, prompts to
attempt, sequences whose likelihood is measured. One renderer serves tuning, evaluation and generation, so that a model is asked in
exactly the form in which it was taught. Only this file knows that a causal model reads token i at position i-1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from burnish.data.dialog import Frame, as_dialog, as_task
from burnish.data.template import Rendered, Segment, render_dialog
from burnish.errors import DataError
from burnish.types import Dialog, Example, Message, Origin, Sequence, Task, Text


@dataclass(frozen=True, slots=True, eq=False)
class Renderer:
    """Everything that decides how examples become tokens. `max_length` counts tokens; `end_ids` end an answer."""

    tokenizer: Any
    max_length: int
    end_ids: tuple[int, ...]
    frame: Frame
    learn: Literal["all", "last"] = "all"
    task: str = "main"

    def start_id(self) -> int:
        """Return the token that stands before a plain text, so that its first token is predicted too."""
        return int(self.tokenizer.bos_token_id if self.tokenizer.bos_token_id is not None else self.tokenizer.eos_token_id)

    def sequences(self, example: Example) -> list[Sequence]:
        """Return what is learned from one example: windows of a text, or a dialog with the assistant's turns as read-outs.

        A text longer than `max_length` is cut into windows that overlap by one token, so that each token is predicted once. A long
        dialog is returned at its full length: dropping or cutting it is the run's policy (`within`).
        """
        meaning = as_dialog(example, self.frame)
        if isinstance(meaning, Text):
            return self.windows(meaning.text, meaning.origin, end=True)
        return [self._sequence(rendered, meaning.origin) for rendered in self._rendered(meaning)]

    def task_of(self, example: Example) -> Task:
        """Return what is asked of a model for this example, and what is expected."""
        return as_task(example, self.frame)

    def prompt(self, task: Task) -> np.ndarray:
        """Return the tokens after which the model answers; of a plain text, all of it."""
        if task.text is not None:
            return np.asarray([self.start_id(), *self._ids(task.text)], dtype=np.int32)
        text = self.tokenizer.apply_chat_template(
            messages_for_template(task.messages), tools=list(task.tools) or None, tokenize=False, add_generation_prompt=True
        )
        return np.asarray(self._ids(text), dtype=np.int32)

    def likelihood(self, task: Task) -> list[Sequence]:
        """Return sequences whose read-outs are exactly the expected text: a plain text's tokens, or the first accepted answer's."""
        if task.text is not None:
            return self.windows(task.text, task.origin, end=False)
        answer = Message(role="assistant", content=as_content(task.expected.texts[0]), weight=1.0)
        dialog = Dialog(messages=(*(silent(message) for message in task.messages), answer), tools=task.tools, origin=task.origin)
        return [self._sequence(rendered, task.origin) for rendered in self._rendered(dialog)]

    def windows(self, text: str, origin: Origin, *, end: bool) -> list[Sequence]:
        """Return a text as windows of at most `max_length` tokens, each token predicted once; `end` also predicts the text's end."""
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = [self.start_id(), *encoded["input_ids"]]
        bytes_T = _bytes_per_token(text, encoded["offset_mapping"])
        if end:
            ids.append(int(self.tokenizer.eos_token_id))
            bytes_T = np.append(bytes_T, 0)
        windows = []
        for start in range(0, max(1, len(ids) - 1), self.max_length - 1):
            tokens_T = np.asarray(ids[start : start + self.max_length], dtype=np.int32)
            at_N = np.arange(len(tokens_T) - 1, dtype=np.int32)
            ones_N = np.ones(len(at_N), dtype=np.float32)
            covered = int(bytes_T[start : start + len(at_N)].sum())
            windows.append(Sequence(tokens_T, at_N, tokens_T[1:], ones_N, origin, task=self.task, text_bytes=covered))
        return windows

    def within(self, sequences: Iterable[Sequence], policy: Literal["drop", "cut", "fail"]) -> list[Sequence]:
        """Return the sequences that fit `max_length`: longer ones dropped, or cut on the right with the read-outs they lose.

        Counting them, and failing above a share, is the checks' work, which run before this.
        """
        kept = []
        for sequence in sequences:
            if sequence.length <= self.max_length:
                kept.append(sequence)
            elif policy == "cut":
                kept.append(_cut(sequence, self.max_length))
        return [sequence for sequence in kept if sequence.weight_N.any()]

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _rendered(self, dialog: Dialog) -> list[Rendered]:
        """Return one rendering with all learned turns marked, or one per turn where the template rewrites earlier turns."""
        weights = turn_weights(dialog.messages, self.learn)
        try:
            return render_dialog(self.tokenizer, dialog, weights)
        except DataError as error:
            raise DataError(f"{dialog.origin}: {error}") from error

    def _sequence(self, rendered: Rendered, origin: Origin) -> Sequence:
        """Return the tokens of a rendering, a read-out before each token of its learned segments and their end of turn."""
        ids, weight_T, covered = tokenize_segments(self.tokenizer, rendered.segments, self.end_ids)
        tokens_T = np.asarray(ids, dtype=np.int32)
        learned_N = np.flatnonzero(np.asarray(weight_T[1:], dtype=np.float32))
        at_N = learned_N.astype(np.int32)
        weight_N = np.asarray(weight_T, dtype=np.float32)[learned_N + 1]
        return Sequence(tokens_T, at_N, tokens_T[learned_N + 1], weight_N, origin, task=self.task, text_bytes=covered)


def as_content(text: str) -> Any:
    """Return text as the content of a message."""
    from burnish.types import content

    return content(text)


def silent(message: Message) -> Message:
    """Return the message with nothing learned from it."""
    return Message(role=message.role, content=message.content, tool_calls=message.tool_calls, weight=0.0)


def messages_for_template(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Return messages in the shape that chat templates read (OpenAI's: role, content, tool_calls)."""
    from burnish.data.template import template_message

    return [template_message(message) for message in messages]


def turn_weights(messages: Iterable[Message], learn: Literal["all", "last"]) -> list[float]:
    """Return how strongly each message is learned: assistant turns by their own weight, else 1 (all of them, or only the last)."""
    turns = list(messages)
    last = max((number for number, message in enumerate(turns) if message.role == "assistant"), default=-1)
    weights = []
    for number, message in enumerate(turns):
        chosen = 1.0 if learn == "all" or number == last else 0.0
        own = message.weight if message.weight is not None else chosen
        weights.append(own if message.role == "assistant" else 0.0)
    return weights


def tokenize_segments(tokenizer: Any, segments: Iterable[Segment], end_ids: tuple[int, ...]) -> tuple[list[int], list[float], int]:
    """Return token ids, the weight of each, and the UTF-8 bytes of the learned text.

    The whole text is tokenized at once, as a user's prompt will be; where a token would straddle the border between what is given
    and what is learned, each segment is tokenized by itself instead, so that the prompt's tokens are those seen at inference. The
    token after a learned segment is learned too if it ends a turn.
    """
    parts = [segment for segment in segments if segment.text]
    text = "".join(part.text for part in parts)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids: list[int] = encoded["input_ids"]
    borders = np.cumsum([0, *(len(part.text) for part in parts)])
    owner_T = [_owner(borders, start, end) for start, end in encoded["offset_mapping"]]
    if any(owner is None for owner in owner_T):
        pieces = [tokenizer(part.text, add_special_tokens=False)["input_ids"] for part in parts]
        ids = [token for piece in pieces for token in piece]
        owner_T = [number for number, piece in enumerate(pieces) for _ in piece]
        if tokenizer.decode(ids) != tokenizer.decode(encoded["input_ids"]):
            raise DataError(
                "the text cannot be cut between prompt and answer without changing it; end the prompt with a line break or a space."
            )
    weight_T = [parts[owner].weight for owner in owner_T if owner is not None]
    for number in range(1, len(ids)):
        if weight_T[number] == 0 and weight_T[number - 1] > 0 and ids[number] in end_ids:
            weight_T[number] = weight_T[number - 1]
    covered = sum(len(part.text.encode("utf-8")) for part in parts if part.weight > 0)
    return ids, weight_T, covered


def _owner(borders: np.ndarray, start: int, end: int) -> int | None:
    """Return the segment that holds the characters start..end, None where they straddle two."""
    first = int(np.searchsorted(borders, start, side="right")) - 1
    first = min(first, len(borders) - 2)
    return first if end <= borders[first + 1] else None


def _bytes_per_token(text: str, offsets: Iterable[tuple[int, int]]) -> np.ndarray:
    """Return the UTF-8 bytes of a text credited to each token, adding up to all of them: up to where the next token starts."""
    starts = [start for start, _ in offsets]
    bounds = [*starts[1:], len(text)] if starts else []
    position, counts = 0, []
    for bound in bounds:
        counts.append(len(text[position : max(bound, position)].encode("utf-8")))
        position = max(bound, position)
    return np.asarray(counts, dtype=np.int64)


def _cut(sequence: Sequence, limit: int) -> Sequence:
    """Return the first `limit` tokens of a sequence with the read-outs whose target is still there."""
    kept_N = sequence.at_N + 1 < limit
    streams: Mapping[str, np.ndarray] = {name: values[kept_N] for name, values in sequence.streams.items()}
    return Sequence(
        sequence.tokens_T[:limit],
        sequence.at_N[kept_N],
        sequence.target_N[kept_N],
        sequence.weight_N[kept_N],
        sequence.origin,
        streams=streams,
        task=sequence.task,
        group=sequence.group,
        role=sequence.role,
        text_bytes=sequence.text_bytes,
    )
