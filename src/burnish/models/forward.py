"""One forward pass: a batch in, `Outputs` at its read-outs out, whatever the layout and the architecture.

Only the hidden states that are read pass through the output head, in tiles: no [N, vocabulary] tensor leaves this file, and none is
kept for the backward pass. A head that is one plain matrix goes through `fast.head`, any other through `_tiled`, candidates through
`_candidates`. Where a model's head cannot be separated from it (`Model.head == "whole"`, found by a probe at load), the plain path
runs the model as it stands. Tests hold them equal in value and gradient. Scores and values are the business of `heads` and
`named_heads`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from burnish.errors import ModelError
from burnish.models import fast, virtual
from burnish.models.heads import read_scores, refuse_unable
from burnish.models.named_heads import read_named, read_values
from burnish.types import Batch, Layout, Outputs

if TYPE_CHECKING:
    import torch

    from burnish.models.load import Model

PIXELS = "pixel_values"
"""What networks that read pictures call their input."""

TILE_ELEMENTS = 12_000_000
"""Logits computed at once at most: 24 MB in bfloat16, which is quickest where the last cache holds some 32 MB."""

TILE_ROWS = 1024
"""Rows in a tile at most: with a small vocabulary, more of them would leave the caches."""


def forward(model: Model, batch: Batch, needs: tuple[str, ...]) -> Outputs:
    """Return what the objective names in `needs`, one row per read-out.

    "logprobs" of the targets, "entropy" of the predictions, "candidates": log-probabilities of the stream of that name, "scores" of the
    head of the batch's task, or of the model's own, "values" of its value head. Raises ModelError for what the model does not have.
    """
    import torch

    refuse_unable(model, needs, batch.task)
    layout = virtual.make_room(model.network, batch.layout)
    place_N = places(layout, batch)
    with _activations(model), fast.begun(model.prefix, layout):
        inputs = virtual.with_virtual(model.network, model_inputs(model, layout), layout)
        if "scores" in needs:
            read = read_named if batch.task in model.heads else read_scores
            return Outputs(scores_NC=read(model, batch, inputs, place_N))
        if model.head == "whole":
            # The network's own logits take the place of hidden states, and pass through no head.
            states = {"output_hidden_states": True} if "values" in needs else {}
            plain = model.plain()(**inputs, **states)
            head, hidden_NH = torch.nn.Identity(), plain.logits.flatten(0, 1)[place_N]
            valued_NH = plain.hidden_states[-1].flatten(0, 1)[place_N] if states else hidden_NH
        else:
            head, hidden_NH = model.output_head(), model.trunk()(**inputs).last_hidden_state.flatten(0, 1)[place_N]
            valued_NH = hidden_NH
        logprobs_N = entropy_N = likely_NK = None
        if not {"logprobs", "entropy"}.isdisjoint(needs):
            logprobs_N, entropy_N = _through_head(model, head, hidden_NH, batch.target_N, "entropy" in needs)
        if "candidates" in needs:
            likely_NK = _candidates(head, hidden_NH, batch.streams["candidates"].long())
        values_N = read_values(model, valued_NH) if "values" in needs else None
    return Outputs(logprobs_N, entropy_N if "entropy" in needs else None, likely_NK, values_N=values_N)


def places(layout: Layout, batch: Batch) -> torch.Tensor:
    """Return where the batch's read-outs stand in the flattened layout, int64 [N]: in a group's common prefix, or behind it."""
    import torch

    row_N, start_N, at_N = layout.row_S[batch.sequence_N], layout.start_S[batch.sequence_N], batch.at_N
    if layout.prefix_S is not None:
        assert layout.before_S is not None
        rest_N = at_N - layout.prefix_S[batch.sequence_N]
        start_N, at_N = torch.where(rest_N < 0, layout.before_S[batch.sequence_N], start_N), torch.where(rest_N < 0, at_N, rest_N)
    return row_N * layout.input_ids_BT.shape[1] + start_N + at_N


def model_inputs(model: Model, layout: Layout) -> dict[str, object]:
    """Return the keyword arguments of a Hugging Face network for this layout.

    Rows padded on the right need no mask in a causal model: no real position can see the padding. What keeps packed documents apart
    was found out when the model was loaded (`probe`): most architectures read it from position ids that start anew, others need a
    mask that shows each position only its own document; on a CPU a table of pieces does both, and lets pieces continue others. Raises
    ModelError for a packed or shared batch where nothing does. An encoder is told which positions are padding, and counts positions by
    itself (some begin behind the padding token's number). A model of pictures gets pixels, and the layout's tokens stand for nothing.
    """
    if model.eye is not None:
        like = next(model.network.parameters())
        if layout.kept_BT is not None:
            return {PIXELS: model.eye.nothing(len(layout.row_S), like)}
        return {PIXELS: model.eye.pixels((image for images in layout.images_S for image in images), like)}
    if model.encoder:
        if layout.kind != "padded":
            raise ModelError(
                f"model = {model.found.name!r} is an encoder: it reads in both directions, so packed rows would see each other. Set "
                f"train.packing = false."
            )
        assert layout.document_BT is not None, "an encoder must be told which positions are padding (collate(mask=True))"
        return {"input_ids": layout.input_ids_BT, "attention_mask": (layout.document_BT >= 0).long()}
    inputs: dict[str, object] = {"input_ids": layout.input_ids_BT, "position_ids": layout.position_ids_BT, "use_cache": False}
    if layout.kind == "padded":
        return inputs
    fits = model.window is None or int(layout.position_ids_BT.max()) < model.window
    if model.pieces == "tiles" and fits and not virtual.is_segment(model.network):
        inputs["attention_mask"] = fast.as_table(_pieces(layout))
    elif layout.kind == "shared":
        if model.pieces == "none" or not fits:
            raise ModelError(
                f"model = {model.found.name!r}: what sequences have in common cannot stand once in rows of "
                f"{int(layout.position_ids_BT.max()) + 1} tokens here: its attention slides, or is of another kind."
            )
        inputs["attention_mask"] = fast.pieces_mask(_pieces(layout), layout.input_ids_BT.shape[1], model.weight_dtype, model.device)
    else:
        assert layout.document_BT is not None
        if model.documents == "mixed":
            raise ModelError(
                f"model = {model.found.name!r}: this architecture lets packed rows see each other. Set train.packing = false."
            )
        if model.documents == "mask":
            inputs["attention_mask"] = document_mask(layout.document_BT, model.weight_dtype)
    return inputs


def _pieces(layout: Layout) -> torch.Tensor:
    """Return the pieces [P, 4] of a row: those of a shared layout, else its documents, each of which continues none."""
    import torch

    if layout.pieces_PK is not None:
        return layout.pieces_PK
    assert layout.document_BT is not None and len(layout.document_BT) == 1
    _, lengths_P = layout.document_BT[0].unique_consecutive(return_counts=True)
    end_P = lengths_P.cumsum(0)
    first_P = end_P - lengths_P
    return torch.stack([first_P, end_P, first_P, first_P], 1)


def document_mask(document_BT: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return an additive mask [B, 1, T, T]: 0 where a query may see a key (same document, not later), else the dtype's minimum."""
    import torch

    length = document_BT.shape[1]
    causal_TT = torch.ones(length, length, dtype=torch.bool, device=document_BT.device).tril()
    same_BTT = document_BT[:, :, None] == document_BT[:, None, :]
    mask = torch.full((document_BT.shape[0], 1, length, length), torch.finfo(dtype).min, dtype=dtype, device=document_BT.device)
    return mask.masked_fill((same_BTT & causal_TT)[:, None], 0.0)


@contextmanager
def as_in_training(model: Model) -> Iterator[None]:
    """Compute inside the `with` block as where gradients are computed: what is compared with a step must be rounded like it."""
    import torch

    rounded = torch.autocast(model.device.type, torch.bfloat16) if _rounds(model) else nullcontext()
    with rounded, fast.attend_as_in_training():
        yield


def _activations(model: Model) -> AbstractContextManager[Any]:
    """Return the context in which gradients are computed: bfloat16 activations over float32 weights where the run chose so."""
    import torch

    if not (_rounds(model) and torch.is_grad_enabled()):
        return nullcontext()
    return torch.autocast(model.device.type, torch.bfloat16)


def _rounds(model: Model) -> bool:
    """Return whether activations are bfloat16 over float32 weights: not where a head measures, whose numbers need more than 3 digits."""
    return model.target.autocast and (model.target.compiled or (model.spec is None and not model.heads))


def _through_head(
    model: Model, head: Any, hidden_NH: torch.Tensor, target_N: torch.Tensor, entropy: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probabilities and entropies by the quick way where the head is one plain matrix."""
    import torch

    if type(head) is not torch.nn.Linear or head.bias is not None or model.target.quick == "no":
        return _tiled(head, hidden_NH, target_N, entropy)
    rows = max(1, min(TILE_ROWS, TILE_ELEMENTS // _width(head)))
    return fast.read_targets(hidden_NH, head.weight, target_N, entropy=entropy, rows=rows)


def _tiled(
    head: Callable[..., torch.Tensor], hidden_NH: torch.Tensor, target_N: torch.Tensor, entropy: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probabilities and entropies, the head applied to a tile of rows at a time.

    A tile's logits are computed again in the backward pass instead of being kept, unless one tile holds everything.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    def tile(part_NH: torch.Tensor, part_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return _read(head(part_NH), part_N, entropy)

    rows = max(1, TILE_ELEMENTS // _width(head))
    if len(target_N) <= rows:
        return tile(hidden_NH, target_N)
    parts = [checkpoint(tile, h, t, use_reentrant=False) for h, t in zip(hidden_NH.split(rows), target_N.split(rows), strict=True)]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _candidates(head: Callable[..., torch.Tensor], hidden_NH: torch.Tensor, candidates_NK: torch.Tensor) -> torch.Tensor:
    """Return log-probabilities [N, K] of the candidates at each read-out, in tiles as `_tiled` reads targets."""
    import torch
    from torch.utils.checkpoint import checkpoint

    def tile(part_NH: torch.Tensor, part_NK: torch.Tensor) -> torch.Tensor:
        logits_NV = head(part_NH)
        logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
        return logits_NV.gather(-1, part_NK) - logits_NV.logsumexp(-1, keepdim=True)

    rows = max(1, TILE_ELEMENTS // _width(head))
    if len(candidates_NK) <= rows:
        return tile(hidden_NH, candidates_NK)
    tiles = zip(hidden_NH.split(rows), candidates_NK.split(rows), strict=True)
    return torch.cat([checkpoint(tile, h, wanted, use_reentrant=False) for h, wanted in tiles])


def _width(head: object) -> int:
    """Return the number of logits of a head."""
    weight = getattr(head, "weight", None)
    return int(weight.shape[0]) if weight is not None else 150_000


def _read(logits_NV: torch.Tensor, target_N: torch.Tensor, entropy: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the targets' log-probabilities and, where asked, the entropies in nats (else empty); sums are at least float32."""
    import torch

    logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    normaliser_N = logits_NV.logsumexp(-1)
    logprobs_N = logits_NV.gather(-1, target_N[:, None]).squeeze(-1) - normaliser_N
    if not entropy:
        return logprobs_N, torch.empty(0, device=logits_NV.device)
    probabilities_NV = (logits_NV - normaliser_N[:, None]).exp()
    return logprobs_N, normaliser_N - (probabilities_NV * logits_NV).sum(-1)
