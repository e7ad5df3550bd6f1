"""What a teacher finds likely: fills the streams "candidates" and "teacher" of sequences, before a run that distills.

Enters: a teacher with the same tokenizer as the student, and rendered sequences. Leaves: the same sequences with, at each read-out, the
teacher's k likeliest tokens and their log-probabilities. Run once before step 0: nothing of it depends on the student.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Many
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from burnish.data.batching import collate, cut_padded
from burnish.errors import ModelError
from burnish.models import Model
from burnish.models.forward import model_inputs
from burnish.sampling.mode import evaluating
from burnish.types import Batch, Sequence

if TYPE_CHECKING:
    import torch

TILE_ROWS = 256
"""Read-outs whose logits over the whole vocabulary are held at once."""


def fill(teacher: Model, tokenizer: Any, sequences: Many[Sequence], *, candidates: int = 32, tokens: int = 4096) -> list[Sequence]:
    """Return the sequences with the streams "candidates" int32 [N, K] and "teacher" float32 [N, K] in nats, likeliest first.

    `tokenizer` is the student's; `candidates` is K; `tokens` is the size of a padded batch in positions and changes speed only.

    Raises ModelError where the teacher's tokens are not the student's, where it knows fewer than K, where a sequence is longer than
    its context, or where its output is not a finite number.
    """
    import torch

    _refuse(teacher, tokenizer, sequences, candidates)
    # The group carries each sequence's number through the batches, which are cut by length.
    units = [[replace(sequence, group=number + 1, task="main", streams={})] for number, sequence in enumerate(sequences)]
    filled = list(sequences)
    with evaluating(teacher.network), torch.no_grad():
        for micro in cut_padded(units, tokens):
            batch = collate(micro, packing=False, pad_id=teacher.pad_id(), device=teacher.device)
            likeliest = [part.topk(candidates) for part in _logprobs(teacher, batch)]
            token_NK = _joined([part.indices for part in likeliest], candidates).astype(np.int32)
            logprob_NK = _joined([part.values for part in likeliest], candidates).astype(np.float32)
            sequence_N = batch.sequence_N.cpu().numpy()
            for place, part in enumerate(micro):
                inside_N, number = sequence_N == place, part.group - 1
                streams = {"candidates": token_NK[inside_N], "teacher": logprob_NK[inside_N]}
                if not np.isfinite(streams["teacher"]).all():
                    raise ModelError(
                        f"The teacher's output is not a finite number at {part.origin}. Its weights are damaged or its tuning diverged; "
                        f"use another teacher."
                    )
                filled[number] = replace(sequences[number], streams={**sequences[number].streams, **streams})
    return filled


def _refuse(teacher: Model, tokenizer: Any, sequences: Many[Sequence], candidates: int) -> None:
    """Raise ModelError for a teacher that cannot read what the student reads, or cannot say what it is asked for."""
    theirs, ours = teacher.tokenizer.get_vocab(), tokenizer.get_vocab()
    if theirs != ours:
        token = min((token for token in theirs.keys() | ours.keys() if theirs.get(token) != ours.get(token)), key=str)
        raise ModelError(
            f"teacher = {teacher.found.name!r} has another tokenizer than the model ({len(theirs)} and {len(ours)} tokens; {token!r} is "
            f"number {theirs.get(token)} and {ours.get(token)}): its probabilities are of other tokens. Use a teacher of the same family."
        )
    embedding: Any = teacher.plain().get_input_embeddings()
    known = int(embedding.weight.shape[0])
    if not 1 <= candidates <= known:
        raise ModelError(f"candidates = {candidates}: expected a number from 1 to the teacher's {known} tokens.")
    longest = max(sequences, key=lambda sequence: sequence.length, default=None)
    if longest is not None and longest.length > teacher.max_length:
        raise ModelError(
            f"teacher = {teacher.found.name!r} reads {teacher.max_length} tokens, and {longest.origin} has {longest.length}. Set "
            f"data.max_length = {teacher.max_length}, or use a teacher with a longer context."
        )


def _logprobs(teacher: Model, batch: Batch) -> Iterator[torch.Tensor]:
    """Yield the log-probabilities [rows, V] of all tokens at the read-outs, a tile of read-outs at a time."""
    place_N = batch.layout.row_S[batch.sequence_N] * batch.layout.input_ids_BT.shape[1] + batch.at_N
    inputs = model_inputs(teacher, batch.layout)
    if teacher.head == "whole":
        network: Any = teacher.network
        for part_NV in network(**inputs).logits.flatten(0, 1)[place_N].split(TILE_ROWS):
            yield part_NV.float().log_softmax(-1)
        return
    head: Any = teacher.output_head()
    for part_NH in teacher.trunk()(**inputs).last_hidden_state.flatten(0, 1)[place_N].split(TILE_ROWS):
        yield head(part_NH).float().log_softmax(-1)


def _joined(parts: Many[torch.Tensor], width: int) -> np.ndarray:
    """Return the parts below each other as [N, width], also where there are none."""
    return np.concatenate([np.empty((0, width)), *(part.cpu().numpy() for part in parts)])
