"""What is asked of the model for each kind of row, and what its reply says: paraphrases, and questions with answers.

Called by `synthesize`. A passage in, a prompt out; a reply in, candidates out, still unchecked (`synthesize_checks`). The wording of a
prompt has a version, which stands in every row; change the version with the wording.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Candidate = Mapping[str, str]
"""The texts of a row under the standard names of its format."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of row.

    `ask(passage, sample) -> prompt` differs from sample to sample, so that several replies on one passage are not one reply several
    times; `read(reply) -> candidates`, none where the reply is something else; `max_tokens` bounds the reply.
    """

    version: str
    format: str
    ask: Callable[[str, int], str]
    read: Callable[[str], list[dict[str, str]]]
    max_tokens: int


STYLES = (
    "Say it in plain, everyday words.",
    "Say it as a reference book would.",
    "Say it as a patient colleague would explain it to a beginner.",
    "Say it with other words and in another order.",
    "Say it as briefly as you can without losing a fact.",
)
ASPECTS = (
    "Ask about the most important fact.",
    "Ask about a number, a time, a place or a name.",
    "Ask about a reason, a condition or a rule.",
    "Ask about a detail that a reader might overlook.",
    "Ask as a newcomer would who has to act on it.",
)


def ask_paraphrase(passage: str, sample: int) -> str:
    """Return the prompt for a paraphrase. In several styles, since facts said in several ways are learned better.

    Source of the idea: Maini et al. 2024, "Rephrasing the Web", arXiv 2401.16380; Ovadia et al. 2023, arXiv 2312.05934.
    """
    return (
        f"Rewrite the passage. {STYLES[sample % len(STYLES)]} Keep every fact, name and number, and add nothing. "
        f"Reply with the new text only.\n\nPassage:\n{passage}"
    )


def ask_question(passage: str, sample: int) -> str:
    """Return the prompt for one question on a passage, with the answer as the passage has it."""
    return (
        f"Write one question that this passage answers, and its answer. {ASPECTS[sample % len(ASPECTS)]} The question must be "
        f"understood without the passage. Copy the answer from the passage, as short as possible.\n"
        f"Reply in two lines:\nQuestion: …\nAnswer: …\n\nPassage:\n{passage}"
    )


_LEAD = re.compile(
    r"\A\s*(?:(?:sure|certainly|of course|here)\b[^\n]{0,80}:\s*\n|(?:rewritten|new)?\s*(?:text|passage|version)\s*:)\s*", re.I
)
_QUESTION = re.compile(r"^[\s*#>\-\d.)]*(?:question|q)(?:\s*\d+)?\W{0,3}:\W{0,3}(?=\w)", re.IGNORECASE | re.MULTILINE)
_ANSWER = re.compile(r"^[\s*#>\-]*(?:answer|a)(?:\s*\d+)?\W{0,3}:\s*", re.IGNORECASE | re.MULTILINE)


def read_paraphrase(reply: str) -> list[dict[str, str]]:
    """Return the new text, an introduction such as "Here is the text:" and quotes around all of it left out."""
    text = _LEAD.sub("", reply.strip(), count=1).strip()
    if len(text) > 1 and (text[0], text[-1]) in {('"', '"'), ("“", "”")}:
        text = text[1:-1].strip()
    return [{"text": text}] if text else []


def read_questions(reply: str) -> list[dict[str, str]]:
    """Return each question with the answer after it, written as two lines that say so; none where there are no such lines."""
    questions = list(_QUESTION.finditer(reply))
    ends = [*[found.start() for found in questions], len(reply)][1:]
    pairs = []
    for found, end in zip(questions, ends, strict=True):
        parts = _ANSWER.split(reply[found.end() : end], maxsplit=1)
        question = " ".join(parts[0].split()).strip("*_ ")
        answer = parts[1].strip().split("\n\n")[0].strip("*_ \n") if len(parts) == 2 else ""
        if question and answer:
            pairs.append({"question": question, "answer": " ".join(answer.split())})
    return pairs


KINDS: dict[str, Kind] = {
    "paraphrase": Kind("paraphrase-1", "text", ask_paraphrase, read_paraphrase, 400),
    "questions": Kind("questions-1", "question_answer", ask_question, read_questions, 120),
}
