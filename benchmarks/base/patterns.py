"""The sentence patterns from which questions on a passage are made.

In: nothing. Out: compiled expressions with named groups: what is asked for is `answer`. Used by `reading.py`.
"""

from __future__ import annotations

import re

from grammar import MONTHS, PERSON, YEAR

NUMBER_WORDS = (
    "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|"
    "thirteen|fourteen|fifteen|sixteen|eighteen|twenty|thirty|forty|fifty|sixty|eighty|ninety"
)
NUMBER = (
    r"(?:(?:about|nearly|almost|around|over|more than|approximately|at least|some|as many as|roughly|only|fewer than|up to) )?"
    rf"(?:\d{{1,3}}(?:,\d{{3}})+|\d+(?:\.\d+)?(?: (?:million|billion|trillion))?|{NUMBER_WORDS}|(?:a|one|two|three"
    rf"|several) (?:hundred|thousand|million|dozen)|dozens)"
)
WHOM = r"(?:people|men|women|children)"
NOUN = (
    rf"(?:(?:(?!this|is|was|has|its|of|and|or|to|in|as|us|that|than)[a-z\-]+ ){{0,2}}?"
    rf"(?:(?!this\b|is\b|was\b|has\b|its\b|as\b|us\b)[a-z\-]+s\b|{WHOM}))"
)
DATE = rf"(?:(?:{MONTHS}) (?:\d{{1,2}}, |of )?)?{YEAR}|the (?:early |late |mid-?)?{YEAR[:-4]}\d0s"
DATED_START = re.compile(rf"^(?:In|By|Around|During|On) (?P<answer>{DATE}), (?P<clause>.+)$")
DATED_END = re.compile(
    rf"^(?P<clause>[^;:]+?) (?:in|on|around|during) (?P<answer>{DATE})(?:[.]|,? (?:and|but|when|after|as|by|with|at"
    rf"|to|for|while|making|where|which)\b.*)$"
)
PLACED_END = re.compile(
    r"^(?P<clause>[^,;]+?\b(?:was|were|is|are) (?:[a-z]+ly )?(?:born|held|located|founded|built|found|established|discovered|signed|introduced"
    r"|situated|created|opened|killed|published|made|grown|buried|based|formed|produced|concentrated|fought|launched|raised|imprisoned|arrested"
    r"|assassinated|crowned|headquartered)) (?:in|at|on|near|along) "
    r"(?P<answer>(?:the )?(?:[a-z]+ (?:of )?)?(?:[A-Z][\w’'-]+(?: of| the| and)* ?){1,4})(?:[.,]| in \d)"
)
ACTED_AT = re.compile(
    r"^(?P<clause>[^,;:]+? (?:moved|traveled|arrived|settled|landed|lived|died|worked|studied|taught|returned|fled|sailed|grew up|met|gathered|began"
    r"|emerged|originated|occurred|took place)) (?P<preposition>to|in|at|near"
    r"|on) (?P<answer>(?:the )?(?:[A-Z][\w’'-]+(?: of| the)* ?){1,3})(?=[.,]| in \d| to | for | with | and )"
)
DEFINED = re.compile(
    r"^(?P<term>(?:(?:A|An|The) )?[A-Za-z][\w’'\- ]{2,40}?(?: \([^()]{2,30}\))?) (?P<verb>is|are|was|refers to|means|is defined as|occurs when)"
    r" (?P<answer>(?:a|an|the|any|when|two|groups?|people|those) [^;:()]{12,150}?)(?:, which [^,]*|, such as [^;]*|, or [^,]*)?[.]$"
)
CALLED = re.compile(
    r"(?P<definition>\b(?:[Aa]n?|[Tt]he) [^,;:()“”]{12,110}?),? (?:is|are|was|were|which is|which are)?,? ?(?:called|known as|referred to as|termed)"
    r" (?:an? |the )?“?(?P<answer>[a-z][a-z\-]{2,}(?: [a-z\-]{2,}){0,2}|[A-Z][a-z\-]+(?: [A-Z][a-z\-]+){0,3})”?(?=[.,;])"
)
COUNTED_SUBJECT = re.compile(rf"^(?P<answer>{NUMBER}) (?P<noun>{NOUN}) (?P<tail>[^,;:]+)[.]$", re.IGNORECASE)
COUNTED_OBJECT = re.compile(
    rf"^(?P<subject>[^,;:]+?) (?P<verb>has|have|had|contains?|contained|includes?|included|killed|employs?|employed|received|won|lost|produced|served"
    rf"|needed|requires?|required|sold|built|made|operates?|operated|owns?|owned|wrote|published|sent|freed|attracted|created|consists? of"
    rf"|comprises?|identified|visited|recorded|covers?|covered) (?P<answer>{NUMBER}) (?P<noun>{NOUN})\b(?P<tail>.*)$"
)
THERE_ARE = re.compile(rf"^There (?P<be>are|were) (?P<answer>{NUMBER}) (?P<noun>{NOUN})\b(?P<tail>[^,;:.]*)")
PERIOD = r"(?:years?|months?|days?|hours?|weeks?|minutes?|seconds?|decades?|centuries|generations)"
LASTED = re.compile(
    rf"^(?P<clause>[^;:]+?) (?:for )?(?P<answer>{NUMBER} {PERIOD})(?:[.]|,? (?:and|but|before|until|from|because|when|in|as|with)\b[^;]*)$"
)
MONEY = re.compile(
    r"^(?P<clause>[^;:]+? (?P<verb>costs?|paid|pays|earned|earns|spent|spends|raised|received|owed|donated|charged?"
    r"|charges|invested|borrowed|lost|made|gave|owes|sold for))"
    r" (?P<answer>(?:(?:about|nearly|almost|around|over|more than|approximately|at least|some|only"
    r"|roughly) )?\$\d[\d,.]*(?: (?:million|billion|trillion))?)"
    r"(?P<tail>[^;:]*)$"
)
REASON = re.compile(
    r"^(?P<clause>[^;:()“”]{15,120}?),? (?P<answer>(?:because|due to|because of|since it|owing to) [^;()“”]{12,120})[.]$"
)
REASON_FIRST = re.compile(r"^(?P<answer>Because(?: of)? [^,;()“”]{10,100}), (?P<clause>[^;:()“”]{15,110})[.]$")
EXAMPLES = re.compile(
    r"(?<![\w\-–])(?P<group>(?:[a-z\-]+ ){0,1}[a-z\-]+s),? (?:such as|including|like"
    r"|for example,) (?P<answer>(?:[\w’'\- ]{2,30}, ){1,5}(?:and|or) [\w’'\- ]{2,30}"
    r"|[\w’'\-]+(?: [\w’'\-]+)? (?:and|or) [\w’'\-]+(?: [a-z\-]+)?)(?=[.;,])"
)
COLON_LIST = re.compile(
    rf"(?P<group>\b(?:the )?(?:{NUMBER_WORDS}) (?:[a-z\-]+ ){{0,2}}[a-z\-]+s(?: of [a-z ]{{3,40}})?): "
    rf"(?P<answer>(?:[^.,;:]{{3,40}}, ){{1,5}}and [^.,;:]{{3,40}})[.]"
)
PASSIVE_BY = re.compile(
    r"^(?P<clause>[^,;:]+? (?:was|were|is|are) (?:[a-z]+ly )?(?:[a-z]+ed|written|built|led|made|taken|given|won"
    r"|driven|held|drawn|begun|overthrown|shown|known"
    r"|run|sold|set)) by (?P<answer>(?!\d)(?:the |a |an )?[\w’'\-]+(?: [\w’'\-]+){0,5})(?P<tail>[.]|,? in .*[.]$)"
)
LETTERS = re.compile(
    r"(?P<long>(?:[A-Z][\w’\-]+|[a-z]+)(?: (?:[A-Z][\w’\-]+|of|and|for|the|on|to|[a-z\-]+)){1,6}) \((?P<short>[A-Z]{2,6})\)"
)
APPOSITIVE = re.compile(
    rf"(?P<name>{PERSON}), (?P<answer>(?:a|an|the) [^,;:()“”]{{8,80}}?|(?:president|director|professor|founder|head"
    rf"|author|chief|leader) [^,;:()“”]{{4,60}})[,.]"
)
PERSON_IS = re.compile(rf"^(?P<name>{PERSON}) was (?P<answer>(?:an?|the) [^,;:()“”]{{8,80}})[,.]")
NAMED_AFTER_ROLE = re.compile(rf"\b(?P<answer>[Tt]he (?:[A-Z][a-z]+ )?[a-z]+(?:ist|er|or|ian|ect|ant|cher)) (?P<name>{PERSON})\b")
USED = re.compile(
    r"^(?P<subject>[^,;:()]+?) (?P<be>is|are|was|were|can be|may be)(?: often| also| commonly"
    r"| typically)? used (?P<answer>(?:to|for) [^,;:()]{8,90})[.]$"
)
PERCENTAGE = re.compile(
    r"(?P<answer>(?:(?:[Aa]bout|[Nn]early|[Aa]lmost|[Aa]round|[Oo]ver|[Mm]ore than|[Aa]pproximately|[Rr]oughly|[Oo]nly|[Uu]p to) )?"
    r"(?:\d+(?:\.\d+)?|[a-z]+) ?(?:percent|%)) of (?P<rest>[^,;:()]{12,110})[.]$"
)
MADE_OF = re.compile(
    r"^(?P<subject>[^,;:()]+?) (?P<verb>is|are|was|were)(?: mostly| mainly| largely| usually| often| typically"
    r"| primarily)? (?P<how>made up of|made of|composed of|made from"
    r"|based on|derived from|measured in|caused by|named after|known for|divided into|responsible for"
    r"|associated with|related to|filled with|located in)"
    r" (?P<answer>[^,;:()]{4,80}?)(?:, (?:which|and|but|so|a|an|the) [^;]*)?[.]$"
)
WITH_PREPOSITION = re.compile(
    r"^(?P<verb>depends?|depended|leads?|led|results?|resulted|refers?|referred|belongs?|belonged|consists?"
    r"|consisted|relies|rely|relied|comes?|came|differs?"
    r"|focuses|focus|focused|responds?|contributes?|contributed|suffer|suffers|suffered|corresponds?|applies|apply"
    r"|called|deals?|dealt|begins?|began)$"
)


def matches(pattern: re.Pattern[str], sentences: tuple[str, ...]) -> list[re.Match[str]]:
    """Return the matches of a pattern at the start of sentences."""
    return [match for sentence in sentences if (match := pattern.match(sentence))]
