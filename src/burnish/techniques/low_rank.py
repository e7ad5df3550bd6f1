"""What all low-rank techniques share: which layers, which ranks, which rates, and one PEFT adapter made of it.

Enters: a Hugging Face network and checked options. Leaves: a `PeftModel` around it in which only the adapters move, and the task's
head or the vectors of new terms where there are any. `lora`, `dora`, `pissa` and `qlora` are made of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from burnish.errors import ConfigError, suggestion

if TYPE_CHECKING:
    from peft import PeftModel

TASK_TYPES = {"SequenceClassification": "SEQ_CLS", "TokenClassification": "TOKEN_CLS", "QuestionAnswering": "QUESTION_ANS"}
"""What PEFT calls the kinds of heads, by the end of the network's class name."""


def low_rank(
    network: Any,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    targets: Sequence[str] | None,
    rank_stabilised: bool,
    ranks: Mapping[str, int] | None,
    alphas: Mapping[str, float] | None,
    rate_ratio: float,
    **more: Any,
) -> PeftModel:
    """Return the network with low-rank adapters beside its linear layers; `more` are further settings of PEFT's configuration.

    Raises ConfigError for numbers that make no sense and for layers that the model does not have.
    """
    from peft import LoraConfig, get_peft_model

    _refuse_numbers(rank=rank, alpha=alpha, dropout=dropout, rate_ratio=rate_ratio)
    chosen = _chosen_layers(network, targets)
    _refuse_patterns("ranks", ranks, chosen)
    _refuse_patterns("alphas", alphas, chosen)
    heads = head_names(network)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # pyright: ignore[reportArgumentType]  (PEFT divides by the rank; a float is fine)
        lora_dropout=dropout,
        target_modules=list(targets) if targets is not None else chosen if heads else "all-linear",
        rank_pattern=dict(ranks or {}),
        alpha_pattern=dict(alphas or {}),
        use_rslora=rank_stabilised,
        task_type=task_type(network),
        modules_to_save=heads or None,
        trainable_token_indices=new_vectors(network) or None,  # pyright: ignore[reportArgumentType]
        **more,
    )
    with quiet():
        adapted = get_peft_model(network, config)
    for name, parameter in adapted.named_parameters():
        if ".lora_B." in name and rate_ratio != 1.0:
            setattr(parameter, "rate_factor", float(rate_ratio))  # noqa: B010  (torch's parameters know no such field)
    return adapted  # pyright: ignore[reportReturnType]


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out the one warning that is between PEFT and transformers: a question that is about to be renamed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".is_gradient_checkpointing. is deprecated", category=FutureWarning)
        yield


def linear_layers(network: Any) -> list[str]:
    """Return the dotted names of the network's linear layers (GPT-2's kind too), heads left out."""
    import torch
    from transformers.pytorch_utils import Conv1D

    head, tops = network.get_output_embeddings(), head_names(network)
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head and name.split(".")[0] not in tops
    ]


def linear_names(network: Any) -> list[str]:
    """Return the distinct last names of the network's linear layers, heads left out."""
    return sorted({name.rsplit(".", 1)[-1] for name in linear_layers(network)})


def head_names(network: Any) -> list[str]:
    """Return the names of a task's head: what stands beside the body of a network that does not write text; else nothing."""
    if network.get_output_embeddings() is not None:
        return []
    body = body_name(network)
    return [name for name, child in network.named_children() if name != body and any(True for _ in child.parameters())]


def body_name(network: Any) -> str:
    """Return the name of the module that computes hidden states: as the class says, or the vision side, which some classes have alone."""
    named = str(getattr(network, "base_model_prefix", ""))
    return named if hasattr(network, named) or not hasattr(network, "vision_model") else "vision_model"


def new_vectors(network: Any) -> dict[str, list[int]]:
    """Return {last name of a table of tokens: rows of it that are new}, where terms were added to the vocabulary; else nothing."""
    added: list[int] = list(getattr(network, "added_token_ids", ()))
    if not added:
        return {}
    tables = [network.get_input_embeddings()]
    if not getattr(network.config, "tie_word_embeddings", False):
        tables.append(network.get_output_embeddings())
    return {name.rsplit(".", 1)[-1]: added for name, module in network.named_modules() if any(module is table for table in tables)}


def matches(layer: str, pattern: str) -> bool:
    """Return whether a dotted name is, or ends with, the pattern's dotted parts."""
    return layer == pattern or layer.endswith(f".{pattern}")


def _chosen_layers(network: Any, targets: Sequence[str] | None) -> list[str]:
    """Return the linear layers that the targets name, all of them for None; ConfigError for names that no layer has."""
    layers = linear_layers(network)
    if targets is None:
        return layers
    missing = [target for target in targets if not any(matches(layer, target) for layer in layers)]
    if missing or not targets:
        known = linear_names(network)
        near = suggestion(missing[0], known) if missing else ""
        raise ConfigError(
            f"technique.targets: the model has no linear layer named {', '.join(missing) or '(empty list)'}.{near} It has: "
            f"{', '.join(known)}; one of them alone is named like {layers[0]!r}. Leave targets out to take them all."
        )
    return [layer for layer in layers if any(matches(layer, target) for target in targets)]


def task_type(network: Any) -> str | None:
    """Return what PEFT calls the network's task, so that its own loader puts the head back; None where it has no word for it.

    An encoder that restores masked tokens is such a one: PEFT's wrapper of language models asks for a way to generate.
    """
    name = type(network).__name__
    return next((kind for end, kind in TASK_TYPES.items() if name.endswith(end)), "CAUSAL_LM" if network.can_generate() else None)


def _refuse_numbers(*, rank: int, alpha: float, dropout: float, rate_ratio: float) -> None:
    """Raise ConfigError for numbers with which nothing, or nothing sensible, would be learned."""
    if rank < 1:
        raise ConfigError(f"technique.rank = {rank}: a rank is at least 1. Usual values are 8 to 64.")
    if not 0 <= dropout < 1:
        raise ConfigError(f"technique.dropout = {dropout}: expected a share from 0 up to, not including, 1.")
    if not alpha > 0:
        raise ConfigError(
            f"technique.alpha = {alpha}: with a scale of alpha / rank, nothing would be learned. Usual values are 1 to 2 times the rank."
        )
    if not rate_ratio > 0:
        raise ConfigError(f"technique.rate_ratio = {rate_ratio}: B would not learn. Usual values are 1 (plain LoRA) to 16 (LoRA+).")


def _refuse_patterns(option: str, patterns: Mapping[str, float] | None, chosen: Sequence[str]) -> None:
    """Raise ConfigError for a rank or alpha of a layer that is not adapted, or that makes no sense."""
    for pattern, value in (patterns or {}).items():
        if not any(matches(layer, pattern) for layer in chosen):
            known = sorted({layer.rsplit(".", 1)[-1] for layer in chosen})
            raise ConfigError(
                f"technique.{option}: no adapted layer is named {pattern!r}.{suggestion(pattern, known)} There are: {', '.join(known)}; "
                f"one of them alone is named like {chosen[0]!r}."
            )
        if not value > 0:
            raise ConfigError(f"technique.{option}: {pattern} = {value}; expected a number above 0.")
