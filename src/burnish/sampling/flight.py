"""Answers under way: rows join, each gets a token per step, and leave when they are done.

Enters: rows (`Row`) and options. Leaves: a `Generated` per row, as it finishes. The past of the rows is kept by `models.fast.slots` where it
fits the model, else by `sampling.padded`. `generate` fills a flight from a list; `serve.engine` fills one as requests come, whose rows have
options, an adapter and a form to keep to of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

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


class Form(Protocol):
    """What the text of a row must be like, token by token (`sampling.form`)."""

    @property
    def done(self) -> bool:
        """Whether nothing can follow any more."""
        ...

    def allowed(self, left: int) -> np.ndarray:
        """Return which tokens may come next, bool [V], when `left` more fit; at least one may."""
        ...

    def take(self, token: int) -> None:
        """Go on behind a token that was chosen."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Generated:
    """One answer to prompt number `prompt`.

    `tokens` int32 [K] without the end token; `logprobs` float32 [K] what the model itself gave each of them, before temperature and
    truncation. `stop_reason`: "end" (an end token, `end_id` with `end_logprob`), "stop" (a stop string, cut from `text`; the tokens
    it came from stay in `tokens`; or a form that is complete) or "length" (the token limit; half a character at the end of `text` is left
    out). `stopped` is True for the first two. `prompt_cut` is how many tokens of the prompt were left out, where `long_prompts` allows that.
    `likeliest` has the likeliest tokens of each place with their log-probabilities, where the row asked for them.
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
    likeliest: tuple[tuple[tuple[int, float], ...], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One answer to be made: its prompt's place, the number it draws by, its sample, the prompt's tokens, and how many were cut.

    What is None is that of the flight: `options` of its own, the name of an `adapter` among several (`models.fast.switch`), a `form` that
    the answer keeps to. `likeliest` is how many of the likeliest tokens are noted at each place.
    """

    prompt: int
    number: int
    sample: int
    tokens: np.ndarray
    cut: int = 0
    options: Options | None = None
    adapter: str | None = None
    form: Form | None = None
    likeliest: int = 0


def text_of(tokenizer: Any, tokens: np.ndarray, stop: Sequence[str], reason: Reason) -> tuple[str, bool]:
    """Return the text of an answer that ended for this reason, cut before the first stop string, and whether there was one."""
    return final_text(decoded(tokenizer, tokens.tolist()), stop, complete=reason != "length")


class Flight:
    """Up to `rows` answers under way. `admit` takes rows in, `advance` makes a token for each and gives back what is finished.

    What a row says does not depend on the others. Names end in B for the rows in flight. Between two steps, `made_B` counts the tokens that
    each row has, of which the newest is not in the past yet.
    """

    def __init__(self, model: Model, options: Options, *, rows: int, steps: int = 0, prefix_bytes: int = 0) -> None:
        """Have places for `rows` rows; `steps` is about how many there will be, as far as is known.

        Up to `prefix_bytes` of the past of prompts are kept for prompts that begin alike, where the model's past lies in slots.
        """
        import torch

        self.model, self.options, self.size = model, options, rows
        self.past: Slots | Padded
        if fits_slots(model):
            self.past = Slots(model, rows=rows, packed=rows > 1 and steps >= MANY_STEPS, prefix_bytes=prefix_bytes)
        else:
            self.past = Padded(model)
        self.end_ids = torch.tensor(model.end_ids(), device=model.device)
        self.rows: list[Row] = []
        self.fresh: list[torch.Tensor] = []
        self.noted: dict[Row, list[tuple[tuple[int, float], ...]]] = {}
        shape = (0, options.max_tokens)
        self.token_BT = torch.zeros(shape, dtype=torch.long, device=model.device)
        self.logprob_BT = torch.zeros(shape, dtype=torch.float32, device=model.device)
        self.uniform_BT = torch.zeros(shape, dtype=torch.float64, device=model.device)
        self.made_B = torch.zeros(0, dtype=torch.long, device=model.device)
        self.limit_B = torch.zeros(0, dtype=torch.long, device=model.device)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def room(self) -> int:
        """How many rows can be admitted now."""
        return self.size - len(self.rows) if self.past.joins or not self.rows else 0

    def options_of(self, row: Row) -> Options:
        """Return the options of a row: its own, or the flight's."""
        return row.options or self.options

    def admit(self, rows: Sequence[Row]) -> None:
        """Take rows in, each distinct prompt read once; their first tokens are made by the next `advance`."""
        import torch

        assert 0 < len(rows) <= self.room, "rows that do not fit"
        assert self.past.joins or not any(row.adapter for row in rows), "adapters are chosen by row in slots only"
        prompts = {row.prompt: row for row in rows}
        line_of = {prompt: line for line, prompt in enumerate(prompts)}
        limits = [self.options_of(row).max_tokens for row in rows]
        old = len(self.rows)
        with torch.inference_mode():
            first = list(prompts.values())
            self.fresh.append(
                self.past.read(
                    [row.tokens for row in first],
                    [line_of[row.prompt] for row in rows],
                    room=max(limits),
                    adapters=[row.adapter for row in first],
                )
            )
            self._widen(max(limits))
            for name in ("token_BT", "logprob_BT", "uniform_BT", "made_B", "limit_B"):
                before = getattr(self, name)
                setattr(self, name, torch.cat([before, before.new_zeros((len(rows), *before.shape[1:]))]))
            self.limit_B[old:] = torch.tensor(limits, device=self.limit_B.device)
            for place, row in enumerate(rows, start=old):
                options = self.options_of(row)
                if options.temperature > 0:
                    drawn_T = torch.as_tensor(uniforms(options, row.number, row.sample), device=self.uniform_BT.device)
                    self.uniform_BT[place, : options.max_tokens] = drawn_T
        self.noted |= {row: [] for row in rows if row.likeliest}
        self.rows += rows

    def advance(self) -> list[tuple[Row, Generated]]:
        """Make one more token for each row in flight; the rows that this finishes leave, and are returned with their answers."""
        import torch

        with torch.inference_mode():
            logits_BV = self._logits()
            place_B = torch.arange(len(self.rows), device=logits_BV.device)
            token_B, logprob_B = self._chosen(logits_BV, place_B)
            self.token_BT[place_B, self.made_B] = token_B
            self.logprob_BT[place_B, self.made_B] = logprob_B
            self.made_B += 1
            ended_B = torch.isin(token_B, self.end_ids)
            # The flags travel together: on a GPU, asking for them is what waits.
            flags = torch.stack([ended_B, self.made_B == self.limit_B, logprob_B.isfinite()]).tolist()
            if not all(flags[2]):
                self._refuse_not_finite(flags[2].index(False))
            self._note(logits_BV)
            return self._leave(flags[0], self._stopped(token_B), flags[1])

    def drop(self, rows: Collection[Row]) -> None:
        """Take rows out of the flight whose answers nobody waits for any more."""
        import torch

        assert not self.fresh, "rows are dropped between a step and the next admission"
        with torch.inference_mode():
            self._keep([row in rows for row in self.rows])

    def look(self) -> None:
        """Look at the model's layers anew, after an adapter was put beside the others."""
        if isinstance(self.past, Slots):
            self.past.look()

    def newest(self, place: int) -> int:
        """Return the newest token of the row at a place."""
        return int(self.token_BT[place, self.made_B[place] - 1])

    def newest_all(self) -> list[tuple[int, float]]:
        """Return the newest token of each row in flight with its log-probability, in the order of `rows`."""
        if not self.rows:
            return []
        last_B1 = self.made_B[:, None] - 1
        tokens, logprobs = self.token_BT.gather(1, last_B1)[:, 0], self.logprob_BT.gather(1, last_B1)[:, 0]
        return list(zip(tokens.tolist(), logprobs.tolist(), strict=True))

    def _widen(self, limit: int) -> None:
        """Make room for answers of `limit` tokens."""
        import torch

        missing = limit - self.token_BT.shape[1]
        if missing > 0:
            for name in ("token_BT", "logprob_BT", "uniform_BT"):
                setattr(self, name, torch.nn.functional.pad(getattr(self, name), (0, missing)))

    def _logits(self) -> torch.Tensor:
        """Return logits [B, V]: after the newest token of rows that have one, after the prompts of those just admitted."""
        import torch

        fresh, self.fresh = self.fresh, []
        old = len(self.rows) - sum(len(part) for part in fresh)
        if old:
            newest_B = self.token_BT[:old].gather(1, self.made_B[:old, None] - 1)[:, 0]
            fresh.insert(0, self.past.step(newest_B))
        return fresh[0] if len(fresh) == 1 else torch.cat(fresh)

    def _chosen(self, logits_BV: torch.Tensor, place_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each row's next token and its log-probability; rows that choose alike are drawn together."""
        import torch

        allowed_BV = self._allowed(logits_BV)
        alike: dict[tuple[float, float, int], list[int]] = {}
        for place, row in enumerate(self.rows):
            options = self.options_of(row)
            alike.setdefault((options.temperature, options.top_p, options.top_k), []).append(place)
        token_B, logprob_B = torch.empty_like(self.made_B), logits_BV.new_empty(len(place_B), dtype=torch.float32)
        for places in alike.values():
            options = self.options_of(self.rows[places[0]])
            # All rows at once are taken as they lie: a copy of their logits would cost more than the choice.
            some_B = slice(None) if len(places) == len(self.rows) else torch.tensor(places, device=place_B.device)
            uniform_B = self.uniform_BT[place_B[some_B], self.made_B[some_B]] if options.temperature > 0 else None
            mask_BV = None if allowed_BV is None else allowed_BV[some_B]
            token_B[some_B], logprob_B[some_B] = choose(logits_BV[some_B], options, uniform_B=uniform_B, allowed_BV=mask_BV)
        return token_B, logprob_B

    def _allowed(self, logits_BV: torch.Tensor) -> torch.Tensor | None:
        """Return which tokens each row may take, bool [B, V]; None where no row keeps to a form."""
        import torch

        formed = [place for place, row in enumerate(self.rows) if row.form is not None]
        if not formed:
            return None
        allowed_BV = torch.ones(logits_BV.shape, dtype=torch.bool)
        left = (self.limit_B - self.made_B).tolist()
        for place in formed:
            form = self.rows[place].form
            assert form is not None
            mask_V = form.allowed(left[place])
            allowed_BV[place, : len(mask_V)] = torch.from_numpy(mask_V)
            allowed_BV[place, len(mask_V) :] = False
        return allowed_BV.to(logits_BV.device)

    def _note(self, logits_BV: torch.Tensor) -> None:
        """Note the likeliest tokens of the rows that ask for them."""
        for place, row in enumerate(self.rows):
            if row.likeliest:
                best = logits_BV[place].float().log_softmax(-1).topk(min(row.likeliest, logits_BV.shape[1]))
                self.noted[row].append(tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True)))

    def _stopped(self, token_B: torch.Tensor) -> list[bool]:
        """Return for each row whether a stop string stands at its end, or its form is complete."""
        formed = [place for place, row in enumerate(self.rows) if row.form is not None]
        stops = [self.options_of(row).stop for row in self.rows]
        found = [False] * len(self.rows)
        if formed:
            tokens = token_B.tolist()
            for place in formed:
                form = self.rows[place].form
                assert form is not None
                form.take(tokens[place])
                found[place] = form.done
        looking = [place for place, stop in enumerate(stops) if stop]
        if not looking:
            return found
        made = self.made_B.tolist()
        for stop in dict.fromkeys(stops[place] for place in looking):
            places, width = [place for place in looking if stops[place] == stop], window(stop)
            tails = [self.token_BT[place, max(0, made[place] - width) : made[place]].tolist() for place in places]
            for place, there in zip(places, stopped_rows(self.model.tokenizer, tails, stop), strict=True):
                found[place] = found[place] or there
        return found

    def _leave(self, ended: list[bool], stopped: list[bool], full: list[bool]) -> list[tuple[Row, Generated]]:
        """Take the rows that are done out of the flight and return them with their answers."""
        reasons: list[Reason | None] = [
            "end" if end else "stop" if stop else "length" if long else None
            for end, stop, long in zip(ended, stopped, full, strict=True)
        ]
        answers = [(self.rows[place], self._answer(place, reason)) for place, reason in enumerate(reasons) if reason is not None]
        self._keep([reason is not None for reason in reasons])
        return answers

    def _keep(self, leaving: Sequence[bool]) -> None:
        """Take rows out of the flight; rows from the end fill their places."""
        import torch

        if not any(leaving):
            return
        for place, row in enumerate(self.rows):
            if leaving[place]:
                self.noted.pop(row, None)
        count = len(self.rows) - sum(leaving)
        movers = [place for place in range(count, len(self.rows)) if not leaving[place]]
        kept = [movers.pop() if leaving[place] else place for place in range(count)]
        self.rows = [self.rows[place] for place in kept]
        self.past.keep(kept)
        kept_B = torch.tensor(kept, dtype=torch.long, device=self.made_B.device)
        for name in ("token_BT", "logprob_BT", "uniform_BT", "made_B", "limit_B"):
            setattr(self, name, getattr(self, name)[kept_B])

    def _answer(self, place: int, reason: Reason) -> Generated:
        """Return the answer of the row at a place, which ends for this reason."""
        row, made = self.rows[place], int(self.made_B[place])
        length = made - 1 if reason == "end" else made
        tokens, logprobs = self.token_BT[place, :made].cpu().numpy(), self.logprob_BT[place, :made].cpu().numpy()
        text, cut = text_of(self.model.tokenizer, tokens[:length], self.options_of(row).stop, reason)
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
            likeliest=tuple(self.noted.get(row, ())[:length]),
        )

    def _refuse_not_finite(self, place: int) -> None:
        """Raise ModelError that names a row with logits that are not finite numbers."""
        raise ModelError(
            f"The model's output is not a finite number at token {int(self.made_B[place])} of its answer to prompt "
            f"{self.rows[place].prompt}. Its weights are damaged or its tuning diverged; use an earlier checkpoint or another model."
        )
