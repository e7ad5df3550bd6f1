"""Prepare the bundled model `tiny`: its training text, its tokenizer, and a fresh network, ready for `burnish tune`.

    burnish data get openstax --from FOLDER
    python benchmarks/make_tiny.py runs/tiny-start
    burnish tune examples/tiny.toml
    python benchmarks/make_tiny.py --bundle runs/tiny          copies the result into the package

Text: OpenStax textbooks and exercises (CC BY 4.0) without three books and without passages on COVID-19, which stay unseen so that
adapting to a new domain can be measured.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from burnish.data.public import locate
from burnish.models.template import PLAIN_TEMPLATE

UNSEEN_BOOKS = {"nursing-external-bundle", "introduction-python-programming", "anatomy-physiology"}
UNSEEN_TOPIC = re.compile(r"covid|sars-cov-2|coronavirus", re.IGNORECASE)
VOCABULARY = 6144
SIZES = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 2}
CONTEXT = 512
LONGEST_QUESTION = 1500
"""Characters of question and answer together; longer ones would not fit the context."""


def rows(file: str) -> Iterator[dict[str, str]]:
    """Yield the rows of an openstax file whose book may be seen."""
    with lzma.open(locate("openstax") / file, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if not any(book in row["book"] for book in UNSEEN_BOOKS):
                yield row


def held_out(key: str) -> bool:
    """Return whether a module belongs to the 2 % that no model here is trained on; a pure function of its name."""
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % 50 == 0


def write_text(folder: Path) -> list[str]:
    """Write train.jsonl, held_out.jsonl and questions.jsonl; return the training texts."""
    texts: list[str] = []
    with (
        (folder / "train.jsonl").open("w", encoding="utf-8") as train,
        (folder / "held_out.jsonl").open("w", encoding="utf-8") as held,
    ):
        for row in rows("textbooks.jsonl.xz"):
            passages = [passage for passage in row["text"].split("\n\n") if not UNSEEN_TOPIC.search(passage)]
            record = {"text": row["title"] + "\n\n" + "\n\n".join(passages), "module": f"{row['book']}/{row['module']}"}
            if held_out(record["module"]):
                held.write(json.dumps(record, ensure_ascii=False) + "\n")
            else:
                train.write(json.dumps(record, ensure_ascii=False) + "\n")
                texts.append(record["text"])
    with (folder / "questions.jsonl").open("w", encoding="utf-8") as questions:
        for row in rows("exercises.jsonl.xz"):
            fits = len(row["question"] + row["answer"]) <= LONGEST_QUESTION
            if fits and not held_out(f"{row['book']}/{row['module']}") and not UNSEEN_TOPIC.search(row["question"] + row["answer"]):
                record = {"question": row["question"], "answer": row["answer"], "module": f"{row['book']}/{row['module']}"}
                questions.write(json.dumps(record, ensure_ascii=False) + "\n")
    return texts


def make_tokenizer(texts: list[str], folder: Path) -> None:
    """Learn a byte-level BPE tokenizer, which can write any text, and save it with the plain chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = PLAIN_TEMPLATE
    fast.save_pretrained(folder)


def make_network(folder: Path) -> None:
    """Save a Llama network of `SIZES` with fresh weights, the same on every machine."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        **SIZES,
        vocab_size=VOCABULARY,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    network = LlamaForCausalLM(config)
    print(f"{sum(parameter.numel() for parameter in network.parameters()):,} parameters")
    network.save_pretrained(folder)


def bundle(run: Path) -> None:
    """Copy a finished run's model into the package in bfloat16, with the sha256 of each file."""
    import torch
    from safetensors.torch import load_file, save_file

    target = Path(__file__).parent.parent / "src" / "burnish" / "assets" / "tiny"
    target.mkdir(parents=True, exist_ok=True)
    source = run / "model"
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(source / name, target / name)
    (target / "chat_template.jinja").write_text(PLAIN_TEMPLATE, encoding="utf-8")
    config = json.loads((target / "config.json").read_text())
    config["dtype"] = "bfloat16"
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in load_file(source / "model.safetensors").items()}
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    files = [path for path in sorted(target.iterdir()) if path.name not in {"README.md", "SHA256.json"}]
    for path in files:
        path.chmod(0o644)
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    (target / "SHA256.json").write_text(json.dumps(digests, indent=2) + "\n")


def main() -> None:
    """Read the command line and do one of the two things."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/tiny-start"))
    parser.add_argument("--bundle", action="store_true", help="FOLDER is a finished run: copy its model into the package")
    arguments = parser.parse_args()
    if arguments.bundle:
        bundle(arguments.folder)
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    texts = write_text(arguments.folder)
    print(f"{len(texts):,} modules, {sum(map(len, texts)) / 1e6:.1f} M characters")
    make_tokenizer(texts, arguments.folder)
    make_network(arguments.folder)


if __name__ == "__main__":
    main()
