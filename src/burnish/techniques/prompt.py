"""Prompt methods: the model stays as it is, and what is learned stands before every sequence.

Enters: a Hugging Face network. Leaves: a `PeftModel` around it in which only the virtual positions (or what makes them) move. Prompt and
p-tuning put learned vectors before the token vectors, prefix tuning learned keys and values before every layer's; `models.virtual`
puts them into batches and generation. They do not merge: there is no weight that they could be added to.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from burnish.errors import ConfigError
from burnish.techniques.low_rank import quiet
from burnish.types import Technique

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

MADE_BY = "prompt_encoder.safetensors"
"""What the virtual positions are computed from, beside the positions themselves: needed to go on training, not to use the model."""

WHY_NOT = "its virtual positions stand before every prompt, and no weight of the model could hold them"

NEEDS_TEXT = (
    "technique.name: prompt methods (prompt, prefix, ptuning) are for models that write text. With a head, or for restoring masked tokens, "
    "use technique lora or full."
)

NO_PREFIX = "This architecture keeps keys and values in another form than a prefix has. Use technique prompt or lora."


def prompt(network: PreTrainedModel, *, positions: int = 20, text: str | None = None) -> PeftModel:
    """Train vectors that stand before the tokens of every sequence, the model itself frozen: a few thousand numbers.

    They start as the vectors of `text`, repeated to fill the positions, or of tokens drawn from the vocabulary. Before step 0 the model
    answers as if these tokens stood before every prompt. Source: Lester et al. 2021, arXiv 2104.08691.

    Raises ConfigError for no positions, for more than the model reads, and for a text of more tokens than positions.
    """
    from peft import PromptTuningConfig, get_peft_model

    _refuse_positions(network, positions)
    tokens_K = _start_tokens(network, positions, text)
    with quiet():
        adapted = get_peft_model(network, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=positions))
    if tokens_K is not None:
        _fill(adapted, network.get_input_embeddings()(tokens_K))
    return adapted  # pyright: ignore[reportReturnType]


def ptuning(
    network: PreTrainedModel, *, positions: int = 20, encoder: Literal["mlp", "lstm"] = "mlp", hidden: int | None = None
) -> PeftModel:
    """Train vectors that stand before the tokens of every sequence through a small network that makes them.

    `encoder` is that network: three dense layers, or an LSTM over the positions; `hidden` its width, that of the model where not set.
    Only the vectors are needed afterwards. Source: Liu et al. 2021, arXiv 2103.10385.

    Raises ConfigError for no positions, for more than the model reads, and for no width.
    """
    from peft import PromptEncoderConfig, get_peft_model

    _refuse_positions(network, positions)
    width = _width(network) if hidden is None else hidden
    if width < 1:
        raise ConfigError(f"technique.hidden = {hidden}: expected a width above 0.")
    kind: Any = encoder.upper()
    config = PromptEncoderConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=positions,
        encoder_reparameterization_type=kind,
        encoder_hidden_size=width,
    )
    with quiet():
        return get_peft_model(network, config)  # pyright: ignore[reportReturnType]


def prefix(
    network: PreTrainedModel, *, positions: int = 20, text: str | None = None, projection: bool = False, hidden: int | None = None
) -> PeftModel:
    """Train keys and values that every layer sees before those of the sequence, the model itself frozen.

    They start as those of `text`, repeated to fill the positions, or of tokens drawn from the vocabulary, so that the model before step 0
    answers as if these stood before every prompt. With `projection` they are made by a small network of width `hidden`
    (the model's own where not set) and start at random; only what it makes is needed afterwards. Source: Li and Liang 2021, arXiv 2101.00190.

    Raises ConfigError for no positions, for more than the model reads, for a text of more tokens than positions, and for a text or a
    width that would be without effect.
    """
    from peft import PrefixTuningConfig, get_peft_model

    _refuse_positions(network, positions)
    if projection and text is not None:
        raise ConfigError(
            "technique.text has no effect with technique.projection = true: the keys and values are computed. Leave one out."
        )
    if hidden is not None and (not projection or hidden < 1):
        raise ConfigError(f"technique.hidden = {hidden}: a width above 0, and only with technique.projection = true.")
    config = PrefixTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=positions,
        prefix_projection=projection,
        encoder_hidden_size=hidden or _width(network),
    )
    tokens_K = None if projection else _start_tokens(network, positions, text)
    start_KW = None if tokens_K is None else _keys_and_values(network, tokens_K)
    with quiet():
        adapted = get_peft_model(network, config)
    if start_KW is not None:
        _fill(adapted, start_KW)
    return adapted  # pyright: ignore[reportReturnType]


def positions_of(*, positions: int = 20, **_: Any) -> int:
    """Return how many positions a prompt method puts before each sequence, from its options."""
    return positions


def save_with_encoder(network: Any, folder: Path) -> None:
    """Write PEFT's adapter folder (the virtual positions), and beside it what makes them, so that training can go on."""
    import torch
    from safetensors.torch import save_file

    with torch.no_grad():  # an LSTM takes another path where gradients are wanted, and differs in the last digit
        network.save_pretrained(str(folder))
    state = network.prompt_encoder["default"].state_dict()
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, folder / MADE_BY)


def restore_encoder(network: Any, folder: Path) -> None:
    """Put what makes the virtual positions back, bit for bit."""
    from safetensors.torch import load_file

    network.prompt_encoder["default"].load_state_dict(load_file(folder / MADE_BY))


def refuse_new_terms(network: Any) -> None:
    """Raise ConfigError where terms were added to the vocabulary: a technique that cannot train their vectors would lose them."""
    if getattr(network, "added_token_ids", ()):
        raise ConfigError(
            "New terms of the vocabulary must be trained with the model: use technique lora, dora, pissa, qlora or full."
        )


def _refuse_positions(network: Any, positions: int) -> None:
    """Raise ConfigError for a number of positions, or a network, that cannot be used."""
    refuse_new_terms(network)
    if not network.can_generate():
        raise ConfigError(NEEDS_TEXT)
    longest = int(getattr(network.config.get_text_config(), "max_position_embeddings", 0) or 1_000_000)
    if not 1 <= positions < longest:
        raise ConfigError(
            f"technique.positions = {positions}: expected 1 up to what leaves room for text in the model's context of {longest} tokens."
        )


def _width(network: Any) -> int:
    """Return the width of the network's hidden states."""
    return int(network.config.get_text_config().hidden_size)


def _start_tokens(network: Any, positions: int, text: str | None) -> torch.Tensor | None:
    """Return the tokens [K] that the positions start as, drawn by torch's generator where no text is given; None on no device."""
    import torch

    table = network.get_input_embeddings()
    if table.weight.is_meta:  # sizes alone are wanted
        return None
    if text is None:
        return torch.randint(0, table.weight.shape[0], (positions,)).to(table.weight.device)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(network.config.name_or_path, trust_remote_code=False)
    tokens: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not 1 <= len(tokens) <= positions:
        raise ConfigError(
            f"technique.text has {len(tokens)} tokens, and there are {positions} positions. Shorten it, or set technique.positions = "
            f"{max(1, len(tokens))}."
        )
    return torch.tensor((tokens * positions)[:positions], device=table.weight.device)


def _keys_and_values(network: Any, tokens_K: torch.Tensor) -> torch.Tensor:
    """Return the keys and values of these tokens in all layers as PEFT stores a prefix, [K, layers * 2 * heads * width]."""
    import torch
    from transformers import DynamicCache

    cache: Any = DynamicCache(config=network.config)
    with torch.no_grad():
        network(input_ids=tokens_K[None], past_key_values=cache, use_cache=True)
    if not all(hasattr(layer, "keys") for layer in cache.layers):
        raise ConfigError(NO_PREFIX)
    layers = [part[0] for layer in cache.layers for part in (layer.keys, layer.values)]
    if len({part.shape for part in layers}) > 1:
        raise ConfigError(NO_PREFIX)
    return torch.stack(layers).permute(2, 0, 1, 3).flatten(1)


def _fill(adapted: Any, start: torch.Tensor) -> None:
    """Let the virtual positions begin as these rows."""
    import torch

    weight = adapted.prompt_encoder["default"].embedding.weight
    if weight.shape != start.shape:
        raise ConfigError(
            "This architecture keeps keys and values of other shapes than a prefix has. Use technique prompt or lora."
        )
    with torch.no_grad():
        weight.copy_(start.to(weight.dtype))


# Prompt methods move few numbers, far from the answer, and need the highest rates; vectors more than keys and values, and a network that
# makes them less, because all its weights move together. Chosen on small models; the papers' own are for billions of parameters.
PROMPT = Technique(
    function=prompt,
    learning_rate=3e-2,
    width_power=0.5,
    merges=False,
    saves="adapter",
    reference="copy",
    virtual_positions=positions_of,
    save=save_with_encoder,
    restore=restore_encoder,
    why_not=WHY_NOT,
)

PTUNING = Technique(
    function=ptuning,
    learning_rate=1e-3,
    width_power=0.5,
    merges=False,
    saves="adapter",
    reference="copy",
    virtual_positions=positions_of,
    save=save_with_encoder,
    restore=restore_encoder,
    why_not=WHY_NOT,
)

PREFIX = Technique(
    function=prefix,
    learning_rate=2e-2,
    width_power=0.5,
    merges=False,
    saves="adapter",
    reference="copy",
    virtual_positions=positions_of,
    save=save_with_encoder,
    restore=restore_encoder,
    why_not=WHY_NOT,
)
