"""What the policy said before step 0: fills the stream "reference", and KTO's reference point, the stream "divergence".

Enters: a model as it stands before the first step, its technique applied, and rendered sequences. Leaves: the sequences with the
log-probability of every target. Because it is the very model that will be tuned, the reference is right for every technique, those that
begin away from their base and runs that continue another run included; it costs one pass and no second model. A resumed run has moved
on: it reads what was kept on disk (`cached`), or fills before the checkpoint is loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as Many
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from burnish.atomic import make_directory, write_file
from burnish.data.batching import FixedBatches
from burnish.devices import Ranks
from burnish.errors import ModelError, combined
from burnish.models import Model, as_in_training, forward, numbered_batches
from burnish.types import Batch, Sequence

if TYPE_CHECKING:
    import torch

Policy = Literal["as_it_stands", "adapter_off"]
Units = list[list[Sequence]]

TOLD = 20
"""Sequences from which on it is told how far the reading has come, if they do not fit one batch."""


def fill(
    model: Model,
    units: Many[Many[Sequence]],
    *,
    policy: Policy = "as_it_stands",
    tokens: int,
    packing: bool = False,
    shared: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Units:
    """Return the sequences of each example with the stream "reference" added: float32 [N], in nats, for every read-out.

    To be called before step 0. `policy` "adapter_off" reads the base under the adapter instead of the model as it stands, which is the
    same only where the adapter started at zero on that very base. `tokens`, `packing` and `shared` are those of the micro-batches that
    will be trained on. Raises ModelError as `log_probabilities` does.
    """
    flat = [sequence for unit in units for sequence in unit]
    say(f"Reading what the model says before tuning: {len(flat):,} sequences, once")
    laid: dict[str, Any] = {"tokens": tokens, "packing": packing, "shared": shared}
    return with_reference(units, log_probabilities(model, flat, policy=policy, say=say, **laid))


def with_reference(units: Many[Many[Sequence]], values: Iterable[np.ndarray]) -> Units:
    """Return the units with the stream "reference" added, `values` holding one array per sequence, in their order."""
    remaining = iter(values)
    filled = [
        [replace(one, streams={**one.streams, "reference": np.asarray(next(remaining), dtype=np.float32)}) for one in unit]
        for unit in units
    ]
    assert next(remaining, None) is None, "more arrays than sequences"
    assert all(len(one.streams["reference"]) == len(one.at_N) for unit in filled for one in unit), "arrays of other sequences"
    return filled


def log_probabilities(
    model: Model,
    sequences: Many[Sequence],
    *,
    policy: Policy = "as_it_stands",
    tokens: int,
    packing: bool = False,
    shared: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[np.ndarray]:
    """Return for each sequence the log-probability of the target of each read-out, float32 [N] in nats, dropout off, no gradient.

    Sequences of a group need not stand together here, but with `shared` they do, and their common prefix is read once. Raises ModelError
    for a sequence longer than the model's context, for a policy "adapter_off" of a model without an adapter, or where the model's output
    is not a finite number.
    """
    _refuse_long(model, sequences)
    found: list[np.ndarray] = [np.zeros(0, dtype=np.float32)] * len(sequences)
    read, tenth = 0, max(1, len(sequences) // 10)
    with _quiet(model, policy):
        for places, batch in numbered_batches(model, sequences, tokens=tokens, packing=packing, shared=shared):
            logprobs_N = _read(model, batch).cpu().numpy()
            for number, part in places:
                found[number] = logprobs_N[part]
            before, read = read, read + len(places)
            if len(sequences) >= TOLD and read // tenth > before // tenth and read < len(sequences):
                say(f"Reading what the model says before tuning: {read:,} of {len(sequences):,} sequences")
    _refuse_not_finite(sequences, found)
    return found


# ---------------------------------------------------------------------------------------------------------------------- kept on disk


def key_of(sequences: Iterable[Sequence], *, fingerprint: str) -> str:
    """Return the sha256 of all tokens, places and targets, and of what else the log-probabilities follow from.

    `fingerprint` names the weights before step 0: the base, the technique with its options and seed, the dtype.
    """
    digest = hashlib.sha256(fingerprint.encode())
    for sequence in sequences:
        for values in (sequence.tokens_T, sequence.at_N, sequence.target_N):
            digest.update(len(values).to_bytes(8, "little"))
            digest.update(np.ascontiguousarray(values, dtype="<i4").tobytes())
    return digest.hexdigest()


def cached(path: Path, key: str, *, compute: Callable[[], list[np.ndarray]]) -> list[np.ndarray]:
    """Return the arrays kept at `path` under this key; where there are none, or they are of another key or damaged, compute and keep.

    One safetensors file, written so that it is complete or absent. Raises RunError or SpaceError where it cannot be written.
    """
    kept = from_file(path, key)
    if kept is not None:
        return kept
    values = [np.asarray(part, dtype=np.float32) for part in compute()]
    make_directory(path.parent)
    write_file(path, as_file(values, key))
    return values


def as_file(values: Many[np.ndarray], key: str) -> bytes:
    """Return arrays and their key as the content of a safetensors file that says whether it is whole."""
    from safetensors.numpy import save

    tensors = {
        "reference": np.concatenate(values).astype(np.float32) if values else np.zeros(0, dtype=np.float32),
        "lengths": np.asarray([len(part) for part in values], dtype=np.int64),
    }
    return save(tensors, metadata={"key": key, "sha256": _content(tensors)})


def from_file(path: Path, key: str) -> list[np.ndarray] | None:
    """Return the arrays of a file if it is whole and of this key, else None."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
    except (OSError, SafetensorError, ValueError):
        return None
    if facts.get("key") != key or tensors.keys() != {"reference", "lengths"} or facts.get("sha256") != _content(tensors):
        return None
    return np.split(tensors["reference"], np.cumsum(tensors["lengths"])[:-1]) if len(tensors["lengths"]) else []


def _content(tensors: dict[str, np.ndarray]) -> str:
    """Return the sha256 of the tensors, which a damaged byte would change."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape} ".encode())
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()


# --------------------------------------------------------------------------------------------------------------- KTO's reference point


def divergence_point(
    model: Model,
    sequences: Many[Sequence],
    *,
    tokens: int,
    packing: bool = False,
    shared: bool = False,
    ranks: Ranks | None = None,
) -> float:
    """Return z0: the mean over answers to other prompts of log(π / π_ref), summed over an answer's tokens, and 0 where that is below 0.

    `sequences` carry the stream "reference"; the policy is the model as it stands now, read without gradient and dropout. With several
    `ranks` each reads its share of the sequences, which all must name in the same order. 0 where there are none.

    Source: Ethayarajh et al. 2024, arXiv 2402.01306, section 4.
    """
    import torch

    ranks = ranks or Ranks()
    mine = [sequence for sequence in sequences if sequence.weight_N.any()][ranks.rank :: ranks.size]
    now = log_probabilities(model, mine, tokens=tokens, packing=packing, shared=shared)
    ratios = [
        float((one.weight_N.astype(np.float64) * (logprobs_N - one.streams["reference"]))[one.weight_N != 0].sum())
        for one, logprobs_N in zip(mine, now, strict=True)
    ]
    sums = {"ratio": torch.tensor(sum(ratios), dtype=torch.float64), "count": torch.tensor(float(len(ratios)), dtype=torch.float64)}
    total = ranks.sum({name: value.to(model.device) if ranks.size > 1 else value for name, value in sums.items()})
    return max(0.0, float(total["ratio"] / total["count"].clamp(min=1.0)))


@dataclass(frozen=True, slots=True, eq=False)
class WithDivergence:
    """A source of batches that adds the stream "divergence" to those of another: KTO's reference point, the same on the whole step.

    `unrelated[i]` are the sequences that pair example i's prompt with another row's answer, with the stream "reference". The point is
    taken of the model as it stands when the step's batches are asked for, which is just before the step.
    """

    source: FixedBatches
    model: Model
    unrelated: Many[Many[Sequence]]
    ranks: Ranks | None = None

    def __call__(self, step: int) -> list[Batch]:
        """Return this rank's micro-batches of a step, "divergence" repeated on each read-out."""
        return self.cut(self.source.rows(step * self.source.batch, self.source.batch))

    def rows(self, first: int, count: int) -> list[tuple[int, int]]:
        """Return `count` examples as (number, epoch), as the source has them."""
        return self.source.rows(first, count)

    def cut(self, rows: Many[tuple[int, int]]) -> list[Batch]:
        """Return this rank's micro-batches of some examples, the point taken of all of them."""
        import torch

        assert len(self.unrelated) == len(self.source.examples), "one list of sequences for each example"
        assert (self.ranks or Ranks()).size == self.source.ranks, "the point is a mean over all ranks of the source"
        parts = [sequence for number, _ in rows for sequence in self.unrelated[number]]
        laid: dict[str, Any] = {"tokens": self.source.tokens, "packing": self.source.packing, "shared": self.source.shared}
        point = divergence_point(self.model, parts, ranks=self.ranks, **laid)
        return [
            replace(batch, streams={**batch.streams, "divergence": torch.full_like(batch.weight_N, point)})
            for batch in self.source.cut(rows)
        ]

    def largest(self) -> list[Batch]:
        """Return the largest micro-batch that the rows can make, with a point of 0."""
        return [
            replace(batch, streams={**batch.streams, "divergence": batch.weight_N.new_zeros(len(batch.weight_N))})
            for batch in self.source.largest()
        ]


# -------------------------------------------------------------------------------------------------------------------- reading a model


@contextmanager
def _quiet(model: Model, policy: Policy) -> Iterator[None]:
    """Read the policy inside: no gradient, every module in evaluation mode, activations as in training; all put back afterwards."""
    import torch

    if policy == "adapter_off" and not hasattr(model.network, "disable_adapter"):
        raise ModelError(
            f"model = {model.found.name!r}: there is no adapter to switch off, so the policy before step 0 cannot be read that way. Fill "
            f"the reference before the first step, from the model as it stands."
        )
    off: Any = model.network.disable_adapter() if policy == "adapter_off" else nullcontext()
    training = [module for module in model.network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        # What is rounded in training must be rounded here too, or the two policies would differ before the first step.
        with off, as_in_training(model), torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def _read(model: Model, batch: Batch) -> torch.Tensor:
    """Return the log-probabilities of the batch's targets as float32 [N]."""
    logprobs_N = forward(model, batch, ("logprobs",)).logprobs_N
    assert logprobs_N is not None, "asked for log-probabilities"
    return logprobs_N.float()


def _refuse_long(model: Model, sequences: Many[Sequence]) -> None:
    """Raise ModelError where a sequence does not fit the model's context."""
    problems = [f"{one.origin}: {one.length} tokens." for one in sequences if one.length > model.max_length]
    if problems:
        raise combined(
            ModelError, f"Sequences longer than the {model.max_length} tokens that the model reads (drop or cut them)", problems
        )


def _refuse_not_finite(sequences: Many[Sequence], values: Many[np.ndarray]) -> None:
    """Raise ModelError where a log-probability is not a finite number."""
    broken = [str(one.origin) for one, part in zip(sequences, values, strict=True) if not np.isfinite(part).all()]
    if broken:
        raise ModelError(
            f"The model's output is not a finite number for {len(broken)} of {len(sequences)} sequences (first: {broken[0]}). Its weights are "
            f"damaged or its tuning diverged; use an earlier checkpoint or another model."
        )
