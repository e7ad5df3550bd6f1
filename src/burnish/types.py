"""The core types: what a row means, what is predicted from it, and what a step is made of.

Nothing here computes; modules hand these to each other and need not know each other. Data makes examples from rows and sequences
from examples; batching makes batches of sequences; `models` turns a batch into outputs, an objective turns outputs into a loss;
sampling turns tasks into answers, a score turns answers into statistics.

Letters in the names of arrays and tensors (`logprobs_N`): N read-outs of a batch, S sequences, B rows of a padded layout, T token
positions, V vocabulary, H hidden size, C classes, K anything small per item, R resamples, G groups.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from burnish.types_rows import (
    ROLES,
    Answerable,
    Content,
    Dialog,
    Example,
    Expected,
    ImagePart,
    Labelled,
    Message,
    Origin,
    Pair,
    Rated,
    Role,
    Row,
    Span,
    Tagged,
    Task,
    Text,
    TextPart,
    ToolCall,
    content,
    pictures_in,
    plain,
)

if TYPE_CHECKING:
    from pathlib import Path

    import torch

__all__ = [
    "ROLES",
    "STREAMS",
    "Answer",
    "Answerable",
    "Batch",
    "Content",
    "Dialog",
    "Example",
    "Expected",
    "ImagePart",
    "Kept",
    "Labelled",
    "Layout",
    "Loss",
    "Message",
    "Objective",
    "Origin",
    "Outputs",
    "Pair",
    "Rated",
    "Role",
    "Row",
    "Score",
    "Sequence",
    "Span",
    "Tagged",
    "Task",
    "Technique",
    "Text",
    "TextPart",
    "ToolCall",
    "content",
    "pictures_in",
    "plain",
]


# ---------------------------------------------------------------------------------------------------- what a model is asked for


STREAMS: dict[str, str] = {
    "reference": "log-probability of the target under the policy as it stood before step 0",
    "sampled": "log-probability of the target under the policy that sampled it",
    "advantage": "how much better the sampled answer was than expected",
    "return": "what a value head is to predict at this place",
    "value": "what the value head said at this place when the answer was sampled",
    "margin": "by how much the chosen answer is better, for a margin between rewards",
    "rating": "the number given to an answer, or 1 and 0 for a thumb up and down",
    "divergence": "KTO's reference point: the mean divergence of policy and reference on unrelated answers",
    "number": "the number that a regression head is to predict",
    "classes": "[N, C] 1 for each class that holds, else 0",
    "tags": "[N, C] for each type of span: 0 outside, 1 the first token, 2 inside",
    "start": "share of this place among the right first tokens of an answer",
    "end": "share of this place among the right last tokens of an answer",
    "candidates": "[N, K] tokens that a teacher finds likely",
    "teacher": "[N, K] the teacher's log-probability of each candidate",
}
"""The streams that objectives read, by name; float32 [N] where no shape is given."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Hidden states that a model holds of a sequence (`models.fast.frozen`): their first row, one for each token that is left of it.

    Where only some places are read, the others are left out of the sequence; `tokens` is how many it stands for.
    """

    row: int
    tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """Tokens, and the places where something is predicted (read-outs): one example rendered for one model.

    tokens_T int32; at_N int32 positions whose hidden state is read; target_N what is predicted there; weight_N float32 how strongly
    it counts; streams_N further float32 arrays per read-out. Only the renderer knows about shifting: token i of a causal model is
    read at i-1. Streams are [N] or [N, K]: what a loss must know beyond the target, under names that `STREAMS` explains.
    """

    tokens_T: np.ndarray
    at_N: np.ndarray
    target_N: np.ndarray
    weight_N: np.ndarray
    origin: Origin
    streams: Mapping[str, np.ndarray] = field(default_factory=dict)
    task: str = "main"
    group: int = 0
    """Sequences of one group (a pair, several samples of a prompt) stay in one micro-batch; 0: stands alone, as windows of a text do."""
    role: str = "policy"
    text_bytes: int = 0
    """UTF-8 bytes of the text that the read-outs predict, for bits per byte."""
    kept: Kept | None = None
    """Where the model keeps what its frozen layers say of this sequence; None where they are run."""
    images: tuple[ImagePart, ...] = ()
    """The pictures that it shows. A picture alone has no tokens: `tokens_T` then holds a 0 for each position that the model makes of it."""

    @property
    def length(self) -> int:
        """Number of tokens."""
        return len(self.tokens_T)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """How a batch's sequences lie in the model's input. Only `models` reads it.

    input_ids_BT; position_ids_BT, which restart at each sequence; document_BT the sequence a position belongs to (-1: padding), or
    None where each row holds one sequence padded on the right, which needs no mask in a causal model; row_S and start_S say where a
    sequence begins.

    In the shared layout a group's common prefix stands once: the first prefix_S tokens of a sequence begin at before_S, the others at
    start_S. pieces_PK holds first and end of each piece of the row, and of the piece that it continues.
    """

    kind: Literal["padded", "packed", "shared"]
    input_ids_BT: torch.Tensor
    position_ids_BT: torch.Tensor
    document_BT: torch.Tensor | None
    row_S: torch.Tensor
    start_S: torch.Tensor
    prefix_S: torch.Tensor | None = None
    before_S: torch.Tensor | None = None
    pieces_PK: torch.Tensor | None = None
    images_S: tuple[tuple[ImagePart, ...], ...] = ()
    """The pictures of each sequence; empty where none shows any."""
    kept_BT: torch.Tensor | None = None
    """Row of the model's kept hidden states at each position, in the machine's memory; None where the whole model runs."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One micro-batch: sequences of one task in a layout, and all their read-outs as flat vectors.

    The vectors are the same in every layout. at_N counts from the start of its own sequence; sequence_N tells which sequence.
    """

    layout: Layout
    at_N: torch.Tensor
    target_N: torch.Tensor
    weight_N: torch.Tensor
    sequence_N: torch.Tensor
    streams: Mapping[str, torch.Tensor]
    group_S: torch.Tensor
    role_S: tuple[str, ...]
    task: str
    origins: tuple[Origin, ...]
    tokens: int
    """Tokens of the data, no padding: in the shared layout too, a prompt counts once for each sequence that has it."""


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """What the model gave at the read-outs; only what the objective names in `needs` is filled, each with one row per read-out.

    logprobs_N of the targets, entropy_N of the predictions in nats, candidates_NK the log-probabilities of the stream "candidates",
    scores_NC the logits of the task's head, values_N what the value head expects.
    """

    logprobs_N: torch.Tensor | None = None
    entropy_N: torch.Tensor | None = None
    candidates_NK: torch.Tensor | None = None
    scores_NC: torch.Tensor | None = None
    values_N: torch.Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """Named terms as sums over the batch's read-outs, never means, and metrics as (sum, count)."""

    terms: Mapping[str, torch.Tensor]
    metrics: Mapping[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What loss: a pure function of outputs and batch.

    `function(outputs, batch, **options) -> Loss`; `counts(batch, **options) -> {term: denominator}` from read-outs and weights
    alone, known before any forward pass; `terms` are the names of both. A factor between terms belongs into the sums. `reads` are
    the example types it can learn from. The first paragraph of the function's docstring is shown by `burnish ls`.

    `renders` names how examples become sequences for it (`data.renderings`); `head` the kind of head that its scores come from: one
    reading per sequence, per token, or the start and end of a span; "masked" is an encoder's own head over the vocabulary.
    `preference` is how one reads off log-probabilities which answer a model prefers: their sum, their mean over tokens, or the ratio
    of their sum to the reference's. `streams` must be on every sequence; those that no row can hold ("reference", "divergence") are
    filled before the step that reads them. It may be a function of the options that need it.
    """

    function: Callable[..., Loss]
    counts: Callable[..., Mapping[str, torch.Tensor]]
    terms: tuple[str, ...]
    needs: tuple[str, ...]
    reads: tuple[type, ...]
    metrics: tuple[str, ...] = ()
    additive: bool = True
    renders: str = "answers"
    head: Literal["sequence", "token", "span", "masked"] | None = None
    preference: Literal["ratio", "sum", "mean"] = "sum"
    streams: tuple[str, ...] | Callable[..., tuple[str, ...]] = ()

    rate_factor: float = 1.0
    """What it bears of the learning rate that imitation takes with the same technique and model (`learning_rate.rate`)."""

    advantage: str | Callable[..., str] = "group"
    """How rewards become the stream "advantage" of what it attempts (`rollouts_sequences.Advantage`), perhaps by its options."""

    own_logprobs: bool = False
    """Whether batches without the stream "sampled" were sampled by the policy as it stands, and an advantage of 0 then adds nothing."""

    own_answers: Callable[..., float] | None = None
    """By its options, the share of the rows whose answer the model writes by itself before a teacher's streams are filled; None: none."""

    @property
    def adds_head(self) -> bool:
        """Whether it reads by a head that begins as random numbers: not one that writes, nor an encoder's own over the vocabulary."""
        return self.head not in (None, "masked")

    def own_share(self, options: Mapping[str, Any]) -> float:
        """Return the share of the rows that the model answers by itself with these options."""
        return self.own_answers(**options) if self.own_answers is not None else 0.0

    def advantage_of(self, options: Mapping[str, Any]) -> str:
        """Return how rewards become advantages with these options."""
        return self.advantage(**options) if callable(self.advantage) else self.advantage

    def reads_streams(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the streams that it reads with these options."""
        return self.streams(**options) if callable(self.streams) else self.streams


@dataclass(frozen=True, slots=True, kw_only=True)
class Technique:
    """Which parameters may move: `function(network, **options) -> network`, the others frozen, before the optimizer is made.

    `learning_rate` is the default for imitation on a model of the width `learning_rate.REFERENCE_WIDTH`; it falls with the width to the
    power of `width_power` (1.25 for matrices, 0.9 for low-rank ones beside them, 0.5 for vectors). A parameter that learns faster or
    slower than the rest carries a factor of it as its attribute `rate_factor`, which `optim.make_optimizer` reads. `merges` says whether
    the result can be folded into the base weights, `why_not` why it cannot. `reference` is how the policy before step 0 is kept: by
    switching the adapter off, where that is the same model bit for bit, or as a copy of what moves.

    `virtual_positions(**options)` is how many positions it puts before each sequence, so that the context has room for them.
    `save(network, folder)` and `restore(network, folder)` are for techniques whose state is more than the network's own
    `save_pretrained` writes. `stacks`: an adapter that the model came with is folded in, and saved together with the new one.
    """

    function: Callable[..., Any]
    learning_rate: float
    width_power: float = 1.25
    merges: bool
    saves: Literal["adapter", "model"]
    reference: Literal["adapter_off", "copy"]
    virtual_positions: Callable[..., int] | None = None
    save: Callable[[Any, Path], None] | None = None
    restore: Callable[[Any, Path], None] | None = None
    stacks: bool = False
    why_not: str = ""
    averages: Literal["weights", "factor"] | None = None
    """How its result can be averaged with the base: weight by weight, or by scaling the factor B of a low-rank update; None: not."""


# --------------------------------------------------------------------------------------------------------- answers and their worth


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered to one task.

    `stopped` is True where it ended by itself and not at the token limit. The three likelihood fields are filled where a score
    asks for the likelihood of the expected text: its negative log-likelihood in nats, and its tokens and UTF-8 bytes. `margin` is by
    how much the chosen answer of a pair is preferred to the rejected one, where a score asks for that. `chances` are the probabilities of
    labels, where what answers tells them.
    """

    text: str = ""
    stopped: bool = False
    tokens: int = 0
    nll: float = 0.0
    nll_tokens: int = 0
    nll_bytes: int = 0
    margin: float | None = None
    chances: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How good answers are: statistics per answer that add up over rows, and what their sum means.

    `statistics(answers, tasks, **options) -> float64 array [rows, K]`, never raising on junk; `combine(sums) -> array` maps sums of
    shape [..., K] to values of shape [...], so that resampled sums of a bootstrap are combined in one call. A mean is K = 2:
    (value, 1). A score of a single row, `combine(statistics[i])`, is also a reward.
    """

    statistics: Callable[..., np.ndarray]
    combine: Callable[[np.ndarray], np.ndarray]
    higher_is_better: bool = True
    needs: Literal["text", "likelihood", "preference", "chances"] = "text"
    best: float = 1.0
    applies: Callable[[Task], bool] = lambda task: True
    """Whether a task holds what this score compares with."""
