"""Continue prompts: batched, with a key-value cache, rows leaving the batch when they finish.

Enters: a `Model`, prompts as token ids, `Options`. Leaves: a `Generated` per prompt and sample, or pieces of text as they arise.
In float32 the greedy tokens are those of transformers' own greedy generation. In bfloat16, where the order of sums depends on the
shape of a batch, the first difference stands where the two best logits lie within `BFLOAT16_TOLERANCE` of each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from itertools import takewhile
from typing import Any

import numpy as np

from burnish.errors import ModelError, RunError, combined
from burnish.models import Model
from burnish.sampling.choose import Options
from burnish.sampling.flight import Flight, Generated, Row
from burnish.sampling.mode import evaluating
from burnish.sampling.text import Pieces

BFLOAT16_TOLERANCE = 2.0**-5
"""Of the largest logit's size: four roundings of bfloat16, whose numbers lie up to 2^-7 of their size apart."""


def generate(
    model: Model,
    prompts: Sequence[np.ndarray],
    options: Options,
    *,
    numbers: Sequence[int] | None = None,
    between: Callable[[], None] | None = None,
) -> list[Generated]:
    """Return `options.samples` answers to each prompt, in the order of the prompts: all samples of the first one first.

    The result does not depend on `options.batch`. Draws are keyed by a prompt's place in the list, or by its number where `numbers`
    gives one each: so that prompts handed over in slices, or in another order, get the same answers. No global random generator is
    touched, and the network is left in the mode it was in. On a GPU without memory for a batch, the batch is halved. `between` is
    called each time before prompts are read, and may raise to stop.

    Raises ModelError, all problems at once, for empty prompts, tokens that the model does not know, prompts too long for its
    context, or a model whose output is not a finite number; RunError where memory does not even suffice for one answer.
    """
    fitted = _fitted(model, prompts, options)
    own = range(len(fitted)) if numbers is None else numbers
    assert len(own) == len(fitted), "a number for each prompt"
    cuts = [len(prompt) - len(tokens_T) for prompt, tokens_T in zip(prompts, fitted, strict=True)]
    rows = [
        Row(place, own[place], sample, tokens_T, cuts[place])
        for place, tokens_T in enumerate(fitted)
        for sample in range(options.samples)
    ]
    # The longest first: if memory is short, that shows at once and not after an hour. Rows of like length stand together.
    waiting, answers, size = sorted(rows, key=lambda row: -len(row.tokens)), {}, options.batch
    with evaluating(model.network):
        while waiting:
            size = min(size, len(waiting))
            if not _fly(model, waiting, options, size, answers, between or _go_on):
                size //= 2
            waiting = [row for row in waiting if row not in answers]
    return [answers[row] for row in rows]


def stream(model: Model, prompt: np.ndarray, options: Options) -> Generator[str, None, Generated]:
    """Yield the text of one answer in pieces as it arises, never half a character or the beginning of a stop string.

    The pieces joined are the text that `generate` gives with the same options (`samples` is taken as 1); the generator's return
    value is that answer. Closing the generator early leaves the network in the mode it was in. Raises what `generate` raises.
    """
    tokens_T = _fitted(model, [prompt], options)[0]
    pieces = Pieces(model.tokenizer, options.stop)
    with evaluating(model.network):
        flight = Flight(model, options, rows=1)
        flight.admit([Row(0, 0, 0, tokens_T, len(prompt) - len(tokens_T))])
        while not (finished := flight.advance()):
            piece = pieces.push(flight.newest(0))
            if piece:
                yield piece
    answer = finished[0][1]
    rest = answer.text[len(pieces.shown) :]
    if rest:
        yield rest
    return answer


def _fitted(model: Model, prompts: Sequence[np.ndarray], options: Options) -> list[np.ndarray]:
    """Return the prompts as int64 arrays that leave room for an answer, or raise ModelError with every problem."""
    room = model.max_length - options.max_tokens
    if room < 1:
        raise ModelError(
            f"max_tokens = {options.max_tokens} leaves no room for a prompt: the model's context is {model.max_length} tokens. "
            f"Ask for fewer."
        )
    embedding: Any = model.plain().get_input_embeddings()
    known = int(embedding.weight.shape[0])
    start_id: Any = model.tokenizer.bos_token_id
    fitted, problems = [], []
    for number, prompt in enumerate(prompts):
        tokens_T = np.asarray(prompt, dtype=np.int64).reshape(-1)
        if not len(tokens_T):
            problems.append(f"prompt {number} is empty: expected at least one token, such as the beginning-of-text token.")
        elif tokens_T.min() < 0 or tokens_T.max() >= known:
            problems.append(f"prompt {number} holds a token outside the model's {known}: was it made with another tokenizer?")
        elif len(tokens_T) > room and options.long_prompts == "fail":
            problems.append(f"prompt {number} has {len(tokens_T)} tokens, {len(tokens_T) - room} too many.")
        fitted.append(_cut(tokens_T, room, start_id))
    if problems:
        heading = (
            f"Prompts that cannot be answered (the model's context of {model.max_length} tokens less max_tokens = {options.max_tokens} "
            f"leaves {room}; shorten the prompt, lower max_tokens, or set long_prompts = 'cut')"
        )
        raise combined(ModelError, heading, problems)
    return fitted


def _cut(tokens_T: np.ndarray, room: int, start_id: int | None) -> np.ndarray:
    """Return the last `room` tokens; a beginning-of-text token stays in front, since models answer badly without it."""
    if len(tokens_T) <= room:
        return tokens_T
    if tokens_T[0] == start_id and room > 1:
        return np.concatenate([tokens_T[:1], tokens_T[len(tokens_T) - room + 1 :]])
    return tokens_T[len(tokens_T) - room :]


def _go_on() -> None:
    """Do nothing between batches."""


def _fly(
    model: Model, waiting: Sequence[Row], options: Options, size: int, answers: dict[Row, Generated], between: Callable[[], None]
) -> bool:
    """Answer rows, up to `size` at once, the next ones joining where others left; return whether memory sufficed.

    Raises RunError where it does not even suffice for one row.
    """
    import torch

    queue = deque(waiting)
    try:
        flight = Flight(model, options, rows=size, steps=options.max_tokens * len(waiting) // size)
        while queue or len(flight):
            if joining := _joining(queue, flight):
                between()
                flight.admit(joining)
            answers |= dict(flight.advance())
    except torch.OutOfMemoryError as error:
        if size == 1:
            raise RunError(
                f"Memory of {model.device} does not suffice to generate even one answer (max_tokens = {options.max_tokens}, prompts of up "
                f"to {len(waiting[0].tokens)} tokens). Lower max_tokens, shorten the prompt, or use a smaller model."
            ) from error
        return False
    return True


def _joining(queue: deque[Row], flight: Flight) -> list[Row]:
    """Take from the queue the rows that join now: answers to a prompt together, and not before a quarter of the places is free."""
    free, found = flight.room, []
    if len(flight) and free < max(1, flight.size // 4):
        return []
    while queue and free:
        group = list(takewhile(lambda row: row.prompt == queue[0].prompt, queue))
        if len(group) > free and (found or len(flight)):
            break  # it waits until its prompt can be read once for all of them
        found += group[:free]
        for _ in group[:free]:
            queue.popleft()
        free = flight.room - len(found)
    return found
