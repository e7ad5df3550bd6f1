"""Use case: a brief into a mail in the firm's form and tone. Bundled rows: three made-up houses with different rules."""

from __future__ import annotations

from burnish.usecases.definition import USUAL, Guide, UseCase

EDIT = """\
Each line of `mail.jsonl` is a brief, as somebody jots it down, and the mail that the house makes of it:

    {"house": "House: bike shop", "brief": "to Ms Ines Sato; R-2041 ready, pick up at the workshop until 14:00; from Pete", "mail": "Hi Ines,\\n…"}

1. Take mails that went out, and write the brief for each: that is quicker than the other way round, and the mails are real.
2. Strike out what no brief could know (a remark from last week's telephone call), or the model learns to make such things up.
3. One house needs no word in the prompt; several do (`data.columns.system`).
4. Take names and figures out of other people's mails before they become training data, and put others in.
"""

GUIDE = Guide(
    when="""\
Choose it where many short mails say the same kinds of things, each with its own names and figures, and the house has a form for address, tone
and close. Where ten templates with gaps do the job, use templates: they never drop a figure. It does not fit long or delicate letters.
""",
    rows="""\
A brief and its mail, some twenty for each kind of matter and house. The bundled rows are made up: 520 mails on ten matters by the rules of a law
office, a bike shop and an engineering office.
""",
    method="""\
`sft`: the mail is imitated. All weights move (`full`), which suits a model this small; take `lora` for one with billions. Where people have
judged drafts by their tone, `dpo` on the pairs goes on from there.
""",
    measure="""\
`exact_match(strict=true)`: the mail as the house writes it, to the letter, which is fair where the house has one form. `facts_kept`: every date,
sum, name and number of the brief stands in the mail, and none that nobody gave. `chrf`: how near the wording is. The slices *two matters*, *no
first name* and *with a mood* by themselves.
""",
    wrong="""\
A figure is changed on the way: check the figures of brief and mail by a program before anything is sent. The close of one house under the letter
of another. An apology that nobody authorised.
""",
)


def mail_drafting() -> UseCase:
    """Return the run that learns to write a house's mails from briefs."""
    return UseCase(
        name="mail-drafting",
        summary="Draft mails in the house's form and tone from a brief (law office, bike shop, engineers).",
        samples=("mail.jsonl",),
        run={
            "model": "tiny-chat",
            "seed": 0,
            "score": ["exact_match(strict=true)", "facts_kept", "chrf"],
            "data": {
                "source": "mail.jsonl",
                "format": "prompt_completion",
                "dev_share": 0.1,
                "test_share": 0.25,
                "columns": {"prompt": "brief", "completion": "mail", "system": "house", "group": "group", "slice": "kind"},
            },
            "technique": {"name": "full"},
            "train": {"epochs": 5, "batch": 8, "learning_rate": 1e-3},
            "evaluate": {"max_tokens": 96},
        },
        notes={
            **USUAL,
            "score": "the mail to the letter; names, dates and figures kept; how near its wording is",
            "data.columns.system": "which house",
        },
        unset=(("evaluate.patience", 3, "stop when three evaluations in a row are no better"),),
        prompt="Ms Ines Sato; R-2041 ready, pick up at the workshop until 14:00; from Pete",
        edit=EDIT,
        guide=GUIDE,
    )
