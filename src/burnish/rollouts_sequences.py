"""From sampled answers to sequences with streams: what the learner says of them, and how much better they were than expected.

Enters: prompts with their answers, the learner, the reference, rewards. Leaves: sequences whose read-outs are the answers' tokens, with
the streams that the objectives of `policy` read. Used by `rollouts` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Many
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from burnish.advantages import generalised, group_normalised, leave_one_out, returns, token_rewards, whitened
from burnish.data.batching import collate
from burnish.errors import ModelError, RunError
from burnish.models import Model, as_in_training, forward
from burnish.sampling import Generated
from burnish.sampling.mode import evaluating
from burnish.types import Batch, Origin, Sequence

if TYPE_CHECKING:
    import torch

Advantage = Literal["group", "centred", "leave_one_out", "reward_to_go", "generalised"]
"""How rewards become advantages: GRPO's, Dr. GRPO's, RLOO's, REINFORCE++'s and PPO's way (`advantages`)."""

Reference = Callable[[Batch], "torch.Tensor"]
"""What gives the reference's log-probability [N] of each read-out of a batch."""


def sequence_of(prompt_T: np.ndarray, answer: Generated, *, origin: Origin, group: int, task: str) -> tuple[Sequence, np.ndarray]:
    """Return prompt and answer with a read-out per token of the answer, and what the sampler gave each of these [N].

    The end token belongs to the answer where it ended by itself.
    """
    end = [] if answer.end_id is None else [answer.end_id]
    answer_N = np.concatenate([answer.tokens, np.asarray(end, dtype=np.int32)]).astype(np.int32)
    sampler_N = np.concatenate([answer.logprobs, np.full(len(end), answer.end_logprob)])
    assert len(answer_N) == len(sampler_N) > 0, "an answer has at least one token"
    at_N = np.arange(len(prompt_T) - 1, len(prompt_T) - 1 + len(answer_N), dtype=np.int32)
    sequence = Sequence(
        tokens_T=np.concatenate([prompt_T.astype(np.int32), answer_N]),
        at_N=at_N,
        target_N=answer_N,
        weight_N=np.ones(len(answer_N), dtype=np.float32),
        origin=origin,
        group=group,
        task=task,
    )
    return sequence, sampler_N.astype(np.float32)


STREAMS = ("sampled", "advantage", "reference", "return", "value")
"""What objectives may read of an attempt."""


def imagined(prompt_T: np.ndarray, length: int, *, origin: Origin, group: int, task: str) -> Sequence:
    """Return an attempt at a prompt as long as it can be, streams of zeros: what is not sampled yet, for a trial of the memory."""
    answer_N, zeros_N = np.full(length, prompt_T[-1], dtype=np.int32), np.zeros(length, dtype=np.float32)
    made = Generated(answer_N, "", False, "length", zeros_N)
    sequence, _ = sequence_of(prompt_T, made, origin=origin, group=group, task=task)
    return replace(sequence, streams=dict.fromkeys(STREAMS, zeros_N))


def measured(
    model: Model,
    micro_batches: Many[list[Sequence]],
    *,
    packing: bool,
    shared: bool = False,
    values: bool,
    reference: Reference | None,
    between: Callable[[], None] | None = None,
) -> tuple[list[list[Sequence]], float]:
    """Return the micro-batches with the streams "sampled", and "reference" and "value" where asked, and the mean entropy in nats.

    The learner's own forward pass gives them, in the layout and arithmetic of its training, so that the first ratio is 1. Raises
    ModelError where there is no value head, RunError where a log-probability is not a finite number.
    """
    import torch

    needs = ("logprobs", "entropy", "values") if values else ("logprobs", "entropy")
    entropy, count, filled = 0.0, 0, []
    with evaluating(model.network), torch.no_grad(), as_in_training(model):
        for micro in micro_batches:
            if between is not None:
                between()
            batch = collate(micro, packing=packing, shared=shared, pad_id=model.pad_id(), device=model.device)
            outputs = forward(model, batch, needs)
            assert outputs.logprobs_N is not None and outputs.entropy_N is not None
            streams = {"sampled": outputs.logprobs_N}
            if values:
                if outputs.values_N is None:
                    raise ModelError("PPO needs a value head, and this model has none. Use objective grpo, rloo or reinforce.")
                streams["value"] = outputs.values_N
            if reference is not None:
                streams["reference"] = reference(batch)
            entropy, count = entropy + float(outputs.entropy_N.double().sum()), count + len(outputs.entropy_N)
            filled.append(_with_streams(micro, batch, streams))
    return filled, entropy / max(count, 1)


def _with_streams(micro: list[Sequence], batch: Batch, streams: Mapping[str, torch.Tensor]) -> list[Sequence]:
    """Return a micro-batch's sequences with their parts of the streams."""
    sequence_N = batch.sequence_N.cpu().numpy()
    arrays = {name: values.float().cpu().numpy() for name, values in streams.items()}
    for name, values_N in arrays.items():
        if not np.isfinite(values_N).all():
            place = int(sequence_N[np.flatnonzero(~np.isfinite(values_N))[0]])
            raise RunError(
                f'The stream "{name}" of an answer to {micro[place].origin} is not a finite number: the weights are damaged or the tuning '
                f"diverged. Go back to an earlier checkpoint, and lower train.learning_rate."
            )
    return [
        replace(sequence, streams={name: values_N[sequence_N == place] for name, values_N in arrays.items()})
        for place, sequence in enumerate(micro)
    ]


def with_advantages(
    sequences: Many[Sequence], rewards_S: np.ndarray, how: Advantage, *, kl: float, discount: float, decay: float
) -> list[Sequence]:
    """Return the sequences with the stream "advantage", and "return" for a value head; `kl` is what a nat from the reference costs.

    Answers as one action are compared within their group; token-wise advantages are whitened over all tokens.
    """
    if how in ("group", "centred", "leave_one_out"):
        cost_S = np.array([kl * divergence(sequence) if kl else 0.0 for sequence in sequences])
        groups_S = np.array([sequence.group for sequence in sequences])
        net_S = rewards_S - cost_S
        found_S = leave_one_out(net_S, groups_S) if how == "leave_one_out" else None
        found_S = group_normalised(net_S, groups_S, scale=how == "group") if found_S is None else found_S
        return [_add(one, advantage=np.full(len(one.at_N), value)) for one, value in zip(sequences, found_S, strict=True)]
    rewards = [
        token_rewards(float(reward), one.streams.get("sampled", one.weight_N), one.streams.get("reference"), kl=kl)
        for one, reward in zip(sequences, rewards_S, strict=True)
    ]
    if how == "reward_to_go":
        raw = [returns(rewards_T, discount=discount) for rewards_T in rewards]
        goals: list[np.ndarray] | None = None
    else:
        pairs = [
            generalised(rewards_T, one.streams["value"], discount=discount, decay=decay)
            for one, rewards_T in zip(sequences, rewards, strict=True)
        ]
        raw, goals = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    cuts = np.cumsum([len(part) for part in raw])[:-1]
    white = np.split(whitened(np.concatenate(raw)), cuts)
    if goals is None:
        return [_add(one, advantage=advantage) for one, advantage in zip(sequences, white, strict=True)]
    return [
        _add(one, advantage=advantage, **{"return": goal}) for one, advantage, goal in zip(sequences, white, goals, strict=True)
    ]


def stand_in(sequence: Sequence) -> Sequence:
    """Return what counts as much as an answer from which nothing is learned, and costs next to nothing: a read-out with all its weight."""
    token = sequence.target_N[:1]
    return replace(
        sequence,
        tokens_T=np.concatenate([sequence.tokens_T[:1], token]),
        at_N=np.zeros(1, dtype=np.int32),
        target_N=token,
        weight_N=sequence.weight_N.sum(keepdims=True),
        streams={name: values_N[:1] for name, values_N in sequence.streams.items()},
    )


def divergence(sequence: Sequence) -> float:
    """Return the log-ratio of policy to reference summed over an answer, in nats: its mean estimates their KL divergence."""
    return float((sequence.streams["sampled"].astype(np.float64) - sequence.streams["reference"]).sum())


def _add(sequence: Sequence, **streams: np.ndarray) -> Sequence:
    return replace(sequence, streams={**sequence.streams, **{name: part.astype(np.float32) for name, part in streams.items()}})
