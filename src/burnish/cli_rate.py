"""The verb that asks a person: rate.

Enters: a model and what it is compared with, or answers made beforehand, and the keys of a person. Leaves: lines in a feedback file, and
what they say together. `rate` holds what is done; which models answer is decided here.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from burnish.cli_parts import AsJson, Limit
from burnish.errors import UsageError

if TYPE_CHECKING:
    from burnish.api import Loaded
    from burnish.rate import Asked, Candidate, Item
    from burnish.types import Task

SAMPLED = 0.8
"""The temperature of two samples of one model, where none is given: at 0 they would be the same."""


def rate(
    model: Annotated[str | None, typer.Argument(metavar="RUN_DIR|MODEL", help="not needed for answers made beforehand")] = None,
    prompts: Annotated[
        str | None, typer.Option("--prompts", help="a prompt per line (.txt), or rows; answers in them are used")
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", help="another run or model; its own name: two samples; not given: the base")
    ] = None,
    rater: Annotated[str | None, typer.Option("--rater", help="who judges; not given: your user name")] = None,
    output: Annotated[Path, typer.Option("--output", help="file that judgements are added to")] = Path("feedback.jsonl"),
    thumbs: Annotated[bool, typer.Option("--thumbs", help="judge single answers, good or bad")] = False,
    prepare: Annotated[bool, typer.Option("--prepare", help="make all answers before the first question")] = False,
    limit: Limit = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="longest answer")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", min=0.0, help="not given: 0, of two samples 0.8")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="of the sampling, and of the resampling for the intervals")] = 0,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="show what a feedback file says, and ask nothing")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let a person judge answers in the terminal, blind and in random order; or show what the judgements say."""
    if report is not None:
        if model is not None or prompts is not None:
            raise UsageError("--report FILE only reads: leave the model and --prompts away")
        _show(report, seed=seed, as_json=as_json)
        return
    if prompts is None:
        raise UsageError("Give what is to be answered: burnish rate RUN_DIR --prompts FILE (or --report FILE to see what was said)")
    from burnish.rate import read_prompts
    from burnish.rate_makers import user_name

    asked = read_prompts(prompts, base=Path.cwd(), limit=limit)
    if model is None:
        given = {
            "--against": against,
            "--thumbs": thumbs,
            "--prepare": prepare,
            "--max-tokens": max_tokens,
            "--temperature": temperature,
        }
        if useless := [name for name, value in given.items() if value not in (None, False)]:
            raise UsageError(f"{', '.join(useless)}: for a model that answers; name one, burnish rate RUN_DIR --prompts {prompts}")
        table = _prepared(asked, prompts)
    else:
        if thumbs and against is not None:
            raise UsageError("--thumbs judges the answers of one model: leave --against away")
        if any(one.answers for one in asked):
            raise UsageError(
                f"{prompts} holds answers already: leave {model} away to judge these, or take the column 'answers' out"
            )
        table = _generated(model, against, asked, _Asking(thumbs, max_tokens, temperature, seed))
    _sit(table, rater or user_name(), output, prepare=prepare, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Table:
    """What is put to a person: items, answers that are there, and how the others are made."""

    items: list[Item]
    made: dict[int, tuple[Candidate, ...]]
    make: Callable[[Sequence[int]], list[tuple[Candidate, ...]]]
    about: str


@dataclass(frozen=True, slots=True)
class _Asking:
    """How models are asked."""

    thumbs: bool
    max_tokens: int | None
    temperature: float | None
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class _Arm:
    """One of those who answer: its name and version, whether its adapter is on, and the number of its sample."""

    loaded: Loaded
    name: str
    version: str | None
    adapter: bool
    sample: int


# ---------------------------------------------------------------------------------------------------------------- what is judged


def _prepared(asked: Sequence[Asked], source: str) -> _Table:
    """Return prompts with answers that were made beforehand."""
    from burnish.rate import item
    from burnish.types import Message, content

    without = [str(one.origin) for one in asked if not one.answers]
    if without:
        raise UsageError(
            f"{source}: {len(without)} prompts have no answers ({', '.join(without[:3])}): name a model that answers them, "
            "burnish rate RUN_DIR --prompts FILE, or give each row a list 'answers'"
        )
    items = []
    for one in asked:
        messages = one.prompt if isinstance(one.prompt, tuple) else (Message("user", content(str(one.prompt))),)
        items.append(item(messages, [(answer.model, answer.text) for answer in one.answers]))
    return _Table(items, {place: one.answers for place, one in enumerate(asked)}, _nothing, "answers made beforehand")


def _nothing(places: Sequence[int]) -> list[tuple[Candidate, ...]]:
    """Make no answers: all were there."""
    raise AssertionError(f"the answers of {list(places)} are to be there")


def _generated(model: str, against: str | None, asked: Sequence[Asked], asking: _Asking) -> _Table:
    """Return prompts that one or two models answer."""
    from burnish.rate import Candidate, item
    from burnish.sampling import Options

    arms = _arms(model, against, asking.thumbs)
    samples = len(arms) == 2 and arms[0].name == arms[1].name
    temperature = (SAMPLED if samples else 0.0) if asking.temperature is None else asking.temperature
    if samples and temperature == 0:
        raise UsageError("--temperature 0 gives the same answer twice: two samples of one model need a higher one, such as 0.8")
    longest = asking.max_tokens or int(arms[0].loaded.settings.get("max_tokens") or 128)
    tasks = [[_task(arm.loaded, one) for one in asked] for arm in arms]
    settings = [longest, temperature, asking.seed]
    makers = [(arm.version or arm.name, arm.sample, *settings) for arm in arms]
    items = [item(_messages(task), makers) for task in tasks[0]]

    def make(places: Sequence[int]) -> list[tuple[Candidate, ...]]:
        each = []
        for arm, own in zip(arms, tasks, strict=True):
            options = Options(max_tokens=longest, temperature=temperature, seed=asking.seed, step=arm.sample, long_prompts="cut")
            texts = _ask(arm, [own[place] for place in places], options, places)
            each.append([Candidate(text, arm.name, arm.version) for text in texts])
        return list(zip(*each, strict=True))

    about = (
        arms[0].name if len(arms) == 1 else f"two samples of {arms[0].name}" if samples else " and ".join(arm.name for arm in arms)
    )
    return _Table(items, {}, make, about)


def _arms(model: str, against: str | None, thumbs: bool) -> list[_Arm]:
    """Return who answers: the model, and its base, another model, or the model a second time."""
    from burnish import api
    from burnish.rate_makers import base_of, version_of

    loaded = api.load(model)
    first = _Arm(loaded, model, version_of(loaded.model.found), True, 0)
    if thumbs:
        return [first]
    if against is not None and against != model:
        other = api.load(against)
        return [first, _Arm(other, against, version_of(other.model.found), True, 0)]
    if against is None and loaded.model.found.adapter is not None:
        base = f"the base of {model}"
        return [first, _Arm(loaded, base, version_of(loaded.model.found, adapter=False), False, 0)]
    if against is None and (base := base_of(model)) is not None:
        # The base is asked in the form that its tuned model was taught: the same prompt for both.
        other = api.load(base)
        second = replace(other, renderer=loaded.renderer, settings=loaded.settings)
        return [first, _Arm(second, base, version_of(other.model.found), True, 0)]
    return [first, replace(first, sample=1)]


def _task(loaded: Loaded, one: Asked) -> Task:
    """Return a prompt as it is put to a model, framed as that model was taught."""
    from burnish.data.dialog import as_task
    from burnish.types import Dialog, Message, content, plain

    if isinstance(one.prompt, str):
        return loaded.task(one.prompt)
    if isinstance(one.prompt, tuple):
        if loaded.continues_text:
            return loaded.task(plain(one.prompt[-1].content))
        # As a task, a dialog is asked up to its last answer, which is left away.
        dialog = Dialog(messages=(*one.prompt, Message("assistant", content("-"))), origin=one.origin)
        return as_task(dialog, loaded.renderer.frame)
    return as_task(one.prompt, loaded.renderer.frame)


def _messages(task: Task) -> Sequence[Any]:
    """Return the messages of a task; of plain text, the text as the user's turn."""
    from burnish.types import Message, content

    return task.messages if task.text is None else (Message("user", content(task.text)),)


def _ask(arm: _Arm, tasks: Sequence[Task], options: Any, numbers: Sequence[int]) -> list[str]:
    """Return an arm's answers; draws are keyed by the numbers of the prompts, so that slices give the same as all at once."""
    from burnish.sampling import generate

    model = arm.loaded.model
    switched = contextlib.nullcontext() if arm.adapter else model.network.disable_adapter()
    with switched:
        given = generate(model, [arm.loaded.writer.prompt(task) for task in tasks], options, numbers=numbers)
    return [one.text if task.text is not None else one.text.strip() for one, task in zip(given, tasks, strict=True)]


# --------------------------------------------------------------------------------------------------------------- the session itself


def _sit(table: _Table, rater: str, output: Path, *, prepare: bool, as_json: bool) -> None:
    """Hold a session and tell what it came to."""
    from burnish.rate import append, last_of_each, read_feedback, repair
    from burnish.rate_terminal import sit, terminal
    from burnish.terminal import print_json, say

    if said := repair(output):
        say(said)
    rows = read_feedback(output)
    done = {name: row for (name, who), row in last_of_each(rows).items() if who == rater}
    console = terminal(sys.stderr if as_json else sys.stdout)
    with _ahead(table, rows, done, prepare=prepare) as ahead:
        waiting = sum(one.id not in done for one in table.items)
        console.write(f"{rater} judges {waiting} of {len(table.items)} prompts ({table.about}); judgements go to {output}\n")
        sitting = sit(
            table.items, ahead.get, console, rater=rater, save=lambda row: append(output, row), done=done, ready=ahead.ready
        )
    facts = {
        "output": str(output),
        "rater": rater,
        **{name: getattr(sitting, name) for name in ("judged", "skipped", "same", "left")},
    }
    if as_json:
        print_json(facts)
        return
    aside = [f"{sitting.skipped} skipped"] if sitting.skipped else []
    aside += [f"{sitting.same} not asked, since both answers are the same"] if sitting.same else []
    aside += [f"{sitting.left} left for another time"] if sitting.left else []
    print("; ".join([f"{sitting.judged} judgements added to {output}", *aside]))
    print(f"Next: burnish rate --report {output}")


@contextlib.contextmanager
def _ahead(table: _Table, rows: Sequence[Mapping[str, Any]], done: Mapping[str, Any], *, prepare: bool) -> Iterator[Any]:
    """Make answers while the block runs: those that the file holds are taken from there, so that everybody judges the same."""
    from burnish.rate import answers_of
    from burnish.rate_ahead import Ahead
    from burnish.terminal import say

    known = {row["id"]: answers_of(row) for row in rows}
    made = {place: known[one.id] for place, one in enumerate(table.items) if one.id in known} | table.made
    wanted = [place for place, one in enumerate(table.items) if one.id not in done]
    ahead = Ahead(table.make, wanted, made)
    ahead.start()
    try:
        if prepare:
            say(f"Making the answers to {len(wanted)} prompts")
            for place in wanted:
                ahead.get(place)
        yield ahead
    finally:
        ahead.stop()


def _show(file: Path, *, seed: int, as_json: bool) -> None:
    """Print what a feedback file says."""
    from burnish.errors import DataError
    from burnish.rate import read_feedback
    from burnish.rate_statistics import lines, summary
    from burnish.terminal import print_json

    if not file.is_file():
        raise DataError(f"{file}: there is no such file; expected a file that burnish rate wrote")
    rows = read_feedback(file)
    if not rows:
        raise DataError(f"{file}: holds no judgements yet; burnish rate RUN_DIR --prompts FILE adds some")
    found = {"file": str(file), **summary(rows, seed=seed)}
    if as_json:
        print_json(found)
    else:
        print("\n".join(lines(found)))
