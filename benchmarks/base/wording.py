"""How the questions are put: the layouts of a passage with its question, and a choice among the phrasings of every kind (`kinds.py`).

In: nothing. Out: `LAYOUTS`, and prompts, with what is held out: every third layout and phrasing, and about a third of the kinds,
are never used in training, so that a test can tell reading from habit. Used by `reading.py`, `invented.py` and `make.py`.
"""

from __future__ import annotations

import random

from kinds import KINDS

LAYOUTS: tuple[str, ...] = (
    "{passage}\n\n{question}",
    "{passage}\n\nQuestion: {question}",
    "Passage: {passage}\n\nQ: {question}\nA:",
    "Read this.\n\n{passage}\n\n{question}",
    "Context: {passage}\n\nQuestion: {question}\nAnswer:",
    "Look at the paragraph below and reply from it alone.\n\n{passage}\n\nMy question is: {question}",
    "{question}\n\n{passage}",
    "Text:\n{passage}\n\n{question}",
    "Use the text to answer.\n\nText: {passage}\n\nQuestion: {question}",
    "Here is a passage.\n\n{passage}\n\n{question} Answer briefly.",
    "Answer the question about the passage.\n\n{passage}\n\nQuestion: {question}",
    "I found this note:\n\n{passage}\n\nCan you help me? {question}",
    "{question}\n\nText: {passage}",
    "Passage:\n{passage}\n\nQuestion:\n{question}\n\nAnswer:",
    "Below you see an extract.\n\n{passage}\n\nAccording to the extract: {question}",
    "Question: {question}\n\nPassage: {passage}\n\nAnswer:",
    "Context:\n{passage}\n\n{question}",
    "Please study these lines with care.\n\n{passage}\n\nNow tell me this. {question}",
    "“{passage}”\n\n{question}",
    "Answer from the context below.\n\nContext: {passage}\n\nQuestion: {question}",
    "Excerpt\n-------\n{passage}\n-------\n{question}",
    "Given the following text, answer the question.\n\n{passage}\n\nQuestion: {question}\nAnswer:",
    "First the question: {question}\n\nNow the text: {passage}",
    "Read the text and answer with a few words from it.\n\nText: {passage}\n\nQuestion: {question}\n\nAnswer:",
)


ABSENT = (
    "The passage does not say.",
    "The text does not say.",
)
ABSENT_ANSWER = ABSENT[0]


def kept_back(index: int) -> bool:
    """Return whether the wording at a place in its table is held out: every third one."""
    return index % 3 == 2


def wordings(table: tuple[str, ...], unseen: bool) -> list[str]:
    """Return the wordings of a table that are for training, or those held out."""
    return [wording for index, wording in enumerate(table) if kept_back(index) is unseen]


def layout(passage: str, question: str, draw: random.Random, *, unseen: bool = False) -> tuple[str, str]:
    """Put a passage and a question into a layout; return the prompt, and the prompt without the passage."""
    chosen = draw.choice(wordings(LAYOUTS, unseen))
    blocks = [block for block in chosen.split("\n\n") if "{passage}" not in block]
    return chosen.format(passage=passage, question=question), "\n\n".join(blocks or ["{question}"]).format(question=question)


def phrase(kind: str, slots: dict[str, str], draw: random.Random, *, unseen: bool = False) -> str:
    """Put a question of a kind in one of its phrasings; slots get a `..._capital` twin for the start of a sentence."""
    chosen = draw.choice(wordings(KINDS[kind].phrasings, unseen))
    twins = {f"{name}_capital": value[:1].upper() + value[1:] for name, value in slots.items()}
    return chosen.format(**slots, **twins)
