"""Load a model: the bundled one, a local folder, a run directory, or a name on the Hugging Face hub.

Enters: a name. Leaves: a `Model` on its device, with its tokenizer and chat template, checked by a probe. Only safetensors are read
and no code of a model repository is ever run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from burnish.data.render_heads import MASKED
from burnish.devices import Device
from burnish.errors import ModelError
from burnish.models import virtual
from burnish.models.eye import Eye, open_eye
from burnish.models.fast import Prefix, quicken, quicken_adapters
from burnish.models.find import Found, find_model, refuse_foreign_code
from burnish.models.heads import (
    BESIDE,
    OFFSET_POSITIONS,
    HeadSpec,
    body_of,
    configure,
    head_of,
    is_encoder,
    is_picture_encoder,
    loading_options,
    mark_head,
    missing_trunk,
    network_class,
    refuse_frozen_head,
    refuse_other_kind,
    separate_padding,
    spec_in,
)
from burnish.models.named_heads import add_heads, heads_in, train_heads, value_head, without_beside
from burnish.models.probe import probe
from burnish.models.template import PLAIN_TEMPLATE
from burnish.models.vocabulary import add_terms, fit
from burnish.techniques.folded import merged_in, take_in
from burnish.techniques.quantised import quantise_as
from burnish.types import Technique

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(slots=True, eq=False)
class Model:
    """A network with its tokenizer, ready to run. `notes` say what a user should know of how it was loaded."""

    network: Any
    tokenizer: Any
    """A `PreTrainedTokenizerFast`, or the `Eye` of a model that reads pictures."""
    found: Found
    target: Device
    head: Literal["separate", "whole"] = "separate"
    documents: Literal["positions", "mask", "mixed"] = "positions"
    pieces: Literal["tiles", "mask", "none"] = "none"
    """How pieces of one row are kept apart where some continue others: by a table (`fast.pieces`), a mask, or not at all."""
    window: int | None = None
    """Tokens that an attention layer sees back at most; None: all. Only shorter sequences may lie as pieces."""
    notes: list[str] = field(default_factory=list)
    spec: HeadSpec | None = None
    """What the head of its class says; None for a language model."""
    heads: dict[str, HeadSpec] = field(default_factory=dict)
    """What the heads beside it say, by task (`named_heads`)."""
    encoder: bool = False
    """Whether it reads in both directions: padding must then be masked, and rows cannot be packed."""
    technique: Technique | None = None
    """What `adapt` applied: it may have ways of its own to be saved and restored."""
    adapters: tuple[str, ...] = ()
    """The adapters among which each row of a flight chooses (`adapters`); none: all rows have what the network has."""
    prefix: Prefix | None = None
    """The frozen layers that are passed over where a batch names what they say (`fast.frozen`)."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @property
    def eye(self) -> Eye | None:
        """What turns pictures into pixels, where it reads pictures and nothing else."""
        return self.tokenizer if isinstance(self.tokenizer, Eye) else None

    @property
    def weight_dtype(self) -> torch.dtype:
        """The dtype of activations: that of the input embedding."""
        if self.eye is not None:
            return next(self.plain().parameters()).dtype
        embedding: Any = self.plain().get_input_embeddings()
        return embedding.weight.dtype

    @property
    def max_length(self) -> int:
        """The longest input in tokens that the architecture was made for, less what stands before every sequence."""
        return longest_input(self.plain().config) - virtual.count(self.network)

    def plain(self) -> PreTrainedModel:
        """Return the Hugging Face network inside an adapter's wrapper, adapters left in place."""
        return as_plain_network(self.network)

    def trunk(self) -> Any:
        """Return what computes hidden states, without the output head."""
        return self.plain().get_decoder() if self.spec is None else body_of(self.plain())

    def output_head(self) -> Any:
        """Return what turns hidden states into logits or scores."""
        return self.plain().get_output_embeddings() if self.spec is None else head_of(self.plain(), self.spec.kind)

    @property
    def value_head(self) -> Any:
        """What tells how well an answer will end, None where none was added."""
        return value_head(self)

    def reads(self, task: str) -> HeadSpec | None:
        """Return what the head says that answers for a task, None where the model writes the answer."""
        own = None if self.spec is None or self.spec.restores else self.spec
        return self.heads.get(task, own)

    def pad_id(self) -> int:
        """Return the token that fills rows up; no read-out and no real position ever sees it."""
        token: Any = self.tokenizer.pad_token_id
        return int(token)

    def parameters(self) -> tuple[int, int]:
        """Return the number of parameters, and of those that are trained."""
        counts = [(parameter.numel(), parameter.requires_grad) for parameter in self.network.parameters()]
        return sum(number for number, _ in counts), sum(number for number, moves in counts if moves)

    def end_ids(self) -> tuple[int, ...]:
        """Return the tokens that end an answer: the tokenizer's, the generation settings', and the template's end of turn."""
        settings = getattr(self.plain(), "generation_config", None)
        return end_ids(self.tokenizer, self.plain().config, getattr(settings, "eos_token_id", None))


END_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|eot|>", "</s>", "<|end_of_text|>")


def longest_input(config: Any) -> int:
    """Return the longest input in tokens that an architecture was made for."""
    longest = int(getattr(config, "max_position_embeddings", 0) or getattr(config, "n_positions", 0) or 1_000_000)
    return longest - (int(config.pad_token_id) + 1 if config.model_type in OFFSET_POSITIONS else 0)


def end_ids(tokenizer: Any, config: Any, more: Any = None) -> tuple[int, ...]:
    """Return the tokens that end an answer: the tokenizer's, the configuration's, `more` of them, and well-known ends of a turn."""
    ids = [tokenizer.eos_token_id]
    for configured in (getattr(config, "eos_token_id", None), more):
        ids += configured if isinstance(configured, list) else [configured]
    for token in END_OF_TURN:
        number = tokenizer.convert_tokens_to_ids(token)
        if number is not None and tokenizer.convert_ids_to_tokens(number) == token:
            ids.append(number)
    return tuple(dict.fromkeys(int(token) for token in ids if token is not None))


def as_plain_network(network: Any) -> Any:
    """Return the Hugging Face network inside a PEFT wrapper, or the network itself."""
    return network.get_base_model() if hasattr(network, "peft_config") and hasattr(network, "get_base_model") else network


def load_model(
    name: str,
    device: Device,
    *,
    adapter: bool = True,
    head: HeadSpec | None = None,
    heads: Mapping[str, HeadSpec] | None = None,
    terms: Sequence[str] = (),
) -> Model:
    """Return the model `name` on the device, in evaluation mode, nothing trainable; `adapter=False` loads its base only.

    With a `head` the network is the ecosystem's class for it; `heads` stand beside the language model, or the encoder, by task. Heads that
    the folder holds are taken where their labels agree, else new ones are drawn from torch's generator as the caller seeded it. Without
    either, a tuned model is opened with the heads that its settings tell of; `heads` that are empty leave those by task away.
    `terms` become tokens of their own (`vocabulary.add_terms`).
    """
    found = find_model(name)
    refuse_foreign_code(found)
    spec = head if heads else head or spec_in(found.settings)
    beside = heads_in(found.settings) if heads is None and head is None and adapter else heads or {}
    config, tokenizer, notes = open_tokenizer(found, kind=spec.kind if spec is not None else BESIDE if beside else None)
    if spec is None and beside and is_encoder(config):
        spec = MASKED
    if spec is not None:
        pad_id: Any = tokenizer.pad_token_id
        configure(config, spec, name=name, pad_id=pad_id)
    network = _open_network(found, config, device, spec)
    if adapter and found.adapter is not None:
        if not isinstance(tokenizer, Eye):
            fit(network, len(tokenizer))
        network = _with_adapter(found, quantise_as(network, found.adapter))
    if spec is not None and (renamed := loading_options(config, spec)):
        notes.append(
            f"An adapter with this head opens elsewhere only on a base that is loaded with {renamed}; a whole model opens as it is."
        )
    quicken(network, device)
    network.requires_grad_(False)
    network.eval()
    encoder = spec is not None and (is_encoder(config) or is_picture_encoder(config))
    model = Model(network.to(device.name), tokenizer, found, device, notes=notes, spec=spec, encoder=encoder)
    probe(model)
    if terms:
        add_terms(model, terms)
    add_heads(model, beside)
    return model


def open_tokenizer(found: Found, *, kind: str | None = None) -> tuple[Any, Any, list[str]]:
    """Return configuration and tokenizer without reading weights, and notes on what had to be added to the tokenizer.

    A model that reads pictures has its `Eye` in the tokenizer's place. `kind` is that of the head that is wanted, BESIDE for
    heads beside the network, None for a model that writes text and nothing else; ModelError where the model cannot be that.
    """
    from transformers import AutoConfig, AutoTokenizer

    folder = found.adapter if found.adapter is not None and (found.adapter / "tokenizer.json").is_file() else found.base
    try:
        config = AutoConfig.from_pretrained(found.base, trust_remote_code=False)
        if is_picture_encoder(config):
            refuse_other_kind(found.name, config, kind)
            return config, open_eye(found, config), []
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, use_fast=True)
    except ModelError:
        raise
    except Exception as error:
        raise _explain(found, error) from error
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"model = {found.name!r} is an encoder-decoder model; only causal models and encoders (BERT-like) can be tuned here."
        )
    refuse_other_kind(found.name, config, kind)
    if not tokenizer.is_fast:
        raise ModelError(
            f"model = {found.name!r} has no fast tokenizer (tokenizer.json), which is needed to know where each token comes from."
        )
    tokenizer.model_max_length = 10**9  # lengths are checked here, not by a warning
    if is_encoder(config):
        if tokenizer.pad_token_id is None:
            raise ModelError(
                f"model = {found.name!r}: the tokenizer has no padding token. Set pad_token in its tokenizer_config.json."
            )
        return config, tokenizer, []
    notes = _complete_tokenizer(tokenizer, config)
    if kind is not None:
        separate_padding(tokenizer)
    return config, tokenizer, notes


def _open_network(found: Found, config: Any, device: Device, spec: HeadSpec | None = None) -> Any:
    """Return the base's network, with its head where there is one, every failure told in one sentence."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    loud = logging.get_verbosity()
    mapping = loading_options(config, spec)
    try:
        if spec is not None:  # what a new head lacks is checked below, and is no news
            logging.set_verbosity_error()
        loaded: Any = network_class(None if spec is None else spec.kind).from_pretrained(
            found.base,
            config=config,
            dtype=device.torch_dtype(),
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **mapping,
        )
    except Exception as error:
        raise _explain(found, error) from error
    finally:
        logging.set_verbosity(loud)
    network, facts = loaded
    if mapping:
        vars(network).pop(
            "_weight_conversions", None
        )  # else the names would be turned back on saving, and no class would find them
    missing = missing_trunk(network, sorted(facts["missing_keys"]), config=config, spec=spec)
    if missing:
        raise ModelError(
            f"model = {found.name!r} lacks {len(missing)} of its tensors ({', '.join(missing[:3])}): it would be filled up with random "
            f"numbers. Copy or download it again, or check that it is a model that can do this."
        )
    return network


def _with_adapter(found: Found, network: Any) -> Any:
    """Return the network with the adapter's layers in it, every failure told in one sentence."""
    import warnings

    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            adapted: Any = PeftModel.from_pretrained(network, str(found.adapter), is_trainable=False)
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"model = {found.name!r}: the adapter does not fit its base {found.base}. ({text})") from error
    virtual.refuse_unknown(adapted, found.name)
    return adapted


def _explain(found: Found, error: Exception) -> ModelError:
    """Return a ModelError for whatever the hub or the loader raised."""
    text = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    lowered = str(error).lower()
    if not found.local:
        if "gated" in lowered or "401" in lowered or "403" in lowered:
            return ModelError(
                f"model = {found.name!r} is gated or private. Ask for access on its page, then set HF_TOKEN. ({text})"
            )
        if "not a valid model identifier" in lowered or "404" in lowered or "repository not found" in lowered:
            return ModelError(
                f"model = {found.name!r} was not found on the hub. Check the spelling; if it is private, set HF_TOKEN. ({text})"
            )
        if any(
            word in lowered
            for word in ("offline", "connect", "network", "resolve", "timed out", "couldn't find them in the cached")
        ):
            return ModelError(
                f"model = {found.name!r} is not in the local cache and the hub cannot be reached. Fetch it on a machine with a network, "
                f"give a local folder, or use the bundled model: model = 'tiny'. ({text})"
            )
    if isinstance(error, OSError) and getattr(error, "errno", None) == 28:
        return ModelError(
            f"model = {found.name!r}: no space left in the model cache. Free some, or set HF_HUB_CACHE to a larger disk."
        )
    remedy = " A file of it may be damaged or missing: copy or fetch the folder again." if found.local else ""
    return ModelError(f"model = {found.name!r} could not be opened.{remedy} ({text})")


def _complete_tokenizer(tokenizer: Any, config: Any) -> list[str]:
    """Give the tokenizer the chat template, end and padding token that it lacks; return notes on it."""
    notes = []
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE
        notes.append("The model has no chat template; a plain one (User:, Assistant:) is used and saved with the result.")
    if tokenizer.eos_token_id is None:
        ids = getattr(config, "eos_token_id", None)
        first = ids[0] if isinstance(ids, list) else ids
        if first is None:
            raise ModelError(
                "The model's tokenizer has no end-of-text token, so an answer could never end. Set eos_token in its tokenizer_config.json."
            )
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(int(first))
    # A padding token behind the last embedding would be an index error in the first padded batch.
    known = getattr(config.get_text_config(), "vocab_size", None) or len(tokenizer)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= known:
        tokenizer.pad_token = tokenizer.eos_token
    return notes


def adapt(model: Model, technique: Technique, options: Mapping[str, Any]) -> None:
    """Apply a technique to the model in place: what moves is trainable, heads of tasks too, all else frozen.

    An adapter that the model was loaded with is folded into its weights, and saved together with the new one, or as part of the whole
    model. Where it can be neither, ModelError says so.
    """
    on_adapter = model.found.adapter is not None and hasattr(model.network, "peft_config")
    if on_adapter and technique.saves == "adapter" and not technique.stacks:
        raise ModelError(
            f"model = {model.found.name!r} is itself an adapter on {model.found.base}: a second adapter on top of it could not be "
            f'saved with it. Use technique.name = "lora" or "full", or tune from the base.'
        )
    with without_beside(model):  # a technique trains, and a wrapper counts, what belongs to the network itself
        if on_adapter:
            model.network = take_in(model.network) if technique.stacks else merged_in(model.network)
        model.network.requires_grad_(False)
        if model.spec is not None:
            mark_head(model.network)
        model.network = technique.function(model.network, **options).to(model.device)
    quicken_adapters(model.network, model.target)
    train_heads(model)
    refuse_frozen_head(model)
    model.technique = technique
