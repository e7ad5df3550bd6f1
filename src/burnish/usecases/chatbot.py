"""Use case: a shop's support chat that answers in the shop's words, looks orders up and hands over. Bundled rows: a shop for blinds."""

from __future__ import annotations

from burnish.usecases.definition import USUAL, Guide, UseCase

EDIT = """\
Each line of `chatbot.jsonl` is a conversation; the assistant answers in words, or calls a tool:

    {"messages": [{"role": "user", "content": "Where is my order LL-40213?"},
                  {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "order_status", "arguments": {"order": "40213"}}}]}]}

1. Write the handbook's answers first, one for each topic, as the firm wants them said. Then collect the many ways in which people ask.
2. Take real questions for what is *not* answered: other firms' business, complaints, what the handbook does not say. Without such rows the model
   answers everything.
3. A larger model is told of its tools by its chat template: give the rows a column `tools` with their JSON schemas.
4. What changes often (stock, prices of the week) belongs into a tool or the prompt, not into the weights.
"""

GUIDE = Guide(
    when="""\
Choose it where customers ask the same few dozen things in a thousand wordings, the answers must be the firm's own words, and everything else
must go to a person. Choose retrieval instead where answers change weekly or the handbook has hundreds of pages; choose both for a large handbook
in one tone of voice.
""",
    rows="""\
Questions with the answer in the firm's words, or with the call of a tool. Ten wordings a topic are a beginning, thirty are good, and a third of
all rows should be what is not to be answered. The bundled rows are made up: 724 messages drawn from 196 wordings on 29 topics of a handbook,
order numbers, and four reasons to hand over.
""",
    method="""\
`sft`: answers and calls are imitated token by token, so that words and tools are learned by one loss. All weights move (`full`), which suits a
model this small; take `lora` for one with billions, and try `dpo` on rated answers afterwards, once people have judged some.
""",
    measure="""\
`reply`: a call counts when name and arguments are right, words count by ROUGE-L against the handbook's, and nothing for a call where words were
expected. `tool_call` on the rows that expect one. The slices by themselves: order numbers, hand-overs, out of scope, not in the handbook.
""",
    wrong="""\
It answers what it does not know, in the firm's best tone. It copies an order number wrongly: check that a number stands in the message before
you call the tool. It goes on saying what the handbook said on the day of tuning.
""",
)


def chatbot() -> UseCase:
    """Return the run that learns to answer a shop's customers, to look orders up and to hand over."""
    return UseCase(
        name="chatbot",
        summary="Answer customers in the shop's words, look orders up, hand over what it does not know (a shop for blinds).",
        samples=("chatbot.jsonl",),
        run={
            "model": "tiny-chat",
            "seed": 0,
            "score": ["reply", "tool_call", "stop_rate"],
            "data": {
                "source": "chatbot.jsonl",
                "format": "messages",
                "dev_share": 0.1,
                "test_share": 0.2,
                "columns": {"messages": "messages", "group": "group", "slice": "kind"},
            },
            "technique": {"name": "full"},
            "train": {"epochs": 4, "batch": 8, "learning_rate": 1e-3},
            "evaluate": {"max_tokens": 64},
        },
        notes={
            **USUAL,
            "score": "reply: right calls, and words as in the handbook",
        },
        unset=(
            (
                "data.system",
                "You answer for Loom & Ladder. Tools: order_status(order), hand_over(reason).",
                "who the assistant is; helps a base that follows instructions",
            ),
        ),
        prompt="Where is my order LL-40213?",
        edit=EDIT,
        guide=GUIDE,
    )
