"""What can be chosen for a run on the page: a handful of values, each checked, and how they stand in the run file.

Enters: a run file as tables, and what a person chose. Leaves: the chosen values as a schema, and the tables with them in their places; all
other values of the run file stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from burnish.config_named import parted
from burnish.data.formats import FORMATS
from burnish.data.sources import read
from burnish.errors import BurnishError, suggestion
from burnish.objectives import OBJECTIVES
from burnish.serve.run_folders import read_object
from burnish.techniques import TECHNIQUES

NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
PEEK_BYTES = 32 * 1024 * 1024
"""Of a file whose columns are looked at; of a larger one none are offered."""
TITLES = {
    "sft": "Write the answer (sft)",
    "classification": "Tell the label by a head (classification)",
    "dpo": "Prefer the better answers (dpo)",
    "ipo": "The same, more cautious (ipo)",
    "simpo": "Without a reference model (simpo)",
    "orpo": "Imitate and prefer at once (orpo)",
    "reward": "Learn to judge (reward)",
    "kto": "Learn from single ratings (kto)",
}
TOGETHER = (("sft", "classification"), ("dpo", "ipo", "simpo", "orpo", "reward"), ("kto",))
"""Objectives that learn from the same rows, so that one can be chosen in the place of another."""
LABELLED = frozenset({"labelled"})


class Chosen(BaseModel):
    """What a person chose for a run; None leaves a value as the run file has it, or to burnish where that has none."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    name: str = Field(pattern=NAME)
    model: str | None = Field(None, min_length=1, max_length=500)
    objective: str = "sft"
    technique: str = "lora"
    epochs: float | None = Field(None, gt=0, le=1000)
    batch: int | None = Field(None, ge=1, le=4096)
    learning_rate: float | None = Field(None, gt=0, le=10)
    limit: int | None = Field(None, ge=1)
    group: str | None = Field(None, max_length=200)
    format: str = "auto"
    columns: dict[str, Annotated[str, Field(max_length=200)]] = Field(default_factory=dict, max_length=20)
    """Standard name to the column that holds it."""

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        return value if value == "auto" else _known(value, FORMATS, "format")

    @field_validator("objective")
    @classmethod
    def _known_objective(cls, value: str) -> str:
        return _known(value, OBJECTIVES, "objective")

    @field_validator("technique")
    @classmethod
    def _known_technique(cls, value: str) -> str:
        return _known(value, TECHNIQUES, "technique")

    @field_validator("model")
    @classmethod
    def _no_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        value = value.strip()
        if "://" in value or not value.isprintable():
            raise ValueError("a bundled model, a run, a folder or a name on the hub expected")
        return value


def as_chosen(settings: Mapping[str, Any]) -> Chosen:
    """Return settings as they were written down."""
    return Chosen.model_validate(dict(settings))


def from_run(tree: Mapping[str, Any], *, name: str) -> Chosen:
    """Return what a run file chooses now, under a name for the run."""
    train, data = tree.get("train") or {}, tree.get("data") or {}
    columns = {key: value for key, value in (data.get("columns") or {}).items() if isinstance(value, str)}
    return Chosen(
        name=name,
        model=model if isinstance(model := tree.get("model"), str) else None,  # None: a fresh model, of sizes that stay
        objective=_named(tree.get("objective"), "sft"),
        technique=_named(tree.get("technique"), "lora"),
        epochs=train.get("epochs"),
        batch=train.get("batch"),
        learning_rate=train.get("learning_rate"),
        limit=data.get("limit"),
        group=columns.pop("group", None),
        format=parted(str(data.get("format", "auto")))[0],
        columns=columns,
    )


def applied(tree: Mapping[str, Any], chosen: Chosen, *, output: Path) -> dict[str, Any]:
    """Return a run file's tables with what was chosen in them."""
    run = deepcopy(dict(tree))
    run["output"] = str(output)
    if chosen.model is not None:
        run["model"] = chosen.model
    if chosen.objective != _named(run.get("objective"), "sft"):
        run["objective"] = {"name": chosen.objective}
        run.pop("score", None)  # those that the new objective comes with
    if chosen.technique != _named(run.get("technique"), "lora"):
        run["technique"] = {"name": chosen.technique}  # options belong to a technique
    train = dict(run.get("train") or {})
    if chosen.epochs is not None:
        train.pop("steps", None)
        train["epochs"] = int(chosen.epochs) if chosen.epochs == int(chosen.epochs) else chosen.epochs
    if chosen.batch is not None:
        train["batch"] = chosen.batch
    _set(train, "learning_rate", chosen.learning_rate)
    _set(run, "train", train or None)
    data = dict(run.get("data") or {})
    _set(data, "limit", chosen.limit)
    if chosen.format != parted(str(data.get("format", "auto")))[0]:
        data["format"] = chosen.format
        run.pop("score", None)  # chosen for rows of another kind
    others = {key: value for key, value in (data.get("columns") or {}).items() if not isinstance(value, str)}
    columns = {**chosen.columns, **others}
    _set(columns, "group", chosen.group)
    _set(data, "columns", columns or None)
    _set(run, "data", data or None)
    return run


def choices_of(tree: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return what may be chosen for the rows of a draft: objectives that learn from them, techniques, columns."""
    objective = _named(tree.get("objective"), "sft")
    fits = next((group for group in TOGETHER if objective in group), (objective,))
    if objective == "sft" and (tree.get("data") or {}).get("format") not in LABELLED:
        fits = (objective,)
    columns = read_object(folder / "columns.json").get("columns", [])
    return {
        "objectives": [{"name": name, "title": TITLES.get(name, name)} for name in fits],
        "techniques": list(TECHNIQUES),
        "columns": columns,
        "formats": [_format(name) for name in FORMATS] if columns else [],
    }


def _format(name: str) -> dict[str, Any]:
    """Return what a person must know to choose a format: what its rows look like, and which columns it needs or can use."""
    entry = FORMATS[name]
    needed = entry.required[0] if entry.required else ()
    names = dict.fromkeys([*needed, *entry.columns])
    return {
        "name": name,
        "about": entry.description,
        "columns": [{"name": one, "needed": one in needed, "also": list(entry.columns.get(one, ()))} for one in names],
    }


def columns_in(source: Path) -> list[str]:
    """Return the columns of a file of rows; none of a large one, a folder, or one that cannot be read."""
    try:
        if not source.is_file() or source.stat().st_size > PEEK_BYTES:
            return []
        return [name for name in read(source.name, base=source.parent).columns if isinstance(name, str)][:200]
    except (BurnishError, OSError):
        return []  # what is wrong with the rows, the check says


def _named(value: Any, otherwise: str) -> str:
    """Return the name in a value that is a name or a table with one."""
    if isinstance(value, Mapping):
        value = value.get("name")
    return value if isinstance(value, str) else otherwise


def _set(table: dict[str, Any], key: str, value: Any) -> None:
    """Put a value into a table, or take it out for None."""
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def _known(value: str, known: Mapping[str, Any], what: str) -> str:
    if value not in known:
        raise ValueError(f"there is no {what} {value!r}.{suggestion(value, known)} Expected one of {', '.join(known)}")
    return value
