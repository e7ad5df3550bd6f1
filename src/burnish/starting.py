"""Starting: a folder ready to tune, from a use case or from a user's own rows; and a conversation with a model.

Enters: names and paths. Leaves: written folders, or a chat in the terminal.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish import api
from burnish.data.dialog import as_task, known_labels
from burnish.data.formats import examples as read_examples
from burnish.data.sources import read
from burnish.errors import DataError, UsageError, combined
from burnish.scores import applicable
from burnish.usecases import find, write, write_from_data

if TYPE_CHECKING:
    from collections.abc import Iterator

    from burnish.chat_talk import Base, Look
    from burnish.models import Model

SAMPLED = 500
"""Rows that are looked at to choose scores."""


def from_usecase(name: str, folder: Path) -> dict[str, Any]:
    """Write a use case into a folder and return what was made."""
    run_file = write(find(name), folder)
    return {"run_file": str(run_file), "folder": str(folder), "usecase": name, "why": []}


def from_data(source: str, folder: Path) -> dict[str, Any]:
    """Write a run on a user's own rows into a folder, with format and task guessed from them, and return what was guessed and why."""
    table = read(source, base=Path.cwd())
    found = read_examples(table)
    if found.problems:
        raise combined(DataError, f"{source} cannot be read as it is", found.problems)
    from burnish.data.dialog import Frame

    frame = Frame(choices=known_labels(found.examples))
    scores = applicable([as_task(example, frame) for example in found.examples[:SAMPLED]])
    why = [found.guessed]
    task = f"Learn from the {len(found.examples):,} rows of {source}, read as {found.format}."
    # A registered set brings its columns itself; written down they would only repeat it.
    columns = {} if source.startswith("public:") else {key: value for key, value in found.columns.items() if key != value}
    run_file = write_from_data(folder, source=source, format=found.format, columns=columns, task=task, score=scores, why=why)
    return {
        "run_file": str(run_file),
        "folder": str(folder),
        "format": found.format,
        "columns": dict(found.columns),
        "score": scores,
        "why": why,
    }


def talk(
    model: str,
    *,
    system: str | None,
    max_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    as_json: bool,
    documents: str | None = None,
    passages: int = 2,
    feedback: str = "feedback.jsonl",
) -> None:
    """Talk to a model in the terminal until the user leaves; with `as_json` the conversation is printed as one object at the end.

    Judgements go to the file `feedback`. `documents` are looked in for each question: a file, a folder or a set by name, or the folder of
    an index that `decide` left behind.
    """
    import contextlib
    import sys

    from burnish.chat import chat
    from burnish.chat_talk import Feedback
    from burnish.rate_makers import user_name, version_of
    from burnish.sampling import Options
    from burnish.terminal import print_json

    loaded = api.load(model)
    if loaded.continues_text:
        raise UsageError(f"{model} was taught to continue plain text, not to talk. Use: burnish generate {model} --prompt ...")
    renderer = loaded.writer
    options = Options(max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed, long_prompts="fail")
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        look = looking_in(documents, passages) if documents is not None else None
        messages = chat(
            loaded.model,
            renderer,
            options=options,
            system=system or renderer.frame.system,
            look=look,
            open_documents=lambda place: looking_in(place, passages),
            base=base_for(model, loaded),
            feedback=Feedback(Path(feedback), user_name(), model, version_of(loaded.model.found)),
        )
    if as_json:
        print_json({"messages": messages})


def base_for(model: str, loaded: api.Loaded) -> Base | None:
    """Return what a model was tuned from, for a comparison: its adapter switched off, or the model that its run began with; else None.

    That other model is loaded when it is first asked, and kept.
    """
    from contextlib import contextmanager

    from burnish.chat_talk import Base
    from burnish.models import find_model
    from burnish.rate_makers import base_of, version_of

    found, kept = loaded.model.found, []
    if found.adapter is not None:

        @contextmanager
        def without_adapter() -> Iterator[Model]:
            with loaded.model.network.disable_adapter():
                yield loaded.model

        return Base(f"the base of {model}", version_of(found, adapter=False), without_adapter)
    if (name := base_of(model)) is None:
        return None

    @contextmanager
    def another() -> Iterator[Model]:
        if not kept:
            kept.append(api.load(name).model)
        yield kept[0]

    return Base(name, version_of(find_model(name)), another)


def looking_in(documents: str, passages: int) -> Look:
    """Return what finds passages in documents by words. Raises DataError with every file that cannot be read."""
    from burnish import retrieval_store
    from burnish.decide.protocol import read_documents
    from burnish.retrieval import build, search
    from burnish.terminal import say

    if (Path(documents) / retrieval_store.PASSAGES).is_file():
        index = retrieval_store.read(Path(documents))
    else:
        texts, warnings = read_documents(documents, Path.cwd())
        for warning in warnings:
            say(warning)
        index = build(texts)
    say(f"Looking in {len(index.digests):,} documents, {len(index):,} passages")
    return lambda question: [found.passage for found in search(index, question, limit=passages)]
