"""The model cards of `tiny` and `tiny-chat`: their prose, with facts and figures filled in.

In: facts of the models and trainings, tables of figures. Out: the Markdown of a card. Called by `base_page.py`.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from text import UNSEEN_BOOKS
from training_facts import Training, curve_table, how, sources

from burnish.data.public import locate
from burnish.errors import DataError

TINY = """# tiny

The bundled base model of burnish: {millions:.1f} M parameters, trained from random weights on textbooks, their exercises and generated
reading tasks. It exists so that the demo, the tests and a first run need no download, and so that what tuning does can be seen on two
CPU cores. `tiny-chat` is the same model tuned on dialogs and instructions.

## The model

{sizes}

## What it was trained on

{sources}

{books}

{left_out}

## How

`benchmarks/base/make.py` makes the text, `examples/tiny.toml` is the recipe; it begins with `examples/tiny-begin.toml`, and
`burnish tune examples/tiny.toml` carries out both. These weights were made a little otherwise: the first stretch was planned for 2,863
steps and ended at 1,200 for want of time, and both stretches had an earlier version of the generated dialogs than `make.py` makes now.

{how}

## The curve

Bits per byte of the dev modules during training, by the tokens seen:

{curve}

## Figures

With 95 % intervals in brackets; `docs/base_model.md` says what each one is and how it was measured.

{figures}

## Intended use

As the base of a run: classification, extraction, short answers, continued pretraining on a small domain, and as a model for tests and
lessons. It is small enough to be tuned in full on two CPU cores.

## Limits

{limits}
- It is a base model: it was trained to continue text and dialogs, not to be helpful or harmless.
"""
CHAT = """# tiny-chat

The instruction-tuned bundled model of burnish: `tiny` ({millions:.1f} M parameters) tuned further on dialogs and instructions, with the
same tokenizer and chat template. It is meant to answer short questions on a passage that it is given, and to say when the passage does
not tell; how often it does is among the figures.

## The model

{sizes}

## What it was tuned on

{sources}

Textbooks: OpenStax, Rice University, CC BY 4.0, changed as the card of `tiny` says; access for free at openstax.org.

What `tiny` was trained on before, with the list of the books, stands in the card of `tiny`.

{left_out}

## How

`examples/tiny-chat.toml` is the recipe; `burnish tune examples/tiny-chat.toml` carries it out from
the bundled `tiny`. Of dialogs only the answers are learned, of the textbooks every token.

{how}

The score on the dev rows during training, by the tokens seen:

{curve}

## Figures

With 95 % intervals in brackets; `docs/base_model.md` says what each one is and how it was measured.

{figures}

## Intended use

As the base of a run whose rows are questions, instructions or dialogs, and to try the chat and the commands without a download.

## Limits

{limits}
- Check what it says of a passage against the passage.
- It was not tuned to refuse harmful requests, and its answers should not be shown to anyone as advice.
"""
LIMITS = """- English only. It was trained on at most {window:,} tokens at once; its context is {context:,}.
- Its knowledge is that of a model {millions:.1f} M parameters large: do not rely on anything it states.
- Textbooks are edited, but nothing was filtered beyond what is named above; it may repeat what stands in them, with their errors.
- The weights are Apache-2.0; the text that they were trained on keeps its own licences and is not part of this package."""
LEFT_OUT = """Left out, so that adapting to something new can be measured: the books {unseen}, every passage that names COVID-19, SARS-CoV-2 or
coronavirus, and 2 % of the modules, by the hash of their name. The hand-written questions of `probe/` were used for nothing but
measuring."""
BOOKS = """The textbooks: OpenStax, Rice University, Creative Commons Attribution 4.0 International (CC BY 4.0). Access for free at openstax.org.
The text was changed: extracted from the sources without figures and tables, tidied, cut into windows. The repositories and commits:

{books}"""


def trained_books() -> list[str]:
    """Return a line for each repository of textbooks that the models were trained on, with its commit."""
    path = locate("openstax") / "SOURCES.tsv"
    if not path.is_file():
        raise DataError(f"{path} is missing. It says which commits the books are from: put it beside textbooks.jsonl.xz.")
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    return [
        f"- {title(row['repo'])} ({row['repo']}, {row['commit'][:10]})"
        for row in rows
        if not any(book in row["repo"] for book in UNSEEN_BOOKS)
    ]


def title(repository: str) -> str:
    """Return a readable name for a repository of books."""
    name = repository.split("/")[-1].removeprefix("osbooks-")
    bundle = name.endswith("-bundle")
    words = " ".join("US" if word == "us" else word for word in name.removesuffix("-bundle").split("-"))
    return words[:1].upper() + words[1:] + (" (several books)" if bundle else "")


def card(
    name: str,
    facts: Mapping[str, Any],
    trainings: Sequence[Training],
    *,
    books: Sequence[str],
    sections: Sequence[Sequence[str]],
) -> str:
    """Return the card of `tiny` or `tiny-chat`, which was trained in one stretch or several."""
    millions = facts["parameters"] / 1e6
    window = max(training.window for training in trainings)
    filled = {
        "millions": millions,
        "sizes": sizes(facts),
        "sources": "\n".join(sources(trainings)).strip(),
        "books": BOOKS.format(books="\n".join(books)),
        "left_out": wrapped(LEFT_OUT.format(unseen=", ".join(UNSEEN_BOOKS))),
        "how": "\n".join(how(trainings, parameters=facts["parameters"])).strip(),
        "curve": "\n".join(curve_table(trainings)).strip(),
        "figures": "\n".join(line for lines in sections for line in lines).strip(),
        "limits": LIMITS.format(window=window, context=facts["context"], millions=millions),
    }
    text = (TINY if name == "tiny" else CHAT).format(**filled)
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text


def sizes(facts: Mapping[str, Any]) -> str:
    """Return the sizes of a network as a sentence."""
    stored = sum(size for _, size in facts["stored"]) / 1e6
    return wrapped(
        f"A Llama network: {facts['num_hidden_layers']} layers, hidden size {facts['hidden_size']}, {facts['num_attention_heads']} query and "
        f"{facts['num_key_value_heads']} key-value heads, feed-forward {facts['intermediate_size']}; {facts['parameters']:,} parameters, a "
        f"byte-level BPE vocabulary of {facts['vocab_size']:,} tokens, a context of {facts['context']:,} tokens. {stored:.1f} MB of weights."
    )


def wrapped(text: str) -> str:
    """Return a paragraph in lines of the width that pages have."""
    return fill(" ".join(text.split()), width=132, break_on_hyphens=False, break_long_words=False)
