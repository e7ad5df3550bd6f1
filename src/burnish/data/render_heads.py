"""Render examples for a head: from labelled, tagged or answerable rows to tokens and the places that the head reads.

Enters: examples, a tokenizer, and a `HeadSpec` (which labels, what kind of reading). Leaves: sequences, and for each read-out the
characters that it stands for, so that `reading` can turn scores back into labels, spans and answers. A head reads the text itself:
no chat template, no system prompt. A causal model is read where it has seen everything, an encoder at its first position.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Many
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from burnish.data.dialog import Frame, as_task
from burnish.data.render_heads_spans import (
    Alignment,
    Window,
    aligned,
    are_layered,
    cuts,
    owned,
    shares,
    tags_of,
    token_chars,
)
from burnish.data.render_pictures import only_picture, positions_of
from burnish.data.tokens import token_ids
from burnish.errors import ConfigError, DataError
from burnish.types import Answerable, Content, Example, Labelled, Origin, Sequence, Tagged, Task, Text, TextPart, content, plain

Kind = Literal["sequence", "token", "span", "masked", "picture"]
Problem = Literal["single", "several", "number", "reward", "flat", "layers", "answer", "masked"]

FEWEST = 16
"""Tokens of a context that must fit beside a question."""


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """What a head says: one score per label and read-out, and how the scores are read.

    "sequence" heads tell one label (`single`), several, a number or a reward; "picture" heads the same of a picture; "token" heads tell
    spans, `flat` as one of O, B-x, I-x per token or in `layers` of x:O, x:B, x:I per type, which may overlap; "span" heads find where an
    answer starts and ends; "masked" is an encoder's own head over the vocabulary. `mean` and `deviation` undo the
    standardisation of a number. `threshold`: log-odds of an answer against none that must be passed; None answers always. `twice`: the text
    stands before a causal model twice and is read the second time, when each token has seen what follows it too.
    """

    kind: Kind
    labels: tuple[str, ...] = ()
    problem: Problem = "single"
    mean: float = 0.0
    deviation: float = 1.0
    threshold: float | None = None
    twice: bool = False

    @property
    def restores(self) -> bool:
        """Whether it is an encoder's own head over the vocabulary: it came with the model, is asked for no answer, and adds no module."""
        return self.kind == "masked"

    @property
    def types(self) -> tuple[str, ...]:
        """The types of spans that a token head tells."""
        first, step = (1, 2) if self.problem == "flat" else (0, 3)
        return tuple(label[2:] if self.problem == "flat" else label[:-2] for label in self.labels[first::step])


MASKED = HeadSpec("masked", problem="masked")
REWARD = HeadSpec("sequence", ("reward",), "reward")
ANSWER = HeadSpec("span", ("start", "end"), "answer")


def spec_for(kind: Kind, examples: Many[Example], tokenizer: Any, *, twice: bool = False) -> HeadSpec:
    """Return the head that the training rows ask for; labels are sorted, numbers standardised by these rows' mean and deviation.

    `twice` concerns heads that read every token.

    Spans of different types that share a token need a layer per type. Raises DataError for rows that no one head could learn.
    """
    if kind == "masked":
        return MASKED
    if kind == "token":
        return replace(_tags_spec([example for example in examples if isinstance(example, Tagged)], tokenizer), twice=twice)
    if kind == "span":
        asked = [example for example in examples if isinstance(example, Answerable)]
        unanswered = any(not example.answers for example in asked)
        return replace(ANSWER, threshold=0.0 if unanswered else None)
    rows = [example for example in examples if isinstance(example, Labelled)]
    if not rows:
        return REWARD
    numbers = np.asarray([row.number for row in rows if row.number is not None], dtype=np.float64)
    if len(numbers) not in (0, len(rows)):
        odd = next(row for row in rows if row.number is None)
        raise DataError(
            f"{odd.origin}: a label among rows with numbers. A head tells one or the other: divide the rows into two runs."
        )
    if len(numbers) and np.ptp(numbers) == 0:
        raise DataError(
            f"All {len(rows)} rows have the number {numbers[0]:g} (the first at {rows[0].origin}): there is nothing to tell apart. Add rows "
            f"with other numbers."
        )
    if len(numbers):
        return HeadSpec(kind, ("number",), "number", float(numbers.mean()), float(numbers.std()))
    labels = tuple(sorted({label for row in rows for label in row.labels}))
    several = any(row.several or len(row.labels) != 1 for row in rows)
    if len(labels) < (1 if several else 2):
        raise DataError(
            f"All {len(rows)} rows have the label {labels[0]!r} (the first at {rows[0].origin}): there is nothing to tell apart. Add rows "
            f"with other labels."
        )
    return HeadSpec(kind, labels, "several" if several else "single")


def _tags_spec(rows: Many[Tagged], tokenizer: Any) -> HeadSpec:
    types = sorted({span.label for row in rows for span in row.spans})
    if not types:
        raise DataError(
            f"None of the {len(rows)} rows marks a span (the first at {rows[0].origin}): there is nothing to learn. Add rows with spans."
        )
    layered = any(are_layered(row.spans, token_chars(tokenizer, plain(row.content))[1]) for row in rows)
    if layered:
        return HeadSpec("token", tuple(f"{name}:{tag}" for name in types for tag in "OBI"), "layers")
    return HeadSpec("token", ("O", *(f"{tag}-{name}" for name in types for tag in "BI")), "flat")


@dataclass(frozen=True, slots=True, eq=False)
class HeadRenderer:
    """Everything that decides how examples become tokens for a head. `max_length` counts tokens.

    Of a question's long context `windows_learned` windows are learned from: those that hold the answer, and others drawn by `seed`; None
    for all.

    `encoder` says that the model reads in both directions. Windows over long texts share `overlap` tokens (a quarter of `max_length`
    unless given). Raises ConfigError for a frame that a head cannot follow.
    """

    tokenizer: Any
    max_length: int
    frame: Frame
    spec: HeadSpec
    encoder: bool
    overlap: int | None = None
    windows_learned: int | None = None
    seed: int = 0
    task: str = "main"
    end_ids: tuple[int, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.frame.system is not None:
            raise ConfigError("data.system: a head reads the text itself and knows no system prompt. Remove it.")
        if self.frame.prompt is not None and self.spec.kind == "picture":
            raise ConfigError("data.prompt: a model that reads pictures alone reads no text around them. Remove it.")
        if self.frame.prompt is not None and self.spec.kind != "sequence":
            raise ConfigError("data.prompt: a head that reads every token reads the text as it stands. Remove it.")

    def sequences(self, example: Example) -> list[Sequence]:
        """Return what is learned from one example. Raises DataError for one that this head cannot learn from."""
        return [window.sequence for window in self.windows(example)]

    def windows(self, example: Example, *, learn: bool = True) -> list[Window]:
        """Return an example's sequences, each with the characters of its read-outs; `learn=False` asks without knowing the answer."""
        if self.spec.restores and isinstance(example, Text):
            return self._to_mask(example)
        if isinstance(example, Task):
            example, frame = _as_row(example, self.spec), Frame()  # its text stands in the frame already
        else:
            frame = self.frame
        if self.spec.kind == "sequence" and isinstance(example, Labelled):
            return [self._labelled(example, frame, learn)]
        if self.spec.kind == "picture" and isinstance(example, Labelled):
            return [self._pictured(example, learn)]
        if self.spec.kind == "token" and isinstance(example, Tagged):
            return self._tagged(example, learn)
        if self.spec.kind == "span" and isinstance(example, Answerable):
            return self._answerable(example, learn)
        raise DataError(f"{example.origin}: a {self.spec.kind} head cannot read {type(example).__name__} rows.")

    def task_of(self, example: Example) -> Task:
        """Return what is asked of a model for this example, and what is expected."""
        return as_task(example, self.frame)

    def within(self, sequences: Iterable[Sequence], policy: Literal["drop", "cut", "fail"]) -> list[Sequence]:
        """Return the sequences that fit `max_length`; a longer one is dropped, or cut before its last token, which ends it."""
        kept = []
        for sequence in sequences:
            if sequence.length > self.max_length and policy == "cut":
                tokens_T = np.concatenate([sequence.tokens_T[: self.max_length - 1], sequence.tokens_T[-1:]])
                sequence = replace(sequence, tokens_T=tokens_T, at_N=np.minimum(sequence.at_N, self.max_length - 1))
            if sequence.length <= self.max_length:
                kept.append(sequence)
        return kept

    def alignment(self, examples: Iterable[Example]) -> Alignment:
        """Return how the spans of tagged rows fit the tokens: how many there are, how many were widened, how many lost."""
        total = Alignment()
        for example in examples:
            if isinstance(example, Tagged):
                chars_T2 = token_chars(self.tokenizer, plain(example.content))[1]
                total = total + tags_of(example, chars_T2, self.spec.types, flat=self.spec.problem == "flat")[1]
        return total

    # -------------------------------------------------------------------------------------------------------- what stands around

    def around(self, *, pair: bool = False) -> tuple[list[int], list[int], list[int]]:
        """Return the tokens before, between and after one text or two.

        An encoder gets its tokenizer's own. A causal model gets its start token, a line break between two texts, and its end token
        as the place from which everything was read; not where the end token is the padding too: the ecosystem's classes read
        the last token that is no padding, and so does a run.
        """
        if self.encoder:
            encoded = self.tokenizer("a", "a") if pair else self.tokenizer("a")
            ids, parts = encoded["input_ids"], encoded.sequence_ids(0)
            texts = [place for place, part in enumerate(parts) if part is not None]
            middle = [place for place in range(texts[0], texts[-1]) if parts[place] is None]
            return ids[: texts[0]], [ids[place] for place in middle], ids[texts[-1] + 1 :]
        end, pad = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        start = self.tokenizer.bos_token_id if self.tokenizer.bos_token_id is not None else end
        ends = [] if end == pad and self.spec.kind == "sequence" else [int(end)]
        return [int(start)], token_ids(self.tokenizer, "\n") if pair else [], ends

    # ------------------------------------------------------------------------------------------------------------- kinds of rows

    def _labelled(self, example: Labelled, frame: Frame, learn: bool) -> Window:
        """Return a text with one read-out, its target the number of its label."""
        before, _, after = self.around()
        text = frame.ask(_only_text(example.content, example.origin))
        tokens_T = np.asarray([*before, *token_ids(self.tokenizer, text), *after], dtype=np.int32)
        target, streams = self._meant(example) if learn else (0, {})
        at = 0 if self.encoder else len(tokens_T) - 1
        sequence = _sequence(tokens_T, [at], [target], example.origin, self.task, streams)
        return Window(sequence, np.asarray([[0, len(text)]], dtype=np.int32))

    def _pictured(self, example: Labelled, learn: bool) -> Window:
        """Return a picture with one read-out, its target the number of its label."""
        part = only_picture(example.content, example.origin)
        target, streams = self._meant(example) if learn else (0, {})
        sequence = _sequence(positions_of(self.tokenizer), [0], [target], example.origin, self.task, streams)
        return Window(replace(sequence, images=(part,)), np.zeros((1, 2), dtype=np.int32))

    def _meant(self, example: Labelled) -> tuple[int, dict[str, np.ndarray]]:
        """Return a row's target and streams; DataError for a label that the head does not know."""
        known, spec = {label: place for place, label in enumerate(self.spec.labels)}, self.spec
        if spec.problem == "number":
            if example.number is None:
                raise DataError(f"{example.origin}: expected a number, found labels.")
            value = (example.number - spec.mean) / spec.deviation
            return 0, {"number": np.asarray([value], dtype=np.float32)}
        unknown = [label for label in example.labels if label not in known]
        if unknown:
            raise DataError(
                f"{example.origin}: the label {unknown[0]!r} is not among the {len(known)} that the head tells apart "
                f"({', '.join(spec.labels[:8])}{' …' if len(known) > 8 else ''}). Spell it as in the training rows, or add rows with it."
            )
        if spec.problem == "several":
            classes_C = np.zeros((1, len(known)), dtype=np.float32)
            classes_C[0, [known[label] for label in example.labels]] = 1.0
            return 0, {"classes": classes_C}
        if len(example.labels) != 1:
            raise DataError(f"{example.origin}: expected one label, found {len(example.labels)}.")
        return known[example.labels[0]], {}

    def _tagged(self, example: Tagged, learn: bool) -> list[Window]:
        """Return a text as windows in which each token is read once, where the model sees most of what is around it."""
        text = _only_text(example.content, example.origin)
        ids, chars_T2 = token_chars(self.tokenizer, text)
        flat = self.spec.problem == "flat"
        target_T, tags_TC = np.zeros(len(ids), dtype=np.int64), np.zeros((len(ids), len(self.spec.types)), dtype=np.int64)
        if learn:
            tags_TC = tags_of(example, chars_T2, self.spec.types, flat=flat)[0]
            if flat:
                target_T = _flat_ids(tags_TC)
        before, _, after = self.around()
        again = token_ids(self.tokenizer, "\n") if self.spec.twice else []
        room = self.max_length - len(before) - len(after)
        room = (room - len(again)) // 2 if self.spec.twice else room
        if room < min(FEWEST, max(1, len(ids))):
            raise DataError(
                f"{example.origin}: data.max_length = {self.max_length} leaves room for {room} tokens of the text. Raise it."
            )
        spans = cuts(len(ids), room, self._overlap(room))
        windows = []
        for (start, stop), (first, last) in zip(spans, owned(spans, encoder=self.encoder or self.spec.twice), strict=True):
            part = ids[start:stop]
            shown = [*before, *part, *again] if self.spec.twice else before
            tokens_T = np.asarray([*shown, *part, *after], dtype=np.int32)
            at_N = np.arange(first, last) - start + len(shown)
            streams = {} if flat or not learn else {"tags": tags_TC[first:last]}
            sequence = _sequence(tokens_T, at_N, target_T[first:last], example.origin, self.task, streams)
            windows.append(Window(sequence, chars_T2[first:last]))
        return windows

    def _answerable(self, example: Answerable, learn: bool) -> list[Window]:
        """Return question and context as windows over the context, read at all its tokens and, first, where no answer is said.

        The question stands first: a causal model must know what to look for. No answer is said at an encoder's first position, and
        at the end token of a causal model, the only place from which it has read the whole context.
        """
        before, between, after = self.around(pair=True)
        ids, chars_T2 = token_chars(self.tokenizer, example.context)
        head = [*before, *token_ids(self.tokenizer, example.question), *between]
        room = self.max_length - len(head) - len(after)
        if room < min(FEWEST, max(1, len(ids))):
            raise DataError(
                f"{example.origin}: the question takes {len(head)} of {self.max_length} tokens, which leaves no room for the context. "
                f"Shorten it, or raise data.max_length."
            )
        answers = [aligned(chars_T2, start, start + len(text), example.origin) for start, text in example.answers] if learn else []
        windows = []
        spans = cuts(len(ids), room, self._overlap(room))
        for start, stop in self._learned_windows(spans, answers, example.origin) if learn else spans:
            tokens_T = np.asarray([*head, *ids[start:stop], *after], dtype=np.int32)
            none = 0 if self.encoder else len(tokens_T) - 1
            at_N = np.asarray([none, *range(len(head), len(head) + stop - start)])
            streams = shares(answers, start, stop) if learn else {}
            sequence = _sequence(tokens_T, at_N, np.zeros(len(at_N)), example.origin, self.task, streams)
            windows.append(Window(sequence, np.concatenate([np.full((1, 2), -1, dtype=np.int32), chars_T2[start:stop]])))
        return windows

    def _learned_windows(
        self, spans: list[tuple[int, int]], answers: Many[tuple[int, int]], origin: Origin
    ) -> list[tuple[int, int]]:
        """Return the windows over a context that are learned from, in their order: first choice those that hold an answer whole."""
        if self.windows_learned is None or len(spans) <= self.windows_learned:
            return spans
        drawn = np.random.default_rng([self.seed, *str(origin).encode()]).permutation(len(spans))
        holds = [any(start <= first and last <= stop for first, last in answers) for start, stop in spans]
        chosen = sorted(drawn.tolist(), key=lambda place: not holds[place])[: self.windows_learned]
        return [spans[place] for place in sorted(chosen)]

    def _to_mask(self, example: Text) -> list[Window]:
        """Return a text as windows in which every token may be masked (`render_masked` draws which ones are)."""
        ids, chars_T2 = token_chars(self.tokenizer, example.text)
        before, _, after = self.around()
        windows = []
        for start, stop in cuts(len(ids), self.max_length - len(before) - len(after), 0):
            if stop > start:
                tokens_T = np.asarray([*before, *ids[start:stop], *after], dtype=np.int32)
                at_N = np.arange(len(before), len(before) + stop - start)
                windows.append(
                    Window(_sequence(tokens_T, at_N, tokens_T[at_N], example.origin, self.task, {}), chars_T2[start:stop])
                )
        return windows

    def _overlap(self, room: int) -> int:
        wanted = self.max_length // 4 if self.overlap is None else self.overlap
        return max(0, min(wanted, room // 2))


def _flat_ids(tags_TC: np.ndarray) -> np.ndarray:
    """Return per token the number of its label in O, B-0, I-0, B-1, I-1, …"""
    inside_T = tags_TC.any(axis=1)
    column_T = tags_TC.argmax(axis=1)
    tag_T = np.take_along_axis(tags_TC, column_T[:, None], axis=1)[:, 0]
    return np.where(inside_T, 2 * column_T + tag_T, 0)


def _sequence(tokens_T: np.ndarray, at: Any, target: Any, origin: Origin, task: str, streams: dict[str, np.ndarray]) -> Sequence:
    at_N = np.asarray(at, dtype=np.int32)
    target_N, ones_N = np.asarray(target, dtype=np.int32), np.ones(len(at_N), dtype=np.float32)
    return Sequence(tokens_T, at_N, target_N, ones_N, origin, streams=streams, task=task)


def _only_text(parts: Content, origin: Origin) -> str:
    """Return the text of content; DataError where it holds a picture, which a model of texts would ignore."""
    if not all(isinstance(part, TextPart) for part in parts):
        raise DataError(f"{origin}: this row holds a picture, and the model reads text alone. Choose a model that reads pictures.")
    return plain(parts)


def _as_row(task: Task, spec: HeadSpec) -> Example:
    """Return a task as a row to be read: what the user says; DataError for a question without its context."""
    words = plain(task.messages[-1].content) if task.messages else task.text or ""
    if spec.kind == "token":
        return Tagged(content=content(task.expected.source or words), spans=(), origin=task.origin, group=task.group)
    if spec.kind in ("sequence", "picture"):
        shown = task.messages[-1].content if task.messages else content(words)
        return Labelled(content=shown, origin=task.origin, group=task.group)
    raise DataError(f"{task.origin}: this head needs a question and a context, each by itself. Use rows with both columns.")
