"""Use case: what a review says of a product, in a trade whose words mean something else elsewhere. Bundled rows: reviews of skin care."""

from __future__ import annotations

from burnish.usecases.definition import USUAL, Guide, UseCase

EDIT = """\
Each line of `sentiment.jsonl` is one review:

    {"review": "Purged for three weeks, then clear skin.", "label": "positive", "kind": "trade words", "group": "review-041"}

1. Replace the file by your own reviews. Two people should label the same hundred first: where they disagree, write a rule.
2. Put the reviews that fool a stranger to your trade under a `kind` of their own (`data.columns.slice`): they are scored by themselves.
3. `group` keeps reviews that are worded alike on one side of the split. Leave the line out where every review is its own.
4. For public reviews of phones, films and restaurants: `data.source = "public:sentiment_uci"`, without the columns.
"""

GUIDE = Guide(
    when="""\
Choose it where many short texts must be sorted by what their writer thinks, and general sentiment models fail because your customers use the
trade's words: *purging* is bad news to a stranger and good news to somebody on retinoids. Choose prompting instead while you have fewer than
about fifty labelled rows, or while the labels still change every week.
""",
    rows="""\
A text and one of a few labels. Some hundreds of rows, a third of them hard ones collected on purpose; a thousand is comfortable. The bundled
rows are made up: 900 reviews drawn from 240 wordings on twenty topics; five of these are the trade's own.
""",
    method="""\
`classification`: a head on the pooled state reads the label, so that an answer is always one of the labels, comes with a probability, and costs
one forward pass instead of several. All weights move (`full`), which suits a model this small; take `lora` for one with billions. The
alternative is `sft`, where the model writes the label's name: it needs no head and keeps the model able to chat.
""",
    measure="""\
`macro_f1`: each label counts the same, however rare it is among your rows. Then the same for the slice *trade words* by itself: the average
hides it.
""",
    wrong="""\
Words are learned instead of meaning, and the hard cases come out wrong with full confidence. Reviews of one product stand on both sides of the
split and flatter the figure. Star ratings are taken as labels although people give four stars to what they hate about the parcel service.
""",
)


def sentiment() -> UseCase:
    """Return the run that learns to tell what a review thinks."""
    return UseCase(
        name="sentiment",
        summary="Tell what a review thinks, trade words included (skin care: positive, negative, mixed).",
        samples=("sentiment.jsonl",),
        run={
            "model": "tiny-chat",
            "seed": 0,
            "score": ["macro_f1", "accuracy"],
            "objective": {"name": "classification"},
            "data": {
                "source": "sentiment.jsonl",
                "format": "labelled",
                "dev_share": 0.1,
                "test_share": 0.3,
                "columns": {"text": "review", "label": "label", "group": "group", "slice": "kind"},
            },
            "technique": {"name": "full"},
            "train": {"epochs": 4, "batch": 16, "learning_rate": 5e-4},
            "evaluate": {"baseline": True},
        },
        notes={
            **USUAL,
            "score": "macro_f1: each label counts the same, however rare",
            "data.test_share": "many groups, so that the hard slice has enough of them too",
        },
        unset=(("evaluate.patience", 3, "stop when three evaluations in a row are no better"),),
        prompt="Purged like crazy until week four, and now my chin is clear.",
        edit=EDIT,
        guide=GUIDE,
    )
