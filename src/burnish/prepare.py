"""Prepare a run up to the point where weights are needed: data gathered, rendered and checked, steps planned, costs estimated.

Enters: a resolved run. Leaves: a `Plan`, from which `tune` starts and which `check` shows. Everything that can be wrong with a run
file, its data or its model's folder is found here, at once, before any weights are read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from heapq import nlargest
from typing import Any

import numpy as np

from burnish.config import Resolved, model_reference, with_value
from burnish.data.check_sequences import check_sequences
from burnish.data.dialog import as_task
from burnish.data.estimate import estimate, measure_matmul
from burnish.data.findings import joined
from burnish.data.formats import FORMATS
from burnish.data.render import Renderer
from burnish.data.report import data_report
from burnish.data.seen import Seen, load_seen
from burnish.data.tokens import token_ids
from burnish.devices import cpu_bfloat16
from burnish.errors import BurnishError, ConfigError, DataError, ModelError, combined
from burnish.gather import Gathered, gather
from burnish.models import Found, end_ids, find_model, longest_input, open_tokenizer, refuse_foreign_code
from burnish.models.fresh import first_learning_rate
from burnish.models.outline import Outline, outline
from burnish.objectives import OBJECTIVES
from burnish.prepare_fresh import fresh_model, special_tokens
from burnish.scores import SCORES, applicable, resolve
from burnish.techniques import TECHNIQUES
from burnish.types import Objective, Sequence, Task, Technique, Text

LONGEST_ANSWER = 512
"""The most tokens that an answer gets unless the run says otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A run that can start: every choice made, every row rendered.

    `sequences` are what an optimizer step counts: those of a row that is kept, or one window of a long text; `kept` the number of
    the row that each comes from, among `gathered.examples["train"]`.
    """

    resolved: Resolved
    found: Found
    model_config: Any
    renderer: Renderer
    gathered: Gathered
    rendered: list[list[Sequence]]
    sequences: list[list[Sequence]]
    kept: list[int]
    objective: Objective
    technique: Technique
    report: dict[str, Any]
    notes: list[str]

    def tasks(self, side: str) -> list[Task]:
        """Return the rows of a side as tasks to attempt, each with the group that its interval is drawn over."""
        rows = zip(self.gathered.examples[side], self.gathered.groups[side], strict=True)
        return [replace(as_task(example, self.gathered.frame), group=group) for example, group in rows]

    def settings(self) -> dict[str, Any]:
        """Return what a tuned model's folder says of itself: the form in which it was taught, to be asked in the same form."""
        frame = self.gathered.frame
        text = all(isinstance(example, Text) for example in self.gathered.examples["train"])
        return {
            "form": "text" if text else "dialog",
            "system": frame.system,
            "prompt": frame.prompt,
            "choices": list(frame.choices),
            "max_length": self.renderer.max_length,
            "max_tokens": self.resolved.config.evaluate.max_tokens,
        }


def registries() -> dict[str, Any]:
    """Return the names that a run file may choose from, by kind."""
    return {"objective": OBJECTIVES, "technique": TECHNIQUES, "score": SCORES, "format": FORMATS}


def prepare(resolved: Resolved, *, measure: bool = False) -> Plan:
    """Return the plan of a run; `measure` also estimates its time, which takes a two-second matrix product.

    Raises ConfigError, ModelError or DataError with all problems found; a model that cannot be opened does not hide those of the data.
    """
    objective, technique = _chosen(resolved)
    problems: list[BurnishError] = []
    found = renderer = model_config = gathered = None
    special: tuple[str, ...] = ()
    notes: list[str] = list(resolved.notes)
    fresh = resolved.config.model.is_fresh
    try:
        if fresh:
            special = special_tokens(resolved)
        else:
            found, model_config, renderer, notes = _open(resolved, find_model(model_reference(resolved)))
            special = tuple(renderer.tokenizer.all_special_tokens)
        if technique.saves == "adapter" and (fresh or (found is not None and found.adapter is not None)):
            raise ModelError(no_base(str(resolved.config.model)) if fresh else second_adapter(str(resolved.config.model)))
    except BurnishError as error:
        problems.append(error)
    try:
        seen = seen_by(found) if found is not None else None
        gathered = gather(resolved.config, resolved.base, special_tokens=special, seen=seen)
        _refuse_unreadable(gathered, objective, resolved.config.objective.name)
    except BurnishError as error:
        problems.append(error)
    if problems:
        if len(problems) == 1:
            raise problems[0]
        raise type(problems[0])("\n".join(str(problem) for problem in problems)) from problems[-1]
    assert gathered is not None
    if fresh:
        # It learns its tokenizer from the rows, so it is made after them and before everything that reads a model.
        place, made = fresh_model(resolved, gathered)
        found, model_config, renderer, notes = _open(resolved, find_model(str(place.resolve())))
        notes += made
    assert found is not None and renderer is not None
    renderer = replace(renderer, frame=gathered.frame)
    return _plan(resolved, found, model_config, renderer, gathered, objective, technique, notes=notes, measure=measure)


def _plan(
    resolved: Resolved,
    found: Found,
    model_config: Any,
    renderer: Renderer,
    gathered: Gathered,
    objective: Objective,
    technique: Technique,
    *,
    notes: list[str],
    measure: bool,
) -> Plan:
    """Render, check, and fill in the values that follow from the data."""
    data = resolved.config.data
    examples = gathered.examples["train"]
    rendered = _render(renderer, examples)
    findings = joined(
        [
            gathered.findings,
            check_sequences(examples, rendered, limit=renderer.max_length, policy=data.long_rows, end_tokens=renderer.end_ids),
        ]
    )
    findings.raise_for_errors()
    units = _units(examples, rendered, renderer, data.long_rows)
    plan = Plan(
        resolved=resolved,
        found=found,
        model_config=model_config,
        renderer=renderer,
        gathered=replace(gathered, findings=findings),
        rendered=rendered,
        sequences=[parts for _, parts in units],
        kept=[row for row, _ in units],
        objective=objective,
        technique=technique,
        report={},
        notes=notes,
    )
    plan = replace(plan, resolved=_fill(plan))
    return replace(plan, report=_report(plan, measure=measure))


def _units(
    examples: list[Any], rendered: list[list[Sequence]], renderer: Renderer, policy: Any
) -> list[tuple[int, list[Sequence]]]:
    """Return (row, sequences) of each unit that a step counts: a row within the length limit, or one window of a text.

    A long document would else weigh as much as it is long in a step that is counted in examples.
    """
    units = []
    for row, parts in enumerate(rendered):
        fitting = renderer.within(parts, policy)
        split = [[window] for window in fitting] if isinstance(examples[row], Text) else [fitting]
        units += [(row, unit) for unit in split if unit]
    return units


def _chosen(resolved: Resolved) -> tuple[Objective, Technique]:
    """Return the objective and technique that the run names."""
    from burnish.config_options import private_function

    def of(registry: Any, name: str) -> Any:
        return registry[name] if name in registry else private_function(name, resolved.base)

    objective, technique = of(OBJECTIVES, resolved.config.objective.name), of(TECHNIQUES, resolved.config.technique.name)
    for value, kind, field in ((objective, Objective, "objective"), (technique, Technique, "technique")):
        if not isinstance(value, kind):
            raise ConfigError(
                f"{field}.name: expected a burnish.types.{kind.__name__} under that name, found {type(value).__name__}."
            )
    return objective, technique


def _open(resolved: Resolved, found: Found) -> tuple[Found, Any, Renderer, list[str]]:
    """Return where the model lies, its configuration and a renderer, without weights."""
    from burnish.data.dialog import Frame

    refuse_foreign_code(found)
    model_config, tokenizer, notes = open_tokenizer(found)
    data, longest = resolved.config.data, longest_input(model_config)
    if data.max_length is not None and data.max_length > longest:
        raise ConfigError(f"data.max_length = {data.max_length}, but the model reads {longest} tokens at most.")
    limit = data.max_length or min(longest, resolved.config.train.tokens)
    frame = Frame(data.system, data.prompt)
    renderer = Renderer(tokenizer, limit, end_ids(tokenizer, model_config), frame, learn=data.learn)
    return found, model_config, renderer, [*resolved.notes, *notes]


def seen_by(found: Found) -> Seen | None:
    """Return the rows that a model is known to have been trained on, None where nothing is known."""
    return load_seen(found.seen, model=found.name) if found.seen is not None else None


def second_adapter(model: str) -> str:
    """Return why an adapter cannot be tuned on a model that is an adapter."""
    return (
        f"model = {model!r} is an adapter itself, and another adapter on top of it could not be saved with it. "
        f'Set technique.name = "full" here (the first adapter is then merged), tune the first one with it, or begin with its base.'
    )


def no_base(model: str) -> str:
    """Return why an adapter cannot be tuned on a fresh model."""
    return (
        f"an adapter on {model} would change random weights a little and leave them random. "
        f'Set technique.name = "full", or begin with a model that there is: model = "tiny".'
    )


def _refuse_unreadable(gathered: Gathered, objective: Objective, name: str) -> None:
    """Raise DataError where rows are of a kind that the objective cannot learn from."""
    wrong = [example for example in gathered.examples["train"] if not isinstance(example, objective.reads)]
    if wrong:
        kinds = sorted({type(example).__name__ for example in wrong})
        reads = ", ".join(kind.__name__ for kind in objective.reads)
        raise DataError(
            f"objective {name!r} cannot learn from {', '.join(kinds)} rows ({len(wrong)}, the first at {wrong[0].origin}); it reads "
            f"{reads}. Choose another objective (burnish ls objectives) or another data.format."
        )


def _render(renderer: Renderer, examples: list[Any]) -> list[list[Sequence]]:
    """Return the sequences of each example; DataError lists every row that the model's template refuses."""
    rendered, problems = [], []
    for example in examples:
        try:
            rendered.append(renderer.sequences(example))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise combined(DataError, "Rows that this model's chat template cannot show", problems)
    return rendered


def _fill(plan: Plan) -> Resolved:
    """Return the run with what follows from technique and data filled in: learning rate, steps, intervals, scores, answer length."""
    resolved = plan.resolved
    config = resolved.config
    if config.train.learning_rate is None:
        rate, origin = plan.technique.learning_rate, f"the technique {config.technique.name}"
        if config.model.is_fresh:
            rate, origin = first_learning_rate(config.model.hidden), "model.hidden"
        resolved = with_value(resolved, "train.learning_rate", rate, origin=origin)
    if config.train.steps is None:
        order = plan.gathered.order(plan.kept, config.seed)
        rows = sum(len(order(epoch)) for epoch in range(config.train.epochs or 1))
        resolved = with_value(
            resolved, "train.steps", -(-rows // config.train.batch), origin=f"the data ({config.train.epochs} epochs)"
        )
    steps = resolved.config.train.steps or 1
    if config.save.every == 0:
        resolved = with_value(resolved, "save.every", max(1, -(-steps // 10)), origin="the number of steps")
    if config.evaluate.every == 0 and plan.gathered.examples["dev"]:
        resolved = with_value(resolved, "evaluate.every", max(1, -(-steps // 5)), origin="the number of steps")
    tasks = plan.tasks("test") or plan.tasks("dev") or plan.tasks("train")
    if not config.score:
        resolved = with_value(resolved, "score", applicable(tasks), origin="the data")
    if config.evaluate.max_tokens is None and any(task.text is None for task in tasks):
        resolved = with_value(resolved, "evaluate.max_tokens", _answer_tokens(plan), origin="the data")
    for name in resolved.config.score:
        if not any(resolve(name).applies(task) for task in tasks):
            raise ConfigError(
                f"score: {name!r} finds nothing to compare with in these rows. Suitable here: {', '.join(applicable(tasks))}."
            )
    return resolved


def _answer_tokens(plan: Plan) -> int:
    """Return a limit on answers that leaves the longest expected one a quarter more room."""
    longest = max(int(np.count_nonzero(sequence.weight_N)) for parts in plan.sequences for sequence in parts)
    if plan.renderer.learn == "everything":
        # Prompts are learned too, so what is learned is no measure of an answer and of the token that ends it.
        answers = (text for task in plan.tasks("train") if task.text is None for text in task.expected.texts[:1])
        longest = max((len(token_ids(plan.renderer.tokenizer, text)) for text in nlargest(32, answers, key=len)), default=0) + 1
    return int(min(LONGEST_ANSWER, max(16, 1.25 * longest), max(1, plan.renderer.max_length // 2)))


def _report(plan: Plan, *, measure: bool) -> dict[str, Any]:
    """Return the data report of the run, with an estimate of its cost where asked."""
    gathered, tokenizer = plan.gathered, plan.renderer.tokenizer
    return data_report(
        gathered.examples,
        {"train": plan.rendered},
        findings=gathered.findings,
        sources=gathered.sources,
        limit=plan.renderer.max_length,
        policy=plan.resolved.config.data.long_rows,
        decode=lambda ids: tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False),
        groups=gathered.groups,
        notes=[*gathered.notes, *plan.notes],
        estimated=estimate_cost(plan) if measure else None,
    )


def estimate_cost(plan: Plan) -> dict[str, Any]:
    """Return estimated memory, steps and time of the run on this machine."""
    config = plan.resolved.config
    sizes: Outline = outline(plan.model_config, plan.technique, config.technique.options)
    fast = config.dtype != "float32" and cpu_bfloat16()
    stored = 2 if config.dtype == "bfloat16" or (fast and sizes.adapter) else 4
    lengths = np.asarray([sequence.length for parts in plan.sequences for sequence in parts], dtype=float)
    trained = sum(int(np.count_nonzero(sequence.weight_N)) for parts in plan.sequences for sequence in parts)
    per_step = float(lengths.sum()) / len(plan.sequences) * config.train.batch
    rows = int(min(per_step, config.train.tokens))
    flops = measure_matmul(2.0, "bfloat16" if fast else "float32", rows=max(rows, 16), hidden=sizes.hidden)
    return estimate(
        parameters=sizes.parameters,
        trainable=sizes.trainable,
        hidden=sizes.hidden,
        layers=sizes.layers,
        vocabulary=sizes.vocabulary,
        bytes_per_weight=stored,
        tokens_per_step=per_step,
        steps=config.train.steps or 1,
        flops=flops,
        adapter=sizes.adapter,
        tokens_per_batch=rows,
        trained_share=trained / float(lengths.sum()),
        attended=float((lengths**2).sum() / lengths.sum()),
        attention_width=sizes.attention_width,
        key_width=sizes.key_width,
        feed_forward=sizes.feed_forward,
        tied=sizes.tied,
    )
