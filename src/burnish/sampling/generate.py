"""Continue prompts: batched, with a key-value cache, rows leaving the batch when they finish.

Enters: a `Model`, prompts as token ids, `Options`. Leaves: a `Generated` per prompt and sample, or pieces of text as they arise.
In float32 the greedy tokens are those of transformers' own greedy generation. In bfloat16, where the order of sums depends on the
shape of a batch, the first difference stands where the two best logits lie within `BFLOAT16_TOLERANCE` of each other.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from burnish.errors import ModelError, RunError, combined
from burnish.models import Model, virtual
from burnish.sampling.choose import Options, choose, uniforms
from burnish.sampling.mode import evaluating
from burnish.sampling.text import Pieces, decoded, final_text, stopped_rows, window

if TYPE_CHECKING:
    import torch

BFLOAT16_TOLERANCE = 2.0**-5
"""Of the largest logit's size: four roundings of bfloat16, whose numbers lie up to 2^-7 of their size apart."""

Reason = Literal["end", "stop", "length"]


@dataclass(frozen=True, slots=True, eq=False)
class Generated:
    """One answer to prompt number `prompt`.

    `tokens` int32 [K] without the end token; `logprobs` float32 [K] what the model itself gave each of them, before temperature and
    truncation. `stop_reason`: "end" (an end token, `end_id` with `end_logprob`), "stop" (a stop string, cut from `text`; the tokens
    it came from stay in `tokens`) or "length" (the token limit; half a character at the end of `text` is left out). `stopped` is
    True for the first two. `prompt_cut` is how many tokens of the prompt were left out, where `long_prompts` allows that.
    """

    tokens: np.ndarray
    text: str
    stopped: bool
    stop_reason: Reason
    logprobs: np.ndarray
    prompt: int = 0
    sample: int = 0
    end_id: int | None = None
    end_logprob: float = 0.0
    prompt_cut: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """One answer to be made: its prompt's place, the number it draws by, its sample, the prompt's tokens, and how many were cut."""

    prompt: int
    number: int
    sample: int
    tokens: np.ndarray
    cut: int


def generate(
    model: Model, prompts: Sequence[np.ndarray], options: Options, *, numbers: Sequence[int] | None = None
) -> list[Generated]:
    """Return `options.samples` answers to each prompt, in the order of the prompts: all samples of the first one first.

    The result does not depend on `options.batch`. Draws are keyed by a prompt's place in the list, or by its number where `numbers`
    gives one each: so that prompts handed over in slices, or in another order, get the same answers. No global random generator is
    touched, and the network is left in the mode it was in. On a GPU without memory for a batch, the batch is halved.

    Raises ModelError, all problems at once, for empty prompts, tokens that the model does not know, prompts too long for its
    context, or a model whose output is not a finite number; RunError where memory does not even suffice for one answer.
    """
    fitted = _fitted(model, prompts, options)
    own = range(len(fitted)) if numbers is None else numbers
    assert len(own) == len(fitted), "a number for each prompt"
    cuts = [len(prompt) - len(tokens_T) for prompt, tokens_T in zip(prompts, fitted, strict=True)]
    rows = [
        _Row(place, own[place], sample, tokens_T, cuts[place])
        for place, tokens_T in enumerate(fitted)
        for sample in range(options.samples)
    ]
    # The longest first: if memory is short, that shows at once and not after an hour.
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place].tokens))
    answers: list[Generated | None] = [None] * len(rows)
    with evaluating(model.network):
        for first in range(0, len(order), options.batch):
            places = order[first : first + options.batch]
            for place, answer in zip(places, _answers(model, [rows[place] for place in places], options), strict=True):
                answers[place] = answer
    return [answer for answer in answers if answer is not None]


def stream(model: Model, prompt: np.ndarray, options: Options) -> Generator[str, None, Generated]:
    """Yield the text of one answer in pieces as it arises, never half a character or the beginning of a stop string.

    The pieces joined are the text that `generate` gives with the same options (`samples` is taken as 1); the generator's return
    value is that answer. Closing the generator early leaves the network in the mode it was in. Raises what `generate` raises.
    """
    tokens_T = _fitted(model, [prompt], options)[0]
    row = _Row(0, 0, 0, tokens_T, len(prompt) - len(tokens_T))
    pieces = Pieces(model.tokenizer, options.stop)
    with evaluating(model.network):
        flight = _Flight(model, [row], options)
        while flight.advance():
            piece = pieces.push(int(flight.token_RT[0, flight.made - 1]))
            if piece:
                yield piece
    answer = flight.answer(0)
    rest = answer.text[len(pieces.shown) :]
    if rest:
        yield rest
    return answer


def _fitted(model: Model, prompts: Sequence[np.ndarray], options: Options) -> list[np.ndarray]:
    """Return the prompts as int64 arrays that leave room for an answer, or raise ModelError with every problem."""
    room = model.max_length - options.max_tokens
    if room < 1:
        raise ModelError(
            f"max_tokens = {options.max_tokens} leaves no room for a prompt: the model's context is {model.max_length} tokens. "
            f"Ask for fewer."
        )
    embedding: Any = model.plain().get_input_embeddings()
    known = int(embedding.weight.shape[0])
    start_id: Any = model.tokenizer.bos_token_id
    fitted, problems = [], []
    for number, prompt in enumerate(prompts):
        tokens_T = np.asarray(prompt, dtype=np.int64).reshape(-1)
        if not len(tokens_T):
            problems.append(f"prompt {number} is empty: expected at least one token, such as the beginning-of-text token.")
        elif tokens_T.min() < 0 or tokens_T.max() >= known:
            problems.append(f"prompt {number} holds a token outside the model's {known}: was it made with another tokenizer?")
        elif len(tokens_T) > room and options.long_prompts == "fail":
            problems.append(f"prompt {number} has {len(tokens_T)} tokens, {len(tokens_T) - room} too many.")
        fitted.append(_cut(tokens_T, room, start_id))
    if problems:
        heading = (
            f"Prompts that cannot be answered (the model's context of {model.max_length} tokens less max_tokens = {options.max_tokens} "
            f"leaves {room}; shorten the prompt, lower max_tokens, or set long_prompts = 'cut')"
        )
        raise combined(ModelError, heading, problems)
    return fitted


def _cut(tokens_T: np.ndarray, room: int, start_id: int | None) -> np.ndarray:
    """Return the last `room` tokens; a beginning-of-text token stays in front, since models answer badly without it."""
    if len(tokens_T) <= room:
        return tokens_T
    if tokens_T[0] == start_id and room > 1:
        return np.concatenate([tokens_T[:1], tokens_T[len(tokens_T) - room + 1 :]])
    return tokens_T[len(tokens_T) - room :]


def _answers(model: Model, rows: Sequence[_Row], options: Options) -> list[Generated]:
    """Return the answers of one batch of rows, in halves where the device has too little memory for the whole."""
    import torch

    try:
        flight = _Flight(model, rows, options)
        while flight.advance():
            pass
        return [flight.answer(number) for number in range(len(rows))]
    except torch.OutOfMemoryError as error:
        if len(rows) == 1:
            raise RunError(
                f"Memory of {model.device} does not suffice to generate even one answer (prompt {rows[0].prompt}, "
                f"{len(rows[0].tokens)} tokens, max_tokens = {options.max_tokens}). Lower max_tokens, shorten the prompt, or use a "
                f"smaller model."
            ) from error
    # Outside the except block, whose traceback would keep the failed batch in memory.
    half = len(rows) // 2
    return _answers(model, rows[:half], options) + _answers(model, rows[half:], options)


class _Flight:
    """One batch of answers under way: the cache and mask of the rows still in it, and what every row has said so far.

    Names end in R for all rows of the batch, B for those still in it, U for distinct prompts. `made` counts
    tokens per row so far, `seen` the columns that the cache holds.
    """

    def __init__(self, model: Model, rows: Sequence[_Row], options: Options) -> None:
        import torch
        from transformers import DynamicCache

        self.model, self.rows, self.options = model, rows, options
        self.made, self.seen = 0, 0
        self.network: Any = model.plain()
        self.cache: Any = DynamicCache(config=self.network.config)
        self.end_ids = torch.tensor(model.end_ids(), device=model.device)
        shape = (len(rows), options.max_tokens)
        self.token_RT = torch.zeros(shape, dtype=torch.long, device=model.device)
        self.logprob_RT = torch.zeros(shape, dtype=torch.float32, device=model.device)
        self.uniform_RT: torch.Tensor | None = None
        if options.temperature > 0:
            uniform_RT = np.stack([uniforms(options, row.number, row.sample) for row in rows])
            self.uniform_RT = torch.as_tensor(uniform_RT, device=model.device)
        self.length_R: list[int] = [options.max_tokens] * len(rows)
        self.reason_R: list[Reason] = ["length"] * len(rows)
        self.row_B = torch.arange(len(rows), device=model.device)
        self.next_B1: torch.Tensor | None = None
        self.mask_BT: torch.Tensor | None = None
        self.position_B1 = self.row_B[:, None]

    def advance(self) -> bool:
        """Make one more token for each row in the batch, let the finished rows leave, and return whether any is left."""
        import torch

        with torch.inference_mode():
            logits_BV = self._first_logits() if self.next_B1 is None else self._next_logits(self.next_B1)
            uniform_B = None if self.uniform_RT is None else self.uniform_RT[self.row_B, self.made]
            token_B, logprob_B = choose(logits_BV, self.options, uniform_B=uniform_B)
            self.token_RT[self.row_B, self.made] = token_B
            self.logprob_RT[self.row_B, self.made] = logprob_B
            self.made += 1
            self.next_B1 = token_B[:, None]
            ended_B = torch.isin(token_B, self.end_ids)
            # The two flags travel together: on a GPU, asking for them is what waits.
            any_ended, finite = torch.stack([ended_B.any(), logprob_B.isfinite().all()]).tolist()
            if not finite:
                self._refuse_not_finite(logprob_B)
            self._leave(self._finished(ended_B, any_ended))
        return len(self.row_B) > 0 and self.made < self.options.max_tokens

    def answer(self, row: int) -> Generated:
        """Return the answer of a row that has left the batch, or that reached the token limit."""
        length, reason = self.length_R[row], self.reason_R[row]
        tokens, logprobs = self.token_RT[row, :length].cpu().numpy(), self.logprob_RT[row, : length + 1].cpu().numpy()
        text, cut = final_text(decoded(self.model.tokenizer, tokens.tolist()), self.options.stop, complete=reason != "length")
        return Generated(
            tokens=tokens.astype(np.int32),
            text=text,
            stopped=cut or reason != "length",
            stop_reason="stop" if cut else reason,
            logprobs=logprobs[:length].copy(),
            prompt=self.rows[row].prompt,
            sample=self.rows[row].sample,
            end_id=int(self.token_RT[row, length]) if reason == "end" else None,
            end_logprob=float(logprobs[length]) if reason == "end" else 0.0,
            prompt_cut=self.rows[row].cut,
        )

    def _first_logits(self) -> torch.Tensor:
        """Read each distinct prompt once, padded on the left, and return the logits after it for each row."""
        import torch

        device, adapted = self.model.device, self.model.network
        numbers = list(dict.fromkeys(row.prompt for row in self.rows))
        before = virtual.placeholders(adapted)
        prompts = {row.prompt: np.concatenate([before, row.tokens]) for row in self.rows}
        lengths = [len(prompts[number]) for number in numbers]
        longest = max(lengths)
        if virtual.is_segment(adapted):
            self.cache, self.seen = virtual.past(adapted, len(numbers)), virtual.count(adapted)
        ids_UT = np.full((len(numbers), longest), self.model.tokenizer.pad_token_id or 0, dtype=np.int64)
        # Columns for what the cache holds already, and for the tokens to come, are in the mask from the start.
        mask_UT = np.ones((len(numbers), self.seen + longest + self.options.max_tokens), dtype=np.int64)
        for line, number in enumerate(numbers):
            ids_UT[line, longest - lengths[line] :] = prompts[number]
            mask_UT[line, self.seen : self.seen + longest - lengths[line]] = 0
        positions_UT = np.maximum(np.arange(longest)[None] - (longest - np.array(lengths))[:, None], 0) + self.seen
        # Prompts of one length need no mask, and take a quicker path through attention.
        self.mask_BT = torch.as_tensor(mask_UT, device=device) if min(lengths) < longest else None
        logits_UV = self._logits(torch.as_tensor(ids_UT, device=device), torch.as_tensor(positions_UT, device=device), longest)
        line_of = {number: line for line, number in enumerate(numbers)}
        line_B = torch.tensor([line_of[row.prompt] for row in self.rows], device=device)
        if len(numbers) < len(self.rows):
            self._keep(line_B)
        self.position_B1 = torch.tensor([[len(row.tokens) + virtual.count(adapted)] for row in self.rows], device=device)
        return logits_UV[line_B]

    def _next_logits(self, token_B1: torch.Tensor) -> torch.Tensor:
        """Return the logits after each row's newest token."""
        logits_BV = self._logits(token_B1, self.position_B1, 1)
        self.position_B1 = self.position_B1 + 1
        return logits_BV

    def _logits(self, ids_BT: torch.Tensor, positions_BT: torch.Tensor, width: int) -> torch.Tensor:
        """Return the logits [B, V] after the last of `width` new tokens per row, the cache extended by all of them."""
        self.seen += width
        inputs: dict[str, Any] = {"input_ids": ids_BT}
        if not self.made and len(virtual.placeholders(self.model.network)):
            inputs = virtual.embedded(self.model.network, inputs)
        # Only the last position passes through the output head: the logits of a whole prompt would dwarf everything else.
        output = self.network(
            **inputs,
            attention_mask=None if self.mask_BT is None else self.mask_BT[:, : self.seen],
            position_ids=positions_BT,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        if getattr(output, "past_key_values", None) is not self.cache:
            raise ModelError(
                f"A {self.network.config.model_type} model keeps its past in a form of its own, which generation does not support. "
                f"Use a model of another architecture."
            )
        return output.logits[:, -1]

    def _finished(self, ended_B: torch.Tensor, any_ended: bool) -> list[int]:
        """Return the places in the batch of rows that just finished, their length and reason noted."""
        ended = ended_B.tolist() if any_ended else [False] * len(ended_B)
        stopped = [False] * len(ended)
        if self.options.stop:
            first = max(0, self.made - window(self.options.stop))
            stopped = stopped_rows(self.model.tokenizer, self.token_RT[self.row_B, first : self.made].tolist(), self.options.stop)
        elif not any_ended:
            return []
        places = [place for place, flags in enumerate(zip(ended, stopped, strict=True)) if any(flags)]
        for place, row in zip(places, self.row_B[places].tolist(), strict=True):
            self.length_R[row] = self.made - 1 if ended[place] else self.made
            self.reason_R[row] = "end" if ended[place] else "stop"
        return places

    def _leave(self, places: list[int]) -> None:
        """Take the rows at these places out of the batch."""
        import torch

        if not places:
            return
        gone = set(places)
        kept_B = torch.tensor([place for place in range(len(self.row_B)) if place not in gone], device=self.row_B.device).long()
        assert self.next_B1 is not None, "rows leave after they got a token"
        self.row_B, self.next_B1, self.position_B1 = self.row_B[kept_B], self.next_B1[kept_B], self.position_B1[kept_B]
        if len(kept_B) and self.made < self.options.max_tokens:
            self._keep(kept_B)

    def _keep(self, place_B: torch.Tensor) -> None:
        """Let cache and mask hold the rows at these places, in this order; a place may stand more than once."""
        # This selects rows in every kind of cache layer; `batch_select_indices` is missing in those of linear attention.
        self.cache.reorder_cache(place_B)
        self.mask_BT = None if self.mask_BT is None else self.mask_BT[place_B]

    def _refuse_not_finite(self, logprob_B: torch.Tensor) -> None:
        """Raise ModelError that names the first row with logits that are not finite numbers."""
        row = self.rows[int(self.row_B[(~logprob_B.isfinite()).nonzero()[0, 0]])]
        raise ModelError(
            f"The model's output is not a finite number at token {self.made} of its answer to prompt {row.prompt}. Its weights are "
            f"damaged or its tuning diverged; use an earlier checkpoint or another model."
        )
