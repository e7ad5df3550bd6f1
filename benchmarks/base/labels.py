"""Labelling by example: a few short texts with invented labels, one text to label; the rule has to be read off the examples.

In: passages. Out: the messages of a dialog, the right label and the choices. Used by `make.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from finding import SUBJECTS
from text import Passage
from wording import wordings
from words import syllables

HEADS = (
    "Label the last text like the others.",
    "Each text has a label. Give the label of the last one.",
    "Find out how the texts are sorted, then sort the last one.",
    "Here are labelled examples. Label the new text.",
    "Which label belongs to the last text?",
    "Study the examples and name the missing label.",
    "Sort the final text in the same way.",
    "The labels follow a rule. Apply it to the last line.",
    "What label would you give the last text?",
)
LINES = ("Text: {text}\nLabel: {label}", "{text} -> {label}", "“{text}” is {label}", "{text}\n= {label}", "Example: {text}\nAnswer: {label}",
         "- {text} ({label})", "Input: {text}\nOutput: {label}", "{label}: {text}", "{text} | {label}")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """A labelling task."""

    messages: tuple[dict[str, str], ...]
    answer: str
    choices: tuple[str, ...]


def by_subject(pool: Mapping[str, Sequence[str]], draw: random.Random, count: int) -> dict[str, list[str]]:
    """Return short texts of `count` subjects, two or three each and one more to label."""
    names = draw.sample(sorted(pool), count)
    return {name: draw.sample(list(pool[name]), 4) for name in names}


def sentence_pool(passages: Sequence[Passage]) -> dict[str, list[str]]:
    """Return sentences of medium length by school subject."""
    pool: dict[str, list[str]] = {}
    for passage in passages:
        if name := SUBJECTS.get(passage.book):
            pool.setdefault(name, []).extend(one for one in passage.sentences if 50 <= len(one) <= 130 and one[0].isalpha())
    return {
        name: found
        for name, found in pool.items()
        if len(found) >= 8 and name not in {"politics", "marketing", "finance", "anthropology"}
    }


Rule = Callable[[str], bool]
RULES: dict[str, Rule] = {
    "has a number": lambda text: any(character.isdigit() for character in text),
    "is a question": lambda text: text.endswith("?"),
    "has a quotation": lambda text: "“" in text,
}


def by_rule(sentences: Sequence[str], rule: Rule, draw: random.Random) -> dict[str, list[str]] | None:
    """Return short texts that keep a rule and others that do not."""
    sample = draw.sample(list(sentences), min(len(sentences), 400))
    yes, no = [one for one in sample if rule(one)], [one for one in sample if not rule(one)]
    return {"yes": yes[:4], "no": no[:4]} if len(yes) >= 4 and len(no) >= 4 else None


def new_labels(count: int, draw: random.Random) -> list[str]:
    """Return made-up words, all different."""
    found: list[str] = []
    while len(found) < count:
        word = syllables(draw, 1, 2)
        if len(word) > 2 and word not in found:
            found.append(word)
    return found


def labelling(pool: Mapping[str, Sequence[str]], draw: random.Random, *, unseen: bool = False) -> Labelling:
    """Make one task: by subject, or by a rule that shows in the text."""
    groups = None
    if draw.random() < 0.35:
        groups = by_rule([one for found in pool.values() for one in found], RULES[draw.choice(sorted(RULES))], draw)
    groups = groups or by_subject(pool, draw, draw.choice([2, 2, 2, 3]))
    labels = dict(zip(groups, new_labels(len(groups), draw), strict=True))
    shots = 2 if len(groups) > 2 else draw.choice([1, 2, 3])
    shown = [(text, labels[name]) for name, texts in groups.items() for text in texts[:shots]]
    draw.shuffle(shown)
    wanted = draw.choice(sorted(groups))
    line, head = draw.choice(wordings(LINES, unseen)), draw.choice(wordings(HEADS, unseen))
    if draw.random() < 0.4:
        messages = [message for text, label in shown for message in (user(text), assistant(label))]
        messages[0] = user(f"{head}\n\n{shown[0][0]}")
        messages += [user(groups[wanted][3])]
    else:
        examples = "\n\n".join(line.format(text=text, label=label) for text, label in shown)
        open_line = line.format(text=groups[wanted][3], label="?")
        messages = [user(f"{head}\n\n{examples}\n\n{open_line}")]
    return Labelling(messages=tuple(messages), answer=labels[wanted], choices=tuple(sorted(labels.values())))


def by_module(passages: Sequence[Passage], draw: random.Random, count: int) -> dict[str, list[str]]:
    """Return sentences of `count` modules: what belongs together shares its words, so this is the easiest rule to see."""
    groups: dict[str, list[str]] = {}
    while len(groups) < count:
        one = draw.choice(passages)
        found = [sentence for sentence in one.sentences if len(sentence) <= 160]
        if len(found) >= 3:
            groups[one.module] = found
    return groups


def practice(pool: Mapping[str, Sequence[str]], passages: Sequence[Passage], draw: random.Random) -> list[dict[str, str]]:
    """Make a dialog in which text after text gets its label: from the second of a kind on, each label can be known."""
    count, chance = draw.choice([2, 2, 2, 3]), draw.random()
    each = 5 if count == 2 else 4
    groups = None
    if chance < 0.25:
        groups = by_rule([one for found in pool.values() for one in found], RULES[draw.choice(sorted(RULES))], draw)
    elif chance < 0.5:
        groups = by_module(passages, draw, count)
    groups = groups or {name: draw.sample(list(pool[name]), 5) for name in draw.sample(sorted(pool), count)}
    labels = dict(zip(groups, new_labels(len(groups), draw), strict=True))
    turns = [(text, labels[name]) for name, texts in groups.items() for text in texts[:each]]
    draw.shuffle(turns)
    head = draw.choice(wordings(HEADS, False))
    messages = [message for text, label in turns for message in (user(text), assistant(label))]
    messages[0] = user(f"{head}\n\n{turns[0][0]}")
    return messages


def user(content: str) -> dict[str, str]:
    """Return a message of the user."""
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    """Return a message of the assistant."""
    return {"role": "assistant", "content": content}
