"""What makes a model quick: each piece has a plain twin that gives the same numbers, and a test that holds them together.

- `attention`: short rows on a CPU, by plain matrix products.
- `frozen`: what the layers below all that moves say of a row, computed once and read in every epoch; `prefix` passes over them,
  `prefix_find` finds where they end.
- `head`: log-probabilities of targets from hidden states, in tiles, with a backward pass of its own.
- `layers`: compiles the layers of a network one by one.

Which of them a run takes is decided once before step 1 (`devices.choose_device`, `tune_saving.chosen_device`), written to the run
directory, and kept on resume.
"""

from burnish.models.fast.attention import attend_as_in_training, attend_short_rows
from burnish.models.fast.frozen import keep, let_go
from burnish.models.fast.head import read_targets
from burnish.models.fast.layers import compile_layers
from burnish.models.fast.prefix import Prefix, begun

__all__ = ["Prefix", "attend_as_in_training", "attend_short_rows", "begun", "compile_layers", "keep", "let_go", "read_targets"]
