"""Answers under way: rows join, each gets a token per step, and leave when they are done.

Enters: rows (`Row`) and options. Leaves: a `Generated` per row, as it finishes. The past of the rows is kept by `models.fast.slots` where it
fits the model, else by `sampling.padded`. `generate` fills a flight from a list; whoever serves requests may fill it as they come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from burnish.errors import ModelError
from burnish.models import Model
from burnish.models.fast import Slots, fits_slots
from burnish.sampling.choose import Options, choose, uniforms
from burnish.sampling.padded import Padded
from burnish.sampling.text import decoded, final_text, stopped_rows, window

if TYPE_CHECKING:
    import torch

MANY_STEPS = 32
"""Steps from which it pays to prepare the weights for them."""

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
class Row:
    """One answer to be made: its prompt's place, the number it draws by, its sample, the prompt's tokens, and how many were cut."""

    prompt: int
    number: int
    sample: int
    tokens: np.ndarray
    cut: int = 0


def text_of(tokenizer: Any, tokens: np.ndarray, stop: Sequence[str], reason: Reason) -> tuple[str, bool]:
    """Return the text of an answer that ended for this reason, cut before the first stop string, and whether there was one."""
    return final_text(decoded(tokenizer, tokens.tolist()), stop, complete=reason != "length")


class Flight:
    """Up to `rows` answers under way. `admit` takes rows in, `advance` makes a token for each and gives back what is finished.

    What a row says does not depend on the others. Names end in B for the rows in flight. Between two steps, `made_B` counts the tokens that
    each row has, of which the newest is not in the past yet.
    """

    def __init__(self, model: Model, options: Options, *, rows: int, steps: int = 0) -> None:
        """Have places for `rows` rows; `steps` is about how many there will be, as far as is known."""
        import torch

        self.model, self.options, self.size = model, options, rows
        self.past: Slots | Padded
        if fits_slots(model):
            self.past = Slots(model, rows=rows, packed=rows > 1 and steps >= MANY_STEPS)
        else:
            self.past = Padded(model, room=options.max_tokens)
        self.end_ids = torch.tensor(model.end_ids(), device=model.device)
        self.rows: list[Row] = []
        self.fresh: list[torch.Tensor] = []
        shape = (0, options.max_tokens)
        self.token_BT = torch.zeros(shape, dtype=torch.long, device=model.device)
        self.logprob_BT = torch.zeros(shape, dtype=torch.float32, device=model.device)
        self.uniform_BT = torch.zeros(shape, dtype=torch.float64, device=model.device)
        self.made_B = torch.zeros(0, dtype=torch.long, device=model.device)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def room(self) -> int:
        """How many rows can be admitted now."""
        return self.size - len(self.rows) if self.past.joins or not self.rows else 0

    def admit(self, rows: Sequence[Row]) -> None:
        """Take rows in, each distinct prompt read once; their first tokens are made by the next `advance`."""
        import torch

        assert 0 < len(rows) <= self.room, "rows that do not fit"
        prompts = {row.prompt: row.tokens for row in rows}
        line_of = {prompt: line for line, prompt in enumerate(prompts)}
        with torch.inference_mode():
            self.fresh.append(self.past.read(list(prompts.values()), [line_of[row.prompt] for row in rows]))
            for name in ("token_BT", "logprob_BT", "uniform_BT", "made_B"):
                old = getattr(self, name)
                setattr(self, name, torch.cat([old, old.new_zeros((len(rows), *old.shape[1:]))]))
            if self.options.temperature > 0:
                drawn_BT = np.stack([uniforms(self.options, row.number, row.sample) for row in rows])
                self.uniform_BT[len(self.rows) :] = torch.as_tensor(drawn_BT, device=self.uniform_BT.device)
        self.rows += rows

    def advance(self) -> list[tuple[Row, Generated]]:
        """Make one more token for each row in flight; the rows that this finishes leave, and are returned with their answers."""
        import torch

        with torch.inference_mode():
            logits_BV = self._logits()
            place_B = torch.arange(len(self.rows), device=logits_BV.device)
            uniform_B = self.uniform_BT[place_B, self.made_B] if self.options.temperature > 0 else None
            token_B, logprob_B = choose(logits_BV, self.options, uniform_B=uniform_B)
            self.token_BT[place_B, self.made_B] = token_B
            self.logprob_BT[place_B, self.made_B] = logprob_B
            self.made_B += 1
            ended_B = torch.isin(token_B, self.end_ids)
            # The flags travel together: on a GPU, asking for them is what waits.
            flags = torch.stack([ended_B, self.made_B == self.options.max_tokens, logprob_B.isfinite()]).tolist()
            if not all(flags[2]):
                self._refuse_not_finite(flags[2].index(False))
            return self._leave(flags[0], self._stopped(), flags[1])

    def newest(self, place: int) -> int:
        """Return the newest token of the row at a place."""
        return int(self.token_BT[place, self.made_B[place] - 1])

    def _logits(self) -> torch.Tensor:
        """Return logits [B, V]: after the newest token of rows that have one, after the prompts of those just admitted."""
        import torch

        fresh, self.fresh = self.fresh, []
        old = len(self.rows) - sum(len(part) for part in fresh)
        if old:
            newest_B = self.token_BT[:old].gather(1, self.made_B[:old, None] - 1)[:, 0]
            fresh.insert(0, self.past.step(newest_B))
        return fresh[0] if len(fresh) == 1 else torch.cat(fresh)

    def _stopped(self) -> list[bool]:
        """Return for each row whether a stop string stands at its end."""
        if not self.options.stop:
            return [False] * len(self.rows)
        width = window(self.options.stop)
        made, tokens = self.made_B.tolist(), self.token_BT.tolist()
        tails = [row[max(0, count - width) : count] for row, count in zip(tokens, made, strict=True)]
        return stopped_rows(self.model.tokenizer, tails, self.options.stop)

    def _leave(self, ended: list[bool], stopped: list[bool], full: list[bool]) -> list[tuple[Row, Generated]]:
        """Take the rows that are done out of the flight and return them with their answers; rows from the end fill their places."""
        import torch

        reasons: list[Reason | None] = [
            "end" if end else "stop" if stop else "length" if long else None
            for end, stop, long in zip(ended, stopped, full, strict=True)
        ]
        done: list[tuple[int, Reason]] = [(place, reason) for place, reason in enumerate(reasons) if reason is not None]
        if not done:
            return []
        answers = [(self.rows[place], self._answer(place, reason)) for place, reason in done]
        count = len(self.rows) - len(done)
        movers = [place for place in range(count, len(self.rows)) if reasons[place] is None]
        kept = [place if reasons[place] is None else movers.pop() for place in range(count)]
        self.rows = [self.rows[place] for place in kept]
        self.past.keep(kept)
        kept_B = torch.tensor(kept, dtype=torch.long, device=self.made_B.device)
        for name in ("token_BT", "logprob_BT", "uniform_BT", "made_B"):
            setattr(self, name, getattr(self, name)[kept_B])
        return answers

    def _answer(self, place: int, reason: Reason) -> Generated:
        """Return the answer of the row at a place, which ends for this reason."""
        row, made = self.rows[place], int(self.made_B[place])
        length = made - 1 if reason == "end" else made
        tokens, logprobs = self.token_BT[place, :made].cpu().numpy(), self.logprob_BT[place, :made].cpu().numpy()
        text, cut = text_of(self.model.tokenizer, tokens[:length], self.options.stop, reason)
        return Generated(
            tokens=tokens[:length].astype(np.int32),
            text=text,
            stopped=cut or reason != "length",
            stop_reason="stop" if cut else reason,
            logprobs=logprobs[:length].copy(),
            prompt=row.prompt,
            sample=row.sample,
            end_id=int(tokens[length]) if reason == "end" else None,
            end_logprob=float(logprobs[length]) if reason == "end" else 0.0,
            prompt_cut=row.cut,
        )

    def _refuse_not_finite(self, place: int) -> None:
        """Raise ModelError that names a row with logits that are not finite numbers."""
        raise ModelError(
            f"The model's output is not a finite number at token {int(self.made_B[place])} of its answer to prompt "
            f"{self.rows[place].prompt}. Its weights are damaged or its tuning diverged; use an earlier checkpoint or another model."
        )
