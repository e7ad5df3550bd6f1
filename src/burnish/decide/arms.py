"""Which ways to do a job are compared: what stands in the prompt, which weights answer, what it takes to keep them up.

Enters: a run with or without documents. Leaves: the arms that can be carried out, and the reasons why others cannot. Everything else of an arm
(the base, the prompt builder, the rows, the length of answers) is the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from burnish.errors import ConfigError, suggestion

Examples = Literal["none", "fixed", "nearest", "searched"]
Passages = Literal["none", "bm25", "dense", "fused", "gold", "wrong", "corpus"]
Weights = Literal["base", "tuned", "tuned on context", "random", "none"]


@dataclass(frozen=True, slots=True)
class Arm:
    """One way: worked examples and passages in its prompt, and the weights that answer.

    `parts` orders by what must be kept running; a diagnostic (`offered` False) is measured to understand the others, and never recommended.
    """

    about: str
    examples: Examples = "none"
    passages: Passages = "none"
    weights: Weights = "base"
    parts: int = 0
    offered: bool = True

    @property
    def looks(self) -> bool:
        """Whether it looks in an index for each question."""
        return self.passages in ("bm25", "dense", "fused")


ARMS: dict[str, Arm] = {
    "zero_shot": Arm("the question alone"),
    "few_shot_fixed": Arm("the same worked examples before every question", examples="fixed", parts=1),
    "few_shot_nearest": Arm("the worked examples most like the question", examples="nearest", parts=1),
    "optimised_prompt": Arm("the best instruction, examples and layout of a bounded search", examples="searched", parts=1),
    "retrieval_bm25": Arm("passages found by their words", passages="bm25", parts=2),
    "retrieval_dense": Arm("passages found by their meaning", passages="dense", parts=2),
    "retrieval_fused": Arm("passages found by words and meaning", passages="fused", parts=2),
    "whole_corpus": Arm("all documents in every prompt", passages="corpus", parts=1),
    "tuned": Arm("tuned on the rows, asked the question alone", weights="tuned", parts=3),
    "tuned_with_retrieval": Arm(
        "tuned on the rows, passages put before the question only afterwards", passages="bm25", weights="tuned", parts=5
    ),
    "tuned_on_context": Arm(
        "tuned with passages in its training prompts, also wrong ones", passages="bm25", weights="tuned on context", parts=4
    ),
    "gold_passage": Arm("the passage that holds the answer: what perfect retrieval would give", passages="gold", offered=False),
    "wrong_passages": Arm("passages that do not hold the answer: what bad retrieval costs", passages="wrong", offered=False),
    "majority": Arm("the commonest answer, always", weights="none", offered=False),
    "linear": Arm("a classical model without a language model", weights="none", offered=False),
    "random_weights": Arm(
        "the same network trained from random weights: what the base knew already", weights="random", offered=False
    ),
}
"""All arms, in the order of a report; `burnish ls arms` shows what is said of them."""


def refuse_unknown(names: Sequence[str]) -> None:
    """Raise ConfigError for a name that is no arm's."""
    unknown = [name for name in names if name not in ARMS]
    if unknown:
        raise ConfigError(
            f"decide.arms: no arm is called {unknown[0]!r}.{suggestion(unknown[0], ARMS)} Expected some of {', '.join(ARMS)}."
        )


def chosen(
    names: Sequence[str], *, documents: bool, embedder: bool, evidence: bool, corpus_fits: bool, head: bool = False
) -> tuple[dict[str, Arm], dict[str, str]]:
    """Return the arms to carry out, and those that cannot be with the reason. `head`: tuned weights answer by a head."""
    refuse_unknown(names)
    wanted = {name: ARMS[name] for name in ARMS if not names or name in names}
    left: dict[str, str] = {}
    for name, arm in wanted.items():
        if head and arm.passages != "none" and arm.weights != "base":
            left[name] = "a head reads the text alone, and no passages beside it"
        elif arm.passages != "none" and not documents:
            left[name] = "there are no documents: give decide.documents, or rows that come with their contexts"
        elif arm.passages in ("dense", "fused") and not embedder:
            left[name] = "no embedding model is named: give decide.embedder"
        elif arm.passages in ("gold", "wrong") and not evidence:
            left[name] = "it is not known which passage holds an answer: no answer stands in a document word for word"
        elif arm.passages == "corpus" and not corpus_fits:
            left[name] = "the documents do not fit the model's context"
    return {name: arm for name, arm in wanted.items() if name not in left}, left
