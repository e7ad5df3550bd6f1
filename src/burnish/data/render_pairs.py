"""Render preferences: a pair as two sequences of one group, a rated answer as one, each read at the tokens of its answer.

Enters: `Pair` and `Rated` rows and the run's `Renderer`. Leaves: sequences whose prompts carry no read-outs; the same read at their last
token, for a reward model (`judged`); and prompts with other rows' answers (`unrelated`), of which KTO's reference point is made. Long
sequences are dropped or cut as whole pairs (`within_pairs`).
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Many
from dataclasses import replace
from typing import Literal

import numpy as np

from burnish.data.dialog import Frame, as_dialog
from burnish.data.render import Renderer, cut_right
from burnish.errors import DataError
from burnish.types import Dialog, Message, Pair, Rated, Sequence

Messages = tuple[Message, ...]


def pair_sequences(renderer: Renderer, pair: Pair, *, group: int) -> list[Sequence]:
    """Return the chosen and the rejected answer, each behind the prompt, as two sequences of `group` (a number other than 0).

    Read-outs stand before the tokens of the answers' assistant turns, their ends included. Raises DataError, with the row's origin,
    where the two are the same, an answer has nothing to read, or the template cannot show an answer as one sequence.
    """
    assert group != 0, "0 is the group of sequences that stand alone"
    sides = [
        _read(renderer, pair.prompt, answer, pair, role=role, group=group)
        for role, answer in (("chosen", pair.chosen), ("rejected", pair.rejected))
    ]
    if np.array_equal(sides[0].tokens_T, sides[1].tokens_T):
        raise DataError(
            f"{pair.origin}: the chosen and the rejected answer are the same in the form that the model reads, so there is nothing to "
            f"prefer. Expected two answers that differ; leave this row out."
        )
    return sides


def rated_sequences(renderer: Renderer, example: Rated, *, thumbs: bool = True) -> list[Sequence]:
    """Return a rated answer behind its prompt as one sequence with the stream "rating"; only its last assistant turn is read.

    With `thumbs` the rating must be 1 or 0. Raises DataError for another rating, or where no turn of the assistant can be read.
    """
    if thumbs and example.rating not in (0, 1):
        raise DataError(
            f"{example.origin}: the rating is {example.rating:g}, but a thumb is expected here: 1 (good) or 0 (bad). Give thumbs in a "
            f'column "label", or learn from numbers with a reward model: objective.name = "reward", objective.ratings = "numbers".'
        )
    prompt, answer = _asked_and_answered(example)
    sequence = _read(renderer, prompt, answer, example, role="policy", group=0)
    return [_with_streams(sequence, rating=example.rating)]


def judged_sequences(renderer: Renderer, example: Pair | Rated, *, group: int, margin: float = 0.0) -> list[Sequence]:
    """Return the sequences of a pair or of a rated answer as a reward model reads them: one read-out, at the last token.

    All carry the streams "margin" (`margin` for a pair) and "rating" (0 for a pair), so that both kinds may stand in one batch.
    Raises DataError as `pair_sequences` does.
    """
    if isinstance(example, Pair):
        return [judged(side, margin=margin, rating=0.0) for side in pair_sequences(renderer, example, group=group)]
    return [judged(one, margin=0.0, rating=example.rating) for one in rated_sequences(renderer, example, thumbs=False)]


def judged(sequence: Sequence, *, margin: float, rating: float) -> Sequence:
    """Return the sequence with a single read-out of weight 1, at its last token, where Hugging Face's heads for sequences read."""
    last_N, target_N = np.asarray([sequence.length - 1], dtype=np.int32), np.zeros(1, dtype=np.int32)
    bare = replace(sequence, at_N=last_N, target_N=target_N, weight_N=np.ones(1, dtype=np.float32), streams={}, text_bytes=0)
    return _with_streams(bare, margin=margin, rating=rating)


def within_pairs(sequences: Iterable[Sequence], limit: int, *, policy: Literal["drop", "cut", "fail"]) -> list[Sequence]:
    """Return the sequences that fit `limit` tokens, as whole pairs: where one side is too long, both go or the pair is cut.

    "cut" takes tokens from the right; a read-out at the last token is moved to the new last token. A pair of which a cut leaves one side
    nothing to read, or both sides the same tokens, goes as a whole. Other sequences are each judged alone. Order is kept; counting what
    is lost, and failing, is the checks' work, which run before this, as with `Renderer.within`.
    """
    found = list(sequences)
    kept = [_shortened(sequence, limit) if policy == "cut" else sequence for sequence in found]
    lost: set[int] = set()
    for places in _members(found):
        sides = [kept[place] for place in places]
        fits = all(side.length <= limit and side.weight_N.any() for side in sides)
        alike = len(sides) > 1 and any(np.array_equal(sides[0].tokens_T, side.tokens_T) for side in sides[1:])
        lost |= set() if fits and not alike else set(places)
    return [sequence for place, sequence in enumerate(kept) if place not in lost]


def thumbs_of(pair: Pair) -> tuple[Rated, Rated]:
    """Return a pair as two rated answers: the chosen one with a thumb up, the rejected one with a thumb down."""
    sides = ((pair.chosen, 1.0), (pair.rejected, 0.0))
    up, down = (
        Rated(messages=(*pair.prompt, *answer), rating=rating, tools=pair.tools, origin=pair.origin, group=pair.group)
        for answer, rating in sides
    )
    return up, down


def unrelated(renderer: Renderer, examples: Many[Rated | Pair], *, seed: int) -> list[list[Sequence]]:
    """Return for each example its prompt with another row's answer, an answer to another prompt, as KTO's reference point needs them.

    Of a pair the chosen answer is taken.

    Which row that is follows from the seed. Sequences are cut to the renderer's `max_length`; an example whose prompt leaves no room gets
    none. They carry no streams yet. Raises DataError where all rows have the same prompt, since no answer is then unrelated.
    """
    rows = [_asked_and_answered(thumbs_of(example)[0] if isinstance(example, Pair) else example) for example in examples]
    found = []
    for example, (prompt, _), other in zip(examples, rows, _partners([prompt for prompt, _ in rows], examples, seed), strict=True):
        sequence = _shortened(_read(renderer, prompt, rows[other][1], example, role="policy", group=0), renderer.max_length)
        found.append([sequence] if sequence.weight_N.any() else [])
    return found


def _partners(prompts: Many[Messages], examples: Many[Rated | Pair], seed: int) -> list[int]:
    """Return for each row the next one with another prompt, in a circle whose order follows from the seed."""
    size = len(prompts)
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(size)
    after: list[int | None] = [None] * size
    for place in reversed(range(2 * size)):  # twice around: the first time finds what lies beyond the end of the circle
        here, following = int(order[place % size]), int(order[(place + 1) % size])
        after[here] = following if prompts[following] != prompts[here] else after[following]
    partners = [partner for partner in after if partner is not None]
    if len(partners) < size:
        raise DataError(
            f"{examples[0].origin}: all {size} rows have the same prompt. Learning from thumbs compares with answers to other prompts; "
            f"give rows with at least two different prompts."
        )
    return partners


def _asked_and_answered(example: Rated) -> tuple[Messages, Messages]:
    """Return a rated dialog's messages up to its last assistant turn, and that turn; what comes after it is not rated."""
    turns = [number for number, message in enumerate(example.messages) if message.role == "assistant"]
    if not turns:
        raise DataError(f"{example.origin}: there is no assistant turn that the rating could be of.")
    return example.messages[: turns[-1]], example.messages[turns[-1] : turns[-1] + 1]


def _read(renderer: Renderer, prompt: Messages, answer: Messages, row: Pair | Rated, *, role: str, group: int) -> Sequence:
    """Return prompt and answer as one sequence with read-outs in the answer's assistant turns alone; tools are those of `row`."""
    origin = row.origin
    given = tuple(replace(message, weight=0.0) for message in prompt)
    said = tuple(replace(message, weight=1.0 if message.weight is None else message.weight) for message in answer)
    rendered = renderer.dialog(_framed((*given, *said), renderer.frame, row))
    called = "rated" if group == 0 else role
    if not any(sequence.weight_N.any() for sequence in rendered):
        raise DataError(
            f"{origin}: the {called} answer holds no assistant turn with a weight above 0, so nothing in it can be read."
        )
    if len(rendered) > 1:
        raise DataError(
            f"{origin}: the model's chat template shows earlier turns differently once they are past, so the {called} answer, which has "
            f"several turns, is no single text. Move all but its last turn into the prompt."
        )
    return replace(rendered[0], role=role, group=group)


def _framed(messages: Messages, frame: Frame, row: Pair | Rated) -> Dialog:
    """Return the messages as a dialog, with the run's system prompt where they bring none."""
    dialog = as_dialog(Dialog(messages=messages, tools=row.tools, origin=row.origin), frame)
    assert isinstance(dialog, Dialog)
    return dialog


def _with_streams(sequence: Sequence, **values: float) -> Sequence:
    """Return the sequence with a value of its own repeated on each of its read-outs, for each stream named."""
    streams = {name: np.full(len(sequence.at_N), value, dtype=np.float32) for name, value in values.items()}
    return replace(sequence, streams={**sequence.streams, **streams})


def _members(sequences: Many[Sequence]) -> list[list[int]]:
    """Return the places of the sequences of each group, and of each sequence that stands alone."""
    groups: dict[tuple[int, int], list[int]] = {}
    for place, sequence in enumerate(sequences):
        groups.setdefault((sequence.group, place if sequence.group == 0 else 0), []).append(place)
    return list(groups.values())


def _shortened(sequence: Sequence, limit: int) -> Sequence:
    """Return the first `limit` tokens of a sequence; a read-out at the last token stays one of the last token."""
    if sequence.length <= limit:
        return sequence
    if len(sequence.at_N) == 1 and sequence.at_N[0] == sequence.length - 1:  # read as a whole, not token by token
        return replace(sequence, tokens_T=sequence.tokens_T[:limit], at_N=np.asarray([limit - 1], dtype=sequence.at_N.dtype))
    return cut_right(sequence, limit)
