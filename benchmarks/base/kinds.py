"""The kinds of questions, each with its phrasings: at least nine, in different styles.

In: nothing. Out: `KINDS`; which kinds are kept from training is marked here, which phrasings is decided in `wording.py`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of question: its phrasings with {slots}, whether its answers stand in the passage, whether it is kept from training."""

    phrasings: tuple[str, ...]
    extractive: bool = True
    held_out: bool = False


def _kind(phrasings: str, *, extractive: bool = True, held_out: bool = False) -> Kind:
    return Kind(phrasings=tuple(line.strip() for line in phrasings.strip().splitlines()), extractive=extractive, held_out=held_out)


KINDS: dict[str, Kind] = {
    "when": _kind("""When {inverted}?
        At what time in history {inverted}?
        When was it that {statement}?
        What is the date when {statement}?
        {statement_capital}. When was that?
        When {inverted}? Give the date.
        What date does the text give: when {inverted}?
        Can you tell me when {statement}?
        Give the date at which {statement}."""),
    "who": _kind("""Who {predicate}?
        Which person {predicate}?
        What is the name of the person who {predicate}?
        Who was it that {predicate}?
        Name the person who {predicate}.
        Can you name the person who {predicate}?
        Do you know who {predicate}?
        Tell me who {predicate}.
        Somebody {predicate}. Who?"""),
    "what-is": _kind("""What {is} {term}?
        How does the passage define {term}?
        What is meant by "{bare}"?
        How is "{bare}" explained here?
        Define {bare}.
        Explain in a few words what {term} {is}.
        Please tell me what {term} {is}.
        What does the text say {term} {is}?
        {term_capital}: what does this mean?"""),
    "term-for": _kind("""What is the term for {definition}?
        Which word or phrase stands for {definition}?
        What do we call {definition}?
        Which term means {definition}?
        Name this: {definition}.
        What is the name for {definition}?
        Give the term for {definition}.
        Which expression in the text describes {definition}?
        "{definition}" - which term is this?"""),
    "how-many": _kind("""How many {counted}?
        Exactly how many {counted}?
        Give the number: how many {counted}?
        According to the text, how many {counted}?
        Please say how many {told}.
        Tell me how many {told}.
        What number does the text give? How many {counted}?
        Do you know how many {told}?
        How many {counted}, as far as the text says?"""),
    "what-happened": _kind("""What happened {date}?
        What took place {date}?
        Which event of that time is described? What happened {date}?
        What does the text tell us about the time {date}?
        Tell me what happened {date}.
        What occurred {date}?
        What was going on {date}?
        Name what happened {date}.
        What do we learn about events {date}?"""),
    "how-long": _kind("""How long {inverted}?
        For how long {inverted}?
        For how much time {inverted}?
        Tell me how long {statement}.
        {statement_capital}. For how long?
        How much time does the text give? How long {inverted}?
        Say how long {statement}.
        Do you know how long {statement}?
        What length of time is named: how long {inverted}?"""),
    "how-much": _kind("""How much {inverted}?
        How much money {inverted}?
        What amount {inverted}?
        Tell me how much {statement}.
        Give the sum: how much {inverted}?
        What sum does the text name: how much {inverted}?
        Say how much {statement}.
        Do you know how much {statement}?
        {statement_capital} how much?"""),
    "where": _kind("""Where {inverted}?
        In which place {inverted}?
        In what place {inverted}?
        Name the place: where {inverted}?
        Where was it that {statement}?
        Can you tell me where {statement}?
        {statement_capital}. Where was that?
        State where {statement}.
        At what place {inverted}?""", held_out=True),
    "why": _kind("""Why {inverted}?
        For what reason {inverted}?
        What is the reason that {statement}?
        Explain why {statement}.
        How does the passage explain that {statement}?
        Can you tell me why {statement}?
        Give the reason: why {inverted}?
        {statement_capital}. Why?
        The text says that {statement}. What reason does it give?"""),
    "what-object": _kind("""What {inverted}?
        What exactly {inverted}?
        According to the passage, what {inverted}?
        What was it that {statement}?
        Tell me what {statement}.
        Can you say what {statement}?
        {statement_capital} what?
        Complete this from the text: {statement_capital} ...
        From the text: what {inverted}?"""),
    "what-subject": _kind("""What {predicate}?
        Which thing {predicate}?
        According to the text, what {predicate}?
        What is it that {predicate}?
        Name what {predicate}.
        Can you tell me what {predicate}?
        Something {predicate}. What is it?
        Say what {predicate}.
        Of what does the text say that it {predicate}?"""),
    "by-whom": _kind("""By whom {inverted}?
        By whom or by what {inverted}?
        Who or what was responsible: by whom {inverted}?
        {statement_capital} by whom?
        Who is named here? By whom {inverted}?
        Tell me by whom {statement}.
        Can you say by whom {statement}?
        State by whom {statement}.
        Which agent is named? {statement_capital} by ...""", held_out=True),
    "stands-for": _kind("""What does {short} stand for?
        What does the abbreviation {short} mean?
        Write {short} in full.
        What do the letters {short} stand for?
        {short} is short for what?
        Spell out the abbreviation {short}.
        What is the full form of {short}?
        In the text, {short} means what?
        Please expand {short}."""),
    "short-for": _kind("""What is the abbreviation for {long}?
        Which letters stand for {long}?
        How is {long} abbreviated?
        Give the short form of {long}.
        What is {long} called for short?
        By which letters is {long} known?
        Which abbreviation is used for {long}?
        {long_capital} is shortened to what?
        Tell me the abbreviation of {long}.""", held_out=True),
    "who-was": _kind("""Who was {name}?
        Who is {name}?
        What does the text say about who {name} was?
        How is {name} described?
        {name}: who was this?
        Tell me who {name} was.
        How does the passage introduce {name}?
        Describe {name} in the words of the text.
        What was {name}?""", held_out=True),
    "used-for": _kind("""What {be} {subject} used to do?
        For what purpose {be} {subject} used?
        What {be} {subject} used for?
        Say what {subject} {be} used for.
        {subject_capital} {be} used to do what?
        Tell me the use of {subject}.
        What use of {subject} is named?
        Why would one use {subject}?
        What is the purpose of {subject}?""", held_out=True),
    "percentage": _kind("""What share of {rest}?
        What percentage of {rest}?
        How large a share of {rest}?
        Which percentage of {rest}?
        Give the percentage: what part of {rest}?
        What percent of {rest}?
        Tell me what percentage of {rest}.
        State what share of {rest}.
        How much of the whole: what part of {rest}?"""),
    "made-of": _kind("""What {be} {subject} {how}?
        {subject_capital} {be} {how} what?
        Name what {subject} {be} {how}.
        What does the text say {subject} {be} {how}?
        Tell me what {subject} {be} {how}.
        According to the passage, what {be} {subject} {how}?
        What is it that {subject} {be} {how}?
        Complete from the text: {subject} {be} {how} ...
        Say what {subject} {be} {how}."""),
    "colon-list": _kind("""What are {group}?
        Which are {group}?
        List {group}.
        Name {group}.
        Can you name {group}?
        Write down {group}.
        Give {group} from the text.
        Tell me {group}.
        Enumerate {group}."""),
    "list": _kind("""Which examples of {group} are given?
        What examples of {group} does the passage name?
        List the {group} that are named as examples.
        Name the examples of {group}.
        Which {group} are mentioned as examples?
        Give the examples of {group} from the text.
        The text mentions {group} such as what?
        What are some {group}, according to the text?
        Examples of {group}:"""),
    "cloze": _kind("""Fill in the blank: {gapped}
        Which words are missing? {gapped}
        Complete the sentence with the missing words. {gapped}
        "{gapped}" What belongs in the gap?
        What stands in place of the blank? {gapped}
        Find the missing words: {gapped}
        {gapped} Write only what fills the gap.
        One part of this sentence is missing. Give it. {gapped}
        Put in what is missing: {gapped}"""),
    "continue": _kind("""Which words come after "{start}"?
        How does the sentence go on that begins "{start}"?
        Finish the sentence: {start}
        Complete: "{start} ..."
        After "{start}", what does the text say next?
        The text has the words "{start}". What follows them?
        What comes next in the passage? {start}
        Go on as in the text: {start}
        "{start}" ... Continue with the words of the passage.""", held_out=True),
    "next-word": _kind("""Which word comes right after "{start}"?
        What is the next word after "{start}"?
        Give the single word that follows "{start}".
        In the passage, "{start}" is followed by which word?
        One word: what stands right after "{start}"?
        After the words "{start}" comes which word?
        Find "{start}". Which word is next?
        Name the word just after "{start}".
        "{start}" - and the next word is?"""),
    "copy": _kind("""Copy the sentence that mentions "{phrase}".
        Which sentence contains "{phrase}"?
        Quote the sentence with the words "{phrase}".
        Find the sentence in which "{phrase}" appears and write it out.
        Write down the whole sentence that has "{phrase}" in it.
        Where is "{phrase}" mentioned? Give the full sentence.
        Repeat the sentence about "{phrase}" word for word.
        Show me the sentence with "{phrase}".
        Cite the sentence in which one reads "{phrase}"."""),
    "first-sentence": _kind("""What is the first sentence?
        Copy the first sentence of the passage.
        How does the passage begin? Give the whole sentence.
        Quote the opening sentence.
        Write out the sentence with which the text starts.
        Which sentence comes first?
        Repeat the first sentence.
        Give me sentence number one.
        The text opens with which sentence?"""),
    "last-sentence": _kind("""What is the last sentence?
        Copy the last sentence of the passage.
        How does the passage end? Give the whole sentence.
        Quote the closing sentence.
        Write out the sentence with which the text ends.
        Which sentence comes last?
        Repeat the final sentence.
        Give me the very last sentence.
        The text closes with which sentence?""", held_out=True),
    "which-of-two": _kind("""Which of these is mentioned: {first} or {second}?
        {first} or {second}: which one does the passage mention?
        Does the text speak of {first} or of {second}?
        Only one of the two is in the text: {first} or {second}. Which?
        Choose the one that appears in the passage: {first} / {second}
        Is it {first} or {second} that the passage names?
        Of {first} and {second}, only one occurs. Which one?
        Pick one. The text is about {first} or {second}?
        Which name stands in the text, {first} or {second}?"""),
    "evidence": _kind("""Does the passage mention {phrase}? If so, quote the sentence.
        Is {phrase} mentioned? Answer yes or no, with the sentence.
        Say whether {phrase} appears in the text and quote the place.
        Yes or no, with the sentence that shows it: is {phrase} named?
        Is there anything about {phrase} here? Quote it.
        Can you find {phrase} in the passage? Show where.
        {phrase}: mentioned or not? Give the sentence.
        Check if {phrase} occurs. If it does, copy the sentence.
        Does {phrase} come up? Prove it with a quotation.""", extractive=False),
    "truth": _kind("""True or false? {claim}
        Is this statement true according to the passage? {claim}
        {claim} True or false?
        Judge this by the text, true or false: {claim}
        Right or wrong by the passage (say true or false)? {claim}
        Say "true" or "false": {claim}
        Statement: {claim} Is it true or false?
        Check this claim against the text (true/false): {claim}
        Decide: true or false. {claim}""", extractive=False),
    "subject": _kind("""What school subject does this passage belong to?
        Which subject is this text about: {choices}?
        Name the subject of the passage. Choose from: {choices}.
        Is this from a book on {choices}?
        Pick the subject: {choices}.
        To which subject does the text belong? ({choices})
        Choose the field that fits the passage: {choices}.
        Classify the passage: {choices}.
        Which of these fits the text best: {choices}?""", extractive=False),
    "named-person": _kind("""Which person is named in the passage?
        Give the name of the person mentioned in the text.
        Whose name appears here?
        Name the person who is mentioned.
        Who is mentioned by name?
        Write down the name of the person in this passage.
        A person is named in the text. Who is it?
        Find the name of a person.
        Extract the person's name."""),
    "named-year": _kind("""Which year is mentioned in the passage?
        Give the year that the text names.
        What year do you find in the text?
        Write down the year mentioned here.
        Only one year is named. Which?
        Name the year that appears.
        Find the year.
        Extract the year from the passage.
        A year is mentioned. Which one is it?""", held_out=True),
}  # fmt: skip
