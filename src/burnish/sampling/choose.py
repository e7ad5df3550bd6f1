"""Choose the next token of each row from its logits.

Enters: logits and one uniform number per row. Leaves: a token per row and its log-probability. The uniform numbers are a pure
function of (seed, step, prompt, sample, position), so that batch size, order and neighbours cannot change what is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from burnish.errors import ConfigError, combined

if TYPE_CHECKING:
    import torch

LOWEST_TEMPERATURE = 0.001
"""Below it float32 cannot hold the scaled logits apart; 0 says "greedy" better."""
NUCLEUS_FIRST_TRY = 1024
"""How many of the largest probabilities top-p looks at before it sorts the whole vocabulary."""


@dataclass(frozen=True, slots=True)
class Options:
    """How answers are generated. Options that cannot be used raise ConfigError, all problems at once.

    `temperature` 0 is greedy. `top_k` (0: off) keeps the k likeliest tokens, then `top_p` (1: off) the likeliest ones that together
    have that share of probability; equally likely tokens at the border all stay. `stop` are texts that end an answer and are cut
    from it. `samples` answers are drawn per prompt. `batch` is rows in flight at once and changes speed only. `step` sets apart
    draws of different optimizer steps or turns of a chat. `long_prompts`: a prompt that leaves no room for `max_tokens` in the
    model's context is refused, or cut on the left (its first token is kept where that is the beginning-of-text token).
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    seed: int = 0
    samples: int = 1
    batch: int = 64
    step: int = 0
    long_prompts: Literal["fail", "cut"] = "fail"

    def __post_init__(self) -> None:
        problems = [*_number_problems(self), *_text_problems(self)]
        if problems:
            raise combined(ConfigError, "Sampling options that cannot be used", problems)


def _number_problems(options: Options) -> list[str]:
    """Return what is wrong with the numbers of the options."""
    problems = []
    lowest = {"max_tokens": 1, "samples": 1, "batch": 1, "top_k": 0, "seed": 0, "step": 0}
    for name, low in lowest.items():
        value: Any = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value < 2**63:
            problems.append(f"{name} = {value!r}: expected a whole number from {low}.")
    value: Any = options.temperature
    fine = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not fine or (value != 0 and value < LOWEST_TEMPERATURE):
        problems.append(
            f"temperature = {value!r}: expected 0 (greedy: always the likeliest token) or a number from {LOWEST_TEMPERATURE}."
        )
    share: Any = options.top_p
    if not isinstance(share, int | float) or isinstance(share, bool) or not 0 < share <= 1:
        problems.append(f"top_p = {share!r}: expected a share above 0, up to 1 (off).")
    return problems


def _text_problems(options: Options) -> list[str]:
    """Return what is wrong with the stop strings and the policy for long prompts."""
    problems = []
    stop: Any = options.stop
    if not isinstance(stop, tuple) or not all(isinstance(text, str) and text for text in stop):
        problems.append(f'stop = {stop!r}: expected a tuple of texts that are not empty, such as ("\\n",).')
    if options.long_prompts not in ("fail", "cut"):
        problems.append(f"long_prompts = {options.long_prompts!r}: expected 'fail' or 'cut'.")
    return problems


def uniforms(options: Options, prompt: int, sample: int) -> np.ndarray:
    """Return the uniform numbers of one answer, float64 [max_tokens] in [0, 1), one per position.

    The counter-based generator Philox 4x64 with key (seed, step) and counter (position, sample, prompt). Source: Salmon et al. 2011,
    "Parallel random numbers: as easy as 1, 2, 3".
    """
    key = np.array([options.seed, options.step], dtype=np.uint64)
    counter = np.array([0, sample, prompt, 0], dtype=np.uint64)
    bits = np.random.Philox(key=key, counter=counter).random_raw(options.max_tokens)
    # 52 bits, so that u times a total still rounds to less than the total, and never draws a token beyond the last possible one.
    return (bits >> np.uint64(12)).astype(np.float64) * 2.0**-52


def choose(
    logits_BV: torch.Tensor, options: Options, *, uniform_B: torch.Tensor | None, allowed_BV: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the chosen token of each row, and its float32 log-probability in nats; greedy needs no uniform numbers.

    Only tokens of `allowed_BV` are chosen, where it is given; each row has at least one. The log-probability is the model's own, before
    that, temperature, top-k and top-p, as `forward` gives it: so it can be compared with that of another policy. It is NaN where the
    model's logits are not finite numbers.
    """
    logits_BV = logits_BV.float()
    normaliser_B = logits_BV.logsumexp(-1)
    open_BV = logits_BV if allowed_BV is None else logits_BV.masked_fill(~allowed_BV, -math.inf)
    if options.temperature == 0:
        token_B = open_BV.argmax(-1)
    else:
        assert uniform_B is not None, "sampling needs a uniform number per row"
        token_B = _draw(open_BV, options, uniform_B)
    return token_B, logits_BV.gather(-1, token_B[:, None]).squeeze(-1) - normaliser_B


def _draw(logits_BV: torch.Tensor, options: Options, uniform_B: torch.Tensor) -> torch.Tensor:
    """Return one token per row by inversion: the first, in the order of the vocabulary, whose cumulative probability exceeds u."""
    import torch

    size = logits_BV.shape[-1]
    # The largest is taken off first: no temperature can then overflow.
    probability_BV = ((logits_BV - logits_BV.amax(-1, keepdim=True)) / options.temperature).softmax(-1)
    if 0 < options.top_k < size:
        lowest_B1 = probability_BV.topk(options.top_k).values[:, -1:]
        probability_BV = probability_BV.masked_fill(probability_BV < lowest_B1, 0.0)
    if options.top_p < 1:
        probability_BV = probability_BV.masked_fill(probability_BV < _nucleus_border(probability_BV, options.top_p), 0.0)
    # In float64, because the float32 sums of a large vocabulary would drift by more than its rarer tokens weigh.
    cumulative_BV = probability_BV.cumsum(-1, dtype=torch.float64)
    target_B1 = uniform_B[:, None] * cumulative_BV[:, -1:]
    return torch.searchsorted(cumulative_BV, target_B1, right=True).squeeze(-1).clamp(max=size - 1)


def _nucleus_border(probability_BV: torch.Tensor, top_p: float) -> torch.Tensor:
    """Return [B, 1] the smallest probability in the nucleus: the fewest likeliest tokens that together reach the share `top_p`.

    Only values decide, never the order in which equal ones were sorted: that order may change with the shape of a batch.
    Source: Holtzman et al. 2020, arXiv 1904.09751.
    """
    import torch

    size = probability_BV.shape[-1]
    wanted_B1 = top_p * probability_BV.sum(-1, keepdim=True, dtype=torch.float64)
    width = min(NUCLEUS_FIRST_TRY, size)
    largest_BK = probability_BV.topk(width).values
    if width < size and bool((largest_BK.sum(-1, keepdim=True, dtype=torch.float64) < wanted_B1).any()):
        largest_BK = probability_BV.sort(dim=-1, descending=True).values
    before_BK = largest_BK.cumsum(-1, dtype=torch.float64) - largest_BK
    last_B1 = (before_BK < wanted_B1).sum(-1, keepdim=True) - 1
    return largest_BK.gather(-1, last_B1.clamp(min=0))
