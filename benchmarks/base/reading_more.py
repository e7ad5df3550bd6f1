"""More questions that are read off the sentences of a passage: what something does, who did it, what letters stand for, lists, uses.

In: a `Passage`. Out: `Asked` questions, as in `reading.py`, whose generators and these make up GENERATORS. Used by `make.py`.
"""

from __future__ import annotations

import random
import re
from dataclasses import replace

import patterns
import reading
from grammar import LOOSE, PAST, PLAIN, PRESENT, PRONOUN, VERBS, clause_of, is_person, lowered
from reading import STOP_ENDS, Asked, Generator, asked, clean, main_clause, whole
from text import Passage

OBJECT_START = re.compile(
    r"(?:(?:the|a|an|its|their|his|her|all|many|new|several|some|two|three|four) )?[a-z\-’]+(?: [\w\-’]+){0,7}$"
)
OBJECT_LIKE = re.compile(
    r"(?:the|a|an|its|their|his|her|all|many|new|several|most|some|two|three|four) |[a-z\-]+s$|[a-z\-]+ [a-z\-]+s$"
    r"|[a-z\-]+(?:tion|ment|ity|ness|ance|ence|ism|ship|ure)$"
)
OBJECT_END = r"[,;:.—]| (?:that|who|which|to|by|in|for|from|when|because|with|as|on|at|through|during|while|if|into|after|before|between|so) "
PREPOSITIONS = set(VERBS["prepositions"])
TAKES_TO = re.compile(
    r"(?:require|allow|enable|cause|help|encourage|force|permit|lead|want|use|tell|ask|order|expect|teach|urge"
    r"|persuade|convince|see|make|let|keep|put)"
)
ADJECTIVAL = re.compile(r"(?:al|ic|ive|ous|ful|ary|ed|able|ible|an|less|ent|ant|ern|rial|ese|ish)$")
NOT_GROUPS = {
    "sometimes",
    "always",
    "perhaps",
    "besides",
    "towards",
    "things",
    "others",
    "times",
    "years",
    "ways",
    "species",
    "means",
    "series",
    "works",
}


def what_object(passage: Passage, draw: random.Random) -> list[Asked]:
    """ "The company makes small engines." asks what the company makes; "depends on" and the like keep their preposition."""
    found: list[Asked] = []
    for sentence in passage.sentences:
        clause = clause_of(main_clause(sentence), passage.common)
        if (
            not clause
            or (clause.verb not in PAST and clause.verb not in PRESENT and clause.verb not in PLAIN)
            or clause.verb in {"said", "felt", "thought", "went"}
        ):
            continue
        rest, preposition = clause.rest, ""
        if patterns.WITH_PREPOSITION.match(clause.verb) and rest.split()[0] in PREPOSITIONS:
            preposition, _, rest = rest.partition(" ")
        cut = re.split(OBJECT_END, rest, maxsplit=1)[0]
        after = rest[len(cut) :]
        answer = clean(cut)
        bad = (answer.split()[:1] and answer.split()[0] in PREPOSITIONS) or (
            " and " in answer and not OBJECT_LIKE.match(answer.split(" and ")[1])
        )
        if bad or STOP_ENDS.search(answer) or not OBJECT_START.fullmatch(answer) or not OBJECT_LIKE.match(answer):
            continue
        if after.startswith((" to ", " as ")) and TAKES_TO.match(PAST.get(clause.verb, PRESENT.get(clause.verb, clause.verb))):
            continue
        if re.search(r"\b(?:way|place|part|time|day|year|rise|it|them|him)$", answer) or re.search(
            r"\b(?:is|are|was|were|can|will)\b", answer
        ):
            continue
        short = replace(clause, rest=preposition)
        found.append(asked(answer, inverted=short.inverted, statement=short.statement))
    return found


def what_subject(passage: Passage, draw: random.Random) -> list[Asked]:
    """ "Friction slows the wheel." asks what slows the wheel."""
    found: list[Asked] = []
    for sentence in passage.sentences:
        clause = clause_of(main_clause(sentence), passage.common)
        if not clause or is_person(clause.subject) or clause.verb not in PRESENT or len(clause.subject.split()) > 6:
            continue
        rest = clean(re.split(r"[,;:—]| because | which | when | and ", clause.rest)[0])
        if (
            whole(rest)
            and 10 <= len(rest) <= 90
            and not re.search(r"\b(?:its|their|his|her)\b", rest)
            and not re.match(r"(?:that|been|to)\b", rest)
        ):
            written = re.search(re.escape(clause.subject), passage.text, re.IGNORECASE)
            if written:
                found.append(asked(written.group(), predicate=f"{clause.verb} {rest}"))
    return found


def by_whom(passage: Passage, draw: random.Random) -> list[Asked]:
    """ "The bridge was built by the Romans." asks by whom it was built."""
    found: list[Asked] = []
    for match in patterns.matches(patterns.PASSIVE_BY, tuple(map(main_clause, passage.sentences))):
        clause = clause_of(match["clause"], passage.common)
        answer = re.split(
            r" (?:in|at|on|during|to|who|that|as|from|for|with|under|when|after|is|are|was|through|while)\b", match["answer"]
        )[0]
        if (
            clause
            and clause.verb in {"was", "were", "is", "are"}
            and whole(clause.rest)
            and whole(answer)
            and not answer.split()[0].endswith("ing")
        ):
            found.append(asked(answer, inverted=clause.inverted, statement=clause.statement))
    return found


def abbreviations(passage: Passage) -> list[tuple[str, str]]:
    """Return (letters, words) for abbreviations whose words begin with their letters."""
    found: list[tuple[str, str]] = []
    for match in patterns.LETTERS.finditer(passage.text):
        words, letters = match["long"].split(), match["short"]
        for start in range(len(words)):
            heavy = [word for word in words[start:] if word not in {"of", "and", "for", "the", "on", "to"}]
            initials = "".join(word[0] for word in heavy).upper()
            if initials == letters and words[start] in heavy and len(heavy) > 1:
                found.append((letters, " ".join(words[start:])))
                break
    return found


def stands_for(passage: Passage, draw: random.Random) -> list[Asked]:
    """ "The World Bank (WB)" asks what WB stands for."""
    return [asked(words, short=letters) for letters, words in abbreviations(passage)]


def short_for(passage: Passage, draw: random.Random) -> list[Asked]:
    """ "The World Bank (WB)" asks for the short form."""
    return [
        asked(letters, long=lowered(words, passage.common) if words[1:].islower() else words)
        for letters, words in abbreviations(passage)
    ]


def who_was(passage: Passage, draw: random.Random) -> list[Asked]:
    """ "Ada Byron, an English writer," asks who she was."""
    found = [asked(match["answer"], name=match["name"]) for match in patterns.APPOSITIVE.finditer(passage.text)]
    found += [asked(match["answer"], name=match["name"]) for match in patterns.matches(patterns.PERSON_IS, passage.sentences)]
    found += [asked(match["answer"], name=match["name"]) for match in patterns.NAMED_AFTER_ROLE.finditer(passage.text)]
    return [
        one
        for one in found
        if whole(one.answer) and len(one.answer.split()) > 1 and not re.search(r"(?:iant|est|first|same)$", one.answer)
    ]


def used_for(passage: Passage, draw: random.Random) -> list[Asked]:
    """ "Lime is used to soften water." asks what lime is used for."""
    found: list[Asked] = []
    for match in patterns.matches(patterns.USED, tuple(map(main_clause, passage.sentences))):
        subject = match["subject"]
        plain = (
            not PRONOUN.match(subject)
            and not LOOSE.search(subject)
            and not re.search(r"\b(?:that|which|is|are|was|has|have)\b", subject)
        )
        if plain and len(subject.split()) <= 6 and whole(clean(match["answer"])) and " be" not in match["be"]:
            found.append(asked(match["answer"], subject=lowered(subject, passage.common), be=match["be"]))
    return found


def made_of(passage: Passage, draw: random.Random) -> list[Asked]:
    """ "Proteins are made of amino acids." asks what they are made of."""
    found: list[Asked] = []
    for match in patterns.matches(patterns.MADE_OF, tuple(map(main_clause, passage.sentences))):
        clause = clause_of(f"{match['subject']} {match['verb']} x", passage.common)
        if clause and clause.verb == match["verb"] and clause.rest == "x" and whole(clean(match["answer"])):
            found.append(asked(match["answer"], subject=clause.subject, be=match["verb"], how=match["how"]))
    return found


def percentage(passage: Passage, draw: random.Random) -> list[Asked]:
    """ "About 70 percent of adults drive to work." asks what share of adults drive to work."""
    found: list[Asked] = []
    for sentence in passage.sentences:
        match = patterns.PERCENTAGE.match(main_clause(sentence))
        if (
            match
            and whole(clean(match["rest"]))
            and re.search(r"\b(?:are|is|was|were|have|had|has|[a-z]+ed|live|own|use|report|comes?|go|goes)\b", match["rest"])
        ):
            written = re.search(re.escape(match["answer"]), passage.text, re.IGNORECASE)
            found.append(asked(written.group() if written else match["answer"], rest=match["rest"]))
    return found


def examples(passage: Passage, draw: random.Random) -> list[Asked]:
    """ "metals such as iron, tin, and lead" asks which examples of metals are given."""
    found: list[Asked] = []
    for match in patterns.EXAMPLES.finditer(passage.text):
        words, tail = match["group"].split(), match["answer"]
        if len(words) > 1 and not ADJECTIVAL.search(words[0]):
            words = words[1:]
        if words[-1] in NOT_GROUPS or words[-1].endswith(("ss", "us", "is")) or len(words[-1]) < 5 or not whole(tail):
            continue
        if not re.search(r"\b(?:is|are|was|were|have|has|can|may|will|as well|had|do)\b|[a-z]ed$", tail):
            found.append(asked(tail, group=" ".join(words)))
    return found


def colon_list(passage: Passage, draw: random.Random) -> list[Asked]:
    """ "three kinds of rock: a, b, and c" asks what the three kinds are."""
    found: list[Asked] = []
    for match in patterns.COLON_LIST.finditer(passage.text):
        group = match["group"] if match["group"].startswith("the ") else f"the {match['group']}"
        if whole(group) and whole(match["answer"]):
            found.append(asked(match["answer"], group=group))
    return found


GENERATORS: dict[str, Generator] = {
    "when": reading.when, "what-happened": reading.what_happened, "who": reading.who, "what-is": reading.what_is,
    "term-for": reading.term_for, "how-many": reading.how_many, "how-long": reading.how_long, "how-much": reading.how_much,
    "where": reading.where, "why": reading.why, "what-object": what_object, "what-subject": what_subject, "by-whom": by_whom,
    "stands-for": stands_for, "short-for": short_for, "who-was": who_was, "used-for": used_for, "made-of": made_of,
    "percentage": percentage, "list": examples, "colon-list": colon_list,
}  # fmt: skip
