"""Use case: code into a team's style. Bundled rows: small Python functions for two teams with different rules."""

from __future__ import annotations

from burnish.usecases.definition import USUAL, Guide, UseCase

CLEAN = 'python_clean(select="E,F,N,ANN,D103,D200,D400,D401,D403")'
"""Ruff's rules that both teams have: errors, names, type hints, docstrings of functions."""

EDIT = """\
Each line of `style.jsonl` is a function before and after, with the team in the system prompt:

    {"system": "Team Plover", "before": "def sumPrices(prices): return sum(prices)", "after": "def sum_prices(prices: list[float]) -> float: …"}

1. Take the pairs from your own history: commits that changed nothing but style, and review comments that were followed.
2. Two teams in one model need a word in the prompt that tells them apart. One team needs none.
3. Keep functions that were clean already, with themselves as the answer, or the model changes everything it sees.
4. A linter's automatic repair costs nothing: let it do what it can, and tune for the rest (names, types, docstrings that say something).
"""

GUIDE = Guide(
    when="""\
Choose it where a style goes beyond what a formatter can do: names, type hints, docstrings that say what the code does, what happens with empty
input. Where a linter's `--fix` or a codemod does it, use that: it is exact and free.
""",
    rows="""\
Code before and after, a function or a file each, and the team where there are several. A few hundred pairs teach a style; each rule should be
seen thirty times. The bundled rows are made up: 432 functions, most of them for one of the teams, those with a rule of its own for both.
""",
    method="""\
`sft` on the code after. All weights move (`full`), which suits a model this small; take `lora` for one with billions. Afterwards `grpo` with
`python_clean` as its reward goes on from there where rows run out: a linter is a reward that needs no answers. Not before: a model that never
writes clean code is never rewarded.
""",
    measure="""\
`exact_match(strict=true)`: character by character what the team would have written. `python_clean`: nothing for ruff to find, by the rules both
teams share; it cannot tell whether the function still does the same, so it never stands alone. The slices *acronyms* and *already clean* by
themselves.
""",
    wrong="""\
Clean code that does something else: run the tests before anything is merged. A name that is cut wrongly where capitals stand together
(`parseHTMLPage`). The other team's rule, where the prompt does not say which team is meant.
""",
)


def code_style() -> UseCase:
    """Return the run that learns to write functions as one of two teams wants them."""
    return UseCase(
        name="code-style",
        summary="Bring Python functions into a team's style: names, type hints, docstrings, empty input (two teams).",
        samples=("style.jsonl",),
        run={
            "model": "tiny-chat",
            "seed": 0,
            "score": ["exact_match(strict=true)", CLEAN, "chrf"],
            "data": {
                "source": "style.jsonl",
                "format": "prompt_completion",
                "dev_share": 0.1,
                "test_share": 0.25,
                "columns": {"prompt": "before", "completion": "after", "system": "system", "group": "group", "slice": "kind"},
            },
            "technique": {"name": "full"},
            "train": {"epochs": 5, "batch": 8, "learning_rate": 1e-3},
            "evaluate": {"max_tokens": 120},
        },
        notes={
            **USUAL,
            "score": "as the team would have written it; nothing for ruff to find; nearly the same",
            "data.columns.system": "which team",
        },
        unset=(("evaluate.patience", 3, "stop when three evaluations in a row are no better"),),
        prompt="def countLogLines(logLines):\n    return (len(logLines))",
        edit=EDIT,
        guide=GUIDE,
    )
