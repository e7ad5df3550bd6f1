"""The past of rows under way in the network's own cache, padded on the left: for every architecture that generates at all.

Enters: a model, prompts, then a token per row and step. Leaves: logits. It is the plain twin of `models.fast.slots`; rows begin together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from burnish.errors import ModelError
from burnish.models import Model, virtual

if TYPE_CHECKING:
    import torch


class Padded:
    """Cache, mask and positions of the rows in flight; `seen` columns are in the cache, of which left padding is masked."""

    joins = False
    """Rows are read only when none is under way."""
    before = None
    """Nothing is kept of prompts."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.network: Any = model.plain()
        self.cache: Any = None
        self.seen = 0
        self.mask_BT: torch.Tensor | None = None
        self.position_B1: Any = None

    def read(
        self, prompts: Sequence[np.ndarray], line_B: Sequence[int], *, room: int = 0, adapters: Sequence[str | None] = ()
    ) -> torch.Tensor:
        """Read prompts once each, padded on the left, and return the logits [B, V] after prompt `line_B` of each row.

        There is room for `room` more tokens each. All rows have the adapter that the network has.
        """
        import torch
        from transformers import DynamicCache

        device, adapted = self.model.device, self.model.network
        before = virtual.placeholders(adapted)
        self.cache, self.seen = DynamicCache(config=self.network.config), 0
        if virtual.is_segment(adapted):
            self.cache, self.seen = virtual.past(adapted, len(prompts)), virtual.count(adapted)
        lengths = np.array([len(before) + len(prompt) for prompt in prompts])
        longest = int(lengths.max())
        ids_UT = np.full((len(prompts), longest), self.model.tokenizer.pad_token_id or 0, dtype=np.int64)
        # Columns for what the cache holds already, and for the tokens to come, are in the mask from the start.
        mask_UT = np.ones((len(prompts), self.seen + longest + room), dtype=np.int64)
        for line, prompt in enumerate(prompts):
            ids_UT[line, longest - lengths[line] :] = np.concatenate([before, prompt])
            mask_UT[line, self.seen : self.seen + longest - lengths[line]] = 0
        positions_UT = np.maximum(np.arange(longest)[None] - (longest - lengths)[:, None], 0) + self.seen
        after_U1 = torch.as_tensor(lengths + self.seen, device=device)[:, None]
        # Prompts of one length need no mask, and take a quicker path through attention.
        self.mask_BT = torch.as_tensor(mask_UT, device=device) if lengths.min() < longest else None
        inputs: dict[str, Any] = {"input_ids": torch.as_tensor(ids_UT, device=device)}
        if len(before):
            inputs = virtual.embedded(adapted, inputs)
        logits_UV = self._logits(inputs, torch.as_tensor(positions_UT, device=device), longest)
        place_B = torch.as_tensor(line_B, device=device)
        if len(line_B) > len(prompts):
            self._select(place_B)
        self.position_B1 = after_U1[place_B]
        return logits_UV[place_B]

    def step(self, token_B: torch.Tensor) -> torch.Tensor:
        """Give each row one more token and return the logits [B, V] after it."""
        logits_BV = self._logits({"input_ids": token_B[:, None]}, self.position_B1, 1)
        self.position_B1 = self.position_B1 + 1
        return logits_BV

    def keep(self, kept_B: Sequence[int]) -> None:
        """Let the rows at these places remain, in this order."""
        import torch

        if not len(kept_B):
            self.cache = self.mask_BT = None
            return
        place_B = torch.as_tensor(kept_B, device=self.model.device)
        self.position_B1 = self.position_B1[place_B]
        self._select(place_B)

    def _select(self, place_B: torch.Tensor) -> None:
        """Let cache and mask hold the rows at these places; a place may stand more than once."""
        # This selects rows in every kind of cache layer; `batch_select_indices` is missing in those of linear attention.
        self.cache.reorder_cache(place_B)
        self.mask_BT = None if self.mask_BT is None else self.mask_BT[place_B]

    def _logits(self, inputs: dict[str, Any], position_BT: torch.Tensor, width: int) -> torch.Tensor:
        """Return the logits [B, V] after the last of `width` new tokens per row, the cache extended by all of them."""
        self.seen += width
        # Only the last position passes through the output head: the logits of a whole prompt would dwarf everything else.
        output = self.network(
            **inputs,
            attention_mask=None if self.mask_BT is None else self.mask_BT[:, : self.seen],
            position_ids=position_BT,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        if getattr(output, "past_key_values", None) is not self.cache:
            raise ModelError(
                f"A {self.network.config.model_type} model keeps its past in a form of its own, which generation does not support. "
                f"Use a model of another architecture."
            )
        return output.logits[:, -1]
