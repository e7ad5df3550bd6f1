"""Rollouts: the source of batches of reinforcement learning. The model attempts tasks, the attempts are scored, and learned from.

Enters: a model, tasks, what judges answers, a `Plan`. Leaves: a function step -> micro-batches, as `FixedBatches` is one, so that the
loop knows nothing of it. Which prompts a rollout holds, and what is drawn for them, is a pure function of (seed, rollout). What must
persist is the newest rollout with its streams, the KL weight and the records; all of it changes at once, when a rollout is complete:
a stop during generation leaves nothing, and the rollout is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Many
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from burnish.advantages import next_kl
from burnish.data.batching import collate, cut_units, units_of
from burnish.data.render import Renderer
from burnish.devices import Ranks
from burnish.errors import ConfigError, RunError
from burnish.models import Model
from burnish.rewards import LengthGuard, Part, Rewards, check_parts, equal_groups, rewards
from burnish.rollouts_plan import Plan, chosen_prompts, dealt, lasting, sampling_options
from burnish.rollouts_ranks import share, together
from burnish.rollouts_sequences import Reference, divergence, imagined, measured, sequence_of, stand_in, with_advantages
from burnish.rollouts_state import Rollout, arrays_of, rollout_of
from burnish.rollouts_watch import Record, hopeless
from burnish.sampling import Generated, generate
from burnish.sampling.mode import drops_out
from burnish.types import Answer, Batch, Sequence, Task, plain


@dataclass(slots=True, eq=False)
class Rollouts:
    """Batches that the model makes by itself: `rollouts(step)` are the micro-batches of a step, sampled anew where it is due.

    `reference` gives the reference's log-probabilities where KL is used: what it is depends on the technique. `between` is called
    between batches of work and may raise to stop. `rank` of `ranks` is the share of the micro-batches, `processes` those that share
    the sampling. `own_logprobs` is the objective's. `records` tell of every rollout so far, `kl` is the present weight of KL.
    """

    model: Model
    renderer: Renderer
    tasks: Many[Task]
    parts: Many[Part]
    plan: Plan
    guard: LengthGuard | None = None
    reference: Reference | None = None
    between: Callable[[], None] | None = None
    rank: int = 0
    ranks: int = 1
    processes: Ranks = field(default_factory=Ranks)
    own_logprobs: bool = False
    current: Rollout | None = field(default=None, init=False)
    kl: float = field(default=0.0, init=False)
    records: list[Record] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        check_parts(self.parts)
        sampling_options(self.plan, 0)  # their problems are told now, not when the first rollout is due
        if not self.tasks:
            raise ConfigError("There are no prompts to attempt: expected at least one row.")
        if self.plan.kl > 0 and self.reference is None:
            raise ConfigError(
                f"kl = {self.plan.kl}: a penalty for leaving the reference needs a reference. Give one, or set kl = 0."
            )
        self.kl = self.plan.kl

    def __call__(self, step: int) -> list[Batch]:
        """Return this rank's micro-batches of a step; makes a new rollout first where the step begins one.

        Raises RunError where a step is inside a rollout that was neither made here nor loaded, where no answer was ever worth more than
        another, and what sampling and rewards raise.
        """
        number, place = divmod(step, self.plan.steps)
        if self.current is None or self.current.number != number:
            if place:
                raise RunError(
                    f"Step {step + 1} belongs to rollout {number + 1}, which is not there: it was sampled by earlier weights. Resume from "
                    f"a checkpoint that holds it, or start the run anew."
                )
            rollout, record = self._made(number, step)
            kl = self.kl if self.plan.kl_target is None or record.kl is None else self._adapted(record.kl, len(rollout.sequences))
            if text := hopeless([*self.records, record]):
                raise RunError(text)
            self.current, self.kl, self.records = rollout, kl, [*self.records, record]
        assert self.current is not None
        served = _served(self.current, self.plan, place)
        if self._at_once():
            served = [one if one.streams["advantage"].any() else stand_in(one) for one in served]
        return [self._laid_out(micro) for micro in _cut(served, self.plan)[self.rank :: self.ranks]]

    def _laid_out(self, micro: Many[Sequence]) -> Batch:
        plan, model = self.plan, self.model
        return collate(micro, packing=plan.packing, shared=plan.shared, pad_id=model.pad_id(), device=model.device)

    def largest(self) -> list[Batch]:
        """Return the largest micro-batch that attempts can make: at the longest prompts, each answered as long as it may be."""
        tasks = sorted(self.tasks, key=lambda task: -sum(len(plain(one.content)) for one in task.messages))[: self.plan.prompts]
        made = [
            imagined(self.renderer.prompt(task), self.plan.max_tokens, origin=task.origin, group=number, task=self.renderer.task)
            for number, task in enumerate(tasks, 1)
            for _ in range(self.plan.samples)
        ]
        batches = [self._laid_out(micro) for micro in _cut(made, self.plan)]
        return [max(batches, key=lambda batch: batch.layout.input_ids_BT.numel())]

    def _adapted(self, found: float, answers: int) -> float:
        assert self.plan.kl_target is not None
        return next_kl(self.kl, found, target=self.plan.kl_target, horizon=self.plan.kl_horizon, answers=answers)

    def _at_once(self) -> bool:
        """Return whether the loop's own pass gives all that is to be known of answers: the only one at the weights that sampled them.

        A pass beforehand would only repeat it. Answers whose advantage is 0 then add nothing to the gradient.
        """
        plan = self.plan
        alone = plan.steps == 1 and plan.kl == 0 and self.reference is None and plan.advantage != "generalised"
        return self.own_logprobs and alone and not drops_out(self.model.network)

    def _made(self, number: int, step: int) -> tuple[Rollout, Record]:
        """Return a new rollout and its record; nothing of this object is changed."""
        chosen = chosen_prompts(len(self.tasks), self.plan, number)
        prompts = [self.renderer.prompt(self.tasks[task]) for task in chosen]
        answers = self._answers(prompts, number)
        tasks = [chosen[answer.prompt] for answer in answers]
        made = [
            sequence_of(
                prompts[answer.prompt],
                answer,
                origin=self.tasks[task].origin,
                group=answer.prompt + 1,
                task=self.renderer.task,
            )
            for task, answer in zip(tasks, answers, strict=True)
        ]
        # Rewards before the learner's passes: a judge that fails should fail soon.
        worth = rewards(
            [Answer(text=one.text.strip(), stopped=one.stopped, tokens=len(one.tokens)) for one in answers],
            [self.tasks[task] for task in tasks],
            self.parts,
            guard=self.guard,
        )
        sequences, at_once = [sequence for sequence, _ in made], self._at_once()
        # Where nothing needs to be measured, a prompt in turn tells how far sampler and learner are apart.
        looked_at = [place for place, one in enumerate(sequences) if not at_once or one.group == number % self.plan.prompts + 1]
        looked, entropy = self._measured([sequences[place] for place in looked_at])
        gaps = [np.abs(one.streams["sampled"] - made[place][1]) for one, place in zip(looked, looked_at, strict=True)]
        sequences = sequences if at_once else looked
        sequences = with_advantages(
            sequences,
            worth.total_S,
            self.plan.advantage,
            kl=self.kl,
            discount=self.plan.discount,
            decay=self.plan.decay,
        )
        mismatch = float(np.concatenate(gaps).mean())
        record = _record(number, step, sequences, answers, worth, mismatch=mismatch, entropy=entropy, kl=self.kl)
        return Rollout(number, tuple(sequences), tuple(tasks)), record

    def _answers(self, prompts: Many[np.ndarray], number: int) -> list[Generated]:
        """Return the answers, all samples of the first prompt first; `Generated.prompt` is the place of the prompt."""
        options, places = sampling_options(self.plan, number), share(len(prompts), self.processes)

        def sample() -> list[Generated]:
            mine = [prompts[place] for place in places]
            found = generate(self.model, mine, options, numbers=places, between=self.between)
            return [replace(answer, prompt=places[answer.prompt]) for answer in found]

        return together(sample, self.processes, self.model.tokenizer, options.stop)

    def _measured(self, sequences: Many[Sequence]) -> tuple[list[Sequence], float]:
        """Return the sequences, in their order, with what learner and reference say of them, and the mean entropy."""
        cut = _cut(sequences, self.plan)
        place = {id(sequence): number for number, sequence in enumerate(sequences)}
        filled, entropy = measured(
            self.model,
            cut,
            packing=self.plan.packing,
            shared=self.plan.shared,
            values=self.plan.advantage == "generalised",
            reference=self.reference,
            between=self.between,
        )
        ordered = list(sequences)
        for before, after in zip(cut, filled, strict=True):
            for old, new in zip(before, after, strict=True):
                ordered[place[id(old)]] = new
        return ordered, entropy

    def state(self) -> dict[str, Any]:
        """Return what must persist: "facts", which JSON can hold, and "arrays", named numpy arrays of the newest rollout."""
        facts: dict[str, Any] = {
            "tasks": len(self.tasks),
            "plan": lasting(self.plan),
            "kl": self.kl,
            "rollout": None if self.current is None else self.current.number,
            "records": [asdict(record) for record in self.records],
        }
        return {"facts": facts, "arrays": {} if self.current is None else arrays_of(self.current)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave. Raises RunError where it was made for other prompts or another plan."""
        facts = state["facts"]
        mine = {"tasks": len(self.tasks), "plan": lasting(self.plan)}
        if any(facts[name] != mine[name] for name in mine):
            changed = [name for name, value in mine["plan"].items() if facts["plan"].get(name) != value]
            raise RunError(
                f"The rollouts of this checkpoint were made from {facts['tasks']} prompts, and there are {mine['tasks']} now; options that "
                f"differ: {', '.join(changed) or 'none'}. Resume with what the run began with, or start it anew."
            )
        current = (
            None if facts["rollout"] is None else rollout_of(facts["rollout"], state["arrays"], self.tasks, self.renderer.task)
        )
        self.current, self.kl, self.records = current, float(facts["kl"]), [Record(**record) for record in facts["records"]]


def _served(rollout: Rollout, plan: Plan, place: int) -> list[Sequence]:
    """Return the sequences of a step: all of the rollout's, or those of a share of its prompts."""
    groups = dealt(plan, rollout.number, place)
    return [sequence for sequence in rollout.sequences if groups is None or sequence.group in groups]


def _cut(sequences: Many[Sequence], plan: Plan) -> list[list[Sequence]]:
    return cut_units(units_of(sequences), plan.tokens, packing=plan.packing, shared=plan.shared)


def _record(
    number: int,
    step: int,
    sequences: Many[Sequence],
    answers: Many[Generated],
    worth: Rewards,
    *,
    mismatch: float,
    entropy: float,
    kl: float,
) -> Record:
    """Return what a rollout was like."""
    equal, groups = equal_groups(worth.total_S, np.array([sequence.group for sequence in sequences]))
    referred = "reference" in sequences[0].streams
    return Record(
        number=number,
        step=step,
        reward=float(worth.total_S.mean()),
        deviation=float(worth.total_S.std()),
        equal_groups=equal / groups,
        length=float(np.mean([len(one.at_N) for one in sequences])),
        stop_rate=float(np.mean([answer.stopped for answer in answers])),
        entropy=entropy,
        mismatch=mismatch,
        kl=float(np.mean([divergence(one) for one in sequences])) if referred else None,
        kl_weight=kl,
        parts={name: float(values_S.mean()) for name, values_S in worth.parts.items()},
    )
