"""The arms with weights of their own: rows written by the same prompt builder, tuned by the run's own technique, kept for the next time.

Enters: a bench, an arm and a setting. Leaves: a run directory below the decision's, made by `tune` as any other, and the model in it, merged where
its technique merges: an adapter beside the weights would make every answer slower than it need be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from burnish import atomic, config, runs
from burnish.config import Resolved, RunConfig
from burnish.config_decide import DecideConfig
from burnish.config_schema import Choice, DataConfig
from burnish.decide.arms import Arm
from burnish.decide.bench import Bench, Setting, gold, looked_up
from burnish.decide.prompts import Help, fit, put
from burnish.decide.protocol import Item
from burnish.decide.rows_written import write_dialogs, write_marked
from burnish.models import Model, fingerprint, load_model
from burnish.runs import Run
from burnish.techniques import TECHNIQUES
from burnish.tune import Watch, tune
from burnish.types import Expected

SHARE_WITH_EVIDENCE = 0.8
"""Of the training prompts with passages, the share that holds the right one: Zhang et al. 2024, "RAFT", arXiv 2403.10131."""


@dataclass(frozen=True, slots=True)
class Learned:
    """A tuned arm's run directory, and the seconds that its training took."""

    folder: Path
    seconds: float


def training_help(bench: Bench, arm: Arm, setting: Setting, item: Item, place: int) -> Help:
    """Return what stands beside a question in training: nothing, or passages as retrieval gives them, the right one among them in most rows.

    Which rows lack it, and where it stands among the others, follows from the seed and the row's place.
    """
    if arm.weights != "tuned on context" or bench.index is None:
        return Help(setting.instruction)
    draw = np.random.Generator(np.random.Philox(key=bench.plan.resolved.config.seed, counter=place))
    holding = gold(bench, item)
    others = [one for one in looked_up(bench, item.question, "bm25") if one not in holding]
    count = max(setting.passages, 1)
    shown = others[:count]
    if holding and draw.random() < SHARE_WITH_EVIDENCE:
        shown = others[: count - 1]
        shown.insert(int(draw.integers(0, len(shown) + 1)), holding[0])
    passages = tuple(bench.index.passages[one].text for one in shown)
    return fit(item, Help(setting.instruction, (), passages), tokens=bench.tokens, room=bench.room)


def write_rows(bench: Bench, arm: Arm, setting: Setting, items: Sequence[Item], file: Path) -> Path:
    """Write rows as they are learned from: the prompts of `prompts.put` and the answers, or for a head the texts with what it is to tell."""
    if bench.has_head:
        return write_marked([item.task for item in items], file, several=bench.several_labels)
    shown = [(item, put(item, training_help(bench, arm, setting, item, place))) for place, item in enumerate(items)]
    return write_dialogs([(task, item.answer, item.task.group or item.id) for item, task in shown], file)


def learn(bench: Bench, arm: Arm, setting: Setting, name: str, items: Sequence[Item], *, watch: Watch, seed: int = 0) -> Learned:
    """Tune the arm on rows in a run directory of its own, or take the one that is there, and go on with one that was interrupted.

    `seed` is added to the run's own: the order of the rows and new weights differ by it, the rows do not.
    The directory's name ends with a digest of all that its weights follow from, so that none is ever taken for another. Raises what `tune` raises.
    """
    resolved = _run(bench, arm, setting, name, items, seed)
    folder = Path(resolved.config.output)
    if not runs.is_finished(folder):
        tune(resolved, resume=folder.exists(), watch=watch)
    return Learned(folder, float(json.loads(Run(folder).report_json.read_text(encoding="utf-8"))["run"]["seconds"]))


def _run(bench: Bench, arm: Arm, setting: Setting, name: str, items: Sequence[Item], seed: int) -> Resolved:
    """Return the run of a tuned arm: the user's own, with the rows and the output of the arm, and nothing measured that is measured here."""
    before = bench.plan.resolved
    own = before.config.model_copy(update={"seed": before.config.seed + seed})
    rows = bench.folder / "rows"
    train = write_rows(bench, arm, setting, items, rows / f"{name}.jsonl")
    dev = write_rows(bench, arm, setting, bench.rows.dev, rows / f"{name}-dev.jsonl")
    data = _data(own, train, dev, format=format_of(bench))
    rate = own.train.learning_rate
    train_settings = own.train.model_copy(
        update={"learning_rate": None if rate is None else rate * setting.rate, "steps": None, "epochs": own.train.epochs or 3}
    )
    told = {
        "rows": [file.read_text(encoding="utf-8") for file in (train, dev)],
        "model": [bench.model.found.name, fingerprint(bench.model.found), arm.weights],
        "run": own.model_dump(mode="json", include={"seed", "dtype", "technique", "evaluate", "objective"}),
        "train": train_settings.model_dump(mode="json"),
    }
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
    changes = {
        "data": data,
        "task": {},
        "output": str(bench.folder / "runs" / f"{name}-{digest}"),
        "train": train_settings,
        "save": own.save.model_copy(update={"every": 0}),
        "evaluate": own.evaluate.model_copy(update={"baseline": False, "forgetting": False, "every": 0}),
        "log": own.log.model_copy(update={"tensorboard": False}),
        "decide": DecideConfig(),
        "score": own.score if bench.has_head else _scores(bench, items[0]),
    }
    resolved = replace(before, config=own.model_copy(update=changes), file=None, notes=())
    if arm.weights == "random":
        random = random_model(bench)
        resolved = config.with_value(resolved, "model", str(random.resolve()), origin="decide")
        full = {"technique": Choice(name="full"), "train": train_settings.model_copy(update={"learning_rate": None})}
        return replace(resolved, config=resolved.config.model_copy(update=full if own.technique.name != "full" else {}))
    return config.with_value(resolved, "model", _absolute(bench.model.found.name), origin="decide")


def _data(own: RunConfig, train: Path, dev: Path, *, format: str) -> DataConfig:
    """Return the data of a tuned arm: its rows as they were written, none of them held out again."""
    return DataConfig.model_validate_json(
        json.dumps(
            {
                "source": [{"source": str(train)}],
                "dev": str(dev),
                "dev_share": 0.0,
                "test_share": 0.0,
                "format": format,
                "max_length": own.data.max_length,
                "long_rows": own.data.long_rows,
                "near_duplicates": False,
            }
        )
    )


def format_of(bench: Bench) -> str:
    """Return the format in which `write_rows` writes."""
    if not bench.has_head:
        return "messages"
    return "spans" if bench.rows.train[0].task.expected.spans is not None else "labelled"


def _scores(bench: Bench, item: Item) -> tuple[str, ...]:
    """Return the run's scores that dialogs can be measured by, which hold texts and no labels; none of them: the data's own."""
    task = replace(item.task, expected=Expected(texts=item.task.expected.texts))
    return tuple(name for name, score in bench.scores.items() if score.applies(task) and score.needs == "text")


def _absolute(name: str) -> str:
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def random_model(bench: Bench) -> Path:
    """Return a folder with the base's architecture and tokenizer and random weights, made once."""
    folder = bench.folder / "random"
    if not folder.exists() or atomic.verify(folder):
        import torch
        from transformers import AutoModelForCausalLM

        torch.manual_seed(bench.plan.resolved.config.seed)
        fresh = AutoModelForCausalLM.from_config(bench.model.plain().config)
        fresh.to(bench.model.target.torch_dtype())

        def fill(place: Path) -> None:
            fresh.save_pretrained(str(place))
            bench.model.tokenizer.save_pretrained(str(place))

        atomic.write_directory(folder, fill, manifest={"weights": "random"})
    return folder


def open_merged(folder: Path, like: Model) -> Model:
    """Return a tuned model ready to answer, its adapter folded into the weights where that can be done."""
    model = load_model(str(folder), like.target)
    facts = model.found.adapter
    merges = TECHNIQUES.get(technique_of(folder))
    if facts is not None and merges is not None and merges.merges and hasattr(model.network, "merge_and_unload"):
        model.network = model.network.merge_and_unload()
        model.network.requires_grad_(False)
        model.network.eval()
    return model


def technique_of(folder: Path) -> str:
    """Return the technique that a run was tuned with."""
    report = json.loads(Run(folder).report_json.read_text(encoding="utf-8"))
    return str(report["run"]["technique"])
