"""Judge an answer in the middle of a chat: one line in the file that `burnish rate` writes, and that tuning reads.

Enters: the newest answer of a `Conversation`, alone or beside the base's. Leaves: a judgement with the prompt as it was put, added to the
file. Here the person knows who said what, which `burnish rate` hides; the file tells both the same way.
"""

from __future__ import annotations

from burnish.chat_talk import WRONG, Conversation
from burnish.errors import BurnishError
from burnish.rate import Candidate, append, item, judgement

ALONE = {"good": True, "bad": False}
BESIDE = {"model": "a", "base": "b", "tie": "tie", "bad": "both_bad"}
"""What can be said of an answer, and of two: the model's is the first of a row."""


def rate(talk: Conversation, word: str) -> None:
    """Add what a person says of the newest answer to the feedback file, or say what can be said."""
    if talk.feedback is None:
        talk.note("Judgements cannot be kept here: no file was given for them.", WRONG)
        return
    if talk.said is None:
        talk.note("There is no answer to judge yet.", WRONG)
        return
    known = ALONE if talk.said.base is None else BESIDE
    if word not in known:
        also = "" if talk.said.base is not None else "; after /compare also base, model, tie"
        talk.note(f"/rate {word}: expected {', '.join(known)}{also}.".replace("/rate :", "/rate:"), WRONG)
        return
    try:
        append(talk.feedback.file, _row(talk, word))
    except BurnishError as error:
        talk.note(f"{error} The judgement was not kept.", WRONG)
        return
    talk.note(f"noted in {talk.feedback.file}: {word}")


def _row(talk: Conversation, word: str) -> dict[str, object]:
    """Return the judgement as the file holds it."""
    assert talk.feedback is not None and talk.said is not None
    feedback, said, options = talk.feedback, talk.said, talk.options
    answers = [Candidate(said.text, feedback.model, feedback.version)]
    if said.base is not None and talk.base is not None:
        answers.append(Candidate(said.base, talk.base.name, talk.base.version))
    makers = [(one.version or one.model, 0, options.max_tokens, options.temperature, options.seed) for one in answers]
    asked = item(said.messages, makers)
    if len(answers) == 1:
        return judgement(asked, answers, rater=feedback.rater, sides=(0,), thumb=ALONE[word])
    return judgement(asked, answers, rater=feedback.rater, sides=(1, 0), choice=BESIDE[word])
