"""Models: load one, run it over a batch, save it.

Enters: a name, a folder or a batch. Leaves: a `Model`, and `Outputs` at the read-outs of a batch. Everything that differs between
architectures or layouts stays in this package; neither objectives nor the loop can see it.
"""

from __future__ import annotations

from burnish.data.render_heads import ANSWER, MASKED, REWARD
from burnish.models.adapters import add_adapter, why_not_shared
from burnish.models.eye import Eye
from burnish.models.fast import can_compile, compile_layers, plain_pieces, recompute_layers, set_up, set_up_answering
from burnish.models.find import Found, find_model, fingerprint, refuse_foreign_code
from burnish.models.forward import as_in_training, forward
from burnish.models.heads import BESIDE, HeadSpec, head_modules, is_encoder, is_picture_encoder, refuse_other_kind, width_of
from burnish.models.load import Model, adapt, as_plain_network, end_ids, load_model, longest_input, open_tokenizer
from burnish.models.named_heads import add_heads, add_value_head, head_named
from burnish.models.numbered import numbered_batches
from burnish.models.save import restore_weights, save_model
from burnish.models.vocabulary import NOT_ON_ADAPTERS, Added, add_terms, extend

__all__ = [
    "ANSWER",
    "BESIDE",
    "MASKED",
    "NOT_ON_ADAPTERS",
    "REWARD",
    "Added",
    "Eye",
    "Found",
    "HeadSpec",
    "Model",
    "adapt",
    "add_adapter",
    "add_heads",
    "add_terms",
    "add_value_head",
    "as_in_training",
    "as_plain_network",
    "can_compile",
    "compile_layers",
    "end_ids",
    "extend",
    "find_model",
    "fingerprint",
    "forward",
    "head_modules",
    "head_named",
    "is_encoder",
    "is_picture_encoder",
    "load_model",
    "longest_input",
    "numbered_batches",
    "open_tokenizer",
    "plain_pieces",
    "recompute_layers",
    "refuse_foreign_code",
    "refuse_other_kind",
    "restore_weights",
    "save_model",
    "set_up",
    "set_up_answering",
    "why_not_shared",
    "width_of",
]
