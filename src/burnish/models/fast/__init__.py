"""What makes a model quick: each piece has a plain twin that gives the same numbers, and a test that holds them together.

- `attend`: attention of whole rows on a CPU, in blocks of matrix products.
- `attention`: the ecosystem's interface of attention, which takes it where a call is of that kind.
- `blocks`: puts the pieces in the place of a network's own modules.
- `frozen`: what the layers below all that moves say of a row, computed once and read in every epoch; `prefix` passes over them,
  `prefix_find` finds where they end.
- `head`: log-probabilities of targets from hidden states, in tiles, with a backward pass of its own.
- `kernels`: the element-wise loops between the products, compiled (`kernels.cpp`, `token.cpp`) or in torch (`kernels_plain`).
- `layers`: compiles the layers of a network one by one.
- `linear`: linear layers with their low-rank adapters, several on one input.
- `pieces`: attention over several documents in one row, and over groups whose common prefix stands once.
- `process`: what is set for the whole process.
- `recompute`: layers that keep their inputs alone, where memory is short.
- `rows`: normalisation and gated activations.
- `slots`: generates token by token with Llama-like networks; its plain twin is `sampling.padded`.

Which of them a run takes is decided once before step 1 (`devices.choose_device`, `tune_saving.chosen_device`), written to the run
directory, and kept on resume.
"""

from burnish.models.fast.attention import attend_as_in_training
from burnish.models.fast.blocks import plain_pieces, quicken, quicken_adapters
from burnish.models.fast.frozen import keep, let_go
from burnish.models.fast.head import read_targets
from burnish.models.fast.kernels import can_compile
from burnish.models.fast.layers import compile_layers
from burnish.models.fast.pieces import as_table, pieces_mask
from burnish.models.fast.prefix import Prefix, begun
from burnish.models.fast.process import set_up, set_up_answering
from burnish.models.fast.recompute import layers_of, recompute_layers
from burnish.models.fast.slots import Slots, fits_slots

__all__ = [
    "Prefix",
    "Slots",
    "as_table",
    "attend_as_in_training",
    "begun",
    "can_compile",
    "compile_layers",
    "fits_slots",
    "keep",
    "layers_of",
    "let_go",
    "pieces_mask",
    "plain_pieces",
    "quicken",
    "quicken_adapters",
    "read_targets",
    "recompute_layers",
    "set_up",
    "set_up_answering",
]
