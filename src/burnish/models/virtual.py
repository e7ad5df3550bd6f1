"""Virtual positions: what prompt methods put before every sequence, in batches of any layout and in generation.

Enters: a network with a prompt adapter of PEFT's, and a layout or inputs. Leaves: a layout with room for the virtual positions, and inputs in
which they stand. Prompt and p-tuning (*embeddings*) take positions of their own before each sequence, in a packed row before each
document; prefix tuning (a *segment*) is one piece of keys and values in every layer, visible to all. A place in a sequence still counts from
its own first token: outside `models`, nobody knows of this. Every function does nothing for other networks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from burnish.errors import ModelError
from burnish.types import Layout

if TYPE_CHECKING:
    import torch

EMBEDDINGS, SEGMENT = ("PROMPT_TUNING", "P_TUNING"), ("PREFIX_TUNING",)
"""PEFT's names of the two kinds."""


def is_virtual(network: Any) -> bool:
    """Return whether a prompt adapter is on the network and not switched off."""
    config = getattr(network, "active_peft_config", None) if hasattr(network, "peft_config") else None
    return bool(getattr(config, "is_prompt_learning", False)) and not getattr(network, "_adapters_disabled", False)


def count(network: Any) -> int:
    """Return how many positions stand before each sequence."""
    return int(network.active_peft_config.num_virtual_tokens) if is_virtual(network) else 0


def is_segment(network: Any) -> bool:
    """Return whether they are keys and values in every layer."""
    return is_virtual(network) and network.active_peft_config.peft_type in SEGMENT


def refuse_unknown(network: Any, name: str) -> None:
    """Raise ModelError for a prompt adapter of a kind that cannot be put into batches here."""
    config = network.active_peft_config
    if config.is_prompt_learning and config.peft_type not in (*EMBEDDINGS, *SEGMENT):
        raise ModelError(
            f"model = {name!r}: its adapter puts virtual tokens of the kind {config.peft_type} before every prompt. Known are "
            f"{', '.join((*EMBEDDINGS, *SEGMENT))}; use one of these, a LoRA adapter or a whole model."
        )


def placeholders(network: Any) -> np.ndarray:
    """Return the numbers -1 .. -K that stand for virtual positions among token ids, empty where none stand there."""
    return -np.arange(1, 1 + (0 if is_segment(network) else count(network)), dtype=np.int64)


def make_room(network: Any, layout: Layout) -> Layout:
    """Return the layout with virtual positions before each sequence, held by the placeholders; `start_S` is still the first token.

    Raises ModelError where a group's common prefix stands once: what stands before it would have to do so too.
    """
    import torch

    if layout.kind == "shared" and is_virtual(network):
        raise ModelError(
            "Virtual tokens stand before every sequence, so a group's common prefix cannot stand once. Use padded rows."
        )
    ids_K = torch.as_tensor(placeholders(network), device=layout.row_S.device)
    number = len(ids_K)
    if not number:
        return layout
    if layout.document_BT is None:  # one sequence per row
        rows = len(layout.input_ids_BT)
        ids_BT = torch.cat([ids_K.expand(rows, number), layout.input_ids_BT], dim=1)
        positions_BT = torch.cat([(-1 - ids_K).expand(rows, number), layout.position_ids_BT + number], dim=1)
        return replace(layout, input_ids_BT=ids_BT, position_ids_BT=positions_BT, start_S=layout.start_S + number)
    same_SS = layout.row_S[:, None] == layout.row_S[None]
    earlier_S = (same_SS & (layout.start_S[None] < layout.start_S[:, None])).sum(1)
    shift_S = number * (earlier_S + 1)
    width = layout.input_ids_BT.shape[1] + number * int(same_SS.sum(1).max())
    row_P, place_P = (layout.document_BT >= 0).nonzero(as_tuple=True)
    document_P = layout.document_BT[row_P, place_P]
    start_S = layout.start_S + shift_S
    virtual_SK = (start_S - number)[:, None] + torch.arange(number, device=start_S.device)

    def widened(filler: int, real_P: torch.Tensor, virtual: torch.Tensor) -> torch.Tensor:
        wide_BT = torch.full((len(layout.input_ids_BT), width), filler, dtype=torch.long, device=start_S.device)
        wide_BT[row_P, place_P + shift_S[document_P]] = real_P
        wide_BT[layout.row_S[:, None].expand_as(virtual_SK), virtual_SK] = virtual.expand_as(virtual_SK)
        return wide_BT

    return replace(
        layout,
        input_ids_BT=widened(0, layout.input_ids_BT[row_P, place_P], ids_K),
        position_ids_BT=widened(0, layout.position_ids_BT[row_P, place_P] + number, -1 - ids_K),
        document_BT=widened(-1, document_P, torch.arange(len(start_S), device=start_S.device)[:, None]),
        start_S=start_S,
    )


def with_virtual(network: Any, inputs: dict[str, Any], layout: Layout) -> dict[str, Any]:
    """Return a network's inputs with the virtual positions in them: learned vectors in the placeholders' places, or a past.

    Raises ModelError for a packed batch with a prefix where attention slides: a mask of ours would widen its window.
    """
    if is_segment(network):
        return _after_segment(network, inputs, layout)
    return embedded(network, inputs) if count(network) else inputs


def embedded(network: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return inputs with `inputs_embeds` in place of `input_ids`: the vectors of tokens, and learned ones for placeholders."""
    import torch

    ids_BT = inputs["input_ids"]
    vectors_BTH = network.get_base_model().get_input_embeddings()(ids_BT.clamp(min=0))
    learned_KH = network.get_prompt(batch_size=1)[0].to(vectors_BTH.dtype)
    placed_BTH = torch.where((ids_BT < 0)[..., None], learned_KH[(-1 - ids_BT).clamp(min=0)], vectors_BTH)
    return {**{name: value for name, value in inputs.items() if name != "input_ids"}, "inputs_embeds": placed_BTH}


def past(network: Any, rows: int) -> Any:
    """Return the segment as a cache for this many rows; a new one each time, because a pass extends it."""
    return network.get_prompt(batch_size=rows)


def _after_segment(network: Any, inputs: dict[str, Any], layout: Layout) -> dict[str, Any]:
    """Return inputs that continue after the segment; packed documents see it and themselves, and not each other."""
    import torch

    from burnish.models.forward import document_mask

    number = count(network)
    found = {**inputs, "position_ids": inputs["position_ids"] + number, "past_key_values": past(network, len(inputs["input_ids"]))}
    if layout.document_BT is not None:
        config = network.get_base_model().config
        if getattr(config, "sliding_window", None):
            raise ModelError(
                f"Prefix tuning cannot train packed rows of a {config.model_type} model, whose attention slides. Set train.packing = false."
            )
        dtype = network.get_base_model().get_input_embeddings().weight.dtype
        mask = document_mask(layout.document_BT, dtype)
        seen = torch.zeros((*mask.shape[:3], number), dtype=dtype, device=mask.device)
        found["attention_mask"] = torch.cat([seen, mask], dim=-1)
    return found
