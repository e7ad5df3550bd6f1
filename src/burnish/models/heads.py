"""Heads: what a network says about a text besides its next word, and the encoders that say nothing else.

Enters: a `HeadSpec` and a configuration, or a loaded network. Leaves: the matching Hugging Face class with its labels, which modules
are the head, and its scores at the read-outs of a batch. A head is run apart from its trunk where a probe found that this gives the same
scores; else the whole network runs. Heads that stand beside a network, one for each of several tasks, are those of `named_heads`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from burnish.data.render_heads import HeadSpec
from burnish.errors import ModelError
from burnish.techniques.low_rank import body_name
from burnish.types import Batch

if TYPE_CHECKING:
    import torch

    from burnish.models.load import Model

CLASSES: dict[str, str] = {
    "sequence": "AutoModelForSequenceClassification",
    "token": "AutoModelForTokenClassification",
    "span": "AutoModelForQuestionAnswering",
    "masked": "AutoModelForMaskedLM",
    "picture": "AutoModelForImageClassification",
}
"""The loader of the ecosystem for each kind of head."""

SUFFIXES: dict[str, str] = {
    "sequence": "ForSequenceClassification",
    "token": "ForTokenClassification",
    "span": "ForQuestionAnswering",
    "masked": "ForMaskedLM",
    "picture": "ForImageClassification",
}

ADDED = tuple(kind for kind in SUFFIXES if kind != "masked")
"""Kinds of heads that a class puts on a network, which begin as random numbers."""

PROBLEM_TYPES = {"single": "single_label_classification", "several": "multi_label_classification", "number": "regression"}

HEAD_NAMES = ("score", "classifier", "qa_outputs")
"""Modules of a class that turn one hidden state into scores."""

OFFSET_POSITIONS = {
    "camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
}  # fmt: skip
"""Kinds of models that count positions from behind the padding token, so that they read fewer than their table has."""


# ------------------------------------------------------------------------------------------------- what a configuration says of it


def is_encoder(config: Any) -> bool:
    """Return whether a configuration describes an encoder: a model that reads in both directions and restores masked tokens."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

    return type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)


def is_picture_encoder(config: Any) -> bool:
    """Return whether a configuration describes an encoder of pictures, which reads nothing else."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
        MODEL_FOR_MASKED_LM_MAPPING,
    )

    reads_text = type(config) in MODEL_FOR_MASKED_LM_MAPPING or type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    return type(config) in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING and not reads_text


def core_of(config: Any) -> Any:
    """Return the part of a configuration that describes the layers a run works with: of an encoder of pictures its vision side."""
    return getattr(config, "vision_config", None) or config if is_picture_encoder(config) else config.get_text_config()


def width_of(config: Any) -> int:
    """Return the features of a model's hidden states: of networks that widen from stage to stage those of the last one."""
    core = core_of(config)
    widths = getattr(core, "hidden_sizes", None) or getattr(core, "embed_dims", None) or [64]
    return int(getattr(core, "hidden_size", None) or widths[-1])


BESIDE = "beside"
"""In place of a kind of head: heads that stand beside the network, whichever class that has."""


def refuse_other_kind(name: str, config: Any, kind: str | None) -> None:
    """Raise ModelError where a model of this configuration cannot do what is asked of it: write text (None), or have this head."""
    if is_picture_encoder(config):
        if kind == BESIDE:
            raise ModelError(
                f"model = {name!r} reads pictures: several tasks on one such network are not trained here. Give each a run of its own."
            )
        if kind not in ("sequence", "picture"):
            raise ModelError(
                f"model = {name!r} reads pictures and tells labels or a number; it reads no text and writes none. Set objective.name = "
                f"'classification' or 'regression', or choose another model."
            )
        return
    if kind == BESIDE:
        return
    if kind is None and is_encoder(config):
        raise ModelError(
            f"model = {name!r} sees the tokens that it is to predict (it is an encoder, such as BERT). To write text, a model must be "
            f"causal. An encoder can tell labels, numbers, tags or answers (burnish ls objectives), or learn a field's language: mlm."
        )
    if kind == "masked" and not is_encoder(config):
        raise ModelError(
            f"model = {name!r} is no encoder, so it cannot restore masked tokens. Choose one (BERT, ModernBERT), or objective.name = 'sft'."
        )
    if kind is not None and type(config) not in _mapping(kind):
        raise ModelError(
            f"model = {name!r}: the ecosystem has no {SUFFIXES[kind][3:]} for models of type {config.model_type!r}, so the result could not "
            f"be opened by others. Choose another model, or learn to write the answer: objective.name = 'sft'."
        )


def _mapping(kind: str) -> Any:
    import transformers

    return getattr(transformers, CLASSES[kind])._model_mapping


def network_class(kind: str | None) -> Any:
    """Return the loader of the ecosystem for a kind of head; None is a language model."""
    import transformers

    return getattr(transformers, "AutoModelForCausalLM" if kind is None else CLASSES[kind])


def held_kind(config: Any) -> str | None:
    """Return the kind of head that a folder's configuration says it holds; None for none, or for a language model."""
    name = (getattr(config, "architectures", None) or [""])[0]
    return next((kind for kind in ADDED if name.endswith(SUFFIXES[kind])), None)


def spec_in(settings: Mapping[str, Any]) -> HeadSpec | None:
    """Return the head that a tuned model's settings (`burnish.json`) tell of, None where they tell of none."""
    values = settings.get("head")
    return None if values is None else spec_of(values)


def settings_of(spec: HeadSpec | None) -> dict[str, Any]:
    """Return what `spec_in` reads back."""
    return {} if spec is None else {"head": values_of(spec)}


def spec_of(values: Mapping[str, Any]) -> HeadSpec:
    """Return a head's spec from values as JSON holds them."""
    return HeadSpec(**{**values, "labels": tuple(values["labels"])})


def values_of(spec: HeadSpec) -> dict[str, Any]:
    """Return what `spec_of` reads back."""
    return {**asdict(spec), "labels": list(spec.labels)}


def configure(config: Any, spec: HeadSpec, *, name: str, pad_id: int | None) -> None:
    """Write a head's labels into a configuration, in place, so that the ecosystem's classes make and open it.

    Raises ModelError where the model already holds a head of another kind, or one with other labels.
    """
    if spec.restores:
        return
    held = held_kind(config)
    names = [str(label) for _, label in sorted((config.id2label or {}).items(), key=lambda item: int(item[0]))]
    if held is not None and (held != spec.kind or len(names) != len(spec.labels)):
        raise ModelError(
            f"model = {name!r} holds a head for {len(names)} scores ({SUFFIXES[held][3:]}: {', '.join(names[:6])}), but "
            f"{len(spec.labels)} are needed ({SUFFIXES[spec.kind][3:]}: {', '.join(spec.labels[:6])}). Begin with the model it was made from."
        )
    if held is not None and len(names) > 1 and spec.kind != "span" and names != list(spec.labels):
        raise ModelError(
            f"model = {name!r} holds a head with the labels {', '.join(names[:8])}, in this order; the rows have "
            f"{', '.join(spec.labels[:8])}. Name them alike, or begin with the model that it was made from."
        )
    config.id2label = dict(enumerate(spec.labels))
    config.label2id = {label: number for number, label in enumerate(spec.labels)}
    config.problem_type = PROBLEM_TYPES.get(spec.problem)
    if spec.kind != "picture" and not is_encoder(config):
        # The classes would drop a tenth of the hidden states unless told otherwise, and no run file could see it.
        if getattr(config, "classifier_dropout", None) is None:
            config.classifier_dropout = 0.0
        for part in (config, config.get_text_config()):
            part.pad_token_id = pad_id


def separate_padding(tokenizer: Any) -> None:
    """Let padding be told from the end of a text: where one token is both, the start token pads, which stands nowhere else.

    The ecosystem's classes read the last token that is not padding, and would miss an end token that looks like it. They also keep the
    padding's embedding as it is, so that of a start token that pads does not move.
    """
    start = tokenizer.bos_token
    if tokenizer.pad_token_id == tokenizer.eos_token_id and start is not None and start != tokenizer.eos_token:
        tokenizer.pad_token = start


def loading_options(config: Any, spec: HeadSpec | None) -> dict[str, Any]:
    """Return options for the loader: names of tensors, where a class calls its trunk otherwise than the language model's class does."""
    from transformers import AutoModelForCausalLM

    if spec is None or spec.restores or spec.kind == "picture" or is_encoder(config) or held_kind(config) is not None:
        return {}
    classes: Any = AutoModelForCausalLM._model_mapping
    theirs = classes[type(config)].base_model_prefix
    ours = _mapping(spec.kind)[type(config)].base_model_prefix
    return {} if theirs == ours else {"key_mapping": {rf"^{theirs}\.": f"{ours}."}}


def missing_trunk(network: Any, missing: list[str], *, config: Any, spec: HeadSpec | None) -> list[str]:
    """Return the missing tensors that no new head explains: all of them, unless a head is made."""
    if spec is None or spec.restores or held_kind(config) is not None:
        return missing
    prefix = f"{body_name(network)}."
    return [name for name in missing if name.startswith(prefix) and ".pooler." not in name]


# ------------------------------------------------------------------------------------------------------------ the head's modules


def body_of(network: Any) -> Any:
    """Return the module of a network with a head that computes its hidden states."""
    return getattr(network, body_name(network), network)


def head_modules(network: Any) -> tuple[str, ...]:
    """Return the names of the modules that make the head of a bare network, its pooler included: what must be trained and saved.

    Empty for language models, whose head belongs to what they know. PEFT takes the names as `modules_to_save`.
    """
    if not any(type(network).__name__.endswith(SUFFIXES[kind]) for kind in ADDED):
        return ()
    prefix = f"{body_name(network)}."
    names = [name for name, _ in network.named_parameters()]
    outside = [name.split(".")[0] for name in names if not name.startswith(prefix)]
    poolers = [name[: name.index(".pooler.") + len(".pooler")] for name in names if name.startswith(prefix) and ".pooler." in name]
    return tuple(dict.fromkeys([*outside, *poolers]))


def mark_head(network: Any) -> None:
    """Make the head's parameters trainable: what a technique is handed as trainable must move and be saved."""
    for name in head_modules(network):
        network.get_submodule(name).requires_grad_(True)


def refuse_frozen_head(model: Model) -> None:
    """Raise ModelError where a head of random numbers would stay as it is."""
    if model.spec is None or model.spec.restores:
        return
    network = model.plain()
    # PEFT trains a copy of what it saves beside the original, which stays.
    still = [
        place
        for place in head_modules(network)
        if not all(
            parameter.requires_grad
            for name, parameter in network.get_submodule(place).named_parameters()
            if not name.startswith("original_module.")
        )
    ]
    if still:
        raise ModelError(
            f"technique: this one does not train the head ({', '.join(still[:3])}), which begins as random numbers. Choose another one."
        )


def head_of(network: Any, kind: str) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Return a function from hidden states to a network's scores, made of the modules that a network of this kind usually has.

    Whether it gives what the network gives is for the probe to find out. None where no such modules are there.
    """
    if kind == "masked":
        return _restorer(network)
    found = next((getattr(network, name) for name in HEAD_NAMES if hasattr(network, name)), None)
    if found is None:
        return None
    dropout = getattr(network, "dropout", None) if kind == "token" else None
    return found if dropout is None else lambda hidden: found(dropout(hidden))


def _restorer(network: Any) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Return an encoder's head over the vocabulary: one module, or several one behind the other."""
    chains = (
        ("cls",),
        ("lm_head",),
        ("predictions",),
        ("head", "decoder"),
        ("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"),
        ("generator_predictions", "generator_lm_head"),
    )
    chain = next((chain for chain in chains if all(hasattr(network, name) for name in chain)), None)
    if chain is None:
        return None

    def restored(hidden: torch.Tensor) -> torch.Tensor:
        for name in chain:
            hidden = getattr(network, name)(hidden)
        return hidden

    return restored


# ------------------------------------------------------------------------------------------------------------------ the forward pass


def read_scores(model: Model, batch: Batch, inputs: Mapping[str, Any], place_N: torch.Tensor) -> torch.Tensor:
    """Return the head's scores [N, C] at the read-outs, at least float32; `place_N` are their places in the flattened layout.

    Raises ModelError for packed rows where the network gives one reading per row.
    """
    import torch

    assert model.spec is not None
    if model.head == "separate":
        hidden_NH = model.trunk()(**inputs).last_hidden_state.flatten(0, 1)[place_N]
        scores_NC = model.output_head()(hidden_NH)
    elif model.spec.kind in ("sequence", "picture"):
        if batch.layout.kind != "padded":
            raise ModelError(
                f"model = {model.found.name!r}: its head gives one reading per row of a batch, so rows cannot be packed. Set "
                f"train.packing = false."
            )
        scores_NC = whole_scores(model, inputs)[batch.layout.row_S[batch.sequence_N]]
    else:
        scores_NC = whole_scores(model, inputs).flatten(0, 1)[place_N]
    return scores_NC.to(torch.promote_types(scores_NC.dtype, torch.float32))


def whole_scores(model: Model, inputs: Mapping[str, Any]) -> torch.Tensor:
    """Return what the whole network says: [B, C] of a sequence head, else [B, T, C]; start and end are two columns."""
    import torch

    found = model.plain()(**inputs)
    if hasattr(found, "start_logits"):
        return torch.stack([found.start_logits, found.end_logits], dim=-1)
    return found.logits


def refuse_unable(model: Model, needs: tuple[str, ...], task: str) -> None:
    """Raise ModelError where an objective asks for what this model does not have for a task."""
    of_class = model.spec is not None and not model.spec.restores
    words = {"logprobs", "entropy", "candidates"}.intersection(needs)
    if "scores" in needs and not (of_class or task in model.heads):
        has = f"has heads for {', '.join(model.heads)}, and none for {task!r}" if model.heads else "was loaded without a head"
        raise ModelError(f"model = {model.found.name!r} {has}, so it gives no scores.")
    if words and of_class:
        raise ModelError(f"model = {model.found.name!r} has a head and writes no text: it gives no {', '.join(sorted(words))}.")
    if "values" in needs and model.value_head is None:
        raise ModelError(f"model = {model.found.name!r} has no value head. Add one before the first step.")
