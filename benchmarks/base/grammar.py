"""The little English grammar that turns a statement into a question: verb forms, the parts of a clause, names of people.

In: a sentence of a passage. Out: its subject, verb and rest, the same clause turned round for a question. Used by `reading.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lists import read_lists

VERBS = read_lists("verbs.txt")
REGULAR = VERBS["regular"]
IRREGULAR = dict(pair.split() for pair in VERBS["irregular"])
NOUN_LIKE = set(VERBS["noun-like"])
"""Verbs whose form in "-s" is more often a plural, so that it is not taken for the verb of a sentence."""
AUXILIARIES = ("was", "were", "is", "are", "can", "could", "may", "might", "must", "will", "would", "should")


def past(base: str) -> str:
    """Return the past form of a regular verb."""
    if base.endswith("e"):
        return base + "d"
    if base.endswith("y") and base[-2] not in "aeou":
        return base[:-1] + "ied"
    return base + (base[-1] if base in VERBS["doubled"] else "") + "ed"


def third(base: str) -> str:
    """Return the form of a verb after "it"."""
    if base == "have":
        return "has"
    if base.endswith("y") and base[-2] not in "aeou":
        return base[:-1] + "ies"
    return base + ("es" if base.endswith(("s", "sh", "ch", "x", "z", "o")) else "s")


NO_PAST = {"become", "undergo", "spread", "found", *IRREGULAR.values()}
PAST = {past(base): base for base in REGULAR if base not in NO_PAST} | IRREGULAR | {"founded": "found", "found": "find"}
PRESENT = {third(base): base for base in [*REGULAR, *IRREGULAR.values()] if base not in NOUN_LIKE}
PLAIN = set(VERBS["plain"])
"""Verbs that are taken as the verb of a plural subject: forms that are seldom nouns."""

VERB_FORMS = {*AUXILIARIES, *PAST, *PRESENT, *PLAIN}

PRONOUN = re.compile(
    r"^(?:he|she|it|they|we|you|i|this|that|these|those|his|her|its|their|our|your|there|here|one|some|many|most|others?|such|both|another"
    r"|each|following|what|which|who|where|when|while|although|if|because|since|as|after|before|however|thus|by|in|on|at|for|with|from|to|and|but|or"
    r"|nor|so|yet|not|then|also|all|few|several|none|nothing|no|even|only|just|during|through|until|under|rather|instead|let|how|why|like)\b",
    re.IGNORECASE,
)
LOOSE = re.compile(r"\b(?:he|she|they|it|this|these|those|him|them|we|us|you|I|former|latter|here|above|below)\b")
"""Words in an object or a condition that point outside of the question."""
INSIDE = re.compile(
    r"[,;:—()“”?]|\b(?:that|who|which|to|as|when|where|has|have|had|do|does|did|if|may|than|this|these|its|their|his|her|our)\b"
)
"""What the subject of a question does not have within it."""
CONNECTIVE = r"[,;:—]| (?:that|which|who|whom|when|where|while|because|if|as|and|but|what|how|why|whether|so|since|although|than) "
MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
YEAR = r"(?:1[0-9]|20)\d\d"
NAME_PART = r"[A-Z][a-zà-ÿ’'\-]+"
FIRST_NAMES = read_lists("words.txt")["known first names"]
PERSON = rf"(?:{'|'.join(FIRST_NAMES)}) (?:[A-Z]\. ){{0,2}}(?:(?:de|von|van|du|la) )?{NAME_PART}(?: {NAME_PART})?(?![A-Za-z])"


@dataclass(frozen=True, kw_only=True)
class Clause:
    """A clause taken apart: `subject` as in the middle of a sentence, `verb` as written, `rest` without a final full stop."""

    subject: str
    verb: str
    rest: str

    @property
    def inverted(self) -> str:
        """The clause as it follows "when" or "why": "did the king leave France"."""
        if self.verb in AUXILIARIES:
            return f"{self.verb} {self.subject} {self.rest}".strip()
        if self.verb in PAST:
            return f"did {self.subject} {PAST[self.verb]} {self.rest}".strip()
        if self.verb == "has" and self.rest.startswith("been"):
            return f"has {self.subject} {self.rest}"
        helper = "does" if self.verb in PRESENT else "do"
        return f"{helper} {self.subject} {PRESENT.get(self.verb, self.verb)} {self.rest}".strip()

    @property
    def asked_object(self) -> str:
        """The clause without its object, as it follows "what"."""
        return Clause(subject=self.subject, verb=self.verb, rest="").inverted

    @property
    def statement(self) -> str:
        """The clause in its own order."""
        return f"{self.subject} {self.verb} {self.rest}".strip()


OPENING = re.compile(
    r"^(?:However|Moreover|Therefore|Thus|Furthermore|Indeed|Similarly|Likewise|Consequently|Hence|Today|Later|Eventually|Finally|Ultimately|Instead"
    r"|Often|Typically|Generally|Usually|Normally|Traditionally|Historically|Meanwhile|Still|Then|Also|Additionally|In addition|In fact|For example"
    r"|For instance|As a result|In contrast|By contrast|On the other hand|In other words|In general|First|Second|Third|Now|Unfortunately"
    r"|Interestingly|Nevertheless|Nonetheless|In this way|At the same time|Over time|(?:In|By|During|After|At|On|Since|Before|Under) [^,]{4,45}"
    r"), (?=[A-Z“a-z])"
)
"""What may stand before the subject and be left out of a question."""
BARE_ADVERBS = set(VERBS["bare adverbs"])
NO_VERB_AFTER = set(VERBS["no verb after"])
COMMANDS = set(VERBS["commands"])


def lowered(phrase: str, common: frozenset[str]) -> str:
    """Return a phrase as it stands inside a sentence: a first word that is no name gets a small letter."""
    first, space, rest = phrase.partition(" ")
    plain = first.lower()
    name = first.isupper() or re.sub(r"’s$|s’$", "", plain) not in common
    return phrase if name and first not in {"The", "A", "An"} else plain + space + rest


def raised(phrase: str) -> str:
    """Return a phrase with a capital first letter."""
    return phrase[:1].upper() + phrase[1:]


def clause_of(sentence: str, common: frozenset[str]) -> Clause | None:
    """Take a simple sentence apart at its first verb; None where the subject is not one short phrase that stands by itself.

    `common` holds words that are no names, to tell which first word keeps its capital.
    """
    words = [] if sentence.endswith("?") else sentence.rstrip(".!, ").split()
    for index, word in enumerate(words[:10]):
        if not index or word not in VERB_FORMS or words[index - 1].lower() in NO_VERB_AFTER:
            continue
        subject, rest = words[:index], words[index + 1 :]
        while len(subject) > 1 and subject[-1] in BARE_ADVERBS:
            subject.pop()
        if rest and rest[0] in BARE_ADVERBS and word in AUXILIARIES:
            rest = rest[1:]
        if not rest or not good_subject(subject, common) or not good_rest(word, rest):
            return None
        return Clause(subject=lowered(" ".join(subject), common), verb=word, rest=" ".join(rest))
    return None


def good_subject(words: list[str], common: frozenset[str]) -> bool:
    """Return whether words can be the subject of a question: no pronoun, no comma, no verb form within."""
    subject = " ".join(words)
    if (
        PRONOUN.match(subject)
        or words[0] in COMMANDS
        or words[-1].endswith("ly")
        or words[-1] in {"explanation", "reason", "result"}
    ):
        return False
    if INSIDE.search(subject):
        return False
    first = words[0]
    opened = first in {"The", "A", "An"} or (first[0].isupper() and not first.endswith(("ing", "ly")))
    lonely = len(words) == 1 and first.lower() in common and not first.endswith("s")
    return opened and not (lonely and first.lower() in REGULAR)


def good_rest(verb: str, rest: list[str]) -> bool:
    """Return whether the words after the first verb fit it: no second verb of the sentence, no participle taken for a past."""
    before = re.split(CONNECTIVE, f" {' '.join(rest)} ")[0]
    if verb in AUXILIARIES:
        return not re.search(r" (?:is|are|was|were) ", before)
    if rest[0] == "by" or re.search(r" (?:is|are|was|were|can|may|will|has|have|had) ", f" {before} "):
        return False
    perfect = verb in {"has", "have", "had"} and any(
        word in PAST or word in {"been", "not", "to"} or word.endswith("en") for word in rest[:2]
    )
    return not perfect and rest[0] not in {"been", "not"}


def is_person(phrase: str) -> bool:
    """Return whether a phrase is the full name of a person."""
    return bool(re.fullmatch(PERSON, phrase))
