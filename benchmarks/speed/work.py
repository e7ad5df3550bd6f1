"""The work that every side does: one model with random weights, and rows whose token ids and labels lie on disk for all.

    python benchmarks/speed/work.py     makes .bench/work, unless it is there already

Enters: a seed and the bundled sample rows. Leaves: `.bench/work` with the model and its tokenizer, each set of rows as text, and the same
rows as token ids and labels in the order of the steps (`NAME.tokens.json`), as burnish renders them: what the peers are fed. The text is
real, cut to the wanted lengths, so that a loss can fall on it.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
SMOKE = os.environ.get("BENCH_SMOKE") == "1"
"""A two-layer model instead: shows in minutes that everything runs. No figure of it means anything."""
WORK = ROOT / ".bench" / ("smoke" if SMOKE else "work")
SAMPLES = ROOT / "src" / "burnish" / "assets" / "samples"
TOKENIZER = ROOT / "src" / "burnish" / "assets" / "tiny-chat"
SEED = 20
VERSION = "2"
"""To be raised whenever the work changes, so that no figure is compared with one of other work."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a Llama network, in the letters of the formulae: `formulae.flops`."""

    layers: int = 30
    hidden: int = 576
    heads: int = 9
    key_heads: int = 3
    head_size: int = 64
    feed_forward: int = 1536
    vocabulary: int = 49_152
    rank: int = 16


SMALL = Shape(layers=2, hidden=64, heads=2, key_heads=1, head_size=32, feed_forward=128, vocabulary=8192)
SHAPE = SMALL if SMOKE else Shape()
CONTEXT = 8192
BATCH = 8
"""Examples per optimizer step, on every side."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long a part of a row is, in tokens: log-normal around a mean, within bounds. `spread` 0: all alike."""

    mean: float
    spread: float = 0.0
    least: int = 4
    most: int = 1024

    def draw(self, chance: random.Random) -> int:
        """Return one length."""
        drawn = chance.lognormvariate(math.log(self.mean) - self.spread**2 / 2, self.spread)
        return min(self.most, max(self.least, round(drawn)))


MIX = (Lengths(163, 0.8, most=640), Lengths(113, 0.8, most=400))
"""Instruction data: prompt and answer, with the template some 280 tokens a row of which 40 % are trained."""
CHAT = (Lengths(24, 0.5), Lengths(24, 0.5))
LONG_PROMPTS = (Lengths(320, 0.4, most=640), Lengths(48, 0.4))
SHORT_PROMPTS = (Lengths(32, 0.4), Lengths(96, 0.4))
ATTEMPTED = (Lengths(96, 0.3), Lengths(8))
GROWTH = (512, 2048, 4096, 8192)
"""Lengths at which cost is measured as sequences grow."""
MANY = {"rows_1k": 1_000, "rows_100k": 3_000 if SMOKE else 100_000}
"""Sets of short rows by which cost is measured as data grow."""


class Passages:
    """Text of any number of tokens, out of the bundled samples; the tokenizer and the draws persist."""

    def __init__(self, chance: random.Random) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))
        self.sentences = list(_sentences())
        self.chance = chance
        self.pool: list[int] = []
        self.taken = 0

    def take(self, length: int) -> str:
        """Return a text of about `length` tokens."""
        while len(self.pool) - self.taken < length:
            self.chance.shuffle(self.sentences)
            self.pool = self.pool[self.taken :] + self.tokenizer.encode(" ".join(self.sentences), add_special_tokens=False).ids
            self.taken = 0
        self.taken += length
        return self.tokenizer.decode(self.pool[self.taken - length : self.taken]).replace("�", "").strip() or "yes"


def _sentences() -> Iterator[str]:
    """Yield the texts of the bundled samples, sentence by sentence."""
    for path in sorted(SAMPLES.rglob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield from _texts(json.loads(line))
    for path in sorted(SAMPLES.rglob("*.md")):
        yield from path.read_text(encoding="utf-8").split("\n\n")


def _texts(value: Any) -> Iterator[str]:
    """Yield every text of three words or more inside a row."""
    if isinstance(value, str):
        if value.count(" ") >= 2:
            yield value.strip()
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


# ------------------------------------------------------------------------------------------------------------------------ the rows


def all_rows() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield (name, rows) of each set."""
    passages = Passages(random.Random(SEED))
    chance = random.Random(SEED + 1)

    def answered(count: int, lengths: Sequence[Lengths]) -> list[dict[str, Any]]:
        prompt, answer = lengths
        return [
            {"prompt": passages.take(prompt.draw(chance)), "completion": passages.take(answer.draw(chance))} for _ in range(count)
        ]

    def pairs(count: int, lengths: Sequence[Lengths]) -> list[dict[str, Any]]:
        rows = answered(count, lengths)
        return [
            {"prompt": row["prompt"], "chosen": row["completion"], "rejected": passages.take(lengths[1].draw(chance))}
            for row in rows
        ]

    yield "mix", answered(160, MIX)
    yield "mix_dev", answered(24, MIX)
    yield "chat", answered(256, CHAT)
    yield "pairs_long", pairs(64, LONG_PROMPTS)
    yield "pairs_short", pairs(64, SHORT_PROMPTS)
    yield "prompts", answered(64, ATTEMPTED)
    yield "labels", [{"text": row["prompt"], "label": f"kind {number % 4}"} for number, row in enumerate(answered(48, MIX))]
    for length in GROWTH:
        yield f"length_{length}", [{"text": passages.take(length - 12)} for _ in range(4 * CONTEXT // length)]
    for name, count in MANY.items():
        yield name, answered(count, (Lengths(24), Lengths(24)))


# ----------------------------------------------------------------------------------------------------------------------- the model


def make_model(folder: Path) -> None:
    """Write a Llama of `SHAPE` with random weights, stored in bfloat16 so that every side begins from the same numbers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    config = LlamaConfig(
        hidden_size=SHAPE.hidden,
        num_hidden_layers=SHAPE.layers,
        num_attention_heads=SHAPE.heads,
        num_key_value_heads=SHAPE.key_heads,
        head_dim=SHAPE.head_size,
        intermediate_size=SHAPE.feed_forward,
        vocab_size=SHAPE.vocabulary,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(TOKENIZER / name, folder / name)


# --------------------------------------------------------------------------------------------------------------------- token ids


def write_tokens(name: str) -> None:
    """Write the rows of a set as burnish renders them, in the order of its steps, as token ids and labels (-100: not trained)."""
    import run_files
    from burnish import api
    from burnish.prepare import prepare

    plan = prepare(api.resolve(run_files.run(name, output=WORK / "none")), measure=False).first
    order = plan.order()(0)
    rendered = _classified if name == "labels" else _labelled
    rows = [[rendered(sequence) for sequence in plan.sequences[int(number)]] for number in order]
    flat = [row[0] for row in rows] if all(len(row) == 1 for row in rows) else rows
    (WORK / f"{name}.tokens.json").write_text(json.dumps(flat), encoding="utf-8")


def _labelled(sequence: Any) -> dict[str, Any]:
    """Return a sequence of read-outs as token ids and labels at the places of the tokens that they predict."""
    labels = [-100] * sequence.length
    for place, target, weight in zip(sequence.at_N, sequence.target_N, sequence.weight_N, strict=True):
        if weight > 0:
            labels[int(place) + 1] = int(target)
    return {"input_ids": sequence.tokens_T.tolist(), "labels": labels}


def _classified(sequence: Any) -> dict[str, Any]:
    """Return a sequence that is read once as token ids and the number of its class."""
    return {"input_ids": sequence.tokens_T.tolist(), "labels": int(sequence.target_N[0])}


def write_start(name: str, technique: str, folder: Path) -> None:
    """Write the model, or adapter, with which burnish's run begins: its own checkpoint before step 0."""
    import run_files
    from burnish import api
    from burnish.tune import Watch

    class Begun(Exception):
        """The run has saved what it begins with."""

    def say(line: str) -> None:
        if " of them trained " in line:
            raise Begun

    with tempfile.TemporaryDirectory() as place, suppress(Begun):
        try:
            api.tune(run_files.run(name, output=Path(place) / "run", technique=technique), watch=Watch(say=say))
        finally:
            shutil.copytree(Path(place) / "run" / "checkpoints" / "checkpoint-0", folder)


TOKENISED = ("mix", "mix_dev", "chat", "pairs_long", "pairs_short", "labels", *(f"length_{length}" for length in GROWTH))


def make() -> None:
    """Make the work folder, unless it holds this version already."""
    version = WORK / "version.json"
    wanted = {"version": VERSION, "seed": SEED, "shape": asdict(SHAPE), "batch": BATCH}
    if version.is_file() and json.loads(version.read_text(encoding="utf-8")) == wanted:
        return
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    make_model(WORK / "model")
    for name, rows in all_rows():
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        (WORK / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name in TOKENISED:
        write_tokens(name)
    write_start("mix", "lora", WORK / "adapter")
    write_start("labels", "selective", WORK / "head")
    version.write_text(json.dumps(wanted), encoding="utf-8")


if __name__ == "__main__":
    make()
