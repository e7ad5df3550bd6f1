"""Write docs/base_model.md and the model cards from what `measure.py` found and from the run directories of the two trainings.

In: the JSON of `measure.py`, run directories. Out: Markdown. Tables are made here, the prose of the cards stands in `cards.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cards
from training_facts import Training, curve_table, read_training

from burnish import atomic
from burnish.errors import DataError

Figure = Mapping[str, Any]
Part = Mapping[str, Any]
MINUS = " minus "
HEAD = """# The bundled base models

`tiny` is a base model trained from random weights, `tiny-chat` the same model tuned on dialogs and instructions; the
[card of tiny](../src/burnish/assets/tiny/README.md) and the [card of tiny-chat](../src/burnish/assets/tiny-chat/README.md) say what
went into them. This page holds their figures: every one with a 95 % interval in brackets, by a bootstrap over groups of rows that
resemble each other (modules of a textbook, passages), the number of rows `n`, and the command that made it. Everything is made again by

    burnish data get openstax --from FOLDER      (gsm8k, instruct_rasbt and us_code_sample likewise)
    python benchmarks/base/make.py runs/base
    burnish tune examples/tiny.toml              (which carries out tiny-begin.toml before)
    python benchmarks/base/bundle.py runs/tiny tiny
    burnish tune examples/tiny-chat.toml         (which begins with the bundled tiny)
    python benchmarks/base/bundle.py runs/tiny-chat tiny-chat
    python benchmarks/base/measure.py --output runs/base/measured.json
    python benchmarks/base/measure.py --output runs/base/measured.json --write

No row that is measured on here was trained on. {numbers}
"""
TEXT = """## Text

Bits per byte, lower is better: how many bits the model needs on average for a byte of text that it has not seen, given what stands
before it in the same window. A text is cut into windows of the stated length, so the first tokens of each window have little before
them. The held-out modules are {held_out:,} bytes of textbooks; the nursing books ({nursing:,} bytes) and the United States Code
({code:,} bytes) are subjects that the models were not trained on. The 3-gram model (Kneser-Ney smoothing, over the same tokens) was
trained on the same textbooks as the models; gzip and xz compress the held-out modules as one stream, and have no interval.
"""
READING = """## Reading

Exact match of greedy answers, up to {tokens} tokens, without regard to case, articles and punctuation. The generated questions are put
on held-out modules; a third of the kinds of questions and of their wordings, and the frames of some invented texts, were kept from
training. The hand-written questions (`src/burnish/assets/probe/reading.jsonl`) were written for this measurement and for nothing else.
"Without the passage" the same question is asked with nothing to read: what is answered then is known or guessed.
"""
REFUSALS = """### What a passage does not say

Share of answers that say that the passage does not tell: right where it does not, wrong where it does.
"""
LABELS = """## Labels by example

A few texts with labels, then a text to label, on held-out modules; the labels are random syllables, which mean nothing by themselves.
"Likeliest label" takes the label that the model finds most likely, "written label" what it writes. Chance is the share that guessing
among the labels gives.
"""
INSTRUCTIONS = """## Instructions

Overlap with the reference answer (ROUGE-L) and the share of answers that end by themselves within {tokens} tokens (stop rate), on the
rows that `examples/instruct_rasbt.toml` holds out and on 50 hand-written instructions. Differences are paired.
"""
CHOICE = """## Questions with choices

A hundred hand-written questions of general knowledge at school level, four answers each. The model is given the question alone; its
answer is the one of the four that it finds the likeliest, in all or per byte.
"""
CONTINUATIONS = """## Continuations

What `tiny` writes after the first 40 words of ten held-out modules (drawn by a seed, not chosen), always with the likeliest token, 60
tokens. The "https" before addresses is left out on this page.
"""
CURVE = """## The curve

Bits per byte on the dev modules while `tiny` was trained, in windows of {windows} tokens, by the tokens seen:
"""


CHAT_CURVE = """Exact match on dev rows (reading, labelling, copying, instructions and exercises alike) while `tiny-chat` was tuned from `tiny`. It still
rose when the learning rate had fallen, so more steps would give more; a model that reads safely needs many times as many tokens. An earlier
run of 1,051 steps (4.3 M tokens), of answers alone, read 0.233 [0.194, 0.272] of the generated questions and lost 0.74 bits per byte on
the held-out modules; this one, 2,724 steps with a tenth of the textbooks learned again beside the answers, stands in the tables above.
"""


# ----------------------------------------------------------------------------------------------------------------------- tables


def cell(figure: Figure | None, *, signed: bool = False) -> str:
    """Return a figure with its interval."""
    if figure is None or figure["mean"] is None:
        return "–"
    sign = "+" if signed else ""
    mean = f"{figure['mean']:{sign}.3f}"
    return mean if figure["low"] is None else f"{mean} [{figure['low']:{sign}.3f}, {figure['high']:{sign}.3f}]"


def grid(figures: Sequence[Figure], *, down: str = "set", across: str = "arm", heading: str = "") -> list[str]:
    """Return a Markdown table of figures that are no differences, with one of their keys down and the other across."""
    plain = [figure for figure in figures if MINUS not in figure["arm"]]
    rows, columns = (list(dict.fromkeys(figure[key] for figure in plain)) for key in (down, across))
    found = {(figure[down], figure[across]): figure for figure in plain}
    counted = down == "set"
    lines = [f"| {' | '.join([heading or down, *columns, *(['n', 'groups'] if counted else [])])} |"]
    lines.append("|" + "---|" * (1 + len(columns) + 2 * counted))
    for row in rows:
        cells = [cell(found.get((row, column))) for column in columns]
        first = next(found[row, column] for column in columns if (row, column) in found)
        lines.append(f"| {' | '.join([row, *cells, *([str(first['n']), str(first['groups'])] if counted else [])])} |")
    if not counted:
        sizes = {column: next(figure for figure in plain if figure[across] == column) for column in columns}
        counts = [f"{one['n']} ({one['groups']})" for one in sizes.values()]
        lines.append(f"| n (groups) | {' | '.join(counts)} |")
    return [*lines, ""]


def differences(figures: Sequence[Figure]) -> list[str]:
    """Return a list of the differences among figures."""
    lines = [f"- {figure['set']}: {figure['arm']} = {cell(figure, signed=True)}" for figure in figures if MINUS in figure["arm"]]
    return ["Differences:", "", *lines, ""] if lines else []


def quoted(rows: Sequence[Mapping[str, str]], names: Mapping[str, str]) -> list[str]:
    """Return examples as quotations, each field under its name."""
    lines = []
    for row in rows:
        for field, name in names.items():
            lines += [f"> **{name}** {as_prose(row[field]) or '(nothing)'}", ">"]
        lines[-1] = ""
    return lines


def as_prose(text: str) -> str:
    """Return what a model wrote as one line of Markdown that shows it as it is: no mark-up, no links."""
    plain = re.sub(r"\bhttps?://", "", " ".join(text.split())).replace("](", "] (")
    return re.sub(r"([\\`*_<>\[\]|])", r"\\\1", plain)


def command(name: str, part: Part) -> list[str]:
    """Return the command that measured a part."""
    others = "".join(
        f" --{flag} {part['given'][model]}"
        for flag, model in (("tiny", "tiny"), ("chat", "tiny-chat"))
        if part["given"][model] != model
    )
    return [f"    python benchmarks/base/measure.py --only {name}{others} --output runs/base/measured.json", ""]


# --------------------------------------------------------------------------------------------------------------------- sections


def text_section(part: Part) -> list[str]:
    """Return the section on bits per byte."""
    sizes = part["bytes"]
    prose = TEXT.format(held_out=sizes["held-out modules"], nursing=sizes["nursing books"], code=sizes["United States Code"])
    table = grid(part["figures"], down="arm", across="set", heading="bits per byte")
    return [prose, *command("text", part), *table, *differences(part["figures"])]


def reading_section(part: Part) -> list[str]:
    """Return the section on reading: by what is new, by kind, what is not said, and examples."""
    lines = [READING.format(tokens=part["max_tokens"]), *command("reading", part)]
    lines += [*grid(part["figures"], heading="questions"), *differences(part["figures"])]
    lines += ["By kind of the generated questions:", "", *grid(part["kinds"], heading="kind")]
    lines += [REFUSALS, *grid(part["refusals"], heading="questions")]
    lines += ["Some of the hand-written questions, evenly spread, with the answers of `tiny-chat`:", ""]
    return [*lines, *quoted(part["examples"], {"question": "Asked:", "expected": "Expected:", "given": "Answered:"})]


def labels_section(part: Part) -> list[str]:
    """Return the section on labels by example."""
    return [LABELS, *command("labels", part), *grid(part["figures"], heading="tasks")]


def instructions_section(part: Part) -> list[str]:
    """Return the section on instructions."""
    named = [{**figure, "set": f"{figure['set']}, {figure['score']}"} for figure in part["figures"]]
    lines = [INSTRUCTIONS.format(tokens=part["max_tokens"]), *command("instructions", part)]
    lines += [*grid(named, heading="rows, score"), *differences(named)]
    lines += ["Some of the hand-written instructions, evenly spread, with the answers of `tiny-chat`:", ""]
    return [*lines, *quoted(part["examples"], {"question": "Asked:", "expected": "Reference:", "given": "Answered:"})]


def choice_section(part: Part) -> list[str]:
    """Return the section on questions with choices."""
    return [CHOICE, *command("choice", part), *grid(part["figures"], down="arm", across="set", heading="accuracy")]


def continuations_section(part: Part) -> list[str]:
    """Return the section of continuations."""
    rows = [{**row, "continuation": row["continuation"].strip()} for row in part["rows"]]
    return [CONTINUATIONS, *command("continuations", part), *quoted(rows, {"opening": "Given:", "continuation": "Written:"})]


SECTIONS: dict[str, Callable[[Part], list[str]]] = {
    "text": text_section,
    "reading": reading_section,
    "labels": labels_section,
    "instructions": instructions_section,
    "choice": choice_section,
    "continuations": continuations_section,
}


# ------------------------------------------------------------------------------------------------------------------------ pages


def write_pages(measured: Mapping[str, Any], root: Path, *, runs: Mapping[str, Sequence[Path]]) -> list[Path]:
    """Write the page and both cards from the measured figures and the runs that made `tiny` and `tiny-chat`; return their paths.

    Raises DataError where figures were measured with a limit, or a run is not finished.
    """
    if limited := [name for name, part in measured["parts"].items() if part["limit"] is not None]:
        raise DataError(f"{', '.join(limited)}: measured with --limit, which is for a look only. Measure again without it.")
    stretches = {name: [read_training(folder) for folder in folders] for name, folders in runs.items()}
    books = cards.trained_books()
    pages = {root / "docs" / "base_model.md": page(measured, stretches["tiny"], stretches["tiny-chat"])}
    for name, trainings in stretches.items():
        parts = measured["parts"]
        sections = [figures_of(name, part, parts[part]) for part in SECTIONS if part in parts]
        text = cards.card(name, measured["models"][name], trainings, books=books, sections=sections)
        pages[root / "src" / "burnish" / "assets" / name / "README.md"] = text
    for path, text in pages.items():
        atomic.write_file(path, text)
        print(path)
    return list(pages)


def page(measured: Mapping[str, Any], trainings: Sequence[Training], chat: Sequence[Training] = ()) -> str:
    """Return docs/base_model.md."""
    numbers = {facts["numbers"] for facts in measured["models"].values()}
    lines = [HEAD.format(numbers=f"Numbers while measuring: {'; '.join(sorted(numbers))}.")]
    for name, section in SECTIONS.items():
        if name in measured["parts"]:
            lines += section(measured["parts"][name])
    windows = ", then ".join(f"{training.window:,}" for training in trainings)
    lines += [CURVE.format(windows=windows), "    burnish tune examples/tiny.toml", "", *curve_table(trainings), ""]
    if chat:
        lines += [CHAT_CURVE, "    burnish tune examples/tiny-chat.toml", "", *curve_table(chat)]
    return "\n".join(lines).rstrip() + "\n"


def figures_of(name: str, part: str, found: Part) -> list[str]:
    """Return the table of one part for the card of one model: its own arms, and those that belong to no model."""
    other = "tiny-chat" if name == "tiny" else "tiny"
    mine = [figure for figure in found["figures"] if not belongs(figure["arm"], other)]
    mine += [
        {**figure, "set": f"says that the passage is silent: {figure['set']}"}
        for figure in found.get("refusals", ())
        if figure["arm"] == name
    ]
    named = [{**figure, "set": f"{figure['set']}, {figure['score']}"} if "score" in figure else figure for figure in mine]
    down, across = ("arm", "set") if part in ("text", "choice") else ("set", "arm")
    return grid(named, down=down, across=across, heading=part) if named else []


def belongs(arm: str, model: str) -> bool:
    """Return whether an arm of a table is that of a model: its name alone, or before a comma or "without"."""
    return arm == model or arm.startswith((f"{model},", f"{model} without"))
