"""Questions on a passage that need no grammar: gaps, what follows, which sentence, true or false, which subject, what is not said.

In: a `Passage`, and other passages for what is false or absent. Out: `Asked` questions, as in `reading.py`. Used by `make.py`.
"""

from __future__ import annotations

import random
import re

from grammar import PERSON, YEAR
from reading import Asked, Generator, asked
from text import Passage

NAME = re.compile(r"(?<=[a-z,] )(?:[A-Z][a-zà-ÿ’\-]{2,}(?: (?:of |the )?[A-Z][a-zà-ÿ’\-]{2,}){0,3})")
NUMERAL = re.compile(r"\b(?:\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?)(?: (?:percent|million|billion|years|days|miles|people))?\b")
NOUNS = re.compile(
    r"(?<= )(?:the|a|an) ((?:[a-z\-]{4,} )?[a-z\-]{5,})(?= (?:of|in|and|was|were|is|are|to|that|for|by|with)\b|[.,;])"
)
SUBJECTS = {
    "world-history": "history", "college-physics-bundle": "physics", "microbiology": "biology", "astronomy": "astronomy",
    "us-history": "history", "principles-economics-bundle": "economics", "chemistry-bundle": "chemistry",
    "american-government": "government", "psychology": "psychology", "introduction-anthropology": "anthropology",
    "introduction-business": "business", "introduction-political-science": "politics", "introduction-sociology": "sociology",
    "principles-marketing": "marketing", "physics": "physics", "principles-finance": "finance",
    "introduction-philosophy": "philosophy", "entrepreneurship": "business",
}  # fmt: skip
CLASHES = ({"government", "politics"}, {"business", "marketing"}, {"business", "finance"}, {"economics", "finance"}, {"sociology", "anthropology"},
           {"economics", "business"})  # fmt: skip


def targets(sentence: str) -> list[str]:
    """Return phrases of a sentence worth asking for: names, numbers, nouns."""
    found = [match.group() for match in NAME.finditer(sentence)] + [match.group() for match in NUMERAL.finditer(sentence)]
    return found + [match.group(1) for match in NOUNS.finditer(sentence)]


def cloze(passage: Passage, draw: random.Random) -> list[Asked]:
    """Blank one phrase of a sentence."""
    sentence = draw.choice(passage.sentences)
    phrases = [phrase for phrase in targets(sentence) if len(phrase) > 3 and sentence.count(phrase) == 1]
    if not phrases or len(sentence) > 260:
        return []
    phrase = draw.choice(phrases)
    return [asked(phrase, gapped=sentence.replace(phrase, "____"))]


def continuation(passage: Passage, draw: random.Random) -> list[Asked]:
    """Quote some words of a sentence and ask for the rest of it."""
    sentence = draw.choice(passage.sentences)
    words = sentence.split()
    if len(words) < 9:
        return []
    wanted = draw.randint(3, 8)
    start = " ".join(words[max(0, len(words) - wanted - draw.randint(5, 9)) : -wanted])
    if passage.text.count(start) != 1 or "“" in start or "”" in start:
        return []
    return [asked(" ".join(words[-wanted:]), start=start)]


def next_word(passage: Passage, draw: random.Random) -> list[Asked]:
    """Quote some words and ask for the one that follows."""
    words = draw.choice(passage.sentences).split()
    if len(words) < 8:
        return []
    place = draw.randint(4, len(words) - 1)
    start, word = " ".join(words[place - draw.randint(3, min(6, place)) : place]), words[place].strip('.,;:“”()?!"')
    if passage.text.count(start) != 1 or not word or any(mark in start for mark in "“”()"):
        return []
    return [asked(word, start=start)]


def unique_phrase(passage: Passage, draw: random.Random) -> tuple[str, str] | None:
    """Return a phrase that stands once in the passage, and its sentence."""
    sentence = draw.choice(passage.sentences)
    phrases = [phrase for phrase in targets(sentence) if passage.text.count(phrase) == 1]
    return (draw.choice(phrases), sentence) if phrases else None


def copy(passage: Passage, draw: random.Random) -> list[Asked]:
    """Ask for the sentence with a phrase."""
    found = unique_phrase(passage, draw)
    return [Asked(slots={"phrase": found[0]}, answer=found[1])] if found and len(found[1]) < 240 else []


def first_sentence(passage: Passage, draw: random.Random) -> list[Asked]:
    """Ask for the first sentence."""
    return [Asked(slots={}, answer=passage.sentences[0])] if len(passage.sentences) > 1 and len(passage.sentences[0]) < 240 else []


def last_sentence(passage: Passage, draw: random.Random) -> list[Asked]:
    """Ask for the last sentence."""
    return (
        [Asked(slots={}, answer=passage.sentences[-1])] if len(passage.sentences) > 1 and len(passage.sentences[-1]) < 240 else []
    )


def named_person(passage: Passage, draw: random.Random) -> list[Asked]:
    """Ask for the one person that is named."""
    people = {match.group() for match in re.finditer(PERSON, passage.text)}
    return [asked(people.pop())] if len(people) == 1 else []


def named_year(passage: Passage, draw: random.Random) -> list[Asked]:
    """Ask for the one year that is named."""
    years = {match.group() for match in re.finditer(rf"\b{YEAR}s?\b", passage.text)}
    return [asked(years.pop())] if len(years) == 1 and not re.search(r"\d{4}s", passage.text) else []


def which_of_two(passage: Passage, draw: random.Random, other: Passage) -> list[Asked]:
    """Offer a name or noun of the passage and one of another passage."""
    mine, theirs = unique_phrase(passage, draw), unique_phrase(other, draw)
    if not mine or not theirs or theirs[0].lower() in passage.text.lower() or mine[0][0].isupper() is not theirs[0][0].isupper():
        return []
    if mine[0][0].isdigit() is not theirs[0][0].isdigit():
        return []
    pair = [mine[0], theirs[0]]
    draw.shuffle(pair)
    return [asked(mine[0], first=pair[0], second=pair[1])]


def evidence(passage: Passage, draw: random.Random, other: Passage) -> list[Asked]:
    """Ask whether a phrase is mentioned; the answer quotes the sentence."""
    found = unique_phrase(other if draw.random() < 0.4 else passage, draw)
    if not found:
        return []
    phrase, sentence = found
    slots = {"phrase": f"“{phrase}”"}
    if sentence in passage.sentences:
        return [Asked(slots=slots, answer=f"Yes. {sentence}")] if len(sentence) < 240 else []
    return [] if phrase.lower() in passage.text.lower() else [Asked(slots=slots, answer="No.")]


def truth(passage: Passage, draw: random.Random, other: Passage) -> list[Asked]:
    """State a sentence as it is, or with a name or number changed: mostly sentences that could be either, so that both are as frequent."""
    sentence = draw.choice(passage.sentences)
    changed = falsified(sentence, passage, draw, other)
    if len(sentence) > 220 or sentence.endswith("?") or (not changed and draw.random() < 0.9):
        return []
    if changed and draw.random() < 0.55:
        return [Asked(slots={"claim": changed}, answer="False")]
    return [Asked(slots={"claim": sentence}, answer="True")]


def falsified(sentence: str, passage: Passage, draw: random.Random, other: Passage) -> str | None:
    """Return a sentence with another number or name in it, or None where it has neither."""
    numbers = [match.group() for match in NUMERAL.finditer(sentence) if match.group().isdigit()]
    if numbers:
        number = draw.choice(numbers)
        wrong = str(max(1, int(number) + draw.choice([-30, -12, -7, 5, 11, 40])))
        return re.sub(rf"\b{number}\b", wrong, sentence) if wrong not in passage.text else None
    names = [match.group() for match in NAME.finditer(sentence)]
    others = [match.group() for match in NAME.finditer(other.text) if match.group() not in passage.text]
    if names and others:
        name, wrong = draw.choice(names), draw.choice(others)
        return sentence.replace(name, wrong) if len(name.split()) == len(wrong.split()) else None
    nouns = [match.group(1) for match in NOUNS.finditer(sentence)]
    strange = [match.group(1) for match in NOUNS.finditer(other.text) if match.group(1) not in passage.text]
    if nouns and strange:
        return sentence.replace(draw.choice(nouns), draw.choice(strange))
    return None


def subject(passage: Passage, draw: random.Random) -> list[Asked]:
    """Ask which school subject the passage belongs to."""
    right = SUBJECTS.get(passage.book)
    if not right:
        return []
    wrong = [name for name in sorted(set(SUBJECTS.values())) if name != right and {name, right} not in CLASHES]
    choices = [right, *draw.sample(wrong, draw.randint(1, 3))]
    draw.shuffle(choices)
    return [asked(right, choices=", ".join(choices[:-1]) + " or " + choices[-1])]


ALONE: dict[str, Generator] = {
    "cloze": cloze, "continue": continuation, "next-word": next_word, "copy": copy, "first-sentence": first_sentence,
    "last-sentence": last_sentence, "named-person": named_person, "named-year": named_year, "subject": subject,
}  # fmt: skip
BESIDE = {"which-of-two": which_of_two, "evidence": evidence, "truth": truth}
"""Generators that need another passage too."""
