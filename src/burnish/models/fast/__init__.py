"""What makes a model quick: each piece has a plain twin that gives the same numbers, and a test that holds them together.

- `attention`: short rows on a CPU, by plain matrix products.
- `frozen`: hidden states of a trunk that does not move, computed once for its head.
- `head`: log-probabilities of targets from hidden states, in tiles, with a backward pass of its own.
- `layers`: compiles the layers of a network one by one.
- `slots`: generates token by token with Llama-like networks; its plain twin is `sampling.padded`.

Which of them a run takes is decided once before step 1 (`devices.choose_device`, `tune_saving.chosen_device`), written to the run
directory, and kept on resume.
"""

from burnish.models.fast.attention import attend_as_in_training, attend_short_rows
from burnish.models.fast.frozen import with_states_kept
from burnish.models.fast.head import read_targets
from burnish.models.fast.layers import compile_layers
from burnish.models.fast.slots import Slots, fits_slots

__all__ = [
    "Slots",
    "attend_as_in_training",
    "attend_short_rows",
    "compile_layers",
    "fits_slots",
    "read_targets",
    "with_states_kept",
]
