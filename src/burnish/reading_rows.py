"""Held-out rows that a head reads and nothing is written for: rated answers to be judged, and texts of which tokens are to be restored.

Enters: such rows, a model with its head, a renderer. Leaves: tasks whose scores compare what the head says, and one `Answer` per task:
the reward as a number, or how many of the masked tokens came back and how likely they were found. Called by `reading` and `finish`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from burnish.data.dialog import Frame, as_task
from burnish.data.render import Renderer
from burnish.data.render_heads import HeadRenderer
from burnish.data.render_masked import masking
from burnish.data.render_pairs import judged_sequences, within_pairs
from burnish.errors import ModelError
from burnish.models.numbered import numbered_batches
from burnish.sampling.mode import evaluating
from burnish.types import Answer, Batch, Example, Expected, Rated, Sequence, Task, Text

if TYPE_CHECKING:
    from burnish.models import Model

MASKS = 0
"""The seed of the masks of held-out texts: the same for every model and every run, so that figures compare."""


# ------------------------------------------------------------------------------------------------------------------ what is asked


def judged_tasks(examples: Many[Example], groups: Many[str], frame: Frame) -> list[Task]:
    """Return rows as tasks with their groups; of a rated answer, the dialog up to it is to be judged, and its rating is expected."""
    return [
        replace(_judged(example) if isinstance(example, Rated) else as_task(example, frame), group=group)
        for example, group in zip(examples, groups, strict=True)
    ]


def _judged(example: Rated) -> Task:
    turns = [number for number, message in enumerate(example.messages) if message.role == "assistant"]
    messages = example.messages[: turns[-1] + 1] if turns else example.messages
    return Task(messages=messages, expected=Expected(number=float(example.rating)), origin=example.origin, slice=example.slice)


# ---------------------------------------------------------------------------------------------------------------- rated answers


def rewards(
    renderer: Renderer,
    tasks: Many[Task],
    scores_of: Callable[[Many[Sequence]], list[np.ndarray]],
) -> list[Answer]:
    """Return the reward of each judged answer as a number in the answer's text; "" for an answer of which a cut leaves nothing.

    `scores_of` gives the head's scores of sequences.
    """
    rows = [Rated(messages=task.messages, rating=0.0, tools=task.tools, origin=task.origin) for task in tasks]
    parts = [within_pairs(judged_sequences(renderer, row, group=0), renderer.max_length, policy="cut") for row in rows]
    found = iter(scores_of([one for sequences in parts for one in sequences]))
    said = [[float(next(found)[0, 0]) for _ in sequences] for sequences in parts]
    return [Answer(text=f"{values[0]:.9g}" if values else "", stopped=True) for values in said]


# ---------------------------------------------------------------------------------------------------------------- restored tokens


def restored(
    model: Model,
    renderer: HeadRenderer,
    tasks: Many[Task | Text],
    *,
    tokens: int = 8192,
    between: Callable[[], None] | None = None,
) -> list[Answer]:
    """Return for each text how many of its masked tokens the encoder restores, and their negative log-likelihood in nats.

    The masks follow from the place of the text among the rows, and are drawn as in training (Devlin et al. 2018, section 3.1), so that
    some of the places show another token or the right one. A token is restored where no other is likelier.
    """
    import torch

    masked = masking(renderer.tokenizer, MASKS)
    sequences = []
    for row, task in enumerate(tasks):
        text = Text(text=task.text or "", origin=task.origin)
        sequences += [(row, one) for one in masked(renderer.within(renderer.sequences(text), "cut"), row, 0)]
    nats, right, count = (np.zeros(len(tasks)) for _ in range(3))
    with evaluating(model.network):
        for places, batch in numbered_batches(model, [one for _, one in sequences], tokens=tokens, between=between):
            with torch.inference_mode():
                nll_N, right_N = _read(model, batch)
            for number, part in places:
                row = sequences[number][0]
                nats[row] += nll_N[part].sum()
                right[row] += right_N[part].sum()
                count[row] += part.stop - part.start
    if not np.isfinite(nats).all():
        raise ModelError(
            "The model's output is not a finite number. Its weights are damaged or its tuning diverged; use an earlier checkpoint."
        )
    return [
        Answer(text=json.dumps({"restored": int(hits), "masked": int(size)}), stopped=True, nll=float(nll), nll_tokens=int(size))
        for nll, hits, size in zip(nats, right, count, strict=True)
    ]


def _read(model: Model, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Return the negative log-likelihood of each target, and 1 where no token is likelier, both [N]; logits in tiles of rows."""
    import torch

    from burnish.models.forward import TILE_ELEMENTS, model_inputs

    layout = batch.layout
    place_N = layout.row_S[batch.sequence_N] * layout.input_ids_BT.shape[1] + layout.start_S[batch.sequence_N] + batch.at_N
    inputs = model_inputs(model, layout)
    if model.head == "whole":
        head, hidden_NH = torch.nn.Identity(), model.plain()(**inputs).logits.flatten(0, 1)[place_N]
    else:
        head, hidden_NH = model.output_head(), model.trunk()(**inputs).last_hidden_state.flatten(0, 1)[place_N]
    rows = max(1, TILE_ELEMENTS // len(model.tokenizer))
    nll, right = [], []
    for part_NH, part_N in zip(hidden_NH.split(rows), batch.target_N.split(rows), strict=True):
        logits_NV = head(part_NH).float()
        target_N = logits_NV.gather(-1, part_N.long()[:, None]).squeeze(-1)
        nll.append(logits_NV.logsumexp(-1) - target_N)
        right.append(target_N >= logits_NV.amax(-1))
    return torch.cat(nll).double().cpu().numpy(), torch.cat(right).double().cpu().numpy()
