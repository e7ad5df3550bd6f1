"""Generate token by token with Llama-like networks: keys and values in slots, rows of any length side by side, few operations a layer.

Enters: a model, prompts, then a token per row and step. Leaves: logits. Prompts are read by the network itself, padded on the right without a
mask; a step runs few operations a layer (`products`) around an attention that neither copies the cache nor repeats its heads (`one_token`).
The plain twin, for every other architecture, is `sampling.padded`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from burnish.models import virtual
from burnish.models.fast.one_token import Places, attend_one
from burnish.models.fast.products import can_pack, gate, norm, product, together
from burnish.models.fast.read_before import Begun, ReadBefore
from burnish.models.fast.switch import Switch, reading_as

if TYPE_CHECKING:
    import torch

    from burnish.models.load import Model

LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3")
"""Architectures whose layers are those of `Slots.step`: norm, attention with rotary positions, norm, gated products."""

BLOCK = 64
"""Columns by which slots grow."""

READ_TOKENS = 1024
"""Tokens of prompts read at once at most, unless one is longer."""

PADDED = 1.25
"""How many times as long as the shortest the longest of prompts that are read together may be."""


def fits_slots(model: Model) -> bool:
    """Return whether a model's layers are those that `Slots` computes, none of them replaced, hooked or with a sliding window."""
    network: Any = model.plain()
    config: Any = network.config
    kind = getattr(config, "model_type", "")
    sliding = getattr(config, "sliding_window", None) or set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    if kind not in LLAMA_LIKE or sliding or model.head != "separate" or model.spec is not None:
        return False
    home = f"transformers.models.{kind}.modeling_{kind}"
    trunk = network.get_decoder()
    parts = [trunk, *(part for layer in trunk.layers for part in (layer, layer.self_attn, layer.mlp))]
    return all(type(part).__module__ == home and not part._forward_hooks and not part._forward_pre_hooks for part in parts)


def _alike(lengths: Sequence[int]) -> list[list[int]]:
    """Return the places of prompts in groups to be read together, the longest first."""
    groups: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        longest = lengths[groups[-1][0]] if groups else 0
        if groups and longest * (len(groups[-1]) + 1) <= READ_TOKENS and lengths[place] * PADDED >= longest:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


class Slots:
    """The past of rows under way, one slot each: column c of a slot holds the keys and values of position c, in every layer.

    The rows in flight fill the first slots. `length_B` counts the positions that each one holds.
    """

    joins = True
    """Rows can be read while others are under way."""

    def __init__(self, model: Model, *, rows: int, packed: bool = False, prefix_bytes: int = 0) -> None:
        """Keep slots for up to `rows` rows. `packed`: many steps will follow, so that weights are worth being laid out anew for few rows.

        Up to `prefix_bytes` of the past of prompts are kept for prompts that begin alike.
        """
        import torch

        self.model, self.rows, self.packed = model, rows, packed
        self.look()
        self.before = ReadBefore(prefix_bytes) if prefix_bytes and not virtual.is_virtual(model.network) else None
        self.adapter_B: list[str | None] = []
        self.key_LSKCD: list[torch.Tensor] = []
        self.value_LSKCD: list[torch.Tensor] = []
        self.length_B = torch.zeros(0, dtype=torch.long, device=model.device)

    def look(self) -> None:
        """Look at the model's layers anew: they may have got an adapter since, which changes nothing for the rows under way."""
        self.trunk: Any = self.model.trunk()
        self.switch = Switch(self.model.adapters) if self.model.adapters else None
        pack = self.rows if self.packed and can_pack(self.model) else 0
        self.layers = [_Layer(layer, pack, self.switch) for layer in self.trunk.layers]
        self.head, self.norm = product(self.model.output_head(), pack, self.switch), norm(self.trunk.norm)

    def read(
        self, prompts: Sequence[np.ndarray], line_B: Sequence[int], *, room: int = 0, adapters: Sequence[str | None] = ()
    ) -> torch.Tensor:
        """Read prompts once each, give each row a slot with the past of prompt `line_B`, and return the logits [B, V] after them.

        Prompts of like length and of one adapter are read together, at most READ_TOKENS at once: more would not be faster, only padded
        further. Slots grow by themselves, whatever `room` is asked for.
        """
        import torch

        device, first = self.model.device, len(self.length_B)
        line_of = np.asarray(line_B)
        self.length_B = torch.cat([self.length_B, self.length_B.new_zeros(len(line_of))])
        assert len(self.length_B) <= self.rows, "no slot is free"
        adapter_U = list(adapters) or [None] * len(prompts)
        self.adapter_B += [adapter_U[line] for line in line_of]
        logits_BV: Any = None
        for lines, begun, known in self._together(prompts, adapter_U):
            adapter = adapter_U[lines[0]]
            with nullcontext() if self.switch is None else reading_as(self.model.network, adapter):
                cache, length_U, logits_UV = self._read_alike([prompts[line] for line in lines], begun, known)
            if self.before is not None:
                for place, line in enumerate(lines):
                    self.before.put(prompts[line], adapter, cache, place, known)
            place_B = np.flatnonzero(np.isin(line_of, lines))
            source_B = torch.as_tensor([lines.index(line) for line in line_of[place_B].tolist()], device=device)
            rows_B = torch.as_tensor(place_B, device=device)
            if logits_BV is None:
                logits_BV = logits_UV.new_empty((len(line_of), logits_UV.shape[1]))
            logits_BV[rows_B] = logits_UV[source_B]
            self._put(cache, source_B, first + rows_B)
            self.length_B[first + rows_B] = length_U[source_B]
        return logits_BV

    def _together(
        self, prompts: Sequence[np.ndarray], adapter_U: Sequence[str | None]
    ) -> Iterator[tuple[list[int], Begun | None, int]]:
        """Yield places of prompts to be read together, what they all begin with if that was read before, and for how many tokens."""
        groups: dict[tuple[Any, ...], tuple[list[int], Begun | None, int]] = {}
        for line, (prompt, adapter) in enumerate(zip(prompts, adapter_U, strict=True)):
            begun, known = (None, 0) if self.before is None else self.before.find(prompt, adapter)
            groups.setdefault((adapter, id(begun), known), ([], begun, known))[0].append(line)
        for lines, begun, known in groups.values():
            for some in _alike([len(prompts[line]) - known for line in lines]):
                yield [lines[place] for place in some], begun, known

    def _read_alike(self, prompts: Sequence[np.ndarray], begun: Begun | None, known: int) -> tuple[Any, torch.Tensor, torch.Tensor]:
        """Return what the network keeps of prompts [U], how many positions each has, and the logits [U, V] after each.

        Of the first `known` tokens of all of them the keys and values are those of `begun`.
        """
        import torch
        from transformers import DynamicCache

        device, adapted = self.model.device, self.model.network
        before, offset = virtual.placeholders(adapted), known
        cache: Any = DynamicCache(config=self.model.plain().config)
        if virtual.is_segment(adapted):
            cache, offset = virtual.past(adapted, len(prompts)), virtual.count(adapted)
        if begun is not None:
            for number, (key_KTD, value_KTD) in enumerate(zip(begun.key_LKTD, begun.value_LKTD, strict=True)):
                shape = (len(prompts), *(-1,) * key_KTD.dim())
                cache.update(key_KTD[None, :, :known].expand(shape), value_KTD[None, :, :known].expand(shape), number)
        length_U = np.array([len(before) + len(prompt) - known for prompt in prompts])
        ids_UT = np.zeros((len(prompts), length_U.max()), dtype=np.int64)
        for line, prompt in enumerate(prompts):
            ids_UT[line, : length_U[line]] = np.concatenate([before, prompt[known:]])
        inputs: dict[str, Any] = {"input_ids": torch.as_tensor(ids_UT, device=device)}
        if len(before):
            inputs = virtual.embedded(adapted, inputs)
        position_1T = torch.arange(offset, offset + ids_UT.shape[1], device=device)[None]
        # Causal rows see no padding on their right, so no mask is needed; what stands in its columns is overwritten or never seen.
        states_UTH = self.trunk(**inputs, position_ids=position_1T, past_key_values=cache, use_cache=True).last_hidden_state
        last_UH = states_UTH[torch.arange(len(prompts), device=device), torch.as_tensor(length_U - 1, device=device)]
        return cache, torch.as_tensor(length_U + offset, device=device), self.model.output_head()(last_UH)

    def step(self, token_B: torch.Tensor) -> torch.Tensor:
        """Give the first B rows one more token each and return the logits [B, V] after it."""
        count = len(token_B)
        if self.switch is not None:
            self.switch.set(self.adapter_B[:count])
        column_B = self.length_B[:count]
        width = int(column_B.max()) + 1
        self._grow(width)
        hidden_BH = self.trunk.embed_tokens(token_B)
        turn = self.trunk.rotary_emb(hidden_BH[:, None], column_B[:, None])
        places = Places(column_B, turn, width, hidden_BH.dtype)
        for layer, key_SKCD, value_SKCD in zip(self.layers, self.key_LSKCD, self.value_LSKCD, strict=True):
            hidden_BH = layer.step(hidden_BH, (key_SKCD, value_SKCD), places)
        self.length_B[:count] += 1
        return self.head(self.norm(hidden_BH))

    def keep(self, kept_B: Sequence[int]) -> None:
        """Let slot number i hold the row of slot `kept_B[i]`; only rows that move are copied. A later slot never comes from an earlier one."""
        import torch

        moves = [(place, source) for place, source in enumerate(kept_B) if place != source]
        self.adapter_B = [self.adapter_B[source] for source in kept_B]
        self.length_B = self.length_B[torch.as_tensor(kept_B, dtype=torch.long, device=self.length_B.device)]
        for tensors in (self.key_LSKCD, self.value_LSKCD):
            for tensor_SKCD in tensors:
                for place, source in moves:
                    tensor_SKCD[place].copy_(tensor_SKCD[source])

    def _put(self, cache: Any, source_B: torch.Tensor, slot_B: torch.Tensor) -> None:
        """Copy what a cache holds at places `source_B` into slots."""
        width = cache.layers[0].keys.shape[2]
        if not self.key_LSKCD:
            for layer in cache.layers:
                shape = (self.rows, layer.keys.shape[1], 0, layer.keys.shape[3])
                self.key_LSKCD.append(layer.keys.new_zeros(shape))
                self.value_LSKCD.append(layer.values.new_zeros(shape))
        self._grow(width)
        for number, layer in enumerate(cache.layers):
            self.key_LSKCD[number][slot_B, :, :width] = layer.keys[source_B]
            self.value_LSKCD[number][slot_B, :, :width] = layer.values[source_B]

    def _grow(self, width: int) -> None:
        """Make room for `width` columns, in whole blocks, with some to spare; new ones are zeros: what is masked must be finite."""
        have = self.key_LSKCD[0].shape[2]
        if width <= have:
            return
        wanted = -(-width // BLOCK) * BLOCK + BLOCK
        for tensors in (self.key_LSKCD, self.value_LSKCD):
            for number, old in enumerate(tensors):
                wide = old.new_zeros((*old.shape[:2], wanted, old.shape[3]))
                wide[:, :, :have] = old
                tensors[number] = wide


class _Layer:
    """A layer's modules, its attention taken apart at the place where the cache comes in."""

    def __init__(self, layer: Any, pack: int, switch: Switch | None) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.before, self.between = norm(layer.input_layernorm), norm(layer.post_attention_layernorm)
        self.width, self.scale = attention.head_dim, attention.scaling
        self.asked = together([attention.q_proj, attention.k_proj, attention.v_proj], pack, switch)
        self.normed: Any = (getattr(attention, "q_norm", None), getattr(attention, "k_norm", None))
        self.output = product(attention.o_proj, pack, switch)
        self.opened, self.down = together([mlp.gate_proj, mlp.up_proj], pack, switch), product(mlp.down_proj, pack, switch)
        self.gate = gate(mlp.act_fn)

    def step(self, hidden_BH: torch.Tensor, past: tuple[torch.Tensor, torch.Tensor], places: Places) -> torch.Tensor:
        """Return what the layer makes of a token of each row, whose keys and values join the slots `past`."""
        query, key, value = (one.view(len(one), -1, self.width) for one in self.asked(self.before(hidden_BH)))
        if self.normed[0] is not None:
            query, key = self.normed[0](query), self.normed[1](key)
        hidden_BH = hidden_BH + self.output(attend_one((query, key, value), past, places, self.scale))
        return hidden_BH + self.down(self.gate(*self.opened(self.between(hidden_BH))))
