"""Losses of heads: labels, numbers, tags, and where an answer starts and ends.

Enters: `Outputs.scores_NC` and the batch's targets and streams. Leaves: one term each, a weighted sum over read-outs, and how many were
right. Which of several shapes a batch has (one label or several, one layer of tags or one per type) is seen from its streams.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from burnish.types import Answerable, Batch, Labelled, Loss, Objective, Outputs, Tagged

if TYPE_CHECKING:
    import torch


def classification(outputs: Outputs, batch: Batch, *, label_smoothing: float = 0.0) -> Loss:
    """A head that chooses a label, or says of each label whether it holds.

    One label: the weighted sum of softmax cross-entropies in nats, with smoothing s towards (1 - s) of the target and s / C of each
    class. Several labels: of binary cross-entropies, averaged over the C labels, targets moved by s / 2 from 0 and 1. Metric: the
    share of rows with exactly the right labels.
    Source: Szegedy et al. 2015, "Rethinking the Inception Architecture", arXiv 1512.00567, section 7.
    """
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

    scores_NC, weight_N = _kept(outputs.scores_NC, batch), batch.weight_N[batch.weight_N != 0]
    if "classes" in batch.streams:
        classes_NC = _kept(batch.streams["classes"], batch)
        soft_NC = classes_NC * (1 - label_smoothing) + label_smoothing / 2
        loss_N = binary_cross_entropy_with_logits(scores_NC, soft_NC, reduction="none").mean(-1)
        right_N = ((scores_NC > 0) == (classes_NC > 0.5)).all(-1)
    else:
        target_N = _kept(batch.target_N, batch)
        loss_N = cross_entropy(scores_NC, target_N, reduction="none", label_smoothing=label_smoothing)
        right_N = scores_NC.argmax(-1) == target_N
    return Loss(terms={"nll": (loss_N * weight_N).sum()}, metrics={"accuracy": _share(right_N)})


def classification_counts(batch: Batch, *, label_smoothing: float = 0.0) -> Mapping[str, torch.Tensor]:
    """Return the denominator of `classification`: the sum of the weights."""
    return {"nll": batch.weight_N.sum()}


def regression(outputs: Outputs, batch: Batch, *, huber: float | None = None) -> Loss:
    """A head that tells a number, learned by its squared error.

    Numbers are standardised beforehand, so that an error of 1 is one deviation of the training rows. With `huber` = d, errors e above d
    count d (|e| - d / 2) and smaller ones e² / 2, so that outliers pull less. Metric: the mean absolute error, in deviations.
    Source: Huber 1964, "Robust Estimation of a Location Parameter", equation 3.1.
    """
    scores_NC, weight_N = _kept(outputs.scores_NC, batch), batch.weight_N[batch.weight_N != 0]
    error_N = (scores_NC[:, 0] - _kept(batch.streams["number"], batch)).abs()
    loss_N = error_N**2
    if huber is not None:
        assert huber > 0, "a width of 0 would learn nothing"
        small_N = error_N.clamp(max=huber)
        loss_N = small_N * (error_N - small_N / 2)
    return Loss(terms={"error": (loss_N * weight_N).sum()}, metrics={"absolute_error": (error_N.sum(), _number(error_N))})


def regression_counts(batch: Batch, *, huber: float | None = None) -> Mapping[str, torch.Tensor]:
    """Return the denominator of `regression`: the sum of the weights."""
    return {"error": batch.weight_N.sum()}


def ner(outputs: Outputs, batch: Batch, *, twice: bool | None = None) -> Loss:
    """A head that tags every token: names of people, products, dates, whatever spans the rows mark.

    The weighted sum over tokens of the cross-entropy in nats: of one tag out of O, B-x, I-x per token, or, where spans overlap, summed
    over a layer of three tags for each type. Metrics: the share of tokens with the right tags, and of those that lie in a span.
    `twice` concerns how rows are shown (`data.renderings`): a causal model gets a text two times and is read the second time, where it
    has seen what follows each token, unless this is false (Springer et al. 2024, "Repetition Improves Language Model Embeddings", arXiv
    2402.15449).
    Source: Ramshaw and Marcus 1995, arXiv cmp-lg/9505040 (tags); Lample et al. 2016, arXiv 1603.01360, section 2 (softmax variant).
    """
    from torch.nn.functional import cross_entropy

    scores_NC, weight_N = _kept(outputs.scores_NC, batch), batch.weight_N[batch.weight_N != 0]
    if "tags" in batch.streams:
        tags_NC = _kept(batch.streams["tags"], batch).long()
        layers_N3C = scores_NC.unflatten(-1, (-1, 3)).transpose(1, 2)
        loss_N = cross_entropy(layers_N3C, tags_NC, reduction="none").sum(-1)
        right_N, inside_N = (layers_N3C.argmax(1) == tags_NC).all(-1), (tags_NC != 0).any(-1)
    else:
        target_N = _kept(batch.target_N, batch)
        loss_N = cross_entropy(scores_NC, target_N, reduction="none")
        right_N, inside_N = scores_NC.argmax(-1) == target_N, target_N != 0
    metrics = {"accuracy": _share(right_N), "accuracy_in_spans": _share(right_N[inside_N])}
    return Loss(terms={"nll": (loss_N * weight_N).sum()}, metrics=metrics)


def ner_counts(batch: Batch, *, twice: bool | None = None) -> Mapping[str, torch.Tensor]:
    """Return the denominator of `ner`: the sum of the weights, a token each."""
    return {"nll": batch.weight_N.sum()}


def qa(outputs: Outputs, batch: Batch, *, windows: int = 4) -> Loss:
    """A head that finds the answer to a question in its context, or says that it is not there.

    Scores [N, 2] for start and end; of each sequence a softmax over its read-outs, and the mean of the two cross-entropies in nats
    against the streams "start" and "end", which share the right places. Metric: the share of windows with both ends right.
    `windows` concerns which rows are shown (`data.renderings`): of a long context so many windows are learned from, those that hold the
    answer first, others drawn by the seed; 0 for all of them.
    Source: Devlin et al. 2018, "BERT", arXiv 1810.04805, sections 4.2 and 4.3.
    """
    import torch

    kept_N = batch.weight_N != 0
    weight_N, owner_N, size = batch.weight_N[kept_N], batch.sequence_N[kept_N], len(batch.group_S)
    scores_NC = _kept(outputs.scores_NC, batch)
    right_NC = torch.stack([_kept(batch.streams[name], batch) for name in ("start", "end")], dim=-1)
    highest_SC = scores_NC.new_full((size, 2), -torch.inf)
    highest_SC = highest_SC.scatter_reduce(0, owner_N[:, None].expand(-1, 2), scores_NC.detach(), "amax")
    shifted_NC = scores_NC - highest_SC[owner_N]
    sums_SC = scores_NC.new_zeros(size, 2).index_add(0, owner_N, shifted_NC.exp())
    nll_NC = sums_SC[owner_N].log() - shifted_NC
    hits_SC = scores_NC.new_zeros(size, 2).index_add(0, owner_N, ((shifted_NC == 0) & (right_NC > 0)).to(scores_NC.dtype))
    seen_S = torch.zeros(size, dtype=torch.bool, device=weight_N.device).index_fill(0, owner_N, True)
    nll = ((nll_NC * right_NC).sum(-1) * weight_N).sum() / 2
    return Loss(terms={"nll": nll}, metrics={"exact": _share((hits_SC > 0).all(-1)[seen_S])})


def qa_counts(batch: Batch, *, windows: int = 4) -> Mapping[str, torch.Tensor]:
    """Return the denominator of `qa`: the weights of the right places, so that a window of weight 1 counts 1."""
    right_N = _kept(batch.streams["start"], batch) + _kept(batch.streams["end"], batch)
    return {"nll": (right_N * batch.weight_N[batch.weight_N != 0]).sum() / 2}


def _kept(values: torch.Tensor | None, batch: Batch) -> torch.Tensor:
    """Return the rows of read-outs that count; what stands at the others may be anything."""
    assert values is not None, "the forward pass was not asked for scores"
    return values[batch.weight_N != 0]


def _share(right_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a metric: how many are true, out of how many."""
    return right_N.float().sum(), _number(right_N)


def _number(values_N: torch.Tensor) -> torch.Tensor:
    """Return how many rows there are, on their device."""
    import torch

    return torch.tensor(float(len(values_N)), device=values_N.device)


HEAD_RATE_FACTOR = 0.6
"""A new head is random at first, and what it sends into the network below it too. At BERT's width of 768 it makes 1e-4 of the rate of `full`,
twice the largest of Devlin et al. 2018, arXiv 1810.04805; the bundled model, with 77 labels, did better at 1e-3 than at 3e-4."""

CLASSIFICATION = Objective(
    function=classification,
    counts=classification_counts,
    terms=("nll",),
    needs=("scores",),
    reads=(Labelled,),
    metrics=("accuracy",),
    renders="heads",
    head="sequence",
    rate_factor=HEAD_RATE_FACTOR,
)
REGRESSION = Objective(
    function=regression,
    counts=regression_counts,
    terms=("error",),
    needs=("scores",),
    reads=(Labelled,),
    metrics=("absolute_error",),
    renders="heads",
    head="sequence",
    streams=("number",),
    rate_factor=HEAD_RATE_FACTOR,
)
NER = Objective(
    function=ner,
    counts=ner_counts,
    terms=("nll",),
    needs=("scores",),
    reads=(Tagged,),
    metrics=("accuracy", "accuracy_in_spans"),
    renders="heads",
    head="token",
    rate_factor=HEAD_RATE_FACTOR,
)
QA = Objective(
    function=qa,
    counts=qa_counts,
    terms=("nll",),
    needs=("scores",),
    reads=(Answerable,),
    metrics=("exact",),
    renders="heads",
    head="span",
    streams=("start", "end"),
    rate_factor=HEAD_RATE_FACTOR,
)
