"""Rows that ask for a text to be repeated: what a small network needs most before it can answer from a passage.

In: texts of the books, for their words. Out: dialogs in which the assistant says again what the user said: sentences of the books, and
words in an order that no text has, so that nothing but looking back helps. To be able to copy is a circuit of its own (Olsson et al.
2022, arXiv 2209.11895), which ordinary text alone teaches late. Used by `make.py`.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from text import sentences

WORDINGS = (
    "Repeat this exactly: {text}",
    "Say the following again, word for word.\n\n{text}",
    "Copy this line.\n{text}",
    "{text}\n\nWrite the line above once more.",
    "Please copy out: {text}",
    "Echo: {text}",
    "Type this again without changing anything:\n\n{text}",
    "Text: {text}\n\nTask: repeat the text.",
    "Here is a line: {text}\nWhat was the line?",
)


def vocabulary(texts: Sequence[str]) -> list[str]:
    """Return the words that stand at least five times in the texts, ascending."""
    counts = Counter(word for text in texts for word in re.findall(r"[A-Za-z]{2,}", text))
    return sorted(word for word, count in counts.items() if count >= 5)


def shuffled_words(words: Sequence[str], draw: random.Random) -> str:
    """Return words and numbers in an order of chance."""
    chosen = [draw.choice(words) if draw.random() < 0.9 else str(draw.randint(2, 2000)) for _ in range(draw.randint(4, 40))]
    return draw.choice((" ", " ", ", ")).join(chosen)


def some_sentences(texts: Sequence[str], draw: random.Random) -> str:
    """Return one to three sentences that follow each other in a book."""
    while True:
        paragraphs = [part for part in draw.choice(texts).split("\n\n")[1:] if not part.startswith(("#", "- ")) and len(part) > 80]
        if paragraphs:
            found = sentences(draw.choice(paragraphs))
            start = draw.randrange(len(found))
            text = " ".join(found[start : start + draw.randint(1, 3)])
            if len(text) <= 500:
                return text


def row(make: Callable[[random.Random], str], draw: random.Random) -> dict[str, object]:
    """Return a dialog of one to three texts to repeat."""
    messages = []
    for _ in range(draw.randint(1, 3)):
        text = make(draw)
        messages += [
            {"role": "user", "content": draw.choice(WORDINGS).format(text=text)},
            {"role": "assistant", "content": text},
        ]
    return {"messages": messages}


def copying_rows(texts: Sequence[str], draw: random.Random, *, count: int) -> Iterator[dict[str, object]]:
    """Yield `count` rows, two in three of words in an order of chance."""
    words = vocabulary(texts)
    for number in range(count):
        yield row(partial(shuffled_words, words) if number % 3 else partial(some_sentences, texts), draw)
