"""Questions on a passage that are read off its sentences by rules: when, who, what, why, how many, and so on.

In: a `Passage`. Out: `Asked` questions (the slots of a phrasing of `wording.py`, and the answer). Every generator is a pure function
(passage, draw) -> list, listed in `reading_more.GENERATORS` under its kind; most of their answers stand in the passage word for word. Used by `make.py`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import patterns
from grammar import (
    LOOSE,
    NAME_PART,
    OPENING,
    PAST,
    PERSON,
    PRESENT,
    PRONOUN,
    VERBS,
    YEAR,
    clause_of,
    is_person,
    lowered,
    raised,
)
from text import Passage


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question as the slots of its phrasing, and its answer."""

    slots: dict[str, str]
    answer: str


Generator = Callable[[Passage, random.Random], list[Asked]]

STOP_ENDS = re.compile(
    r"\b(?:the|a|an|of|to|and|or|in|on|by|for|with|that|which|as|is|are|was|were|their|its|his|her|from|at|not|both|more)$"
)
VAGUE = re.compile(
    r"\b(?:most|same|only|best|first|result|reason|example|part|key|main|important|common|one of|another|good|major|difficult|dangerous|matter"
    r"|better|useful|great|case|time|way|good|bad|problem|product|subject|issue|topic|goal|challenge|cause|source|function|fact|concern)\b"
)
FINITE = re.compile(r"\b(?:is|are|was|were|can|could|will|would|may|come|comes|came|has|have|had|typically|usually)\b")
HUMAN = set(VERBS["human"])
SCHOLARLY = set(VERBS["scholarly"])
NO_PEOPLE = re.compile(rf"\b(?:{'|'.join(VERBS['no people'])})\b")


def clean(phrase: str) -> str:
    """Return a phrase without a final mark and spaces."""
    return phrase.strip().rstrip(".,;:").strip()


def whole(phrase: str) -> bool:
    """Return whether a phrase looks complete and points to nothing outside itself."""
    even = phrase.count("“") == phrase.count("”") and phrase.count("(") == phrase.count(")") and phrase.count("—") != 1
    return bool(phrase) and even and not LOOSE.search(phrase) and not STOP_ENDS.search(phrase)


def asked(answer: str, **slots: str) -> Asked:
    """Make a question of its slots and its answer."""
    return Asked(slots=slots, answer=clean(answer))


def main_clause(sentence: str) -> str:
    """Return a sentence without what stands before its subject."""
    return raised(OPENING.sub("", sentence))


def shortened(rest: str) -> str:
    """Return the rest of a clause without what is added at its end."""
    return clean(
        re.split(
            r",? (?:but|which|who|where|while|so that|though|although|after) |; |, (?:and|as|a|an|the|or|with|making|in) |—", rest
        )[0]
    )


def dated(passage: Passage) -> list[tuple[str, str]]:
    """Return (date, clause) for the events of a passage."""
    found = patterns.matches(patterns.DATED_START, passage.sentences) + patterns.matches(patterns.DATED_END, passage.sentences)
    return [(match["answer"], match["clause"]) for match in found if not re.search(YEAR, match["clause"])]


def when(passage: Passage, draw: random.Random) -> list[Asked]:
    """ "In 1871, the city burned." asks when the city burned."""
    found: list[Asked] = []
    for date, words in dated(passage):
        clause = clause_of(raised(words), passage.common)
        if clause and clause.verb in {*PAST, "was", "were"}:
            clause = replace(clause, rest=shortened(clause.rest))
            if whole(clause.rest) and len(clause.rest) < 110:
                found.append(asked(date, inverted=clause.inverted, statement=clause.statement))
    return found


def what_happened(passage: Passage, draw: random.Random) -> list[Asked]:
    """ "In 1871, the city burned." asks what happened in 1871."""
    found: list[Asked] = []
    for match in patterns.matches(patterns.DATED_START, passage.sentences):
        clause = clause_of(raised(match["clause"]), passage.common)
        if clause and clause.verb in PAST and passage.text.count(match["answer"]) == 1 and len(match["clause"]) < 130:
            preposition = "on" if match.group().startswith("On ") else "in"
            found.append(asked(match["clause"], date=f"{preposition} {match['answer']}"))
    return found


def personal(name: str, verb: str, common: frozenset[str]) -> bool:
    """Return whether the subject of a verb is a person: a full name, or a name no text writes small with a verb of people."""
    if is_person(name):
        return True
    unknown = not NO_PEOPLE.search(name) and not any(word.lower() in common for word in name.split())
    return unknown and not name.endswith(("ists", "ians", "ans")) and verb in (HUMAN if " " in name else SCHOLARLY)


def who(passage: Passage, draw: random.Random) -> list[Asked]:
    """ "James Watt improved the engine." asks who improved the engine."""
    found: list[Asked] = []
    for sentence in passage.sentences:
        match = re.match(
            rf"({PERSON}|{NAME_PART}(?: [A-Z]\.)?(?: {NAME_PART})?) (?:also |then |later )?([a-z]+) (.+)$", main_clause(sentence)
        )
        if (
            not match
            or match[2] not in {*PAST, "was"}
            or match[2] in {"said", "told"}
            or not personal(match[1], match[2], passage.common)
        ):
            continue
        rest = clean(re.split(r"(?:, (?:and|but|which|who|where|while|so|a|an|the)|; | when | because | and | who )", match[3])[0])
        if (
            whole(rest)
            and 12 <= len(rest) <= 100
            and not re.search(r"\b(?:his|her)\b", rest)
            and not re.match(r"(?:that|not|been)\b", rest)
        ):
            found.append(asked(match[1], predicate=f"{match[2]} {rest}"))
    return found


def definition(sentence: str, common: frozenset[str]) -> tuple[str, str, str] | None:
    """Return the term in small letters, its verb and the words of a definition."""
    match = patterns.DEFINED.match(re.sub(r"^The (?:term|word|phrase|concept) (?=\w)(?!of|that)", "", sentence))
    if not match:
        return None
    term, answer = match["term"], clean(match["answer"])
    general = re.match(r"^(?:An? |The )?[A-Za-z\-]+(?: [a-z\-]+){0,3}(?: \([^()]+\))?$", term)
    outside = re.search(r"\b(?:of|that|this|in|for|first|second|next|last|who|which)\b", term)
    if not general or PRONOUN.match(term) or outside or VAGUE.search(term) or LOOSE.search(term):
        return None
    if (
        LOOSE.search(answer)
        or STOP_ENDS.search(answer)
        or VAGUE.search(answer[:40])
        or (term.startswith("The ") and match["verb"] == "is")
    ):
        return None
    verb = {"are": "are", "was": "was"}.get(match["verb"], "is")
    return lowered(term, common), verb, answer


def what_is(passage: Passage, draw: random.Random) -> list[Asked]:
    """ "A codon is a group of three bases." asks what a codon is."""
    found: list[Asked] = []
    for sentence in passage.sentences:
        if parts := definition(main_clause(sentence), passage.common):
            found.append(asked(parts[2], term=parts[0], bare=re.sub(r"^(?:a|an|the) ", "", parts[0]), **{"is": parts[1]}))
    return found


def term_for(passage: Passage, draw: random.Random) -> list[Asked]:
    """ "A codon is a group of three bases." asks for the term for a group of three bases."""
    found: list[Asked] = []
    for sentence in passage.sentences:
        if parts := definition(main_clause(sentence), passage.common):
            bare = re.sub(r"^(?:a|an|the) | \([^()]*\)$", "", parts[0])
            written = re.search(re.escape(bare), passage.text, re.IGNORECASE)
            if (
                len(parts[2].split()) >= 5
                and len(parts[2]) <= 110
                and bare.lower() not in parts[2].lower()
                and written
                and parts[1] != "was"
            ):
                found.append(asked(written.group(), definition=parts[2]))
        for match in patterns.CALLED.finditer(sentence):
            words = re.sub(r"^(?:.* (?:is|are|was|were|by|in|of|has|have|through|from)) (?=(?:a|an|the) )", "", match["definition"])
            words = lowered(words, passage.common)
            dangling = re.search(
                r"\b(?:is|are|was|were|and|also|that|often|so|has|have|be|to|commonly|which|now|sometimes|what)$", words
            )
            if len(words.split()) >= 4 and not dangling and whole(words):
                head = re.split(r" (?:that|which|who|when|where) ", words)[0]
                if (
                    not FINITE.search(head)
                    and not any(word in PRESENT for word in head.split())
                    and not PRONOUN.match(match["answer"])
                    and not STOP_ENDS.search(match["answer"])
                ):
                    found.append(asked(match["answer"], definition=words))
    return found


def how_many(passage: Passage, draw: random.Random) -> list[Asked]:
    """ "The heart has four chambers." asks how many chambers the heart has."""
    found: list[Asked] = []
    for there in patterns.matches(patterns.THERE_ARE, passage.sentences):
        tail = clean(there["tail"])
        kept, after = (f" {tail}", "") if tail.startswith("of ") else ("", f" {tail}" if tail else "")
        if whole(tail or "x") and not re.match(r"(?:and|or|that|who|which)\b", tail):
            found.append(
                asked(
                    there["answer"],
                    counted=f"{there['noun']}{kept} {there['be']} there{after}",
                    told=f"{there['noun']}{kept} there {there['be']}{after}",
                )
            )
    for direct in patterns.matches(patterns.COUNTED_OBJECT, tuple(map(main_clause, passage.sentences))):
        clause = clause_of(f"{direct['subject']} {direct['verb'].split()[0]} x", passage.common)
        tail = clean(re.split(r"[,;:—]| and | but | that | who | which | because | when ", direct["tail"])[0])
        if clause and clause.verb == direct["verb"] and clause.rest == "x" and whole(tail or "x"):
            tail = f" {tail}" if tail else ""
            found.append(
                asked(
                    direct["answer"],
                    counted=f"{direct['noun']} {clause.asked_object}{tail}",
                    told=f"{direct['noun']} {clause.subject} {clause.verb}{tail}",
                )
            )
    for subject in patterns.matches(patterns.COUNTED_SUBJECT, tuple(map(main_clause, passage.sentences))):
        if re.match(r"(?:are|were|make|have|took|fought|came|died|live|lived|worked|voted)\b", subject["tail"]) and whole(
            clean(subject["tail"])
        ):
            words = f"{subject['noun']} {clean(subject['tail'])}"
            found.append(asked(subject["answer"], counted=words, told=words))
    return [one for one in found if not re.fullmatch(YEAR, one.answer)]


def how_long(passage: Passage, draw: random.Random) -> list[Asked]:
    """ "The war lasted six years." asks how long the war lasted."""
    found: list[Asked] = []
    for match in patterns.matches(patterns.LASTED, tuple(map(main_clause, passage.sentences))):
        lasting = re.search(
            r"\b(?:last|lasts|lasted|takes?|took|lived|lives?|ruled|reigned|served|spent|worked|continued|remained|survived|stayed|held)\b",
            match["clause"],
        )
        clause = clause_of(match["clause"] + " x", passage.common)
        if lasting and clause and clause.rest.endswith("x") and whole(clause.rest[:-1].strip() or "x"):
            clause = replace(clause, rest=clause.rest[:-1].strip())
            found.append(asked(match["answer"], inverted=clause.inverted, statement=clause.statement))
    return found


def how_much(passage: Passage, draw: random.Random) -> list[Asked]:
    """ "The canal cost $7 million." asks how much it cost."""
    found: list[Asked] = []
    for match in patterns.matches(patterns.MONEY, tuple(map(main_clause, passage.sentences))):
        tail = clean(re.split(r"[,;:—]| and | but | that | who | which | because | when ", match["tail"])[0])
        clause = clause_of(f"{match['clause']} x", passage.common)
        if clause and clause.rest.endswith("x") and whole(tail or "x") and not tail.startswith("worth"):
            clause = replace(clause, rest=f"{clause.rest[:-1]}{tail}".strip())
            found.append(asked(match["answer"], inverted=clause.inverted, statement=clause.statement))
    return found


def where(passage: Passage, draw: random.Random) -> list[Asked]:
    """ "The treaty was signed in Paris." asks where it was signed."""
    found: list[Asked] = []
    sentences = tuple(map(main_clause, passage.sentences))
    for match in patterns.matches(patterns.PLACED_END, sentences) + patterns.matches(patterns.ACTED_AT, sentences):
        clause = clause_of(match["clause"] + " x", passage.common)
        if (
            clause
            and not re.search(rf"{patterns.MONTHS}|\d", match["answer"])
            and not LOOSE.search(clause.rest)
            and whole(match["answer"])
        ):
            clause = replace(clause, rest=clause.rest[:-1].strip())
            found.append(asked(match["answer"], inverted=clause.inverted, statement=clause.statement))
    return found


def why(passage: Passage, draw: random.Random) -> list[Asked]:
    """ "Ice floats because it is lighter." asks why ice floats."""
    found: list[Asked] = []
    for match in patterns.matches(patterns.REASON, passage.sentences) + patterns.matches(patterns.REASON_FIRST, passage.sentences):
        clause = clause_of(main_clause(raised(match["clause"])), passage.common)
        if (
            clause
            and whole(clause.rest)
            and not clause.rest.startswith("not ")
            and ". " not in clause.rest
            and len(clause.rest) < 110
        ):
            answer = match["answer"]
            found.append(asked(answer[0].lower() + answer[1:], inverted=clause.inverted, statement=clause.statement))
    return found
