"""Render examples for one model: from what a row means to tokens and the places where something is predicted.

Enters: examples, a tokenizer with its chat template, and the run's choices (`Frame`). Leaves: sequences to learn from, prompts to
attempt, sequences whose likelihood is measured. One renderer serves tuning, evaluation and generation, so that a model is asked in
exactly the form in which it was taught. Only this file knows that a causal model reads token i at position i-1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from burnish.data.dialog import Frame, as_dialog, as_task, expected_answer
from burnish.data.template import Rendered, render_dialog, render_prompt
from burnish.data.tokens import bytes_per_token, token_ids, tokenize_segments
from burnish.errors import DataError
from burnish.types import Dialog, Example, Message, Origin, Sequence, Task, Text


@dataclass(frozen=True, slots=True, eq=False)
class Renderer:
    """Everything that decides how examples become tokens. `max_length` counts tokens; `end_ids` end an answer."""

    tokenizer: Any
    max_length: int
    end_ids: tuple[int, ...]
    frame: Frame
    learn: Literal["all", "last", "everything"] = "all"
    task: str = "main"

    def start_id(self) -> int:
        """Return the token that stands before a plain text, so that its first token is predicted too."""
        return int(self.tokenizer.bos_token_id if self.tokenizer.bos_token_id is not None else self.tokenizer.eos_token_id)

    def sequences(self, example: Example) -> list[Sequence]:
        """Return what is learned from one example: windows of a text, or a dialog with the assistant's turns, or all, as read-outs.

        A text longer than `max_length` is cut into windows that overlap by one token, so that each token is predicted once. A long
        dialog is returned at its full length: dropping or cutting it is the run's policy (`within`).
        """
        meaning = as_dialog(example, self.frame)
        if isinstance(meaning, Text):
            return self.windows(meaning.text, meaning.origin, end=True)
        return self.dialog(meaning, everything=self.learn == "everything")

    def task_of(self, example: Example) -> Task:
        """Return what is asked of a model for this example, and what is expected."""
        return as_task(example, self.frame)

    def prompt(self, task: Task) -> np.ndarray:
        """Return the tokens after which the model answers; of a plain text, all of it."""
        if task.text is not None:
            return np.asarray([self.start_id(), *token_ids(self.tokenizer, task.text)], dtype=np.int32)
        try:
            text = render_prompt(self.tokenizer, task.messages, task.tools)
        except DataError as error:
            raise DataError(f"{task.origin}: {error}") from error
        return np.asarray(token_ids(self.tokenizer, text), dtype=np.int32)

    def likelihood(self, task: Task) -> list[Sequence]:
        """Return sequences whose read-outs are exactly what is expected: a plain text's tokens, or the first accepted answer's.

        An answer's end of turn belongs to it. Raises DataError for a task without an expected text or call of a tool.
        """
        if task.text is not None:
            return self.windows(task.text, task.origin, end=False)
        answer = replace(expected_answer(task), weight=1.0)
        given = tuple(replace(message, weight=0.0) for message in task.messages)
        return self.dialog(Dialog(messages=(*given, answer), tools=task.tools, origin=task.origin))

    def windows(self, text: str, origin: Origin, *, end: bool) -> list[Sequence]:
        """Return a text as windows of at most `max_length` tokens, each token predicted once; `end` also predicts the text's end."""
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = [self.start_id(), *encoded["input_ids"]]
        bytes_T = np.asarray(bytes_per_token(text, encoded["offset_mapping"]), dtype=np.int64)
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
                kept.append(cut_right(sequence, self.max_length))
        return [sequence for sequence in kept if sequence.weight_N.any()]

    def dialog(self, dialog: Dialog, *, everything: bool = False) -> list[Sequence]:
        """Return a dialog as one sequence, or as one per learned turn where its turns cannot share one.

        `everything` makes each token after the first a read-out, whoever speaks.
        """
        try:
            rendered = render_dialog(self.tokenizer, dialog, turn_weights(dialog.messages, self.learn))
            if everything:
                return [self._whole(rendered[-1], dialog.origin)]
            return [sequence for whole in rendered for sequence in self._tokenized(whole, dialog.origin)]
        except DataError as error:
            raise DataError(f"{dialog.origin}: {error}") from error

    def _whole(self, rendered: Rendered, origin: Origin) -> Sequence:
        """Return a rendering with a read-out before each token but the first."""
        tokens = tokenize_segments(self.tokenizer, rendered.segments, self.end_ids)
        ids = token_ids(self.tokenizer, rendered.text) if tokens is None else tokens.ids
        tokens_T = np.asarray(ids, dtype=np.int32)
        at_N = np.arange(len(tokens_T) - 1, dtype=np.int32)
        ones_N = np.ones(len(at_N), dtype=np.float32)
        size = len(rendered.text.encode("utf-8"))
        return Sequence(tokens_T, at_N, tokens_T[1:], ones_N, origin, task=self.task, text_bytes=size)

    def _tokenized(self, rendered: Rendered, origin: Origin) -> list[Sequence]:
        """Return the tokens of a rendering, a read-out before each token of its learned segments and their end of turn."""
        tokens = tokenize_segments(self.tokenizer, rendered.segments, self.end_ids)
        if tokens is None:
            return [sequence for turn in rendered.one_by_one() for sequence in self._tokenized(turn, origin)]
        tokens_T = np.asarray(tokens.ids, dtype=np.int32)
        weight_T = np.asarray(tokens.weights, dtype=np.float32)
        at_N = np.flatnonzero(weight_T[1:]).astype(np.int32)
        target_N, weight_N = tokens_T[at_N + 1], weight_T[at_N + 1]
        return [Sequence(tokens_T, at_N, target_N, weight_N, origin, task=self.task, text_bytes=tokens.text_bytes)]


def turn_weights(messages: Iterable[Message], learn: Literal["all", "last", "everything"]) -> list[float]:
    """Return how strongly each message is learned: assistant turns by their own weight, else 1 (all of them, or only the last)."""
    turns = list(messages)
    last = max((number for number, message in enumerate(turns) if message.role == "assistant"), default=-1)
    weights = []
    for number, message in enumerate(turns):
        chosen = 0.0 if learn == "last" and number != last else 1.0
        own = message.weight if message.weight is not None else chosen
        weights.append(own if message.role == "assistant" else 0.0)
    return weights


def cut_right(sequence: Sequence, limit: int) -> Sequence:
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
