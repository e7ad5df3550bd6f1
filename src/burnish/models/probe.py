"""Ask a freshly loaded network what can be relied on, instead of looking it up by the name of its architecture.

Enters: a `Model` as loaded. Leaves: its `head` (may trunk and output head be run apart?) and `documents` (how are packed documents
kept apart?) set, with a note where the plain path is taken; ModelError for a network that sees the future, which cannot be tuned here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from burnish.errors import ModelError

if TYPE_CHECKING:
    import torch

    from burnish.models.load import Model

FIRST, SECOND = 9, 7
"""Tokens of the two documents that are packed for the probe."""

WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")
"""What configurations call the tokens that a layer sees back at most."""


def probe(model: Model) -> None:
    """Set `model.head` and `model.documents` by a few forward passes over 16 tokens.

    Raises ModelError where what is predicted at a position depends on later tokens, unless it is an encoder that is wanted as one, or
    the network cannot run at all.
    """
    import torch

    if model.eye is not None:
        _probe_pictures(model)
        return
    embedding: Any = model.plain().get_input_embeddings()
    ids_BT = torch.arange(1, 1 + FIRST + SECOND, device=model.device)[None] % embedding.weight.shape[0]
    if model.spec is not None:
        # A class that pools looks for padding; the embedding's own padding row would be no token either.
        ids_BT = torch.where(ids_BT == model.tokenizer.pad_token_id, ids_BT.max() + 1, ids_BT) % embedding.weight.shape[0]
    with torch.no_grad(), exact_products():
        whole_BTV = _logits(model, ids_BT)
        if not model.encoder:
            _refuse_foresight(model, ids_BT, whole_BTV)
        apart = _head_runs_apart(model, ids_BT, whole_BTV) if model.spec is None else _scores_apart(model, ids_BT, whole_BTV)
        if not apart:
            model.head = "whole"
            if model.spec is None or model.spec.restores:
                model.notes.append(
                    "The model's head cannot be run apart from its trunk; the plain path is used, which needs more memory."
                )
        model.documents = "mixed" if model.encoder else _isolation(model, ids_BT)
        model.window = _window(model.plain().config)
        model.pieces = "none" if model.encoder else _sharing(model, ids_BT)


def _probe_pictures(model: Model) -> None:
    """Set what holds of a model of pictures: it runs whole, and its batches are rows; ModelError where one picture changes another's scores."""
    import torch

    from burnish.models.forward import PIXELS
    from burnish.models.heads import whole_scores

    eye, like = model.eye, next(model.network.parameters())
    assert eye is not None
    model.head, model.documents, model.pieces = "whole", "mixed", "none"
    _keep_statistics(model)
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randn((2, eye.channels, eye.height, eye.width), generator=draw).to(device=like.device, dtype=like.dtype)
    with torch.no_grad(), exact_products():
        together = whole_scores(model, {PIXELS: pixels})
        alone = torch.cat([whole_scores(model, {PIXELS: pixels[place : place + 1]}) for place in (0, 1)])
    if not alike(together, alone):
        raise ModelError(
            f"model = {model.found.name!r}: what it says of a picture depends on the others of the batch; it cannot be tuned here."
        )


def _keep_statistics(model: Model) -> None:
    """Leave batch normalisation as it is in use: else the rows of a micro-batch would change each other's scores, and its size the result."""
    import torch

    found = [module for module in model.network.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    for module in found:
        module.eval()
        module.train = lambda mode=True, module=module: module
    if found:
        model.notes.append("Batch normalisation keeps the base's statistics: those of a batch would make rows change each other.")


@contextmanager
def exact_products() -> Iterator[None]:
    """Compute float32 products in float32 meanwhile: rounded ones differ by more than what the probe looks for."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _logits(model: Model, ids_BT: torch.Tensor, **more: Any) -> torch.Tensor:
    """Return what is said at each position: logits, or of a model with a head the hidden states that it reads."""
    if model.encoder:
        return model.trunk()(input_ids=ids_BT, **more).last_hidden_state
    if model.spec is not None:
        return model.trunk()(input_ids=ids_BT, use_cache=False, **more).last_hidden_state
    return model.plain()(input_ids=ids_BT, use_cache=False, **more).logits


def alike(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Return whether logits differ by no more than rounding does; what leaks from other tokens is orders of magnitude larger."""
    import torch

    tolerance = 2e-2 if expected.dtype in (torch.bfloat16, torch.float16) else 1e-4
    return found.shape == expected.shape and bool((found - expected).abs().mean() <= tolerance * expected.abs().mean())


def _refuse_foresight(model: Model, ids_BT: torch.Tensor, whole_BTV: torch.Tensor) -> None:
    changed_BT = ids_BT.clone()
    changed_BT[:, -1] = ids_BT[:, 0]
    if not alike(_logits(model, changed_BT)[:, :-1], whole_BTV[:, :-1]):
        raise ModelError(
            f"model = {model.found.name!r} sees the tokens that it is to predict (it is an encoder, such as BERT). Here a model must be "
            f"causal: use a language model that writes text from left to right."
        )


def _head_runs_apart(model: Model, ids_BT: torch.Tensor, whole_BTV: torch.Tensor) -> bool:
    """Return whether trunk and head give exactly what the whole network gives: no scaling or capping in between."""
    import torch

    try:
        hidden_BTH = model.trunk()(input_ids=ids_BT, use_cache=False).last_hidden_state
        return torch.equal(whole_BTV, model.output_head()(hidden_BTH))
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return False


def _scores_apart(model: Model, ids_BT: torch.Tensor, hidden_BTH: torch.Tensor) -> bool:
    """Return whether a head, given hidden states, gives the scores of the whole network: of each token, or of the last one alone.

    An encoder with a head always runs whole: its classes pool and drop out in their own ways, and its batches are padded anyway.
    """
    from burnish.models.heads import whole_scores

    assert model.spec is not None
    head = model.output_head()
    if head is None or (model.encoder and not model.spec.restores):
        return False
    try:
        scores_BTC = head(hidden_BTH)
        whole = whole_scores(model, {"input_ids": ids_BT})
        return alike(scores_BTC[:, -1] if model.spec.kind == "sequence" else scores_BTC, whole)
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return False


def _isolation(model: Model, ids_BT: torch.Tensor) -> Any:
    """Return what keeps two packed documents apart: restarting positions (which keep a sliding window), a mask, or nothing known."""
    import torch

    from burnish.models.forward import document_mask

    def positions(length: int) -> torch.Tensor:
        return torch.arange(length, device=ids_BT.device)[None]

    documents_BT = (torch.arange(ids_BT.shape[1], device=ids_BT.device) >= FIRST).long()[None]
    alone_BTV = torch.cat([_logits(model, ids_BT[:, :FIRST]), _logits(model, ids_BT[:, FIRST:])], dim=1)
    restarting_BT = torch.cat([positions(FIRST), positions(SECOND)], dim=1)
    ways: dict[str, dict[str, torch.Tensor]] = {
        "positions": {},
        "mask": {"attention_mask": document_mask(documents_BT, model.weight_dtype)},
    }
    for way, more in ways.items():
        # A mask of ours would widen a sliding window to the whole document, which 16 tokens cannot show.
        if way == "mask" and getattr(model.plain().config, "sliding_window", None):
            continue
        try:
            if alike(_logits(model, ids_BT, position_ids=restarting_BT, **more), alone_BTV):
                return way
        except (TypeError, ValueError, RuntimeError):
            continue
    return "mixed"


def _window(config: Any) -> int | None:
    """Return how far the narrowest layer of a configuration sees back; None where all see everything before them."""
    named = [getattr(part, name, None) for part in (config, config.get_text_config()) for name in WINDOWS]
    return min((int(window) for window in named if isinstance(window, int) and window > 0), default=None)


def _sharing(model: Model, ids_BT: torch.Tensor) -> Any:
    """Return what lets pieces of one row continue another one of it: a table in place of a mask, a mask, or nothing known.

    Two sequences that begin alike, their beginning standing once, are compared with each of them alone, and a third that stands apart.
    """
    import torch

    from burnish.models.fast import as_table, pieces_mask
    from burnish.models.fast.attention import NAME

    length = min(ids_BT.shape[1], model.window or ids_BT.shape[1])
    if length < 4:
        return "none"
    common, second, apart = length // 2, length // 2 + length // 4, length
    rows_BT = torch.cat([ids_BT[:, :length], ids_BT[:, 1:3]], dim=1)
    alone = [torch.cat([ids_BT[:, :common], part], 1) for part in (ids_BT[:, common:second], ids_BT[:, second:apart])]
    first_BTV, second_BTV = (_logits(model, one_BT) for one_BT in alone)
    wanted_BTV = torch.cat([first_BTV, second_BTV[:, common:], _logits(model, ids_BT[:, 1:3])], dim=1)
    steps = [(0, second), (common, common + apart - second), (0, 2)]
    positions_BT = torch.cat([torch.arange(*ends, device=ids_BT.device) for ends in steps])[None]
    pieces_PK = torch.tensor([[0, common, 0, 0], [common, second, 0, common], [second, apart, 0, common], [apart, apart + 2, 0, 0]])
    table = as_table(pieces_PK)
    ways = {"mask": pieces_mask(table, rows_BT.shape[1], model.weight_dtype, ids_BT.device)}
    if model.plain().config._attn_implementation == NAME:
        ways = {"tiles": table, **ways}
    for way, mask in ways.items():
        try:
            if alike(_logits(model, rows_BT, position_ids=positions_BT, attention_mask=mask), wanted_BTV):
                return way
        except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
            continue
    return "none"
