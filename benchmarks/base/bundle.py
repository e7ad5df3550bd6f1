"""Put a finished run's model into the package: weights in bfloat16, tokenizer, what it has seen, and the sha256 of each file.

    python benchmarks/base/bundle.py runs/tiny tiny
    python benchmarks/base/bundle.py runs/tiny-chat tiny-chat
    python benchmarks/base/bundle.py --reserved             the rows that no bundled model is trained on

In: a run directory, and the public sets that it was trained on. Out: src/burnish/assets/NAME, or src/burnish/assets/reserved.npy.
Last step but one: `measure.py` writes the figures of the model cards.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from text import UNSEEN_TOPIC, held_out, held_out_for_choosing, openstax_rows

from burnish import config
from burnish.assets import FOLDER, SEEN
from burnish.data.public import locate
from burnish.data.seen import Seen, save_seen, seen_of
from burnish.gather import gather
from burnish.prepare import registries
from burnish.types import Dialog, Example, Message, Origin, Text, content

ROOT = Path(__file__).parent.parent.parent
INSTRUCTIONS = ROOT / "examples" / "instruct_rasbt.toml"
FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def question(text: str, answer: str, where: str) -> Dialog:
    """Return a row of a question and its answer."""
    return Dialog(messages=(Message("user", content(text)), Message("assistant", content(answer))), origin=Origin(where))


def modules(*, trained: bool) -> Iterator[Text]:
    """Yield the textbook modules that the models are trained on, or the ones that they are not, as the public set has them."""
    for row in openstax_rows("textbooks.jsonl.xz"):
        key = f"{row['book']}/{row['module']}"
        if (held_out(key) or held_out_for_choosing(key)) != trained:
            passages = [part for part in row["text"].split("\n\n") if not UNSEEN_TOPIC.search(part)]
            yield Text(text="\n\n".join(passages), origin=Origin(key))


def exercises(*, trained: bool) -> Iterator[Dialog]:
    """Yield the textbooks' exercises likewise."""
    for row in openstax_rows("exercises.jsonl.xz"):
        key = f"{row['book']}/{row['module']}"
        if (held_out(key) or held_out_for_choosing(key)) != trained:
            yield question(row["question"], row["answer"], key)


def arithmetic() -> Iterator[Dialog]:
    """Yield the rows of gsm8k, all of which are training rows (its own test rows are another file)."""
    for number, line in enumerate((locate("gsm8k") / "train.jsonl").read_text(encoding="utf-8").splitlines(), start=1):
        row = json.loads(line)
        yield question(row["question"], row["answer"], f"gsm8k/{number}")


def instructions(*sides: str) -> list[Example]:
    """Return the instructions on these sides of the division that every run file shares."""
    resolved = config.load(INSTRUCTIONS, registries=registries())
    gathered = gather(resolved.config, resolved.base)
    return [example for side in sides for example in gathered.examples[side]]


def bundle(run: Path, name: str) -> None:
    """Copy a finished run's model into the package."""
    import torch
    from safetensors.torch import load_file, save_file

    source, target = run / "model", FOLDER / name
    target.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        shutil.copyfile(source / file, target / file)
    settings = json.loads((target / "config.json").read_text(encoding="utf-8"))
    settings["dtype"] = "bfloat16"
    (target / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    weights = {key: tensor.to(torch.bfloat16).contiguous() for key, tensor in load_file(source / "model.safetensors").items()}
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    seen: list[Example] = [*modules(trained=True), *exercises(trained=True), *arithmetic()]
    if name == "tiny-chat":
        seen += instructions("train", "dev")
    save_seen(seen_of(seen), target / SEEN)
    files = [target / file for file in (*FILES, "model.safetensors", SEEN)]
    for path in files:
        path.chmod(0o644)
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    (target / "SHA256.json").write_text(json.dumps(digests, indent=2) + "\n", encoding="utf-8")
    print(f"{target}: {sum(tensor.numel() for tensor in weights.values()):,} parameters, {len(seen):,} rows seen")


def reserve() -> None:
    """Write the hashes of the rows that every run holds out."""
    rows: list[Example] = [*modules(trained=False), *exercises(trained=False), *instructions("test")]
    trained: list[Example] = [*modules(trained=True), *exercises(trained=True), *arithmetic(), *instructions("train", "dev")]
    # Books share paragraphs: one that stands in a training module too cannot be kept apart.
    kept_N = np.setdiff1d(seen_of(rows).hash_N, seen_of(trained).hash_N)
    save_seen(Seen(kept_N), FOLDER / "reserved.npy")
    print(f"{FOLDER / 'reserved.npy'}: {len(kept_N):,} hashes of {len(rows):,} rows")


def main() -> None:
    """Read the command line and do one of the two things."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("name", nargs="?", choices=("tiny", "tiny-chat"))
    parser.add_argument("--reserved", action="store_true")
    arguments = parser.parse_args()
    if arguments.reserved:
        reserve()
    elif arguments.run is None or arguments.name is None:
        parser.error("give a run directory and a name, or --reserved")
    else:
        bundle(arguments.run, arguments.name)


if __name__ == "__main__":
    main()
