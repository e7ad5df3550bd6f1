"""What a use case's page says beside its figures: the other way of tuning that was measured, and a case where tuning was not the right answer.

Enters: nothing. Leaves: `CASES`, in the order of the gallery. In the words, `{score/arm}` is a figure of all held-out rows and `{slice@score/arm}` one of
a slice, so that no figure is written by hand.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a page needs beyond figures and the use case's own words.

    `instruction` is what a person would write above the question; a searched prompt tries it. `alternative` is how the other run differs on the
    command line, `alternative_is` what it is; `read` says how to read the table, `not_right` tells the case where tuning was not the right answer.
    `documents` are files of the folder in which a prompted arm looks passages up; `prompted_model` is prompted instead of the run's own base.
    """

    instruction: str
    alternative: str
    alternative_is: str
    read: str
    not_right: str
    documents: tuple[str, ...] = ()
    prompted_model: str = ""


CASES: dict[str, Case] = {
    "chatbot": Case(
        instruction="Answer the customer of a shop for blinds. For an order number call order_status; what you do not know, hand over with hand_over.",
        alternative="technique=lora train.learning_rate=5e-3",
        alternative_is="LoRA instead of all weights",
        read="""\
`reply` judges words and calls by one figure; `tool_call` is of the rows that expect a call alone. The base has never seen the handbook, so that
all it can do is to repeat what stands in its examples.
""",
        not_right="""\
What the handbook does not say and what is none of the shop's business is where a small model fails: {not in the handbook@reply/tuned} and {out
of scope@reply/tuned}, against {handbook@reply/tuned} on the handbook itself. A question about fire ratings looks like a question about fabric.
For that, put a gate before the chat (a classifier with *unknown* as a label, or retrieval that must find a passage), and for facts that change
weekly take retrieval: tuning learned them by heart.
""",
    ),
    "sentiment": Case(
        instruction="Is this review of a skin care product positive, negative or mixed? Answer with one of these words.",
        alternative="objective=sft train.learning_rate=1e-3",
        alternative_is="the label written by the model (`sft`) instead of read by a head",
        read="""\
All three labels count the same in `macro_f1`; always saying *positive* gives about 0.17.
""",
        not_right="""\
On plain reviews the classical row, TF-IDF with a linear model, has {plain@macro_f1/classical} and the tuned model {plain@macro_f1/tuned}: there
it is the better choice, since it costs nothing to run and takes a second to learn. The two part on trade words, {trade words@macro_f1/classical}
against {trade words@macro_f1/tuned}, where a word means what its sentence makes of it. And where a review decides about a recall, let a person
read what is marked *mixed*.
""",
    ),
    "technical-diagnosis": Case(
        instruction="Write cause, check and priority (1 danger, 2 line stands, 3 loss, 4 can wait) of this entry as JSON.",
        alternative="technique=lora train.learning_rate=5e-3",
        alternative_is="LoRA instead of all weights",
        read="""\
`json_field_f1` counts each of the three fields; `exact_match` wants all of them right at once, and that is what a planner who does not look
again would live with.
""",
        not_right="""\
Rare causes have three wordings each to learn from, and it shows: {rare causes@json_field_f1/tuned} of their fields are right, against
{usual@json_field_f1/tuned} of the usual ones. For causes with so few entries, look the old work orders up instead and let the planner read them:
a new cause is then known the day it is written down.
""",
    ),
    "automotive-parts": Case(
        instruction="Answer as JSON: part and years, or fits and part, or oil and litres, or code, system and meaning; what is not known is unknown.",
        alternative="technique=lora train.learning_rate=5e-3",
        alternative_is="LoRA instead of all weights",
        read="""\
`exact_match` is what counts when a number is ordered. The nearest old question often names the same car or the same part, seldom both with the
right phase.
""",
        not_right="""\
What the catalogue does not hold: {not in the catalogue@json_field_f1/tuned} of the fields are right there, against {part
wanted@json_field_f1/tuned} of the usual questions. A car that is nearly one of the catalogue's gets that one's number, in the same assured form;
and in the year of the facelift, where the rule turns, it is {year of the facelift@json_field_f1/tuned}. A catalogue with a fitment table answers
both exactly, in microseconds, and is right the day it changes: where there is one, let the model only read car, part and year out of the
question, and look the number up.
""",
    ),
    "code-style": Case(
        instruction="Rewrite this function with snake case names, type hints and a one-line docstring. Answer with code only.",
        alternative="technique=lora train.learning_rate=5e-3",
        alternative_is="LoRA instead of all weights",
        read="""\
`python_clean` alone would flatter: a clean function that does something else counts there. `exact_match(strict=true)` does not forgive a single
character.
""",
        not_right="""\
Names with capitals that stand together (`parseHTMLPage`) are rare in the rows, and it shows: {acronyms@exact_match(strict=true)/tuned}, against
{usual@exact_match(strict=true)/tuned} of the usual ones. A codemod with a table of acronyms is exact and free; so is `ruff --fix` for most of
what `before` suffers from. Tuning was right for the docstrings and the two teams' rules, not for the names.
""",
    ),
    "mail-drafting": Case(
        instruction="Write the mail that this brief asks for, in the form of the house. Keep every name, date and figure.",
        alternative="technique=lora train.learning_rate=5e-3",
        alternative_is="LoRA instead of all weights",
        read="""\
`facts_kept` alone would flatter whoever copies the brief: it says that nothing was lost or invented, not that it is a mail. The classical row
shows it.
""",
        not_right="""\
Ten matters in three houses are thirty templates, and a mail merge with thirty templates gets every figure right, always. The tuned model has
{facts_kept/tuned} of the facts and {two matters@exact_match(strict=true)/tuned} of the mails with two matters to the letter. Where matters are
as few as here, take templates; tuning pays where briefs come in everybody's own words and matters are combined.
""",
    ),
    "brand-voice": Case(
        instruction="Write a short text from these notes in the voice that is named. Keep every figure.",
        alternative="technique=lora train.learning_rate=5e-3",
        alternative_is="LoRA instead of all weights",
        read="""\
`facts_kept` alone would flatter whoever copies the notes; `exact_match(strict=true)` is the brand book kept to the letter.
""",
        not_right="""\
Notes with a banned word are the rarer case: {a banned word in the notes@exact_match(strict=true)/tuned}, against
{plain@exact_match(strict=true)/tuned} of plain notes. A list of banned words and their substitutes, applied by a program before the model sees
the notes, is right every time and can be changed by whoever keeps the book. Tuning was right for the voices, not for the list.
""",
    ),
    "legal-analysis": Case(
        instruction="Say in plain words what this clause means. Begin with the number of its section.",
        alternative="technique=lora train.learning_rate=5e-3",
        alternative_is="LoRA instead of all weights",
        read="""\
The classical row names what the most similar clause of the training rows says, with that clause's section and parties: it reads well and is
wrong.
""",
        not_right="""\
A clause of a thirteenth kind would come out as one of the twelve, in the same assured words: no row of these can show it. Before a contract of a
new kind is read this way, a person has to look at its clauses, or a classifier with *unknown* has to stand before the model. And for a single
contract a month, reading it costs less than the rows: prompting a large model beats both.
""",
    ),
    "medical-assessment": Case(
        instruction="Write complaint, since, red_flag and see (now, today, routine or self care) of this note as JSON.",
        alternative="technique=lora train.learning_rate=5e-3",
        alternative_is="LoRA instead of all weights",
        read="""\
A decision aid, not a doctor. The figure to look at is the slice *red flag*: what is missing there to 1 are flags that were missed or misnamed.
""",
        not_right="""\
With a flag there and another denied, the model has {one flag there, one denied@exact_match/tuned} of the notes wholly right; with a single flag
{red flag@exact_match/tuned}. For the list of red flags itself, a search for their words that errs on the side of alarm misses less than any
model of this size, and its misses can be explained. Let the model fill in the fields, and let that search decide who is called back first.
""",
    ),
    "science-assistant": Case(
        instruction="Does the reading hold its limit? Write quantity, finding (held, broken, close or cannot tell) and rests_on as JSON.",
        alternative="technique=lora train.learning_rate=5e-3",
        alternative_is="LoRA instead of all weights",
        read="""\
Two of the three fields are read off the line; the finding takes a comparison. `exact_match` wants all three.
""",
        not_right="""\
Comparing two numbers is no job for a language model: close to the limit {close to the limit@exact_match/tuned} of the lines are wholly right,
elsewhere {plain@exact_match/tuned}. Two numbers and a sign are compared by a program without a single error. Let the model read quantity,
reading and limit out of the line, in whatever form it comes, and compare them afterwards.
""",
    ),
    "knowledge-update": Case(
        instruction="Answer in a few words. Today is June.",
        alternative="technique=lora train.learning_rate=5e-3",
        alternative_is="LoRA instead of all weights",
        documents=("guideline-march.jsonl", "guideline-june.jsonl"),
        read="""\
*Retrieval* is the base with passages of both guidelines found by the words of the question. It can answer only as well as a model of this size
reads.
""",
        not_right="""\
A rule that changes tomorrow: here a document is edited in a minute, and tuning starts again. And what held in March suffers from what holds in
June: {as it was in March@exact_match/tuned} of the old answers are right, against {changed since March@exact_match/tuned} of the new ones. Where
the date matters, keep the documents, and let a model that reads well answer from them; a larger base does.
""",
    ),
    "programming-tutor": Case(
        instruction="Name the line with the bug and give a hint for the learner's level, without the answer.",
        alternative="technique=lora train.learning_rate=5e-3",
        alternative_is="LoRA instead of all weights",
        read="""\
`exact_match(strict=true)` wants line, kind of bug and level all right at once.
""",
        not_right="""\
Programs without a bug: {no bug@exact_match(strict=true)/tuned} of them are told so, against {usual@exact_match(strict=true)/tuned} of the right
hints where there is one. Whether a program runs is not a question for a model: run it, and let the tutor speak only where it fails; half of the
kinds here are found by the interpreter, with the line.
""",
    ),
    "summarise-translate": Case(
        instruction="Do what is asked with this notice: sum it up in one line, or put it into German.",
        alternative="technique=lora train.learning_rate=5e-3",
        alternative_is="LoRA instead of all weights",
        read="""\
To the letter means every date, the house, the term and the reason; a single slip makes a summary worthless to whoever stands before the closed
door.
""",
        not_right="""\
A notice without an end is where the model is tempted to give one: {no end given@exact_match(strict=true)/tuned} to the letter there, against
{translate@exact_match(strict=true)/tuned} and {summarise@exact_match(strict=true)/tuned} of the others. For notices that a house management
writes itself, a form with five fields prints both texts without an error; tuning pays for notices that others write.
""",
    ),
    "small-beats-large": Case(
        instruction="Sort this message of a customer into one of the categories of the help desk. Answer with the category alone.",
        alternative="model.layers=2 model.hidden=64 model.feed_forward=192 model.heads=2 model.key_heads=2",
        alternative_is="a quarter of a million parameters instead of a million",
        prompted_model="tiny-chat",
        read="""\
The prompted columns are `tiny-chat`, ten times larger, with the same rows as examples; the tuned one began with random weights. The same two
ways on real models (a small one of the hub tuned by the same file, a large one prompted) were not measured here.
""",
        not_right="""\
The classical row, TF-IDF with a linear model, has {accuracy/classical}, and the small model {accuracy/tuned}: for messages sorted by their words
a linear model is smaller than small, learns in a second and answers in less than a millisecond. A small network pays where order and form
matter, or where the answer is more than a label.
""",
    ),
    "human-preferences": Case(
        instruction="Reply to the customer. Say what happens next and by when.",
        alternative="objective=dpo train.learning_rate=1e-4",
        alternative_is="`dpo` on the same pairs instead of a reward model",
        read="""\
The prompted columns are what the untuned base finds likelier behind an instruction or examples; half is chance. The tuned one is the reward
model's.
""",
        not_right="""\
The classical row, a weighted sum of words, tells {preference_accuracy/classical} of the pairs right, the reward model
{preference_accuracy/tuned}: where raters follow a rule that words give away, a rule of words is a reward that can be read, and that a policy
cannot fool in ways that nobody sees. In close calls it is {close call@preference_accuracy/classical} against {close
call@preference_accuracy/tuned}.
""",
    ),
    "domain-language": Case(
        instruction="Go on with this shift report.",
        alternative="technique=lora train.learning_rate=2e-3",
        alternative_is="LoRA instead of all weights",
        read="""\
Lower is better. The prompted columns are the untouched base with nothing, or with another report of the plant, before the text; only the text
itself is counted.
""",
        not_right="""\
The classical row, a 5-gram model of bytes that learned from the same reports in a second, needs {bits_per_byte/classical} bits a byte, the tuned
model {bits_per_byte/tuned}. To tell odd reports from usual ones, or to complete half-typed ones, that model is enough. And whoever tunes on a
task next, with a thousand rows in this language, may find that the step before brought nothing: measure the task with and without it.
""",
    ),
}
