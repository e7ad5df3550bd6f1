"""The text of the bundled base models: OpenStax textbooks, cleaned, in training modules and held-out ones, and cut into passages.

In: the public set `openstax` as `burnish.data.public.locate` finds it. Out: rows of a module's text, and passages of whole sentences
for the reading tasks (`reading.py`). First step of `make.py`.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from burnish.data.public import locate

UNSEEN_BOOKS = ("nursing-external-bundle", "introduction-python-programming", "anatomy-physiology")
"""Books that no model here is trained on, so that adapting to a new domain can be measured."""
UNSEEN_TOPIC = re.compile(r"covid|sars-cov-?2|coronavirus", re.IGNORECASE)

BOILERPLATE = re.compile(
    r"OpenStax|openstax|Rice University|CNX|customiz(?:e|able) (?:the|your) (?:book|text)|Creative Commons|errata|Webassign|WebAssign"
    r"|access for free|Access for free"
)
REFERENCE_WORDS = r"(?:Figure|Fig\.|Table|Example|Equation|Exercise|Section|Chapter|Appendix|Unit)"
CITATION = re.compile(
    r" ?\((?:see |e\.g\., |cf\. )?[A-Z][^()]{2,160}?,? (?:19|20)\d\d[a-z]?(?:, p+\. ?[\d–-]+)?(?:; [^()]{0,200})?\)"
)
EMPTY_BRACKETS = re.compile(rf" ?[(\[](?:see|See|or|and|in|also|as shown in|{REFERENCE_WORDS}|[\s,;.])*[)\]]")
FIGURE_BRACKETS = re.compile(r" ?\((?:see |See )?(?:Figure|Fig\.|Table) [\w.\-]+(?:\([a-z]\))?\)")
DANGLING_ASIDE = re.compile(
    r"(?<!\bis)(?<!\bare)(?<!\bwas)(?<!\bwere)(?<!\bbe),? (?:as|like the one|such as the one|such as those|like those)?(?: (?:is|are|was))? ?"
    r"(?:shown|illustrated|seen|described|depicted|listed|presented|indicated|summarized|discussed|displayed|pictured|given)"
    r" (?:above |below )?(?:in|by|on) (?:and )?(?=[,.;])(,?)"
)
DANGLING = re.compile(
    r"\b(?:in|from|by|to|and|see|See|with|on|for|at|of|than|using|into|through|on|refer to|the|that|like) [.,;:)]"
    r"|\b(?:in|In|from|and|to) (?:and|or|through) [.,]|^(?:In|From|Using|See|Also|As (?:shown|seen) in) ?[,.]| , |\( | \)"
    r"|\b(?:in|from|by|using|of) (?:shows?|illustrates?|is|are|summarizes|lists)\b"
)
NO_SUBJECT = re.compile(
    r"^(?:also )?(?:shows?|illustrates?|summarizes?|lists?|presents?|provides?|gives?|displays?|depicts?|compares?|contains?|describes?"
    r"|represents?|outlines?|demonstrates?|includes?|offers?|is|are|was|and|below|above|plots?|identif(?:y|ies)|details?|explains?"
    r"|reveals?|indicates?|reports?|tracks?|highlights?|through)\b"
)
ABBREVIATION = re.compile(
    r"(?:(?<!°)\b(?:Dr|Mr|Mrs|Ms|St|Mt|Jr|Sr|Prof|Gen|Gov|Sen|Rep|Rev|Lt|Col|Capt|No|vs|etc|e\.g|i\.e|cf|al|approx|Inc|Co|Corp|Ltd|Fig|ca|c"
    r"|[A-Z]|[A-Z]\.[A-Z]|U\.S\.A|Ph\.D|a\.m|p\.m|Jan|Feb|Mar|Apr|Aug|Sept|Oct|Nov|Dec|Vol|pp|p|ed|eds|Op|art))\.$"
)
BOUNDARY = re.compile(
    r"(?<=[.!?])(?:[”\"’)\]]{1,2})?\s+(?=[A-Z“\"(‘\[]|(?:shows|illustrates|summarizes|lists|presents|displays|depicts|compares) )"
)
LETTER = re.compile(r"[a-z] [A-Z]\.$")
STARTER = re.compile(r"(?:The|This|These|In|It|He|She|They|We|There|However|If|For|As|When|But|Because)\b")
"""A single letter is no initial where the next sentence begins with one of these words."""
STRAIGHT_START = re.compile(r"^[A-Z“\"]")
PROSE_END = re.compile(r"[.!?][”\"’)]?$")
UNREADABLE = re.compile(
    r"[=<>×÷∑∫√^|_{}\\~∆Δ→⟶•■\[\]]|\bhttps?:|www\.|[a-z0-9”]\.[A-Z“]|\.\.\.|\. \. \.|[A-Za-z]\d \d|\d \d \d| \d \."
)
MATERIAL = re.compile(
    r"\b(?:exercise|figure|table|example|chapter|section|module|textbook|photo|credit|graph|equation|following|below|above|left|answer)s?\b"
    r"|\b(?:Exercise|Figure|Table|Example|Chapter|Section|Learning|Solution|Answer|Step)\b"
)


@dataclass(frozen=True, kw_only=True)
class Passage:
    """Whole sentences that follow each other in one module; `common` are words of the books that are no names, in small letters."""

    text: str
    sentences: tuple[str, ...]
    module: str
    common: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def book(self) -> str:
        """The book's name in the address of the module."""
        return self.module.split("/")[0]


def openstax_rows(file: str) -> Iterator[dict[str, str]]:
    """Yield the rows of an openstax file whose book may be seen, in their order."""
    with lzma.open(locate("openstax") / file, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if not any(book in row["book"] for book in UNSEEN_BOOKS):
                yield row


def held_out(key: str) -> bool:
    """Return whether a module ("book/module") belongs to the 2 % that no model here is trained on."""
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % 50 == 0


def held_out_for_choosing(key: str) -> bool:
    """Return whether a module belongs to the 0.5 % by which the best step of a run is chosen; no model is trained on it either."""
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % 200 == 1


def sentences(paragraph: str) -> list[str]:
    """Cut a paragraph at the ends of sentences; abbreviations and initials do not end one."""
    found: list[str] = []
    start = 0
    for match in BOUNDARY.finditer(paragraph):
        end = match.start() + len(match.group().rstrip())
        before, after = paragraph[max(start, end - 12) : end], paragraph[match.end() : match.end() + 14]
        if ABBREVIATION.search(before) and not (LETTER.search(before) and STARTER.match(after)):
            continue
        found.append(paragraph[start:end].strip())
        start = match.end()
    found.append(paragraph[start:].strip())
    return [sentence for sentence in found if sentence]


def tidy_sentence(sentence: str) -> str:
    """Return a sentence without the holes that removed references left, or "" where it cannot be mended."""
    text = CITATION.sub("", sentence)
    text = EMPTY_BRACKETS.sub("", FIGURE_BRACKETS.sub("", text))
    text = DANGLING_ASIDE.sub(r"\1", text)
    text = re.sub(r" ([,.;:?!])(?!\s?\d| \.)", r"\1", text) if not DANGLING.search(text) else text
    text = re.sub(r"  +", " ", text).strip()
    if DANGLING.search(text) or NO_SUBJECT.match(text):
        return ""
    return text if len(text) > 2 or text == sentence else ""


def tidy_paragraph(paragraph: str) -> str:
    """Return a paragraph without artefacts of the conversion, or "" where nothing worth reading is left."""
    paragraph = re.sub(r"[ \t\u00a0\u2009\u200a]+", " ", paragraph).replace("\u200b", "").strip()
    if UNSEEN_TOPIC.search(paragraph) or not paragraph:
        return ""
    if paragraph.startswith(("#", "- ")) and len(paragraph) < 60:
        return paragraph if not DANGLING.search(paragraph) else ""
    bullet = "- " if paragraph.startswith("- ") else ""
    kept = [tidy_sentence(sentence) for sentence in sentences(paragraph.removeprefix("- "))]
    text = " ".join(sentence for sentence in kept if sentence)
    letters = sum(character.isalpha() or character == " " for character in text)
    if len(text) > 40 and letters < 0.6 * len(text):
        return ""
    return bullet + text if text else ""


def modules(rows: Iterable[dict[str, str]] | None = None) -> Iterator[tuple[dict[str, str], bool]]:
    """Yield ({"text", "module"}, whether it is held out) for every module (or those of `rows`) that is worth reading.

    A paragraph that stands in an earlier module too (on the publisher, on how a book is used) is dropped, long ones only.
    """
    before: set[bytes] = set()
    prefaces = 0
    for row in openstax_rows("textbooks.jsonl.xz") if rows is None else rows:
        key = f"{row['book']}/{row['module']}"
        if row["title"].strip() in {"Preface", "About OpenStax"}:
            prefaces += 1
            if prefaces > 1:
                continue
        kept: list[str] = []
        for paragraph in row["text"].split("\n\n"):
            text = tidy_paragraph(paragraph)
            if not text or (prefaces > 1 and BOILERPLATE.search(text)):
                continue
            if len(text) > 60:
                digest = hashlib.sha256(text.encode()).digest()
                if digest in before:
                    continue
                before.add(digest)
            kept.append(text)
        kept = without_empty_headings(kept)
        body = "\n\n".join(kept)
        if len(body) >= 200:
            title = "" if UNSEEN_TOPIC.search(row["title"]) else row["title"] + "\n\n"
            yield {"text": title + body, "module": key}, held_out(key)


def without_empty_headings(paragraphs: list[str]) -> list[str]:
    """Leave out headings that no text follows."""
    kept: list[str] = []
    for index, paragraph in enumerate(paragraphs):
        following = paragraphs[index + 1] if index + 1 < len(paragraphs) else "#"
        if not (paragraph.startswith("#") and following.startswith("#")):
            kept.append(paragraph)
    return kept


def is_prose(sentence: str) -> bool:
    """Return whether a sentence reads on its own: words, not formulas, and no pointer to a picture or an exercise."""
    words = sentence.split()
    letters = sum(character.isalpha() or character in " ,’'" for character in sentence)
    return (
        4 <= len(words) <= 60
        and bool(STRAIGHT_START.match(sentence))
        and bool(PROSE_END.search(sentence))
        and not UNREADABLE.search(sentence)
        and not MATERIAL.search(sentence)
        and letters >= 0.88 * len(sentence)
        and sum(len(word) == 1 and word not in "aAI—–" for word in words) < 3
    )


def runs(text: str) -> Iterator[list[str]]:
    """Yield the longest stretches of sentences of prose in one module's text; a heading or a list ends a stretch."""
    current: list[str] = []
    for paragraph in text.split("\n\n")[1:]:
        if paragraph.startswith(("#", "- ")) or len(paragraph) < 80:
            yield current
            current = []
            continue
        for sentence in sentences(paragraph):
            if is_prose(sentence):
                current.append(sentence)
            else:
                yield current
                current = []
    yield current


def common_words(rows: Iterable[dict[str, str]]) -> frozenset[str]:
    """Return the words that stand in small letters at least as often as with a capital after another word."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(re.findall(r"(?<=[a-z,] )[A-Za-z][A-Za-z\-]+\b", row["text"]))
    return frozenset(word for word, count in counts.items() if word.islower() and count > 2 and count >= counts[word.capitalize()])


def passages(
    rows: Iterable[dict[str, str]],
    draw: random.Random,
    *,
    common: frozenset[str] = frozenset(),
    shortest: int = 250,
    longest: int = 900,
) -> Iterator[Passage]:
    """Cut modules into passages of whole sentences, of `shortest` to `longest` characters."""
    for row in rows:
        for run in runs(row["text"]):
            chosen: list[str] = []
            target = draw.randint(shortest, longest)
            for sentence in run:
                size = sum(map(len, chosen)) + len(chosen)
                if chosen and size + len(sentence) > target:
                    if size >= shortest:
                        yield Passage(text=" ".join(chosen), sentences=tuple(chosen), module=row["module"], common=common)
                    chosen, target = [], draw.randint(shortest, longest)
                chosen.append(sentence)
            size = sum(map(len, chosen)) + len(chosen)
            if shortest <= size <= longest:
                yield Passage(text=" ".join(chosen), sentences=tuple(chosen), module=row["module"], common=common)
