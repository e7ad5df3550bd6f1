"""Measure how well the bundled models expect text: bits per byte beside compressors and a 3-gram model, and what they go on to write.

In: a `Setting`, held-out modules, the nursing books and the United States Code. Out: parts of the file that `measure.py` writes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import ngram
import numpy as np
import nursing
from asking import TRAINED_LENGTH, Figure, Setting, Subject, figures, groups, likelihoods, plain_value, read_lines

from burnish.data.tokens import token_ids
from burnish.gather import read_rows
from burnish.models import find_model, open_tokenizer
from burnish.sampling import Options, generate
from burnish.scores import SCORES
from burnish.types import Expected, Origin, Task, Text

BITS = SCORES["bits_per_byte"]
SAMPLE_BYTES = 300_000
OPENINGS, OPENING_WORDS, CONTINUED = 10, 40, 60


def measure_text(setting: Setting) -> dict[str, Any]:
    """Return bits per byte of both models on three texts, and of what they have to beat on the held-out modules."""
    held_out = [Text(text=row["text"], origin=Origin(row["module"]), group=row["module"]) for row in setting.rows("held_out.jsonl")]
    nurses = (Text(text=row["text"], origin=Origin(row["module"]), group=row["module"]) for row in nursing.modules())
    statutes = [row for row in read_rows("public:us_code_sample", Path.cwd()) if isinstance(row, Text)]
    sets = {
        "held-out modules": held_out,
        "nursing books": first_bytes(nurses, SAMPLE_BYTES)[: setting.limit],
        "United States Code": first_bytes(statutes, SAMPLE_BYTES)[: setting.limit],
    }
    table: list[Figure] = []
    for name, rows in sets.items():
        print(f"  {name}: {len(rows)} texts", flush=True)
        table += text_figures(setting, name, rows, beside=trigram_bits(setting, rows) if name == "held-out modules" else None)
    table += compressed(setting, held_out)
    sizes = {name: sum(len(row.text.encode()) for row in rows) for name, rows in sets.items()}
    return {"figures": table, "bytes": sizes, "trained_length": TRAINED_LENGTH}


def first_bytes(rows: Iterable[Text], size: int) -> list[Text]:
    """Return the first rows until they hold `size` bytes, whole rows only."""
    kept: list[Text] = []
    total = 0
    for row in rows:
        if total >= size:
            break
        kept.append(row)
        total += len(row.text.encode())
    return kept


def text_figures(setting: Setting, name: str, rows: Sequence[Text], *, beside: np.ndarray | None) -> list[Figure]:
    """Return bits per byte of both models on texts, in windows of the trained length and of 2,048 tokens where they read so many.

    `beside` are the statistics of the 3-gram model on the same rows.
    """
    tasks = [
        Task(messages=(), expected=Expected(texts=(row.text,)), text=row.text, origin=row.origin, group=row.group) for row in rows
    ]
    arms: dict[str, np.ndarray] = {}
    for subject in setting.subjects:
        for window in windows(subject):
            found = likelihoods(subject, tasks, window=window)
            arms[f"{subject.name}, {window:,} tokens"] = BITS.statistics(found, tasks)
    if beside is not None:
        arms["3-gram model"] = beside
    trained = [f"{subject.name}, {windows(subject)[0]:,} tokens" for subject in setting.subjects]
    pairs = [(trained[1], trained[0])] + [(trained[0], "3-gram model")] * (beside is not None)
    return figures(name, arms, groups(tasks), score=BITS, pairs=pairs)


def windows(subject: Subject) -> list[int]:
    """Return the lengths of windows in which a model is given a text."""
    longest = subject.loaded.model.max_length
    return [length for length in (TRAINED_LENGTH, 2048) if length <= longest] or [longest]


def trigram_bits(setting: Setting, rows: Sequence[Text]) -> np.ndarray:
    """Return (bits, bytes) of each text under a 3-gram model of the training modules, over the tokens of the model."""
    config, tokenizer, _ = open_tokenizer(find_model(setting.tiny.given))
    start: Any = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    print("  3-gram model", flush=True)
    training = (np.asarray(token_ids(tokenizer, row["text"])) for row in setting.rows("books.jsonl"))
    model = ngram.learn(training, int(config.vocab_size), start=int(start))
    return np.array([(model.bits(np.asarray(token_ids(tokenizer, row.text))), len(row.text.encode())) for row in rows])


def compressed(setting: Setting, rows: Sequence[Text]) -> list[Figure]:
    """Return bits per byte of the texts, as one stream, under gzip and xz, and under xz after the training text."""
    print("  compressors", flush=True)
    stream = "\n\n".join(row.text for row in rows).encode()
    training = "\n\n".join(row["text"] for row in setting.rows("books.jsonl")).encode()
    sizes = {
        "gzip -9": ngram.gzip_bytes(stream),
        "xz -9e": ngram.xz_bytes(stream),
        "xz -9e after the training text": ngram.xz_bytes(stream, after=training),
    }
    return [plain_value("held-out modules", arm, 8 * size / len(stream), n=len(rows)) for arm, size in sizes.items()]


# --------------------------------------------------------------------------------------------------------------- continuations


def measure_continuations(setting: Setting) -> dict[str, Any]:
    """Return what the base model writes after ten openings of held-out modules, greedily."""
    chosen = openings(read_lines(setting.folder / "held_out.jsonl"), count=min(OPENINGS, setting.limit or OPENINGS))
    loaded = setting.tiny.loaded
    tasks = [Task(messages=(), expected=Expected(), text=text, origin=Origin(module)) for module, text in chosen]
    given = generate(loaded.model, [loaded.renderer.prompt(task) for task in tasks], Options(max_tokens=CONTINUED))
    rows = [
        {"module": module, "opening": text, "continuation": one.text} for (module, text), one in zip(chosen, given, strict=True)
    ]
    return {"rows": rows, "figures": []}


def openings(rows: Sequence[dict[str, Any]], *, count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Return (module, opening) of modules drawn by the seed: the first 40 words of the first paragraph of prose that has so many."""
    found = []
    for row in rows:
        paragraphs = [part.split() for part in row["text"].split("\n\n") if not re.match(r"[#\-]", part)]
        if long := next((words for words in paragraphs if len(words) > OPENING_WORDS), None):
            found.append((row["module"], " ".join(long[:OPENING_WORDS])))
    return random.Random(seed).sample(found, min(count, len(found)))
